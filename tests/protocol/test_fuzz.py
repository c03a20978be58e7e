"""Hostile bytes: an endpoint takes any input, or closes with a proper code.

Arbitrary bytes and arbitrary values first; then recorded conversations, one of whose batches was
tampered with.
"""

from __future__ import annotations

import copy
import os
from itertools import islice
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.conversation import CODES, LIMITS, conversation
from tests.fuzz.mutate import paths
from wsrpc.errors import ProtocolError
from wsrpc.protocol.codec import CODECS, Codec
from wsrpc.protocol.endpoint import Endpoint
from wsrpc.protocol.events import CallReceived, Event

from .harness import Pair, decode, deliver, encode

SOAK = int(os.environ.get("WSRPC_SOAK", "0"))

fuzz = settings(
    max_examples=SOAK * 10 or 300,
    deadline=None,
    derandomize=not SOAK,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def survives(endpoint: Endpoint, data: bytes) -> None:
    """Hand over `data`: events, or one of the close codes; and the endpoint can still be closed."""
    events: list[Event] = []
    refusal: ProtocolError | None = None
    try:
        events = deliver(endpoint, data)
    except ProtocolError as error:
        refusal = error
    if refusal is not None:
        assert refusal.close_code in CODES
        assert len(refusal.reason.encode()) <= 123
        events = endpoint.unreported
        assert not events or refusal.close_code == 4505
    for event in events:
        if isinstance(event, CallReceived) and event.call.state != "finished":
            endpoint.refuse(event.call, "unavailable", "")
    while (out := endpoint.next_batch(0.0)) is not None:
        assert decode(endpoint.codec, out)
    pending = endpoint.close()
    assert len(pending) == len(set(pending))


def endpoints(codec: Codec) -> list[Endpoint]:
    """One of each side, before and after the hellos, and with something live."""
    pair = Pair(codec, LIMITS, LIMITS).open()
    *_, live = next(islice(conversation(codec), 9, None))
    fresh = Pair(codec, LIMITS, LIMITS)
    every = [fresh, pair, live]
    return [end for one in every for end in (one.client, one.server)]


# ---------------------------------------------------------------- from nothing

WORDS = ["hello", "ack", "ping", "pong", "goaway", "auth", "call", "notify", "message", "result",
         "end", "error", "cancel", "credit", "chunk", "x-y", "", "Call"]  # fmt: skip
KEYS = ["version", "window", "limits", "max_batch", "max_calls", "token", "auth", "code", "message",
        "data", "timeout", "credit", "uploads", "callbacks", "parent", "metadata", "u"]  # fmt: skip
NUMBERS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, -1, 255, 65_536, 2**31 - 1, 2**31, 2**53 - 1, 2**53,
           2**63, 2**64 - 1, 0.0, 1.0, 1.5, -0.5, 1e300]  # fmt: skip
SCALARS = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(WORDS) | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)
FRAMES = st.tuples(st.sampled_from(WORDS), st.lists(VALUES, max_size=4)).map(
    lambda f: [f[0], *f[1]]
)
CODEC = st.sampled_from(list(CODECS.values()))
ENDPOINT = st.integers(0, 5)


@pytest.mark.rule("BATCH-1")
@fuzz
@given(CODEC, ENDPOINT, st.binary(max_size=200))
def test_arbitrary_bytes_are_taken_or_closed_upon(codec: Codec, n: int, data: bytes) -> None:
    survives(endpoints(codec)[n], data)


@pytest.mark.rule("BATCH-1", "BATCH-2", "BATCH-3")
@fuzz
@given(CODEC, ENDPOINT, VALUES | st.lists(FRAMES, max_size=4))
def test_arbitrary_values_are_taken_or_closed_upon(codec: Codec, n: int, value: Any) -> None:
    survives(endpoints(codec)[n], encode(codec, value))


@pytest.mark.rule("BATCH-1")
@fuzz
@given(ENDPOINT, st.text(alphabet='[]{}",:\\ud8c0123456789.-+eE trufalsn"x', max_size=60))
def test_almost_json_is_taken_or_closed_upon(n: int, text: str) -> None:
    codec = CODECS["json"]
    for data in (text, f"[{text}]", f'[["result",1,{text}]]', f'[["call",1,"A.b",{{"a":{text}}}]]'):
        survives(endpoints(codec)[n], data.encode())


