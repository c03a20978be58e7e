"""Many who come at once all come in, in turn; those who say nothing hold up nobody for long."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import full_only, served, soon, until
from tests.transport.test_handshakes import UPGRADE
from wsrpc.transport.registry import Transport

CROWD = 500


class Hi:
    @wsrpc.method
    async def hi(self) -> int:
        return 1


async def come_in(url: str, number: int, **options: Any) -> int:
    """How many of so many clients come in at the first attempt; all stay until the last is there."""
    inside = 0
    everybody = anyio.Event()

    async def one() -> None:
        nonlocal inside
        async with wsrpc.connect(url, reconnect=False, **options) as session:
            assert await session.clientize(Hi).hi() == 1
            inside += 1
            if inside == number:
                everybody.set()
            await everybody.wait()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for _ in range(number):
                group.start_soon(one)
    return inside


@asynccontextmanager
async def serving(
    *, listen: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[wsrpc.Listener]:
    async with wsrpc.Server([Hi()], **options).listen(**(listen or {})) as listener:
        yield listener


@pytest.mark.rule("LIMIT-3")
@pytest.mark.parametrize("anyio_backend", ["asyncio", *full_only("trio")])
@pytest.mark.parametrize("transport", ["websockets", *full_only("picows")], indirect=True)
async def test_500_clients_that_connect_at_the_same_moment_all_come_in(
    transport: Transport,
) -> None:
    """While one of them is looked at, others wait: for credentials, and to be accepted."""
    let_in = anyio.Event()
    asked = 0

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> str:
        nonlocal asked
        asked += 1
        if asked == server.limits.max_unauthenticated:
            let_in.set()
        await let_in.wait()
        return "somebody"

    # However long it takes on a busy machine.
    server = wsrpc.Server([Hi()], authenticate=authenticate, limits=wsrpc.Limits(hello_timeout=60))
    limits = wsrpc.Limits(connect_timeout=60)
    async with server.listen() as listener:
        assert await come_in(listener.url, CROWD, limits=limits) == CROWD


@pytest.mark.parametrize("crowd", [CROWD // 5, *full_only(CROWD)])
async def test_so_do_those_who_come_by_a_unix_socket(
    transport: Transport, tmp_path: Path, crowd: int
) -> None:
    limits = wsrpc.Limits(connect_timeout=60)
    async with serving(listen={"path": str(tmp_path / "s")}) as listener:
        assert await come_in(listener.url, crowd, limits=limits) == crowd


@pytest.mark.rule("LIMIT-3")
async def test_so_do_many_more_than_a_server_takes_at_a_time(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A machine that is busy with something else makes nobody impatient here.
    monkeypatch.setattr("wsrpc.admission.handshakes.PATIENCE", 1000.0)
    monkeypatch.setattr("wsrpc.admission.door.STANDSTILL", 1000.0)
    few = wsrpc.Limits(max_unauthenticated=8, hello_timeout=60)
    limits = wsrpc.Limits(connect_timeout=60)
    async with serving(limits=few) as listener:
        assert await come_in(listener.url, 100, limits=limits) == 100
        await until(lambda: listener.server.snapshot().unauthenticated == 0)


@pytest.mark.rule("LIMIT-3")
async def test_so_does_a_crowd_whose_machine_is_too_busy_to_ask_at_once(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsrpc.admission.handshakes.PATIENCE", 1000.0)
    monkeypatch.setattr("wsrpc.admission.door.STANDSTILL", 0.0)
    limits = wsrpc.Limits(max_unauthenticated=50, hello_timeout=60)
    async with served([Hi()], limits=limits) as listener, AsyncExitStack() as stack:
        host, _, port = listener.url.split("/")[2].rpartition(":")
        crowd = [
            await stack.enter_async_context(await anyio.connect_tcp(host, int(port)))
            for _ in range(98)
        ]
        await until(lambda: listener.server.snapshot().unauthenticated == 50)
        for stream in crowd:
            lines = [f"{name}: {value}" for name, value in UPGRADE.items()]
            await stream.send("\r\n".join(["GET / HTTP/1.1", *lines, "", ""]).encode())
        for stream in crowd:
            assert (await stream.receive()).startswith(b"HTTP/1.1 101 ")


@pytest.mark.rule("LIMIT-3")
async def test_those_who_say_nothing_make_room_and_are_told_why(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsrpc.admission.handshakes.PATIENCE", 1000.0)
    monkeypatch.setattr("wsrpc.admission.door.STANDSTILL", 0.0)
    limits = wsrpc.Limits(max_unauthenticated=1, hello_timeout=1000)
    async with served([Hi()], limits=limits) as listener, AsyncExitStack() as stack:
        host, _, port = listener.url.split("/")[2].rpartition(":")
        crowd = [
            await stack.enter_async_context(await anyio.connect_tcp(host, int(port)))
            for _ in range(40)
        ]
        # One has a place, 32 are in between.
        told = [await stream.receive() for stream in crowd[1:8]]
        assert all(text.startswith(b"HTTP/1.1 503 ") for text in told)
        assert listener.server.snapshot().unauthenticated == 1


@pytest.mark.rule("LIMIT-3")
async def test_one_for_whom_there_is_no_room_in_time_is_told_the_true_reason(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsrpc.admission.handshakes.PATIENCE", 1000.0)
    limits = wsrpc.Limits(max_unauthenticated=1, hello_timeout=0.2)
    stuck = anyio.Event()

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> str:
        await stuck.wait()
        return "somebody"

    async with served([Hi()], limits=limits, authenticate=authenticate) as listener:
        async with anyio.create_task_group() as group:

            async def first() -> None:
                async with wsrpc.connect(listener.url):
                    pass

            group.start_soon(first)
            await until(lambda: listener.server.snapshot().unauthenticated == 1)
            with pytest.raises(wsrpc.ConnectError, match="too many connections") as caught:
                async with wsrpc.connect(listener.url):
                    pytest.fail("there was no room")
            assert caught.value.close_code == 1013
            stuck.set()


@pytest.mark.rule("DRAIN-5")
async def test_those_who_wait_for_a_place_when_the_drain_begins_are_sent_away() -> None:
    stuck = anyio.Event()

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> str:
        await stuck.wait()
        return "somebody"

    codes: list[int | None] = []
    limits = wsrpc.Limits(max_unauthenticated=1)
    async with served([Hi()], limits=limits, authenticate=authenticate) as listener:

        async def one() -> None:
            with pytest.raises(wsrpc.ConnectError) as caught:
                async with wsrpc.connect(listener.url):
                    pytest.fail("let in")
            codes.append(caught.value.close_code)

        async with anyio.create_task_group() as group:
            group.start_soon(one)
            group.start_soon(one)
            await until(lambda: listener.server.snapshot().links == 2)
            await listener.server.drain(0)
    # The WebSockets are open already.
    assert codes == [1013, 1013]


OUT_OF_FILES = """
import logging, resource, socket, sys
import anyio, wsrpc

