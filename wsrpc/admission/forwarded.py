"""The address of a client behind proxies, from `X-Forwarded-For` or `Forwarded`.

Any client can write these headers. They are believed only as far as trusted proxies have written
them: from the right, where each proxy adds the address that it saw, up to the first address that is
not trusted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from ..options import checked_list

__all__ = ["Proxies", "bucket_of"]

# The entry in the list of trusted proxies for peers on a Unix socket, which has no address.
UNIX = "unix"


class Proxies:
    """The trusted proxies of one server.

    Args:
        trusted: Addresses and networks, such as "10.0.0.0/8" or "::1"; "unix" for all peers on a
            Unix socket.

    Raises:
        ValueError: An entry is no address and no network.
        TypeError: The entries are no list.
    """

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        listed = checked_list("trusted_proxies", trusted)
        self._unix = UNIX in listed
        self._networks = [_network(one) for one in listed if one != UNIX]

    def trust(self, address: str) -> bool:
        """Whether the peer with this address is a trusted proxy; "" is a peer on a Unix socket."""
        if not address:
            return self._unix
        if not self._networks:
            return False
        parsed = _address(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def client_of(self, peer: str, headers: Mapping[str, str]) -> str:
        """The address of the client, as far as it is known for certain.

        If both headers are there and disagree, a client has written one of them, and neither is
        believed.

        Args:
            peer: The address of the connection's other end.
            headers: The request's headers, names in lower case.
        """
        if not self.trust(peer):
            return peer
        chains = [
            chain
            for chain in (
                _listed(headers.get("x-forwarded-for")),
                _fields(headers.get("forwarded"), "for"),
            )
            if chain
        ]
        if not chains or any(chain != chains[0] for chain in chains):
            return peer
        client = peer
        for hop in reversed(chains[0]):
            if hop is None:
                break
            client = hop
            if not self.trust(hop):
                break
        return client

    def host_of(self, headers: Mapping[str, str]) -> str | None:
        """The host that a web page asked for, which a proxy may have replaced by another.

        No page can make a browser send these headers. So where there are any trusted proxies, the
        headers of every connection are believed.
        """
        if self._unix or self._networks:
            told = headers.get("x-forwarded-host") or _field(headers.get("forwarded"), "host")
            if told:
                return told.partition(",")[0].strip()
        return headers.get("host")


def _network(one: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(one, strict=False)
    except ValueError:
        raise ValueError(
            f"each of trusted_proxies must be an address, a network such as '10.0.0.0/8', or 'unix', "
            f"not {one!r}"
        ) from None


@lru_cache(maxsize=1024)
def bucket_of(address: str) -> str:
    """The key by which an address is counted: an IPv6 network of 64 bits has one key."""
    parsed = _address(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, 64), strict=False))
    return address if parsed is None else str(parsed)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """The address in a text with or without a port; None where there is none, as in "unknown"."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed


def _plain(text: str) -> str | None:
    parsed = _address(text)
    return None if parsed is None else str(parsed)


def _listed(header: str | None) -> list[str | None]:
    """The hops of `X-Forwarded-For`, the nearest last."""
    return [_plain(hop) for hop in header.split(",")] if header else []


def _fields(header: str | None, name: str) -> list[str | None]:
    """The hops of `Forwarded` (RFC 7239), the nearest last."""
    if not header:
        return []
    return [_plain(_field(element, name) or "") for element in header.split(",")]


def _field(element: str | None, name: str) -> str | None:
    """The first field of this name in a `Forwarded` header, without its quotes."""
    for pair in (element or "").replace(",", ";").split(";"):
        key, _, value = pair.partition("=")
        if key.strip().lower() == name:
            return value.strip().strip('"')
    return None
