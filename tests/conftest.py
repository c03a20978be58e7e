"""What every test runs under: both backends, and a look for leaks behind each async test."""

from __future__ import annotations

import functools
import gc
import inspect
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest

from wsrpc.transport.memory import MemoryLink

from .leaks import leaks_since, snapshot, watched_logs
from .support import Codec, Wire


def pytest_collection_finish(session: pytest.Session) -> None:
    # What is alive by now stays alive. Without it the collection behind each test is ten times
    # slower.
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.fixture(params=["json", "msgpack"])
def codec(request: pytest.FixtureRequest) -> Codec:
    """Both codecs, for tests in which they could differ."""
    name: Codec = request.param
    return name


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


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = _checked(pyfuncitem.obj)
    return (yield)


def _checked(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """The test, and behind it a look for what it left behind."""

    @functools.wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        before = snapshot()
        with watched_logs() as complaints:
            await test(*args, **kwargs)
            leaks = await leaks_since(before)
        assert not leaks, "\n".join(["left behind:", *leaks])
        assert not complaints, "\n".join(["logged:", *complaints])

    return run
