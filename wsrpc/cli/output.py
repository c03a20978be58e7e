"""Results on stdout: plain JSON for programs, colours for people."""

from __future__ import annotations

import os
import select
import sys
from typing import Any

from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.text import Text

from .text import printable, to_json
from .worker import Worker

__all__ = ["Output", "ReaderGone"]

# Bytes that a ready pipe takes without blocking.
PIPE_ROOM = getattr(select, "PIPE_BUF", 512)


class ReaderGone(Exception):
    """The reader of stdout has closed it."""


class Output:
    """Writes results to stdout, each flushed, without holding up the event loop.

    A reader that pauses (`| less`) pauses the stream, not the connection.
    """

    def __init__(self) -> None:
        # On a terminal rich colours the text; elsewhere it adds neither colours nor line breaks.
        self._console = Console(file=sys.stdout, soft_wrap=True, highlight=False)
        self._tty = sys.stdout.isatty()
        self._worker = Worker()

    async def value(self, value: Any) -> None:
        """Write the value of a call: on a terminal over several lines, else on one."""
        await self._json(value, 2 if self._tty else None)

    async def item(self, value: Any) -> None:
        """Write one item of a stream, on one line."""
        await self._json(value, None)

    async def document(self, value: Any) -> None:
        """Write a JSON document that people keep in a file: always over several lines."""
        await self._json(value, 2)

    async def text(self, text: Text) -> None:
        """Write a line of text."""
        if self._tty:
            self._console.print(text)
        else:
            await self._write(f"{text.plain}\n")

    async def _json(self, value: Any, indent: int | None) -> None:
        encoded = to_json(value, indent=indent)
        if self._tty:
            self._console.print(JSONHighlighter()(Text(printable(encoded))))
        else:
            await self._write(f"{encoded}\n")

    async def _write(self, text: str) -> None:
        data = text.encode(errors="backslashreplace")
        try:
            if len(data) <= PIPE_ROOM and _ready():
                _write_all(data)
            else:
                await self._worker.run(_write_all, data)
        except BrokenPipeError:
            _discard_the_rest()
            raise ReaderGone from None


def _ready() -> bool:
    """Whether stdout takes a little right now."""
    try:
        return bool(select.select([], [sys.stdout], [], 0)[1])
    except (OSError, ValueError):
        # Its state is unknown: it is no file of the operating system, or the system is not POSIX.
        return True


def _write_all(data: bytes) -> None:
    # This writes past the buffer of sys.stdout, whose lock must be free when the interpreter ends.
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _discard_the_rest() -> None:
    """Let the interpreter's own last flush of stdout succeed."""
    try:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
        os.close(sink)
    except (OSError, ValueError):
        return
