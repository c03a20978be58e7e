"""Bounds on links that were let in: in all, per principal and per address."""

from __future__ import annotations

from collections import Counter

from ..close_codes import CloseCode
from ..errors import ProtocolError
from ..limits import Limits
from .forwarded import bucket_of
from .principals import Identity, Tally

__all__ = ["Quotas", "Visit"]


class Quotas:
    """The links of one server.

    Args:
        limits: The server's.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._links = 0
        self._by_principal = Tally()
        self._by_address: Counter[str] = Counter()

    def enter(self, who: Identity, address: str, *, resumes: bool, replaces: bool) -> Visit:
        """Count a link that is let in; returns the object that counts it out again.

        Args:
            who: The principal.
            address: The address from which it comes.
            resumes: Whether it resumes a session. Such a link may try again later, while a new
                session would meet the same limit again.
            replaces: Whether that session has another link, which this one ends.

        Raises:
            ProtocolError: 1013 or 4504, there is no room for the link.
        """
        limits = self._limits
        address = bucket_of(address)
        before = 1 if replaces else 0
        if self._links - before >= limits.max_links:
            raise ProtocolError(
                CloseCode.TRY_AGAIN_LATER, "the server has no room; try again later"
            )
        code = CloseCode.TRY_AGAIN_LATER if resumes else CloseCode.LIMIT
        known = who.principal is not None
        if known and self._by_principal[who] - before >= limits.max_links_per_principal:
            most = limits.max_links_per_principal
            raise ProtocolError(code, f"more than {most} connections of one principal")
        if address and self._by_address[address] - before >= limits.max_links_per_address:
            most = limits.max_links_per_address
            raise ProtocolError(code, f"more than {most} connections from one address")
        self._links += 1
        self._by_address[address] += 1
        if known:
            who = self._by_principal.add(who)
        return Visit(self, who, address)

    def leave(self, who: Identity, address: str) -> None:
        """Count a link out again.

        Args:
            who: Its principal.
            address: The address for which it was counted.
        """
        self._links -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
        if who.principal is not None:
            self._by_principal.remove(who)


class Visit:
    """A link that was let in."""

    __slots__ = ("_address", "_quotas", "_who")

    def __init__(self, quotas: Quotas, who: Identity, address: str) -> None:
        self._quotas = quotas
        self._who = who
        self._address = address

    def leave(self) -> None:
        """Count the link out again; it is called once."""
        self._quotas.leave(self._who, self._address)
