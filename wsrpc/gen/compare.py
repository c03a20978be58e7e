"""The changes from one contract to another, and which side they break: `wsrpc diff`.

Callers are programs that were written against the old contract and call the new one. Handlers are
programs that implement the old contract and are called by new callers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .differences import differences
from .names import ContractError
from .subtypes import problems

__all__ = ["Change", "compare", "is_compatible"]

Part = Mapping[str, Any]

_RANK = {"value": "a value", "upload": "a stream", "callback": "a callback"}
_KINDS = {"unary": "a single value", "stream": "a stream", "notify": "one way"}


@dataclass(frozen=True, slots=True)
class Change:
    """One change.

    Attributes:
        path: The place: `Shop`, `Shop.buy`, `Shop.buy(what)`, `Shop.buy -> result`.
        change: The kind of change, in a word or two for programs: "removed", "added", "kind",
            "type", "required", "order", "tracked", "idempotent", "tags", "documentation" …
        callers: Whether callers of the old contract break.
        handlers: Whether handlers of the old contract break.
        message: A sentence for people.
    """

    path: str
    change: str
    callers: bool
    handlers: bool
    message: str

    def as_json(self) -> dict[str, Any]:
        """The change for programs."""
        described = asdict(self)
        for side in ("callers", "handlers"):
            described[side] = "breaking" if described[side] else "compatible"
        return described


def compare(old: Any, new: Any) -> list[Change]:
    """All changes from one contract to another, in the order of their paths.

    Args:
        old: The contract that callers or handlers were written against.
        new: The contract that they meet.

    Raises:
        ContractError: An argument is no contract.
    """
    before, after = _controllers(old, "the old contract"), _controllers(new, "the new contract")
    changes: list[Change] = []
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            changes.append(Change(name, "removed", True, False, "the controller is gone"))
        elif name not in before:
            changes.append(Change(name, "added", False, True, "a new controller"))
        else:
            changes += _controller(name, before[name], after[name])
    return changes


def is_compatible(changes: list[Change], side: str = "callers") -> bool:
    """Whether no change breaks callers, handlers, or, for "both", either of them."""
    sides = ("callers", "handlers") if side == "both" else (side,)
    broken = {
        "callers": [one.callers for one in changes],
        "handlers": [one.handlers for one in changes],
    }
    return not any(any(broken[one]) for one in sides)


def _controllers(contract: Any, what: str) -> dict[str, Part]:
    found = contract.get("controllers") if isinstance(contract, Mapping) else None
    if not isinstance(found, Mapping):
        raise ContractError("", f"{what} has no 'controllers'; `wsrpc schema` writes a contract")
    for name, one in found.items():
        if not isinstance(one, Mapping) or not isinstance(one.get("methods"), Mapping):
            raise ContractError(f"controllers.{name}", "it needs 'methods', an object")
        for key, method in one["methods"].items():
            path = f"controllers.{name}.methods.{key}"
            if not isinstance(method, Mapping) or method.get("kind") not in _KINDS:
                raise ContractError(path, "its kind must be unary, stream or notify")
            params = method.get("params", {})
            if not isinstance(params, Mapping) or not all(
                isinstance(param, Mapping) for param in params.values()
            ):
                raise ContractError(f"{path}.params", "it must be an object of objects")
    return dict(found)


def _controller(name: str, old: Part, new: Part) -> Iterator[Change]:
    yield from _said_changed(name, old, new)
    before, after = old["methods"], new["methods"]
    for key in sorted(before.keys() | after.keys()):
        path = f"{name}.{key}"
        if key not in after:
            yield Change(path, "removed", True, False, "the method is gone")
        elif key not in before:
            yield Change(path, "added", False, True, "a new method")
        else:
            yield from _method(path, before[key], after[key])


def _said_changed(path: str, old: Part, new: Part) -> Iterator[Change]:
    if any(old.get(word, "") != new.get(word, "") for word in ("doc", "details")):
        yield Change(path, "documentation", False, False, "other documentation")


def _method(path: str, old: Part, new: Part) -> Iterator[Change]:
    yield from _said_changed(path, old, new)
    if old["kind"] != new["kind"]:
        message = f"gave {_KINDS[old['kind']]}, and gives {_KINDS[new['kind']]}"
        if "notify" in (old["kind"], new["kind"]):
            message = f"was {old['kind']}, and is {new['kind']}"
        yield Change(path, "kind", True, True, message)
    else:
        yield from _answers(path, old, new)
    yield from _params(path, old.get("params", {}), new.get("params", {}))
    yield from _facts(path, old, new)
    yield from _errors(path, old.get("errors", []), new.get("errors", []))


def _answers(path: str, old: Part, new: Part) -> Iterator[Change]:
    if bool(old.get("tracked")) != bool(new.get("tracked")):
        now = "tracked" if new.get("tracked") else "not tracked any more"
        yield Change(path, "tracked", True, True, f"its items are {now}")
    for part in ("result", "item", "final"):
        where = f"{path} -> {part}"
        if part in old and part in new:
            yield from _type(where, reads=old[part], writes=new[part], old_reads=True)
        elif part in old:
            yield Change(where, "removed", True, False, f"there is no {part} any more")
        elif part in new:
            yield Change(where, "added", True, True, f"there was no {part} so far")


def _type(where: str, *, reads: Any, writes: Any, old_reads: bool) -> Iterator[Change]:
    """A changed type of values that old callers read (a result), or write (an argument).

    Args:
        where: Its name in messages.
        reads: The schema that callers, or else the callee, reads by.
        writes: The schema of the other end.
        old_reads: Whether `reads` is the old contract's.
    """
    for_callers = problems(reads, writes)
    for_handlers = problems(writes, reads)
    if not (for_callers or for_handlers):
        was, now = (reads, writes) if old_reads else (writes, reads)
        found = differences(was, now)
        if found:
            words = {one.change for one in found}
            word = words.pop() if len(words) == 1 else "type"
            yield Change(where, word, False, False, "; ".join(one.message for one in found))
        return
    if for_callers and for_handlers:
        word = "type"
    else:
        word = "widened" if bool(for_callers) == old_reads else "narrowed"
    message = "; ".join(for_callers) if for_callers else "it is another type, which fits"
    if for_handlers and not for_callers:
        message += f"; the other way round: {'; '.join(for_handlers)}"
    yield Change(where, word, bool(for_callers), bool(for_handlers), message)


def _params(path: str, old: Part, new: Part) -> Iterator[Change]:
    for name in (*old, *(name for name in new if name not in old)):
        where = f"{path}({name})"
        if name not in new:
            needed = bool(old[name].get("required", True))
            yield Change(where, "removed", True, needed, "the parameter is gone")
        elif name not in old:
            needed = bool(new[name].get("required", True))
            message = "a new parameter that is required" if needed else "a new parameter"
            yield Change(where, "added", needed, True, message)
        else:
            yield from _param(where, old[name], new[name])
    shared = [name for name in old if name in new]
    if shared != [name for name in new if name in old]:
        message = "its parameters have another order, which matters to calls by position"
        yield Change(path, "order", False, False, message)


def _param(where: str, old: Part, new: Part) -> Iterator[Change]:
    kinds = (str(old.get("kind", "value")), str(new.get("kind", "value")))
    if kinds[0] != kinds[1]:
        message = f"was {_RANK.get(kinds[0], kinds[0])}, and is {_RANK.get(kinds[1], kinds[1])}"
        yield Change(where, "kind", True, True, message)
        return
    needed = (bool(old.get("required", True)), bool(new.get("required", True)))
    if needed == (False, True):
        yield Change(where, "required", True, False, "it is required now")
    elif needed == (True, False):
        yield Change(where, "optional", False, True, "it may be left out now")
    if old.get("default") != new.get("default") and needed == (False, False):
        yield Change(where, "default", False, False, "another default")
    if old.get("doc", "") != new.get("doc", ""):
        yield Change(where, "documentation", False, False, "other documentation")
    if kinds[0] == "callback":
        yield from _callback(where, old, new)
    else:
        was, now = old.get("schema", True), new.get("schema", True)
        yield from _type(where, reads=now, writes=was, old_reads=False)


def _callback(where: str, old: Part, new: Part) -> Iterator[Change]:
    before, after = old.get("arguments", []), new.get("arguments", [])
    if len(before) != len(after):
        message = f"it is called with {len(after)} arguments, and was with {len(before)}"
        yield Change(where, "arguments", True, True, message)
    else:
        for number, (was, now) in enumerate(zip(before, after, strict=True), 1):
            inside = f"{where}: argument {number}"
            yield from _type(inside, reads=was, writes=now, old_reads=True)
    was, now = old.get("result", True), new.get("result", True)
    yield from _type(f"{where} -> result", reads=now, writes=was, old_reads=False)
    if old.get("names", []) != new.get("names", []):
        yield Change(where, "names", False, False, "its arguments have other names")


def _facts(path: str, old: Part, new: Part) -> Iterator[Change]:
    was, now = bool(old.get("idempotent")), bool(new.get("idempotent"))
    if was and not now:
        message = "it is not idempotent any more, and old callers repeat it"
        yield Change(path, "idempotent", True, False, message)
    elif now and not was:
        yield Change(path, "idempotent", False, True, "it is idempotent, so that callers repeat it")
    if old.get("tags", []) != new.get("tags", []):
        message = f"its tags were {_listed(old.get('tags'))}, and are {_listed(new.get('tags'))}"
        yield Change(path, "tags", False, False, message)
    if bool(old.get("deprecated")) != bool(new.get("deprecated")):
        now_is = "it is deprecated" if new.get("deprecated") else "it is not deprecated any more"
        yield Change(path, "deprecated", False, False, now_is)
    bounds = [
        "no bound" if one is None else f"{one} ms"
        for one in (old.get("timeout"), new.get("timeout"))
    ]
    if bounds[0] != bounds[1]:
        yield Change(
            path, "timeout", False, False, f"its calls have {bounds[1]}, and had {bounds[0]}"
        )
    if old.get("on_disconnect", "detach") != new.get("on_disconnect", "detach"):
        message = f"a lost connection means {new.get('on_disconnect', 'detach')!r} now"
        yield Change(path, "on_disconnect", False, False, message)


def _listed(tags: Any) -> str:
    return ", ".join(map(str, tags)) if isinstance(tags, list) and tags else "none"


def _errors(path: str, old: Any, new: Any) -> Iterator[Change]:
    before, after = _by_type(old), _by_type(new)
    for name in sorted(before.keys() | after.keys()):
        where = f"{path} raises {name}"
        if name not in after:
            yield Change(where, "removed", False, False, "the error is not documented any more")
        elif name not in before:
            yield Change(where, "added", False, False, "an error that was not documented")
        else:
            was, now = before[name], after[name]
            if was.get("code") != now.get("code"):
                message = f"its code was {was.get('code')}, and is {now.get('code')}"
                yield Change(where, "code", True, True, message)
            data = (was.get("data", True), now.get("data", True))
            yield from _type(f"{where}: data", reads=data[0], writes=data[1], old_reads=True)


def _by_type(errors: Any) -> dict[str, Part]:
    listed = errors if isinstance(errors, list) else []
    return {str(one.get("type")): one for one in listed if isinstance(one, Mapping)}
