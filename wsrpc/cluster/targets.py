"""Targets of calls: one session, a principal, a group, all sessions."""

from __future__ import annotations

from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from copy import copy
from dataclasses import dataclass
from functools import partial
from types import EllipsisType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast, overload

import anyio

from ..calling.observed import Kind
from ..calling.options import Options as CallOptions
from ..errors import RpcError
from ..interfaces import Overflow, Session
from ..options import checked_list
from ..stream import Stream
from .choosing import Choice, choosing_proxy
from .directory import Entry
from .errors import NoMember, SessionGone
from .gather import Merged, Put
from .methods import Wanted, method_of, wanted
from .node import Node

__all__ = ["From", "Group", "Reply", "Sent", "Target"]

C = TypeVar("C")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply(Generic[R]):
    """The answer of one member.

    Attributes:
        session: The id of its session.
        node: The id of its node.
        value: The value that its method returned; None where it failed.
        error: The error; None where there is a value.
    """

    session: str
    node: str
    value: R | None = None
    error: RpcError[Any] | None = None

    def unwrap(self) -> R:
        """The value.

        Raises:
            RpcError: There is no value; it raises `error`.
        """
        if self.error is not None:
            raise self.error
        return cast(R, self.value)


@dataclass(frozen=True, slots=True)
class From(Generic[T]):
    """One item of one member's stream, or its end.

    Attributes:
        session: The id of its session.
        node: The id of its node.
        item: The item; None at the end.
        error: At the end, the error if the stream failed; otherwise None.
        ended: Whether this is the end of the member's stream.
    """

    session: str
    node: str
    item: T | None = None
    error: RpcError[Any] | None = None
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """The outcome of a notification to many members.

    Attributes:
        sessions: Members that have it in their outbox, or on the way there.
        nodes: Nodes of these members.
        failed: The other members, each with its error.
    """

    sessions: int
    nodes: int
    failed: list[Reply[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a target; see `Target.options`."""

    timeout: float | EllipsisType | None = ...
    overflow: Overflow = "block"
    window: int | None = None
    exclude: frozenset[str] = frozenset()
    metadata: Mapping[str, str] | None = None


class Target:
    """The members to which a call goes. Making a target sends no message.

    Args:
        node: This node.
        name: Its name in messages.
        find: Finds the members at the time of a call.

    Attributes:
        settings: Its options.
    """

    # Whether it may stand for more than one member.
    _many = True

    def __init__(self, node: Node, name: str, find: Callable[[], list[Entry]]) -> None:
        self._node = node
        self._name = name
        self._find = find
        self.settings = Options()

    def __repr__(self) -> str:
        return f"<cluster target {self._name}>"

    def options(
        self,
        *,
        timeout: float | EllipsisType | None = ...,
        overflow: Overflow = "block",
        window: int | None = None,
        exclude: Collection[str] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> Self:
        """The same target, called in another way.

        Args:
            timeout: Seconds for a whole call, as for `clientize`.
            overflow: The policy of each member's stream for items that are not taken in time.
            window: Items of credit that each member's stream gets; `ClusterLimits.member_window` if
                left out.
            exclude: Ids of sessions that are left out.
            metadata: The metadata of each call.
        """
        if isinstance(exclude, str):
            exclude = (exclude,)
        # Refused here, where it is written, and not in each member's reply.
        CallOptions(timeout=timeout, overflow=overflow, window=window, metadata=metadata or {})
        changed = copy(self)
        changed.settings = Options(
            timeout=timeout,
            overflow=overflow,
            window=window,
            exclude=frozenset(checked_list("exclude", exclude)),
            metadata=metadata,
        )
        return changed

    def _members(self) -> list[Entry]:
        self._node.check(f"{self._name} has no members here")
        left_out = self.settings.exclude
        return [entry for entry in self._find() if entry.session not in left_out]

    def _given(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a proxy: this target's own, and those that `clientize` was given."""
        own = self.settings
        given: dict[str, Any] = {} if own.timeout is ... else {"timeout": own.timeout}
        if own.metadata is not None:
            given["metadata"] = own.metadata
        if own.window is not None:
            given["window"] = own.window
        if own.overflow != "block":
            given["overflow"] = own.overflow
        return {**given, **options}

    def _wanted(self, method: Any, args: Any, kwargs: Any) -> Wanted:
        """The method, after a look at the arguments that it is to be called with."""
        want = wanted(method)
        if self._many and any(isinstance(one, AsyncIterator) for one in (*args, *kwargs.values())):
            raise TypeError(
                f"{want.label} at {self._name}: an upload is read once, so it cannot go to many; call "
                "each member by itself, or give an object whose `__aiter__` begins anew"
            )
        return want

    # ------------------------------------------------------------ one of them

    @overload
    def clientize(self, controller: type[C], /, **options: Any) -> C: ...
    @overload
    def clientize(self, controller: str | Mapping[str, Any], /, **options: Any) -> Any: ...
    @overload
    def clientize(self, controller: Callable[..., C], /, **options: Any) -> C: ...
    def clientize(self, controller: Any, /, **options: Any) -> Any:
        """A proxy of a controller at this one session, typed as the controller itself.

        Args:
            controller: As for `Session.clientize`.
            options: The options of `Session.clientize`.

        Raises:
            TypeError: This target stands for many members; `one()` picks one of them.
        """
        raise TypeError(
            f"{self._name} stands for many: write `.one().clientize(…)` for one of them, or "
            "`.call(Controller.method, …)` for all"
        )

    def one(self) -> Target:
        """One member, picked anew for each call: the one that connected last and is connected.

        A call that it has not begun goes to another member, if there is one.
        """
        return Newest(self._node, self._name, self._find, self.settings)

    # ------------------------------------------------------------ all of them

    async def call(
        self,
        method: Callable[Concatenate[Any, P], Awaitable[R]] | str,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> list[Reply[R]]:
        """Call all members at once; returns exactly one reply for each present member.

        The failure of a member is not raised: it is in its reply, as `DeadlineExceeded` if the
        member is late. Cancelling the await cancels the handlers, and loses the replies.

        Args:
            method: The method of the class, as in `group.call(Worker.square, 3)`.
            args: Its arguments.
            kwargs: Its arguments.
        """
        want = self._wanted(method, args, kwargs)
        if want.kind == "stream":
            raise TypeError(f"{want.label} streams: use `.stream(…)`")
        replies: list[Reply[R]] = []

        async def keep(reply: Reply[R]) -> None:
            replies.append(reply)

        writing = anyio.CapacityLimiter(self._node.limits.fan)
        await _side_by_side(
            [
                partial(self._ask, entry, want, args, kwargs, writing, keep)
                for entry in self._members()
            ]
        )
        return replies

    def replies(
        self,
        method: Callable[Concatenate[Any, P], Awaitable[R]] | str,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Stream[Reply[R]]:
        """Call all members at once; the replies come as a stream, in the order of their arrival.

        Args:
            method: The method of the class.
            args: Its arguments.
            kwargs: Its arguments.
        """
        want = self._wanted(method, args, kwargs)
        if want.kind == "stream":
            raise TypeError(f"{want.label} streams: use `.stream(…)`")
        limits = self._node.limits
        writing = anyio.CapacityLimiter(limits.fan)
        sources = [
            partial(self._ask, entry, want, args, kwargs, writing) for entry in self._members()
        ]
        return Merged(self._node, f"{want.label} at {self._name}", sources, most=limits.fan)

    async def notify(
        self,
        method: Callable[Concatenate[Any, P], Awaitable[Any]] | str,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Sent:
        """Notify all members, without waiting for answers.

        It returns when each member has the notification in its outbox, or has had
        `ClusterLimits.member_timeout` seconds to make room. A member that does not read does not
        delay the others. Notifications of one task reach a member in the order in which they were
        sent.

        Args:
            method: The method of the class, declared `oneway=True` or not; an answer is dropped.
            args: Its arguments.
            kwargs: Its arguments.
        """
        want = self._wanted(method, args, kwargs)
        if want.kind == "stream":
            raise TypeError(f"{want.label} streams, and cannot be notified")
        failed: list[Reply[None]] = []
        reached: dict[str, int] = {}

        async def tell(entry: Entry) -> None:
            try:
                await self._tell(entry, want, args, kwargs)
            except RpcError as error:
                failed.append(Reply(entry.session, entry.node, error=error))
            else:
                reached[entry.node] = reached.get(entry.node, 0) + 1

        await _side_by_side([partial(tell, entry) for entry in self._members()])
        return Sent(sum(reached.values()), len(reached), failed)

    def stream(
        self,
        method: Callable[Concatenate[Any, P], AsyncIterable[T]] | str,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Stream[From[T]]:
        """The streams of all members as one, each item with its origin.

        The end of a member's stream is an item too. A failure ends only that member's stream.
        Closing the stream cancels all members' streams.

        Args:
            method: The method of the class.
            args: Its arguments.
            kwargs: Its arguments.
        """
        want = self._wanted(method, args, kwargs)
        if want.kind not in ("stream", "untyped"):
            raise TypeError(f"{want.label} returns a value: use `.call(…)`")
        sources = [partial(self._follow, entry, want, args, kwargs) for entry in self._members()]
        label = f"{want.label} at {self._name}"
        return Merged(self._node, label, sources, most=max(1, len(sources)))

    # ------------------------------------------------------------ each of them

    def _proxy(self, entry: Entry, want: Wanted, kind: Kind, **more: Any) -> Any:
        options = {"timeout": self.settings.timeout, "metadata": self.settings.metadata, **more}
        try:
            proxy = self._node.clientize(entry.session, want.controller, options)
        except RpcError as error:
            self._node.unsent(entry.session, want.label, kind, error.code, self.settings.metadata)
            raise
        return method_of(proxy, want.name)

    async def _room(self, entry: Entry, want: Wanted, kind: Kind) -> None:
        try:
            await self._node.room(entry.session)
        except RpcError as error:
            self._node.unsent(entry.session, want.label, kind, error.code, self.settings.metadata)
            raise

    async def _ask(
        self,
        entry: Entry,
        want: Wanted,
        args: Any,
        kwargs: Any,
        writing: anyio.CapacityLimiter,
        put: Put[Any],
    ) -> None:
        try:
            async with writing:
                await self._room(entry, want, "unary")
            value = await self._proxy(entry, want, "unary")(*args, **kwargs)
        except RpcError as error:
            await put(Reply(entry.session, entry.node, error=error))
        else:
            await put(Reply(entry.session, entry.node, value))

    async def _tell(self, entry: Entry, want: Wanted, args: Any, kwargs: Any) -> None:
        method = self._proxy(entry, want, "notify", timeout=self._node.limits.member_timeout)
        await method.notify(*args, **kwargs)

    async def _follow(
        self, entry: Entry, want: Wanted, args: Any, kwargs: Any, put: Put[Any]
    ) -> None:
        session, node = entry.session, entry.node
        options = self.settings
        window = self._node.limits.member_window if options.window is None else options.window
        try:
            await self._room(entry, want, "stream")
            call = self._proxy(entry, want, "stream", overflow=options.overflow, window=window)
            async with call(*args, **kwargs) as items:
                async for item in items:
                    await put(From(session, node, item))
        except RpcError as error:
            await put(From(session, node, error=error, ended=True))
        else:
            await put(From(session, node, ended=True))


async def _side_by_side(jobs: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Run all of them; an exception of one, as for wrong arguments, ends them and is raised."""
    failures: list[Exception] = []

    async def run(job: Callable[[], Awaitable[None]], scope: anyio.CancelScope) -> None:
        try:
            await job()
        except Exception as failure:  # noqa: BLE001  (raised below, alone)
            failures.append(failure)
            scope.cancel()

    async with anyio.create_task_group() as group:
        for job in jobs:
            group.start_soon(run, job, group.cancel_scope)
    if failures:
        raise failures[0]


class One(Target):
    """One session, by its id."""

    _many = False

    def __init__(self, node: Node, id: str) -> None:
        super().__init__(node, f"session {id[:64]}", self._find_it)
        self._id = id

    def _find_it(self) -> list[Entry]:
        entry = self._node.directory.get(self._id)
        return [] if entry is None else [entry]

    def one(self) -> Target:
        return self

    def clientize(self, controller: Any, /, **options: Any) -> Any:
        return self._node.clientize(self._id, controller, self._given(options))


class Principal(Target):
    """All sessions of a principal; one of them where a proxy is asked for."""

    def clientize(self, controller: Any, /, **options: Any) -> Any:
        return self.one().clientize(controller, **options)


class Newest(Target):
    """One member of many: the one that connected last."""

    _many = False

    def __init__(
        self, node: Node, name: str, find: Callable[[], list[Entry]], options: Options
    ) -> None:
        super().__init__(node, name, find)
        self.settings = options

    def clientize(self, controller: Any, /, **options: Any) -> Any:
        return choosing_proxy(self._node, self, controller, self._given(options))

    def one(self) -> Target:
        return self

    def _members(self) -> list[Entry]:
        best = self._best(())
        return [] if best is None else [best]

    def _best(self, tried: Collection[str]) -> Entry | None:
        best: Entry | None = None
        for entry in super()._members():
            if entry.session in tried:
                continue
            if best is None or (entry.state, -entry.since) < (best.state, -best.since):
                # "connected" comes before "detached".
                best = entry
        return best

    async def choose(self, tried: Collection[str]) -> Choice:
        best = self._best(tried)
        if best is None:
            raise NoMember(f"{self._name} has no member{' left' if tried else ''}")
        return Choice(best.session)

    def may_repeat(self, error: RpcError[Any], idempotent: bool) -> bool:
        return error.not_started or isinstance(error, SessionGone)


class Group(Target):
    """The members of a group, which exists while it has members."""

    def __init__(self, node: Node, name: str) -> None:
        super().__init__(node, f"group {name!r}", lambda: node.directory.find(group=name))
        self._group = name

    async def join(self, session: Session | str | None = None, *, everywhere: bool = False) -> None:
        """Make a session of this node a member, until it ends or leaves.

        Args:
            session: The session, or its id; if left out, the session of the call that is being
                handled.
            everywhere: Whether to return only when every node that is up knows it.

        Raises:
            SessionGone: There is no such session on this node.
            RpcError: `resource_exhausted`: it is in `ClusterLimits.max_groups` groups already.
        """
        self._node.check(f"{self._name} has no members here")
        id = self._node.own(session)
        entry = self._node.directory.get(id)
        most = self._node.limits.max_groups
        if entry is not None and self._group not in entry.groups and len(entry.groups) >= most:
            raise RpcError(
                "resource_exhausted", f"session {id} is in {most} groups (ClusterLimits.max_groups)"
            )
        self._node.directory.local(["j", id, self._group])
        if everywhere:
            await self._node.settled()

    async def leave(self, session: Session | str | None = None) -> None:
        """End a membership; has no effect if there is none.

        Args:
            session: The session, or its id; if left out, the session of the call that is being
                handled.

        Raises:
            SessionGone: There is no such session on this node.
        """
        self._node.check(f"{self._name} has no members here")
        self._node.directory.local(["l", self._node.own(session), self._group])
