"""Passes the calls of one session on to another, frame by frame; values stay encoded.

A call that comes in on a session between nodes goes out on the session that it names, and its
answer goes back. The caller's credit paces items, and the target's credit paces uploads. Calls of
callbacks go the opposite way, like calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Literal

from msgspec import Raw

from ..calling.observed import OutboundCall
from ..engine.hub import Hub
from ..engine.lane_owner import LaneOwner
from ..errors import Code, ConnectionLost
from ..handling.live import LiveCalls
from ..handling.observed import inbound
from ..interfaces import CallEnd, ObservedCall
from ..protocol.endpoint import NoSlotError, PeerDrainingError, ValueTooLargeError
from ..protocol.frames import CallOptions, End, Error, ErrorBody, Result
from ..protocol.lanes import CallbackTarget, InCall, OutCall
from ..runtime.compiling import mypyc_attr
from ..runtime.timers import TimerEntry
from ..telemetry.events import Events
from .errors import OWN_ERRORS
from .limits import ClusterLimits
from .pipes import Allowance, Pipe, Reader, Terminal, Writer, answer, keep, whole
from .refusals import own, refusal, too_large
from .waiting import Turns, Unread

__all__ = ["TO", "WORKER", "Relay"]

# Metadata of calls between nodes: the target session, and the pool for which it works.
TO = "wsrpc-to"
WORKER = "wsrpc-worker"

# Items. The credit that is passed on at most before the first item has come.
FIRST_CREDIT = 8


@mypyc_attr(allow_interpreted_subclasses=True)
class Relay:
    """Passes calls on to the sessions of this node.

    Args:
        find: The hub of a session by its id, or None.
        enter: Takes a place of a worker in a pool; returns the function that gives it back, or None
            if there is no place.
        limits: The cluster's bounds.
        events: Tells the server's observers of the calls that are passed on.

    Attributes:
        live: Calls that are being passed on.
        unread: The calls that their targets have not begun to read.
        turns: The values that wait for room in some session.
    """

    def __init__(
        self,
        find: Callable[[str], Hub | None],
        enter: Callable[[str, str, str], Callable[[], None] | None],
        limits: ClusterLimits,
        events: Events,
    ) -> None:
        self.live = self.total = 0
        self.find = find
        self.enter = enter
        self.limits = limits
        self.events = events
        self.turns = Turns()
        self.unread = Unread(limits.relay_waiting, limits.relay_bytes)

    def __call__(self, calls: LiveCalls, call: InCall, complete: bool) -> bool:
        """Take a call that names a session; returns False for other calls."""
        return self._take("", calls, call, complete)

    def of(self, caller: str) -> Callable[[LiveCalls, InCall, bool], bool]:
        """The same for calls of one node, which a worker's load then names."""
        return partial(self._take, caller)

    def _take(self, caller: str, calls: LiveCalls, call: InCall, complete: bool) -> bool:
        metadata = call.metadata
        if not metadata or TO not in metadata:
            return False
        Inbound(self, calls, call, caller).start(complete)
        return True


