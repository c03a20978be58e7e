"""One annotated type, ready to travel: validated and serialised for both codecs.

pydantic does the work, on an edited copy of its own core schema of the type (`coreschema`).
"""

from __future__ import annotations

from typing import Any, Literal, cast
from weakref import WeakValueDictionary

import msgspec
from msgspec import Raw
from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import (
    PydanticCustomError,
    SchemaError,
    SchemaSerializer,
    SchemaValidator,
    to_jsonable_python,
)

from ..errors import RegistrationError, WsrpcError
from ..protocol.codec import Codec
from ..protocol.splice import Encoded, Spliced
from .checks import (
    BYTES,
    MAX_DEPTH,
    check_within,
    has_odd_numbers,
    holds_bytes,
    holds_not_finite,
    holds_odd_key,
    holds_wide_int,
    is_deeper,
    is_json_deeper,
    may_hold_bin,
    may_hold_not_finite,
    may_hold_replaced,
    may_say_nan,
    protected,
    with_bytes,
)
from .pydantic_schema import (
    CONFIG,
    Facts,
    Schema,
    for_serialization,
    for_validation,
    is_flat,
    is_json_only,
    is_same_json,
    rewrite,
    simplified,
)

__all__ = ["MAX_DEPTH", "Adapter", "InvalidValue", "Unencodable"]

MAX_ERRORS = 8
MAX_ERROR_BYTES = 4096

# Rendering costs pydantic a microsecond an error and cannot be cut short.
MAX_ERRORS_RENDERED = 10_000

# Above this size the first wrong element of a list ends its validation: a hostile megabyte would
# otherwise hold the event loop for a fifth of a second, collecting errors that nobody reads.
FAIL_FAST_BYTES = 16 * 1024

# `warnings="error"` as an argument costs pydantic-core 1.0 µs a call, three times what it takes to
# serialise a small model. A registry that is no dict makes CPython raise whenever a warning is
# issued from this module, so that the plain call fails in the same cases at no cost; `_refusal`
# then asks again for the proper message.
__warningregistry__ = ()


# --- Errors ----------------------------------------------------------------------------------------


class InvalidValue(WsrpcError):
    """A value that arrived does not fit its declared type.

    Attributes:
        errors: What is wrong, each with `loc`, `msg` and `type`; at most 8, never the input.
        total: How many there were.
    """

    def __init__(self, errors: list[dict[str, Any]], total: int | None = None) -> None:
        self.errors = errors[:MAX_ERRORS]
        self.total = len(errors) if total is None else total
        super().__init__(_summary(self.errors, self.total))

    def data(self) -> dict[str, Any]:
        """The error as it travels: at most 4 KiB when encoded."""
        errors = list(self.errors)
        data = {"errors": errors, "total": self.total}
        while errors and len(msgspec.json.encode(data)) > MAX_ERROR_BYTES:
            errors.pop()
        return data


class Unencodable(WsrpcError):
    """A value must not leave: it does not fit its declared type, or nothing can encode it."""


def _summary(errors: list[dict[str, Any]], total: int) -> str:
    parts = [
        f"{'.'.join(map(str, error['loc']))}: {error['msg']}" if error["loc"] else error["msg"]
        for error in errors
    ]
    if len(errors) == MAX_ERRORS < total:
        parts.append(f"and {total - len(errors)} more")
    return "; ".join(parts)


def _invalid(message: str, kind: str, total: int = 1) -> InvalidValue:
    return InvalidValue([{"loc": [], "msg": message, "type": kind}], total)


def _too_deep() -> InvalidValue:
    return _invalid(f"Nested more than {MAX_DEPTH} deep", "too_deep")


def _from_pydantic(error: ValidationError) -> InvalidValue:
    total = error.error_count()
    if total > MAX_ERRORS_RENDERED:
        return _invalid(f"{total} errors, too many to list", "many_errors", total)
    rendered = error.errors(include_url=False, include_context=False, include_input=False)
    return InvalidValue([_shortened(one) for one in rendered[:MAX_ERRORS]], total)


