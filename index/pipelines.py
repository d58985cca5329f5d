"""Aggregations of aggregations: what Elasticsearch calls pipeline aggregations.

They are computed of the answers of others, when those are whole, in the form in which users see them:

    siblings    avg_bucket max_bucket min_bucket sum_bucket stats_bucket percentiles_bucket: of all buckets
                of another aggregation beside them (`buckets_path: "months>sales"`)
    parents     cumulative_sum derivative serial_diff bucket_script bucket_selector bucket_sort: of the
                buckets of the aggregation that they stand in, one after the other

A path is names with `>` between them, `.member` of a metric that has several, `_count`, or `_key`. A script
is an expression of numbers (index/formulas.py) and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

from index.aggregation import Aggregations, PipelineOf
from index.floats import total_of
from index.formulas import compile_formula

SIBLINGS: Final = (
    "avg_bucket", "max_bucket", "min_bucket", "sum_bucket", "stats_bucket", "percentiles_bucket",
)  # fmt: skip
PARENTS: Final = (
    "cumulative_sum", "derivative", "serial_diff", "bucket_script", "bucket_selector", "bucket_sort",
)  # fmt: skip

Shown = dict[str, Any]


def with_siblings(asked: Aggregations, found: Shown) -> Shown:
    """The answers with those of the siblings among `asked`, in the order in which they were asked for."""
    for name, one in _in_order(asked):
        if one.kind in SIBLINGS:
            found[name] = _sibling(one, found)
    return {name: found[name] for name, _ in asked if name in found}


def with_parents(inside: Aggregations, found: Shown) -> Shown:
    """An aggregation's answer whose buckets were looked at by what stands inside."""
    asked = [each for each in _in_order(inside) if each[1].kind in PARENTS]
    if not asked or "buckets" not in found:
        return found
    named = isinstance(found["buckets"], dict)
    keyed: list[tuple[str, Shown]] = (
        list(found["buckets"].items()) if named else [("", bucket) for bucket in found["buckets"]]
    )
    for name, one in asked:
        keyed = _PARENTS[one.kind](name, one, keyed)
    return {**found, "buckets": dict(keyed) if named else [bucket for _, bucket in keyed]}


def _in_order(asked: Aggregations) -> Iterator[tuple[str, PipelineOf]]:
    """Those that are computed of others come after these; of a circle none comes."""
    waiting = {name: one for name, one in asked if isinstance(one, PipelineOf)}
    while waiting:
        ready = [
            name
            for name, one in waiting.items()
            if not any(_first(path) in waiting and _first(path) != name for _, path in one.paths)
        ]
        if not ready:
            return
        for name in ready:
            yield name, waiting.pop(name)


def _first(path: str) -> str:
    return path.partition(">")[0].partition(".")[0]


def base_of(path: str) -> str:
    """The name that a path begins with."""
    return _first(path)


# --- values by path


def _value(bucket: Shown, path: str) -> float | None:
    """The number that a path leads to in a bucket."""
    here: Any = bucket
    steps = path.split(">")
    for step in steps[:-1]:
        here = here.get(step) if isinstance(here, dict) else None
    if not isinstance(here, dict):
        return None
    last = steps[-1]
    if last in ("_count", "_key"):
        found = here.get("doc_count" if last == "_count" else "key")
    else:
        name, _, member = last.partition(".")
        here = here.get(name)
        found = _member(here, member) if isinstance(here, dict) else None
    good = isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)
    return found if good else None


def _member(metric: Shown, member: str) -> Any:
    if not member:
        return metric.get("value", metric.get("doc_count"))
    values = metric.get("values")
    if isinstance(values, dict):
        return values.get(member, values.get(f"{member}.0"))
    return metric.get(member)


def _or_zero(one: PipelineOf, value: float | None, bucket: Shown) -> float | None:
    """A gap is skipped, or taken for 0 where that is asked for; a metric of no documents is a gap, too."""
    if one.options.get("gap_policy") != "insert_zeros":
        return value
    return 0.0 if value is None or not bucket.get("doc_count", 1) else value


# --- siblings


def _sibling(one: PipelineOf, found: Shown) -> Shown:
    first, _, rest = one.paths[0][1].partition(">")
    buckets = found.get(first, {}).get("buckets", [])
    items = list(buckets.items()) if isinstance(buckets, dict) else [("", each) for each in buckets]
    values = [
        (name or str(bucket.get("key_as_string", bucket.get("key"))), value)
        for name, bucket in items
        if (value := _or_zero(one, _value(bucket, rest), bucket)) is not None
    ]
    return _SIBLINGS[one.kind](one, values)


