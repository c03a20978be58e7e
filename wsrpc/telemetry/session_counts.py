"""The counts of each session of a server, for monitoring."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal
from weakref import WeakKeyDictionary

from ..interfaces import CallEnd, ObservedCall, Observer, Session

__all__ = ["Counts", "SessionCounts"]


@dataclass(slots=True)
class Counts:
    """The counts of one session, or of all.

    Attributes:
        calls_live: Calls of the peer that run.
        streams_live: Streams among the calls that run.
        calls_ended: Calls of the peer that have ended.
        calls_failed: Ended calls of the peer whose code is not "ok".
        calls_refused: Calls of the peer that never began.
        made_live: Calls to the peer that run: of its controllers, and of callbacks.
        made_ended: Calls to the peer that have ended.
        made_failed: Ended calls to the peer whose code is not "ok".
        messages_sent: Arguments, results and items that went out.
        messages_received: Arguments, results and items that came in.
        bytes_sent: Bytes of WebSocket messages that went out.
        bytes_received: Bytes of WebSocket messages that came in.
        paused_seconds: Seconds in which streams of this side waited for credit or for room.
        backpressure_seconds: Seconds in which the peer's connection took no bytes.
    """

    calls_live: int = 0
    streams_live: int = 0
    calls_ended: int = 0
    calls_failed: int = 0
    calls_refused: int = 0
    made_live: int = 0
    made_ended: int = 0
    made_failed: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    paused_seconds: float = 0.0
    backpressure_seconds: float = 0.0

    def as_json(self) -> dict[str, int | float]:
        """The counts by name."""
        return asdict(self)


class SessionCounts(Observer):
    """Counts events for each session and for all, by the rules of the Prometheus metrics.

    Attributes:
        total: The counts of all sessions, with those that ended.
    """

    def __init__(self) -> None:
        self.total = Counts()
        self._of: WeakKeyDictionary[Session, Counts] = WeakKeyDictionary()

    def of(self, session: Session) -> Counts:
        """The counts of a session."""
        counts = self._of.get(session)
        if counts is None:
            counts = self._of[session] = Counts()
        return counts

    def call_started(self, call: ObservedCall) -> None:
        for counts in (self.total, self.of(call.session)):
            if call.direction == "inbound":
                counts.calls_live += 1
                counts.streams_live += call.kind == "stream"
                counts.messages_received += 1
            else:
                counts.made_live += 1
                counts.messages_sent += 1

    def call_ended(self, call: ObservedCall, end: CallEnd) -> None:
        failed = end.code != "ok"
        answered = not failed and call.kind in ("unary", "callback")
        for counts in (self.total, self.of(call.session)):
            if call.direction == "inbound":
                counts.calls_live -= 1
                counts.streams_live -= call.kind == "stream"
                counts.calls_ended += 1
                counts.calls_failed += failed
                counts.messages_sent += answered
            else:
                counts.made_live -= 1
                counts.made_ended += 1
                counts.made_failed += failed
                counts.messages_received += answered

    def call_refused(self, call: ObservedCall, end: CallEnd) -> None:
        for counts in (self.total, self.of(call.session)):
            counts.calls_refused += 1

    def items(self, call: ObservedCall, direction: Literal["sent", "received"], count: int) -> None:
        for counts in (self.total, self.of(call.session)):
            if direction == "sent":
                counts.messages_sent += count
            else:
                counts.messages_received += count

    def bytes(self, session: Session, direction: Literal["sent", "received"], count: int) -> None:
        for counts in (self.total, self.of(session)):
            if direction == "sent":
                counts.bytes_sent += count
            else:
                counts.bytes_received += count

    def paused(self, call: ObservedCall, seconds: float) -> None:
        for counts in (self.total, self.of(call.session)):
            counts.paused_seconds += seconds

    def backpressure(self, session: Session, seconds: float) -> None:
        for counts in (self.total, self.of(session)):
            counts.backpressure_seconds += seconds
