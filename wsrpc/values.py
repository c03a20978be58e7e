"""One annotated type, ready to travel: validated and serialised for both codecs.

pydantic does the work on its own core schema of the type, edited so that the rules of protocol.md
(VALUE) hold whatever the settings of a nested model say: bytes as base64, no NaN, integers that fit
64 bits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, Literal
from weakref import WeakValueDictionary

import msgspec
from msgspec import Raw
from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter
from pydantic import ValidationError as PydanticError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import (
    PydanticSerializationError,
    SchemaError,
    SchemaSerializer,
    SchemaValidator,
    to_jsonable_python,
)

from .errors import RegistrationError, WsrpcError
from .protocol.codec import Codec

__all__ = ["Adapter", "InvalidValue", "Unencodable"]

MAX_DEPTH = 100
MIN_INT = -(2**63)
MAX_INT = 2**64 - 1

# `warnings="error"` as an argument costs pydantic-core 1.0 µs a call, three times what it takes to
# serialise a small model. A registry that is no dict makes CPython raise whenever a warning is
# issued from this module, so that the plain call fails in the same cases at no cost; `_refusal`
# then asks again for the proper message.
__warningregistry__ = ()

Purpose = Literal["json", "msgpack", "departure"]


class InvalidValue(WsrpcError):
    """A value that arrived does not fit its declared type.

    Attributes:
        errors: What is wrong, each with `loc`, `msg` and `type`; at most 8, never the input.
        total: How many there were.
    """

    def __init__(self, errors: list[dict[str, Any]], total: int | None = None) -> None:
        self.errors = errors
        self.total = len(errors) if total is None else total
        super().__init__(_summary(errors, self.total))

    def data(self) -> dict[str, Any]:
        """The error as it travels: at most 4 KiB when encoded."""
        errors = list(self.errors[:MAX_ERRORS])
        while len(msgspec.json.encode(errors)) > MAX_ERROR_BYTES - 64:
            errors.pop()
        return {"errors": errors, "total": self.total}


class Unencodable(WsrpcError):
    """A value must not leave: it does not fit its declared type, or nothing can encode it."""


MAX_ERRORS = 8
MAX_ERROR_BYTES = 4096
MAX_ERRORS_RENDERED = 1000


def _summary(errors: list[dict[str, Any]], total: int) -> str:
    parts = [
        f"{'.'.join(map(str, error['loc']))}: {error['msg']}" if error["loc"] else error["msg"]
        for error in errors
    ]
    if total > len(errors):
        parts.append(f"and {total - len(errors)} more")
    return "; ".join(parts)


def _invalid(message: str, kind: str) -> InvalidValue:
    return InvalidValue([{"loc": [], "msg": message, "type": kind}])


def _from_pydantic(error: PydanticError) -> InvalidValue:
    total = error.error_count()
    if total > MAX_ERRORS_RENDERED:
        # Rendering costs a microsecond an error and cannot be cut short: a hostile megabyte would
        # hold the event loop for a second.
        return InvalidValue([{"loc": [], "msg": f"{total} errors", "type": "too_many_errors"}], total)
    rendered = error.errors(include_url=False, include_context=False, include_input=False)
    return InvalidValue([_short(dict(one)) for one in rendered[:MAX_ERRORS]], total)


def _short(error: dict[str, Any]) -> dict[str, Any]:
    loc = [part if isinstance(part, int) else str(part)[:64] for part in error["loc"][:16]]
    return {"loc": loc, "msg": str(error["msg"])[:256], "type": error["type"]}


# --- The schema, edited ---------------------------------------------------------------------------

CONFIG: Final[dict[str, Any]] = {
    "ser_json_bytes": "base64",
    "val_json_bytes": "base64",
    "allow_inf_nan": False,
    "ser_json_inf_nan": "constants",
}

# Values that are no schemas, although some are dicts and lists.
_OPAQUE = frozenset(
    {
        "metadata", "default", "members", "expected", "cls", "config", "custom_error_context",
        "discriminator", "function", "ref", "schema_ref", "default_factory", "missing",
    }
)  # fmt: skip

# Types for which pydantic's python mode, given what MessagePack decodes to, accepts exactly what
# its JSON mode accepts, with the same result.
_ALIKE = frozenset(
    {
        "any", "none", "bool", "int", "float", "str", "bytes", "date", "time", "datetime",
        "timedelta", "decimal", "uuid", "literal", "enum", "list", "tuple", "set", "frozenset",
        "dict", "nullable", "default", "definitions", "definition-ref", "model", "model-fields",
        "model-field", "typed-dict", "typed-dict-field", "dataclass", "dataclass-args",
        "dataclass-field", "tagged-union", "url", "multi-host-url", "computed-field",
        "function-after", "function-before",
    }
)  # fmt: skip

_NOT_TRAVELLING = {
    "callable": "a function cannot travel",
    "generator": "an iterable cannot travel: write list[…], or AsyncIterator[…] to stream it",
    "is-subclass": "a class cannot travel",
}

Schema = dict[str, Any]


def _is_schema(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("type"), str)


def _children(schema: Schema) -> Iterator[tuple[str, Any]]:
    for key, value in schema.items():
        if key not in _OPAQUE and isinstance(value, (dict, list, tuple)):
            yield key, value


def _rewrite(node: Any, edit: Callable[[Schema], Schema]) -> Any:
    """A copy of a core schema with `edit` applied to each schema in it, the inner ones first."""
    if isinstance(node, dict):
        copied = {
            key: _rewrite(value, edit)
            if key not in _OPAQUE and isinstance(value, (dict, list, tuple))
            else value
            for key, value in node.items()
        }
        return edit(copied) if _is_schema(copied) else copied
    if isinstance(node, (list, tuple)):
        return type(node)(_rewrite(value, edit) for value in node)
    return node


def _walk(node: Any, path: str, owner: Schema | None = None) -> Iterator[tuple[Schema, str, Schema | None]]:
    """Every schema in `node` with the path of field names to it and the model it belongs to."""
    if isinstance(node, dict):
        if _is_schema(node):
            yield node, path, owner
            if "config" in node or node["type"] in _CONFIGURED:
                owner = node
                path = _name_of(node) or path
        is_fields = not _is_schema(node)
        for key, value in _children(node):
            if key == "serialization":
                continue
            name = f"{path}.{key}" if is_fields else path
            yield from _walk(value, name, owner)
    elif isinstance(node, (list, tuple)):
        for value in node:
            named = isinstance(value, dict) and value.get("type") == "dataclass-field"
            yield from _walk(value, f"{path}.{value['name']}" if named else path, owner)


_CONFIGURED = frozenset({"model", "dataclass", "typed-dict"})


def _name_of(schema: Schema) -> str:
    cls = schema.get("cls")
    return cls.__name__ if isinstance(cls, type) else ""


class _Facts:
    """What the edited schemas and the fast paths need to know about a type."""

    __slots__ = ("alike", "any", "bytes", "deep", "floats", "schema")

    def __init__(self, schema: Schema, where: str) -> None:
        self.schema = schema
        found = list(_walk(schema, ""))
        kinds = {node["type"] for node, _, _ in found}
        custom = any("serialization" in node for node, _, _ in found)
        self.any = "any" in kinds or custom
        self.bytes = "bytes" in kinds
        self.floats = self.any or bool(kinds & {"float", "decimal", "complex"})
        strict = [path for node, path, owner in found if _is_strict(node, owner)]
        self.alike = not strict and kinds <= _ALIKE
        self.deep = self.any or _is_recursive(schema)
        for node, path, _ in found:
            if node["type"] in _NOT_TRAVELLING:
                raise RegistrationError(f"{_at(where, path)}: {_NOT_TRAVELLING[node['type']]}")
        self._check_bytes(found, where)
        if strict and self.any:
            raise RegistrationError(
                f"{_at(where, strict[0])} is strict beside a field of type Any: MessagePack and "
                "JSON would accept different values; take strict off or give the field a type"
            )
        _refuse_recursive_unions(schema, where)

    @staticmethod
    def _check_bytes(found: list[tuple[Schema, str, Schema | None]], where: str) -> None:
        for node, path, owner in found:
            if node["type"] != "bytes" or owner is None:
                continue
            for key in ("ser_json_bytes", "val_json_bytes"):
                chosen = (owner.get("config") or {}).get(key, "base64")
                if chosen != "base64":
                    raise RegistrationError(
                        f"{_at(where, path)} holds bytes, and its model sets {key}={chosen!r}; "
                        "bytes travel as base64 in JSON and natively in MessagePack: drop the "
                        "setting"
                    )


def _at(where: str, path: str) -> str:
    path = path.strip(".")
    return f"{where}: {path}" if path else where


_STRICT_MATTERS = frozenset(
    {
        "date", "time", "datetime", "timedelta", "decimal", "uuid", "enum", "tuple", "set",
        "frozenset", "bytes", "url", "multi-host-url", "dataclass", "deque", "named-tuple",
    }
)  # fmt: skip


def _is_strict(node: Schema, owner: Schema | None) -> bool:
    if node["type"] not in _STRICT_MATTERS:
        return False
    default = ((owner or {}).get("config") or {}).get("strict", False)
    return bool(node.get("strict", default))


def _definitions(schema: Schema) -> dict[str, Schema]:
    if schema["type"] != "definitions":
        return {}
    return {definition["ref"]: definition for definition in schema["definitions"]}


def _refs(node: Any) -> set[str]:
    return {one["schema_ref"] for one, _, _ in _walk(node, "") if one["type"] == "definition-ref"}


def _reach(definitions: dict[str, Schema]) -> dict[str, set[str]]:
    """Which definitions each definition leads to, directly or not."""
    direct = {ref: _refs(node) for ref, node in definitions.items()}
    reach = {}
    for ref in definitions:
        seen: set[str] = set()
        todo = list(direct[ref])
        while todo:
            one = todo.pop()
            if one not in seen:
                seen.add(one)
                todo.extend(direct.get(one, ()))
        reach[ref] = seen
    return reach


def _is_recursive(schema: Schema) -> bool:
    return any(ref in seen for ref, seen in _reach(_definitions(schema)).items())


_OBJECTS = frozenset({"model", "typed-dict", "dataclass", "dict"})
_ARRAYS = frozenset({"list", "tuple", "set", "frozenset", "deque", "named-tuple"})


def _refuse_recursive_unions(schema: Schema, where: str) -> None:
    definitions = _definitions(schema)
    reach = _reach(definitions)
    for ref, definition in definitions.items():
        if ref not in reach[ref]:
            continue
        for node, path, _ in _walk(definition, ""):
            if node["type"] == "union" and _explodes(node, ref, definitions, reach):
                raise RegistrationError(
                    f"{_at(where, path)} is a recursive union without a discriminator: a wrong "
                    "value of 200 bytes would give 50,000 errors; use Field(discriminator=…), or "
                    "pydantic.JsonValue for any JSON"
                )


def _explodes(
    union: Schema, home: str, definitions: dict[str, Schema], reach: dict[str, set[str]]
) -> bool:
    """Whether two choices of one JSON shape lead back to the union, so that errors double a level.

    An object and an array beside each other do no harm: one of the two fails at once.
    """
    shapes: list[str] = []
    for choice in union["choices"]:
        node = choice[0] if isinstance(choice, tuple) else choice
        seen = _refs(node)
        seen |= {far for ref in seen for far in reach.get(ref, ())}
        if home in seen:
            shapes.append(_shape(node, definitions))
    return "both" in shapes[1:] + shapes[:1] * (len(shapes) > 1) or len(shapes) > len(set(shapes))


def _shape(node: Schema, definitions: dict[str, Schema]) -> str:
    while True:
        kind = node["type"]
        if kind in _OBJECTS:
            return "object"
        if kind in _ARRAYS:
            return "array"
        if kind == "definition-ref":
            node = definitions[node["schema_ref"]]
        elif _is_schema(node.get("schema")):
            node = node["schema"]
        else:
            return "both"


def _base(schema: Schema) -> Schema:
    if schema["type"] in _CONFIGURED:
        schema["config"] = {**(schema.get("config") or {}), **CONFIG}
    elif schema["type"] == "float":
        schema["allow_inf_nan"] = False
    return schema


def _validating(purpose: Purpose, facts: _Facts) -> Callable[[Schema], Schema]:
    exact_text = purpose == "msgpack"

    def edit(schema: Schema) -> Schema:
        schema = _base(schema)
        schema.pop("serialization", None)
        kind = schema["type"]
        if kind == "int":
            _bound(schema)
        elif kind == "any" and purpose != "departure":
            return _after(schema, _check_any)
        elif kind == "bytes" and exact_text:
            schema["strict"] = True
        return schema

    return edit


def _bound(schema: Schema) -> None:
    if "gt" not in schema:
        schema["ge"] = max(schema.get("ge", MIN_INT), MIN_INT)
    if "lt" not in schema:
        schema["le"] = min(schema.get("le", MAX_INT), MAX_INT)


def _after(schema: Schema, function: Callable[[Any], Any]) -> Schema:
    return {
        "type": "function-after",
        "schema": schema,
        "function": {"type": "no-info", "function": function},
    }


def _serializing(native_bytes: bool) -> Callable[[Schema], Schema]:
    leave = _plain_msgpack if native_bytes else _plain_json

    def edit(schema: Schema) -> Schema:
        schema = _base(schema)
        kind = schema["type"]
        own = schema.get("serialization")
        if own is not None:
            if own["type"] in ("function-plain", "function-wrap") and "return_schema" not in own:
                own["return_schema"] = {"type": "any", "serialization": _plain_serializer(leave)}
        elif kind == "any":
            schema["serialization"] = _plain_serializer(leave)
        elif kind == "bytes" and native_bytes:
            schema["serialization"] = {
                **_plain_serializer(_stand_in),
                "return_schema": {"type": "str"},
            }
        return schema

    return edit


def _plain_serializer(function: Callable[[Any], Any]) -> Schema:
    return {"type": "function-plain", "function": function, "return_schema": {"type": "any"}}


# --- Any: plain values -----------------------------------------------------------------------------

_SCALARS = frozenset({str, bool, type(None), float})
_BYTES = (bytes, bytearray, memoryview)


def _check_any(value: Any) -> Any:
    """Refuse what JSON or MessagePack decode to and the value space excludes."""
    if type(value) not in _SCALARS or type(value) is float:
        _check_plain([value])
    return value


def _check_plain(values: Collection[Any]) -> None:
    kinds = set(map(type, values))
    if float in kinds and not all(
        one - one == 0 for one in values if type(one) is float
    ):
        raise ValueError("NaN and Infinity are refused")
    if int in kinds and not all(
        MIN_INT <= one <= MAX_INT for one in values if type(one) is int
    ):
        raise ValueError("integers go from -2**63 to 2**64 - 1")
    if list in kinds:
        for one in values:
            if type(one) is list:
                _check_plain(one)
    if dict in kinds:
        for one in values:
            if type(one) is dict:
                if not set(map(type, one)) <= {str}:
                    raise ValueError("the keys of an object are strings")
                _check_plain(one.values())


def _plain_json(value: Any) -> Any:
    return _plain(value, False, MAX_DEPTH)


def _plain_msgpack(value: Any) -> Any:
    return _plain(value, True, MAX_DEPTH)


def _plain(value: Any, native: bool, room: int) -> Any:
    """`value` in JSON's own types; for MessagePack with stand-ins for bytes."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is int:
        if not MIN_INT <= value <= MAX_INT:
            raise ValueError(f"an integer outside of -2**63 to 2**64 - 1: {value:.3e}")
        return value
    if room <= 0:
        raise ValueError(f"nested more than {MAX_DEPTH} deep, or in itself")
    if kind is dict:
        if not set(map(type, value)) <= {str}:
            value = {_plain_key(key): one for key, one in value.items()}
        if set(map(type, value.values())) <= _SCALARS:
            return value
        return {key: _plain(one, native, room - 1) for key, one in value.items()}
    if kind is list or isinstance(value, (list, tuple, set, frozenset)) and not _has_schema(kind):
        if set(map(type, value)) <= _SCALARS:
            return list(value)
        return [_plain(one, native, room - 1) for one in value]
    if isinstance(value, _BYTES):
        return _stand_in(value) if native else bytes(value)
    return _plain_object(value, native)


