"""Replace how a client fetches streams: cache them, retry them, record them.

A stream fetcher gets the request and the default way to fetch it, and returns an async iterator.
It may fetch never, once or often, with the same arguments or with others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio

import wsrpc


class Numbers:
    """Counts, and loses heart once on the way."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    @wsrpc.method
    async def count(self, start: int, stop: int) -> AsyncIterator[int]:
        self.calls.append(start)
        for number in range(start, stop):
            if number == 3 and start < 3:
                raise wsrpc.RpcError("unavailable", "come back later")
            yield number


class Caching:
    """Keeps whole streams and gives them again without asking the server."""

    def __init__(self) -> None:
        self.kept: dict[str, list[Any]] = {}

    async def __call__(
        self, request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream, /
    ) -> AsyncIterator[Any]:
        key = f"{request.controller}.{request.method} {request.arguments}"
        if key in self.kept:
            for item in self.kept[key]:
                yield item
            return
        items: list[Any] = []
        async with fetch(request) as stream:
            async for item in stream:
                items.append(item)
                yield item
        self.kept[key] = items


async def retrying(request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream, /) -> AsyncIterator[Any]:
    """Goes on after the last number that came before the server was unavailable."""
    for attempts_left in (2, 1, 0):
        try:
            async with fetch(request) as stream:
                async for number in stream:
                    request = request.with_arguments(start=number + 1)
                    yield number
            return
        except wsrpc.RpcError as error:
            if error.code != "unavailable" or not attempts_left:
                raise


class Recording:
    """Records each request and its numbers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def __call__(
        self, request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream, /
    ) -> AsyncIterator[Any]:
        self.lines.append(f"{request.controller}.{request.method} {request.arguments}")
        async with wsrpc.default_stream_fetcher(request, fetch) as stream:
            async for item in stream:
                self.lines.append(f"  {item}")
                yield item


async def main() -> tuple[list[int], list[list[int]], list[int], list[str]]:
    controller = Numbers()
    server = wsrpc.Server([controller])
    async with server.listen() as listener, wsrpc.connect(listener.url) as session:
        numbers = session.clientize(Numbers, stream_fetcher=retrying)
        retried = await numbers.count(0, 6).collect()
        print("retrying:", retried, "in calls that began at", controller.calls)

        numbers = session.clientize(Numbers, stream_fetcher=Caching())
        cached = [await numbers.count(10, 12).collect() for _ in range(3)]
        print("caching:", cached, "and calls so far at", controller.calls)

        recording = Recording()
        numbers = session.clientize(Numbers, stream_fetcher=recording)
        await numbers.count(20, 22).collect()
        print("recording:", *recording.lines, sep="\n  ")
    return retried, cached, controller.calls, recording.lines


if __name__ == "__main__":
    anyio.run(main)
