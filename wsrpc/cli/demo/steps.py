"""The steps of the demo's client: trials, and checks of their results."""

from __future__ import annotations

import hashlib
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import anyio

import wsrpc

from .service import Clock, Counts, Fate, Guest, Library, Progress, Quota, QuotaExceeded, Token
from .text import read, source

__all__ = ["STEPS", "DoesNotHold", "Step", "Visit"]

UNARY_CALLS = 200
STREAMS = 100
ITEMS_EACH = 200
CALLS_BACK = 50
DEADLINE = 0.25

# Seconds by which a busy machine may be late.
LATE = 10


class DoesNotHold(Exception):
    """An observation contradicts a promise."""


def check(holds: bool, otherwise: str) -> None:
    """Raise `DoesNotHold` unless it holds."""
    if not holds:
        raise DoesNotHold(otherwise)


class Visit:
    """One client's visit to the server.

    Args:
        session: The session.
        guest: The controller that the server can call here.
        on_progress: Shows the progress of a long step.
    """

    def __init__(
        self, session: wsrpc.Session, guest: Guest, on_progress: Callable[[Progress], None]
    ) -> None:
        self._guest = guest
        self._on_progress = on_progress
        self._library = session.clientize(Library)
        self._clock = session.clientize(Clock)
        self._text = read()
        self._sha256 = hashlib.sha256(self._text.encode()).hexdigest()
        self._tokens: list[Token] = []

    async def unary(self) -> str:
        greeting = await self._library.greet("Ada")
        check(greeting.text == "Hello, Ada!", f"it answered {greeting.text!r}")
        check(greeting.pid != os.getpid(), "client and server are one process")
        times = []
        for _ in range(UNARY_CALLS):
            begin = time.perf_counter()
            await self._library.greet("Ada")
            times.append(time.perf_counter() - begin)
        median = statistics.median(times)
        return (
            f"{greeting.text!r} from process {greeting.pid}; "
            f"median of {UNARY_CALLS} such calls {median * 1e3:.2f} ms"
        )

    async def stream(self) -> str:
        begin = time.perf_counter()
        self._tokens = await self._library.tokens().collect()
        took = time.perf_counter() - begin
        arrived = "".join(token.text for token in self._tokens).encode()
        sha256 = hashlib.sha256(arrived).hexdigest()
        check(sha256 == self._sha256, f"sha256 {sha256[:12]}… is not the file's")
        return (
            f"{source().name}: {len(self._tokens):,} tokens, {len(arrived):,} bytes "
            f"in {took:.2f} s; sha256 {sha256[:8]}…, the file's"
        )

    async def upload(self) -> str:
        async def tokens() -> AsyncIterator[Token]:
            for token in self._tokens:
                yield token

        begin = time.perf_counter()
        digest = await self._library.store(tokens())
        took = time.perf_counter() - begin
        check(digest.tokens == len(self._tokens), f"{digest.tokens} tokens arrived")
        check(digest.sha256 == self._sha256, f"sha256 {digest.sha256[:12]}… is not the file's")
        return (
            f"{digest.tokens:,} tokens, {digest.size:,} bytes in {took:.2f} s; "
            f"the server's sha256 {digest.sha256[:8]}…, the same"
        )

    async def many_streams(self) -> str:
        opened, all_open, go_on = 0, anyio.Event(), anyio.Event()
        wrong: list[str] = []
        counts = Counts(streams=0, links=0)

        async def read(number: int) -> None:
            nonlocal opened
            async with self._clock.count(ITEMS_EACH) as stream:
                items = [await anext(stream)]
                opened += 1
                if opened == STREAMS:
                    all_open.set()
                await go_on.wait()
                items += [item async for item in stream]
            if items != list(range(ITEMS_EACH)):
                wrong.append(f"stream {number} gave {len(items)} items, or out of order")

        begin = time.perf_counter()
        async with anyio.create_task_group() as group:
            for number in range(STREAMS):
                group.start_soon(read, number)
            await all_open.wait()
            counts = await self._clock.counts()
            go_on.set()
        took = time.perf_counter() - begin
        check(not wrong, wrong[0] if wrong else "")
        check(counts.streams >= STREAMS, f"only {counts.streams} were open at a time")
        check(counts.links == 1, f"they took {counts.links} sockets")
        return (
            f"{STREAMS * ITEMS_EACH:,} items in {took:.2f} s, complete and in order; "
            f"the server saw {counts.streams} open on {counts.links} socket"
        )

    async def ask_back(self) -> str:
        before = self._guest.asked
        begin = time.perf_counter()
        answers = await self._clock.ask_back(CALLS_BACK)
        took = time.perf_counter() - begin
        asked = self._guest.asked - before
        check(asked == CALLS_BACK, f"the server called {asked} times")
        check(set(answers) == {os.getpid()}, f"other processes answered: {set(answers)}")
        return (
            f"its handler called Guest.pid() {asked} times in {took * 1e3:.0f} ms; "
            f"process {answers[0]} answered"
        )

    async def progress(self) -> str:
        reports: list[Progress] = []

        async def on_progress(progress: Progress) -> None:
            reports.append(progress)
            self._on_progress(progress)

        tally = await self._library.tally(on_progress)
        seen = [report.done for report in reports]
        check(seen == list(range(1, tally.sections + 1)), f"reports came as {seen}")
        return f"{tally.words:,} words counted meanwhile, most often {tally.most_common!r}"

    async def cancel(self) -> str:
        name = "left early"
        async with self._clock.ticks(name) as stream:
            async for item in stream:
                if item == 4:
                    break
            fate = await self._clock.fate(name)
            check(fate.state == "running", f"the handler was {fate.state} too early")
            left = time.perf_counter()
        fate = await self._until_over(name)
        took = time.perf_counter() - left
        check(fate.state == "finally ran", f"the handler was still {fate.state} after {LATE} s")
        return f"left after 5 items; {took * 1e3:.1f} ms later the server knows: {fate.state} there"

    async def deadline(self) -> str:
        name = "too slow"
        begin = time.perf_counter()
        try:
            with anyio.fail_after(DEADLINE):
                await self._clock.sleep(name, 60)
        except TimeoutError:
            took = time.perf_counter() - begin
        else:
            raise DoesNotHold("it returned")
        fate = await self._until_over(name)
        check(fate.after is not None, f"the handler was still {fate.state} after {LATE} s")
        check(took < DEADLINE + LATE, f"it took {took:.2f} s")
        return (
            f"fail_after({DEADLINE}) fired after {took * 1e3:.0f} ms; "
            f"its handler {fate.state} after {(fate.after or 0) * 1e3:.0f} ms of 60 s"
        )

    async def typed_error(self) -> str:
        items: list[int] = []
        try:
            async for item in self._clock.metered(3):
                items += [item]
        except QuotaExceeded as error:
            check(type(error.data) is Quota, f"its data is {error.data!r}")
            check(error.data == Quota(used=3, limit=3), f"its data is {error.data!r}")
            check(items == [0, 1, 2], f"before it came {items}")
            return f"{len(items)} items, then {type(error).__name__} with data={error.data!r}"
        raise DoesNotHold(f"no error after {items}")

    async def _until_over(self, name: str) -> Fate:
        """The server's record of a handler, as soon as that is over."""
        fate = await self._clock.fate(name)
        with anyio.move_on_after(LATE):
            while fate.after is None:
                await anyio.sleep(0.001)
                fate = await self._clock.fate(name)
        return fate


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the demo.

    Attributes:
        key: Its name in reports.
        title: The text that is shown.
        run: Tries it; returns the observation, or raises.
    """

    key: str
    title: str
    run: Callable[[Visit], Awaitable[str]]


STEPS = (
    Step("unary", "unary call", Visit.unary),
    Step("stream", "file streamed as tokens", Visit.stream),
    Step("upload", "tokens uploaded back", Visit.upload),
    Step("many_streams", f"{STREAMS} streams at once", Visit.many_streams),
    Step("ask_back", "server calls client", Visit.ask_back),
    Step("progress", "progress callbacks", Visit.progress),
    Step("cancel", "cancel", Visit.cancel),
    Step("deadline", "deadline", Visit.deadline),
    Step("typed_error", "typed error", Visit.typed_error),
)
