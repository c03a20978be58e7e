"""The promises of links that sessions rely on, for all transports (`transport/base.py`)."""

from __future__ import annotations

import os

import anyio
import pytest

from tests.support import Codec, turns
from wsrpc.transport.base import Link, LinkClosed

from .support import Carrier, end_of, links, subprotocol_of

# Bytes. Around every border of a frame's header, and of what one write takes.
SIZES = [1, 125, 126, 127, 8_191, 8_192, 8_193, 65_535, 65_536, 65_537, 1_000_000]


def payload(codec: Codec, size: int) -> bytes:
    return b"\xc3\xa9" * (size // 2) + b"x" * (size % 2) if codec == "json" else os.urandom(size)


async def test_the_subprotocol_is_what_was_agreed_on(carrier: Carrier, codec: Codec) -> None:
    async with links(carrier, codec) as ends:
        for end in ends:
            assert end.subprotocol == subprotocol_of(codec)


async def test_messages_arrive_whole_and_in_order_in_both_directions(
    carrier: Carrier, codec: Codec
) -> None:
    messages = [payload(codec, size) for size in SIZES]

    async def say(link: Link) -> None:
        for message in messages:
            await link.send(message)

    async def hear(link: Link) -> None:
        for message in messages:
            assert await link.receive() == message

    async with links(carrier, codec) as ends:
        async with anyio.create_task_group() as group:
            for end in ends:
                group.start_soon(say, end)
                group.start_soon(hear, end)


async def test_a_message_is_bytes_of_its_own(carrier: Carrier) -> None:
    async with links(carrier) as (accepting, connecting):
        for end, other in ((accepting, connecting), (connecting, accepting)):
            await end.send(b"first")
            first = await other.receive()
            await end.send(b"other" * 100)
            await other.receive()
            assert type(first) is bytes
            assert first == b"first"


async def test_a_cancelled_receive_loses_nothing(carrier: Carrier) -> None:
    heard: list[bytes] = []
    expected = [b"%d" % n for n in range(100)]

    async def hear(link: Link, scope: anyio.CancelScope) -> None:
        with scope:
            while True:
                heard.append(await link.receive())

    async with links(carrier) as (accepting, connecting):
        for n, message in enumerate(expected):
            async with anyio.create_task_group() as group:
                scope = anyio.CancelScope()
                group.start_soon(hear, accepting, scope)
                await turns(n % 3)
                await connecting.send(message)
                await turns(n % 5)
                scope.cancel()
        while len(heard) < len(expected):
            heard.append(await accepting.receive())
        assert heard == expected


@pytest.mark.rule("OUT-1")
async def test_a_writer_waits_for_its_reader(carrier: Carrier) -> None:
    message = b"m" * 65_536
    total = 400
    sent = 0

    async def say(link: Link) -> None:
        nonlocal sent
        for n in range(total):
            await link.send(b"%03d" % n + message)
            sent += 1

    async with links(carrier) as (accepting, connecting):
        for end, other in ((accepting, connecting), (connecting, accepting)):
            sent = 0
            async with anyio.create_task_group() as group:
                group.start_soon(say, end)
                before = -1
                while sent > before:
                    before = sent
                    await anyio.sleep(0.05)
                # What the system holds for a socket, and a bit.
                assert sent < total
                for n in range(total):
                    assert await other.receive() == b"%03d" % n + message


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1001, "going"), (4500, "no such frame ✓"), (4999, "x" * 123)]
)
async def test_code_and_reason_of_a_close_reach_the_other_end(
    carrier: Carrier, code: int, reason: str
) -> None:
    for flip in (False, True):
        async with links(carrier) as ends:
            end, other = reversed(ends) if flip else ends
            async with anyio.create_task_group() as group:
                group.start_soon(end.close, code, reason)
                error = await end_of(other)
                assert (error.code, error.reason) == (code, reason)


async def test_a_reason_that_is_too_long_is_cut_between_two_characters(carrier: Carrier) -> None:
    async with links(carrier) as (accepting, connecting):
        async with anyio.create_task_group() as group:
            group.start_soon(connecting.close, 4500, "é" * 100)
            error = await end_of(accepting)
            assert error.code == 4500
            if carrier != "memory":
                assert error.reason == "é" * 61


async def test_a_closed_link_says_so_at_both_ends_and_again(carrier: Carrier) -> None:
    async with links(carrier) as ends:
        async with anyio.create_task_group() as group:
            group.start_soon(ends[0].close, 4500, "over")
            await end_of(ends[1])
        for end in ends:
            for _ in range(2):
                with pytest.raises(LinkClosed) as caught:
                    await end.send(b"late")
                assert caught.value.code == 4500
                with pytest.raises(LinkClosed) as caught:
                    await end.receive()
                assert caught.value.code == 4500


async def test_what_was_sent_before_the_close_arrives_before_it(carrier: Carrier) -> None:
    messages = [b"%d" % n for n in range(10)] + [b"y" * 200_000]
    async with links(carrier) as (accepting, connecting):
        async with anyio.create_task_group() as group:

            async def say() -> None:
                for message in messages:
                    await connecting.send(message)
                await connecting.close(1000)

            group.start_soon(say)
            assert [await accepting.receive() for _ in messages] == messages
            assert (await end_of(accepting)).code == 1000


async def test_closing_is_done_once_and_never_raises(carrier: Carrier) -> None:
    async with links(carrier) as (accepting, connecting):
        async with anyio.create_task_group() as group:
            for code in (4001, 4002):
                group.start_soon(connecting.close, code)
        assert (await end_of(accepting)).code in (4001, 4002)
        await connecting.close(4003)
        await accepting.close(4004)


async def test_both_ends_may_close_at_once(carrier: Carrier) -> None:
    async with links(carrier) as (accepting, connecting):
        async with anyio.create_task_group() as group:
            group.start_soon(accepting.close, 4001)
            group.start_soon(connecting.close, 4002)
        for end in (accepting, connecting):
            assert (await end_of(end)).code in (4001, 4002)


async def test_a_writer_that_waits_learns_of_the_end(carrier: Carrier) -> None:
    codes: list[int] = []

    async def say(link: Link) -> None:
        with pytest.raises(LinkClosed) as caught:
            while True:
                await link.send(b"m" * 65_536)
        codes.append(caught.value.code)

    async with links(carrier) as (_, connecting):
        async with anyio.create_task_group() as group:
            group.start_soon(say, connecting)
            await anyio.sleep(0.05)
            # There is no room for a farewell; the socket is dropped in the end.
            group.start_soon(connecting.close, 4500)
        assert codes == [4500]
