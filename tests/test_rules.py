"""Every rule of protocol.md has a test marked with it, and every mark names a rule."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
RULE = re.compile(r"\*\*([A-Z]+-\d+)\*\*")
NOT_YET = "> Specified, not yet implemented."
PLANNED = re.compile(r"\*\*([A-Z]+-\d+)\*\* \*\(not yet implemented\)\*")


def rules() -> tuple[set[str], set[str]]:
    """The ids of the rules that are implemented, and of the others."""
    text = (ROOT / "protocol.md").read_text(encoding="utf-8")
    implemented: set[str] = set()
    planned: set[str] = set()
    for chapter in re.split(r"^#+ ", text, flags=re.MULTILINE)[1:]:
        _, _, body = chapter.partition("\n")
        found = set(RULE.findall(body))
        later = found if body.strip().startswith(NOT_YET) else set(PLANNED.findall(body))
        planned |= later
        implemented |= found - later
    return implemented, planned


@functools.cache
def marked() -> list[tuple[str, str, ast.expr]]:
    """Each argument of each `pytest.mark.rule(…)`, with the file and what it marks."""
    return [found for path in sorted(TESTS.rglob("*.py")) for found in marked_in(path)]


def marked_in(path: Path) -> Iterator[tuple[str, str, ast.expr]]:
    text = path.read_text(encoding="utf-8")
    if "mark.rule(" in text:
        tree = ast.parse(text)
        names = {
            decorator: node.name
            for node in ast.walk(tree)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            for decorator in node.decorator_list
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.rule":
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                for argument in node.args:
                    yield place, names.get(node, ""), argument


def number(id: str) -> tuple[str, int]:
    family, _, n = id.partition("-")
    return family, int(n)


def test_the_rules_are_found() -> None:
    implemented, planned = rules()
    assert len(implemented) > 80
    assert not implemented & planned


def test_rules_are_numbered_without_gaps() -> None:
    families: dict[str, list[int]] = {}
    for id in set.union(*rules()):
        family, n = number(id)
        families.setdefault(family, []).append(n)
    for family, numbers in families.items():
        assert sorted(numbers) == list(range(1, len(numbers) + 1)), family


def test_every_implemented_rule_has_a_test() -> None:
    implemented, _ = rules()
    named = {a.value for _, _, a in marked() if isinstance(a, ast.Constant)}
    missing = sorted(implemented - named, key=number)
    assert not missing, f"rules of protocol.md without a test marked so: {', '.join(missing)}"


def test_every_mark_names_a_rule_that_exists() -> None:
    known = set.union(*rules())
    unknown = [
        f"{place}: {ast.unparse(argument)}"
        for place, _, argument in marked()
        # A starred argument is that of the interop cases, whose rules are checked beside them.
        if not isinstance(argument, ast.Starred)
        and not (isinstance(argument, ast.Constant) and argument.value in known)
    ]
    assert not unknown


def test_marks_stand_on_tests() -> None:
    astray = [f"{place}: {name}" for place, name, _ in marked() if name and name[:5] != "test_"]
    assert not astray


def test_no_test_vouches_for_many_rules() -> None:
    counts: dict[str, int] = {}
    for place, _, _ in marked():
        counts[place] = counts.get(place, 0) + 1
    assert [place for place, n in counts.items() if n > 12] == []


def test_no_docstring_of_a_test_names_rules_that_its_mark_should_name() -> None:
    ids = re.compile(r"^\s*[A-Z]+-\d+(, [A-Z]+-\d+)*[.:]")
    found = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in sorted(TESTS.rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and ids.match(ast.get_docstring(node) or "")
    ]
    assert not found
