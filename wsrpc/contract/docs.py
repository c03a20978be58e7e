"""The parts of docstrings that a contract shows."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Docs", "docs_of"]

# Sections of a docstring in Google style that describe parameters.
_PARAMETERS = re.compile(r"^(Args|Arguments|Parameters):[ \t]*$", re.MULTILINE)
_NAME = re.compile(r"^\*{0,2}(\w+)[ \t]*(?:\([^)]*\))?[ \t]*:[ \t]*(.*)$")


@dataclass(frozen=True, slots=True)
class Docs:
    """A docstring in parts.

    Attributes:
        doc: The first paragraph, on one line.
        details: The other paragraphs, as they are written.
        params: The text for each parameter, on one line.
    """

    doc: str = ""
    details: str = ""
    params: Mapping[str, str] = field(default_factory=dict)


def docs_of(subject: Any) -> Docs:
    """The docstring of a function or class; a class does not inherit one from a base."""
    own = vars(subject).get("__doc__") if isinstance(subject, type) else inspect.getdoc(subject)
    if not isinstance(own, str):
        return Docs()
    text = inspect.cleandoc(own)
    first, _, rest = text.partition("\n\n")
    return Docs(" ".join(first.split()), rest.strip(), _parameters(rest))


def _parameters(text: str) -> dict[str, str]:
    found = _PARAMETERS.search(text)
    if found is None:
        return {}
    section: list[str] = []
    for line in text[found.end() :].split("\n"):
        if line and not line[0].isspace():
            break
        section.append(line)
    said: dict[str, list[str]] = {}
    name = ""
    for line in textwrap.dedent("\n".join(section)).split("\n"):
        match = _NAME.match(line)
        if match is not None:
            name = match[1]
            said[name] = [match[2]]
        elif name and line.strip():
            said[name].append(line.strip())
    return {name: " ".join(filter(None, lines)) for name, lines in said.items()}
