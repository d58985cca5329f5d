"""CQL text from statements about the schema, as DESCRIBE prints it: it parses to the same tree again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from cql_lite import ast
from cql_lite.formatting import expression, identifier, qualified, string

_PLAIN: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?|true|false")
_AND: Final = "\n    AND "


def statement(node: ast.SchemaStatement) -> str:
    """The CQL of a statement about keyspaces, tables, types or indexes, without a semicolon.

    Raises:
        KeyError: It is about something else (roles, DESCRIBE).
    """
    return _STATEMENTS[type(node)](node)


def pairs(value: Iterable[tuple[str, str]]) -> str:
    """A map of text."""
    return "{" + ", ".join(f"{string(name)}: {string(text)}" for name, text in value) + "}"


def _if(node: Any) -> str:
    if getattr(node, "if_not_exists", False):
        return "IF NOT EXISTS "
    return "IF EXISTS " if getattr(node, "if_exists", False) else ""


def _option(option: ast.Option) -> str:
    if not isinstance(option.value, str):
        value = pairs(option.value)
    else:
        value = option.value if _PLAIN.fullmatch(option.value) else string(option.value)
    return f"{identifier(option.name)} = {value}"


def _names(names: Iterable[ast.Name]) -> str:
    return ", ".join(identifier(name.text) for name in names)


def _create_keyspace(node: ast.CreateKeyspace) -> str:
    options = " AND ".join(map(_option, node.options))
    return f"CREATE KEYSPACE {_if(node)}{identifier(node.name.text)} WITH {options}"


def _alter_keyspace(node: ast.AlterKeyspace) -> str:
    options = " AND ".join(map(_option, node.options))
    return f"ALTER KEYSPACE {_if(node)}{identifier(node.name.text)} WITH {options}"


def _column(column: ast.ColumnDefinition) -> str:
    return f"{identifier(column.name)} {column.type.text}{' static' if column.static else ''}"


def _create_table(node: ast.CreateTable) -> str:
    alone = len(node.partition_key) == 1 and not node.clustering_key
    lines = [
        _column(column) + (" PRIMARY KEY" if alone and column.name == node.partition_key[0].text else "")
        for column in node.columns
    ]
    if not any(line.endswith(" PRIMARY KEY") for line in lines):
        partition = _names(node.partition_key)
        if len(node.partition_key) > 1:
            partition = f"({partition})"
        clustering = f", {_names(node.clustering_key)}" if node.clustering_key else ""
        lines.append(f"PRIMARY KEY ({partition}{clustering})")
    properties = list(map(_option, node.options))
    if node.compact_storage:
        properties.insert(0, "COMPACT STORAGE")
    if node.clustering_order:
        order = (f"{identifier(o.column)} {'DESC' if o.descending else 'ASC'}" for o in node.clustering_order)
        properties.insert(0, f"CLUSTERING ORDER BY ({', '.join(order)})")
    end = f" WITH {_AND.join(properties)}" if properties else ""
    body = ",\n    ".join(lines)
    return f"CREATE TABLE {_if(node)}{qualified(node.table)} (\n    {body}\n){end}"


def _alter_table(node: ast.AlterTable) -> str:
    options = " AND ".join(map(_option, node.options))
    return f"ALTER TABLE {_if(node)}{qualified(node.table)} WITH {options}"


def _table(node: Any) -> str:
    return f"ALTER TABLE {'IF EXISTS ' if node.if_exists else ''}{qualified(node.table)}"


def _type(node: Any) -> str:
    return f"ALTER TYPE {'IF EXISTS ' if node.if_exists else ''}{qualified(node.type)}"


def _add_columns(node: ast.AddColumns) -> str:
    absent = "IF NOT EXISTS " if node.if_not_exists else ""
    return f"{_table(node)} ADD {absent}({', '.join(map(_column, node.columns))})"


def _drop_columns(node: ast.DropColumns) -> str:
    present = "IF EXISTS " if node.if_column_exists else ""
    using = "" if node.timestamp is None else f" USING TIMESTAMP {expression(node.timestamp)}"
    return f"{_table(node)} DROP {present}({_names(node.columns)}){using}"


def _renames(renames: Iterable[tuple[ast.Name, ast.Name]]) -> str:
    return " AND ".join(f"{identifier(old.text)} TO {identifier(new.text)}" for old, new in renames)


def _rename_columns(node: ast.RenameColumns) -> str:
    return f"{_table(node)} RENAME {'IF EXISTS ' if node.if_column_exists else ''}{_renames(node.renames)}"


def _create_type(node: ast.CreateType) -> str:
    fields = ",\n    ".join(map(_column, node.fields))
    return f"CREATE TYPE {_if(node)}{qualified(node.type)} (\n    {fields}\n)"


def _add_fields(node: ast.AddFields) -> str:
    absent = "IF NOT EXISTS " if node.if_not_exists else ""
    fields = ", ".join(map(_column, node.fields))
    return f"{_type(node)} ADD {absent}{fields if len(node.fields) == 1 else f'({fields})'}"


def _rename_fields(node: ast.RenameFields) -> str:
    return f"{_type(node)} RENAME {'IF EXISTS ' if node.if_field_exists else ''}{_renames(node.renames)}"


def _target(target: ast.IndexTarget) -> str:
    column = identifier(target.column)
    return f"{target.kind}({column})" if target.kind else column


def _create_index(node: ast.CreateIndex) -> str:
    custom = "CUSTOM " if node.custom else ""
    name = f"{identifier(node.name)} " if node.name else ""
    targets = ", ".join(map(_target, node.targets))
    using = f" USING {string(node.using)}" if node.using else ""
    options = f" WITH OPTIONS = {pairs(node.options)}" if node.options else ""
    return f"CREATE {custom}INDEX {_if(node)}{name}ON {qualified(node.table)} ({targets}){using}{options}"


_STATEMENTS: Final[dict[type, Callable[[Any], str]]] = {
    ast.CreateKeyspace: _create_keyspace,
    ast.AlterKeyspace: _alter_keyspace,
    ast.DropKeyspace: lambda node: f"DROP KEYSPACE {_if(node)}{identifier(node.name.text)}",
    ast.CreateTable: _create_table,
    ast.AddColumns: _add_columns,
    ast.DropColumns: _drop_columns,
    ast.RenameColumns: _rename_columns,
    ast.AlterTable: _alter_table,
    ast.DropTable: lambda node: f"DROP TABLE {_if(node)}{qualified(node.table)}",
    ast.Truncate: lambda node: f"TRUNCATE {qualified(node.table)}",
    ast.CreateType: _create_type,
    ast.AddFields: _add_fields,
    ast.RenameFields: _rename_fields,
    ast.DropType: lambda node: f"DROP TYPE {_if(node)}{qualified(node.type)}",
    ast.CreateIndex: _create_index,
    ast.DropAbsent: lambda node: f"DROP {node.what.upper()} {_if(node)}{qualified(node.name)}",
    ast.DropIndex: lambda node: f"DROP INDEX {_if(node)}{qualified(node.index)}",
    ast.Use: lambda node: f"USE {identifier(node.keyspace.text)}",
}
