"""`wsrpc serve` and `schema`: what can be named, and what is said when it cannot."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from .conftest import PATIENCE, Run, lines, read_line, serving, start


@pytest.mark.parametrize("name", ["desk", "Desk", "everything", "server", "desk.__class__"])
def test_servers_controllers_classes_and_lists_can_be_named(run: Run, name: str) -> None:
    contract = json.loads(run("schema", f"tests.cli.service:{name}").stdout)
    assert list(contract["controllers"]) == ["Desk"]


def test_a_class_can_be_served(run: Run) -> None:
    with serving("tests.cli.service:Desk") as (_, url):
        assert lines(run("call", url, "Desk.greet", "name=Ann")) == ['"Hello, Ann!"']


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("tests.cli.service", "write for instance app:server"),
        ("tests/cli/service.py:server", "did you mean tests.cli.service:server?"),
        ("tests.cli.servic:server", "there is no module 'tests.cli.servic'"),
        ("tests.cli.service:sever", "did you mean server"),
        ("tests.cli:service", "is a module"),
        ("tests.cli.service:number", "cannot be served"),
        ("tests.cli.service:authenticate", "cannot be served"),
    ],
)
def test_what_cannot_be_served(run: Run, spec: str, says: str) -> None:
    for command in ("schema", "serve"):
        result = run(command, spec)
        assert (result.exit_code, result.stdout) == (2, "")
        assert says in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("source", "error", "place"),
    [
        ("import math\nmath.sqrt(-1)\n", "ValueError", "broken_app.py:2"),
        ("import math\nmath.sqrt((\n", "SyntaxError", "broken_app.py, line 2"),
        ("import math\n  x = 1\n", "IndentationError", "broken_app.py, line 2"),
        ("import math\nimport no_such_module_at_all\n", "ModuleNotFoundError", "broken_app.py:2"),
        ("import math\nfrom math import no_such\n", "ImportError", "broken_app.py:2"),
    ],
)
def test_a_module_that_fails_is_blamed_by_file_and_line(
    source: str,
    error: str,
    place: str,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "broken_app.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    result = run("serve", "broken_app:server")
    assert result.exit_code == 2
    assert f"importing broken_app failed: {error}" in result.stderr
    assert place in result.stderr
    assert "loading.py" not in result.stderr


def test_a_port_that_is_taken_exits_3(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("serve", "tests.cli.service:server", "--port", str(port))
    assert (result.exit_code, result.stdout) == (3, "")
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in result.stderr


@pytest.mark.parametrize("option", ["--origin=https://app.example", "--trusted-proxy=10.0.0.0/8"])
def test_a_server_says_itself_who_may_connect(run: Run, option: str) -> None:
    result = run("serve", "tests.cli.service:server", option)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is a Server, which says itself who may connect" in result.stderr


@pytest.mark.parametrize("option", ["--origin=app.example", "--trusted-proxy=proxy"])
def test_an_origin_or_a_proxy_that_is_none_is_wrong_usage(run: Run, option: str) -> None:
    result = run("serve", "tests.cli.service:Desk", option)
    assert (result.exit_code, result.stdout) == (2, "")
    assert option.partition("=")[2] in result.stderr


def test_a_page_of_another_origin_may_connect_where_that_is_said(run: Run) -> None:
    page = "--header=Origin: https://app.example"
    with serving("tests.cli.service:Desk", "--origin", "https://app.example") as (_, url):
        assert lines(run("call", url, "Desk.greet", "name=Ann", page)) == ['"Hello, Ann!"']
        result = run("call", url, "Desk.greet", "name=Ann", "--header=Origin: https://b.example")
        assert result.exit_code == 3
        assert "403" in result.stderr


def test_the_explorer_is_announced_unless_it_is_turned_off() -> None:
    with serving("tests.cli.service:Desk") as (process, url):
        with urllib.request.urlopen(url.replace("ws", "http", 1), timeout=PATIENCE) as page:
            assert page.status == 200
        process.terminate()
        _, said = process.communicate(timeout=PATIENCE)
        assert f"explorer {url.replace('ws', 'http', 1).rstrip('/')}/\n" in said
    with serving("tests.cli.service:Desk", "--no-explorer") as (process, url):
        with pytest.raises(urllib.error.HTTPError, match="426") as caught:
            urllib.request.urlopen(url.replace("ws", "http", 1), timeout=PATIENCE)
        caught.value.close()
        process.terminate()
        _, said = process.communicate(timeout=PATIENCE)
        assert "explorer" not in said


def test_a_server_says_itself_whether_it_has_an_explorer(run: Run) -> None:
    done = run("serve", "tests.cli.service:server", "--no-explorer")
    assert done.exit_code == 2
    assert "explorer=False" in done.stderr


def test_serve_writes_json_log_lines_that_carry_the_fields(run: Run) -> None:
    words = ("--access-log", "--log-format", "json", "--log-level", "info")
    with start("serve", "tests.cli.service:server", *words, "--port", "0") as process:
        line = read_line(process)
        url = line.split()[1]
        assert run("call", url, "Desk.greet", "name=Ann").exit_code == 0
        assert run("call", url, "Desk.boom").exit_code == 1
        process.terminate()
        _, said = process.communicate(timeout=PATIENCE)
    told = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    calls = {one["method"]: one for one in told if one["logger"] == "wsrpc.access"}
    assert calls["Desk.greet"]["code"] == "ok"
    assert calls["Desk.greet"]["peer"].startswith("127.0.0.1:")
    assert calls["Desk.greet"]["level"] == "INFO"
    (failure,) = [one for one in told if one["level"] == "ERROR"]
    assert failure["error_id"] == calls["Desk.boom"]["error_id"]
    assert failure["session"] == calls["Desk.boom"]["session"]
    assert "Traceback" in failure["traceback"]


def test_serve_writes_one_escaped_line_a_record(run: Run) -> None:
    with start("serve", "tests.cli.service:server", "--access-log", "--port", "0") as process:
        url = read_line(process).split()[1]
        assert run("call", url, "Desk.greet", "name=Ann").exit_code == 0
        assert run("call", url, "Desk.boom").exit_code == 1
        process.terminate()
        _, said = process.communicate(timeout=PATIENCE)
    lines = said.splitlines()
    assert len([line for line in lines if " wsrpc.access INFO " in line]) >= 2
    (failure,) = [line for line in lines if " wsrpc ERROR " in line]
    assert "Traceback (most recent call last):\\n" in failure


def test_a_clusters_name_without_its_nats_is_refused(run: Run) -> None:
    result = run("serve", "tests.cli.service:Desk", "--cluster-name", "prod")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--cluster-name needs --cluster nats://" in result.stderr


def test_a_server_that_its_application_made_a_node_is_not_made_one_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "node_app.py").write_text(
        "import wsrpc\n"
        "from wsrpc.cluster import Cluster\n"
        "server = wsrpc.Server([])\n"
        "cluster = Cluster(server)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    result = run("serve", "node_app:server", "--cluster", "nats://127.0.0.1:1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "the application has done so" in result.stderr
