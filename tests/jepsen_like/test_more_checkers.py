"""Judges of the bank, of growing numbers and of the schema: what is fine, and each way to be wrong."""

from __future__ import annotations

from typing import Any

import pytest

from core.schema import PARTITION, REGULAR, Column, Table, TableOptions
from jepsen_like.checkers import Problem
from jepsen_like.history import FAIL, INFO, OK, History, Operation
from jepsen_like.workloads import bank, monotonic, schema
from jepsen_like.workloads.schema import Put


class Script:
    """A history by hand."""

    def __init__(self) -> None:
        self.history = History()

    def begin(self, kind: str, key: Any, value: Any = None) -> Operation:
        return self.history.invoke(Operation(self.history.new_process(), kind, key, value, 0), 0)

    def end(self, operation: Operation, result: Any = None, status: str = OK) -> Operation:
        self.history.complete(operation, status, 0, result)
        return operation

    def did(self, kind: str, key: Any, value: Any = None, result: Any = None, status: str = OK) -> Operation:
        return self.end(self.begin(kind, key, value), result, status)


def names(problems: list[Problem]) -> list[str]:
    return [problem.name for problem in problems]


# --- bank


@pytest.mark.parametrize(
    ("balances", "found"),
    [
        ((100, 100, 100, 100, 100), []),
        ((0, 200, 100, 100, 100), []),
        ((90, 100, 100, 100, 100), ["wrong_sum"]),
        ((100, 100, 100, 100), ["wrong_sum"]),
        ((-10, 210, 100, 100, 100), ["negative"]),
    ],
)
def test_a_branch_adds_up(balances: tuple[int, ...], found: list[str]) -> None:
    assert names(bank.judge_reads([Script().did("read", 0, None, balances)])) == found


@pytest.mark.parametrize(
    ("status", "left", "found"),
    [
        (OK, (b"-7", b"7"), []),
        (INFO, (b"-7", b"7"), []),
        (INFO, (None, None), []),
        (FAIL, (None, None), []),
        (OK, (None, None), ["lost"]),
        (OK, (b"-7", None), ["torn"]),
        (INFO, (None, b"7"), ["torn"]),
        (FAIL, (b"-7", b"7"), ["unexpected"]),
    ],
)
def test_both_slips_or_neither(
    status: str, left: tuple[bytes | None, bytes | None], found: list[str]
) -> None:
    send = Script().did("send", -1, (0, 1, 7, 3), None, status)
    branches = [{"s0000003": slip} if slip is not None else {} for slip in left]
    assert names(bank.judge_slips([send], branches)) == found


def test_what_is_in_the_accounts_is_what_was_moved() -> None:
    s = Script()
    moves = [
        s.did("transfer", 0, (0, 1, 10), True),
        s.did("transfer", 0, (0, 1, 99), False),  # the condition was false
        s.did("transfer", 0, (1, 2, 5), None, FAIL),
        s.did("transfer", 0, (3, 4, 20), None, INFO),
    ]
    fine = {"a0": b"90", "a1": b"110", "a2": b"100", "a3": b"100", "a4": b"100"}
    assert bank.judge_accounts(moves, fine) == []
    assert bank.judge_accounts(moves, fine | {"a3": b"80", "a4": b"120"}) == []
    assert names(bank.judge_accounts(moves, fine | {"a0": b"100", "a1": b"100"})) == ["lost", "lost"]
    assert "wrong_sum" in names(bank.judge_accounts(moves, fine | {"a3": b"80"}))
    assert "lost" in names(bank.judge_accounts(moves, {}))


# --- growing numbers


def test_numbers_that_grow_are_fine() -> None:
    s = Script()
    s.did("grow", 0)
    s.did("read", 0, None, (1, (10, 0)))
    unknown = s.begin("grow", 0)
    s.did("read", 0, None, (1, (10, 0)))
    s.end(unknown, None, INFO)
    s.did("read_serial", 0, None, (2, (20, 0)))
    s.did("grow", 0, None, None, FAIL)
    s.did("read", 0, None, (2, (20, 0)))
    assert monotonic.judge_growth(s.history.operations) == []


@pytest.mark.parametrize(
    ("reads", "found"),
    [
        ([(2, (20, 0)), (1, (10, 0))], ["back"]),
        ([(1, (10, 0))], ["back"]),
        ([(3, (30, 0))], ["overcounted"]),
        ([(2, (10, 0)), (2, (20, 0))], ["disordered"]),
    ],
)
def test_numbers_that_go_back_are_not(reads: list[Any], found: list[str]) -> None:
    s = Script()
    s.did("grow", 0)
    s.did("grow", 0)
    for read in reads:
        s.did("read", 0, None, read)
    assert names(monotonic.judge_growth(s.history.operations)) == found


