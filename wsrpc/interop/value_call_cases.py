"""Through the public face: single values, errors, time and context, the service itself."""

from __future__ import annotations

from typing import Any

import anyio

from ..errors import Code, DeadlineExceeded, RpcError
from .bare_peer import Failed
from .call_support import SHAPES, cases, echoed
from .case import Ground, equal, raises, require
from .service import Interop

__all__: list[str] = []

# -------------------------------------------------------------------------------- single values


@cases("INTEROP-1")
async def echo_of_shapes(at: Ground) -> None:
    """echo of every JSON shape"""
    await echoed(at, SHAPES)


@cases("VALUE-1")
async def echo_of_integers(at: Ground) -> None:
    """echo of integers up to the edges of 64 bits"""
    await echoed(at, [2**63 - 1, 2**63, 2**64 - 1, -(2**63)])


@cases("VALUE-2")
async def echo_of_deep_nesting(at: Ground) -> None:
    """echo of a value nested 90 deep"""
    value: Any = "bottom"
    for _ in range(45):
        value = {"inner": [value]}
    await echoed(at, [value])


@cases()
async def echo_of_long_text(at: Ground) -> None:
    """echo of 40 KiB of text, which every side takes"""
    await echoed(at, ["0123456789abcdef" * 2560, "é" * 20_000])


@cases("VALUE-6", codec="msgpack")
async def echo_of_bytes(at: Ground) -> None:
    """echo of bytes, native in MessagePack"""
    await echoed(at, [b"", bytes(range(256)), [b"\x00", {"b": b"\xff"}]])


@cases("VALUE-5", "INTEROP-1")
async def blobs(at: Ground) -> None:
    """blob gives the bytes 0, 1, … 255, 0, …"""
    for size in (0, 1, 2, 3, 256, 1000, 40_000):
        equal(await at.interop.blob(size), bytes(i % 256 for i in range(size)), f"blob({size})")


@cases("INTEROP-1")
async def sleep_answers_null(at: Ground) -> None:
    """sleep answers null"""
    equal(await at.session.clientize("Interop").sleep(seconds=0.01), None)


@cases("CALL-6")
async def slow_calls_delay_none(at: Ground) -> None:
    """a slow call delays no other"""
    async with anyio.create_task_group() as group:
        for _ in range(7):
            group.start_soon(at.interop.sleep, 60)
        await echoed(at, range(50))
        group.cancel_scope.cancel()


@cases("CALL-6")
async def many_calls(at: Ground) -> None:
    """a thousand calls at a time each get their own answer, however few slots there are"""

    async def one(i: int) -> None:
        await echoed(at, [i])

    async with anyio.create_task_group() as group:
        for i in range(1000):
            group.start_soon(one, i)


# -------------------------------------------------------------------------------- errors


@cases("ERROR-2")
async def errors_of_every_code(at: Ground) -> None:
    """an error arrives with code, message and data, for each of the sixteen codes"""
    for code in Code:
        with raises(RpcError, f"fail({code})") as caught:
            await at.interop.fail(code, f"it was {code}", {"why": [code.value]})
        error = caught[0]
        equal(str(error.code), code.value, "the code")
        equal(error.message, f"it was {code}", "the message")
        equal(error.data, {"why": [code.value]}, "the data")


@cases("ERROR-2")
async def error_data_of_every_shape(at: Ground) -> None:
    """an error's data arrives as it was raised, in any shape"""
    for data in SHAPES:
        with raises(RpcError, "fail") as caught:
            await at.interop.fail(Code.NOT_FOUND, "", data)
        equal(caught[0].data, data, "the data")


@cases("ERROR-2", "INTEROP-1")
async def error_in_mid_stream(at: Ground) -> None:
    """an error after n items comes after exactly these"""
    for n in (0, 1, 3, 200):
        items: list[int] = []
        with raises(RpcError, "fail_after") as caught:
            async for item in at.interop.fail_after(n, {"reason": "tired"}):
                items.append(item)  # noqa: PERF401  (the items before the error are to be kept)
        equal(items, list(range(n)), "the items")
        equal(str(caught[0].code), "aborted", "the code")
        equal(caught[0].message, f"failed after {n} items", "the message")
        equal(caught[0].data, {"reason": "tired"}, "the data")


