"""Presence: the members of the cluster, and their comings and goings."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, TypeAlias

import anyio

from ..errors import Code, RpcError
from ..options import checked_seconds
from ..stream import LocalStream, Stream
from .directory import Directory, Entry, Member, PresenceChange
from .limits import ClusterLimits

__all__ = ["Presence"]

Members: TypeAlias = list[Member]
Entries: TypeAlias = list[Entry]
Changes: TypeAlias = list[PresenceChange]


class Presence:
    """The members of a cluster, from this process's memory: no method waits for other nodes.

    Attributes:
        watchers: The number of its watchers.
    """

    def __init__(self, directory: Directory, limits: ClusterLimits) -> None:
        self._directory = directory
        self._limits = limits
        self.watchers = 0
        self._watching: set[_Watcher] = set()
        self._closed = False

    def list(
        self, *, group: str | None = None, principal: str | None = None, node: str | None = None
    ) -> Members:
        """The members that match all arguments, the oldest first.

        Args:
            group: The name of a group.
            principal: The key of a principal.
            node: The id of a node.
        """
        return [entry.member() for entry in self._find(group, principal, node)]

    def _find(self, group: str | None, principal: str | None, node: str | None) -> Entries:
        for name, value in (("group", group), ("principal", principal), ("node", node)):
            _check_text(name, value)
        return self._directory.find(group=group, principal=principal, node=node)

    def count(
        self, *, group: str | None = None, principal: str | None = None, node: str | None = None
    ) -> int:
        """The number of members that match; the arguments are those of `list`."""
        return len(self._find(group, principal, node))

    def watch(
        self,
        *,
        group: str | None = None,
        principal: str | None = None,
        node: str | None = None,
        linger: float = 0.0,
    ) -> Stream[PresenceChange]:
        """Watch members: the present ones come as joins with the reason "initial", then changes.

        A slow watcher gets only the latest state of each member, not each step to it. A member that
        came and went meanwhile is left out. So a watcher never holds more than one change for each
        member. The stream ends when this node leaves the cluster. Wait for a limited time with
        `next(timeout=…)`; a wait that is cancelled ends the stream.

        Args:
            group: Only members of this group; joining it is a join, leaving it a leave.
            principal: Only sessions of the principal with this key.
            node: Only sessions of the node with this id.
            linger: Seconds by which a leave is delayed. If a session of the same principal joins
                meanwhile, there is no leave, and the join comes as an update with the reason
                "moved".

        Raises:
            ValueError: An argument is none of these; the caller's fault.
            RpcError: With the first item: `resource_exhausted`: there are `ClusterLimits.max_watch`
                watchers already.
        """
        for name, value in (("group", group), ("principal", principal), ("node", node)):
            _check_text(name, value)
        if linger is None or checked_seconds("linger", linger) is None or linger < 0:
            raise ValueError(f"linger must be a number of seconds, 0 or more, not {linger!r}")
        return LocalStream(self._changes(group, principal, node, linger), "presence.watch()")

    async def _changes(
        self, group: str | None, principal: str | None, node: str | None, linger: float
    ) -> AsyncGenerator[PresenceChange, None]:
        if self.watchers >= self._limits.max_watch:
            raise RpcError(
                Code.RESOURCE_EXHAUSTED,
                f"presence has {self.watchers} watchers already (ClusterLimits.max_watch)",
            )
        watcher = _Watcher(self._directory, group, principal, node, linger)
        if self._closed:
            watcher.close()
        self.watchers += 1
        self._watching.add(watcher)
        self._directory.listeners.add(watcher.heard)
        try:
            while changes := await watcher.changes():
                for change in changes:
                    yield change
        finally:
            self.watchers -= 1
            self._watching.discard(watcher)
            self._directory.listeners.discard(watcher.heard)

    def close(self) -> None:
        """End all watchers, since this node leaves the cluster."""
        self._closed = True
        for watcher in self._watching:
            watcher.close()


def _check_text(name: str, value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} must be a text, or None for all, not {value!r:.80}")


class _Watcher:
    """The members that one watcher knows, and the changes that it has yet to get."""

    def __init__(
        self,
        directory: Directory,
        group: str | None,
        principal: str | None,
        node: str | None,
        linger: float,
    ) -> None:
        self._group = group
        self._principal = principal
        self._node = node
        self._linger = linger
        self._known: dict[str, Member] = {}
        self._dirty: dict[str, PresenceChange] = {}
        self._leaving: dict[str, tuple[float, PresenceChange]] = {}
        self._woken = anyio.Event()
        self._closed = False
        for entry in directory.find(group=group, principal=principal, node=node):
            self._dirty[entry.session] = PresenceChange("join", entry.member(), "initial")

    def heard(self, change: PresenceChange) -> None:
        member = change.member
        if self._fits(member) or member.session in self._known or member.session in self._dirty:
            self._dirty[member.session] = change
            self._woken.set()

    def _fits(self, member: Member) -> bool:
        return (
            (self._group is None or self._group in member.groups)
            and (self._principal is None or self._principal == member.principal)
            and (self._node is None or self._node == member.node)
        )

    async def changes(self) -> Changes:
        """The next changes; waits until there are any. None come after this node has left."""
        while True:
            told = self._take()
            if told or self._closed:
                return told
            self._woken = anyio.Event()
            if not self._leaving:
                await self._woken.wait()
                continue
            due = min(when for when, _ in self._leaving.values())
            with anyio.move_on_after(max(0.0, due - anyio.current_time())):
                await self._woken.wait()

    def close(self) -> None:
        """Tell what there is to tell, and no more."""
        self._closed = True
        self._woken.set()

    def _take(self) -> Changes:
        dirty, self._dirty = self._dirty, {}
        now = anyio.current_time()
        told: Changes = []
        for session, change in dirty.items():
            there = change.kind != "leave" and self._fits(change.member)
            known = self._known.get(session)
            if there:
                self._known[session] = change.member
                if known is None:
                    told.append(self._arrived(change))
                else:
                    told.append(PresenceChange("update", change.member, change.reason))
            elif known is not None:
                del self._known[session]
                leave = PresenceChange("leave", change.member, change.reason)
                if self._linger > 0:
                    self._leaving[session] = (now + self._linger, leave)
                else:
                    told.append(leave)
        for session in [one for one, (when, _) in self._leaving.items() if when <= now]:
            told.append(self._leaving.pop(session)[1])
        return told

    def _arrived(self, change: PresenceChange) -> PresenceChange:
        """A join as it is told: an update if the principal has only moved to another session."""
        key = change.member.principal
        reason: Any = "initial" if change.reason == "initial" else "connected"
        if key is not None:
            for session, (_, leave) in self._leaving.items():
                if leave.member.principal == key:
                    del self._leaving[session]
                    return PresenceChange("update", change.member, "moved")
        return PresenceChange("join", change.member, reason)
