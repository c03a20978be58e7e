"""`wsrpc bench`, as it is typed."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Annotated, Optional

import typer

from ..failures import Failure
from ..options import (
    AsJson,
    Auth,
    CaCert,
    Codec,
    Debug,
    Header,
    Insecure,
    Metadata,
    Timeout,
    target_of,
)
from ..output import Output
from ..running import run

__all__ = ["bench"]

# Seconds.
DURATION = 5.0


def bench(
    url: Annotated[
        str,
        typer.Argument(
            metavar="[URL]", help="A server with the interop service.", show_default=False
        ),
    ] = "",
    own: Annotated[
        bool, typer.Option("--self", help="Start an interop server for it, and stop it after.")
    ] = False,
    work: Annotated[
        str,
        typer.Option(
            "--work",
            "-w",
            metavar="WORK,…",
            help="The works: calls, stream, upload, duplex, callbacks, bytes, connect, or all.",
        ),
    ] = "calls,stream,upload",
    duration: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            "--duration",
            "-d",
            min=0.001,
            metavar="SECONDS",
            help="For how long to do each; 5 unless --calls says how often.",
            show_default=False,
        ),
    ] = None,
    calls: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--calls", "-n", min=1, help="How many calls to make of each, instead."),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, max=10_000, help="Calls at a time.")
    ] = 64,
    warmup: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="For how long to do each before it counts."),
    ] = 0.5,
    as_json: AsJson = False,
    codec: Codec = "json",
    auth: Auth = None,
    timeout: Timeout = None,
    header: Header = [],  # noqa: B006
    metadata: Metadata = [],  # noqa: B006
    cacert: CaCert = None,
    insecure: Insecure = False,
    debug: Debug = False,
) -> None:
    """Measure a server: rates, latencies and their histogram, on one session.

    Each caller makes its next call when the last one is through. Ctrl-C ends it with the results so
    far; a call that fails does so too, with exit code 1.
    """
    from ..bench.command import bench as measure_all
    from ..bench.command import bench_self
    from ..bench.measure import Extent
    from ..bench.report import JsonReport, TextReport
    from ..bench.works import works_named

    async def body() -> None:
        if own == bool(url):
            raise Failure("name one server to measure: write its URL, or --self")
        if duration is not None and calls is not None:
            raise Failure("--duration and --calls exclude each other")
        works = works_named(work)
        extent = Extent(concurrency, None if calls else duration or DURATION, calls)
        report = JsonReport(Output()) if as_json else TextReport(Output())
        async with AsyncExitStack() as stack:
            where = await stack.enter_async_context(bench_self()) if own else url
            target = target_of(
                where, codec, auth, timeout, header, metadata, cacert=cacert, insecure=insecure
            )
            await measure_all(target, works, extent, warmup, report)

    run(body, debug=debug, cancelled="interrupted; these are the results so far")
