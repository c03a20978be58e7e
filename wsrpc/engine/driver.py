"""One link at work: moves bytes between the link and the endpoint.

There are two ways to drive a link. `TaskDriver` works with every link: one task reads, one writes.
`DirectDriver` takes links that call back, and needs no tasks. It acts on a message in the callback
that brings it. It writes frames that are ready in the same turn of the event loop, after all other
callbacks of that turn. So a batch gathers all frames of one turn, and a single call does not wait
for another turn.
"""

from __future__ import annotations

import anyio

from ..close_codes import CloseCode
from ..protocol.events import Event
from ..runtime import Future, Task
from ..transport.base import Link, LinkClosed, is_direct
from .direct import DirectTurns, Process, slice_of
from .hub import Driver, Hub, settle
from .stall import Fault, Stall

__all__ = ["DirectDriver", "TaskDriver", "driver_for"]

# Seconds from which a write on a link without callbacks is reported as backpressure.
NOTICEABLE = 0.01


def driver_for(link: Link, hub: Hub, process: Process, fault: Fault) -> Driver:
    """The best driver for this link.

    Args:
        link: The connection.
        hub: The hub with the endpoint.
        process: Acts on the endpoint's events.
        fault: Gets an exception of the writer that is not the link's end, and closes the link.
    """
    if is_direct(link):
        return DirectDriver(link, hub, process, fault)
    return TaskDriver(link, hub, process, fault)


def _tell_blocked(hub: Hub, seconds: float) -> None:
    if seconds > NOTICEABLE:
        hub.events.backpressure(hub.session, seconds)


class TaskDriver:
    """Drives any link, with a task that reads and one that writes."""

    __slots__ = (
        "_caught_up",
        "_events",
        "_fault",
        "_flushed",
        "_hub",
        "_link",
        "_over",
        "_process",
        "_ready",
        "_stall",
        "_writer",
        "_writing_since",
    )

    def __init__(self, link: Link, hub: Hub, process: Process, fault: Fault) -> None:
        self._link = link
        self._hub = hub
        self._process = process
        self._fault = fault
        self._stall = Stall(hub, lambda: 0, fault)
        self._ready: Future | None = None
        self._flushed: list[Future] = []
        self._writer: Task | None = None
        self._events: list[Event] = []
        self._caught_up: list[Future] = []
        self._over = False
        self._writing_since: float | None = None

    @property
    def behind(self) -> bool:
        return bool(self._events)

    @property
    def blocked_since(self) -> float | None:
        return self._writing_since

    async def caught_up(self) -> None:
        waiter = self._hub.runtime.future()
        self._caught_up.append(waiter)
        await waiter

    async def start(self) -> None:
        self._writer = self._hub.nursery.spawn(self._write)

    async def run(self) -> None:
        receive, take, process = self._link.receive, self._hub.endpoint.receive, self._process
        now, pause = self._hub.runtime.now, self._hub.runtime.pause
        received, session = self._hub.events.received, self._hub.session
        while True:
            data = await receive()
            received(session, len(data))
            if self._over:
                raise LinkClosed(CloseCode.NO_STATUS)
            events = take(data, now())
            while len(events) > (count := slice_of(events)):
                events, self._events = events[:count], events[count:]
                process(events)
                await pause()
                events, self._events = self._events, []
            process(events)
            self._hub.settle()
            if self._caught_up:
                settle(self._caught_up)
            size = len(data)
            while not self._over and (delay := self._hub.delay(size)):
                size = 0
                await anyio.sleep(delay)

    async def _write(self) -> None:
        hub, endpoint, send = self._hub, self._hub.endpoint, self._link.send
        now, stall = hub.runtime.now, self._stall
        try:
            # A batch must not be taken from the endpoint for a link that is left.
            while not self._over:
                data = endpoint.next_batch(now())
                if data is not None:
                    hub.took()
                    stall.begin()
                    began = self._writing_since = now()
                    try:
                        await send(data)
                    except BaseException:
                        # The peer may have stalled, so that its connection is given up.
                        _tell_blocked(hub, now() - began)
                        raise
                    self._writing_since = None
                    stall.end()
                    hub.events.sent(hub.session, len(data))
                    _tell_blocked(hub, now() - began)
                    continue
                settle(self._flushed)
                self._ready = hub.runtime.future()
                await self._ready
        except LinkClosed:
            # The reader meets the same end of the link, and acts on it.
            return
        except Exception as error:  # noqa: BLE001  (the fault handler acts on it)
            self._fault(error)
        finally:
            stall.end()

    def wake(self) -> None:
        ready, self._ready = self._ready, None
        if ready is not None and not ready.done():
            ready.set_result(None)

    flush = wake

    async def flushed(self) -> None:
        if not self._over:
            waiter = self._hub.runtime.future()
            self._flushed.append(waiter)
            self.wake()
            await waiter

    def stop(self) -> None:
        if self._over:
            return
        self._over = True
        if self._writer is not None:
            self._writer.cancel()
        settle(self._flushed)
        settle(self._caught_up)
        events, self._events = self._events, []
        self._process(events)


class DirectDriver(DirectTurns):
    """Drives a link by its callbacks; for event loops of asyncio."""

    __slots__ = ()

    async def caught_up(self) -> None:
        waiter = self._hub.runtime.future()
        self._caught_up.append(waiter)
        await waiter

    async def start(self) -> None:
        data = self._hub.endpoint.next_batch(self._hub.runtime.now())
        if data is not None:
            self._hub.took()
            self._hub.events.sent(self._hub.session, len(data))
            await self._link.send(data)

    async def run(self) -> None:
        self._link.attach(self._on_message, self._on_lost, self._on_drained)
        # Where the peer's hello has woken tasks, their first calls go with the ack of it.
        self._scheduled = False
        if self._hub.endpoint.has_output:
            self.flush()
        else:
            self._flush()
        error: Exception = await self._lost
        raise error

    async def flushed(self) -> None:
        if not self._over:
            waiter = self._hub.runtime.future()
            self._flushed.append(waiter)
            self.wake()
            await waiter
