"""Uploads and callbacks: what travels with a call and lives no longer than it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from wsrpc.limits import Limits
from wsrpc.protocol.codec import Codec
from wsrpc.protocol.events import (
    CallReceived,
    CancelReceived,
    CreditReceived,
    ItemsReceived,
    StreamFinished,
)
from wsrpc.protocol.frames import CallOptions, End, Error, ErrorBody
from wsrpc.protocol.lane_states import LocalProtocolError
from wsrpc.protocol.lanes import InCall, OutCall

from .harness import Bare, decode, only, values

ABORTED = {"code": "aborted", "message": "no"}


def with_upload(client: Bare, **options: Any) -> OutCall:
    """A call of the endpoint's, id 1, with one upload, id 3."""
    call = client.endpoint.call("A.b", client.dump({}), uploads=("u",), **options)
    assert [frame[:2] for frame in client.hear()] == [["call", 1]]
    return call


def take_upload(server: Bare) -> InCall:
    """A call of the bare side's, id 1, with one upload, id 3."""
    return server.call("call", 1, "A.b", {}, {"uploads": {"u": 3}})


# ---------------------------------------------------------------- uploads


@pytest.mark.rule("UP-1", "CREDIT-1")
def test_an_upload_starts_with_the_credit_of_the_callees_hello(codec: Codec) -> None:
    client = Bare(codec, "connecting", hello={"window": 2})
    upload = with_upload(client, window=9).uploads["u"]
    assert upload.credit.balance == 2
    server = Bare(codec, "accepting", limits=Limits(window=2))
    take_upload(server)
    server.say(["message", 3, [1, 2]])
    assert server.rejects(["message", 3, [3]]) == 4505


def test_the_shell_hears_when_uploads_may_begin(client: Bare) -> None:
    plain = client.endpoint.call("A.b", client.dump({}))
    call = client.endpoint.call("A.b", client.dump({}), uploads=("u",))
    upload = call.uploads["u"]
    assert not client.endpoint.may_push(upload)
    with pytest.raises(LocalProtocolError):
        client.endpoint.finish(upload)
    client.hear()
    assert client.endpoint.started == [call]
    assert client.endpoint.may_push(upload)
    assert (plain.id, call.id, upload.id) == (1, 3, 5)


@pytest.mark.rule("UP-2")
def test_the_caller_closes_an_upload_with_end_or_error(client: Bare) -> None:
    call = client.endpoint.call("A.b", client.dump({}), uploads=("u", "v"))
    client.hear()
    for upload in call.uploads.values():
        client.endpoint.push(upload, client.dump(1))
    client.endpoint.finish(call.uploads["u"])
    client.endpoint.fail(call.uploads["v"], ErrorBody("aborted", "no"))
    assert client.hear() == [
        ["message", 3, [1]], ["end", 3], ["message", 5, [1]], ["error", 5, ABORTED]
    ]  # fmt: skip
    for upload in call.uploads.values():
        with pytest.raises(LocalProtocolError):
            client.endpoint.push(upload, client.dump(1))


@pytest.mark.rule("UP-2")
def test_the_end_of_an_upload_comes_after_its_items(server: Bare) -> None:
    call = server.call("call", 1, "A.b", {}, {"uploads": {"u": 3, "v": 5}})
    events = server.say(["message", 3, [1]], ["end", 3], ["message", 5, [2]], ["error", 5, ABORTED])
    assert values(server.codec, events) == [1, 2]
    first, second = events[1], events[3]
    assert isinstance(first, StreamFinished)
    assert isinstance(second, StreamFinished)
    assert (first.lane, second.lane) == (call.uploads["u"], call.uploads["v"])
    assert isinstance(first.frame, End)
    assert isinstance(second.frame, Error)
    assert second.frame.body.code == "aborted"
    assert server.endpoint.live_calls() == ([], [call]), "the call goes on"


@pytest.mark.rule("UP-3")
@pytest.mark.parametrize("answer", [["result", 1, 5], ["end", 1], ["error", 1, ABORTED]])
def test_the_callees_terminal_finishes_the_uploads_at_the_caller(
    client: Bare, answer: list[Any]
) -> None:
    call = client.endpoint.call("A.b", client.dump({}), uploads=("u", "v", "w"))
    client.hear()
    client.endpoint.push(call.uploads["u"], client.dump(1))
    client.endpoint.push(call.uploads["v"], client.dump(1))
    client.endpoint.finish(call.uploads["v"])
    only(client.say(answer), StreamFinished)
    for upload in call.uploads.values():
        assert not client.endpoint.may_push(upload)
        with pytest.raises(LocalProtocolError):
            client.endpoint.fail(upload, ErrorBody("aborted", ""))
    assert client.hear() == [], "no terminals of their own"
    assert client.endpoint.quiescent
    assert client.endpoint.outbox_bytes == 0
    assert client.say(["credit", 3, 1], ["cancel", 7]) == []
    assert client.endpoint.ignored == 2


