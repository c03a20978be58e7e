"""Fifty viewers in a terminal, three of which are drawn::

    quick  ▇▆▇▇▇▇▅▅▄▄▅▆▅▅▅▅▅▆▆▇█▇▆▆▇▆▆▆▅▅▅▆▆▅▄▃▂▂▁▁
    slow   ▇▆▇▇▇▇▅▅▄▄▅▆▅▅▅▅▅▆▆▇█▇▆▆▇▆▆▆▅▅▅▆▆▅▄▃▂▂▁▁
    late   ▇▆▇▇▇▇▅▅▄▄▅▆▅▅▅▅▅▆▆▇█▇▆▆▇▆▆▆▅▅▅▆▆▅▄▃▂▂▁▁

`python -m examples.dashboard.viewers`
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import anyio

import wsrpc
from examples.dashboard.market import SYMBOLS, Market

VIEWERS = 50
BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40


@dataclass
class Viewer:
    """A viewer with a chart.

    Attributes:
        name: The viewer's name.
        pause: Seconds to draw it.
        chart: The prices of the first symbol, in cents.
        items: Items that were taken.
        began_with: Prices in the first of them.
    """

    name: str
    pause: float = 0.0
    chart: list[int] = field(default_factory=list)
    items: int = 0
    began_with: int = 0

    async def view(self, url: str) -> None:
        """Watch until the market closes."""
        async with wsrpc.connect(url) as session:
            # One item is under way at a time: all prices that come meanwhile are in the next one.
            market = session.clientize(Market, window=1)
            async for prices in market.watch():
                self.items += 1
                self.began_with = self.began_with or len(prices.cents)
                self.chart += [row[0] for row in prices.cents]
                await anyio.sleep(self.pause)

    def __str__(self) -> str:
        last = f"{self.chart[-1] / 100:.2f}" if self.chart else "-"
        counts = f"{len(self.chart)} prices in {self.items} items"
        return f"{self.name:6} {bars(self.chart):{WIDTH}}   {SYMBOLS[0]} {last}   {counts}"


def bars(values: list[int]) -> str:
    """A chart of one line."""
    step = max(1, len(values) // WIDTH)
    shown = values[::step][-WIDTH:]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    return "".join(BARS[(value - low) * (len(BARS) - 1) // max(1, high - low)] for value in shown)


async def draw(viewers: list[Viewer]) -> None:
    """Draw some charts again and again, where there is a terminal that can."""
    while sys.stdout.isatty():
        for viewer in viewers:
            print(f"\x1b[K{viewer}")
        print(f"\x1b[{len(viewers)}A", end="", flush=True)
        await anyio.sleep(0.1)


async def main(count: int = 200, period: float = 0.01) -> list[Viewer]:
    """Show the viewers.

    Args:
        count: Prices in all.
        period: Seconds between two of them.
    """
    market = Market()
    quick = [Viewer("quick") for _ in range(VIEWERS - 2)]
    slow, late = Viewer("slow", pause=20 * period), Viewer("late")
    async with wsrpc.Server([market]).listen() as listener:
        async with anyio.create_task_group() as drawing:
            drawing.start_soon(draw, [quick[0], slow, late])
            async with anyio.create_task_group() as group:
                for viewer in [*quick, slow]:
                    group.start_soon(viewer.view, listener.url)
                group.start_soon(market.run, period, count)
                await market.reached(count // 2)
                group.start_soon(late.view, listener.url)
            drawing.cancel_scope.cancel()
    for viewer in (quick[0], slow, late):
        print(viewer)
    return [*quick, slow, late]


if __name__ == "__main__":
    anyio.run(main)
