"""The services file's JSON Schema, for editors and other tools.

In: the models. Out: a JSON Schema (draft 2020-12) as plain data. Touches nothing.
"""

from __future__ import annotations

import ast
import inspect
from typing import Any

from buildorch.services import model
from buildorch.services.model import ServicesFile

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema that `buildorch schema` prints; docs/schemas/services.schema.json is this text."""
    schema = ServicesFile.model_json_schema()
    # In YAML an entry with nothing after its colon is null: `backend:` alone is a service with every default.
    services = schema["properties"]["services"]
    services["patternProperties"] = {
        pattern: {"anyOf": [value, {"type": "null"}]} for pattern, value in services["patternProperties"].items()
    }
    services["additionalProperties"] = False
    # A value is taken as it is written, so `VERSION: 1.10` is a text to buildorch and a number to an editor.
    keys = schema["$defs"]["Service"]["properties"]
    for name in ("args", "labels", "annotations"):
        keys[name]["additionalProperties"] = {"type": ["string", "number", "boolean", "null"]}
    schema["patternProperties"] = {"^x-": {}}
    for name, documented in _docstrings().items():
        described = schema if name == "ServicesFile" else schema["$defs"].get(name, {})
        for field, text in documented.items():
            if field in described.get("properties", {}):
                described["properties"][field]["description"] = text
    return {"$schema": DIALECT, **schema, "title": "buildorch services file"}


def _docstrings() -> dict[str, dict[str, str]]:
    """Class -> field -> the text that stands below it in the model's source.

    pydantic can do this itself (use_attribute_docstrings), but then reads the source at every start.
    """
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(model)).body:
        if isinstance(node, ast.ClassDef):
            fields = found.setdefault(node.name, {})
            for field, below in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
                    fields[field.target.id] = inspect.cleandoc(ast.literal_eval(below.value))
    return found
