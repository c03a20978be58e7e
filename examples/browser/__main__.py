"""Serve the pages of this folder: `python -m examples.browser`, then open the URL that it prints.

The pages come from a web server of their own, as those of most applications do. They import the
client from the wsrpc server, which lets them because its `origins` names them. All calls and
streams go over one WebSocket, in both directions.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
from pydantic import BaseModel

import wsrpc
from examples.pages import Pages


class Token(BaseModel):
    """A piece of text, as language models give them."""

    message: str


class HelloController:
    """The example of Vovk.js, served by Python."""

    @wsrpc.method
    async def stream_tokens(self, hello: str) -> AsyncIterator[Token]:
        """Greet, a token at a time."""
        for message in ("Hello", ", ", hello, "!"):
            await anyio.sleep(0.1)  # a model takes its time
            yield Token(message=message)


class Page:
    """The methods that the page offers to the server; its methods are in chat.js."""

    @wsrpc.method
    async def approve(self, action: str) -> bool:
        """Whether the person in front of the page allows an action."""
        raise NotImplementedError


ANSWER = (
    "I read your message, and I take my time to answer it, a word after another, so that you can "
    "press Stop whenever you like: the loop on the server ends at once and cleans up."
)


class Chat:
    """A conversation. One of these serves each session, so nobody reads another's messages."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    @wsrpc.method
    async def say(self, text: str) -> AsyncIterator[Token]:
        """Answer, a word at a time; forget everything, if the person allows it."""
        if "forget" in text.lower():
            yield Token(message="I have to ask you first. ")
            page = wsrpc.current().session.clientize(Page)
            if await page.approve(f"forget {len(self.heard)} messages"):
                self.heard.clear()
                yield Token(message="Forgotten.")
            else:
                yield Token(message="Then I keep them.")
            return
        self.heard.append(text)
        try:
            for word in ANSWER.split(" "):
                yield Token(message=f"{word} ")
                await anyio.sleep(0.08)
        finally:
            print("an answer has ended", flush=True)


async def main(port: int = 8000, wsrpc_port: int = 8765) -> None:
    """Serve until Ctrl-C."""
    pages = Pages(Path(__file__).parent / "www", port)
    server = wsrpc.Server([HelloController(), Chat], origins=[pages.url])
    with pages.running():
        async with server.listen(port=wsrpc_port) as listener:
            pages.wsrpc_url = listener.url.rstrip("/")
            url = pages.url
            print(f"open {url}/ for the chat, {url}/tokens.html for the tokens", flush=True)
            await server.drained_on_signal()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="of the pages")
    parser.add_argument("--wsrpc-port", type=int, default=8765)
    chosen = parser.parse_args()
    anyio.run(main, chosen.port, chosen.wsrpc_port)
