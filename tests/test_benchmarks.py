"""The benchmarks: what they make of samples, and that the two peers without extras do all works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from benchmarks import data
from benchmarks.harness import Failure, Outcome, Run, Sample
from benchmarks.marks import MARKS, Mark, results
from benchmarks.peers import BASELINE, PEERS, Entry
from benchmarks.report import as_json, figures, markdown
from benchmarks.works import WORKS, verify


def sample(peer: str, work: str, rate: float, repetition: int = 0, **extras: float) -> Sample:
    """One second of work at that rate, 1 µs an operation at either end."""
    return Sample(
        repetition=repetition,
        work=work,
        peer=peer,
        operations=int(rate),
        seconds=1.0,
        client_cpu=rate * 1e-6,
        server_cpu=rate * 1e-6,
        extras=extras,
        foreign=0.0,
    )


class Wanted(dict[tuple[str, str], Sample]):
    """A repetition in which nothing was measured, and which notes what it is asked for."""

    def __init__(self) -> None:
        self.keys_wanted: list[tuple[str, str]] = []

    def __missing__(self, key: tuple[str, str]) -> Sample:
        self.keys_wanted.append(key)
        return sample(*key, rate=1000, fairness=1.0, memory=1.0, p99=1.0)


def test_every_mark_compares_peers_and_works_that_there_are() -> None:
    wanted = Wanted()
    for mark in MARKS:
        assert mark.figure(wanted) == pytest.approx(1.0)
    assert {peer for peer, _ in wanted.keys_wanted} <= set(PEERS)
    assert {work for _, work in wanted.keys_wanted} <= set(WORKS)


def test_a_verdict_says_how_far_a_figure_got() -> None:
    more = Mark("", "", lambda _: 0.0, at_least=2, aim=3)
    assert [more.verdict(value) for value in (1.9, 2, 2.9, 3)] == ["below", "met", "met", "aim"]
    less = Mark("", "", lambda _: 0.0, at_least=10, aim=3, low=True)
    assert [less.verdict(value) for value in (11, 10, 3.1, 3)] == ["below", "met", "met", "aim"]
    assert replace(more, aim=None).verdict(1000) == "met"


def test_ratios_are_taken_within_a_repetition() -> None:
    """A machine that is ten times as fast in one repetition leaves no trace in the ratio."""
    samples = [
        sample(peer, "stream", rate * speed, repetition)
        for repetition, speed in enumerate((1, 10, 2))
        for peer, rate in ((BASELINE, 1000), ("wsrpc", 5000))
    ]
    reached = {(result.title, result.unit): result for result in results(samples)}
    stream = reached["one stream of small models", "× raw"]
    assert (stream.measured_min, stream.measured, stream.measured_max) == (5, 5, 5)
    assert stream.verdict == "met"
    (raw, wsrpc) = figures(samples)
    assert (raw.rate_ratio, wsrpc.rate_ratio_min, wsrpc.rate_ratio_max) == (1, 5, 5)
    assert (wsrpc.rate, wsrpc.rate_min, wsrpc.rate_max) == (10000, 5000, 50000)


def test_a_mark_for_which_nothing_was_measured_is_left_out() -> None:
    assert results([sample("wsrpc", "stream", 1000)]) == []


def test_a_work_can_be_compared_with_another_of_the_baseline() -> None:
    samples = [sample(BASELINE, "stream", 1000), sample("wsrpc", "unvalidated", 6000)]
    assert figures(samples)[1].rate_ratio == 6
    assert [result.measured for result in results(samples)] == [6]


def test_the_report_names_what_is_below_its_mark_and_who_failed() -> None:
    samples = [
        sample(BASELINE, "idle", 100, memory=20_000),
        sample("wsrpc", "idle", 100, memory=40_000),
        sample("wsrpc", "calm", 500, p50=0.001, p99=0.002),
    ]
    failures = [Failure(2, "busy", "wsrpc", "it broke")]
    outcome = Outcome(samples, failures, {"grpc": "No module named 'grpc'"})
    text = markdown(outcome, 1, 2.0)
    assert "1 of 1 below the mark" in text
    (row,) = [line for line in text.splitlines() if "server memory" in line]
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        "idle session, server memory",
        "2.00 (2.00–2.00)",
        "× raw",
        "≤ 1.20",
        "≤ 1.05",
        "below",
    ]
    assert "grpc: cannot run: No module named 'grpc'" in text
    assert "wsrpc: repetition 3, busy: failed: it broke" in text
    assert as_json(outcome, 1, 1.0)["marks"][0]["verdict"] == "below"


def test_a_part_of_a_work_is_whole_steps_and_never_nothing() -> None:
    streams = WORKS["streams"]
    assert streams.scaled(1e-9) == streams.step
    for work in WORKS.values():
        assert work.count % work.step == 0
        assert work.scaled(0.1) % work.step == 0


class Fake:
    """A client that answers itself, without what is optional."""

    def point(self, number: int) -> dict[str, Any]:
        return data.point(number)

    async def echo(self, point: Any) -> Any:
        return point


async def test_a_client_is_asked_only_for_what_it_offers() -> None:
    await verify(Fake())


async def test_a_client_that_answers_wrongly_is_refused() -> None:
    class Forgetful(Fake):
        async def items(self, n: int) -> AsyncIterator[Any]:
            for number in range(n - 1):
                yield self.point(number)

    class Garbling(Fake):
        async def text(self, value: str) -> str:
            return value[:-1] + "?"

    for client in (Forgetful(), Garbling()):
        with pytest.raises(AssertionError, match=r"expected .*, got"):
            await verify(client)


@pytest.mark.slow
def test_the_peers_do_their_works_and_one_that_cannot_run_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Real processes, a few operations each; not the works that take seconds however small."""
    monkeypatch.setitem(PEERS, "missing", Entry("nothing", ()))
    slow = {"idle", "open_100", "open_10000", "calm", "busy"}
    works = [work for work in WORKS.values() if work.name not in slow]
    run = Run([BASELINE, "wsrpc", "missing"], works, 1, 0.001, lambda _: None)
    outcome = asyncio.run(run.all())
    assert outcome.failures == []
    assert list(outcome.unavailable) == ["missing"]
    done = {(found.peer, found.work) for found in outcome.samples}
    both = {work.name for work in works}
    assert done == {
        *((BASELINE, name) for name in both - {"unvalidated"}),
        *(("wsrpc", name) for name in both),
    }
    assert all(found.client_cpu > 0 and found.server_cpu > 0 for found in outcome.samples)
