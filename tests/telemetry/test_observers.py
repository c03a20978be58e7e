"""Observers: every call has exactly one ending there, and an observer affects nothing else."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import Codec, bare_client, error_of, served, soon, until


class Told(wsrpc.Observer):
    """Keeps all that it is told."""

    def __init__(self) -> None:
        self.started: list[wsrpc.ObservedCall] = []
        self.ended: list[tuple[wsrpc.ObservedCall, wsrpc.CallEnd]] = []
        self.refused: list[tuple[wsrpc.ObservedCall, wsrpc.CallEnd]] = []
        self.counts: Counter[str] = Counter()
        self.states: list[str] = []
        self.codes: list[int] = []
        self.drains: list[str] = []
        self.pauses: list[float] = []
        self.retries: list[tuple[int, str]] = []

    def call_started(self, call: wsrpc.ObservedCall) -> None:
        self.started.append(call)

    def call_ended(self, call: wsrpc.ObservedCall, end: wsrpc.CallEnd) -> None:
        self.ended.append((call, end))

    def call_refused(self, call: wsrpc.ObservedCall, end: wsrpc.CallEnd) -> None:
        self.refused.append((call, end))

    def items(self, call: wsrpc.ObservedCall, direction: Any, count: int) -> None:
        self.counts[f"items {direction}"] += count

    def bytes(self, session: wsrpc.Session, direction: Any, count: int) -> None:
        self.counts[f"bytes {direction}"] += count

    def paused(self, call: wsrpc.ObservedCall, seconds: float) -> None:
        self.pauses.append(seconds)

    def session_state(self, session: wsrpc.Session, change: wsrpc.StateChange) -> None:
        self.states.append(change.state)

    def link_opened(self, handshake: wsrpc.Handshake) -> None:
        self.counts["links"] += 1

    def link_closed(self, handshake: wsrpc.Handshake, code: int, reason: str) -> None:
        self.codes.append(code)

    def drain(self, state: Any, sessions: int) -> None:
        self.drains.append(state)

    def retry(self, call: wsrpc.ObservedCall, attempt: int, code: str) -> None:
        self.retries.append((attempt, code))

    def endings(self) -> dict[str, list[str]]:
        """The codes with which the calls of each method ended, refused ones marked."""
        found: dict[str, list[str]] = {}
        for call, end in self.ended:
            found.setdefault(call.name, []).append(end.code)
        for call, end in self.refused:
            found.setdefault(call.name, []).append(f"refused {end.code}")
        return found


class Quota(wsrpc.RpcError[int]):
    def __init__(self, left: int) -> None:
        super().__init__("resource_exhausted", "no more", left)


class Work:
    @wsrpc.method
    async def add(self, a: int, b: int) -> int:
        return a + b

    @wsrpc.method
    async def broken(self) -> None:
        raise ValueError("secret")

    @wsrpc.method
    async def quota(self) -> None:
        raise Quota(0)

    @wsrpc.method
    async def wait(self) -> None:
        await anyio.sleep_forever()

    @wsrpc.method
    async def count(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    @wsrpc.method
    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([n async for n in numbers])

    @wsrpc.method
    async def ask(self, question: Callable[[str], Awaitable[str]]) -> str:
        return await question("who")

    @wsrpc.method(oneway=True)
    async def note(self, line: str) -> None: ...

    @wsrpc.method
    async def secret(self) -> None: ...


async def authorize(context: wsrpc.CallContext) -> bool:
    return context.method != "secret"


async def answer(question: str) -> str:
    return question.upper()


async def use_all(session: wsrpc.Session) -> None:
    """A call of every kind, with every kind of end."""
    work = session.clientize(Work)
    assert await work.add(1, 2) == 3
    with error_of("internal"):
        await work.broken()
    with pytest.raises(Quota):
        await work.quota()
    with error_of("permission_denied"):
        await work.secret()
    loose = session.clientize("Work")
    with error_of("unimplemented"):
        await loose.nothing()
    with error_of("invalid_argument"):
        await loose.add(a="x", b=1)
    assert await work.count(5).collect() == list(range(5))
    async with work.count(1000) as stream:
        await anext(stream)
    assert await work.total(wsrpc.stream_of([1, 2])) == 3
    assert await work.ask(answer) == "WHO"
    await work.note("a line")
    with anyio.move_on_after(0.3):
        await work.wait()


HANDLED = {
    "Work.add": ["ok", "refused invalid_argument"],
    "Work.broken": ["internal"],
    "Work.quota": ["resource_exhausted"],
    "Work.secret": ["refused permission_denied"],
    "Work.nothing": ["refused unimplemented"],
    "Work.count": ["ok", "cancelled"],
    "Work.total": ["ok"],
    "Work.ask": ["ok"],
    "Work.note": ["ok"],
    "Work.wait": ["deadline_exceeded"],
    # The callback that `ask` was passed.
    "question": ["ok"],
}


@pytest.mark.parametrize("transport", ["websockets", "picows"])
async def test_a_call_names_the_address_of_its_peer_at_both_ends(
    transport: Any, anyio_backend_name: str
) -> None:
    if transport == "picows" and anyio_backend_name == "trio":
        pytest.skip("picows runs on asyncio")
    told, asked = Told(), Told()
    async with served([Work()], observers=[told], listen={"transport": transport}) as listener:
        async with wsrpc.connect(
            listener.url, controllers=[Work()], observers=[asked], transport=transport
        ) as session:
            await session.clientize(Work).add(1, 2)
            assert session.handshake.remote == listener.url.removeprefix("ws://")
            accepted = told.started[0].session
            await accepted.clientize(Work).add(1, 2)
    for observer in (told, asked):
        assert {call.direction for call in observer.started} == {"inbound", "outbound"}
    assert {call.peer for call in asked.started} == {listener.url.removeprefix("ws://")}
    assert {call.peer for call in told.started} == {accepted.handshake.remote}


async def test_every_call_has_exactly_one_ending_those_that_were_refused_included(
    codec: Codec,
) -> None:
    told, asked = Told(), Told()
    async with served([Work()], authorize=authorize, observers=[told]) as listener:
        async with wsrpc.connect(
            listener.url, codec=codec, observers=[asked], reconnect=False
        ) as session:
            await use_all(session)
            session_id = session.id
            await until(lambda: len(told.ended) + len(told.refused) == 13)
    assert told.endings() == HANDLED
    assert len(told.started) == len(told.ended)
    assert {id(call) for call in told.started} == {id(call) for call, _ in told.ended}
    assert {call.session_id for call in told.started} == {session_id}
    assert all(call.peer.startswith("127.0.0.1:") for call in told.started)
    assert all(call.id for call in told.started if call.direction == "inbound")
    kinds = {call.name: call.kind for call in told.started}
    assert kinds["Work.count"] == "stream"
    assert kinds["Work.note"] == "notify"
    assert all(end.not_started for _, end in told.refused)
    (failed,) = [end for call, end in told.ended if call.method == "broken"]
    assert failed.error_id
    assert failed.duration >= 0

    outbound = {
        name: [code.removeprefix("refused ") for code in codes] for name, codes in HANDLED.items()
    }
    assert asked.endings() == outbound
    assert len(asked.started) == len(asked.ended)


async def test_items_bytes_states_and_connections_are_told_at_both_ends() -> None:
    told, asked = Told(), Told()
    async with served([Work()], observers=[told]) as listener:
        async with wsrpc.connect(listener.url, observers=[asked], reconnect=False) as session:
            work = session.clientize(Work)
            assert await work.count(100).collect() == list(range(100))
            assert await work.total(wsrpc.stream_of(range(7))) == 21
            stats = listener.server.stats
            assert stats.bytes_received == told.counts["bytes received"]
            await until(lambda: stats.bytes_sent == asked.counts["bytes received"])
        await until(lambda: "closed" in told.states)
    assert told.counts["items sent"] == asked.counts["items received"] == 100
    assert told.counts["items received"] == asked.counts["items sent"] == 7
    assert told.counts["links"] == asked.counts["links"] == 1
    assert told.codes == asked.codes == [1000]
    assert told.states == ["connected", "closed"]
    assert asked.states == ["connected", "closed"]


async def test_a_stream_that_waits_for_credit_is_told_as_paused() -> None:
    told = Told()
    async with served([Work()], observers=[told]) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            async with session.clientize(Work, window=1).count(10) as stream:
                async for _ in stream:
                    await anyio.sleep(0)
    assert told.pauses
    assert all(seconds >= 0 for seconds in told.pauses)


async def test_a_stream_that_is_cancelled_while_it_waits_for_credit_is_told_as_paused() -> None:
    told, asked = Told(), Told()

    class Deaf:
        @wsrpc.method
        async def ignore(self, numbers: AsyncIterator[int]) -> int:
            first = await anext(numbers)
            await anyio.sleep_forever()
            return first

    async with served(
        [Work(), Deaf()], limits=wsrpc.Limits(window=1), observers=[told]
    ) as listener:
        async with wsrpc.connect(listener.url, observers=[asked], reconnect=False) as session:
            async with session.clientize(Work, window=1).count(10) as stream:
                await anext(stream)
                await until(lambda: told.counts["items sent"] > 1)
                await anyio.sleep(0.05)
                seen = len(told.pauses)
            await until(lambda: bool(told.ended))
            assert len(told.pauses) == seen + 1
            assert told.pauses[-1] >= 0.04
            async with anyio.create_task_group() as group:
                group.start_soon(session.clientize(Deaf).ignore, wsrpc.stream_of(range(9)))
                await until(lambda: asked.counts["items sent"] > 0)
                await anyio.sleep(0.05)
                seen = len(asked.pauses)
                group.cancel_scope.cancel()
            await until(lambda: len(asked.pauses) == seen + 1)


async def test_an_upload_that_waits_for_credit_is_told_as_paused_at_the_callers_end() -> None:
    class Slow:
        @wsrpc.method
        async def twice(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
            async for number in numbers:
                await anyio.sleep(0.01)
                yield 2 * number

        @wsrpc.method
        async def total(self, numbers: AsyncIterator[int]) -> int:
            found = 0
            async for number in numbers:
                await anyio.sleep(0.01)
                found += number
            return found

    limits = wsrpc.Limits(window=1)
    for name in ("twice", "total"):
        asked = Told()
        async with served([Slow()], limits=limits) as listener:
            async with wsrpc.connect(
                listener.url, observers=[asked], limits=limits, reconnect=False
            ) as session:
                slow, numbers = session.clientize(Slow), wsrpc.stream_of(range(5))
                if name == "twice":
                    assert await slow.twice(numbers).collect() == [0, 2, 4, 6, 8]
                else:
                    assert await slow.total(numbers) == 10
        assert asked.counts["items sent"] == 5
        assert asked.pauses
        assert len(asked.started) == len(asked.ended) == 1


async def test_observers_are_told_the_metadata_that_travels_with_a_call() -> None:
    told, asked = Told(), Told()
    async with served([Work()], observers=[told]) as listener:
        async with wsrpc.connect(listener.url, observers=[asked], reconnect=False) as session:
            work = session.clientize(Work, metadata={"of": "proxy"})
            with wsrpc.metadata(team="blue"):
                assert await work.add(1, 2) == 3
                assert await work.count(2).collect() == [0, 1]
                await work.note("a line")
            await until(lambda: len(told.ended) == 3)
    for observer in (told, asked):
        assert [dict(call.metadata) for call in observer.started] == [
            {"of": "proxy", "team": "blue"}
        ] * 3


async def test_a_deadline_of_the_callers_scope_has_one_name_whatever_the_kind_of_the_call() -> None:
    class Stuck:
        @wsrpc.method
        async def value(self) -> int:
            await anyio.sleep_forever()
            raise AssertionError

        @wsrpc.method
        async def items(self) -> AsyncIterator[int]:
            yield await self.value()

    told, asked = Told(), Told()
    async with served([Stuck()], observers=[told]) as listener:
        async with wsrpc.connect(listener.url, observers=[asked], reconnect=False) as session:
            stuck = session.clientize(Stuck)
            with anyio.move_on_after(0.1):
                await stuck.value()
            with anyio.move_on_after(0.1):
                await stuck.items().collect()
            for call in (stuck.value, stuck.items().collect):
                async with anyio.create_task_group() as group:
                    count = len(told.started)
                    group.start_soon(call)
                    await until(lambda: len(told.started) == count + 1)  # noqa: B023
                    group.cancel_scope.cancel()
            await until(lambda: len(told.ended) == 4)
    ends = ["deadline_exceeded", "cancelled"]
    assert asked.endings() == told.endings() == {"Stuck.value": ends, "Stuck.items": ends}


async def test_a_drain_is_told() -> None:
    told = Told()
    async with served([Work()], observers=[told]) as listener:
        async with wsrpc.connect(listener.url, reconnect=False):
            await listener.server.drain(0)
    assert told.drains == ["begun", "ended"]


class Raising(wsrpc.Observer):
    def __getattribute__(self, name: str) -> Any:
        def fail(*args: object) -> None:
            raise ZeroDivisionError(name)

        return fail if not name.startswith("_") else super().__getattribute__(name)


async def test_an_observer_that_raises_is_logged_and_affects_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = Told()
    async with served([Work()], authorize=authorize, observers=[Raising(), told]) as listener:
        async with wsrpc.connect(listener.url, observers=[Raising()], reconnect=False) as session:
            await use_all(session)
            await until(lambda: len(told.ended) + len(told.refused) == 13)
    assert told.endings() == HANDLED
    assert any("an observer raised" in record.getMessage() for record in caplog.records)


async def test_calls_that_no_handler_ever_saw_are_told(codec: Codec) -> None:
    told = Told()
    limits = wsrpc.Limits(max_calls=8)
    server = wsrpc.Server([Work()], limits=limits, observers=[told])
    async with bare_client(server, codec) as peer:
        calls: list[list[Any]] = [["call", 2 * n + 1, "Work.wait", {}] for n in range(8)]
        await peer.send(*calls, ["call", 17, "Work.add", {"a": 1, "b": 2}])
        assert (await peer.expect("error"))[2]["code"] == "resource_exhausted"
        await until(lambda: len(told.started) == 8)
        await peer.send(["cancel", 1])
        await peer.expect("error")
        await peer.send(["call", 19, "Work.add", {"a": 1, "b": 2}, {"timeout": 0}])
        assert (await peer.expect("error"))[2]["code"] == "deadline_exceeded"
        await peer.send(["notify", 21, "Work.count", {"n": 1}])
        assert (await peer.expect("error"))[2]["code"] == "failed_precondition"
        await peer.send(["call", 23, "Work.wait", {}], ["cancel", 23])
        assert (await peer.expect("error"))[2]["code"] == "cancelled"
    found = [(call.name, end.code) for call, end in told.refused]
    assert found == [
        ("Work.add", "resource_exhausted"),
        ("Work.add", "deadline_exceeded"),
        ("Work.count", "failed_precondition"),
        ("Work.wait", "cancelled"),
    ]
    assert len(told.started) == len(told.ended) == 8


async def test_every_refused_call_leaves_a_trace(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="wsrpc")
    async with served([Work()], authorize=authorize) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            await use_all(session)
            await until(lambda: listener.server.stats.refused.total() == 3)
    assert listener.server.stats.refused == {
        ("Work.secret", "permission_denied"): 1,
        ("?", "unimplemented"): 1,
        ("Work.add", "invalid_argument"): 1,
    }
    lines = [record.getMessage() for record in caplog.records]
    assert any("Work.secret was refused: permission_denied" in line for line in lines)


async def test_a_flood_of_made_up_methods_takes_up_one_counter() -> None:
    async with served([Work()]) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            loose = session.clientize("Work")
            for number in range(50):
                with error_of("unimplemented"):
                    await getattr(loose, f"made_up_{number}")()
        assert listener.server.stats.refused == {("?", "unimplemented"): 50}


async def test_a_retry_is_told_with_its_number() -> None:
    class Shy:
        tries = 0

        @wsrpc.method(idempotent=True)
        async def speak(self) -> str:
            self.tries += 1
            if self.tries < 3:
                raise wsrpc.RpcError("unavailable", "not yet")
            return "yes"

    asked = Told()
    async with served([Shy()]) as listener:
        async with wsrpc.connect(listener.url, observers=[asked], reconnect=False) as session:
            with soon():
                assert await session.clientize(Shy).speak() == "yes"
    assert asked.retries == [(2, "unavailable"), (3, "unavailable")]
    assert asked.endings() == {"Shy.speak": ["ok"]}


class Tagged:
    tags = frozenset({"all"})

    @wsrpc.method(tags={"admin"})
    async def one(self) -> int:
        return 1

    @wsrpc.method(tags={"admin"})
    async def many(self) -> AsyncIterator[int]:
        yield 1

    @wsrpc.method(oneway=True, tags={"admin"})
    async def note(self) -> None: ...

    @wsrpc.method(tags={"admin"})
    async def picky(self, n: int) -> None: ...


async def test_observers_are_told_the_tags_of_a_method_at_both_ends() -> None:
    told, asked = Told(), Told()
    async with served([Tagged()], observers=[told]) as listener:
        async with wsrpc.connect(listener.url, observers=[asked], reconnect=False) as session:
            tagged = session.clientize(Tagged)
            assert await tagged.one() == 1
            assert await tagged.many().collect() == [1]
            await tagged.note()
            with error_of("invalid_argument"):
                await session.clientize("Tagged").picky(n="x")
            await until(lambda: len(told.ended) == 3)
    (refused,) = [call for call, _ in told.refused]
    assert {call.tags for call in [*told.started, refused]} == {frozenset({"all", "admin"})}
    assert [call.tags for call in asked.started] == [frozenset({"all", "admin"})] * 3 + [
        frozenset()
    ]


async def test_a_snapshot_has_what_was_refused_resumed_and_moved() -> None:
    async with served([Work()], authorize=authorize) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            await use_all(session)
            await until(lambda: listener.server.stats.refused.total() == 3)
            snapshot = listener.server.snapshot()
    assert snapshot.refused[("Work.secret", "permission_denied")] == 1
    assert snapshot.refused[("?", "unimplemented")] == 1
    assert snapshot.resumes == 0
    assert snapshot.bytes_received > 0
    assert snapshot.bytes_sent > 0


async def test_without_observers_nothing_is_made_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*args: object) -> None:
        raise AssertionError("made for nobody")

    monkeypatch.setattr("wsrpc.handling.observed.ObservedCall", made)
    monkeypatch.setattr("wsrpc.calling.observed.ObservedCall", made)
    monkeypatch.setattr("wsrpc.telemetry.events.Events._tell", made)
    async with served([Work()], authorize=authorize) as listener:
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            await use_all(session)
            await until(lambda: listener.server.stats.refused.total() == 3)


async def test_what_watching_costs_can_be_measured() -> None:
    from benchmarks.observing import WAYS

    for way, observers in WAYS.items():
        if way in ("nothing at all", "access log"):
            # They change what the whole process does.
            continue
        async with served([Work()], observers=observers()) as listener:
            async with wsrpc.connect(listener.url, reconnect=False) as session:
                assert await session.clientize(Work).add(1, 2) == 3


def test_without_observers_the_cost_is_measurable_where_it_is_more_than_the_noise() -> None:
    from benchmarks.observing import verdict

    assert "not measurable: +1.0 %" in verdict([100, 102, 104], [101, 103, 105])
    assert "is measurable: +10.0 %" in verdict([100, 102, 104], [110, 111, 112])
