"""Servers of hostile clients: they keep their bounds, and serve other clients meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from tests.support import Codec, soon, until

from .cases import GOOD, WINDOW
from .raw import BINARY, TEXT, RawLink, raw_link, ws
from .target import Friend, guarded

Script = Callable[[RawLink], Awaitable[None]]

# What a script says of its connection's end: the codes with which the server may have closed it.
BAD: list[tuple[Script, set[int], bool]] = []


def closes_with(*codes: int, hello: bool = True) -> Callable[[Script], Script]:
    """Note a script.

    Args:
        codes: How its connection ends; 1006 where the client itself drops it.
        hello: Whether both hellos are through before it begins.
    """

    def note(script: Script) -> Script:
        BAD.append((script, set(codes), hello))
        return script

    return note


async def closed(link: RawLink) -> None:
    """Wait until the server has closed."""
    await link.closed()


# --------------------------------------------------------------------------------- slow ones


@closes_with(4008, hello=False)
async def never_says_hello(link: RawLink) -> None:
    await closed(link)


@closes_with(4008, hello=False)
async def says_hello_a_byte_at_a_time(link: RawLink) -> None:
    data = ws(TEXT if link.codec.text else BINARY, link.codec.dump([["hello", {"version": 1}]]))
    for n in range(len(data) - 1):
        await link.send_bytes(data[n : n + 1])
        await anyio.sleep(0.01)
    await closed(link)


@closes_with(4008, hello=False)
async def pings_instead_of_saying_hello(link: RawLink) -> None:
    for _ in range(50):
        await link.send_bytes(ws(0x9))
        await anyio.sleep(0.01)
    await closed(link)


@closes_with(4001, 1006)
async def asks_for_much_and_never_reads(link: RawLink) -> None:
    for id in range(1, 17, 2):
        await link.send(["call", id, "Target.flow", {"size": 50_000}, {"credit": 2**31 - 1}])
    # While the socket's buffers take bytes, the peer seems to read.
    await anyio.sleep(1.5)


@closes_with(1006)
async def begins_a_frame_and_never_ends_it(link: RawLink) -> None:
    await link.send_bytes(ws(TEXT if link.codec.text else BINARY, b"x" * 1000)[:500])
    await anyio.sleep(0.1)


# --------------------------------------------------------------------------------- greedy ones


@closes_with(1006)
async def takes_all_its_slots_for_ever(link: RawLink) -> None:
    await link.send(*(["call", id, "Target.wait", {}] for id in range(1, 33, 2)))
    await anyio.sleep(0.1)


@closes_with(4004)
async def opens_and_cancels_without_regard_for_the_slots(link: RawLink) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(closed, link)
        for first in range(1, 20_001, 400):
            calls = [["call", id, "Target.wait", {}] for id in range(first, first + 400, 2)]
            await link.send(*calls)
            await link.send(*(["cancel", call[1]] for call in calls))


@closes_with(4004)
async def sends_tiny_frames_without_end(link: RawLink) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(closed, link)
        for _ in range(20):
            await link.send(*[["x-a"]] * 1000)


@closes_with(1006)
async def begins_values_and_never_ends_them(link: RawLink) -> None:
    await link.send(*(["call", id, "Target.echo", None, None, 100_000] for id in (1, 3, 5)))
    await anyio.sleep(0.1)


@closes_with(1006)
async def fails_a_thousand_calls(link: RawLink) -> None:
    for id in range(1, 2001, 2):
        await link.send(["call", id, "Target.boom", {"text": "x" * 100}])
        assert (await link.next("error"))[2]["code"] == "internal"


@closes_with(1006)
async def asks_for_a_thousand_methods_that_are_not_there(link: RawLink) -> None:
    for id in range(1, 2001, 2):
        await link.send(["call", id, f"Target.method_{id}", {}])
        assert (await link.next("error"))[2]["code"] == "unimplemented"


# --------------------------------------------------------------------------------- rude ones


@closes_with(1006)
async def leaves_in_the_middle_of_everything(link: RawLink) -> None:
    await link.send(
        ["call", 1, "Target.wait", {}],
        ["call", 3, "Target.flow", {"size": 10}],
        ["call", 5, "Target.hold", {}, {"uploads": {"numbers": 7}}],
        ["message", 7, [1] * WINDOW],
        ["call", 9, "Target.ask", {}, {"callbacks": {"f": 11}}],
    )
    await link.next("message")


@closes_with(4500)
async def breaks_a_rule_and_does_not_leave(link: RawLink) -> None:
    await link.send(["call", 1, "Target.wait", {}])
    await link.send_message(b"garbage")
    await anyio.sleep(1.0)


@closes_with(1009)
async def sends_too_much_and_does_not_leave(link: RawLink) -> None:
    await link.send(["call", 1, "Target.wait", {}])
    await link.send_message(b"x" * 300_000)
    await anyio.sleep(1.0)


@closes_with(1006)
async def never_answers_a_callback(link: RawLink) -> None:
    await link.send(["call", 1, "Target.call_back", {}, {"callbacks": {"f": 3}}])
    call = await link.next("call")
    assert call[2] == 3
    await link.send(["cancel", 1])
    await link.next("cancel")
    # The answer that the handler waits for does not come; its call ends all the same.
    assert (await link.next("error"))[1] == 1


@closes_with(1006)
async def answers_a_callback_with_garbage(link: RawLink) -> None:
    await link.send(["call", 1, "Target.call_back", {}, {"callbacks": {"f": 3}}])
    call = await link.next("call")
    await link.send(["result", call[1], {"not": ["null"]}])
    error = await link.next("error")
    assert error[2]["code"] == "internal"


@closes_with(4505)
async def answers_what_it_was_not_asked(link: RawLink) -> None:
    await link.send(["result", 2, 1], ["result", 4, 1])
    await closed(link)


@closes_with(1006)
async def drains_and_goes_on_calling(link: RawLink) -> None:
    await link.send(["goaway", {"last_id": 0, "grace": 0}])
    await link.send(["call", 1, "Target.greet", {"name": "Ann"}])
    assert await link.next("result", "error") == ["result", 1, "Hello, Ann!"]


def test_there_are_at_least_twelve() -> None:
    assert len(BAD) >= 12


# By turns, so that each codec meets half of them.
TURNS: list[tuple[Script, set[int], bool, Codec]] = [
    (*bad, "msgpack" if n % 2 else "json") for n, bad in enumerate(BAD)
]


@pytest.mark.rule("HELLO-9", "OUT-4", "SLOT-2", "SLOT-4", "CLOSE-5", "CALM-1", "CALM-3", "CHUNK-6")
@pytest.mark.parametrize(
    ("script", "codes", "hello", "codec"),
    TURNS,
    ids=[f"{script.__name__}-{codec}" for script, _, _, codec in TURNS],
)
async def test_a_bad_client_keeps_nobody_from_being_served(
    script: Script, codes: set[int], hello: bool, codec: Codec
) -> None:
    with soon():
        async with guarded(codec, hello_timeout=0.4, stall_timeout=0.4) as (listener, friend):
            stats = listener.server.stats
            async with anyio.create_task_group() as group:
                group.start_soon(be_served, friend)
                async with raw_link(listener.url, codec) as link:
                    if hello:
                        await link.hello(auth=GOOD)
                    await script(link)
                    assert stats.calls_peak <= 16 + 1
                await until(lambda: stats.links == 1 and stats.calls_live <= 1)
                group.cancel_scope.cancel()
            await until(lambda: stats.calls_live == 0 and len(listener.server.sessions) == 1)
            assert friend.session.outbox_bytes == 0
            assert set(stats.closes) <= codes, stats.closes
            await friend.call()
            assert friend.calls > 1


async def be_served(friend: Friend) -> None:
    """Call and call again, each in time."""
    while True:
        with anyio.fail_after(5):
            await friend.call()
        await anyio.sleep(0.005)
