"""`sys.exit()` in a task that a peer has set off ends neither the event loop nor the process."""

from __future__ import annotations

import asyncio
import gc
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import anyio
import anyio.from_thread
import pytest

import wsrpc
from tests.support import error_of, pair, served, turns, until


async def leaves(_: Any = None) -> int:
    await anyio.sleep(0)
    sys.exit(3)


async def in_group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(leaves)


async def in_nested_groups() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(in_group)


async def in_task_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(leaves())


async def in_task() -> None:
    await asyncio.create_task(leaves())


async def gathered() -> None:
    await asyncio.gather(leaves(), asyncio.sleep(0.01))


async def with_timeout() -> None:
    await asyncio.wait_for(leaves(), 5)


async def at_once() -> None:
    task = asyncio.ensure_future(leaves())
    await asyncio.wait([task])
    await task


Way = Callable[[], Coroutine[Any, Any, None]]
ANYWHERE: list[Way] = [in_group, in_nested_groups]
ON_ASYNCIO: list[Way] = [in_task_group, in_task, gathered, with_timeout, at_once]
# The others are variations of these, for the full run.
TYPICAL: list[Way] = [in_group, in_task, with_timeout]
WAYS = [
    pytest.param(one, id=one.__name__, marks=[] if one in TYPICAL else [pytest.mark.slow])
    for one in ANYWHERE + ON_ASYNCIO
]


class Works:
    """Does what `way` says, wherever it is asked to."""

    way: Way = staticmethod(in_group)

    @wsrpc.method
    async def value(self) -> None:
        await self.way()

    @wsrpc.method
    async def items(self) -> AsyncIterator[int]:
        yield 1
        await self.way()

    @wsrpc.method
    async def cleanup(self) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await self.way()

    @wsrpc.method
    def thread(self) -> None:
        anyio.from_thread.run(self.way)

    @wsrpc.method
    async def ask(self, fn: Callable[[], Awaitable[int]]) -> int:
        return await fn()

    @wsrpc.method
    async def take(self, items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])

    @wsrpc.method
    async def ping(self) -> str:
        return "pong"


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, anyio_backend_name: str) -> Way:
    if anyio_backend_name == "trio" and request.param in ON_ASYNCIO:
        pytest.skip("asyncio's own")
    found: Way = request.param
    return found


@pytest.mark.parametrize("method", ["value", "items", "cleanup", "thread"])
async def test_sys_exit_in_a_child_task_of_a_handler_is_the_calls_internal_error(
    method: str, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    works = Works()
    works.way = way
    async with pair([works]) as (_, client):
        call: Any = getattr(client.clientize(Works), method)()
        with error_of("internal") as caught:
            await (call.collect() if method in ("items", "cleanup") else call)
        assert await client.clientize(Works).ping() == "pong"
    assert caught.value.error_id
    (record,) = [one for one in caplog.records if caught.value.error_id in one.getMessage()]
    assert record.levelname == "ERROR"
    assert record.exc_info
    caplog.clear()


async def test_so_it_is_in_one_of_a_callback_an_interceptor_or_authorize(way: Way) -> None:
    where = ""

    async def inbound(request: wsrpc.Request, call_next: wsrpc.Next) -> Any:
        if where == "interceptor":
            await way()
        return await call_next(request)

    async def authorize(context: wsrpc.CallContext) -> bool:
        if where == "authorize":
            await way()
        return True

    async def callback() -> int:
        await way()
        return 1

    async with pair([Works()], interceptors=[inbound], authorize=authorize) as (_, client):
        proxy = client.clientize(Works)
        with error_of("internal"):
            await proxy.ask(callback)
        where = "interceptor"
        with error_of("internal"):
            await proxy.ping()
        where = "authorize"
        with error_of("internal"):
            await proxy.ping()
        where = ""
        assert await proxy.ping() == "pong"


async def test_in_one_of_an_uploads_source_it_is_the_callers_error(way: Way) -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        await way()

    async with pair([Works()]) as (_, client):
        with pytest.raises((RuntimeError, ExceptionGroup)) as caught:
            await client.clientize(Works).take(source())
        assert "SystemExit" in "".join(traceback.format_exception(caught.value))
        assert await client.clientize(Works).ping() == "pong"


async def test_the_cause_of_what_an_uploads_source_raises_is_kept() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        raise ValueError("no file") from OSError("gone")

    async with pair([Works()]) as (_, client):
        with pytest.raises(ValueError, match="no file") as caught:
            await client.clientize(Works).take(source())
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("where", ["authenticate", "on_connect", "on_disconnect"])
async def test_in_one_of_authenticate_or_a_hook_it_ends_no_server(
    where: str, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    faulty = True

    async def hook(*args: Any) -> None:
        if faulty:
            await way()

    options: dict[str, Any] = {where: hook}
    async with served([Works()], **options) as listener:
        with suppress(wsrpc.ConnectError):
            async with wsrpc.connect(listener.url, reconnect=False):
                pass
        await until(lambda: f"{where} raised" in caplog.text)
        faulty = False
        async with wsrpc.connect(listener.url) as session:
            assert await session.clientize(Works).ping() == "pong"
    caplog.clear()


# ------------------------------------------------------------------------------------ asyncio's own

asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@asyncio_only
async def test_a_task_that_nobody_awaits_is_left_to_the_loops_own_log() -> None:
    class Leaves:
        @wsrpc.method
        async def task(self) -> None:
            self.kept = asyncio.create_task(leaves())

        @wsrpc.method
        async def ping(self) -> str:
            return "pong"

    told: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context))
    service = Leaves()
    async with pair([service]) as (_, client):
        proxy = client.clientize(Leaves)
        await proxy.task()
        await until(service.kept.done)
        assert await proxy.ping() == "pong"
        del service.kept
        gc.collect()
        await turns()
    loop.set_exception_handler(None)
    assert "SystemExit: 3" in str(told[0]["exception"])


