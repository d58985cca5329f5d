"""Documents read out of cells: what doing the operations in turn gives, in the bytes that were put."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings, strategies as st

from core.cell import MARKER, VALUE, Cell
from core.json_cells import assemble
from core.row import normal
from tests.core.test_row import OPERATIONS
from tests.models import json_merge as model


def cell_of(cell: model.ModelCell) -> Cell:
    path, kind, version, is_tombstone, value = cell
    data = None if is_tombstone else b"" if kind == "o" else json.dumps(value).encode()
    keys = tuple(key.encode() for key in path)
    return Cell(1, keys, MARKER if kind == "o" else VALUE, version, 0, 7 if is_tombstone else 0, data)


@given(st.lists(OPERATIONS, min_size=1, max_size=6))
@settings(max_examples=300)
def test_a_document_is_what_its_operations_made(operations: list[tuple[Any, ...]]) -> None:
    cells = [
        cell_of(cell)
        for at, operation in enumerate(operations)
        for cell in model.operation_cells(operation, at + 1)
    ]
    document: Any = None
    for operation in operations:
        document = model.reference(document, operation)
    found = assemble(normal(None, cells).cells)
    assert (None if found is None else json.loads(found)) == document


def test_numbers_keep_their_digits_and_a_document_its_bytes() -> None:
    text = b'{ "a": 1.10, "b" : 12345678901234567890.5 }'
    root = Cell(1, (), VALUE, 1, 0, 0, text)
    assert assemble([root]) == text
    beside = Cell(1, (b"c",), VALUE, 2, 0, 0, b"0.30")
    markers = Cell(1, (), MARKER, 2, 0, 0, b"")
    assert assemble([root, markers, beside]) == b'{"a":1.10,"b":12345678901234567890.5,"c":0.30}'
