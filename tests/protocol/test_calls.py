"""Calls and notifies: ids, slots, answers, cancellation, time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

from wsrpc.errors import RpcError, error_class, revive
from wsrpc.limits import Limits
from wsrpc.protocol.codec import Codec
from wsrpc.protocol.endpoint import NoSlotError, ValueTooLargeError
from wsrpc.protocol.events import CallReceived, CancelReceived, ItemsReceived, StreamFinished
from wsrpc.protocol.frames import CallOptions, End, Error, ErrorBody, Result, SizedCall
from wsrpc.protocol.lane_states import LocalProtocolError
from wsrpc.protocol.lanes import InCall, Lane, OutCall, Receiver, Sender
from wsrpc.protocol.slots import Slots
from wsrpc.protocol.window import SendCredit

from .harness import Bare, Pair, decode, only, values

ABORTED = {"code": "aborted", "message": "no"}


def begin(client: Bare, method: str = "A.b", **options: Any) -> OutCall:
    """A call of the endpoint's, numbered and written."""
    call = client.endpoint.call(method, client.dump({}), **options)
    client.hear()
    return call


def body(code: str = "aborted", **fields: Any) -> ErrorBody:
    return ErrorBody(code, "no", **fields)


# ---------------------------------------------------------------- the frames of a call


def test_a_call_is_written_as_its_table_says(client: Bare) -> None:
    client.endpoint.call("Hello.greet", client.dump({"name": "Ann"}))
    client.endpoint.call(
        "Hello.build",
        client.dump({}),
        deadline=1005.0,
        options=CallOptions(metadata={"a": "b"}, key="k", last_id="l"),
        uploads=("lines",),
        callbacks=("on_progress", "on_end"),
        window=5,
    )
    client.endpoint.call("Hello.log", client.dump({"line": 1}), oneway=True, deadline=1001.0)
    assert client.hear() == [
        ["call", 1, "Hello.greet", {"name": "Ann"}],
        ["call", 3, "Hello.build", {}, {
            "timeout": 5000, "metadata": {"a": "b"}, "key": "k", "last_id": "l", "credit": 5,
            "uploads": {"lines": 5}, "callbacks": {"on_progress": 7, "on_end": 9}}],
        ["notify", 11, "Hello.log", {"line": 1}, {"timeout": 1000}],
    ]  # fmt: skip


@pytest.mark.rule("ID-1")
def test_the_accepting_side_calls_in_the_same_way_with_even_ids(server: Bare) -> None:
    calls = [server.endpoint.call("Guest.name", server.dump({})) for _ in range(2)]
    assert server.hear() == [["call", 2, "Guest.name", {}], ["call", 4, "Guest.name", {}]]
    events = server.say(["result", 4, "Ann"], ["message", 2, [1]], ["end", 2])
    assert [event.lane for event in events] == [calls[1], calls[0], calls[0]]  # type: ignore[union-attr]


@pytest.mark.rule("CALL-1")
@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("A.b", []),
        ("A.b", [1]),
        (3, {}),
        (3, {"a": 1}),
        ("A.b", None),
        (3, None),
        (3, 7),
        ("", "x"),
    ],
)
def test_arguments_of_the_wrong_shape_close_with_4500(server: Bare, method: Any, args: Any) -> None:
    assert server.rejects(["call", 1, method, args]) == 4500
    assert server.rejects(["x-beside"], ["call", 1, method, args]) == 4500
    if isinstance(method, str):
        assert server.rejects(["notify", 1, method, args]) == 4500


@pytest.mark.rule("CALL-7")
def test_what_travels_with_a_call_reaches_its_handler_as_it_was_sent(server: Bare) -> None:
    options = {
        "timeout": 70, "metadata": {"a": "1", "": "ü"}, "parent": 8, "key": "k", "last_id": "l",
    }  # fmt: skip
    call = server.call("call", 1, "A.b.c", {"x": 1}, options)
    assert (call.method, decode(server.codec, call.args)) == ("A.b.c", {"x": 1})
    assert (call.timeout, call.metadata, call.parent) == (70, {"a": "1", "": "ü"}, 8)
    assert (call.key, call.last_id, call.oneway) == ("k", "l", False)
    other = server.call("call", 3, "A.b.c", {"x": 1})
    assert (other.metadata, other.key) == (None, None)


@pytest.mark.rule("CALL-5")
def test_each_kind_of_answer_is_one_frame_and_the_last(server: Bare) -> None:
    endpoint, dump = server.endpoint, server.dump
    answers: list[tuple[Callable[[InCall], None], list[Any]]] = [
        (lambda call: endpoint.result(call, dump("x")), ["result", 1, "x"]),
        (endpoint.finish, ["end", 3]),
        (lambda call: endpoint.finish(call, dump(7)), ["end", 5, [7]]),
        (lambda call: endpoint.fail(call, body()), ["error", 7, ABORTED]),
    ]
    for answer, frame in answers:
        call = server.call("call", frame[1], "A.b", {})
        assert server.hear() == []
        answer(call)
        assert server.hear() == [frame]
        for again, _ in answers:
            with pytest.raises(LocalProtocolError):
                again(call)
        with pytest.raises(LocalProtocolError):
            endpoint.push(call, dump(1))
        assert server.hear() == []


@pytest.mark.rule("CALL-5", "ERROR-2")
def test_items_precede_the_end(server: Bare) -> None:
    for id, frame in ((1, ["end", 1]), (3, ["error", 3, ABORTED])):
        call = server.call("call", id, "A.b", {})
        for n in range(3):
            server.endpoint.push(call, server.dump(n))
        with pytest.raises(LocalProtocolError):
            server.endpoint.result(call, server.dump(1))
        if frame[0] == "end":
            server.endpoint.finish(call)
        else:
            server.endpoint.fail(call, body())
        assert server.hear() == [["message", id, [0, 1, 2]], frame]


