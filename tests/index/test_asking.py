"""What peers are asked and answer travels as bytes, and is the same at the other end."""

from __future__ import annotations

from typing import Any

import pytest

from index.aggregation_dsl import AGGREGATIONS, parse_aggregations
from index.asking import Ask, Found, Seek, Sought, decode_result, decode_work, encode
from index.bounds import QueryError
from index.computing import compute
from index.mapped import MappedFields
from index.mapping import Mapping, Rules, compile_mapping
from index.query import FunctionScore, Statistics
from index.query_dsl import QUERIES, parse_query
from index.rewriting import Rewriter
from index.rewriting_aggregations import rewrite_aggregations
from tests.index.test_pipelines import SALES

RULES = compile_mapping(Mapping())
assert isinstance(RULES, Rules)
REWRITER = Rewriter(MappedFields(RULES), now_us=0, key_of=lambda name: name.encode())

ANY: dict[str, Any] = {"match_all": {}}
TERM = {"term": {"t": "a"}}
BODIES: dict[str, Any] = {
    "match": {"t": {"query": "a b", "fuzziness": 1, "operator": "and"}},
    "multi_match": {"query": "a b", "fields": ["t^2", "u"]},
    "combined_fields": {"query": "a b", "fields": ["t", "u"]},
    "match_phrase": {"t": {"query": "a b", "slop": 2}},
    "match_phrase_prefix": {"t": "a b"},
    "match_bool_prefix": {"t": "a b"},
    "match_all": {},
    "match_none": {},
    "query_string": {"query": "t:(a OR b*) -c year:[1 TO 2}"},
    "simple_query_string": {"query": "a +b"},
    "term": {"t": "a"},
    "terms": {"t": ["a", 1, True, 123456789012345678901234567890]},
    "range": {"n": {"gte": 1, "lt": 2.5}},
    "prefix": {"t": "a"},
    "wildcard": {"t": "a*b?"},
    "regexp": {"t": "a.*"},
    "fuzzy": {"t": "abc"},
    "exists": {"field": "t"},
    "ids": {"values": ["1", "2"]},
    "bool": {"must": [TERM], "should": [TERM, ANY], "must_not": [ANY], "minimum_should_match": 1},
    "dis_max": {"queries": [TERM, ANY], "tie_breaker": 0.5},
    "boosting": {"positive": ANY, "negative": TERM, "negative_boost": 0.5},
    "constant_score": {"filter": TERM, "boost": 3},
    "nested": {"path": "p", "query": TERM},
    "function_score": {
        "query": ANY,
        "functions": [
            {"filter": TERM, "weight": 2},
            {"field_value_factor": {"field": "n", "modifier": "log1p", "missing": 1}},
            {"random_score": {"seed": 7}},
            {"gauss": {"n": {"origin": 1, "scale": 2, "decay": 0.3}}},
        ],
        "score_mode": "sum",
        "min_score": 0.5,
    },
}

FIELD = {"field": "year"}
METRIC = {"m": {"max": FIELD}}
INSIDE = {"buckets_path": "m"}
BESIDE = {"buckets_path": "b>m"}
BUCKETS = {"histogram": {"field": "year", "interval": 10}, "aggs": METRIC}
SOURCES = [{"g": {"terms": {"field": "genre"}}}, {"y": {"histogram": {**FIELD, "interval": 9}}}]
AGGREGATED: dict[str, Any] = {
    "terms": {"field": "genre", "include": ["hat"], "missing": "none", "order": {"_key": "desc"}},
    "range": {"field": "year", "ranges": [{"to": 100}, {"from": 100}]},
    "date_range": {"field": "at", "ranges": [{"to": "2015-02-01"}]},
    "histogram": {"field": "year", "interval": 100, "extended_bounds": {"min": 0, "max": 5}},
    "date_histogram": {"field": "at", "calendar_interval": "month", "time_zone": "Asia/Seoul"},
    "filter": ANY,
    "filters": {"filters": {"all": ANY}},
    "missing": FIELD,
    "nested": {"path": "genres"},
    "global": {},
    "top_hits": {"sort": ["year"], "_source": ["a"]},
    "percentile_ranks": {"field": "year", "values": [100]},
    "composite": {"sources": SOURCES, "after": {"g": "a", "y": 2}},
    "weighted_avg": {"value": FIELD, "weight": FIELD},
}  # fmt: skip
OF_BUCKETS: dict[str, Any] = {
    "bucket_script": {"buckets_path": {"a": "m"}, "script": "params.a * 2"},
    "bucket_selector": {"buckets_path": {"a": "m"}, "script": "params.a > 2"},
    "bucket_sort": {"sort": [{"m": "desc"}], "size": 2},
}


@pytest.mark.parametrize("kind", QUERIES)
def test_a_query_of_every_kind_is_the_same_at_the_other_end(kind: str) -> None:
    query = parse_query({kind: BODIES.get(kind, {})}) if kind != "more_like_this" else parse_query(TERM)
    assert not isinstance(query, QueryError), query
    planned = REWRITER.rewrite(query)
    assert not isinstance(planned, QueryError), planned
    work = Seek(Ask(planned, Statistics(), 10), 5)
    assert decode_work(encode(work)) == work
    assert isinstance(planned, FunctionScore) == (kind == "function_score")


def aggregated(kind: str) -> dict[str, Any]:
    if kind in AGGREGATED:
        return {"x": {kind: AGGREGATED[kind]}}
    if kind in OF_BUCKETS or kind in ("cumulative_sum", "derivative", "serial_diff"):
        return {"b": {**BUCKETS, "aggs": {**METRIC, "x": {kind: OF_BUCKETS.get(kind, INSIDE)}}}}
    return {"b": BUCKETS, "x": {kind: BESIDE}} if kind.endswith("_bucket") else {"x": {kind: FIELD}}


@pytest.mark.parametrize("kind", AGGREGATIONS)
def test_an_aggregation_of_every_kind_and_its_part_are_the_same_at_the_other_end(kind: str) -> None:
    asked = parse_aggregations(aggregated(kind), now_us=0)
    assert not isinstance(asked, QueryError), asked
    found = rewrite_aggregations(REWRITER, asked)
    assert not isinstance(found, QueryError), found
    query = REWRITER.rewrite(parse_query(ANY))  # type: ignore[arg-type]
    work = Seek(Ask(query, Statistics(), 0, aggregations=found))  # type: ignore[arg-type]
    assert decode_work(encode(work)) == work
    if kind in ("global", "filter", "filters"):
        return  # a question of its own; rows of this test judge no queries but terms
    result = Sought(Found(3, (), compute(asked, SALES)))
    assert decode_result(encode(result)) == result
