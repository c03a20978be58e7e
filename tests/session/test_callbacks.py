"""Functions that travel with a call and that the callee may call while it lives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Protocol

import anyio
import pytest
from pydantic import BaseModel

import wsrpc
from tests.support import Codec, Peer, Wire, bare_client, error_of, pair, turns, until

Report = Callable[["Progress"], Awaitable[None]]


class Progress(BaseModel):
    done: int


class Builder:
    def __init__(self) -> None:
        self.kept: list[Callable[[int], Awaitable[int]]] = []
        self.errors: list[BaseException] = []
        self.answers: list[int] = []
        self.cleaned: list[str] = []
        self.go = anyio.Event()

    @wsrpc.method
    async def build(self, n: int, on_progress: Report) -> str:
        for done in range(1, n + 1):
            await on_progress(Progress(done=done))
        return "built"

    @wsrpc.method
    async def ask(self, question: Callable[[str, int], Awaitable[str | None]]) -> str | None:
        return await question("how many", 3)

    @wsrpc.method
    async def apply(self, numbers: list[int], fn: Callable[[int], Awaitable[int]]) -> list[int]:
        return [await fn(number) for number in numbers]

    @wsrpc.method
    async def apply_at_once(self, n: int, fn: Callable[[int], Awaitable[int]]) -> list[int]:
        found: dict[int, int] = {}

        async def one(number: int) -> None:
            found[number] = await fn(number)

        async with anyio.create_task_group() as group:
            for number in range(n):
                group.start_soon(one, number)
        return [found[number] for number in range(n)]

    @wsrpc.method
    async def stream(self, fn: Callable[[int], Awaitable[int]]) -> AsyncIterator[int]:
        for number in range(3):
            yield await fn(number)

    @wsrpc.method
    async def optional(self, fn: Callable[[int], Awaitable[int]] | None = None) -> int:
        return -1 if fn is None else await fn(1)

    @wsrpc.method
    async def keep(self, fn: Callable[[int], Awaitable[int]]) -> None:
        self.kept.append(fn)

    @wsrpc.method
    async def catch(self, fn: Callable[[int], Awaitable[int]]) -> None:
        try:
            await fn(1)
        except Exception as error:  # noqa: BLE001
            self.errors.append(error)

    @wsrpc.method
    async def wrong(self, fn: Callable[[int], Awaitable[int]]) -> None:
        loose: Any = fn
        for arguments in [(), (1, 2), ("one",)]:
            try:
                await loose(*arguments)
            except Exception as error:  # noqa: BLE001
                self.errors.append(error)

    @wsrpc.method
    async def give_up(self, fn: Callable[[int], Awaitable[int]]) -> str:
        with anyio.move_on_after(0.05) as scope:
            await fn(1)
        return "gave up" if scope.cancelled_caught else "answered"

    @wsrpc.method
    async def leave_behind(self, fn: Callable[[int], Awaitable[int]]) -> str:
        """Ends while a callback still runs, started in another task."""
        self.kept.append(fn)
        await self.go.wait()
        return "left"

    @wsrpc.method
    async def waits(self, fn: Callable[[int], Awaitable[int]]) -> int:
        try:
            return await fn(1)
        finally:
            self.cleaned.append("handler")


class Owner:
    """A callback that notes what becomes of it."""

    def __init__(self) -> None:
        self.running = 0
        self.peak = 0
        self.cleaned: list[str] = []
        self.go = anyio.Event()

    async def double(self, n: int) -> int:
        return 2 * n

    async def wait(self, n: int) -> int:
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await self.go.wait()
        finally:
            self.running -= 1
            await anyio.sleep(0)
            self.cleaned.append("callback")
        return 2 * n


class Busy:
    """What the server keeps the client busy with."""

    def __init__(self) -> None:
        self.running = 0
        self.go = anyio.Event()

    @wsrpc.method
    async def work(self) -> None:
        self.running += 1
        await self.go.wait()


async def test_a_callback_is_called_with_its_arguments_in_order(codec: Codec) -> None:
    seen: list[int] = []

    async def on_progress(progress: Progress) -> None:
        seen.append(progress.done)

    async with pair([Builder()], codec=codec) as (_, client):
        assert await client.clientize(Builder).build(5, on_progress) == "built"
        assert seen == [1, 2, 3, 4, 5]
        assert await client.clientize(Builder).build(2, on_progress=on_progress) == "built"
    assert seen == [1, 2, 3, 4, 5, 1, 2]


@pytest.mark.parametrize("answer", ["three", None, ""])
async def test_what_a_callback_returns_comes_back(codec: Codec, answer: str | None) -> None:
    async def question(text: str, n: int) -> str | None:
        assert (text, n) == ("how many", 3)
        return answer

    async with pair([Builder()], codec=codec) as (_, client):
        assert await client.clientize(Builder).ask(question) == answer


async def test_a_callback_may_be_called_many_times_and_from_a_stream(wire: Wire) -> None:
    owner = Owner()
    async with pair([Builder()]) as (_, client):
        builder = client.clientize(Builder)
        assert await builder.apply(list(range(200)), owner.double) == [2 * n for n in range(200)]
        assert await builder.stream(owner.double).collect() == [0, 2, 4]
    wire.assert_one_terminal_each()


async def test_a_callback_may_be_left_out_or_be_none() -> None:
    async with pair([Builder()]) as (_, client):
        builder = client.clientize(Builder)
        assert await builder.optional() == -1
        assert await builder.optional(None) == -1
        assert await builder.optional(Owner().double) == 2


async def test_by_bare_name_a_function_is_a_callback() -> None:
    async def double(n: int) -> int:
        return 2 * n

    async with pair([Builder()]) as (_, client):
        assert await client.clientize("Builder").apply(numbers=[1, 2], fn=double) == [2, 4]


async def test_by_bare_name_a_callback_takes_the_arguments_that_its_function_can_take() -> None:
    async def any_number(*numbers: int) -> int:
        return sum(numbers)

    async def with_default(n: int, factor: int = 3) -> int:
        return n * factor

    async def two(n: int, factor: int) -> int:
        return n * factor

    async def none() -> int:
        return 0

    async def one_to_two(a: int, b: int, c: int = 0) -> int:
        return 0

    async with pair([Builder()]) as (_, client):
        builder = client.clientize("Builder")
        assert await builder.apply(numbers=[1, 2], fn=any_number) == [1, 2]
        assert await builder.apply(numbers=[1, 2], fn=with_default) == [3, 6]
        assert await builder.apply(numbers=[1, 2], fn=abs) == [1, 2]
        for fn, expected in ((two, "2"), (none, "0"), (one_to_two, "2 to 3")):
            with pytest.raises(wsrpc.RpcError, match=f"expected {expected} arguments, got 1"):
                await builder.apply(numbers=[1], fn=fn)


async def test_something_that_cannot_be_called_is_a_type_error(wire: Wire) -> None:
    async with pair([Builder()]) as (_, client):
        optional: Any = client.clientize(Builder).optional
        with pytest.raises(TypeError, match="'fn' is a callback"):
            optional(3)
    assert not wire.frames("call")


@pytest.mark.rule("CB-2")
async def test_at_most_eight_calls_of_one_callback_run_at_a_time(wire: Wire) -> None:
    owner = Owner()
    answers: list[list[int]] = []
    async with pair([Builder()]) as (_, client):

        async def call() -> None:
            answers.append(await client.clientize(Builder).apply_at_once(20, owner.wait))

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await until(lambda: owner.running == 8)
            await turns(50)
            assert owner.running == 8
            owner.go.set()
    assert answers == [[2 * n for n in range(20)]]
    assert owner.peak == 8
    wire.assert_one_terminal_each()


@pytest.mark.rule("CB-2")
async def test_callbacks_take_no_slots() -> None:
    """Neither of the caller, all of whose slots are taken, nor at it."""
    owner = Owner()
    busy = Busy()
    async with pair([Builder()], [busy], limits=wsrpc.Limits(max_calls=8)) as (server, client):
        async with anyio.create_task_group() as group:
            for _n in range(8):
                group.start_soon(server.clientize(Busy).work)
            await until(lambda: busy.running == 8)
            group.start_soon(server.clientize(Busy).work)
            await turns(20)
            assert busy.running == 8, "no slot is left at the client"
            for _n in range(7):
                group.start_soon(client.clientize(Builder).apply_at_once, 3, owner.wait)
            await until(lambda: owner.running == 21)
            owner.go.set()
            busy.go.set()
    assert owner.peak == 21


@pytest.mark.rule("CB-2")
async def test_a_ninth_call_of_a_callback_is_refused() -> None:

    class Host:
        @wsrpc.method
        async def ask_peer(self) -> int:
            owner = Owner()
            builder = wsrpc.current().session.clientize(Builder)
            return await builder.optional(owner.wait)

    async with bare_client(wsrpc.Server([Host()])) as peer:
        callback = await offered_callback(peer)
        for n in range(9):
            await peer.send(["call", 3 + 2 * n, callback, [1]])
        error = await peer.expect("error")
        assert error[1] == 3 + 2 * 8
        assert error[2]["code"] == "resource_exhausted"
        assert error[2]["not_started"] is True


async def offered_callback(peer: Peer) -> int:
    """Have the server call `Builder.optional` and give the id of the callback that comes along."""
    await peer.send(["call", 1, "Host.ask_peer", {}])
    call = await peer.expect("call")
    found: int = call[4]["callbacks"]["fn"]
    return found


# ------------------------------------------------------------------------------------ errors


@pytest.mark.rule("ERROR-2")
async def test_an_error_raised_by_a_callback_on_purpose_reaches_the_handler(codec: Codec) -> None:

    async def fails(n: int) -> int:
        raise wsrpc.RpcError("not_found", "no such thing", {"n": n})

    builder = Builder()
    async with pair([builder], codec=codec) as (_, client):
        await client.clientize(Builder).catch(fails)
        with error_of("not_found") as caught:
            await client.clientize(Builder).optional(fails)
        assert caught.value.data == {"n": 1}
    (error,) = builder.errors
    assert isinstance(error, wsrpc.RpcError)
    assert (error.code, error.message, error.data) == ("not_found", "no such thing", {"n": 1})


@pytest.mark.rule("ERROR-3")
async def test_an_unforeseen_error_of_a_callback_is_internal(
    caplog: pytest.LogCaptureFixture,
) -> None:

    async def fails(n: int) -> int:
        raise ValueError("secret")

    builder = Builder()
    async with pair([builder]) as (_, client):
        await client.clientize(Builder).catch(fails)
    (error,) = builder.errors
    assert isinstance(error, wsrpc.RpcError)
    assert error.code == "internal"
    assert "secret" not in str(error)
    assert "secret" in caplog.text


async def test_a_callback_called_wrongly_fails_at_the_callee() -> None:
    builder = Builder()
    async with pair([builder]) as (_, client):
        await client.clientize(Builder).wrong(Owner().double)
    too_few, too_many, wrong_type = builder.errors
    assert isinstance(too_few, TypeError)
    assert isinstance(too_many, TypeError)
    # As for a call of a method (ERROR-8).
    assert isinstance(wrong_type, wsrpc.RpcError)
    assert wrong_type.code == "invalid_argument"
    assert not wrong_type.not_started


@pytest.mark.rule("CB-5")
@pytest.mark.parametrize(
    ("arguments", "loc"), [([], 0), ([1, 2], 1), (["one"], 0), ([None], 0), ([{"n": 1}], 0)]
)
async def test_arguments_that_do_not_fit_a_callback_are_answered_with_their_position(
    codec: Codec, arguments: list[Any], loc: int
) -> None:

    class Host:
        @wsrpc.method
        async def ask_peer(self) -> int:
            return await wsrpc.current().session.clientize(Builder).optional(Owner().double)

    async with bare_client(wsrpc.Server([Host()]), codec) as peer:
        callback = await offered_callback(peer)
        await peer.send(["call", 3, callback, arguments])
        error = await peer.expect("error")
        assert error[2]["code"] == "invalid_argument"
        assert error[2]["data"]["errors"][0]["loc"][0] == loc
        await peer.send(["call", 5, callback, [4]])
        assert await peer.expect("result") == ["result", 5, 8]


# ------------------------------------------------------------------------------------ life time


@pytest.mark.rule("CB-4")
async def test_a_callback_kept_beyond_its_call_fails_with_failed_precondition(wire: Wire) -> None:
    builder = Builder()
    async with pair([builder]) as (_, client):
        await client.clientize(Builder).keep(Owner().double)
        with error_of("failed_precondition"):
            await builder.kept[0](1)
    assert len(wire.frames("call")) == 1


@pytest.mark.rule("CB-4")
async def test_a_call_of_a_finished_callback_is_answered_with_failed_precondition() -> None:

    class Host:
        @wsrpc.method
        async def ask_peer(self) -> int:
            return await wsrpc.current().session.clientize(Builder).optional(Owner().double)

    async with bare_client(wsrpc.Server([Host()])) as peer:
        callback = await offered_callback(peer)
        await peer.send(["result", 2, 5])
        assert await peer.expect("result") == ["result", 1, 5]
        await peer.send(["call", 3, callback, [1]])
        error = await peer.expect("error")
        assert error[2]["code"] == "failed_precondition"


@pytest.mark.rule("CB-3")
async def test_a_callback_still_running_is_cancelled_when_its_call_ends(wire: Wire) -> None:
    builder, owner = Builder(), Owner()
    outcomes: list[str] = []
    async with pair([builder]) as (_, client):

        async def call_kept() -> None:
            try:
                await builder.kept[0](1)
            except wsrpc.RpcError as error:
                outcomes.append(error.code)

        async with anyio.create_task_group() as group:
            group.start_soon(client.clientize(Builder).leave_behind, owner.wait)
            await until(lambda: len(builder.kept) == 1)
            group.start_soon(call_kept)
            await until(lambda: owner.running == 1)
            builder.go.set()
        await until(lambda: owner.cleaned == ["callback"])
    assert len(outcomes) == 1
    names = [frame[0] for frame in wire.frames("cancel", "result")]
    assert names == ["cancel", "result"]
    wire.assert_one_terminal_each()


@pytest.mark.rule("CANCEL-3")
async def test_cancelling_the_call_cancels_the_handler_and_through_it_the_callback() -> None:
    builder, owner = Builder(), Owner()
    async with pair([builder]) as (_, client):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(client.clientize(Builder).waits, owner.wait)
                await until(lambda: owner.running == 1)
                scope.cancel()
        await until(lambda: owner.cleaned == ["callback"])
        await until(lambda: builder.cleaned == ["handler"])


@pytest.mark.rule("CANCEL-3")
async def test_a_handler_may_give_up_on_a_callback(wire: Wire) -> None:
    owner = Owner()
    async with pair([Builder()]) as (_, client):
        assert await client.clientize(Builder).give_up(owner.wait) == "gave up"
        await until(lambda: owner.cleaned == ["callback"])
    wire.assert_one_terminal_each()


@pytest.mark.rule("CLOSE-5")
async def test_a_lost_connection_cancels_callbacks() -> None:
    builder, owner = Builder(), Owner()
    async with pair([builder]) as (server, client):

        async def call() -> None:
            with pytest.raises(wsrpc.ConnectionLost):
                await client.clientize(Builder).waits(owner.wait)

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await until(lambda: owner.running == 1)
            await server.aclose()
        await until(lambda: owner.cleaned == ["callback"])
        await until(lambda: builder.cleaned == ["handler"])


# ------------------------------------------------------------------------------------ context


user: ContextVar[str] = ContextVar("user", default="nobody")


async def test_a_callback_runs_with_the_context_variables_of_whoever_passed_it() -> None:
    seen: list[str] = []

    async def on_progress(progress: Progress) -> None:
        seen.append(user.get())
        user.set("changed by the callback")

    async with pair([Builder()]) as (_, client):
        token = user.set("Ann")
        try:
            await client.clientize(Builder).build(2, on_progress)
        finally:
            user.reset(token)
        assert user.get() == "nobody"
    assert seen == ["Ann", "Ann"]


async def test_a_callback_knows_that_it_is_being_called() -> None:
    seen: list[wsrpc.CallContext] = []

    async def on_progress(progress: Progress) -> None:
        seen.append(wsrpc.current())

    async with pair([Builder()]) as (_, client):
        await client.clientize(Builder).build(1, on_progress)
        assert seen[0].session is client
        assert seen[0].method == "on_progress"
        assert seen[0].deadline is not None


async def test_a_callback_may_call_the_callee_in_turn() -> None:
    async with pair([Builder()]) as (_, client):
        builder = client.clientize(Builder)

        async def nested(n: int) -> int:
            if n == 0:
                return 0
            return 1 + await builder.optional(lambda _: nested(n - 1))

        assert await builder.apply([0, 1, 10], nested) == [0, 1, 10]


class Ask(Protocol):
    async def __call__(self, text: str, times: int) -> str: ...


class Named:
    @wsrpc.method
    async def run(self, ask: Ask) -> list[str]:
        return [await ask("a", 1), await ask("b", times=2), await ask(text="c", times=3)]


async def test_a_callback_may_be_declared_by_a_protocol_and_called_by_name(codec: Codec) -> None:
    async def ask(text: str, times: int) -> str:
        return text * times

    async with pair([Named()], codec=codec) as (_, client):
        assert await client.clientize(Named).run(ask) == ["a", "bb", "ccc"]
