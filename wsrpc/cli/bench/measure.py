"""Runs one work with some callers at a time, for a duration or a number of calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat

import anyio

from .works import Ground, Meter, Work, clock

__all__ = ["Extent", "measure"]

# Seconds between two reports of progress.
LOOK = 0.25


@dataclass(frozen=True, slots=True)
class Extent:
    """The duration or the number of calls of a work.

    Attributes:
        concurrency: Callers at a time, each of which makes its next call when the last is through.
        seconds: Seconds that it takes; None where `calls` is given.
        calls: Calls to make; None where `seconds` is given.
    """

    concurrency: int
    seconds: float | None = None
    calls: int | None = None

    def share(self, meter: Meter, elapsed: float) -> float:
        """The share of it that is done, from 0 to 1."""
        if self.calls is not None:
            return meter.calls / self.calls
        assert self.seconds is not None
        return min(elapsed / self.seconds, 1.0)


async def measure(
    work: Work, ground: Ground, extent: Extent, meter: Meter, look: Callable[[float, float], None]
) -> None:
    """Run `work` to its end; `meter` has the measurements meanwhile.

    If `extent` is a duration, calls that are under way at its end are cancelled, and not counted.

    Args:
        work: The work to do.
        ground: The session to do it on.
        extent: The duration or the number of calls.
        meter: Takes the measurements; it is consistent even if this is cancelled.
        look: Called now and then with the share done, from 0 to 1, and the rate so far.

    Raises:
        RpcError: A call failed.
        ConnectError: A connection that the work asks for did not come about.
        Failure: The server answers wrongly.
    """
    calls: Iterator[None] = repeat(None) if extent.calls is None else repeat(None, extent.calls)
    begin = clock()

    async def caller() -> None:
        for _ in calls:
            await work.call(ground, meter)
            meter.calls += 1

    async def callers() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(extent.concurrency):
                group.start_soon(caller)
        watch.cancel_scope.cancel()

    async def looking() -> None:
        while True:
            await anyio.sleep(LOOK)
            elapsed = (clock() - begin) / 1e9
            look(extent.share(meter, elapsed), meter.units / elapsed)

    # This is not `move_on_after`, whose deadline would travel with every call.
    async def end() -> None:
        assert extent.seconds is not None
        await anyio.sleep(extent.seconds)
        stop()
        watch.cancel_scope.cancel()

    def stop() -> None:
        if not meter.seconds:
            meter.seconds = (clock() - begin) / 1e9

    try:
        async with anyio.create_task_group() as watch:
            watch.start_soon(callers)
            watch.start_soon(looking)
            if extent.seconds is not None:
                watch.start_soon(end)
    except ExceptionGroup as group:
        # When the connection is lost, every caller hears of it.
        raise _first(group) from None
    finally:
        stop()


def _first(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
