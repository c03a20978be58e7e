"""Keeps a connecting session on a link: dials, serves the link until it is lost, dials again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import anyio

from .backoff import Backoff
from .errors import ConnectError, ConnectionLost, WsrpcError
from .protocol.link import may_reconnect
from .runtime import Nursery
from .session import Session
from .transport.base import Link
from .wire import WireSession

__all__ = ["Dial", "Keeper"]

CANNOT_RESUME = 4010

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


class Keeper:
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
        session: Session,
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
        self._address = 0
        self._at_once = False

    def begin(self) -> None:
        """Make the first connection; whether that works, `Session.ready` tells."""
        self._session._keeper = self
        self._session._wire.comes_back = self._reconnect
        self._nursery.spawn(self._begin, self._session._wire)

    def goes_on(self, error: ConnectionLost) -> bool:
        if not self._reconnect or not may_reconnect(error.close_code):
            return False
        if error.close_code == CANNOT_RESUME:
            # The server is there, and told us at a time of our choosing: no need to wait again.
            self._backoff.reset()
            self._at_once = True
        return True

    def keep(self, wire: WireSession) -> None:
        self._nursery.spawn(self._keep, wire)

    async def _begin(self, wire: WireSession) -> None:
        try:
            error = await self._first(wire)
            if error is not None:
                self._session.give_up(error)
            elif not wire.over:
                await self._keep(wire)
        except Exception as error:  # noqa: BLE001  (raised again where connect() is entered)
            self._session.give_up(error)

    async def _first(self, wire: WireSession) -> Exception | None:
        """Try each address once; the error of the last, or None once there was a connection."""
        error: Exception | None = None
        tried = 0
        while tried == 0 or tried < await self._dial.addresses():
            tried += 1
            error = await self._one_link(wire)
            if error is None or not isinstance(error, (ConnectError, OSError)):
                return error
            self._address += 1
        return error

    async def _keep(self, wire: WireSession) -> None:
        """Find one link after another until this session of the wire is over."""
        failures = 0
        while not wire.over:
            if not self._at_once:
                await anyio.sleep(self._backoff.next())
            self._at_once = False
            if wire.over:
                return
            try:
                error = await self._one_link(wire)
            except Exception as unexpected:  # noqa: BLE001  (logged there)
                self._session.give_up(unexpected)
                return
            if error is None:
                failures = 0
                continue
            failures += 1
            if not wire.endpoint.resumable:
                self._address += 1
            elif failures >= FAITHFUL and await self._dial.addresses() > 1:
                self._address += 1
                wire.lose(1006, f"the server cannot be reached: {error}")

    async def _one_link(self, wire: WireSession) -> Exception | None:
        """Serve one link until it is gone; the error, where none came about."""
        endpoint = wire.endpoint
        before = endpoint.received + endpoint.acked
        auth = self._auth
        if callable(auth):
            ask: Any = auth
            try:
                auth = await ask()
            except Exception as error:  # noqa: BLE001  (raised on entering, a failure later)
                return error
        try:
            await self._dial.addresses()
            async with self._dial.open(self._address) as link:
                if wire.over:
                    return None
                await wire.connect(link, auth)
        except (WsrpcError, OSError) as error:
            return error
        if endpoint.received + endpoint.acked > before:
            self._backoff.reset()
        return None
