"""The order in which things go out, and how much goes into one message."""

from __future__ import annotations

from typing import Any

import pytest

from wsrpc.errors import ProtocolError
from wsrpc.limits import Limits
from wsrpc.protocol.batch import BATCH_TARGET, QUANTUM
from wsrpc.protocol.codec import Codec
from wsrpc.protocol.events import CallReceived
from wsrpc.protocol.frames import CallOptions, ErrorBody
from wsrpc.protocol.lanes import InCall
from wsrpc.protocol.sending import MAX_REFUSALS

from .harness import Bare, decode


def streams(server: Bare, n: int) -> list[InCall]:
    return [server.call("call", 2 * i + 1, "A.b", {}, {"credit": 2**20}) for i in range(n)]


def batches(server: Bare) -> list[tuple[int, list[Any]]]:
    """What goes out, batch by batch, each with its size."""
    out = []
    while (data := server.endpoint.next_batch(0.0)) is not None:
        out.append((len(data), decode(server.codec, data)))
    return out


def test_whatever_is_ready_goes_as_one_batch(server: Bare) -> None:
    one, two, three = streams(server, 3)
    server.endpoint.push(one, server.dump(1))
    server.endpoint.result(two, server.dump(2))
    server.endpoint.push(one, server.dump(3))
    server.endpoint.finish(three)
    server.say(["ping", 5])
    assert server.batches() == [[["pong", 5], ["message", 1, [1, 3]], ["result", 3, 2], ["end", 5]]]
    assert server.batches() == []


def test_link_frames_go_first(codec: Codec) -> None:
    client = Bare(codec, "connecting", greet=False)
    for _ in range(8):
        client.endpoint.call("A.b", client.dump("x" * 20_000))
    client.say(client.hello, ["ping", 3])
    first = client.batches()[0]
    assert [frame[0] for frame in first[:4]] == ["hello", "ack", "pong", "call"]


def test_no_stream_delays_another_ids_answer_by_more_than_a_quantum(server: Bare) -> None:
    greedy, modest = streams(server, 2)
    for n in range(20_000):
        server.endpoint.push(greedy, server.dump(n))
    server.endpoint.result(modest, server.dump("done"))
    size, first = batches(server)[0]
    ahead = first[: [frame[0] for frame in first].index("result")]
    assert [frame[:2] for frame in ahead] == [["message", 1]]
    assert sum(len(server.dump(frame)) for frame in ahead) <= QUANTUM + 100
    assert size <= BATCH_TARGET


def test_an_answer_waits_for_one_quantum_of_each_stream_before_it(server: Bare) -> None:
    *greedy, modest = streams(server, 8)
    for call in greedy:
        for _ in range(60):
            server.endpoint.push(call, server.dump("x" * 1000))
    server.endpoint.result(modest, server.dump("done"))
    written = 0
    for size, batch in batches(server):
        if ["result", modest.id, "done"] in batch:
            break
        written += size
    assert written <= len(greedy) * (QUANTUM + 1100)


