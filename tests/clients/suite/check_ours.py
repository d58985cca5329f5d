"""What Cassandra does not have: documents that are searched, operation ids, and what is said of roles."""

from __future__ import annotations

import pytest
from cassandra import InvalidRequest
from cassandra.cluster import Session
from cassandra.query import SimpleStatement

from tests.clients.suite.fixtures import KEYSPACE


def check_documents_are_searched_by_a_prepared_match_in_pages(session: Session) -> None:
    notes = f"docs.{KEYSPACE}"
    session.execute(f"CREATE TABLE {notes} (id text PRIMARY KEY, doc json)")
    insert = session.prepare(f"INSERT INTO {notes} (id, doc) VALUES (?, ?)")
    for n in range(20):
        session.execute(insert, [f"n{n}", f'{{"text": "space {"horror" if n % 2 else "opera"}", "n": {n}}}'])
    match = session.prepare(f"SELECT id, doc FROM {notes} WHERE doc MATCH ?")
    match.fetch_size = 3
    found = session.execute(match, ["space -horror"])
    assert found.has_more_pages
    assert sorted(row.id for row in found) == sorted(f"n{n}" for n in range(0, 20, 2))
    with pytest.raises(InvalidRequest, match="at character"):
        session.execute(match, ["space AND"])
    session.execute(f"DROP TABLE {notes}")


def check_an_operation_id_in_the_custom_payload_makes_retries_exact(session: Session) -> None:
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


def check_roles_are_kept_and_not_enforced(session: Session) -> None:
    name = f"somebody_{KEYSPACE}"
    future = session.execute_async(f"CREATE ROLE {name} WITH PASSWORD = 'secret' AND LOGIN = true")
    future.result()
    assert "does not enforce" in future.warnings[0]
    (role,) = (row for row in session.execute("LIST ROLES") if row.role == name)
    assert (role.login, role.super) == (True, False)
    session.execute(f"DROP ROLE {name}")
    versions = {row.schema_version for row in session.execute("SELECT schema_version FROM system.peers_v2")}
    assert len(versions) == 1
    assert session.cluster.control_connection.wait_for_schema_agreement(wait_time=5)