def _plain_key(key: Any) -> str:
    ((text, _),) = to_jsonable_python({key: None}, bytes_mode="base64").items()
    return str(text)


def _has_schema(kind: type) -> bool:
    return (
        hasattr(kind, "__pydantic_core_schema__")
        or hasattr(kind, "__dataclass_fields__")
        or hasattr(kind, "__get_pydantic_core_schema__")
    )


def _plain_object(value: Any, native: bool) -> Any:
    kind = type(value)
    if _has_schema(kind):
        core = _core(kind, kind.__name__)
        return core.serializer(native).to_python(value, mode="json", warnings="error")
    return to_jsonable_python(value, bytes_mode="base64", inf_nan_mode="constants")


# MessagePack has bytes of its own, but pydantic's JSON mode, which everything else needs, cannot
# leave them alone. They pass through it as strings that begin with a lone surrogate, which no legal
# string does.
_MARK = "\udc80"


def _stand_in(value: Any) -> str:
    return _MARK + str(value, "latin-1")


def _restore(value: Any) -> Any:
    """`value` with the bytes back in place of their stand-ins."""
    kind = type(value)
    if kind is str:
        return value[1:].encode("latin-1") if value[:1] == _MARK else value
    if kind is dict:
        if str in (kinds := set(map(type, value.values()))) or dict in kinds or list in kinds:
            return {key: _restore(one) for key, one in value.items()}
    elif kind is list:
        if str in (kinds := set(map(type, value))) or dict in kinds or list in kinds:
            return [_restore(one) for one in value]
    return value


