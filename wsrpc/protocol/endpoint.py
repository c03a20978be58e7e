"""One end of a session as a pure state machine: bytes in, events out; requests in, bytes out.

No I/O, no clock, no randomness, no logging. The same class plays both sides; the side decides the
parity of ids and who says hello first, nothing else. An endpoint outlives its links, one at a time,
as the table `LINK` says: what is queued, live or unacked stays while there is none.

How a shell drives it, on the connecting side::

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

Requests (`call`, `push`, `finish`, `fail`, `cancel`, `consumed`) only queue, with a link or without;
what they queued comes out of `next_batch`. While the replay buffer is full, `next_batch` gives link
frames only, until the peer has acked.

Tokens are opaque here. On the accepting side the shell hands a fresh one to `accept` and `resume`;
from then on that one and the one presented are good and no other, and with `TokenConfirmed` the
fresh one alone (RESUME-5).

To drain, call `goaway`, act on what it makes to send, and close with 1012 once `drained` is true
after a batch has gone, or when the grace is over. The peer learns of it by `GoawayReceived`, behind
which its calls that will not be answered are finished with `unavailable`, `not_started`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from msgspec import Raw

from ..limits import (
    FLOOR_MAX_BATCH,
    FLOOR_MAX_CALLS,
    MAX_CALLBACK_CALLS,
    MAX_CREDIT,
    MAX_IDS_PER_CALL,
    Limits,
)
from .batch import BATCH_TARGET, FRAME_OVERHEAD
from .chunks import LARGEST_PIECE, LARGEST_TEXT_PIECE, IncomingValues, Outgoing
from .codec import Codec
from .events import (
    ArgumentsReceived,
    CallReceived,
    CancelReceived,
    CreditReceived,
    Event,
    GoawayReceived,
    ItemsReceived,
    StreamFinished,
)
from .frames import (
    ABSENT,
    CallOptions,
    Cancel,
    Chunk,
    Credit,
    End,
    Error,
    ErrorBody,
    Goaway,
    HelloBody,
    HelloLimits,
    NotifyOptions,
    Result,
    Sized,
    SizedCall,
    SizedEnd,
    SizedError,
    SizedMessage,
    SizedNotify,
    SizedResult,
)
from .lane_states import SENT, LocalProtocolError
from .lanes import (
    CHANNEL_OVERHEAD,
    LONGEST,
    OPENING_OVERHEAD,
    CallbackOffer,
    CallbackTarget,
    InCall,
    Lane,
    OutCall,
    Receiver,
    Sender,
    Slots,
    Upload,
    UploadReader,
    finish_reason,
)
from .link_layer import Continuity
from .outbox import Outbox
from .splice import Encoded
from .window import SendCredit, violation

__all__ = ["Endpoint", "NoSlotError", "PeerDrainingError", "ValueTooLargeError"]

# Refusals that the protocol demands and that may wait while the outbox is full: 64 KiB of them.
MAX_REFUSALS = 512

# Characters. What is left of an error's message when the error would not fit a batch.
SHORT_MESSAGE = 1000

TERMINALS: dict[type[Any], str] = {SizedResult: "result", SizedEnd: "end", SizedError: "error"}
NO_IDS: dict[str, int] = {}

# The states in which this side still wants what comes on an id.
WANTING = frozenset(("calling", "streaming", "notifying", "invoking", "reading"))


class NoSlotError(Exception):
    """The peer has no free slot, and this call must not wait for one."""


class PeerDrainingError(Exception):
    """The peer drains and takes no new calls; this one was not begun."""


class ValueTooLargeError(Exception):
    """A value that the peer does not accept.

    Attributes:
        size: Bytes of its encoding.
        limit: Bytes that the peer takes.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a value of {size} bytes; the other end takes at most {limit}")
        self.size = size
        self.limit = limit


