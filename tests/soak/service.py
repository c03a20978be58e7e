"""The server of the soak programs: `python -m tests.soak.service`; prints its URL."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Literal, cast

import anyio

import wsrpc
from wsrpc.session.live_session import LiveSession
from wsrpc.transport.registry import Transport

from .usage import Usage, usage

__all__ = ["Ledger", "Soak"]


EXPECTED = "as asked for"


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

    def __init__(self) -> None:
        self._lingering: Counter[str] = Counter()
        self._peaks = (0, 0)

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
        """0 to n - 1, with pauses; goes on after the last of them when it is opened again."""
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

    @wsrpc.method
    async def linger(self, cleanup: float) -> None:
        """Does not end by itself, and takes its time to clean up."""
        session = wsrpc.current().session.id
        self._lingering[session] += 1
        most = max(self._peaks[0], self._lingering[session])
        self._peaks = most, max(self._peaks[1], self._lingering.total())
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(cleanup)
            self._lingering[session] -= 1
            if not self._lingering[session]:
                del self._lingering[session]

    @wsrpc.method
    async def peaks(self) -> tuple[int, int]:
        """The most that have lingered since the last look, of one session and in all."""
        peaks, self._peaks = self._peaks, (0, 0)
        return peaks

    @wsrpc.method
    async def fail(self, how: Literal["rpc", "fault"]) -> None:
        """Fails, as it is told."""
        if how == "rpc":
            raise wsrpc.RpcError("aborted", EXPECTED, {"how": how})
        raise ValueError(EXPECTED)

    @wsrpc.method(oneway=True)
    async def drop_all(self) -> None:
        """Break all connections at once, as a cable that is pulled does."""
        for session in server_of[0].sessions.values():
            link: Any = cast(LiveSession, session).wire.link
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


def unexpected(record: logging.LogRecord) -> bool:
    """Whether a line of the log is no failure that was asked for."""
    raised = record.exc_info[1] if record.exc_info else None
    return EXPECTED not in record.getMessage() and EXPECTED not in str(raised)


async def _main(port: int, limits: wsrpc.Limits, transport: Transport, standby: bool) -> None:
    server = wsrpc.Server([Soak()], limits=limits)
    server_of.append(server)
    if standby:
        print("standing by", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)
    async with server.listen(port=port, transport=transport) as listener:

        def ready() -> None:
            print(listener.url, flush=True)
            print("listening", time.monotonic(), flush=True)

        await server.drained_on_signal(ready=ready)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.soak.service", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--resume-window", type=float, default=30.0)
    parser.add_argument("--heartbeat", type=float, nargs=2, default=(20.0, 10.0))
    parser.add_argument("--drain-grace", type=float, default=30.0)
    parser.add_argument("--cleanup-timeout", type=float, default=5.0)
    parser.add_argument("--max-calls", type=int, default=2048)
    parser.add_argument("--hello-timeout", type=float, default=10.0)
    parser.add_argument("--transport", default="websockets")
    parser.add_argument("--standby", action="store_true", help="listen when told to, on stdin")
    arguments = parser.parse_args()
    interval, timeout = arguments.heartbeat
    limits = wsrpc.Limits(
        max_calls=arguments.max_calls,
        hello_timeout=arguments.hello_timeout,
        max_detached=4096,
        resume_window=arguments.resume_window,
        heartbeat_interval=interval,
        heartbeat_timeout=timeout,
        drain_grace=arguments.drain_grace,
        cleanup_timeout=arguments.cleanup_timeout,
    )
    logging.getLogger("wsrpc").addFilter(unexpected)
    anyio.run(_main, arguments.port, limits, arguments.transport, arguments.standby)
