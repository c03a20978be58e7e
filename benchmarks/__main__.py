"""The command: ``python -m benchmarks`` from the root of the repository.

Exit codes: 0 all was measured, 1 a peer failed or nothing was measured, 2 usage, or a peer that
was asked for by name cannot run.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks import report
from benchmarks.harness import Run
from benchmarks.peers import BASELINE, PEERS
from benchmarks.works import WORKS

QUICK = 0.1
"""The part of a full run's counts that a quick run does."""
FULL_REPETITIONS = 5
QUICK_REPETITIONS = 3


def main() -> int:
    """Parse the command line, run, print the tables; return the exit code."""
    options = _parser().parse_args()
    factor = QUICK if options.quick else 1.0
    default = QUICK_REPETITIONS if options.quick else FULL_REPETITIONS
    repetitions = options.repetitions or default
    peers = options.only or list(PEERS)
    works = [WORKS[name] for name in options.work or WORKS]

    started = time.monotonic()
    try:
        outcome = asyncio.run(Run(peers, works, repetitions, factor, _progress).all())
    except KeyboardInterrupt:
        _progress("")
        return 130
    _progress("")
    print(report.markdown(outcome, repetitions, time.monotonic() - started))
    if options.json:
        text = json.dumps(report.as_json(outcome, repetitions, factor), indent=2)
        options.json.write_text(text + "\n")
    if options.only and outcome.unavailable:
        return 2
    return 1 if outcome.failures or not outcome.samples else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"Let several peers do the same work side by side. {BASELINE} is the baseline.",
        epilog=f"Peers: {', '.join(PEERS)}. Works: {', '.join(WORKS)}.",
    )
    parser.add_argument("--quick", action="store_true", help="a rough run of about two minutes")
    parser.add_argument(
        "--only", type=_names(PEERS), metavar="PEER,…", help="these peers (default: all)"
    )
    parser.add_argument(
        "--work", type=_names(WORKS), metavar="WORK,…", help="these works (default: all)"
    )
    parser.add_argument(
        "--repetitions",
        type=_positive,
        metavar="N",
        help=f"default: {FULL_REPETITIONS}, or {QUICK_REPETITIONS} with --quick",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there, too")
    return parser


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = list(dict.fromkeys(name.strip() for name in text.split(",")))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return parse


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _progress(text: str) -> None:
    """Show what goes on, in one line of a terminal; in a log it would only be noise."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
