"""The flows through a relay: items in one direction, credit in the other, and uploads."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Any

from msgspec import Raw

from ..engine.hub import Hub
from ..engine.lane_owner import LaneOwner
from ..errors import ConnectionLost
from ..protocol.codec import Codec
from ..protocol.endpoint import ValueTooLargeError
from ..protocol.frames import End, Error, ErrorBody, Result
from ..protocol.lanes import InCall, Receiver, Sender, Upload, UploadReader
from .refusals import too_large
from .waiting import Turns

__all__ = ["Allowance", "Pipe", "Reader", "Terminal", "Writer", "answer", "keep", "whole"]

Terminal = Result | End | Error

# Bytes. A larger item goes only while the session has room.
LARGE = 16 << 10

# A lone surrogate, as the codec leaves it in a JSON value. As an escape it spoils only its own
# value, for the receiver. As raw bytes it would spoil a whole message.
_HALF = re.compile(f"[{chr(0xD800)}-{chr(0xDFFF)}]")


def whole(raw: Raw | Any, codec: Codec) -> bytes:
    """An encoded value in the form in which it may stand in a message."""
    data = bytes(raw)
    if codec.text and b"\xed" in data:
        text = data.decode("utf-8", "surrogatepass")
        return _HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", text).encode()
    return data


def keep(frame: Terminal) -> int:
    """Keep the value of a terminal without the message that brought it; returns its bytes."""
    if isinstance(frame, Result):
        frame.value = Raw(bytes(frame.value))
        return len(frame.value)
    if isinstance(frame, Error):
        frame.body.data = Raw(bytes(frame.body.data))
        return len(frame.body.data)
    frame.final = [Raw(bytes(one)) for one in frame.final or ()] or None
    return sum(map(len, frame.final or ()))


def answer(hub: Hub, call: InCall, frame: Result | End) -> None:
    """Answer a call with the value of a terminal.

    Raises:
        ValueTooLargeError: The peer does not take a value of this size.
    """
    if isinstance(frame, Result):
        hub.endpoint.result(call, whole(frame.value, hub.codec))
    else:
        final = whole(frame.final[0], hub.codec) if frame.final else None
        hub.endpoint.finish(call, final)


class Pipe:
    """Puts items on a lane that has credit for them, but perhaps no room at once.

    Args:
        turns: The values that wait for room.
        hub: The hub of the lane.
        lane: The lane.
        spoiled: Called with the error for an item that cannot be sent; no item follows it.
        account: The hub of the session for which the waiting bytes count as held.
    """

    __slots__ = (
        "_bytes",
        "_counted",
        "_end",
        "_hub",
        "_items",
        "_lane",
        "_spoiled",
        "_turns",
        "_waits",
        "account",
    )

    def __init__(
        self,
        turns: Turns,
        hub: Hub,
        lane: Sender,
        spoiled: Callable[[ErrorBody], None],
        account: Hub | None = None,
    ) -> None:
        self.account = account
        self._turns = turns
        self._hub = hub
        self._lane = lane
        self._spoiled = spoiled
        self._items: deque[Any] = deque()
        self._end: Callable[[], None] | None = None
        # Bytes of the items and the end that wait, and how many of them are counted as held.
        self._bytes = 0
        self._counted = 0
        self._waits = False

    def put(self, items: list[Raw]) -> None:
        """Send items, in their order."""
        if len(items) == 1 or self._items or not self._push_all(items):
            # They are views of a message, and would keep all of it in memory.
            self._items.extend(map(bytes, items))
        self.flush()

    def _push_all(self, items: list[Raw]) -> bool:
        """Push small items as one, if they can go at once; False if they cannot."""
        hub, lane = self._hub, self._lane
        if not hub.codec.text or hub.lost is not None or len(items) > lane.allowance:
            return False
        pack = b",".join(items)
        if len(pack) > hub.endpoint.share or not hub.endpoint.may_push(lane):
            return False
        hub.endpoint.push_packs(lane, (whole(pack, hub.codec),), len(items))
        return True

    @property
    def is_clear(self) -> bool:
        """Whether nothing waits, and there is room for one more value."""
        return (
            not (self._items or self._counted or self._waits)
            and self._hub.lost is None
            and self._turns.room(self._hub)
        )

    def end(self, end: Callable[[], None], size: int = 0) -> None:
        """Call `end` once all items have gone, and there is room.

        Args:
            end: The function.
            size: Bytes that are held until then.
        """
        self._end = end
        self._bytes = size
        self.flush()

    def drop(self) -> None:
        """Send no more items."""
        self._items.clear()
        self._end = None
        self._bytes = 0
        if self._counted:
            self._count()

    @property
    def overflows(self) -> bool:
        """Whether bytes wait for a session that is above its bound on memory."""
        return self._counted > 0 and self.account is not None and self.account.endpoint.crowded

    def _count(self) -> None:
        """Tell the account how many bytes wait."""
        held = self._bytes + sum(map(len, self._items)) if self._items else self._bytes
        change, self._counted = held - self._counted, held
        if change and self.account is not None:
            if change > 0:
                self.account.hold(change)
            else:
                self.account.release(-change)

    def _turn(self) -> None:
        self._waits = False
        self.flush()

    def flush(self) -> None:
        """Send more items, if there is room."""
        hub, lane, items = self._hub, self._lane, self._items
        if hub.lost is not None:
            self.drop()
            return
        endpoint, text = hub.endpoint, hub.codec.text
        while items and endpoint.may_push(lane):
            if text and len(items) > 1 and self._push_together():
                continue
            if len(items[0]) > LARGE and not self._has_room():
                break
            try:
                endpoint.push(lane, whole(items.popleft(), hub.codec))
            except ValueTooLargeError as error:
                items.clear()
                self._spoiled(too_large(error))
        if items and not lane.may_send:
            items.clear()
        if items and not self._waits and endpoint.lacks_room(lane):
            hub.block(self.flush)
        end = self._end
        if not items and end is not None and self._has_room():
            self._end = None
            self._bytes = 0
            end()
        if items or self._bytes or self._counted:
            self._count()
        hub.wake()

    def _has_room(self) -> bool:
        """Whether the session has room now; if not, its turn comes."""
        if self._waits:
            return False
        if self._turns.room(self._hub):
            return True
        self._waits = True
        self._turns.wait(self._hub, self._turn)
        return False

    def _push_together(self) -> bool:
        """Push several small items as one; False where the next one goes by itself."""
        items, most, size, count = self._items, self._lane.allowance, 0, 0
        share = self._hub.endpoint.share
        for item in items:
            size += len(item) + 1
            if size > share or count == most:
                break
            count += 1
        if count < 2:
            return False
        pack = b",".join([items.popleft() for _ in range(count)])
        self._hub.endpoint.push_packs(self._lane, (whole(pack, self._hub.codec),), count)
        return True


class Allowance:
    """Passes the credit of one lane on to another lane.

    Args:
        turns: The values that wait for room.
        hub: The hub of the other lane.
        lane: The other lane.
        room: The hub of the session to which the items go: while it has no room, no credit is
            passed on.
    """

    __slots__ = ("_due", "_hub", "_lane", "_room", "_turns", "_waits")

    def __init__(self, turns: Turns, hub: Hub, lane: Receiver, room: Hub) -> None:
        self._turns = turns
        self._waits = False
        self._hub = hub
        self._lane = lane
        self._room = room
        self._due = 0

    def add(self, n: int) -> None:
        """Pass on credit for `n` more items."""
        self._due += n
        self.release()

    def release(self) -> None:
        """Pass on the credit that is due."""
        if self._due <= 0 or self._hub.lost is not None or self._room.lost is not None:
            return
        if self._waits:
            return
        if not self._turns.room(self._room):
            self._waits = True
            self._turns.wait(self._room, self._turn)
            return
        due, self._due = self._due, 0
        if self._hub.endpoint.grant(self._lane, due):
            self._hub.wake()

    def _turn(self) -> None:
        self._waits = False
        self.release()


class Reader(LaneOwner):
    """An upload on its way in.

    Args:
        hub: The hub of the session from which it comes.
        lane: Its lane.
        too_much: Called if the session to which it goes is above its bound on memory.
    """

    __slots__ = (
        "_account",
        "_early",
        "_end",
        "_held",
        "_stopped",
        "_too_much",
        "_writer",
        "hub",
        "lane",
    )

    def __init__(self, hub: Hub, lane: UploadReader, too_much: Callable[[], None]) -> None:
        self.hub = hub
        self.lane = lane
        self._too_much = too_much
        self._account = hub
        # Bytes of the early items.
        self._held = 0
        self._stopped = False
        self._writer: Writer | None = None
        # Items that come before the target knows of the upload; the first credit bounds them.
        self._early: list[Raw] = []
        self._end: Terminal | None = None
        lane.owner = self

    def count_for(self, account: Hub) -> None:
        """Count the items that wait as held for this session, from now on."""
        held, self._held = self._held, 0
        self._account.release(held)
        self._account = account
        self._hold(held)

    def _hold(self, size: int) -> None:
        self._held += size
        self._account.hold(size)
        if size and self._account is not self.hub and self._account.endpoint.crowded:
            self._too_much()

    def stop(self) -> None:
        """Forget the items that wait, and those that come."""
        self._stopped = True
        self._drop()

    def _drop(self) -> None:
        self._early.clear()
        held, self._held = self._held, 0
        self._account.release(held)

    def lead_to(self, writer: Writer) -> None:
        """Pass the items to the target's lane from now on."""
        self._writer = writer
        early = list(self._early)
        self._drop()
        if early:
            writer.put(early)
        if self._end is not None:
            writer.finish(self._end)

    def on_items(self, items: list[Raw]) -> None:
        if self._writer is None:
            # The items are views of a message, and would keep all of it in memory.
            if not self._stopped:
                own = [Raw(bytes(item)) for item in items]
                self._early += own
                self._hold(sum(map(len, own)))
        elif not self._writer.put(items):
            self._too_much()

    def on_finished(self, frame: Terminal) -> None:
        self._end = frame
        if self._writer is not None:
            self._writer.finish(frame)

    def on_lost(self, error: ConnectionLost) -> None:
        """Do nothing: the call of the upload hears of the loss."""


