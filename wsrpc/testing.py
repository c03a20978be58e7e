"""For tests of programs that use wsrpc: connected sessions without a socket."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal

from . import runtime as runtimes
from .contract import Reflection, describe
from .controller import expose_all
from .dispatch import Target, targets_of
from .interceptor import Interceptor
from .limits import Limits
from .protocol.codec import CODECS
from .protocol.endpoint import Endpoint
from .runtime import Nursery
from .session import Session
from .transport.memory import MemoryLink, memory_link_pair

__all__ = ["connected_pair"]


class connected_pair:
    """Two sessions joined in memory: `async with connected_pair([Server()], [Client()]) as (a, b)`.

    The first is the accepting side and exposes `controllers`; the second is the connecting side
    and exposes `client_controllers`. Everything but the socket is real: encoding, validation,
    credit, deadlines, cancellation.

    Args:
        controllers: What the accepting side exposes.
        client_controllers: What the connecting side exposes.
        codec: "json" or "msgpack".
        limits: Bounds of the accepting side, and of the connecting side too if that has none.
        client_limits: Bounds of the connecting side.
        interceptors: Run around every call that the accepting side handles.
        client_interceptors: Run around every call that the connecting side makes.
        debug: Whether unexpected errors cross with text and traceback, both ways.
        principal: Who the connecting side is to the accepting side's handlers.
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
        debug: bool = False,
        principal: Any = None,
    ) -> None:
        self._targets = _targets(controllers, interceptors)
        self._client_targets = _targets(client_controllers, ())
        self._codec = CODECS[codec]
        self._limits = limits or Limits()
        self._client_limits = client_limits or self._limits
        self._interceptors = client_interceptors
        self._debug = debug
        self._principal = principal
        self._links: tuple[MemoryLink, MemoryLink] | None = None
        self._sessions: list[Session] = []
        self._nursery: Nursery | None = None

    async def __aenter__(self) -> tuple[Session, Session]:
        runtime = runtimes.current()
        self._nursery = await runtime.open_nursery()
        self._links = accepting, connecting = memory_link_pair(self._codec.subprotocol)
        server = Session(
            Endpoint("accepting", self._codec, self._limits, agent="accepting"),
            runtime,
            self._nursery,
            targets=self._targets,
            debug=self._debug,
        )
        server.id = secrets.token_hex(8)
        client = Session(
            Endpoint("connecting", self._codec, self._client_limits, agent="connecting"),
            runtime,
            self._nursery,
            targets=self._client_targets,
            interceptors=self._interceptors,
            debug=self._debug,
        )
        self._sessions = [client, server]

        async def authenticate(handshake: object, auth: object) -> Any:
            return self._principal

        self._nursery.spawn(server.serve, accepting, authenticate, _nothing)
        self._nursery.spawn(client.run, connecting)
        try:
            await client.ready()
        except BaseException:
            await self._close()
            raise
        return server, client

    def cut(self) -> None:
        """Break the connection, as a pulled cable does."""
        assert self._links is not None
        self._links[0].abort()

    async def _close(self) -> None:
        assert self._nursery is not None
        try:
            await runtimes.current().to_the_end(self._end)
        finally:
            await self._nursery.close()

    async def _end(self) -> None:
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


def _targets(controllers: Sequence[Any], interceptors: Sequence[Interceptor]) -> dict[str, Target]:
    own = expose_all(controllers)
    reflection = Reflection(lambda: describe(own))
    return targets_of(expose_all(controllers, builtin=[reflection]), interceptors)


def _nothing() -> None:
    """Nobody keeps a table of these sessions."""
