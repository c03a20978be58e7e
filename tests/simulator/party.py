"""The two ends: what a shell has to do around an endpoint, and applications that do anything.

Both applications know what the other did (a `Record` for each call, a `Flow` for each stream), so
each can tell at once whether what it is told is true.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any, TypeVar

from msgspec import Raw

from wsrpc.close_codes import may_resume
from wsrpc.errors import ProtocolError
from wsrpc.limits import Limits
from wsrpc.protocol.codec import CODECS
from wsrpc.protocol.endpoint import Endpoint, NoSlotError, PeerDrainingError
from wsrpc.protocol.events import (
    ArgumentsReceived,
    CallReceived,
    CancelReceived,
    Event,
    GoawayReceived,
    ItemsReceived,
    SessionExpired,
    StreamFinished,
    TokenConfirmed,
)
from wsrpc.protocol.frames import CallOptions, End, Error, ErrorBody, Result
from wsrpc.protocol.hello import Opening, read_opening
from wsrpc.protocol.lane_states import SENT
from wsrpc.protocol.lanes import InCall, OutCall, Receiver, Sender, Upload, UploadReader
from wsrpc.protocol.window import cost_of

from .world import Wire, World

__all__ = ["Client", "Party", "Server", "Settings"]

NORMAL = 1000
RESTART = 1012
CANNOT_RESUME = 4010
HEARTBEAT = 4002
SUPERSEDED = 4506

T = TypeVar("T")


@dataclass
class Settings:
    """What one run is about."""

    codec: str
    limits: tuple[Limits, Limits]
    resume_window: float
    heartbeat: tuple[float, float] | None
    cuts: float  # seconds between two losses of the link, about
    largest: int  # bytes that pass
    sizes: tuple[int, ...]  # bytes of values


@dataclass(eq=False)
class Flow:
    """One stream, as both of its ends know it."""

    number: int
    sent: int = 0
    arrived: int = 0
    over: bool = False  # the receiver was told of the terminal
    cancelled: bool = False
    closing: bool = False  # the last item was sent
    outcome: str = ""  # the terminal as its sender decided it
    costs: deque[int] = field(default_factory=deque)
    peak: int = 1
    dearest: int = 1


@dataclass(eq=False)
class Record:
    """One call, as both of its ends know it."""

    number: int
    call: OutCall
    answers: Flow
    uploads: dict[str, Flow] = field(default_factory=dict)
    opened: bool = False  # it has come
    handler: InCall | None = None  # what runs it, or has run it
    cleaned: bool = False  # the handler has ended
    cancelled: bool = False  # the caller does not want it any more
    outcome: str = ""  # what the caller was told in the end
    not_started: bool = False


def shown(frames: list[Any]) -> str:
    """A batch as one line of a transcript, its fillers cut short."""
    return re.sub(r"(x{5})x+", r"\1…", repr(frames))[:300]


class Party:
    """One end of one session."""

    side: int
    wire: Wire | None = None

    def __init__(self, world: World, settings: Settings, endpoint: Endpoint, name: str) -> None:
        self.world = world
        self.settings = settings
        self.endpoint = endpoint
        self.name = name
        self.ended = ""  # why, once it has
        self.records: dict[int, Record] = {}  # all calls of the session, those of both ends
        self.flows: dict[int, Flow] = {}
        self.calls: list[Record] = []  # of this end's, without outcome
        self.handlers: list[Record] = []  # running here
        self.receivers: list[tuple[Receiver, Flow]] = []
        self.lost_at = 0.0
        self.barren = 0  # links in a row that opened, and on which no count rose
        self.counts = (0, 0)
        self._alarm: float | None = None
        self._pumping = False

    # ---------------------------------------------------------------- the shell

    def pump(self) -> None:
        """Let the writer have its turn, sooner or later."""
        if not self._pumping:
            self._pumping = True
            slow = self.world.hostile and self.world.random.random() < 0.1
            self.world.after(0, 1.0 if slow else 0.002, self._write)
        self._set_alarm()

    def _write(self) -> None:
        self._pumping = False
        self.check()
        wire = self.wire
        if wire is None or self.ended:
            return
        while (data := self.endpoint.next_batch(self.world.now)) is not None:
            self.check()
            if self.world.lines is not None:
                self.world.say(f"{self.name}>{wire.number}", shown(self.endpoint.codec.load(data)))
            wire.send(self.side, data)
        self.endpoint.started.clear()
        if self.endpoint.drained:
            self.leave(RESTART, "drained")
        self._set_alarm()

    def _set_alarm(self) -> None:
        due = self.endpoint.next_alarm
        if due is not None and (self._alarm is None or due < self._alarm) and not self.ended:
            self._alarm = due
            self.world.at(due, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self.ended:
            return
        try:
            self.told(self.endpoint.alarm(self.world.now))
        except ProtocolError as error:
            self.give_up_link(error)
        self.pump()

    def give_up_link(self, error: ProtocolError) -> None:
        """The peer of this link is taken for dead."""
        wire = self.wire
        assert error.close_code == HEARTBEAT, error
        assert wire is not None
        self.world.say(self.name, str(error))
        wire.leave(self.side)
        self.lost(wire, HEARTBEAT)

    def take(self, wire: Wire, data: bytes) -> None:
        """A message has come; of an older link it is nothing to this end (RESUME-3)."""
        if wire is not self.wire or self.ended:
            return
        self.told(self.endpoint.receive(data, self.world.now))
        self.check()
        self.pump()

    def lost(self, wire: Wire, code: int) -> None:
        """The link is gone."""
        if wire is not self.wire or self.ended:
            return
        self.world.say(self.name, f"has lost link {wire.number}, {code}")
        self.wire = None
        self.leave_link()
        self.endpoint.detach(self.world.now)
        if not may_resume(code):
            self.end(f"closed with {code}")
        elif not self.endpoint.resumable:
            self.end("not resumable")
        else:
            self.detached()
        self._set_alarm()

    def leave_link(self) -> None:
        """Take note of what the link was good for."""
        if self.endpoint.state == "open":
            self.lost_at = self.world.now
            counts = (self.endpoint.acked, self.endpoint.received)
            self.barren = self.barren + 1 if counts == self.counts else 0
            self.counts = counts

    def detached(self) -> None:
        """The session goes on without a link."""

    def leave(self, code: int, reason: str) -> None:
        """Close the session from here."""
        wire, self.wire = self.wire, None
        if wire is not None:
            wire.leave(self.side, code)
        self.end(reason)

    def end(self, reason: str) -> None:
        """The session is over."""
        if self.ended:
            return
        self.world.say(self.name, f"ends: {reason}")
        self.ended = reason
        self.check()
        self.check_reason(reason)
        lost = sorted(self.endpoint.close(), key=lambda call: call.owner.number)
        assert [call.owner for call in lost] == self.calls, "each call ends, and ends once"
        for call in lost:
            record: Record = call.owner
            self.finish(record, "lost", not_started=call.id == 0)
        for record in list(self.handlers):
            self.clean_up(record)

    def check_reason(self, reason: str) -> None:
        """A session may end for some reasons only."""
        raise NotImplementedError

    # ---------------------------------------------------------------- what the endpoint tells

    def told(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, CallReceived):
                self.called(event.call)
            elif isinstance(event, ArgumentsReceived):
                self.begin(event.call)
            elif isinstance(event, ItemsReceived):
                self.items(event)
            elif isinstance(event, StreamFinished):
                self.finished(event)
            elif isinstance(event, CancelReceived):
                self.cancelled(event)
            elif isinstance(event, SessionExpired):
                self.end("expired")
            elif isinstance(event, TokenConfirmed):
                self.confirmed()
            elif isinstance(event, GoawayReceived):
                self.world.say(self.name, "hears of the drain")

    def confirmed(self) -> None:
        raise AssertionError("a connecting side issues no tokens")

    def called(self, call: InCall) -> None:
        assert call.metadata is not None
        call.owner = record = self.records[int(call.metadata["n"])]
        assert not record.opened, "a call comes once"
        record.opened = True
        for name, reader in call.uploads.items():
            reader.owner = record.uploads[name]
            record.uploads[name].peak = max(reader.window.size, 1)
            self.receivers.append((reader, record.uploads[name]))
        if call.state == "finished":
            return
        if call.state == "cancelled":
            self.refuse(call, "cancelled")
            return
        if call.timeout is not None:
            self.world.at(self.world.now + call.timeout / 1000, lambda: self.too_late(call))
        if call.size is None:
            self.begin(call)

    def begin(self, call: InCall) -> None:
        """All that the handler needs is here."""
        record: Record = call.owner
        self.world.say(self.name, f"begins call {record.number}, id {call.id}, {call.state}")
        args = self.endpoint.codec.load(call.args)
        assert (args[0] if isinstance(call.method, int) else args["n"]) == record.number
        assert record.handler is None, "a call begins once"
        assert not record.not_started, "what was said not to have started does not start"
        record.handler = call
        self.handlers.append(record)

    def refuse(self, call: InCall, code: str) -> None:
        """End a call whose handler has not begun."""
        record: Record = call.owner
        self.endpoint.refuse(call, code, "")
        self.drop_uploads(record)

    def too_late(self, call: InCall) -> None:
        if call.state == "finished" or self.ended:
            return
        if call.size is not None:
            self.refuse(call, "deadline_exceeded")
        else:
            self.fail(call.owner, "deadline_exceeded")
        self.pump()

    def items(self, event: ItemsReceived) -> None:
        lane = event.lane
        record_or_flow = lane.owner
        flow = record_or_flow.answers if isinstance(record_or_flow, Record) else record_or_flow
        assert isinstance(flow, Flow)
        assert not flow.over, "nothing follows a terminal"
        for raw in event.items:
            number, index, _ = self.endpoint.codec.load(raw)
            assert (number, index) == (flow.number, flow.arrived), "in order, and each once"
            flow.arrived += 1
            assert flow.arrived <= flow.sent
            cost = cost_of(len(raw))
            flow.costs.append(cost)
            flow.dearest = max(flow.dearest, cost)

    def finished(self, event: StreamFinished) -> None:
        lane, frame = event.lane, event.frame
        if isinstance(lane, UploadReader):
            flow: Flow = lane.owner
            assert not flow.over, "a stream ends once"
            flow.over = True
            if not flow.cancelled:
                assert flow.arrived == flow.sent, "what was sent before the end comes before it"
            self.receivers = [one for one in self.receivers if one[0] is not lane]
            return
        record: Record = lane.owner
        flow = record.answers
        flow.over = True
        outcome = "result" if isinstance(frame, Result) else "end"
        not_started = False
        if isinstance(frame, Error):
            outcome = frame.body.code
            not_started = bool(frame.body.not_started)
        else:
            assert isinstance(frame, (Result, End))
            if isinstance(frame, Result) and not record.cancelled:
                assert self.endpoint.codec.load(frame.value)[0] == record.number
        if not_started:
            started = record.handler is not None and record.handler.state != "finished"
            assert not started, "what was said not to have started has not started"
        elif record.handler is None:
            assert outcome == "failed_precondition", outcome
            assert isinstance(record.call.method, int), "only a callback can have ended before"
        else:
            # An answer that is not out completely gives way to a cancel.
            cut = record.cancelled and outcome in ("cancelled", "deadline_exceeded")
            assert cut or outcome == flow.outcome, (
                f"{outcome}, where the handler said {flow.outcome}"
            )
            if not record.cancelled:
                assert flow.arrived == flow.sent, "what was sent before the end comes before it"
        self.finish(record, outcome, not_started=not_started)

    def finish(self, record: Record, outcome: str, *, not_started: bool) -> None:
        self.world.say(self.name, f"call {record.number} ends: {outcome}, {not_started=}")
        assert not record.outcome, "a call ends once"
        record.outcome = outcome
        record.not_started = not_started
        if outcome in ("lost", "removed") and not_started:
            assert record.handler is None, "what was said not to have started has not started"
        self.calls.remove(record)
        self.receivers = [one for one in self.receivers if one[0] is not record.call]

    def cancelled(self, event: CancelReceived) -> None:
        lane = event.lane
        if isinstance(lane, InCall):
            record: Record = lane.owner
            if lane.size is not None:
                if lane.state == "cancelled":
                    self.refuse(lane, event.reason)
            elif not record.cleaned:
                # The handler's cleanup takes some time, and the terminal comes after it.
                self.world.after(0, 2, lambda: self.fail(record, event.reason))
        else:
            self.world.after(0, 2, lambda: self.close_upload(lane))

    # ---------------------------------------------------------------- the application

    def act(self) -> None:
        """Do something, anything."""
        if self.ended:
            return
        random = self.world.random
        pick = random.random()
        if pick < 0.2:
            self.make_call()
        elif pick < 0.25:
            self.invoke()
        elif pick < 0.45:
            self.handle()
        elif pick < 0.6:
            self.upload()
        elif pick < 0.9:
            self.consume()
        elif pick < 0.95:
            self.cancel_call()
        else:
            self.cancel_upload()
        self.check()
        self.pump()

    def choose(self, things: list[T]) -> T:
        return things[self.world.random.randrange(len(things))]

    def filler(self) -> str:
        return "x" * self.choose(list(self.settings.sizes))

    def make_call(self) -> None:
        random, endpoint = self.world.random, self.endpoint
        number = len(self.records)
        oneway = random.random() < 0.2
        parent = None
        if self.handlers and random.random() < 0.3:
            parent = self.choose(self.handlers).handler
        deadline = self.world.now + random.uniform(0, 5) if random.random() < 0.2 else None
        names = [f"u{n}" for n in range(random.choice([0, 0, 1, 2]))] if not oneway else []
        try:
            call = endpoint.call(
                "A.b",
                endpoint.codec.dump({"n": number, "x": self.filler()}),
                oneway=oneway,
                deadline=deadline,
                options=CallOptions(metadata={"n": str(number)}),
                uploads=tuple(names),
                callbacks=("c",) if not oneway and random.random() < 0.2 else (),
                parent=parent,
                window=None if oneway else random.choice([None, None, 0, 1, 7]),
            )
        except NoSlotError:
            assert parent is not None or len(endpoint.slots.waiting) >= endpoint.limits.max_waiting
            return
        except PeerDrainingError:
            assert endpoint.peer_draining
            return
        record = self.record(number, call, deadline)
        for name in names:
            record.uploads[name] = flow = self.flow()
            call.uploads[name].owner = flow

    def invoke(self) -> None:
        offers = [
            (record.handler, target)
            for record in self.handlers
            if record.handler is not None
            for target in record.handler.callbacks.values()
            if target.state == "offered"
        ]
        if not offers:
            return
        parent, target = self.choose(offers)
        number = len(self.records)
        args = self.endpoint.codec.dump([number, self.filler()])
        try:
            options = CallOptions(metadata={"n": str(number)})
            call = self.endpoint.call(
                target.id, args, options=options, target=target, parent=parent
            )
        except NoSlotError:
            assert len(target.slots.waiting) >= self.endpoint.limits.max_waiting
            return
        self.record(number, call, None)

    def record(self, number: int, call: OutCall, deadline: float | None) -> Record:
        self.world.say(self.name, f"makes call {number}")
        call.owner = record = Record(number, call, self.flow())
        record.answers.peak = max(call.window.size, 1)
        self.records[number] = record
        self.calls.append(record)
        self.receivers.append((call, record.answers))
        if deadline is not None:
            self.world.at(deadline, lambda: self.give_up(record, "deadline_exceeded"))
        return record

    def flow(self) -> Flow:
        flow = Flow(len(self.flows))
        self.flows[flow.number] = flow
        return flow

    def give_up(self, record: Record, reason: str) -> None:
        if record.outcome or self.ended:
            return
        self.world.say(self.name, f"gives up call {record.number}: {reason}")
        record.cancelled = record.answers.cancelled = True
        for flow in record.uploads.values():
            flow.cancelled = True
        if not self.endpoint.cancel(record.call, reason):
            self.finish(record, "removed", not_started=True)
        self.pump()

    def cancel_call(self) -> None:
        if self.calls:
            self.give_up(self.choose(self.calls), "cancelled")

    def cancel_upload(self) -> None:
        readers = [lane for lane, _ in self.receivers if isinstance(lane, UploadReader)]
        if readers:
            reader = self.choose(readers)
            if reader.state == "reading":
                reader.owner.cancelled = True
                self.endpoint.cancel(reader)

    def handle(self) -> None:
        if not self.handlers:
            return
        record = self.choose(self.handlers)
        call = record.handler
        assert call is not None
        if call.state in ("cancelled", "finished"):
            return
        if self.world.random.random() < 0.7 and "message" in SENT[call.state]:
            self.push(call, record.answers, self.world.random.choice([1, 1, 3, 20]))
        else:
            self.answer(record)

    def push(self, lane: Sender, flow: Flow, times: int) -> None:
        while times and self.endpoint.may_push(lane):
            times -= 1
            item = self.endpoint.codec.dump([flow.number, flow.sent, self.filler()])
            flow.sent += 1
            self.endpoint.push(lane, item)

    def answer(self, record: Record) -> None:
        """End a handler in a way that its kind of call allows."""
        call, endpoint = record.handler, self.endpoint
        assert call is not None
        allowed = SENT[call.state]
        how = self.choose([name for name in ("result", "end", "error") if name in allowed])
        record.answers.outcome = how
        if how == "result":
            endpoint.result(call, endpoint.codec.dump([record.number, self.filler()]))
            self.ran(record)
        elif how == "end":
            endpoint.finish(call)
            self.ran(record)
        else:
            self.fail(record, "aborted")

    def fail(self, record: Record, code: str) -> None:
        call = record.handler
        if record.cleaned or call is None or self.ended:
            return
        record.answers.outcome = code
        if call.state == "finished":
            # The call to which the callback belongs has ended, and nobody awaits an answer (CB-3).
            self.ran(record)
            self.pump()
            return
        data = Raw(self.endpoint.codec.dump([record.number, self.filler()]))
        self.endpoint.fail(call, ErrorBody(code, "", data))
        self.ran(record)
        self.pump()

    def ran(self, record: Record) -> None:
        """A handler has ended, and with it what hung on it."""
        self.world.say(self.name, f"call {record.number} has run: {record.answers.outcome}")
        self.clean_up(record)
        self.drop_uploads(record)

    def drop_uploads(self, record: Record) -> None:
        flows = record.uploads.values()
        self.receivers = [one for one in self.receivers if one[1] not in flows]

    def clean_up(self, record: Record) -> None:
        assert not record.cleaned, "a handler ends once"
        record.cleaned = True
        self.handlers.remove(record)
        # What it still invokes has ended with it (CB-3).
        abandoned, self.endpoint.abandoned = self.endpoint.abandoned, []
        for call in abandoned:
            other: Record = call.owner
            other.cancelled = True
            self.finish(other, "cancelled", not_started=False)

    def uploading(self) -> list[Upload]:
        return [
            lane
            for record in self.calls
            for lane in record.call.uploads.values()
            if lane.state in ("uploading", "stopping", "withdrawn")
        ]

    def upload(self) -> None:
        lanes = [lane for lane in self.uploading() if lane.state == "uploading"]
        if not lanes:
            return
        lane = self.choose(lanes)
        if self.world.random.random() < 0.8:
            self.push(lane, lane.owner, self.world.random.choice([1, 3, 20]))
        else:
            self.endpoint.finish(lane)

    def close_upload(self, lane: Sender) -> None:
        if lane.state == "stopping" and not self.ended:
            lane.owner.cancelled = True
            self.endpoint.fail(lane, ErrorBody("cancelled", ""))
            self.pump()

    def consume(self) -> None:
        holding = [one for one in self.receivers if one[1].costs] or self.receivers
        if holding:
            lane, flow = self.choose(holding)
            self.eat(lane, flow, self.world.random.choice([1, 3, 20]))

    def eat(self, lane: Receiver, flow: Flow, n: int) -> None:
        cost = 0
        for _ in range(min(n, len(flow.costs))):
            cost += flow.costs.popleft()
        self.endpoint.consumed(lane, cost, waiting=not flow.costs)
        flow.peak = max(flow.peak, lane.window.size, 1)

    def last_item(self, lane: Sender, flow: Flow) -> bool:
        """Send a stream's last item; whether it has gone, or there is none."""
        if not flow.closing and "message" in SENT[lane.state]:
            sent = flow.sent
            self.push(lane, flow, 1)
            flow.closing = flow.sent > sent
            return flow.closing
        return True

    def wind_down(self) -> None:
        """Bring everything that is under way to its end.

        Each stream has one more item first, so that one without credit cannot end, and a call that
        its caller has given up ends by nothing but the cancel.
        """
        if self.ended:
            return
        for lane, flow in list(self.receivers):
            self.eat(lane, flow, 1_000_000)
        for upload in self.uploading():
            if upload.state == "uploading" and self.last_item(upload, upload.owner):
                self.endpoint.finish(upload)
        for record in list(self.handlers):
            call = record.handler
            assert call is not None
            waits = call.state in ("cancelled", "finished") or record.cancelled
            if not waits and self.last_item(call, record.answers):
                self.answer(record)
        self.check()
        self.pump()

    # ---------------------------------------------------------------- what always holds

    def check(self) -> None:
        endpoint, limits = self.endpoint, self.endpoint.limits
        unacked = endpoint.sent - endpoint.acked
        if endpoint.replay_bytes > limits.replay:
            assert unacked == 1, "unacked frames stay within the bound of the replay buffer"
        assert endpoint.running.live <= limits.max_calls, "calls within the slots"
        assert endpoint.slots.live <= endpoint.slots.limit, "calls within the peer's slots"
        assert len(endpoint.slots.waiting) <= limits.max_waiting
        if not self.ended:
            for lane, flow in self.receivers:
                if lane.state in ("streaming", "reading"):
                    flow.peak = max(flow.peak, lane.window.size)
                    assert sum(flow.costs) < flow.peak + flow.dearest, "queued within credit"

    def check_rest(self) -> None:
        """Nothing is left of a session that goes on, idle."""
        endpoint = self.endpoint
        assert endpoint.quiescent, "nothing is live and nothing waits"
        assert not self.calls, "every call has ended"
        assert not self.handlers, "every handler has ended"
        assert (endpoint.slots.live, endpoint.running.live, endpoint.outbox_bytes) == (0, 0, 0)
        assert endpoint.replay_bytes == 0, "everything is acked"
        if self.settings.resume_window:
            assert endpoint.acked == endpoint.sent


