"""Events as JSON: keys and rows as each kind of table has them.

    a collection        key: the id; images: the document
    a bucket            key: the key; images: {"value" or "json" or "base64", "content_type"}; `json` where
                        the type is application/json and a document could be so (depth, digits)
    any other table     key: {column: value}; images: {column: value}, as SELECT JSON has them

`changed` are JSON pointers (RFC 6901) into a document, column names elsewhere.
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from core import limits
from core.json_values import JsonError, depth_of, parse
from core.requests import ReadRow, RowsRead
from core.row import Row
from core.schema import PARTITION as PARTITION_KEY, STATIC as STATIC_COLUMN, Keyspace, Table
from cql_lite.planner import Catalog
from cql_lite.planner_rows import Layout
from cql_lite.planner_tables import ColumnView, TableView
from documents.collections import Collection, collection_of
from documents.values import cells_of, text_of
from kv import operations as kv
from kv.buckets import Bucket, bucket_of
from lsm.keys import row_key
from streams.events import PARTITION, RANGE, STATIC, Address, Event

NULL = msgspec.Raw(b"null")


def time_text(at_us: int) -> str:
    """Microseconds since 1970 as RFC 3339."""
    try:
        found = datetime.fromtimestamp(at_us // 1_000_000, UTC).replace(microsecond=at_us % 1_000_000)
    except (ValueError, OverflowError, OSError):
        return "0001-01-01T00:00:00Z"
    return found.isoformat().replace("+00:00", "Z")


def pointer(path: Sequence[bytes]) -> str:
    """The JSON pointer of a path of keys."""
    return "".join("/" + step.decode().replace("~", "~0").replace("/", "~1") for step in path)


def one_line(text: bytes) -> msgspec.Raw:
    """JSON without line breaks, for forms that put one value on a line."""
    return msgspec.Raw(msgspec.json.format(text, indent=-1) if b"\n" in text or b"\r" in text else text)


def _is_plain(value: bytes) -> bool:
    """Whether a value, which may be any bytes, is JSON that a document could be, as any reader takes it."""
    try:
        return depth_of(parse(value)) <= limits.DOCUMENT_DEPTH_MAX
    except JsonError:
        return False


class Shape(ABC):
    """How one table's events are shown."""

    key_name = ""
    """As what the key is part of a row where images do not have it."""

    @abstractmethod
    def key(self, event: Event) -> Any:
        """The row's key, or that of the partition."""

    @abstractmethod
    def row(self, event: Event, row: Row) -> Any:
        """An image."""

    @abstractmethod
    def changed(self, addresses: Sequence[Address]) -> list[str]:
        """What was written."""

    def extent(self, event: Event) -> Any:
        """The bounds of a deletion of a range."""
        return None if event.scope != RANGE else {"from": event.suffix.hex(), "until": event.end.hex()}


class DocumentShape(Shape):
    """A collection's."""

    key_name = "_id"

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    def key(self, event: Event) -> Any:
        """The id."""
        return event.partition.decode()

    def row(self, event: Event, row: Row) -> Any:
        """The document."""
        text = text_of(cells_of(self._collection, row), event.admitted_us)
        return None if text is None else one_line(text)

    def changed(self, addresses: Sequence[Address]) -> list[str]:
        """Pointers into the document."""
        column = self._collection.document_column
        return list(dict.fromkeys(pointer(path) for number, path in addresses if number == column))


class BucketShape(Shape):
    """A bucket's."""

    key_name = "key"

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self.ordered = bucket.ordered

    def key(self, event: Event) -> Any:
        """The key; of a deletion of many in an ordered bucket the bucket's name."""
        if event.scope in (RANGE, PARTITION):
            return event.partition.decode()
        place = event.token, event.partition, event.suffix
        return kv.key_of(self._bucket, row_key(self._bucket.table, *place))

    def row(self, event: Event, row: Row) -> Any:
        """The value with its content type."""
        key = row_key(self._bucket.table, event.token, event.partition, event.suffix)
        found = kv.value_of(self._bucket, RowsRead((ReadRow(key, row),), event.admitted_us, False))
        if found is None:
            return None
        shown: dict[str, Any] = {"content_type": found.content_type}
        if found.content_type.partition(";")[0].strip() == "application/json" and _is_plain(found.value):
            return {"json": one_line(found.value), **shown}
        try:
            return {"value": found.value.decode(), **shown}
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(found.value).decode(), **shown}

    def changed(self, addresses: Sequence[Address]) -> list[str]:
        """Which of the two columns."""
        names = {self._bucket.value_column: "value", self._bucket.content_type_column: "content_type"}
        return [names[number] for number, _ in addresses if number in names]


class TableShape(Shape):
    """Any table's."""

    def __init__(self, view: TableView) -> None:
        self._view = view
        shared = [c for c in view.columns if c.kind in (PARTITION_KEY, STATIC_COLUMN)]
        own = [c for c in view.columns if c.kind != STATIC_COLUMN]
        self._layouts = [(layout := Layout(view), own, [layout.slot(column) for column in own])]
        self._layouts.append((layout := Layout(view), shared, [layout.slot(column) for column in shared]))

    def _json(self, columns: Sequence[ColumnView], values: Sequence[bytes | None]) -> dict[str, Any]:
        return {
            column.name: NULL if value is None else msgspec.Raw(column.type.to_json(value).encode())
            for column, value in zip(columns, values, strict=True)
        }

    def key(self, event: Event) -> Any:
        """The columns of the key."""
        view = self._view
        found = self._json(view.partition, view.partition_values(event.partition))
        if event.scope == "row" and view.clustering:
            found |= self._json(view.clustering, view.clustering_values(event.suffix))
        return found

    def row(self, event: Event, row: Row) -> Any:
        """All columns of the row; of a static row those that the partition shares."""
        is_static = event.scope == STATIC
        layout, columns, slots = self._layouts[is_static]
        record = layout.template(event.partition, row if is_static else None, event.admitted_us)
        if not is_static:
            record = layout.record(record, event.suffix, row, event.admitted_us)
        return self._json(columns, [record[slot] for slot in slots])

    def changed(self, addresses: Sequence[Address]) -> list[str]:
        """Columns, and paths within those that hold JSON."""
        found: dict[str, None] = {}
        for number, path in addresses:
            column = self._view.by_id.get(number)
            if column is not None:
                is_json = column.type.cql == "json"
                found[column.name + (pointer(path) if is_json else "")] = None
        return list(found)


def shape_of(table: Table, keyspaces: Mapping[str, Keyspace], catalog: Catalog) -> Shape:
    """The shape of a table as it is now."""
    keyspace = keyspaces.get(table.keyspace)
    collection = collection_of(table, keyspace)
    if collection is not None:
        return DocumentShape(collection)
    bucket = None if keyspace is None else bucket_of(table, keyspace)
    if bucket is not None:
        return BucketShape(bucket)
    return TableShape(catalog.view(table.keyspace, table.name))
