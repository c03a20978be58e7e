"""Uploads of a recording, sent again as credit allows: no loop, no link."""

from __future__ import annotations

import pytest
from msgspec import Raw

from wsrpc.protocol.codec import CODECS, Codec
from wsrpc.testing.replayed_uploads import ReplayedUploads

codecs = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


def items(codec: Codec, *values: int) -> list[Raw]:
    return [Raw(codec.dump(value)) for value in values]


def loaded(codec: Codec, frames: list[bytes]) -> list[object]:
    return [codec.load(frame) for frame in frames]


@codecs
def test_items_wait_for_credit_and_go_out_in_their_order(codec: Codec) -> None:
    uploads = ReplayedUploads(codec)
    uploads.begin(1, {"items": 2}, window=2)
    uploads.add(2, items(codec, 10, 11, 12), [])
    assert loaded(codec, uploads.due()) == [["message", 2, [10, 11]]]
    uploads.add(2, items(codec, 13), [])
    uploads.finish(2, codec.dump(["end", 2]))
    assert uploads.due() == []
    assert uploads.waiting
    uploads.take(["credit", 2, 5])
    assert loaded(codec, uploads.due()) == [["message", 2, [12]], ["message", 2, [13]], ["end", 2]]
    assert not uploads.waiting


@codecs
def test_an_upload_without_credit_holds_up_no_other(codec: Codec) -> None:
    uploads = ReplayedUploads(codec)
    uploads.begin(1, {"a": 2, "b": 4}, window=1)
    uploads.add(2, items(codec, 1, 2), [])
    uploads.add(4, items(codec, 3), [])
    assert loaded(codec, uploads.due()) == [["message", 2, [1]], ["message", 4, [3]]]


@codecs
def test_after_the_servers_cancel_only_the_end_goes_out(codec: Codec) -> None:
    uploads = ReplayedUploads(codec)
    uploads.begin(1, {"items": 2}, window=1)
    uploads.add(2, items(codec, 1, 2, 3), [])
    uploads.finish(2, codec.dump(["end", 2]))
    assert loaded(codec, uploads.due()) == [["message", 2, [1]]]
    uploads.take(["cancel", 2])
    assert loaded(codec, uploads.due()) == [["end", 2]]


@codecs
def test_nothing_waits_for_credit_of_a_call_that_is_answered(codec: Codec) -> None:
    uploads = ReplayedUploads(codec)
    uploads.begin(1, {"items": 2}, window=0)
    uploads.add(2, items(codec, 1), [])
    assert uploads.waiting
    uploads.end_of_call(1)
    assert not uploads.waiting
    assert uploads.due() == []


@codecs
def test_the_window_of_a_hello_that_comes_later_counts_for_open_uploads(codec: Codec) -> None:
    uploads = ReplayedUploads(codec)
    uploads.begin(1, {"items": 2}, window=0)
    uploads.add(2, items(codec, 1), [])
    assert uploads.due() == []
    uploads.grant_all(1)
    assert loaded(codec, uploads.due()) == [["message", 2, [1]]]
