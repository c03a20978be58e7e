"""Many clients through a proxy that resets each connection every 0.5 to 4 s: nothing is lost.

Each has a download, an upload and a two-way stream. From a reset to the next item is measured from
when the proxy resets a connection until the client has an item that came over a newer one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator
from time import monotonic

import anyio

import wsrpc
from wsrpc.interfaces import StateChange

from .service import Ledger, Soak
from .support import Child, Verdict, child, main
from .usage import Usage, usage

RATE = 5
LIFETIME = (0.5, 4.0)
# Seconds that calls may take beyond what their items take, the time without a link included.
PATIENCE = 20
# A connection lasts 2.25 s on average, and the way back 0.45 s and what it costs to connect.
RESETS_PER_SECOND = 1 / 3


class Client:
    """One session with its three streams, and what it saw."""

    def __init__(self, name: str, url: str, n: int) -> None:
        self.name = name
        self.n = n
        self.url = f"{url.rstrip('/')}/{name}"
        self.items: list[float] = []
        self.connected: list[float] = []
        self.sums: list[list[int]] = []
        self.errors: list[str] = []
        self.hung = 3
        self.attached = False

    def on_state(self, session: wsrpc.Session, change: StateChange) -> None:
        self.attached = change.state == "connected"
        if change.state == "connected":
            self.connected.append(monotonic())
        elif change.state in ("connecting", "closed") and self.hung:
            self.errors.append(f"{change.state}: {change.cause}")

    async def numbers(self) -> AsyncIterator[int]:
        begin = anyio.current_time()
        for i in range(self.n):
            await anyio.sleep_until(begin + i / RATE)
            yield i

    async def run(self, ready: anyio.Semaphore, go: anyio.Event, leave: anyio.Event) -> None:
        async with wsrpc.connect(self.url, on_state=self.on_state) as session:
            soak = session.clientize(Soak, timeout=None)
            ready.release()
            await go.wait()
            with anyio.move_on_after(self.n / RATE + PATIENCE):
                async with anyio.create_task_group() as group:
                    group.start_soon(self.read, soak.download(self.n, 1 / RATE))
                    group.start_soon(self.read, soak.exchange(self.numbers()))
                    group.start_soon(self.upload, soak)
            ready.release()
            await leave.wait()

    async def read(self, stream: wsrpc.Stream[int]) -> None:
        ledger = Ledger()
        try:
            async for item in stream:
                self.items.append(monotonic())
                ledger.note(item)
        except wsrpc.WsrpcError as error:
            self.errors.append(repr(error))
        self.sums.append(ledger.sums(self.n))
        self.hung -= 1

    async def upload(self, soak: Soak) -> None:
        try:
            self.sums.append(await soak.upload(self.n, self.numbers()))
        except wsrpc.WsrpcError as error:
            self.errors.append(repr(error))
        self.hung -= 1

    def pause(self, reset: float) -> float:
        """Seconds from a reset to the next item that came over a newer connection."""
        back = bisect_right(self.connected, reset)
        if back == len(self.connected):
            return 0.0
        item = bisect_right(self.items, self.connected[back])
        return self.items[item] - reset if item < len(self.items) else 0.0


async def crowd(
    names: range, url: str, n: int, proxy: Child, *, begin: str = "calm"
) -> list[Client]:
    """Let so many clients come, do what they have to do in a storm, and leave when it is over.

    Who has no session yet is told that there is none; and where a goodbye is lost, the server keeps
    its session for as long as any other.
    """
    clients = [Client(str(name), url, n) for name in names]
    ready = anyio.Semaphore(0)
    go, leave = anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as group:
        for client in clients:
            group.start_soon(client.run, ready, go, leave)
        for _ in clients:
            await ready.acquire()
        await proxy.order(begin)
        go.set()
        for _ in clients:
            await ready.acquire()
        await proxy.order("calm")
        await anyio.sleep(LIFETIME[1])
        while not all(client.attached for client in clients):
            await anyio.sleep(0.05)
        leave.set()
    return clients


async def storm(
    clients: int = 200, seconds: float = 78.0, seed: int = 1, settle: float = 15.0
) -> bool:
    """Show it; returns whether all is well."""
    verdict = Verdict(
        f"storm: {clients} clients, {seconds:g} s, each connection reset after "
        f"{LIFETIME[0]:g} to {LIFETIME[1]:g} s",
        seed,
    )
    async with child(verdict, "tests.soak.service") as server:
        async with child(verdict, "tests.proxy", server.url, "--seed", seed) as proxy:
            # What is made once and kept is made now.
            await crowd(range(clients), proxy.url, 5, proxy)
            await anyio.sleep(min(settle, 2))
            before = [usage(), await usage_of(server.url)]
            begin = f"lifetime {LIFETIME[0]} {LIFETIME[1]}"
            seen = len(proxy.lines)
            n = round(seconds * RATE)
            done = await crowd(range(clients), proxy.url, n, proxy, begin=begin)
            during = [usage(), await usage_of(server.url)]
            await anyio.sleep(settle)
            after = [usage(), await usage_of(server.url)]
            judge(verdict, done, proxy.lines[seen:], clients * (seconds - 2.5) * RESETS_PER_SECOND)
            for name, old, now, peak in zip(
                ("clients", "server"), before, after, during, strict=True
            ):
                compare(verdict, name, old, now, peak)
            await proxy.order("stop")
    return verdict.end()


async def usage_of(url: str) -> Usage:
    """What the server holds."""
    async with wsrpc.connect(url) as session:
        return await session.clientize(Soak).usage()


def judge(verdict: Verdict, done: list[Client], lines: list[str], wanted: float) -> None:
    """What became of the items."""
    for index, name in enumerate(("lost", "duplicated", "reordered")):
        verdict.zero(name, sum(sums[index] for client in done for sums in client.sums))
    verdict.zero("hung", sum(client.hung for client in done))
    errors = [f"{client.name}: {error}" for client in done for error in client.errors]
    verdict.zero("failed", len(errors))
    for error in errors[:5]:
        print(f"        {error}")
    by_name = {client.name: client for client in done}
    pauses: list[float] = []
    resets = 0
    for line in lines:
        _, path, at = line.split(" ")
        # One that was reset before it could say whose it is is part of the pause before it.
        client = by_name.get(path.strip("/"))
        if client is not None and client.items and float(at) < client.items[-1]:
            resets += 1
            if pause := client.pause(float(at)):
                pauses.append(pause)
    pauses.sort()
    verdict.check("resets of live streams", resets, resets >= wanted, f"(at least {wanted:.0f})")
    if pauses:
        p50, p99 = pauses[len(pauses) // 2], pauses[len(pauses) * 99 // 100]
        verdict.check("p50 from reset to next item", f"{p50:.3f} s", good=True)
        verdict.check("p99 from reset to next item", f"{p99:.3f} s", p99 <= 1.2, "(at most 1.2 s)")
        print(f"        longest {pauses[-1]:.3f} s, of {len(pauses)} that were followed by an item")


def compare(verdict: Verdict, name: str, old: Usage, now: Usage, peak: Usage) -> None:
    """Whether a process is back where it began."""
    for what in ("tasks", "generators", "sessions", "descriptors"):
        verdict.check(
            f"{name}: {what}", f"{now[what]}", now[what] <= old[what], f"(were {old[what]})"
        )
    grown = now["memory"] - old["memory"]
    verdict.check(
        f"{name}: memory",
        f"{now['memory']} MiB, {peak['memory']} at the end of the storm",
        grown <= 30,
        f"(was {old['memory']}; at most 30 more)",
    )


if __name__ == "__main__":
    main(storm)
