"""What a search shows, as JSON: the order of hits, and which fields of documents."""

from __future__ import annotations

from typing import Any

from index.bounds import SORT_KEYS_MAX, RefusedError
from index.options import Body, check_field, check_value
from index.query import ID, SCORE, SortKey

Source = bool | tuple[tuple[str, ...], tuple[str, ...]]
"""All, nothing, or patterns of the fields to include and to exclude."""


def read_sort(body: Any, path: str) -> tuple[SortKey, ...]:
    """`"year"`, `"-year"`, `"year:desc"`, `{"year": "desc"}`, `{"year": {"order": "desc"}}` (perhaps with
    `missing`, and `mode` for several values, beside it), or a list of them.

    Raises RefusedError. `_score` alone, best first, is no sort at all.
    """
    if body is None:
        return ()
    listed = body if isinstance(body, list) else [body]
    if len(listed) > SORT_KEYS_MAX:
        raise RefusedError(f"a sort has at most {SORT_KEYS_MAX} keys", path)
    keys = tuple(_key(each, f"{path}[{i}]") for i, each in enumerate(listed) if not _is_no_order(each))
    return () if keys == (SortKey(SCORE, "", True),) else keys


def _is_no_order(body: Any) -> bool:
    """Whether this is `_doc`: in whatever order documents come."""
    return body == "_doc" or (isinstance(body, dict) and [*body] == ["_doc"])


def _key(body: Any, path: str) -> SortKey:
    if isinstance(body, str):
        before, _, order = body.rpartition(":")
        if before and order in ("asc", "desc"):
            _check_name(before, path)
            return SortKey(check_field(before, path), "", order == "desc")
        name = body.removeprefix("-")
        _check_name(name, path)
        return SortKey(check_field(name, path), "", name == SCORE or name != body)
    if not isinstance(body, dict) or len(body) != 1:
        raise RefusedError('a sort key is a field, or {"field": "desc"}', path)
    ((field, inner),) = body.items()
    name = check_field(field, path)
    _check_name(name, path)
    options = Body({"order": inner} if isinstance(inner, str) else inner, f"{path}.{name}", 0)
    default = "desc" if name == SCORE else "asc"
    descending = options.one_of("order", ("asc", "desc"), default) == "desc"
    missing = options.take("missing", "_last")
    value = None if missing in ("_first", "_last") else check_value(missing, options.path)
    mode = options.one_of("mode", ("", "min", "max", "sum", "avg", "median"), "")
    if mode == ("max" if descending else "min"):
        mode = ""  # as it is without
    options.without_effect("unmapped_type", "numeric_type")
    nested = options.take("nested")
    if nested is not None:  # arrays of objects are looked through anyway
        inner_options = Body(nested, f"{options.path}.nested", 0)
        inner_options.need("path")
        inner_options.leftover()
    options.leftover()
    return SortKey(name, "", descending, missing == "_first", mode, value)


def _check_name(name: str, path: str) -> None:
    """Refuse what is no field, no id and no score: nothing stands in an order of those here."""
    if name.startswith("_") and name not in (SCORE, ID):
        raise RefusedError(f"there is no order by {name[:40]!r}: sort by fields, _id and _score", path)


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
