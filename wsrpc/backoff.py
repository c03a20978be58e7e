"""Delays between attempts to connect (protocol.md RETRY-2)."""

from __future__ import annotations

from collections.abc import Callable
from random import random

__all__ = ["LONGEST", "Backoff"]

# Seconds.
FIRST = 0.9
LONGEST = 15.0
JITTER = 1.0


class Backoff:
    """Full jitter: each delay is uniform between 0 and a bound that doubles.

    So a thousand clients that lose one server at the same moment come back spread over the whole
    time. `bound / 2 + jitter` would leave half of that time empty, and equal delays would bring
    them back together.

    Args:
        uniform: Gives random numbers from 0 to 1.
        first: Seconds. The bound of the first delay.
        longest: Seconds. The bound is never above it, not even the first one.
        jitter: Seconds that come on top of a floor at most.
    """

    def __init__(
        self,
        uniform: Callable[[], float] = random,
        *,
        first: float = FIRST,
        longest: float = LONGEST,
        jitter: float = JITTER,
    ) -> None:
        self._uniform = uniform
        self._first = self._bound = min(first, longest)
        self._longest = longest
        self._jitter = jitter

    def next(self, floor: float | None = None) -> float:
        """Seconds to wait now.

        Args:
            floor: Seconds that the other end asked for; the jitter comes on top of them.
        """
        bound, self._bound = self._bound, min(self._bound * 2, self._longest)
        if floor is not None:
            return floor + self._uniform() * self._jitter
        return self._uniform() * bound

    def reset(self) -> None:
        """Begin anew with the first bound, since a connection has been of use."""
        self._bound = self._first
