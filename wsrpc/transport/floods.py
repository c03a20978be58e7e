"""What of WebSocket itself honest peers hardly send: pings by the thousand, and crumbs (CALM-2, CALM-4).

The libraries answer each ping, whether the peer reads the answers or not, and put a message together
from fragments of a single byte; each of them costs as much as a small message.
"""

from __future__ import annotations

from time import monotonic

from ..limits import Limits
from ..protocol.rates import Bucket

__all__ = ["TOO_MUCH", "Calm"]

TOO_MUCH = "too many pings or tiny fragments"

# RFC 6455, section 5.2.
PING = 0x9
PONG = 0xA

# Bytes. Nobody sends a message in smaller fragments; its last one may have any size.
CRUMB = 128

# Of the frames without effect that are borne, so many may be crumbs: each costs as much as ten.
PART = 0.1


class Calm:
    """The patience with one connection.

    Args:
        limits: This side's bounds.
    """

    __slots__ = ("_crumbs", "_pings")

    def __init__(self, limits: Limits) -> None:
        self._pings = Bucket(limits.ping_burst, limits.ping_rate)
        self._crumbs = Bucket(limits.idle_burst * PART, limits.idle_rate * PART)

    def bears(self, opcode: int, size: int, *, final: bool) -> bool:
        """Whether one more frame of WebSocket is all right; if not, fail the connection with 4004.

        Args:
            opcode: What the frame is.
            size: Bytes that it carries.
            final: Whether it is the last of its message.
        """
        if opcode in (PING, PONG):
            return self._pings.take(monotonic())
        return final or size >= CRUMB or self._crumbs.take(monotonic())
