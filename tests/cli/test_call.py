"""`wsrpc call`: results alone on stdout, everything else on stderr, and the right exit code."""

from __future__ import annotations

import json
import os
import pty
import subprocess

import pytest

from .conftest import COMMAND, PATIENCE, ROOT, Run, command, lines, read_line, start


def test_a_value_goes_to_stdout_as_json(url: str) -> None:
    done = command("call", url, "Desk.greet", "name=Ann Ö", "times:=2")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == "Hello, Ann Ö! Hello, Ann Ö!"


def test_text_is_text_and_json_is_json(url: str, run: Run) -> None:
    assert lines(run("call", url, "Desk.greet", "name=7")) == ['"Hello, 7!"']
    assert lines(run("call", url, "Desk.greet", "name=a=b")) == ['"Hello, a=b!"']
    assert lines(run("call", url, "Desk.greet", 'name:="x"')) == ['"Hello, x!"']
    refused = run("call", url, "Desk.greet", "name:=7")
    assert (refused.exit_code, refused.stdout) == (1, "")


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_a_stream_prints_an_item_a_line_and_its_final_value_on_stderr(
    url: str, run: Run, codec: str
) -> None:
    result = run("call", url, "Desk.tokens", "hello=world", "--codec", codec)
    assert [json.loads(line) for line in lines(result)] == [
        {"message": "Hello", "index": 0},
        {"message": ", ", "index": 1},
        {"message": "world", "index": 2},
    ]
    assert (result.exit_code, result.stderr) == (0, "final: 3\n")


def test_items_are_written_as_they_come(url: str) -> None:
    with start("call", url, "Desk.ticks", "name=as they come") as process:
        try:
            assert [read_line(process) for _ in range(3)] == ["0\n", "1\n", "2\n"]
            assert process.poll() is None
        finally:
            process.kill()


def test_bytes_are_base64url_in_either_codec(url: str, run: Run) -> None:
    for codec in ("json", "msgpack"):
        assert lines(run("call", url, "Desk.blob", "--codec", codec)) == ['"AP8="']


def test_standard_input_feeds_the_only_upload(url: str) -> None:
    done = command("call", url, "Desk.upper", stdin='"a"\n\n"b"\r\n"c"')
    assert (done.returncode, done.stdout) == (0, '"A"\n"B"\n"C"\n')


@pytest.mark.parametrize("word", ["lines=-", "lines:=-"])
def test_standard_input_can_be_named(url: str, run: Run, word: str) -> None:
    assert lines(run("call", url, "Desk.maybe", word, stdin='"a"\n"b"\n')) == ['"a,b"']


def test_an_optional_upload_is_not_read_unless_named(url: str, run: Run) -> None:
    assert lines(run("call", url, "Desk.maybe", stdin='"a"\n')) == ['"nothing"']


def test_two_uploads(url: str, run: Run) -> None:
    result = run("call", url, "Desk.both", "left:=-", "right:=[3]", stdin="1\n2\n")
    assert lines(result) == ["[[1, 2], [3]]"]
    twice = run("call", url, "Desk.both", "left:=-", "right:=-", stdin="1\n")
    assert (twice.exit_code, twice.stdout) == (2, "")


def test_lines_of_text_as_items(url: str, run: Run) -> None:
    result = run("call", url, "Desk.upper", "-R", stdin='say "a"\n\n')
    assert [json.loads(line) for line in lines(result)] == ['SAY "A"', ""]


def test_a_bad_line_of_input_is_named(url: str, run: Run) -> None:
    result = run("call", url, "Desk.count", stdin='"a"\n{oops\n')
    assert (result.exit_code, result.stdout) == (2, "")
    assert "standard input, line 2 is not JSON" in result.stderr


def test_a_callee_that_has_enough_does_not_wait_for_more_input(url: str) -> None:
    with start("call", url, "Desk.first", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write("7\n")
        process.stdin.flush()
        assert read_line(process) == "7\n"
        assert process.wait(PATIENCE) == 0


def test_callbacks_are_shown_on_stderr(url: str, run: Run) -> None:
    result = run("call", url, "Desk.build", "target=docs")
    assert lines(result) == ['"built docs"']
    assert result.stderr.splitlines() == [
        f'on_step: {number}, {{"message": "docs", "index": null}}' for number in range(2)
    ]


def test_a_notification_prints_nothing(url: str, run: Run) -> None:
    result = run("call", url, "Desk.log", "line=noted")
    assert (result.exit_code, result.output) == (0, "")
    assert lines(run("call", url, "Desk.fate", "name=log")) == ['"noted"']


def test_a_remote_error_exits_1_and_cannot_steer_the_terminal(url: str) -> None:
    done = command("call", url, "Desk.fail")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        r"wsrpc: not_found: no such thing\u001b[2J",
        'data: {"tried": [1, 2]}',
    ]


def test_an_error_midway_leaves_the_items_before_it(url: str, run: Run) -> None:
    result = run("call", url, "Desk.fail_midway")
    assert (result.exit_code, lines(result)) == (1, ["0", "1"])
    assert result.stderr == "wsrpc: aborted: enough\n"


