"""Calls and streams that are made again when a session could not be resumed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

import wsrpc
from tests.support import Codec, error_of, pair, soon, until, wire_of
from wsrpc.backoff import Backoff
from wsrpc.server.server import Server
from wsrpc.testing.pairs import connected_pair
from wsrpc.transport.base import Link


@pytest.fixture(autouse=True)
def no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long to wait is shown without an event loop; here nobody has to wait for it."""
    at_once = partial(Backoff, lambda: 0.0)
    monkeypatch.setattr("wsrpc.session.reconnect.Backoff", at_once)
    monkeypatch.setattr(
        "wsrpc.calling.retry.Backoff", lambda uniform, **options: at_once(**options)
    )


class Pair(connected_pair):
    """A connected pair whose server can be killed, and another one started in its place."""

    def __init__(
        self, controllers: Sequence[Any], client_controllers: Sequence[Any] = (), **options: Any
    ) -> None:
        options.setdefault("reconnect", True)
        super().__init__(controllers, client_controllers, **options)
        limits = options.get("limits")
        self._make = partial(Server, controllers, authenticate=self._authenticate, limits=limits)
        self._up: anyio.Event | None = None

    def unplug(self) -> None:
        """Break the connection, and let no other come about until the server is restarted."""
        self._up = anyio.Event()
        self.cut()

    def restart(self) -> None:
        """Lose all that the server knew, and the connection."""
        dead, self._server = self._server, self._make()
        self.cut()
        for session in dead.sessions.values():
            wire_of(session).lose(1006, "killed")
        if self._up is not None:
            self._up.set()

    @asynccontextmanager
    async def open(self, address: int) -> AsyncIterator[Link]:
        if self._up is not None:
            await self._up.wait()
        async with super().open(address) as link:
            yield link


class Note(BaseModel):
    text: str
    data: bytes = b""


class Service:
    def __init__(self) -> None:
        self.runs: list[str] = []
        self.asked: list[str | None] = []
        self.failing = 0
        self.gates: list[anyio.Event] = []

    def fail(self) -> None:
        if self.failing:
            self.failing -= 1
            raise wsrpc.RpcError("unavailable", "not now")

    @wsrpc.method
    async def once(self, key: str) -> str:
        self.runs.append(key)
        self.fail()
        return key

    @wsrpc.method(idempotent=True)
    async def again(self, key: str) -> str:
        self.runs.append(key)
        self.fail()
        return key

    @wsrpc.method
    async def hang_once(self, key: str) -> str:
        self.runs.append(key)
        await anyio.sleep_forever()
        return key

    @wsrpc.method(idempotent=True)
    async def hang_first(self, key: str) -> str:
        self.runs.append(key)
        if len(self.runs) == 1:
            await anyio.sleep_forever()
        return key

    @wsrpc.method(oneway=True)
    async def tell(self, key: str) -> None:
        self.runs.append(key)

    @wsrpc.method(idempotent=True)
    async def gather(self, things: AsyncIterator[str]) -> list[str]:
        self.runs.append("gather")
        gathered = [thing async for thing in things]
        self.fail()
        return gathered

    @wsrpc.method
    async def report(self, on_step: Callable[[int], Awaitable[None]]) -> str:
        await on_step(1)
        return "done"

    @wsrpc.method
    async def numbers(self, n: int) -> AsyncIterator[int]:
        self.runs.append("numbers")
        for i in range(n):
            yield i

    @wsrpc.method(idempotent=True)
    async def ticks(self, first: int) -> AsyncIterator[int]:
        self.runs.append("ticks")
        if len(self.runs) == 1:
            for i in range(first):
                yield i
            await anyio.sleep_forever()
        for i in range(3):
            yield i

    @wsrpc.method
    async def tracked(self, n: int) -> AsyncIterator[wsrpc.Tracked[Note] | wsrpc.Final[int]]:
        last = wsrpc.current().last_id
        self.asked.append(last)
        self.fail()
        for i in range(0 if last is None else int(last) + 1, n):
            if self.failing:
                self.fail()
            yield wsrpc.Tracked(str(i), Note(text=f"note {i}", data=bytes([i % 256])))
        yield wsrpc.Final(n)

    @wsrpc.method
    async def shout(self, lines: AsyncIterator[str]) -> AsyncIterator[wsrpc.Tracked[str]]:
        self.asked.append(wsrpc.current().last_id)
        async for line in lines:
            yield wsrpc.Tracked(line, line.upper())

    @wsrpc.method
    async def odd(self) -> AsyncIterator[wsrpc.Tracked[int]]:
        yield 1  # type: ignore[misc]  # pyright: ignore[reportReturnType]


