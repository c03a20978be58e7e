"""A backoff without randomness."""

from __future__ import annotations

from ..backoff import Backoff

__all__ = ["Steady"]


class Steady(Backoff):
    """The same delay before each attempt, since a test must not depend on chance.

    Args:
        delay: Seconds.
    """

    def __init__(self, delay: float) -> None:
        super().__init__()
        self._delay = delay

    def next(self, floor: float | None = None) -> float:
        return max(self._delay, floor or 0.0)
