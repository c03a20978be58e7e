"""Serve the pages of this folder: `python -m examples.browser`, then open what it prints.

The pages come from a web server of their own, as those of most applications do. They import the
client from the wsrpc server, which lets them because its `origins` names them. All calls and
streams go over one WebSocket, in both directions.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import anyio
from pydantic import BaseModel

import wsrpc

WWW = Path(__file__).parent / "www"


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
    """What the page offers to the server; its methods are in chat.js."""

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


class Files(SimpleHTTPRequestHandler):
    """The files of `www`, and one that tells the pages where the wsrpc server is.

    Attributes:
        wsrpc_url: Where it is.
    """

    wsrpc_url = ""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args, directory=str(WWW))

    def do_GET(self) -> None:
        if self.path != "/server.js":
            return super().do_GET()
        client = self.wsrpc_url.replace("ws", "http", 1) + "/wsrpc.js"
        body = f'export * from "{client}";\nexport const SERVER = "{self.wsrpc_url}";\n'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None

    def log_message(self, format: str, *args: object) -> None:
        """Requests for files are no news."""


@contextmanager
def running(files: ThreadingHTTPServer) -> Iterator[None]:
    """Serve files, in a thread, while the block runs."""
    thread = Thread(target=files.serve_forever)
    thread.start()
    try:
        yield
    finally:
        files.shutdown()
        thread.join()


async def main(port: int = 8000, wsrpc_port: int = 8765) -> None:
    """Serve until Ctrl-C."""
    with ThreadingHTTPServer(("127.0.0.1", port), Files) as files:
        url = f"http://127.0.0.1:{files.server_port}"
        server = wsrpc.Server([HelloController(), Chat], origins=[url])
        async with server.listen(port=wsrpc_port) as listener:
            Files.wsrpc_url = listener.url.rstrip("/")
            with running(files):
                print(f"open {url}/ for the chat, {url}/tokens.html for the tokens", flush=True)
                await server.drained_on_signal()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="of the pages")
    parser.add_argument("--wsrpc-port", type=int, default=8765)
    chosen = parser.parse_args()
    anyio.run(main, chosen.port, chosen.wsrpc_port)
