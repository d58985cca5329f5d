"""Search over REST: what is answered, shown and refused, on a simulated cluster behind the real routes."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from node import search_serving
from server.rest.openapi import document as openapi
from server.rest.problems import ProblemError
from tests.node.search_world import SearchScenario
from tests.server.search_rest import EXACT, MOVIES, Call, asked, filled, ids


@pytest.fixture(scope="module")
def world() -> SearchScenario:
    return filled()


@pytest.fixture
def call(world: SearchScenario) -> Call:
    def one(method: str, path: str, body: Any = None, at: int = 1) -> Any:
        return asked(world, method, path, body, at)

    return one


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"term": {"n": EXACT + 1}}, ["n1"]),
        ({"terms": {"n": [EXACT, EXACT + 2]}}, ["n0", "n2"]),
        ({"match": {"n": EXACT + 2}}, ["n2"]),
        ({"range": {"n": {"gte": EXACT + 1, "lt": EXACT + 2}}}, ["n1"]),
        ({"range": {"n": {"gt": EXACT}}}, ["n1", "n2"]),
        ({"term": {"few": 1}}, ["n1"]),
        ({"term": {"n": 1e29}}, []),
    ],
)
def test_whole_numbers_are_compared_to_their_last_digit(call: Call, query: Any, expected: list[str]) -> None:
    found = call("POST", "numbers", json.dumps({"query": query}).encode())
    assert sorted(ids(found)) == expected


@pytest.mark.parametrize("number", ["1e400", "-1e999"])
def test_a_number_beyond_all_others_is_refused(call: Call, number: str) -> None:
    with pytest.raises(ProblemError, match="too large a number") as caught:
        call("POST", "numbers", b'{"query": {"term": {"few": ' + number.encode() + b"}}}")
    assert caught.value.kind == "bad-body"


def test_a_whole_number_of_very_many_digits_is_just_not_there(call: Call) -> None:
    assert ids(call("POST", "numbers", b'{"query": {"term": {"n": 1' + b"0" * 400 + b"}}}")) == []


def test_a_query_string_finds_documents_with_all_that_is_said_of_them(call: Call) -> None:
    found = call("GET", "movies?q=" + quote("title:space OR plot:space"))
    assert sorted(ids(found)) == ["m0", "m1", "m2"]
    assert found["hits"]["total"] == {"value": 3, "relation": "eq"} and found["timed_out"] is False
    first = found["hits"]["hits"][0]
    assert first["_index"] == "movies" and first["_score"] == found["hits"]["max_score"] > 0
    assert first["_source"] == MOVIES[int(first["_id"][1:])]
    assert found["peers"] and found["took_us"] > 0
    assert ids(call("GET", "movies?q=" + quote("year:[1970 TO 1980] -horror"))) == ["m1"]
    assert ids(call("GET", "movies?q=" + quote("기생충"))) == ["m3"]
    assert len(ids(call("GET", "movies"))) == 5


def test_a_body_in_the_words_of_elasticsearch(call: Call) -> None:
    body = {
        "query": {
            "bool": {
                "must": [{"match": {"genres": "sf"}}],
                "filter": [{"range": {"year": {"gte": 1970}}}],
                "must_not": [{"term": {"title.keyword": "Alien"}}],
            }
        },
        "_source": ["title"],
        "highlight": {"fields": {"plot": {}, "genres": {}}},
        "explain": True,
    }
    found = call("POST", "movies", body)
    assert ids(found) == ["m1"]
    (hit,) = found["hits"]["hits"]
    assert hit["_source"] == {"title": "Solaris"}
    assert hit["highlight"] == {"genres": ["<em>sf</em>"]}
    assert hit["_explanation"]["value"] == pytest.approx(hit["_score"])


def test_sorted_pages_go_on_from_their_cursor_at_another_peer(call: Call) -> None:
    body: dict[str, Any] = {"sort": ["-year"], "size": 2}
    seen = []
    page: Any = {}
    for at in (0, 1, 2):
        page = call("POST", "movies", body, at=at)
        seen += [hit["sort"] for hit in page["hits"]["hits"]]
        assert page["hits"]["total"]["value"] == 5
        if "next" in page:
            body = {**body, "search_after": page["next"]}
    assert seen == [[2019], [1979], [1972], [1968], [1960]] and "next" not in page
    for sort in ("-year", "year:desc"):
        assert ids(call("GET", f"movies?sort={sort}&size=2")) == ["m3", "m2"]
    assert ids(call("GET", "movies?sort=year:asc&size=1")) == ["m4"]
    by_values = call("POST", "movies", {"sort": ["-year"], "search_after": [1972]})
    assert ids(by_values) == ["m0", "m4"]


def test_aggregations_with_documents_inside(call: Call) -> None:
    body = {
        "size": 0,
        "aggs": {
            "genres": {
                "terms": {"field": "genres"},
                "aggs": {
                    "years": {"avg": {"field": "year"}},
                    "newest": {"top_hits": {"size": 1, "sort": ["-year"], "_source": ["title"]}},
                },
            },
            "decades": {"histogram": {"field": "year", "interval": 10, "min_doc_count": 1}},
        },
    }
    found = call("POST", "movies", body)["aggregations"]
    assert [(b["key"], b["doc_count"]) for b in found["genres"]["buckets"]] == [
        ("sf", 3),
        ("drama", 2),
        ("horror", 2),
    ]
    science = found["genres"]["buckets"][0]
    assert science["years"]["value"] == pytest.approx((1968 + 1972 + 1979) / 3)
    (newest,) = science["newest"]["hits"]["hits"]
    assert newest["_id"] == "m2" and newest["_source"] == {"title": "Alien"}
    assert [b["key"] for b in found["decades"]["buckets"]] == [1960, 1970, 2010]


def test_a_post_filter_narrows_the_hits_and_global_looks_beyond_the_query(call: Call) -> None:
    body = {
        "query": {"match": {"genres": "sf"}},
        "post_filter": {"range": {"year": {"lt": 1970}}},
        "aggs": {
            "all": {"global": {}, "aggs": {"years": {"max": {"field": "year"}}}},
            "genres": {"terms": {"field": "genres", "size": 1}},
        },
    }
    found = call("POST", "movies", body)
    assert ids(found) == ["m0"] and found["hits"]["total"]["value"] == 1
    assert [*found["aggregations"]] == ["all", "genres"]
    assert found["aggregations"]["genres"]["buckets"] == [{"key": "sf", "doc_count": 3}]
    assert found["aggregations"]["all"] == {"doc_count": 5, "years": {"value": 2019.0}}
    counted = call("POST", "movies", {**body, "size": 0})
    assert counted["aggregations"] == found["aggregations"] and counted["hits"]["max_score"] is None


def test_expressions_and_single_objects_are_found(call: Call) -> None:
    assert sorted(ids(call("GET", "movies?q=" + quote("title:/[a-p]+i[es].*/")))) == ["m2"]
    assert ids(call("POST", "movies", {"query": {"regexp": {"title.keyword": "So.*"}}})) == ["m1"]
    assert ids(call("POST", "movies", {"query": {"term": {"_id": "m3"}}})) == ["m3"]
    with pytest.raises(ProblemError) as error:
        call("GET", "movies?q=" + quote("title:/a[/"))
    assert error.value.members["position"] == 8


def test_several_collections_and_named_documents(call: Call) -> None:
    found = call("GET", "movies,books?q=solaris")
    assert sorted((hit["_index"], hit["_id"]) for hit in found["hits"]["hits"]) == [
        ("books", "b0"),
        ("movies", "m1"),
    ]
    routed = call("GET", "movies?ids=m1,m4")
    assert sorted(ids(routed)) == ["m1", "m4"]


def test_analyzing_suggesting_and_explaining(call: Call) -> None:
    tokens = call("POST", "movies/_analyze", {"text": "The Wolves run", "analyzer": "english"})
    assert [token["token"] for token in tokens["tokens"]][-1] == "run"
    assert tokens["tokens"][-1]["start_offset"] == 11
    text = {"text": "Space 2001 우주 宇宙 カメラ", "analyzer": "standard"}
    kinds = [token["type"] for token in call("POST", "movies/_analyze", text)["tokens"]]
    assert [*dict.fromkeys(kinds)] == ["<ALPHANUM>", "<NUM>", "<HANGUL>", "<IDEOGRAPHIC>", "<KATAKANA>"]
    suggested = call("POST", "movies/_suggest", {"text": "spcae oceen"})
    assert [each["options"][0]["text"] for each in suggested["suggestions"]] == ["space", "ocean"]
    korean = call("POST", "movies/_suggest", {"text": "반지하의"})
    assert [each["word"] for each in korean["suggestions"]] == ["반지하의"], "words, not their syllables"
    assert "반지하" in [option["text"] for option in korean["suggestions"][0]["options"]]
    completed = call("POST", "movies/_suggest", {"prefix": "So", "field": "title.keyword"})
    assert completed == {"completions": [{"text": "Solaris", "documents": 1}]}
    reason = call("POST", "movies/_explain", {"id": "m0", "q": "space"})
    hits = call("GET", "movies?q=space")["hits"]["hits"]
    score = next(hit["_score"] for hit in hits if hit["_id"] == "m0")
    assert reason["matched"] and reason["explanation"]["value"] == pytest.approx(score)
    assert not call("POST", "movies/_explain", {"id": "m4", "q": "space"})["matched"]


def nested(levels: int) -> bytes:
    """A query of so many levels."""
    return b'{"query":' + b'{"bool":{"must":' * levels + b'{"match_all":{}}' + b"}}" * levels + b"}"


MANY = {"bool": {"should": [{"term": {"a": n}} for n in range(10_000)]}}

WRONG: list[tuple[str, str, Any, str, str]] = [
    ("GET", "movies?q=" + quote("a AND"), None, "bad-query", "at character 2"),
    ("GET", "movies?qq=a", None, "bad-query", "unknown parameter"),
    ("GET", "movies?size=-1", None, "bad-query", "whole number"),
    ("GET", "movies?refresh=maybe", None, "bad-query", "true or false"),
    ("GET", "nothing?q=a", None, "no-such-collection", "no collection"),
    ("POST", "movies", b"{", "bad-body", "no JSON"),
    (
        "POST",
        "movies",
        {"query": {"match": {"t": {"query": "a", "analyzer": "klingon"}}}},
        "bad-query",
        "klingon",
    ),
    ("POST", "movies", {"query": {"bool": {"must": [{"x": {}}]}}}, "bad-query", "query.bool.must[0]"),
    ("POST", "movies", {"search_after": "abc"}, "bad-cursor", "no cursor"),
    ("POST", "movies", {"size": 6000, "from": 6000}, "bad-query", "search_after"),
    ("POST", "movies", {"query": MANY}, "bad-query", "clauses"),
    (
        "POST",
        "movies",
        {"query": {"bool": {"filter": [{"bool": {"must_not": [MANY]}}]}}},
        "bad-query",
        "clauses",
    ),
    ("POST", "movies", {"q": "a OR " * 10_000 + "a"}, "bad-query", "at most"),
    ("POST", "movies", {"q": "(" * 5_000 + "a" + ")" * 5_000}, "bad-query", "nested"),
    ("POST", "movies", {"query": {"terms": {"a": list(range(100_000))}}}, "bad-query", "at most"),
    ("POST", "movies", {"query": {"regexp": {"t": "(a+)+$((b{999}){999}){999}"}}}, "bad-query", "regexp"),
    ("POST", "movies", {"query": {"wildcard": {"t": "*a" * 20_000}}}, "bad-query", "at most"),
    ("POST", "movies", nested(60), "bad-body", "nested"),
    ("POST", "movies", nested(40_000), "bad-body", "no JSON"),
    ("POST", "movies", b"[" * 500_000, "bad-body", "no JSON"),
    ("POST", "movies", {"query": {"$where": "while(1);"}}, "bad-query", "$where"),
    ("POST", "movies", {"query": {"script": {"script": "while(1);"}}}, "bad-query", "script"),
    (
        "POST",
        "movies",
        {"aggs": {"a": {"scripted_metric": {"map_script": "1"}}}},
        "bad-query",
        "scripted_metric",
    ),
    ("POST", "movies/_analyze", {"text": "a", "analyzer": "klingon"}, "bad-query", "klingon"),
    ("POST", "movies/_reindex", {}, "not-found", "_analyze"),
    ("POST", "movies/_analyze", {"analyzer": "english"}, "bad-body", "text"),
    ("POST", "movies/_explain", {"q": "a"}, "bad-body", "id"),
    ("POST", "movies/_explain", {"id": "m9", "q": "a"}, "no-such-document", "m9"),
    ("DELETE", "movies", None, "method-not-allowed", "GET"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong[0]} {wrong[1]} {wrong[4]}")
def test_what_cannot_be_searched_is_a_problem(call: Call, wrong: tuple[str, str, Any, str, str]) -> None:
    method, path, body, kind, said = wrong
    with pytest.raises(ProblemError) as caught:
        call(method, path, body)
    assert caught.value.kind == kind and said in caught.value.detail, caught.value.detail


def test_a_cursor_of_another_search_is_refused(call: Call) -> None:
    cursor = call("GET", "movies?size=1&q=space")["next"]
    assert call("GET", f"movies?size=1&q=space&search_after={cursor}")["hits"]["hits"]
    for other in ("books?size=1&q=space", "movies?size=1&q=solaris", "movies,books?size=1&q=space"):
        with pytest.raises(ProblemError) as caught:
            call("GET", f"{other}&search_after={cursor}")
        assert caught.value.kind == "bad-cursor" and "another search" in caught.value.detail


def test_a_field_that_no_document_has_is_told_where_nothing_was_found(call: Call) -> None:
    assert call("GET", "movies?q=Title:space")["warnings"] == [
        {"detail": "no document has text in a field 'Title'"}
    ]
    for query in ("title:nothing", "title:space OR Title:space"):
        assert "warnings" not in call("GET", "movies?q=" + quote(query))


def test_lenient_text_finds_what_it_can_and_says_what_it_left_out(call: Call) -> None:
    found = call("GET", "movies?lenient=true&q=" + quote("solaris AND ("))
    assert ids(found) == ["m1"] and found["warnings"][0]["position"] >= 0


QUERIES = st.recursive(
    st.sampled_from(
        [
            {"match": {"title": "space"}},
            {"match": {"plot": {"query": "a the", "operator": "and", "fuzziness": "AUTO"}}},
            {"match_phrase": {"plot": {"query": "on moon", "slop": 3}}},
            {"match_phrase_prefix": {"title": "a sp"}},
            {"multi_match": {"query": "space ocean", "fields": ["title^3", "plot"], "type": "cross_fields"}},
            {"term": {"genres": "sf"}},
            {"terms": {"year": [1968, "1972", True]}},
            {"range": {"year": {"gt": 1960, "lte": "now"}}},
            {"prefix": {"title": "so"}},
            {"wildcard": {"title.keyword": "*o*s*"}},
            {"fuzzy": {"title": {"value": "solari"}}},
            {"exists": {"field": "year"}},
            {"ids": {"values": ["m1", "x"]}},
            {"query_string": {"query": "title:(a OR b) AND year:>1950 -x~ p*"}},
            {"more_like_this": {"like": [{"_id": "m0"}, "space"], "min_doc_freq": 1, "min_term_freq": 1}},
            {"match_all": {}},
        ]
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries(
            {
                "bool": st.dictionaries(
                    st.sampled_from(["must", "should", "must_not", "filter"]), st.lists(inner, max_size=2)
                )
            }
        ),
        st.fixed_dictionaries(
            {"dis_max": st.fixed_dictionaries({"queries": st.lists(inner, min_size=1, max_size=2)})}
        ),
        inner.map(lambda q: {"constant_score": {"filter": q, "boost": 2}}),
        st.tuples(inner, inner).map(
            lambda q: {"boosting": {"positive": q[0], "negative": q[1], "negative_boost": 0.5}}
        ),
    ),
    max_leaves=5,
)
MORE = st.fixed_dictionaries(
    {},
    optional={
        "size": st.sampled_from([0, 1, 3]),
        "sort": st.sampled_from(["-year", ["title", "_score"], [{"plot": "desc"}], "_score"]),
        "highlight": st.just({"fields": {"*": {}}}),
        "explain": st.booleans(),
        "_source": st.sampled_from([False, "t*", {"excludes": ["plot"]}]),
        "aggs": st.sampled_from(
            [
                {"a": {"terms": {"field": "genres"}, "aggs": {"b": {"top_hits": {}}}}},
                {"p": {"percentiles": {"field": "year"}}},
            ]
        ),
        "refresh": st.booleans(),
    },
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(QUERIES, MORE)
def test_any_good_body_is_answered_and_agrees_with_itself(
    world: SearchScenario, query: Any, more: Any
) -> None:
    found = asked(world, "POST", "movies", {"query": query, "explain": False, **more})
    hits = found["hits"]["hits"]
    total = found["hits"]["total"]["value"]
    assert len(hits) == min(total, more.get("size", 10))
    assert len(set(ids(found))) == len(hits)
    if more.get("explain"):
        for hit in hits:
            explained = hit["_explanation"]
            assert explained["matches"]
            if hit["_score"] is not None:
                assert explained["value"] == pytest.approx(hit["_score"])
    everywhere = [asked(world, "POST", "movies", {"query": query, **more}, at) for at in (0, 2)]
    assert all(other["hits"] == found["hits"] for other in everywhere)


JUNK = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-5, 10**20), st.floats(allow_nan=False), st.text(max_size=5)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "query",
                    "q",
                    "size",
                    "sort",
                    "aggs",
                    "match",
                    "bool",
                    "terms",
                    "field",
                    "ids",
                    "search_after",
                    "x",
                ]
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["", "/_analyze", "/_suggest", "/_explain"]), JUNK)
def test_any_bad_body_is_a_problem(world: SearchScenario, operation: str, body: Any) -> None:
    try:
        data = orjson.dumps(body)
    except TypeError:
        return
    problem = None
    try:
        asked(world, "POST", "movies" + operation, data)
    except ProblemError as error:
        problem = error
    assert problem is None or (400 <= problem.status < 500 and problem.detail)


def test_all_of_it_is_described() -> None:
    api = openapi()
    assert {"/v1/search/{collections}", "/v1/search/{collection}/_analyze"} <= set(api["paths"])
    for name in [
        ref["$ref"].split("/")[-1] for ref in api["paths"]["/v1/search/{collections}"]["get"]["parameters"]
    ]:
        assert name in api["components"]["parameters"]


def test_scores_by_functions_order_hits_and_the_least_cuts_them(call: Call) -> None:
    newest = {"function_score": {"query": {"match": {"genres": "sf"}}, "boost_mode": "replace",
                                 "field_value_factor": {"field": "year"}}}  # fmt: skip
    found = call("POST", "movies", {"query": newest})
    assert ids(found) == ["m2", "m1", "m0"]
    assert found["hits"]["max_score"] == 1979
    counted = {"n": {"value_count": {"field": "year"}}}
    cut = call("POST", "movies", {"query": newest, "min_score": 1972, "aggs": counted})
    assert ids(cut) == ["m2", "m1"]
    assert cut["hits"]["total"]["value"] == cut["aggregations"]["n"]["value"] == 2
    by_chance = {"function_score": {"random_score": {"seed": 5}}}
    orders = [ids(call("POST", "movies", {"query": by_chance}, at=peer)) for peer in (0, 1, 2)]
    assert orders[0] == orders[1] == orders[2] and len(orders[0]) == 5


def test_too_many_buckets_with_aggregations_inside_are_refused_and_end_no_peer(call: Call) -> None:
    tight = {"field": "year", "interval": 0.001, "min_doc_count": 0}
    for inside in ({"s": {"sum": {"field": "year"}}}, {"t": {"top_hits": {"size": 1}}}):
        with pytest.raises(ProblemError, match="more than 10000 buckets: ask for a longer interval"):
            call("POST", "movies", {"aggs": {"h": {"histogram": tight, "aggs": inside}}})
        bounds = {"extended_bounds": {"min": 0, "max": 1e9}}
        with pytest.raises(ProblemError, match="more than 10000 buckets"):
            call("POST", "movies", {"aggs": {"h": {"histogram": {**tight, **bounds}, "aggs": inside}}})
    assert call("POST", "movies", {})["hits"]["total"]["value"] > 0


def test_a_search_that_nobody_foresaw_ends_alone(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise OverflowError("cannot convert Infinity to integer")

    monkeypatch.setattr(search_serving, "perform", fails)
    with pytest.raises(ProblemError, match=r"this cannot be computed of what is there \(OverflowError"):
        call("POST", "movies", {"query": {"match": {"title": "space"}}})
    monkeypatch.undo()
    assert call("POST", "movies", {})["hits"]["total"]["value"] > 0


def test_aggregations_of_aggregations_cross_peers(call: Call) -> None:
    decades = {"histogram": {"field": "year", "interval": 10},
               "aggs": {"sum": {"cumulative_sum": {"buckets_path": "_count"}}}}  # fmt: skip
    most = {"max_bucket": {"buckets_path": "decades>_count"}}
    found = call("POST", "movies", {"size": 0, "aggs": {"decades": decades, "most": most}})["aggregations"]
    assert [bucket["sum"]["value"] for bucket in found["decades"]["buckets"]] == [2, 4, 4, 4, 4, 5]
    assert found["most"] == {"value": 2, "keys": ["1960.0", "1970.0"]}
