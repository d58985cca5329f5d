"""Operations on one document as requests to a node, and the node's answers as values.

What does not depend on the document is an ordinary write: a PUT of the root value, a merge patch, `$set`. It
merges per path with what others write, and needs one round trip. Everything else is a `ConditionalRequest`
whose `decide` reads the document, edits it and gives the cells that changed: JSON Patch, the other operators,
any edit under a condition on the entity tag, with a JSON Schema, or whose result is asked for.

Where there is a time to live (the collection's, or one that the edit gives), an edit renews the whole
document: it takes the conditional path and writes the root, so that a document never expires in part. An edit
without one, of a document that was put with one, stays when the rest has expired. Where there is a TTL index
(node/expiring.py) edits do the same, so that what is written beside a deletion stays whole.
"""

from __future__ import annotations

from typing import Final

import msgspec

from core import families, limits
from core.cell import ROW_MARKER_COLUMN, VALUE, Cell, Version
from core.consistency import Level
from core.json_values import JsonError, Value, checked, render
from core.mutation import DELETE, INSERT, UPDATE
from core.requests import (
    ConditionalRequest,
    Invalid,
    Judged,
    PartRead,
    ReadRequest,
    RowsRead,
    RowWrite,
    ScanRequest,
    Write,
    WriteRequest,
    Written,
)
from core.row import EMPTY_ROW, Row, merge_rows
from documents.cells import Piece, put_pieces, too_many, writes, written_after
from documents.collections import Collection
from documents.combined import problem_of
from documents.edits import Edit, EditError, check_result
from documents.schemas import document_problem
from documents.values import Document, cells_of, document_of, id_of, tag_of, text_of
from lsm import keys
from query.document_values import MISSING
from ring.tokens import token_of


class Condition(msgspec.Struct, frozen=True):
    """Entity tags of which one must match, or none may; ("*",) stands for any document.

    RFC 9110: If-Match compares strongly, so a weak tag matches nothing; If-None-Match does not.
    """

    match: tuple[str, ...] | None = None
    none_match: tuple[str, ...] | None = None

    def holds(self, tag: str | None) -> bool:
        """Whether it holds of a document with this tag; None: there is none."""
        if self.match is not None and not _among(tag, self.match):
            return False
        if self.none_match is None:
            return True
        return not _among(tag, tuple(each.removeprefix("W/") for each in self.none_match))


def _among(tag: str | None, tags: tuple[str, ...]) -> bool:
    return tag is not None and (tags == ("*",) or tag in tags)


class Wanted(msgspec.Struct, frozen=True):
    """How an operation is to be done.

    `ttl_s` None means the collection's default, 0 for ever. `returning`: the document is to be told.
    `existing`: only if there is one.
    """

    level: Level = Level.QUORUM
    ttl_s: int | None = None
    condition: Condition | None = None
    returning: bool = False
    existing: bool = False


WANTED = Wanted()


class Done(msgspec.Struct, frozen=True):
    """It was done (or there was nothing to do).

    `tag` is that of the document now; None where nobody knows: a merge may have met others. `text` is the
    document if it was asked for.
    """

    tag: str | None
    text: bytes | None = None
    changed: bool = True


class NotMet(msgspec.Struct, frozen=True):
    """The condition does not hold: `tag` is that of the document, None if there is none."""

    tag: str | None


