"""On the bare wire: large values, uploads, credit."""

from __future__ import annotations

from .bare_peer import Frame, short
from .case import Ground, equal, require
from .frame_support import (
    CHUNKED,
    ECHO,
    KIB,
    MAX_CREDIT,
    SUM,
    call,
    check_invalid,
    chunked,
    closes,
    failed,
    lives,
    silent,
    wire_cases,
)

__all__: list[str] = []

# -------------------------------------------------------------------------------- chunks


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
        equal((await bare.on(1))[0], "end", "the frame after the items")


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


@wire_cases("CHUNK-7", "TIME-1")
async def refused_before_it_has_come(at: Ground) -> None:
    """a call that is too large, or out of time, is refused without waiting for its arguments"""
    async with chunked(at) as bare:
        if bare is None:
            return
        await bare.send(["call", 1, ECHO, None, None, bare.limit("max_value") + 1])
        failed(await bare.terminal(1), "resource_exhausted", not_started=True)
        await bare.send(["call", 3, ECHO, None, {"timeout": 20}, 100 * KIB])
        failed(await bare.terminal(3), "deadline_exceeded", not_started=True)
        await bare.send(*bare.chunks(3, {"value": "x" * 50 * KIB}))
        await lives(bare)


@wire_cases("TIME-1")
async def time_while_arguments_come(at: Ground) -> None:
    """a call's time runs while its arguments come"""
    async with chunked(at) as bare:
        if bare is None or bare.limit("max_calls") < 2:
            return
        size = len(bare.value({}))
        await bare.send(["call", 1, "Interop.whoami", None, {"timeout": 20_000}, size])
        await bare.send(call(3, "Interop.sleep", {"seconds": 0.2}))
        await bare.terminal(3)
        await bare.send(*bare.chunks(1, {}))
        remaining = (await bare.terminal(1))[2]["remaining"]
        require(remaining < 19.9, f"{remaining} s of 20 s remain after 0.2 s")


@wire_cases("CHUNK-7", "ERROR-5")
async def unknown_before_it_has_come(at: Ground) -> None:
    """a call of an unknown method is refused without waiting for its arguments"""
    async with chunked(at) as bare:
        if bare is None:
            return
        value = {"value": "x" * 100 * KIB}
        if at.one_session:
            await bare.send(["call", 1, "Interop.nothing", None, None, len(bare.value(value))])
            failed(await bare.terminal(1), "unimplemented")
            for piece in bare.chunks(1, value):
                await bare.send(piece)
        else:
            # The session that knows its methods gets a call once its arguments are here.
            await bare.large(["call", 1, "Interop.nothing", None, None], value)
            failed(await bare.terminal(1), "unimplemented")
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
            equal(await bare.closed(*batch), 4505, f"the close code after {short(batch)}")


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
    """an upload's error is raised in the handler, after the items before it"""
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
    """an item that does not validate fails the call, and later frames of the upload are ignored"""
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
    """a stream sends the items that it has credit for, and none without"""
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
        equal(await bare.items(1, 1), ["small"], "the item after it")


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
