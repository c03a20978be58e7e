"""One annotated type, ready to travel: validated and serialised for both codecs.

pydantic does the work, on an edited copy of its own core schema of the type (`pydantic_schema`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal, NoReturn, cast

import msgspec
from msgspec import Raw
from pydantic import ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic_core import SchemaError, SchemaSerializer

from ..errors import RegistrationError
from ..protocol.codec import CODECS, Codec
from ..protocol.splice import Encoded, Spliced
from ..protocol.value_space import MAX_DEPTH, NO_STRING_KEY, NOT_FINITE, WIDE_INT
from ..runtime.by_hand import as_fault
from .checks import (
    BYTES,
    check_within,
    has_odd_numbers,
    holds_bytes,
    holds_not_finite,
    holds_odd_key,
    holds_wide_int,
    is_deeper,
    is_json_deeper,
    may_have_changed,
    may_hold_bin,
    may_hold_not_finite,
    may_hold_replaced,
    may_say_nan,
    with_whole_minutes,
)
from .core import Core, WireSchema, builtins, core_of, exactly
from .facts import Facts, is_flat, is_same_json
from .invalid import (
    SURROGATE,
    SURROGATE_WORDS,
    TOO_DEEP_WORDS,
    UNDECODABLE,
    WIDE_INT_WORDS,
    InvalidValue,
    Unencodable,
    from_decoder,
    from_pydantic,
    invalid,
    outside,
    too_deep,
)
from .pydantic_schema import CONFIG, Schema, is_json_only
from .trial import refuse_what_changes

__all__ = ["MAX_DEPTH", "Adapter", "InvalidValue", "Unencodable"]

# Bytes. Above this size the first wrong element of a list ends its validation: a hostile megabyte
# would otherwise hold the event loop for a fifth of a second, to collect errors that are never
# read.
FAIL_FAST_BYTES = 16 * 1024

# `warnings="error"` as an argument costs pydantic-core 1.0 µs a call, three times the time for
# serialising a small model. A registry that is no dict makes CPython raise whenever a warning is
# issued from this module, so that the plain call fails in the same cases at no cost; `_refusal`
# then asks again for the proper message.
__warningregistry__ = ()

# The first bytes of NaN, of Infinity, and of an escape.
_N, _I, _BACKSLASH = b"NI\\"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

_ANY_TO_JSON = SchemaSerializer({"type": "any"}, cast(Any, CONFIG)).to_json


class Adapter:
    """Encodes and decodes the values of one annotated type.

    Args:
        annotation: The type, as it stands in a signature.
        where: The name of its place in messages: controller, method, parameter.
        depth: How deep values may be nested.
        core: The compiled type, if it has been compiled.

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
        "_many",
        "_simple",
        "_special",
        "_to_json",
        "_validate_json",
        "_validate_python",
        "annotation",
        "flat",
        "where",
    )

    def __init__(
        self,
        annotation: Any,
        *,
        where: str,
        depth: int = MAX_DEPTH,
        core: Core | None = None,
    ) -> None:
        self.annotation = annotation
        self.where = where
        self._depth = depth
        self._core = core = core or core_of(annotation, where, _approve)
        self._facts = facts = core.facts
        self._deep = facts.deep
        self._floats = facts.floats
        self._free = facts.free
        self._keys = facts.keys
        self._is_any = facts.schema["type"] == "any"
        self._is_json_only = is_json_only(facts.schema)
        self._is_bytes = facts.schema == {"type": "bytes"}
        self._special = self._is_any or self._is_bytes
        # The functions of `dump_many`, once it has been called.
        self._many: tuple[Callable[[Any], Any], Callable[[Any], bytes]] | None = None
        self.flat = is_flat(facts.schema)
        # Its JSON needs no step but validation to become the value.
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
            value: The value that a caller or a handler gave.
            codec: The session's codec.
            check: Whether to validate it first; otherwise any value that can be encoded passes.

        Raises:
            Unencodable: The value does not fit the type, or cannot be encoded.
        """
        try:
            if self._special or not (check and codec.text):
                return self._dump_otherwise(value, codec, check)
            # They get local names: CPython 3.11 looks up a callable in a slot anew for each call.
            validate, encode = self._validate_python, self._encode
            value = validate(value)
            data = encode(value)
            if self._floats and (_N in data or _I in data or self._free):
                _refuse_odd_numbers(data)
                if self._free and may_have_changed(data):
                    self._refuse_changed(value)
            if self._deep and is_json_deeper(data, self._depth):
                raise too_deep()
            if self._keys and may_hold_replaced(data):
                self._core.serializer(exact_keys=True).to_json(value)
        except Exception as error:
            raise self._refusal(value, error) from error
        except BaseException as error:  # noqa: BLE001  (raised again there)
            self._raise_as_fault(error)
        return data

    def dump_many(self, values: list[Any]) -> bytes:
        """The encodings of `values` of a flat type as JSON, with commas between them.

        Raises:
            Unencodable: A value does not fit the type; `dump` tells which one.
        """
        many = self._many
        if many is None:
            core = self._core
            many = self._many = (
                core.validator(many=True).validate_python,
                core.serializer(many=True).to_json,
            )
        try:
            data = many[1](many[0](values))
            if self._floats and (_N in data or _I in data or self._free):
                _refuse_odd_numbers(data)
        except Exception as error:
            raise Unencodable(f"{self.where}: one of several values does not fit") from error
        except BaseException as error:  # noqa: BLE001  (raised again there)
            self._raise_as_fault(error)
        return data[1:-1]

    def _dump_otherwise(self, value: Any, codec: Codec, check: bool) -> Encoded:
        if self._is_any:
            plain = builtins(value)
            if codec.text:
                data: Encoded = self._surely(_ANY_TO_JSON(plain, fallback=bytes))
            else:
                data = self._dump_plain(plain, codec)
            if may_have_changed(_beside(data)):
                self._refuse_changed(value)
            return data
        if self._is_bytes and isinstance(value, BYTES):
            value = bytes(value)
            return self._to_json(value) if codec.text else codec.dump_plain(value)
        if check:
            value = self._validate_python(value)
            if codec.text:
                return self._encode(value)
            data = self._dump_plain(self._core.to_plain(value), codec)
            if self._free and may_have_changed(_beside(data)):
                self._refuse_changed(value)
            if self._keys and may_hold_replaced(_beside(data)):
                self._core.serializer(exact_keys=True).to_json(value)
            return data
        # An unchecked value may hold values that its type excludes.
        if codec.text:
            data = self._surely(with_whole_minutes(lambda: self._to_json(value, warnings=False)))
        else:
            plain = with_whole_minutes(lambda: self._core.to_plain(value, warnings=False))
            data = self._dump_plain(plain, codec, surely=True)
        if self._free and may_have_changed(_beside(data)):
            self._refuse_changed(value)
        return data

    def _refuse_changed(self, value: Any) -> None:
        if self._is_any:
            exactly(value)
        else:
            exact = self._core.serializer(exact_keys=True)
            with_whole_minutes(lambda: exact.to_json(value, warnings=False))

    def _surely(self, text: bytes) -> bytes:
        if self._free or may_say_nan(text):
            _refuse_odd_numbers(text)
        if is_json_deeper(text, self._depth):
            raise too_deep()
        return text

    def _dump_plain(self, plain: Any, codec: Codec, *, surely: bool = False) -> Encoded:
        data = codec.dump_plain(plain)
        if (
            (self._floats or surely)
            and may_hold_not_finite(_beside(data))
            and holds_not_finite(plain)
        ):
            raise ValueError(NOT_FINITE.text)
        if (self._deep or surely) and len(data) > self._depth and is_deeper(plain, self._depth):
            raise too_deep()
        return data

    def _refusal(self, value: Any, error: Exception) -> Unencodable:
        named = isinstance(error, ValidationError)
        reason = self._reason(value, error)
        return Unencodable(f"{self.where}: {reason}", reason, names_field=named)

    def _reason(self, value: Any, error: Exception) -> str:
        if isinstance(error, ValidationError):
            return str(from_pydantic(error))
        if any(word in f"{error!r}" for word in TOO_DEEP_WORDS):
            return f"{too_deep()}, or in itself"
        cause = error
        if isinstance(error, TypeError) and not self._is_any:
            cause = self._serialization_error(value) or error
        text = " ".join(str(cause).split())
        if SURROGATE_WORDS in text:
            return SURROGATE
        return WIDE_INT.text if WIDE_INT_WORDS in text else text[:400]

    def _serialization_error(self, value: Any) -> Exception | None:
        try:
            to_json = self._core.serializer().to_json
            with_whole_minutes(lambda: to_json(value, warnings="error"))
        except Exception as error:  # noqa: BLE001 - the message names any exception
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
            InvalidValue: It is no value of the type; the sender's fault.
        """
        try:
            # A third cheaper than bytes(raw), and a tenth of the cost of a small model.
            data: Any = raw if type(raw) is Spliced else b"" + raw
            if self._simple and check and codec.text and len(data) <= FAIL_FAST_BYTES:
                validate = self._validate_json
                return validate(data)
            if check:
                return self._load(data, codec, many=False)
            if self._is_bytes and codec.text:
                return self._validate_json(data)
            return codec.load(data)
        except UNDECODABLE as error:
            raise from_decoder(error) from None
        except BaseException as error:  # noqa: BLE001  (raised again there)
            self._raise_as_fault(error)

    def loader(self, codec: Codec, *, check: bool) -> Callable[[bytes], Any]:
        """The shortest way to do as `load` for values of at most `FAIL_FAST_BYTES`.

        It raises InvalidValue. Where it is the validator itself, it raises one of `UNDECODABLE`, or
        any exception of a function of the type.
        """
        if self._simple and check and codec.text:
            return self._validate_json
        return partial(self.load, codec=codec, check=check)

    def load_many(self, data: bytes, codec: Codec, *, check: bool = True) -> list[Any]:
        """The values that an encoded array holds, validated in one pass.

        Args:
            data: The encoding of the array.
            codec: The session's codec.
            check: Whether to validate them; otherwise they come as dicts, lists and so on.

        Raises:
            InvalidValue: An element is no value of the type; `loc` begins with its index.
        """
        try:
            if check or (self._is_bytes and codec.text):
                several: list[Any] = self._load(data, codec, many=True)
            else:
                several = codec.load(data)
        except UNDECODABLE as error:
            raise from_decoder(error) from None
        except BaseException as error:  # noqa: BLE001  (raised again there)
            self._raise_as_fault(error)
        return several

    def _raise_as_fault(self, error: BaseException) -> NoReturn:
        """Raise an exception of a function of the type, which neither ends nor cancels anything."""
        fault = as_fault(error, f"{self.where}: a function of the type")
        if fault is error:
            raise error
        raise fault from error

    def _load(self, data: Encoded, codec: Codec, *, many: bool) -> Any:
        if self._is_any:
            return self._load_any(data, codec, many)
        if codec.text:
            assert type(data) is not Spliced
            return self._load_json(data, many)
        return self._load_msgpack(data, codec, many)

    def _load_any(self, data: Encoded, codec: Codec, many: bool) -> Any:
        value = codec.load(data)
        if self._is_json_only and _may_hold_bin(data) and holds_bytes(value):
            raise invalid("Bytes are no JSON value", "invalid-json-value")
        # In JSON, the decoder has refused the faults that the text alone does not show.
        if (
            not codec.text
            or type(data) is Spliced
            or has_odd_numbers(data)
            or is_json_deeper(data, self._depth + many)
        ):
            check_within(value, self._depth + many)
        return value

    def _load_json(self, data: bytes, many: bool) -> Any:
        facts = self._facts
        if facts.deep and is_json_deeper(data, self._depth + many):
            raise too_deep()
        if facts.textual and not many and len(data) > FAIL_FAST_BYTES and _BACKSLASH in data:
            # A long text with escapes, such as one of several lines, takes pydantic 1.7 ms a
            # megabyte, most of it for memory that grows step by step. It takes msgspec 0.35 ms.
            try:
                return self._validate_python(_decode(data))
            except UNDECODABLE:
                # The error shall not depend on the size of the value.
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
            raise too_deep()
        may_hold_bytes = _may_hold_bin(data)
        # pydantic checks keys declared as strings, but takes bytes for strings.
        if (
            facts.keys
            and (facts.keyed or may_hold_bytes or not facts.alike)
            and holds_odd_key(value)
        ):
            raise outside(NO_STRING_KEY)
        fail_fast = len(data) > FAIL_FAST_BYTES
        if facts.any or (facts.alike and (facts.bytes or not may_hold_bytes)):
            if self._simple and not (facts.bytes or fail_fast or many):
                return self._validate_python(value)
            return self._core.validator(
                checked=True, strict_bytes=True, fail_fast=fail_fast, many=many
            ).validate_python(value)
        # Where pydantic's python mode would differ from its JSON mode, JSON mode decides for both
        # codecs.
        if facts.floats and holds_not_finite(value):
            raise outside(NOT_FINITE)
        json_mode = self._core.validator(fail_fast=fail_fast, many=many)
        return json_mode.validate_json(msgspec.json.encode(value))

    def json_schema(self, mode: Literal["validation", "serialization"]) -> dict[str, Any]:
        """The JSON Schema of the type; empty where pydantic has none."""
        assert self._core.adapter is not None
        try:
            return self._core.adapter.json_schema(mode=mode, schema_generator=WireSchema)
        except PydanticInvalidForJsonSchema:
            return {}

    def __repr__(self) -> str:
        return f"<Adapter {self.where}: {self.annotation!r}>"


