"""Bounds on floods of WebSocket itself: thousands of pings, and tiny fragments (CALM-2, CALM-4).

The libraries answer each ping, even if the peer does not read the answers, and accept fragments of
a single byte. Each such frame costs as much as a small message.
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

# Bytes. Honest peers send no smaller fragments; the last one of a message may have any size.
CRUMB = 128

# The part of the allowed frames without effect that tiny fragments may make up: each costs as much
# as ten.
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
        """Whether one more WebSocket frame is within bounds; if not, close with 4004.

        Args:
            opcode: The frame's opcode.
            size: Bytes that it carries.
            final: Whether it is the last of its message.
        """
        if opcode in (PING, PONG):
            return self._pings.take(monotonic())
        return final or size >= CRUMB or self._crumbs.take(monotonic())
