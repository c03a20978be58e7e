"""Both encodings: frames to bytes and back, and the space of values."""

from __future__ import annotations

import base64
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from wsrpc.protocol.codec import CODECS, Codec, codec_for
from wsrpc.protocol.frames import (
    Ack,
    Call,
    CallOptions,
    Cancel,
    Credit,
    End,
    Error,
    ErrorBody,
    Extension,
    Hello,
    HelloBody,
    Message,
    Notify,
    Ping,
    Pong,
    Result,
)

from .harness import decode, encode, plain


def frames(codec: Codec) -> list[tuple[Any, list[Any]]]:
    """One of each, and what it is on the wire."""
    one = Raw(codec.dump(1))
    empty = Raw(codec.dump({}))
    return [
        (Hello(HelloBody(version=1, window=0)), ["hello", {"version": 1, "window": 0}]),
        (Ack(5), ["ack", 5]),
        (Ping(0), ["ping", 0]),
        (Pong(2**53 - 1), ["pong", 2**53 - 1]),
        (Call(1, "A.b", empty), ["call", 1, "A.b", {}]),
        (Call(1, 3, Raw(codec.dump([1]))), ["call", 1, 3, [1]]),
        (Call(1, "A.b", empty, CallOptions(timeout=0, credit=0, uploads={"a": 3})),
         ["call", 1, "A.b", {}, {"timeout": 0, "credit": 0, "uploads": {"a": 3}}]),
        (Notify(1, "A.b", empty), ["notify", 1, "A.b", {}]),
        (Message(1, [one, one]), ["message", 1, [1, 1]]),
        (Result(1, Raw(codec.dump(None))), ["result", 1, None]),
        (End(1), ["end", 1]),
        (End(1, [one]), ["end", 1, [1]]),
        (Error(1, ErrorBody("aborted", "")), ["error", 1, {"code": "aborted", "message": ""}]),
        (Error(1, ErrorBody("aborted", "", one, not_started=True)),
         ["error", 1, {"code": "aborted", "message": "", "data": 1, "not_started": True}]),
        (Cancel(1, "cancelled"), ["cancel", 1, "cancelled"]),
        (Credit(1, 7), ["credit", 1, 7]),
    ]  # fmt: skip


def test_frames_are_written_and_read_as_their_tables_say(codec: Codec) -> None:
    for frame, wire in frames(codec):
        data = codec.encode(frame)
        assert plain(decode(codec, data)) == wire
        for batch in (codec.join([data]), encode(codec, [wire])):
            [back] = codec.decode(batch)
            # What is taken has a place for the size of a value that follows in chunks.
            again = decode(codec, codec.encode(back))  # type: ignore[arg-type]
            assert again[: len(wire)] == wire
            assert not any(again[len(wire) :])


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 65_535, 65_536])
def test_a_batch_of_any_length_is_read_back(codec: Codec, n: int) -> None:
    parts = [codec.encode(Credit(1, i + 1)) for i in range(n)]
    back = codec.decode(codec.join(parts))
    assert [frame.n for frame in back if isinstance(frame, Credit)] == list(range(1, n + 1))


@pytest.mark.parametrize("n", [1, 2, 15, 16, 70_000])
@pytest.mark.parametrize("id", [1, 127, 128, 2**16, 2**32, 2**53 - 1])
def test_items_are_written_as_the_message_frame_would(codec: Codec, id: int, n: int) -> None:
    items = [codec.dump(i) for i in range(n)]
    data = codec.message(id, items)
    assert data == codec.encode(Message(id, list(map(Raw, items))))


@pytest.mark.rule("EXT-1")
def test_extensions_keep_their_place_among_other_frames(codec: Codec) -> None:
    batch = encode(codec, [["x-a"], ["ack", 1], ["x-b", {"ack": [1]}], ["ack", 2], ["x-", None]])
    kinds = [type(frame) for frame in codec.decode(batch)]
    assert kinds == [Extension, Ack, Extension, Ack, Extension]


