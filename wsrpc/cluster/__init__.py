"""Groups, presence, pools and shared streams: within one process, or over many by NATS."""

from __future__ import annotations

from .bus.local import LocalBroker, LocalBus
from .cluster import Cluster, ClusterSnapshot
from .directory import Member, PresenceChange
from .errors import (
    BusDown,
    BusError,
    BusTimeout,
    ClusterConfigError,
    NodeLost,
    NoMember,
    NoResponders,
    SessionGone,
    Superseded,
    TopicGap,
    TopicTaken,
)
from .events import ClusterEvent
from .limits import ClusterLimits
from .members import NodeInfo
from .pools import Pool, PoolStats
from .presence import Presence
from .ring import Snapshot
from .targets import From, Group, Reply, Sent, Target
from .topics import Producer, Topic

__all__ = [
    "BusDown",
    "BusError",
    "BusTimeout",
    "Cluster",
    "ClusterConfigError",
    "ClusterEvent",
    "ClusterLimits",
    "ClusterSnapshot",
    "From",
    "Group",
    "LocalBroker",
    "LocalBus",
    "Member",
    "NoMember",
    "NoResponders",
    "NodeInfo",
    "NodeLost",
    "Pool",
    "PoolStats",
    "Presence",
    "PresenceChange",
    "Producer",
    "Reply",
    "Sent",
    "SessionGone",
    "Snapshot",
    "Superseded",
    "Target",
    "Topic",
    "TopicGap",
    "TopicTaken",
]
