"""The connection is lost before and after each single frame of a conversation: nobody notices."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from itertools import count
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import Codec, full_only, soon, until, wire_of
from wsrpc.testing.pairs import connected_pair

# Tight, so that credit has to travel for each few items.
LIMITS = wsrpc.Limits(window=2)


class Desk:
    """What the conversation is with; it counts what is run and what has cleaned up."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.cleaned: list[str] = []

    @wsrpc.method
    async def double(self, n: int) -> int:
        self.ran.append(f"double {n}")
        return 2 * n

    @wsrpc.method
    async def fail(self, why: str) -> None:
        self.ran.append("fail")
        raise wsrpc.RpcError("aborted", why, {"a": 1})

    @wsrpc.method
    async def download(self, n: int) -> AsyncIterator[int | wsrpc.Final[str]]:
        self.ran.append("download")
        for i in range(n):
            yield i
        yield wsrpc.Final("all")

    @wsrpc.method
    async def upload(self, items: AsyncIterator[int]) -> list[int]:
        self.ran.append("upload")
        return [item async for item in items]

    @wsrpc.method
    async def exchange(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        self.ran.append("exchange")
        async for item in items:
            yield 10 * item

    @wsrpc.method
    async def progress(self, n: int, on_progress: Callable[[int], Awaitable[int]]) -> list[int]:
        self.ran.append("progress")
        return [await on_progress(i) for i in range(n)]

    @wsrpc.method
    async def nested(self, n: int) -> int:
        self.ran.append("nested")
        return await wsrpc.current().session.clientize(Clerk).triple(n)

    @wsrpc.method
    async def blob(self, size: int) -> bytes:
        self.ran.append("blob")
        return b"\x00\xff" * (size // 2)

    @wsrpc.method(oneway=True)
    async def note(self, text: str) -> None:
        self.ran.append(f"note {text}")

    @wsrpc.method
    async def endless(self) -> AsyncIterator[int]:
        self.ran.append("endless")
        try:
            for i in count():
                yield i
        finally:
            await anyio.sleep(0)
            self.cleaned.append("endless")


class Clerk:
    """What the desk calls back."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    @wsrpc.method
    async def triple(self, n: int) -> int:
        self.ran.append(f"triple {n}")
        return 3 * n


class Conversation:
    """Each kind of call once, and what came of it."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.clerk = Clerk()
        self.heard: list[int] = []
        self.sent = 0
        self.results: dict[str, Any] = {}

    async def numbers(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            self.sent += 1
            yield i

    async def on_progress(self, i: int) -> int:
        self.heard.append(i)
        return i * i

    def parts(self, session: wsrpc.Session) -> Iterator[tuple[str, Coroutine[Any, Any, Any]]]:
        """The calls, not yet begun."""
        desk = session.clientize(Desk)

        async def endless() -> list[int]:
            seen: list[int] = []
            async with desk.endless() as stream:
                async for item in stream:
                    seen.append(item)
                    if len(seen) == 3:
                        break
            return seen

        async def download() -> tuple[list[int], str]:
            stream = desk.download(5)
            return await stream.collect(), stream.final

        async def failing() -> tuple[str, Any]:
            try:
                await desk.fail("on purpose")
            except wsrpc.RpcError as error:
                return error.code, error.data
            raise AssertionError("it did not fail")

        async def exchange() -> list[int]:
            return await desk.exchange(self.numbers(4)).collect()

        async def blob() -> bool:
            return await desk.blob(600_000) == b"\x00\xff" * 300_000

        yield "double", desk.double(4)
        yield "download", download()
        yield "upload", desk.upload(self.numbers(5))
        yield "exchange", exchange()
        yield "progress", desk.progress(3, self.on_progress)
        yield "nested", desk.nested(5)
        yield "note", desk.note("hello")
        yield "endless", endless()
        yield "fail", failing()
        yield "blob", blob()
        yield "again", desk.double(5)

    async def hold(self, session: wsrpc.Session, *, together: bool) -> None:
        async def run(name: str, part: Coroutine[Any, Any, Any]) -> None:
            self.results[name] = await part

        if together:
            async with anyio.create_task_group() as group:
                for name, part in self.parts(session):
                    group.start_soon(run, name, part)
        else:
            for name, part in self.parts(session):
                await run(name, part)

    def check(self) -> None:
        """Nothing was lost, duplicated or reordered."""
        assert self.results == {
            "double": 8,
            "download": ([0, 1, 2, 3, 4], "all"),
            "upload": [0, 1, 2, 3, 4],
            "exchange": [0, 10, 20, 30],
            "progress": [0, 1, 4],
            "nested": 15,
            "note": None,
            "endless": [0, 1, 2],
            "fail": ("aborted", {"a": 1}),
            "blob": True,
            "again": 10,
        }
        assert sorted(self.desk.ran) == sorted(
            [
                "double 4",
                "download",
                "upload",
                "exchange",
                "progress",
                "nested",
                "note hello",
                "endless",
                "fail",
                "blob",
                "double 5",
            ]
        )
        assert self.desk.cleaned == ["endless"]
        assert self.clerk.ran == ["triple 5"]
        assert self.heard == [0, 1, 2]
        assert self.sent == 9


async def converse(codec: Codec, where: str, *at: int, together: bool) -> int:
    """Hold the conversation, with cuts; returns how many there were.

    Args:
        codec: The subprotocol.
        where: "before" or "after".
        at: Frames at which the connection is cut, counted from the first after the hellos.
        together: Whether the calls are made at the same time.
    """
    talk = Conversation()
    pair = connected_pair([talk.desk], [talk.clerk], codec=codec, limits=LIMITS, reconnect=True)
    with soon():
        async with pair as (server, client):
            await until(lambda: pair.frames("connecting") == 2)
            ends = [wire_of(server).endpoint, wire_of(client).endpoint]
            first = pair.frames()
            for index in at:
                frame: Any = {where: first + index}
                pair.cut(**frame)
            await talk.hold(client, together=together)
            await until(lambda: "note hello" in talk.desk.ran and bool(talk.desk.cleaned))
            await until(lambda: all(end.quiescent for end in ends))
            # A cut after the last frame may be noticed only now.
            await until(lambda: (server.state, client.state) == ("connected", "connected"))
            await until(
                lambda: ends[0].received == ends[1].sent and ends[1].received == ends[0].sent
            )
            # It is the same session throughout.
            assert [wire_of(server).endpoint, wire_of(client).endpoint] == ends
        talk.check()
    return pair.cuts


@pytest.mark.rule("RESUME-1", "RESUME-4", "RESUME-6", "NUM-1")
@pytest.mark.parametrize("together", [False, True], ids=["in turn", "together"])
@pytest.mark.parametrize("where", ["before", "after"])
async def test_a_cut_at_each_frame_of_a_conversation_goes_unnoticed(
    where: str, codec: Codec, together: bool, anyio_backend_name: str
) -> None:
    index = 0
    # Each frame on one backend, a third of them on the other.
    for index in count(0, 1 if anyio_backend_name == "asyncio" else 3):
        if not await converse(codec, where, index, together=together):
            break
    assert index > (30 if together else 50)


@pytest.mark.rule("RESUME-1", "RESUME-3", "RESUME-5")
@pytest.mark.parametrize("apart", [1, *full_only(2, 3, 4)])
@pytest.mark.parametrize("where", ["before", "after"])
async def test_two_cuts_in_a_row_go_unnoticed(
    where: str, codec: Codec, apart: int, anyio_backend_name: str
) -> None:
    """The second falls among the hellos of the first return too."""
    index = 0
    for index in count(0, 2 if anyio_backend_name == "asyncio" else 5):
        if await converse(codec, where, index, index + apart, together=False) < 2:
            break
    assert index > 50


@pytest.mark.rule("RESUME-1", "RESUME-9")
async def test_a_cut_at_every_fifth_frame_goes_unnoticed(codec: Codec) -> None:
    """Each link carries something, if only a few frames."""
    assert await converse(codec, "before", *range(3, 2000, 5), together=False) > 10
