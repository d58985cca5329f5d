"""A peer that is killed while it takes ranges over goes on where it was, or leaves no trace."""

from __future__ import annotations

from collections import Counter

from core.consistency import Level
from core.healing_messages import PaxosStateAsk, TreeAsk
from core.metadata import BeginMove, StepMove
from core.requests import MetadataRequest
from core.settings import Settings
from jepsen_like.churn import foreign_rows
from jepsen_like.session import Session
from kv.buckets import BucketSpec
from node import move_plans
from node.move_plans import Newcomer
from node.moving_ring import ABORTED
from sim.cluster import SimCluster
from sim.options import DiskOptions, NetworkOptions, Options
from sim.real import RealSoftware, node_of

SECOND = 1_000_000
ROWS = 600
VALUE = b"v" * 400


def grown(seed: int) -> tuple[SimCluster, int]:
    """Four peers with rows, and a fifth that waits to be admitted."""
    settings = Settings(move_bytes_per_s=200_000, anti_entropy_pause_us=60 * SECOND)
    network = NetworkOptions(latency_max_us=300)
    options = Options(
        seed=seed, peers=4, settings=settings, network=network, disk=DiskOptions(sync_max_us=300)
    )
    cluster = SimCluster(options, RealSoftware())
    cluster.start_all()
    assert cluster.run_until(lambda: all(node_of(cluster, i).ready()[0] for i in range(4)), 60 * SECOND)
    session = Session(cluster, "moving")
    bucket = session.make_bucket(BucketSpec("moving"))
    assert bucket is not None
    done: list[object] = []
    for number in range(ROWS):
        session.door.put(number % 4, bucket, (f"k{number}", VALUE), Level.QUORUM, done.append)
        cluster.run_for(2_000)
    assert cluster.run_until(lambda: len(done) == ROWS, 60 * SECOND)
    newcomer = cluster.add_machine()
    cluster.start(newcomer)
    name = cluster.machines[newcomer].place.name
    assert cluster.run_until(lambda: name in node_of(cluster, 0).identity.waiting, 10 * SECOND)
    return cluster, newcomer


def begin(cluster: SimCluster, newcomer: int) -> None:
    node = node_of(cluster, 0)
    hello = node.identity.waiting[cluster.machines[newcomer].place.name]
    one = Newcomer(hello.peer, hello.name, hello.address, hello.datacentre, hello.rack)
    change: BeginMove = move_plans.add(node.metadata.state, [one], 16)
    cluster.request(0, MetadataRequest(change), 5 * SECOND, lambda _: None)
    assert cluster.run_until(lambda: node.metadata.state.move is not None, 5 * SECOND)


def sent(cluster: SimCluster, newcomer: int) -> int:
    return node_of(cluster, newcomer).moving.tell(0).bytes_done


def merged(cluster: SimCluster) -> bool:
    move = node_of(cluster, 0).metadata.state.move
    return move is None or move.phase != "prepare"


def whole(seed: int) -> int:
    """The bytes that a move takes."""
    cluster, newcomer = grown(seed)
    begin(cluster, newcomer)
    most = 0
    while not merged(cluster):
        cluster.run_for(SECOND // 50)
        most = max(most, sent(cluster, newcomer))
    return most


def test_a_move_killed_at_ninety_percent_sends_little_again() -> None:
    size = whole(1)
    assert size > ROWS * len(VALUE) // 2
    cluster, newcomer = grown(1)
    begin(cluster, newcomer)
    assert cluster.run_until(lambda: sent(cluster, newcomer) >= size * 9 // 10, 60 * SECOND)
    cluster.kill(newcomer)
    cluster.start(newcomer)
    again = 0
    while not merged(cluster):
        cluster.run_for(SECOND // 50)
        again = max(again, sent(cluster, newcomer))
    assert again < size // 5, (again, size)


def test_a_table_of_which_nothing_differs_takes_two_questions_per_source() -> None:
    """Not two per range and source: with hundreds of tables a move would take minutes of round trips."""
    cluster, newcomer = grown(3)
    session = Session(cluster, "tables")
    for number in range(10):
        assert session.make_bucket(BucketSpec(f"empty{number}")) is not None
    asked: list[tuple[int, int]] = []

    def watch(source: int, target: int, message: object) -> bool:
        if source == newcomer and isinstance(message, TreeAsk | PaxosStateAsk):
            asked.append((target, message.table))
        return False

    cluster.network.drop = watch
    begin(cluster, newcomer)
    assert cluster.run_until(lambda: merged(cluster), 60 * SECOND)
    tables = node_of(cluster, 0).metadata.state.tables.values()
    of_empty = [table.id for table in tables if table.name.startswith("empty")]
    counts = Counter(pair for pair in asked if pair[1] in of_empty)
    assert {pair[1] for pair in counts} == {*of_empty}
    assert max(counts.values()) <= 4, "two, and of so many ranges a second part"


def test_what_is_aborted_leaves_nothing_behind() -> None:
    cluster, newcomer = grown(2)
    begin(cluster, newcomer)
    cluster.run_until(lambda: sent(cluster, newcomer) > 0, 20 * SECOND)
    node = node_of(cluster, 0)
    move = node.metadata.state.move
    assert move is not None
    cluster.request(0, MetadataRequest(StepMove(move.id, ABORTED)), 5 * SECOND, lambda _: None)
    assert cluster.run_until(lambda: node.metadata.state.move is None, 5 * SECOND)
    assert cluster.run_until(lambda: "removed" in node_of(cluster, newcomer).ready()[1], 10 * SECOND)
    cluster.kill(newcomer)
    cluster.machines.pop()
    assert cluster.run_until(lambda: not foreign_rows(cluster), 30 * SECOND)
    assert len(node.metadata.state.members) == 4
