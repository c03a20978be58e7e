"""The marks that the project set itself: for each figure the least that will do, and the aim."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.harness import Sample
from benchmarks.peers import BASELINE

Repetition = Mapping[tuple[str, str], Sample]
"""The samples of one repetition by peer and work."""


@dataclass(frozen=True)
class Mark:
    """One figure, and the project's expectation.

    Attributes:
        title: The work.
        unit: The kind of figure.
        figure: The figure of one repetition; a KeyError when something it needs was not measured.
        at_least: The least, or where ``low`` the most, that will do.
        aim: A better value; None where none was set.
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


PURE, COMPILED = "wsrpc", "wsrpc_compiled"

_CALLS = "64 outstanding calls"
_SEQUENTIAL = "sequential calls"
_STREAM = "one stream of small models"


def _own(
    peer: str, *, sequential: float, outstanding: float, yielding: float, many: float
) -> list[Mark]:
    """The marks of one build, those aside that compare it with others than the baseline.

    Args:
        peer: The build.
        sequential: The least for sequential calls.
        outstanding: The least for 64 calls at a time.
        yielding: The least for streams that yield.
        many: The least for 10,000 streams.
    """
    suffix = ", compiled" if peer == COMPILED else ""

    def cpu(title: str, work: str, at_least: float, aim: float) -> Mark:
        figure = _cpu((peer, work), (BASELINE, work))
        return Mark(f"{title}, CPU{suffix}", "× raw", figure, at_least, aim)

    def rate(title: str, work: str, at_least: float, aim: float) -> Mark:
        figure = _rates((peer, work), (BASELINE, work))
        return Mark(f"{title}{suffix}", "× raw", figure, at_least, aim)

    return [
        cpu(_SEQUENTIAL, "sequential", sequential, 0.95),
        cpu(_CALLS, "outstanding", outstanding, 1.8),
        rate(_STREAM, "stream", 4.5, 8),
        rate("100 streams", "streams", 4, 8),
        rate("upload", "upload", 5, 8),
        rate("100 streams that yield to the loop at every item", "yielding", yielding, 3),
        Mark(
            f"10,000 open streams on one socket, total rate{suffix}",
            "× 100 open",
            _rates((peer, "open_10000"), (peer, "open_100")),
            many,
            1.0,
        ),
        Mark(
            f"p99 of a small call while 64 MiB values flow both ways{suffix}",
            "× idle p99",
            _extras("p99", (peer, "busy"), (peer, "calm")),
            6,
            2,
            low=True,
        ),
        Mark(
            f"idle session, server memory{suffix}",
            "× raw",
            _extras("memory", (peer, "idle"), (BASELINE, "idle")),
            1.2,
            1.05,
            low=True,
        ),
    ]


MARKS = (
    *_own(PURE, sequential=0.75, outstanding=1.1, yielding=1.5, many=0.8),
    *_own(COMPILED, sequential=0.85, outstanding=1.32, yielding=1.7, many=0.85),
    Mark(_CALLS, "× grpc.aio", _rates((PURE, "outstanding"), ("grpc", "outstanding")), 8, 12),
    Mark(_STREAM, "× connectrpc", _rates((PURE, "stream"), ("connectrpc", "stream")), 1),
    Mark(_STREAM, "× JSON lines", _rates((PURE, "stream"), ("jsonlines", "stream")), 1),
    Mark("100 streams", "first/last", _extra("fairness", (PURE, "streams")), 0.95, 0.98),
    Mark("1 MiB text echo", "× raw", _rates((PURE, "text"), (BASELINE, "text")), 0.8, 1.0),
    Mark(
        "1 MiB bytes echo in MessagePack",
        "× raw",
        _rates((PURE, "bytes"), (BASELINE, "bytes")),
        1.5,
        2.5,
    ),
    Mark(
        f"with picows: {_SEQUENTIAL}",
        "× wsrpc",
        _rates(("wsrpc_picows", "sequential"), (PURE, "sequential")),
        1.1,
        1.15,
    ),
    Mark(
        f"{_SEQUENTIAL} on uvloop",
        "× raw on uvloop",
        _rates(("wsrpc_uvloop", "sequential"), ("raw_uvloop", "sequential")),
        0.7,
        1.0,
    ),
    Mark(
        f"{_SEQUENTIAL} on uvloop, compiled",
        "× raw on uvloop",
        _rates(("wsrpc_uvloop_compiled", "sequential"), ("raw_uvloop", "sequential")),
        0.85,
        1.0,
    ),
    Mark(
        "one stream, results not validated",
        "× raw",
        _rates((PURE, "unvalidated"), (BASELINE, "stream")),
        5,
        8,
    ),
)


def results(samples: Sequence[Sample]) -> list[Result]:
    """The figure of each mark; marks without a measurement are left out."""
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
