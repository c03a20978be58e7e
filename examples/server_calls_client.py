"""The server calls the client: while it handles a call, and at any other time.

Both ends expose controllers and both ends make proxies, over the one socket that the client opened.
"""

from __future__ import annotations

import anyio

import wsrpc


class Desktop:
    """The methods of the client that the server may call."""

    def __init__(self) -> None:
        self.heard = ""
        self.notified = anyio.Event()

    @wsrpc.method
    async def confirm(self, question: str) -> bool:
        answer = "notes" not in question
        print(f"client is asked: {question} {'yes' if answer else 'no'}")
        return answer

    @wsrpc.method(oneway=True)
    async def notify(self, text: str) -> None:
        print(f"client is told: {text}")
        self.heard = text
        self.notified.set()


class Files:
    """The methods of the server that its clients may call."""

    @wsrpc.method
    async def delete(self, name: str) -> str:
        desktop = wsrpc.current().session.clientize(Desktop)
        if not await desktop.confirm(f"Really delete {name}?"):
            raise wsrpc.RpcError("aborted", f"{name} stays")
        return f"{name} is gone"


async def main() -> list[str]:
    seen = []
    server = wsrpc.Server([Files()])
    desktop = Desktop()
    async with server.listen() as listener:
        async with wsrpc.connect(listener.url, controllers=[desktop]) as session:
            files = session.clientize(Files)
            seen.append(await files.delete("draft.txt"))
            try:
                await files.delete("notes.txt")
            except wsrpc.RpcError as error:
                seen.append(error.message)

            # The server, from anywhere in its program: one session by its id, or all of them.
            for client in server.sessions.values():
                await client.clientize(Desktop).notify("the server restarts at noon")
            await desktop.notified.wait()
            seen.append(desktop.heard)
    print("client got:", seen)
    return seen


if __name__ == "__main__":
    anyio.run(main)
