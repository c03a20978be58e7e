"""A thousand clients lose their connections at the same moment: they come back one by one.

They live in several processes. A thousand in one would come back when its event loop gets to it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import AsyncExitStack

import anyio

import wsrpc

from .flock import Times
from .service import Soak
from .support import Verdict, child, main
from .usage import many_files

# Seconds, and what part of all may return within one such slot.
SLOT = 0.1
SHARE = 0.15


async def herd(
    clients: int = 1000, processes: int = 10, seed: int = 1, *, timed: bool = True
) -> bool:
    """Show it; returns whether all is well."""
    many_files()
    verdict = Verdict(
        f"herd: {clients} clients in {processes} processes dropped at once", seed, timed=timed
    )
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(child(verdict, "tests.soak.service"))
        flocks = [
            await stack.enter_async_context(
                child(verdict, "tests.soak.flock", server.url, clients // processes)
            )
            for _ in range(processes)
        ]
        for flock in flocks:
            await flock.line("there")
        # The machine comes to rest.
        await anyio.sleep(1.5)
        dropped = time.monotonic()
        async with wsrpc.connect(server.url, reconnect=False) as session:
            await session.clientize(Soak).drop_all()
            await session.wait_closed()
        times: list[Times] = [json.loads(await flock.line("times")) for flock in flocks]
    tried = [at - dropped for one in times for at in one["tried"] if at > dropped]
    back = [at - dropped for one in times for at in one["back"]]
    errors = [error for one in times for error in one["errors"]]
    verdict.equal("clients that are back", len(back), clients)
    verdict.within("they are back", back, 30.0)
    verdict.zero("sessions lost", len(errors))
    for error in errors[:5]:
        print(f"        {error}")
    for what, moments in (("attempts", tried), ("returns", back)):
        slots = Counter(int(at / SLOT) for at in moments)
        slot, most = max(slots.items(), key=lambda item: item[1], default=(0, 0))
        share = most / clients
        verdict.check(
            f"most {what} in 100 ms",
            f"{most} at {slot * SLOT:.1f} s, {share:.1%}; {len(moments)} in {len(slots)} slots",
            share <= SHARE or not timed,
            f"(at most {SHARE:.0%})",
        )
    return verdict.end()


if __name__ == "__main__":
    main(herd)
