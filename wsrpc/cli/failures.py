"""Exit codes, and the messages on stderr for each kind of failure."""

from __future__ import annotations

import ssl
import sys
import traceback
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

import typer

from ..contract.signature import near
from ..errors import ConnectError, RegistrationError, RpcError, WsrpcError
from .text import printable, to_json

__all__ = ["ExitCode", "Failure", "did_you_mean", "note", "report"]


TRUST = "  --cacert FILE trusts that authority; --insecure trusts any certificate"


class ExitCode(IntEnum):
    """The exit codes of the commands."""

    OK = 0
    REMOTE = 1
    USAGE = 2
    UNREACHABLE = 3
    INTERRUPTED = 130


class Failure(Exception):
    """Ends a command with a sentence for people.

    Args:
        message: The fault, and its cure.
        code: The exit code; wrong usage if left out.
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
    """Print a line on stderr that is no result."""
    typer.secho(printable(text), err=True, dim=True)


def report(error: Exception, *, debug: bool) -> ExitCode:
    """Print a failure on stderr.

    Args:
        error: The exception that ended the command.
        debug: Whether to show the traceback.

    Returns:
        The exit code.
    """
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, Failure):
        _say(str(error))
        return error.code
    if isinstance(error, ConnectError):
        _say(str(error))
        if isinstance(error.__cause__, ssl.SSLCertVerificationError):
            typer.echo(TRUST, err=True)
        return ExitCode.UNREACHABLE
    if isinstance(error, RpcError):
        _say_remote(error)
        for hint in getattr(error, "__notes__", ()):
            typer.echo(printable(f"  {hint}"), err=True)
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
    data = error.data if isinstance(error.data, dict) else {}
    if isinstance(data.get("errors"), list):
        # The message sums up bad arguments; one line for each reads better.
        _say(f"{error.code}: the other end does not take these arguments")
        for one in data["errors"]:
            typer.echo(printable(f"  {_argument_error(one)}"), err=True)
        return
    _say(str(error) or error.code)
    if isinstance(data.get("traceback"), str):
        # A server in debug mode sends its traceback on purpose.
        typer.echo(printable(data["traceback"].rstrip()), err=True)
    elif error.data is not None and "near" not in data:
        typer.echo(printable(f"data: {to_json(error.data)}"), err=True)


def _argument_error(error: Any) -> str:
    if not isinstance(error, dict):
        return to_json(error)
    loc = error.get("loc")
    where = ".".join(map(str, loc)) if isinstance(loc, list) else ""
    return f"{where or 'arguments'}: {error.get('msg')}"
