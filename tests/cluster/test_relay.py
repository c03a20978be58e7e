"""Calls over two nodes: as over one socket, in every respect that the interop cases look at."""

from __future__ import annotations

import pytest

from tests.cluster.gateway import gateway
from tests.support import Codec
from tests.telemetry.test_one_ending import Ledger
from wsrpc.cluster import ClusterLimits
from wsrpc.interop.call_cases import cases as call_cases
from wsrpc.interop.case import Case
from wsrpc.interop.client import ALL_CASES, try_case

CODECS: list[Codec] = ["json", "msgpack"]

# A call back through the relay is a call of another session. There `parent` would name a call of
# that session's own (CALL-9's table: the id of the call that the caller is handling), and SLOT-3 and
# DRAIN-2 speak of calls of one session: so the relay drops it, and these cases see to it. A ring of
# calls over nodes ends by deadlines, and a call that finds no slot by `slot_timeout`.
RING = "a handler that calls back while all the caller's slots are taken fails at once"

FITTING = [
    pytest.param(codec, case)
    for codec in CODECS
    for case in ALL_CASES.fitting(codec, None)
    if case in call_cases
]
FRAMES = [
    pytest.param(codec, case, marks=pytest.mark.slow)
    for codec in CODECS
    for case in ALL_CASES.fitting(codec, None)
    if case not in call_cases
]


def title(given: Codec | Case) -> str:
    return given.title if isinstance(given, Case) else given


@pytest.mark.parametrize(("codec", "case"), FITTING + FRAMES, ids=title)
async def test_the_whole_interop_suite_passes_through_the_relay(codec: Codec, case: Case) -> None:
    # A case loses patience by itself: a scope around it would be one more deadline that travels.
    ledger = Ledger()
    limits = ClusterLimits(slot_timeout=0.3) if case.title == RING else None
    async with gateway(observers=[ledger], cluster_limits=limits) as url:
        assert await try_case(case, url, codec, None, one_session=False) is None
    # Where calls are passed on, each is told once, with one ending.
    assert ledger.open() == []
    ledger.assert_one_ending_each()


def test_the_case_with_a_ring_of_calls_is_there() -> None:
    assert RING in {case.title for case in ALL_CASES}
