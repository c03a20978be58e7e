"""The live end of a conversation: the user's object, the same class on both sides.

A session owns an endpoint and drives it over a link: one reader, which never awaits user code, and
one writer, which sends whatever is ready as one batch. Calls out go through proxies, calls in
through the dispatcher.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import EllipsisType
from typing import Any, TypeVar, overload

import anyio

from .context import checked_metadata
from .contract import interface_from_contract
from .controller import interface
from .dispatch import Dispatcher, Target
from .driver import driver_for
from .errors import ConnectError, ConnectionLost, ProtocolError, RpcError
from .fetcher import StreamFetcher
from .interceptor import Interceptor
from .limits import Limits
from .overflow import Overflow
from .protocol.endpoint import Endpoint
from .protocol.events import (
    ArgumentsReceived,
    CallReceived,
    CancelReceived,
    CreditReceived,
    Event,
    GoawayReceived,
    HelloReceived,
    ItemsReceived,
    StreamFinished,
)
from .protocol.hello import read_opening
from .proxy import AnyInterface, LooseInterface, Options, Proxy, Validate
from .runtime import Future, Nursery, Runtime
from .shell import Shell
from .stats import Stats
from .transport.base import Handshake, Link, LinkClosed

__all__ = ["Authenticate", "Session"]

logger = logging.getLogger("wsrpc")

C = TypeVar("C")

Authenticate = Callable[[Handshake, Any], Awaitable[Any]]

NORMAL = 1000
GOING_AWAY = 1001
INTERNAL = 1011
HELLO_TIMEOUT = 4008
UNAUTHENTICATED = 4501
FORBIDDEN = 4503


class Session:
    """One end of a conversation with a peer, for as long as it lasts.

    On the connecting side it is what `async with connect(…) as session` gives; on the accepting
    side `current().session` and `server.sessions[id]` give it.

    Attributes:
        id: The public name that the accepting side gave it; no secret.
        principal: Who the peer is, as `authenticate` returned it; None on the connecting side.
        peer: What the peer calls itself, from its hello.
        handshake: What the accepting side knows of the connection.
        interceptors: What runs around every call out of this session, outermost first.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        runtime: Runtime,
        nursery: Nursery,
        *,
        targets: Mapping[str, Target],
        interceptors: Sequence[Interceptor] = (),
        metadata: Mapping[str, str] | None = None,
        check: bool = True,
        debug: bool = False,
        stats: Stats | None = None,
    ) -> None:
        self.id = ""
        self.principal: Any = None
        self.peer = ""
        self.handshake = Handshake()
        self.interceptors = tuple(interceptors)
        self._metadata = checked_metadata(metadata or {})
        self._endpoint = endpoint
        self._runtime = runtime
        self._nursery = nursery
        self._stats = stats or Stats()
        self._shell = Shell(self, endpoint, runtime, nursery)
        self._dispatcher = Dispatcher(
            self._shell, targets, check=check, debug=debug, stats=self._stats
        )
        self._proxies: dict[Any, Proxy] = {}
        self._link: Link | None = None
        self._ready: Future = runtime.future()
        self._ended: Future = runtime.future()
        self._closing: Future | None = None
        self._entering: anyio.CancelScope | None = None
        self._on: dict[type[Any], Callable[[Any], None]] = {
            HelloReceived: self._on_hello,
            CallReceived: self._on_call,
            ArgumentsReceived: self._on_arguments,
            ItemsReceived: self._on_items,
            StreamFinished: self._on_finished,
            CancelReceived: self._on_cancel,
            CreditReceived: self._on_credit,
            GoawayReceived: self._on_goaway,
        }

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<wsrpc session {self.id or '(no hello yet)'}, {self._endpoint.side}, {state}>"

    # ------------------------------------------------------------ the public face

    @property
    def limits(self) -> Limits:
        """This end's limits."""
        return self._endpoint.limits

    @property
    def closed(self) -> bool:
        """Whether the session has ended; calls on it fail with `ConnectionLost`."""
        return self._shell.lost is not None

    @property
    def outbox_bytes(self) -> int:
        """Bytes of encoded values that wait to be written."""
        return self._endpoint.outbox_bytes

    @property
    def frames_ignored(self) -> int:
        """Frames of the peer that were ignored: for finished ids, and unknown extensions."""
        return self._endpoint.ignored

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
        proxy = Proxy(self._shell, _interface_of(controller), options)
        if plain:
            self._proxies[controller] = proxy
        return proxy

    @property
    def _plain_options(self) -> Options:
        return Options(metadata=self._metadata)

    async def aclose(self, code: int = NORMAL, reason: str = "") -> None:
        """End the session: send what is queued, close the link, fail what is pending.

        Notifications are sent and handled before that, as far as `Limits.close_timeout` allows.
        Handlers that still run here are cancelled and clean up; this does not wait for them.

        Args:
            code: The WebSocket close code.
            reason: For people, at most 123 bytes.
        """
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(self.limits.close_timeout):
                await self._flush()
                await self._shell.all_notified()
            link = self._link
            if link is not None and not self.closed:
                await link.close(code, reason)
            self._end(code, reason)
            if self._entering is not None:
                self._entering.cancel()

    async def wait_closed(self) -> ConnectionLost:
        """Wait until the session has ended; returns why."""
        if self._shell.lost is None:
            waiter = self._runtime.future()
            self._shell.on_lost.append(waiter)
            await waiter
        return self._shell.lost_error(started=True)

    # ------------------------------------------------------------ life over a link

    async def run(self, link: Link) -> None:
        """Connecting side: serve `link` until it is gone; the session ends with it."""

        async def greet() -> list[Event]:
            return self._endpoint.receive(await self._first(link, self.limits.connect_timeout))

        await self._live(link, greet)

    async def serve(
        self, link: Link, authenticate: Authenticate | None, accepted: Callable[[], None]
    ) -> None:
        """Accepting side: let the peer in, then serve `link` until it is gone.

        Args:
            link: The connection.
            authenticate: Decides who the peer is, or refuses it.
            accepted: Called once the peer is in.
        """
        self.handshake = link.handshake

        async def let_in() -> list[Event]:
            events = await self._let_in(link, authenticate)
            accepted()
            return events

        await self._live(link, let_in)

    async def _live(self, link: Link, opening: Callable[[], Awaitable[list[Event]]]) -> None:
        self._link = link
        fault = partial(self._writing_failed, link)
        driver = self._shell.driver = driver_for(link, self._shell, self._process, fault)
        try:
            await driver.start()
            self._process(await opening())
            await driver.run()
        except (LinkClosed, ProtocolError) as error:
            # What stood in front of a violation, in its message, has happened all the same.
            before, self._endpoint.unreported = self._endpoint.unreported, []
            self._process(before)
            await self._close(link, error)
        except Exception as error:  # noqa: BLE001  (logged)
            await self._close(link, self._own_fault(error))
        finally:
            driver.stop()

    def _writing_failed(self, link: Link, error: Exception) -> None:
        verdict = error if isinstance(error, ProtocolError) else self._own_fault(error)
        self._nursery.spawn(self._close, link, verdict)

    def _own_fault(self, error: Exception) -> ProtocolError:
        logger.error("a fault in wsrpc itself ended %r", self, exc_info=error)
        return ProtocolError(INTERNAL, "internal error")

    async def _first(self, link: Link, timeout: float) -> bytes:
        """The peer's first message, within the time that it has for it (HELLO-9)."""
        try:
            with anyio.fail_after(timeout):
                return await link.receive()
        except TimeoutError:
            raise ProtocolError(HELLO_TIMEOUT, "no hello in time") from None

    async def _let_in(self, link: Link, authenticate: Authenticate | None) -> list[Event]:
        """Take the hello, authenticate, answer (HELLO-6, HELLO-7, HELLO-9)."""
        data = await self._first(link, self.limits.hello_timeout)
        opening = read_opening(self._endpoint.codec, data)
        if authenticate is not None:
            self.principal = await self._authenticated(authenticate, link, opening.hello.auth)
        return self._endpoint.accept(opening, self.id)

    async def _authenticated(self, authenticate: Authenticate, link: Link, auth: Any) -> Any:
        principal: Any = None
        try:
            with anyio.CancelScope() as self._entering:
                principal = await authenticate(link.handshake, auth)
            if self.closed:
                raise LinkClosed(GOING_AWAY)
            return principal
        except LinkClosed:
            raise
        except RpcError as error:
            if error.code == "permission_denied":
                raise ProtocolError(FORBIDDEN, "forbidden") from None
        except Exception:
            logger.exception("authenticate raised; the peer is refused")
        raise ProtocolError(UNAUTHENTICATED, "unauthenticated") from None

    def _process(self, events: list[Event]) -> None:
        if self.closed:
            # Nothing may begin any more on a session that has ended.
            return
        handlers = self._on
        for event in events:
            handlers[type(event)](event)
        if self._endpoint.has_output:
            self._shell.wake()

    async def _flush(self) -> None:
        """Wait until everything queued has gone to the link."""
        driver = self._shell.driver
        if driver is not None and not self.closed and self._endpoint.established:
            await driver.flushed()

    async def _close(self, link: Link, error: LinkClosed | ProtocolError) -> None:
        """The link is gone, or has to go: so does the session (HELLO-10)."""
        if isinstance(error, LinkClosed):
            self._end(error.code, error.reason)
            return
        logger.info("closing %r with %d: %s", self, error.close_code, error.reason)
        # First the verdict, then the handshake: nobody's call waits for a peer to say goodbye.
        self._closing = self._runtime.future()
        self._end(error.close_code, error.reason)
        try:
            with anyio.CancelScope(shield=True):
                await link.close(error.close_code, error.reason)
        finally:
            self._closing.set_result(None)

    def _end(self, code: int, reason: str) -> None:
        if self._shell.lost is not None:
            return
        if self._shell.driver is not None:
            self._shell.driver.stop()
        said = f": {reason}" if reason else ""
        error = ConnectionLost(f"the session ended with close code {code}{said}", code, reason)
        self._stats.closes[code] += 1
        self._stats.frames_ignored += self._endpoint.ignored
        self._shell.lose(error)
        self._dispatcher.stop_all()
        if not self._ready.done():
            self._ready.set_result(error)

    async def ready(self) -> None:
        """Connecting side: wait for the server's hello.

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
            logger.error("a fault in wsrpc itself ended %r", self, exc_info=error)
            self._end(INTERNAL, "internal error")

    async def idle(self) -> None:
        """Wait until handlers and uploads have cleaned up; the session has ended, in any case."""
        self._end(NORMAL, "")
        await self._runtime.to_the_end(self._cleaned_up)

    async def _cleaned_up(self) -> None:
        await self._dispatcher.idle()
        for pump in list(self._shell.pumps):
            await pump.done
        if self._closing is not None:
            # A closing handshake that is cut short makes websockets on trio wait for its whole
            # timeout.
            await self._closing

    async def finish(self) -> None:
        """Wait for the handlers, then end everything else of this session."""
        try:
            await self.idle()
        finally:
            await self._nursery.close()

    # ------------------------------------------------------------ what the endpoint reports

    def _on_hello(self, event: HelloReceived) -> None:
        self.peer = event.body.agent or ""
        if self._endpoint.side == "connecting":
            self.id = event.body.session or ""
            if not self._ready.done():
                self._ready.set_result(None)

    def _on_call(self, event: CallReceived) -> None:
        self._dispatcher.receive(event.call, event.complete)

    # A lane without context is one whose call was refused, or has ended, by an earlier event of the
    # same message: nobody is there any more to be told.

    def _on_arguments(self, event: ArgumentsReceived) -> None:
        if event.call.context is not None:
            event.call.context.on_arguments()

    def _on_items(self, event: ItemsReceived) -> None:
        if event.lane.context is not None:
            event.lane.context.on_items(event.items)

    def _on_finished(self, event: StreamFinished) -> None:
        if event.lane.context is not None:
            event.lane.context.on_finished(event.frame)

    def _on_cancel(self, event: CancelReceived) -> None:
        if event.lane.context is not None:
            event.lane.context.on_cancel(event.reason)

    def _on_credit(self, event: CreditReceived) -> None:
        if event.lane.context is not None:
            event.lane.context.on_credit()

    def _on_goaway(self, event: GoawayReceived) -> None:
        """The calls that will not be answered are finished by events behind this one."""


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
    sentences = {
        UNAUTHENTICATED: "the server refused the credentials (auth=)",
        FORBIDDEN: "the server does not let these credentials in",
        HELLO_TIMEOUT: "the server did not say hello in time",
        1006: "the connection broke before the server said hello",
    }
    sentence = sentences.get(code, "the server closed the connection before it said hello")
    said = f": {reason}" if reason else ""
    return ConnectError(f"{sentence} (close code {code}{said})", code)
