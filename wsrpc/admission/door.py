"""What a listener asks of whoever knocks, whatever library answers: the part before there is a link."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from ..interfaces import Handshake
from ..limits import Limits
from ..runtime.timers import Deadline, Deadlines
from ..transport.urls import bound_sockets, remote_of, unix_listener
from .forwarded import Proxies
from .origins import Origins
from .unauthenticated import Pending, PendingLinks

__all__ = ["FORBIDDEN_ORIGIN", "Door", "Listening", "hang_up", "headers_of", "listening_sockets"]

FORBIDDEN_ORIGIN = "This origin may not connect here.\n"


class Socket(Protocol):
    """What is needed of a connection's socket, trio's included."""

    def fileno(self) -> int: ...

    def shutdown(self, how: int, /) -> None: ...


class Door:
    """The door of one listener.

    Args:
        limits: The server's.
        pending: Those of all listeners of the server who have not been let in.
        now: The time on the loop's clock, in seconds.
        origins: Which web pages may connect.
        proxies: Whose word is taken for where others come from.
        deadlines: Where their time is kept; without it the libraries alone do that.
    """

    def __init__(
        self,
        limits: Limits,
        pending: PendingLinks,
        now: Callable[[], float],
        *,
        origins: Origins | None = None,
        proxies: Proxies | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self._limits = limits
        self._pending = pending
        self._now = now
        self._origins = origins or Origins()
        self._proxies = proxies or Proxies()
        self._deadlines = deadlines
        # By file number, for the libraries do not hand on what they are given.
        self._arrived: dict[int, tuple[Pending, Deadline | None]] = {}

    def arrive(self, connection: Socket, peer: Any) -> bool:
        """A connection was accepted; False if there is no room, and it has to be closed.

        It has `Limits.hello_timeout` from now, TLS and the opening handshake included.
        """
        address = _host_of(peer)
        end = partial(hang_up, connection)
        pending = self._pending.add(
            "" if self._proxies.trust(address) else address,
            self._now(),
            socket=connection,
            dismiss=end,
        )
        if pending is None:
            return False
        number = connection.fileno()
        if (before := self.opened(number)) is not None:
            # Its number is given anew, so it was closed.
            self._pending.remove(before)
        due = None
        if self._deadlines is not None:
            late = partial(self._late, number, pending)
            due = self._deadlines.add(pending.since + self._limits.hello_timeout, late)
        self._arrived[number] = pending, due
        return True

    def opened(self, number: int) -> Pending | None:
        """The handshake is through: from here on a link's session looks after its time.

        Args:
            number: The file number of its socket; -1 if it is closed.
        """
        pending, due = self._arrived.pop(number, (None, None))
        if due is not None and self._deadlines is not None:
            self._deadlines.remove(due)
        return pending

    def forbids(self, headers: Mapping[str, str]) -> bool:
        """Whether the request comes from a web page that may not connect.

        Args:
            headers: The request's, names in lower case.
        """
        origin = headers.get("origin")
        return origin is not None and not self._origins.allow(
            origin, self._proxies.host_of(headers)
        )

    def handshake(
        self,
        path: str,
        headers: Mapping[str, str],
        peer: Any,
        *,
        tls: bool,
        certificate: Mapping[str, Any] | None = None,
    ) -> Handshake:
        """What a session is told of the connection."""
        return Handshake(
            path=path,
            headers=headers,
            remote=remote_of(peer),
            tls=tls,
            address=self._proxies.client_of(_host_of(peer), headers),
            certificate=certificate or None,
        )

    def _late(self, number: int, pending: Pending) -> None:
        """It is still within the opening handshake, or closed (HELLO-9)."""
        self.opened(number)
        self._pending.remove(pending)
        pending.dismiss()


# Connections that are accepted in one turn of the event loop. asyncio would accept a hundred; they
# would take their turns with each other, and all of them come in when the last one does.
AT_ONCE = 2


class Listening(socket.socket):
    """A listening socket of asyncio's that knows whom it accepts.

    The loop calls `accept`; where it does not, as uvloop, connections count from the end of their
    opening handshake only.
    """

    door: Door | None = None
    accepted = 0

    def accept(self) -> tuple[socket.socket, Any]:
        if self.accepted == AT_ONCE:
            self.accepted = 0
            # The loop asks again in its next turn.
            raise BlockingIOError
        try:
            connection, peer = super().accept()
        except BlockingIOError:
            self.accepted = 0
            raise
        self.accepted += 1
        if self.door is not None and not self.door.arrive(connection, peer):
            connection.close()
            # The loop takes it for a peer that has thought better of it.
            raise ConnectionAbortedError
        return connection, peer


async def listening_sockets(
    door: Door, host: str | None, port: int, path: str | None, kind: type[Listening] = Listening
) -> list[socket.socket]:
    """What asyncio is to listen on: a host's addresses, or the Unix socket at `path`.

    Raises:
        OSError: One of them cannot be bound.
    """

    def make(*parameters: Any) -> Listening:
        made = kind(*parameters)
        made.door = door
        return made

    if path is not None:
        return [unix_listener(path, make)]
    return await bound_sockets(host, port, make)


def headers_of(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A request's headers, names in lower case; several of one name count as a list (RFC 9110)."""
    headers: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


def _host_of(peer: Any) -> str:
    return peer[0] if isinstance(peer, tuple) and peer else ""


def hang_up(connection: Socket) -> None:
    """End a connection under the hands of whoever reads from it, who sees that it has ended."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