@mypyc_attr(allow_interpreted_subclasses=True)
class Inbound(LaneOwner):
    """The caller's half of a relayed call: it came in."""

    __slots__ = (
        "_back",
        "_deadline",
        "_end",
        "_late",
        "_out",
        "_pipe",
        "_spoiled",
        "_told",
        "call",
        "caller",
        "calls",
        "hub",
        "readers",
        "relay",
    )

    attached = False
    ends_on_drain = False

    def __init__(self, relay: Relay, calls: LiveCalls, call: InCall, caller: str = "") -> None:
        self.relay = relay
        self.caller = caller
        self.calls = calls
        self.hub = calls.hub
        self.call = call
        # Seconds on the loop's clock. The caller's time runs while the arguments come.
        self._deadline: float | None = None
        if call.timeout is not None:
            self._deadline = self.hub.runtime.now() + call.timeout / 1000
        self._late: TimerEntry | None = None
        self._out: Outbound | None = None
        # Most calls have one answer, and no items for which they need a pipe.
        self._pipe: Pipe | None = None
        self._spoiled: ErrorBody | None = None
        # The call as observers know it, and its outcome.
        self._told: OutboundCall | None = None
        self._end: ErrorBody | str = Code.CANCELLED
        self._back: Callable[[], None] | None = None
        self.readers: dict[str, Reader] = {}
        for name, lane in call.uploads.items():
            self.readers[name] = Reader(self.hub, lane, self._too_much)
        call.owner = self
        calls.begin(self)
        relay.live += 1
        relay.total += 1

    def reap(self) -> None:
        """It has no task that could be dropped."""

    def start(self, complete: bool) -> None:
        """Pass the call on, as soon as its arguments are here."""
        if self.call.cancel_reason is not None:
            self.refuse(self.call.cancel_reason, "cancelled before it began")
        elif complete:
            self.on_arguments()
        elif self._deadline is not None:
            self._late = self.hub.timers.add(self._deadline, self._too_late)

    def _too_late(self) -> None:
        """Refuse the call, whose arguments have not come in its time."""
        self._late = None
        self.decline(ErrorBody(Code.DEADLINE_EXCEEDED, "deadline exceeded before it began"))

    def _in_time(self) -> None:
        """Forget the timer of a call whose arguments have come, or that is over."""
        assert self._late is not None
        self.hub.timers.remove(self._late)
        self._late = None

    def on_arguments(self) -> None:
        if self._late is not None:
            self._in_time()
        call = self.call
        meta = dict(call.metadata or {})
        id, pool = meta.pop(TO, ""), meta.pop(WORKER, None)
        hub = self.relay.find(id)
        if hub is None or hub.lost is not None:
            self.decline(refusal("SessionGone", f"there is no session {id[:64]!r} on its node"))
            return
        if hub.codec is not self.hub.codec:
            self.refuse(Code.INTERNAL, "a call between nodes in another codec than its session's")
            return
        if pool is not None:
            self._back = self.relay.enter(pool, id, self.caller)
            if self._back is None:
                self.refuse(Code.RESOURCE_EXHAUSTED, "the worker has no room")
                return
        self.send(hub, str(call.method), meta)

    def send(
        self,
        hub: Hub,
        method: str | int,
        meta: Mapping[str, str],
        target: CallbackTarget | None = None,
    ) -> None:
        """Make the call on the session of `hub`; `method` is the id of a callback if there is a `target`."""
        call = self.call
        self._observe(hub, method, meta)
        args = whole(call.args, self.hub.codec)
        call.forget_arguments()
        if not self.relay.unread.admit(hub, len(args)):
            message = "its client has not begun the calls that it has got already"
            self.refuse(Code.RESOURCE_EXHAUSTED, message)
            return
        granted = call.allowance
        first = min(granted, FIRST_CREDIT)
        plain = call.oneway or target is not None
        options: CallOptions | None = None
        if meta or call.key is not None or call.last_id is not None:
            options = CallOptions(metadata=dict(meta) or None, key=call.key, last_id=call.last_id)
        try:
            out = hub.endpoint.call(
                method,
                args,
                oneway=call.oneway,
                deadline=self._deadline,
                options=options,
                uploads=tuple(call.uploads),
                callbacks=tuple(call.callbacks),
                target=target,
                window=None if plain else first,
            )
        except (NoSlotError, PeerDrainingError, ValueTooLargeError) as error:
            self.relay.unread.taken(hub, len(args))
            if isinstance(error, PeerDrainingError):
                self.refuse(Code.UNAVAILABLE, "its client is draining")
            else:
                self.refuse(Code.RESOURCE_EXHAUSTED, str(error))
            return
        self._out = outbound = Outbound(self, hub, out, len(args))
        for reader in self.readers.values():
            reader.count_for(self.account(hub))
        if not plain:
            outbound.first_credit = first
            if granted == first:
                # The target has all of the credit: further grants are passed on at once.
                outbound.pass_credit()
        self.hub.flush_after(hub)

    def _observe(self, hub: Hub, method: str | int, meta: Mapping[str, str]) -> None:
        """Tell observers that the call goes out on the session that it names."""
        if not hub.events.observed:
            return
        kind: Literal["unary", "stream", "notify"] = "unary"
        if self.call.oneway:
            kind = "notify"
        elif getattr(self.call.options, "credit", None) is not None:
            # The node that makes the call names the credit of each stream.
            kind = "stream"
        self._told = OutboundCall(hub, str(method), kind, meta, relayed=True)

    def _tell(self) -> None:
        """Tell observers how the call ended."""
        if self._told is None and not self.relay.events.observed:
            return
        end = self._end
        body = end if isinstance(end, ErrorBody) else ErrorBody(end, "")
        if self._told is not None:
            not_started = bool(body.not_started)
            self._told.end(body.code, not_started=not_started, error_id=body.error_id)
        else:
            self._tell_refusal(CallEnd(str(body.code), not_started=True, error_id=body.error_id))

    def _tell_refusal(self, end: CallEnd) -> None:
        """Tell observers of a call for which there was no session here."""
        controller, _, method = str(self.call.method).rpartition(".")
        kind: Literal["unary", "notify"] = "notify" if self.call.oneway else "unary"
        call = inbound(self.calls.session, self.call, controller, method, kind)
        meta = {key: value for key, value in call.metadata.items() if key not in (TO, WORKER)}
        self.relay.events.refusal(replace(call, metadata=meta, relayed=True), end)

    def account(self, hub: Hub) -> Hub:
        """The hub of the session for which all that waits in this call counts as held.

        It is the client's, given here, so that other calls between the nodes do not suffer from it.
        """
        return hub

    # ----------------------------------------------------------------- from the target

    @property
    def open(self) -> bool:
        """Whether the caller still waits for the terminal."""
        return self.hub.lost is None and not self.call.is_over

    def items(self, items: list[Raw]) -> None:
        """Pass on items of the stream."""
        if self._told is not None:
            self.relay.events.items(self._told.call, "received", len(items))
        if self.open and self.call.may_send:
            self._pipe_in_use().put(items)

    def _pipe_in_use(self) -> Pipe:
        pipe = self._pipe
        if pipe is None:
            assert self._out is not None
            turns, account = self.relay.turns, self.account(self._out.hub)
            pipe = self._pipe = Pipe(turns, self.hub, self.call, self._spoil, account)
        return pipe

    def uploaded(self, count: int) -> None:
        """Tell observers of items of the call's uploads, which were passed on."""
        if self._told is not None:
            self.relay.events.items(self._told.call, "sent", count)

    def finished(self, frame: Terminal) -> None:
        """Pass on the call's terminal."""
        self._end = frame.body if isinstance(frame, Error) else "ok"
        pipe = self._pipe
        if pipe is None and self.hub.lost is None and self.relay.turns.room(self.hub):
            self._finish(frame)
            return
        pipe = pipe or self._pipe_in_use()
        if self.call.was_cancelled:
            pipe.drop()
        if pipe.is_clear:
            self._finish(frame)
        else:
            size = 0 if self.relay.turns.room(self.hub) else keep(frame)
            pipe.end(lambda: self._finish(frame), size)

    def _finish(self, frame: Terminal) -> None:
        call, endpoint = self.call, self.hub.endpoint
        if self.open:
            if isinstance(frame, Error):
                if frame.body.type in OWN_ERRORS:
                    # It is about some other session.
                    frame.body.type = None
                if len(frame.body.data):
                    frame.body.data = Raw(whole(frame.body.data, self.hub.codec))
            if self._spoiled is not None and not call.was_cancelled:
                self._end = self._spoiled
                endpoint.fail(call, self._spoiled)
            elif call.was_cancelled and not isinstance(frame, Error):
                self._end = reason = call.cancel_reason or "cancelled"
                endpoint.fail(call, ErrorBody(reason, "cancelled"))
            elif isinstance(frame, Error):
                (endpoint.decline if frame.body.not_started else endpoint.fail)(call, frame.body)
            else:
                self._answer(frame)
            (self.hub if self._out is None else self._out.hub).flush_after(self.hub)
        self.ended()

    def _answer(self, frame: Result | End) -> None:
        try:
            answer(self.hub, self.call, frame)
        except ValueTooLargeError as error:
            self._end = body = too_large(error)
            self.hub.endpoint.fail(self.call, body)

    def _spoil(self, body: ErrorBody) -> None:
        """End the call with the error of an item that cannot be sent."""
        self._spoiled = body
        if self._out is not None:
            self._out.cancel("cancelled")

    def _too_much(self) -> None:
        """End the call, since the target makes this node hold too much already."""
        body = own(Code.RESOURCE_EXHAUSTED, "its client does not take what waits for it already")
        for reader in self.readers.values():
            reader.stop()
        if self._out is not None and self._out.begun:
            self._out.stop()
            self._spoil(body)
        elif self._out is not None:
            self._out.withdraw()
            self.decline(body)

    def refuse(self, code: str, message: str) -> None:
        """Refuse the call, which has not begun."""
        self.decline(own(code, message))

    def decline(self, body: ErrorBody) -> None:
        """Refuse the call, which has not begun, with this error."""
        body.not_started = True
        self._fail(body)

    def lost(self, error: ConnectionLost) -> None:
        """End the call, since the target is gone."""
        body = refusal("ConnectionLost", "the session that it was for has ended")
        body.not_started = error.not_started or None
        self._fail(body)

    def _fail(self, body: ErrorBody) -> None:
        self._end = body
        if self.open:
            endpoint = self.hub.endpoint
            (endpoint.decline if body.not_started else endpoint.fail)(self.call, body)
            self.hub.wake()
        self.ended()

    def ended(self) -> None:
        """Forget the call, which is over."""
        if self.call.owner is self:
            self.call.owner = None
            if self._late is not None:
                self._in_time()
            self.calls.end(self)
            self.relay.live -= 1
            self._tell()
            if self._pipe is not None:
                self._pipe.drop()
            for reader in self.readers.values():
                reader.stop()
            if self._out is not None:
                self._out.stop()
            if self._back is not None:
                self._back()

    def on_credit(self) -> None:
        if self._pipe is not None:
            self._pipe.flush()

    def on_cancel(self, reason: str) -> None:
        self.stop(reason)

    def on_lost(self, error: ConnectionLost) -> None:
        self.stop("cancelled")

    def stop(self, reason: str) -> None:
        """Cancel the call at the target."""
        if self._out is not None:
            self._out.cancel(reason)
        elif self.hub.lost is None:
            self.refuse(reason, "cancelled before it began")
        if self.hub.lost is not None:
            self.ended()


