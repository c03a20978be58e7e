"""The parts of the commands that need no server."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from wsrpc.cli.failures import ExitCode, Failure
from wsrpc.cli.listing import page
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


# --- What `describe` shows --------------------------------------------------------------------------


def described(**method: Any) -> list[str]:
    document = {
        "version": 1,
        "controllers": {"Shop": {"methods": {"buy": {"kind": "unary", **method}}}},
    }
    return [line.plain for line in page(Contract.read(document), "Shop.buy")]


def test_describe_shows_defaults_enum_values_bounds_field_texts_and_parameter_docs() -> None:
    cat = {
        "$defs": {"Shade": {"enum": ["dark", "light"], "type": "string"}},
        "title": "Cat",
        "type": "object",
        "properties": {
            "lives": {
                "type": "integer",
                "default": 9,
                "minimum": 0,
                "maximum": 9,
                "description": "How many\nare left.",
            },
            "shade": {"$ref": "#/$defs/Shade"},
            "old": {"type": "string", "deprecated": True, "pattern": "^a"},
        },
        "required": ["shade"],
    }
    shown = described(
        doc="Buy one.",
        details="It is wrapped.\n\nArgs:\n    n: Never shown twice.\n\nReturns:\n    A cat.",
        params={
            "n": {
                "required": False,
                "default": 1,
                "doc": "How many.",
                "schema": {"type": "integer", "exclusiveMinimum": 0},
            },
            "who": {"schema": {"type": "string", "minLength": 1, "maxLength": 9}},
        },
        result=cat,
        tags=["admin"],
        deprecated=True,
        deprecated_doc="use sell",
        errors=[{"type": "Over", "code": "resource_exhausted", "doc": "No more.", "data": {}}],
        on_disconnect="cancel",
    )
    assert shown == [
        "Shop.buy(n?: integer, who: string) -> Cat",
        "  Buy one.",
        "",
        "  It is wrapped.",
        "",
        "  Returns:",
        "      A cat.",
        "  deprecated: use sell",
        "  tags: admin",
        "  cancelled when the connection is lost",
        "  raises Over (resource_exhausted): No more.",
        "    n  = 1; > 0; How many.",
        "    who  at least 1 characters, at most 9 characters",
        "  Shade",
        '    one of: "dark" | "light"',
        "  Cat",
        "    lives?: integer  = 9; ≥ 0, ≤ 9; How many are left.",
        "    shade: Shade",
        '    old?: string  matches "^a"; deprecated',
    ]


def test_nothing_that_a_server_says_of_a_method_moves_the_terminal() -> None:
    evil = "\x1b[2J\r\u202e"
    shown = described(
        doc=evil,
        details=f"{evil}\n{evil}",
        tags=[evil],
        deprecated=True,
        deprecated_doc=evil,
        errors=[{"type": evil, "code": evil, "doc": evil, "data": {}}],
        params={"n": {"doc": evil, "default": evil, "schema": {"pattern": evil, "enum": [evil]}}},
        result={"type": "object", "properties": {evil: {"description": evil, "default": evil}}},
    )
    assert not any(set(evil) & {"\x1b", "\r", "\u202e"} & set(line) for line in shown)
