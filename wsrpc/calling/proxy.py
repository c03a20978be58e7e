"""Calls out, as users write them: clientized controllers.

A proxy is made once per `clientize`; each of its methods knows its signature, its options and the
session, and turns arguments into a `UnaryCall` or a `Stream` that send nothing before they are
used.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import EllipsisType
from typing import Any, TypeAlias
from weakref import WeakSet

import anyio

from ..context import checked_metadata, is_unicode, outgoing_metadata
from ..contract.controller import Interface
from ..contract.description import UntypedInterface
from ..contract.signature import Param, near
from ..engine.hub import Conversation, Shell, Terminal
from ..errors import CODES, Code, ConnectionLost, DeadlineExceeded, RpcError
from ..interfaces import Interceptor, Overflow, Request, Session, StreamFetcher, Validate, fold
from ..protocol.codec import Codec
from ..protocol.frames import Error
from ..protocol.lanes import OutCall
from ..protocol.splice import Encoded
from ..runtime import Future
from ..stream import LocalStream, Stream, UnaryCall, UntypedCall
from ..streams.consumer import Inbox, InboxStream, Tally
from ..streams.overflow import INBOXES, first_credit
from ..values.adapter import Adapter, Unencodable
from ..values.tracked import TrackedAdapter
from .attachments import Extras
from .invoke import Timing, begin, invalid_answer, invoke
from .retry import Attempts
from .route import Retry, Route

__all__ = ["Options", "Proxy", "ProxyMethod", "RemoteStream"]

UNARY_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one `clientize`; see `Session.clientize`."""

    stream_fetcher: StreamFetcher | None = None
    timeout: float | EllipsisType | None = ...
    idle_timeout: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    validate: Validate = "both"
    overflow: Overflow = "block"
    window: int | None = None
    interceptors: tuple[Interceptor, ...] = ()

    def __post_init__(self) -> None:
        if self.validate not in ("both", "arrival", "none"):
            raise ValueError(f"validate must be 'both', 'arrival' or 'none', not {self.validate!r}")
        if self.overflow not in INBOXES:
            names = ", ".join(map(repr, INBOXES))
            raise ValueError(f"overflow must be one of {names}, not {self.overflow!r}")
        if self.window is not None and self.window < 1:
            raise ValueError(f"window must be at least 1 item, not {self.window!r}")
        checked_metadata(self.metadata)

    def unary_timeout(self) -> float | None:
        return UNARY_TIMEOUT if self.timeout is ... else self.timeout

    def stream_timeout(self) -> float | None:
        return None if self.timeout is ... else self.timeout


class LooseMethod:
    """A method known by its bare name: arguments by keyword, kind decided by use."""

    __slots__ = ("final", "item", "name", "params", "result")
    kind = "untyped"
    doc = ""
    idempotent = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.params: dict[str, Param] = {}
        self.result = self.item = self.final = Adapter(Any, where=name)

    def bind(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Sort arguments by what they are: async iterables are uploads, functions callbacks."""
        if args:
            raise TypeError(
                f"{self.name}() takes keyword arguments only: by bare name its parameters are "
                "not known"
            )
        values: dict[str, Any] = {}
        uploads: dict[str, Any] = {}
        callbacks: dict[str, Any] = {}
        for name, value in kwargs.items():
            if isinstance(value, AsyncIterable):
                uploads[name] = aiter(value)
                self.params[name] = Param(name, "upload", Any, True, item=self.item)
            elif callable(value):
                callbacks[name] = value
                arguments = (self.item,) * _arity(value)
                self.params[name] = Param(
                    name, "callback", Any, True, arguments=arguments, result=self.result
                )
            else:
                values[name] = value
        return values, uploads, callbacks

    def dump_args(self, values: dict[str, Any], codec: Codec, check: bool = True) -> Encoded:
        return self.item.dump(values, codec, check=check)


def _arity(function: Callable[..., Any]) -> int:
    """How many positional arguments a callback takes; 1 where it does not tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in positional for parameter in parameters)


