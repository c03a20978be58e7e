"""One wire session: an endpoint and all tasks around it, over one link after another.

A user's `Session` has one of these at a time, or two while the older one is drained. When one
cannot be resumed, the connecting side's `Session` goes on with the next. An `Owner` is told of each
event of the links and of the wire session.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Protocol

import anyio

from ..close_codes import CloseCode, may_resume
from ..context import Authorize, Visible, handling
from ..engine.driver import driver_for
from ..engine.hub import Hub
from ..engine.ledger import Ledger
from ..errors import ConnectionLost, ProtocolError
from ..handling.dispatch import Dispatcher, Relay
from ..handling.live import LiveCalls
from ..handling.target import MethodEntry
from ..handling.threads import Threads
from ..interfaces import Session
from ..protocol.endpoint import Endpoint
from ..protocol.events import (
    ArgumentsReceived,
    AuthReceived,
    CallReceived,
    CallRefused,
    CancelReceived,
    CreditReceived,
    Event,
    GoawayReceived,
    HelloReceived,
    ItemsReceived,
    SessionExpired,
    StreamFinished,
    TokenConfirmed,
)
from ..protocol.frames import HelloBody
from ..runtime import Future, Nursery, Runtime
from ..runtime.timers import TimerEntry
from ..telemetry.events import Events
from ..transport.base import Link, LinkClosed
from .blockages import blockages
from .first_message import first_message
from .pressure import Pressure

__all__ = ["STOPPING", "Owner", "WireSession"]

# Seconds for the goodbye of a link on which nothing has begun.
GOODBYE = 0.1
STOPPING = "the server is stopping"

# Seconds that handlers have to end once their cleanup was cancelled as well.
KILLED = 0.5


class Owner(Protocol):
    """The object that is told of the events of a wire session."""

    def wire_opened(self, wire: WireSession, hello: HelloBody) -> None:
        """Both hellos of a link are through."""

    def wire_detached(self, wire: WireSession, error: ConnectionLost) -> None:
        """The link is lost, and the session waits to be resumed."""

    def wire_ended(self, wire: WireSession, error: ConnectionLost) -> None:
        """The session is over for good."""

    def wire_confirmed(self, wire: WireSession) -> None:
        """Accepting side: the peer has the newest token."""

    def wire_draining(self, wire: WireSession, event: GoawayReceived) -> None:
        """The peer drains: it takes no new calls, and is about to go."""

    def wire_auth(self, wire: WireSession, event: AuthReceived) -> None:
        """Accepting side: the peer sent fresh credentials, which have yet to be verified."""


class WireSession:
    """An endpoint at work.

    Args:
        session: The user's object.
        owner: The object that is told of its events.
        endpoint: A new endpoint of the protocol.
        runtime: The event loop.
        nursery: The parent of everything that runs here.
        entries: The methods that the peer may call.
        authorize: Asked before each of its calls.
        check: Whether results are validated before they leave.
        debug: Whether unexpected errors cross with their text.
        events: Passes its events to counters and observers.
        threads: The threads in which plain functions run.
        ledger: The ledger in which it has an account of the bytes it holds; one of its own, if
            None.
        visible: Tells whether the peer is told of a method; None: of all.
        origin: Marks the errors of its peer; an object of its own, if None.

    Attributes:
        hub: The waiting around the endpoint.
        calls: The calls of the peer that run.
        comes_back: Whether a lost link may be followed by another.
    """

    def __init__(
        self,
        session: Session,
        owner: Owner,
        endpoint: Endpoint,
        runtime: Runtime,
        nursery: Nursery,
        *,
        entries: Mapping[str, MethodEntry],
        authorize: Authorize | None,
        check: bool,
        debug: bool,
        events: Events,
        threads: Threads,
        ledger: Ledger | None = None,
        visible: Visible | None = None,
        origin: object | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.hub = Hub(session, endpoint, runtime, nursery, events, ledger, origin)
        # It is made when the session first comes above its bound on memory.
        self._pressure: Pressure | None = None
        self.hub.account.on_change = self._on_pressure
        self.calls = LiveCalls(
            self.hub, authorize=authorize, check=check, debug=debug, threads=threads
        )
        self._dispatcher = Dispatcher(self.calls, entries, visible)
        self.comes_back = True
        self._owner = owner
        self._runtime = runtime
        self._nursery = nursery
        self._events = events
        self._link: Link | None = None
        # The reason why the present link has to go, until it is gone.
        self._verdict: ProtocolError | None = None
        # Links that this side is closing.
        self._closing: list[Future] = []
        self._alarm: TimerEntry | None = None
        self._alarm_at = 0.0

    @property
    def over(self) -> bool:
        """Whether the session has ended for good."""
        return self.hub.lost is not None

    def relay_calls(self, relay: Relay) -> None:
        """Pass calls of the peer on to `relay`, if it takes them."""
        self._dispatcher.relay = relay

    @property
    def link(self) -> Link | None:
        """The present link."""
        return self._link

    # ------------------------------------------------------------ links

    async def connect(self, link: Link, auth: Any) -> None:
        """Connecting side: say hello on a new link, and serve it until it is gone.

        Args:
            link: The connection.
            auth: The credentials.

        Raises:
            ValueError: The credentials cannot travel; the caller's fault.
        """
        self.endpoint.connect(auth, patient=True)
        self._events.link_opened(link.handshake)
        try:
            await self.serve(link, None)
        finally:
            self._events.link_left()

    def begin(self, how: Callable[[], list[Event]]) -> list[Event]:
        """Accepting side: let the endpoint begin on a new link; `serve` takes the events.

        Args:
            how: Lets the endpoint begin.

        Raises:
            ProtocolError: The first message does not fit; the peer's fault. The caller closes the
                link.
        """
        try:
            return how()
        except ProtocolError as error:
            if error.close_code != CloseCode.SUPERSEDED:
                self._take_unreported()
                self.expel(error.close_code, error.reason)
            raise

    async def serve(self, link: Link, events: list[Event] | None) -> None:
        """Serve a link until it is gone; an older one is closed (RESUME-3).

        Args:
            link: The connection.
            events: The events of its first message; None if that has yet to come.
        """
        older, older_driver = self._link, self.hub.driver
        self._link, self._verdict = link, None
        driver = self.hub.driver = driver_for(
            link, self.hub, self._process, partial(self._writing_failed, link)
        )
        if older is not None and older_driver is not None:
            older_driver.stop()
            self._events.link_closed(older.handshake, CloseCode.SUPERSEDED)
            self._close_soon(older, CloseCode.SUPERSEDED, "a newer link has taken over")
        failure: LinkClosed | ProtocolError
        try:
            await driver.start()
            if events is None:
                data = await first_message(link, self.hub.limits.connect_timeout)
                self._events.received(self.hub.session, len(data))
                events = self.endpoint.receive(data, self._runtime.now())
            self._process(events)
            # A link may be idle for days: the objects of its beginning should not stay for so long.
            del events
            await driver.run()
            raise AssertionError("a driver that ends without a word")
        except (LinkClosed, ProtocolError) as error:
            # Its traceback would keep the last message and what came of it until the garbage
            # collector runs.
            failure = error.with_traceback(None)
        except Exception as error:  # noqa: BLE001  (logged)
            failure = self._own_fault(error)
        finally:
            driver.stop()
        if self.hub.driver is driver:
            await self._link_ended(link, failure)

    async def _link_ended(self, link: Link, failure: LinkClosed | ProtocolError) -> None:
        """The present link is gone, or has to go."""
        if self._link is not link:
            return
        # The reader may notice that its driver was stopped before the verdict is acted on.
        failure, self._verdict = self._verdict or failure, None
        self._take_unreported()
        if isinstance(failure, LinkClosed):
            self._leave(failure.code, failure.reason)
        else:
            code, reason = failure.close_code, failure.reason
            self.hub.log.info("closing %r with %d: %s", self.hub.session, code, reason, code=code)
            # First the verdict, then the closing handshake: no call waits for the peer's goodbye.
            self._leave(code, reason, failure)
            if code == CloseCode.HELLO_TIMEOUT:
                # A peer that says nothing gets no time.
                self.hub.timers.add(self._runtime.now() + GOODBYE, link.abort)
            await self._close(link, code, reason)

    def _take_unreported(self) -> None:
        # The frames ahead of a violation, in the same message, have taken effect all the same.
        before, self.endpoint.unreported = self.endpoint.unreported, []
        self._process(before)

    def _leave(self, code: int, reason: str, verdict: ProtocolError | None = None) -> None:
        """Leave a link that ended with this code, or by this side's `verdict`.

        The session ends, unless it may be resumed.
        """
        if self._link is not None:
            self._events.link_closed(self._link.handshake, code, reason)
        self._link = self.hub.driver = None
        if self.over:
            return
        self.endpoint.detach(self._runtime.now())
        resumable = self.comes_back and self.endpoint.resumable and not self._is_last(code)
        if resumable and may_resume(code):
            self.calls.stop_attached()
            self._arm()
            self._owner.wire_detached(self, _lost(code, reason, "the connection was lost"))
        else:
            # The cause may also be the end of the link before, which this one was to resume.
            cause, what = verdict or self.hub.trouble, self.endpoint.fruitless
            self.lose(code, reason, what=what, cause=cause)

    def _is_last(self, code: int) -> bool:
        """Whether no other link follows one that ended with this code, since a side drains.

        A server that drains does not listen any more, and with 1012 it is through (DRAIN-3).
        """
        endpoint = self.endpoint
        if endpoint.side == "accepting":
            return endpoint.draining
        return endpoint.peer_draining and code == CloseCode.RESTART

    async def _close(self, link: Link, code: int, reason: str) -> None:
        await self._closed(link, code, reason, self._begin_closing())

    def _close_soon(self, link: Link, code: int, reason: str) -> None:
        self._nursery.spawn(self._closed, link, code, reason, self._begin_closing())

    def _begin_closing(self) -> Future:
        done = self._runtime.future()
        self._closing.append(done)
        return done

    async def _closed(self, link: Link, code: int, reason: str, done: Future) -> None:
        try:
            with anyio.CancelScope(shield=True):
                await link.close(code, reason)
        finally:
            self._closing.remove(done)
            done.set_result(None)

    def _writing_failed(self, link: Link, error: Exception) -> None:
        """End the link, since the driver cannot write, by its own fault or the peer's."""
        if self._link is link and self._verdict is None:
            self._verdict = error if isinstance(error, ProtocolError) else self._own_fault(error)
            driver = self.hub.driver
            if driver is not None:
                driver.stop()
            self._nursery.spawn(self._link_ended, link, self._verdict)

    def _own_fault(self, error: Exception) -> ProtocolError:
        self.hub.log.error("a fault in wsrpc itself ended %r", self.hub.session, error=error)
        return ProtocolError(CloseCode.SERVER_TROUBLE, "internal error")

    # ------------------------------------------------------------ the end

    async def drain(self, grace: float, reconnect_after: float) -> None:
        """Take no new calls, finish those that run, end the session (DRAIN-1, DRAIN-3).

        Args:
            grace: Seconds for calls to finish; handlers that still run then are cancelled.
            reconnect_after: Seconds that the peer is asked to stay away.
        """
        if self._link is None:
            self.lose(CloseCode.RESTART, STOPPING)
            return
        end = self._runtime.now() + grace
        self.endpoint.goaway(grace, self._runtime.now(), reconnect_after=reconnect_after)
        self.calls.stop_ending()
        self.hub.wake()
        handled = handling.get()
        own = None if handled is None else handled.parent_in(self.endpoint)
        if own is None:
            await self._finish_by(end)
            return
        # The caller may be a handler of this very session, which would wait for itself.
        with anyio.move_on_after(grace):
            await self.hub.drained(own)
        self._nursery.spawn(self._finish_by, end)

    async def _finish_by(self, end: float) -> None:
        """End a session that drains, as soon as no call is live any more.

        Args:
            end: Seconds on the loop's clock. The time at which handlers that still run are
                cancelled.
        """
        with anyio.move_on_after(max(0.0, end - self._runtime.now())):
            await self.hub.drained()
        if not self.over and self.calls.live:
            self.calls.stop_all("unavailable")
            with anyio.move_on_after(self.hub.limits.cleanup_timeout + KILLED):
                await self.calls.idle()
        await self.close(CloseCode.RESTART, STOPPING)

    async def close(self, code: int, reason: str) -> None:
        """Send queued frames, close the link, end the session."""
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(self.hub.limits.close_timeout):
                await self._flush()
                await self.hub.all_notified()
            link = self._link
            if link is not None and not self.over:
                await self._close(link, code, reason)
            self.lose(code, reason)

    def expel(self, code: int, reason: str, within: float | None = None) -> None:
        """End the session now, so that no frame of the peer acts any more, and then close the link.

        Args:
            code: The close code.
            reason: For people.
            within: Seconds for the closing handshake; `Limits.close_timeout` if None.
        """
        link = self._link
        self.lose(code, reason)
        if link is not None:
            self._close_soon(link, code, reason)
            if within is not None:
                self.hub.timers.add(self._runtime.now() + within, link.abort)

    def refresh(self, auth: Any) -> None:
        """Connecting side: send fresh credentials, if there is a link that has begun.

        Raises:
            ValueError: The credentials cannot travel; the caller's fault.
        """
        if self._link is not None and self.endpoint.state == "open":
            self.endpoint.refresh(auth)
            self.hub.wake()

    def trust_until(self, when: float) -> None:
        """Accepting side: set when the credentials of the present link run out (AUTH-3)."""
        self.endpoint.trust_until(when)
        if self._link is not None:
            self._arm()

    def refuse_link(self, link: Link, error: ProtocolError) -> None:
        """Close a link that cannot be trusted any more, if it is still the present one."""
        self._writing_failed(link, error)

    async def _flush(self) -> None:
        """Wait until everything queued has gone to the link."""
        driver = self.hub.driver
        if driver is not None and not self.over and self.endpoint.established:
            await driver.flushed()

    def lose(
        self, code: int, reason: str, *, what: str | None = None, cause: Exception | None = None
    ) -> None:
        """End the session for good: fail pending calls, cancel handlers (CLOSE-4, CLOSE-5).

        Args:
            code: The close code.
            reason: The reason that the closing side gave.
            what: The message of the error, if more is known than the code.
            cause: The exception that led to it.
        """
        if self.over:
            return
        if self._link is not None:
            self._events.link_closed(self._link.handshake, code, reason)
            self._link = None
        driver = self.hub.driver
        if driver is not None:
            driver.stop()
        self._disarm()
        self.hub.account.on_change = None
        if self._pressure is not None:
            self._pressure.end()
        error = _lost(code, reason, what or f"the session ended with close code {code}")
        error.__cause__ = cause
        self._events.frames_ignored(self.endpoint.ignored)
        self.hub.lose(error)
        self.hub.driver = None  # It has the link, with all unread input.
        self.calls.stop_all()
        self._owner.wire_ended(self, error)

    async def wait_ended(self) -> None:
        """Wait until the session is over for good."""
        if not self.over:
            waiter = self._runtime.future()
            self.hub.on_lost.append(waiter)
            await waiter

    async def idle(self) -> None:
        """Wait until handlers and uploads have cleaned up; the session has ended, in any case."""
        self.lose(CloseCode.NORMAL, "")
        await self._runtime.to_the_end(self._cleaned_up)

    async def _cleaned_up(self) -> None:
        await self.calls.idle()
        for pump in list(self.hub.pumps):
            await pump.through()
        for closing in list(self._closing):
            # A closing handshake that is cut short makes websockets on trio wait for its whole
            # timeout.
            await closing
        self.hub.timers.close()

    def _on_pressure(self) -> None:
        if self._pressure is None:
            self._pressure = Pressure(self.hub, self.expel)
        self._pressure.changed()

    # ------------------------------------------------------------ time

    def _arm(self) -> None:
        """Set the timer for the endpoint's next alarm."""
        when = self.endpoint.next_alarm
        if when is None or (self._alarm is not None and self._alarm_at <= when):
            return
        self._disarm()
        self._alarm_at = when
        self._alarm = self.hub.timers.add(when, self._on_alarm)

    def _disarm(self) -> None:
        if self._alarm is not None:
            self.hub.timers.remove(self._alarm)
            self._alarm = None

    def _on_alarm(self) -> None:
        self._alarm = None
        if self.over:
            return
        now = self._runtime.now()
        lag = now - self._alarm_at
        if lag > self.hub.limits.heartbeat_timeout and self._link is not None:
            blockages.tell(self.hub.log, now, lag)
        try:
            # The alarm may be early for the next duty, and yet late itself.
            self._process(self.endpoint.alarm(now, lag=lag))
        except ProtocolError as error:
            # This arms no alarm: the duty stays due, and leaving the link arms the next one.
            if self._link is not None:
                self._writing_failed(self._link, error)
        else:
            self._arm()

    # -------------------------------------------------------------- reports of the endpoint

    def _process(self, events: list[Event]) -> None:
        hub = self.hub
        if hub.lost is not None:
            # No call may begin any more on a session that has ended.
            return
        if len(events) > 1:
            hub.gather(self._act, events)
        else:
            self._act(events)
        if hub.draining:
            hub.settle_drained()
        endpoint = self.endpoint
        if endpoint.has_output:
            hub.wake()
        when = endpoint.next_alarm
        if when is not None and (self._alarm is None or when < self._alarm_at):
            self._arm()

    def _act(self, events: list[Any]) -> None:
        for event in events:
            kind = type(event)
            # Most events are of three kinds, which go straight to where they belong.
            if kind is ItemsReceived:
                if (owner := event.lane.owner) is not None:
                    owner.on_items(event.items)
            elif kind is CallReceived:
                self._dispatcher.receive(event.call, event.complete)
            elif kind is StreamFinished:
                if (owner := event.lane.owner) is not None:
                    owner.on_finished(event.frame)
            else:
                self._on[kind](self, event)

    def _on_hello(self, event: HelloReceived) -> None:
        self._owner.wire_opened(self, event.body)

    # A lane without an owner is one whose call was refused, or has ended, by an earlier event of
    # the same message: no handler is there any more to be told.

    def _on_refused(self, event: CallRefused) -> None:
        call = event.call
        method = call.method if isinstance(call.method, str) else ""
        self._dispatcher.refused(call, method, event.code)

    def _on_arguments(self, event: ArgumentsReceived) -> None:
        if event.call.owner is not None:
            event.call.owner.on_arguments()

    def _on_cancel(self, event: CancelReceived) -> None:
        if event.lane.owner is not None:
            event.lane.owner.on_cancel(event.reason)

    def _on_credit(self, event: CreditReceived) -> None:
        if event.lane.owner is not None:
            event.lane.owner.on_credit()

    def _on_goaway(self, event: GoawayReceived) -> None:
        # The calls that will not be answered are finished by events after this one.
        self._owner.wire_draining(self, event)

    def _on_auth(self, event: AuthReceived) -> None:
        self._owner.wire_auth(self, event)

    def _on_confirmed(self, event: TokenConfirmed) -> None:
        self._owner.wire_confirmed(self)

    def _on_expired(self, event: SessionExpired) -> None:
        self.lose(
            CloseCode.CONNECTION_LOST,
            f"it was not resumed within {self.endpoint.resume_window:g} s",
        )

    _on: ClassVar[dict[type[Any], Callable[[WireSession, Any], None]]] = {
        HelloReceived: _on_hello,
        CallRefused: _on_refused,
        ArgumentsReceived: _on_arguments,
        GoawayReceived: _on_goaway,
        AuthReceived: _on_auth,
        CancelReceived: _on_cancel,
        CreditReceived: _on_credit,
        TokenConfirmed: _on_confirmed,
        SessionExpired: _on_expired,
    }


def _lost(code: int, reason: str, what: str) -> ConnectionLost:
    return ConnectionLost(f"{what}: {reason}" if reason else what, code, reason)
