"""What honest peers hardly send: how much of it is borne, and that honest peers never get there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from wsrpc.errors import ProtocolError
from wsrpc.limits import Limits
from wsrpc.protocol.codec import Codec
from wsrpc.protocol.events import CallReceived
from wsrpc.protocol.rates import Bucket
from wsrpc.protocol.window import SPARE_GRANTS, SendCredit

from .harness import Bare, Frame, Pair, Side, deliver

# --------------------------------------------------------------------------------- the bucket


def test_a_bucket_gives_a_burst_and_then_its_rate() -> None:
    bucket = Bucket(10, 2)
    assert all(bucket.take(100.0) for _ in range(10))
    assert not bucket.take(100.0)
    assert not bucket.take(100.4)
    assert bucket.take(100.6)
    assert not bucket.take(100.6)


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    bucket = Bucket(3, 100)
    assert bucket.take(0.0, 3)
    assert bucket.take(1e9, 3)
    assert not bucket.take(1e9)


def test_what_is_too_much_is_not_taken() -> None:
    bucket = Bucket(10, 0)
    assert not bucket.take(0.0, 11)
    assert bucket.take(0.0, 10)


# ---------------------------------------------------------------------------------- the floods

FEW = Limits(
    max_calls=8,
    max_value=70_000,
    idle_burst=200,
    idle_rate=100.0,
    ping_burst=200,
    ping_rate=100.0,
    refusal_burst=200,
    refusal_rate=100.0,
)
BATCH = 10


def answered(end: Bare) -> None:
    """Call 1 is over."""
    call = end.call("call", 1, "A.b", {})
    end.endpoint.result(call, end.dump(None))
    end.hear()


def streaming(end: Bare) -> None:
    """Call 1 streams, and nothing has been sent on it."""
    end.call("call", 1, "A.b", {})


def cancelled(end: Bare) -> None:
    """Call 1 was cancelled, and its handler cleans up."""
    end.call("call", 1, "A.b", {})
    end.say(["cancel", 1])


def noted(end: Bare) -> None:
    """Notify 1 is handled."""
    end.call("notify", 1, "A.b", {})


def nothing(end: Bare) -> None:
    """Nothing has happened."""


def busy(end: Bare) -> None:
    """All slots are taken."""
    for id in range(1, 17, 2):
        end.call("call", id, "A.b", {})


def draining(end: Bare) -> None:
    """The endpoint drains."""
    end.endpoint.goaway(10, end.now)
    end.hear()


def fixed(*frame: Any) -> Callable[[int], Frame]:
    return lambda n: list(frame)


FLOODS: dict[str, tuple[Callable[[Bare], None], Callable[[int], Frame], int]] = {
    "frames for finished ids": (answered, fixed("credit", 1, 1), 0),
    "cancels of what is over": (answered, fixed("cancel", 1), 0),
    "second cancels": (cancelled, fixed("cancel", 1), 0),
    "credit for what was cancelled": (cancelled, fixed("credit", 1, 1), 0),
    "extensions": (nothing, fixed("x-y", 1), 0),
    "pongs": (nothing, fixed("pong", 1), 0),
    "acks of nothing": (nothing, fixed("ack", 0), 0),
    "goaways": (nothing, fixed("goaway", {"last_id": 0, "grace": 0}), 1),
    "credit for nothing": (streaming, fixed("credit", 1, 1), SPARE_GRANTS),
    "credit on a notify": (noted, fixed("credit", 1, 1), 0),
    "pings": (nothing, fixed("ping", 1), 0),
    "calls beyond the slots": (busy, lambda n: ["call", 101 + 2 * n, "A.b", {}], 0),
    "notifies beyond the slots": (busy, lambda n: ["notify", 101 + 2 * n, "A.b", {}], 0),
    "calls after a goaway": (draining, lambda n: ["call", 101 + 2 * n, "A.b", {}], 0),
    "calls that are too large": (
        nothing,
        lambda n: ["call", 101 + 2 * n, "A.b", None, None, 70_001],
        0,
    ),
}


def flood(end: Bare, frame: Callable[[int], Frame], rate: float) -> int | None:
    """How many frames go before 4004; None if 2,000 do not suffice."""
    for begin in range(0, 2000, BATCH):
        end.now += BATCH / rate
        try:
            end.say(*map(frame, range(begin, begin + BATCH)))
        except ProtocolError as error:
            code = error.close_code
            break
        # Refusals that are read.
        end.hear()
    else:
        return None
    assert code == 4004
    return begin


@pytest.mark.rule("CALM-1", "CALM-2", "CALM-3")
@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize("side", ["accepting", "connecting"])
def test_a_flood_is_closed_with_4004_beyond_its_burst_and_rate(
    codec: Codec, side: Side, name: str
) -> None:
    prepare, frame, spare = FLOODS[name]
    if side == "connecting":
        prepare, frame = mirrored(prepare), shifted(frame)
    end = Bare(codec, side, limits=FEW)
    prepare(end)
    sent = flood(end, frame, rate=1e9)
    assert sent is not None
    assert 200 - 2 * BATCH <= sent - spare <= 200 + BATCH
    # The same for 20 s, at a pace that is borne, and at twice that.
    for rate, borne in ((90.0, True), (200.0, False)):
        end = Bare(codec, side, limits=FEW)
        prepare(end)
        assert (flood(end, frame, rate) is None) is borne


def shifted(frame: Callable[[int], Frame]) -> Callable[[int], Frame]:
    """The same frames with even ids, as the accepting side opens them."""

    def even(n: int) -> Frame:
        name, *rest = frame(n)
        if name in ("call", "notify", "credit", "cancel"):
            rest[0] += 1
        return [name, *rest]

    return even


def mirrored(prepare: Callable[[Bare], None]) -> Callable[[Bare], None]:
    def act(end: Bare) -> None:
        say = end.say

        def even(*frames: Frame) -> Any:
            return say(*map(shifted(lambda n: frames[n]), range(len(frames))))

        end.say = even  # type: ignore[method-assign]
        try:
            prepare(end)
        finally:
            end.say = say  # type: ignore[method-assign]

    return act


@pytest.mark.rule("CALM-1", "NUM-3")
def test_the_batch_that_was_too_much_has_been_taken(codec: Codec) -> None:
    """A peer that comes back finds the counts right."""
    end = Bare(codec, "accepting", limits=FEW, resume_window=30.0)
    end.say(["ack", 0])
    answered(end)
    assert end.rejects(*[["credit", 1, 1]] * 300) == 4004
    assert end.endpoint.received == 301
    end.lose()
    end.come_back(1)
    # Its patience is what it was.
    assert end.rejects(*[["credit", 1, 1]] * 300) == 4004


# ------------------------------------------------------------------------------ honest peers


def rounds(pair: Pair) -> None:
    """Carry what there is, answering each call."""
    quiet = False
    while not quiet:
        quiet = True
        for end, other in ((pair.client, pair.server), (pair.server, pair.client)):
            while (data := end.next_batch(pair.now)) is not None:
                quiet = False
                for event in deliver(other, data):
                    if isinstance(event, CallReceived) and event.call.state == "running":
                        other.result(event.call, b"1")


@pytest.mark.rule("CALM-1", "CALM-3")
def test_outstanding_calls_at_full_speed_are_no_flood(codec: Codec) -> None:
    """20,000 calls at once on the clock, 64 at a time."""
    pair = Pair(codec).open()
    for _ in range(20_000 // 64):
        for _ in range(64):
            pair.client.call("A.b", pair.codec.dump({}))
        rounds(pair)


@pytest.mark.rule("CALM-1", "CALM-3")
def test_a_storm_of_cancels_is_no_flood(codec: Codec) -> None:
    """10,000 calls that are opened and cancelled, in any order of frames."""
    pair = Pair(codec).open()
    client, server = pair.client, pair.server
    calls = [client.call("A.b", pair.codec.dump({})) for _ in range(10_000)]
    while any(call.state != "finished" for call in calls):
        # More than 200,000 calls a second.
        pair.now += 0.001
        data = client.next_batch(pair.now)
        for call in calls:
            if call.id and call.state == "calling":
                client.cancel(call)
        events = deliver(server, data) if data else []
        while (data := client.next_batch(pair.now)) is not None:
            for event in events:
                if isinstance(event, CallReceived) and event.call.state == "running":
                    # Its answer crosses the cancel.
                    server.result(event.call, b"1")
            events = deliver(server, data)
            for event in events:
                if isinstance(event, CallReceived):
                    assert event.call.state == "cancelled"
                    server.refuse(event.call, "cancelled", "")
        while (data := server.next_batch(pair.now)) is not None:
            deliver(client, data)
    assert client.quiescent
    assert server.quiescent


@pytest.mark.rule("CALM-1")
@pytest.mark.parametrize("each", [1, 7])
def test_credit_for_each_item_is_called_for(each: int) -> None:
    """A receiver may give back every item by itself, and at any pace."""
    credit = SendCredit(32)
    for _ in range(10_000):
        for _ in range(each):
            credit.spend(1)
        for _ in range(each):
            assert credit.grant(1)
    grants = [credit.grant(1) for _ in range(SPARE_GRANTS + 1)]
    assert grants == [*[True] * SPARE_GRANTS, False]
    assert not any(credit.grant(1) for _ in range(9))
    credit.spend(1)
    assert credit.grant(1), "those beyond cost no later grant its reason"
    assert not credit.grant(1)


@pytest.mark.rule("CALM-1")
def test_tiny_items_are_no_flood(codec: Codec) -> None:
    """200,000 items at once on the clock, each with a credit of its own."""
    end = Bare(codec, "accepting", limits=FEW, hello={"window": 8})
    call = end.call("call", 1, "A.b", {})
    item = end.dump(1)
    credit = end.codec.dump([["credit", 1, 1]])
    for _ in range(25_000):
        for _ in range(8):
            end.endpoint.push(call, item)
        while end.endpoint.next_batch(end.now) is not None:
            pass
        for _ in range(8):
            end.endpoint.receive(credit, end.now)


def test_what_an_honest_peer_sends_by_chance_cannot_be_forbidden() -> None:
    for field in ("idle_burst", "ping_burst", "refusal_burst"):
        with pytest.raises(ValueError, match=field):
            Limits(**{field: 99})
