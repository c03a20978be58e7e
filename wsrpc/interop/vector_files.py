"""The protocol as data, for implementations in any language (protocol.md, Vectors).

People write the files from protocol.md's text; nothing generates them from code. This module only
reads them, and shares no code with the rest of the package.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any, Literal, TypeAlias

__all__ = ["Name", "expand", "fits", "load"]

Name: TypeAlias = Literal["frames", "conversations", "refused"]


def load(name: Name) -> list[dict[str, Any]]:
    """The vectors of one file, as they stand."""
    found: list[dict[str, Any]] = json.loads(
        (files("wsrpc.interop") / "vectors" / f"{name}.json").read_text("utf-8")
    )
    return found


def expand(value: Any, *, text: bool) -> Any:
    """A value with its stand-ins replaced.

    Args:
        value: As it stands in a file.
        text: Whether pieces of chunks are strings, as in JSON, or bytes.
    """
    if isinstance(value, list):
        return [expand(one, text=text) for one in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"$text"}:
        what, times = value["$text"]
        return what * times
    if set(value) == {"$piece"}:
        what, times = value["$piece"]
        return what * times if text else what.encode() * times
    if set(value) == {"bytes"}:
        data = bytes.fromhex(value["bytes"])
        return data.decode() if text else data
    return {key: expand(one, text=text) for key, one in value.items()}


def fits(shown: Any, came: Any) -> bool:
    """Whether a frame that came is the one shown.

    `"<…>"` stands for any value; objects may have more fields, and frames more elements.
    """
    if isinstance(shown, str) and re.fullmatch(r"<.*>", shown):
        return True
    if isinstance(shown, dict) and isinstance(came, dict):
        return all(fits(value, came.get(key)) for key, value in shown.items())
    if isinstance(shown, list) and isinstance(came, list):
        return len(came) >= len(shown) and all(map(fits, shown, came))
    return type(shown) is type(came) and bool(shown == came)
