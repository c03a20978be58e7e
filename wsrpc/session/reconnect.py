"""Keeps a connecting session on a link: dials, serves the link until it is lost, dials again."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from inspect import isawaitable
from typing import Any, Protocol

import anyio

from .. import runtime as runtimes
from ..backoff import LONGEST, Backoff
from ..close_codes import CloseCode, may_reconnect
from ..engine.failures import leaves
from ..errors import ConnectError, ConnectionLost, WsrpcError
from ..runtime import Nursery
from ..runtime.by_hand import as_fault, text_of
from ..telemetry.logs import one_line
from ..transport.base import Link
from .live_session import LiveSession
from .wire_session import GOODBYE, WireSession

__all__ = ["AskedError", "Dial", "Reconnect", "Reconnector", "asked"]

# Refusals of credentials in a row that are borne where a function gives fresh ones each time.
REFUSALS = 3

REFUSED = frozenset((CloseCode.UNAUTHENTICATED, CloseCode.FORBIDDEN))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnect:
    """How a client comes back after a lost connection, for `connect(reconnect=…)`.

    Attributes:
        attempts: Attempts in a row that may fail before the session ends; None: any number.
        max_delay: Seconds that it waits at most for the next attempt at one address, unless the
            server asks for more.
        give_up_after: Seconds without a connection after which the session ends; None: never.

    Raises:
        ValueError: An argument is not positive; the caller's fault.
    """

    attempts: int | None = None
    max_delay: float = LONGEST
    give_up_after: float | None = None

    def __post_init__(self) -> None:
        given = {"attempts": self.attempts, "give_up_after": self.give_up_after}
        wanted = {name: value for name, value in given.items() if value is not None}
        for name, value in {"max_delay": self.max_delay, **wanted}.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ValueError(f"Reconnect.{name} is a number above 0, not {value!r}")
        if self.attempts is not None and not isinstance(self.attempts, int):
            raise ValueError(f"Reconnect.attempts is a whole number, not {self.attempts!r}")


class Dial(Protocol):
    """How to get a link.

    Attributes:
        renews: Whether a function of the application gives the headers or URL, so that a refusal
            may not recur.
    """

    @property
    def renews(self) -> bool: ...

    def open(self, address: int) -> AbstractAsyncContextManager[Link]:
        """A link to one of the addresses, closed on leaving.

        Args:
            address: The number of the address, counted on without end; taken modulo the number of
                addresses.

        Raises:
            ConnectError: No link came about; the message says how far the attempt got.
        """
        ...

    async def addresses(self) -> int:
        """Find out the addresses, anew before each attempt; returns their number.

        Raises:
            AskedError: A function of the application failed.
        """
        ...


class AskedError(Exception):
    """A function of the application, which gives a URL, headers or credentials, failed.

    Attributes:
        name: The argument of `connect` that it is.
        error: The exception that it raised, or one that says why its result is no good.
        kind: The name of the class of the exception that it raised.
    """

    def __init__(
        self, name: str, error: Exception, raised: type[BaseException] | None = None
    ) -> None:
        said = text_of(error)
        super().__init__(said if raised else f"{name}= raised {type(error).__name__}: {said}")
        self.name = name
        self.error = error
        self.kind = (raised or type(error)).__name__


async def asked(name: str, ask: Callable[[], Any], timeout: float) -> Any:
    """Call a function of the application, within the time for one attempt to connect.

    Args:
        name: The argument of `connect` that it is.
        ask: The function, async or not.
        timeout: Seconds.

    Raises:
        AskedError: It raised, or took too long.
    """
    with anyio.move_on_after(timeout):
        try:
            found = ask()
            return await found if isawaitable(found) else found
        except Exception as error:
            raise AskedError(name, error) from error
        except BaseException as error:
            runtime = runtimes.current()
            cancelled = runtime.cancelled_class()
            is_cancellation = any(isinstance(leaf, cancelled) for leaf in leaves(error))
            if is_cancellation and runtime.is_being_cancelled():
                raise
            for leaf in leaves(error):
                if isinstance(leaf, (KeyboardInterrupt, SystemExit)):
                    # The application ends its own process. In a group, asyncio would not see it.
                    raise leaf from None
            fault = as_fault(error, f"{name}=")
            if not isinstance(fault, Exception):
                fault = RuntimeError(f"{name}= raised {type(error).__name__}: {text_of(error)}")
            raise AskedError(name, fault, type(error)) from error
    late = f"{name}= did not return within {timeout:g} s (Limits.connect_timeout)"
    raise AskedError(name, ConnectError(late))


class _Way:
    """Where and when a wire session is to get its next link.

    Attributes:
        address: The number of the address, counted on without end.
        when: Seconds on the loop's clock. The time of the next attempt.
        opened: Whether the last link to it got as far as both hellos.
        hopeless: The reason why no other attempt shall follow, or None.
        began: Seconds on the loop's clock. The time at which the last link opened.
        before: The numbers of frames that had been received and acked by then.
    """

    __slots__ = ("address", "before", "began", "hopeless", "opened", "when")

    def __init__(self, address: int, when: float) -> None:
        self.address = address
        self.when = when
        self.opened = False
        self.hopeless: Exception | None = None
        self.began = 0.0
        self.before = 0


class Reconnector:
    """Gets links for a session for as long as it goes on.

    Args:
        session: The session.
        dial: How to get a link.
        auth: Credentials, or a function that gives them, asked before each attempt.
        nursery: The parent of its tasks.
        reconnect: Whether and how to come back after a lost link.
        wait: Seconds for which the first connection is tried again.
        backoff: Makes the `Backoff` of one address.
    """

    def __init__(
        self,
        session: LiveSession,
        dial: Dial,
        auth: Any | Callable[[], Awaitable[Any]],
        nursery: Nursery,
        *,
        reconnect: bool | Reconnect,
        wait: float = 0.0,
        backoff: Callable[[], Backoff] | None = None,
    ) -> None:
        self._session = session
        self._dial = dial
        self._auth = auth
        self._nursery = nursery
        self._policy = Reconnect() if isinstance(reconnect, bool) else reconnect
        self._returns = bool(reconnect)
        self._patient_until = session.runtime.now() + wait
        self._waits = wait > 0
        self._make_backoff = backoff or partial(Backoff, longest=self._policy.max_delay)
        # The number of addresses, and the state of each by its number.
        self._addresses = 1
        self._backoffs: dict[int, Backoff] = {}
        self._due: dict[int, float] = {}
        self._away: dict[int, float] = {}
        # The address at which the present wire session is, or was last.
        self._address = 0
        self._ways: dict[WireSession, _Way] = {}
        self._met = False
        self._over = False
        # Since the last connection: the failed attempts, the refusals of credentials in a row among
        # them, the time at which it was lost, and the cause that was logged last.
        self._failed = 0
        self._refusals = 0
        self._since: float | None = None
        self._told = ""
        # The reason why there is no connection at present.
        self._trouble: Exception | None = None
        self._next = _Way(0, 0.0)

    def begin(self) -> None:
        """Make the first connection; `Session.ready` tells whether that works."""
        self._session.supplied_by(self)
        self._start(self._session.wire, _Way(0, 0.0))

    def _start(self, wire: WireSession, way: _Way) -> None:
        wire.comes_back = self._returns
        wire.hub.trouble = self._trouble
        self._ways[wire] = way
        self._nursery.spawn(self._keep, wire, way)

    async def credentials(self, value: Any = None) -> Any:
        if not callable(self._auth):
            if value is not None:
                self._auth = value
            return self._auth
        if value is not None:
            return value
        try:
            return await asked("auth", self._auth, self._session.limits.connect_timeout)
        except AskedError as failed:
            raise failed.error from None

    # ------------------------------------------------------------ reports of the session

    def opened(self, wire: WireSession) -> None:
        """Both hellos of a link are through."""
        if wire in self._ways:
            self._ways[wire].opened = True
        if wire is self._session.wire:
            self._met = True
            self._failed = self._refusals = 0
            self._since, self._told = None, ""
            self._trouble = wire.hub.trouble = None

    def lost(self, wire: WireSession, error: ConnectionLost) -> None:
        """A link is lost, and its session waits to be resumed."""
        way = self._ways[wire]
        if way.opened:
            self._lost_at(way, wire, error)
        else:
            self._note(wire, way, error)

    def goes_on(self, error: ConnectionLost) -> bool:
        wire = self._session.wire
        way = self._ways.pop(wire)
        code = error.close_code
        if self._over or way.hopeless or not (self._returns or not self._met):
            return False
        refused = code in REFUSED and not way.opened
        if not may_reconnect(code) and not (refused and self._renews()):
            return False
        if code == CloseCode.CANNOT_RESUME and wire.endpoint.established:
            # The server is there, and answered after we had waited: no need to wait again.
            self._backoff(way.address).reset()
            way.when = 0.0
            return self._hold(way)
        if way.opened:
            self._lost_at(way, wire, error)
            return self._hold(way)
        self._note(wire, way, error)
        return way.hopeless is None and self._hold(way)

    def moves_on(self, reconnect_after: float) -> bool:
        if not self._returns:
            return False
        now = self._session.runtime.now()
        here = self._address
        floor = reconnect_after or None
        self._away[here % self._addresses] = now + reconnect_after
        # A single address stands for several servers, or for one that will be back.
        self._due[here % self._addresses] = now + self._backoff(here).next(floor)
        way = _Way(here, 0.0)
        self._choose(way, here + 1, resumes=False)
        return self._hold(way)

    def keep(self, wire: WireSession) -> None:
        self._start(wire, self._next)

    def outlook(self, wire: WireSession) -> tuple[int, float | None]:
        """Failed attempts since the last connection, and seconds until the next attempt."""
        way = self._ways.get(wire)
        if way is None or way.hopeless is not None:
            return self._failed, None
        return self._failed, max(0.0, way.when - self._session.runtime.now())

    def _hold(self, way: _Way) -> bool:
        """Set where the next wire session begins; `keep` is called with it at once."""
        self._next = _Way(way.address, way.when)
        return True

    # ------------------------------------------------------------ the search

    async def _keep(self, wire: WireSession, way: _Way) -> None:
        """Find one link after another until this wire session is over."""
        try:
            await self._search(wire, way)
        finally:
            self._ways.pop(wire, None)

    async def _search(self, wire: WireSession, way: _Way) -> None:
        while not wire.over:
            delay = way.when - self._session.runtime.now()
            await anyio.sleep(max(0.0, delay))
            if wire.over:
                return
            way.opened = False
            try:
                error = await self._one_link(wire, way)
            except Exception as unexpected:  # noqa: BLE001  (logged there)
                self._over = True
                self._session.give_up(unexpected)
                return
            if wire.over:
                return
            if error is not None:
                self._note(wire, way, error)
                if wire is self._session.wire:
                    told = error.error if isinstance(error, AskedError) else error
                    self._session.tried(f"{error}", told, *self.outlook(wire))
            if way.hopeless is not None:
                self._give_up(wire, way, way.hopeless)
                return

    async def _one_link(self, wire: WireSession, way: _Way) -> Exception | None:
        """Serve one link until it is gone; returns the error if no link came about."""
        limits = self._session.limits
        try:
            auth = self._auth
            if callable(auth):
                auth = await asked("auth", auth, limits.connect_timeout)
            self._addresses = await self._dial.addresses()
            async with self._dial.open(way.address) as link:
                if wire.over:
                    return None
                if wire is self._session.wire:
                    self._address = way.address
                    self._session.handshake = link.handshake
                way.began = self._session.runtime.now()
                way.before = wire.endpoint.received + wire.endpoint.acked
                try:
                    await wire.connect(link, auth)
                except ValueError as error:
                    if callable(self._auth):
                        return AskedError("auth", error)
                    # The error would recur with the next link.
                    wire.lose(CloseCode.NORMAL, str(error))
                except anyio.get_cancelled_exc_class():
                    if not way.opened:
                        with anyio.move_on_after(GOODBYE, shield=True):
                            await link.close(CloseCode.NORMAL)
                        link.abort()
                    raise
        except (WsrpcError, OSError, AskedError) as error:
            return error
        return None

    def _lost_at(self, way: _Way, wire: WireSession, error: ConnectionLost) -> None:
        """Plan the next link after a loss: the link's own server is tried first, after a delay."""
        now = self._session.runtime.now()
        endpoint = wire.endpoint
        if endpoint.received + endpoint.acked > way.before or now >= way.began + LONGEST:
            # The link was of use, even if the application had nothing to send.
            self._backoff(way.address).reset()
        if wire is self._session.wire:
            self._since = now
            self._trouble = wire.hub.trouble = error
        delay = self._backoff(way.address).next()
        # If that attempt is refused, the next address is tried at once, which should not be late
        # either.
        way.when = now + (delay if self._addresses == 1 else delay / 2)
        self._due[way.address % self._addresses] = way.when
        if not wire.endpoint.resumable and self._floor(way.address) > 0:
            self._choose(way, way.address + 1, resumes=False)

    def _note(self, wire: WireSession, way: _Way, error: Exception) -> None:
        """An attempt has failed: decide whether, where and when to try again (RETRY-2)."""
        now = self._session.runtime.now()
        if wire is not self._session.wire:
            # The server drains: no server takes this wire session back.
            why = f"the server was about to go, and takes nobody back: {error}"
            way.hopeless = ConnectError(why)
            return
        self._failed += 1
        self._since = now if self._since is None else self._since
        trouble = error.error if isinstance(error, AskedError) else error
        self._trouble = wire.hub.trouble = trouble
        asked_to_wait = getattr(error, "retry_after", None)
        if asked_to_wait:
            self._away[way.address % self._addresses] = now + asked_to_wait
        due = now + self._backoff(way.address).next(asked_to_wait or None)
        if not asked_to_wait:
            # The last attempt comes when the time is up, not when the next delay would exceed it.
            due = min(due, max(now, self._until()))
        self._due[way.address % self._addresses] = due
        self._choose(way, way.address + 1, resumes=wire.endpoint.resumable)
        if _refuses_credentials(error):
            self._refusals += 1
        else:
            self._refusals = 0
        if wire.endpoint.peer_draining or not self._may_go_on(error, way.when):
            way.hopeless = error
        self._say(error, None if way.hopeless is not None else max(0.0, way.when - now))

    def _may_go_on(self, error: Exception, when: float) -> bool:
        """Whether another attempt is to follow a failed one."""
        if not self._met:
            if isinstance(error, AskedError) and not self._waits:
                return False
            refused = _refuses_credentials(error)
            if not self._waits:
                return self._failed < self._addresses and not refused
            return self._in_time(when) and (not refused or self._renews())
        policy = self._policy
        if not self._returns:
            return False
        if _refuses_credentials(error) and not self._renews():
            return False
        if policy.attempts is not None and self._failed >= policy.attempts:
            return False
        return self._in_time(when)

    def _until(self) -> float:
        """The time of the last attempt, on the runtime's clock."""
        if not self._met:
            return self._patient_until if self._waits else math.inf
        most = self._policy.give_up_after
        return math.inf if most is None or self._since is None else self._since + most

    def _in_time(self, when: float) -> bool:
        until = self._until()
        return self._session.runtime.now() < until and when <= until

    def _renews(self) -> bool:
        """Whether the next attempt may bring other credentials."""
        return (callable(self._auth) or self._dial.renews) and self._refusals < REFUSALS

    def _give_up(self, wire: WireSession, way: _Way, error: Exception) -> None:
        cause = error.error if isinstance(error, AskedError) else error
        if not self._met:
            self._over = True
            self._session.give_up(cause)
            return
        if wire is self._session.wire and not wire.endpoint.peer_draining:
            self._over = True
        code = CloseCode.CONNECTION_LOST
        if _refuses_credentials(error):
            code = CloseCode.FORBIDDEN if _status(error) == 403 else CloseCode.UNAUTHENTICATED
        what = f"{error}"
        if self._over and not _refuses_credentials(error):
            what = f"gave up after {self._failed} failed attempts to come back; the last: {error}"
        wire.lose(code, "", what=what, cause=cause)

    # ------------------------------------------------------------ addresses and delays

    def _choose(self, way: _Way, first: int, *, resumes: bool) -> None:
        """Choose the next address, from `first` on: a due one, or the one that is due first."""
        now = self._session.runtime.now()

        def due(address: int) -> float:
            number = address % self._addresses
            # A server that asked to be left alone still takes back the sessions that it has.
            away = 0.0 if resumes else self._away.get(number, 0.0)
            return max(now, self._due.get(number, 0.0), away)

        way.address = min(range(first, first + self._addresses), key=due)
        way.when = due(way.address)

    def _backoff(self, address: int) -> Backoff:
        number = address % self._addresses
        if number not in self._backoffs:
            self._backoffs[number] = self._make_backoff()
        return self._backoffs[number]

    def _floor(self, address: int) -> float:
        """Seconds for which the server at this address still asks to be left alone."""
        return self._away.get(address % self._addresses, 0.0) - self._session.runtime.now()

    def _say(self, error: Exception, seconds: float | None) -> None:
        """Log one line whenever the cause changes, without any text of a stranger."""
        if not self._met and not self._waits:
            # The error goes to the caller that enters `connect`.
            return
        text = _for_logs(error)
        if text == self._told:
            return
        self._told = text
        then = "gives up" if seconds is None else f"tries again in {seconds:.1f} s"
        self._session.wire.hub.log.warning(
            "%r has no connection, and %s (attempt %d): %s", self._session, then, self._failed, text
        )


