"""Pipeline aggregations as JSON, in Elasticsearch's words (index/pipelines.py says what they are)."""

from __future__ import annotations

from typing import Any, Final

from index.aggregation import BUCKETS_MAX, Aggregations, PipelineOf
from index.bounds import RefusedError
from index.formulas import names_in
from index.options import Body
from index.pipelines import PARENTS, SIBLINGS, base_of

PIPELINES: Final = (*SIBLINGS, *PARENTS)
REFUSED: Final = {
    "moving_fn": "there are no scripts",
    "moving_avg": "there are no moving windows",
    "scripted_metric": "there are no scripts",
    "significant_terms": "ask for terms, in all documents (global) and in these",
    "significant_text": "ask for terms, in all documents (global) and in these",
    "geohash_grid": "there is no search by place",
    "geo_distance": "there is no search by place",
    "geo_bounds": "there is no search by place",
    "children": "there are no joins: keep what belongs together in one document, and ask nested",
    "parent": "there are no joins: keep what belongs together in one document, and ask nested",
    "reverse_nested": "ask beside the nested aggregation, not in it",
    "sampler": "aggregations look at all documents",
    "rare_terms": 'use terms with "order": {"_count": "asc"}',
    "multi_terms": "composite has a bucket per combination of values",
    "auto_date_histogram": "say the interval: date_histogram",
    "variable_width_histogram": "say the interval: histogram",
    "ip_range": "addresses are text: use prefix or wildcard in filters",
    "ip_prefix": "addresses are text: use prefix or wildcard in filters",
    "adjacency_matrix": "use filters, with one bool query per pair",
    "diversified_sampler": "aggregations look at all documents",
    "random_sampler": "aggregations look at all documents",
    "boxplot": "use percentiles 0, 25, 50, 75 and 100",
    "median_absolute_deviation": "use percentiles, or extended_stats",
    "top_metrics": "use top_hits with size 1 and _source",
    "string_stats": "there are value_count and cardinality",
    "matrix_stats": "use extended_stats of each field",
    "categorize_text": "use terms",
    "frequent_item_sets": "use composite",
    "geo_centroid": "there is no search by place",
    "geotile_grid": "there is no search by place",
    "normalize": "use bucket_script with a total beside it",
    "moving_percentiles": "there are no moving windows",
    "bucket_correlation": "use bucket_script",
    "extended_stats_bucket": "use stats_bucket and percentiles_bucket",
    "cumulative_cardinality": "use cardinality with a range filter",
    "inference": "there are no models",
}
"""Aggregations that are not there, and what to do instead."""
_GAPS: Final = ("skip", "insert_zeros", "keep_values")


def read_pipeline(body: Body, kind: str) -> PipelineOf:
    """What it asks for."""
    options: dict[str, Any] = {"gap_policy": body.one_of("gap_policy", _GAPS, "skip")}
    body.without_effect("format")
    if kind == "bucket_sort":
        return PipelineOf(kind, (), options | _sort(body))
    if kind in ("bucket_script", "bucket_selector"):
        return _scripted(body, kind, options)
    path = body.text("buckets_path", needed=True)
    if kind in SIBLINGS and ">" not in path:
        raise RefusedError(
            "buckets_path is buckets and a metric in them, such as months>sales", body.path
        )
    if kind == "serial_diff":
        options["lag"] = body.integer("lag", 1, 1, 1_000)
    if kind == "percentiles_bucket":
        given = body.take("percents", [1, 5, 25, 50, 75, 95, 99])
        good = isinstance(given, list) and 0 < len(given) <= 100
        if not good or not all(isinstance(n, int | float) and 0 <= n <= 100 for n in given):
            raise RefusedError("percents is a list of at most 100 numbers from 0 to 100", body.path)
        options["percents"] = given
    return PipelineOf(kind, (("", path),), options)


def _scripted(body: Body, kind: str, options: dict[str, Any]) -> PipelineOf:
    paths, script = body.need("buckets_path"), body.need("script")
    if isinstance(script, dict):
        script = script.get("source", script.get("inline"))
    if isinstance(paths, str):
        paths = {"_value": paths}
    good = isinstance(paths, dict) and all(isinstance(path, str) for path in paths.values())
    if not good or not isinstance(script, str):
        raise RefusedError('a script is text, and buckets_path such as {"total": "sales"}', body.path)
    try:
        unknown = [name for name in names_in(script) if name not in paths]
    except RefusedError as refused:
        raise RefusedError(refused.error.detail, f"{body.path}.script", refused.error.position) from None
    if unknown:
        raise RefusedError(f"params.{unknown[0][:40]} is not in buckets_path", f"{body.path}.script")
    return PipelineOf(kind, tuple(paths.items()), options | {"script": script})


def _sort(body: Body) -> dict[str, Any]:
    given = body.take("sort", [])
    found: list[list[str | bool]] = []  # as they come out of a message
    for each in given if isinstance(given, list) else [given]:
        if isinstance(each, str):
            each = {each: "asc"}
        if not isinstance(each, dict) or len(each) != 1:
            raise RefusedError('sort is such as [{"sales": {"order": "desc"}}]', body.path)
        ((path, way),) = each.items()
        way = way.get("order", "asc") if isinstance(way, dict) else way
        if way not in ("asc", "desc"):
            raise RefusedError("an order is asc or desc", body.path)
        found.append([path, way == "desc"])
    size = body.integer("size", 1, 1, BUCKETS_MAX) if body.take("size") is not None else None
    return {"sort": found, "from": body.integer("from", 0, 0, BUCKETS_MAX), "size": size}


def check_paths(asked: Aggregations, path: str) -> None:
    """Raises RefusedError for a pipeline whose path begins with nothing that is asked beside it."""
    names = {name: None for name, _ in asked}
    for name, one in asked:
        if isinstance(one, PipelineOf):
            sorts = [each for each, _ in one.options.get("sort", [])]
            for wanted in [each for _, each in one.paths] + sorts:
                base = base_of(wanted)
                if (base not in names or base == name) and base not in ("_count", "_key"):
                    detail = f"buckets_path names {wanted[:60]!r}, and no aggregation beside it is called so"
                    raise RefusedError(detail, f"{path}.{name}")
