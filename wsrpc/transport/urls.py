"""How a WebSocket opens, whatever carries it: URLs, refusals, addresses and files that are bound."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl as ssl_module
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

import anyio

from ..errors import ConnectError

__all__ = [
    "bound_sockets",
    "bound_url",
    "refused",
    "remote_of",
    "removed_again",
    "short_reason",
    "shown",
    "split_url",
    "unix_listener",
    "unreachable",
    "wrong_subprotocol",
]


# -------------------------------------------------------------------------------- connecting


# What may hold a credential: everything between the scheme and an @, and the query.
_USER = re.compile(r"(?<=://)[^/?#]*@")
_QUERY = re.compile(r"\?.*", re.DOTALL)


def shown(url: str) -> str:
    """A URL as it may stand in a message: credentials do not belong there, and some have them."""
    return _QUERY.sub("?…", _USER.sub("…@", url))


def split_url(url: str) -> SplitResult:
    """The parts of a URL that `connect` takes.

    Raises:
        ConnectError: It is none; the message says what is wrong with it.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConnectError(f"{shown(url)!r} is no URL: {error}") from None
    if parts.scheme not in ("ws", "wss", "ws+unix"):
        raise ConnectError(
            f"{shown(url)!r} is no WebSocket URL: it must begin with ws://, wss:// or ws+unix://"
        )
    return parts


def refused(url: str, status: int) -> ConnectError:
    """The server answered the opening handshake with another HTTP status than 101."""
    hint = {
        400: "it may speak another subprotocol, or none of wsrpc's",
        403: "the origin is not allowed there",
        404: "nothing listens at this path",
        426: "it wants another protocol",
    }.get(status, "it does not serve WebSockets here")
    return ConnectError(f"{shown(url)} answered the handshake with HTTP {status}: {hint}")


def wrong_subprotocol(url: str, wanted: str, chosen: str | None) -> ConnectError:
    """The server opened a WebSocket, but for something else."""
    return ConnectError(
        f"{shown(url)} is a WebSocket server, but does not speak {wanted}: "
        f"it chose {chosen or 'no subprotocol'}"
    )


def unreachable(url: str, error: Exception) -> ConnectError:
    """One sentence for each way in which a connection does not come about."""
    if isinstance(error, EOFError):
        return ConnectError(
            f"{shown(url)} is no WebSocket server: it did not answer the handshake in HTTP"
        )
    if isinstance(error, ssl_module.SSLError):
        return ConnectError(f"{shown(url)}: TLS failed: {error.reason or error}")
    if isinstance(error, TimeoutError):
        return ConnectError(f"{shown(url)} did not answer the handshake in time")
    if isinstance(error, ValueError):
        return ConnectError(f"{shown(url)!r} is no WebSocket URL: {error}")
    if isinstance(error, OSError):
        return ConnectError(f"cannot connect to {shown(url)}: {_reason(error)}")
    return ConnectError(f"{shown(url)} refused the handshake: {error}")


def _reason(error: OSError) -> str:
    """The system's words for it; asyncio puts addresses there, several where it tried several."""
    numbers = re.findall(r"\[Errno (\d+)\]", str(error))
    reasons = dict.fromkeys(os.strerror(int(number)) for number in numbers)
    return ", ".join(reasons) or error.strerror or str(error)


# -------------------------------------------------------------------------------- accepting


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
            except OSError:
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
    """Take a Unix socket's file away behind the block, unless it is somebody else's by then."""
    bound = None if path is None else os.stat(path).st_ino
    try:
        yield
    finally:
        if path is not None:
            with suppress(OSError):
                if os.stat(path).st_ino == bound:
                    os.unlink(path)


# -------------------------------------------------------------------------------- closing


def short_reason(reason: str) -> str:
    """As much of a reason as a close frame holds.

    It shares a control frame of 125 bytes with the code (RFC 6455, section 5.5).
    """
    return reason.encode(errors="replace")[:123].decode(errors="ignore")
