"""Every rule of protocol.md that is implemented has a test that names it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
RULE = re.compile(r"\*\*([A-Z]+-\d+)\*\*")
MENTION = re.compile(r"\b[A-Z]+-\d+\b")
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


def mentions() -> dict[str, set[str]]:
    """The ids that the tests name, and the files that do."""
    named: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for id in MENTION.findall(path.read_text(encoding="utf-8")):
            named.setdefault(id, set()).add(path.name)
    return named


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
    missing = sorted(implemented - set(mentions()), key=number)
    assert not missing, f"rules of protocol.md without a test: {', '.join(missing)}"


def test_no_test_names_a_rule_that_is_not_there() -> None:
    known = set.union(*rules())
    families = {number(id)[0] for id in known}
    unknown = {
        id: files
        for id, files in mentions().items()
        if number(id)[0] in families and id not in known
    }
    assert not unknown
