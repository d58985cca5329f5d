"""The types of columns as index/ wants them: CQL's, whose ordered forms are those of clustering keys.

Every table has CQL types, whatever door made it: buckets and collections are tables too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from core.errors import RequestError
from core.schema import Keyspace, Table
from cql_lite.types import COUNTER, JSON as JSON_TYPE, ListType, MapType, SetType, Type, UserType, parse_type
from index.entries import JSON, LIST, MAP, OTHER, SCALAR, SET, ColumnType

if TYPE_CHECKING:
    from node.metadata import Metadata


def types_from(metadata: Callable[[], Metadata]) -> Callable[[Table], Mapping[str, ColumnType]]:
    """Gives the types of a table's columns by the schema of now, without those that are not understood."""

    def types(table: Table) -> Mapping[str, ColumnType]:
        keyspace = metadata().state.keyspaces.get(table.keyspace)
        found: dict[str, ColumnType] = {}
        for column in table.columns:
            try:
                of = parse_type(column.type, _resolver(keyspace))
            except RequestError:
                continue
            found[column.name] = column_type(of)
        return found

    return types


def _resolver(keyspace: Keyspace | None) -> Callable[[str, str], UserType | None]:
    def resolve(_named: str, name: str) -> UserType | None:
        known = None if keyspace is None else keyspace.type(name)
        if keyspace is None or known is None:
            return None
        types = tuple(parse_type(field.type, resolve) for field in known.fields)
        names = tuple(field.name for field in known.fields)
        return UserType(types=types, keyspace=keyspace.name, name=name, names=names, frozen=False)

    return resolve


def column_type(of: Type) -> ColumnType:
    """One type."""
    if of == JSON_TYPE:
        return ColumnType(JSON, of.key, of.from_key)
    if of == COUNTER:
        return ColumnType(OTHER, of.key, of.from_key)
    if not of.is_multicell:
        return ColumnType(SCALAR, of.key, of.from_key)
    if isinstance(of, ListType):
        return ColumnType(LIST, of.element.key, of.from_key)
    if isinstance(of, SetType):
        return ColumnType(SET, of.element.key, of.from_key)
    if isinstance(of, MapType):
        return ColumnType(MAP, of.values.key, of.from_key)
    return ColumnType(OTHER, of.key, of.from_key)
