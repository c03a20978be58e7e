"""Cases on the bare wire: frames written by hand, and answers held against protocol.md."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import msgspec

from .bare_peer import SUBPROTOCOLS, Bare, Codec, Failed, Frame, Refused, hello, short
from .call_cases import SHAPES
from .case import Case, Cases, Ground, equal, raises, require

__all__ = ["wire_cases"]

wire_cases = Cases()

KIB = 1024
FLOOR_MAX_BATCH = 64 * KIB
MAX_CREDIT = 2**31 - 1

# Ids for calls that only ask whether the link still lives; far above those that the cases use.
PROBES = count(1_000_001, 2)

ECHO = "Interop.echo"


def call(id: int, method: str | int, args: Any = None, **options: Any) -> Frame:
    """A `call` frame; without arguments, an empty object of them."""
    frame: Frame = ["call", id, method, {} if args is None else args]
    return [*frame, options] if options else frame


def failed(frame: Frame, code: str, *, not_started: bool = False) -> dict[str, Any]:
    """The body of an `error` frame, which must have this code."""
    if frame[0] != "error":
        raise Failed(f"expected an error {code}, got {short(frame)}")
    body: dict[str, Any] = frame[2]
    equal(body.get("code"), code, "the code")
    require(isinstance(body.get("message"), str), f"the error has no message: {body}")
    equal(bool(body.get("not_started")), not_started, "not_started")
    return body


async def lives(bare: Bare) -> None:
    """Fail unless the link lives and takes calls."""
    probe = next(PROBES)
    await bare.send(call(probe, ECHO, {"value": probe}))
    equal(await bare.terminal(probe), ["result", probe, probe], "the answer to a later call")


async def silent(bare: Bare, id: int) -> None:
    """Fail if anything comes on an id before a later call is answered."""
    await lives(bare)
    frames = bare.waiting(id)
    require(not frames, f"unexpected on id {id}: {short(frames)}")


async def ignored(at: Ground, before: int, n: int) -> None:
    """Wait until the server has counted n frames more as ignored."""
    await at.until(lambda now: now["frames_ignored"] >= before + n, f"{n} frames were ignored")


def closes(code: int, title: str, rules: Sequence[str], *batches: Sequence[Frame]) -> None:
    """Add a case: each of these batches alone makes the server close with this code."""

    async def run(at: Ground) -> None:
        for batch in batches:
            async with at.bare() as bare:
                await bare.send(*batch)
                equal(await bare.closed(), code, f"the close code after {short(batch)}")

    wire_cases.append(Case(title, tuple(rules), None, False, run))


# -------------------------------------------------------------------------------- the link


@wire_cases("LINK-1")
async def one_of_two_subprotocols(at: Ground) -> None:
    """of two subprotocols offered the server selects one, and speaks it"""
    for offered in (["wsrpc.v1.json", "wsrpc.v1.msgpack"], ["wsrpc.v1.msgpack", "wsrpc.v1.json"]):
        async with at.link(subprotocols=offered) as bare:
            require(bare.subprotocol in offered, f"it selected {bare.subprotocol}")
            chosen: dict[str, Codec] = {name: codec for codec, name in SUBPROTOCOLS.items()}
            bare.codec = chosen[bare.subprotocol]
            await bare.hello(auth=at.auth)
            await lives(bare)


@wire_cases("LINK-2")
async def no_common_subprotocol(at: Ground) -> None:
    """a handshake without a subprotocol that the server speaks is refused with HTTP 400"""
    for offered in ([], ["wsrpc.v0.json"], ["graphql-transport-ws", "wsrpc"]):
        with raises(Refused, f"a handshake with {offered}") as caught:
            async with at.link(subprotocols=offered):
                pass
        equal(caught[0].status, 400, f"the HTTP status for {offered}")


# -------------------------------------------------------------------------------- hello


@wire_cases("HELLO-1", "HELLO-10")
async def hello_has_its_fields(at: Ground) -> None:
    """the server's hello says what protocol.md asks of it"""
    async with at.bare() as bare, at.bare() as other:
        body = bare.peer
        equal(body.get("version"), 1, "version")
        require(not body.get("resumed"), "a new session is called resumed")
        for name, floor in (("max_batch", FLOOR_MAX_BATCH), ("max_calls", 8)):
            value = (body.get("limits") or {}).get(name, floor)
            require(type(value) is int and value >= floor, f"limits.{name} is {value!r}")
        window = body.get("window", 0)
        require(type(window) is int and 0 <= window <= MAX_CREDIT, f"window is {window!r}")
        names = {body.get("session"), other.peer.get("session")}
        require(len(names) == 2 or not any(names), "two sessions have one name")


@wire_cases("BATCH-4")
async def null_means_absent(at: Ground) -> None:
    """null in an optional field means absent, and fields that nobody knows are ignored"""
    nothing = ("link", "token", "received", "window", "limits", "features", "agent")
    async with at.bare(**dict.fromkeys(nothing), unknown={"a": [1]}) as bare:
        await bare.send(["call", 1, ECHO, {"value": 1}, None, None, "more", [2]])
        equal(await bare.terminal(1), ["result", 1, 1])
        absent = {"timeout": None, "metadata": None, "credit": None, "uploads": None}
        await bare.send(call(3, ECHO, {"value": 3}, **absent, unknown=True))
        equal(await bare.terminal(3), ["result", 3, 3])


@wire_cases("HELLO-1", "EXT-1")
async def hello_comes_first(at: Ground) -> None:
    """any other frame in the place of hello closes with 4505"""
    first: list[Frame] = [["ack", 0], ["ping", 1], ["end", 1], ["cancel", 1], ["x-trace", 1]]
    for frame in (call(1, ECHO, {"value": 1}), *first):
        async with at.link() as bare:
            await bare.send(frame)
            equal(await bare.closed(), 4505, f"the close code after {short(frame)}")


closes(4505, "a second hello closes with 4505", ["HELLO-2"], [hello()])


@wire_cases("HELLO-3")
async def other_versions(at: Ground) -> None:
    """a hello of another version closes with 4507, whatever its credentials"""
    for version in (2, 0, -1, 2**53):
        async with at.link() as bare:
            await bare.send(hello(version=version, auth="no such token"))
            equal(await bare.closed(), 4507, f"the close code for version {version}")


@wire_cases("BATCH-3")
async def malformed_hello(at: Ground) -> None:
    """a hello with a field missing, of another type or out of range closes with 4500"""
    bodies: list[Any] = [
        {},
        {"version": None},
        {"version": "1"},
        {"version": 1.5},
        {"version": True},
        {"version": 1, "window": -1},
        {"version": 1, "window": 2**31},
        {"version": 1, "limits": {"max_calls": 7}},
        {"version": 1, "limits": {"max_batch": 65_535}},
        {"version": 1, "link": 0},
        {"version": 1, "received": -1},
        {"version": 1, "features": "all"},
        [],
        None,
    ]
    for body in bodies:
        async with at.link() as bare:
            await bare.send(["hello", body])
            equal(await bare.closed(), 4500, f"the close code after a hello of {body}")


@wire_cases("HELLO-4", "BATCH-5")
async def frames_right_behind_hello(at: Ground) -> None:
    """frames right behind the hello, in the same message, are acted on"""
    async with at.bare(call(1, ECHO, {"value": "early"})) as bare:
        equal(await bare.terminal(1), ["result", 1, "early"])


