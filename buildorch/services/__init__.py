"""The services file: `parse(text, source) -> ServicesFile`, every problem of it reported at once.

In: the text of a services.yaml. Out: frozen values with the defaults still apart. Touches nothing.
"""

from buildorch.services.model import Attestations, Policy, Secret, Service, ServicesFile, Size
from buildorch.services.parsing import (
    Override,
    Parsed,
    Places,
    decode,
    dependencies,
    examine,
    image_name,
    parse,
)
from buildorch.services.schema import json_schema

__all__ = [
    "Attestations",
    "Override",
    "Parsed",
    "Places",
    "Policy",
    "Secret",
    "Service",
    "ServicesFile",
    "Size",
    "decode",
    "dependencies",
    "examine",
    "image_name",
    "json_schema",
    "parse",
]
