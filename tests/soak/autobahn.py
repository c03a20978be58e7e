"""The Autobahn test suite against the transports: `python -m tests.soak.autobahn [--wstest PATH]`.

Its fuzzing client meets `python -m wsrpc.interop.server --raw-echo` in each of three kinds, and an
echo server of `websockets` itself beside them for comparison. What fails is to be no more than what
`websockets` says of itself (its compliance/README.rst). The suite needs Python 2.7 and is not
installed by itself:

    python2.7 -m pip install virtualenv
    python2.7 -m virtualenv /tmp/autobahn
    /tmp/autobahn/bin/pip install autobahntestsuite==25.10.1
    make autobahn WSTEST=/tmp/autobahn/bin/wstest

Compression is off here, so its cases 12 and 13 are left out. All others take some minutes;
`--cases "1.*" "6.*"` picks some. The reports, which say of each case what went over the wire, are
left in the directory that is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio

from .support import Verdict, child

SERVERS: dict[str, tuple[str, ...]] = {
    "asyncio": (),
    "trio": ("--backend", "trio"),
    "picows": ("--transport", "picows"),
}
REFERENCE = "websockets"

# What is known to fail, and why.
KNOWN = {
    # websockets says so: to it a close frame within a fragmented message is an error, 1002.
    "7.1.5": ("asyncio", "trio", REFERENCE),
    # picows reads ahead: to it a second close frame is an error, 1002, where others ignore it.
    "7.1.2": ("picows",),
}

PASSES = ("OK", "NON-STRICT", "INFORMATIONAL")

# Of 4 MiB in fragments of 64 bytes; websockets itself takes 4,096 unless it is told otherwise. On
# asyncio it is this package that puts them together.
os.environ.setdefault("WEBSOCKETS_MAX_FRAGMENTS", "70000")

TOO_LONG = 1800


async def autobahn(wstest: str, cases: list[str], seed: int = 1) -> bool:
    """Show it; returns whether all is well."""
    verdict = Verdict(f"autobahn: cases {' '.join(cases)}", seed)
    directory = Path(tempfile.mkdtemp(prefix="autobahn-"))
    async with AsyncExitStack() as stack:
        servers = []
        for name, options in SERVERS.items():
            raw = ("--raw-echo", "--port", 0, *options)
            server = await stack.enter_async_context(child(verdict, "wsrpc.interop.server", *raw))
            servers.append({"agent": name, "url": server.url.removeprefix("listening ")})
        server = await stack.enter_async_context(child(verdict, "tests.soak.echo"))
        servers.append({"agent": REFERENCE, "url": server.url})
        specification = directory / "fuzzingclient.json"
        specification.write_text(
            json.dumps(
                {
                    "outdir": str(directory / "reports"),
                    "servers": servers,
                    "cases": cases,
                    "exclude-cases": ["12.*", "13.*"],
                    "exclude-agent-cases": {},
                }
            )
        )
        with anyio.fail_after(TOO_LONG):
            await anyio.run_process(
                [wstest, "--mode", "fuzzingclient", "--spec", str(specification)], cwd=directory
            )
    report = json.loads((directory / "reports" / "index.json").read_text())
    for name in (REFERENCE, *SERVERS):
        _judge(verdict, name, report[name])
    print(f"        reports in {directory / 'reports'}")
    return verdict.end()


def _judge(verdict: Verdict, name: str, results: dict[str, dict[str, Any]]) -> None:
    """What became of the cases with one server."""
    how: Counter[str] = Counter()
    failed = set()
    for case, result in results.items():
        both = result["behavior"], result["behaviorClose"]
        how[both[0]] += 1
        if not all(one in PASSES for one in both):
            failed.add(case)
    known = {case for case, names in KNOWN.items() if name in names}
    told = ", ".join(f"{n} {what}" for what, n in sorted(how.items()))
    print(f"        {name}: {told}; {', '.join(sorted(failed & known)) or 'none'} known to fail")
    if name != REFERENCE:
        verdict.equal(f"{name}: failed otherwise", sorted(failed - known), [])


def main() -> None:
    """Run it where the suite is installed."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.autobahn")
    parser.add_argument("--wstest", default="wstest", help="the suite's command")
    parser.add_argument("--cases", nargs="+", default=["*"])
    arguments = parser.parse_args()
    wstest = shutil.which(arguments.wstest)
    if wstest is None:
        sys.exit(f"{arguments.wstest!r} is not installed; {__file__} says how to get it")
    sys.exit(not anyio.run(autobahn, str(Path(wstest).absolute()), arguments.cases))


if __name__ == "__main__":
    main()
