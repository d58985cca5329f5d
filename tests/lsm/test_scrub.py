"""Scrubbing reads everything, and puts right what follows from rows."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from core.commands import Apply, Failed, Why
from core.healing import Scrub, Scrubbed
from core.mutation import UPDATE, Mutation, encode_mutation
from core.row import Row
from lsm import keys
from lsm.hash_tree import leaf_of
from lsm.memory import MemoryEngine
from lsm.store import Store
from ring.tokens import token_of
from tests.lsm.support import PLAIN, TABLES, cell, check_tree


def filled(count: int = 60) -> Store:
    store = Store(MemoryEngine(), TABLES.get)
    for number in range(count):
        store.execute(Apply(write(number)))
    return store


def write(number: int) -> bytes:
    partition = f"k{number}".encode()
    rows = ((keys.ROW_SUFFIX, Row(None, (cell(10 + number, b"v"),))),)
    token = token_of(partition)
    return encode_mutation(
        Mutation(7, number + 1, 0, 10 + number, True, UPDATE, PLAIN.id, token, partition, None, rows)
    )


def scrubbed(store: Store, rows_max: int = 7, between: Iterable[bytes] = ()) -> list[str]:
    """A pass in slices, with mutations applied between them."""
    problems: list[str] = []
    after, records = b"", 0
    waiting = list(between)
    while True:
        outcome = store.execute(Scrub(after, rows_max, 10**6))
        assert isinstance(outcome, Scrubbed), outcome
        problems += outcome.problems
        records += outcome.records
        after = outcome.after
        if waiting:
            store.execute(Apply(waiting.pop()))
        if not after:
            assert records >= 60
            return problems


def test_what_is_right_stays_as_it_is_also_while_it_is_written_to() -> None:
    store = filled()
    before = dict(store.engine.scan(b"", b"\xff"))
    assert scrubbed(store) == []
    assert dict(store.engine.scan(b"", b"\xff")) == before
    assert scrubbed(store, 3, [write(100 + number) for number in range(40)]) == []
    check_tree(store)


def test_a_leaf_that_is_not_the_sum_of_its_rows_is_put_right() -> None:
    store = filled()
    leaves = [leaf_of(token_of(f"k{number}".encode())) for number in (3, 30)]
    store.engine.write([(keys.tree_key(PLAIN.id, 0, leaf), b"\1" * 8) for leaf in leaves])
    store.tree.forget()
    problems = scrubbed(store)
    assert len(problems) == 2 and all("hash tree" in problem for problem in problems)
    check_tree(store)
    assert scrubbed(store) == []


def test_of_a_table_that_is_being_removed_sums_may_be_gone_before_rows() -> None:
    """As between two steps of ForgetTables, or where a crash came between them."""
    there = dict(TABLES)
    store = Store(filled().engine, there.get)
    del there[PLAIN.id]
    store.engine.delete_range(keys.TREE, keys.successor(keys.TREE))
    before = dict(store.engine.scan(b"", b"\xff"))
    assert scrubbed(store) == [] and dict(store.engine.scan(b"", b"\xff")) == before


@pytest.mark.parametrize("rows_max", [5, 6, 7, 8])
def test_a_slice_that_could_not_be_written_is_read_again_without_harm(rows_max: int) -> None:
    """On a full disk nothing is put right; the rows of the slice count once all the same."""
    engine = MemoryEngine()
    store = Store(engine, TABLES.get)
    rows = ((keys.ROW_SUFFIX, Row(None, (cell(10, b"v"),))),)
    for number in range(60):
        token = 5 if number else -(2**62)
        place = PLAIN.id, token, f"k{number}".encode()
        made = Mutation(7, number + 1, 0, 10, True, UPDATE, *place, None, rows)
        store.execute(Apply(encode_mutation(made)))
    engine.write([(keys.tree_key(PLAIN.id, 0, leaf_of(-(2**62))), b"\1" * 8)])
    store.tree.forget()
    after = b""
    problems: list[str] = []
    while True:
        engine.disk_full = True
        outcome = store.execute(Scrub(after, rows_max, 10**6))
        engine.disk_full = False
        if isinstance(outcome, Failed):
            outcome = store.execute(Scrub(after, rows_max, 10**6))
        assert isinstance(outcome, Scrubbed)
        problems += outcome.problems
        after = outcome.after
        if not after:
            break
    assert len(problems) == 1
    check_tree(store)


def test_damage_ends_the_pass_and_is_remembered() -> None:
    store = filled()
    engine = store.engine
    assert isinstance(engine, MemoryEngine)
    engine.damage(engine.keys(keys.ROW, keys.successor(keys.ROW))[20])
    after = b""
    while True:
        outcome = store.execute(Scrub(after, 7, 10**6))
        if isinstance(outcome, Failed):
            break
        assert isinstance(outcome, Scrubbed) and outcome.after
        after = outcome.after
    assert outcome.why is Why.CORRUPT and store.damaged
