"""One end of a session as a pure state machine: bytes in, events out; requests in, bytes out.

No I/O, no clock, no randomness, no logging. The same class plays both sides; the side decides the
parity of ids and who says hello first, nothing else.

How a shell drives it::

    endpoint = Endpoint("connecting", codec, limits)
    while True:
        data = endpoint.next_batch(now)     # whenever has_output; send it as one message
        events = endpoint.receive(data)     # for each message; act on each event
        # a ProtocolError: act on endpoint.unreported, close the link with the error's code,
        # then call endpoint.close()

Requests (`call`, `push`, `finish`, `fail`, `cancel`, `consumed`) only queue; what they queued
comes out of `next_batch`. On the accepting side, answer `HelloReceived` with `accept`, and take no
further message before that; the rest of the first one stays undecoded until then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from msgspec import Raw

from ..errors import ProtocolError
from ..limits import (
    FLOOR_MAX_BATCH,
    FLOOR_MAX_CALLS,
    MAX_CALLBACK_CALLS,
    MAX_CREDIT,
    MAX_IDS_PER_CALL,
    Limits,
)
from .calls import (
    CHANNEL_OVERHEAD,
    LONGEST,
    OPENING_OVERHEAD,
    SENT,
    CallbackOffer,
    CallbackTarget,
    InCall,
    Lane,
    LocalProtocolError,
    OutCall,
    Receiver,
    Sender,
    Slots,
    Upload,
    UploadReader,
    finish_reason,
)
from .codec import Codec
from .events import (
    CallReceived,
    CancelReceived,
    CreditReceived,
    Event,
    HelloReceived,
    ItemsReceived,
    StreamFinished,
)
from .frames import (
    ABSENT,
    Ack,
    Auth,
    Call,
    CallOptions,
    Cancel,
    Chunk,
    Credit,
    End,
    Error,
    ErrorBody,
    Extension,
    Frame,
    Goaway,
    Hello,
    HelloBody,
    HelloLimits,
    Message,
    Notify,
    NotifyOptions,
    Ping,
    Pong,
    Result,
)
from .outbox import BATCH_TARGET, FRAME_OVERHEAD, Batch, Outbox
from .window import ReceiveWindow, violation

__all__ = ["VERSION", "Endpoint", "NoSlotError", "ValueTooLargeError"]

VERSION = 1

# Close codes, besides 4505.
TOO_BIG = 1009
CANNOT_RESUME = 4010
UNAUTHENTICATED = 4501
UNSUPPORTED_VERSION = 4507

# Where acks are due, one is owed after this much at the latest (protocol.md RESUME).
ACK_FRAMES = 32
ACK_BYTES = 64 * 1024

# Characters. What is left of an error's message when the error would not fit a batch.
SHORT_MESSAGE = 1000

TERMINALS: dict[type[Result | End | Error], str] = {Result: "result", End: "end", Error: "error"}
NO_IDS: dict[str, int] = {}


class NoSlotError(Exception):
    """The peer has no free slot, and this call must not wait for one."""


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


class Endpoint:
    """The protocol state of one end of one wire session.

    Args:
        side: "connecting" says hello first and uses odd ids; "accepting" uses even ones.
        codec: The subprotocol's encoding.
        limits: This end's bounds, announced in its hello.
        agent: What this end calls itself, for logs.
        auth: The credentials of the connecting side; any JSON value.

    Attributes:
        established: Whether both hellos are through.
        closed: Whether `close` was called.
        sent: Numbered frames sent so far.
        received: Numbered frames taken so far.
        ignored: Frames that came and were ignored: for finished ids, and extensions.
        started: Calls numbered since the shell last looked, if they carry uploads or callbacks, and
            notifications.
        unreported: What the frames before the offending one did, where `receive` or `accept` raised.
    """

    def __init__(
        self,
        side: Literal["connecting", "accepting"],
        codec: Codec,
        limits: Limits,
        *,
        agent: str | None = None,
        auth: Any = None,
    ) -> None:
        self.side = side
        self.codec = codec
        self.limits = limits
        self.agent = agent
        self.established = False
        self.closed = False
        self.sent = 0
        self.received = 0
        self.acked = 0
        self.ignored = 0
        self.started: list[OutCall] = []
        self.unreported: list[Event] = []
        self.slots = Slots(FLOOR_MAX_CALLS)
        self.peer_max_batch = FLOOR_MAX_BATCH
        self.peer_window = 0
        self.inbound = 0
        self._parity = 1 if side == "connecting" else 0
        self._next_id = 1 if side == "connecting" else 2
        self._peer_highest = 0
        self._lanes: dict[int, Lane] = {}
        self._outbox = Outbox()
        self._held: list[Raw] = []
        self._hello_taken = False
        self._largest_message = limits.max_batch if side == "connecting" else FLOOR_MAX_BATCH
        self._acks_due = False
        self._ack_told = 0
        self._ack_bytes = 0
        self._now = 0.0
        self._events: list[Event] = []
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            Hello: self._on_second_hello,
            Ack: self._on_ack,
            Ping: self._on_ping,
            Pong: self._on_link_leftover,
            Goaway: self._on_link_leftover,
            Auth: self._on_auth,
            Call: self._on_call,
            Notify: self._on_notify,
            Message: self._on_message,
            Result: self._on_terminal,
            End: self._on_terminal,
            Error: self._on_terminal,
            Cancel: self._on_cancel,
            Credit: self._on_credit,
            Chunk: self._on_chunk,
            Extension: self._on_extension,
        }
        if side == "connecting":
            credentials = Raw(codec.dump_value(auth))
            self._queue_hello(HelloBody(version=VERSION, link=1, received=0, auth=credentials))

    # ---------------------------------------------------------------- hello

    def _queue_hello(self, body: HelloBody) -> None:
        limits = self.limits
        body.window = limits.window
        body.limits = HelloLimits(
            max_batch=limits.max_batch,
            max_value=limits.max_value,
            max_calls=limits.max_calls,
            # Values go whole: 0 says that this side takes no chunks.
            max_held=0,
        )
        body.features = []
        body.agent = self.agent
        self._outbox.links.append(Hello(body))

    def accept(self, session_id: str, token: str | None = None) -> list[Event]:
        """Answer the connecting side's hello; returns the events of what came behind it."""
        self._queue_hello(
            HelloBody(
                version=VERSION,
                session=session_id,
                token=token,
                resumed=False,
                received=0,
                resume_window=0,
            )
        )
        self.established = True
        self._largest_message = self.limits.max_batch
        held, self._held = self._held, []
        frames = [self.codec.decode_one(raw) for raw in held]
        return self._apply(frames, sum(map(len, held)), [])

    def _receive_hello(self, data: bytes) -> list[Event]:
        """Take the first message of a link, on the accepting side nothing of it but the hello."""
        codec = self.codec
        accepting = self.side == "accepting"
        if accepting:
            self._held = codec.split(data)
            behind: list[Frame | Extension] = []
            first = codec.decode_one(self._held.pop(0))
        else:
            first, *behind = codec.decode(data)
        if not isinstance(first, Hello):
            raise violation("the first frame on a link must be hello")
        body = first.body
        if body.version != VERSION:
            reason = f"this end speaks version {VERSION}, not {body.version}"
            raise ProtocolError(UNSUPPORTED_VERSION, reason[:120])
        if accepting and body.token is not None:
            raise ProtocolError(CANNOT_RESUME, "this server keeps no sessions to resume")
        try:
            body.auth = codec.load_value(body.auth) if accepting else None
        except ValueError as error:
            reason = f"credentials that are no value: {error}"
            raise ProtocolError(UNAUTHENTICATED, reason[:120]) from None
        self._hello_taken = True
        self.peer_window = body.window or 0
        limits = body.limits or HelloLimits()
        self.peer_max_batch = limits.max_batch or FLOOR_MAX_BATCH
        self.slots.limit = limits.max_calls or FLOOR_MAX_CALLS
        events: list[Event] = [HelloReceived(body)]
        if accepting:
            return events
        self.established = True
        self._acks_due = bool(body.resume_window)
        self._catch_up(events)
        events = self._apply(behind, len(data), events)
        self._outbox.ack = self._ack_told = self.received
        return events

    def _catch_up(self, events: list[Event]) -> None:
        """Give what was begun before the accepting side's hello what the hello grants (HELLO-5)."""
        for lane in self._lanes.values():
            if isinstance(lane, Upload) and self.peer_window:
                lane.credit.grant(self.peer_window)
                events.append(CreditReceived(lane))
        for call in list(self.slots.waiting):
            if call.pending_bytes > self.peer_max_batch:
                body = ErrorBody("resource_exhausted", str(self._too_large(call)), not_started=True)
                self.cancel(call)
                events.append(StreamFinished(call, Error(0, body)))
        while self._promote(self.slots):
            pass

    # ---------------------------------------------------------------- bytes in

    def receive(self, data: bytes) -> list[Event]:
        """Take one WebSocket message.

        Raises:
            ProtocolError: The message breaks a rule; close the link with the error's code.
        """
        if len(data) > self._largest_message:
            raise ProtocolError(TOO_BIG, f"a message of {len(data)} bytes")
        if self.established:
            return self._apply(self.codec.decode(data), len(data), [])
        if self._hello_taken:
            raise LocalProtocolError("a message was taken before the hello was accepted")
        return self._receive_hello(data)

    def _apply(
        self, frames: list[Frame | Extension], size: int, events: list[Event]
    ) -> list[Event]:
        """Let a batch's frames act one after the other; what they do joins `events`."""
        self._events = events
        handlers = self._handlers
        try:
            for frame in frames:
                handlers[type(frame)](frame)
        except ProtocolError:
            self.unreported = events
            raise
        finally:
            self._events = []
        if self._acks_due:
            self._ack_bytes += size
            owed = self.received - self._ack_told
            if owed >= ACK_FRAMES or (owed and self._ack_bytes >= ACK_BYTES):
                self._outbox.ack = self._ack_told = self.received
                self._ack_bytes = 0
        return events

    def _find(self, id: int, frame: str) -> Lane | None:
        """The live lane of an id, or None for one that is finished; 4505 if never opened."""
        self.received += 1
        lane = self._lanes.get(id)
        if lane is not None:
            return lane
        ours = (id & 1) == self._parity
        if id >= self._next_id if ours else id > self._peer_highest:
            raise violation(f"{frame} for id {id}, which was never opened")
        self.ignored += 1
        return None

    def _on_message(self, frame: Message) -> None:
        lane = self._find(frame.id, "message")
        if lane is None:
            return
        lane.receive("message")
        assert isinstance(lane, Receiver)
        lane.window.arrived(frame.items)
        if lane.state in ("streaming", "reading"):
            self._events.append(ItemsReceived(lane, frame.items))

    def _on_terminal(self, frame: Result | End | Error) -> None:
        name = TERMINALS[type(frame)]
        lane = self._find(frame.id, name)
        if lane is None:
            return
        lane.receive(name)
        del self._lanes[frame.id]
        if isinstance(lane, OutCall):
            self._release(lane)
        else:
            assert isinstance(lane, UploadReader)
        if type(frame) is End:
            if not isinstance(lane, OutCall) or lane.oneway:
                frame.final = None
        elif type(frame) is Error and frame.body.retry_after is not None:
            frame.body.retry_after = min(frame.body.retry_after, LONGEST)
        self._events.append(StreamFinished(lane, frame))

    def _on_cancel(self, frame: Cancel) -> None:
        lane = self._find(frame.id, "cancel")
        if lane is None:
            return
        before = lane.state
        lane.receive("cancel")
        if lane.state == before:
            self.ignored += 1
            return
        assert isinstance(lane, Sender)
        self._outbox.forget(lane.drop_items())
        reason = finish_reason(frame.reason)
        if isinstance(lane, InCall):
            lane.cancel_reason = reason
        self._events.append(CancelReceived(lane, reason))

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
            return
        assert isinstance(lane, Sender)
        was_ready = lane.credit.balance >= 1
        lane.credit.grant(frame.n)
        if not was_ready and lane.credit.balance >= 1:
            self._events.append(CreditReceived(lane))

    def _on_call(self, frame: Call) -> None:
        call = InCall(frame, self.peer_window)
        options = frame.options
        self._open(call, options)
        if isinstance(frame.method, int):
            self._join_callback(call, frame.method)
            return
        if options is not None and options.credit is not None:
            if options.credit > MAX_CREDIT:
                raise violation(f"a call with a credit of {options.credit}")
            call.credit.balance = options.credit
        self._take_slot(call)

    def _on_notify(self, frame: Notify) -> None:
        call = InCall(frame, 0)
        self._open(call, frame.options)
        self._take_slot(call)

    def _open(self, call: InCall, options: NotifyOptions | None) -> None:
        """Open the call's id, then its upload and callback ids, checking every one (ID-2)."""
        self.received += 1
        uploads = (options and options.uploads) or NO_IDS
        callbacks = (options and options.callbacks) or NO_IDS
        ids = [call.id]
        if uploads or callbacks:
            if call.state != "running":
                raise violation(f"uploads or callbacks on id {call.id}")
            ids += sorted([*uploads.values(), *callbacks.values()])
            if len(ids) > MAX_IDS_PER_CALL:
                raise violation(f"a call that opens {len(ids)} ids")
        for id in ids:
            if (id & 1) == self._parity or id <= self._peer_highest:
                raise violation(f"id {id} cannot be opened here")
            self._peer_highest = id
        self._lanes[call.id] = call
        for name, id in uploads.items():
            window = ReceiveWindow(self.limits.window, self.limits.window_bytes)
            call.uploads[name] = self._lanes[id] = UploadReader(id, window)
        for name, id in callbacks.items():
            call.callbacks[name] = self._lanes[id] = CallbackTarget(id)

    def _take_slot(self, call: InCall) -> None:
        """Let the call begin if there is a slot for it, and answer it otherwise."""
        limit = self.limits.max_calls
        if self.inbound >= limit:
            self.refuse(call, "resource_exhausted", f"more than {limit} calls at a time")
        else:
            self.inbound += 1
            call.counted = True
            self._begin(call)

    def _join_callback(self, call: InCall, id: int) -> None:
        """Let the call of a callback begin if there is room for it, and answer it otherwise."""
        offer = self._lanes.get(id)
        if isinstance(offer, CallbackOffer):
            if offer.in_flight >= MAX_CALLBACK_CALLS:
                message = f"more than {MAX_CALLBACK_CALLS} calls of one callback at a time"
                self.refuse(call, "resource_exhausted", message)
            else:
                offer.in_flight += 1
                call.offer = offer
                self._begin(call)
        elif offer is None and (id & 1) == self._parity and id < self._next_id:
            body = ErrorBody("failed_precondition", "the callback's call has ended")
            self.fail(call, body)
        else:
            raise violation(f"a call of {id}, which is no callback")

    def _begin(self, call: InCall) -> None:
        if call.timeout == 0:
            self.refuse(call, "deadline_exceeded", "deadline exceeded")
        else:
            self._events.append(CallReceived(call))

    def _on_second_hello(self, frame: Hello) -> None:
        raise violation("a second hello on one link")

    def _on_ack(self, frame: Ack) -> None:
        if not self.acked <= frame.received <= self.sent:
            raise violation(
                f"ack {frame.received} after {self.acked}, with {self.sent} frames sent"
            )
        self.acked = frame.received

    def _on_ping(self, frame: Ping) -> None:
        self._outbox.pong = frame.value

    def _on_auth(self, frame: Auth) -> None:
        if self.side == "connecting":
            raise violation("auth from the accepting side")

    def _on_link_leftover(self, frame: Frame) -> None:
        """Legal, and nothing to do in this version."""

    def _on_extension(self, frame: Extension) -> None:
        self.ignored += 1

    def _on_chunk(self, frame: Chunk) -> None:
        if self._find(frame.id, "chunk") is not None:
            raise violation(f"chunk on id {frame.id}, where no value was begun")

    # ---------------------------------------------------------------- bytes out

    @property
    def has_output(self) -> bool:
        """Whether `next_batch` has something to give."""
        return bool(self._outbox)

    @property
    def outbox_bytes(self) -> int:
        """Bytes of encoded values waiting for the socket."""
        return self._outbox.bytes

    @property
    def outbox_full(self) -> bool:
        """Whether senders should wait before they add another value."""
        return self._outbox.bytes >= self.limits.outbox

    def next_batch(self, now: float) -> bytes | None:
        """What is ready, as the bytes of one WebSocket message, or None.

        Args:
            now: Seconds on the clock on which deadlines were given.
        """
        self._now = now
        batch = Batch(self.codec, min(BATCH_TARGET, self.peer_max_batch), self._open_call)
        may_send = self.established or self.side == "connecting"
        self._outbox.fill(batch, numbered=may_send)
        self.sent += batch.numbered
        return batch.join()

    def _open_call(self, call: OutCall) -> CallOptions | None:
        """Number a call: its id, then those of its uploads and callbacks; returns its options."""
        options = call.options
        if call.deadline is not None:
            options = options or CallOptions()
            # Up to whole milliseconds, but not for the noise of floating point.
            remaining = round((call.deadline - self._now) * 1000, 3)
            options.timeout = math.ceil(min(max(remaining, 0), LONGEST))
        call.id = self._take_id(call)
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

    def _check_size(self, value: bytes) -> None:
        limit = self.peer_max_batch - FRAME_OVERHEAD
        if len(value) > limit:
            raise ValueTooLargeError(len(value), limit)

    def _too_large(self, call: OutCall) -> ValueTooLargeError:
        assert call.args is not None
        size = len(call.args)
        return ValueTooLargeError(size, self.peer_max_batch - (call.pending_bytes - size))

    # ---------------------------------------------------------------- calls out

    def call(
        self,
        method: str | int,
        args: bytes,
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
            ValueTooLargeError: The arguments exceed what the peer takes.
        """
        running = parent is not None and parent.state != "finished"
        if running or (window is not None and not oneway):
            options = options or CallOptions()
            options.credit = window
            if running and parent is not None:
                options.parent = parent.id
        size = len(args) + OPENING_OVERHEAD
        if isinstance(method, str):
            size += 6 * len(method)
        if options is not None:
            size += len(self.codec.dump(options))
        call = OutCall(
            method,
            args,
            oneway=oneway,
            deadline=deadline,
            options=options,
            window=ReceiveWindow(
                self.limits.window if window is None else window, self.limits.window_bytes
            ),
            slots=self.slots if target is None else target.slots,
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
        fits = size <= self.peer_max_batch
        if not fits and self.established:
            raise self._too_large(call)
        if fits and slots.live < slots.limit:
            slots.live += 1
            self._outbox.add(call, size)
        else:
            nested = running and target is None
            if nested or len(slots.waiting) >= self.limits.max_waiting:
                raise NoSlotError
            slots.waiting[call] = None
        if target is not None:
            target.live[call] = None
            call.target = target
            if target.state == "finished":
                self._revoke(call)
        return call

    def _revoke(self, call: OutCall) -> None:
        """Cancel the call of a callback whose own call ends here.

        One that is not numbered yet goes out all the same, with its cancel right behind, so that
        its caller gets an answer like any other.
        """
        if call.id:
            self.cancel(call)
        elif "cancel" in SENT[call.state]:
            call.send("cancel")
            call.cancel_reason = "cancelled"

    def _promote(self, slots: Slots) -> bool:
        """Give a free slot to whoever has waited longest."""
        if not slots.waiting or slots.live >= slots.limit:
            return False
        call = next(iter(slots.waiting))
        if call.pending_bytes > self.peer_max_batch:
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
        for upload in call.uploads.values():
            self._lanes.pop(upload.id, None)
            upload.state = "finished"
            self._outbox.forget(upload.drop())
        for offer in call.callbacks.values():
            self._lanes.pop(offer.id, None)
            offer.state = "finished"
        if call.target is not None:
            call.target.live.pop(call, None)

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
        if isinstance(lane, OutCall):
            for upload in lane.uploads.values():
                # No further item may go, so an end would claim a completeness that is not there.
                self._outbox.forget(upload.drop())
                if upload.state == "uploading":
                    upload.state = "withdrawn"
        self._outbox.add_first(lane)
        return True

    # ---------------------------------------------------------------- streams out

    def may_push(self, lane: Sender) -> bool:
        """Whether the next item may be begun: the stream is live, with credit and room."""
        return lane.credit.balance >= 1 and "message" in SENT[lane.state] and not self.outbox_full

    def push(self, lane: Sender, item: bytes) -> None:
        """Queue one encoded item; `may_push` must hold.

        Raises:
            ValueTooLargeError: The peer does not take values of this size.
        """
        self._check_size(item)
        lane.send("message")
        lane.credit.spend(len(item))
        lane.items.append(item)
        lane.pending_bytes += len(item)
        self._outbox.add(lane, len(item))

    def finish(self, lane: Sender, final: bytes | None = None) -> None:
        """End a stream, or answer a notification; `final` is an encoded final value."""
        if final is None:
            lane.send("end")
            self._terminate(lane, End(lane.id), 0)
        else:
            self._check_size(final)
            lane.send("end")
            self._terminate(lane, End(lane.id, [Raw(final)]), len(final))

    def result(self, call: InCall, value: bytes) -> None:
        """Answer a call with one encoded value.

        Raises:
            ValueTooLargeError: The peer does not take values of this size.
        """
        self._check_size(value)
        call.send("result")
        self._terminate(call, Result(call.id, Raw(value)), len(value))

    def fail(self, lane: Sender, body: ErrorBody) -> None:
        """End a call or an upload with an error that the application raised."""
        body.not_started = None
        self._send_error(lane, body)

    def refuse(self, call: InCall, code: str, message: str) -> None:
        """End a call whose handler never ran, vouching for that."""
        self._send_error(call, ErrorBody(code, message, not_started=True))

    def _send_error(self, lane: Sender, body: ErrorBody) -> None:
        lane.send("error")
        limit = self.peer_max_batch - FRAME_OVERHEAD
        if not len(body.data):
            body.data = ABSENT
        encoded = self.codec.dump(body)
        if len(encoded) > limit:
            body.data = ABSENT
            body.message = f"{body.message[:SHORT_MESSAGE]} (too large to send whole)"
            encoded = self.codec.dump(body)
        self._terminate(lane, Error(lane.id, body), len(encoded))

    def _terminate(self, lane: Sender, frame: Result | End | Error, size: int) -> None:
        if isinstance(lane, InCall):
            # Before the terminal enters the ring: the cancels of what this call still invokes
            # have to go out ahead of it (CB-3).
            self._finish_call(lane)
        lane.terminal = frame
        lane.pending_bytes += size
        self._outbox.add(lane, size)
        self._lanes.pop(lane.id, None)

    def _finish_call(self, call: InCall) -> None:
        """Free what the call held: its slot, its upload and callback ids."""
        if call.counted:
            self.inbound -= 1
        if call.offer is not None:
            call.offer.in_flight -= 1
        for reader in call.uploads.values():
            self._lanes.pop(reader.id, None)
            reader.state = "finished"
        for target in call.callbacks.values():
            for live in target.live:
                self._revoke(live)
            self._lanes.pop(target.id, None)
            target.state = "finished"

    # ---------------------------------------------------------------- the end

    def live_calls(self) -> tuple[list[OutCall], list[InCall]]:
        """The calls of this side's and of the peer's that have no terminal yet."""
        outbound = [lane for lane in self._lanes.values() if isinstance(lane, OutCall)]
        inbound = [lane for lane in self._lanes.values() if isinstance(lane, InCall)]
        return outbound, inbound

    @property
    def quiescent(self) -> bool:
        """Whether no id is live and nothing waits: all that is left are counters."""
        return not self._lanes and not self._outbox and not self.slots.waiting

    def close(self) -> list[OutCall]:
        """The session is over; returns the calls of this side's that will get no terminal."""
        self.closed = True
        pending = [lane for lane in self._lanes.values() if isinstance(lane, OutCall)]
        pending += [
            lane
            for lane in self._outbox.ring
            if isinstance(lane, OutCall) and lane.id == 0 and lane.state != "finished"
        ]
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
        self._outbox = Outbox()
        self.unreported = []
        return pending