class Endpoint(Continuity):
    """The protocol state of one end of one wire session: its calls, and what goes on over links.

    Args:
        side: "connecting" says hello first and uses odd ids; "accepting" uses even ones.
        codec: The subprotocol's encoding.
        limits: This end's bounds, announced in its hello.
        agent: What this end calls itself, for logs.

    Attributes:
        peer_draining: Whether the peer takes no new calls any more.
        started: Calls numbered since the shell last looked, if they carry uploads or callbacks, and
            notifications.
        abandoned: Calls of callbacks that ended with the call to which the callback belongs, since
            the shell last looked.
    """

    __slots__ = (
        "_arriving",
        "_given_up",
        "_incoming",
        "_lanes",
        "_last_begun",
        "_next_id",
        "_parity",
        "_peer_highest",
        "_refused",
        "_unbroken",
        "_whole",
        "abandoned",
        "peer_draining",
        "peer_max_value",
        "peer_takes_chunks",
        "peer_window",
        "running",
        "slots",
        "started",
    )

    def __init__(
        self,
        side: Literal["connecting", "accepting"],
        codec: Codec,
        limits: Limits,
        *,
        agent: str | None = None,
    ) -> None:
        super().__init__(side, codec, limits, agent=agent)
        self.peer_draining = False
        self.started: list[OutCall] = []
        self.abandoned: list[OutCall] = []
        self.slots = Slots(FLOOR_MAX_CALLS)
        self.peer_max_value = FLOOR_MAX_BATCH
        self.peer_takes_chunks = False
        self.peer_window = 0
        self.running = Slots(limits.max_calls)
        self._parity = 1 if side == "connecting" else 0
        self._next_id = 1 if side == "connecting" else 2
        self._peer_highest = 0
        # The highest id of this side's that the peer begins, now that it drains.
        self._last_begun: float = math.inf
        self._lanes: dict[int, Lane] = {}
        self._incoming = IncomingValues(limits.max_held, codec.gathering)
        self._arriving = self._incoming.by_id
        self._given_up: set[Receiver] = set()
        # Calls that were refused a place, until the refusal has gone.
        self._refused = Slots(MAX_REFUSALS)
        # Bytes of the largest frame that goes whole, and of the largest value.
        self._whole = FLOOR_MAX_BATCH
        self._unbroken = FLOOR_MAX_BATCH - FRAME_OVERHEAD

    # ---------------------------------------------------------------- the first hellos

    def _meet(self, hello: HelloBody) -> None:
        """Take over what the peer's first hello announces, which holds for the whole session."""
        self.peer_window = hello.window or 0
        limits = hello.limits or HelloLimits()
        self.peer_max_batch = limits.max_batch or FLOOR_MAX_BATCH
        self._replay.expect(self.peer_max_batch + BATCH_TARGET)
        self._agree_on_chunks(limits)
        self.slots.limit = limits.max_calls or FLOOR_MAX_CALLS

    def _agree_on_chunks(self, limits: HelloLimits) -> None:
        """How large values may be on their way to the peer, and which of them go in chunks."""
        held = limits.max_held or 0
        self.peer_takes_chunks = held > 0
        if not self.peer_takes_chunks:
            self._whole = self.peer_max_batch
            self._unbroken = self.peer_max_value = self._whole - FRAME_OVERHEAD
            return
        # A value above `max_held` could never begin.
        self.peer_max_value = min(limits.max_value or self.peer_max_batch, held)
        self._whole = BATCH_TARGET
        room = self.peer_max_batch - FRAME_OVERHEAD
        values = self._outbox.values
        values.limit = held
        # Quotes and backslashes take two bytes each when JSON is put into a JSON string.
        text = self.codec.text
        values.piece = min(LARGEST_TEXT_PIECE, room // 2) if text else min(LARGEST_PIECE, room)

    def _catch_up(self, events: list[Event]) -> None:
        """Give what was begun before the accepting side's hello what the hello grants (HELLO-5)."""
        for lane in self._lanes.values():
            if isinstance(lane, Upload) and self.peer_window:
                lane.credit.grant(self.peer_window)
                events.append(CreditReceived(lane))
        for call in list(self.slots.waiting):
            try:
                self._fit(call)
            except ValueTooLargeError as error:
                body = ErrorBody("resource_exhausted", str(error), not_started=True)
                self.cancel(call)
                events.append(StreamFinished(call, Error(0, body)))
        while self._promote(self.slots):
            pass

    # ---------------------------------------------------------------- frames in

    def _find(self, id: int, frame: str) -> Lane | None:
        """The live lane of an id, or None for one that is finished; 4505 if never opened."""
        lane = self._lanes.get(id)
        if lane is not None:
            if self._arriving:
                self._incoming.check(id, frame)
            return lane
        ours = (id & 1) == self._parity
        if id >= self._next_id if ours else id > self._peer_highest:
            raise violation(f"{frame} for id {id}, which was never opened")
        self.ignored += 1
        return None

    def _on_message(self, frame: SizedMessage) -> None:
        lane = self._find(frame.id, "message")
        if lane is None:
            return
        if frame.size is not None:
            self._announced(lane, frame, "message", frame.size)
            return
        lane.receive("message")
        assert isinstance(lane, Receiver)
        lane.window.arrived(frame.items)
        if lane.state in ("streaming", "reading"):
            self._events.append(ItemsReceived(lane, frame.items))

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
            # An error discards what was begun before it (CHUNK-4).
            self._incoming.discard(frame.id)
        if isinstance(lane, OutCall):
            self._release(lane)
        else:
            assert isinstance(lane, UploadReader)
        if type(frame) is SizedEnd:
            if not isinstance(lane, OutCall) or lane.oneway:
                frame.final = None
        elif type(frame) is SizedError and frame.body.retry_after is not None:
            frame.body.retry_after = min(frame.body.retry_after, LONGEST)
        if self._given_up and lane in self._given_up:
            self._given_up.remove(lane)
        else:
            self._events.append(StreamFinished(lane, frame))

    # ---------------------------------------------------------------- chunks in

    def _announced(self, lane: Lane, frame: Sized, name: str, size: int) -> None:
        """A value will come in chunks: a large item, or that of a terminal."""
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
            self._incoming.begin(frame, size)

    def _give_up(self, lane: Receiver, size: int) -> None:
        """What comes is larger than this side takes: fail the call, and that alone (CHUNK-7)."""
        assert isinstance(lane, (OutCall, UploadReader))
        if lane in self._given_up or lane.state not in WANTING:
            return
        body = ErrorBody("resource_exhausted", self._above_limit(size))
        self._events.append(StreamFinished(lane, Error(lane.id, body)))
        self._given_up.add(lane)
        self.cancel(lane)

    def _above_limit(self, size: int) -> str:
        return f"a value of {size} bytes; this end takes at most {self.limits.max_value}"

    def _on_chunk(self, frame: Chunk) -> None:
        lane = self._find(frame.id, "chunk")
        if lane is None:
            return
        if lane.state == "cancelled":
            # The rest of arguments that nobody waits for any more (CHUNK-5).
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
            if wanted and lane.state in ("streaming", "reading"):
                self._events.append(ItemsReceived(lane, whole.items))
        else:
            whole.size = None
            self._on_terminal(whole)

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
        """A cancel for a call whose answer is not out completely: it ends in an error instead."""
        outbox = self._outbox
        lane = outbox.values.terminals.pop(frame.id, None)
        if lane is None:
            return
        assert isinstance(lane, InCall)
        outbox.forget(lane.drop_items())
        outbox.values.drop(lane)
        if isinstance(lane.terminal, Outgoing):
            outbox.values.bytes -= len(lane.terminal.data)
        reason = finish_reason(frame.reason)
        self._end_instead(lane, ErrorBody(reason, "cancelled while the answer was on its way"))

    def _end_instead(self, lane: Sender, body: ErrorBody) -> None:
        """Let an error take the place of a terminal that was not out completely."""
        size = len(self.codec.dump(body))
        lane.terminal = Error(lane.id, body)
        lane.pending_bytes += size
        self._outbox.add(lane, size)

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

    def _on_call(self, frame: SizedCall) -> None:
        if frame.size is not None:
            self._incoming.check_taken(frame)
        call = InCall(frame, self.peer_window)
        options = frame.options
        self._open(call, options)
        if isinstance(frame.method, int):
            self._join_callback(call, frame.method)
            if frame.size is not None:
                self._await_arguments(call, frame, frame.size)
            return
        if options is not None and options.credit is not None:
            if options.credit > MAX_CREDIT:
                raise violation(f"a call with a credit of {options.credit}")
            call.credit = SendCredit(options.credit)
        self._take_slot(call)
        if frame.size is not None:
            self._await_arguments(call, frame, frame.size)

    def _on_notify(self, frame: SizedNotify) -> None:
        if frame.size is not None:
            self._incoming.check_taken(frame)
        call = InCall(frame, 0)
        self._open(call, frame.options)
        self._take_slot(call)
        if frame.size is not None:
            self._await_arguments(call, frame, frame.size)

    def _await_arguments(self, call: InCall, frame: SizedCall | SizedNotify, size: int) -> None:
        if call.state != "finished":
            self._incoming.begin(frame, size)

    def _open(self, call: InCall, options: NotifyOptions | None) -> None:
        """Open the call's id, then its upload and callback ids, checking every one (ID-2)."""
        id = call.id
        if (id & 1) == self._parity or id <= self._peer_highest:
            raise violation(f"id {id} cannot be opened here")
        self._peer_highest = id
        self._lanes[id] = call
        if options is not None and (options.uploads or options.callbacks):
            self._open_channels(call, options.uploads or NO_IDS, options.callbacks or NO_IDS)

    def _open_channels(
        self, call: InCall, uploads: dict[str, int], callbacks: dict[str, int]
    ) -> None:
        if call.state != "running":
            raise violation(f"uploads or callbacks on id {call.id}")
        ids = sorted([*uploads.values(), *callbacks.values()])
        if len(ids) >= MAX_IDS_PER_CALL:
            raise violation(f"a call that opens {len(ids) + 1} ids")
        for id in ids:
            if (id & 1) == self._parity or id <= self._peer_highest:
                raise violation(f"id {id} cannot be opened here")
            self._peer_highest = id
        for name, id in uploads.items():
            reader = UploadReader(id, self.limits.window, self.limits.window_bytes)
            call.uploads[name] = self._lanes[id] = reader
        for name, id in callbacks.items():
            call.callbacks[name] = self._lanes[id] = CallbackTarget(id)

    def _take_slot(self, call: InCall) -> None:
        """Let the call begin if there is a slot for it, and answer it otherwise."""
        limit = self.limits.max_calls
        if self._drain is not None and not self.serves_live(call):
            self._turn_away(call, "unavailable", "this end is draining and takes no new calls")
        elif self.running.live >= limit:
            self._turn_away(call, "resource_exhausted", f"more than {limit} calls at a time")
        else:
            self.running.live += 1
            call.pool = self.running
            self._begin(call)

    def serves_live(self, call: InCall) -> bool:
        """Whether a call of this side's cannot end without this one (DRAIN-2)."""
        return call.parent is not None and isinstance(self._lanes.get(call.parent), OutCall)

    def _join_callback(self, call: InCall, id: int) -> None:
        """Let the call of a callback begin if there is room for it, and answer it otherwise."""
        offer = self._lanes.get(id)
        if isinstance(offer, CallbackOffer):
            if offer.live >= MAX_CALLBACK_CALLS:
                message = f"more than {MAX_CALLBACK_CALLS} calls of one callback at a time"
                self._turn_away(call, "resource_exhausted", message)
            else:
                offer.live += 1
                offer.calls[call] = None
                call.pool = call.offer = offer
                self._begin(call)
        elif offer is None and (id & 1) == self._parity and id < self._next_id:
            body = ErrorBody("failed_precondition", "the callback's call has ended")
            self.fail(call, body)
        else:
            raise violation(f"a call of {id}, which is no callback")

    def _turn_away(self, call: InCall, code: str, message: str) -> None:
        """Refuse a call that an honest peer knows better than to make (CALM-3)."""
        self._patience.refused += 1
        self.refuse(call, code, message)

    def _begin(self, call: InCall) -> None:
        size = call.size
        if call.timeout == 0:
            self.refuse(call, "deadline_exceeded", "deadline exceeded")
        elif size is None:
            self._events.append(CallReceived(call))
        elif size > self.limits.max_value:
            self._turn_away(call, "resource_exhausted", self._above_limit(size))
        else:
            call.args = ABSENT
            self._events.append(CallReceived(call, complete=False))

    def _on_goaway(self, frame: Goaway) -> None:
        """The peer drains: finish what it will not begin (GOAWAY-2)."""
        body = frame.body
        self.peer_draining = True
        self._events.append(GoawayReceived(body.grace / 1000, (body.reconnect_after or 0) / 1000))
        if body.last_id >= self._last_begun:
            # Said again, as on each new link; calls that it concerned have had their answer.
            self._patience.idle += 1
            return
        self._last_begun = body.last_id
        sent = [lane for lane in self._lanes.values() if isinstance(lane, OutCall)]
        for call in [*self.slots.waiting, *self._unsent(), *sent]:
            if call.serves_live or 0 < call.id <= body.last_id:
                continue
            if call.id:
                # The terminal that still comes is one for a finished id.
                del self._lanes[call.id]
                call.state = "finished"
                self._release(call)
            else:
                self.cancel(call)
            error = ErrorBody("unavailable", "the other end is draining", not_started=True)
            self._events.append(StreamFinished(call, Error(call.id, error)))

    _numbered: ClassVar[dict[type[Any], Callable[[Any, Any], None]]] = {
        SizedCall: _on_call,
        SizedNotify: _on_notify,
        SizedMessage: _on_message,
        SizedResult: _on_terminal,
        SizedEnd: _on_terminal,
        SizedError: _on_terminal,
        Cancel: _on_cancel,
        Credit: _on_credit,
        Chunk: _on_chunk,
    }
    _unnumbered: ClassVar[dict[type[Any], Callable[[Any, Any], None]]] = {
        **Continuity._unnumbered,
        Goaway: _on_goaway,
    }

    # ---------------------------------------------------------------- frames out

    @property
    def opened(self) -> int:
        """Ids that this side has opened: calls, and the uploads and callbacks that went with them."""
        return (self._next_id - 1) // 2

    @property
    def outbox_bytes(self) -> int:
        """Bytes of encoded values waiting for the socket."""
        return self._outbox.bytes + self._outbox.values.bytes

    @property
    def outbox_full(self) -> bool:
        """Whether senders should wait before they add another value.

        Values that go in chunks do not count: no more than one an id waits here, of which a piece
        at a time takes its turn, and others shall not wait until all of it is gone.
        """
        return self._outbox.bytes >= self.limits.outbox

    def _open_call(self, call: OutCall) -> CallOptions | None:
        """Number a call: its id, then those of its uploads and callbacks; returns its options."""
        options = call.options
        if call.deadline is not None:
            options = options or CallOptions()
            # Up to whole milliseconds, but not for the noise of floating point.
            remaining = round((call.deadline - self._now) * 1000, 3)
            options.timeout = math.ceil(min(max(remaining, 0), LONGEST))
        call.id = id = self._next_id
        self._next_id = id + 2
        self._lanes[id] = call
        if call.uploads or call.callbacks:
            options = options or CallOptions()
            if call.uploads:
                for upload in call.uploads.values():
                    upload.start(self._take_id(upload), self.peer_window)
                options.uploads = {name: lane.id for name, lane in call.uploads.items()}
            if call.callbacks:
                for offer in call.callbacks.values():
                    offer.id = self._take_id(offer)
                options.callbacks = {name: lane.id for name, lane in call.callbacks.items()}
            self.started.append(call)
        elif call.oneway:
            self.started.append(call)
        return options

    def _take_id(self, lane: Lane) -> int:
        id = self._next_id
        self._next_id = id + 2
        self._lanes[id] = lane
        return id

    def _goes_whole(self, size: int) -> bool:
        """Whether a value of this size goes in its frame, not in chunks.

        Raises:
            ValueTooLargeError: The peer takes it in neither way.
        """
        if size <= self._unbroken:
            return True
        if size > self.peer_max_value:
            raise ValueTooLargeError(size, self.peer_max_value)
        return False

    def _fit(self, call: OutCall) -> None:
        """Put the arguments into chunks if the call is too large for one frame.

        Raises:
            ValueTooLargeError: The peer takes them in neither way.
        """
        if call.pending_bytes <= self._whole:
            return
        args = call.args
        assert args is not None
        size = len(args)
        head = call.pending_bytes - size
        if not self.peer_takes_chunks or head > self.peer_max_batch:
            raise ValueTooLargeError(size, self.peer_max_batch - head)
        if size > self.peer_max_value:
            raise ValueTooLargeError(size, self.peer_max_value)
        call.value = Outgoing(args)
        call.args = None
        call.pending_bytes = head
        self._outbox.values.bytes += size

    # ---------------------------------------------------------------- calls out

    def call(
        self,
        method: str | int,
        args: Encoded,
        *,
        oneway: bool = False,
        deadline: float | None = None,
        options: CallOptions | None = None,
        uploads: tuple[str, ...] = (),
        callbacks: tuple[str, ...] = (),
        parent: InCall | None = None,
        target: CallbackTarget | None = None,
        window: int | None = None,
    ) -> OutCall:
        """Begin a call; it goes out, or waits for a slot, without a further word.

        Args:
            method: `"Controller.method"`, or a callback's id together with `target`.
            args: The encoded arguments.
            oneway: Send `notify` instead of `call`.
            deadline: Seconds on the clock given to `next_batch`; what remains travels as timeout.
            options: Metadata and other options; timeout, ids, credit and parent are filled in.
            uploads: Names of the parameters that are streams.
            callbacks: Names of the parameters that are callbacks.
            parent: The call of the peer's that is being handled; such a call never waits.
            target: The callback to invoke.
            window: Items. The stream's first credit, if not the one announced in hello.

        Raises:
            NoSlotError: No slot is free and the call may not wait, or too many wait already.
            PeerDrainingError: The peer takes no new calls.
            ValueTooLargeError: The arguments exceed what the peer takes.
        """
        running = parent is not None and parent.state != "finished"
        if running or (window is not None and not oneway):
            options = options or CallOptions()
            options.credit = window
            if running and parent is not None:
                options.parent = parent.id
        if self.peer_draining and not running and target is None:
            raise PeerDrainingError
        size = len(args) + OPENING_OVERHEAD
        if isinstance(method, str):
            size += 6 * len(method)
        if options is not None:
            size += len(self.codec.dump(options))
        limits = self.limits
        call = OutCall(
            method,
            args,
            limits.window if window is None else window,
            limits.window_bytes,
            self.slots if target is None else target.slots,
            oneway,
            deadline,
            options,
        )
        if uploads or callbacks:
            if call.state != "calling":
                raise LocalProtocolError(f"streams or callbacks with a call that is {call.state}")
            if len(uploads) + len(callbacks) >= MAX_IDS_PER_CALL:
                raise LocalProtocolError(f"a call that opens more than {MAX_IDS_PER_CALL} ids")
            call.uploads = {name: Upload() for name in uploads}
            call.callbacks = {name: CallbackOffer() for name in callbacks}
            size += sum(6 * len(name) + CHANNEL_OVERHEAD for name in (*uploads, *callbacks))
        call.pending_bytes = size
        slots = call.slots
        # Before the peer's hello a call that is too large for now waits (HELLO-4).
        fits = size <= self._whole or self.established
        if fits and slots.live < slots.limit:
            if size > self._whole:
                self._fit(call)
            slots.live += 1
            self._outbox.add(call, call.pending_bytes)
        else:
            nested = running and target is None
            if nested or len(slots.waiting) >= self.limits.max_waiting:
                raise NoSlotError
            if fits:
                self._fit(call)
            slots.waiting[call] = None
        if target is not None:
            target.live[call] = None
            call.target = target
            if target.state == "finished" and "cancel" in SENT[call.state]:
                # Too late: it goes out all the same, to be told so (CB-4), and cancelled with it.
                call.send("cancel")
                call.cancel_reason = "cancelled"
        return call

    def _abandon(self, call: OutCall) -> None:
        """The call to which a callback belongs ends here, and with it this call of it (CB-3).

        Its cancel is for peers that await one; no answer has to come.
        """
        if self.cancel(call):
            call.slots.live -= 1
            self._lanes.pop(call.id, None)
            if self._arriving:
                self._incoming.discard(call.id)
            self._given_up.discard(call)
        self.abandoned.append(call)

    def _promote(self, slots: Slots) -> bool:
        """Give a free slot to whoever has waited longest."""
        if not slots.waiting or slots.live >= slots.limit:
            return False
        call = next(iter(slots.waiting))
        if not self.established and call.pending_bytes > self._whole:
            # It may fit once the peer has said how much it takes (HELLO-4).
            return False
        del slots.waiting[call]
        slots.live += 1
        self._outbox.add(call, call.pending_bytes)
        return True

    def _release(self, call: OutCall) -> None:
        """The call's terminal came: free its slot, finish its upload and callback ids."""
        call.slots.live -= 1
        if call.slots.waiting:
            self._promote(call.slots)
        if call.value is not None:
            self._outbox.values.forget(call)
        if call.target is not None:
            call.target.live.pop(call, None)
        if call.uploads or call.callbacks:
            self._release_channels(call)

    def _release_channels(self, call: OutCall) -> None:
        for upload in call.uploads.values():
            self._lanes.pop(upload.id, None)
            upload.state = "finished"
            self._drop(upload)
            self._outbox.values.release(upload)
        for offer in call.callbacks.values():
            self._lanes.pop(offer.id, None)
            offer.state = "finished"
            for invocation in offer.calls:
                self._withdraw(invocation)
            offer.calls.clear()

    def _withdraw(self, call: InCall) -> None:
        """The call to which a callback belongs has ended: so does this call of it (CB-3)."""
        self._lanes.pop(call.id, None)
        if self._arriving:
            self._incoming.discard(call.id)
        call.state = "finished"
        call.cancel_reason = "cancelled"
        self._events.append(CancelReceived(call, "cancelled"))

    def _drop(self, upload: Upload) -> None:
        """Forget what of an upload has not gone."""
        outbox = self._outbox
        if isinstance(upload.terminal, Outgoing):
            outbox.values.bytes -= len(upload.terminal.data)
        outbox.forget(upload.drop())
        outbox.values.drop(upload)

    def waiting(self, call: OutCall) -> bool:
        """Whether the call still waits for a slot."""
        return call in call.slots.waiting

    def consumed(self, lane: Receiver, cost: int, *, waiting: bool) -> bool:
        """The application took items worth `cost`; True when that made a frame to send."""
        grant = lane.window.consumed(cost, waiting=waiting)
        if grant == 0 or lane.state not in ("streaming", "reading", "calling"):
            return False
        lane.credit_due += grant
        if lane.id:
            self._outbox.add(lane)
        return True

    def grant(self, lane: Receiver, n: int) -> bool:
        """Allow the sender of a stream `n` more items, whatever was consumed; True as `consumed`.

        For whoever passes the items on, and the credit that it is given for them.
        """
        if lane.state not in ("streaming", "reading", "calling"):
            return False
        lane.window.balance += n
        lane.credit_due += n
        if lane.id:
            self._outbox.add(lane)
        return True

    def cancel(self, lane: OutCall | UploadReader, reason: str = "cancelled") -> bool:
        """Ask the peer to stop; its terminal still comes.

        Returns:
            False where there will be no terminal: the call had not gone out and is just removed,
            or is over already.
        """
        if lane.state == "finished":
            return False
        if lane.id == 0:
            assert isinstance(lane, OutCall)
            if lane in lane.slots.waiting:
                del lane.slots.waiting[lane]
            else:
                self._outbox.forget(lane.pending_bytes)
                lane.slots.live -= 1
                self._promote(lane.slots)
            lane.drop()
            self._outbox.values.drop(lane)
            if lane.target is not None:
                lane.target.live.pop(lane, None)
            for channel in (lane, *lane.uploads.values(), *lane.callbacks.values()):
                channel.state = "finished"
            return False
        if "cancel" not in SENT[lane.state]:
            return True
        lane.send("cancel")
        lane.credit_due = 0
        lane.cancel_reason = reason
        if self._arriving:
            self._incoming.unwanted(lane.id)
        if isinstance(lane, OutCall):
            self._outbox.values.drop(lane)
            for upload in lane.uploads.values():
                # No further item may go, so an end would claim a completeness that is not there.
                self._drop(upload)
                if upload.state == "uploading":
                    upload.state = "withdrawn"
                if upload.value is not None:
                    # What is half there the receiver would hold until the handler has ended.
                    end = self._end_instead if upload.state == "finished" else self.fail
                    end(upload, ErrorBody(reason, "cancelled"))
        self._outbox.add_first(lane)
        return True

    # ---------------------------------------------------------------- streams out

    def may_push(self, lane: Sender) -> bool:
        """Whether the next item may be begun: the stream is live, with credit and room."""
        return (
            lane.credit.balance >= 1
            and "message" in SENT[lane.state]
            and lane.value is None
            and self._outbox.bytes < self.limits.outbox
        )

    def lacks_room(self, lane: Sender) -> bool:
        """Whether an item has to wait for what is on its way: of all streams, or of this one."""
        return lane.value is not None or self.outbox_full

    def check_size(self, size: int) -> None:
        """Refuse what `push` would refuse, ahead of it.

        Raises:
            ValueTooLargeError: The peer does not take values of so many bytes.
        """
        self._goes_whole(size)

    def push(self, lane: Sender, item: Encoded) -> None:
        """Queue one encoded item; `may_push` must hold.

        Raises:
            ValueTooLargeError: The peer does not take values of this size.
        """
        size = len(item)
        whole = size <= self._unbroken or self._goes_whole(size)
        lane.send("message")
        lane.credit.spend(size)
        if whole:
            lane.items.append(item if type(item) is bytes else bytes(item))
            lane.pending_bytes += size
            self._outbox.add(lane, size)
        else:
            lane.value = Outgoing(item, SizedMessage(lane.id, [self.codec.null], size))
            self._outbox.values.bytes += size
            self._outbox.add(lane)

    def push_pack(self, lane: Sender, pack: bytes, count: int) -> None:
        """Queue `count` items of JSON encoded as one, with commas between them.

        Together they have at most 16 KiB, so that each costs 1; `may_push` must hold, and the
        balance be at least `count`.
        """
        lane.send("message")
        lane.credit.spend_many(count)
        lane.items.append(pack)
        lane.pending_bytes += len(pack)
        self._outbox.add(lane, len(pack))

    def finish(self, lane: Sender, final: Encoded | None = None) -> None:
        """End a stream, or answer a notification; `final` is an encoded final value."""
        if final is None:
            lane.send("end")
            self._terminate(lane, End(lane.id), 0)
        elif self._goes_whole(len(final)):
            lane.send("end")
            self._terminate(lane, End(lane.id, [Raw(bytes(final))]), len(final))
        else:
            lane.send("end")
            frame = SizedEnd(lane.id, [self.codec.null], len(final))
            self._terminate_in_chunks(lane, Outgoing(final, frame))

    def result(self, call: InCall, value: Encoded) -> None:
        """Answer a call with one encoded value.

        Raises:
            ValueTooLargeError: The peer does not take values of this size.
        """
        size = len(value)
        if size <= self._unbroken or self._goes_whole(size):
            call.send("result")
            self._terminate(
                call, Result(call.id, Raw(value if type(value) is bytes else bytes(value))), size
            )
        else:
            call.send("result")
            frame = SizedResult(call.id, self.codec.null, size)
            self._terminate_in_chunks(call, Outgoing(value, frame))

    def fail(self, lane: Sender, body: ErrorBody) -> None:
        """End a call or an upload with an error that the application raised."""
        body.not_started = None
        self._send_error(lane, body)

    def refuse(self, call: InCall, code: str, message: str) -> None:
        """End a call whose handler never ran, vouching for that."""
        self.decline(call, ErrorBody(code, message))

    def decline(self, call: InCall, body: ErrorBody) -> None:
        """The same, with an error of the application's: it did not let the call begin."""
        body.not_started = True
        self._send_error(call, body)

    def _send_error(self, lane: Sender, body: ErrorBody) -> None:
        lane.send("error")
        if not len(body.data):
            body.data = ABSENT
        encoded = self.codec.dump(body)
        if lane.pool is None and isinstance(lane, InCall):
            # Nothing else bounds the answers to calls that take no place here (OUT-4).
            lane.pool = refused = self._refused
            refused.live += 1
            if refused.live > refused.limit and self.outbox_full:
                self._excess = "more calls than there are places, and their refusals are not read"
        if len(encoded) <= self._unbroken:
            self._terminate(lane, Error(lane.id, body), len(encoded))
            return
        data, body.data = body.data, ABSENT
        head = len(self.codec.dump(body)) + FRAME_OVERHEAD
        # A value that was begun and dropped is held until a frame says so, and must not stand in
        # the way of the one that does.
        dropped = lane.value is not None and lane.value.dropped
        chunks = self.peer_takes_chunks and not dropped and 0 < len(data) <= self.peer_max_value
        if chunks and head <= self._whole:
            body.data = self.codec.null
            frame = SizedError(lane.id, body, len(data))
            self._terminate_in_chunks(lane, Outgoing(bytes(data), frame))
            return
        body.message = f"{body.message[:SHORT_MESSAGE]} (too large to send whole)"
        self._terminate(lane, Error(lane.id, body), len(self.codec.dump(body)))

    def _terminate(self, lane: Sender, frame: Result | End | Error | Outgoing, size: int) -> None:
        if isinstance(lane, InCall):
            # Before the terminal enters the ring: a peer that has taken it ignores the cancels of
            # what this call still invokes.
            self._finish_call(lane)
            if lane.offer is not None:
                lane.offer.calls.pop(lane, None)
        lane.terminal = frame
        lane.pending_bytes += size
        self._outbox.add(lane, size)
        self._lanes.pop(lane.id, None)

    def _terminate_in_chunks(self, lane: Sender, value: Outgoing) -> None:
        values = self._outbox.values
        values.bytes += len(value.data)
        if isinstance(lane, InCall):
            values.terminals[lane.id] = lane
        self._terminate(lane, value, 0)

    def _finish_call(self, call: InCall) -> None:
        """Free what the call held, its slot aside: its upload and callback ids."""
        if self._arriving:
            self._incoming.discard(call.id)
        if call.uploads or call.callbacks:
            self._finish_channels(call)

    def _finish_channels(self, call: InCall) -> None:
        for reader in call.uploads.values():
            self._lanes.pop(reader.id, None)
            reader.state = "finished"
            if self._arriving:
                self._incoming.discard(reader.id)
            self._given_up.discard(reader)
        for target in call.callbacks.values():
            for live in list(target.live):
                self._abandon(live)
            self._lanes.pop(target.id, None)
            target.state = "finished"

    # ---------------------------------------------------------------- the end

    @property
    def drained(self) -> bool:
        """Whether this side drains and nothing is live any more: time to close (DRAIN-3)."""
        return self.draining and self.quiescent

    def live_calls(self) -> tuple[list[OutCall], list[InCall]]:
        """The calls of this side's and of the peer's that have no terminal yet."""
        outbound = [lane for lane in self._lanes.values() if isinstance(lane, OutCall)]
        inbound = [lane for lane in self._lanes.values() if isinstance(lane, InCall)]
        return outbound, inbound

    def handles(self, call: InCall) -> bool:
        """Whether this is a call of the peer's, taken here, that has no terminal yet."""
        return self._lanes.get(call.id) is call

    @property
    def quiescent(self) -> bool:
        """Whether no id is live and nothing waits: all that is left are counters."""
        outbox = self._outbox
        waits = outbox or outbox.values.parked or self._replay.again or self.slots.waiting
        return not self._lanes and not waits

    def _unsent(self) -> list[OutCall]:
        """The calls of this side's that hold a slot, and have not been numbered."""
        outbox = self._outbox
        lanes = dict.fromkeys([*outbox.ring, *outbox.values.parked])
        unsent = [lane for lane in lanes if isinstance(lane, OutCall) and lane.id == 0]
        return [call for call in unsent if call.state != "finished"]

    def close(self) -> list[OutCall]:
        """The session is over; returns the calls of this side's that will get no terminal.

        Of those with an id the peer may know; those without were never numbered, and certainly not
        begun (CLOSE-4).
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
        # Whoever waits for a slot waits behind calls that hold them all, or for the first hello.
        for slots in {self.slots, *(call.slots for call in pending)}:
            pending += slots.waiting
            slots.waiting.clear()
        self._lanes.clear()
        self._numbering = False
        self._outbox = Outbox()
        self._replay.forgo()
        self.unreported = []
        return pending
