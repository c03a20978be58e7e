"""A chat room: a client that joins gets a stream of all messages.

Joining is a streaming call, so a client is in the room for as long as the call lasts. However it
goes, by leaving the stream, closing its session or losing its network, the `finally` below removes
it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import anyio
from anyio.abc import TaskStatus
from anyio.streams.memory import MemoryObjectSendStream
from pydantic import BaseModel

import wsrpc


class Line(BaseModel):
    author: str
    text: str


@dataclass
class Member:
    name: str
    lines: MemoryObjectSendStream[Line]


class ChatRoom:
    def __init__(self) -> None:
        self.members: dict[str, Member] = {}  # by session

    @wsrpc.method
    async def join(self, name: str) -> AsyncIterator[Line]:
        """Be in the room under this name for as long as the stream lasts."""
        me = wsrpc.current().session.id
        if me in self.members or name in [member.name for member in self.members.values()]:
            raise wsrpc.RpcError("already_exists", f"{name} is here already")
        send, receive = anyio.create_memory_object_stream[Line](100)
        with send, receive:
            self.members[me] = Member(name, send)
            self.tell_all("room", f"{name} joined")
            try:
                async for line in receive:
                    yield line
            finally:
                del self.members[me]
                self.tell_all("room", f"{name} left")

    @wsrpc.method
    async def say(self, text: str) -> None:
        member = self.members.get(wsrpc.current().session.id)
        if member is None:
            raise wsrpc.RpcError("failed_precondition", "join the room first")
        self.tell_all(member.name, text)

    def tell_all(self, author: str, text: str) -> None:
        for member in self.members.values():
            with suppress(anyio.WouldBlock):  # a reader that is 100 lines behind misses this one
                member.lines.send_nowait(Line(author=author, text=text))


async def visit(
    url: str,
    name: str,
    answers: Mapping[str, str],
    log: list[str],
    *,
    task_status: TaskStatus[None],
) -> None:
    """Join, answer some of the messages, and leave where the answer is empty."""
    async with wsrpc.connect(url) as session:
        room = session.clientize(ChatRoom)
        async with room.join(name) as heard:
            async for line in heard:
                log.append(f"{line.author}: {line.text}")
                if line.text == f"{name} joined":
                    task_status.started()
                if (answer := answers.get(line.text)) == "":
                    break
                if answer is not None:
                    await room.say(answer)


async def main() -> dict[str, list[str]]:
    script = {
        "Ann": {"Cid joined": "Hello all!", "Bob left": ""},
        "Bob": {"Hello all!": "Hi, Ann. Bye, Ann.", "Hi, Ann. Bye, Ann.": ""},
        "Cid": {"Ann left": ""},
    }
    logs: dict[str, list[str]] = {name: [] for name in script}
    async with wsrpc.Server([ChatRoom()]).listen() as listener:
        async with anyio.create_task_group() as visitors:
            for name, answers in script.items():
                await visitors.start(visit, listener.url, name, answers, logs[name])
    for name, log in logs.items():
        print(f"{name} heard", *log, sep="\n  ")
    return logs


if __name__ == "__main__":
    anyio.run(main)
