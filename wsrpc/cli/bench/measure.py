"""Runs one work: so many callers at a time, for a time or for a number of calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat

import anyio

from .works import Ground, Meter, Work, clock

__all__ = ["Extent", "measure"]

# Seconds between two looks at how far it has come.
LOOK = 0.25


@dataclass(frozen=True, slots=True)
class Extent:
    """How long a work goes on.

    Attributes:
        concurrency: Callers at a time, each of which makes its next call when the last is through.
        seconds: Seconds; None where `calls` says it.
        calls: Calls; None where `seconds` says it.
    """

    concurrency: int
    seconds: float | None = None
    calls: int | None = None

    def share(self, meter: Meter, elapsed: float) -> float:
        """How much of it is done, from 0 to 1."""
        if self.calls is not None:
            return meter.calls / self.calls
        assert self.seconds is not None
        return min(elapsed / self.seconds, 1.0)


async def measure(
    work: Work, ground: Ground, extent: Extent, meter: Meter, look: Callable[[float, float], None]
) -> None:
    """Run `work` to its end; what it measures is in `meter` meanwhile.

    Where the end is a time, the calls that are under way then are cancelled, and not counted.

    Args:
        work: What to do.
        ground: Where to do it.
        extent: How long.
        meter: Takes what is measured; whole if this is cancelled too.
        look: Told now and then which share, from 0 to 1, is done, and the rate so far.

    Raises:
        RpcError: A call failed.
        ConnectError: A connection that the work asks for did not come about.
        Failure: The server answers wrong.
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

    # Not `move_on_after`: its deadline would travel with every call.
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
