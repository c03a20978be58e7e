"""A session that comes back gets on, however soon its links are lost again."""

from __future__ import annotations

import pytest

from wsrpc.limits import Limits
from wsrpc.protocol.codec import Codec
from wsrpc.protocol.endpoint import Endpoint
from wsrpc.protocol.events import CallReceived, Event, ItemsReceived, SessionExpired
from wsrpc.protocol.hello import read_opening
from wsrpc.protocol.lanes import InCall

from .harness import Bare, Side, decode

WINDOW = 30.0
SMALL = 16 * 1024
ITEM = 1000


def held(codec: Codec) -> Bare:
    """An accepting endpoint that has 60 items of a kilobyte to send again."""
    bare = Bare(
        codec, "accepting", resume_window=WINDOW, hello={"limits": {"max_batch": 1024 * 1024}}
    )
    bare.say(["ack", 0])
    call = bare.call("call", 1, "A.b", {}, {"credit": 200})
    for _ in range(60):
        bare.endpoint.push(call, bare.dump("x" * ITEM))
        bare.hear()
    bare.lose()
    return bare


@pytest.mark.rule("RESUME-4")
def test_after_a_resume_the_hello_is_alone_and_one_frame_goes_ahead_of_the_others(
    codec: Codec,
) -> None:
    bare = held(codec)
    bare.come_back(0)
    first = bare.batches()
    assert [[frame[0] for frame in batch] for batch in first[:2]] == [["hello"], ["message"]]
    assert all(len(bare.dump(batch)) <= SMALL for batch in first)
    assert sum(len(batch) for batch in first) == 61


@pytest.mark.rule("RESUME-4")
def test_batches_stay_small_until_an_ack_says_that_something_got_through(codec: Codec) -> None:
    bare = held(codec)
    bare.come_back(0)
    endpoint = bare.endpoint
    for _ in range(3):
        assert endpoint.next_batch(bare.now) is not None
    # That of ACK-1 says no more than the hello did.
    bare.say(["ack", 0])
    data = endpoint.next_batch(bare.now)
    assert data is not None
    assert len(data) <= SMALL
    bare.say(["ack", 1])
    data = endpoint.next_batch(bare.now)
    assert data is not None
    assert len(data) > SMALL


@pytest.mark.rule("RESUME-4")
def test_a_batch_is_no_larger_than_all_before_it_until_something_got_through(codec: Codec) -> None:
    bare = held(codec)
    bare.come_back(0)
    _, first, *others = [len(bare.dump(batch)) for batch in bare.batches()]
    carried = first
    for size in others:
        assert size <= carried + 2
        carried += size
    assert max(others) > SMALL // 2


@pytest.mark.rule("RESUME-4")
def test_the_connecting_side_begins_as_carefully(codec: Codec) -> None:
    bare = Bare(
        codec, "connecting", resume_window=WINDOW, hello={"limits": {"max_batch": 1024 * 1024}}
    )
    for _ in range(8):
        bare.endpoint.call("A.b", bare.dump({"text": "x" * 8000}))
        bare.hear()
    bare.lose()
    bare.endpoint.connect(now=bare.now)
    bare.endpoint.goaway(30.0, bare.now)
    assert [[frame[0] for frame in batch] for batch in bare.batches()] == [["hello"], ["goaway"]]
    bare.come_back(0)
    batches = bare.batches()
    assert [frame[0] for frame in batches[0]] == ["ack", "call"]
    assert all(len(bare.dump(batch)) <= SMALL for batch in batches)
    assert [frame[1] for batch in batches for frame in batch if frame[0] == "call"] == [
        *range(1, 17, 2)
    ]


