"""Values that are too large for one frame: in pieces, both ways, mixed with everything else."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from wsrpc.errors import ProtocolError
from wsrpc.limits import Limits
from wsrpc.protocol.codec import CODECS, Codec
from wsrpc.protocol.endpoint import ValueTooLargeError
from wsrpc.protocol.events import (
    ArgumentsReceived,
    CallReceived,
    CancelReceived,
    GoawayReceived,
    ItemsReceived,
    StreamFinished,
)
from wsrpc.protocol.frames import CallOptions, Error, ErrorBody, SizedResult
from wsrpc.protocol.lanes import InCall, OutCall

from .harness import Bare, Frame, Pair, Side, decode, encode, only

KIB = 1024
LARGE = 200 * KIB
SIDES: list[Side] = ["accepting", "connecting"]
TAKES = {"limits": {"max_batch": 256 * KIB, "max_value": 2**24, "max_held": 2**25}}
TEXTS = ["x" * LARGE, "ü" * (LARGE // 2), "漢字\"\\\n" * (LARGE // 9), "\U0001f680" * (LARGE // 4),
         '"' * LARGE, "\\" * (LARGE // 2), "\x00\x1f" * (LARGE // 2)]  # fmt: skip


def taking(codec: Codec, side: Any, **options: Any) -> Bare:
    """An endpoint whose peer takes chunks."""
    return Bare(codec, side, hello={"window": 32, **TAKES}, **options)


def pieces(codec: Codec, value: bytes, size: int = 64 * KIB) -> list[str] | list[bytes]:
    """A value's encoding in pieces, none longer than `size`."""
    if not codec.text:
        return [value[at : at + size] for at in range(0, len(value), size)]
    cut: list[str] = []
    while value:
        piece = value[:size].decode(errors="ignore")
        cut.append(piece)
        value = value[len(piece.encode()) :]
    return cut


def chunks(codec: Codec, id: int, value: bytes, size: int = 64 * KIB) -> list[Frame]:
    """The chunk frames of a value."""
    parts = pieces(codec, value, size)
    return [["chunk", id, part is parts[-1], part] for part in parts]


def joined(codec: Codec, frames: list[Frame], id: int) -> bytes:
    """What the chunks on an id amount to, each of a legal size."""
    mine = [frame for frame in frames if frame[0] == "chunk" and frame[1] == id]
    parts = [frame[3].encode() if codec.text else frame[3] for frame in mine]
    assert [frame[2] for frame in mine] == [False] * (len(mine) - 1) + [True], "CHUNK-2"
    assert all(16 * KIB <= len(part) <= 64 * KIB for part in parts[:-1]), "CHUNK-2"
    most = (32 if codec.text else 64) * KIB
    assert all(0 < len(part) <= most for part in parts), "CHUNK-2"
    return b"".join(parts)


def begin(client: Bare, **options: Any) -> OutCall:
    call = client.endpoint.call("A.b", client.dump({}), **options)
    client.hear()
    return call


# ---------------------------------------------------------------- out


@pytest.mark.rule("CHUNK-1", "CHUNK-2", "BATCH-6")
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:3]))
@pytest.mark.parametrize("max_batch", [64 * KIB, 100_000, 256 * KIB])
def test_a_large_result_goes_in_pieces_that_make_up_its_encoding(
    codec: Codec, text: str, max_batch: int
) -> None:
    hello = {"limits": {**TAKES["limits"], "max_batch": max_batch}}
    server = Bare(codec, "accepting", hello=hello)
    value = server.dump(text)
    server.endpoint.result(server.call("call", 1, "A.b", {}), value)
    frames: list[Frame] = []
    while (data := server.endpoint.next_batch(0.0)) is not None:
        assert len(data) <= max_batch
        frames += decode(codec, data)
    assert frames[0] == ["result", 1, None, len(value)]
    assert {frame[0] for frame in frames[1:]} == {"chunk"}
    assert joined(codec, frames, 1) == value
    assert server.endpoint.outbox_bytes == 0
    assert server.endpoint.quiescent


@pytest.mark.rule("CHUNK-1")
def test_every_frame_with_a_value_can_be_large(codec: Codec) -> None:
    server, client = taking(codec, "accepting"), taking(codec, "connecting")
    value = server.dump({"x": "y" * LARGE})
    size = len(value)
    one = server.call("call", 1, "A.b", {})
    server.endpoint.push(one, value)
    server.hear()
    server.endpoint.finish(one, value)
    assert server.hear()[0] == ["end", 1, [None], size]
    two = server.call("call", 3, "A.b", {})
    server.endpoint.push(two, server.dump(1))
    server.endpoint.push(two, value)
    frames = server.hear()
    assert frames[:2] == [["message", 3, [1]], ["message", 3, [None], size]]
    assert joined(codec, frames, 3) == value
    body = ErrorBody("aborted", "no", Raw(value), error_id="e")
    server.endpoint.fail(two, body)
    frames = server.hear()
    said = {"code": "aborted", "message": "no", "data": None, "error_id": "e"}
    assert frames[0] == ["error", 3, said, size]
    assert joined(codec, frames, 3) == value
    client.endpoint.call("A.b", value)
    client.endpoint.call("A.n", value, oneway=True, deadline=1003.0)
    frames = client.hear()
    assert ["call", 1, "A.b", None, None, size] in frames
    assert ["notify", 3, "A.n", None, {"timeout": 3000}, size] in frames
    assert joined(codec, frames, 1) == joined(codec, frames, 3) == value


