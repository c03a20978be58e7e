"""Stream tokens from a server, as a language model gives them.

The service holds the logic and knows nothing of the wire. The controller has the methods that can
be called. The client iterates the items that it yields.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
from pydantic import BaseModel

import wsrpc


class Token(BaseModel):
    message: str


class HelloService:
    async def stream_tokens(self, hello: str) -> AsyncIterator[Token]:
        for message in ("Hello", ", ", hello, "!"):
            await anyio.sleep(0.1)  # a model takes its time
            yield Token(message=message)


class HelloController:
    def __init__(self, service: HelloService | None = None) -> None:
        self.service = service or HelloService()

    @wsrpc.method
    async def stream_tokens(self, hello: str) -> AsyncIterator[Token]:
        async for token in self.service.stream_tokens(hello):
            yield token


async def main() -> str:
    text = ""
    server = wsrpc.Server([HelloController(HelloService())])
    async with server.listen() as listener:
        async with wsrpc.connect(listener.url) as session:
            hello = session.clientize(HelloController)
            async for token in hello.stream_tokens(hello="World"):
                print(token.message, end="", flush=True)
                text += token.message
            print()
    return text


if __name__ == "__main__":
    anyio.run(main)
