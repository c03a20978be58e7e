"""Authentication: reads the first message of a link, and asks `authenticate` about it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import anyio

from .. import runtime as runtimes
from ..close_codes import CloseCode
from ..errors import ProtocolError, RpcError
from ..interfaces import Handshake
from ..limits import FLOOR_MAX_BATCH, Limits
from ..protocol.codec import SUBPROTOCOLS
from ..protocol.hello import Opening, read_opening
from ..runtime.by_hand import as_fault, never_cancels
from ..runtime.containing import set_off_by_peer
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
    """The result of `authenticate` for credentials that expire, or for a principal with a key.

    Attributes:
        principal: The identity of the peer, any object.
        expires_in: Seconds from now after which the credentials expire. The connection is then
            closed with 4003 (AUTH-3), and the client comes back with fresh credentials, unless it
            has sent such before (`Session.refresh_auth`). None: they hold as long as the
            connection.
        key: A stable name of the principal, for one that is not equal to itself an hour later, such
            as claims with the time at which they were issued. Without a key, strings and whole
            numbers stand for themselves, an object or a mapping goes by its class and its field
            `sub` or `id`, and any other object is compared by equality. `Session.principal_key`
            holds the key.

    Raises:
        TypeError: `expires_in` is no number, or `key` is neither a string nor a whole number; the
            caller's fault.
    """

    principal: Any
    expires_in: float | None = None
    key: str | int | None = None
    _identity: Identity | None = field(default=None, init=False, repr=False, compare=False)

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
        """The principal in a form that can be compared with others."""
        found = self._identity
        if found is None:
            found = Identity(self.principal, self.key)
            # It is computed once: later a function of the principal's might raise.
            object.__setattr__(self, "_identity", found)
        return found


Authenticate: TypeAlias = Callable[[Handshake, Any], Awaitable[Any]]


class UnavailableError(Exception):
    """The peer cannot be authenticated at the moment."""


class Authentication:
    """Authenticates the peers of one server; no other code does.

    Args:
        limits: The server's.
        authenticate: The application's function; None: every peer is let in, with principal None.
        pending: The connections that are not authenticated yet.
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
            ProtocolError: The link has to be closed with its code; the peer's fault.
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
        """Authenticate a peer (HELLO-7).

        Raises:
            ProtocolError: The link has to be closed with its code; no call has begun.
        """
        try:
            return await self._identified(handshake, auth)
        except UnavailableError:
            reason = "the server cannot check credentials at the moment; try again later"
            raise ProtocolError(CloseCode.TRY_AGAIN_LATER, reason) from None

    async def identify_again(
        self, handshake: Handshake, auth: Any, principal: Any, key: str | None
    ) -> Grant | None:
        """Authenticate a known peer anew (AUTH-1); returns None if that is impossible now.

        Raises:
            ProtocolError: 4501, the credentials are refused, or are another principal's.
        """
        try:
            grant = await self._identified(handshake, auth)
        except UnavailableError:
            # The present grant stays in force until its own expiry.
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
                with set_off_by_peer():
                    answer: object = self._authenticate(handshake, auth)
                    if not isinstance(answer, Awaitable):
                        # What it returned and raises is a secret: the log would say TypeError only.
                        everyone.error(
                            "authenticate is not async: write `async def`; the peer is refused",
                            peer=handshake.remote,
                        )
                        raise ProtocolError(CloseCode.UNAUTHENTICATED, "unauthenticated")
                    found = await never_cancels(
                        answer,
                        "authenticate",
                        runtimes.current().is_being_cancelled,
                    )
                return _checked(found if isinstance(found, Grant) else Grant(found))
        except RpcError as error:
            if error.code == "unavailable":
                raise UnavailableError from None
            if error.origin is not None:
                # No code here has said that this peer may read another peer's answer.
                everyone.error(
                    "authenticate raised an error of another session, which crosses on only as "
                    "`raise error.forward()`; the peer is refused",
                    error=error,
                    secret=True,
                    peer=handshake.remote,
                )
                raise ProtocolError(CloseCode.UNAUTHENTICATED, "unauthenticated") from None
            if error.code == "permission_denied":
                raise ProtocolError(CloseCode.FORBIDDEN, _reason(error, "forbidden")) from None
            said = _reason(error, "unauthenticated")
            raise ProtocolError(CloseCode.UNAUTHENTICATED, said) from None
        except ProtocolError:
            raise
        except anyio.get_cancelled_exc_class():
            raise
        except KeyboardInterrupt:
            if not runtimes.current().interrupt():
                raise
            raise ProtocolError(CloseCode.UNAUTHENTICATED, "unauthenticated") from None
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
    """The message of an `RpcError` that `authenticate` raised, cut to fit a close frame."""
    return short_reason(str(error.message)) or otherwise


def _checked(grant: Grant) -> Grant:
    """Check that a grant has not expired; returns it."""
    if grant.expires_in is not None and not grant.expires_in > 0:
        raise ProtocolError(CloseCode.UNAUTHENTICATED, "the credentials have expired")
    try:
        grant.identity  # noqa: B018  (found here, where what the principal raises refuses the peer)
    except BaseException as error:
        fault = as_fault(error, "the sub or id of the principal")
        if fault is error:
            raise
        raise fault from error
    return grant


def expiry(grant: Grant, now: float) -> float:
    """The time at which credentials that were just accepted run out; infinity for never."""
    return math.inf if grant.expires_in is None else now + grant.expires_in
