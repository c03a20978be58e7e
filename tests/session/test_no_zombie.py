"""No exception of user code leaves a server that neither serves nor ends."""

from __future__ import annotations

from typing import Any

import pytest

import wsrpc
from tests.support import error_of, served, until

pytestmark = pytest.mark.usefixtures("transport")


class Work:
    @wsrpc.method
    async def echo(self, value: str) -> str:
        return value


class Exotic(BaseException):
    pass


@pytest.mark.parametrize("kind", [SystemExit, Exotic, GeneratorExit])
async def test_no_exception_of_authenticate_authorize_or_on_state_leaves_a_zombie(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    faulty: set[str] = set()

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> Any:
        if "authenticate" in faulty:
            raise kind(3)
        return auth

    async def authorize(context: wsrpc.CallContext) -> bool:
        if "authorize" in faulty:
            raise kind(3)
        return True

    def on_state(session: wsrpc.Session, change: Any) -> None:
        if "on_state" in faulty:
            raise kind(3)

    async with served(
        [Work()], authenticate=authenticate, authorize=authorize, on_state=on_state
    ) as listener:
        async with wsrpc.connect(listener.url, auth="ann") as before:
            work = before.clientize(Work)
            faulty.add("authenticate")
            with pytest.raises(wsrpc.ConnectError) as caught:
                async with wsrpc.connect(listener.url, auth="bob"):
                    pytest.fail("let in")
            assert caught.value.close_code == 4501
            assert await work.echo("x") == "x"
            faulty.clear()
            faulty.add("authorize")
            with error_of("internal"):
                await work.echo("x")
            faulty.clear()
            faulty.add("on_state")
            async with wsrpc.connect(listener.url, auth="bob") as session:
                assert await session.clientize(Work).echo("x") == "x"
            await until(lambda: len(listener.server.sessions) == 1)
            faulty.clear()
            assert await work.echo("x") == "x"
    assert "on_state raised" in caplog.text
    caplog.clear()
