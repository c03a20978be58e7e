"""The errors of a cluster."""

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
    "gone_error",
]


# Errors by which one node tells another something about itself, not about the session that was
# called. No session can send them, and they are raised at the caller as if its own node had raised
# them.
REFUSED = "wsrpc.node"
OWN_ERRORS = frozenset((REFUSED, "SessionGone", "ConnectionLost", "NodeLost"))


class SessionGone(RpcError[Any]):
    """There is no such session: it has ended, or its node is gone. The call has not begun.

    The call is never repeated: the id of a session names only that session.
    """

    def __init__(self, message: str = "there is no such session", data: Any = None) -> None:
        super().__init__(Code.UNAVAILABLE, message, data)
        self.not_started = True


class NodeLost(ConnectionLost):
    """A node died, or left, with the call under way; `not_started` tells whether the call began.

    Attributes:
        close_code: The WebSocket close code of the link between the nodes.
        close_reason: The reason why it ended.
    """


class NoMember(RpcError[Any]):
    """A group, principal or pool has no member that could take the call; it has not begun."""

    def __init__(self, message: str = "there is no member", data: Any = None) -> None:
        super().__init__(Code.UNAVAILABLE, message, data)
        self.not_started = True


class Gap(TypedDict):
    """The data of `TopicGap`: the place where a reader of a topic cannot go on.

    Attributes:
        asked: The position after which the reader wanted to go on.
        first: The oldest position that is left.
        last: The newest position.
        why: The cause. "epoch": the history began anew; "evicted": the limits dropped the items;
            "ahead": no node has got that far; "superseded": another producer has taken over.
    """

    asked: str
    first: str
    last: str
    why: str


class TopicGap(RpcError[Gap]):
    """Items that a reader of a topic asked for are gone; `data` names them and the cause.

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
    """Another producer has taken over the topic; items of this one are refused."""

    def __init__(self, message: str = "another producer has taken over", data: Any = None) -> None:
        super().__init__(Code.ABORTED, message, data)


class ClusterConfigError(ValueError):
    """The cluster, its bus or a principal is configured wrongly; the message tells the cure."""


class BusError(Exception):
    """An operation of the bus between the nodes failed."""


class BusDown(BusError):
    """There is no connection to the bus at the moment; no message was sent."""


class BusTimeout(BusError):
    """A request over the bus was not answered in time."""


class NoResponders(BusError):
    """No subscriber on the bus listens to that subject."""


def gone_error(what: str) -> RpcError[Any]:
    """`unavailable`: the node that was asked has left its cluster, or is about to leave."""
    error: RpcError[Any] = RpcError(
        Code.UNAVAILABLE, f"this node has left the cluster, or is about to: {what}"
    )
    error.not_started = True
    return error