class Client(Party):
    """The connecting side: it comes back as long as there is something to come back to."""

    side = 0

    def __init__(self, world: World, settings: Settings, server: Server, n: int) -> None:
        endpoint = Endpoint("connecting", CODECS[settings.codec], settings.limits[0])
        super().__init__(world, settings, endpoint, f"C{n}")
        self.server = server
        self.host: Host | None = None

    def connect(self) -> None:
        """Open a link."""
        if self.ended or self.wire is not None:
            return
        server = self.server
        server.links += 1
        largest = self.settings.largest if self.world.hostile else 1_000_000_000
        wire = self.wire = Wire(self.world, server.links, self, server, largest)
        wire.server = server
        self.world.say(self.name, f"opens link {wire.number}")
        self.endpoint.connect(now=self.world.now)
        patience = self.world.random.choice([0.1, 0.5, 5.0] if self.endpoint.established else [5.0])
        self.world.at(self.world.now + patience, lambda: self.abandon(wire))
        if self.world.chance(0.9):
            cuts = self.settings.cuts
            # Few sessions are to end before they have begun.
            self.world.after(
                *((0, cuts * 2) if self.endpoint.established else (1, 1 + cuts)), wire.cut
            )
        self.pump()

    def abandon(self, wire: Wire) -> None:
        """The server has not answered in time, or this end has moved to another network."""
        if wire is self.wire and (self.endpoint.state == "greeting" or self.world.chance(0.2)):
            wire.leave(0)
            self.lost(wire, 1006)

    def lost(self, wire: Wire, code: int) -> None:
        if wire is self.wire and not self.ended and code == CANNOT_RESUME:
            assert self.host is None or self.host.ended, "what can be resumed is resumed"
        super().lost(wire, code)

    def detached(self) -> None:
        long = self.world.chance(0.05)
        self.world.after(0, self.settings.resume_window * 2 if long else 1, self.connect)

    def check_reason(self, reason: str) -> None:
        """Failure comes when, and only when, resume is impossible."""
        if reason == "expired":
            assert self.world.now >= self.lost_at + self.settings.resume_window
        elif reason == "not resumable":
            never = not self.endpoint.established or not self.settings.resume_window
            assert never or self.barren >= 5, "five links that carried nothing"
        else:
            assert reason in ("done", "drained", f"closed with {CANNOT_RESUME}") or (
                reason == f"closed with {NORMAL}"
            ), reason

    def end(self, reason: str) -> None:
        super().end(reason)
        self.server.next_client(self)


