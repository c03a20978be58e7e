"""Listening sockets, and the sockets of the connections that they accept."""

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
    "all_served",
    "bound_sockets",
    "bound_url",
    "hang_up",
    "has_arrived",
    "headers_of",
    "host_of",
    "listening_sockets",
    "naming",
    "refused",
    "remote_of",
    "removed_again",
    "say",
    "stop_reading",
    "unix_listener",
]


def hang_up(connection: Socket) -> None:
    """Shut down a connection, so that the code that reads from it sees its end."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def stop_reading(connection: Socket) -> None:
    """Shut down one half of a connection: its reader sees the end; waiting bytes are written."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RD)


@contextmanager
def naming(host: str | None, port: int) -> Iterator[None]:
    """Add the address to errors of binding it, since the system's words name none."""
    try:
        yield
    except OSError as error:
        error.add_note(f"while binding {host or 'every interface'}, port {port}")
        raise


async def bound_sockets(
    host: str | None, port: int, kind: Callable[..., socket.socket]
) -> list[socket.socket]:
    """Bind sockets to a host's addresses, as asyncio does; they do not listen yet.

    Args:
        host: The host to bind; None for every interface.
        port: The port to bind; 0 for a free one.
        kind: The class of the sockets.

    Raises:
        OSError: A socket cannot be bound.
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
                # The machine lacks this family, most often IPv6.
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
    """The URL of bound sockets."""
    if path is not None:
        return f"ws+unix://{quote(os.path.abspath(path))}"
    # Two sockets may have different ports, and `localhost` is certain to mean IPv4 only.
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
    # Remove the file of an earlier server, as asyncio does.
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
    """Remove a Unix socket's file after the block, unless another socket has it by then."""
    bound = None if path is None else os.stat(path).st_ino
    try:
        yield
    finally:
        if path is not None:
            with suppress(OSError):
                if os.stat(path).st_ino == bound:
                    os.unlink(path)


# Connections that are accepted in one turn of the event loop. asyncio would accept a hundred; they
# would all take turns, and the first would come in no earlier than the last.
AT_ONCE = 2


# Connections that may wait to be accepted; the system may hold fewer. A Unix socket refuses any
# beyond; TCP clients try again by themselves.
BACKLOG = 4096

# Seconds after which to accept again where a door was full, or the system lacked resources.
FULL = 0.02
SPENT = 0.1

EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


def has_arrived(connection: Socket) -> bool:
    """Whether there are bytes to read from a connection, or its end."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    try:
        poll.register(connection.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return False


def say(connection: Socket, data: bytes) -> None:
    """Write as much as fits to a connection that other code serves."""
    if os.name == "posix":
        with suppress(OSError):
            os.write(connection.fileno(), data)


class Accepted(socket.socket):
    """The socket of a connection that was accepted."""

    __slots__ = ()


accepted: ContextVar[Accepted | None] = ContextVar("accepted", default=None)
"""The connection that is being served, for libraries that do not tell a request's connection.

asyncio runs the callbacks of a connection in a copy of the context in which it was accepted.
"""


class Listening(socket.socket):
    """A listening socket for asyncio that knows the connections that it accepts.

    The loop calls `accept`. With a loop that does not, such as uvloop, connections count only from
    the end of their opening handshake.
    """

    door: Doorkeeper[Any] | None = None
    kind: type[Accepted] = Accepted
    turn = 0
    _refuses = False
    # The loop watches this in place of the socket itself: it is readable when the socket is, except
    # in a pause. The loop's own pause is private, and lasts for a second.
    _watch: select.epoll | None = None
    _again: asyncio.TimerHandle | None = None

    def watched(self) -> None:
        """Let the running loop pause while no connection can be accepted; for loops that `accept`.

        Without epoll it never pauses.
        """
        if hasattr(select, "epoll"):
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

    def refuse(self) -> None:
        """Accept nothing from now on."""
        self._refuses = True

    def _pause(self, seconds: float) -> None:
        if self._watch is None:
            return
        self._watch.unregister(super().fileno())
        self._again = asyncio.get_running_loop().call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        if self._watch is not None:
            self._watch.register(super().fileno(), select.EPOLLIN)

    def accept(self) -> tuple[socket.socket, Any]:
        if self.turn == AT_ONCE or self._refuses:
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
            # The loop takes this for a peer that has hung up.
            raise ConnectionAbortedError
        return connection, peer


async def all_served(sockets: Iterable[socket.socket]) -> None:
    """Accept nothing from now on, and wait until each connection has the object that serves it.

    A loop of asyncio makes that object one turn after it has accepted. If its server is closed in
    between, it fails, and no code closes the connection.
    """
    for one in sockets:
        if isinstance(one, Listening):
            one.refuse()
    await asyncio.sleep(0)


def refused(sockets: Iterable[socket.socket], close: Callable[[], object]) -> None:
    """Accept nothing from now on; call `close` as soon as each connection is served."""
    for one in sockets:
        if isinstance(one, Listening):
            one.refuse()
    asyncio.get_running_loop().call_soon(close)


async def listening_sockets(
    door: Doorkeeper[Any],
    host: str | None,
    port: int,
    path: str | None,
    kind: type[Listening] = Listening,
    asked: bool = False,
) -> list[socket.socket]:
    """The sockets for asyncio to listen on: a host's addresses, or the Unix socket at `path`.

    Args:
        door: Lets connections in.
        host: The host to bind; None for every interface.
        port: The port to bind; 0 for a free one.
        path: The Unix socket's path, in place of host and port.
        kind: The class of the sockets.
        asked: Whether `accept` is called with any loop, and not only with asyncio's own.

    Raises:
        OSError: A socket cannot be bound.
    """

    def make(*parameters: Any) -> Listening:
        made = kind(*parameters)
        made.door = door
        return made

    if path is not None:
        bound = [unix_listener(path, make)]
    else:
        with naming(host, port):
            bound = await bound_sockets(host, port, make)
    asked = asked or isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop)
    try:
        for one in bound:
            if asked and isinstance(one, Listening):
                one.watched()
    except OSError:
        for one in bound:
            one.close()
        raise
    return bound


# The newest short values of headers that many clients send alike. Sessions keep the headers of their
# connection, which would otherwise take a kilobyte of each.
_ALIKE: dict[str, str] = dict.fromkeys(
    (
        "accept-encoding",
        "accept-language",
        "cache-control",
        "connection",
        "host",
        "origin",
        "pragma",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "upgrade",
        "user-agent",
    ),
    "",
)
_NAMES = {name: name for name in _ALIKE}
SHORT = 256


def headers_of(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A request's headers, names in lower case; several of one name count as a list (RFC 9110)."""
    headers: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        key = _NAMES.get(key, key)
        headers[key] = f"{headers[key]}, {value}" if key in headers else _alike(key, value)
    return headers


def _alike(name: str, value: str) -> str:
    """The value, as the same object as the newest one of this header if both are equal."""
    newest = _ALIKE.get(name)
    if newest is None or len(value) > SHORT:
        return value
    if newest != value:
        _ALIKE[name] = newest = value
    return newest
