"""Flow control: who may begin an item when, and what gives credit back."""

from __future__ import annotations

from typing import Any

import pytest

from wsrpc.errors import ProtocolError
from wsrpc.limits import COST_UNIT, Limits
from wsrpc.protocol.codec import Codec
from wsrpc.protocol.events import CreditReceived, ItemsReceived
from wsrpc.protocol.lanes import OutCall
from wsrpc.protocol.window import ReceiveWindow, SendCredit, cost_of

from .harness import Bare, only, rejected

MOST = 2**31 - 1


def begin(client: Bare, **options: Any) -> OutCall:
    call = client.endpoint.call("A.b", client.dump({}), **options)
    client.hear()
    return call


# ---------------------------------------------------------------- on the wire


@pytest.mark.rule("CREDIT-1")
@pytest.mark.parametrize(
    ("options", "balance"),
    [(None, 5), ({}, 5), ({"credit": None}, 5), ({"credit": 0}, 0), ({"credit": 7}, 7),
     ({"credit": MOST}, MOST)],
)  # fmt: skip
def test_a_stream_starts_with_its_option_or_the_callers_window(
    codec: Codec, options: Any, balance: int
) -> None:
    server = Bare(codec, "accepting", hello={"window": 5})
    call = server.call("call", 1, "A.b", {}, options)
    assert call.credit.balance == balance
    assert server.endpoint.may_push(call) is (balance > 0)


@pytest.mark.rule("CREDIT-1", "CREDIT-3")
def test_the_caller_allows_what_it_announced(codec: Codec) -> None:
    for window, granted in ((None, 4), (0, 0), (2, 2)):
        client = Bare(codec, "connecting", limits=Limits(window=4))
        begin(client, window=window)
        if granted:
            client.say(["message", 1, [0] * granted])
        assert client.rejects(["message", 1, [0]]) == 4505


@pytest.mark.rule("CREDIT-2")
def test_no_item_begins_without_credit(codec: Codec) -> None:
    server = Bare(codec, "accepting", hello={"window": 2})
    call = server.call("call", 1, "A.b", {})
    for n in range(2):
        assert server.endpoint.may_push(call)
        server.endpoint.push(call, server.dump(n))
    assert not server.endpoint.may_push(call)
    assert server.hear() == [["message", 1, [0, 1]]]
    assert not server.endpoint.may_push(call)
    assert only(server.say(["credit", 1, 1]), CreditReceived).lane is call
    assert server.endpoint.may_push(call)


@pytest.mark.rule("CREDIT-2")
def test_one_item_may_take_the_balance_below_0(codec: Codec) -> None:
    server = Bare(codec, "accepting", hello={"window": 1, "limits": {"max_batch": 2**20}})
    call = server.call("call", 1, "A.b", {})
    server.endpoint.push(call, server.dump("x" * (3 * COST_UNIT)))
    assert call.credit.balance == -3
    assert server.say(["credit", 1, 3]) == []
    assert not server.endpoint.may_push(call)
    only(server.say(["credit", 1, 1]), CreditReceived)
    assert server.endpoint.may_push(call)


@pytest.mark.rule("CREDIT-2")
def test_terminals_need_no_credit(codec: Codec) -> None:
    server = Bare(codec, "accepting", hello={"window": 0})
    server.endpoint.finish(server.call("call", 1, "A.b", {}))
    server.endpoint.result(server.call("call", 3, "A.b", {}), server.dump("x" * 60_000))
    assert [frame[0] for frame in server.hear()] == ["end", "result"]


@pytest.mark.rule("CREDIT-3")
@pytest.mark.parametrize("groups", [[[0] * 5], [[0] * 4, [0]], [[0]] * 5])
def test_an_item_without_credit_closes_with_4505(codec: Codec, groups: list[list[int]]) -> None:
    client = Bare(codec, "connecting", limits=Limits(window=4))
    begin(client)
    *good, bad = [["message", 1, group] for group in groups]
    for frame in good:
        client.say(frame)
    assert client.rejects(bad) == 4505


@pytest.mark.rule("CREDIT-3")
def test_the_items_of_a_message_are_counted_one_after_the_other(codec: Codec) -> None:
    large = "x" * COST_UNIT
    for items, fine in (
        ([large, 0], True),  # 3 - 2 = 1 before the second
        ([large, large], True),
        ([0, 0, large], True),
        ([large, large, 0], False),
        ([large, 0, 0], False),
    ):
        client = Bare(codec, "connecting", limits=Limits(window=3))
        begin(client)
        if fine:
            client.say(["message", 1, items])
        else:
            assert client.rejects(["message", 1, items]) == 4505


