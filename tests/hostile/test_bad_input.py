"""Each piece of bad input has its exact answer, and other clients are served meanwhile."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import anyio
import pytest

from tests.support import Codec, until

from .cases import CASES, GOOD, Bytes, Case, Raw
from .raw import RawLink, raw_link
from .target import Friend, guarded

Phase = Literal["before", "after"]


def test_there_are_at_least_150_cases_each_with_a_name_of_its_own() -> None:
    assert len(CASES) >= 150
    names = Counter(case.name for case in CASES)
    assert not [name for name, n in names.items() if n > 1]


async def send(link: RawLink, message: Any, codec: Codec) -> None:
    if isinstance(message, Raw):
        await link.send_bytes(message.data)
    elif isinstance(message, Bytes):
        data = message.of(codec)
        assert data is not None
        await link.send_message(data)
    else:
        await link.send_message(link.codec.dump(message))


async def outcome(case: Case, phase: Phase, url: str, codec: Codec, friend: Friend) -> object:
    """What becomes of a case."""
    async with raw_link(url, codec) as link:
        if phase == "after":
            await link.hello(auth=GOOD)
        async with anyio.create_task_group() as group:
            group.start_soon(friend.call)
            for message in case.messages:
                await send(link, message, codec)
        verdict = case.before if phase == "before" else case.after
        if isinstance(verdict, int):
            return await link.closed()
        await link.send(["ping", 4711])
        answer = await link.verdict("error", "result", "pong")
        if isinstance(answer, int) or answer[0] == "pong":
            return answer if isinstance(answer, int) else None
        pong = await link.verdict("pong")
        assert pong == ["pong", 4711], pong
        return answer[2]["code"] if answer[0] == "error" else answer[0]


# On trio a part of the cases: what is below the messages, and each tenth of the others.
SOME = [case for n, case in enumerate(CASES) if n % 10 == 0 or isinstance(case.messages[0], Raw)]


@pytest.mark.parametrize("phase", ["before", "after"])
async def test_bad_input_gets_its_answer_and_a_friend_is_served_meanwhile(
    codec: Codec, phase: Phase, anyio_backend_name: str
) -> None:
    wrong: list[str] = []
    async with guarded(codec) as (listener, friend):
        for case in CASES if anyio_backend_name == "asyncio" else SOME:
            if case.only not in (None, codec):
                continue
            with anyio.fail_after(20):
                got = await outcome(case, phase, listener.url, codec, friend)
            wanted = case.before if phase == "before" else case.after
            if got != wanted:
                wrong.append(f"{case.name}: {got!r} instead of {wanted!r}")
        stats = listener.server.stats
        await until(lambda: stats.calls_live == 0 and stats.links == 1)
        assert list(listener.server.sessions) == [friend.session.id]
    assert not wrong, "\n".join(["", *wrong])
    assert friend.calls >= len(SOME) // 2
