"""`wsrpc top`, as it is typed."""

from __future__ import annotations

from typing import Annotated, Literal, Optional

import typer

from ..options import (
    AsJson,
    Auth,
    CaCert,
    Codec,
    Debug,
    Header,
    Insecure,
    Timeout,
    Url,
    target_of,
)
from ..output import Output
from ..running import run
from ..top.command import top as show

__all__ = ["top"]


def top(
    url: Url,
    interval: Annotated[
        float, typer.Option("--interval", "-i", min=0.1, metavar="SECONDS", help="Between looks.")
    ] = 1.0,
    sort: Annotated[
        Optional[str],  # noqa: UP045  (typer reads it at run time)
        typer.Option(
            "--sort",
            "-s",
            metavar="COLUMN",
            help="A heading of the table, such as lag, held, calls.",
        ),
    ] = None,
    by: Annotated[
        Literal["sessions", "methods"], typer.Option(help="The rows of the table.")
    ] = "sessions",
    limit: Annotated[
        int, typer.Option(min=1, max=1000, help="Sessions that are listed at most.")
    ] = 200,
    once: Annotated[bool, typer.Option("--once", help="Look for one interval, and end.")] = False,
    as_json: AsJson = False,
    codec: Codec = "json",
    auth: Auth = None,
    timeout: Timeout = None,
    header: Header = [],  # noqa: B006  (typer reads it)
    cacert: CaCert = None,
    insecure: Insecure = False,
    debug: Debug = False,
) -> None:
    """Show the activity of a server: sessions, calls, streams, rates, bytes held, slow peers.

    The server has to allow it: `Server(stats_for=…)`, or `wsrpc serve --stats`. Keys: q quits, m
    shows methods or sessions, < and > sort by another column, r turns that round, space stands
    still, ? shows all of them. Elsewhere than on a terminal, a table is written for each look.
    """

    async def body() -> None:
        target = target_of(url, codec, auth, timeout, header, [], cacert=cacert, insecure=insecure)
        await show(
            target,
            Output(),
            interval=interval,
            limit=limit,
            shown=by,
            sort=sort,
            once=once,
            as_json=as_json,
        )

    run(body, debug=debug)
