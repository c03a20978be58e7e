"""The life of one id: which frames may pass, and which frames this side still has to send on it.

Every live id has one `Lane` at each end. Four kinds of lane carry everything:

    kind          at           sends                              receives
    OutCall       the caller   call/notify, credit, cancel        message, result, end, error
    InCall        the callee   message, result, end, error        credit, cancel
    Upload        the caller   message, end, error                credit, cancel
    UploadReader  the callee   credit, cancel                     message, end, error

A lane holds no queue of frames. The frames that it has yet to send *are* its state: an opening,
items, summed credit, one cancel, one terminal. So a second cancel or two credits cannot pile up,
and frames that have become pointless vanish before they cost a byte.

`lane_states` says which frames may be sent and received in which state. Any other frame raises an
error that names the frame, the role and the state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

from msgspec import Raw

from ..limits import COST_UNIT, MAX_CALLBACK_CALLS
from .batch import Batch
from .chunks import Outgoing, OutgoingValues
from .frames import (
    ABSENT,
    Call,
    CallOptions,
    Cancel,
    Credit,
    End,
    Error,
    Notify,
    Result,
    SizedCall,
    SizedNotify,
)
from .lane_states import END, RECEIVED, SENDING, SENT, LocalProtocolError, State
from .slots import Places, Slots
from .splice import Encoded
from .window import ObservedCredit, ReceiveWindow, SendCredit, violation

__all__ = [
    "CallbackOffer",
    "CallbackTarget",
    "InCall",
    "Lane",
    "OutCall",
    "Receiver",
    "Sender",
    "Upload",
    "UploadReader",
    "finish_reason",
]

# Bytes. An upper bound of the bytes that a call needs besides its arguments, method name and
# options, and of those that one upload or callback adds to the options besides its name.
OPENING_OVERHEAD = 128
CHANNEL_OVERHEAD = 24

# Milliseconds. A longer duration means the same, and not every language can hold it exactly.
LONGEST = 2**53 - 1

NO_OPTIONS = CallOptions()


Values: TypeAlias = "OutgoingValues[Lane]"


class Lane:
    """One live id at one end.

    Attributes:
        id: The id, or 0 while the opening frame has not been numbered.
        state: The row of the state table that holds now.
        queued: Whether the lane waits in the outbox's ring.
        pending_bytes: Bytes. Encoded values that wait on this lane, without `value`.
        value: The value that goes in chunks, after the items and ahead of the terminal.
        owner: The object that calls and handlers have for this id; the core never looks at it.
    """

    __slots__ = ("id", "owner", "pending_bytes", "queued", "state", "value")
    role: ClassVar[str] = "lane"

    def __init__(self, id: int, state: State) -> None:
        self.id = id
        self.state: State = state
        self.queued = False
        self.pending_bytes = 0
        self.value: Outgoing | None = None
        self.owner: Any = None

    @property
    def is_numbered(self) -> bool:
        """Whether its opening frame has gone out, so that the peer may know of it."""
        return self.id != 0

    @property
    def is_over(self) -> bool:
        """Whether it has its terminal: no frame comes any more, and none may be sent."""
        return self.state == END

    def receive(self, frame: str) -> None:
        """Change the state by a frame from the peer.

        Raises:
            ProtocolError: 4505, the frame is not allowed here; the peer's fault.
        """
        try:
            self.state = RECEIVED[self.state][frame]
        except KeyError:
            raise violation(
                f"{frame} on id {self.id}, where this side is {self.role}, {self.state}"
            ) from None

    def send(self, frame: str) -> None:
        """Change the state by a frame of this side."""
        try:
            self.state = SENT[self.state][frame]
        except KeyError:
            raise LocalProtocolError(
                f"cannot send {frame} on id {self.id} as {self.role}, {self.state}"
            ) from None

    def take(self, batch: Batch, values: Values) -> bool:
        """Put as many pending frames as fit into `batch`; True when none is left.

        Args:
            batch: The message in the making.
            values: All values that go in chunks, of this lane and of the others.
        """
        raise NotImplementedError

    def drop(self) -> int:
        """Forget everything unsent; returns the bytes that this frees."""
        freed, self.pending_bytes = self.pending_bytes, 0
        return freed


class Sender(Lane):
    """The sending end of a stream: items under credit, then one terminal.

    Attributes:
        debt: Bytes by which the last items exceeded their turns.
        pool: The slots of which it holds one until its terminal has gone; None where it holds none.
            So no more terminals than slots can wait for a peer that does not read.
    """

    __slots__ = ("credit", "debt", "items", "pool", "terminal")

    def __init__(self, id: int, state: State, credit: int) -> None:
        super().__init__(id, state)
        self.pool: Places | CallbackOffer | None = None
        self.credit = SendCredit(credit)
        # A list, since an empty deque takes 760 bytes.
        self.items: list[bytes] = []
        self.debt = 0
        self.terminal: Result | End | Error | Outgoing | None = None

    @property
    def may_send(self) -> bool:
        """Whether the stream takes items, as far as its state goes; credit is another matter."""
        return self.state in SENDING

    @property
    def allowance(self) -> int:
        """How many more items may be begun; none while a large one is on its way."""
        return self.credit.balance if self.value is None else 0

    def tell_grants(self, granted: Callable[[int], None]) -> int:
        """Call `granted` with each further credit; returns how many items may be begun so far."""
        so_far = self.credit.balance
        self.credit = ObservedCredit(so_far, granted)
        return so_far

    def take(self, batch: Batch, values: Values) -> bool:
        if self.items and not self._take_items(batch):
            return False
        if self.value is not None and not self._take_value(batch, values):
            return self._parked(batch, values)
        terminal = self.terminal
        if terminal is not None:
            if isinstance(terminal, Outgoing):
                self.value, self.terminal = terminal, None
                return self._take_value(batch, values) or self._parked(batch, values)
            size = self.pending_bytes
            if not batch.offer(terminal, size):
                return False
            self.terminal = None
            self.pending_bytes = 0
            batch.freed += size
            if self.value is not None:
                # The value was begun and dropped; this error discards it at the other end.
                values.release(self)
            if self.pool is not None:
                self.pool.live -= 1
        return True

    def _take_value(self, batch: Batch, values: Values) -> bool:
        """Put a piece of `value` into the batch; True when that was the last."""
        if not values.take(self, batch):
            return False
        if self.value is None and self.terminal is None and self.state == END and self.pool:
            self.pool.live -= 1
        return True

    def _parked(self, batch: Batch, values: Values) -> bool:
        """Whether the large value waits to be woken.

        A lane that was woken already, and found no room in this batch, keeps its place in the ring.
        """
        return self in values.parked and not batch.full

    def _take_items(self, batch: Batch) -> bool:
        """Put a quantum's worth of items into one `message`; True when none is left."""
        if self.debt > 0 and batch.contended:
            self.debt -= batch.quantum
            return False
        group, quantum = self.items, batch.quantum
        size, n, count = len(group[0]), 1, len(group)
        room = quantum
        if count > 1:
            room = min(quantum, batch.room())
            while n < count and size + n + len(group[n]) < room:
                size += len(group[n])
                n += 1
            group = group[:n]
        if not batch.put(batch.codec.message(self.id, group)):
            return False
        self.debt = size - quantum
        self.pending_bytes -= size
        batch.freed += size
        if n == count:
            self.items = []
            return True
        del self.items[:n]
        if room < quantum:
            # The batch cut the turn short, so it goes on in the next one.
            batch.full = True
        return False

    def drop(self) -> int:
        self.items.clear()
        self.terminal = None
        return super().drop()

    def drop_items(self) -> int:
        """Forget the unsent items only; returns the bytes that this frees."""
        freed = sum(map(len, self.items))
        self.items.clear()
        self.pending_bytes -= freed
        return freed


