"""What sessions do, once more over ASGI: on uvicorn, and on trio on hypercorn."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest

import wsrpc
from tests.session import test_endings, test_exiting_tasks
from tests.support import soon
from wsrpc.transport.websockets.link import on_asyncio

from .asgi_hosts import on_hypercorn, on_uvicorn

MODULES = [
    import_module(f"tests.session.test_{subject}")
    for subject in (
        "authorize",
        "bad_input",
        "callbacks",
        "calls",
        "cancellation",
        "chunks",
        "closing",
        "context",
        "controllers",
        "deadlines",
        "endings",
        "errors",
        "exiting_tasks",
        "feeds",
        "fetchers",
        "given_back",
        "interceptors",
        "overflow",
        "retry",
        "slots",
        "streams",
        "threads",
        "uploads",
        "wrapped_streams",
    )
]

pytestmark = pytest.mark.slow

# Fixtures of those modules.
error = test_endings.error
way = test_exiting_tasks.way

# They cut a link in memory.
IN_MEMORY = ("test_pending_calls_fail_with_unavailable_and_handlers_clean_up",)


@asynccontextmanager
async def pair(
    controllers: Sequence[Any] = (),
    client_controllers: Sequence[Any] = (),
    *,
    codec: Any = "json",
    limits: wsrpc.Limits | None = None,
    client_limits: wsrpc.Limits | None = None,
    interceptors: Sequence[Any] = (),
    client_interceptors: Sequence[Any] = (),
    authorize: Any = None,
    client_authorize: Any = None,
    debug: bool = False,
    principal: Any = None,
) -> AsyncIterator[tuple[wsrpc.Session, wsrpc.Session]]:
    """As `tests.support.pair`, over an ASGI server."""

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> Any:
        return principal

    server = wsrpc.Server(
        controllers,
        limits=replace(limits or wsrpc.Limits(), resume_window=0),
        authenticate=authenticate,
        authorize=authorize,
        interceptors=interceptors,
        debug=debug,
    )
    host = on_uvicorn if on_asyncio() else on_hypercorn
    with soon():
        async with host(server.asgi()) as address:
            async with wsrpc.connect(
                f"ws://{address}/",
                controllers=client_controllers,
                codec=codec,
                limits=client_limits or limits,
                authorize=client_authorize,
                interceptors=client_interceptors,
                debug=debug,
                reconnect=False,
            ) as client:
                yield server.sessions[client.id], client


def _uses_pair(test: Any) -> bool:
    """Whether a test gets its sessions from `pair`, on any event loop, and without a look inside."""
    return (
        inspect.iscoroutinefunction(test)
        and "pair(" in inspect.getsource(test)
        and not {"wire", "anyio_backend"} & set(inspect.signature(test).parameters)
        and not any("anyio_backend" in mark.args for mark in getattr(test, "pytestmark", ()))
    )


def _tests() -> dict[str, Any]:
    return {
        f"{name}_{module.__name__.rpartition('_')[2]}": test
        for module in MODULES
        for name, test in vars(module).items()
        if name.startswith("test_") and name not in IN_MEMORY and _uses_pair(test)
    }


@pytest.fixture(autouse=True)
def _over_asgi(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    module: ModuleType
    for module in MODULES:
        monkeypatch.setattr(module, "pair", pair)


globals().update(_tests())
