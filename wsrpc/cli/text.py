"""Values and foreign text in a form that is safe for a terminal or a pipe."""

from __future__ import annotations

import base64
import json
from typing import Any

from ..stream import Tracked

__all__ = ["printable", "sayable", "shortened", "to_json"]


def to_json(value: Any, *, indent: int | None = None) -> str:
    """`value` as JSON; bytes, which MessagePack carries as such, in base64url."""
    return json.dumps(value, ensure_ascii=False, indent=indent, default=_plain, allow_nan=False)


def _plain(value: object) -> Any:
    if isinstance(value, Tracked):
        return [value.id, value.value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.urlsafe_b64encode(bytes(value)).decode()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def sayable(value: Any) -> Any:
    """A value, or its Python form where JSON has none for it (NaN)."""
    try:
        to_json(value)
    except (ValueError, TypeError):
        return repr(value)
    return value


def shortened(text: str, most: int) -> str:
    """A text, cut if it has more than `most` characters, with its full length."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def printable(text: str) -> str:
    """`text` with control characters escaped: foreign text must not control a terminal."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in "\n\t" else f"\\u{ord(one):04x}" for one in text
    )
