"""`wsrpc demo --cluster`: NATS, two nodes and a balancer; a node is killed, and nothing is lost."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
from anyio.abc import Process, TaskStatus
from rich.console import Console

from ... import client
from ...cluster import ClusterConfigError
from ...cluster.bus.embedded import NatsServer
from ...errors import ConnectError, RpcError
from ...interfaces import Session
from ..failures import ExitCode, Failure, note
from ..processes import listening, python
from .balancer import balance
from .cluster_node import Exchange, Trader

__all__ = ["present_cluster"]

CLIENTS = 10

# Seconds.
TIMEOUT = 28.0
PAUSE = 0.1

# Prices that each client must have before the node is killed, and after.
ENOUGH = 50


class Client:
    """One client, and the prices that it has."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.session: Session | None = None
        self.prices = 0
        self.lost = 0
        self.doubled = 0
        self.answered = 0
        self.wrong = 0
        self.told: dict[str, int] = {}

    @property
    def node(self) -> str:
        """The node that has its session."""
        return "" if self.session is None else self.session.id.partition("-")[0]

    async def run(self, url: str, *, task_status: TaskStatus[None]) -> None:
        async with client.connect(url, controllers=[Trader()]) as session:
            self.session = session
            async with anyio.create_task_group() as group:
                task_status.started()
                group.start_soon(self._follow, session)
                group.start_soon(self._trade, session)

    async def _follow(self, session: Session) -> None:
        last = 0
        async for price in session.clientize(Exchange).prices():
            # The position of a price in the topic's history.
            position = int(price.id.rpartition(".")[2])
            if last and position > last + 1:
                self.lost += position - last - 1
            if position <= last:
                self.doubled += 1
            last = max(last, position)
            self.prices += 1

    async def _trade(self, session: Session) -> None:
        exchange = session.clientize(Exchange, timeout=10)
        turn = self.number
        while True:
            turn += 1
            try:
                _, paid = await exchange.trade(turn, turn)
            except RpcError as error:
                code = str(error.code)
                self.told[code] = self.told.get(code, 0) + 1
            else:
                self.answered += 1
                self.wrong += paid != 2 * turn
            await anyio.sleep(PAUSE)


async def present_cluster() -> int:
    """Run the demo.

    Returns:
        0 if no price or call was lost, 1 otherwise.

    Raises:
        Failure: There is no `nats-server` here, or no nats-py.
    """
    console = Console(highlight=False)
    show = _Show(console)
    with tempfile.TemporaryFile() as log:
        try:
            with anyio.fail_after(TIMEOUT):
                async with AsyncExitStack() as stack:
                    held = await _run(stack, show, log)
        except TimeoutError:
            show.check(f"done within {TIMEOUT:g} s", held=False)
            held = False
        if not held:
            log.seek(0)
            note(log.read()[-4096:].decode(errors="replace").rstrip())
    return ExitCode.OK if held else ExitCode.REMOTE


class _Show:
    """Lines, each with the time since the beginning."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self.held = True

    def say(self, text: str) -> None:
        """Print an event."""
        self._console.print(f"{time.monotonic() - self._began:5.1f} s  {text}")

    def check(self, text: str, *, held: bool) -> None:
        """Print a promise, and whether it held."""
        self.held &= held
        self.say(f"[green]ok[/]    {text}" if held else f"[red]FAIL[/]  {text}")


async def _run(stack: AsyncExitStack, show: _Show, log: Any) -> bool:
    try:
        # The nodes need it, which are processes of their own.
        from ...cluster.bus.nats import NatsBus  # noqa: F401

        nats = stack.enter_context(NatsServer())
    except (ImportError, ClusterConfigError) as error:
        raise Failure(str(error), ExitCode.USAGE) from error
    show.say(f"NATS with JetStream: {nats.url}")
    nodes: list[tuple[Process, str]] = []
    program = f"{__package__}.cluster_node"
    for _ in range(2):
        process = await stack.enter_async_context(python(["-m", program, nats.url], log))
        url = await listening(process)
        if url is None:
            show.check("a node has started", held=False)
            return False
        nodes.append((process, url))
        show.say(f"a node: process {process.pid}, {url}")
    group = await stack.enter_async_context(anyio.create_task_group())
    url = await group.start(balance, lambda: [url for _, url in nodes])
    crowd = [Client(i) for i in range(CLIENTS)]
    for one in crowd:
        await group.start(one.run, url)
    show.say(
        f"{CLIENTS} clients through a balancer at {url}: a shared stream, and calls to each other"
    )
    await _until(lambda: all(one.prices >= ENOUGH for one in crowd))
    on = [sum(one.node == node for one in crowd) for node in {one.node for one in crowd}]
    show.check(f"{' and '.join(map(str, on))} of them on the two nodes", held=len(on) == 2)
    await _kill(show, nodes, crowd)
    group.cancel_scope.cancel()
    return show.held


async def _kill(show: _Show, nodes: list[tuple[Process, str]], crowd: list[Client]) -> None:
    before = [(one.prices, one.answered) for one in crowd]
    victim = crowd[0].node
    process = await _process_of(victim, nodes)
    died = time.monotonic()
    process.send_signal(signal.SIGKILL)
    show.say(f"kill -9 of node {victim}, process {process.pid}")
    await _until(lambda: all(one.node != victim for one in crowd))
    show.check(
        f"all clients are on the other node, after {time.monotonic() - died:.1f} s", held=True
    )
    await _until(
        lambda: all(
            one.prices >= prices + ENOUGH and one.answered > answered
            for one, (prices, answered) in zip(crowd, before, strict=True)
        )
    )
    show.check(f"streams and calls go on, after {time.monotonic() - died:.1f} s", held=True)
    prices = sum(one.prices for one in crowd)
    lost, doubled = sum(one.lost for one in crowd), sum(one.doubled for one in crowd)
    show.check(f"{prices} prices: {lost} lost, {doubled} twice", held=not lost and not doubled)
    answered, wrong = sum(one.answered for one in crowd), sum(one.wrong for one in crowd)
    told: dict[str, int] = {}
    for one in crowd:
        for code, count in one.told.items():
            told[code] = told.get(code, 0) + count
    words = ", ".join(f"{count} {code}" for code, count in told.items()) or "none"
    show.check(
        f"{answered} calls answered, {wrong} wrongly; ended in an error: {words}", held=not wrong
    )


async def _process_of(node: str, nodes: list[tuple[Process, str]]) -> Process:
    for process, url in nodes:
        async with client.connect(url, reconnect=False) as session:
            if session.id.startswith(f"{node}-"):
                return process
    raise ConnectError(f"there is no node {node}")


async def _until(condition: Callable[[], bool]) -> None:
    while True:
        if condition():
            return
        await anyio.sleep(0.02)
