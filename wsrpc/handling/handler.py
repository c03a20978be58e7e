"""One inbound call while it runs: validate, run the code, send the terminal.

A `Handler` is the task and the state of one call, from the frame that opened it to the cleanup
after its terminal.
"""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextvars import Context
from typing import Any, TypeVar

import anyio.to_thread
from msgspec import Raw

from ..context import Handling
from ..engine.failures import as_text, error_body
from ..engine.hub import LaneOwner
from ..engine.ledger import STEP
from ..errors import Code, ConnectionLost, RpcError
from ..interfaces import CallEnd, ObservedCall
from ..protocol.endpoint import ValueTooLargeError
from ..protocol.frames import ErrorBody
from ..protocol.lanes import InCall
from ..protocol.splice import Encoded
from ..runtime import Task
from ..runtime.by_hand import as_fault
from ..runtime.timers import TimerEntry
from ..streams.producer import Producer
from ..values.adapter import Adapter
from .live import LiveCalls
from .threads import NoThreadError, Place, Pool

__all__ = ["OK", "Handler"]

# The code of a call that did not fail.
OK = "ok"

T = TypeVar("T")

# Bytes. Calls with less are not counted: there are at most `max_calls` of them.
LIGHT = 256

FOREIGN = "with an error of another session, which crosses on only as `raise error.forward()`"

# The message to the caller of a handler that was stopped, by the code of its error.
STOPPED = {
    "cancelled": "cancelled",
    "deadline_exceeded": "deadline exceeded",
    "unavailable": "the other end is going away, and does not finish the call",
}


