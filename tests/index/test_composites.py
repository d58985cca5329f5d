"""Combinations of values page by page, weighted averages, and percentiles of few values."""

from __future__ import annotations

from statistics import quantiles
from typing import Any

import orjson
import pytest
from hypothesis import given, settings, strategies as st

from index.aggregation import CompositeOf
from index.aggregation_dsl import parse_aggregations
from index.bounds import QueryError, RefusedError
from index.composites import combinations, key_of, values_of
from index.computing import compute
from index.merging import merge_all
from index.sketches import merge_sketches, quantile, sketch_of
from tests.index.test_aggregations import Row, rows
from tests.index.test_pipelines import SALES, shown

GENRES = {"genre": {"terms": {"field": "genre"}}}
YEARS = {"year": {"histogram": {"field": "year", "interval": 10, "order": "desc"}}}


def composite(*sources: Any, **options: Any) -> dict[str, Any]:
    return {"c": {"composite": {"sources": [*sources], **options}}}


def pages(*sources: Any, documents: Any = SALES, size: int = 2) -> list[tuple[Any, int]]:
    """All pages, one after the other."""
    found: list[tuple[Any, int]] = []
    after: dict[str, Any] = {}
    while True:
        page = shown(composite(*sources, size=size, **after), documents)["c"]
        assert len(page["buckets"]) <= size
        found += [(tuple(one["key"].values()), one["doc_count"]) for one in page["buckets"]]
        if not page["buckets"]:
            assert "after_key" not in page
            return found
        assert page["after_key"] == page["buckets"][-1]["key"]
        after = {"after": page["after_key"]}


@settings(max_examples=60, deadline=None)
@given(rows, st.integers(1, 4))
def test_pages_hold_every_combination_once_with_its_count(documents: list[Row], size: int) -> None:
    counted: dict[tuple[str, float], int] = {}
    for one in documents:
        for genre in one.genres if one.year is not None else ():
            key = genre, one.year // 10 * 10.0  # type: ignore[operator]
            counted[key] = counted.get(key, 0) + 1
    expected = sorted(counted.items(), key=lambda item: (item[0][0], -item[0][1]))
    assert pages(GENRES, YEARS, documents=documents, size=size) == expected


def test_buckets_have_aggregations_inside_and_dates_their_format() -> None:
    month = {"m": {"date_histogram": {"field": "at", "calendar_interval": "month", "format": "yyyy-MM"}}}
    assert pages(month) == [(("2015-01",), 3), (("2015-02",), 2), (("2015-04",), 1)]
    days = {"d": {"date_histogram": {"field": "at", "fixed_interval": "1d", "order": "desc"}}}
    assert pages(days)[0] == ((1427846400000,), 1)
    body = composite(GENRES)
    body["c"]["aggs"] = {"sold": {"sum": {"field": "year"}}}
    assert [(b["key"]["genre"], b["sold"]["value"]) for b in shown(body)["c"]["buckets"]] == [
        ("hat", 450.0), ("shirt", 535.0)
    ]  # fmt: skip


def test_what_has_no_value_is_left_out_or_null() -> None:
    documents = [*SALES, Row(9, [], 10, "2015-01-01T10:00:00Z")]
    assert pages(GENRES, documents=documents) == [(("hat",), 3), (("shirt",), 3)]
    for options, first in (({}, True), ({"order": "desc"}, False), ({"missing_order": "last"}, False)):
        source = {"g": {"terms": {"field": "genre", "missing_bucket": True, **options}}}
        found = pages(source, documents=documents, size=1)
        assert found[0 if first else -1] == ((None,), 1)
        assert len(found) == 3


def test_values_that_look_alike_are_kept_apart() -> None:
    assert key_of([1, True, "1"]) == key_of([1.0, True, "1"]) != key_of([True, 1, "1"])
    assert values_of(key_of([1.0, None, "가"])) == (1, None, "가")
    with pytest.raises(RefusedError):
        combinations([[*range(101)], [*range(100)]])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (composite(), "sources is a list of 1"),
        (composite({"a": {"geotile_grid": {"field": "x"}}}), "a source is one of: terms"),
        (composite({"a": {"terms": {}}}), "field is missing"),
        (composite(GENRES, GENRES), "two sources have one name"),
        (composite(GENRES, after={"other": 1}), "after is the after_key of a page"),
        (composite(GENRES, after={"genre": None}), "a value is text"),
        (composite(GENRES, size=0), "size is a whole number"),
        ({"t": {"terms": {"field": "a"}, "aggs": composite(GENRES)}}, "composite stands at the top"),
        ({"w": {"weighted_avg": {"value": {"field": "a"}}}}, "weight is missing"),
        ({"m": {"multi_terms": {}}}, "multi_terms is not supported: composite has"),
    ],
)
def test_what_is_refused(body: Any, said: str) -> None:
    found = parse_aggregations(body, now_us=0)
    assert isinstance(found, QueryError)
    assert said in found.detail


def test_a_peer_sends_only_the_first() -> None:
    (asked,) = [one for _, one in parse_aggregations(composite(GENRES, size=1), now_us=0)]  # type: ignore[union-attr]
    assert isinstance(asked, CompositeOf)
    part = compute((("c", asked),), SALES)["c"]
    assert len(part.buckets) == 1  # type: ignore[union-attr]
    merged = merge_all((("c", asked),), [{"c": part}, {"c": part}])["c"]
    assert merged.buckets[0].count == 6  # type: ignore[union-attr]


def test_a_weighted_average_counts_as_often_as_is_said() -> None:
    def average(documents: list[Row], **weight: Any) -> Any:
        body = {"w": {"weighted_avg": {"value": {"field": "year"}, "weight": {"field": "n", **weight}}}}
        return shown(body, documents)["w"]["value"]

    documents = [Row(n, [], year, "2015-01-01T10:00:00Z") for n, year in enumerate((1, 2, 3))]
    for one, weight in zip(documents, ([2], [3], []), strict=True):
        one.held["n", "number"] = [*weight]
    assert average(documents) == (1 * 2 + 2 * 3) / 5
    assert average(documents, missing=5) == (1 * 2 + 2 * 3 + 3 * 5) / 10
    assert average([]) is None
    documents[0].held["n", "number"] = [1, 2]
    with pytest.raises(RefusedError, match="several values"):
        average(documents)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=40), st.integers(0, 40))
def test_percentiles_of_few_values_are_exact(values: list[int], cut: int) -> None:
    sketch = merge_sketches([sketch_of(values[:cut]), sketch_of(values[cut:])])
    middle = quantile(sketch, 0.5)
    assert middle == pytest.approx(quantiles(values, n=2, method="inclusive")[0])
    many = merge_sketches([sketch_of([*values] * 300), sketch_of(values)])
    assert not many.exact
    found = quantile(many, 0.5)
    assert found is not None and middle is not None


@pytest.mark.parametrize("value", [1e300, -1e300, 2.0**64, 2.0**63, -(2.0**63), 1e19, 1.5, 3.0, 2**64 - 1])
def test_keys_of_numbers_of_any_size_can_be_shown_and_given_back(value: float) -> None:
    (back,) = values_of(key_of((value,)))
    assert back == value
    assert orjson.loads(orjson.dumps(back)) == value
    assert key_of((back,)) == key_of((value,))
