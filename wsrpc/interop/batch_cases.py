"""Cases on the bare wire: batches and values."""

from __future__ import annotations

from itertools import count
from typing import Any

import msgspec

from .bare_peer import Codec, Failed, short
from .call_support import SHAPES
from .case import Ground, equal, require
from .frame_support import (
    ECHO,
    FLOOR_MAX_BATCH,
    KIB,
    call,
    closes,
    failed,
    ignored,
    lives,
    wire_cases,
)

__all__: list[str] = []

# -------------------------------------------------------------------------------- batches


@wire_cases("BATCH-1")
async def wrong_message_type(at: Ground) -> None:
    """a message of the wrong WebSocket type closes with 4500"""
    async with at.bare() as bare:
        message = bare.encode([call(1, ECHO, {"value": 1})])
        await bare.send_message(message.encode() if isinstance(message, str) else "[]")
        equal(await bare.closed(), 4500, "the close code")
        equal(bare.waiting(1), [], "the answers to the call")


@wire_cases("BATCH-1")
async def no_batch(at: Ground) -> None:
    """a message that is no array of frames closes with 4500"""
    batches: list[Any] = [
        [],
        {},
        "batch",
        1,
        None,
        [[]],
        [1],
        [None],
        [[1, "call"]],
        [[None]],
        [{}],
    ]
    for batch in batches:
        async with at.bare() as bare:
            await bare.send_message(bare.encode(batch))
            equal(await bare.closed(), 4500, f"the close code after {batch!r}")


@wire_cases("BATCH-1", codec="json")
async def no_json(at: Ground) -> None:
    """text that is not JSON closes with 4500"""
    texts = (
        "",
        " ",
        "nonsense",
        '[["ping",1]',
        '[["ping",1]]]',
        '[["ping",1],]',
        '[["ping",01]]',
        '[["call",1,"Interop.echo",{"value":NaN}]]',
        '[["call",1,"Interop.echo",{"value":Infinity}]]',
        "[['ping',1]]",
    )
    for text in texts:
        async with at.bare() as bare:
            await bare.send_message(text)
            equal(await bare.closed(), 4500, f"the close code after {text!r}")


@wire_cases(codec="json")
async def no_utf8(at: Ground) -> None:
    """a text message that is not UTF-8 closes with 1007"""
    async with at.bare() as bare:
        await bare.send_text(b'[["call",1,"Interop.echo",{"value":"\xff"}]]')
        equal(await bare.closed(), 1007, "the close code")


@wire_cases("BATCH-1", codec="msgpack")
async def no_messagepack(at: Ground) -> None:
    """bytes that are not MessagePack close with 4500"""
    good = msgspec.msgpack.encode([["ping", 1]])
    for data in (b"", b"\xc1", good[:-1], good + b"\x00", b"\x91\xc1"):
        async with at.bare() as bare:
            await bare.send_message(data)
            equal(await bare.closed(), 4500, f"the close code after {data!r}")


closes(
    4500,
    "an unknown frame closes with 4500",
    ["BATCH-2"],
    [["nonsense"]],
    [["Call", 1, ECHO, {"value": 1}]],
    [["", 1]],
    [["X-trace", 1]],
    [["ping", 1], ["nonsense", 1]],
)

closes(
    4500,
    "a frame with an element missing, of another type or out of range closes with 4500",
    ["BATCH-3"],
    [["call"]],
    [["call", 1]],
    [["call", 1, ECHO]],
    [["call", 1, ECHO, None]],
    [["call", None, ECHO, {}]],
    [["call", "1", ECHO, {}]],
    [["call", 1.5, ECHO, {}]],
    [["call", True, ECHO, {}]],
    [["call", 0, ECHO, {}]],
    [["call", -1, ECHO, {}]],
    [["call", 2**53 + 1, ECHO, {}]],
    [["call", 1, ["echo"], {}]],
    [["call", 1, ECHO, {"value": 1}, []]],
    [call(1, ECHO, {"value": 1}, timeout=-1)],
    [call(1, ECHO, {"value": 1}, timeout=1.5)],
    [call(1, ECHO, {"value": 1}, timeout="1")],
    [call(1, ECHO, {"value": 1}, credit=-1)],
    [call(1, ECHO, {"value": 1}, metadata={"a": 1})],
    [call(1, ECHO, {"value": 1}, metadata=[])],
    [call(1, ECHO, {"value": 1}, uploads={"a": "3"})],
    [call(1, ECHO, {"value": 1}, callbacks=[3])],
    [call(1, ECHO, {"value": 1}, key=1)],
    [["notify", 1, 3, []]],
    [["message", 1]],
    [["message", 1, []]],
    [["message", 1, "item"]],
    [["end", 1, []]],
    [["end", 1, [1, 2]]],
    [["error", 1]],
    [["error", 1, "aborted"]],
    [["error", 1, {"message": "no code"}]],
    [["error", 1, {"code": "aborted"}]],
    [["error", 1, {"code": "aborted", "message": "", "retry_after": -1}]],
    [["cancel"]],
    [["cancel", 1, 2]],
    [["credit", 1]],
    [["credit", 1, "1"]],
    [["credit", 1, 1.5]],
    [["ack"]],
    [["ack", -1]],
    [["ack", "0"]],
    [["ping"]],
    [["ping", -1]],
    [["ping", 2**53]],
    [["pong", "1"]],
)


