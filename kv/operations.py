"""Key-value operations as requests to a node, and its answers as values.

A value is one row with three cells of one version: the row marker, `value` and `content_type`. A PUT writes
all three, so the row holds exactly this value whatever was there; only where a table has more columns (added
by CQL) it deletes the older row as well. A row that CQL inserted without a value reads as an empty one: it is
listed, so it is there.

Cursors say after which key a listing goes on, and in which table: one of another bucket, or of one that was
dropped and made again, is refused. They are opaque to clients and believed only as far as they are checked
here.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from core import families, limits
from core.cell import ROW_MARKER_COLUMN, VALUE, Version
from core.consistency import Level
from core.mutation import DELETE, INSERT
from core.requests import (
    ConditionalRequest,
    Invalid,
    PartRead,
    ReadRequest,
    RowsRead,
    RowWrite,
    ScanRequest,
    Write,
    WriteRequest,
)
from core.row import live_cells
from kv.buckets import Bucket
from lsm import keys
from ring.tokens import token_of

OCTETS = "application/octet-stream"


class Value(msgspec.Struct, frozen=True):
    """What a key holds."""

    value: bytes
    content_type: str
    version: Version

    @property
    def etag(self) -> str:
        """A strong entity tag (RFC 9110): no two values of a key share a version."""
        return etag(self.version)


class Listed(msgspec.Struct, frozen=True):
    """One key of a listing."""

    key: str
    bytes: int
    content_type: str
    version: Version


def etag(version: Version) -> str:
    """The entity tag of a version, in the quotes that belong to it."""
    return f'"{version[0]:x}-{version[1]:x}"'


def check_key(key: str) -> Invalid | None:
    """Why `key` is no key, or None: 1 to `limits.KEY_BYTES_MAX` bytes of UTF-8."""
    if not key:
        return Invalid("bad_key", "a key has at least one character")
    try:
        size = len(key) if key.isascii() else len(key.encode())
    except UnicodeEncodeError:
        return Invalid("bad_key", "a key is UTF-8 text; this one holds half of a surrogate pair")
    if size > limits.KEY_BYTES_MAX:
        return Invalid(
            "bad_key", f"a key has at most {limits.KEY_BYTES_MAX} bytes of UTF-8; this one has {size}"
        )
    return None


def check_content_type(content_type: str) -> Invalid | None:
    """Why `content_type` cannot be kept, or None."""
    if not content_type.isascii() or not content_type.isprintable():
        return Invalid("bad_content_type", "a content type is printable ASCII")
    if len(content_type) > limits.CONTENT_TYPE_BYTES_MAX:
        limit = limits.CONTENT_TYPE_BYTES_MAX
        return Invalid(
            "bad_content_type", f"a content type has at most {limit} bytes; this one has {len(content_type)}"
        )
    return None


def put(
    bucket: Bucket,
    key: str,
    value: bytes,
    content_type: str,
    level: Level,
    *,
    ttl_s: int | None = None,
    timestamp_us: int = 0,
) -> WriteRequest | Invalid:
    """Have `key` hold exactly this. `ttl_s` None means the bucket's default, 0 for ever."""
    problem = check_key(key) or check_content_type(content_type)
    if problem is None and ttl_s is not None:
        problem = families.check_ttl(ttl_s)
    if problem is not None:
        return problem
    if len(value) > limits.VALUE_BYTES_MAX:
        return Invalid(
            "too_large", f"a value has at most {limits.VALUE_BYTES_MAX} bytes; this one has {len(value)}"
        )
    partition, suffix = _place(bucket, key)
    writes = (
        Write(ROW_MARKER_COLUMN, (), VALUE, b""),
        Write(bucket.value_column, (), VALUE, value),
        Write(bucket.content_type_column, (), VALUE, content_type.encode()),
    )
    ttl = bucket.options.default_ttl_s if ttl_s is None else ttl_s
    rows = (RowWrite(suffix, writes, not bucket.exact),)
    return WriteRequest(bucket.table, partition, rows, level, INSERT, ttl, timestamp_us)


def delete(bucket: Bucket, key: str, level: Level, *, timestamp_us: int = 0) -> WriteRequest | Invalid:
    """Have `key` hold nothing."""
    problem = check_key(key)
    if problem is not None:
        return problem
    partition, suffix = _place(bucket, key)
    rows = (RowWrite(suffix, (), replace=True),)
    return WriteRequest(bucket.table, partition, rows, level, DELETE, 0, timestamp_us)


class Condition(msgspec.Struct, frozen=True):
    """On what a key must hold: entity tags of which one must match, or none may; ("*",) stands for any value.

    RFC 9110: If-Match compares strongly, so a weak tag matches nothing; If-None-Match does not.
    """

    match: tuple[str, ...] | None = None
    none_match: tuple[str, ...] | None = None

    def holds(self, value: Value | None) -> bool:
        """Whether it holds of what the key holds."""
        tag = None if value is None else value.etag
        return self.matches(tag) and not self.is_there(tag)

    def matches(self, tag: str | None) -> bool:
        """Whether one of the tags that must match does, or none must."""
        return self.match is None or _among(tag, self.match)

    def is_there(self, tag: str | None) -> bool:
        """Whether one of the tags that may not match does."""
        return self.none_match is not None and _among(tag, _strong(self.none_match))


