"""What protocol.md says about a whole conversation, checked frame by frame from the outside.

The referee sees the bytes that each side writes and takes, and nothing of the endpoints. It is a
second reading of the text: it shares no code with what it judges.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from wsrpc.limits import Limits
from wsrpc.protocol.codec import Codec

from .harness import LINK_FRAMES, Frame, decode, encode

Kind = Literal["call", "notify", "invocation", "upload", "callback"]
TERMINALS = frozenset(["result", "end", "error"])

# The frames whose value may follow in chunks, and how many elements they have then.
SIZED = {"call": 6, "notify": 6, "message": 4, "result": 4, "end": 4, "error": 4}


@dataclass
class Value:
    """A value that travels in chunks, as one side has written or taken it so far."""

    name: str  # of the frame that it completes
    size: int
    pieces: list[bytes] = field(default_factory=list)


@dataclass
class Id:
    """What one id is, and what has happened on it. Sides are 0 for C and 1 for S."""

    kind: Kind
    opener: int
    call: Id | None = None  # the call that an upload or a callback belongs to, or that an
    # invocation calls back into
    channels: list[Id] = field(default_factory=list)
    invocations: list[Id] = field(default_factory=list)
    balance: int = 0  # of the sender of the stream, as that side knows it
    items: int = 0
    terminal: str | None = None
    decided: bool = False  # the terminal is in the outbox, and stands (CANCEL-4)
    cancel_sent: bool = False
    cancel_taken: bool = False
    complete: bool = True  # whether the arguments have been written in full
    over_for: set[int] = field(default_factory=set)  # sides that sent or took the terminal


class Referee:
    """Watches both directions of one session.

    Args:
        codec: The subprotocol.
        limits: Those that C and S announce.
    """

    def __init__(self, codec: Codec, limits: tuple[Limits, Limits]) -> None:
        self.codec = codec
        self.limits = limits
        self.ids: dict[int, Id] = {}
        self.highest = [0, 0]
        self.greeted = [False, False]  # whether a side has written its hello on this link
        self.heard = [False, False]  # whether a side has taken the other's hello on this link
        self.knows = [False, False]  # whether a side has taken the other's first hello
        self.acked = False
        self.resumable = False
        self.links = 1
        # By side: the bytes of its numbered frames, how many of them the peer has or is sent now,
        # how many it knows the peer to have; how many of the peer's it has taken, and has told.
        self.frames: list[list[bytes]] = [[], []]
        self.carried = [0, 0]
        self.confirmed = [0, 0]
        self.count = [0, 0]
        self.told = [0, 0]
        # By side and id: what is begun and not complete, as its sender and its receiver know it.
        self.writing: list[dict[int, Value]] = [{}, {}]
        self.taking: list[dict[int, Value]] = [{}, {}]

    # ---------------------------------------------------------------- writing

    def written(self, side: int, data: bytes) -> None:
        """`side` writes a batch."""
        peer = self.limits[1 - side]
        largest = peer.max_batch if self.knows[side] else 65_536
        assert len(data) <= largest, "BATCH-6"
        frames: list[Frame] = decode(self.codec, data)
        assert frames, "BATCH-1"
        for frame, raw in zip(frames, self.codec.split(data), strict=True):
            name = frame[0]
            if name == "hello":
                self.greet(side, frame[1])
            assert self.greeted[side], "HELLO-1"
            if side == 0 and self.heard[0] and not self.acked:
                assert name == "ack", "ACK-1"
                self.acked = True
            if name == "ack":
                assert self.told[side] <= frame[1] <= self.count[side], "ACK-2, ACK-3"
                self.told[side] = frame[1]
            if name not in LINK_FRAMES and self.is_new(side, bytes(raw)):
                if frame[1] in self.writing[side]:
                    assert name in ("chunk", "credit", "cancel", "error"), "CHUNK-4"
                getattr(self, f"write_{name}")(side, *frame[1:])
                if name in SIZED and len(frame) == SIZED[name] and frame[-1] is not None:
                    self.begin(side, frame)
                elif peer.max_held and self.knows[side]:
                    assert len(encode(self.codec, frame)) <= 65_536 or name == "chunk", "CHUNK-1"

    def greet(self, side: int, hello: dict[str, Any]) -> None:
        assert not self.greeted[side], "HELLO-2"
        self.greeted[side] = True
        # The frames after the very first hello are taken when that is accepted.
        assert hello["received"] == (self.count[side] if self.links > 1 else 0), "RESUME-1"
        self.told[side] = hello["received"]
        if side == 0:
            assert hello["link"] == self.links, "RESUME-1"
        else:
            assert hello["resumed"] is (self.links > 1), "RESUME-1"
            self.resumable = hello["resume_window"] > 0

    def is_new(self, side: int, raw: bytes) -> bool:
        """Whether a numbered frame is none that was sent on an older link and goes again."""
        if self.links > 1:
            assert self.heard[side], "RESUME-4: both hellos first"
        frames = self.frames[side]
        again = self.carried[side] < len(frames)
        if again:
            assert raw == frames[self.carried[side]], "RESUME-4: in order, byte for byte"
        else:
            frames.append(raw)
            kept = frames[self.confirmed[side] :]
            if self.resumable and len(kept) > 1:
                assert sum(map(len, kept)) <= self.limits[side].replay, "RESUME-6"
        self.carried[side] += 1
        return not again

    def lost(self) -> None:
        """The link is gone, with all that was on its way."""
        self.links += 1
        self.greeted = [False, False]
        self.heard = [False, False]
        self.acked = False

    def begin(self, side: int, frame: Frame) -> None:
        """The frame is that of a value to come in chunks."""
        name, id, size = frame[0], frame[1], frame[-1]
        peer = self.limits[1 - side]
        assert self.knows[side], "HELLO-4"
        assert size <= peer.max_value, "CHUNK-7"
        place = frame[3] if name in ("call", "notify") else frame[2]
        if name == "error":
            place = place["data"]
        assert place in (None, [None]), "CHUNK-1"
        self.writing[side][id] = Value(name, size)
        assert sum(value.size for value in self.writing[side].values()) <= peer.max_held, "CHUNK-6"
        if name in ("call", "notify"):
            self.ids[id].complete = False

    def write_chunk(self, side: int, id: int, last: bool, piece: str | bytes) -> None:
        value = self.writing[side][id]
        data = piece.encode() if isinstance(piece, str) else piece
        assert isinstance(piece, str) is self.codec.text, "CHUNK-2"
        assert len(data) <= 65_536, "CHUNK-2"
        assert last or len(data) >= 16_384, "CHUNK-2"
        value.pieces.append(data)
        whole = b"".join(value.pieces)
        assert last is (len(whole) == value.size), "CHUNK-2"
        if last:
            decode(self.codec, whole)
            del self.writing[side][id]
            entry = self.ids[id]
            if value.name in TERMINALS:
                self.finish(side, entry, value.name)
            entry.complete = True

    def write_call(
        self,
        side: int,
        id: int,
        method: str | int,
        args: Any,
        options: Any = None,
        size: int | None = None,
    ) -> None:
        options = options or {}
        entry = Id("call", side)
        if isinstance(method, int):
            callback = self.ids[method]
            entry.kind = "invocation"
            assert callback.kind == "callback", "CB-4"
            assert callback.opener != side, "CB-4"
            entry.call = callback.call
            callback.invocations.append(entry)
            live = [one for one in callback.invocations if side not in one.over_for]
            assert len(live) <= 8, "CB-2"
            assert not options.get("uploads"), "CB-1"
            assert not options.get("callbacks"), "CB-1"
        self.open(side, id, entry)
        entry.balance = options.get("credit", self.limits[side].window)
        channels = [("upload", one) for one in options.get("uploads", {}).values()]
        channels += [("callback", one) for one in options.get("callbacks", {}).values()]
        assert len(channels) <= 15, "ID-3"
        for kind, channel in sorted(channels, key=lambda pair: pair[1]):
            child = Id("upload" if kind == "upload" else "callback", side, call=entry)
            entry.channels.append(child)
            self.open(side, channel, child)
            if kind == "upload" and self.knows[side]:
                child.balance = self.limits[1 - side].window
        self.check_parent(side, options)
        self.check_slots(side)

    def write_notify(
        self,
        side: int,
        id: int,
        method: str,
        args: Any,
        options: Any = None,
        size: int | None = None,
    ) -> None:
        options = options or {}
        assert "uploads" not in options, "NOTIFY-2"
        assert "callbacks" not in options, "NOTIFY-2"
        self.open(side, id, Id("notify", side))
        self.check_parent(side, options)
        self.check_slots(side)

    def open(self, side: int, id: int, entry: Id) -> None:
        assert id % 2 == 1 - side, "ID-1"
        assert id > self.highest[side], "ID-2, ID-4"
        self.highest[side] = id
        self.ids[id] = entry

    def check_parent(self, side: int, options: dict[str, Any]) -> None:
        if "parent" in options:
            parent = self.ids[options["parent"]]
            assert parent.opener != side, "SLOT-3"

    def check_slots(self, side: int) -> None:
        live = [
            one
            for one in self.ids.values()
            if one.opener == side and one.kind in ("call", "notify") and side not in one.over_for
        ]
        assert len(live) <= (self.limits[1 - side].max_calls if self.knows[side] else 8), "SLOT-1"

    def write_message(self, side: int, id: int, items: list[Any], size: int | None = None) -> None:
        entry = self.ids[id]
        self.check_sender(side, entry)
        assert items, "BATCH-3"
        assert not entry.cancel_taken, "CANCEL-5, UP-4"
        if entry.kind == "upload":
            assert entry.call is not None
            assert not entry.call.cancel_sent, "UP-3"
        for item in items:
            assert entry.balance >= 1, "CREDIT-2"
            entry.balance -= 1 + (size or len(encode(self.codec, item))) // 65_536
        entry.items += len(items)

    def check_sender(self, side: int, entry: Id) -> None:
        if entry.kind == "upload":
            assert side == entry.opener, "ID-5"
        else:
            assert entry.kind == "call", "ID-5, CB-1, NOTIFY-1"
            assert side != entry.opener, "ID-5"
        assert side not in entry.over_for, "CALL-5"

    def write_result(self, side: int, id: int, value: Any, size: int | None = None) -> None:
        entry = self.ids[id]
        assert entry.kind in ("call", "invocation"), "NOTIFY-1, ID-5"
        assert entry.items == 0, "RESULT-1"
        self.finish(side, entry, "result", size)

    def write_end(self, side: int, id: int, final: Any = None, size: int | None = None) -> None:
        entry = self.ids[id]
        assert entry.kind in ("call", "notify", "upload"), "CB-1, ID-5"
        self.finish(side, entry, "end", size)

    def write_error(
        self, side: int, id: int, body: dict[str, Any], size: int | None = None
    ) -> None:
        entry = self.ids[id]
        assert entry.kind != "callback", "ID-5"
        self.writing[side].pop(id, None)
        self.finish(side, entry, "error", size)

    def finish(self, side: int, entry: Id, name: str, size: int | None = None) -> None:
        sender = entry.opener if entry.kind == "upload" else 1 - entry.opener
        assert side == sender, "ID-5"
        assert entry.terminal is None, "CALL-5: one terminal"
        # An answer of a callback that was ready when the call ended may still go (CB-3).
        ready = entry.kind == "invocation" and entry.decided
        assert side not in entry.over_for or ready, "UP-3"
        if entry.cancel_taken:
            assert name == "error", "CANCEL-3, UP-4"
        assert entry.complete or name == "error", "a value of arguments that are not there"
        if size is None:
            entry.terminal = name
        if size is None:
            self.over(side, entry)

    def over(self, side: int, entry: Id) -> None:
        """From now on `side` knows that the id is finished, with all that hangs on it."""
        entry.over_for.add(side)
        for channel in entry.channels:
            channel.over_for.add(side)
            for one in channel.invocations:
                one.over_for.add(side)

    def write_cancel(self, side: int, id: int, reason: str | None = None) -> None:
        entry = self.ids[id]
        if entry.call is None or not entry.call.decided or entry.kind != "invocation":
            self.check_receiver(side, entry)
        # Otherwise the call to which the callback belongs has ended first, as CB-3 allows.
        assert not entry.cancel_sent, "one cancel an id is enough"
        assert reason in (None, "cancelled", "deadline_exceeded")
        entry.cancel_sent = True
        # What is incomplete of the arguments is not sent any more.
        self.writing[side].pop(id, None)

    def write_credit(self, side: int, id: int, n: int) -> None:
        entry = self.ids[id]
        self.check_receiver(side, entry)
        assert n >= 1, "CREDIT-6"
        assert not entry.cancel_sent, "of no effect"

    def check_receiver(self, side: int, entry: Id) -> None:
        assert entry.kind != "callback", "ID-5"
        receiver = 1 - entry.opener if entry.kind == "upload" else entry.opener
        assert side == receiver, "ID-5"
        assert side not in entry.over_for, "a frame that crossed nothing"

    # ---------------------------------------------------------------- taking

    def taken(self, side: int, data: bytes) -> None:
        """`side` takes a batch that the other has written."""
        for frame in decode(self.codec, data):
            name = frame[0]
            if name not in LINK_FRAMES:
                self.count[side] += 1
            if name == "hello":
                self.hear(side, frame[1]["received"])
            elif name == "ack":
                self.confirmed[side] = frame[1]
            elif name in SIZED and len(frame) == SIZED[name] and frame[-1] is not None:
                self.taking[side][frame[1]] = Value(name, frame[-1])
            elif name == "chunk" and frame[2]:
                value = self.taking[side].pop(frame[1], None)
                if value is not None and value.name in TERMINALS:
                    self.ended(side, frame[1])
            elif name in TERMINALS:
                self.taking[side].pop(frame[1], None)
                self.ended(side, frame[1])
            elif name == "cancel":
                self.ids[frame[1]].cancel_taken = not self.ids[frame[1]].decided
            elif name == "credit":
                self.ids[frame[1]].balance += frame[2]
                assert self.ids[frame[1]].balance <= 2**31 - 1, "CREDIT-6"

    def hear(self, side: int, received: int) -> None:
        self.heard[side] = True
        if self.links > 1:
            self.carried[side] = received
        self.confirmed[side] = max(self.confirmed[side], received)
        if not self.knows[side]:
            self.knows[side] = True
            for entry in self.ids.values():
                if entry.kind == "upload" and entry.opener == side:
                    entry.balance += self.limits[1 - side].window

    def ended(self, side: int, id: int) -> None:
        """`side` has taken the terminal of an id: it sends nothing more on it."""
        entry = self.ids[id]
        self.over(side, entry)
        for other, child in self.ids.items():
            if any(child is one for one in (entry, *entry.channels)):
                self.writing[side].pop(other, None)

    # ---------------------------------------------------------------- at the end

    def conclude(self) -> None:
        """Everything was finished, written and taken."""
        assert self.writing == [{}, {}], "CHUNK-3"
        for side in (0, 1):
            assert self.count[side] == len(self.frames[1 - side]), "NUM-3: each once"
            if self.resumable:
                assert self.confirmed[1 - side] == self.count[side], "RESUME-7"
        for id, entry in self.ids.items():
            assert entry.over_for == {0, 1}, f"{id} is not over: {entry}"
            if entry.kind in ("call", "notify"):
                assert entry.terminal is not None, f"{id} has no terminal"