@wire_cases("BATCH-3", codec="json")
async def integers_with_fraction_or_exponent(at: Ground) -> None:
    """a number with a fraction or an exponent is no integer"""
    for text in ('[["ping",1.0]]', '[["ping",1e0]]', '[["ack",0.0]]', '[["ack",0e5]]'):
        async with at.bare() as bare:
            await bare.send_message(text)
            equal(await bare.closed(), 4500, f"the close code after {text}")


@wire_cases("BATCH-3")
async def bad_batch_has_no_effect(at: Ground) -> None:
    """no frame of a batch with a malformed one has any effect"""
    async with at.bare() as bare:
        await bare.send(call(1, ECHO, {"value": 1}), ["ping", 5], ["credit", 1])
        equal(await bare.closed(), 4500, "the close code")
        equal(bare.waiting(1), [], "the answers to the call")


@wire_cases("BATCH-6")
async def too_large_a_batch(at: Ground) -> None:
    """a message of max_batch bytes is taken, and a larger one closed with 1009"""
    for more in (0, 1):
        async with at.bare() as bare:
            size = bare.limit("max_batch") + more
            await bare.send_message(bare.padded(["x-pad"], size))
            if more:
                equal(await bare.closed(), 1009, f"the close code after {size} bytes")
            else:
                await lives(bare)


@wire_cases("BATCH-5", "END-2", "CALL-4")
async def batch_acts_in_order(at: Ground) -> None:
    """the frames of a batch act in their order: a call, its upload and its end in one"""
    async with at.bare() as bare:
        await bare.send(
            call(1, "Interop.sum", uploads={"numbers": 3}),
            *[["message", 3, [5]]] * min(2, bare.window),
            ["end", 3, [99]],
        )
        equal(await bare.terminal(1), ["result", 1, 5 * min(2, bare.window)])


@wire_cases("EXT-1")
async def extensions_are_ignored(at: Ground) -> None:
    """extension frames of any shape are ignored and counted"""
    before = (await at.stats())["frames_ignored"]
    async with at.bare() as bare:
        await bare.send(
            ["x-trace"],
            ["x-", None, {"deep": [[[]]]}],
            call(1, "Interop.sum", uploads={"numbers": 3}),
            ["x-trace", 1, 2, 3],
            ["end", 3],
            ["x-call", 1, ECHO, {"value": 1}],
        )
        equal(await bare.terminal(1), ["result", 1, 0])
        await ignored(at, before, 4)


@wire_cases("PING-1")
async def pings(at: Ground) -> None:
    """a ping is answered, of several at least the newest, and a stray pong ignored"""
    async with at.bare() as bare:
        await bare.pong(0)
        await bare.pong(2**53 - 1)
        await bare.send(["ping", 7], ["ping", 8], ["ping", 9])
        answered = [0]
        while answered[-1] != 9:
            answered.append((await bare.frame(lambda frame: frame[0] == "pong", "a pong"))[1])
        require(set(answered) <= {0, 7, 8, 9}, f"pongs of {answered}")
        await bare.send(["pong", 1234])
        await lives(bare)


@wire_cases("ACK-3")
async def acks(at: Ground) -> None:
    """an ack that is too high, or below an earlier one, closes with 4505"""
    async with at.bare() as bare:
        await bare.send(["ack", 1000])
        equal(await bare.closed(), 4505, "the close code after an ack too high")
    async with at.bare() as bare:
        await lives(bare)
        await lives(bare)
        await bare.send(["ack", bare.taken], ["ack", bare.taken])
        await lives(bare)
        await bare.send(["ack", bare.taken - 2])
        equal(await bare.closed(), 4505, "the close code after an ack that falls")


# -------------------------------------------------------------------------------- values


@wire_cases("VALUE-1", "VALUE-4", codec="json")
async def outside_the_value_space_in_json(at: Ground) -> None:
    """a JSON value outside the value space spoils its call alone"""
    texts = (
        "1e999",
        "-1e999",
        "18446744073709551616",
        "-9223372036854775809",
        '"\\ud800"',
        '"\\udc00\\ud800"',
        '{"\\ud800":1}',
        "[1,[1e999]]",
        '{"a":{"b":18446744073709551616}}',
        "1" + "0" * 400,
    )
    async with at.bare() as bare:
        for id, text in zip(count(1, 2), texts, strict=False):
            await bare.send_message(f'[["ping",1],["call",{id},"{ECHO}",{{"value":{text}}}]]')
            frame = await bare.terminal(id)
            require(frame[0] == "error", f"{text} was answered with {short(frame)}")
            failed(frame, "invalid_argument")
        await lives(bare)


