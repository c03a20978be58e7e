"""`wsrpc gen`: TypeScript, Python, and the JavaScript client, from a contract."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import typer

from ..gen import ContractError, generate
from .connection import CodecName, Target, parse_auth, parse_headers, tls_to
from .contract_sources import contract_from, with_token_file
from .failures import Failure, note
from .options import CaCert, Insecure
from .running import run
from .text import printable

__all__ = ["gen"]

CLIENT = ("wsrpc.js", "wsrpc.d.ts", "wsrpc-msgpack.js")

# The `package.json` that tells a bundler how to import it.
PACKAGE = {
    "name": "wsrpc-client",
    "private": True,
    "type": "module",
    "sideEffects": False,
    "exports": {
        ".": {"types": "./wsrpc.d.ts", "default": "./wsrpc.js"},
        "./msgpack": "./wsrpc-msgpack.js",
    },
}

# Lines of a diff that `--check` shows.
SHOWN = 40

gen = typer.Typer(
    help="Write TypeScript or Python for a contract, or the JavaScript client itself.",
    no_args_is_help=True,
)

Source = Annotated[
    str,
    typer.Argument(metavar="URL | MODULE:OBJECT | FILE.json", help="The source of the contract."),
]
Out = Annotated[
    Optional[Path],  # noqa: UP045  (typer reads it at run time)
    typer.Option("--out", "-o", metavar="FILE", help="Where to write; stdout without it."),
]
Check = Annotated[
    bool,
    typer.Option("--check", help="Write nothing; exit 0 if the file is up to date, else 1."),
]
Only = Annotated[
    list[str], typer.Option("--only", metavar="NAME", help="One controller; may be repeated.")
]
Codec = Annotated[CodecName, typer.Option(help="The codec of the messages.")]
Auth = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(metavar="VALUE", envvar="WSRPC_AUTH", help="Credentials for a URL."),
]
TokenFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(metavar="FILE", help="A file with the credentials for a URL."),
]
Header = Annotated[
    list[str], typer.Option(metavar="NAME:VALUE", help="One more header of the handshake.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


@gen.command()
def ts(
    source: Source,
    out: Out = None,
    check: Check = False,
    case: Annotated[
        Literal["camel", "exact"], typer.Option(help="How methods are spelled.")
    ] = "camel",
    bytes: Annotated[
        Literal["either", "string", "uint8array"],
        typer.Option(help="The form of bytes inside of other values: text in JSON, else an array."),
    ] = "either",
    module: Annotated[
        str,
        typer.Option(
            "--import", metavar="MODULE", help="The module from which the client is imported."
        ),
    ] = "./wsrpc.js",
    only: Only = [],  # noqa: B006  (typer reads it)
    side: Annotated[
        Literal["caller", "callee"], typer.Option(help="The side that uses the code.")
    ] = "caller",
    codec: Codec = "json",
    auth: Auth = None,
    token_file: TokenFile = None,
    header: Header = [],  # noqa: B006
    cacert: CaCert = None,
    insecure: Insecure = False,
    debug: Debug = False,
) -> None:
    """Write TypeScript: an interface and a constant for each controller."""
    constants = out is None or not out.name.endswith(".d.ts")

    def text(contract: dict[str, Any]) -> str:
        return generate(
            contract,
            "ts",
            warn=note,
            case=case,
            bytes=bytes,
            module=module,
            only=tuple(only),
            side=side,
            constants=constants,
        )

    def target() -> Target:
        given = with_token_file(parse_auth(auth), token_file)
        tls = tls_to(source, cacert, insecure)
        return Target(source, codec, given, None, parse_headers(header), {}, tls)

    _write(source, target, text, out, check, debug)


@gen.command()
def py(
    source: Source,
    out: Out = None,
    check: Check = False,
    only: Only = [],  # noqa: B006
    codec: Codec = "json",
    auth: Auth = None,
    token_file: TokenFile = None,
    header: Header = [],  # noqa: B006
    cacert: CaCert = None,
    insecure: Insecure = False,
    debug: Debug = False,
) -> None:
    """Write Python: a Protocol for each controller, pydantic models for its values."""

    def text(contract: dict[str, Any]) -> str:
        return generate(contract, "py", warn=note, only=tuple(only))

    def target() -> Target:
        given = with_token_file(parse_auth(auth), token_file)
        tls = tls_to(source, cacert, insecure)
        return Target(source, codec, given, None, parse_headers(header), {}, tls)

    _write(source, target, text, out, check, debug)


@gen.command()
def client(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where to write.")],
    check: Check = False,
) -> None:
    """Write the JavaScript client and its types into a folder, for bundlers."""

    async def body() -> int:
        static = resources.files("wsrpc") / "web" / "static"
        files = {name: (static / name).read_text(encoding="utf-8") for name in CLIENT}
        files["package.json"] = json.dumps(PACKAGE, indent=2) + "\n"
        if not check:
            try:
                out.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise Failure(f"{out} cannot be made: {error}") from None
        settled = [_settle(text, out / name, check) for name, text in files.items()]
        return 0 if all(settled) else 1

    run(body)


def _write(
    source: str,
    target: Callable[[], Target],
    text: Callable[[dict[str, Any]], str],
    out: Path | None,
    check: bool,
    debug: bool,
) -> None:
    async def body() -> int:
        if check and out is None:
            raise Failure("--check compares with a file; name it with -o")
        try:
            written = text(await contract_from(source, target))
        except ContractError as error:
            raise Failure(str(error)) from None
        if out is None:
            sys.stdout.write(written)
            return 0
        return 0 if _settle(written, out, check) else 1

    run(body, debug=debug)


def _settle(text: str, file: Path, check: bool) -> bool:
    """Write the file, or tell whether it is up to date; line endings do not count."""
    try:
        if not check:
            file.write_text(text, encoding="utf-8", newline="\n")
            return True
        known = file.read_text(encoding="utf-8") if file.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{file}: {error}") from None
    lines = list(
        difflib.unified_diff(
            known.splitlines(), text.splitlines(), str(file), "as it would be written", lineterm=""
        )
    )
    for line in lines[:SHOWN]:
        typer.echo(printable(line), err=True)
    if len(lines) > SHOWN:
        typer.echo(f"… {len(lines) - SHOWN} more lines", err=True)
    return not lines
