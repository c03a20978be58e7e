"""A process of clients is frozen with SIGSTOP: for longer than the window, and for less.

The server takes it for dead after the heartbeat, and keeps its sessions for the window behind that.
"""

from __future__ import annotations

import json
import random
import signal

import anyio

import wsrpc

from .consumer import Outcome
from .service import Soak
from .support import Verdict, child, main

BEAT = (1.0, 1.0)
PAUSE = 0.05
STREAMS = 3

# Seconds for which the clients have something to send, the freeze aside.
ACTIVE = 2.5

# Seconds beyond what the heartbeat takes until a silent client has certainly been detached.
MARGIN = 1.5


async def frozen(clients: int = 20, window: float = 5.0, seed: int = 1) -> bool:
    """Show it; returns whether all is well."""
    passed = True
    for seconds in (0.5, sum(BEAT) + MARGIN, sum(BEAT) + window + MARGIN):
        passed &= await freeze(seconds, clients, window, seed)
    return passed


async def freeze(seconds: float, clients: int, window: float, seed: int) -> bool:
    """Freeze them once for so many seconds."""
    beat = sum(BEAT)
    verdict = Verdict(
        f"frozen: {clients} clients for {seconds:g} s, window {window:g} s behind a heartbeat of "
        f"{beat:g} s",
        seed,
    )
    outcomes, counts = await _thawed(verdict, seconds, clients, window)
    lost = seconds > beat + window
    verdict.equal("clients", len(outcomes), clients)
    if not lost:
        detached = clients if seconds > beat else 0
        verdict.equal("sessions without a link at the thaw", counts["detached"], detached)
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
    verdict: Verdict, seconds: float, clients: int, window: float
) -> tuple[list[Outcome], dict[str, int]]:
    """What became of the clients, and what the server counted when they were thawed."""
    options = ("--resume-window", window, "--heartbeat", *BEAT)
    n = round(ACTIVE / PAUSE)
    async with child(verdict, "tests.soak.service", *options) as server:
        async with child(verdict, "tests.soak.consumer", server.url, clients, n, PAUSE) as consumer:
            await consumer.line("begun")
            await anyio.sleep(random.uniform(0.2, 0.7))
            consumer.signal(signal.SIGSTOP)
            try:
                await anyio.sleep(seconds)
                async with wsrpc.connect(server.url) as session:
                    counts = await session.clientize(Soak).counts()
            finally:
                consumer.signal(signal.SIGCONT)
            return json.loads(await consumer.line("outcomes")), counts


if __name__ == "__main__":
    main(frozen)
