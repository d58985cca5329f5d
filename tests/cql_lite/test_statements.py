"""Statements through whole clusters: what was written is what is read, and what cannot be done says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from core.requests import ReadRequest, ScanRequest, WriteRequest
from cql_lite import wire
from sim.real import node_of
from tests.cql_lite.whole import SECOND, Cql, Error, cluster_of, rows, settle


@pytest.fixture(scope="module")
def cql() -> Cql:
    client = Cql(cluster_of())
    client.run("USE ks")
    return client


def table(cql: Cql, name: str, definition: str, options: str = "") -> None:
    cql.run(f"CREATE TABLE {name} ({definition}) {options}")
    settle(cql.cluster)


def column(cql: Cql, text: str, *values: Any) -> list[Any]:
    """The only column of a result."""
    return [next(iter(row.values())) for row in cql.run(text, *values)]


def test_a_row_by_its_key(cql: Cql) -> None:
    table(cql, "plain", "k text PRIMARY KEY, a int, b list<int>")
    cql.run("INSERT INTO plain (k, a, b) VALUES ('x', 1, [3, 1])")
    assert cql.run("SELECT * FROM plain WHERE k = 'x'") == [{"k": "x", "a": 1, "b": (3, 1)}]
    cql.run("UPDATE plain SET a = ?, b = b + ? WHERE k = ?", 7, [9], "x")
    assert cql.run("SELECT a, b FROM plain WHERE k = ?", "x") == [{"a": 7, "b": (3, 1, 9)}]
    cql.run("DELETE FROM plain WHERE k = 'x'")
    assert cql.run("SELECT * FROM plain WHERE k = 'x'") == []


def test_one_prepared_read_or_write_is_one_request(cql: Cql) -> None:
    table(cql, "hot", "k int PRIMARY KEY, v text")
    cql.run("INSERT INTO hot (k, v) VALUES (?, ?)", 1, "x")
    before = len(cql.requests)
    cql.run("INSERT INTO hot (k, v) VALUES (?, ?)", 2, "y")
    assert column(cql, "SELECT v FROM hot WHERE k = ?", 2) == ["y"]
    assert [type(request) for request in cql.requests[before:]] == [WriteRequest, ReadRequest]


def test_null_deletes_and_unset_leaves(cql: Cql) -> None:
    table(cql, "nulls", "k int PRIMARY KEY, a int, b int")
    cql.run("INSERT INTO nulls (k, a, b) VALUES (?, ?, ?)", 1, 1, 2)
    cql.run("INSERT INTO nulls (k, a, b) VALUES (?, ?, ?)", 1, None, wire.UNSET)
    assert cql.run("SELECT a, b FROM nulls WHERE k = 1") == [{"a": None, "b": 2}]
    cql.run("UPDATE nulls SET b = null WHERE k = 1")
    assert cql.run("SELECT a, b FROM nulls WHERE k = 1") == [{"a": None, "b": None}], (
        "the marker keeps the row"
    )
    cql.run("UPDATE nulls SET b = 5 WHERE k = 2")
    cql.run("UPDATE nulls SET b = null WHERE k = 2")
    assert cql.run("SELECT * FROM nulls WHERE k = 2") == [], "a row that was updated lives by its values"


@pytest.fixture(scope="module")
def events(cql: Cql) -> Cql:
    table(
        cql,
        "events",
        "k int, a int, b text, v int, PRIMARY KEY (k, a, b)",
        "WITH CLUSTERING ORDER BY (a DESC, b ASC)",
    )
    for k in (1, 2):
        for a in (1, 2, 3):
            for b in "xyz":
                cql.run("INSERT INTO events (k, a, b, v) VALUES (?, ?, ?, ?)", k, a, b, a * 10 + ord(b) - 120)
    return cql


@pytest.mark.parametrize(
    "where, expected",
    [
        ("k = 1", "3x 3y 3z 2x 2y 2z 1x 1y 1z"),
        ("k = 1 AND a = 2", "2x 2y 2z"),
        ("k = 1 AND a > 1", "3x 3y 3z 2x 2y 2z"),
        ("k = 1 AND a >= 1 AND a < 3", "2x 2y 2z 1x 1y 1z"),
        ("k = 1 AND a = 2 AND b > 'x'", "2y 2z"),
        ("k = 1 AND a = 2 AND b >= 'x' AND b < 'z'", "2x 2y"),
        ("k = 1 AND a = 2 AND b = 'y'", "2y"),
        ("k = 1 AND a IN (3, 1) AND b = 'y'", "3y 1y"),
        ("k = 1 AND a IN (1, 3, 1) AND b IN ('z', 'x')", "3x 3z 1x 1z"),
        ("k = 1 AND a IN (1, 3) AND b > 'x'", "3y 3z 1y 1z"),
        ("k = 1 AND (a, b) = (2, 'z')", "2z"),
        ("k = 1 AND (a, b) IN ((1, 'z'), (3, 'x'))", "3x 1z"),
        ("k = 1 AND (a, b) > (2, 'y')", "3x 3y 3z 2z"),
        ("k = 1 AND (a, b) >= (2, 'y')", "3x 3y 3z 2y 2z"),
        ("k = 1 AND (a, b) < (2, 'y')", "2x 1x 1y 1z"),
        ("k = 1 AND (a, b) >= (1, 'z') AND (a, b) <= (3, 'x')", "3x 2x 2y 2z 1z"),
        ("k = 1 AND a > 7", ""),
        ("k = 1 ORDER BY a DESC, b ASC", "3x 3y 3z 2x 2y 2z 1x 1y 1z"),
        ("k = 1 ORDER BY a ASC", "1z 1y 1x 2z 2y 2x 3z 3y 3x"),
        ("k = 1 AND a = 2 ORDER BY b DESC", "2z 2y 2x"),
        ("k = 1 AND a IN (1, 2) ORDER BY a ASC", "1z 1y 1x 2z 2y 2x"),
        ("k = 1 LIMIT 2", "3x 3y"),
        ("k IN (1, 2) PER PARTITION LIMIT 1", "3x 3x"),
        ("k IN (2, 1) AND a = 1 AND b = 'x'", "1x 1x"),
        ("k IN (1, 2) AND a = 1 ORDER BY a ASC, b DESC LIMIT 3", "1z 1z 1y"),
        ("k = 1 AND v = 20 ALLOW FILTERING", "2x"),
        ("v > 30 ALLOW FILTERING", "3y 3z 3y 3z"),
        ("a = 1 AND b IN ('x', 'y') ALLOW FILTERING", "1x 1y 1x 1y"),
        ("k = 1 AND b = 'x' ALLOW FILTERING", "3x 2x 1x"),
    ],
)
def test_slices(events: Cql, where: str, expected: str) -> None:
    found = events.run(f"SELECT a, b FROM events WHERE {where}")
    assert " ".join(f"{row['a']}{row['b']}" for row in found) == expected
    paged = [row for page in events.pages(f"SELECT a, b FROM events WHERE {where}", 2) for row in page]
    assert paged == found, "the same in pages, each from another peer"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("SELECT count(*) FROM events", [{"count": 18}]),
        ("SELECT count(*) FROM events WHERE k = 9", [{"count": 0}]),
        ("SELECT min(v) AS a, max(b) AS b, sum(v) AS c, avg(v) AS d FROM events WHERE k = 1",
         [{"a": 10, "b": "z", "c": 189, "d": 21}]),
        ("SELECT a, count(*) AS n, max(v) AS m FROM events WHERE k = 1 GROUP BY a",
         [{"a": 3, "n": 3, "m": 32}, {"a": 2, "n": 3, "m": 22}, {"a": 1, "n": 3, "m": 12}]),
        (("SELECT a, count(*) AS n FROM events WHERE k = 1 GROUP BY a LIMIT 2 "
            ""), [{"a": 3, "n": 3}, {"a": 2, "n": 3}]),
        ("SELECT v + 1 AS w FROM events WHERE k = 1 AND a = 1 AND b = 'x'", [{"w": 11}]),
        (("SELECT CAST(v AS text) AS w, -v AS n FROM events WHERE k = 1 AND a = 1 "
            "AND b = 'x'"), [{"w": "10", "n": -10}]),
        (("SELECT JSON a, b FROM events WHERE k = 1 AND a = 1 AND b = 'x' "
            ""), [{"[json]": '{"a": 1, "b": "x"}'}]),
        ("SELECT DISTINCT k FROM events WHERE k IN (1, 2, 3)", [{"k": 1}, {"k": 2}]),
    ],
)  # fmt: skip
def test_projections_and_aggregates(events: Cql, text: str, expected: list[dict[str, Any]]) -> None:
    assert events.run(text) == expected


def test_groups_in_pages(events: Cql) -> None:
    pages = events.pages("SELECT k, a, count(*) AS n FROM events GROUP BY k, a", 2)
    assert [len(page) for page in pages] == [2, 2, 2], pages
    assert sorted((row["k"], row["a"], row["n"]) for page in pages for row in page) == [
        (k, a, 3) for k in (1, 2) for a in (1, 2, 3)
    ]


def test_a_scan_in_pages_reads_no_row_twice(events: Cql) -> None:
    pages = events.pages("SELECT k, a, b FROM events", 4)
    rows = [(row["k"], row["a"], row["b"]) for page in pages for row in page]
    assert len(rows) == len(set(rows)) == 18
    limited = events.pages("SELECT k FROM events LIMIT 7", 3)
    assert [len(page) for page in limited] == [3, 3, 1]
    distinct = events.pages("SELECT DISTINCT k FROM events", 1)
    assert sorted(row["k"] for page in distinct for row in page) == [1, 2]


def test_a_range_of_tokens(events: Cql) -> None:
    tokens = {row["t"]: row["k"] for row in events.run("SELECT DISTINCT k, token(k) AS t FROM events")}
    low, high = sorted(tokens)
    found = {
        row["k"] for row in events.run("SELECT k FROM events WHERE token(k) > ? AND token(k) <= ?", low, high)
    }
    assert found == {tokens[high]}
    assert {row["k"] for row in events.run("SELECT k FROM events WHERE token(k) <= ?", low)} == {tokens[low]}
    least = -(2**63)  # as an upper bound it is the end of the ring: drivers unwrap the last range so
    for operator in ("<", "<="):
        text = f"SELECT k FROM events WHERE token(k) > ? AND token(k) {operator} ?"
        assert {row["k"] for row in events.run(text, low, least)} == {tokens[t] for t in tokens if t > low}
        assert {row["k"] for row in events.run(text, least, least)} == set(tokens.values())


def test_a_paging_state_of_another_query_is_refused(events: Cql) -> None:
    response = events.good(wire.Query("SELECT * FROM events", events.parameters(page_size=2)))
    assert isinstance(response, wire.Rows)
    error = events.error("SELECT a FROM events", paging_state=response.paging_state, page_size=2)
    assert isinstance(error, wire.Invalid)
    assert response.paging_state is not None
    damaged = response.paging_state[:-1] + bytes((response.paging_state[-1] ^ 1,))
    assert "damaged" in events.error("SELECT * FROM events", paging_state=damaged, page_size=2).message


def test_pages_go_on_though_the_table_has_got_a_column(cql: Cql) -> None:
    cql.run("CREATE TABLE growing (k int, c int, v int, PRIMARY KEY (k, c))")
    settle(cql.cluster)
    for c in range(5):
        cql.run("INSERT INTO growing (k, c, v) VALUES (1, ?, ?)", c, c)

    def page(text: str, state: bytes | None) -> wire.Rows:
        found = cql.good(wire.Query(text, cql.parameters(page_size=2, paging_state=state)))
        assert isinstance(found, wire.Rows)
        return found

    for where in ("", " WHERE k = 1", " WHERE v >= 0 ALLOW FILTERING"):
        first = page(f"SELECT * FROM growing{where}", None)
        cql.run(f"ALTER TABLE growing ADD new_{len(where)} int")
        settle(cql.cluster)
        second = page(f"SELECT * FROM growing{where}", first.paging_state)
        third = page(f"SELECT * FROM growing{where}", second.paging_state)
        read = [row["c"] for one in (first, second, third) for row in rows(one)]
        assert read == [0, 1, 2, 3, 4]
        assert f"new_{len(where)}" in rows(second)[0]
    first = page("SELECT * FROM growing WHERE v >= 0 ALLOW FILTERING", None)
    cql.run("CREATE INDEX ON growing (v)")
    settle(cql.cluster)
    with pytest.raises(Error, match="indexes have changed"):
        page("SELECT * FROM growing WHERE v >= 0 ALLOW FILTERING", first.paging_state)
    with pytest.raises(Error, match="another query"):
        page("SELECT * FROM growing", first.paging_state)


def test_ranges_and_partitions_are_deleted(cql: Cql) -> None:
    table(cql, "gone", "k int, a int, b int, v int, PRIMARY KEY (k, a, b)")
    for a in range(4):
        for b in range(3):
            cql.run("INSERT INTO gone (k, a, b, v) VALUES (1, ?, ?, 0)", a, b)
    cql.run("DELETE FROM gone WHERE k = 1 AND a = 0")
    cql.run("DELETE FROM gone WHERE k = 1 AND a = 1 AND b > 0")
    cql.run("DELETE FROM gone WHERE k = 1 AND (a, b) >= (3, 1)")
    cql.run("DELETE v FROM gone WHERE k = 1 AND a = 2 AND b = 0")
    left = [(row["a"], row["b"], row["v"]) for row in cql.run("SELECT a, b, v FROM gone WHERE k = 1")]
    assert left == [(1, 0, 0), (2, 0, None), (2, 1, 0), (2, 2, 0), (3, 0, 0)]
    cql.run("DELETE FROM gone WHERE k = 1")
    assert cql.run("SELECT * FROM gone WHERE k = 1") == []


def test_static_columns(cql: Cql) -> None:
    table(cql, "shared", "k int, c int, s text STATIC, v int, PRIMARY KEY (k, c)")
    cql.run("UPDATE shared SET s = 'only' WHERE k = 1")
    assert cql.run("SELECT * FROM shared WHERE k = 1") == [{"k": 1, "c": None, "s": "only", "v": None}]
    cql.run("INSERT INTO shared (k, c, s, v) VALUES (1, 1, 'both', 1)")
    cql.run("INSERT INTO shared (k, c, v) VALUES (1, 2, 2)")
    expected = [{"c": 1, "s": "both", "v": 1}, {"c": 2, "s": "both", "v": 2}]
    assert cql.run("SELECT c, s, v FROM shared WHERE k = 1") == expected
    assert cql.run("SELECT c, s, v FROM shared WHERE k = 1 AND c = 2") == expected[1:]
    cql.run("INSERT INTO shared (k, s) VALUES (2, 'alone')")
    everything = [row for page in cql.pages("SELECT k, c, s FROM shared", 1) for row in page]
    assert sorted(everything, key=str) == [
        {"k": 1, "c": 1, "s": "both"}, {"k": 1, "c": 2, "s": "both"}, {"k": 2, "c": None, "s": "alone"}
    ]  # fmt: skip
    assert sorted(row["s"] for row in cql.run("SELECT DISTINCT k, s FROM shared")) == ["alone", "both"]


def test_collections(cql: Cql) -> None:
    table(cql, "bags", "k int PRIMARY KEY, l list<text>, s set<int>, m map<text, int>, f frozen<list<int>>")
    cql.run("INSERT INTO bags (k, l, s, m, f) VALUES (1, ['b'], {3, 1}, {'y': 2, 'x': 1}, [1])")
    whole = {"l": ("b",), "s": (1, 3), "m": (("x", 1), ("y", 2)), "f": (1,)}
    assert cql.run("SELECT l, s, m, f FROM bags WHERE k = 1") == [whole]
    cql.run("UPDATE bags SET l = l + ['c', 'd'], s = s + {2}, m['z'] = 3 WHERE k = 1")
    cql.run("UPDATE bags SET l = ['0', 'a'] + l, s = s - {3}, m = m - {'x'} WHERE k = 1")
    assert cql.run("SELECT l, s, m FROM bags WHERE k = 1") == [
        {"l": ("0", "a", "b", "c", "d"), "s": (1, 2), "m": (("y", 2), ("z", 3))}
    ]
    cql.run("UPDATE bags SET l[1] = 'A', l = l - ['c'] WHERE k = 1")
    cql.run("DELETE l[0], m['y'] FROM bags WHERE k = 1")
    assert cql.run("SELECT l, m FROM bags WHERE k = 1") == [{"l": ("A", "b", "d"), "m": (("z", 3),)}]
    assert "List index 9 out of bound" in cql.error("UPDATE bags SET l[9] = 'x' WHERE k = 1").message
    cql.run("UPDATE bags SET l = ['new'], s = {}, m = null WHERE k = 1")
    assert cql.run("SELECT l, s, m FROM bags WHERE k = 1") == [{"l": ("new",), "s": None, "m": None}]
    cql.run("UPDATE bags SET s = {} WHERE k = 2")
    assert cql.run("SELECT * FROM bags WHERE k = 2") == [], "replacing a collection by nothing makes no row"
    cql.run("INSERT INTO bags (k, m, s) VALUES (3, {'a': 5}, {7})")
    assert column(cql, "SELECT k FROM bags WHERE m CONTAINS 5 ALLOW FILTERING") == [3]
    assert column(cql, "SELECT k FROM bags WHERE m CONTAINS KEY 'a' ALLOW FILTERING") == [3]
    assert column(cql, "SELECT k FROM bags WHERE s CONTAINS 7 ALLOW FILTERING") == [3]
    assert column(cql, "SELECT k FROM bags WHERE m['a'] = 5 ALLOW FILTERING") == [3]
    assert column(cql, "SELECT m['a'] FROM bags WHERE k = 3") == [5]


def test_user_types(cql: Cql) -> None:
    cql.run("CREATE TYPE point (x int, y int)")
    settle(cql.cluster)
    table(cql, "shapes", "k int PRIMARY KEY, p point, l list<frozen<point>>")
    cql.run("INSERT INTO shapes (k, p, l) VALUES (1, {x: 1, y: 2}, [{x: 3, y: 4}])")
    cql.run("UPDATE shapes SET p.y = 5 WHERE k = 1")
    assert cql.run("SELECT p, p.y, l FROM shapes WHERE k = 1") == [{"p": (1, 5), "p.y": 5, "l": ((3, 4),)}]
    cql.run("ALTER TYPE point ADD z int")
    settle(cql.cluster)
    cql.run("UPDATE shapes SET p.z = 6 WHERE k = 1")
    assert cql.run("SELECT p, l FROM shapes WHERE k = 1") == [{"p": (1, 5, 6), "l": ((3, 4, None),)}]


def test_documents(cql: Cql) -> None:
    table(cql, "docs", "id text PRIMARY KEY, doc json")
    text = '{"a": {"b": 1.10, "c": [1]}, "d": null}'
    cql.run("INSERT INTO docs (id, doc) VALUES (?, ?)", "x", text)
    assert column(cql, "SELECT doc FROM docs WHERE id = 'x'") == [text]
    cql.run("""UPDATE docs SET doc['a']['b'] = '2', doc['e'] = '"new"' WHERE id = 'x'""")
    assert column(cql, "SELECT doc FROM docs WHERE id = 'x'") == ['{"a":{"b":2,"c":[1]},"d":null,"e":"new"}']
    cql.run("DELETE doc['a']['c'] FROM docs WHERE id = 'x'")
    assert column(cql, "SELECT doc['a'] FROM docs WHERE id = 'x'") == ['{"b":2}']
    assert "JSON" in cql.error("INSERT INTO docs (id, doc) VALUES ('y', '{')").message


def test_times(cql: Cql) -> None:
    table(cql, "times", "k int PRIMARY KEY, a int, b int", "WITH default_time_to_live = 1000")
    cql.run("INSERT INTO times (k, a) VALUES (1, 1) USING TIMESTAMP 1000 AND TTL 500")
    cql.run("UPDATE times SET b = 2 WHERE k = 1")
    (row,) = cql.run("SELECT writetime(a) AS w, ttl(a) AS t, ttl(b) AS u FROM times WHERE k = 1")
    assert row["w"] == 1000
    assert 490 <= row["t"] <= 500 < 990 <= row["u"] <= 1000
    cql.run("INSERT INTO times (k, a) VALUES (1, 9) USING TIMESTAMP 999")
    assert column(cql, "SELECT a FROM times WHERE k = 1") == [1], "the older timestamp loses"
    cql.run("UPDATE times USING TTL 1 SET a = 5 WHERE k = 2")
    assert column(cql, "SELECT a FROM times WHERE k = 2") == [5]
    cql.cluster.run_for(2_000_000)
    assert cql.run("SELECT * FROM times WHERE k = 2") == []


def test_batches(cql: Cql) -> None:
    table(cql, "pairs", "k int, c int, v int, PRIMARY KEY (k, c)")
    before = len(cql.requests)
    cql.run("BEGIN BATCH INSERT INTO pairs (k, c, v) VALUES (1, 1, 1) "
            "UPDATE pairs SET v = 2 WHERE k = 1 AND c = 2 APPLY BATCH")  # fmt: skip
    assert len(cql.requests) == before + 1, "one partition is one mutation"
    cql.run("BEGIN BATCH INSERT INTO pairs (k, c, v) VALUES (2, 1, 3) INSERT INTO pairs "
        "(k, c, v) VALUES (3, 1, 4) "
            "DELETE FROM pairs WHERE k = 1 AND c = 1 APPLY BATCH")  # fmt: skip
    assert sorted(column(cql, "SELECT v FROM pairs")) == [2, 3, 4]
    cql.run("BEGIN UNLOGGED BATCH INSERT INTO pairs (k, c, v) VALUES (4, ?, ?) APPLY BATCH", 1, 5)
    cql.run("BEGIN BATCH APPLY BATCH")
    cql.run(
        "BEGIN BATCH INSERT INTO pairs (k, c, v) VALUES (4, 1, 9) DELETE FROM pairs "
        "WHERE k = 4 AND c = 1 APPLY BATCH"
    )
    assert column(cql, "SELECT v FROM pairs WHERE k = 4") == [], "of one version the deletion wins"


def test_conditions(cql: Cql) -> None:
    table(cql, "cas", "k int PRIMARY KEY, a int, l list<int>")
    yes = [{"[applied]": True}]
    assert cql.run("INSERT INTO cas (k, a, l) VALUES (1, 1, [1]) IF NOT EXISTS") == yes
    assert cql.run("INSERT INTO cas (k, a) VALUES (?, ?) IF NOT EXISTS", 1, 2) == [
        {"[applied]": False, "k": 1, "a": 1, "l": (1,)}
    ]
    assert cql.run("UPDATE cas SET a = ? WHERE k = 1 IF a = ?", 5, 9) == [{"[applied]": False, "a": 1}]
    assert cql.run("UPDATE cas SET a = ?, l = l + [2] WHERE k = 1 IF a = ? AND l[0] = 1", 5, 1) == yes
    assert cql.run("SELECT a, l FROM cas WHERE k = 1") == [{"a": 5, "l": (1, 2)}]
    assert cql.run("UPDATE cas SET a = 6 WHERE k = 1 IF a IN (4, 5)") == yes
    assert cql.run("UPDATE cas SET a = 6 WHERE k = 2 IF EXISTS") == [{"[applied]": False}]
    assert cql.run("UPDATE cas SET a = 7 WHERE k = 2 IF a = null") == yes
    assert cql.run("DELETE FROM cas WHERE k = 2 IF a > 7") == [{"[applied]": False, "a": 7}]
    assert cql.run("DELETE FROM cas WHERE k = 2 IF EXISTS") == yes
    assert cql.run("SELECT * FROM cas WHERE k = 2") == []
    assert column(
        cql,
        "SELECT a FROM cas WHERE k = 1",
    ) == [6]
    table(cql, "casrows", "k int, c int, s int STATIC, v int, PRIMARY KEY (k, c)")
    batch = ("BEGIN BATCH UPDATE casrows SET s = 1 WHERE k = 1 IF s = {} "
             "INSERT INTO casrows (k, c, v) VALUES (1, 1, 1) APPLY BATCH")  # fmt: skip
    assert cql.run(batch.format("null")) == yes
    assert cql.run(batch.format("null"))[0]["[applied]"] is False
    assert cql.run("SELECT * FROM casrows WHERE k = 1") == [{"k": 1, "c": 1, "s": 1, "v": 1}]


def test_counters(cql: Cql) -> None:
    table(cql, "hits", "k text PRIMARY KEY, n counter, m counter")
    cql.run("UPDATE hits SET n = n + 3, m = m - 1 WHERE k = 'x'")
    cql.run("UPDATE hits SET n = n + ? WHERE k = ?", 4, "x")
    assert cql.run("SELECT n, m FROM hits WHERE k = 'x'") == [{"n": 7, "m": -1}]
    cql.run(
        "BEGIN COUNTER BATCH UPDATE hits SET n = n + 1 WHERE k = 'x' UPDATE hits "
        "SET n = n + 1 WHERE k = 'y' APPLY BATCH"
    )
    assert sorted(column(cql, "SELECT n FROM hits")) == [1, 8]
    for text in (
        "INSERT INTO hits (k, n) VALUES ('z', 1)",
        "UPDATE hits SET n = 5 WHERE k = 'x'",
        "UPDATE hits USING TTL 5 SET n = n + 1 WHERE k = 'x'",
        "CREATE TABLE mixed (k int PRIMARY KEY, n counter, v int)",
    ):
        assert isinstance(cql.error(text), wire.Invalid), text


def test_json_forms(cql: Cql) -> None:
    table(cql, "forms", "k int PRIMARY KEY, a text, m map<text, int>")
    cql.run("""INSERT INTO forms JSON '{"k": 1, "a": "x", "m": {"y": 2}}'""")
    assert cql.run("SELECT * FROM forms WHERE k = 1") == [{"k": 1, "a": "x", "m": (("y", 2),)}]
    cql.run("INSERT INTO forms JSON ? DEFAULT UNSET", '{"k": 1, "m": {}}')
    assert cql.run("SELECT a, m FROM forms WHERE k = 1") == [{"a": "x", "m": None}]
    cql.run("""INSERT INTO forms JSON '{"k": 1}'""")
    assert cql.run("SELECT a FROM forms WHERE k = 1") == [{"a": None}]
    assert column(cql, "SELECT JSON * FROM forms WHERE k = 1") == ['{"k": 1, "a": null, "m": null}']


def test_altering_a_table(cql: Cql) -> None:
    table(cql, "grown", "k int PRIMARY KEY, a int")
    cql.run("INSERT INTO grown (k, a) VALUES (1, 1)")
    prepared = cql.good(wire.Prepare("SELECT * FROM grown WHERE k = ?"))
    assert isinstance(prepared, wire.Prepared)
    cql.run("ALTER TABLE grown ADD b text")
    settle(cql.cluster)
    response = cql.good(cql.execute(prepared, [1]))
    assert isinstance(response, wire.Rows)
    assert response.metadata_changed
    assert [column.name for column in response.metadata.columns] == ["k", "a", "b"]
    cql.run("INSERT INTO grown (k, b) VALUES (2, 'b')")
    cql.run("UPDATE grown SET a = 9 WHERE k = 3")
    cql.run("ALTER TABLE grown DROP a")
    settle(cql.cluster)
    assert sorted(map(str, cql.run("SELECT * FROM grown"))) == [
        "{'k': 1, 'b': None}", "{'k': 2, 'b': 'b'}"
    ], "a row of which only a dropped column is left is none"  # fmt: skip
    cql.run("TRUNCATE grown")
    settle(cql.cluster)
    assert cql.run("SELECT * FROM grown") == []
    cql.run("DROP TABLE grown")
    settle(cql.cluster)
    assert "unconfigured table grown" in cql.error("SELECT * FROM grown").message


@pytest.mark.parametrize(
    "text, said",
    [
        ("SELECT * FROM events WHERE v = 1", "ALLOW FILTERING"),
        ("SELECT * FROM events WHERE a = 1", "ALLOW FILTERING"),
        ("SELECT * FROM events WHERE k > 1", "token() function"),
        ("SELECT * FROM events WHERE k = 1 AND b = 'x'", "ALLOW FILTERING"),
        ("SELECT * FROM events WHERE k = null", "null"),
        ("SELECT * FROM events WHERE k = 1 AND k = 2", "more than one relation"),
        ("SELECT * FROM events WHERE k = 'x'", "int"),
        ("SELECT * FROM events ORDER BY a", "partition key"),
        ("SELECT * FROM events WHERE k = 1 ORDER BY b", "order"),
        ("SELECT * FROM events WHERE k = 1 ORDER BY a, b ASC", "order of the table"),
        ("SELECT nothing FROM events", "Undefined column name nothing"),
        ("SELECT nothing(a) FROM events", "Unknown function 'nothing'"),
        ("SELECT * FROM nowhere", "unconfigured table nowhere"),
        ("SELECT * FROM no.thing", "keyspace no does not exist"),
        ("SELECT * FROM events LIMIT 0", "LIMIT must be strictly positive"),
        ("INSERT INTO events (k, a) VALUES (1, 1)", "Some clustering keys are missing: b"),
        (
            "INSERT INTO events (k, a, b) VALUES (1, null, 'x')",
            "Invalid null value in condition for column a",
        ),
        ("INSERT INTO events (k, a, b, v) VALUES (1, 1, 'x', 'text')", "int"),
        ("INSERT INTO events (k, a, b, v) VALUES (1, 1, 'x', 99999999999)", "v"),
        ("UPDATE events SET v = 1 WHERE k = 1", "a, b"),
        ("UPDATE events SET k = 1 WHERE k = 1", "PRIMARY KEY part k found in SET part"),
        ("UPDATE events SET v = v + 1 WHERE k = 1 AND a = 1 AND b = 'x'", "collections"),
        ("UPDATE events USING TTL -1 SET v = 1 WHERE k = 1 AND a = 1 AND b = 'x'", "TTL"),
        ("DELETE FROM events WHERE k = 1 AND v = 2", "Non PRIMARY KEY columns found in where clause: v"),
        ("DELETE FROM events WHERE a = 1", "partition key"),
        ("CREATE TABLE bad (k list<int> PRIMARY KEY)", "frozen"),
        ("CREATE TABLE bad (k int PRIMARY KEY, v nothing)", "Unknown type nothing"),
        ("CREATE TABLE bad (k int PRIMARY KEY, v list<list<int>>)", "frozen"),
        ("CREATE TABLE bad (k int PRIMARY KEY, s int STATIC)", "Static columns are only useful"),
        ("CREATE TABLE bad (k int PRIMARY KEY) WITH nonsense = 1", "no option nonsense"),
        ("CREATE KEYSPACE bad WITH replication = {'class': 'Nothing'}", "Nothing"),
        ("CREATE INDEX ON events (nothing)", "Undefined column name nothing"),
        ("INSERT INTO system.local (key) VALUES ('x')", "system"),
        ("GRANT SELECT ON events TO somebody", "somebody doesn't exist"),
    ],
)
def test_what_cannot_be_done_says_so(events: Cql, text: str, said: str) -> None:
    error = events.error(text)
    assert isinstance(error, wire.Invalid | wire.ConfigError | wire.SyntaxFault | wire.Unauthorized), error
    assert said in error.message, error.message


def test_errors_have_their_codes(events: Cql) -> None:
    assert isinstance(events.error("SELEC * FROM events"), wire.SyntaxFault)
    exists = events.error("CREATE TABLE events (k int PRIMARY KEY)")
    assert isinstance(exists, wire.AlreadyExists)
    assert (exists.keyspace, exists.table) == ("ks", "events")
    events.run("CREATE TABLE IF NOT EXISTS events (k int PRIMARY KEY)")
    unknown = wire.Execute(b"nobody prepared!", events.parameters())
    assert isinstance(events.send(unknown), wire.Unprepared)
    wrong = wire.Query("SELECT * FROM events WHERE k = ?", events.parameters())
    assert isinstance(events.send(wrong), wire.Invalid)


def test_system_tables(events: Cql) -> None:
    cql = events
    settle(cql.cluster)
    (local,) = cql.run("SELECT * FROM system.local WHERE key = 'local'")
    peers = cql.run("SELECT * FROM system.peers_v2")
    assert len(peers) == 2
    needed = ("data_center", "host_id", "rack", "release_version", "schema_version", "tokens")
    assert all(row[name] is not None for row in (local, *peers) for name in needed)
    assert len({row["host_id"] for row in (local, *peers)}) == 3
    assert {row["schema_version"] for row in peers} == {local["schema_version"]}
    tables = column(cql, "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'ks'")
    assert tables == sorted(tables)
    assert "events" in tables
    kinds = cql.run("SELECT column_name, kind, position, clustering_order, type FROM system_schema.columns "
                    "WHERE keyspace_name = 'ks' AND table_name = 'events'")  # fmt: skip
    assert [tuple(row.values()) for row in kinds] == [
        ("a", "clustering", 0, "desc", "int"), ("b", "clustering", 1, "asc", "text"),
        ("k", "partition_key", 0, "none", "int"), ("v", "regular", -1, "none", "int"),
    ]  # fmt: skip


def test_describe(events: Cql) -> None:
    (row,) = events.run("DESCRIBE TABLE events")
    assert (row["keyspace_name"], row["type"], row["name"]) == ("ks", "table", "events")
    again = row["create_statement"].replace("ks.events", "ks.events_again")
    events.run(again)
    settle(events.cluster)
    shapes = (
        "SELECT column_name, kind, position, clustering_order, type FROM system_schema.columns "
        "WHERE keyspace_name = 'ks' AND table_name = '{}'"
    )
    assert events.run(shapes.format("events_again")) == events.run(shapes.format("events"))
    assert {"ks", "system", "system_schema"} <= set(column(events, "DESCRIBE KEYSPACES"))
    assert "events" in [row["name"] for row in events.run("DESCRIBE TABLES")]
    assert next(row["type"] for row in events.run("DESCRIBE KEYSPACE ks")) == "keyspace"
    assert [row["type"] for row in events.run("DESCRIBE ONLY KEYSPACE ks")] == ["keyspace"]
    assert events.run("DESCRIBE events") == [row]
    assert events.run("DESCRIBE CLUSTER")[0]["partitioner"].endswith("Murmur3Partitioner")
    assert "'nothing' not found in keyspace 'ks'" in events.error("DESCRIBE TABLE nothing").message


def test_with_a_peer_away_every_statement_goes_on(events: Cql) -> None:
    """Paging too: its state is all that the next peer needs."""
    requests = len(events.requests)
    with _away(events, 2):
        _pages_at_two_peers(events, Cql(events.cluster, 1))
    assert any(isinstance(request, ScanRequest) for request in events.requests[requests:])


@contextmanager
def _away(cql: Cql, index: int) -> Iterator[None]:
    cluster = cql.cluster
    cluster.kill(index)
    try:
        yield
    finally:
        assert cluster.start(index)
        assert cluster.run_until(lambda: node_of(cluster, index).ready()[0], 30 * SECOND)
        settle(cluster)


def _pages_at_two_peers(events: Cql, other: Cql) -> None:
    first = events.good(wire.Query("SELECT k, a, b FROM ks.events", events.parameters(page_size=5)))
    assert isinstance(first, wire.Rows)
    rest = other.good(
        wire.Query(
            "SELECT k, a, b FROM ks.events", other.parameters(page_size=50, paging_state=first.paging_state)
        )
    )
    assert isinstance(rest, wire.Rows), "asked of a peer that was never asked before"
    assert len(first.rows) + len(rest.rows) == 18
