"""Serve the board: `python -m examples.cursors`, then open the URLs that it prints."""

from __future__ import annotations

import argparse
from pathlib import Path

import anyio

import wsrpc
from examples.cursors.board import Board
from examples.pages import Pages


async def main(port: int = 8000) -> None:
    """Serve until Ctrl-C.

    Args:
        port: The port of the page.
    """
    pages = Pages(Path(__file__).parent / "www", port)
    server = wsrpc.Server([Board()], origins=[pages.url])
    with pages.running():
        async with server.listen() as listener:
            pages.wsrpc_url = listener.url.rstrip("/")
            print(f"open {pages.url}/?as=ann and {pages.url}/?as=bob", flush=True)
            await server.drained_on_signal()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="of the page")
    anyio.run(main, parser.parse_args().port)