@pytest.mark.rule("CREDIT-3", "CREDIT-4")
def test_an_item_costs_one_more_for_every_64_kib(codec: Codec) -> None:
    assert [cost_of(n) for n in (1, 65_535, 65_536, 131_071, 131_072)] == [1, 1, 2, 2, 3]
    overhead = len(codec.dump("x" * 65_000)) - 65_000
    for size, left in ((65_535, 1), (65_536, 0)):
        client = Bare(codec, "connecting", limits=Limits(window=2))
        begin(client)
        client.say(["message", 1, ["x" * (size - overhead)]])
        if left:
            client.say(["message", 1, [0]])
        else:
            assert client.rejects(["message", 1, [0]]) == 4505


@pytest.mark.rule("CREDIT-4")
def test_credit_comes_back_when_items_are_consumed_and_not_before(codec: Codec) -> None:
    client = Bare(codec, "connecting", limits=Limits(window=4))
    call = begin(client)
    event = only(client.say(["message", 1, ["a", "x" * COST_UNIT]]), ItemsReceived)
    assert client.hear() == []
    assert client.endpoint.consumed(call, 1, waiting=False)
    assert client.hear() == [["credit", 1, 1]]
    assert client.endpoint.consumed(call, cost_of(len(event.items[1])), waiting=False)
    assert client.hear() == [["credit", 1, 2]]


@pytest.mark.rule("CREDIT-5")
@pytest.mark.parametrize("window", [0, 1, 4, 32])
def test_a_waiting_application_never_lacks_credit(codec: Codec, window: int) -> None:
    client = Bare(codec, "connecting", limits=Limits(window=32, max_batch=2**20))
    call = begin(client, window=window)
    balance = window
    sizes = [1, 1, 1, 200_000, 1, 70_000, 1, 1, 1_000_000, *[1] * 200]
    for size in sizes:
        client.endpoint.consumed(call, 0, waiting=True)
        balance += sum(frame[2] for frame in client.hear())
        assert balance >= 1
        item = "x" * size
        client.say(["message", 1, [item]])
        cost = cost_of(len(client.dump(item)))
        balance -= cost
        client.endpoint.consumed(call, cost, waiting=False)
        balance += sum(frame[2] for frame in client.hear())


@pytest.mark.rule("CREDIT-5")
def test_a_grant_before_the_call_is_numbered_goes_out_after_it(client: Bare) -> None:
    call = client.endpoint.call("A.b", client.dump({}), window=0)
    assert client.endpoint.consumed(call, 0, waiting=True) is True or call.credit_due
    assert client.hear() == [["call", 1, "A.b", {}, {"credit": 0}], ["credit", 1, 1]]


@pytest.mark.rule("CREDIT-6", "BATCH-3")
@pytest.mark.parametrize("n", [0, -1, -(2**40)])
def test_a_credit_below_1_closes_with_4505(server: Bare, n: int) -> None:
    server.call("call", 1, "A.b", {})
    assert server.rejects(["credit", 1, n]) == 4505
    server.endpoint.finish(server.call("call", 3, "A.b", {}))
    assert server.rejects(["credit", 3, n]) == 4505


@pytest.mark.rule("CREDIT-6")
def test_a_balance_above_the_most_closes_with_4505(codec: Codec) -> None:
    server = Bare(codec, "accepting", hello={"window": 5})
    server.call("call", 1, "A.b", {})
    server.say(["credit", 1, MOST - 5])
    assert server.rejects(["credit", 1, 1]) == 4505
    server = Bare(codec, "accepting")
    assert server.rejects(["call", 1, "A.b", {}, {"credit": MOST + 1}]) == 4505
    for n in (MOST + 1, 2**63, 10**400 if codec.text else 2**64 - 1):
        server = Bare(codec, "accepting")
        server.call("call", 1, "A.b", {}, {"credit": 0})
        assert server.rejects(["credit", 1, n]) == 4505
    client = Bare(codec, "connecting", hello={"window": MOST})
    upload = begin(client, uploads=("u",)).uploads["u"]
    assert client.rejects(["credit", upload.id, 1]) == 4505


@pytest.mark.rule("CREDIT-4", "CREDIT-5")
def test_an_uploads_credit_comes_from_its_receiver(server: Bare) -> None:
    call = server.call("call", 1, "A.b", {}, {"uploads": {"u": 3}})
    reader = call.uploads["u"]
    server.say(["message", 3, [0] * 32])
    assert server.hear() == []
    for _ in range(8):
        server.endpoint.consumed(reader, 1, waiting=False)
    assert server.hear() == [["credit", 3, 8]]


