"""Requests go to replicas, and go on while a peer is dead, comes back, and forgot what was prepared."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import pytest
from cassandra import ConsistencyLevel, ReadTimeout, WriteTimeout, WriteType
from cassandra.cluster import EXEC_PROFILE_DEFAULT, NoHostAvailable, Session
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.metadata import Murmur3Token
from cassandra.policies import (
    DCAwareRoundRobinPolicy,
    FallthroughRetryPolicy,
    RoundRobinPolicy,
    TokenAwarePolicy,
)
from cassandra.query import SimpleStatement

from tests.clients.suite.fixtures import KEYSPACE, PEERS, ask, connected, joined, only, profile, until

ROWS = 60


@pytest.fixture(scope="module")
def sparse(session: Session) -> Iterator[str]:
    """A keyspace with one replica of everything, so that few peers are replicas."""
    name = f"{KEYSPACE}_sparse"
    session.execute(
        f"CREATE KEYSPACE {name} WITH replication = {{'class': 'NetworkTopologyStrategy', 'dc1': 1}}"
    )
    session.execute(f"CREATE TABLE {name}.t (a int, b text, v int, PRIMARY KEY ((a, b)))")
    yield name
    session.execute(f"DROP KEYSPACE {name}")


def check_token_aware_requests_go_to_the_replica(session: Session, sparse: str) -> None:
    insert = session.prepare(f"INSERT INTO {sparse}.t (a, b, v) VALUES (?, ?, ?)")
    select = session.prepare(f"SELECT v, token(a, b) FROM {sparse}.t WHERE a = ? AND b = ?")
    metadata, asked = session.cluster.metadata, Counter[str]()
    for number in range(ROWS):
        key = (number, f"강{number}")
        (replica,) = metadata.get_replicas(sparse, insert.bind((*key, 0)).routing_key)
        written = session.execute(insert, (*key, number)).response_future
        read = session.execute(select, key)
        assert written.coordinator_host == read.response_future.coordinator_host == replica
        row = read.one()
        assert row.v == number
        assert Murmur3Token(row[1]) == Murmur3Token.from_key(insert.bind((*key, 0)).routing_key)
        asked[replica.address] += 1
    assert set(asked) == set(PEERS.values()), "every peer is a replica of some"


def check_the_server_agrees_about_the_replica(session: Session, sparse: str) -> None:
    """A traced read at level ONE, sent to the replica, is served by it alone."""
    select = session.prepare(f"SELECT v FROM {sparse}.t WHERE a = ? AND b = ?")
    select.consistency_level = ConsistencyLevel.ONE
    number, replica = 0, None
    for number in range(5):
        bound = select.bind((number, f"강{number}"))
        (replica,) = session.cluster.metadata.get_replicas(sparse, bound.routing_key)
        future = session.execute_async(bound, trace=True)
        assert future.result().one().v == number
        trace = future.get_query_trace(max_wait=10)
        assert {event.source for event in trace.events} == {replica.address}
    assert replica is not None
    elsewhere = next(address for address in PEERS.values() if address != replica.address)
    with connected(profiles={"elsewhere": only(elsewhere)}) as mine:
        future = mine.execute_async(
            joined(mine).prepare(f"SELECT v FROM {sparse}.t WHERE a = ? AND b = ?"), (number, f"강{number}"),
            trace=True, execution_profile="elsewhere",
        )  # fmt: skip
        assert future.result().one().v == number
        sources = {event.source for event in future.get_query_trace(max_wait=10).events}
        assert sources == {elsewhere, replica.address}, "another peer asks the replica"


def check_any_peer_coordinates(session: Session, sparse: str) -> None:
    with connected(
        profiles={EXEC_PROFILE_DEFAULT: profile(load_balancing_policy=RoundRobinPolicy())}
    ) as mine:
        select, asked = mine.prepare(f"SELECT v FROM {sparse}.t WHERE a = ? AND b = ?"), Counter[str]()
        for number in range(ROWS):
            found = mine.execute(select, (number, f"강{number}"))
            assert found.one().v == number
            asked[found.response_future.coordinator_host.address] += 1
        assert set(asked) == set(PEERS.values())


def check_what_is_not_answered_in_time(session: Session) -> None:
    """Two of three peers hang: the driver's own errors say of which kind the request was."""
    session.execute("CREATE TABLE hanging (k int PRIMARY KEY, v int)")
    session.execute("CREATE TABLE hanging_counters (k int PRIMARY KEY, n counter)")
    one = only(PEERS["n1"], retry_policy=FallthroughRetryPolicy())
    with connected(KEYSPACE, profiles={"one": one}) as mine:
        texts = {
            "SIMPLE": "INSERT INTO hanging (k, v) VALUES (1, 1)",
            "CAS": "INSERT INTO hanging (k, v) VALUES (2, 1) IF NOT EXISTS",
            "COUNTER": "UPDATE hanging_counters SET n = n + 1 WHERE k = 1",
            "BATCH": "BEGIN BATCH INSERT INTO hanging (k, v) VALUES (3, 1); "
            "INSERT INTO hanging (k, v) VALUES (4, 1); APPLY BATCH",
            "UNLOGGED_BATCH": "BEGIN UNLOGGED BATCH INSERT INTO hanging (k, v) VALUES (3, 1); "
            "INSERT INTO hanging (k, v) VALUES (4, 1); APPLY BATCH",
            "READ": "SELECT * FROM hanging WHERE k = 1",
        }
        joined(mine).execute(texts["SIMPLE"], execution_profile="one")
        for name in ("n2", "n3"):
            ask("pause", name)
        try:
            futures = {
                kind: mine.execute_async(text, execution_profile="one") for kind, text in texts.items()
            }
            errors = {}
            for kind, future in futures.items():
                with pytest.raises(Exception) as raised:
                    future.result()
                errors[kind] = raised.value
        finally:
            for name in ("n2", "n3"):
                ask("resume", name)
    assert isinstance(errors.pop("READ"), ReadTimeout)
    kinds = {"BATCH": WriteType.BATCH_LOG}
    for kind, error in errors.items():
        assert isinstance(error, WriteTimeout), kind
        assert error.write_type == kinds.get(kind, WriteType.name_to_value[kind])
        assert (error.received_responses, error.required_responses) == (1, 2)
        assert error.consistency == (ConsistencyLevel.SERIAL if kind == "CAS" else ConsistencyLevel.QUORUM)
    assert "certainly not applied" in str(errors["CAS"])


