"""Metrics for Prometheus, under the names that go-grpc-prometheus has made common.

`Server(metrics=True)` is all that a server needs; it then answers `GET /metrics`. For a connection:

    async with wsrpc.connect(url, observers=[client_metrics()]) as session:

The end that handles a call counts it under `wsrpc_server_…`, and the end that makes it under
`wsrpc_client_…`, on either side of the connection. Connections and sessions count under the end's
own name. All labels are bounded: unknown methods share "?", and so do methods beyond the first
thousand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Literal, TypeAlias
from weakref import WeakKeyDictionary, WeakMethod

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        "metrics need the package prometheus-client, and it cannot be imported "
        f"({error}). It comes with the extra of the distribution, wsrpc-anyio[prometheus]"
    ) from error

from ..close_codes import CloseCode
from ..errors import CODES
from ..interfaces import CallEnd, Handshake, ObservedCall, Observer, Session, StateChange
from ..protocol.rates import Bucket
from .snapshot import Snapshot

__all__ = ["BUCKETS", "REGISTRY", "Exposition", "Metrics", "client_metrics", "server_metrics"]

# Seconds.
BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)

# Methods with counts of their own, of each kind and direction.
MOST_METHODS = 1_000

# Scrapes for each second that are computed anew; others get the last text.
FRESH_SCRAPES = 5

UNKNOWN_METHOD = ("?", "?", "?")
OTHER = "other"

Side: TypeAlias = Literal["server", "client"]

Labels: TypeAlias = tuple[str, str, str]

METHOD = ("controller", "method", "kind")


class _Method:
    """The counts of one method, looked up once."""

    __slots__ = ("_handled", "_labels", "handling", "paused", "received", "sent", "started")

    def __init__(self, family: _Calls, labels: Labels) -> None:
        self._labels = labels
        self._handled: dict[str, Counter] = {}
        self.started = family.started.labels(*labels)
        self.handling = family.handling.labels(*labels)
        self.received = family.received.labels(*labels)
        self.sent = family.sent.labels(*labels)
        self.paused = family.paused.labels(*labels)

    def handled(self, family: _Calls, code: str) -> Counter:
        found = self._handled.get(code)
        if found is None:
            found = self._handled[code] = family.handled.labels(*self._labels, code)
        return found


class _Calls:
    """The metrics of calls in one direction.

    Args:
        prefix: "wsrpc_server", or "wsrpc_client".
        registry: The registry of the metrics.
    """

    def __init__(self, prefix: str, registry: CollectorRegistry) -> None:
        done = "handled" if prefix.endswith("server") else "made"

        def counter(name: str, text: str, labels: Iterable[str] = METHOD) -> Counter:
            return Counter(f"{prefix}_{name}", text, labels, registry=registry)

        self.started = counter("started", f"Calls that were begun to be {done}.")
        self.handled = counter("handled", f"Calls {done} to their end, by code.", (*METHOD, "code"))
        self.received = counter("msg_received", "Messages received: arguments, results, items.")
        self.sent = counter("msg_sent", "Messages sent: arguments, results, items.")
        self.paused = counter("paused_seconds", "Seconds in which streams waited for credit.")
        self.handling = Histogram(
            f"{prefix}_handling_seconds",
            f"Seconds that calls took that were {done}.",
            METHOD,
            buckets=BUCKETS,
            registry=registry,
        )
        self.in_flight = Gauge(
            f"{prefix}_calls_in_flight",
            f"Calls that are being {done}.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._known: dict[Labels, _Method] = {}

    def of(self, call: ObservedCall) -> _Method:
        """The counts of a call's method."""
        labels: Labels = UNKNOWN_METHOD
        if call.known:
            labels = (call.controller, call.method, call.kind)
        found = self._known.get(labels)
        if found is None:
            if len(self._known) >= MOST_METHODS:
                labels = UNKNOWN_METHOD
            found = self._known.get(labels) or _Method(self, labels)
            self._known[labels] = found
        return found


