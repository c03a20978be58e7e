"""The runtime over plain futures and tasks of asyncio."""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
import types
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, ref

import anyio
from msgspec import Struct

from . import containing
from .base import Future, Nursery, Start, Task, Timer
from .interrupting import interrupt_by

__all__ = ["AsyncioRuntime"]

# Seconds between two checks whether a task that is to be cancelled has left its shielded scope.
SHIELD_POLL = 0.005


# anyio's table of tasks tells a handler its deadline. Entering a scope with a deadline costs 8.5 µs
# a call, most of it for a timer that the session has already. An entry in anyio's table, whose
# scope is made only on demand, costs 0.7 µs. Where anyio's table has changed, only
# `wsrpc.current()` tells a handler its deadline; it is cancelled at its deadline either way.
def _table() -> Any:
    """anyio's module for asyncio, if it has the needed parts."""
    try:
        from anyio._backends import _asyncio as backend
    except ImportError:
        return None
    needed = ("AsyncIOBackend", "CancelScope", "TaskState", "_task_states")
    if not all(hasattr(backend, name) for name in needed):
        return None
    return backend if type(backend._task_states) is WeakKeyDictionary else None


_TABLE = _table()


class _NoTasks(set[Any]):
    """The empty set of tasks of a scope that was never entered.

    An inner scope hands its task back to the outer one when it is left. An outer scope that is in
    the table would keep the task for ever.
    """

    def add(self, element: Any, /) -> None:
        pass


_NO_TASKS = _NoTasks()


_UNASKED = object()


class _Due(Struct, eq=False, weakref=True):
    """anyio's record of a handler's task: a `TaskState` whose scope has a deadline."""

    _deadline: float
    parent_id: int | None = None
    _scope: Any = _UNASKED

    @property
    def cancel_scope(self) -> Any:
        scope = self._scope
        if scope is _UNASKED:
            scope = self._scope = _TABLE.CancelScope(deadline=self._deadline)
            scope._tasks = _NO_TASKS
        return scope

    @cancel_scope.setter
    def cancel_scope(self, scope: Any) -> None:
        self._scope = scope


# anyio's table is a `WeakKeyDictionary`, which is filled and emptied through Python functions.
# Access to its inner dictionary takes half of that microsecond.
_STATES: dict[Any, Any] = {} if _TABLE is None else _TABLE._task_states.data
_forget = _STATES.pop


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
    """Wait until `tasks` is empty or done; a cancellation of the caller is raised after that."""
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


def _unknown() -> None:
    return None


class AsyncioRuntime:
    """Plain futures and tasks of asyncio.

    Tasks are made as `asyncio.Task`, not by the loop's task factory: an eager one would take a
    task's first step before any code holds the task and could stop or await it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: dict[Any, asyncio.TimerHandle] = {}
        # The method of asyncio's own loops calls this one, through a Python function.
        plain = getattr(loop.time, "__func__", None) is asyncio.BaseEventLoop.time
        self.now: Callable[[], float] = time.monotonic if plain else loop.time
        # Does the same as `loop.create_future`, without its Python function.
        self.future: Callable[[], Future] = partial(asyncio.Future, loop=loop)
        self.call_soon: Callable[[Callable[[], None]], object] = loop.call_soon
        # asyncio's own loops keep ready callbacks in a deque. Without one, as in uvloop, idleness
        # cannot be known.
        ready = getattr(loop, "_ready", None)
        self.ready: Callable[[], int | None] = _unknown if ready is None else ready.__len__

    def effective_deadline(self) -> float | None:
        try:
            if asyncio.get_running_loop() is not self._loop:
                return None
        except RuntimeError:
            return None
        # Most tasks are in no scope of anyio; this check takes a quarter of the time.
        task = asyncio.current_task(self._loop)
        if _TABLE is not None and (task is None or ref(task) not in _STATES):
            return math.inf
        return anyio.current_effective_deadline()

    async def open_nursery(self) -> Nursery:
        return _AsyncioNursery(self._loop)

    @types.coroutine
    def pause(self) -> Generator[None, None, None]:
        # This is `asyncio.sleep(0)`, written out to save two function calls.
        yield

    def cancelled_class(self) -> type[BaseException]:
        return asyncio.CancelledError

    def cancel(self, task: Task) -> None:
        # asyncio's own cancellation does not stop at anyio's shields, so it has to wait until the
        # task leaves them; no event tells when.
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
        await _outlast({asyncio.Task(fn(), loop=self._loop)})

    def is_cancelled(self, task: Task) -> bool:
        assert isinstance(task, asyncio.Task)
        return task.cancelling() > 0

    def never_ran(self, task: Task) -> bool:
        assert isinstance(task, asyncio.Task)
        return task.done()

    def is_being_cancelled(self) -> bool:
        task = asyncio.current_task(self._loop)
        return task is not None and task.cancelling() > 0

    def spawn_detached(self, fn: Start) -> Task:
        task: asyncio.Task[None] = asyncio.Task(fn(), loop=self._loop)
        return task

    def interrupt(self) -> bool:
        # An interruption raised out of a task leaves the loop in the middle of its turn: tasks that
        # have not taken their first step never would, and code that waits for them would wait for
        # ever.
        return interrupt_by(self.call_threadsafe)

    def forget_deadline(self, task: Task) -> None:
        scope = _scope_of(task)
        if scope is not None:
            while scope._parent_scope is not None:
                scope = scope._parent_scope
            scope._deadline = math.inf

    def call_threadsafe(self, fn: Callable[[], None]) -> None:
        # The loop may be closed, or close meanwhile.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(fn)


class _AsyncioNursery:
    # Each session has a nursery, mostly with one timer and no task. So it has slots, and no empty
    # sets.
    __slots__ = ("_contains", "_loop", "_tasks", "_timers")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._contains = True
        containing.enter(loop)
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._timers: list[_AsyncioTimer] = []

    def spawn(
        self,
        fn: Start,
        *args: Any,
        context: contextvars.Context | None = None,
        once: bool = False,
    ) -> Task:
        task: asyncio.Task[None] = asyncio.Task(fn(*args), loop=self._loop, context=context)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    def spawn_handler(
        self,
        fn: Start,
        *,
        context: contextvars.Context | None = None,
        deadline: float | None = None,
        name: str | None = None,
    ) -> Task:
        # The task is not in `_tasks`: removing it would cost a callback and a turn of the loop.
        # Without a name asyncio would make one up, which costs more than the call's slot.
        task: asyncio.Task[None] = asyncio.Task(fn(), loop=self._loop, context=context, name=name)
        if deadline is not None and _TABLE is not None:
            _STATES[ref(task, _forget)] = _Due(deadline)
        return task

    def timer(self, callback: Callable[[], None]) -> Timer:
        timer = _AsyncioTimer(self._loop, callback, self._timers)
        self._timers.append(timer)
        return timer

    async def close(self) -> None:
        for timer in list(self._timers):
            timer.close()
        for task in self._tasks:
            task.cancel()
        # Their cleanup may have begun others.
        try:
            while left := {task for task in self._tasks if not task.done()}:
                await _outlast(left)
        finally:
            if self._contains:
                self._contains = False
                containing.leave(self._loop)


class _AsyncioTimer:
    __slots__ = ("_callback", "_handle", "_loop", "_siblings", "_when")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        callback: Callable[[], None],
        siblings: list[_AsyncioTimer],
    ) -> None:
        self._loop = loop
        self._callback = callback
        self._siblings = siblings
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
        if self in self._siblings:
            self._siblings.remove(self)
        self._when = -math.inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
