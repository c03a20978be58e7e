"""The frames of protocol.md as code: one tagged, array-like struct each.

`Raw` fields hold values still encoded: the core never looks into the values of applications.
Elements that may be absent are `None` (or an empty `Raw` for an error's `data`), never told apart
from null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias, cast

from msgspec import Meta, Raw, Struct

from ..limits import FLOOR_MAX_BATCH, FLOOR_MAX_CALLS, FLOOR_MAX_VALUE, MAX_CREDIT, MAX_ID
from .splice import Encoded

__all__ = [
    "ABSENT",
    "NUMBERED",
    "Ack",
    "Auth",
    "Call",
    "CallOptions",
    "Cancel",
    "Chunk",
    "Credit",
    "End",
    "Error",
    "ErrorBody",
    "Extension",
    "Frame",
    "Goaway",
    "GoawayBody",
    "Heartbeat",
    "Hello",
    "HelloBody",
    "HelloLimits",
    "Message",
    "Notify",
    "NotifyOptions",
    "Ping",
    "Pong",
    "Result",
    "Sized",
    "SizedCall",
    "SizedEnd",
    "SizedError",
    "SizedMessage",
    "SizedNotify",
    "SizedResult",
    "Taken",
    "fill",
    "place_of",
    "seconds",
]

ABSENT = Raw(b"")

Id: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_ID)]
Count: TypeAlias = Annotated[int, Meta(ge=0)]
Size: TypeAlias = Annotated[int, Meta(ge=1)]

if TYPE_CHECKING:
    Credentials: TypeAlias = Any
else:
    # Credentials are decoded apart from the frame, so that invalid ones do not spoil the frame.
    Credentials = Raw


class Body(Struct, omit_defaults=True, gc=False):
    """An object inside a frame. It is in no cycle, so the garbage collector does not track it."""


class HelloLimits(Body):
    max_batch: Annotated[int, Meta(ge=FLOOR_MAX_BATCH)] | None = None
    max_value: Annotated[int, Meta(ge=FLOOR_MAX_VALUE)] | None = None
    max_calls: Annotated[int, Meta(ge=FLOOR_MAX_CALLS)] | None = None
    max_held: Count | None = None


class Heartbeat(Struct, array_like=True):
    interval: Annotated[int, Meta(ge=1000)]
    timeout: Annotated[int, Meta(ge=1000)]


class HelloBody(Body):
    version: int
    link: Annotated[int, Meta(ge=1)] | None = None
    token: str | None = None
    received: Count | None = None
    auth: Credentials = ABSENT
    window: Annotated[int, Meta(ge=0, le=MAX_CREDIT)] | None = None
    limits: HelloLimits | None = None
    features: list[str] | None = None
    agent: str | None = None
    session: str | None = None
    resumed: bool | None = None
    resume_window: Count | None = None
    heartbeat: Heartbeat | None = None


class NotifyOptions(Body):
    timeout: Count | None = None
    metadata: dict[str, str] | None = None
    parent: int | None = None
    key: str | None = None
    uploads: dict[str, Id] | None = None
    callbacks: dict[str, Id] | None = None


class CallOptions(NotifyOptions):
    credit: Count | None = None
    last_id: str | None = None


class ErrorBody(Body):
    code: str
    message: str
    data: Raw = ABSENT
    type: str | None = None
    error_id: str | None = None
    not_started: bool | None = None
    retry_after: Count | None = None


def seconds(duration: int) -> float:
    """The seconds of a duration in milliseconds; a longer one than 2^53 - 1 means the same as that."""
    return min(duration, MAX_ID) / 1000


class GoawayBody(Body):
    last_id: Count
    grace: Count
    reconnect_after: Count | None = None


class Base(Struct, array_like=True, gc=False):
    """A frame: an array that begins with the frame's name, which is the tag.

    Attributes:
        size: Bytes of the value that follows in chunks, or None where the frame is whole.
    """

    size: ClassVar[int | None] = None


# Link frames: they belong to one WebSocket and are not numbered.


class Hello(Base, tag="hello"):
    body: HelloBody


class Ack(Base, tag="ack"):
    received: Count


class Ping(Base, tag="ping"):
    value: Annotated[int, Meta(ge=0, le=MAX_ID)]


class Pong(Base, tag="pong"):
    value: Annotated[int, Meta(ge=0, le=MAX_ID)]


class Goaway(Base, tag="goaway"):
    body: GoawayBody


class Auth(Base, tag="auth"):
    value: Raw


class Extension(Struct, gc=False):
    """An `x-…` frame of any shape: it counts as ignored and does nothing."""

    size: ClassVar[int | None] = None


# Numbered frames.


class Call(Base, tag="call"):
    id: Id
    method: str | Id
    args: Raw
    options: CallOptions | None = None


class Notify(Base, tag="notify"):
    id: Id
    method: str
    args: Raw
    options: NotifyOptions | None = None


class Message(Base, tag="message"):
    id: Id
    items: Annotated[list[Raw], Meta(min_length=1)]


class Result(Base, tag="result"):
    id: Id
    value: Raw


class End(Base, tag="end"):
    id: Id
    final: Annotated[list[Raw], Meta(min_length=1, max_length=1)] | None = None


class Error(Base, tag="error"):
    id: Id
    body: ErrorBody


class Cancel(Base, tag="cancel"):
    id: Id
    reason: str | None = None


class Credit(Base, tag="credit"):
    id: Id
    n: int


class Chunk(Base, tag="chunk"):
    id: Id
    last: bool
    piece: Raw


# The frames that carry a value, as they are taken. They have a `size`, which is sent only with null
# in the place of the value, ahead of its chunks. Frames that go whole are of the classes above,
# since an absent element would be written as null.


class SizedCall(Call, tag="call"):
    size: Size | None = None  # type: ignore[misc]


class SizedNotify(Notify, tag="notify"):
    size: Size | None = None  # type: ignore[misc]


class SizedMessage(Message, tag="message"):
    size: Size | None = None  # type: ignore[misc]


class SizedResult(Result, tag="result"):
    size: Size | None = None  # type: ignore[misc]


class SizedEnd(End, tag="end"):
    size: Size | None = None  # type: ignore[misc]


class SizedError(Error, tag="error"):
    size: Size | None = None  # type: ignore[misc]


# The classes of numbered frames, as they are taken.
NUMBERED = (
    SizedCall,
    SizedNotify,
    SizedMessage,
    SizedResult,
    SizedEnd,
    SizedError,
    Cancel,
    Credit,
    Chunk,
)

LinkFrame: TypeAlias = Hello | Ack | Ping | Pong | Goaway | Auth
Opening: TypeAlias = SizedCall | SizedNotify
Sized: TypeAlias = SizedCall | SizedNotify | SizedMessage | SizedResult | SizedEnd | SizedError
Taken: TypeAlias = LinkFrame | Sized | Cancel | Credit | Chunk
Frame: TypeAlias = (
    LinkFrame | Call | Notify | Message | Result | End | Error | Cancel | Credit | Chunk
)


def place_of(frame: Sized) -> Raw | None:
    """The element in the place of the value; None where there is none."""
    if isinstance(frame, (SizedCall, SizedNotify)):
        return frame.args
    if isinstance(frame, SizedMessage):
        return frame.items[0] if len(frame.items) == 1 else None
    if isinstance(frame, SizedResult):
        return frame.value
    if isinstance(frame, SizedEnd):
        return frame.final[0] if frame.final else None
    return frame.body.data


def fill(frame: Sized, data: Encoded) -> None:
    """Put the value into its place in the frame."""
    # The value stays bytes, and is no Raw: to decode a Raw means to copy it.
    value = cast(Raw, data)
    if isinstance(frame, (SizedCall, SizedNotify)):
        frame.args = value
    elif isinstance(frame, SizedMessage):
        frame.items = [value]
    elif isinstance(frame, SizedResult):
        frame.value = value
    elif isinstance(frame, SizedEnd):
        frame.final = [value]
    else:
        frame.body.data = value
