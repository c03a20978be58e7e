"""Every call has exactly one ending at each end, in whichever way it ends, in both directions."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import anyio
import pytest

import wsrpc
import wsrpc.testing
from tests.support import Codec, error_of, soon, turns, until


class Ledger(wsrpc.Observer):
    """Begins and ends, by call."""

    def __init__(self) -> None:
        self.begun: list[wsrpc.ObservedCall] = []
        self.ends: dict[int, list[wsrpc.CallEnd]] = {}
        self.refused: list[tuple[wsrpc.ObservedCall, wsrpc.CallEnd]] = []
        # Kept, so that no two of them have one id.
        self.strays: list[wsrpc.ObservedCall] = []

    def call_started(self, call: wsrpc.ObservedCall) -> None:
        assert id(call) not in self.ends
        self.begun.append(call)
        self.ends[id(call)] = []

    def call_ended(self, call: wsrpc.ObservedCall, end: wsrpc.CallEnd) -> None:
        if id(call) in self.ends:
            self.ends[id(call)].append(end)
        else:
            self.strays.append(call)

    def call_refused(self, call: wsrpc.ObservedCall, end: wsrpc.CallEnd) -> None:
        self.refused.append((call, end))

    def open(self) -> list[str]:
        return [call.name for call in self.begun if not self.ends[id(call)]]

    def assert_one_ending_each(self) -> None:
        assert not self.strays
        # Exporters take plain text, and no members of an enumeration.
        codes = [end.code for one in self.ends.values() for end in one]
        assert {type(code) for code in [*codes, *(end.code for _, end in self.refused)]} <= {str}
        ends = {call.name: self.ends[id(call)] for call in self.begun}
        assert all(len(self.ends[id(call)]) == 1 for call in self.begun), ends
        refused = {id(call) for call, _ in self.refused}
        assert not refused & set(self.ends)
        assert len(refused) == len(self.refused)
        # Those of one id on the wire are one call.
        inbound = [
            (call.session_id, call.id)
            for call in [*self.begun, *(call for call, _ in self.refused)]
            if call.direction == "inbound"
        ]
        assert [one for one, count in Counter(inbound).items() if count > 1] == []

    def codes(self, direction: str) -> list[str]:
        """The codes of all calls in one direction, refused ones marked, in no order."""
        found = [
            f"{call.name} {self.ends[id(call)][0].code}"
            for call in self.begun
            if call.direction == direction and self.ends[id(call)]
        ]
        found += [
            f"{call.name} refused {end.code}"
            for call, end in self.refused
            if call.direction == direction
        ]
        return sorted(found)


class Work:
    def __init__(self) -> None:
        self.go = anyio.Event()

    @wsrpc.method
    async def add(self, a: int, b: int) -> int:
        return a + b

    @wsrpc.method
    async def broken(self) -> None:
        raise ValueError("secret")

    @wsrpc.method
    async def wait(self) -> int:
        await self.go.wait()
        return 1

    @wsrpc.method
    async def stubborn(self) -> None:
        with anyio.CancelScope(shield=True):
            await self.go.wait()

    @wsrpc.method
    async def count(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    @wsrpc.method
    async def broken_count(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i
        raise wsrpc.RpcError("aborted", "enough")

    @wsrpc.method
    async def wrong_count(self) -> AsyncIterator[int]:
        yield 1
        yield "two"  # type: ignore[misc]

    @wsrpc.method
    async def wrong_answer(self) -> int:
        return "text"  # type: ignore[return-value]

    @wsrpc.method
    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([n async for n in numbers])

    @wsrpc.method
    async def first(self, numbers: AsyncIterator[int]) -> int:
        return await anext(numbers)

    @wsrpc.method
    async def ask(self, question: Callable[[str], Awaitable[str]], times: int = 1) -> str:
        found = [await question("who") for _ in range(times)]
        return "".join(found)

    @wsrpc.method
    async def ask_wrongly(self, question: Callable[[str], Awaitable[str]]) -> None:
        await question(5)  # type: ignore[arg-type]

    @wsrpc.method
    async def hoard(self, question: Callable[[str], Awaitable[str]]) -> None:
        self.hoarded = question

    @wsrpc.method
    async def ask_late(self) -> str:
        return await self.hoarded("who")

    @wsrpc.method
    async def keep(self, question: Callable[[str], Awaitable[str]]) -> None:
        await question("first")
        with suppress(wsrpc.RpcError):
            async with anyio.create_task_group() as group:
                group.start_soon(lost, lambda: question("second"))
                await anyio.sleep(0)
                group.cancel_scope.cancel()

    @wsrpc.method(oneway=True)
    async def note(self, line: str) -> None: ...

    @wsrpc.method(oneway=True)
    async def bad_note(self) -> None:
        raise ValueError("secret")

    @wsrpc.method
    async def secret(self) -> None: ...

    @wsrpc.method
    def plain(self) -> int:
        return 1

    @wsrpc.method(on_disconnect="cancel")
    async def attached(self) -> None:
        await anyio.sleep_forever()

    @wsrpc.method
    async def back(self, times: int) -> int:
        other = wsrpc.current().session.clientize(Work)
        return sum([await other.add(1, 1) for _ in range(times)])


async def authorize(context: wsrpc.CallContext[Any]) -> bool:
    return context.method != "secret"


@dataclass
class Two:
    """Both ends of a session; `caller` makes the calls."""

    caller: wsrpc.Session
    callee: wsrpc.Session
    calls: Ledger
    handles: Ledger
    work: Work
    faults: wsrpc.testing.Faults
    host: wsrpc.testing.Host
    server: wsrpc.Server

    @property
    def proxy(self) -> Work:
        return self.caller.clientize(Work)


Ends = tuple[list[str], list[str]]
Way = Callable[[Two], Awaitable[Ends | None]]
WAYS: list[Way] = []


def way(function: Way) -> Way:
    WAYS.append(function)
    return function


def same(*codes: str) -> Ends:
    return list(codes), list(codes)


async def lost(call: Callable[[], Awaitable[Any]]) -> None:
    """A call that may well fail."""
    with suppress(wsrpc.RpcError):
        await call()


@way
async def success(two: Two) -> Ends:
    assert await two.proxy.add(1, 2) == 3
    assert await two.proxy.plain() == 1
    return same("Work.add ok", "Work.plain ok")


@way
async def failure(two: Two) -> Ends:
    with error_of("internal"):
        await two.proxy.broken()
    with error_of("internal"):
        await two.proxy.wrong_answer()
    return same("Work.broken internal", "Work.wrong_answer internal")


@way
async def refusals(two: Two) -> Ends:
    loose = two.caller.clientize("Work")
    with error_of("permission_denied"):
        await loose.secret()
    with error_of("unimplemented"):
        await loose.nothing()
    with error_of("invalid_argument"):
        await loose.add(a="x", b=1)
    with error_of("invalid_argument"):
        await loose.add(a=1)
    with error_of("invalid_argument"):
        await loose.add(a=1, b=2, up=wsrpc.stream_of([1]))
    codes = [
        "Work.add invalid_argument",
        "Work.add invalid_argument",
        "Work.add invalid_argument",
        "Work.nothing unimplemented",
        "Work.secret permission_denied",
    ]
    return codes, [code.replace(" ", " refused ") for code in codes]


@way
async def notifications(two: Two) -> Ends:
    loose = two.caller.clientize("Work")
    await two.proxy.note("a")
    await two.proxy.bad_note()
    for name in ("nothing", "count", "secret"):
        await getattr(loose, name).notify(n=1) if name == "count" else await getattr(
            loose, name
        ).notify()
    await loose.note.notify(line=3)
    await until(lambda: len(two.handles.begun) + len(two.handles.refused) == 6)
    return [
        "Work.bad_note ok",
        "Work.count ok",
        "Work.note ok",
        "Work.note ok",
        "Work.nothing ok",
        "Work.secret ok",
    ], [
        "Work.bad_note internal",
        "Work.count refused failed_precondition",
        "Work.note ok",
        "Work.note refused invalid_argument",
        "Work.nothing refused unimplemented",
        "Work.secret refused permission_denied",
    ]


@way
async def arguments_that_cannot_leave(two: Two) -> Ends:
    checked = two.caller.clientize(Work, validate="both")
    with error_of("invalid_argument"):
        await checked.add("x", 1)  # type: ignore[arg-type]
    with error_of("invalid_argument"):
        await checked.count("x").collect()  # type: ignore[arg-type]
    with error_of("invalid_argument"):
        await checked.note(3)  # type: ignore[arg-type]
    with error_of("invalid_argument"):
        await two.caller.clientize("Work").add(a=object(), b=1)
    # That is no call.
    with pytest.raises(TypeError):
        await two.proxy.add(1)  # type: ignore[call-arg]
    with error_of("resource_exhausted"), wsrpc.metadata(much="x" * 20_000):
        await two.proxy.add(1, 2)
    with error_of("resource_exhausted"), wsrpc.metadata(much="x" * 20_000):
        await two.proxy.count(1).collect()
    with error_of("resource_exhausted"), wsrpc.metadata(much="x" * 20_000):
        await two.proxy.note("x")
    return [
        "Work.add invalid_argument",
        "Work.add invalid_argument",
        "Work.add resource_exhausted",
        "Work.count invalid_argument",
        "Work.count resource_exhausted",
        "Work.note invalid_argument",
        "Work.note resource_exhausted",
    ], []


@way
async def cancelled_in_the_middle(two: Two) -> Ends:
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: two.proxy.wait())
        await until(lambda: len(two.handles.begun) == 1)
        group.cancel_scope.cancel()
    await until(lambda: not two.handles.open())
    return same("Work.wait cancelled")


@way
async def cancelled_at_once(two: Two) -> Ends | None:
    for checkpoints in range(6):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: two.proxy.wait())
            for _ in range(checkpoints):
                await anyio.sleep(0)
            group.cancel_scope.cancel()
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: two.proxy.count(1000).collect())
            for _ in range(checkpoints):
                await anyio.sleep(0)
            group.cancel_scope.cancel()
    await turns(100)
    return None


@way
async def deadlines(two: Two) -> Ends | None:
    """On a busy machine it may be over before the call has begun there."""
    hasty = two.caller.clientize(Work, timeout=0.05)
    with error_of("deadline_exceeded"):
        await hasty.wait()
    with error_of("deadline_exceeded"):
        await hasty.stubborn()
    two.work.go.set()
    return None


@way
async def slots_that_are_full(two: Two) -> Ends:
    """Cancelled, and out of time, before there was a slot; sent when there was one."""
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(lambda: two.proxy.wait())
        await until(lambda: len(two.handles.begun) == 8)
        async with anyio.create_task_group() as hurried:
            hurried.start_soon(lambda: two.proxy.add(1, 2))
            hurried.start_soon(lambda: two.proxy.count(3).collect())
            hurried.start_soon(lambda: two.proxy.note("x"))
            await turns(50)
            hurried.cancel_scope.cancel()
        with error_of("deadline_exceeded"):
            await two.caller.clientize(Work, timeout=0.02).add(1, 2)
        with error_of("deadline_exceeded"):
            await two.caller.clientize(Work, timeout=0.02).note("x")
        with error_of("deadline_exceeded"):
            await two.caller.clientize(Work, timeout=0.02).count(3).collect()
        group.start_soon(lambda: two.proxy.add(1, 2))
        await turns()
        two.work.go.set()
    waits = ["Work.wait ok"] * 8
    return [
        "Work.add cancelled",
        "Work.add deadline_exceeded",
        "Work.add ok",
        "Work.count cancelled",
        "Work.count deadline_exceeded",
        "Work.note cancelled",
        "Work.note deadline_exceeded",
        *waits,
    ], ["Work.add ok", *waits]


@way
async def streams(two: Two) -> Ends:
    assert await two.proxy.count(100).collect() == list(range(100))
    async with two.proxy.count(1000) as stream:
        await anext(stream)
    with error_of("aborted"):
        await two.proxy.broken_count(3).collect()
    with error_of("internal"):
        await two.proxy.wrong_count().collect()
    loose = two.caller.clientize("Work")
    with error_of("unimplemented"):
        await loose.nothing().collect()
    stream = two.proxy.count(1_000_000)
    assert await stream.next(timeout=5) == 0
    stream.cancel()
    await until(lambda: len(two.handles.begun) == 5 and not two.handles.open())
    return [
        "Work.broken_count aborted",
        "Work.count cancelled",
        "Work.count cancelled",
        "Work.count ok",
        "Work.nothing unimplemented",
        "Work.wrong_count internal",
    ], [
        "Work.broken_count aborted",
        "Work.count cancelled",
        "Work.count cancelled",
        "Work.count ok",
        "Work.nothing refused unimplemented",
        "Work.wrong_count internal",
    ]


@way
async def streams_that_are_dropped(two: Two) -> Ends:
    two.proxy.count(5)
    stream = two.proxy.count(1_000_000)
    assert await anext(stream) == 0
    del stream
    gc.collect()
    await until(lambda: two.handles.begun != [] and not two.handles.open())
    # One that was cancelled and is dropped after that.
    stream = two.proxy.count(1_000_000)
    assert await anext(stream) == 0
    await stream.aclose()
    del stream
    gc.collect()
    # One that waits for an item when its scope is cancelled.
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: two.proxy.count(10_000_000).collect())
        await until(lambda: len(two.handles.begun) == 3)
        group.cancel_scope.cancel()
    gc.collect()
    await until(lambda: len(two.handles.begun) == 3 and not two.handles.open())
    return same("Work.count cancelled", "Work.count cancelled", "Work.count cancelled")


@way
async def the_wrong_kind(two: Two) -> Ends | None:
    loose = two.caller.clientize("Work")
    with pytest.raises(wsrpc.RpcError):
        await loose.count(n=3)
    with pytest.raises(wsrpc.RpcError):
        await loose.add(a=1, b=2).collect()
    await until(lambda: len(two.handles.begun) == 2 and not two.handles.open())
    return None


async def endless() -> AsyncIterator[int]:
    while True:
        yield 1


async def failing() -> AsyncIterator[int]:
    yield 1
    raise ZeroDivisionError


@way
async def uploads(two: Two) -> Ends | None:
    assert await two.proxy.total(wsrpc.stream_of([1, 2])) == 3
    assert await two.proxy.first(endless()) == 1
    with pytest.raises(ZeroDivisionError):
        await two.proxy.total(failing())
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: two.proxy.total(endless()))
        await until(lambda: len(two.handles.begun) == 4)
        group.cancel_scope.cancel()
    await until(lambda: not two.handles.open())
    return None


async def answer(question: str) -> str:
    return question.upper()


async def no_answer(question: str) -> str:
    raise wsrpc.RpcError("aborted", "no")


async def wrong_answer(question: str) -> str:
    return 5  # type: ignore[return-value]


async def slow_answer(question: str) -> str:
    if question == "second":
        await anyio.sleep_forever()
    return question


@way
async def callbacks(two: Two) -> Ends | None:
    assert await two.proxy.ask(answer, 3) == "WHOWHOWHO"
    with error_of("aborted"):
        await two.proxy.ask(no_answer)
    with error_of("internal"):
        await two.proxy.ask(wrong_answer)
    await two.proxy.keep(slow_answer)
    with anyio.move_on_after(0.05):
        await two.proxy.ask(slow_answer, 1_000_000)
    await until(lambda: not two.handles.open() and not two.calls.open())
    return None


@way
async def callbacks_that_cannot_be_called(two: Two) -> Ends | None:
    with error_of("invalid_argument"):
        await two.proxy.ask_wrongly(answer)
    await two.proxy.hoard(answer)
    with suppress(wsrpc.RpcError):
        await two.proxy.ask_late()
    outbound = ["question failed_precondition", "question invalid_argument"]
    assert two.handles.codes("outbound") == outbound
    return None


@way
async def calls_back(two: Two) -> Ends | None:
    assert await two.proxy.back(3) == 6
    return None


@way
async def a_link_that_is_lost_and_resumed(two: Two) -> Ends:
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(lambda: two.proxy.wait())
        group.start_soon(lambda: two.proxy.count(500).collect())
        await until(lambda: len(two.handles.begun) == 4)
        group.start_soon(lost, lambda: two.proxy.attached())
        await until(lambda: len(two.handles.begun) == 5)
        two.faults.cut()
        await until(lambda: len(two.handles.open()) == 3)
        two.work.go.set()
    return same("Work.attached cancelled", "Work.count ok", *["Work.wait ok"] * 3)


@way
async def a_link_that_is_lost_at_any_frame(two: Two) -> Ends | None:
    for index in range(8):
        two.faults.cut(before=two.faults.frames() + index)
        with suppress(wsrpc.RpcError):
            assert await two.proxy.add(1, 2) == 3
        with suppress(wsrpc.RpcError):
            assert await two.proxy.count(3).collect() == [0, 1, 2]
        two.faults.mend()
    return None


@way
async def a_session_that_has_expired(two: Two) -> Ends | None:
    async with anyio.create_task_group() as group:
        group.start_soon(lost, lambda: two.proxy.wait())
        group.start_soon(lost, lambda: two.proxy.total(endless()))
        group.start_soon(lost, lambda: two.proxy.count(10_000_000).collect())
        group.start_soon(lost, lambda: two.proxy.ask(slow_answer, 100_000))
        await until(lambda: len(two.handles.begun) >= 4)
        for session in list(two.server.sessions.values()):
            await session.aclose(4000, "forgotten")
        two.faults.abort()
        await turns(100)
        group.cancel_scope.cancel()
    return None


@way
async def a_session_that_is_closed_in_the_middle(two: Two) -> Ends | None:
    async with anyio.create_task_group() as group:
        group.start_soon(lost, lambda: two.proxy.wait())
        group.start_soon(lost, lambda: two.proxy.count(10_000_000).collect())
        await until(lambda: len(two.handles.begun) == 2)
        await two.caller.aclose()
        with pytest.raises(wsrpc.RpcError):
            await two.proxy.add(1, 2)
        with pytest.raises(wsrpc.RpcError):
            await two.proxy.count(1).collect()
        with pytest.raises(wsrpc.RpcError):
            await two.proxy.note("x")
    return None


@way
async def a_drain(two: Two) -> Ends | None:
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: two.proxy.wait())
        await until(lambda: len(two.handles.begun) == 1)
        group.start_soon(two.server.drain, 5)
        await turns(50)
        for _ in range(3):
            with suppress(wsrpc.RpcError), anyio.move_on_after(0.05):
                await two.proxy.add(1, 2)
            with suppress(wsrpc.RpcError), anyio.move_on_after(0.05):
                await two.proxy.count(2).collect()
        two.work.go.set()
    return None


@way
async def a_drain_without_time(two: Two) -> Ends | None:
    async with anyio.create_task_group() as group:

        async def lost() -> None:
            with suppress(wsrpc.RpcError):
                await two.proxy.wait()

        group.start_soon(lost)
        await until(lambda: len(two.handles.begun) == 1)
        await two.server.drain(0)
        group.cancel_scope.cancel()
    return None


async def never(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
    return 5


async def twice(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
    await call_next(request)
    return await call_next(request)


async def spoilt(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
    await call_next(request)
    raise wsrpc.RpcError("aborted", "by an interceptor")


async def half(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
    stream = await call_next(request)

    async def some() -> AsyncIterator[int]:
        yield await anext(stream)

    return some()


@way
async def interceptors(two: Two) -> Ends:
    def proxy(interceptor: Any) -> Work:
        return two.caller.clientize(Work, interceptors=[interceptor])

    assert await proxy(never).add(1, 2) == 5
    assert await proxy(twice).add(1, 2) == 3
    with error_of("aborted"):
        await proxy(spoilt).add(1, 2)
    assert await proxy(half).count(1_000_000).collect() == [0]
    gc.collect()
    await until(lambda: len(two.handles.begun) == 4 and not two.handles.open())
    return same("Work.add ok", "Work.add ok", "Work.add ok", "Work.count cancelled")


@asynccontextmanager
async def both(direction: str, codec: Codec, **options: Any) -> AsyncIterator[Two]:
    at_server, at_client = Ledger(), Ledger()
    work = Work()
    limits = wsrpc.Limits(max_calls=8, resume_window=5)
    server = wsrpc.Server([work], limits=limits, authorize=authorize, observers=[at_server])
    faults = wsrpc.testing.Faults()
    with soon():
        async with AsyncExitStack() as stack:
            host = await stack.enter_async_context(wsrpc.testing.server(server))
            client = await stack.enter_async_context(
                host.connect(
                    controllers=[work],
                    codec=codec,
                    authorize=authorize,
                    observers=[at_client],
                    limits=replace(limits),
                    faults=faults,
                    **options,
                )
            )
            accepted = host.session_of(client)
            if direction == "to the server":
                yield Two(client, accepted, at_client, at_server, work, faults, host, server)
            else:
                yield Two(accepted, client, at_server, at_client, work, faults, host, server)


@pytest.mark.parametrize("direction", ["to the server", "to the client"])
@pytest.mark.parametrize("way", WAYS, ids=lambda one: one.__name__)
async def test_every_call_has_exactly_one_ending(way: Way, direction: str, codec: Codec) -> None:
    async with both(direction, codec) as two:
        expected = await way(two)
        if expected is not None:
            await until(
                lambda: (two.calls.codes("outbound"), two.handles.codes("inbound")) == expected
            )
    for ledger in (two.calls, two.handles):
        assert ledger.open() == []
        ledger.assert_one_ending_each()
    assert two.calls.begun or two.handles.begun or two.handles.refused


@pytest.mark.parametrize("way", [success, refusals, streams, uploads], ids=lambda one: one.__name__)
async def test_a_call_that_reached_the_other_end_is_told_at_both(way: Way, codec: Codec) -> None:
    async with both("to the server", codec) as two:
        await way(two)
    for one, other in ((two.calls, two.handles), (two.handles, two.calls)):
        made = Counter(call.name for call in one.begun if call.direction == "outbound")
        got = Counter(call.name for call in other.begun if call.direction == "inbound")
        got += Counter(call.name for call, _ in other.refused if call.direction == "inbound")
        assert made == got