@pytest.mark.rule("UP-3")
def test_the_callees_terminal_finishes_the_uploads_at_the_callee(server: Bare) -> None:
    call = take_upload(server)
    server.endpoint.result(call, server.dump(5))
    reader = call.uploads["u"]
    assert server.endpoint.cancel(reader) is False
    assert server.endpoint.consumed(reader, 0, waiting=True) is False
    assert server.say(["message", 3, [1]], ["end", 3]) == []
    assert server.endpoint.ignored == 2
    assert server.hear() == [["result", 1, 5]]
    assert server.endpoint.quiescent


@pytest.mark.rule("UP-3")
def test_a_cancelled_call_begins_no_further_item_of_its_uploads(client: Bare) -> None:
    call = client.endpoint.call("A.b", client.dump({}), uploads=("u", "v"))
    client.hear()
    upload, ended = call.uploads["u"], call.uploads["v"]
    client.endpoint.push(upload, client.dump(1))
    client.endpoint.push(ended, client.dump(1))
    client.endpoint.finish(ended)
    client.endpoint.cancel(call)
    assert not client.endpoint.may_push(upload)
    with pytest.raises(LocalProtocolError):
        client.endpoint.push(upload, client.dump(2))
    with pytest.raises(LocalProtocolError):
        client.endpoint.finish(upload)
    assert client.say(["credit", 3, 1]) == []
    assert client.hear() == [["cancel", 1, "cancelled"]]
    client.say(["error", 1, ABORTED])
    assert client.endpoint.quiescent


@pytest.mark.rule("UP-4")
def test_a_callee_that_wants_no_more_cancels_the_upload(server: Bare) -> None:
    call = take_upload(server)
    reader = call.uploads["u"]
    server.say(["message", 3, [1]])
    assert server.endpoint.cancel(reader) is True
    assert server.endpoint.cancel(reader) is True
    assert server.hear() == [["cancel", 3, "cancelled"]]
    assert server.say(["message", 3, [2]]) == [], "dropped"
    only(server.say(["error", 3, {"code": "cancelled", "message": ""}]), StreamFinished)
    server.endpoint.result(call, server.dump(5))
    assert server.hear() == [["result", 1, 5]]


@pytest.mark.rule("UP-4")
@pytest.mark.parametrize("reason", ["cancelled", "deadline_exceeded"])
def test_a_caller_whose_upload_is_cancelled_closes_it_with_an_error(
    client: Bare, reason: str
) -> None:
    call = with_upload(client)
    upload = call.uploads["u"]
    client.endpoint.push(upload, client.dump(1))
    event = only(client.say(["cancel", 3, reason]), CancelReceived)
    assert (event.lane, event.reason) == (upload, reason)
    assert not client.endpoint.may_push(upload)
    for send in (client.endpoint.push, client.endpoint.finish):
        with pytest.raises(LocalProtocolError):
            send(upload, client.dump(1))
    client.endpoint.fail(upload, ErrorBody(event.reason, ""))
    assert client.hear() == [["error", 3, {"code": reason, "message": ""}]]
    assert client.endpoint.live_calls() == ([call], [])


@pytest.mark.rule("CANCEL-4")
def test_a_second_cancel_or_credit_of_a_stopping_upload_is_ignored_and_counted(
    client: Bare,
) -> None:
    with_upload(client)
    client.say(["cancel", 3])
    assert client.say(["cancel", 3], ["credit", 3, 5]) == []
    assert client.endpoint.ignored == 2


@pytest.mark.rule("UP-1", "CALL-6")
def test_uploads_flow_both_ways_beside_the_answer(codec: Codec) -> None:
    server = Bare(codec, "accepting")
    call = server.call("call", 1, "A.b", {}, {"uploads": {"u": 3}})
    for n in range(3):
        items = only(server.say(["message", 3, [n]]), ItemsReceived)
        assert server.endpoint.consumed(items.lane, 1, waiting=True) is False
        server.endpoint.push(call, server.dump(n))
        assert server.hear() == [["message", 1, [n]]]


# ---------------------------------------------------------------- callbacks


def with_callback(client: Bare) -> OutCall:
    """A call of the endpoint's, id 1, with one callback, id 3."""
    call = client.endpoint.call("A.b", client.dump({}), callbacks=("c",))
    assert [frame[:2] for frame in client.hear()] == [["call", 1]]
    return call


