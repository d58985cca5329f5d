"""Aggregations as JSON, in Elasticsearch's words: `{"genres": {"terms": {"field": "genre"}}}`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from index.aggregation import (
    BUCKETS_MAX,
    Aggregation,
    Aggregations,
    Bounds,
    Choice,
    DatesOf,
    DistinctOf,
    Filtered,
    GlobalOf,
    HistogramOf,
    NestedOf,
    PercentilesOf,
    PipelineOf,
    RangesOf,
    StatsOf,
    TermsOf,
    TopHitsOf,
    Without,
)
from index.bounds import AGGREGATION_DEPTH_MAX, AGGREGATIONS_MAX, TERMS_MAX, QueryError, RefusedError
from index.composite_dsl import read_composite, read_weighted
from index.date_formats import date_format
from index.fields import DATE_US_MAX
from index.finishing import shown_date
from index.instants import CALENDAR, SECOND_US, read_iso, resolve_date
from index.options import Body, check_field, check_value
from index.pipeline_dsl import PIPELINES, REFUSED, check_paths, read_pipeline
from index.pipelines import PARENTS
from index.query import DATE, NUMBER
from index.query_dsl import read_query
from index.regexes import term_regex
from index.sort_dsl import read_sort, read_source
from query.zones import Zone, zone_of

STATS: Final = ("stats", "extended_stats", "min", "max", "sum", "avg", "value_count")
_FIXED = re.compile(r"(\d{1,9})(ms|s|m|h|d)", re.ASCII)
INTERVAL_US_MAX: Final = 100_000 * 86_400 * SECOND_US
_SHIFT = re.compile(r"([+-]?)(\d{1,9})(ms|s|m|h|d)", re.ASCII)
_FIXED_US = {"ms": 1000, "s": SECOND_US, "m": 60 * SECOND_US, "h": 3600 * SECOND_US, "d": 86_400 * SECOND_US}
_CALENDAR_ALIASES = {
    "1s": "second",
    "1m": "minute",
    "1h": "hour",
    "1d": "day",
    "1w": "week",
    "1M": "month",
    "1q": "quarter",
    "1y": "year",
}


def parse_aggregations(body: Any, path: str = "aggs", *, now_us: int) -> Aggregations | QueryError:
    """What this JSON (decoded) asks for, or what is wrong with it and where."""
    reader = _Reader(now_us)
    try:
        return reader.all(body, path, 0)
    except RefusedError as refused:
        return refused.error


class _Reader:
    def __init__(self, now_us: int) -> None:
        self._now_us = now_us
        self._count = 0

    def all(self, body: Any, path: str, depth: int) -> Aggregations:
        """Named aggregations."""
        if depth > AGGREGATION_DEPTH_MAX:
            raise RefusedError(f"aggregations are nested more than {AGGREGATION_DEPTH_MAX} deep", path)
        if not isinstance(body, dict):
            raise RefusedError("aggregations are an object of names", path)
        found = []
        for name, each in body.items():
            self._count += 1
            if self._count > AGGREGATIONS_MAX:
                raise RefusedError(f"there are more than {AGGREGATIONS_MAX} aggregations", path)
            if not isinstance(name, str) or not 0 < len(name) <= 256 or name in ("doc_count", "key"):
                raise RefusedError("an aggregation's name is text of 1 to 256 characters", path)
            found.append((name, self._one(each, f"{path}.{name}", depth)))
        check_paths(tuple(found), path)
        return tuple(found)

    def _one(self, body: Any, path: str, depth: int) -> Aggregation:
        if not isinstance(body, dict):
            raise RefusedError("an aggregation is an object", path)
        kinds = [kind for kind in body if kind not in ("aggs", "aggregations", "meta")]
        if len(kinds) != 1:
            raise RefusedError(
                'an aggregation has one kind, such as {"terms": {...}}, and perhaps aggs', path
            )
        kind = kinds[0]
        if not isinstance(body.get("meta", {}), dict):
            raise RefusedError("meta is an object: it stands beside the answer as it is", path)
        if kind in PIPELINES:
            return self._pipeline(body, kind, path, depth)
        if kind in REFUSED:
            raise RefusedError(f"the aggregation {kind} is not supported: {REFUSED[kind]}", path)
        reader = _READERS.get(kind)
        if reader is None:
            kinds_text = ", ".join(AGGREGATIONS)
            raise RefusedError(f"there is no aggregation {str(kind)[:40]!r}; there are: {kinds_text}", path)
        inner = body.get("aggs", body.get("aggregations"))
        inside = self.all(inner, f"{path}.aggs", depth + 1) if inner is not None else ()
        options = Body(body[kind], f"{path}.{kind}", depth)
        if kind in ("global", "composite") and depth:
            raise RefusedError(f"{kind} stands at the top, in no other aggregation", path)
        if inside and kind not in _BUCKETED:
            raise RefusedError(f"{kind} has no buckets, so nothing can be asked inside", path)
        if kind in _ALONE and any(isinstance(one, PipelineOf) and one.kind in PARENTS for _, one in inside):
            raise RefusedError(f"{kind} has one bucket, so nothing is computed of one after the other", path)
        found = reader(options, kind, inside, self._now_us)
        if kind not in ("filter", "filters"):
            options.leftover()
        return found

    @staticmethod
    def _pipeline(body: Any, kind: str, path: str, depth: int) -> Aggregation:
        if kind in PARENTS and not depth:
            raise RefusedError(f"{kind} stands in the aggregation whose buckets it looks at", path)
        if "aggs" in body or "aggregations" in body:
            raise RefusedError(f"{kind} has no buckets, so nothing can be asked inside", path)
        options = Body(body[kind], f"{path}.{kind}", depth)
        found = read_pipeline(options, kind)
        options.leftover()
        return found


def _field(body: Body) -> str:
    return check_field(body.need("field"), body.path)


def _order(body: Body, inside: Aggregations, default: Any) -> tuple[tuple[str, bool], ...]:
    order = body.take("order", default)
    pairs: list[tuple[str, bool]] = []
    for each in order if isinstance(order, list) else [order]:
        if not isinstance(each, dict) or len(each) != 1:
            raise RefusedError('order is {"_count": "desc"}, {"_key": "asc"} or {"metric": ...}', body.path)
        ((name, way),) = each.items()
        _check_order(name, way, inside, body.path)
        pairs.append((name, way == "desc"))
    return tuple(pairs)


def _terms(body: Body, _kind: str, inside: Aggregations, _now_us: int) -> Aggregation:
    order = _order(body, inside, {"_count": "desc"})
    missing = body.take("missing")
    body.without_effect("shard_size", "execution_hint", "collect_mode", "show_term_doc_count_error")
    return TermsOf(
        _field(body),
        "",
        body.integer("size", 10, 1, BUCKETS_MAX),
        order,
        body.integer("min_doc_count", 1, 1, 1_000_000_000),
        None if missing is None else check_value(missing, body.path),
        inside,
        _choice(body, "include"),
        _choice(body, "exclude"),
    )


def _choice(body: Body, name: str) -> Choice | None:
    """Values that are counted, or not: a list of them, or a regular expression of text."""
    value = body.take(name)
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return term_regex(value)
        except RefusedError as refused:
            raise RefusedError(refused.error.detail, f"{body.path}.{name}", refused.error.position) from None
    if not isinstance(value, list) or len(value) > TERMS_MAX:
        raise RefusedError(f"{name} is a regular expression, or a list of values", body.path)
    return tuple(check_value(each, f"{body.path}.{name}[{i}]") for i, each in enumerate(value))


def _check_order(name: str, way: Any, inside: Aggregations, path: str) -> None:
    if way not in ("asc", "desc"):
        raise RefusedError("an order is asc or desc", path)
    if name in ("_count", "_key"):
        return
    base, _, member = name.partition(".")
    asked = dict(inside).get(base)
    single = isinstance(asked, DistinctOf) or (
        isinstance(asked, StatsOf) and asked.kind not in ("stats", "extended_stats")
    )
    members = ("count", "min", "max", "sum", "avg", "std_deviation", "variance")
    if not (single and not member) and not (isinstance(asked, StatsOf) and not single and member in members):
        raise RefusedError(f"{name[:60]!r} is no metric inside, so there is no order by it", path)


def _ranges(body: Body, kind: str, inside: Aggregations, now_us: int) -> Aggregation:
    listed = body.need("ranges")
    if not isinstance(listed, list) or not 0 < len(listed) <= 1_000:
        raise RefusedError("ranges is a list of 1 to 1000", body.path)
    zone, form, keyed = _zone(body), body.date_format(), body.boolean("keyed", False)
    found: list[tuple[str, float | None, float | None]] = []
    for i, each in enumerate(listed):
        options = Body(each, f"{body.path}.ranges[{i}]", 0)
        bounds: list[float | None] = [None, None]
        for at, side in enumerate(("from", "to")):
            value = options.take(side)
            if value is not None:
                date = kind == "date_range"
                bounds[at] = (
                    _date(value, zone, form, now_us, options.path) if date else _number(value, options)
                )
        name = options.text("key")
        options.leftover()
        found.append((name, bounds[0], bounds[1]))
    view = DATE if kind == "date_range" else NUMBER
    ranges = RangesOf(_field(body), view, (), inside, keyed, form, zone)
    named = tuple((name or _range_name(ranges, low, high), low, high) for name, low, high in found)
    if len({name: None for name, _, _ in named}) < len(named):
        raise RefusedError("two ranges have the same key", body.path)
    return replace(ranges, ranges=named)


def _range_name(asked: RangesOf, *bounds: float | None) -> str:
    """`*-10.0`, or the dates in their format."""
    texts = ["*", "*"]
    for at, bound in enumerate(bounds):
        if bound is not None:
            texts[at] = shown_date(asked, int(bound)) if asked.view == DATE else f"{float(bound)}"
    return "-".join(texts)


def _number(value: Any, body: Body) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RefusedError("a bound is a number", body.path)
    return value


def _date(value: Any, zone: Zone, form: str, now_us: int, path: str) -> int:
    """The instant that a date with its format means; numbers are milliseconds where there is no format."""
    read = date_format(form) if form else None
    assert not isinstance(read, str), "it was checked"
    if isinstance(value, int) and not isinstance(value, bool) and read is None:
        if abs(value) >= DATE_US_MAX // 1000:
            raise RefusedError("there is no such date", path)
        return value * 1000
    found = None
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        found = resolve_date(str(value), now_us, zone=zone, read=read_iso if read is None else read.read)
    if found is None:
        raise RefusedError(f"a date belongs here, {form or 'such as 2024-01-01 or now-7d'}", path)
    return found


def _zone(body: Body) -> Zone:
    zone = zone_of(body.zone())
    assert zone is not None, "it was checked"
    return zone


def _bounds(body: Body, name: str, read: Callable[[Any], float]) -> Bounds | None:
    """`{"min": ..., "max": ...}`."""
    given = body.take(name)
    if given is None:
        return None
    options = Body(given, f"{body.path}.{name}", 0)
    low, high = (None if (one := options.take(side)) is None else read(one) for side in ("min", "max"))
    options.leftover()
    if low is not None and high is not None and low > high:
        raise RefusedError(f"{name}: min is above max", body.path)
    return low, high


def _histogram(body: Body, _kind: str, inside: Aggregations, _now_us: int) -> Aggregation:
    body.need("interval")
    interval = body.number("interval", 0.0, 1e-9, 1e18)
    offset = body.number("offset", 0.0, -1e18, 1e18)

    def read(value: Any) -> float:
        return _number(value, body)

    return HistogramOf(
        _field(body),
        interval,
        offset,
        body.integer("min_doc_count", 0, 0, 10**9),
        inside,
        _missing_number(body),
        _bounds(body, "extended_bounds", read),
        _bounds(body, "hard_bounds", read),
        _order(body, inside, {"_key": "asc"}),
        body.boolean("keyed", False),
    )


def _missing_number(body: Body) -> float | None:
    return None if body.take("missing") is None else body.number("missing", 0.0, -1e300, 1e300)


def _date_histogram(body: Body, _kind: str, inside: Aggregations, now_us: int) -> Aggregation:
    calendar, fixed = body.text("calendar_interval"), body.text("fixed_interval")
    if bool(calendar) == bool(fixed):
        raise RefusedError("either calendar_interval or fixed_interval is needed", body.path)
    calendar = _CALENDAR_ALIASES.get(calendar, calendar)
    if calendar and calendar not in CALENDAR:
        raise RefusedError(f"calendar_interval is one of: {', '.join(CALENDAR)}", body.path)
    interval_us = 0
    if fixed:
        match = _FIXED.fullmatch(fixed)
        interval_us = int(match[1]) * _FIXED_US[match[2]] if match else 0
        if not 0 < interval_us <= INTERVAL_US_MAX:
            raise RefusedError("fixed_interval is such as 90s, 30m, 12h or 7d", body.path)
    zone, form = _zone(body), body.date_format()

    def read(value: Any) -> int:
        return _date(value, zone, form, now_us, body.path)

    missing = body.take("missing")
    return DatesOf(
        _field(body),
        calendar,
        interval_us,
        zone,
        body.integer("min_doc_count", 0, 0, 10**9),
        inside,
        _shift_us(body),
        None if missing is None else read(missing),
        _bounds(body, "extended_bounds", read),
        _bounds(body, "hard_bounds", read),
        _order(body, inside, {"_key": "asc"}),
        body.boolean("keyed", False),
        form,
    )


def _shift_us(body: Body) -> int:
    """The offset of a date histogram: +6h, -1d, or milliseconds."""
    given = body.take("offset", "")
    text = f"{given}ms" if type(given) is int else body.text("offset")
    match = _SHIFT.fullmatch(text)
    if text and match is None:
        raise RefusedError("offset is such as +6h or -1d, or a number of milliseconds", body.path)
    found = 0 if match is None else int(match[1] + match[2]) * _FIXED_US[match[3]]
    if abs(found) > INTERVAL_US_MAX:
        raise RefusedError("offset is too long", body.path)
    return found


def _filter(body: Body, kind: str, inside: Aggregations, _now_us: int) -> Aggregation:
    if kind == "filter":
        return Filtered((("", read_query(body.body, body.path, 1)),), inside)
    given = body.need("filters")
    anonymous = isinstance(given, list)
    named = {str(at): each for at, each in enumerate(given)} if anonymous else given
    if not isinstance(named, dict) or not 0 < len(named) <= AGGREGATIONS_MAX or "" in named:
        raise RefusedError("filters is an object of named queries, or a list of queries", body.path)
    has_other, other = body.boolean("other_bucket", False), body.text("other_bucket_key")
    body.leftover()
    queries = tuple(
        (name, read_query(each, f"{body.path}.filters.{name}", 1)) for name, each in named.items()
    )
    other = (other or "_other_") if has_other or other else ""
    if other in named:
        raise RefusedError(f"{other[:60]!r} is the key of a filter, and of all others", body.path)
    return Filtered(queries, inside, other, anonymous)


def _nested(body: Body, _kind: str, inside: Aggregations, _now_us: int) -> Aggregation:
    return NestedOf(check_field(body.need("path"), body.path), inside)


def _global(body: Body, _kind: str, inside: Aggregations, _now_us: int) -> Aggregation:
    body.object()
    return GlobalOf(inside)


def _missing(body: Body, _kind: str, inside: Aggregations, _now_us: int) -> Aggregation:
    return Without(_field(body), inside)


def _stats(body: Body, kind: str, _inside: Aggregations, _now_us: int) -> Aggregation:
    sigma = body.number("sigma", 2.0, 0.0, 1e9) if kind == "extended_stats" else 2.0
    return StatsOf(_field(body), "" if kind == "value_count" else NUMBER, kind, _missing_number(body), sigma)


def _percentiles(body: Body, kind: str, _inside: Aggregations, _now_us: int) -> Aggregation:
    ranks = kind == "percentile_ranks"
    given = body.need("values") if ranks else body.take("percents", [1, 5, 25, 50, 75, 95, 99])
    body.take("tdigest")
    body.take("hdr")
    good = isinstance(given, list) and 0 < len(given) <= 100
    if not good or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in given):
        raise RefusedError("percents or values is a list of at most 100 numbers", body.path)
    if not ranks and not all(0 <= n <= 100 for n in given):
        raise RefusedError("a percentage is 0 to 100", body.path)
    numbers, missing = tuple(float(n) for n in given), _missing_number(body)
    return PercentilesOf(_field(body), NUMBER, numbers, ranks, missing, body.boolean("keyed", True))


def _cardinality(body: Body, _kind: str, _inside: Aggregations, _now_us: int) -> Aggregation:
    body.without_effect("precision_threshold")
    missing = body.take("missing")
    return DistinctOf(_field(body), "", None if missing is None else check_value(missing, body.path))


def _top_hits(body: Body, _kind: str, _inside: Aggregations, _now_us: int) -> Aggregation:
    size = body.integer("size", 3, 0, 100)
    body.only(False, "version", "seq_no_primary_term", "explain", "track_scores")
    sort = read_sort(body.take("sort"), f"{body.path}.sort")
    source = read_source(body.take("_source"), f"{body.path}._source")
    return TopHitsOf(size, sort, source, body.integer("from", 0, 0, 1000))


def _composite(body: Body, _kind: str, inside: Aggregations, now_us: int) -> Aggregation:
    def interval(options: Body, kind: str) -> Any:
        return (_histogram if kind == "histogram" else _date_histogram)(options, kind, (), now_us)

    def date(value: Any, of: DatesOf, path: str) -> int:
        return _date(value, of.zone, of.format, now_us, path)

    return read_composite(body, inside, interval, date)


def _weighted(body: Body, _kind: str, _inside: Aggregations, _now_us: int) -> Aggregation:
    return read_weighted(body)


_Read = Callable[[Body, str, Aggregations, int], Aggregation]

_READERS: Final[Mapping[str, _Read]] = {
    "terms": _terms,
    "range": _ranges,
    "date_range": _ranges,
    "histogram": _histogram,
    "date_histogram": _date_histogram,
    "filter": _filter,
    "filters": _filter,
    "missing": _missing,
    "nested": _nested,
    "global": _global,
    **dict.fromkeys(STATS, _stats),
    "percentiles": _percentiles,
    "percentile_ranks": _percentiles,
    "cardinality": _cardinality,
    "top_hits": _top_hits,
    "composite": _composite,
    "weighted_avg": _weighted,
}
_BUCKETED: Final = (
    "terms",
    "range",
    "date_range",
    "histogram",
    "date_histogram",
    "filter",
    "filters",
    "missing",
    "nested",
    "global",
    "composite",
)

_ALONE: Final = ("filter", "missing", "nested", "global")

AGGREGATIONS: Final = (*_READERS, *PIPELINES)
"""The kinds of aggregations."""