@pytest.mark.rule("CALL-6")
def test_answers_come_in_any_order(client: Bare) -> None:
    calls = [begin(client) for _ in range(3)]
    events = client.say(["end", 5], ["result", 1, 1])
    events += client.say(["error", 3, ABORTED])
    assert [event.lane for event in events] == [calls[2], calls[0], calls[1]]  # type: ignore[union-attr]


@pytest.mark.rule("CALL-6")
def test_a_slow_call_delays_no_other(server: Bare) -> None:
    server.call("call", 1, "A.slow", {})
    quick = server.call("call", 3, "A.quick", {})
    server.endpoint.result(quick, server.dump("done"))
    assert server.hear() == [["result", 3, "done"]]


# ---------------------------------------------------------------- notify


@pytest.mark.rule("NOTIFY-1")
def test_a_notify_ends_with_end_or_error_and_nothing_else(server: Bare) -> None:
    call = server.call("notify", 1, "A.b", {"x": 1}, {"timeout": 5, "metadata": {"a": "b"}})
    assert (call.oneway, call.timeout, call.metadata) == (True, 5, {"a": "b"})
    assert not server.endpoint.may_push(call)
    with pytest.raises(LocalProtocolError):
        server.endpoint.result(call, server.dump(1))
    server.endpoint.finish(call)
    server.endpoint.fail(server.call("notify", 3, "A.b", {}), body())
    assert server.hear() == [["end", 1], ["error", 3, ABORTED]]


@pytest.mark.rule("NOTIFY-1")
@pytest.mark.parametrize("frame", [["message", 1, [1]], ["result", 1, None]])
@pytest.mark.parametrize("cancelled", [False, True])
def test_an_answered_notify_closes_with_4505(
    client: Bare, frame: list[Any], cancelled: bool
) -> None:
    call = begin(client, oneway=True)
    if cancelled:
        client.endpoint.cancel(call)
        client.hear()
    assert client.rejects(frame) == 4505


@pytest.mark.rule("NOTIFY-1", "SLOT-2")
@pytest.mark.parametrize("frame", [["end", 1], ["error", 1, ABORTED]])
def test_the_end_of_a_notify_frees_its_slot(client: Bare, frame: list[Any]) -> None:
    begin(client, oneway=True)
    assert client.endpoint.slots.live == 1
    client.say(frame)
    assert client.endpoint.slots.live == 0
    assert client.endpoint.quiescent


@pytest.mark.rule("NOTIFY-2")
@pytest.mark.parametrize("option", ["uploads", "callbacks"])
def test_a_notify_with_streams_or_callbacks_closes_with_4505(server: Bare, option: str) -> None:
    server.call("notify", 1, "A.b", {}, {option: {}})
    assert server.rejects(["notify", 3, "A.b", {}, {option: {"u": 5}}]) == 4505
    with pytest.raises(LocalProtocolError):
        server.endpoint.call("A.b", server.dump({}), oneway=True, uploads=("u",))


# ---------------------------------------------------------------- message, result, end, error


@pytest.mark.rule("MSG-1")
def test_every_value_is_an_item(client: Bare) -> None:
    items = ["", 0, False, None, [], {"isError": True, "reason": "x"}, {}, "line\n\U0001f600", [[]]]
    call = begin(client)
    events = client.say(["message", 1, items])
    assert values(client.codec, events) == items
    assert only(events, ItemsReceived).lane is call


@pytest.mark.rule("MSG-2")
def test_the_grouping_of_items_does_not_show(codec: Codec) -> None:
    for groups in ([[1, 2, 3, 4]], [[1], [2], [3], [4]], [[1, 2], [3, 4]], [[1], [2, 3, 4]]):
        for batches in (True, False):
            client = Bare(codec, "connecting")
            begin(client)
            frames = [["message", 1, group] for group in groups]
            parts = [client.say(*frames)] if batches else [client.say(one) for one in frames]
            assert values(codec, [event for part in parts for event in part]) == [1, 2, 3, 4]


@pytest.mark.rule("RESULT-1")
def test_a_result_after_items_closes_with_4505(client: Bare) -> None:
    begin(client)
    client.say(["message", 1, [1]])
    assert client.rejects(["result", 1, None]) == 4505


@pytest.mark.rule("RESULT-1")
def test_a_result_after_items_is_taken_once_cancel_was_sent(client: Bare) -> None:
    call = begin(client)
    client.say(["message", 1, [1]])
    client.endpoint.cancel(call)
    assert client.hear() == [["cancel", 1, "cancelled"]]
    assert only(client.say(["result", 1, None]), StreamFinished).lane is call


@pytest.mark.rule("END-1")
def test_an_end_with_a_final_null_is_not_an_end_without(client: Bare) -> None:
    finals: list[Any] = []
    for frame in (["end", 1], ["end", 3, None], ["end", 5, [None]], ["end", 7, [{"n": 1}]]):
        begin(client)
        end = only(client.say(frame), StreamFinished).frame
        assert isinstance(end, End)
        finals.append(end.final and [decode(client.codec, one) for one in end.final])
    assert finals == [None, None, [None], [{"n": 1}]]


@pytest.mark.rule("END-1")
def test_both_kinds_of_end_are_written_apart(server: Bare) -> None:
    for id, final in ((1, None), (3, server.dump(None)), (5, server.dump([1]))):
        server.endpoint.finish(server.call("call", id, "A.b", {}), final)
    assert server.hear() == [["end", 1], ["end", 3, [None]], ["end", 5, [[1]]]]


@pytest.mark.rule("END-2")
def test_a_final_value_where_there_is_none_is_dropped(codec: Codec) -> None:
    client = Bare(codec, "connecting")
    begin(client, oneway=True)
    server = Bare(codec, "accepting")
    server.call("call", 1, "A.b", {}, {"uploads": {"u": 3}})
    for events in (client.say(["end", 1, [5]]), server.say(["end", 3, [5]])):
        end = only(events, StreamFinished).frame
        assert isinstance(end, End)
        assert end.final is None


