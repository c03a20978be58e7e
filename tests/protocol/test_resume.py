"""A session goes on over the next link: nothing lost, nothing twice."""

from __future__ import annotations

from typing import Any

import pytest

from wsrpc.close_codes import may_reconnect, may_resume
from wsrpc.limits import Limits
from wsrpc.protocol.codec import CODECS, Codec
from wsrpc.protocol.endpoint import Endpoint
from wsrpc.protocol.events import (
    CallReceived,
    CancelReceived,
    HelloReceived,
    ItemsReceived,
    SessionExpired,
    StreamFinished,
    TokenConfirmed,
)
from wsrpc.protocol.hello import read_opening
from wsrpc.protocol.lane_states import LocalProtocolError
from wsrpc.protocol.lanes import InCall
from wsrpc.protocol.link_states import LINK

from .harness import Bare, Side, encode, rejected, values

SIDES: list[Side] = ["accepting", "connecting"]
WINDOW = 30.0


@pytest.fixture(params=SIDES)
def lasting(request: pytest.FixtureRequest, codec: Codec) -> Bare:
    """An endpoint in a session that can be resumed, its token confirmed."""
    bare = Bare(codec, request.param, resume_window=WINDOW)
    confirmed = [TokenConfirmed()] if bare.endpoint.side == "accepting" else []
    assert bare.say(["ack", 0]) == confirmed
    return bare


@pytest.fixture
def client(codec: Codec) -> Bare:
    """A connecting one."""
    return Bare(codec, "connecting", resume_window=WINDOW)


@pytest.fixture
def server(codec: Codec) -> Bare:
    """An accepting one."""
    bare = Bare(codec, "accepting", resume_window=WINDOW)
    bare.say(["ack", 0])
    return bare


def own(bare: Bare, n: int) -> int:
    """The n-th id of the bare side's."""
    return 2 * n - 1 if bare.endpoint.side == "accepting" else 2 * n


def stream(bare: Bare, n: int = 1, credit: int = 2**20) -> InCall:
    return bare.call("call", own(bare, n), "A.b", {}, {"credit": credit})


def send(bare: Bare, call: InCall, *items: Any) -> list[bytes]:
    """Push each item and write it at once, in a batch of its own."""
    batches = []
    for item in items:
        bare.endpoint.push(call, bare.dump(item))
        while (data := bare.endpoint.next_batch(bare.now)) is not None:
            batches.append(data)
    return batches


# ---------------------------------------------------------------- the hellos


@pytest.mark.rule("RESUME-1")
def test_the_client_asks_with_its_token_its_count_and_a_higher_link(client: Bare) -> None:
    stream(client)
    for link in (2, 3, 4):
        client.lose()
        client.endpoint.connect({"who": "me"})
        [[name, body]] = client.hear()
        assert name == "hello"
        assert (body["token"], body["received"], body["link"]) == ("t1", 1, link)
        assert body["auth"] == {"who": "me"}


@pytest.mark.rule("RESUME-1")
def test_the_server_answers_with_its_count_and_a_new_token(server: Bare) -> None:
    stream(server)
    server.lose()
    hello, *rest = server.come_back(0)
    assert isinstance(hello, HelloReceived)
    assert rest == []
    [[name, body]] = server.hear()
    assert name == "hello"
    assert body["resumed"] is True
    assert (body["session"], body["token"], body["received"]) == ("s1", "t2", 1)
    assert body["resume_window"] == 30_000


@pytest.mark.rule("ACK-1")
def test_the_client_acks_the_servers_hello_at_once(client: Bare) -> None:
    stream(client)
    client.lose()
    client.endpoint.connect()
    client.hear()
    assert isinstance(client.come_back(0, ["credit", 2, 1])[0], HelloReceived)
    assert client.hear() == [["ack", 2]]


@pytest.mark.rule("RESUME-5")
def test_the_client_resumes_with_the_newest_token(client: Bare) -> None:
    client.lose()
    client.come_back(0, new="t2")
    client.lose()
    client.endpoint.connect()
    assert client.hear()[0][1]["token"] == "t2"


