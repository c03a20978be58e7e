"""`wsrpc ls`, `wsrpc describe` and `wsrpc schema`, as they are typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from ...contract.description import with_names
from ...gen import ContractError
from ...gen.documents import asyncapi, tools
from .. import completion
from ..connection import describe as describe_target
from ..contract_sources import contract_from
from ..failures import Failure
from ..listing import entries, listing, page, part
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
    Url,
    target_of,
)
from ..output import Output
from ..project import named_app
from ..running import run

__all__ = ["describe", "ls", "schema"]


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


def describe(
    url: Url,
    what: Annotated[
        str,
        typer.Argument(
            metavar="CONTROLLER[.METHOD]", show_default=False, autocompletion=completion.paths
        ),
    ] = "",
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
    cacert: CaCert = None,
    insecure: Insecure = False,
    debug: Debug = False,
) -> None:
    """Write the contract of controllers, or of a running server, as JSON.

    Each controller is there under its own name, as `clientize(contract["Hello"])` takes it.
    """

    async def body() -> None:
        document = await contract_from(
            named_app(what),
            lambda: target_of(
                what, codec, auth, timeout, header, metadata, cacert=cacert, insecure=insecure
            ),
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
