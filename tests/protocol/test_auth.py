"""Fresh credentials on a live link, and when credentials run out; without a clock."""

from __future__ import annotations

from typing import Any

import pytest

from wsrpc.protocol.codec import Codec
from wsrpc.protocol.events import AuthReceived, Event, HelloReceived
from wsrpc.protocol.hello import read_opening
from wsrpc.protocol.lane_states import LocalProtocolError

from .harness import Bare, encode, only, rejected


def fresh(codec: Codec, events: list[Event]) -> Any:
    """The credentials that came."""
    return codec.load_value(only(events, AuthReceived).value)


@pytest.mark.rule("AUTH-1")
@pytest.mark.parametrize("value", [None, "token", {"token": ["a", 1]}])
def test_fresh_credentials_are_reported_and_not_believed(codec: Codec, value: Any) -> None:
    server = Bare(codec, "accepting")
    assert fresh(codec, server.say(["auth", value])) == value
    assert server.hear() == []
    assert server.endpoint.received == 0


@pytest.mark.rule("AUTH-1", "HELLO-6")
def test_credentials_may_come_right_after_the_hello(codec: Codec) -> None:
    server = Bare(codec, "accepting", greet=False)
    data = encode(codec, [server.hello, ["auth", "newer"]])
    hello, *events = server.endpoint.accept(read_opening(codec, data), "s1", now=server.now)
    assert isinstance(hello, HelloReceived)
    assert fresh(codec, events) == "newer"


@pytest.mark.rule("AUTH-2")
@pytest.mark.parametrize("gap", [0.0, 0.5, 0.99])
def test_credentials_more_than_once_a_second_are_too_many(codec: Codec, gap: float) -> None:
    """And what else was in the message has happened."""
    server = Bare(codec, "accepting")
    server.say(["auth", "a"])
    server.now += gap
    assert server.rejects(["auth", "b"], ["call", 1, "A.b", {}]) == 4004
    (event,) = server.endpoint.unreported
    assert not isinstance(event, AuthReceived)


@pytest.mark.rule("AUTH-2")
def test_credentials_once_a_second_are_fine(codec: Codec) -> None:
    server = Bare(codec, "accepting")
    for n in range(5):
        assert fresh(codec, server.say(["auth", n])) == n
        server.now += 1


@pytest.mark.rule("AUTH-2")
def test_the_accepting_side_has_no_credentials_to_send(codec: Codec) -> None:
    client = Bare(codec, "connecting")
    assert client.rejects(["auth", "a"]) == 4505
    server = Bare(codec, "accepting")
    with pytest.raises(LocalProtocolError):
        server.endpoint.refresh("a")


@pytest.mark.rule("AUTH-1", "AUTH-2")
def test_fresh_credentials_go_out_as_a_link_frame_the_newest_only(codec: Codec) -> None:
    client = Bare(codec, "connecting")
    client.endpoint.refresh("a")
    client.endpoint.refresh({"b": 1})
    assert client.hear() == [["auth", {"b": 1}]]
    assert client.endpoint.sent == 0
    with pytest.raises(ValueError, match="64 KiB"):
        client.endpoint.refresh("x" * 65_536)
    with pytest.raises(ValueError):
        client.endpoint.refresh(float("nan"))
    assert client.hear() == []


def test_credentials_that_wait_are_dropped_with_their_link(codec: Codec) -> None:
    client = Bare(codec, "connecting", resume_window=30.0)
    client.endpoint.refresh("a")
    client.lose()
    client.come_back(0)
    assert not [frame for frame in client.hear() if frame[0] == "auth"]


@pytest.mark.rule("AUTH-3")
def test_a_link_whose_credentials_run_out_is_closed(codec: Codec) -> None:
    server = Bare(codec, "accepting")
    server.endpoint.trust_until(1060.0)
    assert server.endpoint.next_alarm == 1060.0
    server.now = 1059.9
    assert server.endpoint.alarm(server.now) == []
    server.now = 1060.0
    assert rejected(lambda: server.endpoint.alarm(server.now)) == 4003


@pytest.mark.rule("AUTH-1", "AUTH-3")
def test_a_link_whose_credentials_are_renewed_goes_on(codec: Codec) -> None:
    server = Bare(codec, "accepting")
    server.endpoint.trust_until(1060.0)
    server.endpoint.trust_until(2000.0)
    server.now = 1060.0
    assert server.endpoint.alarm(server.now) == []
    assert server.endpoint.next_alarm == 2000.0


@pytest.mark.rule("AUTH-3")
def test_credentials_matter_to_a_link_and_a_session_outlives_them(codec: Codec) -> None:
    """It waits for fresh ones as for any new link."""
    server = Bare(codec, "accepting", resume_window=30.0)
    server.say(["ack", 0])
    server.endpoint.trust_until(1001.0)
    server.now = 1001.0
    assert rejected(lambda: server.endpoint.alarm(server.now)) == 4003
    server.lose()
    assert server.endpoint.resumable
    server.now = 1030.9
    assert server.endpoint.alarm(server.now) == []
    server.endpoint.trust_until(1100.0)
    server.come_back(0)
    assert server.endpoint.alarm(server.now) == []
    assert server.endpoint.next_alarm is not None
