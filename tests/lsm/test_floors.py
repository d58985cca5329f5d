"""Floors: what is promised, settled and over; the store does what the model does, and purges no more and no
less.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from core.cell import MARKER, VALUE, Cell
from core.commands import (
    Applied,
    Apply,
    ChangesLogged,
    Done,
    Failed,
    LogChanges,
    Merged,
    MergeRows,
    PaxosAccept,
    PaxosAccepted,
    PaxosCommit,
    PaxosRefused,
    Read,
    Rows,
    Slice,
    Why,
)
from core.healing import (
    FloorBlocked,
    FloorStep,
    GarbageDue,
    IsDue,
    Purge,
    Purged,
    RaiseFloor,
    ReadLeaves,
)
from core.mutation import UPDATE, Mutation, encode_mutation
from core.row import Header, RangeTombstone, Row, Tombstone, decode_row, encode_row, is_empty
from lsm import keys
from lsm.floors import FloorRange, Ranges, merged, raised
from lsm.hash_tree import LEAVES, leaf_of, leaf_tokens
from lsm.log import SUPERSEDED
from lsm.memory import MemoryEngine
from lsm.purge import due_of, purged
from lsm.store import Store
from ring.tokens import token_of
from tests.lsm.support import PLAIN, TABLES, WIDE, check_tree, suffix
from tests.models.purge import RULES, History

PARTITION = b"p"
TOKEN = token_of(PARTITION)
PREFIX = keys.partition_prefix(PLAIN.id, TOKEN, PARTITION)
KEY = PREFIX + keys.ROW_SUFFIX
ALL = (keys.TOKEN_MIN, keys.TOKEN_MAX)
EVERYTHING = ((PLAIN.id, (ALL,)), (WIDE.id, (ALL,)))


def plain(sequence: int, at_us: int, value: bytes | None) -> bytes:
    """A value or a deletion, admitted at its version."""
    cell = Cell(1, (), VALUE, at_us, 7, at_us if value is None else 0, value)
    rows = ((keys.ROW_SUFFIX, Row(None, (cell,))),)
    made = Mutation(7, sequence, 0, at_us, True, UPDATE, PLAIN.id, TOKEN, PARTITION, None, rows)
    return encode_mutation(made)


def raise_to(store: Store, floor_us: int) -> None:
    """A whole round, as far as this store is concerned, and the purge."""
    for step in FloorStep:
        assert store.execute(RaiseFloor(step, floor_us, EVERYTHING)) == Done()
    for table in (PLAIN.id, WIDE.id):
        outcome = store.execute(Purge(table, *ALL, b"", 10_000))
        assert isinstance(outcome, Purged) and not outcome.after


def read(store: Store) -> Rows:
    outcome = store.execute(Read(Slice(PLAIN.id, KEY, b"", b"", True, 1, 10**6), False))
    assert isinstance(outcome, Rows)
    return outcome


# --- the model


class Real(History):
    """The same history on three stores, which must show after each step what the model has."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, RULES)
        self.stores = [Store(MemoryEngine(), TABLES.get) for _ in range(3)]

    def bytes_of(self, number: int) -> bytes:
        at, dead, text = self.written[number]
        return plain(number + 1, at, None if dead else text.encode())

    def check(self, at: int) -> None:
        rows = read(self.stores[at])
        cell = None
        if rows.rows:
            (only,) = decode_row(rows.rows[0][1]).cells
            cell = (only.timestamp_us, only.value is None, f"v{only.timestamp_us}")
        assert cell == self.replicas[at].cell
        assert rows.settled_us == self.replicas[at].settled

    def apply(self, at: int, number: int) -> None:
        met = number in self.replicas[at].met
        super().apply(at, number)
        outcome = self.stores[at].execute(Apply(self.bytes_of(number)))
        if number in self.replicas[at].met:
            assert isinstance(outcome, Applied) and outcome.fresh is not met
        else:
            assert isinstance(outcome, Failed) and outcome.why is Why.BELOW_FLOOR
            assert outcome.floor_us == self.replicas[at].promised
        self.check(at)

    def follow(self, at: int, number: int) -> None:
        super().follow(at, number)
        assert isinstance(self.stores[at].execute(Apply(self.bytes_of(number), followed=True)), Applied)
        self.check(at)

    def repair(self, at: int, settled: int, cell: tuple[int, bool, str]) -> None:
        super().repair(at, settled, cell)
        version, dead, text = cell
        value = None if dead else text.encode()
        row = Row(None, (Cell(1, (), VALUE, version, 7, version if dead else 0, value),))
        if dead and version <= self.replicas[at].floor:  # the model keeps it until the next round
            self.replicas[at].cell = None if self.replicas[at].cell == cell else self.replicas[at].cell
        outcome = self.stores[at].execute(MergeRows(PLAIN.id, ((KEY, encode_row(row)),), settled))
        if settled < self.replicas[at].floor:
            assert isinstance(outcome, Failed) and outcome.why is Why.FENCED
        else:
            assert isinstance(outcome, Merged)
        self.check(at)

    def promise(self, at: int, floor: int) -> None:
        super().promise(at, floor)
        assert self.stores[at].execute(RaiseFloor(FloorStep.PROMISE, floor, EVERYTHING)) == Done()

    def settle(self, at: int, floor: int) -> None:
        super().settle(at, floor)
        assert self.stores[at].execute(RaiseFloor(FloorStep.SETTLE, floor, EVERYTHING)) == Done()

    def end(self, at: int, floor: int) -> None:
        super().end(at, floor)
        assert self.stores[at].execute(RaiseFloor(FloorStep.END, floor, EVERYTHING)) == Done()
        outcome = self.stores[at].execute(Purge(PLAIN.id, *ALL, b"", 1_000))
        assert isinstance(outcome, Purged)
        self.check(at)


