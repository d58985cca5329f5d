"""How large a document may grow in the pieces that patches leave of it."""

from __future__ import annotations

from core.cell import MARKER
from core.limits import DOCUMENT_CELLS_MAX, VALUE_BYTES_MAX
from core.row import Row


def has_grown(stored: Row, merged: Row, before: bytes | None, after: bytes | None) -> bool:
    """Whether a row has become larger than a document may be."""
    if len(merged.cells) > max(len(stored.cells), DOCUMENT_CELLS_MAX):
        return True
    return after is not None and len(after) > VALUE_BYTES_MAX and len(after) > len(before or b"")


def too_large(row: Row) -> str:
    """Why the document in a row is too large to be patched further, if it is a document.

    Collections may have more elements, and what is one value was measured when it came.
    """
    for column in sorted({cell.column for cell in row.cells}):
        cells = [cell for cell in row.cells if cell.column == column]
        is_document = any(cell.kind == MARKER or (cell.value and not cell.path) for cell in cells)
        if not is_document or len(cells) == 1:
            continue
        if len(cells) > DOCUMENT_CELLS_MAX:
            return (
                f"the document would be kept in {len(cells)} pieces, {DOCUMENT_CELLS_MAX} are the limit: "
                "write it as a whole, then it is one piece again"
            )
        size = sum(len(cell.value or b"") for cell in cells)
        if size > VALUE_BYTES_MAX:
            return f"the document would have {size} bytes in pieces; {VALUE_BYTES_MAX} are the limit"
    return ""
