"""Upload a file and draw a progress bar: `python examples/upload_progress.py [FILE]`.

A parameter that is an async iterator is an upload, and one that is an async function a callback:
the server calls it, and it runs here, while the call lasts.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio

import wsrpc


class Storage:
    @wsrpc.method
    async def store(
        self, chunks: AsyncIterator[bytes], on_progress: Callable[[int], Awaitable[None]]
    ) -> str:
        """Take a file in chunks, tell how many bytes have arrived, return the SHA-256."""
        digest, size = hashlib.sha256(), 0
        async for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            await on_progress(size)
        return digest.hexdigest()


async def read_in_chunks(path: Path) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        while chunk := await file.read(64 * 1024):
            yield chunk


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[int], None]]:
    """A function that draws the done part of `total`; prettier where rich is installed."""
    try:
        from rich.progress import Progress
    except ImportError:

        def draw(done: int) -> None:
            filled = 30 * done // total
            print(f"\r[{'#' * filled:.<30}] {100 * done // total:3} %", end="", flush=True)

        yield draw
        print()
    else:
        with Progress() as progress:
            task = progress.add_task("uploading", total=total)
            yield lambda done: progress.update(task, completed=done)


async def upload(path: Path, draw: Callable[[int], None]) -> str:
    server = wsrpc.Server([Storage()])
    async with server.listen() as listener:
        # MessagePack carries bytes as they are; JSON would make base64 of them.
        async with wsrpc.connect(listener.url, codec="msgpack") as session:
            storage = session.clientize(Storage)

            async def on_progress(size: int) -> None:
                draw(size)

            return await storage.store(read_in_chunks(path), on_progress)


async def main(path: Path | None = None) -> str:
    with tempfile.TemporaryDirectory() as directory:
        if path is None:
            path = Path(directory, "numbers.txt")
            path.write_text("".join(f"{number}\n" for number in range(1_000_000)))
        with progress_bar(path.stat().st_size) as draw:
            digest = await upload(path, draw)
        assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{path.stat().st_size:,} bytes arrived, SHA-256 {digest}")
    return digest


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]) if len(sys.argv) > 1 else None)
