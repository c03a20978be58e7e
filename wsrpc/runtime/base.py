"""The interface between the package and an event loop."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Protocol, TypeAlias

__all__ = ["Future", "Nursery", "Runtime", "Start", "Task", "Timer"]

Start: TypeAlias = Callable[..., Coroutine[Any, Any, None]]


class Future(Protocol):
    """A value for which a task waits; it is set at most once, and only while not `done`."""

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
    """One alarm, which can be armed again."""

    def arm(self, when: float) -> None:
        """Call back at `when`, or at the time armed before if that is earlier."""

    def close(self) -> None:
        """Never call back again."""


class Nursery(Protocol):
    """The parent of tasks: no task that it started outlives it."""

    def spawn(
        self,
        fn: Start,
        *args: Any,
        context: contextvars.Context | None = None,
        once: bool = False,
    ) -> Task:
        """Start a child. `fn` must not raise, except when it is cancelled.

        Args:
            fn: The function to run.
            args: Its arguments.
            context: The context variables to run in; a copy of the present ones by default.
            once: Whether to deliver a cancellation only once, as handlers get it, on every event
                loop. Code that was written for one loop may rely on that loop's own way, and gets
                False.
        """
        ...

    def spawn_handler(
        self,
        fn: Start,
        *,
        context: contextvars.Context | None = None,
        deadline: float | None = None,
        name: str | None = None,
    ) -> Task:
        """Start a child that the caller itself keeps, cancels, and awaits before `close`.

        Args:
            fn: The function to run.
            context: The context variables to run in; a copy of the present ones by default.
            deadline: Seconds on the loop's clock. The result of
                `anyio.current_effective_deadline()` in the child; the caller has to cancel the
                child at that time.
            name: The name of the task, on an event loop that has such names.
        """
        ...

    async def close(self) -> None:
        """Cancel the children that are left and wait until they have ended.

        It must be the last action of its task inside the nursery, and not inside a cancel scope
        that was entered after `open_nursery`. The wait is shielded from the caller's cancellation.
        """

    def timer(self, callback: Callable[[], None]) -> Timer:
        """A timer that lives as long as this nursery."""
        ...


class Runtime(Protocol):
    """The functions of an event loop that the package needs.

    Attributes:
        now: Seconds on the loop's clock.
        future: Makes a `Future`.
        call_soon: Runs a function, which must not raise, after all callbacks that are ready now.
        ready: Gives the number of callbacks that are ready to run, or 1 where the number makes no
            difference; None where that cannot be known.
    """

    now: Callable[[], float]
    future: Callable[[], Future]
    call_soon: Callable[[Callable[[], None]], object]
    ready: Callable[[], int | None]

    def effective_deadline(self) -> float | None:
        """Seconds on the loop's clock; the nearest deadline of the cancel scopes around the caller.

        Infinity where there is none; None where the caller does not run on this event loop.
        """
        ...

    async def open_nursery(self) -> Nursery: ...

    def pause(self) -> Awaitable[None]:
        """Let all other tasks have a turn."""
        ...

    def cancelled_class(self) -> type[BaseException]: ...

    def cancel(self, task: Task) -> None:
        """Throw one cancellation into a handler, once it is in no shielded scope."""

    def spare(self, task: Task) -> None:
        """Withdraw a cancellation that has not reached the task, which stops by itself."""

    def is_cancelled(self, task: Task) -> bool:
        """Whether other code has cancelled the running task, which asks in an `except`.

        Otherwise the cancelled error was raised by hand.
        """
        ...

    def never_ran(self, task: Task) -> bool:
        """Whether a task that has not taken its first step never will.

        asyncio drops tasks that other code cancels before it, as `asyncio.run` does at its end.
        """
        ...

    def is_being_cancelled(self) -> bool:
        """The same as `is_cancelled`, for a task of any origin."""
        ...

    def spawn_detached(self, fn: Start) -> Task:
        """Start a task without a parent: the caller cancels it and waits for it.

        Args:
            fn: The function to run; it must not raise, except when it is cancelled.
        """
        ...

    def interrupt(self) -> bool:
        """Pass an interruption from the keyboard on to the code that ends the process.

        Returns:
            Whether that was done; otherwise the caller raises it, out of its task.
        """
        ...

    def forget_deadline(self, task: Task) -> None:
        """Remove the deadline of a task, which is cleaning up now."""

    async def to_the_end(self, fn: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `fn` to its end, even if the caller is cancelled meanwhile."""

    def call_threadsafe(self, fn: Callable[[], None]) -> None:
        """Run `fn` on the loop's thread, from any thread; does nothing if the loop is gone."""