def take_callback(server: Bare) -> InCall:
    """A call of the bare side's, id 1, with one callback, id 3."""
    return server.call("call", 1, "A.b", {}, {"callbacks": {"c": 3}})


def invoke(server: Bare, call: InCall, **options: Any) -> OutCall:
    target = call.callbacks["c"]
    args = server.dump([50])
    return server.endpoint.call(target.id, args, target=target, parent=call, **options)


@pytest.mark.rule("CB-1")
def test_an_invocation_is_a_call_that_names_the_callback(server: Bare) -> None:
    call = take_callback(server)
    invoke(server, call)
    invoke(server, call, deadline=1001.0, options=CallOptions(metadata={"a": "b"}))
    assert server.hear() == [
        ["call", 2, 3, [50], {"parent": 1}],
        ["call", 4, 3, [50], {"parent": 1, "timeout": 1000, "metadata": {"a": "b"}}],
    ]
    assert len(call.callbacks["c"].live) == 2
    first, second = server.say(["result", 4, None], ["error", 2, ABORTED])
    assert isinstance(first, StreamFinished)
    assert isinstance(second, StreamFinished)
    assert not call.callbacks["c"].live, "what has ended is forgotten"


@pytest.mark.rule("CB-1")
def test_an_invocation_reaches_the_callback_that_it_names(client: Bare) -> None:
    call = with_callback(client)
    invocation = client.call("call", 2, 3, [50], {"timeout": 5, "metadata": {"a": "b"}})
    assert invocation.offer is call.callbacks["c"]
    assert (invocation.method, decode(client.codec, invocation.args)) == (3, [50])
    assert (invocation.timeout, invocation.metadata) == (5, {"a": "b"})
    client.endpoint.result(invocation, client.dump(None))
    assert client.hear() == [["result", 2, None]]
    failed = client.call("call", 4, 3, [])
    client.endpoint.fail(failed, ErrorBody("aborted", "no"))
    assert client.hear() == [["error", 4, ABORTED]]


@pytest.mark.rule("CB-1")
@pytest.mark.parametrize("frame", [["message", 2, [1]], ["end", 2]])
@pytest.mark.parametrize("cancelled", [False, True])
def test_a_callback_that_streams_closes_with_4505(
    server: Bare, frame: list[Any], cancelled: bool
) -> None:
    invocation = invoke(server, take_callback(server))
    server.hear()
    if cancelled:
        server.endpoint.cancel(invocation)
        server.hear()
    assert server.rejects(frame) == 4505


@pytest.mark.rule("CB-1")
def test_this_side_does_not_stream_from_a_callback(client: Bare) -> None:
    with_callback(client)
    invocation = client.call("call", 2, 3, [])
    assert not client.endpoint.may_push(invocation)
    for send in (client.endpoint.push, client.endpoint.finish):
        with pytest.raises(LocalProtocolError):
            send(invocation, client.dump(1))


@pytest.mark.rule("CB-1")
def test_an_invocation_with_streams_or_callbacks_closes_with_4505(client: Bare) -> None:
    with_callback(client)
    for option in ("uploads", "callbacks"):
        assert client.rejects(["call", 2, 3, [], {option: {"u": 4}}]) == 4505


@pytest.mark.rule("CB-1")
def test_other_options_of_an_invocation_have_no_effect(client: Bare) -> None:
    with_callback(client)
    options = {"credit": 2**40, "key": "k", "last_id": "l", "uploads": {}}
    client.call("call", 2, 3, [], options)
    client.say(["credit", 2, 2**31 - 1], ["credit", 2, 2**31 - 1])


@pytest.mark.rule("CB-2")
def test_an_invocation_takes_no_slot(codec: Codec) -> None:
    client = Bare(codec, "connecting", limits=Limits(max_calls=8))
    with_callback(client)
    for n in range(8):
        client.call("call", 2 * n + 2, "Guest.name", {})
    assert client.call("call", 18, 3, []).offer is not None
    server = Bare(codec, "accepting")
    call = take_callback(server)
    for _ in range(9):
        server.endpoint.call("Guest.name", server.dump({}))
    invoke(server, call)
    assert [frame[2] for frame in server.hear()] == ["Guest.name"] * 8 + [3]


@pytest.mark.rule("CB-2")
def test_at_most_eight_invocations_of_one_callback_are_live(server: Bare) -> None:
    call = take_callback(server)
    invocations = [invoke(server, call) for _ in range(10)]
    assert [frame[1] for frame in server.hear()] == list(range(2, 18, 2))
    assert server.endpoint.waiting(invocations[8])
    server.say(["result", 6, None], ["result", 2, None])
    assert [frame[1] for frame in server.hear()] == [18, 20]


