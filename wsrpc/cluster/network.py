"""The network of nodes: their members, the sessions between them, and their messages."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import anyio
import msgspec

from ..calling.observed import Kind, unsent
from ..calling.options import Options
from ..calling.proxy import Proxy
from ..close_codes import CloseCode
from ..engine.hub import Hub
from ..engine.ledger import Ledger
from ..errors import ConnectError, RpcError
from ..interfaces import Handshake, Session, StateChange
from ..protocol.codec import CODECS
from ..runtime import Nursery, Runtime
from ..runtime.timers import Timers
from ..server.acceptor import Acceptor
from ..server.server import Server
from ..session.live_session import LiveSession, interface_of
from ..telemetry.events import Events as ServerEvents
from ..telemetry.logs import everyone
from .bus.base import Bus, Off
from .directory import Directory
from .errors import BusDown, BusError, SessionGone
from .events import EventKind, Events
from .exchange import Exchange, Internal
from .limits import ClusterLimits
from .link import BusLink, Inbound, link_class
from .loads import PAUSE, Loads
from .members import BAD_JSON, Members, Peer, is_id
from .micro import SUBJECTS, Micro
from .observed import CallsAbroad
from .relay import TO, WORKER, Relay
from .revoking import Revoking
from .tunnels import RemoteRoute, RoutedSession, Tunnel, codec_of, node_of, tunnel_limits

__all__ = ["Network"]

# Seconds.
DIAL_TIMEOUT = 0.5

_decode = msgspec.json.decode
_encode = msgspec.json.Encoder().encode


class Dial(msgspec.Struct):
    """The request of a node that wants a link."""

    n: str
    g: int
    l: str  # noqa: E741
    p: str


class Answer(msgspec.Struct):
    """The answer to a `Dial`."""

    g: int = 0
    no: str = ""


class Network:
    """This node's part in the network of all nodes.

    Attributes:
        members: The other nodes.
        exchange: Exchanges directories with the other nodes.
        revoking: Ends the sessions of principals on the other nodes.
        relay: Passes calls of other nodes on to sessions of this one.
        junk: Messages of unknown form.
        closed: Whether this node is going. nats-py swallows cancellations, so loops check it.
    """

    def __init__(
        self,
        node: str,
        bus: Bus,
        name: str,
        server: Server,
        directory: Directory,
        limits: ClusterLimits,
        runtime: Runtime,
        nursery: Nursery,
        *,
        meta: Mapping[str, str],
        began: float,
        enter: Callable[[str, str, str], Callable[[], None] | None],
        loads: Loads,
        events: Events,
        watching: ServerEvents,
    ) -> None:
        self.runtime = runtime
        self.nursery = nursery
        self.junk = 0
        self.refused = 0
        self.gaps = 0
        self.closed = False
        self.on_forward: Callable[[bytes, str], None] | None = None
        self.node = node
        self._bus = bus
        self._prefix = f"wsrpc.{name}."
        self._server = server
        self._sessions = server.sessions
        self._directory = directory
        self._limits = limits
        self._loads = loads
        self._events = events
        self._watching = watching
        self._micro = Micro(name, node, self.subject(f"to.{node}.>"), meta, began, self.counters)
        self._timers = Timers(runtime, nursery)
        self._links: dict[str, BusLink] = {}
        self._tunnels: dict[tuple[str, str], list[Tunnel]] = {}
        self._link_class = link_class(bus, runtime)
        self._inbound = Inbound(limits.inbound_bytes)
        self._offs: list[Off] = []
        self._tasks: set[Any] = set()
        self.members = Members(node, self, limits, meta, began)
        self.exchange = Exchange(node, self, directory)
        self.revoking = Revoking(self.members, self._revoke_at, self.spawn)
        self.members.on_change.append(self._peer_changed)
        self.members.on_moved.append(self._peer_moved)
        self.relay = Relay(self._find, enter, limits, watching)
        self._out, self._in = tunnel_limits(limits, server.limits)
        self._ledger = Ledger(self._out)
        self._inner = Server(
            [Internal(self, self.exchange, lambda: sorted(server.contract()["controllers"]))],
            limits=self._in,
            authenticate=_by_link,
            reflection=False,
            on_state=self._inner_changed,
        )
        self._acceptor: Acceptor | None = None

    # ------------------------------------------------------------ begin and end

    async def open(self) -> None:
        """Connect to the bus, and announce this node."""
        self._acceptor = self._inner.acceptor()
        try:
            await self._bus.open(self._bus_up, self._bus_down)
            for subject, handler in (
                (self.subject(f"to.{self.node}.>"), self._mail),
                (self.subject("beat"), self._beat),
                (self.subject("load"), self._load),
                (SUBJECTS, self._asked),
            ):
                self._offs.append(await self._bus.subscribe(subject, handler))
        except BaseException:
            # The library would keep its connection, and tasks that restore it.
            with anyio.CancelScope(shield=True):
                await self._bus.close()
            raise
        self._directory.taps.add(self.exchange.tap)
        self.spawn(self.members.run)
        self.spawn(self._close_idle)
        self.spawn(self._tell_loads)

    async def close(self) -> None:
        """Announce that this node is gone, and end all its tasks."""
        self.closed = True
        self.revoking.closed = True
        self._directory.taps.discard(self.exchange.tap)
        self.members.state = "gone"
        await self.members.beat()
        for tunnel in self._all_tunnels():
            tunnel.lose("this node is going")
        for session in list(self._inner.sessions.values()):
            await session.aclose()
        if self._acceptor is not None:
            await self._acceptor.close()
        for link in list(self._links.values()):
            link.lose("this node is going")
        for off in self._offs:
            await off()
        with anyio.CancelScope(shield=True):
            await self._bus.close()
        self._timers.close()

    def subject(self, rest: str) -> str:
        """A subject of this cluster."""
        return self._prefix + rest

    def spawn(self, fn: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Run a function in a task; an exception of it is a fault, and logged."""
        self.nursery.spawn(self._guarded, fn, args)

    async def _guarded(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            await fn(*args)
        except (BusError, RpcError, ConnectError):
            # The bus or a node is away; code that depends on it notices by itself.
            pass

    # ------------------------------------------------------------- needs of members

    def now(self) -> float:
        return self.runtime.now()

    @property
    def connected(self) -> bool:
        return self._bus.connected

    @property
    def generation(self) -> int:
        return self._bus.generation

    async def say(self, subject: str, data: bytes) -> None:
        try:
            await self._bus.publish(self.subject(subject), data)
        except BusDown:
            self.refused += 1

    async def ask(self, subject: str, data: bytes, timeout: float) -> bytes:
        return await self._bus.request(self.subject(subject), data, timeout)

    def load(self) -> int:
        return len(self._server.sessions)

    @property
    def settled_in(self) -> bool:
        """Whether this node has been on the bus for long enough to have heard of all others."""
        return self.members.settled_in

    # ------------------------------------------------------------ the bus

    def _asked(self, subject: str, data: bytes, reply: str) -> None:
        """Answer a tool of NATS that lists services."""
        answer = self._micro.answer(subject)
        if answer is not None:
            self._reply(reply, answer)

    def _bus_up(self) -> None:
        self._events.tell("bus_up", self.node, "the connection to NATS is back")
        self.members.bus_up()
        self.spawn(self.members.beat)

    def _bus_down(self) -> None:
        self._events.tell("bus_down", self.node, "the connection to NATS is lost")
        for link in list(self._links.values()):
            link.lose("the bus is down")

    def _beat(self, subject: str, data: bytes, reply: str) -> None:
        self.members.heard(data)

    def _load(self, subject: str, data: bytes, reply: str) -> None:
        self.junk += not self._loads.heard(data, self.now())

    async def _tell_loads(self) -> None:
        while not self.closed:
            await self._loads.changes()
            for message in self._loads.messages():
                await self.say("load", message)
            await anyio.sleep(PAUSE)

    def _mail(self, subject: str, data: bytes, reply: str) -> None:
        """Take a message for this node."""
        kind, _, rest = subject[len(self._prefix) + len(self.node) + 4 :].partition(".")
        if kind == "link":
            link = self._links.get(rest)
            if link is not None and not link.deliver(data):
                self.junk += 1
        elif kind == "ping":
            self._reply(reply, b"{}")
        elif kind == "dial":
            self._dialled(data, reply)
        elif kind == "forward" and self.on_forward is not None:
            self.on_forward(data, reply)
        else:
            self.junk += 1

    def _reply(self, reply: str, data: bytes) -> None:
        if reply:
            self.spawn(self._bus.publish, reply, data)

    def refuse(self, reply: str, why: str) -> None:
        """Refuse a link."""
        self._reply(reply, _encode(Answer(no=why)))

    # ------------------------------------------------------------ links

    def link(self, id: str, peer: str, subprotocol: str, handshake: Handshake | None) -> BusLink:
        """Make one end of a link with another node."""
        link = self._link_class(
            id=id,
            peer=peer,
            bus=self._bus,
            subject=self.subject(f"to.{peer}.link.{id}"),
            runtime=self.runtime,
            timers=self._timers,
            subprotocol=subprotocol,
            handshake=handshake,
            forget=self._forget,
            say=self._say_soon,
            spawn=self.spawn,
            inbound=self._inbound,
        )
        self._links[id] = link
        return link

    def _forget(self, link: BusLink) -> None:
        if link.gaps:
            self.gaps += link.gaps
            self._events.tell("link_gap", link.peer, f"a message of node {link.peer} was lost")
        self._links.pop(link.id, None)

    def _say_soon(self, subject: str, data: bytes) -> None:
        self.spawn(self._bus.publish, subject, data)

    async def dial(
        self, node: str, subprotocol: str, kind: str = "dial", more: Mapping[str, Any] | None = None
    ) -> BusLink:
        """Open a link to another node.

        Args:
            node: The id of the node.
            subprotocol: The subprotocol with the codec.
            kind: The purpose of the link at the other node.
            more: The facts that the other node needs for it.

        Raises:
            ConnectError: The link did not come about.
        """
        link = self.link(secrets.token_hex(8), node, subprotocol, None)
        body: dict[str, Any] = {
            "n": self.node,
            "g": self._bus.generation,
            "l": link.id,
            "p": subprotocol,
        }
        try:
            data = _encode({**body, **(more or {})})
            answer = _decode(await self.ask(f"to.{node}.{kind}", data, DIAL_TIMEOUT), type=Answer)
            if answer.no:
                raise ConnectError(f"node {node} gives no link: {answer.no}")
        except (BusError, *BAD_JSON) as error:
            link.lose("not answered")
            raise ConnectError(f"node {node} cannot be reached: {error!r}") from error
        except BaseException:
            link.lose("given up")
            raise
        link.peer_generation = answer.g
        return link

    def _dialled(self, data: bytes, reply: str) -> None:
        try:
            dial = _decode(data, type=Dial)
        except BAD_JSON:
            self.junk += 1
            return
        link = self.accepted(dial.n, dial.g, dial.l, dial.p, None, reply)
        if link is not None and self._acceptor is not None:
            self.nursery.spawn(self._acceptor.serve, link)

    def accepted(
        self,
        node: str,
        generation: int,
        id: str,
        subprotocol: str,
        handshake: Handshake | None,
        reply: str,
    ) -> BusLink | None:
        """Accept a link that another node dialled; returns this end, or None."""
        if not (is_id(node) and is_id(id)):
            self.junk += 1
            return None
        if subprotocol not in _SUBPROTOCOLS or id in self._links:
            self.refuse(reply, "version")
            return None
        if len(self._links) >= MAX_LINKS or (handshake is not None and self._inbound.full):
            self.refuse(reply, "full")
            return None
        link = self.link(id, node, subprotocol, handshake)
        link.peer_generation = generation
        self._reply(reply, _encode(Answer(g=self._bus.generation)))
        return link

    # ------------------------------------------------------------ peers

    def _peer_moved(self, peer: Peer) -> None:
        """Close the links of a node that has been away from the bus, and has lost messages."""
        for link in list(self._links.values()):
            if link.peer == peer.id and link.peer_generation < peer.generation:
                link.lose("the other node has been away from the bus")

    def _peer_changed(self, peer: Peer, before: str | None) -> None:
        self._events.tell(KINDS[peer.state], peer.id, f"node {peer.id}: {peer.state}")
        if before is None:
            self.spawn(self._meet, peer)
        if before is None or before in ("dead", "left"):
            self.spawn(self.exchange.follow, peer)
        if not peer.gone:
            if before in ("dead", "left"):
                self.spawn(self.revoking.repay, peer)
            return
        if peer.state == "left":
            self.revoking.forget(peer.id)
        why = f"node {peer.id} is dead" if peer.state == "dead" else f"node {peer.id} has left"
        for key in [one for one in self._tunnels if one[0] == peer.id]:
            for tunnel in self._tunnels.pop(key):
                tunnel.lose(why)
        for session in list(self._inner.sessions.values()):
            if session.principal == f"node:{peer.id}" and isinstance(session, LiveSession):
                session.wire.lose(CloseCode.NORMAL, why)
        for link in list(self._links.values()):
            if link.peer == peer.id:
                link.lose(why)
        self.exchange.forget(peer.id, "node_dead" if peer.state == "dead" else "node_left")

    async def _meet(self, peer: Peer) -> None:
        """See whether a new node serves anything that this one serves."""
        own = set(self._server.contract()["controllers"])
        session = self.tunnel(peer.id, "json").session
        theirs = set(await session.clientize(Internal, timeout=5.0).controllers())
        if own and theirs and not own & theirs:
            names = ", ".join(sorted(theirs)[:5])
            message = (
                f"node {peer.id} serves {names}, and nothing that this node serves; if it is another "
                "application's, give each cluster a name of its own: Cluster(…, name=…)"
            )
            everyone.warning("%s", message)
            self._events.tell("foreign", peer.id, message)

    def _inner_changed(self, session: Session, change: StateChange) -> None:
        if change.state == "connected" and isinstance(session, LiveSession):
            caller = str(session.principal).removeprefix("node:")
            session.wire.relay_calls(self.relay.of(caller))

    # ------------------------------------------------------------ sessions of other nodes

    def _find(self, id: str) -> Hub | None:
        session = self._sessions.get(id)
        return session.wire.hub if isinstance(session, LiveSession) else None

    def tunnel(self, node: str, codec: str) -> Tunnel:
        """The session with another node, which is begun when it is first asked for.

        Raises:
            SessionGone: There is no such node.
        """
        return self._living(node, codec)[0]

    def _living(self, node: str, codec: str) -> list[Tunnel]:
        living = self._tunnels.get((node, codec), [])
        if any(tunnel.session.closed for tunnel in living):
            living[:] = [tunnel for tunnel in living if not tunnel.session.closed]
        if not living:
            peer = self.members.get(node)
            if peer is None or peer.gone:
                state = "not known" if peer is None else peer.state
                raise SessionGone(f"node {node[:64]!r} is {state}, and its sessions are gone")
            living = self._tunnels[node, codec] = [self._begin(node, codec)]
        return living

    def _begin(self, node: str, codec: str) -> Tunnel:
        tunnel = Tunnel(
            self,
            node,
            codec,
            self._out,
            CallsAbroad(self._watching, self._server.limits),
            self._ledger,
        )
        if self._watching.observed:
            tunnel.observe()
        return tunnel

    def observed(self) -> None:
        """Tell observers of all further calls to other nodes, since there are some now."""
        for tunnel in self._all_tunnels():
            tunnel.observe()

    def hub_to(self, id: str, *, first: bool = False) -> Hub:
        """The hub for calls to a session of another node.

        Args:
            id: The id of the session.
            first: Whether it must always be the same hub, for messages that have to arrive in
                order.
        """
        return self.hub_at(node_of(id), codec_of(id), first=first)

    def hub_at(self, node: str, codec: str, *, first: bool = False) -> Hub:
        """The same by the node and the codec of the session."""
        living = self._tunnels.get((node, codec))
        # In most cases the first one will do. Each call comes here.
        if living:
            tunnel = living[0]
            if not tunnel.session.closed and (first or not tunnel.is_busy):
                return tunnel.hub
        living = self._living(node, codec)
        free = living[0] if first else next((one for one in living if not one.is_busy), None)
        if free is None and len(living) < self._limits.tunnels:
            free = self._begin(node, codec)
            living.append(free)
        if free is None:
            free = min(living, key=lambda tunnel: tunnel.hub.endpoint.slots.live)
        return free.hub

    def witnesses_of(self, id: str) -> tuple[Session, ServerEvents]:
        """A session of another node, and the observers of calls to it, whether there is a hub or not."""
        limits = self._server.limits
        observers = [CallsAbroad(self._watching, limits)] if self._watching.observed else []
        return RoutedSession(id, limits), ServerEvents(observers=observers)

    def unsent(
        self, id: str, label: str, kind: Kind, code: str, metadata: Mapping[str, str] | None
    ) -> None:
        """As `Node.unsent`, for a session of another node."""
        unsent(*self.witnesses_of(id), label, kind, code, {**(metadata or {}), TO: id})

    def _all_tunnels(self) -> list[Tunnel]:
        return [tunnel for living in self._tunnels.values() for tunnel in living]

    async def _close_idle(self) -> None:
        """Close sessions with other nodes that were unused for a while."""
        most = self._limits.tunnel_idle
        while True:
            await anyio.sleep(most / 4)
            now = self.now()
            for key, living in list(self._tunnels.items()):
                for tunnel in list(living):
                    if not tunnel.is_idle:
                        tunnel.idle_since = None
                    elif tunnel.idle_since is None:
                        tunnel.idle_since = now
                    elif now - tunnel.idle_since >= most:
                        living.remove(tunnel)
                        self.spawn(tunnel.close)
                if not living:
                    del self._tunnels[key]

    def clientize(self, id: str, controller: Any, options: Mapping[str, Any]) -> Any:
        """A proxy of a controller at a session of another node.

        Raises:
            SessionGone: Its node is gone.
        """
        given = dict(options)
        pool = given.pop("worker_of", None)
        metadata = {**(given.pop("metadata", None) or {}), TO: id}
        if pool is not None:
            metadata[WORKER] = pool
        given["interceptors"] = tuple(given.get("interceptors") or ())
        # The window is always given, since a call with a window is a stream for the session's node.
        given["window"] = given.get("window") or self._out.window
        route = RemoteRoute(self, id)
        session = RoutedSession(id, self._server.limits, self._watching.interceptors)
        return Proxy(session, route, interface_of(controller), Options(metadata=metadata, **given))

    # ------------------------------------------------------------ revoking

    def revoke_key(self, key: str) -> int:
        """End the sessions of a principal on this node, by the principal or its key."""
        return self._server.revoke(key)

    async def _revoke_at(self, node: str, key: str) -> int:
        session = self.tunnel(node, "json").session
        ended: int = await session.clientize(Internal, timeout=5.0).revoke(key)
        return ended

    def counters(self) -> dict[str, int]:
        """The counters; see `ClusterSnapshot`."""
        return {
            "tunnels": len(self._all_tunnels()),
            "tunnel_bytes": self._ledger.held + self._inner.snapshot().held_bytes,
            "tunnel_resumes": sum(tunnel.resumed for tunnel in self._all_tunnels()),
            "link_gaps": self.gaps,
            "relayed": self.relay.live,
            "relayed_total": self.relay.total,
            "relay_refused": self.relay.unread.refused,
            "bus_generation": self._bus.generation,
            "bus_dropped": self._bus.dropped,
            "publishes_refused": self.refused,
            "junk": self.junk + self.members.junk,
        }


MAX_LINKS = 65_536

KINDS: dict[str, EventKind] = {
    "up": "node_up",
    "suspect": "node_suspect",
    "draining": "node_draining",
    "dead": "node_dead",
    "left": "node_left",
}

_SUBPROTOCOLS = frozenset(codec.subprotocol for codec in CODECS.values())


async def _by_link(handshake: Handshake, auth: Any) -> str:
    """Authenticate a node: any client that may publish in the cluster's account is one."""
    return handshake.remote
