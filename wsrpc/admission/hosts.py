"""The hosts that a web page may ask for: the defence against DNS rebinding (HOST-1).

A page of evil.example can let that name point at 127.0.0.1. To the browser the server then has the
page's own origin, so `Origin` and `Host` agree. Only the name itself gives the attack away: this
machine is not called evil.example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from ..options import checked_list
from ..telemetry.logs import everyone
from .origins import HOST

__all__ = ["Hosts", "is_loopback", "through_proxy"]

FORBIDDEN = (
    "a page asked for host %s, which is none of this server's own; if it is, name it: hosts=[...]"
)


class Hosts:
    """The rule of one server.

    Args:
        allowed: Names of the server, without ports; "*.example.org" stands for all names below it.
            None: only connections that reach a loopback address are checked, and must ask for a
            name of this machine.

    Raises:
        ValueError: An entry is no name.
        TypeError: The entries are no list.
    """

    def __init__(self, allowed: Sequence[str] | None = None) -> None:
        listed = checked_list("hosts", allowed or ())
        for name in listed:
            parts = HOST.fullmatch(name.removeprefix("*."))
            if parts is None or parts.group(2) is not None or "*" in parts.group(1):
                raise ValueError(
                    f"{name!r} is no host; write a name without a port, such as 'app.example' or "
                    "'*.app.example'"
                )
        self._given = allowed is not None
        names = [name.lower().rstrip(".") for name in listed]
        self._names = {name for name in names if not name.startswith("*.")}
        self._endings = tuple(name[1:] for name in names if name.startswith("*."))
        self._warned = False

    def forbid(self, headers: Mapping[str, str], local: str, *, page: bool) -> bool:
        """Whether a request asks for a host that is not this server.

        Args:
            headers: The request's, names in lower case.
            local: The address that the connection reached; "" where there is none.
            page: Whether it asks for a page, and not for a WebSocket. A client that opens a
                WebSocket without an `Origin` is no web page, and is checked only where names were
                given.
        """
        if not self._given:
            if not is_loopback(local) or through_proxy(headers):
                return False
            if not page and "origin" not in headers:
                return False
        asked = headers.get("host")
        if asked is None or self._serves(asked):
            return False
        if not self._warned:
            self._warned = True
            everyone.warning(FORBIDDEN, repr(asked[:100]))
        return True

    def _serves(self, asked: str) -> bool:
        parts = HOST.fullmatch(asked.strip())
        if parts is None:
            return False
        name = parts.group(1).lower().rstrip(".")
        if name in self._names or name.endswith(self._endings or ("\0",)):
            return True
        if name == "localhost" or name.endswith(".localhost"):
            return True
        # An address is no name that an attacker could point elsewhere.
        return _is_address(name.strip("[]"))


def through_proxy(headers: Mapping[str, str]) -> bool:
    """Whether the request came through a proxy: no page can make a browser send these headers."""
    return any(
        name in ("forwarded", "via", "x-real-ip") or name.startswith("x-forwarded-")
        for name in headers
    )


def is_loopback(address: str) -> bool:
    """Whether an address, or the name localhost, means this machine only; "" does not."""
    if address == "localhost":
        return True
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
