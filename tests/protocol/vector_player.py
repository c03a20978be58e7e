"""An endpoint that plays one side of a vector: it is asked for the frames that the side is to say."""

from __future__ import annotations

from collections import deque
from typing import Any

from msgspec import Raw

from wsrpc.interop.vector_files import expand, fits
from wsrpc.limits import Limits
from wsrpc.protocol.codec import Codec
from wsrpc.protocol.events import CallReceived, Event, ItemsReceived
from wsrpc.protocol.frames import CallOptions, ErrorBody
from wsrpc.protocol.lanes import InCall, Lane, Sender

from .harness import Bare, Frame

# What an endpoint says by itself, and conversations do not show.
BY_ITSELF = ("ack", "credit", "cancel")


class Player:
    """One side of a vector, played by an endpoint; the other is told what to say.

    Args:
        side: "C" or "S".
        codec: The subprotocol.
        limits: The endpoint's.
        greet: Whether both hellos are through at the beginning.
    """

    def __init__(
        self, side: str, codec: Codec, limits: dict[str, int] | None = None, *, greet: bool = True
    ) -> None:
        self.side = side
        role: Any = "connecting" if side == "C" else "accepting"
        # The other side announces what the bare peer does.
        hello = {"limits": {"max_batch": 2 * 1024 * 1024, "max_calls": 256}}
        self.bare = Bare(codec, role, limits=Limits(**(limits or {})), hello=hello, greet=greet)
        self.codec = codec
        self.lanes: dict[int, Lane] = {}
        self.heard: deque[Frame] = deque()

    def line(self, side: str, frames: list[Frame], *, any_order: bool = False) -> None:
        """Say a line, or let the other side say it."""
        frames = expand(frames, text=self.codec.text)
        if side != self.side:
            self.take(self.bare.say(*frames))
            return
        for frame in frames:
            self.ask_for(frame)
        self.collect()
        for frame in frames:
            self.expect(frame, any_order=any_order)

    def take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, CallReceived):
                self.lanes[event.call.id] = event.call
                channels = {**event.call.uploads, **event.call.callbacks}
                self.lanes.update({lane.id: lane for lane in channels.values()})
            elif isinstance(event, ItemsReceived):
                # The application takes what comes, and waits for more.
                window = event.lane.window
                self.bare.endpoint.consumed(event.lane, window.queued, waiting=True)
        self.collect()

    def collect(self) -> None:
        self.heard.extend(self.bare.hear())

    def expect(self, shown: Frame, *, any_order: bool) -> None:
        for frame in self.heard:
            if fits(shown, frame):
                self.heard.remove(frame)
                return
            assert frame[0] in BY_ITSELF or any_order, f"{frame}, where {shown} belongs"
        raise AssertionError(f"{shown} was not said, but {list(self.heard)}")

    # ------------------------------------------------------------ one frame asked for

    def ask_for(self, frame: Frame) -> None:
        """Make the request that ought to make this frame."""
        getattr(self, f"say_{frame[0]}")(*frame[1:])

    def sender(self, id: int) -> Sender:
        lane = self.lanes[id]
        assert isinstance(lane, Sender)
        return lane

    def dump(self, value: Any) -> bytes:
        return self.bare.dump(value)

    def say_call(
        self, id: int, method: str | int, args: Any, options: Any = None, *, oneway: bool = False
    ) -> None:
        given = dict(options or {})
        uploads, callbacks = given.pop("uploads", {}), given.pop("callbacks", {})
        timeout, credit = given.pop("timeout", None), given.pop("credit", None)
        parent = self.lanes.get(given.pop("parent", 0))
        target: Any = self.lanes[method] if isinstance(method, int) else None
        call = self.bare.endpoint.call(
            method,
            self.dump(args),
            oneway=oneway,
            deadline=None if timeout is None else self.bare.now + timeout / 1000,
            options=CallOptions(**given) if given else None,
            uploads=tuple(uploads),
            callbacks=tuple(callbacks),
            parent=parent if isinstance(parent, InCall) else None,
            target=target,
            window=credit,
        )
        self.lanes[id] = call
        self.lanes.update({channel: call.uploads[name] for name, channel in uploads.items()})
        self.lanes.update({channel: call.callbacks[name] for name, channel in callbacks.items()})

    def say_notify(self, id: int, method: str, args: Any, options: Any = None) -> None:
        self.say_call(id, method, args, options, oneway=True)

    def say_message(self, id: int, items: list[Any]) -> None:
        # What has been asked for before goes first, so that the lane has its id.
        self.collect()
        for item in items:
            self.bare.endpoint.push(self.sender(id), self.dump(item))

    def say_result(self, id: int, value: Any) -> None:
        call = self.lanes[id]
        assert isinstance(call, InCall)
        self.bare.endpoint.result(call, self.dump(value))

    def say_end(self, id: int, final: Any = None) -> None:
        self.collect()
        final = None if final is None else self.dump(final[0])
        self.bare.endpoint.finish(self.sender(id), final)

    def say_error(self, id: int, body: dict[str, Any]) -> None:
        self.collect()
        if id not in self.lanes:
            return  # refused by the endpoint itself, as TIME-2 says
        fields = dict(body)
        fields["data"] = Raw(self.dump(fields.pop("data"))) if "data" in fields else Raw(b"")
        if fields.pop("not_started", False):
            self.bare.endpoint.refuse(self.sender(id), fields["code"], fields["message"])  # type: ignore[arg-type]
        else:
            self.bare.endpoint.fail(self.sender(id), ErrorBody(**fields))

    def say_cancel(self, id: int, reason: str = "cancelled") -> None:
        # Cancelled before it is numbered, a call would just vanish (CANCEL-1).
        self.collect()
        self.bare.endpoint.cancel(self.lanes[id], reason)  # type: ignore[arg-type]

    def say_credit(self, id: int, n: int) -> None:
        """An endpoint gives credit as its window asks for it; the items were taken already."""
        self.heard.append(["credit", id, n])

    def say_pong(self, n: int) -> None:
        """By itself."""
