"""`wsrpc call`: files as arguments, certificates, and what -v says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from .conftest import Run, lines
from .test_dev import authority, serving_at

__all__ = ["authority"]


def test_an_argument_may_be_a_file(run: Run, url: str, tmp_path: Path) -> None:
    (tmp_path / "name.txt").write_text("Ann @ home = here")
    (tmp_path / "name.json").write_text('"Bob"')
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    assert lines(run("call", url, "Desk.greet", f"name@{tmp_path / 'name.txt'}")) == [
        '"Hello, Ann @ home = here!"'
    ]
    assert lines(run("call", url, "Desk.greet", f"name:@{tmp_path / 'name.json'}")) == [
        '"Hello, Bob!"'
    ]
    assert lines(run("call", url, "Desk.greet", "name=a@b")) == ['"Hello, a@b!"']
    for file, says in (("photo.jpg", "no text in UTF-8"), ("none.txt", "No such file")):
        result = run("call", url, "Desk.greet", f"name@{tmp_path / file}")
        assert (result.exit_code, result.stdout) == (2, "")
        assert says in result.stderr


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_a_file_is_bytes_where_the_parameter_takes_bytes(
    run: Run, url: str, silent_url: str, tmp_path: Path, codec: str
) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\x00")
    (tmp_path / "text").write_bytes(b"abcd")
    codec = f"--codec={codec}"
    assert lines(run("call", url, "Desk.size", f"data@{tmp_path / 'photo.jpg'}", codec)) == ["3"]
    # Text that is base64 as well is not taken for it.
    assert lines(run("call", url, "Desk.size", f"data@{tmp_path / 'text'}", codec)) == ["4"]
    assert lines(run("call", url, "Desk.size", "data=_9gA", codec)) == ["3"]
    assert lines(run("call", silent_url, "Desk.size", f"data@{tmp_path / 'photo.jpg'}", codec)) == [
        "3"
    ]
    assert run("call", url, "Desk.size", "data=no base64!", codec).exit_code == 1


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_a_file_may_feed_an_upload(run: Run, url: str, tmp_path: Path, codec: str) -> None:
    (tmp_path / "lines").write_text('"a"\n\n"b"\n')
    (tmp_path / "bytes").write_bytes(bytes(100_000))
    codec = f"--codec={codec}"
    assert lines(run("call", url, "Desk.upper", f"lines@{tmp_path / 'lines'}", codec)) == [
        '"A"',
        '"B"',
    ]
    raw = run("call", url, "Desk.upper", f"lines@{tmp_path / 'lines'}", "--raw-input", codec)
    assert lines(raw) == [r'"\"A\""', '""', r'"\"B\""']
    sizes = json.loads(run("call", url, "Desk.sizes", f"pieces@{tmp_path / 'bytes'}", codec).stdout)
    assert sum(sizes) == 100_000
    (tmp_path / "lines").write_text("1 +")
    result = run("call", url, "Desk.count", f"lines@{tmp_path / 'lines'}", codec)
    assert result.exit_code == 2
    assert "lines, line 1 is not JSON" in result.stderr


def test_verbose_says_how_long_it_took_and_what_went(run: Run, url: str) -> None:
    result = run("call", url, "Desk.greet", "name=Ann", "-v", "--metadata", "trace=7")
    assert lines(result) == ['"Hello, Ann!"']
    assert re.search(r"\* connected to wsrpc\S* in [\d.]+ ms, session \w+", result.stderr)
    assert re.search(r'> call 3 "Desk.greet" {"name": "Ann"} {.*"trace": "7".*bytes', result.stderr)
    assert re.search(r'< result 3 "Hello, Ann!" \(\d+ bytes\)', result.stderr)
    assert re.search(r"> close 1000\n\* \d+ bytes sent, \d+ received", result.stderr)
    assert re.search(
        r'\* Desk.greet \(unary, outbound\) begins, metadata {"trace": "7"}', result.stderr
    )
    assert re.search(r"\* Desk.greet ended: ok, [\d.]+ ms", result.stderr)
    assert "-v" not in run("call", url, "Desk.greet", "name=Ann").stderr


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_verbose_shows_no_credentials(run: Run, url: str, codec: str) -> None:
    words = ("-v", "--auth", "open sesame", "--codec", codec)
    result = run("call", url, "Desk.greet", "name=Ann", *words)
    assert result.exit_code == 0
    assert '"auth": "***"' in result.stderr
    assert '"token": "***"' in result.stderr
    assert "sesame" not in result.stderr


def test_a_certificate_is_checked_with_an_authority_or_not_at_all(
    run: Run, authority: tuple[Path, Path, Path]
) -> None:
    ca, cert, key = authority
    with serving_at("--port=0", f"--tls-cert={cert}", f"--tls-key={key}") as url:
        call = ("call", url, "Desk.greet", "name=Ann")
        refused = run(*call)
        assert refused.exit_code == 3
        assert "TLS failed" in refused.stderr
        assert "--cacert FILE trusts that authority" in refused.stderr
        assert lines(run(*call, f"--cacert={ca}")) == ['"Hello, Ann!"']
        assert lines(run(*call, "--insecure")) == ['"Hello, Ann!"']
        assert "Desk.greet" in run("ls", url, f"--cacert={ca}").stdout
        assert run("health", url, f"--cacert={ca}").exit_code == 0
        assert run("health", url, "--insecure").exit_code == 0
        assert run("health", url).exit_code == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ws://127.0.0.1:1", "--insecure"], "--insecure is for wss://"),
        (["wss://127.0.0.1:1", "--cacert=none.pem"], "--cacert none.pem cannot be used"),
        (["wss://127.0.0.1:1", "--cacert=none.pem", "--insecure"], "leave one"),
    ],
)
def test_certificates_that_cannot_be_meant(run: Run, words: list[str], says: str) -> None:
    url, *options = words
    result = run("call", url, "Desk.greet", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
