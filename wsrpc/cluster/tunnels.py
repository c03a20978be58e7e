"""The sessions with other nodes, and the way to a session of another node over them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

import anyio

from ..calling.route import Route
from ..close_codes import CloseCode
from ..engine.hub import Hub
from ..engine.ledger import Ledger
from ..errors import ConnectError
from ..interfaces import Handshake, Interceptor, Observer, Session
from ..limits import Limits
from ..protocol.codec import CODECS
from ..protocol.endpoint import Endpoint
from ..runtime import Nursery, Runtime
from ..session.live_session import LiveSession
from ..telemetry.events import Events
from .errors import OWN_ERRORS, NodeLost
from .limits import ClusterLimits
from .link import BusLink

__all__ = ["RemoteRoute", "RoutedSession", "Tunnel", "codec_of", "node_of", "tunnel_limits"]

# The factor by which the window of a stream from another node grows in one step. Each step costs
# the long way there and back.
GROWTH = 8

# Seconds.
FIRST_REDIAL = 0.05
LONGEST_REDIAL = 1.0


class Net(Protocol):
    """The methods of a node that its tunnels need."""

    runtime: Runtime
    nursery: Nursery

    def spawn(self, fn: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None: ...
    async def dial(self, node: str, subprotocol: str) -> BusLink: ...
    def hub_at(self, node: str, codec: str, *, first: bool = False) -> Hub: ...
    def witnesses_of(self, id: str) -> tuple[Session, Events]: ...


def node_of(id: str) -> str:
    """The node that has a session, by the session's id."""
    return id.partition("-")[0]


def codec_of(id: str) -> str:
    """The codec that a session speaks, by its id."""
    return "msgpack" if id.partition("-")[2][:1] == "m" else "json"


def tunnel_limits(limits: ClusterLimits, own: Limits) -> tuple[Limits, Limits]:
    """The bounds of sessions between nodes: at the calling end, and at the called end.

    Args:
        limits: The cluster's bounds.
        own: The server's bounds.
    """
    shared: dict[str, Any] = {
        "max_calls": limits.tunnel_calls,
        "max_waiting": 4 * limits.tunnel_calls,
        "max_value": own.max_value,
        "max_held": own.max_held,
        "max_metadata": own.max_metadata + 1024,
        "window_bytes": own.window_bytes,
        "outbox": limits.tunnel_outbox,
        # One session carries the calls of many clients. Each client has its own bound besides.
        "max_session_bytes": own.max_principal_bytes,
        "max_principal_bytes": own.max_total_bytes,
        "max_total_bytes": own.max_total_bytes,
        "replay": limits.tunnel_replay,
        "resume_window": 30.0,
        "heartbeat_interval": 2.0,
        "heartbeat_timeout": 2.0,
        "max_links": 65_536,
        "max_links_per_principal": 65_536,
        "max_links_per_address": 65_536,
        "max_unauthenticated": 1024,
        "max_unauthenticated_per_address": 1024,
        "idle_burst": 1_000_000,
        "idle_rate": 1_000_000.0,
        "refusal_burst": 1_000_000,
        "refusal_rate": 1_000_000.0,
        "retry_attempts": 1,
    }
    return Limits(window=own.window, **shared), Limits(window=1, **shared)


class RoutedSession(Session):
    """A session of another node, in the form that calls to it need."""

    def __init__(self, id: str, limits: Limits, interceptors: tuple[Interceptor, ...] = ()) -> None:
        self.id = id
        self._limits = limits
        self.principal: Any = None
        self.principal_key = None
        self.peer = ""
        self.handshake = Handshake(remote=f"node:{node_of(id)}")
        self.interceptors = interceptors

    @property
    def limits(self) -> Limits:
        return self._limits

    def __repr__(self) -> str:
        return f"<session {self.id} of another node>"


class RemoteRoute(Route):
    """The way to a session of another node, over the session with that node."""

    __slots__ = ("_codec", "_id", "_network", "_node")

    def __init__(self, network: Net, id: str) -> None:
        self._network = network
        self._id = id
        self._node, self._codec = node_of(id), codec_of(id)
        super().__init__(self.hub)

    @property
    def hub(self) -> Hub:
        """The hub for new calls.

        Raises:
            SessionGone: Its node is gone.
        """
        return self._network.hub_at(self._node, self._codec)

    @hub.setter
    def hub(self, hub: Hub) -> None:
        """Do nothing: the hub is looked up for each call."""

    def witnesses(self) -> tuple[Session, Events]:
        return self._network.witnesses_of(self._id)

    @property
    def in_order(self) -> Hub:
        return self._network.hub_at(self._node, self._codec, first=True)


class Tunnel:
    """The session with another node, for one codec."""

    def __init__(
        self,
        network: Net,
        peer: str,
        codec: str,
        limits: Limits,
        observer: Observer,
        ledger: Ledger,
    ) -> None:
        self.peer = peer
        self._events = Events()
        self._observer = observer
        self.session = LiveSession(
            partial(Endpoint, "connecting", CODECS[codec], limits, agent="wsrpc node"),
            network.runtime,
            network.nursery,
            entries={},
            events=self._events,
            ledger=ledger,
        )
        # It is one session of the wire to its end.
        self.hub = hub = self.session.wire.hub
        hub.lost_class = NodeLost
        hub.own_errors = OWN_ERRORS
        hub.growth = GROWTH
        # Seconds on the loop's clock. The time since which it has been without calls.
        self.idle_since: float | None = None
        self._network = network
        self._codec = codec
        self.resumed = 0
        network.spawn(self._run)

    def observe(self) -> None:
        """Tell the observer of calls from now on."""
        if not self._events.observed:
            self._events.add(self._observer)

    @property
    def is_busy(self) -> bool:
        """Whether three quarters of its slots are taken."""
        endpoint = self.hub.endpoint
        # Before the other end has told the number of its slots, the least number is assumed.
        return endpoint.established and 4 * endpoint.slots.live >= 3 * endpoint.slots.limit

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way."""
        slots = self.hub.endpoint.slots
        return not (slots.live or slots.waiting or self.hub.notifications)

    async def close(self) -> None:
        """Close the session, which is not needed any more."""
        await self.session.aclose()

    def lose(self, reason: str) -> None:
        """Fail all calls under way, since the node is gone."""
        self.session.wire.lose(CloseCode.NORMAL, reason)

    async def _run(self) -> None:
        """Find one link after another, while the session lasts."""
        wire = self.session.wire
        wait = 0.0
        linked = 0
        while not wire.over:
            if wait:
                await anyio.sleep(wait)
            wait = min(LONGEST_REDIAL, max(FIRST_REDIAL, wait * 2))
            if wire.over:
                break
            try:
                link = await self._network.dial(self.peer, CODECS[self._codec].subprotocol)
            except ConnectError:
                continue
            before = wire.endpoint.received
            try:
                if wire.over:
                    break
                await wire.connect(link, None)
            finally:
                link.lose("done")
            linked += 1
            self.resumed = linked - 1
            if wire.endpoint.received > before:
                wait = FIRST_REDIAL
        await self.session.idle()
