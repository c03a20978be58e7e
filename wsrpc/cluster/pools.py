"""Pools of workers: each call goes to the least busy worker."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Concatenate, Literal, ParamSpec, Self, TypeAlias, TypeVar, overload

import anyio

from ..errors import Code, ConnectionLost, RpcError
from ..interfaces import Session
from ..options import checked_count, checked_seconds
from ..stream import Stream
from .choosing import Choice, choosing_proxy
from .directory import PresenceChange
from .errors import NoMember
from .methods import method_of, wanted
from .node import Node

__all__ = ["Pool", "PoolStats", "Pools", "Requeue"]

C = TypeVar("C")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

Requeue: TypeAlias = Literal["not_started", "idempotent", "always"]


# Calls that a worker may take at a time.
MOST_CAPACITY = 2**31 - 1


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool, as this node sees it.

    Attributes:
        workers: Workers in the pool.
        capacity: Calls that all of them take at a time.
        busy: Calls that they have now.
        waiting: Calls of this node that wait for a worker.
        nodes: Workers by the id of their node.
    """

    workers: int
    capacity: int
    busy: int
    waiting: int
    nodes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of a pool; see `Pool.options`."""

    requeue: Requeue = "idempotent"
    attempts: int = 3
    wait: float | None = None


class State:
    """A node's state of one pool."""

    def __init__(self, node: Node, name: str) -> None:
        self.name = name
        self.waiting: deque[anyio.Event] = deque()
        self.closed = False
        # The calls of this node at each worker, and the turn in which each got its last call.
        self.granted: dict[str, set[Choice]] = {}
        self._turns: dict[str, int] = {}
        self._turn = 0
        self._node = node

    def busy(self, session: str) -> int:
        """The number of calls that a worker has, as far as this node knows."""
        return len(self.granted.get(session, ())) + self._node.others(self.name, session)

    def grant(self, tried: Collection[str]) -> Choice | None:
        """Choose the least busy worker that has room; None where none has, or where there is none.

        Raises:
            NoMember: All workers were tried, and some of them are still there.
        """
        best, least, left, refused = None, (0.0, 0), False, False
        for entry in self._node.directory.pool(self.name):
            if entry.session in tried:
                refused = refused or entry.state != "detached"
                continue
            left = True
            capacity, busy = entry.pools[self.name], self.busy(entry.session)
            if busy >= capacity or entry.state == "detached":
                continue
            load = (busy / capacity, self._turns.get(entry.session, 0))
            if best is None or load < least:
                best, least = entry.session, load
        if best is None:
            if refused and not left:
                raise NoMember(f"the pool {self.name!r} has no other worker")
            return None
        self._turn += 1
        self._turns[best] = self._turn
        choice = Choice(best)
        choice.back = lambda: self.back(choice)
        self.granted.setdefault(best, set()).add(choice)
        if self._node.is_own(best):
            self._node.taken(self.name, best, 1)
        return choice

    def back(self, choice: Choice) -> None:
        """Count out a call that is over."""
        granted = self.granted.get(choice.session)
        if granted is None or choice not in granted:
            return
        granted.discard(choice)
        if not granted:
            del self.granted[choice.session]
        if self._node.is_own(choice.session):
            self._node.taken(self.name, choice.session, -1)
        self.freed()

    def freed(self) -> None:
        """Let the call that has waited longest look for room."""
        if self.waiting:
            self.waiting.popleft().set()

    def close(self) -> None:
        """Fail the calls that wait, since this node leaves the cluster."""
        self.closed = True
        while self.waiting:
            self.freed()

    def check(self) -> None:
        """Refuse calls once this node has left.

        Raises:
            RpcError: `unavailable`, not started.
        """
        if self.closed:
            error = RpcError(
                Code.UNAVAILABLE,
                f"this node has left the cluster, and the pool {self.name!r} with it",
            )
            error.not_started = True
            raise error

    def forget(self, session: str) -> None:
        """Forget a worker that has left the pool."""
        self._turns.pop(session, None)

    def cancel(self, session: str) -> None:
        """Move the calls of a worker that has been without its connection for too long."""
        for choice in list(self.granted.get(session, ())):
            choice.give_up()