@pytest.mark.rule("ERROR-1")
def test_an_unknown_error_code_counts_as_unknown() -> None:
    assert revive(RpcError, "on_fire", "m", 1).code == "unknown"
    assert revive(RpcError, "aborted", "m", 1).code == "aborted"


@pytest.mark.rule("ERROR-2")
def test_an_error_crosses_unchanged(codec: Codec) -> None:
    pair = Pair(codec).open()
    things: list[Any] = [
        None,
        0,
        "",
        [],
        {"reason": "tired", "deep": [{"a": [None]}]},
        "\U0001f600",
    ]
    for data in things:
        for items in (0, 1, 3):
            pair.client.call("A.b", codec.dump({}))
            call = only(pair.run(), CallReceived).call
            for n in range(items):
                pair.server.push(call, codec.dump(n))
            raw = Raw(codec.dump(data))
            sent = ErrorBody("aborted", "so it goes", raw, "Tired", "e1", retry_after=20)
            pair.server.fail(call, sent)
            *before, last = pair.run()
            assert values(codec, before) == list(range(items))
            assert isinstance(last, StreamFinished)
            assert isinstance(last.frame, Error)
            got = last.frame.body
            assert (got.code, got.message, got.type) == ("aborted", "so it goes", "Tired")
            assert (got.error_id, got.retry_after) == ("e1", 20)
            assert decode(codec, got.data) == data


@pytest.mark.rule("ERROR-6")
def test_an_error_class_is_looked_up_among_those_defined_here() -> None:

    class Tired(RpcError[Any]):
        type_name = "tests.Tired"

    assert error_class("tests.Tired") is Tired
    for name in (None, "tests.Awake", "RpcError", "builtins.OSError", "OSError"):
        assert error_class(name) is RpcError


def test_an_absurd_retry_after_still_fits_a_float(client: Bare) -> None:
    begin(client)
    absurd = 10**400 if client.codec.text else 2**64 - 1
    error = only(client.say(["error", 1, {**ABORTED, "retry_after": absurd}]), StreamFinished).frame
    assert isinstance(error, Error)
    assert error.body.retry_after == 2**53 - 1


@pytest.mark.rule("ERROR-7")
def test_a_handler_cannot_claim_that_it_never_began(server: Bare) -> None:
    call = server.call("call", 1, "A.b", {})
    server.endpoint.fail(call, body("unavailable", not_started=True))
    assert server.hear() == [["error", 1, {"code": "unavailable", "message": "no"}]]


@pytest.mark.rule("ERROR-7")
def test_a_refusal_vouches_that_the_handler_never_began(server: Bare) -> None:
    server.endpoint.refuse(server.call("call", 1, "A.b", {}), "cancelled", "no")
    [[name, id, sent]] = server.hear()
    assert (name, id) == ("error", 1)
    assert sent == {"code": "cancelled", "message": "no", "not_started": True}


# ---------------------------------------------------------------- values that are too large


@pytest.mark.rule("VALUE-7")
def test_arguments_that_are_too_large_fail_without_a_frame(codec: Codec) -> None:
    client = Bare(codec, "connecting", hello={"limits": {"max_batch": 70_000}})
    for size in (70_000, 69_990, 10**7):
        with pytest.raises(ValueTooLargeError) as caught:
            client.endpoint.call("A.b", client.dump({"x": "x" * size}))
        assert caught.value.limit < caught.value.size
    with pytest.raises(ValueTooLargeError):
        client.endpoint.call(
            "A.b", client.dump("x" * 60_000), options=CallOptions(metadata={"a": "a" * 10_000})
        )
    assert client.hear() == []
    assert (client.endpoint.slots.live, client.endpoint.quiescent) == (0, True)
    client.endpoint.call("A.b", client.dump({"x": "x" * 69_800}))
    assert len(client.hear()) == 1


@pytest.mark.rule("VALUE-7")
def test_an_answer_that_is_too_large_can_still_become_an_error(codec: Codec) -> None:
    server = Bare(codec, "accepting", hello={"limits": {"max_batch": 70_000}})
    endpoint, large = server.endpoint, server.dump("x" * 70_000)
    for id, send in enumerate((endpoint.result, endpoint.push, endpoint.finish)):
        call = server.call("call", 2 * id + 1, "A.b", {})
        with pytest.raises(ValueTooLargeError):
            send(call, large)
        endpoint.fail(call, body("resource_exhausted"))
    assert [frame[2]["code"] for frame in server.hear()] == ["resource_exhausted"] * 3
    server.endpoint.result(server.call("call", 7, "A.b", {}), server.dump("x" * 69_800))
    assert [frame[0] for frame in server.hear()] == ["result"]


@pytest.mark.rule("VALUE-7", "BATCH-6")
def test_the_largest_answer_that_is_taken_still_fits_a_message(codec: Codec) -> None:
    server = Bare(codec, "accepting", hello={"limits": {"max_batch": 70_000}})
    endpoint = server.endpoint
    endpoint._peer_highest = 2**53 - 20  # the longest ids there are
    for n, send in enumerate((endpoint.result, endpoint.push, endpoint.finish)):
        call = server.call("call", 2**53 - 19 + 2 * n, "A.b", {})
        size = 70_001
        while call.state == "running":
            size -= 1
            try:
                send(call, server.dump("x" * size))
            except ValueTooLargeError:
                continue
        data = endpoint.next_batch(0.0)
        assert data is not None
        assert 69_800 < len(data) <= 70_000


