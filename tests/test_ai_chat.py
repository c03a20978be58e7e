"""The chat with a model, in a terminal: as its two commands run it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import Process

import wsrpc
from examples.ai_chat.service import (
    LONG,
    Assistant,
    Person,
    Token,
    Tokens,
    create_server,
)
from tests.support import error_of, soon, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process there")


class Talk:
    """A program that is talked to by lines."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._text = ""

    async def type(self, line: str) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send(f"{line}\n".encode())

    async def until(self, text: str) -> str:
        """What it says up to and with `text`."""
        assert self.process.stdout is not None
        while text not in self._text:
            try:
                self._text += (await self.process.stdout.receive()).decode()
            except anyio.EndOfStream:
                raise AssertionError(f"{text!r} did not come, but {self._text!r}") from None
        said, _, self._text = self._text.partition(text)
        return said + text


@asynccontextmanager
async def program(*words: str) -> AsyncIterator[Talk]:
    command = [sys.executable, "-u", "-m", *words]
    with anyio.fail_after(60):
        async with await anyio.open_process(command, stderr=subprocess.STDOUT) as process:
            try:
                yield Talk(process)
            finally:
                if process.returncode is None:
                    process.terminate()
                await process.wait()


async def url_of(server: Talk) -> str:
    said = await server.until("--as bob\n")
    found = re.search(r"http://[^ /]*", said)
    assert found is not None
    return found.group()


@pytest.mark.slow
async def test_a_terminal_chats_stops_approves_and_sees_the_usage() -> None:
    async with program("examples.ai_chat", "--port", "0") as server:
        url = await url_of(server)
        async with program("examples.ai_chat.terminal", url, "--as", "bob") as bob:
            await bob.until("you> ")
            await bob.type("Hello?")
            await bob.until("I read what")
            bob.process.send_signal(signal.SIGINT)
            said = await bob.until("(stopped)")
            assert "nobody reads" not in said
            await bob.until("you> ")
            stopped = await server.until(" tokens")
            assert stopped.startswith("bob: ")
            assert int(stopped.split()[1]) < len(LONG.split())
            for answer, outcome in (("n", "Then I do not."), ("y", "It is sent.")):
                await bob.type("send a mail to Cid")
                await bob.until("may it send a mail to Cid? (y/n) ")
                await bob.type(answer)
                await bob.until(outcome)
                assert re.search(r"\d+ tokens, 0\.0\d\d cents", await bob.until("cents"))
            await bob.type("/bill")
            await bob.until("permission_denied")
            async with program("examples.ai_chat.terminal", url, "--as", "ann") as ann:
                await ann.until("you> ")
                await ann.type("/bill")
                assert re.search(r'\{"bob": \d+\}', await ann.until("}"))
                assert ann.process.stdin is not None
                await ann.process.stdin.aclose()
                await ann.process.wait()
                assert ann.process.returncode == 0


class Consenting(Person):
    controller_name = "Person"

    def __init__(self) -> None:
        self.asked: list[str] = []

    @wsrpc.method
    async def approve(self, action: str) -> bool:
        self.asked.append(action)
        return True


async def test_a_session_outlives_its_tokens_where_they_are_renewed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tokens = Tokens(lifetime=2.0)
    given: list[str] = []

    async def token() -> Any:
        answer = tokens.for_page({"as": "ann"})
        assert answer is not None
        given.append(answer["token"])
        return answer["token"]

    states: list[str] = []
    person = Consenting()
    async with create_server(tokens, []).listen() as listener:
        with soon():
            async with wsrpc.connect(
                listener.url,
                auth=token,
                controllers=[person],
                on_state=lambda session, change: states.append(change.state),
            ) as session:
                await session.refresh_auth()
                await until(lambda: len(given) == 2)
                stream = session.clientize(Assistant).ask("send a mail to Cid")
                text = "".join([token.text async for token in stream])
    assert "It is sent." in text
    assert person.asked == ["send a mail to Cid"]
    assert states == ["connected", "closed"]
    assert isinstance(Token(text="a"), Token)
    assert "ann: " in capsys.readouterr().out


async def test_nobody_comes_in_without_a_token_that_holds() -> None:
    late, other = Tokens(lifetime=-1.0), Tokens()
    good = (other.for_page({"as": "ann"}) or {})["token"]
    expired = (late.for_page({"as": "ann"}) or {})["token"]
    assert other.for_page({"as": "eve"}) is None
    async with create_server(other, []).listen() as listener:
        for auth in (None, "", "ann", expired, good.replace("ann", "bob"), f"{good}0"):
            with soon(), pytest.raises(wsrpc.ConnectError):
                async with wsrpc.connect(listener.url, auth=auth):
                    pass
        with soon():
            async with wsrpc.connect(listener.url, auth=good) as session:
                assert await session.clientize(Assistant).bill() == {}
            bob = (other.for_page({"as": "bob"}) or {})["token"]
            async with wsrpc.connect(listener.url, auth=bob) as session:
                with error_of("permission_denied"):
                    await session.clientize(Assistant).bill()
