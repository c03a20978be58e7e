"""What is kept until it is acked, and when acks are due."""

from __future__ import annotations

from typing import Any

import pytest

from wsrpc.limits import Limits
from wsrpc.protocol.codec import Codec
from wsrpc.protocol.frames import ErrorBody
from wsrpc.protocol.lanes import InCall

from .harness import Bare, Side

SIDES: list[Side] = ["accepting", "connecting"]


@pytest.fixture(params=SIDES)
def lasting(request: pytest.FixtureRequest, codec: Codec) -> Bare:
    """An endpoint of either side in a session that can be resumed."""
    return Bare(codec, request.param, resume_window=30.0)


def stream(bare: Bare, credit: int = 2**20) -> InCall:
    id = 1 if bare.endpoint.side == "accepting" else 2
    return bare.call("call", id, "A.b", {}, {"credit": credit})


# ---------------------------------------------------------------- what is kept


@pytest.mark.rule("NUM-1", "NUM-2")
def test_frames_are_numbered_as_they_are_sent(lasting: Bare) -> None:
    endpoint = lasting.endpoint
    call = stream(lasting)
    for n in range(5):
        endpoint.push(call, lasting.dump(n))
    endpoint.call("A.c", lasting.dump({}))
    gone = endpoint.call("A.d", lasting.dump({}))
    assert endpoint.sent == 0
    endpoint.cancel(gone)
    assert [frame[0] for frame in lasting.hear()] == ["message", "call"]
    assert endpoint.sent == 2


@pytest.mark.rule("RESUME-6")
def test_the_bytes_of_numbered_frames_are_kept_until_acked(lasting: Bare) -> None:
    endpoint = lasting.endpoint
    call = stream(lasting)
    sizes = [0]
    for n in range(4):
        endpoint.push(call, lasting.dump("x" * 100 * n))
        lasting.hear()
        sizes.append(endpoint.replay_bytes)
    assert sizes == sorted(set(sizes))
    for n in range(1, 5):
        lasting.say(["ack", n])
        assert endpoint.replay_bytes == sizes[4] - sizes[n]
        assert endpoint.acked == n
    assert endpoint.replay_bytes == 0


@pytest.mark.rule("NUM-1")
def test_link_frames_are_not_kept(lasting: Bare) -> None:
    lasting.say(["ping", 1])
    assert lasting.hear() == [["pong", 1]]
    assert (lasting.endpoint.sent, lasting.endpoint.replay_bytes) == (0, 0)


@pytest.mark.rule("HELLO-10")
@pytest.mark.parametrize("side", SIDES)
def test_a_session_that_ends_with_its_link_keeps_nothing(codec: Codec, side: Side) -> None:
    bare = Bare(codec, side)
    call = stream(bare)
    for _ in range(100):
        bare.endpoint.push(call, bare.dump("x"))
        bare.hear()
    assert bare.endpoint.sent == 100
    assert bare.endpoint.replay_bytes == 0
    assert bare.endpoint.next_alarm is None
    bare.say(["ack", 100])
    assert bare.endpoint.acked == 100


@pytest.mark.rule("HELLO-10", "RESUME-6")
def test_what_goes_before_the_servers_hello_is_kept_until_that_says_otherwise(
    codec: Codec,
) -> None:
    for window in (0, 1000):
        bare = Bare(codec, "connecting", hello={"resume_window": window, "token": "t"}, greet=False)
        bare.endpoint.call("A.b", bare.dump({}))
        bare.hear()
        kept = bare.endpoint.replay_bytes
        assert kept
        bare.say(bare.hello)
        assert bare.endpoint.replay_bytes == (kept if window else 0)


@pytest.mark.rule("HELLO-4", "ACK-3")
def test_a_hello_may_ack_what_was_sent_before_it(codec: Codec) -> None:
    hello = {"resume_window": 1000, "token": "t", "received": 1}
    bare = Bare(codec, "connecting", hello=hello, greet=False)
    assert bare.rejects(bare.hello) == 4505
    bare = Bare(codec, "connecting", hello=hello, greet=False)
    bare.endpoint.call("A.b", bare.dump({}))
    bare.hear()
    bare.say(bare.hello)
    assert (bare.endpoint.acked, bare.endpoint.replay_bytes) == (1, 0)


