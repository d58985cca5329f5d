"""A search as JSON, in Elasticsearch's words, and where its pages end.

A page ends at the sort values (or the score) and the row key of its last hit. A *cursor* is those, bound to
the tables, the query and the order that they belong to: one of another search is refused. Elasticsearch's
list of sort values is taken, too; documents that are equal to it in all of them are then passed over, as
there.
"""

from __future__ import annotations

import base64
import binascii
import re
from hashlib import blake2b
from typing import Any, Final

import msgspec

from core.consistency import Level
from index.aggregation import Aggregations, Filtered, GlobalOf
from index.aggregation_dsl import parse_aggregations
from index.body_members import check_members, named_queries, read_collapse, read_fields
from index.bounds import WINDOW_MAX, QueryError, RefusedError, check_size
from index.highlight_dsl import Highlight, read_highlight
from index.options import Body
from index.query import LAST_KEY, All, FunctionScore, Query, SortKey, SortValue
from index.query_dsl import read_query
from index.query_string import Options, Problem, parse_query_string
from index.sort_dsl import Source, read_sort, read_source
from index.suggesting import Suggestion, read_suggestions

TIMEOUT_MS_MAX: Final = 600_000
_TIMEOUT: Final = re.compile(r"(\d{1,9})(ms|s|m)", re.ASCII)
PARTITIONS_MAX: Final = 1_000


class SearchBody(msgspec.Struct, frozen=True):
    """What is asked. `ids` are documents to which the search is restricted, and routed. `post` narrows the
    hits, not what is aggregated. Values of the fields in `shown` stand beside the source. Of each value of
    `collapse` one hit is shown; of `named` queries it is told which ones a hit matches.
    """

    query: Query = All()
    size: int = 10
    offset: int = 0
    sort: tuple[SortKey, ...] = ()
    after: str | tuple[SortValue, ...] | None = None
    aggregations: Aggregations = ()
    source: Source = True
    highlight: Highlight | None = None
    explain: bool = False
    fresh: bool = True
    allow_partial: bool = False
    ids: tuple[str, ...] = ()
    level: Level = Level.QUORUM
    timeout_ms: int = 0
    problems: tuple[Problem, ...] = ()
    post: Query | None = None
    shown: tuple[str, ...] = ()
    collapse: str = ""
    named: tuple[tuple[str, Query], ...] = ()
    suggestions: tuple[Suggestion, ...] = ()

    @property
    def globals(self) -> Aggregations:
        """Aggregations of all documents, as the filters that they are in a question of their own."""
        return tuple(
            (name, Filtered((("", All()),), asked.inside))
            for name, asked in self.aggregations
            if isinstance(asked, GlobalOf)
        )

    @property
    def locals(self) -> Aggregations:
        """Aggregations of what matches."""
        return tuple(each for each in self.aggregations if not isinstance(each[1], GlobalOf))


def parse_body(body: Any, *, now_us: int) -> SearchBody | QueryError:
    """A whole body, or what is wrong with it and where."""
    try:
        return _read(Body(body, "body", 0), now_us)
    except RefusedError as refused:
        return refused.error


def _read(body: Body, now_us: int) -> SearchBody:
    query: Query = All()
    problems: tuple[Problem, ...] = ()
    given = body.take("query")
    text = body.take("q")
    if given is not None and text is not None:
        raise RefusedError("either query or q, not both", "body")
    if given is not None:
        query = read_query(given, "query", 0)
        check_size(query)
    check_members(body)
    least = body.number("min_score", 0.0, 0.0, 3.4028235e38) if body.take("min_score") is not None else None
    lenient, operator = body.boolean("lenient", False), body.one_of("default_operator", ("or", "and"), "or")
    fields = body.fields() if text is not None else ()
    shown = () if text is not None else read_fields(body.take("fields", []))
    if text is not None:
        query, problems = _of_text(text, lenient, operator, fields)
    if least is not None:
        query = FunctionScore(query, least=least)
    return SearchBody(
        query,
        body.integer("size", 10, 0, WINDOW_MAX),
        body.integer("from", 0, 0, WINDOW_MAX),
        read_sort(body.take("sort"), "sort"),
        _after(body.take("search_after")),
        _aggregations(body, now_us),
        read_source(body.take("_source"), "_source"),
        read_highlight(body.take("highlight")),
        body.boolean("explain", False),
        _refresh(body.take("refresh", True)),
        body.boolean("allow_partial", False),
        _ids(body.take("ids", [])),
        _level(body.take("consistency", "quorum")),
        _timeout_ms(body),
        problems,
        shown=shown,
        collapse=read_collapse(body),
        suggestions=read_suggestions(body.take("suggest")),
        named=(*named_queries(given), *named_queries(body.take("post_filter"))),
        post=_post_filter(body),
    )


