"""Endpoints without sockets: two joined by lists of bytes, or one facing bare frames.

`Pair` joins two endpoints. `Bare` puts hand-written frames in the place of the peer, for rules about
what a peer may send and about the exact frames that go out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec
import pytest
from msgspec import Raw

from wsrpc.errors import ProtocolError
from wsrpc.limits import Limits
from wsrpc.protocol.codec import Codec
from wsrpc.protocol.endpoint import Endpoint
from wsrpc.protocol.events import CallReceived, CallRefused, Event, HelloReceived, ItemsReceived
from wsrpc.protocol.hello import Opening, read_opening
from wsrpc.protocol.lanes import InCall

Side: TypeAlias = Literal["connecting", "accepting"]
Frame: TypeAlias = list[Any]
T = TypeVar("T", bound=Event)

LINK_FRAMES = frozenset(["hello", "ack", "ping", "pong", "goaway", "auth"])


def encode(codec: Codec, value: Any) -> bytes:
    """Any plain value as bytes, past the frame classes."""
    return msgspec.json.encode(value) if codec.text else msgspec.msgpack.encode(value)


def decode(codec: Codec, data: bytes | Raw) -> Any:
    """The plain value of any bytes, past the frame classes."""
    return msgspec.json.decode(data) if codec.text else msgspec.msgpack.decode(data)


def plain(frame: Frame) -> Frame:
    """A frame without the trailing nulls that stand for absent elements."""
    while frame[-1] is None and frame[0] in ("call", "notify", "end"):
        frame = frame[:-1]
    return frame


def only(events: Iterable[Event], kind: type[T]) -> T:
    """The one event, which must be of this kind."""
    (event,) = events
    assert isinstance(event, kind), event
    return event


def values(codec: Codec, events: Iterable[Event]) -> list[Any]:
    """All items that came, decoded."""
    return [
        decode(codec, item)
        for event in events
        if isinstance(event, ItemsReceived)
        for item in event.items
    ]


def rejected(act: Callable[[], object]) -> int:
    """The close code with which `act` fails."""
    with pytest.raises(ProtocolError) as caught:
        act()
    assert len(caught.value.reason.encode()) <= 123, "too long for a close frame"
    return caught.value.close_code


class Bare:
    """One endpoint, with bare frames in the place of its peer.

    Args:
        codec: The subprotocol.
        side: Which side the endpoint is; the bare frames are the other's.
        limits: The endpoint's.
        hello: Fields of the bare side's hello, `version` aside.
        greet: Whether to exchange hellos at once.
        resume_window: Seconds; what the accepting side offers.

    Attributes:
        refused: What the endpoint said of calls that it answered by itself.
    """

    def __init__(
        self,
        codec: Codec,
        side: Side,
        *,
        limits: Limits | None = None,
        hello: dict[str, Any] | None = None,
        greet: bool = True,
        resume_window: float = 0.0,
    ) -> None:
        self.codec = codec
        self.endpoint = Endpoint(side, codec, limits or Limits())
        self.now = 1000.0
        self.opening: Opening | None = None
        self.refused: list[CallRefused] = []
        self.resume_window = resume_window
        self.hello: Frame = ["hello", {"version": 1, "window": 32, **(hello or {})}]
        if side == "connecting":
            self.endpoint.connect()
            if resume_window:
                self.hello[1].update(token="t1", resume_window=round(resume_window * 1000))
        if greet:
            self.greet()

    def greet(self) -> None:
        self.say(self.hello)
        if self.endpoint.side == "accepting":
            self.accept()
        self.hear()

    def accept(self) -> list[Event]:
        """Let an accepting endpoint answer the hello that it has; returns the later events."""
        assert self.opening is not None
        token = "t1" if self.resume_window else None
        hello, *events = self.endpoint.accept(
            self.opening, "s1", token=token, resume_window=self.resume_window, now=self.now
        )
        assert isinstance(hello, HelloReceived)
        return self.noted(events)

    def lose(self) -> None:
        """The link is gone."""
        self.endpoint.detach(self.now)

    def come_back(
        self, received: int, *more: Frame, link: int = 2, token: str = "t1", new: str = "t2"
    ) -> list[Event]:
        """Resume on a new link, where the bare side has taken `received` frames.

        Args:
            received: What the bare side's hello says.
            more: Further frames in the message with the hello.
            link: The number of the link, where the bare side counts them.
            token: The one presented, where the bare side does.
            new: The one issued.
        """
        if self.endpoint.side == "accepting":
            body = {**self.hello[1], "link": link, "token": token, "received": received}
            opening = read_opening(self.codec, encode(self.codec, [["hello", body], *more]))
            return self.endpoint.resume(opening, token=new, now=self.now)
        body = {**self.hello[1], "resumed": True, "token": new, "received": received}
        if self.endpoint.state != "greeting":
            self.endpoint.connect(now=self.now)
        return self.say(["hello", body], *more)

    def receive(self, data: bytes) -> list[Event]:
        """Hand the endpoint one message; an accepting one's first is only read."""
        if self.endpoint.side == "connecting" or self.endpoint.state != "new":
            return self.noted(self.endpoint.receive(data, self.now))
        self.opening = read_opening(self.codec, data)
        return [HelloReceived(self.opening.hello)]

    def noted(self, events: list[Event]) -> list[Event]:
        """The events that ask for something; those that only count refusals are kept apart."""
        self.refused += [event for event in events if isinstance(event, CallRefused)]
        return [event for event in events if not isinstance(event, CallRefused)]

    def say(self, *frames: Frame) -> list[Event]:
        """Hand the endpoint one batch of the bare side's."""
        return self.receive(encode(self.codec, list(frames)))

    def rejects(self, *frames: Frame) -> int:
        """The close code that one batch of the bare side's meets with."""
        return rejected(lambda: self.say(*frames))

    def call(self, *frame: Any) -> InCall:
        """Open a call or notify with a bare frame; returns the endpoint's end of it."""
        return only(self.say(list(frame)), CallReceived).call

    def batches(self) -> list[list[Frame]]:
        """Everything that the endpoint has to say, batch by batch."""
        heard: list[list[Frame]] = []
        while (data := self.endpoint.next_batch(self.now)) is not None:
            heard.append([plain(frame) for frame in decode(self.codec, data)])
        return heard

    def hear(self) -> list[Frame]:
        """Everything that the endpoint has to say."""
        return [frame for batch in self.batches() for frame in batch]

    def dump(self, value: Any) -> bytes:
        return encode(self.codec, value)


class Pair:
    """Two endpoints, C and S, and what is on its way between them."""

    def __init__(self, codec: Codec, client: Limits | None = None, server: Limits | None = None):
        self.codec = codec
        self.client = Endpoint("connecting", codec, client or Limits())
        self.server = Endpoint("accepting", codec, server or Limits())
        self.now = 1000.0
        self.client.connect()

    def open(self) -> Pair:
        """Exchange the hellos."""
        self.run()
        return self

    def run(self) -> list[Event]:
        """Carry batches to and fro until there are none; returns what both ends report."""
        events: list[Event] = []
        quiet = False
        while not quiet:
            quiet = True
            for end, other in ((self.client, self.server), (self.server, self.client)):
                while (data := end.next_batch(self.now)) is not None:
                    quiet = False
                    events += deliver(other, data)
        return events


def deliver(endpoint: Endpoint, data: bytes) -> list[Event]:
    """Hand over one batch, and let the accepting side accept at once."""
    if endpoint.side == "accepting" and endpoint.state == "new":
        return endpoint.accept(read_opening(endpoint.codec, data), "s1")
    return endpoint.receive(data)
