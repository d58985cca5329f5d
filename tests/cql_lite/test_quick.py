"""Which statements have a quick way. That it asks and answers what the general way does is checked for every
statement of every test that runs on tests/cql_lite/whole.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from cql_lite import wire
from sim.cluster import SimCluster
from tests.cql_lite.whole import Cql, cluster_of, settle

TABLES = (
    "CREATE TABLE ks.plain (k text PRIMARY KEY, v blob, n int)",
    (
        "CREATE TABLE ks.wide (a text, b int, c text, d int, s text static, l list<int>, x text, j json, "
        "PRIMARY KEY ((a, b), c, d)) WITH CLUSTERING ORDER BY (c DESC, d ASC) AND default_time_to_live = 600"
    ),
)
QUICK: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("INSERT INTO ks.plain (k, v, n) VALUES (?, ?, ?)", ("a", b"v", 1)),
    ("INSERT INTO ks.plain (n, k) VALUES (?, ?)", (2, "a")),
    ("INSERT INTO ks.plain (k, v, n) VALUES (?, ?, ?)", ("a", None, wire.UNSET)),
    (
        "INSERT INTO ks.wide (a, b, c, d, x, j) VALUES (?, ?, ?, ?, ?, ?)",
        ("a", 1, "c", 2, "x", '{"a": [1.50]}'),
    ),
    ("SELECT * FROM ks.plain WHERE k = ?", ("a",)),
    ("SELECT * FROM ks.plain WHERE k = ?", ("nobody",)),
    ("SELECT v, writetime(v), ttl(v) FROM ks.plain WHERE k = ?", ("a",)),
    ("SELECT x, c, j FROM ks.wide WHERE d = ? AND a = ? AND c = ? AND b = ?", (2, "a", "c", 1)),
    ("SELECT JSON x FROM ks.wide WHERE a = ? AND b = ? AND c = ? AND d = ?", ("a", 1, "c", 2)),
)
GENERAL: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("INSERT INTO ks.plain (k, v) VALUES (?, 0x00)", ("a",)),
    ("INSERT INTO ks.plain (k, v) VALUES (?, ?) USING TTL 5", ("a", b"v")),
    ("INSERT INTO ks.plain (k, v) VALUES (?, ?) USING TIMESTAMP ?", ("a", b"v", 5)),
    ("INSERT INTO ks.plain (k, v) VALUES (?, ?) IF NOT EXISTS", ("a", b"v")),
    ("INSERT INTO ks.wide (a, b, c, d, l) VALUES (?, ?, ?, ?, ?)", ("a", 1, "c", 2, [1])),
    ("INSERT INTO ks.wide (a, b, c, d, s) VALUES (?, ?, ?, ?, ?)", ("a", 1, "c", 2, "s")),
    ("INSERT INTO ks.wide (a, b, s) VALUES (?, ?, ?)", ("a", 1, "s")),
    ("UPDATE ks.plain SET v = ? WHERE k = ?", (b"v", "a")),
    ("SELECT * FROM ks.plain WHERE k = ? LIMIT 1", ("a",)),
    ("SELECT * FROM ks.plain WHERE k IN (?)", ("a",)),
    ("SELECT * FROM ks.plain WHERE token(k) > ?", (5,)),
    ("SELECT count(*) FROM ks.plain WHERE k = ?", ("a",)),
    ("SELECT * FROM ks.wide WHERE a = ? AND b = ? AND c = ? AND d = ?", ("a", 1, "c", 2)),
    ("SELECT x FROM ks.wide WHERE a = ? AND b = ? AND c = ?", ("a", 1, "c")),
    ("SELECT * FROM system.local WHERE key = ?", ("local",)),
)


@pytest.fixture(scope="module")
def client() -> Cql:
    cluster: SimCluster = cluster_of(3)
    client = Cql(cluster)
    for text in TABLES:
        client.run(text)
    settle(cluster)
    return client


@pytest.mark.parametrize(("text", "values"), QUICK)
def test_one_row_by_its_whole_key_is_quick(client: Cql, text: str, values: tuple[Any, ...]) -> None:
    before = client.quick
    found = client.run(text, *values)
    assert client.quick == before + 1
    assert found == client.run(text, *values)


@pytest.mark.parametrize(("text", "values"), GENERAL)
def test_all_else_goes_the_general_way(client: Cql, text: str, values: tuple[Any, ...]) -> None:
    before = client.quick
    client.run(text, *values)
    assert client.quick == before


@pytest.mark.parametrize(
    "more", [{"now_s": 1_700_000_000}, {"names": ("k", "v", "n")}, {"timestamp_us": 12345}]
)
def test_what_a_request_says_besides_is_heeded(client: Cql, more: dict[str, Any]) -> None:
    before = client.quick
    client.run("INSERT INTO ks.plain (k, v, n) VALUES (?, ?, ?)", "b", b"v", 1, **more)
    assert client.quick == before + ("timestamp_us" in more)


def test_mistakes_are_told_by_the_general_way(client: Cql) -> None:
    text = "INSERT INTO ks.plain (k, v, n) VALUES (?, ?, ?)"
    prepared = client.good(wire.Prepare(text))
    assert isinstance(prepared, wire.Prepared)
    before = client.quick
    for values in ((None, b"v", b"\0\0\0\1"), (b"k", b"v", b"\1"), (b"k", b"v"), (b"", b"v", None)):
        request = wire.Execute(prepared.id, client.parameters(values), prepared.result.id)
        assert isinstance(client.send(request), wire.Invalid)
    assert client.quick == before


def test_refusals_are_told_alike_and_a_changed_table_is_planned_anew() -> None:
    cluster = cluster_of(3)
    client = Cql(cluster)
    client.run(TABLES[0])
    settle(cluster)
    insert, select = "INSERT INTO ks.plain (k, n) VALUES (?, ?)", "SELECT * FROM ks.plain WHERE k = ?"
    client.run(insert, "a", 1)
    assert client.run(select, "a") == [{"k": "a", "n": 1, "v": None}]
    assert client.quick == 2
    client.run("ALTER TABLE ks.plain ADD w int")
    settle(cluster)
    assert client.run(select, "a") == [{"k": "a", "n": 1, "v": None, "w": None}]
    for index in (1, 2):
        cluster.kill(index)
    cluster.run_for(30_000_000)
    before = client.quick
    assert isinstance(client.error(insert, "a", 1), wire.Unavailable)
    assert isinstance(client.error(select, "a"), wire.Unavailable)
    assert client.quick == before + 2
