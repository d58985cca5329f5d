"""Traced requests on a simulated cluster: what `system_traces` says of them, read through another peer."""

from __future__ import annotations

from typing import Any

import pytest

from core.consistency import Level
from core.settings import Settings
from cql_lite import tracing, wire
from cql_lite.running import Run
from sim.cluster import SimCluster
from sim.real import node_of
from tests.cql_lite.whole import SECOND, Cql, cluster_of, settle


def run_traced(client: Cql, request: wire.Request) -> tuple[wire.Response, bytes]:
    """A traced request, and the id of its trace."""
    response, of = gathered(client, request)
    return response, of.trace.id


def gathered(client: Cql, request: wire.Request) -> tuple[wire.Response, tracing.TracedRequest]:
    """A traced request, as server/cql.py runs one; its trace is written some moments later."""
    cluster = client.cluster
    node = node_of(cluster, client.index)
    statements = client.statements
    of = tracing.begin(request, bytes([127, 0, 0, 9]), statements, node.inside.world.monotonic_us)
    answering = tracing.traced(client.session.answer(request), of, lambda: statements.peer.state)
    got: list[wire.Response] = []
    Run(answering, client._ask, got.append).start()
    assert cluster.run_until(lambda: bool(got), 30 * SECOND)
    of.trace.answered()
    cluster.run_for(SECOND // 5)
    node.tracing.end(of.trace)
    kept: list[None] = []
    Run(tracing.keep(of, statements, statements.peer), client._ask, kept.append).start()
    assert cluster.run_until(lambda: bool(kept), 30 * SECOND)
    assert not node.inside.traces, "nothing of a trace stays behind"
    return got[0], of


def trace(client: Cql, text: str, **more: Any) -> list[str]:
    """What the events of a traced text say, as the next peer reads them."""
    _, trace_id = run_traced(client, wire.Query(text, client.parameters(**more)))
    return activities(client, trace_id)


def activities(client: Cql, trace_id: bytes) -> list[str]:
    cluster = client.cluster
    settle(cluster)
    reader = Cql(cluster, (client.index + 1) % len(cluster.machines))
    reader.level = Level.ONE
    rows = reader.run("SELECT activity FROM system_traces.events WHERE session_id = ?", trace_id)
    return [row["activity"] for row in rows]


def says(lines: list[str], *parts: str) -> bool:
    """Whether one line has all these parts."""
    return any(all(part in line for part in parts) for line in lines)


@pytest.fixture(scope="module")
def cluster() -> SimCluster:
    cluster = cluster_of(3)
    client = Cql(cluster)
    client.run("CREATE TABLE ks.t (k int, c int, v text, PRIMARY KEY (k, c))")
    client.run("CREATE TABLE ks.counts (k int PRIMARY KEY, n counter)")
    settle(cluster)
    return cluster


def test_a_session_has_the_columns_that_drivers_read(cluster: SimCluster) -> None:
    client = Cql(cluster)
    text = "INSERT INTO ks.t (k, c, v) VALUES (1, 1, 'one')"
    before = client.run("SELECT * FROM system_traces.sessions")
    _, trace_id = run_traced(client, wire.Query(text, client.parameters()))
    settle(cluster)
    rows = Cql(cluster, 2).run("SELECT * FROM system_traces.sessions WHERE session_id = ?", trace_id)
    (row,) = rows
    assert trace_id not in [one["session_id"] for one in before]
    assert row["client"] == bytes([127, 0, 0, 9])
    assert row["command"] == "QUERY"
    assert row["request"] == "Execute CQL3 query"
    assert dict(row["parameters"])["query"] == text
    assert dict(row["parameters"])["consistency_level"] == "QUORUM"
    assert row["duration"] > 0
    assert row["started_at"] > 0
    assert row["coordinator"] == bytes([10, 0, 0, 1]) or len(row["coordinator"]) == 4
    (ttl,) = Cql(cluster, 2).run(
        "SELECT ttl(duration) AS left FROM system_traces.sessions WHERE session_id = ?", trace_id
    )
    assert 86_000 < ttl["left"] <= 86_400


def test_a_write_says_who_was_sent_it_and_what_it_took_there(cluster: SimCluster) -> None:
    client = Cql(cluster)
    lines = trace(client, "INSERT INTO ks.t (k, c, v) VALUES (2, 1, 'two')")
    assert says(lines, "Parsing and planning INSERT")
    assert says(lines, "Plan: write 1 rows", "ks.t", "QUORUM")
    assert says(lines, "Sending a mutation of")
    assert sum("Mutation applied, logged and durable" in line for line in lines) == 3
    assert sum("answers: it is durable" in line for line in lines) == 2  # the own store needs no answer
    assert says(lines, "Request complete")


def test_a_read_says_rows_and_tombstones_and_roles(cluster: SimCluster) -> None:
    client = Cql(cluster)
    for c in range(3):
        client.run(f"INSERT INTO ks.t (k, c, v) VALUES (3, {c}, 'x')")
    client.run("DELETE FROM ks.t WHERE k = 3 AND c = 1")
    client.level = Level.ALL
    lines = trace(client, "SELECT * FROM ks.t WHERE k = 3")
    assert says(lines, "Asking for rows")
    assert says(lines, "Asking for digests")
    assert sum("Read 2 live rows and 1 tombstones" in line for line in lines) == 3
    assert sum("answers: a digest" in line for line in lines) == 2


def test_events_carry_their_source_and_are_in_order(cluster: SimCluster) -> None:
    client = Cql(cluster)
    _, trace_id = run_traced(client, wire.Query("SELECT * FROM ks.t WHERE k = 2", client.parameters()))
    settle(cluster)
    rows = Cql(cluster, 1).run("SELECT * FROM system_traces.events WHERE session_id = ?", trace_id)
    sources = {row["source"] for row in rows}
    assert len(sources) == 2, "the coordinator and the replica that was asked for a digest"
    assert all(row["source_elapsed"] >= 0 and row["source_port"] == 7000 for row in rows)
    assert rows[0]["activity"].startswith("Parsing")


def test_conditions_counters_batches_and_scans_tell_their_parts(cluster: SimCluster) -> None:
    client = Cql(cluster)
    lines = trace(client, "INSERT INTO ks.t (k, c, v) VALUES (4, 1, 'a') IF NOT EXISTS")
    assert says(lines, "Plan: conditional update of ks.t, decided at SERIAL")
    for phase in ("Paxos prepare", "Paxos accept", "Paxos commit", "Decided: applied", "Promise is durable"):
        assert says(lines, phase), phase
    lines = trace(client, "UPDATE ks.counts SET n = n + 1 WHERE k = 1")
    assert says(lines, "Asking to lead the increment")
    assert says(lines, "Counters added to, durably")
    batch = "INSERT INTO ks.t (k, c) VALUES (%d, 1);"
    lines = trace(client, f"BEGIN BATCH {batch % 5} {batch % 6} APPLY BATCH")
    assert says(lines, "logged batch of 2 writes")
    assert says(lines, "keep the batch in its batch log")
    assert says(lines, "The batch is in the batch log")
    lines = trace(client, "SELECT * FROM ks.t")
    assert says(lines, "in token order")
    assert says(lines, "rows of the tokens")


def test_a_read_by_predicate_says_who_was_asked_and_whom_it_followed(cluster: SimCluster) -> None:
    client = Cql(cluster)
    lines = trace(client, "SELECT count(*) FROM ks.t WHERE v = 'two' ALLOW FILTERING")
    assert says(lines, "Plan: find up to", "ks.t", "looking at every row")
    assert says(lines, "Asking", "when it has followed: n")
    assert says(lines, "rows of the tokens")
    assert says(lines, "Found 1 rows")


def test_a_prepared_statement_shows_what_was_bound(cluster: SimCluster) -> None:
    client = Cql(cluster)
    prepared = client.good(wire.Prepare("SELECT * FROM ks.t WHERE k = ?"))
    assert isinstance(prepared, wire.Prepared)
    _, trace_id = run_traced(client, client.execute(prepared, [2]))
    settle(cluster)
    (row,) = Cql(cluster, 1).run("SELECT * FROM system_traces.sessions WHERE session_id = ?", trace_id)
    assert dict(row["parameters"])["bound_var_0_k"] == "2"
    assert row["request"] == "Execute CQL3 prepared query"
    response, trace_id = run_traced(client, wire.Prepare("SELECT v FROM ks.t WHERE k = ?"))
    assert isinstance(response, wire.Prepared)
    assert says(activities(client, trace_id), "Preparing SELECT v FROM")


def test_an_error_is_traced_too(cluster: SimCluster) -> None:
    client = Cql(cluster)
    lines = trace(client, "SELECT * FROM ks.nothing")
    assert says(lines, "Request failed", "unconfigured table nothing")


def test_a_dead_replica_is_owed_a_hint_and_a_difference_is_repaired() -> None:
    hour_us = 3600 * SECOND
    apart = Settings(
        hints=False, follow_idle_us=hour_us, follow_pause_us=hour_us, anti_entropy_pause_us=hour_us
    )
    cluster = cluster_of(3, seed=5, settings=apart)
    client = Cql(cluster)
    client.run("CREATE TABLE ks.t (k int PRIMARY KEY, v text)")
    settle(cluster)
    trace(client, "SELECT * FROM ks.t")  # makes the tables while all are there
    node = node_of(cluster, 0)
    members = node.metadata.state.members

    def all_alive() -> bool:
        return all(node.swim.is_alive(member.peer) for member in members)

    cluster.kill(2)
    assert cluster.run_until(lambda: not all_alive(), 60 * SECOND)
    _, trace_id = run_traced(
        client, wire.Query("INSERT INTO ks.t (k, v) VALUES (1, 'x')", client.parameters())
    )
    cluster.start(2)
    assert cluster.run_until(lambda: all_alive() and node_of(cluster, 2).ready()[0], 60 * SECOND)
    assert says(activities(client, trace_id), "a hint is owed to it")
    client.level = Level.ALL
    lines = trace(client, "SELECT * FROM ks.t WHERE k = 1")
    assert says(lines, "Digests differ, a read repair begins")
    assert says(lines, "Read repair: writing 1 rows")
    assert says(lines, "Read repair merged: 1 rows changed")


def test_who_clients_are_cannot_write_traces(cluster: SimCluster) -> None:
    client = Cql(cluster)
    trace(client, "SELECT * FROM ks.t WHERE k = 2")
    error = client.error("INSERT INTO system_traces.sessions (session_id) VALUES (now())")
    assert isinstance(error, wire.Invalid | wire.Unauthorized)
    error = client.error(
        "CREATE KEYSPACE system_traces WITH replication = "
        "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    assert isinstance(error, wire.Error)


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO owed (k, v) VALUES (1, 1)", "SELECT v FROM owed WHERE k = 1", "SELECT * FROM owed",
        "INSERT INTO owed (k, v) VALUES (2, 1) IF NOT EXISTS",
        "SELECT k FROM owed WHERE v = 1 ALLOW FILTERING",
        "BEGIN BATCH INSERT INTO owed (k) VALUES (3); INSERT INTO owed (k) VALUES (4); APPLY BATCH",
    ],
)  # fmt: skip
def test_once_all_have_told_nothing_is_waited_for(cluster: SimCluster, text: str) -> None:
    client = Cql(cluster)
    client.run("CREATE TABLE IF NOT EXISTS ks.owed (k int PRIMARY KEY, v int)")
    settle(cluster)
    client.run("USE ks")
    _, of = gathered(client, wire.Query(text, client.parameters()))
    assert of.trace.lines
    assert not of.trace.owed, of.trace.lines


def test_an_untraced_request_carries_nothing(cluster: SimCluster) -> None:
    client = Cql(cluster)
    client.run("SELECT * FROM ks.t WHERE k = 2")
    assert all(getattr(request, "trace", None) is None for request in client.requests)
    others = [node_of(cluster, index).inside.traces_of_others for index in range(3)]
    assert cluster.run_until(lambda: not any(others), 30 * SECOND), "what never comes is forgotten"
