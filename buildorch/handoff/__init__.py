"""Digests for a deploy: records to pinned images, and these to what the tools of a deploy read.

In: records, Kubernetes YAML. Out: text. Touches nothing.

Names are taken from the modules: `pinned` (what is handed over, and what is not), `formats` (for each tool),
`spellings` (how people write an image), `kubernetes` and `yaml_text` (images in YAML).
"""
