"""The server is killed with SIGKILL in the midst of its streams, and comes back, or does not.

Each client has a call, a download and an upload pending, which end in one typed error, and a
tracked stream, which goes on.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from math import inf
from urllib.parse import urlsplit

import anyio
import anyio.abc

import wsrpc

from .service import Ledger, Soak
from .support import Verdict, child, main

# Seconds between two items.
PAUSE = 0.05

# What each client has under way, the tracked stream aside.
PENDING = 3


class Client:
    """One session, and what became of its calls."""

    def __init__(self, items: int) -> None:
        self.items = items
        self.failed: list[tuple[float, wsrpc.WsrpcError]] = []
        self.answered = 0
        self.ledger = Ledger()
        self.tracked = Ledger()
        self.back: list[float] = []

    async def run(self, url: str, group: anyio.abc.TaskGroup) -> None:
        async with wsrpc.connect(url) as session:
            soak = session.clientize(Soak, timeout=None)
            group.start_soon(self.follow, soak)
            async with anyio.create_task_group() as pending:
                pending.start_soon(self.fails, soak.nap(3600))
                pending.start_soon(self.fails, self.download(soak))
                pending.start_soon(self.fails, soak.upload(10**9, self.numbers()))
            await soak.echo(1)
            self.back.append(time.monotonic())
            await anyio.sleep_forever()

    async def fails(self, call: Awaitable[object]) -> None:
        try:
            await call
            self.answered += 1
        except wsrpc.WsrpcError as error:
            self.failed.append((time.monotonic(), error))

    async def download(self, soak: Soak) -> None:
        async for item in soak.download(10**9, PAUSE):
            self.ledger.note(item)

    async def numbers(self) -> AsyncIterator[int]:
        for i in range(10**9):
            yield i
            await anyio.sleep(PAUSE)

    async def follow(self, soak: Soak) -> None:
        async for item in soak.tracked(self.items, PAUSE):
            self.tracked.note(item.value)


async def killed(
    clients: int = 50,
    items: int = 100,
    down: float = 0.0,
    seed: int = 1,
    *,
    timed: bool = True,
) -> bool:
    """Show what happens when it comes back; returns whether all is well.

    The longer it was down, the longer clients may wait before they try again: 2 s are certain only
    where it was gone for a moment.
    """
    verdict = Verdict(f"killed: {clients} clients, and a restart", seed, timed=timed)
    crowd: list[Client] = []
    died = up = inf
    async with child(verdict, "tests.soak.service") as first:
        port = urlsplit(first.url).port
        async with child(verdict, "tests.soak.service", "--port", port, "--standby") as second:
            async with anyio.create_task_group() as group:
                crowd = await _begun(group, first.url, clients, items)
                await first.end(signal.SIGKILL)
                died = time.monotonic()
                await anyio.sleep(down)
                await second.order("go")
                up = float(await second.line("listening"))
                with anyio.move_on_after(PAUSE * items + 30):
                    await _until(lambda: all(one.back for one in crowd))
                    await _until(lambda: all(one.tracked.expected == items for one in crowd))
                group.cancel_scope.cancel()
    print(f"        the restart took {up - died:.3f} s")
    _judge(verdict, crowd)
    failed = [at - up for one in crowd for at, _ in one.failed]
    verdict.within("calls failed, from the restart", failed, 2.0)
    back = [at - up for one in crowd for at in one.back]
    verdict.within("calls work again, from the restart", back, 3.0)
    for index, name in enumerate(("lost", "duplicated", "reordered")):
        verdict.zero(f"tracked: {name}", sum(one.tracked.sums(items)[index] for one in crowd))
    return verdict.end()


async def gone(
    clients: int = 50, window: float = 5.0, seed: int = 1, *, timed: bool = True
) -> bool:
    """Show what happens when it stays away; returns whether all is well."""
    verdict = Verdict(
        f"killed: {clients} clients, no restart, window {window:g} s", seed, timed=timed
    )
    crowd: list[Client] = []
    died = inf
    async with child(verdict, "tests.soak.service", "--resume-window", window) as first:
        async with anyio.create_task_group() as group:
            crowd = await _begun(group, first.url, clients, 10**9)
            await first.end(signal.SIGKILL)
            died = time.monotonic()
            with anyio.move_on_after(window + 30):
                await _until(lambda: all(len(one.failed) == PENDING for one in crowd))
            group.cancel_scope.cancel()
    _judge(verdict, crowd)
    failed = [at - died for one in crowd for at, _ in one.failed]
    verdict.within("calls failed, from the kill", failed, window + 1, window - 0.5)
    return verdict.end()


async def _begun(group: anyio.abc.TaskGroup, url: str, clients: int, items: int) -> list[Client]:
    """Clients whose streams are under way."""
    crowd = [Client(items) for _ in range(clients)]
    for one in crowd:
        group.start_soon(one.run, url, group)
    await _until(lambda: all(one.tracked.expected > 3 for one in crowd))
    await anyio.sleep(random.uniform(0.2, 1.0))
    return crowd


async def _until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not condition():
            await anyio.sleep(0.01)


def _judge(verdict: Verdict, crowd: list[Client]) -> None:
    """What is true with a restart and without."""
    errors = [error for one in crowd for _, error in one.failed]
    verdict.equal("calls that ended in an error", len(errors), PENDING * len(crowd))
    verdict.zero("calls that were answered", sum(one.answered for one in crowd))
    typed = [
        error
        for error in errors
        if isinstance(error, wsrpc.ConnectionLost)
        and error.code == "unavailable"
        and not error.not_started
    ]
    verdict.equal("errors that say it may have run", len(typed), len(errors))
    verdict.equal("downloads whole so far", sum(one.ledger.whole for one in crowd), len(crowd))


if __name__ == "__main__":
    main(killed, gone)
