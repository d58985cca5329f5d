"""Events: what a subscriber sees of a log entry.

One mutation may touch several rows, and delete a partition or ranges of it; each of these is an event of its
own. An event's id is the mutation's (start number and sequence, never used again) and its place within it, so
it is the same on every replica and at every repetition. Attempts of one mutation (a write that was stamped
again) share it.

Whether a row was there before and is there after is what the write noted (lsm/writing.py `_flags`), as of its
admission; where nobody noted it, because the table did not ask for changes then, the mutation's own word
stands for it.

Records of operation ids are rows of no one's and no events.
"""

from __future__ import annotations

import msgspec

from core.cell import ROW_MARKER_COLUMN, VALUE, Path, Version
from core.commands import LoggedChange
from core.mutation import DELETE, INSERT, Mutation, decode_mutation
from core.row import EMPTY_ROW, OPERATION_SUFFIX, Row, decode_row, newest_version
from lsm.expiring import decode_ended, ended_id
from lsm.hash_tree import record_hash
from lsm.keys import HEADER_SUFFIX, STATIC_SUFFIX, split_row_key
from lsm.log import BROKEN, EXISTED, EXISTS, EXPIRED, LATE, REPAIRED, SAME, SUPERSEDED, Image, decode_images

INSERTED, UPDATED, DELETED, TRUNCATED = "insert", "update", "delete", "truncate"
ENDED = "expire"
READ = "read"
"""What happened; ENDED: all or something of a row ran out by its time to live; READ: nothing, it is a row of
a snapshot.
"""

ROW, STATIC, RANGE, PARTITION = "row", "static", "range", "partition"
"""What an event is about: one row; what all rows of a partition share; some or all rows of a partition."""

Address = tuple[int, Path]
"""Column id and path."""


class Event(msgspec.Struct, frozen=True):
    """What happened to one row, or to a range of a partition's rows (`suffix` and `end` are its bounds).

    `before` and `after` are rows with all versions, as of `admitted_us`; None where nothing was, `imaged`
    says whether the table asked for them (before, after). `changed` are the addresses that were written.
    `late`: the row held something newer already. `superseded`: it changed nothing. `last` ends its mutation.
    """

    id: str
    offset: int
    token: int
    scope: str
    operation: str
    partition: bytes
    suffix: bytes
    end: bytes
    changed: tuple[Address, ...]
    before: Row | None
    after: Row | None
    imaged: tuple[bool, bool]
    version: Version
    admitted_us: int
    late: bool
    superseded: bool
    last: bool = False
    remains: bool = False
    """Of an expiry: whether something of the row is left."""


def event_id(start: int, sequence: int, part: int) -> str:
    """The id of the part of a mutation with this number."""
    return f"{start:x}-{sequence:x}-{part}"


def events_of(entry: LoggedChange, changes: str) -> list[Event]:
    """The events of a log entry, in order; none for one that is no mutation.

    `changes` is the table's option, which says what images mean. Raises msgspec.DecodeError for
    damaged bytes.
    """
    if entry.kind in (REPAIRED, BROKEN):
        return []
    if entry.kind == EXPIRED:
        return [_ended(entry, changes)]
    mutation = decode_mutation(entry.data)
    images = {image.suffix: image for image in decode_images(entry.images)}
    found = _deletions(entry, mutation)
    for number, (suffix, row) in enumerate(mutation.rows):
        if suffix[:1] != OPERATION_SUFFIX:
            found.append(_row_event(entry, mutation, (number, suffix, row), images.get(suffix), changes))
    if found:
        found[-1] = msgspec.structs.replace(found[-1], last=True)
    return found


def event_of_row(key: bytes, row: Row, now_us: int) -> Event:
    """A row as a snapshot has it at `now_us`; its id is that of this state of the row."""
    _, token, partition, suffix = split_row_key(key)
    version = newest_version(row)
    return Event(
        id=f"r{record_hash(key, b''):x}-{version[0]:x}-{version[1]:x}",
        offset=0,
        token=token,
        scope=STATIC if suffix == STATIC_SUFFIX else ROW,
        operation=READ,
        partition=partition,
        suffix=suffix,
        end=b"",
        changed=(),
        before=None,
        after=row,
        imaged=(False, True),
        version=version,
        admitted_us=now_us,
        late=False,
        superseded=False,
    )


def restarted(entry: LoggedChange) -> tuple[int, int] | None:
    """The first and the last token of rows that changed without a mutation, or were lost, so that their
    images do not chain; None for other entries.
    """
    if entry.kind == BROKEN:
        return _decode_tokens(entry.data)
    if entry.kind != REPAIRED:
        return None
    suffix = split_row_key(entry.data)[3]
    return None if suffix[:1] in (OPERATION_SUFFIX, HEADER_SUFFIX) else (entry.token, entry.token)