@wire_cases("HELLO-5", "UP-1", "CREDIT-3")
async def early_upload_gets_the_window(at: Ground) -> None:
    """an upload opened before the server's hello has that hello's window as its credit"""
    opening = call(1, "Interop.sum", uploads={"numbers": 3})
    async with at.bare(opening) as bare:
        if bare.window:
            await bare.send(["message", 3, [1] * bare.window])
        await bare.send(["end", 3])
        equal(await bare.terminal(1), ["result", 1, bare.window])


@wire_cases("HELLO-6", "BATCH-3")
async def what_is_behind_hello_is_a_batch_of_its_own(at: Ground) -> None:
    """a bad frame right behind the hello closes with 4500, and nothing beside it is answered"""
    async with at.link() as bare:
        await bare.send(hello(auth=at.auth), call(1, ECHO, {"value": 1}), ["nonsense"])
        equal(await bare.closed(), 4500, "the close code")
        equal(bare.waiting(1), [], "what was answered")


@wire_cases("HELLO-6")
async def first_message_too_large(at: Ground) -> None:
    """before authentication a message of 64 KiB is taken, and a larger one closed with 1009"""
    for size, code in ((FLOOR_MAX_BATCH, None), (FLOOR_MAX_BATCH + 1, 1009)):
        async with at.link() as bare:
            await bare.send_message(bare.padded(hello(auth=at.auth), size))
            if code is None:
                await bare.greeted()
            else:
                equal(await bare.closed(), code, f"the close code after {size} bytes")


@wire_cases("HELLO-6", "HELLO-7", auth=True)
async def wrong_credentials(at: Ground) -> None:
    """wrong credentials close with 4501, and nothing behind them is looked at"""
    wrong: list[Any] = ["no such token", f"{at.auth}x", "", None, 7, {"token": at.auth}, []]
    for auth in wrong:
        async with at.link() as bare:
            await bare.send(hello(auth=auth), ["nonsense"])
            equal(await bare.closed(), 4501, f"the close code for {auth!r}")


@wire_cases("RESUME-2")
async def unknown_resume_token(at: Ground) -> None:
    """a hello with a resume token that nobody issued closes with 4010"""
    async with at.link() as bare:
        await bare.send(hello(auth=at.auth, token="A" * 43, link=2))
        equal(await bare.closed(), 4010, "the close code")


@wire_cases("RESUME-2", "RESUME-5")
async def resume_token_too_long(at: Ground) -> None:
    """a resume token of more than 1,024 characters is one that nobody issued"""
    async with at.link() as bare:
        await bare.send(hello(auth=at.auth, token="A" * 1025, link=2))
        equal(await bare.closed(), 4010, "the close code")


@wire_cases("RESUME-1", "RESUME-4", "CREDIT-1")
async def what_a_resumed_hello_changes(at: Ground) -> None:
    """a resumed hello goes on with the session, and its window and limits are not looked at"""
    async with at.bare(window=3) as bare:
        if not bare.peer.get("resume_window"):
            return
        await bare.send(call(1, ECHO, {"value": 1}))
        equal(await bare.terminal(1), ["result", 1, 1])
        await bare.send(["ack", 1])
        await bare.pong(1)
        token, name = bare.peer["token"], bare.peer.get("session")
        require(isinstance(token, str) and len(token) <= 1024, f"the token is {short(token)}")
        await bare.cut()
    async with at.link() as bare:
        again = hello(auth=at.auth, token=token, link=2, received=1, window=9)
        await bare.send(again)
        await bare.greeted()
        await bare.send(["ack", 1])
        equal(bare.peer.get("resumed"), True, "resumed")
        equal(bare.peer.get("session"), name, "session")
        equal(bare.peer.get("received"), 1, "received")
        require(bare.peer.get("token") not in (None, token), "the token is the old one")
        await bare.send(call(3, "Interop.forever", {"delay": 0}))
        equal(await bare.items(3, 3), [0, 1, 2], "the items for a window of 3")
        await silent(bare, 3)


@wire_cases("ACK-3", "RESUME-1")
async def received_counts_as_an_ack(at: Ground) -> None:
    """the received of a resumed hello counts like an ack: a lower one after it closes with 4505"""
    async with at.bare() as bare:
        if not bare.peer.get("resume_window"):
            return
        for id in (1, 3, 5):
            await bare.send(call(id, ECHO, {"value": 1}))
            await bare.terminal(id)
        token = bare.peer["token"]
        await bare.cut()
    async with at.link() as bare:
        await bare.send(hello(auth=at.auth, token=token, link=2, received=3))
        await bare.greeted()
        await bare.send(["ack", 2])
        equal(await bare.closed(), 4505, "the close code")


@wire_cases("VALUE-7", "CREDIT-2", "CREDIT-3")
async def smallest_client(at: Ground) -> None:
    """for a client that takes no chunks and 64 KiB a message every item costs 1"""
    limits = {"max_batch": FLOOR_MAX_BATCH, "max_calls": 8}
    async with at.bare(limits=limits, window=0) as bare:
        opening = call(1, "Interop.bidi_echo", uploads={"items": 3}, credit=2)
        await bare.send(opening)
        item = "x" * 60_000
        await bare.upload(3, item, item)
        for _ in range(2):
            equal(await bare.items(1, 1), [item], "an item of 60,000 bytes")
        await bare.send(["credit", 1, 1])
        await bare.upload(3, 5)
        equal(await bare.items(1, 1), [5], "the third item, for a credit of 1")
        await bare.send(["end", 3], ["credit", 1, 1])
        equal((await bare.terminal(1))[:2], ["end", 1])
        await bare.send(call(5, "Interop.blob", {"size": 70_000}))
        failed(await bare.terminal(5), "resource_exhausted")


# -------------------------------------------------------------------------------- batches


@wire_cases("BATCH-1")
async def wrong_message_type(at: Ground) -> None:
    """a message of the wrong WebSocket type closes with 4500"""
    async with at.bare() as bare:
        message = bare.encode([call(1, ECHO, {"value": 1})])
        await bare.send_message(message.encode() if isinstance(message, str) else "[]")
        equal(await bare.closed(), 4500, "the close code")
        equal(bare.waiting(1), [], "what was answered")


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
    "a frame that nobody knows closes with 4500",
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
        equal(bare.waiting(1), [], "what was answered")


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


# -------------------------------------------------------------------------------- calls

closes(
    4500,
    "a name with positional arguments, and a callback with named ones, close with 4500",
    ["CALL-1"],
    [call(1, ECHO, [1])],
    [call(1, 2, {"value": 1})],
    [call(1, ECHO, "value")],
    [call(1, ECHO, 1)],
    [["notify", 1, ECHO, [1]]],
)


