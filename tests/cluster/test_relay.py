"""Calls over two nodes: as over one socket, in every respect that the interop cases look at."""

from __future__ import annotations

import pytest

from tests.cluster.gateway import gateway
from tests.support import Codec
from tests.telemetry.test_one_ending import Ledger
from wsrpc.interop.call_cases import cases as call_cases
from wsrpc.interop.case import Case
from wsrpc.interop.client import ALL_CASES, try_case

CODECS: list[Codec] = ["json", "msgpack"]

# Which call another one belongs to is known within one session only, and so is how deep calls are
# nested; and only the target knows its methods, so that a call goes to it with its arguments.
NO_PARENT = "`parent` does not cross nodes"
NOT_OVER_NODES = {
    "a handler that calls back while all the caller's slots are taken fails at once": NO_PARENT,
    "the server calls back on even ids, with the parent and no more time than it has": NO_PARENT,
    "nested calls the caller's nested with one less, and adds one": NO_PARENT,
    "a conversation: S calls C while it handles a call": NO_PARENT,
    "an impossible call is refused without waiting for its arguments, and the link lives": (
        "the target sees a call when its arguments are there"
    ),
}

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
    if case not in call_cases and case.title not in NOT_OVER_NODES
]


def title(given: Codec | Case) -> str:
    return given.title if isinstance(given, Case) else given


@pytest.mark.parametrize(("codec", "case"), FITTING + FRAMES, ids=title)
async def test_the_whole_interop_suite_passes_through_the_relay(codec: Codec, case: Case) -> None:
    # A case loses patience by itself: a scope around it would be one more deadline that travels.
    ledger = Ledger()
    async with gateway(observers=[ledger]) as url:
        assert await try_case(case, url, codec, None) is None
    # Where calls are passed on, each is told once, with one ending.
    assert ledger.open() == []
    ledger.assert_one_ending_each()


def test_the_cases_that_are_left_out_are_there() -> None:
    assert {case.title for case in ALL_CASES} >= set(NOT_OVER_NODES)