# ------------------------------------------------------------------------------ single values


@pytest.mark.rule("RETRY-1")
async def test_a_call_that_was_never_sent_is_made_on_the_next_session(codec: Codec) -> None:
    """Nobody had seen it, so it need not be idempotent."""
    service = Service()
    both = Pair([service], codec=codec)
    with soon():
        async with both as (_, client), anyio.create_task_group() as group:
            proxy = client.clientize(Service)
            both.unplug()
            await until(lambda: client.state == "detached")
            group.start_soon(proxy.once, "a")
            await until(lambda: wire_of(client).endpoint.outbox_bytes > 0)
            both.restart()
            await until(lambda: service.runs == ["a"])
        assert service.runs == ["a"]


@pytest.mark.rule("RETRY-1", "CLOSE-4")
async def test_a_call_that_may_have_run_fails_and_the_session_goes_on(codec: Codec) -> None:
    service = Service()
    both = Pair([service], codec=codec)
    with soon():
        async with both as (_, client):
            proxy = client.clientize(Service)
            async with anyio.create_task_group() as group:

                async def call() -> None:
                    with pytest.raises(wsrpc.ConnectionLost) as caught:
                        await proxy.hang_once("a")
                    assert (caught.value.code, caught.value.not_started) == ("unavailable", False)

                group.start_soon(call)
                await until(lambda: service.runs == ["a"])
                both.restart()
            assert await proxy.once("b") == "b"
        assert service.runs == ["a", "b"]


@pytest.mark.rule("RETRY-1")
async def test_a_call_of_an_idempotent_method_is_made_again(codec: Codec) -> None:
    service = Service()
    both = Pair([service], codec=codec)
    with soon():
        async with both as (_, client), anyio.create_task_group() as group:

            async def call() -> None:
                assert await client.clientize(Service).hang_first("a") == "a"

            group.start_soon(call)
            await until(lambda: service.runs == ["a"])
            both.restart()
        assert service.runs == ["a", "a"]


@pytest.mark.rule("RETRY-1")
async def test_an_answer_that_was_lost_with_its_session_is_asked_for_again(codec: Codec) -> None:
    service = Service()
    both = Pair([service], codec=codec, limits=wsrpc.Limits(resume_window=0))
    both.cut(before="result")
    with soon():
        async with both as (_, client):
            assert await client.clientize(Service).again("a") == "a"
    assert (service.runs, both.cuts) == (["a", "a"], 1)


@pytest.mark.rule("RETRY-1")
async def test_what_a_handler_says_is_unavailable_is_repeated_if_the_method_is_idempotent(
    codec: Codec,
) -> None:
    """It has run, although it says otherwise."""
    service = Service()
    async with pair([service], codec=codec) as (_, client):
        proxy = client.clientize(Service)
        service.failing = 2
        assert await proxy.again("a") == "a"
        assert service.runs == ["a", "a", "a"]
        service.failing = 1
        with error_of("unavailable") as caught:
            await proxy.once("b")
        assert not caught.value.not_started
        assert service.runs == ["a", "a", "a", "b"]


@pytest.mark.rule("RETRY-1")
async def test_the_accepting_side_repeats_calls_in_the_same_way() -> None:
    service = Service()
    async with pair([], [service]) as (server, _):
        service.failing = 1
        assert await server.clientize(Service).again("a") == "a"
    assert service.runs == ["a", "a"]


