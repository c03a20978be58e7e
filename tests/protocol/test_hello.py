"""The first frames of a link, and the link frames that follow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wsrpc.limits import Limits
from wsrpc.protocol.codec import CODECS, Codec
from wsrpc.protocol.endpoint import Endpoint
from wsrpc.protocol.events import (
    CallReceived,
    CancelReceived,
    CreditReceived,
    HelloReceived,
    StreamFinished,
)
from wsrpc.protocol.frames import Error
from wsrpc.protocol.hello import read_opening
from wsrpc.protocol.lane_states import LocalProtocolError

from .harness import Bare, Side, decode, encode, only, rejected

SIDES: list[Side] = ["accepting", "connecting"]

# A number of JSON that no float can hold.
HUGE = 10**400


@pytest.fixture(params=SIDES)
def fresh(request: pytest.FixtureRequest, codec: Codec) -> Bare:
    """An endpoint of either side that has heard nothing yet."""
    return Bare(codec, request.param, greet=False)


@pytest.fixture
def early(codec: Codec) -> Bare:
    """A connecting endpoint that does not have the server's hello yet."""
    hello = {"window": 3, "limits": {"max_calls": 20, "max_batch": 200_000}}
    return Bare(codec, "connecting", hello=hello, greet=False)


def test_both_hellos_say_what_the_table_lists(codec: Codec) -> None:
    limits = Limits(max_batch=300_000, max_calls=77, max_value=400_000, window=9)
    announced = {
        "window": 9,
        "limits": {
            "max_batch": 300_000,
            "max_calls": 77,
            "max_value": 400_000,
            "max_held": 800_000,
        },
        "features": [],
        "agent": "tests/1",
    }
    client = Endpoint("connecting", codec, limits, agent="tests/1")
    client.connect({"token": "t"})
    data = client.next_batch(0.0)
    assert data is not None
    [[name, body]] = decode(codec, data)
    assert name == "hello"
    assert body == {"version": 1, "link": 1, "received": 0, "auth": {"token": "t"}, **announced}

    server = Endpoint("accepting", codec, limits, agent="tests/1")
    hello = only(server.accept(read_opening(codec, data), "s1"), HelloReceived).body
    assert hello.auth == {"token": "t"}
    data = server.next_batch(0.0)
    assert data is not None
    [[name, body]] = decode(codec, data)
    assert name == "hello"
    assert body == {
        "version": 1, "session": "s1", "resumed": False, "received": 0, "resume_window": 0,
        **announced,
    }  # fmt: skip


@pytest.mark.rule("HELLO-1")
@pytest.mark.parametrize(
    "frame",
    [["ack", 0], ["ping", 1], ["pong", 1], ["goaway", {"last_id": 0, "grace": 0}], ["auth", None],
     ["x-hello", 1], ["call", 1, "A.b", {}], ["notify", 1, "A.b", {}], ["message", 1, [1]],
     ["result", 1, 1], ["end", 1], ["error", 1, {"code": "aborted", "message": ""}], ["cancel", 1],
     ["credit", 1, 1], ["chunk", 1, True]],
    ids=lambda frame: frame[0],
)  # fmt: skip
def test_anything_but_a_hello_in_the_first_place_closes_with_4505(
    fresh: Bare, frame: list[Any]
) -> None:
    if frame[0] == "chunk":
        frame = [*frame, "x" if fresh.codec.text else b"x"]
    assert fresh.rejects(frame) == 4505
    assert fresh.rejects(frame, fresh.hello) == 4505


@pytest.mark.rule("BATCH-1", "BATCH-2", "BATCH-3")
def test_garbage_in_the_first_place_closes_with_4500(fresh: Bare) -> None:
    for frame in (["hello"], ["hello", None], ["hello", 1], ["hello", {}], ["hullo", {}]):
        assert fresh.rejects(frame) == 4500
    assert rejected(lambda: fresh.receive(b"GET / HTTP/1.1\r\n\r\n")) == 4500


@pytest.mark.rule("BATCH-3")
@pytest.mark.parametrize(
    ("field", "wrong"),
    [("version", [None, "1", 1.0, True, []]), ("link", [0, -1, "1", 1.5]), ("token", [1, []]),
     ("received", [-1, 0.5, "0"]), ("window", [-1, 2**31, "32", 1.5]), ("limits", [[], 1, "x"]),
     ("features", [{}, "a", [1], [None]]), ("agent", [1, []])],
)  # fmt: skip
def test_a_hello_field_out_of_its_range_closes_with_4500(
    fresh: Bare, field: str, wrong: list[Any]
) -> None:
    for one in wrong:
        assert fresh.rejects(["hello", {"version": 1, field: one}]) == 4500


