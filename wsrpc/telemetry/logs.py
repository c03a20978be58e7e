"""What the package logs: one line an event, nothing of a stranger's text in it, and not too many.

All of it goes to the logger `wsrpc`. A line names the method, the session and the error id, and has
the traceback of an unexpected error in it, escaped, so that an event is a line whatever a handler
raised; what a peer said, in its errors and in the reasons of its close frames, is left out. Beyond
5 lines a second of a session, and 50 of the process, lines are counted instead, and the next one
says how many there were.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from time import monotonic

from pydantic import ValidationError

from ..errors import ConnectError, ConnectionLost, RpcError
from ..protocol.rates import Bucket

__all__ = ["DEBUGGING", "Log", "everyone", "one_line"]

logger = logging.getLogger("wsrpc")

DEBUGGING = (
    "DEBUG MODE IS ON: %s(debug=True) sends the text and the traceback of unexpected errors to "
    "whoever calls; never use it where strangers can"
)

# Lines a second.
OF_A_SESSION = 5
OF_THE_PROCESS = 50

# Characters of a line, and of what an exception says.
LONGEST = 16 * 1024
LONGEST_TEXT = 1000

# Exceptions of one line: causes, and members of groups.
MOST_ERRORS = 16


class _Tap:
    """How many lines the process may still log, and how many it has not."""

    def __init__(self) -> None:
        self._bucket = Bucket(OF_THE_PROCESS, OF_THE_PROCESS)
        self.suppressed = 0

    def opens(self, own: Bucket, now: float) -> bool:
        if own.take(now) and self._bucket.take(now):
            return True
        self.suppressed += 1
        return False


_tap = _Tap()


class Log:
    """The lines about one session, or about none in particular.

    Args:
        rate: Lines a second, and at once.
    """

    __slots__ = ("_bucket", "_rate")

    def __init__(self, rate: int = OF_A_SESSION) -> None:
        self._rate = rate
        # Most sessions are never worth a line.
        self._bucket: Bucket | None = None

    def _may_speak(self, now: float) -> bool:
        self._bucket = self._bucket or Bucket(self._rate, self._rate)
        return _tap.opens(self._bucket, now)

    def debug(self, message: str, *args: object) -> None:
        self._say(logging.DEBUG, message, args)

    def info(self, message: str, *args: object) -> None:
        self._say(logging.INFO, message, args)

    def warning(self, message: str, *args: object) -> None:
        self._say(logging.WARNING, message, args)

    def error(
        self,
        message: str,
        *args: object,
        error: BaseException | None = None,
        secret: bool = False,
    ) -> None:
        """Log a failure.

        Args:
            message: What failed; `args` are put into it.
            *args: See there.
            error: Why.
            secret: Whether what the error says may be a credential, so that only its class and
                where it was raised are logged.
        """
        self._say(logging.ERROR, message, args, error, secret)

    def _say(
        self,
        level: int,
        message: str,
        args: tuple[object, ...],
        error: BaseException | None = None,
        secret: bool = False,
    ) -> None:
        if not logger.isEnabledFor(level) or not self._may_speak(monotonic()):
            return
        text = message % args
        if error is not None:
            text = f"{text}: {_told(error, secret=secret)}"
        if _tap.suppressed:
            text = f"{one_line(text)} ({_tap.suppressed} lines before this one were suppressed)"
            _tap.suppressed = 0
        logger.log(level, "%s", one_line(text), stacklevel=3)


# About what belongs to no session: connections that begin, and the server itself.
everyone = Log(OF_THE_PROCESS)


def one_line(text: str) -> str:
    """`text` as it may stand in a log: no line breaks, control characters and the like, bounded."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")


def _told(error: BaseException, *, secret: bool) -> str:
    """An exception with its traceback and its causes, the first cause first."""
    chain = list(_chain(error))
    parts: list[str] = []
    for link in reversed(chain):
        lines = traceback.format_tb(link.__traceback__)
        if lines:
            parts.append("Traceback (most recent call last):\n" + "".join(lines).rstrip())
        parts.append(_named(link, secret=secret))
    return "\n".join(parts)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, then what led to it; of a group its members too."""
    todo, seen = [error], set[int]()
    while todo and len(seen) < MOST_ERRORS:
        one = todo.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, BaseExceptionGroup):
            todo.extend(one.exceptions)
        cause = one.__cause__
        if cause is None and not one.__suppress_context__:
            cause = one.__context__
        if cause is not None:
            todo.append(cause)


def _named(error: BaseException, *, secret: bool) -> str:
    """What kind of error it is, and what it says if nobody else said it."""
    kind = type(error)
    module = kind.__module__
    name = kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
    if secret:
        return name
    return f"{name}: {_text_of(error)}".removesuffix(": ")


def _text_of(error: BaseException) -> str:
    if isinstance(error, (ConnectError, ConnectionLost)):
        # The reason of the close frame may be in it.
        return f"close code {error.close_code}"
    if isinstance(error, RpcError) and error.remote:
        return f"{error.code}, as the other end said (error id {error.error_id})"
    if isinstance(error, ValidationError):
        # It says what the input was.
        return f"{error.error_count()} validation errors for {error.title}"
    try:
        return str(error)[:LONGEST_TEXT]
    except Exception:  # noqa: BLE001  (whatever it is, it must not hide the other one)
        return "(its text cannot be told)"
