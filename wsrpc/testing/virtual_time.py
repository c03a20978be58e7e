"""Virtual time: whatever waits is over at once, and the clock says how long it would have taken."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Mapping
from typing import Any, Literal

__all__ = ["VirtualTimeLoop", "virtual_time"]


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop of asyncio whose clock jumps to the next timer as soon as nothing else is to do.

    `loop.time()` and `anyio.current_time()` begin at 0. What sockets bring is taken first, but a
    peer in another process is in no hurry, and threads are not waited for: virtual time may fly
    past both.
    """

    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(_JumpingSelector(self._clock))
        # Seconds by which a timer may be early. asyncio takes a nanosecond, which is lost in the
        # float of a clock that shows more than a hundred days: its timers would never be due.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._clock.now


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def jump(self, seconds: float) -> None:
        """Let time pass; at least as much as can be told apart, so that it does go on."""
        self.now = max(self.now + seconds, math.nextafter(self.now, math.inf))


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, clock: _Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            # No timer is set: only a thread or a socket can go on.
            return super().select(None)
        found = super().select(0)
        if not found and timeout > 0:
            self._clock.jump(timeout)
        return found


def virtual_time(backend: Literal["asyncio", "trio"] = "asyncio") -> tuple[str, Mapping[str, Any]]:
    """What the fixture `anyio_backend` has to give for virtual time.

    An hour of waiting takes no time then::

        @pytest.fixture(params=["asyncio", "trio"])
        def anyio_backend(request):
            return wsrpc.testing.virtual_time(request.param)

    `anyio.run(main, backend=…, backend_options=…)` takes the two as well.

    Args:
        backend: "asyncio" or "trio".

    Raises:
        ValueError: It is none of them.
    """
    if backend == "asyncio":
        return "asyncio", {"loop_factory": VirtualTimeLoop}
    if backend == "trio":
        from trio.testing import MockClock

        return "trio", {"clock": MockClock(autojump_threshold=0)}
    raise ValueError(f"backend must be 'asyncio' or 'trio', not {backend!r}")
