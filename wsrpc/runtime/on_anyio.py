"""The runtime made of anyio's public parts; it serves trio."""

from __future__ import annotations

import contextvars
import math
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from threading import get_ident
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel

from .base import Future, Nursery, Start, Task, Timer
from .interrupting import interrupt_by

__all__ = ["GenericRuntime"]

# Seconds by which the scope that tells a task its deadline fires after the deadline itself. The
# code that spawned the task has to come first: it cancels in the way that lets the task clean up.
SLACK = 0.01


class GenericFuture:
    """A future made of an anyio event."""

    __slots__ = ("_event", "_result")

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._result: Any = None

    def done(self) -> bool:
        return self._event.is_set()

    def set_result(self, result: Any, /) -> None:
        self._result = result
        self._event.set()

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from self._event.wait().__await__()
        return self._result


class GenericRuntime:
    """A `Runtime` made of anyio; in practice, for trio."""

    def __init__(self) -> None:
        self.now: Callable[[], float] = anyio.current_time
        self.future: Callable[[], Future] = GenericFuture
        self._token = anyio.lowlevel.current_token()
        self._thread = get_ident()
        self.call_soon: Callable[[Callable[[], None]], object] = self.call_threadsafe
        self.ready: Callable[[], int | None] = lambda: 1

    def effective_deadline(self) -> float | None:
        if get_ident() != self._thread:
            return None
        try:
            if anyio.lowlevel.current_token() != self._token:
                return None
        except RuntimeError:
            return None
        return anyio.current_effective_deadline()

    async def open_nursery(self) -> Nursery:
        group = anyio.create_task_group()
        await group.__aenter__()
        with anyio.CancelScope(shield=True):
            return _GenericNursery(group, await group.start(_shielded_group))
        raise AssertionError("a scope that is never cancelled has swallowed an exception")

    async def pause(self) -> None:
        await anyio.lowlevel.cancel_shielded_checkpoint()

    def cancelled_class(self) -> type[BaseException]:
        return anyio.get_cancelled_exc_class()

    def cancel(self, task: Task) -> None:
        assert isinstance(task, _GenericTask)
        task.cancel_once()

    def spare(self, task: Task) -> None:
        assert isinstance(task, _GenericTask)
        task.spare()

    async def to_the_end(self, fn: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with anyio.CancelScope(shield=True):
            await fn()

    def is_cancelled(self, task: Task) -> bool:
        assert isinstance(task, _GenericTask)
        return task.cancelled or self.is_being_cancelled()

    def never_ran(self, task: Task) -> bool:
        return False

    def is_being_cancelled(self) -> bool:
        return anyio.current_effective_deadline() == -math.inf

    def spawn_detached(self, fn: Start) -> Task:
        import trio

        task = _GenericTask(math.inf, once=False)
        trio.lowlevel.spawn_system_task(task.run, fn, (), context=contextvars.copy_context())
        return task

    def interrupt(self) -> bool:
        # An interruption raised out of a task would end the session of that task, and no more. It
        # is not sent from here: in a task of this kind trio would raise it at once.
        return interrupt_by(self.call_threadsafe)

    def forget_deadline(self, task: Task) -> None:
        assert isinstance(task, _GenericTask)
        task.forget_deadline()

    def call_threadsafe(self, fn: Callable[[], None]) -> None:
        # The public way from another thread, anyio.from_thread, waits for the function to run;
        # this is called from finalizers, which must not wait.
        token: Any = self._token.native_token
        try:
            token.run_sync_soon(fn)
        except RuntimeError:
            return


async def _shielded_group(*, task_status: anyio.abc.TaskStatus[anyio.abc.TaskGroup]) -> None:
    """A group inside the one that was opened, out of reach of the scopes around that one.

    The code between opening and closing runs inside the outer group and must stay cancellable; the
    children end when `close` says so, as they do on asyncio, and know no deadline but their own.
    """
    with anyio.CancelScope(shield=True):
        async with anyio.create_task_group() as inner:
            task_status.started(inner)
            await anyio.sleep_forever()


async def _leave(group: anyio.abc.TaskGroup) -> None:
    # Shielded by its own scope: a scope around this await would be entered after the group and
    # have to be left before it.
    group.cancel_scope.shield = True
    group.cancel_scope.cancel()
    # This group must not see the body's own exception, which it would wrap in an ExceptionGroup;
    # its children never raise.
    await group.__aexit__(None, None, None)


class _GenericNursery:
    def __init__(self, outer: anyio.abc.TaskGroup, inner: anyio.abc.TaskGroup) -> None:
        self._outer = outer
        self._group = inner
        self._starts: deque[tuple[_GenericTask, Start, tuple[Any, ...], contextvars.Context]] = (
            deque()
        )

    def spawn(
        self,
        fn: Start,
        *args: Any,
        context: contextvars.Context | None = None,
        once: bool = False,
    ) -> Task:
        task = _GenericTask(math.inf, once)
        if once:
            return self._start_in_order(task, fn, args, context)
        return self._start(task, fn, args, context)

    def spawn_handler(
        self,
        fn: Start,
        *,
        context: contextvars.Context | None = None,
        deadline: float | None = None,
        name: str | None = None,
    ) -> Task:
        visible = math.inf if deadline is None else deadline + SLACK
        return self._start_in_order(_GenericTask(visible, once=True), fn, (), context)

    def _start_in_order(
        self,
        task: _GenericTask,
        fn: Start,
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> Task:
        """Start a child after those that were started before it.

        Trio shuffles tasks that become runnable together. So the task that runs first takes the
        function that was given first.
        """
        self._starts.append((task, fn, args, context or contextvars.copy_context()))
        self._group.start_soon(self._run_next)
        return task

    async def _run_next(self) -> None:
        task, fn, args, context = self._starts.popleft()
        await task.run(fn, args, context)

    def _start(
        self,
        task: _GenericTask,
        fn: Start,
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> Task:
        if context is None:
            self._group.start_soon(task.run, fn, args)
        else:
            context.run(self._group.start_soon, task.run, fn, args, None)
        return task

    def timer(self, callback: Callable[[], None]) -> Timer:
        timer = _GenericTimer(callback)
        self._group.start_soon(timer.run)
        return timer

    async def close(self) -> None:
        self._group.cancel_scope.cancel()
        await _leave(self._outer)


class _GenericTask:
    def __init__(self, deadline: float, once: bool) -> None:
        self._once = once
        self._outer = anyio.CancelScope(deadline=deadline)
        self._inner = anyio.CancelScope()
        self._delivered = False

    async def run(
        self, fn: Start, args: tuple[Any, ...], context: contextvars.Context | None = None
    ) -> None:
        with self._outer, self._inner:
            if self._once:
                await _DeliverOnce(fn(*args), self._note, context or contextvars.copy_context())
            else:
                await fn(*args)

    def _note(self) -> None:
        """Shield the cleanup, since a cancellation is being thrown into the coroutine."""
        if self._outer.cancel_called and not self._delivered:
            self._delivered = True
            self._inner.shield = True

    def cancel_once(self) -> None:
        # If the loop was held up, the scope's own deadline may have fired first.
        if not self._delivered:
            self._outer.cancel()

    @property
    def cancelled(self) -> bool:
        """Whether it was told to stop."""
        return self._outer.cancel_called

    def cancel(self) -> None:
        self._inner.shield = False
        self._outer.cancel()

    def spare(self) -> None:
        self._delivered = True
        self._inner.shield = True

    def forget_deadline(self) -> None:
        self._outer.deadline = math.inf


class _DeliverOnce:
    """Drives a coroutine in its own context, and notes when a cancellation is thrown in.

    The event loop resumes a waiting task either with an exception or, as trio does, with an
    outcome object that holds one; both are seen here before the coroutine sees them.
    """

    def __init__(
        self,
        coro: Coroutine[Any, Any, None],
        note: Callable[[], None],
        context: contextvars.Context,
    ) -> None:
        self._run = context.run
        self._coro = coro
        self._note = note

    def __await__(self) -> Generator[Any, Any, None]:
        coro, note, run = self._coro, self._note, self._run
        cancelled = anyio.get_cancelled_exc_class()
        resume: Callable[[Any], Any] = coro.send
        value: Any = None
        try:
            while True:
                try:
                    trap = run(resume, value)
                except StopIteration:
                    return
                try:
                    value = yield trap
                    resume = coro.send
                    if isinstance(getattr(value, "error", None), cancelled):
                        note()
                except GeneratorExit:
                    coro.close()
                    raise
                except BaseException as error:  # noqa: BLE001  (handed on to the coroutine)
                    value = error
                    resume = coro.throw
                    if isinstance(error, cancelled):
                        note()
        finally:
            # An error's traceback holds this frame, and all that the coroutine held.
            value = trap = None


class _GenericTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._when = math.inf
        self._changed = anyio.Event()
        self._open = True

    def arm(self, when: float) -> None:
        if when < self._when:
            self._when = when
            self._changed.set()

    def close(self) -> None:
        self._open = False
        self._changed.set()

    async def run(self) -> None:
        while self._open:
            self._changed = anyio.Event()
            with anyio.CancelScope(deadline=self._when):
                await self._changed.wait()
            if self._open and anyio.current_time() >= self._when:
                self._when = math.inf
                self._callback()
