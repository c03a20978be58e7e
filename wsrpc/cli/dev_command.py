"""`wsrpc dev`: serves, and starts anew when a file of the program has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import anyio
import typer
from anyio.abc import Process

from .failures import Failure, note
from .processes import lines_of, python
from .project import named_app
from .running import run

__all__ = ["dev"]

# Milliseconds without a further change after which a burst of changes is over.
BURST = 50

# Milliseconds between two looks of the watching thread whether it was cancelled: a cancel does not
# wake it.
LOOK = 200

MISSING = "wsrpc dev needs watchfiles, which is not installed: pip install 'wsrpc-anyio[cli]'"


def dev(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[MODULE:OBJECT]",
            help="A MODULE:OBJECT as for `wsrpc serve`; without it, the app that [tool.wsrpc] names.",
            show_default=False,
        ),
    ] = "",
    host: Annotated[str, typer.Option(help="The address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
    watch: Annotated[
        list[Path],
        typer.Option(
            metavar="PATH",
            help="A folder or a file to watch; without it this folder.",
            exists=True,
            show_default=False,
        ),
    ] = [],  # noqa: B006  (typer reads it)
    debug: Annotated[
        bool, typer.Option("--debug/--no-debug", help="Show tracebacks, to callers too.")
    ] = True,
) -> None:
    """Serve for development: starts anew when a Python file changes.

    Sessions are closed with 1012, so that clients come back by themselves. A program that cannot be
    loaded is tried again at the next change.
    """

    async def body() -> None:
        named = named_app(what)
        await _Reloader(named, host, port, watch or [Path()], debug).run()

    # `--debug` means the tracebacks of the program, not of this command. The process that serves must
    # not outlive this one, whichever signal it gets.
    run(body, cancelled="stopping", stops=True)


class _Reloader:
    """One process after another that serves the program.

    Args:
        what: `module:object`.
        host: The address to bind.
        port: The port; 0 takes a free one, which later processes keep.
        paths: The files and folders to watch.
        debug: Whether errors show tracebacks.
    """

    def __init__(self, what: str, host: str, port: int, paths: list[Path], debug: bool) -> None:
        self._what = what
        self._host = host
        self._port = port
        self._paths = paths
        self._debug = debug
        self._url = ""
        self._changed = anyio.Event()
        self._files: set[str] = set()

    async def run(self) -> None:
        """Serve until it is cancelled.

        Raises:
            Failure: watchfiles is not installed.
        """
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch)
            while True:
                self._changed = anyio.Event()
                await self._serve_once()
                names = ", ".join(sorted(Path(file).name for file in self._files)[:3])
                self._files.clear()
                note(f"{names} changed; starting anew")

    async def _watch(self) -> None:
        try:
            from watchfiles import PythonFilter, awatch
        except ImportError:
            raise Failure(MISSING) from None
        watched = awatch(*self._paths, watch_filter=PythonFilter(), step=BURST, rust_timeout=LOOK)
        async for changes in watched:
            self._files |= {path for _, path in changes}
            self._changed.set()

    async def _serve_once(self) -> None:
        """Serve until a file changes; on leaving, sessions are told to come back (1012)."""
        command = ["-m", "wsrpc", "serve", self._what, "--host", self._host]
        command += ["--port", str(self._port), "--drain-grace", "0"]
        command += ["--debug"] if self._debug else []
        async with python(command, None) as process, anyio.create_task_group() as group:
            group.start_soon(self._announce, process)
            await self._changed.wait()
            group.cancel_scope.cancel()

    async def _announce(self, process: Process) -> None:
        async for line in lines_of(process):
            word, _, url = line.partition(" ")
            if word != "listening":
                continue
            if url == self._url:
                note("serving again")
                continue
            self._url = url
            # A free port that was found is kept, so that clients find it again.
            self._port = int(url.rpartition(":")[2].rstrip("/"))
            print(f"listening {url}", flush=True)
            print(f"page {url.replace('ws', 'http', 1).rstrip('/')}/", flush=True)
        note("it has ended; waiting for a change")
