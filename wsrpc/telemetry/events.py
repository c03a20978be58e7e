"""Events, told to everybody who wants them: to the counters directly, then to the observers.

This is the only place that counts or tells. Without observers an event costs the count alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Literal, NamedTuple

from ..interfaces import CallEnd, Handshake, ObservedCall, Observer, Session, StateChange
from .counters import Stats
from .logs import Log, everyone

__all__ = ["UNKNOWN_METHOD", "Events", "Pause"]

# What methods that do not exist are counted as: a peer can think of any number of them.
UNKNOWN_METHOD = "?"

# Pairs of a method and a code that are counted one by one.
MOST_REFUSED = 1_000


class Pause(NamedTuple):
    """A stream of this side's that waits.

    Attributes:
        call: Its call.
        since: Seconds on the loop's clock. When that began.
        for_credit: Whether its consumer has to go on; otherwise the outbox is full.
    """

    call: ObservedCall
    since: float
    for_credit: bool


class Events:
    """Counts and tells what happens on one server, or on one connection.

    Args:
        stats: Where to count.
        observers: Told in their order.

    Attributes:
        stats: Where it is counted.
        observed: Whether anybody is told.
        pauses: The streams that wait now, of calls that are observed.
    """

    __slots__ = ("_observers", "_pause_ids", "observed", "pauses", "stats")

    def __init__(self, stats: Stats | None = None, observers: Sequence[Observer] = ()) -> None:
        self.stats = stats or Stats()
        self._observers = tuple(observers)
        self.observed = bool(self._observers)
        self.pauses: dict[int, Pause] = {}
        self._pause_ids = count()

    def add(self, observer: Observer) -> None:
        """Tell one more, after the others."""
        self._observers = (*self._observers, observer)
        self.observed = True

    def remove(self, observer: Observer) -> None:
        """Tell it nothing any more; calls that it knows of end without it."""
        self._observers = tuple(one for one in self._observers if one is not observer)
        self.observed = bool(self._observers)

    # ------------------------------------------------------------ calls

    def handler_began(self) -> None:
        """A handler has a task."""
        stats = self.stats
        stats.calls_live += 1
        stats.calls_peak = max(stats.calls_peak, stats.calls_live)

    def handler_ended(self) -> None:
        """That task is through."""
        self.stats.calls_live -= 1

    def generator_opened(self) -> None:
        """A handler streams."""
        self.stats.generators_open += 1

    def generator_closed(self) -> None:
        """Its source is closed."""
        self.stats.generators_open -= 1

    def call_started(self, call: ObservedCall) -> None:
        """See `Observer.call_started`."""
        for observer in self._observers:
            self._tell(observer.call_started, call)

    def call_ended(self, call: ObservedCall, end: CallEnd) -> None:
        """See `Observer.call_ended`."""
        for observer in self._observers:
            self._tell(observer.call_ended, call, end)

    def call_refused(self, label: str, end: CallEnd, log: Log, *, known: bool = True) -> None:
        """A call of the peer was refused: count it, and leave a line.

        Args:
            label: The method, as the peer named it.
            end: Why.
            log: The session's.
            known: Whether there is such a method.
        """
        refused = self.stats.refused
        key = (label if known else UNKNOWN_METHOD, end.code)
        if key not in refused and len(refused) >= MOST_REFUSED:
            key = (UNKNOWN_METHOD, end.code)
        refused[key] += 1
        if known:
            log.debug("%s was refused: %s", label, end.code, method=label, code=end.code)
        else:
            # What the peer made up may be anything.
            log.debug("an unknown method was refused: %s", end.code, code=end.code)

    def refusal(self, call: ObservedCall, end: CallEnd) -> None:
        """See `Observer.call_refused`."""
        for observer in self._observers:
            self._tell(observer.call_refused, call, end)

    def items(self, call: ObservedCall, direction: Literal["sent", "received"], count: int) -> None:
        """See `Observer.items`."""
        for observer in self._observers:
            self._tell(observer.items, call, direction, count)

    def pause_begins(self, call: ObservedCall, now: float, *, for_credit: bool) -> int:
        """A stream waits; returns what `pause_ends` takes.

        Args:
            call: Its call.
            now: Seconds on the loop's clock.
            for_credit: See `Pause`.
        """
        id = next(self._pause_ids)
        self.pauses[id] = Pause(call, now, for_credit)
        return id

    def pause_ends(self, id: int) -> None:
        """It goes on, or is over."""
        del self.pauses[id]

    def paused(self, call: ObservedCall, seconds: float) -> None:
        """See `Observer.paused`."""
        for observer in self._observers:
            self._tell(observer.paused, call, seconds)

    def retry(self, call: ObservedCall, attempt: int, code: str) -> None:
        """See `Observer.retry`."""
        for observer in self._observers:
            self._tell(observer.retry, call, attempt, code)

    # ------------------------------------------------------------ sessions and links

    def session_state(self, session: Session, change: StateChange, *, resumed: bool) -> None:
        """See `Observer.session_state`.

        Args:
            session: The session.
            change: Its new state.
            resumed: Whether it goes on over a new connection.
        """
        if resumed:
            self.stats.resumes += 1
        for observer in self._observers:
            self._tell(observer.session_state, session, change)

    def frames_ignored(self, count: int) -> None:
        """A session has ended that ignored so many frames."""
        self.stats.frames_ignored += count

    def link_opened(self, handshake: Handshake) -> None:
        """See `Observer.link_opened`."""
        self.stats.links += 1
        for observer in self._observers:
            self._tell(observer.link_opened, handshake)

    def link_left(self) -> None:
        """Nobody serves a connection any more."""
        self.stats.links -= 1

    def link_closed(self, handshake: Handshake, code: int, reason: str = "") -> None:
        """See `Observer.link_closed`."""
        self.stats.closes[code] += 1
        for observer in self._observers:
            self._tell(observer.link_closed, handshake, code, reason)

    def stranger_refused(self, reason: str) -> None:
        """See `Observer.stranger_refused`."""
        self.stats.strangers_refused[reason] += 1
        for observer in self._observers:
            self._tell(observer.stranger_refused, reason)

    def received(self, session: Session, count: int) -> None:
        """A message came in."""
        self.stats.bytes_received += count
        for observer in self._observers:
            self._tell(observer.bytes, session, "received", count)

    def sent(self, session: Session, count: int) -> None:
        """A message went out."""
        self.stats.bytes_sent += count
        for observer in self._observers:
            self._tell(observer.bytes, session, "sent", count)

    def backpressure(self, session: Session, seconds: float) -> None:
        """See `Observer.backpressure`."""
        for observer in self._observers:
            self._tell(observer.backpressure, session, seconds)

    def drain(self, state: Literal["begun", "ended"], sessions: int) -> None:
        """See `Observer.drain`."""
        for observer in self._observers:
            self._tell(observer.drain, state, sessions)

    def _tell(self, method: Callable[..., Any], *args: Any) -> None:
        try:
            method(*args)
        except Exception as error:  # noqa: BLE001  (an observer affects nothing else)
            everyone.error("an observer raised in %s", method.__qualname__, error=error)