@wire_cases("CALL-2", "ERROR-5", "ERROR-7")
async def only_what_is_exposed(at: Ground) -> None:
    """only exposed methods can be called; other names are answered with near ones"""
    names = (
        "Interop.ehco",
        "Interop.__init__",
        "Interop.__class__",
        "Interop.echo.__call__",
        "Interop",
        "Interop.",
        ".echo",
        ".",
        "",
        "interop.echo",
        "Nobody.echo",
        "Interop echo",
        "e" * 10_000,
    )
    async with at.bare() as bare:
        for id, name in zip(count(1, 2), names, strict=False):
            await bare.send(call(id, name))
            body = failed(await bare.terminal(id), "unimplemented")
            near: Any = (body.get("data") or {}).get("near")
            require(isinstance(near, list) and len(near) <= 3, f"near is {near!r} for {name!r}")
            if name == "Interop.ehco":
                equal(near[:1], [ECHO], "the best near name")


def check_invalid(frame: Frame) -> list[dict[str, Any]]:
    """The errors of an `invalid_argument`, which must be as ERROR-4 says."""
    body = failed(frame, "invalid_argument")
    data = body.get("data") or {}
    errors: list[dict[str, Any]] = data.get("errors") or []
    require(isinstance(errors, list) and bool(errors), f"data has no errors: {short(data)}")
    require(len(errors) <= 8, f"{len(errors)} errors")
    require(type(data.get("total")) is int, f"total is {data.get('total')!r}")
    require(data["total"] >= len(errors), f"a total of {data['total']} for {len(errors)} errors")
    require(len(msgspec.json.encode(data)) <= 4 * KIB, "data exceeds 4 KiB")
    for error in errors:
        require(isinstance(error.get("loc"), list), f"loc is {error.get('loc')!r}")
        require(isinstance(error.get("msg"), str), f"msg is {error.get('msg')!r}")
        require(isinstance(error.get("type"), str), f"type is {error.get('type')!r}")
    return errors


@wire_cases("CALL-3", "ERROR-4", "ERROR-7")
async def wrong_arguments_on_the_wire(at: Ground) -> None:
    """an argument that is missing, unknown or of the wrong kind is named"""
    wrong: list[tuple[str, dict[str, Any], list[Any]]] = [
        (ECHO, {}, ["value"]),
        ("Interop.sleep", {"seconds": "soon"}, ["seconds"]),
        ("Interop.count", {"n": None}, ["n"]),
        ("Interop.fail", {"code": "aborted", "message": []}, ["message"]),
        (ECHO, {"value": 1, "worth": 2}, ["worth"]),
    ]
    async with at.bare() as bare:
        for id, (method, args, loc) in zip(count(1, 2), wrong, strict=False):
            await bare.send(call(id, method, args))
            errors = check_invalid(await bare.terminal(id))
            equal(errors[0]["loc"], loc, f"the loc for {args}")


@wire_cases("ERROR-4")
async def many_wrong_arguments(at: Ground) -> None:
    """of many wrong arguments at most 8 are told, in 4 KiB, and the input is not repeated"""
    async with at.bare() as bare:
        many = {f"unknown_{i}_{'x' * 500}": "the secret" for i in range(50)}
        await bare.send(call(1, ECHO, {"value": 1, **many}))
        frame = await bare.terminal(1)
        check_invalid(frame)
        equal(frame[2]["data"]["total"], 50, "total")
        require("the secret" not in repr(frame), "the input is repeated")


@wire_cases("CALL-4", "ERROR-4")
async def streams_in_the_wrong_place(at: Ground) -> None:
    """an upload or callback in the wrong place, missing or unknown is named"""
    wrong: list[tuple[Frame, str]] = [
        (call(1, "Interop.sum"), "numbers"),
        (call(3, "Interop.sum", {"numbers": [1, 2]}), "numbers"),
        (call(5, "Interop.sum", callbacks={"numbers": 7}), "numbers"),
        (call(9, ECHO, uploads={"value": 11}), "value"),
        (call(13, ECHO, {"value": 1}, uploads={"more": 15}), "more"),
        (call(17, "Interop.progress", {"n": 1}), "on_progress"),
        (call(19, "Interop.progress", {"n": 1}, uploads={"on_progress": 21}), "on_progress"),
        (call(23, ECHO, {"value": 1}, callbacks={"later": 25}), "later"),
    ]
    async with at.bare() as bare:
        for frame, name in wrong:
            await bare.send(frame)
            errors = check_invalid(await bare.terminal(frame[1]))
            locs = [error["loc"][:1] for error in errors]
            require([name] in locs, f"the locs for {frame} are {locs}")


@wire_cases("CALL-5")
async def one_terminal(at: Ground) -> None:
    """each call gets exactly one terminal, and nothing follows it"""
    async with at.bare() as bare:
        await bare.send(
            call(1, ECHO, {"value": 1}),
            call(3, "Interop.count", {"n": 3}),
            call(5, "Interop.boom"),
            call(7, "Interop.fail_after", {"n": 1}),
        )
        equal((await bare.terminal(1))[0], "result", "the terminal of echo")
        equal((await bare.terminal(3))[0], "end", "the terminal of count")
        equal((await bare.terminal(5))[0], "error", "the terminal of boom")
        equal((await bare.terminal(7))[0], "error", "the terminal of fail_after")
        for id in (1, 3, 5, 7):
            await silent(bare, id)


@wire_cases("CALL-6")
async def answers_come_in_any_order(at: Ground) -> None:
    """a slow call in front of a fast one does not hold it up"""
    async with at.bare() as bare:
        await bare.send(call(1, "Interop.sleep", {"seconds": 60}), call(3, ECHO, {"value": 3}))
        equal(await bare.terminal(3), ["result", 3, 3])
        equal(bare.waiting(1), [], "what came of the slow call")


@wire_cases("CALL-7")
async def metadata_on_the_wire(at: Ground) -> None:
    """metadata reaches the handler as it was sent, and a key does not deduplicate"""
    async with at.bare() as bare:
        sent = {"trace": "abc", "": "empty", "ключ": "🗝"}
        await bare.send(
            call(1, "Interop.whoami", metadata=sent, key="k"),
            call(3, "Interop.whoami", key="k"),
        )
        equal((await bare.terminal(1))[2]["metadata"], sent, "metadata")
        equal((await bare.terminal(3))[2]["metadata"], {}, "metadata of the next call")


@wire_cases("ERROR-2", "ERROR-7")
async def errors_on_the_wire(at: Ground) -> None:
    """an error crosses with code, message and data, and never claims by itself not_started"""
    async with at.bare() as bare:
        data = {"not_started": True, "list": [1, None]}
        args = {"code": "unavailable", "message": "näh", "data": data}
        await bare.send(call(1, "Interop.fail", args))
        body = failed(await bare.terminal(1), "unavailable")
        equal(body["message"], "näh", "the message")
        equal(body["data"], data, "the data")
        await bare.send(call(3, "Interop.fail_after", {"n": 2, "data": data}))
        items, terminal = await bare.outcome(3)
        equal(items, [0, 1], "the items before the error")
        equal(failed(terminal, "aborted")["data"], data, "the data")


@wire_cases("ERROR-3")
async def unforeseen_error_on_the_wire(at: Ground) -> None:
    """of an unforeseen exception nothing crosses but an id, unless the server is in debug mode"""
    async with at.bare() as bare:
        await bare.send(call(1, "Interop.boom"))
        body = failed(await bare.terminal(1), "internal")
        require(isinstance(body.get("error_id"), str), "there is no error_id")
        if body["message"] == "internal error":
            equal(body.get("data"), None, "the data")
            equal(body.get("type"), None, "the type")


