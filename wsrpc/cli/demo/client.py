"""The demo's client process: `python -m wsrpc.cli.demo.client ws://…`, one report on each line."""

from __future__ import annotations

import sys

import anyio

import wsrpc

from .reports import Report, State
from .service import Guest, Progress
from .steps import STEPS, Step, Visit

__all__ = ["main"]

STEP_TIMEOUT = 20


class Reporter:
    """Writes the reports of one step after the other."""

    def __init__(self) -> None:
        self._last = Report(key="", state="waiting")

    def say(self, key: str, state: State, evidence: str = "") -> None:
        """Report the state of a step."""
        same = self._last.key == key
        self._write(
            Report(
                key=key,
                state=state,
                evidence=evidence,
                done=self._last.done if same else 0,
                total=self._last.total if same else 0,
            )
        )

    def progress(self, progress: Progress) -> None:
        """Report the progress of the running step."""
        self._write(self._last.model_copy(update={"done": progress.done, "total": progress.total}))

    def _write(self, report: Report) -> None:
        self._last = report
        print(report.model_dump_json(), flush=True)


async def visit(url: str) -> bool:
    """Try every step; returns whether all hold."""
    reporter, guest = Reporter(), Guest()
    async with wsrpc.connect(url, controllers=[guest]) as session:
        visit = Visit(session, guest, reporter.progress)
        results = [await _try(step, visit, reporter) for step in STEPS]
    return all(results)


async def _try(step: Step, visit: Visit, reporter: Reporter) -> bool:
    reporter.say(step.key, "running")
    try:
        with anyio.fail_after(STEP_TIMEOUT):
            evidence = await step.run(visit)
    except Exception as error:  # noqa: BLE001  (the row shows any exception)
        reporter.say(step.key, "fails", f"{type(error).__name__}: {error}")
        return False
    reporter.say(step.key, "holds", evidence)
    return True


def main() -> int:
    """Visit the server whose URL is the only argument."""
    try:
        return 0 if anyio.run(visit, sys.argv[1]) else 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
