"""The statements that recreate what the schema holds: what DESCRIBE answers with.

Each function gives the tree; `text` prints it with its semicolon. A table's indexes are statements of their
own, after it; a keyspace's types come in the order they were made, so that each finds those it uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from core.schema import (
    CLUSTERING,
    PARTITION,
    SIMPLE,
    SIMPLE_INDEX,
    STATIC,
    Index,
    Keyspace,
    Pairs,
    Table,
    UserType,
)
from cql_lite import ast
from cql_lite.formatting_schema import statement


def text(node: ast.SchemaStatement) -> str:
    """The statement with its semicolon."""
    return f"{statement(node)};"


def create_keyspace(keyspace: Keyspace) -> ast.CreateKeyspace:
    """CREATE KEYSPACE."""
    replication = keyspace.replication
    factors = [(name or "replication_factor", str(factor)) for name, factor in replication.factors]
    assert replication.strategy != SIMPLE or len(factors) == 1, replication
    options = (
        ast.Option("replication", (("class", replication.strategy), *factors)),
        ast.Option("durable_writes", "true" if keyspace.durable_writes else "false"),
    )
    return ast.CreateKeyspace(ast.Name(keyspace.name), options)


def create_type(keyspace: str, made: UserType) -> ast.CreateType:
    """CREATE TYPE."""
    fields = tuple(ast.ColumnDefinition(field.name, ast.Type(field.type)) for field in made.fields)
    return ast.CreateType(ast.QualifiedName(keyspace, made.name), fields)


def create_table(table: Table) -> ast.CreateTable:
    """CREATE TABLE, with the options that are not what a new table has."""
    clustering = [column for column in table.columns if column.kind == CLUSTERING]
    return ast.CreateTable(
        ast.QualifiedName(table.keyspace, table.name),
        tuple(ast.ColumnDefinition(c.name, ast.Type(c.type), c.kind == STATIC) for c in table.columns),
        tuple(ast.Name(column.name) for column in table.columns if column.kind == PARTITION),
        tuple(ast.Name(column.name) for column in clustering),
        tuple(ast.ClusteringOrder(column.name, column.descending) for column in clustering),
        tuple(_options(table)),
    )


def _options(table: Table) -> Iterator[ast.Option]:
    options = table.options
    if options.comment:
        yield ast.Option("comment", options.comment)
    if options.default_ttl_s:
        yield ast.Option("default_time_to_live", str(options.default_ttl_s))
    yield ast.Option("gc_grace_seconds", str(options.gc_grace_s))
    maps: tuple[tuple[str, Pairs], ...] = (
        ("caching", options.caching),
        ("compaction", options.compaction),
        ("compression", options.compression),
    )
    for name, value in maps:
        if value:
            yield ast.Option(name, value)
    for name, text_of in options.other:
        yield ast.Option(name, text_of)
    if options.changes != "none":
        yield ast.Option("changes", options.changes)
    if options.changes_kept_s:
        yield ast.Option("changes_retention", str(options.changes_kept_s))
    if options.changes_kept_bytes:
        yield ast.Option("changes_retention_bytes", str(options.changes_kept_bytes))


DOCUMENT_INDEX = "sullae.documents"
"""What an index on paths of documents, which is not made by CQL, is shown as a kind of."""


def shown(index: Index) -> Index:
    """An index as tools see it: one of documents has its paths among its options."""
    if not index.targets:
        return index
    paths = [".".join(target.path) + " DESC" * target.descending for target in index.targets]
    told = [("paths", ", ".join(paths))]
    if index.unique:
        told.append(("unique", "true"))
    if index.expire_after_s >= 0:
        told.append(("expire_after_s", str(index.expire_after_s)))
    return msgspec.structs.replace(index, using=DOCUMENT_INDEX, options=tuple(told))


def create_index(table: Table, index: Index) -> ast.CreateIndex:
    """CREATE INDEX."""
    index = shown(index)
    kind = "" if index.kind == SIMPLE_INDEX else index.kind
    return ast.CreateIndex(
        index.name,
        ast.QualifiedName(table.keyspace, table.name),
        (ast.IndexTarget(index.column, kind),),
        index.using,
        index.options,
        custom=bool(index.using),
    )


def table_statements(table: Table) -> Iterator[ast.SchemaStatement]:
    """A table and its indexes."""
    yield create_table(table)
    for index in table.indexes:
        yield create_index(table, index)


def keyspace_statements(keyspace: Keyspace, tables: Iterable[Table]) -> Iterator[ast.SchemaStatement]:
    """A keyspace, its types, and its tables by name; `tables` may hold those of others too.

    What a unique index keeps comes with the index.
    """
    yield create_keyspace(keyspace)
    for made in keyspace.types:
        yield create_type(keyspace.name, made)
    own = [table for table in tables if table.keyspace == keyspace.name and not table.reserves]
    for table in sorted(own, key=lambda table: table.name):
        yield from table_statements(table)
