"""What the project set itself to reach: for each figure the least that will do, and the aim."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.harness import Sample
from benchmarks.peers import BASELINE

Repetition = Mapping[tuple[str, str], Sample]
"""The samples of one repetition by peer and work."""


@dataclass(frozen=True)
class Mark:
    """One figure, and what is expected of it.

    Attributes:
        title: The work.
        unit: What the figure is.
        figure: The figure of one repetition; a KeyError when something it needs was not measured.
        at_least: The least, or where ``low`` the most, that will do.
        aim: What would be better; None where nothing was set.
        low: Whether less is better.
    """

    title: str
    unit: str
    figure: Callable[[Repetition], float]
    at_least: float
    aim: float | None = None
    low: bool = False

    def verdict(self, value: float) -> str:
        """One word on a figure."""
        if self.aim is not None and self._reaches(value, self.aim):
            return "aim"
        return "met" if self._reaches(value, self.at_least) else "below"

    def _reaches(self, value: float, mark: float) -> bool:
        return value <= mark if self.low else value >= mark


@dataclass(frozen=True)
class Result:
    """A mark's figure over all repetitions in which it could be told: median and spread."""

    title: str
    unit: str
    measured: float
    measured_min: float
    measured_max: float
    at_least: float
    aim: float | None
    low: bool
    verdict: str


Key = tuple[str, str]
"""A peer and a work."""


def _rates(own: Key, other: Key) -> Callable[[Repetition], float]:
    return lambda samples: samples[own].rate / samples[other].rate


def _cpu(own: Key, other: Key) -> Callable[[Repetition], float]:
    return lambda samples: samples[other].cpu / samples[own].cpu


def _extra(name: str, own: Key) -> Callable[[Repetition], float]:
    return lambda samples: samples[own].extras[name]


def _extras(name: str, own: Key, other: Key) -> Callable[[Repetition], float]:
    return lambda samples: samples[own].extras[name] / samples[other].extras[name]


def _to_raw(title: str, work: str, at_least: float, aim: float) -> Mark:
    """The rate of wsrpc at a work, compared with that of the baseline."""
    return Mark(title, "× raw", _rates(("wsrpc", work), (BASELINE, work)), at_least, aim)


_CALLS = "64 outstanding calls"
_STREAM = "one stream of small models"

MARKS = (
    _to_raw("sequential calls", "sequential", 0.80, 0.90),
    _to_raw(_CALLS, "outstanding", 1.25, 1.6),
    Mark(
        f"{_CALLS}, CPU",
        "× raw",
        _cpu(("wsrpc", "outstanding"), (BASELINE, "outstanding")),
        2.0,
    ),
    Mark(_CALLS, "× grpc.aio", _rates(("wsrpc", "outstanding"), ("grpc", "outstanding")), 8, 12),
    _to_raw(_STREAM, "stream", 2.6, 4),
    Mark(_STREAM, "× connectrpc", _rates(("wsrpc", "stream"), ("connectrpc", "stream")), 1),
    Mark(_STREAM, "× JSON lines", _rates(("wsrpc", "stream"), ("jsonlines", "stream")), 1),
    _to_raw("100 streams", "streams", 3.0, 5),
    Mark("100 streams", "first/last", _extra("fairness", ("wsrpc", "streams")), 0.95, 0.98),
    _to_raw("100 streams that yield to the loop at every item", "yielding", 1.5, 2.5),
    _to_raw("upload", "upload", 3.0, 4),
    _to_raw("1 MiB text echo", "text", 0.8, 1.0),
    _to_raw("1 MiB bytes echo in MessagePack", "bytes", 1.5, 2.5),
    Mark(
        "idle session, server memory",
        "× raw",
        _extras("memory", ("wsrpc", "idle"), (BASELINE, "idle")),
        1.3,
        1.05,
        low=True,
    ),
    Mark(
        "10,000 open streams on one socket, total rate",
        "× 100 open",
        _rates(("wsrpc", "open_10000"), ("wsrpc", "open_100")),
        0.8,
        0.95,
    ),
    Mark(
        "p99 of a small call while 64 MiB values flow both ways",
        "× idle p99",
        _extras("p99", ("wsrpc", "busy"), ("wsrpc", "calm")),
        10,
        3,
        low=True,
    ),
    Mark(
        f"with picows: {_CALLS}",
        "× wsrpc",
        _rates(("wsrpc_picows", "outstanding"), ("wsrpc", "outstanding")),
        1.5,
        2.5,
    ),
    Mark(
        "with picows: one stream",
        "× wsrpc",
        _rates(("wsrpc_picows", "stream"), ("wsrpc", "stream")),
        1.5,
        2.5,
    ),
    Mark(
        "one stream, results not validated",
        "× raw",
        _rates(("wsrpc", "unvalidated"), (BASELINE, "stream")),
        5,
        8,
    ),
)


def results(samples: Sequence[Sample]) -> list[Result]:
    """How far each mark was reached; those that nothing was measured for are left out."""
    repetitions: dict[int, dict[Key, Sample]] = {}
    for sample in samples:
        repetitions.setdefault(sample.repetition, {})[sample.peer, sample.work] = sample
    found = []
    for mark in MARKS:
        values = []
        for repetition in repetitions.values():
            try:
                values.append(mark.figure(repetition))
            except KeyError:
                continue
        if values:
            found.append(_result(mark, values))
    return found


def _result(mark: Mark, values: list[float]) -> Result:
    middle = median(values)
    return Result(
        title=mark.title,
        unit=mark.unit,
        measured=middle,
        measured_min=min(values),
        measured_max=max(values),
        at_least=mark.at_least,
        aim=mark.aim,
        low=mark.low,
        verdict=mark.verdict(middle),
    )
