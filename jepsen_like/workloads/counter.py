"""Counters: add and subtract through every peer, read, and account for every increment at the end.

A read at QUORUM lies between what was acknowledged before it began and what was invoked before it ended. In
the end each counter is the sum of what was acknowledged and of some of the increments whose outcome is
unknown: whether any choice of them makes the sum is decided exactly, so that with few unknown ones neither a
lost nor a doubled increment hides behind them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import accumulate
from typing import NamedTuple

from core.consistency import Level
from core.counter import counter_value
from core.families import replication_of
from core.metadata import CreateTable
from core.requests import CounterRequest, MetadataRequest, ReadRequest, RowsRead
from core.row import live_cells
from core.schema import PARTITION, REGULAR, Column, TableOptions
from jepsen_like.checkers import Problem
from jepsen_like.door import End
from jepsen_like.history import FAIL, OK, Operation
from jepsen_like.session import SECOND, Session
from lsm import keys
from sim.real import node_of

COUNTERS_MAX = 6
DELTA_MAX = 1_000
FINAL_PATIENCE_US = 30 * SECOND
COLUMN = 1


class CounterWorkload:
    """See above."""

    kinds: tuple[str, ...] = ("add", "read")

    def __init__(self) -> None:
        self._table = 0
        self._final_left = 0
        self._finals: list[Operation] = []

    def setup(self, session: Session) -> bool:
        """A table of counters."""
        self.session = session
        self.counters = min(COUNTERS_MAX, session.cluster.options.keys)
        self._create(0)
        return session.cluster.run_until(self._known, 60 * SECOND)

    def _create(self, at: int) -> None:
        cluster = self.session.cluster
        peer = at % len(cluster.machines)
        factor = cluster.options.replication
        members = node_of(cluster, peer).metadata.state.members
        columns = (Column(0, "key", "text", PARTITION), Column(0, "n", "counter", REGULAR))
        change = CreateTable(
            "kv" if factor == 3 else f"kv_rf{factor}",
            "counts",
            columns,
            TableOptions(),
            if_not_exists=True,
            unique_across="kv",
            replication=None if factor == 3 else replication_of(members, factor),
        )

        def judge(end: End) -> None:
            if end.status != OK:
                cluster.scheduler.after(SECOND // 5, self._create, at + 1)

        self.session.door.ask(peer, MetadataRequest(change), judge)

    def _known(self) -> bool:
        cluster = self.session.cluster
        tables = [node_of(cluster, i).metadata.state.table_across("kv", "counts") for i in cluster.running()]
        if not all(tables) or tables[0] is None:
            return False
        self._table = tables[0].id
        return True

    def step(self) -> None:
        """Three increments to one read."""
        if self.session.random.randrange(4):
            self._add("add", -1)
        else:
            self._read("read", self.session.random.randrange(self.counters), Level.QUORUM, -1)

    def probe(self, peer: int) -> None:
        """An increment and a read."""
        self._add("probe_write", peer)
        self._read("probe_read", 0, Level.QUORUM, peer)

    def _add(self, kind: str, peer: int) -> None:
        random = self.session.random
        delta = random.randint(1, DELTA_MAX) * (1 if random.randrange(3) else -1)
        operation = self.session.begin(kind, random.randrange(self.counters), delta, peer)
        level = random.choice((Level.QUORUM, Level.QUORUM, Level.ALL))
        rows = ((keys.ROW_SUFFIX, ((COLUMN, delta),)),)
        request = CounterRequest(self._table, _key(operation.key), rows, level)
        self._ask(operation, request)

    def _ask(self, operation: Operation, request: CounterRequest) -> None:
        self.session.door.ask(operation.peer, request, partial(self.session.end, operation))

    def _read(self, kind: str, counter: int, level: Level, peer: int) -> Operation:
        operation = self.session.begin(kind, counter, None, peer)

        def done(end: End) -> None:
            value = _value(end.result[-1]) if end.status == OK else None
            self.session.end(operation, end._replace(result=value))
            if kind.startswith("final"):
                if end.status == OK:
                    self._finals.append(operation)
                    self._final_left -= 1
                else:
                    self.session.cluster.scheduler.after(SECOND, self._read, kind, counter, level, peer)

        request = ReadRequest(self._table, _key(counter), keys.ROW_SUFFIX, b"", True, level)
        self.session.door.ask(operation.peer, request, done)
        return operation

    # --- the end

    def final(self) -> None:
        """Every counter, at QUORUM through one peer and at ONE through each."""
        self.session.door.patience_us = FINAL_PATIENCE_US
        plan = [(Level.ONE, machine.index) for machine in self.session.cluster.machines]
        plan.append((Level.QUORUM, 0))
        self._final_left = len(plan) * self.counters
        for level, peer in plan:
            for counter in range(self.counters):
                self._read(f"final_{level}", counter, level, peer)

    def finished(self) -> bool:
        """All final reads are there."""
        return self._final_left == 0

    def problems(self) -> list[Problem]:
        """Every read against the increments around it, the final ones against all."""
        problems: list[Problem] = []
        operations = self.session.history.operations
        for counter in range(self.counters):
            mine = [op for op in operations if op.key == counter]
            adds = [op for op in mine if op.kind in ("add", "probe_write")]
            reads = [op for op in mine if op.kind in ("read", "probe_read") and op.status == OK]
            problems += judge_reads(adds, reads)
            problems += judge_finals(adds, [op for op in self._finals if op.key == counter])
        return problems


def _key(counter: int) -> bytes:
    return b"c%d" % counter


def _value(rows: RowsRead) -> int:
    """What a reader of a counter sees; one that nobody added to is 0."""
    if not rows.rows:
        return 0
    return counter_value(live_cells(rows.rows[0].row, rows.now_us), COLUMN) or 0


class _Sums(NamedTuple):
    """Increments by a position, and the sums of those before each."""

    positions: list[int]
    sums: list[int]

    def before(self, position: int) -> int:
        return self.sums[bisect_left(self.positions, position)]


def _sums(pairs: Iterable[tuple[int, int]]) -> _Sums:
    ordered = sorted(pairs)
    return _Sums([position for position, _ in ordered], [0, *accumulate(delta for _, delta in ordered)])


def judge_reads(adds: Sequence[Operation], reads: Iterable[Operation]) -> list[Problem]:
    """Bounds of every read: `lost` below the least that it must see, `overcounted` above the most it may.

    Increments raise the lower bound when they were acknowledged and the upper one when they were invoked;
    decrements the other way round. Those that certainly failed count nowhere.
    """
    possible = [add for add in adds if add.status != FAIL]
    known = [add for add in possible if add.status == OK]
    up = _sums((add.invoked, add.value) for add in possible if add.value > 0)
    down = _sums((add.invoked, add.value) for add in possible if add.value < 0)
    up_known = _sums((add.completed, add.value) for add in known if add.value > 0)
    down_known = _sums((add.completed, add.value) for add in known if add.value < 0)
    problems = []
    for read in reads:
        lower = up_known.before(read.invoked) + down.before(read.completed)
        upper = up.before(read.completed) + down_known.before(read.invoked)
        if read.result < lower:
            problems.append(Problem("lost", f"{read!r} is below {lower}"))
        elif read.result > upper:
            problems.append(Problem("overcounted", f"{read!r} is above {upper}"))
    return problems


def judge_finals(adds: Sequence[Operation], finals: Sequence[Operation]) -> list[Problem]:
    """`wrong_sum`: no choice of the unknown increments, with all acknowledged ones, makes what is there."""
    known = sum(add.value for add in adds if add.status == OK)
    unknown = [add.value for add in adds if add.status not in (OK, FAIL)]
    return [
        Problem("wrong_sum", f"{read!r}: {known} acknowledged, unknown {unknown}")
        for read in finals
        if not is_sum_of_some(read.result - known, unknown)
    ]


def is_sum_of_some(total: int, values: Sequence[int]) -> bool:
    """Whether some of these integers, each at most once, add up to `total`.

    Bit n of `sums` says that n - lowest is a sum.
    """
    lowest = -sum(value for value in values if value < 0)
    sums = 1 << lowest
    for value in values:
        sums |= sums << value if value > 0 else sums >> -value
    return total + lowest >= 0 and bool(sums >> (total + lowest) & 1)
