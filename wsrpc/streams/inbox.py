"""Items that arrived on one lane, on their way to the application: all but waiting.

All of it is synchronous, and compiled where the core is; `consumer` waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from msgspec import Raw

from ..engine.failures import error_from, wrong_kind
from ..engine.held_bytes import TAKEN
from ..engine.hub import Hub
from ..engine.lane_owner import LaneOwner, Terminal
from ..engine.ledger import STEP
from ..errors import Code, ConnectionLost, DeadlineExceeded, RpcError
from ..interfaces import ObservedCall
from ..protocol.frames import End, Error, Result
from ..protocol.lanes import OutCall, Receiver, UploadReader
from ..runtime.by_hand import as_fault
from ..runtime.compiling import mypyc_attr
from ..runtime.timers import TimerEntry
from ..values.adapter import Adapter, InvalidValue
from ..values.invalid import UNDECODABLE, from_decoder
from .items import ItemGroup, Tally

__all__ = ["NOT_YET", "Inbox"]

# The result of `Inbox.take` where no item has come yet.
NOT_YET: Any = object()

# In the place of a terminal whose error has been raised.
GONE = End(0)


@mypyc_attr(allow_interpreted_subclasses=True)
class Inbox(LaneOwner):
    """The items of one lane on their way to the application: all but waiting.

    Args:
        hub: The session's.
        lane: The lane on which they arrive.
        adapter: The type of the items.
        final_adapter: The type of the final value, if there may be one.
        invalid: Makes the error to raise for an item that does not validate.
        label: The name of the stream in messages.
        on_started: Called when the call is numbered.
        on_over: Called when the stream has ended; items may still be queued.
        check: Whether items are validated; otherwise they come as plain decoded values.
        tally: Counts the items that are dropped (`overflow`).
        room: Items that may wait under a policy that drops items.

    Attributes:
        items: Validated items, ready to be taken, the last one first; the fast path pops from here.
        observed: The call, where observers are told of its items.
        on_dropped: Called when the user dropped the stream without closing it.
        taken: Credit of the items consumed and not yet reported to the endpoint.
        final: The stream's final value, once it has ended with one.
        arrival: The future for the next item, or the end, where `take` found neither.
    """

    __slots__ = (
        "_adapter",
        "_check",
        "_costs",
        "_end",
        "_entry",
        "_final_adapter",
        "_groups",
        "_held",
        "_hub",
        "_invalid",
        "_label",
        "_lane",
        "_load_one",
        "_lone",
        "_on_over",
        "_on_started",
        "_room",
        "_taking",
        "_tally",
        "_terminal",
        "_window",
        "arrival",
        "final",
        "items",
        "observed",
        "on_dropped",
        "taken",
    )

    def __init__(
        self,
        hub: Hub,
        lane: Receiver,
        adapter: Adapter,
        final_adapter: Adapter | None,
        invalid: Callable[[InvalidValue], RpcError[Any]],
        *,
        label: str,
        on_started: Callable[[], None] | None = None,
        on_over: Callable[[], None] | None = None,
        check: bool = True,
        tally: Tally | None = None,
        room: int = 0,
    ) -> None:
        self._hub = hub
        self._tally = tally or Tally()
        self._room = room
        self._check = check
        self._lane = lane
        self._window = lane.window
        self._window.growth = hub.growth
        self._adapter = adapter
        self._final_adapter = final_adapter
        self._invalid = invalid
        self._label = label
        self._on_started = on_started
        self._on_over = on_over
        self._entry: TimerEntry | None = None
        self._load_one = adapter.loader(hub.codec, check=check)
        # A small item that came by itself, ahead of all groups. Streams whose source waits before
        # each item have no others.
        self._lone: bytes | None = None
        # Lists, since an empty deque takes 760 bytes of each open stream.
        self._groups: list[ItemGroup] = []
        # Bytes of the groups that were not taken, and those of the one that is being taken.
        self._held = self._taking = 0
        self._costs: deque[int] | None = None
        self._terminal: Terminal | RpcError[Any] | None = None
        self._end: RpcError[Any] | StopAsyncIteration | None = None
        self.arrival: Any = None
        self.items: list[Any] = []
        self.taken = 0
        self.final: Any = None
        self.observed: ObservedCall | None = None
        self.on_dropped: Callable[[], None] | None = None

    # ------------------------------------------------------------ from the session

    def on_items(self, items: list[Raw]) -> None:
        if self.observed is not None:
            self._observe(len(items))
        if self._terminal is None and self._end is None:
            hub = self._hub
            # For type checkers a Raw is bytes, and at run time it is not.
            first: Any = items[0]
            if len(items) == 1 and len(first) < STEP and not (self._groups or self._lone):
                # A third cheaper than bytes(first).
                nothing: Any = b""
                self._lone = lone = nothing + first
                # This is all that `hold` would do for a small item.
                hub.taken += len(lone)
            else:
                group = ItemGroup(items, hub.codec)
                self._groups.append(group)
                self._keep(len(group.data))
            # This is `_notify`, written out to save a function call for each message.
            arrival = self.arrival
            if arrival is not None and not arrival.done():
                arrival.set_result(None)

    def _keep(self, size: int) -> None:
        """Count in items that wait as a group."""
        self._held += size
        self._hub.unread.setdefault(self, TAKEN)
        self._hub.hold(size)

    def _give_back(self, size: int) -> None:
        self._held -= size
        if self._groups:
            self._hub.unread[self] = TAKEN
        else:
            self._hub.unread.pop(self, None)
        self._hub.release(size)

    def _observe(self, items: int) -> None:
        if self.observed is not None:
            self._hub.events.items(self.observed, "received", items)

    def on_finished(self, frame: Terminal) -> None:
        self._terminate(frame)

    def on_lost(self, error: ConnectionLost) -> None:
        self._terminate(error)

    def on_started(self) -> None:
        if self._on_started is not None:
            self._on_started()

    def expire_at(self, when: float) -> None:
        """End the stream at `when`, the call's deadline on this side (TIME-3)."""

        def expire() -> None:
            did_not = "did not end" if self._lane.is_numbered else "was not sent"
            error = self._hub.overdue(self._label, f"{did_not} before its deadline")
            error.not_started = not self._lane.is_numbered
            self.stop("deadline_exceeded")
            self.fail(error)

        self._entry = self._hub.timers.add(when, expire)

    def stop(self, reason: str) -> None:
        """Cancel the stream at the other end: the rest is not wanted."""
        if self._terminal is None and self._hub.lost is None:
            self._hub.endpoint.cancel(self._cancellable(), reason)
            self._hub.wake()

    def stop_soon(self) -> None:
        """Do the same as `stop`, from a finalizer, which may run in any thread."""
        self._hub.runtime.call_threadsafe(self._drop)

    def _drop(self) -> None:
        ended = self.ended
        self.stop("cancelled")
        self._forget()
        if self.on_dropped is not None and not ended:
            self.on_dropped()

    def _forget(self) -> None:
        """Drop the queued items."""
        held = self.held
        self._lone = None
        self._groups.clear()
        self.items.clear()
        self._costs = None
        self._taking = 0
        if held:
            self._held = 0
            self._hub.unread.pop(self, None)
            self._hub.release(held)

    def discard(self) -> None:
        """Drop the queued items and end: the application wants no more."""
        self._forget()
        self._end = StopAsyncIteration()
        self._notify()

    def fail(self, error: RpcError[Any]) -> None:
        """Drop the queued items and end with this error: a deadline passed, or it was closed."""
        self._forget()
        self._terminate(error)

    def overrun(self, reason: str) -> None:
        """Drop the queued items and fail, even where the terminal has come.

        Args:
            reason: The text of the error.
        """
        error = RpcError(Code.RESOURCE_EXHAUSTED, f"{self._label}: {reason}")
        self.stop("cancelled")
        self._forget()
        self._end = error
        self._terminate(error)

    def _terminate(self, terminal: Terminal | RpcError[Any]) -> None:
        if self._terminal is None:
            self._terminal = terminal
            if self._on_over is not None:
                self._on_over()
            if self._entry is not None:
                self._hub.timers.remove(self._entry)
            self._notify()

    def _notify(self) -> None:
        arrival = self.arrival
        if arrival is not None and not arrival.done():
            arrival.set_result(None)

    # ------------------------------------------------------------ to the application

    @property
    def closed(self) -> bool:
        """Whether the application will not take any item that is still to arrive."""
        return self._terminal is not None or self._end is not None

    @property
    def lag(self) -> int:
        """Items that have arrived and wait to be taken."""
        grouped = sum(group.count for group in self._groups)
        return len(self.items) + grouped + (self._lone is not None)

    @property
    def held(self) -> int:
        """Bytes of items that wait to be taken."""
        return self._held if self._lone is None else self._held + len(self._lone)

    @property
    def asked_for(self) -> bool:
        """Whether it is a stream of this side's own call, and no upload of the peer's."""
        return isinstance(self._lane, OutCall)

    @property
    def decoded(self) -> int:
        """Items that are ready to be taken."""
        return len(self.items)

    @property
    def ended(self) -> bool:
        """Whether the terminal has come; items may still be queued."""
        return self._terminal is not None

    def pop(self) -> Any:
        """Take the next item of `items`, which must not be empty, and count its cost."""
        item = self.items.pop()
        costs = self._costs
        self.taken += 1 if costs is None else costs.popleft()
        if self.taken >= self._window.threshold:
            self.report(waiting=False)
        return item

    def _cancellable(self) -> OutCall | UploadReader:
        lane = self._lane
        assert isinstance(lane, (OutCall, UploadReader))
        return lane

    def report(self, *, waiting: bool) -> None:
        """Give credit back for the items that were taken."""
        taken, self.taken = self.taken, 0
        if self._hub.endpoint.consumed(self._lane, taken, waiting=waiting):
            self._hub.wake()

    def take(self) -> Any:
        """The next item, or `NOT_YET` where the application has to await `arrival` first.

        Raises:
            StopAsyncIteration: The stream is complete.
            RpcError: It failed, here or at the other end.
        """
        while True:
            if self.items:
                return self.pop()
            if self._taking:
                taking, self._taking = self._taking, 0
                self._give_back(taking)
            if self._end is not None:
                # An error is raised once, as by a generator; after it the stream is just over.
                end, self._end = self._end, StopAsyncIteration()
                try:
                    raise end
                finally:
                    # Its traceback holds this frame.
                    del end
            lone = self._lone
            if lone is not None:
                self._lone = None
                if self._groups:
                    self._hub.unread[self] = TAKEN
                self._hub.release(len(lone))
                try:
                    item = self._load_one(lone)
                except UNDECODABLE as error:
                    self._refuse(from_decoder(error))
                    continue
                except BaseException as error:
                    # A function of the type raised it, and it is no end of the stream.
                    fault = as_fault(error, f"{self._label}: a function of an item's type")
                    if fault is error:
                        raise
                    raise fault from error
                self.taken += 1
                if self.taken >= self._window.threshold:
                    self.report(waiting=False)
                return item
            if self._groups:
                self._decode(self._groups.pop(0))
            elif self._terminal is not None:
                self._conclude(self._terminal)
            else:
                window = self._window
                # Only in these cases does a wait change the credit to grant.
                if window.depleted or window.balance < 1 or self.taken >= window.threshold:
                    self.report(waiting=True)
                self.arrival = self._hub.runtime.future()
                return NOT_YET

    def _arrived(self) -> bool:
        """Whether an item, or the end, can be given at once."""
        if self._lone is not None or self._groups:
            return True
        return self._terminal is not None or self._end is not None

    def _arm_idle(self, idle_timeout: float) -> TimerEntry:
        def expire() -> None:
            self.stop("deadline_exceeded")
            self.fail(
                DeadlineExceeded(f"{self._label}: no item for {idle_timeout:g} s (idle_timeout)")
            )

        return self._hub.timers.add(self._hub.runtime.now() + idle_timeout, expire)

    def _decode(self, group: ItemGroup) -> None:
        codec, check = self._hub.codec, self._check
        self._costs = group.costs
        self._taking = len(group.data)
        self._hub.unread[self] = TAKEN
        try:
            if group.count == 1:
                self.items.append(self._adapter.load(group.data, codec, check=check))
                if self.asked_for:
                    # The application has it now. How long it keeps it is no affair of the peer's.
                    taking, self._taking = self._taking, 0
                    self._give_back(taking)
            else:
                assert isinstance(group.data, bytes)
                self.items = self._adapter.load_many(group.data, codec, check=check)
                self.items.reverse()
        except InvalidValue as error:
            self._refuse(self._first_invalid(group) or error)

    def _refuse(self, error: InvalidValue) -> None:
        """End the stream after the items before the one that does not validate."""
        self._groups.clear()
        self._give_back(self._held - self._taking)
        self._end = self._invalid(error)
        self.stop("cancelled")

    def _first_invalid(self, group: ItemGroup) -> InvalidValue | None:
        """The error of the first invalid item; the items before it are delivered."""
        if group.count > 1:
            codec = self._hub.codec
            for raw in codec.split_array(group.data):
                try:
                    self.items.insert(0, self._adapter.load(raw, codec, check=self._check))
                except InvalidValue as error:
                    return error
        return None

    def _conclude(self, terminal: Terminal | RpcError[Any]) -> None:
        """Turn the terminal into the exception that every further `next` raises."""
        if isinstance(terminal, RpcError):
            # Raised, it holds what holds this inbox.
            self._end, self._terminal = terminal, GONE
        elif isinstance(terminal, End):
            self._end = StopAsyncIteration()
            if terminal.final is not None and self._final_adapter is not None:
                try:
                    self.final = self._final_adapter.load(
                        terminal.final[0], self._hub.codec, check=self._check
                    )
                except InvalidValue as error:
                    self._end = self._invalid(error)
        elif isinstance(terminal, Error):
            hub, body = self._hub, terminal.body
            self._end = error_from(body, hub.codec, hub.origin_of(body.type))
        else:
            wrong = wrong_kind(self._label, streams=False)
            if isinstance(terminal, Result):
                try:
                    wrong.answer = (self._adapter.load(terminal.value, self._hub.codec),)
                except InvalidValue:
                    pass
            self._end = wrong
