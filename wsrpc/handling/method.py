"""Calls of exposed methods: permission, arguments, interceptors, method, value or stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar
from weakref import ref

from ..calling.invoke import Callee, invoke
from ..calling.observed import unsent
from ..context import NO_METADATA, CallContext, Handling, handling, outgoing_metadata
from ..contract.signature import MethodSpec, Param
from ..engine.ledger import STEP
from ..errors import Code, RpcError
from ..interfaces import ObservedCall, Request, fold
from ..protocol.frames import ErrorBody
from ..protocol.lanes import CallbackTarget, InCall, UploadReader
from ..protocol.splice import Encoded
from ..runtime import Future
from ..stream import NotFinished, Stream
from ..streams.consumer import Consumer
from ..streams.producer import Producer
from ..streams.pushing import Packer
from ..streams.received_stream import ReceivedStream
from ..values.adapter import InvalidValue, Unencodable
from .handler import OK, Handler
from .live import LiveCalls
from .observed import inbound
from .refusals import bad, invalid_argument, under
from .sync_iterator import ThreadIterator
from .target import MethodEntry

__all__ = ["MethodHandler"]

T = TypeVar("T")

# Seconds that a handler has for a callback that it awaits, like any unary call.
CALLBACK_TIMEOUT = 30.0


class MethodHandler(Handler):
    """A call of an exposed method."""

    __slots__ = ("_arguments", "_consumers", "_sources", "_unauthorized", "entry")

    def __init__(self, calls: LiveCalls, call: InCall, entry: MethodEntry) -> None:
        # Without `super()`, which takes 800 instructions more.
        Handler.__init__(self, calls, call, entry.label)
        self.entry = entry
        self._arguments: Future | None = None
        self._unauthorized = calls.authorize is not None and entry.guarded
        self._consumers: dict[str, Consumer] = {}
        self._sources: tuple[Any, ...] = ()
        # They open now, not when the task begins: items may come in the same message as the call.
        if call.uploads:
            self._open_consumers()

    def _open_consumers(self) -> None:
        for name, lane in self.call.uploads.items():
            param = self.entry.spec.params.get(name)
            if param is not None and param.kind == "upload":
                self._consumers[name] = self._consumer(lane, param)

    @property
    def attached(self) -> bool:
        return self.entry.spec.options.on_disconnect == "cancel"

    @property
    def ends_on_drain(self) -> bool:
        return self.entry.spec.ends_on_drain

    @property
    def waits(self) -> bool:
        return self._unauthorized or super().waits

    def _weigh(self, size: int) -> None:
        self.entry.weigh(size, self.call.oneway)

    def _await_arguments(self) -> None:
        if self._unauthorized:
            # The decision need not wait for the arguments, and after a refusal they need no memory.
            self._arguments = self.hub.runtime.future()
            self._launch()

    def _arguments_came(self) -> None:
        if self._arguments is None:
            self._launch()
        elif not self._arguments.done():
            self._arguments.set_result(None)

    def _close_uploads(self) -> None:
        for consumer in self._consumers.values():
            # Code that still holds the upload must not wait for items that cannot come.
            consumer.fail(
                RpcError(Code.CANCELLED, f"{self.label} has ended, and its uploads with it")
            )

    async def _handle(self) -> None:
        hub, entry, call, calls = self.hub, self.entry, self.call, self.calls
        spec = entry.spec
        context = CallContext(
            ref(hub.session),
            call.id,
            call.options,
            entry.exposed.name,
            spec.name,
            self._deadline,
            spec.tags,
        )
        self.handled = handled = Handling(call, context)
        handling.set(handled)
        if outgoing_metadata.get() is not NO_METADATA:
            outgoing_metadata.set(NO_METADATA)
        if self._unauthorized:
            call.detach_arguments()
            if not await self._authorized(context):
                return
        squeezed = hub.endpoint.crowded or hub.account.holder.over
        # A later call does not overtake those that wait (BATCH-5).
        if (squeezed or hub.waiting_calls) and not self._nested:
            await self._admitted(light=entry.light)
        try:
            load = spec.load_args
            arguments = load(call.args, hub.codec)
            call.forget_arguments()
            if entry.channels or call.uploads or call.callbacks:
                self._add_channels(spec, arguments)
        except InvalidValue as invalid:
            raise invalid_argument(self.label, invalid) from None
        if calls.events.observed:
            self._runs()
            for consumer in self._consumers.values():
                consumer.observed = self.observed
        else:
            # This is `_runs`, written out to save a function call.
            self._since = 0.0
        if entry.interceptors:
            pending = self._intercepted(arguments, context)
        elif spec.flavor == "coroutine":
            pending = (entry.function or calls.function(entry))(**arguments)
        else:
            pending = self._call(arguments)
        # An upload that the method drops must be gone, so that its producer stops.
        del arguments
        outcome = await pending
        if spec.kind == "stream":
            await self._stream(outcome)
            return
        payload = self._dump_result(spec.result, outcome)
        del outcome, pending
        if (len(payload) < STEP) is not entry.light:
            entry.weigh(len(payload), call.oneway)
        if not self._answer(payload):
            await self._room_for(payload)
            self._answer(payload, True)

    def _observe(self) -> ObservedCall:
        spec = self.entry.spec
        return inbound(
            self.calls.session,
            self.call,
            self.entry.exposed.name,
            spec.name,
            "notify" if self.call.oneway else spec.kind,
            self.entry.tags,
        )

    async def _authorized(self, context: CallContext) -> bool:
        """Whether the call may begin, with its arguments here; else it is refused (AUTHZ-1)."""
        authorize = self.calls.authorize
        assert authorize is not None
        body = ErrorBody(Code.PERMISSION_DENIED, f"{self.label} is not allowed")
        try:
            allowed = await authorize(context)
        except Exception as error:  # noqa: BLE001  (the call has to be answered)
            allowed, body = False, self._body(error)
        if self._halted():
            return False
        if allowed is False:
            self._code, self._error_id = body.code, body.error_id
            if self._open:
                self.hub.endpoint.decline(self.call, body)
                self.hub.settle()
                self.hub.wake()
            return False
        if self._arguments is not None:
            await self._arguments
        self._unauthorized = False
        return True

    async def _intercepted(self, arguments: dict[str, Any], context: CallContext) -> Any:
        entry = self.entry
        request = Request(
            controller=entry.exposed.name,
            method=entry.spec.name,
            arguments=arguments,
            kind=entry.spec.kind,
            metadata=dict(context.metadata),
            direction="inbound",
            session=self.calls.session,
            tags=entry.spec.tags,
        )

        async def innermost(request: Request) -> Any:
            outcome = await self._call(request.arguments)
            if entry.spec.kind == "stream":
                self._sources = (*self._sources, outcome)
            return outcome

        return await fold(entry.interceptors, innermost)(request)

    async def _call(self, arguments: dict[str, Any]) -> Any:
        """The method's value; for a stream, an async iterator that has not begun."""
        spec = self.entry.spec
        fn = self.calls.function(self.entry)
        match spec.flavor:
            case "coroutine" | "awaited_iterator":
                return await fn(**arguments)
            case "async_iterator":
                return fn(**arguments)
            case "sync":
                return await self._in_thread(partial(fn, **arguments))
            case "sync_iterator":
                return ThreadIterator(
                    self.hub,
                    partial(fn, **arguments),
                    threads=self.calls.threads,
                    take=partial(self.take_thread, self.calls.threads.generators),
                    credit=lambda: self.call.allowance,
                    stopped=lambda: self.stopped is not None,
                    undisturbed=self.undisturbed,
                )

    async def _stream(self, source: AsyncIterator[Any]) -> None:
        hub, call = self.hub, self.call
        spec = self.entry.spec
        assert spec.item is not None
        packer = Packer(
            hub,
            spec.item,
            spec.final,
            check=self.calls.check,
            no_final=f"{self.label} yielded wsrpc.Final, but is not annotated with it: write "
            "AsyncIterator[Item | wsrpc.Final[Value]]",
        )
        self.producer = Producer(
            hub, call, packer, halt=self.halt, spare=self.spare, observed=self.observed
        )
        events = self.calls.events
        events.generator_opened()
        try:
            await self.producer.run(source)
        finally:
            try:
                # An interceptor that wraps a stream may forget to close it.
                for inner in self._sources:
                    if hasattr(inner, "aclose"):
                        await inner.aclose()
            finally:
                events.generator_closed()
        if self._open and not self._halted():
            self._code = OK
            final = self.producer.final
            if final is None and isinstance(source, Stream):
                final = self.producer.final = self._final_of(source, packer)
            hub.endpoint.finish(call, final)
            if final is not None and len(final) >= STEP:
                hub.settle()
            hub.wake()

    def _final_of(self, source: Stream[Any, Any], packer: Packer) -> Encoded | None:
        """The final value of a stream that the method passed on."""
        with suppress(NotFinished):
            if self.entry.spec.final is not None and source.final is not None:
                return packer.final(source.final)
        return None

    # ------------------------------------------------------------ arguments

    def _add_channels(self, spec: MethodSpec, arguments: dict[str, Any]) -> None:
        """The call's streams and callbacks as arguments (CALL-4)."""
        call = self.call
        for name in call.uploads:
            if name not in self._consumers:
                raise bad((name,), "no such upload parameter", "unexpected_upload")
            arguments[name] = ReceivedStream(self._consumers[name], f"{self.label}({name}=…)")
        for name, target in call.callbacks.items():
            param = spec.params.get(name)
            if param is None or param.kind != "callback":
                raise bad((name,), "no such callback", "unexpected_callback")
            arguments[name] = self._callback(target, param)
        for param in spec.params.values():
            if param.required and param.kind != "value" and param.name not in arguments:
                raise bad((param.name,), f"Missing {param.kind}", "missing")

    def _consumer(self, lane: UploadReader, param: Param) -> Consumer:
        assert param.item is not None

        def invalid(error: InvalidValue) -> RpcError[Any]:
            return invalid_argument(self.label, under(param.name, error))

        label = f"{self.label}({param.name}=…)"
        consumer = lane.owner = Consumer(self.hub, lane, param.item, None, invalid, label=label)
        return consumer

    def _callback(self, target: CallbackTarget, param: Param) -> Callable[..., Awaitable[Any]]:
        hub, label = self.hub, f"{self.label}({param.name}=…)"
        assert param.result is not None
        callee = Callee(label, target.id, param.result, CALLBACK_TIMEOUT, target=target)

        async def callback(*arguments: Any, **named: Any) -> Any:
            arguments = (*arguments, *(named.pop(name) for name in param.names if name in named))
            if named:
                raise TypeError(f"{label} got an unexpected argument {next(iter(named))!r}")
            if len(arguments) != len(param.arguments):
                raise TypeError(
                    f"{label} takes {len(param.arguments)} arguments; got {len(arguments)}"
                )
            try:
                if target.is_over:
                    raise RpcError(Code.FAILED_PRECONDITION, f"{label}: its call has ended")
                parts = [
                    bytes(adapter.dump(argument, hub.codec))
                    for adapter, argument in zip(param.arguments, arguments, strict=True)
                ]
            except RpcError as error:
                unsent(hub.session, hub.events, label, "callback", error.code)
                raise
            except Unencodable as error:
                unsent(hub.session, hub.events, label, "callback", Code.INVALID_ARGUMENT)
                raise RpcError(Code.INVALID_ARGUMENT, str(error)) from None
            payload = hub.codec.join(parts)
            # Only the encoding is held while the call waits.
            del parts, arguments, named
            return await invoke(hub, callee, payload)

        callback.__name__ = callback.__qualname__ = param.name
        return callback
