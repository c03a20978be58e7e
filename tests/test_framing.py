"""The short way into `websockets`: what it takes and gives is what the library takes and gives."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.connection import Connection
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, SERVER, Protocol, Side
from websockets.typing import Subprotocol

from wsrpc.transport.websockets import direct
from wsrpc.transport.websockets.framing import BINARY, TEXT, packed, unpacked

SIZES = (0, 1, 125, 126, 127, 65_535, 65_536, 70_000)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("head", "opcode"), [(TEXT, Opcode.TEXT), (BINARY, Opcode.BINARY)])
def test_what_goes_out_is_read_by_the_library_and_back(
    head: int, opcode: Opcode, masked: bool, size: int
) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    frame = packed(head, data, masked=masked)
    library = Protocol(SERVER if masked else CLIENT, max_size=None)
    library.receive_data(frame)
    (event,) = library.events_received()
    assert isinstance(event, Frame)
    assert (event.opcode, bytes(event.data), event.fin) == (opcode, data, True)
    taken = unpacked(memoryview(frame), head, masked=masked, limit=100_000)
    assert taken == ([data], len(frame), True)


def test_masks_differ_from_frame_to_frame() -> None:
    assert len({packed(TEXT, b"the same", masked=True)[2:6] for _ in range(100)}) > 90


@pytest.mark.parametrize(
    "odd",
    [
        Frame(Opcode.PING, b"ping"),
        Frame(Opcode.CLOSE, b"\x03\xe8"),
        Frame(Opcode.TEXT, b"half a ", fin=False),
        Frame(Opcode.CONT, b"message"),
        Frame(Opcode.BINARY, b"of the other kind"),
        Frame(Opcode.TEXT, bytes(2000)),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_what_is_not_plain_is_left_to_the_library(odd: Frame, masked: bool) -> None:
    first = packed(TEXT, b"[]", masked=masked)
    data = first + odd.serialize(mask=masked) + first
    taken = unpacked(memoryview(data), TEXT, masked=masked, limit=1000)
    assert taken == ([b"[]"], len(first), False)


@pytest.mark.parametrize("masked", [False, True])
def test_a_frame_masked_the_wrong_way_is_left_to_the_library(masked: bool) -> None:
    data = packed(TEXT, b"[]", masked=not masked)
    assert unpacked(memoryview(data), TEXT, masked=masked, limit=1000) == ([], 0, False)


@given(st.integers(0, 2**64 - 1), st.booleans())
def test_a_length_above_the_limit_is_left_to_the_library(size: int, masked: bool) -> None:
    data = bytes((TEXT, 0x80 * masked | 127)) + size.to_bytes(8)
    limit = max(0, size - 1)
    assert unpacked(memoryview(data), TEXT, masked=masked, limit=limit)[2] is (size == 0)


# --- A connection, both ways -----------------------------------------------------------------------


class Wire(asyncio.Transport):
    """What a connection writes."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()

    def write(self, data: Any) -> None:
        self.written += data

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


Outcome = tuple[list[bytes], list[str], list[Frame]]


def connection(side: Side, *, plain: bool) -> direct.Tap:
    protocol = Protocol(side, max_size=300_000)
    protocol.subprotocol = Subprotocol("wsrpc.v1.json")
    tap = direct.Tap(protocol)
    if not plain:
        # As with a logger that wants to see each frame.
        tap.protocol.logger = logging.getLogger("nobody.listens")
        tap.protocol.debug = True
    return tap


async def outcome_of(side: Side, stream: bytes, cuts: list[int], *, plain: bool) -> Outcome:
    """What comes of `stream`, read in pieces: messages, how it ended, what was answered."""
    messages: list[bytes] = []
    ends: list[str] = []
    tap = connection(side, plain=plain)
    wire = Wire()
    tap.connection_made(wire)
    tap.sender(True)
    tap.attach(messages.append, lambda error: ends.append(str(error)), lambda: None)
    assert (tap._head is not None) is plain
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    for begin, end in pairwise(places):
        for at in range(begin, end, direct.READ_SIZE):
            piece = stream[at : min(end, at + direct.READ_SIZE)]
            tap.get_buffer(-1)[: len(piece)] = piece
            tap.buffer_updated(len(piece))
    tap.eof_received()
    tap.connection_lost(None)
    answers = Protocol(CLIENT if side is SERVER else SERVER)
    answers.receive_data(bytes(wire.written))
    answered = [event for event in answers.events_received() if isinstance(event, Frame)]
    return messages, ends, answered


