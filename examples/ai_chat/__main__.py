"""Serve the chat: `python -m examples.ai_chat`."""

from __future__ import annotations

import argparse
from pathlib import Path

import anyio

from examples.ai_chat.service import LIFETIME, Tokens, create_server
from examples.pages import Pages


async def main(port: int = 8000, lifetime: float = LIFETIME) -> None:
    """Serve until Ctrl-C.

    Args:
        port: The port of the page.
        lifetime: Seconds for which a token holds.
    """
    tokens = Tokens(lifetime)
    pages = Pages(Path(__file__).parent / "www", port, {"/token": tokens.for_page})
    server = create_server(tokens, [pages.url])
    pages.answers["/where"] = lambda query: {"url": pages.wsrpc_url}
    with pages.running():
        async with server.listen() as listener:
            pages.wsrpc_url = listener.url.rstrip("/")
            print(f"open {pages.url}/ or {pages.url}/?as=bob, or, in another terminal:")
            print(f"  python -m examples.ai_chat.terminal {pages.url} --as bob", flush=True)
            await server.drained_on_signal()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="of the page")
    parser.add_argument("--lifetime", type=float, default=LIFETIME, help="of tokens, in seconds")
    chosen = parser.parse_args()
    anyio.run(main, chosen.port, chosen.lifetime)
