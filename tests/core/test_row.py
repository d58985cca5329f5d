"""Rows merge to one normal form whatever the order, and the normal form is what the rules say."""

from __future__ import annotations

import json
import time
from functools import reduce
from typing import Any

from hypothesis import given, settings, strategies as st

from core.cell import MARKER, NO_VERSION, ROW_MARKER_COLUMN, VALUE, Cell, hides_below
from core.limits import RANGE_TOMBSTONES_MAX
from core.row import (
    EMPTY_HEADER,
    EMPTY_ROW,
    Header,
    RangeTombstone,
    Row,
    Tombstone,
    covered,
    decode_header,
    decode_row,
    encode_header,
    encode_row,
    exists,
    live_cells,
    merge_headers,
    merge_rows,
    newest_version,
    normal,
)
from tests.models import json_merge as model

VERSIONS = st.tuples(st.integers(1, 4), st.integers(0, 1))
PATHS = st.lists(st.sampled_from([b"a", b"b"]), max_size=2).map(tuple)


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    timestamp_us, writer = draw(VERSIONS)
    kind = draw(st.sampled_from([VALUE, VALUE, MARKER]))
    value = b"" if kind == MARKER else draw(st.sampled_from([None, b"x", b"y"]))
    dead = draw(st.integers(1, 3)) if value is None else draw(st.sampled_from([0, 0, 5, 9])) * (kind == VALUE)
    return Cell(draw(st.integers(0, 1)), draw(PATHS), kind, timestamp_us, writer, dead, value)


TOMBSTONES = st.builds(lambda v, admitted: Tombstone(v[0], v[1], admitted), VERSIONS, st.integers(1, 2))
ROWS = st.builds(normal, st.none() | TOMBSTONES, st.lists(cells(), max_size=6))
COVERED = st.just(NO_VERSION) | VERSIONS
BOUNDS = st.sampled_from([b"\x01", b"\x02", b"\x02a", b"\x02b", b"\x03"])
RANGES = st.builds(
    lambda a, b, v, admitted: RangeTombstone(min(a, b), max(a, b), v[0], v[1], admitted),
    BOUNDS,
    BOUNDS,
    VERSIONS,
    st.integers(1, 2),
)
HEADERS = st.builds(
    lambda deletion, ranges: reduce(merge_headers, [Header(None, (r,)) for r in ranges], Header(deletion)),
    st.none() | TOMBSTONES,
    st.lists(RANGES, max_size=4),
)


@given(ROWS, ROWS, ROWS, COVERED)
@settings(max_examples=300)
def test_rows_merge_to_one_result_in_any_order(a: Row, b: Row, c: Row, floor: tuple[int, int]) -> None:
    assert merge_rows(a, b, floor) == merge_rows(b, a, floor)
    assert merge_rows(merge_rows(a, b, floor), c, floor) == merge_rows(a, merge_rows(b, c, floor), floor)
    assert merge_rows(a, a) == a == merge_rows(a, EMPTY_ROW)


@given(ROWS, ROWS, COVERED)
def test_a_merge_is_normal_and_a_floor_may_come_before_or_after(
    a: Row, b: Row, floor: tuple[int, int]
) -> None:
    merged = merge_rows(a, b, floor)
    assert normal(merged.deletion, merged.cells, floor) == merged
    late = merge_rows(a, b)
    assert normal(late.deletion, late.cells, floor) == merged
    assert [cell.address for cell in merged.cells] == sorted({cell.address for cell in merged.cells})
    assert not any(hides_below(x, y) for x in merged.cells for y in merged.cells if _is_above(x, y))
    assert decode_row(encode_row(merged)) == merged


def _is_above(x: Cell, y: Cell) -> bool:
    return x.column == y.column and len(x.path) < len(y.path) and y.path[: len(x.path)] == x.path


@given(HEADERS, HEADERS, HEADERS, st.sampled_from([b"\x01", b"\x02", b"\x02a", b"\x02ab", b"\x02b"]))
def test_headers_merge_to_one_result_and_cover_what_either_covered(
    a: Header, b: Header, c: Header, suffix: bytes
) -> None:
    merged = merge_headers(a, b)
    assert merged == merge_headers(b, a)
    assert merge_headers(merged, c) == merge_headers(a, merge_headers(b, c))
    assert merge_headers(a, a) == a == merge_headers(a, EMPTY_HEADER)
    assert covered(merged, suffix) == max(covered(a, suffix), covered(b, suffix))
    assert decode_header(encode_header(merged)) == merged


def _covers(outer: RangeTombstone, inner: RangeTombstone) -> bool:
    """What it means that a range tombstone is redundant, pair by pair."""
    if outer == inner or not (outer.first <= inner.first and inner.end <= outer.end):
        return False
    if outer.version != inner.version:
        return outer.version > inner.version
    same = outer.first == inner.first and outer.end == inner.end
    return not same or outer.admitted_us > inner.admitted_us


@given(st.lists(RANGES, max_size=8), st.none() | TOMBSTONES)
@settings(max_examples=300)
def test_a_header_holds_the_ranges_that_no_other_covers(
    ranges: list[RangeTombstone], deletion: Tombstone | None
) -> None:
    merged = merge_headers(Header(None, tuple(ranges)), Header(deletion))
    floor = NO_VERSION if deletion is None else deletion.version
    expected = [r for r in set(ranges) if r.version > floor and not any(_covers(o, r) for o in ranges)]
    assert merged.ranges == tuple(sorted(expected))


