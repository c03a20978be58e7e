"""A price ticker for a slow reader, to which only the newest price matters.

By default a stream waits for its reader, and a slow one would see older and older prices. With
`overflow="latest"` the producer runs at its own pace, and the reader gets the newest price.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import anyio
from pydantic import BaseModel

import wsrpc


class Price(BaseModel):
    number: int
    cents: int


class Market:
    def __init__(self) -> None:
        self.number = 0

    @wsrpc.method
    async def prices(self, symbol: str) -> AsyncIterator[Price]:
        """A new price every millisecond."""
        for self.number in range(1_000_000):
            yield Price(number=self.number, cents=round(10_000 + 500 * math.sin(self.number / 50)))
            await anyio.sleep(0.001)


async def main() -> tuple[list[int], int]:
    """Returns the numbers of the prices that were read, and the number of prices that were not."""
    market, read = Market(), list[int]()
    async with wsrpc.Server([market]).listen() as listener:
        async with wsrpc.connect(listener.url) as session:
            proxy = session.clientize(Market, overflow="latest")
            async with proxy.prices("ACME") as stream:
                async for price in stream:
                    print(
                        f"price {price.number:3}: ${price.cents / 100:6.2f}, the market is at "
                        f"{market.number:3}; {stream.dropped:3} let go"
                    )
                    read.append(price.number)
                    if len(read) == 10:
                        break
                    await anyio.sleep(0.05)  # a slow reader
                return read, stream.dropped


if __name__ == "__main__":
    anyio.run(main)