@pytest.mark.rule("RESUME-4")
def test_what_the_first_hellos_agreed_on_does_not_change(lasting: Bare) -> None:
    endpoint = lasting.endpoint
    before = endpoint.peer_window, endpoint.peer_max_batch, endpoint.slots.limit
    lasting.hello[1].update(window=7, limits={"max_calls": 99, "max_batch": 99_999})
    lasting.lose()
    lasting.come_back(0)
    assert (endpoint.peer_window, endpoint.peer_max_batch, endpoint.slots.limit) == before


# ---------------------------------------------------------------- replay


@pytest.mark.rule("RESUME-4")
def test_what_the_peer_lacks_goes_again_byte_for_byte(lasting: Bare) -> None:
    call = stream(lasting)
    sent = send(lasting, call, *range(10))
    codec = lasting.codec
    for received in range(11):
        lasting.lose()
        lasting.come_back(received, link=received + 2)
        again = []
        while (data := lasting.endpoint.next_batch(lasting.now)) is not None:
            again += codec.split(data)
        frames = [bytes(raw) for raw in again]
        frames = [raw for raw in frames if b"message" in raw]
        assert frames == [bytes(codec.split(data)[0]) for data in sent[received:]]


@pytest.mark.rule("ACK-3", "RESUME-4")
@pytest.mark.parametrize("acked", range(6))
def test_a_batch_may_be_acked_in_part(lasting: Bare, acked: int) -> None:
    calls = [stream(lasting, n) for n in range(1, 6)]
    for call in calls:
        lasting.endpoint.push(call, lasting.dump(call.id))
    assert len(lasting.hear()) == 5
    kept = lasting.endpoint.replay_bytes
    lasting.say(["ack", acked])
    assert lasting.endpoint.replay_bytes == (kept if acked < 5 else 0)
    lasting.lose()
    lasting.come_back(acked)
    again = [frame for frame in lasting.hear() if frame[0] == "message"]
    assert [frame[1] for frame in again] == [call.id for call in calls[acked:]]
    lasting.say(["ack", 5])
    assert lasting.endpoint.replay_bytes == 0


@pytest.mark.rule("RESUME-4")
def test_new_frames_go_after_the_replay(lasting: Bare) -> None:
    call = stream(lasting)
    send(lasting, call, 1, 2, 3)
    lasting.lose()
    for n in (4, 5):
        lasting.endpoint.push(call, lasting.dump(n))
    lasting.endpoint.finish(call)
    lasting.come_back(1)
    assert [frame for frame in lasting.hear() if frame[0] not in ("hello", "ack")] == [
        ["message", call.id, [2]],
        ["message", call.id, [3]],
        ["message", call.id, [4, 5]],
        ["end", call.id],
    ]
    assert lasting.endpoint.sent == 5


@pytest.mark.rule("RESUME-4", "OUT-1")
def test_a_long_replay_goes_in_batches_of_the_usual_size(lasting: Bare) -> None:
    call = stream(lasting)
    send(lasting, call, *["x" * 10_000] * 30, "x" * 65_420, *["x" * 10_000] * 10)
    lasting.lose()
    lasting.endpoint.push(call, lasting.dump("new"))
    lasting.come_back(3)
    sizes, items = [], []
    while (data := lasting.endpoint.next_batch(lasting.now)) is not None:
        sizes.append(len(data))
        items += [frame[2] for frame in lasting.codec.load(data) if frame[0] == "message"]
    assert len(sizes) >= 8
    assert max(sizes) <= 65_536
    assert len(items) == 39
    assert items[-1] == ["new"]


@pytest.mark.rule("RESUME-4")
def test_numbered_frames_wait_until_both_hellos_are_through(client: Bare, server: Bare) -> None:
    call = stream(client)
    send(client, call, 1)
    client.lose()
    client.endpoint.push(call, client.dump(2))
    client.endpoint.call("A.b", client.dump({}))
    assert not client.endpoint.has_output
    assert client.hear() == []
    client.endpoint.connect()
    assert [frame[0] for frame in client.hear()] == ["hello"]
    assert client.hear() == []
    client.come_back(0)
    assert [frame[0] for frame in client.hear()] == ["ack", "message", "message", "call"]

    call = stream(server)
    send(server, call, 1)
    server.lose()
    server.endpoint.push(call, server.dump(2))
    assert server.hear() == []
    server.come_back(0)
    assert [frame[0] for frame in server.hear()] == ["hello", "message", "message"]


