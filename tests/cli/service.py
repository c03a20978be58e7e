"""The controllers of these tests' servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
from pydantic import BaseModel

import wsrpc
from wsrpc.interop.service import Interop


class Token(BaseModel):
    """One piece of a text."""

    message: str
    index: int | None = None


class Desk:
    """Answers, streams and listens."""

    def __init__(self) -> None:
        self._fates: dict[str, str] = {}

    @wsrpc.method
    async def greet(self, name: str, times: int = 1) -> str:
        """Greet one person."""
        return " ".join([f"Hello, {name}!"] * times)

    @wsrpc.method
    async def tokens(self, hello: str) -> AsyncIterator[Token | wsrpc.Final[int]]:
        """Three tokens, and how many they were."""
        for index, message in enumerate(("Hello", ", ", hello)):
            yield Token(message=message, index=index)
        yield wsrpc.Final(3)

    @wsrpc.method
    async def count(self, lines: AsyncIterator[str]) -> int:
        return len([line async for line in lines])

    @wsrpc.method
    async def upper(self, lines: AsyncIterator[str]) -> AsyncIterator[str]:
        async for line in lines:
            yield line.upper()

    @wsrpc.method
    async def first(self, numbers: AsyncIterator[int]) -> int:
        return await anext(numbers)

    @wsrpc.method
    async def both(self, left: AsyncIterator[int], right: AsyncIterator[int]) -> list[list[int]]:
        return [[one async for one in left], [one async for one in right]]

    @wsrpc.method
    async def maybe(self, lines: AsyncIterator[str] | None = None) -> str:
        return "nothing" if lines is None else ",".join([line async for line in lines])

    @wsrpc.method
    async def build(self, target: str, on_step: Callable[[int, Token], Awaitable[None]]) -> str:
        for number in range(2):
            await on_step(number, Token(message=target))
        return f"built {target}"

    @wsrpc.method(oneway=True)
    async def log(self, line: str) -> None:
        self._fates["log"] = line

    @wsrpc.method
    async def fail(self) -> None:
        raise wsrpc.RpcError("not_found", "no such thing\x1b[2J", {"tried": [1, 2]})

    @wsrpc.method
    async def fail_midway(self) -> AsyncIterator[int]:
        yield 0
        yield 1
        raise wsrpc.RpcError("aborted", "enough")

    @wsrpc.method
    async def boom(self) -> None:
        raise KeyError("a secret")

    @wsrpc.method
    async def blob(self) -> bytes:
        return b"\x00\xff"

    @wsrpc.method
    async def flood(self) -> AsyncIterator[str]:
        while True:
            yield "x" * 1000

    @wsrpc.method
    async def ticks(self, name: str) -> AsyncIterator[int]:
        """Count until it is stopped."""
        self._fates[name] = "running"
        number = 0
        try:
            while True:
                yield number
                number += 1
                await anyio.sleep(0.01)
        finally:
            self._fates[name] = "finally ran"

    @wsrpc.method
    async def nap(self, name: str) -> None:
        self._fates[name] = "running"
        try:
            await anyio.sleep(60)
        finally:
            self._fates[name] = "finally ran"

    @wsrpc.method
    async def fate(self, name: str) -> str:
        """The end that a handler came to."""
        return self._fates.get(name, "never ran")

    @wsrpc.method
    async def delete(self, what: str) -> str:
        """Ask the caller before it is done."""
        screen = wsrpc.current().session.clientize("Screen", timeout=5)
        await screen.show.notify(line=f"about to delete {what}")
        sure = await screen.confirm(question=f"Delete {what}?")
        return f"deleted {what}" if sure is True else f"kept {what} ({sure!r})"

    @wsrpc.method
    async def watch(self, most: int = 10) -> list[object]:
        """Read a stream of the caller's."""
        seen: list[object] = []
        keys = wsrpc.current().session.clientize("Screen", timeout=5).keys(after=0)
        async for key in keys:
            seen.append(key)
            if len(seen) == most:
                break
        return seen

    @wsrpc.method
    async def guess(self, ask: Callable[[str], Awaitable[int]]) -> int:
        return await ask("a number?") * 2

    @wsrpc.method
    async def size(self, data: bytes) -> int:
        return len(data)

    @wsrpc.method
    async def sizes(self, pieces: AsyncIterator[bytes]) -> list[int]:
        return [len(piece) async for piece in pieces]

    @wsrpc.method
    async def whoami(self) -> dict[str, object]:
        context = wsrpc.current()
        return {
            "principal": context.principal,
            "metadata": dict(context.metadata),
            "header": context.session.handshake.headers.get("x-team"),
        }


async def authenticate(handshake: wsrpc.Handshake, auth: object) -> object:
    if auth == "wrong":
        raise wsrpc.RpcError("unauthenticated")
    return auth


desk = Desk()
server = wsrpc.Server([desk], authenticate=authenticate)
silent = wsrpc.Server([desk], reflection=False)
everything = [Desk]
number = 5


class Counted(Interop):
    """The controller that `wsrpc bench` calls; it counts the calls."""

    controller_name = "Interop"

    def __init__(self) -> None:
        super().__init__()
        self._echoes = 0

    @wsrpc.method
    async def echo(self, value: object) -> object:
        self._echoes += 1
        return value

    @wsrpc.method
    async def echoes(self) -> int:
        return self._echoes


class Broken:
    """A controller that `wsrpc bench` cannot use."""

    controller_name = "Interop"

    def __init__(self) -> None:
        self._calls = 0

    @wsrpc.method
    async def echo(self, value: object) -> object:
        self._calls += 1
        if self._calls % 10 == 0:
            raise wsrpc.RpcError("resource_exhausted", "that was one too many")
        return value

    @wsrpc.method
    async def sum(self, numbers: AsyncIterator[int]) -> int:
        return 0


broken = wsrpc.Server([Broken()])
counted = wsrpc.Server([Counted()])
