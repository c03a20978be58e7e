"""The options that several commands have, and the server that they name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Optional

import typer

from ..interfaces import Observer
from ..transport.recorded import Recorder
from .answering import Answers
from .connection import CodecName, Target, parse_auth, parse_headers, parse_metadata, tls_to

__all__ = [
    "AsJson",
    "Auth",
    "CaCert",
    "Codec",
    "Debug",
    "Header",
    "Insecure",
    "Metadata",
    "Timeout",
    "Url",
    "What",
    "target_of",
]

Url = Annotated[str, typer.Argument(metavar="URL", help="ws://host:port, wss://… or ws+unix://…")]
What = Annotated[
    str,
    typer.Argument(
        metavar="[MODULE:OBJECT]",
        help="A Server, a controller (instance, class or factory), or a list of controllers; "
        "without it, the app that [tool.wsrpc] in pyproject.toml names.",
        show_default=False,
    ),
]
Codec = Annotated[CodecName, typer.Option(help="The codec of the messages.")]
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
Metadata = Annotated[list[str], typer.Option(metavar="KEY=VALUE", help="Metadata of the call.")]
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
    answers: Answers | None = None,
    frames: Callable[[str], Recorder] | None = None,
) -> Target:
    """The target that the options describe.

    Raises:
        Failure: An option has an invalid value.
    """
    return Target(
        url,
        codec,
        parse_auth(auth),
        timeout,
        parse_headers(header),
        parse_metadata(metadata),
        tls_to(url, cacert, insecure),
        observers,
        answers,
        frames,
    )
