"""Every bound of a cluster in one documented place."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["ClusterLimits"]

# The least that each may be, where that is not 1.
FLOORS = {
    "beat": 0.1,
    "suspect": 0.15,
    "grace": 0.2,
    "dead_after": 0.5,
    "member_timeout": 0.01,
    "reconnecting": 0,
    "ahead": 0,
    "slot_timeout": 0.01,
    "tunnel_calls": 8,
    "tunnel_idle": 0.1,
    "worker_grace": 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterLimits:
    """How much a node of a cluster holds and sends, and how long it waits.

    Attributes:
        beat: Seconds from one sign of life of a node to the next. At least 0.1.
        suspect: Seconds of silence after which a node is asked whether it lives. At least 0.15.
        grace: Seconds from the first answer that nobody listens there to the verdict that the node
            is dead. At least 0.2.
        dead_after: Seconds of silence after which a node counts as dead, while NATS answers. At
            least 0.5; a node that was killed is found sooner.
        reconnecting: Seconds after this node's or another one's return to NATS in which "nobody
            listens there" is no proof of death.
        max_nodes: Nodes. Further ones are not taken in.
        max_members: Sessions of all nodes in the directory; further ones are not listed.
        max_groups: Groups that a session may be in.
        max_meta: Bytes. The metadata of a member or of a node, names and values together.
        max_name: Characters. The name of a group, a pool or a topic.
        fan: Members of a group that are written to at a time, for one call.
        member_timeout: Seconds that a member has to make room for a group's call or notification.
        member_window: Items. The credit of each member of a group's stream.
        max_watch: Watchers of presence on a node.
        max_topics: Topics that a node holds.
        topic_items: Items. The history of a topic, where it names none.
        topic_bytes: Bytes. The same.
        max_topic_bytes: Bytes. The histories of all topics on a node; beyond that the one that
            was read least recently lets go of its oldest items.
        unacknowledged: Items that a producer has published and JetStream has not acknowledged.
        replicas: Copies of a topic that JetStream keeps.
        ahead: Seconds that a reader waits for an item that its node should get soon.
        tunnel_replay: Bytes. What is kept of a session between two nodes until the other has it.
        tunnel_outbox: Bytes. What may wait there; while more waits, no credit is passed on.
        tunnel_idle: Seconds after which a session between two nodes without calls is closed.
        tunnel_calls: Calls that such a session carries at a time. At least 8. When three quarters
            of them run, there is one session more.
        tunnels: Sessions to one node and of one codec.
        inbound_bytes: Bytes. What all links into this node may hold that its sessions have not
            taken. Beyond that a client's link that another node passes on is closed with 1013, and
            a link of a session between nodes is replaced.
        relay_waiting: Calls to one session, from other nodes, that it has not begun to read.
        relay_bytes: Bytes. The arguments of those.
        slot_timeout: Seconds that a call from another node waits for a slot of its session.
        link_pending: Bytes. What may wait in this process for one subscription of NATS.
        worker_grace: Seconds that a worker of a pool may be without its connection before the calls
            that it has go to another, as far as their policy allows.
        pool_waiting: Calls on a node that wait for a worker of one pool.
    """

    beat: float = 0.5
    suspect: float = 0.75
    grace: float = 0.6
    dead_after: float = 8.0
    reconnecting: float = 5.0
    max_nodes: int = 64
    max_members: int = 1_000_000
    max_groups: int = 64
    max_meta: int = 1024
    max_name: int = 256
    fan: int = 256
    member_timeout: float = 1.0
    member_window: int = 8
    max_watch: int = 1000
    max_topics: int = 10_000
    topic_items: int = 1000
    topic_bytes: int = 8 << 20
    max_topic_bytes: int = 256 << 20
    unacknowledged: int = 256
    replicas: int = 1
    ahead: float = 5.0
    tunnel_replay: int = 256 << 10
    tunnel_outbox: int = 4 << 20
    tunnel_idle: float = 60.0
    tunnel_calls: int = 16_384
    tunnels: int = 8
    inbound_bytes: int = 32 << 20
    relay_waiting: int = 256
    relay_bytes: int = 1 << 20
    slot_timeout: float = 30.0
    link_pending: int = 16 << 20
    worker_grace: float = 5.0
    pool_waiting: int = 10_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), FLOORS.get(field.name, 1)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
                raise ValueError(
                    f"ClusterLimits.{field.name} must be at least {least}, not {value!r}"
                )
        if self.suspect < self.beat:
            raise ValueError("ClusterLimits.suspect must be at least beat: every node would be one")
