"""What operators see of a cluster: over the socket, and from the command line."""

from __future__ import annotations

import anyio
import pytest

import wsrpc
from tests.support import error_of
from wsrpc.cli.cluster_command import nodes, presence
from wsrpc.cli.connection import Target
from wsrpc.cli.failures import Failure
from wsrpc.cli.output import Output
from wsrpc.cluster import Cluster


async def authenticate(handshake: object, auth: str) -> str:
    return auth


def is_root(context: wsrpc.CallContext) -> bool:
    return bool(context.session.principal == "root")


async def is_root_slowly(context: wsrpc.CallContext) -> bool:
    await anyio.sleep(0)
    return is_root(context)


@pytest.mark.parametrize("operators", [is_root, is_root_slowly, None])
async def test_only_operators_may_ask_about_a_cluster(operators: object) -> None:
    server = wsrpc.Server([], authenticate=authenticate)
    with anyio.fail_after(10):
        async with (
            Cluster(server, operators=operators) as cluster,  # type: ignore[arg-type]
            server.listen() as listener,
            wsrpc.connect(listener.url, auth="root") as root,
            wsrpc.connect(listener.url, auth="ann") as ann,
        ):
            await cluster.group("room").join(ann.id)
            denied = [ann] if operators is not None else [ann, root]
            for session in denied:
                with error_of("permission_denied"):
                    await session.clientize("wsrpc.cluster").nodes()
                with error_of("permission_denied"):
                    await session.clientize("wsrpc.cluster").presence().collect()
            if operators is not None:
                (node,) = await root.clientize("wsrpc.cluster").nodes()
                assert (node["id"], node["here"], node["load"]) == (cluster.id, True, 2)
                (batch,) = await root.clientize("wsrpc.cluster").presence(group="room").collect()
                assert [one["session"] for one in batch] == [ann.id]


async def test_the_commands_list_nodes_and_sessions(capfd: pytest.CaptureFixture[str]) -> None:
    server = wsrpc.Server([], authenticate=authenticate)
    with anyio.fail_after(10):
        async with (
            Cluster(server, operators=is_root, meta={"zone": "a"}) as cluster,
            server.listen() as listener,
            wsrpc.connect(listener.url, auth="ann") as ann,
        ):
            await cluster.group("room").join(ann.id)
            root = Target(listener.url, auth="root")
            await nodes(root, Output(), as_json=False)
            assert f"{cluster.id}  up" in (said := capfd.readouterr().out)
            assert "zone=a" in said
            await presence(root, Output(), "room", None, as_json=False)
            said = capfd.readouterr().out
            assert ann.id in said
            assert "s:ann" in said
            assert "in room" in said
            await presence(root, Output(), None, "s:bob", as_json=False)
            assert "nobody" in capfd.readouterr().out
            with error_of("permission_denied"):
                await nodes(Target(listener.url, auth="ann"), Output(), as_json=True)


async def test_a_server_that_is_no_node_is_said_to_be_none() -> None:
    with anyio.fail_after(10):
        async with wsrpc.Server([]).listen() as listener:
            with pytest.raises(Failure, match="no node of a cluster"):
                await nodes(Target(listener.url), Output(), as_json=True)
