"""Large bytes in MessagePack: kept apart from the rest of their value, out and in."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrpc.protocol.codec import CODECS
from wsrpc.protocol.splice import LARGE, Gathering, Spliced, Splicing, spliced

CODEC = CODECS["msgpack"]
PIECE = 64 * 1024

small = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20),
    max_leaves=20,
)
blobs = st.integers(LARGE - 2, 3 * LARGE).map(lambda n: bytes(range(256)) * (n // 256 + 1))


def gathered(data: bytes, gathering: type[Gathering] = Splicing) -> Any:
    whole = gathering(len(data))
    for start in range(0, len(data), PIECE):
        whole.add(memoryview(data)[start : start + PIECE])
    return whole.value()


@given(st.lists(small | blobs, max_size=4) | st.dictionaries(st.text(), small | blobs, max_size=20))
def test_a_value_in_pieces_is_the_same_value(value: Any) -> None:
    data = msgspec.msgpack.encode(value)
    whole = gathered(data)
    assert len(whole) == len(data)
    assert bytes(whole) == data
    assert msgspec.msgpack.encode(CODEC.load(whole)) == data


@given(st.dictionaries(st.text(), small | blobs, max_size=70))
def test_an_object_with_large_bytes_is_encoded_as_it_would_be_whole(value: dict[str, Any]) -> None:
    data = CODEC.dump_plain(value)
    assert bytes(data) == msgspec.msgpack.encode(value)
    assert len(data) == len(bytes(data))


@pytest.mark.parametrize("count", [15, 16, 65_535, 65_536])
def test_objects_of_any_size_keep_their_count(count: int) -> None:
    value = {f"{i}": None for i in range(count - 1)} | {"blob": bytes(LARGE)}
    assert bytes(spliced(value) or b"") == msgspec.msgpack.encode(value)


def test_large_bytes_are_not_copied_out_of_the_user_s() -> None:
    blob = bytes(LARGE)
    alone, member = spliced(blob), spliced({"a": 1, "blob": blob, "b": 2})
    assert alone is not None
    assert member is not None
    assert alone.blob is member.blob is blob


def test_large_bytes_are_handed_over_as_they_were_put_together() -> None:
    whole = gathered(msgspec.msgpack.encode({"a": 1, "blob": bytes(3 * LARGE), "b": [2]}))
    assert type(whole) is Spliced
    assert CODEC.load(whole)["blob"] is whole.blob


def test_any_part_of_the_encoding_can_be_cut_out() -> None:
    value = {"a": 1, "blob": bytes(range(256)) * 256, "b": [2]}
    data, whole = msgspec.msgpack.encode(value), spliced(value)
    assert whole is not None
    for start in (0, 1, 10, 15, 100, len(data) - 6, len(data) - 1):
        for end in (start, start + 1, start + 9, len(data) - 3, len(data)):
            assert b"".join(whole.cut(start, end)) == data[start:end]


def test_bytes_below_the_mark_travel_as_ever() -> None:
    assert spliced(bytes(LARGE - 1)) is None
    assert spliced({"blob": bytes(LARGE - 1)}) is None
    assert type(gathered(msgspec.msgpack.encode(bytes(LARGE - 1)))) is bytes


def test_a_long_list_before_large_bytes_is_not_searched_to_its_end() -> None:
    whole = gathered(msgspec.msgpack.encode([*range(100), bytes(LARGE)]))
    assert type(whole) is bytes
    assert CODEC.load(whole)[-1] == bytes(LARGE)


@pytest.mark.parametrize(
    "extension",
    [b"\xd4\x01\x00", b"\xd4\x05\x00", b"\xd6\xff\x00\x00\x00\x00", b"\xc7\x01\x01\x00"],
)
@pytest.mark.parametrize("order", ["before", "behind"])
def test_extension_types_are_refused_beside_large_bytes_as_anywhere(
    extension: bytes, order: str
) -> None:
    blob = msgspec.msgpack.encode(bytes(LARGE))
    parts = (extension, blob) if order == "before" else (blob, extension)
    whole = gathered(b"\x92" + b"".join(parts))
    with pytest.raises((ValueError, msgspec.DecodeError)):
        CODEC.load(whole)


def test_bytes_that_claim_to_be_longer_than_their_value_are_no_value() -> None:
    whole = gathered(b"\xc6" + (2 * LARGE).to_bytes(4, "big") + bytes(LARGE))
    with pytest.raises(msgspec.DecodeError):
        CODEC.load(whole)


def test_bytes_without_the_end_of_what_holds_them_are_no_value() -> None:
    whole = gathered(b"\x92" + msgspec.msgpack.encode(bytes(LARGE)))
    with pytest.raises(msgspec.DecodeError):
        CODEC.load(whole)


def test_room_is_made_for_what_has_come_rather_than_for_what_was_announced() -> None:
    whole = Gathering(2**62)
    whole.add(bytes(PIECE))
    with pytest.raises(MemoryError):
        for _ in range(100):
            whole.add(bytes(PIECE))


def test_text_in_pieces_is_joined() -> None:
    data = msgspec.json.encode("ab" * 500_000)
    assert gathered(data, Gathering) == data