@pytest.mark.rule("RESUME-4")
def test_a_client_that_does_not_wait_for_the_hello_is_closed_with_4505(server: Bare) -> None:
    stream(server)
    server.lose()
    assert rejected(lambda: server.come_back(0, ["credit", 1, 1])) == 4505
    assert not server.endpoint.resumable


@pytest.mark.rule("RESUME-4", "HELLO-6")
def test_link_frames_may_stand_after_the_hello_of_a_resume(server: Bare) -> None:
    server.lose()
    assert len(server.come_back(0, ["ping", 3], ["x-y"])) == 1
    assert [frame[0] for frame in server.hear()] == ["hello", "pong"]


@pytest.mark.rule("RESUME-4", "CANCEL-1")
def test_calls_made_while_detached_go_out_on_the_next_link(lasting: Bare) -> None:
    lasting.lose()
    endpoint = lasting.endpoint
    first = endpoint.call("A.b", lasting.dump({}))
    second = endpoint.call("A.c", lasting.dump({}), deadline=lasting.now + 5)
    assert endpoint.cancel(first) is False
    lasting.now += 2
    lasting.come_back(0)
    call = lasting.hear()[-1]
    assert call[:3] == ["call", second.id, "A.c"]
    assert call[4]["timeout"] == 3000, "what is left when it is numbered (TIME-1)"


@pytest.mark.rule("RESUME-4")
def test_cancels_and_credits_of_a_detached_side_come_after_the_replay(lasting: Bare) -> None:
    endpoint = lasting.endpoint
    call = endpoint.call("A.b", lasting.dump({}), window=4)
    lasting.hear()
    lasting.lose()
    assert endpoint.cancel(call) is True
    assert endpoint.cancel(call) is True
    lasting.come_back(0)
    assert [frame[0] for frame in lasting.hear()[-2:]] == ["call", "cancel"]
    events = lasting.say(["error", call.id, {"code": "cancelled", "message": ""}])
    assert isinstance(events[-1], StreamFinished)


@pytest.mark.rule("CANCEL-2", "RESUME-4")
def test_a_call_and_its_cancel_may_meet_in_a_replayed_batch(server: Bare) -> None:
    server.lose()
    server.come_back(0)
    opened, cancelled = server.say(["call", 1, "A.b", {}], ["cancel", 1])
    assert isinstance(opened, CallReceived)
    assert isinstance(cancelled, CancelReceived)
    assert opened.call.state == "cancelled"


def test_what_concerned_the_old_link_alone_is_dropped(lasting: Bare) -> None:
    stream(lasting)
    lasting.say(["ping", 7], *[["credit", own(lasting, 1), 1]] * 40)
    lasting.lose()
    lasting.come_back(0)
    names = [frame[0] for frame in lasting.hear()]
    assert names == ["hello", "ack"][: 1 if lasting.endpoint.side == "accepting" else 2]


@pytest.mark.rule("NUM-2")
def test_a_lost_batch_is_kept_although_nobody_wrote_it(lasting: Bare) -> None:
    """The number is given when the writer takes the frame, even if the frame is lost."""
    call = stream(lasting)
    lasting.endpoint.push(call, lasting.dump("x"))
    assert lasting.endpoint.next_batch(lasting.now) is not None
    lasting.lose()
    lasting.come_back(0)
    assert lasting.hear()[-1] == ["message", call.id, ["x"]]


@pytest.mark.rule("RESUME-4")
def test_a_link_lost_in_the_midst_of_a_replay_costs_nothing(lasting: Bare) -> None:
    call = stream(lasting)
    send(lasting, call, *["x" * 30_000] * 8)
    for link in (2, 3, 4):
        lasting.lose()
        lasting.come_back(0, link=link)
        assert lasting.endpoint.next_batch(lasting.now) is not None
    lasting.lose()
    lasting.come_back(3, link=9)
    assert sum(frame[0] == "message" for frame in lasting.hear()) == 5
    assert lasting.endpoint.sent == 8


