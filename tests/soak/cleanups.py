"""A thousand streams whose cleanup takes a while, ended in four ways: each cleanup runs.

By cancel; by a reset and by silence, where a session ends with its connection; and by the end of
the window, where it does not.
"""

from __future__ import annotations

import time

import anyio
import anyio.abc

import wsrpc
from wsrpc.interop.service import Interop, Stats

from .support import Verdict, child, main
from .usage import many_files

# Streams of one client.
STREAMS = 100

# Seconds that a cleanup takes.
CLEANUP = 0.05

WINDOW = 2
ENDS: dict[str, tuple[object, ...]] = {
    "cancel": (),
    "reset": ("--resume-window", 0),
    "silence": ("--resume-window", 0, "--heartbeat", "1,1"),
    "expiry": ("--resume-window", WINDOW),
}


class Client:
    """One session with so many streams, which it reads the first item of."""

    def __init__(self, url: str, streams: int) -> None:
        self.url = url
        self.streams = streams
        self.begun = 0
        self.errors: list[str] = []

    async def run(self, cancel: anyio.Event) -> None:
        async with wsrpc.connect(self.url, reconnect=False) as session:
            interop = session.clientize(Interop)
            async with anyio.create_task_group() as group:
                for _ in range(self.streams):
                    group.start_soon(self.read, interop, cancel)

    async def read(self, interop: Interop, cancel: anyio.Event) -> None:
        async with interop.slow_cleanup(CLEANUP) as stream:
            await anext(stream)
            self.begun += 1
            await cancel.wait()


async def cleanups(streams: int = 1000, seed: int = 1) -> bool:
    """Show it; returns whether all is well."""
    passed = True
    for end in ENDS:
        passed &= await ended_by(end, streams, seed)
    return passed


async def ended_by(end: str, streams: int, seed: int, *, timed: bool = True) -> bool:
    """Show it for one way to end them."""
    many_files()
    verdict = Verdict(
        f"cleanups: {streams} streams, each cleans up for {CLEANUP:g} s, ended by {end}",
        seed,
        timed=timed,
    )
    async with child(verdict, "wsrpc.interop.server", "--port", 0, *ENDS[end]) as server:
        url = server.url.removeprefix("listening ")
        async with child(verdict, "tests.proxy", url) as proxy:
            cancel = anyio.Event()
            async with anyio.create_task_group() as group:
                await _begun(group, streams, proxy.url, cancel)
                begin = time.monotonic()
                if end == "cancel":
                    cancel.set()
                else:
                    await proxy.order("shut")
                    await proxy.order("silence" if end == "silence" else "reset")
                stats = await _at_rest(url)
                _judge(verdict, end, streams, stats, time.monotonic() - begin)
                group.cancel_scope.cancel()
            await proxy.order("stop")
    return verdict.end()


async def _begun(group: anyio.abc.TaskGroup, streams: int, url: str, cancel: anyio.Event) -> None:
    """Let so many streams run until their credit is used up."""
    per_client = min(STREAMS, streams)
    crowd = [Client(url, per_client) for _ in range(streams // per_client)]
    for one in crowd:
        group.start_soon(one.run, cancel)
    with anyio.fail_after(120):
        while sum(one.begun for one in crowd) < streams:
            await anyio.sleep(0.02)
    await anyio.sleep(0.5)


def _judge(verdict: Verdict, end: str, streams: int, stats: Stats, seconds: float) -> None:
    verdict.equal("cleanups begun", stats["cleanups_begun"], streams)
    verdict.equal("cleanups done", stats["cleanups_done"], streams)
    verdict.zero("generators left", stats["generators_open"])
    verdict.equal("sessions, this one included", stats["sessions"], 1)
    least = {"silence": 1.0, "expiry": float(WINDOW)}.get(end, 0.0)
    verdict.within("all have cleaned up", [seconds], least + 10.0, least)


async def _at_rest(url: str) -> Stats:
    """The server's numbers, once no call and no session is left, or a minute later."""
    async with wsrpc.connect(url) as session:
        interop = session.clientize(Interop, timeout=60)
        end = time.monotonic() + 60
        while True:
            stats = await interop.stats()
            alone = stats["calls_live"] == 1 and stats["sessions"] == 1
            if alone or time.monotonic() > end:
                return stats
            await anyio.sleep(0.05)


if __name__ == "__main__":
    main(cleanups)
