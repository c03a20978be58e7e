"""Batches and frames: what is well-formed, what is not, and what is ignored."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from wsrpc.limits import Limits
from wsrpc.protocol.codec import Codec
from wsrpc.protocol.events import CallReceived, ItemsReceived, StreamFinished
from wsrpc.protocol.lanes import OutCall

from .harness import Bare, encode, only, rejected

GOOD = ["call", 1, "Hello.greet", {}]


@pytest.mark.rule("BATCH-1")
@pytest.mark.parametrize(
    "message",
    [None, True, 7, "call", {"call": 1}, [], ["call"], [7], [None], [{}], [[]], [[7]], [[None]],
     [[["call"]]], [GOOD, "call"], [GOOD, []]],
    ids=repr,
)  # fmt: skip
def test_what_is_no_array_of_named_arrays_closes_with_4500(server: Bare, message: Any) -> None:
    assert rejected(lambda: server.endpoint.receive(encode(server.codec, message))) == 4500


@pytest.mark.rule("BATCH-1")
@pytest.mark.parametrize(
    "text",
    ["", " ", "nonsense", '[["ping",1]', '[["ping",1]]]', '[["ping",1],]', "[['ping',1]]",
     '[["result",1,NaN]]', '[["result",1,Infinity]]', '[["result",1,-Infinity]]',
     '[["result",1,01]]', '[["result",1,"\t"]]', '[["result",1,"\\q"]]', '\ufeff[["ping",1]]'],
)  # fmt: skip
def test_what_is_no_json_closes_with_4500(text: str) -> None:
    server = Bare(codec_named("json"), "accepting")
    assert rejected(lambda: server.endpoint.receive(text.encode())) == 4500


@pytest.mark.rule("BATCH-1")
@pytest.mark.parametrize(
    "data",
    [b"", b"\x91", b"\x91\x92\xa4ping", b"\x91\x92\xa4ping\x01\x01", b"\xc1", b"\xdd\xff\xff\xff\xff",
     b"\x91\x93\xa6result\x01\xc1", b"\x91\x93\xa6result\x01\xc6\xff\xff\xff\xff"],
)  # fmt: skip
def test_what_is_no_messagepack_closes_with_4500(data: bytes) -> None:
    server = Bare(codec_named("msgpack"), "accepting")
    assert rejected(lambda: server.endpoint.receive(data)) == 4500


@pytest.mark.parametrize(
    "data",
    [
        b'[["call",1,"A.b",{"a":"\xff"}]]',
        b'[["ping",1]] \xff',
        b'[["x-a","\xc3"]]',
        b'["\xed\xa0\x80"]',
    ],
)
def test_text_that_is_not_utf8_closes_with_1007(data: bytes) -> None:
    server = Bare(codec_named("json"), "accepting")
    assert rejected(lambda: server.endpoint.receive(data)) == 1007


@pytest.mark.rule("BATCH-2")
@pytest.mark.parametrize(
    "name", ["", "Call", "hullo", "xtrace", "y-trace", "X-trace", " call", "calls"]
)
def test_an_unknown_frame_name_closes_with_4500(server: Bare, name: str) -> None:
    assert server.rejects([name, 1]) == 4500


# What a frame looks like, element by element or field by field, and what may not stand there
# instead. Each line is tried with the element missing, null (unless it is a value) and each of the
# wrong ones.
ANY_ID = [0, -1, 2**53, 1.5, "1", True, [], {}]
NO_COUNT = [-1, 0.5, "1", True, [], {}]
NO_TEXT = [1, True, [], {}]
NO_OBJECT = [1, "x", True, []]
NO_IDS = [*NO_OBJECT, {"a": 0}, {"a": "1"}, {"a": 2**53}, {"a": None}]
REQUIRED: list[tuple[list[Any], int, list[Any]]] = [
    (["ack", 0], 1, NO_COUNT),
    (["ping", 1], 1, [*NO_COUNT, 2**53]),
    (["pong", 1], 1, [*NO_COUNT, 2**53]),
    (["call", 1, "A.b", {}], 1, ANY_ID),
    (["call", 1, "A.b", {}], 2, [True, 1.5, [], {}, 0, -1, 2**53]),
    (["call", 1, "A.b", {}], 3, [1, "x", True]),
    (["notify", 1, "A.b", {}], 1, ANY_ID),
    (["notify", 1, "A.b", {}], 2, [*NO_TEXT, 2]),
    (["notify", 1, "A.b", {}], 3, [1, "x", True, []]),
    (["message", 1, [1]], 1, ANY_ID),
    (["message", 1, [1]], 2, [1, "x", {}, []]),
    (["end", 1], 1, ANY_ID),
    (["error", 1, {"code": "aborted", "message": ""}], 1, ANY_ID),
    (["error", 1, {"code": "aborted", "message": ""}], 2, [*NO_OBJECT, {}]),
    (["cancel", 1], 1, ANY_ID),
    (["credit", 1, 1], 1, ANY_ID),
    (["credit", 1, 1], 2, [0.5, 1.0, "1", True, [], {}]),
]
MISSING: list[list[Any]] = [
    ["ack"],
    ["ping"],
    ["pong"],
    ["call"],
    ["call", 1],
    ["call", 1, "A.b"],
    ["notify", 1, "A.b"],
    ["message", 1],
    ["result"],
    ["result", 1],
    ["end"],
    ["error", 1],
    ["error", 1, {"code": "aborted"}],
    ["error", 1, {"message": ""}],
    ["error", 1, {"code": None, "message": ""}],
    ["error", 1, {"code": "aborted", "message": None}],
    ["cancel"],
    ["credit", 1],
    ["auth"],
    ["chunk", 1, True],
]
OPTIONAL: list[tuple[list[Any], str, list[Any]]] = [
    (["call", 1, "A.b", {}, ...], "timeout", NO_COUNT),
    (["call", 1, "A.b", {}, ...], "metadata", [*NO_OBJECT, {"a": 1}, {"a": None}]),
    (["call", 1, "A.b", {}, ...], "credit", NO_COUNT),
    (["call", 1, "A.b", {}, ...], "uploads", NO_IDS),
    (["call", 1, "A.b", {}, ...], "callbacks", NO_IDS),
    (["call", 1, "A.b", {}, ...], "parent", ["1", 1.5, True, []]),
    (["call", 1, "A.b", {}, ...], "key", NO_TEXT),
    (["call", 1, "A.b", {}, ...], "last_id", NO_TEXT),
    (["notify", 1, "A.b", {}, ...], "timeout", NO_COUNT),
    (["error", 1, ...], "type", NO_TEXT),
    (["error", 1, ...], "error_id", NO_TEXT),
    (["error", 1, ...], "not_started", [0, "true", [], {}]),
    (["error", 1, ...], "retry_after", NO_COUNT),
]
OTHER: list[list[Any]] = [
    ["call", 1, "A.b", {}, 7],
    ["call", 1, "A.b", {}, []],
    ["end", 1, 7],
    ["end", 1, []],
    ["end", 1, [1, 2]],
    ["end", 1, {}],
    ["cancel", 1, 7],
    ["cancel", 1, {}],
]


def bad_frames() -> list[list[Any]]:
    frames = [*MISSING, *OTHER]
    for frame, place, wrong in REQUIRED:
        frames += [[*frame[:place], one, *frame[place + 1 :]] for one in [None, *wrong]]
    for frame, field, wrong in OPTIONAL:
        base = {"code": "aborted", "message": ""} if frame[0] == "error" else {}
        frames += [[{**base, field: one} if e is ... else e for e in frame] for one in wrong]
    return frames


@pytest.mark.rule("BATCH-3")
@pytest.mark.parametrize("frame", bad_frames(), ids=repr)
def test_a_frame_that_does_not_fit_its_table_closes_with_4500(
    server: Bare, frame: list[Any]
) -> None:
    assert server.rejects(frame) == 4500


@pytest.mark.rule("BATCH-3")
def test_a_malformed_frame_takes_all_effect_from_its_batch(client: Bare) -> None:
    call = begin(client)
    assert client.rejects(["result", 1, "fine"], ["credit", 1, "1"]) == 4500
    assert client.endpoint.unreported == []
    assert client.endpoint.live_calls() == ([call], [])
    assert client.rejects(["result", 1, "fine"], ["call", 2, "A.b", []]) == 4500
    assert client.endpoint.unreported == []
    assert client.endpoint.close() == [call]


@pytest.mark.rule("BATCH-4")
@pytest.mark.parametrize("absent", [[], [None], [{}], [{"timeout": None, "credit": None}]])
def test_absent_and_null_options_mean_the_same(server: Bare, absent: list[Any]) -> None:
    call = server.call("call", 1, "A.b", {}, *absent)
    assert (call.timeout, call.metadata, call.parent, call.key) == (None, None, None, None)
    assert call.credit.balance == 32, "the window of the hello"


@pytest.mark.rule("BATCH-4")
def test_absent_and_null_fields_of_an_error_mean_the_same(client: Bare) -> None:
    nothing = dict.fromkeys(["type", "error_id", "not_started", "retry_after", "data"])
    for id, extra in ((1, {}), (3, nothing)):
        begin(client)
        event = only(
            client.say(["error", id, {"code": "aborted", "message": "", **extra}]), StreamFinished
        )
        body = event.frame.body  # type: ignore[union-attr]
        assert (body.type, body.error_id, body.retry_after) == (None, None, None)
        assert not body.not_started
        assert client.codec.load_value(body.data) is None


@pytest.mark.rule("BATCH-4")
@pytest.mark.parametrize("frame", [["cancel", 1], ["cancel", 1, None]])
def test_absent_and_null_elements_mean_the_same(server: Bare, frame: list[Any]) -> None:
    call = server.call(*GOOD)
    server.say(frame)
    assert call.cancel_reason == "cancelled"


@pytest.mark.rule("BATCH-4")
def test_elements_and_fields_beyond_the_described_are_ignored(codec: Codec) -> None:
    server = Bare(codec, "accepting", hello={"limits": {"shoe_size": 44}, "weather": ["fine"]})
    call = server.call("call", 1, "A.b", {}, {"colour": {"deep": [1]}}, None, 7, [1])
    server.say(["cancel", 1, "cancelled", "really"], ["ping", 5, 5])
    assert call.cancel_reason == "cancelled"
    # A notify has no such options, with any values.
    server.call("notify", 3, "A.b", {}, {"credit": -1, "last_id": 7})
    assert server.hear() == [["pong", 5]]


@pytest.mark.rule("BATCH-5")
def test_frames_act_in_the_order_in_which_they_stand(server: Bare) -> None:
    events = server.say(
        ["call", 1, "A.b", {}, {"uploads": {"u": 3}}],
        ["message", 3, [1]],
        ["message", 3, [2, 3]],
        ["end", 3],
        ["call", 5, "A.c", {}],
    )
    assert list(map(type, events)) == [
        CallReceived, ItemsReceived, ItemsReceived, StreamFinished, CallReceived
    ]  # fmt: skip
    assert server.rejects(["cancel", 7], ["call", 7, "A.b", {}]) == 4505


@pytest.mark.rule("BATCH-5")
def test_frames_before_a_violation_have_acted(client: Bare) -> None:
    first, second = begin(client), begin(client)
    assert client.rejects(["result", 1, "fine"], ["end", 5], ["result", 3, "late"]) == 4505
    finished = only(client.endpoint.unreported, StreamFinished)
    assert finished.lane is first
    assert client.endpoint.close() == [second, first], "nobody waits for ever, even so"


@pytest.mark.rule("BATCH-6")
def test_a_message_above_max_batch_closes_with_1009(codec: Codec) -> None:
    server = Bare(codec, "accepting", limits=Limits(max_batch=100_000))
    frame = ["x-filler", ""]
    frame[1] = "x" * (100_000 - len(encode(codec, [frame])) - (0 if codec.text else 4))
    assert len(encode(codec, [frame])) == 100_000
    server.say(frame)
    frame[1] += "x"
    assert server.rejects(frame) == 1009


@pytest.mark.rule("BATCH-6")
def test_no_batch_is_larger_than_the_peer_takes(codec: Codec) -> None:
    server = Bare(codec, "accepting", hello={"window": 2**20, "limits": {"max_batch": 70_000}})
    calls = [server.call("call", id, "A.b", {}) for id in range(1, 9, 2)]
    for size in (0, 1, 40_000, 65_530, 65_536, 69_000):
        for call in calls:
            server.endpoint.push(call, server.dump("x" * size))
    for call in calls:
        server.endpoint.finish(call)
    sizes = []
    while (data := server.endpoint.next_batch(0.0)) is not None:
        sizes.append(len(data))
    assert sum(sizes) > 4 * 240_000
    assert max(sizes) <= 70_000


@pytest.mark.rule("EXT-1")
def test_unknown_extensions_are_ignored_and_counted(server: Bare) -> None:
    events = server.say(
        ["x-trace", "anything", 1, {"a": [None]}], GOOD, ["x-"], ["cancel", 1], ["x-call", 0]
    )
    assert [type(event).__name__ for event in events] == ["CallReceived", "CancelReceived"]
    assert server.endpoint.ignored == 3
    assert server.endpoint.received == 2, "an extension is not numbered"
    assert server.say(["x-alone"]) == []


@pytest.mark.rule("EXT-1", "BATCH-3")
def test_frames_around_an_extension_are_still_checked(server: Bare) -> None:
    assert server.rejects(["x-trace"], ["cancel", 0]) == 4500
    assert server.endpoint.ignored == 0


# ---------------------------------------------------------------- values in frames


def spoiled(codec: Codec) -> list[bytes]:
    """Encodings that can be skipped over but are no values."""
    if codec.text:
        return [rb'"\ud800"', rb'"\udc00x"', rb'"\udc00\ud800"', rb'{"\uDBFF":1}', rb'["\\\udead"]',
                b"1e999", b"9" * 400]  # fmt: skip
    return [b"\xa1\xff", b"\xa3\xed\xa0\x80", b"\xd4\x05\x00", b"\xd6\xff\x00\x00\x00\x00",
            b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", b"\xca\x7f\x80\x00\x00", b"\x81\x01\x02",
            b"\x91\x81\xc0\xc0"]  # fmt: skip


def splice(codec: Codec, frame: list[Any], value: bytes) -> bytes:
    """The encoding of a frame with `...` replaced by what is already encoded."""
    data = encode(codec, [*(0 if e is ... else e for e in frame)])
    assert data.count(encode(codec, 0)) == 1
    return data.replace(encode(codec, 0), value)


@pytest.mark.rule("VALUE-4", "VALUE-1")
@pytest.mark.parametrize("frame", [["result", 1, ...], ["end", 1, ...], ["message", 1, ...]])
def test_a_spoiled_value_leaves_its_batch_alone(client: Bare, frame: list[Any]) -> None:
    codec = client.codec
    in_array = frame[0] != "result"
    for value in spoiled(codec):
        client = Bare(codec, "connecting")
        first, second = begin(client), begin(client)
        element = codec.join([value]) if in_array else value
        batch = codec.join([splice(codec, frame, element), encode(codec, ["result", 3, "fine"])])
        one, two = client.endpoint.receive(batch)
        assert isinstance(two, StreamFinished)
        assert (one.lane, two.lane) == (first, second)  # type: ignore[union-attr]
        raw = {"result": "value", "end": "final"}
        if isinstance(one, ItemsReceived):
            [bad] = one.items
        else:
            assert isinstance(one, StreamFinished)
            bad = getattr(one.frame, raw[frame[0]])
            bad = bad[0] if in_array else bad
        with pytest.raises(ValueError):
            codec.load_value(bad)


@pytest.mark.rule("VALUE-4")
def test_spoiled_arguments_leave_their_batch_alone(server: Bare) -> None:
    codec = server.codec
    for id, value in enumerate(spoiled(codec)):
        args = b'{"a":' + value + b"}" if codec.text else b"\x81\xa1a" + value
        frame = splice(codec, ["call", 8 * id + 1, "A.b", ...], args)
        beside = encode(codec, ["call", 8 * id + 3, "A.b", {}])
        one, two = server.endpoint.receive(codec.join([frame, beside]))
        assert isinstance(one, CallReceived)
        assert isinstance(two, CallReceived)
        with pytest.raises(ValueError):
            codec.load_value(one.call.args)
        server.endpoint.fail(one.call, error("invalid_argument"))
        server.endpoint.finish(two.call)


@pytest.mark.rule("BATCH-4", "EXT-1", "VALUE-4")
def test_a_lone_surrogate_in_what_is_ignored_is_ignored() -> None:
    server = Bare(codec_named("json"), "accepting")
    events = server.endpoint.receive(
        rb'[["x-a","\ud800"],["call",1,"A.b",{"s":"\\ud800 \ud83d\ude00"},{"z":"\ud800"},null,"\udc00"]]'
    )
    args = only(events, CallReceived).call.args
    assert server.codec.load_value(args) == {"s": "\\ud800 \U0001f600"}


@pytest.mark.rule("BATCH-3", "BATCH-1")
@pytest.mark.parametrize(
    "frame",
    [rb'["call",1,"A.\ud800",{}]', rb'["call",1,"A.b",{},{"metadata":{"a":"\udc00"}}]',
     rb'["\ud800",1]', rb'["x-\ud800",1]'],
)  # fmt: skip
def test_a_lone_surrogate_in_the_frame_itself_closes_with_4500(frame: bytes) -> None:
    server = Bare(codec_named("json"), "accepting")
    assert rejected(lambda: server.endpoint.receive(b"[" + frame + b"]")) == 4500


@pytest.mark.rule("VALUE-2", "VALUE-4")
@pytest.mark.parametrize("depth", [100, 101, 499])
def test_deep_nesting_does_not_spoil_the_batch(server: Bare, depth: int) -> None:
    codec = server.codec
    value = nested(codec, depth - 1)
    args = b'{"a":' + value + b"}" if codec.text else b"\x81\xa1a" + value
    events = server.endpoint.receive(codec.join([splice(codec, ["call", 1, "A.b", ...], args)]))
    raw = only(events, CallReceived).call.args
    if depth == 100:
        codec.load_value(raw)
    else:
        with pytest.raises(ValueError, match="Nested"):
            codec.load_value(raw)


@pytest.mark.rule("VALUE-2")
def test_nesting_without_end_closes_with_4500(server: Bare) -> None:
    codec = server.codec
    for value in (nested(codec, 100_000), b"[" * 100_000 if codec.text else b"\x91" * 100_000):
        for frame in (["call", 1, "A.b", ...], ["x-a", ...], ["result", 1, ...]):
            data = codec.join([splice(codec, frame, value)])
            assert rejected(lambda data=data: server.endpoint.receive(data)) == 4500  # type: ignore[misc]


# ---------------------------------------------------------------- helpers


def codec_named(name: str) -> Codec:
    from wsrpc.protocol.codec import codec_for

    return codec_for(name)


def nested(codec: Codec, depth: int) -> bytes:
    return b"[" * depth + b"]" * depth if codec.text else b"\x91" * (depth - 1) + b"\x90"


def begin(client: Bare) -> OutCall:
    """A call of the endpoint's, numbered and written."""
    call = client.endpoint.call("Hello.greet", client.dump({}))
    client.hear()
    return call


def error(code: str) -> Any:
    from wsrpc.protocol.frames import ErrorBody

    return ErrorBody(code, "")


@pytest.mark.rule("VALUE-1")
def test_msgspec_agrees_that_the_spoiled_values_are_spoiled(codec: Codec) -> None:
    for value in spoiled(codec):
        with pytest.raises(ValueError):
            codec.load_value(msgspec.Raw(value))
