"""The Python that is written calls a live server, and both type checkers understand it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from wsrpc.gen import generate

from ..support import pair
from .nasty import controllers
from .test_generate import CONTRACT

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    file = tmp_path_factory.mktemp("stub") / "nasty_stub.py"
    file.write_text(generate(CONTRACT, "py"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("nasty_stub", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nasty_stub"] = module
    spec.loader.exec_module(module)
    return module


async def test_a_client_with_nothing_but_the_stub_calls_a_server(stub: ModuleType) -> None:
    async with pair(controllers) as (_, client):
        nasty = client.clientize(stub.Nasty)
        assert await nasty.hello() == "world"
        assert await nasty.hello(name="x", loud=True) == "X"
        assert await nasty.pets(stub.CatInput(lives=3)) == stub.Cat(kind="cat", lives=3)
        assert await nasty.tree(stub.TreeInput(value=1, children=[stub.TreeInput(value=2)]))
        assert (await nasty.page(size=2)).items == [stub.Cat(kind="cat", lives=9)] * 2
        assert await nasty.v2_list_x1() == ["red"] * 3
        assert await nasty.getURL2() == b"\x00"
        assert await nasty.maybe_bytes() is None
        assert [token async for token in nasty.stream_tokens("w")] == ["w"]
        stream = nasty.with_final(1)
        assert [entry async for entry in stream] == [{"a": 1}]
        assert stream.final.value == 1
        assert [one.value async for one in nasty.feed()] == [stub.Cat(kind="cat", lives=9)]
        assert await client.clientize(stub.Other).color() == "red"


def mypy(folder: Path, file: str) -> set[int]:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(folder / "cache"), file],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert all(line.startswith(file) for line in lines), done.stdout
    return {int(line.split(":")[1]) for line in lines}


def pyright(folder: Path, file: str) -> set[int]:
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, file],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"}


@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_both_type_checkers_accept_right_uses_and_flag_wrong_ones(
    checker: Callable[[Path, str], set[int]], tmp_path: Path
) -> None:
    (tmp_path / "nasty_stub.py").write_text(generate(CONTRACT, "py"), encoding="utf-8")
    for name in ("right_stub", "wrong_stub"):
        text = (HERE / f"{name}.py.txt").read_text(encoding="utf-8")
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        marked = {n for n, line in enumerate(text.splitlines(), 1) if line.endswith("# E:")}
        assert checker(tmp_path, f"{name}.py") == marked
    assert checker(tmp_path, "nasty_stub.py") == set()
