"""Either end of a rolling upgrade, written with names that release 0.1.0 has as well.

`upgrade_peer.py serve NAME` prints its URL, and drains on a line of stdin. `upgrade_peer.py visit CODEC URL`
makes a call of each kind; it prints `reset` wherever it wants its connection to be reset, goes on when a
line comes, and prints what came of it as JSON. `upgrade_peer.py move CODEC URL URL` prints the name of the
server that it reaches, and after each line of stdin again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal

import anyio
import anyio.to_thread

import wsrpc

ITEMS = 2_000
BLOB = 700_000


class Visitor:
    """The methods of the client."""

    @wsrpc.method
    async def name(self) -> str:
        return "Ann"

    @wsrpc.method
    async def letters(self, word: str) -> AsyncIterator[str]:
        for letter in word:
            yield letter


class Work:
    """The methods of the server; each session has an object of its own."""

    name = ""

    def __init__(self) -> None:
        self.begun = 0
        self.notes: list[str] = []
        self.cleanups = 0
        self.released = anyio.Event()

    @wsrpc.method
    async def where(self) -> str:
        return self.name

    @wsrpc.method
    async def count(self, n: int) -> AsyncIterator[int | wsrpc.Final[str]]:
        self.begun += 1
        for i in range(n):
            yield i
        yield wsrpc.Final("counted")

    @wsrpc.method
    async def total(self, numbers: AsyncIterator[int]) -> list[int]:
        self.begun += 1
        got = [number async for number in numbers]
        return [len(got), sum(got)]

    @wsrpc.method
    async def echo(self, items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self.begun += 1
        async for item in items:
            yield item

    @wsrpc.method
    async def report(self, n: int, on_progress: Callable[[int], Awaitable[None]]) -> int:
        self.begun += 1
        for i in range(n):
            await on_progress(i)
        return n

    @wsrpc.method
    async def introduce(self) -> str:
        visitor = wsrpc.current().session.clientize(Visitor)
        name = await visitor.name()
        return "-".join([letter async for letter in visitor.letters(name)])

    @wsrpc.method
    async def hold(self) -> str:
        self.begun += 1
        await self.released.wait()
        return "released"

    @wsrpc.method
    async def release(self) -> None:
        self.released.set()

    @wsrpc.method
    async def ticks(self) -> AsyncIterator[int]:
        try:
            for i in range(sys.maxsize):
                yield i
        finally:
            self.cleanups += 1

    @wsrpc.method
    async def never(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.cleanups += 1

    @wsrpc.method
    async def fail(self) -> None:
        raise wsrpc.RpcError("not_found", "no such thing", {"thing": 7})

    @wsrpc.method(oneway=True)
    async def note(self, text: str) -> None:
        self.notes.append(text)

    @wsrpc.method
    async def so_far(self) -> dict[str, Any]:
        return {"begun": self.begun, "notes": self.notes, "cleanups": self.cleanups}


async def line() -> str:
    return await anyio.to_thread.run_sync(sys.stdin.readline)


async def reset() -> None:
    print("reset", flush=True)
    await line()


async def serve(name: str) -> None:
    Work.name = name
    server = wsrpc.Server([Work])
    async with server.listen("127.0.0.1", 0) as listener:
        print(listener.url, flush=True)
        await line()
        await server.drain()


async def upload(n: int) -> AsyncIterator[int]:
    for i in range(n):
        if i == n // 2:
            await reset()
        yield i


async def blobs() -> AsyncIterator[bytes]:
    for i in range(3):
        if i == 1:
            await reset()
        yield bytes([i]) * BLOB


async def code_of(call: Callable[[], Awaitable[object]]) -> list[Any]:
    try:
        await call()
    except wsrpc.RpcError as error:
        return [str(error.code), error.message, error.data]
    return []


async def visit(codec: Literal["json", "msgpack"], url: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    async with wsrpc.connect(url, codec=codec, controllers=[Visitor()]) as session:
        work = session.clientize(Work)
        stream = work.count(ITEMS)
        counted = []
        async for n in stream:
            counted.append(n)
            if n in (ITEMS // 4, ITEMS // 2):
                await reset()
        seen["count"] = [counted == list(range(ITEMS)), stream.final]
        seen["total"] = await work.total(upload(ITEMS))
        back = [item async for item in work.echo(blobs())]
        seen["echo"] = [(len(item), item[0]) for item in back]

        heard: list[int] = []

        async def on_progress(i: int) -> None:
            heard.append(i)
            if i == 5:
                await reset()

        seen["report"] = [await work.report(10, on_progress), heard]
        seen["introduce"] = await work.introduce()

        async def held() -> None:
            seen["hold"] = await work.hold()

        async with anyio.create_task_group() as group:
            group.start_soon(held)
            # Calls begin in the order in which they were made: `hold` waits by now.
            await anyio.sleep(0)
            await work.where()
            await reset()
            await work.release()
        seen["fail"] = await code_of(work.fail)
        seen["deadline"] = (await code_of(session.clientize(Work, timeout=0.2).never))[0]
        async with work.ticks() as ticks:
            seen["ticks"] = [await anext(ticks), await anext(ticks)]
        for text in ("one", "two", "three"):
            await work.note(text)
        with anyio.fail_after(30):
            # Cleanups end on their own time.
            while (so_far := await work.so_far())["cleanups"] < 2:
                await anyio.sleep(0.01)
        seen["so_far"] = so_far
    return seen


async def move(codec: Literal["json", "msgpack"], urls: list[str]) -> None:
    async with wsrpc.connect(urls, codec=codec) as session:
        work = session.clientize(Work)
        while True:
            print(await work.where(), flush=True)
            if not await line():
                return


def main(words: list[str]) -> None:
    print(wsrpc.__file__, flush=True)
    match words:
        case ["serve", name]:
            anyio.run(serve, name)
        case ["visit", "json" | "msgpack" as codec, url]:
            print(json.dumps(anyio.run(visit, codec, url)), flush=True)
        case ["move", "json" | "msgpack" as codec, *urls]:
            anyio.run(move, codec, urls)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