@pytest.mark.rule("CHUNK-1")
def test_a_frame_goes_whole_up_to_64_kib_and_no_further(codec: Codec) -> None:
    for size in range(65_300, 65_700, 7):
        server = taking(codec, "accepting")
        server.endpoint.result(server.call("call", 1, "A.b", {}), server.dump("x" * size))
        first = server.hear()[0]
        if len(first) == 3:
            assert len(encode(codec, first)) <= 64 * KIB
        else:
            assert size > 65_400


@pytest.mark.rule("CHUNK-1")
def test_metadata_counts_towards_the_64_kib(codec: Codec) -> None:
    client = taking(codec, "connecting")
    options = CallOptions(metadata={"a": "b" * 10_000})
    client.endpoint.call("A.b", client.dump({"x": "y" * 60_000}), options=options)
    frames = client.hear()
    assert frames[0][:4] == ["call", 1, "A.b", None]
    assert frames[0][4]["metadata"] == {"a": "b" * 10_000}


@pytest.mark.rule("CHUNK-1", "VALUE-7")
def test_a_peer_that_takes_no_chunks_gets_large_frames_whole(codec: Codec) -> None:
    server = Bare(codec, "accepting", hello={"limits": {"max_batch": 2**20, "max_value": 2**24}})
    server.endpoint.result(server.call("call", 1, "A.b", {}), server.dump("x" * LARGE))
    assert server.hear() == [["result", 1, "x" * LARGE]]
    with pytest.raises(ValueTooLargeError):
        server.endpoint.result(server.call("call", 3, "A.b", {}), server.dump("x" * 2**20))


@pytest.mark.rule("CHUNK-7", "VALUE-7")
def test_what_the_receiver_would_refuse_is_not_sent(codec: Codec) -> None:
    for limits in ({"max_value": 100_000, "max_held": 10**6}, {"max_value": 10**6, "max_held": 10**5},
                   {"max_held": 10**6, "max_batch": 100_000}):  # fmt: skip
        server = Bare(codec, "accepting", hello={"limits": limits})
        client = Bare(codec, "connecting", hello={"limits": limits})
        value = client.dump({"x": "y" * 100_000})
        with pytest.raises(ValueTooLargeError) as caught:
            client.endpoint.call("A.b", value)
        assert (caught.value.size, caught.value.limit) == (len(value), 100_000)
        for id, send in enumerate((server.endpoint.result, server.endpoint.push)):
            call = server.call("call", 2 * id + 1, "A.b", {})
            with pytest.raises(ValueTooLargeError):
                send(call, value)
            server.endpoint.fail(call, ErrorBody("resource_exhausted", "m", Raw(value)))
        for _, _, sent in server.hear():
            assert sent["code"] == "resource_exhausted"
            assert "data" not in sent
        client.endpoint.call("A.b", client.dump({"x": "y" * 99_000}))
        assert len(client.hear()) > 2


@pytest.mark.rule("HELLO-4", "CHUNK-1")
def test_a_call_that_waits_for_the_hello_then_goes_in_chunks(codec: Codec) -> None:
    client = Bare(codec, "connecting", greet=False)
    value = client.dump({"x": "y" * LARGE})
    client.endpoint.call("A.b", value)
    assert [frame[0] for frame in client.hear()] == ["hello"]
    client.say(["hello", {"version": 1, **TAKES}])
    frames = client.hear()
    assert ["call", 1, "A.b", None, None, len(value)] in frames
    assert joined(codec, frames, 1) == value
    assert client.endpoint.outgoing == 0, "nothing of it waits any more"


@pytest.mark.rule("CHUNK-4", "ERROR-2")
def test_nothing_but_credit_mixes_with_the_chunks_of_an_id(codec: Codec) -> None:
    server = taking(codec, "accepting")
    call = server.call("call", 1, "A.b", {}, {"credit": 1000})
    value = server.dump("x" * LARGE)
    server.endpoint.push(call, value)
    first = server.endpoint.next_batch(0.0)
    assert first is not None
    assert not server.endpoint.may_push(call)
    server.endpoint.fail(call, ErrorBody("aborted", "later"))
    frames = decode(codec, first) + server.hear()
    assert [frame[0] for frame in frames[:-1]] == ["message"] + ["chunk"] * (len(frames) - 2)
    assert frames[-1][0] == "error"
    assert joined(codec, frames, 1) == value


# ---------------------------------------------------------------- what the receiver holds


@pytest.mark.rule("CHUNK-6")
def test_values_wait_until_the_receiver_can_hold_them(codec: Codec) -> None:
    hello = {"limits": {"max_value": 300_000, "max_held": 500_000, "max_calls": 100}}
    client = Bare(codec, "connecting", hello=hello)
    sizes = {}
    for n in range(6):
        args = client.dump({"x": "y" * (200_000 + n)})
        sizes[client.endpoint.call("A.b", args)] = len(args)
    small = client.endpoint.call("A.small", client.dump({}))
    held: dict[int, int] = {}
    order: list[int] = []
    for frame in client.hear():
        if len(frame) == 6:
            held[frame[1]] = frame[5]
            order.append(frame[5])
        elif frame[0] == "chunk" and frame[2]:
            del held[frame[1]]
        assert sum(held.values()) <= 500_000
    assert order == list(sizes.values()), "first come, first served"
    assert small.id == 5, "what is small does not wait behind them"
    assert client.endpoint._outbox.values.held == 0


