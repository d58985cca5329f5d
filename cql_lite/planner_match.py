"""MATCH: rows of a collection of documents by keyword, the best first.

    SELECT id, doc FROM docs.movies WHERE doc MATCH 'space -horror' LIMIT 10
    SELECT id FROM docs.movies WHERE doc['Title'] MATCH 'god*' AND id IN ('1', '2')

The text is a query string as search over REST reads it; after a path it is about that field. The node plans
it by the collection's mapping and answers hit by hit in the order of their scores (node/searches.py), under
this statement's level. Ids that are named restrict the search to their replicas; other relations filter what
was found. A page ends at the score and key of its last row, so that any peer goes on from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from core.consistency import Level
from core.requests import Answer
from core.searching import QueryText, SearchAnswer, SearchHit, SearchRequest
from cql_lite import ast
from cql_lite.errors import InvalidRequestError
from cql_lite.planner_results import Asked, unless_failed
from cql_lite.planner_source import Consumer
from cql_lite.planner_tables import ColumnView, TableView
from cql_lite.planner_terms import Context, Scope, Term, compile_term
from cql_lite.planner_where import Where, column_of, required
from cql_lite.types import JSON, TEXT
from lsm.keys import split_row_key

MATCH_ROWS_MAX: Final = 100
"""Rows per request: documents may be large, and an answer is held in memory."""

_COLLECTIONS: Final = re.compile(r"docs(_rf[1-9][0-9]?)?")
_DOCUMENT: Final = "doc"


class _Place(NamedTuple):
    """Where a hit stands in the order: a page may end after it."""

    score: float
    key: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[float, bytes])


class Mark(NamedTuple):
    """A hit where a page may end (cql_lite/planner_paging.py)."""

    hit: SearchHit
    request: int = 0

    def cursor(self) -> bytes:
        """Where to go on after it."""
        return _encoder.encode((self.hit.score, self.hit.key))


class MatchPlan:
    """The search that a SELECT is."""

    def __init__(self, view: TableView, where: Where, field: str, term: Term) -> None:
        self._view = view
        self._where = where
        self._field = field
        self._term = term

    def request(self, context: Context, level: Level) -> SearchRequest:
        """The search of one execution, from its beginning."""
        text = required(self._term(context), _DOCUMENT).decode()
        partitions = tuple(self._where.partitions(context)) if self._where.names_partitions else ()
        return SearchRequest((self._view.id,), QueryText(text, self._field), level, partitions=partitions)

    def is_empty(self, context: Context) -> bool:
        """Whether no partition is named: `id IN ()`."""
        return self._where.names_partitions and not self._where.partitions(context)


def match_of(
    view: TableView, statement: ast.Select, where: Where, scope: Scope
) -> tuple[MatchPlan | None, list[ast.Relation]]:
    """The search that serves a statement, and the relations that are left to filter.

    Raises InvalidRequestError where MATCH stands but means nothing.
    """
    matches = [relation for relation in where.others if relation.operator == ast.MATCH]
    others = [relation for relation in where.others if relation.operator != ast.MATCH]
    if not matches:
        return None, others
    if len(matches) > 1:
        raise InvalidRequestError("one MATCH to a statement: its text takes AND, OR, + and -")
    relation = matches[0]
    column = _column(view, relation)
    _check_rest(statement, where)
    assert not isinstance(relation.right, ast.InList), "the parser gives MATCH one value"
    term = compile_term(relation.right, TEXT, column.name, scope)
    return MatchPlan(view, where, _field(relation), term), others


def _column(view: TableView, relation: ast.Relation) -> ColumnView:
    left = relation.left
    if not isinstance(left, ast.Target):
        raise InvalidRequestError("MATCH is about one column")
    column = column_of(view, left.column)
    keys = [(key.name, key.type) for key in (*view.partition, *view.clustering)]
    is_collection = _COLLECTIONS.fullmatch(view.keyspace) is not None and keys == [("id", TEXT)]
    if not is_collection or column.name != _DOCUMENT or column.type != JSON:
        raise InvalidRequestError(
            f"{view.keyspace}.{view.name} has no inverted index on {column.name}: MATCH is for column "
            f"{_DOCUMENT} of collections of documents, which are tables in keyspace docs "
            f"(id text PRIMARY KEY, {_DOCUMENT} json)"
        )
    return column


def _check_rest(statement: ast.Select, where: Where) -> None:
    if statement.order_by:
        raise InvalidRequestError("rows that MATCH come by their score, the best first: there is no ORDER BY")
    if statement.group_by or statement.distinct or statement.per_partition_limit is not None:
        raise InvalidRequestError("MATCH goes without DISTINCT, GROUP BY and PER PARTITION LIMIT")
    if where.tokens:
        raise InvalidRequestError(
            "MATCH goes without token(): it searches the whole collection, or named ids"
        )


def _field(relation: ast.Relation) -> str:
    """The path that stands on the left, as the query string names fields."""
    assert isinstance(relation.left, ast.Target)
    names = []
    for step in relation.left.path:
        if not isinstance(step, ast.Key):
            raise InvalidRequestError(f"places in the document {_DOCUMENT} are written {_DOCUMENT}['key']")
        if not isinstance(step.term, ast.Literal) or step.term.kind != ast.STRING:
            raise InvalidRequestError(f"a path before MATCH is made of names: {_DOCUMENT}['a']['b']")
        names.append(step.term.text)
    return ".".join(names)


def from_match(
    request: SearchRequest, consumer: Consumer, rows_wanted: Callable[[], int], after: bytes
) -> Generator[Asked, list[Answer], None]:
    """The rows of a search in their order, from its beginning or after the cursor of a page."""
    at = None if not after else _place_of(after)
    while consumer.wants_more:
        size = max(1, min(rows_wanted(), MATCH_ROWS_MAX))
        place: tuple[tuple[Any, ...], bytes] | None = None if at is None else ((at.score,), at.key)
        (told,) = yield (msgspec.structs.replace(request, size=size, after=place),)
        found = unless_failed(told)
        assert isinstance(found, SearchAnswer), found
        _consume(found.hits, found.now_us, consumer)
        if not found.hits or (at is None and found.total <= size):
            break
        at = _Place(found.hits[-1].score, found.hits[-1].key)
    consumer.end()


def _consume(hits: Sequence[SearchHit], now_us: int, consumer: Consumer) -> None:
    for hit in hits:
        if not consumer.wants_more:
            return
        if hit.row is None:
            continue
        _, _, partition, suffix = split_row_key(hit.key)
        consumer.mark = Mark(hit)
        consumer.begin(partition, None, now_us)
        consumer.row(suffix, hit.row, now_us)


def _place_of(cursor: bytes) -> _Place:
    try:
        return _Place(*_decoder.decode(cursor))
    except msgspec.DecodeError:
        raise InvalidRequestError(
            "the paging state is of another query: run the query from its beginning"
        ) from None
