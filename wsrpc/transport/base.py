"""The contract between a session and whatever carries its batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Handshake", "Link", "LinkClosed"]


class LinkClosed(Exception):
    """The link is gone. A session turns this into errors of its calls; it never reaches users.

    Attributes:
        code: The WebSocket close code; 1006 when the connection just broke.
        reason: The reason text of the close frame, or "".
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"link closed with {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Handshake:
    """What is known of a connection before its first message.

    Attributes:
        path: The request's path with its query, such as "/rpc".
        headers: The request's headers, names in lower case.
        remote: The peer's address as text, such as "127.0.0.1:50312"; "" where there is none.
        tls: Whether the connection is encrypted.
    """

    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict)
    remote: str = ""
    tls: bool = False


class Link(Protocol):
    """One connection that carries whole messages, in order, in both directions.

    `send` and `receive` are each used by one task at a time. Both raise `LinkClosed` and nothing
    else once the link is gone.

    Attributes:
        subprotocol: What the handshake agreed on, or None.
        handshake: What the accepting side knows of the connection.
    """

    subprotocol: str | None
    handshake: Handshake

    async def send(self, data: bytes) -> None:
        """Send one message; returns when the transport takes more."""

    async def receive(self) -> bytes:
        """The next message. Nothing is lost if the await is cancelled."""
        ...

    async def close(self, code: int, reason: str = "") -> None:
        """Close with this code, and wait a bounded time for the other side; never raises."""
