"""The two builds of the core: pure Python, and compiled from the same source."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import LIMIT, error_of, soon
from wsrpc import version
from wsrpc.testing import connected_pair

ROOT = Path(__file__).parents[1]
SUFFIXES = (".so", ".pyd")

ASK = """
import importlib, json, sys
import wsrpc.version
names = sys.argv[1:]
files = [importlib.import_module(name).__file__ for name in names]
print(json.dumps([wsrpc.version.BUILD, files]))
"""

USE = """
import sys, anyio
import wsrpc.version
from tests.test_build import every_kind_of_call
anyio.run(every_kind_of_call, backend=sys.argv[1])
print(wsrpc.version.BUILD)
"""


def compiled_modules() -> list[str]:
    """The names of the modules that pyproject.toml wants compiled."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        tool: Any = tomllib.load(file)["tool"]
    hook = tool["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    return [path.removesuffix(".py").replace("/", ".") for path in hook["compiled"]]


def asked(**environment: str) -> tuple[str, list[str]]:
    """Which build a process of its own says that it runs, and where its modules come from."""
    inherited = {name: value for name, value in os.environ.items() if name != "WSRPC_PURE"}
    done = subprocess.run(
        [sys.executable, "-c", ASK, *compiled_modules()],
        capture_output=True,
        text=True,
        check=True,
        env={**inherited, **environment},
    )
    build, files = json.loads(done.stdout)
    return build, files


class Kinds:
    """A method of each kind."""

    @wsrpc.method
    async def greet(self, name: str) -> str:
        return f"hello, {name}"

    @wsrpc.method
    async def hang(self) -> None:
        await anyio.sleep_forever()

    @wsrpc.method
    async def count(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    @wsrpc.method
    async def total(self, numbers: AsyncIterable[int]) -> int:
        return sum([number async for number in numbers])

    @wsrpc.method
    async def ask(self, answer: Callable[[str], Awaitable[int]]) -> int:
        return 2 * await answer("how many?")


async def every_kind_of_call() -> None:
    """Make one call of each kind, with and without deadlines, and lose a connection meanwhile."""

    async def numbers() -> AsyncIterator[int]:
        for i in range(100):
            yield i

    async def answer(question: str) -> int:
        assert question == "how many?"
        return 21

    with soon():
        pair = connected_pair([Kinds()], reconnect=True)
        async with pair as (_server, client):
            for timeout in (None, LIMIT):
                proxy = client.clientize(Kinds, timeout=timeout)
                assert await proxy.greet("Ann") == "hello, Ann"
                async with proxy.count(100) as stream:
                    assert [item async for item in stream] == [*range(100)]
                assert await proxy.total(numbers()) == sum(range(100))
                assert await proxy.ask(answer) == 42
                pair.cut(before="result")
                assert await proxy.greet("Bea") == "hello, Bea"
            assert pair.cuts == 2
            with error_of("deadline_exceeded"):
                await client.clientize(Kinds, timeout=0.01).hang()


def test_the_modules_to_be_compiled_are_there() -> None:
    modules = compiled_modules()
    assert modules == sorted(set(modules))
    for module in modules:
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), module


def test_wsrpc_pure_turns_the_compiled_core_off() -> None:
    build, files = asked(WSRPC_PURE="1")
    assert build == "pure Python"
    assert all(file.endswith(".py") for file in files)


@pytest.mark.parametrize("value", ["", "0"])
def test_without_wsrpc_pure_what_is_compiled_runs(value: str) -> None:
    build, files = asked(WSRPC_PURE=value)
    compiled = [file.endswith(SUFFIXES) for file in files]
    assert build == ("compiled core" if all(compiled) else "pure Python")
    assert all(compiled) or not any(compiled), "in part only: `make compiled`, or `make pure`"


def test_the_build_is_the_one_that_was_asked_for() -> None:
    assert version.BUILD in ("compiled core", "pure Python")
    if os.environ.get("WSRPC_CORE") == "require":
        assert version.BUILD == "compiled core"
    if os.environ.get("WSRPC_PURE") == "1":
        assert version.BUILD == "pure Python"


def test_what_is_compiled_is_as_new_as_its_source() -> None:
    build, files = asked(WSRPC_PURE="0")
    if build != "compiled core":
        pytest.skip("the core is not compiled")
    for module, made in zip(compiled_modules(), files, strict=True):
        source = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        stale = Path(made).stat().st_mtime < source.stat().st_mtime
        assert not stale, f"{module} was changed after it was compiled: make compiled"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_is_compiled_makes_every_kind_of_call(backend: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if name != "WSRPC_PURE"}
    used = [sys.executable, "-c", USE, backend]
    done = subprocess.run(used, capture_output=True, text=True, cwd=ROOT, env=inherited)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == asked()[0]


def test_the_tree_has_files_and_no_links_out_of_it() -> None:
    git = ["git", "ls-files", "--stage"]
    done = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this is no checkout: nothing says which files belong to it")
    assert [line for line in done.stdout.splitlines() if not line.startswith("100")] == []
