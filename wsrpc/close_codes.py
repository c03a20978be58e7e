"""The codes with which a link closes, and their effects on the session (protocol.md, Closing)."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["CloseCode", "may_reconnect", "may_resume", "may_send"]


class CloseCode(IntEnum):
    """The close codes of protocol.md. A peer may close with any other code as well."""

    NORMAL = 1000
    """The application closed the session."""

    GOING_AWAY = 1001
    """The server stops, or a browser leaves the page."""

    PROTOCOL_ERROR = 1002
    """A rule of WebSocket is broken, or no offered subprotocol was chosen (LINK-2)."""

    UNSUPPORTED_DATA = 1003
    """The WebSocket library cannot take messages of this type."""

    NO_STATUS = 1005
    """The close frame had no code. It is never sent."""

    CONNECTION_LOST = 1006
    """The connection broke without a close frame. It is never sent."""

    INVALID_DATA = 1007
    """A text message is not UTF-8."""

    TOO_BIG = 1009
    """A message is larger than the receiver announced (BATCH-6, HELLO-6)."""

    MISSING_EXTENSION = 1010
    """The server lacks a WebSocket extension that the client needs."""

    SERVER_TROUBLE = 1011
    """A fault of the closing side."""

    RESTART = 1012
    """The closing side has drained (DRAIN-3)."""

    TRY_AGAIN_LATER = 1013
    """There is no room at the moment (LIMIT-1 to LIMIT-3, HELLO-7)."""

    BAD_GATEWAY = 1014
    """A proxy has trouble with the server."""

    SLOW_CONSUMER = 4001
    """The peer accepted no byte for too long (OUT-4)."""

    HEARTBEAT = 4002
    """The peer was silent for too long (HEART-2)."""

    AUTH_EXPIRED = 4003
    """The credentials have expired (AUTH-3)."""

    ENHANCE_YOUR_CALM = 4004
    """The peer sends too many useless frames (AUTH-2, OUT-4, CALM-1 to CALM-4)."""

    HELLO_TIMEOUT = 4008
    """The hello did not come in time (HELLO-9)."""

    CANNOT_RESUME = 4010
    """The requested session is not there, or does not fit (RESUME-2)."""

    BAD_FRAME = 4500
    """A message is no batch of well-formed frames (BATCH-1 to BATCH-3)."""

    UNAUTHENTICATED = 4501
    """The credentials are missing, wrong or revoked (HELLO-7, AUTH-1, AUTH-4)."""

    FORBIDDEN = 4503
    """The principal is known, but not allowed in (HELLO-7)."""

    LIMIT = 4504
    """A limit is reached that the next attempt would meet again (LIMIT-2)."""

    VIOLATION = 4505
    """The peer broke a rule about frames, credit or counts."""

    SUPERSEDED = 4506
    """A newer link of the session has taken over (RESUME-3)."""

    VERSION = 4507
    """The peer speaks another version of the protocol (HELLO-3)."""

    # Users meet codes as plain numbers, in `repr` of a dictionary of counts too.
    __repr__ = int.__repr__


# The codes below 3000 that a close frame may carry (RFC 6455, and its registry).
_SENDABLE = frozenset((*range(1000, 1004), *range(1007, 1015)))

_DETACHING = frozenset((1001, 1005, 1006, *range(1011, 1016), *range(4000, 4500)))


def may_resume(code: int) -> bool:
    """Whether a session may outlive a link that ended with this close code (CLOSE-1, CLOSE-2)."""
    return code in _DETACHING and code != CloseCode.CANNOT_RESUME


def may_reconnect(code: int) -> bool:
    """Whether the connecting side comes back after this close code, perhaps with a new session."""
    return code in _DETACHING


def may_send(code: int) -> bool:
    """Whether this code may stand in a close frame (RFC 6455, section 7.4)."""
    return code in _SENDABLE or 3000 <= code <= 4999
