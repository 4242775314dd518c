"""How many machines a plan takes: a simulation over unit costs that were measured.

    python -m bench.scaling [--sessions 10000000] [--streams 1000000] [--append-rate 10000] …

Sessions are placed on shards by a hash of their ids: really placed, all of them. A shard is a
Postgres cluster with the nodes in front of it, and knows nothing of the others. Then an hour of a busy
day is played second by second, with runs that begin and end by chance and sessions of which few are
busy and most are quiet, and what each shard and node has to carry is held against what was measured
that it can. The unit costs are options; `--help` says which benchmark prints each. Takes about half a
minute. The seed is printed: the same seed gives the same plan.
"""

from __future__ import annotations

import argparse
import math
import random
import secrets
import statistics
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from typing import Any

__all__ = ["Costs", "Plan", "jump", "main"]

TICKS = 3600
"""Seconds that are played."""

SPREAD = 1.5
"""Of how busy sessions are: the sigma of a log-normal. With it the busiest hundredth of all sessions
has a fifth of all streams."""


def of(default: float, help_: str) -> Any:
    """Declare a figure that can be given on the command line."""
    return field(default=default, metadata={"help": help_})


@dataclass(frozen=True, slots=True)
class Costs:
    """What one machine of the measured kind can do, or what one thing takes of it."""

    append_rate: float = of(
        20_000.0,
        "events/s that one Postgres commits, one an append, of 64 sessions at once (bench.engines)",
    )
    delivery_us: float = of(13.0, "microseconds of CPU for one event to one reader (bench.fanout)")
    append_us: float = of(
        100.0, "microseconds of CPU of the node for one event that it appends: session and engine"
    )
    stream_kib: float = of(
        20.0,
        "KiB of a node for one open stream, without the kernel's (bench.stalled, architecture)",
    )
    event_bytes: float = of(
        420.0, "bytes on the disk of one event with its index, before it is trimmed (bench.engines)"
    )
    session_kib: float = of(
        6.0, "KiB on the disk of a quiet session: its row, its snapshot, its last events"
    )
    rejoin_rate: float = of(
        1_000.0, "streams/s that one node takes back after a cut, snapshots included (bench.storm)"
    )
    node_cores: float = of(1.0, "cores that one node uses: a process with one event loop")
    node_gib: float = of(4.0, "GiB of memory of one node")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for."""

    sessions: int = of(10_000_000, "sessions that are kept")
    streams: int = of(1_000_000, "streams that are open at the busiest hour")
    running: float = of(0.03, "share of the streams' sessions in which a run speaks at a moment")
    events: float = of(
        20.0,
        "events/s of a run that speaks: 50 tokens/s joined for 50 ms (TIDEGATE_DELTA_INTERVAL_MS)",
    )
    run_s: float = of(20.0, "seconds that a run speaks")
    kept_events: float = of(2_000.0, "events kept of a busy session (TIDEGATE_KEEP_EVENTS)")
    busy: float = of(0.05, "share of the sessions that have as many events")
    load: float = of(
        0.5,
        "how much of what a machine can do is planned for: the rest is for failures and bad hours",
    )


def jump(key: bytes, buckets: int) -> int:
    """Return the bucket of a key: when one bucket is added, only its share of the keys moves.

    Jump consistent hash, after Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash
    Algorithm" (2014).
    """
    state = int.from_bytes(blake2b(key, digest_size=8).digest(), "big")
    bucket, following = -1, 0
    while following < buckets:
        bucket = following
        state = (state * 2862933555777941757 + 1) & 0xFFFFFFFFFFFFFFFF
        following = int((bucket + 1) * ((1 << 31) / ((state >> 33) + 1)))
    return bucket


@dataclass(frozen=True, slots=True)
class Need:
    """How many of each are needed, and because of what."""

    shards: int
    nodes_of_shard: int
    because: str


def need(plan: Plan, costs: Costs) -> Need:
    """Return the least that carries the averages, with the share of `load`."""
    appended = plan.streams * plan.running * plan.events
    shards = max(1, math.ceil(appended / (costs.append_rate * plan.load)))
    streams = plan.streams / shards
    cpu = appended / shards * (costs.append_us + costs.delivery_us) / 1e6 / costs.node_cores
    memory = streams * costs.stream_kib / 1024 / 1024 / costs.node_gib
    sockets = streams / 9_000
    nodes = {"CPU": cpu, "memory": memory, "open streams": sockets}
    most = max(nodes, key=lambda what: nodes[what])
    return Need(shards, 1 + math.ceil(nodes[most] / plan.load), most)


@dataclass(slots=True)
class Placed:
    """What hashing gave each shard: sessions, and the weight of those that are busy."""

    sessions: list[int]
    weight: list[float]
    moved: float


def place(plan: Plan, shards: int, chance: random.Random) -> Placed:
    """Place all sessions; also tell what share would move if there were one shard more."""
    sessions, weight, moved = [0] * shards, [0.0] * shards, 0
    weights = array("d", (chance.lognormvariate(0.0, SPREAD) for _ in range(4096)))
    sample = max(1, plan.sessions // 50_000)
    for number in range(plan.sessions):
        key = b"ses_%x" % number
        shard = jump(key, shards)
        sessions[shard] += 1
        weight[shard] += weights[chance.getrandbits(12)]
        if number % sample == 0:
            moved += jump(key, shards + 1) != shard
    return Placed(sessions, weight, moved * sample / plan.sessions)


def play(plan: Plan, share: Sequence[float], chance: random.Random) -> list[list[float]]:
    """Return for each shard the events/s of each second of the hour.

    Runs are born by chance and speak for a time that is exponential: so many speak at a moment as
    a Poisson distribution says, and neighbouring seconds are alike.
    """
    series: list[list[float]] = []
    leave = 1 - math.exp(-1 / plan.run_s)
    for part in share:
        mean = plan.streams * plan.running * part
        speaking = mean
        seconds: list[float] = []
        for _ in range(TICKS):
            born = chance.gauss(mean * leave, math.sqrt(mean * leave))
            gone = chance.gauss(speaking * leave, math.sqrt(speaking * leave * (1 - leave)))
            speaking = max(0.0, speaking + born - gone)
            seconds.append(speaking * plan.events)
        series.append(seconds)
    return series


def report(plan: Plan, costs: Costs, seed: int) -> None:
    """Print the plan, and how it does."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    needed = need(plan, costs)
    placed = place(plan, needed.shards, chance)
    total = sum(placed.weight)
    share = [weight / total for weight in placed.weight]
    series = play(plan, share, chance)
    peaks = [max(seconds) for seconds in series]
    mean = plan.streams * plan.running * plan.events / needed.shards
    nodes = needed.shards * needed.nodes_of_shard
    per_node = plan.streams / nodes
    print(f"seed {seed}: {plan.sessions:,} sessions, {plan.streams:,} open streams")
    print(
        f"  {plan.streams * plan.running:,.0f} runs speak at a moment: "
        f"{plan.streams * plan.running * plan.events:,.0f} events/s"
    )
    print(
        f"  shards            {needed.shards:8,}   of {needed.nodes_of_shard} nodes each "
        f"({nodes:,} in all; {needed.because} decides, one is spare)"
    )
    print(
        f"  sessions of one   {statistics.mean(placed.sessions):12,.0f} "
        f"(most {max(placed.sessions) / statistics.mean(placed.sessions) - 1:+.1%})"
    )
    print(
        f"  events/s of one   {mean:12,.0f} (worst second of the worst shard "
        f"{max(peaks):,.0f}: {max(peaks) / costs.append_rate:.0%} of what its Postgres can)"
    )
    kept = plan.sessions * (
        costs.session_kib * 1024 + plan.busy * plan.kept_events * costs.event_bytes
    )
    print(
        f"  disk of one       {kept / needed.shards / 2**30:12,.0f} GiB "
        f"({kept / 2**40:,.1f} TiB in all)"
    )
    print(f"  streams of a node {per_node:12,.0f}")
    busy = mean / needed.nodes_of_shard * (costs.append_us + costs.delivery_us) / 1e6
    print(f"  CPU of a node     {busy / costs.node_cores:12.0%}")
    others = needed.nodes_of_shard - 1
    print(
        f"  a node dies       {per_node:12,.0f} streams come back to {others} nodes in "
        f"{per_node / others / costs.rejoin_rate:.1f} s or more"
    )
    print(f"  a Postgres is away {1 / needed.shards:11.2%} of all sessions wait for it")
    print(f"  one shard more    {placed.moved:12.2%} of the sessions move to it")


def main() -> None:
    """Read the plan and the costs, and print what they take."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for group in (Plan, Costs):
        for each in fields(group):
            parser.add_argument(
                f"--{each.name.replace('_', '-')}",
                type=type(each.default),
                default=each.default,
                help=each.metadata["help"],
            )
    parser.add_argument("--seed", type=int, help="of what is left to chance")
    given = vars(parser.parse_args())
    plan = Plan(**{each.name: given[each.name] for each in fields(Plan)})
    costs = Costs(**{each.name: given[each.name] for each in fields(Costs)})
    report(plan, costs, given["seed"] if given["seed"] is not None else secrets.randbits(32))


if __name__ == "__main__":
    main()