class _Ends:
    """The metrics of connections and sessions of one end."""

    def __init__(self, prefix: str, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, labels: Iterable[str] = ()) -> Counter:
            return Counter(f"{prefix}_{name}", text, labels, registry=registry)

        self.received = counter("received_bytes", "Bytes of WebSocket messages that came in.")
        self.sent = counter("sent_bytes", "Bytes of WebSocket messages that went out.")
        self.opened = counter("connections_opened", "Connections opened.")
        self.closed = counter("connections_closed", "Connections closed, by close code.", ["code"])
        self.backpressure = counter(
            "backpressure_seconds", "Seconds in which peers took none of the bytes for them."
        )
        self.resumes = counter(
            "resumes",
            "Sessions that lost their connection, by outcome: resumed, refused or lost.",
            ["outcome"],
        )
        self.strangers = counter(
            "refused_strangers", "Connections that were not let in, by reason.", ["reason"]
        )
        self.drains = counter("drains", "Drains begun.")
        self.retries = counter(
            "retries", "Calls made again, by the code with which they had failed.", ["code"]
        )


class _Held(Collector):
    """The holdings of servers at the moment of a scrape."""

    GAUGES = (
        ("sessions", "Sessions, including those without a connection."),
        ("detached_sessions", "Sessions without a connection."),
        ("connections", "Connections, including those that have not said hello."),
        ("unauthenticated_connections", "Connections that have not been let in yet."),
        ("open_streams", "Handlers that stream."),
        ("paused_streams", "Streams that wait for credit or for room."),
        ("held_bytes", "Bytes held for peers, of every kind."),
        ("outbox_bytes", "Bytes of values that wait to be written."),
        ("replay_bytes", "Bytes kept until peers have them, in case connections break."),
    )

    def __init__(self) -> None:
        self.sources: list[WeakMethod[Callable[[], Snapshot]]] = []

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return [self._gauge(name, text, 0) for name, text in self.GAUGES]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        found: list[Snapshot] = []
        for reference in list(self.sources):
            source = reference()
            if source is None:
                self.sources.remove(reference)
            else:
                found.append(source())
        if not found:
            return []
        values = (
            sum(one.sessions for one in found),
            sum(one.detached for one in found),
            sum(one.links for one in found),
            sum(one.unauthenticated for one in found),
            sum(one.generators_open for one in found),
            sum(one.paused_streams for one in found),
            sum(one.held_bytes for one in found),
            sum(one.outbox_bytes for one in found),
            sum(one.replay_bytes for one in found),
        )
        return [
            self._gauge(name, text, value)
            for (name, text), value in zip(self.GAUGES, values, strict=True)
        ]

    @staticmethod
    def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"wsrpc_server_{name}", text, value=value)


