"""`python -m tests.fuzz --mutations N [--live N] [--seed S]`: the pure core, then a live server."""

from __future__ import annotations

import argparse
import logging
import sys

import anyio

from .live import live
from .run import Tally, memory, run

# Messages of one seed, so that a failure can be looked at by itself.
BLOCK = 1000

# MiB that memory may grow by.
GROWTH = 20.0


def core(first: int, mutations: int) -> bool:
    """The pure core; whether all is well."""
    tally, before = Tally(), 0.0
    blocks = -(-mutations // BLOCK)
    for n in range(blocks):
        try:
            run(first + n, BLOCK, tally)
        except Exception:
            print(f"seed {first + n}; again with: python -m tests.fuzz --seed {first + n}")
            raise
        if n == min(20, blocks // 10):
            before = memory()
        if n % 100 == 99:
            print(f"{tally.mutations} mutations", flush=True)
    grown = memory() - before
    codes = ", ".join(f"{code or 'taken'}: {n}" for code, n in sorted(tally.codes.items()))
    print(f"{tally.mutations} mutations: {codes}")
    print(f"slowest message {tally.slowest * 1000:.1f} ms of CPU time (at most 100)")
    print(f"memory grew by {grown:.1f} MiB (at most {GROWTH:g})")
    return grown < GROWTH


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--mutations", type=int, default=0, help="how many for the pure core")
    parser.add_argument("--live", type=int, default=0, help="how many for a live server")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--seed", type=int, help="run this seed of the pure core alone")
    options = parser.parse_args()
    if options.seed is not None:
        return not core(options.seed, BLOCK)
    good = True
    if options.mutations:
        good = core(options.first, options.mutations)
    if options.live:
        # Handlers that fail are part of it.
        logging.getLogger("wsrpc").addHandler(logging.NullHandler())
        good = anyio.run(live, options.first, options.live) and good
    return not good


if __name__ == "__main__":
    sys.exit(main())
