"""One inbound call while it runs: validate, run the code, send the terminal.

A `Handler` is the task and the state of one call, from the frame that opened it to the cleanup
behind its terminal.
"""

from __future__ import annotations

import secrets
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from msgspec import Raw

from ..calling.invoke import invoke
from ..context import NO_METADATA, CallContext, handling, outgoing_metadata
from ..contract.signature import MethodSpec, Param
from ..engine.failures import as_text, error_body
from ..engine.hub import Conversation, Offered
from ..errors import Code, ConnectionLost, RpcError
from ..interfaces import Request, fold
from ..protocol.endpoint import ValueTooLargeError
from ..protocol.frames import ABSENT, ErrorBody
from ..protocol.lanes import CallbackTarget, InCall, UploadReader
from ..protocol.splice import Encoded
from ..runtime import Future, Task
from ..runtime.timers import Deadline
from ..stream import NotFinished, Stream
from ..streams.consumer import Inbox, InboxStream
from ..streams.producer import Feed, Packer
from ..values.adapter import Adapter, InvalidValue
from .live import LiveCalls
from .sync_iterator import ThreadIterator
from .target import MethodEntry

__all__ = ["CallbackHandler", "Handler", "MethodHandler"]

T = TypeVar("T")

# Seconds that a handler has for a callback that it awaits, like any unary call.
CALLBACK_TIMEOUT = 30.0

# What a caller is told of a handler that was stopped, by the code of its error.
STOPPED = {
    "cancelled": "cancelled",
    "deadline_exceeded": "deadline exceeded",
    "unavailable": "the other end is going away, and does not finish the call",
}


