"""A whole server in memory: what holds on a port holds here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import anyio
import pytest

import wsrpc
import wsrpc.testing
from tests.support import error_of, soon


class Shop:
    def __init__(self) -> None:
        self.orders: list[str] = []
        self.left: list[str] = []

    @wsrpc.method
    async def order(self, what: str) -> str:
        self.orders.append(what)
        return f"{what} for {wsrpc.current().principal}"

    @wsrpc.method(tags={"staff"})
    async def close_down(self) -> None:
        self.orders.append("closed")

    @wsrpc.method
    async def browse(self) -> AsyncIterator[int]:
        try:
            for number in range(1_000_000):
                yield number
        finally:
            await anyio.sleep(0.01)
            self.left.append("browse")

    @wsrpc.method
    async def wait(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            self.left.append("wait")

    @wsrpc.method(oneway=True)
    async def remark(self, text: str) -> None:
        await anyio.sleep(0.01)
        self.orders.append(text)

    @wsrpc.method
    async def ask(self) -> bool:
        return bool(await wsrpc.current().session.clientize("Till").confirm(amount=3))


class Till:
    @wsrpc.method
    async def confirm(self, amount: int) -> bool:
        return amount < 5


async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> str:
    if auth not in ("ann", "bob"):
        raise wsrpc.RpcError("unauthenticated", "ann and bob may come in")
    return str(auth)


async def authorize(context: wsrpc.CallContext[Any]) -> bool:
    return "staff" not in context.tags or context.principal == "bob"


def shop_server(shop: Shop | None = None, **options: Any) -> wsrpc.Server:
    options = {"authenticate": authenticate, "authorize": authorize, **options}
    return wsrpc.Server([shop or Shop()], **options)


async def test_clients_have_their_own_credentials(codec: Any) -> None:
    with soon():
        async with wsrpc.testing.server(shop_server()) as host:
            async with (
                host.connect(auth="ann", codec=codec) as ann,
                host.connect(auth="bob", codec=codec) as bob,
            ):
                assert await ann.clientize(Shop).order("tea") == "tea for ann"
                assert await bob.clientize(Shop).order("tea") == "tea for bob"
                assert {one.principal for one in host.sessions.values()} == {"ann", "bob"}
                assert host.session_of(bob).principal == "bob"
                with error_of("permission_denied"):
                    await ann.clientize(Shop).close_down()
                await bob.clientize(Shop).close_down()
            await host.settled()
            assert not host.sessions
            with pytest.raises(LookupError):
                host.session_of(bob)


async def test_whom_authenticate_refuses_does_not_come_in() -> None:
    with soon():
        async with wsrpc.testing.server(shop_server()) as host:
            with pytest.raises(wsrpc.ConnectError, match="ann and bob may come in") as caught:
                async with host.connect(auth="eve"):
                    pass
            assert caught.value.close_code == 4501


async def test_a_page_of_another_origin_is_refused_as_on_a_port() -> None:
    server = shop_server(origins=["https://app.example"])
    with soon():
        async with wsrpc.testing.server(server) as host:
            with pytest.raises(wsrpc.ConnectError, match="HTTP 403") as caught:
                async with host.connect(auth="ann", headers={"Origin": "https://evil.example"}):
                    pass
            assert caught.value.status == 403
            page = {"Origin": "https://app.example"}
            async with host.connect(auth="ann", headers=page, path="/rpc?x=1") as session:
                handshake = host.session_of(session).handshake
                assert handshake.headers["origin"] == "https://app.example"
                assert (handshake.path, handshake.address) == ("/rpc?x=1", "127.0.0.1")


async def test_a_revoked_principal_is_gone_and_the_others_stay() -> None:
    with soon():
        async with wsrpc.testing.server(shop_server()) as host:
            async with host.connect(auth="ann") as ann, host.connect(auth="bob") as bob:
                assert host.server.revoke("bob") == 1
                assert (await bob.wait_closed()).close_code == 4501
                assert await ann.clientize(Shop).order("tea") == "tea for ann"


async def test_a_drain_lets_calls_finish_and_refuses_newcomers() -> None:
    with soon():
        async with wsrpc.testing.server(shop_server()) as host:
            async with host.connect(auth="ann", reconnect=False) as ann:
                async with anyio.create_task_group() as group:
                    stream = ann.clientize(Shop).browse()
                    assert await anext(stream) == 0
                    group.start_soon(host.server.drain)
                    async with aclosing(ann.states()) as states:
                        async for change in states:
                            if change.state == "draining":
                                break
                    with pytest.raises(wsrpc.ConnectError, match="HTTP 503"):
                        async with host.connect(auth="bob"):
                            pass
                    assert await anext(stream) == 1
                    await stream.aclose()
                assert (await ann.wait_closed()).close_code == 1012
            with pytest.raises(wsrpc.ConnectError, match="HTTP 503"):
                async with host.connect(auth="bob"):
                    pass


async def test_clients_have_their_own_limits() -> None:
    with soon():
        async with wsrpc.testing.server(shop_server()) as host:
            narrow = wsrpc.Limits(max_value=64 * 1024)
            async with (
                host.connect(auth="ann", limits=narrow) as ann,
                host.connect(auth="bob") as bob,
            ):
                with error_of("resource_exhausted"):
                    await ann.clientize(Shop).order("x" * 70_000)
                await bob.clientize(Shop).order("x" * 70_000)


async def test_too_many_of_one_address_are_refused() -> None:
    server = shop_server(limits=wsrpc.Limits(max_links_per_address=1))
    with soon():
        async with wsrpc.testing.server(server) as host:
            async with host.connect(auth="ann", address="192.0.2.1"):
                with pytest.raises(wsrpc.ConnectError):
                    async with host.connect(auth="ann", address="192.0.2.1"):
                        pass
                async with host.connect(auth="ann", address="192.0.2.2"):
                    pass


async def test_faults_are_those_of_one_client() -> None:
    shop = Shop()
    faults = wsrpc.testing.Faults()
    with soon():
        async with wsrpc.testing.server(shop_server(shop)) as host:
            async with (
                host.connect(auth="ann", faults=faults) as ann,
                host.connect(auth="bob") as bob,
            ):
                faults.cut(before="result")
                assert await ann.clientize(Shop).order("tea") == "tea for ann"
                assert await bob.clientize(Shop).order("tea") == "tea for bob"
                assert faults.cuts == 1
                assert shop.orders == ["tea", "tea"]


async def test_a_client_with_a_stalled_connection_can_leave() -> None:
    faults = wsrpc.testing.Faults()
    with soon():
        async with wsrpc.testing.server(shop_server()) as host:
            async with host.connect(auth="ann", faults=faults) as ann:
                await ann.clientize(Shop).order("tea")
                faults.stall()


async def test_the_server_calls_its_clients() -> None:
    with soon():
        async with wsrpc.testing.server(shop_server()) as host:
            async with host.connect(auth="ann", controllers=[Till()]) as ann:
                assert await ann.clientize(Shop).ask() is True
            assert host.calls.codes("Till.confirm", "outbound") == ["ok"]


async def test_credentials_may_be_a_function_and_headers_too() -> None:
    async def token() -> str:
        return "ann"

    async def headers() -> dict[str, str]:
        return {"X-Trace": "7"}

    with soon():
        async with wsrpc.testing.server(shop_server()) as host:
            async with host.connect(auth=token, headers=headers) as ann:
                assert host.session_of(ann).handshake.headers["x-trace"] == "7"


async def test_leaving_closes_what_is_left_and_a_host_serves_once() -> None:
    host = wsrpc.testing.server(shop_server())
    with soon():
        codes: list[int] = []
        async with anyio.create_task_group() as group:
            entered = anyio.Event()

            async def visit() -> None:
                async with host.connect(auth="ann", reconnect=False) as session:
                    entered.set()
                    codes.append((await session.wait_closed()).close_code)

            async with host:
                group.start_soon(visit)
                await entered.wait()
        assert codes == [1001]
        with pytest.raises(RuntimeError, match="serves once"):
            await host.__aenter__()
        with pytest.raises(RuntimeError, match="enter wsrpc"):
            async with wsrpc.testing.server(shop_server()).connect(auth="ann", reconnect=False):
                pass


# ------------------------------------------------------------------------------ waiting, recording


def test_a_list_of_controllers_is_refused_saying_what_to_write() -> None:
    controllers: Any = [object()]
    with pytest.raises(TypeError, match=r"write wsrpc\.testing\.server\(wsrpc\.Server\("):
        wsrpc.testing.server(controllers)


async def test_a_test_can_wait_until_the_far_sides_cleanup_has_run() -> None:
    shop = Shop()
    with soon():
        async with wsrpc.testing.server(shop_server(shop)) as host:
            async with host.connect(auth="ann") as ann:
                async with anyio.create_task_group() as group:
                    group.start_soon(ann.clientize(Shop).wait)
                    await host.calls.started("Shop.wait")
                    group.cancel_scope.cancel()
                await host.settled()
                assert shop.left == ["wait"]
                async with ann.clientize(Shop).browse() as stream:
                    await anext(stream)
                await host.settled()
                assert shop.left == ["wait", "browse"]
                await ann.clientize(Shop).remark("fine")
                await host.settled()
                assert shop.orders == ["fine"]
        assert [call.code for call in host.calls.calls if call.direction == "inbound"] == [
            "cancelled",
            "cancelled",
            "ok",
        ]


async def test_it_waits_for_messages_that_are_slow() -> None:
    shop = Shop()
    faults = wsrpc.testing.Faults()
    with soon():
        async with wsrpc.testing.server(shop_server(shop)) as host:
            async with host.connect(auth="ann", faults=faults) as ann:
                faults.delay(0.05)
                await ann.clientize(Shop).remark("late")
                await host.settled()
                assert shop.orders == ["late"]


async def test_it_waits_for_on_disconnect() -> None:
    gone: list[Any] = []

    async def on_disconnect(session: wsrpc.Session) -> None:
        await anyio.sleep(0.02)
        gone.append(session.principal)

    async def on_connect(session: wsrpc.Session) -> None:
        """Both are called, or none."""

    server = shop_server(on_connect=on_connect, on_disconnect=on_disconnect)
    with soon():
        async with wsrpc.testing.server(server) as host:
            async with host.connect(auth="bob"):
                async with host.connect(auth="ann"):
                    pass
                await host.settled()
                assert gone == ["ann"]


async def test_the_recorder_notes_each_call_and_how_it_ended() -> None:
    calls = wsrpc.testing.Recorder()
    server = shop_server(interceptors=[calls])
    with soon():
        async with wsrpc.testing.server(server, calls=calls) as host:
            async with host.connect(auth="ann", metadata={"trace": "1"}) as ann:
                shop = ann.clientize(Shop)
                await shop.order("tea")
                with error_of("permission_denied"):
                    await shop.close_down()
                with error_of("unimplemented"):
                    await ann.clientize("Shop").steal()
                async with shop.browse() as stream:
                    for _ in range(3):
                        await anext(stream)
                await host.settled()
    assert [(one.name, one.code) for one in calls.calls if one.direction == "inbound"] == [
        ("Shop.order", "ok"),
        ("Shop.close_down", "permission_denied"),
        ("Shop.steal", "unimplemented"),
        ("Shop.browse", "cancelled"),
    ]
    order = calls.of("Shop.order", "inbound")[0]
    assert order.arguments == {"what": "tea"}
    assert (order.principal, order.metadata, order.kind) == ("ann", {"trace": "1"}, "unary")
    assert calls.of("Shop.close_down", "inbound")[0].refused
    assert calls.of("Shop.browse", "outbound")[0].items_received >= 3
    assert calls.of("Shop.browse", "inbound")[0].items_sent >= 3
    assert not calls.live
    calls.clear()
    assert calls.calls == []


async def test_on_a_real_port_the_recorder_tells_when_a_call_is_over() -> None:
    shop = Shop()
    calls = wsrpc.testing.Recorder(keep=2)
    server = wsrpc.Server([shop], observers=[calls])
    with soon():
        async with server.listen() as listener, wsrpc.connect(listener.url) as session:
            async with anyio.create_task_group() as group:
                group.start_soon(session.clientize(Shop).wait)
                await calls.started("Shop.wait")
                group.cancel_scope.cancel()
            (over,) = await calls.ended("Shop.wait")
            assert (over.code, shop.left) == ("cancelled", ["wait"])
            await calls.idle()
            for _ in range(5):
                await session.clientize(Shop).order("tea")
            assert len(calls.calls) == 2


async def test_an_observer_is_told_while_the_block_runs() -> None:
    server = shop_server(authenticate=None)
    calls = wsrpc.testing.Recorder()
    with soon():
        async with wsrpc.testing.server(server) as host:
            with server.observe(calls):
                async with host.connect() as session:
                    await session.clientize(Shop).order("tea")
                    await host.settled()
            async with host.connect() as session:
                await session.clientize(Shop).order("tea")
                await host.settled()
    assert calls.codes("Shop.order") == ["ok"]
