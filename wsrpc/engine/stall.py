"""The watch over writes that the transport does not take."""

from __future__ import annotations

from collections.abc import Callable

from ..close_codes import CloseCode
from ..errors import ProtocolError
from ..runtime.timers import TimerEntry
from .hub import Hub

__all__ = ["Fault", "Stall"]

Fault = Callable[[Exception], None]


class Stall:
    """Watches one write that the transport does not take (protocol.md OUT-4)."""

    __slots__ = ("_entry", "_fault", "_hub", "_left", "_unsent")

    def __init__(self, hub: Hub, unsent: Callable[[], int], fault: Fault) -> None:
        self._hub = hub
        self._unsent = unsent
        self._fault = fault
        self._entry: TimerEntry | None = None
        self._left = 0

    def begin(self) -> None:
        self._left = self._unsent()
        when = self._hub.runtime.now() + self._hub.limits.stall_timeout
        self._entry = self._hub.timers.add(when, self._expire)

    def end(self) -> None:
        if self._entry is not None:
            self._hub.timers.remove(self._entry)
            self._entry = None

    def _expire(self) -> None:
        if self._unsent() < self._left:
            self.begin()
        else:
            seconds = self._hub.limits.stall_timeout
            self._fault(
                ProtocolError(CloseCode.SLOW_CONSUMER, f"no byte was accepted for {seconds:g} s")
            )
