"""Aggregations as JSON, in Elasticsearch's words: `{"genres": {"terms": {"field": "genre"}}}`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from index.aggregation import (
    BUCKETS_MAX,
    Aggregation,
    Aggregations,
    DatesOf,
    DistinctOf,
    Filtered,
    HistogramOf,
    PercentilesOf,
    RangesOf,
    StatsOf,
    TermsOf,
    TopHitsOf,
    Without,
)
from index.bounds import AGGREGATION_DEPTH_MAX, AGGREGATIONS_MAX, QueryError, RefusedError
from index.instants import CALENDAR, SECOND_US, resolve_date, zone_us
from index.query import DATE, NUMBER
from index.query_dsl import Body, check_field, check_value, read_query
from index.sort_dsl import read_sort, read_source

STATS: Final = ("stats", "extended_stats", "min", "max", "sum", "avg", "value_count")
_FIXED = re.compile(r"(\d{1,9})(ms|s|m|h|d)", re.ASCII)
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
        reader = _READERS.get(kind)
        if reader is None:
            kinds_text = ", ".join(_READERS)
            raise RefusedError(f"there is no aggregation {str(kind)[:40]!r}; there are: {kinds_text}", path)
        inner = body.get("aggs", body.get("aggregations"))
        inside = self.all(inner, f"{path}.aggs", depth + 1) if inner is not None else ()
        options = Body(body[kind], f"{path}.{kind}", depth)
        if inside and kind not in _BUCKETED:
            raise RefusedError(f"{kind} has no buckets, so nothing can be asked inside", path)
        found = reader(options, kind, inside, self._now_us)
        if kind not in ("filter", "filters"):
            options.leftover()
        return found


def _field(body: Body) -> str:
    return check_field(body.need("field"), body.path)


def _terms(body: Body, _kind: str, inside: Aggregations, _now_us: int) -> Aggregation:
    order = body.take("order", {"_count": "desc"})
    pairs: list[tuple[str, bool]] = []
    for each in order if isinstance(order, list) else [order]:
        if not isinstance(each, dict) or len(each) != 1:
            raise RefusedError('order is {"_count": "desc"}, {"_key": "asc"} or {"metric": ...}', body.path)
        ((name, way),) = each.items()
        _check_order(name, way, inside, body.path)
        pairs.append((name, way == "desc"))
    missing = body.take("missing")
    for ignored in ("shard_size", "execution_hint", "collect_mode", "show_term_doc_count_error"):
        body.take(ignored)
    return TermsOf(
        _field(body),
        "",
        body.integer("size", 10, 1, BUCKETS_MAX),
        tuple(pairs),
        body.integer("min_doc_count", 1, 1, 1_000_000_000),
        None if missing is None else check_value(missing, body.path),
        inside,
    )


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
    zone = body.text("time_zone")
    body.take("format")
    body.take("keyed")
    found: list[tuple[str, float | None, float | None]] = []
    for i, each in enumerate(listed):
        options = Body(each, f"{body.path}.ranges[{i}]", 0)
        texts = [options.take("from"), options.take("to")]
        bounds = [_bound(text, kind, zone, now_us, options.path) for text in texts]
        shown = ["*" if text is None else _shown(text) for text in texts]
        name = options.text("key") or "-".join(shown)
        options.leftover()
        found.append((name, bounds[0], bounds[1]))
    return RangesOf(_field(body), DATE if kind == "date_range" else NUMBER, tuple(found), inside)


def _shown(bound: Any) -> str:
    return f"{float(bound)}" if isinstance(bound, int | float) else str(bound)


def _bound(value: Any, kind: str, zone: str, now_us: int, path: str) -> float | None:
    if value is None:
        return None
    if kind == "date_range":
        at_us = resolve_date(value, now_us, zone=zone) if isinstance(value, str) else None
        if at_us is None and isinstance(value, int) and not isinstance(value, bool):
            at_us = value * 1000
        if at_us is None:
            raise RefusedError("a bound is a date, such as 2024-01-01 or now-7d", path)
        return at_us
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RefusedError("a bound is a number", path)
    return value


def _histogram(body: Body, _kind: str, inside: Aggregations, _now_us: int) -> Aggregation:
    body.need("interval")
    interval = body.number("interval", 0.0, 1e-9, 1e18)
    offset = body.number("offset", 0.0, -1e18, 1e18)
    body.take("keyed")
    return HistogramOf(_field(body), interval, offset, body.integer("min_doc_count", 0, 0, 10**9), inside)


def _date_histogram(body: Body, _kind: str, inside: Aggregations, _now_us: int) -> Aggregation:
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
        if interval_us <= 0:
            raise RefusedError("fixed_interval is such as 90s, 30m, 12h or 7d", body.path)
    zone = zone_us(body.text("time_zone"))
    if zone is None:
        raise RefusedError("time_zone is such as +09:00", body.path)
    body.take("format")
    body.take("keyed")
    count_min = body.integer("min_doc_count", 0, 0, 10**9)
    return DatesOf(_field(body), calendar, interval_us, zone, count_min, inside)


def _filter(body: Body, kind: str, inside: Aggregations, _now_us: int) -> Aggregation:
    if kind == "filter":
        return Filtered((("", read_query(body.body, body.path, 1)),), inside)
    named = body.need("filters")
    if not isinstance(named, dict) or not 0 < len(named) <= AGGREGATIONS_MAX:
        raise RefusedError("filters is an object of named queries", body.path)
    body.leftover()
    queries = ((name, read_query(each, f"{body.path}.filters.{name}", 1)) for name, each in named.items())
    return Filtered(tuple(queries), inside)


def _missing(body: Body, _kind: str, inside: Aggregations, _now_us: int) -> Aggregation:
    return Without(_field(body), inside)


def _stats(body: Body, kind: str, _inside: Aggregations, _now_us: int) -> Aggregation:
    missing = body.take("missing")
    if missing is not None:
        missing = body.number("missing", 0.0, -1e300, 1e300)
    return StatsOf(_field(body), "" if kind == "value_count" else NUMBER, kind, missing)


def _percentiles(body: Body, kind: str, _inside: Aggregations, _now_us: int) -> Aggregation:
    ranks = kind == "percentile_ranks"
    given = body.need("values") if ranks else body.take("percents", [1, 5, 25, 50, 75, 95, 99])
    for ignored in ("keyed", "tdigest", "hdr"):
        body.take(ignored)
    good = isinstance(given, list) and 0 < len(given) <= 100
    if not good or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in given):
        raise RefusedError("percents or values is a list of at most 100 numbers", body.path)
    if not ranks and not all(0 <= n <= 100 for n in given):
        raise RefusedError("a percentage is 0 to 100", body.path)
    return PercentilesOf(_field(body), NUMBER, tuple(float(n) for n in given), ranks)


def _cardinality(body: Body, _kind: str, _inside: Aggregations, _now_us: int) -> Aggregation:
    body.take("precision_threshold")
    return DistinctOf(_field(body), "")


def _top_hits(body: Body, _kind: str, _inside: Aggregations, _now_us: int) -> Aggregation:
    size = body.integer("size", 3, 0, 100)
    sort = read_sort(body.take("sort"), f"{body.path}.sort")
    return TopHitsOf(size, sort, read_source(body.take("_source"), f"{body.path}._source"))


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
    **dict.fromkeys(STATS, _stats),
    "percentiles": _percentiles,
    "percentile_ranks": _percentiles,
    "cardinality": _cardinality,
    "top_hits": _top_hits,
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
)
