"""CREATE INDEX: what may be indexed, and what the kinds of index of Cassandra come to here.

There is one kind of secondary index, local to each replica and in the order of values; it serves what the
plain one, SASI and SAI of Cassandra serve. Their class names and options are kept, so that tools read back
what was written; options that would change answers and are not known are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from core.schema import (
    ENTRIES_INDEX,
    FULL_INDEX,
    KEYS_INDEX,
    PARTITION,
    SIMPLE_INDEX,
    VALUES_INDEX,
    Index,
    Table,
)
from cql_lite import ast
from cql_lite.errors import ConfigurationError, InvalidRequestError
from cql_lite.planner_functions import SIMILARITY_MEASURES
from cql_lite.types import COUNTER, DURATION, JSON, ListType, MapType, SetType, Text, Type

SAI: Final = "StorageAttachedIndex"
SASI: Final = "org.apache.cassandra.index.sasi.SASIIndex"
CLASSES: Final = {
    "sai": SAI,
    "storageattachedindex": SAI,
    "org.apache.cassandra.index.sai.storageattachedindex": SAI,
    "sasiindex": SASI,
    "org.apache.cassandra.index.sasi.sasiindex": SASI,
    "legacy_local_table": "",
}
"""What may stand after USING, in any case, and what is kept of it."""

_MODES: Final = ("PREFIX", "CONTAINS", "SPARSE")
_PLAIN_ANALYZER: Final = "org.apache.cassandra.index.sasi.analyzer.NonTokenizingAnalyzer"
_BOOLEANS: Final = ("true", "false")
_OF_TEXT: Final = ("case_sensitive", "normalize", "ascii")
_IGNORED: Final = (
    "max_compaction_flush_memory_in_mb", "is_literal", "source_model", "maximum_node_connections",
    "construction_beam_width", "optimize_for", "enable_hierarchy", "neighborhood_overflow", "alpha",
)  # fmt: skip


def index_of(statement: ast.CreateIndex, table: Table, parsed: Callable[[str], Type]) -> Index:
    """The index to make; raises RequestError. `parsed` gives the type of a CQL text."""
    if len(statement.targets) != 1:
        raise InvalidRequestError("Only CUSTOM indexes support multiple columns: create one for each")
    target = statement.targets[0]
    column = table.column(target.column)
    if column is None:
        raise InvalidRequestError(
            f"Column '{target.column}' doesn't exist: Undefined column name {target.column} in table "
            f"{table.keyspace}.{table.name}"
        )
    of = parsed(column.type)
    kind = _kind(target, of)
    if column.kind == PARTITION and sum(each.kind == PARTITION for each in table.columns) == 1:
        raise InvalidRequestError(
            f"Cannot create secondary index on the only partition key column {column.name}: rows are found "
            "by it without an index"
        )
    using = _class(statement)
    _check_options(statement)
    options = tuple(
        (name, value.lower() if name in (*_OF_TEXT, "similarity_function") else value)
        for name, value in statement.options
        if name not in _OF_TEXT or isinstance(of, Text)
    )
    return Index(0, statement.name, column.name, kind, using, options)


def _kind(target: ast.IndexTarget, of: Type) -> str:
    name, kind = target.column, target.kind or SIMPLE_INDEX
    if of == COUNTER:
        raise InvalidRequestError(f"Secondary indexes are not supported on counter tables: {name} is one")
    if of == DURATION:
        raise InvalidRequestError(f"Secondary indexes are not supported on duration columns such as {name}")
    if of == JSON:
        raise InvalidRequestError(
            f"{name} is a json column: indexes on paths of documents are made with PUT "
            "/v1/docs/{collection}/_indexes/{name}"
        )
    if isinstance(of, (ListType, SetType, MapType)):
        return _collection_kind(name, kind, of)
    if of.is_multicell:
        raise InvalidRequestError(f"Cannot create index on non-frozen UDT column {name}")
    if kind != SIMPLE_INDEX:
        raise InvalidRequestError(
            f"Cannot create {kind}() index on {name}. Non-collection columns only support simple indexes"
        )
    return SIMPLE_INDEX


def _collection_kind(name: str, kind: str, of: ListType | SetType | MapType) -> str:
    if not of.is_multicell:
        if kind != FULL_INDEX:
            word = VALUES_INDEX if kind == SIMPLE_INDEX else kind
            raise InvalidRequestError(
                f"Cannot create {word}() index on frozen column {name}. Frozen collections are immutable and "
                f"must be fully indexed by using the 'full({name})' modifier"
            )
        return FULL_INDEX
    if kind == FULL_INDEX:
        raise InvalidRequestError(
            f"full() indexes can only be created on frozen collections; {name} is a {of}: write "
            f"values({name})"
        )
    if kind in (KEYS_INDEX, ENTRIES_INDEX) and not isinstance(of, MapType):
        raise InvalidRequestError(
            f"Cannot create index on {kind} of column {name} with non-map type {of}: write values({name})"
        )
    return VALUES_INDEX if kind == SIMPLE_INDEX else kind


def _class(statement: ast.CreateIndex) -> str:
    if not statement.using:
        if statement.custom:
            raise InvalidRequestError(
                "CUSTOM index requires specifying the index class: add USING 'StorageAttachedIndex'"
            )
        return ""
    known = CLASSES.get(statement.using.lower())
    if known is None:
        raise ConfigurationError(
            f"Unable to find custom indexer class {statement.using[:80]!r}: leave USING out, or take "
            "'StorageAttachedIndex' or 'org.apache.cassandra.index.sasi.SASIIndex', which are served alike"
        )
    return known


def _check_similarity(value: str, column: str) -> None:
    if value.lower() not in SIMILARITY_MEASURES:
        raise InvalidRequestError(
            f"Similarity function {value[:60]} was not recognized for column {column}. Valid values are: "
            f"{', '.join(SIMILARITY_MEASURES)}"
        )


def _check_options(statement: ast.CreateIndex) -> None:
    for name, value in statement.options:
        low = value.lower()
        if name in _OF_TEXT:
            fine = low in _BOOLEANS  # of what is no text it says nothing
        elif name == "analyzed":
            fine = low == "false"
        elif name == "similarity_function":
            _check_similarity(value, statement.targets[0].column)
            fine = True
        elif name == "mode":
            fine = value.upper() in _MODES
        elif name == "analyzer_class":
            fine = value == _PLAIN_ANALYZER
        else:
            fine = name in _IGNORED
        if not fine:
            raise ConfigurationError(
                f"an index has no option {name} = {value!r} here: there are case_sensitive, normalize, "
                "ascii and mode; words of a text are found by search, not by a secondary index"
            )
