"""Checks that plain values, as JSON and MessagePack decode to, are within the value space.

These are the rules VALUE-1 and VALUE-2 of protocol.md, for values that no type describes. Each has
a cheap first check, which spares nearly all values the exact one.
"""

from __future__ import annotations

import datetime as dt
import re
import threading
from collections.abc import Callable, Collection, Iterator
from itertools import chain
from math import isfinite
from typing import Any, Final, TypeVar, cast

from pydantic_core import PydanticCustomError, PydanticSerializationUnexpectedValue

from ..protocol.value_space import MAX_DEPTH, MAX_INT, MIN_INT, why_outside

BYTES: Final = (bytes, bytearray, memoryview)

MOMENTS: Final = (dt.datetime, dt.time)

MINUTE: Final = dt.timedelta(minutes=1)

# The number of containers of one level from which on each is looked at only once.
MANY = 1000

T = TypeVar("T")


def check_any(value: Any) -> Any:
    """Return a value that was decoded for the type Any.

    Raises:
        PydanticCustomError: The value lies outside of the value space.
    """
    check_within(value, MAX_DEPTH)
    return value


def check_json_value(value: Any) -> Any:
    """Return a value that was decoded for a JSON value, which bytes are not.

    Raises:
        PydanticCustomError: The value lies outside of the value space, or holds bytes.
    """
    if holds_bytes(value):
        raise PydanticCustomError("invalid-json-value", "Input was not a valid JSON value")
    return check_any(value)


def check_within(value: Any, room: int) -> None:
    """Refuse a decoded value outside of the value space, or nested more than `room` deep."""
    reason = why_outside(value, room)
    if reason is not None:
        raise PydanticCustomError(*cast(Any, reason))


# --- Second looks ----------------------------------------------------------------------------------

_CONTAINERS = frozenset({dict, list, tuple})
_TYPES_OF_BYTES = frozenset(BYTES)
_TYPES_OF_TEXT = frozenset({str})
_TYPES_OF_MOMENTS = frozenset(MOMENTS)


def _inside(container: Any) -> Collection[Any]:
    values: Collection[Any] = container.values() if type(container) is dict else container
    return values


def _leaves(value: Any, wanted: frozenset[type]) -> Iterator[Any]:
    """The leaves with these types in a plain value.

    Types are compared in bulk, which takes a third of the time.
    """
    level: list[Collection[Any]] = [(value,)]
    while level:
        next_level: list[Collection[Any]] = []
        for values in level:
            kinds = set(map(type, values))
            if not kinds.isdisjoint(wanted):
                yield from (one for one in values if type(one) in wanted)
            if not kinds.isdisjoint(_CONTAINERS):
                next_level += [_inside(one) for one in values if type(one) in _CONTAINERS]
        level = next_level


def holds_not_finite(value: Any) -> bool:
    """Whether there is a NaN or an infinity in a plain value."""
    return not all(map(isfinite, _leaves(value, frozenset({float}))))


def holds_wide_int(value: Any) -> bool:
    """Whether there is an integer of more than 64 bits in a plain value."""
    return not all(MIN_INT <= one <= MAX_INT for one in _leaves(value, frozenset({int})))


def holds_bytes(value: Any) -> bool:
    """Whether there are bytes in a plain value."""
    return any(True for _ in _leaves(value, _TYPES_OF_BYTES))


def holds_odd_key(value: Any) -> bool:
    """Whether an object in a plain value has a key that is no string."""
    return not all(
        set(map(type, one)) <= _TYPES_OF_TEXT for one in _leaves(value, frozenset({dict}))
    )


