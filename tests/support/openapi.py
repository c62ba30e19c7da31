"""Reading of OpenAPI documents."""

from typing import Any


def body_schema(document: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of the JSON body of `operation`, a component of `document`; empty if it has no body."""
    content = operation.get("requestBody", {}).get("content", {})
    if not content:
        return {}
    found: dict[str, Any] = document["components"]["schemas"][component(content["application/json"]["schema"])]
    return found


def component(schema: dict[str, Any]) -> str:
    """Return the name of the component that `schema` refers to."""
    prefix, _, name = str(schema["$ref"]).rpartition("/")
    if prefix != "#/components/schemas":
        raise LookupError(f"no component: {schema}")
    return name
