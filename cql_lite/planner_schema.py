"""Statements about the schema, as changes of the metadata log.

What can be said without knowing whether it still holds when the change is applied (types exist, options mean
something) is checked here, in words about the statement; the log checks the rest when it applies the change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from core import limits, metadata
from core.metadata import Change
from core.requests import AdminRequest, Changed, MetadataRequest
from core.schema import (
    CLUSTERING,
    NETWORK_TOPOLOGY,
    PARTITION,
    REGULAR,
    SIMPLE,
    STATIC,
    Column,
    Keyspace,
    Member,
    Replication,
    Table,
    TableOptions,
    TypeField,
)  # fmt: skip
from cql_lite import ast
from cql_lite.errors import (
    AlreadyExistsError,
    ConfigurationError,
    InvalidRequestError,
    PropertyError,
    UnauthorizedError,
)
from cql_lite.planner_indexes import index_of
from cql_lite.planner_options import table_options
from cql_lite.planner_results import (
    PEER_EPOCHS,
    Execution,
    Options,
    SchemaResult,
    VoidResult,
    unless_failed,
)
from cql_lite.planner_terms import Context, MarkerSpec
from cql_lite.planner_words import words_for
from cql_lite.types import (
    COUNTER,
    DURATION,
    JSON,
    Collection,
    InvalidTypeError,
    ResolveUdt,
    Type,
    check_column_type,
    has_durations,
    parse_type,
)

CREATED, UPDATED, DROPPED = "CREATED", "UPDATED", "DROPPED"
KEYSPACE, TABLE, TYPE = "KEYSPACE", "TABLE", "TYPE"


class Schema(Protocol):
    """What planning looks up in the metadata state."""

    @property
    def members(self) -> Sequence[Member]:
        """All members."""

    @property
    def keyspaces(self) -> Mapping[str, Keyspace]:
        """All keyspaces by name."""

    @property
    def tables(self) -> Mapping[int, Table]:
        """All tables by id."""

    def table(self, keyspace: str, name: str) -> Table | None:
        """The table of that name."""


class SchemaPlan:
    """A change of the schema."""

    is_read: Final = False
    markers: tuple[MarkerSpec, ...] = ()
    key_markers: tuple[int, ...] = ()

    def __init__(self, change: Change, told: SchemaResult | None, warnings: Sequence[str] = ()) -> None:
        """`told` is what clients hear when it was made; None for what is no event (TRUNCATE)."""
        self.change = change
        self.told = told
        self._warnings = warnings

    def execute(self, context: Context, options: Options) -> Execution:
        """One request to the metadata log."""
        (answer,) = yield (MetadataRequest(self.change),)
        changed = unless_failed(answer)
        assert isinstance(changed, Changed), changed
        if changed.code == "no_such_keyspace" and getattr(self.change, "if_exists", False):
            return VoidResult()
        if changed.error:
            raise self._error(changed)
        yield (AdminRequest(PEER_EPOCHS),)  # the next statement may go to another peer
        if changed.code in ("exists", "absent") or self.told is None:
            return VoidResult()
        for text in self._warnings:
            options.warn(text)
        return self.told

    def _error(self, changed: Changed) -> Exception:
        text = words_for(changed, self.change)
        if changed.code == "already_exists" and self.told is not None:
            table = self.told.name if self.told.target == TABLE else ""
            return AlreadyExistsError(text, self.told.keyspace, table)
        return InvalidRequestError(text)


class NothingPlan:
    """Nothing is to be done, and that is fine."""

    is_read: Final = False
    markers: tuple[MarkerSpec, ...] = ()
    key_markers: tuple[int, ...] = ()

    def execute(self, context: Context, options: Options) -> Execution:
        """No request."""
        yield from ()
        return VoidResult()


class SchemaPlanner:
    """Plans one statement, with `keyspace` for names that say none."""

    def __init__(
        self, schema: Schema, keyspace: str, resolve_udt: Callable[[str], ResolveUdt], now_us: int
    ) -> None:
        """`resolve_udt` gives the resolver of a keyspace's types."""
        self._schema = schema
        self._keyspace = keyspace
        self._resolve_udt = resolve_udt
        self._now_us = now_us

    def plan(self, statement: ast.Statement) -> SchemaPlan | NothingPlan | None:
        """The plan; None if the statement is not about keyspaces, tables or types."""
        method = _METHODS.get(type(statement))
        return None if method is None else method(self, statement)

    def drop_absent(self, statement: ast.DropAbsent) -> NothingPlan:
        """DROP of what there is none of."""
        keyspace = self._place(statement.name)
        if not statement.if_exists:
            raise InvalidRequestError(f"{statement.what} '{keyspace}.{statement.name.name}' doesn't exist")
        return NothingPlan()

    # --- names and types

    def _place(self, name: ast.QualifiedName) -> str:
        keyspace = name.keyspace or self._keyspace
        if not keyspace:
            raise InvalidRequestError(
                f"No keyspace has been specified. USE a keyspace, or explicitly specify keyspace.{name.name}"
            )
        writable(keyspace)
        return keyspace

    def _type(self, node: ast.Type, keyspace: str) -> Type:
        try:
            of = parse_type(node.text, self._resolve_udt(keyspace))
            check_column_type(of)
        except InvalidTypeError as error:
            raise InvalidRequestError(f"{error} (line {node.at.line}, column {node.at.column})") from None
        return of

    # --- keyspaces

    def create_keyspace(self, statement: ast.CreateKeyspace) -> SchemaPlan:
        """CREATE KEYSPACE."""
        name = statement.name.text
        writable(name)
        _check_name("Keyspace", name)
        replication, durable = self._keyspace_options(statement.options)
        if replication is None:
            raise ConfigurationError(
                "Missing mandatory option 'replication': write WITH replication = "
                "{'class': 'NetworkTopologyStrategy', 'replication_factor': 3}"
            )
        change = metadata.CreateKeyspace(name, replication, statement.if_not_exists, durable is not False)
        return SchemaPlan(change, SchemaResult(CREATED, KEYSPACE, name), self._too_few(name, replication))

    def alter_keyspace(self, statement: ast.AlterKeyspace) -> SchemaPlan:
        """ALTER KEYSPACE."""
        name = statement.name.text
        writable(name)
        replication, durable = self._keyspace_options(statement.options)
        change = metadata.AlterKeyspace(name, replication, durable, statement.if_exists)
        return SchemaPlan(change, SchemaResult(UPDATED, KEYSPACE, name), self._too_few(name, replication))

    def _too_few(self, name: str, replication: Replication | None) -> list[str]:
        """What is to be said of replication factors that no level ALL can meet yet."""
        members = [member.datacentre for member in self._schema.members]
        return [
            f"Your replication factor {factor} for keyspace {name} is higher than the number of nodes {there}"
            + (f" for datacenter {datacentre}" if datacentre else "")
            for datacentre, factor in (() if replication is None else replication.factors)
            if factor > (there := members.count(datacentre) if datacentre else len(members))
        ]

    def drop_keyspace(self, statement: ast.DropKeyspace) -> SchemaPlan:
        """DROP KEYSPACE."""
        name = statement.name.text
        writable(name)
        return SchemaPlan(
            metadata.DropKeyspace(name, statement.if_exists), SchemaResult(DROPPED, KEYSPACE, name)
        )

    def _keyspace_options(self, options: Sequence[ast.Option]) -> tuple[Replication | None, bool | None]:
        replication, durable = None, None
        for option in options:
            if option.name == "replication" and isinstance(option.value, tuple):
                replication = self._replication(dict(option.value))
            elif option.name == "durable_writes" and str(option.value).lower() in ("true", "false"):
                durable = str(option.value).lower() == "true"
            else:
                known = option.name in ("replication", "durable_writes")
                what = (
                    f"Invalid value for option '{option.name}'"
                    if known
                    else f"Unknown property '{option.name}'"
                )
                raise PropertyError(
                    f"{what}: a keyspace has replication (a map) and durable_writes (true or false), "
                    f"not {option.name}"
                )
        return replication, durable

    def _replication(self, options: dict[str, str]) -> Replication:
        if "class" not in options:
            raise ConfigurationError(
                f"Missing replication strategy class: write 'class': '{NETWORK_TOPOLOGY}' into replication"
            )
        strategy = options.pop("class").rpartition(".")[2]
        datacentres = sorted({member.datacentre for member in self._schema.members})
        factors = {name: _factor(value) for name, value in options.items()}
        everywhere = factors.pop("replication_factor", None)
        if strategy == SIMPLE:
            if everywhere is None:
                raise ConfigurationError(
                    "SimpleStrategy requires a replication_factor strategy option: add "
                    "'replication_factor': 3"
                )
            if factors:
                raise ConfigurationError(
                    f"Unrecognized strategy option {{{next(iter(factors))}}} passed to SimpleStrategy: it "
                    "takes 'replication_factor' and nothing else"
                )
            return Replication(SIMPLE, (("", everywhere),))
        if strategy != NETWORK_TOPOLOGY:
            raise ConfigurationError(
                f"Unable to find replication strategy class {strategy[:60]!r}: use {NETWORK_TOPOLOGY} or "
                f"{SIMPLE}"
            )
        unknown = [name for name in factors if name not in datacentres]
        if unknown:
            raise ConfigurationError(
                f"Unrecognized strategy option {{{unknown[0]}}} passed to {NETWORK_TOPOLOGY}: there is no "
                f"datacentre of that name; there are {', '.join(datacentres)}"
            )
        if everywhere is not None:
            factors = {**dict.fromkeys(datacentres, everywhere), **factors}
        if not factors:
            raise ConfigurationError(
                f"{NETWORK_TOPOLOGY} takes 'replication_factor' or one for each datacentre"
            )
        return Replication(NETWORK_TOPOLOGY, tuple(sorted(factors.items())))

    # --- tables

    def create_table(self, statement: ast.CreateTable) -> SchemaPlan:
        """CREATE TABLE."""
        keyspace = self._place(statement.table)
        if statement.compact_storage:
            raise InvalidRequestError(
                "Compact tables are not allowed in Cassandra starting with 4.0 version, nor here: leave "
                "COMPACT STORAGE out"
            )
        if not keyspace.startswith(OPEN_KEYSPACES):
            _check_name("Table", statement.table.name)
        columns = self._columns(statement, keyspace)
        options = table_options(statement.options, TableOptions())[0]
        _no_ttl(options, [column.type for column in columns])
        change = metadata.CreateTable(
            keyspace, statement.table.name, columns, options, if_not_exists=statement.if_not_exists
        )
        return SchemaPlan(change, SchemaResult(CREATED, TABLE, keyspace, statement.table.name))

    def _columns(self, statement: ast.CreateTable, keyspace: str) -> tuple[Column, ...]:
        defined = {column.name: column for column in statement.columns}
        if len(defined) != len(statement.columns):
            names = [column.name for column in statement.columns]
            twice = next(name for name in names if names.count(name) > 1)
            table = f"{keyspace}.{statement.table.name}"
            raise InvalidRequestError(f"Duplicate column '{twice}' declaration for table '{table}'")
        descending = {part.column: part.descending for part in statement.clustering_order}
        partition = [name.text for name in statement.partition_key]
        clustering = [name.text for name in statement.clustering_key]
        ordered = [part.column for part in statement.clustering_order]
        if ordered != clustering[: len(ordered)]:
            raise InvalidRequestError(_wrong_order(ordered, clustering))
        keys = partition + clustering
        if len(dict.fromkeys(keys)) != len(keys):
            twice = next(name for name in keys if keys.count(name) > 1)
            raise InvalidRequestError(f"Duplicate column '{twice}' in PRIMARY KEY clause")
        found = []
        for name in [*keys, *(name for name in defined if name not in keys)]:
            if name not in defined:
                raise InvalidRequestError(f"Unknown column '{name}' referenced in PRIMARY KEY")
            kind = PARTITION if name in partition else CLUSTERING if name in clustering else REGULAR
            column = self._column(defined[name], kind, keyspace)
            found.append(msgspec.structs.replace(column, descending=descending.get(name, False)))
        values = [column for column in found if column.name not in keys]
        if len({column.type == COUNTER.cql for column in values}) > 1:
            raise InvalidRequestError(
                "Cannot mix counter and non counter columns in the same table: make two tables"
            )
        if any(column.kind == STATIC for column in found) and not clustering:
            raise InvalidRequestError(_NO_STATIC)
        return tuple(found)

    def _column(self, definition: ast.ColumnDefinition, kind: str, keyspace: str) -> Column:
        of = self._type(definition.type, keyspace)
        if kind in (PARTITION, CLUSTERING):
            if definition.static:
                raise InvalidRequestError(
                    f"Static column '{definition.name}' cannot be part of the PRIMARY KEY"
                )
            if not of.may_be_key or of in (JSON, COUNTER) or has_durations(of):
                raise InvalidRequestError(_no_key(definition.name, of))
        elif definition.static:
            kind = STATIC
        return Column(0, definition.name, of.cql, kind)

    def add_columns(self, statement: ast.AddColumns) -> SchemaPlan:
        """ALTER TABLE ... ADD."""
        keyspace = self._place(statement.table)
        columns = tuple(self._column(column, REGULAR, keyspace) for column in statement.columns)
        table = self._schema.table(keyspace, statement.table.name)
        if table is not None:
            values = [c for c in (*table.columns, *columns) if c.kind in (STATIC, REGULAR)]
            if len({column.type == COUNTER.cql for column in values}) > 1:
                word = "counter" if any(c.type == COUNTER.cql for c in columns) else "non-counter"
                raise InvalidRequestError(
                    f"Cannot add a {word} column '{columns[0].name}' to table {keyspace}.{table.name}: "
                    "Cannot mix counter and non counter columns in the same table"
                )
        if table is not None and not table.has_clustering and any(c.kind == STATIC for c in columns):
            raise InvalidRequestError(_NO_STATIC)
        change = metadata.AddColumns(
            keyspace, statement.table.name, columns, statement.if_exists, statement.if_not_exists
        )
        return self._altered(change, keyspace, statement.table.name)

    def drop_columns(self, statement: ast.DropColumns) -> SchemaPlan:
        """ALTER TABLE ... DROP."""
        keyspace = self._place(statement.table)
        change = metadata.DropColumns(
            keyspace,
            statement.table.name,
            tuple(name.text for name in statement.columns),
            self._now_us,
            statement.if_exists,
            statement.if_column_exists,
        )
        return self._altered(change, keyspace, statement.table.name)

    def rename_columns(self, statement: ast.RenameColumns) -> SchemaPlan:
        """ALTER TABLE ... RENAME."""
        keyspace = self._place(statement.table)
        renames = tuple((old.text, new.text) for old, new in statement.renames)
        change = metadata.RenameColumns(
            keyspace, statement.table.name, renames, statement.if_exists, statement.if_column_exists
        )
        return self._altered(change, keyspace, statement.table.name)

    def alter_table(self, statement: ast.AlterTable) -> SchemaPlan:
        """ALTER TABLE ... WITH."""
        keyspace = self._place(statement.table)
        table = self._schema.table(keyspace, statement.table.name)
        options, only = table_options(statement.options, TableOptions() if table is None else table.options)
        _no_ttl(options, [] if table is None else [column.type for column in table.columns])
        change = metadata.AlterTable(keyspace, statement.table.name, options, only, statement.if_exists)
        return self._altered(change, keyspace, statement.table.name)

    def drop_table(self, statement: ast.DropTable) -> SchemaPlan:
        """DROP TABLE."""
        keyspace = self._place(statement.table)
        change = metadata.DropTable(keyspace, statement.table.name, statement.if_exists)
        return SchemaPlan(change, SchemaResult(DROPPED, TABLE, keyspace, statement.table.name))

    def truncate(self, statement: ast.Truncate) -> SchemaPlan:
        """TRUNCATE."""
        return SchemaPlan(metadata.TruncateTable(self._place(statement.table), statement.table.name), None)

    def _altered(self, change: Change, keyspace: str, table: str) -> SchemaPlan:
        return SchemaPlan(change, SchemaResult(UPDATED, TABLE, keyspace, table))

    # --- types

    def create_type(self, statement: ast.CreateType) -> SchemaPlan:
        """CREATE TYPE."""
        keyspace, name = self._place(statement.type), statement.type.name
        change = metadata.CreateType(
            keyspace, name, self._fields(statement.fields, keyspace), statement.if_not_exists
        )
        return SchemaPlan(change, SchemaResult(CREATED, TYPE, keyspace, name))

    def _fields(self, fields: Sequence[ast.ColumnDefinition], keyspace: str) -> tuple[TypeField, ...]:
        types = [self._type(field.type, keyspace) for field in fields]
        if COUNTER in types:
            raise InvalidRequestError("A user type cannot contain counters")
        names = [field.name for field in fields]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise InvalidRequestError(f"Duplicate field name '{twice[0]}' in type")
        return tuple(TypeField(name, of.cql) for name, of in zip(names, types, strict=True))

    def add_fields(self, statement: ast.AddFields) -> SchemaPlan:
        """ALTER TYPE ... ADD."""
        keyspace, name = self._place(statement.type), statement.type.name
        change = metadata.AlterType(
            keyspace,
            name,
            add=self._fields(statement.fields, keyspace),
            if_exists=statement.if_exists,
            if_field_not_exists=statement.if_not_exists,
        )
        return SchemaPlan(change, SchemaResult(UPDATED, TYPE, keyspace, name))

    def rename_fields(self, statement: ast.RenameFields) -> SchemaPlan:
        """ALTER TYPE ... RENAME."""
        keyspace, name = self._place(statement.type), statement.type.name
        change = metadata.AlterType(
            keyspace,
            name,
            rename=tuple((old.text, new.text) for old, new in statement.renames),
            if_exists=statement.if_exists,
            if_field_exists=statement.if_field_exists,
        )
        return SchemaPlan(change, SchemaResult(UPDATED, TYPE, keyspace, name))

    def drop_type(self, statement: ast.DropType) -> SchemaPlan:
        """DROP TYPE."""
        keyspace, name = self._place(statement.type), statement.type.name
        change = metadata.DropType(keyspace, name, statement.if_exists)
        return SchemaPlan(change, SchemaResult(DROPPED, TYPE, keyspace, name))

    # --- indexes

    def create_index(self, statement: ast.CreateIndex) -> SchemaPlan:
        """CREATE INDEX."""
        keyspace, name = self._place(statement.table), statement.table.name
        table = self._schema.table(keyspace, name)
        if table is None:
            if keyspace not in self._schema.keyspaces:
                raise InvalidRequestError(f"Keyspace '{keyspace}' doesn't exist")
            raise InvalidRequestError(f"Table '{keyspace}.{name}' doesn't exist")
        resolve = self._resolve_udt(keyspace)
        index = index_of(statement, table, lambda text: parse_type(text, resolve))
        change = metadata.CreateIndex(keyspace, name, index, statement.if_not_exists)
        return SchemaPlan(change, SchemaResult(UPDATED, TABLE, keyspace, name))

    def drop_index(self, statement: ast.DropIndex) -> SchemaPlan:
        """DROP INDEX."""
        keyspace, name = self._place(statement.index), statement.index.name
        change = metadata.DropIndex(keyspace, name, statement.if_exists)
        tables = [table for table in self._schema.tables.values() if table.keyspace == keyspace]
        of = next((table.name for table in tables if table.index(name) is not None), "")
        return SchemaPlan(change, SchemaResult(UPDATED, TABLE if of else KEYSPACE, keyspace, of))


