"""Merging many sources into one stream, in the order in which items come."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeAlias

import anyio
from typing_extensions import TypeVar

from ..options import checked_seconds
from ..runtime import Future, Task
from ..stream import NoItemYet, Stream
from .node import Node

__all__ = ["Merged", "Put"]

T = TypeVar("T")

Put: TypeAlias = Callable[[T], Awaitable[None]]
Source: TypeAlias = Callable[[Put[Any]], Coroutine[Any, Any, None]]


class Merged(Stream[T]):
    """Runs sources side by side; none begins before the first item is asked for.

    Args:
        node: The node that owns the tasks.
        label: The name of the stream in messages.
        sources: Functions. Each gets a function that takes an item, and waits until there is room.
            An exception of a source is raised here, once all items before it have been taken.
        most: Items that may wait here; beyond that sources wait.
    """

    __slots__ = (
        "_failure",
        "_items",
        "_left",
        "_most",
        "_node",
        "_room",
        "_sources",
        "_tasks",
        "_waiter",
    )

    def __init__(self, node: Node, label: str, sources: Sequence[Source], *, most: int) -> None:
        super().__init__(label)
        self._node = node
        self._sources: Sequence[Source] | None = sources
        self._most = most
        self._items: deque[T] = deque()
        self._room: deque[Future] = deque()
        self._tasks: dict[Task, Future] = {}
        self._left = 0
        self._waiter: Future | None = None
        self._failure: BaseException | None = None

    async def __anext__(self) -> T:
        if self._waiter is not None:
            self._refuse_second()
        self._start()
        while not self._items:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                await self.aclose()
                raise failure
            if self._left == 0:
                self._finish()
                raise StopAsyncIteration
            self._waiter = self._node.runtime.future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._room:
            _settle(self._room.popleft())
        return self._items.popleft()

    async def next(self, timeout: float | None = None) -> T:
        checked_seconds("timeout", timeout)
        # Nothing is lost with the wait, since an item is taken without one.
        with anyio.move_on_after(timeout):
            return await self.__anext__()
        raise NoItemYet(f"{self._label}: no item came in time")

    def _start(self) -> None:
        sources, self._sources = self._sources, None
        for source in sources or ():
            done = self._node.runtime.future()
            self._left += 1
            self._tasks[self._node.nursery.spawn(self._run, source, done)] = done

    async def _run(self, source: Source, done: Future) -> None:
        try:
            await source(self._put)
        except Exception as failure:  # noqa: BLE001  (raised where the items are taken)
            self._failure = self._failure or failure
        finally:
            self._left -= 1
            _settle(done)
            self._wake()

    async def _put(self, item: T) -> None:
        while len(self._items) >= self._most:
            room = self._node.runtime.future()
            self._room.append(room)
            await room
        self._items.append(item)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None:
            _settle(self._waiter)

    def cancel(self) -> None:
        self._sources = ()
        self._items.clear()
        for task, done in self._tasks.items():
            if not done.done():
                task.cancel()

    async def aclose(self) -> None:
        self.cancel()
        await self._node.runtime.to_the_end(self._ended)

    async def _ended(self) -> None:
        tasks, self._tasks = self._tasks, {}
        for done in tasks.values():
            if not done.done():
                await done


def _settle(future: Future) -> None:
    if not future.done():
        future.set_result(None)