class Operation(msgspec.Struct, frozen=True):
    """A planned operation: what to ask of the node, and what its answer means."""

    collection: Collection
    request: WriteRequest | ConditionalRequest
    condition: Condition | None
    is_put: bool

    def outcome(self, answer: Written | Judged) -> Done | NotMet:
        """What an answer of success says."""
        if isinstance(answer, Written):
            return Done(f'"{answer.version[0]:x}-{answer.version[1]:x}"' if self.is_put else None)
        row, now_us = _row_read(answer.reads)
        document = _document_read(self.collection, answer.reads)
        tag = None if document is None else document.tag
        if answer.version is None:
            if self.condition is not None and not self.condition.holds(tag):
                return NotMet(tag)
            return Done(tag, None if document is None else document.text, changed=False)
        assert isinstance(self.request, ConditionalRequest)
        write = self.request.decide(answer.reads)
        looked_later = any(cell.version >= answer.version for cell in row.cells)
        if looked_later or not isinstance(write, WriteRequest):  # it was done before, under an operation id
            return Done(tag, None if document is None else document.text)
        if write.operation == DELETE:
            return Done(None)
        cells = cells_of(self.collection, _merged(row, write, answer.version))
        text = text_of(cells, now_us)
        if row is EMPTY_ROW and not self._replaces(write):
            return Done(None, text)  # tombstones may be there, and are part of the tag
        return Done(tag_of(cells, max(cell.version for cell in cells), now_us), text)

    def _replaces(self, write: WriteRequest) -> bool:
        column = self.collection.document_column
        return any(w.column == column and not w.path and w.kind == VALUE for w in write.rows[0].writes)


def check_id(document_id: str) -> Invalid | None:
    """Why this is no id, or None: 1 to `limits.KEY_BYTES_MAX` bytes of UTF-8."""
    if not document_id:
        return Invalid("bad_id", "an id has at least one character")
    try:
        size = len(document_id.encode())
    except UnicodeEncodeError:
        return Invalid("bad_id", "an id is UTF-8 text; this one holds half of a surrogate pair")
    if size > limits.KEY_BYTES_MAX:
        return Invalid(
            "bad_id", f"an id has at most {limits.KEY_BYTES_MAX} bytes of UTF-8; this one has {size}"
        )
    return None


# --- planning


def put(
    collection: Collection, document_id: str, text: bytes, wanted: Wanted = WANTED
) -> Operation | Invalid:
    """Have the document be this text."""
    problem = check_id(document_id) or _check_ttl(wanted)
    if problem is not None:
        return problem
    try:
        value = checked(text, collection.settings.max_document_bytes)
    except JsonError as error:
        return _invalid("bad_document" if error.code == "malformed" else error.code, str(error))
    problem = _check_schema(collection, value)
    if problem is not None:
        return problem
    cells = (_INSERTED, Write(collection.document_column, (), VALUE, text))
    write = _write(collection, document_id, cells, wanted, INSERT)
    if wanted.condition is None and not wanted.existing:
        return Operation(collection, write, None, is_put=True)
    return _conditional(collection, write, wanted, _Put(write), len(text))


def edit(
    collection: Collection, document_id: str, change: Edit, wanted: Wanted = WANTED
) -> Operation | Invalid:
    """Have the document be edited."""
    problem = check_id(document_id) or _check_ttl(wanted)
    if problem is not None:
        return problem
    change = change if change.of is None else change.of(document_id)
    renews = collection.renews or bool(collection.default_ttl_s) or wanted.ttl_s is not None
    cells = writes(collection.document_column, change.pieces or ())
    write = _write(collection, document_id, cells, wanted, UPDATE)
    looks = wanted.condition is not None or wanted.returning or wanted.existing
    looks = looks or collection.expires or collection.settings.schema_text is not None
    if change.pieces is None or looks or renews:
        return _conditional(
            collection, write, wanted, _Edit(write, change, renews, wanted.existing), change.bytes
        )
    return Operation(collection, write, None, is_put=False)


def delete(collection: Collection, document_id: str, wanted: Wanted = WANTED) -> Operation | Invalid:
    """Have there be no document (and no row)."""
    problem = check_id(document_id)
    if problem is not None:
        return problem
    rows = (RowWrite(keys.ROW_SUFFIX, (), replace=True),)
    write = WriteRequest(collection.table, document_id.encode(), rows, wanted.level, DELETE)
    if wanted.condition is None and not wanted.existing:
        return Operation(collection, write, None, is_put=False)
    return _conditional(collection, write, wanted, _Put(write), 0)


def get(collection: Collection, document_id: str, level: Level) -> ReadRequest | Invalid:
    """Read a document."""
    problem = check_id(document_id)
    if problem is not None:
        return problem
    return ReadRequest(collection.table, document_id.encode(), keys.ROW_SUFFIX, b"", True, level)


