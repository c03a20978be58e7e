"""The surroundings of every test: both backends, and a check for leaks after each async test."""

from __future__ import annotations

import functools
import gc
import inspect
import itertools
import zlib
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import settings

import wsrpc
import wsrpc_pytest
from wsrpc.telemetry import logs
from wsrpc.transport.memory import MemoryLink
from wsrpc.transport.registry import Transport

from .leaks import leaks_since, snapshot, watched_logs
from .support import Codec, Wire

# No test fails because the machine is slow.
settings.register_profile("wsrpc", deadline=None)
settings.load_profile("wsrpc")

# Numbers the tests that have ended.
_ended = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    # Where the package is installed as it is now, its entry point has done that.
    if not config.pluginmanager.is_registered(wsrpc_pytest):
        config.pluginmanager.register(wsrpc_pytest, "wsrpc")


def pytest_collection_finish(session: pytest.Session) -> None:
    # Objects that are alive by now stay alive. Without it the collection after each test is ten
    # times slower.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown() -> Generator[None, None, None]:
    yield
    # pytest keeps some objects of each test. After thousands of tests a collection would take
    # longer than most tests do.
    if next(_ended) % 20 == 0:
        gc.collect()
        gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # What was logged may hold lone surrogates, which do not travel from one process to another.
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(params=["json", "msgpack"])
def codec(request: pytest.FixtureRequest) -> Codec:
    """Both codecs, for tests in which they could differ."""
    name: Codec = request.param
    return name


@pytest.fixture(params=["websockets", "picows"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Transport:
    """Each transport; `connect` and `listen` use it where a test does not name one."""
    name: Transport = request.param
    for function in (wsrpc.connect.__init__, wsrpc.Server.listen, wsrpc.Server.serve):
        assert function.__kwdefaults__ is not None
        monkeypatch.setitem(function.__kwdefaults__, "transport", name)
    return name


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full",
        action="store_true",
        help="the full product of backends, codecs and transports, and the tests marked slow",
    )
    parser.addoption("--rest", action="store_true", help="what --full has and the default has not")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept = [item for item in items if not _is_picows_on_trio(item)]
    # Tests that are run once more over ASGI are so under one value of each axis.
    again = [item for item in kept if _params(item).get("carrier") == "asgi"]
    spared = {item.nodeid for item in again} - {item.nodeid for item in _once_each(again, most=1)}
    kept = [item for item in kept if item.nodeid not in spared]
    if not config.getoption("--full"):
        usual = list(_once_each(item for item in kept if not item.get_closest_marker("slow")))
        run = {item.nodeid for item in usual}
        rest = [item for item in kept if item.nodeid not in run]
        kept = rest if config.getoption("--rest") else usual
    items[:] = kept


# What a test runs under. Of their product, `pytest` without `--full` takes as few as show each
# value of each of them once.
AXES = ("anyio_backend", "codec", "transport")


def _params(item: pytest.Item) -> dict[str, Any]:
    callspec = getattr(item, "callspec", None)
    return {} if callspec is None else callspec.params


def _is_picows_on_trio(item: pytest.Item) -> bool:
    params = _params(item)
    return "picows" in params.values() and "trio" in params.values()


def _once_each(items: Iterable[pytest.Item], *, most: int | None = None) -> Iterator[pytest.Item]:
    """As few of the items as show each value of each axis.

    Args:
        items: The tests.
        most: Items of one behaviour at most; None: as many as it takes.

    Which ones they are depends on the test's name alone, so that over all tests each pair of
    values comes up, and the same ones in each run.
    """
    behaviours: dict[tuple[Any, ...], list[pytest.Item]] = {}
    for item in items:
        params = _params(item)
        apart = tuple((name, repr(params[name])) for name in sorted(params) if name not in AXES)
        behaviours.setdefault((item.nodeid.partition("[")[0], apart), []).append(item)
    for (name, _), versions in behaviours.items():
        shown: set[tuple[str, str]] = set()
        turn = zlib.crc32(name.encode()) % len(versions)
        left = [(item, _values(item)) for item in versions[turn:] + versions[:turn]]
        for _ in range(len(left) if most is None else most):
            # The one that shows most, the first of several: two show two values of two axes.
            best = max(left, key=lambda one: len(one[1] - shown))
            yield best[0]
            shown |= best[1]
            left = [one for one in left if not one[1] <= shown]
            if not left:
                break


def _values(item: pytest.Item) -> set[tuple[str, str]]:
    """The values of the axes that an item runs under."""
    params = _params(item)
    return {(axis, repr(params[axis])) for axis in AXES if axis in params}


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    """Listens in on every memory link."""
    wire = Wire()
    send = MemoryLink.send

    async def noting(self: MemoryLink, data: bytes) -> None:
        wire.note(self, data)
        await send(self, data)

    monkeypatch.setattr(MemoryLink, "send", noting)
    return wire


@pytest.fixture(autouse=True)
def fresh_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test logs does not count for the next one."""
    monkeypatch.setattr(logs, "_tap", logs._Tap())
    monkeypatch.setattr(logs.everyone, "_bucket", None)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = _checked(pyfuncitem.obj)
    return (yield)


def _checked(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """The test, and after it a check for leaks."""

    @functools.wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        before = snapshot()
        with watched_logs() as complaints:
            await test(*args, **kwargs)
            leaks = await leaks_since(before)
        assert not leaks, "\n".join(["left behind:", *leaks])
        assert not complaints, "\n".join(["logged:", *complaints])

    return run
