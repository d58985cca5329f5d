"""DESCRIBE, answered by the server as Cassandra 4 does: names, or the statements that recreate things.

Lists have the columns keyspace_name, type and name; descriptions create_statement besides. `cqlsh` prints
them as they come.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from core.schema import Keyspace, Table
from cql_lite import ast, describe
from cql_lite.errors import InvalidRequestError
from cql_lite.planner_results import Execution, Options, ResultColumn, RowsResult
from cql_lite.planner_schema import SYSTEM_KEYSPACES
from cql_lite.planner_terms import Context, MarkerSpec
from cql_lite.system import PARTITIONER, TABLES, State
from cql_lite.types import TEXT, quoted

SNITCH: Final = "org.apache.cassandra.locator.GossipingPropertyFileSnitch"
LISTS: Final = ("keyspaces", "tables", "types", "functions", "aggregates", "materialized views", "indexes")
THING: Final = ("keyspace_name", "type", "name", "create_statement")


class Thing(NamedTuple):
    """One row of an answer."""

    keyspace: str
    type: str
    name: str
    statement: str = ""


class DescribePlan:
    """DESCRIBE."""

    markers: tuple[MarkerSpec, ...] = ()
    key_markers: tuple[int, ...] = ()

    def __init__(self, statement: ast.Describe, state: State, keyspace: str) -> None:
        self._statement = statement
        self._state = state
        self._keyspace = keyspace

    def execute(self, context: Context, options: Options) -> Execution:
        """Nothing to ask."""
        yield from ()
        if self._statement.what == "cluster":
            return _result(("cluster", "partitioner", "snitch"), [(self._state.name, PARTITIONER, SNITCH)])
        if self._statement.what in LISTS:
            return _result(THING[:3], [thing[:3] for thing in self._listed()])
        return _result(THING, list(self._described()))

    # --- lists

    def _listed(self) -> Iterator[Thing]:
        what = self._statement.what
        if what == "keyspaces":
            names = sorted({*self._state.keyspaces, *(keyspace for keyspace, _ in TABLES)})
            yield from (Thing(name, "keyspace", name) for name in names)
            return
        for name in [self._keyspace] if self._keyspace else sorted(self._state.keyspaces):
            if what == "tables":
                computed = [table for where, table in TABLES if where == name]
                stored = [table.name for table in self._tables(name)]  # some are both: system_traces
                yield from (Thing(name, "table", table) for table in sorted({*stored, *computed}))
            elif what == "types" and name in self._state.keyspaces:
                yield from (Thing(name, "type", of.name) for of in self._state.keyspaces[name].types)
            elif what == "indexes":
                for table in self._tables(name):
                    yield from (Thing(name, "index", index.name) for index in table.indexes)

    def _tables(self, keyspace: str) -> list[Table]:
        found = [table for table in self._state.tables.values() if table.keyspace == keyspace]
        return sorted(found, key=lambda table: table.name)

    # --- statements

    def _described(self) -> Iterator[Thing]:
        statement = self._statement
        if statement.what == "schema":
            for each in sorted(self._state.keyspaces):
                if each not in SYSTEM_KEYSPACES:
                    yield from self._of_keyspace(each)
            return
        named = statement.name
        where = (named.keyspace if named is not None else "") or self._keyspace
        name = named.name if named is not None else ""
        if statement.what == "keyspace":
            whole = self._of_keyspace(name or where)
            yield from itertools.islice(whole, 1 if statement.only else None)
        elif statement.what == "table":
            yield from self._of_table(where, name)
        elif statement.what == "type":
            yield from self._of_type(where, name)
        elif statement.what == "index":
            yield from self._of_index(where, name)
        elif statement.what == "any":
            yield from self._of_any(where, name, named is not None and bool(named.keyspace))
        else:
            raise InvalidRequestError(
                f"{statement.what.capitalize()} '{name}' not found: there are none at all in this version"
            )

    def _keyspace_of(self, name: str) -> Keyspace:
        if not name:
            raise InvalidRequestError("No keyspace specified and no current keyspace: name one")
        found = self._state.keyspaces.get(name)
        if found is None:
            raise InvalidRequestError(f"{quoted(name)} not found in keyspaces: there is no keyspace {name}")
        return found

    def _of_keyspace(self, name: str) -> Iterator[Thing]:
        if name in SYSTEM_KEYSPACES:
            for where, computed in sorted(TABLES):
                if where == name:
                    yield from self._of_table(where, computed)
            return
        keyspace = self._keyspace_of(name)
        yield Thing(name, "keyspace", name, describe.text(describe.create_keyspace(keyspace)))
        for of in keyspace.types:
            yield Thing(name, "type", of.name, describe.text(describe.create_type(name, of)))
        for table in self._tables(name):
            yield from self._of_table(name, table.name)

    def _of_table(self, keyspace: str, name: str) -> Iterator[Thing]:
        computed = TABLES.get((keyspace, name))
        if computed is not None and self._state.table(keyspace, name) is None:
            text = describe.text(describe.create_table(computed.table))
            yield Thing(
                keyspace, "table", name, f"/* computed when it is read, cannot be created:\n{text}\n*/"
            )
            return
        if keyspace not in SYSTEM_KEYSPACES:
            self._keyspace_of(keyspace)
        table = self._state.table(keyspace, name)
        if table is None:
            raise InvalidRequestError(_not_found("Table", keyspace, name))
        yield Thing(keyspace, "table", name, describe.text(describe.create_table(table)))
        for index in table.indexes:
            yield Thing(keyspace, "index", index.name, describe.text(describe.create_index(table, index)))

    def _of_type(self, keyspace: str, name: str) -> Iterator[Thing]:
        of = self._keyspace_of(keyspace).type(name)
        if of is None:
            raise InvalidRequestError(_not_found("User defined type", keyspace, name))
        yield Thing(keyspace, "type", name, describe.text(describe.create_type(keyspace, of)))

    def _of_index(self, keyspace: str, name: str) -> Iterator[Thing]:
        self._keyspace_of(keyspace)
        for table in self._tables(keyspace):
            index = table.index(name)
            if index is not None:
                yield Thing(keyspace, "index", name, describe.text(describe.create_index(table, index)))
                return
        raise InvalidRequestError(_not_found("Table for existing index", keyspace, name))

    def _of_any(self, where: str, name: str, qualified: bool) -> Iterator[Thing]:
        """A name alone: a keyspace, else a table, type or index of the keyspace in use."""
        if not qualified and (name in self._state.keyspaces or name in SYSTEM_KEYSPACES):
            yield from self._of_keyspace(name)
            return
        for kind in (self._of_table, self._of_type, self._of_index):
            try:
                yield from list(kind(where, name))
            except InvalidRequestError:
                continue
            return
        place = f" in keyspace {where}" if where else ""
        raise InvalidRequestError(f"{quoted(name)} not found in keyspaces, tables, types or indexes{place}")


def _not_found(what: str, keyspace: str, name: str) -> str:
    return f"{what} '{name}' not found in keyspace '{keyspace}'"


def _result(names: Sequence[str], rows: Sequence[Sequence[str]]) -> RowsResult:
    columns = tuple(ResultColumn("system", "describe", name, TEXT) for name in names)
    return RowsResult(columns, [[value.encode() for value in row] for row in rows])
