"""How busy workers of other nodes are, as these tell it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from wsrpc.cluster.loads import Loads
from wsrpc.cluster.micro import Micro

PIECES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("abc", max_size=5) | st.just("there"),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)
SHAPED = st.fixed_dictionaries({"n": PIECES, "b": PIECES})


def loads() -> Loads:
    return Loads("here", 0.5, lambda pool, session: session if session != "x" else None)


def told(calls: dict[str, int], session: str = "there") -> bytes:
    return json.dumps({"n": "there", "b": [[session, "jobs", calls]]}).encode()


@given(st.binary(max_size=100) | SHAPED.map(lambda one: json.dumps(one).encode()))
def test_whatever_comes_is_taken_or_refused_and_never_raises(data: bytes) -> None:
    assert loads().heard(data, 0.0) in (True, False)


@given(st.text(alphabet="$SRV.PINGFOTAwsrpc-0123456789>*", max_size=40))
def test_whatever_a_tool_of_nats_asks_is_answered_or_ignored(rest: str) -> None:
    micro = Micro("c", "n", "s", {}, 0.0, lambda: {"relayed_total": 0, "relay_refused": 0})
    assert micro.answer(f"$SRV.{rest}") is None or rest.startswith(("PING", "INFO", "STATS"))


def test_only_the_calls_of_others_count_beside_ones_own() -> None:
    one = loads()
    less: list[str] = []
    one.on_less = less.append
    assert one.heard(told({"here": 2, "third": 1, "there": 3, "fourth": -5}), 0.0)
    assert one.others("jobs", "there", 0.1) == 4
    assert one.heard(told({"here": 9, "there": 1}), 0.2)
    assert one.others("jobs", "there", 0.3) == 1
    assert less == ["jobs"] * 3
    # It was lost, or its node is busy: nobody waits for ever for a worker that is free.
    assert one.others("jobs", "there", 10.0) == 0


def test_a_node_speaks_for_its_own_workers_only() -> None:
    one = loads()
    assert one.heard(told({"third": 1}, session="somebody"), 0.0)
    assert one.others("jobs", "somebody", 0.1) == 0
    one.heard(told({"third": 1}), 0.0)
    one.forget("there")
    assert one.others("jobs", "there", 0.1) == 0


def test_the_workers_of_this_node_are_counted_by_caller() -> None:
    one = loads()
    freed: list[Any] = []
    one.on_less = freed.append
    one.count("jobs", "w", "here", 1)
    one.count("jobs", "w", "there", 2)
    assert (one.total("jobs", "w"), one.others("jobs", "w", 0.0)) == (3, 2)
    one.count("jobs", "w", "there", -1)
    one.count("jobs", "w", "here", -1)
    assert freed == ["jobs"]
    assert (one.total("jobs", "w"), one.others("jobs", "w", 0.0)) == (1, 1)