class Outbound(LaneOwner):
    """The target's half of a relayed call: it goes out.

    Attributes:
        hub: The hub of the target's session.
        first_credit: Items of credit with which it went out; None where it has no items.
    """

    __slots__ = (
        "_allowance",
        "_call",
        "_entry",
        "_inbound",
        "_size",
        "_writers",
        "first_credit",
        "hub",
    )

    def __init__(self, inbound: Inbound, hub: Hub, call: OutCall, size: int) -> None:
        self._inbound = inbound
        self.hub = hub
        self._call = call
        self._size: int | None = size
        self.first_credit: int | None = None
        # It is made when the first items come: until then no further credit is passed on.
        self._allowance: Allowance | None = None
        call.owner = self
        self._writers: list[Writer] = []
        turns, uploaded = inbound.relay.turns, inbound.uploaded
        for name, lane in call.uploads.items():
            account = inbound.account(hub)
            writer = Writer(turns, hub, lane, inbound.readers[name], account, uploaded)
            self._writers.append(writer)
        for name, offer in call.callbacks.items():
            offer.owner = RelayedOffer(inbound, name, inbound.call.callbacks[name])
        self._entry: TimerEntry | None = None
        if hub.endpoint.waiting(call):
            when = hub.runtime.now() + inbound.relay.limits.slot_timeout
            self._entry = hub.timers.add(when, self._no_slot)

    @property
    def begun(self) -> bool:
        """Whether the target may have begun the call."""
        return self._call.is_numbered

    def withdraw(self) -> None:
        """Take back a call that has not begun."""
        self.hub.endpoint.cancel(self._call)
        self._begun()

    def stop(self) -> None:
        """Send no more items of uploads: the call is over, or about to be."""
        for writer in self._writers:
            writer.stop()

    def _no_slot(self) -> None:
        self._entry = None
        if not self._call.is_numbered:
            self.withdraw()
            self._inbound.refuse(Code.RESOURCE_EXHAUSTED, "its client has had no slot free")

    def _begun(self) -> None:
        """Note that the call no longer waits for the target."""
        if self._entry is not None:
            self.hub.timers.remove(self._entry)
            self._entry = None
        if self._size is not None:
            self._inbound.relay.unread.taken(self.hub, self._size)
            self._size = None

    def cancel(self, reason: str) -> None:
        answered = self.hub.lost is None and self.hub.endpoint.cancel(self._call, reason)
        self.hub.wake()
        if not answered:
            self._begun()
            self._inbound.refuse(reason, "cancelled before it began")

    def on_started(self) -> None:
        self._begun()
        for writer in self._writers:
            writer.start()

    def pass_credit(self, due: int = 0) -> None:
        """Pass on `due` items of credit, and from now on all that the caller grants."""
        inbound = self._inbound
        allowance = Allowance(inbound.relay.turns, self.hub, self._call, inbound.hub)
        self._allowance = allowance
        inbound.call.tell_grants(allowance.add)
        allowance.add(due)

    def on_items(self, items: list[Raw]) -> None:
        # The credit that the caller has granted, before these items are taken from it.
        granted = self._inbound.call.allowance
        self._inbound.items(items)
        if self._allowance is not None:
            self._allowance.release()
        elif self.first_credit is not None:
            self.pass_credit(granted - self.first_credit)

    def on_finished(self, frame: Terminal) -> None:
        self._begun()
        self._inbound.finished(frame)
        self._call.owner = None

    def on_lost(self, error: ConnectionLost) -> None:
        self._begun()
        self._inbound.lost(error)