class _Families:
    """All metrics of one registry, which every server and connection of the process shares."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.handled = _Calls("wsrpc_server", registry)
        self.made = _Calls("wsrpc_client", registry)
        self.ends: dict[Side, _Ends] = {
            "server": _Ends("wsrpc_server", registry),
            "client": _Ends("wsrpc_client", registry),
        }
        self.held = _Held()
        registry.register(self.held)


_of_registry: WeakKeyDictionary[CollectorRegistry, _Families] = WeakKeyDictionary()


class Metrics(Observer):
    """Counts the events of one end, for Prometheus.

    Args:
        registry: The registry of the metrics; all `Metrics` of one registry share them.
        side: The end of the connections: "server" for `Server`, "client" for `connect`.
    """

    def __init__(self, registry: CollectorRegistry, side: Side) -> None:
        families = _of_registry.get(registry)
        if families is None:
            families = _of_registry[registry] = _Families(registry)
        self._held = families.held
        self._handled = families.handled
        self._made = families.made
        self._ends = families.ends[side]
        # The last state of each session, for the outcome of a lost connection.
        self._states: WeakKeyDictionary[Session, str] = WeakKeyDictionary()

    def watch(self, snapshot: Callable[[], Snapshot]) -> None:
        """Read a server's holdings at each scrape, for as long as the server exists.

        Args:
            snapshot: The server's method `snapshot`.
        """
        self._held.sources.append(WeakMethod(snapshot))

    # ------------------------------------------------------------ calls

    def call_started(self, call: ObservedCall) -> None:
        calls = self._calls_of(call)
        counts = calls.of(call)
        counts.started.inc()
        calls.in_flight.inc()
        (counts.received if call.direction == "inbound" else counts.sent).inc()

    def call_ended(self, call: ObservedCall, end: CallEnd) -> None:
        calls = self._calls_of(call)
        counts = calls.of(call)
        calls.in_flight.dec()
        counts.handled(calls, _code(end.code)).inc()
        counts.handling.observe(end.duration)
        if end.code == "ok" and call.kind in ("unary", "callback"):
            (counts.sent if call.direction == "inbound" else counts.received).inc()

    def call_refused(self, call: ObservedCall, end: CallEnd) -> None:
        calls = self._calls_of(call)
        counts = calls.of(call)
        counts.started.inc()
        counts.handled(calls, _code(end.code)).inc()

    def items(self, call: ObservedCall, direction: Literal["sent", "received"], count: int) -> None:
        counts = self._calls_of(call).of(call)
        (counts.sent if direction == "sent" else counts.received).inc(count)

    def paused(self, call: ObservedCall, seconds: float) -> None:
        self._calls_of(call).of(call).paused.inc(seconds)

    def retry(self, call: ObservedCall, attempt: int, code: str) -> None:
        self._ends.retries.labels(_code(code)).inc()

    def _calls_of(self, call: ObservedCall) -> _Calls:
        return self._handled if call.direction == "inbound" else self._made

    # ------------------------------------------------------------ connections and sessions

    def bytes(self, session: Session, direction: Literal["sent", "received"], count: int) -> None:
        (self._ends.sent if direction == "sent" else self._ends.received).inc(count)

    def session_state(self, session: Session, change: StateChange) -> None:
        before, now = self._states.get(session), change.state
        if before == "detached" and now != "detached":
            outcome = "resumed" if now == "connected" else "lost"
            self._ends.resumes.labels(outcome).inc()
        if now == "closed":
            self._states.pop(session, None)
        else:
            self._states[session] = now

    def link_opened(self, handshake: Handshake) -> None:
        self._ends.opened.inc()

    def link_closed(self, handshake: Handshake, code: int, reason: str) -> None:
        self._ends.closed.labels(_close_code(code)).inc()
        if code == CloseCode.CANNOT_RESUME:
            self._ends.resumes.labels("refused").inc()

    def stranger_refused(self, reason: str) -> None:
        self._ends.strangers.labels(reason).inc()

    def drain(self, state: Literal["begun", "ended"], sessions: int) -> None:
        if state == "begun":
            self._ends.drains.inc()

    def backpressure(self, session: Session, seconds: float) -> None:
        self._ends.backpressure.inc(seconds)


def server_metrics(registry: CollectorRegistry = REGISTRY) -> Metrics:
    """An observer for `Server(observers=[…])`, where `Server(metrics=…)` does not suffice.

    Args:
        registry: The registry of the metrics.
    """
    return Metrics(registry, "server")


def client_metrics(registry: CollectorRegistry = REGISTRY) -> Metrics:
    """An observer for `connect(observers=[…])`.

    Args:
        registry: The registry of the metrics.
    """
    return Metrics(registry, "client")


class Exposition:
    """The text of all metrics of a registry, for `GET /metrics`.

    At most five scrapes a second are computed; the others get the last text, so that a flood of
    requests costs little.

    Args:
        registry: The registry.
        now: Gives the time in seconds.
    """

    def __init__(self, registry: CollectorRegistry, now: Callable[[], float] = monotonic) -> None:
        self._registry = registry
        self._now = now
        self._fresh = Bucket(FRESH_SCRAPES, FRESH_SCRAPES)
        self._last: dict[str, bytes] = {}

    def render(self, accept: str) -> tuple[str, bytes]:
        """The content type and the text.

        Args:
            accept: The request's header `Accept`.
        """
        encode: Callable[[Any], bytes]
        encode, kind = choose_encoder(accept)
        body = self._last.get(kind)
        if self._fresh.take(self._now()) or body is None:
            if len(self._last) >= FRESH_SCRAPES:
                self._last.clear()
            body = self._last[kind] = encode(self._registry)
        return kind, body


def _code(code: str) -> str:
    return code if code == "ok" or code in CODES else "unknown"


def _close_code(code: int) -> str:
    return str(int(code)) if code in _CLOSE_CODES else OTHER


_CLOSE_CODES = frozenset(int(code) for code in CloseCode)
