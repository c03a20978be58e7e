"""Completions for TAB: the controllers, methods and parameters of the named server."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import anyio
import typer

from .connection import Target, contract_of, parse_auth, parse_headers, tls_to
from .remote_contract import Contract, Param, split_path

__all__ = ["arguments", "controllers", "mend_words", "methods", "paths"]

# Seconds that a person waits after pressing TAB.
PATIENCE = 2.0

# Shells evaluate completions, and these come from a server. Names are shown unchanged or not at
# all. Descriptions are reduced to letters, digits and a little punctuation.
NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*", re.ASCII)
ARGUMENT = re.compile(r"[^\W\d]\w*:?[=@]", re.ASCII)
UNSAFE = re.compile(r"[^\w.,;/+-]+")

# Characters.
LONGEST = 60

# The characters at which bash breaks words, besides blanks.
BREAKS = frozenset(":=@")

Offer = tuple[str, str]


def methods(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """The methods of the server that `URL` names, as `Controller.method`, and their docs."""
    return _offered(ctx, incomplete, _methods)


def arguments(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """The parameters of the method on the line that have no argument yet, and the signs for them.

    There are two forms of each, so that a shell adds no blank after the sign.
    """
    controller, name = split_path(str(ctx.params.get("method") or ""))
    given = {_parameter(word) for word in ctx.params.get("arguments") or ()}

    def offers(contract: Contract) -> Iterator[Offer]:
        found = contract.controllers.get(controller)
        method = found.methods.get(name) if found is not None else None
        for key, param in method.params.items() if method is not None else ():
            if key not in given:
                for sign in _signs(param):
                    yield f"{key}{sign}", param.doc

    return _offered(ctx, incomplete, offers, ARGUMENT)


def _signs(param: Param) -> tuple[str, ...]:
    if param.kind == "callback":
        return ()
    if param.kind == "upload":
        return (":=", "@")
    schema = param.json_schema
    is_text = isinstance(schema, dict) and schema.get("type") == "string"
    return ("=", "@") if is_text else (":=", ":@")


def _parameter(word: str) -> str:
    return re.split("[:=@]", word, maxsplit=1)[0]


def controllers(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """The controllers of the server that `URL` names."""
    return _offered(ctx, incomplete, _controllers)


def paths(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """The controllers and methods of the server that `URL` names."""
    return [*controllers(ctx, incomplete), *methods(ctx, incomplete)]


def _methods(contract: Contract) -> Iterator[Offer]:
    for name, controller in contract.controllers.items():
        for key, method in controller.methods.items():
            yield f"{name}.{key}", method.doc


def _controllers(contract: Contract) -> Iterator[Offer]:
    for name, controller in contract.controllers.items():
        yield name, controller.doc


def _offered(
    ctx: typer.Context,
    incomplete: str,
    offers: Callable[[Contract], Iterator[Offer]],
    form: re.Pattern[str] = NAME,
) -> list[Offer]:
    try:
        contract = anyio.run(_contract, ctx.params)
    except Exception:  # noqa: BLE001  (a shell that completes shows no errors)
        return []
    return [
        (name, UNSAFE.sub(" ", doc)[:LONGEST].strip())
        for name, doc in (offers(contract) if contract is not None else ())
        if name.startswith(incomplete) and form.fullmatch(name)
    ]


async def _contract(given: dict[str, Any]) -> Contract | None:
    url = given.get("url") or _url_typed()
    authority = given.get("cacert")
    target = Target(
        url,
        auth=parse_auth(given.get("auth")),
        timeout=PATIENCE,
        headers=parse_headers(list(given.get("header") or ())),
        ssl=tls_to(url, Path(authority) if authority else None, bool(given.get("insecure"))),
    )
    with anyio.move_on_after(PATIENCE):
        async with target.session() as session:
            return await contract_of(session, target)
    return None


def _url_typed() -> str:
    """The URL on a line that cannot be parsed, since an option has no value yet."""
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")
    return next((word for word in line.split() if "://" in word), "")


def mend_words(environ: MutableMapping[str, str]) -> None:
    """Rejoin words that bash has split: it splits at colons, so that a URL is five words.

    Args:
        environ: The environment of a completion that bash asks for.
    """
    if environ.get("_WSRPC_COMPLETE") != "complete_bash":
        return
    words = environ.get("COMP_WORDS", "").split("\n")
    try:
        at = int(environ["COMP_CWORD"])
    except (KeyError, ValueError):
        return
    mended: list[str] = []
    glued = False
    for number, word in enumerate(words):
        is_break = bool(word) and BREAKS.issuperset(word)
        if mended and (is_break or glued):
            mended[-1] += word
        else:
            mended.append(word)
        if number == at:
            environ["COMP_CWORD"] = str(len(mended) - 1)
        glued = is_break
    environ["COMP_WORDS"] = "\n".join(mended)
