"""Exit codes, and what each kind of trouble looks like on stderr."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

import typer

from ..errors import ConnectError, RegistrationError, RpcError, WsrpcError
from ..signature import near
from .text import printable, to_json

__all__ = ["ExitCode", "Failure", "did_you_mean", "note", "report"]


class ExitCode(IntEnum):
    """What the commands exit with."""

    OK = 0
    REMOTE = 1
    USAGE = 2
    UNREACHABLE = 3
    INTERRUPTED = 130


class Failure(Exception):
    """Ends a command with a sentence for people.

    Args:
        message: What is wrong, and what to do about it.
        code: What to exit with; wrong usage unless said otherwise.
    """

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.code = code


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """The end of a sentence that says there is no `name`: near names, or else all of them."""
    known = list(candidates)
    close = near(name, known)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    if not known:
        return "; there are none"
    listed = ", ".join(known[:8])
    return f"; there is {listed}{' and more' if len(known) > 8 else ''}"


def note(text: str) -> None:
    """Say something that is no result."""
    typer.secho(printable(text), err=True, dim=True)


def report(error: Exception, *, debug: bool) -> ExitCode:
    """Say on stderr what went wrong.

    Args:
        error: What ended the command.
        debug: Whether to show the traceback.

    Returns:
        What to exit with.
    """
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, Failure):
        _say(str(error))
        return error.code
    if isinstance(error, ConnectError):
        _say(str(error))
        return ExitCode.UNREACHABLE
    if isinstance(error, RpcError):
        _say_remote(error)
        return ExitCode.REMOTE
    if isinstance(error, RegistrationError):
        _say(str(error))
        return ExitCode.USAGE
    hint = "" if debug or isinstance(error, WsrpcError) else " (--debug shows the traceback)"
    _say(f"{type(error).__name__}: {error}{hint}")
    return ExitCode.REMOTE


def _say(text: str) -> None:
    typer.echo(typer.style("wsrpc: ", fg="red", bold=True) + printable(text), err=True)


def _say_remote(error: RpcError[Any]) -> None:
    _say(str(error) or error.code)
    data = error.data
    if data is None:
        return
    if isinstance(data, dict) and isinstance(data.get("traceback"), str):
        # A server in debug mode shows its own; that is what was asked for there.
        typer.echo(printable(data["traceback"].rstrip()), err=True)
        return
    typer.echo(f"data: {printable(to_json(data))}", err=True)
