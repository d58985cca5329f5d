"""What bounds an answer of CQL: bytes, the end of a token range, and the time that a client says it is."""

from __future__ import annotations

from typing import Any

import pytest

from core.requests import ReadRequest, ScanRequest
from cql_lite import planner_select, planner_source, session, wire
from sim.cluster import SimCluster
from tests.cql_lite.whole import Cql, cluster_of, rows, settle

KIB = 1024


@pytest.fixture(scope="module")
def cluster() -> SimCluster:
    cluster = cluster_of(3)
    client = Cql(cluster)
    client.run("CREATE TABLE ks.t (k int, c int, v text, PRIMARY KEY (k, c))")
    client.run("CREATE TABLE ks.small (k int PRIMARY KEY, v text)")
    client.run("CREATE TABLE ks.fleeting (k int PRIMARY KEY, v text, w text)")
    settle(cluster)
    for c in range(40):
        client.run("INSERT INTO ks.t (k, c, v) VALUES (1, ?, ?)", c, "x" * 10 * KIB)
    for k in range(300):
        client.run("INSERT INTO ks.small (k, v) VALUES (?, 'x')", k)
    return cluster


def test_a_page_ends_early_when_it_has_bytes_enough(
    cluster: SimCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner_select, "PAGE_BYTES_MAX", 100 * KIB)
    monkeypatch.setattr(planner_source, "ANSWER_BYTES_MAX", 30 * KIB)
    for text in ("SELECT * FROM ks.t WHERE k = 1", "SELECT * FROM ks.t"):
        client = Cql(cluster)
        pages = client.pages(text, 5_000)
        assert [row["c"] for page in pages for row in page] == list(range(40))
        assert 4 <= len(pages) <= 6, [len(page) for page in pages]


def test_an_answer_of_the_node_ends_early_too(cluster: SimCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner_source, "ANSWER_BYTES_MAX", 30 * KIB)
    for text in ("SELECT * FROM ks.t WHERE k = 1", "SELECT * FROM ks.t"):
        client = Cql(cluster)
        assert len(client.run(text)) == 40
        reads = [one for one in client.requests if isinstance(one, ReadRequest | ScanRequest)]
        assert len(reads) == 2, "a slice of 256 KiB, and the rest"


def test_limits_and_groups_go_on_over_pages_that_ended_early(
    cluster: SimCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner_select, "PAGE_BYTES_MAX", 100 * KIB)
    client = Cql(cluster)
    pages = client.pages("SELECT * FROM ks.t LIMIT 25", 5_000)
    assert len([row for page in pages for row in page]) == 25
    assert client.run("SELECT count(*) FROM ks.t") == [{"count": 40}]


def test_what_is_not_paged_is_bounded_too(cluster: SimCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner_select, "RESULT_BYTES_MAX", 100 * KIB)
    error = Cql(cluster).error("SELECT * FROM ks.t")
    assert isinstance(error, wire.Invalid)
    assert "in pages" in error.message


def test_a_token_range_is_read_to_its_end_and_no_further(cluster: SimCluster) -> None:
    client = Cql(cluster)
    everything = client.run("SELECT k, token(k) AS t FROM ks.small")
    assert len(everything) == 300
    client.requests.clear()
    low, high = everything[50]["t"], everything[59]["t"]
    found = client.run(f"SELECT k FROM ks.small WHERE token(k) > {low} AND token(k) <= {high}")
    assert [row["k"] for row in found] == [row["k"] for row in everything[51:60]]
    (scan,) = [one for one in client.requests if isinstance(one, ScanRequest)]
    assert scan.last_token == high
    pages = client.pages(f"SELECT k FROM ks.small WHERE token(k) >= {low}", 33)
    assert [row["k"] for page in pages for row in page] == [row["k"] for row in everything[50:]]


def at(client: Cql, now_s: int, text: str) -> list[dict[str, Any]]:
    return rows(client.good(wire.Query(text, client.parameters(now_s=now_s))))


def test_now_in_seconds_is_the_time_by_which_values_live(cluster: SimCluster) -> None:
    client = Cql(cluster)
    now_s = client.statements.peer.now_us() // 1_000_000
    client.run("INSERT INTO ks.fleeting (k, v) VALUES (1, 'x') USING TTL 1000")
    text = "SELECT v, ttl(v) AS left FROM ks.fleeting WHERE k = 1"
    assert at(client, now_s + 900, text)[0]["left"] in range(95, 105)
    assert at(client, now_s + 1_100, text) == []
    assert at(client, now_s + 1_100, "SELECT * FROM ks.fleeting") == []
    assert at(client, now_s + 1_100, "SELECT * FROM ks.fleeting WHERE v = 'x' ALLOW FILTERING") == []
    assert at(client, now_s + 1_100, "UPDATE ks.fleeting SET w = 'y' WHERE k = 1 IF v = 'x'") == [
        {"[applied]": False}
    ]
    assert len(client.run(text)) == 1

    at(client, now_s - 500, "INSERT INTO ks.fleeting (k, v) VALUES (2, 'x') USING TTL 1000")
    (row,) = client.run("SELECT ttl(v) AS left FROM ks.fleeting WHERE k = 2")
    assert row["left"] in range(450, 505)
    batch = wire.Batch(
        wire.LOGGED,
        tuple(
            wire.BatchStatement(f"INSERT INTO ks.fleeting (k, v) VALUES ({k}, 'x') USING TTL 1000", ())
            for k in (3, 4)
        ),
        client.level,
        now_s=now_s - 2_000,
    )
    client.good(batch)
    assert client.run("SELECT * FROM ks.fleeting WHERE k IN (3, 4)") == []


def test_the_texts_of_a_batch_are_bounded_as_one_text_is(
    cluster: SimCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Cql(cluster)
    monkeypatch.setattr(session, "STATEMENT_LEXEMES_MAX", 400)

    def batch(texts: list[str]) -> wire.Batch:
        statements = tuple(wire.BatchStatement(text, ()) for text in texts)
        return wire.Batch(wire.UNLOGGED, statements, client.level)

    def of(k: int) -> str:
        return f"INSERT INTO ks.small (k, v) VALUES ({k}, 'y')"

    client.good(batch([of(1)] * 1_000))
    client.good(batch([of(k) for k in range(20)]))
    client.good(batch([of(1), of(2).replace("'y'", f"'{'y' * 10_000}'")]))
    refused = client.send(batch([of(k) for k in range(30)]))
    assert isinstance(refused, wire.Invalid)
    assert refused.message.startswith("a batch of more than 400 words, constants and signs: prepare")
