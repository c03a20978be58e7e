"""One seed, from the choice of its settings to the verdict."""

from __future__ import annotations

import traceback
from random import Random

from wsrpc.limits import Limits

from .party import NORMAL, Party, Server, Settings
from .world import World

__all__ = ["simulate", "verdict"]

# Seconds of simulated time. Where a single frame fills the replay buffer, each waits a second for
# its ack, so that peace may take long.
HOSTILE = 40.0
PEACE = 1000.0

SIZES = (
    (0, 0, 0, 10, 100),
    (0, 0, 10, 1_000, 3_000),
    (0, 0, 0, 0, 0, 1_000, 30_000, 70_000, 150_000),
)


def settings_of(random: Random) -> Settings:
    def limits() -> Limits:
        return Limits(
            window=random.choice([1, 2, 5, 32]),
            window_bytes=random.choice([1_000, 40_000]),
            outbox=random.choice([1, 5_000, 200_000]),
            replay=random.choice([1, 500, 5_000, 1_000_000]),
            max_calls=random.choice([8, 9, 20]),
            max_waiting=random.choice([0, 2, 1000]),
            max_batch=300_000,
            max_value=160_000,
            max_held=random.choice([0, 160_000, 400_000]),
        )

    return Settings(
        codec=random.choice(["json", "msgpack"]),
        limits=(limits(), limits()),
        resume_window=random.choice([0.0, 2.0, 5.0, 5.0, *[30.0] * 12]),
        heartbeat=random.choice([None, (1.0, 1.0), (2.0, 1.5)]),
        cuts=random.choice([0.3, 2.0, 8.0]),
        largest=random.choice([1_000_000_000] * 7 + [2_000]),
        sizes=random.choice(SIZES),
    )


def simulate(seed: int, lines: list[str] | None = None) -> None:
    """Run one seed.

    Args:
        seed: Decides everything.
        lines: Where the transcript goes, if one is wanted.

    Raises:
        AssertionError: Something happened that may not.
    """
    world = World(seed, lines)
    random = world.random
    settings = settings_of(random)
    world.say("seed", f"{seed}: {settings}")
    server = Server(world, settings)
    server.next_client()

    def everybody() -> list[Party]:
        return [one for one in (*server.clients, *server.hosts) if not one.ended]

    def step() -> None:
        alive = everybody()
        if alive:
            alive[random.randrange(len(alive))].act()
        if world.hostile:
            world.after(0, 0.1, step)

    def drain() -> None:
        for host in server.hosts:
            host.drain()

    step()
    if random.random() < 0.2:
        world.after(0, HOSTILE, drain)
    if random.random() < 0.1:
        world.after(0, HOSTILE, server.restart)
    world.run(HOSTILE)
    world.say("world", "comes to peace")
    world.hostile = False
    while world.now < HOSTILE + PEACE:
        for party in everybody():
            party.wind_down()
        world.run(world.now + 1)
        if all(idle(party) for party in everybody()) and in_pairs(server):
            break
    for party in everybody():
        party.check_rest()
    for host in server.hosts:
        if not host.ended:
            assert host.client is server.client
            assert host.endpoint.sent == host.client.endpoint.received
            assert host.endpoint.received == host.client.endpoint.sent
    for client in list(server.clients):
        if not client.ended:
            client.leave(NORMAL, "done")
    world.run(world.now + 60)
    for client in server.clients:
        for record in client.records.values():
            assert record.outcome, f"call {record.number} has no outcome"
            assert record.cleaned or record.handler is None, "every handler has ended"
    assert not everybody(), "every session has ended"


def in_pairs(server: Server) -> bool:
    """Whether no end takes the other for alive that is not."""
    return all(host.ended or not host.client.ended for host in server.hosts)


def idle(party: Party) -> bool:
    """Whether a session has nothing to do."""
    endpoint = party.endpoint
    return endpoint.state == "open" and endpoint.quiescent and endpoint.replay_bytes == 0


def failure_of(seed: int, lines: list[str] | None = None) -> Exception | None:
    """What a seed runs into, if anything."""
    try:
        simulate(seed, lines)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is what the run is for)
        return error
    return None


def verdict(seed: int) -> str | None:
    """What a seed runs into, for people: the error, where it came from, and what led to it."""
    if failure_of(seed) is None:
        return None
    lines: list[str] = []
    error = failure_of(seed, lines)
    if error is None:
        return f"seed {seed} failed once, and not when it was run again"
    where = "".join(traceback.format_exception(error))
    said = "\n".join(lines[:1] + lines[1:][-200:])
    return f"{said}\n{where}seed {seed}; replay it with: python -m tests.simulator --seed {seed}"
