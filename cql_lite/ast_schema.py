"""Statements about keyspaces, tables, types, indexes and roles; used through cql_lite/ast.py."""

from __future__ import annotations

from typing import ClassVar

from cql_lite.ast_terms import START, At, Expression, Marker, Name, Node, QualifiedName, Type


class SchemaStatement(Node, frozen=True, gc=False):
    """What has no bind markers."""

    markers: ClassVar[tuple[Marker, ...]] = ()


class Option(Node, frozen=True, gc=False):
    """name = value after WITH: the text of a constant, or the pairs of a map, in the order written."""

    name: str
    value: str | tuple[tuple[str, str], ...]
    at: At = START


class CreateKeyspace(SchemaStatement, frozen=True, gc=False):
    """CREATE KEYSPACE."""

    name: Name
    options: tuple[Option, ...]
    if_not_exists: bool = False
    at: At = START


class AlterKeyspace(SchemaStatement, frozen=True, gc=False):
    """ALTER KEYSPACE."""

    name: Name
    options: tuple[Option, ...]
    if_exists: bool = False
    at: At = START


class DropKeyspace(SchemaStatement, frozen=True, gc=False):
    """DROP KEYSPACE."""

    name: Name
    if_exists: bool = False
    at: At = START


class ColumnDefinition(Node, frozen=True, gc=False):
    """A column of a table that is made or altered, or a field of a type."""

    name: str
    type: Type
    static: bool = False
    at: At = START


class ClusteringOrder(Node, frozen=True, gc=False):
    """One part of CLUSTERING ORDER BY."""

    column: str
    descending: bool = False
    at: At = START


class CreateTable(SchemaStatement, frozen=True, gc=False):
    """CREATE TABLE; `partition_key` is never empty, whichever way the primary key was given."""

    table: QualifiedName
    columns: tuple[ColumnDefinition, ...]
    partition_key: tuple[Name, ...]
    clustering_key: tuple[Name, ...] = ()
    clustering_order: tuple[ClusteringOrder, ...] = ()
    options: tuple[Option, ...] = ()
    compact_storage: bool = False
    if_not_exists: bool = False
    at: At = START


class AddColumns(SchemaStatement, frozen=True, gc=False):
    """ALTER TABLE ... ADD."""

    table: QualifiedName
    columns: tuple[ColumnDefinition, ...]
    if_exists: bool = False
    if_not_exists: bool = False
    at: At = START


class DropColumns(SchemaStatement, frozen=True, gc=False):
    """ALTER TABLE ... DROP; `if_exists` is about the table, `if_column_exists` about the columns."""

    table: QualifiedName
    columns: tuple[Name, ...]
    if_exists: bool = False
    if_column_exists: bool = False
    timestamp: Expression | None = None
    at: At = START


class RenameColumns(SchemaStatement, frozen=True, gc=False):
    """ALTER TABLE ... RENAME old TO new AND ..."""

    table: QualifiedName
    renames: tuple[tuple[Name, Name], ...]
    if_exists: bool = False
    if_column_exists: bool = False
    at: At = START


class AlterTable(SchemaStatement, frozen=True, gc=False):
    """ALTER TABLE ... WITH."""

    table: QualifiedName
    options: tuple[Option, ...]
    if_exists: bool = False
    at: At = START


class DropTable(SchemaStatement, frozen=True, gc=False):
    """DROP TABLE."""

    table: QualifiedName
    if_exists: bool = False
    at: At = START


class Truncate(SchemaStatement, frozen=True, gc=False):
    """TRUNCATE."""

    table: QualifiedName
    at: At = START


class CreateType(SchemaStatement, frozen=True, gc=False):
    """CREATE TYPE."""

    type: QualifiedName
    fields: tuple[ColumnDefinition, ...]
    if_not_exists: bool = False
    at: At = START


class AddFields(SchemaStatement, frozen=True, gc=False):
    """ALTER TYPE ... ADD."""

    type: QualifiedName
    fields: tuple[ColumnDefinition, ...]
    if_exists: bool = False
    if_not_exists: bool = False
    at: At = START


class RenameFields(SchemaStatement, frozen=True, gc=False):
    """ALTER TYPE ... RENAME old TO new AND ..."""

    type: QualifiedName
    renames: tuple[tuple[Name, Name], ...]
    if_exists: bool = False
    if_field_exists: bool = False
    at: At = START


class DropType(SchemaStatement, frozen=True, gc=False):
    """DROP TYPE."""

    type: QualifiedName
    if_exists: bool = False
    at: At = START


