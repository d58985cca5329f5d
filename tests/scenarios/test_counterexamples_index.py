"""Counterexamples 23, 24 and 25: what an index finds on one replica, and what only another one knows."""

from __future__ import annotations

from typing import Any

import pytest

from core.consistency import Level
from core.finding import Check, Drive, FindRequest, Found
from core.messages import ApplyMutation
from core.metadata import CreateIndex
from core.requests import Answer, Changed, MetadataRequest, Written
from core.schema import Index, IndexTarget, Table
from cql_lite.types import BLOB
from jepsen_like.scenarios import Scenario
from node.find_serving import _Slice
from tests.scenarios.telling import QUIET, WRITE_FAST, table_of, update

Patch = pytest.MonkeyPatch
A, B, C = 0, 1, 2


def told() -> tuple[Scenario, Table]:
    """Three replicas that only follow when they are asked to, and a table with two indexed columns."""
    s = Scenario(settings=QUIET | WRITE_FAST | {"hints": False})
    s.start()
    table = table_of(s, "rows", ("a", "b"))
    for column in ("a", "b"):
        answer = s.ask(MetadataRequest(CreateIndex("kv", "rows", Index(0, f"by_{column}", column)))).answer
        assert isinstance(answer, Changed) and not answer.error, answer

    def built(peer: int) -> bool:
        indexes = s.state(peer).tables[table.id].indexes
        return len(indexes) == 2 and all(s.node(peer).building.is_built(index.id) for index in indexes)

    assert s.until(lambda: all(built(peer) for peer in range(3)))
    return s, s.state(0).tables[table.id]


def write(s: Scenario, table: Table, values: dict[int, bytes | None], misses: int, at: int) -> None:
    """Acknowledged at QUORUM, though it never reaches the replica `misses`."""
    s.lose(lambda source, target, message: target == misses and isinstance(message, ApplyMutation))
    assert isinstance(s.ask(update(table, values), at=at).answer, Written)
    s.heal()


def find(s: Scenario, table: Table, at: int, level: Level = Level.QUORUM, **wanted: bytes) -> Answer | None:
    checks = tuple(Check(IndexTarget(name), ((BLOB.key(value), b""),)) for name, value in wanted.items())
    index = table.index(f"by_{next(iter(wanted))}")
    assert index is not None
    return s.ask(FindRequest(table.id, level, checks, Drive(index.id, checks[0].spans)), at=at).answer


def found(answer: Answer | None) -> int:
    assert isinstance(answer, Found), answer
    assert not answer.more
    return len(answer.rows)


def not_followed(monkeypatch: Patch) -> None:
    def look(self: Any, why_not: str) -> None:
        del why_not
        self.look()

    monkeypatch.setattr(_Slice, "_follow", look)


# --- 23: a search through a replica that missed the write


def a_replica_that_missed_the_write_is_asked() -> list[int]:
    """What each peer finds."""
    s, table = told()
    write(s, table, {1: b"1"}, misses=A, at=B)
    return [found(find(s, table, at, a=b"1")) for at in (A, B, C)]


def test_counterexample_23_a_replica_follows_before_it_looks() -> None:
    assert a_replica_that_missed_the_write_is_asked() == [1, 1, 1]


def test_counterexample_23_without_following_it_finds_what_it_happens_to_hold(monkeypatch: Patch) -> None:
    not_followed(monkeypatch)
    assert a_replica_that_missed_the_write_is_asked() == [0, 1, 1]


# --- 24: the halves of a row on different replicas


def each_replica_has_half_of_the_row() -> tuple[int, int]:
    """What A and B find of a row of which either holds one column, while C, who has both, is away."""
    s, table = told()
    write(s, table, {1: b"1"}, misses=B, at=C)
    write(s, table, {2: b"2"}, misses=A, at=C)
    s.pause(C)
    assert s.until(lambda: s.sees_dead(A, C) and s.sees_dead(B, C))
    return found(find(s, table, A, a=b"1", b=b"2")), found(find(s, table, B, b=b"2", a=b"1"))


def test_counterexample_24_one_replica_judges_the_merged_row() -> None:
    assert each_replica_has_half_of_the_row() == (1, 1)


def test_counterexample_24_without_following_neither_replica_finds_the_row(monkeypatch: Patch) -> None:
    not_followed(monkeypatch)
    assert each_replica_has_half_of_the_row() == (0, 0)


# --- 25: a stale row that nobody contradicts


def one_replica_still_has_the_old_value() -> tuple[int, int]:
    """How many are found `open` and `done` through A, which missed that it was done."""
    s, table = told()
    assert isinstance(s.ask(update(table, {1: b"open"}, level=Level.ALL), at=A).answer, Written)
    write(s, table, {1: b"done"}, misses=A, at=B)
    return found(find(s, table, A, a=b"open")), found(find(s, table, A, a=b"done"))


def test_counterexample_25_what_was_acknowledged_elsewhere_is_known_before_it_looks() -> None:
    assert one_replica_still_has_the_old_value() == (0, 1)


def test_counterexample_25_without_following_the_old_value_is_found(monkeypatch: Patch) -> None:
    not_followed(monkeypatch)
    assert one_replica_still_has_the_old_value() == (1, 0)


# --- what goes with them


def test_at_one_a_replica_says_what_it_holds() -> None:
    s, table = told()
    write(s, table, {1: b"1"}, misses=A, at=B)
    assert found(find(s, table, A, Level.ONE, a=b"1")) == 0
    assert found(find(s, table, A, Level.ALL, a=b"1")) == 1
    assert found(find(s, table, A, Level.ONE, a=b"1")) == 1, "it has followed by now"


def test_a_serving_replica_that_dies_is_replaced_by_one_that_follows_too() -> None:
    s, table = told()
    write(s, table, {1: b"1"}, misses=A, at=B)
    s.pause(B)
    assert found(find(s, table, A, a=b"1")) == 1, "C is followed when B says nothing"
