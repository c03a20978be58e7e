"""FastAPI with streams of JSON lines, as it has them itself, and aiohttp as the client.

The server has pydantic models and validates them, as FastAPI's users write it; the client has
dicts, and msgspec decodes its lines. Uploads are a request body of JSON lines, one chunk a line,
since FastAPI has no other way in. HTTP has one call at a time on a connection: calls and streams
that are under way at the same time have a connection each, kept for the next ones.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from fastapi import FastAPI, Request
from pydantic import BaseModel

from benchmarks import data
from benchmarks.peers.asgi import serve_application

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode


class Point(BaseModel):
    """The small model, as `data.point` has it."""

    x: int
    y: float
    label: str


class Text(BaseModel):
    """A text in a record of its own."""

    value: str


application = FastAPI()


@application.post("/echo")
async def _echo(point: Point) -> Point:
    return point


@application.post("/text")
async def _text(text: Text) -> Text:
    return text


@application.get("/items")
async def _items(n: int) -> AsyncIterable[Point]:
    for number in range(n):
        yield Point(**data.point(number))


@application.get("/yielding")
async def _yielding(n: int) -> AsyncIterable[Point]:
    for number in range(n):
        await asyncio.sleep(0)
        yield Point(**data.point(number))


@application.post("/upload")
async def _upload(request: Request) -> int:
    count = 0
    rest = b""
    async for chunk in request.stream():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            Point.model_validate_json(line)
            count += 1
    return count


async def serve(ready: Callable[[str], None]) -> None:
    """See `base.Peer`."""
    await serve_application(application, lambda address: ready(f"http://{address}"))


class JsonlinesClient:
    """See `base.Client`. Points are dicts, as they came out of the JSON."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def _post(self, path: str, value: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        async with self._session.post(path, data=encode(value), headers=headers) as response:
            response.raise_for_status()
            return decode(await response.read())

    async def _stream(self, path: str, n: int) -> AsyncIterator[dict[str, Any]]:
        async with self._session.get(path, params={"n": n}) as response:
            response.raise_for_status()
            async for line in response.content:
                yield decode(line)

    def point(self, number: int) -> dict[str, Any]:
        return data.point(number)

    async def echo(self, point: dict[str, Any]) -> Any:
        return await self._post("/echo", point)

    def items(self, n: int) -> AsyncIterator[dict[str, Any]]:
        return self._stream("/items", n)

    def yielding(self, n: int) -> AsyncIterator[dict[str, Any]]:
        return self._stream("/yielding", n)

    async def upload(self, items: AsyncIterator[dict[str, Any]]) -> int:
        async def lines() -> AsyncIterator[bytes]:
            async for item in items:
                yield encode(item) + b"\n"

        async with self._session.post("/upload", data=lines()) as response:
            response.raise_for_status()
            count: int = decode(await response.read())
            return count

    async def text(self, value: str) -> str:
        reply: dict[str, str] = await self._post("/text", {"value": value})
        return reply["value"]


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[JsonlinesClient]:
    """See `base.Peer`."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=600)
    async with aiohttp.ClientSession(address, connector=connector) as session:
        yield JsonlinesClient(session)