SYSTEM_KEYSPACES: Final = (
    "system", "system_schema", "system_traces", "system_virtual_schema", "system_views", "system_auth",
    "system_distributed",
)  # fmt: skip


def writable(keyspace: str) -> None:
    """Refuse what is computed."""
    if keyspace in SYSTEM_KEYSPACES:
        raise UnauthorizedError(f"{keyspace} keyspace is not user-modifiable: it can be read only")


_NO_STATIC: Final = (
    "Static columns are only useful (and thus allowed) if the table has at least one clustering column"
)


OPEN_KEYSPACES: Final = ("kv", "docs")
"""Keyspaces of buckets and collections, whose names may have a hyphen."""
_NAME: Final = re.compile(r"[A-Za-z0-9_]+")


def _check_name(what: str, name: str) -> None:
    """The names that Cassandra takes."""
    if not _NAME.fullmatch(name) or len(name) > limits.NAME_CHARS_MAX:
        raise InvalidRequestError(
            f"{what} name must not be empty, more than {limits.NAME_CHARS_MAX} characters long, or contain "
            f'non-alphanumeric-underscore characters (got "{name[:60]}")'
        )


def _no_ttl(options: TableOptions, types: Sequence[str]) -> None:
    if options.default_ttl_s and COUNTER.cql in types:
        raise InvalidRequestError("Cannot set default_time_to_live on a table with counters")


