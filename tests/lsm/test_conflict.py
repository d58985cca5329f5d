"""What a write met, as found by places, is what a look at all pairs of cells finds."""

from __future__ import annotations

import time

from hypothesis import given, settings

from core.cell import MARKER, NO_VERSION, VALUE, Cell, Version
from core.row import Row
from lsm.conflict import newer_met
from tests.core.test_row import COVERED, ROWS


def _opposed(newer: Cell, older: Cell) -> bool:
    """Whether a reader who sees `newer` does not see what `older` says."""
    if newer.column != older.column:
        return False
    a, b = newer.path, older.path
    if a == b:
        return not (newer.kind == MARKER and older.kind == MARKER)
    if len(a) < len(b):
        return newer.kind == VALUE and b[: len(a)] == a
    return older.kind == VALUE and a[: len(b)] == b


def _met(stored: Row, addition: Row, covered: Version) -> Version:
    found = [NO_VERSION]
    for cell in addition.cells:
        found += [covered] if covered > cell.version else []
        if stored.deletion is not None and stored.deletion.version > cell.version:
            found.append(stored.deletion.version)
        found += [o.version for o in stored.cells if o.version > cell.version and _opposed(o, cell)]
    if addition.deletion is not None:
        found += [o.version for o in stored.cells if o.version > addition.deletion.version]
    return max(found)


@given(ROWS, ROWS, COVERED)
@settings(max_examples=500)
def test_what_is_met_is_what_a_look_at_all_pairs_finds(
    stored: Row, addition: Row, covered: Version
) -> None:
    assert newer_met(stored, addition, covered) == _met(stored, addition, covered)


def test_a_large_collection_is_not_looked_through_for_each_element() -> None:
    """A hundred thousand elements, and as many that came late: in pairs they would take twenty minutes."""

    def elements(at_us: int) -> Row:
        cells = (Cell(1, (b"%06d" % number,), VALUE, at_us, 1, 0, b"") for number in range(100_000))
        return Row(None, tuple(cells))

    began_s = time.process_time()
    assert newer_met(elements(100), elements(50), NO_VERSION) == (100, 1)
    assert time.process_time() - began_s < 10