@pytest.mark.rule("RETRY-1")
async def test_a_contract_says_which_methods_are_idempotent() -> None:
    service = Service()
    contract = Server([service]).contract()
    methods = contract["Service"]["methods"]
    assert [name for name, one in methods.items() if one.get("idempotent")] == [
        "again",
        "hang_first",
        "gather",
        "ticks",
        "tracked",
        "shout",
        "odd",
    ]
    async with pair([service]) as (_, client):
        service.failing = 1
        assert await client.clientize(contract["Service"]).again(key="a") == "a"
        service.failing = 1
        with error_of("unavailable"):
            await client.clientize("Service").again(key="b")
    assert service.runs == ["a", "a", "b"]


@pytest.mark.rule("RETRY-1")
async def test_so_many_attempts_and_the_error_says_so() -> None:
    service = Service()
    async with pair([service], client_limits=wsrpc.Limits(retry_attempts=3)) as (_, client):
        service.failing = 10
        with error_of("unavailable") as caught:
            await client.clientize(Service).again("a")
    assert service.runs == ["a"] * 3
    assert caught.value.__notes__ == ["This was attempt 3; it is not repeated any more."]


@pytest.mark.rule("RETRY-1")
async def test_a_session_without_tokens_repeats_nothing_that_costs_anything() -> None:
    service = Service()
    both = Pair([service], client_limits=wsrpc.Limits(retry_tokens=0))
    with soon():
        async with both as (_, client), anyio.create_task_group() as group:
            service.failing = 1
            with error_of("unavailable"):
                await client.clientize(Service).again("a")
            both.unplug()
            await until(lambda: client.state == "detached")
            group.start_soon(client.clientize(Service).once, "b")
            await until(lambda: wire_of(client).endpoint.outbox_bytes > 0)
            both.restart()
            await until(lambda: service.runs == ["a", "b"])


@pytest.mark.rule("RETRY-1")
async def test_all_calls_of_a_session_share_one_budget() -> None:
    service = Service()
    limits = wsrpc.Limits(retry_tokens=20, retry_refund=0)
    async with pair([service], client_limits=limits) as (_, client):
        service.failing = 1000
        for _ in range(30):
            with error_of("unavailable"):
                await client.clientize(Service).again("a")
    # 30 calls, and ten repeats less the one that the last token above half would have paid for.
    assert len(service.runs) == 30 + 9


@pytest.mark.rule("RETRY-1")
async def test_no_repeat_begins_after_the_first_calls_deadline() -> None:
    """The handler's `retry_after` would be too late."""

    class Busy:
        runs = 0

        @wsrpc.method(idempotent=True)
        async def work(self) -> None:
            self.runs += 1
            error: wsrpc.RpcError[Any] = wsrpc.RpcError("unavailable", "busy")
            error.retry_after = 60
            raise error

    busy = Busy()
    async with pair([busy]) as (_, client):
        with error_of("unavailable") as caught:
            await client.clientize(Busy, timeout=10).work()
        assert caught.value.retry_after == 60
        with anyio.move_on_after(10), error_of("unavailable"):
            await client.clientize(Busy, timeout=None).work()
    assert busy.runs == 2


@pytest.mark.rule("RETRY-1")
async def test_a_repeat_has_what_is_left_of_the_first_calls_time() -> None:

    class Clock:
        def __init__(self) -> None:
            self.deadlines: list[float] = []

        @wsrpc.method(idempotent=True)
        async def work(self) -> None:
            deadline = wsrpc.current().deadline
            assert deadline is not None
            self.deadlines.append(deadline)
            await anyio.sleep(0.05)
            if len(self.deadlines) < 3:
                raise wsrpc.RpcError("unavailable")

    clock = Clock()
    async with pair([clock]) as (_, client):
        await client.clientize(Clock, timeout=10).work()
    assert len(clock.deadlines) == 3
    # Milliseconds are rounded up on the wire; a new timeout would have added 50 ms each.
    assert max(clock.deadlines) - min(clock.deadlines) < 0.04