class Host(Party):
    """The accepting side of one session."""

    side = 1

    def __init__(self, world: World, settings: Settings, server: Server, client: Client) -> None:
        endpoint = Endpoint("accepting", CODECS[settings.codec], settings.limits[1])
        super().__init__(world, settings, endpoint, client.name.replace("C", "S"))
        self.server = server
        self.client = client
        client.host = self
        # What both ends know, each of its own session.
        self.records, self.flows = client.records, client.flows
        self.tokens: list[str] = []
        self.sure = False  # whether the client has shown that it has a token

    def confirmed(self) -> None:
        self.sure = True
        del self.tokens[:-1]

    def drain(self) -> None:
        """Begin to stop this session."""
        if self.ended or self.endpoint.draining:
            return
        self.world.say(self.name, "drains")
        grace = self.world.random.uniform(0, 10)
        self.endpoint.goaway(grace, self.world.now, reconnect_after=0.5)
        self.world.at(self.world.now + grace, self.cancel_all)
        self.pump()

    def cancel_all(self) -> None:
        """The grace is over: what still runs is cancelled, and then the link is closed."""
        for record in list(self.handlers):
            self.fail(record, "unavailable")
        self.world.after(0, 1, lambda: self.leave(RESTART, "drained"))

    def check_reason(self, reason: str) -> None:
        if reason == "expired":
            assert self.world.now >= self.lost_at + self.settings.resume_window
        elif reason == "not resumable":
            never = not self.settings.resume_window or not self.sure
            assert never or self.barren >= 5, "never confirmed, or five links that carried nothing"
        else:
            assert reason in ("restart", "drained", "done", f"closed with {NORMAL}"), reason


