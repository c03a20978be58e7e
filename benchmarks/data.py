"""The values that travel: one small model, one large text and large bytes, the same for every peer."""

import random
from typing import Any

_LINE = "The quick brown fox jumps over the lazy dog, and 64 others look on.\n"
MEBIBYTE = 1024 * 1024

TEXT = (_LINE * (MEBIBYTE // len(_LINE) + 1))[:MEBIBYTE]
"""1 MiB of ASCII prose, a newline every 68 characters."""

BLOB = random.Random(0).randbytes(MEBIBYTE)
"""1 MiB of bytes without a pattern."""


def point(number: int) -> dict[str, Any]:
    """The small model number ``number``: an int, a float and a short text, as a plain dict."""
    return {"x": number, "y": number * 0.5, "label": f"point {number}"}
