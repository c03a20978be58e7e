"""Release 0.1.0 and this tree work with each other, both installed as their users install them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.proxy import resetting_proxy

from .upgrade_peer import BLOB, ITEMS

ROOT = Path(__file__).parents[2]
PEER = Path(__file__).with_name("upgrade_peer.py")

# The release, as it is in the history.
RELEASED = "6dc6487"

# Seconds for one process. Some cases wait until their patience of 30 s is over.
LIMIT = 400.0

Version = Literal["0.1.0", "this tree"]

# Cases of today that 0.1.0 fails as a server: it waits where it should close, and closes where it should
# ignore, at frames that neither version sends. So they concern broken peers only.
BROKEN_PEERS = (
    "pieces of a wrong size, a wrong total, and other frames amid the pieces close with 4505",
    "refused with 4505: pieces that make up the size without a last one",
    "the call's terminal finishes the callback that it awaits; later frames are ignored",
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

both_ways = pytest.mark.parametrize(
    ("server", "client"),
    [("0.1.0", "this tree"), ("this tree", "0.1.0")],
    ids=["old_server", "old_client"],
)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    # The ends are processes of their own.
    return "asyncio"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders into which pip has installed both versions."""
    folder = tmp_path_factory.mktemp("versions")
    archive = subprocess.run(
        ["git", "archive", RELEASED, "wsrpc", "pyproject.toml", "README.md", "LICENSE"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if archive.returncode:
        pytest.skip(f"release 0.1.0 ({RELEASED}) is not in the history here: no rolling upgrade")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(folder / "source", filter="data")
    into: dict[str, Path] = {"0.1.0": folder / "old", "this tree": folder / "new"}
    for source, target in ((folder / "source", into["0.1.0"]), (ROOT, into["this tree"])):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        done = subprocess.run(
            [*pip, "--disable-pip-version-check", "--target", str(target), str(source)],
            capture_output=True,
            text=True,
            check=False,
        )
        if "No matching distribution" in done.stderr:
            pytest.skip("pip finds no hatchling to build with: no rolling upgrade")
        assert done.returncode == 0, done.stderr
    shutil.copy(PEER, folder)
    return into


class Program:
    """A process of one version, line by line."""

    def __init__(self, process: Process) -> None:
        assert process.stdout is not None
        self.process = process
        self._output = BufferedByteReceiveStream(process.stdout)

    async def line(self) -> str:
        return (await self._output.receive_until(b"\n", 1_000_000)).decode().strip()

    async def go_on(self) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send(b"\n")


@asynccontextmanager
async def program(folder: Path, *words: str) -> AsyncIterator[Program]:
    """A program that imports what is installed in a folder, and nothing of this tree."""
    with anyio.fail_after(LIMIT):
        async with await anyio.open_process(
            [sys.executable, "-u", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            stderr=None,
        ) as process:
            try:
                yield Program(process)
            finally:
                if process.returncode is None:
                    process.kill()


@asynccontextmanager
async def peer(folder: Path, *words: str) -> AsyncIterator[Program]:
    async with program(folder, str(folder.parent / PEER.name), *words) as started:
        assert Path(await started.line()).is_relative_to(folder)
        yield started


@both_ways
async def test_calls_streams_uploads_and_callbacks_survive_resets_between_versions(
    installed: dict[str, Path], server: Version, client: Version, codec: str
) -> None:
    async with peer(installed[server], "serve", server) as serving:
        async with resetting_proxy(await serving.line()) as proxy:
            async with peer(installed[client], "visit", codec, proxy.url) as visitor:
                resets = 0
                while (said := await visitor.line()) == "reset":
                    resets += 1
                    proxy.reset()
                    await visitor.go_on()
                seen: dict[str, Any] = json.loads(said)
        await serving.go_on()
        assert await serving.process.wait() == 0
    assert resets == proxy.resets == 6
    assert seen == {
        "count": [True, "counted"],
        "total": [ITEMS, sum(range(ITEMS))],
        "echo": [[BLOB, 0], [BLOB, 1], [BLOB, 2]],
        "report": [10, list(range(10))],
        "introduce": "A-n-n",
        "hold": "released",
        "fail": ["not_found", "no such thing", {"thing": 7}],
        "deadline": "deadline_exceeded",
        "ticks": [0, 1],
        # One object for all of it: each reset was a resume, and no call was made twice.
        "so_far": {"begun": 5, "notes": ["one", "two", "three"], "cleanups": 2},
    }


@pytest.mark.parametrize("client", ["0.1.0", "this tree"])
async def test_a_client_moves_between_versions_when_its_server_drains(
    installed: dict[str, Path], client: Version, codec: str
) -> None:
    async with peer(installed["0.1.0"], "serve", "old") as old:
        async with peer(installed["this tree"], "serve", "new") as new:
            urls = {"old": await old.line(), "new": await new.line()}
            async with peer(installed[client], "move", codec, *urls.values()) as moving:
                first = await moving.line()
                drained, other = (old, "new") if first == "old" else (new, "old")
                await drained.go_on()
                assert await drained.process.wait() == 0
                await moving.go_on()
                assert await moving.line() == other


async def run_cases(
    installed: dict[str, Path], server: Version, client: Version, codec: str
) -> tuple[int, set[str]]:
    """How many cases of the client's version passed, and which failed."""
    serve = ("-m", "wsrpc.interop.server", "--port", "0", "--auth-token", "secret")
    async with program(installed[server], *serve) as serving:
        url = (await serving.line()).removeprefix("listening ")
        run = ("-m", "wsrpc.interop.client", url, "--codec", codec, "--auth-token", "secret")
        failed = set()
        async with program(installed[client], *run) as cases:
            while not (over := re.match(r"(\d+) passed", said := await cases.line())):
                if said.startswith("FAIL"):
                    failed.add(said)
        return int(over[1]), failed


async def test_every_case_of_the_released_version_passes_against_this_server(
    installed: dict[str, Path], codec: str
) -> None:
    passed, failed = await run_cases(installed, "this tree", "0.1.0", codec)
    assert (failed, passed > 140) == (set(), True)


async def test_the_released_server_fails_only_the_cases_of_broken_peers(
    installed: dict[str, Path], codec: str
) -> None:
    passed, failed = await run_cases(installed, "0.1.0", "this tree", codec)
    unexplained = {said for said in failed if not said[5:].startswith(BROKEN_PEERS)}
    assert unexplained == set()
    assert passed > 250
