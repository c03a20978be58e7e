"""The log of the package, without text of strangers, and with bounded rates.

All records go to the logger `wsrpc`. A record's message is one line that names the method, the
session and the error id. The exception itself is the record's `exc_info`. The record has the
attributes `session`, `method`, `call_id`, `error_id`, `code` and `peer`, None where they are not
known, for handlers for JSON, Sentry or OpenTelemetry. `telemetry.log_formats` makes lines of
records. The texts of a peer, in its errors and in the reasons of its close frames, are left out.

A handler, a filter or a record factory that raises changes nothing for sessions and callers: its
failure goes to stderr, as Python's own handlers do it.

Beyond 5 records a second of a session, and 50 of the process, records are only counted, and the
next one tells the count. Records at DEBUG have bounds of their own, twenty times as high: they are
there only if a person asked for them, and must not suppress the others. A record with an error id
is never left out, since a caller has that id and will ask about it; beyond the bound it has no
traceback.
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress
from time import monotonic
from typing import TypedDict, Unpack
from weakref import ref

from pydantic import ValidationError

from ..errors import ConnectError, ConnectionLost, RpcError
from ..interfaces import Session
from ..protocol.rates import Bucket
from ..runtime import current
from ..runtime.by_hand import text_of

__all__ = ["DEBUGGING", "FIELDS", "Fields", "Log", "everyone", "named", "one_line"]

logger = logging.getLogger("wsrpc")

DEBUGGING = (
    "DEBUG MODE IS ON: %s(debug=True) sends the text and the traceback of unexpected errors to "
    "callers; never use it where strangers can call"
)

# Lines for each second.
OF_A_SESSION = 5
OF_THE_PROCESS = 50

# Lines at DEBUG for each line of the others.
DEBUG_TIMES = 20

# Characters of a line.
LONGEST = 16 * 1024

# Exceptions in one record: causes, and members of groups.
MOST_ERRORS = 16


class Fields(TypedDict, total=False):
    """The fields of a record besides its message."""

    session: str
    method: str
    call_id: int
    error_id: str
    code: str | int
    peer: str


FIELDS = tuple(Fields.__annotations__)


class _Tap:
    """The lines that the process may still log, and the number of those left out."""

    def __init__(self) -> None:
        self._bucket = Bucket(OF_THE_PROCESS, OF_THE_PROCESS)
        most = OF_THE_PROCESS * DEBUG_TIMES
        self._debugging = Bucket(most, most)
        self.suppressed = 0

    def opens(self, own: Bucket, now: float, *, debug: bool) -> bool:
        return own.take(now) and (self._debugging if debug else self._bucket).take(now)


_tap = _Tap()


class Log:
    """The log of one session, or of the process.

    Args:
        session: The session.
        rate: Lines for each second, and at once.
    """

    __slots__ = ("_bucket", "_debugging", "_rate", "_session")

    def __init__(self, session: Session | None = None, *, rate: int = OF_A_SESSION) -> None:
        self._rate = rate
        # A weak reference: the session holds this object, and must not be kept alive by it.
        self._session = None if session is None else ref(session)
        # Most sessions never log a line.
        self._bucket: Bucket | None = None
        self._debugging: Bucket | None = None

    def _may_speak(self, level: int, now: float) -> bool:
        if level > logging.DEBUG:
            self._bucket = own = self._bucket or Bucket(self._rate, self._rate)
        else:
            most = self._rate * DEBUG_TIMES
            self._debugging = own = self._debugging or Bucket(most, most)
        return _tap.opens(own, now, debug=level <= logging.DEBUG)

    def debug(self, message: str, *args: object, **fields: Unpack[Fields]) -> None:
        self._say(logging.DEBUG, message, args, fields)

    def info(self, message: str, *args: object, **fields: Unpack[Fields]) -> None:
        self._say(logging.INFO, message, args, fields)

    def warning(self, message: str, *args: object, **fields: Unpack[Fields]) -> None:
        self._say(logging.WARNING, message, args, fields)

    def error(
        self,
        message: str,
        *args: object,
        error: BaseException | None = None,
        secret: bool = False,
        **fields: Unpack[Fields],
    ) -> None:
        """Log a failure.

        Args:
            message: The text, with placeholders for `args`.
            *args: The values for the placeholders.
            error: The exception.
            secret: Whether the error's text may hold a credential. Then only its class and its
                traceback are logged.
            **fields: The known fields of the call.
        """
        self._say(logging.ERROR, message, args, fields, error, secret)

    def _say(
        self,
        level: int,
        message: str,
        args: tuple[object, ...],
        fields: Fields,
        error: BaseException | None = None,
        secret: bool = False,
    ) -> None:
        if not logger.isEnabledFor(level):
            return
        try:
            self._write(level, message, args, fields, error, secret)
        except KeyboardInterrupt:
            if not _interrupts():
                raise
        except BaseException as failure:  # noqa: BLE001  (a line of the log affects nothing else)
            _report(failure)

    def _write(
        self,
        level: int,
        message: str,
        args: tuple[object, ...],
        fields: Fields,
        error: BaseException | None,
        secret: bool,
    ) -> None:
        whole = self._may_speak(level, monotonic())
        if not whole and "error_id" not in fields:
            _tap.suppressed += 1
            return
        text = one_line(message % args)
        if error is not None:
            text = f"{text}: {named(error)}"
        if whole and _tap.suppressed:
            text = f"{text} ({_tap.suppressed} lines before this one were suppressed)"
            _tap.suppressed = 0
        told = None if error is None or not whole else _tellable(error, secret=secret)
        logger.log(
            level,
            "%s",
            text,
            exc_info=told,
            stacklevel=4,
            extra={**dict.fromkeys(FIELDS), **self._known(), **_cleaned(fields)},
        )

    def _known(self) -> Fields:
        """The known fields of the session."""
        session = None if self._session is None else self._session()
        if session is None:
            return {}
        known: Fields = {"session": one_line(session.id[:64])}
        # There is no address before the first connection, and none of a client at a Unix socket.
        if session.handshake.remote:
            known["peer"] = one_line(session.handshake.remote)
        return known


def _interrupts() -> bool:
    """Pass an interruption on to the code that ends the process; see `Runtime.interrupt`."""
    try:
        return current().interrupt()
    except RuntimeError:
        # No event loop runs in this thread.
        return False


# Reports for each second of lines that could not be logged.
_reports = Bucket(1, 1)


def _report(failure: BaseException) -> None:
    """Say on stderr that a line could not be logged, as `logging.Handler.handleError` does."""
    if not logging.raiseExceptions or not _reports.take(monotonic()):
        return
    # It may be closed, or missing, and the failure's text may raise as well.
    with suppress(Exception):
        lines = "".join(traceback.format_exception(failure)).rstrip().split("\n")
        text = "\n".join(one_line(line) for line in lines)
        print(f"--- wsrpc could not write a line of its log ---\n{text}", file=sys.stderr)


def _cleaned(fields: Fields) -> dict[str, object]:
    return {
        key: one_line(value) if isinstance(value, str) else value for key, value in fields.items()
    }


# The log for events outside of sessions: connections that begin, and the server itself.
everyone = Log(rate=OF_THE_PROCESS)


def one_line(text: str) -> str:
    """`text` as it may stand in a log: bounded, and without line breaks and control characters."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")


