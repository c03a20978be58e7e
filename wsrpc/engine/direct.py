"""The work on a link with callbacks within one turn of the event loop.

All of it is synchronous, and compiled where the core is; the waits are in `driver`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..protocol.events import CreditReceived, Event, ItemsReceived
from ..runtime import Future
from ..runtime.compiling import mypyc_attr
from ..runtime.timers import TimerEntry
from ..transport.base import DirectLink
from .hub import Hub, settle
from .stall import Fault, Stall

__all__ = ["DirectTurns", "Process", "slice_of"]

# Events of one message that are acted on before other tasks have a turn. With all 64 answers of a
# full batch in one go the two ends would take turns instead of working at the same time.
SLICE = 32

# The same where they bring items of streams, or credit. Producers do not wait for answers, so both
# ends work at the same time anyway, and each turn of the loop costs as much as several items.
STREAMS_SLICE = 64

# Messages that may wait for their turn before the socket is no longer read.
BACKLOG = 4

Process = Callable[[list[Event]], None]


def slice_of(events: list[Event]) -> int:
    """The number of the events that are acted on before other tasks have a turn."""
    kinds = list(map(type, events[:STREAMS_SLICE]))
    count = len(kinds)
    others = count - kinds.count(ItemsReceived) - kinds.count(CreditReceived)
    while others > SLICE:
        count -= 1
        others -= kinds[count] is not ItemsReceived and kinds[count] is not CreditReceived
    return count


@mypyc_attr(allow_interpreted_subclasses=True)
class DirectTurns:
    """The part of a `DirectDriver` within one turn of the event loop: all but waiting."""

    __slots__ = (
        "_backlog",
        "_blocked",
        "_blocked_since",
        "_caught_up",
        "_events",
        "_fault",
        "_flushed",
        "_guesses",
        "_hub",
        "_link",
        "_lone",
        "_lost",
        "_now",
        "_over",
        "_process",
        "_ready",
        "_rest",
        "_scheduled",
        "_sent",
        "_soon",
        "_stall",
        "_stopped",
    )

    def __init__(self, link: DirectLink, hub: Hub, process: Process, fault: Fault) -> None:
        self._link = link
        self._hub = hub
        self._process = process
        self._fault = fault
        # It is made when the transport takes no more bytes for the first time.
        self._stall: Stall | None = None
        self._soon = hub.runtime.call_soon
        self._ready = hub.runtime.ready
        # Where the event loop does not tell whether other callbacks are ready, the last message
        # tells: if one frame answered it, one frame is likely to answer the next message too, and
        # that frame is written at once. If a second frame follows, the guess was wrong, and that
        # frame waits for its turn as usual.
        self._guesses = self._ready() is None
        self._lone = False
        self._sent = 0
        self._now = hub.runtime.now
        self._lost: Future = hub.runtime.future()
        self._events: list[Event] = []
        self._backlog: list[bytes] = []
        self._caught_up: list[Future] = []
        self._flushed: list[Future] = []
        # Before the link is attached no callback tells that it takes more.
        self._scheduled = True
        self._blocked = False
        self._blocked_since = 0.0
        self._over = False
        self._stopped = False
        # The timer for the next message, while the peer is above its bound on memory.
        self._rest: TimerEntry | None = None

    @property
    def behind(self) -> bool:
        return bool(self._events)

    @property
    def blocked_since(self) -> float | None:
        return self._blocked_since if self._blocked else None

    # ---------------------------------------------------------------- bytes in

    def _on_message(self, data: bytes) -> None:
        if self._guesses:
            self._sent = self._hub.endpoint.sent
        if self._events or self._backlog or self._rest is not None:
            self._backlog.append(data)
            if len(self._backlog) >= BACKLOG:
                self._link.pause()
        elif not self._over:
            self._take(data)
            if self._events:
                self._soon(self._go_on)

    def _take(self, data: bytes) -> None:
        try:
            self._hub.events.received(self._hub.session, len(data))
            events = self._hub.endpoint.receive(data, self._now())
            if len(events) > SLICE:
                count = slice_of(events)
                self._events = events[count:]
                del events[count:]
            self._process(events)
            self._hub.settle()
            if self._hub.endpoint.crowded and not self._over:
                self._slow_down(len(data))
        except Exception as error:  # noqa: BLE001  (raised by `run`)
            self._fail(error)

    def _slow_down(self, size: int) -> None:
        delay = self._hub.delay(size)
        if delay and self._rest is None:
            self._link.pause()
            self._rest = self._hub.timers.add(self._now() + delay, self._rested)

    def _rested(self) -> None:
        self._rest = None
        if self._over:
            return
        self._slow_down(0)
        if self._rest is None:
            if len(self._backlog) < BACKLOG:
                self._link.resume()
            if self._backlog:
                self._soon(self._go_on)

    def _go_on(self) -> None:
        """Act on the next slice of a message, or on the next message, after other tasks' turn."""
        if self._over:
            return
        if not self._events:
            if self._rest is not None or not self._backlog:
                return
            data = self._backlog.pop(0)
            if len(self._backlog) == BACKLOG - 1:
                # Not earlier: on resuming, the link delivers messages until there are enough again.
                self._link.resume()
            self._take(data)
        else:
            count = slice_of(self._events)
            events, self._events = self._events[:count], self._events[count:]
            try:
                self._process(events)
            except Exception as error:  # noqa: BLE001  (raised by `run`)
                self._fail(error)
            if self._caught_up and not self._events:
                settle(self._caught_up)
        if not self._over and (self._events or (self._backlog and self._rest is None)):
            self._soon(self._go_on)

    def _on_lost(self, error: Exception) -> None:
        if self._rest is not None:
            # No message comes after those that are here.
            self._hub.timers.remove(self._rest)
            self._rest = None
            self._soon(self._go_on)
        if self._events or self._backlog:
            # The loss came after these messages.
            self._soon(partial(self._on_lost, error))
        else:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._over = True
        self._end_stall()
        if not self._lost.done():
            self._lost.set_result(error)

    # ---------------------------------------------------------------- bytes out

    def wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._soon(self._flush)

    def flush(self) -> None:
        if not self._scheduled:
            ready = self._ready()
            if ready is None:
                ready = not (self._lone and self._hub.endpoint.sent == self._sent)
            if not ready:
                self._flush()
            else:
                self._scheduled = True
                self._soon(self._flush)

    def _flush(self) -> None:
        # No other call is needed while this one runs, or while the transport takes no more.
        self._scheduled = True
        if self._over or self._blocked:
            return
        hub, endpoint, send = self._hub, self._hub.endpoint, self._link.send_nowait
        try:
            while endpoint.has_output:
                data = endpoint.next_batch(self._now())
                if data is None:
                    break
                hub.took()
                hub.events.sent(hub.session, len(data))
                if not send(data):
                    self._blocked = True
                    self._blocked_since = hub.runtime.now()
                    if self._stall is None:
                        self._stall = Stall(hub, self._unsent, self._fault)
                    self._stall.begin()
                    return
        except Exception as error:  # noqa: BLE001  (the fault handler acts on it)
            self._fault(error)
            return
        if self._guesses:
            self._lone = endpoint.sent - self._sent <= 1
        self._scheduled = False
        if self._flushed:
            settle(self._flushed)

    def _on_drained(self) -> None:
        if self._blocked:
            self._blocked = False
            self._end_stall()
            hub = self._hub
            hub.events.backpressure(hub.session, hub.runtime.now() - self._blocked_since)
            self._flush()

    def _unsent(self) -> int:
        return self._link.unsent

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.end()

    def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = self._over = True
        self._end_stall()
        if self._blocked:
            # The peer took no more bytes until the end, as one that has stalled.
            self._blocked = False
            hub = self._hub
            hub.events.backpressure(hub.session, hub.runtime.now() - self._blocked_since)
        paused = self._rest is not None or len(self._backlog) >= BACKLOG
        if self._rest is not None:
            self._hub.timers.remove(self._rest)
            self._rest = None
        settle(self._flushed)
        settle(self._caught_up)
        self._backlog.clear()
        events, self._events = self._events, []
        self._process(events)
        if paused:
            # Messages are dropped from here on, but `run` waits for the end of the link, which may
            # have come already.
            self._link.resume()
