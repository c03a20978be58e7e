"""Two endpoints over links with arbitrary delays that may be lost, driven by a state machine.

Small bounds on both sides, so that they bite. A referee judges the frames; the machine itself
keeps what each side asked for and what the other was told, and compares.

`WSRPC_SOAK=2000` runs that many examples, each of them longer.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import Raw

from wsrpc.limits import Limits
from wsrpc.protocol.chunks import Outgoing
from wsrpc.protocol.codec import CODECS, Codec
from wsrpc.protocol.endpoint import Endpoint, NoSlotError
from wsrpc.protocol.events import (
    ArgumentsReceived,
    CallReceived,
    CallRefused,
    CancelReceived,
    CreditReceived,
    Event,
    HelloReceived,
    ItemsReceived,
    StreamFinished,
    TokenConfirmed,
)
from wsrpc.protocol.frames import CallOptions, End, ErrorBody, Result
from wsrpc.protocol.hello import Opening, read_opening
from wsrpc.protocol.lane_states import SENT
from wsrpc.protocol.lanes import InCall, Lane, OutCall, Receiver, Sender, Upload, UploadReader
from wsrpc.protocol.window import cost_of

from .referee import Referee

SOAK = int(os.environ.get("WSRPC_SOAK", "0"))

SIDES = st.sampled_from([0, 1])
PICKS = st.integers(0, 2**16)
# What the link does before a rule acts, a bit each: C and S write what they have, C and S take what
# has come. Its link moves, for all rules of a run.
LINK = st.integers(0, 15)
TIMES = st.sampled_from([1, 1, 3, 20])
SIZES = st.sampled_from([0, 0, 0, 0, 10, 10, 1_000, 1_000, 9_000, 30_000, 65_536, 150_000])
T = TypeVar("T")


def choose(things: list[T], pick: int) -> T:
    return things[pick % len(things)]


class Inbox:
    """What one receiving end has been told, and not yet consumed."""

    def __init__(self, lane: Receiver) -> None:
        self.costs: deque[int] = deque()
        self.arrived: list[bytes] = []
        self.peak = max(lane.window.size, 1)
        self.dearest = 1
        self.finished = False


class Party:
    """One side: its endpoint, what it has written and the other not taken, and its book-keeping."""

    def __init__(self, side: int, codec: Codec, limits: Limits) -> None:
        self.side = side
        self.endpoint = Endpoint("accepting" if side else "connecting", codec, limits)
        self.wire: deque[bytes] = deque()
        if not side:
            self.endpoint.connect()
        self.opening: tuple[Opening, bytes] | None = None
        self.calls: list[OutCall] = []
        self.gone: set[OutCall] = set()
        self.ended: dict[OutCall, str] = {}
        self.handled: list[InCall] = []
        self.inboxes: dict[Receiver, Inbox] = {}

    @property
    def live(self) -> list[OutCall]:
        return [call for call in self.calls if call not in self.ended and call not in self.gone]

    @property
    def running(self) -> list[InCall]:
        return [call for call in self.handled if call.state != "finished"]

    @property
    def uploads(self) -> list[Upload]:
        lanes = (upload for call in self.live for upload in call.uploads.values())
        return [lane for lane in lanes if lane.state in ("uploading", "stopping")]

    @property
    def readers(self) -> list[UploadReader]:
        lanes = (reader for call in self.running for reader in call.uploads.values())
        return [lane for lane in lanes if lane.state != "finished"]

    @property
    def receivers(self) -> list[Receiver]:
        return [*self.live, *self.readers]


class TwoEndpoints(RuleBasedStateMachine):
    @initialize(
        codec=st.sampled_from(sorted(CODECS)),
        windows=st.tuples(st.sampled_from([1, 2, 5]), st.sampled_from([1, 2, 5])),
        outboxes=st.tuples(
            st.sampled_from([1, 5_000, 200_000]), st.sampled_from([1, 5_000, 200_000])
        ),
        slots=st.tuples(st.sampled_from([8, 9]), st.sampled_from([8, 9])),
        waiting=st.sampled_from([0, 2, 1000]),
        held=st.tuples(
            st.sampled_from([0, 160_000, 400_000]), st.sampled_from([0, 160_000, 400_000])
        ),
        greeted=st.booleans(),
        resume_window=st.sampled_from([0.0, 30.0, 30.0]),
        replays=st.tuples(st.sampled_from([1, 20_000, 2**20]), st.sampled_from([1, 20_000, 2**20])),
    )
    def begin(
        self,
        codec: str,
        windows: tuple[int, int],
        outboxes: tuple[int, int],
        slots: tuple[int, int],
        waiting: int,
        held: tuple[int, int],
        greeted: bool,
        resume_window: float,
        replays: tuple[int, int],
    ) -> None:
        self.codec = CODECS[codec]
        limits = [
            Limits(
                window=windows[side],
                window_bytes=40_000,
                outbox=outboxes[side],
                max_calls=slots[side],
                max_waiting=waiting,
                max_batch=300_000,
                max_value=160_000,
                max_held=held[side],
                replay=replays[side],
            )
            for side in (0, 1)
        ]
        self.referee = Referee(self.codec, (limits[0], limits[1]))
        self.ends = [Party(side, self.codec, limits[side]) for side in (0, 1)]
        self.pushed: dict[int, list[bytes]] = {}
        self.now = 1000.0
        self.resume_window = resume_window
        self.count = 0
        if greeted:
            self.carry_all()
        # It has something to do, for all rules of a run.
        for n in range(6):
            self.call(n % 2, "call", n // 2, n // 3, False, n, [None, 0, 7][n // 2], 0, 0, None)

    # ---------------------------------------------------------------- calls

    @rule(
        side=SIDES,
        kind=st.sampled_from(["call", "call", "call", "notify"]),
        uploads=st.sampled_from([0, 0, 1, 2]),
        callbacks=st.sampled_from([0, 0, 0, 1, 2]),
        nested=st.booleans(),
        pick=PICKS,
        window=st.sampled_from([None, None, 0, 1, 7]),
        size=SIZES,
        link=LINK,
        timeout=st.sampled_from([None] * 8 + [0.0, 5.0, 5.0]),
    )
    def call(
        self,
        side: int,
        kind: str,
        uploads: int,
        callbacks: int,
        nested: bool,
        pick: int,
        window: int | None,
        size: int,
        link: int,
        timeout: float | None,
    ) -> None:
        self.move(link)
        end = self.ends[side]
        oneway = kind == "notify"
        parent = choose(end.running, pick) if nested and end.running else None
        free = end.endpoint.slots.live < end.endpoint.slots.limit
        waiting = len(end.endpoint.slots.waiting)
        try:
            call = end.endpoint.call(
                "Some.method",
                self.codec.dump({"x": "x" * size}),
                oneway=oneway,
                deadline=None if timeout is None else self.now + timeout,
                options=CallOptions(metadata={"a": "b"}) if pick % 3 == 0 else None,
                uploads=() if oneway else tuple(f"u{n}" for n in range(uploads)),
                callbacks=() if oneway else tuple(f"c{n}" for n in range(callbacks)),
                parent=parent,
                window=window,
            )
        except NoSlotError:
            early = not end.endpoint.established and size > 60_000
            assert not free or early
            assert parent is not None or waiting >= end.endpoint.limits.max_waiting
        else:
            if parent is not None:
                assert not end.endpoint.waiting(call), "SLOT-3"
            self.began(end, call)

    def began(self, end: Party, call: OutCall) -> None:
        end.calls.append(call)
        end.inboxes[call] = Inbox(call)

    @precondition(lambda self: self.targets())
    @rule(pick=PICKS, size=SIZES, link=LINK)
    def invoke(self, pick: int, size: int, link: int) -> None:
        self.move(link)
        if not self.targets():
            return
        side, parent, name = choose(self.targets(), pick)
        end = self.ends[side]
        target = parent.callbacks[name]
        try:
            call = end.endpoint.call(
                target.id, self.codec.dump(["x" * size]), target=target, parent=parent
            )
        except NoSlotError:
            assert target.slots.live == 8
            assert len(target.slots.waiting) >= end.endpoint.limits.max_waiting
        else:
            self.began(end, call)

    def targets(self) -> list[tuple[int, InCall, str]]:
        return [
            (end.side, call, name)
            for end in self.ends
            for call in end.running
            for name in call.callbacks
        ]

    @precondition(lambda self: self.some("live"))
    @rule(
        pick=PICKS,
        reason=st.sampled_from([None, None, "cancelled", "deadline_exceeded"]),
        link=LINK,
    )
    def cancel(self, pick: int, reason: str | None, link: int) -> None:
        self.move(link)
        if reason is None or not self.some("live"):
            return
        end, call = choose(self.some("live"), pick)
        numbered = call.id != 0
        assert end.endpoint.cancel(call, reason) is numbered
        if not numbered:
            end.gone.add(call)

    def some(self, what: str) -> list[tuple[Party, Any]]:
        return [(end, one) for end in self.ends for one in getattr(end, what)]

    # ---------------------------------------------------------------- handlers

    @precondition(lambda self: self.some("running"))
    @rule(
        pick=PICKS,
        action=st.sampled_from(["push"] * 6 + ["finish", "final", "result", "fail"]),
        times=TIMES,
        size=SIZES,
        link=LINK,
    )
    def handle(self, pick: int, action: str, times: int, size: int, link: int) -> None:
        self.move(link)
        if not self.some("running"):
            return
        end, call = choose(self.some("running"), pick)
        endpoint, state = end.endpoint, call.state
        if call.size is not None:
            action = "fail"
        if action == "push":
            self.push(end, call, times, size)
            return
        if state == "cancelled" or action == "fail":
            endpoint.fail(call, ErrorBody("aborted", "m" * size, Raw(self.codec.dump("d" * size))))
        elif action == "result" and state in ("running", "invoked"):
            endpoint.result(call, self.codec.dump("x" * size))
        elif state in ("running", "yielding", "notified"):
            final = self.codec.dump("x" * size) if action == "final" else None
            endpoint.finish(call, final if state != "notified" else None)
        self.decide(call)

    def decide(self, lane: Sender) -> None:
        if lane.state == "finished":
            self.referee.ids[lane.id].decided = True
        for end in self.ends:
            for call in end.endpoint.abandoned:
                # It ended with the call to which its callback belongs (CB-3).
                end.inboxes[call].finished = True
                if call.id:
                    end.ended[call] = "Abandoned"
                else:
                    end.gone.add(call)
            end.endpoint.abandoned.clear()

    def push(self, end: Party, lane: Sender, times: int, size: int) -> None:
        while times and end.endpoint.may_push(lane):
            times -= 1
            self.count += 1
            item = self.codec.dump([self.count, "x" * size])
            end.endpoint.push(lane, item)
            self.pushed.setdefault(lane.id, []).append(item)

    # ---------------------------------------------------------------- streams

    @precondition(lambda self: self.some("uploads"))
    @rule(
        pick=PICKS,
        action=st.sampled_from(["push"] * 6 + ["finish", "fail"]),
        times=TIMES,
        size=SIZES,
        link=LINK,
    )
    def upload(self, pick: int, action: str, times: int, size: int, link: int) -> None:
        self.move(link)
        if not self.some("uploads"):
            return
        end, lane = choose(self.some("uploads"), pick)
        if action == "push":
            self.push(end, lane, times, size)
        elif action == "finish" and lane.state == "uploading":
            end.endpoint.finish(lane)
        else:
            end.endpoint.fail(lane, ErrorBody("aborted", ""))
        self.decide(lane)

    @precondition(lambda self: self.some("readers"))
    @rule(pick=PICKS, really=st.sampled_from([False, False, True]), link=LINK)
    def cancel_upload(self, pick: int, really: bool, link: int) -> None:
        self.move(link)
        if really and self.some("readers"):
            end, lane = choose(self.some("readers"), pick)
            assert end.endpoint.cancel(lane) is True

    @precondition(lambda self: self.some("receivers"))
    @rule(pick=PICKS, n=TIMES, wait=st.booleans(), link=LINK)
    def consume(self, pick: int, n: int, wait: bool, link: int) -> None:
        self.move(link)
        if not self.some("receivers"):
            return
        holding = [one for one in self.some("receivers") if one[0].inboxes[one[1]].costs]
        end, lane = choose(holding or self.some("receivers"), pick)
        self.take(end, lane, n, wait)

    def take(self, end: Party, lane: Receiver, n: int, wait: bool) -> None:
        inbox = end.inboxes[lane]
        cost = 0
        for _ in range(min(n, len(inbox.costs))):
            cost += inbox.costs.popleft()
        waits = wait and not inbox.costs
        end.endpoint.consumed(lane, cost, waiting=waits)
        inbox.peak = max(inbox.peak, lane.window.size, 1)
        if waits:
            assert lane.window.balance >= 1, "CREDIT-5"

    @rule(
        pick=PICKS,
        rounds=st.lists(
            st.tuples(TIMES, SIZES, LINK, TIMES, st.booleans()), min_size=1, max_size=8
        ),
    )
    def flow(self, pick: int, rounds: list[tuple[int, int, int, int, bool]]) -> None:
        """One stream for a while, so that its windows have time to grow and shrink."""
        senders: list[tuple[Party, Sender]] = [
            *self.some("uploads"),
            *(
                one
                for one in self.some("running")
                if "message" in SENT[one[1].state] and one[1].size is None
            ),
        ]
        if not senders:
            return
        end, lane = choose(senders, pick)
        other = self.ends[1 - end.side]
        for times, size, link, taken, waits in rounds:
            self.push(end, lane, times, size)
            self.move(link)
            for receiver in other.receivers:
                if receiver.id == lane.id:
                    self.take(other, receiver, taken, waits)

    # ---------------------------------------------------------------- the link

    @rule(side=SIDES)
    def write(self, side: int) -> None:
        self.write_one(side)

    def write_one(self, side: int) -> bool:
        end = self.ends[side]
        data = end.endpoint.next_batch(self.now)
        end.endpoint.started.clear()
        if data is None:
            return False
        self.referee.written(side, data)
        end.wire.append(data)
        return True

    @rule(side=SIDES, n=TIMES)
    def deliver(self, side: int, n: int) -> None:
        while n and self.deliver_one(side):
            n -= 1

    def move(self, link: int) -> None:
        for side in (0, 1):
            while link & (1 << side) and self.write_one(side):
                pass
        for side in (0, 1):
            while link & (4 << side) and self.deliver_one(side):
                pass

    def deliver_one(self, side: int) -> bool:
        end, other = self.ends[side], self.ends[1 - side]
        if not other.wire or end.opening is not None:
            return False
        data = other.wire.popleft()
        if side == 1 and end.endpoint.state != "open":
            end.opening = read_opening(self.codec, data), data
            return True
        self.referee.taken(side, data)
        self.told(end, end.endpoint.receive(data, self.now))
        return True

    @precondition(lambda self: self.ends[1].opening is not None)
    @rule()
    def accept(self) -> None:
        self.accept_now()

    def accept_now(self) -> None:
        end = self.ends[1]
        assert end.opening is not None
        (opening, data), end.opening = end.opening, None
        self.referee.taken(1, data)
        if end.endpoint.state == "new":
            events = end.endpoint.accept(
                opening, "s1", token="t0", resume_window=self.resume_window, now=self.now
            )
        else:
            token = f"t{self.referee.links}"
            events = end.endpoint.resume(opening, token=token, now=self.now)
        self.told(end, events)

    def resumable(self) -> bool:
        """Whether both ends outlive the loss of the link, this one and another."""
        ends = [end.endpoint for end in self.ends]
        return all(one.resumable and one._barren_links < 4 for one in ends)

    @precondition(lambda self: self.ends[0].endpoint.state != "detached" and self.resumable())
    @rule(arriving=st.tuples(st.integers(0, 3), st.integers(0, 3)), connect=st.booleans())
    def lose(self, arriving: tuple[int, int], connect: bool) -> None:
        """The link breaks: of what is on its way, some still arrives at either end."""
        for side in (0, 1):
            for _ in range(arriving[side]):
                self.deliver_one(side)
        self.referee.lost()
        for end in self.ends:
            end.wire.clear()
            end.opening = None
            end.endpoint.detach(self.now)
        if connect:
            self.connect()

    @precondition(lambda self: self.ends[0].endpoint.state == "detached")
    @rule()
    def connect(self) -> None:
        self.ends[0].endpoint.connect(now=self.now)

    @rule()
    def ring(self) -> None:
        self.ring_all()

    def ring_all(self) -> None:
        """Let both alarms ring that are due."""
        for end in self.ends:
            alarm = end.endpoint.next_alarm
            if alarm is not None and alarm <= self.now and end.endpoint.state == "open":
                assert end.endpoint.alarm(self.now) == []

    @rule(seconds=st.sampled_from([0.0004, 3.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    def told(self, end: Party, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, (HelloReceived, TokenConfirmed, CallRefused)):
                continue
            if isinstance(event, CallReceived):
                self.told_call(end, event.call)
            elif isinstance(event, ItemsReceived):
                self.told_items(end, event)
            elif isinstance(event, StreamFinished):
                self.told_finished(end, event)
            elif isinstance(event, CancelReceived):
                assert event.reason in ("cancelled", "deadline_exceeded")
                assert not end.endpoint.may_push(event.lane)
                lane = event.lane
                if isinstance(lane, InCall) and lane.size is not None and lane.state == "cancelled":
                    end.endpoint.refuse(lane, event.reason, "")
            elif isinstance(event, ArgumentsReceived):
                assert event.call.size is None
                # A cancel may have come in the same message, as with a call that came whole.
                assert event.call.state in ("running", "notified", "invoked", "cancelled")
                self.codec.load_value(event.call.args)
            else:
                assert isinstance(event, CreditReceived)

    def told_call(self, end: Party, call: InCall) -> None:
        assert call not in end.handled
        end.handled.append(call)
        for reader in call.uploads.values():
            end.inboxes[reader] = Inbox(reader)
        if call.state == "cancelled":
            end.endpoint.refuse(call, "cancelled", "")

    def told_items(self, end: Party, event: ItemsReceived) -> None:
        inbox = end.inboxes[event.lane]
        assert not inbox.finished, "nothing follows a terminal"
        inbox.arrived += map(bytes, event.items)
        costs = [cost_of(len(item)) for item in event.items]
        inbox.costs += costs
        inbox.dearest = max(inbox.dearest, *costs)

    def told_finished(self, end: Party, event: StreamFinished) -> None:
        lane = event.lane
        inbox = end.inboxes[lane]
        assert not inbox.finished, "one terminal"
        inbox.finished = True
        frame = event.frame
        if isinstance(lane, OutCall):
            assert lane not in end.ended
            assert lane not in end.gone
            end.ended[lane] = type(frame).__name__
            if lane.id == 0:
                raise AssertionError("nothing here exceeds max_batch")
        sent = self.pushed.get(lane.id, [])
        entry = self.referee.ids[lane.id]
        # Written, or asked for while nothing could be written.
        cancelled = entry.cancel_sent or lane.cancel_reason is not None
        # The end of an upload with its call, of which not all goes any more (UP-3).
        cancelled = cancelled or (entry.call is not None and entry.call.cancel_sent)
        if isinstance(frame, Result):
            assert not sent or cancelled
        elif isinstance(frame, End) and not cancelled:
            assert inbox.arrived == sent, "complete is complete"
        if not cancelled:
            assert inbox.arrived == sent, "what was sent before an error comes before it"

    # ---------------------------------------------------------------- what always holds

    @invariant()
    def items_arrive_as_a_prefix_of_what_was_sent(self) -> None:
        for end in getattr(self, "ends", ()):
            for lane in end.receivers:
                arrived = end.inboxes[lane].arrived
                if arrived:
                    assert arrived == self.pushed[lane.id][: len(arrived)]

    @invariant()
    def bounds_hold(self) -> None:
        for end in getattr(self, "ends", ()):
            endpoint = end.endpoint
            counted = [call for call in end.running if call.pool is endpoint.running]
            assert len(counted) <= endpoint.running.live <= endpoint.limits.max_calls
            assert endpoint.slots.live <= endpoint.slots.limit
            assert len(endpoint.slots.waiting) <= max(endpoint.limits.max_waiting, 0)
            outbox = endpoint._outbox
            lanes = {*outbox.ring, *outbox.values.waiting}
            assert outbox.bytes == sum(lane.pending_bytes for lane in lanes)
            self.values_are_accounted_for(end, lanes)
            assert len(set(outbox.ring)) == len(outbox.ring)
            for lane in end.receivers:
                window, inbox = lane.window, end.inboxes[lane]
                if lane.state in ("streaming", "reading"):
                    assert window.queued == sum(inbox.costs)
                    inbox.peak = max(inbox.peak, window.size, 1)
                    assert window.queued < inbox.peak + inbox.dearest

    def values_are_accounted_for(self, end: Party, lanes: set[Lane]) -> None:
        values, waiting, held = end.endpoint._outbox.values, 0, 0
        every = {*lanes, *end.calls, *end.handled}
        every |= {lane for call in end.calls for lane in call.uploads.values()}
        every |= {lane for call in end.endpoint.slots.waiting for lane in [call]}
        for lane in every:
            if lane.value is not None:
                held += len(lane.value.data) if lane.value.begun else 0
                waiting += 0 if lane.value.dropped else len(lane.value.data) - lane.value.offset
            terminal = getattr(lane, "terminal", None)
            if isinstance(terminal, Outgoing):
                waiting += len(terminal.data)
        assert values.bytes == waiting
        assert values.held == held <= values.limit
        incoming = end.endpoint._incoming
        assert incoming.held <= incoming.limit

    # ---------------------------------------------------------------- the end

    def carry_all(self) -> None:
        moved = True
        while moved:
            moved = False
            for side in (0, 1):
                while self.write_one(side):
                    moved = True
            for side in (0, 1):
                while self.deliver_one(side):
                    moved = True
                if side and self.ends[1].opening is not None:
                    self.accept_now()
                    moved = True
            if self.ends[0].endpoint.state == "detached":
                self.ends[0].endpoint.connect(now=self.now)
                moved = True
            alarms = [end.endpoint.next_alarm for end in self.ends if end.endpoint.state == "open"]
            if not moved and any(alarm is not None for alarm in alarms):
                self.now += 1
                self.ring_all()
                moved = True

    def teardown(self) -> None:
        if not hasattr(self, "ends"):
            return
        for _ in range(1000):
            self.carry_all()
            for end in self.ends:
                for lane in end.uploads:
                    if lane.state == "stopping":
                        end.endpoint.fail(lane, ErrorBody("cancelled", ""))
                    else:
                        end.endpoint.finish(lane)
                    self.decide(lane)
            self.carry_all()
            for end in self.ends:
                for call in end.running:
                    if call.state == "cancelled":
                        end.endpoint.fail(call, ErrorBody("cancelled", ""))
                    elif call.state == "invoked":
                        end.endpoint.result(call, bytes(self.codec.null))
                    else:
                        end.endpoint.finish(call)
                    self.decide(call)
            self.carry_all()
            if all(end.endpoint.quiescent for end in self.ends):
                break
        self.referee.conclude()
        for end in self.ends:
            endpoint = end.endpoint
            assert endpoint.quiescent
            assert not endpoint._arriving
            assert endpoint._incoming.held == endpoint._outbox.values.held == 0
            assert not endpoint._outbox.values.terminals
            assert not endpoint._outbox.values.waiting
            assert not end.wire
            assert not endpoint.has_output
            assert not endpoint._lanes
            assert not endpoint.slots.waiting
            assert (endpoint.slots.live, endpoint.running.live, endpoint.outbox_bytes) == (0, 0, 0)
            assert endpoint.sent == self.ends[1 - end.side].endpoint.received
            assert not end.live, "every call ended, once"
            assert all(call.id for call in end.ended)
            assert not any(call.id for call in end.gone)
            assert endpoint.replay_bytes == 0
            assert endpoint.close() == []


class TwoEndpointsAtLength(TwoEndpoints):
    """The same with more examples."""


def profile(examples: int) -> settings:
    return settings(
        max_examples=SOAK or examples,
        stateful_step_count=200 if SOAK else 100,
        deadline=None,
        derandomize=not SOAK,
        print_blob=True,
        phases=[Phase.explicit, Phase.generate],
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


TestTwoEndpoints = TwoEndpoints.TestCase
TestTwoEndpoints.settings = profile(60)
TestTwoEndpointsAtLength = pytest.mark.slow(TwoEndpointsAtLength.TestCase)
TestTwoEndpointsAtLength.settings = profile(200)
