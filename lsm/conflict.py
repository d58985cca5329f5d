"""What a write met: the newest stored version that hides something it wrote, or that it meant to hide and did
not.

A coordinator stamps its write again above such a version before it acknowledges (once), so that a read after
the acknowledgement sees the write however clocks differ. Equal versions are the write's own cells, met again.
"""

from __future__ import annotations

from core.cell import MARKER, NO_VERSION, VALUE, Cell, Version
from core.row import Row, newest_version


def oldest_version(row: Row) -> Version:
    """The least version in what a mutation adds to a row; of an empty addition one above all."""
    version: Version = (2**63, 0)
    if row.deletion is not None:
        version = row.deletion.version
    for cell in row.cells:
        if (cell.timestamp_us, cell.writer) < version:
            version = (cell.timestamp_us, cell.writer)
    return version


def newer_met(stored: Row, addition: Row, covered: Version) -> Version:
    """The greatest version in the stored row, or that covers it, that stands against the addition; else
    NO_VERSION.
    """
    oldest = oldest_version(addition)
    if newest_version(stored) <= oldest and covered <= oldest:
        return NO_VERSION
    met = NO_VERSION
    for cell in addition.cells:
        version = cell.version
        if covered > version:
            met = max(met, covered)
        if stored.deletion is not None and stored.deletion.version > version:
            met = max(met, stored.deletion.version)
        for other in stored.cells:
            if other.version > max(version, met) and opposed(other, cell):
                met = other.version
    if addition.deletion is not None:  # whatever is newer than a deletion outlives it
        for other in stored.cells:
            if other.version > max(addition.deletion.version, met):
                met = other.version
    return met


def opposed(newer: Cell, older: Cell) -> bool:
    """Whether a reader who sees `newer` does not see what `older` says: same address, or one above the
    other.
    """
    if newer.column != older.column:
        return False
    a, b = newer.path, older.path
    if a == b:
        return not (newer.kind == MARKER and older.kind == MARKER)
    if len(a) < len(b):
        return newer.kind == VALUE and b[: len(a)] == a
    return older.kind == VALUE and a[: len(b)] == b
