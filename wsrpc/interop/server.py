"""`python -m wsrpc.interop.server`: serve the interop service of protocol.md."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import fields

import anyio

from ..limits import Limits
from ..server import Server
from .service import interop_server

__all__ = ["main"]

CANNOT_LISTEN = 1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m wsrpc.interop.server",
        description="Serve the controller Interop, as protocol.md describes it.",
    )
    made.add_argument("--host", default="127.0.0.1", help="what to bind (default: %(default)s)")
    made.add_argument(
        "--port", type=int, default=8765, help="0 for a free one (default: %(default)s)"
    )
    made.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    made.add_argument("--auth-token", metavar="TOKEN", help="what the hello's auth must equal")
    made.add_argument(
        "--origin",
        action="append",
        default=[],
        help="an Origin header to let in, repeatable; without any, all are",
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
    return made


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


async def serve(server: Server, host: str, port: int) -> None:
    """Listen, say where, and stop cleanly on the first SIGINT or SIGTERM."""
    async with server.listen(host, port) as listener:
        # The receiver is there before anybody can know that the server is; a second signal meets
        # Python's default and does not wait.
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            print(f"listening {listener.url}", flush=True)
            async for _ in signals:
                break


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)
    server = interop_server(
        limits=args.limits, auth_token=args.auth_token, origins=args.origin, debug=args.debug
    )
    try:
        anyio.run(serve, server, args.host, args.port, backend=args.backend)
    except OSError as error:
        print(
            f"cannot listen on {args.host}:{args.port}: {error.strerror or error}", file=sys.stderr
        )
        return CANNOT_LISTEN
    return 0


if __name__ == "__main__":
    sys.exit(main())
