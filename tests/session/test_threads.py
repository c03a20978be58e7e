"""Order of calls, and the threads of plain functions: no deadlock, no reordering, no starvation."""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import pytest

import wsrpc
from tests.support import Codec, Peer, Wire, bare_client, error_of, pair, served, soon, turns, until
from wsrpc.handling.threads import Pool

SETTING: contextvars.ContextVar[str] = contextvars.ContextVar("setting", default="outside")

MANY = 200


class Orderly:
    """Notes in which order its calls begin."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.held = threading.Event()

    @wsrpc.method(oneway=True)
    async def note(self, n: int) -> None:
        self.begun.append(n)

    @wsrpc.method
    async def call(self, n: int) -> int:
        self.begun.append(n)
        await anyio.sleep(0)
        return n

    @wsrpc.method
    async def stream(self, n: int) -> AsyncIterator[int]:
        self.begun.append(n)
        yield n

    @wsrpc.method(oneway=True)
    def plain_note(self, n: int) -> None:
        self.begun.append(n)

    @wsrpc.method(oneway=True)
    def slow_note(self, n: int) -> None:
        self.begun.append(n)
        assert self.held.wait(10)

    @wsrpc.method
    def plain_call(self, n: int) -> int:
        self.begun.append(n)
        return n

    async def once(self, fn: Callable[[int], Awaitable[None]], n: int) -> None:
        await fn(n)

    @wsrpc.method
    async def tell(self, fn: Callable[[int], Awaitable[None]]) -> None:
        async with anyio.create_task_group() as group:
            for n in range(8):
                group.start_soon(self.once, fn, n)


@pytest.mark.rule("BATCH-5")
async def test_on_trio_calls_and_notifications_begin_in_the_order_in_which_they_arrived_batch5(
    codec: Codec, wire: Wire
) -> None:
    service = Orderly()
    async with pair([service], codec=codec) as (_, client):
        proxy = client.clientize(Orderly)
        async with anyio.create_task_group() as group:

            async def call(n: int) -> None:
                await proxy.call(n)

            for n in range(0, MANY, 2):
                await proxy.note(n)
                group.start_soon(call, n + 1)
                await anyio.sleep(0)
        await until(lambda: len(service.begun) == MANY)
        sent = [frame[3]["n"] for frame in wire.frames("call", "notify")]
        assert service.begun == sent


@pytest.mark.rule("BATCH-5")
async def test_notifications_of_one_batch_begin_in_order() -> None:
    service = Orderly()
    async with pair([service]) as (_, client):
        proxy = client.clientize(Orderly)
        for n in range(MANY):
            await proxy.note(n)
        await until(lambda: len(service.begun) == MANY)
        assert service.begun == list(range(MANY))


@pytest.mark.rule("BATCH-5")
async def test_plain_notifications_begin_one_after_the_other() -> None:
    service = Orderly()
    async with pair([service]) as (_, client):
        proxy = client.clientize(Orderly)
        for n in range(MANY):
            await proxy.plain_note(n)
        await until(lambda: len(service.begun) == MANY)
        assert service.begun == list(range(MANY))


async def test_a_slow_plain_notification_does_not_hold_up_the_next_one() -> None:
    service = Orderly()
    async with pair([service]) as (_, client):
        proxy = client.clientize(Orderly)
        for n in range(5):
            await proxy.slow_note(n)
        await proxy.plain_note(5)
        with soon():
            assert await proxy.plain_call(6) == 6
        assert service.begun == list(range(7))
        service.held.set()


async def test_a_plain_notification_that_waits_for_its_turn_can_be_cancelled() -> None:
    service = Orderly()
    limits = wsrpc.Limits(max_threads=1)
    async with pair([service], limits=limits) as (_, client):
        proxy = client.clientize(Orderly)
        await proxy.slow_note(0)
        await until(lambda: service.begun == [0])
        for n in range(1, 5):
            await proxy.slow_note(n)
        service.held.set()
        await until(lambda: service.begun == list(range(5)))


class Ring:
    """Calls its caller back, by plain functions."""

    def __init__(self) -> None:
        self.gate: threading.Barrier | None = None

    @wsrpc.method
    def down(self, depth: int) -> int:
        if depth == 0:
            return 0
        ring = wsrpc.current().session.clientize(Ring, timeout=10)
        return 1 + anyio.from_thread.run(functools.partial(self.wait, ring, depth - 1))

    async def wait(self, ring: Ring, depth: int) -> int:
        return await ring.down(depth)


class Told:
    """Plain notifications that look at their context, or take their time."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.entered = threading.Event()
        self.go_on = threading.Event()

    @wsrpc.method(oneway=True)
    def look(self) -> None:
        context = wsrpc.current()
        self.seen.append((context.method, dict(context.metadata)))

    @wsrpc.method(oneway=True)
    def hold(self) -> None:
        self.entered.set()
        assert self.go_on.wait(10)


