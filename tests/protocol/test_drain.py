"""goaway: a side that takes no new calls, and one that hears of it."""

from __future__ import annotations

import pytest

from wsrpc.limits import Limits
from wsrpc.protocol.codec import Codec
from wsrpc.protocol.endpoint import Endpoint, PeerDrainingError
from wsrpc.protocol.events import (
    CallReceived,
    CallRefused,
    GoawayReceived,
    HelloReceived,
    StreamFinished,
)
from wsrpc.protocol.frames import Error, ErrorBody
from wsrpc.protocol.hello import read_opening
from wsrpc.protocol.lanes import InCall, OutCall

from .harness import Bare, Frame, Side, decode, encode, only

SIDES: list[Side] = ["accepting", "connecting"]


@pytest.fixture(params=SIDES)
def bare(request: pytest.FixtureRequest, codec: Codec) -> Bare:
    """An endpoint of either side, in a session that can be resumed."""
    bare = Bare(codec, request.param, resume_window=30.0)
    bare.say(["ack", 0])
    return bare


def own(bare: Bare, n: int) -> int:
    """The n-th id of the bare side's."""
    return 2 * n - 1 if bare.endpoint.side == "accepting" else 2 * n


def call(bare: Bare, n: int, *rest: object) -> InCall:
    return bare.call("call", own(bare, n), "A.b", {}, *rest)


def errors(frames: list[Frame]) -> dict[int, tuple[str, bool]]:
    """Code and `not_started` of every error, by id; all frames must be errors."""
    assert all(frame[0] == "error" for frame in frames)
    return {frame[1]: (frame[2]["code"], bool(frame[2].get("not_started"))) for frame in frames}


REFUSED = ("unavailable", True)


# ---------------------------------------------------------------- the side that drains


@pytest.mark.rule("GOAWAY-1")
def test_goaway_says_what_was_taken_and_how_long_it_may_take(bare: Bare) -> None:
    call(bare, 3)
    bare.endpoint.goaway(30.0, bare.now, reconnect_after=0.5)
    assert bare.hear() == [
        ["goaway", {"last_id": own(bare, 3), "grace": 30_000, "reconnect_after": 500}]
    ]
    assert bare.endpoint.draining


@pytest.mark.rule("GOAWAY-1")
def test_without_calls_the_last_id_is_0(bare: Bare) -> None:
    bare.endpoint.goaway(1.0, bare.now)
    assert bare.hear() == [["goaway", {"last_id": 0, "grace": 1000}]]


@pytest.mark.rule("DRAIN-1")
def test_new_calls_and_notifies_are_refused(bare: Bare) -> None:
    live = call(bare, 1)
    bare.endpoint.goaway(30.0, bare.now)
    bare.hear()
    new, note = own(bare, 2), own(bare, 3)
    assert bare.say(["call", new, "A.b", {}], ["notify", note, "A.b", {}]) == []
    assert errors(bare.hear()) == {new: REFUSED, note: REFUSED}
    bare.endpoint.push(live, bare.dump(1))
    bare.endpoint.finish(live)
    assert [frame[0] for frame in bare.hear()] == ["message", "end"], "calls in flight go on"


@pytest.mark.rule("DRAIN-2")
def test_calls_of_callbacks_begin_even_so(bare: Bare) -> None:
    endpoint = bare.endpoint
    outer = endpoint.call("A.b", bare.dump({}), callbacks=("progress",))
    bare.hear()
    endpoint.goaway(30.0, bare.now)
    bare.hear()
    invoked = only(
        bare.say(["call", own(bare, 1), outer.callbacks["progress"].id, [1]]), CallReceived
    ).call
    assert invoked.state == "invoked"


@pytest.mark.rule("DRAIN-2")
def test_calls_with_a_live_parent_begin_even_so(bare: Bare) -> None:
    endpoint = bare.endpoint
    outer = endpoint.call("A.b", bare.dump({}))
    upload = endpoint.call("A.b", bare.dump({}), uploads=("u",)).uploads["u"]
    bare.hear()
    endpoint.goaway(30.0, bare.now)
    bare.hear()
    assert call(bare, 1, {"parent": outer.id}).state == "running"
    assert endpoint.call("A.c", bare.dump({})), "this side may call on"
    bare.say(["result", outer.id, None])
    bare.hear()
    strangers = (outer.id, upload.id, own(bare, 1), 9999)
    for n, parent in enumerate(strangers, 2):
        assert bare.say(["call", own(bare, n), "A.b", {}, {"parent": parent}]) == []
        assert errors(bare.hear()) == {own(bare, n): REFUSED}


@pytest.mark.rule("DRAIN-1", "SLOT-2")
def test_a_refused_call_takes_no_slot(bare: Bare) -> None:
    bare.endpoint.goaway(30.0, bare.now)
    for n in range(1, 400):
        bare.say(["call", own(bare, n), "A.b", {}])
    assert bare.endpoint.running.live == 0
    assert len(errors([frame for frame in bare.hear() if frame[0] == "error"])) == 399