def _among(tag: str | None, tags: tuple[str, ...]) -> bool:
    return tag is not None and (tags == ("*",) or tag in tags)


def _strong(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(tag.removeprefix("W/") for tag in tags)


def conditional(
    bucket: Bucket,
    write: WriteRequest,
    condition: Callable[[Value | None], bool],
    level: Level = Level.QUORUM,
    serial_level: Level = Level.SERIAL,
) -> ConditionalRequest:
    """Make a `put` or `delete` (without a timestamp) if what the key holds meets a condition.

    Decided at `serial_level`, waited for at `level`.
    """
    suffix = write.rows[0].suffix

    def decide(reads: tuple[RowsRead, ...]) -> WriteRequest | None:
        return write if condition(value_of(bucket, reads[0])) else None

    return ConditionalRequest(
        table=write.table,
        partition=write.partition,
        reads=(PartRead(suffix),),
        decide=decide,
        level=level,
        serial_level=serial_level,
        bytes_held=sum(len(cell.value or b"") for row in write.rows for cell in row.writes),
    )


def get(bucket: Bucket, key: str, level: Level) -> ReadRequest | Invalid:
    """Read what `key` holds."""
    problem = check_key(key)
    if problem is not None:
        return problem
    partition, suffix = _place(bucket, key)
    return ReadRequest(bucket.table, partition, suffix, b"", True, level)


def value_of(bucket: Bucket, answer: RowsRead) -> Value | None:
    """What the key held, or None if nothing."""
    if not answer.rows:
        return None
    cells = live_cells(answer.rows[0].row, answer.now_us)
    if not cells:
        return None
    value, content_type, version = b"", OCTETS, cells[0].version
    for cell in cells:
        if cell.column == bucket.value_column:
            value = cell.value or b""
        elif cell.column == bucket.content_type_column and cell.value is not None:
            content_type = _told(cell.value)
        version = max(version, cell.version)
    return Value(value, content_type, version)


def _told(content_type: bytes) -> str:
    """A content type as it is told: CQL may have written any text, which need be none."""
    text = content_type.decode()
    return text if check_content_type(text) is None else OCTETS


# --- listing


def listing(
    bucket: Bucket, prefix: str, after: str, rows_max: int, level: Level
) -> ScanRequest | ReadRequest | Invalid:
    """List keys that begin with `prefix`, after the cursor `after` ("" to begin), looking at `rows_max` rows.

    The rows of a bucket in token order do not stand by prefix: use `listed`, which leaves out what does not
    match.
    """
    key: str | None = None
    if after:
        position = _cursor_key(bucket, after)
        if isinstance(position, Invalid):
            return position
        key = position
    if prefix:
        problem = check_key(prefix)
        if problem is not None:
            return Invalid("bad_prefix", problem.detail.replace("key", "prefix", 1))
    if not bucket.ordered:
        partition = (key or "").encode()
        start = keys.row_key(bucket.table, token_of(partition), partition) if key else b""
        return ScanRequest(bucket.table, start, rows_max, level)
    first = keys.ROW_SUFFIX + keys.clustering_text(prefix)[:-2]  # without its end, whatever may follow
    end = keys.successor(first)
    if key is not None:
        first = min(max(first, _suffix(key) + b"\x00"), end)
    return ReadRequest(bucket.table, bucket.name.encode(), first, end, False, level, rows_max)


def listed(bucket: Bucket, answer: RowsRead, prefix: str) -> list[Listed]:
    """The keys of an answer to `listing` that begin with `prefix`."""
    found = []
    for item in answer.rows:
        key = key_of(bucket, item.key)
        if not key.startswith(prefix):
            continue
        cells = live_cells(item.row, answer.now_us)
        if not cells:
            continue
        size, content_type = 0, OCTETS
        for cell in cells:
            if cell.value is None:
                continue
            if cell.column == bucket.value_column:
                size = len(cell.value)
            elif cell.column == bucket.content_type_column:
                content_type = _told(cell.value)
        found.append(Listed(key, size, content_type, max(cell.version for cell in cells)))
    return found


def key_of(bucket: Bucket, row_key: bytes) -> str:
    """The key that this row is."""
    _, _, partition, suffix = keys.split_row_key(row_key)
    if bucket.ordered:
        return keys.decode_clustering_text(suffix, len(keys.ROW_SUFFIX))[0]
    return partition.decode()


def cursor(bucket: Bucket, key: str) -> str:
    """Where a listing goes on after `key`: opaque, and of this bucket only."""
    return families.cursor(bucket.table, key)


def _cursor_key(bucket: Bucket, text: str) -> str | Invalid:
    key = families.key_of_cursor(bucket.table, text)
    is_first = key == "" and bucket.ordered  # which CQL may have written, beside the bucket's name
    if key is not None and (is_first or check_key(key) is None):
        return key
    detail = f"this is no cursor of a listing of {bucket.name}; begin again without `after`"
    return Invalid("bad_cursor", detail)


def _place(bucket: Bucket, key: str) -> tuple[bytes, bytes]:
    """The partition and the key suffix of a checked key."""
    if bucket.ordered:
        return bucket.name.encode(), _suffix(key)
    return key.encode(), keys.ROW_SUFFIX


def _suffix(key: str) -> bytes:
    return keys.ROW_SUFFIX + keys.clustering_text(key)
