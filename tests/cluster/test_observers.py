"""Calls between nodes as observers see them: at the node that makes them, and at the one between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest
from opentelemetry.trace import SpanKind

import wsrpc
from tests.support import error_of, until, visited
from tests.telemetry.test_otel import Traced, trace_of
from wsrpc.cluster import ClusterLimits, SessionGone

from .support import Worker, net
from .support import node as single_node


class Rich(Worker):
    """A worker with a method of each further form."""

    controller_name = "Rich"

    @wsrpc.method
    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    @wsrpc.method
    async def ask(self, question: Callable[[int], Awaitable[int]], times: int) -> int:
        return sum([await question(n) for n in range(times)])

    @wsrpc.method
    async def broken(self) -> None:
        raise ValueError("unexpected")


class Ledger(wsrpc.Observer):
    """Notes each call with its one ending, and complains of any other number of them."""

    def __init__(self) -> None:
        self.live: dict[int, wsrpc.ObservedCall] = {}
        self.ended: list[tuple[wsrpc.ObservedCall, wsrpc.CallEnd]] = []
        self.refused: list[tuple[wsrpc.ObservedCall, wsrpc.CallEnd]] = []
        self.counts: list[tuple[str, str, int]] = []
        self.states = 0

    def call_started(self, call: wsrpc.ObservedCall) -> None:
        assert self.live.setdefault(id(call), call) is call

    def call_ended(self, call: wsrpc.ObservedCall, end: wsrpc.CallEnd) -> None:
        assert self.live.pop(id(call)) is call
        self.ended.append((call, end))

    def call_refused(self, call: wsrpc.ObservedCall, end: wsrpc.CallEnd) -> None:
        self.refused.append((call, end))

    def items(self, call: wsrpc.ObservedCall, direction: Any, count: int) -> None:
        assert id(call) in self.live
        self.counts.append((call.name, direction, count))

    def session_state(self, session: wsrpc.Session, change: wsrpc.StateChange) -> None:
        self.states += 1

    def told(self) -> list[tuple[str, str, str, str, bool]]:
        """The calls that have ended since this was last asked."""
        found: list[tuple[str, str, str, str, bool]] = [
            (call.direction, call.name, call.kind, end.code, end.not_started)
            for call, end in (*self.ended, *self.refused)
        ]
        assert {type(code) for *_, code, _ in found} <= {str}
        self.ended, self.refused = [], []
        return found

    def moved(self, name: str, direction: str) -> int:
        return sum(count for *of, count in self.counts if of == [name, direction])


async def test_a_call_to_another_node_has_one_ending_at_each_of_the_three() -> None:
    here, there, far = Ledger(), Ledger(), Ledger()
    async with net("local", 0) as nodes:
        caller = await nodes.add(observers=[here])
        middle = await nodes.add(observers=[there])
        session = await middle.connect(Rich("far"), observers=[far])
        await until(lambda: caller.cluster.presence.count() == 1)
        assert here.told() == []
        proxy = caller.cluster.session(session.id).clientize(Rich, metadata={"a": "b"})

        async def told(label: str, kind: str, code: str) -> None:
            """Each of the three was told of one call, which has ended like this."""
            await until(lambda: not here.live and not there.live and not far.live)
            (call, end), *none = here.ended or here.refused
            assert none == []
            assert (call.session_id, call.session.id) == (session.id, session.id)
            assert (call.peer, dict(call.metadata)) == (f"node:{middle.cluster.id}", {"a": "b"})
            assert not call.relayed
            (call, relayed), *none = there.ended or there.refused
            assert none == []
            assert call.relayed
            assert call.session is middle.has(session)
            assert dict(call.metadata) == {"a": "b"}
            assert (relayed.error_id, relayed.not_started) == (end.error_id, end.not_started)
            assert here.told() == there.told() == [("outbound", label, kind, code, False)]
            if code != "unimplemented":
                assert [one[:3] for one in far.told()] == [("inbound", label, kind)]
            else:
                assert len(far.told()) == 1

        assert await proxy.square(3) == 9
        await told("Rich.square", "unary", "ok")
        assert await proxy.count(500).collect() == list(range(500))
        await told("Rich.count", "stream", "ok")
        assert there.moved("Rich.count", "received") == 500
        assert here.moved("Rich.count", "received") == 500
        await proxy.note("hello")
        await until(lambda: bool(there.ended))
        await told("Rich.note", "notify", "ok")
        assert await proxy.total(wsrpc.stream_of(range(300))) == sum(range(300))
        await told("Rich.total", "unary", "ok")
        assert there.moved("Rich.total", "sent") == here.moved("Rich.total", "sent") == 300
        with error_of("not_found"):
            await proxy.fail()
        await told("Rich.fail", "unary", "not_found")
        with error_of("internal"):
            await proxy.broken()
        assert here.ended[0][1].error_id
        await told("Rich.broken", "unary", "internal")
        async with proxy.endless() as items:
            await anext(items)
        await until(lambda: bool(there.ended))
        await told("Rich.endless", "stream", "cancelled")
        with anyio.move_on_after(0.05):
            await proxy.wait()
        await until(lambda: bool(far.ended))
        await told("Rich.wait", "unary", "deadline_exceeded")
        with error_of("unimplemented"):
            await caller.cluster.session(session.id).clientize("Rich", metadata={"a": "b"}).none()
        await told("Rich.none", "unary", "unimplemented")
        assert here.states == 0


async def test_calls_of_callbacks_are_told_on_their_way_back() -> None:
    here, there, far = Ledger(), Ledger(), Ledger()
    async with net("local", 0) as nodes:
        caller = await nodes.add(observers=[here])
        middle = await nodes.add(observers=[there])
        session = await middle.connect(Rich(), observers=[far])
        await until(lambda: caller.cluster.presence.count() == 1)
        proxy = caller.cluster.session(session.id).clientize(Rich)

        async def question(n: int) -> int:
            return n

        assert await proxy.ask(question, 2) == 1
        await until(lambda: not (here.live or there.live or far.live))
        back = [("question", "callback", "ok", False)] * 2
        assert here.told() == [
            *(("inbound", *one) for one in back),
            ("outbound", "Rich.ask", "unary", "ok", False),
        ]
        assert all(call.relayed and call.session_id == session.id for call, _ in there.ended)
        assert there.told() == [
            *(("inbound", *one) for one in back),
            ("outbound", "Rich.ask", "unary", "ok", False),
        ]

        async def fails(n: int) -> int:
            raise wsrpc.RpcError("aborted", "enough")

        with error_of("aborted"):
            await proxy.ask(fails, 1)
        await until(lambda: not (here.live or there.live or far.live))
        for ledger in (here, there):
            assert ledger.told() == [
                ("inbound", "question", "callback", "aborted", False),
                ("outbound", "Rich.ask", "unary", "aborted", False),
            ]


async def test_a_call_to_a_session_that_is_gone_is_told_as_refused_where_it_is_missed() -> None:
    here, there = Ledger(), Ledger()
    async with net("local", 0) as nodes:
        caller = await nodes.add(observers=[here])
        middle = await nodes.add(observers=[there])
        gone = caller.cluster.session(f"{middle.cluster.id}-j00").clientize(Worker)
        with pytest.raises(SessionGone):
            await gone.square(3)
        (refused,) = there.refused
        assert refused[0].relayed
        assert refused[0].principal == f"node:{caller.cluster.id}"
        assert there.told() == [("inbound", "Worker.square", "unary", "unavailable", True)]
        assert here.told() == [("outbound", "Worker.square", "unary", "unavailable", True)]


async def test_a_call_to_a_session_whose_node_is_gone_is_told_where_it_is_made() -> None:
    ledger = Ledger()
    async with net("local", 0) as nodes:
        caller = await nodes.add(observers=[ledger])
        middle = await nodes.add()
        worker = Worker()
        session = await middle.connect(worker, reconnect=False)
        await until(lambda: caller.cluster.presence.count() == 1)
        proxy = caller.cluster.session(session.id).clientize(Worker, metadata={"a": "b"})
        assert await proxy.square(2) == 4
        assert ledger.told() == [("outbound", "Worker.square", "unary", "ok", False)]
        loose = caller.cluster.session(session.id).clientize("Worker")
        await nodes.remove(middle)
        with pytest.raises(SessionGone):
            await proxy.note("hello")
        with pytest.raises(SessionGone):
            await proxy.square(3)
        with pytest.raises(SessionGone):
            await proxy.count(3).collect()
        with pytest.raises(SessionGone):
            await loose.square(n=1)
        assert not ledger.live
        for call, end in ledger.ended:
            assert (call.session_id, call.session.id) == (session.id, session.id)
            assert call.peer == f"node:{middle.cluster.id}"
            assert end.duration == 0
        assert [dict(call.metadata) for call, _ in ledger.ended] == [{"a": "b"}] * 3 + [{}]
        assert ledger.told() == [
            ("outbound", "Worker.note", "notify", "unavailable", True),
            ("outbound", "Worker.square", "unary", "unavailable", True),
            ("outbound", "Worker.count", "stream", "unavailable", True),
            ("outbound", "Worker.square", "unary", "unavailable", True),
        ]


async def test_a_call_that_a_member_has_no_room_for_is_told() -> None:
    ledger = Ledger()
    limits = ClusterLimits(member_timeout=0.2)
    async with single_node(limits=limits, observers=[ledger]) as place:
        async with visited(place.server) as visit:
            hello = await visit().say_hello(limits={"max_calls": 1000})
            everyone = place.cluster.everyone()
            while not (await everyone.notify(Worker.note, "x" * 60_000)).failed:
                pass
            ledger.told()
            (reply,) = await everyone.call(Worker.square, 3)
            assert reply.error is not None
            ((call, _),) = ledger.ended
            assert call.session_id == hello[1]["session"]
            assert ledger.told() == [("outbound", "Worker.square", "unary", reply.error.code, True)]
            (ended,) = await everyone.stream(Worker.count, 3).collect()
            assert ended.error is not None
            assert ledger.told() == [("outbound", "Worker.count", "stream", ended.error.code, True)]
            assert not ledger.live


@pytest.mark.parametrize("lost", ["target", "caller", "middle"])
async def test_a_call_that_loses_an_end_has_one_ending_at_those_that_are_left(lost: str) -> None:
    here, there = Ledger(), Ledger()
    async with net("local", 0) as nodes:
        caller = await nodes.add(observers=[here])
        middle = await nodes.add(observers=[there])
        worker = Worker()
        session = await middle.connect(worker, reconnect=False)
        await until(lambda: caller.cluster.presence.count() == 1)
        proxy = caller.cluster.session(session.id).clientize(Worker)

        async def call() -> None:
            with error_of("unavailable"):
                await proxy.wait()

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await until(lambda: worker.live == 1)
            if lost == "target":
                await session.aclose()
            else:
                await nodes.remove(caller if lost == "caller" else middle)
        await until(lambda: not (here.live or there.live))
        (told,) = here.told()
        assert told == ("outbound", "Worker.wait", "unary", "unavailable", False)
        ((*named, code, _),) = there.told()
        assert named == ["outbound", "Worker.wait", "unary"]
        assert code in ({"unavailable"} if lost == "target" else {"unavailable", "cancelled"})


async def test_observers_that_come_after_the_nodes_know_each_other_are_told() -> None:
    late = Ledger()
    async with net("local", 0) as nodes:
        caller, middle = await nodes.add(), await nodes.add()
        session = await middle.connect(Worker())
        await until(lambda: caller.cluster.presence.count() == 1)
        proxy = caller.cluster.session(session.id).clientize(Worker)
        assert await proxy.square(2) == 4
        with caller.server.observe(late):
            assert await proxy.square(3) == 9
            assert late.told() == [("outbound", "Worker.square", "unary", "ok", False)]
        assert await proxy.square(3) == 9
        assert late.told() == []


async def test_a_call_within_a_node_is_no_relayed_one() -> None:
    ledger = Ledger()
    async with single_node(observers=[ledger]) as place:
        session = await place.connect(Worker())
        assert await place.cluster.session(session.id).clientize(Worker).square(3) == 9
        assert [call.relayed for call, _ in ledger.ended] == [False]
        assert ledger.told() == [("outbound", "Worker.square", "unary", "ok", False)]


async def test_one_trace_goes_on_at_sessions_of_other_nodes() -> None:
    traced = Traced()
    async with net("local", 0) as nodes:
        caller = await nodes.add(observers=[traced.observer])
        middle = await nodes.add(observers=[traced.observer])
        session = await middle.connect(Worker(), observers=[traced.observer])
        await until(lambda: caller.cluster.presence.count() == 1)
        with traced.tracer.start_as_current_span("job") as job:
            proxy = caller.cluster.session(session.id).clientize(Worker)
            assert await proxy.square(3) == 9
            assert await proxy.count(3).collect() == [0, 1, 2]
        await until(lambda: len(traced.spans) == 5)
        for name in ("Worker.square", "Worker.count"):
            made, run = traced.one(name, SpanKind.CLIENT), traced.one(name, SpanKind.SERVER)
            assert trace_of(made) == trace_of(run) == job.get_span_context().trace_id
            assert made.parent is not None
            assert run.parent is not None
            assert made.context is not None
            assert made.parent.span_id == job.get_span_context().span_id
            assert run.parent.span_id == made.context.span_id
    traced.provider.shutdown()
    traced.meters.shutdown()
