"""Batches that are nearly right: one that was recorded, with a few things changed."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from random import Random
from typing import Any

from tests.protocol.harness import decode, encode
from wsrpc.protocol.codec import Codec

__all__ = ["Mutator", "paths"]

NAMES = ["hello", "ack", "ping", "pong", "goaway", "auth", "call", "notify", "message", "result", "end",
         "error", "cancel", "credit", "chunk", "x-y", "", "__class__", "call\x00"]  # fmt: skip
NUMBERS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 15, -1, 255, 65_535, 65_536, 100_001, 2**31 - 1, 2**31,
           2**53 - 1, 2**53, 2**63 - 1, -(2**63), 2**64 - 1, 0.0, 1.5, -0.5, 1e308]  # fmt: skip
NUDGES = [-2, -1, 1, 2, 4, 100, 2**31, 2**53]
VALUES: list[Any] = [None, True, False, "", "a", "\x00", "\ud7ff\U0010ffff", "x" * 70_000, [], {}, [[]], [None],
          {"a": None}, {"u": 3}, {"u": 4}, [1, 2], {"__class__": 1}, [0] * 2000]  # fmt: skip
JUNK: list[Any] = [*NAMES, *NUMBERS, *VALUES]

# Of a text as long as a value in chunks only the beginning is worth flipping.
LONG = 3000


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a decoded batch something can be changed."""
    yield path
    if isinstance(value, list):
        for n, one in enumerate(value):
            yield from paths(one, (*path, n))
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from paths(one, (*path, key))


class Mutator:
    """Tampers with batches of one recording.

    Args:
        codec: What they are encoded in.
        batches: The recorded ones.
    """

    def __init__(self, codec: Codec, batches: list[bytes]) -> None:
        self.codec = codec
        self.batches = batches
        self._frames = [frame for data in batches for frame in decode(codec, data)]
        self._spots = [[spot for spot in paths(decode(codec, data)) if spot] for data in batches]

    def tampered(self, n: int, random: Random) -> bytes:
        """Batch `n`, no longer as it was."""
        kind = random.random()
        if kind < 0.1:
            # At another time.
            return random.choice(self.batches)
        if kind < 0.25:
            return self._flipped(self.batches[n], random)
        batch = decode(self.codec, self.batches[n])
        spots = self._spots[n]
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            try:
                self._change(batch, random.choice(spots), random)
            except (LookupError, OverflowError, TypeError, ValueError):
                # It is no longer there, after an earlier change.
                continue
        try:
            return encode(self.codec, batch)
        except (OverflowError, RecursionError, UnicodeEncodeError):
            return self._flipped(self.batches[n], random)

    def _change(self, batch: Any, path: tuple[Any, ...], random: Random) -> None:
        holder = batch
        for step in path[:-1]:
            holder = holder[step]
        at = path[-1]
        change = random.randrange(8)
        if change == 0 and type(holder[at]) is int:
            holder[at] += random.choice(NUDGES)
        elif change == 1:
            del holder[at]
        elif change == 2 and isinstance(holder, list):
            holder.insert(at, holder[at])
        elif change == 3 and isinstance(holder, list):
            holder.insert(at, deepcopy(random.choice(JUNK)))
        elif change == 4 and isinstance(holder, list):
            other = random.randrange(len(holder))
            holder[at], holder[other] = holder[other], holder[at]
        elif change == 5:
            # A whole frame of the conversation, in among the others or in the place of a value.
            frame = deepcopy(random.choice(self._frames))
            if len(path) == 1:
                batch.insert(at, frame)
            else:
                holder[at] = frame
        elif change == 6:
            value = holder[at]
            for _ in range(random.choice((1, 5, 99, 100, 101, 400))):
                value = [value]
            holder[at] = value
        else:
            holder[at] = deepcopy(random.choice(JUNK))

    def _flipped(self, data: bytes, random: Random) -> bytes:
        flipped = bytearray(
            data[: random.randrange(len(data) + 1)] if random.random() < 0.3 else data
        )
        for _ in range(random.randrange(5)):
            if flipped:
                spot = random.randrange(min(len(flipped), LONG))
                flipped[spot] = random.choice((random.randrange(256), flipped[spot] ^ 1, 0, 0xFF))
        return bytes(flipped)
