"""Raise an error on one side, catch the same error on the other.

An `RpcError` crosses with its code, message and data, in the middle of a stream too. A subclass
comes back as that class, its data as the declared type. Of any other exception only an id crosses;
the server's log has the traceback under it, as you will see below.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
from pydantic import BaseModel

import wsrpc


class Quota(BaseModel):
    used: int
    limit: int


class QuotaExceeded(wsrpc.RpcError[Quota]):
    def __init__(self, quota: Quota) -> None:
        super().__init__("resource_exhausted", "no reports left this month", quota)


class Reports:
    @wsrpc.method
    async def rows(self) -> AsyncIterator[str]:
        yield "first row"
        yield "second row"
        raise wsrpc.RpcError("data_loss", "the disk failed", {"disk": "sda", "blocks": [17, 18]})

    @wsrpc.method
    async def create(self) -> str:
        raise QuotaExceeded(Quota(used=10, limit=10))

    @wsrpc.method
    async def broken(self) -> int:
        return 1 // 0


async def main() -> list[object]:
    seen: list[object] = []
    server = wsrpc.Server([Reports()])
    async with server.listen() as listener, wsrpc.connect(listener.url) as session:
        reports = session.clientize(Reports)

        try:
            async for row in reports.rows():
                print("row:", row)
                seen.append(row)
        except wsrpc.RpcError as error:
            print(f"then {error.code}, {error.message!r}, data {error.data}")
            seen.append(error)

        try:
            await reports.create()
        except QuotaExceeded as error:
            print(f"{error.data.used} of {error.data.limit} reports used")
            seen.append(error)

        try:
            await reports.broken()
        except wsrpc.RpcError as error:
            print(f"{error.code}: {error.message}; ask the operator about {error.error_id}")
            seen.append(error)
    return seen


if __name__ == "__main__":
    anyio.run(main)
