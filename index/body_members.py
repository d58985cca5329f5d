"""Members of a search's body that are not taken, and why; and queries in it that have a name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from index.bounds import RefusedError
from index.options import Body, check_field
from index.query import Query
from index.query_dsl import QUERIES, read_query

NAMED_MAX: Final = 20

REFUSED: Final = {
    "rescore": "scores are those of the query: weigh with function_score, or with should in a bool",
    "docvalue_fields": "use fields, or _source",
    "stored_fields": "use fields, or _source",
    "script_fields": "there are no scripts",
    "runtime_mappings": "there are no scripts: put what is searched for into the document",
    "indices_boost": "weigh with function_score",
    "knn": "there is no search by vectors",
    "rank": "there is no search by vectors",
    "retriever": "say query, filter and sort",
    "pit": "a page goes on by search_after; what is written meanwhile is seen where it lies after it",
    "scroll": "a page goes on by search_after",
    "slice": "a page goes on by search_after",
    "ext": "there are no extensions",
    "stats": "there are metrics at /metrics",
}
ONLY_FALSE: Final = {
    "track_scores": 'sort by ["...", "_score"] to have scores beside an order by fields',
    "version": "GET the document for its entity tag",
    "seq_no_primary_term": "GET the document for its entity tag",
    "profile": "the answer names the peers that were asked, and how long it took",
}
WITHOUT_EFFECT: Final = (
    *("terminate_after", "preference", "request_cache", "batched_reduce_size", "search_type"),
    *("ignore_unavailable", "allow_no_indices", "include_named_queries_score"),
)


def check_members(body: Body) -> None:
    """Raise a RefusedError for members that are known elsewhere and not here."""
    for name in body.object():
        if name in REFUSED:
            raise RefusedError(f"{name} is not supported: {REFUSED[name]}", f"body.{name}")
    for name, why in ONLY_FALSE.items():
        if body.boolean(name, False):
            raise RefusedError(f"{name} is not supported: {why}", f"body.{name}")
    body.without_effect(*WITHOUT_EFFECT)


def read_fields(value: Any) -> tuple[str, ...]:
    """`fields` to be shown: names, in which `*` is any text, or objects with a `field`."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or len(listed) > 100:
        raise RefusedError("fields are a list of at most 100 names, in which * is any text", "body.fields")
    found = []
    for at, each in enumerate(listed):
        path = f"body.fields[{at}]"
        if isinstance(each, dict):
            options = Body(each, path, 0)
            each = options.need("field")
            options.without_effect("include_unmapped")
            if options.take("format") is not None:
                raise RefusedError("values are shown as they are: there is no format", path)
            options.leftover()
        found.append(check_field(each, path))
    return tuple(found)


def read_collapse(body: Body) -> str:
    """The field of which each value is shown once; "" if there is none."""
    given = body.take("collapse")
    if given is None:
        return ""
    options = Body(given, "collapse", 0)
    field = check_field(options.need("field"), "collapse")
    if options.take("inner_hits") is not None:
        raise RefusedError("inner_hits is not supported: ask for terms with top_hits in aggs", "collapse")
    options.without_effect("max_concurrent_group_searches")
    options.leftover()
    if body.object().get("search_after") is not None:
        raise RefusedError("collapsed hits go on by from, not by search_after", "collapse")
    return field


def named_queries(given: Any) -> tuple[tuple[str, Query], ...]:
    """Queries with a `_name` in what was read without an error; raises RefusedError for too many."""
    found = tuple((name, read_query(each, "query", 0)) for name, each in _named(given))
    if len(found) > NAMED_MAX:
        raise RefusedError(f"at most {NAMED_MAX} queries have a _name", "query")
    return found


def _named(given: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(given, list):
        for each in given:
            yield from _named(each)
    if not isinstance(given, dict):
        return
    for kind, inner in given.items():
        if kind in QUERIES and isinstance(inner, dict):
            names = [inner.get("_name"), *(each.get("_name") for each in inner.values() if _is_object(each))]
            name = next((one for one in names if one is not None), None)
            if name is not None:
                if not isinstance(name, str) or not 0 < len(name) <= 256:
                    raise RefusedError("a _name is text of 1 to 256 characters", f"query.{kind}")
                yield name, {kind: inner}
        yield from _named(inner)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)