@pytest.mark.rule("CHUNK-6")
def test_an_answer_goes_before_the_arguments_of_calls_that_wait(codec: Codec) -> None:
    hello = {"limits": {"max_value": 300_000, "max_held": 600_000, "max_calls": 100}}
    client = Bare(codec, "connecting", hello=hello)
    endpoint = client.endpoint
    calling = endpoint.call("A.b", client.dump({}), callbacks=("c",))
    client.hear()
    asked = client.call("call", 2, calling.callbacks["c"].id, [], {"parent": calling.id})
    args = client.dump({"x": "y" * 290_000})
    calls = [endpoint.call("A.b", args) for _ in range(3)]
    endpoint.next_batch(0.0)
    assert [call.id for call in calls] == [5, 7, 0]
    endpoint.result(asked, args)
    heard = client.hear()
    began = [frame[:2] for frame in heard if frame[0] in ("call", "result")]
    assert began == [["result", 2], ["call", 9]]


@pytest.mark.rule("CHUNK-6")
def test_half_is_left_to_the_values_that_the_receiver_waits_for(codec: Codec) -> None:
    hello = {"limits": {"max_value": 300_000, "max_held": 600_000, "max_calls": 100}}
    client = Bare(codec, "connecting", hello=hello)
    endpoint = client.endpoint
    args = client.dump({"x": "y" * 290_000})
    first = endpoint.call("A.b", args, callbacks=("c",))
    second = endpoint.call("A.b", args)
    endpoint.next_batch(0.0)
    assert (first.id, second.id) == (1, 0)
    asked = client.call("call", 2, first.callbacks["c"].id, [], {"parent": first.id})
    endpoint.result(asked, args)
    endpoint.next_batch(0.0)
    assert asked.value is not None
    assert asked.value.begun, "there is room for it beside the first call"
    client.hear()
    assert second.id == 5


@pytest.mark.rule("CHUNK-6", "CANCEL-1")
def test_a_value_that_waits_can_be_taken_back(codec: Codec) -> None:
    hello = {"limits": {"max_value": 300_000, "max_held": 300_000, "max_calls": 100}}
    client = Bare(codec, "connecting", hello=hello)
    args = client.dump({"x": "y" * 200_000})
    first, second, third = (client.endpoint.call("A.b", args) for _ in range(3))
    data = client.endpoint.next_batch(0.0)
    assert data is not None
    assert (first.id, second.id) == (1, 0)
    assert client.endpoint.cancel(second) is False
    client.hear()
    assert third.id == 3
    assert (client.endpoint.outbox_bytes, client.endpoint._outbox.values.held) == (0, 0)


@pytest.mark.rule("CHUNK-6")
def test_a_value_begins_as_soon_as_the_one_that_it_waits_for_is_taken_back(codec: Codec) -> None:
    hello = {"limits": {"max_value": 300_000, "max_held": 300_000, "max_calls": 100}}
    client = Bare(codec, "connecting", hello=hello)
    _, second, third = (
        client.endpoint.call("A.b", client.dump({"x": "y" * size}))
        for size in (200_000, 200_000, 90_000)
    )
    assert client.endpoint.next_batch(0.0) is not None
    client.endpoint.cancel(second)
    said = client.hear()
    last = said.index(next(frame for frame in said if frame[:3] == ["chunk", 1, True]))
    begun = [frame[1] for frame in said[:last] if frame[0] == "call"]
    assert begun == [third.id], "there is room for it beside the first"


@pytest.mark.rule("CHUNK-6")
def test_all_values_that_there_is_room_for_begin_when_one_has_gone(codec: Codec) -> None:
    hello = {"limits": {"max_value": 300_000, "max_held": 300_000, "max_calls": 100}}
    client = Bare(codec, "connecting", hello=hello)
    for size in (250_000, 100_000, 100_000):
        client.endpoint.call("A.b", client.dump({"x": "y" * size}))
    said = client.hear()
    last = said.index(next(frame for frame in said if frame[:3] == ["chunk", 3, True]))
    begun = [frame[1] for frame in said[:last] if frame[0] == "call"]
    assert begun == [1, 3, 5], "the third does not wait for the second"


@pytest.mark.rule("SLOT-2")
def test_an_answer_in_pieces_frees_its_slot_when_the_last_one_goes(codec: Codec) -> None:
    server = taking(codec, "accepting", limits=Limits(max_calls=8))
    calls = [server.call("call", id, "A.b", {}) for id in range(1, 17, 2)]
    server.endpoint.result(calls[0], server.dump("x" * LARGE))
    assert server.endpoint.next_batch(0.0) is not None
    assert server.say(["call", 17, "A.b", {}]) == [], "it is under way"
    server.hear()
    server.call("call", 19, "A.b", {})


@pytest.mark.rule("CHUNK-6")
def test_more_than_this_side_holds_closes_with_4505(codec: Codec) -> None:
    limits = Limits(max_value=200_000, max_held=300_000)
    server = Bare(codec, "accepting", limits=limits)
    server.say(["call", 1, "A.b", None, None, 200_000])
    server.say(["call", 3, "A.b", None, None, 100_000])
    assert server.rejects(["call", 5, "A.b", None, None, 1]) == 4505


