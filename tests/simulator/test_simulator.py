"""A hundred seeds, and a few hundred with `--full`; `make soak` runs 10,000."""

from __future__ import annotations

import pytest

from tests.support import full_only

from .run import simulate, verdict
from .world import World

EACH = 25


@pytest.mark.rule(
    "NUM-3", "ACK-2", "RESUME-1", "RESUME-9", "DRAIN-1", "DRAIN-3", "GOAWAY-2", "HEART-2", "CLOSE-4"
)
@pytest.mark.parametrize("first", [*range(0, 100, EACH), *full_only(*range(100, 300, EACH))])
def test_nothing_is_lost_twice_late_or_left(first: int) -> None:
    """To RESUME-9, DRAIN-1 to DRAIN-3, GOAWAY-2, HEART-2, CLOSE-4."""
    said = [verdict(seed) for seed in range(first, first + EACH)]
    assert not any(said), "\n\n".join(one for one in said if one)


def test_a_seed_replays_exactly() -> None:
    transcripts: list[list[str]] = [[], []]
    for lines in transcripts:
        simulate(7, lines)
    assert transcripts[0] == transcripts[1]
    assert len(transcripts[0]) > 100


def test_a_failing_seed_is_told_with_what_led_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    run = World.run

    def fail(world: World, until: float) -> None:
        run(world, 20.0)
        raise AssertionError("planted")

    monkeypatch.setattr(World, "run", fail)
    said = verdict(7)
    assert said is not None
    assert "planted" in said
    assert "--seed 7" in said
    assert "opens link 1" in said
