"""Histograms of durations, whose buckets grow with the durations, in bounded memory."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Histogram", "Row", "bar", "duration"]

# A bucket is at most 1/128 of its durations wide, so a quantile is right within 0.8 %.
FINE = 7
# Nanoseconds, over an hour. Longer durations are counted in the last bucket; `max` tells the
# longest.
LONGEST = 2**42 - 1

# Where rows of a drawing may begin in each decade, the finest first.
GRIDS: Sequence[Sequence[float]] = (
    (
        *(1, 1.1, 1.2, 1.3, 1.5, 1.6, 1.8, 2, 2.2, 2.4, 2.7, 3),
        *(3.3, 3.6, 3.9, 4.3, 4.7, 5.1, 5.6, 6.2, 6.8, 7.5, 8.2, 9.1),
    ),
    (1, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 3.9, 4.7, 5.6, 6.8, 8.2),
    (1, 1.5, 2.2, 3.3, 4.7, 6.8),
    (1, 2, 5),
    (1,),
)
# The powers of ten at which decades begin, in nanoseconds; shorter durations share one row.
DECADES = range(1, 13)
END = 10**13

EIGHTHS = " ▏▎▍▌▋▊▉"
FULL = "█"


@dataclass(frozen=True, slots=True)
class Row:
    """The number of durations between two bounds.

    Attributes:
        begin: Nanoseconds of the shortest duration in it.
        end: Nanoseconds at which the next row begins.
        count: Durations.
    """

    begin: int
    end: int
    count: int


class Histogram:
    """Durations in nanoseconds.

    Attributes:
        count: Durations recorded.
        total: Nanoseconds of all durations together.
        min: Nanoseconds; 0 while there is none.
        max: Nanoseconds; 0 while there is none.
    """

    __slots__ = ("_counts", "count", "max", "min", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.min = 0
        self.max = 0
        self._counts = [0] * (_bucket(LONGEST) + 1)

    @property
    def mean(self) -> float:
        """Nanoseconds; 0 while there is none."""
        return self.total / self.count if self.count else 0.0

    def record(self, duration: int) -> None:
        """Count one duration."""
        if duration > self.max:
            self.max = duration
        if duration < self.min or not self.count:
            self.min = duration
        self.count += 1
        self.total += duration
        self._counts[_bucket(min(duration, LONGEST))] += 1

    def quantile(self, q: float) -> int:
        """Nanoseconds that a share `q` of the durations did not exceed; 0 while there is none."""
        # It is rounded first: 0.07 * 100 is a little more than 7.
        rank = max(1, math.ceil(round(q * self.count, 6)))
        for bucket, seen in self._cumulated():
            if seen >= rank:
                # The longest duration of the last used bucket is known.
                return self.max if seen == self.count else _begin(bucket + 1) - 1
        return 0

    def _cumulated(self) -> Iterator[tuple[int, int]]:
        seen = 0
        for bucket, count in enumerate(self._counts):
            if count:
                seen += count
                yield bucket, seen

    def rows(self, most: int) -> list[Row]:
        """The durations in logarithmic steps, as fine as `most` rows allow; gaps included."""
        if not self.count:
            return []
        found: list[Row] = []
        for grid in GRIDS:
            found = self._rows([round(step * 10**n) for n in DECADES for step in grid])
            if len(found) <= most:
                break
        return found

    def _rows(self, edges: Sequence[int]) -> list[Row]:
        counts = [0] * (len(edges) + 1)
        for bucket, count in enumerate(self._counts):
            if count:
                counts[bisect_right(edges, _begin(bucket))] += count
        used = [index for index, count in enumerate(counts) if count]
        bounds = [0, *edges, END]
        return [
            Row(bounds[index], bounds[index + 1], counts[index])
            for index in range(used[0], used[-1] + 1)
        ]


def _bucket(duration: int) -> int:
    """The index of a duration's bucket."""
    shift = max(duration.bit_length() - FINE - 1, 0)
    return (shift << FINE) + (duration >> shift)


def _begin(bucket: int) -> int:
    """Nanoseconds; the least duration of a bucket."""
    shift = max((bucket >> FINE) - 1, 0)
    return (bucket - (shift << FINE)) << shift


def bar(share: float, width: int) -> str:
    """A bar for a share of 0 to 1; any share above 0 is visible."""
    eighths = max(round(share * width * 8), 1 if share > 0 else 0)
    full, rest = divmod(eighths, 8)
    return FULL * full + (EIGHTHS[rest] if rest else "")


def duration(nanoseconds: float) -> str:
    """A duration in three digits at most: `870 ns`, `4.91 ms`, `2.2 ms`, `61 s`."""
    for unit, size in (("ns", 1), ("µs", 1e3), ("ms", 1e6)):
        # A number that rounds up to 1,000 of a unit reads better as 1 of the next.
        if nanoseconds / size < 999.5:
            return f"{nanoseconds / size:.3g} {unit}"
    seconds = nanoseconds / 1e9
    return f"{seconds:.3g} s" if seconds < 999.5 else f"{seconds:,.0f} s"
