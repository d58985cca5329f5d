"""What a change of the metadata and a peer that joins cost, in a simulated cluster of N peers (bench/scale.py).

A table is created: how long until the client hears of it and until every peer knows, and what is sent for
it. Then a peer with an empty directory knocks and is admitted: how long until each of the three epochs of its
move is known to all (it is prepared; ranges were handed over; it has ended), and what was sent by then.
Every peer holds as many rows whatever N is, so that what a newcomer is given does not depend on N.

What an idle cluster says meanwhile (liveness, following) is not counted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import msgspec

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
from core.requests import Changed, MetadataRequest
from jepsen_like.history import OK
from jepsen_like.session import Session
from kv.buckets import BucketSpec, create_bucket
from node import move_plans
from node.move_plans import Newcomer
from node.moving_ring import HAND_OVER, PREPARE
from sim.cluster import Reply, SimCluster
from sim.real import node_of

LENGTH_BYTES = 4
ROWS_PER_PEER = 10
"""Put through each peer; with three replicas each holds three times as many."""
ROW_BYTES = 1_000
VNODES = 16
PATIENCE_US = 300 * SECOND_US
AT_ONCE = 50
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


class _Meter:
    """Counts what peers send from now on; a part of the cluster's hook for losses, of which it makes none."""

    def __init__(self, cluster: SimCluster) -> None:
        self._cluster = cluster
        self._cpu = time.process_time()
        self.bytes: Counter[str] = Counter()
        self.by_sender: Counter[int] = Counter()
        cluster.network.drop = self._sent

    def _sent(self, source: int, _: int, message: Message) -> bool:
        if not isinstance(message, _IDLE):
            size = LENGTH_BYTES + len(encode_message(message))
            self.bytes[_PURPOSES.get(type(message), ROWS)] += size
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
    epoch = node_of(cluster, 0).metadata.state.epoch
    table_known_s = _all(cluster, lambda index: node_of(cluster, index).metadata.state.epoch >= epoch, begun_us)
    table = meter.end()

    newcomer = cluster.add_machine()
    cluster.start(newcomer)
    name = cluster.machines[newcomer].place.name
    node = node_of(cluster, 0)
    assert cluster.run_until(lambda: name in node.identity.waiting, PATIENCE_US), "it does not knock"
    meter, begun_us, cpu = _Meter(cluster), cluster.now_us, time.process_time()
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


def _is_in(cluster: SimCluster, index: int, first: int, phases: tuple[str, ...]) -> bool:
    """Whether a peer knows that the move that began with this epoch is in one of these phases or has ended."""
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
    session = Session(cluster, "scale")
    bucket = session.make_bucket(BucketSpec("rows"))
    assert bucket is not None
    table, last = bucket.table, len(cluster.machines) - 1
    begun_us = cluster.now_us
    _all(cluster, lambda index: table in node_of(cluster, index).metadata.state.tables, begun_us)
    left = list(range(ROWS_PER_PEER * (last + 1)))
    value = b"v" * ROW_BYTES
    while left:
        batch, ends = left[-AT_ONCE:], []
        del left[-AT_ONCE:]
        for number in batch:
            session.door.put(number % (last + 1), bucket, (f"k{number}", value), Level.QUORUM, ends.append)
        assert cluster.run_until(lambda e=ends, n=len(batch): len(e) == n, PATIENCE_US)  # type: ignore[misc]
        left += [number for number, end in zip(batch, ends, strict=True) if end.status != OK]
    cluster.run_for(10 * SECOND_US)
