"""Proxies: clientized controllers, on which users make outbound calls.

A proxy is made once per `clientize`; each of its methods knows its signature, its options and the
session, and turns arguments into a `UnaryCall` or a `Stream` that send nothing before they are
used.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any, TypeAlias

import anyio

from ..context import outgoing_metadata
from ..contract.controller import Interface
from ..contract.description import UntypedInterface
from ..contract.signature import Param, near
from ..errors import RpcError
from ..interfaces import Request, Session, fold
from ..protocol.splice import Encoded
from ..stream import Stream
from ..streams.items import Tally
from ..unary import UnaryCall, UntypedCall
from ..values.tracked import TrackedAdapter
from .begin import begin
from .invoke import Callee, invoke
from .notification import Notification
from .observed import OutboundCall, told
from .options import Options
from .remote_method import RemoteMethod
from .remote_stream import Fetched, MadeStream, RemoteStream, TrackedStream
from .retry import Attempts
from .route import Route
from .timing import Timing
from .untyped import LooseInterface

__all__ = ["Proxy", "ProxyMethod"]


AnyInterface: TypeAlias = Interface | UntypedInterface | LooseInterface


class Proxy:
    """A controller at the other end; its attributes are the methods."""

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


class ProxyMethod(RemoteMethod):
    """One method of a proxy, called like the method itself."""

    def __init__(
        self, session: Session, route: Route, controller: str, spec: Any, options: Options
    ) -> None:
        super().__init__(route, controller, spec, options)
        self._session = session
        self._controller = controller
        self._bind = spec.bind
        self._timeout = options.unary_timeout(spec.timeout)
        self._callee = Callee(
            self.label,
            self.label,
            spec.result,
            self._timeout,
            check=self.check_results,
            tags=spec.tags,
        )
        self._interceptors = (*session.interceptors, *options.interceptors)
        self.__name__ = spec.name
        self.__doc__ = spec.doc

    def __repr__(self) -> str:
        return f"<remote method {self.label}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # It gets a local name: CPython 3.11 looks up a callable in an attribute anew for each call.
        bind = self._bind
        values, uploads, callbacks = bind(args, kwargs)
        kind = self.spec.kind
        if kind == "stream":
            return self._open_stream(values, uploads, callbacks)
        if kind == "untyped":
            return self._untyped(values, uploads, callbacks)
        if self._interceptors:
            return UnaryCall(self._intercepted(values, uploads, callbacks), self.label)
        metadata = self.options.metadata
        return UnaryCall(self._invoke(values, uploads, callbacks, metadata), self.label)

    async def notify(self, *args: Any, **kwargs: Any) -> None:
        """Call the method one way, in spite of its declaration: no answer comes back.

        Raises:
            TypeError: The method streams, or takes streams or callbacks; the caller's fault.
        """
        values, uploads, callbacks = self._bind(args, kwargs)
        if self.spec.kind == "stream" or uploads or callbacks:
            raise TypeError(f"{self.label} cannot be notified: call it instead")
        await self._notify(values, self.options.metadata)

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
        try:
            hub = self.route.hub
            payload = self.dump_args(values, hub.codec)
        except RpcError as error:
            self.unsent("unary", metadata, error)
            raise
        return invoke(
            hub,
            self._callee,
            payload,
            metadata,
            self.attachments(uploads, callbacks) if uploads or callbacks else None,
            self.retry,
        )

    async def _notify(self, values: dict[str, Any], metadata: Mapping[str, str]) -> None:
        """Queue a notification; waits for room and for a slot, not for the other end."""
        metadata = {**outgoing_metadata.get(), **metadata}
        try:
            hub = self.route.in_order
            payload = self.dump_args(values, hub.codec)
        except RpcError as error:
            self.unsent("notify", metadata, error)
            raise
        timing = Timing(hub, self._timeout)
        queued = self._queue(payload, timing, metadata)
        if hub.events.observed:
            observed = OutboundCall(hub, self.label, "notify", metadata, self.spec.tags)
            queued = told(observed, queued, timing)
        await queued

    async def _queue(self, payload: Encoded, timing: Timing, metadata: Mapping[str, str]) -> None:
        """Queue a notification anew until a wire session has taken it, or none will."""
        retry = self.retry
        attempts: Attempts | None = None
        while True:
            hub = self.route.in_order
            try:
                await hub.room(timing.alarm)
                call = begin(
                    hub, self.label, self.label, payload, timing, metadata=metadata, oneway=True
                )
                again = partial(self._queue, payload, timing, metadata)
                notification = call.owner = Notification(hub, self.label, call, again)
                hub.wake()
                if hub.endpoint.waiting(call):
                    await notification.queued(timing)
                return
            except RpcError as error:
                if not retry.wants(error, refused=True):
                    raise
                failed = error
            attempts = attempts or retry.attempts(timing.deadline)
            delay = retry.delay(attempts, failed, hub)
            if delay is None:
                raise attempts.concluded(failed)
            await anyio.sleep(delay)

    def request(self, arguments: dict[str, Any]) -> Request:
        """The call, as interceptors and stream fetchers get it."""
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
            tags=self.spec.tags,
        )

    def _split(
        self, arguments: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Split the arguments of a `Request` into values, uploads and callbacks."""
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
        """Fetch a stream the default way: over the session, through the interceptors.

        Args:
            request: The call to make.
            tally: Counts the items that this stream drops, together with others.
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
