"""The receiving end of a stream: the application waits for items, and takes them.

The lane holds its consumer; the `Stream` that the user holds only refers to it. So when the user
drops the stream, its finalizer runs at once and cancels the call at the far end.
"""

from __future__ import annotations

from typing import Any

import anyio

from ..errors import RpcError
from ..runtime import Future
from ..stream import NoItemYet, Stream
from .inbox import NOT_YET, Inbox

__all__ = ["Consumer", "ReceivedStream"]


class Consumer(Inbox):
    """Items of one lane on their way to the application, which waits for them here."""

    __slots__ = ()

    async def next(self, idle_timeout: float | None = None, until: float | None = None) -> Any:
        """The next item.

        Args:
            idle_timeout: Seconds after which the stream fails.
            until: Seconds on the loop's clock, after which the wait ends and the stream goes on.

        Raises:
            StopAsyncIteration: The stream is complete.
            RpcError: It failed, here or at the other end.
            NoItemYet: There was none before `until`.
        """
        while True:
            item = self.take()
            if item is not NOT_YET:
                return item
            waiter = self.arrival()
            if idle_timeout is None and until is None:
                await waiter
            else:
                await self._wait(waiter, idle_timeout, until)

    async def _wait(self, waiter: Future, idle_timeout: float | None, until: float | None) -> None:
        entries = []
        if until is not None:
            entries.append(self._hub.timers.add(until, self._notify))
        if idle_timeout is not None:
            entries.append(self._arm_idle(idle_timeout))
        try:
            await waiter
        finally:
            for entry in entries:
                self._hub.timers.remove(entry)
        if until is not None and self._hub.runtime.now() >= until and not self._arrived():
            raise NoItemYet(f"{self._label}: no item came in time")


class ReceivedStream(Stream[Any, Any]):
    """The stream that users hold, over a consumer."""

    def __init__(
        self, consumer: Consumer | None, label: str, idle_timeout: float | None = None
    ) -> None:
        super().__init__(label)
        self._consumer = consumer
        self._idle_timeout = idle_timeout
        self._busy = False
        self._over = False
        # Whether an item has been delivered since a subclass last reset this.
        self.fresh = False

    @property
    def lag(self) -> int:
        return 0 if self._consumer is None else self._consumer.lag

    async def _start(self, until: float | None) -> Consumer:
        """Begin the call that fills the consumer; only called where there is no consumer yet.

        Args:
            until: Seconds on the loop's clock, after which to raise `NoItemYet` instead.
        """
        raise NotImplementedError

    async def __anext__(self) -> Any:
        consumer = self._consumer
        if consumer is None or self._over:
            return await self._next()
        if consumer.items:
            return consumer.pop()
        if self._busy or self._idle_timeout is not None:
            return await self._next()
        # As `_next` and `Consumer.next`, which are two coroutines more for each item that is waited
        # for.
        self._busy = True
        try:
            while (item := consumer.take()) is NOT_YET:
                await consumer.arrival()
            self.fresh = True
            return item
        except BaseException as error:  # noqa: BLE001  (raised again there)
            self._busy = False
            return await self._next(failed=error)
        finally:
            self._busy = False

    async def next(self, timeout: float | None = None) -> Any:
        return await self._next(None if timeout is None else anyio.current_time() + timeout)

    async def _next(self, until: float | None = None, failed: BaseException | None = None) -> Any:
        """The next item, with all that has to be done where there is none.

        Args:
            until: Seconds on the loop's clock, after which to raise `NoItemYet`.
            failed: The exception that `__anext__` met in the place of an item.
        """
        if self._over and failed is None:
            self._raise_if_cut()
            raise StopAsyncIteration
        if self._busy:
            self._refuse_second()
        self._busy = True
        try:
            while True:
                try:
                    if failed is not None:
                        error, failed = failed, None
                        try:
                            raise error
                        finally:
                            # By its traceback it holds this frame.
                            del error
                    if self._consumer is None:
                        self._consumer = await self._start(until)
                    if self._over:
                        # Another task closed it meanwhile.
                        self._close(self._reason())
                    item = await self._consumer.next(self._idle_timeout, until)
                    self.fresh = True
                    return item
                except RpcError as error:
                    if not await self._reopens(error):
                        raise
                if self._over:
                    raise StopAsyncIteration
        except StopAsyncIteration:
            if not self._over and self._consumer is not None:
                self._finish(self._consumer.final)
            self._over = True
            await self._settle()
            raise
        except RpcError as error:
            self._over = True
            cause = await self._failed(error)
            if cause is error:
                raise
            raise cause from error
        except NoItemYet:
            raise
        except BaseException as error:
            self._cut = not self._over
            self._close(self._reason())
            if not isinstance(error, GeneratorExit):
                await self._settle()
            raise
        finally:
            self._busy = False

    async def _reopens(self, error: RpcError[Any]) -> bool:
        """Whether the stream goes on in spite of `error`, with a new consumer."""
        return False

    async def _failed(self, error: RpcError[Any]) -> BaseException:
        """The exception to raise for `error`."""
        return error

    async def _settle(self) -> None:
        """Wait for this side's tasks that must not outlive the stream."""

    def _reason(self) -> str:
        return "cancelled"

    def _close(self, reason: str) -> None:
        self._over = True
        consumer = self._consumer
        if consumer is not None:
            consumer.stop(reason)
            consumer.discard()

    def cancel(self) -> None:
        self._cut = False
        self._close("cancelled")

    async def aclose(self) -> None:
        self._cut = False
        self._close("cancelled")

    def __del__(self) -> None:
        # The last reference is gone. Finalizers may run at any allocation, in any thread, so the
        # far end is told from the event loop, not from here.
        consumer = getattr(self, "_consumer", None)
        if consumer is not None and not self._over and (consumer.held or not consumer.ended):
            consumer.stop_soon()