def _no_key(name: str, of: Type) -> str:
    """Why a column of that type cannot be part of a primary key."""
    if of.is_multicell:
        word = "collection type" if isinstance(of, Collection) else "user-defined type"
        return f"Invalid non-frozen {word} \"{of}\" for PRIMARY KEY column '{name}': use frozen<{of}>"
    word = DURATION.cql if has_durations(of) else of.cql
    return f"{word} type is not supported for PRIMARY KEY column '{name}'"


def _wrong_order(given: list[str], clustering: list[str]) -> str:
    """What is wrong with a CLUSTERING ORDER BY."""
    if any(name not in clustering for name in given):
        return "Only clustering key columns can be defined in CLUSTERING ORDER directive"
    twice = [name for name in given if given.count(name) > 1]
    if twice:
        return f"Duplicate column '{twice[0]}' in CLUSTERING ORDER BY clause"
    missing = [name for name in clustering if name not in given]
    if missing:
        return f"Missing CLUSTERING ORDER for column {missing[0]}"
    return (
        "The order of columns in the CLUSTERING ORDER directive must match that of the clustering columns "
        f"({', '.join(clustering)})"
    )


def _factor(text: str) -> int:
    digits = text.partition("/")[0]
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 4 or "/" in text:
        raise ConfigurationError(
            f"Replication factor must be an integer, a whole number such as 3; found {text[:60]!r}"
        )
    return int(digits)


_METHODS: Final[dict[type, Callable[[SchemaPlanner, Any], SchemaPlan | NothingPlan]]] = {
    ast.CreateKeyspace: SchemaPlanner.create_keyspace,
    ast.AlterKeyspace: SchemaPlanner.alter_keyspace,
    ast.DropKeyspace: SchemaPlanner.drop_keyspace,
    ast.CreateTable: SchemaPlanner.create_table,
    ast.AddColumns: SchemaPlanner.add_columns,
    ast.DropColumns: SchemaPlanner.drop_columns,
    ast.RenameColumns: SchemaPlanner.rename_columns,
    ast.AlterTable: SchemaPlanner.alter_table,
    ast.DropTable: SchemaPlanner.drop_table,
    ast.Truncate: SchemaPlanner.truncate,
    ast.CreateType: SchemaPlanner.create_type,
    ast.AddFields: SchemaPlanner.add_fields,
    ast.RenameFields: SchemaPlanner.rename_fields,
    ast.DropType: SchemaPlanner.drop_type,
    ast.CreateIndex: SchemaPlanner.create_index,
    ast.DropIndex: SchemaPlanner.drop_index,
    ast.DropAbsent: SchemaPlanner.drop_absent,
}