def _shortened(error: Any) -> dict[str, Any]:
    # The path may hold keys of the peer's own choosing.
    loc = [part if isinstance(part, int) else part[:64] for part in error["loc"][:16]]
    return {"loc": loc, "msg": error["msg"][:256], "type": error["type"]}


def _from_decoder(error: Exception) -> InvalidValue:
    if isinstance(error, InvalidValue):
        return error
    if isinstance(error, ValidationError):
        return _from_pydantic(error)
    if isinstance(error, PydanticCustomError):
        return _invalid(error.message(), error.type)
    if isinstance(error, RecursionError):
        return _too_deep()
    return _invalid(f"Cannot be decoded: {error}"[:256], "undecodable")


# How pydantic and Python say it.
_TOO_DEEP_WORDS = ("RecursionError", "serialization depth")

_UNDECODABLE = (InvalidValue, msgspec.MsgspecError, ValueError, RecursionError)


# --- Compiling -------------------------------------------------------------------------------------


class _WireSchema(GenerateJsonSchema):
    """JSON Schema of what travels: bytes are base64url."""

    def bytes_schema(self, schema: Any) -> JsonSchemaValue:
        return {**super().bytes_schema(schema), "format": "base64url"}


class _Core:
    """The compiled form of a type, shared by all adapters for it.

    What is seldom used is compiled when it is first needed.
    """

    __slots__ = ("__weakref__", "_built", "adapter", "facts")

    def __init__(self, adapter: TypeAdapter[Any], facts: Facts) -> None:
        self.adapter = adapter
        self.facts = facts
        self._built: dict[Any, Any] = {}

    def validator(
        self,
        *,
        checked: bool = False,
        strict_bytes: bool = False,
        fail_fast: bool = False,
        many: bool = False,
    ) -> SchemaValidator:
        key = (checked, strict_bytes, fail_fast, many)
        if key not in self._built:
            edit = for_validation(
                checked=checked and self.facts.any, strict_bytes=strict_bytes, fail_fast=fail_fast
            )
            schema: Any = rewrite(self.facts.schema, edit)
            schema = _listed(schema, fail_fast) if many else schema
            self._built[key] = SchemaValidator(schema, cast(Any, CONFIG), _use_prebuilt=False)
        return cast(SchemaValidator, self._built[key])

    def serializer(
        self, *, native: bool = False, exact_keys: bool = False, many: bool = False
    ) -> SchemaSerializer:
        key = (native, exact_keys, many)
        if key not in self._built:
            free = _protected if native else _builtins
            edit = for_serialization(free, native=native, exact_keys=exact_keys)
            schema: Any = rewrite(self.facts.schema, edit)
            schema = _listed(schema, fail_fast=False) if many else schema
            self._built[key] = SchemaSerializer(schema, cast(Any, CONFIG), _use_prebuilt=False)
        return cast(SchemaSerializer, self._built[key])

    def to_plain(self, value: Any, **options: Any) -> Any:
        """`value` in JSON's own types and bytes."""
        native = self.facts.native
        serializer = self._built.get((native, False, False)) or self.serializer(native=native)
        if not native:
            return serializer.to_python(value, mode="json", **options)
        return with_bytes(lambda: serializer.to_python(value, mode="json", **options))


def _listed(schema: Schema, fail_fast: bool) -> Schema:
    if schema["type"] == "definitions":
        return {**schema, "schema": _listed(schema["schema"], fail_fast)}
    return {"type": "list", "items_schema": schema, "fail_fast": fail_fast}


_cores: WeakValueDictionary[Any, _Core] = WeakValueDictionary()


def _core(annotation: Any, where: str) -> _Core:
    # `A | B` equals `B | A`, but which comes first may matter to pydantic: hence the text.
    key = (annotation, str(annotation))
    try:
        core = _cores.get(key)
    except TypeError:
        return _compiled(annotation, where)
    if core is None:
        core = _cores[key] = _compiled(annotation, where)
    return core


