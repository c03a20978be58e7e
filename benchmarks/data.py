"""What travels: one small model and one large text, the same for every peer."""

from typing import Any

_LINE = "The quick brown fox jumps over the lazy dog, and 64 others look on.\n"
_MEBIBYTE = 1024 * 1024

TEXT = (_LINE * (_MEBIBYTE // len(_LINE) + 1))[:_MEBIBYTE]
"""1 MiB of ASCII prose, a newline every 68 characters."""


def point(number: int) -> dict[str, Any]:
    """The small model number ``number``: an int, a float and a short text, as a plain dict."""
    return {"x": number, "y": number * 0.5, "label": f"point {number}"}
