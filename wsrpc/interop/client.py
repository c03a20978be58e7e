"""`python -m wsrpc.interop.client URL`: run every case against a server that offers `Interop`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import anyio

from ..errors import ConnectError
from .bare_peer import Codec
from .call_cases import cases
from .case import PATIENCE, Case, Cases, Ground, connect_as
from .frame_cases import wire_cases

__all__ = ["ALL_CASES", "main", "run", "try_case"]

FAILED = 1
CANNOT_CONNECT = 3
INTERRUPTED = 130

ALL_CASES = Cases([*cases, *wire_cases])


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m wsrpc.interop.client",
        description=(
            "Run every case against a server that offers the controller Interop, as protocol.md "
            "describes it. Exit code 0: all passed; 1: some failed; 3: there is no such server."
        ),
    )
    made.add_argument("url", help="for instance ws://127.0.0.1:8765")
    made.add_argument("--codec", choices=["json", "msgpack"], default="json")
    made.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    made.add_argument("--auth-token", metavar="TOKEN", help="credentials for the hello's auth")
    return made


async def try_case(
    case: Case, url: str, codec: Codec, auth: str | None, *, one_session: bool = True
) -> str | None:
    """Run one case on a session of its own; returns why it failed, or None.

    Args:
        case: The case.
        url: The server.
        codec: The codec.
        auth: The credentials, or None.
        one_session: Whether the service answers in the session in which it is called; see `Ground`.
    """
    why: str | None = f"not through after {PATIENCE:g} s"

    # This is not `fail_after`, whose deadline would travel with every call.
    async def lose_patience(scope: anyio.CancelScope) -> None:
        await anyio.sleep(PATIENCE)
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(lose_patience, group.cancel_scope)
        try:
            async with connect_as(url, codec, auth) as session:
                await case.run(Ground(url, codec, auth, session, one_session=one_session))
            why = None
        except Exception as error:  # noqa: BLE001  (any exception fails the case)
            why = _why(error)
        group.cancel_scope.cancel()
    return why


def _why(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    said = " ".join(str(error).split())
    return said if type(error).__module__.startswith("wsrpc.") and said else repr(error)


async def run(url: str, codec: Codec, auth: str | None) -> int:
    """Run every case, a line each; returns the exit code."""
    try:
        async with connect_as(url, codec, auth):
            pass
    except ConnectError as error:
        print(f"cannot connect: {error}", file=sys.stderr)
        return CANNOT_CONNECT
    passed = failed = 0
    for case in ALL_CASES.fitting(codec, auth):
        why = await try_case(case, url, codec, auth)
        if why is None:
            passed += 1
            print(f"ok   {case.title}", flush=True)
        else:
            failed += 1
            rules = f" ({', '.join(case.rules)})" if case.rules else ""
            print(f"FAIL {case.title}: {why}{rules}", flush=True)
    print(f"{passed} passed, {failed} failed", flush=True)
    return FAILED if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)
    try:
        return anyio.run(run, args.url, args.codec, args.auth_token, backend=args.backend)
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