@pytest.mark.rule("RESUME-1", "NUM-3")
def test_items_of_the_peer_go_on_where_they_were(lasting: Bare) -> None:
    endpoint = lasting.endpoint
    call = endpoint.call("A.b", lasting.dump({}), window=100)
    lasting.hear()
    got = values(lasting.codec, lasting.say(["message", call.id, [1, 2]]))
    assert endpoint.received == 1
    lasting.lose()
    lasting.come_back(1)
    got += values(lasting.codec, lasting.say(["message", call.id, [3]], ["end", call.id]))
    assert got == [1, 2, 3]
    assert endpoint.received == 3


@pytest.mark.rule("RESUME-6")
def test_a_full_buffer_stays_full_over_links(codec: Codec) -> None:
    bare = Bare(codec, "connecting", limits=Limits(replay=2000), resume_window=WINDOW)
    call = stream(bare)
    for _ in range(30):
        bare.endpoint.push(call, bare.dump("x" * 200))
        bare.hear()
    sent = bare.endpoint.sent
    assert sent < 10
    bare.lose()
    bare.come_back(0)
    assert sum(frame[0] == "message" for frame in bare.hear()) == sent
    bare.lose()
    bare.come_back(sent)
    bare.hear()
    assert bare.endpoint.sent > sent
    assert bare.endpoint.replay_bytes <= 2000


# ---------------------------------------------------------------- counts that do not fit


@pytest.mark.rule("RESUME-2")
def test_a_count_beyond_what_was_sent_is_4010(lasting: Bare) -> None:
    call = stream(lasting)
    send(lasting, call, 1, 2, 3)
    lasting.lose()
    assert rejected(lambda: lasting.come_back(4)) == 4010


@pytest.mark.rule("RESUME-2", "RESUME-3")
def test_no_count_is_too_large_to_be_refused_in_a_close_frame(lasting: Bare) -> None:
    huge = 10**400 if lasting.codec.text else 2**63
    lasting.lose()
    assert rejected(lambda: lasting.come_back(huge)) == 4010


@pytest.mark.rule("RESUME-2")
def test_a_count_below_what_was_acked_is_4010(lasting: Bare) -> None:
    call = stream(lasting)
    send(lasting, call, 1, 2, 3)
    lasting.say(["ack", 2])
    lasting.lose()
    assert rejected(lambda: lasting.come_back(1)) == 4010


@pytest.mark.rule("RESUME-2")
def test_a_server_that_began_another_session_is_4010(client: Bare) -> None:
    client.lose()
    client.endpoint.connect()
    assert client.rejects(["hello", {"version": 1, "session": "other", "token": "t9"}]) == 4010


@pytest.mark.rule("HELLO-12")
@pytest.mark.parametrize("more", [{"resumed": True}, {"received": 1}], ids=str)
def test_a_server_that_resumes_what_never_was_is_4505(codec: Codec, more: dict[str, Any]) -> None:
    bare = Bare(codec, "connecting", hello=more, greet=False)
    assert bare.rejects(bare.hello) == 4505


@pytest.mark.rule("HELLO-12")
def test_a_client_that_has_received_something_in_a_session_that_never_was_is_4505(
    codec: Codec,
) -> None:
    bare = Bare(codec, "accepting", hello={"received": 1}, greet=False)
    bare.say(bare.hello)
    assert rejected(bare.accept) == 4505


@pytest.mark.rule("RESUME-2")
def test_another_subprotocol_is_4010(server: Bare) -> None:
    server.lose()
    other = CODECS["msgpack" if server.codec.text else "json"]
    opening = read_opening(other, encode(other, [["hello", {"version": 1, "link": 2}]]))
    assert rejected(lambda: server.endpoint.resume(opening, now=0.0)) == 4010


@pytest.mark.rule("ACK-3")
def test_an_ack_covers_only_what_this_link_carried(lasting: Bare) -> None:
    call = stream(lasting)
    send(lasting, call, 1, 2, 3)
    lasting.lose()
    lasting.come_back(1)
    assert lasting.rejects(["ack", 2]) == 4505


