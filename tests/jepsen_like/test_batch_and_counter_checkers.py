"""The judges of batches and of counters, on histories made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st

from core.cell import Version
from jepsen_like.door import Found
from jepsen_like.history import FAIL, INFO, OK, PENDING, History, Operation
from jepsen_like.workloads.batches import ROWS, judge_groups
from jepsen_like.workloads.counter import is_sum_of_some, judge_finals, judge_reads


def operation(kind: str, key: int, value: int | None, status: str, result: object = None) -> Operation:
    """One that nothing overlaps."""
    history = _history
    made = history.invoke(Operation(1, kind, key, value, 0), 0)
    if status != PENDING:
        history.complete(made, status, 0, result)
    return made


_history = History()


def rows(group: int, tags: Sequence[int | None], version: Version = (5, 1)) -> dict[str, Found]:
    keys = [f"g{group:06d}-{row}" for row in range(ROWS)]
    return {
        key: Found(key, str(tag).encode(), version)
        for key, tag in zip(keys, tags, strict=True)
        if tag is not None
    }


def names(batches: list[Operation], found: dict[str, Found]) -> list[str]:
    return [problem.name for problem in judge_groups(batches, found, "a read")]


def test_all_or_none_is_fine_and_anything_between_is_torn() -> None:
    unknown = [operation("write", 1, 7, INFO)]
    assert names(unknown, {}) == []
    assert names(unknown, rows(1, [7] * ROWS)) == []
    assert names(unknown, rows(1, [7] * (ROWS - 1) + [None])) == ["torn"]


def test_two_batches_do_not_end_as_halves_nor_under_two_versions() -> None:
    both = [operation("write", 1, 7, OK, (4, 1)), operation("write", 1, 8, OK, (5, 1))]
    assert names(both, rows(1, [8] * ROWS)) == []
    assert names(both, rows(1, [7] + [8] * (ROWS - 1))) == ["torn"]
    half = rows(1, [8] * ROWS)
    half["g000001-0"] = half["g000001-0"]._replace(version=(6, 1))
    assert names(both, half) == ["torn"]


def test_what_was_acknowledged_is_not_lost_and_what_failed_is_not_there() -> None:
    done = operation("write", 1, 7, OK, (5, 1))
    assert names([done], {}) == ["lost"]
    late = operation("write", 1, 8, OK, (6, 1))
    assert names([done, late], rows(1, [7] * ROWS)) == ["lost"]
    assert names([operation("write", 1, 9, FAIL)], rows(1, [9] * ROWS)) == ["unexpected"]
    assert names([done], rows(1, [3] * ROWS, (9, 1))) == ["unexpected"]


def test_a_read_lies_between_what_was_acknowledged_and_what_was_begun() -> None:
    adds = [operation("add", 1, 10, OK), operation("add", 1, -4, OK), operation("add", 1, 3, INFO)]
    reads = {value: operation("read", 1, None, OK, value) for value in (5, 6, 9, 10)}
    assert [problem.name for problem in judge_reads(adds, [reads[5]])] == ["lost"]
    assert judge_reads(adds, [reads[6], reads[9]]) == []
    assert [problem.name for problem in judge_reads(adds, [reads[10]])] == ["overcounted"]


def test_increments_after_a_read_and_failed_ones_do_not_count() -> None:
    before = operation("add", 1, 10, OK)
    failed = operation("add", 1, 100, FAIL)
    read = operation("read", 1, None, OK, 110)
    after = operation("add", 1, 100, OK)
    assert [problem.name for problem in judge_reads([before, failed, after], [read])] == ["overcounted"]


@pytest.mark.parametrize(
    ("value", "fine"), [(10, True), (13, True), (8, True), (11, True), (12, False), (20, False)]
)
def test_the_end_is_the_acknowledged_and_some_of_the_unknown(value: int, fine: bool) -> None:
    adds = [operation("add", 1, 10, OK), operation("add", 1, 3, INFO), operation("add", 1, -2, PENDING)]
    final = operation("final_one", 1, None, OK, value)
    assert (judge_finals(adds, [final]) == []) is fine


@given(st.lists(st.integers(-30, 30).filter(bool), max_size=8), st.integers(-200, 200))
def test_sums_of_some_are_those_of_all_choices(values: list[int], total: int) -> None:
    sums = {0: True}
    for value in values:
        sums |= {known + value: True for known in sums}
    assert is_sum_of_some(total, values) is (total in sums)
