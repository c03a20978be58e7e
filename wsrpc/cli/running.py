"""Runs a command's body, with exit codes and Ctrl-C, and without tracebacks."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import anyio
import typer

from .failures import ExitCode, note, report
from .output import ReaderGone

__all__ = ["run"]


def run(
    body: Callable[[], Awaitable[int | None]],
    *,
    debug: bool = False,
    cancelled: str = "interrupted",
    stops: bool = False,
) -> NoReturn:
    """Run `body` to its end and exit with the right code.

    The first Ctrl-C cancels it, so that it can tell the other end; the second does not wait.

    Args:
        body: The command; it may return an exit code.
        debug: Whether to show tracebacks.
        cancelled: The message at the first Ctrl-C.
        stops: Whether SIGTERM does the same, and is the regular end of the command: exit code 0.

    Raises:
        typer.Exit: Always.
    """
    try:
        code = anyio.run(_guarded, body, cancelled, stops)
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except ReaderGone:
        code = ExitCode.OK
    except Exception as error:  # noqa: BLE001  (it is reported, on one line)
        code = report(_only_leaf(error), debug=debug)
    raise typer.Exit(code)


async def _guarded(body: Callable[[], Awaitable[int | None]], cancelled: str, stops: bool) -> int:
    caught: list[int] = []
    with anyio.CancelScope() as scope:
        with _interrupting(scope, cancelled, stops, caught):
            try:
                code = await body() or ExitCode.OK
            except Exception:
                # A terminal also interrupts the processes that a command started; errors from their
                # end are no news.
                if not caught:
                    raise
                code = ExitCode.INTERRUPTED
            if not caught:
                return code
    return _code_after(caught)


def _code_after(caught: list[int]) -> int:
    return ExitCode.INTERRUPTED if signal.SIGINT in caught else ExitCode.OK


@contextmanager
def _interrupting(
    scope: anyio.CancelScope, cancelled: str, stops: bool, caught: list[int]
) -> Iterator[None]:
    """Cancel `scope` at the first signal, which is put into `caught`; exit at the second."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def first() -> None:
        note(cancelled)
        scope.cancel()

    def handle(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        if len(caught) > 1:
            for stream in (sys.stdout, sys.stderr):
                if stream.isatty():
                    # A live display hides the cursor.
                    os.write(stream.fileno(), b"\x1b[?25h\n")
                    break
            os._exit(_code_after(caught))
        loop.call_soon_threadsafe(first)

    numbers = (signal.SIGINT, signal.SIGTERM) if stops else (signal.SIGINT,)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        # After the first interrupt the command is ending; a second one still exits at once.
        if not caught:
            for number, handler in before.items():
                signal.signal(number, handler)


def _only_leaf(error: Exception) -> Exception:
    """The one exception in a group of groups, or the group itself."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
