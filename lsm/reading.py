"""Slices: rows as they are for a reader, in normal form under their partition's tombstones.

A row that no stored header covers is returned in the bytes in which it is stored, without decoding; one that
is covered is decoded, put in normal form under the header, and left out if nothing remains. So replicas
answer a slice alike whether or not they have swept, and digests agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import mmh3
import msgspec

from core.cell import NO_VERSION
from core.commands import Rows, Slice
from core.errors import CorruptionError
from core.ports import Engine
from core.row import Header, Row, covered, decode_header, decode_row, encode_row, is_empty, normal
from lsm.keys import HEADER_SUFFIX, partition_begun, prefix_end

Record = tuple[bytes, bytes]
Scan = Callable[[bytes, bytes, bool], Iterator[Record]]
"""Records of [first, end) in key order, or in reverse."""


def stored_row(key: bytes, data: bytes) -> Row:
    """A row as stored; raises CorruptionError naming the key for bytes that are not one."""
    try:
        return decode_row(data)
    except msgspec.DecodeError as error:
        raise CorruptionError(f"row {key.hex()} does not decode: {error}") from error


def stored_header(key: bytes, data: bytes) -> Header:
    """A header as stored; raises CorruptionError naming the key for bytes that are not one."""
    try:
        return decode_header(data)
    except msgspec.DecodeError as error:
        raise CorruptionError(f"partition header {key.hex()} does not decode: {error}") from error


def masked(key: bytes, suffix: bytes, data: bytes, header: Header) -> bytes | None:
    """The row's bytes in normal form under the header; None if nothing is left of it."""
    version = covered(header, suffix)
    if version == NO_VERSION:
        return data
    row = stored_row(key, data)
    row = normal(row.deletion, row.cells, version)
    return None if is_empty(row) else encode_row(row)


def read_slice(engine: Engine, wanted: Slice, has_clustering: bool, scan: Scan | None = None) -> Rows:
    """The rows of a slice; `scan` in place of the engine's own may leave out what can be purged.

    Raises CorruptionError (bytes are damaged) and ValueError (not a slice of row keys).
    """
    if wanted.point:
        return _read_point(engine, wanted, has_clustering)
    header_data = None
    records = (scan or engine.scan)(wanted.first, wanted.end, wanted.reverse)
    if has_clustering and wanted.partition:
        header_data = engine.get(wanted.partition + HEADER_SUFFIX)
        records = _partition_rows(records, wanted, header_data)
    elif has_clustering:
        begun = partition_begun(wanted.first)
        header_data = engine.get(begun + HEADER_SUFFIX) if begun else None
        records = _rows_and_headers(engine, records)
    rows: list[Record] = []
    size = 0
    for record in records:
        size += len(record[0]) + len(record[1])
        if rows and (len(rows) >= wanted.rows_max or size > wanted.bytes_max):
            return Rows(tuple(rows), header_data, True)
        rows.append(record)
    return Rows(tuple(rows), header_data, False)


def _read_point(engine: Engine, wanted: Slice, has_clustering: bool) -> Rows:
    key = wanted.first
    data = engine.get(key)
    if not has_clustering:
        return Rows(() if data is None else ((key, data),), None, False)
    end = prefix_end(key)
    header_key = key[:end] + HEADER_SUFFIX
    header_data = engine.get(header_key)
    if data is not None and header_data is not None and key != header_key:
        data = masked(key, key[end:], data, stored_header(header_key, header_data))
    rows = () if data is None else ((key, data),)
    return Rows(rows, header_data if wanted.partition else None, False)


def _partition_rows(records: Iterator[Record], wanted: Slice, header_data: bytes | None) -> Iterator[Record]:
    end = len(wanted.partition)
    header_key = wanted.partition + HEADER_SUFFIX
    header = None if header_data is None else stored_header(header_key, header_data)
    for key, data in records:
        if header is None:
            yield key, data
        elif key != header_key:
            left = masked(key, key[end:], data, header)
            if left is not None:
                yield key, left


def _rows_and_headers(engine: Engine, records: Iterator[Record]) -> Iterator[Record]:
    prefix, header = b"", None
    for key, data in records:
        end = prefix_end(key)
        if key[:end] != prefix:
            prefix = key[:end]
            header_key = prefix + HEADER_SUFFIX
            header_data = data if key == header_key else engine.get(header_key)
            header = None if header_data is None else stored_header(header_key, header_data)
        if header is None or key[end:] == HEADER_SUFFIX:
            yield key, data
        else:
            left = masked(key, key[end:], data, header)
            if left is not None:
                yield key, left


def digest_of(rows: Rows) -> bytes:
    """16 bytes (MurmurHash3 x64 128) over keys and values, each after its length, and all else there is."""
    parts: list[bytes] = []
    for key, data in rows.rows:
        parts += (len(key).to_bytes(4, "big"), key, len(data).to_bytes(4, "big"), data)
    header = rows.header
    parts.append(b"-" if header is None else b"h" + header)
    parts.append(b"+" if rows.more else b".")
    for key, total, count in rows.passed:
        parts += (len(key).to_bytes(4, "big"), key, total.to_bytes(8, "big"), count.to_bytes(4, "big"))
    return mmh3.mmh3_x64_128_digest(b"".join(parts))