class Handler(Conversation):
    """One inbound call while it runs."""

    __slots__ = (
        "_begun",
        "_deadline",
        "_entry",
        "_killer",
        "_task",
        "_threaded",
        "call",
        "calls",
        "context",
        "feed",
        "label",
        "shell",
        "stopped",
    )

    def __init__(self, calls: LiveCalls, call: InCall, label: str) -> None:
        self.calls = calls
        self.shell = calls.shell
        self.call = call
        self.label = label
        self.feed: Feed | None = None
        self.context: CallContext | None = None
        self.stopped: str | None = None
        self._begun = False
        self._threaded = False
        self._deadline: float | None = None
        self._entry: Deadline | None = None
        self._killer: Deadline | None = None
        self._task: Task | None = None
        call.context = self

    def __repr__(self) -> str:
        return f"the handler of {self.label}, id {self.call.id}"

    @property
    def attached(self) -> bool:
        """Whether it is to be cancelled when the connection is lost."""
        return False

    @property
    def waits(self) -> bool:
        """Whether a handler that runs has not begun what it is for."""
        return False

    # ------------------------------------------------------------ start and stop

    def start(self, complete: bool) -> None:
        """Run the call, as soon as its arguments are here; its time counts from now."""
        shell = self.shell
        if self.call.cancel_reason is not None:
            self._refuse(self.call.cancel_reason)
            return
        timeout = self.call.timeout
        if timeout is not None:
            self._deadline = deadline = shell.runtime.now() + timeout / 1000
            self._entry = shell.deadlines.add(deadline, self._expire)
        self.calls.begin(self)
        if complete:
            self._launch()
        else:
            self._await_arguments()

    def on_arguments(self) -> None:
        self._launch()

    def _await_arguments(self) -> None:
        """Do what can be done before they are here."""

    def _launch(self) -> None:
        self.calls.stats.begin_call()
        self._spawn()

    def _spawn(self) -> None:
        self._task = self.shell.nursery.spawn_handler(self._run, deadline=self._deadline)

    def _refuse(self, reason: str) -> None:
        self.shell.endpoint.refuse(self.call, reason, f"{STOPPED[reason]} before it began")
        self.shell.wake()

    def on_cancel(self, reason: str) -> None:
        self.stop(reason)

    def on_credit(self) -> None:
        if self.feed is not None:
            self.feed.wake()

    def on_lost(self, error: ConnectionLost) -> None:
        self.stop("cancelled")

    def _expire(self) -> None:
        self._entry = None
        self.stop("deadline_exceeded")

    def stop(self, reason: str) -> None:
        """Cancel the handler; its cleanup then has `Limits.cleanup_timeout`."""
        if self.stopped is not None:
            return
        self.stopped = reason
        if self._task is None:
            # Its arguments never came.
            if self._open:
                self._refuse(reason)
            self._ended()
            return
        if self._deadline is not None and self._task is not None:
            # From here on `cleanup_timeout` counts, and nothing else may disturb the cleanup.
            self.shell.runtime.forget_deadline(self._task)
            if self.context is not None:
                self.context.deadline = None
        if self._begun and not (self.feed is not None and self.feed.closing):
            assert self._task is not None
            self.shell.runtime.cancel(self._task)
        if self.feed is not None:
            # After the cancellation: trio would deliver that behind the wait that this ends.
            self.feed.stop()
        self._arm_killer()

    def halt(self) -> None:
        """The stream has failed while its source waits: cancel that."""
        assert self._task is not None
        self.shell.runtime.cancel(self._task)

    def spare(self) -> None:
        """The stream has seen by itself that it is over: its cleanup is not to be cancelled."""
        assert self._task is not None
        self.shell.runtime.spare(self._task)

    def _arm_killer(self) -> None:
        when = self.shell.runtime.now() + self.shell.limits.cleanup_timeout
        self._killer = self.shell.deadlines.add(when, self._kill)

    def _kill(self) -> None:
        """The cleanup takes too long: cancel it as well, and go on doing so."""
        self.shell.log.warning("%s was still cleaning up after cleanup_timeout", self.label)
        if self._begun and not self._threaded:
            assert self._task is not None
            self._task.cancel()
        self._arm_killer()

    # ------------------------------------------------------------ the task

    async def _run(self) -> None:
        self._begun = True
        try:
            if self.stopped is None:
                await self._handle()
                if self.stopped is not None:
                    self._fail_stopped()
            elif self.shell.lost is None:
                self._refuse(self.stopped)
        except Exception as error:  # noqa: BLE001  (every failure becomes the call's terminal)
            self._fail(error)
        except self.shell.runtime.cancelled_class():
            if self.stopped is None and self._overdue():
                # The loop was held up, and the scope that tells the handler its deadline came
                # before the session's timer.
                self.stopped = "deadline_exceeded"
            if self.stopped is None:
                # Somebody else cancelled this task: the nursery at the session's end, or the
                # handler itself. Without `stopped` the cancellation is not ours to keep.
                self._fail(RpcError(Code.CANCELLED, "the handler was cancelled"))
                raise
            self._fail_stopped()
        except (KeyboardInterrupt, SystemExit) as error:
            self._fail(error)
            raise
        except BaseException as error:  # noqa: BLE001  (one call must not end all others)
            # Exotic classes of the handler's own; and groups with a cancellation among others, as
            # task groups raise them.
            self._fail(error)
        finally:
            self.calls.stats.calls_live -= 1
            self._ended()

    async def _handle(self) -> None:
        raise NotImplementedError

    def _halted(self) -> bool:
        """Whether the call was stopped, even if this handler has yet to hear of it.

        The endpoint takes a message as a whole, and the session acts on it in slices: a `cancel`
        far behind in it has changed the call's state before it gets here.
        """
        if self.stopped is None and self.call.state == "cancelled":
            self.stopped = self.call.cancel_reason or "cancelled"
        return self.stopped is not None

    def _overdue(self) -> bool:
        return self._deadline is not None and self.shell.runtime.now() >= self._deadline

    def _ended(self) -> None:
        self.calls.end(self)
        # The two point at each other; left so, each call would be garbage for the collector.
        self.call.context = None
        if self.context is not None:
            self.context.end()
        if self._entry is not None:
            self.shell.deadlines.remove(self._entry)
        if self._killer is not None:
            self.shell.deadlines.remove(self._killer)
        if self.call.uploads:
            self._close_uploads()

    def _close_uploads(self) -> None:
        """Those that the code may still hold."""

    # ------------------------------------------------------------ terminals

    @property
    def _open(self) -> bool:
        return self.shell.lost is None and self.call.state != "finished"

    def _dump_result(self, adapter: Adapter | None, value: Any) -> Encoded:
        codec = self.shell.codec
        if self.call.oneway or adapter is None:
            return bytes(codec.null)
        return adapter.dump(value, codec, check=self.calls.check)

    def _answer(self, payload: Encoded) -> None:
        shell, call = self.shell, self.call
        if self._halted() or shell.lost is not None or call.state == "finished":
            return
        if call.oneway:
            shell.endpoint.finish(call)
        else:
            shell.endpoint.result(call, payload)
        shell.flush()

    def _fail_stopped(self) -> None:
        if self._open:
            assert self.stopped is not None
            if self.waits:
                self._refuse(self.stopped)
                return
            self.shell.endpoint.fail(self.call, ErrorBody(self.stopped, STOPPED[self.stopped]))
            self.shell.wake()

    def _fail(self, error: BaseException) -> None:
        if self.stopped is not None:
            rest = self._without_cancellations(error)
            if rest is not None and not isinstance(rest, RpcError):
                self._log(rest, "failed while it was being stopped")
            self._fail_stopped()
            return
        body = self._body(error)
        if self._open:
            self.shell.endpoint.fail(self.call, body)
            self.shell.wake()

    def _without_cancellations(self, error: BaseException) -> BaseException | None:
        cancelled = self.shell.runtime.cancelled_class()
        if isinstance(error, BaseExceptionGroup):
            return error.split(cancelled)[1]
        return None if isinstance(error, cancelled) else error

    def _body(self, error: BaseException) -> ErrorBody:
        """What of `error` crosses the wire (ERROR-2, ERROR-3)."""
        single = _only_leaf(error)
        if isinstance(single, RpcError):
            try:
                return error_body(single, self.shell.codec)
            except Exception as unusable:  # noqa: BLE001  (whatever it is, the call must end)
                error = unusable
        if isinstance(error, ValueTooLargeError):
            return ErrorBody(Code.RESOURCE_EXHAUSTED, f"the answer of {self.label}: {error}")
        return self._internal(error)

    def _internal(self, error: BaseException) -> ErrorBody:
        error_id = self._log(error, "failed")
        body = ErrorBody(Code.INTERNAL, "internal error")
        body.error_id = error_id
        if self.calls.debug:
            body.message = as_text(f"{type(error).__name__}: {error}")
            lines = as_text("".join(traceback.format_exception(error))[-32_768:])
            body.data = Raw(self.shell.codec.dump({"traceback": lines}))
        return body

    def _log(self, error: BaseException, what: str) -> str:
        error_id = secrets.token_hex(8)
        self.shell.log.error("%s %s, error id %s", self.label, what, error_id, error=error)
        return error_id