@pytest.mark.rule("RETRY-1")
async def test_a_call_that_waits_to_be_repeated_can_be_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "wsrpc.calling.retry.Backoff", lambda *_, **__: Backoff(lambda: 1.0, first=5)
    )
    service = Service()
    service.failing = 1
    async with pair([service]) as (_, client), anyio.create_task_group() as group:
        group.start_soon(partial(client.clientize(Service, timeout=None).again, "a"))
        await until(lambda: service.runs == ["a"] and not service.failing)
        await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert service.runs == ["a"]


@pytest.mark.rule("RETRY-1")
async def test_a_session_that_is_closed_repeats_nothing() -> None:
    service = Service()
    with soon():
        async with connected_pair([service]) as (_, client):
            async with anyio.create_task_group() as group:

                async def call() -> None:
                    with pytest.raises(wsrpc.ConnectionLost):
                        await client.clientize(Service).hang_first("a")

                group.start_soon(call)
                await until(lambda: service.runs == ["a"])
                await client.aclose()
            with pytest.raises(wsrpc.ConnectionLost) as caught:
                await client.clientize(Service).again("b")
            assert caught.value.not_started
    assert service.runs == ["a"]


@pytest.mark.rule("RETRY-1")
async def test_interceptors_run_once_around_all_attempts() -> None:
    seen: list[str] = []

    async def note(request: wsrpc.Request, proceed: wsrpc.Next) -> Any:
        seen.append(request.method)
        return await proceed(request)

    service = Service()
    async with pair([service], client_interceptors=[note]) as (_, client):
        service.failing = 2
        with wsrpc.metadata(trace="t"):
            assert await client.clientize(Service).again("a") == "a"
    assert (seen, service.runs) == (["again"], ["a"] * 3)


# ------------------------------------------------------------------------------ what travels along


async def letters(log: list[str]) -> AsyncIterator[str]:
    for letter in "abc":
        log.append(letter)
        yield letter


@pytest.mark.rule("RETRY-1")
async def test_an_upload_that_has_not_begun_goes_with_the_call(codec: Codec) -> None:
    service, log = Service(), list[str]()
    both = Pair([service], codec=codec)
    with soon():
        async with both as (_, client), anyio.create_task_group() as group:
            both.unplug()
            await until(lambda: client.state == "detached")

            async def call() -> None:
                assert await client.clientize(Service).gather(letters(log)) == ["a", "b", "c"]

            group.start_soon(call)
            await until(lambda: wire_of(client).endpoint.outbox_bytes > 0)
            both.restart()
    assert (log, service.runs) == (["a", "b", "c"], ["gather"])


@pytest.mark.rule("RETRY-1")
async def test_an_upload_that_has_begun_cannot_be_wound_back() -> None:
    """Though the method is idempotent."""
    service, log = Service(), list[str]()
    async with pair([service]) as (_, client):
        service.failing = 1
        with error_of("unavailable"):
            await client.clientize(Service).gather(letters(log))
    assert (log, service.runs) == (["a", "b", "c"], ["gather"])


@pytest.mark.rule("RETRY-1")
async def test_callbacks_go_with_the_call() -> None:
    steps: list[int] = []

    async def step(n: int) -> None:
        steps.append(n)

    both = Pair([Service()])
    with soon():
        async with both as (_, client), anyio.create_task_group() as group:
            both.unplug()
            await until(lambda: client.state == "detached")

            async def call() -> None:
                assert await client.clientize(Service).report(step) == "done"

            group.start_soon(call)
            await until(lambda: wire_of(client).endpoint.outbox_bytes > 0)
            both.restart()
    assert steps == [1]


@pytest.mark.rule("RETRY-1")
async def test_a_notification_that_was_never_sent_goes_to_the_next_session(codec: Codec) -> None:
    """Its sender has long gone on."""
    service = Service()
    both = Pair([service], codec=codec)
    with soon():
        async with both as (_, client):
            proxy = client.clientize(Service)
            both.unplug()
            await until(lambda: client.state == "detached")
            for key in "abc":
                await proxy.tell(key)
            both.restart()
            await until(lambda: len(service.runs) == 3)
    assert sorted(service.runs) == ["a", "b", "c"]


