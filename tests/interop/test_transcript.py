"""The worked conversation of protocol.md, replayed over a real socket."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import pytest

import wsrpc
from tests.support import Codec, served, until
from wsrpc.interop.bare_peer import Bare, Frame, open_bare

PROTOCOL = Path(__file__).parents[2] / "protocol.md"

# What counts where a field of a hello is absent.
ABSENT: dict[str, Any] = {
    "session": "",
    "token": None,
    "resumed": False,
    "received": 0,
    "resume_window": 0,
    "features": [],
    "agent": "",
}


class Line(NamedTuple):
    """A batch of the transcript."""

    side: Literal["C", "S"]
    frames: list[Frame]


def transcript() -> list[Line]:
    """The lines of the block with the info string `transcript`, remarks left out."""
    (block,) = re.findall(r"^```transcript\n(.*?)^```$", PROTOCOL.read_text(), re.M | re.S)
    lines: list[Line] = []
    for line in block.splitlines():
        if line.startswith("#"):
            continue
        side, frames = line.split(": ", 1)
        assert side in ("C", "S"), line
        lines.append(Line("C" if side == "C" else "S", json.loads(frames)))
    return lines


class Guest(Protocol):
    @wsrpc.method
    async def name(self) -> str: ...


class Hello:
    """The controller that the transcript tells of."""

    @wsrpc.method
    async def greet(self, name: str) -> str:
        return f"Hello, {name}!"

    @wsrpc.method
    async def stream_tokens(self, hello: str) -> AsyncIterator[dict[str, str]]:
        for message in ("Hello", ", ", hello):
            yield {"message": message}

    @wsrpc.method
    async def fail_midway(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i
        raise wsrpc.RpcError("aborted", f"failed after {n} items", {"reason": "tired"})

    @wsrpc.method
    async def ticks(self) -> AsyncIterator[int]:
        i = 0
        while True:
            yield i
            i += 1

    @wsrpc.method
    async def count(self, lines: AsyncIterator[str]) -> int:
        return len([line async for line in lines])

    @wsrpc.method
    async def build(self, target: str, on_progress: Callable[[int], Awaitable[None]]) -> str:
        await on_progress(50)
        return f"built {target}"

    @wsrpc.method
    async def introduce(self) -> str:
        guest = wsrpc.current().session.clientize(Guest)
        return await self.greet(await guest.name())

    @wsrpc.method(oneway=True)
    async def log(self, line: str) -> None: ...


class Listener:
    """Holds what the server says against what the transcript shows."""

    def __init__(self, bare: Bare) -> None:
        self._bare = bare
        self._items: defaultdict[int, list[Any]] = defaultdict(list)

    async def expect(self, shown: Frame) -> None:
        """Wait for what is shown, and nothing else but further acks and credits."""
        if shown[0] == "message":
            _, id, items = shown
            queued = self._items[id]
            while len(queued) < len(items):
                frame = await self._next("message")
                assert frame[:2] == ["message", id], (shown, frame)
                queued += frame[2]
            came, self._items[id] = queued[: len(items)], queued[len(items) :]
            assert came == items
            return
        frame = await self._next(shown[0])
        assert fits(shown, frame), (shown, frame)
        if shown[0] in ("end", "error", "result"):
            assert not self._items[shown[1]], self._items

    async def _next(self, wanted: str) -> Frame:
        while True:
            frame = await self._bare.frame()
            if frame[0] != "credit" or wanted == "credit":
                return frame


def fits(shown: Any, came: Any, *, trailing: bool = True) -> bool:
    """Whether what came is what is shown, as far as the transcript is meant to be exact."""
    if isinstance(shown, str) and re.fullmatch(r"<.*>", shown):
        return True
    if isinstance(shown, dict) and isinstance(came, dict):
        return all(
            fits(value, came.get(key, ABSENT.get(key)), trailing=key == "near")
            for key, value in shown.items()
        )
    if isinstance(shown, list) and isinstance(came, list):
        long_enough = len(came) >= len(shown) if trailing else len(came) == len(shown)
        return long_enough and all(
            fits(one, other, trailing=False) for one, other in zip(shown, came, strict=False)
        )
    return type(shown) is type(came) and bool(shown == came)


@pytest.mark.rule("HELLO-1", "ACK-1", "CALL-5", "CREDIT-1", "UP-1", "CB-1", "NOTIFY-1", "ERROR-2")
async def test_the_worked_conversation_happens_as_written(codec: Codec) -> None:
    lines = transcript()
    assert [line.side for line in lines][:3] == ["C", "S", "C"]
    async with served([Hello()], limits=wsrpc.Limits(window=1, resume_window=0)) as listener:
        async with open_bare(listener.url, codec) as bare:
            heard = Listener(bare)
            for side, frames in lines:
                if side == "C":
                    await bare.send(*frames)
                else:
                    for frame in frames:
                        await heard.expect(frame)
            await bare.close(1000)
        await until(lambda: listener.server.snapshot().closes == {1000: 1})
        after = listener.server.snapshot()
        assert (after.sessions, after.calls_live, after.generators_open) == (0, 0, 0)


def test_the_transcript_says_what_the_tables_of_frames_say() -> None:
    shown = {frame[0] for line in transcript() for frame in line.frames}
    assert shown == {
        "hello", "ack", "call", "notify", "message", "result", "end", "error", "cancel", "credit",
    }  # fmt: skip
