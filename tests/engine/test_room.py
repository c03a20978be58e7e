"""Senders that wait for room in the outbox."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import anyio

from tests.support import pair, until, wire_of
from wsrpc.close_codes import CloseCode
from wsrpc.engine.hub import PORTION

SENDERS = 10 * PORTION


def waiting(block: Callable[[Callable[[], None]], None]) -> list[int]:
    """Senders that wait for room; returns the list of those that were woken, in their order."""
    woken: list[int] = []
    for number in range(SENDERS):
        block(partial(woken.append, number))
    return woken


async def test_senders_that_wait_for_room_are_woken_a_few_at_a_time_and_in_their_order() -> None:
    async with pair() as (server, _):
        hub = wire_of(server).hub
        woken = waiting(hub.block)
        hub.took()
        assert woken == list(range(PORTION)), "the outbox may be full again after these"
        with anyio.fail_after(5):
            await until(lambda: len(woken) == SENDERS)
        assert woken == list(range(SENDERS))


async def test_all_senders_that_wait_for_room_are_woken_at_once_when_the_session_is_lost() -> None:
    async with pair() as (server, _):
        hub = wire_of(server).hub
        woken = waiting(hub.block)
        hub.took()
        wire_of(server).lose(CloseCode.NORMAL, "")
        assert len(woken) == SENDERS
