"""`wsrpc nodes` and `wsrpc presence`: lists of a cluster's nodes and sessions."""

from __future__ import annotations

import time
from typing import Any

from rich.text import Text

from ..errors import Code, RpcError
from ..interfaces import Session
from .connection import Target
from .failures import ExitCode, Failure
from .output import Output
from .text import printable

__all__ = ["nodes", "presence"]


async def nodes(target: Target, output: Output, *, as_json: bool) -> None:
    """Show the nodes, one on each line."""
    async with target.session() as session:
        try:
            found: list[dict[str, Any]] = await _cluster(session, target).nodes()
        except RpcError as error:
            raise _said(error, target) from None
    if as_json:
        await output.document(found)
        return
    for one in sorted(found, key=lambda one: one["since"]):
        line = Text(one["id"], "bold cyan")
        line.append(f"  {printable(one['state']):9}", "green" if one["state"] == "up" else "yellow")
        line.append(f"  {one['load']} sessions  up {_age(one['since'])}{_meta(one['meta'])}")
        line.append("  (asked)" if one["here"] else "", "dim")
        await output.text(line)


async def presence(
    target: Target, output: Output, group: str | None, principal: str | None, *, as_json: bool
) -> None:
    """Show the sessions, one on each line, as they come."""
    count = 0
    async with target.session() as session:
        try:
            async with _cluster(session, target).presence(
                group=group, principal=principal
            ) as batches:
                async for batch in batches:
                    for one in batch:
                        count += 1
                        if as_json:
                            await output.item(one)
                        else:
                            await output.text(_member(one))
        except RpcError as error:
            raise _said(error, target) from None
    if not as_json and not count:
        await output.text(Text("nobody is there", "dim"))


def _cluster(session: Session, target: Target) -> Any:
    return session.clientize("wsrpc.cluster", **target.options)


def _said(error: RpcError[Any], target: Target) -> Exception:
    if error.code == Code.UNIMPLEMENTED:
        return Failure(
            f"{target.url} is no node of a cluster: start it with `wsrpc serve --cluster nats://…` "
            "or build a Cluster(server)",
            ExitCode.REMOTE,
        )
    return error


def _member(one: dict[str, Any]) -> Text:
    line = Text(printable(one["session"]), "bold cyan")
    line.append(f"  {one['state']}", "green" if one["state"] == "connected" else "yellow")
    line.append(f"  {printable(one['principal'] or 'no principal')}  {_age(one['since'])}")
    if one["groups"]:
        line.append(f"  in {printable(', '.join(one['groups']))}")
    line.append(_meta(one["meta"]))
    return line


def _meta(meta: dict[str, str]) -> str:
    return "".join(f"  {printable(key)}={printable(value)}" for key, value in meta.items())


def _age(since: float) -> str:
    seconds = max(0, int(time.time() - since))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
