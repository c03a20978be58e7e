"""The one seam between the package and the event loop.

Everything above speaks to a `Runtime`: futures, child tasks that can be cancelled one by one, one
timer. There are two. `AsyncioRuntime` uses plain futures and tasks: a task through an anyio task
group costs about 28 µs against 5, an anyio event 19 against 10 for a bare future, and per call
that decides between half and twice the rate of hand-written code. `GenericRuntime` builds the same
out of anyio and serves trio. The same tests run over both.

Cancellation is delivered once
------------------------------
A cancelled task gets one cancellation; after it, its cleanup may await like any other code until
it is killed (`Limits.cleanup_timeout`). On asyncio that is how `Task.cancel` works. Trio repeats a
cancellation at every await, so there a task runs in two scopes, and a trampoline around its
coroutine raises the inner one's shield at the moment the cancellation is thrown in.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol, TypeAlias

import anyio
import anyio.abc
import anyio.lowlevel

__all__ = ["AsyncioRuntime", "Future", "GenericRuntime", "Nursery", "Runtime", "Task", "current"]

# Seconds by which the scope that tells a task its deadline lies behind the deadline itself. Whoever
# spawned the task has to come first: it cancels in the way that lets it clean up.
SLACK = 0.01

# Seconds between two looks whether a task that is to be cancelled has left its shielded scope.
SHIELD_POLL = 0.005

Start: TypeAlias = Callable[..., Coroutine[Any, Any, None]]


class Future(Protocol):
    """A value that somebody waits for; set at most once, and only while not `done`."""

    def done(self) -> bool: ...

    def set_result(self, result: Any, /) -> None: ...

    def __await__(self) -> Generator[Any, Any, Any]: ...


class Task(Protocol):
    """A child of a nursery."""

    def cancel(self) -> object:
        """Throw one cancellation into the task; a second call throws another.

        asyncio drops a task that is cancelled before its first step; check before you call.
        """


class Timer(Protocol):
    """One alarm, re-armed at will."""

    def arm(self, when: float) -> None:
        """Call back at `when`, or at the time armed before if that is earlier."""

    def close(self) -> None:
        """Never call back again."""


class Nursery(Protocol):
    """The parent of tasks: nothing it started outlives it."""

    def spawn(
        self,
        fn: Start,
        *args: Any,
        context: contextvars.Context | None = None,
        once: bool = False,
    ) -> Task:
        """Start a child. `fn` must not raise, cancellation aside.

        Args:
            fn: What to run.
            args: Its arguments.
            context: The context variables to run in; a copy of the present ones by default.
            once: Deliver a cancellation once, as handlers get it, on every event loop. Code that
                was written for one loop may count on that loop's own way, and goes without.
        """
        ...

    def spawn_handler(
        self,
        fn: Start,
        *,
        context: contextvars.Context | None = None,
        deadline: float | None = None,
    ) -> Task:
        """Start a child that the caller itself keeps, cancels, and awaits before `close`.

        Args:
            fn: What to run.
            context: The context variables to run in; a copy of the present ones by default.
            deadline: Seconds on the loop's clock. What `anyio.current_effective_deadline()` tells
                the child; the caller has to cancel it then.
        """
        ...

    async def close(self) -> None:
        """Cancel the children that are left and wait until they have ended.

        Must be the last that its task does inside the nursery, and not inside a cancel scope that
        was entered after `open_nursery`. The wait is shielded from the caller's cancellation.
        """

    def timer(self, callback: Callable[[], None]) -> Timer:
        """A timer that lives as long as this nursery."""
        ...


class Runtime(Protocol):
    """What the package needs of an event loop.

    Attributes:
        now: Seconds on the loop's clock.
        future: Makes a `Future`.
        effective_deadline: Seconds on the loop's clock; the nearest deadline of the cancel scopes
            around the caller, infinity where there is none.
    """

    now: Callable[[], float]
    future: Callable[[], Future]
    effective_deadline: Callable[[], float]

    async def open_nursery(self) -> Nursery: ...

    async def pause(self) -> None:
        """Let everybody else have a turn."""

    def cancelled_class(self) -> type[BaseException]: ...

    def cancel(self, task: Task) -> None:
        """Throw one cancellation into a handler, once it is in no shielded scope."""

    def spare(self, task: Task) -> None:
        """Take a cancellation back that has not reached the task: it stops by itself."""

    def forget_deadline(self, task: Task) -> None:
        """Let the deadline that a task was spawned with be none: it is cleaning up now."""

    async def to_the_end(self, fn: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `fn` to its end, whatever cancels the caller meanwhile."""

    def call_threadsafe(self, fn: Callable[[], None]) -> None:
        """Run `fn` on the loop's thread, from any thread; silently nothing if the loop is gone."""


