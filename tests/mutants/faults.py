"""Subtle faults, each as a patch: what stands in a file, and what stands there with the fault in.

What stands there has to stand there exactly once, so that a fault whose code has moved on is noticed
(`test_mutants.py`). Tests are those that ought to see it; tests that only chance lets see something
(the simulator, the state machine, the fuzzer) are not among them.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FAULTS", "Fault"]

RESUME = (
    "tests/protocol/test_numbering.py",
    "tests/protocol/test_resume.py",
    "tests/protocol/test_resume_progress.py",
)
CALLS = (
    "tests/protocol/test_calls.py",
    "tests/protocol/test_channels.py",
    "tests/protocol/test_outbox.py",
)
CREDIT = ("tests/protocol/test_credit.py",)
CHUNKS = ("tests/protocol/test_chunks.py",)
DRAIN = ("tests/protocol/test_drain.py",)
PRESSURE = ("tests/protocol/test_pressure.py",)
DEADLINES = ("tests/session/test_deadlines.py",)
GIVEN_BACK = ("tests/session/test_given_back.py",)
ALONE = ("tests/session/test_left_alone.py",)
RETRY = ("tests/test_retry.py", "tests/session/test_retry.py")


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        what: What is wrong with it in.
        file: Where, below the package: a file, or a folder one of whose files has it.
        old: What stands there.
        new: What stands there with the fault in.
        tests: Arguments for pytest.
    """

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


