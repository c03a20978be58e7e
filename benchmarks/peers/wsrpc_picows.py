"""wsrpc as in the `wsrpc` peer, with picows in place of websockets on both ends."""

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import picows  # noqa: F401  whether it is there decides whether this peer can run

import wsrpc
from benchmarks.peers.wsrpc import WsrpcClient
from benchmarks.peers.wsrpc import serve as serve_wsrpc

if "transport" not in inspect.signature(wsrpc.connect).parameters:
    raise ImportError("this wsrpc has no choice of transports")


async def serve(ready: Callable[[str], None]) -> None:
    """See `base.Peer`."""
    await serve_wsrpc(ready, transport="picows")


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[WsrpcClient]:
    """See `base.Peer`."""
    async with AsyncExitStack() as stack:
        client = WsrpcClient(address, stack, transport="picows")
        await client.open()
        yield client
