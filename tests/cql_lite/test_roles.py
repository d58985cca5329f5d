"""Roles and permissions: recorded, listed back, told to be not enforced."""

from __future__ import annotations

import hashlib

import pytest

from cql_lite import wire
from cql_lite.planner_roles import NOT_ENFORCED
from cql_lite.tracing import shown
from sim.real import node_of
from tests.cql_lite.whole import Cql, cluster_of, settle


@pytest.fixture
def client() -> Cql:
    cluster = cluster_of(3)
    client = Cql(cluster)
    client.run("CREATE TABLE ks.t (k int PRIMARY KEY)")
    settle(cluster)
    return client


def at_another(client: Cql) -> Cql:
    settle(client.cluster)
    return Cql(client.cluster, 1)


def test_roles_are_recorded_and_listed_with_a_warning(client: Cql) -> None:
    client.run("CREATE ROLE alice WITH PASSWORD = 'secret' AND LOGIN = true AND OPTIONS = {'a': 'b'}")
    assert client.warnings == [NOT_ENFORCED]
    client.run("CREATE USER bob WITH PASSWORD 'x' SUPERUSER")
    client.run("CREATE ROLE readers WITH ACCESS TO DATACENTERS {'dc1'}")
    other = at_another(client)
    alice = {"role": "alice", "super": False, "login": True, "options": (("a", "b"),), "datacenters": "ALL"}
    told = other.run("LIST ROLES")
    assert other.warnings == [NOT_ENFORCED]
    assert told[0] == alice
    assert [(row["role"], row["super"], row["login"], row["datacenters"]) for row in told[1:]] == [
        ("bob", True, True, "ALL"),
        ("readers", False, False, "dc1"),
    ]
    assert [row["name"] for row in other.run("LIST USERS")] == ["alice", "bob"]
    assert other.run("SELECT role, dcs FROM system_auth.network_permissions") == [
        {"role": "readers", "dcs": ("dc1",)}
    ]


def test_every_live_peer_knows_of_a_change_when_it_is_answered(client: Cql) -> None:
    """Drivers take turns among peers, and wait for no agreement after such statements."""
    for number in range(6):
        peer = Cql(client.cluster, number % 3)
        peer.run(f"CREATE ROLE role_{number}")
        for other in range(3):
            found = Cql(client.cluster, other).run(f"LIST ROLES OF role_{number}")
            assert [row["role"] for row in found] == [f"role_{number}"]
        Cql(client.cluster, (number + 1) % 3).run(f"GRANT SELECT ON ks.t TO role_{number}")
        listed = Cql(client.cluster, (number + 2) % 3).run(f"LIST ALL PERMISSIONS OF role_{number}")
        assert [row["permission"] for row in listed] == ["SELECT"]


def test_passwords_are_kept_as_salted_hashes_and_told_to_nobody(client: Cql) -> None:
    for name in ("a", "b"):
        client.run(f"CREATE ROLE {name} WITH PASSWORD = 'secret'")
    roles = node_of(client.cluster, 0).metadata.state.roles
    hashes = [roles[name].hash for name in ("a", "b")]
    assert hashes[0] != hashes[1], "each has a salt of its own"
    kind, n, r, p, salt, key = hashes[0].split("$")
    made = hashlib.scrypt(b"secret", salt=bytes.fromhex(salt), n=int(n), r=int(r), p=int(p), dklen=32)
    assert (kind, key) == ("scrypt", made.hex())
    assert b"secret" not in node_of(client.cluster, 0).metadata.state.last_data
    rows = client.run("SELECT * FROM system_auth.roles")
    assert all(row["salted_hash"] is None for row in rows)
    client.run("ALTER ROLE a WITH HASHED PASSWORD = '$2a$10$abc'")
    assert node_of(client.cluster, 0).metadata.state.roles["a"].hash == "$2a$10$abc"
    assert (
        shown("CREATE ROLE a WITH PASSWORD = 'secret' AND LOGIN = true")
        == "CREATE ROLE a WITH PASSWORD *******"
    )
    assert shown("SELECT passwords FROM t") == "SELECT passwords FROM t"


