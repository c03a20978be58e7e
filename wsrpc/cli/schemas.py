"""JSON Schemas as short text that people read: `list[Token]`, `integer | null`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .text import to_json

__all__ = ["fields_of", "type_text"]

MAX_LITERALS = 6
ANY = "any"


def type_text(schema: Any) -> str:
    """What a value must be, in a few words."""
    if not isinstance(schema, Mapping):
        return "never" if schema is False else ANY
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "const" in schema:
        return to_json(schema["const"])
    if "enum" in schema:
        return _literals(schema)
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), list):
            return " | ".join(dict.fromkeys(type_text(one) for one in schema[word])) or ANY
    if isinstance(schema.get("allOf"), list) and len(schema["allOf"]) == 1:
        return type_text(schema["allOf"][0])
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(map(str, kind))
    if kind == "array":
        return _array(schema)
    if kind == "object":
        return _object(schema)
    if kind == "string":
        form = schema.get("format") or schema.get("contentEncoding")
        return f"string({form})" if form else "string"
    return str(kind) if kind else ANY


def fields_of(schema: Any) -> Iterator[tuple[str, list[tuple[str, str, bool]]]]:
    """The models in a schema: each one's name, and its fields as (name, type, required)."""
    if not isinstance(schema, Mapping):
        return
    definitions = schema.get("$defs")
    models = dict(definitions) if isinstance(definitions, Mapping) else {}
    if _is_model(schema):
        models[type_text(schema)] = schema
    for name, model in models.items():
        if isinstance(model, Mapping) and isinstance(model.get("properties"), Mapping):
            required = model.get("required") or ()
            yield (
                str(name),
                [
                    (str(field), type_text(one), field in required)
                    for field, one in model["properties"].items()
                ],
            )


def _is_model(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "object" and isinstance(schema.get("properties"), Mapping)


def _literals(schema: Mapping[str, Any]) -> str:
    values = [to_json(value) for value in schema["enum"]]
    if len(values) > MAX_LITERALS:
        return str(schema.get("title") or f"one of {len(values)}")
    return " | ".join(values)


def _array(schema: Mapping[str, Any]) -> str:
    if isinstance(schema.get("prefixItems"), list):
        return f"tuple[{', '.join(type_text(one) for one in schema['prefixItems'])}]"
    inner = type_text(schema.get("items", True))
    return f"{'set' if schema.get('uniqueItems') else 'list'}[{inner}]"


def _object(schema: Mapping[str, Any]) -> str:
    if _is_model(schema):
        return str(schema.get("title") or "object")
    values = schema.get("additionalProperties", True)
    return "object" if values in (True, False) else f"map[{type_text(values)}]"
