"""Recordings: what is in them, what never is, and what a crash leaves of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.to_thread
import msgspec
import pytest

from tests.cli.conftest import ROOT, until
from wsrpc import Code, Recording, Server, connect, method
from wsrpc.interop.bare_peer import open_bare
from wsrpc.interop.service import Interop, Partner, interop_server
from wsrpc.telemetry.recorded_frames import RecordedFrame, RecordingError, frames, read_records
from wsrpc.telemetry.recording_format import MAGIC, Full, Lost
from wsrpc.telemetry.redaction import LEFT_OUT, MASKED
from wsrpc.transport.recorded import RecordedLink

PATIENCE = 20.0

Codec = Literal["json", "msgpack"]
codecs = pytest.mark.parametrize("codec", ["json", "msgpack"])


class Account:
    """Methods with something to hide."""

    @method
    async def login(self, name: str, password: str) -> dict[str, Any]:
        """Lets everybody in."""
        return {"name": name, "card": {"number": "a card number"}, "keys": [{"secret": "s3cret"}]}

    @method
    async def feed(self, numbers: AsyncIterator[dict[str, str]]) -> AsyncIterator[dict[str, str]]:
        """What is uploaded."""
        async for number in numbers:
            yield number


def any_(value: object) -> Any:
    """What a type checker would refuse."""
    return value


def seen(path: Path) -> list[RecordedFrame]:
    return list(frames(read_records(path)))


def named(path: Path, name: str) -> list[list[Any]]:
    return [one.frame for one in seen(path) if one.frame[0] == name]


async def session_through(server: Server, codec: Codec, **options: Any) -> None:
    """Some of everything over one connection."""
    async with server.listen() as listener:
        async with connect(
            listener.url, controllers=[Partner()], codec=codec, **options
        ) as session:
            interop = session.clientize(Interop)
            assert await interop.echo({"a": 1}) == {"a": 1}
            assert [one async for one in interop.count(3)] == [0, 1, 2]
            assert await interop.call_back(2) == [0, 1]
            assert len(await interop.blob(300_000)) == 300_000


@codecs
async def test_every_frame_is_written_with_its_time_and_who_sent_it(
    tmp_path: Path, codec: Codec
) -> None:
    began = time.time()
    at_c, at_s = tmp_path / "c.wsrec", tmp_path / "s.wsrec"
    server = interop_server()
    recorded = Server([Interop()], record=at_s)
    with anyio.fail_after(PATIENCE):
        await session_through(server, codec, record=at_c)
        await session_through(recorded, codec)
    for path in (at_c, at_s):
        found = seen(path)
        names = [(one.sender, one.frame[0]) for one in found]
        assert names[0] == ("C", "hello")
        assert names[1] == ("S", "hello")
        assert ("C", "call") in names
        assert ("S", "call") in names
        assert ("S", "chunk") in names
        assert found[-1].frame == ["close", 1000, ""]
        assert found[-1].sender == "C"
        times = [one.time for one in found]
        assert times == sorted(times)
        assert began - 1 <= times[0] <= times[-1] <= time.time() + 1
        assert {one.codec for one in found} == {codec}
    echo = [one.frame for one in seen(at_c) if one.method == "Interop.echo"]
    assert echo[0][:4] == ["call", 1, "Interop.echo", {"value": {"a": 1}}]
    assert echo[1] == ["result", 1, {"a": 1}]


@codecs
async def test_both_sides_record_the_same_conversation(tmp_path: Path, codec: Codec) -> None:
    at_c, at_s = tmp_path / "c.wsrec", tmp_path / "s.wsrec"
    with anyio.fail_after(PATIENCE):
        await session_through(Server([Interop()], record=at_s), codec, record=at_c)
    for sender in ("C", "S"):
        assert [one.frame for one in seen(at_c) if one.sender == sender] == [
            one.frame for one in seen(at_s) if one.sender == sender
        ]


@codecs
async def test_credentials_are_never_in_a_recording(tmp_path: Path, codec: Codec) -> None:
    async def admit(handshake: object, auth: object) -> str:
        return "ann"

    at_c, at_s = tmp_path / "c.wsrec", tmp_path / "s.wsrec"
    server = Server([Interop()], authenticate=admit, record=at_s)
    with anyio.fail_after(PATIENCE):
        async with server.listen() as listener:
            url = f"{listener.url}?token=in-the-query"
            async with connect(
                url, codec=codec, auth={"password": "hunter2"}, record=at_c
            ) as session:
                await session.refresh_auth({"password": "hunter3"})
                meta = {"Authorization": "hunter8", "x-api-key": "hunter9", "trace": "seen"}
                await session.clientize(Interop, metadata=meta).echo(1)
                token = None
            async with open_bare(url, codec) as bare:
                body = {"version": 1, "auth": "hunter4", "pasword": "hunter5"}
                await bare.send(["hello", body], ["auth", "hunter6", "hunter7"])
                await bare.greeted()
                token = bare.peer["token"]
    assert token
    for path in (at_c, at_s):
        text = repr([one.frame for one in seen(path)])
        plain = b"".join(msgspec.msgpack.encode(record) for record in read_records(path)).decode(
            errors="replace"
        )
        for secret in ("hunter", "in-the-query", token):
            assert secret not in text
            assert secret not in plain
        assert all(hello[1].get("token") in (None, MASKED) for hello in named(path, "hello"))
        assert named(path, "auth")[0] == ["auth", MASKED]
        shown = {"Authorization": MASKED, "x-api-key": MASKED, "trace": "seen"}
        assert named(path, "call")[0][4]["metadata"] == shown


async def test_an_escaped_or_broken_message_hides_no_credentials(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "x.wsrec")
    link = recording.link("json", "S", "", "/")
    escaped = rb'[["\u0068ello",{"version":1,"\u0061uth":"hunter2","auth":"hunter3"}]]'
    call = rb'[["call",1,"A.b",{},{"metadata":{"\u0063ookie":"hunter4"}}]]'
    broken = b'[["hello",{"version":1,"auth":"hunter2"}'
    for message in (
        escaped,
        broken,
        call,
        b'[["auth"]]',
        b'[["hello",["hunter2"]]]',
        b"[1]",
        b"[]",
    ):
        link.passed("C", message)
    link.over()
    await anyio.to_thread.run_sync(recording.flush)
    found = [one.frame for one in seen(recording.path)]
    assert found[0] == ["hello", {"version": 1, "auth": MASKED}]
    assert found[1] == ["unread", len(broken)]
    assert found[2] == ["call", 1, "A.b", {}, {"metadata": {"cookie": MASKED}}]
    assert "hunter" not in repr(found)


@codecs
async def test_values_are_masked_by_method_and_field(tmp_path: Path, codec: Codec) -> None:
    recording = Recording(
        tmp_path / "x.wsrec",
        mask={"Account.login": ["password", "card.number", "trace"], "Account.*": ["secret"]},
    )

    async def numbers() -> AsyncIterator[dict[str, str]]:
        yield {"secret": "uploaded", "open": "shown"}

    server = Server([Account(), Partner()])
    with anyio.fail_after(PATIENCE):
        async with server.listen() as listener:
            async with connect(
                listener.url, codec=codec, metadata={"trace": "t1"}, record=recording
            ) as session:
                account = session.clientize(Account)
                await account.login("Ann", "hunter2")
                assert len([one async for one in account.feed(numbers())]) == 1
                await session.clientize(Partner).echo({"password": "shown too"})
    text = repr([one.frame for one in seen(recording.path)])
    for hidden in ("hunter2", "a card number", "s3cret", "uploaded"):
        assert hidden not in text
    assert "shown too" in text
    assert text.count("'open': 'shown'") == 2
    login = [one.frame for one in seen(recording.path) if one.method == "Account.login"]
    assert login[0][3] == {"name": "Ann", "password": MASKED}
    assert login[0][4]["metadata"] == {"trace": MASKED}
    assert login[1][2] == {
        "name": "Ann",
        "card": {"number": MASKED},
        "keys": [{"secret": MASKED}],
    }


@codecs
async def test_all_values_can_be_left_out(tmp_path: Path, codec: Codec) -> None:
    recording = Recording(tmp_path / "x.wsrec", values=False)
    with anyio.fail_after(PATIENCE):
        async with interop_server().listen() as listener:
            async with connect(
                listener.url,
                codec=codec,
                controllers=[Partner()],
                metadata={"who": "hunter2"},
                record=recording,
            ) as session:
                interop = session.clientize(Interop)
                await interop.echo("hunter2")
                await interop.echo("hunter2" * 50_000)
                with pytest.raises(Exception, match="hunter2"):
                    await interop.fail(Code.ABORTED, "hunter2", {"why": "hunter2"})
                assert await interop.call_back(1) == [0]
    found = [one.frame for one in seen(recording.path)]
    assert "hunter2" not in repr(found)
    calls = [frame for frame in found if frame[0] == "call"]
    assert [frame[2] for frame in calls][:2] == ["Interop.echo", "Interop.echo"]
    assert list(calls[0][3]) == [LEFT_OUT]
    assert calls[0][3][LEFT_OUT] > len("hunter2")


async def test_methods_are_known_again_after_a_resume(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "x.wsrec", mask={"Account.feed": ["secret"]})
    first = recording.link("json", "C", "", "/")
    opening = {"version": 1, "session": "s1"}

    def passed(link: Any, sender: str, *batch: list[Any]) -> None:
        link.passed(sender, json.dumps(batch).encode())

    passed(first, "C", ["hello", {"version": 1}])
    passed(first, "S", ["hello", opening])
    passed(first, "C", ["call", 1, "Account.feed", {}])
    first.closed(None, 1006)
    second = recording.link("json", "C", "", "/")
    passed(second, "C", ["hello", {"version": 1, "token": "t"}])
    passed(second, "S", ["hello", {**opening, "resumed": True}])
    item = {"secret": "s", "open": "o"}
    passed(second, "S", ["message", 1, [item]], ["message", 3, [item]], ["end", 1])
    first.over()
    second.over()
    await anyio.to_thread.run_sync(recording.flush)
    found = [one for one in seen(recording.path) if one.frame[0] == "message"]
    assert found[0].frame == ["message", 1, [{"secret": MASKED, "open": "o"}]]
    assert found[0].method == "Account.feed"
    # Nobody knows what it belongs to, so it may be anything.
    assert list(found[1].frame[2][0]) == [LEFT_OUT]


async def test_a_link_that_is_not_recorded_is_not_wrapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object) -> None:
        raise AssertionError("wrapped")

    monkeypatch.setattr(RecordedLink, "__init__", never)
    with anyio.fail_after(PATIENCE):
        await session_through(interop_server(), "json")
        with pytest.raises(AssertionError, match="wrapped"):
            await session_through(interop_server(), "json", record=tmp_path / "x.wsrec")


# ---------------------------------------------------------------- what becomes of the file


def filled(path: Path, count: int, **options: Any) -> Recording:
    """A recording with so many messages, each in a block of its own."""
    recording = Recording(path, **options)
    link = recording.link("json", "C", "", "/")
    link.passed("C", b'[["hello",{"version":1}]]')
    for number in range(count):
        link.passed("C", json.dumps([["ping", number]]).encode())
        recording.flush()
    link.closed("C", 1000)
    link.over()
    recording.flush()
    return recording


def pings(path: Path) -> list[int]:
    return [frame[1] for frame in named(path, "ping")]


def test_a_recording_is_readable_up_to_its_last_complete_block_wherever_it_breaks_off(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.wsrec"
    filled(path, 5)
    whole = path.read_bytes()
    most = 0
    torn = tmp_path / "torn.wsrec"
    for size in range(len(MAGIC), len(whole)):
        torn.write_bytes(whole[:size])
        found = pings(torn)
        assert found == list(range(len(found)))
        assert len(found) >= most
        most = len(found)
    assert most == 5
    torn.write_bytes(whole[:-20] + b"\0" * 20)
    assert pings(torn) == [0, 1, 2, 3, 4][: len(pings(torn))]


def test_a_recording_goes_on_after_what_a_crash_has_left(tmp_path: Path) -> None:
    path = tmp_path / "x.wsrec"
    filled(path, 3)
    with path.open("ab") as file:
        file.write(b"\0\0\1\0torn")
    filled(path, 2)
    assert pings(path) == [0, 1, 2, 0, 1]


def test_kill_9_leaves_what_was_there_a_second_before(tmp_path: Path) -> None:
    path = tmp_path / "x.wsrec"
    code = f"""
