"""Traces: one span at each end of a call, for as long as it lasts, in one trace both ways."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as contexts
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
)

import wsrpc
from tests.proxy import resetting_proxy
from tests.support import error_of, served, soon, until
from wsrpc.telemetry.otel import instrument
from wsrpc.telemetry.rpc_conventions import BUCKETS

from .test_observers import Work, answer, authorize, use_all


class Traced:
    """The real SDK, with exporters in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.tracer = self.provider.get_tracer("test")
        self.instrumentation = instrument(tracer_provider=self.provider, meter_provider=self.meters)
        self.observer = self.instrumentation.observer

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    def of(self, name: str, kind: SpanKind) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name and span.kind is kind]

    def one(self, name: str, kind: SpanKind) -> ReadableSpan:
        (span,) = self.of(name, kind)
        return span

    def durations(self, name: str) -> list[Any]:
        data: Any = self.reader.get_metrics_data()
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name and metric.unit == "s"
            for point in metric.data.data_points
        ]


@pytest.fixture
def traced() -> Iterator[Traced]:
    traced = Traced()
    yield traced
    traced.provider.shutdown()
    traced.meters.shutdown()


def ids(span: ReadableSpan) -> trace.SpanContext:
    found = span.get_span_context()
    assert found is not None
    return found


def trace_of(span: ReadableSpan) -> int:
    return ids(span).trace_id


def is_child(child: ReadableSpan, parent: ReadableSpan) -> bool:
    return child.parent is not None and child.parent.span_id == ids(parent).span_id


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_call_has_a_client_span_and_a_server_span_in_one_trace(traced: Traced) -> None:
    async with served([Work()], observers=[traced.observer]) as listener:
        async with wsrpc.connect(
            listener.url, observers=[traced.observer], reconnect=False
        ) as session:
            with traced.tracer.start_as_current_span("root"):
                assert await session.clientize(Work).add(1, 2) == 3
            await until(lambda: len(traced.spans) == 3)
            session_id = session.id
    client = traced.one("Work.add", SpanKind.CLIENT)
    server = traced.one("Work.add", SpanKind.SERVER)
    assert is_child(client, traced.one("root", SpanKind.INTERNAL))
    assert is_child(server, client)
    for span in (client, server):
        found = attributes(span)
        assert found["rpc.system.name"] == "wsrpc"
        assert found["rpc.method"] == "Work.add"
        assert found["rpc.response.status_code"] == "ok"
        assert found["wsrpc.session.id"] == session_id
        assert "error.type" not in found
        assert span.status.status_code is StatusCode.UNSET
    for name in ("server.address", "network.peer.address"):
        assert attributes(client)[name] == "127.0.0.1"
    for name in ("server.port", "network.peer.port"):
        assert attributes(client)[name] == int(listener.url.rpartition(":")[2])
    assert attributes(server)["client.address"] == "127.0.0.1"
    assert attributes(server)["network.peer.address"] == "127.0.0.1"
    assert attributes(server)["network.peer.port"] > 0


async def test_the_span_of_a_call_names_the_server_to_which_it_goes(
    traced: Traced, tmp_path: Path
) -> None:
    socket = str(tmp_path / "s.sock")
    listens: list[dict[str, Any]] = [{}, {"path": socket}]
    for listen in listens:
        async with served([Work()], listen=listen) as listener:
            url = listener.url.replace("127.0.0.1", "localhost")
            async with wsrpc.connect(url, observers=[traced.observer], reconnect=False) as session:
                assert await session.clientize(Work).add(1, 2) == 3
    by_name, by_path = (attributes(span) for span in traced.spans if span.kind is SpanKind.CLIENT)
    assert by_name["server.address"] == "localhost"
    assert by_name["server.port"] > 0
    assert "network.peer.address" not in by_name
    assert by_path["server.address"] == by_path["network.peer.address"] == socket
    assert "server.port" not in by_path


