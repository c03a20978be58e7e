"""The server of the soak programs: `python -m tests.soak.service`; prints its URL."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio

import wsrpc

from .usage import Usage, usage

__all__ = ["Ledger", "Soak"]


class Ledger:
    """Checks that numbers come from 0 on, each once and in order."""

    def __init__(self) -> None:
        self.expected = 0
        self.lost: set[int] = set()
        self.duplicated = 0
        self.reordered = 0

    def note(self, number: int) -> None:
        """The next number is here."""
        if number in self.lost:
            self.lost.discard(number)
            self.reordered += 1
        elif number < self.expected:
            self.duplicated += 1
        else:
            self.lost.update(range(self.expected, number))
            self.expected = number + 1

    @property
    def whole(self) -> bool:
        """Whether all that has come so far came once and in order, with nothing left out."""
        return self.sums(0) == [0, 0, 0]

    def sums(self, n: int) -> list[int]:
        """How many of `n` were lost, duplicated, reordered."""
        return [len(self.lost) + max(n - self.expected, 0), self.duplicated, self.reordered]


class Soak:
    """Streams with numbered items, and calls that last."""

    @wsrpc.method
    async def download(self, n: int, delay: float) -> AsyncIterator[int]:
        """0 to n - 1, with pauses."""
        begin = anyio.current_time()
        for i in range(n):
            await anyio.sleep_until(begin + i * delay)
            yield i

    @wsrpc.method
    async def upload(self, n: int, numbers: AsyncIterator[int]) -> list[int]:
        """How many of `n` numbers were lost, duplicated, reordered."""
        ledger = Ledger()
        async for number in numbers:
            ledger.note(number)
        return ledger.sums(n)

    @wsrpc.method
    async def exchange(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        """What comes, back."""
        async for number in numbers:
            yield number

    @wsrpc.method
    async def tracked(self, n: int, delay: float) -> AsyncIterator[wsrpc.Tracked[int]]:
        """0 to n - 1, with pauses; goes on behind the last of them when it is opened again."""
        last = wsrpc.current().last_id
        for i in range(0 if last is None else int(last) + 1, n):
            await anyio.sleep(delay)
            yield wsrpc.Tracked(str(i), i)

    @wsrpc.method
    async def never(self, cleanup: float) -> None:
        """Does not end by itself; says so when its `finally` runs, which takes its time."""
        try:
            await anyio.sleep_forever()
        finally:
            print(f"finally {cleanup}", flush=True)
            await anyio.sleep(cleanup)

    @wsrpc.method
    async def echo(self, n: int) -> int:
        """The same."""
        return n

    @wsrpc.method
    async def nap(self, seconds: float) -> float:
        """The same, that much later."""
        await anyio.sleep(seconds)
        return seconds

    @wsrpc.method(oneway=True)
    async def drop_all(self) -> None:
        """Break all connections at once, as a cable that is pulled does."""
        for session in server_of[0].sessions.values():
            link: Any = session._wire.link
            if link is not None:
                link._connection.transport.abort()

    @wsrpc.method
    async def usage(self) -> Usage:
        """What this process holds."""
        return usage()

    @wsrpc.method
    async def counts(self) -> dict[str, int]:
        """What the server counts."""
        server = server_of[0]
        now = server.snapshot()
        return {
            "calls": now.calls_live,
            "sessions": now.sessions,
            "detached": now.detached,
            "links": now.links,
        }


server_of: list[wsrpc.Server] = []


async def _main(port: int, limits: wsrpc.Limits, standby: bool) -> None:
    server = wsrpc.Server([Soak()], limits=limits)
    server_of.append(server)
    if standby:
        print("standing by", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)
    async with server.listen(port=port) as listener:

        def ready() -> None:
            print(listener.url, flush=True)
            print("listening", time.monotonic(), flush=True)

        await server._serve_until_signal(ready=ready)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.soak.service", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--max-calls", type=int, default=2048)
    parser.add_argument("--resume-window", type=float, default=30.0)
    parser.add_argument("--heartbeat", type=float, nargs=2, default=(20.0, 10.0))
    parser.add_argument("--drain-grace", type=float, default=30.0)
    parser.add_argument("--cleanup-timeout", type=float, default=5.0)
    parser.add_argument("--standby", action="store_true", help="listen when told to, on stdin")
    arguments = parser.parse_args()
    interval, timeout = arguments.heartbeat
    limits = wsrpc.Limits(
        max_calls=arguments.max_calls,
        max_detached=4096,
        resume_window=arguments.resume_window,
        heartbeat_interval=interval,
        heartbeat_timeout=timeout,
        drain_grace=arguments.drain_grace,
        cleanup_timeout=arguments.cleanup_timeout,
    )
    anyio.run(_main, arguments.port, limits, arguments.standby)
