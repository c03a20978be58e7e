"""The deadline of a handler, and the other causes that stop it: a cancel, or a lost connection."""

from __future__ import annotations

from ..context import Handling
from ..engine.hub import Hub
from ..engine.lane_owner import LaneOwner
from ..errors import ConnectionLost
from ..protocol.lanes import InCall
from ..runtime import Task
from ..runtime.compiling import mypyc_attr
from ..runtime.timers import TimerEntry
from ..streams.producer import Producer

__all__ = ["STOPPED", "StoppableCall"]

# The message to the caller of a handler that was stopped, by the code of its error.
STOPPED = {
    "cancelled": "cancelled",
    "deadline_exceeded": "deadline exceeded",
    "unavailable": "the other end is going away, and does not finish the call",
}


@mypyc_attr(allow_interpreted_subclasses=True)
class StoppableCall(LaneOwner):
    """One inbound call, as what may stop its handler sees it.

    Attributes:
        stopped: The code with which the handler was stopped, or None.
    """

    __slots__ = (
        "_begun",
        "_code",
        "_deadline",
        "_entry",
        "_killer",
        "_task",
        "_threaded",
        "call",
        "handled",
        "hub",
        "label",
        "producer",
        "stopped",
    )

    hub: Hub
    call: InCall
    label: str
    producer: Producer | None
    handled: Handling | None
    stopped: str | None
    _begun: bool
    _threaded: bool
    # The code with which it ended.
    _code: str
    _deadline: float | None
    _entry: TimerEntry | None
    _killer: TimerEntry | None
    _task: Task | None

    def on_cancel(self, reason: str) -> None:
        self.stop(reason)

    def on_lost(self, error: ConnectionLost) -> None:
        self.stop("cancelled")

    def _expire(self) -> None:
        self._entry = None
        self.stop("deadline_exceeded")

    def stop(self, reason: str) -> None:
        """Cancel the handler; its cleanup then has `Limits.cleanup_timeout`."""
        if self.stopped is not None:
            return
        self.stopped = reason
        if self._task is None or self._dropped:
            # The arguments never came, or the task does not run any more.
            if self._open:
                self._refuse(reason)
            self._ended()
            return
        if self._deadline is not None and self._task is not None:
            # From here on `cleanup_timeout` counts, and no other deadline may disturb the cleanup.
            self.hub.runtime.forget_deadline(self._task)
            if self.handled is not None:
                self.handled.context.deadline = None
        if self._begun and not (self.producer is not None and self.producer.closing):
            assert self._task is not None
            self.hub.runtime.cancel(self._task)
        if self.producer is not None:
            # This comes after the cancellation: otherwise trio would deliver the cancellation too
            # late, after the wait that this call ends.
            self.producer.stop()
        self._arm_killer()

    @property
    def _dropped(self) -> bool:
        """Whether other code cancelled its task before its first step."""
        task = self._task
        return task is not None and not self._begun and self.hub.runtime.never_ran(task)

    def reap(self) -> None:
        """End it, if its task never will."""
        if self._dropped:
            self._ended()

    def halt(self) -> None:
        """Cancel the source, which waits, since the stream has failed."""
        assert self._task is not None
        self.hub.runtime.cancel(self._task)

    def spare(self) -> None:
        """Withdraw the cancellation: the stream has seen its end, and cleans up undisturbed."""
        assert self._task is not None
        self.hub.runtime.spare(self._task)

    def _arm_killer(self) -> None:
        when = self.hub.runtime.now() + self.hub.limits.cleanup_timeout
        self._killer = self.hub.timers.add(when, self._kill)

    def _kill(self) -> None:
        """Cancel a cleanup that takes too long, and go on doing so."""
        self.hub.log.warning(
            "%s was still cleaning up after cleanup_timeout",
            self.label,
            method=self.label,
            call_id=self.call.id,
        )
        if self._begun and not self._threaded:
            assert self._task is not None
            self._task.cancel()
        self._arm_killer()

    def _halted(self) -> bool:
        """Whether the call was stopped, even if this handler has not been told yet.

        The endpoint takes a message as a whole, and the session acts on its events in slices. A
        `cancel` late in the message has changed the call's state before its event gets here.
        """
        if self.stopped is None and self.call.was_cancelled:
            self.stopped = self.call.cancel_reason or "cancelled"
        return self.stopped is not None

    def _overdue(self) -> bool:
        return self._deadline is not None and self.hub.runtime.now() >= self._deadline

    def _refuse(self, reason: str) -> None:
        self._code = reason
        if not self._open:
            return
        self.hub.endpoint.refuse(self.call, reason, f"{STOPPED[reason]} before it began")
        self.hub.wake()

    @property
    def _open(self) -> bool:
        return self.hub.lost is None and not self.call.is_over

    def _ended(self, ran: bool = False) -> None:
        """Count the call out, and let go of what it holds.

        Args:
            ran: Whether its task ends with it.
        """
        raise NotImplementedError
