"""The works that the peers do, written once against `Client`."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

from benchmarks import data
from benchmarks.peers.base import Client, Peer

OUTSTANDING = 64
STREAMS = 100
MANY_STREAMS = 10_000
OPEN_ITEMS = 40
"""Items of each stream that is open among many: more than the credit that it starts with."""
PACE = 0.002
"""Seconds between the begins of two calls whose latency is measured."""
WARM_UP = 0.05
"""The part of a work's full count that is done, unmeasured, in every new pair of processes."""
LARGE = 64 * data.MEBIBYTE


@dataclass
class Place:
    """The place of a work: the client, and a way to more of them."""

    client: Any
    """A `Client`, which offers at least what the work needs."""
    peer: Peer
    address: str
    stack: AsyncExitStack
    """Closed when the process ends."""
    idle: list[Client] = field(default_factory=list)

    async def another(self) -> Client:
        """Open one more connection, kept until the process ends."""
        return await self.stack.enter_async_context(self.peer.connect(self.address))


Extras = dict[str, float]
"""The figures of a work besides its rate: `fairness`, `p50` and `p99` in seconds, …"""


@dataclass(frozen=True)
class Work:
    """One thing to do with a client, and how often.

    ``run(place, count)`` does ``count`` operations and checks that all were done. ``count`` is that
    of a full run, set so that the raw peer takes about 0.5 to 1 s; it is a multiple of ``step``.

    Attributes:
        needs: The methods of `Client` that the work needs; a peer without them cannot do it.
        against: The work of the baseline that this one is compared with, where not the same.
        alone: Whether it wants a pair of processes in which nothing else was done before.
        whole: Whether even a slow peer does the full count, since the figure depends on it.
        warm: Operations to do, unmeasured, in each new pair of processes; None: a part of ``count``.
    """

    name: str
    title: str
    unit: str
    count: int
    needs: str
    run: Callable[[Place, int], Awaitable[Extras | None]]
    step: int = 1
    against: str = ""
    alone: bool = False
    whole: bool = False
    warm: int | None = None

    def scaled(self, factor: float) -> int:
        """``count`` times ``factor``, rounded to whole steps, one step at least."""
        return max(round(self.count * factor / self.step), 1) * self.step

    @property
    def warm_up(self) -> int:
        """Operations to do before the first measured one."""
        return self.scaled(WARM_UP) if self.warm is None else self.warm


async def sequential(place: Place, count: int) -> None:
    """``count`` calls with a small model in and out, each begun when the last one is back."""
    client = place.client
    for number in range(count):
        await client.echo(client.point(number))


async def outstanding(place: Place, count: int) -> None:
    """``count`` such calls, 64 of them under way at any time."""
    client = place.client
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            await client.echo(client.point(number))

    async with asyncio.TaskGroup() as callers:
        for _ in range(OUTSTANDING):
            callers.create_task(caller())


async def stream(place: Place, count: int) -> None:
    """One stream of ``count`` small models from the server."""
    await _drain(place.client.items(count), count)


async def unvalidated(place: Place, count: int) -> None:
    """The same, not validated on arrival."""
    await _drain(place.client.unvalidated(count), count)


async def streams(place: Place, count: int) -> Extras:
    """100 equal streams at once, ``count`` items in all.

    Finds the fairness: when the first stream ended divided by when the last one did, both counted
    from the start. 1 means that all ended together, near 0 that they took turns.
    """
    return await _race(place.client.items, count)


async def yielding(place: Place, count: int) -> Extras:
    """The same, from generators that let the server's event loop run before every item."""
    return await _race(place.client.yielding, count)


async def upload(place: Place, count: int) -> None:
    """One stream of ``count`` small models to the server, which returns how many it got."""

    async def points() -> AsyncIterator[Any]:
        for number in range(count):
            yield place.client.point(number)

    _expect(await place.client.upload(points()), count)


async def text(place: Place, count: int) -> None:
    """``count`` calls, one after another, with 1 MiB of text in and the same text out."""
    for _ in range(count):
        _expect(len(await place.client.text(data.TEXT)), len(data.TEXT))


