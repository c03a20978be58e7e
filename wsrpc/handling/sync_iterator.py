"""Sync generators as async iterators: each step runs in a worker thread."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import islice
from typing import Any, Protocol, TypeVar

import anyio

from ..engine.hub import Hub
from ..runtime import Future
from ..runtime.by_hand import as_fault

__all__ = ["ThreadIterator"]

T = TypeVar("T")

# Seconds for which a sync generator runs ahead in its thread, to save hops for the next items.
THREAD_SLICE = 0.001


class Undisturbed(Protocol):
    """Awaits what nothing can cancel."""

    def __call__(self, wait: Awaitable[T], /) -> Awaitable[T]: ...


class ThreadIterator:
    """A sync iterator as an async one: each step runs in a worker thread.

    A step takes as many items as come within a millisecond, but never more than the stream has
    credit for, so a fast generator costs one hop for many items. Those that are there can be taken
    while the step still runs, so a slow generator delays none.

    Args:
        hub: The session's.
        make: Makes the sync iterator; called in the thread.
        credit: Items for which the stream has credit now.
        stopped: Whether nobody wants more; asked in the thread.
        undisturbed: Awaits a thread, while the handler is not to be cancelled.
    """

    def __init__(
        self,
        hub: Hub,
        make: Callable[[], Iterator[Any]],
        *,
        credit: Callable[[], int],
        stopped: Callable[[], bool],
        undisturbed: Undisturbed,
    ) -> None:
        self._hub = hub
        self._make = make
        self._credit = credit
        self._stopped = stopped
        self._undisturbed = undisturbed
        self._iterator: Iterator[Any] | None = None
        self._ready: deque[Any] = deque()
        self._error: BaseException | None = None
        self._running = False
        self._over = False
        self._waiter: Future | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        while not self._ready:
            if not self._running:
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
                if self._over:
                    raise StopAsyncIteration
                self._running = True
                self._hub.nursery.spawn(self._step, max(1, self._credit()))
            await self._news()
        return self._ready.popleft()

    async def _news(self) -> None:
        self._waiter = waiter = self._hub.runtime.future()
        await waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _step(self, allowance: int) -> None:
        try:
            await anyio.to_thread.run_sync(self._advance, allowance)
        finally:
            self._running = False
            self._wake()

    def _advance(self, allowance: int) -> None:
        """One step; in the thread."""
        ready = self._ready
        until = time.monotonic() + THREAD_SLICE
        try:
            if self._iterator is None:
                # A method that only returns an iterator may block before it does.
                self._iterator = iter(self._make())
            for item in islice(self._iterator, allowance):
                ready.append(item)
                if len(ready) == 1:
                    # Somebody may be waiting for just this one, and the next may take long.
                    self._hub.runtime.call_threadsafe(self._wake)
                if time.monotonic() >= until or self._stopped():
                    return
                allowance -= 1
            self._over = allowance > 0
        except BaseException as error:  # noqa: BLE001  (raised behind the items before it)
            self._error = as_fault(error, "the generator")
            self._over = True

    async def aclose(self) -> None:
        # A step cannot be cancelled, and the generator cannot be closed while it runs.
        with anyio.CancelScope(shield=True):
            while self._running:
                await self._undisturbed(self._news())
            close = getattr(self._iterator, "close", None)
            if close is not None:
                await self._undisturbed(anyio.to_thread.run_sync(close))
