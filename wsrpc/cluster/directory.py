"""The directory of the cluster's sessions, with their principals, groups and pools.

Each node is the only writer of its own part, so parts are never merged: the operations of a node
hold, in their order. An operation is a list that JSON can carry. A node applies its own operations
in the same way as those of others.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeAlias

__all__ = ["Directory", "Entry", "Member", "Op", "PresenceChange", "Reason"]

State: TypeAlias = Literal["connected", "detached"]

Reason: TypeAlias = Literal[
    "connected", "closed", "expired", "node_left", "node_dead", "moved", "initial"
]

Op: TypeAlias = list[Any]
"""`["+", sid, {…}]`, `["-", sid, reason]`, `["j" or "l", sid, group]`, `["s", sid, state]`,
`["m", sid, meta]` or `["w", sid, pool, capacity]`."""


@dataclass(frozen=True, slots=True)
class Member:
    """A session of the cluster at one moment.

    Attributes:
        session: The session's id.
        principal: The key of its principal; None where it has none.
        node: The id of the node that has it.
        groups: The groups of which it is a member.
        meta: The metadata that the application has set.
        state: "connected", or "detached" while it waits to be resumed.
        since: Seconds since 1970. The time at which it began.
    """

    session: str
    principal: str | None
    node: str
    groups: frozenset[str]
    meta: Mapping[str, str]
    state: State
    since: float


@dataclass(frozen=True, slots=True)
class PresenceChange:
    """One change of a member, as `Presence.watch` tells it.

    Attributes:
        kind: "join", "leave" or "update".
        member: The member after the change; for a "leave", before it.
        reason: The cause; "initial" for members that were there when the watching began.
    """

    kind: Literal["join", "leave", "update"]
    member: Member
    reason: Reason


NOTHING: Mapping[str, Any] = MappingProxyType({})


def _frozen(meta: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(meta)) if meta else NOTHING


class Entry:
    """A member of the directory, which changes in place."""

    __slots__ = ("groups", "meta", "node", "pools", "principal", "session", "since", "state")

    def __init__(
        self, session: str, node: str, principal: str | None, state: State, since: float
    ) -> None:
        self.session = session
        self.node = node
        self.principal = principal
        self.state: State = state
        self.since = since
        # They are replaced and never changed: most members have none, and share the empty ones. A
        # tuple takes a quarter of the memory of a set.
        self.groups: tuple[str, ...] = ()
        self.meta: Mapping[str, str] = NOTHING
        self.pools: Mapping[str, int] = NOTHING

    def member(self) -> Member:
        """The member at this moment."""
        return Member(
            self.session,
            self.principal,
            self.node,
            frozenset(self.groups),
            self.meta,
            self.state,
            self.since,
        )

    def ops(self) -> Iterable[Op]:
        """The operations that make this entry anew."""
        about = {"k": self.principal, "s": self.state, "m": dict(self.meta), "t": self.since}
        yield ["+", self.session, about]
        for group in self.groups:
            yield ["j", self.session, group]
        for pool, capacity in self.pools.items():
            yield ["w", self.session, pool, capacity]


class Index:
    """Members by a key, such as a principal's; the oldest first.

    Most keys have one member, which is kept without a dictionary around it.
    """

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[str, Entry | dict[str, Entry]] = {}

    def of(self, key: str) -> Iterable[Entry]:
        """The members with this key."""
        found = self._found.get(key)
        if found is None:
            return ()
        return (found,) if isinstance(found, Entry) else found.values()

    def add(self, key: str, entry: Entry) -> None:
        """Add a member, unless it is there."""
        found = self._found.get(key)
        if found is None:
            self._found[key] = entry
        elif isinstance(found, dict):
            found[entry.session] = entry
        elif found is not entry:
            self._found[key] = {found.session: found, entry.session: entry}

    def drop(self, key: str, session: str) -> None:
        """Remove a member, if it is there."""
        found = self._found.get(key)
        if isinstance(found, dict):
            found.pop(session, None)
        if not found or (isinstance(found, Entry) and found.session == session):
            self._found.pop(key, None)


Listener: TypeAlias = Callable[[PresenceChange], None]


class Directory:
    """The members of all nodes that this one knows.

    Attributes:
        node: This node.
        listeners: Called with each change; they must not block.
        taps: Called with each operation of this node, for the nodes that follow it.
    """

    def __init__(self, node: str, most: int) -> None:
        self.node = node
        self.listeners: set[Listener] = set()
        self.taps: set[Callable[[Op], None]] = set()
        self.refused = 0
        self._most = most
        self._entries: dict[str, Entry] = {}
        self._groups = Index()
        self._principals = Index()
        self._pools = Index()
        self._nodes: dict[str, dict[str, Entry]] = {node: {}}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, session: str) -> Entry | None:
        """The member with this id."""
        return self._entries.get(session)

    def find(
        self, *, group: str | None = None, principal: str | None = None, node: str | None = None
    ) -> list[Entry]:
        """The members that match all arguments, the oldest first."""
        found: Iterable[Entry] = self._entries.values()
        if group is not None:
            found = self._groups.of(group)
        elif principal is not None:
            found = self._principals.of(principal)
        elif node is not None:
            found = self._nodes.get(node, {}).values()
        return [
            one
            for one in found
            if (principal is None or one.principal == principal)
            and (node is None or one.node == node)
        ]

    def pool(self, name: str) -> list[Entry]:
        """The workers of a pool."""
        return list(self._pools.of(name))

    def snapshot(self) -> list[Op]:
        """This node's whole part, as operations."""
        return [op for entry in self._nodes[self.node].values() for op in entry.ops()]

    # ------------------------------------------------------------ changes

    def local(self, op: Op) -> None:
        """Apply an operation of this node, and tell other nodes."""
        self.apply(self.node, op)
        for tap in list(self.taps):
            tap(op)

    def apply(self, node: str, op: Op, reason: Reason | None = None) -> None:
        """Apply an operation of a node to its own part.

        Args:
            node: The node.
            op: The operation.
            reason: The cause, where the operation does not tell it.

        Raises:
            ValueError: It is no operation; the node's fault.
        """
        kind, session, *rest = checked(op)
        self._CHANGES[kind](self, node, session, reason, *rest)

    def replace(self, node: str, ops: Iterable[Op]) -> None:
        """Replace a node's whole part; members that are not in the new one are gone.

        Raises:
            ValueError: An element is no operation; the node's fault.
        """
        entries = self._nodes.get(node, {})
        fresh: dict[str, list[Op]] = {}
        for op in ops:
            fresh.setdefault(checked(op)[1], []).append(op)
        for session in [one for one in entries if one not in fresh]:
            self.apply(node, ["-", session, "closed"])
        for session, own in fresh.items():
            entry = self._entries.get(session)
            if entry is not None and entry.node == node:
                kept = {op[2] for op in own if op[0] == "j"}
                for group in [one for one in entry.groups if one not in kept]:
                    self.apply(node, ["l", session, group])
                pools = {op[2] for op in own if op[0] == "w"}
                for pool in [one for one in entry.pools if one not in pools]:
                    self.apply(node, ["w", session, pool, 0])
            for op in own:
                self.apply(node, op)

    def forget(self, node: str, reason: Reason) -> list[str]:
        """Remove a node that is gone, and all its sessions; returns their ids."""
        gone = list(self._nodes.get(node, ()))
        for session in gone:
            self.apply(node, ["-", session, reason])
        if node != self.node:
            self._nodes.pop(node, None)
        return gone

    def _begun(
        self, node: str, session: str, reason: Reason | None, about: Mapping[str, Any]
    ) -> None:
        known = self._entries.get(session)
        state: State = "detached" if about.get("s") == "detached" else "connected"
        if known is not None:
            if known.node == node:
                self._set_state(node, session, reason, state)
                self._set_meta(node, session, reason, about.get("m") or {})
            return
        if len(self._entries) >= self._most:
            self.refused += 1
            return
        key = about.get("k")
        for other in self._principals.of(key or ""):
            # The key of many sessions of one principal is kept once.
            key = other.principal
            break
        entry = Entry(session, node, key, state, float(about.get("t") or 0.0))
        entry.meta = _frozen(about.get("m") or {})
        self._entries[session] = entry
        self._nodes.setdefault(node, {})[session] = entry
        if entry.principal is not None:
            self._principals.add(entry.principal, entry)
        self._tell("join", entry, reason or "connected")

    def _ended(
        self, node: str, session: str, reason: Reason | None, why: Reason = "closed"
    ) -> None:
        entry = self._own(node, session)
        if entry is None:
            return
        del self._entries[session]
        self._nodes[node].pop(session, None)
        if entry.principal is not None:
            self._principals.drop(entry.principal, session)
        for group in entry.groups:
            self._groups.drop(group, session)
        for pool in entry.pools:
            self._pools.drop(pool, session)
        self._tell("leave", entry, reason or why)

    def _joined(self, node: str, session: str, reason: Reason | None, group: str) -> None:
        entry = self._own(node, session)
        if entry is not None and group not in entry.groups:
            group = sys.intern(group)
            entry.groups = (*entry.groups, group)
            self._groups.add(group, entry)
            self._tell("update", entry, reason or "moved")

    def _left(self, node: str, session: str, reason: Reason | None, group: str) -> None:
        entry = self._own(node, session)
        if entry is not None and group in entry.groups:
            entry.groups = tuple(one for one in entry.groups if one != group)
            self._groups.drop(group, session)
            self._tell("update", entry, reason or "moved")

    def _set_state(self, node: str, session: str, reason: Reason | None, state: State) -> None:
        entry = self._own(node, session)
        if entry is not None and entry.state != state:
            # This is not the operation's own string, which every entry would keep.
            entry.state = "detached" if state == "detached" else "connected"
            self._tell("update", entry, reason or "moved")

    def _set_meta(
        self, node: str, session: str, reason: Reason | None, meta: Mapping[str, str]
    ) -> None:
        entry = self._own(node, session)
        if entry is not None and entry.meta != meta:
            entry.meta = _frozen(meta)
            self._tell("update", entry, reason or "moved")

    def _works(
        self, node: str, session: str, reason: Reason | None, pool: str, capacity: int
    ) -> None:
        entry = self._own(node, session)
        if entry is None or entry.pools.get(pool, 0) == capacity:
            return
        if capacity:
            pool = sys.intern(pool)
            entry.pools = {**entry.pools, pool: capacity}
            self._pools.add(pool, entry)
        else:
            left = {name: n for name, n in entry.pools.items() if name != pool}
            entry.pools = left or NOTHING
            self._pools.drop(pool, session)
        self._tell("update", entry, reason or "moved")

    _CHANGES: ClassVar[dict[str, Callable[..., None]]] = {
        "+": _begun,
        "-": _ended,
        "j": _joined,
        "l": _left,
        "s": _set_state,
        "m": _set_meta,
        "w": _works,
    }

    def _own(self, node: str, session: str) -> Entry | None:
        """The entry, if this node may change it."""
        entry = self._entries.get(session)
        return entry if entry is not None and entry.node == node else None

    def _tell(self, kind: Literal["join", "leave", "update"], entry: Entry, why: Reason) -> None:
        if self.listeners:
            change = PresenceChange(kind, entry.member(), why)
            for listener in list(self.listeners):
                listener(change)