def dicts_with_odd_keys(value: Any) -> list[dict[Any, Any]]:
    """The dicts with keys that are no strings, in lists, tuples and dicts however deep.

    A value that has yet to be encoded may hold itself: the search goes no deeper than values may be
    nested.
    """
    if type(value) not in _CONTAINERS:
        return []
    found: list[dict[Any, Any]] = []
    level = [value]
    for _ in range(MAX_DEPTH):
        dicts = [one for one in level if type(one) is dict]
        # All keys of a level at once, which takes a fifth of the time.
        if not set(map(type, chain.from_iterable(dicts))) <= _TYPES_OF_TEXT:
            found += [one for one in dicts if not set(map(type, one)) <= _TYPES_OF_TEXT]
        values = chain.from_iterable(map(dict.values, dicts))
        items = chain.from_iterable(one for one in level if type(one) is not dict)
        level = [one for one in chain(values, items) if type(one) in _CONTAINERS]
        if not level:
            break
        if len(level) > MANY:
            level = list({id(one): one for one in level}.values())
    return found


def is_deeper(value: Any, limit: int) -> bool:
    """Whether a plain value is nested more than `limit` deep."""
    level = [value] if type(value) in _CONTAINERS else []
    for _ in range(limit):
        level = [
            one
            for parent in level
            if not _CONTAINERS.isdisjoint(map(type, _inside(parent)))
            for one in _inside(parent)
            if type(one) in _CONTAINERS
        ]
    return bool(level)


# --- The same for JSON texts -----------------------------------------------------------------------

_TO_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(range(256)).translate(None, b"[]{}")
_TO_NUMBER_SHAPES = bytes.maketrans(b"123456789E", b"000000000e")


def is_json_deeper(text: bytes, limit: int) -> bool:
    """Whether a JSON text is nested more than `limit` deep."""
    if len(text) < 2 * limit or not _has_many_brackets(text, limit):
        return False
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside_strings = b"".join(text.split(b'"')[::2])
    brackets = outside_strings.translate(_TO_BRACKETS, _NOT_BRACKETS)
    for _ in range(limit):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _has_many_brackets(text: bytes, limit: int) -> bool:
    if len(text) < 16_384:
        return text.count(b"[") + text.count(b"{") > limit
    # Counting takes half a millisecond a megabyte; finding the few brackets that there may be takes
    # a fiftieth of that.
    for bracket in b"[{":
        at = text.find(bracket)
        while at >= 0:
            limit -= 1
            if limit < 0:
                return True
            at = text.find(bracket, at + 1)
    return False


def has_odd_numbers(text: bytes) -> bool:
    """Whether a JSON text may hold an integer of more than 64 bits, 1e999 or the bare word NaN."""
    shapes = text.translate(_TO_NUMBER_SHAPES, b"+")
    return b"0000000000000000000" in shapes or b"e000" in shapes or may_say_nan(text)


# A membership test for a number is a memchr, and costs a fifth of one for bytes.
_N, _I = b"NI"


def may_say_nan(text: bytes) -> bool:
    """Whether a JSON text may hold NaN or Infinity, bare or in a string."""
    return (_N in text and b"NaN" in text) or (_I in text and b"Infinity" in text)


_BIN_8, _BIN_16, _BIN_32 = b"\xc4\xc5\xc6"


def may_hold_bin(data: bytes) -> bool:
    """Whether an encoding in MessagePack may hold bytes."""
    return _BIN_8 in data or _BIN_16 in data or _BIN_32 in data


_NOT_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")


def may_hold_not_finite(data: bytes) -> bool:
    """Whether an encoding in MessagePack, made here, may hold a NaN or an infinity."""
    return (0x7F in data or 0xFF in data) and _NOT_FINITE.search(data) is not None


def may_hold_replaced(data: bytes) -> bool:
    """Whether an encoding may hold U+FFFD, with which pydantic replaces lone surrogates in keys."""
    return 0xEF in data and b"\xef\xbf\xbd" in data


# --- Stand-ins for bytes ---------------------------------------------------------------------------

# pydantic's JSON mode, which all other values need, cannot leave bytes alone for MessagePack. So
# bytes wait aside, and a short string passes through it in their place. The string begins with a
# lone surrogate, as no legal string does.
_MARK = "\udc80"


class _Aside(threading.local):
    """Values that functions called by pydantic put aside, in this thread.

    Attributes:
        values: Bytes, each in the place that its stand-in names.
        refused: The reason why the last moment was refused. It is no exception, which would hold
            the value.
    """

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.refused: str | None = None


