"""When a failed call is made again, decided without an event loop or a clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

import wsrpc
from wsrpc.backoff import Backoff
from wsrpc.calling.retry import FIRST, JITTER, LONGEST, Attempts, Budget, is_repeatable


def error(
    code: str = "unavailable", *, not_started: bool = False, retry_after: float | None = None
) -> wsrpc.RpcError[Any]:
    made: wsrpc.RpcError[Any] = wsrpc.RpcError(code)
    made.not_started = not_started
    made.retry_after = retry_after
    return made


def attempts(
    *,
    budget: Budget | None = None,
    most: int = 100,
    idempotent: bool = True,
    deadline: float | None = None,
    uniform: Callable[[], float] = lambda: 1.0,
) -> Attempts:
    return Attempts(
        budget or Budget(1000, 0.1),
        most=most,
        idempotent=idempotent,
        deadline=deadline,
        uniform=uniform,
    )


@pytest.mark.rule("RETRY-1")
@pytest.mark.parametrize("code", list(wsrpc.Code))
@pytest.mark.parametrize("not_started", [True, False])
@pytest.mark.parametrize("idempotent", [True, False])
def test_which_failures_are_worth_a_repeat(code: str, not_started: bool, idempotent: bool) -> None:
    worth = {
        ("unavailable", True, False),
        ("unavailable", True, True),
        ("unavailable", False, True),
        ("resource_exhausted", True, False),
        ("resource_exhausted", True, True),
    }
    failed = error(code, not_started=not_started)
    assert is_repeatable(failed, idempotent=idempotent) == (
        (code, not_started, idempotent) in worth
    )


@pytest.mark.rule("RETRY-1")
def test_delays_are_uniform_below_a_bound_that_doubles() -> None:
    bounds = [FIRST * 2**n for n in range(10)]
    tried = attempts()
    assert [tried.delay(error(), 0, 0) for _ in range(10)] == [min(one, LONGEST) for one in bounds]
    for seed in range(50):
        tried = attempts(uniform=Random(seed).random)
        for bound in bounds:
            delay = tried.delay(error(), 0, 0)
            assert delay is not None
            assert 0 <= delay <= min(bound, LONGEST)


@pytest.mark.rule("RETRY-1")
def test_a_delay_that_was_asked_for_is_kept_with_jitter_on_top() -> None:
    assert attempts().delay(error(retry_after=3), 0, 0) == 3 + JITTER
    assert attempts(uniform=lambda: 0.0).delay(error(retry_after=3), 0, 0) == 3


@pytest.mark.rule("RETRY-1")
def test_no_repeat_that_would_begin_after_the_deadline() -> None:
    tried = attempts(deadline=10.0)
    assert tried.delay(error(retry_after=5), 4.0, 0) == 5 + JITTER
    assert tried.delay(error(retry_after=5), 5.0, 0) is None
    assert tried.delay(error(not_started=True), 10.0, 0, moved=True) is None


@pytest.mark.rule("RETRY-1")
def test_so_many_attempts_and_no_more_until_the_stream_has_got_on() -> None:
    tried = attempts(most=3)
    assert [tried.delay(error(), 0, 0) for _ in range(3)] == [FIRST, 2 * FIRST, None]
    assert tried.made == 3
    tried.reset()
    assert tried.delay(error(), 0, 0) == FIRST


@pytest.mark.rule("RETRY-1")
def test_a_call_that_never_left_goes_over_to_the_next_session_at_once_and_free_of_charge() -> None:
    budget = Budget(0, 0)
    tried = attempts(budget=budget, most=1, idempotent=False)
    for _ in range(10):
        assert tried.delay(error(not_started=True), 0, 0, moved=True) == 0
    assert tried.delay(error(not_started=True), 0, 0) is None
    assert tried.delay(error(), 0, 0, moved=True) is None


@pytest.mark.rule("RETRY-1")
def test_a_call_that_may_have_run_once_is_not_said_to_be_not_started() -> None:
    tried = attempts(most=2)
    last = error(not_started=True)
    tried.delay(error(), 0, 0)
    assert tried.delay(last, 0, 0) is None
    assert not tried.concluded(last).not_started
    assert last.__notes__ == ["This was attempt 2; it is not repeated any more."]
    fresh = error(not_started=True)
    assert attempts().concluded(fresh).not_started


@pytest.mark.rule("RETRY-1")
def test_below_half_of_the_tokens_nothing_is_repeated() -> None:
    budget = Budget(10, 0.1)
    assert [budget.spend(0, 0) for _ in range(8)] == [True] * 4 + [False] * 4
    assert budget.tokens == 2


@pytest.mark.rule("RETRY-1")
def test_tokens_come_back_with_each_call_and_each_second_and_never_above_the_most() -> None:
    budget = Budget(10, 0.1)
    for _ in range(20):
        budget.spend(0, 0)
    assert budget.tokens == 0
    assert not budget.spend(0, 50)
    assert budget.tokens == 4
    assert budget.spend(30, 50)
    assert budget.tokens == 6
    budget.spend(10_000, 10_000)
    assert budget.tokens == 9


def repeats_of(calls: int, budget: Budget, *, failing: Callable[[int], bool]) -> Iterator[int]:
    """How many attempts each of so many calls takes, one after the other."""
    sent = 0
    for call in range(calls):
        tried = attempts(budget=budget, most=5)
        while True:
            sent += 1
            if not failing(call) or tried.delay(error(), 0, sent) is None:
                break
        yield tried.made


@pytest.mark.rule("RETRY-1")
@pytest.mark.parametrize("tokens", [10, 100, 1000])
def test_a_server_that_always_fails_gets_a_burst_and_then_hardly_more_than_without(
    tokens: int,
) -> None:
    made = list(repeats_of(10_000, Budget(tokens, 0.1), failing=lambda call: True))
    assert sum(made) - len(made) <= tokens / 2 + 0.15 * len(made)
    assert sum(made[-1000:]) <= 1150


@pytest.mark.rule("RETRY-1")
def test_rare_failures_are_always_repeated() -> None:
    made = list(repeats_of(10_000, Budget(100, 0.1), failing=lambda call: call % 100 == 0))
    # Each of the hundred calls that fail for good is tried as often as allowed.
    assert sum(one == 5 for one in made) == 100


@pytest.mark.rule("RETRY-2")
def test_delays_before_a_connection_are_uniform_below_a_bound_that_doubles() -> None:
    bounds = [0.9, 1.8, 3.6, 7.2, 14.4, 15, 15]
    backoff = Backoff(lambda: 1.0)
    assert [backoff.next() for _ in bounds] == pytest.approx(bounds)
    backoff.reset()
    assert backoff.next() == 0.9
    assert Backoff(lambda: 0.0).next() == 0
    # Not even the first delay is longer than the longest.
    assert Backoff(lambda: 1.0, longest=0.05).next() == 0.05


@pytest.mark.rule("RETRY-2")
def test_a_server_that_asks_for_a_delay_gets_it_and_up_to_a_second_more() -> None:
    assert Backoff(lambda: 0.0).next(3) == 3
    assert Backoff(lambda: 1.0).next(3) == 4