@pytest.mark.rule("CREDIT-7")
def test_credit_on_a_notify_has_no_effect(server: Bare) -> None:
    server.call("notify", 1, "A.b", {}, {"credit": 2**40})
    assert server.say(["credit", 1, MOST], ["credit", 1, MOST]) == []
    assert server.endpoint.ignored == 0


@pytest.mark.rule("CREDIT-7")
def test_credit_on_a_call_that_returns_a_value_has_no_effect(server: Bare) -> None:
    call = server.call("call", 1, "A.b", {})
    assert server.say(["credit", 1, 7]) == []
    server.endpoint.result(call, server.dump(1))
    assert server.say(["credit", 1, 7]) == []
    assert server.hear() == [["result", 1, 1]]


@pytest.mark.rule("CANCEL-4", "CREDIT-7")
def test_credit_for_a_cancelled_call_is_ignored_and_counted(server: Bare) -> None:
    call = server.call("call", 1, "A.b", {}, {"credit": 0})
    server.say(["cancel", 1])
    assert server.say(["credit", 1, 7]) == []
    assert server.endpoint.ignored == 1
    assert not server.endpoint.may_push(call)


@pytest.mark.rule("CREDIT-5", "CANCEL-5")
def test_no_credit_follows_a_cancel(codec: Codec) -> None:
    client = Bare(codec, "connecting", limits=Limits(window=4))
    call = begin(client)
    client.say(["message", 1, [0] * 4])
    client.endpoint.consumed(call, 4, waiting=True)
    client.endpoint.cancel(call)
    client.endpoint.consumed(call, 0, waiting=True)
    assert client.hear() == [["cancel", 1, "cancelled"]]


def test_a_full_outbox_stops_senders_that_have_credit(codec: Codec) -> None:
    server = Bare(codec, "accepting", limits=Limits(outbox=10_000))
    call = server.call("call", 1, "A.b", {})
    server.endpoint.push(call, server.dump("x" * 9_000))
    assert server.endpoint.may_push(call)
    server.endpoint.push(call, server.dump("x" * 9_000))
    assert server.endpoint.outbox_full
    assert not server.endpoint.may_push(call)
    server.hear()
    assert server.endpoint.outbox_bytes == 0
    assert server.endpoint.may_push(call)


# ---------------------------------------------------------------- windows


class Stream:
    """A receive window, and the sender that obeys it."""

    def __init__(self, initial: int, target: int = 256 * 1024) -> None:
        self.window = ReceiveWindow(initial, target)
        self.sender = SendCredit(initial)
        self.queue: list[int] = []

    def send(self, size: int) -> int:
        """Send items of `size` while there is credit; returns how many."""
        count = 0
        while self.sender.balance >= 1:
            self.sender.spend(size)
            self.window.arrived([b"x" * size])
            self.queue.append(cost_of(size))
            count += 1
        return count

    def take(self, n: int | None = None) -> int:
        """Consume `n` items, or all and then wait; returns the credit granted."""
        granted = 0
        for _ in range(len(self.queue) if n is None else n):
            cost = self.queue.pop(0)
            granted += self.window.consumed(cost, waiting=False)
        if n is None:
            granted += self.window.consumed(0, waiting=True)
        if granted:
            self.sender.grant(granted)
        assert self.sender.balance == self.window.balance
        return granted


def test_the_window_doubles_for_a_consumer_that_keeps_up_until_the_byte_target() -> None:
    stream = Stream(32)
    rounds = []
    for _ in range(12):
        rounds.append(stream.send(100))
        stream.take()
    assert rounds[:7] == [32, 64, 128, 256, 512, 1024, 2048]
    assert stream.window.size == 256 * 1024 // 100
    assert all(2500 < n <= 2621 for n in rounds[8:]), rounds


def test_a_window_for_long_ways_needs_half_the_steps_to_the_same_target() -> None:
    stream = Stream(32)
    stream.window.growth = 4
    rounds = []
    for _ in range(9):
        rounds.append(stream.send(100))
        stream.take()
    assert rounds[:4] == [32, 128, 512, 2048]
    assert stream.window.size == 256 * 1024 // 100
    assert all(2500 < n <= 2621 for n in rounds[5:]), rounds


