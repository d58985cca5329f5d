"""A table's share of the log, in bytes: what is kept, what is nobody's any more; bounded steps."""

from __future__ import annotations

import pytest

from core.cell import VALUE, Cell
from core.commands import (
    Applied,
    Apply,
    ChangesLogged,
    Done,
    Failed,
    LogChanges,
    LogFetch,
    Mutations,
    Why,
)
from core.healing import FloorStep, RaiseFloor
from core.mutation import UPDATE, Mutation, encode_mutation
from core.row import Row
from core.schema import PARTITION, REGULAR, Column, Table, TableOptions
from core.trimming import LogTrim, Share, Trimmed
from lsm import keys
from lsm.memory import MemoryEngine
from lsm.store import Store
from lsm.trimming import CHUNKS, IDS_KEPT_US, TRIM_MAX, Counted
from ring.tokens import token_of

COLUMNS = (Column(1, "key", "text", PARTITION), Column(2, "a", "blob", REGULAR))
LOUD = Table(7, "kv", "loud", COLUMNS, TableOptions(changes="new_and_old"), 1)
QUIET = Table(8, "kv", "quiet", COLUMNS, TableOptions(changes="new_and_old"), 1)
TABLES = {7: LOUD, 8: QUIET}
ALL = ((-(2**63), 2**63 - 1),)
NOTHING_ELSE = 0, 2**60
"""No age, and a log of any size."""