_aside = _Aside()


# --- Moments ---------------------------------------------------------------------------------------


def whole_minutes(value: Any) -> Any:
    """A datetime or a time whose text says all of it.

    Raises:
        ValueError: Its offset from UTC has seconds, as many zones had in the 19th century. The text of
            an offset has minutes only (RFC 3339, section 4.2), and would be another moment.
    """
    if isinstance(value, MOMENTS):
        offset = value.utcoffset()
        if offset is not None and offset % MINUTE:
            _aside.refused = (
                f"the offset of {value.isoformat()} from UTC has seconds, which do not travel: "
                "convert it, for example by .astimezone(datetime.timezone.utc)"
            )
            raise ValueError(_aside.refused)
    return value


def with_whole_minutes(serialize: Callable[[], T]) -> T:
    """The result of `serialize`.

    Raises:
        ValueError: `whole_minutes` refused a moment in a union. pydantic takes that for a choice that
            does not fit, and may write the moment by its run-time type instead.
    """
    _aside.refused = None
    try:
        result = serialize()
    except Exception:
        if _aside.refused is None:
            raise
    else:
        if _aside.refused is None:
            return result
    raise ValueError(_aside.refused)


def check_moments(plain: Any) -> None:
    """Refuse moments of which `whole_minutes` refuses one, in a value that is plain but for these."""
    for one in _leaves(plain, _TYPES_OF_MOMENTS):
        whole_minutes(one)
    for one in _leaves(plain, frozenset({dict})):
        for key in one:
            whole_minutes(key)


# An offset of less than half a minute is written as that of UTC.
_OFFSET = re.compile(rb":\d\d(?:\.\d+)?(?:[+-]\d\d:\d\d|Z)")


def may_say_offset(data: bytes) -> bool:
    """Whether an encoding may hold the text of a moment with an offset from UTC."""
    return (0x2B in data or 0x2D in data or 0x5A in data) and _OFFSET.search(data) is not None


# The key of an object in JSON, or a text in MessagePack, that may have been a number or a date.
_NUMBER = re.compile(rb'"-?\d[^"]*":|[\xa1-\xbf]-?\d')


def may_have_changed(data: bytes) -> bool:
    """Whether an encoding may hold the text of a moment with an offset, or a key that was a number."""
    return _NUMBER.search(data) is not None or may_say_offset(data)


def stand_in(value: bytes | bytearray | memoryview) -> str:
    """A string in place of bytes; only while `with_bytes` runs.

    Raises:
        PydanticSerializationUnexpectedValue: The value is no bytes; in a union, pydantic tries the
            next type.
    """
    if not isinstance(value, BYTES):
        raise PydanticSerializationUnexpectedValue(f"Expected bytes, not {type(value).__name__}")
    values = _aside.values
    values.append(bytes(value))
    return f"{_MARK}{len(values) - 1}"


def with_bytes(function: Callable[[], Any]) -> Any:
    """The plain value that `function` returns, with bytes in place of their stand-ins."""
    values = _aside.values
    before = len(values)
    try:
        plain = function()
        return plain if len(values) == before else _replaced(plain, _TYPES_OF_TEXT, _bytes_again)
    finally:
        del values[before:]


def protected(value: Any) -> Any:
    """A plain value with stand-ins in place of bytes."""
    return _replaced(value, _TYPES_OF_BYTES, stand_in)


def _bytes_again(text: str) -> Any:
    return _aside.values[int(text[1:])] if text[:1] == _MARK else text


def _replaced(value: Any, wanted: frozenset[type], function: Callable[[Any], Any]) -> Any:
    kind = type(value)
    if kind in wanted:
        return function(value)
    if kind not in _CONTAINERS:
        return value
    kinds = set(map(type, _inside(value)))
    if kinds.isdisjoint(wanted) and kinds.isdisjoint(_CONTAINERS):
        return value
    if kind is dict:
        return {key: _replaced(one, wanted, function) for key, one in value.items()}
    return [_replaced(one, wanted, function) for one in value]
