"""What is to go wrong with a connection in memory, without one."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from wsrpc.protocol.frames import Frame
from wsrpc.transport.faults import Action, Faults, FrameName


def planned(action: Action = "cut", **at: Any) -> Faults:
    faults = Faults()
    assert faults.plan(action, **{"before": None, "after": None, "sender": None, **at})
    return faults


def test_the_frames_have_the_names_of_the_protocol() -> None:
    tags = [frame.__struct_config__.tag for frame in get_args(Frame)]
    assert sorted(get_args(FrameName)) == sorted(tags)


def test_without_a_plan_everything_arrives_and_is_counted() -> None:
    faults = Faults()
    assert faults.admit("connecting", ["hello", "call"]) == (2, None)
    assert faults.admit("accepting", ["hello"]) == (1, None)
    assert faults.arrived("connecting") == 2
    assert faults.arrived("accepting") == 1
    assert faults.arrived() == 3


@pytest.mark.parametrize(
    ("at", "arrive"),
    [
        ({"before": 3}, 0),
        ({"after": 3}, 1),
        ({"before": 5}, 2),
        ({"after": 5}, 3),
        ({"before": 2, "sender": "connecting"}, 0),
        ({"after": 2, "sender": "connecting"}, 1),
        ({"before": "call"}, 1),
        ({"after": "call"}, 2),
        ({"after": "call", "sender": "connecting"}, 2),
    ],
)
def test_a_frame_is_named_by_its_index_or_by_what_it_is(at: dict[str, Any], arrive: int) -> None:
    faults = planned(**at)
    assert faults.admit("connecting", ["hello", "ack"]) == (2, None)
    assert faults.admit("accepting", ["hello"]) == (1, None)
    assert faults.admit("connecting", ["credit", "call", "call"]) == (arrive, "cut")
    assert faults.arrived() == 3 + arrive
    # Once is enough.
    assert faults.admit("connecting", ["credit", "call", "call"]) == (3, None)


@pytest.mark.parametrize("at", [{"before": "call"}, {"after": 1}])
def test_frames_of_the_other_side_are_not_meant(at: dict[str, Any]) -> None:
    faults = planned(**at, sender="accepting")
    assert faults.admit("connecting", ["hello", "call", "call"]) == (3, None)
    assert faults.admit("accepting", ["hello", "call"])[1] == "cut"


def test_two_plans_for_one_message_come_one_after_the_other() -> None:
    faults = planned(before=1)
    faults.plan("cut", before=None, after=1, sender=None)
    assert faults.admit("accepting", ["end"] * 4) == (1, "cut")
    assert faults.admit("accepting", ["end"] * 3) == (1, "cut")
    assert faults.arrived() == 2


def test_a_stall_is_of_one_side_or_of_both() -> None:
    faults = planned("stall", after="call")
    assert faults.admit("connecting", ["call", "call"]) == (1, "stall")
    assert faults.stalled == {"connecting", "accepting"}
    faults = planned("stall", after="call", sender="connecting")
    assert faults.admit("connecting", ["call", "call"]) == (1, "stall")
    assert faults.stalled == {"connecting"}


def test_mending_takes_everything_back() -> None:
    faults = planned(before=0)
    faults.stall("accepting")
    faults.delay(3, None)
    faults.mend()
    assert faults.admit("accepting", ["hello"]) == (1, None)
    assert (faults.stalled, faults.delays) == (set(), {"accepting": 0.0, "connecting": 0.0})


def test_what_can_never_happen_is_refused() -> None:
    faults = Faults()
    faults.admit("accepting", ["hello", "result"])
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"before": 1}, "frame 1 of the accepting and connecting side has arrived already: 2 "),
        ({"after": 1, "sender": "accepting"}, "frame 1 of the accepting side has arrived already"),
        ({"before": 3, "after": 3}, "cut.. takes before= or after=, not both"),
        ({"before": "answer"}, "no frame 'answer'; there is hello, .*result"),
        ({"before": 7, "sender": "server"}, "sender must be 'accepting', 'connecting' or None"),
    ]
    for at, says in mistakes:
        with pytest.raises(ValueError, match=says):
            faults.plan("cut", **{"before": None, "after": None, "sender": None, **at})
    for seconds in (-1, float("nan")):
        with pytest.raises(ValueError, match="at least 0 s"):
            faults.delay(seconds, None)
    assert not faults.plan("cut", before=None, after=None, sender=None)
