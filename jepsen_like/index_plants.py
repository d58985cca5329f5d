"""Planted bugs of secondary indexes and reads by predicate; jepsen_like/plants.py says what a plant is."""

from __future__ import annotations

from typing import Any

import msgspec

import lsm.store
from core.commands import IndexBuilt
from index.entries import Indexed
from index.secondary import Judge
from jepsen_like.plants import Plant
from lsm import finding
from node.served_work import Work

INEXACT = ("missing", "stale", "wrong", "phantom")

_entries = Indexed.entries


def _look_without_following(self: Any, why_not: str) -> None:
    del why_not
    self.look()


def _never_remove(self: Any, table: Any, before: Any, after: Any) -> Any:
    return [put for put in _entries(self, table, before, after) if put[1] is not None]


def _take_what_entries_say(self: Any, key: bytes, row: Any, static: Any, now_us: int) -> bool:
    del self, key, static, now_us
    return bool(row.cells)


def _look_beyond(engine: Any, wanted: Any, has_clustering: bool) -> Any:
    if not wanted.also:
        wanted = msgspec.structs.replace(wanted, last_token=min(wanted.last_token + 2**60, 2**63 - 1))
    return finding.find(engine, wanted, has_clustering)


def _write_no_entries_before_it_is_built(self: Any, table: Any, before: Any, after: Any) -> Any:
    """Writes leave an index alone that is new: the build will come by, if it has not yet."""
    if before[1] is None:
        return _entries(self, table, before, after)  # the build, and rows that are new
    first = msgspec.structs.replace(table, indexes=table.indexes[:1])
    return _entries(self, first, before, after)


def _built_at_once(engine: Any, command: Any, schema: Any, entries: Any) -> IndexBuilt:
    del engine, schema, entries
    return IndexBuilt(b"", command.rows, True)


INDEX_PLANTS = tuple(
    Plant(name, patches, "index", 1, problems, 3)
    for name, patches, problems in (
        ("not followed before looking", ((Work, "_follow", _look_without_following),), INEXACT),
        ("entry not removed on update", ((Indexed, "entries", _never_remove),), ("entries",)),
        (
            "rows not checked, entries not removed",
            ((Indexed, "entries", _never_remove), (Judge, "accepts", _take_what_entries_say)),
            INEXACT,
        ),
        ("index read beyond its range", ((lsm.store, "find", _look_beyond),), ("duplicated", *INEXACT)),
        (
            "build misses rows written while it goes on",
            ((Indexed, "entries", _write_no_entries_before_it_is_built),),
            ("entries", *INEXACT),
        ),
        ("index built in name only", ((lsm.store, "build", _built_at_once),), ("entries", *INEXACT)),
    )
)
