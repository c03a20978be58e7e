"""Names and text of a contract, made safe to stand in generated code.

A contract comes from a peer, so each string in it is untrusted input. It reaches the output only
through `comment`, `literal` or `identifier`.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

__all__ = [
    "ContractError",
    "camel_case",
    "comment",
    "controller_names",
    "docstring",
    "identifier",
    "literal",
    "pascal_case",
]


class ContractError(ValueError):
    """A contract has a part for which no code can be written.

    Attributes:
        path: The place in the contract, such as `controllers.Hello.methods.greet`.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path or 'the contract'}: {problem}")
        self.path = path


def camel_case(name: str) -> str:
    """`stream_tokens` as `streamTokens`."""
    return re.sub(r"(?<=[^_])_([a-z0-9])", lambda found: found[1].upper(), name)


def pascal_case(name: str) -> str:
    """A name of a type: `Page[Cat]` as `PageCat`."""
    made = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name))
    return made if made[:1].isalpha() else f"T{made}"


def controller_names(
    contract: Any, only: Sequence[str], reserved: Collection[str]
) -> dict[str, str]:
    """The name of each controller's type; two that would have one name keep their exact names.

    Args:
        contract: The whole contract.
        only: Controllers to take; all where it is empty.
        reserved: Names with another meaning in the language.

    Raises:
        ContractError: Two controllers would have one name, and one of them is no identifier.
    """
    controllers = contract.get("controllers", {}) if isinstance(contract, Mapping) else {}
    keys = [str(name) for name in controllers if not only or name in only]
    counts = Counter(map(pascal_case, keys))
    names: dict[str, str] = {}
    for key in keys:
        name = pascal_case(key)
        if counts[name] > 1:
            name = identifier(key, f"controllers.{key}", "controller")
        names[key] = f"{name}_" if name in reserved else name
    return names


def identifier(name: str, path: str, what: str) -> str:
    """Check that a name is an identifier in both languages, and hides no other name; returns it.

    Raises:
        ContractError: It is no such identifier.
    """
    if (
        not name.isidentifier()
        or name.startswith("_")
        or unicodedata.normalize("NFKC", name) != name
    ):
        raise ContractError(path, f"the {what} {_shown(name)} is no identifier")
    return name


def literal(value: Any) -> str:
    """A JSON value as it is written in TypeScript, in ASCII."""
    return json.dumps(value, ensure_ascii=True)


def comment(text: str) -> list[str]:
    """Lines of text for a comment in TypeScript; no character in them can end or reverse it."""
    return [line.replace("*/", "*\\/") for line in _lines(text)]


def _lines(text: str) -> list[str]:
    """Text as lines of visible characters, without empty lines at the end."""
    lines = [
        _plain(line).rstrip()
        for line in re.split(r"\r\n|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", text)
    ]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def docstring(text: str, indent: str) -> str:
    """A Python docstring with this text, which may hold any characters."""
    lines = [line.strip() if number == 0 else line for number, line in enumerate(_lines(text))]
    if not lines:
        return ""
    said = [line.replace("\\", "\\\\").replace('"', '\\"') for line in lines]
    if len(said) == 1:
        return f'{indent}"""{said[0]}"""\n'
    body = "".join(f"{indent}{line}".rstrip() + "\n" for line in said[1:])
    return f'{indent}"""{said[0]}\n{body}{indent}"""\n'


def _plain(line: str) -> str:
    """A line in which invisible characters, control and formatting ones, are spelled out."""
    return "".join(
        one if one == "\t" or unicodedata.category(one)[0] != "C" else f"\\u{ord(one):04x}"
        for one in line
    )


def _shown(name: str) -> str:
    return literal(name if len(name) <= 60 else name[:60] + "…")