SHAPES: Mapping[str, tuple[type, ...]] = {
    "+": (dict,),
    "-": (str,),
    "j": (str,),
    "l": (str,),
    "s": (str,),
    "m": (dict,),
    "w": (str, int),
}


def checked(op: Op) -> Op:
    """Check an operation of another node; returns it.

    Raises:
        ValueError: It is no operation.
    """
    kind, session, rest = (*op[:2], None, None)[0], (*op[1:2], None)[0], op[2:]
    shape = SHAPES.get(kind) if isinstance(kind, str) else None
    fits = shape is not None and len(rest) == len(shape) and isinstance(session, str)
    if fits and shape is not None and all(map(isinstance, rest, shape)):
        about = rest[0]
        if kind == "s":
            fits = about in ("connected", "detached")
        elif kind == "w":
            fits = rest[1] >= 0
        elif kind == "m":
            fits = _is_meta(about)
        elif kind == "+":
            key, since = about.get("k"), about.get("t", 0.0)
            fits = (key is None or isinstance(key, str)) and isinstance(since, int | float)
            fits = fits and _is_meta(about.get("m", {}))
        if fits:
            return op
    raise ValueError(f"no operation of a directory: {op!r:.200}")


def _is_meta(meta: Any) -> bool:
    return isinstance(meta, dict) and all(
        isinstance(key, str) and isinstance(value, str) for key, value in meta.items()
    )
