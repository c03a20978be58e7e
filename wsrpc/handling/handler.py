"""One inbound call while it runs: validate, run the code, send the terminal.

A `Handler` is the task and the state of one call, from the frame that opened it to the cleanup
after its terminal.
"""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio.to_thread
from msgspec import Raw

from ..engine.failures import as_text, error_body, leaves, only_leaf, unforeseen
from ..engine.ledger import STEP
from ..errors import Code, RpcError
from ..protocol.endpoint import ValueTooLargeError
from ..protocol.frames import ErrorBody
from ..protocol.splice import Encoded
from ..runtime import Task
from ..runtime.by_hand import as_fault, text_of
from .call_state import OK, CallState
from .deadline import STOPPED
from .threads import NoThreadError, Place, Pool

__all__ = ["OK", "Handler"]

T = TypeVar("T")

FOREIGN = "with an error of another session, which crosses on only as `raise error.forward()`"


class Handler(CallState):
    """One inbound call while it runs."""

    __slots__ = ()

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
            interrupted = any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves(error))
            if interrupted and not self.hub.runtime.interrupt():
                raise
        finally:
            self._ended(ran=True)

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
        await calls.passed()
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

    async def _admitted(self, *, light: bool) -> None:
        """Wait until the call may begin, where its peer is above its bound on memory."""
        self._waits_for_thread = True
        await self.hub.admitted(self._weight, light=light)
        self._waits_for_thread = False

    async def _room_for(self, payload: Encoded) -> None:
        """Wait until there is room for the answer; until then only its encoding is held."""
        self._unload()
        await self.hub.room(size=len(payload), awaited=True)

    # ------------------------------------------------------------ terminals

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
            rest = unforeseen(error, self.hub.runtime.cancelled_class())
            if rest is not None:
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
        size = len(body.data)
        if size >= STEP:
            self._weigh(size)
        if self._open:
            self.hub.endpoint.fail(self.call, body)
            if size >= STEP:
                # It counts like any other answer, so the ledger has to know of it before the next
                # calls.
                self.hub.settle()
            self.hub.wake()

    def _weigh(self, size: int) -> None:
        """Note that an answer has `size` bytes."""

    def _body(self, error: BaseException) -> ErrorBody:
        """The part of `error` that crosses the wire (ERROR-2, ERROR-3)."""
        single = only_leaf(error)
        if isinstance(single, RpcError) and single.origin not in (None, self.hub.origin):
            # No code here has declared its data, or that this peer may see them.
            return self._internal(error, f"failed ({FOREIGN})")
        if isinstance(single, RpcError):
            try:
                return error_body(single, self.hub.codec)
            except Exception as unusable:  # noqa: BLE001  (the call must end after any exception)
                error = unusable
        if isinstance(error, ValueTooLargeError):
            return ErrorBody(Code.RESOURCE_EXHAUSTED, f"{self._value_of} {self.label}: {error}")
        return self._internal(error)

    @property
    def _value_of(self) -> str:
        """The value that was on its way when the call failed, in the words of its message."""
        if self.producer is None:
            return "the answer of"
        return "an item of" if self.producer.final is None else "the final value of"

    def _internal(self, error: BaseException, what: str = "failed") -> ErrorBody:
        error_id = self._log(error, what)
        body = ErrorBody(Code.INTERNAL, "internal error")
        body.error_id = error_id
        if self.calls.debug:
            body.message = as_text(f"{type(error).__name__}: {text_of(error)}")
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
            # Otherwise the error's traceback would hold this frame, and this frame the error.
            del error
