"""Traces and durations for OpenTelemetry:

    tracing = wsrpc.telemetry.otel.instrument()
    server = wsrpc.Server([Orders()], observers=[tracing.observer])
    async with wsrpc.connect(url, observers=[tracing.observer]) as session: ...

A call has a span at each end, which lasts as long as the call: for a stream until its last item,
and at the handling end until its cleanup is over. `traceparent`, `tracestate` and `baggage` travel
in the call's metadata, so that one trace goes through calls in both directions, calls made while
another is handled, callbacks, and streams that are opened again on a new connection.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar, Token
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias
from weakref import finalize

try:
    from opentelemetry import context as contexts
    from opentelemetry import metrics, propagate, trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode
except ImportError as error:
    raise ImportError(
        "traces need the package opentelemetry-api, and it cannot be imported "
        f"({error}). It comes with the extra of the distribution, wsrpc-anyio[otel]"
    ) from error

from ..context import outgoing_metadata
from ..errors import RpcError
from ..interfaces import (
    CallEnd,
    Interceptor,
    Next,
    ObservedCall,
    Observer,
    Request,
    Session,
    StateChange,
)
from ..stream import Stream
from ..version import __version__
from . import rpc_conventions as names

__all__ = ["Instrumentation", "instrument"]

# The context of a trace may take up one part in this number of the metadata that a call may have.
SHARE = 2

# Methods whose durations are told apart. A program may call methods by names that others make up.
MOST_METHODS = 1_000

Key: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Instrumentation:
    """The interceptor and the observer that make the spans of a server or a connection.

    Attributes:
        interceptor: Begins the spans of outbound calls, and sends the trace's context along. The
            observer puts it around the calls of every session that it is told of, outermost. Give
            it as `interceptors=[…]` only to have it at another place among them.
        observer: Begins the spans of inbound calls, ends all spans, and measures durations.
    """

    interceptor: Interceptor
    observer: Observer


def instrument(
    *,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
) -> Instrumentation:
    """Make the interceptor and the observer for `Server` or `connect`; one pair can serve many.

    Args:
        tracer_provider: The provider that gets the spans; the global one if left out.
        meter_provider: The provider that gets the durations; the global one if left out.
    """
    spans = _Spans(tracer_provider, meter_provider)
    return Instrumentation(_Interceptor(spans), _Observer(spans))


class _Spans:
    """The spans that have begun, and those that wait for their call to begin."""

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None,
        meter_provider: metrics.MeterProvider | None,
    ) -> None:
        self.tracer = trace.get_tracer("wsrpc", __version__, tracer_provider)
        meter = metrics.get_meter("wsrpc", __version__, meter_provider)
        self.durations = {
            direction: meter.create_histogram(
                name,
                unit=names.SECONDS,
                description=text,
                explicit_bucket_boundaries_advisory=names.BUCKETS,
            )
            for direction, name, text in (
                ("inbound", names.SERVER_DURATION, "Duration of calls handled."),
                ("outbound", names.CLIENT_DURATION, "Duration of calls made."),
            )
        }
        # The methods of which durations are told apart.
        self._measured: set[str] = set()
        # The spans by the part of the trace's context that travels with the call.
        self.waiting: dict[Key, Span] = {}

    def measure(self, call: ObservedCall, end: CallEnd, span: Span) -> None:
        """Record the duration of a call; those of methods beyond the first thousand share a name."""
        attributes = names.at_the_end(call, end)
        if call.known and call.name not in self._measured:
            if len(self._measured) < MOST_METHODS:
                self._measured.add(call.name)
            else:
                attributes[names.METHOD] = names.UNKNOWN_METHOD
        context = trace.set_span_in_context(span)
        self.durations[call.direction].record(end.duration, attributes, context)

    def key_of(self, metadata: Any) -> Key:
        """The key by which a call's span is found when the call begins."""
        fields = propagate.get_global_textmap().fields
        return tuple((name, metadata[name]) for name in sorted(fields) if name in metadata)

    def unused(self, key: Key, status: Status | None = None) -> None:
        """End a span if its call did not begin."""
        span = self.waiting.pop(key, None)
        if span is not None:
            if status is not None:
                span.set_status(status)
            span.end()


