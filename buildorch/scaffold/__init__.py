"""From a project's own files to what builds it: a Dockerfile, a .dockerignore and an entry in services.yaml.

In: folders. Out: `Found` projects, and the texts of files. Touches: the folders it looks into; `writing` writes.
"""
