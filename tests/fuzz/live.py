"""Tampered conversations against a live server, which afterwards is as it was before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

import anyio

from tests.hostile.cases import GOOD
from tests.hostile.raw import BINARY, TEXT, RawLink, raw_link, ws
from tests.hostile.target import guarded
from tests.leaks import leaks_since, snapshot, watched_logs
from tests.support import Codec
from wsrpc.protocol.codec import CODECS

from .mutate import Mutator
from .run import memory

__all__ = ["live"]

# MiB that memory may grow by, this side's included.
GROWTH = 20.0

CODECS_BY_TURN: tuple[Codec, ...] = ("json", "msgpack")

HELLO = [["hello", {"version": 1, "window": 8, "auth": GOOD, "limits": {"max_calls": 8}}]]


def script() -> Iterator[list[object]]:
    """The batches of a good client, which do not depend on the answers."""
    yield [["ack", 0]]
    yield [["call", 1, "Target.greet", {"name": "Ann"}, {"timeout": 1000, "metadata": {"a": "b"}}]]
    yield [["call", 3, "Target.echo", {"value": {"a": [1, 2.5, None, "x"], "b": {"c": True}}}]]
    yield [["call", 5, "Target.items", {"n": 20}, {"credit": 2}], ["credit", 5, 3]]
    yield [["call", 7, "Target.hold", {}, {"uploads": {"numbers": 9}}], ["message", 9, [1, 2, 3]]]
    yield [["call", 11, "Target.ask", {}, {"callbacks": {"f": 13}}], ["ping", 7]]
    yield [["notify", 15, "Target.note", {"text": "x"}], ["x-trace", 1]]
    yield [["call", 17, "Target.tree", {"tree": {"children": [{"children": []}] * 3}}]]
    yield [["call", 19, "Target.wait", {}], ["cancel", 19, "deadline_exceeded"]]
    yield [["call", 21, "Target.echo", None, None, 20_000]]
    yield [["message", 9, [4]], ["end", 9], ["cancel", 7], ["cancel", 11], ["credit", 5, 30]]
    yield [["call", 23, "Target.boom", {"text": "x"}], ["goaway", {"last_id": 0, "grace": 1000}]]


class Fuzzer:
    """Sends tampered conversations, one a connection.

    Attributes:
        mutations: Messages that were tampered with so far.
        codes: What became of the connections; 0 for those that were still served.
    """

    def __init__(self, url: str, codec: Codec, random: Random) -> None:
        self.mutations = 0
        self.codes: Counter[int] = Counter()
        self._url = url
        self._codec: Codec = codec
        self._random = random
        encode = CODECS[codec].dump
        self._good = [encode(batch) for batch in script()]
        self._hello = encode(HELLO)
        self._mutator = Mutator(CODECS[codec], [self._hello, *self._good])
        self._kind = TEXT if codec == "json" else BINARY

    def _messages(self) -> bytes:
        """A conversation in which some messages are not as they were."""
        random = self._random
        first = 0 if random.random() < 0.1 else random.randrange(1, len(self._good) + 1)
        messages: list[bytes] = []
        for n, good in enumerate([self._hello, *self._good]):
            if n < first or random.random() < 0.3:
                messages.append(good)
            else:
                messages.append(self._mutator.tampered(n, random))
                self.mutations += 1
        data = b"".join(ws(self._kind, message) for message in messages)
        if random.random() < 0.02:
            # What is below the messages is tampered with as well.
            spot = random.randrange(min(len(data), 500))
            data = data[:spot] + bytes([random.randrange(256)]) + data[spot + 1 :]
        return data

    async def once(self) -> None:
        """One connection."""
        async with raw_link(self._url, self._codec) as link:
            with anyio.move_on_after(2):
                async with anyio.create_task_group() as group:
                    group.start_soon(link.send_bytes, self._messages())
                    self.codes[await self._end_of(link)] += 1
                    group.cancel_scope.cancel()

    async def _end_of(self, link: RawLink) -> int:
        """The code with which the server closes, or 0 if it has nothing more to say."""
        with anyio.move_on_after(0.02):
            return await link.closed()
        return 0


async def live(seed: int, mutations: int, *, say: bool = True) -> bool:
    """Tamper with so many messages to a live server; whether it is well afterwards."""
    random = Random(seed)
    codes: Counter[int] = Counter()
    before = snapshot()
    begun = 0.0
    with watched_logs() as complaints:
        for codec in CODECS_BY_TURN:
            # What is made once and kept is made by the first of them.
            await _tamper(codec, mutations // 20, random, codes, say=False)
        begun = memory()
        for codec in CODECS_BY_TURN:
            await _tamper(codec, mutations // 2, random, codes, say=say)
        leaks = await leaks_since(before)
    grown = memory() - begun
    if say:
        told = ", ".join(f"{code or 'served on'}: {n}" for code, n in sorted(codes.items()))
        print(f"connections of a live server: {told}")
        print(f"memory grew by {grown:.1f} MiB (at most {GROWTH:g})")
        print(f"left behind: {leaks or 'nothing'}; faults: {complaints or 'none'}")
    return not leaks and not complaints and grown < GROWTH


async def _tamper(
    codec: Codec, mutations: int, random: Random, codes: Counter[int], *, say: bool
) -> None:
    """So many messages, and a look at whether the server is as it was, and serves."""
    async with guarded(codec, hello_timeout=1.0) as (listener, friend):
        fuzzer = Fuzzer(listener.url, codec, random)
        while fuzzer.mutations < mutations:
            await fuzzer.once()
            await friend.call()
            if say and sum(fuzzer.codes.values()) % 1000 == 0:
                print(f"{fuzzer.mutations} mutations over {codec}", flush=True)
        server = listener.server
        with anyio.fail_after(10):
            while server.stats.calls_live or server.stats.links != 1 or len(server.sessions) != 1:
                await anyio.sleep(0.01)
            await friend.call()
        codes.update(fuzzer.codes)