@pytest.mark.rule("RETRY-1")
async def test_notifications_that_wait_for_a_slot_go_to_the_next_session() -> None:
    service = Service()
    both = Pair([service], limits=wsrpc.Limits(max_calls=8))
    with soon():
        async with both as (_, client), anyio.create_task_group() as group:
            proxy = client.clientize(Service)
            both.unplug()
            await until(lambda: client.state == "detached")
            for n in range(20):
                group.start_soon(proxy.tell, str(n))
            await until(lambda: wire_of(client).endpoint.outbox_bytes > 0)
            both.restart()
            await until(lambda: len(service.runs) == 20)
    assert sorted(service.runs, key=int) == [str(n) for n in range(20)]


# ------------------------------------------------------------------------------ streams


@pytest.mark.rule("RETRY-1")
async def test_a_stream_that_was_never_opened_is_opened_on_the_next_session(codec: Codec) -> None:
    service = Service()
    both = Pair([service], codec=codec)
    with soon():
        async with both as (_, client), anyio.create_task_group() as group:
            both.unplug()
            await until(lambda: client.state == "detached")

            async def read() -> None:
                assert await client.clientize(Service).numbers(3).collect() == [0, 1, 2]

            group.start_soon(read)
            await until(lambda: wire_of(client).endpoint.outbox_bytes > 0)
            both.restart()
    assert service.runs == ["numbers"]


@pytest.mark.rule("RETRY-1")
@pytest.mark.parametrize("first", [0, 1])
async def test_an_idempotent_stream_is_opened_again_unless_an_item_was_delivered(
    first: int,
) -> None:
    """What would come again might be another sequence."""
    service = Service()
    both = Pair([service])
    with soon():
        async with both as (_, client):
            items: list[int] = []
            async with anyio.create_task_group() as group:

                async def read() -> None:
                    async for item in client.clientize(Service).ticks(first):
                        items.append(item)

                async def read_to_the_end() -> None:
                    if first:
                        with pytest.raises(wsrpc.ConnectionLost):
                            await read()
                    else:
                        await read()

                group.start_soon(read_to_the_end)
                await until(lambda: service.runs == ["ticks"] and len(items) == first)
                both.restart()
    assert items == ([0] if first else [0, 1, 2])


# ------------------------------------------------------------------------------ tracked streams


@pytest.mark.rule("RETRY-3")
@pytest.mark.parametrize("overflow", ["block", "latest"])
async def test_a_tracked_stream_goes_on_after_the_last_item_delivered(
    codec: Codec, overflow: Any
) -> None:
    """Over a dozen restarts, without a gap or a duplicate."""
    service = Service()
    both = Pair([service], codec=codec)
    items: list[wsrpc.Tracked[Note]] = []
    with soon():
        async with both as (_, client):
            async with client.clientize(Service, overflow=overflow).tracked(200) as stream:
                async for item in stream:
                    items.append(item)
                    if len(items) % 15 == 0:
                        both.restart()
                assert stream.final == 200
    ids = [int(item.id) for item in items]
    assert ids == sorted(set(ids))
    if overflow == "block":
        assert items == [
            wsrpc.Tracked(str(i), Note(text=f"note {i}", data=bytes([i]))) for i in range(200)
        ]
        assert len(service.asked) > 5
    assert ids[-1] == 199
    assert service.asked[0] is None
    assert None not in service.asked[1:]


@pytest.mark.rule("RETRY-3")
async def test_items_that_have_arrived_are_delivered_before_the_stream_is_opened_again() -> None:
    service = Service()
    both = Pair([service])
    with soon():
        async with both as (_, client):
            stream = client.clientize(Service).tracked(10)
            assert (await anext(stream)).id == "0"
            await until(lambda: stream.lag == 9)
            both.restart()
            await until(lambda: client.state == "connected")
            assert service.asked == [None]
            assert [item.id for item in await stream.collect()] == [str(i) for i in range(1, 10)]
    assert service.asked == [None]


