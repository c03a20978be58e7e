"""Starts the demo's two processes and shows what the client reports."""

from __future__ import annotations

import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO

import anyio
from rich.console import Console
from rich.live import Live

from ..failures import ExitCode, note
from ..processes import ended, lines_of, listening, python
from .board import Board
from .reports import Report
from .steps import STEPS

__all__ = ["present"]

RUN_TIMEOUT = 120


async def present(port: int, *, plain: bool, svg: Path | None) -> int:
    """Run the demo.

    Args:
        port: The server's port; 0 for a free one.
        plain: Whether to print lines instead of a table, on a terminal too.
        svg: The file for a picture of the finished table.

    Returns:
        0 if every step holds, 1 otherwise.
    """
    console = Console(highlight=False)
    board = Board()
    show = _Lines(board) if plain or not console.is_terminal else _Table(board, console)
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        with show:
            await _run(board, show, port, log)
            took = time.perf_counter() - begin
            board.summary = f"{board.held} of {len(STEPS)} hold, {took:.1f} s"
            show.finish()
        if not board.all_hold:
            log.seek(0)
            note(log.read()[-4096:].decode(errors="replace").rstrip())
    if svg is not None:
        board.picture(svg)
        note(f"wrote {svg}")
    return ExitCode.OK if board.all_hold else ExitCode.REMOTE


async def _run(board: Board, show: _Lines | _Table, port: int, log: IO[bytes]) -> None:
    """Start both processes, and take reports until the client is done."""
    serve = ["-m", "wsrpc", "serve", f"{__package__}.service:server", "--port", str(port)]
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(python(serve, log))
        url = await listening(server)
        if url is None:
            show.give_up("the server process did not start")
            await ended(server)
            return
        client = await stack.enter_async_context(python(["-m", f"{__package__}.client", url], log))
        board.title = (
            f"server: process {server.pid}, client: process {client.pid}, one socket: {url}"
        )
        show.begin()
        with anyio.move_on_after(RUN_TIMEOUT):
            async for line in lines_of(client):
                report = Report.model_validate_json(line)
                board.take(report)
                show.report(report)
        show.give_up("the client process ended before it could tell")
        await ended(client)


class _Lines:
    """One plain line for each finished step."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def __enter__(self) -> None:
        return

    def __exit__(self, *exc: object) -> None:
        return

    def begin(self) -> None:
        """Show that both processes run."""
        print(self._board.title, flush=True)

    def report(self, report: Report) -> None:
        """Show a report."""
        if report.state in ("holds", "fails"):
            print(self._board.line(report), flush=True)

    def give_up(self, reason: str) -> None:
        """Show that the demo has failed."""
        for report in self._board.give_up(reason):
            self.report(report)

    def finish(self) -> None:
        """Show the end."""
        print(self._board.summary, flush=True)


class _Table:
    """A table that is drawn anew as reports come."""

    def __init__(self, board: Board, console: Console) -> None:
        self._board = board
        self._live = Live(board, console=console, refresh_per_second=15)

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def begin(self) -> None:
        """Do nothing: the table shows it by itself."""

    def report(self, report: Report) -> None:
        """Do nothing: the table shows it by itself."""

    def give_up(self, reason: str) -> None:
        """Show that the demo has failed."""
        self._board.give_up(reason)

    def finish(self) -> None:
        """Show the end."""
        self._live.refresh()