@pytest.mark.rule("VALUE-7")
def test_an_upload_item_that_is_too_large_can_still_become_an_error(codec: Codec) -> None:
    client = Bare(codec, "connecting", hello={"limits": {"max_batch": 70_000}})
    upload = begin(client, uploads=("u",)).uploads["u"]
    with pytest.raises(ValueTooLargeError):
        client.endpoint.push(upload, client.dump("x" * 70_000))
    client.endpoint.fail(upload, body("resource_exhausted"))
    assert [frame[:2] for frame in client.hear()] == [["error", 3]]


@pytest.mark.rule("VALUE-7")
@pytest.mark.parametrize("what", ["data", "message", "both"])
def test_an_error_that_is_too_large_loses_its_data_and_not_the_link(
    codec: Codec, what: str
) -> None:
    server = Bare(codec, "accepting", hello={"limits": {"max_batch": 70_000}})
    long = "\x01" * 70_000
    sent = ErrorBody("aborted", "short" if what == "data" else long, type="Tired")
    if what != "message":
        sent.data = Raw(server.dump(long))
    server.endpoint.fail(server.call("call", 1, "A.b", {}), sent)
    data = server.endpoint.next_batch(0.0)
    assert data is not None
    assert len(data) <= 70_000
    [[_, _, got]] = decode(codec, data)
    assert (got["code"], got["type"], "data" in got) == ("aborted", "Tired", False)
    assert got["message"].startswith("short" if what == "data" else "\x01\x01\x01")


# ---------------------------------------------------------------- ids


@pytest.mark.rule("ID-1")
@pytest.mark.parametrize("name", ["call", "notify"])
def test_an_id_of_the_other_parity_closes_with_4505(codec: Codec, name: str) -> None:
    assert Bare(codec, "accepting").rejects([name, 2, "A.b", {}]) == 4505
    assert Bare(codec, "connecting").rejects([name, 1, "A.b", {}]) == 4505
    for option in ("uploads", "callbacks"):
        server = Bare(codec, "accepting")
        assert server.rejects(["call", 1, "A.b", {}, {option: {"x": 2}}]) == 4505


@pytest.mark.rule("ID-2")
@pytest.mark.parametrize("id", [1, 3, 5, 7])
def test_an_id_not_above_those_opened_before_closes_with_4505(server: Bare, id: int) -> None:
    server.call("call", 5, "A.b", {}, {"uploads": {"u": 7}})
    assert server.rejects(["call", id, "A.b", {}]) == 4505
    assert server.rejects(["notify", id, "A.b", {}]) == 4505


@pytest.mark.rule("ID-2")
@pytest.mark.parametrize(
    "options",
    [{"uploads": {"a": 5}}, {"uploads": {"a": 3}}, {"uploads": {"a": 7, "b": 7}},
     {"callbacks": {"a": 7, "b": 7}}, {"uploads": {"a": 7}, "callbacks": {"b": 7}},
     {"uploads": {"a": 9}, "callbacks": {"b": 1}}],
    ids=repr,
)  # fmt: skip
def test_uploads_and_callbacks_have_distinct_ids_above_the_call(
    server: Bare, options: dict[str, Any]
) -> None:
    assert server.rejects(["call", 5, "A.b", {}, options]) == 4505


@pytest.mark.rule("ID-2")
def test_uploads_and_callbacks_need_no_order_among_themselves(server: Bare) -> None:
    options = {"uploads": {"a": 11, "b": 3}, "callbacks": {"c": 5}}
    call = server.call("call", 1, "A.b", {}, options)
    assert {name: lane.id for name, lane in call.uploads.items()} == {"a": 11, "b": 3}
    assert {name: lane.id for name, lane in call.callbacks.items()} == {"c": 5}
    assert server.rejects(["call", 9, "A.b", {}]) == 4505


@pytest.mark.rule("ID-3")
def test_a_call_opens_at_most_sixteen_ids(server: Bare) -> None:
    fifteen = {f"u{n}": 2 * n + 3 for n in range(15)}
    assert len(server.call("call", 1, "A.b", {}, {"uploads": fifteen}).uploads) == 15
    uploads = {f"u{n}": 2 * n + 103 for n in range(8)}
    callbacks = {f"c{n}": 2 * n + 203 for n in range(8)}
    options = {"uploads": uploads, "callbacks": callbacks}
    assert server.rejects(["call", 101, "A.b", {}, options]) == 4505


@pytest.mark.rule("ID-3")
def test_this_side_opens_at_most_sixteen_ids(client: Bare) -> None:
    names = tuple(f"u{n}" for n in range(16))
    with pytest.raises(LocalProtocolError):
        client.endpoint.call("A.b", client.dump({}), uploads=names)
    client.endpoint.call("A.b", client.dump({}), uploads=names[:7], callbacks=names[8:])
    [[_, id, _, _, options]] = client.hear()
    ids = [id, *options["uploads"].values(), *options["callbacks"].values()]
    assert ids == list(range(1, 33, 2))


@pytest.mark.rule("ID-4", "NUM-2")
def test_ids_are_given_in_the_order_of_sending(codec: Codec) -> None:
    client = Bare(codec, "connecting", hello={"limits": {"max_calls": 8}})
    running = [begin(client) for _ in range(8)]
    first, second, third = (client.endpoint.call(f"A.{n}", client.dump({})) for n in range(3))
    assert first.id == second.id == third.id == 0
    client.endpoint.cancel(first)
    client.say(["end", running[3].id], ["end", running[0].id])
    assert [frame[1:3] for frame in client.hear()] == [[17, "A.1"], [19, "A.2"]]
    assert (second.id, third.id) == (17, 19)


@pytest.mark.rule("ID-4", "ID-6")
def test_ids_may_be_skipped_and_are_then_finished(server: Bare) -> None:
    server.call("call", 7, "A.b", {})
    assert server.say(["cancel", 3], ["credit", 5, 1], ["message", 1, [1]]) == []
    assert server.endpoint.ignored == 3
    assert server.rejects(["call", 5, "A.b", {}]) == 4505


