"""The native protocol as drivers use it: versions, compression, pages, futures, batches, errors, extras."""

from __future__ import annotations

import datetime
import logging
import socket
import threading
from typing import Any

import pytest
from cassandra import (
    AlreadyExists,
    ConsistencyLevel,
    InvalidRequest,
    OperationTimedOut,
    ProtocolVersion,
    Unavailable,
    WriteType,
)
from cassandra.cluster import EXEC_PROFILE_DEFAULT, NoHostAvailable, Session
from cassandra.concurrent import execute_concurrent, execute_concurrent_with_args
from cassandra.policies import ConstantSpeculativeExecutionPolicy, FallthroughRetryPolicy
from cassandra.protocol import ConfigurationException, SyntaxException
from cassandra.query import (
    BatchStatement,
    BatchType,
    SimpleStatement,
    dict_factory,
    named_tuple_factory,
    ordered_dict_factory,
    tuple_factory,
)

from tests.clients.suite.fixtures import KEYSPACE, PEERS, PORT, connected, joined, only, profile


@pytest.fixture(scope="module", autouse=True)
def tables(session: Session) -> None:
    session.execute("CREATE TABLE numbers (k int, c int, v text, PRIMARY KEY (k, c))")
    insert = session.prepare("INSERT INTO numbers (k, c, v) VALUES (?, ?, ?)")
    rows = [(k, c, f"{k}.{c}") for k in range(10) for c in range(20)]
    assert all(ok for ok, _ in execute_concurrent_with_args(session, insert, rows, concurrency=50))


# --- versions and compression


@pytest.mark.parametrize("version", [3, 4, 5, None])
@pytest.mark.parametrize("compression", [True, False, "lz4"])
def check_versions_and_compression(version: int | None, compression: Any) -> None:
    pytest.importorskip("lz4")
    options = {} if version is None else {"protocol_version": version}
    with connected(KEYSPACE, compression=compression, **options) as mine:
        assert mine.cluster.protocol_version == (version or ProtocolVersion.V5)
        connection = mine.cluster.control_connection._connection
        assert (connection._compression_type == "lz4") == bool(compression)
        long = "강" * 100_000
        mine.execute("INSERT INTO numbers (k, c, v) VALUES (100, 1, %s)", (long,))
        assert mine.execute("SELECT v FROM numbers WHERE k = 100").one().v == long
        insert = mine.prepare("INSERT INTO numbers (k, c, v) VALUES (?, ?, ?)")
        assert insert.routing_key_indexes == [0], "with version 3 the driver finds out by itself"
        mine.execute(insert, {"k": 100, "c": 2, "v": "named"})
        assert (
            mine.execute("SELECT v FROM numbers WHERE k = %(key)s AND c = 2", {"key": 100}).one().v == "named"
        )


def check_a_keyspace_per_request() -> None:
    with connected() as mine:
        with pytest.raises(InvalidRequest, match="keyspace"):
            mine.execute("SELECT * FROM numbers WHERE k = 1")
        mine.execute(f"USE {KEYSPACE}")
        assert mine.execute("SELECT count(*) FROM numbers WHERE k = 1").one()[0] == 20
        with pytest.raises(InvalidRequest, match="does not exist"):
            mine.set_keyspace("nowhere")
        mine.set_keyspace("system")
        assert mine.execute("SELECT key FROM local").one().key == "local"
    with connected() as mine:
        statement = SimpleStatement("SELECT count(*) FROM numbers WHERE k = 1", keyspace=KEYSPACE)
        assert mine.execute(statement).one()[0] == 20
        prepared = mine.prepare("SELECT count(*) FROM numbers WHERE k = ?", keyspace=KEYSPACE)
        assert mine.execute(prepared, (1,)).one()[0] == 20


# --- pages


