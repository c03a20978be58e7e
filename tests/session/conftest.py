"""The tests of sessions, each also over ASGI."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.over_asgi import over_asgi

from .left_out import ALWAYS, LEFT_OUT

HERE = Path(__file__).parent


def _listed(table: Mapping[str, tuple[str, ...]], test: Any) -> bool:
    """Whether a table of names by module has this test."""
    module = test.__module__.rpartition(".test_")[2]
    return test.__name__.removeprefix("test_") in table.get(module, ())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    test, config = metafunc.function, metafunc.config
    if not inspect.iscoroutinefunction(test):
        return
    if any(_listed(table, test) for table in LEFT_OUT.values()):
        return
    always = _listed(ALWAYS, test)
    # Tests that are not run should not cost the time to collect them.
    if always or config.getoption("--full") or config.getoption("--rest"):
        metafunc.parametrize(
            "carrier",
            [
                pytest.param("own", id=pytest.HIDDEN_PARAM),
                pytest.param("asgi", marks=() if always else pytest.mark.slow),
            ],
            indirect=True,
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Here all parameters of a test are known.
    items[:] = [one for one in items if not _left_out(one)]


def _left_out(item: pytest.Item) -> bool:
    """Whether it would run over ASGI with a parameter with which it is left out."""
    if not isinstance(item, pytest.Function) or item.path.parent != HERE:
        return False
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    if parameters.get("carrier") != "asgi":
        return False
    module, name = item.path.stem.removeprefix("test_"), item.originalname
    return any(
        f"{name.removeprefix('test_')}[{value}]" in table.get(module, ())
        for table in LEFT_OUT.values()
        for value in parameters.values()
        if isinstance(value, str)
    )


@pytest.fixture(autouse=True)
def carrier(request: pytest.FixtureRequest) -> str:
    """Between links and servers: nothing, or an ASGI application."""
    name: str = getattr(request, "param", "own")
    return name


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    if pyfuncitem.funcargs.get("carrier") == "asgi":
        pyfuncitem.obj = _over_asgi(pyfuncitem.obj)
    return (yield)


def _over_asgi(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        async with over_asgi() as links:
            await test(*args, **kwargs)
        assert links, "no link of this test came to a server: enter it in LEFT_OUT"

    return run
