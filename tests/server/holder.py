"""A server in a process of its own, which says what it holds: `python -m tests.server.holder`.

It takes the backend and its limits as JSON, prints its URL, and answers each line on stdin with a
line of JSON.
"""

from __future__ import annotations

import json
import sys
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


async def main(limits: dict[str, Any]) -> None:
    server = wsrpc.Server([Holder()], limits=wsrpc.Limits(**limits))
    most = 0
    async with server.listen() as listener, anyio.create_task_group() as group:

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, server.snapshot().held_bytes)
                await anyio.sleep(0.02)

        group.start_soon(watch)
        print(listener.url, flush=True)
        while await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            now = server.snapshot()
            said = {
                "memory": memory("VmRSS") / MIB,
                "peak": memory("VmHWM") / MIB,
                "held": now.held_bytes / MIB,
                "most": most / MIB,
                "sessions": now.sessions,
                "closes": now.closes,
            }
            print(json.dumps(said), flush=True)
        group.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, json.loads(sys.argv[2]), backend=sys.argv[1])
