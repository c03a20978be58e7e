"""A server whose every call is passed on to a session of another node: for whole suites of cases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import anyio

import wsrpc
from tests.support import Codec, live, until
from wsrpc.cluster import Cluster, LocalBroker, LocalBus
from wsrpc.cluster.bus.base import Bus
from wsrpc.cluster.network import Network
from wsrpc.cluster.relay import TO, Inbound, Relay
from wsrpc.handling.live import LiveCalls
from wsrpc.interop.service import Interop, Partner
from wsrpc.protocol.lanes import InCall


class Onward(Inbound):
    """A call of a client, on its way to a session of another node."""

    def __init__(self, relay: Everything, calls: LiveCalls, call: InCall) -> None:
        super().__init__(relay, calls, call)
        self.everything = relay

    def on_arguments(self) -> None:
        everything = self.everything
        meta = {**(self.call.metadata or {}), TO: everything.to}
        self.send(everything.network.hub_to(everything.to), str(self.call.method), meta)


class Everything(Relay):
    """Passes all calls on."""

    def __init__(self, network: Network, to: str) -> None:
        super().__init__(network.relay.find, network.relay.enter, network.relay.limits)
        self.network = network
        self.to = to

    def __call__(self, calls: LiveCalls, call: InCall, complete: bool) -> bool:
        Onward(self, calls, call).start(complete)
        return True


class Counted:
    """What the service counts: calls that are passed on last as long as their handlers."""

    def __init__(self, server: wsrpc.Server, targets: list[Everything]) -> None:
        self._server = server
        self._targets = targets
        self._peak = 0

    def snapshot(self) -> wsrpc.Snapshot:
        live = self._targets[0].live
        self._peak = max(self._peak, live)
        return replace(
            self._server.snapshot(), calls_live=live, calls_peak=self._peak, generators_open=live
        )


@asynccontextmanager
async def gateway(
    codec: Codec, buses: tuple[Bus, Bus] | None = None, **options: Any
) -> AsyncIterator[str]:
    """The URL of a server that stands for a client of another node, which exposes `Interop`."""
    if buses is None:
        broker = LocalBroker()
        buses = LocalBus(broker), LocalBus(broker)
    target: list[Everything] = []

    def relayed(session: wsrpc.Session, change: Any) -> None:
        if change.state == "connected":
            live(session).wire.relay_calls(target[0])

    service = Interop()
    near = wsrpc.Server([], on_state=relayed, **options)
    far = wsrpc.Server([Partner()])
    service.server = cast(wsrpc.Server, Counted(near, target))
    async with (
        Cluster(near, buses[0]) as here,
        Cluster(far, buses[1]) as there,
        far.listen() as listener,
        near.listen() as front,
        wsrpc.connect(listener.url, controllers=[service], codec=codec) as client,
    ):
        with anyio.fail_after(10):
            await until(lambda: there.id in here.nodes)
        network = here.network
        assert network is not None
        target.append(Everything(network, client.id))
        yield front.url
