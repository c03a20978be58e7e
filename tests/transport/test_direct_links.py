"""Links that are driven by callbacks of the event loop; they are for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from tests.support import turns, until
from wsrpc.transport.base import DirectLink, Link, LinkClosed
from wsrpc.transport.registry import Transport

from .support import by_hand, links


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Driver:
    """Attached to a link: what it was told, in order."""

    def __init__(self, link: Link) -> None:
        assert isinstance(link, DirectLink)
        self.link = link
        self.heard: list[bytes | Exception] = []
        self.drained = 0
        self.pause_at: int | None = None

    def attach(self) -> None:
        self.link.attach(self._on_message, self.heard.append, self._on_drained)

    def _on_message(self, data: bytes) -> None:
        self.heard.append(data)
        if len(self.heard) == self.pause_at:
            self.link.pause()

    def _on_drained(self) -> None:
        self.drained += 1

    async def hears(self, n: int) -> None:
        await until(lambda: len(self.heard) >= n)

    @property
    def end(self) -> Exception:
        """What it was told last."""
        assert isinstance(self.heard[-1], Exception)
        return self.heard[-1]


@asynccontextmanager
async def driven(transport: Transport, side: str) -> AsyncIterator[tuple[Driver, Link]]:
    """A link to attach to, and the other end."""
    async with links(transport) as (accepting, connecting):
        if side == "accepting":
            yield Driver(accepting), connecting
        else:
            yield Driver(connecting), accepting


def numbers(start: int, stop: int) -> list[bytes]:
    return [b"%d" % n for n in range(start, stop)]


async def say(link: Link, messages: list[bytes]) -> None:
    for message in messages:
        await link.send(message)


async def test_what_arrived_before_is_delivered_first(transport: Transport, side: str) -> None:
    async with driven(transport, side) as (driver, other):
        await say(other, numbers(0, 12))
        assert await driver.link.receive() == b"0"
        await turns(50)
        driver.attach()
        await say(other, numbers(12, 40))
        await driver.hears(39)
        assert driver.heard == numbers(1, 40)


async def test_the_end_comes_once_and_after_the_last_message(
    transport: Transport, side: str
) -> None:
    async with driven(transport, side) as (driver, other):
        driver.attach()
        await say(other, numbers(0, 10))
        async with anyio.create_task_group() as group:
            group.start_soon(other.close, 4500, "over")
            await driver.hears(11)
        await turns(50)
        assert driver.heard[:-1] == numbers(0, 10)
        assert isinstance(driver.end, LinkClosed)
        assert (driver.end.code, driver.end.reason) == (4500, "over")
        assert driver.link.send_nowait(b"late")
        assert driver.link.unsent == 0
        driver.link.pause()
        driver.link.resume()
        await turns(50)
        assert len(driver.heard) == 11


async def test_an_end_that_came_before_is_told_where_it_is_attached(
    transport: Transport, side: str
) -> None:
    async with driven(transport, side) as (driver, other):
        await say(other, numbers(0, 3))
        async with anyio.create_task_group() as group:
            group.start_soon(other.close, 4500)
            await anyio.sleep(0.02)
            driver.attach()
            await driver.hears(4)
        assert driver.heard[:-1] == numbers(0, 3)
        assert isinstance(driver.end, LinkClosed)
        assert driver.end.code == 4500


async def test_its_own_close_is_told_and_nothing_else_after_it(
    transport: Transport, side: str
) -> None:
    async with driven(transport, side) as (driver, other):
        driver.attach()
        await say(other, numbers(0, 5))
        await driver.hears(5)
        driver.link.pause()
        await say(other, numbers(5, 10))
        await anyio.sleep(0.01)
        async with anyio.create_task_group() as group:
            group.start_soon(driver.link.close, 4500)
            with pytest.raises(LinkClosed):
                while True:
                    await other.receive()
        await driver.hears(6)
        assert driver.heard[:-1] == numbers(0, 5)
        assert isinstance(driver.end, LinkClosed)
        assert driver.end.code == 4500


async def test_a_message_of_the_wrong_type_is_told_as_the_end(
    transport: Transport, side: str
) -> None:
    async with by_hand(transport, side) as (link, peer):
        driver = Driver(link)
        driver.attach()
        await peer.write(peer.frame(1, b"fine") + peer.frame(2, b"odd") + peer.frame(1, b"behind"))
        await driver.hears(2)
        assert driver.heard[0] == b"fine"
        assert getattr(driver.end, "close_code", None) == 4500
        async with anyio.create_task_group() as group:
            group.start_soon(link.close, 4500)
            assert await peer.close_code() == 4500
        await turns(50)
        assert len(driver.heard) == 2


@pytest.mark.rule("OUT-1")
async def test_sending_is_refused_beyond_the_bound_until_there_is_room(
    transport: Transport, side: str
) -> None:
    message = b"m" * 60_000
    async with driven(transport, side) as (driver, other):
        driver.attach()
        sent = 0
        for _ in range(10):
            while True:
                sent += 1
                taken = driver.link.send_nowait(b"%06d" % sent + message)
                assert driver.link.unsent <= 128 * 1024
                if not taken:
                    break
            drained = driver.drained
            while driver.drained == drained:
                assert len(await other.receive()) == len(message) + 6
            assert driver.drained == drained + 1
        while (await other.receive())[:6] != b"%06d" % sent:
            pass
        await until(lambda: driver.link.unsent == 0)


async def test_pausing_holds_back_and_resuming_goes_on_where_it_was(
    transport: Transport, side: str
) -> None:
    async with driven(transport, side) as (driver, other):
        driver.attach()
        await say(other, numbers(0, 5))
        await driver.hears(5)
        driver.link.pause()
        await say(other, numbers(5, 200))
        await anyio.sleep(0.02)
        assert len(driver.heard) == 5
        driver.pause_at = 50
        driver.link.resume()
        await driver.hears(50)
        await anyio.sleep(0.02)
        assert len(driver.heard) == 50
        driver.pause_at = None
        driver.link.resume()
        await driver.hears(200)
        assert driver.heard == numbers(0, 200)


@pytest.mark.rule("OUT-1")
async def test_a_paused_link_makes_the_other_end_wait(transport: Transport, side: str) -> None:
    sent = 0
    total = 400
    message = b"m" * 65_536

    async def flood(link: Link) -> None:
        nonlocal sent
        for _ in range(total):
            await link.send(message)
            sent += 1

    async with driven(transport, side) as (driver, other):
        driver.attach()
        driver.link.pause()
        async with anyio.create_task_group() as group:
            group.start_soon(flood, other)
            before = -1
            while sent > before:
                before = sent
                await anyio.sleep(0.05)
            assert sent < total
            assert not driver.heard
            driver.link.resume()
            await driver.hears(total)
        assert driver.heard == [message] * total


async def test_a_message_may_be_answered_where_it_arrives(transport: Transport) -> None:
    async with links(transport) as (accepting, connecting):
        assert isinstance(accepting, DirectLink)
        assert isinstance(connecting, DirectLink)
        ends: tuple[DirectLink, DirectLink] = accepting, connecting
        bounces = 0

        def attach(end: DirectLink) -> None:
            def bounce(data: bytes) -> None:
                nonlocal bounces
                bounces += 1
                if bounces < 1000:
                    end.send_nowait(data)

            end.attach(bounce, lambda error: None, lambda: None)

        for end in ends:
            attach(end)
        accepting.send_nowait(b"ball")
        await until(lambda: bounces == 1000)


@pytest.mark.rule("CALM-1", "CALM-4")
@pytest.mark.parametrize("fragments", [1, 2])
async def test_a_read_of_many_tiny_messages_lets_others_have_their_turn(
    transport: Transport, side: str, fragments: int
) -> None:
    """None of them waits for more than some milliseconds of work."""
    async with by_hand(transport, side) as (link, peer):
        driver = Driver(link)
        driver.attach()
        whole = peer.frame(0x1, b"a")
        halves = peer.frame(0x1, b"", fin=False) + peer.frame(0x0, b"a")
        await peer.write((whole if fragments == 1 else halves) * 900)
        most = before = 0
        with anyio.fail_after(10):
            while len(driver.heard) < 900:
                await anyio.sleep(0)
                most, before = max(most, len(driver.heard) - before), len(driver.heard)
        assert driver.heard == [b"a"] * 900
        assert most <= 450
