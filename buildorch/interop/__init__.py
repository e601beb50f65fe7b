"""Bake and Compose files to and from services, as plain values.

In: plans, bake targets, the text of Compose files. Out: bake targets, services, and what either side cannot say.
Touches nothing: `buildorch.buildx.bake` asks bake, `buildorch.cli.interop` reads and writes the files.
"""
