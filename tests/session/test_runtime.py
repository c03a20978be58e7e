"""The seam between the package and the event loop, where the other tests cannot reach."""

from __future__ import annotations

import time
from functools import partial

import anyio
import pytest

import wsrpc
from tests.support import pair, until
from wsrpc.runtime import current
from wsrpc.runtime.timers import Timers


class Cleans:
    def __init__(self) -> None:
        self.begun = 0
        self.cleaned = 0

    @wsrpc.method
    async def wait(self) -> None:
        self.begun += 1
        try:
            await anyio.sleep_forever()
        finally:
            for _ in range(3):
                await anyio.sleep(0.001)
            self.cleaned += 1


@pytest.mark.rule("TIME-1", "CANCEL-3")
async def test_a_loop_that_was_held_up_when_a_deadline_passed_does_not_disturb_the_cleanup() -> (
    None
):
    cleans = Cleans()
    async with pair([cleans]) as (_, client):
        for _ in range(10):
            begun = cleans.begun
            with anyio.move_on_after(0.02):
                async with anyio.create_task_group() as group:
                    group.start_soon(client.clientize(Cleans).wait)
                    await until(lambda: cleans.begun > begun)  # noqa: B023
                    time.sleep(0.05)  # noqa: ASYNC251  (it is the hold-up)
        await until(lambda: cleans.cleaned == cleans.begun)
        assert cleans.begun > 0


async def test_of_many_timers_those_that_were_not_removed_still_fire() -> None:
    runtime = current()
    nursery = await runtime.open_nursery()
    timers = Timers(runtime, nursery)
    fired: list[int] = []
    try:
        now = runtime.now()
        entries = [timers.add(now + 0.01, partial(fired.append, n)) for n in range(200)]
        # More than half of them: the heap is built anew.
        for entry in entries[:150]:
            timers.remove(entry)
        await until(lambda: len(fired) == 50)
        assert fired == list(range(150, 200))
    finally:
        timers.close()
        await nursery.close()
