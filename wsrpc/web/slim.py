"""Scripts and styles as they travel, without comments and needless white space.

This knows only as much of JavaScript as tells comments and white space from text. No statement
changes, but `const` is `let`, and `true` is `!0`, which is shorter: the same code runs. `shorten` gives variables shorter
names, in all places of a program alike.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, product
from string import ascii_letters, digits

__all__ = ["join", "parts", "shorten", "slim", "slim_css"]

# Text, comments, white space, words, and all other single characters; `/` and "`" by themselves.
PIECE = re.compile(
    r"""(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    |(?P<comment>/\*.*?\*/|//[^\n]*)
    |(?P<space>\s+)
    |(?P<word>[\w$#@]+)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
PATTERN = re.compile(r"/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\[\n])+/[a-z]*")

# Characters that stand before a pattern, and not before a division.
BEFORE_PATTERN = frozenset("(,=:[!&|?{};+-*%<>~^")
WORDS_BEFORE_PATTERN = frozenset({"return", "typeof", "case", "of", "in", "await", "yield"})

GLUED = frozenset("+-/")

# A statement goes on over the end of a line after these characters, and before those: that end
# needs no character. After "+", "-", "/" and ")" the end of a line may mean something, and also
# before "(", "[", "+", "-" and a template.
GOES_ON_AFTER = frozenset("{([,;:?=&|<>*%^")
GOES_ON_BEFORE = frozenset("})],;:?.=&|<>%^")

# Shorter ways to write these words, where they are values. Before ":" they may be names of properties.
WRITTEN = {"true": "!0", "false": "!1", "undefined": "void 0"}
NAMED = re.compile(r"\s*[:(]|\s*=(?!=)")

# After `const` or `let`, where that is no name of a property.
DECLARES = re.compile(r"\s*[\w$\[{]")

STYLE = re.compile(
    r"""(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    |(?P<comment>/\*.*?\*/)
    |(?P<end>\s*;?\s*\}\s*)
    |(?P<mark>\s*[{;,>]\s*)
    |(?P<colon>:\s+)
    |(?P<space>\s+)""",
    re.VERBOSE | re.DOTALL,
)

DECLARED = frozenset({"const", "let", "function", "class"})

# Words that mean something else in some places, and globals that a variable may hide.
KEPT = frozenset(
    [
        "as",
        "async",
        "await",
        "case",
        "catch",
        "do",
        "else",
        "enum",
        "for",
        "from",
        "get",
        "if",
        "in",
        "let",
        "new",
        "null",
        "of",
        "set",
        "static",
        "super",
        "this",
        "true",
        "try",
        "var",
        "void",
        "while",
        "with",
        "yield",
        "blur",
        "close",
        "event",
        "find",
        "focus",
        "history",
        "length",
        "location",
        "name",
        "open",
        "origin",
        "parent",
        "print",
        "screen",
        "scroll",
        "self",
        "start",
        "status",
        "stop",
        "top",
    ]
)

IMPORT = re.compile(r'^import \{ ([^}]*) \} from "\./([\w.-]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=const|let|class|function|async)", re.MULTILINE)


def slim(source: str) -> str:
    """The same program without comments, and with no more characters than it needs."""
    out: list[str] = []
    heads: list[str] = []  # The piece before each "(" that is open.
    head = ""  # The same of the last that was closed.
    begun = [""]  # The first word of the statement, in each bracket that is open.
    gap = ""
    at = 0
    while at < len(source):
        at, piece, kind = _piece(source, at, out)
        if kind in ("space", "comment"):
            gap = "\n" if "\n" in gap + piece else " "
            continue
        last = out[-1] if out else ""
        if piece in WRITTEN and last not in (".", "?.") and not NAMED.match(source, at):
            piece = WRITTEN[piece]
        left = _between(last, gap, piece) if gap else ""
        gap = ""
        if left:
            out.append(left)
        declares = piece in ("const", "let") and last != "." and DECLARES.match(source, at)
        if declares:
            piece = "let"
        if left == "\n" or last in ("", ";", "{") or (last == "}" and kind == "word"):
            if declares and last == ";" and not left and begun[-1] == "let":
                out[-1] = ","  # It is declared together with the names before it.
                continue
            begun[-1] = "let" if declares else ""
        if piece == "(":
            heads.append(last)
        elif piece == ")":
            head = heads.pop() if heads else ""
        elif piece == "}" and last == ";" and _ends("".join(out[-2:-1]), head):
            out.pop()
        elif piece == ">" and last == "=" and _one_name(out[-4:-1]):
            out[-4:] = [*([" "] if _in_word(out[-5:-4]) else []), out[-3], "="]
        if piece in (")", "]", "}"):
            if len(begun) > 1:
                begun.pop()
            if last == "," and out[-2] not in (",", "[", "("):
                out.pop()
        elif piece in ("(", "[", "{"):
            begun.append("")
        out.append(piece)
    return "".join(out) + "\n"


def shorten(source: str) -> str:
    """The same program with shorter names for its variables.

    A name changes only if it is declared, and if it is nowhere the name of a property, as far as
    its neighbours tell; then it changes in all places, to a name that stands nowhere else. So it
    does not matter which variables share it.
    """
    seen: Counter[str] = Counter()
    declared: set[str] = set()
    properties: set[str] = set()
    for word, before, after, bracket in _words(source):
        seen[word] += 1
        if before in DECLARED:
            declared.add(word)
        in_braces = bracket == "{" and before in ("{", ",") and after in (",", "}", "=")
        if before in (".", "?.") or after == ":" or in_braces:
            properties.add(word)
    renamed = declared - properties - KEPT
    two = ("".join(pair) for pair in product(ascii_letters, ascii_letters + digits))
    names = chain(ascii_letters, two)
    free = (name for name in names if name not in seen and name not in KEPT)
    order = sorted(renamed, key=lambda name: (-seen[name], name))
    short = {old: new for old, new in zip(order, free, strict=False) if len(new) < len(old)}
    return _with_words(source, lambda word: short.get(word, word))


def slim_css(source: str) -> str:
    """The same style sheet without comments, and with no more white space than it needs."""

    def less(found: re.Match[str]) -> str:
        kind, text = found.lastgroup, found.group()
        if kind == "text":
            return text
        return {"comment": "", "end": "}", "colon": ":", "space": " "}.get(kind or "", text.strip())

    return STYLE.sub(less, source).strip() + "\n"


def parts(name: str, read: Callable[[str], str], prefix: str) -> list[str]:
    """A module and the modules that it imports, lowest first.

    Args:
        name: The module's name.
        read: Gives a module's text.
        prefix: The beginning of the names of its own modules; others stay imports.
    """
    found: list[str] = []

    def visit(one: str) -> None:
        for _, other in IMPORT.findall(read(one)):
            if other.startswith(prefix) and other not in found:
                visit(other)
        found.append(one)

    visit(name)
    return found


def join(name: str, read: Callable[[str], str], prefix: str) -> str:
    """A module joined with the modules that it imports; their top-level names all differ.

    Arguments are those of `parts`.
    """
    imported: dict[str, set[str]] = {}
    texts: list[str] = []
    for one in parts(name, read, prefix):
        text = read(one)
        for names, other in IMPORT.findall(text):
            if not other.startswith(prefix):
                imported.setdefault(other, set()).update(names.split(", "))
        texts.append(EXPORT.sub("", IMPORT.sub("", text)))
    heads = [
        f'import {{ {", ".join(sorted(names))} }} from "./{other}";\n'
        for other, names in sorted(imported.items())
    ]
    return "".join(heads + texts)


def _piece(source: str, at: int, before: list[str]) -> tuple[int, str, str]:
    """The next piece: its end, its text, and its kind."""
    if source[at] == "`":
        end, text = _template(source, at)
        return end, text, "text"
    found = PIECE.match(source, at)
    assert found is not None
    kind = found.lastgroup or "other"
    if source[at] == "/" and kind == "other":
        last = next((one for one in reversed(before) if one.strip()), "")
        if not last or last[-1] in BEFORE_PATTERN or last in WORDS_BEFORE_PATTERN:
            found = PATTERN.match(source, at) or found
            kind = "text"
    return found.end(), found.group(), kind


def _tokens(source: str) -> Iterator[tuple[str, str]]:
    """The pieces of a program, and their kinds."""
    at = 0
    before: list[str] = []
    while at < len(source):
        at, piece, kind = _piece(source, at, before)
        if kind not in ("space", "comment"):
            before = [piece]
        yield piece, kind


def _words(source: str) -> Iterator[tuple[str, str, str, str]]:
    """Words with the pieces before and after them and the bracket around them, holes included."""
    pieces = [one for one in _tokens(source) if one[1] not in ("space", "comment")]
    brackets: list[str] = []
    for i, (piece, kind) in enumerate(pieces):
        if kind == "text" and piece[0] == "`":
            for code, hole in _of_template(piece):
                if hole:
                    yield from _words(code)
        elif kind == "word":
            before = pieces[i - 1][0] if i else ""
            if before == "." and i > 2 and pieces[i - 2][0] == pieces[i - 3][0] == ".":
                before = "..."
            after = pieces[i + 1][0] if i + 1 < len(pieces) else ""
            yield piece, before, after, brackets[-1] if brackets else ""
        elif piece in ("(", "[", "{"):
            brackets.append(piece)
        elif piece in (")", "]", "}") and brackets:
            brackets.pop()


def _with_words(source: str, change: Callable[[str], str]) -> str:
    out = []
    for piece, kind in _tokens(source):
        if kind == "text" and piece[0] == "`":
            out += [_with_words(one, change) if hole else one for one, hole in _of_template(piece)]
        else:
            out.append(change(piece) if kind == "word" else piece)
    return "".join(out)


def _of_template(template: str) -> Iterator[tuple[str, bool]]:
    """The parts of a template, and whether each is the code of a hole."""
    at = begun = 0
    while (at := at + 1) < len(template) - 1:
        if template.startswith("${", at):
            end = _hole(template, at + 2)
            yield template[begun : at + 2], False
            yield template[at + 2 : end - 1], True
            begun = end - 1
            at = end - 1
        elif template[at] == "\\":
            at += 1
    yield template[begun:], False


def _template(source: str, at: int) -> tuple[int, str]:
    """The end of the template that begins here, and its slim text; its holes hold code again."""
    out = ["`"]
    at += 1
    while source[at] != "`":
        if source.startswith("${", at):
            end = _hole(source, at + 2)
            out.append(f"${{{slim(source[at + 2 : end - 1]).strip()}}}")
        else:
            end = at + (2 if source[at] == "\\" else 1)
            out.append(source[at:end])
        at = end
    return at + 1, "".join(out) + "`"


def _hole(source: str, at: int) -> int:
    depth = 1
    before = ["{"]
    while depth:
        at, piece, kind = _piece(source, at, before)
        depth += (piece == "{") - (piece == "}")
        if kind not in ("space", "comment"):
            before = [piece]
    return at


def _ends(piece: str, head: str) -> bool:
    """Whether a statement that ends so needs no semicolon before "}": an empty one would need it.

    `head` is the piece before the parentheses that were closed last.
    """
    if piece == ")":
        return head not in ("if", "for", "await", "while", "with")
    return piece not in ("", "else", "do") and (piece[-1].isalnum() or piece[-1] in "_$]}\"'`")


def _one_name(pieces: list[str]) -> bool:
    """Whether these are a name in parentheses."""
    return len(pieces) == 3 and (pieces[0], pieces[2]) == ("(", ")") and _in_word(pieces[1:2])


def _in_word(pieces: list[str]) -> bool:
    """Whether a name that follows these at once would be read as a part of a word."""
    return bool(pieces) and (pieces[0][-1].isalnum() or pieces[0][-1] in "_$#")


def _between(left: str, gap: str, right: str) -> str:
    """The white space that has to stay between two pieces."""
    if not left:
        return ""
    if gap == "\n":
        return "" if left in GOES_ON_AFTER or right in GOES_ON_BEFORE else gap
    words = _in_word([left]) and _in_word([right[0]])
    return " " if words or (left[-1] in GLUED and right[0] in GLUED) else ""