@pytest.mark.parametrize("block", range(4))
def test_stores_do_what_the_model_does(block: int) -> None:
    for seed in range(block * 50, block * 50 + 50):
        history = Real(seed)
        assert not any(history.run()), seed
        for store in history.stores:
            check_tree(store)


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_of_the_model_is_needed(rule: str) -> None:
    rules = tuple(other for other in RULES if other != rule)
    assert any(any(History(seed, rules).run()) for seed in range(1_500))
    assert any(any(History(seed, (), naive=True).run()) for seed in range(500))
    assert not any(any(History(seed, RULES).run()) for seed in range(500))


# --- heights


def test_a_step_needs_the_one_before_and_survives_opening_again() -> None:
    engine = MemoryEngine()
    store = Store(engine, TABLES.get)
    settle = RaiseFloor(FloorStep.SETTLE, 50, EVERYTHING)
    assert isinstance(store.execute(settle), Failed)
    assert store.execute(RaiseFloor(FloorStep.PROMISE, 50, EVERYTHING)) == Done()
    assert isinstance(store.execute(RaiseFloor(FloorStep.END, 50, EVERYTHING)), Failed)
    store.engine.sync()
    engine.crash()
    again = Store(engine, TABLES.get)
    outcome = again.execute(Apply(plain(1, 50, b"late")))
    assert isinstance(outcome, Failed) and outcome.why is Why.BELOW_FLOOR
    assert isinstance(again.execute(Apply(plain(2, 51, b"in time"))), Applied)
    assert isinstance(again.execute(Apply(plain(1, 50, b"followed"), followed=True)), Applied)
    assert again.execute(settle) == Done()


Spans = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 10), st.integers(0, 2), st.integers(1, 9)), max_size=8
)


def at(ranges: Ranges, leaf: int) -> tuple[int, int, int]:
    found = [one.heights for one in ranges if one.first <= leaf < one.end]
    assert len(found) <= 1
    return found[0] if found else (0, 0, 0)


@given(Spans, Spans)
def test_ranges_are_raised_leaf_by_leaf_and_merge_to_the_greater(
    left: list[tuple[int, int, int, int]], right: list[tuple[int, int, int, int]]
) -> None:
    made: list[Ranges] = []
    for spans in (left, right):
        ranges: Ranges = ()
        leaves = [[0, 0, 0] for _ in range(42)]
        for first, size, step, time_us in spans:
            ranges = raised(ranges, first, first + size, FloorStep(step), time_us)
            for leaf in range(first, first + size):
                leaves[leaf][step] = max(leaves[leaf][step], time_us)
        assert [list(at(ranges, leaf)) for leaf in range(42)] == leaves
        assert all(a.end <= b.first for a, b in pairwise(ranges))
        made.append(ranges)
    both = merged(made[0], made[1])
    for leaf in range(42):
        pairs = zip(at(made[0], leaf), at(made[1], leaf), strict=True)
        assert at(both, leaf) == tuple(max(pair) for pair in pairs)
    assert merged(both, made[1]) == both


