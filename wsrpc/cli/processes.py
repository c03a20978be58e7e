"""Python processes that commands run: starting them, reading their output, stopping them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import IO

import anyio
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

__all__ = ["ended", "lines_of", "listening", "python"]

START_TIMEOUT = 20
STOP_TIMEOUT = 5


@asynccontextmanager
async def python(arguments: Sequence[str], log: IO[bytes] | None) -> AsyncIterator[Process]:
    """Run a Python process, which is asked to stop on leaving, and killed if it does not.

    Args:
        arguments: The arguments of Python, as in `python -m …`.
        log: Takes its stderr; None: the stderr of this process.
    """
    process = await anyio.open_process(
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"},
    )
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            await _stop(process)


async def lines_of(process: Process) -> AsyncIterator[str]:
    """The output of a process, line by line, as it comes."""
    assert process.stdout is not None
    rest = ""
    async for chunk in TextReceiveStream(process.stdout):
        *lines, rest = (rest + chunk).split("\n")
        for line in lines:
            yield line


async def listening(process: Process) -> str | None:
    """The URL that a server process prints, or None if it ends or takes too long."""
    with anyio.move_on_after(START_TIMEOUT):
        async for line in lines_of(process):
            word, _, url = line.partition(" ")
            if word == "listening":
                return url
    return None


async def ended(process: Process) -> None:
    """Wait for a process that has closed its stdout, and so ends by itself."""
    with anyio.move_on_after(STOP_TIMEOUT):
        await process.wait()


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        await ended(process)
    if process.returncode is None:
        process.kill()
    await process.wait()
    await process.aclose()
