"""Frames out on ids that are open: items, and the one terminal of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Raw

from ..limits import Limits
from .batch import FRAME_OVERHEAD
from .chunks import Outgoing
from .codec import Codec
from .frames import (
    ABSENT,
    End,
    Error,
    ErrorBody,
    Result,
    SizedEnd,
    SizedError,
    SizedMessage,
    SizedResult,
)
from .ids import Ids
from .lane_states import SENDING
from .lanes import InCall, Sender, Upload
from .slots import Places
from .splice import Encoded

__all__ = ["Sending"]

# The number of refusals that the protocol demands and that may wait while the outbox is full: 64
# KiB of them.
MAX_REFUSALS = 512

# The states of a stream whose first item has been sent.
UNDER_WAY = frozenset(("yielding", "uploading"))

# Characters. The length to which the message of an error is cut when the error would not fit a
# batch.
SHORT_MESSAGE = 1000


class Sending(Ids):
    """The layer of an endpoint that streams and answers."""

    __slots__ = ("_refused",)

    def __init__(
        self,
        side: Literal["connecting", "accepting"],
        codec: Codec,
        limits: Limits,
        *,
        agent: str | None = None,
    ) -> None:
        super().__init__(side, codec, limits, agent=agent)
        # Calls that were refused a slot, until the refusal has gone.
        self._refused = Places(MAX_REFUSALS)

    # ---------------------------------------------------------------- items

    def may_push(self, lane: Sender) -> bool:
        """Whether the next item may be begun: the stream is live, with credit and room."""
        return (
            lane.credit.balance >= 1
            and lane.state in SENDING
            and lane.value is None
            and self._outbox.bytes < self.limits.outbox
            and not (self.crowded and self.outbox_full)
        )

    def lacks_room(self, lane: Sender) -> bool:
        """Whether an item has to wait for values on their way, of all streams or of this one."""
        return lane.value is not None or self.outbox_full

    def push(self, lane: Sender, item: Encoded) -> None:
        """Queue one encoded item; `may_push` must hold.

        Raises:
            ValueTooLargeError: The peer does not take values of this size.
        """
        size = len(item)
        whole = size <= self._unbroken or self._goes_whole(size)
        # Only the first item changes the state.
        if lane.state not in UNDER_WAY:
            lane.send("message")
        lane.credit.spend(size)
        if whole:
            lane.items.append(item if type(item) is bytes else bytes(item))
            lane.pending_bytes += size
            self._outbox.add(lane, size)
        else:
            lane.value = Outgoing(item, SizedMessage(lane.id, [self.codec.null], size))
            self._outbox.values.add(lane.value)
            self._outbox.add(lane)

    def push_packs(self, lane: Sender, packs: Sequence[bytes], count: int) -> None:
        """Queue `count` items of JSON that were encoded in packs, each with commas between its items.

        A pack has at most `share` bytes, and all of them together 16 KiB, so that each item costs 1;
        `may_push` must hold, and the balance be at least `count`.
        """
        if lane.state not in UNDER_WAY:
            lane.send("message")
        lane.credit.spend_many(count)
        lane.items.extend(packs)
        size = sum(map(len, packs)) if len(packs) > 1 else len(packs[0])
        lane.pending_bytes += size
        self._outbox.add(lane, size)

    # ---------------------------------------------------------------- terminals

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
        """End a call whose handler never ran; the error says that it was not started."""
        self.decline(call, ErrorBody(code, message))

    def decline(self, call: InCall, body: ErrorBody) -> None:
        """End a call that the application did not let begin, with the application's error."""
        body.not_started = True
        self._send_error(call, body)

    def _send_error(self, lane: Sender, body: ErrorBody) -> None:
        lane.send("error")
        if not len(body.data):
            body.data = ABSENT
        encoded = self.codec.dump(body)
        if lane.pool is None and isinstance(lane, InCall):
            # Nothing else bounds the answers to calls that take no slot (OUT-4).
            lane.pool = refused = self._refused
            refused.live += 1
            if refused.live > refused.limit and self._outbox.bytes >= self.limits.outbox:
                self._excess = "more calls than there are places, and their refusals are not read"
        if len(encoded) <= self._unbroken:
            self._terminate(lane, Error(lane.id, body), len(encoded))
            return
        data, body.data = body.data, ABSENT
        head = len(self.codec.dump(body)) + FRAME_OVERHEAD
        # The receiver holds a value that was begun and dropped until a frame says so. Such a value
        # must not stand in the way of that frame.
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
            # This comes before the terminal enters the ring: a peer that has taken the terminal
            # ignores cancels of the callbacks that this call still invokes.
            if self._arriving or lane.uploads or lane.callbacks:
                self._finish_call(lane)
            if lane.offer is not None:
                lane.offer.calls.pop(lane, None)
        lane.terminal = frame
        lane.pending_bytes += size
        self._outbox.add(lane, size)
        self._lanes.pop(lane.id, None)

    def _terminate_in_chunks(self, lane: Sender, value: Outgoing) -> None:
        values = self._outbox.values
        values.add(value)
        if isinstance(lane, InCall):
            values.terminals[lane.id] = lane
        self._terminate(lane, value, 0)

    def _end_instead(self, lane: Sender, body: ErrorBody) -> None:
        """Replace a terminal that was not out completely by an error."""
        size = len(self.codec.dump(body))
        lane.terminal = Error(lane.id, body)
        lane.pending_bytes += size
        self._outbox.add(lane, size)

    def _drop(self, upload: Upload) -> None:
        """Forget the items and the terminal of an upload that have not gone."""
        outbox = self._outbox
        if isinstance(upload.terminal, Outgoing):
            outbox.values.remove(upload.terminal)
        outbox.forget(upload.drop())
        outbox.values.drop(upload)

    def _finish_call(self, call: InCall) -> None:
        """Finish the upload and callback ids of the call; its slot stays taken."""
        raise NotImplementedError
