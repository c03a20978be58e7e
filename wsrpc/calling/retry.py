"""Decides when a call that failed is made again (protocol.md RETRY-1); it does not wait itself.

The budget is that of gRPC's `retryThrottling`
(https://github.com/grpc/proposal/blob/master/A6-client-retries.md): a server in trouble gets a burst
of repeats at most, and then a small part of the usual load on top, instead of twice the load.
"""

from __future__ import annotations

from collections.abc import Callable
from random import random
from typing import Any

from ..backoff import Backoff
from ..errors import Code, ConnectionLost, RpcError

__all__ = ["Attempts", "Budget", "is_repeatable"]

# Seconds. The bound of the delay before the first repeat, and the longest bound to which it
# doubles.
FIRST = 0.1
LONGEST = 5.0

# Seconds added at random to a delay that the other end asked for (`retry_after`).
JITTER = 0.1


def is_repeatable(error: RpcError[Any], *, idempotent: bool) -> bool:
    """Whether a call may be repeated after this failure."""
    if isinstance(error, ConnectionLost) and error.not_started:
        # Its session ended for some reason, and the next session may take the call.
        return True
    if error.code == Code.UNAVAILABLE:
        return error.not_started or idempotent
    return error.code == Code.RESOURCE_EXHAUSTED and error.not_started


class Budget:
    """The budget for repeats that all calls of one session share: a bucket of tokens.

    Each failure that is worth a repeat costs one token. While more than half of the tokens are
    left, calls are repeated. Below that, failures go to the caller, until new calls have refilled
    the bucket.

    Args:
        tokens: Tokens at most, and at first; 0: no call is ever repeated.
        refund: Tokens that come back for each call sent, and for each second. The seconds are for
            sessions that hold a few streams for weeks.
    """

    def __init__(self, tokens: float, refund: float) -> None:
        self._most = self._tokens = tokens
        self._refund = refund
        self._sent = 0
        self._now: float | None = None

    @property
    def tokens(self) -> float:
        """Tokens that are left."""
        return self._tokens

    def spend(self, now: float, sent: int) -> bool:
        """Pay for a failed call; returns whether enough tokens are left to repeat it.

        Args:
            now: Seconds on a clock that does not go back.
            sent: Calls sent so far, in all.
        """
        earned = sent - self._sent + (0.0 if self._now is None else now - self._now)
        self._sent, self._now = sent, now
        self._tokens = max(0.0, min(self._most, self._tokens + earned * self._refund) - 1)
        return self._tokens > self._most / 2


class Attempts:
    """The attempts at one call, or at one stretch of a stream between two items.

    Args:
        budget: The session's.
        most: Attempts, the first one included.
        idempotent: Whether the call may be repeated even if it may have begun.
        deadline: Seconds on the clock of `delay`. The deadline of the first attempt, or None.
        uniform: Gives random numbers from 0 to 1.

    Attributes:
        made: Attempts so far.
    """

    def __init__(
        self,
        budget: Budget,
        *,
        most: int,
        idempotent: bool,
        deadline: float | None,
        uniform: Callable[[], float] = random,
    ) -> None:
        self._budget = budget
        self._most = most
        self._idempotent = idempotent
        self._deadline = deadline
        self._uniform = uniform
        self._may_have_run = False
        self.reset()

    def reset(self) -> None:
        """Forget earlier attempts, since the stream has made progress."""
        self.made = 1
        self._backoff = Backoff(self._uniform, first=FIRST, longest=LONGEST, jitter=JITTER)

    def delay(
        self, error: RpcError[Any], now: float, sent: int, *, moved: bool = False
    ) -> float | None:
        """Seconds after which to repeat the call; None: it has failed for good.

        Args:
            error: The error of the last attempt.
            now: Seconds on the clock of the deadline.
            sent: Calls sent so far in this session.
            moved: Whether the wire session that refused the call is gone for good, and another has
                taken its place.
        """
        if not is_repeatable(error, idempotent=self._idempotent):
            return None
        if not error.not_started:
            self._may_have_run = True
        if self._deadline is not None and now >= self._deadline:
            return None
        if moved and error.not_started:
            # The call is not made twice, and costs no more than if it had been made a moment later.
            return 0.0
        if self.made >= self._most or not self._budget.spend(now, sent):
            return None
        delay = self._backoff.next(error.retry_after)
        if self._deadline is not None and now + delay >= self._deadline:
            return None
        self.made += 1
        return delay

    def concluded(self, error: RpcError[Any]) -> RpcError[Any]:
        """The last attempt's error, in the form that the application gets."""
        if self._may_have_run:
            # The last attempt may not have begun, but an earlier one may.
            error.not_started = False
        if self.made > 1:
            error.add_note(f"This was attempt {self.made}; it is not repeated any more.")
        return error
