"""What a table keeps for subscribers, how long and how many bytes: set, described, altered, refused."""

from __future__ import annotations

from cql_lite import wire
from tests.cql_lite.whole import Cql, cluster_of, settle

SAID = ("changes = 'new'", "changes_retention = 604800", "changes_retention_bytes = 1000000")


def test_how_much_of_its_changes_a_table_keeps() -> None:
    cql = Cql(cluster_of(1))
    cql.run("USE ks")
    cql.run(f"CREATE TABLE kept (k int PRIMARY KEY) WITH {' AND '.join(SAID)}")
    settle(cql.cluster)
    (row,) = cql.run("DESCRIBE TABLE kept")
    assert all(option in row["create_statement"] for option in SAID), row
    cql.run("ALTER TABLE kept WITH changes_retention_bytes = 0")
    settle(cql.cluster)
    (row,) = cql.run("DESCRIBE TABLE kept")
    assert "changes_retention_bytes" not in row["create_statement"] and SAID[1] in row["create_statement"]
    assert isinstance(cql.error("ALTER TABLE kept WITH changes_retention_bytes = -1"), wire.Error)