def test_a_greater_number_has_a_greater_version() -> None:
    s = Script()
    s.did("grow", 0)
    s.did("read", 0, None, (1, (30, 0)))
    s.did("grow", 0)
    s.did("read", 0, None, (2, (20, 0)))
    assert names(monotonic.judge_growth(s.history.operations)) == ["disordered"]


def test_who_sees_a_link_sees_those_before() -> None:
    s = Script()
    fine = [s.did("look", 0, 3, seen) for seen in ((True, True), (False, False))]
    assert monotonic.judge_chains(fine) == []
    assert names(monotonic.judge_chains([s.did("look", 0, 3, (True, False))])) == ["out_of_sequence"]


# --- schema

TABLE = Table(
    7,
    "kv",
    "t0",
    (Column(0, "key", "text", PARTITION), Column(1, "n", "text", REGULAR), Column(3, "x0", "text", REGULAR)),
    TableOptions(),
    1,
)


@pytest.mark.parametrize(
    ("put", "status", "row", "found"),
    [
        (Put(7, 5, (1, 3)), OK, {1: b"5", 3: b"5"}, []),
        (Put(7, 5, (1,)), OK, {1: b"5"}, []),
        (
            Put(7, 5, (1, 2)),
            OK,
            {1: b"5", 2: b"5"},
            [],
        ),  # column 2 was dropped: what is left of it is nothing
        (Put(7, 5, (1, 3)), INFO, None, []),
        (Put(6, 5, (1, 3)), OK, None, []),  # to the table that had this name before
        (Put(7, 5, (1, 3)), OK, None, ["lost"]),
        (Put(7, 5, (1, 3)), OK, {1: b"5"}, ["lost"]),
        (Put(7, 5, (1,)), OK, {1: b"5", 3: b"5"}, ["phantom"]),
        (Put(6, 5, (1, 3)), OK, {1: b"5", 3: b"5"}, ["phantom"]),
        (Put(7, 5, (1, 3)), FAIL, {1: b"5", 3: b"5"}, ["phantom"]),
    ],
)
def test_rows_are_those_of_their_table(
    put: Put, status: str, row: dict[int, bytes] | None, found: list[str]
) -> None:
    write = Script().did("write", "t0", put, None, status)
    rows = {} if row is None else {put.number: row}
    assert names(schema.judge_rows([write], TABLE, rows)) == found


def test_a_row_that_nobody_wrote_is_a_phantom() -> None:
    assert names(schema.judge_rows([], TABLE, {9: {1: b"9"}})) == ["phantom"]


def test_an_acknowledged_row_is_seen_while_its_table_is_there() -> None:
    s = Script()
    missed = s.did("read", "", Put(7, 5, (1,)), {})
    assert names(schema.judge_looks([missed], {7: True})) == ["stale"]
    assert schema.judge_looks([missed], {8: True}) == []
    assert schema.judge_looks([s.did("read", "", Put(7, 5, (1,)), {1: b"5"})], {7: True}) == []


def test_a_created_table_is_there_unless_it_may_have_been_dropped() -> None:
    s = Script()
    s.did("create", "t0")
    assert names(schema.judge_tables(s.history.operations, {})) == ["lost"]
    assert schema.judge_tables(s.history.operations, {"t0": TABLE}) == []
    s.did("drop", "t0", None, None, FAIL)
    assert names(schema.judge_tables(s.history.operations, {})) == ["lost"]
    unknown = s.did("drop", "t0", None, None, INFO)
    assert unknown.status == INFO
    assert schema.judge_tables(s.history.operations, {}) == []
    s = Script()
    s.did("drop", "t0")
    s.did("create", "t0")
    assert names(schema.judge_tables(s.history.operations, {})) == ["lost"]


def test_what_was_there_before_a_table_was_emptied_is_a_ghost() -> None:
    s = Script()
    s.did("write", "t0", Put(7, 1, (1,)))
    under_way = s.begin("write", "t0", Put(7, 2, (1,)))
    s.did("write", "t1", Put(8, 3, (1,)))
    s.did("truncate", "t0")
    s.end(under_way)
    s.did("write", "t0", Put(7, 4, (1,)))
    rows = {2: {1: b"2"}, 4: {1: b"4"}}
    assert schema.judge_emptied(s.history.operations, TABLE, rows) == []
    assert names(schema.judge_emptied(s.history.operations, TABLE, rows | {1: {1: b"1"}})) == ["ghost"]


def test_what_was_in_a_dropped_column_does_not_show_in_one_of_the_same_name() -> None:
    s = Script()
    s.did("write", "t0", Put(7, 1, (1, 3)))
    s.did("drop_column", "t0", "x0")
    s.did("write", "t0", Put(7, 2, (1, 3)))
    assert schema.judge_emptied(s.history.operations, TABLE, {1: {1: b"1"}, 2: {1: b"2", 3: b"2"}}) == []
    found = schema.judge_emptied(s.history.operations, TABLE, {1: {1: b"1", 3: b"1"}})
    assert names(found) == ["ghost"]