frames = st.one_of(
    st.builds(Frame, st.just(Opcode.TEXT), st.binary(max_size=300)),
    st.builds(
        lambda size: Frame(Opcode.TEXT, bytes(size)),
        st.sampled_from([*SIZES, direct.READ_SIZE, direct.READ_SIZE + 1, 300_000, 300_001]),
    ),
    st.builds(Frame, st.just(Opcode.PING), st.binary(max_size=8)),
    st.builds(Frame, st.sampled_from([Opcode.TEXT, Opcode.CONT]), st.binary(), st.booleans()),
    st.builds(Frame, st.just(Opcode.BINARY), st.binary(max_size=20)),
    st.just(Frame(Opcode.CLOSE, b"\x03\xe8bye")),
)


@pytest.mark.parametrize("side", [SERVER, CLIENT])
@settings(deadline=None)
@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 2**21), max_size=12), st.data())
def test_however_frames_arrive_both_ways_deliver_the_same(
    side: Side, sent: list[Frame], cuts: list[int], data: st.DataObject
) -> None:
    stream = b"".join(frame.serialize(mask=side is SERVER) for frame in sent)
    if data.draw(st.booleans()):
        stream += data.draw(st.binary(max_size=20))

    async def both() -> tuple[Outcome, Outcome]:
        return (
            await outcome_of(side, stream, cuts, plain=True),
            await outcome_of(side, stream, cuts, plain=False),
        )

    short, long = asyncio.run(both())
    assert short == long


@pytest.mark.parametrize("side", [SERVER, CLIENT])
async def test_after_a_ping_the_short_way_goes_on(side: Side, anyio_backend_name: str) -> None:
    if anyio_backend_name != "asyncio":
        pytest.skip("the short way is asyncio's")
    tap = connection(side, plain=True)
    tap.connection_made(Wire())
    messages: list[bytes] = []
    tap.sender(True)
    tap.attach(messages.append, lambda error: None, lambda: None)
    masked = side is SERVER
    for frame, between in (
        (packed(TEXT, b"1", masked=masked), True),
        (Frame(Opcode.PING, b"").serialize(mask=masked), True),
        (Frame(Opcode.TEXT, b"2", fin=False).serialize(mask=masked), False),
        (Frame(Opcode.PING, b"").serialize(mask=masked), False),
        (Frame(Opcode.CONT, b"3").serialize(mask=masked), True),
        (packed(TEXT, b"4", masked=masked), True),
    ):
        tap.get_buffer(-1)[: len(frame)] = frame
        tap.buffer_updated(len(frame))
        assert tap._between is between
    assert messages == [b"1", b"23", b"4"]
    tap.connection_lost(None)


async def test_what_uvloop_hands_over_as_bytes_takes_the_short_way_too(
    anyio_backend_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if anyio_backend_name != "asyncio":
        pytest.skip("the short way is asyncio's")
    tap = connection(SERVER, plain=True)
    tap.connection_made(Wire())
    messages: list[bytes] = []
    tap.sender(True)
    tap.attach(messages.append, lambda error: None, lambda: None)
    long = bytes(direct.READ_SIZE)
    sent = b"".join(packed(TEXT, data, masked=True) for data in (b"1", long[:-100], b"2"))
    monkeypatch.setattr(Connection, "data_received", None)
    tap.data_received(sent[:-3])
    tap.data_received(sent[-3:])
    assert messages == [b"1", long[:-100], b"2"]
    monkeypatch.undo()
    tap.connection_lost(None)
