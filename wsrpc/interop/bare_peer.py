"""One side of the protocol by hand: a WebSocket, a codec, and nothing that knows the rules.

It shares no code with the rest of the package, so that its tests do not depend on that code.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeAlias

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

__all__ = ["SUBPROTOCOLS", "Bare", "Codec", "Failed", "Frame", "Refused", "open_bare"]

Codec: TypeAlias = Literal["json", "msgpack"]
Frame: TypeAlias = list[Any]

SUBPROTOCOLS: dict[Codec, str] = {"json": "wsrpc.v1.json", "msgpack": "wsrpc.v1.msgpack"}

LINK_FRAMES = ("hello", "ack", "ping", "pong", "goaway", "auth")
ANSWERS = ("message", "result", "end", "error")
TERMINALS = ("result", "end", "error")

# The limits of a hello that announces none.
LIMITS = {"max_batch": 64 * 1024, "max_calls": 8, "max_value": 64 * 1024, "max_held": 0}

# Bytes of the smallest piece of a large value; only the last one may be smaller.
SMALLEST_PIECE = 16 * 1024
LARGEST_PIECE: dict[Codec, int] = {"json": 32 * 1024, "msgpack": 64 * 1024}

# Bytes. More than either side ever announces, so that this side's library refuses nothing.
MAX_SIZE = 64 * 1024 * 1024


class Failed(Exception):
    """The other side violated protocol.md."""


class Refused(Exception):
    """The handshake was answered with an HTTP status instead of a WebSocket.

    Attributes:
        status: The HTTP status.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"the handshake was refused with HTTP {status}")
        self.status = status


