"""URLs, and the errors for those that cannot be reached."""

from __future__ import annotations

import os
import re
import ssl as ssl_module
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from ..errors import ConnectError
from ..interfaces import Handshake
from ..telemetry.logs import one_line

__all__ = [
    "by",
    "handshake_with",
    "is_loopback",
    "refused",
    "shown",
    "split_url",
    "unreachable",
    "wrong_subprotocol",
]

# The parts that may hold a credential: all between the scheme and an @, and the query.
_USER = re.compile(r"(?<=://)[^/?#]*@")
_QUERY = re.compile(r"\?.*", re.DOTALL)


def shown(url: str) -> str:
    """A URL without credentials, as it may stand in a message."""
    return _QUERY.sub("?…", _USER.sub("…@", url))


def split_url(url: str) -> SplitResult:
    """The parts of a URL that `connect` takes.

    Raises:
        ConnectError: It is no such URL; the message names the fault.
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


def handshake_with(parts: SplitResult) -> Handshake:
    """The facts about a connection to a URL that its connecting side knows.

    Args:
        parts: The parts of the URL; where it names a Unix socket, its path is the socket's.
    """
    if parts.scheme == "ws+unix":
        return Handshake(remote=unquote(parts.path))
    tls = parts.scheme == "wss"
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    port = parts.port or (443 if tls else 80)
    return Handshake(path=parts.path or "/", remote=f"{host}:{port}", tls=tls)


HINTS = {
    400: "it may speak another subprotocol, or none of wsrpc's",
    401: "the credentials are missing or wrong, or a proxy asks for some",
    403: "the origin is not allowed, or nothing is served at this path",
    404: "nothing is served at this path",
    405: "nothing that opens WebSockets is served at this path",
    407: "a proxy asks for credentials",
    421: "it does not serve the host of this URL (hosts=)",
    426: "it wants another protocol",
    429: "it, or a proxy, counts too many requests; try again later",
    500: "it failed; its log says why",
    502: "a proxy does not reach the server",
    503: "it is starting, stopping or overloaded; try again later",
    504: "a proxy waited for the server in vain",
}


def refused(url: str, status: int, headers: Mapping[str, str]) -> ConnectError:
    """The error for a server that answered the opening handshake with another status than 101.

    Args:
        url: The URL.
        status: The status.
        headers: The answer's headers, names in lower case.
    """
    hint = HINTS.get(status, "it does not serve WebSockets here")
    if 300 <= status < 400:
        target = headers.get("location")
        hint = "it redirects"
        if target:
            hint = f"it redirects to {one_line(shown(urljoin(url, target)))}"
        hint += "; redirects are not followed, so connect to the right address itself"
    return ConnectError(
        f"{shown(url)} answered the handshake with HTTP {status}: {hint}",
        status=status,
        retry_after=_seconds(headers.get("retry-after")),
    )


def _seconds(text: str | None) -> float | None:
    """The seconds in `Retry-After`; None where it is no number."""
    text = (text or "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def is_loopback(host: str) -> bool:
    """Whether the name of a host means this machine."""
    host = host.strip("[]").lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        parsed = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return (mapped or parsed).is_loopback


def by(proxy: str | None) -> str:
    """The words for a connection's proxy in a message."""
    return "" if proxy is None else f" by the proxy {shown(proxy)}"


def wrong_subprotocol(url: str, wanted: str, chosen: str | None) -> ConnectError:
    """The error for a server that opened a WebSocket with another subprotocol."""
    return ConnectError(
        f"{shown(url)} is a WebSocket server, but does not speak {wanted}: "
        f"it chose {chosen or 'no subprotocol'}"
    )


def unreachable(url: str, error: Exception, proxy: str | None = None) -> ConnectError:
    """The error for a failed connection, one sentence for each kind of failure.

    Args:
        url: The URL.
        error: The exception of the transport.
        proxy: The proxy of the connection, if it has one.
    """
    where = f"{shown(url)}{by(proxy)}"
    secure = url.startswith("wss:")
    if isinstance(error, EOFError):
        # In TLS 1.3 a server refuses a client's certificate, or its lack, by hanging up.
        tls = CLIENT_CERTIFICATE if secure else "; if it wants TLS, write wss://"
        return ConnectError(
            f"{where} did not answer the handshake in HTTP/1.1: it is no WebSocket server, or a "
            f"proxy without one after it{tls}"
        )
    if isinstance(error, ssl_module.SSLCertVerificationError):
        return ConnectError(f"{where}: TLS failed: {_distrust(error)}")
    if isinstance(error, ssl_module.SSLError):
        reason = error.reason or str(error) or "the connection broke in the TLS handshake"
        return ConnectError(f"{where}: TLS failed: {reason}{PLAIN}")
    if isinstance(error, TimeoutError):
        tls = PLAIN if secure else ""
        return ConnectError(f"{where} did not answer the handshake in time{tls}")
    if isinstance(error, ValueError):
        return ConnectError(f"{shown(url)!r} is no WebSocket URL: {error}")
    if isinstance(error, OSError):
        reason = _reason(error)
        if (
            secure
            and isinstance(error, ConnectionError)
            and not isinstance(error, ConnectionRefusedError)
        ):
            reason += PLAIN
        return ConnectError(f"cannot connect to {where}: {reason}")
    return ConnectError(f"{where} refused the handshake: {str(error) or type(error).__name__}")


PLAIN = "; if the server does not speak TLS at this port, write ws://"
CLIENT_CERTIFICATE = "; if it wants a client certificate, load one into the context of ssl="

# OpenSSL's codes for a certificate whose authority is not known here.
UNKNOWN_AUTHORITY = frozenset((2, 18, 19, 20, 21))


def _distrust(error: ssl_module.SSLCertVerificationError) -> str:
    """The reason why a server's certificate is not trusted: too old, another name's, unknown."""
    said = one_line(error.verify_message or error.reason or str(error))
    cure = ""
    if error.verify_code in UNKNOWN_AUTHORITY:
        cure = "; if the authority is to be trusted, load it into the context of ssl="
    return f"the server's certificate is not trusted: {said}{cure}"


def _reason(error: OSError) -> str:
    """The system's words for an error, without the addresses that asyncio adds."""
    cause = error.__cause__
    if error.errno is None and isinstance(cause, BaseExceptionGroup):
        # trio raises a group of errors, one for each address.
        each = [_reason(one) for one in cause.exceptions if isinstance(one, OSError)]
        return ", ".join(dict.fromkeys(each)) or "the connection broke in the handshake"
    numbers = re.findall(r"\[Errno (\d+)\]", str(error))
    reasons = dict.fromkeys(os.strerror(int(number)) for number in numbers)
    said = ", ".join(reasons) or error.strerror or str(error)
    return said or "the connection broke in the handshake"