def current() -> Runtime:
    """The runtime of the event loop that is running.

    Raises:
        RuntimeError: No event loop runs in this thread.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return GenericRuntime()
    return AsyncioRuntime(loop)


# -------------------------------------------------------------------------------- asyncio


# How a handler learns its deadline from anyio. Entering a scope with a deadline costs 8.5 µs a
# call, most of it for a timer that the session has already; to put the same scope, never entered,
# into anyio's table of tasks costs 1.5. Where that table is not as it was, a handler is told its
# deadline by `wsrpc.current()` alone; it is cancelled at its deadline either way.
def _table() -> Any:
    """anyio's module for asyncio, if it has what is needed of it."""
    try:
        from anyio._backends import _asyncio as backend
    except ImportError:
        return None
    needed = ("AsyncIOBackend", "CancelScope", "TaskState", "_task_states")
    return backend if all(hasattr(backend, name) for name in needed) else None


class _NoTasks(set[Any]):
    """The tasks of a scope that was never entered: none.

    A scope inside hands its task back to the one around it when it is left; to keep it there, in a
    table of tasks, would keep it for ever.
    """

    def add(self, element: Any, /) -> None:
        pass


_TABLE = _table()
_NO_TASKS = _NoTasks()


def _scope_of(task: Any) -> Any:
    """The innermost cancel scope that a task is in, or None."""
    state = None if _TABLE is None else _TABLE._task_states.get(task)
    return None if state is None else state.cancel_scope


def _in_shield(task: Any) -> bool:
    scope = _scope_of(task)
    while scope is not None:
        if scope.shield:
            return True
        scope = scope._parent_scope
    return False


async def _outlast(tasks: set[asyncio.Task[None]]) -> None:
    """Wait until `tasks` is empty or done; a cancellation of the caller is raised behind that."""
    cancelled: asyncio.CancelledError | None = None
    # Without the shield anyio would repeat its cancellation with each turn of the loop.
    with anyio.CancelScope(shield=True):
        while not all(task.done() for task in tasks):
            try:
                await asyncio.wait(tasks)
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled


