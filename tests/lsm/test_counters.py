"""Adding to a shard: one command that reads, adds and writes, once per id."""

from __future__ import annotations

from core.cell import VALUE, Cell
from core.commands import Apply, CounterAdd, CounterAdded, Failed, Why
from core.counter import counter_value, decode_count, encode_count
from core.mutation import UPDATE, Mutation, decode_mutation, encode_mutation
from core.row import Header, Row, Tombstone, decode_row
from core.trimming import LogTrim
from lsm import keys
from lsm.commit import Commit
from lsm.executor import Executor
from lsm.memory import MemoryEngine
from lsm.store import Store
from tests.lsm.support import PLAIN, WIDE, store_on, suffix

MINE, OTHER = b"m" * 16, b"o" * 16
HUGE = 2**63 - 1


def increment(
    sequence: int, *deltas: int, at: int = 100, table: int = PLAIN.id, name: bytes = keys.ROW_SUFFIX
) -> CounterAdd:
    cells = tuple(Cell(n + 1, (MINE,), VALUE, at, 7, 0, encode_count(d)) for n, d in enumerate(deltas))
    return CounterAdd(encode_mutation(_mutation(sequence, at, table, ((name, Row(None, cells)),))))


def _mutation(
    sequence: int, at: int, table: int, rows: tuple[tuple[bytes, Row], ...], header: Header | None = None
) -> Mutation:
    return Mutation(9, sequence, 1, at, False, UPDATE, table, 5, b"p", header, rows)


def stored(store: Store, table: int = PLAIN.id, name: bytes = keys.ROW_SUFFIX) -> Row:
    data = store.engine.get(keys.row_key(table, 5, b"p", name))
    return Row(None, ()) if data is None else decode_row(data)


def added(store: Store, command: CounterAdd) -> Mutation:
    outcome = store.execute(command)
    assert isinstance(outcome, CounterAdded), outcome
    return decode_mutation(outcome.mutation)


def test_increments_add_up_under_rising_versions_even_of_one_stamp() -> None:
    store = store_on()
    versions = [added(store, increment(n, 5, -1)).rows[0][1].cells[0].version for n in range(1, 4)]
    assert versions == sorted(set(versions))
    assert [counter_value(stored(store).cells, column) for column in (1, 2)] == [15, -3]


def test_what_comes_back_is_what_the_other_replicas_apply() -> None:
    leader, other = store_on(), store_on()
    for n in range(1, 4):
        outcome = leader.execute(increment(n, 5))
        assert isinstance(outcome, CounterAdded)
        other.execute(Apply(outcome.mutation))
    assert stored(other) == stored(leader)


def test_an_id_that_was_done_is_answered_as_it_was_then() -> None:
    store = store_on()
    first = added(store, increment(1, 5))
    added(store, increment(2, 5))
    assert added(store, increment(1, 5)) == first
    assert counter_value(stored(store).cells, 1) == 10


def test_an_id_whose_log_entry_is_forgotten_is_neither_done_again_nor_made_up() -> None:
    store = store_on()
    added(store, increment(1, 5))
    store.execute(LogTrim(2**62, 0))
    outcome = store.execute(increment(1, 5))
    assert isinstance(outcome, Failed) and outcome.why is Why.UNKNOWN
    assert counter_value(stored(store).cells, 1) == 5


def test_other_replicas_shards_are_left_alone_and_summed() -> None:
    store = store_on()
    theirs = Row(None, (Cell(1, (OTHER,), VALUE, 900, 8, 0, encode_count(40)),))
    store.execute(Apply(encode_mutation(_mutation(50, 900, PLAIN.id, ((keys.ROW_SUFFIX, theirs),)))))
    mutation = added(store, increment(1, 2))
    assert [cell.path for cell in mutation.rows[0][1].cells] == [(MINE,)]
    assert counter_value(stored(store).cells, 1) == 42


def test_a_count_wraps_around_as_a_bigint_does() -> None:
    store = store_on()
    added(store, increment(1, HUGE))
    added(store, increment(2, 1))
    assert counter_value(stored(store).cells, 1) == -(2**63)


def test_after_a_deletion_a_shard_begins_anew_above_it() -> None:
    store = store_on()
    added(store, increment(1, 5, at=100))
    gone = Row(Tombstone(5_000, 8, 5_000), ())
    store.execute(Apply(encode_mutation(_mutation(50, 5_000, PLAIN.id, ((keys.ROW_SUFFIX, gone),)))))
    added(store, increment(2, 3, at=200))
    assert counter_value(stored(store).cells, 1) == 3
    column_gone = Row(None, (Cell(1, (), VALUE, 9_000, 8, 9_000, None),))
    store.execute(Apply(encode_mutation(_mutation(51, 9_000, PLAIN.id, ((keys.ROW_SUFFIX, column_gone),)))))
    added(store, increment(3, 4, at=300))
    assert counter_value(stored(store).cells, 1) == 4


def test_a_deleted_partition_counts_from_nothing() -> None:
    store = store_on()
    added(store, increment(1, 5, table=WIDE.id, name=suffix("a")))
    header = Header(Tombstone(5_000, 8, 5_000))
    store.execute(Apply(encode_mutation(_mutation(50, 5_000, WIDE.id, (), header))))
    added(store, increment(2, 3, table=WIDE.id, name=suffix("a")))
    assert counter_value(stored(store, WIDE.id, suffix("a")).cells, 1) == 3


def test_what_is_no_count_is_refused_and_nothing_is_written() -> None:
    store = store_on()
    odd = Row(None, (Cell(1, (MINE,), VALUE, 50, 8, 0, b"odd"),))
    store.execute(Apply(encode_mutation(_mutation(50, 50, PLAIN.id, ((keys.ROW_SUFFIX, odd),)))))
    outcome = store.execute(increment(1, 5))
    assert isinstance(outcome, Failed) and outcome.why is Why.MALFORMED
    assert stored(store) == odd
    assert isinstance(store.execute(increment(2, 5, table=77)), Failed)


def test_increments_of_one_partition_wait_for_each_other_when_records_are_cold() -> None:
    engine = MemoryEngine()
    executor = Executor(store_on(engine), Commit())
    engine.cold = lambda key: True
    for n in range(1, 6):
        executor.submit(("t", n), increment(n, 1))
    executor.run()
    assert executor.queued == 5
    engine.cold = None
    for fetch in executor.take_fetches():
        executor.end_fetch(fetch)
    executor.run()
    assert counter_value(stored(executor.store).cells, 1) == 5


def test_a_count_leaves_only_after_its_sync() -> None:
    executor = Executor(store_on(), Commit())
    executor.submit(("t", 1), increment(1, 1))
    executor.run()
    assert executor.take_released() == []
    sequence = executor.begin_sync()
    assert sequence is not None
    executor.store.engine.sync()
    executor.end_sync(sequence)
    ((_, outcome),) = executor.take_released()
    assert isinstance(outcome, CounterAdded)
    assert decode_count(decode_mutation(outcome.mutation).rows[0][1].cells[0].value or b"") == 1
