"""wsrpc inside a FastAPI application that has its own users, and metrics, traces and health beside it.

To serve it, with a page at http://127.0.0.1:8000/::

    uvicorn examples.fastapi_app:app --ws websockets-sansio --ws-per-message-deflate false \\
        --ws-ping-interval 1000000 --ws-max-size 262144

Run as a program, `python examples/fastapi_app.py`, it does the same on a free port, tries everything
once, and ends::

    GET /me: ann
    whoami: ann
    bob sees 3 apples
    bob sees 5 apples
    bob restocks: permission_denied
    health: ok
    wsrpc_server_started_total{controller="Stock",kind="unary",method="whoami"} 1.0
    wsrpc_server_started_total{controller="Stock",kind="stream",method="watch"} 1.0
    wsrpc_server_started_total{controller="Stock",kind="unary",method="restock"} 2.0
"""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import anyio
import anyio.to_thread
import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import HTMLResponse
from fastapi.security import OAuth2PasswordBearer
from starlette.routing import WebSocketRoute

import wsrpc
from wsrpc.telemetry import otel

# ------------------------------------------------------------------------ the application itself


@dataclass(frozen=True)
class User:
    name: str
    may_restock: bool = False


TOKENS = {"ann's token": User("ann", may_restock=True), "bob's token": User("bob")}


def user_of(token: str) -> User | None:
    """The user of a token; an application would check a signature, or ask its database."""
    return TOKENS.get(token)


async def current_user(token: Annotated[str, Depends(OAuth2PasswordBearer("login"))]) -> User:
    """The dependency of the application's own routes."""
    user = user_of(token)
    if user is None:
        raise HTTPException(401, "no such token", {"WWW-Authenticate": "Bearer"})
    return user


# --------------------------------------------------------- additions for wsrpc


async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> wsrpc.Grant:
    """The same token: as `auth=`, or in the header that the other routes take."""
    token = auth or handshake.headers.get("authorization", "").removeprefix("Bearer ")
    user = user_of(token) if isinstance(token, str) else None
    if user is None:
        raise wsrpc.RpcError("unauthenticated", "no such token")
    return wsrpc.Grant(user, key=user.name)


async def authorize(call: wsrpc.CallContext[User]) -> bool:
    return "restock" not in call.tags or call.principal.may_restock


class Stock:
    """The stock of the shop, told to all viewers as it changes."""

    def __init__(self) -> None:
        self.apples = 3
        self._changed = anyio.Event()

    @wsrpc.method
    async def whoami(self) -> str:
        """The name of the caller."""
        return wsrpc.current(User).principal.name

    @wsrpc.method(tags={"restock"})
    async def restock(self, apples: int) -> int:
        """Add apples; for callers with the role."""
        self.apples += apples
        self._changed.set()
        self._changed = anyio.Event()
        return self.apples

    @wsrpc.method(on_drain="end")
    async def watch(self) -> AsyncIterator[int]:
        """The number of apples, now and after each change."""
        while True:
            changed = self._changed
            yield self.apples
            await changed.wait()


PAGE = """<!doctype html>
<title>Stock</title>
<link rel="icon" href="data:,">
<p>Apples: <output id="apples">…</output>
<script type="module">
import { connect } from "./rpc/wsrpc.js";
const url = location.href.replace("http", "ws").replace(/[^/]*$/, "rpc");
const stock = connect(url, { auth: "bob's token" }).clientize("Stock");
for await (const apples of stock.watch()) document.querySelector("#apples").value = apples;
</script>
"""


def create_server(
    *, metrics: Any = True, tracing: otel.Instrumentation | None = None
) -> wsrpc.Server:
    """The controllers, and the callers that may call them.

    Args:
        metrics: True for the registry of the process, or a registry.
        tracing: Makes the spans; OpenTelemetry's global provider gets them if left out.
    """
    tracing = tracing or otel.instrument()
    return wsrpc.Server(
        [Stock()],
        authenticate=authenticate,
        authorize=authorize,
        metrics=metrics,
        observers=[tracing.observer],
    )


def create_app(server: wsrpc.Server) -> FastAPI:
    """The application: its own routes, and wsrpc at /rpc."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Sessions live here, not in the requests that began them; SIGTERM drains.
        async with server.running():
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/me")
    async def me(user: Annotated[User, Depends(current_user)]) -> str:
        return user.name

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return PAGE

    rpc = server.asgi()
    # A mount at "/rpc" matches "/rpc/" only; the route takes requests without the slash.
    app.router.routes.append(WebSocketRoute("/rpc", rpc))
    # Here are /rpc/healthz, /rpc/readyz, /rpc/metrics, /rpc/wsrpc.js and the explorer too.
    app.mount("/rpc", rpc)
    return app


server = create_server()
app = create_app(server)


# ---------------------------------------------------------------- each of it once


async def fetch(url: str, token: str = "") -> str:
    def read() -> str:
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    return await anyio.to_thread.run_sync(read)


async def visit(address: str) -> list[str]:
    """Use the application; returns lines about its answers."""
    me = await fetch(f"http://{address}/me", "ann's token")
    seen = [f"GET /me: {json.loads(me)}"]
    async with (
        wsrpc.connect(f"ws://{address}/rpc", auth="ann's token") as ann,
        wsrpc.connect(f"ws://{address}/rpc/", auth="bob's token") as bob,
    ):
        seen.append(f"whoami: {await ann.clientize(Stock).whoami()}")
        async with bob.clientize(Stock).watch() as apples:
            seen.append(f"bob sees {await anext(apples)} apples")
            await ann.clientize(Stock).restock(apples=2)
            seen.append(f"bob sees {await anext(apples)} apples")
        try:
            await bob.clientize(Stock).restock(apples=100)
        except wsrpc.RpcError as error:
            seen.append(f"bob restocks: {error.code}")
    seen.append(f"health: {await fetch(f'http://{address}/rpc/healthz')}")
    metrics = await fetch(f"http://{address}/rpc/metrics")
    seen += [line for line in metrics.splitlines() if line.startswith("wsrpc_server_started_total")]
    return seen


async def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        config = uvicorn.Config(
            app,
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            ws_ping_interval=None,
            ws_max_size=server.limits.max_batch,
            log_level="warning",
        )
        host = uvicorn.Server(config)
        async with anyio.create_task_group() as group:
            group.start_soon(host.serve, [bound])
            while not host.started:  # noqa: ASYNC110  (uvicorn has no event for it)
                await anyio.sleep(0.01)
            for line in await visit(f"127.0.0.1:{bound.getsockname()[1]}"):
                print(line)
            host.should_exit = True


if __name__ == "__main__":
    anyio.run(main)
