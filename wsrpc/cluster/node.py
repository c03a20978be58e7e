"""One node: the sessions of its server, and the way to the sessions of other nodes."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from .. import runtime as runtimes
from ..admission.principals import key_of as admitted_key_of
from ..calling.observed import Kind, unsent
from ..context import checked_metadata, handling, is_unicode
from ..errors import Code, RpcError
from ..interfaces import Session, StateChange
from ..options import checked_count
from ..protocol.hello import Opening
from ..runtime import Nursery, Runtime
from ..server.server import Server
from ..session.live_session import LiveSession
from ..telemetry.logs import everyone
from ..transport.base import Link
from .bus.base import Bus
from .directory import Directory
from .errors import ClusterConfigError, SessionGone, gone_error
from .events import Events, OnEvent
from .forward import Forwarding, owner_of
from .limits import ClusterLimits
from .loads import Loads
from .members import NodeInfo
from .network import Network
from .overview import Operators, Overview
from .tunnels import node_of

__all__ = ["Node", "checked_meta", "checked_name", "key_of_principal"]

# Seconds after which a waiting call looks for a worker again: one of another node may be free.
POLL = 1.0

# Types without a key that are remembered.
MAX_KEYLESS = 64

# Characters of the id of a session, at most.
LONGEST_ID = 64

ELSEWHERE = (
    "this cluster belongs to another event loop, or another thread: use it where it was entered, from "
    "a thread that anyio started by anyio.from_thread.run(fn)"
)

# Random bytes in the id of a node: 10 hex digits.
ID_BYTES = 5


class Node:
    """The parts of a cluster that all others share.

    Attributes:
        id: The id of this node, new for each start of the process.
        server: The application's server.
        limits: The cluster's bounds.
        directory: The members that this node knows.
        network: The way to other nodes, if there can be any.
        forwarding: Passes links on to other nodes.
        began: Seconds since 1970. The time at which it began.
    """

    def __init__(
        self,
        server: Server,
        limits: ClusterLimits,
        bus: Bus | None = None,
        name: str = "wsrpc",
        meta: Mapping[str, str] | None = None,
        operators: Operators | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        self.id = secrets.token_hex(ID_BYTES)
        self.server = server
        self.limits = limits
        self.directory = Directory(self.id, limits.max_members)
        self.loads = Loads(self.id, limits.beat, self._owner)
        self._runtime: Runtime | None = None
        self._nursery: Nursery | None = None
        self._opened = False
        self.began = time.time()
        self.network: Network | None = None
        self.forwarding: Forwarding | None = None
        self._events = Events(on_event)
        self._bus = bus
        self._name = name
        self._meta = checked_meta(meta or {}, limits)
        self.controllers = [Overview(self, operators)]
        # Types of principals without a key that were logged.
        self._keyless: set[type] = set()
        self._watching = server.extend(self)

    # ------------------------------------------------------------ begin and end

    async def open(self) -> None:
        """Begin, on the event loop of the caller.

        Raises:
            RuntimeError: It has begun already.
        """
        if self._opened:
            raise RuntimeError(
                "enter a Cluster once; to begin again, build a new Server and a new Cluster for it"
            )
        self._opened = True
        try:
            await self._open()
        except BaseException:
            self._nursery, self._opened = None, False
            raise

    async def _open(self) -> None:
        self._runtime = runtimes.current()
        self._nursery = await self._runtime.open_nursery()
        if self._bus is not None:
            self._bus = _fitting(self._bus, self._runtime)
            self.network = Network(
                self.id,
                self._bus,
                self._name,
                self.server,
                self.directory,
                self.limits,
                self._runtime,
                self._nursery,
                meta=self._meta,
                began=self.began,
                enter=self.enter,
                loads=self.loads,
                events=self._events,
                watching=self._watching,
            )
            self.forwarding = Forwarding(
                self.network, self.server.acceptor(), self.server.limits, self.limits.suspect
            )
            try:
                await self.network.open()
            except BaseException:
                await self._nursery.close()
                raise

    async def close(self) -> None:
        """End all tasks of this node."""
        # It must have been open before it counts as closed.
        _ = self.nursery
        try:
            if self.network is not None:
                await self.runtime.to_the_end(self.network.close)
        finally:
            nursery, self._nursery = self.nursery, None
            await nursery.close()

    @property
    def runtime(self) -> Runtime:
        """The event loop."""
        if self._runtime is None:
            raise RuntimeError("enter the cluster first: `async with Cluster(server) as cluster`")
        return self._runtime

    def check(self, what: str) -> None:
        """Refuse a request to a node that has left its cluster, or from another event loop.

        Args:
            what: The thing that is asked for, which the node does not have any more.

        Raises:
            RpcError: `unavailable`, not started.
            RuntimeError: The caller does not run where the cluster was entered.
        """
        if self._opened and self._nursery is None:
            raise gone_error(what)
        if self._runtime is not None and self._runtime.effective_deadline() is None:
            raise RuntimeError(ELSEWHERE)

    @property
    def cluster(self) -> str:
        """The cluster's name."""
        return self._name

    @property
    def store(self) -> Any:
        """The bus, where it stores topics; None where they are in memory."""
        return self._bus if self._bus is not None and self._bus.stores else None

    @property
    def nursery(self) -> Nursery:
        """The parent of all tasks of this node."""
        if self._nursery is None:
            raise RuntimeError("enter the cluster first: `async with Cluster(server) as cluster`")
        return self._nursery

    # ------------------------------------------------------------ reports of the server

    @property
    def node(self) -> str:
        """This node's id, with which the ids and tokens of its sessions begin."""
        return self.id

    def changed(self, session: Session, change: StateChange) -> None:
        """Note that a session of this server has begun, lost its connection, come back or ended."""
        entry = self.directory.get(session.id)
        if change.state == "closed":
            if entry is not None:
                why = "expired" if entry.state == "detached" else "closed"
                self.directory.local(["-", session.id, why])
        elif entry is None:
            about: dict[str, Any] = {
                "k": self._key_of(session),
                "s": "connected",
                "m": {},
                "t": time.time(),
            }
            self.directory.local(["+", session.id, about])
        elif change.state == "detached":
            self.directory.local(["s", session.id, "detached"])
        elif change.state == "connected":
            self.directory.local(["s", session.id, "connected"])

    def observed(self) -> None:
        """Note that the server has observers now."""
        if self.network is not None:
            self.network.observed()

    def _key_of(self, session: Session) -> str | None:
        principal, key = session.principal, session.principal_key
        if key is None and principal is not None and type(principal) not in self._keyless:
            if len(self._keyless) < MAX_KEYLESS:
                self._keyless.add(type(principal))
            everyone.error("%s; until then its sessions are listed without it", _keyless(principal))
        if key is not None and not is_unicode(key):
            # It would stop this node's whole part of the directory.
            everyone.error(
                "the key %r of a principal holds a lone surrogate, which cannot travel: its session is "
                "listed without it",
                key[:80],
            )
            return None
        return key

    async def draining(self) -> None:
        """Tell the other nodes that this one is about to go."""
        if self.network is not None:
            self.network.members.state = "draining"
            await self.network.members.beat()

    def is_elsewhere(self, token: str) -> bool:
        """Whether another node has issued a resume token."""
        return self.forwarding is not None and owner_of(token) not in ("", self.id)

    async def forward(self, link: Link, opening: Opening, answered: Callable[[], None]) -> None:
        """Serve a link at the node that has its session."""
        assert self.forwarding is not None
        await self.forwarding.pass_on(link, opening, answered)

    def infos(self) -> dict[str, NodeInfo]:
        """The nodes that this one knows, by id, itself included."""
        if self.network is not None:
            return self.network.members.infos()
        return {self.id: NodeInfo(self.id, "up", self._meta, len(self.server.sessions), self.began)}

    # ------------------------------------------------------------ sessions

    def clientize(self, id: str, controller: Any, options: Mapping[str, Any]) -> Any:
        """A proxy of a controller at a session of any node.

        Raises:
            SessionGone: There is no such session.
        """
        session = self.server.sessions.get(id)
        if session is not None:
            given = {key: value for key, value in options.items() if key != "worker_of"}
            return session.clientize(controller, **given)
        possible = len(id) <= LONGEST_ID and id.isascii()
        if self.network is not None and possible and node_of(id) not in ("", self.id):
            # They are checked before the node adds its own metadata, and its own window where there
            # is none.
            checked_metadata(options.get("metadata") or {})
            checked_count("window", options.get("window"), "item")
            return self.network.clientize(id, controller, options)
        raise SessionGone(f"there is no session {id[:64]!r}: it has ended, or its node is gone")

    async def room(self, id: str) -> None:
        """Wait until a session takes another value into its outbox.

        Raises:
            SessionGone: There is no such session.
            DeadlineExceeded: It has no room within `ClusterLimits.member_timeout`.
        """
        session = self.server.sessions.get(id)
        if isinstance(session, LiveSession):
            hub = session.route.hub
        elif self.network is not None and node_of(id) not in ("", self.id):
            hub = self.network.hub_to(id)
        else:
            raise SessionGone(f"there is no session {id[:64]!r}")
        await hub.room(self.runtime.now() + self.limits.member_timeout)

    def unsent(
        self, id: str, label: str, kind: Kind, code: str, metadata: Mapping[str, str] | None
    ) -> None:
        """Tell observers of a call to a session that fails before it could be handed to that.

        Args:
            id: The id of the session.
            label: `"Controller.method"`.
            kind: See `ObservedCall`.
            code: The code of its error.
            metadata: Its metadata.
        """
        session = self.server.sessions.get(id)
        if isinstance(session, LiveSession):
            unsent(*session.route.witnesses(), label, kind, code, metadata)
        elif self.network is not None:
            self.network.unsent(id, label, kind, code, metadata)

    def others(self, pool: str, session: str) -> int:
        """Calls that a worker has of nodes other than this one, as far as this one knows."""
        return self.loads.others(pool, session, self.runtime.now())

    def taken(self, pool: str, session: str, more: int) -> None:
        """Count a call of this node's, of a worker of its own, in or out."""
        self.loads.count(pool, session, self.id, more)

    def _owner(self, pool: str, session: str) -> str | None:
        entry = self.directory.get(session)
        return entry.node if entry is not None and pool in entry.pools else None

    def poll(self, pool: str) -> float:
        """Seconds after which a waiting call looks for a worker again by itself."""
        return math.inf if self.network is None else POLL

    async def settled(self) -> None:
        """Wait until every node that is up knows this one's present directory."""
        if self.network is not None:
            await self.network.exchange.settled()

    def enter(self, pool: str, session: str, caller: str) -> Callable[[], None] | None:
        """Take a place of a worker for another node's call; None where it has no room."""
        entry, loads = self.directory.get(session), self.loads
        if entry is None or loads.total(pool, session) >= entry.pools.get(pool, 0):
            return None
        loads.count(pool, session, caller, 1)
        return lambda: loads.count(pool, session, caller, -1)

    def is_own(self, id: str) -> bool:
        """Whether this node has, or had, a session with this id."""
        return node_of(id) == self.id

    def own(self, session: Session | str | None) -> str:
        """The id of a session of this node.

        Args:
            session: The session, or its id; None: the session of the call that is being handled.

        Raises:
            SessionGone: There is no such session here.
            RpcError: `resource_exhausted`: it was left out of the directory, which is full.
            RuntimeError: `session` is None, and no call is being handled.
        """
        if session is None:
            handled = handling.get()
            if handled is None:
                raise RuntimeError("name a session: no call is being handled here")
            session = handled.context.session
        if not isinstance(session, str | Session):
            raise TypeError(f"name a session, or its id, not {session!r:.80}")
        id = session if isinstance(session, str) else session.id
        entry = self.directory.get(id)
        if entry is None and id in self.server.sessions and self.directory.refused:
            raise RpcError(
                Code.RESOURCE_EXHAUSTED,
                f"session {id} is not in the directory, which is full (ClusterLimits.max_members)",
            )
        if entry is None or entry.node != self.id:
            raise SessionGone(f"there is no session {id[:64]!r} on this node")
        return id

    def set_meta(self, session: Session | str | None, meta: Mapping[str, str]) -> None:
        """Set the metadata of a session of this node."""
        checked = checked_meta(meta, self.limits)
        self.directory.local(["m", self.own(session), checked])