class Receiver(Lane):
    """The receiving end of a stream: grants credit, may cancel.

    Args:
        granted: Items that the sender may begin at first.
        target: Bytes that the window may hold, once it has grown.
    """

    __slots__ = ("_granted", "_target", "_window", "cancel_reason", "credit_due")

    def __init__(self, id: int, state: State, granted: int, target: int) -> None:
        super().__init__(id, state)
        self._granted = granted
        self._target = target
        self._window: ReceiveWindow | None = None
        self.credit_due = 0
        self.cancel_reason: str | None = None

    @property
    def window(self) -> ReceiveWindow:
        """The window; made when it is first asked for, which in most calls is never."""
        window = self._window
        if window is None:
            window = self._window = ReceiveWindow(self._granted, self._target)
        return window

    @property
    def untaken(self) -> int:
        """The cost of the items that have come and were not consumed."""
        return self.window.queued

    def keep_at_most(self, items: int) -> None:
        """Let the window never grow beyond this many items."""
        self.window.most = items

    def take(self, batch: Batch, values: Values) -> bool:
        if self.state == END:
            return True
        if self.credit_due:
            if not batch.offer(Credit(self.id, self.credit_due)):
                return False
            self.credit_due = 0
        if self.cancel_reason is not None:
            if not batch.offer(Cancel(self.id, self.cancel_reason)):
                return False
            self.cancel_reason = None
        return True


