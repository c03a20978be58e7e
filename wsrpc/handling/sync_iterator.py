"""Plain generators as async iterators: each runs in one thread from its first step to its last."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import islice
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import anyio
import anyio.to_thread

from ..engine.hub import Hub
from ..runtime import Future
from ..runtime.by_hand import as_fault
from .threads import Place, Threads

__all__ = ["ThreadIterator"]

T = TypeVar("T")

# Seconds for which a plain generator runs ahead in its thread, to save hops for the next items.
THREAD_SLICE = 0.001


class Undisturbed(Protocol):
    """Awaits an awaitable without being cancelled."""

    def __call__(self, wait: Awaitable[T], /) -> Awaitable[T]: ...


class ThreadIterator:
    """A plain iterator as an async one, in a thread and a context of its own.

    The iterator keeps both from its first step until it is closed. So a lock or a cursor that it
    holds across its yields stays with one thread. A step takes as many items as come within a
    millisecond, but never more than the stream has credit for, so a fast generator costs one hop
    for many items. Items can be taken while the step still runs, so a slow generator delays none.

    Args:
        hub: The session's.
        make: Makes the iterator; called in the thread.
        threads: The threads, one of which runs it.
        take: Waits for a thread.
        credit: Gives the items for which the stream has credit now.
        stopped: Tells whether the stream was stopped; asked in the thread.
        undisturbed: Awaits a thread, while the handler must not be cancelled.
    """

    def __init__(
        self,
        hub: Hub,
        make: Callable[[], Iterator[Any]],
        *,
        threads: Threads,
        take: Callable[[], Awaitable[Place]],
        credit: Callable[[], int],
        stopped: Callable[[], bool],
        undisturbed: Undisturbed,
    ) -> None:
        self._hub = hub
        self._make = make
        self._threads = threads
        self._take = take
        self._credit = credit
        self._stopped = stopped
        self._undisturbed = undisturbed
        self._iterator: Iterator[Any] | None = None
        self._ready: deque[Any] = deque()
        # The number of items that each step may take; None: close the iterator.
        self._orders: SimpleQueue[int | None] = SimpleQueue()
        self._error: BaseException | None = None
        self._running = False
        self._over = False
        self._begun = False
        self._gone = False
        self._closed = False
        self._waiter: Future | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        while not self._ready:
            if not self._running:
                if self._error is not None:
                    error, self._error = self._error, None
                    try:
                        raise error
                    finally:
                        # Its traceback holds this frame.
                        del error
                if self._over or self._closed:
                    raise StopAsyncIteration
                if not self._begun:
                    place = await self._take()
                    self._begun = True
                    self._hub.nursery.spawn(self._hold, place)
                self._running = True
                self._orders.put(max(1, self._credit()))
            await self._news()
        return self._ready.popleft()

    async def _news(self) -> None:
        self._waiter = waiter = self._hub.runtime.future()
        await waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _stepped(self) -> None:
        self._running = False
        self._wake()

    async def _hold(self, place: Place) -> None:
        """Keep the thread until the iterator is closed."""
        try:
            await anyio.to_thread.run_sync(self._work, limiter=self._threads.limiter)
        finally:
            # The thread has to end however this task ends.
            self._orders.put(None)
            place.give_back()
            self._gone = True
            self._stepped()

    # ---------------------------------------------------------------- in the thread

    def _work(self) -> None:
        while (allowance := self._orders.get()) is not None:
            self._advance(allowance)
            self._hub.runtime.call_threadsafe(self._stepped)
        close = getattr(self._iterator, "close", None)
        if close is not None:
            try:
                close()
            except BaseException as error:  # noqa: BLE001  (raised by `aclose`)
                self._error = as_fault(error, "the generator")

    def _advance(self, allowance: int) -> None:
        """One step."""
        ready = self._ready
        until = time.monotonic() + THREAD_SLICE
        try:
            if self._iterator is None:
                # A method that only returns an iterator may block before it does.
                self._iterator = iter(self._make())
            for item in islice(self._iterator, allowance):
                ready.append(item)
                if len(ready) == 1:
                    # The stream may be waiting for just this item, and the next one may take long.
                    self._hub.runtime.call_threadsafe(self._wake)
                if time.monotonic() >= until or self._stopped():
                    return
                allowance -= 1
            self._over = allowance > 0
        except BaseException as error:  # noqa: BLE001  (raised after the items before it)
            self._error = as_fault(error, "the generator")
            self._over = True

    # ---------------------------------------------------------------- the end

    async def aclose(self) -> None:
        self._closed = True
        if not self._begun:
            return
        # A step cannot be cancelled, and the generator cannot be closed while it runs.
        self._error = None
        self._orders.put(None)
        with anyio.CancelScope(shield=True):
            while not self._gone:
                await self._undisturbed(self._news())
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error