@pytest.mark.rule("ACK-3", "RESUME-6")
def test_acks_go_on_over_links(lasting: Bare) -> None:
    call = stream(lasting)
    send(lasting, call, 1, 2, 3)
    lasting.lose()
    lasting.come_back(1)
    lasting.hear()
    lasting.say(["ack", 1], ["ack", 3])
    assert lasting.endpoint.replay_bytes == 0
    assert lasting.rejects(["ack", 2]) == 4505


# ---------------------------------------------------------------- one link at a time


@pytest.mark.rule("RESUME-3")
def test_only_a_higher_link_takes_over(server: Bare) -> None:
    server.lose()
    server.come_back(0, link=5)
    server.hear()
    call = stream(server)
    for link in (1, 4, 5):
        assert rejected(lambda link=link: server.come_back(0, link=link)) == 4506  # type: ignore[misc]
        send(server, call, link)
        assert server.endpoint.state == "open", "the one that came late loses"
    server.come_back(2, link=6)
    assert server.endpoint.link == 6


@pytest.mark.rule("RESUME-3")
def test_a_link_may_take_over_while_the_older_one_lives(server: Bare) -> None:
    call = stream(server)
    send(server, call, 1, 2)
    server.endpoint.push(call, server.dump(3))
    server.say(["ping", 5])
    server.come_back(1, link=2)
    assert [frame[0] for frame in server.hear()] == ["hello", "message", "message"]


@pytest.mark.rule("RESUME-3")
def test_a_bad_link_number_leaves_no_trace(server: Bare) -> None:
    """What a stale link says about counts concerns nobody."""
    call = stream(server)
    send(server, call, 1, 2)
    assert rejected(lambda: server.come_back(99, link=1)) == 4506
    server.say(["ack", 2])
    assert server.endpoint.resumable


# ---------------------------------------------------------------- tokens


@pytest.mark.rule("RESUME-5")
def test_a_session_whose_token_was_never_confirmed_ends_with_its_link(codec: Codec) -> None:
    bare = Bare(codec, "accepting", resume_window=WINDOW)
    stream(bare)
    assert not bare.endpoint.resumable
    bare.say(["ack", 0])
    assert bare.endpoint.resumable


@pytest.mark.rule("RESUME-5")
def test_coming_back_with_a_token_confirms_it(codec: Codec) -> None:
    bare = Bare(codec, "accepting", resume_window=WINDOW)
    bare.come_back(0)
    bare.hear()
    bare.lose()
    assert bare.endpoint.resumable


@pytest.mark.rule("RESUME-5")
def test_the_first_ack_on_each_link_voids_the_older_token(server: Bare) -> None:
    assert server.say(["ack", 0]) == []
    for link in (2, 3):
        server.lose()
        server.come_back(0, link=link)
        server.hear()
        assert server.say(["ack", 0], ["ack", 0]) == [TokenConfirmed()]
        assert server.say(["ack", 0]) == []


def test_the_client_hears_of_no_token(client: Bare) -> None:
    assert client.say(["ack", 0]) == []


@pytest.mark.rule("HELLO-10")
def test_a_server_that_issues_no_token_offers_no_resume(codec: Codec) -> None:
    server = Endpoint("accepting", codec, Limits())
    opening = read_opening(codec, encode(codec, [["hello", {"version": 1}]]))
    server.accept(opening, "s1", resume_window=30.0)
    data = server.next_batch(0.0)
    assert data is not None
    assert codec.load(data)[0][1]["resume_window"] == 0
    assert not server.resumable


@pytest.mark.rule("HELLO-10")
def test_without_a_token_or_a_window_there_is_no_resume(codec: Codec) -> None:
    for hello in ({"token": "t"}, {"resume_window": 1000}, {"token": "t", "resume_window": 0}):
        bare = Bare(codec, "connecting", hello=hello)
        bare.lose()
        assert not bare.endpoint.resumable
        assert bare.endpoint.next_alarm is None
        with pytest.raises(LocalProtocolError):
            bare.endpoint.connect()


# ---------------------------------------------------------------- giving up