@pytest.mark.rule("RESUME-4", "RESUME-9")
@pytest.mark.parametrize("size", [100, 3_000, 30_000])
def test_a_link_that_lasts_for_a_hello_and_one_frame_makes_progress(
    codec: Codec, size: int
) -> None:
    """Of each link the connecting side gets two messages, and nothing more."""
    limits = Limits(max_batch=1024 * 1024, replay=4 * 1024 * 1024)
    client = Endpoint("connecting", codec, limits)
    server = Endpoint("accepting", codec, limits)
    client.connect(now=0.0)
    server.accept(
        read_opening(codec, taken(client)), "s", token="t0", resume_window=WINDOW, now=0.0
    )
    client.receive(taken(server), 0.0)
    client.call("A.b", b"{}" if codec.text else b"\x80", window=500)
    *_, event = server.receive(taken(client), 0.0)
    assert isinstance(event, CallReceived)
    sent = 40
    for _ in range(sent):
        server.push(event.call, bytes(codec.dump("x" * size)))
        server.next_batch(0.0)
    got: list[object] = []
    for link in range(1, sent + 1):
        client.detach(0.0)
        server.detach(0.0)
        assert client.resumable
        assert server.resumable, f"given up after link {link}"
        client.connect(now=0.0)
        server.resume(read_opening(codec, taken(client)), token=f"t{link}", now=0.0)
        got += items(codec, client.receive(taken(server), 0.0))
        got += items(codec, client.receive(taken(server), 0.0))
        if len(got) == sent:
            break
    assert got == ["x" * size] * sent


@pytest.mark.rule("RESUME-9")
def test_a_frame_gathers_no_more_bytes_of_items_than_the_peer_has_acked_on_this_link(
    codec: Codec,
) -> None:
    bare = Bare(codec, "accepting", resume_window=WINDOW)
    bare.say(["ack", 0])
    call = bare.call("call", 1, "A.b", {}, {"credit": 10_000})

    def sizes(count: int) -> list[int]:
        for _ in range(count):
            bare.endpoint.push(call, bare.dump("x" * 50))
        return [len(bare.dump(frame[2])) for frame in bare.hear()]

    first = sizes(100)
    assert len(first) > 4
    assert max(first) <= 1024
    bare.say(["ack", len(first)])
    second = sizes(100)
    assert max(second) == pytest.approx(sum(first), rel=0.2)
    bare.say(["ack", len(first) + len(second)])
    bare.lose()
    bare.come_back(len(first) + len(second))
    bare.hear()
    assert max(sizes(100)) <= 1024


@pytest.mark.rule("RESUME-9")
def test_frames_of_a_session_that_cannot_be_resumed_are_large_at_once(codec: Codec) -> None:
    bare = Bare(codec, "accepting", resume_window=0)
    call = bare.call("call", 1, "A.b", {}, {"credit": 10_000})
    for _ in range(100):
        bare.endpoint.push(call, bare.dump("x" * 50))
    assert [len(frame[2]) for frame in bare.hear()] == [100]


def taken(endpoint: Endpoint) -> bytes:
    data = endpoint.next_batch(0.0)
    assert data is not None
    return data


def items(codec: Codec, events: list[Event]) -> list[object]:
    return [
        decode(codec, item)
        for event in events
        if isinstance(event, ItemsReceived)
        for item in event.items
    ]


# ---------------------------------------------------------------- before the first ack


@pytest.mark.rule("RESUME-5")
def test_a_session_of_which_nothing_was_taken_outlives_its_link_unconfirmed(codec: Codec) -> None:
    bare = Bare(codec, "accepting", resume_window=WINDOW)
    bare.lose()
    assert bare.endpoint.resumable
    bare.come_back(0)
    bare.hear()
    assert bare.call("call", 1, "A.b", {}).id == 1


@pytest.mark.rule("RESUME-5")
def test_one_of_which_something_was_taken_does_not(codec: Codec) -> None:
    bare = Bare(codec, "accepting", resume_window=WINDOW)
    bare.call("call", 1, "A.b", {})
    bare.lose()
    assert not bare.endpoint.resumable


