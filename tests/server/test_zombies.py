"""No exception of user code, and no peer that breaks off, leaves a process that neither serves nor ends."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.abc
import pytest

import wsrpc
from tests.support import error_of, soon, turns
from wsrpc.interop.bare_peer import open_bare
from wsrpc.transport.registry import Transport

from .faulty import Faulty, Made, Switch

# Seconds; turns a hang into a failure.
LONG = 90.0

Provoke = Callable[[wsrpc.Session, str], Awaitable[None]]


def call(name: str, *args: Any, code: str | None = "internal") -> Provoke:
    """A call that fails with this code; None: that works all the same."""

    async def provoke(session: wsrpc.Session, url: str) -> None:
        made: Any = getattr(session.clientize(Faulty), name)(*args)
        awaited = made.collect() if isinstance(made, wsrpc.Stream) else made
        if code is None:
            await awaited
            return
        with error_of(code) as caught:
            await awaited
        assert caught.value.error_id or code != "internal"

    return provoke


def notified(name: str) -> Provoke:
    async def provoke(session: wsrpc.Session, url: str) -> None:
        await getattr(session.clientize(Faulty), name).notify()
        # After it, on the same session.
        await session.clientize(Switch).ping()

    return provoke


async def asked(session: wsrpc.Session, url: str) -> None:
    async def answer() -> str:
        return "pong"

    with error_of("internal"):
        await session.clientize(Faulty).ask(answer)


async def uploaded(session: wsrpc.Session, url: str) -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1

    with error_of("internal"):
        await session.clientize(Faulty).take(numbers())


async def dropped(session: wsrpc.Session, url: str) -> None:
    async with session.clientize(Faulty).endless() as stream:
        assert await anext(stream) == 1
    await session.clientize(Switch).ping()


async def made(session: wsrpc.Session, url: str) -> None:
    with error_of("internal"):
        await session.clientize(Made).ping()


async def unknown(session: wsrpc.Session, url: str) -> None:
    with error_of("unimplemented"):
        await session.clientize("Faulty").nothing()


async def refused(session: wsrpc.Session, url: str) -> None:
    with pytest.raises(wsrpc.ConnectError) as caught:
        async with wsrpc.connect(url, reconnect=False):
            pytest.fail("let in")
    assert caught.value.close_code == 4501


async def visited(session: wsrpc.Session, url: str) -> None:
    """A client comes and goes, and may be turned away."""
    with suppress(wsrpc.RpcError, wsrpc.ConnectError):
        async with wsrpc.connect(url, reconnect=False) as other:
            await other.clientize(Switch).ping()


PLACES: dict[str, Provoke] = {
    **{name: call(name) for name in ("coroutine", "thread", "child", "items", "generator")},
    "cleanup": call("items"),
    "generator_cleanup": call("generator"),
    "cancelled_cleanup": dropped,
    "interceptor": call("coroutine"),
    "interceptor_after": call("coroutine"),
    "validator": call("text", "x"),
    "serializer": call("text", "x"),
    "after_callback": asked,
    "upload": uploaded,
    "notified": notified("notified"),
    "notified_in_thread": notified("notified_in_thread"),
    "authorize": call("coroutine"),
    "factory": made,
    "authenticate": refused,
    "on_state_connected": visited,
    "on_state_closed": visited,
    "on_connect": visited,
    "on_disconnect": visited,
    "call_started": call("coroutine", code=None),
    "call_ended": call("coroutine", code=None),
    "call_refused": unknown,
    "observed_items": call("items", code=None),
    "link_opened": visited,
    "link_closed": visited,
}


# Out of a child task asyncio itself ends the loop; and anyio's task groups take a child that raises
# that as cancelled.
ELSEWHERE = {("asyncio", "child", "SystemExit"), ("asyncio", "child", "CancelledError")}

# In a process each: a few of them, and all of them with `--full`.
OFTEN = ("thread", "cancelled_cleanup", "notified", "authenticate", "on_state_closed", "call_ended")

# pydantic makes an error of its own of any exception of a serializer, this one too.
ENDING = [
    pytest.param(place, marks=() if place in OFTEN else pytest.mark.slow)
    for place in PLACES
    if place != "serializer"
]


class Running:
    """A server in a process of its own.

    Attributes:
        url: Where it is.
        process: The process.
        friend: A session of another client.
    """

    def __init__(self, url: str, process: anyio.abc.Process, friend: wsrpc.Session) -> None:
        self.url = url
        self.process = process
        self.friend = friend


@asynccontextmanager
async def running(backend: str, how: str) -> AsyncIterator[Running]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.server.faulty", backend, how, str(port)]
    with anyio.fail_after(LONG):
        async with await anyio.open_process(command, stdout=None, stderr=None) as process:
            try:
                url = f"ws://127.0.0.1:{port}"
                async with wsrpc.connect(url, wait=LONG, reconnect=False) as friend:
                    yield Running(url, process, friend)
            finally:
                with suppress(ProcessLookupError):
                    process.kill()


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("SystemExit", "serve"),
        ("GeneratorExit", "listen"),
        ("CancelledError", "listen"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (("SystemExit", "listen"), ("Exotic", "serve"), ("Group", "serve"))
        ),
    ],
)
async def test_no_exception_of_user_code_leaves_a_zombie(
    anyio_backend_name: str, how: str, kind: str
) -> None:
    async with running(anyio_backend_name, how) as target:
        switch = target.friend.clientize(Switch)
        async with switch.ticks() as ticks:
            for place, provoke in PLACES.items():
                print(place)
                async with wsrpc.connect(target.url, reconnect=False) as session:
                    if (anyio_backend_name, place, kind) in ELSEWHERE:
                        continue
                    await switch.arm(place, kind)
                    await provoke(session, target.url)
                assert await switch.ping() == "pong"
                await anext(ticks)
            async with wsrpc.connect(target.url) as session:
                assert await session.clientize(Switch).ping() == "pong"
            target.process.send_signal(signal.SIGTERM)
            # The endless stream holds it up for all of the grace, and no longer.
            with error_of("unavailable"):
                async for _ in ticks:
                    pass
            assert await target.process.wait() == 0


@pytest.mark.parametrize("how", ["listen", pytest.param("serve", marks=pytest.mark.slow)])
@pytest.mark.parametrize("place", ENDING)
async def test_keyboardinterrupt_ends_the_process(
    anyio_backend_name: str, how: str, place: str
) -> None:
    async with running(anyio_backend_name, how) as target:
        with suppress(wsrpc.RpcError, wsrpc.ConnectError):
            async with wsrpc.connect(target.url, reconnect=False) as session:
                await target.friend.clientize(Switch).arm(place, "KeyboardInterrupt")
                with suppress(wsrpc.RpcError, wsrpc.ConnectError, AssertionError):
                    await PLACES[place](session, target.url)
        await target.process.wait()


class Ping:
    @wsrpc.method
    async def ping(self) -> None:
        """Answer."""


@pytest.mark.parametrize("later", range(8))
async def test_a_server_closes_although_messages_of_a_connection_that_broke_wait(
    transport: Transport, later: int, anyio_backend_name: str
) -> None:
    if anyio_backend_name == "trio":
        pytest.skip("on trio no messages wait in a driver")
    with soon():
        async with wsrpc.Server([Ping()]).listen(port=0) as listener:
            async with open_bare(listener.url, "json") as bare:
                await bare.hello()
                for first in range(1, 2_000, 100):
                    calls = range(first, first + 100, 2)
                    await bare.send(*[["notify", id, "Ping.ping", {}] for id in calls])
                await bare.cut()
            await turns(later)
