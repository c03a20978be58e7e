"""Links and a peer that writes what it likes: violations, control frames, fragments, sizes."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

import anyio
import anyio.abc
import pytest
from websockets.frames import Opcode

from tests.support import Codec
from wsrpc.limits import Limits
from wsrpc.transport.base import Link, LinkClosed
from wsrpc.transport.registry import Transport

from .support import Peer, by_hand, end_of, refusal_of

SMALL = Limits(max_batch=65_536, close_timeout=0.2)


async def both_end_with(
    code: int, link: Link, peer: Peer, reason: str | None = None, *, meaning: int | None = None
) -> None:
    """The link ends with this code, or with another meaning, and it is the last word to the peer."""
    async with anyio.create_task_group() as group:

        async def hang_up() -> None:
            assert await peer.close_code() == code
            await peer.stream.aclose()

        group.start_soon(hang_up)
        error = await end_of(link)
        assert error.code == (meaning or code)
        assert reason is None or error.reason == reason


@pytest.mark.rule("BATCH-1")
async def test_a_message_of_the_wrong_type_is_refused(
    transport: Transport, side: str, codec: Codec
) -> None:
    right, wrong = Opcode.TEXT, Opcode.BINARY
    if codec == "msgpack":
        right, wrong = wrong, right
    async with by_hand(transport, side, codec) as (link, peer):
        await peer.write(peer.frame(right, b"fine"))
        assert await link.receive() == b"fine"
        await peer.write(peer.frame(wrong, b"odd") + peer.frame(right, b"behind it"))
        error = await refusal_of(link)
        assert error.close_code == 4500
        async with anyio.create_task_group() as group:
            group.start_soon(link.close, error.close_code, error.reason)
            assert await peer.close_code() == 4500


@pytest.mark.rule("RESUME-9")
async def test_a_message_that_had_arrived_when_a_write_failed_is_delivered(
    transport: Transport, side: str
) -> None:
    async with by_hand(transport, side) as (link, peer):
        await peer.text(b"first")
        assert await link.receive() == b"first"
        # More than the least that a transport reads at a time.
        second = b"second" * 5000
        await peer.text(second)
        sock = peer.stream.extra(anyio.abc.SocketAttribute.raw_socket)
        # Closed so, a connection is reset.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await peer.stream.aclose()
        with suppress(LinkClosed):
            for _ in range(100):
                await link.send(b"[]")
                await anyio.sleep(0)
        assert await link.receive() == second
        assert (await end_of(link)).code == 1006


@pytest.mark.rule("BATCH-5")
async def test_a_message_that_is_too_long_is_closed_with_1009(
    transport: Transport, side: str
) -> None:
    async with by_hand(transport, side, limits=SMALL) as (link, peer):
        await peer.text(b"x" * 65_536)
        assert await link.receive() == b"x" * 65_536
        async with anyio.create_task_group() as group:
            group.start_soon(peer.write, peer.frame(Opcode.TEXT, b"x" * 65_537))
            await both_end_with(1009, link, peer)


async def test_fragments_that_are_too_long_together_are_closed_with_1009(
    transport: Transport, side: str
) -> None:
    async with by_hand(transport, side, limits=SMALL) as (link, peer):
        await peer.write(peer.frame(Opcode.TEXT, b"x" * 40_000, fin=False))
        await peer.write(peer.frame(Opcode.CONT, b"x" * 40_000, fin=False))
        await both_end_with(1009, link, peer)


async def test_fragments_become_one_message(transport: Transport, side: str) -> None:
    async with by_hand(transport, side) as (link, peer):
        await peer.write(
            peer.frame(Opcode.TEXT, b"one ", fin=False)
            + peer.frame(Opcode.CONT, b"", fin=False)
            + peer.frame(Opcode.PING, b"in between")
            + peer.frame(Opcode.CONT, b"message", fin=True)
            + peer.frame(Opcode.TEXT, b"another")
        )
        assert await link.receive() == b"one message"
        assert await link.receive() == b"another"
        assert await peer.expect(Opcode.PONG) == b"in between"


async def test_a_message_in_single_bytes(transport: Transport, side: str) -> None:
    data = b"every one on its own"
    async with by_hand(transport, side) as (link, peer):
        first, rest = data[:1], data[1:]
        await peer.write(
            peer.frame(Opcode.TEXT, first, fin=False)
            + b"".join(peer.frame(Opcode.CONT, bytes([one]), fin=False) for one in rest)
            + peer.frame(Opcode.CONT)
        )
        assert await link.receive() == data


async def test_frames_may_come_in_pieces(transport: Transport, side: str) -> None:
    async with by_hand(transport, side) as (link, peer):
        for size in (5, 300, 70_000):
            whole = peer.frame(Opcode.TEXT, b"p" * size)
            for piece in (whole[:1], whole[1:3], whole[3:5], whole[5:-1], whole[-1:]):
                await peer.write(piece)
                await anyio.sleep(0.002)
            assert await link.receive() == b"p" * size


async def test_pings_are_answered_and_none_are_sent(transport: Transport, side: str) -> None:
    async with by_hand(transport, side) as (link, peer):
        for payload in (b"", b"p" * 125):
            await peer.write(peer.frame(Opcode.PING, payload))
            assert await peer.expect(Opcode.PONG) == payload
        await peer.write(peer.frame(Opcode.PONG, b"nobody asked"))
        await link.send(b"and on")
        assert await peer.expect(Opcode.TEXT) == b"and on"


@pytest.mark.parametrize(("code", "reason"), [(1000, b""), (4001, b"enough"), (4999, b"r" * 123)])
async def test_a_close_frame_is_answered_with_its_own_code(
    transport: Transport, side: str, code: int, reason: bytes
) -> None:
    async with by_hand(transport, side) as (link, peer):
        await peer.text(b"last words")
        await peer.close_frame(code, reason)
        assert await link.receive() == b"last words"
        await both_end_with(code, link, peer, reason.decode())


async def test_a_close_frame_without_a_code_is_1005(transport: Transport, side: str) -> None:
    async with by_hand(transport, side) as (link, peer):
        await peer.close_frame(None)
        assert await peer.expect(Opcode.CLOSE) == b""
        await peer.stream.aclose()
        assert (await end_of(link)).code == 1005


async def test_a_socket_that_just_ends_is_1006(transport: Transport, side: str) -> None:
    async with by_hand(transport, side) as (link, peer):
        await peer.text(b"last words")
        await peer.stream.aclose()
        assert await link.receive() == b"last words"
        assert (await end_of(link)).code == 1006
        with pytest.raises(LinkClosed):
            await link.send(b"x")


def violations(peer: Peer) -> dict[str, bytes]:
    text, cont = Opcode.TEXT, Opcode.CONT
    return {
        "reserved bit 1": peer.frame(text, b"x", reserved=4),
        "reserved bit 2": peer.frame(text, b"x", reserved=2),
        "reserved bit 3": peer.frame(text, b"x", reserved=1),
        "unknown opcode": peer.frame(0x3, b"x"),
        "a continuation of nothing": peer.frame(cont, b"x"),
        "a message inside a message": peer.frame(text, b"x", fin=False) + peer.frame(text, b"y"),
        "a fragmented ping": peer.frame(Opcode.PING, b"x", fin=False),
        "a close code of one byte": peer.frame(Opcode.CLOSE, b"x"),
        "close code 0": peer.frame(Opcode.CLOSE, b"\x00\x00"),
        "close code 1005": peer.frame(Opcode.CLOSE, (1005).to_bytes(2, "big")),
        "close code 1006": peer.frame(Opcode.CLOSE, (1006).to_bytes(2, "big")),
        "close code 5000": peer.frame(Opcode.CLOSE, (5000).to_bytes(2, "big")),
        "garbage": b"\xff" * 64,
    }


VIOLATIONS = [
    "reserved bit 1",
    "reserved bit 2",
    "reserved bit 3",
    "unknown opcode",
    "a continuation of nothing",
    "a message inside a message",
    "a fragmented ping",
    "a close code of one byte",
    "close code 0",
    "close code 1005",
    "close code 1006",
    "close code 5000",
    "garbage",
]


@pytest.mark.parametrize("what", VIOLATIONS)
async def test_a_broken_rule_of_websockets_is_closed_with_1002(
    transport: Transport, side: str, what: str
) -> None:
    async with by_hand(transport, side) as (link, peer):
        await peer.text(b"fine")
        await peer.write(violations(peer)[what])
        await peer.text(b"not to be heard")
        assert await link.receive() == b"fine"
        await both_end_with(1002, link, peer)


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.CLOSE])
async def test_a_frame_that_a_proxy_has_masked_wrongly_is_a_lost_connection(
    transport: Transport, side: str, opcode: Opcode
) -> None:
    async with by_hand(transport, side) as (link, peer):
        await peer.text(b"fine")
        going_away = (1001).to_bytes(2, "big")
        await peer.write(peer.frame(opcode, going_away, mask=not peer.masks))
        await peer.text(b"not to be heard")
        assert await link.receive() == b"fine"
        await both_end_with(1002, link, peer, meaning=1006)


async def test_a_reason_that_is_no_text_is_closed_with_1007(
    transport: Transport, side: str
) -> None:
    async with by_hand(transport, side) as (link, peer):
        await peer.close_frame(4000, b"\xff")
        await both_end_with(1007, link, peer)


async def test_closing_takes_a_bounded_time_when_the_peer_says_nothing(
    transport: Transport, side: str
) -> None:
    async with by_hand(transport, side) as (link, peer):
        await link.close(4500, "goodbye")
        assert await peer.close_code() == 4500
        assert (await end_of(link)).code == 4500
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            while True:
                await peer.stream.receive()


async def test_messages_that_cross_a_close_are_passed_over(transport: Transport, side: str) -> None:
    async with by_hand(transport, side) as (link, peer):
        async with anyio.create_task_group() as group:
            group.start_soon(link.close, 4500, "goodbye")
            assert await peer.close_code() == 4500
            for _ in range(50):
                await peer.text(b"crossed")
            await peer.close_frame(4500)
            if side == "connecting":
                await peer.stream.aclose()
