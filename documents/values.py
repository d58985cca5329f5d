"""Documents as rows: what a row of a collection holds, and under which tag.

The document is the cells of the collection's json column, put together at one moment (`now_us` travels with
rows that were read). Its text is what was put, byte for byte, until it is patched; its value is exact JSON
(core/json_values.py: int, float where that is exact, else Decimal):

    document = document_of(collection, item, rows.now_us)     # item: ReadRow, rows: RowsRead
    document.id, document.text, document.value, document.tag

The tag is a strong validator: two states of a document with one tag are equal. A version is not enough for
that, because writes to different paths merge, and an older one may come later: of a document of more than one
cell, the tag also hashes what all of them are.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from core.cell import VALUE, Cell, Version
from core.json_cells import assemble, dead_as_tombstone
from core.json_values import Value, parse
from core.requests import ReadRow
from core.row import Row
from documents.collections import Collection
from lsm import keys

HASH_BYTES = 8


class Document(msgspec.Struct, frozen=True):
    """A document that is there."""

    id: str
    text: bytes
    version: Version
    tag: str

    @property
    def value(self) -> Value:
        """The document as a Python value; parsed anew each time. Raises JsonError if it cannot be had."""
        return parse(self.text)


def document_of(collection: Collection, item: ReadRow, now_us: int) -> Document | None:
    """The document that a row of the collection holds at `now_us`; None if it holds none."""
    cells = cells_of(collection, item.row)
    text = text_of(cells, now_us)
    if text is None:
        return None
    version = max(cell.version for cell in cells)
    return Document(id_of(item.key), text, version, tag_of(cells, version, now_us))


def id_of(row_key: bytes) -> str:
    """The id of the document in the row with this key."""
    return keys.split_row_key(row_key)[2].decode()


def cells_of(collection: Collection, row: Row) -> tuple[Cell, ...]:
    """The cells of the document in a row, the dead included."""
    column = collection.document_column
    return tuple(cell for cell in row.cells if cell.column == column)


def text_of(cells: tuple[Cell, ...], now_us: int) -> bytes | None:
    """The text of the document that these cells are at `now_us`; None if there is none."""
    return assemble([dead_as_tombstone(cell, now_us) for cell in cells])


def tag_of(cells: tuple[Cell, ...], version: Version, now_us: int) -> str:
    """The strong entity tag (RFC 9110) of the document that these cells are at `now_us`."""
    text = f"{version[0]:x}-{version[1]:x}"
    if len(cells) == 1 and not cells[0].path and cells[0].kind == VALUE:
        return f'"{text}"'
    what = [(cell.path, cell.kind, cell.timestamp_us, cell.writer, cell.is_dead(now_us)) for cell in cells]
    return f'"{text}-{blake2b(msgspec.msgpack.encode(what), digest_size=HASH_BYTES).hexdigest()}"'