@pytest.mark.rule("RETRY-3")
async def test_a_tracked_stream_lost_before_its_first_item_begins_anew() -> None:
    service = Service()
    both = Pair([service], limits=wsrpc.Limits(resume_window=0))
    both.cut(before="message")
    with soon():
        async with both as (_, client):
            stream = client.clientize(Service).tracked(3)
            assert [item.id for item in await stream.collect()] == ["0", "1", "2"]
    assert (service.asked, both.cuts) == ([None, None], 1)


@pytest.mark.rule("RETRY-3")
async def test_a_tracked_stream_whose_method_gives_up_for_now_goes_on_too() -> None:
    service = Service()
    async with pair([service]) as (_, client):
        stream = client.clientize(Service).tracked(6)
        service.failing = 3
        assert [item.id for item in await stream.collect()] == [str(i) for i in range(6)]
    assert len(service.asked) == 4


@pytest.mark.rule("RETRY-1", "RETRY-3")
async def test_attempts_count_anew_when_a_tracked_stream_has_got_on() -> None:
    service = Service()
    async with pair([service], client_limits=wsrpc.Limits(retry_attempts=2)) as (_, client):
        stream = client.clientize(Service).tracked(40)
        ids = []
        async for item in stream:
            ids.append(item.id)
            if len(ids) < 3:
                # What is on its way already does not fail any more.
                service.failing = 1
        assert ids == [str(i) for i in range(40)]
        service.failing = 2
        with error_of("unavailable") as caught:
            await client.clientize(Service).tracked(40).collect()
        assert caught.value.__notes__


@pytest.mark.rule("RETRY-3")
async def test_a_tracked_stream_that_is_closed_while_it_waits_just_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "wsrpc.calling.retry.Backoff", lambda *_, **__: Backoff(lambda: 1.0, first=5)
    )
    service = Service()
    async with pair([service]) as (_, client):
        service.failing = 1
        stream = client.clientize(Service).tracked(3)
        async with anyio.create_task_group() as group:

            async def read() -> None:
                assert [item async for item in stream] == []

            group.start_soon(read)
            await until(lambda: bool(service.asked) and not service.failing)
            await anyio.sleep(0.01)
            stream.cancel()
    assert service.asked == [None]


@pytest.mark.rule("RETRY-3")
async def test_a_tracked_stream_with_an_upload_that_has_begun_is_not_opened_again() -> None:

    async def lines() -> AsyncIterator[str]:
        yield "a"
        await anyio.sleep_forever()

    service = Service()
    both = Pair([service])
    with soon():
        async with both as (_, client):
            stream = client.clientize(Service).shout(lines())
            assert (await anext(stream)).value == "A"
            both.restart()
            with pytest.raises(wsrpc.ConnectionLost):
                await anext(stream)
    assert service.asked == [None]


@pytest.mark.rule("RETRY-3")
async def test_a_tracked_stream_ends_with_a_session_that_does_not_come_back() -> None:
    service = Service()
    both = Pair([service], reconnect=False)
    with soon():
        async with both as (_, client):
            stream = client.clientize(Service).tracked(1000)
            await anext(stream)
            both.restart()
            with pytest.raises(wsrpc.ConnectionLost):
                await stream.collect()
    assert service.asked == [None]


@pytest.mark.rule("RETRY-3")
@pytest.mark.parametrize("validate", ["both", "arrival", "none"])
async def test_tracked_items_are_typed_and_travel_as_pairs(codec: Codec, validate: Any) -> None:
    service = Service()
    contract = Server([service]).contract()["Service"]
    described = contract["methods"]["tracked"]
    assert described["tracked"] is True
    assert (described["item"]["type"], len(described["item"]["prefixItems"])) == ("array", 2)
    assert "tracked" not in contract["methods"]["ticks"]
    async with pair([service], codec=codec) as (_, client):
        (typed,) = await client.clientize(Service, validate=validate).tracked(1).collect()
        assert typed.id == "0"
        if validate != "none":
            assert typed == wsrpc.Tracked("0", Note(text="note 0", data=b"\0"))
        data = "AA==" if codec == "json" else b"\0"
        plain = {"text": "note 0", "data": data}
        # By a contract they are Tracked, too; by bare name nobody knows.
        (described,) = await client.clientize(contract).tracked(n=1).collect()
        assert described == wsrpc.Tracked("0", plain)
        assert await client.clientize("Service").tracked(n=1).collect() == [["0", plain]]


