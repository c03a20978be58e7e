"""The deadline of a call: its source, and the part of the program that acts on it."""

from __future__ import annotations

import math

import anyio

from ..context import handling
from ..engine.hub import Hub

__all__ = ["Timing"]

# Seconds by which the far side's clock may be ahead of this one's at the end of a long call.
CLOCK_SKEW = 1.0

INFINITY = math.inf

# Seconds by which an event loop may be early with a timer.
CLOCK_GRAIN = 0.001


ELSEWHERE = (
    "this session belongs to another event loop, or another thread: call it where it was opened, "
    "from a thread that anyio started by anyio.from_thread.run(fn)"
)


class Timing:
    """The time at which a call must be over, and the source of that deadline.

    Raises:
        RuntimeError: The caller is not on the session's event loop; the caller's fault.

    Attributes:
        deadline: Seconds on the loop's clock, or None.
        by_scope: Whether it is the deadline of the caller's own cancel scope. Then the scope, and
            no other code, must end the call.
        alarm: The deadline, if this package has to end the call.
    """

    __slots__ = ("alarm", "by_scope", "deadline")

    def __init__(self, hub: Hub, timeout: float | None) -> None:
        runtime = hub.runtime
        scope = runtime.effective_deadline()
        if scope is None:
            raise RuntimeError(ELSEWHERE)
        deadline = INFINITY if timeout is None else runtime.now() + timeout
        handled = handling.get()
        inherited = None if handled is None else handled.context.deadline
        if inherited is not None and inherited < deadline:
            deadline = inherited
        self.deadline: float | None
        self.alarm: float | None
        if scope < deadline:
            self.by_scope = True
            self.deadline = scope
            self.alarm = None
        else:
            self.by_scope = False
            self.deadline = self.alarm = None if deadline == INFINITY else deadline

    def reason(self, hub: Hub) -> str:
        """The most likely reason why the caller's await was cancelled."""
        now = hub.runtime.now() + CLOCK_GRAIN
        if self.by_scope and self.deadline is not None and now >= self.deadline:
            return "deadline_exceeded"
        return "cancelled"

    async def let_scope_fire(self) -> None:
        """Wait for the caller's scope, since the far side's clock was ahead of it (TIME-1).

        It returns if the scope does not fire after all, since the caller may have left it. It
        returns at once where the scope is not due yet: then a handler raised the error itself, or
        the stream idled for too long.
        """
        if self.by_scope and self.deadline is not None:
            scope = anyio.current_effective_deadline()
            left = scope - anyio.current_time()
            if scope <= self.deadline and left <= CLOCK_SKEW:
                await anyio.sleep(max(0.0, left) + 0.1)
