"""A table as statements need it: columns with their types, and how values become keys and cells and back.

    partition key    one component: its wire bytes; several: u16 length, bytes, 0x00 for each (as Cassandra
                     does, so tokens agree)
    clustering key   suffix 02 and the key form of each component (cql_lite/types_base.py)
    static columns   the row with suffix 01
    scalar, frozen   one cell at the empty path, whose value is the wire bytes: a read copies them
    list             a cell per element at (id,), ids in the order of the list; the value is the element
    set              a cell per element at (key form of the element,), without a value
    map              a cell per entry at (key form of the key,); the value is the entry's
    user type        a cell per field at (its number,)
    json             cells by path (core/json_cells.py)

A view is made once per version of a table and shared by all statements over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

import msgspec

from core.limits import KEY_BYTES_MAX
from core.schema import CLUSTERING, PARTITION, STATIC, Index, Table
from cql_lite.errors import InvalidRequestError
from cql_lite.types_base import Type
from lsm.keys import ROW_SUFFIX, STATIC_SUFFIX

u16: Final = Struct(">H")
i32: Final = Struct(">i")


class ColumnView(msgspec.Struct, frozen=True, gc=False):
    """A column with its type. `position` counts components of the partition or of the clustering key."""

    id: int
    name: str
    type: Type
    kind: str
    position: int = 0
    descending: bool = False

    @property
    def is_key(self) -> bool:
        """Whether it is part of the primary key."""
        return self.kind in (PARTITION, CLUSTERING)


def composite(values: Sequence[bytes]) -> bytes:
    """A partition key of several components; raises InvalidRequestError for one that no key can hold."""
    longest = max(map(len, values), default=0)
    if longest > KEY_BYTES_MAX:
        raise InvalidRequestError(f"a partition key has 1 to {KEY_BYTES_MAX} bytes, and a part has {longest}")
    return b"".join(u16.pack(len(value)) + value + b"\x00" for value in values)


class TableView(msgspec.Struct, frozen=True):
    """A table with its columns in the order in which drivers and `SELECT *` see them."""

    keyspace: str
    name: str
    id: int
    epoch: int
    default_ttl_s: int
    columns: tuple[ColumnView, ...]
    partition: tuple[ColumnView, ...]
    clustering: tuple[ColumnView, ...]
    by_name: dict[str, ColumnView]
    by_id: dict[int, ColumnView]
    has_static: bool
    is_counter: bool
    has_dropped: bool = False
    indexes: tuple[Index, ...] = ()

    # --- keys

    def partition_key(self, values: Sequence[bytes]) -> bytes:
        """The partition key of these component values."""
        return values[0] if len(values) == 1 else composite(values)

    def partition_values(self, key: bytes) -> list[bytes]:
        """The component values of a partition key."""
        if len(self.partition) == 1:
            return [key]
        values, at = [], 0
        for _ in self.partition:
            (size,) = u16.unpack_from(key, at)
            values.append(key[at + 2 : at + 2 + size])
            at += 3 + size
        return values

    def prefix(self, values: Sequence[bytes]) -> bytes:
        """The suffix of row keys that begin with these clustering values; of one row if all are given."""
        parts = [ROW_SUFFIX]
        for column, value in zip(self.clustering, values, strict=False):
            parts.append(column.type.to_key(value, column.descending))
        return b"".join(parts)

    def clustering_values(self, suffix: bytes) -> list[bytes]:
        """The clustering values in a row's suffix; none for the static row."""
        if suffix == STATIC_SUFFIX:
            return []
        values, at = [], len(ROW_SUFFIX)
        for column in self.clustering:
            value, at = column.type.from_key(suffix, at, column.descending)
            values.append(value)
        return values


def view_of(table: Table, types: dict[str, Type]) -> TableView:
    """The view of a table; `types` gives the type of each of its columns by name."""
    counts = {PARTITION: 0, CLUSTERING: 0}
    columns: list[ColumnView] = []
    for column in table.columns:
        position = counts.get(column.kind, 0)
        if column.kind in counts:
            counts[column.kind] += 1
        columns.append(
            ColumnView(column.id, column.name, types[column.name], column.kind, position, column.descending)
        )
    partition = tuple(column for column in columns if column.kind == PARTITION)
    clustering = tuple(column for column in columns if column.kind == CLUSTERING)
    others = sorted((column for column in columns if not column.is_key), key=_static_first)
    ordered = (*partition, *clustering, *others)
    return TableView(
        keyspace=table.keyspace,
        name=table.name,
        id=table.id,
        epoch=table.changed_epoch,
        default_ttl_s=table.options.default_ttl_s,
        columns=ordered,
        partition=partition,
        clustering=clustering,
        by_name={column.name: column for column in ordered},
        by_id={column.id: column for column in others},
        has_static=any(column.kind == STATIC for column in others),
        is_counter=any(column.type.cql == "counter" for column in others),
        has_dropped=bool(table.dropped),
        indexes=table.indexes,
    )


def _static_first(column: ColumnView) -> tuple[bool, str]:
    return column.kind != STATIC, column.name
