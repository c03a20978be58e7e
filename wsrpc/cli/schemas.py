"""JSON Schemas as short text that people read: `list[Token]`, `integer | null`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .text import to_json

__all__ = ["ModelField", "bounds_of", "fields_of", "type_text", "without_parameters"]

MAX_LITERALS = 6
ANY = "any"


def type_text(schema: Any) -> str:
    """The type of a schema, in a few words."""
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


@dataclass(frozen=True, slots=True)
class ModelField:
    """A field of a model: its type in a few words, and its default, bounds and text."""

    name: str
    type: str
    required: bool
    note: str


_BOUNDS = {
    "minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}",
    "multipleOf": "a multiple of {}", "minLength": "at least {} characters",
    "maxLength": "at most {} characters", "pattern": "matches {}", "minItems": "at least {} items",
    "maxItems": "at most {} items", "minProperties": "at least {} keys",
    "maxProperties": "at most {} keys",
}  # fmt: skip

_PARAMETERS = re.compile(r"^(Args|Arguments|Parameters):[ \t]*\n(?:[ \t]+.*\n?|\n)*", re.MULTILINE)


def without_parameters(details: str) -> str:
    """Documentation without its section about parameters, which are shown separately."""
    return _PARAMETERS.sub("", details).strip()


def bounds_of(schema: Any) -> str:
    """The bounds in a schema, in words."""
    if not isinstance(schema, Mapping):
        return ""
    said = [
        words.format(schema[word] if word != "pattern" else to_json(schema[word]))
        for word, words in _BOUNDS.items()
        if isinstance(schema.get(word), (int, float, str))
    ]
    for word in ("anyOf", "oneOf"):
        choices = schema.get(word)
        said += [bounds_of(one) for one in choices] if isinstance(choices, list) else []
    if schema.get("$defs") and isinstance(schema.get("enum"), list):
        said.append(" | ".join(map(to_json, schema["enum"])))
    return ", ".join(filter(None, said))


def _note(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return ""
    said = [f"= {to_json(schema['default'])}"] if "default" in schema else []
    said.append(bounds_of(schema))
    said.append("deprecated" if schema.get("deprecated") is True else "")
    said.append(" ".join(str(schema.get("description", "")).split()))
    return "; ".join(filter(None, said))


def fields_of(schema: Any) -> Iterator[tuple[str, list[ModelField]]]:
    """The models and enums in a schema: each one's name, and its fields; an enum has its values."""
    if not isinstance(schema, Mapping):
        return
    definitions = schema.get("$defs")
    models = dict(definitions) if isinstance(definitions, Mapping) else {}
    if _is_model(schema):
        models[type_text(schema)] = schema
    for name, model in models.items():
        if not isinstance(model, Mapping):
            continue
        if isinstance(model.get("properties"), Mapping):
            required = model.get("required") or ()
            yield (
                str(name),
                [
                    ModelField(str(field), type_text(one), field in required, _note(one))
                    for field, one in model["properties"].items()
                ],
            )
        elif isinstance(model.get("enum"), list):
            values = " | ".join(map(to_json, model["enum"]))
            yield str(name), [ModelField("one of", values, True, "")]


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
