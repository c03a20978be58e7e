"""No exception of user code leaves a server that neither serves nor ends."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anyio
import pytest

import wsrpc
from tests.proxy import resetting_proxy
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


async def cancelled_by_hand(*_: Any) -> Any:
    """Raise what cancels tasks, though nobody cancels this one."""
    kind: Any = anyio.get_cancelled_exc_class()
    raise kind._create(source="explicit") if hasattr(kind, "_create") else kind


@pytest.mark.parametrize("where", ["authenticate", "on_connect", "on_disconnect"])
@pytest.mark.parametrize("kind", [None, SystemExit, Exotic])
async def test_a_cancelled_exception_raised_by_hand_or_an_odd_one_ends_no_task_silently(
    where: str, kind: type[BaseException] | None, caplog: pytest.LogCaptureFixture
) -> None:
    faulty = True

    async def fails(*args: Any) -> None:
        if faulty and kind is not None:
            raise kind(3)
        if faulty:
            await cancelled_by_hand()

    options: dict[str, Any] = {where: fails}
    async with served([Work()], **options) as listener:
        if where == "authenticate":
            with pytest.raises(wsrpc.ConnectError) as caught:
                async with wsrpc.connect(listener.url):
                    pytest.fail("let in")
            assert caught.value.close_code == 4501
        else:
            # A client that `on_connect` closes may not have seen the hello yet.
            with suppress(wsrpc.ConnectError):
                async with wsrpc.connect(listener.url, reconnect=False) as session:
                    if where == "on_connect":
                        await until(lambda: session.closed)
        await until(lambda: f"{where} raised" in caplog.text)
        faulty = False
        async with wsrpc.connect(listener.url) as session:
            assert await session.clientize(Work).echo("x") == "x"
    caplog.clear()


@pytest.mark.parametrize("option", ["auth", "url", "headers"])
async def test_neither_does_one_of_auth_url_or_headers(option: str) -> None:
    async with served([Work()]) as listener:
        options: dict[str, Any] = {"url": listener.url, option: cancelled_by_hand}
        with pytest.raises(RuntimeError, match=f"{option}= raised Cancelled"):
            async with wsrpc.connect(**options):
                pytest.fail("let in")


class Unspeakable(Exception):
    """An error without a text."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def raises(kind: type[BaseException]) -> BaseException:
    return BaseExceptionGroup("several", [kind(3), ValueError()]) if kind is Exotic else kind(3)


class Principal:
    """A principal whose own functions may raise."""

    def __init__(self, kind: type[BaseException], faulty: set[str]) -> None:
        self.kind = kind
        self.faulty = faulty

    def check(self, function: str) -> None:
        if function in self.faulty:
            raise raises(self.kind)

    @property
    def sub(self) -> str | None:
        self.check("sub")
        return "ann" if "key" in self.faulty else None

    def __hash__(self) -> int:
        self.check("hash")
        return 1

    def __eq__(self, other: object) -> bool:
        self.check("eq")
        return isinstance(other, Principal)


@pytest.mark.parametrize("kind", [SystemExit, Exotic, GeneratorExit, Unspeakable, StopIteration])
@pytest.mark.parametrize("function", ["sub", "hash", "eq"])
async def test_no_exception_of_a_principals_own_functions_leaves_a_zombie(
    function: str, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    faulty: set[str] = set()

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> Any:
        return Principal(kind, faulty)

    async with served([Work()], authenticate=authenticate) as listener:
        async with wsrpc.connect(listener.url) as before:
            faulty.add(function)
            if function == "sub":
                with pytest.raises(wsrpc.ConnectError) as caught:
                    async with wsrpc.connect(listener.url):
                        pytest.fail("let in")
                assert caught.value.close_code == 4501
            else:
                # It counts as another principal than all others.
                async with wsrpc.connect(listener.url) as session:
                    assert await session.clientize(Work).echo("x") == "x"
                    assert listener.server.revoke("somebody else") == 0
            assert await before.clientize(Work).echo("x") == "x"
        await until(lambda: not listener.server.sessions)
        faulty.clear()
        async with wsrpc.connect(listener.url) as session:
            assert await session.clientize(Work).echo("x") == "x"
    assert "raised" in caplog.text
    caplog.clear()


@pytest.mark.parametrize(
    "kind",
    [
        Exotic,
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in (GeneratorExit, Unspeakable)),
    ],
)
@pytest.mark.parametrize("option", ["auth", "url", "headers"])
async def test_an_odd_exception_of_auth_url_or_headers_is_a_failed_attempt_to_come_back(
    option: str,
    kind: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("wsrpc.backoff.FIRST", 0.01)
    faulty: set[str] = set()
    changes: list[wsrpc.StateChange] = []

    async with served([Work()]) as listener, resetting_proxy(listener.url) as proxy:

        async def found() -> Any:
            if faulty:
                raise raises(kind)
            return {"auth": "ann", "url": proxy.url, "headers": {}}[option]

        def on_state(session: wsrpc.Session, change: wsrpc.StateChange) -> None:
            changes.append(change)

        options: dict[str, Any] = {"url": proxy.url, option: found}
        async with wsrpc.connect(**options, on_state=on_state) as session:
            faulty.add(option)
            proxy.reset()
            await until(lambda: any(change.attempt > 1 for change in changes))
            faulty.clear()
            assert await session.clientize(Work).echo("x") == "x"
        told = [change.error for change in changes if change.attempt]
        assert all(isinstance(error, Exception) for error in told)
    assert f"{option}= raised" in caplog.text
    caplog.clear()


@pytest.mark.parametrize("option", ["auth", "url", "headers"])
async def test_an_exception_without_a_text_reaches_the_code_that_connects(option: str) -> None:
    async def found() -> Any:
        raise Unspeakable

    async with served([Work()]) as listener:
        options: dict[str, Any] = {"url": listener.url, option: found}
        with pytest.raises(Unspeakable):
            async with wsrpc.connect(**options):
                pytest.fail("let in")


async def test_an_exception_without_a_text_is_an_internal_error_with_debug_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        @wsrpc.method
        async def fail(self) -> None:
            raise Unspeakable

    async with served([Broken()], debug=True) as listener:
        async with wsrpc.connect(listener.url) as session:
            with error_of("internal") as caught:
                await session.clientize(Broken).fail()
            assert "Unspeakable" in caught.value.message
    caplog.clear()