@pytest.mark.rule("CHUNK-6")
def test_a_value_that_waits_for_room_is_not_overtaken_by_smaller_ones(codec: Codec) -> None:
    hello = {"limits": {"max_value": 300_000, "max_held": 300_000, "max_calls": 100}}
    server = Bare(codec, "accepting", hello=hello)
    for id, size in ((1, 200_000), (3, 200_000), (5, 90_000)):
        server.endpoint.result(server.call("call", id, "A.b", {}), server.dump("x" * size))
    begun = [frame[1] for frame in server.hear() if frame[0] == "result"]
    assert begun == [1, 3, 5], "the second waits for the first, and the third for the second"


@pytest.mark.rule("CHUNK-1")
@pytest.mark.parametrize("size", [1, 2**24, 2**40])
def test_a_side_that_takes_no_chunks_closes_with_4505_whatever_the_size(
    codec: Codec, size: int
) -> None:
    for frame in (["call", 1, "A.b", None, None, size], ["notify", 1, "A.b", None, None, size]):
        server = Bare(codec, "accepting", limits=Limits(max_held=0, max_calls=8))
        assert server.rejects(frame) == 4505
        full = Bare(codec, "accepting", limits=Limits(max_held=0, max_calls=8))
        for id in range(1, 17, 2):
            full.call("call", id, "A.b", {})
        assert full.rejects([frame[0], 17, *frame[2:]]) == 4505, "refused or not"
    for frame in (["result", 1, None, size], ["message", 1, [None], size],
                  ["error", 1, {"code": "aborted", "message": "", "data": None}, size]):  # fmt: skip
        client = Bare(codec, "connecting", limits=Limits(max_held=0))
        begin(client)
        assert client.rejects(frame) == 4505


@pytest.mark.rule("HELLO-11")
def test_of_a_peer_that_holds_less_than_its_largest_value_the_smaller_bound_counts(
    codec: Codec,
) -> None:
    hello = {"limits": {"max_value": 2**24, "max_held": 100_000}}
    client = Bare(codec, "connecting", hello=hello)
    client.endpoint.call("A.b", client.dump("x" * 99_000))
    with pytest.raises(ValueTooLargeError) as caught:
        client.endpoint.call("A.b", client.dump("x" * 100_001))
    assert caught.value.limit == 100_000
    with pytest.raises(ValueError, match="max_held must be at least max_value"):
        Limits(max_value=100_000, max_held=99_999)


# ---------------------------------------------------------------- in


@pytest.mark.rule("CHUNK-2", "CHUNK-3")
@pytest.mark.parametrize("size", [16 * KIB, 20_000, 64 * KIB])
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:3]))
def test_pieces_of_any_legal_size_make_up_the_arguments(codec: Codec, text: str, size: int) -> None:
    server = Bare(codec, "accepting")
    value = server.dump({"x": text})
    frames = chunks(codec, 1, value, size + 3 if codec.text and size < 64 * KIB else size)
    received = only(server.say(["call", 1, "A.b", None, None, len(value)]), CallReceived)
    assert (received.complete, received.call.size) == (False, len(value))
    for frame in frames[:-1]:
        assert server.say(frame) == []
    assert only(server.say(frames[-1]), ArgumentsReceived).call is received.call
    assert received.call.args == value
    assert received.call.size is None
    assert server.endpoint._incoming.held == 0


@pytest.mark.rule("CHUNK-1")
def test_items_results_final_values_and_error_data_arrive_whole(codec: Codec) -> None:
    client = Bare(codec, "connecting")
    value = client.dump(["z" * LARGE, None])
    size = len(value)

    def parts(id: int) -> list[Frame]:
        return chunks(codec, id, value)

    call = begin(client)
    assert client.say(["message", 1, [None], size], *parts(1)[:-1]) == []
    event = only(client.say(parts(1)[-1], ["message", 1, [5]])[:1], ItemsReceived)
    assert event.items == [value]
    finished = only(client.say(["end", 1, [None], size], *parts(1)), StreamFinished)
    assert finished.frame.final == [value]  # type: ignore[union-attr]
    begin(client)
    finished = only(client.say(["result", 3, None, size], *parts(3)), StreamFinished)
    assert finished.frame.value == value  # type: ignore[union-attr]
    begin(client)
    body = {"code": "aborted", "message": "m", "retry_after": 5}
    finished = only(client.say(["error", 5, body, size], *parts(5)), StreamFinished)
    assert isinstance(finished.frame, Error)
    assert (finished.frame.body.data, finished.frame.body.retry_after) == (value, 5)
    assert client.endpoint.quiescent
    assert call.state == "finished"


@pytest.mark.rule("CHUNK-1", "CB-1")
def test_uploads_and_calls_of_callbacks_can_be_large(codec: Codec) -> None:
    server, client = Bare(codec, "accepting"), Bare(codec, "connecting")
    value = server.dump("u" * LARGE)
    server.call("call", 1, "A.b", {}, {"uploads": {"u": 3}})
    events = server.say(["message", 3, [None], len(value)], *chunks(codec, 3, value))
    assert only(events, ItemsReceived).items == [value]
    args = server.dump(["a" * LARGE])
    begin(client, callbacks=("c",))
    received = client.say(["call", 2, 3, None, None, len(args)], *chunks(codec, 2, args))
    assert [type(event) for event in received] == [CallReceived, ArgumentsReceived]
    assert received[1].call.args == args  # type: ignore[union-attr]


