"""What a change of the metadata and a peer that joins cost, in simulated clusters of N peers.

    python -m bench.scale_moves              10, 100 and 1,000 peers; writes docs/

A table is created: how long until the client hears of it and until every peer knows, and what is sent for
it. Then a peer with an empty directory knocks and is admitted: how long until each of the three epochs of its
move is known to all (it is prepared; ranges were handed over; it has ended), and what was sent by then.
Every peer holds as many rows whatever N is, so that what a newcomer is given does not depend on N.

What an idle cluster says meanwhile (liveness, following) is not counted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from bench.figures import dots, stacked_bars
from bench.scale import BREAK_US, LENGTH_BYTES, PEERS_PER_MACHINE, bear
from core.consistency import Level
from core.limits import SECOND_US
from core.messages import (
    Accept,
    Accepted,
    Decided,
    Follow,
    Message,
    Ping,
    PingAck,
    PingNack,
    PingRequest,
    Prepare,
    Promise,
    Propose,
    Pull,
    Rejected,
    encode_message,
)
from core.moving_messages import MoveAsk, MoveTold
from core.requests import Changed, MetadataRequest, WriteRequest, Written
from kv.buckets import BucketSpec, create_bucket, find
from kv.operations import put
from node import move_plans
from node.move_plans import Newcomer
from node.moving_ring import HAND_OVER, PREPARE
from sim.cluster import Reply, SimCluster
from sim.options import NetworkOptions, Options
from sim.real import RealSoftware, node_of

ROWS_PER_PEER = 10
"""Put through each peer; with three replicas each holds three times as many."""
ROW_BYTES = 1_000
VNODES = 16
PATIENCE_US = 300 * SECOND_US
AT_ONCE = 50
JOINED_S_MAX = 30.0
ROWS_RATIO_MAX = 8.0
METADATA, QUESTIONS, ROWS = "metadata", "how far are you", "rows and logs"
COST_NAMES = (METADATA, QUESTIONS, ROWS)

_IDLE = (Ping, PingAck, PingNack, PingRequest, Follow)
_PURPOSES: dict[type, str] = {
    **dict.fromkeys((Prepare, Promise, Accept, Accepted, Rejected, Decided, Propose, Pull), METADATA),
    **dict.fromkeys((MoveAsk, MoveTold), QUESTIONS),
}


class Cost(msgspec.Struct, kw_only=True):
    """What was sent for something, by what for, and by the busiest peer; CPU seconds of the simulation."""

    kib: dict[str, float]
    kib_busiest: float
    cpu_s: float


class Changes(msgspec.Struct, kw_only=True):
    """A table that is created and a peer that joins. Seconds are virtual, since each was asked for."""

    table_s: float
    """Until the client hears that the table is there."""
    table_known_s: float
    """Until all peers know."""
    table: Cost
    plan_cpu_s: float
    phases_s: dict[str, float]
    """Until all know: prepared, handed over, ended."""
    join: Cost


class Measured(msgspec.Struct, kw_only=True):
    """One cluster."""

    peers: int
    seed: int
    loss: float
    changes: Changes


class _Meter:
    """Counts what peers send from now on, of rows and logs what a newcomer asks for and is told. It takes the
    place of the cluster's hook for losses, and makes none.
    """

    def __init__(self, cluster: SimCluster, newcomer: int = -1) -> None:
        self._cluster = cluster
        self._newcomer = newcomer
        self._cpu = time.process_time()
        self.bytes: Counter[str] = Counter()
        self.by_sender: Counter[int] = Counter()
        cluster.network.drop = self._sent

    def _sent(self, source: int, target: int, message: Message) -> bool:
        purpose = _PURPOSES.get(type(message), ROWS)
        if purpose != ROWS or (self._newcomer in (source, target) and not isinstance(message, _IDLE)):
            size = LENGTH_BYTES + len(encode_message(message))
            self.bytes[purpose] += size
            self.by_sender[source] += size
        return False

    def end(self) -> Cost:
        """What it was; nothing is counted any more."""
        self._cluster.network.drop = None
        return Cost(
            kib={name: round(self.bytes[name] / 1024, 1) for name in COST_NAMES},
            kib_busiest=round(max(self.by_sender.values(), default=0) / 1024, 1),
            cpu_s=round(time.process_time() - self._cpu, 2),
        )


def measure_changes(cluster: SimCluster) -> Changes:
    """Fill a table, create another one, let a peer join. The cluster has one peer more in the end."""
    _fill(cluster)
    meter, begun_us = _Meter(cluster), cluster.now_us
    request = create_bucket(BucketSpec("another"), node_of(cluster, 0).metadata.state.members)
    assert isinstance(request, MetadataRequest)
    table_s = _change(cluster, request, begun_us)
    epoch = _epoch(cluster, 0)
    table_known_s = _all(
        cluster, lambda index: node_of(cluster, index).metadata.state.epoch >= epoch, begun_us
    )
    table = meter.end()

    newcomer = cluster.add_machine()
    cluster.start(newcomer)
    name = cluster.machines[newcomer].place.name
    node = node_of(cluster, 0)
    assert cluster.run_until(lambda: name in node.identity.waiting, PATIENCE_US), "it does not knock"
    meter, begun_us, cpu = _Meter(cluster, newcomer), cluster.now_us, time.process_time()
    hello = node.identity.waiting[name]
    one = Newcomer(hello.peer, hello.name, hello.address, hello.datacentre, hello.rack)
    begin = move_plans.add(node.metadata.state, [one], VNODES)
    plan_cpu_s = round(time.process_time() - cpu, 2)
    _change(cluster, MetadataRequest(begin), begun_us)
    first = node.metadata.state.epoch
    phases_s = {}
    for words, phases in (("prepared", (PREPARE, HAND_OVER)), ("handed over", (HAND_OVER,)), ("ended", ())):
        phases_s[words] = _all(cluster, lambda index, p=phases: _is_in(cluster, index, first, p), begun_us)  # type: ignore[misc]
    return Changes(
        table_s=table_s,
        table_known_s=table_known_s,
        table=table,
        plan_cpu_s=plan_cpu_s,
        phases_s=phases_s,
        join=meter.end(),
    )


def _epoch(cluster: SimCluster, index: int) -> int:
    return node_of(cluster, index).metadata.state.epoch


def _is_in(cluster: SimCluster, index: int, first: int, phases: tuple[str, ...]) -> bool:
    """Whether a peer knows that the move that began with this epoch is in one of these phases or is over."""
    state = node_of(cluster, index).metadata.state
    if state.epoch < first:
        return False
    return state.move is None or state.move.phase in phases


def _all(cluster: SimCluster, holds: Callable[[int], bool], begun_us: int) -> float:
    """Wait until it holds at every peer, and then for ever; seconds since it was asked for."""
    left = [machine.index for machine in cluster.machines]

    def done() -> bool:
        while left and holds(left[-1]):
            left.pop()
        return not left

    assert cluster.run_until(done, PATIENCE_US), f"{len(left)} peers never heard of it"
    return round((cluster.now_us - begun_us) / SECOND_US, 3)


def _change(cluster: SimCluster, request: MetadataRequest, begun_us: int) -> float:
    """Have an epoch be decided; seconds until the client hears."""
    replies: list[Reply] = []
    while True:
        cluster.request(0, request, 30 * SECOND_US, replies.append)
        assert cluster.run_until(lambda: bool(replies), PATIENCE_US)
        answer = replies.pop().answer
        if isinstance(answer, Changed):
            assert not answer.error, answer
            return round((cluster.now_us - begun_us) / SECOND_US, 3)


def _fill(cluster: SimCluster) -> None:
    """Rows of which every peer holds about as many."""
    node, begun_us = node_of(cluster, 0), cluster.now_us
    request = create_bucket(BucketSpec("rows"), node.metadata.state.members)
    assert isinstance(request, MetadataRequest)
    _change(cluster, request, begun_us)
    bucket = find(node.metadata.state, "rows")
    assert bucket is not None
    table, peers = bucket.table, len(cluster.machines)
    _all(cluster, lambda index: table in node_of(cluster, index).metadata.state.tables, begun_us)
    left = list(range(ROWS_PER_PEER * peers))
    while left:
        batch, replies = left[-AT_ONCE:], list[tuple[int, Reply]]()
        del left[-AT_ONCE:]
        for number in batch:
            write = put(bucket, f"k{number}", b"v" * ROW_BYTES, "text/plain", Level.QUORUM)
            assert isinstance(write, WriteRequest)

            def done(reply: Reply, number: int = number, replies: list[tuple[int, Reply]] = replies) -> None:
                replies.append((number, reply))

            cluster.request(number % peers, write, 10 * SECOND_US, done)
        count = len(batch)
        assert cluster.run_until(lambda r=replies, n=count: len(r) == n, PATIENCE_US)  # type: ignore[misc]
        left += [number for number, reply in replies if not isinstance(reply.answer, Written)]
    cluster.run_for(10 * SECOND_US)


def measure(peers: int, seed: int, loss: float) -> Measured:
    """Run one cluster."""
    options = Options(
        seed=seed,
        peers=peers,
        racks=max(3, -(-peers // PEERS_PER_MACHINE)),
        network=NetworkOptions(loss=loss, break_us=BREAK_US),
    )
    cluster = SimCluster(options, RealSoftware())
    cluster.start_all()
    bear(cluster)
    return Measured(peers=peers, seed=seed, loss=loss, changes=measure_changes(cluster))


def broken_promises(all_measured: Sequence[Measured]) -> list[str]:
    """What does not hold of what docs/scale.md says; empty if all does."""
    broken = []
    base = min(all_measured, key=lambda measured: measured.peers)
    for measured in all_measured:
        took_s = measured.changes.phases_s["ended"]
        if took_s > JOINED_S_MAX:
            broken.append(f"{measured.peers} peers: a newcomer was in only after {took_s} s")
        ratio = measured.changes.join.kib[ROWS] / base.changes.join.kib[ROWS]
        if ratio > ROWS_RATIO_MAX:
            broken.append(f"{measured.peers} peers: {ratio:.1f} times the rows and logs of {base.peers}")
    return broken


def figures(all_measured: Sequence[Measured]) -> dict[str, str]:
    """The figures by file name: time and traffic of a join, and of a table that is created."""
    by_size = {f"{measured.peers:,} peers": measured.changes for measured in all_measured}
    return {
        "scale-join-time.svg": dots(
            "A newcomer: until all know that ... (and that a table was created)",
            "s",
            {
                label: {
                    "a table is there": [changes.table_known_s],
                    **{words: [seconds] for words, seconds in changes.phases_s.items()},
                }
                for label, changes in by_size.items()
            },
        ),
        "scale-join-traffic.svg": stacked_bars(
            "A newcomer: what is sent for it, per peer",
            "KiB",
            {
                f"{m.peers:,} peers": {name: kib / m.peers for name, kib in m.changes.join.kib.items()}
                for m in all_measured
            },
        ),
    }


def _rows(measured: Measured) -> dict[str, str]:
    changes = measured.changes
    table, join = changes.table, changes.join
    return {
        "peers": f"{measured.peers:,}",
        "table created: the client knows (s)": f"{changes.table_s:.3f}",
        "table created: all know (s)": f"{changes.table_known_s:.2f}",
        "sent for it, KiB per peer": f"{sum(table.kib.values()) / measured.peers:.2f}",
        "sent for it by the busiest, KiB": f"{table.kib_busiest:,.0f}",
        "join: planning it, CPU seconds": f"{changes.plan_cpu_s:.2f}",
        **{f"join: all know that it is {words} (s)": f"{s:.2f}" for words, s in changes.phases_s.items()},
        **{f"join: {name}, KiB": f"{kib:,.0f}" for name, kib in join.kib.items()},
        "join: sent by the busiest, KiB": f"{join.kib_busiest:,.0f}",
        "join: CPU seconds of all": f"{join.cpu_s:.1f}",
    }


def table(all_measured: Sequence[Measured]) -> str:
    """The figures as a Markdown table."""
    columns = [_rows(measured) for measured in all_measured]
    lines = [f"| {name} | " + " | ".join(column[name] for column in columns) + " |" for name in columns[0]]
    return "\n".join([lines[0], "|---|" + "---:|" * len(all_measured), *lines[1:]])


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Measure changes of simulated clusters of up to 1,000 peers."
    )
    parser.add_argument("--peers", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--loss", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", default="docs", help='folder for scale-join.json and the figures; "": none')
    given = parser.parse_args()
    all_measured = [measure(peers, given.seed, given.loss) for peers in given.peers]
    sys.stdout.write(table(all_measured) + "\n")
    if given.out:
        folder = Path(given.out)
        text = json.dumps(msgspec.to_builtins(all_measured), indent=1) + "\n"
        (folder / "scale-join.json").write_text(text, encoding="utf-8")
        for name, figure in figures(all_measured).items():
            (folder / name).write_text(figure, encoding="utf-8")
    broken = broken_promises(all_measured)
    sys.stdout.write("".join(f"BROKEN: {line}\n" for line in broken))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
