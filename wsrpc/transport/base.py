"""The contract between a session and whatever carries its batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..interfaces import Handshake

if TYPE_CHECKING:
    from ..admission.unauthenticated import Pending

__all__ = ["Binary", "Bound", "DirectLink", "Link", "LinkClosed"]


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


class Binary(bytes):
    """A binary message of a link without subprotocol, which carries text as plain bytes."""


@dataclass(frozen=True, slots=True)
class Bound:
    """An address at which connections are accepted.

    Attributes:
        url: Where to connect.
        refuse: Accepts no further connection from now on; those that are there stay.
    """

    url: str
    refuse: Callable[[], None]


class Link(Protocol):
    """One connection that carries whole messages, in order, in both directions.

    `send` and `receive` are each used by one task at a time. Both raise `LinkClosed` and nothing
    else once the link is gone.

    Attributes:
        subprotocol: What the handshake agreed on, which says of what type messages are; or None,
            and then they are of both: binary ones are `Binary`, and text is not checked.
        handshake: What the accepting side knows of the connection.
        pending: Its place among those that have not been let in, where it has one already.
    """

    subprotocol: str | None
    handshake: Handshake
    pending: Pending | None

    async def send(self, data: bytes) -> None:
        """Send one message; returns when the transport takes more."""

    async def receive(self) -> bytes:
        """The next message. Nothing is lost if the await is cancelled."""
        ...

    async def close(self, code: int, reason: str = "") -> None:
        """Close with this code, and wait a bounded time for the other side; never raises."""

    def abort(self) -> None:
        """Drop the connection without a goodbye, or in the midst of one: `close` then returns."""


@runtime_checkable
class DirectLink(Link, Protocol):
    """A link that can also be driven by callbacks of the event loop, without a task in between.

    On asyncio that saves a turn of the loop, and with it a system call, for every message in either
    direction. A link of this kind begins as any other, with `receive` and `send`; once attached it
    is driven by callbacks until it is gone, and only `close` is still awaited.
    """

    def attach(
        self,
        on_message: Callable[[bytes], None],
        on_lost: Callable[[Exception], None],
        on_drained: Callable[[], None],
    ) -> None:
        """Deliver messages by callback from here on, those that have arrived already at once.

        Args:
            on_message: Called with each message, in order. What it raises is a fault of wsrpc.
            on_lost: Called once, behind the last message, with the `LinkClosed` or `ProtocolError`
                that `receive` would have raised.
            on_drained: Called when the transport takes more after `send_nowait` was refused.
        """

    def send_nowait(self, data: bytes) -> bool:
        """Write one message; False once more than 64 KiB wait for the socket.

        The message is taken in either case, but the next one has to wait for `on_drained`. On a
        link that is gone it does nothing, and returns True.
        """
        ...

    def pause(self) -> None:
        """Deliver no message until `resume`, and stop reading from the socket."""

    def resume(self) -> None:
        """Go on delivering."""

    @property
    def unsent(self) -> int:
        """Bytes that wait for the socket; while it falls, the peer is reading."""
        ...
