"""A topic's history in memory, and what is encoded of it for readers; no event loop is needed."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from wsrpc.cluster.ring import Ring
from wsrpc.protocol.codec import CODECS
from wsrpc.values.tracked import Shared, TrackedAdapter

CODEC = CODECS["json"]
ADAPTER = TrackedAdapter(str, where="the items")


def ring(sizes: list[int]) -> Ring:
    """A history with items of these sizes."""
    made = Ring("e", 0, most=1000, most_bytes=2**20, charged=lambda change: None)
    for i, size in enumerate(sizes):
        made.add(Shared(str(i), "x" * size, ADAPTER), size)
    return made


def ids(packs: list[bytes]) -> list[str]:
    return [item[0] for pack in packs for item in msgspec.json.decode(b"[" + pack + b"]")]


@pytest.mark.parametrize("share", [100, 1024, 16_384])
def test_items_are_handed_over_in_packs_of_a_bounded_size(share: int) -> None:
    packs, count = ring([50] * 40).packs(CODEC, 3, 20, share)
    assert count == 20
    assert ids([*packs]) == [str(i) for i in range(3, 23)]
    assert max(map(len, packs)) <= share
    # Each is as full as it may be.
    for one, following in pairwise(packs):
        assert len(one) + 1 + len(following.split(b",[")[0]) > share


def test_a_pack_ends_before_an_item_that_goes_by_itself() -> None:
    packs, count = ring([50, 50, 2000, 50]).packs(CODEC, 0, 10, 1024)
    assert (ids([*packs]), count) == (["0", "1"], 2)
    assert ring([2000]).packs(CODEC, 0, 10, 1024) == ([], 0)


def test_no_more_than_16_kib_are_handed_over_at_a_time() -> None:
    packs, count = ring([1000] * 64).packs(CODEC, 0, 64, 1024)
    assert sum(map(len, packs)) <= 16_384
    assert count == len(ids([*packs])) == 16


def test_readers_at_one_place_share_the_packs() -> None:
    history = ring([50] * 40)
    history.packs(CODEC, 0, 20, 1024)
    second, _ = history.packs(CODEC, 0, 20, 1024)
    third, _ = history.packs(CODEC, 0, 20, 1024)
    assert third is second
    history.add(Shared("40", "x", ADAPTER), 1)
    later, _ = history.packs(CODEC, 0, 20, 1024)
    assert later is not second
