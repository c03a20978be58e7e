"""The watch over a peer that accepts nothing (protocol.md OUT-4), on a clock that the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.protocol.harness import Bare
from wsrpc.engine.driver import DirectDriver
from wsrpc.errors import ProtocolError
from wsrpc.protocol.codec import CODECS
from wsrpc.runtime.timers import Timers
from wsrpc.telemetry.events import Events

TIMEOUT = 10.0


class Clock:
    """A hub on a clock that the test turns, as far as a driver asks for it.

    The runtime and the event loop's timer are doubles; the endpoint and the timers are not, since a
    compiled driver takes nothing else for them.
    """

    def __init__(self) -> None:
        self.time = 0.0
        self.due: float | None = None
        self.runtime: Any = SimpleNamespace(
            now=lambda: self.time,
            call_soon=lambda fn: fn(),
            ready=lambda: 0,
            future=asyncio.Future,
        )
        self.timers = Timers(self.runtime, self)  # type: ignore[arg-type]
        self.limits = SimpleNamespace(stall_timeout=TIMEOUT)
        self.endpoint = Bare(CODECS["json"], "connecting").endpoint
        self.events = Events()
        self.session: Any = None

    def queue(self) -> None:
        """Give the endpoint something to send."""
        self.endpoint.call("Any.method", b"[]", oneway=True)

    def took(self) -> None:
        """What was waited for has been written."""

    def timer(self, fire: Callable[[], None]) -> Any:
        self.fire = fire
        return SimpleNamespace(arm=self.arm, close=lambda: None)

    def arm(self, when: float) -> None:
        self.due = when

    def go_to(self, time: float) -> None:
        self.time = time
        if self.due is not None and self.due <= time:
            self.due = None
            self.fire()


class FullLink:
    """A link that takes a message and no other, of which the peer reads when the test says so."""

    def __init__(self) -> None:
        self.unsent = 100_000
        self.drained: Callable[[], None] = lambda: None

    def attach(self, on_message: Any, on_lost: Any, on_drained: Callable[[], None]) -> None:
        self.drained = on_drained

    def send_nowait(self, data: bytes) -> bool:
        return False


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def driven(clock: Clock, link: FullLink, faults: list[Exception]) -> DirectDriver:
    """A driver of the link, which has something to send at once."""
    clock.queue()
    return DirectDriver(
        link,  # type: ignore[arg-type]
        clock,  # type: ignore[arg-type]
        lambda events: None,
        faults.append,
    )


@pytest.mark.rule("OUT-4")
async def test_the_time_begins_again_with_each_progress_and_runs_out_without() -> None:
    clock, link = Clock(), FullLink()
    faults: list[Exception] = []
    running = asyncio.ensure_future(driven(clock, link, faults).run())
    await asyncio.sleep(0)
    for turn in range(1, 4):
        assert clock.due == turn * TIMEOUT, "it begins again"
        link.unsent -= 10_000
        clock.go_to(turn * TIMEOUT)
        assert faults == []
    clock.go_to(4 * TIMEOUT)
    [fault] = faults
    assert isinstance(fault, ProtocolError)
    assert fault.close_code == 4001
    running.cancel()


@pytest.mark.rule("OUT-4")
async def test_a_link_that_takes_more_is_not_watched_until_it_stops_again() -> None:
    clock, link = Clock(), FullLink()
    faults: list[Exception] = []
    driver = driven(clock, link, faults)
    running = asyncio.ensure_future(driver.run())
    await asyncio.sleep(0)
    clock.go_to(9.0)
    link.drained()
    clock.go_to(15.0)
    assert faults == []
    clock.queue()
    driver.wake()
    assert clock.due == 25.0
    clock.go_to(24.9)
    assert faults == []
    clock.go_to(25.0)
    assert len(faults) == 1
    running.cancel()


@pytest.mark.rule("OUT-4")
async def test_a_link_that_is_left_is_not_watched() -> None:
    clock, link = Clock(), FullLink()
    faults: list[Exception] = []
    driver = driven(clock, link, faults)
    running = asyncio.ensure_future(driver.run())
    await asyncio.sleep(0)
    driver.stop()
    clock.go_to(2 * TIMEOUT)
    assert faults == []
    running.cancel()