@cases("ERROR-3")
async def unforeseen_error(at: Ground) -> None:
    """an unforeseen exception crosses as internal, with an error id"""
    with raises(RpcError, "boom") as caught:
        await at.interop.boom()
    equal(str(caught[0].code), "internal", "the code")
    require(bool(caught[0].error_id), "the error has no error_id")


@cases("CALL-3", "ERROR-4")
async def wrong_arguments(at: Ground) -> None:
    """a wrong argument is named"""
    with raises(RpcError, "count(n='many')") as caught:
        await at.session.clientize("Interop").count(n="many").collect()
    equal(str(caught[0].code), "invalid_argument", "the code")
    equal(caught[0].data["errors"][0]["loc"], ["n"], "loc")
    equal(caught[0].data["total"], 1, "total")


@cases("CALL-2", "ERROR-5")
async def unknown_names(at: Ground) -> None:
    """an unknown method is answered with near names, an unknown controller too"""
    with raises(RpcError, "Interop.ehco") as caught:
        await at.session.clientize("Interop").ehco(value=1)
    equal(str(caught[0].code), "unimplemented", "the code")
    equal(caught[0].data["near"][:1], ["Interop.echo"], "the best near name")
    with raises(RpcError, "Nobody.nothing") as caught:
        await at.session.clientize("Nobody").nothing()
    equal(str(caught[0].code), "unimplemented", "the code")


@cases("CALL-8")
async def wrong_kind(at: Ground) -> None:
    """a stream that is awaited, and a value that is iterated, fail on the caller's side"""
    loose = at.session.clientize("Interop")
    with raises(RpcError, "await count") as caught:
        await loose.count(n=3)
    equal(str(caught[0].code), "internal", "the code")
    with raises(RpcError, "async for over echo") as caught:
        await loose.echo(value=1).collect()
    equal(str(caught[0].code), "internal", "the code")
    await echoed(at, ["still here"])


# -------------------------------------------------------------------------------- time, context


@cases("CANCEL-3")
async def cancelled_call(at: Ground) -> None:
    """a caller that is cancelled cancels the handler"""
    before = await at.stats()
    async with anyio.create_task_group() as group:
        group.start_soon(at.interop.sleep, 60)
        await at.until(
            lambda now: now["calls_live"] > before["calls_live"],
            "the call had begun",
        )
        group.cancel_scope.cancel()
    await at.until(
        lambda now: now["calls_live"] <= before["calls_live"],
        "the handler had ended",
    )


@cases("TIME-1", "TIME-3")
async def deadlines(at: Ground) -> None:
    """a deadline ends the call on both sides, be it an option or the caller's scope"""
    before = await at.stats()
    with raises(DeadlineExceeded, "the timeout"):
        await at.session.clientize(Interop, timeout=0.05).sleep(60)
    with raises(TimeoutError, "the scope"), anyio.fail_after(0.05):
        await at.interop.sleep(60)
    with anyio.move_on_after(0.05) as scope:
        await at.interop.sleep(60)
    require(scope.cancelled_caught, "the scope was not left by its own cancellation")
    await at.until(
        lambda now: now["calls_live"] <= before["calls_live"],
        "the handlers had ended",
    )


@cases("TIME-6")
async def idle_timeout(at: Ground) -> None:
    """a stream that pauses for longer than the idle timeout fails"""
    interop = at.session.clientize(Interop, idle_timeout=0.05)
    with raises(DeadlineExceeded, "the idle timeout"):
        await interop.count(3, 60).collect()


@cases("TIME-1")
async def deadlines_travel(at: Ground) -> None:
    """the handler knows how much time is left"""
    remaining = (await at.session.clientize(Interop, timeout=20).whoami())["remaining"]
    if remaining is None or not 0 < remaining <= 20:
        raise Failed(f"of 20 seconds {remaining} are left")
    without = await at.session.clientize(Interop, timeout=None).whoami()
    equal(without["remaining"], None, "the time left without a deadline")


@cases("CALL-7")
async def metadata_travels(at: Ground) -> None:
    """metadata reaches the handler, and that of one call not the next"""
    interop = at.session.clientize(Interop, metadata={"trace": "abc", "ümlaut": "ß"})
    equal((await interop.whoami())["metadata"], {"trace": "abc", "ümlaut": "ß"}, "metadata")
    equal((await at.interop.whoami())["metadata"], {}, "metadata")


