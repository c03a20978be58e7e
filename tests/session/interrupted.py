"""A server whose handler is interrupted from the keyboard; run by a test, in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator

import anyio

import wsrpc


class Interrupted:
    @wsrpc.method
    async def coroutine(self) -> int:
        raise KeyboardInterrupt

    @wsrpc.method
    def thread(self) -> int:
        raise KeyboardInterrupt

    @wsrpc.method
    async def cleanup(self) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise KeyboardInterrupt

    @wsrpc.method
    def generator(self) -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    @wsrpc.method
    async def child(self) -> None:
        async def interrupted() -> None:
            raise KeyboardInterrupt

        async with anyio.create_task_group() as group:
            group.start_soon(interrupted)


async def main(method: str) -> None:
    async with wsrpc.Server([Interrupted()]).listen("127.0.0.1", 0) as listener:
        async with wsrpc.connect(listener.url) as session:
            call = getattr(session.clientize("Interrupted"), method)()
            try:
                await (call.collect() if method in ("cleanup", "generator") else call)
            except wsrpc.RpcError:
                pass
            await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], backend=sys.argv[2])
