"""All servers of a process hear of the signals that tell it to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from functools import partial
from types import FrameType

import anyio
import anyio.to_thread
import pytest

import wsrpc
import wsrpc.testing
from tests.support import soon, until
from wsrpc.transport.websockets.link import on_asyncio

NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Slow:
    """A server that waits for signals, with a client that has a call under way."""

    def __init__(self) -> None:
        self.go = anyio.Event()
        self.begun = self.ready = self.over = False
        self.signals: list[int] = []
        self.ended: list[str] = []
        self.server = wsrpc.Server([self])

    @wsrpc.method
    async def slow(self) -> str:
        self.begun = True
        await self.go.wait()
        return "done"

    def is_ready(self) -> None:
        self.ready = True

    async def wait(self) -> None:
        await self.server.drained_on_signal(ready=self.is_ready, on_signal=self.signals.append)
        self.over = True

    async def run(self) -> None:
        async with wsrpc.testing.server(self.server) as host, anyio.create_task_group() as group:
            async with host.connect(reconnect=False) as session:
                group.start_soon(self.wait)
                try:
                    self.ended.append(await session.clientize(Slow).slow())
                except wsrpc.RpcError as error:
                    self.ended.append(error.code)


@pytest.fixture
def before() -> Iterator[list[int]]:
    """The signals that the program's own handlers get."""
    got: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        got.append(number)

    old = [signal.signal(number, handler) for number in NUMBERS]
    try:
        yield got
        assert signal.getsignal(signal.SIGINT) in (handler, signal.default_int_handler)
    finally:
        for number, one in zip(NUMBERS, old, strict=True):
            signal.signal(number, one)


@pytest.mark.parametrize("first", [0, 1])
async def test_all_servers_of_a_process_drain_at_one_signal(first: int, before: list[int]) -> None:
    servers = [Slow(), Slow()]
    with soon():
        async with anyio.create_task_group() as group:
            for one in servers:
                group.start_soon(one.run)
            await until(lambda: all(one.begun and one.ready for one in servers))
            signal.raise_signal(signal.SIGTERM)
            await until(lambda: [one.signals for one in servers] == [[signal.SIGTERM]] * 2)
            servers[first].go.set()
            await until(lambda: servers[first].over)
            assert not servers[1 - first].over
            servers[1 - first].go.set()
    assert [one.ended for one in servers] == [["done"]] * 2
    assert before == []
    signal.raise_signal(signal.SIGTERM)
    assert before == [signal.SIGTERM]


async def test_a_second_signal_ends_the_drains_of_all_and_python_gets_the_third(
    before: list[int],
) -> None:
    servers = [Slow(), Slow()]
    with soon():
        async with anyio.create_task_group() as group:
            for one in servers:
                group.start_soon(one.run)
            await until(lambda: all(one.begun and one.ready for one in servers))
            for count in (1, 2):
                signal.raise_signal(signal.SIGINT)
                await until(lambda n=count: all(len(s.signals) == n for s in servers))  # type: ignore[misc]
            await until(lambda: all(one.over for one in servers))
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            for one in servers:
                one.go.set()
    assert before == []


async def test_a_server_in_another_thread_drains_with_the_one_in_the_main_thread(
    before: list[int],
) -> None:
    here, there = Slow(), wsrpc.Server([])
    waits, drained = threading.Event(), threading.Event()
    backend = "asyncio" if on_asyncio() else "trio"

    async def serve() -> None:
        await there.drained_on_signal(ready=waits.set)
        drained.set()

    with soon():
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, partial(anyio.run, serve, backend=backend))
            group.start_soon(here.run)
            await until(lambda: here.begun and here.ready and waits.is_set())
            signal.raise_signal(signal.SIGTERM)
            await until(drained.is_set)
            here.go.set()
    assert here.ended == ["done"]