# ---------------------------------------------------------------- a full buffer


@pytest.fixture(params=SIDES)
def narrow(request: pytest.FixtureRequest, codec: Codec) -> Bare:
    """An endpoint with room for about ten small frames."""
    return Bare(codec, request.param, limits=Limits(replay=1000), resume_window=30.0)


@pytest.mark.rule("RESUME-6")
def test_while_the_buffer_is_full_numbered_frames_wait(narrow: Bare) -> None:
    endpoint = narrow.endpoint
    call = stream(narrow)
    heard: list[Any] = []
    for n in range(100):
        endpoint.push(call, narrow.dump(n))
        heard += narrow.hear()
        assert endpoint.replay_bytes <= 1000
    assert 5 <= len(heard) < 90
    assert endpoint.outbox_bytes > 0
    while endpoint.acked < endpoint.sent:
        narrow.say(["ack", endpoint.sent])
        heard += narrow.hear()
        assert endpoint.replay_bytes <= 1000
    items = [item for frame in heard if frame[0] == "message" for item in frame[2]]
    assert items == list(range(100)), "nothing is dropped"


@pytest.mark.rule("RESUME-6")
def test_while_the_buffer_is_full_link_frames_go_on(narrow: Bare) -> None:
    call = stream(narrow)
    narrow.endpoint.push(call, narrow.dump("x" * 990))
    narrow.hear()
    narrow.endpoint.push(call, narrow.dump(1))
    narrow.say(["ping", 7])
    assert narrow.hear() == [["pong", 7]]
    assert not narrow.endpoint.has_output
    narrow.say(["ack", 1])
    assert narrow.endpoint.has_output
    assert [frame[0] for frame in narrow.hear()] == ["message"]


@pytest.mark.rule("RESUME-6")
def test_an_empty_buffer_takes_a_single_frame_of_any_size(narrow: Bare) -> None:
    endpoint = narrow.endpoint
    call = stream(narrow)
    for _ in range(3):
        endpoint.push(call, narrow.dump("x" * 5000))
        endpoint.push(call, narrow.dump("x" * 20_000))
        endpoint.push(call, narrow.dump("x" * 20_000))
        lasting = []
        while endpoint.outbox_bytes:
            batch = narrow.hear()
            assert len(batch) <= 1
            lasting += batch
            narrow.say(["ack", endpoint.sent])
        assert [len(frame[2]) for frame in lasting] in ([1, 1, 1], [2, 1])


@pytest.mark.rule("RESUME-6")
@pytest.mark.parametrize("side", SIDES)
def test_a_frame_larger_than_a_batch_waits_for_room_too(codec: Codec, side: Side) -> None:
    limits = Limits(replay=300_000)
    bare = Bare(
        codec, side, limits=limits, resume_window=30.0, hello={"limits": {"max_batch": 500_000}}
    )
    call = stream(bare)
    for _ in range(3):
        bare.endpoint.push(call, bare.dump("x" * 140_000))
    assert [len(batch) for batch in bare.batches()] == [1, 1]
    assert bare.endpoint.replay_bytes <= 300_000
    bare.say(["ack", 1])
    assert [len(batch) for batch in bare.batches()] == [1]


@pytest.mark.rule("RESUME-6")
def test_a_frame_that_does_not_fit_the_buffer_waits_for_room(narrow: Bare) -> None:
    endpoint = narrow.endpoint
    call = stream(narrow)
    endpoint.push(call, narrow.dump(1))
    narrow.hear()
    endpoint.push(call, narrow.dump("x" * 5000))
    assert narrow.hear() == []
    endpoint.fail(call, ErrorBody("aborted", ""))
    assert narrow.hear() == [], "nothing overtakes it"
    narrow.say(["ack", 1])
    assert [frame[0] for frame in narrow.hear()] == ["message"]
    narrow.say(["ack", 2])
    assert [frame[0] for frame in narrow.hear()] == ["error"]