def _compiled(annotation: Any, where: str) -> _Core:
    try:
        adapter = TypeAdapter(annotation)
        schema = simplified(dict(adapter.core_schema))
    except PydanticSchemaGenerationError as error:
        what = str(error).split(". Set `arbitrary")[0]
        raise RegistrationError(f"{where}: {what}; use a model, dataclass or TypedDict") from error
    except (PydanticUserError, TypeError, NameError) as error:
        reason = str(error).split("\n")[0]
        raise RegistrationError(f"{where}: {reason}") from error
    return _Core(adapter, Facts(schema, where))


# --- Any -------------------------------------------------------------------------------------------

# The initials of NaN and Infinity, and what an escape begins with.
_N, _I, _BACKSLASH = b"NI\\"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

_ANY_TO_JSON = SchemaSerializer({"type": "any"}, cast(Any, CONFIG)).to_json


def _builtins(value: Any) -> Any:
    """`value` in JSON's own types and bytes, whatever it is."""
    return msgspec.to_builtins(
        value, builtin_types=BYTES, str_keys=True, enc_hook=_builtins_of_other
    )


def _builtins_of_other(value: Any) -> Any:
    kind = type(value)
    if hasattr(kind, "__pydantic_core_schema__"):
        return _core(kind, kind.__name__).to_plain(value, warnings="error")
    return to_jsonable_python(value, bytes_mode="base64", inf_nan_mode="constants")


def _protected(value: Any) -> Any:
    return protected(_builtins(value))


# --- The adapter -----------------------------------------------------------------------------------


