"""What drivers learn of the cluster: schema, types, indexes, tokens, hosts; agreement and events."""

from __future__ import annotations

from typing import Any

import pytest
from cassandra import InvalidRequest, Unauthorized
from cassandra.cluster import Session
from cassandra.metadata import KeyspaceMetadata

from tests.clients.suite.fixtures import KEYSPACE, PEERS, PORT, connected, joined, only, until

SCHEMA = """
CREATE TYPE {}.inside (a int, b frozen<list<text>>);
CREATE TYPE {}.outside (i frozen<inside>, "Q" text);
CREATE TABLE {}.everything (a int, b text, c timestamp, d uuid, s map<text, frozen<outside>> static,
    "Weird Name" text, v vector<float, 3>, t frozen<tuple<int, text>>, PRIMARY KEY ((a, b), c, d))
    WITH CLUSTERING ORDER BY (c DESC, d ASC) AND comment = 'it''s' AND default_time_to_live = 10
    AND gc_grace_seconds = 100 AND caching = {{'keys': 'NONE', 'rows_per_partition': '5'}};
CREATE TABLE {}.tally (k int PRIMARY KEY, n counter);
CREATE TABLE {}.found (k int PRIMARY KEY, v int, m map<text, int>, s set<int>);
CREATE INDEX by_v ON {}.found (v);
CREATE INDEX ON {}.found (keys(m));
CREATE INDEX by_entry ON {}.found (entries(m));
CREATE INDEX by_member ON {}.found (values(s))
"""


def make(session: Session, name: str) -> KeyspaceMetadata:
    session.execute(
        f"CREATE KEYSPACE {name} WITH replication = {{'class': 'NetworkTopologyStrategy', 'dc1': 2}} "
        "AND durable_writes = false"
    )
    for statement in SCHEMA.format(*[name] * 9).split(";"):
        session.execute(statement)
    return session.cluster.metadata.keyspaces[name]


def check_the_schema_as_drivers_see_it(session: Session) -> None:
    keyspace = make(session, f"{KEYSPACE}_seen")
    assert not keyspace.durable_writes
    assert not keyspace.virtual
    assert keyspace.replication_strategy.export_for_schema().startswith("{'class': 'NetworkTopologyStrategy'")
    assert [keyspace.user_types["outside"].field_names, keyspace.user_types["outside"].field_types] == [
        ["i", "Q"], ["frozen<inside>", "text"],
    ]  # fmt: skip
    everything = keyspace.tables["everything"]
    assert [column.name for column in everything.partition_key] == ["a", "b"]
    assert [(c.name, c.is_reversed) for c in everything.clustering_key] == [("c", True), ("d", False)]
    assert [c.name for c in everything.columns.values() if c.is_static] == ["s"]
    types = {name: column.cql_type for name, column in everything.columns.items()}
    assert types["s"] == "map<text, frozen<outside>>"
    assert types["t"] == "frozen<tuple<int, text>>"
    assert types["v"].replace(" ", "") == "vector<float,3>"
    options = everything.options
    assert (options["comment"], options["default_time_to_live"], options["gc_grace_seconds"]) == (
        "it's",
        10,
        100,
    )
    assert options["caching"] == {"keys": "NONE", "rows_per_partition": "5"}
    assert everything.is_cql_compatible
    indexes = keyspace.indexes
    assert sorted(indexes) == ["by_entry", "by_member", "by_v", "found_m_idx"]
    targets = {name: index.index_options["target"] for name, index in indexes.items()}
    assert targets == {
        "by_v": "v",
        "found_m_idx": "keys(m)",
        "by_entry": "entries(m)",
        "by_member": "values(s)",
    }
    assert keyspace.tables["found"].indexes.keys() == indexes.keys()
    assert keyspace.views == keyspace.functions == keyspace.aggregates == {}


def check_each_peer_tells_who_is_connected(session: Session) -> None:
    name, profiles = "system_views.clients", {peer: only(address) for peer, address in PEERS.items()}
    with connected(profiles=profiles) as mine:
        for peer in PEERS:
            rows = list(joined(mine).execute(f"SELECT * FROM {name}", execution_profile=peer))
            mine_there = [row for row in rows if row.connection_stage == "ready" and row.driver_name]
            assert mine_there and all("Python Driver" in row.driver_name for row in mine_there)
            assert all(row.protocol_version in (3, 4, 5) for row in mine_there)
            assert any(row.request_count > 0 for row in mine_there)
            assert not any(row.ssl_enabled for row in rows)
            one = rows[-1]
            found = mine.execute(
                f"SELECT driver_name FROM {name} WHERE address = %s AND port = %s",
                (one.address, one.port), execution_profile=peer,
            )  # fmt: skip
            assert [row.driver_name for row in found] == [one.driver_name]


def parts(keyspace: KeyspaceMetadata, name: str) -> list[str]:
    """The statements of a keyspace, in an order that does not depend on when the driver heard of each."""
    return sorted(part.strip() for part in keyspace.export_as_string().replace(name, "ks").split(";"))