def test_a_role_is_altered_and_dropped(client: Cql) -> None:
    client.run("CREATE ROLE a WITH LOGIN = true")
    client.run("CREATE ROLE IF NOT EXISTS a WITH LOGIN = false")
    client.run("ALTER ROLE a WITH SUPERUSER = true")
    (row,) = client.run("SELECT * FROM system_auth.roles")
    assert (row["can_login"], row["is_superuser"]) == (True, True), "what is not named stays"
    for text, said in (
        ("CREATE ROLE a", "a already exists"),
        ("ALTER ROLE nobody WITH LOGIN = true", "doesn't exist"),
        ("ALTER ROLE a", "says what to change"),
        ("DROP ROLE nobody", "doesn't exist"),
        ("LIST ROLES OF nobody", "doesn't exist"),
    ):
        error = client.error(text)
        assert isinstance(error, wire.Invalid) and said in error.message, (text, error)
    client.run("DROP ROLE IF EXISTS nobody")
    client.run("ALTER ROLE IF EXISTS nobody WITH LOGIN = true")
    client.run("DROP ROLE a")
    assert at_another(client).run("LIST ROLES") == []


def test_roles_are_granted_to_roles(client: Cql) -> None:
    for name in ("a", "b", "c"):
        client.run(f"CREATE ROLE {name}")
    client.run("GRANT a TO b")
    client.run("GRANT b TO c")
    assert [row["role"] for row in client.run("LIST ROLES OF c")] == ["a", "b", "c"]
    assert [row["role"] for row in client.run("LIST ROLES OF c NORECURSIVE")] == ["b", "c"]
    assert "cannot be granted" in client.error("GRANT c TO a").message
    assert "already" in client.error("GRANT a TO b").message
    assert client.run("SELECT * FROM system_auth.role_members") == [
        {"role": "a", "member": "b"},
        {"role": "b", "member": "c"},
    ]
    client.run("REVOKE b FROM c")
    assert "not a member" in client.error("REVOKE b FROM c").message
    client.run("DROP ROLE a")
    assert client.run("SELECT member_of FROM system_auth.roles WHERE role = 'b'") == [{"member_of": None}]


def test_permissions_are_granted_listed_and_revoked(client: Cql) -> None:
    client.run("CREATE ROLE a")
    client.run("CREATE ROLE b")
    client.run("GRANT a TO b")
    client.run("GRANT SELECT ON TABLE ks.t TO a")
    client.run("GRANT ALL PERMISSIONS ON KEYSPACE ks TO b")
    client.run("GRANT DESCRIBE ON ALL ROLES TO b")
    of_a = [{"role": "a", "username": "a", "resource": "<table ks.t>", "permission": "SELECT"}]
    assert client.run("LIST ALL PERMISSIONS OF a") == of_a
    told = client.run("LIST ALL PERMISSIONS OF b")
    assert told[0] == of_a[0], "inherited"
    assert [row["permission"] for row in told if row["resource"] == "<keyspace ks>"] == [
        "ALTER", "AUTHORIZE", "CREATE", "DROP", "MODIFY", "SELECT",
    ]  # fmt: skip
    assert {"role": "b", "username": "b", "resource": "<all roles>", "permission": "DESCRIBE"} in told
    assert len(client.run("LIST SELECT ON TABLE ks.t OF b")) == 2, "also what is granted on its keyspace"
    assert len(client.run("LIST SELECT ON TABLE ks.t OF b NORECURSIVE")) == 1
    client.run("REVOKE MODIFY ON KEYSPACE ks FROM b")
    (row,) = client.run(
        "SELECT permissions FROM system_auth.role_permissions WHERE role = 'b' AND resource = 'data/ks'"
    )
    assert "MODIFY" not in row["permissions"] and "SELECT" in row["permissions"]
    for text, said in (
        ("GRANT SELECT ON TABLE ks.nothing TO a", "<table ks.nothing> doesn't exist"),
        ("GRANT SELECT ON KEYSPACE nowhere TO a", "<keyspace nowhere> doesn't exist"),
        ("GRANT EXECUTE ON TABLE ks.t TO a", "no permission on table"),
        ("GRANT SELECT ON TABLE ks.t TO nobody", "doesn't exist"),
        ("GRANT ALTER ON ROLE nobody TO a", "doesn't exist"),
    ):
        error = client.error(text)
        assert isinstance(error, wire.Invalid) and said in error.message, (text, error)
