"""The bar that moves while a work runs; on a terminal only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["progress"]


@contextmanager
def progress(title: str, unit: str) -> Iterator[Callable[[float, float], None]]:
    """Show how far something has come, and remove it after the block.

    It is drawn on stderr, and not at all where that is no terminal.

    Args:
        title: What runs.
        unit: What the rate counts.

    Yields:
        Call it with the share that is done, from 0 to 1, and the rate.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda share, rate: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    # Drawn when it is told something: a thread that draws would disturb what is measured more often.
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as shown:
        task = shown.add_task(title, total=1.0, rate="")

        def look(share: float, rate: float) -> None:
            shown.update(task, completed=share, rate=f"{rate:,.0f} {unit}/s", refresh=True)

        shown.refresh()
        yield look
