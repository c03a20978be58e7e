"""Keys of a terminal, as they are pressed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Protocol

import anyio

__all__ = ["Keyboard", "keys", "polled", "pressed"]

# A key that sends several characters, such as an arrow, or any single character.
KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|.", re.DOTALL)

# Bytes that are read at a time.
MOST = 64

# Seconds between two looks at the keyboard on Windows, whose consoles cannot be waited for.
LOOK = 0.05

# Windows announces an arrow by one of the first characters; the second says which.
PREFIXES = ("\x00", "\xe0")
ARROWS = {"H": "\x1b[A", "P": "\x1b[B", "M": "\x1b[C", "K": "\x1b[D"}


class Keyboard(Protocol):
    """The part of Python's module `msvcrt` that reads keys."""

    def kbhit(self) -> bool:
        """Whether a key waits."""
        ...

    def getwch(self) -> str:
        """The next character of a key."""
        ...


@contextmanager
def keys() -> Iterator[AsyncGenerator[str, None] | None]:
    """Let stdin give each key at once; yields the keys, or None where there is no terminal."""
    if not sys.stdin.isatty():
        yield None
        return
    if sys.platform == "win32":
        import msvcrt

        yield polled(msvcrt)
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield pressed(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


async def pressed(descriptor: int) -> AsyncGenerator[str, None]:
    """Each key, as the characters that it sends; ends with stdin."""
    while True:
        await anyio.wait_readable(descriptor)
        read = os.read(descriptor, MOST)
        if not read:
            return
        for key in KEY.findall(read.decode(errors="replace")):
            yield key


async def polled(keyboard: Keyboard) -> AsyncGenerator[str, None]:
    """Each key of a console of Windows, an arrow as the characters that other terminals send."""
    while True:
        while keyboard.kbhit():
            key = keyboard.getwch()
            if key not in PREFIXES:
                yield key
            elif arrow := ARROWS.get(keyboard.getwch()):
                yield arrow
        await anyio.sleep(LOOK)
