"""The client in Node and in Chromium: the whole interop service, in both codecs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from wsrpc.interop.service import interop_server
from wsrpc.limits import Limits
from wsrpc.transport.registry import Transport

from ..support import Codec
from .browser import chromium, require_chromium
from .drive import in_chromium
from .node import ROOT, STATIC, node_with_websocket, older_node, other_runtime, run
from .page import cuts, judged, outlives_cuts
from .relay import relay

pytestmark = pytest.mark.web

DRIVER = str(ROOT / "tests" / "web" / "drive.mjs")


@pytest.fixture
def anyio_backend() -> str:
    # It is the client that is tested, and the relay and the browser's driver are asyncio's.
    return "asyncio"


@asynccontextmanager
async def interop(**limits: Any) -> AsyncIterator[str]:
    """The service on the loopback interface; its URL."""
    async with interop_server(limits=Limits(**limits)).listen(port=0) as listener:
        yield listener.url


async def driven(node: str, url: str, *options: str) -> None:
    code, said = await run(node, DRIVER, url, *options, within=240)
    assert code == 0, "\n".join(line for line in said.splitlines() if not line.startswith("ok "))
    assert " 0 failed" in said


@pytest.mark.rule("INTEROP-1", "INTEROP-2")
async def test_the_client_passes_the_interop_service_in_node() -> None:
    async with interop() as url:
        await driven(node_with_websocket(), url)


@pytest.mark.slow
@pytest.mark.rule("INTEROP-1", "INTEROP-2", "VALUE-6")
async def test_the_client_passes_it_in_either_codec_over_either_transport(
    codec: Codec, transport: Transport
) -> None:
    async with interop() as url:
        await driven(node_with_websocket(), url, "--codec", codec)


@pytest.mark.slow
async def test_the_client_passes_it_in_a_node_that_is_given_a_websocket(codec: Codec) -> None:
    node, module = older_node()
    async with interop() as url:
        await driven(node, url, "--codec", codec, "--ws", module)


@pytest.mark.slow
async def test_the_client_passes_it_where_nothing_is_resumed_and_little_is_allowed(
    codec: Codec,
) -> None:
    limits = {"max_calls": 8, "max_batch": 65536, "window": 1, "heartbeat_interval": 0.0}
    async with interop(**limits) as url:
        await driven(node_with_websocket(), url, "--codec", codec, "--only", "stream")
        await driven(node_with_websocket(), url, "--codec", codec, "--only", "chunks")
    async with interop(resume_window=0.0, **limits) as url:
        await driven(node_with_websocket(), url, "--codec", codec, "--only", "bidi")
        await driven(node_with_websocket(), url, "--codec", codec, "--only", "echo of")


@pytest.mark.slow
async def test_the_client_passes_the_interop_service_in_chromium(codec: Codec) -> None:
    require_chromium()
    async with interop() as url:
        results = await in_chromium(url, codec)
    failed = [f"{one['title']}: {one['why']}" for one in results if one["why"]]
    assert not failed, "\n".join(failed)
    assert len(results) > 50


CHAOS = """
import {{ chaos }} from {module!r};
import * as client from {client!r};
import {{ msgpack }} from {msgpack!r};
const result = await chaos({{ client, url: {url!r}, seconds: {seconds}, codec: {codec} }});
console.log(JSON.stringify(result));
process.exit(0);
"""


async def chaos_in(
    runtime: list[str], codec: Codec, seconds: float, seed: int, *, folder: Path
) -> None:
    async with interop() as url, relay(url) as carrier, anyio.create_task_group() as group:
        script = CHAOS.format(
            module=(ROOT / "tests" / "web" / "chaos.js").as_uri(),
            client=(STATIC / "wsrpc.js").as_uri(),
            msgpack=(STATIC / "wsrpc-msgpack.js").as_uri(),
            url=carrier.url,
            seconds=seconds,
            codec="msgpack" if codec == "msgpack" else "undefined",
        )
        group.start_soon(cuts, carrier, seconds, seed)
        await anyio.Path(folder / "chaos.mjs").write_text(script)
        code, said = await run(*runtime, str(folder / "chaos.mjs"), within=seconds + 100)
        assert code == 0, said
        judged(said)


@pytest.mark.rule("RESUME-4", "RESUME-6", "RETRY-3")
async def test_connections_that_are_cut_lose_double_and_reorder_nothing(tmp_path: Path) -> None:
    await chaos_in([node_with_websocket()], "json", 4, seed=1, folder=tmp_path)


@pytest.mark.slow
async def test_thirty_seconds_of_cuts_lose_double_and_reorder_nothing_in_node(
    codec: Codec, tmp_path: Path
) -> None:
    await chaos_in([node_with_websocket()], codec, 30, seed=2, folder=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "runtime", [["deno", "run", "-A"], ["bun"]], ids=lambda runtime: str(runtime[0])
)
async def test_the_client_passes_it_and_outlives_cuts_in_other_runtimes(
    runtime: list[str], codec: Codec, tmp_path: Path
) -> None:
    runtime = [other_runtime(runtime[0]), *runtime[1:]]
    async with interop() as url:
        code, said = await run(*runtime, DRIVER, url, "--codec", codec, within=240)
        assert code == 0, said
        assert " 0 failed" in said
    await chaos_in(runtime, codec, 8, seed=4, folder=tmp_path)


@pytest.mark.slow
async def test_thirty_seconds_of_cuts_lose_double_and_reorder_nothing_in_chromium(
    codec: Codec,
) -> None:
    require_chromium()
    async with interop() as url, relay(url) as carrier, chromium() as browser:
        page = await browser.page(carrier.url)
        with anyio.fail_after(180):
            await outlives_cuts(page, carrier, codec, 30, seed=3)