def found(collection: Collection, answer: RowsRead) -> Document | None:
    """The document in the answer to `get`."""
    return document_of(collection, answer.rows[0], answer.now_us) if answer.rows else None


def _check_ttl(wanted: Wanted) -> Invalid | None:
    return None if wanted.ttl_s is None else families.check_ttl(wanted.ttl_s)


def _check_schema(collection: Collection, value: Value) -> Invalid | None:
    schema = collection.settings.schema_text
    problem = None if schema is None else document_problem(schema, value)
    problem = problem_of(collection.combined, value) if problem is None else problem
    return None if problem is None else Invalid("document_invalid", problem)


def _invalid(code: str, text: str) -> Invalid:
    return Invalid("document_too_large" if code == "too_large" else code, text)


SECOND_US: Final = 1_000_000
_INSERTED: Final = Write(ROW_MARKER_COLUMN, (), VALUE, b"")


def _write(
    collection: Collection,
    document_id: str,
    cells: tuple[Write, ...],
    wanted: Wanted,
    what: int,
) -> WriteRequest:
    ttl_s = collection.default_ttl_s if wanted.ttl_s is None else wanted.ttl_s
    rows = (RowWrite(keys.ROW_SUFFIX, cells),)
    return WriteRequest(collection.table, document_id.encode(), rows, wanted.level, what, ttl_s)


# --- deciding


class _Put(msgspec.Struct, frozen=True):
    """Writes the same whatever is there."""

    write: WriteRequest

    def decide(self, collection: Collection, reads: tuple[RowsRead, ...]) -> WriteRequest | Invalid | None:
        del collection, reads
        return self.write


class _Edit(msgspec.Struct, frozen=True):
    """Edits what is there. `renews`: the whole document is written, with its time to live. `quiet`: nothing
    is written where nothing becomes different.
    """

    write: WriteRequest
    change: Edit
    renews: bool
    quiet: bool = False

    def decide(self, collection: Collection, reads: tuple[RowsRead, ...]) -> WriteRequest | Invalid | None:
        document = _document_read(collection, reads)
        try:
            pieces = self._pieces(collection, document)
        except EditError as error:
            return Invalid(error.code, str(error))
        except (JsonError, ArithmeticError) as error:
            return Invalid("patch_conflict", f"what is there cannot be edited: {error}")
        except RecursionError:
            return Invalid("too_deep", f"nested more than {limits.DOCUMENT_DEPTH_MAX} levels deep")
        if isinstance(pieces, Invalid):
            return pieces
        if not pieces:
            return None
        cells = writes(collection.document_column, pieces)
        if self.renews or document is None:
            cells = (Write(ROW_MARKER_COLUMN, (), VALUE, b""), *cells)
        row, now_us = _row_read(reads)
        ttl_s, from_us = (self.write.ttl_s, 0) if self.renews else _left_of(collection, row, now_us)
        write = msgspec.structs.replace(
            self.write,
            rows=(RowWrite(keys.ROW_SUFFIX, cells),),
            operation=UPDATE,
            ttl_s=ttl_s,
            now_us=from_us,
        )
        version = max((cell.version for cell in row.cells), default=(0, 0))
        count = len(cells_of(collection, _merged(row, write, (version[0] + 1, 0))))
        problem = too_many(count)
        return write if problem is None else Invalid("too_many_cells", problem)

    def _pieces(self, collection: Collection, document: Document | None) -> list[Piece] | Invalid:
        edited = self.change.apply(MISSING if document is None else document.value)
        if edited.document is MISSING or not (edited.touched or self.renews):
            return []
        text = render(edited.document)
        if self.quiet and not self.renews and document is not None and text == render(document.value):
            return []
        check_result(edited.document, text, collection.settings.max_document_bytes)
        problem = _check_schema(collection, edited.document)
        if problem is not None:
            return problem
        if self.renews:
            return put_pieces(text)
        if self.change.pieces is not None:
            return list(self.change.pieces)
        return written_after(edited.document, edited.touched)


