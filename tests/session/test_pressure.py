"""Sessions above their bound on memory: which of them end when their time is over."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import wsrpc
from wsrpc.engine.ledger import Ledger
from wsrpc.session.pressure import Pressure

MIB = 2**20
LIMITS = wsrpc.Limits(
    max_session_bytes=64 * MIB, max_principal_bytes=64 * MIB, max_total_bytes=32 * MIB
)


def test_a_session_that_others_have_left_far_behind_is_not_ended_when_its_time_is_over() -> None:
    """It was one of the largest when all of them together came above the bound."""
    ledger = Ledger(LIMITS)
    due: list[Callable[[], None]] = []
    ended: list[int] = []
    account, other = ledger.open(), ledger.open()
    for one in (account, other):
        one.belongs_to("ann")
    hub: Any = SimpleNamespace(
        account=account,
        squeeze=lambda crowded: None,
        look=lambda: None,
        lost=None,
        session=None,
        limits=LIMITS,
        held=0,
        taken=0,
        endpoint=SimpleNamespace(side="accepting", half_gone=0),
        runtime=SimpleNamespace(now=lambda: 0.0),
        timers=SimpleNamespace(add=lambda when, call: due.append(call), remove=lambda entry: None),
        log=SimpleNamespace(warning=lambda *args: None),
    )
    pressure = Pressure(hub, lambda code, reason: ended.append(code))
    account.on_change = pressure.changed
    other.settle(15 * MIB)
    account.settle(18 * MIB)
    assert account.crowded
    other.settle(40 * MIB)
    assert len(due) == 1
    due[0]()
    assert ended == []
    assert not account.crowded
