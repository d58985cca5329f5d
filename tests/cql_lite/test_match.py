"""MATCH: a collection searched through CQL finds what search finds, in its order, page by page."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.consistency import Level
from core.searching import QueryText, SearchAnswer, SearchRequest
from cql_lite import wire
from documents.collections import CollectionSpec, create_collection
from documents.values import id_of
from sim.real import node_of
from tests.cql_lite.whole import Cql, cluster_of, settle

WORDS = ("space", "horror", "love", "war", "robot")


@pytest.fixture(scope="module")
def cql() -> Cql:
    """Three peers; 60 documents of few words, one that stands out."""
    client = Cql(cluster_of(peers=3))
    members = node_of(client.cluster, 0).metadata.state.members
    answers: list[Any] = []
    client._ask(create_collection(CollectionSpec("movies"), members), answers.append)  # type: ignore[arg-type]
    assert client.cluster.run_until(lambda: bool(answers), 60_000_000)
    settle(client.cluster)
    client.run("CREATE TABLE ks.plain (id text PRIMARY KEY, doc json, t text)")
    settle(client.cluster)
    for n in range(60):
        words = " ".join(word for i, word in enumerate(WORDS) if n % (i + 2) == 0)
        document = json.dumps({"title": f"{words} film", "year": 1990 + n, "a": {"b c": f"deep{n}"}})
        client.run("INSERT INTO docs.movies (id, doc) VALUES (?, ?)", f"m{n}", document)
    client.run("INSERT INTO docs.movies (id, doc) VALUES ('best', '{\"title\": \"space\"}')")
    return client


def _ids(found: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in found]


def searched(client: Cql, text: str, size: int = 100) -> list[str]:
    table = node_of(client.cluster, 0).metadata.state.table("docs", "movies")
    assert table is not None
    answers: list[Any] = []
    client._ask(SearchRequest((table.id,), QueryText(text), Level.QUORUM, size=size), answers.append)
    assert client.cluster.run_until(lambda: bool(answers), 60_000_000)
    (answer,) = answers
    assert isinstance(answer, SearchAnswer), answer
    return [id_of(hit.key) for hit in answer.hits]


@pytest.mark.parametrize(
    "text", ["space -horror", "title:space", "film", '"war robot"', "year:[1995 TO 2000]"]
)
def test_it_finds_what_search_finds_in_its_order(cql: Cql, text: str) -> None:
    wanted = searched(cql, text)
    assert wanted
    select = "SELECT id, doc FROM docs.movies WHERE doc MATCH ?"
    assert _ids(cql.run(select, text)) == wanted
    assert _ids(cql.run(select + " LIMIT 7", text)) == wanted[:7]
    pages = cql.pages(select, 4, text)
    assert [name for page in pages for name in _ids(page)] == wanted
    assert all(len(page) <= 4 for page in pages)
    assert [name for page in cql.pages(select + " LIMIT 9", 4, text) for name in _ids(page)] == wanted[:9]
    assert cql.run("SELECT count(*) FROM docs.movies WHERE doc MATCH ?", text) == [{"count": len(wanted)}]


def test_the_best_comes_first_and_documents_come_along(cql: Cql) -> None:
    (row,) = cql.run("SELECT * FROM docs.movies WHERE doc MATCH 'title:space' LIMIT 1")
    assert row == {"id": "best", "doc": '{"title": "space"}'}
    (shown,) = cql.run("SELECT JSON id FROM docs.movies WHERE doc MATCH 'title:space' LIMIT 1")
    assert shown == {"[json]": '{"id": "best"}'}


def test_a_path_before_it_is_the_field_that_is_searched(cql: Cql) -> None:
    assert _ids(cql.run("SELECT id FROM docs.movies WHERE doc['a']['b c'] MATCH 'deep7'")) == ["m7"]
    assert cql.run("SELECT id FROM docs.movies WHERE doc['title'] MATCH 'deep7'") == []
    assert len(cql.run("SELECT id FROM docs.movies WHERE doc['title'] MATCH 'space'")) == 31


def test_named_ids_restrict_it_to_their_replicas_and_filters_follow(cql: Cql) -> None:
    found = cql.run(
        "SELECT id FROM docs.movies WHERE id IN ('m0', 'm1', 'm2', 'nobody') AND doc MATCH 'space'"
    )
    assert sorted(_ids(found)) == ["m0", "m2"]
    assert cql.run("SELECT id FROM docs.movies WHERE id = 'm1' AND doc MATCH 'space'") == []
    assert cql.run("SELECT id FROM docs.movies WHERE id IN ? AND doc MATCH 'space'", []) == []
    text = "SELECT id FROM docs.movies WHERE doc MATCH 'film' AND doc['year'] = 1992"
    assert _ids(cql.run(text + " ALLOW FILTERING")) == ["m2"]
    assert "ALLOW FILTERING" in cql.error(text).message


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("SELECT * FROM ks.plain WHERE doc MATCH 'a'", "no inverted index on doc"),
        ("SELECT * FROM ks.plain WHERE t MATCH 'a'", "no inverted index on t"),
        ("SELECT * FROM docs.movies WHERE id MATCH 'a'", "no inverted index on id"),
        ("SELECT * FROM docs.movies WHERE doc MATCH 'title:('", "character"),
        ("SELECT * FROM docs.movies WHERE doc MATCH 'a' AND doc MATCH 'b'", "one MATCH"),
        ("SELECT * FROM docs.movies WHERE doc MATCH 'a' ORDER BY id", "score"),
        ("SELECT id FROM docs.movies WHERE doc MATCH 'a' GROUP BY id", "GROUP BY"),
        ("SELECT * FROM docs.movies WHERE doc MATCH 'a' AND token(id) > 0", "token()"),
        ("SELECT * FROM docs.movies WHERE doc MATCH null", "null"),
        ("SELECT * FROM docs.movies WHERE doc MATCH 5", "text"),
        ("SELECT * FROM docs.movies WHERE doc[1] MATCH 'a'", "made of names"),
        ("SELECT * FROM docs.movies WHERE doc.title MATCH 'a'", "doc['key']"),
        ("SELECT * FROM system.local WHERE key MATCH 'a'", "no inverted index on key"),
        ("UPDATE docs.movies SET doc = '{}' WHERE doc MATCH 'a'", "missing: id"),
        ("DELETE FROM docs.movies WHERE id = 'a' AND doc MATCH 'a'", "doc"),
        ("UPDATE docs.movies SET doc = '{}' WHERE id = 'a' IF doc MATCH 'a'", "MATCH"),
    ],
)
def test_what_it_cannot_be_used_for_is_told(cql: Cql, statement: str, why: str) -> None:
    error = cql.error(statement)
    assert isinstance(error, wire.Invalid) and why in error.message, error


def test_a_paging_state_of_another_text_is_refused(cql: Cql) -> None:
    select = "SELECT id FROM docs.movies WHERE doc MATCH '{}'"
    response = cql.good(wire.Query(select.format("film"), cql.parameters(page_size=3)))
    assert isinstance(response, wire.Rows) and response.paging_state is not None
    error = cql.error(select.format("space"), page_size=3, paging_state=response.paging_state)
    assert "another query" in error.message
