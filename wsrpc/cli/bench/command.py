"""`wsrpc bench`: measures a server with the interop service, or starts one and measures it."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio

from ...errors import Code, RpcError
from ..connection import Target, contract_of
from ..failures import ExitCode, Failure, did_you_mean
from ..processes import ended, listening, python
from ..remote_contract import Contract
from .measure import Extent, measure
from .progress import progress
from .report import Conditions, Report
from .works import CONTROLLER, Ground, Meter, Work

__all__ = ["bench", "bench_self"]


async def bench(
    target: Target, works: Sequence[Work], extent: Extent, warmup: float, report: Report
) -> None:
    """Measure one work after the other, all on one session.

    However it ends, `report` gets the measurements until then.

    Args:
        target: The server.
        works: The works to do.
        extent: The duration or the number of calls of each.
        warmup: Seconds for which each is done beforehand without measuring.
        report: Takes the measurements.

    Raises:
        Failure: The server has no interop service, or answers wrongly.
        ConnectError: There is no server to measure.
        RpcError: A call failed.
    """
    complete = False
    try:
        async with target.session() as session:
            contract = await contract_of(session, target)
            if contract is not None:
                _check(contract, target, works)
            ground = Ground.of(target, session)
            conditions = Conditions(target.url, session.peer, target.codec, extent.concurrency)
            report.begin(conditions)
            for work in works:
                await _one(work, ground, extent, warmup, report)
            complete = True
    except RpcError as error:
        # A server without reflection answers like this if it lacks the service.
        if error.code == Code.UNIMPLEMENTED:
            raise _no_service(target, "") from error
        raise
    finally:
        # The only wait here is for a reader of stdout that pauses.
        with anyio.CancelScope(shield=True):
            await report.finish(complete=complete)


async def _one(work: Work, ground: Ground, extent: Extent, warmup: float, report: Report) -> None:
    meter = Meter()
    try:
        with progress(work.name, work.unit) as look:
            if warmup:
                before = replace(extent, seconds=warmup, calls=None)
                await measure(work, ground, before, Meter(), lambda share, rate: None)
            await measure(work, ground, extent, meter, look)
    finally:
        if meter.units:
            with anyio.CancelScope(shield=True):
                await report.add(work, meter)


def _check(contract: Contract, target: Target, works: Sequence[Work]) -> None:
    """Refuse a server that lacks a method that the works need.

    Raises:
        Failure: It lacks one.
    """
    needed = [work for work in works if work.method is not None]
    offered = contract.controllers.get(CONTROLLER)
    if needed and offered is None:
        raise _no_service(target, did_you_mean(CONTROLLER, contract.controllers))
    for work in needed:
        if offered is not None and work.method not in offered.methods:
            raise Failure(
                f"the controller {CONTROLLER!r} of {target.url} has no method {work.method!r}, "
                f"which the work {work.name!r} calls"
            )


def _no_service(target: Target, there_is: str) -> Failure:
    return Failure(
        f"{target.url} does not expose the controller {CONTROLLER!r}, which bench calls{there_is}; "
        "serve it with `python -m wsrpc.interop.server`, or add "
        "wsrpc.interop.service.Interop() to the controllers of the server"
    )


@asynccontextmanager
async def bench_self() -> AsyncIterator[str]:
    """Run the interop server in a process of its own, on a free port; yields its URL.

    Raises:
        Failure: It does not start.
    """
    with tempfile.TemporaryFile() as log:
        async with python(["-m", "wsrpc.interop.server", "--port", "0"], log) as server:
            url = await listening(server)
            if url is None:
                await ended(server)
                log.seek(0)
                said = log.read()[-2000:].decode(errors="replace").strip()
                raise Failure(
                    f"the interop server did not start{f': {said}' if said else ''}",
                    ExitCode.UNREACHABLE,
                )
            yield url
