"""`wsrpc call` and `wsrpc health`, as they are typed."""

from __future__ import annotations

import sys
from typing import Annotated, Optional

import typer

from .. import completion
from ..answering import Answers, Terminal, parse_answers
from ..call_command import call as make_call
from ..health_command import health as ask_for_health
from ..options import (
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
from ..verbose import Frames, Verbose

__all__ = ["call", "health"]


def call(
    url: Url,
    method: Annotated[
        str, typer.Argument(metavar="CONTROLLER.METHOD", autocompletion=completion.methods)
    ],
    arguments: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(
            metavar="NAME=TEXT|NAME:=JSON|NAME@FILE",
            help="NAME@FILE takes the text of a file, or its bytes where the parameter takes bytes; "
            "NAME:@FILE its JSON. NAME:=- reads a stream's items from standard input, one JSON value "
            "a line, and NAME@FILE from a file; the only stream of a method needs no naming.",
            show_default=False,
            autocompletion=completion.arguments,
        ),
    ] = None,
    raw_input: Annotated[
        bool, typer.Option("--raw-input", "-R", help="Lines of standard input are text, not JSON.")
    ] = False,
    answer: Annotated[
        list[str],
        typer.Option(
            metavar="CONTROLLER.METHOD=JSON",
            help="An answer to calls of the server, such as Screen.confirm=true; METHOD[]=[1, 2] "
            "streams these items; PARAMETER=JSON is for a callback. Without it you are asked, at a "
            "terminal.",
        ),
    ] = [],  # noqa: B006  (typer reads it)
    codec: Codec = "json",
    auth: Auth = None,
    timeout: Timeout = None,
    header: Header = [],  # noqa: B006  (typer reads it)
    metadata: Metadata = [],  # noqa: B006
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show frames and durations on stderr.")
    ] = False,
    cacert: CaCert = None,
    insecure: Insecure = False,
    debug: Debug = False,
) -> None:
    """Call a method: its value, or its items one a line as they come, go to stdout.

    A stream's final value, and the calls of the server and of callbacks, are shown on stderr.
    Ctrl-C cancels the call at the other end too.
    """

    async def body() -> None:
        at_terminal = sys.stdin is not None and sys.stdin.isatty()
        answers = Answers(parse_answers(answer), Terminal() if at_terminal else None)
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
            answers=answers,
            frames=Frames if verbose else None,
        )
        await make_call(target, method, arguments or [], Output(), answers, raw_input=raw_input)

    run(body, debug=debug, cancelled="interrupted; the call is cancelled at the other end too")


def health(
    url: Url,
    service: Annotated[
        str,
        typer.Option(
            metavar="CONTROLLER",
            help="One controller, instead of the whole server.",
            autocompletion=completion.controllers,
        ),
    ] = "",
    codec: Codec = "json",
    auth: Auth = None,
    timeout: Annotated[
        float, typer.Option(min=0.001, metavar="SECONDS", help="Time for all of it.")
    ] = 5.0,
    header: Header = [],  # noqa: B006  (typer reads it)
    cacert: CaCert = None,
    insecure: Insecure = False,
    debug: Debug = False,
) -> None:
    """Ask whether a server takes calls: exit code 0 if it does, 1 if not or if there is none."""

    async def body() -> int:
        target = target_of(url, codec, auth, timeout, header, [], cacert=cacert, insecure=insecure)
        return await ask_for_health(target, service, Output())

    run(body, debug=debug)
