"""Keeping `sys.exit()` in tasks that a peer has set off from ending asyncio's event loop.

If a task raises `SystemExit`, asyncio raises it out of the event loop too, wherever the task's
result is awaited. Handlers catch it themselves. The tasks that they start, or that a library starts
for them (`asyncio.wait_for`, `gather`, a task group), cannot. So while a session or a server is at
work on a loop, the loop's task factory gives such tasks a coroutine that turns a `SystemExit` into
a `RuntimeError`, which takes the way of every other failure.

Only tasks that begin in a context in which a peer has set code off are changed. All other tasks
pass the factory unchanged, and the package's own tasks do not pass it at all.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

from .by_hand import text_of

__all__ = ["enter", "leave", "mark", "set_off_by_peer"]

Factory = Callable[..., Any]

_set_off: ContextVar[bool | None] = ContextVar("wsrpc_set_off", default=None)

# In the contexts of code that a peer has set off, one of these is not None.
_marks: list[ContextVar[Any]] = [_set_off]


def mark(variable: ContextVar[Any]) -> None:
    """Take a context variable, None by default, for a sign that a peer has set the code off."""
    _marks.append(variable)


@contextmanager
def set_off_by_peer() -> Iterator[None]:
    """Contain the tasks that begin in this block."""
    token = _set_off.set(True)
    try:
        yield
    finally:
        _set_off.reset(token)


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine that raises no `SystemExit`.

    It is no `async def` around the other coroutine: if the task is cancelled before its first step,
    the other coroutine would never be awaited, and Python would warn.
    """

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner
        # Debuggers show these names, and so does the text of its task.
        self.__name__ = getattr(inner, "__name__", repr(inner))
        self.__qualname__ = getattr(inner, "__qualname__", self.__name__)

    @property
    def cr_code(self) -> Any:
        return getattr(self._inner, "cr_code", None)

    @property
    def cr_frame(self) -> Any:
        return getattr(self._inner, "cr_frame", None)

    @property
    def cr_running(self) -> bool:
        return getattr(self._inner, "cr_running", False)

    @property
    def cr_await(self) -> Any:
        return getattr(self._inner, "cr_await", None)

    def send(self, value: Any, /) -> Any:
        try:
            return self._inner.send(value)
        except SystemExit as error:
            raise self._fault(error) from error

    def throw(self, *error: Any) -> Any:
        try:
            return self._inner.throw(*error)
        except SystemExit as exit_:
            raise self._fault(exit_) from exit_

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from self._inner.__await__())

    def _fault(self, error: SystemExit) -> RuntimeError:
        said = text_of(error)
        return RuntimeError(
            f"the task of {self.__qualname__} raised SystemExit{said and ': '}{said}"
        )


def _contained(coroutine: Any) -> Any:
    for variable in _marks:
        if variable.get() is not None:
            return coroutine if type(coroutine) is _Contained else _Contained(coroutine)
    return coroutine


def _around(factory: Factory | None) -> Factory:
    """A task factory that contains coroutines, and leaves the rest to the factory before it."""
    if sys.version_info >= (3, 12):
        code = getattr(factory, "__code__", None)
        if code is getattr(asyncio.eager_task_factory, "__code__", ""):
            # anyio recognises eager factories by their code, and takes the class of tasks out of
            # them: its own tasks must not be eager.
            closure: Any = getattr(factory, "__closure__", None)
            make = closure[0].cell_contents

            def construct(coroutine: Any, **options: Any) -> Any:
                return make(_contained(coroutine), **options)

            eager: Factory = asyncio.create_eager_task_factory(construct)
            return eager
    if factory is None:

        def plain(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
            return asyncio.Task(_contained(coroutine), loop=loop, **options)

        return plain
    before = factory

    def chained(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        return before(loop, _contained(coroutine), **options)

    return chained


class _Use:
    """How many nurseries are open on a loop, and its factories, this module's and the one before."""

    __slots__ = ("before", "count", "factory")

    def __init__(self, before: Factory | None) -> None:
        self.before = before
        self.factory = _around(before)
        self.count = 0


_uses: WeakKeyDictionary[asyncio.AbstractEventLoop, _Use] = WeakKeyDictionary()


def enter(loop: asyncio.AbstractEventLoop) -> None:
    """Contain tasks on this loop, until `leave` has been called as often as this."""
    use = _uses.get(loop)
    if use is None:
        use = _uses[loop] = _Use(loop.get_task_factory())
        loop.set_task_factory(use.factory)
    use.count += 1


def leave(loop: asyncio.AbstractEventLoop) -> None:
    """Undo one `enter`; after the last one the loop gets its own factory back."""
    use = _uses[loop]
    use.count -= 1
    if not use.count:
        del _uses[loop]
        # A factory that other code has set meanwhile stays.
        if loop.get_task_factory() is use.factory:
            loop.set_task_factory(use.before)
