"""Authentication: the first message of a link, and the verdict of `authenticate` on it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import anyio

from .. import runtime as runtimes
from ..close_codes import CloseCode
from ..errors import ProtocolError, RpcError
from ..interfaces import Handshake
from ..limits import FLOOR_MAX_BATCH, Limits
from ..protocol.codec import SUBPROTOCOLS
from ..protocol.hello import Opening, read_opening
from ..runtime.by_hand import never_cancels
from ..session.first_message import first_message
from ..telemetry.logs import everyone
from ..transport.base import Link, short_reason
from .handshakes import Pending, PendingLinks
from .principals import Identity

__all__ = ["CROWDED", "REVOKED", "Authenticate", "Authentication", "Grant", "expiry"]

REVOKED = "the credentials were revoked"
ANOTHER = (
    "fresh credentials of another principal; if it is the same, return Grant(…, key=…) for both"
)
CROWDED = "too many connections that do not say who they are"


@dataclass(frozen=True, slots=True)
class Grant:
    """What `authenticate` returns for credentials that do not hold for ever.

    Attributes:
        principal: Who the peer is.
        expires_in: Seconds from now for which the credentials hold. The connection is then closed
            with 4003, and the client comes back with fresh ones, unless it has sent such before
            (`Session.refresh_auth`). None: for as long as the connection.
        key: What says who it is, for a principal that is not equal to itself an hour later, such as
            claims with the time at which they were issued. Without it strings and whole numbers
            stand for themselves, an object or a mapping goes by its class and its field `sub` or
            `id`, and anything else is compared by equality. `Session.principal_key` has it.

    Raises:
        TypeError: `expires_in` is no number, or `key` neither a string nor a whole number.
    """

    principal: Any
    expires_in: float | None = None
    key: str | int | None = None

    def __post_init__(self) -> None:
        seconds = self.expires_in
        if seconds is not None and (
            isinstance(seconds, bool) or not isinstance(seconds, (int, float))
        ):
            raise TypeError(f"Grant.expires_in is a number of seconds or None, not {seconds!r}")
        if self.key is not None and type(self.key) not in (str, int):
            raise TypeError(f"Grant.key is a string or a whole number, not {self.key!r}")

    @property
    def identity(self) -> Identity:
        """The principal, as it is compared with others."""
        return Identity(self.principal, self.key)


Authenticate: TypeAlias = Callable[[Handshake, Any], Awaitable[Any]]


class UnavailableError(Exception):
    """Nobody can tell at the moment who the peer is."""


class Authentication:
    """The one place in which a server finds out who its peers are.

    Args:
        limits: The server's.
        authenticate: Who a peer is; None: everybody is let in, as nobody in particular.
        pending: The connections of which it is not known yet.
    """

    def __init__(
        self, limits: Limits, authenticate: Authenticate | None, pending: PendingLinks
    ) -> None:
        self._pending = pending
        self._limits = limits
        self._authenticate = authenticate

    async def opening(self, link: Link, pending: Pending, now: float) -> Opening:
        """Read a link's hello, within the time that is left for it (HELLO-6, HELLO-9).

        Raises:
            ProtocolError: The link has to be closed with its code.
            LinkClosed: The link is gone.
        """
        if not self._pending.locate(pending, link.handshake.address, now):
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

    async def identify_again(
        self, handshake: Handshake, auth: Any, principal: Any, key: str | None
    ) -> Grant | None:
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
        if not grant.identity.is_same(principal, key):
            raise ProtocolError(CloseCode.UNAUTHENTICATED, ANOTHER)
        return grant

    async def _identified(self, handshake: Handshake, auth: Any) -> Grant:
        if self._authenticate is None:
            return Grant(None)
        try:
            with anyio.move_on_after(self._limits.auth_timeout):
                found = await never_cancels(
                    self._authenticate(handshake, auth),
                    "authenticate",
                    runtimes.current().is_being_cancelled,
                )
                return _checked(found if isinstance(found, Grant) else Grant(found))
        except RpcError as error:
            if error.code == "permission_denied":
                raise ProtocolError(CloseCode.FORBIDDEN, _reason(error, "forbidden")) from None
            if error.code == "unavailable":
                raise UnavailableError from None
            said = _reason(error, "unauthenticated")
            raise ProtocolError(CloseCode.UNAUTHENTICATED, said) from None
        except ProtocolError:
            raise
        except (KeyboardInterrupt, anyio.get_cancelled_exc_class()):
            raise
        except BaseException as error:  # noqa: BLE001  (logged; no peer ends a server by what it sends)
            everyone.error(
                "authenticate raised; the peer is refused",
                error=error,
                secret=True,
                peer=handshake.remote,
            )
            raise ProtocolError(CloseCode.UNAUTHENTICATED, "unauthenticated") from None
        everyone.warning("authenticate took longer than Limits.auth_timeout", peer=handshake.remote)
        raise UnavailableError


def _reason(error: RpcError[Any], otherwise: str) -> str:
    """What an `RpcError` of `authenticate` says to the peer, as it fits a close frame."""
    return short_reason(str(error.message)) or otherwise


def _checked(grant: Grant) -> Grant:
    """A grant that holds for some time at least."""
    if grant.expires_in is not None and not grant.expires_in > 0:
        raise ProtocolError(CloseCode.UNAUTHENTICATED, "the credentials have expired")
    return grant


def expiry(grant: Grant, now: float) -> float:
    """When credentials that were just accepted run out; infinity for never."""
    return math.inf if grant.expires_in is None else now + grant.expires_in
