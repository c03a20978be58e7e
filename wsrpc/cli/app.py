"""The commands and their options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import typer

from ..admission.hosts import is_loopback
from ..contract.description import with_names
from ..gen import ContractError
from ..gen.documents import asyncapi, tools
from ..interfaces import Observer
from ..telemetry.access import AccessLog
from ..transport.registry import Transport
from ..version import BUILD, __version__
from .call_command import call as make_call
from .cluster_command import nodes as show_nodes
from .cluster_command import presence as show_presence
from .connection import CodecName, Target, parse_auth, parse_headers, parse_metadata, tls_to
from .connection import describe as describe_target
from .contract_sources import contract_from
from .dev_command import dev
from .diff_command import diff
from .failures import Failure
from .gen_command import gen
from .health_command import health as ask_for_health
from .listing import entries, listing, page, part
from .loading import load_server
from .logs import LogFormat, LogLevel, log_to_stderr
from .output import Output
from .project import named_app
from .record_command import record
from .replay_command import replay
from .running import run
from .serve_command import Binding, node_of_cluster, tls_of
from .serve_command import serve as serve_until_stopped
from .verbose import Verbose

__all__ = ["app", "run_app"]

EPILOG = (
    "Exit codes: 0 fine, 1 the other end answered with an error, 2 wrong usage, "
    "3 cannot connect or listen, 130 Ctrl-C. Results go to stdout, everything else to stderr."
)

# Seconds.
DURATION = 5.0

app = typer.Typer(
    name="wsrpc",
    help="Call and stream both ways over one WebSocket.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(gen, name="gen")
app.command()(dev)
app.command()(diff)
app.command()(record)
app.command()(replay)

Url = Annotated[str, typer.Argument(metavar="URL", help="ws://host:port, wss://… or ws+unix://…")]
What = Annotated[
    str,
    typer.Argument(
        metavar="[MODULE:OBJECT]",
        help="A Server, a controller (instance, class or factory), or a list of controllers; "
        "without it, what [tool.wsrpc] app in pyproject.toml names.",
        show_default=False,
    ),
]
Codec = Annotated[CodecName, typer.Option(help="What the messages are written in.")]
Auth = Annotated[
    Optional[str],  # noqa: UP045  (typer reads it at run time)
    typer.Option(
        metavar="VALUE",
        envvar="WSRPC_AUTH",
        show_envvar=True,
        help="Credentials: text, or JSON where it begins with {, [ or a double quote.",
    ),
]
Timeout = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        min=0.001,
        metavar="SECONDS",
        help="Time for the call; without it 30 for a value and none for a stream.",
    ),
]
Header = Annotated[
    list[str], typer.Option(metavar="NAME:VALUE", help="One more header of the handshake.")
]
Metadata = Annotated[list[str], typer.Option(metavar="KEY=VALUE", help="Sent along with the call.")]
CaCert = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(metavar="FILE", help="Certificates (PEM) to trust in place of the system's."),
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Do not check the server's certificate.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]


def target_of(
    url: str,
    codec: CodecName,
    auth: str | None,
    timeout: float | None,
    header: list[str],
    metadata: list[str],
    *,
    cacert: Path | None = None,
    insecure: bool = False,
    observers: Sequence[Observer] = (),
) -> Target:
    return Target(
        url,
        codec,
        parse_auth(auth),
        timeout,
        parse_headers(header),
        parse_metadata(metadata),
        tls_to(url, cacert, insecure),
        observers,
    )


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


@app.command()
def serve(
    what: What = "",
    host: Annotated[str, typer.Option(help="What to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks, to callers too; not for strangers.")
    ] = False,
    origin: Annotated[
        list[str],
        typer.Option(
            metavar="ORIGIN",
            help="A web page's origin that may connect, such as https://app.example, or * for all; "
            "pages of the server's own host may in any case.",
        ),
    ] = [],  # noqa: B006  (typer reads it)
    trusted_proxy: Annotated[
        list[str],
        typer.Option(
            metavar="NETWORK",
            help="A proxy whose X-Forwarded-For and Forwarded are believed, such as 10.0.0.0/8.",
        ),
    ] = [],  # noqa: B006
    drain_grace: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="For how long calls may finish when it stops; 25 if the server does not say.",
            show_default=False,
        ),
    ] = None,
    explorer: Annotated[
        bool,
        typer.Option(
            "--explorer/--no-explorer",
            help="A page on which a person can call every method, for browsers on this machine.",
        ),
    ] = True,
    cluster: Annotated[
        list[str],
        typer.Option(
            metavar="URL",
            help="Be a node of a cluster on NATS, such as nats://10.0.0.5:4222; needs "
            "'wsrpc-anyio[nats]'.",
        ),
    ] = [],  # noqa: B006
    cluster_name: Annotated[
        str, typer.Option(metavar="NAME", help="The cluster's name on that NATS.")
    ] = "wsrpc",
    access_log: Annotated[
        bool, typer.Option("--access-log", help="Log a line for each call, at its end.")
    ] = False,
    log_format: Annotated[
        Optional[LogFormat],  # noqa: UP045
        typer.Option(help="How log lines are written to stderr.", show_default="text"),
    ] = None,
    log_level: Annotated[
        Optional[LogLevel],  # noqa: UP045
        typer.Option(help="The least level that is logged.", show_default="warning"),
    ] = None,
    tls_cert: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Serve wss:// with this certificate (PEM)."),
    ] = None,
    tls_key: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Its key, where that is in a file of its own."),
    ] = None,
    unix: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="PATH", help="Listen on a Unix socket, in place of host and port."),
    ] = None,
    transport: Annotated[
        Transport, typer.Option(help="What carries the WebSockets; picows is the quicker one.")
    ] = "websockets",
    metrics: Annotated[
        bool,
        typer.Option("--metrics", help="Answer /metrics for Prometheus; needs the extra for it."),
    ] = False,
) -> None:
    """Serve controllers until Ctrl-C or SIGTERM; prints `listening ws://…` when it can be called.

    When it stops, it takes no new calls, and finishes those that run. A second signal cancels them.
    """

    async def body() -> int:
        wanted = True if explorer and is_loopback(host) else None if explorer else False
        binding = Binding(
            host, port, None if unix is None else str(unix), tls_of(tls_cert, tls_key), transport
        )
        server = load_server(
            named_app(what),
            debug=debug,
            origins=origin,
            trusted_proxies=trusted_proxy,
            explorer=wanted,
            metrics=metrics,
        )
        log_to_stderr(format=log_format, level=log_level, access=access_log, debug=debug)
        if access_log:
            server.observe(AccessLog())
        if not cluster:
            return await serve_until_stopped(server, binding, drain_grace)
        async with node_of_cluster(server, cluster, cluster_name, host):
            return await serve_until_stopped(server, binding, drain_grace)

    run(body, debug=debug, cancelled="stopping")


@app.command()
def call(
    url: Url,
    method: Annotated[str, typer.Argument(metavar="CONTROLLER.METHOD")],
    arguments: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(
            metavar="NAME=TEXT|NAME:=JSON|NAME@FILE",
            help="NAME@FILE takes the text of a file, NAME:@FILE its JSON. NAME:=- reads a stream's items from standard input, one JSON value a line; "
            "the only stream of a method needs no naming.",
            show_default=False,
        ),
    ] = None,
    raw_input: Annotated[
        bool, typer.Option("--raw-input", "-R", help="Lines of standard input are text, not JSON.")
    ] = False,
    codec: Codec = "json",
    auth: Auth = None,
    timeout: Timeout = None,
    header: Header = [],  # noqa: B006  (typer reads it)
    metadata: Metadata = [],  # noqa: B006
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say on stderr how long it took, and what went.")
    ] = False,
    cacert: CaCert = None,
    insecure: Insecure = False,
    debug: Debug = False,
) -> None:
    """Call a method: its value, or its items one a line as they come, go to stdout.

    A stream's final value and the calls of callbacks are shown on stderr. Ctrl-C cancels the call
    at the other end too.
    """

    async def body() -> None:
        target = target_of(
            url,
            codec,
            auth,
            timeout,
            header,
            metadata,
            cacert=cacert,
            insecure=insecure,
            observers=[Verbose()] if verbose else [],
        )
        await make_call(target, method, arguments or [], Output(), raw_input=raw_input)

    run(body, debug=debug, cancelled="interrupted; the call is cancelled at the other end too")


@app.command()
def health(
    url: Url,
    service: Annotated[
        str, typer.Option(metavar="CONTROLLER", help="One controller, instead of the whole server.")
    ] = "",
    codec: Codec = "json",
    auth: Auth = None,
    timeout: Annotated[
        float, typer.Option(min=0.001, metavar="SECONDS", help="Time for all of it.")
    ] = 5.0,
    header: Header = [],  # noqa: B006  (typer reads it)
    debug: Debug = False,
) -> None:
    """Ask whether a server takes calls; exits with 0 if so, else with 1, also if it is not there."""

    async def body() -> int:
        target = target_of(url, codec, auth, timeout, header, [])
        return await ask_for_health(target, service, Output())

    run(body, debug=debug)


@app.command()
def ls(
    url: Url,
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
    """List the methods of a server, one a line."""

    async def body() -> None:
        target = target_of(
            url, codec, auth, timeout, header, metadata, cacert=cacert, insecure=insecure
        )
        async with target.session() as session:
            contract = await describe_target(session, target)
        output = Output()
        if as_json:
            await output.document(entries(contract))
            return
        for line in listing(contract):
            await output.text(line)

    run(body, debug=debug)


@app.command()
def describe(
    url: Url,
    what: Annotated[str, typer.Argument(metavar="CONTROLLER[.METHOD]", show_default=False)] = "",
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
    """Show signatures, documentation and models: of everything, a controller or a method."""

    async def body() -> None:
        target = target_of(
            url, codec, auth, timeout, header, metadata, cacert=cacert, insecure=insecure
        )
        async with target.session() as session:
            contract = await describe_target(session, target)
        output = Output()
        if as_json:
            await output.document(part(contract, what))
            return
        for line in page(contract, what):
            await output.text(line)

    run(body, debug=debug)


@app.command()
def schema(
    what: Annotated[
        str, typer.Argument(metavar="[MODULE:OBJECT | URL | FILE.json]", show_default=False)
    ] = "",
    format: Annotated[
        Literal["json", "asyncapi", "tools"],
        typer.Option(help="The contract itself, AsyncAPI 3, or tools for language models."),
    ] = "json",
    codec: Codec = "json",
    auth: Auth = None,
    timeout: Timeout = None,
    header: Header = [],  # noqa: B006
    metadata: Metadata = [],  # noqa: B006
    debug: Debug = False,
) -> None:
    """Write the contract of controllers, or of a running server, as JSON.

    Each controller is there under its own name, as `clientize(contract["Hello"])` takes it.
    """

    async def body() -> None:
        document = await contract_from(
            named_app(what), lambda: target_of(what, codec, auth, timeout, header, metadata)
        )
        try:
            written: Callable[[Any], Any] = {
                "json": with_names,
                "asyncapi": asyncapi,
                "tools": tools,
            }[format]
            made = written(document)
        except ContractError as error:
            raise Failure(str(error)) from None
        await Output().document(made)

    run(body, debug=debug)


@app.command()
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
            help="What to measure: calls, stream, upload, duplex, callbacks, bytes, connect, or all.",
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
    debug: Debug = False,
) -> None:
    """Measure a server: rates, latencies and their histogram, on one session.

    Each caller makes its next call when the last one is through. Ctrl-C ends it with what was
    measured so far; a call that fails does so too, with exit code 1.
    """
    from .bench.command import bench as measure_all
    from .bench.command import bench_self
    from .bench.measure import Extent
    from .bench.report import JsonReport, TextReport
    from .bench.works import works_named

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
            target = target_of(where, codec, auth, timeout, header, metadata)
            await measure_all(target, works, extent, warmup, report)

    run(body, debug=debug, cancelled="interrupted; this is what was measured so far")


@app.command()
def nodes(
    url: Url,
    as_json: AsJson = False,
    codec: Codec = "json",
    auth: Auth = None,
    timeout: Timeout = None,
    header: Header = [],  # noqa: B006  (typer reads it)
    metadata: Metadata = [],  # noqa: B006
    debug: Debug = False,
) -> None:
    """List the nodes of a cluster, as the one that is asked sees them."""
    target = partial(target_of, url, codec, auth, timeout, header, metadata)
    run(lambda: show_nodes(target(), Output(), as_json=as_json), debug=debug)


@app.command()
def presence(
    url: Url,
    group: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME", help="Only the members of a group.", show_default=False),
    ] = None,
    principal: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="KEY", help="Only a principal's, such as s:ann.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    codec: Codec = "json",
    auth: Auth = None,
    timeout: Timeout = None,
    header: Header = [],  # noqa: B006  (typer reads it)
    metadata: Metadata = [],  # noqa: B006
    debug: Debug = False,
) -> None:
    """List the sessions of all nodes of a cluster, one a line."""
    target = partial(target_of, url, codec, auth, timeout, header, metadata)
    run(lambda: show_presence(target(), Output(), group, principal, as_json=as_json), debug=debug)


@app.command()
def demo(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    plain: Annotated[bool, typer.Option("--plain", help="Plain lines, on a terminal too.")] = False,
    svg: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Write a picture of the finished table besides."),
    ] = None,
    cluster: Annotated[
        bool,
        typer.Option(
            "--cluster",
            help="NATS, two nodes and a balancer instead: a node is killed, and nothing is lost.",
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Two real processes over one real socket, both ways; exits with 0 when every promise holds."""
    from .demo.presenter import present

    if cluster:
        from .demo.cluster import present_cluster

        run(present_cluster, debug=debug)
        return
    run(lambda: present(port, plain=plain, svg=svg), debug=debug)


def run_app() -> int:
    """Run the command line; what it returns is the exit code."""
    try:
        code = app(prog_name="wsrpc", standalone_mode=True)
    except SystemExit as stop:
        code = stop.code
    return code if isinstance(code, int) else 0