def test_what_is_not_settled_everywhere_is_settled_nowhere() -> None:
    store = Store(MemoryEngine(), TABLES.get)
    half = ((PLAIN.id, ((keys.TOKEN_MIN, -1),)),)
    for step in FloorStep:
        assert store.execute(RaiseFloor(step, 9, half)) == Done()
    assert store.floors.tables[PLAIN.id] == (FloorRange(0, LEAVES // 2, 9, 9, 9),)
    assert store.floors.settled(PLAIN.id, 0, LEAVES // 2) == 9
    assert store.floors.settled(PLAIN.id, 0, LEAVES // 2 + 1) == 0
    assert store.execute(GarbageDue(5, half)) == IsDue(False, (9, 9, 9))


def test_rows_of_some_leaves_are_as_old_as_these_and_not_as_the_next() -> None:
    store = Store(MemoryEngine(), TABLES.get)
    for step in FloorStep:
        assert store.execute(RaiseFloor(step, 9, ((PLAIN.id, ((keys.TOKEN_MIN, -1),)),))) == Done()
    for last_token, settled_us in ((-1, 9), (0, 0)):
        wanted = Slice(PLAIN.id, *keys.token_range_bounds(PLAIN.id, -1_000, last_token), b"", False, 1, 10**6)
        outcome = store.execute(Read(wanted, False))
        assert isinstance(outcome, Rows) and outcome.settled_us == settled_us


def test_a_step_looks_at_its_own_ranges_and_not_at_the_next() -> None:
    store = Store(MemoryEngine(), TABLES.get)
    left = ((PLAIN.id, ((keys.TOKEN_MIN, -1),)),)
    right = ((PLAIN.id, ((0, keys.TOKEN_MAX),)),)
    assert store.execute(RaiseFloor(FloorStep.PROMISE, 3, right)) == Done()
    for step in FloorStep:
        assert store.execute(RaiseFloor(step, 9, left)) == Done()
    assert store.execute(GarbageDue(5, left)) == IsDue(False, (9, 9, 9))
    assert store.execute(GarbageDue(5, right)) == IsDue(False, (3, 0, 0))


# --- proposals


def test_an_accepted_proposal_blocks_the_floor_until_it_is_committed() -> None:
    store = Store(MemoryEngine(), TABLES.get)
    proposal = plain(1, 40, b"v")
    accept = PaxosAccept(PLAIN.id, PREFIX, (40, 1), proposal)
    assert store.execute(accept) == PaxosAccepted()
    promise = RaiseFloor(FloorStep.PROMISE, 50, EVERYTHING)
    assert store.execute(promise) == FloorBlocked(((PLAIN.id, PREFIX),))
    assert store.execute(RaiseFloor(FloorStep.PROMISE, 39, EVERYTHING)) == Done()
    assert isinstance(store.execute(PaxosCommit(PLAIN.id, PREFIX, (40, 1), proposal)), Applied)
    assert store.execute(promise) == Done()
    late = PaxosAccept(PLAIN.id, PREFIX, (60, 1), plain(2, 45, b"w"))
    assert isinstance(store.execute(late), PaxosRefused)
    again = PaxosAccept(PLAIN.id, PREFIX, (60, 1), plain(2, 45, b"w"), again=True)
    assert store.execute(again) == PaxosAccepted()
    assert isinstance(store.execute(RaiseFloor(FloorStep.SETTLE, 50, EVERYTHING)), FloorBlocked)


# --- what goes


def test_deletions_go_below_the_floor_and_only_there() -> None:
    store = Store(MemoryEngine(), TABLES.get)
    store.execute(Apply(plain(1, 10, b"v")))
    store.execute(Apply(plain(2, 20, None)))
    raise_to(store, 19)
    assert len(read(store).rows) == 1
    raise_to(store, 20)
    assert read(store).rows == ()
    assert not list(store.engine.scan(keys.GARBAGE, keys.successor(keys.GARBAGE)))
    check_tree(store)


def test_a_partitions_deletion_stays_until_its_rows_are_swept() -> None:
    store = Store(MemoryEngine(), TABLES.get)
    prefix = keys.partition_prefix(WIDE.id, TOKEN, PARTITION)

    def write(sequence: int, at_us: int, header: Header | None, *names: str) -> None:
        rows = tuple((suffix(name), Row(None, (Cell(1, (), VALUE, at_us, 7, 0, b"v"),))) for name in names)
        made = Mutation(7, sequence, 0, at_us, True, UPDATE, WIDE.id, TOKEN, PARTITION, header, rows)
        assert isinstance(store.execute(Apply(encode_mutation(made))), Applied)

    write(1, 10, None, "a", "b", "c")
    write(2, 20, Header(None, (RangeTombstone(suffix("b"), suffix("z"), 20, 7, 20),)))
    raise_to(store, 30)
    assert store.engine.get(prefix + keys.HEADER_SUFFIX) is not None
    while (sweep := store.next_sweep()) is not None:
        store.execute(sweep)
    assert isinstance(store.execute(Purge(WIDE.id, *ALL, b"", 100)), Purged)
    assert store.engine.get(prefix + keys.HEADER_SUFFIX) is None
    whole = Slice(WIDE.id, prefix, keys.successor(prefix), prefix, False, 100, 10**6)
    rows = store.execute(Read(whole, False))
    assert isinstance(rows, Rows) and [key[len(prefix) :] for key, _ in rows.rows] == [suffix("a")]
    check_tree(store)


@pytest.mark.parametrize("rows_max", [1, 2, 3, 4])
def test_a_purge_goes_on_behind_notes_that_have_to_stay(rows_max: int) -> None:
    """Those of a segment may be just as many as one slice looks at."""
    store = Store(MemoryEngine(), TABLES.get)
    step, rows = 2**56, ((keys.ROW_SUFFIX, Row(None, (Cell(1, (), VALUE, 10, 7, 10, None),))),)
    for sequence in range(8):
        token = keys.TOKEN_MIN + sequence // 2 * step + sequence % 2
        made = Mutation(7, sequence + 1, 0, 10, True, UPDATE, PLAIN.id, token, PARTITION, None, rows)
        assert isinstance(store.execute(Apply(encode_mutation(made))), Applied)
    for floor_step in FloorStep:
        first = keys.TOKEN_MIN + 2 * step  # what lies before is not over
        store.execute(RaiseFloor(floor_step, 20, ((PLAIN.id, ((first, keys.TOKEN_MAX),)),)))
    after, slices = b"", 0
    while slices == 0 or after:
        found = store.execute(Purge(PLAIN.id, *ALL, after, rows_max))
        assert isinstance(found, Purged) and slices < 20
        after, slices = found.after, slices + 1
    assert len(list(store.engine.scan(keys.ROW, keys.successor(keys.ROW)))) == 4
    check_tree(store)


def cells(*made: Cell) -> Row:
    return Row(None, made)


def test_what_lies_in_a_value_stays_as_long_as_the_value() -> None:
    root = Cell(1, (), VALUE, 10, 7, 0, b'{"a":1,"b":2}')
    unset = Cell(1, (b"a",), VALUE, 20, 7, 20, None)
    marker = Cell(1, (b"b",), MARKER, 20, 7, 25, b"")
    assert purged(cells(root, unset, marker), 30, keys.ROW_SUFFIX) == cells(root, unset, marker)
    dying = Cell(1, (), VALUE, 10, 7, 40, b'{"a":1}')
    row = cells(dying, unset)
    assert purged(row, 30, keys.ROW_SUFFIX) == row
    assert due_of(row, keys.ROW_SUFFIX, 30) == 40
    assert is_empty(purged(row, 40, keys.ROW_SUFFIX))
    other = Cell(2, (b"e",), VALUE, 20, 7, 20, None)
    assert purged(cells(root, other), 30, keys.ROW_SUFFIX) == cells(root)


def test_a_deletion_with_a_timestamp_ahead_of_its_time_stays_until_then() -> None:
    ahead = Row(Tombstone(90, 0, 20), (Cell(1, (), VALUE, 90, 0, 20, None),))
    assert due_of(ahead, keys.ROW_SUFFIX) == 90
    assert purged(ahead, 89, keys.ROW_SUFFIX) == ahead
    assert is_empty(purged(ahead, 90, keys.ROW_SUFFIX))


def test_an_expired_value_goes_as_a_deletion_does() -> None:
    row = cells(Cell(1, (), VALUE, 10, 7, 50, b"v"), Cell(2, (), VALUE, 10, 7, 0, b"w"))
    assert purged(row, 49, keys.ROW_SUFFIX) == row
    assert purged(row, 50, keys.ROW_SUFFIX) == cells(Cell(2, (), VALUE, 10, 7, 0, b"w"))


def test_what_moves_here_below_the_floor_is_logged_as_superseded_and_written_nowhere() -> None:
    """Its rows came before it, or were dead and purged; readers of changes want it all the same."""
    store = Store(MemoryEngine(), TABLES.get)
    raise_to(store, 1_000)
    old = plain(1, 500, b"old")
    refused = store.execute(Apply(old, followed=True))
    assert isinstance(refused, Failed) and refused.why == Why.BELOW_FLOOR
    assert store.execute(Apply(old, followed=True, moved=True)) == Applied(None, fresh=True)
    assert read(store).rows == ()
    logged = store.execute(LogChanges(PLAIN.id, (ALL,), 0, 10, 10**6))
    assert isinstance(logged, ChangesLogged)
    assert [(entry.kind, entry.data) for entry in logged.entries] == [(SUPERSEDED, old)]
    again = store.execute(Apply(old, followed=True, moved=True))
    assert again == Applied(None, fresh=False), "once is enough"
    above = plain(2, 2_000, b"new")
    assert store.execute(Apply(above, followed=True, moved=True)) == Applied(None, fresh=True)
    assert len(read(store).rows) == 1, "what is above is written as ever"
    check_tree(store)


def test_a_page_of_leaves_ends_where_another_height_begins() -> None:
    """It would else be as old as the least settled of its leaves, and be refused where floors are higher."""
    store = Store(MemoryEngine(), TABLES.get)
    quarter = LEAVES // 4
    tokens = [leaf_tokens(part * quarter)[0] for part in range(4)]
    for step in FloorStep:
        raised_at = ((PLAIN.id, ((tokens[1], tokens[2] - 1),)),)
        assert store.execute(RaiseFloor(step, 9, raised_at)) == Done()
    names = sorted((token_of(b"%d" % n), b"%d" % n) for n in range(40))
    rows = tuple(
        (keys.row_key(PLAIN.id, token, name), encode_row(Row(None, (Cell(1, (), VALUE, 50, 7, 0, b"v"),))))
        for token, name in names
    )
    assert store.execute(MergeRows(PLAIN.id, rows, 50)) == Merged(40)
    after, pages = b"", []
    while True:
        page = store.execute(ReadLeaves(PLAIN.id, ((0, LEAVES - 1), (LEAVES - 1, LEAVES)), after, b""))
        assert isinstance(page, Rows) and page.rows
        pages.append(page)
        if not page.more:
            break
        after = page.rows[-1][0]
    assert sum((page.rows for page in pages), ()) == rows
    assert [page.settled_us for page in pages] == [0, 9, 0]
    for page in pages:
        assert {quarter <= leaf_of(keys.token_of(key)) < 2 * quarter for key, _ in page.rows} == {
            page.settled_us == 9
        }
    until = pages[1].rows[-1][0]
    second = store.execute(ReadLeaves(PLAIN.id, ((0, LEAVES),), pages[0].rows[-1][0], until))
    assert isinstance(second, Rows) and second.rows == pages[1].rows and not second.more
    empty = store.execute(ReadLeaves(PLAIN.id, ((0, LEAVES),), rows[-1][0], b""))
    assert isinstance(empty, Rows) and not empty.rows and empty.settled_us > 10**18


def test_pieces_cover_the_leaves_that_are_asked_for() -> None:
    store = Store(MemoryEngine(), TABLES.get)
    assert list(store.floors.pieces(PLAIN.id, 3, 9)) == [(3, 9, 0)]
    for step in FloorStep:
        store.execute(RaiseFloor(step, 9, ((PLAIN.id, ((leaf_tokens(4)[0], leaf_tokens(6)[1]),)),)))
    assert list(store.floors.pieces(PLAIN.id, 3, 9)) == [(3, 4, 0), (4, 7, 9), (7, 9, 0)]
    assert list(store.floors.pieces(PLAIN.id, 5, 6)) == [(5, 6, 9)]
    assert list(store.floors.pieces(PLAIN.id, 7, 8)) == [(7, 8, 0)]
