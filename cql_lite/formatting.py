"""CQL text from trees: expressions, and every statement that makes or changes the schema.

What is printed parses to the same tree again; DESCRIBE rests on that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from cql_lite import ast
from cql_lite.parse_base import RESERVED

_BARE: Final = re.compile(r"[a-z][a-z0-9_]*")


def identifier(name: str) -> str:
    """A name as it must be written: bare if that means the same, else between double quotes."""
    if _BARE.fullmatch(name) and name.upper() not in RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


def qualified(name: ast.QualifiedName) -> str:
    """[keyspace.]name."""
    if not name.keyspace:
        return identifier(name.name)
    return f"{identifier(name.keyspace)}.{identifier(name.name)}"


def string(text: str) -> str:
    """A text literal."""
    return "'" + text.replace("'", "''") + "'"


# --- expressions


def expression(node: ast.Expression) -> str:
    """The CQL of an expression."""
    return _EXPRESSIONS[type(node)](node)


def _joined(nodes: Iterable[ast.Expression]) -> str:
    return ", ".join(expression(node) for node in nodes)


def _literal(node: ast.Literal) -> str:
    return string(node.text) if node.kind == ast.STRING else node.text


def _marker(node: ast.Marker) -> str:
    return f":{identifier(node.name)}" if node.name else "?"


def _map(node: ast.MapLiteral) -> str:
    return "{" + ", ".join(f"{expression(k)}: {expression(v)}" for k, v in node.entries) + "}"


def _udt(node: ast.UdtLiteral) -> str:
    return "{" + ", ".join(f"{identifier(k.text)}: {expression(v)}" for k, v in node.fields) + "}"


def _call(node: ast.FunctionCall) -> str:
    keyspace = f"{identifier(node.keyspace)}." if node.keyspace else ""
    bare = node.name if node.name == "token" else identifier(node.name)
    return f"{keyspace}{bare}({_joined(node.arguments)})"


def _slice(node: ast.SliceAccess) -> str:
    first = "" if node.first is None else expression(node.first)
    last = "" if node.last is None else expression(node.last)
    return f"{expression(node.of)}[{first}..{last}]"


_PRODUCTS: Final = frozenset(["*", "/", "%"])


def _is_signed(node: ast.Expression) -> bool:
    return isinstance(node, ast.Negation) or (isinstance(node, ast.Literal) and node.text.startswith("-"))


def _operand(node: ast.Expression) -> str:
    text = expression(node)
    return f"({text})" if _is_signed(node) or isinstance(node, (ast.Arithmetic, ast.TypeHint)) else text


def _arithmetic(node: ast.Arithmetic) -> str:
    left, right = node.left, node.right
    binds = isinstance(left, ast.Arithmetic) and (
        left.operator in _PRODUCTS or node.operator not in _PRODUCTS
    )
    first = expression(left) if binds else _operand(left)
    binds = (
        isinstance(right, ast.Arithmetic) and right.operator in _PRODUCTS and node.operator not in _PRODUCTS
    )
    second = expression(right) if binds else _operand(right)
    return f"{first} {node.operator} {second}"


def _negation(node: ast.Negation) -> str:
    constant = isinstance(node.term, ast.Literal)
    return f"-({expression(node.term)})" if constant else f"-{_operand(node.term)}"


_EXPRESSIONS: Final[dict[type, Callable[[Any], str]]] = {
    ast.Literal: _literal,
    ast.Marker: _marker,
    ast.ListLiteral: lambda node: f"[{_joined(node.items)}]",
    ast.SetLiteral: lambda node: f"{{{_joined(node.items)}}}",
    ast.MapLiteral: _map,
    ast.TupleLiteral: lambda node: f"({_joined(node.items)})",
    ast.UdtLiteral: _udt,
    ast.TypeHint: lambda node: f"({node.type.text}) {_operand(node.term)}",
    ast.Cast: lambda node: f"cast({expression(node.term)} as {node.type.text})",
    ast.Star: lambda _: "*",
    ast.FunctionCall: _call,
    ast.ColumnRef: lambda node: identifier(node.name),
    ast.ElementAccess: lambda node: f"{expression(node.of)}[{expression(node.key)}]",
    ast.SliceAccess: _slice,
    ast.FieldAccess: lambda node: f"{expression(node.of)}.{identifier(node.field)}",
    ast.Arithmetic: _arithmetic,
    ast.Negation: _negation,
}


def target(node: ast.Target) -> str:
    """A column or a place in it."""
    steps = [
        f".{identifier(step.name)}" if isinstance(step, ast.Field) else f"[{expression(step.term)}]"
        for step in node.path
    ]
    return identifier(node.column) + "".join(steps)


def assignment(node: ast.Assignment) -> str:
    """One part of SET."""
    place, value = target(node.target), expression(node.value)
    return {
        ast.ADD: f"{place} = {place} + {value}",
        ast.SUBTRACT: f"{place} = {place} - {value}",
        ast.PREPEND: f"{place} = {value} + {place}",
    }.get(node.operation, f"{place} = {value}")


_PLAIN_FUNCTIONS: Final = frozenset(
    ["writetime", "maxwritetime", "max_writetime", "minwritetime", "min_writetime", "ttl"]
)


def column_title(node: ast.Expression) -> str:
    """What Cassandra calls the column of a projection without an alias: v, count, system.max(v), a.b."""
    if isinstance(node, ast.ColumnRef):
        return node.name
    if isinstance(node, ast.FunctionCall):
        if node.name == "count" and node.arguments and not isinstance(node.arguments[0], ast.ColumnRef):
            return "count"
        inner = ", ".join(column_title(argument) for argument in node.arguments)
        if node.name in _PLAIN_FUNCTIONS:
            return f"{node.name}({inner})"
        return f"{node.keyspace or 'system'}.{node.name}({inner})"
    if isinstance(node, ast.FieldAccess):
        return f"{column_title(node.of)}.{node.field}"
    if isinstance(node, ast.ElementAccess):
        return f"{column_title(node.of)}[{expression(node.key)}]"
    if isinstance(node, ast.TypeHint):
        return f"({node.type.text}){expression(node.term)}"
    if isinstance(node, ast.Cast):
        return f"cast({column_title(node.term)} as {node.type.text})"
    return expression(node)
