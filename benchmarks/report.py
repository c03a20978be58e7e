"""From samples to figures, and from figures to Markdown tables and JSON."""

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

from benchmarks.harness import Outcome, Sample
from benchmarks.marks import Result, results
from benchmarks.peers import BASELINE, PEERS
from benchmarks.works import WORKS

BUSY = 0.05
"""From this median share of foreign CPU time on, the report advises to measure again."""


@dataclass(frozen=True)
class Figures:
    """One peer at one work, over all repetitions.

    Rates are operations a second, CPU is microseconds an operation. The ratios compare with the
    baseline of the same repetition and are None without one; above 1 is better than the baseline
    for both: ``rate_ratio`` is this rate / its rate, ``cpu_ratio`` its CPU / this CPU. ``extras``
    are medians of the further figures of the work; see `works` and `Sample.extras`.
    """

    work: str
    peer: str
    repetitions: int
    rate: float
    rate_min: float
    rate_max: float
    client_cpu_us: float
    server_cpu_us: float
    rate_ratio: float | None
    rate_ratio_min: float | None
    rate_ratio_max: float | None
    cpu_ratio: float | None
    extras: dict[str, float]


def figures(samples: Sequence[Sample]) -> list[Figures]:
    """Medians of the samples, work by work and peer by peer, in the order of the lists."""
    return [
        _figures(own, [s for s in samples if s.work == against and s.peer == BASELINE])
        for work, against in ((name, work.against or name) for name, work in WORKS.items())
        for peer in PEERS
        if (own := [s for s in samples if s.work == work and s.peer == peer])
    ]


def _figures(own: list[Sample], baseline: list[Sample]) -> Figures:
    base = {sample.repetition: sample for sample in baseline}
    pairs = [(s, base[s.repetition]) for s in own if s.repetition in base]
    rates = [sample.rate for sample in own]
    ratios = [sample.rate / other.rate for sample, other in pairs]
    cpu_ratios = [other.cpu / sample.cpu for sample, other in pairs]
    names = dict.fromkeys(name for sample in own for name in sample.extras)
    return Figures(
        work=own[0].work,
        peer=own[0].peer,
        repetitions=len(own),
        rate=median(rates),
        rate_min=min(rates),
        rate_max=max(rates),
        client_cpu_us=median(s.client_cpu / s.operations for s in own) * 1e6,
        server_cpu_us=median(s.server_cpu / s.operations for s in own) * 1e6,
        rate_ratio=median(ratios) if ratios else None,
        rate_ratio_min=min(ratios, default=None),
        rate_ratio_max=max(ratios, default=None),
        cpu_ratio=median(cpu_ratios) if cpu_ratios else None,
        extras={name: median(s.extras[name] for s in own if name in s.extras) for name in names},
    )


