"""The works of the bench: each makes one call of the interop service over and over."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio

from ...interfaces import Session
from ...interop.service import Interop
from ..connection import Target
from ..failures import ExitCode, Failure, did_you_mean
from .histogram import Histogram

__all__ = ["CONTROLLER", "WORKS", "Ground", "Meter", "Work", "works_named"]

CONTROLLER = "Interop"

# Items of a stream or upload, and items of a stream in which each waits for the one before it.
ITEMS = 1000
TURNS = 100
# Bytes.
BLOB = 64 * 1024

VALUE = {"id": 7, "name": "Ada Lovelace", "tags": ["a", "b"], "score": 0.5}

clock = time.perf_counter_ns


@dataclass(slots=True)
class Meter:
    """The measurements of a work.

    Attributes:
        units: Units done so far, in the work's unit.
        calls: Calls that have ended.
        seconds: Seconds that it took.
        latency: The durations of the steps that the work names.
    """

    units: int = 0
    calls: int = 0
    seconds: float = 0.0
    latency: Histogram = field(default_factory=Histogram)

    @property
    def rate(self) -> float:
        """Units for each second."""
        return self.units / self.seconds if self.seconds > 0 else 0.0

    def took(self, begin: int) -> int:
        """Count a latency that began then and ends now; returns now."""
        now = clock()
        self.latency.record(now - begin)
        return now


@dataclass(frozen=True, slots=True)
class Ground:
    """The session on which works are done.

    Attributes:
        target: The server.
        session: A session with it.
        interop: Its interop service.
    """

    target: Target
    session: Session
    interop: Interop

    @classmethod
    def of(cls, target: Target, session: Session) -> Ground:
        """The ground on this session."""
        return cls(target, session, session.clientize(Interop, **target.options))

    def expect(self, got: object, wanted: object) -> None:
        """Refuse a server that answers wrongly: its speed does not matter.

        Raises:
            Failure: The two are not the same.
        """
        if got != wanted:
            raise Failure(
                f"{self.target.url} answers wrong: {wanted!r:.80} was expected, {got!r:.80} came",
                ExitCode.REMOTE,
            )


Call: TypeAlias = Callable[[Ground, Meter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of work to measure.

    Attributes:
        name: Its name on the command line.
        does: A description of one call.
        unit: The unit that is counted, in the plural.
        latency: The step that is timed.
        call: Makes one call and records its result.
        method: The method of the interop service that it needs; None if it needs none.
    """

    name: str
    does: str
    unit: str
    latency: str
    call: Call
    method: str | None


async def _calls(ground: Ground, meter: Meter) -> None:
    begin = clock()
    answer = await ground.interop.echo(VALUE)
    meter.took(begin)
    ground.expect(answer, VALUE)
    meter.units += 1


async def _stream(ground: Ground, meter: Meter) -> None:
    begin, received = clock(), 0
    async for _ in ground.interop.tokens(ITEMS):
        if not received:
            meter.took(begin)
        received += 1
        meter.units += 1
    ground.expect(received, ITEMS)


async def _upload(ground: Ground, meter: Meter) -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(ITEMS):
            yield number
            meter.units += 1

    begin = clock()
    answer = await ground.interop.sum(numbers())
    meter.took(begin)
    ground.expect(answer, ITEMS * (ITEMS - 1) // 2)


async def _duplex(ground: Ground, meter: Meter) -> None:
    answered = anyio.Semaphore(0)
    begin = expected = 0

    async def items() -> AsyncIterator[object]:
        nonlocal begin
        for number in range(TURNS):
            begin = clock()
            yield number
            await answered.acquire()

    async for answer in ground.interop.bidi_echo(items()):
        meter.took(begin)
        ground.expect(answer, expected)
        expected += 1
        meter.units += 1
        answered.release()
    ground.expect(expected, TURNS)


async def _callbacks(ground: Ground, meter: Meter) -> None:
    expected, begin = 1, clock()

    async def on_progress(number: int) -> None:
        nonlocal expected, begin
        begin = meter.took(begin)
        ground.expect(number, expected)
        expected += 1
        meter.units += 1

    ground.expect(await ground.interop.progress(TURNS, on_progress), TURNS)


async def _bytes(ground: Ground, meter: Meter) -> None:
    begin = clock()
    answer = await ground.interop.blob(BLOB)
    meter.took(begin)
    ground.expect(len(answer), BLOB)
    meter.units += 1


async def _connect(ground: Ground, meter: Meter) -> None:
    begin = clock()
    async with ground.target.session():
        meter.took(begin)
    meter.units += 1


WORKS = {
    work.name: work
    for work in (
        Work("calls", "a small object, echoed", "calls", "call", _calls, "echo"),
        Work("stream", f"{ITEMS} small items each", "items", "first item", _stream, "tokens"),
        Work("upload", f"{ITEMS} numbers each, summed", "items", "upload", _upload, "sum"),
        Work(
            "duplex",
            f"{TURNS} items, each sent when the last one is back",
            "round trips",
            "round trip",
            _duplex,
            "bidi_echo",
        ),
        Work(
            "callbacks",
            f"{TURNS} calls back, one after another",
            "callbacks",
            "callback",
            _callbacks,
            "progress",
        ),
        Work("bytes", f"{BLOB // 1024} KiB of bytes each", "calls", "call", _bytes, "blob"),
        Work("connect", "a connection each, with its hello", "sessions", "connect", _connect, None),
    )
}


def works_named(text: str) -> list[Work]:
    """The works in a list such as `calls,stream`, or all of them.

    Raises:
        Failure: There is no such work.
    """
    if text.strip() == "all":
        return list(WORKS.values())
    names = dict.fromkeys(name.strip() for name in text.split(","))
    for name in names:
        if name not in WORKS:
            raise Failure(f"there is no work {name!r}{did_you_mean(name, [*WORKS, 'all'])}")
    return [WORKS[name] for name in names]
