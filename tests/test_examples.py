"""Every example runs as a program, and its outcome is what it says it is."""

from __future__ import annotations

import gc
import hashlib
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import openai
import pytest
from anyio.abc import SocketStream
from openai.types import CompletionUsage

import wsrpc
from examples import (
    authorization,
    chat_room,
    cluster_chat,
    cluster_dashboard,
    cluster_workers,
    errors,
    file_transfer,
    hello,
    interceptors,
    openai_relay,
    price_ticker,
    raw_client,
    server_calls_client,
    stream_fetcher,
    tracked,
    upload_progress,
    worker_fleet,
    worker_pool,
)
from tests.support import error_of, served, soon
from wsrpc.cluster.bus.embedded import nats_server_path

EXAMPLES = Path(hello.__file__).parent
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("[!_]*.py"))
# As a program: what all of them do is tried below as well, in this process.
OFTEN = ("hello.py", "raw_client.py")
needs_nats = [
    pytest.mark.slow,
    pytest.mark.nats,
    pytest.mark.skipif(
        os.environ.get("WSRPC_NATS") != "require"
        and (nats_server_path() is None or importlib.util.find_spec("nats") is None),
        reason="there is no nats-server here, or no nats-py",
    ),
]

# What openai leaves to the garbage collector; trio warns of it.
left_by_openai = pytest.mark.filterwarnings(
    "ignore:Async generator '(openai|httpx2|httpcore2):ResourceWarning"
)


async def collect_what_openai_left() -> None:
    """Its generators are nested, and the event loop closes one of them at a time."""
    for _ in range(20):
        gc.collect()
        await anyio.lowlevel.checkpoint()


def marks_of(program: str) -> list[pytest.MarkDecorator]:
    if program.startswith("cluster_"):
        return needs_nats
    return [] if program in OFTEN else [pytest.mark.slow]


@pytest.mark.rule("RETRY-3")
async def test_tracked_reads_each_line_once_over_two_servers() -> None:
    with soon():
        read, asked = await tracked.main()
    assert read == tracked.LINES
    first, *later = asked
    assert first is None
    assert later
    assert None not in later


@pytest.mark.parametrize(
    "program",
    [pytest.param(program, marks=marks_of(program)) for program in PROGRAMS],
)
def test_each_example_runs_by_itself_and_ends_well(program: str) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.slow
@pytest.mark.nats
@needs_nats[2]
async def test_clusters_keep_what_they_show() -> None:
    with anyio.fail_after(60):
        heard = await cluster_chat.main()
        assert heard["Bob"][-1] == heard["Ann"][-1] == "I am, on the other node."
        done = await cluster_workers.main()
        assert len(done) == cluster_workers.JOBS
        assert len({pid for pid, _ in done.values()}) == 2
        sold, shown = await cluster_dashboard.main()
        assert shown == [sold, sold]


@pytest.mark.rule("AUTHZ-1")
async def test_a_role_decides_about_each_call() -> None:
    with soon():
        assert await authorization.main() == ["changed", "permission_denied"]


async def test_hello_puts_the_tokens_together() -> None:
    with soon():
        assert await hello.main() == "Hello, World!"


async def test_errors_arrive_as_they_were_raised() -> None:
    with soon():
        first, second, lost, quota, broken = await errors.main()
    assert (first, second) == ("first row", "second row")
    assert isinstance(lost, wsrpc.RpcError)
    assert (lost.code, lost.message) == ("data_loss", "the disk failed")
    assert lost.data == {"disk": "sda", "blocks": [17, 18]}
    assert isinstance(quota, errors.QuotaExceeded)
    assert quota.data == errors.Quota(used=10, limit=10)
    assert isinstance(broken, wsrpc.RpcError)
    assert (broken.code, broken.message, broken.data) == ("internal", "internal error", None)


async def test_the_error_id_that_crosses_is_the_one_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with soon():
        broken = (await errors.main())[-1]
    assert isinstance(broken, wsrpc.RpcError)
    assert broken.error_id
    (record,) = [one for one in caplog.records if broken.error_id in one.getMessage()]
    assert "ZeroDivisionError" in record.getMessage()


async def test_stream_fetchers_retry_cache_and_record() -> None:
    with soon():
        retried, cached, calls, recorded = await stream_fetcher.main()
    assert retried == [0, 1, 2, 3, 4, 5]
    assert cached == [[10, 11]] * 3
    assert calls == [0, 3, 10, 20]
    assert recorded == ["Numbers.count {'start': 20, 'stop': 22}", "  20", "  21"]


async def test_the_retrying_fetcher_gives_up_in_the_end() -> None:
    class Down:
        controller_name = "Numbers"
        calls = 0

        @wsrpc.method
        async def count(self, start: int, stop: int) -> AsyncIterator[int]:
            self.calls += 1
            raise wsrpc.RpcError("unavailable", "down for good")
            yield 0

    down = Down()
    async with served([down]) as listener, wsrpc.connect(listener.url) as session:
        numbers = session.clientize(stream_fetcher.Numbers, stream_fetcher=stream_fetcher.retrying)
        with pytest.raises(wsrpc.RpcError, match="down for good"):
            await numbers.count(0, 1).collect()
    assert down.calls == 3