@pytest.mark.rule("ID-4", "UP-3")
def test_a_refused_call_has_opened_its_ids_all_the_same(server: Bare) -> None:
    options = {"timeout": 0, "uploads": {"u": 3}, "callbacks": {"c": 5}}
    assert server.say(["call", 1, "A.b", {}, options]) == []
    assert server.say(["message", 3, [1]], ["end", 3], ["cancel", 1], ["credit", 5, 1]) == []
    assert server.endpoint.ignored == 4
    assert server.rejects(["call", 5, "A.b", {}]) == 4505


ERROR_FRAME = {"code": "aborted", "message": ""}
FRAMES: dict[str, list[Any]] = {
    "message": [[1]],
    "result": [1],
    "end": [],
    "error": [ERROR_FRAME],
    "cancel": [],
    "credit": [1],
    "chunk": [True, "x"],
}


@pytest.mark.rule("ID-5")
@pytest.mark.parametrize("name", sorted(FRAMES))
@pytest.mark.parametrize("row", ["own", "peer"])
def test_a_frame_for_an_id_never_opened_closes_with_4505(server: Bare, name: str, row: str) -> None:
    server.call("call", 1, "A.b", {}, {"uploads": {"u": 3}})
    begin(server)
    frame = [name, 4 if row == "own" else 5, *FRAMES[name]]
    if name == "chunk" and not server.codec.text:
        frame[-1] = b"x"
    assert server.rejects(frame) == 4505


# What the *other* side of an id may send, by what the id is to the endpoint.
ALLOWED = {
    "a call it received": {"credit", "cancel"},
    "a notify it received": {"credit", "cancel"},
    "an upload it receives": {"message", "end", "error"},
    "a callback it was given": set(),
    "a call of its callback": {"credit", "cancel"},
    "a call it made": {"message", "result", "end", "error"},
    "a notify it made": {"end", "error"},
    "an upload it sends": {"credit", "cancel"},
    "a callback it gave": set(),
    "a call of a callback it made": {"result", "error"},
}


def live_id(bare: Bare, what: str) -> int:
    """The id of something live: the endpoint's row if it made it, else the bare side's."""
    base = 1 if bare.endpoint.side == "accepting" else 2
    endpoint = bare.endpoint
    if "received" in what:
        frame = "notify" if "notify" in what else "call"
        return bare.call(frame, base, "A.b", {}).id
    options = {"uploads": {"u": base + 2}, "callbacks": {"c": base + 4}}
    if what in ("an upload it receives", "a callback it was given", "a call of a callback it made"):
        call = bare.call("call", base, "A.b", {}, options)
        if "of" not in what:
            return base + (2 if "upload" in what else 4)
        target = call.callbacks["c"]
        invocation = endpoint.call(target.id, bare.dump([]), target=target, parent=call)
        bare.hear()
        return invocation.id
    if what == "a notify it made":
        return begin(bare, oneway=True).id
    made = begin(bare, uploads=("u",), callbacks=("c",))
    if what == "a call of its callback":
        return bare.call("call", base, made.callbacks["c"].id, []).id
    lane = {"a call it made": made, "an upload it sends": made.uploads["u"]}
    return lane.get(what, made.callbacks["c"]).id


@pytest.mark.rule("ID-5")
@pytest.mark.parametrize("name", sorted(FRAMES))
@pytest.mark.parametrize("what", sorted(ALLOWED))
@pytest.mark.parametrize("side", ["accepting", "connecting"])
def test_only_the_frames_of_the_table_are_taken_on_a_live_id(
    codec: Codec, side: Any, what: str, name: str
) -> None:
    bare = Bare(codec, side)
    frame = [name, live_id(bare, what), *FRAMES[name]]
    if name == "chunk" and not codec.text:
        frame[-1] = b"x"
    if name in ALLOWED[what]:
        bare.say(frame)
        assert bare.endpoint.ignored == 0
    else:
        assert bare.rejects(frame) == 4505


@pytest.mark.rule("ID-6")
@pytest.mark.parametrize("name", sorted(FRAMES))
def test_a_frame_for_a_finished_id_is_ignored_and_counted(server: Bare, name: str) -> None:
    options = {"uploads": {"u": 3}, "callbacks": {"c": 5}}
    server.endpoint.finish(server.call("call", 1, "A.b", {}, options))
    begin(server, uploads=("u",), callbacks=("c",))
    server.say(["end", 2])
    server.hear()
    ids = [1, 3, 5, 2, 4, 6]
    for n, id in enumerate(ids, 1):
        frame = [name, id, *FRAMES[name]]
        if name == "chunk" and not server.codec.text:
            frame[-1] = b"x"
        assert server.say(frame) == []
        assert server.endpoint.ignored == n
    assert server.hear() == []


@pytest.mark.rule("ID-6", "ID-2")
def test_a_finished_id_cannot_be_opened_again(server: Bare) -> None:
    server.endpoint.finish(server.call("call", 1, "A.b", {}))
    assert server.rejects(["call", 1, "A.b", {}]) == 4505


# ---------------------------------------------------------------- slots


def full(codec: Codec) -> tuple[Bare, list[OutCall]]:
    client = Bare(codec, "connecting", hello={"limits": {"max_calls": 9}})
    calls = [begin(client, oneway=n % 2 == 1) for n in range(9)]
    return client, calls


@pytest.mark.rule("SLOT-1")
def test_calls_above_max_calls_wait_on_the_callers_side(codec: Codec) -> None:
    client, calls = full(codec)
    waiting = [client.endpoint.call("A.b", client.dump({}), oneway=n == 1) for n in range(3)]
    assert client.hear() == []
    assert all(map(client.endpoint.waiting, waiting))
    assert not client.endpoint.waiting(calls[0])
    client.say(["end", calls[1].id])
    assert [frame[0] for frame in client.hear()] == ["call"]
    client.say(["end", calls[0].id], ["end", calls[2].id], ["end", calls[4].id])
    assert [frame[0] for frame in client.hear()] == ["notify", "call"]
    assert client.endpoint.slots.live == 8