class AsyncioRuntime:
    """Plain futures and tasks of asyncio."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: dict[Any, asyncio.TimerHandle] = {}
        self.now: Callable[[], float] = loop.time
        self.future: Callable[[], Future] = loop.create_future
        self.effective_deadline: Callable[[], float] = (
            anyio.current_effective_deadline
            if _TABLE is None
            else _TABLE.AsyncIOBackend.current_effective_deadline
        )

    async def open_nursery(self) -> Nursery:
        return _AsyncioNursery(self._loop)

    async def pause(self) -> None:
        await asyncio.sleep(0)

    def cancelled_class(self) -> type[BaseException]:
        return asyncio.CancelledError

    def cancel(self, task: Task) -> None:
        # asyncio's own cancellation does not stop at anyio's shields, so it waits for the task to
        # leave them; nothing tells when that is.
        self._due.pop(task, None)
        if _in_shield(task):
            self._due[task] = self._loop.call_later(SHIELD_POLL, self.cancel, task)
        else:
            task.cancel()

    def spare(self, task: Task) -> None:
        handle = self._due.pop(task, None)
        if handle is not None:
            handle.cancel()

    async def to_the_end(self, fn: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await _outlast({self._loop.create_task(fn())})

    def forget_deadline(self, task: Task) -> None:
        scope = _scope_of(task)
        if scope is not None:
            while scope._parent_scope is not None:
                scope = scope._parent_scope
            scope._deadline = math.inf

    def call_threadsafe(self, fn: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(fn)


class _AsyncioNursery:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: list[_AsyncioTimer] = []

    def spawn(
        self,
        fn: Start,
        *args: Any,
        context: contextvars.Context | None = None,
        once: bool = False,
    ) -> Task:
        task = self._loop.create_task(fn(*args), context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def spawn_handler(
        self,
        fn: Start,
        *,
        context: contextvars.Context | None = None,
        deadline: float | None = None,
    ) -> Task:
        # Not in `_tasks`: to take it out again would cost a callback and a turn of the loop.
        task = self._loop.create_task(fn(), context=context)
        if deadline is not None and _TABLE is not None:
            scope = _TABLE.CancelScope(deadline=deadline)
            scope._tasks = _NO_TASKS
            _TABLE._task_states[task] = _TABLE.TaskState(None, scope)
        return task

    def timer(self, callback: Callable[[], None]) -> Timer:
        timer = _AsyncioTimer(self._loop, callback)
        self._timers.append(timer)
        return timer

    async def close(self) -> None:
        for timer in self._timers:
            timer.close()
        for task in self._tasks:
            task.cancel()
        await _outlast(self._tasks)


class _AsyncioTimer:
    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None
        self._when = math.inf

    def arm(self, when: float) -> None:
        if when < self._when:
            if self._handle is not None:
                self._handle.cancel()
            self._when = when
            self._handle = self._loop.call_at(when, self._fire)

    def _fire(self) -> None:
        self._when = math.inf
        self._handle = None
        self._callback()

    def close(self) -> None:
        self._when = -math.inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


# -------------------------------------------------------------------------------- anyio


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
    """The same out of anyio; in practice, trio."""

    def __init__(self) -> None:
        self.now: Callable[[], float] = anyio.current_time
        self.future: Callable[[], Future] = GenericFuture
        self.effective_deadline: Callable[[], float] = anyio.current_effective_deadline
        self._token = anyio.lowlevel.current_token()

    async def open_nursery(self) -> Nursery:
        group = anyio.create_task_group()
        await group.__aenter__()
        with anyio.CancelScope(shield=True):
            inner: anyio.abc.TaskGroup = await group.start(_shielded_group)
        return _GenericNursery(group, inner)

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
    """A group inside the one that was opened, out of reach of the scopes around that.

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
    # The body's own exception is no business of this group, which would wrap it in an
    # ExceptionGroup; its children never raise.
    await group.__aexit__(None, None, None)


class _GenericNursery:
    def __init__(self, outer: anyio.abc.TaskGroup, inner: anyio.abc.TaskGroup) -> None:
        self._outer = outer
        self._group = inner

    def spawn(
        self,
        fn: Start,
        *args: Any,
        context: contextvars.Context | None = None,
        once: bool = False,
    ) -> Task:
        return self._start(_GenericTask(math.inf, once), fn, args, context)

    def spawn_handler(
        self,
        fn: Start,
        *,
        context: contextvars.Context | None = None,
        deadline: float | None = None,
    ) -> Task:
        visible = math.inf if deadline is None else deadline + SLACK
        return self._start(_GenericTask(visible, once=True), fn, (), context)

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
            context.run(self._group.start_soon, task.run, fn, args)
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

    async def run(self, fn: Start, args: tuple[Any, ...]) -> None:
        with self._outer, self._inner:
            if self._once:
                await _DeliverOnce(fn(*args), self._note)
            else:
                await fn(*args)

    def _note(self) -> None:
        """A cancellation is being thrown into the coroutine: let its cleanup run undisturbed."""
        if self._outer.cancel_called and not self._delivered:
            self._delivered = True
            self._inner.shield = True

    def cancel_once(self) -> None:
        # If the loop was held up, the scope's own deadline may have come first.
        if not self._delivered:
            self._outer.cancel()

    def cancel(self) -> None:
        self._inner.shield = False
        self._outer.cancel()

    def spare(self) -> None:
        self._delivered = True
        self._inner.shield = True

    def forget_deadline(self) -> None:
        self._outer.deadline = math.inf


class _DeliverOnce:
    """Drives a coroutine and tells when a cancellation is thrown in.

    The event loop resumes a waiting task either with an exception or, as trio does, with an
    outcome object that holds one; both are seen here before the coroutine sees them.
    """

    def __init__(self, coro: Coroutine[Any, Any, None], note: Callable[[], None]) -> None:
        self._coro = coro
        self._note = note

    def __await__(self) -> Generator[Any, Any, None]:
        coro, note = self._coro, self._note
        cancelled = anyio.get_cancelled_exc_class()
        resume: Callable[[Any], Any] = coro.send
        value: Any = None
        while True:
            try:
                trap = resume(value)
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
