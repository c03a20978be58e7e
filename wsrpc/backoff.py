"""How long to wait before the next attempt to connect (protocol.md RETRY-2)."""

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

    A thousand clients that lose one server at the same moment so come back spread over the whole
    time. `bound / 2 + jitter` would keep half of it empty, and equal delays would bring them back
    together.

    Args:
        uniform: Gives numbers from 0 to 1.
        first: Seconds. The bound of the first delay.
        longest: Seconds. What the bound doubles to.
        jitter: Seconds. What comes on top of a floor, at most.
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
        self._first = self._bound = first
        self._longest = longest
        self._jitter = jitter

    def next(self, floor: float | None = None) -> float:
        """Seconds to wait now.

        Args:
            floor: Seconds that the other end asked for; then the jitter comes on top.
        """
        bound, self._bound = self._bound, min(self._bound * 2, self._longest)
        if floor is not None:
            return floor + self._uniform() * self._jitter
        return self._uniform() * bound

    def reset(self) -> None:
        """A connection has been of use: begin anew."""
        self._bound = self._first