@cases("HELLO-7")
async def principal(at: Ground) -> None:
    """the principal is known where credentials were given"""
    who = (await at.interop.whoami())["principal"]
    require(at.auth is None or who is not None, "credentials were given, but there is no principal")


# -------------------------------------------------------------------------------- the service


COUNTS = (
    "calls_live",
    "calls_peak",
    "generators_open",
    "cleanups_begun",
    "cleanups_done",
    "sessions",
    "links",
    "outbox_bytes",
    "replay_bytes",
    "frames_ignored",
)


@cases("INTEROP-1")
async def stats_has_its_fields(at: Ground) -> None:
    """stats counts this session and this call"""
    stats: dict[str, Any] = {**await at.stats()}
    closes = stats.pop("closes")
    require(isinstance(closes, dict), "closes is no object")
    for name in COUNTS:
        value = stats.get(name)
        require(type(value) is int and value >= 0, f"{name} is {value!r}")
    for name in ("calls_live", "calls_peak", "sessions", "links"):
        require(stats[name] >= 1, f"{name} is {stats[name]}")
    require(stats["calls_peak"] >= stats["calls_live"], "calls_peak is below calls_live")


@cases("REFLECT-1", "INTEROP-1")
async def contract_describes_the_service(at: Ground) -> None:
    """the contract describes the service as protocol.md does"""
    contract = await at.session.clientize("wsrpc.reflection").describe()
    equal(contract["version"], 1, "the contract's version")
    methods = contract["controllers"]["Interop"]["methods"]
    for name, (kind, params) in METHODS.items():
        require(name in methods, f"there is no method {name}")
        equal(methods[name]["kind"], kind, f"the kind of {name}")
        described = methods[name]["params"]
        equal(
            {key: (one["kind"], one["required"]) for key, one in described.items()}.__repr__(),
            params.__repr__(),
            f"the parameters of {name}",
        )
    reserved = [name for name in contract["controllers"] if name.startswith("wsrpc")]
    equal(reserved, [], "the reserved controllers that are described")


VALUE, OPTIONAL, UPLOAD, CALLBACK = (
    ("value", True),
    ("value", False),
    ("upload", True),
    ("callback", True),
)
METHODS: dict[str, tuple[str, dict[str, tuple[str, bool]]]] = {
    "echo": ("unary", {"value": VALUE}),
    "sleep": ("unary", {"seconds": VALUE}),
    "count": ("stream", {"n": VALUE, "delay": OPTIONAL}),
    "forever": ("stream", {"delay": VALUE}),
    "tokens": ("stream", {"n": VALUE}),
    "fail": ("unary", {"code": VALUE, "message": VALUE, "data": OPTIONAL}),
    "fail_after": ("stream", {"n": VALUE, "data": OPTIONAL}),
    "boom": ("unary", {}),
    "sum": ("unary", {"numbers": UPLOAD}),
    "bidi_echo": ("stream", {"items": UPLOAD}),
    "call_back": ("unary", {"times": VALUE}),
    "progress": ("unary", {"n": VALUE, "on_progress": CALLBACK}),
    "nested": ("unary", {"depth": VALUE}),
    "blob": ("unary", {"size": VALUE}),
    "slow_cleanup": ("stream", {"seconds": VALUE}),
    "whoami": ("unary", {}),
    "stats": ("unary", {}),
}


@cases("REFLECT-1")
async def contract_makes_a_proxy(at: Ground) -> None:
    """a proxy can be made from the contract alone"""
    contract = await at.session.clientize("wsrpc.reflection").describe()
    interop = at.session.clientize(contract["controllers"]["Interop"])
    equal(await interop.echo("over there"), "over there")
    equal(await interop.count(3).collect(), [0, 1, 2])


@cases("CLOSE-4")
async def closing_fails_what_is_pending(at: Ground) -> None:
    """closing a session fails its pending calls, and no stream ends as if complete"""
    async with at.connect() as session:
        stream = session.clientize(Interop).forever(0)
        equal(await anext(stream), 0, "the first item")
        await session.aclose()
    with raises(RpcError, "the stream of a closed session") as caught:
        async for _ in stream:
            pass
    equal(str(caught[0].code), "unavailable", "the code")
    with raises(RpcError, "a call on a closed session") as caught:
        await session.clientize(Interop).echo(1)
    equal(str(caught[0].code), "unavailable", "the code")
    require(caught[0].not_started, "the call could not begin, and the error does not say so")