async def test_a_stream_left_early_is_not_cached() -> None:
    caching = stream_fetcher.Caching()
    async with served([stream_fetcher.Numbers()]) as listener:
        async with wsrpc.connect(listener.url) as session:
            numbers = session.clientize(stream_fetcher.Numbers, stream_fetcher=caching)
            async with numbers.count(5, 9) as stream:
                assert await anext(stream) == 5
            assert caching.kept == {}
            assert await numbers.count(5, 9).collect() == [5, 6, 7, 8]
            assert len(caching.kept) == 1


async def test_an_upload_draws_its_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with soon():
        digest = await upload_progress.main()
    assert "6,888,890 bytes" in capsys.readouterr().out
    assert len(digest) == 64


async def test_progress_only_rises_and_ends_with_all_of_the_file(tmp_path: Path) -> None:
    drawn: list[int] = []
    path = tmp_path / "file"
    path.write_bytes(bytes(200_000))
    with soon():
        await upload_progress.upload(path, drawn.append)
    assert drawn == [65_536, 131_072, 196_608, 200_000]


@pytest.mark.slow
async def test_a_transfer_goes_on_where_it_was_when_its_server_is_killed() -> None:
    with anyio.fail_after(60):  # it starts three processes
        outcome = await file_transfer.main(size=8 * 1024 * 1024)
    assert outcome.size == 8 * 1024 * 1024
    assert len(set(outcome.digests)) == 1
    for attempts in (outcome.ups, outcome.downs):
        assert attempts[0] == 0
        assert outcome.size // 2 <= attempts[-1] < outcome.size
    assert len(outcome.calls) > 10


async def test_an_upload_begins_where_the_file_ends_and_names_are_no_paths(tmp_path: Path) -> None:
    async def ignore(size: int) -> None: ...

    async with served([file_transfer.Files(tmp_path)]) as listener:
        async with wsrpc.connect(listener.url, codec="msgpack") as session:
            files = session.clientize(file_transfer.Files)
            digest = await files.store("a", 0, wsrpc.stream_of([b"abc"]), ignore)
            assert digest == hashlib.sha256(b"abc").hexdigest()
            with error_of("aborted"):
                await files.store("a", 2, wsrpc.stream_of([b"d"]), ignore)
            await files.store("a", 3, wsrpc.stream_of([b"d"]), ignore)
            assert (tmp_path / "a").read_bytes() == b"abcd"
            for name in ("../a", "/a", ".a", ""):
                with error_of("invalid_argument"):
                    await files.size(name)


def test_without_rich_the_bar_is_drawn_as_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with upload_progress.progress_bar(200) as draw:
        draw(100)
        draw(200)
    half, whole = capsys.readouterr().out.strip().split("\r")
    assert half == f"[{'#' * 15}{'.' * 15}]  50 %"
    assert whole == f"[{'#' * 30}] 100 %"


async def test_a_slow_reader_of_prices_gets_the_newest_each_time() -> None:
    with soon():
        read, dropped = await price_ticker.main()
    assert read == sorted(set(read))
    assert len(read) == 10
    # Items that were not read were dropped: none waits in a queue.
    assert dropped == read[-1] + 1 - len(read) > 0


async def test_the_server_calls_the_client_within_a_call_and_out_of_the_blue() -> None:
    with soon():
        seen = await server_calls_client.main()
    assert seen == ["draft.txt is gone", "notes.txt stays", "the server restarts at noon"]


async def test_the_job_of_a_worker_that_dies_is_done_by_another() -> None:
    with anyio.fail_after(60):  # it starts three processes
        pool = await worker_pool.main()
    assert pool.requeued == [500_000]
    assert set(pool.results) == set(range(500_000, 500_020))
    assert pool.results[500_000] == sum(n for n in range(1, 500_001) if 500_000 % n == 0)


@pytest.mark.slow
async def test_a_fleet_loses_a_worker_and_restarts_another_and_every_job_is_done_once() -> None:
    with anyio.fail_after(60):  # it starts four processes
        fleet, restarted = await worker_fleet.main()
    steps = range(1, worker_fleet.STEPS + 1)
    right = {job: sum(job * step for step in steps) for job in range(worker_fleet.JOBS)}
    assert fleet.results == right
    assert len(fleet.requeued) == 1
    first, killed, leaving, successor = sorted(fleet.seats.values(), key=lambda seat: seat.name)
    assert killed.state == f"killed; job {fleet.requeued[0]} goes back"
    assert restarted == 0
    assert leaving.state == "has left after its job"
    assert leaving.done >= 1
    assert first.state == successor.state == "went home"
    assert sum(seat.done for seat in fleet.seats.values()) == worker_fleet.JOBS


async def test_everybody_in_the_chat_room_hears_everybody() -> None:
    with soon():
        heard = await chat_room.main()
    talk = ["Ann: Hello all!", "Bob: Hi, Ann. Bye, Ann."]
    assert heard == {
        "Ann": [
            "room: Ann joined",
            "room: Bob joined",
            "room: Cid joined",
            *talk,
            "room: Bob left",
        ],
        "Bob": ["room: Bob joined", "room: Cid joined", *talk],
        "Cid": ["room: Cid joined", *talk, "room: Bob left", "room: Ann left"],
    }


