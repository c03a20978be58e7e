"""What a session held goes with its end, and does not wait for the garbage collector."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import anyio
import pytest

import wsrpc
from tests.hostile.raw import RawLink, raw_link, ws
from tests.support import Codec, served, until

from .test_memory import (
    Attack,
    answers_unread,
    callbacks,
    echoes,
    items_never_taken,
    process,
    settled,
    streams_unread,
    unfinished,
    uploads_in_chunks,
    waiting_arguments,
)

MIB = 2**20
CLOSE = ws(8, (1000).to_bytes(2, "big"))

HOLDINGS: list[Attack] = [
    partial(echoes, calls=3, size=MIB),
    partial(waiting_arguments, calls=3, size=MIB),
    partial(answers_unread, calls=4, size=MIB),
    partial(streams_unread, calls=3, size=MIB),
    partial(items_never_taken, calls=3, size=50_000),
    partial(uploads_in_chunks, calls=3, size=MIB),
    partial(unfinished, calls=3, size=MIB),
    partial(callbacks, calls=3, size=MIB),
]


@contextmanager
def no_collector() -> Iterator[Callable[[], float]]:
    """Turn the collector off; gives a function that tells how many MiB are held more than before."""
    gc.collect()
    gc.disable()
    tracemalloc.start(1)
    before, _ = tracemalloc.get_traced_memory()
    try:
        yield lambda: (tracemalloc.get_traced_memory()[0] - before) / MIB
    finally:
        tracemalloc.stop()
        gc.enable()


async def everybody(handshake: wsrpc.Handshake, auth: Any) -> str:
    return "everybody"


ENDS: dict[str, dict[str, Any]] = {
    "closed by the client": {"resume_window": 0.1},
    "link lost": {"resume_window": 0.1},
    "revoke": {},
    "close": {},
    "closed with 4001": {"resume_window": 0.1, "max_session_bytes": 2 * MIB, "stall_timeout": 0.5},
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "how",
    [pytest.param(how, marks=() if how == "link lost" else pytest.mark.slow) for how in ENDS],
)
async def test_what_a_session_held_is_freed_when_it_ends(
    anyio_backend_name: str, codec: Codec, how: str
) -> None:
    limits = {"stall_timeout": 60, "cleanup_timeout": 0.5, **ENDS[how]}
    links: list[RawLink] = []

    async def attack(url: str, what: Attack) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, OSError):
            async with raw_link(url, codec) as link:
                links.append(link)
                await what(link)
                await anyio.sleep_forever()

    async with process(anyio_backend_name, "no collector", **limits) as target:
        before = await target.now()
        async with anyio.create_task_group() as group:
            for what in HOLDINGS:
                group.start_soon(attack, target.url, what)
            if how != "closed with 4001":
                held = await settled(target, lambda now: now["held"] > 12)
                assert held["traced"] - before["traced"] > 12
            if how == "closed by the client":
                for link in links:
                    # Those that the server does not read cannot say it, and just go.
                    with suppress(anyio.BusyResourceError), anyio.move_on_after(0.5):
                        await link.send_bytes(CLOSE)
            elif how == "closed with 4001":
                await settled(target, lambda now: now["closes"].get("4001", 0) >= 3)
            elif how != "link lost":
                await target.order(how)
                await settled(target, lambda now: now["sessions"] <= 1)
            group.cancel_scope.cancel()
        await settled(target, lambda now: now["sessions"] <= 1)
        # On trio websockets itself keeps what nobody read of a link, 0.3 MiB at most, in a cycle.
        after = await settled(target, lambda now: now["traced"] - before["traced"] < 2)
        print(how, codec, before, after)


class Both:
    @wsrpc.method
    async def wait(self, value: str) -> None:
        await anyio.sleep_forever()

    @wsrpc.method
    async def texts(self) -> AsyncIterator[str]:
        for _ in range(8):
            yield "x" * (MIB // 2)
        await anyio.sleep_forever()

    @wsrpc.method
    async def upload(self, items: AsyncIterator[str]) -> None:
        await anyio.sleep_forever()

    @wsrpc.method
    async def ask(self, fn: Callable[[str], Awaitable[str]]) -> str:
        return await fn("x" * MIB)


async def uploaded() -> AsyncIterator[str]:
    for _ in range(8):
        yield "x" * (MIB // 2)


async def never(value: str) -> str:
    await anyio.sleep_forever()
    return value


async def one_unread(session: wsrpc.Session) -> None:
    with suppress(wsrpc.RpcError):
        async with session.clientize(Both).texts() as stream:
            await anext(stream)
            await until(lambda: session.closed)


async def waited_for(call: Awaitable[Any]) -> None:
    with suppress(wsrpc.RpcError):
        await call


CLIENT_ENDS = [
    "left",
    "revoked",
    pytest.param("drained", marks=pytest.mark.slow),
    pytest.param("closed by the server", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("how", CLIENT_ENDS)
async def test_what_both_ends_of_a_session_held_is_freed_when_it_ends(
    codec: Codec, how: str
) -> None:
    limits = wsrpc.Limits(cleanup_timeout=0.5)
    left: list[bool] = []

    async def session_of_its_own(url: str) -> None:
        with suppress(wsrpc.RpcError):
            async with wsrpc.connect(url, codec=codec, limits=limits, reconnect=False) as session:
                proxy = session.clientize(Both)
                async with anyio.create_task_group() as group:
                    for _ in range(3):
                        group.start_soon(waited_for, proxy.wait("x" * MIB))
                    group.start_soon(waited_for, proxy.upload(uploaded()))
                    group.start_soon(waited_for, proxy.ask(never))
                    group.start_soon(one_unread, session)
                    await until(lambda: session.closed or bool(left))
                    await session.aclose()

    async with served([Both()], limits=limits, authenticate=everybody) as listener:
        server = listener.server
        # What is made once: validators, threads.
        async with wsrpc.connect(listener.url, codec=codec) as session:
            assert session.clientize(Both)
        with no_collector() as kept:
            async with anyio.create_task_group() as group:
                group.start_soon(session_of_its_own, listener.url)
                await until(lambda: server.snapshot().held_bytes > 4 * MIB)
                match how:
                    case "left":
                        left.append(True)
                    case "revoked":
                        server.revoke("everybody")
                    case "drained":
                        await server.drain(0.0)
                    case _:
                        for session in server.sessions.values():
                            await session.aclose()
                        del session
            await until(lambda: not server.sessions)
            await until(lambda: kept() < 1)


async def test_the_arguments_of_a_call_that_cannot_begin_are_freed() -> None:
    async with served([Both()]) as listener, wsrpc.connect(listener.url) as session:
        proxy = session.clientize(Both, metadata={"much": "x" * 100_000})
        code = ""
        with no_collector() as kept:
            # By hand: pytest's context managers keep the error, and with it all frames.
            try:
                await proxy.wait("x" * 2 * MIB)
            except wsrpc.RpcError as error:
                code = error.code
            await until(lambda: kept() < 1)
    assert code == "resource_exhausted"
