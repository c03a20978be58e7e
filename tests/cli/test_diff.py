"""`wsrpc diff`: exit codes, and what it writes for people and programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .conftest import Run

BUY: dict[str, Any] = {"kind": "unary", "params": {}, "result": {"type": "integer"}}


def written(path: Path, **methods: Any) -> str:
    path.write_text(json.dumps({"version": 1, "controllers": {"Shop": {"methods": methods}}}))
    return str(path)


def test_the_exit_code_says_whether_an_old_caller_can_go_on(run: Run, tmp_path: Path) -> None:
    old = written(tmp_path / "old.json", buy=BUY)
    new = written(tmp_path / "new.json", buy=BUY, sell=BUY)
    same = run("diff", old, old)
    assert (same.exit_code, same.stdout) == (0, "the same contract\n")
    added = run("diff", old, new)
    assert added.exit_code == 0
    assert "Shop.sell  added: a new method  (breaks handlers)" in added.stdout
    assert "1 change, which does not break callers of the old contract" in added.stdout
    assert run("diff", old, new, "--for", "handlers").exit_code == 1
    assert run("diff", old, new, "--for", "both").exit_code == 1
    removed = run("diff", new, old)
    assert removed.exit_code == 1
    assert "! Shop.sell  removed: the method is gone  (breaks callers)" in removed.stdout


def test_programs_get_json(run: Run, tmp_path: Path) -> None:
    old = written(tmp_path / "old.json", buy=BUY)
    new = written(tmp_path / "new.json", buy={**BUY, "result": {"type": "string"}})
    done = run("diff", old, new, "--format", "json")
    assert done.exit_code == 1
    assert json.loads(done.stdout) == {
        "compatible": False,
        "for": "callers",
        "changes": [
            {
                "path": "Shop.buy -> result",
                "change": "type",
                "callers": "breaking",
                "handlers": "breaking",
                "message": "may be string where integer is expected",
            }
        ],
    }


def test_a_module_a_url_and_a_file_can_be_compared(url: str, run: Run, tmp_path: Path) -> None:
    schema = tmp_path / "api.json"
    schema.write_text(run("schema", url).stdout)
    for source in (url, str(schema)):
        assert run("diff", "tests.cli.service:server", source).stdout == "the same contract\n"


def test_what_cannot_be_read_exits_with_2(run: Run, tmp_path: Path) -> None:
    good = written(tmp_path / "good.json", buy=BUY)
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    for wrong in (str(bad), str(tmp_path / "none.json"), "no.such:module", "ws://127.0.0.1:1"):
        assert run("diff", good, wrong).exit_code == 2, wrong
        assert run("diff", wrong, good).exit_code == 2, wrong
    assert run("diff", good, good, "--format", "yaml").exit_code == 2


def test_nothing_in_a_contract_moves_the_terminal(run: Run, tmp_path: Path) -> None:
    old = written(tmp_path / "old.json", **{"\x1b[2J": BUY})
    new = written(tmp_path / "new.json", buy={**BUY, "result": {"type": "\x1b[2J"}})
    assert "\x1b" not in run("diff", old, new).stdout


def test_schema_writes_the_contract_asyncapi_or_tools(run: Run) -> None:
    server = "tests.cli.service:server"
    assert json.loads(run("schema", server).stdout)["version"] == 1
    assert json.loads(run("schema", server, "--format", "asyncapi").stdout)["asyncapi"] == "3.0.0"
    made = json.loads(run("schema", server, "--format", "tools").stdout)
    assert {"name", "description", "input_schema", "method"} == made[0].keys()
    assert run("schema", server, "--format", "yaml").exit_code == 2
