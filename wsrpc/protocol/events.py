"""The events that `Endpoint.receive` gives to the hub, in the order in which they happened."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Raw, Struct

from .frames import End, Error, HelloBody, Result
from .lanes import InCall, OutCall, Receiver, Sender, UploadReader

__all__ = [
    "ArgumentsReceived",
    "AuthReceived",
    "CallReceived",
    "CallRefused",
    "CancelReceived",
    "CreditReceived",
    "Event",
    "GoawayReceived",
    "HelloReceived",
    "ItemsReceived",
    "SessionExpired",
    "StreamFinished",
    "TokenConfirmed",
]


class HelloReceived(Struct):
    """The peer's hello; on the connecting side `body.resumed` tells whether the session goes on."""

    body: HelloBody


class CallReceived(Struct):
    """A call or notify to run, or to refuse if its state is "cancelled" by now (CANCEL-2).

    Attributes:
        call: The call.
        complete: Whether its arguments are here. Otherwise `ArgumentsReceived` follows, and until
            then it may be refused.
    """

    call: InCall
    complete: bool = True


class CallRefused(Struct):
    """A call or notify that the endpoint itself has refused: no room, too late, no such callback.

    Attributes:
        call: The call.
        code: The code of the error.
    """

    call: InCall
    code: str


class ArgumentsReceived(Struct):
    """The arguments of a call whose `CallReceived` came before them."""

    call: InCall


class ItemsReceived(Struct):
    """Items of a stream, still encoded; the hub reports consumption by `Endpoint.consumed`."""

    lane: Receiver
    items: list[Raw]


class StreamFinished(Struct):
    """The terminal frame of a call or of an upload."""

    lane: OutCall | UploadReader
    frame: Result | End | Error


class CancelReceived(Struct):
    """The peer wants this call or upload to stop; reason "cancelled" or "deadline_exceeded"."""

    lane: Sender
    reason: str


class CreditReceived(Struct):
    """The peer granted credit: a stream of this side may go on."""

    lane: Sender


class GoawayReceived(Struct):
    """The peer drains: it takes no new calls (GOAWAY-2). May come again, on each new link.

    Attributes:
        grace: Seconds that its calls in flight may still take.
        reconnect_after: Seconds to stay away before coming back to it.
    """

    grace: float
    reconnect_after: float


class AuthReceived(Struct):
    """Accepting side: the peer sent fresh credentials.

    They are still encoded, and nothing has been verified. The hub has to authenticate them. Wrong
    credentials, or those of another principal, end the session with 4501 (AUTH-1). Otherwise the
    link goes on, until the time given to `Endpoint.trust_until`.
    """

    value: Raw


class TokenConfirmed(Struct):
    """Accepting side: the peer has this link's token, and every older one is void (RESUME-5)."""


class SessionExpired(Struct):
    """No link came within the resume window: close the endpoint (RESUME-8, RESUME-9)."""


Event: TypeAlias = (
    HelloReceived
    | CallReceived
    | CallRefused
    | ArgumentsReceived
    | ItemsReceived
    | StreamFinished
    | CancelReceived
    | CreditReceived
    | GoawayReceived
    | AuthReceived
    | TokenConfirmed
    | SessionExpired
)
