"""What of Elasticsearch takes more than one question, or is refused by name; through the real routes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.rest.problems import ProblemError
from tests.node.search_world import SearchScenario
from tests.server.search_rest import MOVIES, Call, asked, filled, ids


@pytest.fixture(scope="module")
def world() -> SearchScenario:
    return filled()


@pytest.fixture
def call(world: SearchScenario) -> Call:
    def one(method: str, path: str, body: Any = None, at: int = 1) -> Any:
        return asked(world, method, path, body, at)

    return one


def test_one_hit_per_value_of_a_field(call: Call) -> None:
    body: dict[str, Any] = {"collapse": {"field": "genres"}, "sort": ["-year"], "_source": False}
    found = call("POST", "movies", body)
    assert ids(found) == ["m3", "m2"]  # the latest drama, and the latest of both sf and horror
    assert found["hits"]["total"]["value"] == 5 and "next" not in found
    assert [hit["fields"]["genres"] for hit in found["hits"]["hits"]] == [MOVIES[n]["genres"] for n in (3, 2)]
    aggs = {"n": {"value_count": {"field": "year"}, "meta": {"unit": "films"}}}
    page = call("POST", "movies", {**body, "from": 1, "size": 1, "aggs": aggs})
    assert ids(page) == ["m2"] and page["aggregations"] == {"n": {"value": 5, "meta": {"unit": "films"}}}
    lacking = call("POST", "movies,books", {"collapse": {"field": "year"}, "q": "solaris"})
    assert sorted(ids(lacking)) == ["b0", "m1"]
    scored = call("POST", "movies", {"collapse": {"field": "genres.keyword"}, "q": "plot:space", "size": 1})
    plain = call("POST", "movies", {"q": "plot:space", "size": 1})
    assert scored["hits"]["hits"][0]["_score"] == plain["hits"]["hits"][0]["_score"]
    assert scored["hits"]["max_score"] == plain["hits"]["max_score"]
    with pytest.raises(ProblemError, match="go on by from"):
        call("POST", "movies", {**body, "search_after": [1970]})


def test_hits_say_which_named_queries_they_match_and_values_of_fields(call: Call) -> None:
    should = [
        {"match": {"plot": {"query": "space", "_name": "far"}}},
        {"term": {"genres": {"value": "horror", "_name": "dark"}}},
    ]
    fields = ["year", "t*", "genres.keyword"]
    body = {"query": {"bool": {"should": should}}, "fields": fields, "_source": False}
    hits = {hit["_id"]: hit for hit in call("POST", "movies", body)["hits"]["hits"]}
    named = {name: hit["matched_queries"] for name, hit in hits.items()}
    assert named == {"m1": ["far"], "m2": ["far", "dark"], "m4": ["dark"]}
    assert hits["m2"]["fields"] == {"year": [1979], "title": ["Alien"], "genres.keyword": ["sf", "horror"]}


def test_suggestions_beside_hits_in_elasticsearchs_form(call: Call) -> None:
    body: dict[str, Any] = {
        "size": 0,
        "suggest": {
            "text": "spoce Solaris",
            "plot": {"term": {"field": "plot"}},
            "title": {"term": {"field": "title", "suggest_mode": "always", "max_edits": 1}},
            "begun": {"prefix": "so", "completion": {"field": "title"}},
            "whole": {"prefix": "So", "completion": {"field": "title.keyword", "size": 1}},
        },
    }
    found = call("POST", "movies", body)["suggest"]
    assert list(found) == ["plot", "title", "begun", "whole"]
    first, second = found["plot"]
    assert (first["text"], first["offset"], first["length"]) == ("spoce", 0, 5)
    assert first["options"] == [{"text": "space", "score": 0.8, "freq": 2}]
    assert (second["text"], second["offset"], second["options"]) == ("solaris", 6, [])
    assert [entry["options"] for entry in found["title"]] == [
        [{"text": "space", "score": 0.8, "freq": 1}], []
    ]  # fmt: skip
    assert [option["text"] for option in found["begun"][0]["options"]] == ["solaris"]
    assert found["whole"] == [
        {"text": "So", "offset": 0, "length": 2, "options": [{"text": "Solaris", "score": 1.0}]}
    ]
    short = {"text": "oe", "term": {"field": "plot", "min_word_length": 1}}
    near = call("POST", "movies", {"suggest": {"s": short}})["suggest"]["s"][0]["options"]
    assert [(one["text"], one["score"]) for one in near] == [("on", 0.5), ("one", 0.5)]
    both = call("POST", "movies,books", body)["suggest"]
    assert both["begun"][0]["options"] == [{"text": "solaris", "score": 2.0}]


def test_what_is_meant_by_an_aggregation_stands_beside_its_answer(call: Call) -> None:
    inner = {"first": {"min": {"field": "year"}, "meta": {"b": 2}}}
    aggs = {"g": {"terms": {"field": "genres"}, "meta": {"a": 1}, "aggs": inner}}
    found = call("POST", "movies", {"size": 0, "aggs": aggs})["aggregations"]["g"]
    assert found["meta"] == {"a": 1}
    assert [bucket["first"]["meta"] for bucket in found["buckets"]] == [{"b": 2}] * 3
    with pytest.raises(ProblemError, match="meta is an object"):
        call("POST", "movies", {"aggs": {"g": {"terms": {"field": "genres"}, "meta": 1}}})


def test_counts_and_several_searches_at_once(call: Call) -> None:
    query = {"match": {"plot": "space"}}
    assert call("POST", "movies/_count", {"query": query}) == {"count": 2}
    assert call("GET", "movies/_count?q=space") == {"count": 3}
    assert call("GET", "movies,books/_count") == {"count": 6}
    assert call("GET", "_all/_count")["count"] >= 6
    assert call("GET", "m*s/_count?q=space") == {"count": 3}
    assert call("GET", "movies/_count?q=space&df=plot&analyze_wildcard=true") == {"count": 2}
    with pytest.raises(ProblemError, match=r"there is no collection x\*"):
        call("GET", "x*")
    (hit,) = call("GET", "movies?q=_id:m1&_source_includes=title,ye*&_source_excludes=year")["hits"]["hits"]
    assert list(hit["_source"]) == ["title"]
    assert sorted(ids(call("POST", "movies/_search", {"query": query}))) == ["m1", "m2"]
    with pytest.raises(ProblemError, match="a count has no 'size'"):
        call("POST", "movies/_count", {"size": 1})
    heads = [{"index": "movies"}, {"index": ["books"]}, {}, {"index": "movies"}]
    pairs = zip(heads, [{"query": query}, {}, {}, {"x": 1}], strict=True)
    lines = b"".join(json.dumps(each).encode() + b"\n" for pair in pairs for each in pair)
    found = call("POST", "_msearch", lines)["responses"]
    assert sorted(ids(found[0])) == ["m1", "m2"] and ids(found[1]) == ["b0"]
    assert (found[2]["status"], found[3]["type"]) == (400, "bad-query")
    within = call("POST", "books/_msearch", b"{}\n{}\n")["responses"]
    assert ids(within[0]) == ["b0"]
    with pytest.raises(ProblemError, match="each as two lines"):
        call("POST", "_msearch", b"{}")


def test_pages_of_combinations_through_the_cluster(call: Call) -> None:
    sources = [{"g": {"terms": {"field": "genres"}}}, {"d": {"histogram": {"field": "year", "interval": 10}}}]
    first = call("POST", "movies", {"size": 0, "aggs": {"c": {"composite": {"sources": sources, "size": 4}}}})
    page = first["aggregations"]["c"]
    assert [tuple(b["key"].values()) for b in page["buckets"]] == [
        ("drama", 1970.0), ("drama", 2010.0), ("horror", 1960.0), ("horror", 1970.0)
    ]  # fmt: skip
    rest = {"sources": sources, "after": page["after_key"]}
    last = call("POST", "movies", {"size": 0, "aggs": {"c": {"composite": rest}}})["aggregations"]["c"]
    counted = [(*b["key"].values(), b["doc_count"]) for b in last["buckets"]]
    assert counted == [("sf", 1960.0, 1), ("sf", 1970.0, 2)]


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ({"rescore": {}}, "rescore is not supported: scores are those of the query"),
        ({"knn": {}}, "knn is not supported"),
        ({"pit": {"id": "x"}}, "pit is not supported: a page goes on by search_after"),
        ({"profile": True}, "profile is not supported"),
        ({"track_scores": True}, "track_scores is not supported: sort by"),
        ({"script_fields": {}}, "there are no scripts"),
        ({"suggest": {"s": {"text": "a", "phrase": {}}}}, "phrase is not supported: term suggests"),
        ({"suggest": {"s": {"text": "a"}}}, "either term or completion is needed"),
        ({"suggest": {"s": {"term": {"field": "title"}}}}, "text (or prefix) has 1 to"),
        (
            {"suggest": {"s": {"prefix": "a", "completion": {"field": "a", "fuzzy": {}}}}},
            "'fuzzy' is not known",
        ),
        ({"aggs": {"a": {"auto_date_histogram": {}}}}, "say the interval: date_histogram"),
        ({"collapse": {"field": "a", "inner_hits": {}}}, "inner_hits is not supported"),
    ],
)
def test_members_of_elasticsearch_that_are_not_there_are_named(call: Call, member: Any, said: str) -> None:
    with pytest.raises(ProblemError) as caught:
        call("POST", "movies", member)
    assert said in caught.value.detail and caught.value.status == 400


def test_values_of_an_array_are_far_apart_to_an_analyzer(call: Call) -> None:
    found = call("POST", "movies/_analyze", {"text": ["a b", "c"], "analyzer": "standard"})["tokens"]
    assert [(t["token"], t["position"], t["start_offset"]) for t in found] == [
        ("a", 0, 0), ("b", 1, 2), ("c", 102, 4)
    ]  # fmt: skip


def test_hits_in_the_order_of_their_ids(call: Call) -> None:
    assert ids(call("POST", "movies", {"sort": ["_id"]})) == ["m0", "m1", "m2", "m3", "m4"]
    page = call("POST", "movies,books", {"sort": [{"_id": "desc"}], "size": 3})
    assert ids(page) == ["m4", "m3", "m2"] and page["hits"]["hits"][0]["sort"] == ["m4"]
    rest = call("POST", "movies,books", {"sort": [{"_id": "desc"}], "size": 3, "search_after": page["next"]})
    assert ids(rest) == ["m1", "m0", "b0"]
    by_genre = {"sort": ["genres", {"_id": "desc"}], "query": {"term": {"genres": "sf"}}}
    assert ids(call("POST", "movies", by_genre)) == ["m1", "m2", "m0"]
