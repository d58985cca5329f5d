"""How one change of the schema is applied: keyspaces, tables, columns, types and indexes.

A `SchemaDraft` holds the schema on its way from one epoch to the next. Each kind of change has a handler that
checks everything first and then changes the draft; it answers with `Changed`, whose `code` is empty, or
`exists` or `absent` where there was nothing to do, or says with `error` why nothing was done:

    no_such_keyspace  no_such_table  no_such_column  no_such_type  no_such_field  no_such_index
    already_exists (keyspaces and tables)  column_exists  type_exists  field_exists  index_exists
    in_use  invalid

Invariants: ids of tables and of indexes come from one counter and are never given twice, TRUNCATE included;
ids of columns are never given twice in a table, DROP and ADD of a name included; what a table or type refers
to is there. Types are CQL text here: which names in it are user types is all that is asked of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from core import limits
from core.metadata import (
    AddColumns,
    AlterKeyspace,
    AlterTable,
    AlterType,
    Change,
    CreateIndex,
    CreateKeyspace,
    CreateTable,
    CreateType,
    DropColumns,
    DropIndex,
    DropKeyspace,
    DropTable,
    DropType,
    RenameColumns,
    TruncateTable,
)
from core.requests import Changed
from core.roles import ROLE_CHANGES, Role
from core.schema import (
    PARTITION,
    SIMPLE_INDEX,
    Column,
    DroppedColumn,
    Index,
    Keyspace,
    Replication,
    Table,
    TypeField,
    UserType,
)
from node.metadata_checks import (
    BUILT_IN,
    KEYS,
    NothingToDoError,
    RefusedError,
    check_columns,
    check_fields,
    check_growing,
    check_name,
    check_replication,
    missing,
    names_type,
    no_column,
    no_keyspace,
    reservation_table,
    some,
    there,
    user_types,
)
from node.metadata_roles import changed_roles

DEFAULT_KEYSPACES: Final = ("kv", "docs")
"""Created with the cluster: where buckets and document collections live."""

RESERVED_KEYSPACES: Final = (
    "system",
    "system_auth",
    "system_distributed",
    "system_schema",
    "system_traces",
    "system_views",
    "system_virtual_schema",
)
"""What drivers know as the cluster's own: no client creates these."""

KEPT_KEYSPACES: Final = ("system_traces",)
"""Those of them that peers make, with their tables, when they first have something to keep there."""

_NO_INDEX_NAME: Final = re.compile(r"[^A-Za-z0-9_]+")

_Struct = TypeVar("_Struct", bound=msgspec.Struct)


def in_family(family: str, keyspace: str) -> bool:
    """Whether names of tables are unique across this keyspace and `family` (docs, docs_rf1, ...)."""
    return keyspace == family or keyspace.startswith(f"{family}_rf")