def test_an_unexpected_error_gives_its_id_only(url: str, run: Run) -> None:
    result = run("call", url, "Desk.boom")
    assert result.exit_code == 1
    assert "error id" in result.stderr
    assert "secret" not in result.output


def test_refused_arguments_are_listed_with_what_to_write(url: str, run: Run) -> None:
    result = run("call", url, "Desk.greet", "name=Ann", "times=often")
    assert result.exit_code == 1
    assert "  times: Input should be a valid integer" in result.stderr
    assert "times=often is text; times:=… takes JSON" in result.stderr


def test_a_timeout(url: str, run: Run) -> None:
    result = run("call", url, "Desk.nap", "name=timeout", "--timeout", "0.1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("wsrpc: deadline_exceeded: ")


def test_auth_metadata_and_headers_travel(url: str, run: Run) -> None:
    options = ["--metadata", "trace=a=b", "--header", "X-Team: blue"]
    result = run("call", url, "Desk.whoami", *options, "--auth", '{"token": 7}')
    assert json.loads(result.stdout) == {
        "principal": {"token": 7},
        "metadata": {"trace": "a=b"},
        "header": "blue",
    }
    assert json.loads(run("call", url, "Desk.whoami", "--auth", "77").stdout)["principal"] == "77"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["Desk.gret", "name=Ann"], "controller 'Desk' has no method 'gret'; did you mean greet?"),
        (["Dest.greet", "name=Ann"], "no controller 'Dest'; did you mean Desk?"),
        (["greet", "name=Ann"], "write Controller.method; did you mean Desk.greet?"),
        (["Desk.greet", "nam=Ann"], "no argument 'nam'; did you mean name?"),
        (["Desk.blob", "x=1"], "no argument 'x'; it takes none"),
        (["Desk.greet"], "Desk.greet needs 'name': add name=…"),
        (["Desk.greet", "name"], "'name' is no argument"),
        (["Desk.greet", "name=a", "name=b"], "'name' is given twice"),
        (["Desk.greet", "name:=Ann"], "for text write name=Ann"),
        (["Desk.greet", "name:=NaN"], "NaN is not JSON"),
        (["Desk.count", "lines=a"], "lines:=- for standard input"),
        (["Desk.build", "target=a", "on_step=b"], "'on_step' is a callback"),
        (["Desk.greet", "name=a", "--metadata", "x"], "--metadata 'key=value'"),
        (["Desk.greet", "name=a", "--auth", "{x"], "--auth looks like JSON and is not"),
    ],
)
def test_wrong_usage_exits_2_before_anything_is_sent(
    url: str, run: Run, words: list[str], says: str
) -> None:
    result = run("call", url, *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:8765", "write ws://localhost:8765"),
        ("http://localhost:8765", "did you mean ws://localhost:8765?"),
        ("ws://", "write ws://localhost:8765"),
    ],
)
def test_what_is_no_url_is_wrong_usage(run: Run, url: str, says: str) -> None:
    result = run("ls", url)
    assert result.exit_code == 2
    assert says in result.stderr


def test_nobody_there_exits_3() -> None:
    done = command("call", "ws://127.0.0.1:1", "Desk.greet", "name=Ann")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "wsrpc: cannot connect to ws://127.0.0.1:1: Connection refused\n"


def test_refused_credentials_exit_3(url: str, run: Run) -> None:
    result = run("ls", url, "--auth", "wrong")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "credentials" in result.stderr


def test_debug_shows_the_traceback(url: str) -> None:
    done = command("call", url, "Desk.fail", "--debug")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr


def test_without_reflection_values_and_streams_are_called_untyped(
    silent_url: str, run: Run
) -> None:
    assert lines(run("call", silent_url, "Desk.greet", "name=Ann")) == ['"Hello, Ann!"']
    stream = run("call", silent_url, "Desk.tokens", "hello=x")
    assert len(lines(stream)) == 3
    assert stream.stderr == "final: 3\n"
    assert lines(run("call", silent_url, "Desk.count", "lines:=-", stdin='"a"\n')) == ["1"]


def test_without_reflection_the_server_names_near_methods(silent_url: str, run: Run) -> None:
    result = run("call", silent_url, "Desk.gret", "name=Ann")
    assert result.exit_code == 1
    assert "did you mean Desk.greet" in result.stderr


def test_a_reader_that_has_enough_ends_the_stream_quietly(url: str) -> None:
    process = start("call", url, "Desk.flood")
    assert process.stdout is not None
    assert len(read_line(process)) == 1003
    process.stdout.close()
    assert process.wait(PATIENCE) == 0
    assert process.stderr is not None
    with process.stderr as stderr:
        assert stderr.read() == ""


def test_on_a_terminal_a_value_is_indented_and_coloured(url: str) -> None:
    leader, follower = pty.openpty()
    with os.fdopen(leader, "rb") as terminal:
        process = subprocess.Popen(
            [*COMMAND, "call", url, "Desk.whoami"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=follower,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        os.close(follower)
        assert process.wait(PATIENCE) == 0
        shown = os.read(terminal.fileno(), 65536).decode()
    assert "\x1b[" in shown
    assert len(shown.splitlines()) > 3
