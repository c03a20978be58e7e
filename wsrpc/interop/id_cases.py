"""Cases on the bare wire: calls, and the frames that each side may send on an id."""

from __future__ import annotations

from itertools import count
from typing import Any

from .bare_peer import Frame
from .case import Ground, equal, require
from .frame_support import (
    ECHO,
    FOREVER,
    PROGRESS,
    SUM,
    call,
    check_invalid,
    closes,
    failed,
    ignored,
    lives,
    silent,
    wire_cases,
)

__all__: list[str] = []

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
        equal(bare.waiting(1), [], "the answers to the slow call")


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
    """a notify is closed by end or by error, and its handler's result is dropped"""
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
