"""The interop service, recorded and played again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from wsrpc import Recording, Server, connect, method
from wsrpc.interop.bare_peer import Codec, open_bare
from wsrpc.interop.call_cases import cases
from wsrpc.interop.case import Ground
from wsrpc.interop.service import Interop, Partner, interop_server
from wsrpc.telemetry.recorded_frames import RecordingError
from wsrpc.testing.replaying import Difference, Replayed, replay

PATIENCE = 60.0

# What the service itself says otherwise each time: what is left of a deadline, and its counts.
IGNORED = {"Interop.whoami": ["remaining"], "Interop.stats": ["*"]}

# By the ids of their calls.
VALUES = {1: r'"\ud800"', 3: r'{"\ud800":1}', 5: "1e999"}

codecs = pytest.mark.parametrize("codec", ["json", "msgpack"])


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The cases take a while; the player's own tests run on both."""
    return str(request.param)


@asynccontextmanager
async def patience() -> AsyncIterator[None]:
    """Gives up after a while, without a deadline around the block."""

    async def lose() -> None:
        await anyio.sleep(PATIENCE)
        raise AssertionError(f"not through after {PATIENCE:g} s")

    async with anyio.create_task_group() as group:
        group.start_soon(lose)
        yield
        group.cancel_scope.cancel()


async def recorded_cases(path: Path, codec: Codec) -> None:
    """All cases for callers, each in a session of its own."""
    recording = Recording(path)
    async with interop_server().listen() as listener:
        for case in cases.fitting(codec, None):
            async with connect(
                listener.url,
                controllers=[Partner()],
                codec=codec,
                reconnect=False,
                record=recording,
            ) as session:
                await case.run(Ground(listener.url, codec, None, session))


async def played(path: Path, **options: Any) -> Replayed:
    async with interop_server().listen() as listener:
        return await replay(path, listener.url, ignore=IGNORED, **options)


@codecs
@pytest.mark.slow
async def test_a_recorded_session_of_the_interop_service_replays_without_a_difference_against_the_service_in_both_codecs(
    tmp_path: Path, codec: Codec
) -> None:
    path = tmp_path / "x.wsrec"
    # A deadline of this task would travel with the calls.
    async with patience():
        await recorded_cases(path, codec)
        found = await played(path)
    assert found.left_out == []
    assert found.sessions == len(cases.fitting(codec, None))
    assert found.compared > 500


class Counter:
    """A program that can be changed between recording and playing."""

    def __init__(self, step: int = 1) -> None:
        self._step = step

    @method
    async def up(self, n: int) -> AsyncIterator[int]:
        """n items."""
        for i in range(n):
            yield i * self._step

    @method
    async def name(self) -> dict[str, str]:
        """Something to ignore."""
        return {"name": "counter", "step": str(self._step)}


async def test_the_first_frame_that_differs_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.wsrec"
    async with patience():
        async with Server([Counter()], record=path).listen() as listener:
            async with connect(listener.url) as session:
                counter = session.clientize(Counter)
                assert await counter.name() == {"name": "counter", "step": "1"}
                assert [one async for one in counter.up(3)] == [0, 1, 2]
        async with Server([Counter()]).listen() as listener:
            assert (await replay(path, listener.url, speed="recorded")).sessions == 1
        async with Server([Counter(2)]).listen() as listener:
            with pytest.raises(Difference, match=r"id 1 of Counter\.name: recorded"):
                await replay(path, listener.url)
            with pytest.raises(Difference, match=r"Counter\.up") as caught:
                await replay(path, listener.url, ignore={"Counter.name": ["step"]})
            assert caught.value.expected == ["item", 1]
            assert caught.value.found == ["item", 2]
        async with Server([Interop()]).listen() as listener:
            with pytest.raises(Difference, match="unimplemented"):
                await replay(path, listener.url)


async def test_values_that_the_server_refused_are_refused_again(tmp_path: Path) -> None:
    path = tmp_path / "x.wsrec"
    texts = [rf'["call",{id},"Interop.echo",{{"value":{value}}}]' for id, value in VALUES.items()]
    async with patience():
        async with Server([Interop()], record=path).listen() as listener:
            async with open_bare(listener.url, "json") as bare:
                await bare.hello()
                for text in texts:
                    await bare.send_text(f"[{text}]".encode())
                    assert (await bare.terminal(int(text[8])))[0] == "error"
        async with Server([Interop()]).listen() as listener:
            found = await replay(path, listener.url)
    assert (found.sessions, found.left_out) == (1, [])


async def test_a_recording_without_values_is_not_played(tmp_path: Path) -> None:
    path = tmp_path / "x.wsrec"
    async with patience(), Server([Counter()]).listen() as listener:
        async with connect(listener.url, record=Recording(path, values=False)) as session:
            await session.clientize(Counter).name()
        found = await replay(path, listener.url)
    assert found.sessions == 0
    assert found.left_out == ["connection 1: values of the client are left out of the recording"]


async def test_a_recording_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be read"):
        await replay(tmp_path / "missing.wsrec", "ws://127.0.0.1:9")