def test_the_window_grows_however_the_consumer_reports() -> None:
    for reports in (1, 7, 32):
        window = ReceiveWindow(32, 256 * 1024)
        window.arrived([b"x"] * 32)
        granted = 0
        for left in range(32, 0, -reports):
            granted += window.consumed(min(reports, left), waiting=False)
        granted += window.consumed(0, waiting=True)
        assert (window.size, granted) == (64, 64)


def test_waiting_alone_does_not_make_the_window_grow() -> None:
    window = ReceiveWindow(32, 256 * 1024)
    window.arrived([b"x"] * 32)
    window.consumed(32, waiting=False)
    sizes = []
    for _ in range(5):
        window.consumed(0, waiting=True)
        sizes.append(window.size)
    assert sizes == [64] * 5


def test_a_window_grows_no_further_than_it_may() -> None:
    stream = Stream(4)
    stream.window.most = 10
    rounds = []
    for _ in range(4):
        rounds.append(stream.send(100))
        stream.take()
    assert rounds == [4, 8, 10, 10]


def test_the_window_stays_small_for_a_slow_consumer() -> None:
    stream = Stream(32)
    stream.send(100)
    for _ in range(300):
        stream.take(1)
        stream.send(100)
    assert stream.window.size == 32
    assert stream.window.queued + stream.window.balance <= 32


def test_the_window_stays_small_for_a_slow_producer() -> None:
    window = ReceiveWindow(32, 256 * 1024)
    for _ in range(300):
        window.consumed(0, waiting=True)
        window.arrived([b"x" * 100])
        window.consumed(1, waiting=False)
    assert window.size == 32


def test_the_window_shrinks_by_giving_back_less() -> None:
    stream = Stream(32)
    for _ in range(6):
        stream.send(10)
        stream.take()
    before = stream.window.size
    assert before == 2048
    balances = []
    for _ in range(3000):
        stream.sender.spend(10_000)
        stream.window.arrived([b"x" * 10_000])
        stream.queue.append(1)
        stream.take(1)
        balances.append(stream.window.balance)
    assert 20 <= stream.window.size <= 26, "256 KiB of items of 10 kB"
    fall = balances[: balances.index(min(balances))]
    assert fall == sorted(fall, reverse=True), "while it shrinks, nothing is given back"
    assert stream.window.balance + stream.window.queued <= stream.window.size


def test_a_window_that_shrank_grows_again_when_items_get_smaller() -> None:
    stream = Stream(32)
    for _ in range(5):
        stream.send(60_000)
        stream.take()
    assert stream.window.size == 4
    for _ in range(40):
        stream.send(100)
        stream.take()
    assert stream.window.size > 1000


def test_large_items_are_measured_by_what_their_credit_buys() -> None:
    stream = Stream(32)
    for _ in range(5):
        stream.send(1024 * 1024)
        stream.take()
    assert stream.window.size == 4, "credits of 62 KiB"
    assert stream.send(1024 * 1024) == 1


def test_what_a_stream_holds_is_bounded_by_its_window_and_one_value() -> None:
    for size in (1, 1000, 65_535, 65_536, 10**6):
        stream = Stream(8)
        for _ in range(10):
            stream.send(size)
            assert stream.window.queued <= stream.window.size + cost_of(size) - 1
            stream.take()


@pytest.mark.rule("CREDIT-5")
def test_a_starving_consumer_gets_at_least_one_item_whatever_is_missing() -> None:
    window = ReceiveWindow(2, 1)
    window.arrived([b"x" * 500_000])
    assert window.balance == -6
    assert window.consumed(8, waiting=False) == 7, "the window is 1 now"
    window.arrived([b"x"])
    assert window.consumed(0, waiting=True) == 1, "even with an item unconsumed, should it wait"


def test_small_grants_are_saved_up() -> None:
    window = ReceiveWindow(32, 256 * 1024)
    window.arrived([b"x"] * 20)
    grants = [window.consumed(1, waiting=False) for _ in range(20)]
    assert grants == [0, 0, 0, 0, 0, 0, 0, 8] * 2 + [0] * 4
    assert window.threshold == 8


def test_credit_cannot_be_spent_that_is_not_there() -> None:
    credit = SendCredit(1)
    credit.spend(70_000)
    assert credit.balance == -1
    with pytest.raises(AssertionError):
        credit.spend(1)


@pytest.mark.rule("CREDIT-6")
def test_a_grant_that_overflows_leaves_the_balance_alone() -> None:
    credit = SendCredit(7)
    assert rejected(lambda: credit.grant(MOST)) == 4505
    assert credit.balance == 7
    with pytest.raises(ProtocolError):
        ReceiveWindow(0, 1).arrived([b"x"])