# ---------------------------------------------------------------- from recordings


JUNK: st.SearchStrategy[Any] = SCALARS | st.sampled_from(
    [[], {}, [[]], [None], {"a": None}, {"u": 3}, {"u": 4}, [1, 2]]
)


def tamper(batch: Any, draw: st.DataObject) -> Any:
    """`batch` with one thing changed."""
    batch = copy.deepcopy(batch)
    spots = [path for path in paths(batch) if path]
    path = draw.draw(st.sampled_from(spots))
    holder = batch
    for step in path[:-1]:
        holder = holder[step]
    at = path[-1]
    change = draw.draw(st.sampled_from(["replace", "nudge", "delete", "double", "insert", "swap"]))
    if change == "nudge" and type(holder[at]) is int:
        holder[at] += draw.draw(st.sampled_from([-2, -1, 1, 2, 4, 100, 2**53]))
    elif change == "delete":
        del holder[at]
    elif change in ("double", "insert", "swap") and isinstance(holder, list):
        if change == "swap":
            other = draw.draw(st.integers(0, len(holder) - 1))
            holder[at], holder[other] = holder[other], holder[at]
        else:
            holder.insert(at, holder[at] if change == "double" else draw.draw(JUNK))
    else:
        holder[at] = draw.draw(JUNK)
    return batch


def recorded(codec: Codec) -> list[Any]:
    return [decode(codec, data) for _, data, _ in conversation(codec)]


@pytest.mark.parametrize("name", sorted(CODECS))
def test_the_recording_has_every_frame_in_it(name: str) -> None:
    frames = {frame[0] for batch in recorded(CODECS[name]) for frame in batch}
    assert frames == set(WORDS[:15]) - {"ping", "pong", "goaway", "auth"}


@pytest.mark.rule("BATCH-3", "ID-5")
@fuzz
@given(CODEC, st.data())
def test_a_tampered_batch_is_taken_or_closed_upon(codec: Codec, draw: st.DataObject) -> None:
    steps = len(recorded(codec))
    at = draw.draw(st.integers(0, steps - 1))
    for n, (receiver, data, pair) in enumerate(conversation(codec)):
        if n == at:
            batch = decode(codec, data)
            for _ in range(draw.draw(st.integers(1, 3))):
                if batch:
                    batch = tamper(batch, draw)
            survives(receiver, encode(codec, batch))
            other = pair.server if receiver is pair.client else pair.client
            other.close()
            return


@pytest.mark.rule("BATCH-1", "BATCH-3")
@fuzz
@given(CODEC, st.data())
def test_a_batch_with_flipped_bytes_is_taken_or_closed_upon(
    codec: Codec, draw: st.DataObject
) -> None:
    steps = len(recorded(codec))
    at = draw.draw(st.integers(0, steps - 1))
    for n, (receiver, data, _) in enumerate(conversation(codec)):
        if n == at:
            flipped = bytearray(data[: draw.draw(st.integers(0, len(data)))] if draw.draw(
                st.booleans()) else data)  # fmt: skip
            for _ in range(draw.draw(st.integers(0, 4))):
                if flipped:
                    spot = draw.draw(st.integers(0, min(len(flipped), 3000) - 1))
                    flipped[spot] = draw.draw(st.integers(0, 255))
            survives(receiver, bytes(flipped))
            return


@pytest.mark.rule("ID-5", "ID-6", "HELLO-2")
@fuzz
@given(CODEC, st.data())
def test_a_batch_at_the_wrong_time_is_taken_or_closed_upon(
    codec: Codec, draw: st.DataObject
) -> None:
    history = recorded(codec)
    at = draw.draw(st.integers(0, len(history) - 1))
    other = draw.draw(st.sampled_from(history))
    for n, (receiver, _, _) in enumerate(conversation(codec)):
        if n == at:
            survives(receiver, encode(codec, other))
            return