@wire_cases("NOTIFY-1")
async def notifies(at: Ground) -> None:
    """a notify is closed by end or by error, and what its handler returned is dropped"""
    async with at.bare() as bare:
        await bare.send(["notify", 1, ECHO, {"value": 1}])
        equal((await bare.terminal(1))[:2], ["end", 1])
        await bare.send(["notify", 3, "Interop.fail", {"code": "aborted", "message": ""}])
        failed(await bare.terminal(3), "aborted")
        await bare.send(["notify", 5, "Interop.nothing", {}])
        failed(await bare.terminal(5), "unimplemented")
        await bare.send(["notify", 7, ECHO, {}])
        failed(await bare.terminal(7), "invalid_argument")


closes(
    4505,
    "a notify with uploads or callbacks closes with 4505",
    ["NOTIFY-2"],
    [["notify", 1, "Interop.sum", {}, {"uploads": {"numbers": 3}}]],
    [["notify", 1, "Interop.progress", {"n": 1}, {"callbacks": {"on_progress": 3}}]],
)


@wire_cases("NOTIFY-3")
async def what_cannot_be_notified(at: Ground) -> None:
    """a notify of a method that streams, or takes uploads or callbacks, is answered so"""
    async with at.bare() as bare:
        await bare.send(
            ["notify", 1, "Interop.count", {"n": 1}],
            ["notify", 3, "Interop.sum", {}],
            ["notify", 5, "Interop.progress", {"n": 1}],
        )
        for id in (1, 3, 5):
            failed(await bare.terminal(id), "failed_precondition")


# -------------------------------------------------------------------------------- ids

closes(
    4505,
    "an id of the other side's row closes with 4505",
    ["ID-1"],
    [call(2, ECHO, {"value": 1})],
    [["notify", 2, ECHO, {"value": 1}]],
    [call(1, "Interop.sum", uploads={"numbers": 2})],
    [call(1, "Interop.progress", {"n": 1}, callbacks={"on_progress": 4})],
)

closes(
    4505,
    "an id that is not above all earlier ones closes with 4505",
    ["ID-2"],
    [call(1, ECHO, {"value": 1}), call(1, ECHO, {"value": 1})],
    [call(3, ECHO, {"value": 1}), call(1, ECHO, {"value": 1})],
    [call(3, "Interop.sum", uploads={"numbers": 3})],
    [call(3, "Interop.sum", uploads={"numbers": 1})],
    [call(1, "Interop.sum", uploads={"numbers": 3, "more": 3})],
    [call(1, "Interop.sum", uploads={"numbers": 5}), call(3, ECHO, {"value": 1})],
    [call(1, ECHO, {"value": 1}, uploads={"more": 3}), ["notify", 3, ECHO, {"value": 1}]],
)


@wire_cases("ID-3", "ID-4", "CALL-4")
async def ids_of_one_call(at: Ground) -> None:
    """a call opens up to 16 ids, and those of a refused call are used up all the same"""
    async with at.bare() as bare:
        uploads = {f"upload_{i}": 3 + 2 * i for i in range(15)}
        await bare.send(call(1, ECHO, {"value": 1}, uploads=uploads))
        check_invalid(await bare.terminal(1))
        await bare.send(["message", 31, [1]], ["end", 3])
        await lives(bare)
        await bare.send(call(31, ECHO, {"value": 1}))
        equal(await bare.closed(), 4505, "the close code for an id that is used up")


closes(
    4505,
    "a call that opens 17 ids closes with 4505",
    ["ID-3"],
    [call(1, ECHO, {"value": 1}, uploads={f"upload_{i}": 3 + 2 * i for i in range(16)})],
    [
        call(
            1,
            "Interop.progress",
            {"n": 1},
            uploads={f"upload_{i}": 3 + 2 * i for i in range(8)},
            callbacks={f"callback_{i}": 19 + 2 * i for i in range(8)},
        )
    ],
)


@wire_cases("ID-4", "ID-6")
async def skipped_and_finished_ids(at: Ground) -> None:
    """frames for finished and for skipped ids are ignored and counted"""
    before = (await at.stats())["frames_ignored"]
    async with at.bare() as bare:
        await bare.send(call(9, ECHO, {"value": 1}))
        await bare.terminal(9)
        await bare.send(
            ["cancel", 9],
            ["credit", 9, 5],
            ["message", 9, [1]],
            ["end", 7],
            ["cancel", 5],
            ["credit", 3, 1],
            ["error", 1, {"code": "aborted", "message": ""}],
        )
        await lives(bare)
        await ignored(at, before, 7)


@wire_cases("ID-4")
async def largest_id(at: Ground) -> None:
    """the largest id can be used"""
    async with at.bare() as bare:
        await bare.send(call(2**53 - 1, ECHO, {"value": 1}))
        equal(await bare.terminal(2**53 - 1), ["result", 2**53 - 1, 1])


closes(
    4505,
    "a frame for an id that was never opened closes with 4505",
    ["ID-5"],
    [["message", 1, [1]]],
    [["cancel", 1]],
    [["credit", 1, 1]],
    [["end", 1]],
    [["result", 2, None]],
    [["message", 2, [1]]],
    [["error", 4, {"code": "aborted", "message": ""}]],
    [["credit", 2, 1]],
    [["cancel", 2]],
    [["chunk", 1, True, b"1"]],
)

FOREVER = call(1, "Interop.forever", {"delay": 60})
SUM = call(1, "Interop.sum", uploads={"numbers": 3})
PROGRESS = call(1, "Interop.progress", {"n": 0}, callbacks={"on_progress": 3})

closes(
    4505,
    "a frame that is not its sender's to send closes with 4505",
    ["ID-5"],
    [FOREVER, ["message", 1, [1]]],
    [FOREVER, ["result", 1, 1]],
    [FOREVER, ["end", 1]],
    [FOREVER, ["error", 1, {"code": "aborted", "message": ""}]],
    [SUM, ["credit", 3, 1]],
    [SUM, ["cancel", 3]],
    [SUM, ["result", 3, 1]],
    [PROGRESS, ["message", 3, [1]]],
    [PROGRESS, ["cancel", 3]],
    [PROGRESS, ["end", 3]],
    [["notify", 1, "Interop.sleep", {"seconds": 60}], ["end", 1]],
)

closes(
    4505,
    "a chunk where no value was begun closes with 4505",
    ["CHUNK-3"],
    [FOREVER, ["chunk", 1, True, b"1"]],
    [SUM, ["chunk", 3, False, b"1"]],
)


# -------------------------------------------------------------------------------- chunks

# What the bare side announces where it wants large values in chunks.
CHUNKED = {"max_batch": FLOOR_MAX_BATCH, "max_value": 1024 * KIB, "max_held": 1024 * KIB}


@asynccontextmanager
async def chunked(at: Ground, **fields: Any) -> AsyncIterator[Bare | None]:
    """A bare side that takes chunks; None where the server takes none of the size needed here."""
    async with at.bare(**{"limits": CHUNKED, **fields}) as bare:
        enough = min(bare.limit("max_value"), bare.limit("max_held")) >= 512 * KIB
        yield bare if enough else None


