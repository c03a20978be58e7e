"""`wsrpc nodes` and `wsrpc presence`, as they are typed."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Optional

import typer

from ..cluster_command import nodes as show_nodes
from ..cluster_command import presence as show_presence
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
from ..running import run

__all__ = ["nodes", "presence"]


def nodes(
    url: Url,
    as_json: AsJson = False,
    codec: Codec = "json",
    auth: Auth = None,
    timeout: Timeout = None,
    header: Header = [],  # noqa: B006  (typer reads it)
    metadata: Metadata = [],  # noqa: B006
    cacert: CaCert = None,
    insecure: Insecure = False,
    debug: Debug = False,
) -> None:
    """List the nodes of a cluster, as the asked node sees them."""
    target = partial(
        target_of, url, codec, auth, timeout, header, metadata, cacert=cacert, insecure=insecure
    )
    run(lambda: show_nodes(target(), Output(), as_json=as_json), debug=debug)


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
    cacert: CaCert = None,
    insecure: Insecure = False,
    debug: Debug = False,
) -> None:
    """List the sessions of all nodes of a cluster, one a line."""
    target = partial(
        target_of, url, codec, auth, timeout, header, metadata, cacert=cacert, insecure=insecure
    )
    run(lambda: show_presence(target(), Output(), group, principal, as_json=as_json), debug=debug)
