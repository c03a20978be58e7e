"""Bad input as data: what a stranger sends, and what exactly becomes of it.

Each case is sent on a connection of its own, once in the place of a hello and once after one. What
becomes of it is an int, the close code; or a string, the code of the `error` that answers the call
or the name of the frame that does; or None, nothing at all. Where the connection is not closed it
has to serve a call afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.support import Codec

from .raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, ws

__all__ = ["CASES", "GOOD", "KNOWN", "LIMITS", "Bytes", "Case", "Raw"]

# What the server takes and refuses as credentials.
GOOD, KNOWN = "good", "known, but not allowed in"

WINDOW = 8
LIMITS = {"max_calls": 16, "window": WINDOW, "max_value": 200_000, "max_held": 300_000}

Verdict: TypeAlias = int | str | None


@dataclass(frozen=True)
class Bytes:
    """A message that is no batch of values, in each codec; None where there is no such thing."""

    json: bytes | None = None
    msgpack: bytes | None = None

    def of(self, codec: Codec) -> bytes | None:
        return self.json if codec == "json" else self.msgpack


@dataclass(frozen=True)
class Raw:
    """Bytes on the socket."""

    data: bytes


@dataclass(frozen=True)
class Case:
    """One piece of bad input.

    Attributes:
        name: What it is.
        messages: What is sent, one message after the other: batches of plain values, `Bytes`, `Raw`.
        after: Its fate after a hello.
        before: Its fate in the place of a hello.
        only: The one codec that can say it.
    """

    name: str
    messages: tuple[Any, ...]
    after: Verdict
    before: Verdict
    only: Codec | None = None


def _cases() -> Iterator[Case]:
    for group in (
        _no_batches, _names, _types, _hellos, _ids, _directions, _credits, _counts, _chunks, _values,
        _texts, _methods, _arguments, _sizes, _websocket,
    ):  # fmt: skip
        yield from group()


def call(method: str = "Target.greet", args: Any = None, id: int = 1, **options: Any) -> list[Any]:
    args = {"name": "Ann"} if args is None else args
    return ["call", id, method, args, *([options] if options else [])]


WAIT = call("Target.wait", {})
HOLD = call("Target.hold", {}, uploads={"numbers": 3})
BUILD = call("Target.ask", {}, callbacks={"f": 3})


def _bad(name: str, *frames: Any) -> Case:
    """A batch that cannot be read, wherever it comes."""
    return Case(name, (list(frames),), 4500, 4500)


def _illegal(name: str, *messages: Any, after: Verdict = 4505) -> Case:
    """Well-formed frames at the wrong time; before the hello all are."""
    return Case(name, messages, after, 4505)


# ------------------------------------------------------------------------------- malformed


def _no_batches() -> Iterator[Case]:
    """BATCH-1."""
    batch: Any
    for batch in ([], {}, "text", 7, None, True, 1.5, [7], [[]], [None], [[None]], [[7]], [{}],
                  ["call"], [[["call"]]], [[{}]], [[True, 1]], {"0": ["call"]}):  # fmt: skip
        yield Case(f"a batch that is {batch!r}", (batch,), 4500, 4500)
    for name, data in {
        "no bytes": b"",
        "a space": b" ",
        "half a batch": b'[["call",1,"A.b"',
        "half a string": b'[["ca',
        "two documents": b'[["x-a"]] [["x-b"]]',
        "a trailing comma": b'[["x-a"],]',
        "a comment": b'[["x-a"]] // no',
        "single quotes": b"[['x-a']]",
        "a byte order mark": b'\xef\xbb\xbf[["x-a"]]',
        "a number with a leading zero": b'[["cancel",01]]',
        "a number with a plus": b'[["cancel",+1]]',
        "a hexadecimal number": b'[["cancel",0x1]]',
        "NaN": b'[["result",2,NaN]]',
        "Infinity": b'[["result",2,Infinity]]',
        "-Infinity": b'[["result",2,-Infinity]]',
        "undefined": b'[["result",2,undefined]]',
        "a control character in a string": b'[["call",1,"A.\x01",{}]]',
        "an escape that is none": b'[["call",1,"A.\\x41",{}]]',
        "brackets without end": b"[" * 60_000,
        "brackets to their end": b"[" * 30_000 + b"]" * 30_000,
        "objects without end": b'{"a":' * 10_000,
        "other bytes": bytes(range(1, 32)),
    }.items():
        yield Case(f"{name} as JSON", (Bytes(json=data),), 4500, 4500, "json")
    for name, data in {
        "no bytes": b"",
        "the byte that is never used": b"\xc1",
        "half a batch": b"\x91\x93\xa4call\x01",
        "an array of 2^32 - 1": b"\xdd\xff\xff\xff\xff",
        "a frame of 2^32 - 1": b"\x91\xdd\xff\xff\xff\xff\xa4call",
        "a map of 2^32 - 1": b"\xdf\xff\xff\xff\xff",
        "a string of 2^32 - 1": b"\x91\x92\xdb\xff\xff\xff\xff",
        "bytes of 2^32 - 1": b"\x91\x92\xc6\xff\xff\xff\xff",
        "an extension type": b"\xd4\x01\x00",
        "a frame that is an extension type": b"\x91\xd4\x01\x00",
        "a timestamp": b"\xd6\xff\x00\x00\x00\x00",
        "a name of an extension type": b"\x91\x92\xd4\x01\x00\x01",
        "a name that is a timestamp": b"\x91\x92\xd6\xff\x00\x00\x00\x00\x01",
        "two documents": b"\x91\x91\xa3x-a\x91\x91\xa3x-b",
        "a name of bytes": b"\x91\x92\xc4\x06cancel\x01",
        "a name that is no UTF-8": b"\x91\x92\xa2x\xff\x01",
        "arrays without end": b"\x91" * 60_000,
        "arrays to their end": b"\x91" * 60_000 + b"\x90",
        "maps without end": b"\x81\xa1a" * 20_000,
    }.items():
        yield Case(f"{name} as MessagePack", (Bytes(msgpack=data),), 4500, 4500, "msgpack")


def _names() -> Iterator[Case]:
    """BATCH-2."""
    for name in ("nonsense", "", "Call", "CALL", "call ", " call", "call\x00", "__class__", "x", "X-a",
                 "constructor", "ｃall", "message\n", "n" * 10_000):  # fmt: skip
        yield _bad(f"a frame named {name[:20]!r}", [name, 1, "A.b", {}])


def _types() -> Iterator[Case]:
    """BATCH-3, CALL-1."""
    id: Any
    method: Any
    options: Any
    items: Any
    final: Any
    body: Any
    reason: Any
    n: Any
    piece: Any
    away: Any
    for rest in ([], [1], [1, "A.b"]):
        yield _bad(f"a call of {rest}", ["call", *rest])
        yield _bad(f"a notify of {rest}", ["notify", *rest])
    for id in ("1", 1.5, True, None, 0, -1, 2**53, 2**63, [], {}):
        yield _bad(f"a call with the id {id!r}", ["call", id, "A.b", {}])
    for id in (0, -1, 2**53, 2**64 - 1, "1", None):
        yield _bad(f"a cancel with the id {id!r}", ["cancel", id])
        yield _bad(f"a result with the id {id!r}", ["result", id, 1])
        yield _bad(f"items with the id {id!r}", ["message", id, [1]])
    for method in (None, 1.5, True, [], {}, 0, -1, 2**53):
        yield _bad(f"a call of the method {method!r}", ["call", 1, method, {}])
    for args in (7, "x", True, [], [1]):
        yield _bad(f"a call with the arguments {args!r}", ["call", 1, "A.b", args])
    yield _bad("a call of a callback with an object", ["call", 1, 2, {}])
    yield _bad("a notify of a callback", ["notify", 1, 2, []])
    for options in (
        7, "x", True, [], {"timeout": -1}, {"timeout": 1.5}, {"timeout": "1"}, {"timeout": True},
        {"metadata": []}, {"metadata": {"a": 1}}, {"metadata": {"a": None}}, {"metadata": "a"},
        {"credit": -1}, {"credit": 1.5}, {"credit": "1"}, {"uploads": []}, {"uploads": {"a": "3"}},
        {"uploads": {"a": 0}}, {"uploads": {"a": 2**53}}, {"callbacks": 3}, {"callbacks": {"a": -3}},
        {"callbacks": {"a": 3.5}}, {"parent": "1"}, {"key": 7}, {"key": []}, {"last_id": 7},
    ):  # fmt: skip
        yield _bad(f"a call with the options {options!r}", ["call", 1, "A.b", {}, options])
    for items in (None, [], {}, 7, "items", True):
        yield _bad(f"items that are {items!r}", ["message", 1, items])
    yield _bad("no items", ["message", 1])
    yield _bad("a result without a value", ["result", 1])
    for final in ([], [1, 2], 7, {}, "final"):
        yield _bad(f"an end with {final!r}", ["end", 1, final])
    yield _bad("an end of nothing", ["end"])
    for body in (None, [], 7, {}, {"code": 1, "message": ""}, {"code": "aborted"}, {"message": ""},
                 {"code": "aborted", "message": None}, {"code": "aborted", "message": "", "type": 7},
                 {"code": "aborted", "message": "", "error_id": 7},
                 {"code": "aborted", "message": "", "not_started": 1},
                 {"code": "aborted", "message": "", "retry_after": -1}):  # fmt: skip
        yield _bad(f"an error of {body!r}", ["error", 1, body])
    for reason in (7, [], {}):
        yield _bad(f"a cancel for {reason!r}", ["cancel", 1, reason])
    for n in ("1", 1.5, None, True, [], 2**64):
        yield Case(f"a credit of {n!r}", (Bytes(b'[["credit",1,18446744073709551616]]'),)
                   if n == 2**64 else ([["credit", 1, n]],), 4500 if n != 2**64 else 4505,
                   4500 if n != 2**64 else 4505, "json" if n == 2**64 else None)  # fmt: skip
    yield _bad("a credit of nothing", ["credit", 1])
    for last in (1, "true", None):
        yield _bad(f"a chunk whose last is {last!r}", ["chunk", 1, last, "x"])
    for piece in (7, None, [], {}, True):
        yield _bad(f"a chunk of {piece!r}", ["chunk", 1, True, piece])
    yield Case("a chunk of a string", ([["chunk", 1, True, "x"]],), 4500, 4500, "msgpack")
    for size in (0, -1, 1.5, "1", True):
        yield _bad(f"a value of the size {size!r}", ["message", 1, [None], size])
    yield _bad("a value besides its size", ["message", 1, [7], 100_000])
    yield _bad("two items besides a size", ["message", 1, [None, None], 100_000])
    yield _bad("arguments besides their size", ["call", 1, "A.b", {}, None, 100_000])
    yield _bad("a final value besides its size", ["end", 1, [7], 100_000])
    yield _bad(
        "error data besides its size", ["error", 1, {"code": "x", "message": "", "data": 7}, 9]
    )
    for n in (-1, "1", 1.5, None, True, []):
        yield _bad(f"an ack of {n!r}", ["ack", n])
        yield _bad(f"a ping of {n!r}", ["ping", n])
    yield _bad("a ping of 2^53", ["ping", 2**53])
    yield _bad("a pong of -1", ["pong", -1])
    for away in (None, [], 7, {}, {"last_id": 0}, {"grace": 0}, {"last_id": -1, "grace": 0},
                 {"last_id": 0, "grace": 1.5}):  # fmt: skip
        yield _bad(f"a goaway of {away!r}", ["goaway", away])
    yield _bad("an auth of nothing", ["auth"])
    # Nothing of a batch acts where one frame is malformed.
    yield Case("a good call, and garbage after it", ([call(), ["nonsense"]],), 4500, 4505)


# ------------------------------------------------------------------------------- hellos


def _hellos() -> Iterator[Case]:
    """HELLO-1, HELLO-2, HELLO-3, HELLO-7."""

    def hello(name: str, before: Verdict, after: int = 4505, **fields: Any) -> Case:
        body = {"version": 1, "auth": GOOD, **fields}
        return Case(f"a hello with {name}", ([["hello", body]],), after, before)

    sent: Any
    for sent in (None, [], 7, "x", {}, {"version": None}, {"version": "1"}, {"version": 1.5},
                 {"version": True}):  # fmt: skip
        yield _bad(f"a hello of {sent!r}", ["hello", sent])
    for version in (0, 2, -1, 2**40):
        yield hello(f"version {version}", 4507, version=version)
    for name, value in {
        "link": 0, "token": 7, "received": -1, "window": -1, "limits": [], "features": 7, "agent": 7,
        "session": 7, "resumed": 1, "resume_window": -1, "heartbeat": [1],
    }.items():  # fmt: skip
        yield hello(f"{name} {value!r}", 4500, 4500, **{name: value})
    yield hello("window 2^31", 4500, 4500, window=2**31)
    for name, value in {
        "max_batch": 65_535,
        "max_calls": 7,
        "max_value": 1,
        "max_held": -1,
    }.items():
        yield hello(f"limits.{name} {value}", 4500, 4500, limits={name: value})
    yield hello("features of numbers", 4500, 4500, features=[1])
    for auth in (None, "wrong", "", 0, [], {}, [GOOD], {"auth": GOOD}, "good ", "Good", True):
        yield hello(f"the credentials {auth!r}", 4501, auth=auth)
    yield hello("credentials that are not allowed in", 4503, auth=KNOWN)
    deep: Any = 1
    for _ in range(101):
        deep = [deep]
    yield hello("credentials nested 101 deep", 4501, auth=deep)
    yield Case("a hello with credentials that are not finite",
               (Bytes(b'[["hello",{"version":1,"auth":1e999}]]',
                      b"\x91\x92\xa5hello\x82\xa7version\x01\xa4auth\xcb\x7f\xf0" + bytes(6)),),
               4505, 4501)  # fmt: skip
    yield Case("a hello with credentials that are no Unicode",
               (Bytes(b'[["hello",{"version":1,"auth":"\\ud800"}]]',
                      b"\x91\x92\xa5hello\x82\xa7version\x01\xa4auth\xa1\xff"),),
               4505, 4501)  # fmt: skip
    yield hello("something received", 4505, received=1)
    yield hello("a token that nobody gave out", 4010, token="x" * 43)
    yield hello("an empty token", 4010, token="")
    yield hello("a token of 10,000 characters", 4010, token="x" * 10_000)
    yield hello("a token and the wrong credentials", 4501, token="x" * 43, auth="wrong")
    yield Case("two hellos in one message",
               ([["hello", {"version": 1, "auth": GOOD}]] * 2,), 4505, 4505)  # fmt: skip
    yield Case("two hellos", ([["hello", {"version": 1, "auth": GOOD}]],) * 2, 4505, 4505)
    yield Case("a good call after the wrong credentials",
               ([["hello", {"version": 1, "auth": "wrong"}], call()],), 4505, 4501)  # fmt: skip
    yield Case("garbage after a good hello",
               ([["hello", {"version": 1, "auth": GOOD}], ["nonsense"]],), 4500, 4500)  # fmt: skip
    yield _illegal("a call before the hello", [call()], after="result")
    yield _illegal("an ack before the hello", [["ack", 0]], after=None)
    yield _illegal("a ping before the hello", [["ping", 1]], after=None)
    yield _illegal("a pong before the hello", [["pong", 1]], after=None)
    yield _illegal("an extension before the hello", [["x-a"]], after=None)
    yield _illegal("an extension of any shape", [["x-", {"a": [1]}, None]], after=None)


# ------------------------------------------------------------------------------- ids


def _ids() -> Iterator[Case]:
    """ID-1, ID-2, ID-3, ID-5, NOTIFY-2, CB-4."""
    yield _illegal("an id of the wrong parity", [call(id=2)])
    yield _illegal("a notify of the wrong parity", [["notify", 2, "Target.note", {"text": ""}]])
    yield _illegal("an id twice", [WAIT, WAIT])
    yield _illegal("an id twice, in two messages", [WAIT], [WAIT])
    yield _illegal("an id of a call that is over", [call()], [call()])
    yield _illegal("ids that fall", [call("Target.wait", {}, id=5), call(id=3)])
    yield _illegal("the last id, and one below", [call("Target.wait", {}, 2**53 - 1), call(id=1)])
    yield _illegal("the last id, and one beyond", [call("Target.wait", {}, 2**53 - 1)],
                   [["call", 2**53 + 1, "A.b", {}]], after=4500)  # fmt: skip
    for name, ids in {
        "the call's own id": {"numbers": 1},
        "the wrong parity": {"numbers": 4},
        "an id below the call's": {"numbers": 1, "x": 3},
    }.items():
        yield _illegal(f"an upload with {name}", [call("Target.hold", {}, uploads=ids)])
        yield _illegal(f"a callback with {name}", [call("Target.ask", {}, callbacks=ids)])
    yield _illegal("one id for two uploads", [call("Target.hold", {}, uploads={"a": 3, "b": 3})])
    yield _illegal("one id for an upload and a callback",
                   [call("Target.hold", {}, uploads={"a": 3}, callbacks={"b": 3})])  # fmt: skip
    many = {f"u{n}": 3 + 2 * n for n in range(16)}
    yield _illegal("a call that opens 17 ids", [call("Target.hold", {}, uploads=many)])
    yield _illegal("a notify with uploads",
                   [["notify", 1, "Target.note", {}, {"uploads": {"a": 3}}]])  # fmt: skip
    yield _illegal("a notify with callbacks",
                   [["notify", 1, "Target.note", {}, {"callbacks": {"a": 3}}]])  # fmt: skip
    for frame in (["cancel", 9], ["credit", 9, 1], ["message", 9, [1]], ["end", 9],
                  ["error", 9, {"code": "aborted", "message": ""}], ["chunk", 9, True, b"x"],
                  ["result", 2, 1], ["end", 2], ["message", 2, [1]], ["credit", 2, 1],
                  ["cancel", 2], ["result", 2**53 - 1, 1]):  # fmt: skip
        yield _illegal(f"{frame[0]} for an id {frame[1]} that nobody opened", [frame])
    yield _illegal("a call of a callback that nobody offered", [["call", 1, 2, []]])
    yield _illegal("a call of a call", [["call", 1, 1, []]])


def _directions() -> Iterator[Case]:
    """ID-5, CHUNK-3."""
    aborted = {"code": "aborted", "message": ""}
    for frame in (["message", 1, [1]], ["result", 1, 1], ["end", 1], ["error", 1, aborted],
                  ["chunk", 1, True, b"x"]):  # fmt: skip
        yield _illegal(f"{frame[0]} from the caller of a call", [WAIT, frame])
    for frame in (["credit", 3, 1], ["cancel", 3], ["result", 3, 1], ["chunk", 3, True, b"x"]):
        yield _illegal(f"{frame[0]} from the sender of an upload", [HOLD, frame])
    for frame in (["credit", 3, 1], ["cancel", 3], ["result", 3, 1], ["message", 3, [1]], ["end", 3],
                  ["error", 3, aborted], ["chunk", 3, True, b"x"]):  # fmt: skip
        yield _illegal(f"{frame[0]} on a callback", [BUILD, frame])
    note = ["notify", 1, "Target.rest", {}]
    for frame in (["message", 1, [1]], ["result", 1, 1], ["end", 1], ["chunk", 1, True, b"x"]):
        yield _illegal(f"{frame[0]} from the sender of a notify", [note, frame])


# ------------------------------------------------------------------------------- credit and counts


def _credits() -> Iterator[Case]:
    """CREDIT-3, CREDIT-6."""
    for n in (0, -1, -(2**63)):
        yield _illegal(f"a credit of {n}", [WAIT, ["credit", 1, n]])
    yield _illegal("a credit of 0 for an id that nobody opened", [["credit", 9, 0]])
    top = 2**31 - 1
    yield _illegal("credit that overflows", [WAIT, ["credit", 1, top]])
    yield _illegal("credit that overflows in steps",
                   [call("Target.wait", {}, credit=0), ["credit", 1, top], ["credit", 1, 1]])  # fmt: skip
    yield _illegal("a credit of 2^63 - 1", [WAIT, ["credit", 1, 2**63 - 1]])
    yield _illegal("a call with a credit of 2^31", [call("Target.wait", {}, credit=2**31)])
    yield _illegal("items without credit", [HOLD], [["message", 3, [1] * (WINDOW + 1)]])
    yield _illegal("items without credit, one by one",
                   [HOLD], *[[["message", 3, [1]]]] * (WINDOW + 1))  # fmt: skip
    yield _illegal("a large item without credit",
                   [HOLD, ["message", 3, [1] * WINDOW], ["message", 3, [None], 100_000]])  # fmt: skip


def _counts() -> Iterator[Case]:
    """ACK-3."""
    yield _illegal("an ack of what was never sent", [["ack", 1]])
    yield _illegal("an ack of 2^53", [["ack", 2**53]])
    yield _illegal("an ack of 2^63 - 1", [["ack", 2**63 - 1]])


# ------------------------------------------------------------------------------- chunks


def _piece(data: bytes, *, last: bool = True) -> Bytes:
    """A chunk on id 1."""
    flag = b"\xc3" if last else b"\xc2"
    return Bytes(
        b'[["chunk",1,%b,"%b"]]' % (b"true" if last else b"false", data),
        b"\x91\x94\xa5chunk\x01" + flag + b"\xc6" + len(data).to_bytes(4, "big") + data,
    )


def _chunks() -> Iterator[Case]:
    """CHUNK-3, CHUNK-4, CHUNK-5, CHUNK-6, CHUNK-7."""
    begun = ["call", 1, "Target.echo", None, None, 100_000]
    yield _illegal("a piece that is too short", [begun], _piece(b"x" * 100, last=False))
    yield _illegal("a piece that is too long", [begun], _piece(b"x" * 65_537, last=False))
    yield _illegal("a last piece that comes too soon", [begun], _piece(b"x" * 50_000))
    yield _illegal("pieces beyond the size", [begun], *[_piece(b"x" * 50_000, last=False)] * 3)
    yield _illegal("a last piece beyond the size",
                   [begun], _piece(b"x" * 50_000, last=False), _piece(b"x" * 50_001))  # fmt: skip
    yield _illegal("a piece after the last one", Bytes(
        b'[["call",1,"Target.wait",null,null,2],["chunk",1,true,"{}"],["chunk",1,true,"x"]]',
        b"\x93\x96\xa4call\x01\xabTarget.wait\xc0\xc0\x01"
        b"\x94\xa5chunk\x01\xc3\xc4\x01\x80\x94\xa5chunk\x01\xc3\xc4\x01x"))  # fmt: skip
    yield _illegal("pieces that are no value", [["call", 1, "Target.echo", None, None, 16_384]],
                   _piece(b"x" * 16_384), after="invalid_argument")  # fmt: skip
    yield _illegal("pieces that are a number, not arguments",
                   [["call", 1, "Target.echo", None, None, 1]],
                   Bytes(_piece(b"7").json, _piece(b"\x07").msgpack),
                   after="invalid_argument")  # fmt: skip
    yield _illegal("chunks that never end", [begun], _piece(b"x" * 20_000, last=False), after=None)
    yield _illegal("chunks that end with a cancel",
                   [begun], _piece(b"x" * 20_000, last=False), [["cancel", 1]],
                   after="cancelled")  # fmt: skip
    yield _illegal("values beyond what is held", [begun], *[
        [["call", id, "Target.echo", None, None, 100_000]] for id in (3, 5, 7, 9)])  # fmt: skip
    yield _illegal("a size above the largest value",
                   [["call", 1, "Target.echo", None, None, 200_001]], after="resource_exhausted")  # fmt: skip
    yield _illegal("a size of 2^63 - 1",
                   [["call", 1, "Target.echo", None, None, 2**63 - 1]],
                   after="resource_exhausted")  # fmt: skip
    yield _illegal("items amid the chunks of one",
                   [HOLD], [["message", 3, [None], 100_000]], [["message", 3, [1]]])  # fmt: skip
    yield _illegal("an end amid the chunks of an item",
                   [HOLD], [["message", 3, [None], 100_000]], [["end", 3]])  # fmt: skip
    yield _illegal("a second value amid the chunks of the first",
                   [HOLD], [["message", 3, [None], 90_000]], [["message", 3, [None], 90_000]])  # fmt: skip


# ------------------------------------------------------------------------------- values


def _value(name: str, after: Verdict, json: bytes | None, msgpack: bytes | None) -> Case:
    """A value as an argument, each codec in its own words."""
    args = Bytes(
        None if json is None else b'[["call",1,"Target.echo",{"value":%b}]]' % json,
        None if msgpack is None else b"\x91\x94\xa4call\x01\xabTarget.echo\x81\xa5value" + msgpack,
    )
    only: Codec | None = "msgpack" if json is None else "json" if msgpack is None else None
    return Case(name, (args,), after, 4505, only)


def _values() -> Iterator[Case]:
    """VALUE-1, VALUE-2, VALUE-4."""
    for depth, after in ((99, "result"), (100, "result"), (101, "invalid_argument"),
                         (400, "invalid_argument")):  # fmt: skip
        # The object of the arguments counts for nothing: they are values one by one.
        yield _value(f"arrays {depth} deep", after, b"[" * depth + b"]" * depth,
                     b"\x91" * (depth - 1) + b"\x90")  # fmt: skip
        yield _value(f"objects {depth} deep", after, b'{"a":' * depth + b"1" + b"}" * depth,
                     b"\x81\xa1a" * depth + b"\x01")  # fmt: skip
    # So deep that no decoder looks for the call any more.
    yield Case("arrays 20,000 deep", _value("", 4500, b"[" * 20_000 + b"]" * 20_000,
               b"\x91" * 20_000 + b"\x90").messages, 4500, 4500)  # fmt: skip
    bad = "invalid_argument"
    yield _value("the largest integer", "result", b"18446744073709551615", b"\xcf" + b"\xff" * 8)
    yield _value("the smallest integer", "result", b"-9223372036854775808", b"\xd3\x80" + bytes(7))
    yield _value("2^64", bad, b"18446744073709551616", None)
    yield _value("-2^63 - 1", bad, b"-9223372036854775809", None)
    yield _value("an integer of 5,000 digits", bad, b"1" * 5000, None)
    yield _value("1e999", bad, b"1e999", b"\xcb\x7f\xf0" + bytes(6))
    yield _value("-1e999", bad, b"-1e999", b"\xcb\xff\xf0" + bytes(6))
    yield _value("1e999 in an array in an object", bad, b'{"a":[1e999]}',
                 b"\x81\xa1a\x91\xcb\x7f\xf0" + bytes(6))  # fmt: skip
    yield _value("NaN", bad, None, b"\xcb\x7f\xf8" + bytes(6))
    yield _value("a NaN of 32 bits", bad, None, b"\xca\x7f\xc0\x00\x00")
    yield _value("an infinity of 32 bits", bad, None, b"\xca\x7f\x80\x00\x00")
    yield _value("an extension type", bad, None, b"\xd4\x01\x00")
    yield _value("a timestamp of 32 bits", bad, None, b"\xd6\xff\x00\x00\x00\x01")
    yield _value("a timestamp of 64 bits", bad, None, b"\xd7\xff" + bytes(8))
    yield _value("a timestamp of 96 bits", bad, None, b"\xc7\x0c\xff" + bytes(12))
    yield _value("an object with a number as key", bad, None, b"\x81\x01\x01")
    yield _value("an object with bytes as key", bad, None, b"\x81\xc4\x01a\x01")
    yield _value("an object with nothing as key", bad, None, b"\x81\xc0\x01")
    yield Case("a number where NaN came as text",
               ([call("Target.number", {"value": "NaN"})],), bad, 4505)  # fmt: skip
    yield Case("a number that is not finite, as a number",
               (Bytes(b'[["call",1,"Target.number",{"value":1e999}]]',
                      b"\x91\x94\xa4call\x01\xadTarget.number\x81\xa5value\xcb\x7f\xf0" + bytes(6)),),
               bad, 4505)  # fmt: skip
    yield Case("a model's list of models without end",
               ([call("Target.tree", {"tree": {"children": [{"children": 7}] * 1000}})],),
               bad, 4505)  # fmt: skip


def _texts() -> Iterator[Case]:
    """VALUE-1, BATCH-1."""
    bad = "invalid_argument"
    yield _value("a lone surrogate", bad, b'"\\ud800"', b"\xa3\xed\xa0\x80")
    yield _value("a lone low surrogate", bad, b'"\\udc00"', b"\xa3\xed\xb0\x80")
    yield _value("surrogates in the wrong order", bad, b'"\\udc00\\ud800"', None)
    yield _value("a lone surrogate as a key", bad, b'{"\\ud800":1}', b"\x81\xa3\xed\xa0\x80\x01")
    yield _value("a lone surrogate in an array", bad, b'["a","\\udfff"]', b"\x91\xa3\xed\xbf\xbf")
    yield _value("a string that is no UTF-8", bad, None, b"\xa2a\xff")
    yield _value("an overlong encoding", bad, None, b"\xa2\xc0\xaf")
    yield _value("a code point beyond the last", bad, None, b"\xa4\xf4\x90\x80\x80")
    for name, data in {
        "a byte": b"\xff",
        "half a character": b"\xc3",
        "an overlong encoding": b"\xc0\xaf",
        "a surrogate": b"\xed\xa0\x80",
        "a code point beyond the last": b"\xf4\x90\x80\x80",
    }.items():
        text = b'[["call",1,"Target.greet",{"name":"%b"}]]' % data
        yield Case(f"{name} that is no UTF-8 in a text", (Bytes(json=text),), 1007, 1007, "json")
    yield Case("no UTF-8 at all", (Bytes(json=b"\xff\xfe\xfd"),), 1007, 1007, "json")
    yield Case("a method's name with a lone surrogate",
               (Bytes(b'[["call",1,"\\ud800",{}]]', b"\x91\x94\xa4call\x01\xa3\xed\xa0\x80\x80"),),
               4500, 4500)  # fmt: skip
    yield Case("metadata with a lone surrogate",
               (Bytes(b'[["call",1,"A.b",{},{"metadata":{"a":"\\ud800"}}]]',
                      b"\x91\x95\xa4call\x01\xa3A.b\x80\x81\xa8metadata\x81\xa1a\xa3\xed\xa0\x80"),),
               4500, 4500)  # fmt: skip


# ------------------------------------------------------------------------------- methods, arguments


def _methods() -> Iterator[Case]:
    """CALL-2, ERROR-5."""
    for method in (
        "Target._private", "Target.plain", "Target.__init__", "Target.__class__", "Target.__dict__",
        "Target.__getattribute__", "Target.greet.__call__", "Target.greet.__globals__",
        "Target.greet.__wrapped__", "__class__.__init__", "__builtins__.eval", "builtins.eval",
        "os.system", "Target.gret", "Target.Greet", "target.greet", "Ｔarget.greet", "Target.", ".greet",
        "Target", "", ".", "..", "Target..greet", "Target.greet.", " Target.greet", "Target.greet ",
        "Target.greet\x00", "Target.greet\n", "Target/greet", "../../etc/passwd", "/etc/passwd",
        "C:\\Windows", "Target.greet()", "Target.greet;", "{0.__class__}.greet", "%s.greet",
        "wsrpc.reflection", "wsrpc.reflection.__init__", "wsrpc.reflection._contract", "n" * 10_000,
        "Target." + "n" * 60_000,
    ):  # fmt: skip
        yield _illegal(
            f"the method {method[:30]!r}", [["call", 1, method, {}]], after="unimplemented"
        )
    yield _illegal("a notify of a method that is not there",
                   [["notify", 1, "Target._private", {}]], after="unimplemented")  # fmt: skip


def _arguments() -> Iterator[Case]:
    """CALL-3, CALL-4, CALL-9, NOTIFY-3, TIME-2, CANCEL-2."""
    bad = "invalid_argument"
    args: Any
    for args in ({}, {"name": 7}, {"name": None}, {"name": []}, {"name": {}}, {"name": "x", "y": 1},
                 {"self": 1, "name": "x"}, {"name": "x", "__class__": 1}, {"": ""}, {"Name": "x"},
                 {"name\x00": "x"}, {"n" * 10_000: 1}):  # fmt: skip
        yield _illegal(
            f"greet with {str(args)[:40]}", [["call", 1, "Target.greet", args]], after=bad
        )
    yield _illegal("a thousand unknown arguments",
                   [call("Target.greet", {f"a{n}": n for n in range(1000)})], after=bad)  # fmt: skip
    yield _illegal("an upload where a value should be",
                   [["call", 1, "Target.greet", {}, {"uploads": {"name": 3}}]], after=bad)  # fmt: skip
    yield _illegal("a callback where a value should be",
                   [["call", 1, "Target.greet", {}, {"callbacks": {"name": 3}}]], after=bad)  # fmt: skip
    yield _illegal("a value where an upload should be",
                   [call("Target.hold", {"numbers": [1]})], after=bad)  # fmt: skip
    yield _illegal("no upload where one should be", [call("Target.hold", {})], after=bad)
    yield _illegal("an upload that nobody knows",
                   [call("Target.hold", {}, uploads={"__class__": 3})], after=bad)  # fmt: skip
    yield _illegal("an upload as a callback", [call("Target.ask", {}, uploads={"f": 3})], after=bad)
    yield _illegal("a callback as an upload",
                   [call("Target.hold", {}, callbacks={"numbers": 3})], after=bad)  # fmt: skip
    for method in ("Target.items", "Target.hold", "Target.ask"):
        yield _illegal(f"a notify of {method}",
                       [["notify", 1, method, {}]], after="failed_precondition")  # fmt: skip
    yield _illegal("metadata of 20,000 bytes",
                   [call(metadata={"a": "x" * 20_000})], after="resource_exhausted")  # fmt: skip
    yield _illegal("a key of 20,000 bytes", [call(key="x" * 20_000)], after="resource_exhausted")
    yield _illegal("a call without time", [call(timeout=0)], after="deadline_exceeded")
    yield _illegal("a call that is cancelled at once", [WAIT, ["cancel", 1]], after="cancelled")
    yield _illegal("calls beyond the slots",
                   [call("Target.wait", {}, id) for id in range(101, 133, 2)] + [call(id=201)],
                   after="resource_exhausted")  # fmt: skip


# ------------------------------------------------------------------------------- sizes


def _sizes() -> Iterator[Case]:
    """BATCH-6, HELLO-6, VALUE-7."""
    yield Case("a message of more than 64 KiB",
               ([call(args={"name": "x" * 65_536})],), "result", 1009)  # fmt: skip
    yield Case("a message of more than 256 KiB",
               ([call(args={"name": "x" * 262_144})],), 1009, 1009)  # fmt: skip
    yield _illegal(
        "a result that is too large", [call("Target.huge", {})], after="resource_exhausted"
    )
    yield _illegal("an error that is too large", [call("Target.loud", {})], after="aborted")


# ------------------------------------------------------------------------------- WebSocket


def _websocket() -> Iterator[Case]:
    """BATCH-1, CALM-4."""
    good = b'[["x-a"]]'
    for name, data, code in (
        ("a frame that is not masked", ws(TEXT, good, mask=False), 1002),
        ("reserved bit 1", ws(TEXT, good, rsv=4), 1002),
        ("reserved bit 2", ws(TEXT, good, rsv=2), 1002),
        ("reserved bit 3", ws(TEXT, good, rsv=1), 1002),
        *((f"the opcode {n}", ws(n, good), 1002) for n in (3, 7, 11, 15)),
        ("a ping in fragments", ws(PING, b"x", final=False), 1002),
        ("a ping of 126 bytes", ws(PING, b"x" * 126), 1002),
        ("a pong of 126 bytes", ws(PONG, b"x" * 126), 1002),
        ("a continuation of nothing", ws(CONTINUATION, good), 1002),
        ("a message within a message", ws(TEXT, b"[", final=False) + ws(TEXT, good), 1002),
        ("a length of 2^63", bytes([0x81, 0xFF]) + b"\x80" + bytes(7) + bytes(4), 1009),
        ("a length of 2^62", bytes([0x81, 0xFF]) + b"\x40" + bytes(7) + bytes(4), 1009),
        ("a length of 1 GiB", bytes([0x82, 0xFF]) + (2**30).to_bytes(8, "big") + bytes(4), 1009),
        ("a close of one byte", ws(CLOSE, b"\x03"), 1002),
        ("a close with 999", ws(CLOSE, (999).to_bytes(2, "big")), 1002),
        ("a close with 1005", ws(CLOSE, (1005).to_bytes(2, "big")), 1002),
        ("a close with 5000", ws(CLOSE, (5000).to_bytes(2, "big")), 1002),
        ("a close with 65535", ws(CLOSE, b"\xff\xff"), 1002),
        ("a close whose reason is no UTF-8", ws(CLOSE, b"\x03\xe8\xff"), 1007),
    ):
        yield Case(name, (Raw(data),), code, code)
    for name, kind, codec in (("text", TEXT, "msgpack"), ("binary", BINARY, "json")):
        wrong: Codec = "msgpack" if codec == "msgpack" else "json"
        yield Case(f"a {name} message", (Raw(ws(kind, good)),), 4500, 4500, wrong)
        yield Case(f"a {name} message in fragments",
                   (Raw(ws(kind, good[:3], final=False) + ws(CONTINUATION, good[3:])),),
                   4500, 4500, wrong)  # fmt: skip
    yield Case("5,000 pings", (Raw(ws(PING) * 5000),), 4004, 4004)
    yield Case("5,000 pongs", (Raw(ws(PONG) * 5000),), 4004, 4004)


CASES = list(_cases())
