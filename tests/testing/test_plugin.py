"""The pytest plugin, in runs of pytest of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

SHOP = """
from collections.abc import AsyncIterator
import anyio, wsrpc

class Shop:
    def __init__(self):
        self.left = []

    @wsrpc.method
    async def order(self, what: str) -> str:
        return f"one {what}"

    @wsrpc.method
    async def wait(self, seconds: float) -> float:
        try:
            await anyio.sleep(seconds)
        finally:
            self.left.append(seconds)
        return seconds

shop = Shop()
server = wsrpc.Server([shop])
"""

CONFTEST = """
import pytest, wsrpc
from shop import Shop

async def authenticate(handshake, auth):
    if auth is None:
        raise wsrpc.RpcError("unauthenticated", "say who you are")
    return auth

@pytest.fixture
def shop():
    return Shop()

@pytest.fixture
def wsrpc_server(shop):
    return wsrpc.Server([shop], authenticate=authenticate)

@pytest.fixture
def wsrpc_client_options():
    return {"auth": "ann", "codec": "msgpack"}
"""

TESTS = """
import anyio, pytest, wsrpc
from shop import Shop
{mark}

async def test_a_client(wsrpc_client, wsrpc_host, wsrpc_calls):
    assert await wsrpc_client.clientize(Shop).order("tea") == "one tea"
    assert [one.principal for one in wsrpc_host.sessions.values()] == ["ann"]
    await wsrpc_host.settled()
    assert wsrpc_calls.codes("Shop.order") == ["ok"]

async def test_more_clients(wsrpc_host):
    async with wsrpc_host.connect(auth="bob") as bob:
        assert await bob.clientize(Shop).order("tea") == "one tea"
        assert wsrpc_host.server.revoke("bob") == 1
    with pytest.raises(wsrpc.ConnectError, match="say who you are"):
        async with wsrpc_host.connect():
            pass

async def test_a_real_port(wsrpc_url, wsrpc_calls):
    assert wsrpc_url.startswith("ws://127.0.0.1:")
    async with wsrpc.connect(wsrpc_url, auth="ann") as session:
        assert await session.clientize(Shop).order("tea") == "one tea"
    assert [one.principal for one in await wsrpc_calls.ended("Shop.order")] == ["ann"]

async def test_both_at_a_time(wsrpc_url, wsrpc_client, wsrpc_calls):
    async with wsrpc.connect(wsrpc_url, auth="ann") as session:
        await session.clientize(Shop).order("tea")
    await wsrpc_client.clientize(Shop).order("tea")
    assert len(await wsrpc_calls.ended("Shop.order", 2)) == 2

async def test_faults(wsrpc_client, wsrpc_faults):
    wsrpc_faults.cut(before="result")
    assert await wsrpc_client.clientize(Shop).order("tea") == "one tea"
    assert wsrpc_faults.cuts == 1

async def test_cleanup(wsrpc_client, wsrpc_host, shop):
    with pytest.raises(wsrpc.DeadlineExceeded):
        await wsrpc_client.clientize(Shop, timeout=0.05).wait(60)
    await wsrpc_host.settled()
    assert shop.left == [60]
"""

VIRTUAL = """
import anyio, pytest
from shop import Shop

@pytest.fixture
def anyio_backend(wsrpc_virtual_time):
    return wsrpc_virtual_time

async def test_an_hour(wsrpc_client):
    begin = anyio.current_time()
    assert await wsrpc_client.clientize(Shop, timeout=None).wait(3600) == 3600
    assert 3600 <= anyio.current_time() - begin < 3601
