"""The bounds of a cluster, all in one documented class."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from ..limits import MAX_CREDIT

__all__ = ["ClusterLimits"]

# The least value of each bound, where that is not 1.
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
    # With a smaller bound, each message with a piece of a value would have to wait for an answer.
    "tunnel_replay": 72 << 10,
    # A larger message than fits would never arrive.
    "link_pending": 258 << 10,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterLimits:
    """The bounds of a cluster's node: the things that it holds and sends, and its waits.

    Attributes:
        beat: Seconds from one sign of life of a node to the next. At least 0.1.
        suspect: Seconds of silence after which a node is asked whether it lives. At least 0.15.
        grace: Seconds from the first answer that no subscriber listens at a node to the verdict
            that it is dead. At least 0.2.
        dead_after: Seconds of silence after which a node counts as dead, while NATS answers. At
            least 0.5; a node that was killed is found sooner.
        reconnecting: Seconds after this node's or another one's return to NATS in which the answer
            that no subscriber listens there is no proof of death.
        max_nodes: Nodes. Further ones are not taken in.
        max_members: Sessions of all nodes in the directory; further ones are not listed.
        max_groups: Groups that a session may be in.
        max_meta: Bytes of the metadata of a member or of a node, names and values together.
        max_name: Characters in the name of a group, a pool or a topic.
        fan: Members of a group that are written to at a time, for one call.
        member_timeout: Seconds that a member has to make room for a group's call or notification.
        member_window: Items of credit that each member of a group's stream gets.
        max_watch: Watchers of presence on a node.
        max_topics: Topics that a node holds.
        topic_items: Items in the history of a topic that sets no bound of its own.
        topic_bytes: Bytes in the history of a topic that sets no bound of its own.
        max_topic_bytes: Bytes in the histories of all topics on a node. Beyond that the topic that
            was read least recently drops its oldest items.
        unacknowledged: Items that a producer has published and JetStream has not acknowledged.
        replicas: Copies of a topic that JetStream keeps.
        ahead: Seconds that a reader waits for an item that its node should get soon.
        tunnel_replay: Bytes of frames that are kept of a session between two nodes until the other
            node has them. At least 72 KiB.
        tunnel_outbox: Bytes that may wait in such a session's outbox; while more wait, no credit is
            passed on.
        tunnel_idle: Seconds after which a session between two nodes without calls is closed.
        tunnel_calls: Calls that such a session carries at a time. At least 8. When three quarters
            of them run, there is one session more.
        tunnels: Sessions with one node in one codec.
        inbound_bytes: Bytes that all links into this node may hold before its sessions take them.
            Beyond that a client's link that another node passes on is closed with 1013, and a link
            of a session between nodes is replaced.
        relay_waiting: Calls from other nodes to one session that it has not begun to read.
        relay_bytes: Bytes of the arguments of such calls.
        slot_timeout: Seconds that a call from another node waits for a slot of its session.
        link_pending: Bytes that may wait in this process for one subscription of NATS. At least
            258 KiB.
        worker_grace: Seconds that a worker of a pool may be without its connection before its calls
            go to another worker, if their policy allows that.
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
            known = int if isinstance(field.default, int) else int | float
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
                raise ValueError(
                    f"ClusterLimits.{field.name} must be at least {least}, not {value!r}"
                )
            if not isinstance(value, known):
                raise ValueError(
                    f"ClusterLimits.{field.name} must be a whole number, not {value!r}"
                )
        if self.beat == math.inf:
            raise ValueError("ClusterLimits.beat must be a finite number of seconds")
        if self.member_window > MAX_CREDIT:
            raise ValueError(f"ClusterLimits.member_window must be at most {MAX_CREDIT}")
        if self.suspect < self.beat:
            raise ValueError(
                "ClusterLimits.suspect must be at least beat, or every node would be suspect"
            )
