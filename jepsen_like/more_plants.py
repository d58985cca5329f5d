"""Planted bugs of what the later workloads are for; jepsen_like/plants.py says what a plant is."""

from __future__ import annotations

from typing import Any

import msgspec

import node.paxos_round
from core.hlc import HybridClock
from core.schema import Table
from jepsen_like.paxos_plants import (
    _no_version_read,
    _no_version_seen,
    _nothing_unfinished,
    _promise_without_writing,
)
from jepsen_like.plants import Plant
from lsm.paxos import PaxosSteps
from lsm.store import Store
from lsm.writing import Writer
from node.metadata_apply import SchemaDraft

CYCLES = ("G0", "G1a", "G1b", "G1c", "G-single", "G2", "process", "realtime", "incompatible_order", "phantom")

_apply = Writer.apply
_end_group = Store.end_group


def _column_ids_again(self: Any, table: Table) -> int:
    del self
    return 1 + max((column.id for column in table.columns), default=0)


def _table_ids_again(self: Any) -> int:
    return 1 + max(self.tables, default=0)


def _first_row_alone(self: Any, mutation: Any, *rest: Any, **more: Any) -> Any:
    return _apply(self, msgspec.structs.replace(mutation, rows=mutation.rows[:1]), *rest, **more)


def _as_if_written(self: Any) -> None:
    _end_group(self)


def _stamp_by_the_wall_clock(self: Any) -> int | None:
    stamp_us: int = self._wall_us()
    return stamp_us if stamp_us <= self._ceiling_us else None


_VIEW = (node.paxos_round, "view_of")

MORE_PLANTS = (
    Plant(
        "column ids given again",
        ((SchemaDraft, "_next_column_id", _column_ids_again),),
        "schema",
        22,
        ("phantom", "ghost"),
        20,
    ),
    Plant(
        "table ids given again",
        ((SchemaDraft, "_next_id", _table_ids_again),),
        "schema",
        1,
        ("phantom", "ghost", "lost", "stale"),
        20,
    ),
    Plant(
        "only the first row of a batch",
        ((Writer, "apply", _first_row_alone),),
        "bank",
        1,
        ("wrong_sum", "lost"),
    ),
    Plant("unfinished transaction skipped", ((*_VIEW, _nothing_unfinished),), "txn", 1, CYCLES),
    Plant(
        "promise of a transaction not written",
        ((PaxosSteps, "prepare", _promise_without_writing),),
        "txn",
        1,
        CYCLES,
    ),
    Plant(
        "number under a lower version",
        ((*_VIEW, _no_version_seen), (node.paxos_round, "newest_read", _no_version_read)),
        "monotonic",
        1,
        ("back", "disordered", "overcounted"),
    ),
    Plant("full disk taken for done", ((Store, "end_group", _as_if_written),), "set", 1, ("lost", "stale")),
    Plant(
        "clock set back is not clamped",
        ((HybridClock, "stamp", _stamp_by_the_wall_clock),),
        "register",
        1,
        ("stale", "back", "diverged"),
    ),
)
