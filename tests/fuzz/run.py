"""Tampered conversations through the pure core: only protocol errors, in little time and memory."""

from __future__ import annotations

import gc
import os
from collections import Counter
from random import Random
from time import thread_time

from tests.protocol.harness import decode, deliver
from wsrpc.errors import ProtocolError
from wsrpc.protocol.codec import CODECS, Codec
from wsrpc.protocol.endpoint import Endpoint
from wsrpc.protocol.events import CallReceived, Event

from .conversation import CODES, conversation
from .mutate import Mutator

__all__ = ["SLOWEST", "Tally", "memory", "run"]

# Seconds of CPU time that a message may take.
SLOWEST = 0.1

# Tampered messages that one endpoint takes, as long as none has an effect.
MOST = 20

MIB = 2**20


class Tally:
    """What became of tampered messages.

    Attributes:
        mutations: How many there were.
        codes: The close codes; 0 where a message was taken.
        slowest: Seconds of CPU time that the slowest of them took.
    """

    def __init__(self) -> None:
        self.mutations = 0
        self.codes: Counter[int] = Counter()
        self.slowest = 0.0


def run(seed: int, mutations: int, tally: Tally) -> None:
    """Hand so many tampered messages to endpoints.

    Args:
        seed: Decides everything.
        mutations: How many.
        tally: Where to count.

    Raises:
        AssertionError: Something happened that may not.
    """
    random = Random(seed)
    codec = CODECS[random.choice(sorted(CODECS))]
    mutator = Mutator(codec, [data for _, data, _ in conversation(codec)])
    end = tally.mutations + mutations
    while tally.mutations < end:
        _once(codec, mutator, random, tally, end)


def _once(codec: Codec, mutator: Mutator, random: Random, tally: Tally, end: int) -> None:
    """One conversation, up to the first tampered message that has an effect."""
    at = random.randrange(len(mutator.batches))
    for n, (receiver, data, pair) in enumerate(conversation(codec)):
        if n < at:
            continue
        assert data == mutator.batches[n], "the conversation is always the same"
        for _ in range(MOST):
            if tally.mutations == end or not _unharmed(
                receiver, mutator.tampered(n, random), tally
            ):
                pair.client.close()
                pair.server.close()
                return
        # Nothing has had an effect: the conversation goes on as if nothing had come.


def _unharmed(endpoint: Endpoint, data: bytes, tally: Tally) -> bool:
    """Whether the endpoint refused the message as a whole, and is as it was (BATCH-3)."""
    state, received = endpoint.state, endpoint.received
    events: list[Event] = []
    code, reason = 0, ""
    begin = thread_time()
    try:
        events = deliver(endpoint, data)
    except ProtocolError as refusal:
        code = refusal.close_code
        reason = refusal.reason
    taken = thread_time() - begin
    tally.mutations += 1
    tally.codes[code] += 1
    tally.slowest = max(tally.slowest, taken)
    assert taken < SLOWEST, f"a message of {len(data)} bytes took {taken:.3f} s"
    if code:
        assert code in CODES, code
        assert len(reason.encode()) <= 123
        events = endpoint.unreported
        assert not events or code in (4004, 4505)
        if state == "open" and code in (1007, 1009, 4500):
            assert not events
            assert (endpoint.state, endpoint.received) == (state, received)
            return True
    for event in events:
        if isinstance(event, CallReceived) and event.call.state != "finished":
            endpoint.refuse(event.call, "unavailable", "")
    while (out := endpoint.next_batch(0.0)) is not None:
        assert decode(endpoint.codec, out)
    pending = endpoint.close()
    assert len(pending) == len(set(pending))
    return False


def memory() -> float:
    """MiB that this process holds."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB
