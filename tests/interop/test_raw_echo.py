"""Plain WebSocket messages against the echo of the interop server, numbered as Autobahn's cases."""

from __future__ import annotations

import anyio
import pytest

from tests.hostile.raw import BINARY, BROKEN, CLOSE, CONTINUATION, PING, PONG, TEXT, RawLink, ws
from tests.support import soon
from wsrpc.interop.raw_echo import ECHO, echoing
from wsrpc.limits import Limits
from wsrpc.transport.registry import Transport

BYE = ws(CLOSE, (1000).to_bytes(2, "big"))
SNOWMAN = "☃".encode()
BIG = "größer ".encode() * 30_000


def part(opcode: int, payload: bytes) -> bytes:
    """A frame that is not the last of its message."""
    return ws(opcode, payload, final=False)


def farewell(code: int, reason: bytes = b"") -> bytes:
    return ws(CLOSE, code.to_bytes(2, "big") + reason)


# What is sent, and what comes back: frames, and the code of the close frame.
CASES: dict[str, tuple[bytes, list[tuple[int, bytes]], int]] = {
    "1.1.1": (ws(TEXT), [(TEXT, b"")], 1000),
    "1.1.5": (ws(TEXT, b"*" * 65_535), [(TEXT, b"*" * 65_535)], 1000),
    "1.1.6": (ws(TEXT, BIG), [(TEXT, BIG)], 1000),
    "1.2.1": (ws(BINARY), [(BINARY, b"")], 1000),
    "1.2.4": (ws(BINARY, b"\xfe" * 127), [(BINARY, b"\xfe" * 127)], 1000),
    "1.2.7": (ws(BINARY, b"\xfe" * 200_000), [(BINARY, b"\xfe" * 200_000)], 1000),
    "2.2": (ws(PING, b"hello"), [(PONG, b"hello")], 1000),
    "2.4": (ws(PING, b"\xfe" * 125), [(PONG, b"\xfe" * 125)], 1000),
    "2.5": (ws(PING, b"\xfe" * 126), [], 1002),
    "2.8": (ws(PONG, b"unasked"), [], 1000),
    "2.10": (
        b"".join(ws(PING, bytes([i])) for i in range(10)),
        [(PONG, bytes([i])) for i in range(10)],
        1000,
    ),
    "3.1": (ws(TEXT, b"a", rsv=1), [], 1002),
    "3.7": (ws(CLOSE, rsv=7), [], 1002),
    "4.1.1": (ws(0x3, b"a"), [], 1002),
    "4.2.1": (ws(0xB, b"a"), [], 1002),
    "5.1": (part(PING, b"a") + ws(CONTINUATION, b"b"), [], 1002),
    "5.3": (part(TEXT, b"a") + ws(CONTINUATION, b"b"), [(TEXT, b"ab")], 1000),
    "5.6": (
        part(BINARY, b"a") + ws(PING, b"p") + ws(CONTINUATION, b"b"),
        [(PONG, b"p"), (BINARY, b"ab")],
        1000,
    ),
    "5.9": (ws(CONTINUATION, b"a"), [], 1002),
    "5.18": (part(TEXT, b"a") + ws(TEXT, b"b"), [], 1002),
    "6.1.3": (
        part(TEXT, b"") + part(CONTINUATION, b"a") + ws(CONTINUATION),
        [(TEXT, b"a")],
        1000,
    ),
    "6.2.3": (
        b"".join(part(0 if i else TEXT, SNOWMAN[i : i + 1]) for i in range(3)) + ws(CONTINUATION),
        [(TEXT, SNOWMAN)],
        1000,
    ),
    "6.3.1": (ws(TEXT, b"\xce\xba\xed\xa0\x80"), [], 1007),
    "6.3.2": (part(TEXT, b"\xce\xba\xed") + ws(CONTINUATION, b"\xa0\x80"), [], 1007),
    "6.6.1": (ws(TEXT, b"\xce"), [], 1007),
    "7.1.3": (BYE + ws(PING, b"late"), [], 1000),
    "7.3.1": (ws(CLOSE), [], 1005),
    "7.3.2": (ws(CLOSE, b"a"), [], 1002),
    "7.3.6": (farewell(1000, b"*" * 124), [], 1002),
    "7.5.1": (farewell(1000, b"\xce\xba\xed\xa0\x80"), [], 1007),
    "7.7.9": (farewell(3000), [], 3000),
    "7.7.13": (farewell(4999), [], 4999),
    "7.9.1": (farewell(0), [], 1002),
    "7.9.4": (farewell(1005), [], 1002),
    "7.9.6": (farewell(1016), [], 1002),
}


REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def exchange(
    transport: Transport, data: bytes, answers: int | None, limits: Limits = ECHO
) -> tuple[list[tuple[int, bytes]], int]:
    """The bytes that come back for these, and the code of the close frame after them.

    After `answers` frames this side sends a close frame; with None the peer closes by itself.
    """
    async with echoing("127.0.0.1", 0, transport=transport, limits=limits) as url:
        port = int(url.rpartition(":")[2])
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(REQUEST)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += await stream.receive()
            head, _, rest = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"sec-websocket-protocol" not in head.lower()
            link = RawLink(stream, "json", rest)
            await link.send_bytes(data)
            frames: list[tuple[int, bytes]] = []
            while True:
                if len(frames) == answers:
                    await link.send_bytes(BYE)
                try:
                    opcode, payload = await link._next()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return frames, BROKEN
                if opcode == CLOSE:
                    return frames, int.from_bytes(payload[:2], "big") if payload else 1005
                frames.append((opcode, payload))


@pytest.mark.parametrize("case", CASES)
async def test_plain_messages_come_back_and_broken_ones_end_as_the_standard_says(
    transport: Transport, case: str
) -> None:
    """The ground of the Autobahn test suite, which `make autobahn` runs where it is installed."""
    data, frames, code = CASES[case]
    answers = len(frames) if code == 1000 and data[0] & 0xF != CLOSE else None
    with soon():
        assert await exchange(transport, data, answers) == (frames, code)


async def test_a_message_above_the_limit_ends_with_1009(transport: Transport) -> None:
    limits = Limits(max_batch=65_536)
    with soon():
        assert await exchange(transport, ws(BINARY, bytes(65_537)), None, limits) == ([], 1009)


async def test_bytes_one_by_one_make_the_same_messages(transport: Transport) -> None:
    """Autobahn's 1.1.8, 9.5."""
    with soon():
        async with echoing("127.0.0.1", 0, transport=transport) as url:
            port = int(url.rpartition(":")[2])
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(REQUEST)
                while not (await stream.receive()).endswith(b"\r\n\r\n"):
                    continue
                for byte in ws(TEXT, b"a" * 130) + ws(BINARY, b"b") + BYE:
                    await stream.send(bytes([byte]))
                link = RawLink(stream, "json")
                assert await link._next() == (TEXT, b"a" * 130)
                assert await link._next() == (BINARY, b"b")
                assert await link.closed() == 1000
