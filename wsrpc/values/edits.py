"""The edits of a core schema that keep the wire's rules for arriving and leaving values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..protocol.value_space import MAX_INT, MIN_INT
from .checks import check_any, check_json_value, stand_in, whole_minutes
from .pydantic_schema import (
    CONFIG,
    CONFIGURED,
    FIELDS,
    FREE,
    SEQUENCES,
    Schema,
    fields_of,
    is_any_key,
    is_json_only,
    rewrite,
)


def for_validation(
    *, checked: bool, strict_bytes: bool, fail_fast: bool
) -> Callable[[Schema], Schema]:
    """The edit for validators.

    Args:
        checked: Whether to check values of type Any.
        strict_bytes: Whether to refuse strings for bytes: in JSON a string is base64, in
            MessagePack just a string.
        fail_fast: Whether to stop at the first wrong element of a list.
    """

    def edit(schema: Schema) -> Schema:
        schema.pop("serialization", None)
        kind = schema["type"]
        if kind in CONFIGURED:
            schema["config"] = {**(schema.get("config") or {}), **CONFIG}
        elif kind in FIELDS:
            _accept_own_output(schema)
        elif kind == "int":
            _bound(schema)
        elif kind == "float":
            schema["allow_inf_nan"] = False
        elif kind == "bytes" and strict_bytes:
            schema["strict"] = True
        elif kind == "any" and checked:
            return _followed_by(schema, check_json_value if is_json_only(schema) else check_any)
        elif kind in SEQUENCES and fail_fast:
            schema["fail_fast"] = True
        if "keys_schema" in schema:
            # A key is a string in both codecs.
            schema["keys_schema"] = rewrite(schema["keys_schema"], _loose)
        return schema

    return edit


def _loose(key: Schema) -> Schema:
    if "strict" in key:
        key["strict"] = False
    return key


def _accept_own_output(field: Schema) -> None:
    """Let a field be read under the serialisation alias under which it is written."""
    written = field.get("serialization_alias")
    read = field.get("validation_alias")
    if written is None or written == read:
        return
    if read is None:
        field["validation_alias"] = written
    elif isinstance(read, str):
        field["validation_alias"] = [[read], [written]]
    elif read and isinstance(read[0], list):
        field["validation_alias"] = [*read, [written]]
    else:
        field["validation_alias"] = [read, [written]]


def _bound(integer: Schema) -> None:
    if "gt" not in integer:
        integer["ge"] = max(integer.get("ge", MIN_INT), MIN_INT)
    if "lt" not in integer:
        integer["le"] = min(integer.get("le", MAX_INT), MAX_INT)


def _followed_by(schema: Schema, function: Callable[[Any], Any]) -> Schema:
    ref = {"ref": schema.pop("ref")} if "ref" in schema else {}
    return {
        "type": "function-after",
        "schema": schema,
        "function": {"type": "no-info", "function": function},
        **ref,
    }


def for_serialization(
    free: Callable[[Any], Any],
    *,
    native: bool,
    exact_keys: bool,
) -> Callable[[Schema], Schema]:
    """The edit for serialisers.

    Args:
        free: Turns a value of type Any into a plain value.
        native: Whether to leave stand-ins for bytes instead of base64.
        exact_keys: Whether to refuse keys with lone surrogates, which pydantic would replace.
    """
    plain = _serializer(free, {"type": "any"})

    def edit(schema: Schema) -> Schema:
        kind = schema["type"]
        own = schema.get("serialization")
        if kind in CONFIGURED:
            _drop_computed_if_unreadable(schema)
            schema["config"] = {**(schema.get("config") or {}), **CONFIG}
        elif "keys_schema" in schema:
            _edit_keys(schema["keys_schema"], exact_keys)
        leaf = None
        if kind in FREE:
            leaf = plain
        elif kind == "bytes" and native:
            leaf = _serializer(stand_in, {"type": "str"})
        elif kind in ("datetime", "time"):
            leaf = _serializer(whole_minutes, {"type": kind})
        if own is None:
            if leaf is not None:
                schema["serialization"] = leaf
        elif own["type"] == "any":
            schema["serialization"] = plain
        elif own["type"] in ("function-plain", "function-wrap"):
            own.setdefault("return_schema", {"type": "any", "serialization": plain})
            if own["type"] == "function-wrap" and leaf is not None:
                own.setdefault("schema", {"type": kind, "serialization": leaf})
        return schema

    return edit


def _edit_keys(keys: Schema, exact: bool) -> None:
    if keys["type"] == "bytes":
        # A key is a string in both codecs.
        keys.pop("serialization", None)
    elif keys["type"] == "str" and (exact or is_any_key(keys)):
        keys["serialization"] = _serializer(_encodable, {"type": "str"})


def _encodable(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"the keys of a dict are strings on the wire, not {type(key).__name__}")
    key.encode()
    return key


def _serializer(function: Callable[[Any], Any], result: Schema) -> Schema:
    return {"type": "function-plain", "function": function, "return_schema": result}


def _drop_computed_if_unreadable(schema: Schema) -> None:
    """Leave out computed fields of a class that forbids extra fields, and so would refuse them."""
    if (schema.get("config") or {}).get("extra_fields_behavior") != "forbid":
        return
    fields = fields_of(schema)
    if "computed_fields" in fields:
        fields["computed_fields"] = []
