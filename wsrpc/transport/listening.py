"""Sockets that are bound, and those that come in by them."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any
from urllib.parse import quote

import anyio

from .base import Doorkeeper, Socket

__all__ = [
    "BACKLOG",
    "EXHAUSTED",
    "FULL",
    "SPENT",
    "Accepted",
    "Listening",
    "accepted",
    "bound_sockets",
    "bound_url",
    "hang_up",
    "has_arrived",
    "headers_of",
    "host_of",
    "listening_sockets",
    "remote_of",
    "removed_again",
    "say",
    "unix_listener",
]


def hang_up(connection: Socket) -> None:
    """End a connection under the hands of whoever reads from it, who sees that it has ended."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


async def bound_sockets(
    host: str | None, port: int, kind: Callable[..., socket.socket]
) -> list[socket.socket]:
    """Sockets that are bound to a host's addresses, as asyncio binds them; nobody listens yet.

    Args:
        host: None for every interface.
        port: 0 for a free one.
        kind: The class of the sockets.

    Raises:
        OSError: One of them cannot be bound.
    """
    flags = socket.AI_PASSIVE
    found = await anyio.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
    bound: list[socket.socket] = []
    try:
        for family, _, proto, _, address in dict.fromkeys(found):
            try:
                one = kind(family, socket.SOCK_STREAM, proto)
            except OSError as error:
                if error.errno in EXHAUSTED:
                    raise
                # This machine does without it: IPv6, most often.
                continue
            bound.append(one)
            if os.name == "posix":
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)
            one.setblocking(False)
            one.bind(address)
        if not bound:
            raise OSError(errno.EADDRNOTAVAIL, f"{host} has no address here")
    except BaseException:
        for one in bound:
            one.close()
        raise
    return bound


def bound_url(sockets: Iterable[Any], path: str | None, tls: bool) -> str:
    """Where to connect to what has been bound."""
    if path is not None:
        return f"ws+unix://{quote(os.path.abspath(path))}"
    # Where there are two, they may have different ports, and `localhost` is sure of IPv4 only.
    bound = sorted(sockets, key=lambda one: one.family is not socket.AF_INET)[0].getsockname()
    host, port = bound[0], bound[1]
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    elif ":" in host:
        host = f"[{host}]"
    return f"{'wss' if tls else 'ws'}://{host}:{port}"


def host_of(address: Any) -> str:
    """The address without its port, "" where there is none."""
    return address[0] if isinstance(address, tuple) and address else ""


def remote_of(address: Any) -> str:
    """A peer's address as text, "" where it has none."""
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) and address else ""


def unix_listener(path: str, kind: Callable[..., socket.socket] = socket.socket) -> socket.socket:
    """A Unix socket that is bound to `path`.

    Raises:
        OSError: It cannot be bound.
    """
    # As asyncio does: a file that an earlier server left behind is no server.
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)
    listener = kind(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.bind(path)
    except BaseException:
        listener.close()
        raise
    return listener


@contextmanager
def removed_again(path: str | None) -> Iterator[None]:
    """Remove a Unix socket's file after the block, unless it is somebody else's by then."""
    bound = None if path is None else os.stat(path).st_ino
    try:
        yield
    finally:
        if path is not None:
            with suppress(OSError):
                if os.stat(path).st_ino == bound:
                    os.unlink(path)


# Connections that are accepted in one turn of the event loop. asyncio would accept a hundred; they
# would take their turns with each other, and all of them come in when the last one does.
AT_ONCE = 2


# How many connections may wait to be accepted; the system may hold fewer. A Unix socket refuses
# those beyond, others come again by themselves.
BACKLOG = 4096

# Seconds after which a door that was full, or a system that had nothing left, is tried again.
FULL = 0.02
SPENT = 0.1

EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


def has_arrived(connection: Socket) -> bool:
    """Whether there is something to read from a connection, its end included."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    try:
        poll.register(connection.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return False


def say(connection: Socket, data: bytes) -> None:
    """Write to a connection under the hands of whoever serves it, as much as fits."""
    if os.name == "posix":
        with suppress(OSError):
            os.write(connection.fileno(), data)


class Accepted(socket.socket):
    """The socket of a connection that was accepted."""

    __slots__ = ()


accepted: ContextVar[Accepted | None] = ContextVar("accepted", default=None)
"""The connection that is being served, for libraries that tell nobody which one a request came by.

asyncio runs whatever a connection sets off in a copy of the context in which it was accepted.
"""


class Listening(socket.socket):
    """A listening socket of asyncio's that knows whom it accepts.

    The loop calls `accept`; where it does not, as uvloop, connections count from the end of their
    opening handshake only.
    """

    door: Doorkeeper[Any] | None = None
    kind: type[Accepted] = Accepted
    turn = 0
    # What the loop looks at in place of the socket itself: it is readable when the socket is, save
    # in a pause. The loop's own way to look away is none of ours, and it lasts for a second.
    _watch: select.epoll | None = None
    _again: asyncio.TimerHandle | None = None

    def watched(self) -> None:
        """Let the running loop look away for a while where nobody can be accepted.

        Without epoll, and on another loop than asyncio's own, it never does.
        """
        if hasattr(select, "epoll") and isinstance(
            asyncio.get_running_loop(), asyncio.SelectorEventLoop
        ):
            self._watch = select.epoll()
            self._watch.register(super().fileno(), select.EPOLLIN)

    def fileno(self) -> int:
        number = super().fileno()
        return number if self._watch is None or number < 0 else self._watch.fileno()

    def listen(self, backlog: int = BACKLOG, /) -> None:
        super().listen(max(backlog, BACKLOG))

    def close(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()
        if self._again is not None:
            self._again.cancel()
        super().close()

    def _pause(self, seconds: float) -> None:
        if self._watch is None:
            return
        self._watch.unregister(super().fileno())
        self._again = asyncio.get_running_loop().call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        if self._watch is not None:
            self._watch.register(super().fileno(), select.EPOLLIN)

    def accept(self) -> tuple[socket.socket, Any]:
        if self.turn == AT_ONCE:
            self.turn = 0
            # The loop asks again in its next turn.
            raise BlockingIOError
        if self._watch is not None and self.door is not None and not self.door.has_room():
            self.turn = 0
            self._pause(FULL)
            raise BlockingIOError
        try:
            plain, peer = super().accept()
        except BlockingIOError:
            self.turn = 0
            raise
        except OSError as error:
            if self._watch is None or self.door is None or error.errno not in EXHAUSTED:
                raise
            self.turn = 0
            self.door.exhausted(error)
            self._pause(SPENT)
            raise BlockingIOError from None
        self.turn += 1
        connection = self.kind(self.family, self.type, self.proto, plain.detach())
        accepted.set(connection)
        if self.door is not None and not self.door.arrive(connection, peer):
            connection.close()
            # The loop takes it for a peer that has thought better of it.
            raise ConnectionAbortedError
        return connection, peer


async def listening_sockets(
    door: Doorkeeper[Any],
    host: str | None,
    port: int,
    path: str | None,
    kind: type[Listening] = Listening,
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
        bound = [unix_listener(path, make)]
    else:
        bound = await bound_sockets(host, port, make)
    try:
        for one in bound:
            if isinstance(one, Listening):
                one.watched()
    except OSError:
        for one in bound:
            one.close()
        raise
    return bound


def headers_of(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A request's headers, names in lower case; several of one name count as a list (RFC 9110)."""
    headers: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers
