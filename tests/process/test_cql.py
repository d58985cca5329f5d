"""The stock `cassandra-driver` against three real peers: what a stranger's client does, unmodified."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.process.cluster import Cluster, running, until

pytest.importorskip("cassandra", reason="cassandra-driver is not installed")

from cassandra import AlreadyExists, ConsistencyLevel, InvalidRequest
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster as Driver, ExecutionProfile, Session
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy
from cassandra.protocol import SyntaxException
from cassandra.query import BatchStatement, BatchType, SimpleStatement
from cassandra.util import Date, Duration, OrderedMapSerializedKey, SortedSet, Time

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def driver(cluster: Cluster, version: int = 5, **options: Any) -> Driver:
    policy = TokenAwarePolicy(DCAwareRoundRobinPolicy("dc1"))
    profile = ExecutionProfile(policy, consistency_level=ConsistencyLevel.QUORUM, request_timeout=20)
    return Driver(
        [peer.address for peer in cluster.peers],
        port=cluster.cql,
        protocol_version=version,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=None,
        **options,
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("cql")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def session(cluster: Cluster) -> Iterator[Session]:
    with driver(cluster) as connected:
        session = connected.connect()
        session.execute(
            "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}"
        )
        session.set_keyspace("ks")
        yield session


TIME_UUID = uuid.UUID("f0e9c3a0-7c1e-11ee-8000-0123456789ab")
TYPES: list[tuple[str, Any]] = [
    ("ascii", "plain"),
    ("bigint", -(2**63)),
    ("blob", bytes(range(256))),
    ("boolean", True),
    ("date", Date(datetime.date(2024, 2, 29))),
    ("decimal", Decimal("-1234567890.0987654321")),
    ("double", 1.5e300),
    ("duration", Duration(14, 3, 5_000_000_000)),
    ("float", -0.5),
    ("inet", "2001:db8::1"),
    ("int", 2**31 - 1),
    ("smallint", -32768),
    ("text", "강강술래"),
    ("time", Time("12:34:56.789012345")),
    ("timestamp", datetime.datetime(2024, 2, 29, 23, 59, 59, 999000)),  # noqa: DTZ001 - as drivers give them
    ("timeuuid", TIME_UUID),
    ("tinyint", 127),
    ("uuid", uuid.UUID("123e4567-e89b-42d3-a456-426614174000")),
    ("varchar", ""),
    ("varint", -(10**50)),
    ("vector<float, 3>", [1.0, -2.5, 0.0]),
    ("list<int>", [3, 1, 3]),
    ("set<text>", SortedSet(["a", "b"])),
    ("map<int, text>", {1: "one", 2: "two"}),
    ("tuple<int, text>", (1, None)),
    ("frozen<list<frozen<map<text, int>>>>", [{"a": 1}, {"b": 2}]),
]


def plain(value: Any) -> Any:
    """A driver's value in a form that compares."""
    if isinstance(value, OrderedMapSerializedKey):
        return dict(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


@pytest.mark.parametrize("version", [3, 4, 5])
def test_every_type_round_trips_through_prepared_statements(
    cluster: Cluster, session: Session, version: int
) -> None:
    types = [pair for pair in TYPES if version > 3 or pair[0] not in ("duration",)]
    columns = ", ".join(f"c{index} {of}" for index, (of, _) in enumerate(types))
    session.execute(f"CREATE TABLE every_v{version} (k int PRIMARY KEY, {columns})")
    with driver(cluster, version) as connected:
        mine = connected.connect("ks")
        names = ", ".join(f"c{index}" for index in range(len(types)))
        markers = ", ".join("?" * (len(types) + 1))
        insert = mine.prepare(f"INSERT INTO every_v{version} (k, {names}) VALUES ({markers})")
        mine.execute(insert, (1, *(value for _, value in types)))
        mine.execute(insert, (2, *(None for _ in types)))
        select = mine.prepare(f"SELECT {names} FROM every_v{version} WHERE k = ?")
        row = mine.execute(select, (1,)).one()
        for (of, value), found in zip(types, row, strict=True):
            assert plain(found) == value, of
        assert all(value is None for value in mine.execute(select, (2,)).one())


def test_pages_batches_and_concurrency(session: Session) -> None:
    session.execute("CREATE TABLE rows (k int, c int, v text, PRIMARY KEY (k, c))")
    insert = session.prepare("INSERT INTO rows (k, c, v) VALUES (?, ?, ?)")
    done = execute_concurrent_with_args(
        session, insert, [(k, c, f"{k}.{c}") for k in range(20) for c in range(25)]
    )
    assert all(ok for ok, _ in done)
    found = [
        (row.k, row.c) for row in session.execute(SimpleStatement("SELECT k, c FROM rows", fetch_size=30))
    ]
    assert sorted(found) == [(k, c) for k in range(20) for c in range(25)]
    reverse = session.prepare("SELECT c FROM rows WHERE k = ? ORDER BY c DESC")
    reverse.fetch_size = 4
    assert [row.c for row in session.execute(reverse, (3,))] == list(range(24, -1, -1))
    for kind in (BatchType.LOGGED, BatchType.UNLOGGED):
        batch = BatchStatement(kind)
        for k in (100, 101):
            batch.add(insert, (k, 1, "batch"))
        batch.add("DELETE FROM rows WHERE k = 0 AND c = %s", (0,))
        session.execute(batch)
    assert [row.v for row in session.execute("SELECT v FROM rows WHERE k IN (100, 101)")] == [
        "batch",
        "batch",
    ]
    assert session.execute("SELECT count(*) FROM rows WHERE k = 0").one().count == 24


def test_documents_are_searched_by_a_prepared_match_in_pages(session: Session) -> None:
    session.execute("CREATE TABLE docs.notes (id text PRIMARY KEY, doc json)")
    insert = session.prepare("INSERT INTO docs.notes (id, doc) VALUES (?, ?)")
    for n in range(20):
        session.execute(insert, [f"n{n}", f'{{"text": "space {"horror" if n % 2 else "opera"}", "n": {n}}}'])
    match = session.prepare("SELECT id, doc FROM docs.notes WHERE doc MATCH ?")
    match.fetch_size = 3
    found = session.execute(match, ["space -horror"])
    assert found.has_more_pages
    assert sorted(row.id for row in found) == sorted(f"n{n}" for n in range(0, 20, 2))
    with pytest.raises(InvalidRequest, match="at character"):
        session.execute(match, ["space AND"])


def test_conditions_and_counters(session: Session) -> None:
    session.execute("CREATE TABLE cas (k int PRIMARY KEY, v int)")
    insert = session.prepare("INSERT INTO cas (k, v) VALUES (?, ?) IF NOT EXISTS")
    assert session.execute(insert, (1, 1)).was_applied
    refused = session.execute(insert, (1, 2))
    assert not refused.was_applied
    assert refused.one().v == 1
    update = session.prepare("UPDATE cas SET v = ? WHERE k = ? IF v = ?")
    assert session.execute(update, (5, 1, 1)).was_applied
    select = SimpleStatement("SELECT v FROM cas WHERE k = 1", consistency_level=ConsistencyLevel.SERIAL)
    assert session.execute(select).one().v == 5
    session.execute("CREATE TABLE hits (k int PRIMARY KEY, n counter)")
    count = session.prepare("UPDATE hits SET n = n + ? WHERE k = ?")
    for _ in range(10):
        session.execute(count, (3, 1))
    assert session.execute("SELECT n FROM hits WHERE k = 1").one().n == 30


def test_errors_are_the_drivers_own(session: Session) -> None:
    with pytest.raises(SyntaxException, match="line 1"):
        session.execute("SELECT FROM WHERE")
    with pytest.raises(InvalidRequest, match="unconfigured table nothing"):
        session.execute("SELECT * FROM nothing")
    session.execute("CREATE TABLE twice (k int PRIMARY KEY)")
    with pytest.raises(AlreadyExists):
        session.execute("CREATE TABLE twice (k int PRIMARY KEY)")


def test_metadata_tokens_and_agreement(cluster: Cluster, session: Session) -> None:
    session.execute("CREATE TYPE address (street text, number int)")
    session.execute("CREATE TABLE people (id uuid, at timestamp, home frozen<address>, PRIMARY KEY (id, at)) "
                    "WITH CLUSTERING ORDER BY (at DESC) AND comment = 'who'")  # fmt: skip
    known = session.cluster
    assert known.control_connection.wait_for_schema_agreement()
    known.refresh_schema_metadata()
    people = known.metadata.keyspaces["ks"].tables["people"]
    assert [column.name for column in people.primary_key] == ["id", "at"]
    assert people.options["comment"] == "who"
    assert known.metadata.keyspaces["ks"].user_types["address"].field_names == ["street", "number"]
    hosts = known.metadata.all_hosts()
    assert sorted(host.address for host in hosts) == sorted(peer.address for peer in cluster.peers)
    assert len(known.metadata.token_map.ring) == 3 * 16
    insert = session.prepare("INSERT INTO people (id, at) VALUES (?, ?)")
    assert insert.routing_key_indexes == [0]
    bound = insert.bind((TIME_UUID, datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)))
    assert len(known.metadata.get_replicas("ks", bound.routing_key)) == 3