def test_an_array_is_split_into_what_it_holds(codec: Codec) -> None:
    parts = codec.split_array(encode(codec, [1, "x", [2], {}, None]))
    assert [decode(codec, part) for part in parts] == [1, "x", [2], {}, None]
    assert codec.split_array(encode(codec, [])) == []
    with pytest.raises(ValueError):
        codec.split_array(encode(codec, {"a": 1}))


def test_a_codec_is_found_by_its_name() -> None:
    assert codec_for("json").subprotocol == "wsrpc.v1.json"
    assert codec_for("msgpack").subprotocol == "wsrpc.v1.msgpack"
    with pytest.raises(ValueError, match="must be 'json' or 'msgpack', not 'xml'"):
        codec_for("xml")


# ---------------------------------------------------------------- lone surrogates in JSON


@pytest.mark.rule("VALUE-1", "VALUE-4")
@pytest.mark.parametrize(
    ("text", "fine"),
    [(rb"\ud83d\ude00", True), (rb"\uD83D\uDE00", True), (rb"\\ud800", True), (rb"\\\\udc00", True),
     (rb"\u0041", True), (rb"\ud800", False), (rb"\udfff", False), (rb"x\udc00y", False),
     (rb"\ud800\ud800", False), (rb"\ud800\ud83d\ude00", False), (rb"\ud83d\ude00\ude00", False),
     (rb"\\\ud800", False), (rb"\ud800A", False), (rb"\ud800\n", False)],
)  # fmt: skip
def test_only_lone_surrogates_spoil_a_value_and_only_their_own(text: bytes, fine: bool) -> None:
    codec = codec_for("json")
    first, second = codec.decode(b'[["result",1,{"a":"' + text + b'"}],["result",3,"\\u00fc"]]')
    assert isinstance(first, Result)
    assert isinstance(second, Result)
    assert codec.load_value(second.value) == "ü"
    if fine:
        assert codec.load_value(first.value) == msgspec.json.decode(b'{"a":"' + text + b'"}')
    else:
        with pytest.raises(ValueError):
            codec.load_value(first.value)


@pytest.mark.rule("VALUE-4")
@given(st.lists(st.sampled_from(["\\", "\\\\", "\\n", "\\ud800", "\\udc00", "\\ud83d\\ude00", "u",
                                 "d800", "x", "\\u0041", "ü"])))  # fmt: skip
def test_the_second_look_agrees_with_python_about_escapes(pieces: list[str]) -> None:
    import json

    codec = codec_for("json")
    text = '"' + "".join(pieces) + '"'
    try:
        expected = json.loads(text)
    except ValueError:
        return
    [frame] = codec.decode(b'[["result",1,' + text.encode() + b"]]")
    assert isinstance(frame, Result)
    try:
        expected.encode()
    except UnicodeEncodeError:
        with pytest.raises(ValueError):
            codec.load_value(frame.value)
    else:
        assert codec.load_value(frame.value) == expected


# ---------------------------------------------------------------- values


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if depth % 2 else {"a": value}
    return value


INSIDE = [None, True, False, 0, -1, -(2**63), 2**64 - 1, 0.5, -1e308, 5e-324, "", "ü\U0001f600\x00",
          [], {}, [[]], {"": {"a": [None]}}, nested(100), nested(99)]  # fmt: skip
OUTSIDE = [2**64, -(2**63) - 1, math.nan, math.inf, -math.inf, "\ud800", "x\udfff", {1: 2},
           {None: 1}, {"\ud800": 1}, nested(101), nested(400), {1, 2}, object(), 1j, (1, 2),
           {"a": [{"b": math.nan}]}]  # fmt: skip


@pytest.mark.rule("VALUE-1", "VALUE-2")
@pytest.mark.parametrize("value", INSIDE, ids=lambda value: repr(value)[:20])
def test_values_come_back_as_they_went(codec: Codec, value: Any) -> None:
    assert codec.load_value(codec.dump_value(value)) == value


