"""The command line: all commands by name."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ..version import BUILD, __version__
from .commands.calling import call, health
from .commands.clusters import nodes, presence
from .commands.describing import describe, ls, schema
from .commands.measuring import bench
from .commands.serving import serve
from .commands.showing import demo
from .commands.watching import top
from .completion import mend_words
from .dev_command import dev
from .diff_command import diff
from .gen_command import gen
from .record_command import record
from .replay_command import replay

__all__ = ["app", "run_app"]

EPILOG = (
    "Exit codes: 0 fine, 1 the other end answered with an error, 2 wrong usage, "
    "3 cannot connect or listen, 130 Ctrl-C. Results go to stdout, everything else to stderr."
)

app = typer.Typer(
    name="wsrpc",
    help="Call and stream both ways over one WebSocket.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(gen, name="gen")
app.command()(dev)
app.command()(diff)
app.command()(record)
app.command()(replay)
app.command()(serve)
app.command()(call)
app.command()(health)
app.command()(ls)
app.command()(describe)
app.command()(schema)
app.command()(bench)
app.command()(nodes)
app.command()(presence)
app.command()(top)
app.command()(demo)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wsrpc {__version__} ({BUILD})")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Call and stream both ways over one WebSocket."""


def run_app() -> int:
    """Run the command line; returns the exit code."""
    mend_words(os.environ)
    try:
        code = app(prog_name="wsrpc", standalone_mode=True)
    except SystemExit as stop:
        code = stop.code
    return code if isinstance(code, int) else 0