def check_pages_forward_and_back(session: Session) -> None:
    statement = SimpleStatement("SELECT k, c FROM numbers", fetch_size=17)
    found = session.execute(statement)
    assert found.has_more_pages
    assert len(found.current_rows) == 17
    rows = [tuple(row) for row in found if row.k < 100]
    assert sorted(rows) == [(k, c) for k in range(10) for c in range(20)]
    assert len({row[0] for row in rows}) == 10
    reverse = session.prepare("SELECT c FROM numbers WHERE k = ? ORDER BY c DESC")
    reverse.fetch_size = 3
    assert [row.c for row in session.execute(reverse, (3,))] == list(range(19, -1, -1))
    with connected(KEYSPACE, profiles={EXEC_PROFILE_DEFAULT: profile(row_factory=tuple_factory)}) as mine:
        mine.default_fetch_size = 5
        assert len(mine.execute("SELECT k FROM numbers WHERE k = 1").current_rows) == 5
        mine.default_fetch_size = None
        assert len(mine.execute("SELECT k FROM numbers WHERE k = 1").current_rows) == 20


def check_a_page_goes_on_at_another_peer() -> None:
    profiles = {address: only(address) for address in PEERS.values()}
    with connected(KEYSPACE, profiles=profiles) as mine:
        statement = joined(mine).prepare("SELECT k, c FROM numbers WHERE k IN (1, 2, 3)")
        statement.fetch_size = 7
        state, seen, asked = None, [], set()
        for turn in range(20):
            address = list(PEERS.values())[turn % len(PEERS)]
            page = mine.execute(statement, execution_profile=address, paging_state=state)
            asked.add(page.response_future.coordinator_host.address)
            seen += [tuple(row) for row in page.current_rows]
            state = page.paging_state
            if state is None:
                break
        assert seen == [(k, c) for k in (1, 2, 3) for c in range(20)]
        assert asked == set(PEERS.values())
        with pytest.raises(InvalidRequest, match="paging state"):
            mine.execute(statement, paging_state=b"nonsense")


def check_pages_called_back(session: Session) -> None:
    done = threading.Event()
    rows: list[int] = []
    problems: list[Exception] = []
    future = session.execute_async(SimpleStatement("SELECT c FROM numbers WHERE k = 4", fetch_size=6))

    def page(some: Any) -> None:
        rows.extend(row.c for row in some)
        if future.has_more_pages:
            future.start_fetching_next_page()
        else:
            done.set()

    def failed(error: Exception) -> None:
        problems.append(error)
        done.set()

    future.add_callbacks(page, failed)
    assert done.wait(20)
    assert (rows, problems) == (list(range(20)), [])


# --- many at once


def check_many_requests_at_once(session: Session) -> None:
    select = session.prepare("SELECT v FROM numbers WHERE k = ? AND c = ?")
    keys = [(k, c) for k in range(10) for c in range(20)]
    futures = [session.execute_async(select, key) for key in keys]
    assert [future.result().one().v for future in futures] == [f"{k}.{c}" for k, c in keys]
    mixed = [(select, key) for key in keys] + [(SimpleStatement("SELECT nothing FROM numbers"), ())]
    results = execute_concurrent(session, mixed, concurrency=64, raise_on_first_error=False)
    assert [ok for ok, _ in results] == [True] * len(keys) + [False]
    assert isinstance(results[-1].result_or_exc, InvalidRequest)


@pytest.mark.parametrize("factory", [tuple_factory, dict_factory, named_tuple_factory, ordered_dict_factory])
def check_row_factories(factory: Any) -> None:
    with connected(KEYSPACE, profiles={EXEC_PROFILE_DEFAULT: profile(row_factory=factory)}) as mine:
        row = mine.execute("SELECT k, c AS cc, max(v), count(*), token(k) FROM numbers WHERE k = 1").one()
        values = list(row.values()) if isinstance(row, dict) else list(row)
        assert values[:4] == [1, 0, "1.9", 20]


# --- batches


