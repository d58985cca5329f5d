"""Search on three real peers: what was just written is found on any of them, whoever is killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.server.cluster import Cluster, Peer, wait_for

pytestmark = pytest.mark.process
WORDS = ("space", "odyssey", "주문상세내역", "station", "회원의")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three peers and thirty movies, of which six have each of the words."""
    cluster = Cluster(tmp_path_factory.mktemp("search"))
    try:
        cluster.start()
        for n in range(30):
            put(cluster.peers[n % 3], f"m{n}", {"title": f"{WORDS[n % 5]} number{n}", "n": n})
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(autouse=True)
def all_up(cluster: Cluster) -> None:
    """Each test begins with three peers."""
    cluster.start()


def put(peer: Peer, name: str, document: Any) -> None:
    answer = peer.request(
        "PUT", f"/v1/docs/movies/{name}", json.dumps(document).encode(), Content_Type="application/json"
    )
    assert answer.status in (200, 201, 204), answer.body


def get(peer: Peer, target: str) -> Any:
    answer = peer.request("GET", f"/v1/search/movies?{target}")
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def ids(found: Any) -> list[str]:
    return [hit["_id"] for hit in found["hits"]["hits"]]


def test_every_write_is_found_at_once_on_another_peer(cluster: Cluster) -> None:
    for n in range(30):
        put(cluster.peers[n % 3], f"w{n}", {"text": f"written{n}"})
        assert ids(get(cluster.peers[(n + 1) % 3], f"q=text:written{n}")) == [f"w{n}"]
    answers = [get(peer, "q=title:space&size=50") for peer in cluster.peers]
    assert [ids(answer) for answer in answers] == 3 * [ids(answers[0])] and len(ids(answers[0])) == 6
    scores = [[hit["_score"] for hit in answer["hits"]["hits"]] for answer in answers]
    assert scores == 3 * [scores[0]]


def test_the_short_way_of_a_query_string_answers_as_the_long_one(cluster: Cluster) -> None:
    """A header that the short way does not know makes it the long one's."""
    put(cluster.peers[0], "large", {"title": "leviathan", "text": "x" * 300_000})
    for target, status in [
        ("movies?q=title:space%20OR%20odyssey&size=3", 200),
        ("movies?q=" + quote("주문 -회원") + "&highlight=title&consistency=one", 200),
        ("movies?q=space&refresh=false&_source=false", 200),
        ("movies?q=title:nothing", 200),
        ("movies?q=leviathan", 200),  # too large for the short way
        ("movies?q=title:space&size=three", 400),
        ("movies?q=title:space&q=again", 400),
        ("no-such-collection?q=space", 404),
        ("movies?q=" + quote("title:[1 TO") + "&lenient=false", 400),
        ("movies?q=space&timeout_ms=1&consistency=most", 400),
    ]:
        told, path, peer = [], f"/v1/search/{target}", cluster.peers[1]
        for answer in (peer.request("GET", path), peer.request("GET", path, X_Other="1")):
            assert answer.status == status, (target, answer.body)
            found = json.loads(answer.body)
            told.append({name: each for name, each in found.items() if not name.startswith("took")})
        assert told[0] == told[1]


def test_a_body_with_facets_and_marks(cluster: Cluster) -> None:
    body = {
        "query": {
            "bool": {"must": [{"match": {"title": "odyssey"}}], "filter": [{"range": {"n": {"gte": 10}}}]}
        },
        "sort": ["-n"],
        "size": 2,
        "highlight": {"fields": {"title": {}}},
        "aggs": {"n": {"stats": {"field": "n"}}, "tens": {"histogram": {"field": "n", "interval": 10}}},
    }
    answer = cluster.peers[1].request("POST", "/v1/search/movies", json.dumps(body).encode())
    assert answer.status == 200, answer.body
    found = json.loads(answer.body)
    assert ids(found) == ["m26", "m21"] and found["hits"]["total"]["value"] == 4
    assert found["hits"]["hits"][0]["highlight"] == {"title": ["<em>odyssey</em> number26"]}
    assert found["aggregations"]["n"]["max"] == 26
    assert [(b["key"], b["doc_count"]) for b in found["aggregations"]["tens"]["buckets"]] == [
        (10, 2),
        (20, 2),
    ]


def test_korean_by_its_analyzer(cluster: Cluster) -> None:
    mapping = {"mapping": {"fields": {"text": {"type": "text", "analyzer": "korean"}}}}
    made = cluster.peers[0].request("PUT", "/v1/collections/orders", json.dumps(mapping).encode())
    assert made.status == 201, made.body
    for n, text in enumerate(("주문상세내역을 본다", "회원의 정보", "바다와 하늘")):
        body = json.dumps({"text": text}).encode()
        answer = cluster.peers[n].request(
            "PUT", f"/v1/docs/orders/o{n}", body, Content_Type="application/json"
        )
        assert answer.status < 300, answer.body
    for word, name in (("주문", "o0"), ("회원", "o1"), ("하늘", "o2")):
        for peer in cluster.peers:
            found = json.loads(peer.request("GET", f"/v1/search/orders?q=text:{quote(word)}").body)
            assert ids(found) == [name], (word, found)


def test_a_killed_peer_is_not_missed_and_comes_back_to_what_it_had_not(cluster: Cluster) -> None:
    killed = cluster.peers[2]
    killed.kill()
    put(cluster.peers[0], "late", {"title": "late arrival"})
    for peer in cluster.peers[:2]:
        wait_for(lambda at=peer: ids(get(at, "q=late&timeout_ms=5000")) == ["late"], 20.0, cluster.logs)  # type: ignore[misc]
    killed.start()
    cluster.wait_ready()
    assert ids(get(killed, "q=late")) == ["late"]
    assert len(ids(get(killed, "q=title:space&size=50"))) == 6


def test_bad_input_is_refused_and_nobody_suffers(cluster: Cluster) -> None:
    peer = cluster.peers[0]
    deep: Any = {"match": {"t": "a"}}
    for _ in range(200):
        deep = {"bool": {"must": deep}}
    bodies: list[Any] = [
        {"query": {"bool": {"should": [{"match": {"t": "a"}}] * 10_000}}},
        {"query": deep},
        {"query": {"wildcard": {"title.keyword": "*a" * 200}}, "size": 10**9},
        {"query": {"script": {"source": "while(1);"}}},
        {"query": {"match": {"t": {"query": "a", "analyzer": "none such"}}}},
        {"search_after": "AAAA"},
    ]
    for body in bodies:
        answer = peer.request("POST", "/v1/search/movies", json.dumps(body).encode())
        assert answer.status == 400, (answer.status, answer.body[:300])
        assert json.loads(answer.body)["detail"]
    bomb = {"query": {"wildcard": {"title.keyword": "*a" * 200 + "b"}}}
    assert peer.request("POST", "/v1/search/movies", json.dumps(bomb).encode()).status in (200, 400)
    assert len(ids(get(peer, "q=title:space&size=50"))) == 6
    errors = [line for line in peer.lines() if line.get("level") == "error"]
    assert errors == []


def test_the_files_of_an_index_are_the_peer_s_own(cluster: Cluster) -> None:
    for peer in cluster.peers:
        assert any(Path(peer.data).rglob("*.store")) or any(Path(peer.data).rglob("meta.json"))
