"""The loads of workers: each node counts the calls of its own workers, and tells the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import anyio
import msgspec

from .members import BAD_JSON, is_id

__all__ = ["PAUSE", "Loads"]

# Seconds between two messages of a node: at most 20 a second.
PAUSE = 0.05

# Workers in one message.
TOGETHER = 500

# Beats after which a count is out of date; the count of a busy worker is sent anew in each.
FRESH = 3


class Told(msgspec.Struct):
    """The calls of some workers: session, pool, and calls by node."""

    n: str
    b: list[tuple[str, str, dict[str, int]]]


class Loads:
    """The calls that workers have, by the node that made them.

    A message may be lost without harm: the node of a worker bounds its calls by its capacity.

    Args:
        node: This node's id.
        beat: Seconds from one sign of life of a node to the next.
        owner: The node of a worker of a pool; None where it is no worker.

    Attributes:
        on_less: Called with a pool if a worker of it on another node has become less busy.
    """

    def __init__(self, node: str, beat: float, owner: Callable[[str, str], str | None]) -> None:
        self.on_less: Callable[[str], None] = _nothing
        self._node = node
        self._beat = beat
        self._owner = owner
        self._own: dict[tuple[str, str], dict[str, int]] = {}
        # For workers of other nodes: the calls of other nodes, and the time until which the count
        # is valid.
        self._others: dict[tuple[str, str], tuple[int, float]] = {}
        self._workers: dict[str, set[tuple[str, str]]] = {}
        self._changed: set[tuple[str, str]] = set()
        self._event: anyio.Event | None = None

    # ------------------------------------------------------------ workers of this node

    def count(self, pool: str, session: str, caller: str, more: int) -> None:
        """Count calls of a node in or out for a worker of this node."""
        key = pool, session
        calls = self._own.setdefault(key, {})
        left = calls.get(caller, 0) + more
        if left > 0:
            calls[caller] = left
        else:
            calls.pop(caller, None)
            if not calls:
                del self._own[key]
        if self._event is not None:
            self._changed.add(key)
            self._event.set()
        if more < 0 and caller != self._node:
            self.on_less(pool)

    def total(self, pool: str, session: str) -> int:
        """Calls of all nodes that a worker of this node has."""
        return sum(self._own.get((pool, session), {}).values())

    # ------------------------------------------------------------ all workers

    def others(self, pool: str, session: str, now: float) -> int:
        """Calls of other nodes that a worker has, as far as this node knows."""
        own = self._own.get((pool, session))
        if own is not None:
            return sum(own.values()) - own.get(self._node, 0)
        told, until = self._others.get((pool, session), (0, 0.0))
        return told if now < until else 0

    def forget(self, session: str) -> None:
        """Forget a session that is gone."""
        for key in self._workers.pop(session, ()):
            self._others.pop(key, None)

    # ------------------------------------------------------------ over the bus

    async def changes(self) -> None:
        """Wait until counts have changed."""
        if self._event is None:
            self._event = anyio.Event()
        with anyio.move_on_after(self._beat):
            await self._event.wait()
            self._event = anyio.Event()
            return
        # Nodes that have missed a message, or are new, get the counts again.
        self._changed.update(self._own)

    def messages(self) -> Iterator[bytes]:
        """The messages with changed counts."""
        changed, self._changed = list(self._changed), set()
        for at in range(0, len(changed), TOGETHER):
            told = [
                (session, pool, dict(self._own.get((pool, session), {})))
                for pool, session in changed[at : at + TOGETHER]
            ]
            yield msgspec.json.encode(Told(self._node, told))

    def heard(self, data: bytes, now: float) -> bool:
        """Take a message of another node; returns False if it is none."""
        try:
            told = msgspec.json.decode(data, type=Told)
        except BAD_JSON:
            return False
        if not is_id(told.n) or told.n == self._node:
            return is_id(told.n)
        for session, pool, calls in told.b:
            if self._owner(pool, session) != told.n:
                # The session becomes known later, by the directory.
                continue
            others = sum(n for node, n in calls.items() if node != self._node and n > 0)
            before = self.others(pool, session, now)
            self._others[pool, session] = others, now + FRESH * self._beat
            self._workers.setdefault(session, set()).add((pool, session))
            for _ in range(before - others):
                self.on_less(pool)
        return True


def _nothing(pool: str) -> None:
    """Do nothing."""