def test_many_ranges_do_not_take_their_square() -> None:
    """As many as one partition may have: pair by pair they took seconds, at each write."""
    many = tuple(RangeTombstone(b"%05d" % n, b"%05d" % (n + 1), n, 1, n) for n in range(RANGE_TOMBSTONES_MAX))
    began_s = time.process_time()
    one_more = merge_headers(Header(None, many), Header(None, (RangeTombstone(b"a", b"b", 5, 1, 5),)))
    assert len(one_more.ranges) == len(many) + 1
    assert time.process_time() - began_s < 1


# --- json


def _core(cell: model.ModelCell) -> Cell:
    path, kind, version, is_tombstone, value = cell
    data = None if is_tombstone else b"" if kind == "o" else repr(value).encode()
    keys = tuple(key.encode() for key in path)
    return Cell(1, keys, MARKER if kind == "o" else VALUE, version, 0, 7 if is_tombstone else 0, data)


SCALARS = st.sampled_from([1, 2, "s", [1, {"a": 2}]])
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.dictionaries(st.sampled_from("ab"), inner, max_size=2), max_leaves=4
)
PATCHES = st.recursive(
    SCALARS | st.none(), lambda inner: st.dictionaries(st.sampled_from("ab"), inner, max_size=2), max_leaves=4
)
KEYS = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(tuple)
OPERATIONS: st.SearchStrategy[tuple[Any, ...]] = st.one_of(
    st.tuples(st.just("put"), DOCUMENTS),
    st.just(("delete",)),
    st.tuples(st.just("patch"), st.dictionaries(st.sampled_from("ab"), PATCHES, max_size=2)),
    st.tuples(st.just("set"), KEYS, DOCUMENTS),
    st.tuples(st.just("unset"), KEYS),
)


@given(st.lists(OPERATIONS, min_size=1, max_size=6), st.randoms(use_true_random=False))
@settings(max_examples=400)
def test_documents_merge_as_the_model_says(operations: list[tuple[Any, ...]], random: Any) -> None:
    """Blind operations in any order, repeated: the model's cells, and the document of doing them in turn."""
    writes = [model.operation_cells(operation, at + 1) for at, operation in enumerate(operations)]
    order = [*writes, *(random.choice(writes) for _ in range(2))]
    random.shuffle(order)
    row = reduce(merge_rows, [normal(None, map(_core, write)) for write in order], EMPTY_ROW)
    kept = model.normal([cell for write in writes for cell in write])
    assert sorted(row.cells, key=lambda c: c.address) == sorted(map(_core, kept), key=lambda c: c.address)
    document: Any = None
    for operation in operations:
        document = model.reference(document, operation)
    assert json.dumps(model.assemble(kept), sort_keys=True) == json.dumps(document, sort_keys=True)


def test_an_expired_ancestor_still_hides_what_is_below() -> None:
    """Counterexample 13."""
    above = Cell(1, (b"a",), VALUE, 5, 0, 100, b"1")
    below = Cell(1, (b"a", b"b"), VALUE, 3, 0, 0, b"2")
    merged = merge_rows(Row(None, (below,)), Row(None, (above,)))
    assert merged.cells == (above,) and live_cells(merged, 100) == ()


# --- expiry, versions, markers


@given(st.permutations(range(3)))
def test_expiry_does_not_ask_when_the_merge_was(order: list[int]) -> None:
    """Counterexample 6: of one version, expiring wins over live before and after it expired alike."""
    writes = [
        Row(None, (Cell(1, (), VALUE, 5, 0, 0, b"b"),)),
        Row(None, (Cell(1, (), VALUE, 5, 0, 100, b"a"),)),
        Row(None, (Cell(1, (), VALUE, 4, 0, 0, b"c"),)),
    ]
    merged = reduce(merge_rows, [writes[i] for i in order])
    assert [cell.value for cell in live_cells(merged, 99)] == [b"a"]
    assert live_cells(merged, 100) == () and not exists(merged, 100)


def test_a_tie_in_time_is_broken_by_the_writer_for_the_whole_write() -> None:
    """Counterexample 3: {x=1, y=2} or {x=2, y=1}, never a mixture."""

    def write(writer: int, x: bytes, y: bytes) -> Row:
        return Row(None, (Cell(1, (), VALUE, 5, writer, 0, x), Cell(2, (), VALUE, 5, writer, 0, y)))

    merged = merge_rows(write(1, b"1", b"2"), write(2, b"2", b"1"))
    assert [cell.value for cell in merged.cells] == [b"2", b"1"]


def test_an_inserted_row_outlives_its_columns_and_an_updated_one_does_not() -> None:
    """Counterexample 8."""
    cleared = Cell(1, (), VALUE, 6, 0, 6, None)
    marker = Cell(ROW_MARKER_COLUMN, (), VALUE, 5, 0, 0, b"")
    value = Cell(1, (), VALUE, 5, 0, 0, b"v")
    inserted = merge_rows(normal(None, (marker, value)), Row(None, (cleared,)))
    updated = merge_rows(Row(None, (value,)), Row(None, (cleared,)))
    assert exists(inserted, 10) and not exists(updated, 10)
    assert newest_version(inserted) == (6, 0) and newest_version(EMPTY_ROW) == NO_VERSION


def test_a_collection_replaced_by_nothing_hides_its_elements_and_makes_no_row_exist() -> None:
    """The replacement is an expired value: it hides what is older, for ever, and is nothing to a reader."""
    element = Cell(1, (b"a",), VALUE, 5, 0, 0, b"")
    replacement = Cell(1, (), VALUE, 7, 0, 7, b"")
    row = normal(None, [element, replacement])
    assert row.cells == (replacement,)
    assert not exists(row, 8)
    beside = Cell(1, (b"b",), VALUE, 7, 0, 0, b"")
    row = merge_rows(row, normal(None, [beside]))
    assert row.cells == (replacement, beside)
    assert exists(row, 8)
    assert live_cells(row, 8) == (beside,)
