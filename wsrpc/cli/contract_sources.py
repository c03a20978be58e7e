"""Contracts from a running server, a module or a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .connection import Target, describe
from .failures import Failure
from .loading import load_server

__all__ = ["contract_from", "with_token_file"]

# Bytes. A contract of a hundred methods has some 500,000.
MOST = 64 << 20


async def contract_from(what: str, target: Callable[[], Target]) -> dict[str, Any]:
    """The contract of a URL, a `module:object` or a contract's file, as JSON.

    Args:
        what: A URL, a file whose name ends in `.json`, or `module:object`.
        target: Makes the target, if it is a URL.

    Raises:
        Failure: There is no contract.
        ConnectError: No server answers at the URL.
    """
    if "://" in what:
        at = target()
        async with at.session() as session:
            return (await describe(session, at)).document
    if what.endswith(".json"):
        return _from_file(what)
    return load_server(what).contract()


def with_token_file(auth: Any, token_file: Path | None) -> Any:
    """The credentials, from a file if one is named.

    Raises:
        Failure: The file cannot be read, or credentials are given twice.
    """
    if token_file is None:
        return auth
    if auth is not None:
        raise Failure("--auth and --token-file both give credentials; leave one out")
    try:
        return token_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"--token-file {token_file} cannot be read: {error}") from None


def _from_file(name: str) -> dict[str, Any]:
    file = Path(name)
    try:
        if file.stat().st_size > MOST:
            raise Failure(f"{name} has more than {MOST >> 20} MiB; a contract has less")
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise Failure(f"{name} cannot be read: {error}") from None
    except ValueError as error:
        raise Failure(f"{name} is no JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("controllers"), dict):
        raise Failure(f"{name} is no contract; `wsrpc schema` writes one")
    return document