class Adapter:
    """Encodes and decodes the values of one annotated type.

    Args:
        annotation: The type, as it stands in a signature.
        where: What messages call it: controller, method, parameter.
        depth: How deep values may be nested.

    Raises:
        RegistrationError: The type cannot travel; the message names `where` and the field.
    """

    __slots__ = (
        "_core",
        "_deep",
        "_depth",
        "_encode",
        "_facts",
        "_floats",
        "_free",
        "_is_any",
        "_is_bytes",
        "_is_json_only",
        "_keys",
        "_simple",
        "_special",
        "_to_json",
        "_validate_json",
        "_validate_python",
        "annotation",
        "flat",
        "where",
    )

    def __init__(self, annotation: Any, *, where: str, depth: int = MAX_DEPTH) -> None:
        self.annotation = annotation
        self.where = where
        self._depth = depth
        self._core = core = _core(annotation, where)
        self._facts = facts = core.facts
        self._deep = facts.deep
        self._floats = facts.floats
        self._free = facts.free
        self._keys = facts.keys
        self._is_any = facts.schema["type"] == "any"
        self._is_json_only = is_json_only(facts.schema)
        self._is_bytes = facts.schema == {"type": "bytes"}
        self._special = self._is_any or self._is_bytes
        self.flat = is_flat(facts.schema)
        # Nothing but validation stands between its JSON and the value.
        self._simple = not (facts.deep or facts.any)
        try:
            self._validate_json = core.validator().validate_json
            self._validate_python = core.validator().validate_python
            self._to_json = core.serializer().to_json
            self._encode = _encode if is_same_json(facts.schema) else self._to_json
        except SchemaError as error:
            raise RegistrationError(f"{where}: {error}") from error

    # Leaving.

    def dump(self, value: Any, codec: Codec, *, check: bool = True) -> Encoded:
        """The encoding of `value`.

        Args:
            value: What a caller or a handler gave.
            codec: The session's codec.
            check: Whether to validate it first; otherwise whatever can be encoded is.

        Raises:
            Unencodable: The value does not fit the type, or nothing can encode it.
        """
        try:
            if self._special or not (check and codec.text):
                return self._dump_otherwise(value, codec, check)
            data = self._encode(self._validate_python(value))
            if self._floats and (_N in data or _I in data or self._free):
                _refuse_odd_numbers(data)
            if self._deep and is_json_deeper(data, self._depth):
                raise _too_deep()
            if self._keys and may_hold_replaced(data):
                self._core.serializer(exact_keys=True).to_json(value)
        except Exception as error:
            raise self._refusal(value, error) from error
        return data

    def dump_many(self, values: list[Any]) -> bytes:
        """The encodings of `values` of a flat type as JSON, with commas between them.

        Raises:
            Unencodable: One of them does not fit the type; `dump` tells which.
        """
        core = self._core
        try:
            data = core.serializer(many=True).to_json(
                core.validator(many=True).validate_python(values)
            )
            if self._floats and (_N in data or _I in data or self._free):
                _refuse_odd_numbers(data)
        except Exception as error:
            raise Unencodable(f"{self.where}: one of several values does not fit") from error
        return data[1:-1]

    def _dump_otherwise(self, value: Any, codec: Codec, check: bool) -> Encoded:
        if self._is_any:
            value = _builtins(value)
            if codec.text:
                return self._surely(_ANY_TO_JSON(value, fallback=bytes))
            return self._dump_plain(value, codec)
        if self._is_bytes and isinstance(value, BYTES):
            value = bytes(value)
            return self._to_json(value) if codec.text else codec.dump_plain(value)
        if check:
            value = self._validate_python(value)
            if codec.text:
                return self._encode(value)
            data = self._dump_plain(self._core.to_plain(value), codec)
            if self._keys and may_hold_replaced(_beside(data)):
                self._core.serializer(exact_keys=True).to_json(value)
            return data
        # Unchecked, it may hold what its type excludes.
        if codec.text:
            return self._surely(self._to_json(value, warnings=False))
        return self._dump_plain(self._core.to_plain(value, warnings=False), codec, surely=True)

    def _surely(self, text: bytes) -> bytes:
        if self._free or may_say_nan(text):
            _refuse_odd_numbers(text)
        if is_json_deeper(text, self._depth):
            raise _too_deep()
        return text

    def _dump_plain(self, plain: Any, codec: Codec, *, surely: bool = False) -> Encoded:
        data = codec.dump_plain(plain)
        if (
            (self._floats or surely)
            and may_hold_not_finite(_beside(data))
            and holds_not_finite(plain)
        ):
            raise ValueError("NaN and Infinity cannot travel")
        if (self._deep or surely) and len(data) > self._depth and is_deeper(plain, self._depth):
            raise _too_deep()
        return data

    def _refusal(self, value: Any, error: Exception) -> Unencodable:
        if isinstance(error, ValidationError):
            return Unencodable(f"{self.where}: {_from_pydantic(error)}")
        if any(word in f"{error!r}" for word in _TOO_DEEP_WORDS):
            return Unencodable(f"{self.where}: {_too_deep()}, or in itself")
        reason = error
        if isinstance(error, TypeError) and not self._is_any:
            reason = self._serialization_error(value) or error
        return Unencodable(f"{self.where}: {' '.join(str(reason).split())[:400]}")

    def _serialization_error(self, value: Any) -> Exception | None:
        try:
            self._core.serializer().to_json(value, warnings="error")
        except Exception as error:  # noqa: BLE001 - whatever it is goes into the message
            return error
        return None

    # Arriving.

    def load(self, raw: Raw | Encoded, codec: Codec, *, check: bool = True) -> Any:
        """The value that `raw` encodes.

        Args:
            raw: The encoding.
            codec: The session's codec.
            check: Whether to validate it; otherwise it comes as dicts, lists and so on.

        Raises:
            InvalidValue: It is no value of the type.
        """
        try:
            # A third cheaper than bytes(raw), and a tenth of what a small model costs in all.
            data = raw if type(raw) is Spliced else b"" + raw
            if self._simple and check and codec.text and len(data) <= FAIL_FAST_BYTES:
                return self._validate_json(cast(bytes, data))
            if check:
                return self._load(data, codec, many=False)
            if self._is_bytes and codec.text:
                return self._validate_json(cast(bytes, data))
            return codec.load(data)
        except _UNDECODABLE as error:
            raise _from_decoder(error) from None

    def load_many(self, data: bytes, codec: Codec, *, check: bool = True) -> list[Any]:
        """The values that an encoded array holds, validated in one pass.

        Args:
            data: The encoding of the array.
            codec: The session's codec.
            check: Whether to validate them; otherwise they come as dicts, lists and so on.

        Raises:
            InvalidValue: One of them is no value of the type; `loc` begins with its index.
        """
        try:
            if check or (self._is_bytes and codec.text):
                return cast(list[Any], self._load(data, codec, many=True))
            return cast(list[Any], codec.load(data))
        except _UNDECODABLE as error:
            raise _from_decoder(error) from None

    def _load(self, data: Encoded, codec: Codec, *, many: bool) -> Any:
        if self._is_any:
            return self._load_any(data, codec, many)
        if codec.text:
            return self._load_json(cast(bytes, data), many)
        return self._load_msgpack(data, codec, many)

    def _load_any(self, data: Encoded, codec: Codec, many: bool) -> Any:
        value = codec.load(data)
        if self._is_json_only and _may_hold_bin(data) and holds_bytes(value):
            raise _invalid("Bytes are no JSON value", "invalid-json-value")
        # Of JSON the decoder has refused all that the text does not give away.
        if (
            not codec.text
            or type(data) is Spliced
            or has_odd_numbers(data)
            or is_json_deeper(data, self._depth + many)
        ):
            check_within((value,), self._depth + many)
        return value

    def _load_json(self, data: bytes, many: bool) -> Any:
        facts = self._facts
        if facts.deep and is_json_deeper(data, self._depth + many):
            raise _too_deep()
        if facts.textual and not many and len(data) > FAIL_FAST_BYTES and _BACKSLASH in data:
            # A long text with escapes, as one of several lines, takes pydantic 1.7 ms a megabyte,
            # most of it for memory that it lets grow step by step, and msgspec 0.35.
            try:
                return self._validate_python(_decode(data))
            except _UNDECODABLE:
                # What is wrong with it shall not depend on its size.
                pass
        return self._core.validator(
            checked=facts.any and has_odd_numbers(data),
            fail_fast=len(data) > FAIL_FAST_BYTES,
            many=many,
        ).validate_json(data)

    def _load_msgpack(self, data: Encoded, codec: Codec, many: bool) -> Any:
        facts = self._facts
        value = codec.load(data)
        if facts.deep and is_deeper(value, self._depth + many):
            raise _too_deep()
        may_hold_bytes = _may_hold_bin(data)
        # For keys that are strings pydantic sees to it, but takes bytes for strings.
        if (
            facts.keys
            and (facts.keyed or may_hold_bytes or not facts.alike)
            and holds_odd_key(value)
        ):
            raise _invalid("The keys of an object are strings", "string_key")
        fail_fast = len(data) > FAIL_FAST_BYTES
        if facts.any or (facts.alike and (facts.bytes or not may_hold_bytes)):
            if self._simple and not (facts.bytes or fail_fast or many):
                return self._validate_python(value)
            return self._core.validator(
                checked=True, strict_bytes=True, fail_fast=fail_fast, many=many
            ).validate_python(value)
        # Where python mode would differ from JSON mode, JSON mode decides for both codecs.
        if facts.floats and holds_not_finite(value):
            raise _invalid("NaN and Infinity are refused", "finite_number")
        json_mode = self._core.validator(fail_fast=fail_fast, many=many)
        return json_mode.validate_json(msgspec.json.encode(value))

    def json_schema(self, mode: Literal["validation", "serialization"]) -> dict[str, Any]:
        """The JSON Schema of the type; empty where pydantic has none."""
        try:
            return self._core.adapter.json_schema(mode=mode, schema_generator=_WireSchema)
        except PydanticInvalidForJsonSchema:
            return {}

    def __repr__(self) -> str:
        return f"<Adapter {self.where}: {self.annotation!r}>"


def _beside(data: Encoded) -> bytes:
    """What to search for odd values: no large bytes, in which anything may be found."""
    return data.rest if type(data) is Spliced else data


def _may_hold_bin(data: Encoded) -> bool:
    return type(data) is Spliced or may_hold_bin(data)


def _refuse_odd_numbers(text: bytes) -> None:
    if has_odd_numbers(text):
        try:
            value = msgspec.json.decode(text)
        except msgspec.DecodeError:
            raise ValueError("NaN and Infinity cannot travel") from None
        if holds_wide_int(value):
            raise ValueError("an integer outside of -2**63 to 2**64 - 1")
