"""The histogram of the bench, which needs no server."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from wsrpc.cli.bench.histogram import GRIDS, LONGEST, Histogram, bar, duration

MS = 1_000_000


def histogram(*durations: int) -> Histogram:
    made = Histogram()
    for one in durations:
        made.record(one)
    return made


@pytest.mark.parametrize("seed", range(5))
def test_quantiles_are_right_within_a_hundredth(seed: int) -> None:
    chance = random.Random(seed)
    durations = [round(chance.lognormvariate(14, 1 + seed / 2)) for _ in range(5000)]
    made = histogram(*durations)
    durations.sort()
    for q in (0.0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999):
        exact = durations[max(math.ceil(round(q * 5000, 6)), 1) - 1]
        assert exact <= made.quantile(q) <= max(exact * 1.008, exact + 1)
    assert made.quantile(1) == durations[-1]


def test_min_max_and_mean_are_exact() -> None:
    made = histogram(123_456_789, 1, 987_654_321)
    assert (made.count, made.min, made.max) == (3, 1, 987_654_321)
    assert made.mean == (123_456_789 + 1 + 987_654_321) / 3


def test_small_numbers_are_exact() -> None:
    made = histogram(*range(100))
    assert [made.quantile(n / 100) for n in range(1, 101)] == list(range(100))


def test_nothing_recorded() -> None:
    made = Histogram()
    assert (made.quantile(0.5), made.mean, made.rows(16)) == (0, 0, [])


def test_its_memory_does_not_depend_on_what_is_recorded() -> None:
    made = Histogram()
    buckets = len(made._counts)
    for exponent in range(80):
        made.record(2**exponent)
        made.record(2**exponent - 1)
    assert len(made._counts) == buckets < 5000
    assert made.max == 2**79
    assert made.quantile(1) == 2**79
    assert made.quantile(0.1) <= LONGEST


def test_every_duration_is_in_the_row_that_names_it() -> None:
    for one in (0, 5, 10, 999, 1000, 1001, 1_499_000, 15 * MS, 2**41):
        (row,) = histogram(one).rows(16)
        # A bucket may lie across the edge of a row; it counts where it begins.
        assert row.begin <= one < row.end * 1.008
        assert row.count == 1


@pytest.mark.parametrize("spread", [1.01, 1.5, 3, 10, 100, 10_000, 10**8])
def test_rows_are_as_fine_as_fits(spread: float) -> None:
    made = histogram(100, *(round(100 * spread ** (n / 500)) for n in range(501)))
    rows = made.rows(16)
    assert 1 <= len(rows) <= 16
    assert sum(row.count for row in rows) == made.count
    assert all(one.end == two.begin for one, two in pairwise(rows))
    assert (rows[0].count > 0, rows[-1].count > 0) == (True, True)
    if spread == 1.5:
        assert len(rows) >= 4


def test_gaps_are_rows_too() -> None:
    rows = histogram(1 * MS, 5 * MS).rows(16)
    assert [row.count for row in rows] == [1, *[0] * (len(rows) - 2), 1]
    assert len(rows) > 5


def test_the_grids_rise() -> None:
    for grid in GRIDS:
        edges = [*grid, 10]
        assert edges == sorted(set(edges))
        assert edges[0] == 1


@pytest.mark.parametrize(
    ("share", "drawn"),
    [(0, ""), (1, "████"), (0.5, "██"), (0.1, "▍"), (1e-9, "▏"), (0.99, "████"), (0.97, "███▉")],
)
def test_bars(share: float, drawn: str) -> None:
    assert bar(share, 4) == drawn


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0 ns"),
        (870, "870 ns"),
        (999.6, "1 µs"),
        (12_340, "12.3 µs"),
        (2_200_000, "2.2 ms"),
        (999_400_000, "999 ms"),
        (999_999_999, "1 s"),
        (61 * 10**9, "61 s"),
        (3_600 * 10**9, "3,600 s"),
    ],
)
def test_durations_as_text(nanoseconds: float, text: str) -> None:
    assert duration(nanoseconds) == text
