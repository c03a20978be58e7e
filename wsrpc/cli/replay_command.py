"""`wsrpc replay`: shows a recording, replays it, or makes a test of it."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import anyio
import typer
from rich.text import Text

from ..telemetry.recorded_frames import RecordedFrame, RecordingError, frames, read_records
from ..testing.replaying import Difference
from ..testing.replaying import replay as play
from ..testing.script import script_of
from .connection import Target, parse_auth
from .failures import ExitCode, Failure, note
from .output import Output
from .record_command import masks
from .running import run
from .text import printable, sayable, shortened, to_json

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
    """The frames to show; each given criterion must match.

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
    context: typer.Context,
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
    against: Annotated[
        Optional[str],  # noqa: UP045  (typer reads it at run time)
        typer.Option(
            metavar="URL",
            help="Play the client against this server, and tell the first frame that differs.",
        ),
    ] = None,
    recorded_speed: Annotated[
        bool, typer.Option("--recorded-speed", help="With --against: keep the pauses.")
    ] = False,
    auth: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="VALUE",
            envvar="WSRPC_AUTH",
            help="With --against and --test: the credentials, which no recording has. --test writes "
            "them into the test, unless they come from the environment.",
        ),
    ] = None,
    ignore: Annotated[
        list[str],
        typer.Option(
            metavar="METHOD=FIELD,…",
            help="With --against and --test: fields not to compare, such as 'Clock.*=now'.",
        ),
    ] = [],  # noqa: B006
    test: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="MODULE:OBJECT",
            help="Write a test, for pytest, that plays the recording against this Server.",
        ),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", metavar="FILE", help="With --test: where to write it."),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Show a recording, a frame a line; play it against a server; or make it a test.

    With --against it exits with 1 if the server sends another frame than in the recording.
    """

    source = context.get_parameter_source("auth")
    given = source is None or source.name != "ENVIRONMENT"
    written = parse_auth(auth) if given else None

    async def body() -> int | None:
        if test is not None:
            _write_test(file, test, output, masks(ignore, "--ignore"), written)
            return None
        if against is not None:
            Target(against)
            speed: Literal["recorded", "full"] = "recorded" if recorded_speed else "full"
            return await _play(
                file, against, parse_auth(auth), speed, masks(ignore, "--ignore"), link
            )
        chosen = Filter(id, method, code, link, frame)
        shown = Output()
        try:
            async for one in _following(file) if follow else _read(file):
                if not chosen.fits(one):
                    continue
                if as_json:
                    await shown.item(_as_json(one))
                else:
                    await shown.text(_line(one, None if full else WIDTH))
        except RecordingError as error:
            raise Failure(str(error)) from error
        return None

    run(body, debug=debug)


async def _read(path: Path) -> AsyncIterator[RecordedFrame]:
    for one in frames(read_records(path)):
        yield one


async def _following(path: Path) -> AsyncIterator[RecordedFrame]:
    """The frames of a file, and those that are written later."""
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
        "frame": [sayable(element) for element in one.frame],
    }


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
    values = printable(" ".join(to_json(sayable(one)) for one in rest))
    if width is not None:
        values = shortened(values, width)
    return text.append(f" {values}" if values else "")


async def _play(
    path: Path,
    url: str,
    auth: Any,
    speed: Literal["recorded", "full"],
    ignore: Mapping[str, Sequence[str]],
    links: Sequence[int],
) -> int:
    """Play a recording; returns the exit code."""
    try:
        done = await play(path, url, auth=auth, speed=speed, ignore=ignore, links=links)
    except RecordingError as error:
        raise Failure(str(error)) from error
    except Difference as error:
        raise Failure(f"a difference: {error}", ExitCode.REMOTE) from error
    for why in done.left_out:
        note(f"left out: {why}")
    if not done.sessions:
        raise Failure(f"{path} holds no session that can be played")
    output = Output()
    await output.text(
        Text(
            f"no difference: {done.sessions} sessions, {done.sent} frames sent, "
            f"{done.compared} frames compared"
        )
    )
    return 0


TEST = '''"""Plays {name} against the server; written by `wsrpc replay --test`."""

from pathlib import Path
from typing import Any

import anyio

from {module} import {object}
from wsrpc.testing import replay

RECORDING = Path(__file__).parent / {path}

# Fields of values that may differ, by method.
IGNORE: dict[str, list[str]] = {ignore}

# The credentials of the client, which no recording has.
AUTH: Any = {auth}


def test_{identifier}_replays_without_a_difference() -> None:
    async def play() -> None:
        async with {object}.listen() as listener:
            played = await replay(RECORDING, listener.url, auth=AUTH, ignore=IGNORE)
        assert played.sessions > 0, played.left_out

    anyio.run(play)
'''


def _write_test(
    recording: Path,
    server: str,
    output: Path | None,
    ignore: Mapping[str, Sequence[str]],
    auth: Any,
) -> None:
    module, colon, name = server.partition(":")
    if not colon or not name.isidentifier() or not all(map(str.isidentifier, module.split("."))):
        raise Failure(f"--test takes MODULE:OBJECT, such as app:server, not {server!r}")
    try:
        script = script_of(recording)
    except RecordingError as error:
        raise Failure(str(error)) from error
    playable = [one for one in script.sessions if not one.unplayable]
    if not playable:
        whys = "; ".join(sorted({one.unplayable for one in script.sessions})) or "it is empty"
        raise Failure(f"nothing in {recording} can be played: {whys}")
    identifier = re.sub(r"\W+", "_", recording.stem).strip("_").lower() or "recording"
    path = output or Path(f"test_{identifier}.py")
    if path.exists():
        raise Failure(f"{path} is there already; name another file by -o")
    where = os.path.relpath(recording.resolve(), path.resolve().parent)
    text = TEST.format(
        name=recording.name,
        module=module,
        object=name,
        path=_literal(Path(where).as_posix()),
        ignore=_literal({pattern: list(fields) for pattern, fields in ignore.items()}),
        auth=_literal(auth),
        identifier=identifier,
    )
    path.write_text(text, encoding="utf-8")
    note(f"wrote {path}, which plays {len(playable)} sessions against {server}")
    if auth is None and any(one.hello.get("auth") is not None for one in playable):
        note("its client had credentials: name some by --auth, or write them into AUTH there")


def _literal(value: Any) -> str:
    """A value as Python has it, with the quotation marks that formatters want."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_literal(key)}: {_literal(one)}' for key, one in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, str):
        return json.dumps(value)
    return repr(value)