class Log:
    """One store."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.open()
        self.sequence = 0

    def open(self) -> None:
        self.store = Store(self.engine, TABLES.get)

    def write(self, table: int, count: int, value: bytes = b"v" * 300) -> None:
        for _ in range(count):
            self.sequence += 1
            self.store.execute(Apply(self.made(table, self.sequence, value)))

    @staticmethod
    def made(table: int, sequence: int, value: bytes = b"v" * 300) -> bytes:
        """A mutation that is admitted at the time that its number is."""
        key = b"k%d" % sequence
        row = Row(None, (Cell(2, (), VALUE, sequence, 9, 0, value),))
        place = UPDATE, table, token_of(key), key
        rows = ((keys.ROW_SUFFIX, row),)
        return encode_mutation(Mutation(9, sequence, 0, sequence, True, *place, None, rows))

    def trim(self, *shares: Share, before_us: int = 0, bytes_max: int = 2**60) -> int:
        """Trim to the end; how many steps it took."""
        steps, more = 0, True
        while more:
            outcome = self.store.execute(LogTrim(before_us, bytes_max, shares=shares))
            assert isinstance(outcome, Trimmed), outcome
            steps, more = steps + 1, outcome.more
        return steps

    def read(self, table: int, after: int = 0) -> ChangesLogged:
        found = self.store.execute(LogChanges(table, ALL, after, 10_000, 2**30))
        assert isinstance(found, ChangesLogged), found
        return found

    def bytes_of(self, table: int, offsets: list[int]) -> int:
        """What entries of a table weigh."""
        total, size = 0, 0
        for offset, entry in self.store.log.entries(0, 100_000):
            if offset in offsets and entry.table == table:
                size += entry.bytes_total - total
            total = entry.bytes_total
        return size

    def images(self, offset: int) -> int:
        return len(self.store.log.images(offset))


def test_a_table_has_its_newest_bytes_and_no_more() -> None:
    log = Log()
    log.write(8, 5)
    log.write(7, 200)
    log.write(8, 5)
    log.trim(Share(7, 20_000))
    left = log.read(7)
    offsets = [entry.offset for entry in left.entries]
    assert offsets == list(range(offsets[0], 206)) and left.first == offsets[0]
    assert 20_000 <= log.bytes_of(7, offsets) <= 20_000 * (1 + 2 / CHUNKS) + 2_000
    assert log.read(7, after=3).first > 4, "who was behind it is told so"
    assert [entry.offset for entry in log.read(8).entries] == [1, 2, 3, 4, 5, 206, 207, 208, 209, 210]
    assert log.images(1) == 1 and log.images(6) == 0 and log.images(205) == 1
    fetched = log.store.execute(LogFetch((6,), 1))
    assert isinstance(fetched, Mutations) and fetched.mutations, "siblings may follow yet"


def test_what_is_forgotten_stays_so_and_the_share_goes_on_after_a_restart() -> None:
    log = Log()
    log.write(7, 100)
    log.trim(Share(7, 10_000))
    first = log.read(7).first
    log.open()
    assert log.read(7).first == first > 1
    log.write(7, 100)
    log.trim(Share(7, 10_000))
    assert abs(log.read(7).first - first - 100) <= 2
    log.trim(Share(7, 10_000), before_us=10**9)
    assert not log.store.log.forgotten, "the log's own end has passed it"


def test_a_share_is_kept_where_the_log_is_larger_than_it_may_be() -> None:
    log = Log()
    log.write(7, 50)
    log.write(8, 500)
    log.trim(bytes_max=10**9)
    log.trim(Share(7, 20_000), bytes_max=50_000)
    assert len(log.read(7).entries) >= 20_000 // 1_000 and log.store.log.size_bytes > 50_000
    log.trim(Share(7, 20_000), bytes_max=50_000, before_us=51)
    assert not log.read(7).entries, "but for its age"
    log.trim(bytes_max=50_000)
    assert log.store.log.size_bytes <= 50_000


def test_what_somebody_has_still_to_read_is_not_taken_from_him() -> None:
    log = Log()
    log.write(7, 100)
    log.trim(Share(7, 10_000, held=20))
    assert log.read(7).first == 21
    log.trim(Share(7, 10_000, held=-1))
    assert log.read(7).first == 21
    log.trim(Share(7, 10_000))
    assert log.read(7).first > 60


def test_a_share_that_is_changed_is_counted_from_the_logs_beginning() -> None:
    log = Log()
    log.write(7, 300)
    log.trim(Share(7, 2**40))
    log.trim(Share(7, 20_000))
    kept = [entry.offset for entry in log.read(7).entries]
    assert 20_000 <= log.bytes_of(7, kept) < 20_000 * (1 + 2 / CHUNKS) + 2_000


def test_each_step_is_bounded() -> None:
    log = Log()
    log.write(7, 3 * TRIM_MAX, b"")
    assert log.trim(Share(7, 1_000)) >= 3
    left = log.read(7)
    assert 5 < len(left.entries) < 20 and left.first == 3 * TRIM_MAX - len(left.entries) + 1
    assert log.trim(before_us=10**9) >= 3
    assert log.store.log.first == 3 * TRIM_MAX + 1
    assert not list(log.engine.scan(keys.LOG, keys.successor(keys.LOG)))


def test_counting_takes_little_memory() -> None:
    counted = Counted(1_000_000)
    for offset in range(1, 100_001):
        counted.add(offset, 100)
    assert len(counted.chunks) <= CHUNKS + 2
    kept = (100_000 - counted.kept_from) * 100
    assert 1_000_000 <= kept <= 1_000_000 * (1 + 2 / CHUNKS)


def raise_floor(log: Log, table: int, floor_us: int) -> None:
    for step in (FloorStep.PROMISE, FloorStep.SETTLE, FloorStep.END):
        assert log.store.execute(RaiseFloor(step, floor_us, ((table, ALL),))) == Done()


def known(log: Log) -> list[int]:
    """The sequences whose ids are there."""
    scan = log.engine.scan(keys.MUTATION_ID, keys.successor(keys.MUTATION_ID))
    return [keys.sequence_of(key) for key, _ in scan]


def test_ids_are_forgotten_with_their_entries_once_the_floor_has_passed_them() -> None:
    log = Log()
    log.write(7, 30)
    raise_floor(log, 7, IDS_KEPT_US + 20)
    log.trim(before_us=26)
    assert log.store.log.first == 26
    assert known(log) == [*range(21, 31)], "of 21 to 25 only the entries: the floor is too near"
    for again in range(1, 31):
        outcome = log.store.execute(Apply(log.made(7, again)))
        if again in known(log):
            assert outcome == Applied(None, fresh=False)
        else:
            assert isinstance(outcome, Failed) and outcome.why is Why.BELOW_FLOOR
    log.open()
    assert isinstance(log.store.execute(Apply(log.made(7, 3))), Failed)
    assert log.store.execute(Apply(log.made(7, 2 * IDS_KEPT_US))) == Applied(None, fresh=True)


def test_ids_of_what_came_late_or_is_of_another_table_stay() -> None:
    log = Log()
    log.write(7, 10)
    log.sequence = 11
    log.write(7, 10)
    log.write(8, 3)
    log.write(7, 10)
    assert log.store.execute(Apply(log.made(7, 11))) == Applied(None, fresh=True)
    raise_floor(log, 7, IDS_KEPT_US + 100)
    log.trim(before_us=100)
    assert known(log) == [22, 23, 24], "their table has no floor"
    log = Log()
    log.write(7, 10)
    log.sequence = 11
    log.write(7, 10)
    log.store.execute(Apply(log.made(7, 11)))
    raise_floor(log, 7, IDS_KEPT_US + 100)
    log.store.execute(LogTrim(100, 2**60, held=19, held_before_us=0, held_bytes_max=2**60))
    assert known(log) == [11, 21], "both are logged still"


def test_ids_of_a_dropped_table_are_forgotten_with_their_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    log.write(8, 5)
    log.write(7, 5)
    monkeypatch.delitem(TABLES, 8)
    log.trim(before_us=100)
    assert known(log) == [6, 7, 8, 9, 10]