def _status(error: Exception) -> int | None:
    return error.status if isinstance(error, ConnectError) else None


def _refuses_credentials(error: Exception) -> bool:
    if isinstance(error, ConnectionLost):
        return error.close_code in REFUSED
    return _status(error) in (401, 403)


def _for_logs(error: Exception) -> str:
    """The cause of a failure, without text of a server or of a function with credentials."""
    if isinstance(error, AskedError):
        return f"{error.name}= raised {error.kind}"
    if isinstance(error, (ConnectError, ConnectionLost)) and error.close_code is not None:
        return f"the server closed the connection with {error.close_code}"
    return one_line(str(error) or type(error).__name__)


def checked_headers(found: Any) -> dict[str, str]:
    """Check the value of `headers=`, or the result of the function given there.

    Raises:
        TypeError: It is no mapping of strings; the application's fault.
        ValueError: A name or a value cannot be in a header (RFC 9110, 5.5 and 5.6.2); the
            application's fault.
    """
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise TypeError(f"headers= takes a mapping of names to values, not {type(found).__name__}")
    headers = {str(name): str(value) for name, value in found.items()}
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"headers=: {name!r} cannot be the name of a header")
        if _CONTROL.search(value):
            # The value may be a secret, so the error does not show it.
            raise ValueError(
                f"headers=: the value of {name!r} has a line break or another control character"
            )
    return headers


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
