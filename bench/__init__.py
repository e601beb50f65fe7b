"""Speed and memory, measured against `docker buildx bake` on the same engine in the same run."""
