"""A few thousand tampered messages; `make fuzz` has a million."""

from __future__ import annotations

from random import Random

import pytest

from tests.support import soon
from wsrpc.protocol.codec import CODECS

from .conversation import conversation
from .coverage import one_input
from .live import live
from .mutate import Mutator
from .run import Tally, run


@pytest.mark.rule("BATCH-1", "BATCH-3", "ID-5")
@pytest.mark.parametrize("seed", range(4))
def test_tampered_messages_are_taken_or_closed_upon_in_little_time(seed: int) -> None:
    tally = Tally()
    run(1_000_000 + seed, 1000, tally)
    assert tally.mutations == 1000
    assert {0, 4500, 4505} <= set(tally.codes)


def test_the_same_seed_tampers_in_the_same_way() -> None:
    made: list[list[bytes]] = []
    for _ in range(2):
        codec, random = CODECS["json"], Random(7)
        mutator = Mutator(codec, [data for _, data, _ in conversation(codec)])
        made.append([mutator.tampered(n % 16, random) for n in range(500)])
    assert made[0] == made[1]


@pytest.mark.rule("BATCH-1", "BATCH-3", "CLOSE-5")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_live_server_is_afterwards_as_it_was() -> None:
    with soon():
        assert await live(1, 400, say=False)


def test_the_harness_for_longer_runs_takes_any_bytes() -> None:
    random = Random(1)
    for _ in range(300):
        one_input(random.randbytes(random.randrange(60)))
    for codec in (0, 1):
        for step in range(16):
            one_input(bytes([codec, step]) + b'[["ping",1]]')