class LooseInterface:
    """A controller known by its bare name."""

    __slots__ = ("name", "specs")

    def __init__(self, name: str) -> None:
        self.name = name
        self.specs: dict[str, LooseMethod] = {}

    def spec(self, name: str) -> LooseMethod:
        """Any method; whether it exists shows at the other end."""
        return LooseMethod(name)


AnyInterface: TypeAlias = Interface | UntypedInterface | LooseInterface


class Proxy:
    """Stands for a controller at the other end; its attributes are the methods."""

    def __init__(
        self, session: Session, route: Route, interface: AnyInterface, options: Options
    ) -> None:
        self._session = session
        self._route = route
        self._interface = interface
        self._options = options
        for name, spec in interface.specs.items():
            self.__dict__[name] = ProxyMethod(session, route, interface.name, spec, options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        interface = self._interface
        if isinstance(interface, LooseInterface):
            method = ProxyMethod(
                self._session, self._route, interface.name, interface.spec(name), self._options
            )
            self.__dict__[name] = method
            return method
        names = near(name, interface.specs)
        hint = f"; did you mean {' or '.join(names)}?" if names else ""
        raise AttributeError(f"{interface.name} has no method {name!r}{hint}")

    def __repr__(self) -> str:
        return f"<proxy of {self._interface.name} over {self._session!r}>"


class ProxyMethod:
    """One method of a proxy: call it as the method itself."""

    def __init__(
        self, session: Session, route: Route, controller: str, spec: Any, options: Options
    ) -> None:
        self._session = session
        self.route = route
        self._controller = controller
        self.spec = spec
        self._bind = spec.bind
        self._dump_args = spec.dump_args
        self.options = options
        self._timeout = options.unary_timeout()
        self._check_args = options.validate == "both"
        self.check_results = options.validate != "none"
        self._interceptors = (*session.interceptors, *options.interceptors)
        self.retry = Retry(route, idempotent=spec.idempotent)
        self.label = f"{controller}.{spec.name}"
        if not is_unicode(self.label):
            raise ValueError(f"{self.label!r} cannot be the name of a method")
        self.__name__ = spec.name
        self.__doc__ = spec.doc

    def __repr__(self) -> str:
        return f"<remote method {self.label}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        values, uploads, callbacks = self._bind(args, kwargs)
        kind = self.spec.kind
        if kind == "stream":
            return self._open_stream(values, uploads, callbacks)
        if kind == "untyped":
            return self._untyped(values, uploads, callbacks)
        if self._interceptors:
            return UnaryCall(self._intercepted(values, uploads, callbacks), self.label)
        metadata = self.options.metadata
        return UnaryCall(self._invoke(values, uploads, callbacks, metadata), self.label)

    # ------------------------------------------------------------ what travels

    def dump_args(self, values: dict[str, Any]) -> Encoded:
        """The encoded arguments; what must not leave fails here, on this call (VALUE-3)."""
        try:
            codec = self.route.hub.codec
            payload: Encoded = self._dump_args(values, codec, check=self._check_args)
            return payload
        except Unencodable as error:
            raise RpcError(
                Code.INVALID_ARGUMENT, f"the arguments of {self.label}: {error}"
            ) from None

    def extras(self, uploads: dict[str, Any], callbacks: dict[str, Any]) -> Extras | None:
        if not uploads and not callbacks:
            return None
        check = self.options.validate == "both"
        return Extras(self.label, self.spec.params, uploads, callbacks, check)

    # ------------------------------------------------------------ single values

    async def _intercepted(
        self, values: dict[str, Any], uploads: dict[str, Any], callbacks: dict[str, Any]
    ) -> Any:
        async def innermost(request: Request) -> Any:
            return await self._invoke(*self._split(request.arguments), request.metadata)

        request = self.request({**values, **uploads, **callbacks})
        return await fold(self._interceptors, innermost)(request)

    def _invoke(
        self,
        values: dict[str, Any],
        uploads: dict[str, Any],
        callbacks: dict[str, Any],
        metadata: Mapping[str, str],
    ) -> Coroutine[Any, Any, Any]:
        if self.spec.kind == "notify":
            return self._notify(values, metadata)
        return invoke(
            self.route.hub,
            self.label,
            self.label,
            self.dump_args(values),
            self.spec.result,
            self._timeout,
            check=self.check_results,
            metadata=metadata,
            extras=self.extras(uploads, callbacks) if uploads or callbacks else None,
            retry=self.retry,
        )

    async def _notify(self, values: dict[str, Any], metadata: Mapping[str, str]) -> None:
        """Queue a notification; waits for room and for a slot, not for the other end."""
        timing = Timing(self.route.hub, self._timeout)
        metadata = {**outgoing_metadata.get(), **metadata}
        await self._queue(self.dump_args(values), timing, metadata)

    async def _queue(self, payload: Encoded, timing: Timing, metadata: Mapping[str, str]) -> None:
        """Queue it until a session of the wire has taken it, or none will."""
        retry = self.retry
        attempts: Attempts | None = None
        while True:
            shell = self.route.hub
            try:
                await shell.room(timing.alarm)
                call = begin(
                    shell, self.label, self.label, payload, timing, metadata=metadata, oneway=True
                )
                again = partial(self._queue, payload, timing, metadata)
                notification = call.context = Notification(shell, self.label, call, again)
                shell.wake()
                if shell.endpoint.waiting(call):
                    await notification.queued(timing)
                return
            except RpcError as error:
                if not retry.wants(error, refused=True):
                    raise
                failed = error
            attempts = attempts or retry.attempts(timing.deadline)
            delay = retry.delay(attempts, failed, shell)
            if delay is None:
                raise attempts.concluded(failed)
            await anyio.sleep(delay)

    def request(self, arguments: dict[str, Any]) -> Request:
        """The call as interceptors and fetchers see it."""
        options = self.options
        kind = self.spec.kind
        return Request(
            controller=self._controller,
            method=self.spec.name,
            arguments=arguments,
            kind="stream" if kind == "untyped" else kind,
            metadata={**outgoing_metadata.get(), **options.metadata},
            direction="outbound",
            session=self._session,
            options={
                "timeout": options.timeout,
                "idle_timeout": options.idle_timeout,
                "validate": options.validate,
                "overflow": options.overflow,
                "window": options.window,
            },
        )

    def _split(
        self, arguments: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Arguments by name, as interceptors and fetchers see them, back into what travels how."""
        params: Mapping[str, Param] = self.spec.params
        values: dict[str, Any] = {}
        channels: dict[str, dict[str, Any]] = {"upload": {}, "callback": {}, "value": values}
        for name, value in arguments.items():
            param = params.get(name)
            channels["value" if param is None else param.kind][name] = value
        return values, channels["upload"], channels["callback"]

    # ------------------------------------------------------------ streams

    def _open_stream(
        self, values: dict[str, Any], uploads: dict[str, Any], callbacks: dict[str, Any]
    ) -> Stream[Any, Any]:
        fetcher = self.options.stream_fetcher
        request = self.request({**values, **uploads, **callbacks})
        if fetcher is None:
            return self.fetch(request)
        fetched = Fetched()

        def fetch(request: Request) -> Stream[Any, Any]:
            stream = self.fetch(request, fetched.tally)
            fetched.streams.add(stream)
            return stream

        source = fetcher(request, fetch)
        return source if isinstance(source, Stream) else MadeStream(source, self.label, fetched)

    def fetch(self, request: Request, tally: Tally | None = None) -> Stream[Any, Any]:
        """The default way to a stream: over the session, through the interceptors.

        Args:
            request: What to call.
            tally: Counts what the stream lets go, together with others.
        """
        if not self._interceptors:
            return self._remote(request, tally)

        fetched = Fetched(tally)

        async def innermost(request: Request) -> Any:
            stream = self._remote(request, fetched.tally)
            fetched.streams.add(stream)
            return stream

        return MadeStream(fold(self._interceptors, innermost)(request), self.label, fetched)

    def _remote(self, request: Request, tally: Tally | None) -> RemoteStream:
        kind = TrackedStream if isinstance(self.spec.item, TrackedAdapter) else RemoteStream
        return kind(self, request, Tally(tally), *self._split(request.arguments))

    # ------------------------------------------------------------ kind unknown

    def _untyped(
        self, values: dict[str, Any], uploads: dict[str, Any], callbacks: dict[str, Any]
    ) -> UntypedCall:
        return UntypedCall(
            lambda: self._intercepted(values, uploads, callbacks),
            lambda: self._open_stream(values, uploads, callbacks),
            self.label,
        )


class Notification(Conversation):
    """A notification under way: its sender waits for a slot at most, and closing for its end."""

    __slots__ = ("_again", "_call", "_future", "_label", "_shell")

    def __init__(
        self,
        shell: Shell,
        label: str,
        call: OutCall,
        again: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._again = again
        self._shell = shell
        self._label = label
        self._call = call
        self._future: Future | None = None
        shell.notifications.add(self)

    async def queued(self, timing: Timing) -> None:
        """Wait until the notification has a slot.

        Raises:
            DeadlineExceeded: None came free in time; nothing was sent.
            ConnectionLost: The session ended; nothing was sent.
        """
        shell = self._shell
        self._future = shell.runtime.future()
        entry = None
        if timing.alarm is not None:
            entry = shell.deadlines.add(timing.alarm, self._expire)
        try:
            outcome = await self._future
        except BaseException:
            self._withdraw()
            raise
        finally:
            if entry is not None:
                shell.deadlines.remove(entry)
        if outcome is not None:
            raise outcome

    def _withdraw(self) -> None:
        self._shell.endpoint.cancel(self._call)
        if self._call.id == 0:
            self._shell.notified(self)

    def _settle(self, outcome: RpcError[Any] | None) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(outcome)

    def _expire(self) -> None:
        error = DeadlineExceeded(f"{self._label} got no slot before its deadline")
        error.not_started = True
        self._settle(error)
        self._withdraw()

    def on_started(self) -> None:
        self._settle(None)

    def on_lost(self, error: ConnectionLost) -> None:
        shell = self._shell
        if error.not_started and self._future is None:
            # Its sender has gone on, and trusts that it will be sent.
            if not shell.unsent:
                shell.nursery.spawn(_queue_again, shell.unsent)
            shell.unsent.append(self)
        self._settle(error)
        shell.notified(self)

    async def queue_again(self) -> None:
        """Hand it to the next session of the wire, if there is one."""
        try:
            await self._again()
        except RpcError as error:
            # Not the error itself: whoever keeps the record would keep the session.
            self._shell.log.warning(
                "the notification %s was never sent: %s", self._label, error.code
            )

    def on_finished(self, frame: Terminal) -> None:
        self._shell.notified(self)
        if isinstance(frame, Error):
            code = frame.body.code if frame.body.code in CODES else Code.UNKNOWN
            self._shell.log.debug("the notification %s ended with %s", self._label, code)


async def _queue_again(notifications: list[Any]) -> None:
    # One after the other: they keep their order.
    for notification in notifications:
        await notification.queue_again()


class Fetched:
    """What a stream fetcher or an interceptor has fetched so far.

    Attributes:
        streams: The streams, as long as somebody holds them.
        tally: What they have let go, those that nobody holds any more included.
    """

    __slots__ = ("streams", "tally")

    def __init__(self, whole: Tally | None = None) -> None:
        self.streams: WeakSet[Stream[Any, Any]] = WeakSet()
        self.tally = Tally(whole)


class MadeStream(LocalStream[Any, Any]):
    """What a stream fetcher or an interceptor made of streams from the other end.

    Args:
        source: What it returned.
        label: What messages call it.
        fetched: The streams from the other end; they end with this one.
    """

    __slots__ = ("_fetched",)

    def __init__(self, source: Any, label: str, fetched: Fetched) -> None:
        super().__init__(source, label)
        self._fetched = fetched

    @property
    def lag(self) -> int:
        return sum(stream.lag for stream in self._fetched.streams)

    @property
    def dropped(self) -> int:
        return self._fetched.tally.dropped

    def cancel(self) -> None:
        super().cancel()
        for stream in list(self._fetched.streams):
            stream.cancel()


class RemoteStream(InboxStream):
    """A stream from the other end. Nothing is sent before the first item is asked for.

    It is opened again like a unary call (RETRY-1) as long as nothing of it has been delivered.
    """

    last_id: str | None = None

    def __init__(
        self,
        method: ProxyMethod,
        request: Request,
        tally: Tally,
        values: dict[str, Any],
        uploads: dict[str, Any],
        callbacks: dict[str, Any],
    ) -> None:
        super().__init__(None, method.label, method.options.idle_timeout)
        self._method = method
        self._tally = tally
        self._metadata = request.metadata
        self._arguments = values
        self._extras = method.extras(uploads, callbacks)
        self._shell: Shell | None = None
        self._call: OutCall | None = None
        self._timing: Timing | None = None
        self._payload: Encoded | None = None
        self._attempts: Attempts | None = None
        self._pause: anyio.Event | None = None
        self._delivered = False

    @property
    def dropped(self) -> int:
        return self._tally.dropped

    async def _start(self) -> Inbox:
        method, extras = self._method, self._extras
        shell = self._shell = method.route.hub
        options = method.options
        self._call = None
        if self._payload is None:
            # Once: whoever changes an argument later does not mean this call.
            self._payload = method.dump_args(self._arguments)
        timing = self._timing = self._timing or Timing(shell, options.stream_timeout())
        await shell.room(timing.alarm)
        call = self._call = begin(
            shell,
            self._label,
            self._label,
            self._payload,
            timing,
            metadata=self._metadata,
            extras=extras,
            window=first_credit(options.overflow, options.window, shell.limits),
            last_id=self.last_id,
        )
        inbox = INBOXES[options.overflow](
            shell,
            call,
            method.spec.item,
            method.spec.final,
            # Not `self`: what the session holds must not keep the stream alive.
            lambda invalid: invalid_answer(method.label, invalid),
            label=self._label,
            on_started=None if extras is None else extras.start,
            on_over=None if extras is None else extras.stop,
            check=method.check_results,
            tally=self._tally,
            room=options.window or shell.limits.window,
        )
        call.context = inbox
        if extras is not None:
            extras.attach(shell, call)
        if timing.alarm is not None:
            inbox.expire_at(timing.alarm)
        shell.wake()
        return inbox

    def _goes_on(self) -> bool:
        """Whether the stream may be opened again, as far as what was delivered goes."""
        delivered, self.fresh = self.fresh, False
        self._delivered = self._delivered or delivered
        return not self._delivered

    async def _reopens(self, error: RpcError[Any]) -> bool:
        retry, shell, timing = self._method.retry, self._shell, self._timing
        if shell is None or timing is None or not self._goes_on():
            return False
        if not retry.wants(
            error,
            begun=self._extras is not None and self._extras.begun,
            refused=self._call is None,
        ):
            return False
        attempts = self._attempts = self._attempts or retry.attempts(timing.deadline)
        delay = retry.delay(attempts, error, shell)
        if delay is None:
            return False
        await self._settle()
        self._pause = anyio.Event()
        with anyio.move_on_after(delay):
            await self._pause.wait()
        self._inbox = None
        return True

    async def _failed(self, error: RpcError[Any]) -> BaseException:
        extras, timing = self._extras, self._timing
        if self._attempts is not None:
            error = self._attempts.concluded(error)
        await self._settle()
        if extras is not None and extras.failure is not None:
            return extras.failure
        if error.code == Code.DEADLINE_EXCEEDED and timing is not None:
            await timing.let_scope_fire()
        return error

    def _reason(self) -> str:
        timing, shell = self._timing, self._shell
        return "cancelled" if timing is None or shell is None else timing.reason(shell)

    def _close(self, reason: str) -> None:
        super()._close(reason)
        if self._pause is not None:
            self._pause.set()

    async def aclose(self) -> None:
        await super().aclose()
        await self._settle()

    async def _settle(self) -> None:
        if self._extras is not None:
            await self._extras.close()


class TrackedStream(RemoteStream):
    """A stream that can be opened again behind the last item that was delivered (RETRY-3)."""

    async def __anext__(self) -> Any:
        inbox = self._inbox
        if inbox is not None and inbox.items and not self._over:
            item = inbox.pop()
        else:
            item = await self._next()
        self.last_id = item.id
        return item

    def _goes_on(self) -> bool:
        if self.fresh and self._attempts is not None:
            self._attempts.reset()
        self.fresh = False
        return True
