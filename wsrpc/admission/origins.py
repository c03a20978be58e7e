"""The rule for web pages: the `Origin` that a browser sends must match the host it asked for.

A browser lets any page open a WebSocket to any server, with the user's cookies and from inside the
user's network. Only the `Origin` header tells the server. Programs other than browsers send no
`Origin`, or any that they like: the rule protects users from pages, not servers from programs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

__all__ = ["AllowedOrigins", "Origins"]

AllowedOrigins: TypeAlias = Sequence[str] | Literal["*"]

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/?#@\[\]]+)(?::(\d{1,5}))?", re.IGNORECASE)


class _Origin(NamedTuple):
    scheme: str
    host: str
    port: int | None


class Origins:
    """The rule of one server.

    Args:
        allowed: Origins besides the server's own, or "*" for all.

    Raises:
        ValueError: An entry is no origin.
        TypeError: The entries are no list.
    """

    def __init__(self, allowed: AllowedOrigins | None = None) -> None:
        self._all = allowed == "*"
        self._allowed: frozenset[_Origin] = frozenset()
        if isinstance(allowed, str):
            if not self._all:
                raise TypeError(f"origins is a list, or '*' for all; write [{allowed!r}]")
        elif allowed is not None:
            if not isinstance(allowed, Iterable):
                raise ValueError(f"origins must be a list, '*' or None, not {allowed!r}")
            self._allowed = frozenset(map(_given, allowed))

    def allow(self, origin: str | None, host: str | None) -> bool:
        """Whether a page may connect.

        Args:
            origin: The `Origin` header; None where there is none, and the request is always let in.
            host: The host of the request, with its port if it has one.
        """
        if origin is None or self._all:
            return True
        page = _parsed(origin)
        return page is not None and (page in self._allowed or _is_own(page, host))


def _is_own(page: _Origin, host: str | None) -> bool:
    """Whether a page comes from the host of the request; http and https count as the same.

    The server cannot tell the scheme behind a proxy that ends TLS. So a host without a port has the
    default port of the page's scheme.
    """
    asked = HOST.fullmatch(host or "")
    default = DEFAULT_PORTS.get(page.scheme)
    if asked is None or default is None:
        return False
    name, port = asked.groups()
    return page.host == name.lower() and page.port == (int(port) if port else default)


def _parsed(origin: str) -> _Origin | None:
    """The parts of an origin; None for a text that is none, such as "null"."""
    try:
        parts = urlsplit(origin.strip())
        port = parts.port
    except ValueError:
        return None
    if not parts.scheme or not parts.netloc or "@" in parts.netloc or origin.count("/") != 2:
        return None
    if parts.query or parts.fragment or HOST.fullmatch(parts.netloc) is None:
        return None
    host = parts.netloc.lower()
    if parts.port is not None:
        host = host.rpartition(":")[0]
    return _Origin(parts.scheme, host, port or DEFAULT_PORTS.get(parts.scheme))


def _given(origin: object) -> _Origin:
    page = _parsed(origin) if isinstance(origin, str) else None
    if page is None:
        raise ValueError(
            f"{origin!r} is no origin; write scheme://host or scheme://host:port, without a path, "
            "such as 'https://app.example'"
        )
    return page