class Pools:
    """The pools that a node uses."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._states: dict[str, State] = {}
        self._closed = False
        node.directory.listeners.add(self._changed)
        node.loads.on_less = self.freed

    def __len__(self) -> int:
        return len(self._states)

    def state(self, name: str) -> State:
        """The state of a pool."""
        state = self._states.get(name)
        if state is None:
            state = self._states[name] = State(self._node, name)
            state.closed = self._closed
        return state

    def close(self) -> None:
        """Fail all calls that wait for a worker."""
        self._closed = True
        for state in self._states.values():
            state.close()

    def freed(self, name: str) -> None:
        """Note that a worker of another node is less busy."""
        state = self._states.get(name)
        if state is not None:
            state.freed()

    def _changed(self, change: PresenceChange) -> None:
        member = change.member
        entry = self._node.directory.get(member.session)
        if change.kind == "leave":
            self._node.loads.forget(member.session)
        for state in self._states.values():
            if change.kind == "leave":
                state.forget(member.session)
            elif entry is not None and state.name in entry.pools:
                # A worker is new, or has more capacity, or is back.
                for _ in range(min(len(state.waiting), entry.pools[state.name])):
                    state.freed()
                if member.state == "detached" and member.session in state.granted:
                    self._node.nursery.spawn(self._doubt, state, member.session)

    async def _doubt(self, state: State, session: str) -> None:
        await anyio.sleep(self._node.limits.worker_grace)
        entry = self._node.directory.get(session)
        if entry is not None and entry.state == "detached":
            state.cancel(session)


class Pool:
    """A pool of workers, each of which takes as many calls at a time as its capacity."""

    def __init__(self, node: Node, pools: Pools, name: str) -> None:
        self.name = name
        self._node = node
        self._pools = pools
        self.settings = Settings()

    def __repr__(self) -> str:
        return f"<pool {self.name!r}>"

    def options(
        self, *, requeue: Requeue = "idempotent", attempts: int = 3, wait: float | None = None
    ) -> Self:
        """The same pool, used in another way.

        Args:
            requeue: The calls that go to another worker when theirs dies. "not_started": only those
                that it had certainly not begun; "idempotent": also those of idempotent methods;
                "always": all, so that a call may run twice.
            attempts: Attempts at a call that may have begun, the first one included.
            wait: Seconds to wait at most for a free worker, before `resource_exhausted`; None: as
                long as the call's timeout allows.
        """
        if requeue not in ("not_started", "idempotent", "always"):
            raise ValueError(
                f"requeue must be 'not_started', 'idempotent' or 'always', not {requeue!r}"
            )
        if attempts is None:
            raise ValueError("attempts must be at least 1 attempt, not None")
        checked_count("attempts", attempts, "attempt")
        checked_seconds("wait", wait)
        changed = copy(self)
        changed.settings = Settings(requeue, attempts, wait)
        return changed

    async def add(self, session: Session | str | None = None, *, capacity: int = 1) -> None:
        """Make a session of this node a worker, until it ends or is removed.

        Args:
            session: The session, or its id; if left out, the session of the call that is being
                handled.
            capacity: Calls that it takes at a time.

        Raises:
            SessionGone: There is no such session on this node.
        """
        if capacity is None:
            raise ValueError("capacity must be at least 1 call, not None")
        checked_count("capacity", capacity, "call", MOST_CAPACITY)
        self._node.check(f"the pool {self.name!r} has no workers here")
        self._node.directory.local(["w", self._node.own(session), self.name, capacity])

    async def remove(self, session: Session | str | None = None) -> None:
        """Give a worker no further calls; it finishes those that it has.

        Args:
            session: The session, or its id; if left out, the session of the call that is being
                handled.
        """
        self._node.check(f"the pool {self.name!r} has no workers here")
        self._node.directory.local(["w", self._node.own(session), self.name, 0])

    @property
    def stats(self) -> PoolStats:
        """The counts of the pool at this moment."""
        state = self._pools.state(self.name)
        entries = self._node.directory.pool(self.name)
        nodes: dict[str, int] = {}
        for entry in entries:
            nodes[entry.node] = nodes.get(entry.node, 0) + 1
        return PoolStats(
            workers=len(entries),
            capacity=sum(entry.pools[self.name] for entry in entries),
            busy=sum(state.busy(entry.session) for entry in entries),
            waiting=len(state.waiting),
            nodes=nodes,
        )

    @overload
    def clientize(self, controller: type[C], /, **options: Any) -> C: ...
    @overload
    def clientize(self, controller: str | Mapping[str, Any], /, **options: Any) -> Any: ...
    @overload
    def clientize(self, controller: Callable[..., C], /, **options: Any) -> C: ...
    def clientize(self, controller: Any, /, **options: Any) -> Any:
        """A proxy of which each call goes to the least busy worker.

        While all workers are busy, or there is none, a call waits within its timeout; first come,
        first served on each node.

        Args:
            controller: As for `Session.clientize`.
            options: As for `Session.clientize`.
        """
        return choosing_proxy(
            self._node, self, controller, options, self.settings.attempts, self.name
        )

    async def call(
        self,
        method: Callable[Concatenate[Any, P], Awaitable[R]] | str,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Call one worker: `await pool.call(Worker.square, 3)`.

        If the await is cancelled, the handler is cancelled too.

        Args:
            method: The method of the class.
            args: Its arguments.
            kwargs: Its arguments.
        """
        want = wanted(method)
        value: R = await method_of(self.clientize(want.controller), want.name)(*args, **kwargs)
        return value

    def stream(
        self,
        method: Callable[Concatenate[Any, P], AsyncIterable[T]] | str,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Stream[T]:
        """Open a stream of one worker; it moves to another only before its first item.

        Args:
            method: The method of the class.
            args: Its arguments.
            kwargs: Its arguments.
        """
        want = wanted(method)
        stream: Stream[T] = method_of(self.clientize(want.controller), want.name)(*args, **kwargs)
        return stream

    # ------------------------------------------------------------ as a Chooser

    async def choose(self, tried: Collection[str]) -> Choice:
        """See `Chooser.choose`."""
        state = self._pools.state(self.name)
        state.check()
        self._node.check(f"the pool {self.name!r} has no workers here")
        if not state.waiting:
            choice = state.grant(tried)
            if choice is not None:
                return choice
        limit = self._node.limits.pool_waiting
        if len(state.waiting) >= limit:
            error = RpcError(
                Code.RESOURCE_EXHAUSTED,
                f"{limit} calls wait for the pool {self.name!r} (ClusterLimits.pool_waiting)",
            )
            error.not_started = True
            raise error
        with anyio.move_on_after(self.settings.wait):
            return await self._queue(state, tried)
        error = RpcError(
            Code.RESOURCE_EXHAUSTED,
            f"no worker of the pool {self.name!r} was free in {self.settings.wait:g} s",
        )
        error.not_started = True
        raise error

    async def _queue(self, state: State, tried: Collection[str]) -> Choice:
        turn = anyio.Event()
        state.waiting.append(turn)
        choice: Choice | None = None
        try:
            while True:
                with anyio.move_on_after(self._node.poll(self.name)):
                    await turn.wait()
                state.check()
                choice = state.grant(tried)
                if choice is not None:
                    return choice
                if turn.is_set():
                    # Another call was faster: this one keeps its place.
                    turn = anyio.Event()
                    state.waiting.appendleft(turn)
        finally:
            if not turn.is_set():
                state.waiting.remove(turn)
            elif choice is None:
                state.freed()

    def may_repeat(self, error: RpcError[Any], idempotent: bool) -> bool:
        """See `Chooser.may_repeat`."""
        if error.not_started:
            return error.code in (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED)
        if not isinstance(error, ConnectionLost):
            return False
        return self.settings.requeue == "always" or (
            self.settings.requeue == "idempotent" and idempotent
        )
