"""Topics in one process: snapshot, history, policies, positions, and one encoding for all."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

import wsrpc
from tests.cluster.support import node
from tests.support import Codec, error_of, soon, until, wire_of
from wsrpc.cluster import Cluster, ClusterLimits, Snapshot, Superseded, TopicGap, TopicTaken
from wsrpc.values.tracked import TrackedAdapter


class Price(BaseModel):
    symbol: str
    cents: int


class Board(BaseModel):
    total: int


def price(i: int) -> Price:
    return Price(symbol="tea", cents=i)


async def test_a_latecomer_gets_the_history_and_then_what_is_live() -> None:
    async with node() as place:
        topic = place.cluster.topic("prices", Price)
        async with topic.produce() as producer:
            ids = [producer.publish(price(i)) for i in range(5)]
            reader = topic.subscribe()
            got = [await anext(reader) for _ in range(5)]
            assert [one.id for one in got] == ids
            producer.publish(price(5))
            got.append(await anext(reader))
            assert [one.value.cents for one in got] == list(range(6))
            assert reader.lag == 0
        assert await reader.collect() == []


async def test_next_with_a_timeout_leaves_a_reader_alone_and_no_item_is_lost() -> None:
    async with node() as place:
        topic = place.cluster.topic("prices", Price)
        async with topic.produce() as producer:
            reader = topic.subscribe()
            for i in range(3):
                for _ in range(3):
                    with pytest.raises(TimeoutError, match="no item came in time"):
                        await reader.next(timeout=0.001)
                with pytest.raises(ValueError, match="timeout must be a finite number"):
                    await reader.next(timeout=math.nan)
                producer.publish(price(i))
                assert (await reader.next(timeout=5)).value == price(i)
        with pytest.raises(StopAsyncIteration):
            await reader.next(timeout=5)


async def test_a_reader_whose_wait_was_cancelled_says_so_and_does_not_look_complete() -> None:
    async with node() as place:
        topic = place.cluster.topic("prices", Price)
        async with topic.produce() as producer:
            reader = topic.subscribe()
            with anyio.move_on_after(0.01):
                await anext(reader)
            producer.publish(price(0))
            for _ in range(2):
                with error_of("cancelled") as caught:
                    await anext(reader)
                assert "stream.next(timeout=…)" in caught.value.message
            await reader.aclose()
            assert await reader.collect() == []


async def test_a_latecomer_begins_with_the_producers_snapshot() -> None:
    async with node() as place:
        topic = place.cluster.topic("prices", Price, Board)
        total = 0
        asked = 0

        def board() -> Board:
            nonlocal asked
            asked += 1
            return Board(total=total)

        async with topic.produce(snapshot=board) as producer:
            for i in range(5):
                total += i
                producer.publish(price(i))
            first, second = topic.subscribe(), topic.subscribe()
            one = await anext(first)
            assert isinstance(one.value, Snapshot)
            assert one.value.snapshot.total == 10
            assert (await anext(second)).id == one.id
            # Those that come at one position share it.
            assert asked == 1
            producer.publish(price(7))
            after = await anext(first)
            assert isinstance(after.value, Price)
            assert after.value.cents == 7
            earliest = topic.subscribe(start="earliest")
            value = (await anext(earliest)).value
            assert isinstance(value, Price)
            assert value.cents == 0
            for reader in (first, second, earliest):
                await reader.aclose()


async def test_latest_begins_with_what_comes_from_now_on() -> None:
    async with node() as place:
        topic = place.cluster.topic("n", int)
        async with topic.produce() as producer:
            producer.publish(1)
            reader = topic.subscribe(start="latest")
            producer.publish(2)
            assert (await anext(reader)).value == 2
            await reader.aclose()


async def test_history_is_bounded_by_items_and_by_bytes() -> None:
    async with node() as place:
        topic = place.cluster.topic("a", int, history=3)
        async with topic.produce() as producer:
            for i in range(10):
                producer.publish(i)
            reader = topic.subscribe()
            assert [(await anext(reader)).value for _ in range(3)] == [7, 8, 9]
            await reader.aclose()
        big = place.cluster.topic("b", str, history_bytes=1000)
        async with big.produce() as texts:
            for i in range(10):
                texts.publish(f"{i}" * 300)
            newest = big.subscribe()
            assert (await anext(newest)).value[0] == "7"
            await newest.aclose()


@pytest.mark.parametrize("overflow", ["fail", "drop_oldest", "latest"])
async def test_a_reader_that_is_left_behind_is_treated_as_it_asked(overflow: Any) -> None:
    async with node() as place:
        topic = place.cluster.topic("n", int, history=3)
        async with topic.produce() as producer:
            producer.publish(0)
            reader = topic.subscribe(overflow=overflow)
            assert (await anext(reader)).value == 0
            for i in range(1, 10):
                producer.publish(i)
            if overflow == "fail":
                with pytest.raises(TopicGap) as caught:
                    await anext(reader)
                epoch = caught.value.data["asked"].partition(".")[0]
                assert caught.value.data == {
                    "asked": f"{epoch}.1",
                    "first": f"{epoch}.8",
                    "last": f"{epoch}.10",
                    "why": "evicted",
                }
                assert caught.value.code == "data_loss"
            elif overflow == "drop_oldest":
                assert (await anext(reader)).value == 7
                assert reader.dropped == 6
            else:
                assert (await anext(reader)).value == 9
                assert reader.dropped == 8
            await reader.aclose()


async def test_a_slow_reader_holds_up_nobody() -> None:
    async with node() as place:
        topic = place.cluster.topic("n", int, history=10)
        async with topic.produce() as producer:
            slow, quick = topic.subscribe(), topic.subscribe()
            producer.publish(0)
            assert (await anext(slow)).value == 0
            for i in range(100):
                producer.publish(i)
                assert (await anext(quick)).value == max(0, i - 1)
            with pytest.raises(TopicGap):
                for _ in range(100):
                    await anext(slow)
            await quick.aclose()


async def test_a_position_is_taken_up_again_or_the_gap_is_told() -> None:
    async with node() as place:
        topic = place.cluster.topic("n", int, history=3)
        async with topic.produce() as producer:
            ids = [producer.publish(i) for i in range(10)]
            reader = topic.subscribe(after=ids[7])
            assert [(await anext(reader)).value for _ in range(2)] == [8, 9]
            await reader.aclose()
            reader = topic.subscribe(after=ids[6])
            assert (await anext(reader)).value == 7
            await reader.aclose()
            epoch = ids[0].partition(".")[0]
            for after, why in [
                (ids[5], "evicted"),
                ("00000000.4", "epoch"),
                ("nonsense", "epoch"),
                (f"{epoch}.{'9' * 30}", "epoch"),
                (f"{epoch}.11", "ahead"),
            ]:
                with pytest.raises(TopicGap) as caught:
                    await anext(topic.subscribe(after=after))
                assert caught.value.data["why"] == why, after
                assert caught.value.data["asked"] == after
                reader = topic.subscribe(after=after, on_gap="snapshot")
                assert (await anext(reader)).value == 7
                await reader.aclose()


async def test_a_node_that_goes_tells_no_reader_of_a_gap() -> None:
    with soon():
        async with anyio.create_task_group() as group:
            async with Cluster(wsrpc.Server([])) as cluster:
                reader = cluster.topic("n", int).subscribe(after="00000000.4")

                async def read() -> None:
                    with error_of("unavailable"):
                        await anext(reader)

                group.start_soon(read)
                await anyio.wait_all_tasks_blocked()


async def test_a_gap_goes_on_with_a_snapshot_where_that_was_asked_for() -> None:
    async with node() as place:
        topic = place.cluster.topic("n", int, int, history=3)
        async with topic.produce(snapshot=lambda: 42) as producer:
            ids = [producer.publish(i) for i in range(10)]
            reader = topic.subscribe(after=ids[0], on_gap="snapshot")
            item = await anext(reader)
            assert item == wsrpc.Tracked(ids[9], Snapshot(42))
            await reader.aclose()


async def test_a_topic_has_one_producer() -> None:
    async with node() as place:
        topic = place.cluster.topic("n", int)
        async with topic.produce() as first:
            with pytest.raises(TopicTaken):
                async with topic.produce():
                    pass
            first.publish(1)
            order: list[str] = []
            reader = topic.subscribe()
            async with anyio.create_task_group() as group:

                async def stand_by() -> None:
                    async with topic.produce(standby=True) as second:
                        order.append("second")
                        second.publish(3)
                        raise ValueError

                async def guarded() -> None:
                    with pytest.raises(ValueError):
                        await stand_by()

                group.start_soon(guarded)
                await anyio.sleep(0.01)
                first.publish(2)
                await first.abandon()
                order.append("first")
                with pytest.raises(Superseded):
                    first.publish(9)
            assert order == ["first", "second"]
            assert [(await anext(reader)).value for _ in range(3)] == [1, 2, 3]
            await reader.aclose()


async def test_the_regular_end_ends_the_readers_and_a_failure_lets_them_wait() -> None:
    async with node() as place:
        topic = place.cluster.topic("n", int)
        with pytest.raises(ValueError):
            async with topic.produce() as producer:
                producer.publish(1)
                raise ValueError
        reader = topic.subscribe()
        assert (await anext(reader)).value == 1
        with error_of("unavailable"):
            patient = topic.subscribe(wait=0.01, start="latest")
            await anext(patient)
        async with topic.produce() as producer:
            producer.publish(2)
            assert (await anext(reader)).value == 2
        assert await reader.collect() == []
        assert [one.value async for one in topic.subscribe()] == [1, 2]


async def test_a_reader_without_a_producer_waits_so_long_and_no_longer() -> None:
    async with node() as place:
        topic = place.cluster.topic("n", int)
        with error_of("unavailable"):
            await anext(topic.subscribe(wait=0.01))
        async with anyio.create_task_group() as group:
            got = []

            async def take() -> None:
                got.append((await anext(topic.subscribe())).value)

            group.start_soon(take)
            await anyio.sleep(0.01)
            async with topic.produce() as producer:
                producer.publish(1)
                await until(lambda: got == [1])


async def test_what_does_not_fit_the_type_fails_where_it_is_published() -> None:
    async with node() as place:
        topic = place.cluster.topic("n", int)
        async with topic.produce() as producer:
            with error_of("invalid_argument"):
                producer.publish("many")  # type: ignore[arg-type]
            assert producer.publish(1).endswith(".1")


class Prices:
    def __init__(self, topic: Any) -> None:
        self.topic = topic

    @wsrpc.method
    def prices(self) -> AsyncIterator[wsrpc.Tracked[Price]]:
        return self.topic.subscribe()  # type: ignore[no-any-return]


async def test_a_client_that_reconnects_continues_after_its_last_item(codec: Codec) -> None:
    controller = Prices(None)
    async with node([controller], limits=ClusterLimits()) as place:
        controller.topic = topic = place.cluster.topic("prices", Price)
        session = await place.connect(codec=codec)
        async with topic.produce() as producer:
            for i in range(10):
                producer.publish(price(i))
            got = []
            async with session.clientize(Prices).prices() as items:
                for _ in range(10):
                    got.append((await anext(items)).value.cents)
                # The session is gone for good: its client opens the stream again.
                wire_of(place.server.sessions[session.id]).expel(1012, "gone")
                with soon():
                    for i in range(10, 20):
                        producer.publish(price(i))
                        got.append((await anext(items)).value.cents)
        assert got == list(range(20))


async def test_an_item_is_encoded_once_however_many_readers_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded = 0
    plain = TrackedAdapter.dump_pair

    def counting(self: TrackedAdapter, item: Any, codec: Any) -> Any:
        nonlocal encoded
        encoded += 1
        return plain(self, item, codec)

    monkeypatch.setattr(TrackedAdapter, "dump_pair", counting)
    controller = Prices(None)
    async with node([controller]) as place:
        controller.topic = topic = place.cluster.topic("prices", Price)
        sessions = [await place.connect() for _ in range(5)]
        sessions += [await place.connect(codec="msgpack") for _ in range(5)]
        async with topic.produce() as producer:
            for i in range(10):
                producer.publish(price(i))
            for session in sessions:
                async with session.clientize(Prices).prices() as items:
                    assert [(await anext(items)).value.cents for _ in range(10)] == list(range(10))
        # Once for each codec.
        assert encoded == 20


async def test_topics_and_their_bytes_are_bounded() -> None:
    limits = ClusterLimits(max_topics=2, max_topic_bytes=1000)
    async with node(limits=limits) as place:
        cluster = place.cluster
        async with cluster.topic("a", str).produce() as a, cluster.topic("b", str).produce() as b:
            with error_of("resource_exhausted"):
                cluster.topic("c", str).subscribe()
            a.publish("x" * 600)
            b.publish("y" * 600)
            assert cluster.snapshot().topic_bytes <= 1000
            reader = cluster.topic("b", str).subscribe()
            assert (await anext(reader)).value[0] == "y"
            await reader.aclose()
        # An idle one makes room.
        cluster.topic("c", str).subscribe().cancel()
        assert cluster.snapshot().topics == 2


@pytest.mark.parametrize("wrong", [{"overflow": "block"}, {"start": "first"}, {"on_gap": "skip"}])
async def test_a_reader_that_is_asked_for_in_a_way_there_is_none_is_refused(
    wrong: dict[str, Any],
) -> None:
    async with node() as place:
        topic = place.cluster.topic("n", int)
        with pytest.raises(ValueError, match=next(iter(wrong))):
            topic.subscribe(**wrong)
        # It is no reader.
        assert place.cluster.snapshot().topics == 0