@pytest.mark.rule("CB-2")
def test_one_invocation_too_many_is_refused_and_the_link_lives(client: Bare) -> None:
    client.endpoint.call("A.b", client.dump({}), callbacks=("c", "d"))
    client.hear()
    invocations = [client.call("call", 2 * n + 2, 3, []) for n in range(8)]
    assert client.say(["call", 18, 3, []]) == []
    [[name, id, sent]] = client.hear()
    assert (name, id, sent["code"]) == ("error", 18, "resource_exhausted")
    assert sent["not_started"] is True
    client.call("call", 20, 5, [])
    client.endpoint.result(invocations[0], client.dump(None))
    client.hear()
    client.call("call", 22, 3, [])


@pytest.mark.rule("CB-2")
@pytest.mark.parametrize("how", ["fails", "is cancelled", "is refused"])
def test_an_invocation_that_ends_in_an_error_gives_its_place_back(client: Bare, how: str) -> None:
    with_callback(client)
    invocations = [client.call("call", 2 * n + 2, 3, []) for n in range(8)]
    if how == "is cancelled":
        client.say(["cancel", 2])
    end = client.endpoint.refuse if how == "is refused" else None
    for _ in range(20):
        if end is not None:
            end(invocations[0], "unavailable", "")
        else:
            client.endpoint.fail(invocations[0], ErrorBody("cancelled", ""))
        assert [frame[0] for frame in client.hear()] == ["error"]
        last = invocations[-1].id
        invocations = [*invocations[1:], client.call("call", last + 2, 3, [])]
        if how == "is cancelled":
            client.say(["cancel", invocations[0].id])


@pytest.mark.rule("CB-2")
def test_an_invoker_gets_the_place_of_a_cancelled_invocation_with_its_answer(server: Bare) -> None:
    call = take_callback(server)
    invocations = [invoke(server, call) for _ in range(9)]
    server.hear()
    server.endpoint.cancel(invocations[0])
    assert [frame[0] for frame in server.hear()] == ["cancel"]
    assert server.endpoint.waiting(invocations[8])
    server.say(["error", 2, ABORTED])
    assert [frame[:2] for frame in server.hear()] == [["call", 18]]


@pytest.mark.rule("CB-3")
@pytest.mark.parametrize("answer", ["result", "end", "error"])
def test_the_calls_end_finishes_the_invocations_of_its_callbacks_that_are_live(
    server: Bare, answer: str
) -> None:
    endpoint = server.endpoint
    call = server.call("call", 1, "A.b", {}, {"callbacks": {"c": 3, "d": 5}})
    target = call.callbacks["d"]
    invocations = [invoke(server, call) for _ in range(9)]
    invocations.append(endpoint.call(5, server.dump([]), target=target, parent=call))
    if answer != "result":
        endpoint.push(call, server.dump(1))
    server.hear()
    server.say(["result", 4, None])  # frees the place that the ninth waits for
    endpoint.cancel(invocations[0])
    queued = endpoint.call(5, server.dump([]), target=target, parent=call)
    if answer != "result":
        endpoint.push(call, server.dump(2))
    send = {
        "result": lambda: endpoint.result(call, server.dump(7)),
        "end": lambda: endpoint.finish(call),
        "error": lambda: endpoint.fail(call, ErrorBody("aborted", "no")),
    }
    send[answer]()
    frames = server.hear()
    names = [(frame[0], frame[1]) for frame in frames]
    assert answer in [name for name, id in names if id == 1]
    opened = {invocation.id for invocation in [*invocations[:8], invocations[9]]} - {4}
    assert {id for name, id in names if name == "cancel"} == opened, "for peers that wait for it"
    for invocation in (invocations[8], queued):
        assert invocation.id == 0, "not numbered before: it is not sent any more"
    left = [*invocations[:1], *invocations[2:], queued]
    assert endpoint.abandoned == left, "those that wait are told"
    assert {invocation.state for invocation in left} <= {"finished", "invoking, cancelled"}
    ignored = endpoint.ignored
    assert server.say(["result", 2, None], ["error", 8, ABORTED]) == []
    assert endpoint.ignored == ignored + 2, "whatever comes is late"
    assert endpoint.quiescent