@pytest.mark.rule("VALUE-3", "VALUE-1", "VALUE-2")
@pytest.mark.parametrize("value", OUTSIDE, ids=lambda value: ascii(value)[:20])
def test_what_is_outside_the_value_space_is_not_sent(codec: Codec, value: Any) -> None:
    with pytest.raises(ValueError):
        codec.dump_value(value)


@pytest.mark.rule("VALUE-1", "VALUE-2")
@pytest.mark.parametrize(
    "data",
    [b"1e999", b"-1e999", b"18446744073709551616", b"-9223372036854775809", rb'"\ud800"',
     b'"\xff"', b"NaN", b"1 2", b"{1:2}", b"9" * 5000, b"[" * 101 + b"]" * 101],
    ids=lambda data: ascii(data)[:20],
)  # fmt: skip
def test_json_outside_the_value_space_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        codec_for("json").load_value(data)


@pytest.mark.rule("VALUE-1", "VALUE-2")
@pytest.mark.parametrize(
    "data",
    [b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", b"\xca\x7f\xc0\x00\x00", b"\xa1\xff",
     b"\xd4\x01\x00", b"\xd6\xff\x00\x00\x00\x00", b"\xd7\xff" + bytes(8), b"\xc7\x0c\xff" + bytes(12),
     b"\xc7\x00\x05", b"\x81\x01\x02", b"\x81\xc4\x01a\x02", b"\x81\xc0\x02", b"\x81\x90\x02",
     b"\x91" * 101 + b"\x01", b"\xc1", b"\x01\x01"],
    ids=lambda data: ascii(data)[:20],
)  # fmt: skip
def test_messagepack_outside_the_value_space_is_refused(data: bytes) -> None:
    codec = codec_for("msgpack")
    with pytest.raises(ValueError):
        codec.load_value(data)
    with pytest.raises(ValueError):
        codec.load_value(codec.dump({"a": 1})[:3] + data)


@pytest.mark.rule("VALUE-1")
def test_a_messagepack_timestamp_is_no_value_even_for_the_quick_load() -> None:
    codec = codec_for("msgpack")
    for form in (b"\xd6\xff", b"\xd7\xff" + bytes(4), b"\xc7\x0c\xff" + bytes(8)):
        with pytest.raises(ValueError, match="timestamp"):
            codec.load(b"\x81\xa1a\x91" + form + bytes(4))
    assert codec.load(codec.dump(b"\xd6\xff\x00\x00\x00\x00")) == b"\xd6\xff\x00\x00\x00\x00"


@pytest.mark.rule("VALUE-5")
def test_bytes_travel_as_base64url_in_json_and_natively_in_messagepack() -> None:
    for data in (b"", b"\xfb\xff", b"\xff\xff\xff", bytes(range(256))):
        value = {"a": [data]}
        text = msgspec.json.decode(codec_for("json").dump_value(value))["a"][0]
        assert text == base64.urlsafe_b64encode(data).decode()
        assert len(text) % 4 == 0
        codec = codec_for("msgpack")
        assert codec.load_value(codec.dump_value(value)) == value


def test_an_absent_value_is_null(codec: Codec) -> None:
    assert codec.load_value(b"") is None
    assert codec.load_value(codec.null) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)  # fmt: skip


@pytest.mark.rule("VALUE-6")
@given(VALUES)
def test_any_value_means_the_same_in_both_codecs(value: Any) -> None:
    for codec in CODECS.values():
        assert codec.load_value(codec.dump_value(value)) == value


@pytest.mark.rule("VALUE-8")
def test_keys_that_are_special_elsewhere_and_integers_of_64_bits_arrive_as_they_are(
    codec: Codec,
) -> None:
    """What other receivers may take as their library does."""
    value = {"__proto__": {"constructor": 1}, "constructor": 2, "n": [2**64 - 1, -(2**63), 1.0]}
    loaded = codec.load_value(codec.dump_value(value))
    assert loaded == value
    assert [type(n) for n in loaded["n"]] == [int, int, float]
