"""Events of sessions: each updates the counters directly, and then goes to the observers.

No other module counts events or tells observers. Without observers an event costs only the count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from inspect import getmembers, iscoroutinefunction
from itertools import count
from typing import Any, Literal, NamedTuple

from ..interfaces import (
    CallEnd,
    Handshake,
    Interceptor,
    ObservedCall,
    Observer,
    Session,
    StateChange,
)
from ..runtime import current
from .counters import Stats
from .logs import Log, everyone

__all__ = ["UNKNOWN_METHOD", "Events", "Pause"]

# The name under which unknown methods are counted: a peer can make up any number of names.
UNKNOWN_METHOD = "?"

# Pairs of a method and a code that have a count of their own.
MOST_REFUSED = 1_000


def checked_observer(value: Any) -> Observer:
    """The given observer.

    Raises:
        ValueError: It is none, or a method of it is async; the caller's fault.
    """
    if isinstance(value, type) and issubclass(value, Observer):
        raise ValueError(
            f"each of observers must be a wsrpc.Observer: write {value.__name__}(), not the class"
        )
    if not isinstance(value, Observer):
        raise ValueError(
            f"each of observers must be a wsrpc.Observer, not {type(value).__name__}: derive its "
            "class from wsrpc.Observer, which has a method for each event"
        )
    for name, _ in getmembers(type(value), iscoroutinefunction):
        if name in vars(Observer):
            raise ValueError(
                f"{type(value).__name__}.{name} of observers is async, and nobody would await it: "
                f"write `def {name}`"
            )
    return value


class Pause(NamedTuple):
    """A stream of this side that waits.

    Attributes:
        call: Its call.
        since: Seconds on the loop's clock. The time at which the wait began.
        for_credit: Whether it waits for credit; otherwise it waits for room in the outbox.
    """

    call: ObservedCall
    since: float
    for_credit: bool


class Events:
    """Counts the events of one server, or of one connecting session, and tells observers.

    Args:
        stats: The counters.
        observers: The observers, in the order in which they are told.

    Raises:
        ValueError: One of them is no observer.

    Attributes:
        stats: The counters.
        observed: Whether there are any observers.
        pauses: The streams of observed calls that wait now.
    """

    __slots__ = ("_observers", "_pause_ids", "observed", "pauses", "stats")

    def __init__(self, stats: Stats | None = None, observers: Sequence[Observer] = ()) -> None:
        self.stats = stats or Stats()
        if isinstance(observers, Observer) or not isinstance(observers, Iterable):
            raise ValueError(
                f"observers must be a list of wsrpc.Observer objects, not {observers!r}"
            )
        self._observers = tuple(checked_observer(one) for one in observers)
        self.observed = bool(self._observers)
        self.pauses: dict[int, Pause] = {}
        self._pause_ids = count()

    def add(self, observer: Observer) -> None:
        """Add an observer, after the others."""
        self._observers = (*self._observers, checked_observer(observer))
        self.observed = True

    def remove(self, observer: Observer) -> None:
        """Remove an observer; it does not hear of the end of calls that it knows."""
        self._observers = tuple(one for one in self._observers if one is not observer)
        self.observed = bool(self._observers)

    @property
    def interceptors(self) -> tuple[Interceptor, ...]:
        """See `Observer.interceptor`."""
        found = [one.interceptor for one in self._observers]
        return tuple(one for one in found if one is not None)

    # ------------------------------------------------------------ calls

    def handler_began(self) -> None:
        """Count a handler that has begun."""
        stats = self.stats
        stats.calls_live = live = stats.calls_live + 1
        if live > stats.calls_peak:
            stats.calls_peak = live

    def handler_ended(self) -> None:
        """Count a handler that is through."""
        self.stats.calls_live -= 1

    def generator_opened(self) -> None:
        """Count a handler that has begun to stream."""
        self.stats.generators_open += 1

    def generator_closed(self) -> None:
        """Count a handler whose source is closed."""
        self.stats.generators_open -= 1

    def call_started(self, call: ObservedCall) -> None:
        """See `Observer.call_started`."""
        for observer in self._observers:
            self._tell(observer.call_started, call)

    def call_ended(self, call: ObservedCall, end: CallEnd) -> None:
        """See `Observer.call_ended`."""
        for observer in self._observers:
            self._tell(observer.call_ended, call, end)

    def call_refused(
        self, label: str, end: CallEnd, log: Log, call_id: int, *, known: bool = True
    ) -> None:
        """Count a refused call of the peer, and log a line.

        Args:
            label: The method, as the peer named it.
            end: The code and its details.
            log: The log of the session.
            call_id: The id of the call on the wire.
            known: Whether there is such a method.
        """
        refused = self.stats.refused
        key = (label if known else UNKNOWN_METHOD, end.code)
        if key not in refused and len(refused) >= MOST_REFUSED:
            key = (UNKNOWN_METHOD, end.code)
        refused[key] += 1
        if known:
            log.debug(
                "%s was refused: %s",
                label,
                end.code,
                method=label,
                call_id=call_id,
                code=end.code,
            )
        else:
            # A name that the peer made up may be any text.
            log.debug("an unknown method was refused: %s", end.code, call_id=call_id, code=end.code)

    def refusal(self, call: ObservedCall, end: CallEnd) -> None:
        """See `Observer.call_refused`."""
        for observer in self._observers:
            self._tell(observer.call_refused, call, end)

    def items(self, call: ObservedCall, direction: Literal["sent", "received"], count: int) -> None:
        """See `Observer.items`."""
        for observer in self._observers:
            self._tell(observer.items, call, direction, count)

    def pause_begins(self, call: ObservedCall, now: float, *, for_credit: bool) -> int:
        """Note that a stream waits; returns the number that `pause_ends` takes.

        Args:
            call: Its call.
            now: Seconds on the loop's clock.
            for_credit: See `Pause`.
        """
        id = next(self._pause_ids)
        self.pauses[id] = Pause(call, now, for_credit)
        return id

    def pause_ends(self, id: int) -> None:
        """Note that a stream no longer waits."""
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
            resumed: Whether it went on over a new connection.
        """
        if resumed:
            self.stats.resumes += 1
        for observer in self._observers:
            self._tell(observer.session_state, session, change)

    def frames_ignored(self, count: int) -> None:
        """Count the ignored frames of a session that has ended."""
        self.stats.frames_ignored += count

    def link_opened(self, handshake: Handshake) -> None:
        """See `Observer.link_opened`."""
        self.stats.links += 1
        for observer in self._observers:
            self._tell(observer.link_opened, handshake)

    def link_left(self) -> None:
        """Count out a connection that is not served any more."""
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
        """Count the bytes of a message that came in."""
        self.stats.bytes_received += count
        for observer in self._observers:
            self._tell(observer.bytes, session, "received", count)

    def sent(self, session: Session, count: int) -> None:
        """Count the bytes of a message that went out."""
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
        except KeyboardInterrupt:
            if not current().interrupt():
                raise
        except BaseException as error:  # noqa: BLE001  (an observer affects nothing else)
            everyone.error("an observer raised in %s", method.__qualname__, error=error)