@pytest.mark.rule("RESUME-8", "RESUME-9")
def test_a_detached_session_expires_at_the_end_of_its_window(lasting: Bare) -> None:
    endpoint = lasting.endpoint
    lasting.lose()
    assert endpoint.next_alarm == lasting.now + WINDOW
    assert endpoint.alarm(lasting.now + WINDOW - 0.1) == []
    assert endpoint.alarm(lasting.now + WINDOW) == [SessionExpired()]


@pytest.mark.rule("RESUME-9")
def test_a_link_that_never_opens_does_not_stretch_the_window(client: Bare) -> None:
    client.lose()
    end = client.now + WINDOW
    for _ in range(10):
        client.endpoint.connect()
        client.now += 2
        client.lose()
        assert client.endpoint.next_alarm == end
    assert client.endpoint.resumable, "links without a hello prove nothing about frames"


@pytest.mark.rule("RESUME-8", "RESUME-9")
def test_a_link_in_time_stops_the_clock(lasting: Bare) -> None:
    lasting.lose()
    lasting.come_back(0)
    assert lasting.endpoint.next_alarm is None
    assert lasting.endpoint.alarm(lasting.now + 100) == []


@pytest.mark.rule("RESUME-9")
def test_five_links_that_carry_nothing_end_the_session(client: Bare) -> None:
    client.endpoint.call("A.b", client.dump({}))
    client.hear()
    client.lose()
    for _ in range(4):
        assert client.endpoint.resumable
        client.come_back(0)
        client.hear()
        client.lose()
    assert not client.endpoint.resumable
    [call] = client.endpoint.close()
    assert call.id == 1


@pytest.mark.rule("RESUME-9", "RESUME-2")
def test_five_links_that_carry_nothing_end_it_for_the_server_too(server: Bare) -> None:
    """A frame that does not pass is not sent for ever, on either side."""
    call = stream(server)
    send(server, call, 1)
    server.lose()
    for link in range(2, 7):
        assert server.endpoint.resumable
        server.come_back(0, link=link)
        server.hear()
        server.lose()
    assert not server.endpoint.resumable


@pytest.mark.rule("RESUME-9")
def test_links_that_take_over_from_one_another_count_as_well(server: Bare) -> None:
    call = stream(server)
    send(server, call, 1)
    for link in range(2, 8):
        server.hear()
        if link < 7:
            server.come_back(0, link=link)
    assert rejected(lambda: server.come_back(0, link=7)) == 4010