def _fitting(bus: Bus, runtime: Runtime) -> Bus:
    """The bus itself if it runs on this event loop, else the bus in a thread of its own."""
    if isinstance(runtime, runtimes.AsyncioRuntime) or not bus.stores:
        return bus
    from .bus.nats import NatsBus
    from .bus.thread import ThreadBus

    return ThreadBus(bus) if isinstance(bus, NatsBus) else bus


def checked_name(name: str, what: str, limits: ClusterLimits) -> str:
    """Check the name of a group, a pool or a topic; returns it.

    Raises:
        ValueError: It is empty or too long, or cannot travel; the caller's fault.
    """
    if not isinstance(name, str) or not 0 < len(name) <= limits.max_name:
        raise ValueError(
            f"a {what} is named by 1 to {limits.max_name} characters, not {name!r:.80}"
        )
    if not is_unicode(name):
        raise ValueError(f"the name of a {what} cannot hold lone surrogates; got {name!r:.80}")
    return name


def checked_meta(meta: Mapping[str, str], limits: ClusterLimits) -> dict[str, str]:
    """Check the metadata of a member or a node; returns a copy.

    Raises:
        ValueError: It is too large, or cannot travel; the caller's fault.
        TypeError: It is no map of strings to strings.
    """
    if not isinstance(meta, Mapping):
        raise TypeError(f"meta is a map of strings to strings, not {meta!r:.80}")
    for key, value in meta.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"meta is a map of strings to strings; got {key!r:.80}: {value!r:.80}")
        if not (is_unicode(key) and is_unicode(value)):
            raise ValueError(f"meta cannot hold lone surrogates; got {key!r:.80}: {value!r:.80}")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in meta.items())
    if size > limits.max_meta:
        raise ValueError(f"{size} bytes of meta exceed ClusterLimits.max_meta")
    return dict(meta)


def key_of_principal(principal: Any) -> str:
    """The key by which every node knows a principal.

    Raises:
        ClusterConfigError: It has no key.
    """
    key = admitted_key_of(principal)
    if key is None:
        raise ClusterConfigError(_keyless(principal))
    if not is_unicode(key):
        raise ClusterConfigError(
            f"the key {key!r:.80} of a principal holds a lone surrogate, and no other node knows it"
        )
    return key


def _keyless(principal: Any) -> str:
    return (
        f"a principal of type {type(principal).__name__} has no key that other nodes would know: "
        "let authenticate return Grant(principal, key=…)"
    )