class Handler(LaneOwner):
    """One inbound call while it runs."""

    __slots__ = (
        "_begun",
        "_code",
        "_deadline",
        "_entry",
        "_error_id",
        "_killer",
        "_since",
        "_task",
        "_threaded",
        "_waits_for_thread",
        "_weight",
        "call",
        "calls",
        "handled",
        "hub",
        "label",
        "observed",
        "producer",
        "stopped",
    )

    def __init__(self, calls: LiveCalls, call: InCall, label: str) -> None:
        self.calls = calls
        self.hub = calls.hub
        self.call = call
        self.label = label
        self.producer: Producer | None = None
        self.handled: Handling | None = None
        self.stopped: str | None = None
        self._begun = False
        # The code with which it ended, and the time since which the method has run; negative before
        # that.
        self._code = ""
        self._error_id: str | None = None
        self._since = -1.0
        self.observed: ObservedCall | None = None
        self._threaded = False
        self._waits_for_thread = False
        # Bytes that came with the call, and are held for it.
        self._weight = 0
        self._deadline: float | None = None
        self._entry: TimerEntry | None = None
        self._killer: TimerEntry | None = None
        self._task: Task | None = None
        call.owner = self

    def __repr__(self) -> str:
        return f"the handler of {self.label}, id {self.call.id}"

    @property
    def attached(self) -> bool:
        """Whether to cancel it when the connection is lost."""
        return False

    @property
    def allowed(self) -> float | None:
        """Seconds that it may take, whatever the caller allows."""
        return None

    @property
    def ends_on_drain(self) -> bool:
        """Whether to cancel it when a drain begins."""
        return False

    @property
    def waits(self) -> bool:
        """Whether the handler runs, but its method has not begun."""
        return self._waits_for_thread

    # ------------------------------------------------------------ start and stop

    def start(self, complete: bool, baggage: int = 0) -> None:
        """Run the call as soon as its arguments are here; its timeout counts from now.

        Args:
            complete: Whether the arguments are here.
            baggage: Bytes that are held for it besides its arguments.
        """
        hub = self.hub
        if self.call.cancel_reason is not None:
            # The cancel itself comes next, and finds no task to stop.
            self.stopped = self.call.cancel_reason
            self._refuse(self.stopped)
            self._report()
            return
        timeout: float | None = self.call.timeout
        allowed = self.allowed
        if allowed is not None:
            timeout = allowed * 1000 if timeout is None else min(timeout, allowed * 1000)
        if timeout is not None:
            self._deadline = deadline = hub.runtime.now() + timeout / 1000
            self._entry = hub.timers.add(deadline, self._expire)
        self.calls.begin(self)
        if baggage >= LIGHT:
            self._load(baggage)
        if complete:
            size = len(self.call.args)
            if size >= LIGHT:
                self._load(size)
            self._launch()
        else:
            self._await_arguments()

    def on_arguments(self) -> None:
        self._load(len(self.call.args))
        self._arguments_came()

    def _arguments_came(self) -> None:
        self._launch()

    def _load(self, size: int) -> None:
        self._weight += size
        self.hub.hold(size)

    def _unload(self) -> None:
        """Give back the bytes that came with the call, which are not needed any more."""
        weight, self._weight = self._weight, 0
        self.hub.release(weight)

    async def _admitted(self) -> None:
        """Wait until the call may begin, where its peer is above its bound on memory."""
        self._waits_for_thread = True
        await self.hub.admitted(self._weight)
        self._waits_for_thread = False

    async def _room_for(self, payload: Encoded) -> None:
        """Wait until there is room for the answer; until then only its encoding is held."""
        self._unload()
        await self.hub.room(size=len(payload))

    def _await_arguments(self) -> None:
        """Do the work that needs no arguments, before they are here."""

    def _launch(self, context: Context | None = None) -> None:
        self.calls.events.handler_began()
        self._task = self.hub.nursery.spawn_handler(
            self._run, context=context, deadline=self._deadline
        )

    def _refuse(self, reason: str) -> None:
        self._code = reason
        if not self._open:
            return
        self.hub.endpoint.refuse(self.call, reason, f"{STOPPED[reason]} before it began")
        self.hub.wake()

    def on_cancel(self, reason: str) -> None:
        self.stop(reason)

    def on_credit(self) -> None:
        if self.producer is not None:
            self.producer.wake()

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
        if self._task is None or self._dropped:
            # The arguments never came, or nobody runs the task any more.
            if self._open:
                self._refuse(reason)
            self._ended()
            return
        if self._deadline is not None and self._task is not None:
            # From here on `cleanup_timeout` counts, and no other deadline may disturb the cleanup.
            self.hub.runtime.forget_deadline(self._task)
            if self.handled is not None:
                self.handled.context.deadline = None
        if self._begun and not (self.producer is not None and self.producer.closing):
            assert self._task is not None
            self.hub.runtime.cancel(self._task)
        if self.producer is not None:
            # After the cancellation: trio would deliver it too late, after the wait that this call
            # ends.
            self.producer.stop()
        self._arm_killer()

    @property
    def _dropped(self) -> bool:
        """Whether its task was cancelled by somebody else before its first step."""
        task = self._task
        return task is not None and not self._begun and self.hub.runtime.never_ran(task)

    def reap(self) -> None:
        """End it where its task, which does that otherwise, never will."""
        if self._dropped:
            self._ended()

    def halt(self) -> None:
        """Cancel the source, which waits, since the stream has failed."""
        assert self._task is not None
        self.hub.runtime.cancel(self._task)

    def spare(self) -> None:
        """Withdraw the cancellation: the stream has seen its end, and cleans up undisturbed."""
        assert self._task is not None
        self.hub.runtime.spare(self._task)

    def _arm_killer(self) -> None:
        when = self.hub.runtime.now() + self.hub.limits.cleanup_timeout
        self._killer = self.hub.timers.add(when, self._kill)

    def _kill(self) -> None:
        """Cancel a cleanup that takes too long, and go on doing so."""
        self.hub.log.warning(
            "%s was still cleaning up after cleanup_timeout",
            self.label,
            method=self.label,
            call_id=self.call.id,
        )
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
            else:
                self._refuse(self.stopped)
        except Exception as error:  # noqa: BLE001  (every failure becomes the call's terminal)
            self._fail(error)
        except self.hub.runtime.cancelled_class() as error:
            if self.stopped is None and self._overdue():
                # The loop was held up, and the scope with the handler's deadline fired before the
                # session's timer.
                self.stopped = "deadline_exceeded"
            if self.stopped is None and not self.hub.runtime.is_cancelled(self._own_task()):
                # No code has cancelled this task: the method itself has raised the exception.
                self._fail(as_fault(error, self.label))
            elif self.stopped is None:
                # Other code cancelled this task: the nursery at the session's end, or the method
                # itself. Without `stopped` the cancellation is not ours to swallow.
                self._fail(RpcError(Code.CANCELLED, "the handler was cancelled"))
                raise
            else:
                self._fail_stopped()
        except KeyboardInterrupt as error:
            self._fail(error)
            if not self.hub.runtime.interrupt():
                raise
        except BaseException as error:
            # Base exceptions of the application, and groups that hold a cancellation among others,
            # as task groups raise them.
            self._fail(error)
            interrupted = any(isinstance(leaf, KeyboardInterrupt) for leaf in _leaves(error))
            if interrupted and not self.hub.runtime.interrupt():
                raise
        finally:
            self.calls.events.handler_ended()
            self._ended()

    def _own_task(self) -> Task:
        assert self._task is not None
        return self._task

    async def _handle(self) -> None:
        raise NotImplementedError

    async def take_thread(self, pool: Pool) -> Place:
        """Wait for a thread, unless all threads may be waiting for this call.

        Raises:
            NoThreadError: No thread is free, and one of them may be waiting for this call.
        """
        self._waits_for_thread = True
        place = await pool.take(self.hub, nested=self._nested)
        self._waits_for_thread = False
        return place

    @property
    def _nested(self) -> bool:
        """Whether a call of this side may be waiting for this one."""
        return self.hub.endpoint.serves_live(self.call)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        """Run a plain function."""
        calls = self.calls
        if self.call.oneway:
            self._waits_for_thread = True
            try:
                return await calls.in_order.run(work, self._entered_in_order)
            finally:
                self._threaded = False
        await calls.in_order.passed()
        place = await self.take_thread(calls.threads.functions)
        try:
            outcome = _Outcome()
            limiter = calls.threads.limiter
            await self.undisturbed(anyio.to_thread.run_sync(outcome.run, work, limiter=limiter))
            return outcome.take()
        finally:
            place.give_back()

    def _entered_in_order(self) -> None:
        self._waits_for_thread = False
        self._threaded = True

    async def undisturbed(self, wait: Awaitable[T]) -> T:
        """Wait for a worker thread, which cannot be cancelled."""
        self._threaded = True
        try:
            return await wait
        finally:
            self._threaded = False

    def _halted(self) -> bool:
        """Whether the call was stopped, even if this handler has not been told yet.

        The endpoint takes a message as a whole, and the session acts on its events in slices. A
        `cancel` late in the message has changed the call's state before its event gets here.
        """
        if self.stopped is None and self.call.was_cancelled:
            self.stopped = self.call.cancel_reason or "cancelled"
        return self.stopped is not None

    def _overdue(self) -> bool:
        return self._deadline is not None and self.hub.runtime.now() >= self._deadline

    def _observe(self) -> ObservedCall:
        """This call, as observers get it."""
        raise NotImplementedError

    def _runs(self) -> None:
        """Note that the method is about to run: from here on the call has begun."""
        # Only observers learn how long it took.
        self._since = 0.0
        events = self.calls.events
        if events.observed:
            self._since = self.hub.runtime.now()
            self.observed = self._observe()
            events.call_started(self.observed)

    def _report(self) -> None:
        """Tell observers how the call ended; once."""
        events = self.calls.events
        begun = self._since >= 0.0
        code = self._code or self.stopped or "cancelled"
        duration = self.hub.runtime.now() - self._since if begun else 0.0
        end = CallEnd(code, duration, not begun, self._error_id)
        if not begun:
            events.call_refused(self.label, end, self.hub.log)
            if events.observed:
                events.refusal(self._observe(), end)
        elif self.observed is not None:
            events.call_ended(self.observed, end)

    def _ended(self) -> None:
        if self.observed is None and self._since >= 0.0:
            self._gone()
            return
        try:
            self._report()
        finally:
            self._gone()

    def _gone(self) -> None:
        self.calls.end(self)
        # Call and handler refer to each other; without this, each call would be a cycle for the
        # garbage collector.
        self.call.owner = None
        if self.handled is not None:
            self.handled.call = None
        if self._entry is not None:
            self.hub.timers.remove(self._entry)
        if self._killer is not None:
            self.hub.timers.remove(self._killer)
        if self.call.callbacks:
            self.hub.settle_abandoned()
        if self.call.uploads:
            self._close_uploads()
        if self._weight:
            self._unload()

    def _close_uploads(self) -> None:
        """Close the uploads that the method may still hold."""

    # ------------------------------------------------------------ terminals

    @property
    def _open(self) -> bool:
        return self.hub.lost is None and not self.call.is_over

    def _dump_result(self, adapter: Adapter | None, value: Any) -> Encoded:
        codec = self.hub.codec
        if self.call.oneway or adapter is None:
            return bytes(codec.null)
        return adapter.dump(value, codec, check=self.calls.check)

    def _answer(self, payload: Encoded) -> None:
        hub, call = self.hub, self.call
        if not call.takes_answer or self.stopped is not None or hub.lost is not None:
            # Asked, since the end of the handler tells why.
            self._halted()
            return
        self._code = OK
        if call.oneway:
            hub.endpoint.finish(call)
        else:
            hub.endpoint.result(call, payload)
            if len(payload) >= STEP:
                hub.settle()
        hub.flush()

    def _fail_stopped(self) -> None:
        self._code = self.stopped or ""
        if self._open:
            assert self.stopped is not None
            if self.waits:
                self._refuse(self.stopped)
                return
            self.hub.endpoint.fail(self.call, ErrorBody(self.stopped, STOPPED[self.stopped]))
            self.hub.wake()

    def _fail(self, error: BaseException) -> None:
        if self.stopped is not None:
            rest = self._without_cancellations(error)
            if rest is not None and not isinstance(rest, RpcError):
                self._log(rest, "failed while it was being stopped", self.stopped)
            self._fail_stopped()
            return
        if isinstance(error, NoThreadError) and self._waits_for_thread:
            if self._open:
                self.hub.endpoint.decline(self.call, ErrorBody(str(error.code), error.message))
                self.hub.wake()
            return
        body = self._body(error)
        self._code, self._error_id = body.code, body.error_id
        if self._open:
            self.hub.endpoint.fail(self.call, body)
            self.hub.wake()

    def _without_cancellations(self, error: BaseException) -> BaseException | None:
        cancelled = self.hub.runtime.cancelled_class()
        if isinstance(error, BaseExceptionGroup):
            return error.split(cancelled)[1]
        return None if isinstance(error, cancelled) else error

    def _body(self, error: BaseException) -> ErrorBody:
        """The part of `error` that crosses the wire (ERROR-2, ERROR-3)."""
        single = _only_leaf(error)
        if isinstance(single, RpcError) and single.origin not in (None, self.hub.origin):
            # No code here has declared its data, or that this peer may see them.
            return self._internal(error, f"failed ({FOREIGN})")
        if isinstance(single, RpcError):
            try:
                return error_body(single, self.hub.codec)
            except Exception as unusable:  # noqa: BLE001  (whatever it is, the call must end)
                error = unusable
        if isinstance(error, ValueTooLargeError):
            return ErrorBody(Code.RESOURCE_EXHAUSTED, f"the answer of {self.label}: {error}")
        return self._internal(error)

    def _internal(self, error: BaseException, what: str = "failed") -> ErrorBody:
        error_id = self._log(error, what)
        body = ErrorBody(Code.INTERNAL, "internal error")
        body.error_id = error_id
        if self.calls.debug:
            body.message = as_text(f"{type(error).__name__}: {error}")
            lines = as_text("".join(traceback.format_exception(error))[-32_768:])
            body.data = Raw(self.hub.codec.dump({"traceback": lines}))
        return body

    def _log(self, error: BaseException, what: str, code: str = Code.INTERNAL) -> str:
        error_id = secrets.token_hex(8)
        self.hub.log.error(
            "%s %s, error id %s",
            self.label,
            what,
            error_id,
            error=error,
            method=self.label,
            call_id=self.call.id,
            error_id=error_id,
            code=str(code),
        )
        return error_id


