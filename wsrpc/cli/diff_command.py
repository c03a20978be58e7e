"""`wsrpc diff`: the changes between two contracts, and the programs that they break."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import typer
from rich.text import Text

from ..errors import WsrpcError
from ..gen import ContractError
from ..gen.compare import Change, compare, is_compatible
from .connection import CodecName, Target, parse_auth, parse_headers, tls_to
from .contract_sources import contract_from, with_token_file
from .failures import Failure
from .options import CaCert, Insecure
from .output import Output
from .running import run
from .text import printable

__all__ = ["diff"]

Source = Annotated[
    str, typer.Argument(metavar="URL | MODULE:OBJECT | FILE.json", show_default=False)
]


def diff(
    old: Source,
    new: Source,
    format: Annotated[
        Literal["text", "json"], typer.Option(help="For people, or for programs.")
    ] = "text",
    side: Annotated[
        Literal["callers", "handlers", "both"],
        typer.Option(
            "--for", help="The programs that must go on: those that call, or those that answer."
        ),
    ] = "callers",
    codec: Annotated[CodecName, typer.Option(help="The codec of the messages.")] = "json",
    auth: Annotated[
        Optional[str],  # noqa: UP045  (typer reads it at run time)
        typer.Option(metavar="VALUE", envvar="WSRPC_AUTH", help="Credentials for a URL."),
    ] = None,
    token_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="A file with the credentials for a URL."),
    ] = None,
    header: Annotated[
        list[str], typer.Option(metavar="NAME:VALUE", help="One more header of the handshake.")
    ] = [],  # noqa: B006
    cacert: CaCert = None,
    insecure: Insecure = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Compare two contracts: the changes, and the programs that each change breaks.

    Callers are programs that call by the old contract; handlers implement it. Exits with 0 if no
    change breaks those that `--for` names, with 1 if one does, and with 2 if a contract cannot be
    read.
    """

    def target(url: str) -> Callable[[], Target]:
        def made() -> Target:
            given = with_token_file(parse_auth(auth), token_file)
            return Target(
                url, codec, given, None, parse_headers(header), {}, tls_to(url, cacert, insecure)
            )

        return made

    async def contract(what: str) -> dict[str, Any]:
        try:
            return await contract_from(what, target(what))
        except WsrpcError as error:
            # There is no verdict: any failure that prevents one exits with 2.
            raise Failure(f"{what}: {error}") from error

    async def body() -> int:
        try:
            changes = compare(await contract(old), await contract(new))
        except ContractError as error:
            raise Failure(str(error)) from None
        output = Output()
        compatible = is_compatible(changes, side)
        if format == "json":
            await output.document(
                {
                    "compatible": compatible,
                    "for": side,
                    "changes": [change.as_json() for change in changes],
                }
            )
        else:
            for change in changes:
                await output.text(_line(change))
            await output.text(_verdict(changes, side, compatible))
        return 0 if compatible else 1

    run(body, debug=debug)


def _line(change: Change) -> Text:
    broken = [
        side
        for side, breaks in (("callers", change.callers), ("handlers", change.handlers))
        if breaks
    ]
    mark, style = ("!", "bold red") if change.callers else ("·", "dim")
    text = Text(f"{mark} ", style).append(printable(change.path), "bold cyan")
    text.append(f"  {change.change}: ", "dim").append(printable(change.message))
    return text.append(f"  (breaks {' and '.join(broken)})", "yellow") if broken else text


def _verdict(changes: list[Change], side: str, compatible: bool) -> Text:
    if not changes:
        return Text("the same contract")
    whom = "callers or handlers" if side == "both" else side
    if len(changes) == 1:
        breaks = "does not break" if compatible else "breaks"
        return Text(f"1 change, which {breaks} {whom} of the old contract")
    if compatible:
        return Text(f"{len(changes)} changes, none of which breaks {whom} of the old contract")
    return Text(f"{len(changes)} changes, which break {whom} of the old contract")
