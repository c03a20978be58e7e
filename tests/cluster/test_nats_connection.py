"""The socket under the library of NATS: what goes to handlers, what to the library, and in which order."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from wsrpc.cluster.bus.connection import LONGEST, UNREAD, Wire

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])

Got = list[tuple[str, bytes, str]]

FOR_THE_LIBRARY = [
    b'INFO {"server_id": "x"}\r\n',
    b"MSG other 2 5\r\nMSG \r\r\n",
    b"PING\r\n",
    b"HMSG mine 1 12 17\r\nNATS/1.0\r\n\r\nhello\r\n",
    b"+OK\r\n",
    b"MSG other 11 reply 0\r\n\r\n",
]
FOR_HANDLERS = [
    b"MSG mine 1 5\r\nhello\r\n",
    b"MSG mine.too 1 answer.here 4\r\n\r\n\r\n\r\n",
    b"MSG mine 1 0\r\n\r\n",
    b"MSG mine 1 12\r\nMSG x 1 1\r\n?\r\n",
]
ARRIVED = [
    ("mine", b"hello", ""),
    ("mine.too", b"\r\n\r\n", "answer.here"),
    ("mine", b"", ""),
    ("mine", b"MSG x 1 1\r\n?", ""),
]


class Socket(asyncio.Transport):
    """A transport that notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = False
        self.aborted = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def abort(self) -> None:
        self.aborted = True


def wire() -> tuple[Wire, Socket, Got]:
    """A connection with a handler for one subscription."""
    got: Got = []
    made = Wire({b"1": lambda *message: got.append(message)})
    socket = Socket()
    made.connection_made(socket)
    return made, socket, got


def mixed() -> bytes:
    """Messages for handlers and for the library, by turns."""
    pairs = zip(FOR_THE_LIBRARY, [*FOR_HANDLERS, b"", b""], strict=True)
    return b"".join(one + other for one, other in pairs)


async def test_messages_that_come_in_pieces_arrive_whole_wherever_they_are_cut() -> None:
    data = mixed()
    for cut in range(len(data) + 1):
        one, _, got = wire()
        for piece in (data[:cut], data[cut:]):
            if piece:
                one.data_received(piece)
        assert got == ARRIVED
        assert await one.read() == b"".join(FOR_THE_LIBRARY)


async def test_messages_arrive_whole_byte_by_byte_and_in_random_pieces() -> None:
    data = mixed() * 3
    chance = random.Random(1)
    for most in (1, 2, 7, 50):
        one, _, got = wire()
        at = 0
        while at < len(data):
            size = chance.randint(1, most)
            one.data_received(data[at : at + size])
            at += size
        assert got == ARRIVED * 3
        assert await one.read() == b"".join(FOR_THE_LIBRARY) * 3


async def test_messages_arrive_as_bytes_from_event_loops_that_bring_something_else() -> None:
    one, _, got = wire()
    one.data_received(bytearray(mixed()))  # type: ignore[arg-type]
    assert got == ARRIVED
    assert {type(data) for _, data, _ in got} == {bytes}


async def test_a_message_that_cannot_be_read_is_left_to_the_library() -> None:
    one, _, got = wire()
    one.data_received(FOR_HANDLERS[0] + b"MSG mine 1 many\r\n" + FOR_HANDLERS[0])
    assert got == ARRIVED[:1]
    assert await one.read() == b"MSG mine 1 many\r\n" + FOR_HANDLERS[0]


@pytest.mark.parametrize("data", [b"MSG mine 1 %d\r\n" % (LONGEST + 1), b"x" * (LONGEST + 1)])
async def test_a_connection_that_brings_what_nats_never_sends_is_cut(data: bytes) -> None:
    one, socket, _ = wire()
    one.data_received(data)
    assert socket.aborted


async def test_a_socket_is_not_read_on_while_much_waits_for_the_library() -> None:
    one, socket, _ = wire()
    for _ in range(UNREAD // len(b"PING\r\n") + 1):
        one.data_received(b"PING\r\n")
    assert socket.paused
    await one.read()
    assert not socket.paused


async def test_the_library_gets_the_rest_and_then_the_end() -> None:
    one, _, _ = wire()
    one.data_received(b"PONG\r\nPI")
    one.connection_lost(None)
    assert not one.at_eof
    assert await one.readline() == b"PONG\r\n"
    assert one.at_eof
    assert await one.read() == b""


async def test_a_reader_that_waits_learns_that_the_connection_broke() -> None:
    one, _, _ = wire()
    reading: Any = asyncio.ensure_future(one.read())
    await asyncio.sleep(0)
    assert one.quiet
    one.connection_lost(ConnectionResetError("it broke"))
    with pytest.raises(ConnectionResetError):
        await reading
    with pytest.raises(ConnectionResetError):
        await one.drain()


async def test_a_writer_that_drains_waits_until_the_socket_takes_more() -> None:
    one, _, _ = wire()
    one.pause_writing()
    draining: Any = asyncio.ensure_future(one.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    one.resume_writing()
    await draining
