"""The only package that starts docker: arguments, progress, failures, the solver, and the client itself.

In: a `Solve`. Out: events and an outcome. Touches: processes, a temporary folder of its own.
"""
