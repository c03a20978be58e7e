"""The vectors of the protocol, played by the client in Node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from wsrpc.interop.vector_files import expand, load

from ..support import Codec
from .node import ROOT, node_with_websocket, run

pytestmark = pytest.mark.web

DRIVER = str(ROOT / "tests" / "web" / "vectors.mjs")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_the_client_plays_the_vectors_and_another_implementation_reads_what_it_writes(
    codec: Codec, tmp_path: Path
) -> None:
    written = tmp_path / "written.json"
    code, said = await run(node_with_websocket(), DRIVER, "--codec", codec, "--write", str(written))
    assert code == 0, "\n".join(line for line in said.splitlines() if not line.startswith("ok "))
    played = sum(line.startswith("ok ") for line in said.splitlines())
    assert f"{played} passed, 0 failed" in said
    assert played > 70

    vectors, batches = load("frames"), json.loads(written.read_text("utf-8"))
    assert len(batches) == len(vectors)
    for vector, batch in zip(vectors, batches, strict=True):
        shown = expand(vector["frame"], text=codec == "json")
        assert frame_in(batch, codec) == shown, vector["json"]


def frame_in(batch: str, codec: Codec) -> Any:
    """The vector's frame, which the client has sent as an argument."""
    if codec == "json":
        return json.loads(batch)[0][3]["frame"]
    return msgspec.msgpack.decode(bytes.fromhex(batch))[0][3]["frame"]