@pytest.mark.rule("HELLO-4", "RESUME-5")
def test_a_side_that_is_patient_sends_no_call_ahead_of_its_first_ack(codec: Codec) -> None:
    endpoint = Endpoint("connecting", codec, Limits())
    call = endpoint.call("A.b", codec.dump({}))
    endpoint.connect(patient=True, now=0.0)
    assert [frame[0] for frame in decode(codec, taken(endpoint))] == ["hello"]
    assert endpoint.next_batch(0.0) is None
    assert not endpoint.has_output
    hello = {"version": 1, "token": "t1", "resume_window": 30_000}
    endpoint.receive(codec.dump([["hello", hello]]), 0.0)
    assert [frame[0] for frame in decode(codec, taken(endpoint))] == ["ack", "call"]
    assert call.is_numbered


# ---------------------------------------------------------------- links lost again and again


@pytest.mark.rule("RESUME-4")
@pytest.mark.parametrize("heard", [1, 2, 3, 4])
def test_frames_go_again_in_their_order_when_the_next_link_breaks_in_the_midst_of_a_replay(
    codec: Codec, heard: int
) -> None:
    """Of the second link only the first messages go out, of which nothing arrives."""
    bare = held(codec)
    bare.come_back(0, link=2)
    first = [bare.endpoint.next_batch(bare.now) for _ in range(heard)]
    assert None not in first
    bare.lose()
    bare.come_back(0, link=3, token="t2", new="t3")
    hello, *frames = bare.hear()
    assert hello[0] == "hello"
    assert frames == [["message", 1, ["x" * ITEM]]] * 60
    bare.endpoint.push(*pushed(bare, "new"))
    assert bare.hear() == [["message", 1, ["new"]]]


@pytest.mark.rule("RESUME-4")
def test_each_frame_of_a_broken_replay_has_its_very_own_place(codec: Codec) -> None:
    many = {"limits": {"max_calls": 64}}
    bare = Bare(codec, "connecting", resume_window=WINDOW, hello=many)
    for n in range(40):
        bare.endpoint.call("A.b", bare.dump({"text": f"{n}".ljust(ITEM)}))
        bare.hear()
    for link, received in ((2, 0), (3, 0), (4, 7), (5, 7), (6, 39)):
        bare.lose()
        bare.endpoint.connect(now=bare.now)
        bare.hear()
        bare.come_back(received, new=f"t{link}")
        ids = []
        for _ in range(2 if link % 2 else 99):
            data = bare.endpoint.next_batch(bare.now)
            if data is None:
                break
            ids += [frame[1] for frame in decode(codec, data) if frame[0] == "call"]
        wanted = [*range(1 + 2 * received, 81, 2)]
        assert ids == wanted[: len(ids)]
        assert ids
        assert link % 2 or ids == wanted


def pushed(bare: Bare, text: str) -> tuple[InCall, bytes]:
    [call] = bare.endpoint.live_calls()[1]
    return call, bare.dump(text)


@pytest.mark.rule("RESUME-8", "RESUME-9")
@pytest.mark.parametrize("side", ["connecting", "accepting"])
def test_the_window_begins_anew_with_each_loss(codec: Codec, side: Side) -> None:
    bare = Bare(codec, side, resume_window=WINDOW)
    if side == "accepting":
        bare.say(["ack", 0])
    bare.lose()
    first = bare.now + WINDOW
    assert bare.endpoint.next_alarm == first
    bare.now += WINDOW - 1
    assert bare.endpoint.alarm(bare.now) == []
    bare.come_back(0)
    bare.hear()
    bare.now += 0.5
    bare.lose()
    assert bare.endpoint.alarm(first + 1) == [], "that was the first loss"
    second = bare.now + WINDOW
    assert bare.endpoint.next_alarm == second
    assert bare.endpoint.alarm(second - 0.1) == []
    assert bare.endpoint.alarm(second) == [SessionExpired()]


@pytest.mark.rule("RESUME-9")
def test_a_dial_that_fails_does_not_lengthen_the_window(codec: Codec) -> None:
    bare = Bare(codec, "connecting", resume_window=WINDOW)
    bare.lose()
    first = bare.endpoint.next_alarm
    bare.now += 5
    bare.endpoint.connect(now=bare.now)
    bare.lose()
    assert bare.endpoint.next_alarm == first
