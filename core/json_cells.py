"""A json column's cells as one document.

Under each path of keys there may be a *value* cell (JSON text) and an *object marker* ("from here on an
object, members kept"). The cells of a row in normal form, applied by version and then by depth, make the
document. Text is only taken apart where a newer cell lies below it, so a document that was never patched
comes back as the bytes that were put, and numbers keep their exact text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from core.cell import MARKER, Cell

_Object = dict[str, Any]
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def assemble(cells: Iterable[Cell]) -> bytes | None:
    """The JSON text of the document that these cells of one column make; None if there is none.

    They are live and dead cells alike (`dead_as_tombstone`): a tombstone removes what older cells put at its
    path.
    """
    kept = list(cells)
    if len(kept) == 1 and not kept[0].path and kept[0].kind != MARKER:
        return kept[0].value
    root: _Object = {}
    for cell in sorted(kept, key=_when_applied):
        _apply(root, cell)
    found = root.get("")
    return None if found is None else msgspec.json.encode(found)


def dead_as_tombstone(cell: Cell, now_us: int) -> Cell:
    """An expired cell as the tombstone that it is.

    An expired marker removes what it once replaced, which was no object; members are not its own.
    """
    if cell.value is None or not cell.is_dead(now_us):
        return cell
    return Cell(cell.column, cell.path, cell.kind, cell.timestamp_us, cell.writer, cell.dead_from_us, None)


def _when_applied(cell: Cell) -> tuple[int, int, int, bool, tuple[bytes, ...]]:
    return (cell.timestamp_us, cell.writer, len(cell.path), cell.kind != MARKER, cell.path)


def _apply(root: _Object, cell: Cell) -> None:
    here, key = root, ""
    for step in cell.path:
        below = _object_at(here, key)
        if below is None:
            if cell.value is None:
                return
            below = here[key] = {}
        here, key = below, step.decode()
    if cell.kind == MARKER:
        if _object_at(here, key) is None:
            if cell.value is None:
                here.pop(key, None)
            else:
                here[key] = {}
    elif cell.value is None:
        here.pop(key, None)
    else:
        here[key] = msgspec.Raw(cell.value)


def _object_at(here: _Object, key: str) -> _Object | None:
    """The object under a key, taken apart if it still was text; None if there is no object."""
    found = here.get(key)
    if isinstance(found, dict):
        return found
    if found is None or not bytes(found).lstrip().startswith(b"{"):
        return None
    opened: _Object = _decode_object(found)
    here[key] = opened
    return opened
