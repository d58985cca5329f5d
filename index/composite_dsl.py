"""`composite` and `weighted_avg` as JSON: aggregations of several fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from index.aggregation import (
    Aggregation,
    Aggregations,
    CompositeOf,
    DatesOf,
    HistogramOf,
    Source,
    TermsOf,
    WeightedOf,
)
from index.bounds import RefusedError
from index.options import Body, check_field, check_value
from index.query import SortValue

SIZE_MAX: Final = 10_000
SOURCES_MAX: Final = 20
_KINDS: Final = ("terms", "histogram", "date_histogram")

ReadInterval = Callable[[Body, str], HistogramOf | DatesOf]
ReadDate = Callable[[Any, DatesOf, str], int]


def read_composite(
    body: Body, inside: Aggregations, read_interval: ReadInterval, read_date: ReadDate
) -> Aggregation:
    """What it asks for; histograms and dates are read by these."""
    given = body.need("sources")
    if not isinstance(given, list) or not 0 < len(given) <= SOURCES_MAX:
        raise RefusedError(f"sources is a list of 1 to {SOURCES_MAX}", body.path)
    sources = tuple(_source(each, f"{body.path}.sources[{i}]", read_interval) for i, each in enumerate(given))
    names = [one.name for one in sources]
    if len(dict.fromkeys(names)) < len(names):
        raise RefusedError("two sources have one name", f"{body.path}.sources")
    after = body.take("after")
    place = None if after is None else _after(after, sources, body.path, read_date)
    return CompositeOf(sources, body.integer("size", 10, 1, SIZE_MAX), place, inside)


def _source(given: Any, path: str, read_interval: ReadInterval) -> Source:
    inner = next(iter(given.values())) if isinstance(given, dict) and len(given) == 1 else None
    if not isinstance(inner, dict) or len(inner) != 1:
        raise RefusedError('a source is {"name": {"terms": {"field": "..."}}}', path)
    ((name, _),) = given.items()
    ((kind, _),) = inner.items()
    if kind not in _KINDS:
        raise RefusedError(f"a source is one of: {', '.join(_KINDS)}; found {str(kind)[:40]!r}", path)
    options = Body(inner[kind], f"{path}.{name}.{kind}", 0)
    descending = options.one_of("order", ("asc", "desc"), "asc") == "desc"
    missing = options.boolean("missing_bucket", False)
    where = options.one_of("missing_order", ("default", "first", "last"), "default")
    missing_first = where == "first" or (where == "default" and not descending)
    options.without_effect("value_type")
    of: TermsOf | HistogramOf | DatesOf
    if kind == "terms":
        of = TermsOf(check_field(options.need("field"), options.path))
    else:
        left = {key: value for key, value in options.object().items() if key not in _OF_SOURCES}
        options = Body(left, options.path, 0)
        of = read_interval(options, kind)
    options.leftover()
    return Source(name, of, descending, missing, missing_first)


_OF_SOURCES: Final = ("order", "missing_bucket", "missing_order", "value_type")


def _after(given: Any, sources: tuple[Source, ...], path: str, read_date: ReadDate) -> tuple[SortValue, ...]:
    names = [one.name for one in sources]
    if not isinstance(given, dict) or sorted(given) != sorted(names):
        raise RefusedError(f"after is the after_key of a page, with {', '.join(names)}", path)
    found: list[SortValue] = []
    for one in sources:
        value = given[one.name]
        if value is None and one.missing:
            found.append(None)
        elif isinstance(one.of, DatesOf):
            found.append(read_date(value, one.of, path))
        else:
            found.append(check_value(value, f"{path}.after.{one.name}"))
    return tuple(found)


def read_weighted(body: Body) -> Aggregation:
    """`{"value": {"field": "price"}, "weight": {"field": "sold"}}`, each perhaps with `missing`."""
    sides: list[tuple[str, float | None]] = []
    for name in ("value", "weight"):
        options = Body(body.need(name), f"{body.path}.{name}", 0)
        field = check_field(options.need("field"), options.path)
        is_there = options.take("missing") is not None
        sides.append((field, options.number("missing", 0.0, -1e300, 1e300) if is_there else None))
        options.leftover()
    body.without_effect("format")
    (value, value_missing), (weight, weight_missing) = sides
    return WeightedOf(value, weight, value_missing, weight_missing)
