"""Counterexample 9 for columns: what was written before DROP does not come back with ADD."""

from __future__ import annotations

import pytest

from core.metadata import AddColumns, DropColumns
from core.requests import Changed, MetadataRequest
from core.row import decode_row
from core.schema import REGULAR, Column, Table
from jepsen_like import convergence
from jepsen_like.scenarios import Scenario
from node import metadata_apply, metadata_state
from tests.scenarios.telling import QUIET, row, table_of, update


def columns_dropped_and_added(seed: int) -> tuple[list[bytes | None], list[list[bytes | None]]]:
    """What the new column holds: for a reader, and on each disk once a late hint has arrived."""
    s = Scenario(settings=QUIET, seed=seed)
    s.start()
    old = table_of(s, "t", ("v", "w"))
    s.kill(2)
    assert s.until(lambda: s.sees_dead(0, 2))
    s.ask(update(old, {1: b"before", 2: b"kept"}))
    for change in (DropColumns("kv", "t", ("v",)), AddColumns("kv", "t", (Column(0, "v", "blob", REGULAR),))):
        answer = s.ask(MetadataRequest(change), at=1).answer
        assert isinstance(answer, Changed) and not answer.error, answer
    s.start(2)
    new = s.state(1).table("kv", "t")
    assert new is not None and new.id == old.id
    assert s.until(lambda: _all_hold(s, new, "w") and s.state(2).table("kv", "t") == new)
    found = row(s, new, at=2)
    assert found is not None
    column = _id(new, "v")
    read = [cell.value for cell in found.cells if cell.column == column]
    return read, [_on_disk(s, peer, new, "v") for peer in range(3)]


def _id(table: Table, name: str) -> int:
    column = table.column(name)
    assert column is not None
    return column.id


def _on_disk(s: Scenario, peer: int, table: Table, name: str) -> list[bytes | None]:
    wanted = _id(table, name)
    rows = [decode_row(data) for data in convergence.rows_of(s.cluster, peer, table.id).values()]
    return [cell.value for each in rows for cell in each.cells if cell.column == wanted]


def _all_hold(s: Scenario, table: Table, name: str) -> bool:
    return all(_on_disk(s, peer, table, name) == [b"kept"] for peer in range(3))


def test_counterexample_09_a_column_added_again_holds_nothing_of_the_dropped_one() -> None:
    assert columns_dropped_and_added(seed=3) == ([], [[], [], []])


def test_counterexample_09_if_column_ids_are_reused_the_old_cells_are_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def least_free(self: metadata_apply.SchemaDraft, table: Table) -> int:
        taken = [column.id for column in table.columns]
        return next(each for each in range(1, 100) if each not in taken)

    monkeypatch.setattr(metadata_apply.SchemaDraft, "_next_column_id", least_free)
    try:
        assert columns_dropped_and_added(seed=4) == ([b"before"], [[b"before"]] * 3)
    finally:
        metadata_state._apply_changes.cache_clear()
