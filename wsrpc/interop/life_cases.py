"""On the bare wire: cancellation, time, slots, calls back."""

from __future__ import annotations

from itertools import count

from .case import Ground, equal, require
from .frame_support import (
    ECHO,
    call,
    closes,
    failed,
    fill,
    ignored,
    lives,
    options_of,
    silent,
    wire_cases,
)

__all__: list[str] = []

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
    """a second cancel, and one after the terminal, are ignored and counted"""
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
        equal(items, [], "the items after the pong")
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
        parents = {options_of(frame).get("parent") for frame in calls}
        equal(parents, {at.parent(id) for id in ids}, "the parents")
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
            frame = await bare.called()
            (name, id, method, args), options = frame[:4], options_of(frame)
            require(id % 2 == 0 and id > last, f"the server's call has id {id}, after {last}")
            equal([name, method, args], ["call", ECHO, {"value": i}], "the server's call")
            equal(options.get("parent"), at.parent(1), "parent")
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
        equal(options_of(frame).get("parent"), at.parent(1), "parent")
        await bare.send(["result", frame[1], 6])
        equal(await bare.terminal(1), ["result", 1, 7])


@wire_cases("RESULT-1")
async def result_after_items(at: Ground) -> None:
    """a result after a message closes with 4505"""
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
            options = options_of(frame)
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
    """the call's terminal finishes the callback that it awaits; later frames are ignored"""
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