@asyncio_only
async def test_on_state_may_begin_such_a_task() -> None:
    tasks: list[asyncio.Task[int]] = []

    def on_state(session: wsrpc.Session, change: Any) -> None:
        tasks.append(asyncio.create_task(leaves()))

    async with served([Works()], on_state=on_state) as listener:
        async with wsrpc.connect(listener.url) as session:
            assert await session.clientize(Works).ping() == "pong"
    for task in tasks:
        with pytest.raises(RuntimeError, match="SystemExit: 3"):
            await task


@asyncio_only
async def test_the_loop_has_its_own_task_factory_again_when_the_last_session_has_gone() -> None:
    loop = asyncio.get_running_loop()
    made: list[str] = []

    def own(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        made.append(coroutine.__name__)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def mine() -> None: ...

    for factory in (None, own):
        loop.set_task_factory(factory)
        try:
            async with pair([Works()]):
                assert loop.get_task_factory() is not factory
                async with pair([Works()]):
                    await asyncio.create_task(mine())
                assert loop.get_task_factory() is not factory
            assert loop.get_task_factory() is factory
        finally:
            loop.set_task_factory(None)
    assert "mine" in made


@asyncio_only
async def test_a_task_factory_that_the_application_sets_meanwhile_stays() -> None:
    loop = asyncio.get_running_loop()

    def own(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        return asyncio.Task(coroutine, loop=loop, **options)

    try:
        async with pair([Works()]):
            loop.set_task_factory(own)
        assert loop.get_task_factory() is own
    finally:
        loop.set_task_factory(None)


@asyncio_only
async def test_tasks_that_no_peer_has_set_off_are_as_they_were() -> None:
    coroutines: list[Any] = []

    class Tells:
        @wsrpc.method
        async def task(self) -> str:
            task = asyncio.create_task(leaves(), name="mine")
            text = repr(task)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            coroutines.append(task.get_coro())
            return text

    async with pair([Tells()]) as (_, client):
        coroutine = turns()
        task = asyncio.create_task(coroutine)
        assert task.get_coro() is coroutine
        await task
        text = await client.clientize(Tells).task()
    # One that is contained has the same name, and no coroutine of it is left unawaited.
    assert "mine" in text
    assert "leaves" in text
    assert asyncio.iscoroutine(coroutines[0])


@asyncio_only
@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python has no eager tasks")
async def test_eager_tasks_are_contained_and_those_of_anyio_are_not_eager() -> None:
    if sys.version_info < (3, 12):
        return
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    began: list[str] = []

    async def begins() -> None:
        began.append("task")
        await anyio.sleep(0)

    try:
        for way in ANYWHERE + ON_ASYNCIO:
            works = Works()
            works.way = way
            async with pair([works]) as (_, client):
                with error_of("internal"):
                    await client.clientize(Works).value()
                task = asyncio.create_task(begins())
                assert began.pop() == "task"
                await task
                async with anyio.create_task_group() as group:
                    group.start_soon(begins)
                    assert not began
                began.clear()
        assert loop.get_task_factory() is asyncio.eager_task_factory
    finally:
        loop.set_task_factory(None)