def test_other_clients_hear_of_the_schema(cluster: Cluster, session: Session) -> None:
    with driver(cluster) as other:
        other.connect()
        session.execute("CREATE TABLE heard (k int PRIMARY KEY)")
        until(lambda: "heard" in other.metadata.keyspaces["ks"].tables, "the event of a table that was made")
        session.execute("DROP TABLE heard")
        until(
            lambda: "heard" not in other.metadata.keyspaces["ks"].tables, "the event of one that was dropped"
        )


def test_malformed_bytes_cost_their_connection_alone(cluster: Cluster, session: Session) -> None:
    with socket.create_connection((cluster.peers[0].address, cluster.cql), timeout=5) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"unsupported protocol version" in stranger.recv(4096)
        assert stranger.recv(4096) == b""
    assert session.execute("SELECT key FROM system.local").one().key == "local"
    assert ipaddress.ip_address(cluster.peers[0].address).is_loopback


def test_a_killed_peer_is_missed_by_nobody(cluster: Cluster, session: Session) -> None:
    session.execute("CREATE TABLE kept (k int PRIMARY KEY, v int)")
    insert = session.prepare("INSERT INTO kept (k, v) VALUES (?, ?)")
    insert.is_idempotent = True
    for k in range(50):
        session.execute(insert, (k, k))
    cluster.kill("n2")
    for k in range(50, 100):
        session.execute(insert, (k, k))
    assert {row.k for row in session.execute(SimpleStatement("SELECT k FROM kept", fetch_size=10))} == set(
        range(100)
    )
    cluster.up("n2")
    select = session.prepare("SELECT v FROM kept WHERE k = ?")

    def answers() -> bool:
        with driver(cluster) as fresh:
            mine = fresh.connect("ks")
            return (
                len(fresh.metadata.all_hosts()) == 3
                and mine.execute(select.query_string.replace("?", "7")).one().v == 7
            )

    until(answers, "the peer that came back serves")


