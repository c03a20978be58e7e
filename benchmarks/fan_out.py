"""The cost of one item for one reader: of a topic, and of a stream of its own.

`python -m benchmarks.fan_out` prints the seconds of the server's processor for each, and the ratio.
Readers are in a process of their own; items come in bursts, as fast as the slowest reader takes them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
from pydantic import BaseModel

import wsrpc
from wsrpc.cluster import Cluster, Topic

BURST = 20


class Quote(BaseModel):
    symbol: str
    price: float
    bids: list[tuple[float, int]]
    asks: list[tuple[float, int]]
    venue: str
    open: bool


def quotes(n: int) -> list[Quote]:
    """So many items."""
    depth = [(100.0 + i / 8, 10 * i) for i in range(10)]
    return [
        Quote(symbol=f"S{i}", price=float(i), bids=depth, asks=depth, venue="X", open=True)
        for i in range(n)
    ]


class Market:
    def __init__(self, items: list[Quote]) -> None:
        self.items = items
        self.topic: Topic[Quote, None] | None = None
        self.go = anyio.Event()
        self.ready = 0

    @wsrpc.method
    async def own(self) -> AsyncIterator[wsrpc.Tracked[Quote]]:
        self.ready += 1
        await self.go.wait()
        for i, item in enumerate(self.items):
            if i % BURST == 0:
                await anyio.lowlevel.checkpoint()
            yield wsrpc.Tracked(str(i), item)

    @wsrpc.method
    def shared(self) -> AsyncIterator[wsrpc.Tracked[Quote]]:
        assert self.topic is not None
        self.ready += 1
        return self.topic.subscribe()


async def read(url: str, method: str, sessions: int, streams: int) -> None:
    """All readers: so many streams over so many sessions."""

    async def follow(session: wsrpc.Session) -> None:
        proxy = session.clientize(Market, validate="none")
        async for _ in proxy.own() if method == "own" else proxy.shared():
            pass

    async def visit() -> None:
        async with wsrpc.connect(url) as session, anyio.create_task_group() as group:
            for _ in range(streams):
                group.start_soon(follow, session)

    async with anyio.create_task_group() as group:
        for _ in range(sessions):
            group.start_soon(visit)


def reader(url: str, method: str, sessions: int, streams: int) -> None:
    anyio.run(read, url, method, sessions, streams)


async def measure(method: str, items: int, sessions: int, streams: int) -> float:
    """Seconds of the server's processor for one item and reader."""
    market = Market(quotes(items))
    server = wsrpc.Server([market])
    async with Cluster(server) as cluster, server.listen() as listener:
        market.topic = cluster.topic("quotes", Quote, history=items)
        spawn: Any = multiprocessing.get_context("spawn")
        process = spawn.Process(target=reader, args=(listener.url, method, sessions, streams))
        process.start()
        async with market.topic.produce() as producer:
            while market.ready < sessions * streams:  # noqa: ASYNC110  (counted in many handlers)
                await anyio.sleep(0.01)
            begun = time.process_time()
            market.go.set()
            if method == "shared":
                for i, item in enumerate(market.items):
                    if i % BURST == 0:
                        await anyio.lowlevel.checkpoint()
                    producer.publish(item)
        while process.is_alive():  # noqa: ASYNC110  (another process)
            await anyio.sleep(0.02)
        spent = time.process_time() - begun
        process.join()
    return spent / (items * sessions * streams)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--items", type=int, default=100)
    options.add_argument("--sessions", type=int, default=100)
    options.add_argument("--streams", type=int, default=10, help="of each session")
    options.add_argument("--repetitions", type=int, default=3)
    args = options.parse_args()
    found: dict[str, list[float]] = {"own": [], "shared": []}
    for _ in range(args.repetitions):
        for method, samples in found.items():
            samples.append(anyio.run(measure, method, args.items, args.sessions, args.streams))
    own, shared = (statistics.median(samples) for samples in found.values())
    readers = args.sessions * args.streams
    print(f"{readers} readers, {args.items} items, median of {args.repetitions} runs")
    print(f"streams of their own: {own * 1e6:.2f} us of the server's processor an item and reader")
    print(f"one topic:            {shared * 1e6:.2f} us")
    print(f"ratio:                {shared / own:.2f} (aim: at most 0.33)")


if __name__ == "__main__":
    main()
