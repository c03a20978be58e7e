"""Pings, and how long a side waits for a sign of life."""

from __future__ import annotations

from typing import Any

import pytest

from wsrpc.limits import Limits
from wsrpc.protocol.codec import Codec
from wsrpc.protocol.endpoint import Endpoint
from wsrpc.protocol.hello import read_opening

from .harness import Bare, Frame, Side, decode, encode, rejected

SIDES: list[Side] = ["accepting", "connecting"]


class Watched(Bare):
    """An endpoint that asks after 20 s of silence and waits for 10 s; or not at all."""

    def __init__(self, codec: Codec, side: Side, beat: tuple[float, float] | None = (20.0, 10.0)):
        super().__init__(codec, side, greet=False)
        if side == "accepting":
            opening = read_opening(codec, encode(codec, [self.hello]))
            self.endpoint.accept(opening, "s1", heartbeat=beat, now=self.now)
        else:
            if beat is not None:
                self.hello[1]["heartbeat"] = [round(beat[0] * 1000), round(beat[1] * 1000)]
            self.say(self.hello)
        self.greeting = self.hear()
        self.begun = self.now

    def tick(self, seconds: float, lag: float = 0.0) -> list[Frame]:
        """Let the clock go on, as a shell does that rings at every alarm in time."""
        end = self.now + seconds
        heard: list[Frame] = []
        while (alarm := self.endpoint.next_alarm) is not None and alarm <= end:
            self.now = max(self.now, alarm)
            self.endpoint.alarm(self.now, lag)
            heard += self.hear()
        self.now = end
        return heard

    def freeze(self, seconds: float) -> list[Frame]:
        """Let the clock go on while this side does nothing, and ring the alarm late."""
        self.now += seconds
        self.endpoint.alarm(self.now)
        return self.hear()


@pytest.fixture(params=SIDES)
def watched(request: pytest.FixtureRequest, codec: Codec) -> Watched:
    return Watched(codec, request.param)


@pytest.mark.rule("HEART-1")
def test_the_servers_hello_says_what_holds_for_both(codec: Codec) -> None:
    [[name, body]] = Watched(codec, "accepting").greeting
    assert (name, body["heartbeat"]) == ("hello", [20_000, 10_000])
    [[name, body]] = Watched(codec, "accepting", None).greeting
    assert "heartbeat" not in body


@pytest.mark.parametrize("beat", [(0.9, 10.0), (20.0, 0.999), (float("nan"), 1.0)])
def test_a_heartbeat_below_a_second_is_refused(codec: Codec, beat: tuple[float, float]) -> None:
    server = Endpoint("accepting", codec, Limits())
    opening = read_opening(codec, encode(codec, [["hello", {"version": 1}]]))
    with pytest.raises(ValueError, match="at least 1 second"):
        server.accept(opening, "s1", heartbeat=beat)


@pytest.mark.rule("HEART-1")
@pytest.mark.parametrize("side", SIDES)
def test_without_a_heartbeat_nobody_asks(codec: Codec, side: Side) -> None:
    watched = Watched(codec, side, None)
    assert watched.endpoint.next_alarm is None
    assert watched.freeze(10_000) == []


@pytest.mark.rule("HEART-1")
def test_silence_is_asked_about_after_the_interval(watched: Watched) -> None:
    assert watched.endpoint.next_alarm == watched.begun + 20
    assert watched.tick(19.9) == []
    [[name, n]] = watched.tick(0.2)
    assert name == "ping"
    watched.say(["pong", n])
    assert watched.tick(19.9) == []
    [[name, m]] = watched.tick(0.2)
    assert (name, m) == ("ping", n + 1)


@pytest.mark.rule("HEART-1")
@pytest.mark.parametrize(
    "frame", [["ping", 1], ["pong", 99], ["ack", 0], ["x-anything"], ["call", 1, "A.b", {}]]
)
def test_any_message_is_a_sign_of_life(codec: Codec, frame: list[Any]) -> None:
    watched = Watched(codec, "accepting")
    watched.tick(15)
    watched.say(frame)
    watched.hear()
    assert watched.tick(19) == []
    assert [frame[0] for frame in watched.tick(2)] == ["ping"]
    if frame[0] != "call":
        watched.say(frame)
        watched.hear()
        assert watched.tick(19) == []


@pytest.mark.rule("HEART-1")
def test_one_silence_is_asked_about_once(watched: Watched) -> None:
    assert len(watched.tick(21)) == 1
    for _ in range(8):
        watched.endpoint.alarm(watched.now)
        assert watched.tick(1) == []