class DropAbsent(SchemaStatement, frozen=True, gc=False):
    """DROP FUNCTION, AGGREGATE, TRIGGER or MATERIALIZED VIEW, of which there are none; `what` is which."""

    what: str
    name: QualifiedName
    if_exists: bool = False
    at: At = START


SIMPLE_INDEX, KEYS_INDEX, VALUES_INDEX, ENTRIES_INDEX, FULL_INDEX = "", "keys", "values", "entries", "full"


class IndexTarget(Node, frozen=True, gc=False):
    """What an index is on: a column (kind empty), or keys, values, entries or full of one."""

    column: str
    kind: str = SIMPLE_INDEX
    at: At = START


class CreateIndex(SchemaStatement, frozen=True, gc=False):
    """CREATE [CUSTOM] INDEX; an empty name means one made of table and column."""

    name: str
    table: QualifiedName
    targets: tuple[IndexTarget, ...]
    using: str = ""
    options: tuple[tuple[str, str], ...] = ()
    custom: bool = False
    if_not_exists: bool = False
    at: At = START


class DropIndex(SchemaStatement, frozen=True, gc=False):
    """DROP INDEX."""

    index: QualifiedName
    if_exists: bool = False
    at: At = START


class Use(SchemaStatement, frozen=True, gc=False):
    """USE."""

    keyspace: Name
    at: At = START


class Describe(SchemaStatement, frozen=True, gc=False):
    """DESCRIBE, as Cassandra 4 answers it on the server.

    `what` is cluster, schema, keyspaces, tables, types, indexes, functions, aggregates, materialized views,
    or one of keyspace, table, type, index, function, aggregate, materialized view, and `any` (just a name).
    For a keyspace the name is `name.name`; None is the current one. `full` is that of FULL SCHEMA, `only`
    that of ONLY KEYSPACE (without its tables and types).
    """

    what: str
    name: QualifiedName | None = None
    full: bool = False
    internals: bool = False
    only: bool = False
    at: At = START


# --- roles and permissions


class RoleOptions(Node, frozen=True, gc=False):
    """What WITH says of a role; None where it says nothing. `datacenters` empty means all."""

    password: str | None = None
    hashed: bool = False
    login: bool | None = None
    superuser: bool | None = None
    options: tuple[tuple[str, str], ...] | None = None
    datacenters: tuple[str, ...] | None = None


class CreateRole(SchemaStatement, frozen=True, gc=False):
    """CREATE ROLE, or CREATE USER (`user`; it may log in)."""

    role: Name
    options: RoleOptions = RoleOptions()
    if_not_exists: bool = False
    user: bool = False
    at: At = START


class AlterRole(SchemaStatement, frozen=True, gc=False):
    """ALTER ROLE or USER."""

    role: Name
    options: RoleOptions = RoleOptions()
    if_exists: bool = False
    user: bool = False
    at: At = START


class DropRole(SchemaStatement, frozen=True, gc=False):
    """DROP ROLE or USER."""

    role: Name
    if_exists: bool = False
    user: bool = False
    at: At = START


class GrantRole(SchemaStatement, frozen=True, gc=False):
    """GRANT role TO other."""

    role: Name
    to: Name
    at: At = START


class RevokeRole(SchemaStatement, frozen=True, gc=False):
    """REVOKE role FROM other."""

    role: Name
    of: Name
    at: At = START


class Resource(Node, frozen=True, gc=False):
    """What a permission is about.

    `kind` is all keyspaces, keyspace, all tables (of the keyspace in `name.keyspace`), table, all roles,
    role, all functions (of that keyspace, if one is named), function, all mbeans or mbean.
    """

    kind: str
    name: QualifiedName | None = None
    at: At = START


class Grant(SchemaStatement, frozen=True, gc=False):
    """GRANT permissions ON resource TO role; the permissions are in capitals, none means all."""

    permissions: tuple[str, ...]
    resource: Resource
    role: Name
    at: At = START


class Revoke(SchemaStatement, frozen=True, gc=False):
    """REVOKE permissions ON resource FROM role; none means all."""

    permissions: tuple[str, ...]
    resource: Resource
    role: Name
    at: At = START


class ListRoles(SchemaStatement, frozen=True, gc=False):
    """LIST ROLES [OF role] [NORECURSIVE], or LIST USERS."""

    of: Name | None = None
    recursive: bool = True
    users: bool = False
    at: At = START


class ListPermissions(SchemaStatement, frozen=True, gc=False):
    """LIST permissions [ON resource] [OF role] [NORECURSIVE]; none means all."""

    permissions: tuple[str, ...] = ()
    resource: Resource | None = None
    of: Name | None = None
    recursive: bool = True
    at: At = START
