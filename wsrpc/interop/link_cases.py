"""On the bare wire: how a link begins, is resumed and ends."""

from __future__ import annotations

from typing import Any

from .bare_peer import SUBPROTOCOLS, Codec, Frame, Refused, hello, short
from .case import Ground, equal, raises, require
from .frame_support import (
    ECHO,
    FLOOR_MAX_BATCH,
    MAX_CREDIT,
    call,
    check_invalid,
    closes,
    failed,
    lives,
    silent,
    wire_cases,
)

__all__: list[str] = []

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
    """the server's hello has the fields that protocol.md requires"""
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
    """null in an optional field means absent, and unknown fields are ignored"""
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
    """a hello of another version closes with 4507, with any credentials"""
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
async def frames_right_after_hello(at: Ground) -> None:
    """frames right after the hello, in the same message, are acted on"""
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
async def frames_after_hello_are_a_batch_of_their_own(at: Ground) -> None:
    """a bad frame right after the hello closes with 4500, and no frame beside it is answered"""
    async with at.link() as bare:
        await bare.send(hello(auth=at.auth), call(1, ECHO, {"value": 1}), ["nonsense"])
        equal(await bare.closed(), 4500, "the close code")
        equal(bare.waiting(1), [], "the answers to the call")


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
    """wrong credentials close with 4501, and no frame after them is read"""
    wrong: list[Any] = ["no such token", f"{at.auth}x", "", None, 7, {"token": at.auth}, []]
    for auth in wrong:
        async with at.link() as bare:
            await bare.send(hello(auth=auth), ["nonsense"])
            equal(await bare.closed(), 4501, f"the close code for {auth!r}")


@wire_cases("RESUME-2")
async def unknown_resume_token(at: Ground) -> None:
    """a hello with a resume token that was never issued closes with 4010"""
    async with at.link() as bare:
        await bare.send(hello(auth=at.auth, token="A" * 43, link=2))
        equal(await bare.closed(), 4010, "the close code")


@wire_cases("RESUME-2", "RESUME-5")
async def resume_token_too_long(at: Ground) -> None:
    """a resume token of more than 1,024 characters counts as never issued"""
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
