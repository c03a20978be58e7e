"""The works: what each peer is asked to do, written once against `Client`."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.data import TEXT
from benchmarks.peers.base import Client

OUTSTANDING = 64
STREAMS = 100


@dataclass(frozen=True)
class Work:
    """One thing to do with a client, and how often.

    ``run(client, count)`` does ``count`` operations and checks that all were done; it returns the
    fairness (see `streams`) or None. ``count`` is that of a full run, set so that the raw peer
    takes about 0.5 to 1 s; it is a multiple of ``step``.
    """

    name: str
    title: str
    unit: str
    count: int
    run: Callable[[Client, int], Awaitable[float | None]]
    step: int = 1

    def scaled(self, factor: float) -> int:
        """``count`` times ``factor``, rounded to whole steps, one step at least."""
        return max(round(self.count * factor / self.step), 1) * self.step


async def sequential(client: Client, count: int) -> None:
    """``count`` calls with a small model in and out, each begun when the last one is back."""
    for number in range(count):
        await client.echo(client.point(number))


async def outstanding(client: Client, count: int) -> None:
    """``count`` such calls, 64 of them under way at any time."""
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            await client.echo(client.point(number))

    async with asyncio.TaskGroup() as callers:
        for _ in range(OUTSTANDING):
            callers.create_task(caller())


async def stream(client: Client, count: int) -> None:
    """One stream of ``count`` small models from the server."""
    await _drain(client, count)


async def streams(client: Client, count: int) -> float:
    """100 equal streams at once, ``count`` items in all.

    Returns the fairness: when the first stream ended divided by when the last one did, both
    counted from the start. 1 means that all ended together, near 0 that they took turns.
    """
    finished: list[float] = []
    started = time.perf_counter()

    async def one() -> None:
        await _drain(client, count // STREAMS)
        finished.append(time.perf_counter() - started)

    async with asyncio.TaskGroup() as readers:
        for _ in range(STREAMS):
            readers.create_task(one())
    return finished[0] / finished[-1]


async def upload(client: Client, count: int) -> None:
    """One stream of ``count`` small models to the server, which returns how many it got."""

    async def points() -> AsyncIterator[Any]:
        for number in range(count):
            yield client.point(number)

    _expect(await client.upload(points()), count)


async def text(client: Client, count: int) -> None:
    """``count`` calls, one after another, with 1 MiB of text in and the same text out."""
    for _ in range(count):
        _expect(len(await client.text(TEXT)), len(TEXT))


async def verify(client: Client) -> None:
    """Refuse a client whose answers are wrong: speed is compared only among correct ones."""
    expected = [client.point(number) for number in range(5)]
    _expect(await client.echo(expected[3]), expected[3])
    _expect([item async for item in client.items(5)], expected)
    await upload(client, 7)
    echoed = await client.text(TEXT)
    if echoed != TEXT:
        raise AssertionError("the text came back changed")


async def _drain(client: Client, count: int) -> None:
    received = 0
    async for _ in client.items(count):
        received += 1
    _expect(received, count)


def _expect(got: object, expected: object) -> None:
    if got != expected:
        raise AssertionError(f"expected {expected!r}, got {got!r}")


WORKS = {
    work.name: work
    for work in (
        Work("sequential", "sequential calls", "calls", 3_000, sequential),
        Work("outstanding", f"{OUTSTANDING} outstanding calls", "calls", 20_000, outstanding),
        Work("stream", "one stream of small models", "items", 50_000, stream),
        Work("streams", f"{STREAMS} streams at once", "items", 50_000, streams, step=STREAMS),
        Work("upload", "one upload stream", "items", 50_000, upload),
        Work("text", "1 MiB text echo", "calls", 100, text),
    )
}