class RelayedOffer:
    """A callback of the caller, offered to the target."""

    __slots__ = ("_inbound", "_name", "_target")

    def __init__(self, inbound: Inbound, name: str, target: CallbackTarget) -> None:
        self._inbound = inbound
        self._name = name
        self._target = target

    def invoked(self, calls: LiveCalls, call: InCall, complete: bool) -> None:
        """Pass on a call of the callback by the target."""
        Invocation(self._inbound, self._name, self._target, calls, call).start(complete)


class Invocation(Inbound):
    """One call of a callback, on its way back to the caller that offered it."""

    __slots__ = ("_begun", "_name", "_origin", "_since", "_target")

    def __init__(
        self, origin: Inbound, name: str, target: CallbackTarget, calls: LiveCalls, call: InCall
    ) -> None:
        self._origin = origin
        self._name = name
        self._target = target
        self._begun: ObservedCall | None = None
        self._since = 0.0
        super().__init__(origin.relay, calls, call)

    def account(self, hub: Hub) -> Hub:
        return self.hub

    def on_arguments(self) -> None:
        origin = self._origin
        if origin.hub.lost is not None or self._target.is_over:
            self.refuse(Code.FAILED_PRECONDITION, "the callback's call has ended")
            return
        self.send(origin.hub, self._target.id, dict(self.call.metadata or {}), self._target)

    def _called(self) -> ObservedCall:
        call = inbound(self.calls.session, self.call, "", self._name, "callback")
        return replace(call, relayed=True)

    def _observe(self, hub: Hub, method: str | int, meta: Mapping[str, str]) -> None:
        # Here it is a call of the target.
        if self.relay.events.observed:
            self._begun, self._since = self._called(), self.hub.runtime.now()
            self.relay.events.call_started(self._begun)

    def _tell(self) -> None:
        end = self._end
        body = end if isinstance(end, ErrorBody) else ErrorBody(end, "")
        if self._begun is not None:
            took = self.hub.runtime.now() - self._since
            ended = CallEnd(str(body.code), took, bool(body.not_started), body.error_id)
            self.relay.events.call_ended(self._begun, ended)
        elif self.relay.events.observed:
            self._tell_refusal(CallEnd(str(body.code), not_started=True, error_id=body.error_id))

    def _tell_refusal(self, end: CallEnd) -> None:
        self.relay.events.refusal(self._called(), end)