def _row_event(
    entry: LoggedChange, mutation: Mutation, part: tuple[int, bytes, Row], image: Image | None, changes: str
) -> Event:
    number, suffix, row = part
    noted = image is not None and image.flags >= 0
    flags = image.flags if image is not None and noted else 0
    superseded = bool(flags & SAME) if noted else entry.kind == SUPERSEDED
    return Event(
        id=event_id(mutation.start, mutation.sequence, number),
        offset=entry.offset,
        token=entry.token,
        scope=STATIC if suffix == STATIC_SUFFIX else ROW,
        operation=_operation(mutation, row, flags, noted),
        partition=mutation.partition,
        suffix=suffix,
        end=b"",
        changed=_changed(row),
        before=_image_row(image.before if image else None, bool(flags & EXISTED) or not noted),
        after=_image_row(image.after if image else None, bool(flags & EXISTS) or not noted),
        imaged=_imaged(image, changes),
        version=newest_version(row),
        admitted_us=mutation.admitted_us,
        late=bool(flags & LATE),
        superseded=superseded,
    )


def _ended(entry: LoggedChange, changes: str) -> Event:
    """What ran out of a row; its `admitted_us` is when, and its image before is of the moment before that."""
    key, data = _decode_row(entry.data)
    said = decode_ended(data)
    gone = decode_row(said.cells)
    image = decode_images(entry.images)[0]
    _, token, partition, suffix = split_row_key(key)
    version = newest_version(gone)
    return Event(
        id=ended_id(key, said.at_us, version),
        offset=entry.offset,
        token=token,
        scope=STATIC if suffix == STATIC_SUFFIX else ROW,
        operation=ENDED,
        partition=partition,
        suffix=suffix,
        end=b"",
        changed=_changed(gone),
        before=_image_row(image.before, bool(image.flags & EXISTED)),
        after=_image_row(image.after, bool(image.flags & EXISTS)),
        imaged=_imaged(image, changes),
        version=version,
        admitted_us=said.at_us,
        late=False,
        superseded=False,
        last=True,
        remains=bool(image.flags & EXISTS),
    )


_decode_tokens = msgspec.msgpack.Decoder(tuple[int, int]).decode
_decode_row = msgspec.msgpack.Decoder(tuple[bytes, bytes]).decode


def _imaged(image: Image | None, changes: str) -> tuple[bool, bool]:
    """Which images there are: the table's option may have been another one when the entry was logged."""
    if image is None:
        return (False, False)
    flags = max(image.flags, 0)
    before = "old" in changes and (image.before is not None or not flags & EXISTED)
    after = "new" in changes and (image.after is not None or not flags & EXISTS)
    return (before, after)


def _changed(row: Row) -> tuple[Address, ...]:
    """What was written; an object marker says so only where nothing else does."""
    values = [cell for cell in row.cells if cell.kind == VALUE and cell.column != ROW_MARKER_COLUMN]
    markers = [cell for cell in row.cells if cell.column != ROW_MARKER_COLUMN]
    return tuple(dict.fromkeys((cell.column, cell.path) for cell in values or markers))


def _operation(mutation: Mutation, row: Row, flags: int, noted: bool) -> str:
    if noted:
        if flags & EXISTS:
            return UPDATED if flags & EXISTED else INSERTED
        if flags & EXISTED or mutation.operation == DELETE:
            return DELETED
    if mutation.operation == DELETE or not any(cell.value is not None for cell in row.cells):
        is_delete = mutation.operation == DELETE or row.deletion is not None
        return DELETED if is_delete else UPDATED
    return INSERTED if mutation.operation == INSERT and not noted else UPDATED


def _image_row(data: bytes | None, there: bool) -> Row | None:
    """A row that was there for a reader; what is left of one that was not is nobody's business."""
    if data is None or not there:
        return None
    row = decode_row(data)
    return None if row == EMPTY_ROW else row


def _deletions(entry: LoggedChange, mutation: Mutation) -> list[Event]:
    """Events of a partition's tombstones; numbered after the rows, which is how they are written."""
    header, found = mutation.header, []
    if header is None:
        return []
    whole = [] if header.deletion is None else [(PARTITION, b"", b"", header.deletion.version)]
    ranges = [(RANGE, item.first, item.end, item.version) for item in header.ranges]
    for number, (scope, first, end, version) in enumerate([*whole, *ranges], len(mutation.rows)):
        event = Event(
            id=event_id(mutation.start, mutation.sequence, number),
            offset=entry.offset,
            token=entry.token,
            scope=scope,
            operation=DELETED,
            partition=mutation.partition,
            suffix=first,
            end=end,
            changed=(),
            before=None,
            after=None,
            imaged=(False, False),
            version=version,
            admitted_us=mutation.admitted_us,
            late=False,
            superseded=entry.kind == SUPERSEDED,
        )
        found.append(event)
    return found