@pytest.mark.rule("BATCH-3")
def test_a_limit_below_its_floor_closes_with_4500(fresh: Bare) -> None:
    for name, floor in (("max_batch", 65_536), ("max_calls", 8), ("max_value", 65_536),
                        ("max_held", 0)):  # fmt: skip
        for one in (floor - 1, str(floor), floor + 0.5):
            assert fresh.rejects(["hello", {"version": 1, "limits": {name: one}}]) == 4500
        for side in SIDES:
            assert Bare(fresh.codec, side, hello={"limits": {name: floor}}).endpoint.established


@pytest.mark.rule("BATCH-3")
@pytest.mark.parametrize("heartbeat", [[999, 1000], [1000, 999], [1000], [], 1000, {"a": 1}])
def test_a_heartbeat_out_of_its_range_closes_with_4500(early: Bare, heartbeat: Any) -> None:
    assert early.rejects(["hello", {"version": 1, "heartbeat": heartbeat}]) == 4500


@pytest.mark.parametrize(
    "fields",
    [
        {"resume_window": HUGE},
        {"heartbeat": [HUGE, HUGE]},
        {"limits": {"max_batch": HUGE, "max_value": HUGE, "max_held": HUGE, "max_calls": HUGE}},
    ],
)
def test_a_number_beyond_all_floats_in_the_servers_hello_means_the_same_as_the_longest(
    fields: dict[str, Any],
) -> None:
    hello = [["hello", {"version": 1, **fields}]]
    early = Bare(CODECS["json"], "connecting", greet=False)
    # The encoder of the other tests has no such numbers.
    early.receive(json.dumps(hello).encode())
    assert early.endpoint.established
    assert early.endpoint.resume_window in (0, (2**53 - 1) / 1000)
    assert [frame[0] for frame in early.hear()] == ["hello", "ack"]


@pytest.mark.rule("GOAWAY-1")
def test_a_number_beyond_all_floats_in_a_goaway_means_the_same_as_the_longest() -> None:
    bare = Bare(CODECS["json"], "connecting")
    goaway = ["goaway", {"last_id": HUGE, "grace": HUGE, "reconnect_after": HUGE}]
    bare.receive(json.dumps([goaway]).encode())
    assert bare.endpoint.peer_draining


@pytest.mark.rule("BATCH-4")
def test_absent_fields_have_the_values_of_the_table(codec: Codec) -> None:
    bare = Bare(codec, "accepting", greet=False)
    nothing = dict.fromkeys(
        ["link", "token", "received", "auth", "window", "limits", "features", "agent"]
    )
    hello = only(bare.say(["hello", {"version": 1, **nothing}]), HelloReceived).body
    assert hello.auth is None
    bare.accept()
    assert bare.endpoint.peer_window == 0
    assert bare.endpoint.peer_max_batch == 65_536
    assert bare.endpoint.slots.limit == 8


@pytest.mark.rule("HELLO-1")
def test_the_accepting_side_is_silent_until_it_has_accepted(codec: Codec) -> None:
    server = Bare(codec, "accepting", greet=False)
    server.endpoint.call("Guest.name", server.dump({}))
    assert server.hear() == []
    server.say(server.hello)
    assert server.hear() == []
    server.accept()
    assert [frame[0] for frame in server.hear()] == ["hello", "call"]


@pytest.mark.rule("HELLO-2")
def test_a_second_hello_closes_with_4505(codec: Codec) -> None:
    for side in SIDES:
        bare = Bare(codec, side)
        assert bare.rejects(bare.hello) == 4505
    client = Bare(codec, "connecting", greet=False)
    assert client.rejects(client.hello, client.hello) == 4505
    server = Bare(codec, "accepting", greet=False)
    server.say(server.hello, server.hello)
    assert rejected(lambda: server.accept()) == 4505


@pytest.mark.rule("HELLO-3")
@pytest.mark.parametrize("version", [0, 2, -1, 2**64, 10**400])
def test_another_version_closes_with_4507(fresh: Bare, version: int) -> None:
    if version < 2**64 or fresh.codec.text:
        assert fresh.rejects(["hello", {"version": version}]) == 4507


