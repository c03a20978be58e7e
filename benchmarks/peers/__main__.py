"""One process of a peer: ``python -m benchmarks.peers NAME server`` or ``… NAME client ADDRESS``.

Standard output carries one JSON object a line: first ``{"ready": address}`` (or ``{"unavailable":
reason}``), then one answer to each line of standard input, whose end ends the process. Anything
else that is printed goes to standard error.

A server answers ``{"cpu": seconds}``, its CPU time so far, and collects its garbage before that if
asked with ``{"tidy": true}``. A client takes ``{"work": name,
"count": operations}`` and answers with `measure`'s sample, or ``{"error": text}``.
"""

import asyncio
import gc
import json
import os
import sys
import threading
import time
import traceback
from typing import Any

from benchmarks.peers import load
from benchmarks.peers.base import Client, Peer
from benchmarks.works import WORKS, verify

_replies = os.fdopen(os.dup(1), "w")


def reply(**answer: Any) -> None:
    """Write one line to the harness."""
    print(json.dumps(answer), file=_replies, flush=True)


async def measure(client: Client, name: str, count: int) -> dict[str, Any]:
    """Do ``count`` operations of the work; return wall seconds, CPU seconds and the fairness."""
    work = WORKS[name]
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    fairness = await work.run(client, count)
    seconds = time.perf_counter() - wall
    return {"seconds": seconds, "cpu": time.process_time() - cpu, "fairness": fairness}


async def run_server(peer: Peer) -> None:
    """Serve until standard input ends, and tell the CPU time whenever a line asks for it."""
    serving = asyncio.ensure_future(peer.serve(lambda address: reply(ready=address)))
    loop = asyncio.get_running_loop()

    def answer() -> None:
        for line in sys.stdin:
            if json.loads(line)["tidy"]:
                gc.collect()
            reply(cpu=time.process_time())
        loop.call_soon_threadsafe(serving.cancel)

    # A thread of its own: it waits without a cost, and asks nothing of the peer's event loop.
    threading.Thread(target=answer, daemon=True).start()
    await asyncio.wait([serving])
    if not serving.cancelled():
        serving.result()


async def run_client(peer: Peer, address: str) -> None:
    """Connect, check the answers, then do the works that standard input names."""
    async with peer.connect(address) as client:
        await verify(client)
        reply(ready=address)
        while line := await asyncio.to_thread(sys.stdin.readline):
            request = json.loads(line)
            try:
                reply(**await measure(client, request["work"], request["count"]))
            except Exception as error:  # noqa: BLE001  whatever it is, the report names it
                traceback.print_exc()
                reply(error=f"{type(error).__name__}: {error}")


def main() -> None:
    """Be the process that the command line names."""
    os.dup2(2, 1)
    name, role, *address = sys.argv[1:]
    try:
        peer = load(name)
    except ImportError as error:
        reply(unavailable=str(error))
        return
    asyncio.run(run_server(peer) if role == "server" else run_client(peer, *address))


if __name__ == "__main__":
    main()