class Writer(LaneOwner):
    """An upload on its way out to the target.

    Args:
        turns: The values that wait for room.
        hub: The hub of the target's session.
        lane: Its lane.
        reader: The caller's half.
        account: The hub of the session for which the items that wait count as held.
        count: Called with the number of items that were passed on.
    """

    __slots__ = ("_count", "_hub", "_lane", "_pipe", "_reader", "_reason", "_stopped", "_turns")

    def __init__(
        self,
        turns: Turns,
        hub: Hub,
        lane: Upload,
        reader: Reader,
        account: Hub,
        count: Callable[[int], None],
    ) -> None:
        self._stopped = False
        self._hub = hub
        self._count = count
        self._lane = lane
        self._reader = reader
        self._turns = turns
        self._pipe = Pipe(turns, hub, lane, self._spoil, account)
        self._reason: str | None = None
        lane.owner = self

    def start(self) -> None:
        """The call was numbered, and the target's credit is known."""
        reader = self._reader
        allowance = Allowance(self._turns, reader.hub, reader.lane, self._hub)
        granted = self._lane.tell_grants(allowance.add)
        # The reader's own first credit is a part of it.
        allowance.add(granted - reader.hub.limits.window)
        reader.lead_to(self)

    def stop(self) -> None:
        """Send no more items: the call is over, or about to be."""
        self._stopped = True
        self._pipe.drop()

    def put(self, items: list[Raw]) -> bool:
        """Send items of the caller; False if too many bytes wait for the target already."""
        if self._lane.may_send and not self._stopped:
            self._count(len(items))
            self._pipe.put(items)
        return not self._pipe.overflows

    def finish(self, frame: Terminal) -> None:
        """End the upload as the caller did."""
        self._pipe.end(lambda: self._finish(frame))

    def _finish(self, frame: Terminal) -> None:
        lane, endpoint = self._lane, self._hub.endpoint
        if self._hub.lost is not None or not lane.wants_terminal:
            return
        if lane.was_stopped:
            endpoint.fail(lane, ErrorBody(self._reason or "cancelled", "the upload was stopped"))
        elif isinstance(frame, Error):
            endpoint.fail(lane, frame.body)
        else:
            endpoint.finish(lane)
        self._hub.wake()

    def _spoil(self, body: ErrorBody) -> None:
        """End the upload with the error of an item that cannot be sent."""
        self._hub.endpoint.fail(self._lane, body)
        self.on_cancel("cancelled")

    def on_credit(self) -> None:
        self._pipe.flush()

    def on_cancel(self, reason: str) -> None:
        self._reason = reason
        self._pipe.drop()
        reader = self._reader
        if reader.hub.lost is None and not reader.lane.is_over:
            reader.hub.endpoint.cancel(reader.lane, reason)
            reader.hub.wake()
        elif reader.lane.is_over:
            self._finish(End(0))

    def on_lost(self, error: ConnectionLost) -> None:
        """Do nothing: the call of the upload hears of the loss."""