@wire_cases("CHUNK-1", "CHUNK-2")
async def large_values_in_chunks(at: Ground) -> None:
    """a large argument is taken in pieces of any legal size, and a large result comes in some"""
    async with chunked(at) as bare:
        if bare is None:
            return
        texts = ["x" * 300 * KIB, '\u6f22\u00fc"\\\\\n' * 20 * KIB, "\U0001f680" * 60 * KIB]
        for n, text in enumerate(texts):
            for m, piece in enumerate((16 * KIB + 3, 40_000, 64 * KIB)):
                id = 6 * n + 2 * m + 1
                await bare.large(["call", id, ECHO, None, None], {"value": text}, piece)
                result = await bare.on(id)
                equal(result[:3], ["result", id, None], "the frame before the chunks")
                equal(await bare.joined(result), text)


@wire_cases("CHUNK-1", "CHUNK-4", "MSG-2")
async def large_items_in_chunks(at: Ground) -> None:
    """large items go and come in chunks, each alone in its message and in its place"""
    async with chunked(at, window=1000) as bare:
        if bare is None or bare.window < 9:
            return
        large = ["y" * 200 * KIB, {"z": [1, "z" * 100 * KIB]}]
        await bare.send(call(1, "Interop.bidi_echo", uploads={"items": 3}))
        for item in large:
            await bare.send(["message", 3, ["before"]])
            await bare.large(["message", 3, [None]], item)
        await bare.send(["end", 3])
        for item in large:
            equal(await bare.items(1, 1), ["before"], "the small item")
            frame = await bare.on(1)
            equal(frame[:3], ["message", 1, [None]], "the frame before the chunks")
            equal(await bare.joined(frame), item, "the large item")
        equal((await bare.on(1))[0], "end", "what follows")


@wire_cases("CHUNK-1", "ERROR-2")
async def large_error_data_in_chunks(at: Ground) -> None:
    """the data of an error can come in chunks"""
    async with chunked(at) as bare:
        if bare is None:
            return
        args = {"code": "aborted", "message": "m", "data": ["d" * 200 * KIB]}
        await bare.large(["call", 1, "Interop.fail", None, None], args)
        error = await bare.on(1)
        equal((error[0], error[2]["code"], error[2]["message"]), ("error", "aborted", "m"))
        equal(error[2].get("data"), None, "the data in the frame")
        equal(await bare.joined(error), args["data"], "the data")


@wire_cases("CHUNK-5")
async def cancelled_amid_its_arguments(at: Ground) -> None:
    """a call that is cancelled while its arguments are incomplete never begins"""
    async with chunked(at) as bare:
        if bare is None:
            return
        await bare.send(["call", 1, ECHO, None, None, 200 * KIB])
        first = bare.chunks(1, {"value": "x" * 200 * KIB})[0]
        await bare.send(first)
        await bare.send(["cancel", 1])
        failed(await bare.terminal(1), "cancelled", not_started=True)
        await bare.send(first)
        await lives(bare)


@wire_cases("CHUNK-7", "ERROR-5", "TIME-1")
async def refused_before_it_has_come(at: Ground) -> None:
    """what cannot be is refused without waiting for the arguments, and the link lives"""
    async with chunked(at) as bare:
        if bare is None:
            return
        await bare.send(["call", 1, ECHO, None, None, bare.limit("max_value") + 1])
        failed(await bare.terminal(1), "resource_exhausted", not_started=True)
        await bare.send(["call", 3, "Interop.nothing", None, None, 100 * KIB])
        failed(await bare.terminal(3), "unimplemented")
        await bare.send(["call", 5, ECHO, None, {"timeout": 20}, 100 * KIB])
        failed(await bare.terminal(5), "deadline_exceeded", not_started=True)
        await bare.send(*bare.chunks(3, {"value": "x" * 50 * KIB}))
        await lives(bare)


@wire_cases("CHUNK-7", "VALUE-7")
async def a_result_above_max_value(at: Ground) -> None:
    """a result above this side's max_value becomes an error, and the link lives"""
    async with chunked(at, limits={**CHUNKED, "max_value": 100 * KIB}) as bare:
        if bare is None:
            return
        await bare.send(call(1, "Interop.blob", {"size": 200 * KIB}))
        failed(await bare.terminal(1), "resource_exhausted")
        await lives(bare)


@wire_cases("CHUNK-6")
async def values_within_max_held(at: Ground) -> None:
    """the server begins no value beyond this side's max_held, and all come in the end"""
    held = 250 * KIB
    async with chunked(at, limits={**CHUNKED, "max_value": held, "max_held": held}) as bare:
        if bare is None:
            return
        ids = range(1, 12, 2)
        for id in ids:
            await bare.send(call(id, "Interop.blob", {"size": 80 * KIB}))
        begun: dict[int, int] = {}
        done = 0
        while done < len(ids):
            frame = await bare.frame(lambda frame: frame[0] in ("result", "chunk"), "a result")
            if frame[0] == "result":
                begun[frame[1]] = frame[3]
            elif frame[2]:
                del begun[frame[1]]
                done += 1
            require(sum(begun.values()) <= held, f"of {held} bytes {begun} were begun")


