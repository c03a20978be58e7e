"""SIGTERM: what is in flight is finished, and the process is gone in time.

First with calls, streams and idle clients that end within the grace; then with handlers that never
end, one of which does not even end to clean up.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Awaitable, Callable
from math import inf

import anyio

import wsrpc

from .service import Ledger, Soak
from .support import Child, Verdict, child, main

# Calls and streams of one client.
CALLS = 50
STREAMS = 10

PAUSE = 0.05


class Client:
    """One session with calls and streams."""

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self.answered = 0
        self.whole = 0
        self.errors: list[str] = []

    async def run(self, url: str) -> None:
        async with wsrpc.connect(url) as session:
            soak = session.clientize(Soak, timeout=None)
            async with anyio.create_task_group() as group:
                for _ in range(CALLS):
                    group.start_soon(self.noted, self.call, soak)
                for _ in range(STREAMS):
                    group.start_soon(self.noted, self.stream, soak)

    async def noted(self, what: Callable[[Soak], Awaitable[None]], soak: Soak) -> None:
        try:
            await what(soak)
        except wsrpc.WsrpcError as error:
            self.errors.append(repr(error))

    async def call(self, soak: Soak) -> None:
        seconds = random.uniform(0.4, 0.8) * self.grace
        answer = await soak.nap(seconds)
        self.answered += answer == seconds

    async def stream(self, soak: Soak) -> None:
        n = round(random.uniform(0.4, 0.8) * self.grace / PAUSE)
        ledger = Ledger()
        async for item in soak.download(n, PAUSE):
            ledger.note(item)
        self.whole += ledger.sums(n) == [0, 0, 0]


async def drained(
    clients: int = 10, idle: int = 50, grace: float = 10.0, seed: int = 1, *, timed: bool = True
) -> bool:
    """Show it; returns whether all is well."""
    verdict = Verdict(
        f"drained: {clients * CALLS} calls, {clients * STREAMS} streams, {idle} idle clients, "
        f"grace {grace:g} s",
        seed,
        timed=timed,
    )
    busy = [Client(grace) for _ in range(clients)]
    seconds = inf
    async with child(verdict, "tests.soak.service", "--drain-grace", grace) as server:
        async with anyio.create_task_group() as group:
            for _ in range(idle):
                group.start_soon(_idle, server.url)
            with anyio.move_on_after(120):
                async with anyio.create_task_group() as calls:
                    for one in busy:
                        calls.start_soon(one.run, server.url)
                    await _running(server, clients * (CALLS + STREAMS), clients + idle)
                    seconds = await _terminated(server, grace + 10)
            group.cancel_scope.cancel()
    errors = [error for one in busy for error in one.errors]
    verdict.equal("calls that finished", sum(one.answered for one in busy), clients * CALLS)
    verdict.equal("streams that finished", sum(one.whole for one in busy), clients * STREAMS)
    verdict.zero("failed", len(errors))
    for error in errors[:5]:
        print(f"        {error}")
    verdict.equal("exit code", server.code, 0)
    verdict.within("the process has ended", [seconds], grace + 1)
    return verdict.end()


async def stubborn(
    grace: float = 2.0, cleanup_timeout: float = 5.0, seed: int = 1, *, timed: bool = True
) -> bool:
    """The same with handlers that never end."""
    verdict = Verdict(f"drained: handlers that never end, grace {grace:g} s", seed, timed=timed)
    cleanups = (0.0, 0.5, 3600.0)
    options = ("--drain-grace", grace, "--cleanup-timeout", cleanup_timeout)
    errors: list[str] = []
    seconds = inf

    async def call(url: str, cleanup: float) -> None:
        async with wsrpc.connect(url) as session:
            try:
                await session.clientize(Soak, timeout=None).never(cleanup)
            except wsrpc.RpcError as error:
                errors.append(error.code)

    async with child(verdict, "tests.soak.service", *options) as server:
        with anyio.move_on_after(120):
            async with anyio.create_task_group() as group:
                for cleanup in cleanups:
                    group.start_soon(call, server.url, cleanup)
                await _running(server, len(cleanups), len(cleanups))
                seconds = await _terminated(server, grace + 20)
    said = [line for line in server.lines if line.startswith("finally")]
    verdict.equal("handlers whose finally ran", len(said), len(cleanups))
    verdict.equal("callers told", errors, ["unavailable"] * len(cleanups))
    verdict.equal("exit code", server.code, 0)
    verdict.within("the process has ended", [seconds], grace + cleanup_timeout + 1, grace)
    return verdict.end()


async def _idle(url: str) -> None:
    async with wsrpc.connect(url):
        await anyio.sleep_forever()


async def _running(server: Child, calls: int, sessions: int) -> None:
    """Wait until so many calls run, in so many sessions."""
    async with wsrpc.connect(server.url) as session:
        soak = session.clientize(Soak)
        with anyio.fail_after(60):
            while True:
                counts = await soak.counts()
                # This session and its call come on top.
                if (counts["calls"], counts["sessions"]) == (calls + 1, sessions + 1):
                    return
                await anyio.sleep(0.02)


async def _terminated(server: Child, patience: float) -> float:
    """Seconds from SIGTERM to the end of the process."""
    begin = time.monotonic()
    with anyio.move_on_after(patience):
        await server.end(signal.SIGTERM)
    return time.monotonic() - begin


if __name__ == "__main__":
    main(drained, stubborn)
