"""The public types that refer to each other: sessions, requests, interceptors, fetchers, observers.

`Session` is an interface. The classes that carry calls to a peer implement it, and the modules
below know a session only by it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
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
"""The validated values: leaving arguments and arriving results, only results, or none."""

Overflow: TypeAlias = Literal["block", "latest", "drop_oldest", "fail"]
"""The fate of items that a consumer does not take in time; see `Session.clientize`."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """The facts about a connection that are known before its first message.

    Attributes:
        path: The request's path with its query, such as "/rpc".
        headers: The request's headers, names in lower case.
        remote: The peer's address as text, such as "127.0.0.1:50312"; "" where there is none. For
            the connecting side the host and the port of the URL, or the path of the Unix socket.
        tls: Whether the connection is encrypted.
        address: The client's address, without a port: the peer's own, or the address that trusted
            proxies report; "" where there is none.
        certificate: The client's TLS certificate, checked, in the form of
            `ssl.SSLSocket.getpeercert()`; None where TLS does not ask for one.
        scope: The ASGI scope of the request, with the entries of the hosting application (`user`,
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
    """A session's state, and its cause.

    Attributes:
        state: "connecting": there is no session with the server yet, or no longer. "connected".
            "detached": the connection is lost, but no call is so far. "draining": one end is about
            to go, and finishes its calls. "closed": the session has ended for good.
        cause: One sentence for people and logs.
        error: The exception behind the change, if there is one. On the connecting side, without a
            connection, it is the error of the last attempt, which may come from a function given as
            `auth=`, `url=` or `headers=`.
        attempt: Attempts in a row that have failed since the last connection.
        next_attempt_in: Seconds until the next attempt; None where none will follow.
    """

    state: State
    cause: str
    error: Exception | None = None
    attempt: int = 0
    next_attempt_in: float | None = None


class Session:
    """One end of a conversation with a peer, for as long as it lasts.

    On the connecting side `async with connect(…) as session` gives it; on the accepting side
    `current().session` and `server.sessions[id]` give it.

    Attributes:
        id: The public name that the accepting side gave it, which is no secret. On the connecting
            side it changes when the server has forgotten the session, and this object goes on with
            a new one.
        principal: The peer's identity, as `authenticate` returned it; None on the connecting side.
        principal_key: A string that is the same for the same principal, such as "s:ann" or "n:1";
            None where there is none. See `Grant`.
        peer: The agent that the peer's hello names, of which at most 200 characters are kept.
        handshake: The facts about the newest connection. The connecting side knows the path, the
            server's address, and whether there is TLS.
        interceptors: The interceptors around every outbound call of this session, outermost first.
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
        """Bytes of frames kept until the peer acks them, in case the connection breaks."""
        raise NotImplementedError

    @property
    def frames_ignored(self) -> int:
        """Frames of the peer that were ignored: for finished ids, and unknown extensions."""
        raise NotImplementedError

    def states(self) -> Stream[StateChange]:
        """A stream of the present state, and then of each change with its cause, until "closed".

        A consumer that is more than 100 changes late misses the oldest of them. Wait for a limited
        time with `next(timeout=…)`; a wait that is cancelled ends the stream.
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

        Making a proxy sends no message: only a call of a method shows that a controller is unknown.

        Args:
            controller: The controller's class, or a Protocol or ABC that describes it; or its bare
                name, for calls without type checking; or its part of a contract
                (`wsrpc schema`), for calls checked against that.
            stream_fetcher: Replaces the default way to fetch streams; see `StreamFetcher`.
            timeout: Seconds for a whole call (TIME-1). If left out, 30 for single values, and no
                limit for streams; None: no limit. The deadline of an enclosing cancel scope holds
                too.
            idle_timeout: Seconds that a stream's next item may take while the application waits.
            metadata: Keys and values that travel with every call of this proxy.
            validate: "both" checks arguments before they leave and results when they arrive;
                "arrival" only results; "none" takes results as plain decoded values.
            overflow: The policy of a stream whose consumer does not keep up. "block" makes the
                producer wait. The others leave the producer alone, and drop items here, undecoded:
                "latest" drops all but the newest, "drop_oldest" all but the newest `window`. "fail"
                ends the stream with `StreamOverflow` when more than `window` items wait. All
                waiting items but the newest have at most `Limits.window_bytes` together, too.
                `Stream.lag` tells the items that wait, `Stream.dropped` the items dropped. Under
                "drop_oldest" and "fail" at most `window` items are under way, so a burst alone
                never causes a loss.
            window: Items of credit with which streams of this proxy start; the window then adapts.
                Under "drop_oldest" and "fail" it is the number of items that may wait.
                `Limits.window` if left out.
            interceptors: Functions that run around every call of this proxy, inside those of the
                session.

        Raises:
            RegistrationError: The class cannot be a controller; the message names the place.
            TypeError: `controller` is none of these; the caller's fault.
        """
        raise NotImplementedError

    async def refresh_auth(self, value: Any = None) -> None:
        """Connecting side: give the server fresh credentials, before the old ones run out.

        The server does not answer: it goes on with the new credentials, or closes with 4501 if it
        refuses them or they are another principal's (AUTH-1). Without a connection no message is
        sent, since the next connection begins with fresh credentials anyway. Two messages are at
        least 2 s apart; an earlier call waits. If the await is cancelled, no message is sent.

        Args:
            value: The credentials; they replace the value of `auth=`, unless that is a function.
                None: the value of `auth=`, or the result of a new call of the function.

        Raises:
            ConnectionLost: The session has ended for good.
            RuntimeError: This is the accepting side; the caller's fault.
            ValueError: The credentials cannot travel (protocol.md, Values), or have more than 64
                KiB; the caller's fault.
            Exception: Any exception of the function given as `auth=`.
        """
        raise NotImplementedError

    async def aclose(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """End the session: send queued frames, close the link, fail pending calls (CLOSE-4).

        Notifications are sent and handled before that, within `Limits.close_timeout`. Handlers that
        still run here are cancelled and clean up; this does not wait for them. If the await is
        cancelled, the session ends at once, and queued frames may be lost.

        Args:
            code: The WebSocket close code, 1000 to 4999.
            reason: A sentence for people, at most 123 bytes.

        Raises:
            ValueError: The code cannot be sent, or the reason is no text; the caller's fault.
        """
        raise NotImplementedError

    async def wait_closed(self) -> ConnectionLost:
        """Wait until the session has ended for good; returns the error of its calls."""
        raise NotImplementedError


# These stand after the class, not before it with its name in quotes: on Python 3.11
# `typing.get_type_hints`, which the reference uses, reads `Callable[["Session", …], …]` wrongly.
OnState: TypeAlias = Callable[[Session, StateChange], None]


@dataclass(slots=True)
class Request:
    """One call, as interceptors and stream fetchers see it.

    Attributes:
        controller: Name of the controller.
        method: Name of the method.
        arguments: The arguments by name, as Python values; streams and callbacks included.
        kind: "unary", "stream" or "notify".
        metadata: The metadata that travels along. An outbound interceptor may add to it.
        direction: "outbound" where the call is made, "inbound" where it is handled.
        session: The session that carries it.
        options: The options of `clientize` in force; empty for inbound calls.
        tags: The tags of the method and of its controller; empty where the session knows the method
            only by its bare name.
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
        """A copy with some arguments replaced, for fetchers that ask again with others.

        Args:
            changed: The new values by parameter.
        """
        return replace(self, arguments={**self.arguments, **changed})


Next: TypeAlias = Callable[[Request], Awaitable[Any]]


class Interceptor(Protocol):
    """Runs around a call: it goes on by `await call_next(request)`, or raises.

    For a single value `call_next` returns it; for a stream it returns an async iterator, which may
    be returned as it is or wrapped in another one:

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
    (`request.with_arguments(…)`), and may map, log, cache or merge the items. A `final` value
    passes through only if the returned iterator is a `Stream`.
    """

    def __call__(self, request: StreamRequest, fetch: FetchStream, /) -> AsyncIterator[Any]: ...


def default_stream_fetcher(request: StreamRequest, fetch: FetchStream) -> Stream[Any, Any]:
    """Fetch the stream unchanged, as without a `stream_fetcher`; custom fetchers build on it.

    Args:
        request: The call.
        fetch: Fetches a stream over the session.
    """
    return fetch(request)


def fold(interceptors: Sequence[Interceptor], innermost: Next) -> Next:
    """Nest interceptors into one callable; the first is the outermost."""
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
    """One call, as observers get it; the same object from its beginning to its end.

    Attributes:
        controller: Name of the controller; "" for a callback.
        method: Name of the method, or of the parameter of a callback. For a method that does not
            exist, the name that the peer sent, cut to 200 characters.
        kind: "unary", "stream", "notify" or "callback".
        direction: "inbound" where it is handled, "outbound" where it is made.
        session: The session that carries it.
        session_id: The session's id.
        principal: The peer's identity, as `authenticate` returned it; None at the connecting side.
        peer: The peer's address as text, as in `Handshake.remote`.
        id: The call's id on the wire; 0 for an outbound call, which has none when it begins.
        tags: The tags of the method.
        metadata: The metadata of an inbound call, or the metadata that the caller gave for an
            outbound one.
        known: Whether there is such a method; for an outbound call this is only assumed.
        relayed: Whether another node of a cluster makes it, and this one only passes it on.
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
    relayed: bool = False

    @property
    def name(self) -> str:
        """Controller and method, as on the wire."""
        return f"{self.controller}.{self.method}" if self.controller else self.method


@dataclass(frozen=True, slots=True)
class CallEnd:
    """The end of a call.

    Attributes:
        code: "ok", or the code of the error.
        duration: Seconds since the call began; 0 for one that was refused.
        not_started: Whether the method is known not to have run.
        error_id: The id under which the handling side logged an unexpected exception.
    """

    code: str
    duration: float = 0.0
    not_started: bool = False
    error_id: str | None = None


class Observer:
    """Hears of the events of a server or a connection; override the methods you need.

    Pass it as `Server(observers=[…])` or `connect(observers=[…])`. A call that is refused before
    its method runs gives only `call_refused`. Every other call gives one `call_started`, and then
    one `call_ended`. The methods are called on the event loop and must not block. Their exceptions
    are logged, and have no other effect.

    Attributes:
        interceptor: Runs around the calls that this node makes to sessions of other nodes, outermost;
            mostly None. An observer that wants the same for the sessions of its own process adds it
            to `Session.interceptors` when it is told of them.
    """

    interceptor: Interceptor | None = None

    def call_started(self, call: ObservedCall) -> None:
        """A method is about to run, or an outbound call was handed to the session.

        Args:
            call: The call.
        """

    def call_ended(self, call: ObservedCall, end: CallEnd) -> None:
        """A call is over; if it was handled here, its cleanup is over too.

        Args:
            call: The call, the same object as at its start.
            end: Its outcome.
        """

    def call_refused(self, call: ObservedCall, end: CallEnd) -> None:
        """A call never began: unknown, not allowed, invalid arguments, no room, or too late.

        Args:
            call: The call.
            end: The code of the refusal.
        """

    def items(self, call: ObservedCall, direction: Literal["sent", "received"], count: int) -> None:
        """Items of a stream were handed to the session, or arrived.

        Args:
            call: The call of the stream.
            direction: "sent" or "received".
            count: Items.
        """

    def bytes(self, session: Session, direction: Literal["sent", "received"], count: int) -> None:
        """Bytes of one WebSocket message went out, or came in.

        Args:
            session: The session.
            direction: "sent" or "received".
            count: Bytes.
        """

    def paused(self, call: ObservedCall, seconds: float) -> None:
        """A stream went on, or was cancelled, after it had waited for credit or for room.

        Args:
            call: The call of the stream.
            seconds: Seconds that it waited.
        """

    def session_state(self, session: Session, change: StateChange) -> None:
        """A session entered a state.

        Args:
            session: The session.
            change: Its new state, and the cause.
        """

    def link_opened(self, handshake: Handshake) -> None:
        """A connection is there; its peer is not authenticated yet.

        Args:
            handshake: The facts about the connection.
        """

    def link_closed(self, handshake: Handshake, code: int, reason: str) -> None:
        """A connection is gone.

        Args:
            handshake: The facts about the connection.
            code: The close code; 1006 if it just broke.
            reason: The text of the close frame, or "".
        """

    def stranger_refused(self, reason: str) -> None:
        """A connection was not let in.

        Args:
            reason: One of a few words, such as "unauthenticated".
        """

    def drain(self, state: Literal["begun", "ended"], sessions: int) -> None:
        """A server began or ended a drain.

        Args:
            state: "begun" or "ended".
            sessions: Sessions that the server has.
        """

    def retry(self, call: ObservedCall, attempt: int, code: str) -> None:
        """An outbound call is made again.

        Args:
            call: The call.
            attempt: Attempts at it, this one included.
            code: The code of the last failure.
        """

    def backpressure(self, session: Session, seconds: float) -> None:
        """The peer's connection took bytes again, or ended, after a pause.

        Args:
            session: The session.
            seconds: Seconds for which it took none.
        """