@pytest.mark.rule("CB-4", "ERROR-7")
def test_the_calls_terminal_finishes_its_callbacks(client: Bare) -> None:
    call = with_callback(client)
    client.say(["result", 1, None])
    assert call.callbacks["c"].state == "finished"
    assert client.say(["call", 2, 3, []]) == []
    [[name, id, sent]] = client.hear()
    assert (name, id, sent["code"]) == ("error", 2, "failed_precondition")
    assert "not_started" not in sent, "no rule says so"


@pytest.mark.rule("CB-4")
@pytest.mark.parametrize("target", [3, 5, 4, 6, 8, 100, 101])
def test_a_call_of_what_is_no_callback_closes_with_4505(client: Bare, target: int) -> None:
    client.endpoint.call("A.b", client.dump({}), uploads=("u",))
    client.endpoint.call("A.b", client.dump({}))
    client.hear()
    client.call("call", 2, "Guest.name", {}, {"callbacks": {"c": 4}, "uploads": {"u": 6}})
    assert client.rejects(["call", 8, target, []]) == 4505


@pytest.mark.rule("CB-4")
def test_a_callback_cannot_be_used_after_its_call(server: Bare) -> None:
    call = take_callback(server)
    server.endpoint.finish(call)
    late = [invoke(server, call) for _ in range(9)]
    assert [frame[0] for frame in server.hear()] == ["end"] + ["call", "cancel"] * 8
    too_late = {"code": "failed_precondition", "message": ""}
    server.say(*(["error", 2 * n + 2, too_late] for n in range(8)))
    assert [frame[:2] for frame in server.hear()] == [["call", 18], ["cancel", 18]]
    assert late[8].id == 18
    server.say(["error", 18, too_late])
    assert server.endpoint.quiescent


@pytest.mark.rule("CLOSE-4")
def test_invocations_that_wait_when_the_session_ends_are_returned_too(server: Bare) -> None:
    call = take_callback(server)
    invocations = [invoke(server, call) for _ in range(9)]
    assert set(server.endpoint.close()) == set(invocations)


@pytest.mark.rule("CB-3")
def test_at_the_caller_the_calls_terminal_cancels_invocations_and_nothing_more_is_sent(
    client: Bare,
) -> None:
    with_callback(client)
    running, incomplete = (
        client.call("call", 2, 3, []),
        client.call("call", 4, 3, None, None, 70_000),
    )
    *cancelled, finished = client.say(["result", 1, None])
    assert isinstance(finished, StreamFinished)
    assert [event.lane for event in cancelled if isinstance(event, CancelReceived)] == [
        running,
        incomplete,
    ]
    assert {running.state, incomplete.state} == {"finished"}
    ignored = client.endpoint.ignored
    piece = "x" * 20_000 if client.codec.text else b"x" * 20_000
    assert client.say(["cancel", 2], ["chunk", 4, False, piece]) == []
    assert client.endpoint.ignored == ignored + 2
    assert client.hear() == []
    assert client.endpoint.quiescent


@pytest.mark.rule("CB-3", "CB-4")
def test_an_invocation_that_was_cancelled_ends_with_its_call_all_the_same(client: Bare) -> None:
    with_callback(client)
    invocation = client.call("call", 2, 3, [])
    one, two, three = client.say(["cancel", 2], ["result", 1, None])
    assert isinstance(one, CancelReceived)
    assert isinstance(two, CancelReceived)
    assert isinstance(three, StreamFinished)
    assert invocation.state == "finished"
    assert client.hear() == []
    assert client.endpoint.quiescent


@pytest.mark.rule("CREDIT-1", "UP-1")
def test_each_upload_of_a_call_has_a_balance_of_its_own(client: Bare) -> None:
    call = client.endpoint.call("A.b", client.dump({}), uploads=("u", "v"))
    client.hear()
    u, v = call.uploads.values()
    while client.endpoint.may_push(u):
        client.endpoint.push(u, client.dump(0))
    assert client.endpoint.may_push(v)
    event = only(client.say(["credit", 3, 2]), CreditReceived)
    assert event.lane is u
    assert u.credit.balance == 2


@pytest.mark.rule("UP-2")
def test_an_error_of_an_upload_may_carry_data(client: Bare) -> None:
    upload = with_upload(client).uploads["u"]
    client.endpoint.fail(upload, ErrorBody("aborted", "no", Raw(client.dump({"a": 1}))))
    assert client.hear() == [["error", 3, {**ABORTED, "data": {"a": 1}}]]


@pytest.mark.rule("CB-1")
def test_calls_of_callbacks_are_reported_like_any_call(client: Bare) -> None:
    with_callback(client)
    events = client.say(["call", 2, 3, [1]], ["cancel", 2])
    assert [type(event) for event in events] == [CallReceived, CancelReceived]
