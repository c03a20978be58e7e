"""A bus in a thread of its own, on asyncio: for applications on trio, or with a busy loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar

import anyio.to_thread
from anyio.from_thread import BlockingPortal, start_blocking_portal

from ... import runtime as runtimes
from ...runtime import Runtime
from ..errors import BusDown
from .base import Handler, Off
from .nats import NatsBus

__all__ = ["ThreadBus"]

R = TypeVar("R")


class ThreadBus:
    """A bus over NATS that runs in a thread of its own.

    Signs of life go out even while the application's loop is busy, so that this node is not taken
    for dead.

    Args:
        bus: The bus that runs in the thread.
        pending: Bytes that may wait for the application's loop. Messages beyond them are dropped,
            and counted in `dropped`. As many as for one subscription of the bus, if left out.
    """

    def __init__(self, bus: NatsBus, *, pending: int | None = None) -> None:
        self._bus = bus
        self._pending = bus.pending if pending is None else pending
        self._runtime: Runtime | None = None
        self._entered: AbstractContextManager[BlockingPortal] | None = None
        self._portal: BlockingPortal | None = None
        # The thread appends to it; the application's loop takes from it.
        self._queue: deque[tuple[Handler, str, bytes, str]] = deque()
        self._arrived = 0
        self._taken = 0
        self._lost = 0

    @property
    def stores(self) -> bool:
        return self._bus.stores

    @property
    def connected(self) -> bool:
        return self._portal is not None and self._bus.connected

    @property
    def generation(self) -> int:
        return self._bus.generation

    @property
    def dropped(self) -> int:
        return self._bus.dropped + self._lost

    @property
    def max_payload(self) -> int:
        return self._bus.max_payload

    @property
    def client(self) -> Any:
        """The library's client; its coroutines have to be awaited with `run`."""
        return self._bus.client

    # ------------------------------------------------------------ begin and end

    async def open(self, on_up: Callable[[], None], on_down: Callable[[], None]) -> None:
        self._runtime = runtime = runtimes.current()
        self._entered = start_blocking_portal("asyncio", name="wsrpc bus")
        with anyio.CancelScope(shield=True):
            self._portal = await anyio.to_thread.run_sync(self._entered.__enter__)
        try:
            await self.run(
                self._bus.open,
                partial(runtime.call_threadsafe, on_up),
                partial(runtime.call_threadsafe, on_down),
            )
        except BaseException:
            # The bus may have opened, although the wait for it was cancelled.
            with anyio.CancelScope(shield=True):
                await self.close()
            raise

    async def close(self) -> None:
        try:
            await self.run(self._bus.close)
        except BusDown:
            pass
        await self._leave()

    async def _leave(self) -> None:
        entered, self._entered, self._portal = self._entered, None, None
        if entered is not None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(entered.__exit__, None, None, None)

    # ------------------------------------------------------------ over the border

    async def run(self, fn: Callable[..., Awaitable[R]], *args: Any, **kwargs: Any) -> R:
        """Await a coroutine on the bus's loop; a cancellation here cancels it there.

        Raises:
            BusDown: The bus is closed.
        """
        portal, runtime = self._portal, self._runtime
        if portal is None or runtime is None:
            raise BusDown("the bus is closed")
        waiter = runtime.future()

        def settle() -> None:
            if not waiter.done():
                waiter.set_result(None)

        def finished(future: Future[R]) -> None:
            runtime.call_threadsafe(settle)

        try:
            future = portal.start_task_soon(partial(fn, **kwargs), *args)
        except RuntimeError:
            raise BusDown("the bus is closed") from None
        future.add_done_callback(finished)
        try:
            await waiter
        except BaseException:
            future.cancel()
            raise
        try:
            return future.result()
        except CancelledError:
            raise BusDown("the bus is closed") from None

    async def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        await self.run(self._bus.publish, subject, data, reply)

    async def request(self, subject: str, data: bytes, timeout: float) -> bytes:
        return await self.run(self._bus.request, subject, data, timeout)

    async def subscribe(self, subject: str, handler: Handler) -> Off:
        def take(subject: str, data: bytes, reply: str) -> None:
            self._arrive(handler, subject, data, reply)

        inner = await self.run(self._bus.subscribe, subject, take)

        async def off() -> None:
            try:
                await self.run(inner)
            except BusDown:
                pass

        return off

    def _arrive(self, handler: Handler, subject: str, data: bytes, reply: str) -> None:
        """Queue a message, in the thread."""
        if self._arrived - self._taken + len(data) > self._pending and self._queue:
            self._lost += 1
            return
        runtime = self._runtime
        assert runtime is not None
        self._arrived += len(data)
        self._queue.append((handler, subject, data, reply))
        runtime.call_threadsafe(self._deliver)

    def _deliver(self) -> None:
        """Deliver one message, in the application's loop."""
        handler, subject, data, reply = self._queue.popleft()
        self._taken += len(data)
        if self._portal is not None:
            handler(subject, data, reply)
