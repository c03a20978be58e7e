"""Keeps a connecting session on a link: dials, serves the link until it is lost, dials again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Protocol

import anyio

from ..backoff import LONGEST, Backoff
from ..close_codes import CloseCode, may_reconnect
from ..errors import ConnectError, ConnectionLost, WsrpcError
from ..runtime import Nursery
from ..transport.base import Link
from .live_session import LiveSession
from .wire_session import WireSession

__all__ = ["Dial", "Reconnector"]

# Attempts to get back to the server that has the session, before another address is tried.
FAITHFUL = 3


class Dial(Protocol):
    """How to get a link."""

    def open(self, address: int) -> AbstractAsyncContextManager[Link]:
        """A link to one of the addresses, closed on leaving.

        Args:
            address: Which, counted on without end; taken modulo how many there are.

        Raises:
            ConnectError: It did not come about; the message says how far it got.
        """
        ...

    async def addresses(self) -> int:
        """Find out the addresses, anew before each attempt; returns how many there are."""
        ...


class Reconnector:
    """Sees to it that a session has links, for as long as it goes on.

    Args:
        session: The session.
        dial: How to get a link.
        auth: Credentials, or an async function that gives them, asked before each attempt.
        nursery: The parent of the tasks that do it.
        reconnect: Whether to come back at all.
        backoff: How long to wait before each attempt.
    """

    def __init__(
        self,
        session: LiveSession,
        dial: Dial,
        auth: Any | Callable[[], Awaitable[Any]],
        nursery: Nursery,
        *,
        reconnect: bool,
        backoff: Backoff | None = None,
    ) -> None:
        self._session = session
        self._dial = dial
        self._auth = auth
        self._nursery = nursery
        self._reconnect = reconnect
        self._backoff = backoff or Backoff()
        # Where the next new session of the wire begins, counted on without end; and of how many.
        self._address = 0
        self._addresses = 1
        self._at_once = False
        # Servers that asked to be left alone, by address, and until when.
        self._away: dict[int, float] = {}

    def begin(self) -> None:
        """Make the first connection; whether that works, `Session.ready` tells."""
        self._session.supplied_by(self)
        self._session.wire.comes_back = self._reconnect
        self._nursery.spawn(self._begin, self._session.wire)

    def goes_on(self, error: ConnectionLost) -> bool:
        if not self._reconnect or not may_reconnect(error.close_code):
            return False
        if error.close_code == CloseCode.CANNOT_RESUME:
            # The server is there, and told us at a time of our choosing: no need to wait again.
            self._backoff.reset()
            self._at_once = True
        return True

    def moves_on(self, reconnect_after: float) -> bool:
        if not self._reconnect:
            return False
        until = self._session.runtime.now() + reconnect_after
        self._away[self._address % self._addresses] = until
        # Alone it is the address of several servers, or of one that will be back.
        self._at_once = self._addresses > 1
        self._address += 1
        return True

    def keep(self, wire: WireSession) -> None:
        at_once, self._at_once = self._at_once, False
        self._nursery.spawn(partial(self._keep, wire, self._address, at_once=at_once))

    async def credentials(self, value: Any = None) -> Any:
        if not callable(self._auth):
            if value is not None:
                self._auth = value
            return self._auth
        ask: Any = self._auth
        return await ask() if value is None else value

    async def _begin(self, wire: WireSession) -> None:
        try:
            error = await self._first(wire)
            if error is not None:
                self._session.give_up(error)
            elif not wire.over:
                await self._keep(wire, self._address, at_once=False)
        except Exception as error:  # noqa: BLE001  (raised again where connect() is entered)
            self._session.give_up(error)

    async def _first(self, wire: WireSession) -> Exception | None:
        """Try each address once; the error of the last, or None once there was a connection."""
        error: Exception | None = None
        tried = 0
        while tried == 0 or tried < self._addresses:
            tried += 1
            error = await self._one_link(wire, self._address)
            if error is None or not isinstance(error, (ConnectError, OSError)):
                return error
            self._address += 1
        return error

    async def _keep(self, wire: WireSession, address: int, *, at_once: bool) -> None:
        """Find one link after another until this session of the wire is over."""
        failures = 0
        while not wire.over:
            # What there is to resume is at this address and no other, whatever its server asked.
            resumes = wire.endpoint.resumable
            if not resumes:
                address = self._open_to_all(address)
            await anyio.sleep(self._delay(None if resumes else address, at_once=at_once))
            at_once = False
            if wire.over:
                return
            try:
                error = await self._one_link(wire, address)
            except Exception as unexpected:  # noqa: BLE001  (logged there)
                self._session.give_up(unexpected)
                return
            if error is None:
                failures = 0
                continue
            failures += 1
            if not resumes:
                address += 1
            elif wire.endpoint.peer_draining:
                wire.lose(
                    CloseCode.CONNECTION_LOST,
                    f"the server was about to go, and takes nobody back: {error}",
                )
            elif failures >= FAITHFUL and self._addresses > 1:
                self._address = address + 1
                wire.lose(CloseCode.CONNECTION_LOST, f"the server cannot be reached: {error}")

    def _open_to_all(self, address: int) -> int:
        """The first address from this one on that did not ask to be left alone; else this one."""
        for other in range(address, address + self._addresses):
            if self._floor(other) <= 0:
                return other
        return address

    def _floor(self, address: int) -> float:
        """Seconds that the server at this address still wants to be left alone."""
        return self._away.get(address % self._addresses, 0.0) - self._session.runtime.now()

    def _delay(self, address: int | None, *, at_once: bool) -> float:
        """Seconds to wait before the next attempt (RETRY-2)."""
        floor = 0.0 if address is None else self._floor(address)
        if floor > 0:
            return self._backoff.next(floor)
        return 0.0 if at_once else self._backoff.next()

    async def _one_link(self, wire: WireSession, address: int) -> Exception | None:
        """Serve one link until it is gone; the error, where none came about."""
        endpoint = wire.endpoint
        before = endpoint.received + endpoint.acked
        try:
            auth = await self.credentials()
        except Exception as error:  # noqa: BLE001  (raised on entering, a failure later)
            return error
        try:
            self._addresses = await self._dial.addresses()
            async with self._dial.open(address) as link:
                if wire.over:
                    return None
                if wire is self._session.wire:
                    self._address = address
                opened = self._session.runtime.now()
                await wire.connect(link, auth)
        except (WsrpcError, OSError) as error:
            return error
        carried = endpoint.received + endpoint.acked > before
        if carried or self._session.runtime.now() >= opened + LONGEST:
            # It was of use, if only to one who had nothing to say.
            self._backoff.reset()
        return None
