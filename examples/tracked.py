"""A stream that goes on across a restart of its server.

Items are `Tracked(id, value)`. The restarted server need not know the stream: the client's side
opens it again and names its last item, and the loop does not notice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio

import wsrpc

LINES = [f"line {n} of the log" for n in range(1, 13)]


class Log:
    def __init__(self, asked: list[str | None] | None = None) -> None:
        self.asked = [] if asked is None else asked

    @wsrpc.method
    async def follow(self) -> AsyncIterator[wsrpc.Tracked[str]]:
        """Each line with its place as id, from the beginning or after the last one read."""
        last = wsrpc.current().last_id
        self.asked.append(last)
        for place in range(0 if last is None else int(last) + 1, len(LINES)):
            yield wsrpc.Tracked(str(place), LINES[place])


async def main() -> tuple[list[str], list[str | None]]:
    """Returns the lines that were read, and the ids after which the servers had to go on."""
    read: list[str] = []
    asked: list[str | None] = []
    halfway, back, done = anyio.Event(), anyio.Event(), anyio.Event()

    async def reader(url: str) -> None:
        # Few items are under way at a time, so that some are left to ask for.
        async with wsrpc.connect(url) as session:
            async for item in session.clientize(Log, window=2).follow():
                print(item.id, item.value)
                read.append(item.value)
                if len(read) == 6:
                    halfway.set()
                    await back.wait()
        done.set()

    async with anyio.create_task_group() as group:
        async with wsrpc.Server([Log(asked)]).listen() as listener:
            url = listener.url
            group.start_soon(reader, url)
            await halfway.wait()
        print("-- the server is gone")
        port = int(url.rstrip("/").rpartition(":")[2])
        async with wsrpc.Server([Log(asked)]).listen(port=port):
            print("-- another has taken its place")
            back.set()
            await done.wait()
    return read, asked


if __name__ == "__main__":
    anyio.run(main)
