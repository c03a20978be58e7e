"""Files go up and come down with progress, and go on where they were when the server is killed.

The server is a process of its own. In the midst of the upload it is killed as `kill -9` does, and
another one is started on the same folder: the client asks how much of the file is there, and sends
the rest. The download meets the same. All the while small calls go over the same connection::

    going up    ###############...............  51 %   the server is killed, another one is started
    going up    ############################## 100 %   begun at 0, 34,603,008
    coming down ###############...............  50 %   the server is killed, another one is started
    coming down ############################## 100 %   begun at 0, 33,685,504
    67,108,864 bytes, the same SHA-256 here, there and back: 3086fdcf…
    763 small calls meanwhile, half of them within 0.9 ms

`python examples/file_transfer.py [FILE]`
"""

from __future__ import annotations

import hashlib
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.abc import Process

import wsrpc

# Bytes that are read at a time, and bytes from one report of progress to the next.
CHUNK = 64 * 1024
TOLD = 1024 * 1024

# Bytes of the file that is made up.
SIZE = 64 * 1024 * 1024


class Files:
    """A folder of files, by name. Written bytes stay there, even if the server dies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @wsrpc.method(idempotent=True)
    async def size(self, name: str) -> int:
        """Bytes of a file that are there: an upload of it has to go on after them."""
        path = self._path(name)
        return path.stat().st_size if path.exists() else 0

    @wsrpc.method
    async def store(
        self,
        name: str,
        position: int,
        chunks: AsyncIterator[bytes],
        on_progress: Callable[[int], Awaitable[None]],
    ) -> str:
        """Append to a file.

        Args:
            name: The file.
            position: Bytes of it that are there.
            chunks: The others.
            on_progress: Told how many bytes are there, now and then.

        Returns:
            The SHA-256 of the whole file.
        """
        there = await self.size(name)
        if position != there:
            raise wsrpc.RpcError("aborted", f"{there} bytes of {name} are there, not {position}")
        told = there
        async with await anyio.open_file(self._path(name), "ab") as file:
            async for chunk in chunks:
                await file.write(chunk)
                await file.flush()
                there += len(chunk)
                if there >= told + TOLD:
                    told = there
                    await on_progress(there)
        await on_progress(there)
        return await sha256_of(self._path(name))

    @wsrpc.method
    async def fetch(self, name: str, position: int) -> AsyncIterator[bytes | wsrpc.Final[str]]:
        """A file from a position on; the final value is the SHA-256 of the whole file."""
        async for chunk in chunks_of(self._path(name), position):
            yield chunk
        yield wsrpc.Final(await sha256_of(self._path(name)))

    def _path(self, name: str) -> Path:
        if not name or name != Path(name).name or name.startswith("."):
            raise wsrpc.RpcError("invalid_argument", f"{name!r} is not the name of a file")
        return self.folder / name


async def chunks_of(path: Path, position: int = 0) -> AsyncIterator[bytes]:
    """The bytes of a file from a position on."""
    async with await anyio.open_file(path, "rb") as file:
        await file.seek(position)
        while chunk := await file.read(CHUNK):
            yield chunk


async def sha256_of(path: Path) -> str:
    """The SHA-256 of a file; worked out in a thread, since large files take a while."""

    def digest() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return await anyio.to_thread.run_sync(digest)


# ---------------------------------------------------------------- the client


Draw = Callable[[int], Awaitable[None]]


async def upload(files: Files, path: Path, draw: Draw, begun: list[int]) -> str:
    """Bring a file to the server, in as many attempts as that takes.

    Args:
        files: The server's.
        path: The file.
        draw: Told how many bytes have arrived.
        begun: Gets the position at which each attempt began.

    Returns:
        The SHA-256 of the bytes that are there.
    """
    while True:
        position = await files.size(path.name)
        begun.append(position)
        try:
            return await files.store(path.name, position, chunks_of(path, position), draw)
        except wsrpc.ConnectionLost:
            # The session was lost with its server. The bytes that it has written are there.
            continue


async def download(files: Files, name: str, path: Path, draw: Draw, begun: list[int]) -> str:
    """Bring a file from the server, in as many attempts as that takes; bytes that are here stay."""
    with path.open("ab") as file:
        while True:
            begun.append(file.tell())
            stream = files.fetch(name, file.tell())
            try:
                async for chunk in stream:
                    file.write(chunk)
                    await draw(file.tell())
            except wsrpc.ConnectionLost:
                continue
            assert stream.final is not None
            return stream.final


async def ask_all_the_time(files: Files, seconds: list[float]) -> None:
    """Small calls, one after the other, over the connection that the files go over."""
    while True:
        began = time.perf_counter()
        try:
            await files.size("nothing")
        except wsrpc.ConnectionLost:
            continue
        seconds.append(time.perf_counter() - began)
        await anyio.sleep(0.001)


# ---------------------------------------------------------------- the program


@dataclass
class Outcome:
    """The outcome.

    Attributes:
        size: Bytes of the file.
        digests: The SHA-256 of the file here, at the server twice, and come back from there.
        ups: The positions at which attempts of the upload began.
        downs: The positions at which attempts of the download began.
        calls: Seconds that the small calls took.
    """

    size: int = 0
    digests: list[str] = field(default_factory=list)
    ups: list[int] = field(default_factory=list)
    downs: list[int] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)


class KillableServer:
    """A server in a process of its own, on a port that stays the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process: Process | None = None

    async def start(self) -> None:
        command = [sys.executable, __file__, "--serve", str(self.folder), str(self.port)]
        self.process = await anyio.open_process(command, stdout=None, stderr=None)

    async def kill(self) -> None:
        """Kill it as `kill -9` does: without a goodbye or a cleanup."""
        if self.process is not None:
            self.process.kill()
            await self.process.aclose()


