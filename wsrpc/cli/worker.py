"""Blocking reads and writes beside the event loop, in a thread that never holds up the exit.

Worker threads of anyio are waited for when the interpreter ends; one that is stuck in a read from
a silent terminal would keep the command from exiting.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar, cast

__all__ = ["Worker"]

R = TypeVar("R")
_Job = tuple[Callable[..., Any], tuple[Any, ...], "asyncio.Future[Any]"]


class Worker:
    """Runs one function at a time in a daemon thread of its own."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, function: Callable[..., R], *args: Any) -> R:
        """The result of `function(*args)`; if this is cancelled, the function runs on unheeded."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="wsrpc stdio")
            self._thread.start()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._jobs.put((function, args, future))
        return cast(R, await future)

    def _work(self) -> None:
        while True:
            function, args, future = self._jobs.get()
            result: Any = None
            raised: Exception | None = None
            try:
                result = function(*args)
            except Exception as error:  # noqa: BLE001  (it is raised in `run`)
                raised = error
            try:
                future.get_loop().call_soon_threadsafe(_deliver, future, result, raised)
            except RuntimeError:
                # The loop has closed meanwhile: no task waits any more.
                return


def _deliver(future: asyncio.Future[Any], result: Any, raised: Exception | None) -> None:
    if future.done():
        return
    if raised is not None:
        future.set_exception(raised)
    else:
        future.set_result(result)