# --- Depth and numbers, looked at exactly only when there is reason to ------------------------------

_JSON_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_MSGPACK_NOT_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]|\xca[\x7f\xff][\x80-\xff]")


def _json_too_deep(data: bytes, limit: int) -> bool:
    if data.count(b"[") + data.count(b"{") <= limit:
        return False
    brackets = _JSON_STRING.sub(b"", data).translate(None, _NOT_BRACKETS)
    for _ in range(limit):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if not brackets:
            return False
    return True


def _too_deep(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit + 1):
        level = [one for one in level if type(one) is list or type(one) is dict]
        if not level:
            return False
        level = [
            child
            for one in level
            for child in (one if type(one) is list else one.values())
        ]
    return True


def _has_not_finite(value: Any) -> bool:
    if type(value) is float:
        return value - value != 0
    if type(value) is dict:
        return any(map(_has_not_finite, value.values()))
    return type(value) is list and any(map(_has_not_finite, value))


# --- The adapter ------------------------------------------------------------------------------------


class _Base64Schema(GenerateJsonSchema):
    """JSON Schema as the wire has it: bytes are base64url."""

    def bytes_schema(self, schema: Any) -> JsonSchemaValue:
        described = super().bytes_schema(schema)
        return {**described, "format": "base64url"}


class _Core:
    """The compiled form of a type, shared by every adapter for it."""

    __slots__ = ("__weakref__", "_built", "adapter", "facts")

    def __init__(self, adapter: TypeAdapter[Any], where: str) -> None:
        self.adapter = adapter
        self.facts = _Facts(dict(adapter.core_schema), where)
        self._built: dict[Any, Any] = {}

    def validator(self, purpose: Purpose, many: bool = False) -> SchemaValidator:
        key = (purpose, many)
        if key not in self._built:
            schema = _rewrite(self.facts.schema, _validating(purpose, self.facts))
            if many:
                schema = _listed(schema)
            self._built[key] = SchemaValidator(schema, CONFIG, _use_prebuilt=False)  # type: ignore[arg-type]
        built: SchemaValidator = self._built[key]
        return built

    def serializer(self, native_bytes: bool) -> SchemaSerializer:
        if native_bytes not in self._built:
            schema = _rewrite(self.facts.schema, _serializing(native_bytes))
            self._built[native_bytes] = SchemaSerializer(schema, CONFIG, _use_prebuilt=False)  # type: ignore[arg-type]
        built: SchemaSerializer = self._built[native_bytes]
        return built


