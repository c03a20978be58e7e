"""`wsrpc dev`, and what `wsrpc serve` can listen on."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import pytest
import trustme

import wsrpc

from .conftest import COMMAND, PATIENCE, ROOT, Run, lines, read_line, serving

APP = """
import wsrpc

class Shop:
    @wsrpc.method
    async def price(self) -> int:
        return {price}

server = wsrpc.Server([Shop()])
"""

PYPROJECT = '[tool.wsrpc]\napp = "shop:server"\n'


@contextmanager
def developing(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """`wsrpc dev` in a folder; gives the process, and the addresses that it prints."""
    process = subprocess.Popen(
        [*COMMAND, "dev", *words, "--port", "0"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        listening, page = read_line(process).split(), read_line(process).split()
        assert (listening[0], page[0]) == ("listening", "page"), (listening, page)
        yield process, listening[1], page[1]
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_dev_reloads_and_sessions_come_back_by_themselves(tmp_path: Path) -> None:
    file = tmp_path / "shop.py"
    file.write_text(APP.format(price=1))
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    codes: list[int | None] = []

    def on_state(session: wsrpc.Session, change: wsrpc.StateChange) -> None:
        if isinstance(change.error, wsrpc.ConnectionLost):
            codes.append(change.error.close_code)

    with developing(tmp_path) as (_, url, _), anyio.fail_after(60):
        async with wsrpc.connect(url, on_state=on_state) as session:
            shop = session.clientize("Shop", timeout=30)
            assert await shop.price() == 1
            # One that cannot be loaded is tried again at the next change.
            file.write_text("1 +\n")
            while not codes:
                await anyio.sleep(0.01)
            file.write_text(APP.format(price=2))
            while True:
                with suppress(wsrpc.RpcError):
                    if await shop.price() == 2:
                        break
                await anyio.sleep(0.05)
        assert codes[0] == 1012


@pytest.mark.slow
def test_dev_leaves_no_process_behind(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP.format(price=1))
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 0)):
        with developing(tmp_path, "shop:server") as (process, url, page):
            with urllib.request.urlopen(page, timeout=PATIENCE) as answer:
                assert b"explorer.js" in answer.read()
            process.send_signal(number)
            assert process.wait(PATIENCE) == code
            with pytest.raises(OSError):
                urllib.request.urlopen(url.replace("ws", "http", 1), timeout=1)


# ------------------------------------------------------------------------------------ what is named


def test_pyproject_names_the_application(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.wsrpc]\napp = "tests.cli.service:server"\n')
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    assert '"Desk"' in run("schema").stdout
    (tmp_path / "pyproject.toml").write_text("[tool.wsrpc]\napp = 3\n")
    result = run("serve")
    assert result.exit_code == 2
    assert "is text, 'module:object', not 3" in result.stderr
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    for command in ("serve", "schema", "dev"):
        result = run(command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "[tool.wsrpc] app = " in result.stderr
    (tmp_path / "pyproject.toml").write_text("[")
    assert "cannot be read" in run("serve").stderr


# ------------------------------------------------------------------------------------ where it listens


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Files with the authority's certificate, the server's, and the server's key."""
    folder = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    issued = ca.issue_cert("127.0.0.1", "localhost")
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    return folder / "ca.pem", folder / "cert.pem", folder / "key.pem"


@contextmanager
def serving_at(*words: str) -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, "-m", "wsrpc", "serve", "tests.cli.service:Desk", *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield read_line(process).split()[1]
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_serve_takes_tls(authority: tuple[Path, Path, Path]) -> None:
    ca, cert, key = authority
    with serving_at("--port=0", f"--tls-cert={cert}", f"--tls-key={key}") as url:
        assert url.startswith("wss://127.0.0.1:")
        context = ssl.create_default_context(cafile=str(ca))
        async with wsrpc.connect(url, ssl=context) as session:
            assert await session.clientize("Desk").greet(name="Ann") == "Hello, Ann!"


def test_serve_takes_a_unix_socket_and_a_transport(run: Run, tmp_path: Path) -> None:
    with serving_at(f"--unix={tmp_path / 's'}", "--transport=picows") as url:
        assert url == f"ws+unix://{tmp_path / 's'}"
        assert lines(run("call", url, "Desk.greet", "name=Ann")) == ['"Hello, Ann!"']


@pytest.mark.parametrize("what", ["Desk", "server"])
def test_serve_answers_metrics_where_it_is_told_to(what: str) -> None:
    with serving(f"tests.cli.service:{what}", "--metrics") as (_, url):
        at = url.replace("ws", "http", 1).rstrip("/") + "/metrics"
        with urllib.request.urlopen(at, timeout=PATIENCE) as answer:
            assert b"wsrpc_server_started_total" in answer.read()


def test_what_it_cannot_listen_with_is_named(
    run: Run, tmp_path: Path, authority: tuple[Path, Path, Path]
) -> None:
    _, cert, key = authority
    desk = "tests.cli.service:Desk"
    mistakes = [
        (["--tls-key", str(key)], "--tls-key needs --tls-cert"),
        (["--tls-cert", str(cert)], "add --tls-key"),
        (["--tls-cert", str(tmp_path / "none.pem")], "No such file"),
    ]
    for words, says in mistakes:
        result = run("serve", desk, "--port=0", *words)
        assert (result.exit_code, result.stdout) == (2, ""), result.stderr
        assert says in result.stderr
