"""The value space (protocol.md, VALUE-1 and VALUE-2): its bounds, and texts for values outside.

The core and the types of users have the same bounds, and use the same texts for values that they
refuse.
"""

from __future__ import annotations

from collections.abc import Collection
from math import isfinite
from typing import Any, Final, NamedTuple

__all__ = [
    "MAX_DEPTH",
    "MAX_INT",
    "MIN_INT",
    "NOT_FINITE",
    "NO_STRING_KEY",
    "TOO_DEEP",
    "WIDE_INT",
    "Reason",
    "why_outside",
]

MAX_DEPTH: Final = 100
MIN_INT: Final = -(2**63)
MAX_INT: Final = 2**64 - 1


class Reason(NamedTuple):
    """The reason why an object is outside the value space.

    Attributes:
        kind: One word for programs, as pydantic's types of errors are.
        text: The sentence that a person reads.
    """

    kind: str
    text: str


NOT_FINITE: Final = Reason("finite_number", "NaN and Infinity cannot travel")
WIDE_INT: Final = Reason("int_range", "Integers go from -2**63 to 2**64 - 1")
TOO_DEEP: Final = Reason("too_deep", f"Nested more than {MAX_DEPTH} deep")
NO_STRING_KEY: Final = Reason("string_key", "The keys of an object are strings")


def why_outside(value: Any, room: int = MAX_DEPTH, *, bytes: bool = True) -> Reason | None:
    """The reason why an object is outside the value space.

    None for a value. A string that is not well-formed Unicode is left to the encoder or decoder.

    Args:
        value: An object of the types that JSON and MessagePack decode to; any other type is
            refused.
        room: Levels of arrays and objects that it may have.
        bytes: Whether bytes are values; they are none in JSON.
    """
    return _why_one_of_them_is((value,), room, bytes)


def _why_one_of_them_is(values: Collection[Any], room: int, with_bytes: bool) -> Reason | None:
    for value in values:
        kind = type(value)
        if kind is str or kind is bool or value is None:
            continue
        if kind is int:
            if not MIN_INT <= value <= MAX_INT:
                return WIDE_INT
        elif kind is float:
            if not isfinite(value):
                return NOT_FINITE
        elif kind is list or kind is dict:
            if room <= 0:
                return TOO_DEEP
            if kind is dict:
                if not set(map(type, value)) <= {str}:
                    return NO_STRING_KEY
                value = value.values()
            reason = _why_one_of_them_is(value, room - 1, with_bytes)
            if reason is not None:
                return reason
        elif kind is not bytes or not with_bytes:
            return Reason("no_value", f"{kind.__name__} is no kind of value")
    return None
