"""The wait for the items of a stream, at the receiving end."""

from __future__ import annotations

from typing import Any

from ..stream import NoItemYet
from .inbox import NOT_YET, Inbox

__all__ = ["Consumer"]


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
            if idle_timeout is None and until is None:
                await self.arrival
            else:
                await self._wait(idle_timeout, until)

    async def _wait(self, idle_timeout: float | None, until: float | None) -> None:
        entries = []
        if until is not None:
            entries.append(self._hub.timers.add(until, self._notify))
        if idle_timeout is not None:
            entries.append(self._arm_idle(idle_timeout))
        try:
            await self.arrival
        finally:
            for entry in entries:
                self._hub.timers.remove(entry)
        if until is not None and self._hub.runtime.now() >= until and not self._arrived():
            raise NoItemYet(f"{self._label}: no item came in time")