class OutCall(Receiver):
    """A call made by this side.

    Attributes:
        method: `"Controller.method"`, or the peer's callback id.
        oneway: Whether it goes out as `notify`.
        deadline: Seconds on the hub's clock, or None.
        uploads: The call's upload lanes, by parameter.
        callbacks: The call's offered callbacks, by parameter.
        slots: The pool whose slot the call holds or waits for.
        target: The callback that it invokes, if it does.
        options: The other options that travel, besides timeout and ids.
    """

    __slots__ = (
        "args",
        "callbacks",
        "deadline",
        "method",
        "oneway",
        "options",
        "slots",
        "target",
        "uploads",
    )
    role: ClassVar[str] = "the caller"

    def __init__(
        self,
        method: str | int,
        args: Encoded,
        granted: int,
        target: int,
        slots: Slots,
        oneway: bool,
        deadline: float | None,
        options: CallOptions | None,
    ) -> None:
        # This sets the attributes of a lane and a receiver too: calling both constructors costs a
        # call 0.6 µs.
        self.id = 0
        self.state = "notifying" if oneway else "invoking" if type(method) is int else "calling"
        self.queued = False
        self.pending_bytes = 0
        self.value = None
        self.owner = None
        self._granted = granted
        self._target = target
        self._window = None
        self.credit_due = 0
        self.cancel_reason = None
        self.method = method
        self.args: Encoded | None = args
        self.oneway = oneway
        self.deadline = deadline
        self.options = options
        self.uploads = NO_UPLOADS
        self.callbacks = NO_OFFERS
        self.slots = slots
        self.target: CallbackTarget | None = None

    @property
    def serves_live(self) -> bool:
        """Whether a call of the peer's may wait for it, so that a drain lets it begin (DRAIN-2)."""
        if self.target is not None:
            return True
        return self.options is not None and self.options.parent is not None

    def take(self, batch: Batch, values: Values) -> bool:
        if self.id == 0:
            if self.state == "finished":
                return True
            # An id is given only once it is certain that the frame goes into this batch.
            if not batch.fits(self.pending_bytes):
                return False
            value = self.value
            if value is not None and not values.may_begin(self, value):
                return True
            options = batch.open_call(self)
            frame: Call | Notify
            if value is not None:
                value.begun = True
                frame = self._announcement(batch.codec.null, options, len(value.data))
                if self.cancel_reason is not None:
                    values.drop(self)
            else:
                args = self.args
                assert args is not None
                raw = Raw(args if type(args) is bytes else bytes(args))
                if self.oneway:
                    assert isinstance(self.method, str)
                    frame = Notify(self.id, self.method, raw, options)
                else:
                    frame = Call(self.id, self.method, raw, options)
            batch.add(batch.codec.encode(frame))
            batch.freed += self.pending_bytes
            self.pending_bytes = 0
            self.args = None
        waits = self.credit_due or self.cancel_reason is not None
        if waits and not Receiver.take(self, batch, values):
            return False
        if self.value is None or self.state == END:
            return True
        if self.value.dropped:
            # The cancel that discards the value at the other end has gone.
            values.release(self)
            return True
        return values.take(self, batch)

    def _announcement(
        self, null: Raw, options: CallOptions | None, size: int
    ) -> SizedCall | SizedNotify:
        if self.oneway:
            assert isinstance(self.method, str)
            return SizedNotify(self.id, self.method, null, options, size)
        return SizedCall(self.id, self.method, null, options, size)