import time
from wsrpc import Recording
link = Recording({str(path)!r}).link("json", "C", "", "/")
number = 0
while True:
    link.passed("C", b'[["ping",%d]]' % number)
    number += 1
    time.sleep(0.001)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as process:
        assert until(lambda: path.exists() and path.stat().st_size > 20 and len(pings(path)) > 100)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    found = pings(path)
    assert found == list(range(len(found)))
    assert len(found) > 100


def noise(link: Any, count: int) -> None:
    """Messages that cannot be compressed much."""
    for _ in range(count):
        link.passed("C", json.dumps([["x-noise", os.urandom(10_000).hex()]]).encode())


def test_a_recording_stops_at_its_bound(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recording = Recording(tmp_path / "x.wsrec", max_bytes=100_000)
    link = recording.link("json", "C", "", "/")
    noise(link, 30)
    link.over()
    recording.flush()
    assert recording.path.stat().st_size <= 100_000
    assert isinstance(list(read_records(recording.path))[-1], Full)
    assert recording.failure is not None
    assert "has reached its bound" in caplog.text
    assert len(named(recording.path, "x-noise")) > 3


def test_a_recording_that_rotates_keeps_the_newest(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "x.wsrec", max_bytes=200_000, when_full="rotate")
    link = recording.link("json", "C", "", "/")
    for _ in range(10):
        noise(link, 5)
        recording.flush()
    link.passed("C", b'[["ping",7]]')
    link.over()
    recording.flush()
    before = tmp_path / "x.wsrec.1"
    assert before.exists()
    assert recording.path.stat().st_size <= 100_000
    assert before.stat().st_size <= 100_000
    assert recording.failure is None
    # The connection is known in the new file, too.
    assert pings(recording.path) == [7]
    assert len(named(recording.path, "x-noise")) > 5


def test_what_comes_faster_than_the_disk_is_counted_and_not_held(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "x.wsrec", max_pending=1000)
    link = recording.link("json", "C", "", "/")
    noise(link, 3)
    link.passed("C", b'[["ping",7]]')
    link.over()
    recording.flush()
    lost = [record for record in read_records(recording.path) if isinstance(record, Lost)]
    assert [one.count for one in lost] == [3]
    assert pings(recording.path) == [7]


async def test_a_disk_that_fails_ends_the_recording_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recording = Recording(tmp_path / "x.wsrec")

    def fails(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recording, "_put", fails)
    with anyio.fail_after(PATIENCE):
        await session_through(interop_server(), "json", record=recording)
    assert isinstance(recording.failure, OSError)
    assert "the recording ends, since it cannot be written" in caplog.text


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: Recording(path, max_bytes=10), "max_bytes must be at least"),
        (
            lambda path: Recording(path, when_full=any_("pause")),
            "when_full must be 'stop' or 'rotate'",
        ),
        (lambda path: Recording(path, mask={"A.b": "password"}), "mask takes lists of fields"),
        (lambda path: connect("ws://x", record=any_(3)), "record must be a path"),
        (lambda path: Server([], record=any_(b"x")), "record must be a path"),
    ],
)
def test_options_that_are_none_are_refused_in_words(
    tmp_path: Path, make: Callable[[Path], Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        make(tmp_path / "x.wsrec")


def test_a_file_that_is_no_recording_is_neither_written_nor_read(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my only copy")
    with pytest.raises(ValueError, match="is no recording"):
        Recording(path)
    with pytest.raises(RecordingError, match="is no recording"):
        list(read_records(path))
    assert path.read_text() == "my only copy"
    with pytest.raises(FileNotFoundError):
        Recording(tmp_path / "missing" / "x.wsrec")


def test_two_recordings_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "x.wsrec"
    first = Recording(path)
    link = first.link("json", "C", "", "/")
    link.passed("C", b'[["ping",1]]')
    first.flush()
    with pytest.raises(BlockingIOError, match="another recording is writing"):
        Recording(path)
    link.over()
    first.flush()
    Recording(path)