"""


def project(folder: Path, **files: str) -> None:
    (folder / "shop.py").write_text(SHOP)
    for name, text in files.items():
        name = name.replace("_toml", ".toml") if name.endswith("_toml") else f"{name}.py"
        (folder / name).write_text(text)


def pytest_in(
    folder: Path, *words: str, python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    """Run pytest with nothing loaded but what is named."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    return subprocess.run(
        [python, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", "-p", "wsrpc_pytest"]
        + list(words),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


ANYIO = ("-p", "anyio.pytest_plugin")


def test_it_works_with_anyios_plugin(tmp_path: Path) -> None:
    marked = TESTS.format(mark="pytestmark = pytest.mark.anyio")
    project(tmp_path, conftest=CONFTEST, test_shop=marked)
    done = pytest_in(tmp_path, *ANYIO)
    assert "12 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_it_works_in_anyios_auto_mode_and_in_virtual_time(tmp_path: Path) -> None:
    project(tmp_path, conftest=CONFTEST, test_hour=VIRTUAL)
    done = pytest_in(tmp_path, *ANYIO, "-o", "anyio_mode=auto")
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.fixture(scope="session")
def pytest_asyncio_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pytest-asyncio in a folder of its own, since no other test may see it."""
    folder = tmp_path_factory.mktemp("pytest_asyncio")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    try:
        done = subprocess.run(
            [*install, "--target", str(folder), "pytest-asyncio>=1.4"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"pytest-asyncio cannot be installed for this test: {error}")
    if done.returncode:
        pytest.skip(f"pytest-asyncio cannot be installed for this test: {done.stderr[-300:]}")
    return folder


def on_pytest_asyncio(folder: Path, where: Path, mode: str) -> str:
    """What a run of pytest says that has pytest-asyncio as well."""
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.path.append({str(where)!r})\n")
    options = ("-o", f"asyncio_mode={mode}", "-o", "asyncio_default_fixture_loop_scope=function")
    done = pytest_in(folder, "-p", "pytest_asyncio.plugin", *options, *ANYIO)
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_it_works_with_pytest_asyncio(
    tmp_path: Path, pytest_asyncio_folder: Path, mode: str
) -> None:
    mark = "pytestmark = pytest.mark.asyncio" if mode == "strict" else ""
    project(tmp_path, conftest=CONFTEST, test_shop=TESTS.format(mark=mark))
    said = on_pytest_asyncio(tmp_path, pytest_asyncio_folder, mode)
    assert "6 passed" in said, said


@pytest.mark.slow
def test_virtual_time_works_with_pytest_asyncio(
    tmp_path: Path, pytest_asyncio_folder: Path
) -> None:
    loops = """
import wsrpc.testing

def pytest_asyncio_loop_factories(config, item):
    return {"virtual time": wsrpc.testing.VirtualTimeLoop}
"""
    hour = VIRTUAL[VIRTUAL.index("async def test_an_hour") :]
    hour = f"import anyio\nfrom shop import Shop\n\n{hour}"
    project(tmp_path, conftest=CONFTEST + loops, test_hour=hour)
    said = on_pytest_asyncio(tmp_path, pytest_asyncio_folder, "auto")
    assert "1 passed" in said, said


@pytest.mark.slow
def test_anyios_tests_and_those_of_pytest_asyncio_live_side_by_side(
    tmp_path: Path, pytest_asyncio_folder: Path
) -> None:
    project(
        tmp_path,
        conftest=CONFTEST,
        test_one=TESTS.format(mark="pytestmark = pytest.mark.asyncio"),
        test_two=TESTS.format(mark="pytestmark = pytest.mark.anyio"),
    )
    said = on_pytest_asyncio(tmp_path, pytest_asyncio_folder, "strict")
    assert "18 passed" in said, said


@pytest.mark.slow
def test_a_test_that_both_plugins_take_fails_with_the_reason(
    tmp_path: Path, pytest_asyncio_folder: Path
) -> None:
    mark = "pytestmark = pytest.mark.anyio"
    project(tmp_path, conftest=CONFTEST, test_shop=TESTS.format(mark=mark))
    said = on_pytest_asyncio(tmp_path, pytest_asyncio_folder, "auto")
    assert "both anyio's plugin and pytest-asyncio take it" in said, said
    assert "passed" not in said


def test_pyproject_names_the_server(tmp_path: Path) -> None:
    project(
        tmp_path,
        pyproject_toml='[tool.wsrpc]\napp = "shop:server"\n[tool.pytest.ini_options]\n',
        test_shop="""
import pytest
from shop import Shop

@pytest.mark.anyio
async def test_it(wsrpc_client):
    assert await wsrpc_client.clientize(Shop).order("tea") == "one tea"
""",
    )
    done = pytest_in(tmp_path, *ANYIO)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_it_says_what_is_missing(tmp_path: Path) -> None:
    project(
        tmp_path,
        test_shop="""
def test_a_server(wsrpc_server): ...
def test_a_loop(wsrpc_host): ...
""",
    )
    done = pytest_in(tmp_path)
    assert "Write a fixture wsrpc_server" in done.stdout
    assert "[tool.wsrpc] app = 'module:object'" in done.stdout
    assert "wsrpc_host needs an event loop" in done.stdout


def test_it_imports_nothing_but_pytest_until_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text(
        """
import sys

def test_nothing():
    for name in ("wsrpc", "anyio", "asyncio", "pydantic", "websockets", "msgspec", "trio"):
        assert name not in sys.modules, name
"""
    )
    done = pytest_in(tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