def named(error: BaseException) -> str:
    """The name of an error's class, with its module where that is not Python's own."""
    kind = type(error)
    module = kind.__module__
    name = kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
    return one_line(name)


# --------------------------------------------------------------------- errors as they may be told


def _tellable(error: BaseException, *, secret: bool) -> BaseException:
    """The error, or a likeness of it if it or a cause has a text that must not be logged."""
    chain: list[BaseException] = []
    todo = [error]
    while todo and len(chain) < MOST_ERRORS:
        one = todo.pop(0)
        if any(one is other for other in chain):
            continue
        chain.append(one)
        todo += _led_to(one)
    if not secret and not any(_says_too_much(one) for one in chain):
        return error
    return _Likenesses(chain, secret).of(error)


def _led_to(error: BaseException) -> list[BaseException]:
    """The members of a group, and the cause."""
    found: list[BaseException] = []
    if isinstance(error, BaseExceptionGroup):
        found.extend(error.exceptions)
    cause = error.__cause__
    if cause is None and not error.__suppress_context__:
        cause = error.__context__
    return found if cause is None else [*found, cause]


def _says_too_much(error: BaseException) -> bool:
    # These errors hold the reason of a close frame, the text of a peer, or the input.
    return isinstance(error, (ConnectError, ConnectionLost, ValidationError)) or (
        isinstance(error, RpcError) and error.remote
    )


def _text_of(error: BaseException) -> str:
    if isinstance(error, (ConnectError, ConnectionLost)):
        return f"close code {error.close_code}"
    if isinstance(error, RpcError) and error.remote:
        return f"{error.code}, as the other end said (error id {error.error_id})"
    if isinstance(error, ValidationError):
        return f"{error.error_count()} validation errors for {error.title}"
    return text_of(error)


class _Likenesses:
    """Makes likenesses of errors: the same classes and tracebacks, with texts for logs.

    Args:
        chain: The errors to copy; other causes are left out.
        secret: Whether none of their texts may be logged.
    """

    def __init__(self, chain: list[BaseException], secret: bool) -> None:
        self._known = {id(one) for one in chain}
        self._made: dict[int, BaseException] = {}
        self._secret = secret

    def of(self, error: BaseException) -> BaseException:
        made = self._made.get(id(error))
        if made is not None:
            return made
        kind = type(error)
        names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
        text = "" if self._secret else _text_of(error)
        if isinstance(error, BaseExceptionGroup):
            members = [self.of(one) for one in error.exceptions if id(one) in self._known]
            text = "several errors" if self._secret else error.message
            made = BaseExceptionGroup(text, members or [Exception("left out")])
        else:
            likeness = type(kind.__name__, (Exception,), names)
            made = likeness(text) if text else likeness()
        self._made[id(error)] = made
        made.__traceback__ = error.__traceback__
        cause = error.__cause__
        if cause is not None and id(cause) in self._known:
            made.__cause__ = self.of(cause)
        context = error.__context__
        if context is not None and id(context) in self._known:
            made.__context__ = self.of(context)
        made.__suppress_context__ = error.__suppress_context__
        return made
