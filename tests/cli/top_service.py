"""A server that shows its counts to clients that say that they operate it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import wsrpc


class Prices:
    """Prices without end."""

    @wsrpc.method
    async def watch(self) -> AsyncIterator[int]:
        price = 0
        while True:
            yield price
            price += 1


async def who(handshake: wsrpc.Handshake, auth: Any) -> Any:
    """The principal that the client names."""
    return auth


def operates(principal: Any) -> bool:
    """Whether a principal may watch the server."""
    return bool(principal == "ops")


prices = Prices()
server = wsrpc.Server([Prices()], authenticate=who, stats_for=operates)
