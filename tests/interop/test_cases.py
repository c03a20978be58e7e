"""The driver's cases against the service, both in this process, over a real socket."""

from __future__ import annotations

import pytest

from tests.support import Codec
from tests.test_rules import rules
from wsrpc import Limits
from wsrpc.interop.case import Case
from wsrpc.interop.client import ALL_CASES, try_case
from wsrpc.interop.frame_cases import wire_cases
from wsrpc.interop.service import interop_server
from wsrpc.transport.registry import Transport

TOKEN = "open sesame"


CODECS: list[Codec] = ["json", "msgpack"]
# Each case proves the rules that it names, and its test is marked with them.
FITTING = [
    pytest.param(codec, case, marks=pytest.mark.rule(*case.rules))
    for codec in CODECS
    for case in ALL_CASES.fitting(codec, TOKEN)
]


def title(given: Codec | Case) -> str:
    return given.title if isinstance(given, Case) else given


@pytest.mark.parametrize(("codec", "case"), FITTING, ids=title)
async def test_the_service_passes_every_case(codec: Codec, case: Case) -> None:
    # A case loses patience by itself: a scope around it would be one more deadline that travels.
    async with interop_server(auth_token=TOKEN).listen() as listener:
        assert await try_case(case, listener.url, codec, TOKEN) is None


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("codec", CODECS)
async def test_every_case_holds_where_one_end_is_on_picows(
    codec: Codec, transport: Transport
) -> None:
    """The connecting end is on `transport`, the accepting one on the other."""
    other: Transport = "websockets" if transport == "picows" else "picows"
    async with interop_server(auth_token=TOKEN).listen(transport=other) as listener:
        failed = {
            case.title: why
            for case in ALL_CASES.fitting(codec, TOKEN)
            if (why := await try_case(case, listener.url, codec, TOKEN)) is not None
        }
    assert failed == {}


@pytest.mark.slow
async def test_the_service_passes_with_the_smallest_limits() -> None:
    limits = Limits(max_calls=8, max_batch=65_536, window=1, window_bytes=1, outbox=1)
    async with interop_server(limits=limits).listen() as listener:
        failed = {
            case.title: why
            for case in wire_cases.fitting("json", None)
            if (why := await try_case(case, listener.url, "json", None)) is not None
        }
    assert failed == {}


def test_the_rules_that_cases_name_exist() -> None:
    known = set.union(*rules())
    assert {rule for case in ALL_CASES for rule in case.rules} <= known


def test_every_case_has_a_title_of_its_own() -> None:
    titles = [case.title for case in ALL_CASES]
    assert all(titles)
    assert len(set(titles)) == len(titles)
