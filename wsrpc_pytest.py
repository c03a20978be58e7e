"""Fixtures for tests of programs that use wsrpc; loaded by pytest where wsrpc is installed.

Name the server once, in `conftest.py` or in `pyproject.toml` (`[tool.wsrpc] app`)::

    @pytest.fixture
    def wsrpc_server():
        return wsrpc.Server([Shop()], authenticate=authenticate)

and use a fixture in a test::

    async def test_an_order(wsrpc_client):
        assert await wsrpc_client.clientize(Shop).order("tea") == "one tea"

The async fixtures work with the plugin of anyio, on asyncio and trio, and with pytest-asyncio.
Only pytest is imported until a test uses one of them.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import wsrpc
    import wsrpc.testing

__all__ = [
    "wsrpc_calls",
    "wsrpc_client",
    "wsrpc_client_options",
    "wsrpc_faults",
    "wsrpc_host",
    "wsrpc_server",
    "wsrpc_url",
    "wsrpc_virtual_time",
]

NO_SERVER = (
    "wsrpc does not know which server to test. Write a fixture wsrpc_server that returns a "
    "wsrpc.Server, or name one in pyproject.toml: [tool.wsrpc] app = 'module:object'"
)


@pytest.fixture
def wsrpc_server(request: pytest.FixtureRequest) -> wsrpc.Server:
    """The server that the other fixtures run; override it.

    Otherwise it is the object that `[tool.wsrpc] app = "module:object"` in pyproject.toml names.
    """
    app = _app_of(request.config.rootpath)
    if app is None:
        pytest.fail(NO_SERVER, pytrace=False)
    return _server_named(app, request.config.rootpath)


@pytest.fixture
def wsrpc_client_options() -> dict[str, Any]:
    """The options of `wsrpc_client`, as `host.connect` takes them: auth, controllers, codec, …"""
    return {}


@pytest.fixture
def wsrpc_faults() -> wsrpc.testing.Faults:
    """The faults of `wsrpc_client`'s connection: cut, stall, delay, mend."""
    from wsrpc.testing import Faults

    return Faults()


@pytest.fixture
def wsrpc_calls() -> wsrpc.testing.Recorder:
    """Every call of `wsrpc_server`, of `wsrpc_host` and its clients, for assertions."""
    from wsrpc.testing import Recorder

    return Recorder()


@pytest.fixture(params=["asyncio", *(["trio"] if find_spec("trio") else [])])
def wsrpc_virtual_time(request: pytest.FixtureRequest) -> Any:
    """Event loops on which waits take no time: return it from a fixture `anyio_backend`."""
    from wsrpc.testing import virtual_time

    return virtual_time(request.param)


@pytest.fixture
def wsrpc_host(request: pytest.FixtureRequest) -> wsrpc.testing.Host:
    """`wsrpc_server` at work in memory; `host.connect(auth=…)` makes more clients."""
    host: wsrpc.testing.Host = _running(request, "host")
    return host


@pytest.fixture
def wsrpc_client(request: pytest.FixtureRequest) -> wsrpc.Session:
    """A session with `wsrpc_host`, with `wsrpc_client_options` and `wsrpc_faults`."""
    session: wsrpc.Session = _running(request, "client")
    return session


@pytest.fixture
def wsrpc_url(request: pytest.FixtureRequest) -> str:
    """The address of `wsrpc_server` on a real port of this machine, `ws://127.0.0.1:…`."""
    url: str = _running(request, "url")
    return url


# ---------------------------------------------------------------------------------- on a loop
# The plugin that runs a test runs its async fixtures too. anyio's plugin takes each fixture that
# its own tests use. pytest-asyncio takes the fixtures with its mark, which anyio's plugin must not
# see.

ASYNCIO_PLUGINS = ("asyncio", "pytest_asyncio", "pytest_asyncio.plugin")


BOTH = (
    "wsrpc_{} cannot tell on which event loop this test runs: both anyio's plugin and pytest-asyncio "
    "take it. Set asyncio_mode and anyio_mode to strict, and mark each test for one of the two"
)