class Bare:
    """A WebSocket whose messages are batches of frames, written and read one by one.

    Attributes:
        codec: How batches are encoded.
        subprotocol: The subprotocol that the handshake agreed on.
        peer: The body of the other side's hello, once it has come.
        taken: Numbered frames that have come.
        acks: The counts of the other side's acks.
    """

    def __init__(self, connection: Any, codec: Codec) -> None:
        self.codec: Codec = codec
        self.subprotocol: str | None = connection.subprotocol
        self.peer: dict[str, Any] = {}
        self.taken = 0
        self.acks: list[int] = []
        self._connection = connection
        self._close = getattr(connection, "aclose", None) or connection.close
        self._frames: deque[Frame] = deque()
        self._credit: dict[int, int] = {}

    def limit(self, name: Literal["max_batch", "max_calls", "max_value", "max_held"]) -> int:
        """A limit that the other side's hello announced, or its default."""
        announced = (self.peer.get("limits") or {}).get(name)
        return LIMITS[name] if announced is None else int(announced)

    @property
    def window(self) -> int:
        """The credit with which uploads to the other side begin."""
        return int(self.peer.get("window") or 0)

    def padded(self, frame: Frame, size: int) -> str | bytes:
        """A message of exactly this size: `frame`, with further elements that have no meaning."""
        guess = size - len(self.encode([frame])) - 16
        for more in range(16):
            trailing = [*frame, *[0] * more]
            missing = size - len(self.encode([[*trailing, "a" * guess]]))
            message = self.encode([[*trailing, "a" * (guess + missing)]])
            if len(message) == size:
                return message
        raise AssertionError(size)

    # ------------------------------------------------------------ out

    async def send(self, *frames: Frame) -> None:
        """Send frames as one batch."""
        await self.send_message(self.encode(list(frames)))

    async def send_message(self, data: str | bytes) -> None:
        """Send a message as it stands: text for a str, binary for bytes."""
        try:
            await self._connection.send(data)
        except ConnectionClosed as closed:
            raise _unexpected(closed, "it took all that was sent") from None

    async def send_text(self, data: bytes) -> None:
        """Send a text message that need not be UTF-8."""
        await self._connection.send(data, text=True)

    def encode(self, batch: Any) -> str | bytes:
        """`batch` as a message."""
        if self.codec == "json":
            return json.dumps(batch, ensure_ascii=False, allow_nan=False, default=_piece_as_text)
        return msgspec.msgpack.encode(batch)

    def chunks(self, id: int, value: Any, piece: int = 64 * 1024) -> list[Frame]:
        """The `chunk` frames of a value, in pieces of this size, or the other side's largest."""
        # In JSON a piece may be twice as long once it is a string.
        piece = min(piece, self.limit("max_batch") // 2 - 1024)
        data = self.value(value)
        frames: list[Frame] = []
        at = 0
        while at < len(data) or not frames:
            end = min(at + piece, len(data))
            while self.codec == "json" and end < len(data) and data[end] & 0xC0 == 0x80:
                end -= 1
            frames.append(["chunk", id, end == len(data), data[at:end]])
            at = end
        return frames

    def value(self, value: Any) -> bytes:
        """The encoding of a value."""
        data = self.encode(value)
        return data.encode() if isinstance(data, str) else data

    async def large(self, frame: Frame, value: Any, piece: int = 64 * 1024) -> None:
        """Send a frame and then its value in chunks; the frame has null in its place, and all else."""
        await self.send([*frame, len(self.value(value))])
        for chunk in self.chunks(frame[1], value, piece):
            await self.send(chunk)

    async def hello(self, *more: Frame, **fields: Any) -> dict[str, Any]:
        """Open the conversation from the connecting side; returns the other's hello."""
        await self.send(hello(**fields), *more)
        await self.greeted()
        await self.send(["ack", 0])
        return self.peer

    async def upload(self, id: int, *items: Any) -> None:
        """Send small items on an upload, as its credit allows, in as few frames as that takes."""
        left = self._credit.get(id, self.window)
        todo = list(items)
        while todo:
            while left < 1:
                left += (await self.sent("credit", id))[2]
            group, todo = todo[:left], todo[left:]
            left -= len(group)
            await self.send(["message", id, group])
        self._credit[id] = left

    async def greeted(self) -> dict[str, Any]:
        """Wait for the other side's hello."""
        frame = await self.frame()
        if frame[0] != "hello":
            raise Failed(f"the first frame is {short(frame)}, not hello (HELLO-1)")
        self.peer = frame[1]
        return self.peer

    async def close(self, code: int = 1000) -> None:
        """Close from this side."""
        await self._close(code)

    async def cut(self) -> None:
        """Drop the connection without a word, as a pulled cable does."""
        transport = getattr(self._connection, "transport", None)
        if transport is not None:
            transport.abort()
        else:
            import trio

            await trio.aclose_forcefully(self._connection.stream)

    # ------------------------------------------------------------ in

    async def batch(self) -> list[Frame]:
        """The next message's frames; acks are noted and pings answered."""
        data = await self._receive()
        frames = self._decode(data)
        for frame in frames:
            if frame[0] == "ack":
                self.acks.append(frame[1])
            elif frame[0] == "ping":
                await self.send(["pong", frame[1]])
            elif frame[0] not in LINK_FRAMES and not frame[0].startswith("x-"):
                self.taken += 1
        if self.peer.get("resume_window") and self.taken:
            await self.send(["ack", self.taken])
        return frames

    async def _receive(self) -> str | bytes:
        try:
            data: str | bytes = await self._connection.recv()
        except ConnectionClosed as closed:
            raise _unexpected(closed, "a frame") from None
        return data

    def _decode(self, data: str | bytes) -> list[Frame]:
        if isinstance(data, str) != (self.codec == "json"):
            raise Failed(f"a message of the wrong WebSocket type for {self.codec} (BATCH-1)")
        try:
            batch = _load_json(data) if isinstance(data, str) else msgspec.msgpack.decode(data)
        except (ValueError, msgspec.MsgspecError) as error:
            raise Failed(f"a message that cannot be decoded: {error} (BATCH-1)") from None
        well_formed = isinstance(batch, list) and all(
            isinstance(frame, list) and frame and isinstance(frame[0], str) for frame in batch
        )
        if not well_formed or not batch:
            raise Failed(f"a message that is no batch: {short(batch)} (BATCH-1)")
        frames: list[Frame] = batch
        return frames

    async def frame(
        self, wanted: Callable[[Frame], bool] | None = None, what: str = "a frame"
    ) -> Frame:
        """The first frame that is wanted; those before it are kept for later.

        Without `wanted`, any but `ack`, `ping` and extensions.
        """
        wanted = wanted or _speaks
        while True:
            for position, frame in enumerate(self._frames):
                if wanted(frame):
                    del self._frames[position]
                    return frame
            try:
                self._frames.extend(await self.batch())
            except _Closed as closed:
                raise Failed(f"expected {what}, but {closed}") from None

    async def on(self, id: int) -> Frame:
        """The next `message` or terminal on an id."""
        return await self.frame(
            lambda frame: frame[0] in ANSWERS and frame[1] == id, f"an answer on id {id}"
        )

    async def terminal(self, id: int) -> Frame:
        """The terminal of an id, without the items before it."""
        return (await self.outcome(id))[1]

    async def joined(self, frame: Frame) -> Any:
        """The value that follows in chunks on a frame that has come, checked piece by piece."""
        id, size = frame[1], frame[-1]
        if type(size) is not int:
            raise Failed(f"{short(frame)} has no size (CHUNK-1)")
        data, last = b"", False
        while not last:
            _, _, last, piece = await self.frame(
                lambda frame: frame[:2] == ["chunk", id], f"a chunk on id {id}"
            )
            if not isinstance(piece, str if self.codec == "json" else bytes):
                raise Failed(f"a piece of the wrong type: {short(piece)} (CHUNK-2)")
            part = piece.encode() if isinstance(piece, str) else piece
            least = 1 if last else SMALLEST_PIECE
            if not least <= len(part) <= LARGEST_PIECE[self.codec]:
                raise Failed(f"a piece of {len(part)} bytes (CHUNK-2)")
            data += part
        if len(data) != size:
            raise Failed(f"{len(data)} bytes of a value that was to have {size} (CHUNK-3)")
        return _load_json(data.decode()) if self.codec == "json" else msgspec.msgpack.decode(data)

    async def outcome(self, id: int) -> tuple[list[Any], Frame]:
        """All items that come on an id, and its terminal."""
        items: list[Any] = []
        while (frame := await self.on(id))[0] not in TERMINALS:
            items += frame[2]
        return items, frame

    async def items(self, id: int, n: int) -> list[Any]:
        """The next n items on an id, neither more nor a terminal."""
        items: list[Any] = []
        while len(items) < n:
            frame = await self.on(id)
            if frame[0] != "message":
                raise Failed(f"expected {n} items on id {id}, got {items} and {short(frame)}")
            items += frame[2]
        if len(items) > n:
            raise Failed(f"expected {n} items on id {id}, got {items}")
        return items

    async def called(self) -> Frame:
        """The next call that the other side makes."""
        return await self.frame(lambda frame: frame[0] == "call", "a call")

    async def sent(self, name: str, id: int) -> Frame:
        """The next `credit` or `cancel` on an id."""
        return await self.frame(lambda frame: frame[:2] == [name, id], f"{name} on id {id}")

    async def pong(self, n: int) -> None:
        """Send a ping and wait for its pong."""
        await self.send(["ping", n])
        await self.frame(lambda frame: frame == ["pong", n], f"a pong of {n}")

    def waiting(self, id: int) -> list[Frame]:
        """The frames on an id that have come and were not asked for."""
        return [frame for frame in self._frames if frame[0] in ANSWERS and frame[1] == id]

    async def closed(self, *last: Frame) -> int:
        """Wait until the other side closes; returns the code.

        Args:
            last: Frames to send before, each as a batch; it may close before it has them all.
        """
        try:
            for frame in last:
                await self.send(frame)
            while True:
                self._frames.extend(await self.batch())
        except _Closed as closed:
            return closed.code


class _Closed(Failed):
    """The other side closed the WebSocket."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.code = code


def _unexpected(closed: ConnectionClosed, instead_of: str) -> _Closed:
    received = closed.rcvd
    if received is None:
        return _Closed(1006, f"the connection broke where {instead_of} was expected")
    said = f"the other side closed with {received.code} ({received.reason})"
    return _Closed(received.code, f"{said} where {instead_of} was expected")


def _speaks(frame: Frame) -> bool:
    return frame[0] not in ("ack", "ping") and not frame[0].startswith("x-")


def _piece_as_text(piece: bytes) -> str:
    return piece.decode()


def _load_json(text: str) -> Any:
    def no_constant(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_constant=no_constant)


def hello(**fields: Any) -> Frame:
    """A connecting side's hello with ample limits, changed by `fields`."""
    body: dict[str, Any] = {
        "version": 1,
        "window": 32,
        "limits": {"max_batch": 2 * 1024 * 1024, "max_calls": 256},
        "agent": "bare",
    }
    return ["hello", {**body, **fields}]


def short(value: Any) -> str:
    """`value` for a message to people."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text)} characters)"


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal as protocol.md means it: `true` is no 1, but 1.0 is 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return left == right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return type(left) is type(right) and bool(left == right)


@asynccontextmanager
async def open_bare(
    url: str,
    codec: Codec,
    *,
    subprotocols: list[str] | None = None,
    headers: dict[str, str] | None = None,
) -> AsyncIterator[Bare]:
    """Open a WebSocket; closes on leaving.

    Args:
        url: The URL to connect to.
        codec: How batches are encoded.
        subprotocols: The subprotocols to offer instead of the codec's; an empty list offers none.
        headers: More headers for the handshake.

    Raises:
        Refused: The handshake was answered with an HTTP status.
    """
    offered = [SUBPROTOCOLS[codec]] if subprotocols is None else subprotocols
    connector = _connector()
    options: dict[str, Any] = {
        "subprotocols": [Subprotocol(name) for name in offered] or None,
        "additional_headers": headers,
        "compression": None,
        "ping_interval": None,
        "close_timeout": 2,
        "max_size": MAX_SIZE,
    }
    try:
        manager = connector(url, **options)
        connection = await manager.__aenter__()
    except InvalidStatus as invalid:
        raise Refused(invalid.response.status_code) from None
    try:
        yield Bare(connection, codec)
    finally:
        await manager.__aexit__(None, None, None)


def _connector() -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        from websockets.trio.client import connect as connect_trio

        return connect_trio
    from websockets.asyncio.client import connect as connect_asyncio

    return connect_asyncio