class Hi:
    @wsrpc.method
    async def hi(self) -> int:
        return 1

async def main(transport, path):
    where = {"path": path} if path else {}
    limits = wsrpc.Limits(hello_timeout=600)
    async with wsrpc.Server([Hi()], limits=limits).listen(transport=transport, **where) as listener:
        files = 60
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        print(listener.url, flush=True)
        await anyio.sleep_forever()

backend, _, uvloop = sys.argv[2].partition("+")
options = {"use_uvloop": True} if uvloop else None
anyio.run(main, sys.argv[1], sys.argv[3], backend=backend, backend_options=options)
"""


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_out_of_file_descriptors_a_server_logs_a_line_a_second_and_goes_on_by_itself(
    transport: Transport, anyio_backend_name: str, kind: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "s") if kind == "unix" else ""
    await runs_out_of_files(transport, anyio_backend_name, path)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.slow
async def test_out_of_file_descriptors_it_does_so_where_picows_accepts_on_uvloop(
    kind: str, tmp_path: Path
) -> None:
    pytest.importorskip("uvloop")
    path = str(tmp_path / "s") if kind == "unix" else ""
    await runs_out_of_files("picows", "asyncio+uvloop", path)


async def runs_out_of_files(transport: str, loop: str, path: str) -> None:
    program = [sys.executable, "-c", OUT_OF_FILES, transport, loop, path]
    with soon():
        async with await anyio.open_process(program) as process, AsyncExitStack() as stack:
            assert process.stdout is not None
            assert process.stderr is not None
            url = (await process.stdout.receive()).decode().strip()
            for _ in range(100):
                if path:
                    stream: Any = await anyio.connect_unix(path)
                else:
                    stream = await anyio.connect_tcp("127.0.0.1", int(url.rpartition(":")[2]))
                await stack.enter_async_context(stream)
            logged = b""
            while logged.count(b"\n") < 2:
                logged += await process.stderr.receive()
            await stack.pop_all().aclose()
            async with wsrpc.connect(url) as session:
                assert await session.clientize(Hi).hi() == 1
            process.terminate()
            async for more in process.stderr:
                logged += more
    lines = logged.decode().splitlines()
    told = [line for line in lines if line.startswith("cannot accept connections at the moment")]
    assert "Too many open files" in told[0]
    # A line a second, and nothing of any library's own.
    assert len(told) < 20
    assert [line for line in lines if "accept" in line] == told
