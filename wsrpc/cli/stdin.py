"""Standard input, or a file, as the items of an upload."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NoReturn

from .failures import Failure
from .worker import Worker

__all__ = ["items_of_file", "items_of_stdin", "load_json"]

READ = 64 * 1024
MAX_LINE = 16 * 1024 * 1024


def load_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: It is no JSON; the message tells the place.
    """

    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is not JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg.lower()} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("it is nested too deep") from None


async def items_of_stdin(*, text: bool) -> AsyncIterator[Any]:
    """The lines of standard input, one item each; a line is read only when it is asked for.

    Args:
        text: Whether a line itself is an item; otherwise lines are JSON, and blank ones are
            skipped.

    Raises:
        Failure: A line is no JSON, or no UTF-8.
    """
    async for item in _items(_lines(_read, "standard input"), "standard input", text=text):
        yield item


async def items_of_file(path: Path, *, text: bool, raw: bool) -> AsyncIterator[Any]:
    """The lines of a file, one item each; or its bytes in pieces, where the items are bytes.

    Args:
        path: The file.
        text: Whether a line itself is an item; otherwise lines are JSON.
        raw: Whether the items are bytes.

    Raises:
        Failure: The file cannot be read, or a line is no JSON, or no UTF-8.
    """
    try:
        with path.open("rb") as file:
            if raw:
                worker = Worker()
                while data := await worker.run(file.read, READ):
                    yield data
                return
            lines = _lines(lambda: file.read(READ), str(path))
            async for item in _items(lines, str(path), text=text):
                yield item
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror or error}") from None


async def _items(lines: AsyncIterator[bytes], where: str, *, text: bool) -> AsyncIterator[Any]:
    number = 0
    async for raw in lines:
        number += 1
        try:
            line = raw.decode()
        except UnicodeDecodeError:
            raise Failure(f"{where}, line {number}: not UTF-8") from None
        if text:
            yield line
        elif line.strip():
            try:
                item = load_json(line)
            except ValueError as error:
                raise Failure(
                    f"{where}, line {number} is not JSON: {error}; each line is one "
                    "value (--raw-input takes lines as text)"
                ) from None
            yield item


async def _lines(read: Callable[[], bytes], where: str) -> AsyncIterator[bytes]:
    worker = Worker()
    rest = b""
    while chunk := await worker.run(read):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")
        if len(rest) > MAX_LINE:
            raise Failure(f"{where}: a line is longer than {MAX_LINE} bytes")
    if rest:
        yield rest


def _read() -> bytes:
    # This reads past the buffer of sys.stdin, whose lock must be free when the interpreter ends.
    try:
        descriptor = sys.stdin.fileno()
    except (OSError, ValueError, AttributeError):
        return sys.stdin.buffer.read(READ) if sys.stdin is not None else b""
    return os.read(descriptor, READ)
