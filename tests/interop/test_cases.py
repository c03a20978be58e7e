"""The driver's cases against the service, both in this process, over a real socket."""

from __future__ import annotations

import re

import pytest

from tests.support import Codec
from wsrpc import Limits
from wsrpc.interop.case import Case
from wsrpc.interop.client import ALL_CASES, try_case
from wsrpc.interop.frame_cases import wire_cases
from wsrpc.interop.service import interop_server
from wsrpc.transport.registry import Transport

TOKEN = "open sesame"


CODECS: list[Codec] = ["json", "msgpack"]
FITTING = [(codec, case) for codec in CODECS for case in ALL_CASES.fitting(codec, TOKEN)]


def title(given: Codec | Case) -> str:
    return given.title if isinstance(given, Case) else given


@pytest.mark.parametrize(("codec", "case"), FITTING, ids=title)
async def test_the_service_passes_every_case(codec: Codec, case: Case) -> None:
    """ACK-3, BATCH-1, BATCH-2, BATCH-3, BATCH-4, BATCH-5, BATCH-6, CALL-1, CALL-2, CALL-3, CALL-4,
    CALL-5, CALL-6, CALL-7, CALL-8, CANCEL-2, CANCEL-3, CANCEL-4, CANCEL-5, CB-1, CB-3, CB-4,
    CHUNK-1, CHUNK-2, CHUNK-3, CHUNK-4, CHUNK-5, CHUNK-6, CHUNK-7, CLOSE-4, CLOSE-5, CREDIT-1, CREDIT-2, CREDIT-3, CREDIT-4, CREDIT-5, CREDIT-6,
    CREDIT-7, END-2, ERROR-2, ERROR-3, ERROR-4, ERROR-5, ERROR-7, EXT-1, HELLO-1, HELLO-2,
    HELLO-3, HELLO-4, HELLO-5, HELLO-6, HELLO-7, HELLO-10, ID-1, ID-2, ID-3, ID-4, ID-5, ID-6,
    INTEROP-1, INTEROP-2, LINK-1, LINK-2, MSG-1, MSG-2, NOTIFY-1, NOTIFY-2, NOTIFY-3, PING-1,
    REFLECT-1, RESULT-1, RESUME-2, RETRY-3, SLOT-1, SLOT-2, SLOT-3, SLOT-4, TIME-1, TIME-2, TIME-3,
    TIME-5, TIME-6, UP-1, UP-2, UP-3, UP-5, VALUE-1, VALUE-2, VALUE-4, VALUE-5, VALUE-6,
    VALUE-7.
    """
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


def test_the_rules_named_above_are_those_of_the_cases() -> None:
    named = re.findall(r"[A-Z]+-\d+", test_the_service_passes_every_case.__doc__ or "")
    assert named == in_order({rule for case in ALL_CASES for rule in case.rules})


def in_order(rules: set[str]) -> list[str]:
    def key(rule: str) -> tuple[str, int]:
        name, number = rule.split("-")
        return name, int(number)

    return sorted(rules, key=key)


def test_every_case_has_a_title_of_its_own() -> None:
    titles = [case.title for case in ALL_CASES]
    assert all(titles)
    assert len(set(titles)) == len(titles)