@pytest.mark.rule("CHUNK-7", "SLOT-4", "TIME-2")
def test_slots_and_names_are_decided_before_the_arguments_are_here(codec: Codec) -> None:
    server = Bare(codec, "accepting", limits=Limits(max_calls=8, max_value=100_000))
    for id in range(1, 16, 2):
        only(server.say(["call", id, "A.b", None, None, 20_000]), CallReceived)
    assert server.say(["call", 17, "A.b", None, None, 20_000]) == []
    assert server.say(["call", 19, "A.b", None, {"timeout": 0}, 20_000]) == []
    refusals = server.hear()
    assert [(frame[1], frame[2]["not_started"]) for frame in refusals] == [(17, True), (19, True)]
    # What was refused may still come, and is for a finished id.
    value = server.dump({"x": "y" * 30_000})
    ignored = server.endpoint.ignored
    assert server.say(*chunks(codec, 17, value, 16 * KIB)) == []
    assert server.endpoint.ignored > ignored


@pytest.mark.rule("CHUNK-7")
def test_arguments_above_max_value_fail_that_call_alone(codec: Codec) -> None:
    server = Bare(codec, "accepting", limits=Limits(max_value=100_000))
    assert server.say(["call", 1, "A.b", None, None, 100_001]) == []
    [[_, id, sent]] = server.hear()
    assert (id, sent["code"], sent["not_started"]) == (1, "resource_exhausted", True)
    assert "100001" in sent["message"]
    assert server.say(*chunks(codec, 1, b"x" * 100_001)) == []
    server.call("call", 3, "A.b", {})


@pytest.mark.rule("CHUNK-7")
@pytest.mark.parametrize("name", ["result", "message", "end", "error"])
def test_an_answer_above_max_value_fails_that_call_alone(codec: Codec, name: str) -> None:
    client = Bare(codec, "connecting", limits=Limits(max_value=100_000))
    call = begin(client)
    value = client.dump("x" * 100_000)
    place: Any = {"result": None, "message": [None], "end": [None],
                  "error": {"code": "aborted", "message": ""}}[name]  # fmt: skip
    event = only(client.say([name, 1, place, len(value)]), StreamFinished)
    assert event.lane is call
    assert isinstance(event.frame, Error)
    assert event.frame.body.code == "resource_exhausted"
    assert client.hear() == [["cancel", 1, "cancelled"]]
    assert client.endpoint._incoming.held == 0
    assert client.say(*chunks(codec, 1, value)) == [], "nobody wants it"
    if name == "message":
        assert client.say(["error", 1, {"code": "cancelled", "message": ""}]) == []
    assert client.endpoint.quiescent


@pytest.mark.rule("CHUNK-7", "UP-4")
def test_an_upload_item_above_max_value_fails_where_it_is_read(codec: Codec) -> None:
    server = Bare(codec, "accepting", limits=Limits(max_value=100_000))
    call = server.call("call", 1, "A.b", {}, {"uploads": {"u": 3}})
    event = only(server.say(["message", 3, [None], 2**40]), StreamFinished)
    assert event.lane is call.uploads["u"]
    assert event.frame.body.code == "resource_exhausted"  # type: ignore[union-attr]
    assert server.hear() == [["cancel", 3, "cancelled"]]
    piece: str | bytes = "x" * 64 * KIB if codec.text else b"x" * 64 * KIB
    server.say(*[["chunk", 3, False, piece]] * 3)
    assert server.say(["error", 3, {"code": "cancelled", "message": ""}]) == []
    server.endpoint.result(call, server.dump(None))
    assert server.endpoint.live_calls() == ([], [])


@pytest.mark.rule("CHUNK-7", "UP-3")
def test_an_upload_that_is_given_up_is_forgotten_with_its_call(codec: Codec) -> None:
    server = Bare(codec, "accepting", limits=Limits(max_value=100_000))
    call = server.call("call", 1, "A.b", {}, {"uploads": {"u": 3}})
    only(server.say(["message", 3, [None], 2**40]), StreamFinished)
    assert list(server.endpoint._given_up) == [call.uploads["u"]]
    server.endpoint.result(call, server.dump(None))
    assert not server.endpoint._given_up, "no terminal of it has to come"


@pytest.mark.rule("CHUNK-3", "VALUE-4")
def test_joined_pieces_that_are_no_value_reach_whoever_decodes_them(codec: Codec) -> None:
    client = Bare(codec, "connecting")
    begin(client)
    value = b'["' + b"x" * LARGE
    event = only(
        client.say(["result", 1, None, len(value)], *chunks(codec, 1, value)), StreamFinished
    )
    with pytest.raises(ValueError, match="no value"):
        codec.load_value(event.frame.value)  # type: ignore[union-attr]


