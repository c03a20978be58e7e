"""Stopping without breaking calls (protocol.md, goaway and Drain)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .frames import Goaway, GoawayBody

__all__ = ["Drain"]


@dataclass(frozen=True, slots=True)
class Drain:
    """The drain that a side has announced, and announces again after each hello (GOAWAY-3).

    Attributes:
        last_id: The highest id taken from the peer when the drain began: calls with higher ids are
            refused.
        until: Seconds on the hub's clock. The time at which the calls that are left will be
            cancelled.
        reconnect_after: Seconds for which the peer should stay away.
    """

    last_id: int
    until: float
    reconnect_after: float

    def frame(self, now: float) -> Goaway:
        """The `goaway` frame to send at this time."""
        return Goaway(
            GoawayBody(
                last_id=self.last_id,
                grace=math.ceil(max(self.until - now, 0) * 1000),
                reconnect_after=math.ceil(self.reconnect_after * 1000) or None,
            )
        )
