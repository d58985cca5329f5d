"""TRUNCATE gives a table another id: statements of other peers, before and after, see nothing of that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from core.metadata import Change, TruncateTable
from core.requests import MetadataRequest
from cql_lite import wire
from sim.cluster import SimCluster
from sim.real import node_of
from tests.cql_lite.whole import SECOND, Cql, cluster_of, settle

FORMS = {
    "INSERT INTO ks.t (k, v) VALUES (?, 5)": [],
    "SELECT * FROM ks.t WHERE k = ?": [],
    "SELECT * FROM ks.t WHERE k IN (?, 2)": [],
    "SELECT count(*) FROM ks.t WHERE k >= ? ALLOW FILTERING": [{"count": 0}],
    "SELECT k FROM ks.t WHERE v = ? ALLOW FILTERING": [],
    "SELECT k FROM ks.t WHERE token(k) > ?": [],
    "UPDATE ks.t SET v = 2 WHERE k = ? IF v = 1": [{"[applied]": False}],
    "BEGIN BATCH INSERT INTO ks.t (k, v) VALUES (?, 5) INSERT INTO ks.t (k, v) VALUES (2, 5) APPLY BATCH": [],
    "UPDATE ks.n SET v = v + 5 WHERE k = ?": [],
}
"""Statements with one marker, and what they give when the table is empty."""


@pytest.fixture(scope="module")
def cluster() -> SimCluster:
    cluster = cluster_of(3)
    client = Cql(cluster)
    client.run("CREATE TABLE ks.t (k int PRIMARY KEY, v int)")
    client.run("CREATE TABLE ks.n (k int PRIMARY KEY, v counter)")
    settle(cluster)
    return cluster


def by_statement(cluster: SimCluster, peer: int, name: str) -> None:
    Cql(cluster, peer).run(f"TRUNCATE ks.{name}")


def decided_only(cluster: SimCluster, peer: int, name: str) -> None:
    """As far as a TRUNCATE is at some moment that other peers' statements may meet."""
    got: list[Any] = []
    change: Change = TruncateTable("ks", name)
    cluster.request(peer, MetadataRequest(change), 10 * SECOND, got.append)
    assert cluster.run_until(lambda: bool(got), 10 * SECOND)


@pytest.mark.parametrize("empty", [by_statement, decided_only])
@pytest.mark.parametrize("text", FORMS)
def test_the_next_statement_through_any_peer_finds_an_empty_table(
    cluster: SimCluster, text: str, empty: Callable[[SimCluster, int, str], None]
) -> None:
    name = "n" if "ks.n" in text else "t"
    for peer in range(3):
        client = Cql(cluster, peer)
        client.run("INSERT INTO ks.t (k, v) VALUES (1, 1)")
        client.run("UPDATE ks.n SET v = v + 1 WHERE k = 1")
        client.good(wire.Prepare(text))
        settle(cluster)
        empty(cluster, (peer + 1) % 3, name)
        begun_us = cluster.now_us
        assert client.run(text, 1) == FORMS[text]
        assert cluster.now_us - begun_us < SECOND, "nothing waits until its time is up"
        settle(cluster)
        written = {row["k"]: row["v"] for row in client.run(f"SELECT k, v FROM ks.{name}")}
        assert written == ({1: 5} | ({2: 5} if "BATCH" in text else {}) if "5" in text else {})


def test_a_table_that_is_gone_is_told_so_at_once(cluster: SimCluster) -> None:
    for number, text in enumerate(
        ["SELECT * FROM ks.gone", "SELECT k FROM ks.gone WHERE v = 1 ALLOW FILTERING"]
    ):
        client = Cql(cluster, 1)
        client.run("CREATE TABLE ks.gone (k int PRIMARY KEY, v int)")
        settle(cluster)
        client.run(text)
        Cql(cluster, 2 - 2 * number).run("DROP TABLE ks.gone")
        begun_us = cluster.now_us
        error = client.error(text)
        assert isinstance(error, wire.Invalid)
        assert "unconfigured table gone" in error.message
        assert cluster.now_us - begun_us < SECOND
        settle(cluster)


def test_truncate_is_answered_when_the_live_peers_know_of_it(cluster: SimCluster) -> None:
    for peer in range(3):
        Cql(cluster, peer).run("TRUNCATE ks.t")
        epochs = {node_of(cluster, other).metadata.state.epoch: other for other in range(3)}
        assert len(epochs) == 1


def test_a_batch_on_several_tables_one_of_which_is_another_by_now_says_so(cluster: SimCluster) -> None:
    Cql(cluster).run("CREATE TABLE ks.other (k int PRIMARY KEY, v int)")
    text = "BEGIN BATCH INSERT INTO ks.t (k, v) VALUES (1, 1) INSERT INTO ks.other (k) VALUES (1) APPLY BATCH"
    told = []
    for peer in range(3):
        settle(cluster)
        client = Cql(cluster, peer)
        client.run(text)
        decided_only(cluster, (peer + 1) % 3, "t")
        response = client.send(wire.Query(text, client.parameters()))
        if isinstance(response, wire.Error):
            assert isinstance(response, wire.WriteFailure)
            told.append(response.message)
            assert client.run(text) == []
        assert client.run("SELECT k FROM ks.t") == [{"k": 1}]
    assert told, "one of the peers had not heard of it"
    assert "dropped or emptied meanwhile" in told[0]
