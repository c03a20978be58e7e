"""`wsrpc gen`: where contracts come from, where code goes, what the exit codes say."""

from __future__ import annotations

from pathlib import Path

from typer.testing import Result

from .conftest import Run


def exits(code: int, result: Result) -> Result:
    assert result.exit_code == code, result.stderr
    return result


def test_typescript_and_python_come_from_a_module_a_url_and_a_file(
    url: str, run: Run, tmp_path: Path
) -> None:
    schema = tmp_path / "api.json"
    schema.write_text(run("schema", url).stdout)
    for language in ("ts", "py"):
        texts = {
            run("gen", language, source).stdout
            for source in (url, "tests.cli.service:server", str(schema))
        }
        assert len(texts) == 1
        assert "Made by `wsrpc gen" in texts.pop()


def test_check_writes_nothing_and_says_by_its_exit_code_whether_a_file_is_up_to_date(
    run: Run, tmp_path: Path
) -> None:
    out = str(tmp_path / "api.ts")
    command = ("gen", "ts", "tests.cli.service:server", "-o", out)
    done = exits(1, run(*command, "--check"))
    assert "@@" in done.stderr
    assert not Path(out).exists()
    run(*command)
    text = Path(out).read_bytes()
    Path(out).write_bytes(text.replace(b"\n", b"\r\n"))
    assert run(*command, "--check").stderr == ""
    Path(out).write_bytes(text + b"// mine\n")
    assert "-// mine" in exits(1, run(*command, "--check")).stderr


def test_a_diff_of_a_hostile_file_sends_no_escapes_to_the_terminal(
    run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "api.ts"
    out.write_text("\x1b[2J\n")
    done = exits(1, run("gen", "ts", "tests.cli.service:server", "-o", str(out), "--check"))
    assert "\x1b[2J" not in done.stderr


def test_a_contract_that_is_none_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"controllers": {"A": {"methods": {"a b": {"kind": "unary"}}}}}')
    assert "is no identifier" in exits(2, run("gen", "ts", str(broken))).stderr
    broken.write_text("[")
    assert "is no JSON" in exits(2, run("gen", "py", str(broken))).stderr
    assert "cannot be read" in exits(2, run("gen", "py", str(tmp_path / "gone.json"))).stderr


def test_check_without_a_file_is_wrong_usage(run: Run) -> None:
    done = exits(2, run("gen", "py", "tests.cli.service:server", "--check"))
    assert "name it with -o" in done.stderr
