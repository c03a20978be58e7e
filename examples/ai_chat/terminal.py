"""The chat in a terminal: `python -m examples.ai_chat.terminal http://127.0.0.1:8000 --as bob`.

Ctrl-C stops an answer, and ends the program where none is on its way. `/bill` shows the tokens of
all users, to administrators.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream

import wsrpc
from examples.ai_chat.service import Assistant, Person


class Terminal(Person):
    """A person at a terminal.

    Args:
        lines: The lines that the person types.
        say: Writes a text for the person.
    """

    controller_name = "Person"

    def __init__(self, lines: ObjectReceiveStream[str], say: Callable[[str], None]) -> None:
        self._lines = lines
        self._say = say
        self._answer: anyio.CancelScope | None = None

    @wsrpc.method
    async def approve(self, action: str) -> bool:
        """Called by the server in the midst of an answer, which waits for the person."""
        self._say(f"\nmay it {action}? (y/n) ")
        return (await self._lines.receive()).strip().lower() in ("y", "yes")

    async def chat(self, assistant: Assistant) -> None:
        """Ask and be answered, until there are no lines any more."""
        self._say("you> ")
        async for line in self._lines:
            question = line.strip()
            try:
                if question == "/bill":
                    self._say(f"{json.dumps(await assistant.bill())}\n")
                elif question:
                    await self._ask(assistant, question)
            except wsrpc.RpcError as error:
                self._say(f"{error}\n")
            self._say("you> ")

    async def _ask(self, assistant: Assistant, question: str) -> None:
        stream = assistant.ask(question)
        with anyio.CancelScope() as self._answer:
            # Leaving the loop ends the model's work, from wherever it is left.
            async for token in stream:
                self._say(token.text)
        if self._answer.cancelled_caught:
            self._say("(stopped)\n")
        elif isinstance(stream, wsrpc.Stream) and stream.final is not None:
            usage = stream.final
            self._say(f" [{usage.tokens} tokens, {usage.cents:.3f} cents]\n")
        self._answer = None

    def stop(self) -> bool:
        """Stop an answer; False where there is none."""
        if self._answer is None:
            return False
        self._answer.cancel()
        return True


async def read_lines(into: ObjectSendStream[str]) -> None:
    """The lines that the person types."""
    async with into:
        while line := await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            await into.send(line)


def say(text: str) -> None:
    print(text, end="", flush=True)


async def main(pages: str, name: str) -> None:
    """Chat until the lines end.

    Args:
        pages: The URL of the chat's page, which also gives tokens.
        name: The user's name.
    """

    async def ask(path: str) -> Any:
        def get() -> Any:
            with urllib.request.urlopen(f"{pages}{path}") as answer:
                return json.load(answer)

        return await anyio.to_thread.run_sync(get)

    async def token() -> Any:
        return (await ask(f"/token?as={name}"))["token"]

    async def renew(session: wsrpc.Session, seconds: float) -> None:
        while True:
            await anyio.sleep(seconds)
            await session.refresh_auth()

    async def listen_to_ctrl_c(terminal: Terminal, scope: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGINT) as signals:
            async for _ in signals:
                if not terminal.stop():
                    scope.cancel()

    url = (await ask("/where"))["url"]
    lifetime = (await ask(f"/token?as={name}"))["expires_in"]
    send, lines = anyio.create_memory_object_stream[str](100)
    terminal = Terminal(lines, say)
    async with wsrpc.connect(url, auth=token, controllers=[terminal]) as session, lines:
        async with anyio.create_task_group() as group:
            group.start_soon(read_lines, send)
            group.start_soon(renew, session, lifetime / 2)
            group.start_soon(listen_to_ctrl_c, terminal, group.cancel_scope)
            await terminal.chat(session.clientize(Assistant))
            group.cancel_scope.cancel()
    print()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--as", dest="name", default="ann")
    chosen = parser.parse_args()
    anyio.run(main, chosen.pages, chosen.name)
