"""Slots are given back, and terminals go out once, for every end of a call at any time."""

from __future__ import annotations

import pytest

from wsrpc.limits import MAX_CALLBACK_CALLS, Limits
from wsrpc.protocol.codec import Codec
from wsrpc.protocol.events import CallReceived, StreamFinished
from wsrpc.protocol.frames import ErrorBody

from .harness import Bare, Pair, only


def error() -> ErrorBody:
    return ErrorBody("cancelled", "stopped on request")


CHUNKS = {"limits": {"max_value": 1024 * 1024, "max_held": 2 * 1024 * 1024}}


# ---------------------------------------------------------------- places


@pytest.mark.rule("CANCEL-2", "SLOT-1", "SLOT-4")
def test_a_call_cancelled_before_its_start_gives_its_slot_back_at_both_ends(codec: Codec) -> None:
    limits = Limits(max_calls=8)
    pair = Pair(codec, limits, limits).open()
    client, server = pair.client, pair.server
    for _ in range(3):
        calls = [client.call("A.b", b"{}" if codec.text else b"\x80") for _ in range(8)]
        # The calls and their cancels go in one batch.
        data = client.next_batch(pair.now)
        assert data is not None
        for call in calls:
            client.cancel(call)
        cancels = client.next_batch(pair.now)
        assert cancels is not None
        events = server.receive(data) + server.receive(cancels)
        begun = [event.call for event in events if isinstance(event, CallReceived)]
        assert len(begun) == 8
        assert server.running.live == 8
        for one in begun:
            assert one.was_cancelled
            server.refuse(one, one.cancel_reason or "", "cancelled")
        pair.run()
        assert (client.slots.live, server.running.live) == (0, 0)
    assert server.quiescent
    assert client.quiescent


@pytest.mark.rule("CANCEL-1", "SLOT-1")
def test_a_call_cancelled_before_it_was_numbered_hands_its_slot_on(codec: Codec) -> None:
    pair = Pair(codec, Limits(), Limits(max_calls=8)).open()
    client = pair.client
    args = b"{}" if codec.text else b"\x80"
    calls = [client.call("A.b", args) for _ in range(10)]
    assert [client.waiting(call) for call in calls] == [False] * 8 + [True] * 2
    for call in (calls[8], calls[0], calls[1]):
        assert not client.cancel(call)
    assert client.slots.live == 7
    assert not client.slots.waiting
    events = pair.run()
    assert len([event for event in events if isinstance(event, CallReceived)]) == 7


@pytest.mark.rule("CB-2")
@pytest.mark.parametrize("numbered", [False, True])
def test_a_cancelled_call_of_a_callback_gives_its_place_back_while_the_outer_call_goes_on(
    codec: Codec, numbered: bool
) -> None:
    pair = Pair(codec).open()
    client, server = pair.client, pair.server
    client.call("A.b", b"{}" if codec.text else b"\x80", callbacks=("cb",))
    outer = only(pair.run(), CallReceived).call
    target = outer.callbacks["cb"]
    args = b"[]" if codec.text else b"\x90"
    for _ in range(2):
        calls = [server.call(target.id, args, target=target) for _ in range(MAX_CALLBACK_CALLS)]
        late = server.call(target.id, args, target=target)
        assert server.waiting(late)
        if numbered:
            begun = [event.call for event in pair.run() if isinstance(event, CallReceived)]
            assert len(begun) == MAX_CALLBACK_CALLS
            for call in calls:
                server.cancel(call)
            pair.run()
            for one in begun:
                client.fail(one, error())
        else:
            for call in calls:
                assert not server.cancel(call)
        events = pair.run()
        [one] = [event.call for event in events if isinstance(event, CallReceived)]
        client.result(one, args)
        pair.run()
        assert (target.slots.live, len(target.live)) == (0, 0)
        [offer] = [one.offer] if one.offer is not None else []
        assert offer.live == 0
    assert not outer.is_over


# ---------------------------------------------------------------- terminals


@pytest.mark.rule("CANCEL-4")
@pytest.mark.parametrize("pieces", [0, 1, 2, 3])
def test_a_late_cancel_cuts_an_answer_short_once_and_what_follows_is_ignored(
    codec: Codec, pieces: int
) -> None:
    bare = Bare(codec, "accepting", hello=CHUNKS)
    call = bare.call("call", 1, "A.b", {})
    bare.endpoint.result(call, bare.dump("x" * 400_000))
    for _ in range(pieces):
        assert bare.endpoint.next_batch(bare.now) is not None
    ignored = bare.endpoint.ignored
    for _ in range(3):
        assert bare.say(["cancel", 1]) == []
    frames = [frame for frame in bare.hear() if frame[0] != "chunk"]
    assert [frame[:2] for frame in frames] == [["error", 1]]
    assert bare.say(["cancel", 1]) == []
    assert bare.hear() == [], "no second terminal"
    assert bare.endpoint.ignored == ignored + 4
    assert bare.endpoint.outbox_bytes == 0
    assert bare.endpoint.quiescent


@pytest.mark.rule("CANCEL-4")
@pytest.mark.parametrize("size", [10, 400_000])
def test_a_cancel_after_the_whole_of_an_answer_brings_no_second_terminal(
    codec: Codec, size: int
) -> None:
    bare = Bare(codec, "accepting", hello=CHUNKS)
    call = bare.call("call", 1, "A.b", {})
    bare.endpoint.result(call, bare.dump("x" * size))
    assert [frame[0] for frame in bare.hear() if frame[0] != "chunk"] == ["result"]
    assert bare.say(["cancel", 1], ["cancel", 1]) == []
    assert bare.hear() == []
    assert bare.endpoint.quiescent


@pytest.mark.rule("CANCEL-4")
def test_the_caller_has_one_terminal_of_an_answer_that_its_cancel_cut_short(codec: Codec) -> None:
    pair = Pair(codec).open()
    call = pair.client.call("A.b", b"{}" if codec.text else b"\x80")
    inner = only(pair.run(), CallReceived).call
    pair.server.result(inner, bytes(codec.dump("x" * 400_000)))
    for _ in range(2):
        data = pair.server.next_batch(pair.now)
        assert data is not None
        assert pair.client.receive(data) == []
    pair.client.cancel(call)
    events = [event for event in pair.run() if isinstance(event, StreamFinished)]
    assert [event.lane for event in events] == [call]
    assert (pair.client.slots.live, pair.server.running.live) == (0, 0)