def check_what_is_exported_makes_the_same_again(session: Session) -> None:
    one, two = f"{KEYSPACE}_one", f"{KEYSPACE}_two"
    made = make(session, one)
    for statement in made.export_as_string().replace(one, two).split(";"):
        if statement.strip():
            session.execute(statement)
    assert parts(session.cluster.metadata.keyspaces[two], two) == parts(made, one)
    described = [row.create_statement for row in session.execute(f"DESCRIBE KEYSPACE {one}")]
    three = f"{KEYSPACE}_three"
    for statement in described:
        session.execute(statement.replace(one, three))
    assert parts(session.cluster.metadata.keyspaces[three], three) == parts(made, one)
    for name in (one, two, three):
        session.execute(f"DROP KEYSPACE {name}")
    assert one not in session.cluster.metadata.keyspaces


def check_changes_reach_every_client(session: Session) -> None:
    known = session.cluster.metadata.keyspaces[KEYSPACE]
    with connected(schema_event_refresh_window=0.05) as other:
        theirs = other.cluster.metadata

        def table() -> Any:
            return theirs.keyspaces[KEYSPACE].tables.get("growing")

        session.execute("CREATE TABLE growing (k int PRIMARY KEY, a int)")
        until(table, "a table that was made")
        session.execute("ALTER TABLE growing ADD (b text, c list<int>)")
        until(lambda: len(table().columns) == 4, "columns that were added")
        session.execute("ALTER TABLE growing DROP a")
        until(lambda: list(table().columns) == ["k", "b", "c"], "a column that was dropped")
        session.execute("ALTER TABLE growing WITH comment = 'grown'")
        until(lambda: table().options["comment"] == "grown", "an option that was changed")
        session.execute("CREATE TYPE moving (a int)")
        until(lambda: "moving" in theirs.keyspaces[KEYSPACE].user_types, "a type that was made")
        session.execute("ALTER TYPE moving RENAME a TO b")
        until(lambda: theirs.keyspaces[KEYSPACE].user_types["moving"].field_names == ["b"], "a field renamed")
        session.execute("DROP TYPE moving")
        until(lambda: "moving" not in theirs.keyspaces[KEYSPACE].user_types, "a type that was dropped")
        session.execute("CREATE INDEX grown_b ON growing (b)")
        until(lambda: "grown_b" in theirs.keyspaces[KEYSPACE].indexes, "an index that was made")
        session.execute("DROP INDEX grown_b")
        until(lambda: "grown_b" not in theirs.keyspaces[KEYSPACE].indexes, "an index that was dropped")
        session.execute("DROP TABLE growing")
        until(lambda: table() is None, "a table that was dropped")
    assert "growing" not in known.tables


def check_prepared_statements_outlive_changes(session: Session) -> None:
    session.execute("CREATE TABLE changing (k int PRIMARY KEY, a int)")
    select = session.prepare("SELECT * FROM changing WHERE k = ?")
    session.execute("INSERT INTO changing (k, a) VALUES (1, 2)")
    assert session.execute(select, (1,)).one() == (1, 2)
    session.execute("ALTER TABLE changing ADD b text")
    session.execute("INSERT INTO changing (k, b) VALUES (1, 'b')")
    assert tuple(session.execute(select, (1,)).one()) == (1, 2, "b")
    session.execute("ALTER TABLE changing DROP a")
    assert tuple(session.execute(select, (1,)).one()) == (1, "b")
    session.execute("DROP TABLE changing")
    with pytest.raises(InvalidRequest, match="unconfigured table"):
        session.execute(select, (1,))


def check_hosts_tokens_and_agreement(session: Session) -> None:
    metadata = session.cluster.metadata
    hosts = metadata.all_hosts()
    assert sorted(host.address for host in hosts) == sorted(PEERS.values())
    assert {(host.datacenter, host.endpoint.port) for host in hosts} == {("dc1", PORT)}
    assert sorted(host.rack for host in hosts) == ["r1", "r2", "r3"]
    assert len({host.host_id for host in hosts}) == 3
    assert all(host.is_up for host in hosts)
    assert len(metadata.token_map.ring) == 3 * 16
    assert metadata.partitioner.endswith("Murmur3Partitioner")
    assert session.cluster.control_connection.wait_for_schema_agreement(wait_time=10)
    versions = {row.schema_version for row in session.execute("SELECT schema_version FROM system.peers")}
    versions.add(session.execute("SELECT schema_version FROM system.local").one().schema_version)
    assert len(versions) == 1


def check_system_tables_that_tools_read(session: Session) -> None:
    for table in ("local", "peers", "peers_v2"):
        rows = session.execute(f"SELECT * FROM system.{table}").all()
        assert len(rows) == (1 if table == "local" else 2)
    for table in ("keyspaces", "tables", "columns", "indexes", "types", "views", "triggers", "functions",
                  "aggregates", "dropped_columns"):  # fmt: skip
        session.execute(f"SELECT * FROM system_schema.{table} WHERE keyspace_name = %s", (KEYSPACE,)).all()
    virtual = {row.keyspace_name for row in session.execute("SELECT * FROM system_virtual_schema.keyspaces")}
    assert virtual == {"system_views", "system_virtual_schema"}
    known = session.cluster.metadata.keyspaces
    assert {name for name, keyspace in known.items() if keyspace.virtual} == virtual
    assert {"system", "system_schema", "system_auth", "system_traces"} <= set(known) - virtual
    assert "local" in known["system"].tables
    with pytest.raises(Unauthorized, match="system"):
        session.execute("DELETE FROM system.local WHERE key = 'local'")
    with pytest.raises(Unauthorized, match="system"):
        session.execute("DROP KEYSPACE system_schema")
