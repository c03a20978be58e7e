"""Fifty viewers of the same prices: the quick, the slow and the late end with the same chart."""

from __future__ import annotations

import anyio
import pytest

import wsrpc
from examples.dashboard import market as markets
from examples.dashboard import viewers
from examples.dashboard.market import Market
from tests.support import served, soon


async def test_fifty_viewers_see_the_same_prices_the_slow_and_the_late_included(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with anyio.fail_after(60):
        *quick, slow, late = await viewers.main(count=100, period=0.005)
    assert len(quick) == 48
    assert len(slow.chart) == 100
    for viewer in [*quick, late]:
        assert viewer.chart == slow.chart
    assert slow.items < max(viewer.items for viewer in quick)
    assert late.began_with >= 50
    drawn = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in drawn] == ["quick", "slow", "late"]
    # Their charts are the same line.
    assert len({line.split()[1] for line in drawn}) == 1


async def test_a_viewer_that_sleeps_makes_the_server_hold_nothing_for_it() -> None:
    market = Market()
    async with served([market]) as listener, wsrpc.connect(listener.url) as session:
        async with session.clientize(Market, window=1).watch() as stream:
            with soon():
                async with anyio.create_task_group() as group:
                    group.start_soon(market.run, 0, 20)
                    await anext(stream)
                await market.run(0, 5_000)
                assert listener.server.snapshot().outbox_bytes < 10_000
                last = 0
                async for prices in stream:
                    last = prices.first + len(prices.cents) - 1
                    assert len(prices.cents) <= markets.KEPT
            assert last == 5_000


def test_a_chart_of_one_line_shows_the_lowest_and_the_highest() -> None:
    assert viewers.bars([]) == ""
    assert viewers.bars([1, 2, 8]) == "▁▂█"
    assert viewers.bars([5, 5]) == "▁▁"
    assert len(viewers.bars(list(range(1000)))) == viewers.WIDTH
