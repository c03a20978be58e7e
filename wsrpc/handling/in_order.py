"""Plain notifications of one session, which begin in the order in which they arrived.

One thread takes them one after the other. A slow notification keeps its thread, and another thread
takes those that follow. So each has entered its function before the next one begins, and a slow one
holds up the others only briefly.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import anyio
import anyio.to_thread

from ..engine.hub import Hub
from .threads import Threads

__all__ = ["InOrder"]

# Seconds after which the next notification no longer waits for the one that runs.
PATIENCE = 0.005


class _Job:
    """One notification, from its arrival to the end of its function."""

    __slots__ = ("begun", "context", "done", "error", "work")

    def __init__(self, work: Callable[[], Any] | None) -> None:
        self.work = work
        self.context = copy_context()
        self.done = anyio.Event()
        self.error: BaseException | None = None
        self.begun = False


class InOrder:
    """Begins plain functions one after the other.

    Args:
        hub: The session's.
        threads: The threads in which they run.
    """

    def __init__(self, hub: Hub, threads: Threads) -> None:
        self._hub = hub
        self._threads = threads
        # Guards the state that loop and threads share: the thread that takes the next job, and the
        # job that runs.
        self._lock = threading.Lock()
        self._queue: deque[_Job] = deque()
        self._turn: object | None = None
        self._current: _Job | None = None
        self._seen: _Job | None = None
        self._watching = False

    async def run(self, work: Callable[[], Any], begun: Callable[[], None]) -> None:
        """Run a function in its turn.

        Args:
            work: The function.
            begun: Called before the wait for the function's end, which cannot be cancelled. A job
                that is cancelled before that call has not begun, and never will.
        """
        await self._through(_Job(work), begun)

    async def passed(self) -> None:
        """Wait until all notifications that are there now have begun."""
        if self._queue:
            await self._through(_Job(None), _nothing)

    async def _through(self, job: _Job, begun: Callable[[], None]) -> None:
        self._queue.append(job)
        if self._turn is None:
            self._next_thread()
        else:
            self._look_later()
        try:
            await job.done.wait()
        except BaseException:
            with self._lock:
                if not job.begun:
                    self._queue.remove(job)
                    raise
            begun()
            with anyio.CancelScope(shield=True):
                await job.done.wait()
            raise
        begun()
        error, job.error = job.error, None
        if error is not None:
            try:
                raise error
            finally:
                # Otherwise the error's traceback would hold this frame, and this frame the error.
                del error

    def _next_thread(self) -> None:
        self._turn = turn = object()
        self._hub.nursery.spawn(self._serve, turn)

    async def _serve(self, turn: object) -> None:
        place = await self._threads.functions.take(self._hub, nested=False)
        try:
            await anyio.to_thread.run_sync(self._drain, turn, limiter=self._threads.limiter)
        finally:
            place.give_back()
            if self._turn is turn:
                self._turn = None
                if self._queue:
                    self._next_thread()

    def _drain(self, turn: object) -> None:
        """Run the waiting jobs; in the thread."""
        while True:
            with self._lock:
                if self._turn is not turn or not self._queue:
                    if self._turn is turn:
                        self._current = None
                    return
                job = self._current = self._queue.popleft()
                job.begun = True
            if job.work is not None:
                try:
                    job.context.run(job.work)
                except BaseException as error:  # noqa: BLE001  (raised where it is waited for)
                    job.error = error
            self._hub.runtime.call_threadsafe(job.done.set)

    def _look_later(self) -> None:
        if not self._watching:
            self._watching = True
            self._seen = self._current
            self._hub.timers.add(self._hub.runtime.now() + PATIENCE, self._look)

    def _look(self) -> None:
        """Let another thread take the next jobs if one job keeps the first thread."""
        seen, self._seen = self._seen, None
        self._watching = False
        with self._lock:
            if self._turn is None or not self._queue:
                return
            if self._current is seen and seen is not None:
                self._next_thread()
        if self._queue:
            self._look_later()


def _nothing() -> None:
    """Do nothing: no code waits for this."""
