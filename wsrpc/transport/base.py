"""The contract between a session and the transport that carries its batches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeGuard, TypeVar, runtime_checkable

from ..close_codes import CloseCode
from ..interfaces import Handshake

__all__ = [
    "FORBIDDEN_ORIGIN",
    "Binary",
    "Bound",
    "DirectLink",
    "Doorkeeper",
    "Handle",
    "HttpAnswer",
    "Link",
    "LinkClosed",
    "Socket",
    "failed_with",
    "is_direct",
    "short_reason",
]

P = TypeVar("P")
P_co = TypeVar("P_co", covariant=True)


class LinkClosed(Exception):
    """The link is gone. A session turns it into errors of its calls; it never reaches users.

    Attributes:
        code: The WebSocket close code; 1006 when the connection just broke.
        reason: The reason text of the close frame, or "".
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"link closed with {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


# The messages of `websockets` and picows for a peer that masks wrongly.
MISMASKED = ("incorrect masking", "masked frame from")


def failed_with(code: int, reason: str) -> LinkClosed:
    """The end of a link that this side's WebSocket library has closed.

    Clients mask correctly, but some proxies do not when they end a connection: Caddy 2.6, when it
    reloads its configuration, sends the server a close frame without a mask. The session's peer did
    not send that frame, so the session has only lost a connection.
    """
    if code == CloseCode.PROTOCOL_ERROR and any(words in reason for words in MISMASKED):
        return LinkClosed(CloseCode.CONNECTION_LOST)
    return LinkClosed(code, reason)


class Binary(bytes):
    """A binary message of a link without subprotocol, which carries text as plain bytes."""


@dataclass(frozen=True, slots=True)
class Bound:
    """An address at which connections are accepted.

    Attributes:
        url: The URL to connect to.
        refuse: Stops accepting connections; those that are there stay.
    """

    url: str
    refuse: Callable[[], None]


class Socket(Protocol):
    """The methods that the package needs of a connection's socket, also of trio's."""

    def fileno(self) -> int: ...

    def shutdown(self, how: int, /) -> None: ...


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """The answer to a request that opens no WebSocket; the connection closes after it.

    The transport adds `Connection`, and the `Content-Length` of the body unless it is among the
    headers: the answer to HEAD has that of the body that it leaves out.

    Attributes:
        status: The HTTP status.
        headers: Names and values.
        body: The bytes after the headers.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


FORBIDDEN_ORIGIN = HttpAnswer(
    403,
    (("Content-Type", "text/plain; charset=utf-8"),),
    b"This origin may not connect here.\n",
)


class Doorkeeper(Protocol[P_co]):
    """The object that a transport asks about connections before there is a link.

    A connection is known by the file number of its socket, since the WebSocket libraries do not
    pass on the objects that they are given.
    """

    def has_room(self) -> bool:
        """Whether to accept one more connection; otherwise it waits, and this is asked again."""
        ...

    def exhausted(self, error: OSError, /) -> None:
        """The system lacks the resources to accept a connection; the transport tries again."""

    def arrive(self, connection: Socket, peer: Any, /) -> bool:
        """Take in an accepted connection; returns False if it has to be closed for lack of room.

        Args:
            connection: Its socket.
            peer: The address from which it comes, in the form of its address family.
        """
        ...

    def opened(self, number: int, /) -> P_co | None:
        """The opening handshake is through; returns the object that `Handle` gets for it.

        Args:
            number: The file number of its socket; -1 if it is closed.
        """
        ...

    def answered(self, number: int, /) -> None:
        """The connection's request was answered over HTTP: it takes up no place any more."""

    def answer(
        self, method: str, path: str, headers: Mapping[str, str], /, *, local: str, peer: str
    ) -> HttpAnswer | None:
        """The answer to a request over HTTP; None where a WebSocket may open.

        It is asked for each request, before `forbids`.

        Args:
            method: The request's method.
            path: Its path, with the query.
            headers: Its headers, names in lower case.
            local: The address that the connection reached, without a port; "" where there is none.
            peer: The address from which it comes, without a port; "" where there is none.
        """
        ...

    def forbids(self, headers: Mapping[str, str], /) -> bool:
        """Whether the request comes from a web page that may not connect.

        Args:
            headers: The request's, names in lower case.
        """
        ...

    def handshake(
        self,
        path: str,
        headers: Mapping[str, str],
        peer: Any,
        /,
        *,
        tls: bool,
        certificate: Mapping[str, Any] | None = None,
    ) -> Handshake:
        """The facts about the connection that its session gets."""
        ...


class Link(Protocol):
    """One connection that carries whole messages, in order, in both directions.

    `send` and `receive` are each used by one task at a time. Both raise `LinkClosed` and nothing
    else once the link is gone.

    Attributes:
        subprotocol: The subprotocol that the handshake agreed on, which decides the type of
            messages. None: messages may be of both types; binary ones are `Binary`, and text is not
            checked.
        handshake: The accepting side's facts about the connection.
    """

    subprotocol: str | None
    handshake: Handshake

    async def send(self, data: bytes) -> None:
        """Send one message; returns when the transport takes more."""

    async def receive(self) -> bytes:
        """Receive the next message. No message is lost if the await is cancelled."""
        ...

    async def close(self, code: int, reason: str = "") -> None:
        """Close with this code, and wait a bounded time for the other side; never raises."""

    def abort(self) -> None:
        """Drop the connection without a closing handshake, or amid one: `close` then returns."""


Handle: TypeAlias = Callable[[Link, P | None], Awaitable[None]]
"""Serves a link; it also gets the object that `Doorkeeper.opened` returned."""


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
            on_message: Called with each message, in order. An exception in it is a fault of wsrpc.
            on_lost: Called once, after the last message, with the `LinkClosed` or `ProtocolError`
                that `receive` would have raised.
            on_drained: Called when the transport takes more after `send_nowait` was refused.
        """

    def send_nowait(self, data: bytes) -> bool:
        """Write one message; returns False once more than 64 KiB wait for the socket.

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


def is_direct(link: Link) -> TypeGuard[DirectLink]:
    """Whether a link can be driven by callbacks; `isinstance` takes forty times as long."""
    return hasattr(link, "send_nowait")


def short_reason(reason: str) -> str:
    """A reason, cut to the length that a close frame holds.

    It shares a control frame of 125 bytes with the code (RFC 6455, section 5.5).
    """
    return reason.encode(errors="replace")[:123].decode(errors="ignore")
