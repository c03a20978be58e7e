"""JavaScript as it travels: without what only readers of its source need.

This knows as much of the language as tells comments and white space from text. Line ends stay where
they are, so that an error's line can be found, and nothing is renamed: what runs is what was written.
"""

from __future__ import annotations

import re

__all__ = ["slim"]

# Text, comments, white space, words, and single characters of all else; `/` and "`" by themselves.
PIECE = re.compile(
    r"""(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    |(?P<comment>/\*.*?\*/|//[^\n]*)
    |(?P<space>\s+)
    |(?P<word>[\w$#@]+)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
PATTERN = re.compile(r"/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\[\n])+/[a-z]*")

# What stands before a pattern and not before a division.
BEFORE_PATTERN = frozenset("(,=:[!&|?{};+-*%<>~^")
WORDS_BEFORE_PATTERN = frozenset({"return", "typeof", "case", "of", "in", "await", "yield"})

GLUED = frozenset("+-/")


def slim(source: str) -> str:
    """The same program without comments, and with no more white space than it needs."""
    out: list[str] = []
    gap = ""
    at = 0
    while at < len(source):
        at, piece, kind = _piece(source, at, out)
        if kind in ("space", "comment"):
            gap = "\n" if "\n" in gap + piece else " "
            continue
        if gap:
            out.append(_between(out[-1] if out else "", gap, piece))
            gap = ""
        out.append(piece)
    return "".join(out) + "\n"


def _piece(source: str, at: int, before: list[str]) -> tuple[int, str, str]:
    """The next piece: where it ends, itself, and what kind it is of."""
    if source[at] == "`":
        end = _template(source, at)
        return end, source[at:end], "text"
    found = PIECE.match(source, at)
    assert found is not None
    kind = found.lastgroup or "other"
    if source[at] == "/" and kind == "other":
        last = next((one for one in reversed(before) if one.strip()), "")
        if not last or last[-1] in BEFORE_PATTERN or last in WORDS_BEFORE_PATTERN:
            found = PATTERN.match(source, at) or found
            kind = "text"
    return found.end(), found.group(), kind


def _template(source: str, at: int) -> int:
    """Where a template ends that begins here; templates may stand inside of it."""
    at += 1
    while source[at] != "`":
        if source[at] == "\\":
            at += 2
        elif source.startswith("${", at):
            at = _hole(source, at + 2)
        else:
            at += 1
    return at + 1


def _hole(source: str, at: int) -> int:
    depth = 1
    while depth:
        end, piece, _ = _piece(source, at, [source[at - 1]])
        depth += (piece == "{") - (piece == "}")
        at = end
    return at


def _between(left: str, gap: str, right: str) -> str:
    """What stays of the white space between two pieces."""
    if gap == "\n" or not left:
        return gap if left else ""
    words = (left[-1].isalnum() or left[-1] in "_$#") and (right[0].isalnum() or right[0] in "_$#")
    return " " if words or (left[-1] in GLUED and right[0] in GLUED) else ""