def check_batches(session: Session) -> None:
    insert = session.prepare("INSERT INTO numbers (k, c, v) VALUES (?, ?, ?)")
    for kind in (BatchType.LOGGED, BatchType.UNLOGGED):
        batch = BatchStatement(kind)
        for k in (200, 201, 202):
            batch.add(insert, (k, 1, kind.name))
        batch.add("DELETE FROM numbers WHERE k = %s AND c = 2", (200,))
        batch.add(SimpleStatement("UPDATE numbers SET v = 'x' WHERE k = 200 AND c = 3"))
        session.execute(batch)
        found = [row.v for row in session.execute("SELECT v FROM numbers WHERE k IN (200, 201, 202)")]
        assert found == [kind.name, "x", kind.name, kind.name]
    session.execute(BatchStatement())
    session.execute("CREATE TABLE tally (k int PRIMARY KEY, n counter)")
    add = session.prepare("UPDATE tally SET n = n + ? WHERE k = ?")
    batch = BatchStatement(BatchType.COUNTER)
    batch.add_all([add] * 3, [(1, 1), (2, 2), (3, 1)])
    session.execute(batch)
    assert sorted(session.execute("SELECT k, n FROM tally")) == [(1, 4), (2, 2)]
    wrong = BatchStatement(BatchType.LOGGED)
    wrong.add(add, (1, 1))
    with pytest.raises(InvalidRequest, match="COUNTER"):
        session.execute(wrong)
    wrong = BatchStatement()
    wrong.add("SELECT * FROM numbers")
    with pytest.raises(InvalidRequest, match="only UPDATE, INSERT and DELETE"):
        session.execute(wrong)


def check_conditions(session: Session) -> None:
    session.execute("CREATE TABLE accounts (k int, c int, s int static, v int, PRIMARY KEY (k, c))")
    insert = session.prepare("INSERT INTO accounts (k, c, v) VALUES (?, ?, ?) IF NOT EXISTS")
    assert session.execute(insert, (1, 1, 1)).was_applied
    refused = session.execute(insert, (1, 1, 2))
    assert not refused.was_applied
    assert (refused.one().k, refused.one().c, refused.one().v) == (1, 1, 1)
    update = session.prepare("UPDATE accounts SET v = ? WHERE k = ? AND c = ? IF v = ?")
    assert session.execute(update, (5, 1, 1, 1)).was_applied
    refused = session.execute(update, (6, 1, 1, 1))
    assert (refused.was_applied, refused.one().v) == (False, 5)
    assert not session.execute("UPDATE accounts SET v = 1 WHERE k = 9 AND c = 9 IF EXISTS").was_applied
    batch = BatchStatement(serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL)
    batch.add(insert, (1, 2, 2))
    batch.add("UPDATE accounts SET s = 1 WHERE k = 1 IF s = null")
    assert session.execute(batch).was_applied
    assert not session.execute(batch).was_applied
    serial = SimpleStatement(
        "SELECT s, c, v FROM accounts WHERE k = 1", consistency_level=ConsistencyLevel.SERIAL
    )
    assert [tuple(row) for row in session.execute(serial)] == [(1, 1, 5), (1, 2, 2)]
    assert not session.execute("DELETE FROM accounts WHERE k = 1 AND c = 2 IF v = 9").was_applied
    assert session.execute("DELETE FROM accounts WHERE k = 1 AND c = 2 IF v IN (2, 9)").was_applied
    with pytest.raises(InvalidRequest, match="custom timestamp"):
        session.execute("INSERT INTO accounts (k, c) VALUES (1, 1) IF NOT EXISTS USING TIMESTAMP 5")


# --- timestamps, tracing, payload, warnings


def check_timestamps_of_clients(session: Session) -> None:
    session.execute("CREATE TABLE stamped (k int PRIMARY KEY, v int)")
    insert = session.prepare("INSERT INTO stamped (k, v) VALUES (?, ?)")
    for stamp, value in ((2_000_000, 2), (1_000_000, 1)):
        with connected(KEYSPACE, timestamp_generator=lambda: stamp) as mine:  # noqa: B023 - called within
            mine.execute(insert, (1, value))
            mine.execute("INSERT INTO stamped (k, v) VALUES (2, %s) USING TIMESTAMP 3000000", (value,))
    rows = session.execute("SELECT k, v, writetime(v) FROM stamped")
    assert sorted(tuple(row) for row in rows) == [(1, 2, 2_000_000), (2, 2, 3_000_000)]


