"""The promises of the metadata log, with whole nodes on simulated machines and networks."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec
import pytest

from core.consistency import Level
from core.messages import Decided, Ping, PingAck, Pull
from core.metadata import Change, CreateTable, TruncateTable
from core.requests import (
    Answer,
    Changed,
    MetadataRequest,
    ReadRequest,
    Request,
    RowsRead,
    RowWrite,
    Unready,
    Write,
    WriteRequest,
    Written,
)
from core.schema import PARTITION, REGULAR, Column, Table, TableOptions
from lsm.keys import ROW_SUFFIX
from node.node import Node
from ring.tokens import token_of
from sim.cluster import Reply, SimCluster
from sim.options import MS, SECOND, NetworkOptions, Options
from sim.real import RealSoftware, node_of

COLUMNS = (Column(0, "key", "text", PARTITION), Column(0, "value", "blob", REGULAR))


def create(name: str, comment: str = "") -> Change:
    return CreateTable("kv", name, COLUMNS, TableOptions(comment=comment))


def running(cluster: SimCluster) -> list[Node]:
    return [node_of(cluster, index) for index in cluster.running()]


def born(cluster: SimCluster) -> bool:
    return all(node.ready()[0] for node in running(cluster))


def one_log(cluster: SimCluster) -> bool:
    return len({node.metadata.state.digest for node in running(cluster)}) == 1


def a_cluster(seed: int = 1, peers: int = 3, started: bool = True, **network: object) -> SimCluster:
    options = Options(seed=seed, peers=peers, network=msgspec.structs.replace(NetworkOptions(), **network))
    cluster = SimCluster(options, RealSoftware())
    if started:
        cluster.start_all()
        assert cluster.run_until(lambda: born(cluster), 60 * SECOND)
    return cluster


def ask(cluster: SimCluster, index: int, request: Request, timeout_us: int = 5 * SECOND) -> Answer | None:
    got: list[Reply] = []
    cluster.request(index, request, timeout_us, got.append)
    assert cluster.run_until(lambda: bool(got), timeout_us + 5 * SECOND), "a client hears in the end"
    return got[0].answer


def change(cluster: SimCluster, index: int, wanted: Change) -> Answer | None:
    return ask(cluster, index, MetadataRequest(wanted))


def table_at(cluster: SimCluster, index: int, name: str) -> Table:
    table = node_of(cluster, index).metadata.state.table("kv", name)
    assert table is not None
    return table


def write(cluster: SimCluster, index: int, table: Table, key: bytes, value: bytes) -> Answer | None:
    row = RowWrite(ROW_SUFFIX, (Write(1, (), 0, value),))
    return ask(cluster, index, WriteRequest(table.id, key, (row,), Level.QUORUM, 0))


def read(cluster: SimCluster, index: int, table: Table, key: bytes) -> list[bytes | None]:
    answer = ask(cluster, index, ReadRequest(table.id, key, ROW_SUFFIX, b"", True, Level.QUORUM))
    assert isinstance(answer, RowsRead), answer
    return [cell.value for found in answer.rows for cell in found.row.cells]


def said(cluster: SimCluster, text: str, level: str) -> list[str]:
    """Who logged this."""
    return [name for _, name, event in cluster.log if text in event.text and event.level == level]


@pytest.mark.parametrize("halves", [((0, 1), (2,)), ((0,), (1, 2))])
def test_two_halves_of_the_seeds_started_apart_make_no_cluster(
    halves: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    cluster = a_cluster(started=False)
    cluster.cut(*halves)
    cluster.start_all()
    cluster.run_for(60 * SECOND)
    assert all(node.metadata.state.epoch == 0 for node in running(cluster))
    answer = change(cluster, 0, create("t"))
    assert isinstance(answer, Unready)
    assert "no cluster yet" in answer.detail
    cluster.heal()
    assert cluster.run_until(lambda: born(cluster), 60 * SECOND)
    assert one_log(cluster)


def test_a_wiped_voter_is_refused_by_name_saying_why() -> None:
    cluster = a_cluster()
    cluster.kill(0)
    cluster.machines[0].wipe()
    cluster.start(0)
    wiped = node_of(cluster, 0)
    assert cluster.run_until(lambda: bool(wiped.identity.refused), 20 * SECOND)
    cluster.run_for(20 * SECOND)
    ready, why = wiped.ready()
    assert not ready
    assert "'n1' is a member with another identity: this directory is empty" in why
    assert said(cluster, "another identity", "error") == ["n1"]
    assert "n2" in said(cluster, "'n1' is a member with another identity", "warning")
    assert isinstance(change(cluster, 1, create("t")), Changed)
    assert isinstance(change(cluster, 0, create("u")), Unready)
    table = table_at(cluster, 1, "t")
    assert isinstance(write(cluster, 1, table, b"k", b"v"), Written)
    assert read(cluster, 2, table, b"k") == [b"v"]


def test_a_rolled_back_disk_is_refused() -> None:
    cluster = a_cluster()
    backup = cluster.machines[1].backup()
    for _ in range(2):
        cluster.kill(1)
        cluster.start(1)
        assert cluster.run_until(lambda: born(cluster), 20 * SECOND)
        cluster.run_for(3 * SECOND)
    cluster.kill(1)
    cluster.machines[1].restore(backup)
    for _ in range(3):
        cluster.start(1)
        old = node_of(cluster, 1)
        assert cluster.run_until(lambda old=old: bool(old.identity.refused), 20 * SECOND)  # type: ignore[misc]
        assert "old copy" in old.ready()[1]
        cluster.run_for(SECOND)
        cluster.kill(1)


def test_epoch_seven_is_not_chosen_twice_by_a_wiped_voter() -> None:
    """Counterexample 27: {A, B} decide; A restarts under its name with an empty disk; {A, C} must not."""
    cluster = a_cluster()
    cluster.isolate(2)
    assert isinstance(change(cluster, 0, create("t", "first")), Changed)
    cluster.kill(0)
    cluster.kill(1)
    cluster.machines[0].wipe()
    cluster.heal()
    cluster.start(0)
    assert isinstance(change(cluster, 2, create("t", "second")), Unready)
    cluster.start(1)
    third = node_of(cluster, 2)
    assert cluster.run_until(lambda: third.metadata.state.epoch == 2, 30 * SECOND)
    assert table_at(cluster, 2, "t").options.comment == "first"


def test_without_the_voters_majority_reads_writes_and_restarts_go_on() -> None:
    cluster = a_cluster(peers=5)
    assert isinstance(change(cluster, 0, create("t")), Changed)
    assert cluster.run_until(lambda: one_log(cluster), 10 * SECOND)
    table = table_at(cluster, 3, "t")
    cluster.kill(0)
    cluster.kill(1)
    cluster.run_for(15 * SECOND)
    answer = change(cluster, 3, create("u"))
    assert isinstance(answer, Unready)
    assert "the majority of the voters n1, n2, n3" in answer.detail
    cluster.kill(3)
    cluster.start(3)
    assert cluster.run_until(lambda: born(cluster), 10 * SECOND)
    cluster.run_for(5 * SECOND)
    keys = [b"k%d" % n for n in range(40) if _living_quorum(cluster, table, b"k%d" % n)]
    assert len(keys) > 5
    for key in keys:
        assert isinstance(write(cluster, 3, table, key, b"v" + key), Written)
        assert read(cluster, 4, table, key) == [b"v" + key]
    cluster.start(0)
    assert cluster.run_until(lambda: isinstance(change(cluster, 3, create("u")), Changed), 30 * SECOND)


def _living_quorum(cluster: SimCluster, table: Table, key: bytes) -> bool:
    placement = node_of(cluster, 3).metadata.state.placement(table.id)
    assert placement is not None
    alive = {node.inside.identity.peer for node in running(cluster)}
    return len(alive & set(placement.replicas(token_of(key)))) >= 2


@pytest.mark.parametrize("seed", range(2))
def test_a_thousand_creates_with_voters_killed_and_cut(seed: int) -> None:
    """Of each name two different tables are asked for, at random peers, while the voters fall."""
    cluster = a_cluster(seed, peers=5, loss=0.01, duplication=0.01, reordering=0.02)
    random = Random(f"{seed}:creates")
    got: dict[tuple[int, str], Answer | None] = {}

    def asker(key: tuple[int, str]) -> Callable[[], None]:
        wanted = MetadataRequest(create(f"t{key[0]}", key[1]))
        return lambda: _ask(cluster, random.randrange(5), wanted, key, got)

    for number in range(500):
        for twin in ("one", "other"):
            cluster.scheduler.after(random.randrange(3 * SECOND), asker((number, twin)))
    for _ in range(8):
        victim = random.choice([0, 0, 1, 2])
        cluster.run_for(random.randrange(400 * MS))
        if random.random() < 0.6:
            if random.random() < 0.5:
                cluster.kill(victim)
            else:
                cluster.power_cut([victim])
            cluster.run_for(random.randrange(SECOND))
            cluster.start(victim)
        else:
            cluster.isolate(victim)
            cluster.run_for(random.randrange(SECOND))
            cluster.heal()
    assert cluster.run_until(lambda: len(got) == 1000, 60 * SECOND)
    cluster.run_for(12 * SECOND)  # what voters still have in their queues is decided or forgotten
    assert cluster.run_until(lambda: one_log(cluster), 60 * SECOND)
    made: dict[int, list[str]] = {}
    for (number, twin), answer in got.items():
        if isinstance(answer, Changed) and not answer.error:
            made.setdefault(number, []).append(twin)
    assert len(made) > 200
    for number, twins in made.items():
        assert twins == [table_at(cluster, 4, f"t{number}").options.comment]
    tables = node_of(cluster, 4).metadata.state.tables.values()
    assert len({table.name for table in tables}) == len(tables)


def _ask(
    cluster: SimCluster,
    index: int,
    request: Request,
    key: tuple[int, str],
    got: dict[tuple[int, str], Answer | None],
) -> None:
    cluster.request(index, request, 10 * SECOND, lambda reply: got.__setitem__(key, reply.answer))


def test_creating_tables_under_load_refuses_nobody_for_long() -> None:
    """Counterexample 32: only what changed is refused, and every refusal moves the coordinator forward."""
    cluster = a_cluster(peers=3)
    assert isinstance(change(cluster, 0, create("t")), Changed)
    assert cluster.run_until(lambda: one_log(cluster), 10 * SECOND)
    table = table_at(cluster, 0, "t")
    answers: list[Answer | None] = []
    for number in range(200):
        row = RowWrite(ROW_SUFFIX, (Write(1, (), 0, b"v"),))
        request = WriteRequest(table.id, b"k%d" % number, (row,), Level.QUORUM, 0)
        cluster.request(number % 3, request, 2 * SECOND, lambda reply: answers.append(reply.answer))
        wanted = MetadataRequest(create(f"u{number}"))
        cluster.request((number + 1) % 3, wanted, 5 * SECOND, lambda reply: None)
        cluster.run_for(5 * MS)
    assert cluster.run_until(lambda: len(answers) == 200, 10 * SECOND)
    assert all(isinstance(answer, Written) for answer in answers)
    assert node_of(cluster, 0).metadata.state.epoch > 50


def test_a_coordinator_behind_a_truncation_is_told_the_epochs_it_lacks() -> None:
    cluster = a_cluster(peers=5)
    assert isinstance(change(cluster, 0, create("t")), Changed)
    assert cluster.run_until(lambda: one_log(cluster), 10 * SECOND)
    old = table_at(cluster, 4, "t")
    late = node_of(cluster, 4)
    cluster.network.drop = lambda source, target, message: isinstance(message, (Decided, Ping, PingAck, Pull))
    assert isinstance(change(cluster, 0, TruncateTable("kv", "t")), Changed)
    assert late.metadata.state.epoch == 2
    answer = write(cluster, 4, old, b"k", b"v")
    assert not isinstance(answer, Written), answer
    assert cluster.run_until(lambda: late.metadata.state.epoch == 3, SECOND)
    assert isinstance(write(cluster, 4, table_at(cluster, 4, "t"), b"k", b"v"), Written)