async def test_a_plain_notification_runs_in_the_context_of_its_own_call() -> None:
    service = Told()
    async with pair([service]) as (_, client):
        for n in range(5):
            with wsrpc.metadata(n=str(n)):
                await client.clientize(Told).look()
        await until(lambda: len(service.seen) == 5)
    assert service.seen == [("look", {"n": str(n)}) for n in range(5)]


@pytest.mark.rule("TIME-3")
async def test_a_plain_notification_that_runs_when_its_time_is_up_is_not_said_not_to_have_begun(
    codec: Codec,
) -> None:
    # Under load, a thread may come too late for the first of these times, in milliseconds.
    for timeout in (50, 500, 2_500):
        service = Told()
        async with bare_client(wsrpc.Server([service]), codec) as peer:
            body = await held_beyond(service, peer, timeout)
        assert body["code"] == "deadline_exceeded"
        assert body.get("not_started", False) is not service.entered.is_set()
        if service.entered.is_set():
            return
    raise AssertionError("no thread in time")


async def held_beyond(service: Told, peer: Peer, timeout: int) -> dict[str, Any]:
    """The error of a notification whose function, if it begins, goes on beyond its time.

    Args:
        service: The service that is told.
        peer: The caller.
        timeout: Milliseconds.
    """
    errors: list[Any] = []

    async def answer() -> None:
        errors.append(await peer.expect("error"))

    await peer.send(["notify", 1, "Told.hold", {}, {"timeout": timeout}])
    async with anyio.create_task_group() as group:
        group.start_soon(answer)
        await until(lambda: bool(service.entered.is_set() or errors))
        if not errors:
            await anyio.sleep(2 * timeout / 1000)
        service.go_on.set()
    body: dict[str, Any] = errors[0][2]
    return body


async def test_sessions_without_a_thread_leave_half_of_the_further_threads_to_nested_calls() -> (
    None
):
    pool = Pool(4, "max_threads")
    for _ in range(4):
        await pool.take("greedy", nested=False)
    for name in ("one", "two"):
        await pool.take(name, nested=False)
    with soon():
        with anyio.move_on_after(0.05) as scope:
            await pool.take("three", nested=False)
        assert scope.cancelled_caught
    for _ in range(2):
        await pool.take("greedy", nested=True)
    with error_of("resource_exhausted"):
        await pool.take("greedy", nested=True)
    assert pool.running == 8


async def test_a_thread_that_was_given_to_a_call_that_is_cancelled_at_that_moment_is_free_again() -> (
    None
):
    pool = Pool(1, "max_threads")
    held = await pool.take("one", nested=False)
    extra = await pool.take("two", nested=False)
    with soon():
        async with anyio.create_task_group() as group:
            group.start_soon(partial(pool.take, "three", nested=False))
            await turns()
            group.cancel_scope.cancel()
            held.give_back()
        extra.give_back()
        assert pool.running == 0
        assert await pool.take("four", nested=False)
        assert pool.running == 1


async def test_nested_plain_functions_do_not_deadlock() -> None:
    async with pair([Ring()], [Ring()]) as (_, client):
        answers: list[int] = []
        async with anyio.create_task_group() as group:

            async def call() -> None:
                answers.append(await client.clientize(Ring).down(2))

            for _ in range(45):
                group.start_soon(call)
        assert answers == [2] * 45


