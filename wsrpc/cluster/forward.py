"""Resuming at any node: a link for another node's session is passed on, message by message."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import msgspec

from ..close_codes import CloseCode
from ..errors import ConnectError, ProtocolError
from ..interfaces import Handshake
from ..limits import Limits
from ..protocol.hello import Opening
from ..server.acceptor import Acceptor
from ..transport.base import DirectLink, Link, LinkClosed
from .errors import BusDown, BusTimeout, NoResponders
from .link import BusLink
from .members import BAD_JSON, is_id
from .network import Network

__all__ = ["Forwarding", "owner_of"]

# Seconds for the other node to answer a hello: it may have to ask an identity provider.
ANSWER_TIMEOUT = 15.0

# Seconds for finding out whether a node is there.
PROBE_TIMEOUT = 1.0

# Seconds between two attempts to reach the node, and seconds that they go on after it would be
# missed.
PAUSE = 0.05
PATIENCE = 0.3

GONE = "there is no such session to resume: its node is gone"
AGAIN = "the node that has the session cannot be reached at the moment; try again later"


class Forward(msgspec.Struct):
    """The request of a node that passes a link on."""

    n: str
    g: int
    l: str  # noqa: E741
    p: str
    path: str
    headers: dict[str, str]
    remote: str
    tls: bool
    address: str
    certificate: dict[str, Any] | None = None


class Watch:
    """The writes to a client's link that is passed on, and whether it takes them (OUT-4).

    Args:
        link: The link.
        now: The clock, in seconds.
        patience: Seconds without a byte that the link takes.
    """

    def __init__(self, link: Link, now: Callable[[], float], patience: float) -> None:
        self._link = link
        self._now = now
        self._patience = patience
        self._since: float | None = None
        # Bytes that waited for the socket at the last look.
        self._left = math.inf

    def _unsent(self) -> int:
        return self._link.unsent if isinstance(self._link, DirectLink) else 0

    async def send(self, data: bytes) -> None:
        """Write a message to the link.

        Raises:
            LinkClosed: The link is gone.
        """
        self._since, self._left = self._now(), math.inf
        try:
            await self._link.send(data)
        finally:
            self._since = None

    async def stalled(self) -> None:
        """Wait until the link has taken nothing for so long."""
        while True:
            await anyio.sleep(self._patience / 4)
            if self._since is None:
                continue
            left = self._unsent()
            if left < self._left:
                self._since, self._left = self._now(), left
            elif self._now() - self._since >= self._patience:
                return


def owner_of(token: str) -> str:
    """The node that issued a token."""
    node, dot, _ = token.partition(".")
    return node if dot else ""


class Forwarding:
    """Passes links on, and takes links that other nodes pass on.

    Args:
        network: The way to other nodes.
        acceptor: Serves the links that other nodes pass on to this one.
        limits: The bounds of this node's server.
        patience: Seconds of silence after which a node without a subscriber counts as gone.

    Attributes:
        live: The number of links that this node passes on.
    """

    def __init__(
        self, network: Network, acceptor: Acceptor, limits: Limits, patience: float
    ) -> None:
        self.live = 0
        self._limits = limits
        self._patience = patience + PATIENCE
        self._network = network
        self._acceptor = acceptor
        network.on_forward = self.taken

    # ------------------------------------------------------------ at the node that was asked

    async def pass_on(self, link: Link, opening: Opening, answered: Callable[[], None]) -> None:
        """Serve a link at the node that has its session.

        Raises:
            ProtocolError: 4010, that node is dead, and the session with it; 1013, it cannot be
                reached at the moment.
            LinkClosed: The link is gone.
        """
        owner = owner_of(opening.hello.token or "")
        back = await self._reach(owner, link)
        self.live += 1
        try:
            await back.send(opening.message)
            first: bytes | None = None
            with anyio.move_on_after(ANSWER_TIMEOUT):
                first = await self._answer(back)
            if first is None:
                raise ProtocolError(CloseCode.TRY_AGAIN_LATER, AGAIN)
            answered()
            await link.send(first)
            await self._pump(link, back)
        finally:
            self.live -= 1
            back.lose("the link that was passed on is gone")

    async def _answer(self, back: BusLink) -> bytes:
        try:
            return await back.receive()
        except LinkClosed as refused:
            if refused.code in (CloseCode.NO_STATUS, CloseCode.CONNECTION_LOST):
                raise ProtocolError(CloseCode.TRY_AGAIN_LATER, AGAIN) from None
            raise ProtocolError(refused.code, refused.reason) from None

    async def _reach(self, owner: str, link: Link) -> BusLink:
        network, members = self._network, self._network.members
        end = network.now() + self._patience
        while True:
            peer = members.get(owner)
            gone = peer.gone if peer is not None else await self._is_unheard_of(owner)
            if gone:
                raise ProtocolError(CloseCode.CANNOT_RESUME, GONE)
            try:
                assert link.subprotocol is not None
                return await network.dial(owner, link.subprotocol, "forward", _told(link.handshake))
            except ConnectError as error:
                nobody = isinstance(error.__cause__, NoResponders)
            if nobody and peer is not None and members.is_missing(peer):
                raise ProtocolError(CloseCode.CANNOT_RESUME, GONE)
            if network.now() >= end:
                raise ProtocolError(CloseCode.TRY_AGAIN_LATER, AGAIN)
            await anyio.sleep(PAUSE)

    async def _is_unheard_of(self, owner: str) -> bool:
        """Whether a node that never gave a sign of life does not answer either."""
        if not is_id(owner):
            return True
        try:
            await self._network.ask(f"to.{owner}.ping", b"", PROBE_TIMEOUT)
        except NoResponders:
            return self._network.settled_in
        except (BusTimeout, BusDown):
            pass
        return False

    async def _pump(self, link: Link, back: BusLink) -> None:
        """Pass on messages in both directions until either end is gone, then close the other."""
        ends: list[tuple[Link, LinkClosed]] = []

        async def pump(source: Link, sink: Link, watch: Watch | None = None) -> None:
            try:
                while True:
                    data = await source.receive()
                    if watch is None:
                        await sink.send(data)
                    else:
                        await watch.send(data)
            except LinkClosed as gone:
                ends.append((sink, gone))
            group.cancel_scope.cancel()

        async def give_up() -> None:
            await watch.stalled()
            # A goodbye would not get through either, and on trio the library's write ends no sooner.
            link.abort()
            group.cancel_scope.cancel()

        watch = Watch(link, self._network.now, self._limits.stall_timeout)
        async with anyio.create_task_group() as group:
            group.start_soon(pump, link, back)
            group.start_soon(pump, back, link, watch)
            group.start_soon(give_up)
        if not ends:
            return
        sink, gone = ends[0]
        code = gone.code
        if code in (CloseCode.NO_STATUS, CloseCode.CONNECTION_LOST):
            code = CloseCode.SERVER_TROUBLE
        with anyio.move_on_after(self._limits.close_timeout):
            await sink.close(code, gone.reason)
        sink.abort()

    # ------------------------------------------------------------ at the node that has the session

    def taken(self, data: bytes, reply: str) -> None:
        """Take a link that another node passes on."""
        network = self._network
        try:
            told = msgspec.json.decode(data, type=Forward)
        except BAD_JSON:
            network.junk += 1
            return
        handshake = Handshake(
            path=told.path,
            headers=told.headers,
            remote=told.remote,
            tls=told.tls,
            address=told.address,
            certificate=told.certificate,
        )
        link = network.accepted(told.n, told.g, told.l, told.p, handshake, reply)
        if link is not None:
            network.spawn(self._acceptor.serve, link)


def _told(handshake: Handshake) -> Mapping[str, Any]:
    return {
        "path": handshake.path,
        "headers": dict(handshake.headers),
        "remote": handshake.remote,
        "tls": handshake.tls,
        "address": handshake.address,
        "certificate": None if handshake.certificate is None else dict(handshake.certificate),
    }
