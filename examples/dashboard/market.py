"""The server's side: prices that are kept once, for any number of viewers."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator
from random import Random

import anyio
from pydantic import BaseModel

import wsrpc

SYMBOLS = ("ACME", "BOLT", "CORE")

# Prices that are kept: a viewer that comes late begins with them.
KEPT = 600


class Prices(BaseModel):
    """Prices that a viewer does not have yet.

    Attributes:
        first: The number of the first of them, counted from 1.
        cents: One row for each number, with the price of each symbol.
    """

    first: int
    cents: list[list[int]]


class Market:
    """Prices that change all the time.

    Args:
        seed: Two markets of one seed have the same prices.
    """

    def __init__(self, seed: int = 1) -> None:
        self.number = 0
        self.closed = False
        self._random = Random(seed)
        self._prices = [10_000.0 for _ in SYMBOLS]
        self._kept: deque[list[int]] = deque(maxlen=KEPT)
        self._changed = anyio.Event()

    @wsrpc.method
    async def symbols(self) -> tuple[str, ...]:
        """The names of the columns of prices."""
        return SYMBOLS

    @wsrpc.method
    async def watch(self) -> AsyncIterator[Prices]:
        """All prices that are kept, and then those that come; an item has all since the last one."""
        seen = 0
        while not self.closed or seen < self.number:
            changed = self._changed
            if seen < self.number:
                first = max(seen + 1, self.number - len(self._kept) + 1)
                kept = list(self._kept)[first - self.number - 1 :]
                seen = self.number
                yield Prices(first=first, cents=kept)
            else:
                await changed.wait()

    async def reached(self, number: int) -> None:
        """Wait for a price."""
        while self.number < number:
            await self._changed.wait()

    async def run(self, period: float, count: float = math.inf) -> None:
        """Let prices change; this never waits for a viewer.

        Args:
            period: Seconds between two changes.
            count: The number of changes after which the market closes.
        """
        while self.number < count:
            await anyio.sleep(period)
            self._prices = [one * self._random.gauss(1.0, 0.004) for one in self._prices]
            self._kept.append([round(one) for one in self._prices])
            self.number += 1
            self._tell()
        self.closed = True
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
