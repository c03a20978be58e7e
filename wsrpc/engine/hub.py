"""The part that outbound and inbound calls share: a pure endpoint, and the waiting around it.

The endpoint decides; the hub waits. Each lane's `owner` is a `LaneOwner`, to which the session
hands the endpoint's events. All of it runs on one event loop, between two awaits at a time, so
there are no locks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from itertools import islice
from typing import Any, Protocol

from ..contract.signature import Param
from ..errors import Code, ConnectionLost, DeadlineExceeded
from ..interfaces import Session
from ..protocol.endpoint import Endpoint
from ..protocol.events import Event
from ..protocol.frames import Error, ErrorBody
from ..protocol.lanes import InCall
from ..runtime import Future, Nursery, Runtime
from ..runtime.timers import Timers
from ..telemetry.events import Events
from ..telemetry.logs import Log
from .held_bytes import HeldBytes, Turn
from .lane_owner import LaneOwner, Terminal
from .ledger import Ledger

# Streams that are woken in one turn of the event loop at most, when the outbox has room again; and
# bytes of room for each.
PORTION = 64
SHARE = 1024

NO_ERRORS: frozenset[str] = frozenset()

__all__ = ["Driver", "Hub", "LaneOwner", "Offered", "Terminal", "settle"]


class Driver(Protocol):
    """The part of a link at work that the session and its hub use."""

    @property
    def behind(self) -> bool:
        """Whether a part of a message has yet to be acted on, while other tasks have a turn."""
        ...

    @property
    def blocked_since(self) -> float | None:
        """Seconds on the loop's clock. The time since which the link takes no bytes, or None."""
        ...

    async def caught_up(self) -> None:
        """Wait until all of the message has been acted on, or the link is gone."""

    async def start(self) -> None:
        """Send the frames that are ready, such as the connecting side's hello."""

    async def run(self) -> None:
        """Read until the link is gone, and raise the reason.

        Raises:
            LinkClosed: The link is closed, or broke.
            ProtocolError: The peer broke a rule, or does not read.
        """

    def wake(self) -> None:
        """Write soon: the endpoint may have output."""

    def flush(self) -> None:
        """Write now, unless other code is about to add to the endpoint's output."""

    async def flushed(self) -> None:
        """Wait until the endpoint has no output left, or the link is gone."""

    def stop(self) -> None:
        """Stop reading and writing; events of messages taken already are acted on at once."""


