"""The public types that name each other: a session, a call as code around it sees it, a stream's fetcher.

`Session` is an interface. Whatever carries calls to a peer implements it, and all that stands below
knows nothing else of a session.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import EllipsisType
from typing import Any, Literal, Protocol, Self, TypeAlias, TypeVar, overload

from .close_codes import CloseCode
from .errors import ConnectionLost
from .limits import Limits
from .stream import Stream

__all__ = [
    "CallEnd",
    "FetchStream",
    "Handshake",
    "Interceptor",
    "Next",
    "ObservedCall",
    "Observer",
    "OnState",
    "Overflow",
    "Request",
    "Session",
    "State",
    "StateChange",
    "StreamFetcher",
    "StreamRequest",
    "Validate",
    "default_stream_fetcher",
    "fold",
]

C = TypeVar("C")

State: TypeAlias = Literal["connecting", "connected", "detached", "draining", "closed"]

Validate: TypeAlias = Literal["both", "arrival", "none"]
"""The values that are validated: arguments that leave and results that arrive, only results, none."""

Overflow: TypeAlias = Literal["block", "latest", "drop_oldest", "fail"]
"""The fate of items that a consumer does not take in time; see `Session.clientize`."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """The facts about a connection that are known before its first message.

    Attributes:
        path: The request's path with its query, such as "/rpc".
        headers: The request's headers, names in lower case.
        remote: The peer's address as text, such as "127.0.0.1:50312"; "" where there is none.
        tls: Whether the connection is encrypted.
        address: The client's address, without a port: that of the peer, or what trusted proxies
            say of it; "" where there is none.
        certificate: The client's TLS certificate, checked, in the form of
            `ssl.SSLSocket.getpeercert()`; None where TLS does not ask for one.
        scope: The ASGI scope of the request, with what the hosting application put into it (`user`,
            `session`, `state`); None where the server listens on a port of its own.
    """

    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict)
    remote: str = ""
    tls: bool = False
    address: str = ""
    certificate: Mapping[str, Any] | None = None
    scope: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class StateChange:
    """A session's state, and why it is in it.

    Attributes:
        state: "connecting": there is no session of the wire yet, or no longer; "connected";
            "detached": the connection is lost, and nothing else is so far; "draining": one end is
            about to go, and finishes what it has; "closed": for good.
        cause: One sentence for people and logs.
        error: What went wrong, if something did. On the connecting side, without a connection: why
            the last attempt to get one failed, what a function given as `auth=`, `url=` or
            `headers=` raised included.
        attempt: Attempts in a row that have failed since there was a connection.
        next_attempt_in: Seconds until the next attempt; None where there is none to come.
    """

    state: State
    cause: str
    error: Exception | None = None
    attempt: int = 0
    next_attempt_in: float | None = None


OnState: TypeAlias = Callable[["Session", StateChange], None]


class Session:
    """One end of a conversation with a peer, for as long as it lasts.

    On the connecting side it is what `async with connect(…) as session` gives; on the accepting
    side `current().session` and `server.sessions[id]` give it.

    Attributes:
        id: The public name that the accepting side gave it; no secret. On the connecting side it
            changes when the server has forgotten the session, and this object goes on with another.
        principal: The peer's identity, as `authenticate` returned it; None on the connecting side.
        principal_key: A string that is the same for the same principal, such as "s:ann" or "n:1";
            None where there is none. See `Grant`.
        peer: What the peer calls itself, from its hello.
        handshake: What the accepting side knows of the connection, the newest one.
        interceptors: What runs around every call out of this session, outermost first.
    """

    id: str
    principal: Any
    principal_key: str | None
    peer: str
    handshake: Handshake
    interceptors: tuple[Interceptor, ...]

    @property
    def limits(self) -> Limits:
        """This end's limits."""
        raise NotImplementedError

    @property
    def state(self) -> State:
        """The state of the session; see `StateChange`."""
        raise NotImplementedError

    @property
    def closed(self) -> bool:
        """Whether the session has ended for good; calls on it fail with `ConnectionLost`."""
        raise NotImplementedError

    @property
    def outbox_bytes(self) -> int:
        """Bytes of encoded values that wait to be written."""
        raise NotImplementedError

    @property
    def replay_bytes(self) -> int:
        """Bytes of frames kept until the peer has them, in case the connection breaks."""
        raise NotImplementedError

    @property
    def frames_ignored(self) -> int:
        """Frames of the peer that were ignored: for finished ids, and unknown extensions."""
        raise NotImplementedError

    def states(self) -> AsyncGenerator[StateChange, None]:
        """The present state, and then each change of it with its cause; ends after "closed".

        A consumer that falls behind by more than 100 changes misses the oldest of them.
        """
        raise NotImplementedError

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
        raise NotImplementedError

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
        raise NotImplementedError

    async def aclose(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """End the session: send what is queued, close the link, fail what is pending.

        Notifications are sent and handled before that, as far as `Limits.close_timeout` allows.
        Handlers that still run here are cancelled and clean up; this does not wait for them.

        Args:
            code: The WebSocket close code.
            reason: For people, at most 123 bytes.
        """
        raise NotImplementedError

    async def wait_closed(self) -> ConnectionLost:
        """Wait until the session has ended for good; returns why."""
        raise NotImplementedError


@dataclass(slots=True)
class Request:
    """One call, as interceptors and stream fetchers see it.

    Attributes:
        controller: Name of the controller.
        method: Name of the method.
        arguments: The arguments by name, as Python values; streams and callbacks included.
        kind: "unary", "stream" or "notify".
        metadata: What travels along. An outbound interceptor may add to it.
        direction: "outbound" where the call is made, "inbound" where it is handled.
        session: The session that carries it.
        options: The options of `clientize` in force; empty for inbound calls.
        tags: What `@method(tags=…)` and the controller's `tags` say of the method; empty where the
            session knows it by its bare name only.
    """

    controller: str
    method: str
    arguments: dict[str, Any]
    kind: Literal["unary", "stream", "notify"]
    metadata: dict[str, str]
    direction: Literal["outbound", "inbound"]
    session: Session
    options: dict[str, Any] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()

    def with_arguments(self, **changed: Any) -> Self:
        """A copy with some arguments replaced, for fetchers that ask again differently."""
        return replace(self, arguments={**self.arguments, **changed})


Next: TypeAlias = Callable[[Request], Awaitable[Any]]


class Interceptor(Protocol):
    """Runs around a call: look at the request, go on by `await call_next(request)`, or raise.

    For a single value `call_next` returns it; for a stream it returns an async iterator, which may
    be returned as it is or wrapped in another one::

        async def timing(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
            begin = time.perf_counter()
            try:
                return await call_next(request)
            finally:
                print(request.controller, request.method, time.perf_counter() - begin)
    """

    def __call__(self, request: Request, call_next: Next, /) -> Awaitable[Any]: ...


StreamRequest: TypeAlias = Request


class FetchStream(Protocol):
    """Fetches a stream over the session; nothing is sent before the first item is asked for."""

    def __call__(self, request: StreamRequest, /) -> Stream[Any, Any]: ...


class StreamFetcher(Protocol):
    """Turns a request for a stream into an async iterator.

    It may call `fetch(request)` never, once or many times, with the same request or a changed one
    (`request.with_arguments(…)`), and may map, log, cache or merge what comes. A `final` value
    passes through only when the iterator returned is a `Stream`.
    """

    def __call__(self, request: StreamRequest, fetch: FetchStream, /) -> AsyncIterator[Any]: ...


def default_stream_fetcher(request: StreamRequest, fetch: FetchStream) -> Stream[Any, Any]:
    """Just fetch: what happens without a `stream_fetcher`, and what custom ones build on."""
    return fetch(request)


def fold(interceptors: Sequence[Interceptor], innermost: Next) -> Next:
    """One callable out of many; the first interceptor is the outermost."""
    chain = innermost
    for interceptor in reversed(interceptors):
        chain = _link(interceptor, chain)
    return chain


def _link(interceptor: Interceptor, call_next: Next) -> Next:
    def step(request: Request) -> Awaitable[Any]:
        return interceptor(request, call_next)

    return step


# -------------------------------------------------------------------------------------- observers


@dataclass(frozen=True, slots=True)
class ObservedCall:
    """One call as an observer sees it; the same object from its beginning to its end.

    Attributes:
        controller: Name of the controller; "" for a callback.
        method: Name of the method, or of the parameter that a callback was passed as. Of a method
            that does not exist, what the peer asked for, at most 200 characters.
        kind: "unary", "stream", "notify" or "callback".
        direction: "inbound" where it is handled, "outbound" where it is made.
        session: The session that carries it.
        session_id: The session's id.
        principal: Who the peer is, as `authenticate` said; None at the connecting side.
        peer: The peer's address as text, "" where it is not known.
        id: The call's id on the wire; 0 while an outbound call has none.
        tags: The tags of the method.
        metadata: What travels with an inbound call, or the caller gave for this outbound one.
        known: Whether there is such a method; an outbound call may always turn out otherwise.
    """

    controller: str
    method: str
    kind: Literal["unary", "stream", "notify", "callback"]
    direction: Literal["inbound", "outbound"]
    session: Session
    session_id: str
    principal: Any
    peer: str
    id: int = 0
    tags: frozenset[str] = frozenset()
    metadata: Mapping[str, str] = field(default_factory=dict)
    known: bool = True

    @property
    def name(self) -> str:
        """Controller and method, as on the wire."""
        return f"{self.controller}.{self.method}" if self.controller else self.method


@dataclass(frozen=True, slots=True)
class CallEnd:
    """How a call ended.

    Attributes:
        code: "ok", or the code of the error.
        duration: Seconds since the call began; 0 for one that was refused.
        not_started: Whether the method is known not to have run.
        error_id: Under which the handling side logged an unexpected exception.
    """

    code: str
    duration: float = 0.0
    not_started: bool = False
    error_id: str | None = None


class Observer:
    """Told what happens on a server or a connection; subclass it and override what you need.

    Pass it as `Server(observers=[…])` or `connect(observers=[…])`. Every call ends in exactly one
    way here: one that is refused before its method runs gives `call_refused` alone, every other one
    `call_started` and then `call_ended`. The methods are called on the event loop and must not
    block; what they raise is logged and affects nothing else.
    """

    def call_started(self, call: ObservedCall) -> None:
        """A method is about to run, or a call of ours was handed to the session."""

    def call_ended(self, call: ObservedCall, end: CallEnd) -> None:
        """It is over; for a handler, its cleanup is too."""

    def call_refused(self, call: ObservedCall, end: CallEnd) -> None:
        """It never began: unknown, not allowed, invalid arguments, no room, too late."""

    def items(self, call: ObservedCall, direction: Literal["sent", "received"], count: int) -> None:
        """Items of a stream were handed to the session, or arrived."""

    def bytes(self, session: Session, direction: Literal["sent", "received"], count: int) -> None:
        """Bytes of one WebSocket message went out, or came in."""

    def paused(self, call: ObservedCall, seconds: float) -> None:
        """A stream went on after it had waited for credit or for room, for so many seconds."""

    def session_state(self, session: Session, change: StateChange) -> None:
        """A session entered a state."""

    def link_opened(self, handshake: Handshake) -> None:
        """A connection is there; it is not known yet who it is."""

    def link_closed(self, handshake: Handshake, code: int, reason: str) -> None:
        """A connection is gone, with this close code; 1006 where it just broke."""

    def stranger_refused(self, reason: str) -> None:
        """A connection was not let in; the reason is one word of a few, such as "unauthenticated"."""

    def drain(self, state: Literal["begun", "ended"], sessions: int) -> None:
        """A server began to drain with so many sessions, or is through with it."""

    def retry(self, call: ObservedCall, attempt: int, code: str) -> None:
        """A call of ours is made again: its attempt number, and the code of the last failure."""

    def backpressure(self, session: Session, seconds: float) -> None:
        """The peer's connection took bytes again, after it took none for so many seconds."""
