"""The hash of a part of the tree is the sum of its leaves, from wherever they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import pytest
from hypothesis import example, given, strategies as st

from lsm.hash_tree import LEAVES, LEAVES_PER_BRANCH, HashTree
from lsm.keys import tree_key
from lsm.memory import MemoryEngine

AREA = 12 * LEAVES_PER_BRANCH
"""Where leaves are changed, so that spans meet some."""

leaves = st.integers(0, AREA - 1)
deltas = st.dictionaries(leaves, st.integers(-(2**64), 2**64), max_size=8)
spans = st.tuples(leaves, st.integers(1, AREA), st.integers(1, 20))


def change(tree: HashTree, engine: MemoryEngine, table: int, wanted: Mapping[int, int]) -> None:
    puts: list[tuple[bytes, bytes | None]] = []
    sums = tree.stage(table, wanted, puts)
    engine.write(puts)
    tree.commit(sums)


def hashes(tree: HashTree, table: int, first: int, end: int, parts: int) -> tuple[int, ...]:
    return tuple(value for value, _ in tree.sums(table, first, end, parts))


@given(st.lists(deltas, max_size=4), st.lists(deltas, max_size=3), spans)
@example([{0: 1, 64: 2, 700: 3}], [{65: 4}], (0, AREA, 16))
@example([{63: 1, 64: 2}], [], (60, 8, 8))
def test_every_part_is_the_sum_of_its_leaves(
    before: list[dict[int, int]], after: list[dict[int, int]], span: tuple[int, int, int]
) -> None:
    engine = MemoryEngine()
    tree = HashTree(engine)
    for wanted in before:
        change(tree, engine, 1, wanted)
    change(tree, engine, 2, {5: 99})  # of another table
    tree.forget()
    for wanted in after:  # these branches are in memory now, the others are not
        change(tree, engine, 1, wanted)
    first, end = span[0], min(AREA, span[0] + span[1])
    parts = min(span[2], end - first)
    stored = tree.leaves(1)
    bounds = [first + (end - first) * number // parts for number in range(parts + 1)]
    expected = tuple(
        sum(value for leaf, value in stored.items() if a <= leaf < b) % 2**64 for a, b in pairwise(bounds)
    )
    assert hashes(tree, 1, first, end, parts) == expected
    tree.forget()
    assert hashes(tree, 1, first, end, parts) == expected


class CountingEngine(MemoryEngine):
    """Counts scans."""

    scans = 0

    def scan(self, first: bytes, end: bytes, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        self.scans += 1
        return super().scan(first, end, reverse)


@pytest.mark.parametrize("parts", [1, 16])
def test_what_is_in_use_costs_the_engine_nothing(parts: int) -> None:
    """Else each comparison of a table that is being written to would hold up the loop for long."""
    engine = CountingEngine()
    tree = HashTree(engine)
    change(tree, engine, 1, dict.fromkeys(range(0, 8 * LEAVES_PER_BRANCH, 7), 1))
    engine.scans = 0
    for first, end in ((0, 64), (10, 30), (0, 512), (3, 509)):
        hashes(tree, 1, first, end, parts)
    assert engine.scans == 0
    tree.forget()
    hashes(tree, 1, 0, 64, parts)
    assert engine.scans == 1  # and what is not is read at once
    assert engine.get(tree_key(1, 0, 7)) is not None


def test_the_whole_ring_is_the_sum_of_all() -> None:
    engine = MemoryEngine()
    tree = HashTree(engine)
    change(tree, engine, 1, {0: 1, LEAVES // 2: 2, LEAVES - 1: 3})
    assert hashes(tree, 1, 0, LEAVES, 2) == (1, 5)
    tree.forget()
    assert hashes(tree, 1, 0, LEAVES, 2) == (1, 5)


def test_a_new_table_is_looked_at_once_and_again_after_what_is_in_memory_was_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a load into a new collection scans for nothing, once for each of thousands of branches."""
    engine = CountingEngine()
    tree = HashTree(engine)
    first = [branch * LEAVES_PER_BRANCH for branch in range(20)]
    for leaf in first:
        change(tree, engine, 1, {leaf: 7})
        assert tree.branch(1, leaf + 1) is not None
    assert engine.scans == 1 and not tree.keys_needed(1, 40 * LEAVES_PER_BRANCH)
    monkeypatch.setattr("lsm.hash_tree._BRANCHES_MAX", 5)
    tree.trim()
    assert tree.keys_needed(1, 40 * LEAVES_PER_BRANCH) and tree.branch(1, first[0]) is None
    for leaf in first:
        change(tree, engine, 1, {leaf: 1, leaf + 2: 5})
    tree.forget()
    change(tree, engine, 1, {first[3]: 1})
    stored = dict.fromkeys(first, 8) | {leaf + 2: 5 for leaf in first} | {first[3]: 9}
    assert tree.leaves(1) == stored
    assert hashes(tree, 1, 0, LEAVES, 1) == (sum(stored.values()),)