def check_traces(session: Session) -> None:
    insert = session.prepare("INSERT INTO numbers (k, c, v) VALUES (?, ?, ?)")
    for number in range(5):
        future = session.execute_async(insert, (300, number, "traced"), trace=True)
        future.result()
        trace = future.get_query_trace(max_wait=10)
        assert trace.duration > datetime.timedelta(0)
        assert trace.request_type == "Execute CQL3 prepared query"
        assert trace.parameters["bound_var_1_c"] == str(number)
        assert trace.coordinator == future.coordinator_host.address
        told = [event.description for event in trace.events]
        assert sum("Mutation applied, logged and durable" in line for line in told) >= 2
        assert len({event.source for event in trace.events}) >= 2
        assert [event.datetime for event in trace.events] == sorted(e.datetime for e in trace.events)
    rows = session.execute("SELECT * FROM numbers", trace=True)
    assert any("tokens" in event.description for event in rows.get_query_trace(max_wait_sec=10).events)


def check_payloads_are_taken(session: Session) -> None:
    assert session.execute("SELECT key FROM system.local", custom_payload={"of": b"ours"}).one()
    statement = session.prepare("SELECT v FROM numbers WHERE k = ?")
    statement.custom_payload = {"of": b"ours"}
    assert session.execute(statement, (1,)).one()


def check_warnings_arrive(session: Session) -> None:
    many = SimpleStatement("SELECT count(*) FROM numbers")
    assert "without partition key" in session.execute(many).response_future.warnings[0]
    batch = BatchStatement(BatchType.UNLOGGED)
    insert = session.prepare("INSERT INTO numbers (k, c, v) VALUES (?, 0, 'w')")
    batch.add_all([insert] * 20, [(k,) for k in range(400, 420)])
    assert "covering 20 partitions" in session.execute(batch).response_future.warnings[0]
    over = (
        f"CREATE KEYSPACE {KEYSPACE}_more WITH replication = "
        "{'class': 'SimpleStrategy', 'replication_factor': 7}"
    )
    assert "replication factor 7" in session.execute(over).response_future.warnings[0]
    session.execute(f"DROP KEYSPACE {KEYSPACE}_more")
    assert session.execute("SELECT v FROM numbers WHERE k = 1").response_future.warnings is None


# --- errors


def check_errors_are_the_drivers_own(session: Session) -> None:
    with pytest.raises(SyntaxException, match="line 2, column 1"):
        session.execute("SELECT *\nFORM numbers")
    with pytest.raises(InvalidRequest, match="unconfigured table"):
        session.execute("SELECT * FROM nothing")
    with pytest.raises(SyntaxException, match="Unknown property"):
        session.execute("CREATE TABLE options (k int PRIMARY KEY) WITH nonsense = 1")
    with pytest.raises(ConfigurationException, match="must be greater than"):
        session.execute("CREATE TABLE options (k int PRIMARY KEY) WITH gc_grace_seconds = -1")
    session.execute("CREATE TABLE twice (k int PRIMARY KEY)")
    with pytest.raises(AlreadyExists) as raised:
        session.execute("CREATE TABLE twice (k int PRIMARY KEY)")
    assert (raised.value.keyspace, raised.value.table) == (KEYSPACE, "twice")
    with pytest.raises(AlreadyExists) as raised:
        session.execute(f"CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'SimpleStrategy', "
                        "'replication_factor': 1}")  # fmt: skip
    assert raised.value.keyspace == KEYSPACE
    with pytest.raises(InvalidRequest, match="bind markers"):
        session.execute("SELECT * FROM numbers WHERE k = ?")
    with pytest.raises(InvalidRequest):
        session.prepare("SELECT * FROM numbers WHERE nothing = ?")
    for level in (ConsistencyLevel.SERIAL, ConsistencyLevel.LOCAL_SERIAL):
        with pytest.raises(InvalidRequest, match="SERIAL"):
            session.execute(
                SimpleStatement("INSERT INTO numbers (k, c) VALUES (1, 1)", consistency_level=level)
            )
    with pytest.raises(InvalidRequest, match="ANY"):
        session.execute(SimpleStatement("SELECT * FROM numbers", consistency_level=ConsistencyLevel.ANY))