async def test_a_member_whose_session_ends_has_left_the_chat_room() -> None:
    room = chat_room.ChatRoom()
    async with served([room]) as listener, wsrpc.connect(listener.url) as ann:
        async with ann.clientize(chat_room.ChatRoom).join("Ann") as heard:
            assert (await anext(heard)).text == "Ann joined"
            async with wsrpc.connect(listener.url) as bob:
                bobs = bob.clientize(chat_room.ChatRoom).join("Bob")
                assert (await anext(bobs)).text == "Bob joined"
                assert (await anext(heard)).text == "Bob joined"
            assert (await anext(heard)).text == "Bob left"
    assert room.members == {}


async def test_the_chat_room_wants_names_and_no_two_of_one() -> None:
    async with served([chat_room.ChatRoom()]) as listener, wsrpc.connect(listener.url) as session:
        room = session.clientize(chat_room.ChatRoom)
        with pytest.raises(wsrpc.RpcError, match="join the room first"):
            await room.say("Hello?")
        async with room.join("Ann") as heard:
            await anext(heard)
            with pytest.raises(wsrpc.RpcError, match="Ann is here already"):
                await anext(room.join("Ann"))


async def test_interceptors_check_roles_and_map_errors() -> None:
    with soon():
        said = await interceptors.main()
    assert said == ["not_found: there is no 'melon'", "permission_denied: set_price is for admins"]


async def test_every_call_is_timed_on_both_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with soon():
        await interceptors.main()
    timed = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if " ms" in line]
    both = [("inbound", "outbound"), ("inbound", "outbound"), ("inbound", "outbound")]
    assert sorted(one.split()[0] for one in timed) == sorted(chain.from_iterable(both))


async def test_the_raw_client_reads_plain_frames() -> None:
    with soon():
        welcome, *frames = await raw_client.main()
    assert welcome[0] == "hello"
    assert welcome[1]["version"] == 1
    assert ["result", 1, "Hello, Ann!"] in frames
    items = [item for name, _, rest in frames if name == "message" for item in rest]
    assert items == [1, 2, 3]
    assert ["end", 3, None] in frames


# ------------------------------------------------------------------------------ openai_relay


@left_by_openai
async def test_the_relay_passes_on_deltas_and_usage_and_hangs_up_when_its_client_leaves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with soon():
        text, usage, heard = await openai_relay.main()
    await collect_what_openai_left()
    assert text == "Tokens stream, one by one."
    assert usage == CompletionUsage(completion_tokens=5, prompt_tokens=8, total_tokens=13)
    assert heard == 10
    assert capsys.readouterr().out.endswith("model: the caller hung up\n")


class Refusing(openai_relay.FakeOpenAi):
    async def answer(self, connection: SocketStream) -> None:
        body = b'{"error": {"message": "wrong key"}}'
        head = f"HTTP/1.1 401 Unauthorized\r\ncontent-length: {len(body)}\r\n"
        async with connection:
            await connection.receive()
            await connection.send(head.encode() + b"content-type: application/json\r\n\r\n" + body)


@asynccontextmanager
async def relayed_from(fake: Any) -> AsyncIterator[openai_relay.OpenAiController]:
    """A client's proxy of a relay to `fake`."""
    async with openai.AsyncOpenAI(base_url=fake.url, api_key="fake") as model:
        async with served([openai_relay.OpenAiController(model)]) as listener:
            async with wsrpc.connect(listener.url) as session:
                yield session.clientize(openai_relay.OpenAiController)
    await collect_what_openai_left()


async def test_what_openai_refuses_reaches_the_client_with_a_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(openai_relay, "FakeOpenAi", Refusing)
    async with openai_relay.fake_openai() as fake, relayed_from(fake) as relay:
        with pytest.raises(wsrpc.RpcError, match="wrong key") as caught:
            await anext(relay.chat([openai_relay.Message(content="Hello")]))
    assert caught.value.code == "unauthenticated"


async def test_only_messages_of_the_declared_shape_get_as_far_as_the_model() -> None:
    async with openai_relay.fake_openai() as fake, relayed_from(fake) as relay:
        with pytest.raises(wsrpc.RpcError) as caught:
            await anext(relay.chat([{"role": "admin", "content": 1}]))  # type: ignore[list-item]
    assert caught.value.code == "invalid_argument"


def test_the_controllers_that_the_docs_name_can_be_served_by_themselves() -> None:
    text = Path("docs/examples.md").read_text("utf-8").partition("## In the explorer")[2]
    named = [(m, c) for c, m in re.findall(r"`(\w+)` of\s+`([\w.]+)`", text)]
    assert len(named) >= 6
    for module, name in [("hello", "HelloController"), *named]:
        controller = getattr(importlib.import_module(f"examples.{module}"), name)
        contract = wsrpc.Server([controller]).contract()
        assert list(contract["controllers"]) == [name]