class InCall(Sender):
    """A call made by the peer.

    Attributes:
        method: `"Controller.method"`, or the id of a callback that this side offered.
        args: The arguments, still encoded; empty while they are incomplete.
        size: Bytes that the arguments will have, while they are incomplete.
        oneway: Whether it came as `notify`.
        timeout: Milliseconds that remained when the frame was taken, or None.
        options: The other options that travelled with it.
        uploads: The call's upload lanes, by parameter.
        callbacks: The call's callback targets, by parameter.
        offer: The callback that it invokes, if it does.
    """

    __slots__ = (
        "args",
        "callbacks",
        "cancel_reason",
        "method",
        "offer",
        "oneway",
        "options",
        "size",
        "timeout",
        "uploads",
    )
    role: ClassVar[str] = "the callee"

    def __init__(self, frame: SizedCall | SizedNotify, credit: int) -> None:
        # This sets the attributes of a lane and a sender too, as in `OutCall`.
        self.id = frame.id
        self.queued = False
        self.pending_bytes = 0
        self.value = None
        self.owner = None
        self.pool = None
        self.credit = SendCredit(credit)
        self.items = []
        self.debt = 0
        self.terminal = None
        self.method = method = frame.method
        self.args = frame.args
        self.size: int | None = frame.size
        self.oneway = type(frame) is SizedNotify
        self.state = "notified" if self.oneway else "invoked" if type(method) is int else "running"
        self.uploads = NO_READERS
        self.callbacks = NO_TARGETS
        self.cancel_reason: str | None = None
        self.offer: CallbackOffer | None = None
        self.options = options = frame.options or NO_OPTIONS
        timeout = options.timeout
        self.timeout = timeout if timeout is None or timeout <= LONGEST else LONGEST

    @property
    def was_cancelled(self) -> bool:
        """Whether the peer has cancelled it, and its terminal is still to be sent."""
        return self.state == "cancelled"

    @property
    def takes_answer(self) -> bool:
        """Whether a value may still be sent: it has no terminal, and was not cancelled."""
        return self.state != END and self.state != "cancelled"

    def detach_arguments(self) -> None:
        """Copy small arguments, which are read later, so that their message need not be kept."""
        if 0 < len(self.args) < COST_UNIT:
            self.args = Raw(bytes(self.args))

    def forget_arguments(self) -> None:
        """Drop arguments that were read: as a view they keep their whole message in memory."""
        self.args = ABSENT

    @property
    def metadata(self) -> dict[str, str] | None:
        return self.options.metadata

    @property
    def parent(self) -> int | None:
        return self.options.parent

    @property
    def key(self) -> str | None:
        return self.options.key

    @property
    def last_id(self) -> str | None:
        options = self.options
        return options.last_id if isinstance(options, CallOptions) else None


class Upload(Sender):
    """A stream parameter of a call made by this side; its id comes with the call's."""

    __slots__ = ()
    role: ClassVar[str] = "the sender of an upload"

    @property
    def wants_terminal(self) -> bool:
        """Whether the peer awaits its terminal: it was numbered, and its call goes on."""
        return self.state in ("uploading", "stopping")

    @property
    def was_stopped(self) -> bool:
        """Whether the receiver wants no more of it."""
        return self.state == "stopping"

    def __init__(self) -> None:
        super().__init__(0, "waiting", 0)

    def start(self, id: int, credit: int) -> None:
        """Begin with the call, which was numbered, and this upload with it."""
        self.id = id
        self.state = "uploading"
        self.credit = SendCredit(credit)


class UploadReader(Receiver):
    """A stream parameter of a call made by the peer."""

    __slots__ = ()
    role: ClassVar[str] = "the receiver of an upload"

    def __init__(self, id: int, granted: int, target: int) -> None:
        super().__init__(id, "reading", granted, target)


class CallbackOffer(Lane):
    """A callback that this side passed along with a call: the peer may call its id."""

    __slots__ = ("calls", "live")
    role: ClassVar[str] = "the owner of a callback"

    def __init__(self) -> None:
        super().__init__(0, "offered")
        # Places taken, and the calls of it that have no terminal yet.
        self.live = 0
        self.calls: dict[InCall, None] = {}

    def take(self, batch: Batch, values: Values) -> bool:
        return True


class CallbackTarget(Lane):
    """A callback that the peer passed along: calls to its id take no slot, but are bounded."""

    __slots__ = ("live", "slots")
    role: ClassVar[str] = "the invoker of a callback"

    def __init__(self, id: int) -> None:
        super().__init__(id, "offered")
        self.slots = Slots(MAX_CALLBACK_CALLS)
        self.live: dict[OutCall, None] = {}

    def take(self, batch: Batch, values: Values) -> bool:
        return True


# The streams and callbacks of calls that have none, which is most of them: shared, and never changed.
NO_UPLOADS: dict[str, Upload] = {}
NO_OFFERS: dict[str, CallbackOffer] = {}
NO_READERS: dict[str, UploadReader] = {}
NO_TARGETS: dict[str, CallbackTarget] = {}


def finish_reason(reason: str | None) -> str:
    """The error code for a cancel's reason; an unknown reason is a plain cancel."""
    return "deadline_exceeded" if reason == "deadline_exceeded" else "cancelled"
