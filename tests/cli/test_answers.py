"""`wsrpc call --answer`: what the server's own calls get, from the command line or by hand."""

from __future__ import annotations

import os
import pty
import subprocess

import pytest

from .conftest import COMMAND, PATIENCE, ROOT, Run, lines


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_calls_of_the_server_can_be_answered(run: Run, url: str, codec: str) -> None:
    call = ("call", url, "Desk.delete", "what=it", "--codec", codec)
    result = run(*call, "--answer", "Screen.confirm=true")
    assert lines(result) == ['"deleted it"']
    # A notification needs no answer, and is shown.
    assert 'Screen.show {"line": "about to delete it"}\n' in result.stderr
    assert 'Screen.confirm {"question": "Delete it?"} -> true\n' in result.stderr
    assert lines(run(*call, "--answer", "Screen.confirm=[1]", "--answer", "Other.one=2")) == [
        '"kept it ([1])"'
    ]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_calls_of_the_server_can_be_answered_by_a_stream(run: Run, url: str, codec: str) -> None:
    call = ("call", url, "Desk.watch", "--codec", codec)
    result = run(*call, "--answer", 'Screen.keys[]=[1, null, "x"]')
    assert lines(result) == ['[1, null, "x"]'], result.stderr
    assert 'Screen.keys {"after": 0} -> items [1, null, "x"]\n' in result.stderr
    assert lines(run(*call, "--answer", "Screen.keys[]=[]")) == ["[]"]
    # The server goes away from it before its end.
    assert lines(run(*call, "most:=2", "--answer", "Screen.keys[]=[1, 2, 3]")) == ["[1, 2]"]
    # It is not a value, and says so.
    wrong = run(*call, "--answer", "Screen.keys=[1, 2]")
    assert wrong.exit_code == 1
    assert "Screen.keys returns a value" in wrong.stderr


def test_a_stream_answers_nothing_that_wants_a_value(run: Run, url: str) -> None:
    call = ("call", url, "Desk.delete", "what=it")
    given = ("--answer", "Screen.confirm=true", "--answer", "Screen.show[]=[1]")
    assert lines(run(*call, *given)) == ['"deleted it"']
    assert run(*call, "--answer", "Screen.confirm[]=[true]").exit_code == 1
    result = run("call", url, "Desk.guess", "--answer", "ask[]=[21]")
    assert result.exit_code == 2
    assert "'ask' is a callback, and gives one value: --answer 'ask=JSON'" in result.stderr
    unanswered = run("call", url, "Desk.watch")
    assert "--answer 'Screen.keys=JSON' ('Screen.keys[]=JSON' if it streams)" in unanswered.stderr


def test_a_callback_can_be_answered_by_the_name_of_its_parameter(run: Run, url: str) -> None:
    assert lines(run("call", url, "Desk.guess", "--answer", "ask=21")) == ["42"]
    result = run("call", url, "Desk.guess")
    assert result.exit_code == 1
    assert "--answer 'ask=JSON'" in result.stderr
    assert "failed_precondition" in result.stderr
    refused = run("call", url, "Desk.guess", "ask=21")
    assert refused.exit_code == 2
    assert "--answer 'ask=JSON'" in refused.stderr


def test_a_call_that_nobody_answers_is_unimplemented_and_says_what_to_write(
    run: Run, url: str
) -> None:
    result = run("call", url, "Desk.delete", "what=it")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "--answer 'Screen.confirm=JSON'" in result.stderr
    assert "unimplemented: there is no method 'Screen.confirm'" in result.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["Screen.confirm"], "has no '='"),
        (["Screen.confirm=yes"], "write --answer 'Screen.confirm=\"yes\"'"),
        (["Screen.confirm=1", "Screen.confirm=2"], "given twice"),
        (["Screen.keys=1", "Screen.keys[]=[2]"], "given twice"),
        (["Screen.keys[]"], "has no '='"),
        (["Screen.keys[]=1"], "an array: 'Screen.keys[]=[1, 2]'"),
        (["Screen.keys[]=yes"], "write --answer 'Screen.keys[]=[\"yes\"]'"),
    ],
)
def test_an_answer_that_is_none_is_wrong_usage(
    run: Run, url: str, words: list[str], says: str
) -> None:
    result = run("call", url, "Desk.guess", *[f"--answer={word}" for word in words])
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


def at_a_terminal(words: list[str], typed: list[bytes]) -> tuple[str, str, int]:
    """Run a command whose questions are answered at a terminal; gives stdout, the rest, its code."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *words],
        cwd=ROOT,
        stdin=follower,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.close(follower)
    assert process.stdout is not None
    assert process.stderr is not None
    shown = b""
    with os.fdopen(leader, "wb", buffering=0) as terminal, process.stderr, process.stdout:
        while data := os.read(process.stderr.fileno(), 4096):
            shown += data
            if typed and shown.endswith((b"as JSON: ", b"for the end: ")):
                terminal.write(typed.pop(0))
        answer = process.stdout.read().decode()
        return answer, shown.decode(), process.wait(PATIENCE)


def test_at_a_terminal_one_is_asked(url: str) -> None:
    answer, shown, code = at_a_terminal(
        ["call", url, "Desk.delete", "what=it"], [b"yes\n", b"true\n"]
    )
    assert (answer, code) == ('"deleted it"\n', 0)
    assert "Delete it?" in shown
    assert "that is not JSON" in shown


@pytest.mark.parametrize("end", [b"\n", b"\x04"])
def test_at_a_terminal_a_stream_can_be_typed(url: str, end: bytes) -> None:
    typed = [b"what\n", b"stream\n", b"1\n", b"no\n", b"null\n", end]
    answer, shown, code = at_a_terminal(["call", url, "Desk.watch"], typed)
    assert (answer, code) == ("[1, null]\n", 0)
    assert "stream gives items" in shown
    assert "item of Screen.keys, as JSON" in shown


def test_at_a_terminal_a_stream_that_the_server_leaves_is_asked_for_no_more(url: str) -> None:
    typed = [b"stream\n", b"1\n"]
    answer, _, code = at_a_terminal(["call", url, "Desk.watch", "most:=1"], typed)
    assert (answer, code) == ("[1]\n", 0)


def test_at_a_terminal_an_end_of_input_answers_nothing(url: str) -> None:
    _, shown, code = at_a_terminal(["call", url, "Desk.delete", "what=it"], [b"\x04"])
    assert code == 1
    assert "nobody answered" in shown


def test_at_a_terminal_what_is_given_is_not_asked_for(url: str) -> None:
    words = ["call", url, "Desk.delete", "what=it", "--answer", "Screen.confirm=true"]
    answer, shown, code = at_a_terminal(words, [])
    assert (answer, code) == ('"deleted it"\n', 0)
    assert "as JSON: " not in shown