@wire_cases("VALUE-1", "VALUE-4", codec="msgpack")
async def outside_the_value_space_in_messagepack(at: Ground) -> None:
    """a MessagePack value outside the value space spoils its call alone"""
    pack = msgspec.msgpack.encode
    values = (
        b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",  # NaN
        b"\xca\x7f\x80\x00\x00",  # infinity, 32 bits
        b"\xa2\xc3\x28",  # a str that is not UTF-8
        b"\xa3\xed\xa0\x80",  # a surrogate in one
        b"\xd4\x05\x00",  # an extension type
        b"\xd6\xff\x00\x00\x00\x00",  # a timestamp
        b"\x81\x01\x02",  # a key that is an integer
        b"\x81\xc4\x01a\x02",  # a key that is bytes
        b"\x92\x01\x91\xcb\xff\xf0\x00\x00\x00\x00\x00\x00",  # minus infinity, deep inside
    )
    async with at.bare() as bare:
        for id, value in zip(count(1, 2), values, strict=False):
            frame = b"\x94" + pack("call") + pack(id) + pack(ECHO) + b"\x81" + pack("value") + value
            await bare.send_message(b"\x91" + frame)
            answer = await bare.terminal(id)
            require(answer[0] == "error", f"{value!r} was answered with {short(answer)}")
            failed(answer, "invalid_argument")
        await lives(bare)


@wire_cases("VALUE-2", "VALUE-4")
async def nested_too_deeply(at: Ground) -> None:
    """a value nested more than 100 deep spoils its call alone; beyond 500 the link may close"""
    async with at.bare() as bare:
        for id, depth in ((1, 102), (3, 499)):
            await bare.send(call(id, ECHO, {"value": nested(depth)}))
            failed(await bare.terminal(id), "invalid_argument")
        await lives(bare)
    for depth in (600, 30_000):
        async with at.bare() as bare:
            await bare.send_message(deep_message(bare.codec, depth))
            try:
                frame = await bare.terminal(1)
            except Failed:
                equal(await bare.closed(), 4500, f"the close code after a depth of {depth}")
            else:
                failed(frame, "invalid_argument")


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def deep_message(codec: Codec, depth: int) -> str | bytes:
    """A call of echo with a value so deep that no encoder would write it."""
    if codec == "json":
        return f'[["call",1,"{ECHO}",{{"value":{"[" * depth}{"]" * depth}}}]]'
    pack = msgspec.msgpack.encode
    head = b"\x91\x94" + pack("call") + pack(1) + pack(ECHO) + b"\x81" + pack("value")
    return head + b"\x91" * depth + pack(None)


@wire_cases("VALUE-7")
async def result_too_large(at: Ground) -> None:
    """a result that the caller does not take becomes resource_exhausted, for that call alone"""
    async with at.bare(limits={"max_batch": FLOOR_MAX_BATCH}) as bare:
        await bare.send(call(1, "Interop.blob", {"size": 100_000}))
        failed(await bare.terminal(1), "resource_exhausted")
        await bare.send(call(3, "Interop.blob", {"size": 30_000}))
        equal((await bare.terminal(3))[0], "result", "the answer to a smaller one")


@wire_cases()
async def large_value(at: Ground) -> None:
    """a value as large as both sides take comes back"""
    async with at.bare() as bare:
        size = min(1024 * KIB, bare.limit("max_batch") - 4 * KIB)
        if bare.limit("max_held"):
            size = FLOOR_MAX_BATCH - 4 * KIB  # larger ones would have to go in chunks
        text = "0123456789abcdef" * (size // 16)
        await bare.send(call(1, ECHO, {"value": text}))
        equal(await bare.terminal(1), ["result", 1, text])


@wire_cases("VALUE-5", codec="json")
async def bytes_in_json(at: Ground) -> None:
    """bytes in JSON are base64url with padding"""
    async with at.bare() as bare:
        await bare.send(call(1, "Interop.blob", {"size": 256}))
        text = (await bare.terminal(1))[2]
        require(isinstance(text, str) and len(text) == 344, f"blob(256) is {short(text)}")
        require(text.endswith("_P3-_w=="), f"blob(256) ends with {text[-8:]!r}")


@wire_cases("MSG-1")
async def every_item_is_an_item(at: Ground) -> None:
    """every value is an item, those that look like something else among them"""
    async with at.bare() as bare:
        await bare.send(call(1, "Interop.bidi_echo", uploads={"items": 3}))
        await bare.upload(3, *SHAPES)
        await bare.send(["end", 3])
        items, terminal = await bare.outcome(1)
        equal(items, SHAPES, "the items")
        equal(terminal[:2], ["end", 1], "the terminal")


@wire_cases("MSG-2")
async def grouping_is_invisible(at: Ground) -> None:
    """items in one frame, in many, and in many batches are the same stream"""
    async with at.bare() as bare:
        for id, groups in ((1, [[1, 2, 3, 4]]), (5, [[1], [2], [3], [4]]), (9, [[1, 2], [3, 4]])):
            await bare.send(call(id, "Interop.bidi_echo", uploads={"items": id + 2}))
            for group in groups:
                await bare.upload(id + 2, *group)
            await bare.send(["end", id + 2])
            equal((await bare.outcome(id))[0], [1, 2, 3, 4], "the items")
