"""pydantic's core schema of a type: reading it, and editing it to keep the wire's rules.

The settings of a nested model win over those of the whole in pydantic, so that no setting from
outside can make all bytes base64; a changed copy of the schema can (protocol.md, VALUE).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

Schema = dict[str, Any]

CONFIG: Final[dict[str, Any]] = {
    "ser_json_bytes": "base64",
    "val_json_bytes": "base64",
    "allow_inf_nan": False,
    "ser_json_inf_nan": "constants",
    "serialize_by_alias": True,
    "validate_by_alias": True,
    "validate_by_name": True,
}

# Values that are no schemas, although some are dicts and lists.
OPAQUE = frozenset(
    {
        "cls", "config", "custom_error_context", "default", "default_factory", "discriminator",
        "expected", "function", "members", "metadata", "ref", "schema_ref", "validation_alias",
    }
)  # fmt: skip

# Dicts of schemas by names of the user's choosing, which may be the same as words of the schema.
_BY_NAME = frozenset({"choices", "fields"})

# The branches that JSON does not take say nothing about the values that travel.
_NOT_FROM_JSON = frozenset({"python_schema", "strict_schema", "serialization"})

CONFIGURED = frozenset({"dataclass", "model", "typed-dict"})
FIELDS = frozenset({"dataclass-field", "model-field", "typed-dict-field"})
FIELD_SETS = frozenset({"dataclass-args", "model-fields", "typed-dict"})
SEQUENCES = frozenset({"frozenset", "list", "set", "tuple"})

# Schemas whose values are serialised by their run-time type.
FREE = frozenset({"any", "function-plain", "is-instance"})


def is_schema(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("type"), str)


def rewrite(node: Any, edit: Callable[[Schema], Schema]) -> Any:
    """A copy of a core schema with `edit` applied to every schema in it, the inner ones first.

    Classes and functions are shared, not copied.
    """
    if isinstance(node, (list, tuple)):
        return type(node)(rewrite(one, edit) for one in node)
    if not isinstance(node, dict):
        return node
    copy = {
        key: _rewrite_part(key, value, edit)
        for key, value in node.items()
        if key != "serialization"
    }
    if "serialization" in node:
        copy["serialization"] = {
            key: rewrite(value, edit) if key in ("schema", "return_schema") else value
            for key, value in node["serialization"].items()
        }
    return edit(copy) if is_schema(copy) else copy


def _rewrite_part(key: str, value: Any, edit: Callable[[Schema], Schema]) -> Any:
    if key in OPAQUE:
        return value
    if key in _BY_NAME and isinstance(value, dict):
        return {name: rewrite(one, edit) for name, one in value.items()}
    return rewrite(value, edit)


def simplified(schema: Schema) -> Schema:
    """The schema with one node in place of JsonValue, which calls Python for each value."""

    def edit(schema: Schema) -> Schema:
        if schema["type"] == "json-or-python" and str(schema.get("ref", "")).startswith(
            _JSON_VALUE
        ):
            return {"type": "any", "ref": schema["ref"], "metadata": {_JSON_ONLY: True}}
        keys = schema.get("keys_schema")
        if keys == {"type": "any"} or (keys is None and schema["type"] == "dict"):
            # A key is a string on the wire: other keys are refused here rather than converted.
            schema["keys_schema"] = {"type": "str", "metadata": {_ANY_KEY: True}}
        if schema["type"] in ("model", "typed-dict") and takes_extras(schema):
            fields_of(schema).setdefault("extras_schema", {"type": "any"})
        return schema

    simple: Schema = rewrite(schema, edit)
    if simple["type"] == "definitions" and simple["schema"]["type"] == "definition-ref":
        (target,) = (
            one for one in simple["definitions"] if one["ref"] == simple["schema"]["schema_ref"]
        )
        if target["type"] == "any":
            return {key: value for key, value in target.items() if key != "ref"}
    return simple


def fields_of(schema: Schema) -> Schema:
    """The schema, within that of a record, that has its fields."""
    while schema["type"] not in FIELD_SETS and is_schema(schema.get("schema")):
        schema = schema["schema"]
    return schema


def is_json_only(schema: Schema) -> bool:
    """Whether a schema is the node that `simplified` makes of JsonValue."""
    return _JSON_ONLY in (schema.get("metadata") or {})


def is_any_key(schema: Schema) -> bool:
    """Whether a schema is the node that `simplified` makes of keys of any type."""
    return _ANY_KEY in (schema.get("metadata") or {})


def takes_extras(schema: Schema) -> bool:
    config = schema.get("config") or {}
    return "allow" in (schema.get("extra_behavior"), config.get("extra_fields_behavior"))


_JSON_VALUE = "pydantic.types.JsonValue:"
_JSON_ONLY = "wsrpc_json_only"
_ANY_KEY = "wsrpc_any_key"


class Place:
    """A schema within a type: its path, and the settings of the model that holds it."""

    __slots__ = ("config", "path", "schema")

    def __init__(self, schema: Schema, path: str, config: dict[str, Any]) -> None:
        self.schema = schema
        self.path = path
        self.config = config

    @property
    def kind(self) -> str:
        kind: str = self.schema["type"]
        return kind


def places_of(node: Any, path: str = "", config: dict[str, Any] | None = None) -> Iterator[Place]:
    """Every schema that a value from the wire may meet."""
    if isinstance(node, (list, tuple)):
        for one in node:
            yield from places_of(one, path, config)
    elif isinstance(node, dict):
        if is_schema(node):
            config = node.get("config") or {} if node["type"] in CONFIGURED else config or {}
            if node["type"] in CONFIGURED:
                path = node["cls"].__name__ if "cls" in node else path
            elif node["type"] == "dataclass-field":
                path = f"{path}.{node['name']}"
            yield Place(node, path, config)
        for key, value in node.items():
            if key in OPAQUE or key in _NOT_FROM_JSON:
                continue
            if key in _BY_NAME and isinstance(value, dict):
                for name, inner in value.items():
                    yield from places_of(
                        inner, f"{path}.{name}" if key == "fields" else path, config
                    )
            else:
                yield from places_of(value[:1] if key == "steps" else value, path, config)


def at(where: str, place: Place) -> str:
    return f"{where}: {place.path}" if place.path else where