def _listed(schema: Schema) -> Schema:
    if schema["type"] == "definitions":
        return {**schema, "schema": {"type": "list", "items_schema": schema["schema"]}}
    return {"type": "list", "items_schema": schema}


_cores: WeakValueDictionary[Any, _Core] = WeakValueDictionary()


def _core(annotation: Any, where: str) -> _Core:
    # `A | B == B | A`, and which comes first can matter to pydantic: hence the text.
    key = (annotation, str(annotation))
    try:
        cached = _cores.get(key)
    except TypeError:
        return _new_core(annotation, where)
    if cached is None:
        cached = _cores[key] = _new_core(annotation, where)
    return cached


def _new_core(annotation: Any, where: str) -> _Core:
    try:
        return _Core(_type_adapter(annotation), where)
    except RegistrationError:
        raise
    except (PydanticSchemaGenerationError, PydanticUserError, SchemaError, TypeError, NameError) as error:
        reason = str(error).split("\n")[0]
        raise RegistrationError(f"{where}: {reason}") from error


def _type_adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False))
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
        return TypeAdapter(annotation)


class Adapter:
    """Encodes and decodes the values of one annotated type.

    Args:
        annotation: The type, as it stands in a signature.
        where: What messages call it: controller, method, parameter.

    Raises:
        RegistrationError: The type cannot travel; the message names `where` and the field.
    """

    __slots__ = (
        "_bytes",
        "_codec_json",
        "_core",
        "_deep",
        "_depth",
        "_facts",
        "_to_json",
        "_validate_json",
        "_validate_python",
        "annotation",
        "where",
    )

    def __init__(self, annotation: Any, *, where: str, depth: int = MAX_DEPTH) -> None:
        self.annotation = annotation
        self.where = where
        self._depth = depth
        self._core = _core(annotation, where)
        self._facts = self._core.facts
        self._bytes = self._facts.schema == {"type": "bytes"}
        self._deep = self._facts.deep
        try:
            self._validate_json = self._core.validator("json").validate_json
            self._validate_python = self._core.validator("departure").validate_python
            self._to_json = self._core.serializer(False).to_json
        except SchemaError as error:
            raise RegistrationError(f"{where}: {error}") from error

    def dump(self, value: Any, codec: Codec, *, check: bool = True) -> bytes:
        """The encoding of `value`.

        Args:
            value: What a caller or handler gave.
            codec: The session's codec.
            check: Whether to validate first; otherwise whatever can be encoded is.

        Raises:
            Unencodable: The value does not fit the type or cannot be encoded.
        """
        try:
            if check:
                value = self._validate_python(value)
                data = self._to_json(value) if codec.text else self._to_msgpack(value, codec)
            elif codec.text:
                data = self._to_json(value, warnings=False)
            else:
                data = self._to_msgpack(value, codec, warnings=False)
        except Exception as error:
            raise self._refusal(value, error) from error
        if codec.text:
            if self._facts.floats and (b"NaN" in data or b"Infinity" in data):
                self._refuse_not_finite(data, codec)
            if self._deep and _json_too_deep(data, self._depth):
                raise Unencodable(f"{self.where}: nested more than {MAX_DEPTH} deep")
        return data

    def _to_msgpack(self, value: Any, codec: Codec, **options: Any) -> bytes:
        if self._bytes and isinstance(value, _BYTES):
            return codec.dump(value)
        native = self._facts.bytes or self._facts.any
        plain = self._core.serializer(native).to_python(value, mode="json", **options)
        if native:
            plain = _restore(plain)
        if self._deep and _too_deep(plain, self._depth):
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        data = codec.dump(plain)
        if self._facts.floats and _MSGPACK_NOT_FINITE.search(data) and _has_not_finite(plain):
            raise ValueError("NaN and Infinity cannot travel")
        return data

    def _refuse_not_finite(self, data: bytes, codec: Codec) -> None:
        try:
            codec.load(data)
        except msgspec.DecodeError:
            raise Unencodable(f"{self.where}: NaN and Infinity cannot travel") from None

    def _refusal(self, value: Any, error: Exception) -> Unencodable:
        if isinstance(error, PydanticError):
            return Unencodable(f"{self.where}: {_from_pydantic(error)}")
        reason: Exception = error
        if isinstance(error, TypeError):
            try:
                self._core.serializer(False).to_json(value, warnings="error")
            except Exception as better:
                reason = better
        text = " ".join(str(reason).split())
        return Unencodable(f"{self.where}: {text[:300]}")

    def load(self, raw: Raw | bytes, codec: Codec, *, check: bool = True) -> Any:
        """The value that `raw` encodes.

        Args:
            raw: The encoding.
            codec: The session's codec.
            check: Whether to validate; otherwise the value comes as plain dicts, lists and so on.

        Raises:
            InvalidValue: It is no value of the type.
        """
        try:
            if codec.text and check:
                data = bytes(raw)
                if self._deep and _json_too_deep(data, self._depth):
                    raise _too_deep_error()
                return self._validate_json(data)
            return self._load_slowly(raw, codec, check)
        except PydanticError as error:
            raise _from_pydantic(error) from None
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise _undecodable(error) from None

    def load_many(self, raws: list[Raw], codec: Codec) -> list[Any]:
        """The values that `raws` encode, in one pass.

        Raises:
            InvalidValue: One of them is no value of the type; `loc` begins with its index.
        """
        try:
            data = codec.join(raws)  # type: ignore[arg-type]
            if codec.text:
                if self._deep and _json_too_deep(data, self._depth + 1):
                    raise _too_deep_error()
                loaded: list[Any] = self._core.validator("json", True).validate_json(data)
                return loaded
            loaded = self._load_msgpack(data, codec, True)
            return loaded
        except PydanticError as error:
            raise _from_pydantic(error) from None
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise _undecodable(error) from None

    def _load_slowly(self, raw: Raw | bytes, codec: Codec, check: bool) -> Any:
        if check:
            return self._load_msgpack(raw, codec, False)
        if self._bytes and codec.text:
            return self._validate_json(bytes(raw))
        return codec.load(raw)

    def _load_msgpack(self, raw: Raw | bytes, codec: Codec, many: bool) -> Any:
        facts = self._facts
        value = codec.load(raw)
        if self._deep and _too_deep(value, self._depth + many):
            raise _too_deep_error()
        native = facts.bytes or facts.any
        if facts.any or (facts.alike and (native or not _may_hold_bin(raw))):
            return self._core.validator("msgpack", many).validate_python(value)
        # Where python mode would differ from JSON mode, JSON mode decides for both codecs.
        return self._core.validator("json", many).validate_json(msgspec.json.encode(value))

    def json_schema(self, mode: Literal["validation", "serialization"]) -> dict[str, Any]:
        """The JSON Schema of the type; empty where pydantic has none for it."""
        try:
            return self._core.adapter.json_schema(mode=mode, schema_generator=_Base64Schema)
        except PydanticInvalidForJsonSchema:
            return {}


def _may_hold_bin(raw: Raw | bytes) -> bool:
    data = bytes(raw)
    return b"\xc4" in data or b"\xc5" in data or b"\xc6" in data


def _too_deep_error() -> InvalidValue:
    return _invalid(f"nested more than {MAX_DEPTH} deep", "too_deep")


def _undecodable(error: Exception) -> InvalidValue:
    if isinstance(error, RecursionError):
        return _too_deep_error()
    return _invalid(f"cannot be decoded: {error}"[:200], "undecodable")


_ = PydanticSerializationError
