"""The user's object for a conversation with a peer, the same class on both sides.

A session outlives its links, and on the connecting side also its wire sessions. A `WireSession`
runs over links. A `LiveSession` hands out proxies and tells its state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from types import EllipsisType
from typing import Any, Protocol

import anyio

from ..calling.options import Options
from ..calling.proxy import AnyInterface, Proxy
from ..calling.route import Route
from ..calling.untyped import LooseInterface
from ..close_codes import CloseCode
from ..context import Authorize, Visible, checked_metadata
from ..contract.controller import interface
from ..contract.description import interface_from_contract
from ..engine.hub import settle
from ..engine.ledger import Ledger
from ..errors import ConnectError, ConnectionLost, ProtocolError
from ..handling.target import MethodEntry
from ..handling.threads import Threads
from ..interfaces import (
    Handshake,
    Interceptor,
    OnState,
    Overflow,
    Session,
    State,
    StateChange,
    StreamFetcher,
    Validate,
)
from ..limits import Limits
from ..options import checked_close, checked_interceptors, checked_text
from ..protocol.endpoint import Endpoint
from ..protocol.events import AuthReceived, GoawayReceived
from ..protocol.frames import HelloBody
from ..runtime import Future, Nursery, Runtime
from ..runtime.by_hand import text_of
from ..runtime.containing import set_off_by_peer
from ..stream import LocalStream, Stream
from ..telemetry.events import Events
from ..telemetry.logs import one_line
from .wire_session import GOODBYE, WireSession

__all__ = ["LiveSession", "interface_of"]

# Changes of state that may wait for one consumer of `Session.states`.
CHANGES = 100

# Seconds from one `auth` frame to the next: twice the interval of AUTH-2, since two frames that are
# sent apart may arrive together.
AUTH_INTERVAL = 2.0

# Characters of the peer's name that are kept, for as long as the session lasts.
AGENT = 200


class LinkSource(Protocol):
    """The object that gets links for a connecting session."""

    def opened(self, wire: WireSession) -> None:
        """Both hellos of a link are through."""

    def lost(self, wire: WireSession, error: ConnectionLost) -> None:
        """A link is lost, and its session waits to be resumed."""

    def outlook(self, wire: WireSession) -> tuple[int, float | None]:
        """Failed attempts since the last connection, and seconds until the next attempt, if any."""
        ...

    def goes_on(self, error: ConnectionLost) -> bool:
        """Whether the session goes on with a new wire session, after one ended like this."""
        ...

    def moves_on(self, reconnect_after: float) -> bool:
        """Whether new calls go to a new wire session, now that the server drains.

        Args:
            reconnect_after: Seconds for which this server asks to be left alone.
        """
        ...

    def keep(self, wire: WireSession) -> None:
        """Find links for this wire session from now on."""

    async def credentials(self, value: Any = None) -> Any:
        """Fresh credentials: `value`, or else those that `auth=` gives."""


class LiveSession(Session):
    """The `Session` of this process: one wire session after another, over their links."""

    # A server keeps one for each peer, mostly idle. With as many names in it a dictionary would take
    # more than a kilobyte. There is one all the same, for names that an application sets.
    __slots__ = (
        "_auth_due",
        "_authorize",
        "_check",
        "_closing",
        "_debug",
        "_entries",
        "_events",
        "_ledger",
        "_link_source",
        "_lost",
        "_make_endpoint",
        "_metadata",
        "_nursery",
        "_older",
        "_on_closed",
        "_on_state",
        "_origin",
        "_proxies",
        "_ready",
        "_threads",
        "_visible",
        "_watchers",
        "change",
        "handshake",
        "id",
        "interceptors",
        "peer",
        "principal",
        "principal_key",
        "route",
        "runtime",
        "wire",
    )

    def __init__(
        self,
        make_endpoint: Callable[[], Endpoint],
        runtime: Runtime,
        nursery: Nursery,
        *,
        entries: Mapping[str, MethodEntry],
        authorize: Authorize | None = None,
        interceptors: Sequence[Interceptor] = (),
        metadata: Mapping[str, str] | None = None,
        check: bool = True,
        debug: bool = False,
        events: Events | None = None,
        threads: Threads | None = None,
        on_state: OnState | None = None,
        ledger: Ledger | None = None,
        visible: Visible | None = None,
    ) -> None:
        self._ledger = ledger
        self._visible = visible
        self._origin = object()
        self.id = ""
        self.principal: Any = None
        self.principal_key: str | None = None
        self.peer = ""
        self.handshake = Handshake()
        self.interceptors = tuple(interceptors)
        self._metadata = checked_metadata(metadata or {})
        self._make_endpoint = make_endpoint
        self.runtime = runtime
        self._nursery = nursery
        self._entries = entries
        self._authorize = authorize
        self._auth_due = 0.0
        self._check = check
        self._debug = debug
        self._events = events or Events()
        self._on_state = on_state
        self._threads = threads
        self._link_source: LinkSource | None = None
        self._proxies: dict[Any, Proxy] = {}
        self.change = StateChange("connecting", "it is new")
        self._watchers: tuple[_Watcher, ...] = ()
        # Connecting side: done with the first hello, or with the reason why there was none.
        self._ready: Future | None = None
        self._lost: ConnectionLost | None = None
        self._on_closed: list[Future] = []
        self._closing = False
        # Wire sessions that have ended or drain, and still have running handlers.
        self._older: tuple[WireSession, ...] = ()
        self.wire = self._new_wire()
        self.route = Route(self.wire.hub)

    def __repr__(self) -> str:
        side = self.wire.endpoint.side
        # On the connecting side the other end has chosen the name.
        name = one_line(self.id[:64]) or "(no hello yet)"
        return f"<wsrpc session {name}, {side}, {self.state}>"

    def __dir__(self) -> list[str]:
        # The other names are for the rest of the package, and do not help a user who looks for a
        # method.
        return sorted({*dir(Session), *Session.__annotations__})

    # ------------------------------------------------------------ the public face

    @property
    def limits(self) -> Limits:
        return self.wire.endpoint.limits

    @property
    def state(self) -> State:
        return self.change.state

    @property
    def closed(self) -> bool:
        return self._lost is not None

    @property
    def outbox_bytes(self) -> int:
        return sum(wire.endpoint.outbox_bytes for wire in self._wires())

    @property
    def held(self) -> int:
        """Bytes that it holds for its peer, of every kind."""
        return sum(wire.hub.held for wire in self._wires())

    @property
    def ack_lag(self) -> float:
        """Seconds for which the peer has acked none of its frames; 0 if it has acked all."""
        now = self.runtime.now()
        return max(wire.endpoint.ack_lag(now) for wire in self._wires())

    @property
    def blocked(self) -> float:
        """Seconds for which its connection has taken no bytes; 0 if it takes some."""
        driver = self.wire.hub.driver
        since = None if driver is None else driver.blocked_since
        return 0.0 if since is None else max(0.0, self.runtime.now() - since)

    @property
    def replay_bytes(self) -> int:
        return sum(wire.endpoint.replay_bytes for wire in self._wires())

    @property
    def frames_ignored(self) -> int:
        return sum(wire.endpoint.ignored for wire in self._wires())

    def states(self) -> Stream[StateChange]:
        return LocalStream(self._changes(), "session.states()")

    async def _changes(self) -> AsyncGenerator[StateChange, None]:
        watcher = _Watcher(self.runtime)
        watcher.changes.append(self.change)
        self._watchers = (*self._watchers, watcher)
        try:
            while True:
                change = await watcher.next()
                yield change
                if change.state == "closed":
                    return
        finally:
            self._watchers = tuple(one for one in self._watchers if one is not watcher)

    def clientize(
        self,
        controller: Any,
        /,
        *,
        stream_fetcher: StreamFetcher | None = None,
        timeout: float | EllipsisType | None = ...,
        idle_timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
        validate: Validate = "both",
        overflow: Overflow = "block",
        window: int | None = None,
        interceptors: Sequence[Interceptor] = (),
    ) -> Any:
        options = Options(
            stream_fetcher=stream_fetcher,
            timeout=timeout,
            idle_timeout=idle_timeout,
            metadata={**self._metadata, **checked_metadata(metadata or {})},
            validate=validate,
            overflow=overflow,
            window=window,
            interceptors=checked_interceptors(interceptors),
        )
        plain = isinstance(controller, (type, str)) and options == self._plain_options
        if plain and controller in self._proxies:
            return self._proxies[controller]
        proxy = Proxy(self, self.route, interface_of(controller), options)
        if plain:
            self._proxies[controller] = proxy
        return proxy

    @property
    def _plain_options(self) -> Options:
        return Options(metadata=self._metadata)

    async def refresh_auth(self, value: Any = None) -> None:
        source = self._link_source
        if source is None:
            raise RuntimeError("credentials go from the connecting side to the accepting one")
        value = await source.credentials(value)
        now = self.runtime.now()
        turn = max(now, self._auth_due)
        self._auth_due = turn + AUTH_INTERVAL
        if turn > now:
            await anyio.sleep(turn - now)
        if self._lost is not None:
            raise await self.wait_closed()
        for wire in self._wires():
            wire.refresh(value)

    async def aclose(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        checked_close(code, reason)
        self._closing = True
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for wire in self._wires():
                    group.start_soon(wire.close, code, reason)

    async def wait_closed(self) -> ConnectionLost:
        if self._lost is None:
            waiter = self.runtime.future()
            self._on_closed.append(waiter)
            await waiter
        lost = self._lost
        assert lost is not None
        return ConnectionLost(lost.message, lost.close_code, lost.close_reason)

    # ------------------------------------------------------------ sessions of the wire

    def _wires(self) -> list[WireSession]:
        return [self.wire, *self._older]

    def _new_wire(self) -> WireSession:
        endpoint = self._make_endpoint()
        if self._threads is None:
            self._threads = Threads(endpoint.limits)
        return WireSession(
            self,
            self,
            endpoint,
            self.runtime,
            self._nursery,
            entries=self._entries,
            authorize=self._authorize,
            check=self._check,
            debug=self._debug,
            events=self._events,
            threads=self._threads,
            ledger=self._ledger,
            visible=self._visible,
            origin=self._origin,
        )

    def _go_on(self) -> None:
        """Let a new wire session take all calls from now on."""
        older, self.wire = self.wire, self._new_wire()
        self.route.lead_to(self.wire.hub)
        self._older = (*self._older, older)
        self._nursery.spawn(self._retire, older)

    async def _retire(self, wire: WireSession) -> None:
        await wire.wait_ended()
        await wire.idle()
        self._older = tuple(one for one in self._older if one is not wire)

    def wire_opened(self, wire: WireSession, hello: HelloBody) -> None:
        if wire.endpoint.side == "connecting" and wire is self.wire:
            self.id = hello.session or ""
            self.peer = (hello.agent or "")[:AGENT]
        elif not self.peer:
            self.peer = (hello.agent or "")[:AGENT]
        if self._link_source is not None:
            self._link_source.opened(wire)
        if wire is self.wire:
            cause = "the session goes on" if self.state == "detached" else "a session has begun"
            self._enter(StateChange("connected", cause))
        self._is_ready(None)

    def wire_detached(self, wire: WireSession, error: ConnectionLost) -> None:
        outlook: tuple[int, float | None] = (0, None)
        if self._link_source is not None:
            self._link_source.lost(wire, error)
            outlook = self._link_source.outlook(wire)
        if wire is self.wire:
            self._enter(StateChange("detached", error.message, error, *outlook))

    def tried(
        self, cause: str, error: Exception, attempt: int, next_attempt_in: float | None
    ) -> None:
        """Connecting side: an attempt to get a link has failed."""
        self._enter(StateChange(self.state, cause, error, attempt, next_attempt_in))

    def wire_ended(self, wire: WireSession, error: ConnectionLost) -> None:
        if wire is not self.wire:
            if self.state == "draining" and not self._being_drained():
                self._enter(StateChange("connecting", error.message, error))
            return
        source = self._link_source
        if not self._closing and source and source.goes_on(error):
            self._go_on()
            source.keep(self.wire)
            outlook = source.outlook(self.wire)
            self._enter(StateChange("connecting", error.message, error, *outlook))
            return
        self._lost = error
        self.route.closed = True
        self._is_ready(error)
        self._enter(StateChange("closed", error.message, error))
        settle(self._on_closed)

    def _being_drained(self) -> bool:
        return any(wire.endpoint.peer_draining and not wire.over for wire in self._wires())

    def wire_confirmed(self, wire: WireSession) -> None:
        """Nothing to do: only the server keeps tokens."""

    def wire_auth(self, wire: WireSession, event: AuthReceived) -> None:
        """Nothing to do: only the server knows principals."""

    def wire_draining(self, wire: WireSession, event: GoawayReceived) -> None:
        # The peer says it again on each link; only the first time matters.
        if wire is not self.wire or self._closing:
            return
        cause = f"the other end is about to go, and finishes its calls within {event.grace:g} s"
        self._enter(StateChange("draining", cause))
        source = self._link_source
        if source is not None and source.moves_on(event.reconnect_after):
            self._go_on()
            source.keep(self.wire)

    def _enter(self, change: StateChange) -> None:
        resumed = change.state == "connected" and self.change.state == "detached"
        self.change = change
        # The cause is left out, since the other end may have worded it.
        self.wire.hub.log.debug("%r", self)
        for watcher in self._watchers:
            watcher.add(change)
        self._events.session_state(self, change, resumed=resumed)
        if self._on_state is not None:
            try:
                with set_off_by_peer():
                    self._on_state(self, change)
            except KeyboardInterrupt:
                if not self.runtime.interrupt():
                    raise
            except BaseException as error:  # noqa: BLE001  (logged; a peer sets it off)
                self.wire.hub.log.error("on_state raised for %r", self, error=error)

    # ------------------------------------------------------------ begin and end

    async def drain(self, grace: float, reconnect_after: float) -> None:
        """Accepting side: take no new calls, finish those that run, end; see `Server.drain`."""
        self._closing = True
        self._enter(StateChange("draining", "this end is about to go, and finishes its calls"))
        await self.wire.drain(grace, reconnect_after)

    def supplied_by(self, source: LinkSource) -> None:
        """Connecting side: set the source of this session's links."""
        self._link_source = source
        self._ready = self.runtime.future()

    async def ready(self) -> None:
        """Connecting side: wait for the server's first hello.

        Raises:
            ConnectError: The server refused, or did not answer as a wsrpc server does.
        """
        assert self._ready is not None
        error: Exception | None = await self._ready
        if error is not None:
            raise _refused(error)

    def _is_ready(self, error: Exception | None) -> bool:
        """End the wait of `ready`; returns whether this was the first call."""
        if self._ready is None or self._ready.done():
            return False
        self._ready.set_result(error)
        return True

    def give_up(self, error: Exception) -> None:
        """Connecting side: end the session, since no link came about or a task of it failed."""
        if self._is_ready(error):
            # The session ends at once, so that its end has this reason.
            self._closing = True
            self.wire.lose(CloseCode.NORMAL, "", what=text_of(error), cause=error)
        elif not self.closed:
            self.wire.hub.log.error("a fault in wsrpc itself ended %r", self, error=error)
            self._closing = True
            self.wire.lose(CloseCode.SERVER_TROUBLE, "internal error")

    async def abandon(self) -> None:
        """Connecting side: say goodbye on a link whose session the caller does not want any more."""
        link = self.wire.link
        if link is not None:
            with anyio.move_on_after(GOODBYE, shield=True):
                await link.close(CloseCode.NORMAL)

    async def idle(self) -> None:
        """Wait until handlers and uploads have cleaned up; the session itself has ended by now."""
        self._closing = True
        for wire in self._wires():
            await wire.idle()

    async def finish(self) -> None:
        """Wait for the handlers, then end everything else of this session."""
        try:
            await self.idle()
        finally:
            await self._nursery.close()