@pytest.mark.rule("HEART-2")
def test_a_peer_that_does_not_answer_is_closed_with_4002(watched: Watched) -> None:
    watched.tick(29.9)
    assert watched.endpoint.next_alarm == watched.begun + 30
    assert rejected(lambda: watched.tick(0.2)) == 4002
    assert watched.now == watched.begun + 30


@pytest.mark.rule("HEART-2")
def test_a_sign_of_life_in_the_last_moment_counts(watched: Watched) -> None:
    watched.tick(29.9)
    watched.say(["pong", 1])
    assert watched.tick(19) == []
    assert [frame[0] for frame in watched.tick(2)] == ["ping"]
    assert rejected(lambda: watched.tick(10)) == 4002


@pytest.mark.rule("HEART-2")
def test_whoever_was_held_up_before_it_could_ask_asks_first(watched: Watched) -> None:
    assert [frame[0] for frame in watched.freeze(500)] == ["ping"]
    watched.tick(9.9)
    assert rejected(lambda: watched.tick(0.2)) == 4002


@pytest.mark.rule("HEART-2")
def test_whoever_was_held_up_after_it_asked_looks_at_what_has_arrived(watched: Watched) -> None:
    [[_, n]] = watched.tick(25)
    watched.freeze(100)
    watched.tick(0.9)
    watched.say(["pong", n])
    assert watched.tick(19) == []


@pytest.mark.rule("HEART-2")
def test_whoever_comes_to_the_verdict_in_time_after_a_lag_knows_of_it(watched: Watched) -> None:
    [[_, n]] = watched.tick(28.6)
    watched.freeze(1.35)
    watched.tick(0.9)
    watched.say(["pong", n])
    assert watched.tick(19) == []


@pytest.mark.rule("HEART-2")
def test_being_held_up_is_no_excuse_for_a_peer_that_is_dead(watched: Watched) -> None:
    watched.tick(25)
    watched.freeze(100)
    assert rejected(lambda: watched.tick(1)) == 4002


@pytest.mark.rule("HEART-2")
def test_a_shell_that_knows_of_a_lag_says_so(watched: Watched) -> None:
    watched.tick(29.9)
    watched.now += 0.1
    watched.endpoint.alarm(watched.now, 5.0)
    watched.tick(0.9)
    assert rejected(lambda: watched.tick(0.2)) == 4002


@pytest.mark.rule("HEART-1")
def test_a_new_link_starts_over(codec: Codec) -> None:
    for side in SIDES:
        bare = Bare(codec, side, resume_window=60.0, greet=False)
        if side == "accepting":
            opening = read_opening(codec, encode(codec, [bare.hello]))
            bare.endpoint.accept(
                opening, "s1", token="t1", resume_window=60.0, heartbeat=(2.0, 1.0), now=bare.now
            )
        else:
            bare.hello[1]["heartbeat"] = [2000, 1000]
            bare.say(bare.hello)
        bare.hear()
        bare.say(["ack", 0])
        bare.now += 2
        bare.endpoint.alarm(bare.now)
        bare.lose()
        assert bare.endpoint.next_alarm == bare.now + 60
        bare.now += 50
        bare.endpoint.alarm(bare.now)
        bare.come_back(0)
        names = [frame[0] for frame in bare.hear()]
        assert names == (["hello"] if side == "accepting" else ["hello", "ack"]), "no ping left"
        assert bare.endpoint.next_alarm == bare.now + 2


@pytest.mark.rule("HEART-1")
def test_a_resumed_hello_says_the_heartbeat_again(codec: Codec) -> None:
    server = Endpoint("accepting", codec, Limits())
    opening = read_opening(codec, encode(codec, [["hello", {"version": 1}]]))
    server.accept(opening, "s1", token="t", resume_window=9.0, heartbeat=(5.0, 4.0))
    server.next_batch(0.0)
    hello = ["hello", {"version": 1, "link": 2, "token": "t"}]
    server.resume(read_opening(codec, encode(codec, [hello])), token="t2")
    data = server.next_batch(0.0)
    assert data is not None
    assert decode(codec, data)[0][1]["heartbeat"] == [5000, 4000]


def test_an_alarm_on_an_endpoint_without_a_link_asks_nobody(codec: Codec) -> None:
    for side in SIDES:
        endpoint = Endpoint(side, codec, Limits())
        assert endpoint.next_alarm is None
        assert endpoint.alarm(1e9) == []
