"""CQL's SELECT over a table that is a few dictionaries: what a cluster's answers are measured by.

A value is the Python form that a client sees: lists are tuples, sets are ordered tuples, maps are tuples of
pairs ordered by key; null is None, and so is an empty collection. Python's order of these forms is
Cassandra's order of the types that are used: int, bigint, varint, double, decimal, boolean, text, blob,
frozen lists.

A row is there while its INSERT stands or a regular column has a value. A partition without rows, but with
static columns, is one row of nulls to a SELECT that restricts neither clustering nor regular columns.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby
from math import copysign, isnan
from typing import Any, Final

from tests.models.murmur3_reference import token_of

PARTITION, CLUSTERING, STATIC, REGULAR = "partition", "clustering", "static", "regular"
LEAST_TOKEN: Final = -(2**63)
"""The token of no key; as an upper bound it is the end of the ring."""
Value = Any
Record = dict[str, Value]
Key = tuple[Value, ...]


class Float(float):
    """A float in Java's order: -0 is before 0, and NaN equals itself and comes last."""

    def _place(self) -> tuple[bool, float, bool]:
        is_nan = isnan(self)
        return (is_nan, 0.0 if is_nan else float(self), copysign(1, self) > 0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Float) and self._place() == other._place()

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._place())

    def __lt__(self, other: float) -> bool:
        return self._place() < Float(other)._place()

    def __le__(self, other: float) -> bool:
        return self._place() <= Float(other)._place()

    def __gt__(self, other: float) -> bool:
        return self._place() > Float(other)._place()

    def __ge__(self, other: float) -> bool:
        return self._place() >= Float(other)._place()


@dataclass(frozen=True)
class Column:
    """One column; `type` is its CQL text."""

    name: str
    kind: str
    type: str
    descending: bool = False

    @property
    def is_collection(self) -> bool:
        """Whether it is a set, list or map, frozen or not."""
        return "<" in self.type and not self.type.startswith("tuple") and self.type != "frozen<pair>"


@dataclass(frozen=True)
class Relation:
    """A condition of a WHERE. `form` says what is on the left.

    `column`; `tuple` of clustering columns; `token` of the partition key; `entry`: a map's value at `key`.
    """

    columns: tuple[str, ...]
    operator: str
    value: Value
    form: str = "column"
    key: Value = None


@dataclass(frozen=True)
class Query:
    """A SELECT.

    A selector is (function, column): without a function the column itself; ("count", "*") counts rows.
    `order` has one (column, descending) each.
    """

    selectors: tuple[tuple[str, str], ...]
    where: tuple[Relation, ...] = ()
    order: tuple[tuple[str, bool], ...] = ()
    group: tuple[str, ...] = ()
    limit: int | None = None
    per_partition: int | None = None
    distinct: bool = False


@dataclass
class Row:
    """`inserted`: an INSERT wrote it, whatever becomes of its columns."""

    inserted: bool = False
    cells: Record = field(default_factory=dict)

    @property
    def is_there(self) -> bool:
        """Whether a SELECT sees it."""
        return self.inserted or any(value is not None for value in self.cells.values())


@dataclass
class Partition:
    """Rows by their clustering columns."""

    static: Record = field(default_factory=dict)
    rows: dict[Key, Row] = field(default_factory=dict)