@pytest.mark.rule("DRAIN-3")
def test_drained_means_that_nothing_is_live_and_nothing_waits(bare: Bare) -> None:
    endpoint = bare.endpoint
    inner = call(bare, 1)
    outer = endpoint.call("A.b", bare.dump({}))
    assert not endpoint.drained
    bare.hear()
    endpoint.goaway(30.0, bare.now)
    bare.hear()
    assert not endpoint.drained
    endpoint.result(inner, bare.dump(1))
    assert not endpoint.drained
    bare.say(["result", outer.id, None])
    assert not endpoint.drained, "the result has not gone out yet"
    bare.hear()
    assert endpoint.drained


@pytest.mark.rule("DRAIN-3", "RESUME-4")
def test_drained_means_that_nothing_has_to_go_again_either(bare: Bare) -> None:
    endpoint = bare.endpoint
    for n in (1, 2, 3):
        endpoint.result(call(bare, n), bare.dump(n))
        bare.hear()
    endpoint.goaway(30.0, bare.now)
    bare.hear()
    assert endpoint.drained
    bare.lose()
    bare.come_back(0)
    heard = []
    while (data := endpoint.next_batch(bare.now)) is not None:
        heard += [frame for frame in decode(bare.codec, data) if frame[0] == "result"]
        assert endpoint.drained == (len(heard) == 3)
    assert len(heard) == 3


@pytest.mark.rule("DRAIN-3")
def test_drained_means_that_the_calls_of_this_side_have_ended_too(bare: Bare) -> None:
    outer = bare.endpoint.call("A.b", bare.dump({}))
    bare.hear()
    bare.endpoint.goaway(30.0, bare.now)
    bare.hear()
    assert not bare.endpoint.drained
    bare.say(["result", outer.id, None])
    assert bare.endpoint.drained


@pytest.mark.rule("DRAIN-3")
def test_an_idle_side_is_drained_once_it_has_said_so(bare: Bare) -> None:
    assert not bare.endpoint.drained
    bare.endpoint.goaway(30.0, bare.now)
    assert not bare.endpoint.drained
    bare.hear()
    assert bare.endpoint.drained


@pytest.mark.rule("GOAWAY-3")
def test_goaway_comes_again_after_each_hello(bare: Bare) -> None:
    call(bare, 1)
    bare.endpoint.goaway(30.0, bare.now)
    bare.say(["call", own(bare, 2), "A.b", {}])
    bare.hear()
    for link in (2, 3):
        bare.lose()
        bare.now += 2
        if bare.endpoint.side == "connecting":
            bare.endpoint.connect(now=bare.now)
            frames = bare.hear()
            bare.come_back(1)
        else:
            bare.come_back(1, link=link)
            frames = bare.hear()
        assert [frame[0] for frame in frames] == ["hello", "goaway"]
        left = 30_000 - 2000 * (link - 1)
        assert frames[1][1] == {"last_id": own(bare, 1), "grace": left}


@pytest.mark.rule("GOAWAY-3")
def test_a_drain_that_begins_without_a_link_is_told_on_the_next(bare: Bare) -> None:
    bare.lose()
    bare.endpoint.goaway(1.0, bare.now)
    assert bare.hear() == []
    bare.now += 5
    if bare.endpoint.side == "connecting":
        bare.endpoint.connect(now=bare.now)
    else:
        bare.come_back(0)
    assert [frame[0] for frame in bare.hear()] == ["hello", "goaway"]


@pytest.mark.rule("ACK-1")
def test_the_ack_of_a_hello_goes_before_a_goaway(codec: Codec) -> None:
    client = Bare(codec, "connecting", greet=False)
    client.hear()
    client.say(client.hello)
    client.endpoint.goaway(1.0, client.now)
    assert [frame[0] for frame in client.hear()] == ["ack", "goaway"]


@pytest.mark.rule("GOAWAY-3")
def test_a_server_may_drain_before_it_accepts(codec: Codec) -> None:
    server = Endpoint("accepting", codec, Limits())
    server.goaway(1.0, 0.0)
    opening = [["hello", {"version": 1}], ["call", 1, "A.b", {}]]
    events = server.accept(read_opening(codec, encode(codec, opening)), "s1")
    assert [type(event) for event in events] == [HelloReceived, CallRefused]
    data = server.next_batch(0.0)
    assert data is not None
    assert [frame[0] for frame in codec.load(data)] == ["hello", "goaway", "error"]


@pytest.mark.rule("GOAWAY-1")
def test_a_second_goaway_changes_the_grace_alone(bare: Bare) -> None:
    bare.endpoint.goaway(30.0, bare.now)
    bare.say(["call", own(bare, 5), "A.b", {}])
    bare.hear()
    bare.endpoint.goaway(0.0, bare.now)
    assert bare.hear() == [["goaway", {"last_id": 0, "grace": 0}]]


