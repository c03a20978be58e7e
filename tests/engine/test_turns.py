"""When a driver writes: at once where nothing else can join, and with what else is ready otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from tests.protocol.harness import Bare, decode, encode
from wsrpc.engine.direct import BACKLOG, SLICE, STREAMS_SLICE, slice_of
from wsrpc.engine.driver import DirectDriver
from wsrpc.protocol.codec import CODECS
from wsrpc.protocol.events import CallReceived, CreditReceived, Event, ItemsReceived
from wsrpc.telemetry.events import Events
from wsrpc.transport.base import LinkClosed

CODEC = CODECS["json"]


class Blind:
    """A hub on an event loop that does not tell whether anything else is ready, as uvloop's.

    `turn` is the next turn of the event loop. The endpoint is no double, since a compiled driver
    takes nothing else for one.
    """

    def __init__(self) -> None:
        self.later: list[Callable[[], None]] = []
        self.written: list[int] = []
        self.runtime = SimpleNamespace(
            now=lambda: 0.0, call_soon=self.later.append, ready=lambda: None, future=asyncio.Future
        )
        limits = {"max_calls": 64}
        self.endpoint = Bare(CODEC, "connecting", hello={"limits": limits}).endpoint
        self.events = Events()
        self.session: Any = None
        self.acted = 0
        self.unread: list[bytes] = []
        self.delivered = 0
        self.paused = self.gone = False
        self.driver = DirectDriver(self, self, self.act, self.fault)  # type: ignore[arg-type]

    def fault(self, error: Exception) -> None:
        raise error

    def settle(self) -> None:
        """Nothing is held here."""

    def took(self) -> None:
        """What was waited for has been written."""

    def attach(self, on_message: Callable[[bytes], None], on_lost: Any, on_drained: Any) -> None:
        self.arrive, self.lose = on_message, on_lost

    def send_nowait(self, data: bytes) -> bool:
        self.written.append(len(decode(CODEC, data)))
        return True

    def act(self, events: list[Event]) -> None:
        self.acted += len(events)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        while self.unread and not self.paused:
            self.delivered += 1
            self.arrive(self.unread.pop(0))
        if self.gone and not self.paused:
            self.lose(LinkClosed(1006))

    def answer(self, frames: int) -> None:
        """One message comes in, and so many frames answer it, each asking for a flush."""
        self.arrive(encode(CODEC, [["ack", 0]]))
        for _ in range(frames):
            self.endpoint.call("Any.method", b"[]", oneway=True)
            self.driver.flush()

    def turn(self) -> list[int]:
        """What was written, in frames, up to the end of this turn and in the next one."""
        before, self.written = self.written, []
        later, self.later[:] = list(self.later), []
        for fn in later:
            fn()
        after, self.written = self.written, []
        return [*before, -1, *after]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def running(hub: Blind) -> asyncio.Task[None]:
    task = asyncio.ensure_future(hub.driver.run())
    await asyncio.sleep(0)
    return task


async def test_one_frame_for_each_message_is_written_at_once_without_knowing_what_is_ready() -> (
    None
):
    hub = Blind()
    task = await running(hub)
    for _ in range(3):
        hub.answer(1)
        assert hub.turn() == [1, -1], "in the same turn"
    task.cancel()


async def test_what_is_ready_when_a_link_begins_waits_for_the_tasks_that_its_hello_has_woken() -> (
    None
):
    hub = Blind()
    hub.endpoint.call("Any.method", b"[]", oneway=True)
    task = await running(hub)
    assert not hub.written, "the tasks come first"
    hub.endpoint.call("Any.method", b"[]", oneway=True)
    hub.driver.flush()
    assert hub.turn() == [-1, 2]
    task.cancel()


async def test_frames_that_are_ready_together_go_together_after_the_first_message() -> None:
    hub = Blind()
    task = await running(hub)
    hub.answer(3)
    assert hub.turn() == [1, -1, 2], "that there are more was not to be known"
    for _ in range(3):
        hub.answer(3)
        assert hub.turn() == [-1, 3]
    hub.answer(1)
    assert hub.turn() == [-1, 1], "this one had to wait for others"
    hub.answer(1)
    assert hub.turn() == [1, -1]
    task.cancel()


async def test_a_peer_that_sends_faster_than_it_is_acted_upon_is_read_no_more_until_it_is() -> None:
    hub = Blind()
    task = await running(hub)
    # Each message takes two turns.
    each, messages = SLICE + 4, 12
    calls = iter(range(1, 10_000))
    hub.unread = [
        encode(CODEC, [["call", 2 * next(calls), "Any.method", {}] for _ in range(each)])
        for _ in range(messages)
    ]
    hub.resume()
    most = 0
    while hub.later:
        most = max(most, hub.delivered - hub.acted // each)
        hub.turn()
    # The messages that wait, and the one whose events are being acted on.
    assert most <= BACKLOG + 1
    assert (hub.delivered, hub.acted) == (messages, messages * each)
    assert not hub.paused
    task.cancel()


async def test_a_driver_that_is_stopped_while_messages_wait_hears_of_the_end_of_its_link() -> None:
    hub = Blind()
    task = await running(hub)
    hub.unread = [
        encode(
            CODEC,
            [["call", 2 * (SLICE + 1) * n + 2 * m, "Any.method", {}] for m in range(1, SLICE + 2)],
        )
        for n in range(BACKLOG + 2)
    ]
    hub.resume()
    assert hub.paused
    hub.gone = True
    hub.driver.stop()
    with anyio.fail_after(5), pytest.raises(LinkClosed):
        await task
    assert hub.acted == SLICE + 1, "nothing after that was acted on"


def test_items_and_credit_take_longer_turns_than_calls_and_answers() -> None:
    lane: Any = None
    call, items, credit = CallReceived(lane), ItemsReceived(lane, []), CreditReceived(lane)
    assert slice_of([call] * 200) == SLICE
    assert slice_of([items] * 200) == slice_of([credit] * 200) == STREAMS_SLICE
    assert slice_of([items, call] * 200) == 2 * SLICE
    assert slice_of([items] * (STREAMS_SLICE - 1)) == STREAMS_SLICE - 1
    assert slice_of([call, items, credit]) == 3
    assert slice_of([]) == 0