def machine(peers: Sequence[str]) -> dict[str, Any]:
    """The machine and the versions with which the figures were measured."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "versions": {
            name: _version(name)
            for name in dict.fromkeys(name for peer in peers for name in PEERS[peer].distributions)
        },
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def markdown(outcome: Outcome, repetitions: int, seconds: float) -> str:
    """The whole report: the marks, a table of ratios, one of figures for each work."""
    found = figures(outcome.samples)
    peers = [peer for peer in PEERS if any(f.peer == peer for f in found)]
    parts = [_head(outcome, peers, repetitions, seconds)]
    if reached := results(outcome.samples):
        parts.append(_marks(reached))
    if BASELINE in peers and len(peers) > 1:
        parts.append(_ratios(found, peers))
    for name, work in WORKS.items():
        rows = [f for f in found if f.work == name]
        if rows:
            parts.append(f"{work.title} ({name}), {work.unit}\n\n{_details(rows)}")
    notes = [f"{peer}: cannot run: {why}" for peer, why in outcome.unavailable.items()] + [
        f"{f.peer}: repetition {f.repetition + 1}, {f.work or 'start'}: failed: {f.reason}"
        for f in outcome.failures
    ]
    if notes:
        parts.append("\n".join(notes))
    return "\n\n".join(parts)


def as_json(outcome: Outcome, repetitions: int, factor: float) -> dict[str, Any]:
    """Everything, samples included, for a program to read. Field names as in the classes."""
    return {
        "machine": machine(list(PEERS)),
        "repetitions": repetitions,
        "factor": factor,
        "marks": [asdict(result) for result in results(outcome.samples)],
        "figures": [asdict(f) for f in figures(outcome.samples)],
        "samples": [asdict(sample) for sample in outcome.samples],
        "failures": [asdict(failure) for failure in outcome.failures],
        "unavailable": outcome.unavailable,
    }


def _head(outcome: Outcome, peers: list[str], repetitions: int, seconds: float) -> str:
    about = machine(peers)
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    lines = [
        f"{about['python']}, {about['system']}, {about['cpus']} CPUs; {versions}",
        f"{repetitions} repetitions, medians; {seconds:.0f} s in all",
    ]
    if outcome.samples:
        foreign = median(sample.foreign for sample in outcome.samples)
        advice = "; repeat on a quiet machine" if foreign >= BUSY else ""
        lines.append(f"other processes used {foreign:.0%} of the machine's CPU time{advice}")
    width = max(map(len, peers), default=0)
    lines += ["", *(f"{peer.ljust(width)}  {PEERS[peer].about}" for peer in peers)]
    return "\n".join(lines)


def _marks(reached: Sequence[Result]) -> str:
    def most(value: float | None, low: bool) -> str:
        return "" if value is None else f"{'≤ ' * low}{_plain(value)}"

    rows = [
        [
            result.title,
            f"{_plain(result.measured)} ({_plain(result.measured_min)}–{_plain(result.measured_max)})",
            result.unit,
            most(result.at_least, result.low),
            most(result.aim, result.low),
            result.verdict,
        ]
        for result in reached
    ]
    below = sum(result.verdict == "below" for result in reached)
    title = f"The marks: median (min–max); {below} of {len(reached)} below the mark"
    header = ["work", "measured", "unit", "at least", "aim", "verdict"]
    return f"{title}\n\n{_table(header, rows)}"


def _ratios(found: list[Figures], peers: list[str]) -> str:
    """Peers down and works across, those works that the baseline does too."""
    cells = {(f.work, f.peer): f for f in found if f.rate_ratio is not None and f.work != "idle"}
    works = list(dict.fromkeys(work for work, _ in cells))
    rows = [[peer, *(_ratio(cells.get((work, peer))) for work in works)] for peer in peers]
    title = f"Ratios to {BASELINE}: rate / CPU per operation (inverted); above 1 is better"
    return f"{title}\n\n{_table(['peer', *works], rows)}"


def _ratio(cell: Figures | None) -> str:
    if cell is None or cell.rate_ratio is None or cell.cpu_ratio is None:
        return "–"
    return f"{cell.rate_ratio:.2f} / {cell.cpu_ratio:.2f}"


_EXTRAS: dict[str, tuple[str, Callable[[float], str]]] = {
    "fairness": ("fairness", lambda value: _plain(value)),
    "memory": ("server KiB", lambda value: f"{value / 1024:,.1f}"),
    "p50": ("p50 ms", lambda value: f"{value * 1e3:,.2f}"),
    "p99": ("p99 ms", lambda value: f"{value * 1e3:,.2f}"),
    "mib_s": ("MiB/s", lambda value: f"{value:,.0f}"),
}
"""The column of each extra and how its figure is written."""


def _details(rows: list[Figures]) -> str:
    header = ["peer", "rate/s", "min–max", "client µs", "server µs", "rate ×", "min–max", "CPU ×"]
    extras = [name for name in _EXTRAS if any(name in row.extras for row in rows)]
    return _table(
        header + [_EXTRAS[name][0] for name in extras],
        [
            [
                row.peer,
                _rate(row.rate),
                f"{_rate(row.rate_min)}–{_rate(row.rate_max)}",
                f"{row.client_cpu_us:,.1f}",
                f"{row.server_cpu_us:,.1f}",
                _plain(row.rate_ratio),
                f"{_plain(row.rate_ratio_min)}–{_plain(row.rate_ratio_max)}",
                _plain(row.cpu_ratio),
                *(
                    _EXTRAS[name][1](row.extras[name]) if name in row.extras else "–"
                    for name in extras
                ),
            ]
            for row in rows
        ],
    )


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table that is aligned as plain text too: first column left, the others right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: list[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join([first, *rest])} |"

    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(header), line(rule), *map(line, rows)])
