"""Asks a server for its figures again and again, and shows them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import StringIO
from typing import Any

import anyio
from rich.console import Console
from rich.live import Live
from rich.text import Text

from ...errors import Code, ConnectionLost, DeadlineExceeded, RpcError
from ...interfaces import Session
from ..connection import Target
from ..failures import ExitCode, Failure, did_you_mean
from ..output import Output
from .figures import METHODS, SESSIONS, Column, Document, figures
from .keys import keys
from .screen import Screen, Shown

__all__ = ["column_named", "top"]

# Columns of a table that goes to a file or a pipe.
WIDTH = 160


async def top(
    target: Target,
    output: Output,
    *,
    interval: float,
    limit: int,
    shown: Shown,
    sort: str | None,
    once: bool,
    as_json: bool,
) -> None:
    """Show the activity of a server.

    Args:
        target: The server.
        output: Takes documents and plain tables.
        interval: Seconds between two looks at it.
        limit: Sessions that are listed at most.
        shown: The table to show first.
        sort: The column to sort by.
        once: Whether to look for one interval only.
        as_json: Whether to write JSON: one document, or one on each line.

    Raises:
        Failure: The server does not allow it, or there is no such column.
        RpcError: It does not answer.
    """
    column = column_named(sort, shown) if sort else None
    async with target.session(reconnect=not once) as session:
        ask = _Asking(session, target, limit)
        before = await ask(column.order if column else "held_bytes")
        await anyio.sleep(interval)
        screen = Screen(target.url, before, shown)
        if column is not None:
            screen.sort_by(column)
        now = await ask(screen.sessions.order)
        screen.document = figures(before, now)
        lively = sys.stdout.isatty() and not (once or as_json)
        if lively:
            await _Terminal(screen, ask, interval, now).run()
            return
        while True:
            await _write(output, screen, once=once, as_json=as_json)
            if once:
                return
            await anyio.sleep(interval)
            before, now = now, await ask(screen.sessions.order)
            screen.document = figures(before, now)


def column_named(name: str, shown: Shown) -> Column:
    """A column, by its field or its heading.

    Raises:
        Failure: There is none.
    """
    columns = SESSIONS if shown == "sessions" else METHODS
    for column in columns:
        if name.lower() in (column.name, column.head.lower()):
            return column
    names = [column.head.lower() for column in columns]
    raise Failure(f"--sort knows no {name!r} of {shown}{did_you_mean(name, names)}")


async def _write(output: Output, screen: Screen, *, once: bool, as_json: bool) -> None:
    if as_json:
        await (output.document if once else output.item)(screen.document)
        return
    console = Console(file=StringIO(), width=WIDTH, color_system=None)
    with console.capture() as captured:
        console.print(screen.render())
    for line in captured.get().splitlines():
        await output.text(Text(line.rstrip()))


class _Asking:
    """Calls `wsrpc.stats`, and explains a refusal."""

    def __init__(self, session: Session, target: Target, limit: int) -> None:
        self.session = session
        self._url = target.url
        self._stats = session.clientize("wsrpc.stats", **target.options)
        self._limit = limit

    async def __call__(self, order: str) -> Document:
        try:
            told: Any = await self._stats.snapshot(sort=order, limit=self._limit)
        except RpcError as error:
            if error.code == Code.UNIMPLEMENTED:
                raise Failure(
                    f"{self._url} does not show its counts: write "
                    "Server(…, stats_for=lambda principal: …) there, or `wsrpc serve --stats`",
                    ExitCode.REMOTE,
                ) from None
            if error.code == Code.PERMISSION_DENIED:
                raise Failure(
                    f"{self._url} does not show its counts to this caller: its Server(stats_for=…) "
                    "decides by the principal; --auth gives credentials",
                    ExitCode.REMOTE,
                ) from None
            raise
        assert isinstance(told, dict)
        return told


class _Terminal:
    """Shows the figures on a terminal, and obeys its keys."""

    def __init__(self, screen: Screen, ask: _Asking, interval: float, now: Document) -> None:
        self._screen = screen
        self._ask = ask
        self._interval = interval
        self._now = now

    async def run(self) -> None:
        console = Console(file=sys.stdout)
        with keys() as pressed:
            with Live(console=console, screen=True, auto_refresh=False) as live:

                def redraw() -> None:
                    live.update(self._screen.render(console.height), refresh=True)

                redraw()
                async with anyio.create_task_group() as group:
                    group.start_soon(self._look, redraw)
                    if pressed is not None:
                        async for key in pressed:
                            if not self._screen.press(key):
                                break
                            redraw()
                        group.cancel_scope.cancel()

    async def _look(self, redraw: Callable[[], None]) -> None:
        screen = self._screen
        while True:
            await anyio.sleep(self._interval)
            try:
                now = await self._ask(screen.sessions.order)
            except (ConnectionLost, DeadlineExceeded) as error:
                if self._ask.session.closed:
                    raise
                screen.trouble = str(error)
            else:
                screen.trouble = ""
                before, self._now = self._now, now
                if not screen.still:
                    screen.document = figures(before, now)
            redraw()