@pytest.mark.rule("HELLO-3", "HELLO-7")
def test_the_version_is_looked_at_before_the_credentials(codec: Codec) -> None:
    deep: Any = None
    for _ in range(101):
        deep = [deep]
    server = Bare(codec, "accepting", greet=False)
    assert server.rejects(["hello", {"version": 2, "auth": deep}]) == 4507
    assert server.rejects(["hello", {"version": 1, "auth": deep}]) == 4501
    assert server.hear() == [], "no hello for a client that is refused"


@pytest.mark.rule("HELLO-7", "VALUE-1")
def test_credentials_outside_the_value_space_are_refused_like_wrong_ones() -> None:
    from wsrpc.protocol.codec import codec_for

    server = Bare(codec_for("json"), "accepting", greet=False)
    for auth in (rb'"\ud800"', b"1e999", b"18446744073709551616", b"9" * 5000):
        data = b'[["hello",{"version":1,"auth":' + auth + b"}]]"
        assert rejected(lambda data=data: server.receive(data)) == 4501  # type: ignore[misc]


def test_a_hello_that_wants_to_resume_closes_with_4010(codec: Codec) -> None:
    server = Bare(codec, "accepting", hello={"token": "t"}, greet=False)
    server.say(server.hello)
    assert rejected(server.accept) == 4010
    # A server's token is an offer, not a wish.
    Bare(codec, "connecting", hello={"token": "t"})


# ---------------------------------------------------------------- before the hello is answered


@pytest.mark.rule("HELLO-4")
def test_calls_may_follow_the_hello_at_once(early: Bare) -> None:
    early.endpoint.call("A.b", early.dump({"x": 1}))
    assert [frame[0] for frame in early.batches()[0]] == ["hello", "call"]


@pytest.mark.rule("HELLO-4", "HELLO-5")
def test_before_the_servers_hello_eight_calls_go_out(early: Bare) -> None:
    calls = [early.endpoint.call("A.b", early.dump({})) for _ in range(21)]
    assert [frame[1] for frame in early.hear()[1:]] == list(range(1, 17, 2))
    assert [early.endpoint.waiting(call) for call in calls] == [False] * 8 + [True] * 13
    early.say(early.hello)
    assert [frame[1] for frame in early.hear()[1:]] == list(range(17, 41, 2))
    assert early.endpoint.waiting(calls[20])


@pytest.mark.rule("HELLO-4", "HELLO-6")
def test_before_the_servers_hello_no_message_is_above_64_kib(early: Bare) -> None:
    for _ in range(6):
        early.endpoint.call("A.b", early.dump({"x": "x" * 30_000}))
    sizes = []
    while (data := early.endpoint.next_batch(0.0)) is not None:
        sizes.append(len(data))
    assert len(sizes) == 3
    assert max(sizes) <= 65_536


@pytest.mark.rule("HELLO-4", "HELLO-5")
def test_what_does_not_fit_before_the_servers_hello_waits_for_it(early: Bare) -> None:
    large = early.endpoint.call("A.large", early.dump({"x": "x" * 66_000}))
    small = early.endpoint.call("A.small", early.dump({}))
    assert early.endpoint.waiting(large)
    assert [frame[:3] for frame in early.hear()[1:]] == [["call", 1, "A.small"]]
    early.say(early.hello)
    assert [frame[:3] for frame in early.hear()[1:]] == [["call", 3, "A.large"]]
    assert (small.id, large.id) == (1, 3)


@pytest.mark.rule("HELLO-4", "BATCH-6")
def test_what_waits_for_the_servers_hello_does_not_go_when_a_slot_is_freed(early: Bare) -> None:
    large = early.endpoint.call("A.large", early.dump({"x": "x" * 66_000}))
    small = [early.endpoint.call("A.small", early.dump({})) for _ in range(8)]
    early.endpoint.cancel(small[0])
    assert early.endpoint.waiting(large)
    assert all(frame[2] != "A.large" for frame in early.hear()[1:])


@pytest.mark.rule("HELLO-5", "VALUE-7")
def test_what_does_not_fit_after_the_servers_hello_fails_alone(early: Bare) -> None:
    large = early.endpoint.call("A.large", early.dump({"x": "x" * 200_000}), uploads=("u",))
    small = early.endpoint.call("A.small", early.dump({"x": "x" * 100_000}))
    early.hear()
    events = early.say(early.hello)
    finished = only(events[1:], StreamFinished)
    assert finished.lane is large
    assert isinstance(finished.frame, Error)
    assert finished.frame.body.code == "resource_exhausted"
    assert finished.frame.body.not_started
    assert large.state == large.uploads["u"].state == "finished"
    assert [frame[:3] for frame in early.hear()[1:]] == [["call", small.id, "A.small"]]


