"""The bar that moves while a work runs; on a terminal only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["progress"]


@contextmanager
def progress(title: str, unit: str) -> Iterator[Callable[[float, float], None]]:
    """Show a progress bar during the block.

    It is drawn on stderr, if that is a terminal.

    Args:
        title: The name of the work.
        unit: The unit of the rate.

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
    # It is drawn only at updates: a thread that draws would disturb the measurement more often.
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as shown:
        task = shown.add_task(title, total=1.0, rate="")

        def look(share: float, rate: float) -> None:
            shown.update(task, completed=share, rate=f"{rate:,.0f} {unit}/s", refresh=True)

        shown.refresh()
        yield look
