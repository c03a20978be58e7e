"""One process of a peer: ``python -m benchmarks.peers NAME server`` or ``… NAME client ADDRESS``.

Standard output carries one JSON object a line: first ``{"ready": address}`` (or ``{"unavailable":
reason}``), then one answer to each line of standard input, whose end ends the process. Anything
else that is printed goes to standard error. A client's first line also has ``"offers"``: the names
of the works that it can do.

A server answers ``{"cpu": seconds, "rss": bytes}``, its CPU time so far and its resident memory,
and collects its garbage before that if asked with ``{"tidy": true}``. A client takes ``{"verify":
true}``, or ``{"work": name, "count": operations}``, and answers with `measure`'s sample, or
``{"error": text}``.

A peer that is no Python is replaced by the program that its module names, which does the same.
"""

import asyncio
import gc
import json
import os
import sys
import threading
import time
import traceback
from contextlib import AsyncExitStack
from typing import Any

import psutil

from benchmarks.peers import load
from benchmarks.peers.base import Peer
from benchmarks.works import WORKS, Place, verify

_replies = os.fdopen(os.dup(1), "w")


def reply(**answer: Any) -> None:
    """Write one line to the harness."""
    print(json.dumps(answer), file=_replies, flush=True)


async def measure(place: Place, name: str, count: int) -> dict[str, Any]:
    """Do ``count`` operations of the work; return wall seconds, CPU seconds, further figures."""
    work = WORKS[name]
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    extras = await work.run(place, count)
    seconds = time.perf_counter() - wall
    return {"seconds": seconds, "cpu": time.process_time() - cpu, "extras": extras or {}}


async def run_server(peer: Peer) -> None:
    """Serve until standard input ends, and tell CPU time and memory whenever a line asks for it."""
    serving = asyncio.ensure_future(peer.serve(lambda address: reply(ready=address)))
    loop = asyncio.get_running_loop()
    process = psutil.Process()

    def answer() -> None:
        for line in sys.stdin:
            if json.loads(line)["tidy"]:
                gc.collect()
            reply(cpu=time.process_time(), rss=process.memory_info().rss)
        loop.call_soon_threadsafe(serving.cancel)

    # A thread of its own: it waits without a cost, and asks nothing of the peer's event loop.
    threading.Thread(target=answer, daemon=True).start()
    await asyncio.wait([serving])
    if not serving.cancelled():
        serving.result()


async def run_client(peer: Peer, address: str) -> None:
    """Connect, then check the answers and do the works as standard input says."""
    async with AsyncExitStack() as stack, peer.connect(address) as client:
        place = Place(client, peer, address, stack)
        offers = [name for name, work in WORKS.items() if hasattr(client, work.needs)]
        reply(ready=address, offers=offers)
        while line := await asyncio.to_thread(sys.stdin.readline):
            request = json.loads(line)
            try:
                if "verify" in request:
                    await verify(client)
                    reply(verified=True)
                else:
                    reply(**await measure(place, request["work"], request["count"]))
            except Exception as error:  # noqa: BLE001  whatever it is, the report names it
                traceback.print_exc()
                reply(error=_reason(error))


def _reason(error: BaseException) -> str:
    """An error in a line; of a group, its first one."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def main() -> None:
    """Be the process that the command line names."""
    name, role, *address = sys.argv[1:]
    try:
        peer = load(name)
        command = peer.command(role, *address) if hasattr(peer, "command") else None
    except ImportError as error:
        reply(unavailable=str(error))
        return
    if command:
        os.execvp(command[0], command)
    os.dup2(2, 1)
    with asyncio.Runner(loop_factory=getattr(peer, "new_event_loop", None)) as runner:
        runner.run(run_server(peer) if role == "server" else run_client(peer, *address))


if __name__ == "__main__":
    main()
