"""A whole server in memory, with any number of clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel

from .. import client
from .. import runtime as runtimes
from ..context import Authorize
from ..interfaces import (
    Handshake,
    Interceptor,
    Observer,
    OnState,
    Session,
    StateChange,
    Validate,
)
from ..limits import Limits
from ..runtime import Nursery
from ..server.acceptor import Acceptor
from ..server.server import Server
from ..session.reconnect import Reconnect
from ..transport.base import HttpAnswer, Link
from ..transport.memory import MemoryLink
from ..transport.urls import refused
from .faults import Faults
from .recorder import Recorder
from .steady import Steady

__all__ = ["Host", "server"]

# Seconds that a client stays away after a lost connection. They are always the same, since a test
# must not depend on chance, and above 0, so that a server that refuses the client is not asked
# without a pause.
AWAY = 0.01

# Seconds between two checks whether all is quiet.
FIRST_LOOK = 0.001
LONGEST_LOOK = 0.05

# Turns of the event loop without any event, after which all counts as quiet.
QUIET_TURNS = 20


def server(server: Server, *, calls: Recorder | None = None) -> Host:
    """A server in memory: `async with wsrpc.testing.server(server) as host`.

    All parts except the sockets are real: `authenticate`, `authorize`, origins, limits, sessions
    that wait to be resumed, drain and revoke. Clients connect by `host.connect()`:

        server = wsrpc.Server([Shop()], authenticate=authenticate)
        async with wsrpc.testing.server(server) as host:
            async with host.connect(auth="ann") as ann, host.connect(auth="bob") as bob:
                await ann.clientize(Shop).order("tea")
                ...
                assert server.revoke("bob") == 1

    Leaving the block closes the sessions that are left with 1001, and waits until they have cleaned
    up.

    Args:
        server: The server, without any session so far.
        calls: The recorder of calls; one of its own if left out.

    Raises:
        TypeError: `server` is no `Server`, such as a list of controllers; the caller's fault.
    """
    if not isinstance(server, Server):
        raise TypeError(
            f"wsrpc.testing.server() takes a wsrpc.Server, not {type(server).__name__}; "
            "write wsrpc.testing.server(wsrpc.Server([…]))"
        )
    return Host(server, calls or Recorder())


class Host:
    """A server at work in memory.

    Attributes:
        server: The server.
        calls: The recorder of calls that the server or a client of this host makes or handles.
    """

    def __init__(self, server: Server, calls: Recorder) -> None:
        self.server = server
        self.calls = calls
        self._acceptor: Acceptor | None = None
        self._nursery: Nursery | None = None
        self._serving = _Serving()
        self._watching = ExitStack()
        self._links: list[MemoryLink] = []

    async def __aenter__(self) -> Self:
        if self._nursery is not None:
            raise RuntimeError("a host serves once; call wsrpc.testing.server() again")
        for observer in (self.calls, self._serving):
            self._watching.enter_context(self.server.observe(observer))
        self._nursery = await runtimes.current().open_nursery()
        self._acceptor = self.server.acceptor()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._nursery is not None
        assert self._acceptor is not None
        try:
            await runtimes.current().to_the_end(self._acceptor.close)
        finally:
            try:
                await self._nursery.close()
            finally:
                self._watching.close()

    # ------------------------------------------------------------ clients

    @property
    def sessions(self) -> Mapping[str, Session]:
        """The live sessions by id, as `Server.sessions` has them."""
        return self.server.sessions

    def session_of(self, peer: Session) -> Session:
        """The accepting side's end of a client's session.

        Args:
            peer: The client's session.

        Raises:
            LookupError: The session has ended.
        """
        found = self.server.sessions.get(peer.id)
        if found is None:
            raise LookupError(f"the server has no session of {peer!r} any more")
        return found

    def connect(
        self,
        *,
        controllers: Sequence[Any] = (),
        codec: Literal["json", "msgpack"] = "json",
        auth: Any | Callable[[], Awaitable[Any]] = None,
        authorize: Authorize | None = None,
        metadata: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        interceptors: Sequence[Interceptor] = (),
        reconnect: bool | Reconnect = True,
        reconnect_delay: float = AWAY,
        wait: float = 0.0,
        on_state: OnState | None = None,
        observers: Sequence[Observer] = (),
        headers: Mapping[str, str] | Callable[[], Awaitable[Mapping[str, str]]] | None = None,
        validate: Validate = "both",
        debug: bool = False,
        reflection: bool = True,
        path: str = "/",
        address: str = "127.0.0.1",
        faults: Faults | None = None,
    ) -> client.connect:
        """Connect a client; `async with host.connect() as session`.

        The arguments are those of `wsrpc.connect`, and these:

        Args:
            reconnect_delay: Seconds that it stays away after each lost connection, in place of a
                random delay.
            path: The path of its requests, with the query.
            address: The address from which it seems to come, for limits per address.
            faults: The faults of its connections.
            headers: The headers of its requests, for instance `Origin` for a web page.

        Raises:
            ConnectError: On entering: the server refused the client, as on a real port.
        """
        return _Client(
            self,
            f"ws://memory{path}",
            faults or Faults(),
            address,
            reconnect_delay,
            controllers=controllers,
            codec=codec,
            auth=auth,
            authorize=authorize,
            metadata=metadata,
            limits=limits,
            interceptors=interceptors,
            reconnect=reconnect,
            wait=wait,
            on_state=on_state,
            observers=[*observers, self.calls],
            headers=headers,
            validate=validate,
            debug=debug,
            reflection=reflection,
        )

    @asynccontextmanager
    async def open_link(
        self,
        url: str,
        subprotocol: str,
        *,
        headers: Mapping[str, str],
        address: str,
        faults: Faults,
        **_: Any,
    ) -> AsyncIterator[Link]:
        """Open a connection in memory; returns the connecting end.

        Args:
            url: The URL of the request; its host is ignored.
            subprotocol: The subprotocol to speak.
            headers: The headers of the request.
            address: The address from which it seems to come.
            faults: The faults of the connection.

        Raises:
            ConnectError: The server refuses the request.
        """
        if self._nursery is None or self._acceptor is None:
            raise RuntimeError("enter wsrpc.testing.server() first")
        parts = urlsplit(url)
        found = self._acceptor.knock(
            f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}",
            {"host": "localhost", **{name.lower(): value for name, value in headers.items()}},
            peer=(address, 0),
            local="127.0.0.1",
        )
        if isinstance(found, HttpAnswer):
            raise refused(url, found.status, {name.lower(): value for name, value in found.headers})
        accepting, connecting = faults.link_pair(subprotocol, found)
        there = (link for link in self._links if link.under_way or not link.closed)
        self._links = [*there, accepting]
        over = self._serving.begin(found)
        self._nursery.spawn(self._serve, self._acceptor, accepting, over)
        try:
            yield connecting
        finally:
            if not connecting.closed:
                connecting.abort()

    async def _serve(self, acceptor: Acceptor, link: MemoryLink, over: anyio.Event) -> None:
        try:
            await acceptor.serve(link)
        finally:
            self._serving.end(link.handshake)
            over.set()

    # ------------------------------------------------------------ waiting

    async def settled(self) -> None:
        """Wait until no message or call is under way, and all cleanups are over, on both sides.

        Then each message has arrived, no call is being handled or waited for, and sessions that
        have ended are through with `on_disconnect`. So a test that cancels a call need not poll for
        the handler's cleanup. The wait has no time limit, since a call may last; put
        `anyio.fail_after` around it. Nothing is lost if the await is cancelled.
        """
        look = FIRST_LOOK
        while True:
            await self.calls.idle()
            await self._serving.ended_ones()
            for _ in range(QUIET_TURNS):
                await anyio.lowlevel.checkpoint()
                if not self._quiet:
                    break
            else:
                return
            # No event tells when a message arrives.
            await anyio.sleep(look)
            look = min(2 * look, LONGEST_LOOK)

    @property
    def _quiet(self) -> bool:
        return not (
            self.calls.live
            or self.server.stats.calls_live
            or self._serving.has_ended_ones
            or any(link.under_way for link in self._links)
        )


class _Serving(Observer):
    """The connections that are served, and those of them whose sessions have ended.

    A session lives in the task of the connection that began it, to the end of its cleanup.
    """

    def __init__(self) -> None:
        # The keys are identities of handshakes, which the sessions hold too.
        self._served: dict[int, anyio.Event] = {}
        self._begun: dict[int, int] = {}
        self._ended: dict[int, anyio.Event] = {}

    def begin(self, handshake: Handshake) -> anyio.Event:
        """Note that a connection is about to be served; returns the event to set at its end."""
        over = self._served[id(handshake)] = anyio.Event()
        return over

    def end(self, handshake: Handshake) -> None:
        """Note that a connection is not served any more."""
        self._served.pop(id(handshake), None)
        self._ended.pop(id(handshake), None)

    def session_state(self, session: Session, change: StateChange) -> None:
        here = id(session.handshake)
        if change.state == "connected" and here in self._served:
            self._begun.setdefault(id(session), here)
        elif change.state == "closed":
            began = self._begun.pop(id(session), None)
            if began in self._served:
                self._ended[began] = self._served[began]

    @property
    def has_ended_ones(self) -> bool:
        """Whether a session has ended, and has not cleaned up."""
        return bool(self._ended)

    async def ended_ones(self) -> None:
        """Wait until sessions that have ended have cleaned up."""
        for over in list(self._ended.values()):
            await over.wait()


class _Client(client.connect):
    """A client whose connections are in memory."""

    def __init__(
        self, host: Host, url: str, faults: Faults, address: str, delay: float, **options: Any
    ) -> None:
        self._host = host
        self._faults = faults
        self._address = address
        super().__init__(url, **options)
        self._backoff = lambda: Steady(delay)

    def _opener(self) -> client.Opener:
        return partial(self._host.open_link, address=self._address, faults=self._faults)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._faults.stalled:
            # The server would not hear that the session closes.
            self._faults.abort()
        await super().__aexit__(exc_type, exc, traceback)
