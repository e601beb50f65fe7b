"""The services file: `parse(text, source) -> ServicesFile`, every problem of it reported at once.

In: the text of a services.yaml. Out: frozen values with the defaults still apart. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.lazy import names_of

if TYPE_CHECKING:
    from buildorch.services.model import Attestations, Policy, Secret, Service, ServicesFile, Size, Timeouts
    from buildorch.services.naming import STAGING_TAG, dependencies, image_name
    from buildorch.services.overrides import Override
    from buildorch.services.parsing import Parsed, Places, examine, parse
    from buildorch.services.schema import json_schema
    from buildorch.services.yaml_nodes import decode

__all__ = [
    "STAGING_TAG",
    "Attestations",
    "Override",
    "Parsed",
    "Places",
    "Policy",
    "Secret",
    "Service",
    "ServicesFile",
    "Size",
    "Timeouts",
    "decode",
    "dependencies",
    "examine",
    "image_name",
    "json_schema",
    "parse",
]

_HOMES = {
    "STAGING_TAG": "naming",
    "Attestations": "model",
    "Override": "overrides",
    "Parsed": "parsing",
    "Places": "parsing",
    "Policy": "model",
    "Secret": "model",
    "Service": "model",
    "ServicesFile": "model",
    "Size": "model",
    "Timeouts": "model",
    "decode": "yaml_nodes",
    "dependencies": "naming",
    "examine": "parsing",
    "image_name": "naming",
    "json_schema": "schema",
    "parse": "parsing",
}

if not TYPE_CHECKING:  # a type checker would take every name for one that is there
    __getattr__ = names_of(__name__, _HOMES)
