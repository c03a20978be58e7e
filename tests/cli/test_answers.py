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
            if typed and shown.endswith(b"as JSON: "):
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


def test_at_a_terminal_an_end_of_input_answers_nothing(url: str) -> None:
    _, shown, code = at_a_terminal(["call", url, "Desk.delete", "what=it"], [b"\x04"])
    assert code == 1
    assert "nobody answered" in shown


def test_at_a_terminal_what_is_given_is_not_asked_for(url: str) -> None:
    words = ["call", url, "Desk.delete", "what=it", "--answer", "Screen.confirm=true"]
    answer, shown, code = at_a_terminal(words, [])
    assert (answer, code) == ('"deleted it"\n', 0)
    assert "as JSON: " not in shown
