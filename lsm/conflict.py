"""What a write met: the newest stored version that hides something it wrote, or that it meant to hide and did
not.

A coordinator stamps its write again above such a version before it acknowledges (once), so that a read after
the acknowledgement sees the write however clocks differ. Equal versions are the write's own cells, met again.
"""

from __future__ import annotations

from collections.abc import Iterable

from core.cell import MARKER, NO_VERSION, VALUE, Address, Cell, Path, Version
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
    newest = newest_version(stored)
    if newest <= oldest and covered <= oldest:
        return NO_VERSION
    met = NO_VERSION
    above = covered if stored.deletion is None else max(covered, stored.deletion.version)
    if newest > oldest:
        newer = _Newer(cell for cell in stored.cells if cell.version > oldest)
        for cell in addition.cells:
            version = newer.than(cell)
            if version > cell.version:
                met = max(met, version)
        if addition.deletion is not None and newer.newest > addition.deletion.version:
            met = max(met, newer.newest)  # whatever is newer than a deletion outlives it
    if any(above > cell.version for cell in addition.cells):
        met = max(met, above)
    return met


class _Newer:
    """Stored cells by their places, so that a large collection is not looked through for each element."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        self.newest = NO_VERSION
        self._at: dict[Address, Version] = {}
        self._below: dict[tuple[int, Path], Version] = {}
        below = self._below
        for cell in cells:
            version, path = cell.version, cell.path
            self._at[cell.address] = version
            self.newest = max(self.newest, version)
            for depth in range(len(path)):
                place = (cell.column, path[:depth])
                if version > below.get(place, NO_VERSION):
                    below[place] = version

    def than(self, cell: Cell) -> Version:
        """The newest of those because of which a reader does not see what this cell says: at its address, or
        one above or below the other. A marker stands against no marker, and against nothing below it.
        """
        at, column, path = self._at, cell.column, cell.path
        found = max(at.get((column, path[:depth], VALUE), NO_VERSION) for depth in range(len(path) + 1))
        if cell.kind == MARKER:
            return found
        marker = at.get((column, path, MARKER), NO_VERSION)
        return max(found, marker, self._below.get((column, path), NO_VERSION))
