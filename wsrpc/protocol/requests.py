"""Calls of this side: they wait for a slot, go out, are cancelled, and free their slot and ids."""

from __future__ import annotations

from typing import Literal

from ..limits import FLOOR_MAX_CALLS, MAX_IDS_PER_CALL, Limits
from .codec import Codec
from .events import CancelReceived
from .frames import CallOptions, ErrorBody
from .lane_states import SENT, LocalProtocolError
from .lanes import (
    CHANNEL_OVERHEAD,
    OPENING_OVERHEAD,
    CallbackOffer,
    CallbackTarget,
    InCall,
    OutCall,
    Receiver,
    Upload,
    UploadReader,
)
from .sending import Sending
from .slots import Slots
from .splice import Encoded

__all__ = ["NoSlotError", "PeerDrainingError", "Requests"]


class NoSlotError(Exception):
    """The peer has no free slot, and this call must not wait for one."""


class PeerDrainingError(Exception):
    """The peer drains and takes no new calls; this one was not begun."""


class Requests(Sending):
    """The layer of an endpoint that makes calls.

    Attributes:
        slots: The slots that the peer offers.
        peer_draining: Whether the peer takes no new calls any more.
        abandoned: Calls of callbacks that ended because the callback's call ended, since the hub
            last looked.
    """

    __slots__ = ("_given_up", "_queued", "abandoned", "peer_draining", "slots")

    def __init__(
        self,
        side: Literal["connecting", "accepting"],
        codec: Codec,
        limits: Limits,
        *,
        agent: str | None = None,
    ) -> None:
        super().__init__(side, codec, limits, agent=agent)
        self.slots = Slots(FLOOR_MAX_CALLS)
        self.peer_draining = False
        self.abandoned: list[OutCall] = []
        # Bytes of the calls that wait for a slot.
        self._queued = 0
        # The lanes that failed on this side, and whose terminal is still to come.
        self._given_up: dict[Receiver, None] = {}

    # ---------------------------------------------------------------- they begin

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
        """Begin a call; it goes out as soon as it has a slot.

        Args:
            method: `"Controller.method"`, or a callback's id together with `target`.
            args: The encoded arguments.
            oneway: Send `notify` instead of `call`.
            deadline: Seconds on the clock given to `next_batch`; the remaining time travels as
                timeout.
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
            if nested:
                raise NoSlotError(
                    f"all {slots.limit} slots of the other end are taken, and a call made while "
                    "handling one of the same session does not wait"
                )
            if len(slots.waiting) >= self.limits.max_waiting:
                raise NoSlotError(
                    f"{len(slots.waiting)} calls wait for a slot of the other end already "
                    "(max_waiting)"
                )
            if fits:
                self._fit(call)
            slots.waiting[call] = None
            self._queued += call.pending_bytes
        if target is not None:
            target.live[call] = None
            call.target = target
            if target.state == "finished" and "cancel" in SENT[call.state]:
                # The callback's call is over: this one goes out all the same, to be refused (CB-4),
                # and its cancel with it.
                call.send("cancel")
                call.cancel_reason = "cancelled"
        return call

    def waiting(self, call: OutCall) -> bool:
        """Whether the call still waits for a slot."""
        return call in call.slots.waiting

    def _promote(self, slots: Slots) -> bool:
        """Give a free slot to the call that has waited longest."""
        if not slots.waiting or slots.live >= slots.limit:
            return False
        call = next(iter(slots.waiting))
        if not self.established and call.pending_bytes > self._whole:
            # The call may fit once the peer has said how large a value it takes (HELLO-4).
            return False
        del slots.waiting[call]
        self._queued -= call.pending_bytes
        slots.live += 1
        self._outbox.add(call, call.pending_bytes)
        return True

    def _unsent(self) -> list[OutCall]:
        """The calls of this side that hold a slot, and have not been numbered."""
        outbox = self._outbox
        lanes = dict.fromkeys([*outbox.ring, *outbox.values.waiting])
        unsent = [lane for lane in lanes if isinstance(lane, OutCall) and lane.id == 0]
        return [call for call in unsent if call.state != "finished"]

    # ---------------------------------------------------------------- they go on

    def consumed(self, lane: Receiver, cost: int, *, waiting: bool) -> bool:
        """Note that the application took items of this cost; True when that queued a frame."""
        grant = lane.window.consumed(cost, waiting=waiting)
        if grant == 0 or lane.state not in ("streaming", "reading", "calling"):
            return False
        lane.credit_due += grant
        if lane.id:
            self._outbox.add(lane)
        return True

    def grant(self, lane: Receiver, n: int) -> bool:
        """Allow the sender of a stream `n` more items, regardless of consumption.

        True as `consumed`. A relay uses it, which passes on the items and the credit that it gets
        for them.
        """
        if lane.state not in ("streaming", "reading", "calling"):
            return False
        lane.window.grant(n)
        lane.credit_due += n
        if lane.id:
            self._outbox.add(lane)
        return True

    def cancel(self, lane: OutCall | UploadReader, reason: str = "cancelled") -> bool:
        """Ask the peer to stop; the peer's terminal still comes.

        Returns:
            False where no terminal will come: the call had not gone out and is just removed, or is
            over already.
        """
        if lane.state == "finished" or self.state == "closed":
            return False
        if lane.id == 0:
            assert isinstance(lane, OutCall)
            if lane in lane.slots.waiting:
                del lane.slots.waiting[lane]
                self._queued -= lane.pending_bytes
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
                # No further item may go, so an end would claim a completeness that the upload
                # lacks.
                self._drop(upload)
                if upload.state == "uploading":
                    upload.state = "withdrawn"
                if upload.value is not None:
                    # Without an error the receiver would hold the incomplete upload until the
                    # handler has ended.
                    end = self._end_instead if upload.state == "finished" else self.fail
                    end(upload, ErrorBody(reason, "cancelled"))
        self._outbox.add_first(lane)
        return True

    # ---------------------------------------------------------------- they end

    def _release(self, call: OutCall) -> None:
        """Free the slot of a call whose terminal came, and finish its upload and callback ids."""
        slots = call.slots
        slots.live -= 1
        if slots.waiting:
            self._promote(slots)
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
        """End the call of a callback, since the call that offered the callback has ended (CB-3)."""
        self._lanes.pop(call.id, None)
        if self._arriving:
            self._incoming.discard(call.id)
        call.state = "finished"
        call.cancel_reason = "cancelled"
        self._events.append(CancelReceived(call, "cancelled"))

    def _finish_call(self, call: InCall) -> None:
        """Finish the upload and callback ids of the call; its slot stays taken."""
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
            self._given_up.pop(reader, None)
        for target in call.callbacks.values():
            for live in list(target.live):
                self._abandon(live)
            self._lanes.pop(target.id, None)
            target.state = "finished"

    def _abandon(self, call: OutCall) -> None:
        """End the call of a callback, since the call that offered the callback ends here (CB-3).

        Some peers await a cancel, so one goes out; no answer has to come.
        """
        if self.cancel(call):
            call.slots.live -= 1
            self._lanes.pop(call.id, None)
            if self._arriving:
                self._incoming.discard(call.id)
            self._given_up.pop(call, None)
        self.abandoned.append(call)
