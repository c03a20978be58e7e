"""One end of a session as a pure state machine: bytes in, events out; requests in, bytes out.

No I/O, no clock, no randomness, no logging. The same class plays both sides; the side decides the
parity of ids and who says hello first, nothing else.

How a shell drives it::

    endpoint = Endpoint("connecting", codec, limits)
    while True:
        data = endpoint.next_batch(now)     # whenever has_output; send it as one message
        events = endpoint.receive(data)     # for each message; act on each event
        # a ProtocolError: close the link with its code; then call endpoint.close()

Requests (`call`, `push`, `finish`, `fail`, `cancel`, `consumed`) only queue; what they queued
comes out of `next_batch`. On the accepting side, answer `HelloReceived` with `accept`; until then
the rest of the first message stays undecoded.
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
    SENT,
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
    Frame,
    Goaway,
    Hello,
    HelloBody,
    HelloLimits,
    Message,
    Notify,
    Ping,
    Pong,
    Result,
)
from .outbox import BATCH_TARGET, FRAME_OVERHEAD, Batch, Outbox
from .window import VIOLATION, ReceiveWindow

__all__ = ["VERSION", "Endpoint", "NoSlotError", "ValueTooLargeError"]

VERSION = 1
UNSUPPORTED_VERSION = 4507
CANNOT_RESUME = 4010
BAD_FRAME = 4500

# An ack is owed after this much, at the latest (protocol.md ACK).
ACK_FRAMES = 32
ACK_BYTES = 64 * 1024

NO_OPTIONS = CallOptions()
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
        ignored: Frames for finished ids that came and were ignored.
        started: Calls numbered since the shell last looked, if they carry uploads or callbacks.
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
        self.slots = Slots(FLOOR_MAX_CALLS)
        self.peer_max_batch = FLOOR_MAX_BATCH
        self.peer_window = 0
        self.inbound = 0
        self._parity = 1 if side == "connecting" else 0
        self._next_id = 1 if side == "connecting" else 2
        self._peer_highest = 0
        self._lanes: dict[int, Lane] = {}
        self._outbox = Outbox(codec)
        self._held: list[Raw] = []
        self._hello_taken = False
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
            Notify: self._on_call,
            Message: self._on_message,
            Result: self._on_terminal,
            End: self._on_terminal,
            Error: self._on_terminal,
            Cancel: self._on_cancel,
            Credit: self._on_credit,
            Chunk: self._on_chunk,
        }
        if side == "connecting":
            self._queue_hello(HelloBody(version=VERSION, link=1, received=0, auth=auth))

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
        held, self._held = self._held, []
        frames = [self.codec.decode_one(raw) for raw in held]
        return self._apply([frame for frame in frames if frame is not None], sum(map(len, held)))

    def _receive_hello(self, data: bytes) -> list[Event]:
        raws = self.codec.split(data)
        first = self.codec.decode_one(raws[0])
        if not isinstance(first, Hello):
            raise ProtocolError(VIOLATION, "the first frame on a link must be hello")
        body = first.body
        if body.version != VERSION:
            raise ProtocolError(
                UNSUPPORTED_VERSION, f"version {body.version}; this end speaks {VERSION}"
            )
        if self.side == "accepting" and body.token is not None:
            raise ProtocolError(CANNOT_RESUME, "this server keeps no sessions to resume")
        self._hello_taken = True
        self.peer_window = body.window or 0
        limits = body.limits or HelloLimits()
        self.peer_max_batch = limits.max_batch or FLOOR_MAX_BATCH
        self.slots.limit = limits.max_calls or FLOOR_MAX_CALLS
        events: list[Event] = [HelloReceived(body)]
        if self.side == "accepting":
            self._held = raws[1:]
            return events
        self.established = True
        self._outbox.ack = self.received
        for lane in self._lanes.values():
            if isinstance(lane, Upload) and self.peer_window:
                lane.credit.grant(self.peer_window)
                events.append(CreditReceived(lane))
        while self._promote(self.slots):
            pass
        frames = [self.codec.decode_one(raw) for raw in raws[1:]]
        events += self._apply([frame for frame in frames if frame is not None], len(data))
        return events

    # ---------------------------------------------------------------- bytes in

    def receive(self, data: bytes) -> list[Event]:
        """Take one WebSocket message.

        Raises:
            ProtocolError: The message breaks a rule; close the link with the error's code.
        """
        if not self._hello_taken:
            return self._receive_hello(data)
        if not self.established:
            raise ProtocolError(VIOLATION, "a message before the hello was answered")
        return self._apply(self.codec.decode(data), len(data))

    def _apply(self, frames: list[Frame], size: int) -> list[Event]:
        events = self._events = []
        handlers = self._handlers
        for frame in frames:
            handlers[type(frame)](frame)
        self._ack_bytes += size
        if self.received - self._ack_told >= ACK_FRAMES or self._ack_bytes >= ACK_BYTES:
            if self.received != self._ack_told:
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
        if id < 1 or (id >= self._next_id if ours else id > self._peer_highest):
            raise ProtocolError(VIOLATION, f"{frame} for id {id}, which was never opened")
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
        name = type(frame).__struct_config__.tag
        assert isinstance(name, str)
        lane = self._find(frame.id, name)
        if lane is None:
            return
        lane.receive(name)
        assert isinstance(lane, (OutCall, UploadReader))
        del self._lanes[lane.id]
        if isinstance(lane, OutCall):
            self._release(lane)
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
        lane = self._find(frame.id, "credit")
        if lane is None:
            return
        lane.receive("credit")
        if lane.state in ("cancelled", "stopping"):
            self.ignored += 1
            return
        assert isinstance(lane, Sender)
        was_ready = lane.credit.balance >= 1
        lane.credit.grant(frame.n)
        if not was_ready and lane.credit.balance >= 1:
            self._events.append(CreditReceived(lane))

    def _on_call(self, frame: Call | Notify) -> None:
        self.received += 1
        options = frame.options or NO_OPTIONS
        credit = self.peer_window if options.credit is None else options.credit
        if credit > MAX_CREDIT:
            raise ProtocolError(VIOLATION, f"a call with credit {credit}")
        call = InCall(frame, credit)
        self.codec.check_args(call.args, positional=isinstance(call.method, int))
        self._open_ids(call, options)
        self._lanes[call.id] = call
        if isinstance(call.method, int):
            refusal = self._open_callback_call(call, call.method)
        elif self.inbound >= self.limits.max_calls:
            refusal = ("resource_exhausted", f"more than {self.limits.max_calls} calls at a time")
        else:
            refusal = None
        if refusal is not None:
            self.refuse(call, *refusal)
            return
        if call.offer is None:
            self.inbound += 1
            call.counted = True
        if call.timeout == 0:
            self.refuse(call, "deadline_exceeded", "deadline exceeded")
            return
        self._events.append(CallReceived(call))

    def _open_ids(self, call: InCall, options: CallOptions) -> None:
        """Open the call's id, then its upload and callback ids, checking every one (ID-2)."""
        uploads = options.uploads or NO_IDS
        callbacks = options.callbacks or NO_IDS
        if (uploads or callbacks) and call.state != "running":
            raise ProtocolError(VIOLATION, f"uploads or callbacks on id {call.id}")
        ids = [call.id, *sorted([*uploads.values(), *callbacks.values()])]
        if len(ids) > MAX_IDS_PER_CALL:
            raise ProtocolError(VIOLATION, f"a call that opens {len(ids)} ids")
        for id in ids:
            if (id & 1) == self._parity or id <= self._peer_highest:
                raise ProtocolError(VIOLATION, f"id {id} cannot be opened here")
            self._peer_highest = id
        for name, id in uploads.items():
            window = ReceiveWindow(self.limits.window, self.limits.window_bytes)
            call.uploads[name] = self._lanes[id] = UploadReader(id, window)
        for name, id in callbacks.items():
            call.callbacks[name] = self._lanes[id] = CallbackTarget(id)

    def _open_callback_call(self, call: InCall, target: int) -> tuple[str, str] | None:
        offer = self._lanes.get(target)
        if isinstance(offer, CallbackOffer):
            if offer.in_flight >= MAX_CALLBACK_CALLS:
                return "resource_exhausted", f"more than {MAX_CALLBACK_CALLS} calls of one callback"
            offer.in_flight += 1
            call.offer = offer
            return None
        if offer is not None or (target & 1) != self._parity or target >= self._next_id:
            raise ProtocolError(VIOLATION, f"a call of {target}, which is no callback")
        return "failed_precondition", "the callback's call has ended"

    def _on_second_hello(self, frame: Hello) -> None:
        raise ProtocolError(VIOLATION, "a second hello on one link")

    def _on_ack(self, frame: Ack) -> None:
        if not self.acked <= frame.received <= self.sent:
            raise ProtocolError(
                VIOLATION, f"ack {frame.received} after {self.acked}, with {self.sent} frames sent"
            )
        self.acked = frame.received

    def _on_ping(self, frame: Ping) -> None:
        self._outbox.pong = frame.value

    def _on_auth(self, frame: Auth) -> None:
        if self.side == "connecting":
            raise ProtocolError(VIOLATION, "auth from the accepting side")

    def _on_link_leftover(self, frame: Frame) -> None:
        """Legal, and nothing to do in this version."""

    def _on_chunk(self, frame: Chunk) -> None:
        if self._find(frame.id, "chunk") is not None:
            raise ProtocolError(VIOLATION, f"chunk on id {frame.id}, where no value was begun")

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
        return self.codec.join(batch.parts) if batch.parts else None

    def _open_call(self, call: OutCall) -> CallOptions | None:
        """Number a call: its id, then those of its uploads and callbacks; returns its options."""
        options = call.options
        if call.deadline is not None:
            options = options or CallOptions()
            options.timeout = max(0, math.ceil((call.deadline - self._now) * 1000))
        call.id = self._take_id(call)
        if call.uploads or call.callbacks:
            options = options or CallOptions()
            if call.uploads:
                for upload in call.uploads.values():
                    upload.id = self._take_id(upload)
                    upload.credit.balance = self.peer_window
                options.uploads = {name: lane.id for name, lane in call.uploads.items()}
            if call.callbacks:
                for offer in call.callbacks.values():
                    offer.id = self._take_id(offer)
                options.callbacks = {name: lane.id for name, lane in call.callbacks.items()}
            self.started.append(call)
        return options

    def _take_id(self, lane: Lane) -> int:
        id = self._next_id
        self._next_id = id + 2
        self._lanes[id] = lane
        return id

    def _check_size(self, payload: bytes) -> None:
        limit = self.peer_max_batch - 16 * FRAME_OVERHEAD
        if len(payload) > limit:
            raise ValueTooLargeError(len(payload), limit)

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
        self._check_size(args)
        slots = target.slots if target is not None else self.slots
        first = self.limits.window if window is None else window
        if window is not None or (parent is not None and parent.id):
            options = options or CallOptions()
            options.credit = window
            if parent is not None and parent.state != "finished":
                options.parent = parent.id
        call = OutCall(
            method,
            args,
            oneway=oneway,
            deadline=deadline,
            options=options,
            window=ReceiveWindow(first, self.limits.window_bytes),
            slots=slots,
            uploads={name: Upload(0) for name in uploads},
            callbacks={name: CallbackOffer() for name in callbacks},
        )
        if slots.live < slots.limit:
            slots.live += 1
            self._outbox.add(call, call.pending_bytes)
        else:
            nested = parent is not None and parent.state != "finished" and target is None
            if nested or len(slots.waiting) >= self.limits.max_waiting:
                raise NoSlotError
            slots.waiting[call] = None
        if target is not None:
            target.live[call] = None
            call.target = target
        return call

    def _promote(self, slots: Slots) -> bool:
        """Give a free slot to whoever has waited longest."""
        if not slots.waiting or not slots.free():
            return False
        call = next(iter(slots.waiting))
        del slots.waiting[call]
        slots.live += 1
        self._outbox.add(call, call.pending_bytes)
        return True

    def _release(self, call: OutCall) -> None:
        """The call's terminal came: free its slot, finish its upload and callback ids."""
        call.slots.live -= 1
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
            lane.state = "finished"
            return False
        if "cancel" not in SENT[lane.state]:
            return True
        lane.send("cancel")
        lane.credit_due = 0
        lane.cancel_reason = reason
        if isinstance(lane, OutCall):
            for upload in lane.uploads.values():
                self._outbox.forget(upload.drop_items())
        self._outbox.add_first(lane)
        return True

    # ---------------------------------------------------------------- streams out

    def may_push(self, lane: Sender) -> bool:
        """Whether the next item may be begun: the stream is live, with credit and room."""
        return lane.credit.balance >= 1 and lane.id != 0 and not self.outbox_full

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
        if final is not None:
            self._check_size(final)
        lane.send("end")
        self._terminate(lane, End(lane.id, None if final is None else [Raw(final)]), final)

    def result(self, call: InCall, value: bytes) -> None:
        """Answer a call with one encoded value.

        Raises:
            ValueTooLargeError: The peer does not take values of this size.
        """
        self._check_size(value)
        call.send("result")
        self._terminate(call, Result(call.id, Raw(value)), value)

    def fail(self, lane: Sender, body: ErrorBody) -> None:
        """End a call or an upload with an error that the application raised."""
        lane.send("error")
        body.not_started = None
        if not len(body.data):
            body.data = self.codec.null
        elif len(body.data) > self.peer_max_batch - 16 * FRAME_OVERHEAD:
            body.data = self.codec.null
            body.message = f"{body.message} (its data was too large to send)"
        self._terminate(lane, Error(lane.id, body), bytes(body.data))

    def refuse(self, call: InCall, code: str, message: str) -> None:
        """End a call whose handler never ran, vouching for that."""
        call.send("error")
        body = ErrorBody(code, message, self.codec.null, not_started=True)
        self._terminate(call, Error(call.id, body), None)

    def _terminate(self, lane: Sender, frame: Result | End | Error, value: bytes | None) -> None:
        size = len(value) if value is not None else 0
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
            for live in list(target.live):
                self.cancel(live)
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
        pending += list(self.slots.waiting)
        for target in self._lanes.values():
            if isinstance(target, CallbackTarget):
                pending += list(target.slots.waiting)
        self.slots.waiting.clear()
        self._lanes.clear()
        self._outbox = Outbox(self.codec)
        return pending
