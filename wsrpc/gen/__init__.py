"""Code written from a contract: `wsrpc gen`.

`generate` turns a contract, as `wsrpc schema` writes it, into TypeScript or Python. The output
depends only on the contract: it holds no date, no version and no path. A contract comes from a
peer, so all of its text is escaped in the output, and a broken one raises `ContractError`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from .names import ContractError
from .python import python
from .typescript import typescript

__all__ = ["ContractError", "generate"]


def generate(
    contract: Any,
    language: Literal["ts", "py"],
    *,
    warn: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> str:
    """The code for a contract.

    Args:
        contract: As `wsrpc schema` or reflection gives it.
        language: "ts" for TypeScript, "py" for Python.
        warn: Called with each line about a part of the contract that types cannot express.
        options: Options of `wsrpc gen`: `only`, and for TypeScript `case`, `bytes`, `module`,
            `side`, `constants`.

    Raises:
        ContractError: The contract is broken, or has a name that cannot stand in code; its author
            is to blame.
        ValueError: There is no such language.
    """
    if language not in ("ts", "py"):
        raise ValueError(f"language must be 'ts' or 'py', not {language!r}")
    text, warnings = (typescript if language == "ts" else python)(contract, **options)
    for line in warnings:
        warn(line)
    return text
