"""A bus over NATS, by nats-py.

It overrides the library's defaults for outages. With these the library would hold messages and send
them late, give up after sixty attempts, find a dead connection only after four minutes, and stay
closed after an error of the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio

try:
    import nats
    import nats.errors
except ImportError as error:
    raise ImportError(
        "a cluster over NATS needs the package nats-py, and it cannot be imported "
        f"({error}). It comes with the extra of the distribution: pip install 'wsrpc-anyio[nats]'"
    ) from error

from ...telemetry.logs import everyone
from ..errors import BusDown, BusTimeout, ClusterConfigError, NoResponders
from .base import Handler, Off
from .client import Client, Listening

__all__ = ["NatsBus"]

R = TypeVar("R")

# Bytes. The smallest message size that NATS must allow: a batch with a chunk of a value.
MIN_PAYLOAD = 258 * 1024

# Bytes that may wait for the socket.
PENDING = 2 << 20

# Bytes that a message counts beyond its own, for its subject.
HEADROOM = 1024

# Seconds that a connection may take to come about once it is not wanted any more.
ABANDONED = 0.2

# Messages of one subscription that may wait for this process.
SUBSCRIPTION_MESSAGES = 65_536


SCHEMES = frozenset(("nats", "tls", "ws", "wss"))


class NatsBus:
    """One node's connection to NATS, on asyncio; on trio the cluster puts it into a thread.

    Args:
        url: The URL of a NATS server; or several.
        name: The name of the connection, which is a part of its inboxes.
        pending: Bytes that may wait in this process for one subscription. Messages beyond them are
            dropped, and counted in `dropped`.
        options: Options of `nats.connect`: user, password, token, nkeys_seed, user_credentials,
            tls.
    """

    stores = True

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        name: str = "wsrpc",
        pending: int = 16 << 20,
        **options: Any,
    ) -> None:
        if not isinstance(url, str | Sequence) or isinstance(url, bytes):
            raise ClusterConfigError(f"{url!r:.80} is no address of NATS, and no list of them")
        self.urls = [url] if isinstance(url, str) else list(url)
        if not self.urls:
            raise ClusterConfigError("no address of NATS is given, such as nats://10.0.0.5:4222")
        for one in self.urls:
            if not _is_address(one):
                shown = _without_secrets(one) if isinstance(one, str) else one
                raise ClusterConfigError(
                    f"{shown!r:.80} is no address of NATS; one looks like "
                    "nats://10.0.0.5:4222, or tls://…, ws://… or wss://…"
                )
        self.generation = 0
        self.dropped = 0
        self._name = name
        self.pending = pending
        self._options = options
        self._client: Client | None = None
        self._subscriptions: dict[Handler, str] = {}
        self._active: dict[Handler, Listening] = {}
        self._on_up: Callable[[], None] = _nothing
        self._on_down: Callable[[], None] = _nothing
        self._closing = False
        self._reviving: asyncio.Task[None] | None = None

    @property
    def client(self) -> Client:
        """The library's client.

        Raises:
            BusDown: There is no client at the moment.
        """
        if self._client is None:
            raise BusDown("not connected")
        return self._client

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    @property
    def max_payload(self) -> int:
        return self.client.max_payload

    async def open(self, on_up: Callable[[], None], on_down: Callable[[], None]) -> None:
        if self._client is not None:
            raise RuntimeError("a NatsBus is for one Cluster; make another one for each")
        self._on_up, self._on_down = on_up, on_down
        self._closing = False
        await self._connect()
        if self.max_payload < MIN_PAYLOAD:
            found = self.max_payload
            await self.close()
            raise ClusterConfigError(
                f"NATS takes messages of {found} bytes at most; set max_payload to at least "
                f"{MIN_PAYLOAD} in its configuration"
            )

    async def _connect(self) -> None:
        """Connect, for as long as it takes.

        Raises:
            ClusterConfigError: NATS refuses the credentials; the operator's fault.
        """
        places = ", ".join(map(_without_secrets, self.urls))
        # All of them have the same kind of scheme, or the library refuses them.
        client = Client(direct=not self.urls[0].startswith(("ws://", "wss://")))
        opened = told = False
        refusal: Exception | None = None

        async def down() -> None:
            if opened and not self._closing:
                self._on_down()

        async def back() -> None:
            self.generation += 1
            self._on_up()

        async def failed(error: Exception) -> None:
            nonlocal refusal, told
            if isinstance(error, nats.errors.SlowConsumerError):
                self.dropped += 1
            if opened:
                return
            if _is_refusal(error):
                refusal = error
                connecting.cancel()
            elif not told:
                told = True
                everyone.warning("no NATS at %s yet: waiting for it", places)

        async def closed() -> None:
            if opened and not self._closing:
                # An error of the server has closed it for good.
                self._on_down()
                self._reviving = asyncio.ensure_future(self._revive())

        connecting = asyncio.ensure_future(
            client.connect(
                servers=self.urls,
                name=self._name,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.2,  # type: ignore[arg-type]
                connect_timeout=2,
                ping_interval=5,
                max_outstanding_pings=2,
                pending_size=PENDING,
                flush_timeout=5,
                no_echo=True,
                inbox_prefix=f"_INBOX.{self._name}".encode(),
                disconnected_cb=down,
                reconnected_cb=back,
                error_cb=failed,
                closed_cb=closed,
                **self._options,
            )
        )
        try:
            # A cancellation of this task must not reach the dial; see `_abandon`.
            await asyncio.shield(connecting)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await _abandon(client, connecting)
            if refusal is None and isinstance(error, Exception) and _is_refusal(error):
                refusal = error
            if refusal is not None:
                raise ClusterConfigError(
                    f"NATS at {places} refuses the credentials of this node: {refusal}; give those of "
                    "the cluster's account: nats://user:password@host, or NatsBus(url, user=…, "
                    "password=…), token=…, nkeys_seed=… or user_credentials=…"
                ) from None
            raise
        opened = True
        if self._closing:
            # `close` came first, and has not seen this client.
            await client.close()
            raise BusDown("the bus is closed")
        self._client = client
        self.generation += 1
        for handler, subject in list(self._subscriptions.items()):
            self._active[handler] = await self._subscribe(subject, handler)

    async def _revive(self) -> None:
        self._client = None
        self._active.clear()
        try:
            await self._connect()
        except ClusterConfigError as error:
            everyone.error("the cluster has lost NATS for good", error=error)
        except BusDown:
            # It was closed meanwhile.
            pass
        else:
            self._on_up()

    async def close(self) -> None:
        self._closing = True
        if self._reviving is not None:
            self._reviving.cancel()
        client, self._client = self._client, None
        if client is not None:
            if client.is_connected:
                try:
                    # A round trip without the library's flush, after which it may receive no more.
                    await client.request(f"_INBOX.{self._name}.void", b"", timeout=1.0)
                except (TimeoutError, nats.errors.Error):
                    pass
            await client.close()

    async def run(self, fn: Callable[..., Awaitable[R]], *args: Any, **kwargs: Any) -> R:
        """Await a coroutine of the library on the loop on which the bus runs."""
        return await fn(*args, **kwargs)

    async def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        client = self.client
        if not client.is_connected:
            # The library would hold the message, and send it when it is stale.
            raise BusDown(subject)
        try:
            await client.publish(subject, data, reply=reply)
        except nats.errors.Error as error:
            raise BusDown(f"{subject}: {error}") from None

    def publish_nowait(self, subject: str, data: bytes) -> bool:
        client = self._client
        if client is None or not client.is_connected:
            raise BusDown(subject)
        try:
            if client.send(subject, data, PENDING):
                return True
        except nats.errors.Error as error:
            raise BusDown(f"{subject}: {error}") from None
        if client.pending_data_size + len(data) + HEADROOM > PENDING:
            return False
        # The library's coroutine waits only if too many bytes wait for the socket.
        sending = client.publish(subject, data)
        try:
            sending.send(None)
        except StopIteration:
            return True
        except nats.errors.Error as error:
            raise BusDown(f"{subject}: {error}") from None
        # It waits for a turn of the library's writer, which has the message already.
        sending.close()
        return True

    async def subscribe(self, subject: str, handler: Handler) -> Off:
        self._subscriptions[handler] = subject
        self._active[handler] = await self._subscribe(subject, handler)
        # The server answers this request after it has taken the subscription.
        try:
            await self.request(f"_INBOX.{self._name}.void", b"", 2.0)
        except (NoResponders, BusTimeout):
            pass

        async def off() -> None:
            self._subscriptions.pop(handler, None)
            active = self._active.pop(handler, None)
            if active is not None and self.connected:
                try:
                    await active.off()
                except nats.errors.Error:
                    pass

        return off

    async def _subscribe(self, subject: str, handler: Handler) -> Listening:
        try:
            return await self.client.listen(subject, handler, SUBSCRIPTION_MESSAGES, self.pending)
        except nats.errors.Error as error:
            raise BusDown(f"{subject}: {error}") from None

    async def request(self, subject: str, data: bytes, timeout: float) -> bytes:
        client = self.client
        if not client.is_connected:
            raise BusDown(subject)
        try:
            answer = await client.request(subject, data, timeout=timeout)
        except nats.errors.NoRespondersError:
            raise NoResponders(subject) from None
        except (TimeoutError, nats.errors.TimeoutError):
            raise BusTimeout(subject) from None
        except nats.errors.Error as error:
            raise BusDown(f"{subject}: {error}") from None
        found: bytes = answer.data
        return found


async def _abandon(client: Client, connecting: asyncio.Future[None]) -> None:
    """End a client that has not connected, or not even begun to."""
    # A dial that is cancelled would leave its socket to the garbage collector.
    await asyncio.wait([connecting], timeout=ABANDONED)
    connecting.cancel()
    await asyncio.wait([connecting])
    try:
        await client.close()
    except AssertionError:
        # The library asserts that `connect` has run.
        pass


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, nats.errors.AuthorizationError) or "Authorization" in str(error)


def _is_address(url: object) -> bool:
    if not isinstance(url, str):
        return False
    scheme, mark, rest = url.rpartition("://")
    if mark and scheme not in SCHEMES:
        return False
    try:
        parts = urlsplit(f"nats://{rest}")
        # Reading an invalid port raises.
        return bool(parts.hostname) and parts.port != 0 and not any(map(str.isspace, url))
    except ValueError:
        return False


def _without_secrets(url: str) -> str:
    scheme, mark, rest = url.rpartition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def _nothing() -> None:
    """Do nothing: no code is told."""
