"""`make mutants`: plants each fault and shows that the tests see it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from .faults import FAULTS
from .runner import copy_to, run_tests, try_fault


def main(words: list[str]) -> int:
    """Try the faults, or those that have one of these words in their description."""
    faults = [fault for fault in FAULTS if not words or any(word in fault.what for word in words)]
    survived = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_to(folder)
        for tests in dict.fromkeys(fault.tests for fault in faults):
            # Twice, for a machine that is busy.
            sound = run_tests(tests, folder)
            if sound.seen and (sound := run_tests(tests, folder)).seen:
                print(f"without any fault {' '.join(tests)} fails: {sound.by}")
                return 2
        for fault in faults:
            outcome = try_fault(fault, folder)
            survived += not outcome.seen
            result = f"seen by {outcome.by}" if outcome.seen else "NOT SEEN"
            print(f"{fault.file}: {fault.what}: {result}", flush=True)
    print(f"{len(faults)} faults, {survived} not seen")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
