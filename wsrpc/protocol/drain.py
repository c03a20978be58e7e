"""Stopping without breaking calls (protocol.md, goaway and Drain)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .frames import Goaway, GoawayBody

__all__ = ["Drain"]


@dataclass(frozen=True, slots=True)
class Drain:
    """What a side that drains has said, and says again after each hello (GOAWAY-3).

    Attributes:
        last_id: The highest id taken from the peer when the drain began: those above are refused.
        until: Seconds on the shell's clock. When the calls that are left will be cancelled.
        reconnect_after: Seconds for which the peer should stay away.
    """

    last_id: int
    until: float
    reconnect_after: float

    def frame(self, now: float) -> Goaway:
        """The frame that says so at this time."""
        return Goaway(
            GoawayBody(
                last_id=self.last_id,
                grace=math.ceil(max(self.until - now, 0) * 1000),
                reconnect_after=math.ceil(self.reconnect_after * 1000) or None,
            )
        )