WRONG: list[tuple[str, list[Any], int]] = [
    ("a chunk where nothing was begun", [["chunk", 1, True, 5]], 4505),
    ("too much", [["result", 1, None, 70_000], ["chunk", 1, False, 65_536],
                  ["chunk", 1, False, 16_384]], 4505),
    ("too little", [["result", 1, None, 70_000], ["chunk", 1, True, 69_999 - 5_000]], 4505),
    ("a small piece", [["result", 1, None, 70_000], ["chunk", 1, False, 16_383]], 4505),
    ("a large piece", [["result", 1, None, 70_000], ["chunk", 1, False, 65_537]], 4505),
    ("an empty last piece", [["result", 1, None, 20_000], ["chunk", 1, False, 20_000],
                             ["chunk", 1, True, 0]], 4505),
    ("no last piece", [["result", 1, None, 20_000], ["chunk", 1, False, 20_000]], 4505),
    ("an empty piece", [["result", 1, None, 20_000], ["chunk", 1, True, 0]], 4505),
    ("a large last piece", [["result", 1, None, 70_000], ["chunk", 1, True, 70_000]], 4505),
    ("an item in between", [["message", 1, [None], 70_000], ["message", 1, [1]]], 4505),
    ("an end in between", [["message", 1, [None], 70_000], ["end", 1]], 4505),
    ("a result in between", [["result", 1, None, 70_000], ["result", 1, 5]], 4505),
    ("a second value", [["message", 1, [None], 70_000], ["message", 1, [None], 70_000]], 4505),
    ("a result after items", [["message", 1, [1]], ["result", 1, None, 70_000]], 4505),
    ("a size of 0", [["result", 1, None, 0]], 4500),
    ("a size that is no int", [["result", 1, None, "5"]], 4500),
    ("a value beside the size", [["result", 1, 5, 70_000]], 4500),
    ("two items beside the size", [["message", 1, [None, None], 70_000]], 4500),
    ("no final value", [["end", 1, None, 70_000]], 4500),
    ("data beside the size", [["error", 1, {"code": "a", "message": "", "data": 1}, 70_000]], 4500),
    ("a piece of a wrong type", [["chunk", 1, True, None]], 4500),
]  # fmt: skip


@pytest.mark.rule("CHUNK-1", "CHUNK-2", "CHUNK-3", "CHUNK-4", "RESULT-1")
@pytest.mark.parametrize("case", WRONG, ids=lambda case: case[0])
def test_chunks_that_are_wrong_close_the_link(codec: Codec, case: Any) -> None:
    _, frames, code = case
    client = Bare(codec, "connecting")
    begin(client)
    sent = [
        [*frame[:3], ("x" if codec.text else b"x") * frame[3]]
        if frame[0] == "chunk" and frame[3] is not None
        else frame
        for frame in frames
    ]
    assert client.rejects(*sent) == code


@pytest.mark.rule("CHUNK-4")
@pytest.mark.parametrize("frame", [["message", 1, [1]], ["end", 1], ["call", 1, "A.b", {}]])
def test_a_caller_sends_nothing_else_amid_arguments(server: Bare, frame: Frame) -> None:
    server.say(["call", 1, "A.b", None, None, 70_000])
    server.say(["credit", 1, 1])
    assert server.rejects(frame) == 4505


@pytest.mark.rule("CREDIT-2", "CREDIT-3")
def test_an_item_in_chunks_needs_credit_and_costs_by_its_size(codec: Codec) -> None:
    client, server = Bare(codec, "connecting"), taking(codec, "accepting")
    begin(client, window=1)
    assert client.say(["message", 1, [1]]) != []
    assert client.rejects(["message", 1, [None], 70_000]) == 4505
    call = server.call("call", 1, "A.b", {}, {"credit": 10})
    server.endpoint.push(call, server.dump("x" * 200_000))
    assert call.credit.balance == 10 - 4
    client = Bare(codec, "connecting")
    call_out = begin(client)
    value = client.dump("x" * 200_000)
    client.say(["message", 1, [None], len(value)], *chunks(codec, 1, value))
    assert (call_out.window.balance, call_out.window.queued) == (32 - 4, 4)


@pytest.mark.rule("CREDIT-2", "CREDIT-3", "CHUNK-7")
def test_an_item_that_is_too_large_to_be_wanted_costs_as_much_as_any(codec: Codec) -> None:
    for window, code in ((2, 4505), (3, None)):
        client = Bare(codec, "connecting", limits=Limits(max_value=100_000))
        begin(client, window=window)
        value = client.dump("x" * 100_000)
        client.say(["message", 1, [None], len(value)], *chunks(codec, 1, value))
        if code is None:
            assert client.say(["message", 1, [0]]) == []
        else:
            assert client.rejects(["message", 1, [0]]) == code


def test_a_value_that_is_whole_is_held_by_the_endpoint_no_longer(codec: Codec) -> None:
    server = Bare(codec, "accepting")
    value = server.dump({"x": "y" * LARGE})
    *some, last = chunks(codec, 1, value)
    server.call("call", 1, "A.b", None, None, len(value))
    server.say(*some)
    assert 0 < server.endpoint.held < len(value), "the pieces that have come"
    server.say(last)
    assert server.endpoint.held == 0


# ---------------------------------------------------------------- cancel, error


@pytest.mark.rule("CHUNK-5")
def test_a_call_that_is_cancelled_half_way_never_began(codec: Codec) -> None:
    server = Bare(codec, "accepting")
    value = server.dump({"x": "y" * LARGE})
    call = server.call("call", 1, "A.b", None, None, len(value))
    first, *rest = chunks(codec, 1, value)
    server.say(first)
    event = only(server.say(["cancel", 1], *rest), CancelReceived)
    assert event.lane is call
    assert server.endpoint._incoming.held == 0
    server.endpoint.refuse(call, event.reason, "cancelled before it began")
    [[_, _, sent]] = server.hear()
    assert (sent["code"], sent["not_started"]) == ("cancelled", True)
    assert server.endpoint.quiescent


