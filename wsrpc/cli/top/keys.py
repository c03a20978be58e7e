"""Keys of a terminal, as they are pressed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import anyio

__all__ = ["keys", "pressed"]

# A key that sends several characters, such as an arrow, or any single character.
KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|.", re.DOTALL)

# Bytes that are read at a time.
MOST = 64


@contextmanager
def keys() -> Iterator[int | None]:
    """Let stdin give each key at once; yields its descriptor, or None where it cannot."""
    try:
        import termios
        import tty
    except ImportError:
        # Windows: Ctrl-C ends the command all the same.
        yield None
        return
    if not sys.stdin.isatty():
        yield None
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


async def pressed(descriptor: int) -> AsyncIterator[str]:
    """Each key, as the characters that it sends; ends with stdin."""
    while True:
        await anyio.wait_readable(descriptor)
        read = os.read(descriptor, MOST)
        if not read:
            return
        for key in KEY.findall(read.decode(errors="replace")):
            yield key
