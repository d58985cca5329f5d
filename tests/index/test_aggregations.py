"""Aggregations: parts add up to the whole, and the whole is what plain Python counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median, pstdev, quantiles, variance
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from index.aggregation import Aggregations, Distinct, Filtered, Partials, StatsOf
from index.aggregation_dsl import parse_aggregations
from index.bounds import QueryError, RefusedError
from index.computing import compute
from index.finishing import finish, top_hits
from index.instants import parse_instant
from index.merging import merge_all
from index.query import DATE, EXACT, NUMBER, Query, Term, Value
from index.sketches import count_distinct, distinct_of, merge_distinct


class Row:
    """A document of a few fields, as an index would offer it."""

    def __init__(self, number: int, genres: list[str], year: int | None, at: str) -> None:
        self.key = b"%04d" % number
        self.score = 1.0
        self.held: dict[tuple[str, str], list[Value]] = {
            ("genre", EXACT): [*genres],
            ("genre", ""): [*genres],
        }
        if year is not None:
            self.held["year", NUMBER] = self.held["year", ""] = [year]
        at_us = parse_instant(at)
        assert at_us is not None
        self.held["at", DATE] = [at_us]
        self.genres, self.year, self.at = genres, year, at

    def values(self, field: str, view: str) -> Sequence[Value]:
        return self.held.get((field, view), ())

    def has(self, field: str) -> bool:
        return any(name == field and values for (name, _), values in self.held.items())

    def nested(self, path: str) -> Sequence[Row]:
        assert path == "genres"
        return [Row(number, [genre], self.year, self.at) for number, genre in enumerate(self.genres)]

    def matches(self, query: Query) -> bool:
        assert isinstance(query, Term)
        return query.value in self.values(query.field, query.view)


rows = st.lists(
    st.builds(
        lambda genres, year, month, day: (genres, year, f"2024-{month:02d}-{day:02d}T10:00:00Z"),
        st.lists(st.sampled_from(["drama", "comedy", "noir", "공포"]), max_size=3, unique=True),
        st.one_of(st.none(), st.integers(1950, 1990)),
        st.integers(1, 12),
        st.integers(1, 28),
    ),
    max_size=25,
).map(lambda found: [Row(i, *row) for i, row in enumerate(found)])

ASKED: dict[str, Any] = {
    "genres": {
        "terms": {"field": "genre", "size": 3},
        "aggs": {"years": {"stats": {"field": "year"}}, "first": {"top_hits": {"size": 1, "sort": ["year"]}}},
    },
    "decades": {"histogram": {"field": "year", "interval": 10}},
    "months": {"date_histogram": {"field": "at", "calendar_interval": "month", "min_doc_count": 1}},
    "spans": {
        "range": {"field": "year", "ranges": [{"to": 1960}, {"from": 1960, "to": 1970}, {"from": 1970}]}
    },
    "years": {"extended_stats": {"field": "year"}},
    "shares": {"percentiles": {"field": "year", "percents": [50]}},
    "distinct": {"cardinality": {"field": "genre"}},
    "without": {"missing": {"field": "year"}},
    "by_average": {
        "terms": {"field": "genre", "order": {"mean": "desc"}},
        "aggs": {"mean": {"avg": {"field": "year"}}},
    },
}


def asked(body: Any = ASKED) -> Aggregations:
    found = parse_aggregations(body, now_us=0)
    assert not isinstance(found, QueryError), found
    return found


def shown(partials: Partials) -> dict[str, Any]:
    return finish(asked(), partials, lambda _, hits: [{"_id": hit.key} for hit in hits])


def over_the_wire(partials: Partials) -> Partials:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(partials), type=Partials)


@settings(max_examples=60, deadline=None)
@given(rows, st.integers(1, 4))
def test_parts_add_up_to_the_whole(found: list[Row], parts: int) -> None:
    whole = compute(asked(), found)
    pieces = [over_the_wire(compute(asked(), found[i::parts])) for i in range(parts)]
    assert shown(merge_all(asked(), pieces)) == shown(merge_all(asked(), [whole]))


@settings(max_examples=60, deadline=None)
@given(rows)
def test_the_whole_is_what_plain_python_counts(found: list[Row]) -> None:
    answer = shown(merge_all(asked(), [compute(asked(), found)]))
    years = [row.year for row in found if row.year is not None]
    names = sorted({genre for row in found for genre in row.genres})
    counts = {name: sum(name in row.genres for row in found) for name in names}
    expected = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    buckets = answer["genres"]["buckets"]
    assert [(b["key"], b["doc_count"]) for b in buckets] == expected[:3]
    assert answer["genres"]["sum_other_doc_count"] == sum(count for _, count in expected[3:])
    for bucket in buckets:
        inside = [row for row in found if bucket["key"] in row.genres]
        held = [row.year for row in inside if row.year is not None]
        assert bucket["years"]["count"] == len(held) and bucket["years"]["sum"] == sum(held)
        first = min(inside, key=lambda row: (row.year is None, row.year or 0, row.key))
        assert bucket["first"]["hits"]["hits"] == [{"_id": first.key}]
    assert answer["distinct"]["value"] == len(names)
    assert answer["without"]["doc_count"] == len(found) - len(years)
    assert [b["doc_count"] for b in answer["spans"]["buckets"]] == [
        sum(year < 1960 for year in years),
        sum(1960 <= year < 1970 for year in years),
        sum(year >= 1970 for year in years),
    ]
    decades = {b["key"]: b["doc_count"] for b in answer["decades"]["buckets"]}
    if years:
        span = range(min(years) // 10 * 10, max(years) // 10 * 10 + 1, 10)
        assert decades == {key: sum(year // 10 * 10 == key for year in years) for key in span}
        assert answer["years"]["avg"] == pytest.approx(sum(years) / len(years))
        mean = sum(years) / len(years)
        spread = math.sqrt(sum((year - mean) ** 2 for year in years) / len(years))
        assert answer["years"]["std_deviation"] == pytest.approx(spread, abs=1e-3)
        assert answer["shares"]["values"]["50.0"] == pytest.approx(median(years), rel=0.011)
    months = {b["key_as_string"][:7]: b["doc_count"] for b in answer["months"]["buckets"]}
    assert months == {m: sum(row.at[:7] == m for row in found) for m in sorted({row.at[:7] for row in found})}


def test_what_is_shown_of_top_hits_is_known_before_it_is_shown() -> None:
    found = [Row(i, ["drama"], 1950 + i, "2024-01-01") for i in range(5)]
    partials = merge_all(asked(), [compute(asked(), found)])
    assert [hit.key for _, hit in top_hits(asked(), partials)] == [b"0000"]


def test_percentiles_are_within_one_percent() -> None:
    body = {"p": {"percentiles": {"field": "year", "percents": [1, 25, 50, 75, 99]}}}
    values = [((i * 7919) % 10_007) ** 2 + 1 for i in range(5_000)]
    found = [Row(i, [], value, "2024-01-01") for i, value in enumerate(values)]
    answer = finish(asked(body), compute(asked(body), found), lambda _, hits: [])["p"]["values"]
    exact = quantiles(values, n=100, method="inclusive")
    for share in (1, 25, 50, 75, 99):
        assert answer[f"{share:.1f}"] == pytest.approx(exact[share - 1], rel=0.03)


def test_many_distinct_values_are_estimated_and_parts_of_them_add_up() -> None:
    one, other = (distinct_of(range(first, first + 30_000)) for first in (0, 15_000))
    whole: Distinct = merge_distinct([one, other])
    assert whole.registers and whole == distinct_of(range(45_000))
    assert count_distinct(whole) == pytest.approx(45_000, rel=0.03)
    assert count_distinct(distinct_of([1, 1.0, "1", True])) == 3


def test_nested_buckets_are_bounded_in_all() -> None:
    inner = {"terms": {"field": "year", "size": 10_000}}
    body = {"a": {**inner, "aggs": {"b": {**inner, "aggs": {"c": inner}}}}}
    few = [Row(i, [], i, "2024-01-01") for i in range(200)]
    assert compute(asked(body), few)
    found = [Row(i, [], i, "2024-01-01") for i in range(2_000)]
    with pytest.raises(RefusedError, match="buckets in all"):
        compute(asked({"x": inner | {"aggs": {f"b{i}": inner for i in range(40)}}}), found)


WRONG: list[tuple[Any, str, str]] = [
    (3, "aggs", "an object of names"),
    ({"a": {}}, "aggs.a", "one kind"),
    ({"a": {"trems": {}}}, "aggs.a", "there is no aggregation 'trems'"),
    ({"a": {"terms": {}}}, "aggs.a.terms", "field is missing"),
    ({"a": {"terms": {"field": "f", "sise": 3}}}, "aggs.a.terms", "'sise' is not known"),
    ({"a": {"terms": {"field": "f", "size": 10**9}}}, "aggs.a.terms", "size is a whole number"),
    ({"a": {"terms": {"field": "f", "order": {"x": "asc"}}}}, "aggs.a.terms", "no metric inside"),
    ({"a": {"avg": {"field": "f"}, "aggs": {"b": {"avg": {"field": "g"}}}}}, "aggs.a", "has no buckets"),
    ({"a": {"histogram": {"field": "f", "interval": 0}}}, "aggs.a.histogram", "interval is a number"),
    ({"a": {"date_histogram": {"field": "f"}}}, "aggs.a.date_histogram", "either calendar_interval"),
    ({"a": {"filter": {"match": {}}}}, "aggs.a.filter.match", "exactly one field"),
    ({"a": {"percentiles": {"field": "f", "percents": [101]}}}, "aggs.a.percentiles", "0 to 100"),
    (
        {"a": {"filter": {"match_all": {}}, "aggs": {"g": {"global": {}}}}},
        "aggs.a.aggs.g",
        "stands at the top",
    ),
    ({"a": {"terms": {"field": "f", "include": "("}}}, "aggs.a.terms.include", "not closed"),
    (
        {"a": {"histogram": {"field": "f", "interval": 1, "extended_bounds": {"min": 2, "max": 1}}}},
        "aggs.a.histogram",
        "min is above max",
    ),
    (
        {"a": {"date_histogram": {"field": "f", "fixed_interval": "1d", "time_zone": "Moon"}}},
        "aggs.a.date_histogram",
        "no time zone 'Moon'",
    ),
    (
        {"a": {"date_histogram": {"field": "f", "fixed_interval": "1d", "format": "foo"}}},
        "aggs.a.date_histogram",
        "no date format 'foo'",
    ),
    (
        {"a": {"date_range": {"field": "f", "format": "yyyy", "ranges": [{"from": "May"}]}}},
        "aggs.a.date_range.ranges[0]",
        "a date belongs here, yyyy",
    ),
    ({str(i): {"avg": {"field": "f"}} for i in range(101)}, "aggs", "more than 100"),
]


@pytest.mark.parametrize(
    ("body", "path", "said"), WRONG, ids=lambda each: each[:25] if isinstance(each, str) else ""
)
def test_what_cannot_be_asked_is_told_with_its_path(body: Any, path: str, said: str) -> None:
    found = parse_aggregations(body, now_us=0)
    assert isinstance(found, QueryError)
    assert found.path == path and said in found.detail, found


bodies = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(["f", "month", "asc", "1d"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["field", "interval", "ranges", "from", "order", "_key", "filters", "aggs", "size"]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(
        ["terms", "range", "date_range", "histogram", "date_histogram", "filters", "avg", "top_hits"]
        + ["avg_bucket", "bucket_script", "bucket_sort", "derivative"]
    ),
    bodies,
)
def test_any_body_is_an_aggregation_or_a_clear_error(kind: str, body: Any) -> None:
    found = parse_aggregations({"a": {kind: body}}, now_us=0)
    assert isinstance(found, QueryError) or found[0][0] == "a"


def told(body: Any, found: list[Row]) -> Any:
    """What is shown of the aggregation `a`, asked of parts that are added up."""
    of = asked({"a": body})
    parts = [compute(of, found[i::2]) for i in range(2)]
    return finish(of, merge_all(of, parts), lambda _, hits: [{"_id": hit.key} for hit in hits])["a"]


FOUND = [
    Row(0, ["drama"], 1950, "2024-01-15T10:00:00Z"),
    Row(1, ["drama", "noir"], 1955, "2024-01-31T23:30:00Z"),
    Row(2, ["comedy"], None, "2024-03-05T00:00:00Z"),
    Row(3, [], 1972, "2024-03-31T00:30:00Z"),
]
MONTHS = {"field": "at", "calendar_interval": "month", "format": "yyyy-MM"}
YEARS = {"field": "year", "interval": 10}

SHAPES: list[tuple[Any, Any]] = [
    ({"histogram": {**YEARS, "min_doc_count": 1, "keyed": True}},
     {"buckets": {"1950.0": {"key": 1950.0, "doc_count": 2}, "1970.0": {"key": 1970.0, "doc_count": 1}}}),
    ({"histogram": {**YEARS, "hard_bounds": {"max": 1960}, "extended_bounds": {"min": 1940, "max": 1955}}},
     {"buckets": [{"key": 1940.0, "doc_count": 0}, {"key": 1950.0, "doc_count": 2}]}),
    ({"histogram": {**YEARS, "min_doc_count": 1, "missing": 1971, "order": {"_count": "desc"}}},
     {"buckets": [{"key": 1950.0, "doc_count": 2}, {"key": 1970.0, "doc_count": 2}]}),
    ({"date_histogram": {**MONTHS, "min_doc_count": 1, "time_zone": "Asia/Seoul"}},
     {"buckets": [{"key_as_string": "2024-01", "key": 1704034800000, "doc_count": 1},
                  {"key_as_string": "2024-02", "key": 1706713200000, "doc_count": 1},
                  {"key_as_string": "2024-03", "key": 1709218800000, "doc_count": 2}]}),
    ({"date_histogram": {"field": "at", "calendar_interval": "day", "time_zone": "Europe/Berlin",
                         "hard_bounds": {"min": "2024-03-30", "max": "2024-04-01"},
                         "extended_bounds": {"min": "2024-03-30", "max": "2024-04-01"}}},
     {"buckets": [{"key_as_string": "2024-03-30T00:00:00.000+01:00", "key": 1711753200000, "doc_count": 0},
                  {"key_as_string": "2024-03-31T00:00:00.000+01:00", "key": 1711839600000, "doc_count": 1},
                  {"key_as_string": "2024-04-01T00:00:00.000+02:00", "key": 1711922400000, "doc_count": 0}]}),
    ({"date_histogram": {"field": "at", "calendar_interval": "day", "offset": "+6h", "min_doc_count": 1,
                         "hard_bounds": {"max": "2024-01-30T06:00"}, "keyed": True}},
     {"buckets": {"2024-01-15T06:00:00.000Z":
                  {"key_as_string": "2024-01-15T06:00:00.000Z", "key": 1705298400000, "doc_count": 1}}}),
    ({"range": {"field": "year", "keyed": True, "ranges": [{"to": 1960}, {"from": 1960, "key": "new"}]}},
     {"buckets": {"*-1960.0": {"to": 1960, "doc_count": 2}, "new": {"from": 1960, "doc_count": 1}}}),
    ({"date_range": {"field": "at", "format": "yyyy-MM", "ranges": [{"from": "2024-02"}]}},
     {"buckets": [{"key": "2024-02-*", "from": 1706745600000.0, "from_as_string": "2024-02",
                   "doc_count": 2}]}),
    ({"terms": {"field": "genre", "include": ".*a", "exclude": ["noir"]}},
     {"doc_count_error_upper_bound": 0, "sum_other_doc_count": 0,
      "buckets": [{"key": "drama", "doc_count": 2}]}),
    ({"nested": {"path": "genres"}, "aggs": {"g": {"terms": {"field": "genre", "size": 1}}}},
     {"doc_count": 4, "g": {"doc_count_error_upper_bound": 0, "sum_other_doc_count": 2,
                            "buckets": [{"key": "drama", "doc_count": 2}]}}),
    ({"percentiles": {"field": "year", "percents": [0, 50, 100], "keyed": False, "missing": 1990}},
     {"values": [{"key": 0.0, "value": 1950.0}, {"key": 50.0, "value": pytest.approx(1963.5, rel=0.011)},
                 {"key": 100.0, "value": 1990.0}]}),
    ({"cardinality": {"field": "genre", "missing": "none"}}, {"value": 4}),
    ({"value_count": {"field": "year", "missing": 1}}, {"value": 4}),
    ({"top_hits": {"size": 1, "from": 1, "sort": ["year"]}},
     {"hits": {"total": {"value": 4, "relation": "eq"}, "max_score": None, "hits": [{"_id": b"0001"}]}}),
]  # fmt: skip


@pytest.mark.parametrize(("body", "shape"), SHAPES, ids=lambda each: next(iter(each)))
def test_options_are_heeded(body: Any, shape: Any) -> None:
    assert told(body, FOUND) == shape


@pytest.mark.parametrize(
    ("zone", "interval", "first", "last", "starts"),
    [
        ("America/Santiago", "day", "2026-09-05", "2026-09-07", ["05T00-04", "06T01-03", "07T00-03"]),
        ("America/Havana", "day", "2026-10-31", "2026-11-02", ["31T00-04", "01T00-04", "02T00-05"]),
        ("America/New_York", "hour", "2026-03-08T01:10", "2026-03-08T03:10", ["08T01-05", "08T03-04"]),
        ("America/New_York", "hour", "2026-11-01T00:10", "2026-11-01T02:10",
         ["01T00-04", "01T01-04", "01T01-05", "01T02-05"]),
        ("Europe/Berlin", "hour", "2026-10-25T01:10", "2026-10-25T03:10",
         ["25T01+02", "25T02+02", "25T02+01", "25T03+01"]),
    ],
)  # fmt: skip
def test_buckets_of_dates_begin_where_clocks_are_put_forward_or_back(
    zone: str, interval: str, first: str, last: str, starts: list[str]
) -> None:
    bounds = {"min": first, "max": last}
    of = {"field": "at", "calendar_interval": interval, "time_zone": zone}
    shown = told({"date_histogram": {**of, "hard_bounds": bounds, "extended_bounds": bounds}}, FOUND)
    assert [(text := bucket["key_as_string"])[8:13] + text[23:26] for bucket in shown["buckets"]] == starts


def test_filters_may_have_no_names_and_a_bucket_for_the_rest() -> None:
    drama, other = {"term": {"genre": "drama"}}, {"term": {"genre": "x"}}
    of = asked({"a": {"filters": {"filters": [drama, other], "other_bucket": True}}})
    name, one = of[0]
    assert isinstance(one, Filtered)
    planned = tuple((key, Term("genre", EXACT, value)) for key, value in (("0", "drama"), ("1", "x")))
    of = ((name, msgspec.structs.replace(one, filters=planned)),)
    answer = finish(of, merge_all(of, [compute(of, FOUND)]), lambda _, hits: [])
    assert [bucket["doc_count"] for bucket in answer["a"]["buckets"]] == [2, 0, 2]


def test_stats_of_what_has_no_numbers_are_of_its_dates() -> None:
    of = (("a", StatsOf("at", "")), ("b", StatsOf("at", "", "max")), ("c", StatsOf("year", "", "max")))
    parts = [over_the_wire(compute(of, FOUND[i::2])) for i in range(2)]
    answer = finish(of, merge_all(of, parts), lambda _, hits: [])
    assert answer["a"]["min_as_string"] == "2024-01-15T10:00:00.000Z" and answer["a"]["count"] == 4
    assert answer["b"] == {"value": 1711845000000.0, "value_as_string": "2024-03-31T00:30:00.000Z"}
    assert answer["c"] == {"value": 1972.0}


def test_extended_stats_are_those_of_python() -> None:
    years = [row.year for row in FOUND if row.year is not None]
    answer = told({"extended_stats": {"field": "year", "sigma": 3}}, FOUND)
    assert answer["variance_sampling"] == pytest.approx(variance(years))
    assert answer["std_deviation_population"] == pytest.approx(pstdev(years))
    upper = answer["avg"] + 3 * pstdev(years)
    assert answer["std_deviation_bounds"]["upper"] == pytest.approx(upper)
    assert told({"extended_stats": {"field": "nope"}}, FOUND)["std_deviation_bounds"]["lower"] is None


def test_what_clients_write_out_in_aggregations() -> None:
    def read(options: dict[str, Any]) -> Any:
        return parse_aggregations({"a": options}, now_us=0)

    months = {"field": "at", "calendar_interval": "month"}
    assert read({"date_histogram": {**months, "offset": 0}}) == read({"date_histogram": months})
    hours = read({"date_histogram": {**months, "offset": -7_200_000}})
    assert hours == read({"date_histogram": {**months, "offset": "-2h"}})
    off = {"version": False, "seq_no_primary_term": False, "explain": False}
    assert read({"top_hits": {"size": 1, **off}}) == read({"top_hits": {"size": 1}})
    refused = read({"top_hits": {"version": True}})
    assert isinstance(refused, QueryError) and refused.detail == "version is not supported"