def _timeout_ms(body: Body) -> int:
    """`timeout_ms`, or Elasticsearch's `timeout` as in 500ms, 2s or 1m."""
    text = body.text("timeout")
    match = _TIMEOUT.fullmatch(text)
    if text and match is None:
        raise RefusedError("timeout is such as 500ms, 2s or 1m", "body")
    given = 0 if match is None else int(match[1]) * {"ms": 1, "s": 1_000, "m": 60_000}[match[2]]
    timeout_ms = body.integer("timeout_ms", min(given, TIMEOUT_MS_MAX), 0, TIMEOUT_MS_MAX)
    if not timeout_ms and (text or "timeout_ms" in body.object()):
        raise RefusedError(f"a timeout is 1 to {TIMEOUT_MS_MAX} milliseconds", "body")
    return timeout_ms


def _post_filter(body: Body) -> Query | None:
    """The query, if there is one; what nobody took of the body is refused."""
    total = body.take("track_total_hits", True)
    if not isinstance(total, bool | int):
        raise RefusedError("track_total_hits is true, false or a number: totals are always exact", "body")
    given = body.take("post_filter")
    body.leftover()
    if given is None:
        return None
    query = read_query(given, "post_filter", 0)
    check_size(query)
    return query


def _of_text(
    text: Any, lenient: bool, operator: str, fields: tuple[tuple[str, float], ...]
) -> tuple[Query, tuple[Problem, ...]]:
    if not isinstance(text, str):
        raise RefusedError("q is text", "body")
    options = Options(operator=operator, lenient=lenient)
    parsed = parse_query_string(text, msgspec.structs.replace(options, fields=fields) if fields else options)
    if isinstance(parsed, QueryError):
        raise RefusedError(parsed.detail, "q", parsed.position)
    return parsed.query, parsed.problems


def _aggregations(body: Body, now_us: int) -> Aggregations:
    one, other = body.take("aggs"), body.take("aggregations")
    given = other if one is None else one
    if given is None:
        return ()
    found = parse_aggregations(given, "aggs", now_us=now_us)
    if isinstance(found, QueryError):
        raise RefusedError(found.detail, found.path, found.position)
    return found


def _refresh(value: Any) -> bool:
    if value in (True, "true", "", "wait_for"):
        return True
    if value in (False, "false"):
        return False
    raise RefusedError("refresh is true or false", "body")


def _level(value: Any) -> Level:
    try:
        return Level(str(value).lower())
    except ValueError:
        known = ", ".join(level.value for level in Level)
        raise RefusedError(f"no level is called {str(value)[:40]!r}; there are: {known}", "body") from None


def _ids(value: Any) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    good = isinstance(listed, list) and len(listed) <= PARTITIONS_MAX
    if not good or not all(isinstance(each, str) and 0 < len(each) <= 65_535 for each in listed):
        raise RefusedError(f"ids is a list of at most {PARTITIONS_MAX} ids", "body")
    return tuple(listed)


def _after(value: Any) -> str | tuple[SortValue, ...] | None:
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list) or not all(
        each is None or isinstance(each, bool | int | float | str) for each in value
    ):
        raise RefusedError("search_after is a cursor, or the sort values of a hit", "body")
    return tuple(value)


# --- cursors


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    search: bytes
    sort: tuple[SortValue, ...]
    key: bytes


_decoder = msgspec.msgpack.Decoder(_Cursor)

def encode_cursor(tables: tuple[int, ...], body: SearchBody, at: tuple[tuple[Any, ...], bytes]) -> str:
    """Where a page of this search ended."""
    data = msgspec.msgpack.encode(_Cursor(_fingerprint(tables, body), *at))
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def resolve_after(
    tables: tuple[int, ...], body: SearchBody
) -> tuple[tuple[SortValue, ...], bytes] | QueryError | None:
    """Where to go on, or why not."""
    if body.after is None:
        return None
    if not isinstance(body.after, str):
        values = len(body.sort) or 1
        if len(body.after) != values or (not body.sort and not isinstance(body.after[0], int | float)):
            return QueryError(f"search_after has {values} values here, one per sort key", "search_after")
        return body.after, LAST_KEY
    try:
        cursor = _decoder.decode(base64.urlsafe_b64decode(body.after + "=" * (-len(body.after) % 4)))
    except (msgspec.DecodeError, binascii.Error, ValueError):
        return QueryError("this is no cursor of a search", "search_after")
    if cursor.search != _fingerprint(tables, body) or len(cursor.sort) != (len(body.sort) or 1):
        return QueryError("the cursor belongs to another search: begin anew", "search_after")
    return cursor.sort, cursor.key


def _fingerprint(tables: tuple[int, ...], body: SearchBody) -> bytes:
    what = msgspec.msgpack.encode((sorted(tables), body.query, body.sort, body.ids, body.post))
    return blake2b(what, digest_size=8).digest()