# ---------------------------------------------------------------- the side that hears of it


def goaway(bare: Bare, last_id: int) -> list[StreamFinished]:
    """Tell the endpoint; what it finishes because of it."""
    body = {"last_id": last_id, "grace": 2000, "reconnect_after": 500}
    told, *rest = bare.say(["goaway", body])
    assert told == GoawayReceived(2.0, 0.5)
    for event in rest:
        assert isinstance(event, StreamFinished)
        assert isinstance(event.frame, Error)
        assert (event.frame.body.code, event.frame.body.not_started) == REFUSED
    return [event for event in rest if isinstance(event, StreamFinished)]


@pytest.mark.rule("GOAWAY-2")
def test_calls_above_the_last_id_fail_as_not_started(bare: Bare) -> None:
    endpoint = bare.endpoint
    calls = [endpoint.call("A.b", bare.dump({}), uploads=("u",)) for _ in range(4)]
    bare.hear()
    unsent = endpoint.call("A.b", bare.dump({}))
    finished = goaway(bare, calls[1].id)
    assert {event.lane for event in finished} == {*calls[2:], unsent}
    assert [call.state for call in calls] == ["calling", "calling", "finished", "finished"]
    assert [call.uploads["u"].state for call in calls] == ["uploading"] * 2 + ["finished"] * 2
    assert endpoint.slots.live == 2
    assert bare.hear() == []
    bare.say(["result", calls[0].id, None], ["end", calls[1].id])
    refusal = {"code": "unavailable", "message": "", "not_started": True}
    assert bare.say(["error", calls[2].id, refusal], ["error", calls[3].id, refusal]) == []
    assert endpoint.quiescent


@pytest.mark.rule("GOAWAY-2")
def test_calls_that_wait_for_a_slot_fail_too(bare: Bare) -> None:
    endpoint = bare.endpoint
    calls = [endpoint.call("A.b", bare.dump({})) for _ in range(20)]
    bare.hear()
    assert endpoint.waiting(calls[8])
    finished = goaway(bare, calls[7].id)
    assert {event.lane for event in finished} == set(calls[8:])
    bare.say(*[["result", call.id, None] for call in calls[:8]])
    assert endpoint.quiescent


@pytest.mark.rule("GOAWAY-2", "DRAIN-1")
def test_new_calls_are_not_begun(bare: Bare) -> None:
    goaway(bare, 0)
    assert bare.endpoint.peer_draining
    for oneway in (False, True):
        with pytest.raises(PeerDrainingError):
            bare.endpoint.call("A.b", bare.dump({}), oneway=oneway)
    assert bare.hear() == []


@pytest.mark.rule("GOAWAY-2", "DRAIN-2")
def test_calls_that_a_live_one_may_wait_for_go_on_and_may_begin(bare: Bare) -> None:
    endpoint = bare.endpoint
    parent = bare.call("call", own(bare, 1), "A.b", {}, {"callbacks": {"progress": own(bare, 2)}})
    target = parent.callbacks["progress"]

    def begin() -> list[OutCall]:
        return [
            endpoint.call("A.b", bare.dump({}), parent=parent),
            endpoint.call(target.id, bare.dump([1]), target=target, parent=parent),
        ]

    calls = begin()
    bare.hear()
    calls += begin()
    assert goaway(bare, 0) == []
    calls += begin()
    bare.hear()
    assert all(call.id for call in calls)
    bare.say(*[["result", call.id, None] for call in calls])
    assert [call.state for call in calls] == ["finished"] * 6


@pytest.mark.rule("GOAWAY-1")
def test_the_peers_own_calls_are_not_touched(bare: Bare) -> None:
    inner = call(bare, 1)
    goaway(bare, 0)
    assert call(bare, 2).state == "running"
    bare.endpoint.fail(inner, ErrorBody("aborted", ""))
    assert [frame[0] for frame in bare.hear()] == ["error"]


@pytest.mark.rule("GOAWAY-2", "GOAWAY-3")
def test_what_was_failed_is_not_failed_again(bare: Bare) -> None:
    endpoint = bare.endpoint
    endpoint.call("A.b", bare.dump({}))
    bare.hear()
    assert len(goaway(bare, 0)) == 1
    bare.lose()
    bare.come_back(0)
    assert goaway(bare, 0) == []
    assert endpoint.close() == []


@pytest.mark.rule("GOAWAY-2")
def test_a_cancel_that_waits_for_a_failed_call_does_not_go(bare: Bare) -> None:
    endpoint = bare.endpoint
    gone = endpoint.call("A.b", bare.dump({}), uploads=("u",))
    bare.hear()
    endpoint.cancel(gone)
    assert len(goaway(bare, 0)) == 1
    assert bare.hear() == []
    assert endpoint.outbox_bytes == 0
