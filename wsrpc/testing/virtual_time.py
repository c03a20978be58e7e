"""Virtual time: every wait is over at once, and the clock tells how long it would have taken."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Mapping
from typing import Any, Literal

__all__ = ["VirtualTimeLoop", "virtual_time"]


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose clock jumps to the next timer when no callback is ready.

    `loop.time()` and `anyio.current_time()` begin at 0. Data of sockets are taken first, but a peer
    in another process may be slow, and threads are not waited for: virtual time may fly past both.
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
        """Let time pass, by at least the smallest difference that the clock can show."""
        self.now = max(self.now + seconds, math.nextafter(self.now, math.inf))


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, clock: _Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            # No timer is set: only a thread or a socket can wake the loop.
            return super().select(None)
        found = super().select(0)
        if not found and timeout > 0:
            self._clock.jump(timeout)
        return found


def virtual_time(backend: Literal["asyncio", "trio"] = "asyncio") -> tuple[str, Mapping[str, Any]]:
    """The value of the fixture `anyio_backend` for virtual time.

    An hour of waiting takes no time then:

        @pytest.fixture(params=["asyncio", "trio"])
        def anyio_backend(request):
            return wsrpc.testing.virtual_time(request.param)

    `anyio.run(main, backend=…, backend_options=…)` takes the two as well.

    Args:
        backend: "asyncio" or "trio".

    Raises:
        ValueError: There is no such backend; the caller's fault.
    """
    if backend == "asyncio":
        return "asyncio", {"loop_factory": VirtualTimeLoop}
    if backend == "trio":
        from trio.testing import MockClock

        return "trio", {"clock": MockClock(autojump_threshold=0)}
    raise ValueError(f"backend must be 'asyncio' or 'trio', not {backend!r}")
