"""Documents made of pieces alone: each list of pieces at a version of its own, merged as rows merge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from core.cell import Cell
from core.json_cells import assemble
from core.json_values import parse
from core.row import EMPTY_ROW, Row, merge_rows
from documents.cells import Piece
from query.document_values import MISSING

COLUMN = 1


def row_of(pieces: Iterable[Piece], version: int) -> Row:
    """One write."""
    cells = [
        Cell(COLUMN, tuple(key.encode() for key in path), kind, version, 0, 1 if text is None else 0, text)
        for path, kind, text in pieces
    ]
    return Row(None, tuple(sorted(cells, key=lambda cell: cell.address)))


def merged(history: Sequence[Iterable[Piece]]) -> Row:
    """All writes, the first at version 1."""
    row = EMPTY_ROW
    for version, pieces in enumerate(history, 1):
        row = merge_rows(row, row_of(pieces, version))
    return row


def assembled(history: Sequence[Iterable[Piece]]) -> Any:
    """The document after these writes; MISSING if there is none."""
    text = assemble(merged(history).cells)
    return MISSING if text is None else parse(text)
