"""What can go wrong between nodes, each with a class of its own."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from ..errors import Code, ConnectionLost, RpcError

__all__ = [
    "BusDown",
    "BusError",
    "BusTimeout",
    "ClusterConfigError",
    "NoMember",
    "NoResponders",
    "NodeLost",
    "SessionGone",
    "Superseded",
    "TopicGap",
    "TopicTaken",
]


class SessionGone(RpcError[Any]):
    """There is no such session: it has ended, or its node is gone. The call has not begun.

    It is never repeated: the id of a session names that session and no other.
    """

    def __init__(self, message: str = "there is no such session", data: Any = None) -> None:
        super().__init__(Code.UNAVAILABLE, message, data)
        self.not_started = True


class NodeLost(ConnectionLost):
    """A node died, or left, with the call under way; whether the call began is `not_started`.

    Attributes:
        close_code: The WebSocket close code of the link between the nodes.
        close_reason: Why it ended.
    """


class NoMember(RpcError[Any]):
    """A group, a principal or a pool has nobody who could take the call; it has not begun."""

    def __init__(self, message: str = "there is no member", data: Any = None) -> None:
        super().__init__(Code.UNAVAILABLE, message, data)
        self.not_started = True


class Gap(TypedDict):
    """Where a reader of a topic cannot go on.

    Attributes:
        asked: The position after which it wanted to go on.
        first: The oldest position that is left.
        last: The newest one.
        why: "epoch": the history began anew; "evicted": the limits let the items go; "ahead": no
            node has got that far; "superseded": another producer has taken over.
    """

    asked: str
    first: str
    last: str
    why: str


class TopicGap(RpcError[Gap]):
    """Items that a reader of a topic has asked for are gone; `data` says which, and why.

    `subscribe(on_gap="snapshot")` goes on with a snapshot instead.
    """

    def __init__(self, gap: Gap) -> None:
        message = (
            f"the items after {gap['asked']} are gone ({gap['why']}): the history goes from "
            f"{gap['first']} to {gap['last']}; subscribe with on_gap='snapshot' to go on there"
        )
        super().__init__(Code.DATA_LOSS, message, gap)


class TopicTaken(RpcError[Any]):
    """The topic has a producer; `produce(standby=True)` waits until it has none."""

    def __init__(self, message: str = "the topic has a producer", data: Any = None) -> None:
        super().__init__(Code.ALREADY_EXISTS, message, data)


class Superseded(RpcError[Any]):
    """Another producer has taken over the topic; what this one publishes is refused."""

    def __init__(self, message: str = "another producer has taken over", data: Any = None) -> None:
        super().__init__(Code.ABORTED, message, data)


class ClusterConfigError(ValueError):
    """The cluster, its bus or a principal is not set up as it has to be; the message says how."""


class BusError(Exception):
    """The bus between the nodes did not do what it was asked for."""


class BusDown(BusError):
    """There is no connection to the bus at the moment; nothing was sent."""


class BusTimeout(BusError):
    """A request over the bus was not answered in time."""


class NoResponders(BusError):
    """Nobody who is connected to the bus listens to that subject."""
