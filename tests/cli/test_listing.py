"""`ls`, `describe` and `schema`, which rest on reflection."""

from __future__ import annotations

import json

import pytest

import wsrpc

from .conftest import Run, lines
from .service import Desk, server


def test_ls_has_a_line_for_each_method(url: str, run: Run) -> None:
    result = run("ls", url)
    assert (result.exit_code, result.stderr) == (0, "")
    assert lines(result)[:3] == [
        "Desk.greet(name: string, times?: integer) -> string  # Greet one person.",
        "Desk.tokens(hello: string) -> stream[Token, final integer]"
        "  # Three tokens, and how many they were.",
        "Desk.count(lines: stream[string]) -> integer",
    ]
    assert "Desk.build(target: string, on_step: callback(integer, Token)) -> string" in lines(
        result
    )
    assert "Desk.log(line: string) one way" in lines(result)


def test_ls_for_programs(url: str, run: Run) -> None:
    entries = json.loads(run("ls", url, "--json").stdout)
    assert entries[0] == {
        "method": "Desk.greet",
        "kind": "unary",
        "signature": "Desk.greet(name: string, times?: integer) -> string",
        "doc": "Greet one person.",
    }


def test_describe_a_method_shows_its_models(url: str, run: Run) -> None:
    assert lines(run("describe", url, "Desk.tokens")) == [
        "Desk.tokens(hello: string) -> stream[Token, final integer]",
        "  Three tokens, and how many they were.",
        "  Token",
        "    message: string",
        "    index: integer | null  = null",
    ]


def test_describe_a_controller_and_everything(url: str, run: Run) -> None:
    one = lines(run("describe", url, "Desk"))
    assert one[:2] == ["Desk", "  Answers, streams and listens."]
    assert lines(run("describe", url)) == one


def test_describe_for_programs(url: str, run: Run) -> None:
    described = json.loads(run("describe", url, "Desk.greet", "--json").stdout)
    assert described == server.contract()["Desk"]["methods"]["greet"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("Desc", "did you mean Desk?"),
        ("Desk.gret", "did you mean greet?"),
        ("greet", "did you mean Desk.greet?"),
    ],
)
def test_describe_something_unknown(url: str, run: Run, path: str, says: str) -> None:
    result = run("describe", url, path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


@pytest.mark.parametrize("name", ["ls", "describe", "schema"])
def test_a_server_that_does_not_tell(silent_url: str, run: Run, name: str) -> None:
    result = run(name, silent_url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "its reflection is off" in result.stderr


def test_schema_of_an_object_and_of_a_running_server_are_one(url: str, run: Run) -> None:
    of_object = json.loads(run("schema", "tests.cli.service:server").stdout)
    assert of_object == json.loads(run("schema", url, "--codec", "msgpack").stdout)
    assert of_object == json.loads(json.dumps(server.contract()))
    assert of_object["version"] == 1
    assert of_object["controllers"]["Desk"] == of_object["Desk"]


async def test_clientize_takes_what_schema_writes(url: str, contract: dict[str, object]) -> None:
    async with wsrpc.connect(url) as session:
        by_name: Desk = session.clientize(contract["Desk"])  # type: ignore[call-overload]
        assert await by_name.greet(name="Ann") == "Hello, Ann!"
        nested: Desk = session.clientize(contract["controllers"]["Desk"])  # type: ignore[index]
        assert len(await nested.tokens(hello="x").collect()) == 3
        with pytest.raises(TypeError, match="did you mean 'name'"):
            by_name.greet(nam="Ann")  # type: ignore[call-arg, unused-coroutine]


@pytest.fixture
def contract(run: Run) -> dict[str, object]:
    document: dict[str, object] = json.loads(run("schema", "tests.cli.service:server").stdout)
    return document
