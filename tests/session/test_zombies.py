"""The process stops when it is told to, and not when a caller makes some library of it exit."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import error_of, pair, soon


class Exits:
    """Calls `sys.exit` wherever a peer can make it do so."""

    @wsrpc.method
    async def coroutine(self) -> int:
        sys.exit(3)

    @wsrpc.method
    def thread(self) -> int:
        sys.exit(3)

    @wsrpc.method
    async def items(self) -> AsyncIterator[int]:
        yield 1
        sys.exit(3)

    @wsrpc.method
    async def cleanup(self) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            sys.exit(3)

    @wsrpc.method
    def generator(self) -> Iterator[int]:
        yield 1
        sys.exit(3)

    @wsrpc.method
    def generator_cleanup(self) -> Iterator[int]:
        try:
            yield 1
        finally:
            sys.exit(3)

    @wsrpc.method
    async def ask(self, fn: Callable[[], Awaitable[int]]) -> int:
        return await fn()

    @wsrpc.method
    async def ping(self) -> str:
        return "pong"


VALUES = ["coroutine", "thread"]
STREAMS = ["items", "cleanup", "generator", "generator_cleanup"]


@pytest.mark.parametrize("method", VALUES + STREAMS)
async def test_no_exception_of_user_code_leaves_a_zombie_on_either_backend_wherever_that_code_runs(
    method: str,
) -> None:
    async with pair([Exits()]) as (_, client):
        call: Any = getattr(client.clientize(Exits), method)()
        with error_of("internal") as caught:
            await (call.collect() if method in STREAMS else call)
        assert caught.value.error_id
        assert await client.clientize(Exits).ping() == "pong"


async def test_neither_does_one_of_an_interceptor_of_authorize_or_of_a_callback() -> None:
    async def inbound(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        sys.exit(3)

    async def authorize(context: wsrpc.CallContext) -> bool:
        if context.method == "coroutine":
            sys.exit(3)
        return True

    async def callback() -> int:
        sys.exit(3)

    class Guarded:
        interceptors = (inbound,)

        @wsrpc.method
        async def one(self) -> int:
            return 1

    async with pair([Exits(), Guarded()], authorize=authorize) as (_, client):
        proxy = client.clientize(Exits)
        for call in (
            client.clientize(Guarded).one(),
            proxy.coroutine(),
            proxy.ask(callback),
        ):
            with error_of("internal"):
                await call
        assert await proxy.ping() == "pong"


@pytest.mark.parametrize("method", ["coroutine", "thread", "cleanup", "generator", "child"])
async def test_keyboardinterrupt_ends_the_process(method: str, anyio_backend_name: str) -> None:
    program = [sys.executable, "-m", "tests.session.interrupted", method, anyio_backend_name]
    with soon():
        done = await anyio.run_process(program, check=False)
    assert b"KeyboardInterrupt" in done.stderr
    assert done.returncode != 0
