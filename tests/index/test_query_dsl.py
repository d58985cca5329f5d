"""Queries as JSON: what bodies mean, and what is said of those that mean nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from index.bounds import QueryError
from index.minimum import is_minimum, needed
from index.query import (
    ALL,
    All,
    AnyOf,
    AtLeast,
    Bool,
    Boost,
    Boosting,
    Compare,
    Constant,
    DisMax,
    DocumentIds,
    Equals,
    Exists,
    Match,
    MatchPhrase,
    MoreLike,
    Nested,
    Nothing,
    Pattern,
    Query,
    walk,
)
from index.query_dsl import parse_query
from index.query_string import Options
from index.regexes import term_regex
from index.simple_query_string import parse_simple

A, B = {"match": {"t": "a"}}, {"match": {"t": "b"}}
MA, MB = Match("t", "a"), Match("t", "b")

MEANS: list[tuple[dict[str, Any], Query]] = [
    (A, MA),
    ({"match": {"t": {"query": "a b", "operator": "AND"}}}, Match("t", "a b", "and")),
    ({"match": {"t": {"query": "a b", "minimum_should_match": "75%"}}}, Match("t", "a b", minimum="75%")),
    (
        {"match": {"t": {"query": "a", "fuzziness": 1, "boost": 2}}},
        Boost(Match("t", "a", fuzziness="1"), 2.0),
    ),
    ({"match": {"year": 1990}}, Match("year", "1990")),
    ({"match_phrase": {"t": {"query": "a b", "slop": 2}}}, MatchPhrase("t", "a b", 2)),
    ({"match_phrase_prefix": {"t": "a b"}}, MatchPhrase("t", "a b", prefix=True)),
    ({"match_bool_prefix": {"t": "a b"}}, Match("t", "a b", prefix=True)),
    (
        {"multi_match": {"query": "x", "fields": ["t^3", "p"], "type": "most_fields"}},
        AnyOf((("t", 3.0), ("p", 1.0)), "x", "most_fields"),
    ),
    ({"term": {"t": "A b"}}, Equals("t", ("A b",))),
    ({"term": {"n": {"value": 3}}}, Equals("n", (3,))),
    (
        {"term": {"t": {"value": "A*", "case_insensitive": True}}},
        Pattern("t", "wildcard", "A\\*", ignore_case=True),
    ),
    ({"terms": {"t": ["a", 1, True]}}, Constant(Equals("t", ("a", 1, True)))),
    ({"terms": {"t": []}}, Nothing()),
    ({"range": {"n": {"gte": 1, "lt": 5}}}, Compare("n", 1, 5, True, False)),
    (
        {"range": {"d": {"gt": "now-1d/d", "time_zone": "+09:00"}}},
        Compare("d", "now-1d/d", None, False, True, "+09:00"),
    ),
    ({"prefix": {"t": "a"}}, Pattern("t", "prefix", "a")),
    ({"wildcard": {"t": {"value": "a*b", "boost": 2}}}, Boost(Pattern("t", "wildcard", "a*b"), 2.0)),
    ({"fuzzy": {"t": {"value": "a", "fuzziness": 2}}}, Pattern("t", "fuzzy", "a", "2")),
    ({"exists": {"field": "t"}}, Exists("t")),
    ({"ids": {"values": ["1", "2"]}}, DocumentIds(("1", "2"))),
    ({"bool": {"must": A, "should": [B]}}, Bool((MA,), (MB,))),
    ({"bool": {"should": [A, B]}}, Bool(should=(MA, MB), minimum=1)),
    ({"bool": {"should": [A, B], "minimum_should_match": 2}}, Bool(must=(AtLeast((MA, MB), "2"),))),
    ({"bool": {"filter": [A], "must_not": [B]}}, Bool(filter=(MA,), must_not=(MB,))),
    ({"dis_max": {"queries": [A, B], "tie_breaker": 0.3}}, DisMax((MA, MB), 0.3)),
    ({"boosting": {"positive": A, "negative": B, "negative_boost": 0.5}}, Boosting(MA, MB, 0.5)),
    ({"constant_score": {"filter": A, "boost": 3}}, Boost(Constant(MA), 3.0)),
    ({"more_like_this": {"like": ["x", {"_id": "7"}]}}, MoreLike((ALL,), ("x",), ("7",))),
    ({"query_string": {"query": "t:a"}}, MA),
    ({"simple_query_string": {"query": "a", "fields": ["t"]}}, MA),
    ({"match": {"t": {"query": "a", "fuzziness": "AUTO:2,5", "fuzzy_transpositions": False}}},
     Match("t", "a", fuzziness="AUTO:2,5", transpositions=False)),
    ({"match": {"t": {"query": "", "zero_terms_query": "all"}}}, Match("t", "", zero_terms="all")),
    ({"match_phrase": {"t": {"query": "", "zero_terms_query": "all"}}},
     MatchPhrase("t", "", zero_terms="all")),
    ({"match_bool_prefix": {"t": {"query": "a", "fuzziness": 1, "prefix_length": 2}}},
     Match("t", "a", fuzziness="1", prefix_length=2, prefix=True)),
    ({"multi_match": {"query": "x", "fields": ["t"], "lenient": True, "max_expansions": 5}},
     AnyOf((("t", 1.0),), "x")),
    ({"regexp": {"t": "a.*"}}, Pattern("t", "regexp", term_regex("a.*"))),
    ({"regexp": {"t": {"value": "a@", "flags": "NONE", "case_insensitive": True}}},
     Pattern("t", "regexp", term_regex("a@", ignore_case=True, flags=("NONE",)))),
    ({"nested": {"path": "p", "query": A, "score_mode": "max"}}, Nested("p", MA, "max")),
    ({"query_string": {"query": "t:/a b/", "analyze_wildcard": True, "fuzzy_prefix_length": 1}},
     Pattern("t", "regexp", term_regex("a b", ignore_case=True))),
    ({"more_like_this": {"like": "x", "unlike": ["y"], "stop_words": "z", "max_doc_freq": 9}},
     MoreLike((ALL,), ("x",), (), unlike=("y",), stop_words=("z",), doc_freq_max=9)),
    ({"match_all": {}}, All()),
    ({"match_none": {}}, Nothing()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "query"), MEANS, ids=lambda each: next(iter(each), "") if isinstance(each, dict) else ""
)
def test_what_a_body_means(body: dict[str, Any], query: Query) -> None:
    assert parse_query(body) == query


WRONG: list[tuple[Any, str, str]] = [
    (None, "query", "an object with one member"),
    ([], "query", "an object with one member"),
    ({"match": {"t": "a"}, "term": {}}, "query", "an object with one member"),
    ({"regexp": {"t": {"value": "a", "flags": "MOST"}}}, "query.regexp.t", "there is no flag 'MOST'"),
    ({"nested": {"path": "p", "query": A, "inner_hits": {}}}, "query.nested", "inner_hits is"),
    ({"intervals": {"t": {}}}, "query", "intervals is not supported: use match_phrase"),
    ({"span_near": {"clauses": []}}, "query", "span_near is not supported: use match_phrase"),
    ({"geo_distance": {"at": "1,2"}}, "query", "geo_distance is not supported: there is no search by place"),
    ({"has_child": {}}, "query", "has_child is not supported: there are no joins"),
    ({"terms": {"t": {"index": "i", "id": "1", "path": "p"}}}, "query.terms.t", "not looked up in another"),
    ({"range": {"t": {"from": 1, "gte": 2}}}, "query.range.t", "either gt, gte or from"),
    ({"combined_fields": {"query": "a"}}, "query.combined_fields", "fields is missing"),
    ({"match": {"t": {"query": "a", "lenient": []}}}, "query.match.t", "lenient is"),
    ({"match": {"t": {"query": "a", "zero_terms_query": "some"}}}, "query.match.t", "is one of"),
    ({"query_string": {"query": "*a", "allow_leading_wildcard": False}}, "query.query_string.query", "begin"),
    ({"simple_query_string": {"query": "a", "flags": "AND|XOR"}}, "query.simple_query_string", "XOR"),
    ({"regexp": {"t": "a~b"}}, "query.regexp.t", "`~` is not supported"),
    ({"match": {}}, "query.match", "exactly one field"),
    ({"match": {"t": None}}, "query.match.t", "query is missing"),
    ({"match": {"t": {"query": "a", "oprator": "and"}}}, "query.match.t", "'oprator' is not known"),
    ({"match": {"t": {"query": "a", "operator": "xor"}}}, "query.match.t", "one of: or, and"),
    ({"match": {"t": {"query": "a", "fuzziness": 5}}}, "query.match.t", "AUTO:low,high, 0, 1 or 2"),
    ({"match": {"t": {"query": "a", "minimum_should_match": "x"}}}, "query.match.t", "minimum_should_match"),
    ({"match": {"t": {"query": "a", "boost": -1}}}, "query.match.t", "boost is 0 to"),
    ({"match": {"t": {"query": ["a"]}}}, "query.match.t", "query is text"),
    ({"bool": {"must": [A, {"x": 1}]}}, "query.bool.must[1]", "there is no query 'x'"),
    ({"bool": {"must": 3}}, "query.bool", "a query or a list"),
    ({"range": {"n": {"gt": 1, "gte": 2}}}, "query.range.n", "either gt or gte"),
    ({"range": {"n": {"gt": [1]}}}, "query.range.n", "a value is text"),
    ({"terms": {"t": "a"}}, "query.terms.t", "a list of at most"),
    ({"terms": {"t": [1] * 10_001}}, "query.terms.t", "a list of at most"),
    ({"terms": {"t": [[1]]}}, "query.terms.t[0]", "a value is text"),
    ({"ids": {"values": [1]}}, "query.ids.values[0]", "an id is text"),
    ({"query_string": {"query": "a AND"}}, "query.query_string.query", "nothing follows AND"),
    ({"dis_max": {}}, "query.dis_max", "queries is missing"),
    ({"boosting": {"positive": A, "negative": B}}, "query.boosting", "negative_boost is missing"),
    ({"bool": {"should": [A] * 1_000}}, "", "at most 1000 clauses"),
    ({"multi_match": {"query": "x", "fields": ["t^x"]}}, "query.multi_match.fields[0]", "a number follows"),
    ({"more_like_this": {"like": [3]}}, "query.more_like_this.like[0]", "like is text"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "path", "said"), WRONG, ids=lambda each: each[:30] if isinstance(each, str) else ""
)
def test_what_means_nothing_is_told_with_its_path(body: Any, path: str, said: str) -> None:
    found = parse_query(body)
    assert isinstance(found, QueryError)
    assert found.path == path and said in found.detail, found


def test_depth_is_bounded_before_python_is() -> None:
    body: dict[str, Any] = A
    for _ in range(10_000):
        body = {"bool": {"must": body}}
    found = parse_query(body)
    assert isinstance(found, QueryError) and "50 deep" in found.detail
    body.clear()  # a deep dictionary is not left to the interpreter's recursive clean-up


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
words = st.sampled_from(
    ["match", "bool", "must", "should", "query", "t", "range", "gte", "boost", "fields", "terms", "like"]
    + ["query_string", "simple_query_string", "multi_match", "more_like_this", "operator", "ids", "dis_max"]
)  # fmt: skip
bodies = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(words, st.text(max_size=4)), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(bodies)
def test_any_json_is_a_query_or_a_clear_error(body: Any) -> None:
    found = parse_query(body)
    if isinstance(found, QueryError):
        assert found.told()
    else:
        assert list(walk(found))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([kind for body, _ in MEANS for kind in body]), bodies)
def test_any_body_of_a_known_kind_is_a_query_or_a_clear_error(kind: str, body: Any) -> None:
    found = parse_query({kind: body})
    assert isinstance(found, QueryError) or list(walk(found))


@pytest.mark.parametrize(
    ("text", "clauses", "count"),
    [("3", 5, 3), ("-1", 5, 4), ("75%", 5, 3), ("-25%", 5, 4), ("2<75%", 2, 2), ("2<75%", 4, 3)]
    + [("2<-25% 9<-3", 12, 9), ("2<-25% 9<-3", 4, 3), ("2<-25% 9<-3", 2, 2), ("7", 5, 7), ("-9", 5, 0)],
)
def test_minimum_should_match(text: str, clauses: int, count: int) -> None:
    assert is_minimum(text)
    assert needed(text, clauses) == count


SIMPLE: list[tuple[str, Query]] = [
    ("a", MA),
    ("a b", Bool(should=(MA, MB), minimum=1)),
    ("a + b", Bool(must=(MA, MB))),
    ("a | b", Bool(should=(MA, MB), minimum=1)),
    ("a + -b", Bool(must=(MA, Bool(must_not=(MB,))))),
    ("(a | b) + a", Bool(must=(Bool(should=(MA, MB), minimum=1), MA))),
    ('"a b"~3', MatchPhrase("t", "a b", 3)),
    ("a*", Pattern("t", "prefix", "a", ignore_case=True)),
    ("a~1", Pattern("t", "fuzzy", "a", "1", ignore_case=True)),
    ("a\\*", Match("t", "a*")),
    ("- + | )", Nothing()),
]


@pytest.mark.parametrize(("text", "query"), SIMPLE)
def test_the_simple_query_string(text: str, query: Query) -> None:
    assert parse_simple(text, Options((("t", 1.0),))) == query


@given(st.text(alphabet='ab +|-()"~*\\1', max_size=30))
def test_the_simple_query_string_never_fails(text: str) -> None:
    assert list(walk(parse_simple(text, Options())))


@pytest.mark.parametrize("piece", ["(", "a ", "a+", '"', "-", "\\"])
def test_the_simple_query_string_is_bounded(piece: str) -> None:
    assert sum(1 for _ in walk(parse_simple(piece * 33_000, Options()))) < 2_000


@pytest.mark.parametrize(
    ("flags", "text", "query"),
    [
        (("ALL",), "a | -b", Bool(should=(MA, Bool(must_not=(MB,))), minimum=1)),
        (("OR",), "a|b", Bool(should=(MA, MB), minimum=1)),
        (("NONE",), "a|b -c*", Match("t", "a|b -c*")),
        (("WHITESPACE",), "a (b", Bool(should=(MA, Match("t", "(b")), minimum=1)),
        (("WHITESPACE", "PREFIX"), "a*", Pattern("t", "prefix", "a", ignore_case=True)),
        (("WHITESPACE",), "a~1", Match("t", "a~1")),
    ],
)
def test_operators_of_the_simple_query_string_can_be_switched_off(
    flags: tuple[str, ...], text: str, query: Query
) -> None:
    assert parse_simple(text, Options((("t", 1.0),), flags=flags)) == query


def test_older_words_mean_what_they_are_called_now() -> None:
    older = {"range": {"n": {"from": 1, "to": 5, "include_lower": False}}}
    assert parse_query(older) == parse_query({"range": {"n": {"gt": 1, "lte": 5}}})
    fields = {"query": "a b", "fields": ["t^2", "u"], "operator": "and"}
    crossing = {"multi_match": {**fields, "type": "cross_fields"}}
    assert parse_query({"combined_fields": fields}) == parse_query(crossing)


def _plain(kind: str, options: dict[str, Any], defaults: dict[str, Any]) -> None:
    """What clients write out though it is the default changes nothing."""
    assert parse_query({kind: {**options, **defaults}}) == parse_query({kind: options})


def test_defaults_that_clients_write_out_change_nothing() -> None:
    execution = {"max_expansions": 50, "lenient": False, "auto_generate_synonyms_phrase_query": True}
    _plain("bool", {"must": A}, {"adjust_pure_negative": True, "boost": 1.0})
    words = {"operator": "OR", "prefix_length": 0, "zero_terms_query": "NONE", "boost": 1.0}
    assert parse_query({"match": {"t": {"query": "a", **execution, **words}}}) == parse_query(A)
    _plain(
        "query_string",
        {"query": "a", "default_field": "t"},
        {"escape": False, "fuzzy_max_expansions": 50, "max_determinized_states": 10000, "phrase_slop": 0},
    )
    _plain("simple_query_string", {"query": "a b", "fields": ["t"]}, {"flags": -1, "fuzzy_prefix_length": 0})
    given = {"value": "a.*", "flags_value": 255, "max_determinized_states": 10000}
    assert parse_query({"regexp": {"t": given}}) == parse_query({"regexp": {"t": "a.*"}})
    _plain("function_score", {"query": A}, {"max_boost": 3.4028235e38, "score_mode": "multiply"})
    like = parse_query({"more_like_this": {"fields": ["t"], "like": "a", "max_doc_freq": 2**31 - 1}})
    assert isinstance(like, MoreLike)
    escaped = {"query_string": {"query": "a", "escape": True}}
    for refused in ({"bool": {"adjust_pure_negative": False}}, escaped):
        found = parse_query(refused)
        assert isinstance(found, QueryError) and "is not supported" in found.detail
    found = parse_query({"simple_query_string": {"query": "a", "quote_field_suffix": ".exact"}})
    assert isinstance(found, QueryError) and "quote_field_suffix" in found.detail