@pytest.mark.rule("RETRY-3")
async def test_a_stream_by_contract_goes_on_as_well() -> None:
    service = Service()
    both = Pair([service])
    contract = Server([service]).contract()["Service"]
    with soon():
        async with both as (_, client):
            ids = []
            async for item in client.clientize(contract).tracked(n=50):
                ids.append(item.id)
                if len(ids) == 10:
                    both.restart()
    assert ids == [str(i) for i in range(50)]


@pytest.mark.rule("RETRY-3")
async def test_interceptors_and_fetchers_see_one_stream() -> None:
    seen: list[str] = []

    async def note(request: wsrpc.Request, proceed: wsrpc.Next) -> Any:
        seen.append(request.method)
        return await proceed(request)

    def fetcher(request: wsrpc.StreamRequest, fetch: wsrpc.FetchStream) -> AsyncIterator[Any]:
        seen.append("fetch")
        return fetch(request)

    service = Service()
    both = Pair([service], client_interceptors=[note])
    with soon():
        async with both as (_, client):
            ids = []
            async for item in client.clientize(Service, stream_fetcher=fetcher).tracked(40):
                ids.append(item.id)
                if len(ids) == 10:
                    both.restart()
    assert ids == [str(i) for i in range(40)]
    assert seen == ["fetch", "tracked"]


@pytest.mark.rule("RETRY-3", "ERROR-3")
async def test_what_is_declared_tracked_has_to_be() -> None:
    async with pair([Service()], debug=True) as (_, client):
        with error_of("internal") as caught:
            await client.clientize(Service).odd().collect()
        assert "yield wsrpc.Tracked(id, value), not int" in str(caught.value)


def test_a_stream_is_tracked_as_a_whole_or_not() -> None:
    class Mixed:
        @wsrpc.method
        async def mixed(self) -> AsyncIterator[wsrpc.Tracked[int] | str]:
            yield "a"

    with pytest.raises(wsrpc.RegistrationError, match=r"write Tracked\[A \| B\]"):
        Server([Mixed()])


async def test_a_local_stream_gives_what_a_remote_one_does() -> None:
    class Local:
        @wsrpc.method
        async def items(self) -> AsyncIterator[wsrpc.Tracked[int]]:
            yield wsrpc.Tracked("a", 1)

    assert await Local().items().collect() == [wsrpc.Tracked("a", 1)]
    assert repr(wsrpc.Tracked("a", 1)) == "Tracked('a', 1)"
    assert len({wsrpc.Tracked("a", 1), wsrpc.Tracked("a", 1)}) == 1


# ------------------------------------------------------------------------------ over sockets


@pytest.mark.rule("RETRY-1", "RETRY-3", "HELLO-10")
async def test_a_server_that_is_restarted_on_its_port(codec: Codec) -> None:
    service = Service()
    ids: list[str] = []
    reached, restarted = anyio.Event(), anyio.Event()

    async def use(url: str) -> None:
        async with wsrpc.connect(url, codec=codec) as session:
            proxy = session.clientize(Service)
            async for item in proxy.tracked(300):
                ids.append(item.id)
                if len(ids) == 100:
                    reached.set()
                    await restarted.wait()
            assert await proxy.once("a") == "a"

    with soon():
        async with anyio.create_task_group() as group:
            async with Server([service]).listen() as listener:
                url = listener.url
                group.start_soon(use, url)
                await reached.wait()
            port = int(url.rpartition(":")[2].rstrip("/"))
            async with Server([service]).listen(port=port):
                restarted.set()
                await until(lambda: service.runs == ["a"])
    assert ids == [str(i) for i in range(300)]
