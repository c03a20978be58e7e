"""`python -m tests.audit`: are there known vulnerabilities in what is installed here?

`pip-audit` asks a service on the network. Where that cannot be reached, or knows none of the
packages, nothing was audited: this then says so, and does not fail.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

# Seconds.
PATIENCE = 120


def main() -> int:
    command = [sys.executable, "-m", "pip_audit", "--format=json", "--skip-editable"]
    command += ["--progress-spinner=off"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return not_audited(f"no answer within {PATIENCE} s")
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        said = done.stderr.strip().splitlines()
        return not_audited(said[-1] if said else f"pip-audit ended with {done.returncode}")
    audited = [one for one in packages if "skip_reason" not in one]
    if not audited:
        return not_audited(f"the service answered for none of {len(packages)} packages")
    return verdict(audited, len(packages) - len(audited))


def not_audited(why: str) -> int:
    print(f"NOT AUDITED for known vulnerabilities: {why}", file=sys.stderr)
    return 0


def verdict(audited: list[dict[str, Any]], skipped: int) -> int:
    bad = [one for one in audited if one["vulns"]]
    for one in bad:
        ids = ", ".join(found["id"] for found in one["vulns"])
        print(f"{one['name']} {one['version']}: {ids}", file=sys.stderr)
    print(f"audited {len(audited)} packages, {len(bad)} with known vulnerabilities", end="")
    print(f"; {skipped} could not be audited" if skipped else "")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
