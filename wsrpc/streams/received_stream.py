"""The stream that the user holds, over the consumer that its lane holds.

The stream refers to its consumer, and the lane does; nothing refers to the stream. So when the user
drops it, its finalizer runs at once and cancels the call at the far end.
"""

from __future__ import annotations

from typing import Any

import anyio

from ..errors import RpcError
from ..options import checked_seconds
from ..stream import NoItemYet, Stream
from .consumer import Consumer
from .inbox import NOT_YET

__all__ = ["ReceivedStream"]


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
        # This is `_next` and `Consumer.next`, written out to save two coroutines for each item that
        # is waited for.
        self._busy = True
        try:
            while (item := consumer.take()) is NOT_YET:
                await consumer.arrival
            self.fresh = True
            return item
        except BaseException as error:  # noqa: BLE001  (raised again there)
            self._busy = False
            return await self._next(failed=error)
        finally:
            self._busy = False

    async def next(self, timeout: float | None = None) -> Any:
        checked_seconds("timeout", timeout)
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
                            # Its traceback holds this frame.
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
            # Unless it gets as far as the application: if this wait is cancelled, the stream is cut.
            self._over = self._cut = True
            cause = await self._failed(error)
            self._cut = False
            try:
                if cause is error:
                    raise
                raise cause from error
            finally:
                del cause
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