class Hub(HeldBytes):
    """The loop-side state of one session.

    Attributes:
        origin: An object that marks the errors of this session's peer. A session may have several hubs,
            one after another, and one mark.
        own_errors: Types of errors that the peer makes on this side's behalf; no other code there can.
        nursery: The parent of all tasks of this session.
        events: Passes events to counters and observers.
        log: The log with this session's fields.
        driver: Moves bytes between the endpoint and the link, while there is a link.
        flush: Like `wake`, for a caller that adds no further frame: the output may be written at
            once.
        unlinked: Called where `wake` or `flush` is, while there is no driver.
        growth: By how much the window of a stream grows in one step.
        followers: The other sessions to which events of one message gave output, while these are acted
            on; each of them is flushed after the last event.
        trouble: The reason why there is no link, where it is known.
        lost_class: The class of the errors of its calls after its end.
        on_lost: The futures that wait for the loss.
        pumps: The uploads of this side that run.
        notifications: The notifications of this side that the other end has not finished.
        unsent: Notifications that were waiting when the session ended, for the next wire session.
        producers: The number of this side's streams that run.
        draining: The futures that wait for the end of a drain.
    """

    # A server has one hub for each session, and most are idle. So it has slots, and holds nothing
    # that only few sessions need.
    __slots__ = (
        "_blocked",
        "_closing",
        "_driver",
        "_room",
        "_waited_for_partly",
        "_wakes",
        "codec",
        "draining",
        "events",
        "flush",
        "followers",
        "growth",
        "log",
        "lost_class",
        "notifications",
        "nursery",
        "on_lost",
        "origin",
        "own_errors",
        "producers",
        "pumps",
        "session",
        "trouble",
        "unlinked",
        "unsent",
    )

    def __init__(
        self,
        session: Session,
        endpoint: Endpoint,
        runtime: Runtime,
        nursery: Nursery,
        events: Events | None = None,
        ledger: Ledger | None = None,
        origin: object | None = None,
    ) -> None:
        account = (ledger or Ledger(endpoint.limits)).open()
        super().__init__(endpoint, runtime, Timers(runtime, nursery), account)
        self.session = session
        self.own_errors = NO_ERRORS
        self.origin = origin or object()
        self.codec = endpoint.codec
        self.nursery = nursery
        self.events = events or Events()
        self.log = Log(session)
        self.trouble: Exception | None = None
        self.lost_class = ConnectionLost
        self.on_lost: list[Future] = []
        self._driver: Driver | None = None
        self.flush: Callable[[], None] = _nothing
        self.unlinked: Callable[[], None] = _nothing
        self.followers: list[Hub] | None = None
        self.growth = 2
        self._blocked: dict[Callable[[], None], None] = {}
        self._wakes = False
        self._room: list[Future] = []
        # Dictionaries in the place of sets, which take three times the memory while they are empty.
        self.pumps: dict[Any, None] = {}
        self.notifications: dict[LaneOwner, None] = {}
        self.unsent: list[LaneOwner] = []
        self.producers = 0
        self._closing: list[Future] = []
        self.draining: list[Future] = []
        self._waited_for_partly = False

    def origin_of(self, type_name: str | None) -> object | None:
        """The mark of an error of the peer; None for an error that may cross to other sessions."""
        return None if type_name in self.own_errors else self.origin

    @property
    def driver(self) -> Driver | None:
        return self._driver

    @driver.setter
    def driver(self, driver: Driver | None) -> None:
        self._driver = driver
        self.wake = self._on_alone if driver is None else driver.wake
        self.flush = self._on_alone if driver is None else driver.flush

    def _on_alone(self) -> None:
        self.settle()
        self.unlinked()

    def gather(self, act: Callable[[list[Event]], None], events: list[Event]) -> None:
        """Act on several events of one message, and then flush the sessions to which they lead."""
        followers = self.followers = []
        try:
            act(events)
        finally:
            self.followers = None
            for other in followers:
                other.flush()

    def flush_after(self, other: Hub) -> None:
        """Flush another session, to which an event of this one gave output.

        All events of one message make one message there, not each its own.
        """
        followers = self.followers
        if followers is None:
            other.flush()
        elif other not in followers:
            followers.append(other)

    def _awaits_acks(self) -> bool:
        """Whether values wait to go on a link that takes bytes."""
        driver = self._driver
        return self.endpoint.outgoing > 0 and driver is not None and driver.blocked_since is None

    # ------------------------------------------------------------ room

    def took(self) -> None:
        """After the writer took a batch: start numbered calls, wake senders that wait for room."""
        endpoint = self.endpoint
        self.settle()
        if endpoint.started:
            started, endpoint.started = endpoint.started, []
            for call in started:
                call.owner.on_started()
        if endpoint.abandoned:
            self.settle_abandoned()
        if (self._blocked or self._room) and not endpoint.outbox_full:
            self._make_room()
        elif self._room and endpoint.crowded and not endpoint.awaited_full:
            settle(self._room)
        if self.draining:
            self.settle_drained()

    def settle_abandoned(self) -> None:
        """Fail the calls of callbacks whose own call has ended (CB-3)."""
        endpoint = self.endpoint
        abandoned, endpoint.abandoned = endpoint.abandoned, []
        for call in abandoned:
            if call.owner is not None:
                body = ErrorBody(Code.CANCELLED, "the call to which the callback belongs has ended")
                call.owner.on_finished(Error(call.id, body))

    def _make_room(self) -> None:
        if self._blocked:
            self._wake_blocked()
        settle(self._room)

    def _wake_blocked(self) -> None:
        """Wake the senders that have waited longest for room, and later the others, if there is any.

        If thousands of streams were all woken by the room for a few, most would wait again at once.
        """
        blocked = self._blocked
        room = self.limits.outbox - self.endpoint.outbox_bytes
        portion = max(1, min(PORTION, room // SHARE))
        if len(blocked) <= portion or self.lost is not None:
            woken, self._blocked = blocked, {}
        else:
            woken = dict.fromkeys(islice(blocked, portion))
            for wake in woken:
                del blocked[wake]
            if not self._wakes:
                self._wakes = True
                self.timers.add(0.0, self._wake_more)
        for wake in woken:
            wake()

    def _wake_more(self) -> None:
        self._wakes = False
        if self._blocked and not self.endpoint.outbox_full:
            self._wake_blocked()

    def block(self, wake: Callable[[], None]) -> None:
        """Call `wake` when the outbox has room again."""
        self._blocked[wake] = None

    def notified(self, notification: LaneOwner) -> None:
        """Note that a notification has ended, at the other end or before it got there."""
        self.notifications.pop(notification, None)
        if self._closing and not self.notifications:
            settle(self._closing)

    async def all_notified(self) -> None:
        """Wait until the other end has finished every notification."""
        if self.notifications:
            waiter = self.runtime.future()
            self._closing.append(waiter)
            await waiter

    async def drained(self, but: InCall | None = None) -> None:
        """Wait until a session that drains has no live call (DRAIN-3), or is over.

        Args:
            but: A call of the peer that is left out, since its handler is the one that waits here.
        """
        while self.lost is None and not self._drained(but):
            waiter = self.runtime.future()
            self.draining.append(waiter)
            await waiter

    def settle_drained(self) -> None:
        """Check for the end of a drain, after a frame was sent or taken."""
        if self.draining and (self.endpoint.drained or self._waited_for_partly):
            settle(self.draining)

    def _drained(self, but: InCall | None) -> bool:
        if but is None or not self.endpoint.handles(but):
            return self.endpoint.drained
        self._waited_for_partly = True
        outbound, inbound = self.endpoint.live_calls()
        return not outbound and inbound == [but]

    async def room(self, alarm: float | None = None, size: int = 0, awaited: bool = False) -> None:
        """Wait until the outbox takes another value.

        Args:
            alarm: Seconds on the loop's clock. The time at which the wait fails (TIME-4).
            size: Bytes of the value, which is held meanwhile.
            awaited: Whether the peer waits for the value: an answer, or a nested call.

        Raises:
            ConnectionLost: The session ended meanwhile.
            DeadlineExceeded: There was no room before `alarm`.
        """
        endpoint = self.endpoint
        self.hold(size)
        try:
            while (endpoint.awaited_full if awaited else endpoint.outbox_full) and not self.lost:
                waiter = self.runtime.future()
                self._room.append(waiter)
                if alarm is None:
                    await waiter
                elif not await self._before(alarm, waiter):
                    error = DeadlineExceeded("no room in the outbox before the deadline")
                    error.not_started = True
                    try:
                        raise error
                    finally:
                        # Its traceback holds this frame.
                        del error
        finally:
            self.release(size)
        if self.lost is not None:
            raise self.lost_error(started=False)

    async def _before(self, alarm: float, waiter: Future) -> bool:
        """Wait for `waiter`; returns False if `alarm` came first."""

        def expire() -> None:
            if not waiter.done():
                waiter.set_result("expired")

        entry = self.timers.add(alarm, expire)
        try:
            outcome: str | None = await waiter
            return outcome != "expired"
        finally:
            self.timers.remove(entry)

    async def admitted(self, size: int, *, light: bool = False) -> None:
        """Wait until a call may begin, while the session is above its bound.

        The first call begins as soon as no other bytes are held, however many it brings.

        Args:
            size: Bytes of its arguments, which are held.
            light: Whether the call is known to hold little, so that it need not wait for what the
                other sessions of its principal hold.
        """
        shut = self.account.shut and not light
        if not (self.endpoint.crowded or self.waiting_calls or shut):
            return
        turn = Turn()
        self.waiting_calls.append(turn)
        self._waiting_bytes += size
        try:
            while True:
                turn.waiter = self.runtime.future()
                self._admit()
                await turn.waiter
                if light or not self.account.shut or self.lost is not None:
                    return
                # Calls of other sessions were let in at the same moment, and have filled the room.
        finally:
            self.waiting_calls.remove(turn)
            self._waiting_bytes -= size
            if self.waiting_calls and not self._admits:
                self._admits = True
                self.timers.add(0.0, self._admit_next)

    def lose(self, error: ConnectionLost) -> None:
        """Fail all that waits on this session, which is over."""
        self.lost = error
        # Before the accepting side's hello no call of this side has begun (HELLO-8).
        begun = self.endpoint.established
        for call in self.endpoint.close():
            if call.owner is not None:
                call.owner.on_lost(self.lost_error(started=begun and call.is_numbered))
        self.settle()
        self._make_room()
        self.wake()
        settle(self.draining)
        settle(self.on_lost)

    def overdue(self, label: str, what: str) -> DeadlineExceeded:
        """The error for a call whose deadline has passed on this side.

        Args:
            label: The name of the call in messages.
            what: The rest of the message after the label, such as "was not sent before its
                deadline".
        """
        trouble = self.trouble
        if self.driver is not None or trouble is None:
            return DeadlineExceeded(f"{label} {what}")
        error = DeadlineExceeded(
            f"{label} {what}: there is no connection ({str(trouble) or type(trouble).__name__})"
        )
        error.__cause__ = trouble
        return error

    def lost_error(self, *, started: bool) -> ConnectionLost:
        """A fresh error for one call: exceptions must not be shared between tasks."""
        lost = self.lost
        assert lost is not None
        error = self.lost_class(lost.message, lost.close_code, lost.close_reason)
        error.__cause__ = lost.__cause__
        error.not_started = not started
        return error


def _nothing() -> None:
    """Do nothing: there is no driver to tell."""


def settle(waiters: list[Future]) -> None:
    """Let all of these waiters go on, and empty the list."""
    for waiter in waiters:
        # asyncio cancels a future together with the task that waits for it.
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()


class Offered:
    """A callback that travels with a call: the function to run when the peer calls it."""

    __slots__ = ("context", "fn", "label", "param")

    def __init__(self, label: str, param: Param, fn: Callable[..., Any]) -> None:
        self.label = label
        self.param = param
        self.fn = fn
        # The callback runs with the context variables of the code that passed it.
        self.context = copy_context()
