"""The services file's JSON Schema, for editors and other tools.

In: the models. Out: a JSON Schema (draft 2020-12) as plain data. Touches nothing.
"""

from __future__ import annotations

from typing import Any

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
    return {"$schema": DIALECT, **schema, "title": "buildorch services file"}
