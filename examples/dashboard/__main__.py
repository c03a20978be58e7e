"""Serve the page with the charts: `python -m examples.dashboard`."""

from __future__ import annotations

import argparse
from pathlib import Path

import anyio

import wsrpc
from examples.dashboard.market import Market
from examples.pages import Pages


async def main(port: int = 8000, period: float = 0.1) -> None:
    """Serve until Ctrl-C.

    Args:
        port: The port of the page.
        period: Seconds between two prices.
    """
    market = Market()
    pages = Pages(Path(__file__).parent / "www", port)
    server = wsrpc.Server([market], origins=[pages.url])
    with pages.running():
        async with server.listen() as listener, anyio.create_task_group() as group:
            group.start_soon(market.run, period)
            pages.wsrpc_url = listener.url.rstrip("/")
            print(f"open {pages.url}/", flush=True)
            await server.drained_on_signal()
            group.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="of the page")
    parser.add_argument("--period", type=float, default=0.1, help="seconds between two prices")
    chosen = parser.parse_args()
    anyio.run(main, chosen.port, chosen.period)
