"""The text that the demo sends to and fro: real, and the same in both processes."""

from __future__ import annotations

import re
from pathlib import Path

import wsrpc

__all__ = ["read", "source", "tokens_of"]

_PACKAGE = Path(wsrpc.__file__).parent
_TOKEN = re.compile(r"\s*\S+|\s+")


def source() -> Path:
    """protocol.md of a checkout; in an installation, which has none, a module of the package."""
    protocol = _PACKAGE.parent / "protocol.md"
    return protocol if protocol.is_file() else _PACKAGE / "protocol" / "endpoint.py"


def read() -> str:
    """The text, with the line ends that the file has."""
    return source().read_bytes().decode()


def tokens_of(text: str) -> list[str]:
    """The words of `text`, each with the space before it; joined they are the text."""
    return _TOKEN.findall(text)
