"""The screen of `wsrpc top`: tables for a terminal of any size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..text import printable
from .figures import METHODS, SESSIONS, Column, Document, sorted_by

__all__ = ["HEAD_LINES", "Screen", "Shown", "bytes_text", "seconds_text"]

Shown: TypeAlias = Literal["sessions", "methods"]

# Lines above the first row, and below the last one.
HEAD_LINES = 7

# Characters of a peer's agent.
LONGEST = 28

HELP = (
    ("q", "quit"),
    ("m", "sessions or methods"),
    ("< >", "sort by another column"),
    ("r", "the other way round"),
    ("space", "stand still"),
    ("j k", "down and up"),
    ("?", "these keys"),
)


@dataclass(slots=True)
class Screen:
    """The state of the screen.

    Attributes:
        url: The server.
        document: The newest figures.
        shown: The table that is shown.
        columns: The column by which each table is sorted.
        reverse: Whether the order is reversed.
        offset: Rows above the first that is shown.
        still: Whether newer figures wait.
        helps: Whether the keys are shown.
        trouble: The reason why the figures are old, if they are.
    """

    url: str
    document: Document
    shown: Shown = "sessions"
    sessions: Column = SESSIONS[11]
    methods: Column = METHODS[2]
    reverse: bool = False
    offset: int = 0
    still: bool = False
    helps: bool = False
    trouble: str = ""

    @property
    def column(self) -> Column:
        """The column by which the present table is sorted."""
        return self.sessions if self.shown == "sessions" else self.methods

    def sort_by(self, column: Column) -> None:
        """Sort the table that is shown by a column of it."""
        if self.shown == "sessions":
            self.sessions = column
        else:
            self.methods = column
        self.offset = 0

    def press(self, key: str) -> bool:
        """Obey a key; returns False for the key that quits."""
        columns = SESSIONS if self.shown == "sessions" else METHODS
        at = columns.index(self.column)
        if key in ("q", "\x03", "\x04"):
            return False
        if key in ("m", "\t"):
            self.shown = "methods" if self.shown == "sessions" else "sessions"
            self.offset = 0
        elif key in (">", ".", "\x1b[C"):
            self.sort_by(columns[(at + 1) % len(columns)])
        elif key in ("<", ",", "\x1b[D"):
            self.sort_by(columns[(at - 1) % len(columns)])
        elif key == "r":
            self.reverse = not self.reverse
        elif key == " ":
            self.still = not self.still
        elif key in ("j", "\x1b[B"):
            self.offset += 1
        elif key in ("k", "\x1b[A"):
            self.offset = max(0, self.offset - 1)
        elif key in ("?", "h"):
            self.helps = not self.helps
        else:
            for column in columns:
                if column.key == key:
                    self.sort_by(column)
        return True

    def render(self, height: int | None = None) -> RenderableType:
        """The whole screen.

        Args:
            height: Lines of the terminal; None for no bound.
        """
        rows = sorted_by(self.document[self.shown], self.column, reverse=self.reverse)
        most = len(rows) if height is None else max(1, height - HEAD_LINES - self.helps)
        self.offset = max(0, min(self.offset, len(rows) - most))
        columns = SESSIONS if self.shown == "sessions" else METHODS
        table = Table(box=None, expand=True, pad_edge=False, header_style="reverse")
        for column in columns:
            mark = ("▲" if (column.kind == "text") != self.reverse else "▼") * (
                column is self.column
            )
            right = column.kind not in ("text", "words")
            table.add_column(
                f"{column.head}{mark}",
                justify="right" if right else "left",
                no_wrap=True,
                overflow="ellipsis",
                ratio=None if right else 1,
            )
        for row in rows[self.offset : self.offset + most]:
            style = "yellow" if row.get("slow") else "dim" if _is_idle(row) else ""
            table.add_row(*(_cell(column, row) for column in columns), style=style)
        lines: list[RenderableType] = [*self._head(), Text(""), table]
        left = len(rows) - self.offset - most
        if self.shown == "sessions":
            left += self.document["server"]["sessions"] - len(rows)
        if left > 0:
            lines.append(Text(f"and {left} more", "dim"))
        return Group(*lines)

    def _head(self) -> Iterator[Text]:
        server, total = self.document["server"], self.document["total"]
        first = Text(printable(self.url), "bold cyan")
        first.append(
            f"  sessions {server['sessions']} ({server['detached']} without a connection), "
            f"connections {server['links']}",
            "default",
        )
        if self.still:
            first.append("  standing still", "yellow")
        if self.trouble:
            first.append(f"  {printable(self.trouble)}", "red")
        yield first
        yield Text(
            f"calls {total['calls_live']} live (at most {server['calls_peak']}), "
            f"{rate_text(total['calls_ended_per_second'])}/s, "
            f"failed {rate_text(total['calls_failed_per_second'])}/s, "
            f"refused {rate_text(total['calls_refused_per_second'])}/s, "
            f"made {total['made_live']} live"
        )
        yield Text(
            f"streams {total['streams_live']} live, {server['paused_streams']} wait; "
            f"messages in {rate_text(total['messages_received_per_second'])}/s, "
            f"out {rate_text(total['messages_sent_per_second'])}/s; "
            f"bytes in {bytes_text(total['bytes_received_per_second'])}/s, "
            f"out {bytes_text(total['bytes_sent_per_second'])}/s"
        )
        slow = sum(bool(row["slow"]) for row in self.document["sessions"])
        yield Text(
            f"held {bytes_text(server['held_bytes'])} "
            f"(outbox {bytes_text(server['outbox_bytes'])}, "
            f"replay {bytes_text(server['replay_bytes'])}), slow peers {slow}"
        )
        if self.helps:
            yield Text("   ").join([Text(key, "bold").append(f" {what}") for key, what in HELP])


def _is_idle(row: Document) -> bool:
    return not (row.get("calls_live") or row.get("live") or row.get("held_bytes"))


def _cell(column: Column, row: Document) -> Text:
    value: Any = row[column.name]
    if column.kind == "text":
        text = "-" if value is None else printable(str(value)).replace("\n", " ")[:LONGEST]
        return Text(text, "cyan" if column.name in ("id", "method") else "")
    if column.kind == "words":
        return Text(", ".join(value), "bold red")
    if column.kind == "pause":
        count = row["paused_streams"]
        return Text(f"{count} · {seconds_text(value)}" if count else "-")
    if value is None:
        return Text("-")
    if column.kind == "rate":
        return Text(rate_text(value))
    if column.kind == "bytes":
        return Text(bytes_text(value))
    if column.kind == "seconds":
        return Text(seconds_text(value) if value else "-")
    return Text(str(value))


def rate_text(value: float | None) -> str:
    """A rate as text."""
    if value is None:
        return "-"
    return f"{value:.1f}" if 0 < value < 10 else f"{value:,.0f}"


def bytes_text(value: float | None) -> str:
    """A number of bytes as text, in the unit that fits."""
    if value is None:
        return "-"
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} GiB"


def seconds_text(value: float) -> str:
    """A duration as text."""
    if value < 1:
        return f"{value * 1000:.0f} ms" if value >= 0.001 else f"{value * 1e6:.0f} µs"
    return f"{value:.1f} s" if value < 60 else f"{value / 60:.0f} min"