@pytest.mark.rule("HELLO-4", "CANCEL-1")
def test_a_call_that_waits_for_the_hello_can_be_cancelled(early: Bare) -> None:
    large = early.endpoint.call("A.large", early.dump({"x": "x" * 66_000}))
    assert early.endpoint.cancel(large) is False
    early.hear()
    early.say(early.hello)
    assert early.hear() == [["ack", 0]]
    assert early.endpoint.quiescent


@pytest.mark.rule("HELLO-4", "HELLO-5", "UP-1")
def test_an_upload_gets_its_credit_with_the_servers_hello(early: Bare) -> None:
    endpoint = early.endpoint
    call = endpoint.call("A.b", early.dump({}), uploads=("u",))
    upload = call.uploads["u"]
    assert not endpoint.may_push(upload)
    early.hear()
    assert not endpoint.may_push(upload)
    _, event = early.say(early.hello)
    assert isinstance(event, CreditReceived)
    assert event.lane is upload
    for _ in range(3):
        assert endpoint.may_push(upload)
        endpoint.push(upload, early.dump(7))
    assert not endpoint.may_push(upload)
    assert early.hear() == [["ack", 0], ["message", 3, [7, 7, 7]]]


@pytest.mark.rule("HELLO-6")
def test_nothing_behind_the_hello_is_decoded_before_the_client_is_accepted(codec: Codec) -> None:
    server = Bare(codec, "accepting", greet=False)
    only(server.say(server.hello, ["nonsense"]), HelloReceived)
    assert rejected(lambda: server.accept()) == 4500

    server = Bare(codec, "accepting", greet=False)
    server.say(server.hello, ["call", 1, "A.b", {}], ["x-y"], ["cancel", 1])
    assert (server.endpoint.received, server.endpoint.ignored) == (0, 0)
    call, cancel = server.accept()
    assert isinstance(call, CallReceived)
    assert isinstance(cancel, CancelReceived)
    assert (server.endpoint.received, server.endpoint.ignored) == (2, 1)


@pytest.mark.rule("HELLO-6", "BATCH-3")
def test_what_is_behind_the_hello_is_a_batch_of_its_own(codec: Codec) -> None:
    server = Bare(codec, "accepting", greet=False)
    server.say(server.hello, ["call", 1, "A.b", {}], ["cancel", "1"])
    assert rejected(lambda: server.accept()) == 4500
    assert server.endpoint.unreported == []
    assert server.endpoint.live_calls() == ([], [])


@pytest.mark.rule("HELLO-6")
def test_a_first_message_above_64_kib_closes_with_1009(codec: Codec) -> None:
    server = Bare(codec, "accepting", greet=False)
    for extra, fits in ((0, True), (1, False)):
        empty = len(encode(codec, [server.hello, ["x-filler", ""]])) + (0 if codec.text else 2)
        filler = "x" * (65_536 - empty + extra)
        data = encode(codec, [server.hello, ["x-filler", filler]])
        assert len(data) == 65_536 + extra
        if fits:
            Bare(codec, "accepting", greet=False).receive(data)
        else:
            assert rejected(lambda data=data: server.receive(data)) == 1009  # type: ignore[misc]


@pytest.mark.rule("HELLO-6")
def test_a_second_message_is_not_to_be_taken_before_the_client_is_accepted(codec: Codec) -> None:
    server = Bare(codec, "accepting", greet=False)
    server.say(server.hello)
    with pytest.raises(LocalProtocolError):
        server.endpoint.receive(encode(codec, [["ping", 1]]))


# ---------------------------------------------------------------- ack, ping


@pytest.mark.rule("ACK-1")
def test_the_first_frame_after_the_servers_hello_is_an_ack(early: Bare) -> None:
    early.endpoint.call("A.b", early.dump({}))
    early.hear()
    early.say(early.hello, ["ping", 7])
    early.endpoint.call("A.c", early.dump({}))
    assert early.hear() == [["ack", 0], ["pong", 7], ["call", 3, "A.c", {}]]


@pytest.mark.rule("ACK-1", "ACK-2", "NUM-3")
def test_the_first_ack_covers_the_batch_that_brought_the_hello(early: Bare) -> None:
    early.endpoint.call("A.b", early.dump({}))
    early.hear()
    early.say(
        early.hello,
        ["call", 2, "Guest.name", {}],
        ["result", 1, None],
        ["end", 1],
        ["ping", 7],
        ["x-a"],
    )
    assert early.hear()[0] == ["ack", 3]