FAULTS = [
    # ---------------------------------------------------------------- numbering, acks, resume
    Fault(
        "frames are replayed in another order when the next link breaks amid a replay",
        "protocol/replay.py",
        "        kept += self.again\n",
        "        kept = [*self.again, *kept]\n",
        RESUME,
    ),
    Fault(
        "an ack is one too high",
        "protocol",
        "        self._outbox.ack = self.received\n",
        "        self._outbox.ack = self.received + 1\n",
        RESUME,
    ),
    Fault(
        "a frame that is ignored is not counted as taken",
        "protocol",
        "        self.received += count\n",
        "        self.received += count - (self.ignored - ignored)\n",
        RESUME,
    ),
    Fault(
        "a token is confirmed by the first frame, not by the first ack",
        "protocol",
        "        events: list[Event] = [HelloReceived(opening.hello)]\n        if not resumed:\n",
        "        events: list[Event] = [HelloReceived(opening.hello)]\n        self._confirmed = True\n"
        "        if not resumed:\n",
        RESUME,
    ),
    Fault(
        "an ack above what this link has carried is believed",
        "protocol",
        "        if not replay.acked <= frame.received <= replay.carried:\n",
        "        if not replay.acked <= frame.received <= replay.numbered:\n",
        RESUME,
    ),
    Fault(
        "an ack that falls is believed",
        "protocol",
        "        if not replay.acked <= frame.received <= replay.carried:\n",
        "        if not frame.received <= replay.carried:\n",
        RESUME,
    ),
    Fault(
        "a session's time without a link begins anew with each loss",
        "protocol",
        "        if self._expires is None and self.resumable:\n",
        "        if self.resumable:\n",
        RESUME,
    ),
    Fault(
        "an older link's hello takes a session over",
        "protocol",
        "        if (hello.link or 1) <= self.link:\n",
        "        if (hello.link or 1) < self.link:\n",
        RESUME,
    ),
    Fault(
        "the bytes since the last ack are forgotten with every message",
        "protocol/replay.py",
        "        self.bytes += size\n        if self.due == inf:\n",
        "        self.bytes = size\n        if self.due == inf:\n",
        RESUME,
    ),
    Fault(
        "an ack that is due by the clock waits for other frames",
        "protocol",
        "        if now >= self._acks.due:\n            self._tell()\n",
        "        if now >= self._acks.due and self._outbox:\n            self._tell()\n",
        RESUME,
    ),
    # ---------------------------------------------------------------- ids, slots, terminals
    Fault(
        "the slot of a call that was cancelled before it was numbered is never free again",
        "protocol",
        "                self._outbox.forget(lane.pending_bytes)\n"
        "                lane.slots.live -= 1\n",
        "                self._outbox.forget(lane.pending_bytes)\n",
        CALLS,
    ),
    Fault(
        "a call's slot is never free again at the callee",
        "protocol",
        "            if self.pool is not None:\n                self.pool.live -= 1\n        return True\n",
        '            if self.pool is not None and self.state != "cancelled":\n'
        "                self.pool.live -= 0\n        return True\n",
        CALLS,
    ),
    Fault(
        "a slot is free as soon as the answer is queued",
        "protocol",
        "        lane.terminal = frame\n        lane.pending_bytes += size\n        self._outbox.add(lane, size)\n"
        "        self._lanes.pop(lane.id, None)\n",
        "        lane.terminal = frame\n        lane.pending_bytes += size\n        self._outbox.add(lane, size)\n"
        "        if lane.pool is not None:\n            lane.pool.live -= 1\n            lane.pool = None\n"
        "        self._lanes.pop(lane.id, None)\n",
        CALLS,
    ),
    Fault(
        "callbacks take the caller's slots",
        "protocol",
        "            self.slots if target is None else target.slots,\n",
        "            self.slots,\n",
        ("tests/protocol/test_channels.py", "tests/session/test_callbacks.py"),
    ),
    Fault(
        "a cancelled callback's call keeps its place until the outer call ends",
        "protocol",
        "            if self.pool is not None:\n                self.pool.live -= 1\n        return True\n",
        "            if self.pool is not None and not (\n"
        "                isinstance(self.pool, CallbackOffer) and type(terminal) is Error\n"
        "            ):\n                self.pool.live -= 1\n        return True\n",
        CALLS,
    ),
    Fault(
        "invocations outlive the call to which the callback belongs",
        "protocol",
        "            for invocation in offer.calls:\n                self._withdraw(invocation)\n",
        "",
        CALLS,
    ),
    Fault(
        "those who await a callback are not told that its call has ended",
        "protocol",
        "        self.abandoned.append(call)\n",
        "",
        CALLS,
    ),
    Fault(
        "a cancel that comes after the handler has ended makes a second terminal",
        "protocol",
        "        lane = outbox.values.terminals.pop(frame.id, None)\n        if lane is None:\n"
        "            return\n",
        "        lane = outbox.values.terminals.pop(frame.id, None)\n        if lane is None:\n"
        '            outbox.links.append(Error(frame.id, ErrorBody("cancelled", "")))'
        "  # type: ignore[arg-type]\n            return\n",
        CALLS,
    ),
    Fault(
        "a nested call waits for a slot",
        "protocol",
        "            nested = running and target is None\n",
        "            nested = False\n",
        CALLS,
    ),
    # ---------------------------------------------------------------- credit
    Fault(
        "an item of exactly 64 KiB costs 1",
        "protocol/window.py",
        "    return 1 + size // COST_UNIT\n",
        "    return 1 + (size - 1) // COST_UNIT\n",
        CREDIT,
    ),
    Fault(
        "the last item of a message may come without credit",
        "protocol/window.py",
        "            needed = cost - costs[-1] + 1\n",
        "            needed = cost - costs[-1]\n",
        CREDIT,
    ),
    Fault(
        "a window of 0 stays at 0 when the application waits",
        "protocol/window.py",
        "            missing = max(missing, 1 - self.balance)\n",
        "            missing = max(missing, 0)\n",
        CREDIT,
    ),
    Fault(
        "credit that passes 2^31 - 1 is taken",
        "protocol/window.py",
        "        if self.balance + n > MAX_CREDIT:\n",
        "        if n > MAX_CREDIT:\n",
        CREDIT,
    ),
    # ---------------------------------------------------------------- chunks
    Fault(
        "pieces make up a value without a last one",
        "protocol/chunks.py",
        "        if value.received > value.size or chunk.last != (value.received == value.size):\n",
        "        if value.received > value.size or (chunk.last and value.received < value.size):\n",
        CHUNKS,
    ),
    Fault(
        "a value that was given up still counts against max_held",
        "protocol/chunks.py",
        "        if value is not None and value.whole is not None:\n            self.held -= value.size\n"
        "            self.come -= value.received\n            value.whole = None\n",
        "        if value is not None and value.whole is not None:\n            value.whole = None\n",
        CHUNKS,
    ),
    Fault(
        "a sender begins a value while another waits for room",
        "protocol/chunks.py",
        "        if late or not self._has_room(value.unasked, size):\n",
        "        if not self._has_room(value.unasked, size):\n",
        CHUNKS,
    ),
    # ---------------------------------------------------------------- time, heartbeat, drain
    Fault(
        "a timeout is rounded down",
        "protocol",
        "whole if left - whole < NOISE else whole + 1\n",
        "whole\n",
        CALLS,
    ),
    Fault(
        "a second ping goes out in one silence",
        "protocol/heartbeat.py",
        "        if self._silence == self.heard:\n            return min(self._look, self._verdict)\n"
        "        return self.heard + self.interval\n",
        "        return self.heard + self.interval\n",
        ("tests/protocol/test_heartbeat.py",),
    ),
    Fault(
        "a goaway fails a call that the other side has begun",
        "protocol",
        "            if call.serves_live or 0 < call.id <= last_id:\n",
        "            if call.serves_live or 0 < call.id < last_id:\n",
        ("tests/protocol/test_drain.py",),
    ),
    Fault(
        "a side that drains turns away what its own calls wait for",
        "protocol",
        "        if self._drain is not None and not self.serves_live(call):\n",
        "        if self._drain is not None:\n",
        ("tests/protocol/test_drain.py",),
    ),
    # ---------------------------------------------------------------- sessions and servers
    Fault(
        "the links of an address are never counted out without `authenticate`",
        "admission/quotas.py",
        "        self._by_address[address] -= 1\n",
        "        self._by_address[address] -= 1 if who.principal is not None else 0\n",
        ("tests/session/test_access.py", "-k", "address"),
    ),
    Fault(
        "the bytes of a detached session are never given back",
        "server/session_table.py",
        "        self._held -= self._detached.pop(session, 0)\n",
        "        self._detached.pop(session, 0)\n",
        ("tests/server/test_session_table.py",),
    ),
    Fault(
        "a stall timer does not begin again after progress",
        "engine/stall.py",
        "        if self._unsent() < self._left:\n            self.begin()\n",
        "        if self._unsent() < self._left:\n            pass\n",
        ("tests/engine",),
    ),
    Fault(
        "a child task of a handler does not inherit its deadline",
        "calling/timing.py",
        "        if inherited is not None and inherited < deadline:\n",
        "        if False:\n",
        ("tests/session/test_deadlines.py", "-k", "inherit"),
    ),
    Fault(
        "a failed call's slot of a repeat is taken from no budget",
        "calling/retry.py",
        "        return self._tokens > self._most / 2\n",
        "        return True\n",
        ("tests/test_retry.py",),
    ),
    # ---------------------------------------------------------------- threads, timers
    Fault(
        "a free thread goes to whoever waits longest, not to whoever holds the fewest",
        "handling/threads.py",
        "            session = min(self._waiting, key=lambda one: self._held.get(one, 0))\n",
        "            session = next(iter(self._waiting))\n",
        ("tests/session/test_threads.py", "-k", "fewest"),
    ),
    Fault(
        "timers that are still wanted go with those that were removed",
        "runtime/timers.py",
        "for item in self._heap if item[2] is not None]\n",
        "for item in self._heap if item[2] is None]\n",
        ("tests/session/test_runtime.py", "-k", "timers"),
    ),
    # ---------------------------------------------------------------- more of each
    Fault(
        "a frame more than the peer has taken is left out of a replay",
        "protocol/replay.py",
        "        del kept[: len(kept) - (self.numbered - received)]\n",
        "        del kept[: len(kept) - (self.numbered - received) + 1]\n",
        RESUME,
    ),
    Fault(
        "an ack of a part of a batch drops all of it",
        "protocol/replay.py",
        "        while batches and batches[0][0] <= received:\n",
        "        while batches and batches[0][0] - len(batches[0][2]) < received:\n",
        RESUME,
    ),
    Fault(
        "an ack of a whole batch keeps it until the next one",
        "protocol/replay.py",
        "        while batches and batches[0][0] <= received:\n",
        "        while batches and batches[0][0] < received:\n",
        RESUME,
    ),
    Fault(
        "frames that go again are counted twice against the bound on replay",
        "protocol/replay.py",
        "            self.bytes -= len(frame) + 1\n",
        "",
        RESUME,
    ),
    Fault(
        "a link that follows a lost one begins with more than one frame",
        "protocol/replay.py",
        "        probe = probe and not self._batches\n",
        "        probe = False\n",
        RESUME,
    ),
    Fault(
        "an ack that has gone is owed again",
        "protocol",
        "        self._outbox.ack = self.received\n        self._acks.settle(self.received)\n",
        "        self._outbox.ack = self.received\n",
        RESUME,
    ),
    Fault(
        "a second loss does not give the session its whole window again",
        "protocol",
        "        self._expires = None\n        self._link_confirmed = False\n",
        "        self._link_confirmed = False\n",
        RESUME,
    ),
    Fault(
        "the token of a second link counts as confirmed by the first one's ack",
        "protocol",
        "        self._expires = None\n        self._link_confirmed = False\n",
        "        self._expires = None\n",
        RESUME,
    ),
    Fault(
        "links that carry nothing are counted even where others between them do",
        "protocol",
        "            self._barren_links = self._barren_links + 1 if barren else 0\n",
        "            self._barren_links += barren\n",
        RESUME,
    ),
    Fault(
        "a session goes on after a batch that was taken in part",
        "protocol",
        "            self._broken = True\n            self.unreported = events\n",
        "            self.unreported = events\n",
        RESUME,
    ),
    Fault(
        "the old token is good no longer as soon as a new one is given out",
        "server/session_table.py",
        "        kept = [] if presented is None else [_digest(presented)]\n",
        "        kept: list[bytes] = []\n",
        ("tests/server/test_session_table.py", "tests/session/test_resume.py"),
    ),
    Fault(
        "the old token is good for ever",
        "server/session_table.py",
        "        self._replace(session, self._tokens[session][-1:])\n",
        "        self._replace(session, self._tokens[session])\n",
        ("tests/server/test_session_table.py", "tests/session/test_resume.py"),
    ),
    Fault(
        "credit that is granted before an earlier grant has gone takes its place",
        "protocol",
        "        grant = lane.window.consumed(cost, waiting=waiting)\n"
        '        if grant == 0 or lane.state not in ("streaming", "reading", "calling"):\n'
        "            return False\n        lane.credit_due += grant\n",
        "        grant = lane.window.consumed(cost, waiting=waiting)\n"
        '        if grant == 0 or lane.state not in ("streaming", "reading", "calling"):\n'
        "            return False\n        lane.credit_due = grant\n",
        (*CREDIT, *CALLS),
    ),
    Fault(
        "credit goes once more with the next frame of its stream",
        "protocol/lanes.py",
        "            self.credit_due = 0\n        if self.cancel_reason is not None:\n",
        "        if self.cancel_reason is not None:\n",
        CREDIT,
    ),
    Fault(
        "an upload that was begun before the hello gets one item less than that allows",
        "protocol/endpoint.py",
        "                lane.credit.grant(self.peer_window)\n",
        "                lane.credit.grant(self.peer_window - 1)\n",
        ("tests/protocol/test_hello.py", *CREDIT, "tests/protocol/test_channels.py"),
    ),
    Fault(
        "a window grows although nobody waits for items",
        "protocol/window.py",
        "        if waiting and self.depleted:\n",
        "        if self.depleted:\n",
        (*CREDIT, "tests/session/test_windows.py"),
    ),
    Fault(
        "the slot of a call whose answer goes in pieces is never free again",
        "protocol/lanes.py",
        "        if self.value is None and self.terminal is None and self.state == END and self.pool:\n"
        "            self.pool.live -= 1\n",
        "",
        (*CALLS, *CHUNKS),
    ),
    Fault(
        "a call goes on waiting when another one is cancelled before it was numbered",
        "protocol/requests.py",
        "                lane.slots.live -= 1\n                self._promote(lane.slots)\n",
        "                lane.slots.live -= 1\n",
        CALLS,
    ),
    Fault(
        "the bytes of a call that is cancelled while it waits for a slot are held for ever",
        "protocol/requests.py",
        "                del lane.slots.waiting[lane]\n"
        "                self._queued -= lane.pending_bytes\n",
        "                del lane.slots.waiting[lane]\n",
        CALLS,
    ),
    Fault(
        "a value that was given up frees its room before the other end knows of it",
        "protocol/chunks.py",
        "            value.dropped = True\n            value.part = None\n            return\n",
        "            value.dropped = True\n            value.part = None\n"
        "            self.held -= len(value.data)\n            return\n",
        CHUNKS,
    ),
    Fault(
        "a value goes on waiting for room when the one before it is given up",
        "protocol/chunks.py",
        "            self.unasked_parked.pop(lane, None)\n            self._wake_first()\n",
        "            self.unasked_parked.pop(lane, None)\n",
        CHUNKS,
    ),
    Fault(
        "a value that an error ends is still expected to come",
        "protocol/chunks.py",
        "        self.unwanted(id)\n        self.by_id.pop(id, None)\n",
        "        self.by_id.pop(id, None)\n",
        CHUNKS,
    ),
    Fault(
        "the pieces of a value that is whole still count as bytes held",
        "protocol/chunks.py",
        "            self.held -= value.size\n            self.come -= value.size\n",
        "            self.held -= value.size\n",
        CHUNKS,
    ),
    Fault(
        "the items of a value that nobody wants cost nothing",
        "protocol/endpoint.py",
        "            lane.window.arrived(whole.items if wanted else (range(value.size),))\n",
        "            if wanted:\n                lane.window.arrived(whole.items)\n",
        (*CHUNKS, *CREDIT),
    ),
    Fault(
        "a drain is over while answers wait to go",
        "protocol/endpoint.py",
        "        return not self._lanes and not waits\n",
        "        return not self._lanes\n",
        (*DRAIN, "tests/session/test_drain.py"),
    ),
    Fault(
        "a drain is over before the calls of this side are",
        "protocol/endpoint.py",
        "        return not self._lanes and not waits\n",
        "        return not any(isinstance(one, InCall) for one in self._lanes.values()) and not waits\n",
        (*DRAIN, "tests/session/test_drain.py"),
    ),
    Fault(
        "a second drain lets in the calls since the first",
        "protocol",
        "        last_id = self._peer_highest if self._drain is None else self._drain.last_id\n",
        "        last_id = self._peer_highest\n",
        DRAIN,
    ),
    Fault(
        "a caller's own deadline is stretched to the time that the method allows",
        "handling/call_state.py",
        "            timeout = allowed * 1000 if timeout is None else min(timeout, allowed * 1000)\n",
        "            timeout = allowed * 1000\n",
        (*DEADLINES, "-k", "timeout or allow or method or shorter"),
    ),
    Fault(
        "a deadline disturbs the cleanup that it has set off",
        "handling/deadline.py",
        "            self.hub.runtime.forget_deadline(self._task)\n",
        "            pass\n",
        DEADLINES,
    ),
    Fault(
        "the deadline of a call is over for what its cleanup calls",
        "handling/deadline.py",
        "            if self.handled is not None:\n"
        "                self.handled.context.deadline = None\n",
        "",
        DEADLINES,
    ),
    Fault(
        "a call is repeated beyond its deadline",
        "calling/retry.py",
        "        if self._deadline is not None and now + delay >= self._deadline:\n"
        "            return None\n",
        "",
        RETRY,
    ),
    Fault(
        "a repeated call is said not to have begun though its first attempt may have",
        "calling/retry.py",
        "            self._may_have_run = True\n",
        "            pass\n",
        RETRY,
    ),
    Fault(
        "bytes of items that nobody will take are held for ever",
        "streams/inbox.py",
        "            self._held = 0\n            self._hub.unread.pop(self, None)\n"
        "            self._hub.release(held)\n",
        "            pass\n",
        ("tests/session/test_given_back.py",),
    ),
    Fault(
        "bytes of an item that came by itself are held for ever",
        "streams/inbox.py",
        "                self._hub.release(len(lone))\n",
        "",
        ("tests/session/test_given_back.py",),
    ),
    Fault(
        "bytes of the items after one that is invalid are held for ever",
        "streams/inbox.py",
        "        self._give_back(self._held - self._taking)\n",
        "",
        ("tests/session/test_given_back.py",),
    ),
    Fault(
        "bytes of arguments are held after their call has ended",
        "handling/call_state.py",
        "            if self._weight:\n                self._unload()\n",
        "",
        ("tests/session/test_given_back.py",),
    ),
    Fault(
        "a session stays on the account of its address when its principal is known",
        "engine/ledger.py",
        "        held = self.held\n        self.settle(0)\n",
        "        held = self.held\n",
        ("tests/engine",),
    ),
    Fault(
        "a session that gives bytes back is ended all the same when its time is over",
        "session/pressure.py",
        "        goes_on = hub.exempt or self._returned() >= enough\n",
        "        goes_on = hub.exempt\n",
        ("tests/server/test_memory.py", "tests/session/test_stalled.py"),
    ),
    Fault(
        "a peer is taken for dead although the event loop was held up",
        "protocol/heartbeat.py",
        "            self._verdict = max(self._verdict, now + GRACE)\n",
        "            pass\n",
        ("tests/protocol/test_heartbeat.py",),
    ),
    Fault(
        "handlers that are to end with the connection run on",
        "session/wire_session.py",
        "            self.calls.stop_attached()\n            self._arm()\n",
        "            self._arm()\n",
        ("tests/session/test_resume.py", "tests/session/test_no_zombie.py"),
    ),
    Fault(
        "newcomers take the threads of nested calls",
        "handling/threads.py",
        "self._extra < max(1, self._most // 2)",
        "self._extra < self._most",
        ("tests/session/test_threads.py", "-k", "half_of"),
    ),
    Fault(
        "a call that is cancelled keeps the thread that it was just given",
        "handling/threads.py",
        "                waiting.place.give_back()\n",
        "                pass\n",
        ("tests/session/test_threads.py", "-k", "at_that_moment"),
    ),
    Fault(
        "a plain notification runs in the context of another",
        "handling/in_order.py",
        "                    job.context.run(job.work)\n",
        "                    job.work()\n",
        ("tests/session/test_threads.py", "-k", "own_call"),
    ),
    Fault(
        "a plain notification that runs is said not to have begun",
        "handling/in_order.py",
        "            begun()\n            with anyio.CancelScope(shield=True):\n",
        "            with anyio.CancelScope(shield=True):\n",
        ("tests/session/test_threads.py", "-k", "time_is_up"),
    ),
    Fault(
        "links whose addresses became known are still counted as from nowhere",
        "admission/handshakes.py",
        "            self._count_down(pending.address)\n            self._counts[address] += 1\n",
        "            self._counts[address] += 1\n",
        ("tests/admission/test_pending.py",),
    ),
    Fault(
        "a session that begins while its listener closes waits for its peer",
        "server/acceptor.py",
        "        if service.drains or self._closing is not None:\n",
        "        if service.drains:\n",
        ("tests/session/test_moves.py", "-k", "cancelled"),
    ),
    Fault(
        "a large value of which a part has gone does not count as progress",
        "session/pressure.py",
        "self._hub.account.returned + self._hub.endpoint.half_gone",
        "self._hub.account.returned",
        ("tests/server/test_memory.py", "--full", "-k", "slowly_is_not"),
    ),
    Fault(
        "a server that stops waits for peers within the opening handshake as long as they may take",
        "server/listener.py",
        "                door.hurry()\n",
        "",
        ("tests/admission/test_strangers.py", "-k", "stops_soon"),
    ),
    Fault(
        "connections within the opening handshake outlive their server",
        "server/listener.py",
        "            door.close()\n",
        "",
        ("tests/admission/test_strangers.py", "-k", "stops_soon"),
    ),
    Fault(
        "a link is paused only when exactly as many messages wait as may",
        "engine/direct.py",
        "            if len(self._backlog) >= BACKLOG:\n                self._link.pause()\n",
        "            if len(self._backlog) == 2 * BACKLOG:\n                self._link.pause()\n",
        ("tests/engine/test_turns.py",),
    ),
    # ---------------------------------------------------------------- what survived later
    Fault(
        "the arguments that go in pieces of a call that waited for the hello count as waiting for ever",
        "protocol/endpoint.py",
        "                self._queued += call.pending_bytes - before\n",
        "",
        CHUNKS,
    ),
    Fault(
        "the lag of acks counts from before the first frame that waits for one",
        "protocol/traffic.py",
        "            if not replay.bytes:\n                self._waits_since = now\n",
        "",
        PRESSURE,
    ),
    Fault(
        "as much is kept for a peer above its bound as for any other",
        "protocol/replay.py",
        "        self.ample += limit - self.limit\n",
        "",
        PRESSURE,
    ),
    Fault(
        "acks that were held back wait for their time when the reason is over",
        "protocol/traffic.py",
        '        if not reluctant and self.state == "open" and self._acks.due < math.inf:\n'
        "            self._tell()\n",
        "",
        PRESSURE,
    ),
    Fault(
        "grants that nothing called for cost later ones their reason",
        "protocol/window.py",
        "        self._mark += n - 1 if called_for else n\n",
        "        self._mark += n - 1\n",
        ("tests/protocol/test_calm.py",),
    ),
    Fault(
        "of the values that there is room for only the first begins",
        "protocol/chunks.py",
        "        self._hold(value, size)\n        self._wake_first()\n        return True\n",
        "        self._hold(value, size)\n        return True\n",
        CHUNKS,
    ),
    Fault(
        "an upload that was given up is remembered after its call",
        "protocol/requests.py",
        "            self._given_up.pop(reader, None)\n",
        "",
        CHUNKS,
    ),
    Fault(
        "a drain is over while frames have to go again",
        "protocol/endpoint.py",
        " or self._replay.again or self.slots.waiting",
        " or self.slots.waiting",
        DRAIN,
    ),
    Fault(
        "a stream whose time is up before it was numbered is said to have begun perhaps",
        "streams/inbox.py",
        "            error.not_started = not self._lane.is_numbered\n",
        "",
        ("tests/session/test_slots.py", "-k", "time_is_up"),
    ),
    Fault(
        "a timeout hides the item that came at that moment",
        "streams/consumer.py",
        " and not self._arrived():",
        ":",
        ("tests/session/test_endings.py", "-k", "at_the_moment"),
    ),
    Fault(
        "a link that carried nothing begins the delays anew",
        "session/reconnect.py",
        "        if endpoint.received + endpoint.acked > way.before or",
        "        if endpoint.received + endpoint.acked >= way.before or",
        ("tests/session/test_told_why.py", "-k", "of_use"),
    ),
    Fault(
        "a session that ended with 1012 is asked for again",
        "session/wire_session.py",
        "        return endpoint.peer_draining and code == CloseCode.RESTART\n",
        "        return False\n",
        ("tests/session/test_drain.py", "-k", "1012"),
    ),
    Fault(
        "a link that takes over from another counts beside it for their address",
        "admission/quotas.py",
        "self._by_address[address] - before >=",
        "self._by_address[address] >=",
        ("tests/admission/test_quotas.py",),
    ),
    Fault(
        "a link that is cancelled just before it gets a place keeps it",
        "admission/handshakes.py",
        "            if one.place is not None:\n                self.remove(one.place)\n            raise\n",
        "            raise\n",
        ("tests/admission/test_pending.py",),
    ),
    Fault(
        "a link whose address is full holds up the queue",
        "admission/handshakes.py",
        "                self._let_sit(one)\n\n    def _seat_by_force",
        "                self._let_sit(one)\n            else:\n                return\n\n    def _seat_by_force",
        ("tests/admission/test_pending.py",),
    ),
    Fault(
        "items that had to wait for credit are held for ever once they have gone",
        "streams/pushing.py",
        "            self._hub.release(len(item))\n",
        "",
        GIVEN_BACK,
    ),
    Fault(
        "items that wait for credit when their stream ends are held for ever",
        "streams/producer.py",
        "            hub.release(len(self._late.pop(0)))\n",
        "            self._late.pop(0)\n",
        GIVEN_BACK,
    ),
    Fault(
        "a stream that is stopped waits until all of its items have gone",
        "streams/producer.py",
        "        while self._late and self._open():\n",
        "        while self._late:\n",
        GIVEN_BACK,
    ),
    Fault(
        "a server that asked to be left alone is dialled if it is due otherwise",
        "session/reconnect.py",
        "            away = 0.0 if resumes else self._away.get(number, 0.0)\n",
        "            away = 0.0\n",
        ALONE,
    ),
    Fault(
        "a server that asked to be left alone as it refused is dialled",
        "session/reconnect.py",
        "            self._away[way.address % self._addresses] = now + asked_to_wait\n",
        "            pass\n",
        ALONE,
    ),
    Fault(
        "a server that asked to be left alone in its goaway is dialled",
        "session/reconnect.py",
        "        self._away[here % self._addresses] = now + reconnect_after\n",
        "",
        ALONE,
    ),
    Fault(
        "a session is ended for what others hold by now",
        "session/pressure.py",
        "        account.judge()\n",
        "",
        ("tests/session/test_pressure.py",),
    ),
    Fault(
        "principals that Python takes for equal share one count",
        "admission/principals.py",
        "type(self.principal) is type(principal) and is_equal(",
        "is_equal(",
        ("tests/admission/test_principals.py",),
    ),
    Fault(
        "answers wait for the arguments of calls that their receiver cannot begin without them",
        "protocol/sizes.py",
        " - values.unasked >= LEAST_OUTBOX\n",
        " >= LEAST_OUTBOX\n",
        ("tests/server/test_memory.py", "tests/protocol/test_pressure.py"),
    ),
    Fault(
        "nothing is left of max_held to the values that the receiver waits for",
        "protocol/chunks.py",
        "            if beside and beside + size > self.limit // 2:\n",
        "            if False:\n",
        CHUNKS,
    ),
    Fault(
        "values that calls of this side wait for are read as slowly as new calls",
        "engine/held_bytes.py",
        "        if needed != self._needed:\n",
        "        if False:\n",
        ("tests/server/test_memory.py", "tests/protocol/test_pressure.py"),
    ),
]
