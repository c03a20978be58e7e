"""`Cluster`, the front door for applications."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, overload

from typing_extensions import TypeVar

from ..errors import Code, RpcError
from ..interfaces import Session
from ..options import checked_function
from ..server.server import Server
from .bus.base import Bus
from .directory import Entry
from .errors import ClusterConfigError
from .events import OnEvent
from .limits import ClusterLimits
from .members import NodeInfo
from .network import Network
from .node import Node, checked_name, key_of_principal
from .overview import Operators
from .pools import Pool, Pools
from .presence import Presence
from .targets import Group, One, Principal, Target
from .topics import Topic, Topics

__all__ = ["Cluster", "ClusterSnapshot"]

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """A node's counts and holdings at one moment.

    Attributes:
        members: Sessions in the directory, of all nodes.
        members_refused: Sessions left out of it, since it was full.
        pools: Pools that this node has used.
        topics: Topics that this node holds.
        topic_bytes: Bytes of their histories.
        watchers: Watchers of presence.
        nodes: Nodes by their state.
        tunnels: Sessions with other nodes that this one has begun.
        tunnel_bytes: Bytes that sessions with other nodes hold, in both directions. Bytes that a
            client makes a node hold in calls between nodes count for the client's session.
        tunnel_resumes: Resumptions of these sessions over another link.
        link_gaps: Gaps in the messages that came over the bus.
        relayed: Calls of other nodes that are being passed on to sessions of this one.
        relayed_total: Calls of other nodes that have come in so far.
        relay_refused: Calls of that kind for which there was no room.
        forwarded: Links that this node passes on to nodes that have their sessions.
        bus_generation: The number of the bus's connections so far.
        bus_dropped: Messages that came faster than this process took them.
        publishes_refused: Messages that were not sent, since the bus was down.
        junk: Messages of unknown form, dropped.
    """

    members: int
    members_refused: int
    pools: int
    topics: int
    topic_bytes: int
    watchers: int
    nodes: Mapping[str, int]
    tunnels: int = 0
    tunnel_bytes: int = 0
    tunnel_resumes: int = 0
    link_gaps: int = 0
    relayed: int = 0
    relayed_total: int = 0
    relay_refused: int = 0
    forwarded: int = 0
    bus_generation: int = 0
    bus_dropped: int = 0
    publishes_refused: int = 0
    junk: int = 0


# Names that may stand in a NATS subject and in the name of a stream.
NAME = re.compile(r"[a-z0-9_-]{1,32}")


class Cluster:
    """Groups, presence, pools and topics, over the sessions of one server or of many.

    Build it before the server listens, and enter it before the listener, so that it outlives the
    listener:

        server = wsrpc.Server([Chat()])
        async with wsrpc.cluster.Cluster(server) as cluster, server.listen() as listener:
            ...

    Args:
        server: The server of this node. Ids and resume tokens of its sessions begin with the id of
            the node from now on.
        bus: The URL of NATS, or several URLs; or a bus of your own. If left out, this is the only
            node, and everything works as with many.
        name: The cluster's name; nodes of one name on one NATS find each other.
        meta: The operator's notes about this node, visible to all nodes.
        limits: The cluster's bounds.
        operators: A function of the `CallContext`, async or not, that tells whether this caller may
            list nodes and sessions (`wsrpc nodes`, `wsrpc presence`). Without it no caller may.
        on_event: Told of nodes that come, go or fall silent, of the connection to NATS and of lost
            messages of other nodes: one `ClusterEvent` each, on the event loop. It must not block.

    Attributes:
        id: The id of this node, new for each start of the process.
        presence: The present members.

    Raises:
        RuntimeError: The server listens already, or is a node of a cluster; the caller's fault.
        ClusterConfigError: The name is invalid; or, on entering, the configuration of NATS cannot
            work. While there is no NATS yet, entering waits for it, and logs that.
        ImportError: nats-py is not installed.
    """

    def __init__(
        self,
        server: Server,
        bus: Bus | str | Sequence[str] | None = None,
        *,
        name: str = "wsrpc",
        meta: Mapping[str, str] | None = None,
        limits: ClusterLimits | None = None,
        operators: Operators | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        if not isinstance(server, Server):
            raise TypeError(f"a Cluster needs the wsrpc.Server of this node, not {server!r:.80}")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ClusterConfigError(
                f"a cluster's name is 1 to 32 of a-z, 0-9, - and _, not {name!r:.80}"
            )
        self._limits = ClusterLimits() if limits is None else limits
        if not isinstance(self._limits, ClusterLimits):
            raise ValueError(f"limits must be a wsrpc.cluster.ClusterLimits, not {limits!r:.80}")
        checked_function("operators", operators, "context")
        found = _bus(bus, name, self._limits.link_pending)
        self._node = Node(server, self._limits, found, name, meta, operators, on_event)
        self._pools = Pools(self._node)
        self._topics = Topics(self._node, self._limits)
        self.id = self._node.id
        self.presence = Presence(self._node.directory, self._limits)

    async def __aenter__(self) -> Self:
        await self._node.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # This raises if it was never entered.
        _ = self._node.nursery
        self._topics.close()
        self._pools.close()
        self.presence.close()
        await self._node.close()

    def __repr__(self) -> str:
        return f"<cluster, node {self.id}>"

    # ------------------------------------------------------------ members

    def session(self, id: str) -> Target:
        """One session, on any node.

        Args:
            id: The id of the session.
        """
        if not isinstance(id, str):
            raise TypeError(f"a session is named by its id, as session.id gives it, not {id!r:.80}")
        return One(self._node, id)

    def principal(self, principal: Any) -> Target:
        """All sessions of a principal; `clientize` calls the one that connected last.

        Args:
            principal: The principal that `authenticate` returned, or its key.

        Raises:
            ClusterConfigError: It has no key that other nodes would know.
        """
        key = key_of_principal(principal)
        directory = self._node.directory

        def find() -> list[Entry]:
            found = directory.find(principal=key)
            if not found and isinstance(principal, str):
                # The string may be the key itself.
                found = directory.find(principal=principal)
            return found

        return Principal(self._node, f"principal {key!r}", find)

    def group(self, name: str) -> Group:
        """A group; it need not be created.

        Args:
            name: Its name.
        """
        return Group(self._node, checked_name(name, "group", self._limits))

    def everyone(self) -> Target:
        """All sessions of all nodes."""
        return Target(self._node, "everyone", self._node.directory.find)

    def pool(self, name: str) -> Pool:
        """A pool of workers; it need not be created.

        Args:
            name: Its name.
        """
        return Pool(self._node, self._pools, checked_name(name, "pool", self._limits))

    @overload
    def topic(
        self,
        name: str,
        item: type[T],
        state: None = None,
        *,
        durable: bool = False,
        history: int | None = None,
        history_bytes: int | None = None,
        max_age: float | None = None,
    ) -> Topic[T, None]: ...
    @overload
    def topic(
        self,
        name: str,
        item: type[T],
        state: type[S],
        *,
        durable: bool = False,
        history: int | None = None,
        history_bytes: int | None = None,
        max_age: float | None = None,
    ) -> Topic[T, S]: ...
    def topic(
        self,
        name: str,
        item: Any,
        state: Any = None,
        *,
        durable: bool = False,
        history: int | None = None,
        history_bytes: int | None = None,
        max_age: float | None = None,
    ) -> Topic[Any, Any]:
        """A shared stream; it need not be created.

        Args:
            name: Its name.
            item: The type of its items.
            state: The type of its snapshots, if it has any.
            durable: Whether `publish` is to be followed by `flush` for each item, and items are
                kept for longer; in one process it changes nothing.
            history: Items that are kept; `ClusterLimits.topic_items` if left out.
            history_bytes: Bytes that are kept; `ClusterLimits.topic_bytes` if left out.
            max_age: Seconds after which an item is dropped; None: never because of its age. In one
                process only the other two bounds hold.
        """
        return Topic(
            self._topics,
            name,
            item,
            state,
            durable=durable,
            history=self._limits.topic_items if history is None else history,
            history_bytes=self._limits.topic_bytes if history_bytes is None else history_bytes,
            max_age=max_age,
        )

    # ------------------------------------------------------------ the nodes

    @property
    def nodes(self) -> Mapping[str, NodeInfo]:
        """The nodes that this one knows, by id, itself included."""
        return self._node.infos()

    @property
    def network(self) -> Network | None:
        """The way to other nodes; None where there is no bus. It is for this package's own use."""
        return self._node.network

    # ------------------------------------------------------------ this node

    def set_meta(self, session: Session | str | None, meta: Mapping[str, str]) -> None:
        """Set the metadata of a session of this node, in place of the older metadata.

        Args:
            session: The session, or its id; None: the session of the call that is being handled.
            meta: Names and values, at most `ClusterLimits.max_meta` bytes.

        Raises:
            SessionGone: There is no such session on this node.
        """
        self._node.set_meta(session, meta)

    async def revoke(self, principal: Any) -> int:
        """End all sessions of a principal, on every node; see `Server.revoke`.

        It is repeated by itself at nodes that could not be reached, as soon as they can be, for as
        long as this node runs. A node that counts as dead may only have been cut off from NATS: it
        is told when it is back, and is no error here.

        Args:
            principal: The principal, or its key.

        Returns:
            The number of sessions that it ended.

        Raises:
            RpcError: `unavailable`: some nodes were not reached yet; the message names them.
            ClusterConfigError: The principal has no key that other nodes would know.
        """
        network = self._node.network
        if network is None:
            return self._node.server.revoke(principal)
        # A string may be a principal or the key of one; each node finds out.
        key = key_of_principal(principal)
        if isinstance(principal, str):
            key = principal
        ended = self._node.server.revoke(principal)
        more, missed = await network.revoking.revoke(key)
        if missed:
            raise RpcError(
                Code.UNAVAILABLE,
                f"not revoked on the nodes {', '.join(missed)} yet: they are told when they are back",
            )
        return ended + more

    async def drain(self, grace: float | None = None) -> None:
        """Let this node go without breaking calls: see `Server.drain`.

        Other nodes give its workers no more calls. Its clients, and the streams that they follow,
        go on at other nodes. Running calls are finished within the grace.

        Args:
            grace: Seconds for calls to finish; `Limits.drain_grace` if left out.
        """
        await self._node.server.drain(grace)

    def snapshot(self) -> ClusterSnapshot:
        """This node's counts and holdings at this moment."""
        return ClusterSnapshot(
            members=len(self._node.directory),
            members_refused=self._node.directory.refused,
            pools=len(self._pools),
            topics=len(self._topics),
            topic_bytes=self._topics.bytes,
            watchers=self.presence.watchers,
            nodes=dict(Counter(node.state for node in self.nodes.values())),
            forwarded=0 if self._node.forwarding is None else self._node.forwarding.live,
            **({} if self._node.network is None else self._node.network.counters()),
        )


def _bus(bus: Bus | str | Sequence[str] | None, name: str, pending: int) -> Bus | None:
    if bus is None:
        return None
    if isinstance(bus, str | Sequence):
        from .bus.nats import NatsBus

        return NatsBus(bus, name=name, pending=pending)
    if isinstance(bus, type) or not (hasattr(bus, "publish") and hasattr(bus, "subscribe")):
        raise ClusterConfigError(
            "bus must be a URL of NATS such as nats://10.0.0.5:4222, a list of them, or a bus such "
            f"as NatsBus(url, …), not {bus!r:.80}"
        )
    return bus
