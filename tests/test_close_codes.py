"""The close codes of the package are those of protocol.md, and mean there what they mean here."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from wsrpc.close_codes import CloseCode, may_reconnect, may_resume

PROTOCOL = Path(__file__).parent.parent / "protocol.md"


def rows() -> list[tuple[int, str, str, str]]:
    """Rows of the table, one for each code: code, name, fate of the session, whether C reconnects."""
    text = PROTOCOL.read_text(encoding="utf-8")
    table = text.split("| code | name | sender | session |")[1].split("\n\n")[0]
    found: list[tuple[int, str, str, str]] = []
    for line in table.splitlines()[2:]:
        codes, name, _, session, comes_back, *_ = (part.strip() for part in line.split("|")[1:])
        found += [(int(code), name, session, comes_back) for code in re.findall(r"\d{4}", codes)]
    return found


TABLE = rows()


def test_every_code_of_the_table_has_a_name_here_and_the_other_way_round() -> None:
    assert {code for code, *_ in TABLE} == {int(code) for code in CloseCode}


@pytest.mark.rule("CLOSE-1", "CLOSE-2")
@pytest.mark.parametrize(("code", "name", "session", "comes_back"), TABLE)
def test_a_code_means_what_the_table_says(
    code: int, name: str, session: str, comes_back: str
) -> None:
    assert may_resume(code) is session.startswith("detaches")
    assert may_reconnect(code) is comes_back.startswith("yes")


@pytest.mark.parametrize(("code", "name"), [row[:2] for row in TABLE if row[0] >= 4000])
def test_a_code_of_ours_has_the_name_of_the_table(code: int, name: str) -> None:
    words = {"authentication expired": "auth expired"}
    assert CloseCode(code).name.lower().replace("_", " ") == words.get(name, name)


def test_a_code_shows_as_its_number_wherever_it_appears() -> None:
    assert f"{CloseCode.NORMAL} {CloseCode.NORMAL!r} {[CloseCode.NORMAL]}" == "1000 1000 [1000]"


def test_no_other_module_of_the_package_names_a_close_code_by_its_number() -> None:
    root = PROTOCOL.parent / "wsrpc"
    numbers = {int(code) for code in CloseCode} - {1000}
    # The bare peer and what it expects share no code with the package.
    bare = {root / "interop" / "bare_peer.py", *(root / "interop").glob("*_cases.py")}
    spared = {root / "close_codes.py", *bare}
    found = [
        f"{file.relative_to(root)}:{node.lineno}"
        for file in sorted(root.rglob("*.py"))
        if file not in spared
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and type(node.value) is int and node.value in numbers
    ]
    assert found == []