@pytest.mark.rule("ACK-2", "NUM-3")
def test_an_ack_counts_refused_and_ignored_frames(codec: Codec) -> None:
    client = Bare(codec, "connecting", hello={"resume_window": 1000})
    client.say(["call", 2, "Guest.name", {}, {"timeout": 0}], ["cancel", 2], ["credit", 2, 1])
    assert [frame[0] for frame in client.hear()] == ["error"]
    client.say(*[["cancel", 2]] * 28)
    assert client.hear() == []
    client.say(["cancel", 2])
    assert client.hear() == [["ack", 32]]


@pytest.mark.rule("ACK-3")
@pytest.mark.parametrize("n", [4, 10**18])
def test_an_ack_above_what_was_sent_closes_with_4505(client: Bare, n: int) -> None:
    for _ in range(3):
        client.endpoint.call("A.b", client.dump({}))
    client.hear()
    assert client.rejects(["ack", n]) == 4505


@pytest.mark.rule("ACK-3")
def test_an_ack_may_repeat_but_not_fall(client: Bare) -> None:
    for _ in range(3):
        client.endpoint.call("A.b", client.dump({}))
    client.hear()
    client.say(["ack", 0], ["ack", 2], ["ack", 2])
    client.say(["ack", 3])
    assert client.rejects(["ack", 2]) == 4505


@pytest.mark.rule("ACK-3", "NUM-2")
def test_a_frame_that_was_not_written_yet_cannot_be_acked(client: Bare) -> None:
    client.endpoint.call("A.b", client.dump({}))
    assert client.rejects(["ack", 1]) == 4505


@pytest.mark.rule("ACK-4")
@pytest.mark.parametrize("window", [None, 0])
def test_without_resume_nobody_acks_beyond_the_first(codec: Codec, window: int | None) -> None:
    client = Bare(codec, "connecting", hello={"resume_window": window})
    server = Bare(codec, "accepting")
    server.call("call", 1, "A.b", {})
    client.call("call", 2, "A.b", {})
    for _ in range(100):
        server.say(["credit", 1, 1], ["x-a", "x" * 2000])
        client.say(["credit", 2, 1], ["x-a", "x" * 2000])
    assert client.hear() == server.hear() == []


@pytest.mark.rule("ACK-4")
def test_with_resume_acks_are_due_by_frames_and_by_bytes(codec: Codec) -> None:
    client = Bare(codec, "connecting", hello={"resume_window": 1000})
    client.call("call", 2, "A.b", {})
    client.say(*[["credit", 2, 1]] * 30)
    assert client.hear() == []
    client.say(["credit", 2, 1])
    assert client.hear() == [["ack", 32]]
    client.say(["credit", 2, 1], ["x-filler", "x" * 66_000])
    assert client.hear() == [["ack", 33]]
    client.say(["x-filler", "x" * 66_000])
    assert client.hear() == [], "there is nothing to ack"


@pytest.mark.rule("PING-1")
def test_a_ping_is_answered_with_its_number(codec: Codec) -> None:
    for side in SIDES:
        bare = Bare(codec, side)
        for n in (0, 7, 2**53 - 1):
            bare.say(["ping", n])
            assert bare.hear() == [["pong", n]]


@pytest.mark.rule("PING-1")
def test_only_the_newest_of_several_pings_is_answered(server: Bare) -> None:
    server.say(["ping", 1], ["ping", 3])
    server.say(["ping", 2])
    assert server.hear() == [["pong", 2]]
    assert not server.endpoint.has_output


@pytest.mark.rule("PING-1")
def test_a_pong_that_answers_nothing_is_ignored(server: Bare) -> None:
    assert server.say(["pong", 5]) == []
    assert server.hear() == []


@pytest.mark.rule("NUM-1", "EXT-1")
def test_link_frames_are_not_numbered(client: Bare) -> None:
    client.say(["ping", 1], ["pong", 2], ["x-a"], ["ack", 0])
    client.hear()
    assert (client.endpoint.sent, client.endpoint.received) == (0, 0)


def test_fresh_credentials_come_from_the_client_only(server: Bare, client: Bare) -> None:
    server.say(["auth", {"token": "new"}])
    assert client.rejects(["auth", {"token": "new"}]) == 4505