@pytest.mark.rule("CHUNK-4", "CHUNK-5", "CHUNK-6")
def test_a_caller_that_cancels_half_way_sends_no_more(codec: Codec) -> None:
    client = taking(codec, "connecting")
    call = client.endpoint.call("A.b", client.dump({"x": "y" * LARGE}))
    client.endpoint.next_batch(0.0)
    held = client.endpoint._outbox.values.held
    client.endpoint.cancel(call)
    assert held > 0
    assert client.hear() == [["cancel", 1, "cancelled"]]
    assert (client.endpoint._outbox.values.held, client.endpoint.outbox_bytes) == (0, 0)
    client.say(["error", 1, {"code": "cancelled", "message": "", "not_started": True}])
    assert client.endpoint.quiescent


@pytest.mark.rule("CHUNK-7")
def test_an_answer_before_the_arguments_are_through_stops_them(codec: Codec) -> None:
    client = taking(codec, "connecting")
    client.endpoint.call("A.nope", client.dump({"x": "y" * LARGE}), uploads=("u",))
    client.endpoint.next_batch(0.0)
    client.say(["error", 1, {"code": "unimplemented", "message": ""}])
    assert client.hear() == []
    assert client.endpoint.quiescent
    assert (client.endpoint._outbox.values.held, client.endpoint.outbox_bytes) == (0, 0)


@pytest.mark.rule("CHUNK-4")
def test_an_error_discards_what_was_begun(codec: Codec) -> None:
    client, server = Bare(codec, "connecting"), taking(codec, "accepting")
    begin(client)
    value = client.dump("x" * LARGE)
    client.say(["message", 1, [None], len(value)], chunks(codec, 1, value)[0])
    event = only(client.say(["error", 1, {"code": "aborted", "message": ""}]), StreamFinished)
    assert isinstance(event.frame, Error)
    assert client.endpoint._incoming.held == 0
    assert not client.endpoint._arriving
    call = server.call("call", 1, "A.b", {})
    server.endpoint.push(call, value)
    server.endpoint.next_batch(0.0)
    server.say(["cancel", 1])
    assert server.hear() == []
    assert server.endpoint._outbox.values.held == len(value), "the receiver still holds it"
    server.endpoint.fail(call, ErrorBody("cancelled", "", Raw(value)))
    [[_, _, sent]] = server.hear()
    assert sent["code"] == "cancelled"
    assert server.endpoint._outbox.values.held == 0


@pytest.mark.rule("CANCEL-4", "CHUNK-4")
def test_a_result_on_its_way_is_cut_short_by_a_cancel(codec: Codec) -> None:
    server = taking(codec, "accepting")
    call = server.call("call", 1, "A.b", {})
    server.endpoint.result(call, server.dump("x" * LARGE))
    server.endpoint.next_batch(0.0)
    server.say(["cancel", 1, "deadline_exceeded"])
    [[name, _, sent]] = server.hear()
    assert (name, sent["code"]) == ("error", "deadline_exceeded")
    assert (server.endpoint._outbox.values.held, server.endpoint.outbox_bytes) == (0, 0)
    server.say(["cancel", 1])
    assert server.hear() == []


@pytest.mark.rule("UP-3", "CHUNK-6")
def test_an_upload_that_is_half_there_ends_with_its_cancelled_call(codec: Codec) -> None:
    client = taking(codec, "connecting")
    call = begin(client, uploads=("u",))
    client.endpoint.push(call.uploads["u"], client.dump("x" * LARGE))
    client.endpoint.next_batch(0.0)
    client.endpoint.cancel(call)
    frames = client.hear()
    assert sorted(frame[:2] for frame in frames) == [["cancel", 1], ["error", 3]]
    assert client.endpoint._outbox.values.held == 0


@pytest.mark.rule("UP-3", "CHUNK-4", "CHUNK-6")
def test_an_upload_that_has_ended_but_is_half_there_ends_with_its_cancelled_call(
    codec: Codec,
) -> None:
    client = taking(codec, "connecting")
    call = begin(client, uploads=("u",))
    upload = call.uploads["u"]
    client.endpoint.push(upload, client.dump("x" * LARGE))
    client.endpoint.next_batch(0.0)
    client.endpoint.finish(upload)
    client.endpoint.cancel(call)
    frames = client.hear()
    assert sorted(frame[:2] for frame in frames) == [["cancel", 1], ["error", 3]]
    assert client.endpoint._outbox.values.held == 0


@pytest.mark.rule("UP-3", "CHUNK-6")
def test_the_end_of_a_call_ends_what_is_half_there_of_its_uploads(codec: Codec) -> None:
    server = Bare(codec, "accepting")
    call = server.call("call", 1, "A.b", {}, {"uploads": {"u": 3}})
    value = server.dump("x" * LARGE)
    first, *rest = chunks(codec, 3, value)
    server.say(["message", 3, [None], len(value)], first)
    server.endpoint.result(call, server.dump(None))
    assert server.endpoint._incoming.held == 0
    server.say(*rest)
    assert server.endpoint.quiescent is False
    server.hear()
    assert server.endpoint.quiescent


@pytest.mark.rule("CLOSE-4")
def test_closing_forgets_values_under_way(codec: Codec) -> None:
    client = taking(codec, "connecting")
    args = client.dump({"x": "y" * LARGE})
    calls = [client.endpoint.call("A.b", args) for _ in range(200)]
    client.endpoint.next_batch(0.0)
    assert set(client.endpoint.close()) == set(calls)
    assert client.endpoint.outbox_bytes == 0