def _running(request: pytest.FixtureRequest, what: str) -> Any:
    on_asyncio = any(map(request.config.pluginmanager.hasplugin, ASYNCIO_PLUGINS))
    if "anyio_backend" in request.fixturenames:
        # Then pytest-asyncio runs the test, on another loop than anyio's fixtures.
        if on_asyncio and request.node.get_closest_marker("asyncio") is not None:
            pytest.fail(BOTH.format(what), pytrace=False)
        return request.getfixturevalue(f"_wsrpc_{what}_on_anyio")
    if on_asyncio:
        return request.getfixturevalue(f"_wsrpc_{what}_on_asyncio")
    pytest.fail(
        f"wsrpc_{what} needs an event loop: make the test an async function, and mark it with "
        '@pytest.mark.anyio, set anyio_mode = "auto", or install pytest-asyncio',
        pytrace=False,
    )


async def _host(
    wsrpc_server: wsrpc.Server, wsrpc_calls: wsrpc.testing.Recorder
) -> AsyncIterator[wsrpc.testing.Host]:
    import wsrpc.testing

    async with wsrpc.testing.server(wsrpc_server, calls=wsrpc_calls) as host:
        yield host


async def _client(
    wsrpc_host: wsrpc.testing.Host,
    wsrpc_client_options: dict[str, Any],
    wsrpc_faults: wsrpc.testing.Faults,
) -> AsyncIterator[wsrpc.Session]:
    async with wsrpc_host.connect(**{"faults": wsrpc_faults, **wsrpc_client_options}) as session:
        yield session


async def _url(
    request: pytest.FixtureRequest,
    wsrpc_server: wsrpc.Server,
    wsrpc_calls: wsrpc.testing.Recorder,
) -> AsyncIterator[str]:
    if "wsrpc_host" in request.fixturenames or "wsrpc_client" in request.fixturenames:
        # The host has told the recorder already.
        async with wsrpc_server.listen() as listener:
            yield listener.url
        return
    with wsrpc_server.observe(wsrpc_calls):
        async with wsrpc_server.listen() as listener:
            yield listener.url


_ASYNC = {"host": _host, "client": _client, "url": _url}

_wsrpc_host_on_anyio = pytest.fixture(name="_wsrpc_host_on_anyio")(_host)
_wsrpc_client_on_anyio = pytest.fixture(name="_wsrpc_client_on_anyio")(_client)
_wsrpc_url_on_anyio = pytest.fixture(name="_wsrpc_url_on_anyio")(_url)


def pytest_configure(config: pytest.Config) -> None:
    """Give pytest-asyncio fixtures of its own, where it is installed."""
    if not any(map(config.pluginmanager.hasplugin, ASYNCIO_PLUGINS)):
        return
    pytest_asyncio: Any = import_module("pytest_asyncio")
    fixtures = ModuleType("wsrpc_pytest_on_asyncio")
    for what, function in _ASYNC.items():
        # pytest-asyncio's mark is an attribute of the function.
        name = f"_wsrpc_{what}_on_asyncio"
        own = FunctionType(function.__code__, function.__globals__, name)
        setattr(fixtures, name, pytest_asyncio.fixture(name=name)(own))
    config.pluginmanager.register(fixtures, "wsrpc_pytest_on_asyncio")


# ---------------------------------------------------------------------------------- the server


def _app_of(root: Path) -> str | None:
    """The object that `[tool.wsrpc] app` in pyproject.toml names."""
    file = root / "pyproject.toml"
    if not file.is_file():
        return None
    import tomllib

    app = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("wsrpc", {})
    named = app.get("app") if isinstance(app, dict) else None
    return named if isinstance(named, str) else None


def _server_named(app: str, root: Path) -> wsrpc.Server:
    import wsrpc

    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    module, _, path = app.partition(":")
    found: Any = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    if isinstance(found, wsrpc.Server):
        return found
    return wsrpc.Server(found if isinstance(found, (list, tuple)) else [found])
