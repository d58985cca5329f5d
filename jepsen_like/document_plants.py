"""Planted bugs of documents; jepsen_like/plants.py says what a plant is."""

from __future__ import annotations

from typing import Any

import msgspec

import core.json_cells
import documents.operations
from core.cell import MARKER, VALUE, Cell
from core.json_values import render
from jepsen_like.plants import Plant

WRONG = ("lost", "stale", "miscounted")

_apply = core.json_cells._apply


def _the_whole_document(document: Any, _: Any) -> list[Any]:
    return [((), VALUE, render(document))]


def _marker_replaces(root: Any, cell: Cell) -> None:
    if cell.kind == MARKER and cell.value is not None:
        cell = msgspec.structs.replace(cell, kind=VALUE, value=b"{}")
    _apply(root, cell)


DOCUMENT_PLANTS = (
    Plant(
        "an edit writes the whole document",
        ((documents.operations, "written_after", _the_whole_document),),
        "documents",
        1,
        WRONG,
    ),
    Plant(
        "a marker replaces what is there",
        ((core.json_cells, "_apply", _marker_replaces),),
        "documents",
        1,
        WRONG,
    ),
)
