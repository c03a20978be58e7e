"""One end of a session as a pure state machine: bytes in, events out; requests in, bytes out.

No I/O, no clock, no randomness, no logging. The same class plays both sides; the side decides the
parity of ids and the side of the first hello, nothing else. An endpoint outlives its links, one at
a time, as the table `LINK` says: queued frames, live ids and unacked frames stay while there is
none.

How a hub drives it, on the connecting side::

    endpoint = Endpoint("connecting", codec, limits)
    while True:
        link = await ...                    # a new WebSocket connection
        endpoint.connect(auth, now=now)     # queues the hello
        ...                                 # the link's life, below
        endpoint.detach(now)                # the link is gone
        if not endpoint.resumable: break
    for call in endpoint.close(): ...       # fail it; one without an id was never numbered

On the accepting side the first message of a link tells whose it is, before any endpoint takes it::

    opening = read_opening(codec, data)     # ProtocolError: close the link, nobody is affected
    session = sessions.get(hash(opening.hello.token))
    principal = await authenticate(opening.hello.auth)
    if opening.hello.token is None:
        endpoint = Endpoint("accepting", codec, limits)
        events = endpoint.accept(opening, session_id, token=..., resume_window=30.0, now=now)
    elif session is None or session.principal != principal:
        ...                                 # close the link with 4010
    else:
        events = session.endpoint.resume(opening, token=..., now=now)
        # 4506: close this link alone; any other ProtocolError ends the session.
        # Close the older link, if there is one, with 4506; hand in nothing of it any more.

The life of a link, on either side::

    data = endpoint.next_batch(now)         # whenever has_output; send it as one message
    events = endpoint.receive(data, now)    # for each message; act on each event
    events = endpoint.alarm(now)            # at next_alarm, if it is not None; earlier does no harm
    # a ProtocolError: act on endpoint.unreported, close the link with the error's code; if
    # may_resume(code), go on as if the link were lost, else close() the endpoint

Requests (`call`, `push`, `finish`, `fail`, `cancel`, `consumed`) only queue frames, with a link or
without; the frames come out of `next_batch`. While the replay buffer is full, `next_batch` gives
link frames only, until the peer has acked.

Tokens are opaque here. On the accepting side the hub hands a fresh one to `accept` and `resume`;
from then on only that one and the one presented are good, and after `TokenConfirmed` only the fresh
one (RESUME-5).

To drain, call `goaway`, send the frame that it queues, and close with 1012 once `drained` is true
after a batch has gone, or when the grace is over. The peer gets the event `GoawayReceived`. After
it the endpoint finishes this side's calls that the peer will not begin, with `unavailable` and
`not_started`.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from ..limits import FLOOR_MAX_BATCH, FLOOR_MAX_CALLS, MAX_ID, Limits
from .arrivals import Arrivals
from .batch import BATCH_TARGET
from .chunks import Outgoing
from .codec import Codec
from .events import (
    ArgumentsReceived,
    CancelReceived,
    CreditReceived,
    Event,
    GoawayReceived,
    ItemsReceived,
    StreamFinished,
)
from .frames import (
    Cancel,
    Chunk,
    Credit,
    Error,
    ErrorBody,
    Extension,
    Goaway,
    HelloBody,
    HelloLimits,
    Sized,
    SizedCall,
    SizedEnd,
    SizedError,
    SizedMessage,
    SizedNotify,
    SizedResult,
    Taken,
    seconds,
)
from .lanes import (
    LONGEST,
    CallbackOffer,
    CallbackTarget,
    InCall,
    Lane,
    OutCall,
    Receiver,
    Sender,
    Upload,
    UploadReader,
    finish_reason,
)
from .outbox import Outbox
from .requests import NoSlotError, PeerDrainingError
from .sizes import ValueTooLargeError
from .window import violation

__all__ = ["Endpoint", "NoSlotError", "PeerDrainingError", "ValueTooLargeError"]

TERMINALS: dict[type[Any], str] = {SizedResult: "result", SizedEnd: "end", SizedError: "error"}

# The states in which items come that this side wants.
ITEMS = frozenset(("streaming", "reading"))

# The states in which this side still wants the frames that come on an id.
WANTING = frozenset(("calling", "streaming", "notifying", "invoking", "reading"))


class Endpoint(Arrivals):
    """The protocol state of one end of one wire session: its calls, and its links.

    Each layer knows the layers below it: `Traffic`, `Continuity`, `Sizes`, `Ids`, `Sending`,
    `Requests`, `Arrivals`. All layers are one object, since a hop from one object to the next would
    cost time in every call.

    Args:
        side: "connecting" says hello first and uses odd ids; "accepting" uses even ones.
        codec: The subprotocol's encoding.
        limits: This end's bounds, announced in its hello.
        agent: The name of this end's program, for logs.
    """

    __slots__ = ("_last_begun",)

    def __init__(
        self,
        side: Literal["connecting", "accepting"],
        codec: Codec,
        limits: Limits,
        *,
        agent: str | None = None,
    ) -> None:
        super().__init__(side, codec, limits, agent=agent)
        # The highest id of this side's that the peer begins, now that it drains.
        self._last_begun: float = math.inf

    # ---------------------------------------------------------------- the first hellos

    def _meet(self, hello: HelloBody) -> None:
        """Take over the limits in the peer's first hello, which hold for the whole session."""
        self.peer_window = hello.window or 0
        limits = hello.limits or HelloLimits()
        # No message is larger, and not every number has a float.
        self.peer_max_batch = min(limits.max_batch or FLOOR_MAX_BATCH, MAX_ID)
        self._replay.expect(self.peer_max_batch + BATCH_TARGET)
        self._agree_on_chunks(limits)
        self.slots.limit = limits.max_calls or FLOOR_MAX_CALLS

    def _catch_up(self, events: list[Event]) -> None:
        """Give calls begun before the accepting side's hello the credit in it (HELLO-5)."""
        for lane in self._lanes.values():
            if isinstance(lane, Upload) and self.peer_window:
                lane.credit.grant(self.peer_window)
                events.append(CreditReceived(lane))
        for call in list(self.slots.waiting):
            try:
                before = call.pending_bytes
                self._fit(call)
                self._queued += call.pending_bytes - before
            except ValueTooLargeError as error:
                body = ErrorBody("resource_exhausted", str(error), not_started=True)
                self.cancel(call)
                events.append(StreamFinished(call, Error(0, body)))
        while self._promote(self.slots):
            pass

    # ---------------------------------------------------------------- frames in

    def _on_message(self, frame: SizedMessage) -> None:
        lane = self._lanes.get(frame.id)
        if lane is None or self._arriving:
            lane = self._find(frame.id, "message")
            if lane is None:
                return
        if frame.size is not None:
            self._announced(lane, frame, "message", frame.size)
            return
        items, wanted = frame.items, lane.state in ITEMS
        if not wanted:
            # Only the first item changes the state.
            lane.receive("message")
            wanted = lane.state in ITEMS
        assert isinstance(lane, Receiver)
        lane.window.arrived(items)
        if wanted:
            self._events.append(ItemsReceived(lane, items))

    def _on_terminal(self, frame: SizedResult | SizedEnd | SizedError) -> None:
        name = TERMINALS[type(frame)]
        lane = self._find(frame.id, name)
        if lane is None:
            return
        if frame.size is not None:
            self._announced(lane, frame, name, frame.size)
            return
        lane.receive(name)
        del self._lanes[frame.id]
        if self._arriving:
            # An error discards the value that was begun before it (CHUNK-4).
            self._incoming.discard(frame.id)
        if isinstance(lane, OutCall):
            self._release(lane)
            if self.crowded:
                self._incoming.needed += 1
        else:
            assert isinstance(lane, UploadReader)
        if type(frame) is SizedEnd:
            if not isinstance(lane, OutCall) or lane.oneway:
                frame.final = None
        elif type(frame) is SizedError and frame.body.retry_after is not None:
            frame.body.retry_after = min(frame.body.retry_after, LONGEST)
        if self._given_up and lane in self._given_up:
            del self._given_up[lane]
        else:
            self._events.append(StreamFinished(lane, frame))

    def _on_cancel(self, frame: Cancel) -> None:
        lane = self._find(frame.id, "cancel")
        if lane is None:
            self._cut_short(frame)
            return
        before = lane.state
        lane.receive("cancel")
        if lane.state == before:
            self.ignored += 1
            return
        assert isinstance(lane, Sender)
        self._outbox.forget(lane.drop_items())
        self._outbox.values.drop(lane)
        if self._arriving:
            self._incoming.discard(lane.id)
        reason = finish_reason(frame.reason)
        if isinstance(lane, InCall):
            lane.cancel_reason = reason
        self._events.append(CancelReceived(lane, reason))

    def _cut_short(self, frame: Cancel) -> None:
        """End a call that is cancelled before all of its answer is out in an error instead."""
        outbox = self._outbox
        lane = outbox.values.terminals.pop(frame.id, None)
        if lane is None:
            return
        assert isinstance(lane, InCall)
        outbox.forget(lane.drop_items())
        outbox.values.drop(lane)
        if isinstance(lane.terminal, Outgoing):
            outbox.values.remove(lane.terminal)
        reason = finish_reason(frame.reason)
        self._end_instead(lane, ErrorBody(reason, "cancelled while the answer was on its way"))

    def _on_credit(self, frame: Credit) -> None:
        if frame.n < 1:
            raise violation(f"a credit of {frame.n}")
        lane = self._find(frame.id, "credit")
        if lane is None:
            return
        lane.receive("credit")
        if lane.state in ("cancelled", "stopping"):
            self.ignored += 1
            return
        if lane.state in ("notified", "invoked"):
            self._patience.idle += 1
            return
        assert isinstance(lane, Sender)
        was_ready = lane.credit.balance >= 1
        if not lane.credit.grant(frame.n):
            self._patience.idle += 1
        if not was_ready and lane.credit.balance >= 1:
            self._events.append(CreditReceived(lane))

    def _on_goaway(self, frame: Goaway) -> None:
        """The peer drains: finish the calls that it will not begin (GOAWAY-2)."""
        body = frame.body
        self.peer_draining = True
        away = seconds(body.reconnect_after or 0)
        self._events.append(GoawayReceived(seconds(body.grace), away))
        # No id is above it, and not every number has a float.
        last_id = min(body.last_id, MAX_ID)
        if last_id >= self._last_begun:
            # The frame comes again on each new link; the calls that it concerned have their answer.
            self._patience.idle += 1
            return
        self._last_begun = float(last_id)
        sent = [lane for lane in self._lanes.values() if isinstance(lane, OutCall)]
        for call in [*self.slots.waiting, *self._unsent(), *sent]:
            if call.serves_live or 0 < call.id <= last_id:
                continue
            if call.id:
                # The terminal that still comes is a frame for a finished id.
                del self._lanes[call.id]
                call.state = "finished"
                self._release(call)
            else:
                self.cancel(call)
            error = ErrorBody("unavailable", "the other end is draining", not_started=True)
            self._events.append(StreamFinished(call, Error(call.id, error)))

    # ---------------------------------------------------------------- chunks in

    def _announced(self, lane: Lane, frame: Sized, name: str, size: int) -> None:
        """A value will come in chunks: a large item, or the value of a terminal."""
        self._incoming.check_taken(frame)
        state = lane.state
        lane.receive(name)
        lane.state = state
        assert isinstance(lane, Receiver)
        if name == "message" and lane.window.balance < 1:
            raise violation("an item beyond the credit granted")
        if name == "error":
            self._incoming.discard(lane.id)
        if size > self.limits.max_value:
            self._incoming.skip(frame, size)
            self._give_up(lane, size)
        else:
            self._incoming.begin(frame, size, needed=name != "message")

    def _give_up(self, lane: Receiver, size: int) -> None:
        """Fail this call and no other, since its value is larger than this side takes (CHUNK-7)."""
        assert isinstance(lane, (OutCall, UploadReader))
        if lane in self._given_up or lane.state not in WANTING:
            return
        body = ErrorBody("resource_exhausted", self._above_limit(size))
        self._events.append(StreamFinished(lane, Error(lane.id, body)))
        self._given_up[lane] = None
        self.cancel(lane)

    def _on_chunk(self, frame: Chunk) -> None:
        lane = self._find(frame.id, "chunk")
        if lane is None:
            return
        if lane.state == "cancelled":
            # It is the rest of arguments for which no call waits any more (CHUNK-5).
            self.ignored += 1
            return
        value = self._incoming.take(frame)
        if value is None:
            return
        whole = value.frame
        if isinstance(whole, (SizedCall, SizedNotify)):
            assert isinstance(lane, InCall)
            lane.args = whole.args
            lane.size = None
            self._events.append(ArgumentsReceived(lane))
        elif isinstance(whole, SizedMessage):
            lane.receive("message")
            assert isinstance(lane, Receiver)
            wanted = value.whole is not None
            lane.window.arrived(whole.items if wanted else (range(value.size),))
            if wanted and lane.state in ITEMS:
                self._events.append(ItemsReceived(lane, whole.items))
        else:
            whole.size = None
            self._on_terminal(whole)

    def _act(self, frame: Any) -> bool:
        kind = type(frame)
        if kind is SizedMessage:
            self._on_message(frame)
        elif kind is SizedCall:
            self._on_call(frame)
        elif kind is SizedResult or kind is SizedEnd or kind is SizedError:
            self._on_terminal(frame)
        elif kind is Credit:
            self._on_credit(frame)
        elif kind is Chunk:
            self._on_chunk(frame)
        elif kind is Cancel:
            self._on_cancel(frame)
        elif kind is SizedNotify:
            self._on_notify(frame)
        else:
            return False
        return True

    def _act_link(self, frame: Taken | Extension) -> None:
        if isinstance(frame, Goaway):
            self._on_goaway(frame)
        else:
            super()._act_link(frame)

    # ---------------------------------------------------------------- the end

    @property
    def drained(self) -> bool:
        """Whether this side drains and nothing is live any more: time to close (DRAIN-3)."""
        return self.draining and self.quiescent

    @property
    def held(self) -> int:
        """Bytes that this endpoint holds: values on their way, and frames kept for replay.

        It does not hold the arguments and items that it has handed over.
        """
        outbox = self._outbox
        outgoing = outbox.bytes + outbox.values.kept + self._queued
        return outgoing + self._replay.bytes + self._incoming.come

    @property
    def outgoing(self) -> int:
        """Bytes of values of which at least a part has yet to go."""
        outbox = self._outbox
        return outbox.bytes + outbox.values.kept + self._queued

    @property
    def needed(self) -> int:
        """Grows whenever something comes without which a call of this side cannot end.

        A value that comes whole counts only while the peer is above its bound on memory.
        """
        return self._incoming.needed

    @property
    def half_gone(self) -> int:
        """Bytes that have gone of values that are still held, since the rest has yet to go."""
        values = self._outbox.values
        return values.kept - values.bytes

    @property
    def quiescent(self) -> bool:
        """Whether no id is live and no frame waits: only counters are left."""
        outbox = self._outbox
        waits = outbox or outbox.values.waiting or self._replay.again or self.slots.waiting
        return not self._lanes and not waits

    def close(self) -> list[OutCall]:
        """End the session; returns the calls of this side that will get no terminal.

        The peer may know of a call that has an id. A call without one was never numbered, and the
        peer has certainly not begun it (CLOSE-4).
        """
        self._step("close")
        pending = [lane for lane in self._lanes.values() if isinstance(lane, OutCall)]
        pending = [call for call in pending if call not in self._given_up]
        pending += self._unsent()
        pending += [
            event.lane
            for event in self.unreported
            if isinstance(event, StreamFinished) and isinstance(event.lane, OutCall)
        ]
        # A call that waits for a slot waits for calls that hold all slots, or for the first hello.
        for slots in {self.slots, *(call.slots for call in pending)}:
            pending += slots.waiting
            slots.waiting.clear()
        for lane in self._lanes.values():
            # Their calls refer to them.
            if isinstance(lane, CallbackTarget):
                lane.live.clear()
            elif isinstance(lane, CallbackOffer):
                lane.calls.clear()
        self._lanes.clear()
        self._numbering = False
        # Outbox and values refer to each other, and must not keep the lanes alive until the garbage
        # collector runs.
        self._outbox.clear()
        self._outbox = Outbox()
        self._incoming.clear()
        self._replay.forgo()
        self._queued = 0
        self.unreported = []
        return pending