class Table:
    """Columns in the order of the primary key, then the others."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self.by_name = {column.name: column for column in columns}
        self.partitions: dict[Key, Partition] = {}
        self._folded: frozenset[str] = frozenset()

    def of_kind(self, *kinds: str) -> list[Column]:
        """The columns of these kinds."""
        return [column for column in self.columns if column.kind in kinds]

    # --- writing

    def write(self, values: Record, *, inserts: bool, expires: bool = False) -> None:
        """INSERT or UPDATE; without clustering columns it is of static columns only.

        `expires`: it has a time to live, and that is over when rows are read.
        """
        keys = [column.name for column in self.of_kind(PARTITION, CLUSTERING)]
        if expires:
            values = {name: value if name in keys else None for name, value in values.items()}
        key = tuple(values[column.name] for column in self.of_kind(PARTITION))
        partition = self.partitions.setdefault(key, Partition())
        names = [column.name for column in self.of_kind(CLUSTERING)]
        for column in self.of_kind(STATIC):
            if column.name in values:
                partition.static[column.name] = _plain(values[column.name])
        cells = {c.name: _plain(values[c.name]) for c in self.of_kind(REGULAR) if c.name in values}
        if all(name in values for name in names) and (cells or inserts):
            row = partition.rows.setdefault(tuple(values[name] for name in names), Row())
            row.inserted = not expires if inserts else row.inserted
            row.cells.update(cells)

    def delete(self, values: Record, holds: Callable[[Record], bool], names: Sequence[str]) -> None:
        """DELETE of these columns, or of whole rows where none are named, of a partition's rows that `holds`.

        Without a clustering column in `values` or columns it is the whole partition.
        """
        key = tuple(values[column.name] for column in self.of_kind(PARTITION))
        partition = self.partitions.get(key, Partition())
        for name in names:
            partition.static.pop(name, None)
        clustering = [column.name for column in self.of_kind(CLUSTERING)]
        for suffix, row in list(partition.rows.items()):
            if not holds(dict(zip(clustering, suffix, strict=True))):
                continue
            for name in names:
                row.cells.pop(name, None)
            if not names:
                del partition.rows[suffix]

    def delete_partition(self, key: Key) -> None:
        """DELETE of a partition."""
        self.partitions.pop(key, None)

    def value(self, values: Record, name: str) -> Value:
        """What a column holds in the row of these keys."""
        key = tuple(values[column.name] for column in self.of_kind(PARTITION))
        partition = self.partitions.get(key, Partition())
        if self.by_name[name].kind == STATIC:
            return partition.static.get(name)
        row = partition.rows.get(tuple(values[column.name] for column in self.of_kind(CLUSTERING)), Row())
        return row.cells.get(name)

    # --- reading

    def select(self, query: Query, folded: Sequence[str] = ()) -> list[tuple[Value, ...]]:
        """The rows of the result, in their order.

        Conditions on `folded` columns do not tell capitals from small letters.
        """
        self._folded = frozenset(folded)
        return _limited(self._unlimited(query), query.limit)

    def names_partitions(self, query: Query) -> bool:
        """Whether each column of the partition key has an = or IN."""
        named = {r.columns[0] for r in query.where if r.form == "column" and r.operator in ("=", "IN")}
        return all(column.name in named for column in self.of_kind(PARTITION))

    def _unlimited(self, query: Query) -> list[tuple[Value, ...]]:
        aggregates = any(function for function, _ in query.selectors)
        found: list[list[Record]] = []
        for records in self._partitions(query):
            if query.distinct:
                records = records[:1]
            if query.group:
                groups = [list(group) for _, group in groupby(records, lambda r: [r[n] for n in query.group])]
                found += _limited(groups, query.per_partition)
            else:
                found += [[record] for record in _limited(records, query.per_partition)]
        if aggregates and not query.group:
            found = [[record for (record,) in found]]
        elif query.order:
            for name, descending in reversed(query.order):
                found.sort(key=lambda group: _null_first(group[0][name]), reverse=descending)
        return [tuple(self._selected(selector, group) for selector in query.selectors) for group in found]

    def _partitions(self, query: Query) -> Iterator[list[Record]]:
        """The rows of each partition that the WHERE leaves."""
        by_value = self.names_partitions(query)
        keys = sorted(self.partitions, key=None if by_value else self.token)
        kinds = {self.by_name[name].kind for relation in query.where for name in relation.columns}
        statics_alone = not kinds & {CLUSTERING, REGULAR}
        for key in keys:
            records = self._records(key, statics_alone)
            if query.order and query.order[0][1] != self.by_name[query.order[0][0]].descending:
                records.reverse()
            yield [record for record in records if all(self.holds(each, record) for each in query.where)]

    def _records(self, key: Key, statics_alone: bool) -> list[Record]:
        partition = self.partitions[key]
        shared: Record = {column.name: None for column in self.columns}
        shared |= dict(zip([column.name for column in self.of_kind(PARTITION)], key, strict=True))
        shared |= partition.static
        suffixes = [suffix for suffix, row in partition.rows.items() if row.is_there]
        clustering = self.of_kind(CLUSTERING)
        for position in reversed(range(len(clustering))):
            suffixes.sort(key=lambda suffix: suffix[position], reverse=clustering[position].descending)
        names = [column.name for column in clustering]
        records = [
            shared | dict(zip(names, suffix, strict=True)) | partition.rows[suffix].cells
            for suffix in suffixes
        ]
        if not records and statics_alone and any(value is not None for value in partition.static.values()):
            return [shared]
        return records

    def holds(self, relation: Relation, record: Record) -> bool:
        """Whether a row satisfies a relation; null satisfies none."""
        left: Value = record[relation.columns[0]]
        if relation.form == "token" and relation.operator in ("<", "<=") and relation.value == LEAST_TOKEN:
            return True
        if relation.form == "token":
            left = self.token(tuple(record[column.name] for column in self.of_kind(PARTITION)))
        elif relation.form == "tuple":
            left = tuple(record[name] for name in relation.columns)
            if None in left:
                return False
        elif relation.form == "entry":
            left = None if left is None else dict(left).get(relation.key)
        right = relation.value
        if relation.columns[0] in self._folded and left is not None:
            left, right = _folded(left), _folded(right)
        is_map = "map<" in self.by_name[relation.columns[0]].type
        return left is not None and OPERATORS[relation.operator](left, right, is_map)

    def token(self, key: Key) -> int:
        """Where a partition is on the ring."""
        parts = [
            _wire(value, column.type) for value, column in zip(key, self.of_kind(PARTITION), strict=True)
        ]
        if len(parts) == 1:
            return token_of(parts[0])
        return token_of(b"".join(struct.pack(">H", len(part)) + part + b"\x00" for part in parts))

    def _selected(self, selector: tuple[str, str], group: Sequence[Record]) -> Value:
        function, name = selector
        if not function:
            return group[0][name] if group else None
        if name == "*":
            return len(group)
        values = [record[name] for record in group if record[name] is not None]
        return AGGREGATES[function](values, self.by_name[name].type)


def _folded(value: Value) -> Value:
    return value.lower() if isinstance(value, str) else tuple(text.lower() for text in value)


def _plain(value: Value) -> Value:
    return None if value == () else value


def _null_first(value: Value) -> tuple[bool, Value]:
    return (value is not None, value)


def _limited(items: list[Any], most: int | None) -> list[Any]:
    return items if most is None else items[:most]


def _contains(left: Value, wanted: Value, is_map: bool) -> bool:
    return wanted in ([value for _, value in left] if is_map else left)


def _contains_key(left: Value, wanted: Value, _: bool) -> bool:
    return wanted in [key for key, _ in left]


def like(text: str, pattern: str) -> bool:
    """Whether a text is like a pattern, in which % at an end stands for anything."""
    if pattern.startswith("%") and pattern.endswith("%") and len(pattern) > 1:
        return pattern[1:-1] in text
    if pattern.startswith("%"):
        return text.endswith(pattern[1:])
    return text.startswith(pattern[:-1]) if pattern.endswith("%") else text == pattern


OPERATORS: Final[dict[str, Callable[[Value, Value, bool], bool]]] = {
    "=": lambda left, right, _: bool(left == right),
    "!=": lambda left, right, _: bool(left != right),
    "<": lambda left, right, _: bool(left < right),
    "<=": lambda left, right, _: bool(left <= right),
    ">": lambda left, right, _: bool(left > right),
    ">=": lambda left, right, _: bool(left >= right),
    "IN": lambda left, right, _: left in right,
    "NOT IN": lambda left, right, _: left not in right,
    "BETWEEN": lambda left, right, _: bool(right[0] <= left <= right[1]),
    "CONTAINS": _contains,
    "CONTAINS KEY": _contains_key,
    "NOT CONTAINS": lambda left, right, is_map: not _contains(left, right, is_map),
    "NOT CONTAINS KEY": lambda left, right, is_map: not _contains_key(left, right, is_map),
    "LIKE": lambda left, right, _: like(left, right),
}


def _sum(values: Sequence[Value], of: str) -> Value:
    return sum(values, _zero(of))


def _average(values: Sequence[Value], of: str) -> Value:
    if not values:
        return _zero(of)
    total = sum(values)
    if of == "double":
        return total / len(values)
    return abs(total) // len(values) * (1 if total >= 0 else -1)


def _zero(of: str) -> Value:
    return {"double": 0.0, "decimal": Decimal(0)}.get(of, 0)


AGGREGATES: Final[dict[str, Callable[[Sequence[Value], str], Value]]] = {
    "count": lambda values, _: len(values),
    "min": lambda values, _: min(values, default=None),
    "max": lambda values, _: max(values, default=None),
    "sum": _sum,
    "avg": _average,
}


_PACKED: Final = {"int": ">i", "bigint": ">q", "double": ">d", "smallint": ">h", "timestamp": ">q"}


def _wire(value: Value, of: str) -> bytes:
    """The bytes of a value, of the types that partition keys have here."""
    if of in _PACKED:
        return struct.pack(_PACKED[of], value)
    if of == "boolean":
        return b"\x01" if value else b"\x00"
    return value.encode() if of == "text" else bytes(value)
