"""`python -m wsrpc.interop.server`: serve the interop service of protocol.md.

With `--raw-echo` it echoes plain WebSocket messages instead, by the same transport code, so that the
tools which test WebSocket implementations have something to talk to (`tests/soak/autobahn.py`).
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from math import inf

import anyio

from ..limits import Limits
from ..server.server import Server
from ..transport.registry import Transport
from .raw_echo import ECHO, echoing
from .service import interop_server

__all__ = ["main"]

CANNOT_LISTEN = 1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m wsrpc.interop.server",
        description="Serve the controller Interop, as protocol.md describes it.",
    )
    made.add_argument(
        "--host", default="127.0.0.1", help="the address to bind (default: %(default)s)"
    )
    made.add_argument(
        "--port", type=int, default=8765, help="0 for a free one (default: %(default)s)"
    )
    made.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    made.add_argument("--transport", choices=["websockets", "picows"], default="websockets")
    made.add_argument(
        "--raw-echo",
        action="store_true",
        help="echo WebSocket messages, without a subprotocol; of the other options only the limits",
    )
    made.add_argument(
        "--auth-token",
        metavar="TOKEN",
        help="the value that the hello's auth must equal; the principal is 'token' then",
    )
    made.add_argument(
        "--auth-user",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "TOKEN"),
        help="another principal and its token, repeatable",
    )
    made.add_argument(
        "--auth-expires",
        type=seconds,
        metavar="SECONDS",
        help="how long credentials hold, from when they were shown",
    )
    made.add_argument(
        "--deny",
        action="append",
        default=[],
        metavar="METHOD",
        help="a method that no peer may call, such as Interop.blob, repeatable",
    )
    made.add_argument(
        "--origin",
        action="append",
        default=[],
        help="one more Origin to let in than the server's own, repeatable; '*' lets in all",
    )
    made.add_argument(
        "--trusted-proxy",
        action="append",
        default=[],
        metavar="NETWORK",
        help="a proxy whose X-Forwarded-For and Forwarded are believed, repeatable",
    )
    made.add_argument(
        "--debug", action="store_true", help="let unexpected errors cross with their traceback"
    )
    made.add_argument(
        "--limits",
        type=limits_from,
        metavar="JSON",
        help="""bounds as in wsrpc.Limits, for instance '{"max_calls": 16}'""",
    )
    made.add_argument(
        "--resume-window",
        type=seconds,
        metavar="SECONDS",
        help="how long a session without a connection is kept; 0 keeps none",
    )
    made.add_argument(
        "--heartbeat",
        type=interval_and_timeout,
        metavar="INTERVAL,TIMEOUT",
        help="seconds of silence before a ping, and for its answer, at least 1 each; 0 for none",
    )
    made.add_argument(
        "--drain-grace",
        type=seconds,
        metavar="SECONDS",
        help="how long calls may finish after SIGTERM",
    )
    return made


def seconds(text: str) -> float:
    """A number of seconds.

    Raises:
        ArgumentTypeError: It is none, or below 0.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < inf:
        raise argparse.ArgumentTypeError(f"not a number of seconds: {text!r}")
    return value


def interval_and_timeout(text: str) -> tuple[float, float]:
    """The two times of a heartbeat; (0, 0) for none.

    Raises:
        ArgumentTypeError: It is not two numbers of seconds, or one is below 1.
    """
    interval, comma, timeout = text.partition(",")
    both = seconds(interval), seconds(timeout) if comma else 0.0
    if both != (0, 0) and min(both) < 1:
        raise argparse.ArgumentTypeError(
            f"write INTERVAL,TIMEOUT with at least 1 s each, or 0, not {text!r}"
        )
    return both


def limits_of(args: argparse.Namespace) -> Limits:
    """The limits that the command line asks for; its own options override `--limits`."""
    limits: Limits = args.limits or Limits()
    if args.resume_window is not None:
        limits = replace(limits, resume_window=args.resume_window)
    if args.drain_grace is not None:
        limits = replace(limits, drain_grace=args.drain_grace)
    if args.heartbeat is not None:
        interval, timeout = args.heartbeat
        limits = replace(limits, heartbeat_interval=interval)
        if interval:
            limits = replace(limits, heartbeat_timeout=timeout)
    return limits


def limits_from(text: str) -> Limits:
    """The limits that a JSON object describes.

    Raises:
        ArgumentTypeError: It is no object, or holds a limit that does not exist or a bad value.
    """
    try:
        given = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
    if not isinstance(given, dict):
        raise argparse.ArgumentTypeError("""write an object, such as '{"max_calls": 16}'""")
    known = [field.name for field in fields(Limits)]
    unknown = ", ".join(repr(name) for name in given if name not in known)
    if unknown:
        raise argparse.ArgumentTypeError(f"no such limit: {unknown}; there are {', '.join(known)}")
    try:
        return Limits(**given)
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


async def serve(server: Server, host: str, port: int, transport: Transport) -> None:
    """Listen, say where, and drain on the first SIGINT or SIGTERM."""
    async with server.listen(host, port, transport=transport) as listener:
        # Signals are handled before the server prints that it is there.
        ready = partial(print, f"listening {listener.url}", flush=True)
        await server.drained_on_signal(ready=ready)


async def echo(limits: Limits, host: str, port: int, transport: Transport) -> None:
    """Listen, say where, and end on SIGINT or SIGTERM."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with echoing(host, port, transport=transport, limits=limits) as url:
            print(f"listening {url}", flush=True)
            await anext(aiter(signals))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = parser()
    args = options.parse_args(argv)
    try:
        server = interop_server(
            limits=limits_of(args),
            auth_token=args.auth_token,
            auth_users=dict(args.auth_user),
            auth_expires=args.auth_expires,
            deny=args.deny,
            origins=args.origin,
            trusted_proxies=args.trusted_proxy,
            debug=args.debug,
        )
    except ValueError as error:
        options.error(str(error))
    try:
        run = partial(echo, args.limits or ECHO) if args.raw_echo else partial(serve, server)
        anyio.run(run, args.host, args.port, args.transport, backend=args.backend)
    except OSError as error:
        print(
            f"cannot listen on {args.host}:{args.port}: {error.strerror or error}", file=sys.stderr
        )
        return CANNOT_LISTEN
    return 0


if __name__ == "__main__":
    sys.exit(main())
