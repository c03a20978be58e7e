"""Notifications on their way: calls without an answer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from ..engine.hub import Hub
from ..engine.lane_owner import LaneOwner, Terminal
from ..errors import CODES, Code, ConnectionLost, RpcError
from ..protocol.frames import Error
from ..protocol.lanes import OutCall
from ..runtime import Future
from .timing import Timing

__all__ = ["Notification"]


class Notification(LaneOwner):
    """A notification under way: its sender waits only for a slot; `aclose` waits for its end."""

    __slots__ = ("_again", "_call", "_future", "_hub", "_label")

    def __init__(
        self,
        hub: Hub,
        label: str,
        call: OutCall,
        again: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._again = again
        self._hub = hub
        self._label = label
        self._call = call
        self._future: Future | None = None
        hub.notifications[self] = None

    async def queued(self, timing: Timing) -> None:
        """Wait until the notification has a slot.

        Raises:
            DeadlineExceeded: No slot came free in time; nothing was sent.
            ConnectionLost: The session ended; nothing was sent.
        """
        hub = self._hub
        self._future = hub.runtime.future()
        entry = None
        if timing.alarm is not None:
            entry = hub.timers.add(timing.alarm, self._expire)
        try:
            outcome = await self._future
        except BaseException:
            self._withdraw()
            raise
        finally:
            if entry is not None:
                hub.timers.remove(entry)
        if outcome is not None:
            raise outcome

    def _withdraw(self) -> None:
        self._hub.endpoint.cancel(self._call)
        if not self._call.is_numbered:
            self._hub.notified(self)

    def _settle(self, outcome: RpcError[Any] | None) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(outcome)

    def _expire(self) -> None:
        error = self._hub.overdue(self._label, "was not sent before its deadline")
        error.not_started = True
        self._settle(error)
        self._withdraw()

    def on_started(self) -> None:
        self._settle(None)

    def on_lost(self, error: ConnectionLost) -> None:
        hub = self._hub
        if error.not_started and self._future is None:
            # The sender has gone on, and relies on its being sent.
            if not hub.unsent:
                hub.nursery.spawn(_queue_again, hub.unsent)
            hub.unsent.append(self)
        self._settle(error)
        hub.notified(self)

    async def queue_again(self) -> None:
        """Hand it to the next wire session, if there is one."""
        try:
            await self._again()
        except RpcError as error:
            # The record does not get the error itself: a log handler that keeps the record would
            # keep the session alive.
            self._hub.log.warning(
                "the notification %s was never sent: %s",
                self._label,
                error.code,
                method=self._label,
                code=str(error.code),
            )

    def on_finished(self, frame: Terminal) -> None:
        self._hub.notified(self)
        if isinstance(frame, Error):
            code = frame.body.code if frame.body.code in CODES else Code.UNKNOWN
            self._hub.log.debug(
                "the notification %s ended with %s",
                self._label,
                code,
                method=self._label,
                code=str(code),
            )


async def _queue_again(notifications: list[Any]) -> None:
    # One after the other, so that they keep their order.
    for notification in notifications:
        await notification.queue_again()
