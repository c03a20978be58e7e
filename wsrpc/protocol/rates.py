"""How much a side bears of what honest peers hardly send (protocol.md CALM).

What honest peers send is paced by what they are sent: calls by slots, items by credit, credit by
items, acks by frames. What nothing else paces is counted here, each kind with a bucket of tokens.
It is counted by the batch: a batch with nothing of it costs no more than a look.
"""

from __future__ import annotations

from ..limits import Limits

__all__ = ["Bucket", "Patience"]


class Bucket:
    """A bucket of tokens: so many at once, and so many more each second.

    Args:
        burst: Tokens. How many it holds, and has at first.
        rate: Tokens that come back each second.
    """

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, burst: float, rate: float) -> None:
        self._burst = self._left = burst
        self._rate = rate
        self._at = 0.0

    def take(self, now: float, n: int = 1) -> bool:
        """Take `n` tokens; False where there are fewer, and then none is taken.

        Args:
            now: Seconds on a clock that does not go back.
            n: Tokens.
        """
        left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        self._left = left - n if left >= n else left
        return left >= n


class Patience:
    """Counts frames that honest peers hardly send, and says when there are too many.

    It is the session's: a peer that was told to calm down, and comes back, finds it as it was.

    Attributes:
        idle: Frames without effect, of the present batch.
        pings: Pings, likewise.
        refused: Calls that the peer should not have sent, likewise.
    """

    __slots__ = ("_idle", "_limits", "_pings", "_refused", "idle", "pings", "refused")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.idle = self.pings = self.refused = 0
        # Made when they are needed, which in most sessions is never.
        self._idle: Bucket | None = None
        self._pings: Bucket | None = None
        self._refused: Bucket | None = None

    def exhausted(self, now: float) -> str | None:
        """Why the peer has to calm down, if it has to; the next batch is counted anew.

        Args:
            now: Seconds on the shell's clock.
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
