"""Bounds on frames that honest peers hardly ever send (protocol.md CALM).

The frames that a peer gets pace the frames that an honest peer sends: slots pace calls, credit
paces items, items pace credit, frames pace acks. This module counts the frames that nothing else
paces, each kind with a bucket of tokens. It counts by the batch: a batch without such frames costs
no more than a look.
"""

from __future__ import annotations

from ..limits import Limits

__all__ = ["Bucket", "Patience"]


class Bucket:
    """A bucket of tokens, which refills at a steady rate.

    Args:
        burst: Tokens that it holds, and has at first.
        rate: Tokens that come back each second.
    """

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, burst: float, rate: float) -> None:
        self._burst = self._left = burst
        self._rate = rate
        self._at = 0.0

    def take(self, now: float, n: int = 1) -> bool:
        """Take `n` tokens; returns False and takes none where there are fewer.

        Args:
            now: Seconds on a clock that does not go back.
            n: Tokens.
        """
        left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        self._left = left - n if left >= n else left
        return left >= n


class Patience:
    """Counts frames that honest peers hardly ever send, and says when there are too many.

    A session keeps one over all its links: a peer that was told to calm down and comes back meets
    the same counts.

    Attributes:
        idle: Frames without effect, of the present batch.
        pings: Pings of the present batch.
        refused: Calls of the present batch that the peer should not have sent.
    """

    __slots__ = ("_idle", "_limits", "_pings", "_refused", "idle", "pings", "refused")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.idle = self.pings = self.refused = 0
        # The buckets are made when they are needed, which in most sessions is never.
        self._idle: Bucket | None = None
        self._pings: Bucket | None = None
        self._refused: Bucket | None = None

    def exhausted(self, now: float) -> str | None:
        """The reason why the peer has to calm down, or None; the next batch is counted anew.

        Args:
            now: Seconds on the hub's clock.
        """
        limits, excess = self._limits, None
        if self.idle:
            self._idle = self._idle or Bucket(limits.idle_burst, limits.idle_rate)
            if not self._idle.take(now, self.idle):
                excess = "too many frames without effect"
        if self.pings:
            self._pings = self._pings or Bucket(limits.ping_burst, limits.ping_rate)
            if not self._pings.take(now, self.pings):
                excess = "too many pings"
        if self.refused:
            self._refused = self._refused or Bucket(limits.refusal_burst, limits.refusal_rate)
            if not self._refused.take(now, self.refused):
                excess = "too many calls that had to be refused"
        self.idle = self.pings = self.refused = 0
        return excess