class SchemaDraft:
    """The schema on its way from one epoch to the next; `known` are the datacentres there are."""

    def __init__(
        self,
        keyspaces: Mapping[str, Keyspace],
        tables: Mapping[int, Table],
        next_table_id: int,
        *,
        epoch: int,
        known: tuple[str, ...],
        roles: Mapping[str, Role] | None = None,
    ) -> None:
        self.roles: Mapping[str, Role] = roles or {}
        self.keyspaces = dict(keyspaces)
        self.tables = dict(tables)
        self.table_ids = {(table.keyspace, table.name): table.id for table in tables.values()}
        self.next_table_id = next_table_id
        self._epoch = epoch
        self._known = known

    def apply(self, change: Change) -> Changed:
        """Apply a change, or say why not."""
        try:
            if isinstance(change, ROLE_CHANGES):
                self.roles = changed_roles(self.roles, change)
            else:
                handler: Callable[[SchemaDraft, Any], None] = _HANDLERS[type(change)]
                handler(self, change)
        except NothingToDoError as nothing:
            return Changed(self._epoch, "", nothing.code)
        except RefusedError as refused:
            return Changed(self._epoch, str(refused), refused.code)
        return Changed(self._epoch, "", "")

    # --- keyspaces

    def create_keyspace(self, change: CreateKeyspace) -> None:
        """CREATE KEYSPACE."""
        if change.name in self.keyspaces:
            there(change.if_not_exists, "already_exists", f"keyspace {change.name} exists already")
        check_name("keyspace", change.name)
        if change.name in RESERVED_KEYSPACES:
            raise RefusedError("invalid", f"{change.name} is a keyspace of the cluster: choose another name")
        self._add_keyspace(change)

    def _add_keyspace(self, change: CreateKeyspace) -> None:
        check_replication(change.replication, self._known)
        self.keyspaces[change.name] = Keyspace(
            change.name, _normal(change.replication), self._epoch, change.durable_writes
        )

    def alter_keyspace(self, change: AlterKeyspace) -> None:
        """ALTER KEYSPACE: another replication moves rows, so there must be none yet."""
        keyspace = self._keyspace(change.name, change.if_exists)
        durable, replication = keyspace.durable_writes, keyspace.replication
        if change.durable_writes is not None:
            durable = change.durable_writes
        if change.replication is not None:
            check_replication(change.replication, self._known)
            replication = _normal(change.replication)
        if replication != keyspace.replication:
            if change.name in DEFAULT_KEYSPACES:
                raise RefusedError("invalid", f"the replication of {change.name} is that of the cluster")
            tables = [table.name for table in self.tables.values() if table.keyspace == change.name]
            if tables:
                text = (
                    f"the keyspace {change.name} has tables ({some(tables)}), and another replication moves "
                    "their rows: ranges move already, so wait until that is finished (sullae cluster status)"
                )
                raise RefusedError("in_use", text)
        self._replace_keyspace(keyspace, replication=replication, durable_writes=durable)

    def replicate(self, name: str, replication: Replication) -> None:
        """The rows of a keyspace have moved to where this replication has them."""
        self._replace_keyspace(self.keyspaces[name], replication=_normal(replication))

    def drop_keyspace(self, change: DropKeyspace) -> None:
        """DROP KEYSPACE, with all that is in it."""
        self._keyspace(change.name, change.if_exists)
        if change.name in DEFAULT_KEYSPACES:
            text = f"the keyspace {change.name} belongs to the cluster: drop its tables instead"
            raise RefusedError("invalid", text)
        del self.keyspaces[change.name]
        for table in [table for table in self.tables.values() if table.keyspace == change.name]:
            self._remove(table)

    # --- tables

    def create_table(self, change: CreateTable) -> None:
        """CREATE TABLE, or a bucket's or collection's first use."""
        present = self._present(change)
        if present is not None:
            text = f"table {present.keyspace}.{present.name} exists already"
            there(change.if_not_exists, "already_exists", text)
        check_name("table", change.name)
        check_columns(change.columns)
        self._check_types(change.keyspace, [column.type for column in change.columns])
        if change.keyspace not in self.keyspaces:
            if change.replication is None or not change.unique_across:
                raise no_keyspace(change.keyspace)
            created = CreateKeyspace(change.keyspace, change.replication)
            if change.unique_across == change.keyspace and change.keyspace in KEPT_KEYSPACES:
                self._add_keyspace(created)
            else:
                self.create_keyspace(created)
        columns, next_id = _numbered(change.columns, 1)
        table = Table(0, change.keyspace, change.name, columns, change.options, self._epoch, next_id)
        self._put(table)

    def alter_table(self, change: AlterTable) -> None:
        """ALTER TABLE ... WITH."""
        table = self._table(change.keyspace, change.name, change.if_exists)
        options = change.options
        if change.only:
            unknown = [name for name in change.only if name not in options.__struct_fields__]
            if unknown:
                raise RefusedError("invalid", f"a table has no option {unknown[0][:60]!r}")
            options = _replaced(table.options, {name: getattr(options, name) for name in change.only})
        self._replace(table, options=options)

    def drop_table(self, change: DropTable) -> None:
        """DROP TABLE."""
        if change.keyspace not in self.keyspaces:
            raise no_keyspace(change.keyspace)
        self._remove(self._table(change.keyspace, change.name, change.if_exists))

    def truncate_table(self, change: TruncateTable) -> None:
        """TRUNCATE: other ids, so what is in flight to the old ones finds no table."""
        table = self._table(change.keyspace, change.name, absent_is_fine=False)
        self._remove(table)
        self._put(_replaced(table, {"changed_epoch": self._epoch}))

    # --- columns

    def add_columns(self, change: AddColumns) -> None:
        """ALTER TABLE ... ADD."""
        table = self._table(change.keyspace, change.name, change.if_exists)
        added = [c for c in change.columns if not (change.if_not_exists and table.column(c.name))]
        if not added:
            raise NothingToDoError("exists")
        for column in added:
            if table.column(column.name) is not None:
                text = f"the table {table.keyspace}.{table.name} has a column {column.name} already"
                raise RefusedError("column_exists", text)
            if column.kind in KEYS:
                text = f"{column.name} cannot join the primary key of a table that exists: make another table"
                raise RefusedError("invalid", text)
        numbered, next_id = _numbered(added, self._next_column_id(table))
        check_columns((*table.columns, *numbered))
        self._check_types(table.keyspace, [column.type for column in added])
        self._replace(table, columns=(*table.columns, *numbered), next_column_id=next_id)

    def drop_columns(self, change: DropColumns) -> None:
        """ALTER TABLE ... DROP. The cells stay under an id that no column has again."""
        table = self._table(change.keyspace, change.name, change.if_exists)
        dropped: dict[str, DroppedColumn] = {}
        for name in dict.fromkeys(change.columns):
            column = table.column(name)
            if column is None:
                if change.if_column_exists:
                    continue
                raise no_column(table, name)
            if column.kind in KEYS:
                text = f"{name} is part of the primary key, which stays: create another table"
                raise RefusedError("invalid", text)
            indexes = [index.name for index in table.indexes if index.column == name]
            if indexes:
                text = f"the column {name} has an index: drop {some(indexes)} first"
                raise RefusedError("in_use", text)
            dropped[name] = DroppedColumn(column.id, name, column.type, column.kind, change.dropped_us)
        if not dropped:
            raise NothingToDoError("absent")
        older = [column for column in table.dropped if column.name not in dropped]
        self._replace(
            table,
            columns=tuple(column for column in table.columns if column.name not in dropped),
            next_column_id=self._next_column_id(table),
            dropped=(*older, *dropped.values())[-limits.DROPPED_COLUMNS_MAX :],
        )

    def rename_columns(self, change: RenameColumns) -> None:
        """ALTER TABLE ... RENAME, for key columns."""
        table = self._table(change.keyspace, change.name, change.if_exists)
        columns, indexes = list(table.columns), table.indexes
        for old, new in change.renames:
            names = [column.name for column in columns]
            if old not in names:
                if change.if_column_exists:
                    continue
                raise no_column(table, old)
            at = names.index(old)
            if columns[at].kind not in KEYS:
                text = (
                    f"only columns of the primary key can be renamed, which {old} is not: add another column"
                )
                raise RefusedError("invalid", text)
            if new in names:
                text = f"the table {table.keyspace}.{table.name} has a column {new} already"
                raise RefusedError("column_exists", text)
            columns[at] = _replaced(columns[at], {"name": new})
            indexes = tuple(_replaced(i, {"column": new}) if i.column == old else i for i in indexes)
        check_columns(columns)
        self._replace(table, columns=tuple(columns), indexes=indexes)

    # --- user types

    def create_type(self, change: CreateType) -> None:
        """CREATE TYPE."""
        keyspace = self._keyspace(change.keyspace)
        if keyspace.type(change.name) is not None:
            text = f"type {change.keyspace}.{change.name} exists already"
            there(change.if_not_exists, "type_exists", text)
        check_name("type", change.name)
        if change.name in BUILT_IN:
            raise RefusedError("invalid", f"{change.name} is a type of CQL: choose another name")
        check_fields(change.fields)
        self._check_types(change.keyspace, [field.type for field in change.fields])
        made = UserType(change.name, change.fields, self._epoch)
        self._replace_keyspace(keyspace, types=(*keyspace.types, made))

    def alter_type(self, change: AlterType) -> None:
        """ALTER TYPE ... ADD or RENAME: the tables that use it change with it."""
        keyspace = self._keyspace(change.keyspace, change.if_exists)
        old = self._type(keyspace, change.name, change.if_exists)
        fields = list(old.fields)
        for field in change.add:
            if any(field.name == known.name for known in fields):
                if change.if_field_not_exists:
                    continue
                raise RefusedError("field_exists", f"the type {old.name} has a field {field.name} already")
            self._check_types(keyspace.name, [field.type])
            if old.name in self._reached(keyspace, field.type):
                raise RefusedError("invalid", f"a type cannot hold itself: {field.name} {field.type}")
            fields.append(field)
        for before, after in change.rename:
            names = [field.name for field in fields]
            if before not in names:
                if change.if_field_exists:
                    continue
                text = f"the type {old.name} has no field {before}; it has {some(names)}"
                raise RefusedError("no_such_field", text)
            if after in names:
                raise RefusedError("field_exists", f"the type {old.name} has a field {after} already")
            fields[names.index(before)] = TypeField(after, fields[names.index(before)].type)
        if tuple(fields) == old.fields:
            raise NothingToDoError("exists" if change.add else "absent")
        check_fields(fields)
        if len(fields) > len(old.fields):
            tables = [table for table in self.tables.values() if table.keyspace == keyspace.name]
            check_growing(old.name, tables, lambda text: old.name in self._reached(keyspace, text))
        new = UserType(old.name, tuple(fields), self._epoch)
        types = tuple(new if each is old else each for each in keyspace.types)
        self._replace_keyspace(keyspace, types=types)
        for table in list(self.tables.values()):
            if table.keyspace == keyspace.name and any(
                old.name in self._reached(keyspace, column.type) for column in table.columns
            ):
                self._replace(table)

    def drop_type(self, change: DropType) -> None:
        """DROP TYPE, unless something uses it."""
        keyspace = self._keyspace(change.keyspace, change.if_exists)
        dropped = self._type(keyspace, change.name, change.if_exists)
        users = [
            f"table {table.name}"
            for table in self.tables.values()
            if table.keyspace == keyspace.name
            and any(names_type(c.type, dropped.name) for c in table.columns)
        ]
        users += [
            f"type {other.name}"
            for other in keyspace.types
            if any(names_type(field.type, dropped.name) for field in other.fields)
        ]
        if users:
            text = f"the type {change.name} is used by {some(users)}: drop or alter that first"
            raise RefusedError("in_use", text)
        self._replace_keyspace(keyspace, types=tuple(each for each in keyspace.types if each is not dropped))

    # --- indexes

    def create_index(self, change: CreateIndex) -> None:
        """CREATE INDEX, on what the table holds already too."""
        table = self._table(change.keyspace, change.table, absent_is_fine=False)
        index = change.index
        column = table.column(index.column)
        if column is None:
            raise no_column(table, index.column)
        taken = self._index_names(change.keyspace)
        if index.name in taken:
            text = f"index {change.keyspace}.{index.name} exists already"
            there(change.if_not_exists, "index_exists", text)
        for other in table.indexes:
            if _subject(other) == _subject(index):
                text = f"the index {other.name} is on {_shown(index)} already: drop it first, or use it"
                there(change.if_not_exists, "index_exists", text)
        if [c.name for c in table.columns if c.kind == PARTITION] == [index.column]:
            text = f"{index.column} is the whole partition key: rows are found by it without an index"
            raise RefusedError("invalid", text)
        if len(table.indexes) >= limits.TABLE_INDEXES_MAX:
            text = f"a table has at most {limits.TABLE_INDEXES_MAX} indexes: drop one first"
            raise RefusedError("invalid", text)
        name = index.name or _index_name(table.name, index, taken)
        check_name("index", name, limits.INDEX_NAME_CHARS_MAX)
        if index.unique and (table.keyspace, name) in self.table_ids:
            text = f"there is a table {table.keyspace}.{name}, and a unique index needs one of its own name"
            raise RefusedError("index_exists", text)
        made = self._reserved(table.keyspace, _replaced(index, {"id": self._next_id(), "name": name}))
        self._replace(table, indexes=(*table.indexes, made))

    def drop_index(self, change: DropIndex) -> None:
        """DROP INDEX."""
        self._keyspace(change.keyspace, change.if_exists)
        for table in self.tables.values():
            if table.keyspace == change.keyspace and table.index(change.name) is not None:
                kept = tuple(index for index in table.indexes if index.name != change.name)
                self._unreserve(index for index in table.indexes if index.name == change.name)
                self._replace(table, indexes=kept)
                return
        text = f"there is no index {change.keyspace}.{change.name}"
        missing(change.if_exists, "no_such_index", text)

    # --- what handlers share

    def _keyspace(self, name: str, absent_is_fine: bool = False) -> Keyspace:
        keyspace = self.keyspaces.get(name)
        if keyspace is None:
            if absent_is_fine:
                raise NothingToDoError("absent")
            raise no_keyspace(name)
        return keyspace

    def _table(self, keyspace: str, name: str, absent_is_fine: bool) -> Table:
        self._keyspace(keyspace, absent_is_fine)
        table_id = self.table_ids.get((keyspace, name))
        if table_id is None:
            if absent_is_fine:
                raise NothingToDoError("absent")
            raise RefusedError("no_such_table", f"there is no table {keyspace}.{name}")
        table = self.tables[table_id]
        if table.reserves:
            text = f"{keyspace}.{name} holds what a unique index needs to know: drop the index instead"
            raise RefusedError("in_use", text)
        return table

    def _type(self, keyspace: Keyspace, name: str, absent_is_fine: bool) -> UserType:
        found = keyspace.type(name)
        if found is None:
            if absent_is_fine:
                raise NothingToDoError("absent")
            raise RefusedError("no_such_type", f"there is no type {keyspace.name}.{name}")
        return found

    def _present(self, change: CreateTable) -> Table | None:
        """The table that has the name already, in the keyspace or in the family where it must be unique."""
        names = [change.keyspace]
        if change.unique_across:
            names += [name for name in self.keyspaces if in_family(change.unique_across, name)]
        for keyspace in names:
            table_id = self.table_ids.get((keyspace, change.name))
            if table_id is not None:
                return self.tables[table_id]
        return None

    def _next_id(self) -> int:
        given = self.next_table_id
        self.next_table_id += 1
        return given

    def _next_column_id(self, table: Table) -> int:
        return table.next_column_id or 1 + max((column.id for column in table.columns), default=0)

    def _put(self, table: Table) -> None:
        """Put a table there, it and its indexes under new ids."""
        table_id = self._next_id()
        indexes = tuple(
            self._reserved(table.keyspace, _replaced(index, {"id": self._next_id()}))
            for index in table.indexes
        )
        self.tables[table_id] = _replaced(table, {"id": table_id, "indexes": indexes})
        self.table_ids[table.keyspace, table.name] = table_id

    def _remove(self, table: Table) -> None:
        self._unreserve(table.indexes)
        self.tables.pop(table.id, None)  # a table of reservations may have gone before
        self.table_ids.pop((table.keyspace, table.name), None)

    def _reserved(self, keyspace: str, index: Index) -> Index:
        """The index, with a table for its reservations if it is unique."""
        if not index.unique:
            return index
        self._put(reservation_table(keyspace, index, self._epoch))
        return _replaced(index, {"reservations": self.table_ids[keyspace, index.name]})

    def _unreserve(self, indexes: Iterable[Index]) -> None:
        for index in indexes:
            table = self.tables.get(index.reservations) if index.unique else None
            if table is not None:
                self._remove(table)

    def _replace(self, table: Table, **fields: Any) -> None:
        self.tables[table.id] = _replaced(table, fields | {"changed_epoch": self._epoch})

    def _replace_keyspace(self, keyspace: Keyspace, **fields: Any) -> None:
        self.keyspaces[keyspace.name] = _replaced(keyspace, fields | {"changed_epoch": self._epoch})

    def _index_names(self, keyspace: str) -> dict[str, None]:
        tables = [table for table in self.tables.values() if table.keyspace == keyspace]
        return {index.name: None for table in tables for index in table.indexes}

    def _check_types(self, keyspace: str, texts: Iterable[str]) -> None:
        """That the user types named are there, in the same keyspace."""
        for text in texts:
            for other, name in user_types(text):
                if other not in ("", keyspace):
                    why = f"{keyspace} cannot use the type {other}.{name}: a type is used in its own keyspace"
                    raise RefusedError("invalid", why)
                known = self.keyspaces.get(keyspace)
                if known is None or known.type(name) is None:
                    why = f"there is no type {name[:60]} in CQL, nor in {keyspace}: create it first"
                    raise RefusedError("no_such_type", why)

    def _reached(self, keyspace: Keyspace, text: str) -> dict[str, None]:
        """All user types that a type consists of, directly or through others."""
        reached: dict[str, None] = {}
        texts = [text]
        while texts:
            for _, name in user_types(texts.pop()):
                known = keyspace.type(name)
                if name not in reached and known is not None:
                    reached[name] = None
                    texts += [field.type for field in known.fields]
        return reached


