"""The programs of `make soak` in small: processes that are killed, frozen, stopped and cut off.

Times are told and not judged here: a machine that runs tests may be busy.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import pytest

from wsrpc.cluster.bus.embedded import nats_server_path
from wsrpc.transport.registry import Transport

from .soak import cleanups, cluster, drained, floods, frozen, herd, killed, moved


@pytest.fixture
def anyio_backend() -> str:
    # What they count of themselves is asyncio's; it is their children that are tested.
    return "asyncio"


async def all_pass(*shows: Callable[[], Awaitable[bool]]) -> None:
    """Run them at the same time."""
    passed: list[bool] = []

    async def run(show: Callable[[], Awaitable[bool]]) -> None:
        passed.append(await show())

    with anyio.fail_after(120):
        async with anyio.create_task_group() as group:
            for show in shows:
                group.start_soon(run, show)
    assert all(passed)


@pytest.mark.rule("CLOSE-4", "RETRY-3", "RESUME-9")
@pytest.mark.slow
async def test_a_server_that_is_killed() -> None:
    await all_pass(
        partial(killed.killed, clients=3, items=30, timed=False),
        partial(killed.gone, clients=3, window=1.0, timed=False),
    )


@pytest.mark.rule("HEART-2", "RESUME-2", "RESUME-4")
@pytest.mark.slow
async def test_clients_that_are_frozen() -> None:
    await all_pass(
        partial(frozen.freeze, "soon", clients=2, window=10.0, seed=1, timed=False),
        partial(frozen.freeze, "detached", clients=2, window=10.0, seed=1, timed=False),
        partial(frozen.freeze, "gone", clients=2, window=0.5, seed=1, timed=False),
    )


@pytest.mark.rule("DRAIN-1", "DRAIN-3")
@pytest.mark.slow
async def test_a_server_that_is_stopped() -> None:
    await all_pass(
        partial(drained.drained, clients=1, idle=3, grace=3.0, timed=False),
        partial(drained.stubborn, grace=0.2, cleanup_timeout=1.0, timed=False),
    )


@pytest.mark.rule("RETRY-2")
@pytest.mark.slow
async def test_clients_that_are_all_dropped_at_once() -> None:
    await all_pass(partial(herd.herd, clients=20, processes=2, timed=False))


@pytest.mark.slow
@pytest.mark.rule("CLOSE-5", "HEART-2", "RESUME-8")
async def test_streams_whose_callers_are_gone_in_one_way_or_another() -> None:
    await all_pass(*(partial(cleanups.ended_by, end, 20, 1, timed=False) for end in cleanups.ENDS))


@pytest.mark.rule("CALM-1", "CALM-2", "CALM-3", "CALM-4", "HELLO-9", "SLOT-4")
@pytest.mark.slow
async def test_floods_beside_a_client_who_behaves(transport: Transport) -> None:
    await all_pass(
        partial(floods.floods, scale=0.02, hello_timeout=0.5, transport=transport, timed=False)
    )


@pytest.mark.slow
@pytest.mark.nats
@pytest.mark.skipif(nats_server_path() is None, reason="there is no nats-server here")
async def test_a_cluster_in_which_everything_breaks() -> None:
    await all_pass(partial(cluster.cluster, clients=20, seconds=20.0, seed=1, timed=False))


@pytest.mark.rule("DRAIN-3")
@pytest.mark.slow
@pytest.mark.skipif(nats_server_path() is None, reason="there is no nats-server here")
async def test_one_of_two_nodes_that_drains_under_load() -> None:
    await all_pass(partial(moved.moved, clients=20, timed=False))
