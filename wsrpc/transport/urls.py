"""URLs, and why one cannot be reached."""

from __future__ import annotations

import os
import re
import ssl as ssl_module
from urllib.parse import SplitResult, urlsplit

from ..errors import ConnectError

__all__ = ["refused", "shown", "split_url", "unreachable", "wrong_subprotocol"]

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