def test_a_traced_query_is_told_by_the_driver(session: Session) -> None:
    session.execute("CREATE TABLE traced (k int PRIMARY KEY, v text)")
    session.execute("INSERT INTO traced (k, v) VALUES (1, 'x')", trace=True).get_query_trace(max_wait_sec=10)
    insert = session.prepare("INSERT INTO traced (k, v) VALUES (?, ?)")
    for number in range(5):
        future = session.execute_async(insert, (number, "y"), trace=True)
        future.result()
        found = future.get_query_trace(max_wait=10)
        assert found.duration > datetime.timedelta(0)
        assert found.request_type == "Execute CQL3 prepared query"
        assert found.parameters["bound_var_0_k"] == str(number)
        assert found.coordinator in [host.address for host in session.cluster.metadata.all_hosts()]
        told = [event.description for event in found.events]
        assert sum("Mutation applied, logged and durable" in line for line in told) >= 2
        assert len({event.source for event in found.events}) >= 2
        assert [event.datetime for event in found.events] == sorted(e.datetime for e in found.events)
    rows = session.execute("SELECT * FROM traced", trace=True)
    assert any("tokens" in event.description for event in rows.get_query_trace(max_wait_sec=10).events)


def test_an_operation_id_in_the_custom_payload_makes_retries_exact(
    cluster: Cluster, session: Session
) -> None:
    session.execute("CREATE TABLE once_counts (k int PRIMARY KEY, n counter)")
    session.execute("CREATE TABLE once_lists (k int PRIMARY KEY, l list<int>)")
    append = session.prepare("UPDATE once_lists SET l = l + ? WHERE k = 1")
    for peer in range(6):
        payload = {"sullae-op-id": b"add five"}
        session.execute("UPDATE once_counts SET n = n + 5 WHERE k = 1", custom_payload=payload)
        session.execute(append, ([peer // 3],), custom_payload={"sullae-op-id": b"append %d" % (peer // 3)})
    assert session.execute("SELECT n FROM once_counts").one().n == 5
    assert session.execute("SELECT l FROM once_lists").one().l == [0, 1]
    insert = SimpleStatement("INSERT INTO once_lists (k, l) VALUES (2, [1]) IF NOT EXISTS")
    answers = [session.execute(insert, custom_payload={"sullae-op-id": b"new"}).one() for _ in range(3)]
    assert [answer[0] for answer in answers] == [True] * 3
    with pytest.raises(InvalidRequest, match="used for another request"):
        session.execute(append, ([9],), custom_payload={"sullae-op-id": b"append 0"})


def test_the_driver_reads_warnings_roles_and_the_truth_about_the_schema(session: Session) -> None:
    session.execute("CREATE TABLE warned (k int PRIMARY KEY)")
    future = session.execute_async("SELECT count(*) FROM warned")
    future.result()
    assert future.warnings == ["Aggregation query used without partition key"]
    future = session.execute_async("CREATE ROLE somebody WITH PASSWORD = 'secret' AND LOGIN = true")
    future.result()
    assert "does not enforce" in future.warnings[0]
    (role,) = session.execute("LIST ROLES")
    assert (role.role, role.login, role.super) == ("somebody", True, False)
    versions = {row.schema_version for row in session.execute("SELECT schema_version FROM system.peers_v2")}
    assert len(versions) == 1
    assert session.cluster.control_connection.wait_for_schema_agreement(wait_time=5)
