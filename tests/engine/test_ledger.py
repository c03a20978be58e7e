"""Who has to wait, and who never notices."""

from __future__ import annotations

import wsrpc
from wsrpc.engine.ledger import Account, Ledger

MIB = 2**20
LIMITS = wsrpc.Limits(
    max_session_bytes=8 * MIB, max_principal_bytes=16 * MIB, max_total_bytes=32 * MIB
)


def account(ledger: Ledger, key: str, held: int = 0) -> Account:
    one = ledger.open()
    one.belongs_to(key)
    one.settle(held * MIB)
    return one


def test_a_session_above_its_bound_waits_alone() -> None:
    ledger = Ledger(LIMITS)
    other = account(ledger, "ann", 1)
    one = account(ledger, "ann", 9)
    assert one.crowded
    assert not other.crowded
    one.settle(7 * MIB + 1)
    assert one.crowded, "it has to be a little below it"
    one.settle(6 * MIB)
    assert not one.crowded


def test_the_largest_sessions_of_a_principal_above_its_bound_wait() -> None:
    ledger = Ledger(LIMITS)
    small, stranger = account(ledger, "ann", 1), account(ledger, "bob", 7)
    large = [account(ledger, "ann", 5) for _ in range(4)]
    assert all(one.crowded for one in large)
    assert not small.crowded
    assert not stranger.crowded
    large[0].settle(0)
    large[1].settle(0)
    assert not any(one.crowded for one in large)


def test_the_largest_principals_of_a_server_above_its_bound_wait() -> None:
    ledger = Ledger(LIMITS)
    small = account(ledger, "zoe", 1)
    large = [account(ledger, key, 7) for key in ("ann", "bob", "cid", "dan", "eve")]
    assert ledger.held == 36 * MIB
    assert all(one.crowded for one in large)
    assert not small.crowded
    large[0].settle(0)
    large[1].settle(0)
    assert not any(one.crowded for one in large)
    assert ledger.held == 22 * MIB


def test_there_is_always_somebody_who_waits_where_a_bound_is_exceeded() -> None:
    ledger = Ledger(LIMITS)
    accounts = [account(ledger, "ann") for _ in range(7)]
    for n, one in enumerate(accounts):
        one.settle((n + 1) * MIB)
    while crowded := [one for one in accounts if one.crowded]:
        crowded[0].settle(0)
    assert 0 < ledger.held <= 16 * MIB


def test_a_session_that_says_whose_it_is_leaves_the_account_that_it_had() -> None:
    ledger = Ledger(LIMITS)
    one = ledger.open()
    one.belongs_to("an address")
    one.settle(MIB)
    one.belongs_to("ann")
    assert ledger.held == ledger.holder("ann").held == MIB
    assert ledger.holder("an address").held == 0
    one.settle(0)
    assert ledger.held == ledger.holder("ann").held == 0


def test_a_session_below_its_share_waits_no_more_when_another_one_holds_nothing_any_more() -> None:
    ledger = Ledger(LIMITS)
    tiny = account(ledger, "ann")
    tiny.settle(MIB // 2)
    middle = account(ledger, "ann", 4)
    large = [account(ledger, "ann", 6) for _ in range(2)]
    assert [one.crowded for one in (tiny, middle, *large)] == [False, True, True, True]
    # The bound is still exceeded, and the share of three is more than that of four.
    tiny.settle(0)
    assert [one.crowded for one in (middle, *large)] == [False, True, True]
