"""A server in a process of its own, which says what it holds: `python -m tests.server.holder`.

It takes the backend and its limits as JSON, prints its URL, and answers each line on stdin with a
line of JSON. With a third argument there is no garbage collector, and what is allocated is counted;
the lines "revoke" and "close" then end the sessions of strangers.
"""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread

import wsrpc

MIB = 2**20


class Holder:
    @wsrpc.method
    async def echo(self, value: str) -> str:
        return value

    @wsrpc.method
    async def greet(self, name: str) -> str:
        return f"Hello, {name}!"

    @wsrpc.method
    async def text(self, size: int) -> str:
        return "x" * size

    @wsrpc.method
    async def fail(self, size: int) -> None:
        raise wsrpc.RpcError("aborted", "too much to tell", "x" * size)

    @wsrpc.method
    async def last(self, size: int) -> AsyncIterator[str | wsrpc.Final[str]]:
        yield wsrpc.Final("x" * size)

    @wsrpc.method
    async def texts(self, size: int) -> AsyncIterator[str]:
        while True:
            yield "x" * size

    @wsrpc.method
    async def wait(self, value: str = "") -> None:
        await anyio.sleep_forever()

    @wsrpc.method
    async def upload(self, items: AsyncIterator[str]) -> None:
        await anyio.sleep_forever()

    @wsrpc.method
    async def call_back(self, size: int, callback: Callable[[str], Awaitable[None]]) -> None:
        await callback("x" * size)


def memory(field: str) -> int:
    """Bytes: "VmRSS" is what this process takes up now, "VmHWM" the most so far."""
    with open("/proc/self/status", encoding="ascii") as status:
        [line] = [line for line in status if line.startswith(field)]
    return int(line.split()[1]) * 1024


async def principal(handshake: wsrpc.Handshake, auth: Any) -> str:
    return auth or "stranger"


async def main(limits: dict[str, Any], collector: bool) -> None:
    server = wsrpc.Server(
        [Holder()],
        limits=wsrpc.Limits(**limits),
        authenticate=None if collector else principal,
    )
    most = 0
    if not collector:
        gc.disable()
        tracemalloc.start(1)
    async with server.listen() as listener, anyio.create_task_group() as group:

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, server.snapshot().held_bytes)
                await anyio.sleep(0.02)

        group.start_soon(watch)
        print(listener.url, flush=True)
        while line := await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            if line == "revoke\n":
                server.revoke("stranger")
            elif line == "close\n":
                for session in server.sessions.values():
                    if session.principal == "stranger":
                        await session.aclose()
                    del session
            now = server.snapshot()
            said = {
                "memory": memory("VmRSS") / MIB,
                "peak": memory("VmHWM") / MIB,
                "held": now.held_bytes / MIB,
                "most": most / MIB,
                "traced": tracemalloc.get_traced_memory()[0] / MIB,
                "sessions": now.sessions,
                "closes": now.closes,
            }
            print(json.dumps(said), flush=True)
        group.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, json.loads(sys.argv[2]), len(sys.argv) < 4, backend=sys.argv[1])