def check_a_level_that_cannot_be_had(session: Session) -> None:
    session.execute(f"CREATE KEYSPACE {KEYSPACE}_wide WITH replication = {{'class': 'SimpleStrategy', "
                    "'replication_factor': 5}")  # fmt: skip
    session.execute(f"CREATE TABLE {KEYSPACE}_wide.t (k int PRIMARY KEY, v int)")
    never = {"consistency_level": ConsistencyLevel.ALL, "retry_policy": FallthroughRetryPolicy()}
    for text in ("INSERT INTO {}_wide.t (k, v) VALUES (1, 1)", "SELECT * FROM {}_wide.t WHERE k = 1"):
        with pytest.raises((Unavailable, NoHostAvailable)) as raised:
            session.execute(SimpleStatement(text.format(KEYSPACE), **never))
        error = raised.value
        if isinstance(error, NoHostAvailable):
            error = next(iter(error.errors.values()))
        assert (error.required_replicas, error.alive_replicas) == (5, 3)
        assert error.consistency == ConsistencyLevel.ALL
    session.execute(f"DROP KEYSPACE {KEYSPACE}_wide")
    assert WriteType.CAS == 5


def check_a_request_that_is_too_long_costs_itself_alone(session: Session) -> None:
    session.execute("CREATE TABLE large (k int PRIMARY KEY, v blob)")
    with connected(KEYSPACE) as mine:
        insert = joined(mine).prepare("INSERT INTO large (k, v) VALUES (?, ?)")
        with pytest.raises(InvalidRequest, match=r"over the limit of .*: send it in smaller parts"):
            mine.execute(insert, (1, bytes(33 << 20)))
        assert all(host.is_up for host in mine.cluster.metadata.all_hosts()), "no peer is taken for dead"
        assert all(pool["open_count"] for pool in mine.get_pool_state().values())
        mine.execute(insert, (1, bytes(1 << 20)))
        assert len(mine.execute("SELECT v FROM large WHERE k = 1").one().v) == 1 << 20


def check_a_request_that_the_client_gives_up(session: Session) -> None:
    with pytest.raises(OperationTimedOut):
        session.execute("SELECT count(*) FROM numbers", timeout=1e-6)
    assert session.execute("SELECT count(*) FROM numbers WHERE k = 1").one()[0] == 20, "and goes on"


def check_speculative_executions(session: Session) -> None:
    spec = profile(speculative_execution_policy=ConstantSpeculativeExecutionPolicy(0.0001, 2))
    with connected(KEYSPACE, profiles={"spec": spec}) as mine:
        select = mine.prepare("SELECT v FROM numbers WHERE k = ? AND c = 1")
        select.is_idempotent = True
        hosts = 0
        for k in range(10):
            future = mine.execute_async(select, (k,), execution_profile="spec")
            assert future.result().one().v == f"{k}.1"
            hosts += len(future.attempted_hosts)
        assert hosts > 10, "others were asked too, and their late answers troubled nobody"


def check_malformed_bytes_cost_their_connection_alone(session: Session) -> None:
    with socket.create_connection((PEERS["n1"], PORT), timeout=5) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"unsupported protocol version" in stranger.recv(4096)
        assert stranger.recv(4096) == b""
    assert session.execute("SELECT key FROM system.local").one().key == "local"


def check_nothing_was_complained_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "cassandra"), connected(KEYSPACE, protocol_version=5) as mine:
        mine.execute("SELECT * FROM numbers WHERE k = 1")
        mine.cluster.refresh_schema_metadata()
    assert [record.message for record in caplog.records] == []
