"""The number of calls that may run at a time."""

from __future__ import annotations

from typing import Any

__all__ = ["Places", "Slots"]


class Places:
    """The calls that may run at a time.

    Attributes:
        limit: Calls at a time.
        live: Calls that run.
    """

    __slots__ = ("limit", "live")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.live = 0


class Slots(Places):
    """The places that the peer offers, and the calls that wait for one, first come first served.

    Attributes:
        waiting: The `OutCall`s that wait.
    """

    __slots__ = ("waiting",)

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.waiting: dict[Any, None] = {}
