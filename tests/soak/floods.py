"""Six floods, one after the other, beside a well-behaved client who is not to notice.

Calls that are cancelled at once, calls that fail, connections that are reset, tiny frames, pings, and
handshakes that take their time. Server, flood and client have processes of their own.
"""

from __future__ import annotations

import json
import os
import time
from typing import Literal

import anyio

import wsrpc

from .flooder import FLOODS, Sums
from .friend import Served
from .service import Soak
from .support import Child, Verdict, child, main
from .usage import MIB, Usage, many_files

# Calls of one session that run at a time.
SLOTS = 256

# MiB that the server may grow by, and seconds until it is back where it began.
ROOM = 32
RETURN = 10.0

# Seconds that a call of the client may take in any case, and how many times as long as otherwise.
LATENCY, FACTOR = 0.1, 5

QUIET = 3.0


async def floods(
    scale: float = 1.0,
    seed: int = 1,
    hello_timeout: float = 10.0,
    *,
    transport: Literal["websockets", "picows"] = "websockets",
    timed: bool = True,
) -> bool:
    """Show it; returns whether all is well."""
    many_files()
    verdict = Verdict(f"floods: over {transport}, at {scale:g} of full size", seed, timed=timed)
    window = 2.0 if timed else 0.2
    options = ("--max-calls", SLOTS, "--resume-window", window, "--hello-timeout", hello_timeout)
    async with (
        child(verdict, "tests.soak.service", *options, "--transport", transport) as server,
        child(verdict, "tests.soak.friend", server.url) as friend,
    ):
        shown = Show(verdict, server, friend, scale, seed)
        await shown.quiet(QUIET if timed else 0.5)
        if timed:
            # What is made once and kept is made now.
            for name in FLOODS:
                if name != "slow":
                    await shown.flood(name, 0.1)
                    await shown.at_rest(shown.before)
        for name in FLOODS:
            await shown.show(name)
    return verdict.end()


class Show:
    """One server, its client, and what is judged of them."""

    def __init__(
        self, verdict: Verdict, server: Child, friend: Child, scale: float, seed: int
    ) -> None:
        self.before: Usage
        self._verdict = verdict
        self._server = server
        self._friend = friend
        self._scale = scale
        self._seed = seed
        self._usual = 0.0

    async def quiet(self, seconds: float) -> None:
        """How the client is served by itself."""
        await self._friend.order("begin")
        await anyio.sleep(seconds)
        self._usual = _p99(await self._served())
        print(f"        p99 without a flood {self._usual * 1000:.1f} ms", flush=True)
        self.before, _ = await self.looked()

    async def show(self, name: str) -> None:
        """One flood at its size."""
        verdict = self._verdict
        before, _ = await self.looked()
        await self._friend.order("begin")
        begin = time.monotonic()
        sums, most = await self.flood(name, self._scale)
        seconds = time.monotonic() - begin
        served = await self._served()
        after, took, peaks = await self.at_rest(before)
        told = {"answers": sums["answers"], "closes": sums["closes"]}
        print(
            f"  {name}: {sums['sent']} over {sums['links']} connections in {seconds:.1f} s; {told}"
        )
        verdict.zero(f"{name}: the client's errors", len(served["errors"]))
        for error in served["errors"][:5]:
            print(f"        {error}")
        self._judge_times(name, served)
        if name == "cancels":
            verdict.check(
                f"{name}: live handlers of a session",
                peaks[0],
                0 < peaks[0] <= SLOTS,
                f"(1 to {SLOTS}; {peaks[1]} in all)",
            )
        for what in ("tasks", "generators", "sessions", "descriptors"):
            good = after[what] <= before[what]
            verdict.check(f"{name}: {what} again", after[what], good, f"(were {before[what]})")
        verdict.within(f"{name}: that was so", [took], RETURN)
        grown = round(most - before["memory"], 1)
        verdict.check(f"{name}: MiB more", grown, grown <= ROOM, f"(at most {ROOM})")
        kept = round(after["memory"] - before["memory"], 1)
        verdict.check(f"{name}: MiB kept", kept, kept <= ROOM / 4, f"(at most {ROOM // 4})")

    async def flood(self, name: str, scale: float) -> tuple[Sums, float]:
        """Let it happen; returns what came of it, and the most MiB that the server had."""
        n = max(round(FLOODS[name][1] * scale), 1)
        most, told = 0.0, ""

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, _memory(self._server))
                await anyio.sleep(0.02)

        async with (
            child(
                self._verdict, "tests.soak.flooder", self._server.url, name, n, self._seed
            ) as flooder,
            anyio.create_task_group() as group,
        ):
            group.start_soon(watch)
            with anyio.fail_after(300):
                await flooder.ended()
            told = await flooder.line("sums")
            group.cancel_scope.cancel()
        sums: Sums = json.loads(told)
        return sums, most

    async def at_rest(self, before: Usage) -> tuple[Usage, float, tuple[int, int]]:
        """The server once it is back where it was, how long that took, and its peaks."""
        begin = time.monotonic()
        most = (0, 0)
        while True:
            after, peaks = await self.looked()
            most = max(most, peaks)
            took = time.monotonic() - begin
            back = all(
                after[what] <= before[what]
                for what in ("tasks", "generators", "sessions", "descriptors")
            )
            if back or took > 2 * RETURN:
                return after, took, most
            await anyio.sleep(0.2)

    async def looked(self) -> tuple[Usage, tuple[int, int]]:
        """What the server holds, and the most handlers that have lingered since the last look."""
        async with wsrpc.connect(self._server.url) as session:
            soak = session.clientize(Soak)
            return await soak.usage(), await soak.peaks()

    async def _served(self) -> Served:
        """How the client was served since it was told to begin."""
        self._friend.lines.clear()
        await self._friend.order("end")
        served: Served = json.loads(await self._friend.line("served"))
        return served

    def _judge_times(self, name: str, served: Served) -> None:
        bound = max(LATENCY, FACTOR * self._usual)
        self._verdict.within(f"{name}: p99 of {len(served['times'])} calls", [_p99(served)], bound)
        longest = [
            f"{max(times, default=0):.3f} s" for times in (served["times"], served["visits"])
        ]
        print(
            f"        longest call {longest[0]}; longest of {len(served['visits'])} visits "
            f"{longest[1]}",
            flush=True,
        )


def _p99(served: Served) -> float:
    times = sorted(served["times"])
    return times[len(times) * 99 // 100] if times else 0.0


def _memory(server: Child) -> float:
    """MiB that it has in memory."""
    with open(f"/proc/{server.process.pid}/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


async def over_picows(scale: float = 1.0, seed: int = 1, hello_timeout: float = 10.0) -> bool:
    """The same over the other transport."""
    return await floods(scale, seed, hello_timeout, transport="picows")


if __name__ == "__main__":
    main(floods, over_picows)