Values = list[tuple[str, float]]


def _extreme(best: Callable[..., float]) -> Callable[[PipelineOf, Values], Shown]:
    def apply(_: PipelineOf, values: Values) -> Shown:
        if not values:
            return {"value": None, "keys": []}
        found = best(value for _, value in values)
        return {"value": found, "keys": [key for key, value in values if value == found]}

    return apply


def _average(_: PipelineOf, values: Values) -> Shown:
    return {"value": total_of(value for _, value in values) / len(values) if values else None}


def _total(_: PipelineOf, values: Values) -> Shown:
    return {"value": total_of(value for _, value in values)}


def _stats(_: PipelineOf, values: Values) -> Shown:
    numbers = [value for _, value in values]
    return {
        "count": len(numbers),
        "min": min(numbers, default=None),
        "max": max(numbers, default=None),
        "avg": total_of(numbers) / len(numbers) if numbers else None,
        "sum": total_of(numbers),
    }


def _percentiles(one: PipelineOf, values: Values) -> Shown:
    """Each is one of the values: the nearest at or below."""
    ordered = sorted(value for _, value in values)
    found: dict[str, float | None] = {}
    for percent in one.options["percents"]:
        at = round((percent / 100) * (len(ordered) - 1)) if ordered else 0
        found[f"{float(percent):.1f}"] = ordered[at] if ordered else None
    return {"values": found}


_SIBLINGS: Final[dict[str, Callable[[PipelineOf, Values], Shown]]] = {
    "avg_bucket": _average,
    "max_bucket": _extreme(max),
    "min_bucket": _extreme(min),
    "sum_bucket": _total,
    "stats_bucket": _stats,
    "percentiles_bucket": _percentiles,
}


# --- parents

Keyed = list[tuple[str, Shown]]


def _cumulative(name: str, one: PipelineOf, keyed: Keyed) -> Keyed:
    total = 0.0
    for _, bucket in keyed:
        total += _value(bucket, one.paths[0][1]) or 0.0
        bucket[name] = {"value": total}
    return keyed


def _difference(name: str, one: PipelineOf, keyed: Keyed) -> Keyed:
    """To the bucket `lag` before; the first ones have none."""
    lag = one.options.get("lag", 1)
    seen: list[float | None] = []
    for _, bucket in keyed:
        value = _or_zero(one, _value(bucket, one.paths[0][1]), bucket)
        before = seen[-lag] if len(seen) >= lag else None
        if before is not None and value is not None:
            bucket[name] = {"value": value - before}
        if value is not None or one.kind == "serial_diff":
            seen.append(value)
    return keyed


def _computed(one: PipelineOf, bucket: Shown) -> float | None:
    values: dict[str, float] = {}
    for name, path in one.paths:
        value = _or_zero(one, _value(bucket, path), bucket)
        if value is None:
            return None
        values[name] = value
    return compile_formula(one.options["script"])(values)


def _scripted(name: str, one: PipelineOf, keyed: Keyed) -> Keyed:
    for _, bucket in keyed:
        value = _computed(one, bucket)
        if value is not None:
            bucket[name] = {"value": value}
    return keyed


def _selected(_name: str, one: PipelineOf, keyed: Keyed) -> Keyed:
    return [each for each in keyed if _computed(one, each[1])]


def _sorted(_name: str, one: PipelineOf, keyed: Keyed) -> Keyed:
    """By the last path first, as sorting keeps the order of equals; those without a value are left out."""
    for path, descending in reversed(one.options["sort"]):
        valued = [(_rank(each[1], path), each) for each in keyed]
        there = [(rank, each) for rank, each in valued if rank is not None]
        there.sort(key=lambda pair: pair[0], reverse=descending)
        keyed = [each for _, each in there]
    first, size = one.options["from"], one.options["size"]
    return keyed[first:] if size is None else keyed[first : first + size]


def _rank(bucket: Shown, path: str) -> tuple[int, Any] | None:
    if path == "_key" and isinstance(bucket.get("key"), str):
        return 1, bucket["key"]
    value = _value(bucket, path)
    return None if value is None else (0, value)


_PARENTS: Final[dict[str, Callable[[str, PipelineOf, Keyed], Keyed]]] = {
    "cumulative_sum": _cumulative,
    "derivative": _difference,
    "serial_diff": _difference,
    "bucket_script": _scripted,
    "bucket_selector": _selected,
    "bucket_sort": _sorted,
}
