"""The user's object for a conversation with a peer, the same class on both sides.

A session outlives its links, and on the connecting side also the sessions of the wire: `WireSession`
is what runs over links, and this is what hands out proxies and tells what state things are in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, overload

import anyio

from ..calling.fetcher import StreamFetcher
from ..calling.proxy import AnyInterface, LooseInterface, Options, Proxy, Validate
from ..calling.retry import Budget
from ..close_codes import CloseCode
from ..context import checked_metadata
from ..contract.controller import interface
from ..contract.description import interface_from_contract
from ..engine.hub import Shell, settle
from ..errors import ConnectError, ConnectionLost, WsrpcError
from ..handling.dispatch import Target
from ..handling.handler import Authorize
from ..interfaces import Interceptor
from ..limits import Limits
from ..protocol.endpoint import Endpoint
from ..protocol.events import AuthReceived, GoawayReceived
from ..protocol.frames import HelloBody
from ..runtime import Future, Nursery, Runtime
from ..streams.overflow import Overflow
from ..telemetry.counters import Stats
from ..telemetry.logs import one_line
from ..transport.base import Handshake
from .wire_session import WireSession

__all__ = ["OnState", "Session", "State", "StateChange"]

C = TypeVar("C")

State: TypeAlias = Literal["connecting", "connected", "detached", "draining", "closed"]

# Changes of state that may wait for one who watches them.
CHANGES = 100

# Seconds from one `auth` frame to the next: twice what AUTH-2 asks for, since what is sent apart may
# arrive together.
AUTH_INTERVAL = 2.0


@dataclass(frozen=True, slots=True)
class StateChange:
    """A session's state, and why it is in it.

    Attributes:
        state: "connecting": there is no session of the wire yet, or no longer; "connected";
            "detached": the connection is lost, and nothing else is so far; "draining": one end is
            about to go, and finishes what it has; "closed": for good.
        cause: One sentence for people and logs.
        error: What went wrong, if something did.
    """

    state: State
    cause: str
    error: WsrpcError | None = None


OnState: TypeAlias = Callable[["Session", StateChange], None]


class Keeper(Protocol):
    """Who sees to it that a connecting session gets links."""

    def goes_on(self, error: ConnectionLost) -> bool:
        """Whether the session goes on, with a new session of the wire, after this end of one."""
        ...

    def moves_on(self, reconnect_after: float) -> bool:
        """Whether new calls go to a new session of the wire, now that the server drains.

        Args:
            reconnect_after: Seconds that this server wants to be left alone.
        """
        ...

    def keep(self, wire: WireSession) -> None:
        """Find links for this one from now on."""

    async def credentials(self, value: Any = None) -> Any:
        """Fresh credentials: `value`, or else what `auth=` gives."""


class Session:
    """One end of a conversation with a peer, for as long as it lasts.

    On the connecting side it is what `async with connect(…) as session` gives; on the accepting
    side `current().session` and `server.sessions[id]` give it.

    Attributes:
        id: The public name that the accepting side gave it; no secret. On the connecting side it
            changes when the server has forgotten the session, and this object goes on with another.
        principal: Who the peer is, as `authenticate` returned it; None on the connecting side.
        peer: What the peer calls itself, from its hello.
        handshake: What the accepting side knows of the connection, the newest one.
        interceptors: What runs around every call out of this session, outermost first.
    """

    def __init__(
        self,
        make_endpoint: Callable[[], Endpoint],
        runtime: Runtime,
        nursery: Nursery,
        *,
        targets: Mapping[str, Target],
        authorize: Authorize | None = None,
        interceptors: Sequence[Interceptor] = (),
        metadata: Mapping[str, str] | None = None,
        check: bool = True,
        debug: bool = False,
        stats: Stats | None = None,
        on_state: OnState | None = None,
    ) -> None:
        self.id = ""
        self.principal: Any = None
        self.peer = ""
        self.handshake = Handshake()
        self.interceptors = tuple(interceptors)
        self._metadata = checked_metadata(metadata or {})
        self._make_endpoint = make_endpoint
        self._runtime = runtime
        self._nursery = nursery
        self._targets = targets
        self._authorize = authorize
        self._auth_due = 0.0
        self._check = check
        self._debug = debug
        self._stats = stats or Stats()
        self._on_state = on_state
        self._keeper: Keeper | None = None
        self._proxies: dict[Any, Proxy] = {}
        self._change = StateChange("connecting", "it is new")
        self._watchers: set[_Watcher] = set()
        self._ready: Future = runtime.future()
        self._lost: ConnectionLost | None = None
        self._on_closed: list[Future] = []
        self._closing = False
        # Ended or drained, but with handlers that have not.
        self._older: set[WireSession] = set()
        self._wire = self._new_wire()
        self._shell: Shell = self._wire.shell
        self._sent_before = 0
        self._budget = Budget(self.limits.retry_tokens, self.limits.retry_refund)

    def __repr__(self) -> str:
        side = self._wire.endpoint.side
        # On the connecting side the other end has chosen the name.
        name = one_line(self.id[:64]) or "(no hello yet)"
        return f"<wsrpc session {name}, {side}, {self.state}>"

    # ------------------------------------------------------------ the public face

    @property
    def limits(self) -> Limits:
        """This end's limits."""
        return self._wire.endpoint.limits

    @property
    def state(self) -> State:
        """What the session is doing; see `StateChange`."""
        return self._change.state

    @property
    def closed(self) -> bool:
        """Whether the session has ended for good; calls on it fail with `ConnectionLost`."""
        return self._lost is not None

    @property
    def outbox_bytes(self) -> int:
        """Bytes of encoded values that wait to be written."""
        return sum(wire.endpoint.outbox_bytes for wire in self._wires())

    @property
    def replay_bytes(self) -> int:
        """Bytes of frames kept until the peer has them, in case the connection breaks."""
        return sum(wire.endpoint.replay_bytes for wire in self._wires())

    @property
    def frames_ignored(self) -> int:
        """Frames of the peer that were ignored: for finished ids, and unknown extensions."""
        return sum(wire.endpoint.ignored for wire in self._wires())

    async def states(self) -> AsyncGenerator[StateChange, None]:
        """The present state, and then each change of it with its cause; ends behind "closed".

        A consumer that falls behind by more than 100 changes misses the oldest of them.
        """
        watcher = _Watcher(self._runtime)
        watcher.changes.append(self._change)
        self._watchers.add(watcher)
        try:
            while True:
                change = await watcher.next()
                yield change
                if change.state == "closed":
                    return
        finally:
            self._watchers.discard(watcher)

    @overload
    def clientize(
        self,
        controller: type[C],
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
    ) -> C: ...

    @overload
    def clientize(
        self,
        controller: str | Mapping[str, Any],
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
    ) -> Any: ...

    @overload
    def clientize(
        self,
        controller: Callable[..., C],
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
    ) -> C: ...

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
        """A proxy of a controller at the other end, typed as the controller itself.

        Making one sends nothing: an unknown controller shows when a method is called.

        Args:
            controller: The controller's class, or a Protocol or ABC that describes it; or its bare
                name, for calls without type checking; or its part of a contract
                (`wsrpc schema`), for calls checked against that.
            stream_fetcher: Replaces how streams are fetched; see `StreamFetcher`.
            timeout: Seconds for a whole call. Left out: 30 for single values, none for streams;
                None: none at all. An enclosing cancel scope's deadline holds besides.
            idle_timeout: Seconds that a stream's next item may take while the application waits.
            metadata: Sent along with every call of this proxy.
            validate: "both" checks arguments before they leave and results when they arrive;
                "arrival" only results; "none" takes results as plain decoded values.
            overflow: What a stream does whose consumer does not keep up. "block" makes the producer
                wait. The others leave it alone, and let go of items here, undecoded: "latest" of
                all but the newest, "drop_oldest" of all but the newest `window`; "fail" ends the
                stream with `StreamOverflow` when more than `window` wait. All that waits but the
                newest item is at most `Limits.window_bytes`, too. `Stream.lag` says how many wait,
                `Stream.dropped` how many were let go. "drop_oldest" and "fail" let no more than
                `window` items be under way, so what they lose is never due to a burst.
            window: Items. The credit with which streams of this proxy start, which then adapts;
                under "drop_oldest" and "fail" the most that may wait. `Limits.window` if left out.
            interceptors: Run around every call of this proxy, inside those of the session.

        Raises:
            RegistrationError: The class cannot be a controller; the message says where.
            TypeError: `controller` is none of these.
        """
        options = Options(
            stream_fetcher=stream_fetcher,
            timeout=timeout,
            idle_timeout=idle_timeout,
            metadata={**self._metadata, **checked_metadata(metadata or {})},
            validate=validate,
            overflow=overflow,
            window=window,
            interceptors=tuple(interceptors),
        )
        plain = isinstance(controller, (type, str)) and options == self._plain_options
        if plain and controller in self._proxies:
            return self._proxies[controller]
        proxy = Proxy(self, _interface_of(controller), options)
        if plain:
            self._proxies[controller] = proxy
        return proxy

    @property
    def _plain_options(self) -> Options:
        return Options(metadata=self._metadata)

    async def refresh_auth(self, value: Any = None) -> None:
        """Connecting side: give the server fresh credentials, before the old ones run out.

        The server does not answer: it goes on with them, or closes with 4501 where it does not
        accept them or they are another principal's. Without a connection nothing is sent, since
        the next one begins with fresh credentials anyway. Two of these are sent at least 2 s apart;
        a call that comes earlier waits. A cancelled one has sent nothing.

        Args:
            value: The credentials; they take the place of what was given as `auth=`, unless that is
                a function. None: what `auth=` is, or gives when it is asked anew.

        Raises:
            ConnectionLost: The session has ended for good.
            RuntimeError: This is the accepting side.
            ValueError: They cannot travel (protocol.md, Values), or have more than 64 KiB.
            Exception: What the function given as `auth=` raises.
        """
        keeper = self._keeper
        if keeper is None:
            raise RuntimeError("credentials go from the connecting side to the accepting one")
        value = await keeper.credentials(value)
        now = self._runtime.now()
        turn = max(now, self._auth_due)
        self._auth_due = turn + AUTH_INTERVAL
        if turn > now:
            await anyio.sleep(turn - now)
        if self._lost is not None:
            raise await self.wait_closed()
        for wire in self._wires():
            wire.refresh(value)

    async def aclose(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """End the session: send what is queued, close the link, fail what is pending.

        Notifications are sent and handled before that, as far as `Limits.close_timeout` allows.
        Handlers that still run here are cancelled and clean up; this does not wait for them.

        Args:
            code: The WebSocket close code.
            reason: For people, at most 123 bytes.
        """
        self._closing = True
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for wire in self._wires():
                    group.start_soon(wire.close, code, reason)

    async def wait_closed(self) -> ConnectionLost:
        """Wait until the session has ended for good; returns why."""
        if self._lost is None:
            waiter = self._runtime.future()
            self._on_closed.append(waiter)
            await waiter
        lost = self._lost
        assert lost is not None
        return ConnectionLost(lost.message, lost.close_code, lost.close_reason)

    # ------------------------------------------------------------ sessions of the wire

    def _wires(self) -> list[WireSession]:
        return [self._wire, *self._older]

    def _new_wire(self) -> WireSession:
        return WireSession(
            self,
            self,
            self._make_endpoint(),
            self._runtime,
            self._nursery,
            targets=self._targets,
            authorize=self._authorize,
            check=self._check,
            debug=self._debug,
            stats=self._stats,
        )

    @property
    def _calls_sent(self) -> int:
        """Calls of this side so far; their uploads and callbacks count like calls."""
        return self._sent_before + self._wire.endpoint.opened

    def _go_on(self) -> None:
        """Let a new session of the wire take all calls from now on."""
        older, self._wire = self._wire, self._new_wire()
        self._shell = self._wire.shell
        self._sent_before += older.endpoint.opened
        self._older.add(older)
        self._nursery.spawn(self._retire, older)

    async def _retire(self, wire: WireSession) -> None:
        await wire.wait_ended()
        await wire.idle()
        self._older.discard(wire)

    def wire_opened(self, wire: WireSession, hello: HelloBody) -> None:
        if wire.endpoint.side == "connecting" and wire is self._wire:
            self.id = hello.session or ""
            self.peer = hello.agent or ""
        elif not self.peer:
            self.peer = hello.agent or ""
        if wire is self._wire:
            cause = "the session goes on" if self.state == "detached" else "a session has begun"
            self._enter(StateChange("connected", cause))
        if not self._ready.done():
            self._ready.set_result(None)

    def wire_detached(self, wire: WireSession, error: ConnectionLost) -> None:
        if wire is self._wire:
            self._enter(StateChange("detached", error.message, error))

    def wire_ended(self, wire: WireSession, error: ConnectionLost) -> None:
        if wire is not self._wire:
            if self.state == "draining" and not self._being_drained():
                self._enter(StateChange("connecting", error.message, error))
            return
        keeper = self._keeper
        if self._ready.done() and not self._closing and keeper and keeper.goes_on(error):
            self._go_on()
            self._enter(StateChange("connecting", error.message, error))
            keeper.keep(self._wire)
            return
        self._lost = error
        if not self._ready.done():
            self._ready.set_result(error)
        self._enter(StateChange("closed", error.message, error))
        settle(self._on_closed)

    def _being_drained(self) -> bool:
        return any(wire.endpoint.peer_draining and not wire.over for wire in self._wires())

    def wire_confirmed(self, wire: WireSession) -> None:
        """Of interest to whoever keeps the tokens."""

    def wire_auth(self, wire: WireSession, event: AuthReceived) -> None:
        """Of interest to whoever knows the principals."""

    def wire_draining(self, wire: WireSession, event: GoawayReceived) -> None:
        # It is said again on each link, and of interest once.
        if wire is not self._wire or self._closing:
            return
        cause = f"the other end is about to go, and finishes what it has in {event.grace:g} s"
        self._enter(StateChange("draining", cause))
        keeper = self._keeper
        if keeper is not None and keeper.moves_on(event.reconnect_after):
            self._go_on()
            keeper.keep(self._wire)

    def _enter(self, change: StateChange) -> None:
        self._change = change
        # Not the cause, which may be in the other end's words.
        self._shell.log.debug("%r", self)
        for watcher in self._watchers:
            watcher.add(change)
        if self._on_state is not None:
            try:
                self._on_state(self, change)
            except Exception as error:  # noqa: BLE001  (logged)
                self._shell.log.error("on_state raised for %r", self, error=error)

    # ------------------------------------------------------------ begin and end

    async def drain(self, grace: float, reconnect_after: float) -> None:
        """Accepting side: take no new calls, finish those that run, end; see `Server.drain`."""
        self._closing = True
        self._enter(StateChange("draining", "this end is about to go, and finishes what it has"))
        await self._wire.drain(grace, reconnect_after)

    async def ready(self) -> None:
        """Connecting side: wait for the server's first hello.

        Raises:
            ConnectError: The server refused, or did not answer as a wsrpc server does.
        """
        error: Exception | None = await self._ready
        if error is not None:
            raise _refused(error)

    def give_up(self, error: Exception) -> None:
        """Connecting side: no link came about, or it failed in a way that it must not."""
        if not self._ready.done():
            self._ready.set_result(error)
        elif not self.closed:
            self._shell.log.error("a fault in wsrpc itself ended %r", self, error=error)
            self._closing = True
            self._wire.lose(CloseCode.SERVER_TROUBLE, "internal error")

    async def idle(self) -> None:
        """Wait until handlers and uploads have cleaned up; the session has ended, in any case."""
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
        self._runtime = runtime
        self._waiter: Future | None = None
        self.changes: deque[StateChange] = deque(maxlen=CHANGES)

    def add(self, change: StateChange) -> None:
        self.changes.append(change)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> StateChange:
        while not self.changes:
            self._waiter = self._runtime.future()
            await self._waiter
        return self.changes.popleft()


def _interface_of(controller: Any) -> AnyInterface:
    if isinstance(controller, str):
        return LooseInterface(controller)
    if isinstance(controller, Mapping):
        return interface_from_contract(controller)
    return interface(controller)


def _refused(error: Exception) -> Exception:
    """Why the server's hello did not come, in one sentence."""
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
    sentence = sentences.get(code, "the server closed the connection before it said hello")
    said = f": {reason}" if reason else ""
    return ConnectError(f"{sentence} (close code {code}{said})", code)
