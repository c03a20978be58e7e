"""A process of clients is frozen with SIGSTOP: for a moment, within the window, and beyond it.

The server takes it for dead after the heartbeat, and keeps its sessions for the window after that.
"""

from __future__ import annotations

import json
import random
import signal
import time
from typing import Literal

import anyio

import wsrpc

from .consumer import Outcome
from .service import Soak
from .support import Child, Verdict, child, main

BEAT = (1.0, 1.0)
PAUSE = 0.05
STREAMS = 3

# Seconds for which the clients have something to send, the freeze aside.
ACTIVE = 2.5

# Until when they are frozen.
Until = Literal["soon", "detached", "gone"]
TITLES: dict[Until, str] = {
    "soon": "for a moment",
    "detached": "until their sessions have no link",
    "gone": "until their sessions are gone",
}


async def frozen(clients: int = 20, window: float = 5.0, seed: int = 1) -> bool:
    """Show it; returns whether all is well."""
    passed = True
    for until in TITLES:
        passed &= await freeze(until, clients, window, seed)
    return passed


async def freeze(
    until: Until, clients: int, window: float, seed: int, *, timed: bool = True
) -> bool:
    """Freeze them once."""
    beat = sum(BEAT)
    verdict = Verdict(
        f"frozen: {clients} clients, {TITLES[until]}; heartbeat {BEAT[0]:g} and {BEAT[1]:g} s, "
        f"window {window:g} s",
        seed,
        timed=timed,
    )
    seconds, outcomes = await _thawed(verdict, until, clients, window)
    if until == "detached":
        verdict.within("found to be silent", [seconds], beat + 1.2, BEAT[1])
    elif until == "gone":
        verdict.within("given up", [seconds], beat + window + 1.4, BEAT[1] + window)
    verdict.equal("clients", len(outcomes), clients)
    lost = until == "gone"
    ends = [end for one in outcomes for end in one["ends"]]
    wanted = "ConnectionLost unavailable" if lost else "whole"
    name = "streams whose caller was told that they are lost" if lost else "streams whole"
    verdict.equal(name, ends.count(wanted), STREAMS * clients)
    verdict.zero("streams that ended otherwise", len(ends) - ends.count(wanted))
    verdict.equal("clients whose items have no gap", sum(one["whole"] for one in outcomes), clients)
    anew = sum("connecting" in one["states"] for one in outcomes)
    verdict.equal("sessions that had to begin anew, and say so", anew, clients if lost else 0)
    verdict.equal("sessions that go on", sum(one["goes_on"] for one in outcomes), clients)
    if not lost:
        verdict.equal("uploads whole", sum(one["sums"] == [0, 0, 0] for one in outcomes), clients)
    return verdict.end()


async def _thawed(
    verdict: Verdict, until: Until, clients: int, window: float
) -> tuple[float, list[Outcome]]:
    """For how long the clients were frozen, and what became of them."""
    options = ("--resume-window", window, "--heartbeat", *BEAT)
    n = round(ACTIVE / PAUSE)
    async with child(verdict, "tests.soak.service", *options) as server:
        async with child(verdict, "tests.soak.consumer", server.url, clients, n, PAUSE) as consumer:
            await consumer.line("begun")
            await anyio.sleep(random.uniform(0.2, 0.7))
            begin = time.monotonic()
            consumer.signal(signal.SIGSTOP)
            try:
                await _reached(server, until, clients)
            finally:
                consumer.signal(signal.SIGCONT)
            return time.monotonic() - begin, json.loads(await consumer.line("outcomes"))


async def _reached(server: Child, until: Until, clients: int) -> None:
    if until == "soon":
        await anyio.sleep(0.5)
        return
    async with wsrpc.connect(server.url) as session:
        soak = session.clientize(Soak)
        with anyio.move_on_after(60):
            while True:
                counts = await soak.counts()
                # This session is one of those that are left.
                if (
                    counts["detached"] == clients
                    if until == "detached"
                    else counts["sessions"] == 1
                ):
                    return
                await anyio.sleep(0.05)


if __name__ == "__main__":
    main(frozen)