async def blob(place: Place, count: int) -> None:
    """``count`` calls, one after another, with 1 MiB of bytes in and the same bytes out."""
    for _ in range(count):
        _expect(len(await place.client.blob(data.BLOB)), len(data.BLOB))


async def idle(place: Place, count: int) -> None:
    """Open ``count`` more connections, make one call on each, and leave them open and idle."""
    for _ in range(count):
        client = await place.another()
        point = client.point(1)
        _expect(await client.echo(point), point)
        place.idle.append(client)


async def hundred_open(place: Place, count: int) -> None:
    """Rounds of 100 streams, of which no item is sent on before all are open."""
    await _open(place.client, STREAMS, count)


async def thousands_open(place: Place, count: int) -> None:
    """The same with 10,000 streams; as many items in all, so one round for each hundred."""
    await _open(place.client, MANY_STREAMS, count)


async def calm(place: Place, count: int) -> Extras:
    """``count`` small calls, one begun every 2 ms; nothing else happens. Finds their latencies."""
    return await _latencies(place.client, count)


async def busy(place: Place, count: int) -> Extras:
    """The same while values of 64 MiB follow each other in both directions of the connection.

    Finds how many MiB/s flowed besides, both directions together.
    """
    client = place.client
    value = data.BLOB * (LARGE // len(data.BLOB))
    # The server makes its value when it is first asked for, which holds up its event loop.
    _expect(len(await client.source(LARGE)), LARGE)
    enough = asyncio.Event()
    moved = 0

    async def send() -> None:
        nonlocal moved
        while not enough.is_set():
            _expect(await client.sink(value), LARGE)
            moved += LARGE

    async def receive() -> None:
        nonlocal moved
        while not enough.is_set():
            _expect(len(await client.source(LARGE)), LARGE)
            moved += LARGE

    started = time.perf_counter()
    async with asyncio.TaskGroup() as movers:
        movers.create_task(send())
        movers.create_task(receive())
        found = await _latencies(client, count)
        enough.set()
    return found | {"mib_s": moved / data.MEBIBYTE / (time.perf_counter() - started)}


async def verify(client: Any) -> None:
    """Refuse a client whose answers are wrong: speed is compared only among correct ones.

    Checks every method that the client has.
    """
    expected = [client.point(number) for number in range(5)]
    _expect(await client.echo(expected[3]), expected[3])

    async def points() -> AsyncIterator[Any]:
        for point in expected:
            yield point

    async def items(n: int) -> list[Any]:
        return [item async for item in client.items(n)]

    async def yielded(n: int) -> list[Any]:
        return [item async for item in client.yielding(n)]

    async def plain(n: int) -> list[Any]:
        return [item async for item in client.unvalidated(n)]

    async def gated(n: int) -> list[Any]:
        stream = await client.gated(n - 1)
        first = await anext(stream)
        await client.release()
        return [first, *[item async for item in stream]]

    checks: dict[str, tuple[Callable[[], Awaitable[Any]], Any]] = {
        "items": (lambda: items(5), expected),
        "yielding": (lambda: yielded(5), expected),
        "unvalidated": (lambda: plain(5), [data.point(number) for number in range(5)]),
        "upload": (lambda: client.upload(points()), 5),
        "text": (lambda: client.text(data.TEXT), data.TEXT),
        "blob": (lambda: client.blob(data.BLOB), data.BLOB),
        "gated": (lambda: gated(5), expected),
        "small": (lambda: client.small(expected[4]), expected[4]),
        "sink": (lambda: client.sink(data.BLOB[:1000]), 1000),
        "source": (lambda: client.source(1000), data.BLOB[:1000]),
    }
    for method, (check, answer) in checks.items():
        if hasattr(client, method):
            _expect(await check(), answer)


async def _drain(items: AsyncIterator[Any], count: int) -> None:
    received = 0
    async for _ in items:
        received += 1
    _expect(received, count)


async def _race(source: Callable[[int], AsyncIterator[Any]], count: int) -> Extras:
    finished: list[float] = []
    started = time.perf_counter()

    async def one() -> None:
        await _drain(source(count // STREAMS), count // STREAMS)
        finished.append(time.perf_counter() - started)

    async with asyncio.TaskGroup() as readers:
        for _ in range(STREAMS):
            readers.create_task(one())
    return {"fairness": finished[0] / finished[-1]}


async def _open(client: Any, streams: int, count: int) -> None:
    missing = streams

    async def reader() -> None:
        nonlocal missing
        items = await client.gated(OPEN_ITEMS)
        await anext(items)
        missing -= 1
        if not missing:
            await client.release()
        await _drain(items, OPEN_ITEMS)

    for _ in range(count // (streams * OPEN_ITEMS)):
        missing = streams
        async with asyncio.TaskGroup() as readers:
            for _ in range(streams):
                readers.create_task(reader())


async def _latencies(client: Any, count: int) -> Extras:
    """``count`` small calls, begun at a steady pace whether or not the last one is back.

    A call's latency counts from when the event loop came to begin it. Waiting for the answer
    before the next call begins would hide the stalls: one slow call would stand for many.
    """
    seconds: list[float] = []

    async def call(number: int) -> None:
        started = time.perf_counter()
        await client.small(client.point(number))
        seconds.append(time.perf_counter() - started)

    async with asyncio.TaskGroup() as calls:
        for number in range(count):
            calls.create_task(call(number))
            await asyncio.sleep(PACE)
    _expect(len(seconds), count)
    hundredths = quantiles(seconds, n=100, method="inclusive")
    return {"p50": hundredths[49], "p99": hundredths[98]}


def _expect(got: object, expected: object) -> None:
    if got != expected:
        raise AssertionError(f"expected {_short(expected)}, got {_short(got)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text)} characters)"


_OPEN_COUNT = MANY_STREAMS * OPEN_ITEMS

WORKS = {
    work.name: work
    for work in (
        Work("sequential", "sequential calls", "calls", 3_000, "echo", sequential),
        Work(
            "outstanding", f"{OUTSTANDING} outstanding calls", "calls", 20_000, "echo", outstanding
        ),
        Work("stream", "one stream of small models", "items", 50_000, "items", stream),
        Work(
            "unvalidated",
            "one stream, not validated on arrival",
            "items",
            50_000,
            "unvalidated",
            unvalidated,
            against="stream",
        ),
        Work(
            "streams",
            f"{STREAMS} streams at once",
            "items",
            30_000,
            "items",
            streams,
            step=STREAMS,
            whole=True,
        ),
        Work(
            "yielding",
            f"{STREAMS} streams that yield to the loop at every item",
            "items",
            30_000,
            "yielding",
            yielding,
            step=STREAMS,
            whole=True,
        ),
        Work("upload", "one upload stream", "items", 50_000, "upload", upload),
        Work("text", "1 MiB text echo", "calls", 100, "text", text),
        Work("bytes", "1 MiB bytes echo", "calls", 200, "blob", blob),
        Work(
            "idle",
            "idle connections",
            "connections",
            500,
            "holds_session",
            idle,
            step=250,
            alone=True,
            whole=True,
            warm=25,
        ),
        Work(
            "open_100",
            f"{STREAMS} streams open at a time",
            "items",
            _OPEN_COUNT,
            "gated",
            hundred_open,
            step=STREAMS * OPEN_ITEMS,
        ),
        Work(
            "open_10000",
            f"{MANY_STREAMS:,} streams open at a time",
            "items",
            _OPEN_COUNT,
            "gated",
            thousands_open,
            step=_OPEN_COUNT,
            warm=0,
        ),
        Work(
            "calm", "latency of a small call, idle connection", "calls", 1_000, "small", calm, 500
        ),
        Work(
            "busy",
            "latency of a small call, 64 MiB values both ways",
            "calls",
            1_000,
            "sink",
            busy,
            500,
            warm=0,
        ),
    )
}
