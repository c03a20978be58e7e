"""What the strangers of these tests find at the port, and a friend who is served meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from pydantic import BaseModel

import wsrpc
from tests.support import Codec
from wsrpc.interfaces import Handshake

from .cases import GOOD, KNOWN, LIMITS

__all__ = ["Friend", "Target", "guarded"]


class Tree(BaseModel):
    children: list[Tree] = []


class Target:
    @wsrpc.method
    async def greet(self, name: str) -> str:
        return f"Hello, {name[:20]}!"

    @wsrpc.method
    async def echo(self, value: object) -> object:
        return value

    @wsrpc.method
    async def number(self, value: float) -> float:
        return value

    @wsrpc.method
    async def tree(self, tree: Tree) -> int:
        return len(tree.children)

    @wsrpc.method
    async def wait(self) -> None:
        await anyio.sleep_forever()

    @wsrpc.method(oneway=True)
    async def rest(self) -> None:
        await anyio.sleep_forever()

    @wsrpc.method(oneway=True)
    async def note(self, text: str) -> None:
        """Nothing comes of it."""

    @wsrpc.method
    async def items(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    @wsrpc.method
    async def hold(self, numbers: AsyncIterator[int]) -> None:
        await anyio.sleep_forever()

    @wsrpc.method
    async def ask(self, f: Callable[[int], Awaitable[None]]) -> None:
        await anyio.sleep_forever()

    @wsrpc.method
    async def call_back(self, f: Callable[[], Awaitable[None]]) -> None:
        await f()

    @wsrpc.method
    async def flow(self, size: int) -> AsyncIterator[str]:
        while True:
            yield "x" * size

    @wsrpc.method
    async def huge(self) -> str:
        return "x" * 100_000

    @wsrpc.method
    async def loud(self) -> None:
        raise wsrpc.RpcError("aborted", "x" * 300_000)

    @wsrpc.method
    async def boom(self, text: str) -> None:
        raise ValueError(text)

    async def plain(self) -> str:
        return "not exposed"

    async def _private(self) -> str:
        return "not exposed"


async def authenticate(handshake: Handshake, auth: Any) -> str:
    """One password for everybody."""
    if auth == GOOD:
        return "friend"
    if auth == KNOWN:
        raise wsrpc.RpcError("permission_denied")
    raise wsrpc.RpcError("unauthenticated")


class Friend:
    """A client that makes calls while another one misbehaves."""

    def __init__(self, session: wsrpc.Session) -> None:
        self.session = session
        self.calls = 0
        self._target = session.clientize(Target)

    async def call(self) -> None:
        self.calls += 1
        assert await self._target.echo(self.calls) == self.calls


@asynccontextmanager
async def guarded(codec: Codec, **limits: Any) -> AsyncIterator[tuple[wsrpc.Listener, Friend]]:
    """A server with credentials, and a friend who has them."""
    server = wsrpc.Server(
        [Target()],
        limits=wsrpc.Limits(**{**LIMITS, "close_timeout": 0.5, "resume_window": 0, **limits}),
        authenticate=authenticate,
    )
    async with server.listen() as listener:
        async with wsrpc.connect(listener.url, codec=codec, auth=GOOD) as session:
            yield listener, Friend(session)