class Server:
    """Where links arrive; it knows its sessions by their tokens."""

    def __init__(self, world: World, settings: Settings) -> None:
        self.world = world
        self.settings = settings
        self.hosts: list[Host] = []
        self.clients: list[Client] = []
        self.links = 0
        self._tokens = 0
        self._waiting: dict[Wire, list[bytes]] = {}

    @property
    def client(self) -> Client:
        """The newest client."""
        return self.clients[-1]

    def next_client(self, before: Client | None = None) -> None:
        """Begin the next session when one has ended."""
        if before is None or (
            self.world.hostile and before is self.client and len(self.clients) < 12
        ):
            client = Client(self.world, self.settings, self, len(self.clients) + 1)
            self.clients.append(client)
            self.world.after(0, 1, client.connect)

    def take(self, wire: Wire, data: bytes) -> None:
        """A message of a link: the first one tells whose it is."""
        host = wire.parties[1]
        if host is not None:
            host.take(wire, data)
        elif wire in self._waiting:
            self._waiting[wire].append(data)
        else:
            self._waiting[wire] = []
            opening = read_opening(CODECS[self.settings.codec], data)
            # Authentication takes its time.
            self.world.after(0, 0.2, lambda: self.admit(wire, opening))

    def admit(self, wire: Wire, opening: Opening) -> None:
        """The client of a link is known."""
        behind = self._waiting.pop(wire)
        if not wire.open[1]:
            return
        token = opening.hello.token
        client = wire.parties[0]
        assert isinstance(client, Client)
        self._tokens += 1
        new = f"t{self._tokens}"
        if token is None:
            host = Host(self.world, self.settings, self, client)
            self.hosts.append(host)
            host.tokens = [new]
            host.wire = wire
            wire.parties[1] = host
            events = host.endpoint.accept(
                opening,
                host.name,
                token=new,
                resume_window=self.settings.resume_window,
                heartbeat=self.settings.heartbeat,
                now=self.world.now,
            )
        else:
            found = [one for one in self.hosts if token in one.tokens and not one.ended]
            if not found:
                self.world.say(f"link {wire.number}", f"no session for {token}")
                wire.leave(1, CANNOT_RESUME)
                return
            [host] = found
            older = host.wire
            higher = (opening.hello.link or 1) > host.endpoint.link
            if higher:
                host.leave_link()
            try:
                events = host.endpoint.resume(opening, token=new, now=self.world.now)
            except ProtocolError as error:
                self.turn_away(wire, host, error)
                return
            assert higher, "of two links that race, the higher one lives"
            host.tokens = [token, new]
            host.sure = True
            host.wire = wire
            wire.parties[1] = host
            if older is not None:
                older.leave(1, SUPERSEDED)
        self.world.say(host.name, f"lives on link {wire.number}")
        host.told(events)
        for data in behind:
            host.take(wire, data)
        host.pump()

    def turn_away(self, wire: Wire, host: Host, error: ProtocolError) -> None:
        """A link does not fit the session that it asks for."""
        self.world.say(f"link {wire.number}", str(error))
        wire.leave(1, error.close_code)
        if error.close_code == CANNOT_RESUME:
            host.leave(CANNOT_RESUME, "not resumable")
        else:
            assert error.close_code == SUPERSEDED, error

    def restart(self) -> None:
        """Forget everything at once."""
        self.world.say("server", "restarts")
        for host in self.hosts:
            if not host.ended:
                wire, host.wire = host.wire, None
                host.end("restart")
                if wire is not None:
                    wire.leave(1)
