"""`wsrpc replay`: a recording, shown, played again, or made into a test."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer
from rich.text import Text

from ..telemetry.recorded_frames import RecordedFrame, RecordingError, frames, read_records
from .failures import Failure
from .output import Output
from .running import run
from .text import printable, to_json

__all__ = ["replay"]

# Characters of a frame's values that are shown without --full.
WIDTH = 160

STYLES = {
    "error": "red",
    "close": "bold",
    "cancel": "yellow",
    "call": "cyan",
    "notify": "cyan",
    "result": "green",
    "end": "green",
    "unread": "bold red",
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which frames to show; each that is given must fit.

    Attributes:
        ids: The ids of calls, uploads and callbacks.
        methods: Patterns of full names.
        codes: Codes of errors, reasons of cancels, close codes.
        links: Numbers of connections.
    """

    ids: Sequence[int] = ()
    methods: Sequence[str] = ()
    codes: Sequence[str] = ()
    links: Sequence[int] = ()
    names: Sequence[str] = field(default=())

    def fits(self, one: RecordedFrame) -> bool:
        """Whether to show a frame."""
        if self.links and one.link not in self.links:
            return False
        if self.names and one.frame[0] not in self.names:
            return False
        if self.ids and one.id not in self.ids:
            return False
        if self.codes and one.code not in self.codes:
            return False
        method = (one.method or "").partition("(")[0]
        return not self.methods or any(fnmatchcase(method, pattern) for pattern in self.methods)


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording.")],
    id: Annotated[list[int], typer.Option(help="Only frames on this id, repeatable.")] = [],  # noqa: B006
    method: Annotated[
        list[str],
        typer.Option(
            "--method",
            "-m",
            metavar="PATTERN",
            help="Only frames of this method, such as 'Shop.*', its uploads and callbacks included.",
        ),
    ] = [],  # noqa: B006
    code: Annotated[
        list[str],
        typer.Option(help="Only errors, cancels and ends of connections with this code."),
    ] = [],  # noqa: B006
    link: Annotated[list[int], typer.Option(help="Only this connection, by number.")] = [],  # noqa: B006
    frame: Annotated[
        list[str], typer.Option(metavar="NAME", help="Only frames of this name, such as call.")
    ] = [],  # noqa: B006
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as the file grows, until Ctrl-C.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Show long values whole.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a frame, for programs.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Show a recording, a frame a line."""

    async def body() -> None:
        chosen = Filter(id, method, code, link, frame)
        output = Output()
        try:
            async for one in _following(file) if follow else _read(file):
                if not chosen.fits(one):
                    continue
                if as_json:
                    await output.item(_as_json(one))
                else:
                    await output.text(_line(one, None if full else WIDTH))
        except RecordingError as error:
            raise Failure(str(error)) from error

    run(body, debug=debug)


async def _read(path: Path) -> AsyncIterator[RecordedFrame]:
    for one in frames(read_records(path)):
        yield one


async def _following(path: Path) -> AsyncIterator[RecordedFrame]:
    """The frames of a file, and those that are still to come."""
    over = threading.Event()
    found: Iterator[RecordedFrame] = frames(read_records(path, follow=True, stopped=over.is_set))
    try:
        while True:
            one = await anyio.to_thread.run_sync(next, found, None, abandon_on_cancel=True)
            if one is None:
                return
            yield one
    finally:
        over.set()


def _as_json(one: RecordedFrame) -> dict[str, Any]:
    return {
        "time": round(one.time, 6),
        "link": one.link,
        "codec": one.codec,
        "session": one.session,
        "from": one.sender,
        "method": one.method,
        "frame": [_sayable(element) for element in one.frame],
    }


def _sayable(value: Any) -> Any:
    """A value, or its Python form where JSON has none for it (NaN)."""
    try:
        to_json(value)
    except (ValueError, TypeError):
        return repr(value)
    return value


def _line(one: RecordedFrame, width: int | None) -> Text:
    when = datetime.fromtimestamp(one.time).astimezone().strftime("%H:%M:%S.%f")[:-3]
    arrow = {"C": "C→S", "S": "S→C", None: "─×─"}[one.sender]
    name, *rest = one.frame
    text = Text(f"{when} #{one.link} {arrow} ", "dim")
    text.append(f"{printable(str(name)):<7}", STYLES.get(str(name), ""))
    if one.id is not None:
        text.append(f" {one.id}", "bold")
        rest = rest[1:]
        if name in ("call", "notify") and rest:
            text.append(f" {printable(one.method or str(rest[0]))}", "cyan")
            rest = rest[1:]
        elif one.method is not None:
            text.append(f" {printable(one.method)}", "dim")
    while rest and rest[-1] is None and name != "result":
        rest.pop()
    values = printable(" ".join(to_json(_sayable(one)) for one in rest))
    if width is not None and len(values) > width:
        values = f"{values[:width]}… ({len(values)} characters)"
    return text.append(f" {values}" if values else "")