def _replaced(struct: _Struct, fields: dict[str, Any]) -> _Struct:
    return msgspec.structs.replace(struct, **fields)


def _normal(replication: Replication) -> Replication:
    kept = tuple(sorted((name, factor) for name, factor in replication.factors if factor > 0))
    return Replication(replication.strategy, kept)


def _index_name(table: str, index: Index, taken: Mapping[str, None]) -> str:
    """As Cassandra has it: table_column_idx, with a number if that is taken."""
    base = _NO_INDEX_NAME.sub("", f"{table}_{index.column}_idx")
    if index.kind != SIMPLE_INDEX and base in taken:
        base = _NO_INDEX_NAME.sub("", f"{table}_{index.column}_{index.kind}_idx")
    name, number = base, 0
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    return name


def _subject(index: Index) -> tuple[object, ...]:
    """What an index is on: there is at most one on the same."""
    return index.column, index.kind, index.using, index.targets, index.condition


def _shown(index: Index) -> str:
    return ", ".join(".".join(target.path) for target in index.targets) or index.column


def _numbered(columns: Iterable[Column], next_id: int) -> tuple[tuple[Column, ...], int]:
    """Columns with their ids from `next_id` on (keys have none), and the id after the last."""
    numbered: list[Column] = []
    for column in columns:
        is_key = column.kind in KEYS
        numbered.append(_replaced(column, {"id": 0 if is_key else next_id}))
        next_id += not is_key
    return tuple(numbered), next_id


_HANDLERS: Final[dict[type, Callable[[SchemaDraft, Any], None]]] = {
    CreateKeyspace: SchemaDraft.create_keyspace,
    AlterKeyspace: SchemaDraft.alter_keyspace,
    DropKeyspace: SchemaDraft.drop_keyspace,
    CreateTable: SchemaDraft.create_table,
    AlterTable: SchemaDraft.alter_table,
    DropTable: SchemaDraft.drop_table,
    TruncateTable: SchemaDraft.truncate_table,
    AddColumns: SchemaDraft.add_columns,
    DropColumns: SchemaDraft.drop_columns,
    RenameColumns: SchemaDraft.rename_columns,
    CreateType: SchemaDraft.create_type,
    AlterType: SchemaDraft.alter_type,
    DropType: SchemaDraft.drop_type,
    CreateIndex: SchemaDraft.create_index,
    DropIndex: SchemaDraft.drop_index,
}
