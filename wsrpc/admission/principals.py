"""When two principals are the same, and how often each occurs."""

from __future__ import annotations

from collections import Counter
from typing import Any

__all__ = ["Tally", "same_principal"]


def same_principal(one: Any, other: Any) -> bool:
    """Whether two that `authenticate` returned are the same; 1, 1.0 and True are not."""
    return type(one) is type(other) and bool(one == other)


class Tally:
    """How often each principal occurs; those that cannot be hashed are compared one by one."""

    def __init__(self) -> None:
        self._hashed: Counter[Any] = Counter()
        self._others: list[Any] = []

    def __getitem__(self, principal: Any) -> int:
        try:
            return self._hashed[type(principal), principal]
        except TypeError:
            return sum(same_principal(principal, other) for other in self._others)

    def add(self, principal: Any) -> None:
        try:
            self._hashed[type(principal), principal] += 1
        except TypeError:
            self._others.append(principal)

    def remove(self, principal: Any) -> None:
        """Take one away again, by its identity where it cannot be hashed."""
        try:
            key = type(principal), principal
            self._hashed[key] -= 1
            if not self._hashed[key]:
                del self._hashed[key]
        except TypeError:
            place = next(i for i, other in enumerate(self._others) if other is principal)
            del self._others[place]