@pytest.mark.rule("SLOT-2")
def test_a_cancel_does_not_free_the_slot_but_the_terminal_does(codec: Codec) -> None:
    client, calls = full(codec)
    client.endpoint.call("A.b", client.dump({}))
    client.endpoint.cancel(calls[0])
    assert [frame[0] for frame in client.hear()] == ["cancel"]
    client.say(["error", calls[0].id, ABORTED])
    assert [frame[0] for frame in client.hear()] == ["call"]


@pytest.mark.rule("SLOT-3")
@pytest.mark.parametrize("oneway", [False, True])
def test_a_call_made_while_handling_one_never_waits(codec: Codec, oneway: bool) -> None:
    client, _ = full(codec)
    handled = client.call("call", 2, "Guest.name", {})
    with pytest.raises(NoSlotError, match=r"all 9 slots .* made while handling one"):
        client.endpoint.call("A.b", client.dump({}), parent=handled, oneway=oneway)
    assert client.hear() == []
    client.endpoint.finish(handled)
    client.hear()
    # Its handler has ended: calls of its tasks wait like all others.
    late = client.endpoint.call("A.b", client.dump({}), parent=handled, oneway=oneway)
    assert client.endpoint.waiting(late)


@pytest.mark.rule("SLOT-3")
@pytest.mark.parametrize("name", ["call", "notify"])
def test_a_call_made_while_handling_one_says_so(client: Bare, name: str) -> None:
    handled = client.call("call", 2, "Guest.name", {})
    oneway = name == "notify"
    client.endpoint.call("A.b", client.dump({}), parent=handled, oneway=oneway)
    client.say(["cancel", 2])
    client.endpoint.call("A.c", client.dump({}), parent=handled, oneway=oneway)
    client.endpoint.fail(handled, body("cancelled"))
    client.endpoint.call("A.d", client.dump({}), parent=handled, oneway=oneway)
    assert [frame for frame in client.hear() if frame[0] == name] == [
        [name, 1, "A.b", {}, {"parent": 2}], [name, 3, "A.c", {}, {"parent": 2}],
        [name, 5, "A.d", {}],
    ]  # fmt: skip


@pytest.mark.rule("SLOT-4")
def test_a_call_above_the_bound_is_refused_and_the_link_lives(codec: Codec) -> None:
    server = Bare(codec, "accepting", limits=Limits(max_calls=8))
    calls = [server.call("call" if n % 2 else "notify", 2 * n + 1, "A.b", {}) for n in range(8)]
    assert server.say(["call", 17, "A.b", {}], ["notify", 19, "A.b", {}]) == []
    for frame, id in zip(server.hear(), (17, 19), strict=True):
        assert frame[:2] == ["error", id]
        assert frame[2]["code"] == "resource_exhausted"
        assert frame[2]["not_started"] is True
    server.say(["cancel", calls[1].id])
    assert server.say(["call", 21, "A.b", {}]) == []
    server.endpoint.fail(calls[1], body("cancelled"))
    assert server.say(["call", 23, "A.b", {}]) == [], "the terminal has not gone yet"
    server.hear()
    server.call("call", 25, "A.b", {})


def test_too_many_waiting_calls_fail_at_once(codec: Codec) -> None:
    client = Bare(codec, "connecting", limits=Limits(max_waiting=2))
    calls = [client.endpoint.call("A.b", client.dump({})) for _ in range(10)]
    with pytest.raises(NoSlotError, match=r"^2 calls wait .* \(max_waiting\)$"):
        client.endpoint.call("A.b", client.dump({}))
    client.endpoint.cancel(calls[9])
    client.endpoint.call("A.b", client.dump({}))


# ---------------------------------------------------------------- cancel


@pytest.mark.rule("CANCEL-1", "NUM-2", "TIME-4")
def test_a_call_cancelled_before_it_is_numbered_leaves_no_trace(codec: Codec) -> None:
    client, _ = full(codec)
    held = client.endpoint.held
    waiting = client.endpoint.call("A.b", client.dump({}), uploads=("u",), callbacks=("c",))
    assert client.endpoint.held > held
    assert client.endpoint.cancel(waiting, "deadline_exceeded") is False
    assert client.endpoint.held == held
    assert client.hear() == []
    assert not client.endpoint.slots.waiting

    client = Bare(codec, "connecting")
    queued = client.endpoint.call("A.b", client.dump({}), uploads=("u",))
    assert client.endpoint.outbox_bytes > 0
    assert client.endpoint.cancel(queued) is False
    assert client.endpoint.cancel(queued) is False
    assert queued.state == queued.uploads["u"].state == "finished"
    assert (client.endpoint.slots.live, client.endpoint.outbox_bytes) == (0, 0)
    assert client.hear() == []
    assert client.endpoint.quiescent
    client.endpoint.call("A.b", client.dump({}))
    assert [frame[1] for frame in client.hear()] == [1]


@pytest.mark.rule("CANCEL-1", "SLOT-1")
def test_cancelling_a_queued_call_lets_a_waiting_one_go(codec: Codec) -> None:
    client = Bare(codec, "connecting")
    calls = [client.endpoint.call(f"A.{n}", client.dump({})) for n in range(10)]
    client.endpoint.cancel(calls[2])
    assert [frame[2] for frame in client.hear()] == [f"A.{n}" for n in (0, 1, 3, 4, 5, 6, 7, 8)]


