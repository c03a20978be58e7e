"""Events of a cluster, as an operator gets them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..options import checked_plain
from ..telemetry.logs import everyone

__all__ = ["ClusterEvent", "EventKind", "Events", "OnEvent"]

EventKind: TypeAlias = Literal[
    "node_up",
    "node_suspect",
    "node_draining",
    "node_dead",
    "node_left",
    "bus_up",
    "bus_down",
    "link_gap",
    "foreign",
]


@dataclass(frozen=True, slots=True)
class ClusterEvent:
    """Something that has happened in a cluster, as this node sees it.

    Attributes:
        kind: "node_up", "node_suspect", "node_draining", "node_dead" and "node_left": another node
            is now in that state. "bus_up" and "bus_down": this node's connection to NATS. "link_gap":
            a message between two nodes was lost, and the session goes on over another link.
            "foreign": a node of this cluster's name that seems to belong to another cluster.
        node: The id of the node that it is about.
        message: The same in words.
    """

    kind: EventKind
    node: str
    message: str


OnEvent: TypeAlias = Callable[[ClusterEvent], None]
"""Told of each event, on the event loop; it must not block."""


class Events:
    """Tells the application of events; an exception of its function is logged."""

    def __init__(self, on_event: OnEvent | None) -> None:
        checked_plain("on_event", on_event, "event")
        self._on_event = on_event

    def tell(self, kind: EventKind, node: str, message: str) -> None:
        """Tell one event."""
        if self._on_event is None:
            return
        try:
            self._on_event(ClusterEvent(kind, node, message))
        except Exception as error:  # noqa: BLE001  (the application's, and nobody waits for it)
            everyone.error("on_event of a cluster failed", error=error)
