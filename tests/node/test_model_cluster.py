"""Whole clusters under unusual mixes, against a model that knows what each row may hold.

A mix is a shape (datacentres, factor) and levels of writes and reads that meet. One client makes bursts of
writes, or of reads, on a few rows with clustering keys: rows with and without a TTL, deletions of rows,
ranges and partitions; pages forward, backward, and of the ring, gone on with inside a partition. Between
bursts peers die, disks fill up, clocks jump, datacentres are cut apart, messages are lost, the table is
dropped and made anew. The model holds:

- of each row the newest version that must be seen (acknowledged, or read where reads never go back);
- writes with an unknown outcome, which may be seen from then on, or not;
- values of writes that were said to be nowhere, which may never be seen.

At the end all replicas must be equal with no help, hash trees must sum up what is stored, and no operation
and no request may be left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

import pytest

from core.cell import NO_VERSION, VALUE, Version
from core.consistency import Level
from core.metadata import CreateTable, DropTable
from core.mutation import DELETE, INSERT
from core.requests import (
    Broken,
    Changed,
    Invalid,
    MetadataRequest,
    ReadRequest,
    ReadRow,
    RowsRead,
    RowWrite,
    ScanRequest,
    Timeout,
    Write,
    WriteRequest,
    Written,
)
from core.row import newest_version
from core.schema import CLUSTERING, PARTITION, REGULAR, Column, TableOptions
from core.settings import Settings
from jepsen_like import convergence
from lsm import keys
from lsm.hash_tree import leaf_of, record_hash
from ring.tokens import token_of
from sim.cluster import Reply, SimCluster
from sim.options import ClockOptions, Options
from sim.real import RealSoftware, node_of

MS, SECOND = 1_000, 1_000_000
PARTITIONS = (b"p", b"q", b"r")
NAMES = tuple(f"{n:02}" for n in range(14))
SLACK_US = 2 * SECOND
"""How far clocks may be apart where rows expire."""

RowId = tuple[bytes, str]


@dataclass(frozen=True)
class Mix:
    """`settled`: what a read has shown every later one shows too, for they all meet."""

    name: str
    peers: int
    factor: int
    writes: tuple[Level, ...]
    reads: tuple[Level, ...]
    datacentres: int = 1
    coordinators: tuple[int, ...] = ()
    settled: bool = True


MIXES = (
    Mix("five", 5, 5, (Level.QUORUM, Level.THREE), (Level.QUORUM, Level.THREE)),
    Mix("two", 3, 3, (Level.TWO, Level.QUORUM), (Level.TWO, Level.LOCAL_QUORUM)),
    Mix("quorum", 6, 3, (Level.QUORUM, Level.EACH_QUORUM), (Level.QUORUM, Level.EACH_QUORUM), 2),
    Mix("each", 6, 3, (Level.EACH_QUORUM,), (Level.LOCAL_QUORUM, Level.EACH_QUORUM), 2, settled=False),
    Mix("local", 6, 3, (Level.LOCAL_QUORUM,), (Level.LOCAL_QUORUM,), 2, coordinators=(0, 2, 4)),
    Mix("all", 6, 3, (Level.ALL,), (Level.ONE, Level.LOCAL_ONE, Level.TWO), 2, settled=False),
    Mix("wide", 10, 3, (Level.QUORUM, Level.EACH_QUORUM), (Level.QUORUM,), 2),
)


@dataclass
class Known:
    """The least that a reader of a row must see; `value` None: nothing."""

    version: Version = NO_VERSION
    value: bytes | None = None


@dataclass
class Asked:
    """A write, and between which times of the simulation what it wrote expires (0: never)."""

    request: WriteRequest
    rows: tuple[RowId, ...]
    value: bytes | None
    expires_us: tuple[int, int] = (0, 0)
    reply: Reply | None = None


@dataclass
class Model:
    """What rows may hold."""

    settled: bool
    known: dict[RowId, Known] = field(default_factory=dict)
    written: dict[bytes, Asked] = field(default_factory=dict)
    unknown: list[Asked] = field(default_factory=list)
    nowhere: set[bytes] = field(default_factory=set)
    seen: list[tuple[RowId, Known]] = field(default_factory=list)

    def row(self, row: RowId) -> Known:
        return self.known.setdefault(row, Known())

    def wrote(self, asked: Iterable[Asked]) -> None:
        """The ends of writes that were made at the same time."""
        before = {row: Known(k.version, k.value) for row, k in self.known.items()}
        for one in asked:
            answer = one.reply.answer if one.reply is not None else None
            if isinstance(answer, Written):
                for row in one.rows:
                    was, now = before.get(row, Known()), self.row(row)
                    if one.value is not None:
                        assert answer.version > was.version, (row, was, one, "a write below what was there")
                    if answer.version > now.version:
                        self.known[row] = Known(answer.version, one.value)
                    elif one.value is None and now.version == was.version:
                        now.value = None  # it met nothing: another deletion, newer and unknown, had come by
            elif _unknown(one.reply):
                self.unknown.append(one)
            elif one.value is not None:
                self.nowhere.add(one.value)

    def saw(self, row: RowId, found: ReadRow | None, window_us: tuple[int, int]) -> None:
        """A read that began and ended at these times gave this."""
        began_us, ended_us = window_us
        known = self.row(row)
        if found is None:
            if known.value is None or _may_hide(self.written[known.value], ended_us):
                return  # clocks may differ on whether it has expired
            hidden = any(row in one.rows and _may_hide(one, ended_us) for one in self.unknown)
            assert hidden, (row, known, "is not there")
            self.seen.append((row, Known(known.version)))
            return
        value = next(cell.value for cell in found.row.cells if cell.column == 1)
        assert value is not None
        one, version = self.written[value], newest_version(found.row)
        assert row in one.rows
        assert value not in self.nowhere, (row, value, "was said to be nowhere")
        assert not one.expires_us[1] or began_us < one.expires_us[1], (row, value, "has expired")
        assert version > known.version or (version, value) == (known.version, known.value), (
            row,
            known,
            found,
        )
        self.seen.append((row, Known(version, value)))

    def settle(self) -> None:
        """Reads that were made at the same time have ended: of a row the newest counts."""
        for row, found in sorted(self.seen, key=lambda item: (item[1].version, item[1].value is not None)):
            if self.settled:
                self.known[row] = found
        self.seen.clear()


def _unknown(reply: Reply | None) -> bool:
    assert reply is not None, "a client always hears in the end"
    answer = reply.answer
    return reply.unknown or isinstance(answer, Timeout) or (isinstance(answer, Broken) and answer.unknown)


def _may_hide(one: Asked, now_us: int) -> bool:
    """Whether after this write nothing may be there for a reader."""
    return one.value is None or 0 < one.expires_us[0] <= now_us


class Run:
    """One cluster, its client and its faults."""

    def __init__(self, mix: Mix, seed: int) -> None:
        self.mix = mix
        self.random = Random(f"{mix.name}:{seed}")
        self.far_clocks = self.random.random() < 0.5
        settings = Settings(
            replication_factor=mix.factor,
            write_timeout_us=400 * MS,
            read_timeout_us=400 * MS,
            follow_idle_us=1 * SECOND,
            anti_entropy_pause_us=1 * SECOND,
            ping_pause_us=500 * MS,
            ping_timeout_us=250 * MS,
        )
        options = Options(
            seed=seed,
            peers=mix.peers,
            replication=0,
            datacentres=mix.datacentres,
            settings=settings,
            clock=ClockOptions(skew_us=60 * SECOND if self.far_clocks else 500 * MS),
        )
        self.cluster = SimCluster(options, RealSoftware())
        self.model = Model(mix.settled)
        self.table = 0
        self.values = 0
        self.counts: dict[str, int] = {}
        self.cluster.start_all()
        everybody = range(mix.peers)
        assert self.cluster.run_until(lambda: all(self.node(i).ready()[0] for i in everybody), 60 * SECOND)
        self.create()

    def node(self, index: int) -> Any:
        return node_of(self.cluster, index)

    def peer(self) -> int:
        return self.random.choice(self.mix.coordinators or range(self.mix.peers))

    def ask(self, requests: list[Any], heard: Callable[[int, Reply], None], peers: list[int]) -> None:
        """Ask for all at the same time, and wait for all."""
        left = [len(requests)]

        def one(at: int, timeout_us: int, start: int, reply: Reply) -> None:
            machine = self.cluster.machines[peers[at]]
            if reply.unknown and timeout_us >= SECOND and machine.process is not None:
                is_scan = isinstance(requests[at], ScanRequest)
                assert is_scan or machine.start != start, (requests[at], "was never answered")
            heard(at, reply)
            left[0] -= 1

        for at, (peer, request) in enumerate(zip(peers, requests, strict=True)):
            timeout_us = self.random.choice((150 * MS, 1 * SECOND))
            call = partial(one, at, timeout_us, self.cluster.machines[peer].start)
            self.cluster.request(peer, request, timeout_us, call)
        assert self.cluster.run_until(lambda: not left[0], 5 * SECOND)

    # --- the table

    def create(self) -> None:
        columns = (
            Column(0, "key", "text", PARTITION),
            Column(0, "name", "text", CLUSTERING),
            Column(0, "value", "blob", REGULAR),
        )
        self.change(CreateTable("kv", "model", columns, TableOptions(), if_not_exists=True))
        running = self.cluster.running()
        states = [self.node(peer).metadata.state for peer in running]
        table = max((state.table_ids.get(("kv", "model"), 0) for state in states), default=0)
        assert table > self.table
        self.table = table
        self.model = Model(self.mix.settled)

    def change(self, change: Any) -> None:
        """Have it decided, whatever that takes; repeating it does no harm."""
        for _ in range(60):
            answers: list[Any] = []
            peer = self.random.choice(self.cluster.running())
            self.cluster.request(peer, MetadataRequest(change), 2 * SECOND, answers.append)
            self.cluster.run_for(SECOND // 2)
            if answers and isinstance(answers[0].answer, Changed):
                return
        raise AssertionError(f"{change} was never decided")

    def drop_under_load(self) -> None:
        """The table goes while writes, pages and a scan are under way; another of its name comes."""
        self.heal()
        ends: list[Reply] = []
        scan = ScanRequest(self.table, b"", 10_000, self.mix.reads[0])
        requests = [self.put().request, self.delete_range().request, self.slice()[0], scan]
        for request in requests * 3:
            self.cluster.request(self.peer(), request, 3 * SECOND, ends.append)
        self.cluster.run_for(self.random.randint(0, 3 * MS))
        self.change(DropTable("kv", "model", if_exists=True))
        assert self.cluster.run_until(lambda: len(ends) == 12, 10 * SECOND)
        codes = {end.answer.code for end in ends if isinstance(end.answer, Invalid)}
        assert codes <= {"no_such_table"}
        self.create()

    # --- writes

    def asked(self, rows: Iterable[RowId], value: bytes | None, **more: Any) -> Asked:
        rows = tuple(rows)
        partition = rows[0][0]
        level = self.random.choice(self.mix.writes)
        operation = DELETE if value is None else INSERT
        request = WriteRequest(self.table, partition, more.pop("put", ()), level, operation, **more)
        return Asked(request, rows, value)

    def put(self) -> Asked:
        self.values += 1
        row, value = self.any_row(), str(self.values).encode()
        writes = (Write(0, (), VALUE, b""), Write(1, (), VALUE, value))
        ttl_s = 0 if self.far_clocks else self.random.choice((0, 0, 1, 3, 6))
        asked = self.asked((row,), value, put=(RowWrite(suffix(row[1]), writes),), ttl_s=ttl_s)
        if ttl_s:
            now_us = self.cluster.now_us
            least_us = now_us + ttl_s * SECOND - SLACK_US
            asked.expires_us = (max(1, least_us), least_us + 3 * SLACK_US)
        self.model.written[value] = asked
        return asked

    def delete(self) -> Asked:
        row = self.any_row()
        return self.asked((row,), None, put=(RowWrite(suffix(row[1]), (), replace=True),))

    def delete_range(self) -> Asked:
        partition, _ = self.any_row()
        first, end = sorted(self.random.sample(NAMES, 2))
        rows = ((partition, name) for name in NAMES if first <= name < end)
        return self.asked(rows, None, ranges=((suffix(first), suffix(end)),))

    def delete_partition(self) -> Asked:
        partition, _ = self.any_row()
        return self.asked(((partition, name) for name in NAMES), None, partition_delete=True)

    def any_row(self) -> RowId:
        return self.random.choice(PARTITIONS), self.random.choice(NAMES)

    def write_burst(self) -> None:
        kinds = [self.put] * 12 + [self.delete] * 2 + [self.delete_range] * 2 + [self.delete_partition]
        asked = [self.random.choice(kinds)() for _ in range(self.random.randint(1, 12))]

        def heard(at: int, reply: Reply) -> None:
            asked[at].reply = reply
            self.count("write", reply)

        self.ask([one.request for one in asked], heard, [self.peer() for _ in asked])
        self.model.wrote(asked)

    # --- reads

    def read_burst(self) -> None:
        plans = [self.random.choice((self.point, self.slice, self.scan))() for _ in range(8)]
        began_us = self.cluster.now_us

        def heard(at: int, reply: Reply) -> None:
            self.count("read", reply)
            self.check(*plans[at], reply, began_us)

        self.ask([request for request, _ in plans], heard, [self.peer() for _ in plans])
        self.model.settle()

    def point(self) -> tuple[Any, list[RowId]]:
        row = self.any_row()
        level = self.random.choice(self.mix.reads)
        return ReadRequest(self.table, row[0], suffix(row[1]), b"", True, level), [row]

    def slice(self) -> tuple[Any, list[RowId]]:
        partition, _ = self.any_row()
        first, end = sorted(self.random.sample((*NAMES, "\x7f"), 2))
        level, reverse = self.random.choice(self.mix.reads), self.random.random() < 0.5
        rows_max = self.random.choice((1, 2, 3, 100))
        rows = [(partition, name) for name in NAMES if first <= name < end]
        request = ReadRequest(
            self.table, partition, suffix(first), suffix(end), False, level, rows_max, reverse
        )
        return request, rows[::-1] if reverse else rows

    def scan(self) -> tuple[Any, list[RowId]]:
        """From a row on, so that it begins inside a partition, or from the beginning."""
        order = [(p, n) for p in sorted(PARTITIONS, key=lambda p: keys_of(p)) for n in NAMES]
        at = self.random.randrange(len(order))
        after = b"" if not at else row_key(self.table, order[at - 1])
        level = self.random.choice(self.mix.reads)
        return ScanRequest(self.table, after, self.random.choice((1, 3, 1_000)), level), order[at:]

    def check(self, request: Any, rows: list[RowId], reply: Reply, began_us: int) -> None:
        """Every row up to where the answer ends is what the model allows."""
        answers = [answer for answer in reply.answers if isinstance(answer, RowsRead)]
        if len(answers) < len(reply.answers) or reply.unknown or not answers:
            return
        found = {item.key: item for answer in answers for item in answer.rows}
        assert len(found) == sum(len(answer.rows) for answer in answers), "a row twice"
        by_id = {row: found.pop(row_key(self.table, row), None) for row in rows}
        assert not found, "rows that were not asked for"
        if answers[-1].more and not (isinstance(request, ReadRequest) and request.point):
            last = max(i for i, row in enumerate(rows) if by_id[row] is not None)
            rows = rows[: last + 1]
        for row in rows:
            self.model.saw(row, by_id[row], (began_us, self.cluster.now_us))

    def count(self, kind: str, reply: Reply) -> None:
        name = f"{kind} {type(reply.answer).__name__}"
        self.counts[name] = self.counts.get(name, 0) + 1

    # --- faults

    def fault(self) -> None:
        cluster, one = self.cluster, self.random.randrange(self.mix.peers)
        machine, everybody = cluster.machines[one], list(range(self.mix.peers))
        kind = self.random.randrange(9)
        if kind == 0:
            cluster.kill(one)
        elif kind == 1:
            cluster.power_cut(self.random.sample(everybody, self.random.choice((1, 2, len(everybody)))))
        elif kind == 2:
            machine.engine.disk_full = True
        elif kind == 3:
            half, place = everybody[: len(everybody) // 2], everybody[::2]
            cut = self.random.choice(([one], half, place, [*place[1:], everybody[1]]))
            cluster.cut(cut, [i for i in everybody if i not in cut], self.random.random() < 0.3)
        elif kind == 4:
            reach_us = 120 * SECOND if self.far_clocks else 500 * MS
            machine.clock.offset_us = self.random.randint(-reach_us, reach_us)
        elif kind == 5:
            cluster.network.loss = 0.1
        elif kind == 6:
            machine.slow_sync_us = 100 * MS
        elif kind == 7:
            cluster.start_all()
        else:
            self.heal()

    def heal(self) -> None:
        self.cluster.heal()
        self.cluster.start_all()
        running = range(self.mix.peers)
        alive = [self.cluster.machines[i].peer for i in running]
        assert self.cluster.run_until(
            lambda: all(self.node(i).swim.is_alive(peer) for i in running for peer in alive), 60 * SECOND
        )

    # --- the whole

    def go(self, steps: int) -> None:
        for _ in range(steps):
            roll = self.random.random()
            if roll < 0.42:
                self.write_burst()
            elif roll < 0.80:
                self.read_burst()
            elif roll < 0.985:
                self.fault()
            else:
                self.drop_under_load()
            self.cluster.run_for(self.random.choice((0, 1 * MS, 50 * MS, 700 * MS)))
        self.heal()
        self.read_burst()
        cluster = self.cluster
        for _ in range(60):
            if not convergence.differences(cluster, logs=False):
                break
            cluster.run_for(SECOND)
        assert convergence.differences(cluster, logs=False) == []  # logs may differ in dropped tables
        self.read_burst()
        cluster.run_for(SECOND)  # what waits for a lost answer ends by its timeout
        for machine in cluster.machines:
            self.check_remains(machine.index)

    def check_remains(self, index: int) -> None:
        """Nothing is left behind, and hash trees sum up what is stored."""
        node, process = self.node(index), self.cluster.machines[index].process
        assert node.admission.requests == node.admission.bytes == 0
        left = [type(operation).__name__ for operation in node.inside.operations.values()]
        assert not {"WriteOperation", "ReadOperation"} & set(left), left
        assert process is not None
        store = process.disk.executor.store
        assert not store.sweeps
        sums: dict[int, int] = {}
        for key, data in convergence.rows_of(self.cluster, index, self.table).items():
            leaf = leaf_of(keys.token_of(key))
            sums[leaf] = (sums.get(leaf, 0) + record_hash(key, data)) & (2**64 - 1)
        assert store.tree.leaves(self.table) == {leaf: total for leaf, total in sums.items() if total}


def suffix(name: str) -> bytes:
    return keys.ROW_SUFFIX + keys.clustering_text(name)


def keys_of(partition: bytes) -> bytes:
    return keys.partition_prefix(0, token_of(partition), partition)


def row_key(table: int, row: RowId) -> bytes:
    return keys.row_key(table, token_of(row[0]), row[0], suffix(row[1]))


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("mix", MIXES, ids=lambda mix: mix.name)
def test_rows_hold_what_they_may(mix: Mix, seed: int) -> None:
    run = Run(mix, seed)
    run.go(120)
    for kind in ("write Written", "read RowsRead"):
        assert run.counts.get(kind, 0) > 20, run.counts
