"""Retention: the change log is trimmed by age and by size, a bounded piece at a time.

What is trimmed was followed by whoever was there to follow it; who was away longer finds a gap and is made
equal by hash trees (node/following.py). Ids of mutations outlive their entries, so nothing is ever applied
twice. Rows that a partition's tombstones cover are removed by the store itself, in its idle moments
(lsm/executor.py).

The log waits for consumer groups and sinks: what the slowest one has still to read of ranges that we hold
is kept up to a cap of its own in time and bytes. Beyond it the group gets a gap, and goes on. A table may ask
for more time, or for so many bytes of its own, which are then no fewer and no more; the log has one sequence,
so what is beside its entries is kept as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from core import limits
from core.commands import Outcome
from core.trimming import LogTrim, Share, Trimmed
from streams.cursor import Cursor, cut_to, decode_cursor
from streams.groups import Group

if TYPE_CHECKING:
    from core.requests import Answer
    from node.inside import Inside
    from node.metadata import Metadata
    from node.metadata_state import State

TRIM_PAUSE_US = 60 * limits.SECOND_US
"""Between two looks at the log's old end."""

ON_US = 50_000
"""Between two steps, each of which forgets a bounded number of entries (lsm/trimming.py)."""

NOBODY = 2**63 - 1

Every = Callable[[Callable[["list[Group] | Answer"], None]], None]
"""Has somebody told all groups, or why they cannot be told."""


class Retention:
    """Has the log trimmed."""

    def __init__(self, inside: Inside, metadata: Metadata, groups: Every) -> None:
        """Register."""
        self._inside = inside
        self._metadata = metadata
        self._groups = groups
        self._failing = False
        self._command = LogTrim(0, 0)
        self.held = 0
        """The last offset that no group has still to read, as of the last look (0: not known yet)."""
        inside.on_timer("retention", self._look)
        inside.on_timer("retention_on", self._go_on)
        inside.on_stored("log_trimmed", self._on_trimmed)

    def start(self) -> None:
        """Begin."""
        self._inside.timer(TRIM_PAUSE_US, "retention")

    def _look(self) -> None:
        if self._metadata.unready:
            self._inside.timer(TRIM_PAUSE_US, "retention")
        else:
            self._groups(self._trim)

    def _trim(self, found: list[Group] | Answer) -> None:
        """Where the groups stand is not known now: nothing that one may have to read is forgotten."""
        settings, now_us = self._inside.settings, self._inside.clock.now_us()
        state, me = self._metadata.state, self._inside.identity.peer
        held: dict[str, int] = {}
        for group in found if isinstance(found, list) else ():
            held[group.table] = min(held_by(group, state, me), held.get(group.table, NOBODY))
        unknown = NOBODY if isinstance(found, list) else -1
        self.held = min(held.values(), default=unknown)
        shares = tuple(
            Share(table.id, kept_bytes, held.get(f"{table.keyspace}.{table.name}", unknown))
            for table in state.tables.values()
            if (kept_bytes := table.options.changes_kept_bytes)
        )
        log_us = settings.log_retention_us
        asked = {table.id: table.options.changes_kept_s * limits.SECOND_US for table in state.tables.values()}
        tables = tuple((table, now_us - kept_us) for table, kept_us in asked.items() if kept_us > log_us)
        self._command = LogTrim(
            now_us - log_us,
            settings.log_bytes_max,
            tables,
            self.held,
            now_us - max(log_us, settings.log_held_us),
            max(settings.log_bytes_max, settings.log_held_bytes_max),
            shares,
        )
        self._go_on()

    def _go_on(self) -> None:
        self._inside.submit(("log_trimmed",), self._command)

    def _on_trimmed(self, outcome: Outcome) -> None:
        failed = not isinstance(outcome, Trimmed)
        if failed and not self._failing:
            self._inside.log(
                "warning", "log_not_trimmed", f"the change log cannot be trimmed for now: {outcome}"
            )
        self._failing = failed
        if isinstance(outcome, Trimmed) and outcome.more:
            self._inside.timer(ON_US, "retention_on")
        else:
            self._inside.timer(TRIM_PAUSE_US, "retention")


def held_by(group: Group, state: State, me: bytes) -> int:
    """The offset in the log of `me` behind which a group has still to read; NOBODY if that is nothing."""
    keyspace, _, name = group.table.partition(".")
    table, number = state.table(keyspace, name), state.number_of(me)
    placement = None if table is None else state.placement(table.id)
    if placement is None or number is None:
        return NOBODY
    ranges = placement.shared_ranges(me, me)
    held = NOBODY
    for part in group.parts:
        cursor = decode_cursor(part.cursor)
        if not isinstance(cursor, Cursor):
            return -1 if ranges else NOBODY  # it begins with the log
        for place in cut_to(cursor, ranges).places:
            held = min(held, dict(place.offsets).get(number, -1))
    return held