def check_a_peer_dies_and_comes_back() -> None:
    """Clients go on at QUORUM, hear of it, find the peer again, and prepare there what it forgot."""
    policy = TokenAwarePolicy(DCAwareRoundRobinPolicy("dc1"))
    with connected(KEYSPACE, profiles={EXEC_PROFILE_DEFAULT: profile(load_balancing_policy=policy)}) as mine:
        mine.execute("CREATE TABLE kept (k int PRIMARY KEY, v int)")
        insert = mine.prepare("INSERT INTO kept (k, v) VALUES (?, ?)")
        select = mine.prepare("SELECT v FROM kept WHERE k = ?")
        insert.is_idempotent = select.is_idempotent = True
        dead = next(host for host in mine.cluster.metadata.all_hosts() if host.address == PEERS["n2"])

        def write(numbers: range) -> None:
            rows = [(number, number) for number in numbers]
            results = execute_concurrent_with_args(mine, insert, rows, concurrency=8)
            assert all(ok for ok, _ in results)

        write(range(50))
        ask("kill", "n2")
        write(range(50, 100))
        until(lambda: dead.is_up is False, "the client knows that the peer is dead")
        everything = SimpleStatement("SELECT k FROM kept", fetch_size=7)
        assert {row.k for row in mine.execute(everything)} == set(range(100))
        assert mine.execute("UPDATE kept SET v = 0 WHERE k = 1 IF v = 1").was_applied
        batch = (
            "BEGIN BATCH INSERT INTO kept (k, v) VALUES (200, 1); INSERT INTO kept (k, v) VALUES (201, 1); "
        )
        mine.execute(batch + "APPLY BATCH")
        with pytest.raises(NoHostAvailable), connected(profiles={"dead": only(PEERS["n2"])}) as other:
            other.execute("SELECT key FROM system.local", execution_profile="dead")
        ask("up", "n2")
        until(lambda: dead.is_up, "the client knows that the peer is back")

        def served() -> bool:
            futures = [mine.execute_async(select, (number,)) for number in range(20)]
            assert [future.result().one().v for future in futures][2:] == list(range(2, 20))
            return any(future.coordinator_host == dead for future in futures)

        until(served, "the peer serves again what was prepared before it died")
        mine.execute("DROP TABLE kept")
    assert os.environ["SULLAE_CONTROL"]