# ---------------------------------------------------------------- when acks are due


def credits(bare: Bare, n: int, filler: int = 0) -> None:
    id = 1 if bare.endpoint.side == "accepting" else 2
    frames: list[list[Any]] = [["credit", id, 1]] * n
    bare.say(*frames, *([["x-filler", "x" * filler]] if filler else []))


@pytest.mark.rule("RESUME-7", "ACK-4")
def test_an_ack_is_due_after_32_frames(lasting: Bare) -> None:
    stream(lasting)
    credits(lasting, 30)
    assert lasting.hear() == []
    credits(lasting, 1)
    assert lasting.hear() == [["ack", 32]]
    credits(lasting, 31)
    assert lasting.hear() == []
    credits(lasting, 7)
    assert lasting.hear() == [["ack", 70]]


@pytest.mark.rule("RESUME-7")
def test_an_ack_is_due_after_64_kib(lasting: Bare) -> None:
    stream(lasting)
    credits(lasting, 1, filler=60_000)
    assert lasting.hear() == []
    credits(lasting, 1, filler=6_000)
    assert lasting.hear() == [["ack", 3]]


@pytest.mark.rule("RESUME-7")
def test_an_ack_is_due_a_second_after_the_first_frame(lasting: Bare) -> None:
    endpoint = lasting.endpoint
    assert endpoint.next_alarm is None
    stream(lasting)
    begun = lasting.now
    assert endpoint.next_alarm == begun + 1.0
    lasting.now += 0.9
    credits(lasting, 1)
    assert endpoint.next_alarm == begun + 1.0
    endpoint.alarm(lasting.now)
    assert not endpoint.has_output
    assert lasting.hear() == []
    lasting.now += 0.1
    assert endpoint.alarm(lasting.now) == []
    assert endpoint.has_output, "it goes by itself, whatever else there is to say"
    assert lasting.hear() == [["ack", 2]]
    assert endpoint.next_alarm is None


@pytest.mark.rule("RESUME-7")
def test_whoever_writes_when_an_ack_is_due_writes_it(lasting: Bare) -> None:
    stream(lasting)
    lasting.now += 1.0
    assert lasting.hear() == [["ack", 1]]


@pytest.mark.rule("RESUME-7")
def test_an_ack_goes_along_with_other_frames_when_it_is_half_due(lasting: Bare) -> None:
    call = stream(lasting)
    endpoint = lasting.endpoint
    for owed, filler, wait, along in (
        (14, 0, 0.4, False), (1, 0, 0.0, True), (15, 0, 0.0, False), (1, 0, 0.0, True),
        (1, 33_000, 0.0, True), (1, 0, 0.4, False), (1, 0, 0.2, True),
    ):  # fmt: skip
        credits(lasting, owed, filler)
        lasting.now += wait
        endpoint.push(call, lasting.dump(0))
        assert [frame[0] for frame in lasting.hear()] == ["ack"] * along + ["message"]


@pytest.mark.rule("RESUME-7", "NUM-3")
def test_an_ack_tells_what_was_taken_when_it_is_written(lasting: Bare) -> None:
    stream(lasting)
    credits(lasting, 31)
    credits(lasting, 40)
    assert lasting.hear() == [["ack", 72]]
    credits(lasting, 32)
    credits(lasting, 3)
    assert lasting.hear()[0][1] >= 104


@pytest.mark.rule("NUM-1")
def test_acks_are_not_acked(lasting: Bare) -> None:
    endpoint = lasting.endpoint
    call = stream(lasting)
    endpoint.push(call, lasting.dump(0))
    lasting.hear()
    lasting.now += 5
    lasting.hear()
    for _ in range(100):
        lasting.say(["ack", 1])
    assert lasting.hear() == []
    assert endpoint.next_alarm is None