def test_streams_take_turns(server: Bare) -> None:
    calls = streams(server, 10)
    for call in calls:
        for n in range(64):
            server.endpoint.push(call, server.dump([n, "x" * 1000]))
        server.endpoint.finish(call)
    seen: dict[int, int] = {call.id: 0 for call in calls}
    for _, batch in batches(server):
        for frame in batch:
            if frame[0] == "message":
                seen[frame[1]] += len(frame[2])
        unfinished = [n for n in seen.values() if n < 64]
        if unfinished:
            assert max(seen.values()) - min(unfinished) <= 2 * (QUANTUM // 1000 + 1)
    assert set(seen.values()) == {64}


def test_a_large_value_is_followed_by_whoever_waits(codec: Codec) -> None:
    server = Bare(codec, "accepting", hello={"limits": {"max_batch": 2**21}})
    large, small = streams(server, 2)
    for _ in range(3):
        server.endpoint.push(large, server.dump("x" * 500_000))
    server.endpoint.result(small, server.dump("done"))
    order = [[frame[1] for frame in batch] for _, batch in batches(server)]
    assert order[0] == [large.id], "a frame above 64 KiB goes alone"
    assert small.id in order[1]
    assert [id for batch in order for id in batch].count(large.id) == 3


def test_no_batch_goes_above_64_kib_unless_one_frame_does(codec: Codec) -> None:
    server = Bare(codec, "accepting", hello={"limits": {"max_batch": 2**21}})
    calls = streams(server, 12)
    sizes = [1, 10, 16_383, 16_384, 30_000, 65_000, 65_436, 65_536, 100_000, 300, 70_000, 16_000]
    for call, size in zip(calls, sizes, strict=True):
        for _ in range(5):
            server.endpoint.push(call, server.dump("x" * size))
        server.endpoint.fail(call, ErrorBody("aborted", "\x00" * 3000))
    total = 0
    for size, batch in batches(server):
        assert size <= BATCH_TARGET or len(batch) == 1
        total += sum(len(frame[2]) for frame in batch if frame[0] == "message")
    assert total == 60
    assert server.endpoint.outbox_bytes == 0


# What makes a call long besides its arguments.
LONG: list[dict[str, Any]] = [
    {"method": "\x00" * 300},
    {"method": "ü" * 300, "oneway": True, "deadline": 1e12},
    {"options": CallOptions(metadata={"\x01" * 50: "\x02" * 50}, key="\x03" * 50)},
    {"uploads": tuple(f"{m}" for m in range(15))},
    {"callbacks": tuple("\x05" * (40 + m) for m in range(15)), "deadline": 1e12},
]


@pytest.mark.rule("BATCH-6")
@pytest.mark.parametrize("long", range(len(LONG)))
def test_calls_stay_within_their_estimate(codec: Codec, long: int) -> None:
    for padding in range(0, 400, 20):
        client = Bare(codec, "connecting", hello={"limits": {"max_calls": 5000}})
        client.endpoint._next_id = 2**52 + 1  # the longest ids there are
        for _ in range(200):
            request = {"method": "A.b", "args": client.dump({"x": "x" * padding}), **LONG[long]}
            client.endpoint.call(**request)
        out = batches(client)
        assert sum(len(batch) for _, batch in out) == 200
        assert max(size for size, _ in out) <= BATCH_TARGET


@pytest.mark.rule("BATCH-6")
def test_credits_and_cancels_stay_within_their_estimate(codec: Codec) -> None:
    client = Bare(codec, "connecting", hello={"limits": {"max_calls": 5000}})
    client.endpoint._next_id = 2**52 + 1
    calls = [client.endpoint.call("A.b", client.dump({}), window=0) for _ in range(3000)]
    client.hear()
    for call in calls:
        client.endpoint.consumed(call, 0, waiting=True)
    out = batches(client)
    for call in calls:
        client.endpoint.cancel(call, "deadline_exceeded")
    out += batches(client)
    assert sum(len(batch) for _, batch in out) == 6000
    assert max(size for size, _ in out) <= BATCH_TARGET


@pytest.mark.rule("BATCH-6")
def test_a_batch_never_passes_its_bound_by_a_few_bytes(codec: Codec) -> None:
    server = Bare(codec, "accepting", limits=Limits(max_calls=1000))
    sizes = []
    for n, size in enumerate(range(65_100, 65_430)):
        large = server.call("call", 4 * n + 1, "A.b", {})
        small = server.call("call", 4 * n + 3, "A.b", {})
        server.endpoint.result(large, server.dump("x" * size))
        server.endpoint.result(small, server.dump("x" * 100))
        sizes += [size for size, _ in batches(server)]
    assert max(sizes) <= 65_536
    assert len(sizes) < 2 * 330, "some pairs fit one batch"


@pytest.mark.rule("MSG-2", "BATCH-5")
def test_order_holds_within_an_id_whatever_its_items_weigh(codec: Codec) -> None:
    server = Bare(codec, "accepting", hello={"limits": {"max_batch": 2**20}})
    calls = streams(server, 3)
    sizes = [5, 70_000, 5, 16_384, 40_000, 40_000, 5, 200_000, 16_000, 500, 65_536, 1]
    for call in calls:
        for n, size in enumerate(sizes):
            server.endpoint.push(call, server.dump([n, "x" * size]))
        server.endpoint.finish(call)
    frames = [frame for _, batch in batches(server) for frame in batch]
    for call in calls:
        mine = [frame for frame in frames if frame[1] == call.id]
        assert mine[-1] == ["end", call.id, None]
        items = [item[0] for frame in mine[:-1] for item in frame[2]]
        assert items == list(range(len(sizes)))


def test_the_outbox_counts_what_waits_and_nothing_else(codec: Codec) -> None:
    client = Bare(codec, "connecting", limits=Limits(outbox=50_000))
    endpoint = client.endpoint
    calls = [endpoint.call("A.b", client.dump("x" * 1000), uploads=("u",)) for _ in range(8)]
    assert 8_000 < endpoint.outbox_bytes < 12_000
    waiting = endpoint.call("A.b", client.dump("x" * 100_000 if False else "x" * 30_000))
    assert endpoint.outbox_bytes < 12_000, "a call that waits for a slot is not in the outbox"
    endpoint.cancel(waiting)
    client.hear()
    assert endpoint.outbox_bytes == 0
    for call in calls:
        endpoint.push(call.uploads["u"], client.dump("x" * 5_000))
    assert 40_000 < endpoint.outbox_bytes < 41_000
    client.say(["cancel", calls[0].uploads["u"].id], ["end", calls[1].id])
    endpoint.cancel(calls[2])
    assert 25_000 < endpoint.outbox_bytes < 26_000
    client.hear()
    assert endpoint.outbox_bytes == 0


@pytest.mark.rule("NUM-2")
def test_nothing_piles_up_for_one_id(client: Bare) -> None:
    call = client.endpoint.call("A.b", client.dump({}), window=0)
    client.hear()
    for _ in range(100):
        client.endpoint.consumed(call, 0, waiting=True)
        call.window.balance = 0
    client.endpoint.cancel(call)
    client.endpoint.cancel(call)
    for n in range(100):
        client.say(["ping", n])
    assert client.hear() == [["pong", 99], ["cancel", 1, "cancelled"]]


# ---------------------------------------------------------------- large values among others

CHUNKS = {"limits": {"max_batch": 2**18, "max_value": 2**24, "max_held": 2**25}}


def taking(codec: Codec, **options: Any) -> Bare:
    """An accepting endpoint whose peer takes chunks."""
    return Bare(codec, "accepting", hello=CHUNKS, **options)


@pytest.mark.rule("OUT-2")
def test_a_small_answer_goes_with_the_next_batch_whatever_is_under_way(codec: Codec) -> None:
    server = taking(codec)
    large, *small = streams(server, 13)
    server.endpoint.result(large, server.dump("x" * 2_000_000))
    for call in small:
        assert server.endpoint.next_batch(0.0) is not None
        server.endpoint.result(call, server.dump("done"))
        following = server.endpoint.next_batch(0.0)
        assert following is not None
        assert ["result", call.id, "done"] in decode(codec, following)
    assert 0 < server.endpoint.outbox_bytes < 1_000_000, "the large one went on meanwhile"


@pytest.mark.rule("OUT-2")
def test_large_values_on_several_ids_take_turns_of_a_quantum(codec: Codec) -> None:
    server = taking(codec)
    calls = streams(server, 3)
    for call in calls:
        server.endpoint.result(call, server.dump("x" * 600_000))
    sent = dict.fromkeys((call.id for call in calls), 0)
    for size, batch in batches(server):
        assert size <= BATCH_TARGET
        for frame in batch:
            if frame[0] == "chunk":
                sent[frame[1]] += len(frame[3])
        unfinished = [n for n in sent.values() if n < 600_000]
        if len(unfinished) > 1:
            assert max(unfinished) - min(unfinished) <= BATCH_TARGET
    assert all(n > 600_000 for n in sent.values())


@pytest.mark.rule("OUT-1")
def test_a_large_value_alone_goes_in_pieces_of_a_batch(codec: Codec) -> None:
    server = taking(codec)
    [call] = streams(server, 1)
    server.endpoint.result(call, server.dump("x" * 1_000_000))
    out = batches(server)
    assert len(out) <= 1_000_000 // BATCH_TARGET + 2
    assert max(size for size, _ in out) <= BATCH_TARGET


@pytest.mark.rule("OUT-2")
def test_items_above_a_quantum_are_paid_for_by_standing_back(codec: Codec) -> None:
    server = taking(codec)
    heavy, light = streams(server, 2)
    for _ in range(40):
        server.endpoint.push(heavy, server.dump("x" * 60_000))
    for _ in range(1600):
        server.endpoint.push(light, server.dump("y" * 1000))
    sent = {heavy.id: 0, light.id: 0}
    for _, batch in batches(server)[:40]:
        for frame in batch:
            sent[frame[1]] += sum(map(len, frame[2]))
        if sent[light.id] < 1_500_000:
            assert sent[heavy.id] - sent[light.id] <= 2 * BATCH_TARGET
    assert sent[light.id] >= 0.6 * sent[heavy.id]


@pytest.mark.rule("OUT-3")
def test_a_large_value_leaves_room_for_others(codec: Codec) -> None:
    server = taking(codec, limits=Limits(outbox=100_000))
    large, small = streams(server, 2)
    server.endpoint.push(large, server.dump("x" * 500_000))
    assert server.endpoint.outbox_bytes > 500_000
    assert not server.endpoint.outbox_full
    assert not server.endpoint.may_push(large), "one large value an id"
    assert server.endpoint.lacks_room(large)
    pushed = 0
    while server.endpoint.may_push(small):
        server.endpoint.push(small, server.dump("y" * 10_000))
        pushed += 1
    assert pushed == 10
    batches(server)
    assert server.endpoint.may_push(large)
    assert server.endpoint.outbox_bytes == 0


# ---------------------------------------------------------------- peers that do not read


@pytest.mark.rule("OUT-4")
def test_refusals_that_are_not_read_close_with_4004(codec: Codec) -> None:
    server = Bare(codec, "accepting", limits=Limits(max_calls=8, outbox=10_000))
    endpoint = server.endpoint
    id = 1
    with pytest.raises(ProtocolError) as caught:
        for id in range(1, 20_001, 2):
            server.say(["call", id, "A.b", {}])
    assert caught.value.close_code == 4004
    assert 10_000 < endpoint.outbox_bytes < 10_000 + 64 * 1024
    assert id == 2 * (8 + MAX_REFUSALS) + 1
    assert endpoint.received > 0, "the batch was taken, and the session can be resumed"


@pytest.mark.rule("OUT-4", "SLOT-4", "CALM-3")
def test_a_peer_that_reads_and_takes_its_time_is_refused_for_as_long_as_it_likes(
    codec: Codec,
) -> None:
    server = Bare(codec, "accepting", limits=Limits(max_calls=8, outbox=1))
    for id in range(1, 10_001, 2):
        server.now += 0.01
        server.say(["call", id, "A.b", {}])
        server.endpoint.next_batch(0.0)
    assert len(server.endpoint.live_calls()[1]) == 8


@pytest.mark.rule("OUT-3", "SLOT-2", "CB-2")
def test_answers_that_are_not_read_keep_their_places(codec: Codec) -> None:
    server = Bare(codec, "accepting", limits=Limits(max_calls=8))
    begun = 0
    for id in range(1, 2_001, 2):
        for event in server.say(["call", id, "A.b", {}], ["cancel", id]):
            if isinstance(event, CallReceived):
                begun += 1
                server.endpoint.refuse(event.call, "cancelled", "")
    assert begun == 8, "the terminals of eight calls wait to be written, and no more begin"
    client = Bare(codec, "connecting")
    client.endpoint.call("A.b", client.dump({}), callbacks=("c",))
    client.hear()
    for id in range(2, 1_000, 2):
        for event in client.say(["call", id, 3, []]):
            assert isinstance(event, CallReceived)
            client.endpoint.result(event.call, client.dump(None))
    assert sum(frame[0] == "result" for frame in client.hear()) == 8
