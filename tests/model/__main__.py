"""`make model`: numbering, acks, replay and resume, checked exhaustively within bounds."""

from __future__ import annotations

import sys

from .check import LARGE, PLANTED, SMALL, check, missing


def main() -> int:
    if missing():
        print(f"make model needs {' and '.join(missing())} (Debian: apt-get install spin gcc)")
        return 2
    wrong = 0
    for bounds in [SMALL, *LARGE]:
        found = check(bounds)
        shown = " ".join(f"{name}={value}" for name, value in bounds.items())
        result = found.error or ("holds" if found.complete else "NOT COMPLETE")
        wrong += not found.complete
        print(f"{shown}: {found.states:,} states, {found.seconds:.1f} s: {result}", flush=True)
    for name, what in PLANTED.items():
        found = check(SMALL, name)
        wrong += not found.error
        print(f"planted: {what}: {found.error or 'NOT FOUND'}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
