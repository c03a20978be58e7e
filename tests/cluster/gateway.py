"""A server whose every call is passed on to a session of another node: for whole suites of cases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import anyio

import wsrpc
from tests.support import live, until
from wsrpc.cluster import Cluster, ClusterLimits, LocalBroker, LocalBus
from wsrpc.cluster.bus.base import Bus
from wsrpc.cluster.network import Network
from wsrpc.cluster.relay import TO, Inbound, Relay
from wsrpc.handling.live import LiveCalls
from wsrpc.interop.service import Interop
from wsrpc.protocol.lanes import InCall


class Onward(Inbound):
    """A call on its way to a session of another node."""

    def __init__(self, relay: Everything, calls: LiveCalls, call: InCall) -> None:
        super().__init__(relay, calls, call)
        self.everything = relay

    def on_arguments(self) -> None:
        to = self.everything.to[self.hub.codec.name][-1]
        meta = {**(self.call.metadata or {}), TO: to}
        self.send(self.everything.network.hub_to(to), str(self.call.method), meta)


class Everything(Relay):
    """Passes all calls on, to a session that speaks the caller's codec."""

    def __init__(self, network: Network, to: Mapping[str, list[str]]) -> None:
        relay = network.relay
        super().__init__(relay.find, relay.enter, relay.limits, relay.events)
        self.network = network
        self.to = to

    def __call__(self, calls: LiveCalls, call: InCall, complete: bool) -> bool:
        Onward(self, calls, call).start(complete)
        return True


class Counted:
    """What the service counts: calls that are passed on last as long as their handlers."""

    def __init__(self, server: wsrpc.Server, onward: list[Everything]) -> None:
        self._server = server
        self._onward = onward
        self._peak = 0

    def snapshot(self) -> wsrpc.Snapshot:
        live = self._onward[0].live
        self._peak = max(self._peak, live)
        return replace(
            self._server.snapshot(), calls_live=live, calls_peak=self._peak, generators_open=live
        )


@asynccontextmanager
async def gateway(
    buses: tuple[Bus, Bus] | None = None,
    observers: Sequence[wsrpc.Observer] = (),
    cluster_limits: ClusterLimits | None = None,
    **options: Any,
) -> AsyncIterator[str]:
    """The URL of a server that stands for clients of another node, which expose `Interop`.

    A call of such a client to its own server goes the other way, to the newest session of that URL.

    Args:
        buses: The buses of the two nodes.
        observers: The observers of the node that has those clients.
        cluster_limits: The bounds of both nodes.
        options: For the server that stands for them.
    """
    if buses is None:
        broker = LocalBroker()
        buses = LocalBus(broker), LocalBus(broker)
    onward: list[Everything] = []
    callers: dict[str, list[str]] = {"json": [], "msgpack": []}

    def changed(session: wsrpc.Session, change: Any) -> None:
        wire = live(session).wire
        of_codec = callers[wire.hub.codec.name]
        if change.state == "connected":
            if session.id not in of_codec:
                of_codec.append(session.id)
            wire.relay_calls(onward[0])
        elif change.state == "closed":
            of_codec.remove(session.id)

    service = Interop()
    near = wsrpc.Server([], on_state=changed, **options)
    far = wsrpc.Server([], observers=observers)
    service.server = cast(wsrpc.Server, Counted(near, onward))
    async with (
        Cluster(near, buses[0], limits=cluster_limits) as here,
        Cluster(far, buses[1], limits=cluster_limits) as there,
        far.listen() as listener,
        near.listen() as front,
        wsrpc.connect(listener.url, controllers=[service], codec="json") as json,
        wsrpc.connect(listener.url, controllers=[service], codec="msgpack") as msgpack,
    ):
        with anyio.fail_after(10):
            await until(lambda: there.id in here.nodes and here.id in there.nodes)
        assert here.network is not None
        assert there.network is not None
        onward.append(Everything(here.network, {"json": [json.id], "msgpack": [msgpack.id]}))
        back = Everything(there.network, callers)
        for session in far.sessions.values():
            live(session).wire.relay_calls(back)
        yield front.url
