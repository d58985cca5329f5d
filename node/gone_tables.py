"""Deletes what is stored of tables that are no more: dropped, or emptied, which gives a table another id.

Ids are given by the metadata log and never again, so what is stored under one that was given and is not there
can never be asked for. It is deleted a while after the epoch that took it away, once that epoch is on this
peer's disk: a crash would else bring back a table without its rows. At the start the store is looked through
once, for what an earlier process left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core import limits
from core.commands import Outcome, Swept
from core.moving import ForgetTables

if TYPE_CHECKING:
    from node.inside import Inside
    from node.metadata import Metadata

DELAY_US = 60 * limits.SECOND_US
"""After the epoch, after the start, and after a failure."""
STEP_US = 2_000


class GoneTables:
    """A timer and a command."""

    def __init__(self, inside: Inside, metadata: Metadata) -> None:
        """Register."""
        self._inside = inside
        self._metadata = metadata
        self._there: dict[int, None] = {}
        self._is_due = False
        inside.on_timer("gone_tables", self._begin)
        inside.on_timer("gone_tables_step", self._step)
        inside.on_stored("tables_forgotten", self._on_forgotten)
        metadata.on_adopted(self._on_adopted)

    def start(self) -> None:
        """Look for what was left."""
        self._there = dict.fromkeys(self._metadata.state.tables)
        self._later()

    def _on_adopted(self) -> None:
        tables = self._metadata.state.tables
        if any(table not in tables for table in self._there):
            self._later()
        self._there = dict.fromkeys(tables)

    def _later(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._inside.timer(DELAY_US, "gone_tables")

    def _begin(self) -> None:
        self._is_due = False
        if self._metadata.log.durable < self._metadata.state.epoch:
            self._later()
        else:
            self._step(self._metadata.state.next_table_id, b"")

    def _step(self, below: int, after: bytes) -> None:
        self._inside.submit(("tables_forgotten", below), ForgetTables(below, after))

    def _on_forgotten(self, outcome: Outcome, below: int) -> None:
        if not isinstance(outcome, Swept):  # a full disk, for instance
            self._later()
            return
        self._inside.count("tables_forgotten", outcome.removed)
        if outcome.after:
            self._inside.timer(STEP_US, "gone_tables_step", below, outcome.after)
