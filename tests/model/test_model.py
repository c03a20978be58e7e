"""The model of numbering, acks, replay and resume holds, and planted errors are found."""

from __future__ import annotations

import pytest

from .check import PLANTED, SMALL, check, missing

needs_spin = pytest.mark.skipif(
    bool(missing()),
    reason=f"no {' and '.join(missing())}: apt-get install spin gcc; the model was NOT checked",
)


@needs_spin
@pytest.mark.rule("NUM-1", "NUM-3", "ACK-3", "RESUME-3", "RESUME-4", "RESUME-5", "RESUME-6")
def test_each_frame_is_taken_once_and_in_order_and_nobody_waits_for_ever() -> None:
    found = check(SMALL)
    assert found.error == ""
    assert found.complete
    assert found.states > 10_000


@needs_spin
@pytest.mark.slow
@pytest.mark.parametrize("planted", PLANTED)
def test_the_checker_finds_errors_that_are_planted(planted: str) -> None:
    assert check(SMALL, planted).error
