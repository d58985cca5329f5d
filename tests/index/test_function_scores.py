"""Scores by functions: `function_score` and `min_score`, judged of one document at a time."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from index.bounds import QueryError
from index.instants import parse_instant
from index.judging import Held, compile_query
from index.mapped import MappedFields
from index.mapping import Mapping, Rules, compile_mapping
from index.query import FunctionScore, Statistics
from index.query_dsl import parse_query
from index.rewriting import Rewriter
from index.search_body import SearchBody, parse_body

DOCUMENT: dict[str, Any] = {"likes": 100, "price": 15, "at": "2024-01-11", "tags": ["a", "b"], "many": [1, 5]}
NOW_US = parse_instant("2024-01-21T00:00:00Z") or 0
RULES = compile_mapping(Mapping())


def score(
    function: dict[str, Any], key: bytes = b"k", document: dict[str, Any] = DOCUMENT
) -> float | None:
    query = parse_query({"function_score": function})
    assert not isinstance(query, QueryError), query
    assert isinstance(RULES, Rules)
    planned = Rewriter(MappedFields(RULES), now_us=NOW_US, key_of=lambda _: None).rewrite(query)
    assert not isinstance(planned, QueryError), planned
    return compile_query(planned, Statistics())(Held(key, document, RULES))


WEIGHTS = [{"filter": {"term": {"tags": "a"}}, "weight": 3}, {"filter": {"term": {"tags": "b"}}, "weight": 5}]
TWO = {"query": {"constant_score": {"filter": {"match_all": {}}, "boost": 2}}}


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ({"weight": 4}, 4),
        ({"weight": "4", "boost": "2.5"}, 10),
        ({"query": {"term": {"tags": "z"}}, "weight": 4}, None),
        ({"functions": WEIGHTS}, 15),
        ({"functions": WEIGHTS, "score_mode": "sum"}, 8),
        ({"functions": WEIGHTS, "score_mode": "avg"}, 1),
        ({"functions": WEIGHTS, "score_mode": "first"}, 3),
        ({"functions": WEIGHTS, "score_mode": "max"}, 5),
        ({"functions": WEIGHTS, "score_mode": "min"}, 3),
        ({"functions": WEIGHTS, "max_boost": 10}, 10),
        ({"functions": [{"filter": {"term": {"tags": "z"}}, "weight": 3}], **TWO}, 2),
        ({**TWO, "weight": 3}, 6),
        ({**TWO, "weight": 3, "boost_mode": "replace"}, 3),
        ({**TWO, "weight": 3, "boost_mode": "sum"}, 5),
        ({**TWO, "weight": 3, "boost_mode": "avg"}, 2.5),
        ({**TWO, "weight": 3, "boost_mode": "max"}, 3),
        ({**TWO, "weight": 3, "boost_mode": "min"}, 2),
        ({**TWO, "weight": 3, "min_score": 6}, 6),
        ({**TWO, "weight": 3, "min_score": 6.5}, None),
        ({"field_value_factor": {"field": "likes"}}, 100),
        ({"field_value_factor": {"field": "likes", "factor": 1.2, "modifier": "sqrt", "missing": 1}},
         math.sqrt(120)),
        ({"field_value_factor": {"field": "likes", "modifier": "log1p"}}, math.log10(101)),
        ({"field_value_factor": {"field": "likes", "modifier": "reciprocal"}}, 0.01),
        ({"field_value_factor": {"field": "nope", "missing": 7}}, 7),
        ({"field_value_factor": {"field": "nope"}}, 1),
        ({"field_value_factor": {"field": "likes", "modifier": "ln", "factor": -1}}, 0),
        ({"gauss": {"price": {"origin": 0, "scale": 20}}}, 0.5 ** ((15 / 20) ** 2)),
        ({"exp": {"price": {"origin": 0, "scale": 10, "offset": 5, "decay": 0.3}}}, 0.3),
        ({"linear": {"price": {"origin": 25, "scale": 10, "decay": 0.5}}}, 0.5),
        ({"linear": {"price": {"origin": 100, "scale": 10}}}, 0),
        ({"gauss": {"at": {"origin": "2024-01-01", "scale": "10d"}}}, 0.5),
        ({"gauss": {"at": {"scale": "5d", "offset": "5d"}}}, 0.5),
        ({"linear": {"many": {"origin": 0, "scale": 10}, "multi_value_mode": "max"}}, 0.75),
        ({"linear": {"many": {"origin": 0, "scale": 10}}}, 0.95),
    ],
)  # fmt: skip
def test_functions(function: dict[str, Any], expected: float | None) -> None:
    found = score(function)
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("shape", ["gauss", "exp", "linear"])
@pytest.mark.parametrize("number", [1e200, -1.7e308, 10**400, Decimal("1e500")])
def test_no_number_of_a_document_makes_a_function_fail(shape: str, number: Any) -> None:
    for scale in (1e-200, 1, 1e200):
        function = {shape: {"n": {"origin": 1, "scale": scale}}}
        found = score(function, document={"n": number})
        assert found is not None and 0 <= found <= 1
    both = [{"field_value_factor": {"field": "n"}}, {"field_value_factor": {"field": "n"}}]
    for mode in ("sum", "avg", "multiply", "max", "min", "first"):
        assert score({"functions": both, "score_mode": mode}, document={"n": number}) is not None


def test_chance_has_a_seed() -> None:
    keys = [b"%d" % number for number in range(500)]
    found = [score({"random_score": {"seed": 10, "field": "_seq_no"}}, key) for key in keys]
    assert found == [score({"random_score": {"seed": 10}}, key) for key in keys]
    assert found != [score({"random_score": {"seed": 11}}, key) for key in keys]
    assert 0.4 < sum(each or 0 for each in found) / len(found) < 0.6
    assert score({"random_score": {}}) == score({"random_score": {"seed": NOW_US}})


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ({"script_score": {"script": "1"}}, "script_score is not supported: there are no scripts"),
        ({"functions": [{"script_score": {}}]}, "script_score is not supported: there are no scripts"),
        ({"functions": [{}]}, "a function is one of: weight, field_value_factor, random_score, gauss"),
        ({"functions": [{"gauss": {"a": {"scale": 1, "origin": 1}}, "random_score": {}}]}, "one of: weight"),
        ({"weight": 1, "score_mode": "product"}, "score_mode is one of"),
        ({"field_value_factor": {"field": "a", "modifier": "cube"}}, "modifier is one of"),
        ({"field_value_factor": {}}, "field is missing"),
        ({"gauss": {"a": {"origin": 1}}}, "scale is missing"),
        ({"gauss": {"a": {"origin": 1, "scale": 0}}}, "scale is above 0"),
        ({"exp": {"a": {"origin": 1, "scale": -1}}}, "scale is above 0"),
        ({"gauss": {"a": {"origin": 1, "scale": 1, "decay": 1}}}, "decay is a number"),
        ({"gauss": {"a": {"scale": 1}}}, "origin is missing"),
        ({"gauss": {"a": {"origin": {"lat": 1, "lon": 2}, "scale": "2km"}}}, "no search by place"),
        ({"exp": {"a": {"origin": "0", "scale": "10"}}}, "numbers, or times such as 10d"),
        ({"random_score": {"seed": []}}, "seed is a whole number"),
        ({"wieght": 1}, "wieght"),
        ({"weight": 1, "boost": "five"}, "boost is 0 to"),
    ],
)
def test_what_is_no_function_is_refused(function: Any, said: str) -> None:
    found = parse_query({"function_score": function})
    assert isinstance(found, QueryError)
    assert said in found.detail


def test_a_script_is_refused_by_name() -> None:
    found = parse_query({"script_score": {"query": {"match_all": {}}, "script": {"source": "1"}}})
    assert isinstance(found, QueryError) and "there are no scripts" in found.detail


def test_min_score_is_of_the_whole_query() -> None:
    body = parse_body({"query": {"match_all": {}}, "min_score": 0.5}, now_us=0)
    assert isinstance(body, SearchBody)
    assert isinstance(body.query, FunctionScore) and body.query.least == 0.5
    assert isinstance(parse_body({"min_score": "x"}, now_us=0), QueryError)
