"""A link over a bus that callbacks drive: order, back pressure and the end of the link."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from tests.support import soon
from wsrpc import runtime as runtimes
from wsrpc.cluster.errors import BusDown
from wsrpc.cluster.link import CLOSE, DATA, HEAD, DirectBusLink, Inbound, link_class
from wsrpc.runtime.timers import Timers
from wsrpc.transport.base import DirectLink


class Narrow:
    """A bus that takes a message at once, or after a while, or not at all."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int]] = []
        self.full = False
        self.down = False
        self.room = anyio.Event()

    def publish_nowait(self, subject: str, data: bytes) -> bool:
        if self.down:
            raise BusDown(subject)
        if not self.full:
            self.sent.append(HEAD.unpack_from(data))
        return not self.full

    async def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        if self.full:
            await self.room.wait()
        self.sent.append(HEAD.unpack_from(data))


class End:
    """One end of a link, with the messages and other things that it has told."""

    def __init__(self, bus: Narrow, make: Any) -> None:
        self.bus = bus
        self.told: list[Any] = []
        self.link: DirectBusLink = make

    def attach(self) -> None:
        self.link.attach(
            self.told.append,
            lambda error: self.told.append(error),
            lambda: self.told.append("drained"),
        )

    def arrive(self, number: int, data: bytes) -> None:
        assert self.link.deliver(HEAD.pack(DATA, number) + data)


@asynccontextmanager
async def end() -> AsyncIterator[End]:
    runtime = runtimes.current()
    nursery = await runtime.open_nursery()
    timers = Timers(runtime, nursery)
    bus = Narrow()
    link = DirectBusLink(
        bus=bus,  # type: ignore[arg-type]
        id="1",
        peer="peer",
        subject="subject",
        runtime=runtime,
        timers=timers,
        subprotocol="wsrpc.json.1",
        handshake=None,
        forget=lambda link: None,
        say=lambda subject, data: None,
        spawn=nursery.spawn,
        inbound=Inbound(100),
    )
    assert isinstance(link, DirectLink)
    with soon():
        yield End(bus, link)
    link.lose("over")
    timers.close()
    await nursery.close()


async def test_messages_that_came_before_the_callbacks_are_delivered_first() -> None:
    async with end() as one:
        one.arrive(1, b"a")
        one.attach()
        one.arrive(2, b"b")
        assert one.told == [b"a", b"b"]


async def test_a_paused_link_keeps_messages_and_tells_its_end_after_them() -> None:
    async with end() as one:
        one.attach()
        one.link.pause()
        one.arrive(1, b"a")
        one.arrive(2, b"b")
        one.link.lose("gone")
        assert one.told == []
        one.link.resume()
        assert one.told[:2] == [b"a", b"b"]
        assert one.told[2].code == 1006
        one.link.resume()
        assert len(one.told) == 3


async def test_a_paused_link_keeps_no_more_than_all_links_may() -> None:
    async with end() as one:
        one.attach()
        one.link.pause()
        one.arrive(1, b"x" * 60)
        one.arrive(2, b"x" * 60)
        one.link.resume()
        assert one.told[0] == b"x" * 60
        assert one.told[1].code == 1006


async def test_a_bus_without_room_gets_the_message_later_and_the_goodbye_after_it() -> None:
    async with end() as one:
        one.attach()
        assert one.link.send_nowait(b"a")
        one.bus.full = True
        assert not one.link.send_nowait(b"bc")
        assert one.link.unsent == HEAD.size + 2
        async with anyio.create_task_group() as group:
            group.start_soon(one.link.close, 1000)
            await anyio.wait_all_tasks_blocked()
            assert one.bus.sent == [(DATA, 1)]
            one.bus.full = False
            one.bus.room.set()
        assert one.bus.sent == [(DATA, 1), (DATA, 2), (CLOSE, 3)]
        assert "drained" in one.told
        assert one.link.unsent == 0


async def test_a_bus_that_is_down_ends_the_link() -> None:
    async with end() as one:
        one.attach()
        one.bus.down = True
        assert one.link.send_nowait(b"a")
        assert [error.code for error in one.told] == [1006]
        # It does nothing any more.
        assert one.link.send_nowait(b"b")
        assert len(one.told) == 1


@pytest.mark.parametrize("kind", ["direct", "other"])
async def test_only_asyncio_and_a_bus_that_need_not_wait_have_such_links(kind: str) -> None:
    class Other:
        publish = Narrow.publish

    bus: Any = Narrow() if kind == "direct" else Other()
    runtime = runtimes.current()
    direct = link_class(bus, runtime) is DirectBusLink
    on_asyncio = isinstance(runtime, runtimes.AsyncioRuntime)
    assert direct is (kind == "direct" and on_asyncio)
