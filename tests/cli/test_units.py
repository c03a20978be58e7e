"""The parts of the commands that need no server."""

from __future__ import annotations

import subprocess
import sys

import pytest

from wsrpc.cli.failures import ExitCode, Failure
from wsrpc.cli.remote_contract import Contract
from wsrpc.cli.schemas import type_text
from wsrpc.cli.text import printable, to_json

from .conftest import PATIENCE, ROOT, Run, lines


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({}, "any"),
        (True, "any"),
        (False, "never"),
        ({"type": "string"}, "string"),
        ({"type": "string", "format": "date-time"}, "string(date-time)"),
        ({"type": ["integer", "null"]}, "integer | null"),
        ({"anyOf": [{"type": "integer"}, {"$ref": "#/$defs/Token"}]}, "integer | Token"),
        ({"type": "array", "items": {"type": "string"}}, "list[string]"),
        ({"type": "array", "items": {}, "uniqueItems": True}, "set[any]"),
        ({"type": "array", "prefixItems": [{"type": "null"}, {}]}, "tuple[null, any]"),
        ({"type": "object"}, "object"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "map[number]"),
        ({"type": "object", "properties": {}, "title": "Token"}, "Token"),
        ({"const": "a"}, '"a"'),
        ({"enum": ["a", "b"]}, '"a" | "b"'),
        ({"enum": list(range(9)), "title": "Digit"}, "Digit"),
        ({"type": "array"}, "list[any]"),
        ({"anyOf": "nonsense"}, "any"),
    ],
)
def test_schemas_as_short_text(schema: object, text: str) -> None:
    assert type_text(schema) == text


def test_foreign_text_is_escaped() -> None:
    assert printable("plain ö\n\t") == "plain ö\n\t"
    assert printable("a\x1b[2J\x9b\u202e") == r"a\u001b[2J\u009b\u202e"


def test_json_of_bytes() -> None:
    assert to_json({"a": [b"\x00\xff"]}) == '{"a": ["AP8="]}'


def test_without_the_extra_one_line_says_what_is_missing() -> None:
    code = (
        "import sys; sys.modules[{0!r}] = None\nfrom wsrpc.__main__ import main\nsys.exit(main())"
    )
    for module in ("typer", "rich"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(module)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert "typer" in done.stderr
        assert "'cli'" in done.stderr
        assert "pip install wsrpc" not in done.stderr


def test_version_and_help(run: Run) -> None:
    assert lines(run("--version"))[0].startswith("wsrpc ")
    for words in (["--help"], ["call", "-h"], ["demo", "-h"]):
        assert run(*words).exit_code == 0


def test_unknown_commands_and_options_exit_2(run: Run) -> None:
    for words in (["nosuch"], ["call"], ["ls", "ws://h", "--nosuch"]):
        result = run(*words)
        assert (result.exit_code, result.stdout) == (2, "")


def test_a_contract_that_is_none_is_the_servers_fault() -> None:
    documents: list[object] = [
        None,
        [],
        {},
        {"version": 1, "controllers": {"A": {"methods": {"m": 1}}}},
    ]
    for document in documents:
        with pytest.raises(Failure, match="no contract") as caught:
            Contract.read(document)
        assert caught.value.code is ExitCode.REMOTE


def test_a_contract_without_names_is_good_for_clientize() -> None:
    methods = {"m": {"kind": "unary", "params": {"lines": {"kind": "upload"}}}}
    contract = Contract.read({"version": 1, "controllers": {"A": {"methods": methods}}})
    assert contract.for_clientize("A")["name"] == "A"
    assert contract.method("A", "m").uploads == ["lines"]
