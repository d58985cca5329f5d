"""What the shell knows of keyspaces and tables, for completion and COPY: read from `system_schema`.

A snapshot; the shell reads another when the schema has changed. Tables that are computed (Cassandra's
virtual ones) are named by `system_virtual_schema`, where there is one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cli.native.client import Client
from cli.native.connection import RefusedError
from cql_lite import types

PARTITION, CLUSTERING, STATIC, REGULAR = "partition_key", "clustering", "static", "regular"
_KEY_KINDS: Final = (PARTITION, CLUSTERING)


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `type` is CQL text, `position` that within its kind of key."""

    name: str
    type: str
    kind: str = REGULAR
    position: int = -1


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its columns as SELECT * gives them."""

    keyspace: str
    name: str
    columns: tuple[Column, ...] = ()

    def column(self, name: str) -> Column | None:
        """The column of that name."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def key(self) -> tuple[Column, ...]:
        """The primary key's columns in order."""
        return tuple(column for column in self.columns if column.kind in _KEY_KINDS)

    @property
    def partition_key(self) -> tuple[Column, ...]:
        """The partition key's columns in order."""
        return tuple(column for column in self.columns if column.kind == PARTITION)


@dataclass(slots=True)
class Keyspace:
    """A keyspace: its tables and user-defined types by name, and the names of its functions and indexes."""

    name: str
    tables: dict[str, Table] = field(default_factory=dict)
    types: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    functions: list[str] = field(default_factory=list)
    indexes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Schema:
    """All keyspaces by name."""

    keyspaces: dict[str, Keyspace] = field(default_factory=dict)

    def table(self, keyspace: str, name: str) -> Table | None:
        """The table of that name."""
        found = self.keyspaces.get(keyspace)
        return found.tables.get(name) if found is not None else None

    def type_of(self, table: Table, column: Column) -> types.Type:
        """A column's type; one that is not known here is a blob's."""
        try:
            return types.parse_type(
                column.type, lambda keyspace, name: self._udt(keyspace or table.keyspace, name)
            )
        except types.InvalidTypeError:
            return types.Blob(column.type, 0, column.type)

    def _udt(self, keyspace: str, name: str) -> types.UserType | None:
        owner = self.keyspaces.get(keyspace)
        fields = owner.types.get(name) if owner is not None else None
        if fields is None:
            return None
        found = tuple(types.parse_type(of, lambda ks, n: self._udt(ks or keyspace, n)) for _, of in fields)
        names = tuple(field_name for field_name, _ in fields)
        return types.UserType(keyspace=keyspace, name=name, names=names, types=found)


def _order(column: Column) -> tuple[int, int, str]:
    """Partition key, clustering, static, then regular columns by name."""
    return ((PARTITION, CLUSTERING, STATIC, REGULAR).index(column.kind), column.position, column.name)


def assembled(
    keyspaces: list[tuple[Any, ...]],
    tables: list[tuple[Any, ...]],
    columns: list[tuple[Any, ...]],
    user_types: list[tuple[Any, ...]],
) -> Schema:
    """A schema of rows: (keyspace), (keyspace, table), (keyspace, table, column, type, kind, position),
    (keyspace, type, field names, field types).
    """
    schema = Schema({name: Keyspace(name) for (name,) in sorted(keyspaces)})
    found: dict[tuple[str, str], list[Column]] = {(keyspace, table): [] for keyspace, table in sorted(tables)}
    for keyspace, table, name, of, kind, position in columns:
        if (keyspace, table) in found and kind in (PARTITION, CLUSTERING, STATIC, REGULAR):
            found[keyspace, table].append(Column(name, of, kind, position))
    for (keyspace, table), its in found.items():
        if keyspace in schema.keyspaces:
            made = Table(keyspace, table, tuple(sorted(its, key=_order)))
            schema.keyspaces[keyspace].tables[table] = made
    for keyspace, name, names, ofs in sorted(user_types):
        if keyspace in schema.keyspaces:
            schema.keyspaces[keyspace].types[name] = tuple(zip(names or (), ofs or (), strict=True))
    return schema


def names_like(schema: Schema, keyspace: str, kind: str, name: str, table: str) -> list[str]:
    """The names of that kind where `name` was looked for: of a column the `table` is known."""
    owner = schema.keyspaces.get(name.rpartition(".")[0] or keyspace)
    if kind == "keyspace":
        return list(schema.keyspaces)
    if kind == "column":
        place, _, its = table.rpartition(".")
        found = schema.table(place or keyspace, its)
        return [column.name for column in found.columns] if found is not None else []
    if kind == "table":
        return list(owner.tables) if owner is not None else []
    if kind == "type":
        return [*types.SCALARS, *(owner.types if owner is not None else ())]
    return list(owner.indexes) if owner is not None and kind == "index" else []


_QUERIES: Final[Mapping[str, str]] = {
    "keyspaces": "SELECT keyspace_name FROM {}.keyspaces",
    "tables": "SELECT keyspace_name, table_name FROM {}.tables",
    "columns": "SELECT keyspace_name, table_name, column_name, type, kind, position FROM {}.columns",
}


async def read_schema(client: Client) -> Schema:
    """The schema as it is now; raises what requests raise."""
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in _QUERIES}
    for place in ("system_schema", "system_virtual_schema"):
        with contextlib.suppress(RefusedError):  # virtual tables came with Cassandra 4
            for name, text in _QUERIES.items():
                rows[name] += await client.rows(text.format(place))
    rows["keyspaces"] = sorted(set(rows["keyspaces"]))
    udts = await client.rows(
        "SELECT keyspace_name, type_name, field_names, field_types FROM system_schema.types"
    )
    schema = assembled(rows["keyspaces"], rows["tables"], rows["columns"], udts)
    extra = (("functions", "function_name"), ("aggregates", "aggregate_name"), ("indexes", "index_name"))
    for table, column in extra:
        for keyspace, name in await client.rows(f"SELECT keyspace_name, {column} FROM system_schema.{table}"):
            if keyspace in schema.keyspaces:
                owner = schema.keyspaces[keyspace]
                (owner.indexes if table == "indexes" else owner.functions).append(name)
    return schema
