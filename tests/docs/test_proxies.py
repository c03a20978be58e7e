"""The configurations of docs/deployment.md, in the proxies that they are for."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import pytest
import trustme

import wsrpc
from tests.docs.pages import ROOT, blocks, free_port
from tests.support import served, soon, until

PAGE = ROOT / "docs" / "deployment.md"

pytestmark = pytest.mark.slow

ITEMS = 400

# Makes a proxy read its configuration again.
Reload = Callable[[], None]
Proxy = Callable[[Path, int, int], AbstractAsyncContextManager[Reload]]


class Ticker:
    def __init__(self) -> None:
        self.go_on = anyio.Event()

    @wsrpc.method
    async def address(self) -> str:
        return wsrpc.current().session.handshake.address

    @wsrpc.method
    async def tick(self) -> AsyncIterator[int]:
        for n in range(ITEMS):
            if n == ITEMS // 2:
                await self.go_on.wait()
            yield n


def configuration(kind: str) -> str:
    """The one block of this kind on the page."""
    (text,) = [block.text for block in blocks(PAGE) if block.kind == kind]
    return text


def program(name: str) -> str:
    """Where a proxy is; without it the test is skipped, or fails if WSRPC_PROXIES=require."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if found is None:
        if os.environ.get("WSRPC_PROXIES") == "require":
            pytest.fail(f"there is no {name}", pytrace=False)
        pytest.skip(f"there is no {name}: apt-get install {name}")
    return found


class Certificate:
    """A certificate for this machine, as files, and what trusts it."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost")
        self.chain, self.key = folder / "chain.pem", folder / "key.pem"
        for blob in issued.cert_chain_pems:
            blob.write_to_path(self.chain, append=True)
        issued.private_key_pem.write_to_path(self.key)
        self.trusted = ssl.create_default_context()
        authority.configure_trust(self.trusted)


async def until_it_listens(process: anyio.abc.Process, port: int) -> None:
    with soon():
        while True:
            assert process.returncode is None, "the proxy has ended"
            try:
                stream = await anyio.connect_tcp("127.0.0.1", port)
            except OSError:
                await anyio.sleep(0.02)
            else:
                await stream.aclose()
                return


@asynccontextmanager
async def running(command: list[str], folder: Path, port: int) -> AsyncIterator[anyio.abc.Process]:
    env = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = await anyio.open_process(
            command, cwd=folder, env=env, stdin=None, stdout=log, stderr=log
        )
    try:
        await until_it_listens(process, port)
        yield process
    except BaseException:
        print((folder / "log").read_text())
        raise
    finally:
        with anyio.CancelScope(shield=True):
            process.terminate()
            await process.wait()
            await process.aclose()


@asynccontextmanager
async def nginx(folder: Path, upstream: int, port: int) -> AsyncIterator[Reload]:
    text = configuration("nginx")
    certificate = folder / "chain.pem"
    for page, here in {
        "127.0.0.1:8765": f"127.0.0.1:{upstream}",
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/ssl/app.example.pem": str(certificate),
        "/etc/ssl/app.example.key": str(folder / "key.pem"),
        "server_name app.example": "server_name localhost",
        "worker_shutdown_timeout 60s": "worker_shutdown_timeout 1s",
    }.items():
        assert page in text
        text = text.replace(page, here)
    # Where it may write, as nobody in particular.
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = text.replace("http {", f"http {{\naccess_log off;\n{places}", 1)
    (folder / "nginx.conf").write_text(text)
    settings = f"daemon off; pid {folder}/pid; error_log stderr;"
    command = [program("nginx"), "-p", str(folder), "-c", "nginx.conf", "-g", settings]
    async with running(command, folder, port) as process:
        yield lambda: process.send_signal(signal.SIGHUP)


@asynccontextmanager
async def caddy(folder: Path, upstream: int, port: int) -> AsyncIterator[Reload]:
    text = configuration("caddyfile")
    admin = free_port()
    assert text.startswith("app.example {\n")
    assert "127.0.0.1:8765" in text
    text = text.replace("127.0.0.1:8765", f"127.0.0.1:{upstream}").replace(
        "app.example {\n",
        f"{{\n\tadmin 127.0.0.1:{admin}\n\tauto_https disable_redirects\n\tskip_install_trust\n}}\n"
        f"https://localhost:{port} {{\n\ttls {folder}/chain.pem {folder}/key.pem\n",
    )
    file = folder / "Caddyfile"
    file.write_text(text)
    command = [program("caddy"), "run", "--config", str(file)]

    async with running(command, folder, port):
        async with anyio.create_task_group() as group:

            async def reload() -> None:
                # Caddy does nothing where nothing has changed, unless it has to.
                again = ["caddy", "reload", "--config", str(file), "--force"]
                await anyio.run_process(
                    [program("caddy"), *again[1:], "--address", f"127.0.0.1:{admin}"]
                )

            def begin() -> None:
                group.start_soon(reload)

            yield begin


@pytest.mark.parametrize("proxy", [nginx, caddy])
async def test_a_session_through_a_proxy_resumes_when_the_proxy_reloads(
    proxy: Proxy, tmp_path: Path
) -> None:
    certificate = Certificate(tmp_path)
    ticker = Ticker()
    port = free_port()
    changes: list[str] = []
    async with served([ticker], trusted_proxies=["127.0.0.1"]) as listener:
        upstream = int(listener.url.rstrip("/").rpartition(":")[2])
        async with proxy(tmp_path, upstream, port) as reload:
            async with wsrpc.connect(
                f"wss://localhost:{port}/rpc/",
                ssl=certificate.trusted,
                on_state=lambda _, change: changes.append(change.state),
            ) as session:
                assert await session.clientize(Ticker).address() == "127.0.0.1"
                read: list[int] = []
                async for n in session.clientize(Ticker, window=8).tick():
                    read.append(n)
                    if n == 100:
                        reload()
                        await until(lambda: "detached" in changes and changes[-1] == "connected")
                        ticker.go_on.set()
                assert read == list(range(ITEMS))
