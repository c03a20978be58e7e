"""A minimal balancer: it passes connections in turn to the nodes that take them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import anyio
from anyio.abc import SocketAttribute, SocketStream, TaskStatus

__all__ = ["balance"]


async def balance(
    nodes: Callable[[], Sequence[str]], *, task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Pass connections on to nodes.

    Args:
        nodes: The URLs of the nodes, dead ones among them.
        task_status: Gets the URL of the balancer.
    """
    turn = 0

    async def take(client: SocketStream) -> None:
        nonlocal turn
        turn += 1
        urls = nodes()
        async with client:
            for i in range(len(urls)):
                place = urlsplit(urls[(turn + i) % len(urls)])
                try:
                    node = await anyio.connect_tcp(str(place.hostname), place.port or 80)
                except OSError:
                    continue
                async with node, anyio.create_task_group() as group:
                    group.start_soon(pump, client, node, group.cancel_scope)
                    group.start_soon(pump, node, client, group.cancel_scope)
                return

    async def pump(source: SocketStream, sink: SocketStream, both: anyio.CancelScope) -> None:
        try:
            async for data in source:
                await sink.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        both.cancel()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", family=socket.AF_INET)
    async with listener:
        port = listener.extra(SocketAttribute.local_port)
        task_status.started(f"ws://127.0.0.1:{port}")
        await listener.serve(take)