@wire_cases("CHUNK-6")
async def more_than_the_server_holds(at: Ground) -> None:
    """values beyond the server's max_held close with 4505"""
    async with at.bare() as bare:
        held, value = bare.limit("max_held"), bare.limit("max_value")
        if held > value * (bare.limit("max_calls") - 1):
            return  # the slots come first
        sizes = [value] * (held // value) if held else []
        for n, size in enumerate([*sizes, held - sum(sizes) + 1]):
            await bare.send(["call", 2 * n + 1, ECHO, None, None, size])
        equal(await bare.closed(), 4505, "the close code")


@wire_cases("CHUNK-3", "CHUNK-4")
async def chunks_that_are_wrong(at: Ground) -> None:
    """pieces of a wrong size, a wrong total, and other frames amid the pieces close with 4505"""
    opening = ["call", 1, ECHO, None, None, 70_000]
    batches: list[list[Frame]] = [
        [["chunk", 1, False, b"x" * (16 * KIB - 1)]],
        [["chunk", 1, False, b"x" * (64 * KIB + 1)]],
        [["chunk", 1, True, b"x" * (64 * KIB)]],
        [["chunk", 1, False, b"x" * (40 * KIB)], ["chunk", 1, True, b"x" * (40 * KIB)]],
        [["chunk", 1, True, b""]],
        [
            ["chunk", 1, False, b"x" * 35_000],
            ["chunk", 1, False, b"x" * 35_000],
            ["chunk", 1, True, b""],
        ],
        [call(1, ECHO, {"value": 1})],
    ]
    for batch in batches:
        async with chunked(at) as bare:
            if bare is None:
                return
            if bare.limit("max_batch") < 70 * KIB and any(
                len(frame[-1]) >= 64 * KIB for frame in batch
            ):
                continue
            await bare.send(opening)
            for frame in batch:
                await bare.send(frame)
            equal(await bare.closed(), 4505, f"the close code after {short(batch)}")


closes(
    4500,
    "a size without null in the value's place, or none of 1 or more, closes with 4500",
    ["CHUNK-1", "BATCH-3"],
    [["call", 1, ECHO, {"value": 1}, None, 70_000]],
    [["call", 1, ECHO, None, None, 0]],
    [["call", 1, ECHO, None, None, "70000"]],
    [call(1, "Interop.sum", uploads={"numbers": 3}), ["message", 3, [1], 70_000]],
)


# -------------------------------------------------------------------------------- uploads


@wire_cases("UP-2")
async def upload_that_fails(at: Ground) -> None:
    """an upload's error is raised in the handler, behind the items before it"""
    async with at.bare() as bare:
        error = {"code": "data_loss", "message": "the disk", "data": [1]}
        await bare.send(call(1, "Interop.bidi_echo", uploads={"items": 3}))
        await bare.upload(3, "a", "b")
        await bare.send(["error", 3, error])
        items, terminal = await bare.outcome(1)
        equal(items, ["a", "b"], "the items before the error")
        body = failed(terminal, "data_loss")
        equal(body["message"], "the disk", "the message")
        equal(body["data"], [1], "the data")


@wire_cases("UP-3", "UP-5", "ERROR-4", "ID-6")
async def upload_of_a_wrong_item(at: Ground) -> None:
    """an item that does not validate fails the call, and what follows on the upload is ignored"""
    async with at.bare() as bare:
        await bare.send(SUM)
        await bare.upload(3, 1, "two")
        errors = check_invalid(await bare.terminal(1))
        equal(errors[0]["loc"][:1], ["numbers"], "the first of loc")
        await bare.send(["message", 3, [4]], ["message", 3, [5]], ["end", 3])
        await lives(bare)


@wire_cases("CREDIT-4", "CREDIT-5", "UP-1")
async def uploads_get_credit_back(at: Ground) -> None:
    """the credit of an upload comes back as its items are consumed"""
    async with at.bare() as bare:
        n = 4 * bare.window + 100
        await bare.send(SUM)
        await bare.upload(3, *[1] * n)
        await bare.send(["end", 3])
        equal(await bare.terminal(1), ["result", 1, n])


@wire_cases("CREDIT-3", "UP-1")
async def items_without_credit(at: Ground) -> None:
    """an item beyond an upload's credit closes with 4505"""
    async with at.bare() as bare:
        await bare.send(SUM, ["message", 3, [1] * (bare.window + 1)])
        equal(await bare.closed(), 4505, "the close code")


# -------------------------------------------------------------------------------- credit


@wire_cases("CREDIT-1", "CREDIT-2")
async def credit_of_a_call(at: Ground) -> None:
    """a stream sends what it has credit for, and nothing without"""
    async with at.bare() as bare:
        await bare.send(call(1, "Interop.count", {"n": 6}, credit=0))
        await silent(bare, 1)
        await bare.send(["credit", 1, 2])
        equal(await bare.items(1, 2), [0, 1], "the items for a credit of 2")
        await silent(bare, 1)
        await bare.send(["credit", 1, 1], ["credit", 1, 2])
        equal(await bare.items(1, 3), [2, 3, 4], "the items for a credit of 1 and 2")
        await silent(bare, 1)
        await bare.send(["credit", 1, 10])
        items, terminal = await bare.outcome(1)
        equal(items, [5], "the last items")
        equal(terminal[:2], ["end", 1], "the terminal")


@wire_cases("CREDIT-1")
async def credit_of_hello(at: Ground) -> None:
    """without a credit option a stream has the window of the caller's hello"""
    async with at.bare(window=3) as bare:
        await bare.send(call(1, "Interop.forever", {"delay": 0}))
        equal(await bare.items(1, 3), [0, 1, 2], "the items for a window of 3")
        await silent(bare, 1)
    async with at.bare(window=0) as bare:
        await bare.send(call(1, "Interop.forever", {"delay": 0}))
        await silent(bare, 1)


@wire_cases("CREDIT-2")
async def large_items_cost_more(at: Ground) -> None:
    """an item of more than 64 KiB costs more, and may begin with a balance of 1"""
    async with at.bare() as bare:
        large = "x" * 70_000
        if bare.limit("max_batch") < 80_000 or bare.limit("max_held") or bare.window < 3:
            return  # it cannot be uploaded in one piece
        await bare.send(call(1, "Interop.bidi_echo", uploads={"items": 3}, credit=1))
        await bare.send(["message", 3, [large, "small"]])
        equal(await bare.items(1, 1), [large], "the large item")
        await bare.send(["credit", 1, 1])
        await silent(bare, 1)
        await bare.send(["credit", 1, 1])
        equal(await bare.items(1, 1), ["small"], "the item behind it")


@wire_cases("CREDIT-2")
async def terminals_need_no_credit(at: Ground) -> None:
    """an error needs no credit"""
    async with at.bare() as bare:
        await bare.send(call(1, "Interop.count", {"n": "many"}, credit=0))
        failed(await bare.terminal(1), "invalid_argument")


@wire_cases("CREDIT-6")
async def impossible_credit(at: Ground) -> None:
    """a credit below 1, and one that lifts the balance above 2^31 - 1, close with 4505"""
    stream = call(1, "Interop.forever", {"delay": 60}, credit=1)
    batches: list[list[Frame]] = [
        [stream, ["credit", 1, 0]],
        [stream, ["credit", 1, -1]],
        [stream, ["credit", 1, MAX_CREDIT]],
        [stream, ["credit", 1, 2**40]],
        [call(1, "Interop.forever", {"delay": 60}, credit=2**31)],
    ]
    for batch in batches:
        async with at.bare() as bare:
            await bare.send(*batch)
            equal(await bare.closed(), 4505, f"the close code after {batch}")
    async with at.bare() as bare:
        await bare.send(call(1, "Interop.forever", {"delay": 60}, credit=MAX_CREDIT))
        await lives(bare)


@wire_cases("CREDIT-7")
async def credit_without_a_stream(at: Ground) -> None:
    """credit on a notify, and on a call that is answered with a result, has no effect"""
    async with at.bare() as bare:
        await bare.send(
            call(1, ECHO, {"value": 1}, credit=5),
            ["credit", 1, 5],
            ["notify", 3, ECHO, {"value": 1}],
            ["credit", 3, 5],
        )
        equal(await bare.terminal(1), ["result", 1, 1])
        equal((await bare.terminal(3))[0], "end", "the terminal of the notify")


# -------------------------------------------------------------------------------- cancellation


@wire_cases("CANCEL-2")
async def cancelled_in_its_own_batch(at: Ground) -> None:
    """a call or notify that is cancelled in its own batch does not begin"""
    async with at.bare() as bare:
        await bare.send(
            call(1, ECHO, {"value": 1}),
            ["cancel", 1],
            call(3, "Interop.count", {"n": 3}),
            ["cancel", 3, "deadline_exceeded"],
            ["notify", 5, ECHO, {"value": 1}],
            ["cancel", 5, "weariness"],
            call(7, ECHO, {"value": 7}),
        )
        failed(await bare.terminal(1), "cancelled", not_started=True)
        items, terminal = await bare.outcome(3)
        equal(items, [], "the items")
        failed(terminal, "deadline_exceeded", not_started=True)
        failed(await bare.terminal(5), "cancelled", not_started=True)
        equal(await bare.terminal(7), ["result", 7, 7])


@wire_cases("CANCEL-3")
async def cancel_reasons(at: Ground) -> None:
    """a cancelled handler is answered with the reason as code"""
    reasons = {None: "cancelled", "deadline_exceeded": "deadline_exceeded", "other": "cancelled"}
    async with at.bare() as bare:
        for id, (reason, code) in zip(count(1, 2), reasons.items(), strict=False):
            await bare.send(call(id, "Interop.slow_cleanup", {"seconds": 0}))
            await bare.on(id)
            await bare.send(["cancel", id] if reason is None else ["cancel", id, reason])
            failed(await bare.terminal(id), code)


@wire_cases("CANCEL-3", "CALL-5", "INTEROP-1")
async def terminal_after_cleanup(at: Ground) -> None:
    """the terminal of a cancelled call comes when its cleanup is done"""
    before = (await at.stats())["cleanups_done"]
    async with at.bare() as bare:
        await bare.send(call(1, "Interop.slow_cleanup", {"seconds": 0.2}))
        await bare.on(1)
        await bare.send(["cancel", 1])
        failed(await bare.terminal(1), "cancelled")
        now = await at.stats()
        require(now["cleanups_done"] > before, "the terminal came before the cleanup was done")
        equal(now["cleanups_begun"], now["cleanups_done"], "cleanups_begun")


@wire_cases("CANCEL-4")
async def second_cancel(at: Ground) -> None:
    """a second cancel, and one behind the terminal, are ignored and counted"""
    before = (await at.stats())["frames_ignored"]
    async with at.bare() as bare:
        await bare.send(call(1, "Interop.slow_cleanup", {"seconds": 0.05}))
        await bare.on(1)
        await bare.send(["cancel", 1], ["cancel", 1, "deadline_exceeded"], ["credit", 1, 1])
        failed(await bare.terminal(1), "cancelled")
        await bare.send(["cancel", 1])
        await silent(bare, 1)
        await ignored(at, before, 3)


@wire_cases("CANCEL-5")
async def no_item_after_a_cancel(at: Ground) -> None:
    """once a cancel was taken no further item is sent"""
    async with at.bare() as bare:
        await bare.send(call(1, "Interop.forever", {"delay": 0}, credit=100_000))
        await bare.on(1)
        # The pong shows that the cancel in the same message was taken.
        await bare.send(["cancel", 1], ["ping", 77])
        while (await bare.frame())[:2] != ["pong", 77]:
            pass
        items, terminal = await bare.outcome(1)
        equal(items, [], "the items behind the pong")
        failed(terminal, "cancelled")


# -------------------------------------------------------------------------------- time


@wire_cases("TIME-2")
async def no_time_left(at: Ground) -> None:
    """a timeout of 0 is answered at once, and the handler does not begin"""
    async with at.bare() as bare:
        await bare.send(
            call(1, ECHO, {"value": 1}, timeout=0),
            call(3, "Interop.count", {"n": 3}, timeout=0),
            ["notify", 5, ECHO, {"value": 1}, {"timeout": 0}],
        )
        for id in (1, 3, 5):
            items, terminal = await bare.outcome(id)
            equal(items, [], "the items")
            failed(terminal, "deadline_exceeded", not_started=True)


@wire_cases("TIME-1")
async def time_runs_out(at: Ground) -> None:
    """a handler whose time is over is cancelled and answered with deadline_exceeded"""
    async with at.bare() as bare:
        await bare.send(
            call(1, "Interop.sleep", {"seconds": 60}, timeout=30),
            call(3, "Interop.forever", {"delay": 60}, timeout=30),
            ["notify", 5, "Interop.sleep", {"seconds": 60}, {"timeout": 30}],
            call(7, "Interop.sum", uploads={"numbers": 9}, timeout=30),
        )
        for id in (1, 3, 5, 7):
            failed(await bare.terminal(id), "deadline_exceeded")


@wire_cases("TIME-1")
async def long_timeouts(at: Ground) -> None:
    """a timeout of any size is taken"""
    async with at.bare() as bare:
        for id, timeout in ((1, 10_000), (3, 2**53), (5, 2**63)):
            await bare.send(call(id, ECHO, {"value": id}, timeout=timeout))
            equal(await bare.terminal(id), ["result", id, id])


# -------------------------------------------------------------------------------- slots


async def fill(bare: Bare, first: int, n: int) -> None:
    """Begin n calls that stay live."""
    frames = [call(first + 2 * i, "Interop.sleep", {"seconds": 60}) for i in range(n)]
    for at in range(0, n, 200):
        await bare.send(*frames[at : at + 200])


@wire_cases("SLOT-4", "SLOT-2")
async def more_calls_than_slots(at: Ground) -> None:
    """calls and notifies above max_calls are refused, and the link lives"""
    async with at.bare() as bare:
        slots = bare.limit("max_calls")
        await fill(bare, 1, slots)
        beyond = 1 + 2 * slots
        await bare.send(
            call(beyond, ECHO, {"value": 1}),
            call(beyond + 2, "Interop.count", {"n": 1}),
            ["notify", beyond + 4, ECHO, {"value": 1}],
        )
        for id in (beyond, beyond + 2, beyond + 4):
            failed(await bare.terminal(id), "resource_exhausted", not_started=True)
        await bare.send(["cancel", 1])
        failed(await bare.terminal(1), "cancelled")
        await lives(bare)


@wire_cases("SLOT-2")
async def cancel_frees_no_slot(at: Ground) -> None:
    """a slot is free when the terminal comes, not when the cancel goes"""
    async with at.bare() as bare:
        slots = bare.limit("max_calls")
        await bare.send(call(1, "Interop.slow_cleanup", {"seconds": 0.1}))
        await bare.on(1)
        await fill(bare, 3, slots - 1)
        refused = 3 + 2 * slots
        await bare.send(["cancel", 1], call(refused, ECHO, {"value": 1}))
        failed(await bare.terminal(refused), "resource_exhausted", not_started=True)
        failed(await bare.terminal(1), "cancelled")
        await lives(bare)


@wire_cases("SLOT-1", "SLOT-3", "ERROR-7", "INTEROP-2")
async def nested_call_without_a_slot(at: Ground) -> None:
    """a handler that calls back while all the caller's slots are taken fails at once"""
    async with at.bare(limits={"max_calls": 8}) as bare:
        if bare.limit("max_calls") < 9:
            return  # the server's own slots are taken as soon
        ids = range(1, 17, 2)
        await bare.send(*(call(id, "Interop.call_back", {"times": 1}) for id in ids))
        calls = [await bare.called() for _ in ids]
        equal(sorted(frame[4]["parent"] for frame in calls), list(ids), "the parents")
        await bare.send(call(17, "Interop.call_back", {"times": 1}))
        failed(await bare.terminal(17), "resource_exhausted")
        for frame in calls:
            await bare.send(["result", frame[1], "back"])
        for id in ids:
            equal(await bare.terminal(id), ["result", id, ["back"]])
        await bare.send(call(19, "Interop.call_back", {"times": 1}))
        await bare.send(["result", (await bare.called())[1], "again"])
        equal(await bare.terminal(19), ["result", 19, ["again"]])


# -------------------------------------------------------------------------------- calls back


@wire_cases("INTEROP-2", "ID-1", "TIME-5")
async def call_back_on_the_wire(at: Ground) -> None:
    """the server calls back on even ids, with the parent and no more time than it has"""
    async with at.bare() as bare:
        await bare.send(call(1, "Interop.call_back", {"times": 3}, timeout=20_000))
        last = 0
        for i in range(3):
            name, id, method, args, options = (await bare.called())[:5]
            require(id % 2 == 0 and id > last, f"the server's call has id {id}, after {last}")
            equal([name, method, args], ["call", ECHO, {"value": i}], "the server's call")
            equal(options.get("parent"), 1, "parent")
            left = options.get("timeout")
            require(type(left) is int and 0 < left <= 20_000, f"the call's timeout is {left!r}")
            await bare.send(["result", id, f"answer {i}"])
            last = id
        answers = ["answer 0", "answer 1", "answer 2"]
        equal(await bare.terminal(1), ["result", 1, answers])


@wire_cases("INTEROP-2")
async def nested_on_the_wire(at: Ground) -> None:
    """nested calls the caller's nested with one less, and adds one"""
    async with at.bare() as bare:
        await bare.send(call(1, "Interop.nested", {"depth": 7}))
        frame = await bare.called()
        equal(frame[2:4], ["Interop.nested", {"depth": 6}], "the server's call")
        equal(frame[4].get("parent"), 1, "parent")
        await bare.send(["result", frame[1], 6])
        equal(await bare.terminal(1), ["result", 1, 7])


@wire_cases("RESULT-1")
async def result_behind_items(at: Ground) -> None:
    """a result behind a message closes with 4505"""
    async with at.bare() as bare:
        await bare.send(call(1, "Interop.call_back", {"times": 1}))
        id = (await bare.called())[1]
        await bare.send(["message", id, [1]], ["result", id, 2])
        equal(await bare.closed(), 4505, "the close code")


@wire_cases("CALL-8")
async def stream_where_a_value_was_awaited(at: Ground) -> None:
    """a caller that awaits a value and gets a stream fails the call, and cancels it"""
    async with at.bare() as bare:
        await bare.send(call(1, "Interop.call_back", {"times": 1}))
        id = (await bare.called())[1]
        await bare.send(["message", id, [1]])
        await bare.sent("cancel", id)
        failed(await bare.terminal(1), "internal")
        await bare.send(["error", id, {"code": "cancelled", "message": ""}])
        await lives(bare)


@wire_cases("VALUE-4", codec="json")
async def answer_outside_the_value_space(at: Ground) -> None:
    """an answer outside the value space fails the call that it answers with internal"""
    async with at.bare() as bare:
        for id, text in ((1, "1e999"), (3, '"\\ud800"'), (5, "18446744073709551616")):
            await bare.send(call(id, "Interop.call_back", {"times": 1}))
            inner = (await bare.called())[1]
            await bare.send_message(f'[["result",{inner},{text}]]')
            failed(await bare.terminal(id), "internal")


@wire_cases("CB-1", "INTEROP-1")
async def callback_on_the_wire(at: Ground) -> None:
    """a callback is called by its id, with positional arguments and neither uploads nor callbacks"""
    async with at.bare() as bare:
        await bare.send(call(1, "Interop.progress", {"n": 2}, callbacks={"on_progress": 3}))
        for i in (1, 2):
            frame = await bare.called()
            equal(frame[2:4], [3, [i]], "the invocation")
            options = (frame[4] if len(frame) > 4 else None) or {}
            require(not options.get("uploads") and not options.get("callbacks"), f"{options}")
            await bare.send(["result", frame[1], None])
        equal(await bare.terminal(1), ["result", 1, 2])


@wire_cases("CB-1")
async def callback_that_streams(at: Ground) -> None:
    """a callback that answers with message or end closes with 4505"""
    for answer in (["message", 2, [1]], ["end", 2]):
        async with at.bare() as bare:
            await bare.send(call(1, "Interop.progress", {"n": 1}, callbacks={"on_progress": 3}))
            id = (await bare.called())[1]
            await bare.send([answer[0], id, *answer[2:]])
            equal(await bare.closed(), 4505, f"the close code after {answer}")


@wire_cases("CB-3", "ID-6")
async def callback_ends_with_its_call(at: Ground) -> None:
    """the call's terminal finishes the callback that it awaits, and what still comes is ignored"""
    before = (await at.stats())["frames_ignored"]
    async with at.bare() as bare:
        await bare.send(call(1, "Interop.progress", {"n": 1}, callbacks={"on_progress": 3}))
        id = (await bare.called())[1]
        await bare.send(["cancel", 1])
        failed(await bare.terminal(1), "cancelled")
        await bare.send(
            ["message", id, [1]],
            ["result", id, None],
            ["error", id, {"code": "cancelled", "message": ""}],
        )
        await lives(bare)
        await ignored(at, before, 3)


closes(
    4505,
    "a call of an id that is no callback closes with 4505",
    ["CB-4"],
    [call(1, 2, [])],
    [call(1, 4, [1])],
    [call(3, 1, [])],
)


# -------------------------------------------------------------------------------- the end


@wire_cases("CLOSE-5", "HELLO-10")
async def cut_connection(at: Ground) -> None:
    """a connection that breaks ends its session, if there is no resume, and cleans up"""
    before = await at.stats()
    async with at.bare() as bare:
        if bare.peer.get("resume_window"):
            return
        await bare.send(
            call(1, "Interop.slow_cleanup", {"seconds": 0.05}),
            call(3, "Interop.sleep", {"seconds": 60}),
            call(5, "Interop.sum", uploads={"numbers": 7}),
        )
        await bare.on(1)
        await bare.cut()
    await at.until(
        lambda now: (
            now["cleanups_done"] >= before["cleanups_done"] + 1
            and now["calls_live"] <= before["calls_live"]
            and now["sessions"] <= before["sessions"]
        ),
        "the session was gone and its handlers had cleaned up",
    )


@wire_cases("INTEROP-1")
async def closes_are_counted(at: Ground) -> None:
    """stats counts the links by close code"""
    before = (await at.stats())["closes"]
    async with at.bare() as bare:
        await bare.send(["nonsense"])
        equal(await bare.closed(), 4500, "the close code")
    async with at.bare() as bare:
        await bare.close(1000)
    await at.until(
        lambda now: all(
            now["closes"].get(code, 0) > before.get(code, 0) for code in ("4500", "1000")
        ),
        "a link was closed with 4500 and one with 1000",
    )


@wire_cases("REFLECT-1")
async def reflection_on_the_wire(at: Ground) -> None:
    """reflection answers without arguments, and takes none"""
    async with at.bare() as bare:
        await bare.send(call(1, "wsrpc.reflection.describe"))
        frame = await bare.terminal(1)
        if frame[0] == "error":
            failed(frame, "unimplemented")  # REFLECT-3: turned off
            return
        equal(frame[2].get("version"), 1, "version")
        require("Interop" in frame[2].get("controllers", {}), "Interop is not described")
        blob = frame[2]["controllers"]["Interop"]["methods"]["blob"]["result"]
        equal(blob.get("type"), "string", "the type of bytes")
        equal(blob.get("format"), "base64url", "the format of bytes")
        await bare.send(call(3, "wsrpc.reflection.describe", {"of": "Interop"}))
        check_invalid(await bare.terminal(3))