class Bar:
    """Draws progress; kills the server once, halfway."""

    def __init__(self, what: str, total: int, server: KillableServer) -> None:
        self.what = what
        self.total = total
        self.server = server
        self.killed = False
        self.shown = -1

    async def draw(self, done: int) -> None:
        percent = 100 * done // self.total
        if percent != self.shown:
            self.shown = percent
            filled = 30 * done // self.total
            bar = f"{'#' * filled:.<30}"
            print(f"\r{self.what:11} {bar} {percent:3} % ", end="", flush=True)
        if not self.killed and done > self.total // 2:
            self.killed = True
            print("  the server is killed, another one is started")
            await self.server.kill()
            await self.server.start()


async def main(path: Path | None = None, size: int = SIZE) -> Outcome:
    outcome, stored_digest, fetched = Outcome(), "", ""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stored = folder / "stored"
        stored.mkdir()
        if path is None:
            path = folder / "made-up.bin"
            path.write_bytes(os.urandom(CHUNK) * (size // CHUNK))
        back = folder / "back.bin"
        outcome.size = path.stat().st_size

        server = KillableServer(stored)
        await server.start()
        stack.push_async_callback(server.kill)
        # MessagePack carries bytes as they are; JSON would make base64 of them.
        session = await stack.enter_async_context(
            wsrpc.connect(f"ws://127.0.0.1:{server.port}", codec="msgpack", wait=30)
        )
        files = session.clientize(Files, timeout=None)
        async with anyio.create_task_group() as group:
            group.start_soon(ask_all_the_time, files, outcome.calls)
            up, down = (Bar(what, outcome.size, server) for what in ("going up", "coming down"))
            stored_digest = await upload(files, path, up.draw, outcome.ups)
            print("  begun at", ", ".join(f"{position:,}" for position in outcome.ups))
            fetched = await download(files, path.name, back, down.draw, outcome.downs)
            print("  begun at", ", ".join(f"{position:,}" for position in outcome.downs))
            group.cancel_scope.cancel()
        outcome.digests = [await sha256_of(path), stored_digest, fetched, await sha256_of(back)]
    assert len(set(outcome.digests)) == 1, outcome.digests
    median = statistics.median(outcome.calls) * 1000
    print(
        f"{outcome.size:,} bytes, the same SHA-256 here, there and back: {outcome.digests[0][:8]}…"
    )
    print(f"{len(outcome.calls):,} small calls meanwhile, half of them within {median:.1f} ms")
    return outcome


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        anyio.run(wsrpc.Server([Files(Path(sys.argv[2]))]).serve, "127.0.0.1", int(sys.argv[3]))
    else:
        anyio.run(main, Path(sys.argv[1]) if len(sys.argv) > 1 else None)
