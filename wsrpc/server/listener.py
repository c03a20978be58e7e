"""One bound address."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self

from anyio.to_thread import run_sync
from typing_extensions import TypeVar

from .. import runtime as runtimes
from ..admission.door import Door
from ..close_codes import CloseCode
from ..protocol.codec import SUBPROTOCOLS
from ..runtime import Future, Nursery, Runtime
from ..runtime.timers import Timers
from ..transport.base import Bound, HttpAnswer
from ..transport.registry import listen
from .acceptor import Acceptor, Service

__all__ = ["Listener"]

S = TypeVar("S", default=Any)


class Listener(Generic[S]):
    """One bound address of a server; `async with server.listen(…) as listener`.

    Attributes:
        url: The URL to connect to.
        server: The server.
    """

    def __init__(
        self,
        server: S,
        service: Service,
        open_ones: set[Listener[Any]],
        host: str | None,
        port: int,
        path: str | None,
        ssl: ssl_module.SSLContext | None,
        transport: str,
    ) -> None:
        self.server = server
        self.url = ""
        self._service = service
        self._open_ones = open_ones
        self._host = host
        self._port = port
        self._path = path
        self._ssl = ssl
        self._transport = transport
        self._nursery: Nursery | None = None
        self._stop: Future | None = None
        self._stopped: Future | None = None
        self._acceptor: Acceptor | None = None
        self._bound: Bound | None = None

    @property
    def http_url(self) -> str:
        """The URL of the explorer, with `wsrpc.js` beside it; "" for a Unix socket."""
        if not self.url.startswith(("ws://", "wss://")):
            return ""
        return self.url.replace("ws", "http", 1).rstrip("/") + "/"

    def refuse(self) -> None:
        """Let no peer in any more; peers that are not authenticated yet may try elsewhere.

        The port stays open: clients get an answer, and probes see that the server is not ready.
        """
        if self._bound is not None and self._acceptor is not None and not self._acceptor.closing:
            self._acceptor.refuse(CloseCode.TRY_AGAIN_LATER)

    def unbind(self) -> None:
        """Accept no further connection at all."""
        if self._bound is not None:
            self._bound.refuse()

    async def __aenter__(self) -> Self:
        runtime = runtimes.current()
        self._nursery = await runtime.open_nursery()
        self._acceptor = Acceptor(self._service, runtime)
        self._stop, self._stopped, bound = runtime.future(), runtime.future(), runtime.future()
        self._nursery.spawn(self._run, runtime, self._acceptor, bound)
        try:
            outcome = await bound
        except BaseException:
            # The socket may be bound by now, or be about to.
            with suppress(Exception):
                await self.__aexit__(None, None, None)
            raise
        if isinstance(outcome, Exception):
            await self._nursery.close()
            raise outcome
        self.url = outcome
        return self

    async def _run(self, runtime: Runtime, acceptor: Acceptor, bound: Future) -> None:
        assert self._stop is not None
        assert self._stopped is not None
        assert self._nursery is not None
        failure: Exception | None = None
        service = self._service
        door = self._door(runtime, self._nursery)
        try:
            async with listen(
                acceptor.serve,
                transport=self._transport,
                host=self._host,
                port=self._port,
                path=self._path,
                subprotocols=list(SUBPROTOCOLS),
                door=door,
                limits=service.limits,
                ssl=self._ssl,
            ) as self._bound:
                self._open_ones.add(self)
                if not bound.done():
                    bound.set_result(self._bound.url)
                await self._stop
                door.hurry()
        except Exception as error:  # noqa: BLE001  (raised again in the listening task)
            failure = error
            if not bound.done():
                bound.set_result(error)
        finally:
            door.close()
            self._open_ones.discard(self)
            if not self._stopped.done():
                self._stopped.set_result(failure)

    def _door(self, runtime: Runtime, nursery: Nursery) -> Door:
        service = self._service
        return Door(
            service.limits,
            service.pending,
            runtime.now,
            origins=service.origins,
            proxies=service.proxies,
            answer=self._answer,
            deadlines=Timers(runtime, nursery),
            refused=service.events.stranger_refused,
            plain=self._ssl is None,
        )

    def _answer(
        self, method: str, path: str, headers: Mapping[str, str], local: str, peer: str
    ) -> HttpAnswer | None:
        draining = self._acceptor is not None and self._acceptor.closing
        return self._service.routes.answer(
            method, path, headers, local=local, peer=peer, draining=draining
        )

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._nursery is not None
        try:
            await runtimes.current().to_the_end(self._shut_down)
        finally:
            await self._nursery.close()

    async def _shut_down(self) -> None:
        assert self._stop is not None
        assert self._stopped is not None
        assert self._acceptor is not None
        await self._acceptor.close()
        if not self._stop.done():
            self._stop.set_result(None)
        failure: Exception | None = await self._stopped
        if self._service.recording is not None:
            await run_sync(self._service.recording.flush)
        if failure is not None:
            raise failure