class _Watcher:
    """One consumer of `Session.states`."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._waiter: Future | None = None
        self.changes: deque[StateChange] = deque(maxlen=CHANGES)

    def add(self, change: StateChange) -> None:
        self.changes.append(change)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> StateChange:
        while not self.changes:
            self._waiter = self.runtime.future()
            await self._waiter
        return self.changes.popleft()


def interface_of(controller: Any) -> AnyInterface:
    """The methods of a controller as `clientize` takes it.

    Raises:
        RegistrationError: The class cannot be a controller.
        TypeError: `controller` is neither a controller nor a name.
        ValueError: The name is empty.
    """
    if isinstance(controller, str):
        return LooseInterface(checked_text("the name of a controller", controller))
    if isinstance(controller, Mapping):
        return interface_from_contract(controller)
    return interface(controller)


def _refused(error: Exception) -> Exception:
    """The error for a server's hello that did not come, in one sentence."""
    if not isinstance(error, ConnectionLost):
        return error
    code, reason = error.close_code, error.close_reason
    sentences: dict[int, str] = {
        CloseCode.UNAUTHENTICATED: "the server refused the credentials (auth=)",
        CloseCode.FORBIDDEN: "the server does not let these credentials in",
        CloseCode.LIMIT: "the server has a limit that another attempt would meet again",
        CloseCode.TRY_AGAIN_LATER: "the server has no room at the moment; try again later",
        CloseCode.HELLO_TIMEOUT: "the server did not say hello in time",
        CloseCode.CONNECTION_LOST: "the connection broke before the server said hello",
    }
    if isinstance(error.__cause__, ProtocolError) and code not in sentences:
        sentence = "this side closed the connection, since the server's hello does not fit"
    else:
        sentence = sentences.get(code, "the server closed the connection before it said hello")
    said = f": {reason}" if reason else ""
    return ConnectError(f"{sentence} (close code {code}{said})", code)
