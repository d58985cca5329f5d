"""Secondary indexes on three real peers, through the stock driver: built while rows are written, read after a
kill, paged through by any peer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.process.cluster import Cluster, running, until

pytest.importorskip("cassandra", reason="cassandra-driver is not installed")

from cassandra import ConsistencyLevel, InvalidRequest
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster as Driver, ExecutionProfile, Session
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.policies import RoundRobinPolicy
from cassandra.query import SimpleStatement

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

ROWS, KINDS = 1_200, 6


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("indexes")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def session(cluster: Cluster) -> Iterator[Session]:
    quorum = ConsistencyLevel.QUORUM
    profile = ExecutionProfile(RoundRobinPolicy(), consistency_level=quorum, request_timeout=30)
    with Driver(
        [peer.address for peer in cluster.peers],
        port=cluster.cql,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=None,
    ) as connected:
        session = connected.connect()
        session.execute(
            "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}"
        )
        session.set_keyspace("ks")
        session.execute("CREATE TABLE goods (id int PRIMARY KEY, kind int, tags set<text>)")
        yield session


def found(session: Session, where: str, *values: Any) -> list[int]:
    statement = SimpleStatement(f"SELECT id FROM goods WHERE {where}", fetch_size=50)
    return sorted(row.id for row in session.execute(statement, values))


def test_an_index_is_built_while_rows_are_written_and_survives_a_kill(
    cluster: Cluster, session: Session
) -> None:
    insert = session.prepare("INSERT INTO goods (id, kind, tags) VALUES (?, ?, ?)")

    def fill(ids: range) -> None:
        rows = [(number, number % KINDS, {f"t{number % 4}", "all"}) for number in ids]
        assert all(result.success for result in execute_concurrent_with_args(session, insert, rows))

    fill(range(ROWS // 2))
    session.execute("CREATE INDEX ON goods (kind)")
    session.execute("CREATE CUSTOM INDEX by_tag ON goods (tags) USING 'StorageAttachedIndex'")
    fill(range(ROWS // 2, ROWS))
    wanted = [number for number in range(ROWS) if number % KINDS == 5]
    until(lambda: _ready(session), "the indexes are built")
    assert found(session, "kind = 5") == wanted
    assert found(session, "kind = %s AND tags CONTAINS %s", 5, "t1") == [n for n in wanted if n % 4 == 1]
    assert len(found(session, "tags CONTAINS 'all'")) == ROWS
    assert set(session.cluster.metadata.keyspaces["ks"].tables["goods"].indexes) == {
        "goods_kind_idx",
        "by_tag",
    }
    session.execute("UPDATE goods SET kind = 5 WHERE id = 0")
    session.execute("DELETE FROM goods WHERE id = 5")
    wanted = sorted({*wanted, 0} - {5})
    cluster.kill("n2")
    assert found(session, "kind = 5") == wanted
    cluster.up("n2")
    assert found(session, "kind = 5") == wanted


def _ready(session: Session) -> bool:
    try:
        return bool(found(session, "tags CONTAINS 'nothing'") == [])
    except InvalidRequest as error:
        if "still being built" not in str(error):
            raise
        return False
