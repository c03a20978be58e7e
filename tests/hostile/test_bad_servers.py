"""Clients of hostile servers: each gets a typed error in time, and leaves no task."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import Codec

from .raw import TEXT, RawLink, raw_server, ws

# Seconds. What the client has until its call has failed; generous, for a machine that is busy.
IN_TIME = 5.0

LIMITS = wsrpc.Limits(
    connect_timeout=0.5, close_timeout=0.2, stall_timeout=0.5, max_value=100_000, window=8
)


class Hello:
    @wsrpc.method
    async def greet(self, name: str) -> str:
        return name

    @wsrpc.method
    async def items(self) -> AsyncIterator[int]:
        yield 1

    @wsrpc.method
    async def total(self, numbers: AsyncIterator[int]) -> int:
        return 0


async def greet(session: wsrpc.Session) -> None:
    await session.clientize(Hello, timeout=0.5).greet("Ann")


async def read(session: wsrpc.Session) -> None:
    async with session.clientize(Hello, idle_timeout=0.5).items() as stream:
        async for _ in stream:
            pass


async def upload(session: wsrpc.Session) -> None:
    async def numbers() -> AsyncIterator[int]:
        while True:
            yield 1

    await session.clientize(Hello, timeout=0.5).total(numbers())


async def idle(session: wsrpc.Session) -> None:
    raise await session.wait_closed()


Act = Callable[[wsrpc.Session], Awaitable[None]]
Script = Callable[[RawLink], Awaitable[None]]


@dataclass(frozen=True)
class Bad:
    """A server, what its client does, and what becomes of that.

    Attributes:
        script: What the server does.
        act: What the client does meanwhile.
        error: What it gets.
        code: The error's code, or the code with which the connection was closed.
    """

    script: Script
    act: Act
    error: type[Exception]
    code: str | int


BAD: list[Bad] = []


def against(act: Act, error: type[Exception], code: str | int) -> Callable[[Script], Script]:
    def note(script: Script) -> Script:
        BAD.append(Bad(script, act, error, code))
        return script

    return note


async def welcome(link: RawLink, **fields: Any) -> None:
    """Take the hello and the ack, and say hello properly."""
    await link.next("hello")
    await link.send(["hello", {"version": 1, "session": "s", "window": 8, **fields}])


async def hang(link: RawLink) -> None:
    """Read until the client has gone."""
    await link.closed()


# ------------------------------------------------------------------------------------ the hello


@against(idle, wsrpc.ConnectError, 4008)
async def never_says_hello(link: RawLink) -> None:
    await hang(link)


@against(idle, wsrpc.ConnectError, 4500)
async def says_garbage_for_hello(link: RawLink) -> None:
    await link.send_message(link.codec.dump({"hello": 1}))
    await hang(link)


@against(idle, wsrpc.ConnectError, 4505)
async def resumes_what_never_was(link: RawLink) -> None:
    await welcome(link, resumed=True)
    await hang(link)


@against(idle, wsrpc.ConnectError, 4505)
async def has_received_what_was_never_sent(link: RawLink) -> None:
    await welcome(link, received=2**53)
    await hang(link)


@against(idle, wsrpc.ConnectError, 4507)
async def speaks_another_version(link: RawLink) -> None:
    await link.next("hello")
    await link.send(["hello", {"version": 2}])
    await hang(link)


@against(idle, wsrpc.ConnectionLost, 4505)
async def floods_with_hellos(link: RawLink) -> None:
    await welcome(link)
    for _ in range(1000):
        await link.send(["hello", {"version": 1, "session": "t", "token": "x" * 1000}])
    await hang(link)


@against(idle, wsrpc.ConnectError, 4500)
async def announces_a_heartbeat_without_pause(link: RawLink) -> None:
    await welcome(link, heartbeat=[0, 0])
    await hang(link)


# ------------------------------------------------------------------------------------ frames


@against(greet, wsrpc.ConnectionLost, 4505)
async def answers_ids_that_nobody_opened(link: RawLink) -> None:
    await welcome(link)
    await link.next("call")
    await link.send(["result", 99, 1])
    await hang(link)


@against(greet, wsrpc.ConnectionLost, 4505)
async def opens_ids_of_the_wrong_parity(link: RawLink) -> None:
    await welcome(link)
    await link.next("call")
    await link.send(["call", 101, "Hello.greet", {}])
    await hang(link)


@against(greet, wsrpc.ConnectionLost, 4500)
async def speaks_garbage(link: RawLink) -> None:
    await welcome(link)
    await link.next("call")
    await link.send_message(b'{"jsonrpc":"2.0"}')
    await hang(link)


@against(greet, wsrpc.ConnectionLost, 4505)
async def acks_what_was_never_sent(link: RawLink) -> None:
    await welcome(link, resume_window=30_000, token="t")
    await link.next("call")
    await link.send(["ack", 2**53])
    await hang(link)


@against(greet, wsrpc.RpcError, "internal")
async def answers_with_another_type(link: RawLink) -> None:
    await welcome(link)
    call = await link.next("call")
    await link.send(["result", call[1], {"__class__": "str"}])
    await hang(link)


@against(greet, wsrpc.RpcError, "unknown")
async def answers_with_an_error_that_is_none(link: RawLink) -> None:
    await welcome(link)
    call = await link.next("call")
    body = {"code": "\x1b[31m", "message": "a\nb", "type": "SystemExit", "error_id": "x" * 10_000}
    await link.send(["error", call[1], body])
    await hang(link)


@against(greet, wsrpc.ConnectionLost, 4505)
async def answers_an_upload_with_items(link: RawLink) -> None:
    await welcome(link)
    call = await link.next("call")
    await link.send(["credit", call[1], 2**31 - 1], ["end", call[1] + 2])
    await hang(link)


# ------------------------------------------------------------------------------------ floods


@against(idle, wsrpc.ConnectionLost, 4004)
async def floods_with_frames_that_mean_nothing(link: RawLink) -> None:
    await welcome(link)
    batch = link.codec.dump([["x-a"]] * 2000)
    for _ in range(50):
        await link.send_message(batch)
    await hang(link)


@against(idle, wsrpc.ConnectionLost, 4004)
async def floods_with_pings(link: RawLink) -> None:
    await welcome(link)
    for n in range(3000):
        await link.send(["ping", n])
    await hang(link)


@against(idle, wsrpc.ConnectionLost, 4004)
async def floods_with_pings_of_websocket(link: RawLink) -> None:
    await welcome(link)
    await link.send_bytes(ws(0x9, b"x" * 125, mask=False) * 20_000)
    await hang(link)


@against(idle, wsrpc.ConnectionLost, 4004)
async def floods_with_calls_beyond_the_slots(link: RawLink) -> None:
    await welcome(link)
    for begin in range(2, 8000, 200):
        await link.send(*(["call", id, "Host.wait", {}] for id in range(begin, begin + 200, 2)))
    await hang(link)


@against(idle, wsrpc.ConnectionLost, 4004)
async def drains_without_end(link: RawLink) -> None:
    await welcome(link)
    batch = link.codec.dump([["goaway", {"last_id": 0, "grace": 0}]] * 2000)
    for _ in range(20):
        await link.send_message(batch)
    await hang(link)


# ------------------------------------------------------------------------------------ streams


@against(read, wsrpc.ConnectionLost, 4505)
async def sends_items_without_credit(link: RawLink) -> None:
    await welcome(link)
    call = await link.next("call")
    await link.send(["message", call[1], [1] * 1000])
    await hang(link)


@against(read, wsrpc.DeadlineExceeded, "deadline_exceeded")
async def never_ends_and_never_answers_a_cancel(link: RawLink) -> None:
    await welcome(link)
    call = await link.next("call")
    await link.send(["message", call[1], [1, 2]])
    await hang(link)


@against(read, wsrpc.ConnectionLost, 4505)
async def streams_without_an_item(link: RawLink) -> None:
    await welcome(link)
    call = await link.next("call")
    await link.send(["message", call[1], [1]], ["result", call[1], 1])
    await hang(link)


@against(upload, wsrpc.ConnectionLost, 4505)
async def grants_more_credit_than_there_is(link: RawLink) -> None:
    await welcome(link)
    call = await link.next("call")
    (id,) = call[4]["uploads"].values()
    await link.send(["credit", id, 2**31 - 1], ["credit", id, 2**31 - 1])
    await hang(link)


@against(upload, wsrpc.DeadlineExceeded, "deadline_exceeded")
async def takes_an_upload_and_never_reads(link: RawLink) -> None:
    await welcome(link, window=2**31 - 1)
    await anyio.sleep_forever()


# ------------------------------------------------------------------------------------ values


@against(greet, wsrpc.ConnectionLost, 4505)
async def sends_chunks_of_no_value(link: RawLink) -> None:
    await welcome(link)
    call = await link.next("call")
    await link.send(["chunk", call[1], True, "x" if link.codec.text else b"x"])
    await hang(link)


@against(greet, wsrpc.ConnectionLost, 4505)
async def sends_chunks_that_are_too_short(link: RawLink) -> None:
    await welcome(link)
    call = await link.next("call")
    piece = "x" if link.codec.text else b"x"
    await link.send(["result", call[1], None, 80_000], ["chunk", call[1], False, piece])
    await hang(link)


@against(greet, wsrpc.RpcError, "resource_exhausted")
async def announces_a_value_that_is_too_large(link: RawLink) -> None:
    await welcome(link)
    call = await link.next("call")
    await link.send(["result", call[1], None, 2**62])
    await hang(link)


@against(greet, wsrpc.DeadlineExceeded, "deadline_exceeded")
async def begins_a_value_and_never_ends_it(link: RawLink) -> None:
    await welcome(link)
    call = await link.next("call")
    await link.send(["result", call[1], None, 80_000])
    await hang(link)


@against(greet, wsrpc.ConnectionLost, 1009)
async def sends_a_message_that_is_too_large(link: RawLink) -> None:
    await welcome(link)
    call = await link.next("call")
    await link.send(["result", call[1], "x" * 300_000])
    await hang(link)


# ------------------------------------------------------------------------------------ the link


@against(greet, wsrpc.DeadlineExceeded, "deadline_exceeded")
async def stalls(link: RawLink) -> None:
    await welcome(link)
    await anyio.sleep_forever()


@against(greet, wsrpc.ConnectionLost, 1006)
async def closes_in_the_middle_of_a_frame(link: RawLink) -> None:
    await welcome(link)
    await link.next("call")
    await link.send_bytes(ws(TEXT if link.codec.text else 0x2, b"x" * 100, mask=False)[:50])


# Proxies do so when they end a connection: it counts as lost, and the server gets 1002.
@against(greet, wsrpc.ConnectionLost, 1006)
async def masks_its_frames(link: RawLink) -> None:
    await welcome(link)
    await link.next("call")
    await link.send_bytes(ws(TEXT if link.codec.text else 0x2, b'[["x-a"]]'))
    await hang(link)


@against(greet, wsrpc.ConnectionLost, 4500)
async def sends_messages_of_the_wrong_type(link: RawLink) -> None:
    await welcome(link)
    await link.next("call")
    await link.send_bytes(ws(0x2 if link.codec.text else TEXT, b'[["x-a"]]', mask=False))
    await hang(link)


# By turns, so that each codec meets half of them.
TURNS: list[tuple[Bad, Codec]] = [
    (bad, "msgpack" if n % 2 else "json") for n, bad in enumerate(BAD)
]


@pytest.mark.parametrize(
    ("bad", "codec"), TURNS, ids=[f"{bad.script.__name__}-{codec}" for bad, codec in TURNS]
)
async def test_a_bad_server_gets_a_typed_error_in_time(bad: Bad, codec: Codec) -> None:

    class Host:
        @wsrpc.method
        async def wait(self) -> None:
            await anyio.sleep_forever()

    async with raw_server(bad.script, codec) as url:
        with anyio.fail_after(IN_TIME), pytest.raises(bad.error) as caught:
            connecting = wsrpc.connect(
                url, codec=codec, reconnect=False, limits=LIMITS, controllers=[Host()]
            )
            async with connecting as session:
                await bad.act(session)
        error: Any = caught.value
        assert bad.code in (getattr(error, "code", None), getattr(error, "close_code", None)), error
        assert "\x1b" not in str(error.args[0])


def test_there_are_at_least_twelve() -> None:
    assert len(BAD) >= 12


# ------------------------------------------------------------------------------------ no WebSocket


@pytest.mark.rule("LINK-2")
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00\xff" * 100,
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: AAAA\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"HTTP/1.1 " + b"x" * 100_000,
    ],
    ids=lambda answer: repr(answer[:24]),
)
async def test_what_is_no_wsrpc_server_is_a_connect_error(answer: bytes) -> None:

    async def nothing(link: RawLink) -> None:
        raise AssertionError("the handshake went through")

    async with raw_server(nothing, "json", answer=answer) as url:
        with anyio.fail_after(IN_TIME), pytest.raises(wsrpc.ConnectError):
            async with wsrpc.connect(url, limits=LIMITS):
                pass


@pytest.mark.rule("LINK-2")
async def test_a_server_that_chooses_another_subprotocol_is_a_connect_error(codec: Codec) -> None:

    async def nothing(link: RawLink) -> None:
        await hang(link)

    other: Codec = "msgpack" if codec == "json" else "json"
    async with raw_server(nothing, other) as url:
        with anyio.fail_after(IN_TIME), pytest.raises(wsrpc.ConnectError):
            async with wsrpc.connect(url, codec=codec, limits=LIMITS):
                pass


FIRST: dict[str, tuple[list[Any], str]] = {
    "no hello": (["ping", 1], "the first frame on a link must be hello"),
    "another version": (["hello", {"version": 2}], "this end speaks version 1, not 2"),
    "no batch": (["hello", {"version": "1"}], "version"),
}


@pytest.mark.parametrize("first", FIRST)
async def test_a_server_whose_first_frame_is_no_hello_is_not_said_to_have_closed_the_connection(
    first: str, codec: Codec
) -> None:
    frame, words = FIRST[first]

    async def script(link: RawLink) -> None:
        await link.next("hello")
        await link.send(frame)
        await hang(link)

    async with raw_server(script, codec) as url:
        with pytest.raises(wsrpc.ConnectError) as caught:
            async with wsrpc.connect(url, codec=codec, limits=LIMITS):
                pytest.fail("connected")
    assert "this side closed the connection" in str(caught.value)
    assert words in str(caught.value)