@pytest.mark.rule("CANCEL-2")
@pytest.mark.parametrize("name", ["call", "notify"])
@pytest.mark.parametrize("reason", [None, "cancelled", "deadline_exceeded", "bored"])
def test_a_call_and_its_cancel_in_one_batch_come_out_as_cancelled_at_once(
    server: Bare, name: str, reason: str | None
) -> None:
    first, second = server.say([name, 1, "A.b", {}], ["cancel", 1, reason])
    assert isinstance(first, CallReceived)
    assert isinstance(second, CancelReceived)
    call = first.call
    code = reason if reason == "deadline_exceeded" else "cancelled"
    assert (call.state, call.cancel_reason, second.reason) == ("cancelled", code, code)
    server.endpoint.refuse(call, code, "")
    assert server.hear() == [["error", 1, {"code": code, "message": "", "not_started": True}]]


@pytest.mark.rule("CANCEL-3")
@pytest.mark.parametrize("name", ["call", "notify"])
def test_a_cancelled_handler_answers_with_an_error_whatever_it_did(server: Bare, name: str) -> None:
    call = server.call(name, 1, "A.b", {})
    event = only(server.say(["cancel", 1, "deadline_exceeded"]), CancelReceived)
    assert (event.lane, event.reason) == (call, "deadline_exceeded")
    assert server.hear() == [], "the answer comes when the handler has ended"
    for send in (server.endpoint.result, server.endpoint.finish, server.endpoint.push):
        with pytest.raises(LocalProtocolError):
            send(call, server.dump(1))
    server.endpoint.fail(call, body("deadline_exceeded"))
    assert server.hear() == [["error", 1, {"code": "deadline_exceeded", "message": "no"}]]


@pytest.mark.rule("CANCEL-4")
def test_a_second_cancel_is_ignored_and_counted(server: Bare) -> None:
    call = server.call("call", 1, "A.b", {})
    server.say(["cancel", 1])
    assert server.say(["cancel", 1, "deadline_exceeded"]) == []
    assert server.endpoint.ignored == 1
    assert call.cancel_reason == "cancelled"


@pytest.mark.rule("CANCEL-4")
def test_a_cancel_after_the_terminal_is_ignored_and_counted(server: Bare) -> None:
    server.endpoint.result(server.call("call", 1, "A.b", {}), server.dump(5))
    assert server.say(["cancel", 1]) == [], "the terminal waits in the outbox, and stands"
    assert server.endpoint.ignored == 1
    assert server.hear() == [["result", 1, 5]]


@pytest.mark.rule("CANCEL-5")
def test_no_item_is_numbered_after_a_cancel(server: Bare) -> None:
    call = server.call("call", 1, "A.b", {})
    server.endpoint.push(call, server.dump(1))
    assert server.hear() == [["message", 1, [1]]]
    for n in range(5):
        server.endpoint.push(call, server.dump(n))
    server.say(["cancel", 1])
    assert not server.endpoint.may_push(call)
    assert server.endpoint.outbox_bytes == 0
    server.endpoint.fail(call, body("cancelled"))
    assert [frame[0] for frame in server.hear()] == ["error"]


@pytest.mark.rule("CANCEL-5")
def test_items_under_way_are_dropped_but_counted_against_the_credit(codec: Codec) -> None:
    client = Bare(codec, "connecting", limits=Limits(window=4))
    call = begin(client)
    client.say(["message", 1, [1]])
    assert client.endpoint.cancel(call) is True
    assert client.endpoint.cancel(call) is True
    assert client.hear() == [["cancel", 1, "cancelled"]], "and once only"
    assert client.say(["message", 1, [2, 3]]) == []
    assert client.rejects(["message", 1, [4, 5]]) == 4505


@pytest.mark.rule("CANCEL-5", "SLOT-2")
def test_a_cancelled_id_stays_live_until_its_terminal(client: Bare) -> None:
    call = begin(client)
    client.endpoint.cancel(call)
    client.hear()
    assert client.endpoint.live_calls() == ([call], [])
    assert client.endpoint.slots.live == 1
    client.say(["error", 1, {"code": "cancelled", "message": ""}])
    assert client.endpoint.quiescent


@pytest.mark.rule("ID-6", "CALL-5")
def test_what_waits_for_a_finished_id_is_not_sent(codec: Codec) -> None:
    client = Bare(codec, "connecting", limits=Limits(window=1))
    first, second = begin(client), begin(client)
    client.say(["message", 1, [1]])
    assert client.endpoint.consumed(first, 1, waiting=True)
    client.endpoint.cancel(second)
    client.say(["end", 1], ["end", 3])
    assert client.hear() == []
    assert client.endpoint.quiescent


@pytest.mark.rule("ID-6")
def test_the_second_of_two_ends_is_ignored(client: Bare) -> None:
    begin(client)
    client.say(["end", 1])
    assert client.say(["result", 1, 1], ["message", 1, [1]]) == []
    assert client.endpoint.ignored == 2


# ---------------------------------------------------------------- time


@pytest.mark.rule("TIME-1")
@pytest.mark.parametrize(
    ("remaining", "timeout"),
    [(3.0, 3000), (2.9991, 3000), (2.999, 2999), (0.0001, 1), (0.0, 0), (-5.0, 0), (1e300, 2**53 - 1),
     (float("inf"), 2**53 - 1)],
)  # fmt: skip
def test_the_timeout_is_what_remains_when_the_call_is_numbered(
    client: Bare, remaining: float, timeout: int
) -> None:
    client.now = 123_456.7
    call = client.endpoint.call("A.b", client.dump({}), deadline=client.now + 100 + remaining)
    client.now += 100
    assert client.hear() == [["call", call.id, "A.b", {}, {"timeout": timeout}]]


@pytest.mark.rule("TIME-1")
def test_the_noise_of_floating_point_adds_no_millisecond(client: Bare) -> None:
    for n in range(100):
        client.now = 100_000.1 + n * 0.37
        client.endpoint.call("A.b", client.dump({}), oneway=True, deadline=client.now + 0.3)
        [[_, id, _, _, options]] = client.hear()
        assert options["timeout"] == 300
        client.say(["end", id])


