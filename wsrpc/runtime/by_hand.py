"""Exceptions to which Python gives a special meaning, where code raises them by hand.

They end generators, iterations and tasks. Raised by code that means no such end, they are faults
like any other, and must not look like an end or a cancellation to the awaiting code.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

__all__ = ["as_fault", "exits", "never_cancels", "text_of"]

T = TypeVar("T")

SPECIAL = (StopIteration, StopAsyncIteration, GeneratorExit, CancelledError)


def as_fault(error: BaseException, where: str) -> BaseException:
    """The error to raise for `error`: a `RuntimeError` if it has a special meaning, else itself.

    Args:
        error: The exception that code raised by hand.
        where: The name of the code, for the message.
    """
    # trio's exception is recognised by its name, so that trio need not be installed.
    trios = type(error).__name__ == "Cancelled" and type(error).__module__.startswith("trio")
    if not trios and not isinstance(error, SPECIAL) and not exits(error):
        return error
    said = text_of(error)
    fault = RuntimeError(f"{where} raised {type(error).__name__}{said and ': '}{said}")
    fault.__cause__ = error
    return fault


def text_of(error: BaseException) -> str:
    """The text of an exception of the user's, whose `__str__` may raise."""
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  (no exception may hide the other one)
        return "(its text cannot be told)"


def exits(error: BaseException) -> bool:
    """Whether an error is a `SystemExit`, or a group of a task group with one in it."""
    if not isinstance(error, BaseExceptionGroup):
        return isinstance(error, SystemExit)
    return error.subgroup(SystemExit) is not None and error.subgroup(KeyboardInterrupt) is None


async def never_cancels(awaited: Awaitable[T], where: str, cancelled: Callable[[], bool]) -> T:
    """Await code of the user, whose hand-raised cancellation is a fault like any other.

    Args:
        awaited: The awaitable.
        where: The name of the code, for the message.
        cancelled: Tells whether this task really is being cancelled.
    """
    try:
        return await awaited
    except anyio.get_cancelled_exc_class() as error:
        if cancelled():
            raise
        raise as_fault(error, where) from error
