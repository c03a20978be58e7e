"""The demo's rows: as a table on a terminal, as lines elsewhere, as a picture."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from .reports import Report, State
from .steps import STEPS

__all__ = ["Board"]

PICTURE_WIDTH = 120
# The part of the picture that makes a viewer load a font from elsewhere.
FONT = re.compile(r"@font-face \{.*?\}", re.DOTALL)
MARKS = {"waiting": ("·", "dim"), "holds": ("✔", "bold green"), "fails": ("✘", "bold red")}
ASCII_MARKS = {"waiting": ".", "holds": "ok", "fails": "NO"}


class Board:
    """The state of every step.

    Attributes:
        title: A description of the two processes.
        summary: The outcome, once it is over.
    """

    def __init__(self) -> None:
        self.title = ""
        self.summary = ""
        self._reports = {step.key: Report(key=step.key, state="waiting") for step in STEPS}
        self._spinner = Spinner("dots", style="cyan")

    def take(self, report: Report) -> None:
        """Note the state of a step."""
        self._reports[report.key] = report

    def give_up(self, reason: str) -> list[Report]:
        """Let all unfinished steps fail, since no report will come; returns them."""
        failed = [
            Report(key=key, state="fails", evidence=reason)
            for key, report in self._reports.items()
            if report.state in ("waiting", "running")
        ]
        for report in failed:
            self.take(report)
        return failed

    @property
    def held(self) -> int:
        """The number of steps that hold."""
        return sum(report.state == "holds" for report in self._reports.values())

    @property
    def all_hold(self) -> bool:
        """Whether every step holds."""
        return self.held == len(STEPS)

    def __rich__(self) -> RenderableType:
        return self.table(ascii_only=False)

    def table(self, *, ascii_only: bool) -> RenderableType:
        """The rows as a table."""
        table = Table(
            title=self.title,
            title_style="bold",
            title_justify="left",
            box=box.ASCII2 if ascii_only else box.ROUNDED,
            border_style="dim",
            expand=True,
        )
        table.add_column("", width=2, justify="center")
        table.add_column("what", style="bold", no_wrap=True)
        table.add_column("seen just now", ratio=1)
        for step in STEPS:
            report = self._reports[step.key]
            style = "dim" if report.state == "waiting" else ""
            table.add_row(
                self._mark(report.state, ascii_only), Text(step.title, style), _evidence(report)
            )
        if not self.summary:
            return table
        return Group(table, Text(self.summary, "bold green" if self.all_hold else "bold red"))

    def _mark(self, state: State, ascii_only: bool) -> RenderableType:
        if state == "running":
            return ">" if ascii_only else self._spinner
        sign, style = MARKS[state]
        return Text(ASCII_MARKS[state] if ascii_only else sign, style)

    @staticmethod
    def line(report: Report) -> str:
        """A finished step as one line of plain text."""
        title = next(step.title for step in STEPS if step.key == report.key)
        bar = ""
        if report.total:
            bar = f"[{'#' * (20 * report.done // report.total):20}] {report.done}/{report.total} reports; "
        mark = "ok" if report.state == "holds" else "FAILED"
        return f"{mark:6} {title:24} {bar}{report.evidence}"

    def picture(self, path: Path) -> None:
        """Write the table as an SVG file."""
        console = Console(
            record=True,
            width=PICTURE_WIDTH,
            file=io.StringIO(),
            force_terminal=True,
            color_system="truecolor",
            legacy_windows=False,
        )
        console.print(Text.assemble(("$ ", "dim"), "wsrpc demo"))
        console.print(self.table(ascii_only=False))
        picture = FONT.sub("", console.export_svg(title="wsrpc demo"))
        picture = picture.replace(
            "Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace"
        )
        path.write_text(picture, encoding="utf-8")


def _evidence(report: Report) -> RenderableType:
    text = Text(report.evidence, "red" if report.state == "fails" else "")
    if not report.total:
        return text
    row = Table.grid(padding=(0, 1))
    row.add_row(
        ProgressBar(total=report.total, completed=report.done, width=40),
        f"{report.done}/{report.total} reports",
    )
    return Group(row, text) if report.evidence else row
