"""An index answers what a full scan would: writes, deletes of all kinds, expiry, changes of collections.

The oracle reads all rows of the store and works on Python values; it shares no code with terms and checks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from core.cell import VALUE, Cell
from core.commands import (
    Apply,
    Candidates,
    Find,
    IndexBuild,
    IndexBuilt,
    IndexDrop,
    MergeRows,
    Read,
    Rows,
    Slice,
)
from core.finding import OPEN, Check, Span
from core.mutation import UPDATE, Mutation, encode_mutation
from core.row import EMPTY_ROW, Header, RangeTombstone, Row, Tombstone, decode_row, live_cells, normal
from core.schema import (
    CLUSTERING,
    PARTITION,
    REGULAR,
    STATIC,
    Column,
    Index,
    IndexTarget,
    Table,
    TableOptions,
)
from cql_lite.types import INT, TEXT, parse_type
from index.entries import ColumnType, Indexed
from index.secondary import Judge, is_its_turn
from lsm import keys
from lsm.keys import STATIC_SUFFIX, prefix_end
from lsm.memory import MemoryEngine
from lsm.store import Store
from node.index_types import column_type
from ring.tokens import token_of

COLUMNS = (
    Column(0, "p", "int", PARTITION),
    Column(0, "q", "int", PARTITION),
    Column(0, "c", "int", CLUSTERING, True),
    Column(1, "s", "int", STATIC),
    Column(2, "v", "int", REGULAR),
    Column(3, "t", "text", REGULAR),
    Column(4, "l", "list<int>", REGULAR),
    Column(5, "m", "map<text, int>", REGULAR),
    Column(6, "e", "set<int>", REGULAR),
)
INDEXES = (
    Index(21, "iv", "v"),
    Index(22, "it", "t", options=(("case_sensitive", "false"),)),
    Index(23, "il", "l", "values"),
    Index(24, "imk", "m", "keys"),
    Index(25, "imv", "m", "values"),
    Index(26, "ime", "m", "entries"),
    Index(27, "ie", "e", "values"),
    Index(28, "is", "s"),
    Index(29, "ic", "c"),
    Index(30, "iq", "q"),
)
TABLE = Table(5, "ks", "t", COLUMNS, TableOptions(), 1, indexes=INDEXES)
TYPES = {column.name: column_type(parse_type(column.type)) for column in COLUMNS}
LATE = 1_000


def types(_table: Table) -> dict[str, ColumnType]:
    return TYPES


def i(number: int) -> bytes:
    return INT.encode(number)


def point(number: int) -> Span:
    return (INT.key(i(number)), b"")


# --- random histories

small = st.integers(-2, 2)
stamp = st.integers(1, 60)
life = st.sampled_from([0, 0, 30, 50, 90])
texts = st.sampled_from(["", "a", "A", "ab", "Ab\0c", "b" * 1_500, "b" * 1_500 + "c"])
cells = st.one_of(
    st.tuples(st.just(2), st.just(()), st.none() | small.map(i)),
    st.tuples(st.just(3), st.just(()), st.none() | texts.map(str.encode)),
    st.tuples(st.just(4), st.binary(min_size=1, max_size=1).map(lambda b: (b,)), st.none() | small.map(i)),
    st.tuples(
        st.just(5), st.sampled_from("xy").map(lambda k: (TEXT.key(k.encode()),)), st.none() | small.map(i)
    ),
    st.tuples(st.just(6), small.map(lambda n: (INT.key(i(n)),)), st.sampled_from([None, b""])),
    st.tuples(st.sampled_from([4, 5, 6]), st.just(()), st.none()),
    st.tuples(st.just(0), st.just(()), st.just(b"")),
)
where = st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 2))
steps = st.one_of(
    st.tuples(st.just("row"), where, stamp, life, st.lists(cells, min_size=1, max_size=4)),
    st.tuples(st.just("static"), where, stamp, life, st.none() | small.map(i)),
    st.tuples(st.just("delete_row"), where, stamp),
    st.tuples(st.just("delete_partition"), where, stamp),
    st.tuples(st.just("delete_range"), where, stamp),
    st.tuples(st.just("merge"), where, stamp, small),
    st.tuples(st.just("sweep")),
)


class World:
    """A store with a table of all kinds of columns."""

    def __init__(self, indexed: bool = True) -> None:
        self.indexed = Indexed(types)
        self.table = TABLE if indexed else msgspec.structs.replace(TABLE, indexes=())
        self.store = Store(MemoryEngine(), lambda _: self.table, self.indexed.entries)
        self.sequence = 0

    def do(self, step: tuple[Any, ...]) -> None:
        if step[0] == "sweep":
            while (sweep := self.store.next_sweep()) is not None:
                self.store.execute(sweep)
            return
        kind, (p, q, c), at = step[:3]
        suffix = keys.ROW_SUFFIX + INT.to_key(i(c), True)
        rows: dict[bytes, Row] = {}
        header = None
        if kind == "row":
            made = {(n, path): _cell(n, path, at, step[3], value) for n, path, value in step[4]}
            rows[suffix] = normal(None, made.values())
        elif kind == "static":
            rows[STATIC_SUFFIX] = normal(None, [_cell(1, (), at, step[3], step[4])])
        elif kind == "delete_row":
            rows[suffix] = Row(Tombstone(at, 7, at), ())
        elif kind == "delete_partition":
            header = Header(Tombstone(at, 7, at))
        elif kind == "delete_range":
            end = keys.ROW_SUFFIX + INT.to_key(i(c - 1), True)
            header = Header(None, (RangeTombstone(suffix, end, at, 7, at),))
        partition = _partition(p, q)
        if kind == "merge":
            row = normal(None, [_cell(2, (), at, 0, i(step[3]))])
            key = keys.row_key(TABLE.id, token_of(partition), partition, suffix)
            self.store.execute(MergeRows(TABLE.id, ((key, msgspec.msgpack.encode(row)),)))
            return
        self.sequence += 1
        mutation = Mutation(
            1, self.sequence, 0, at, True, UPDATE, TABLE.id, token_of(partition), partition, header,
            tuple(sorted(rows.items())),
        )  # fmt: skip
        self.store.execute(Apply(encode_mutation(mutation)))

    def find(self, check: Check, index: int, now_us: int, page: int) -> list[bytes]:
        """As a replica serves it, in slices of `page` rows; a static row stands for its partition."""
        judge = Judge(self.table, TYPES, (check,))
        expand = index == 28
        spans = check.spans if index else ()
        ready = next((one for one in self.indexed.of(self.table) if one.id == index), None)
        find = Find(
            TABLE.id, index, spans, keys.TOKEN_MIN, keys.TOKEN_MAX, b"", b"", b"", page, 10**6, now_us,
            expand, True,
        )  # fmt: skip
        found: list[bytes] = []
        while True:
            outcome = self.store.execute(find)
            assert isinstance(outcome, Candidates), outcome
            statics = dict(outcome.statics)
            for term, key, data in outcome.rows:
                head = key[: prefix_end(key)] + STATIC_SUFFIX
                row, static = decode_row(data), decode_row(statics[head]) if head in statics else EMPTY_ROW
                entry = (head, static) if expand else (key, row)
                if judge.accepts(key, row, static, now_us):
                    if ready is None or is_its_turn(ready, spans, *entry, term):
                        found.append(key)
            if not outcome.more:
                return found
            find = msgspec.structs.replace(find, term=outcome.term, key=outcome.key)

    def scan(self, holds: Callable[[dict[str, Any]], bool], now_us: int) -> list[bytes]:
        """The oracle: all rows, as Python values."""
        first, end = keys.token_range_bounds(TABLE.id, keys.TOKEN_MIN, keys.TOKEN_MAX)
        rows = self.store.execute(Read(Slice(TABLE.id, first, end, b"", False, 10**6, 10**9), False))
        assert isinstance(rows, Rows)
        by_partition: dict[bytes, dict[bytes, Row]] = {}
        for key, data in rows.rows:
            at = prefix_end(key)
            if key[at:] != keys.HEADER_SUFFIX:
                by_partition.setdefault(key[:at], {})[key[at:]] = decode_row(data)
        found = []
        for prefix, held in by_partition.items():
            alive = {suffix: row for suffix, row in held.items() if live_cells(row, now_us)}
            static = alive.pop(STATIC_SUFFIX, None)
            if static is not None and not alive:
                alive[STATIC_SUFFIX] = static
            for suffix, row in alive.items():
                if holds(_values(prefix, suffix, row, static, now_us)):
                    found.append(prefix + suffix)
        return sorted(found)


def _partition(p: int, q: int) -> bytes:
    return b"".join(len(v).to_bytes(2, "big") + v + b"\0" for v in (i(p), i(q)))


def _cell(column: int, path: tuple[bytes, ...], at: int, life_us: int, value: bytes | None) -> Cell:
    return Cell(column, path, VALUE, at, 7, at if value is None else life_us, value)


def _values(prefix: bytes, suffix: bytes, row: Row, static: Row | None, now_us: int) -> dict[str, Any]:
    partition = keys.split_row_key(prefix + suffix)[2]
    found: dict[str, Any] = {"q": INT.decode(partition[9:13]), "l": [], "m": {}, "e": [], "c": None}
    if suffix != STATIC_SUFFIX:
        found["c"] = INT.decode(INT.from_key(suffix, 1, True)[0])
        for cell in live_cells(row, now_us):
            value = cell.value or b""
            if cell.column == 2:
                found["v"] = INT.decode(value)
            elif cell.column == 3:
                found["t"] = value.decode()
            elif cell.column == 4 and cell.path:
                found["l"].append(INT.decode(value))
            elif cell.column == 5 and cell.path:
                found["m"][TEXT.unkey(cell.path[0], 0)[0].decode()] = INT.decode(value)
            elif cell.column == 6 and cell.path:
                found["e"].append(INT.decode(INT.unkey(cell.path[0], 0)[0]))
    for cell in live_cells(static, now_us) if static is not None else ():
        found["s"] = INT.decode(cell.value or b"")
    return found


def _folded(text: str) -> Span:
    return (TEXT.key(text.casefold().encode()), b"")


X = TEXT.key(b"x")
B = "b" * 1_500
CHECKS: list[tuple[int, Check, Callable[[dict[str, Any]], bool]]] = [
    (21, Check(IndexTarget("v"), (point(1),)), lambda r: r.get("v") == 1),
    (21, Check(IndexTarget("v"), ((point(0)[0], OPEN),)), lambda r: r.get("v", -9) >= 0),
    (21, Check(IndexTarget("v"), (point(-1), point(2))), lambda r: r.get("v") in (-1, 2)),
    (
        22,
        Check(IndexTarget("t", fold=True), (_folded("AB\0C"),)),
        lambda r: r.get("t", "").lower() == "ab\0c",
    ),
    (22, Check(IndexTarget("t", fold=True), (_folded(B + "C"),)), lambda r: r.get("t") == B + "c"),
    (
        22,
        Check(IndexTarget("t", fold=True), ((b"a", b"b"),)),
        lambda r: r.get("t", "").lower().startswith("a"),
    ),
    (22, Check(IndexTarget("t", fold=True), ((b"", OPEN),), b"b"), lambda r: "b" in r.get("t", "").lower()),
    (23, Check(IndexTarget("l", "values"), (point(1),)), lambda r: 1 in r["l"]),
    (23, Check(IndexTarget("l", "values"), ((b"", point(1)[0]),)), lambda r: any(n < 1 for n in r["l"])),
    (24, Check(IndexTarget("m", "keys"), ((X, b""),)), lambda r: "x" in r["m"]),
    (
        25,
        Check(IndexTarget("m", "values"), ((point(0)[0], OPEN),)),
        lambda r: any(n >= 0 for n in r["m"].values()),
    ),
    (26, Check(IndexTarget("m", "entries"), ((X + point(1)[0], b""),)), lambda r: r["m"].get("x") == 1),
    (27, Check(IndexTarget("e", "values"), (point(0),)), lambda r: 0 in r["e"]),
    (27, Check(IndexTarget("e", "values"), ((b"", OPEN),)), lambda r: bool(r["e"])),
    (28, Check(IndexTarget("s"), (point(1),)), lambda r: r.get("s") == 1),
    (28, Check(IndexTarget("s"), ((point(-1)[0], OPEN),)), lambda r: r.get("s", -9) >= -1),
    (29, Check(IndexTarget("c"), ((point(1)[0], OPEN),)), lambda r: r["c"] is not None and r["c"] >= 1),
    (30, Check(IndexTarget("q"), (point(1),)), lambda r: r["q"] == 1),
]


@settings(max_examples=120, deadline=None)
@given(st.lists(steps, min_size=1, max_size=14), st.integers(0, 100), st.integers(1, 3), st.integers(0, 14))
def test_an_index_answers_what_a_scan_would(
    history: list[tuple[Any, ...]], now_us: int, page: int, built_after: int
) -> None:
    """With `built_after` steps done before the indexes are there: those rows are found by the build."""
    world = World(indexed=False)
    for number, step in enumerate(history):
        if number == built_after:
            world.table = TABLE
            _build(world)
        world.do(step)
    if world.table is not TABLE:
        world.table = TABLE
        _build(world)
    for index, check, holds in CHECKS:
        expected = world.scan(holds, now_us)
        for drive in (index, 0):
            found = world.find(check, drive, now_us, page)
            assert sorted(found) == expected, (index, drive, check)
    _check_entries(world)


def _build(world: World) -> None:
    for index in INDEXES:
        built = IndexBuilt(b"", 0, False)
        while not built.done:
            command = IndexBuild(TABLE.id, index.id, built.after, built.rows, 2, 10**6, b"index/x")
            outcome = world.store.execute(command)
            assert isinstance(outcome, IndexBuilt)
            built = outcome


def _check_entries(world: World) -> None:
    """Entries are exactly those of the rows that are stored."""
    head = keys.table_prefix(TABLE.id)
    stored = list(world.store.engine.scan(head, keys.successor(head)))
    wanted = {e for k, d in stored for e, _ in world.indexed.entries(TABLE, (k, None), (k, d))}
    assert {key for key, _ in world.store.engine.scan(keys.ENTRY, keys.successor(keys.ENTRY))} == wanted


@pytest.mark.parametrize("gone", [index.id for index in INDEXES[:2]])
def test_dropping_an_index_removes_its_entries_and_no_others(gone: int) -> None:
    world = World()
    world.do(("row", (0, 0, 0), 5, 0, [(2, (), i(1)), (3, (), b"a")]))
    before = [key for key, _ in world.store.engine.scan(keys.ENTRY, keys.successor(keys.ENTRY))]
    head = keys.entry_prefix(TABLE.id, gone)
    assert any(key.startswith(head) for key in before)
    world.store.execute(IndexDrop(TABLE.id, gone, b"index/x"))
    after = [key for key, _ in world.store.engine.scan(keys.ENTRY, keys.successor(keys.ENTRY))]
    assert after == [key for key in before if not key.startswith(head)]


def test_an_index_that_nobody_understands_is_neither_written_nor_read() -> None:
    strange = Index(40, "z", "v", "from_the_future")
    world = World()
    world.table = msgspec.structs.replace(TABLE, indexes=(strange, *INDEXES))
    world.do(("row", (0, 0, 0), 5, 0, [(2, (), i(1))]))
    assert not list(
        world.store.engine.scan(keys.entry_prefix(5, 40), keys.successor(keys.entry_prefix(5, 40)))
    )
    assert len(world.find(CHECKS[0][1], 21, 10, 3)) == 1
    with pytest.raises(ValueError, match="cannot be checked"):
        Judge(world.table, TYPES, (Check(IndexTarget("v", "from_the_future"), ()),))
