"""The counts of calls by method, for monitoring."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..interfaces import CallEnd, ObservedCall, Observer
from .events import UNKNOWN_METHOD

__all__ = ["MethodCounts"]

# Methods with counts of their own.
MOST_METHODS = 1_000


@dataclass(slots=True)
class Count:
    """The calls of one method.

    Attributes:
        live: Calls that run.
        ended: Calls that have ended.
        failed: Ended calls whose code is not "ok".
        refused: Calls that never began.
        seconds: Seconds that the ended calls took together.
    """

    live: int = 0
    ended: int = 0
    failed: int = 0
    refused: int = 0
    seconds: float = 0.0


class MethodCounts(Observer):
    """Counts the calls handled, by method; those beyond a thousand methods share "?"."""

    def __init__(self) -> None:
        self._counts: dict[str, Count] = {}

    def as_json(self) -> dict[str, dict[str, int | float]]:
        """The counts by method."""
        return {name: asdict(count) for name, count in self._counts.items()}

    def call_started(self, call: ObservedCall) -> None:
        if call.direction == "inbound":
            self._of(call).live += 1

    def call_ended(self, call: ObservedCall, end: CallEnd) -> None:
        if call.direction == "inbound":
            count = self._of(call)
            count.live -= 1
            count.ended += 1
            count.failed += end.code != "ok"
            count.seconds += end.duration

    def call_refused(self, call: ObservedCall, end: CallEnd) -> None:
        self._of(call).refused += 1

    def _of(self, call: ObservedCall) -> Count:
        name = call.name if call.known else UNKNOWN_METHOD
        if name not in self._counts and len(self._counts) >= MOST_METHODS:
            name = UNKNOWN_METHOD
        return self._counts.setdefault(name, Count())