class _Attempt:
    """Sends values of a part of a type to itself."""

    __slots__ = ("_adapter", "_core")

    def __init__(self, schema: Schema) -> None:
        self._core = Core(None, Facts(schema, ""))
        self._adapter = Adapter(None, where="", core=self._core)

    def read(self, text: bytes) -> Any:
        return self._core.validator().validate_json(text)

    def send(self, value: Any) -> Iterator[Any]:
        for codec in CODECS.values():
            data = self._adapter.dump(value, codec)
            try:
                yield self._adapter.load(data, codec)
            except InvalidValue as error:
                yield error


def _approve(facts: Facts, where: str) -> None:
    refuse_what_changes(facts.schema, where, _Attempt)


def _beside(data: Encoded) -> bytes:
    """The part of the encoding to search for odd values: all but large bytes."""
    return data.rest if type(data) is Spliced else data


def _may_hold_bin(data: Encoded) -> bool:
    return type(data) is Spliced or may_hold_bin(data)


def _refuse_odd_numbers(text: bytes) -> None:
    if has_odd_numbers(text):
        try:
            value = msgspec.json.decode(text)
        except msgspec.DecodeError:
            raise ValueError(NOT_FINITE.text) from None
        if holds_wide_int(value):
            raise ValueError(WIDE_INT.text)