class _Outcome:
    """The value or the error of a function in a thread.

    The thread does not return it: an idle thread would keep its last value or error, and with it
    the session, until its next job. And trio takes no coroutine from a thread, although a function
    may well return one.
    """

    __slots__ = ("_error", "_value")

    def __init__(self) -> None:
        self._value: Any = None
        self._error: BaseException | None = None

    def run(self, work: Callable[[], Any]) -> None:
        """Run the function; in the thread."""
        try:
            self._value = work()
        except BaseException as error:  # noqa: BLE001  (raised where it is waited for)
            self._error = error

    def take(self) -> Any:
        """The value, or the error raised."""
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            # The error would hold this frame by its traceback, and this frame the error.
            del error


def _only_leaf(error: BaseException) -> BaseException:
    """The only error of a group, or one of several that tell a caller the same.

    A handler's task group must not hide what was raised in it.
    """
    first: BaseException = error
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first if all(_alike(first, leaf) for leaf in _leaves(error)) else error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


def _alike(one: BaseException, other: BaseException) -> bool:
    """Whether two errors tell a caller the same."""
    if one is other:
        return True
    if not (isinstance(one, RpcError) and type(one) is type(other)):
        return False
    assert isinstance(other, RpcError)
    same = (one.code, one.message) == (other.code, other.message) and one.origin is other.origin
    return same and bool(one.data == other.data)
