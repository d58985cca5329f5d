"""What a search shows, as JSON: the order of hits, and which fields of documents."""

from __future__ import annotations

from typing import Any

from index.bounds import SORT_KEYS_MAX, RefusedError
from index.options import Body, check_field
from index.query import SCORE, SortKey

Source = bool | tuple[tuple[str, ...], tuple[str, ...]]
"""All, nothing, or patterns of the fields to include and to exclude."""


def read_sort(body: Any, path: str) -> tuple[SortKey, ...]:
    """`"year"`, `"-year"`, `"year:desc"`, `{"year": "desc"}`, `{"year": {"order": "desc"}}` (perhaps with
    `"missing": "_first"` beside it), or a list of them.

    Raises RefusedError. `_score` alone, best first, is no sort at all.
    """
    if body is None:
        return ()
    listed = body if isinstance(body, list) else [body]
    if len(listed) > SORT_KEYS_MAX:
        raise RefusedError(f"a sort has at most {SORT_KEYS_MAX} keys", path)
    keys = tuple(_key(each, f"{path}[{i}]") for i, each in enumerate(listed))
    return () if keys == (SortKey(SCORE, "", True),) else keys


def _key(body: Any, path: str) -> SortKey:
    if isinstance(body, str):
        before, _, order = body.rpartition(":")
        if before and order in ("asc", "desc"):
            return SortKey(check_field(before, path), "", order == "desc")
        name = body.removeprefix("-")
        return SortKey(check_field(name, path), "", name == SCORE or name != body)
    if not isinstance(body, dict) or len(body) != 1:
        raise RefusedError('a sort key is a field, or {"field": "desc"}', path)
    ((field, inner),) = body.items()
    name = check_field(field, path)
    options = Body({"order": inner} if isinstance(inner, str) else inner, f"{path}.{name}", 0)
    default = "desc" if name == SCORE else "asc"
    descending = options.one_of("order", ("asc", "desc"), default) == "desc"
    first = options.one_of("missing", ("_first", "_last"), "_last") == "_first"
    for ignored in ("mode", "unmapped_type", "numeric_type", "format"):
        options.take(ignored)
    options.leftover()
    return SortKey(name, "", descending, first)


def read_source(body: Any, path: str) -> Source:
    """`true`, `false`, `"a.*"`, `["a", "b"]` or `{"includes": [...], "excludes": [...]}`."""
    if body is None or body is True:
        return True
    if body is False:
        return False
    if isinstance(body, str | list):
        return _patterns(body, path), ()
    options = Body(body, path, 0)
    includes = options.take("includes", options.take("include", []))
    excludes = options.take("excludes", options.take("exclude", []))
    options.leftover()
    return _patterns(includes, path), _patterns(excludes, path)


def _patterns(body: Any, path: str) -> tuple[str, ...]:
    listed = [body] if isinstance(body, str) else body
    if not isinstance(listed, list) or len(listed) > 1_000:
        raise RefusedError("fields are a list of at most 1000 names, in which * is any text", path)
    return tuple(check_field(each, path) for each in listed)