def parked(codec: Codec, side: Side) -> tuple[Bare, list[OutCall]]:
    """Calls of which the first is half out, and the others wait until it is."""
    hello = {"limits": {"max_value": 300_000, "max_held": 300_000, "max_calls": 100}}
    bare = Bare(codec, side, hello=hello)
    args = bare.dump({"x": "y" * 200_000})
    calls = [bare.endpoint.call("A.b", args) for _ in range(3)]
    bare.endpoint.next_batch(0.0)
    assert [call.id > 0 for call in calls] == [True, False, False]
    return bare, calls


@pytest.mark.rule("CLOSE-4", "CHUNK-6")
@pytest.mark.parametrize("side", SIDES)
def test_calls_that_wait_for_a_large_value_end_with_the_session(codec: Codec, side: Side) -> None:
    bare, calls = parked(codec, side)
    assert not bare.endpoint.quiescent
    assert set(bare.endpoint.close()) == set(calls)


@pytest.mark.rule("GOAWAY-2", "CHUNK-6")
@pytest.mark.parametrize("side", SIDES)
def test_calls_that_wait_for_a_large_value_end_with_a_goaway(codec: Codec, side: Side) -> None:
    bare, calls = parked(codec, side)
    told, *finished = bare.say(["goaway", {"last_id": calls[0].id, "grace": 0}])
    assert isinstance(told, GoawayReceived)
    assert [event.lane for event in finished if isinstance(event, StreamFinished)] == calls[1:]
    assert bare.hear()[-1][0] == "chunk"
    bare.say(["result", calls[0].id, None])
    assert bare.endpoint.quiescent


@pytest.mark.rule("CHUNK-7", "CLOSE-4")
def test_a_call_that_failed_here_alone_does_not_fail_again_with_the_session(codec: Codec) -> None:
    client = Bare(codec, "connecting", limits=Limits(max_value=65_536))
    begin(client)
    assert isinstance(client.say(["result", 1, None, 100_000])[0], StreamFinished)
    assert client.endpoint.close() == []


@pytest.mark.rule("CHUNK-6", "RESUME-6")
def test_a_value_that_was_woken_and_found_no_room_keeps_its_turn(codec: Codec) -> None:
    """While the buffer is all but full nobody's turn is lost."""
    hello = {"limits": {"max_value": 100_000, "max_held": 100_000}}

    def answers(replay: int, *ids: int) -> Bare:
        limits = Limits(replay=replay)
        server = Bare(codec, "accepting", hello=hello, limits=limits, resume_window=30.0)
        for id in ids:
            server.endpoint.result(server.call("call", id, "A.b", {}), server.dump("x" * 70_000))
        return server

    alone = answers(1_000_000, 1)
    alone.hear()
    server = answers(alone.endpoint.replay_bytes + 50, 1, 3)
    assert {frame[1] for frame in server.hear()} == {1}
    server.say(["ack", server.endpoint.sent])
    assert {frame[1] for frame in server.hear()} == {3}
    assert server.endpoint.quiescent


# ---------------------------------------------------------------- both ends together


@pytest.mark.rule("CHUNK-2")
def test_sixteen_mebibytes_of_bytes_come_through(codec: Codec) -> None:
    pair = Pair(codec, Limits(max_value=2**25), Limits(max_value=2**25)).open()
    data = bytes(range(256)) * 2**16
    call = pair.client.call("A.b", codec.dump({"data": data}))
    received, arguments = pair.run()
    assert isinstance(received, CallReceived)
    assert isinstance(arguments, ArgumentsReceived)
    inbound: InCall = received.call
    pair.server.result(inbound, bytes(inbound.args))
    finished = only(pair.run(), StreamFinished)
    assert finished.lane is call
    assert isinstance(finished.frame, SizedResult)
    assert bytes(finished.frame.value) == codec.dump({"data": data})


LONE: list[tuple[bytes, int | None]] = [
    (b'[["chunk",1,false,"%b"]]', None),
    (b'[["chunk",1,false,"%b\\n"]]', None),
    (b'[["chunk",1,false,"%b\\ud83d\\ude80"]]', None),
    (b'[["chunk",1,false,"%b","more"]]', None),
    (b'[["chunk",1,false,"%b"],["ping",1,"x"]]', None),
    (b'[["chunk",1,false,"%b\\"]]', 4500),
    (b'[["chunk",1,false,"%b"]]]', 4500),
    (b'[["chunk",1,false,"%b""]]', 4500),
    (b'[["chunk",9007199254740992,false,"%b"]]', 4500),
    (b'[["chunk",3,false,"%b"]]', 4505),
]


@pytest.mark.rule("BATCH-1", "CHUNK-2")
@pytest.mark.parametrize(("batch", "code"), LONE, ids=range(len(LONE)))
def test_a_chunk_means_the_same_alone_and_among_others(batch: bytes, code: int | None) -> None:
    codec = CODECS["json"]
    outcomes: list[tuple[int | None, bytes]] = []
    for head in (b"[", b'[["ping",1],'):
        client = Bare(codec, "connecting")
        begin(client)
        client.say(["result", 1, None, 100_000])
        data = head + (batch % (b"x" * 20_000))[1:]
        try:
            client.endpoint.receive(data)
        except ProtocolError as error:
            outcomes.append((error.close_code, b""))
        else:
            whole = client.endpoint._arriving[1].whole
            assert whole is not None
            outcomes.append((None, bytes(whole.value())))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] == code