def _conditional(
    collection: Collection, write: WriteRequest, wanted: Wanted, what: _Put | _Edit, size: int
) -> Operation:
    """The operation as read, judge and write in one.

    A serial level decides it, and it is then waited for at a quorum.
    """
    condition, existing = wanted.condition, wanted.existing

    def decide(reads: tuple[RowsRead, ...]) -> WriteRequest | Invalid | None:
        document = _document_read(collection, reads)
        if condition is not None and not condition.holds(None if document is None else document.tag):
            return None
        if existing and document is None:
            return Invalid("no_such_document", "there is no document of this id")
        return what.decide(collection, reads)

    serial_level, level = Level.SERIAL, wanted.level
    if level is Level.SERIAL:
        level = Level.QUORUM
    elif level is Level.LOCAL_SERIAL:
        serial_level, level = level, Level.LOCAL_QUORUM
    request = ConditionalRequest(
        table=write.table,
        partition=write.partition,
        reads=(PartRead(keys.ROW_SUFFIX),),
        decide=decide,
        level=level,
        serial_level=serial_level,
        bytes_held=size,
    )
    return Operation(collection, request, condition, is_put=isinstance(what, _Put))


def _row_read(reads: tuple[RowsRead, ...]) -> tuple[Row, int]:
    rows = reads[0]
    return rows.rows[0].row if rows.rows else EMPTY_ROW, rows.now_us


def _left_of(collection: Collection, row: Row, now_us: int) -> tuple[int, int]:
    """How long a document still lives, as a time to live and what it runs from, to the microsecond; (0, 0) of
    one that lives for ever, or of which a part does.
    """
    ends = [cell.dead_from_us for cell in cells_of(collection, row) if cell.value is not None]
    living = [end for end in ends if not end or end > now_us]
    if not living or not all(living):
        return 0, 0
    ttl_s = -((now_us - max(living)) // SECOND_US)
    return ttl_s, max(living) - ttl_s * SECOND_US


def _document_read(collection: Collection, reads: tuple[RowsRead, ...]) -> Document | None:
    return found(collection, reads[0])


def _merged(row: Row, write: WriteRequest, version: Version) -> Row:
    """The row with what is written, as far as tags and counts look at it."""
    dies_us = 2**62 if write.ttl_s else 0
    cells = [
        Cell(w.column, w.path, w.kind, *version, 1 if w.value is None else dies_us, w.value)
        for w in write.rows[0].writes
    ]
    cells.sort(key=lambda cell: cell.address)
    return merge_rows(row, Row(None, tuple(cells)))


# --- listing


def listing(collection: Collection, after: str, rows_max: int, level: Level) -> ScanRequest | Invalid:
    """Read documents in the order of their tokens; `after` is a cursor, or "" to begin."""
    start = b""
    if after:
        last = _cursor_id(collection, after)
        if isinstance(last, Invalid):
            return last
        partition = last.encode()
        start = keys.row_key(collection.table, token_of(partition), partition)
    return ScanRequest(collection.table, start, rows_max, level)


def listed(collection: Collection, answer: RowsRead) -> list[Document]:
    """The documents of an answer to `listing`; rows without one are left out."""
    each = (document_of(collection, item, answer.now_us) for item in answer.rows)
    return [document for document in each if document is not None]


def last_id(answer: RowsRead) -> str | None:
    """The id of the last row, whether it holds a document or not."""
    return id_of(answer.rows[-1].key) if answer.rows else None


def cursor(collection: Collection, document_id: str) -> str:
    """Where a listing goes on after this id: opaque, and of this collection only."""
    return families.cursor(collection.table, document_id)


def _cursor_id(collection: Collection, text: str) -> str | Invalid:
    document_id = families.key_of_cursor(collection.table, text)
    if document_id is not None and check_id(document_id) is None:
        return document_id
    detail = f"this is no cursor of a listing of {collection.name}; begin again without `after`"
    return Invalid("bad_cursor", detail)