@pytest.mark.rule("TIME-1", "TIME-4")
def test_time_spent_waiting_for_a_slot_is_gone(codec: Codec) -> None:
    client, calls = full(codec)
    client.endpoint.call("A.b", client.dump({}), deadline=client.now + 5)
    client.now += 2
    client.say(["end", calls[0].id])
    assert client.hear() == [["call", 19, "A.b", {}, {"timeout": 3000}]]


@pytest.mark.rule("TIME-2")
@pytest.mark.parametrize("name", ["call", "notify"])
def test_a_timeout_of_0_is_answered_without_a_handler(server: Bare, name: str) -> None:
    assert server.say([name, 1, "A.b", {}, {"timeout": 0}]) == []
    [[error, id, sent]] = server.hear()
    assert (error, id, sent["code"]) == ("error", 1, "deadline_exceeded")
    assert sent["not_started"] is True
    assert server.endpoint.running.live == 0


@pytest.mark.rule("TIME-3")
def test_a_deadline_that_passes_is_told_by_a_cancel_with_that_reason(client: Bare) -> None:
    call = begin(client)
    assert client.endpoint.cancel(call, "deadline_exceeded") is True
    assert client.hear() == [["cancel", 1, "deadline_exceeded"]]


def test_an_absurd_timeout_still_fits_a_float(server: Bare) -> None:
    absurd = 10**400 if server.codec.text else 2**64 - 1
    assert server.call("call", 1, "A.b", {}, {"timeout": absurd}).timeout == 2**53 - 1


# ---------------------------------------------------------------- numbering, the end


@pytest.mark.rule("NUM-1", "NUM-2")
def test_each_side_counts_its_numbered_frames_as_they_are_written(client: Bare) -> None:
    call = client.endpoint.call("A.b", client.dump({}), uploads=("u",))
    assert client.endpoint.sent == 0
    client.hear()
    assert client.endpoint.sent == 1
    client.endpoint.push(call.uploads["u"], client.dump(1))
    client.endpoint.push(call.uploads["u"], client.dump(2))
    client.hear()
    client.endpoint.push(call.uploads["u"], client.dump(3))
    client.endpoint.finish(call.uploads["u"])
    client.endpoint.cancel(call)
    assert client.hear() == [["cancel", 1, "cancelled"]], "nobody wants the rest"
    assert client.endpoint.sent == 3


@pytest.mark.rule("NUM-2")
def test_credit_is_merged_before_it_is_numbered(codec: Codec) -> None:
    client = Bare(codec, "connecting", limits=Limits(window=4))
    call = begin(client)
    client.say(["message", 1, [1, 2, 3, 4]])
    for _ in range(4):
        assert client.endpoint.consumed(call, 1, waiting=False)
    assert client.hear() == [["credit", 1, 4]]
    assert client.endpoint.sent == 2


@pytest.mark.rule("NUM-3")
def test_the_count_rises_by_every_numbered_frame_of_a_batch(server: Bare) -> None:
    server.say(
        ["call", 1, "A.b", {}, {"timeout": 0}],
        ["cancel", 1],
        ["x-a"],
        ["ping", 1],
        ["notify", 3, "A.b", {}],
        ["credit", 3, 1],
        ["message", 1, [1]],
    )
    assert server.endpoint.received == 5


@pytest.mark.rule("NUM-3")
def test_a_batch_is_counted_whole_or_not_at_all(server: Bare) -> None:
    assert server.rejects(["call", 1, "A.b", {}], ["call", 3]) == 4500
    assert server.endpoint.received == 0


@pytest.mark.rule("CLOSE-4")
def test_an_ended_session_returns_each_pending_call_once(codec: Codec) -> None:
    client = Bare(codec, "connecting")
    handled = client.call("call", 2, "Guest.name", {}, {"callbacks": {"c": 4}})
    target = handled.callbacks["c"]
    invocations = [
        client.endpoint.call(target.id, client.dump([]), target=target, parent=handled)
        for _ in range(10)
    ]
    calls = [begin(client) for _ in range(7)]
    client.say(["message", calls[1].id, [1]], ["end", calls[2].id])
    client.endpoint.cancel(calls[3])
    client.hear()
    queued = client.endpoint.call("A.queued", client.dump({}))
    also = client.endpoint.call("A.also", client.dump({}), uploads=("u",))
    waiting = client.endpoint.call("A.waiting", client.dump({}))
    removed = client.endpoint.call("A.removed", client.dump({}))
    client.endpoint.cancel(removed)
    pending = client.endpoint.close()
    assert len(pending) == len(set(pending))
    assert set(pending) == {*invocations, *calls, queued, also, waiting} - {calls[2]}
    numbered = {call for call in pending if call.id}
    assert numbered == {*invocations[:8], *calls} - {calls[2]}, "the others never started"
    assert not client.endpoint.has_output
    assert client.endpoint.close() == []


def test_the_answer_of_a_result_frame_is_left_encoded(client: Bare) -> None:
    begin(client)
    result = only(client.say(["result", 1, {"a": [1]}]), StreamFinished).frame
    assert isinstance(result, Result)
    assert decode(client.codec, result.value) == {"a": [1]}


@pytest.mark.parametrize(
    ("call", "lane"),
    [
        (InCall(SizedCall(7, "A.b", Raw(b"{}")), 3), Sender(7, "running", 3)),
        (OutCall("A.b", b"{}", 5, 9, Slots(1), False, None, None), Receiver(0, "calling", 5, 9)),
    ],
)
def test_a_call_begins_as_the_lane_that_it_is(call: Lane, lane: Lane) -> None:
    """Calls set by themselves, for speed, what the classes below them would."""
    for base in type(lane).__mro__:
        for name in getattr(base, "__slots__", ()):
            ours, theirs = getattr(call, name), getattr(lane, name)
            assert type(ours) is type(theirs), name
            assert isinstance(ours, SendCredit) or ours == theirs, name
