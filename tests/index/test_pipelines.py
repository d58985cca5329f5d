"""Aggregations of aggregations, and the formulas that some of them are given."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from index.aggregation import PipelineOf
from index.aggregation_dsl import parse_aggregations
from index.bounds import QueryError, RefusedError
from index.computing import compute
from index.finishing import finish
from index.formulas import compile_formula
from index.merging import merge_all
from index.pipelines import with_siblings
from tests.index.test_aggregations import Row

SALES = [
    Row(0, ["hat"], 200, "2015-01-01T10:00:00Z"),
    Row(1, ["shirt"], 150, "2015-01-15T10:00:00Z"),
    Row(2, ["hat"], 200, "2015-01-20T10:00:00Z"),
    Row(3, ["shirt"], 10, "2015-02-01T10:00:00Z"),
    Row(4, ["hat"], 50, "2015-02-10T10:00:00Z"),
    Row(5, ["shirt"], 375, "2015-04-01T10:00:00Z"),
]


def shown(body: Any, rows: Any = SALES) -> Any:
    """The answer, of parts that are added up."""
    asked = parse_aggregations(body, now_us=0)
    assert not isinstance(asked, QueryError), asked
    parts = [compute(asked, rows[i::2]) for i in range(2)]
    return finish(asked, merge_all(asked, parts), lambda _, hits: [])


def months(inside: Any, **options: Any) -> Any:
    """Sales by month, 550, 60, 0 and 375 of 3, 2, 0 and 1, with what is asked inside."""
    by_month = {"field": "at", "calendar_interval": "month", "format": "yyyy-MM", **options}
    return {"date_histogram": by_month, "aggs": {"sales": {"sum": {"field": "year"}}, **inside}}


def values(answer: Any, name: str) -> list[Any]:
    return [bucket.get(name, {}).get("value") for bucket in answer["m"]["buckets"]]


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("avg_bucket", {}, {"value": (550 + 60 + 0 + 375) / 4}),
        ("max_bucket", {}, {"value": 550.0, "keys": ["2015-01"]}),
        ("min_bucket", {}, {"value": 0.0, "keys": ["2015-03"]}),
        ("sum_bucket", {}, {"value": 985.0}),
        ("stats_bucket", {}, {"count": 4, "min": 0.0, "max": 550.0, "avg": 246.25, "sum": 985.0}),
        ("percentiles_bucket", {"percents": [0, 100]}, {"values": {"0.0": 0.0, "100.0": 550.0}}),
    ],
)  # fmt: skip
def test_siblings_look_at_all_buckets(kind: str, options: Any, expected: Any) -> None:
    found = shown({"all": {kind: {"buckets_path": "m>sales", **options}}, "m": months({})})
    assert list(found) == ["all", "m"]
    assert found["all"] == expected


@pytest.mark.parametrize("kind", ["avg_bucket", "sum_bucket", "stats_bucket"])
def test_sums_beyond_all_floats_end_at_the_greatest(kind: str) -> None:
    buckets = [{"key": key, "doc_count": 1, "m": {"value": 1.7e308}} for key in range(3)]
    asked = PipelineOf(kind, (("", "a>m"),))
    found = with_siblings((("s", asked),), {"a": {"buckets": buckets}})["s"]
    assert all(value > 0 and math.isfinite(value) for value in found.values())


def test_siblings_of_counts_and_of_what_has_no_buckets() -> None:
    found = shown({"m": months({}), "n": {"max_bucket": {"buckets_path": "m>_count"}}})
    assert found["n"] == {"value": 3, "keys": ["2015-01"]}
    nothing = shown({"m": months({}), "n": {"avg_bucket": {"buckets_path": "m>sales"}}}, rows=[])
    assert nothing["n"] == {"value": None}


def test_parents_go_from_bucket_to_bucket() -> None:
    inside = {
        "sums": {"cumulative_sum": {"buckets_path": "sales"}},
        "change": {"derivative": {"buckets_path": "sales"}},
        "faster": {"derivative": {"buckets_path": "change"}},
        "two_before": {"serial_diff": {"buckets_path": "sales", "lag": 2}},
        "each": {
            "bucket_script": {"buckets_path": {"s": "sales", "n": "_count"}, "script": "params.s / params.n"}
        },
    }
    found = shown({"m": months(inside)})
    assert values(found, "sums") == [550, 610, 610, 985]
    assert values(found, "change") == [None, -490, -60, 375]
    assert values(found, "faster") == [None, None, 430, 435]
    assert values(found, "two_before") == [None, None, -550, 315]
    assert values(found, "each") == [550 / 3, 30, None, 375]
    counted = shown({"m": months({"n": {"cumulative_sum": {"buckets_path": "_count"}}}, keyed=True)})
    assert [one["n"]["value"] for one in counted["m"]["buckets"].values()] == [3, 5, 5, 6]
    assert list(counted["m"]["buckets"]) == ["2015-01", "2015-02", "2015-03", "2015-04"]


def test_buckets_are_chosen_and_sorted() -> None:
    chosen = {"bucket_selector": {"buckets_path": {"total": "sales"}, "script": "params.total > 200"}}
    assert values(shown({"m": months({"only": chosen})}), "sales") == [550, 375]
    ordered = {"bucket_sort": {"sort": [{"sales": {"order": "desc"}}], "size": 3}}
    assert values(shown({"m": months({"top": ordered})}), "sales") == [550, 375, 60]
    assert values(shown({"m": months({"cut": {"bucket_sort": {"from": 1, "size": 1}}})}), "sales") == [60]
    by_stats = {
        "s": {"stats": {"field": "year"}},
        "o": {"bucket_sort": {"sort": [{"s.max": "desc"}, "_key"]}},
    }
    found = shown({"g": {"terms": {"field": "genre"}, "aggs": by_stats}})
    assert [bucket["key"] for bucket in found["g"]["buckets"]] == ["shirt", "hat"]


WRONG: list[tuple[Any, str]] = [
    ({"a": {"avg_bucket": {}}}, "buckets_path is missing"),
    ({"a": {"avg_bucket": {"buckets_path": "m>sales"}}}, "no aggregation beside it is called so"),
    ({"m": months({}), "a": {"avg_bucket": {"buckets_path": "m"}}}, "such as months>sales"),
    ({"a": {"cumulative_sum": {"buckets_path": "sales"}}}, "stands in the aggregation whose buckets"),
    ({"m": months({"a": {"derivative": {"buckets_path": "nope"}}})}, "no aggregation beside it is called so"),
    ({"m": months({"a": {"derivative": {"buckets_path": "a"}}})}, "no aggregation beside it is called so"),
    ({"m": months({"a": {"derivative": {"buckets_path": "sales", "unit": "day"}}})}, "unit"),
    ({"m": {"missing": {"field": "f"}, "aggs": {"a": {"bucket_sort": {"size": 1}}}}}, "has one bucket"),
    ({"m": months({"a": {"bucket_script": {"buckets_path": {"x": "sales"}, "script": "params.y"}}})},
     "params.y is not in buckets_path"),
    ({"m": months({"a": {"bucket_script": {"buckets_path": {"x": "sales"}, "script": "java.lang"}}})},
     "a script is numbers, params.name"),
    ({"m": months({"a": {"bucket_sort": {"sort": [{"sales": "up"}]}}})}, "an order is asc or desc"),
    ({"a": {"significant_terms": {"field": "f"}}}, "significant_terms is not supported: ask for terms"),
    ({"a": {"scripted_metric": {}}}, "scripted_metric is not supported: there are no scripts"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "said"), WRONG)
def test_what_cannot_be_computed_is_refused_before(body: Any, said: str) -> None:
    found = parse_aggregations(body, now_us=0)
    assert isinstance(found, QueryError)
    assert said in found.detail


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("params.a + params.b * 2", 13),
        ("(params.a + params.b) * 2", 16),
        ("params.a > 2 && params.b >= 5", 1),
        ("params.a > 3 || params['b'] != 5", 0),
        ("!(params.a == 3)", 0),
        ("-params.a % 2;", -1),
        ("1 - 2 - 3", -4),
        ("params.a / (params.b - 5)", None),
    ],
)
def test_formulas(text: str, value: float | None) -> None:
    assert compile_formula(text)({"a": 3.0, "b": 5.0}) == value


@pytest.mark.parametrize(
    "text", ["", "params", "1 +", "(1", "1 2", "a()", "x = 1", "(" * 100 + "1", "1" * 2000]
)
def test_what_is_no_formula_is_refused(text: str) -> None:
    with pytest.raises(RefusedError):
        compile_formula(text)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="params.ab0123 +-*/%<>=!&|()", max_size=40))
def test_any_text_is_a_formula_or_a_clear_error(text: str) -> None:
    with contextlib.suppress(RefusedError):
        compile_formula(text)
