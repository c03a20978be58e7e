"""Pairs of connected sessions without a socket, with faults on demand.

A test can break, stall and delay the connection of a `connected_pair`, at once or at a certain
frame:

    pair = connected_pair([Shop()])
    pair.cut(before="result")       # the order goes through, the receipt never arrives
    async with pair as (server, client):
        with pytest.raises(wsrpc.ConnectionLost):
            await client.clientize(Shop).order("tea")

A frame is named by its index or by its name in protocol.md ("call", "message", "result", …). Frames
are counted from 0 as they arrive, those of both sides together, over all links of the pair. So a
test can try each place in turn, without knowing how many there are:

    for index in itertools.count():
        pair = connected_pair([Shop()], reconnect=True)
        async with pair as (server, client):
            pair.cut(before=pair.frames() + index)      # and again with after=
            ...
        if not pair.cuts:
            break

On trio, time can be virtual: under `trio.testing.MockClock(autojump_threshold=0)` every wait,
deadlines and delays included, is over at once, and the clock tells how long it would have taken.
Threads are not part of that: while a sync method runs in one, virtual time may fly past it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Literal

from .. import runtime as runtimes
from ..backoff import Backoff
from ..context import Authorize
from ..contract.description import Reflection, describe
from ..contract.expose import expose_all
from ..handling.target import MethodEntry, entries_of
from ..interfaces import Interceptor, Session
from ..limits import Limits
from ..options import checked_interceptors, checked_limits, one_of
from ..protocol.codec import CODECS
from ..protocol.endpoint import Endpoint
from ..runtime import Nursery
from ..server.server import Server
from ..session.live_session import LiveSession
from ..session.reconnect import Reconnector
from ..transport.base import Link
from .faults import Faults
from .steady import Steady

__all__ = ["connected_pair"]


class connected_pair(Faults):
    """Two sessions joined in memory: `async with connected_pair([Server()], [Client()]) as (a, b)`.

    The first session is the accepting side and exposes `controllers`; the second is the connecting
    side and exposes `client_controllers`. All parts except the socket are real: encoding,
    validation, credit, deadlines, cancellation.

    Args:
        controllers: The controllers that the accepting side exposes.
        client_controllers: The controllers that the connecting side exposes.
        codec: "json" or "msgpack".
        limits: Bounds of the accepting side, and of the connecting side too if that has none.
        client_limits: Bounds of the connecting side.
        interceptors: Run around every call that the accepting side handles.
        client_interceptors: Run around every call that the connecting side makes.
        authorize: Asked before each call that the accepting side handles.
        client_authorize: Asked before each call that the connecting side handles.
        debug: Whether unexpected errors cross with text and traceback, both ways.
        principal: The connecting side's principal for the accepting side's handlers; a `Grant` if
            it expires.
        reconnect: Whether the connecting side comes back after a lost connection, as `connect` does.
        reconnect_delay: Seconds that it then stays away each time, in place of a random delay.
    """

    def __init__(
        self,
        controllers: Sequence[Any] = (),
        client_controllers: Sequence[Any] = (),
        *,
        codec: Literal["json", "msgpack"] = "json",
        limits: Limits | None = None,
        client_limits: Limits | None = None,
        interceptors: Sequence[Interceptor] = (),
        client_interceptors: Sequence[Interceptor] = (),
        authorize: Authorize | None = None,
        client_authorize: Authorize | None = None,
        debug: bool = False,
        principal: Any = None,
        reconnect: bool = False,
        reconnect_delay: float = 0.0,
    ) -> None:
        limits = checked_limits(limits)
        self._server = Server(
            controllers,
            limits=limits if reconnect else replace(limits, resume_window=0),
            authenticate=self._authenticate,
            authorize=authorize,
            interceptors=interceptors,
            debug=debug,
        )
        self._codec = CODECS[one_of("codec", codec, tuple(CODECS))]
        self._client_limits = checked_limits(client_limits or limits)
        self._client_entries = _entries(client_controllers)
        self._interceptors = checked_interceptors(client_interceptors)
        self._authorize = client_authorize
        self._debug = debug
        self._principal = principal
        self._reconnect = reconnect
        self._backoff: Callable[[], Backoff] = partial(Steady, reconnect_delay)
        super().__init__()
        self._sessions: list[LiveSession] = []
        self._nursery: Nursery | None = None

    async def __aenter__(self) -> tuple[Session, Session]:
        runtime = runtimes.current()
        self._nursery = await runtime.open_nursery()
        client = LiveSession(
            partial(Endpoint, "connecting", self._codec, self._client_limits, agent="connecting"),
            runtime,
            self._nursery,
            entries=self._client_entries,
            authorize=self._authorize,
            interceptors=self._interceptors,
            debug=self._debug,
        )
        self._sessions = [client]
        Reconnector(
            client,
            self,
            None,
            self._nursery,
            reconnect=self._reconnect,
            backoff=self._backoff,
        ).begin()
        try:
            await client.ready()
            server = self._server.sessions[client.id]
        except BaseException:
            await self._close()
            raise
        assert isinstance(server, LiveSession)
        self._sessions.append(server)
        return server, client

    @property
    def renews(self) -> bool:
        """See `Dial.renews`."""
        return False

    async def addresses(self) -> int:
        """See `Dial.addresses`."""
        return 1

    @asynccontextmanager
    async def open(self, address: int) -> AsyncIterator[Link]:
        """See `Dial.open`; the connection has the same faults."""
        assert self._nursery is not None
        accepting, connecting = self.link_pair(self._codec.subprotocol)
        self._nursery.spawn(self._server.acceptor().serve, accepting)
        yield connecting

    async def _authenticate(self, handshake: object, auth: object) -> Any:
        return self._principal

    # ------------------------------------------------------------ the end

    async def _close(self) -> None:
        assert self._nursery is not None
        try:
            await runtimes.current().to_the_end(self._end)
        finally:
            await self._nursery.close()

    async def _end(self) -> None:
        if self.stalled:
            # Neither side would hear that the other session closes.
            self.abort()
        for session in self._sessions:
            await session.aclose()
            await session.idle()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close()


def _entries(controllers: Sequence[Any]) -> dict[str, MethodEntry]:
    own = expose_all(controllers)
    reflection = Reflection(lambda: describe(own))
    return entries_of(expose_all(controllers, builtin=[reflection]), ())
