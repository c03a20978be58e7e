"""Relay a language model to your own clients, with the `openai` package.

The controller asks the model and passes on its answer, delta by delta, in `openai`'s own types. A
client that leaves the stream stops the model too, and with it the bill.

Set OPENAI_API_KEY to talk to the real one (and OPENAI_MODEL to choose it); without it, a server of
thirty lines at the end of this file speaks the part of the API that is needed here.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Any, Literal

import anyio
import openai
from anyio.abc import SocketAttribute, SocketStream
from openai.types import CompletionUsage
from openai.types.chat.chat_completion_chunk import ChoiceDelta
from pydantic import BaseModel

import wsrpc

CODES = {401: "unauthenticated", 403: "permission_denied", 429: "resource_exhausted"}


class Message(BaseModel):
    role: Literal["user"] = "user"
    content: str


class OpenAiController:
    def __init__(self, model: openai.AsyncOpenAI) -> None:
        self.openai = model

    @wsrpc.method
    async def chat(
        self, messages: list[Message]
    ) -> AsyncIterator[ChoiceDelta | wsrpc.Final[CompletionUsage | None]]:
        """Complete a chat; the stream's final value is the usage."""
        usage = None
        try:
            async with await self.openai.chat.completions.create(
                model=os.environ.get("OPENAI_MODEL", "gpt-4o-mini"),
                messages=[{"role": one.role, "content": one.content} for one in messages],
                stream=True,
                stream_options={"include_usage": True},
            ) as chunks:
                async for chunk in chunks:
                    for choice in chunk.choices:
                        yield choice.delta
                    usage = chunk.usage or usage
        except openai.APIStatusError as error:
            code = CODES.get(error.status_code, "unavailable")
            raise wsrpc.RpcError(code, error.message) from error
        yield wsrpc.Final(usage)


async def relay(model: openai.AsyncOpenAI) -> tuple[str, CompletionUsage | None, int]:
    server = wsrpc.Server([OpenAiController(model)])
    async with server.listen() as listener, wsrpc.connect(listener.url) as session:
        relayed = session.clientize(OpenAiController)

        text = ""
        stream = relayed.chat([Message(content="Say that tokens stream, in five words.")])
        async for delta in stream:
            print(delta.content or "", end="", flush=True)
            text += delta.content or ""
        usage = stream.final
        print(f"\n{usage.completion_tokens if usage else 'an unknown number of'} tokens")

        heard = 0
        async with relayed.chat([Message(content="Tell me a very long story.")]) as stream:
            async for delta in stream:
                print(delta.content or "", end="", flush=True)
                heard += 1
                if heard == 10:
                    break
        print("\n… enough of that story")
    return text, usage, heard


async def main() -> tuple[str, CompletionUsage | None, int]:
    if "OPENAI_API_KEY" in os.environ:
        async with openai.AsyncOpenAI() as model:
            return await relay(model)
    async with fake_openai() as fake:
        async with openai.AsyncOpenAI(base_url=fake.url, api_key="fake") as model:
            outcome = await relay(model)
        await fake.hung_up.wait()
    return outcome


class FakeOpenAi:
    """Answers POST /chat/completions with server-sent events; stories go on until you hang up."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.hung_up = anyio.Event()

    async def answer(self, connection: SocketStream) -> None:
        request = b""
        async with connection:
            try:
                while not request.endswith(b"}"):
                    request += await connection.receive()
                await connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
                words = ["Tokens", " stream,", " one", " by", " one."]
                for word in cycle(words) if b"story" in request else words:
                    await self.send(connection, choices=[{"index": 0, "delta": {"content": word}}])
                usage = {"prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 13}
                await self.send(connection, choices=[], usage=usage)
                await connection.send(b"data: [DONE]\n\n")
            except (anyio.BrokenResourceError, anyio.EndOfStream):
                print("model: the caller hung up")
                self.hung_up.set()

    async def send(self, connection: SocketStream, **chunk: Any) -> None:
        whole = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "", **chunk}
        await connection.send(b"data: " + json.dumps(whole).encode() + b"\n\n")


@asynccontextmanager
async def fake_openai() -> AsyncIterator[FakeOpenAi]:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        fake = FakeOpenAi(f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}")
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, fake.answer)
            yield fake
            group.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main)
