"""The signals of a host are taken first, and handed on when the servers in it have drained."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Literal

import anyio
import pytest

import wsrpc
import wsrpc.testing
from tests.support import soon, turns, until


class Slow(wsrpc.Observer):
    """A server in an application, with a client that has a call under way."""

    def __init__(self) -> None:
        self.begun = False
        self.go = anyio.Event()
        self.leave = anyio.Event()
        self.left = anyio.Event()
        self.drains: list[str] = []
        self.ended: list[str] = []
        self.server = wsrpc.Server([self], observers=[self])

    @wsrpc.method
    async def slow(self) -> str:
        self.begun = True
        await self.go.wait()
        return "done"

    def drain(self, state: Literal["begun", "ended"], sessions: int) -> None:
        self.drains.append(state)

    async def run(self) -> None:
        async with self.server.running():
            await self.leave.wait()
        self.left.set()

    async def call(self) -> None:
        async with wsrpc.testing.server(self.server) as host:
            async with host.connect(reconnect=False) as session:
                try:
                    self.ended.append(await session.clientize(Slow).slow())
                except wsrpc.RpcError as error:
                    self.ended.append(error.code)


@asynccontextmanager
async def application(many: int) -> AsyncIterator[list[Slow]]:
    """So many servers, each in a lifespan of its own, and each with a call under way."""
    servers = [Slow() for _ in range(many)]
    with soon():
        async with anyio.create_task_group() as group:
            for one in servers:
                group.start_soon(one.run)
                await turns()
                group.start_soon(one.call)
            await until(lambda: all(one.begun for one in servers))
            yield servers
            for one in servers:
                one.go.set()
                one.leave.set()


@pytest.fixture
def handed_on() -> Iterator[list[int]]:
    """The signals that the host's own handlers get."""
    got: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        got.append(number)

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield got
        assert [signal.getsignal(number) for number in numbers] == [handler, handler]
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)


@pytest.mark.parametrize("many", [1, 2, 3])
async def test_all_servers_of_an_application_drain_at_once_and_then_the_host_gets_the_signal(
    many: int, handed_on: list[int]
) -> None:
    async with application(many) as servers:
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: [one.drains for one in servers] == [["begun"]] * many)
        for one in servers:
            assert handed_on == []
            one.go.set()
            await until(lambda one=one: one.drains == ["begun", "ended"])  # type: ignore[misc]
        await until(lambda: handed_on == [signal.SIGTERM])
    assert [one.ended for one in servers] == [["done"]] * many


@pytest.mark.parametrize("many", [1, 2, 3])
async def test_a_second_signal_does_not_wait(many: int, handed_on: list[int]) -> None:
    async with application(many):
        signal.raise_signal(signal.SIGINT)
        await turns()
        assert handed_on == []
        signal.raise_signal(signal.SIGINT)
        assert handed_on == [signal.SIGINT]


@pytest.mark.parametrize("index", [0, 1])
async def test_servers_may_leave_in_any_order(index: int, handed_on: list[int]) -> None:
    async with application(2) as servers:
        servers[index].leave.set()
        await servers[index].left.wait()
        servers[1 - index].go.set()
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: handed_on == [signal.SIGTERM])
        assert servers[1 - index].drains == ["begun", "ended"]
        assert servers[index].drains == []


async def test_a_signal_is_not_lost_when_its_server_leaves_before_it_has_drained(
    handed_on: list[int],
) -> None:
    async with application(1) as (only,):
        signal.raise_signal(signal.SIGTERM)
        only.leave.set()
        await only.left.wait()
        assert handed_on == [signal.SIGTERM]


@pytest.mark.parametrize("index", [0, 1])
async def test_a_server_that_leaves_amid_the_drain_of_others_does_not_hand_the_signal_on(
    index: int, handed_on: list[int]
) -> None:
    async with application(2) as servers:
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: all(one.drains == ["begun"] for one in servers))
        servers[index].leave.set()
        await servers[index].left.wait()
        await turns()
        assert handed_on == []
        servers[1 - index].go.set()
        await until(lambda: handed_on == [signal.SIGTERM])
