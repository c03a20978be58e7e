"""The watch over a peer that accepts nothing (protocol.md OUT-4), on a clock that the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from wsrpc.engine.driver import DirectDriver
from wsrpc.errors import ProtocolError
from wsrpc.telemetry.events import Events
from wsrpc.version import BUILD

# A compiled driver takes nothing else for an endpoint than an endpoint.
pytestmark = pytest.mark.skipif(BUILD == "compiled core", reason="doubles of the endpoint")

TIMEOUT = 10.0


class Clock:
    """The runtime, the timers and the endpoint of a hub, as far as a driver asks for them."""

    def __init__(self) -> None:
        self.time = 0.0
        self.due: list[list[Any]] = []
        self.runtime = SimpleNamespace(
            now=lambda: self.time,
            call_soon=lambda fn: fn(),
            ready=lambda: 0,
            future=asyncio.Future,
        )
        self.timers = self
        self.limits = SimpleNamespace(stall_timeout=TIMEOUT)
        self.endpoint = SimpleNamespace(has_output=True, next_batch=lambda now: b"x", sent=0)
        self.events = Events()
        self.session: Any = None

    def took(self) -> None:
        """What was waited for has been written."""

    def add(self, when: float, fn: Callable[[], None]) -> list[Any]:
        entry = [when, fn]
        self.due.append(entry)
        return entry

    def remove(self, entry: list[Any]) -> None:
        if entry in self.due:
            self.due.remove(entry)

    def go_to(self, time: float) -> None:
        self.time = time
        for entry in [one for one in self.due if one[0] <= time]:
            self.due.remove(entry)
            entry[1]()


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


@pytest.mark.rule("OUT-4")
async def test_the_time_begins_again_with_each_progress_and_runs_out_without() -> None:
    clock, link = Clock(), FullLink()
    faults: list[Exception] = []
    driver = DirectDriver(
        link,  # type: ignore[arg-type]
        clock,  # type: ignore[arg-type]
        lambda events: None,
        faults.append,
    )
    running = asyncio.ensure_future(driver.run())
    await asyncio.sleep(0)
    assert [entry[0] for entry in clock.due] == [TIMEOUT]
    for turn in range(1, 4):
        link.unsent -= 10_000
        clock.go_to(turn * TIMEOUT)
        assert faults == []
        assert [entry[0] for entry in clock.due] == [(turn + 1) * TIMEOUT], "it begins again"
    clock.go_to(4 * TIMEOUT)
    [fault] = faults
    assert isinstance(fault, ProtocolError)
    assert fault.close_code == 4001
    running.cancel()


@pytest.mark.rule("OUT-4")
async def test_a_link_that_takes_more_is_not_watched_until_it_stops_again() -> None:
    clock, link = Clock(), FullLink()
    faults: list[Exception] = []
    driver = DirectDriver(
        link,  # type: ignore[arg-type]
        clock,  # type: ignore[arg-type]
        lambda events: None,
        faults.append,
    )
    running = asyncio.ensure_future(driver.run())
    await asyncio.sleep(0)
    clock.time = 9.0
    clock.endpoint.has_output = False
    link.drained()
    assert clock.due == []
    clock.endpoint.has_output = True
    driver.wake()
    assert [entry[0] for entry in clock.due] == [19.0]
    driver.stop()
    assert clock.due == []
    running.cancel()
