"""Times at which the event loop was blocked, so that it missed heartbeats."""

from __future__ import annotations

import math
import threading

from ..telemetry.logs import Log

__all__ = ["blockages"]


class _Blockages(threading.local):
    """The times at which the event loop of this thread was blocked; each is logged once.

    Every session of the loop notices a blockage by an alarm that comes late.
    """

    def __init__(self) -> None:
        self._told = -math.inf

    def tell(self, log: Log, now: float, lag: float) -> None:
        """Log that the loop was blocked.

        Args:
            log: The log to write to.
            now: Seconds on the loop's clock.
            lag: Seconds by which an alarm was late.
        """
        if now - lag < self._told <= now:
            return
        self._told = now
        log.warning(
            "the event loop was blocked for %.1f s, so that no heartbeat could be sent or answered "
            "and the other end may have given up the connection; run blocking code in a thread",
            lag,
        )


blockages = _Blockages()
