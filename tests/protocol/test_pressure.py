"""Peers above their bound on memory, acks that are held back, and how late acks are."""

from __future__ import annotations

import pytest

from wsrpc.protocol.codec import Codec
from wsrpc.protocol.lanes import InCall

from .harness import Bare, Side

KIB = 1024
SIDES: list[Side] = ["accepting", "connecting"]


@pytest.fixture(params=SIDES)
def lasting(request: pytest.FixtureRequest, codec: Codec) -> Bare:
    """An endpoint of either side in a session that can be resumed."""
    return Bare(codec, request.param, resume_window=30.0)


@pytest.fixture
def call(lasting: Bare) -> InCall:
    """A call of the bare side's."""
    id = 1 if lasting.endpoint.side == "accepting" else 2
    return lasting.call("call", id, "A.b", {}, {"credit": 10_000})


def push(bare: Bare, call: InCall, items: int, size: int) -> None:
    """Send items, as far as there is room for them."""
    for _ in range(items):
        bare.endpoint.push(call, bare.dump("x" * size))
        bare.hear()


@pytest.mark.rule("RESUME-6", "OUT-4")
def test_little_is_kept_for_a_peer_above_its_bound_until_it_is_within_it_again(
    lasting: Bare, call: InCall
) -> None:
    endpoint = lasting.endpoint
    endpoint.squeeze(True)
    push(lasting, call, 20, 10 * KIB)
    kept = endpoint.replay_bytes
    assert 100 * KIB < kept <= 128 * KIB
    endpoint.squeeze(False)
    lasting.hear()
    assert endpoint.replay_bytes > 200 * KIB, "the rest goes"
    assert endpoint.outbox_bytes == 0


@pytest.mark.rule("RESUME-7")
def test_acks_that_were_held_back_go_as_soon_as_the_reason_is_over(
    lasting: Bare, call: InCall
) -> None:
    endpoint = lasting.endpoint
    endpoint.hesitate(True)
    lasting.say(*[["credit", call.id, 1]] * 40)
    assert lasting.hear() == []
    endpoint.hesitate(False)
    assert lasting.hear() == [["ack", 41]]
    endpoint.hesitate(True)
    endpoint.hesitate(False)
    assert lasting.hear() == [], "there is nothing to tell"


@pytest.mark.rule("RESUME-7")
def test_the_lag_of_acks_counts_from_the_first_frame_that_waits_for_one(
    lasting: Bare, call: InCall
) -> None:
    endpoint = lasting.endpoint
    assert endpoint.ack_lag(lasting.now) == 0.0
    for _ in range(2):
        lasting.now += 50.0
        push(lasting, call, 1, 10)
        assert endpoint.ack_lag(lasting.now) == 0.0, "it has only gone"
        lasting.now += 2.0
        push(lasting, call, 1, 10)
        assert endpoint.ack_lag(lasting.now) == 2.0
        lasting.say(["ack", endpoint.sent - 1])
        assert endpoint.ack_lag(lasting.now) == 0.0, "it acks"
        lasting.say(["ack", endpoint.sent])
        assert endpoint.ack_lag(lasting.now + 9.0) == 0.0, "it has acked all"


@pytest.mark.rule("OUT-4")
def test_an_answer_to_a_peer_above_its_bound_does_not_wait_for_arguments(codec: Codec) -> None:
    client = Bare(codec, "connecting", hello={"limits": {"max_value": 2**20, "max_held": 2**20}})
    endpoint = client.endpoint
    endpoint.squeeze(True)
    endpoint.call("A.b", client.dump({"x": "y" * 200 * KIB}))
    assert endpoint.outbox_full
    assert not endpoint.awaited_full
    call = client.call("call", 2, "A.b", {})
    endpoint.result(call, client.dump("y" * 200 * KIB))
    assert endpoint.awaited_full, "one answer waits for another"
    client.hear()
    assert not endpoint.outbox_full, "both are gone"
