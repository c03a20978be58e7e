"""The frames of protocol.md as code: one tagged, array-like struct each.

`Raw` fields hold values still encoded: the core never looks into what applications say. Elements
that may be absent are `None` (or an empty `Raw` for an error's `data`), never told apart from null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from msgspec import Meta, Raw, Struct

from ..limits import FLOOR_MAX_BATCH, FLOOR_MAX_CALLS, FLOOR_MAX_VALUE, MAX_CREDIT, MAX_ID

__all__ = [
    "ABSENT",
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
    "Hello",
    "HelloBody",
    "HelloLimits",
    "Message",
    "Notify",
    "NotifyOptions",
    "Ping",
    "Pong",
    "Result",
]

ABSENT = Raw(b"")

Id: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_ID)]
Count: TypeAlias = Annotated[int, Meta(ge=0)]

if TYPE_CHECKING:
    Credentials: TypeAlias = Any
else:
    # Decoded apart from the frame, so that credentials which are no value spoil themselves alone.
    Credentials = Raw


class HelloLimits(Struct, omit_defaults=True):
    max_batch: Annotated[int, Meta(ge=FLOOR_MAX_BATCH)] | None = None
    max_value: Annotated[int, Meta(ge=FLOOR_MAX_VALUE)] | None = None
    max_calls: Annotated[int, Meta(ge=FLOOR_MAX_CALLS)] | None = None
    max_held: Count | None = None


class Heartbeat(Struct, array_like=True):
    interval: Annotated[int, Meta(ge=1000)]
    timeout: Annotated[int, Meta(ge=1000)]


class HelloBody(Struct, omit_defaults=True):
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


class NotifyOptions(Struct, omit_defaults=True):
    timeout: Count | None = None
    metadata: dict[str, str] | None = None
    parent: int | None = None
    key: str | None = None
    uploads: dict[str, Id] | None = None
    callbacks: dict[str, Id] | None = None


class CallOptions(NotifyOptions, omit_defaults=True):
    credit: Count | None = None
    last_id: str | None = None


class ErrorBody(Struct, omit_defaults=True):
    code: str
    message: str
    data: Raw = ABSENT
    type: str | None = None
    error_id: str | None = None
    not_started: bool | None = None
    retry_after: Count | None = None


class GoawayBody(Struct, omit_defaults=True):
    last_id: Count
    grace: Count
    reconnect_after: Count | None = None


# Link frames: they belong to one WebSocket and are not numbered.


class Hello(Struct, array_like=True, tag="hello"):
    body: HelloBody


class Ack(Struct, array_like=True, tag="ack"):
    received: Count


class Ping(Struct, array_like=True, tag="ping"):
    value: Annotated[int, Meta(ge=0, le=MAX_ID)]


class Pong(Struct, array_like=True, tag="pong"):
    value: Annotated[int, Meta(ge=0, le=MAX_ID)]


class Goaway(Struct, array_like=True, tag="goaway"):
    body: GoawayBody


class Auth(Struct, array_like=True, tag="auth"):
    value: Raw


class Extension(Struct):
    """An `x-…` frame of any shape: it counts as ignored and does nothing."""


# Numbered frames.


class Call(Struct, array_like=True, tag="call"):
    id: Id
    method: str | Id
    args: Raw
    options: CallOptions | None = None


class Notify(Struct, array_like=True, tag="notify"):
    id: Id
    method: str
    args: Raw
    options: NotifyOptions | None = None


class Message(Struct, array_like=True, tag="message"):
    id: Id
    items: Annotated[list[Raw], Meta(min_length=1)]


class Result(Struct, array_like=True, tag="result"):
    id: Id
    value: Raw


class End(Struct, array_like=True, tag="end"):
    id: Id
    final: Annotated[list[Raw], Meta(min_length=1, max_length=1)] | None = None


class Error(Struct, array_like=True, tag="error"):
    id: Id
    body: ErrorBody


class Cancel(Struct, array_like=True, tag="cancel"):
    id: Id
    reason: str | None = None


class Credit(Struct, array_like=True, tag="credit"):
    id: Id
    n: int


class Chunk(Struct, array_like=True, tag="chunk"):
    id: Id
    last: bool
    piece: Raw


LinkFrame: TypeAlias = Hello | Ack | Ping | Pong | Goaway | Auth
NumberedFrame: TypeAlias = (
    Call | Notify | Message | Result | End | Error | Cancel | Credit | Chunk
)
Frame: TypeAlias = LinkFrame | NumberedFrame
