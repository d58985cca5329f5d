"""Operators one by one and in chains: what goes through, in which order, and when a source may stop."""

from __future__ import annotations

from typing import Any

from hypothesis import given, strategies as st

from query.aggregates import Count, Extreme, Sum
from query.comparisons import compared, containing, every, within
from query.operators import Distinct, Filtered, Grouped, Limited, PerPartition, Rows, Sink, Sorted


def pushed(sink: Sink, rows: list[tuple[bytes, Any]]) -> int:
    """Push until no more are wanted; how many were taken."""
    for count, (partition, row) in enumerate(rows, start=1):
        if not sink.push(partition, row):
            sink.end()
            return count
    sink.end()
    return len(rows)


def order(a: Any, b: Any) -> int:
    return int(a > b) - int(a < b)


PARTITIONED = st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 5)), max_size=30).map(
    lambda rows: sorted(rows, key=lambda row: row[0])
)


@given(PARTITIONED, st.integers(1, 4), st.integers(1, 8))
def test_limits_count_what_the_filter_lets_through(
    rows: list[tuple[bytes, int]], each: int, most: int
) -> None:
    kept = Rows()
    taken = pushed(Filtered(lambda row: row > 1, PerPartition(each, Limited(most, kept))), rows)
    expected: list[int] = []
    for partition in (b"a", b"b", b"c"):
        expected += [row for at, row in rows if at == partition and row > 1][:each]
    assert kept.rows == expected[:most]
    if len(expected) > most:
        assert taken < len(rows), "a source stops when the limit is reached"


@given(PARTITIONED)
def test_groups_fold_runs_of_equal_keys(rows: list[tuple[bytes, int]]) -> None:
    kept = Rows()
    grouped = Grouped(
        lambda row: (),
        lambda: [
            Count(),
            Sum(lambda row: row, lambda total, count: total),
            Extreme(lambda row: row, order, -1),
        ],
        lambda first, results: (first, *results),
        kept,
    )
    pushed(grouped, rows)
    expected = []
    for partition in (b"a", b"b", b"c"):
        values = [row for at, row in rows if at == partition]
        if values:
            expected.append((values[0], len(values), sum(values), max(values)))
    assert kept.rows == expected


def test_all_of_nothing_is_one_group_and_runs_of_nothing_are_none() -> None:
    for key, expected in ((None, [("empty", 0)]), (lambda row: row, [])):
        kept = Rows()
        pushed(Grouped(key, lambda: [Count()], lambda first, results: (first, *results), kept, "empty"), [])
        assert kept.rows == expected


def test_distinct_partitions_and_sorting() -> None:
    rows = [(b"a", 3), (b"a", 1), (b"b", 2), (b"b", 9)]
    kept = Rows()
    pushed(Distinct(kept), rows)
    assert kept.rows == [3, 2]
    kept = Rows()
    pushed(Sorted(order, 10, Limited(3, kept)), rows)
    assert kept.rows == [1, 2, 3]
    too_many = Sorted(order, 2, Rows())
    assert pushed(too_many, rows) == 3
    assert too_many.overflowed


def test_nothing_compares_with_no_value() -> None:
    value = lambda row: row  # noqa: E731
    for operator in ("=", "!=", "<", "<=", ">", ">="):
        assert not compared(value, operator, None, order)(1)
        assert not compared(value, operator, 1, order)(None)
    assert compared(value, "!=", 2, order)(1)
    assert within(value, [1, None], hash)(1)
    assert not within(value, [None], hash)(None)
    assert containing(lambda row: row, 2, order)([1, 2])
    assert every([]) is None
    both = every([lambda row: row > 1, lambda row: row < 3])
    assert both is not None
    assert [both(row) for row in (1, 2, 3)] == [False, True, False]
