"""Reports of measurements: text for people, or JSON for programs."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from rich.text import Text

from ...version import AGENT
from ..output import Output
from .histogram import Histogram, bar, duration
from .works import Meter, Work

__all__ = ["Conditions", "JsonReport", "Report", "TextReport", "page"]

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}

# Columns of a page, and rows of a histogram.
COLUMNS = 80
ROWS = 16
BAR = 50


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of a measurement.

    Attributes:
        url: The server's address.
        server: The name and version that the server announces.
        codec: The codec of the messages.
        concurrency: Callers at a time.
    """

    url: str
    server: str
    codec: str
    concurrency: int


class Report(Protocol):
    """Takes results, one work after another."""

    def begin(self, conditions: Conditions) -> None:
        """Begin; nothing is written before there is a result."""

    async def add(self, work: Work, meter: Meter) -> None:
        """Add the result of a work that is through, or was interrupted."""

    async def finish(self, *, complete: bool) -> None:
        """End the report."""


class TextReport:
    """A page for each work, as soon as it is through."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._title = Text()

    def begin(self, conditions: Conditions) -> None:
        one = conditions
        self._title = Text(
            f"{one.url} ({one.server or 'unnamed'}), {one.codec}, {one.concurrency} at a time"
        )

    async def add(self, work: Work, meter: Meter) -> None:
        if self._title:
            await self._output.text(self._title)
            self._title = Text()
        for line in page(work, meter):
            await self._output.text(line)

    async def finish(self, *, complete: bool) -> None:
        """Do nothing: all results are written already."""


def page(work: Work, meter: Meter) -> Iterator[Text]:
    """The result of one work for people, at most 80 columns wide."""
    yield Text()
    yield Text.assemble((work.name, "bold"), f": {work.does}")
    took = duration(meter.seconds * 1e9)
    yield Text.assemble(
        f"  {meter.rate:,.0f} {work.unit}/s ", (f"({meter.units:,} in {took})", "dim")
    )
    latency = meter.latency
    if not latency.count:
        yield Text(f"  {work.latency}: none came to its end")
        return
    quantiles = [f"{name} {duration(latency.quantile(q))}" for name, q in QUANTILES.items()]
    yield Text(f"  {work.latency}: {'  '.join(quantiles)}  max {duration(latency.max)}")
    yield from _drawing(latency)


def _drawing(latency: Histogram) -> Iterator[Text]:
    rows = latency.rows(ROWS)
    most = max(row.count for row in rows)
    for row in rows:
        line = Text(f"  {duration(row.begin):>7} – {duration(row.end):<7}", "dim")
        if row.count:
            line.append(f" {bar(row.count / most, BAR):<{BAR}} ", "not dim cyan")
            line.append(f"{_percent(row.count / latency.count):>6}", "not dim")
        yield line


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "<0.1%"


class JsonReport:
    """One JSON document at the end, with times in seconds."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._document: dict[str, Any] = {}
        self._works: list[dict[str, Any]] = []

    def begin(self, conditions: Conditions) -> None:
        self._document = {
            "url": conditions.url,
            "server": conditions.server,
            "client": AGENT,
            "python": platform.python_version(),
            "codec": conditions.codec,
            "concurrency": conditions.concurrency,
        }

    async def add(self, work: Work, meter: Meter) -> None:
        latency = meter.latency
        self._works.append(
            {
                "work": work.name,
                "does": work.does,
                "unit": work.unit,
                "count": meter.units,
                "calls": meter.calls,
                "seconds": meter.seconds,
                "rate": meter.rate,
                "latency": {
                    "of": work.latency,
                    "count": latency.count,
                    "min": latency.min / 1e9,
                    "mean": latency.mean / 1e9,
                    **{name: latency.quantile(q) / 1e9 for name, q in QUANTILES.items()},
                    "max": latency.max / 1e9,
                },
                "histogram": [
                    {"from": row.begin / 1e9, "to": row.end / 1e9, "count": row.count}
                    for row in latency.rows(ROWS)
                ],
            }
        )

    async def finish(self, *, complete: bool) -> None:
        if self._works:
            await self._output.document(
                {**self._document, "complete": complete, "works": self._works}
            )