def _only_leaf(error: BaseException) -> BaseException:
    """The one error in a group of one: a handler's task group must not hide what it raised."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


class CallbackHandler(Handler):
    """A callback of this side's, invoked by the peer: always unary, in its owner's context."""

    __slots__ = ("_offered",)

    def __init__(self, calls: LiveCalls, call: InCall, offered: Offered) -> None:
        super().__init__(calls, call, f"{offered.label}({offered.param.name}=…)")
        self._offered = offered

    def _spawn(self) -> None:
        context = self._offered.context.copy()
        self._task = self.shell.nursery.spawn_handler(
            self._run, context=context, deadline=self._deadline
        )

    async def _handle(self) -> None:
        param = self._offered.param
        self.context = context = CallContext(
            self.calls.session, self.call, "", param.name, self._deadline
        )
        handling.set(context)
        try:
            arguments = self._arguments(param)
        except InvalidValue as invalid:
            raise _invalid_argument(self.label, invalid) from None
        payload = self._dump_result(param.result, await self._offered.fn(*arguments))
        await self.shell.room()
        self._answer(payload)

    def _arguments(self, param: Param) -> list[Any]:
        raws: list[Raw] = self.shell.codec.split_array(self.call.args)
        if len(raws) != len(param.arguments):
            message = f"expected {len(param.arguments)} arguments, got {len(raws)}"
            raise _bad((min(len(raws), len(param.arguments)),), message, "arguments")
        arguments: list[Any] = []
        for position, (adapter, raw) in enumerate(zip(param.arguments, raws, strict=True)):
            try:
                arguments.append(adapter.load(raw, self.shell.codec))
            except InvalidValue as invalid:
                raise _under(position, invalid) from None
        return arguments


class MethodHandler(Handler):
    """A call of an exposed method."""

    __slots__ = ("_arguments", "_inboxes", "_sources", "_unauthorized", "entry")

    def __init__(self, calls: LiveCalls, call: InCall, entry: MethodEntry) -> None:
        super().__init__(calls, call, entry.label)
        self.entry = entry
        self._arguments: Future | None = None
        self._unauthorized = calls.authorize is not None
        self._inboxes: dict[str, Inbox] = {}
        self._sources: tuple[Any, ...] = ()
        # Now, not when the task begins: items may come with the very message that brought the call.
        if call.uploads:
            self._open_inboxes()

    def _open_inboxes(self) -> None:
        for name, lane in self.call.uploads.items():
            param = self.entry.spec.params.get(name)
            if param is not None and param.kind == "upload":
                self._inboxes[name] = self._inbox(lane, param)

    @property
    def attached(self) -> bool:
        return self.entry.spec.options.on_disconnect == "cancel"

    @property
    def waits(self) -> bool:
        return self._unauthorized

    def _await_arguments(self) -> None:
        if self._unauthorized:
            # The decision need not wait for them, nor they take up memory behind a no.
            self._arguments = self.shell.runtime.future()
            self._launch()

    def on_arguments(self) -> None:
        if self._arguments is None:
            self._launch()
        elif not self._arguments.done():
            self._arguments.set_result(None)

    def _close_uploads(self) -> None:
        for inbox in self._inboxes.values():
            # Whoever still holds the upload must not wait for items that cannot come.
            inbox.fail(RpcError(Code.CANCELLED, f"{self.label} has ended, and its uploads with it"))

    async def _handle(self) -> None:
        shell, entry, call = self.shell, self.entry, self.call
        spec = entry.spec
        self.context = context = CallContext(
            self.calls.session, call, entry.exposed.name, spec.name, self._deadline
        )
        handling.set(context)
        if outgoing_metadata.get() is not NO_METADATA:
            outgoing_metadata.set(NO_METADATA)
        if self._unauthorized and not await self._authorized(context):
            return
        try:
            arguments = spec.load_args(call.args, shell.codec)
            # It is a view of the message that brought it, and would keep all of that in memory.
            call.args = ABSENT
            if entry.channels or call.uploads or call.callbacks:
                self._add_channels(spec, arguments)
        except InvalidValue as invalid:
            raise _invalid_argument(self.label, invalid) from None
        if entry.interceptors:
            outcome = await self._intercepted(arguments, context)
        else:
            if spec.flavor == "coroutine":
                pending = self.calls.function(entry)(**arguments)
            else:
                pending = self._call(arguments)
            # An upload that the method drops must be gone, so that its producer stops.
            del arguments
            outcome = await pending
        if spec.kind == "stream":
            await self._stream(outcome)
            return
        payload = self._dump_result(spec.result, outcome)
        if shell.endpoint.outbox_full:
            await shell.room()
        self._answer(payload)

    async def _authorized(self, context: CallContext) -> bool:
        """Whether the call may begin, with its arguments there; else it is answered (AUTHZ-1)."""
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
            if self._open:
                self.shell.endpoint.decline(self.call, body)
                self.shell.wake()
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
                work = partial(fn, **arguments)
                return await self.undisturbed(anyio.to_thread.run_sync(work))
            case "sync_iterator":
                return ThreadIterator(
                    self.shell,
                    partial(fn, **arguments),
                    credit=lambda: self.call.credit.balance,
                    stopped=lambda: self.stopped is not None,
                    undisturbed=self.undisturbed,
                )

    async def undisturbed(self, wait: Awaitable[T]) -> T:
        """Wait for a worker thread, which nothing can cancel."""
        self._threaded = True
        try:
            return await wait
        finally:
            self._threaded = False

    async def _stream(self, source: AsyncIterator[Any]) -> None:
        shell, call = self.shell, self.call
        spec = self.entry.spec
        assert spec.item is not None
        packer = Packer(
            shell,
            spec.item,
            spec.final,
            check=self.calls.check,
            no_final=f"{self.label} yielded wsrpc.Final, but is not annotated with it: write "
            "AsyncIterator[Item | wsrpc.Final[Value]]",
        )
        self.feed = Feed(shell, call, packer, halt=self.halt, spare=self.spare)
        stats = self.calls.stats
        stats.generators_open += 1
        try:
            await self.feed.run(source)
        finally:
            try:
                # An interceptor that wraps a stream may forget to close it.
                for inner in self._sources:
                    if hasattr(inner, "aclose"):
                        await inner.aclose()
            finally:
                stats.generators_open -= 1
        if self._open and not self._halted():
            final = self.feed.final
            if final is None and isinstance(source, Stream):
                final = self._final_of(source, packer)
            shell.endpoint.finish(call, final)
            shell.wake()

    def _final_of(self, source: Stream[Any, Any], packer: Packer) -> Encoded | None:
        """What a stream that the method handed on has ended with."""
        with suppress(NotFinished):
            if self.entry.spec.final is not None and source.final is not None:
                return packer.final(source.final)
        return None

    # ------------------------------------------------------------ arguments

    def _add_channels(self, spec: MethodSpec, arguments: dict[str, Any]) -> None:
        """The call's streams and callbacks as arguments (CALL-4)."""
        call = self.call
        for name in call.uploads:
            if name not in self._inboxes:
                raise _bad((name,), "no such upload parameter", "unexpected_upload")
            arguments[name] = InboxStream(self._inboxes[name], f"{self.label}({name}=…)")
        for name, target in call.callbacks.items():
            param = spec.params.get(name)
            if param is None or param.kind != "callback":
                raise _bad((name,), "no such callback", "unexpected_callback")
            arguments[name] = self._callback(target, param)
        for param in spec.params.values():
            if param.required and param.kind != "value" and param.name not in arguments:
                raise _bad((param.name,), f"Missing {param.kind}", "missing")

    def _inbox(self, lane: UploadReader, param: Param) -> Inbox:
        assert param.item is not None

        def invalid(error: InvalidValue) -> RpcError[Any]:
            return _invalid_argument(self.label, _under(param.name, error))

        label = f"{self.label}({param.name}=…)"
        inbox = lane.context = Inbox(self.shell, lane, param.item, None, invalid, label=label)
        return inbox

    def _callback(self, target: CallbackTarget, param: Param) -> Callable[..., Awaitable[Any]]:
        shell, label = self.shell, f"{self.label}({param.name}=…)"

        async def callback(*arguments: Any) -> Any:
            if len(arguments) != len(param.arguments):
                raise TypeError(
                    f"{label} takes {len(param.arguments)} arguments; got {len(arguments)}"
                )
            if target.state == "finished":
                raise RpcError(Code.FAILED_PRECONDITION, f"{label}: its call has ended")
            parts = [
                bytes(adapter.dump(argument, shell.codec))
                for adapter, argument in zip(param.arguments, arguments, strict=True)
            ]
            assert param.result is not None
            return await invoke(
                shell,
                label,
                target.id,
                shell.codec.join(parts),
                param.result,
                CALLBACK_TIMEOUT,
                target=target,
            )

        callback.__name__ = callback.__qualname__ = param.name
        return callback


def _bad(loc: tuple[str | int, ...], message: str, kind: str) -> InvalidValue:
    """An argument that is wrong for a reason that pydantic does not see."""
    return InvalidValue([{"loc": list(loc), "msg": message, "type": kind}])


def _under(name: str | int, invalid: InvalidValue) -> InvalidValue:
    """The same errors, as those of one argument."""
    errors = [{**error, "loc": [name, *error["loc"]]} for error in invalid.errors]
    return InvalidValue(errors, invalid.total)


def _invalid_argument(label: str, invalid: InvalidValue) -> RpcError[Any]:
    return RpcError(
        Code.INVALID_ARGUMENT, f"invalid arguments for {label}: {invalid}", invalid.data()
    )
