"""`python -m tests.simulator --seeds N [--seed S]`: run many seeds, or one with its transcript."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor

from .run import simulate, verdict


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds to run")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first of them")
    parser.add_argument("--seed", type=int, help="run this one alone, and print its transcript")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        lines: list[str] = []
        try:
            simulate(arguments.seed, lines)
        finally:
            print("\n".join(lines))
        return 0
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    failed = 0
    with ProcessPoolExecutor(arguments.workers) as pool:
        for seed, said in zip(seeds, pool.map(verdict, seeds, chunksize=50), strict=True):
            if said is not None:
                failed += 1
                print(said, file=sys.stderr)
                if failed == 3:
                    pool.shutdown(cancel_futures=True)
                    break
            if seed % 1000 == 999:
                print(f"{seed + 1 - arguments.first} seeds", flush=True)
    if failed:
        return 1
    print(f"{len(seeds)} seeds, from {seeds.start}: nothing lost, twice, late or left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
