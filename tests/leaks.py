"""The search for objects and tasks that outlive a test."""

from __future__ import annotations

import asyncio
import gc
import heapq
import logging
import types
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import anyio.lowlevel

from wsrpc.session.live_session import LiveSession


def _tasks() -> dict[int, str]:
    """All tasks of the event loop by identity."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _trio_tasks()
    return {id(task): repr(task) for task in asyncio.all_tasks()}


def _trio_tasks() -> dict[int, str]:
    import trio

    root = trio.lowlevel.current_root_task()
    found: dict[int, str] = {}
    todo = [root] if root is not None else []
    while todo:
        task = todo.pop()
        found[id(task)] = repr(task)
        for nursery in task.child_nurseries:
            todo.extend(nursery.child_tasks)
    return found


def _objects() -> dict[int, str]:
    """Sessions and async generators that are alive."""
    return {id(one): repr(one) for one in gc.get_objects() if _is_watched(one)}


def _is_watched(one: object) -> bool:
    return issubclass(type(one), LiveSession) or type(one) is types.AsyncGeneratorType


def snapshot() -> set[int]:
    """What is there before a test."""
    return {*_tasks(), *_objects()}


async def leaks_since(before: set[int]) -> list[str]:
    """Tasks, sessions and async generators that are there now and were not before."""
    left: list[str] = []
    objects: list[str] = []
    for _ in range(200):
        left = [text for one, text in _tasks().items() if one not in before]
        if not left:
            break
        # What was told to end may take a few turns for it, a closing socket for instance.
        await anyio.sleep(0.005)
    _forget_tracebacks()
    for turn in range(20):
        if turn > 2:
            # A worker thread lets go of what it ran a moment after it has reported the outcome.
            await anyio.sleep(0.005)
        # For as long as this turn of the loop lasts, the exception that began it is held; and
        # finalizers leave word with the loop.
        await anyio.lowlevel.checkpoint()
        _forget_timers()
        gc.collect()
        objects = [text for one, text in _objects().items() if one not in before]
        if not objects:
            break
    if objects:
        objects += _holders(before)
    return left + objects


def _holders(before: set[int]) -> list[str]:
    """The types of what refers to the objects left behind, and of what refers to that, and so on."""
    level = [one for one in gc.get_objects() if _is_watched(one) and id(one) not in before]
    seen = {id(one) for one in level} | {id(level)}
    found: list[str] = []
    for depth in range(6):
        above: list[object] = []
        for one in gc.get_referrers(*level):
            if id(one) not in seen and one is not above and not isinstance(one, types.FrameType):
                seen.add(id(one))
                above.append(one)
        found.append(f"held at {depth + 1} by " + ", ".join(sorted({_named(one) for one in above})))
        level = above[:50]
        seen.add(id(level))
    return found


def _named(one: object) -> str:
    name = type(one).__name__
    return repr(one)[:120] if name in ("coroutine", "Task", "method", "function") else name


def _forget_timers() -> None:
    """Let asyncio forget cancelled timers, which keep their context until they would have run."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    timers = getattr(loop, "_scheduled", [])
    timers[:] = [timer for timer in timers if not timer.cancelled()]
    heapq.heapify(timers)


def _forget_tracebacks() -> None:
    """Let pytest's copies of what was logged hold no frames."""
    for handler in logging.getLogger().handlers:
        for record in getattr(handler, "records", ()):
            record.exc_info = None


class _Complaints(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.name == "asyncio" or message.startswith("a fault in wsrpc"):
            if record.exc_info and record.exc_info[1] is not None:
                # asyncio's own.
                message = f"{message}: {record.exc_info[1]!r}"
            self.messages.append(message)


@contextmanager
def watched_logs() -> Iterator[list[str]]:
    """Collects what the event loop and the package complain about and nobody should see."""
    handler = _Complaints()
    logging.getLogger().addHandler(handler)
    try:
        yield handler.messages
    finally:
        logging.getLogger().removeHandler(handler)
