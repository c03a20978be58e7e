"""Who may come in: the first message of a link, what `authenticate` says to it, and how many."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import anyio

from ..close_codes import CloseCode
from ..errors import ProtocolError, RpcError
from ..interfaces import Handshake
from ..limits import FLOOR_MAX_BATCH, Limits
from ..protocol.codec import SUBPROTOCOLS
from ..protocol.hello import Opening, read_opening
from ..server.session_table import same_principal
from ..session.wire_session import first_message
from ..telemetry.logs import everyone
from ..transport.base import Link
from .forwarded import bucket_of
from .unauthenticated import Pending, PendingLinks

__all__ = ["CROWDED", "REVOKED", "Admission", "Authenticate", "Grant", "expiry"]

REVOKED = "the credentials were revoked"
CROWDED = "too many connections that do not say who they are"


@dataclass(frozen=True, slots=True)
class Grant:
    """What `authenticate` returns for credentials that do not hold for ever.

    Attributes:
        principal: Who the peer is.
        expires_in: Seconds from now for which the credentials hold. The connection is then closed
            with 4003, and the client comes back with fresh ones, unless it has sent such before
            (`Session.refresh_auth`). None: for as long as the connection.

    Raises:
        TypeError: `expires_in` is no number.
    """

    principal: Any
    expires_in: float | None = None

    def __post_init__(self) -> None:
        seconds = self.expires_in
        if seconds is not None and (
            isinstance(seconds, bool) or not isinstance(seconds, (int, float))
        ):
            raise TypeError(f"Grant.expires_in is a number of seconds or None, not {seconds!r}")


Authenticate: TypeAlias = Callable[[Handshake, Any], Awaitable[Any]]


class UnavailableError(Exception):
    """Nobody can tell at the moment who the peer is."""


class Admission:
    """The one place in which a server lets peers in.

    Args:
        limits: The server's.
        authenticate: Who a peer is; None: everybody is let in, as nobody in particular.

    Attributes:
        pending: The connections of which it is not known yet.
    """

    def __init__(self, limits: Limits, authenticate: Authenticate | None) -> None:
        self.pending = PendingLinks(limits)
        self._limits = limits
        self._authenticate = authenticate
        self._links = 0
        self._by_principal = _Tally()
        self._by_address: Counter[str] = Counter()

    async def opening(self, link: Link, pending: Pending, now: float) -> Opening:
        """Read a link's hello, within the time that is left for it (HELLO-6, HELLO-9).

        Raises:
            ProtocolError: The link has to be closed with its code.
            LinkClosed: The link is gone.
        """
        if not self.pending.locate(pending, link.handshake.address, now):
            raise ProtocolError(CloseCode.TRY_AGAIN_LATER, CROWDED)
        left = self._limits.hello_timeout - (now - pending.since)
        data = await first_message(link, max(left, 0))
        if len(data) > FLOOR_MAX_BATCH:
            raise ProtocolError(CloseCode.TOO_BIG, "more than 64 KiB before authentication")
        assert link.subprotocol is not None
        opening = read_opening(SUBPROTOCOLS[link.subprotocol], data)
        pending.waits = False
        return opening

    async def identify(self, handshake: Handshake, auth: Any) -> Grant:
        """Find out who the peer is (HELLO-7).

        Raises:
            ProtocolError: The link has to be closed with its code; nothing has begun.
        """
        try:
            return await self._identified(handshake, auth)
        except UnavailableError:
            reason = "the server cannot check credentials at the moment; try again later"
            raise ProtocolError(CloseCode.TRY_AGAIN_LATER, reason) from None

    async def identify_again(self, handshake: Handshake, auth: Any, principal: Any) -> Grant | None:
        """Look at fresh credentials of a peer that is known (AUTH-1); None if nobody can now.

        Raises:
            ProtocolError: 4501, they are refused, or another principal's.
        """
        try:
            grant = await self._identified(handshake, auth)
        except UnavailableError:
            # What holds so far holds for as long as it was to.
            return None
        except ProtocolError as error:
            raise ProtocolError(CloseCode.UNAUTHENTICATED, error.reason) from None
        if not same_principal(grant.principal, principal):
            raise ProtocolError(CloseCode.UNAUTHENTICATED, "fresh credentials of another principal")
        return grant

    async def _identified(self, handshake: Handshake, auth: Any) -> Grant:
        if self._authenticate is None:
            return Grant(None)
        try:
            with anyio.move_on_after(self._limits.auth_timeout):
                found = await self._authenticate(handshake, auth)
                return _checked(found if isinstance(found, Grant) else Grant(found))
        except RpcError as error:
            if error.code == "permission_denied":
                raise ProtocolError(CloseCode.FORBIDDEN, "forbidden") from None
            if error.code == "unavailable":
                raise UnavailableError from None
            raise ProtocolError(CloseCode.UNAUTHENTICATED, "unauthenticated") from None
        except ProtocolError:
            raise
        except Exception as error:  # noqa: BLE001  (logged)
            everyone.error("authenticate raised; the peer is refused", error=error, secret=True)
            raise ProtocolError(CloseCode.UNAUTHENTICATED, "unauthenticated") from None
        everyone.warning("authenticate took longer than Limits.auth_timeout")
        raise UnavailableError

    # ------------------------------------------------------------ how many

    def enter(
        self, principal: Any, address: str, *, resumes: bool, replaces: bool
    ) -> Callable[[], None]:
        """Count a link that is let in; returns what counts it out again.

        Args:
            principal: Whose it is.
            address: Where it comes from.
            resumes: Whether it belongs to a session that exists: there is room for that another
                time, while a new session would meet the same limit again.
            replaces: Whether that session has another link, which this one ends.

        Raises:
            ProtocolError: There is no room.
        """
        limits = self._limits
        address = bucket_of(address)
        before = 1 if replaces else 0
        if self._links - before >= limits.max_links:
            raise ProtocolError(
                CloseCode.TRY_AGAIN_LATER, "the server has no room; try again later"
            )
        code = CloseCode.TRY_AGAIN_LATER if resumes else CloseCode.LIMIT
        known = principal is not None
        if known and self._by_principal[principal] - before >= limits.max_links_per_principal:
            most = limits.max_links_per_principal
            raise ProtocolError(code, f"more than {most} connections of one principal")
        if address and self._by_address[address] - before >= limits.max_links_per_address:
            most = limits.max_links_per_address
            raise ProtocolError(code, f"more than {most} connections from one address")
        self._links += 1
        self._by_address[address] += 1
        if known:
            self._by_principal.add(principal)

        def leave() -> None:
            self._links -= 1
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]
            if known:
                self._by_principal.remove(principal)

        return leave


def _checked(grant: Grant) -> Grant:
    """A grant that holds for some time at least."""
    if grant.expires_in is not None and not grant.expires_in > 0:
        raise ProtocolError(CloseCode.UNAUTHENTICATED, "the credentials have expired")
    return grant


def expiry(grant: Grant, now: float) -> float:
    """When credentials that were just accepted run out; infinity for never."""
    return math.inf if grant.expires_in is None else now + grant.expires_in


class _Tally:
    """How often each principal occurs; those that cannot be hashed are compared one by one."""

    def __init__(self) -> None:
        self._hashed: Counter[Any] = Counter()
        self._others: list[Any] = []

    def __getitem__(self, principal: Any) -> int:
        try:
            return self._hashed[type(principal), principal]
        except TypeError:
            return sum(same_principal(principal, other) for other in self._others)

    def add(self, principal: Any) -> None:
        try:
            self._hashed[type(principal), principal] += 1
        except TypeError:
            self._others.append(principal)

    def remove(self, principal: Any) -> None:
        """Take one away again, by its identity where it cannot be hashed."""
        try:
            key = type(principal), principal
            self._hashed[key] -= 1
            if not self._hashed[key]:
                del self._hashed[key]
        except TypeError:
            place = next(i for i, other in enumerate(self._others) if other is principal)
            del self._others[place]