@pytest.mark.rule("RESUME-9")
@pytest.mark.parametrize("rising", ["ours", "theirs"])
def test_a_count_that_rises_on_either_side_starts_over(client: Bare, rising: str) -> None:
    for _ in range(12):
        client.endpoint.call("A.b", client.dump({}))
    client.hear()
    id = 0
    for link in range(1, 12):
        client.lose()
        assert client.endpoint.resumable
        client.come_back(link // 4 if rising == "theirs" else 0)
        client.hear()
        if rising == "ours" and link % 4 == 0:
            id += 2
            client.say(["call", id, "A.b", {}])


@pytest.mark.rule("RESUME-9")
def test_links_lost_with_nothing_unacked_do_not_count(client: Bare) -> None:
    for _ in range(20):
        client.lose()
        assert client.endpoint.resumable
        client.come_back(0)


@pytest.mark.rule("CLOSE-2", "NUM-3")
def test_a_violation_ends_the_session(lasting: Bare) -> None:
    """A batch that was taken in part must not be counted on."""
    stream(lasting)
    id = own(lasting, 1)
    received = lasting.endpoint.received
    assert lasting.rejects(["credit", id, 1], ["credit", id, 0]) == 4505
    assert lasting.endpoint.received == received
    lasting.lose()
    assert not lasting.endpoint.resumable


@pytest.mark.rule("OUT-4", "NUM-3")
def test_a_peer_that_had_to_calm_down_may_come_back(lasting: Bare) -> None:
    """4004 detaches, so that the batch that was too much is taken all the same."""
    id = own(lasting, 1)
    lasting.endpoint.refuse(stream(lasting), "unavailable", "")
    lasting.hear()
    lasting.say(*[["credit", id, 1]] * 9_999)
    assert lasting.rejects(*[["credit", id, 1]] * 10_001) == 4004
    assert lasting.endpoint.received == 20_001
    lasting.lose()
    lasting.come_back(1)
    assert stream(lasting, 2).state == "running"


@pytest.mark.rule("CLOSE-4")
def test_closing_tells_what_was_never_numbered_from_what_may_have_begun(lasting: Bare) -> None:
    endpoint = lasting.endpoint
    gone = endpoint.call("A.gone", lasting.dump({}))
    lasting.hear()
    lasting.lose()
    waiting = endpoint.call("A.waiting", lasting.dump({}))
    pending = endpoint.close()
    assert {call: call.id != 0 for call in pending} == {gone: True, waiting: False}
    assert endpoint.replay_bytes == 0
    assert endpoint.next_alarm is None
    assert not endpoint.resumable


# ---------------------------------------------------------------- the table


def test_the_states_of_an_endpoint_are_closed_under_the_table() -> None:
    states = set(LINK)
    assert {after for row in LINK.values() for after in row.values()} <= states
    assert set(LINK["closed"].values()) == {"closed"}


def test_what_the_table_does_not_name_cannot_be_done(codec: Codec) -> None:
    server = Endpoint("accepting", codec, Limits())
    opening = read_opening(codec, encode(codec, [["hello", {"version": 1, "link": 3}]]))
    for act in (
        lambda: server.detach(0.0),
        lambda: server.resume(opening, now=0.0),
        lambda: server.connect(),
        lambda: server.receive(encode(codec, [["ping", 1]])),
    ):
        with pytest.raises(LocalProtocolError):
            act()
    server.accept(opening, "s1")
    with pytest.raises(LocalProtocolError):
        server.accept(opening, "s1")
    server.close()
    assert server.close() == []
    assert server.receive(encode(codec, [["call", 1, "A.b", {}]])) == []
    assert not server.has_output


@pytest.mark.rule("CLOSE-1", "CLOSE-2")
@pytest.mark.parametrize(
    ("codes", "resume", "reconnect"),
    [([1001, 1005, 1006, 1011, 1012, 1013, 1014, 1015, 4000, 4002, 4008, 4499], True, True),
     ([4010], False, True),
     ([1000, 1002, 1003, 1007, 1009, 1010, 3000, 4500, 4505, 4506, 4999], False, False)],
)  # fmt: skip
def test_the_close_code_says_what_becomes_of_the_session(
    codes: list[int], resume: bool, reconnect: bool
) -> None:
    for code in codes:
        assert (may_resume(code), may_reconnect(code)) == (resume, reconnect)


def test_events_are_what_they_were(server: Bare) -> None:
    """A resumed stream is the same stream: its lanes and windows outlive the link."""
    call = server.endpoint.call("Guest.b", server.dump({}), window=3)
    server.hear()
    server.say(["message", call.id, [1, 2]])
    server.lose()
    server.endpoint.consumed(call, 2, waiting=True)
    server.come_back(1)
    assert server.hear()[-1][0] == "credit"
    [event] = server.say(["message", call.id, [3]])
    assert isinstance(event, ItemsReceived)
    assert event.lane is call


@pytest.mark.rule("RESUME-4")
@pytest.mark.parametrize("carried", [1, 2])
def test_frames_keep_their_order_when_the_next_link_breaks_amid_the_replay(
    codec: Codec, carried: int
) -> None:
    server = Bare(codec, "accepting", resume_window=30.0)
    server.say(["ack", 0])
    ids = list(range(1, 41, 2))
    for id in ids:
        call = server.call("call", id, "A.b", {})
        server.endpoint.result(call, server.dump("x" * 5_000))
    first = [frame for frame in server.hear() if frame[0] == "result"]
    assert [frame[1] for frame in first] == ids
    server.lose()
    server.come_back(0)
    for _ in range(carried):
        assert server.endpoint.next_batch(server.now) is not None
    server.lose()
    server.come_back(0, link=3, token="t2", new="t3")
    again = server.hear()
    server.say(["ack", 0])
    again += server.hear()
    assert [frame for frame in again if frame[0] == "result"] == first