class _Interceptor:
    """Runs around outbound calls; see `Instrumentation`."""

    def __init__(self, spans: _Spans) -> None:
        self._spans = spans

    async def __call__(self, request: Request, call_next: Next, /) -> Any:
        if request.direction == "inbound":
            # The observer has begun its span.
            return await call_next(request)
        spans = self._spans
        name = f"{request.controller}.{request.method}"
        # A sampler decides by the attributes that are known here.
        known: names.Attributes = {names.SYSTEM: names.WSRPC, names.METHOD: name}
        known.update(names.of_server(request.session.handshake.remote))
        span = spans.tracer.start_span(name, kind=SpanKind.CLIENT, attributes=known)
        if not span.get_span_context().is_valid:
            return await call_next(request)
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(span))
        _fit(carrier, request.session)
        request = replace(request, metadata={**request.metadata, **carrier})
        key = spans.key_of(request.metadata)
        spans.waiting[key] = span
        try:
            outcome = await call_next(request)
        except BaseException as error:
            code = str(error.code) if isinstance(error, RpcError) else type(error).__name__
            spans.unused(key, Status(StatusCode.ERROR, code))
            raise
        if isinstance(outcome, Stream):
            # The call begins when the application asks for an item, which may never happen.
            finalize(outcome, spans.unused, key).atexit = False
        else:
            spans.unused(key)
        return outcome


def _fit(carrier: dict[str, str], session: Session) -> None:
    """Leave out entries so large that the call might be refused because of them."""
    most = session.limits.max_metadata // SHARE
    for name in ("baggage", "tracestate"):
        if sum(len(key) + len(value.encode()) for key, value in carrier.items()) > most:
            carrier.pop(name, None)


# The id of the call whose span is in the present context.
_active: ContextVar[int] = ContextVar("wsrpc_otel_call", default=0)


class _Begun(NamedTuple):
    """A span under way, and the tokens to restore its context."""

    call: ObservedCall
    span: Span
    context: Token[Context] | None = None
    metadata: Any = None


class _Observer(Observer):
    """Hears of calls and sessions; see `Instrumentation`."""

    def __init__(self, spans: _Spans) -> None:
        self._spans = spans
        self.interceptor = self._interceptor = _Interceptor(spans)
        self._begun: dict[int, _Begun] = {}

    def session_state(self, session: Session, change: StateChange) -> None:
        if change.state == "connected" and not any(
            isinstance(one, _Interceptor) for one in session.interceptors
        ):
            session.interceptors = (self._interceptor, *session.interceptors)

    def call_started(self, call: ObservedCall) -> None:
        if call.relayed:
            # The spans are those of the nodes between which it passes.
            return
        inbound = call.direction == "inbound"
        self._begun[id(call)] = self._handled(call) if inbound else self._made(call)

    def _handled(self, call: ObservedCall) -> _Begun:
        """Begin the span of a call of the peer, in the context of its handler's task."""
        span = self._server_span(call)
        _active.set(id(call))
        return _Begun(call, span, contexts.attach(_with(span, call)))

    def _server_span(self, call: ObservedCall) -> Span:
        return self._spans.tracer.start_span(
            names.span_name(call),
            context=_remote(call),
            kind=SpanKind.SERVER,
            attributes=names.at_the_start(call),
        )

    def _made(self, call: ObservedCall) -> _Begun:
        spans = self._spans
        span = spans.waiting.pop(spans.key_of(call.metadata), None)
        if span is not None:
            span.set_attributes(names.at_the_start(call))
            return _Begun(call, span)
        span = spans.tracer.start_span(
            names.span_name(call), kind=SpanKind.CLIENT, attributes=names.at_the_start(call)
        )
        if call.kind != "callback":
            return _Begun(call, span)
        # No interceptor runs around it: the trace's context comes from the task that makes the
        # call.
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(span))
        _fit(carrier, call.session)
        before = outgoing_metadata.set({**outgoing_metadata.get(), **carrier})
        return _Begun(call, span, metadata=before)

    def call_ended(self, call: ObservedCall, end: CallEnd) -> None:
        begun = self._begun.pop(id(call), None)
        if begun is None:
            return
        self._end(begun.span, call, end)
        if begun.context is not None and _active.get() == id(call):
            contexts.detach(begun.context)
            _active.set(0)
        if begun.metadata is not None:
            # If another task ends the call, its context does not hold the token.
            with suppress(ValueError):
                outgoing_metadata.reset(begun.metadata)

    def call_refused(self, call: ObservedCall, end: CallEnd) -> None:
        if not call.relayed:
            self._end(self._server_span(call), call, end)

    def _end(self, span: Span, call: ObservedCall, end: CallEnd) -> None:
        span.set_attributes(names.at_the_end(call, end))
        if end.error_id is not None:
            span.set_attribute(names.ERROR_ID, end.error_id)
        if names.failed(call, end):
            span.set_status(Status(StatusCode.ERROR))
        span.end()
        self._spans.measure(call, end, span)


def _remote(call: ObservedCall) -> Context:
    """The context that came with a call of the peer."""
    # A callback runs in the context of the code that passed it. Any other call begins anew: a span
    # that was open when the server started is not its parent.
    base = contexts.get_current() if call.kind == "callback" else Context()
    return propagate.extract(call.metadata, base)


def _with(span: Span, call: ObservedCall) -> Context:
    return trace.set_span_in_context(span, _remote(call))