class Blocking:
    """Holds threads until it is told to let them go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.running = 0
        self.peak = 0
        self.lock = threading.Lock()

    @wsrpc.method
    def hold(self) -> None:
        self.held()

    def held(self) -> None:
        with self.lock:
            self.running += 1
            self.peak = max(self.peak, self.running)
        try:
            assert self.go.wait(15)
        finally:
            with self.lock:
                self.running -= 1

    @wsrpc.method
    def quick(self) -> str:
        return threading.current_thread().name

    @wsrpc.method
    def items(self) -> Iterator[int]:
        yield 1
        assert self.go.wait(15)
        yield 2

    @wsrpc.method
    async def through(self, fn: Callable[[], Awaitable[None]]) -> None:
        await fn()


async def test_plain_functions_have_a_bound_of_their_own_and_calls_beyond_it_wait() -> None:
    service = Blocking()
    async with pair([service], limits=wsrpc.Limits(max_threads=3)) as (_, client):
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(lambda: client.clientize(Blocking).hold())
            await until(lambda: service.running == 3)
            with error_of("deadline_exceeded") as caught:
                await client.clientize(Blocking, timeout=0.05).quick()
            assert caught.value.code == "deadline_exceeded"
            service.go.set()
        assert service.peak == 3


async def test_one_clients_slow_plain_functions_must_not_block_everyone_elses() -> None:
    service = Blocking()
    async with served([service]) as listener:
        async with wsrpc.connect(listener.url) as slow, wsrpc.connect(listener.url) as quick:
            async with anyio.create_task_group() as group:
                for _ in range(60):
                    group.start_soon(lambda: slow.clientize(Blocking).hold())
                await until(lambda: service.running == 40)
                with soon():
                    for _ in range(3):
                        assert await quick.clientize(Blocking).quick()
                service.go.set()


async def test_a_nested_call_does_not_wait_for_a_thread() -> None:
    service = Blocking()
    async with pair([service], limits=wsrpc.Limits(max_threads=1)) as (_, client):
        at_client = Blocking()

        async with anyio.create_task_group() as group:
            proxy = client.clientize(Blocking)
            callback: Any = at_client.held

            async def through() -> None:
                await proxy.through(callback)

            group.start_soon(through)
            group.start_soon(through)
            await until(lambda: at_client.running >= 1)
            at_client.go.set()


async def test_generators_have_a_bound_of_their_own() -> None:
    service = Blocking()
    limits = wsrpc.Limits(max_generator_threads=2)
    async with pair([service], limits=limits) as (_, client):
        proxy = client.clientize(Blocking)
        first, second, third = proxy.items(), proxy.items(), proxy.items()
        assert await anext(first) == await anext(second) == 1
        assert await proxy.quick()
        with pytest.raises(TimeoutError):
            await third.next(timeout=0.05)
        service.go.set()
        assert [item async for item in first] == [2]
        assert [item async for item in second] == [2]
        assert [item async for item in third] == [1, 2]


class Threaded:
    """Holds open across its yields what belongs to one thread and one context."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.closed_in: int | None = None
        self.failure: BaseException | None = None

    @wsrpc.method
    def items(self, n: int) -> Iterator[int]:
        lock = threading.RLock()
        token = SETTING.set("inside")
        try:
            with lock, wsrpc.metadata(step="yes"):
                for number in range(n):
                    self.threads.add(threading.get_ident())
                    assert SETTING.get() == "inside"
                    assert wsrpc.current().method == "items"
                    # Longer than a slice, so that the next item takes another step.
                    threading.Event().wait(0.003)
                    yield number
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self.closed_in = threading.get_ident()
            SETTING.reset(token)


async def test_a_plain_generator_runs_in_one_thread_and_one_context_from_its_first_step_to_its_last() -> (
    None
):
    service = Threaded()
    async with pair([service], limits=wsrpc.Limits(window=1)) as (_, client):
        proxy = client.clientize(Threaded)
        assert [item async for item in proxy.items(10)] == list(range(10))
        assert len(service.threads) == 1
        assert service.failure is None
        assert {service.closed_in} == service.threads


async def test_a_plain_generator_is_closed_in_its_own_thread() -> None:
    service = Threaded()
    async with pair([service]) as (_, client):
        async with client.clientize(Threaded).items(1000) as stream:
            assert await anext(stream) == 0
        await until(lambda: service.closed_in is not None)
        assert {service.closed_in} == service.threads
        assert isinstance(service.failure, GeneratorExit)


async def test_a_plain_generator_that_was_never_begun_holds_no_thread() -> None:
    service = Threaded()
    async with pair([service]) as (_, client):
        client.clientize(Threaded).items(3)
        assert service.closed_in is None


class Progress:
    @wsrpc.method
    async def work(self, fn: Callable[[int], Awaitable[int]]) -> list[int]:
        return [await fn(n) for n in range(3)]


async def test_a_plain_function_given_as_a_callback_works() -> None:
    seen: list[Any] = []

    def plain(n: int) -> int:
        seen.append((n, threading.current_thread() is threading.main_thread()))
        return 2 * n

    async def other(n: int) -> int:
        return 3 * n

    class Callable_:
        async def __call__(self, n: int) -> int:
            return 4 * n

    async with pair([Progress()]) as (_, client):
        work: Any = client.clientize(Progress).work
        assert await work(plain) == [0, 2, 4]
        assert seen == [(0, False), (1, False), (2, False)]
        assert await work(lambda n: other(n)) == [0, 3, 6]
        assert await work(Callable_()) == [0, 4, 8]
        assert await work(functools.partial(plain)) == [0, 2, 4]


async def test_calls_of_callbacks_begin_in_order() -> None:
    begun: list[int] = []

    async def note(n: int) -> None:
        begun.append(n)

    service = Orderly()
    async with pair([service]) as (_, client):
        await client.clientize(Orderly).tell(note)
        assert sorted(begun) == list(range(8))


async def test_a_free_thread_goes_to_the_session_that_holds_the_fewest_not_to_the_first_in_line() -> (
    None
):
    pool = Pool(4, "max_threads")
    order: list[str] = []
    first = [await pool.take("greedy", nested=False) for _ in range(4)]
    await pool.take("modest", nested=False)
    await pool.take("another", nested=False)

    async def wait(session: str) -> None:
        await pool.take(session, nested=False)
        order.append(session)

    with soon():
        async with anyio.create_task_group() as group:
            group.start_soon(wait, "greedy")
            await turns()
            group.start_soon(wait, "modest")
            await turns()
            assert order == []
            first.pop().give_back()
            await turns()
            assert order == ["modest"]
            first.pop().give_back()
