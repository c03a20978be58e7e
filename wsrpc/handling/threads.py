"""The threads in which plain functions and plain generators run, shared out fairly.

A server has one pool for functions and one for generators, and so has a connecting session. A call
that was made while another call is being handled never waits for a thread: the functions in all
threads may be waiting for it.
"""

from __future__ import annotations

import math
from collections import deque

import anyio

from ..errors import Code, RpcError
from ..limits import Limits

__all__ = ["NoThreadError", "Place", "Pool", "Threads"]


class NoThreadError(RpcError[None]):
    """No thread was free for a call that must not wait for one; nothing of it has run."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.RESOURCE_EXHAUSTED, message)


class Place:
    """A thread's place in a pool, which is given back once.

    Args:
        pool: The pool.
        session: The session that has it.
        extra: Whether it is one of the places beyond the bound.
    """

    __slots__ = ("extra", "pool", "session")

    def __init__(self, pool: Pool, session: object, *, extra: bool) -> None:
        self.pool = pool
        self.session = session
        self.extra = extra

    def give_back(self) -> None:
        """Give the place back: the thread is free again."""
        self.pool.give_back(self)


class _Waiting:
    """One call that waits for a place."""

    __slots__ = ("event", "place")

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.place: Place | None = None


class Pool:
    """The threads of one kind: their bound, and the order in which calls get them.

    Beyond the bound there are as many threads again. They serve nested calls, and half of them
    serve sessions that hold no thread at all. So slow functions of one session do not hold up all
    others.

    Args:
        most: Threads. The bound.
        name: The name of the limit, for messages.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._running = 0
        self._extra = 0
        self._held: dict[object, int] = {}
        self._waiting: dict[object, deque[_Waiting]] = {}

    @property
    def running(self) -> int:
        """Threads in use."""
        return self._running + self._extra

    async def take(self, session: object, *, nested: bool) -> Place:
        """Wait for a place.

        Args:
            session: The session that asks.
            nested: Whether the caller may hold a thread for as long as this takes.

        Raises:
            NoThreadError: No place is left for a nested call.
        """
        place = self._take_now(session, nested=nested)
        if place is not None:
            return place
        if nested:
            raise NoThreadError(
                f"all threads for nested calls are taken ({self._name}), and a call made while "
                "handling another one does not wait"
            )
        waiting = _Waiting()
        queue = self._waiting.setdefault(session, deque())
        queue.append(waiting)
        try:
            await waiting.event.wait()
        except BaseException:
            if waiting.place is not None:
                waiting.place.give_back()
            else:
                queue.remove(waiting)
                if not queue and self._waiting.get(session) is queue:
                    del self._waiting[session]
            raise
        assert waiting.place is not None
        return waiting.place

    def _take_now(self, session: object, *, nested: bool) -> Place | None:
        if self._running < self._most:
            return self._enter(session, extra=False)
        newcomer = session not in self._held and self._extra < max(1, self._most // 2)
        if newcomer or (nested and self._extra < self._most):
            return self._enter(session, extra=True)
        return None

    def _enter(self, session: object, *, extra: bool) -> Place:
        self._held[session] = self._held.get(session, 0) + 1
        if extra:
            self._extra += 1
        else:
            self._running += 1
        return Place(self, session, extra=extra)

    def give_back(self, place: Place) -> None:
        """Free a thread: the waiting session that holds the fewest gets it."""
        left = self._held[place.session] - 1
        if left:
            self._held[place.session] = left
        else:
            del self._held[place.session]
        if place.extra:
            self._extra -= 1
        else:
            self._running -= 1
        while self._waiting:
            session = min(self._waiting, key=lambda one: self._held.get(one, 0))
            granted = self._take_now(session, nested=False)
            if granted is None:
                return
            queue = self._waiting[session]
            waiting = queue.popleft()
            # Among sessions that hold equally many, the next turn is another one's.
            del self._waiting[session]
            if queue:
                self._waiting[session] = queue
            waiting.place = granted
            waiting.event.set()


class Threads:
    """The threads of one server, or of one connecting session.

    Args:
        limits: Its bounds.

    Attributes:
        functions: The threads for plain functions.
        generators: The threads for plain generators; each holds one from its first step to its
            last.
    """

    def __init__(self, limits: Limits) -> None:
        self.functions = Pool(limits.max_threads, "max_threads")
        self.generators = Pool(limits.max_generator_threads, "max_generator_threads")
        self._limiter: anyio.CapacityLimiter | None = None

    @property
    def limiter(self) -> anyio.CapacityLimiter:
        """The limiter for anyio, without a bound of its own: a pool has let the thread in."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(math.inf)
        return self._limiter