async def test_durations_of_methods_beyond_a_thousand_share_one_name(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program may pass on names that it got from others."""
    monkeypatch.setattr("wsrpc.telemetry.otel.MOST_METHODS", 3)
    async with served([Work()]) as listener:
        async with wsrpc.connect(
            listener.url, observers=[traced.observer], reconnect=False
        ) as session:
            assert await session.clientize(Work).add(1, 2) == 3
            for i in range(5):
                with error_of("unimplemented"):
                    await session.clientize(f"Made{i}").up()
            assert await session.clientize(Work).add(1, 2) == 3
    measured = traced.durations("rpc.client.call.duration")
    assert {point.attributes["rpc.method"]: point.count for point in measured} == {
        "Work.add": 2,
        "Made0.up": 1,
        "Made1.up": 1,
        "_OTHER": 3,
    }
    assert len({span.name for span in traced.spans}) == 6


async def test_every_kind_of_end_is_told_by_the_current_rpc_conventions(traced: Traced) -> None:
    async with served([Work()], authorize=authorize, observers=[traced.observer]) as listener:
        async with wsrpc.connect(
            listener.url, observers=[traced.observer], reconnect=False
        ) as session:
            await use_all(session)
            await until(lambda: len(traced.spans) == 26)
    ends = {
        (span.name, attributes(span)["rpc.response.status_code"]): span
        for span in traced.spans
        if span.kind is SpanKind.SERVER
    }
    fault = ends["Work.broken", "internal"]
    assert fault.status.status_code is StatusCode.ERROR
    assert attributes(fault)["error.type"] == "internal"
    assert attributes(fault)["wsrpc.error_id"]
    # What is the caller's own doing is no failure of the server's.
    for name, code in (("Work.secret", "permission_denied"), ("Work.add", "invalid_argument")):
        assert ends[name, code].status.status_code is StatusCode.UNSET
        assert "error.type" not in attributes(ends[name, code])
    unknown = ends["wsrpc", "unimplemented"]
    assert attributes(unknown)["rpc.method"] == "_OTHER"
    assert attributes(unknown)["rpc.method_original"] == "Work.nothing"
    for span in traced.spans:
        if span.kind is SpanKind.CLIENT:
            code = attributes(span)["rpc.response.status_code"]
            failed = span.status.status_code is StatusCode.ERROR
            assert failed == (code != "ok")
            assert attributes(span).get("error.type") == (code if failed else None)
    # Each at one end has its other at the other end.
    clients = {ids(span).span_id for span in traced.spans if span.kind is SpanKind.CLIENT}
    servers = [span for span in traced.spans if span.kind is SpanKind.SERVER]
    assert len(clients) == len(servers) == 13
    assert {span.parent.span_id for span in servers if span.parent} == clients


async def test_durations_are_in_seconds_with_the_buckets_of_the_conventions(
    traced: Traced,
) -> None:
    async with served([Work()], observers=[traced.observer]) as listener:
        async with wsrpc.connect(
            listener.url, observers=[traced.observer], reconnect=False
        ) as session:
            work = session.clientize(Work)
            for _ in range(3):
                assert await work.add(1, 2) == 3
            with error_of("internal"):
                await work.broken()
            await until(lambda: len(traced.spans) == 8)
    for name in ("rpc.client.call.duration", "rpc.server.call.duration"):
        points = {
            (point.attributes["rpc.method"], point.attributes["rpc.response.status_code"]): point
            for point in traced.durations(name)
        }
        assert points["Work.add", "ok"].count == 3
        assert tuple(points["Work.add", "ok"].explicit_bounds) == BUCKETS
        assert points["Work.add", "ok"].attributes["rpc.system.name"] == "wsrpc"
        assert points["Work.broken", "internal"].attributes["error.type"] == "internal"
        assert set(points["Work.add", "ok"].attributes) == {
            "rpc.system.name",
            "rpc.method",
            "rpc.response.status_code",
        }


class Held:
    def __init__(self) -> None:
        self.go = anyio.Event()

    @wsrpc.method
    async def tick(self) -> AsyncIterator[int]:
        yield 1
        await self.go.wait()
        yield 2


async def test_spans_last_as_long_as_the_stream(traced: Traced) -> None:
    held = Held()
    async with served([held], observers=[traced.observer]) as listener:
        async with wsrpc.connect(
            listener.url, observers=[traced.observer], reconnect=False
        ) as session:
            stream = session.clientize(Held).tick()
            assert traced.spans == ()
            assert await anext(stream) == 1
            assert traced.spans == ()
            held.go.set()
            assert [item async for item in stream] == [2]
            await until(lambda: len(traced.spans) == 2)
            with traced.tracer.start_as_current_span("root"):
                async with session.clientize(Held).tick() as second:
                    assert await anext(second) == 1
            await until(lambda: len(traced.spans) == 5)
    first, again = traced.of("Held.tick", SpanKind.CLIENT)
    assert attributes(first)["rpc.response.status_code"] == "ok"
    assert attributes(again)["rpc.response.status_code"] == "cancelled"
    assert is_child(again, traced.one("root", SpanKind.INTERNAL))


async def test_a_stream_that_is_never_asked_for_an_item_leaves_no_span_open(
    traced: Traced,
) -> None:
    async with served([Held()], observers=[traced.observer]) as listener:
        async with wsrpc.connect(
            listener.url, observers=[traced.observer], reconnect=False
        ) as session:
            made: list[Any] = []

            async def dropping(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
                made.append(await call_next(request))

                async def nothing() -> AsyncIterator[int]:
                    return
                    yield

                return nothing()

            session.interceptors = (traced.instrumentation.interceptor, dropping)
            stream = session.clientize(Held).tick()
            assert [item async for item in stream] == []
            made.clear()
            del stream
            gc.collect()
    assert traced.of("Held.tick", SpanKind.SERVER) == []
    assert len(traced.of("Held.tick", SpanKind.CLIENT)) == 1


class Screen:
    @wsrpc.method
    async def show(self, text: str) -> str:
        return baggage_of("user") + text


class Desk:
    @wsrpc.method
    async def print(self, text: str) -> str:
        screen = wsrpc.current().session.clientize(Screen)
        return await screen.show(text)

    @wsrpc.method
    async def lines(self, n: int) -> AsyncIterator[str]:
        screen = wsrpc.current().session.clientize(Screen)
        for number in range(n):
            yield await screen.show(str(number))

    @wsrpc.method
    def plain(self) -> str:
        return format(trace.get_current_span().get_span_context().trace_id, "x")

    @wsrpc.method
    async def tell(self, f: Callable[[str], Awaitable[str]]) -> str:
        return await f("x")


def baggage_of(name: str) -> str:
    return str(baggage.get_baggage(name) or "")


async def test_one_trace_goes_through_calls_in_both_directions(traced: Traced) -> None:
    async with served([Desk()], observers=[traced.observer]) as listener:
        async with wsrpc.connect(
            listener.url, controllers=[Screen()], observers=[traced.observer], reconnect=False
        ) as session:
            desk = session.clientize(Desk)
            token = contexts.attach(baggage.set_baggage("user", "ann"))
            try:
                with traced.tracer.start_as_current_span("root") as root:
                    assert await desk.print("!") == "ann!"
                    assert await desk.lines(2).collect() == ["ann0", "ann1"]
                    assert await desk.plain() == format(root.get_span_context().trace_id, "x")
                    assert await desk.tell(answer) == "X"
            finally:
                contexts.detach(token)
            await until(lambda: len(traced.spans) == 1 + 4 + 6 + 2 + 4)
    assert len({trace_of(span) for span in traced.spans}) == 1
    outer = traced.one("Desk.print", SpanKind.SERVER)
    inner, *_ = traced.of("Screen.show", SpanKind.CLIENT)
    assert is_child(inner, outer)
    assert is_child(traced.of("Screen.show", SpanKind.SERVER)[0], inner)
    lines = traced.one("Desk.lines", SpanKind.SERVER)
    assert all(is_child(span, lines) for span in traced.of("Screen.show", SpanKind.CLIENT)[1:])
    asked = traced.one("f", SpanKind.CLIENT)
    assert is_child(asked, traced.one("Desk.tell", SpanKind.SERVER))
    assert is_child(traced.one("f", SpanKind.SERVER), asked)


class Deep:
    """Calls the other side until nothing is left, and tells what travelled with each call."""

    seen: list[dict[str, str]] = []

    @wsrpc.method
    async def down(self, levels: int) -> int:
        self.seen.append(dict(wsrpc.current().metadata))
        if not levels:
            return 0
        other = wsrpc.current().session.clientize(Deep)
        if levels % 2:
            return 1 + await other.down(levels - 1)
        return 1 + (await other.stream(levels - 1).collect())[-1]

    @wsrpc.method
    async def stream(self, levels: int) -> AsyncIterator[int]:
        yield await self.down(levels)


async def test_one_trace_goes_down_through_nested_calls_with_its_state_and_baggage(
    traced: Traced,
) -> None:
    Deep.seen.clear()
    state = TraceState([("vendor", "opaque")])
    parent = SpanContext(0x1234, 0x5678, True, TraceFlags(TraceFlags.SAMPLED), state)
    async with served([Deep()], observers=[traced.observer]) as listener:
        async with wsrpc.connect(
            listener.url, controllers=[Deep()], observers=[traced.observer], reconnect=False
        ) as session:
            context = trace.set_span_in_context(NonRecordingSpan(parent))
            token = contexts.attach(baggage.set_baggage("user", "ann", context))
            try:
                assert await session.clientize(Deep).down(5) == 5
            finally:
                contexts.detach(token)
            await until(lambda: len(traced.spans) == 12)
    assert {trace_of(span) for span in traced.spans} == {0x1234}
    assert len(Deep.seen) == 6
    for metadata in Deep.seen:
        assert metadata["traceparent"].startswith(f"00-{0x1234:032x}-")
        assert metadata["tracestate"] == "vendor=opaque"
        assert metadata["baggage"] == "user=ann"
    # Each is the child of the one above it: a chain without a fork.
    parents = [span.parent.span_id for span in traced.spans if span.parent is not None]
    assert len(set(parents)) == 12
    assert set(parents) - {ids(span).span_id for span in traced.spans} == {0x5678}


async def test_a_call_without_a_trace_begins_one_of_its_own(traced: Traced) -> None:
    with traced.tracer.start_as_current_span("the server was started in this"):
        async with served([Work()], observers=[traced.observer]) as listener:
            async with wsrpc.connect(listener.url, reconnect=False) as session:
                work = session.clientize(Work)
                assert await work.add(1, 2) == 3
                assert await work.add(1, 2) == 3
                await until(lambda: len(traced.spans) == 2)
    first, second = traced.of("Work.add", SpanKind.SERVER)
    assert first.parent is None
    assert second.parent is None
    assert trace_of(first) != trace_of(second)


class Log:
    def __init__(self) -> None:
        self.cut: Callable[[], None] = lambda: None

    @wsrpc.method
    async def read(self) -> AsyncIterator[wsrpc.Tracked[int]]:
        begin = int(wsrpc.current().last_id or 0)
        for number in range(begin + 1, begin + 3):
            yield wsrpc.Tracked(str(number), number)
        if not begin:
            raise wsrpc.RpcError("unavailable", "not now")

    @wsrpc.method
    async def add(self, a: int, b: int) -> int:
        return a + b


async def test_one_trace_goes_on_across_reconnects(traced: Traced) -> None:
    async with served([Log()], observers=[traced.observer]) as listener:
        async with resetting_proxy(listener.url) as proxy:
            async with wsrpc.connect(proxy.url, observers=[traced.observer]) as session:
                log = session.clientize(Log)
                with soon(), traced.tracer.start_as_current_span("root"):
                    assert [one.value for one in await log.read().collect()] == [1, 2, 3, 4]
                    proxy.reset()
                    assert await log.add(1, 2) == 3
                await until(lambda: len(traced.spans) == 6)
    assert len({trace_of(span) for span in traced.spans}) == 1
    client = traced.one("Log.read", SpanKind.CLIENT)
    attempts = traced.of("Log.read", SpanKind.SERVER)
    assert len(attempts) == 2
    assert all(is_child(one, client) for one in attempts)


async def test_baggage_that_is_too_large_does_not_fail_the_call(traced: Traced) -> None:
    limits = wsrpc.Limits(max_metadata=256)
    async with served([Work()], observers=[traced.observer]) as listener:
        async with wsrpc.connect(
            listener.url, observers=[traced.observer], reconnect=False, limits=limits
        ) as session:
            token = contexts.attach(baggage.set_baggage("user", "x" * 300))
            try:
                assert await session.clientize(Work).add(1, 2) == 3
            finally:
                contexts.detach(token)
            await until(lambda: len(traced.spans) == 2)
    server = traced.one("Work.add", SpanKind.SERVER)
    assert is_child(server, traced.one("Work.add", SpanKind.CLIENT))


async def test_without_a_provider_calls_work_and_nothing_travels() -> None:
    tracing = instrument()
    seen: list[dict[str, str]] = []

    class Seeing(wsrpc.Observer):
        def call_started(self, call: wsrpc.ObservedCall) -> None:
            seen.append(dict(call.metadata))

    async with served([Work()], observers=[tracing.observer, Seeing()]) as listener:
        async with wsrpc.connect(
            listener.url, observers=[tracing.observer], reconnect=False
        ) as session:
            work = session.clientize(Work)
            assert await work.add(1, 2) == 3
            assert await work.count(3).collect() == [0, 1, 2]
    assert seen == [{}, {}]


async def test_a_call_that_never_leaves_has_a_span_that_ends(traced: Traced) -> None:
    async with served([Work()]) as listener:
        async with wsrpc.connect(
            listener.url, observers=[traced.observer], reconnect=False
        ) as session:
            wrong: Any = "x"
            with error_of("invalid_argument"):
                await session.clientize(Work).add(wrong, 2)
    span = traced.one("Work.add", SpanKind.CLIENT)
    assert span.status.status_code is StatusCode.ERROR
