"""The cost of mounting: ``python -m benchmarks.mounting`` from the root of the repository.

The same server, on a port of its own and as an ASGI application under uvicorn and hypercorn, each in a
process of its own. The same client makes the same calls of each, in turns, and the CPU time of the
server's process is taken: other programs disturb that little. Of the rounds the least counts.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import psutil

import wsrpc

CALLS = 4_000
ITEMS = 400_000
ROUNDS = 5
AT_ONCE = 50

# The two pings that nobody needs are off, and compression is, as docs/asgi.md says.
WAYS = (
    "a port of its own",
    "uvicorn, websockets-sansio",
    "uvicorn, websockets",
    "uvicorn, wsproto",
    "hypercorn",
)

Figures = tuple[float, float, float]


class Work:
    """The controller that is called."""

    @wsrpc.method
    async def add(self, a: int, b: int) -> int:
        return a + b

    @wsrpc.method
    async def count(self, n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number


def serve(way: str) -> None:
    """Serve in one of the ways until the process is ended; prints the port."""
    server = wsrpc.Server([Work()])
    host, _, implementation = way.partition(", ")
    if host == "uvicorn":
        _on_uvicorn(server, implementation)
    else:
        asyncio.run(_on_hypercorn(server) if host == "hypercorn" else _alone(server))


async def _alone(server: wsrpc.Server) -> None:
    async with server.listen() as listener:
        print(listener.url.rpartition(":")[2].strip("/"), flush=True)
        await asyncio.Event().wait()


def _on_uvicorn(server: wsrpc.Server, implementation: str) -> None:
    import socket

    import uvicorn

    config = uvicorn.Config(
        server.asgi(),
        # A name of uvicorn's, which its versions type differently.
        ws=cast(Any, implementation),
        log_config=None,
        loop="asyncio",
        ws_ping_interval=None,
        ws_per_message_deflate=False,
    )
    with socket.create_server(("127.0.0.1", 0)) as bound:
        print(bound.getsockname()[1], flush=True)
        uvicorn.Server(config).run(sockets=[bound])


async def _on_hypercorn(server: wsrpc.Server) -> None:
    import socket

    import hypercorn.asyncio
    from hypercorn.config import Config

    with socket.create_server(("127.0.0.1", 0)) as bound:
        config = Config()
        config.bind = [f"fd://{bound.fileno()}"]
        config.accesslog = config.errorlog = None
        print(bound.getsockname()[1], flush=True)
        await hypercorn.asyncio.serve(server.asgi(), config)  # type: ignore[arg-type]


@asynccontextmanager
async def serving(way: str) -> AsyncIterator[tuple[psutil.Process, int]]:
    """A server's process and its port."""
    command = ["-m", "benchmarks.mounting", "--serve", way]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield psutil.Process(process.pid), int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def measure(way: str, calls: int = CALLS, items: int = ITEMS) -> Figures:
    """Microseconds of the server's CPU time: a call alone, one of many at once, and an item."""
    async with serving(way) as (process, port):
        async with wsrpc.connect(f"ws://127.0.0.1:{port}/", wait=20, reconnect=False) as session:
            work = session.clientize(Work)

            async def some(count: int) -> None:
                for _ in range(count):
                    await work.add(1, 2)

            await some(calls // 10)
            found = []
            began = _cpu(process)
            await some(calls)
            found.append((_cpu(process) - began) / calls)
            began = _cpu(process)
            await asyncio.gather(*(some(calls // AT_ONCE) for _ in range(AT_ONCE)))
            found.append((_cpu(process) - began) / (calls // AT_ONCE * AT_ONCE))
            began = _cpu(process)
            async for _ in work.count(items):
                pass
            found.append((_cpu(process) - began) / items)
    one, many, item = (1e6 * seconds for seconds in found)
    return one, many, item


async def compare(rounds: int, ways: tuple[str, ...] = WAYS) -> dict[str, Figures]:
    """The least of the rounds for each way, measured in turns."""
    found: dict[str, list[Figures]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            found[way].append(await measure(way))
    return {
        way: (min(one[0] for one in all_), min(one[1] for one in all_), min(one[2] for one in all_))
        for way, all_ in found.items()
    }


def main() -> None:
    """Measure all ways in turns, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mounting", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve)
        return
    least = asyncio.run(compare(options.rounds))
    base = least[WAYS[0]]
    print(
        "| served by | µs of CPU a call | ratio | a call of 50 at once | ratio | an item | ratio |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for way, figures in least.items():
        cells = " | ".join(
            f"{figure:.2f} | {figure / usual:.2f}"
            if usual < 10
            else f"{figure:.0f} | {figure / usual:.2f}"
            for figure, usual in zip(figures, base, strict=True)
        )
        print(f"| {way} | {cells} |")


if __name__ == "__main__":
    main()
