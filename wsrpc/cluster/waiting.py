"""The values and calls that wait until a session takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from ..engine.hub import Hub

__all__ = ["Turns", "Unread"]


class Waiting:
    """The calls and bytes that wait for one session, and that it has not begun to read."""

    __slots__ = ("bytes", "calls")

    def __init__(self) -> None:
        self.calls = 0
        self.bytes = 0


class Unread:
    """The calls that are passed on to sessions which have not begun to read them.

    Args:
        calls: As many for one session.
        size: Bytes of their arguments for one session. A single call always fits.

    Attributes:
        refused: Calls for which there was no room.
    """

    __slots__ = ("_calls", "_size", "_waiting", "refused")

    def __init__(self, calls: int, size: int) -> None:
        self.refused = 0
        self._calls = calls
        self._size = size
        self._waiting: dict[Hub, Waiting] = {}

    def admit(self, hub: Hub, size: int) -> bool:
        """Reserve room for one more call that the target has not taken; False if there is none."""
        waiting = self._waiting.setdefault(hub, Waiting())
        too_large = waiting.calls and waiting.bytes + size > self._size
        if waiting.calls >= self._calls or too_large or hub.endpoint.crowded:
            self.refused += 1
            if not waiting.calls:
                del self._waiting[hub]
            return False
        waiting.calls += 1
        waiting.bytes += size
        return True

    def taken(self, hub: Hub, size: int) -> None:
        """Free the room of a call that the target has taken, or that is over."""
        waiting = self._waiting[hub]
        waiting.calls -= 1
        waiting.bytes -= size
        if not waiting.calls:
            del self._waiting[hub]


class Turns:
    """The values that wait until a session has room for them, first come, first served.

    A session has room while fewer bytes than its outbox holds have yet to go, those of values in
    chunks included. So a peer that reads nothing makes a node hold one outbox and one value for
    it; all else stays with the peer that it comes from, or counts as held for that peer.
    """

    __slots__ = ("_asked", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[Hub, deque[Callable[[], None]]] = {}
        # The hubs that will call `_go` when they have room.
        self._asked: set[Hub] = set()

    def room(self, hub: Hub) -> bool:
        """Whether a session has room for one more value, and no other value waits for it."""
        return hub not in self._waiting and hub.endpoint.outgoing < hub.limits.outbox

    def wait(self, hub: Hub, go: Callable[[], None]) -> None:
        """Call `go` when the session has room, or has ended."""
        self._waiting.setdefault(hub, deque()).append(go)
        self._ask(hub)

    def _ask(self, hub: Hub) -> None:
        if hub not in self._asked:
            self._asked.add(hub)
            hub.block(partial(self._go, hub))

    def _go(self, hub: Hub) -> None:
        self._asked.discard(hub)
        waiting, endpoint = self._waiting.pop(hub), hub.endpoint
        while waiting and (hub.lost is not None or endpoint.outgoing < hub.limits.outbox):
            waiting.popleft()()
        if waiting:
            # Values that wait once more come after the values that have not had their turn.
            waiting += self._waiting.get(hub, ())
            self._waiting[hub] = waiting
            self._ask(hub)
