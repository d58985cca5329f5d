"""Every form of statement through a driver, as text: what it gives, and what is refused in which words."""

from __future__ import annotations

from typing import Any

import pytest
from cassandra import AlreadyExists, FunctionFailure, InvalidRequest, Unauthorized
from cassandra.cluster import Session
from cassandra.protocol import ConfigurationException, SyntaxException

from tests.clients.suite.fixtures import KEYSPACE

TABLES = """
CREATE TYPE point (x int, y int);
CREATE TABLE e (
    k int, a int, b text, s text STATIC, v int, f double, d decimal, at timestamp, day date, id timeuuid,
    l list<int>, st set<text>, m map<text, int>, p point, j json, PRIMARY KEY (k, a, b)
) WITH CLUSTERING ORDER BY (a DESC, b ASC);
CREATE TABLE n (k int PRIMARY KEY, c counter);
CREATE TABLE one (k int PRIMARY KEY, v int)
"""
REFUSED = (
    InvalidRequest, SyntaxException, ConfigurationException, AlreadyExists, FunctionFailure, Unauthorized
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def tables(session: Session) -> None:
    for text in TABLES.split(";"):
        session.execute(text)
    for k in (1, 2):
        for a in (1, 2, 3):
            for b in "xy":
                session.execute(
                    "INSERT INTO e (k, a, b, s, v, f, d, at, day, l, st, m, p, j) "
                    f"VALUES ({k}, {a}, '{b}', 's{k}', {a * 10}, 1.5, 2.50, '2024-01-0{a}', '2024-01-0{a}', "
                    f"[{a}, 9], {{'{b}', 'z'}}, {{'{b}': {a}}}, {{x: {a}, y: 0}}, "
                    f'\'{{"a": {{"b": {a}}}}}\')'
                )


def rows(session: Session, text: str) -> list[Any]:
    found = [tuple(row) for row in session.execute(text)]
    return [row[0] for row in found] if found and len(found[0]) == 1 else found


SELECTS: list[tuple[str, list[Any]]] = [
    ("a, b FROM e WHERE k = 1", [(3, "x"), (3, "y"), (2, "x"), (2, "y"), (1, "x"), (1, "y")]),
    ("a FROM e WHERE k = 1 AND a = 2 AND b = 'x'", [2]),
    ("b FROM e WHERE k = 1 AND a IN (1, 3) AND b = 'y'", ["y", "y"]),
    ("a FROM e WHERE k = 1 AND a > 1 AND a <= 3 LIMIT 3", [3, 3, 2]),
    ("a FROM e WHERE k = 1 AND (a, b) < (3, 'y') AND (a, b) >= (2, 'x')", [3, 2, 2]),
    ("a FROM e WHERE k = 1 AND (a, b) IN ((1, 'x'), (3, 'y'))", [3, 1]),
    ("a FROM e WHERE k = 1 AND b = 'x' ORDER BY a ASC, b DESC ALLOW FILTERING", [1, 2, 3]),
    ("k FROM e WHERE k IN (1, 2) PER PARTITION LIMIT 1", [1, 2]),
    ("DISTINCT k, s FROM e", [(1, "s1"), (2, "s2")]),
    ("k FROM e WHERE token(k) = token(2) PER PARTITION LIMIT 1", [2]),
    ("DISTINCT k FROM e WHERE token(k) >= token(1) AND token(k) <= token(1)", [1]),
    ("a FROM e WHERE k = 1 AND st CONTAINS 'x' AND m CONTAINS 2 ALLOW FILTERING", [2]),
    ("a FROM e WHERE k = 1 AND m CONTAINS KEY 'y' AND v > 10 ALLOW FILTERING", [3, 2]),
    ("a FROM e WHERE k = 1 AND m['x'] = 3 ALLOW FILTERING", [3]),
    ("DISTINCT k FROM e WHERE k > 1 ALLOW FILTERING", [2]),
    ("a, count(*), max(b), sum(v) FROM e WHERE k = 1 GROUP BY a", [(3, 2, "y", 60), (2, 2, "y", 40),
                                                                  (1, 2, "y", 20)]),
    ("count(*) AS n FROM e", [12]),
    ("count(1) FROM e WHERE k = 7", [0]),
    ("v + 1, v * 2, v / 3, v % 3, -v FROM e WHERE FIRST", [(11, 20, 3, 1, -10)]),
    ("l[0], m['x'], st['z'], p.x, j['a']['b'] FROM e WHERE FIRST", [(1, 1, "z", 1, "1")]),
    ("JSON a, v AS \"V\" FROM e WHERE k = 1 LIMIT 1", ['{"a": 3, "\\"V\\"": 30}']),
    ("toJson(m), toJson(p) FROM e WHERE FIRST", [('{"x": 1}', '{"x": 1, "y": 0}')]),
    ("toUnixTimestamp(at), toUnixTimestamp(day) FROM e WHERE k = 1 AND a = 1 LIMIT 1",
     [(1704067200000, 1704067200000)]),
    ("k FROM e WHERE k = 1 AND at > '2024-01-02' AND day <= '2024-01-03' ALLOW FILTERING", [1, 1]),
    ("intAsBlob(v), blobAsInt(intAsBlob(v)) FROM e WHERE k = 1 AND a = 1 LIMIT 1", [(b"\0\0\0\n", 10)]),
    ("writetime(v) - writetime(v), ttl(v) FROM e WHERE k = 1 AND a = 1 LIMIT 1", [(0, None)]),
    ("a FROM e WHERE k = 1 AND v IN (10, 30) AND b = 'x' ALLOW FILTERING", [3, 1]),
    ("a FROM e WHERE k IN ()", []),
    ("\"a\" FROM \"e\" WHERE \"k\" = 1 AND \"a\" = 1 -- said\n LIMIT 1 /* more */ // end", [1]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SELECTS)
def check_selects(session: Session, text: str, expected: list[Any]) -> None:
    text = text.replace("FIRST", FIRST)
    found = rows(session, f"SELECT {text}")
    assert (sorted(found) if "DISTINCT" in text or "token" in text else found) == expected
    prepared = session.prepare(f"SELECT {text}")
    again = [tuple(row) for row in session.execute(prepared)]
    assert [row[0] if len(row) == 1 else row for row in again] == found


def check_functions_of_now(session: Session) -> None:
    row = session.execute(
        "SELECT now(), uuid(), currentTimestamp(), currentDate(), currentTime(), currentTimeUUID(), "
        "toDate(now()), toTimestamp(now()), toUnixTimestamp(now()), "
        "minTimeuuid('2024-01-01'), maxTimeuuid('2024-01-01'), "
        "abs(-3), round(2.5), log10(100.0), exp(0.0), CAST(1.9 AS int), CAST(3 AS text) FROM system.local"
    ).one()
    assert (row[0].version, row[1].version, row[5].version) == (1, 4, 1)
    assert row[9] < row[10]
    assert row[11:] == (3, 3.0, 2.0, 1.0, 1, "3")


THAT = "k = 9 AND a = 50 AND b = 'x'"
FIRST = "k = 1 AND a = 1 AND b = 'x'"

# Statements that change a row, and what is then in one of its columns.
CHANGES: list[tuple[str, str, Any]] = [
    ("INSERT INTO e (k, a, b, v) VALUES (9, 50, 'x', 1)", "v", 1),
    ("INSERT INTO e (k, a, b, v) VALUES (9, 50, 'x', null)", "v", None),
    ("INSERT INTO e JSON '{\"k\": 9, \"a\": 50, \"b\": \"x\", \"v\": 2, \"l\": [1]}'", "v", 2),
    ("INSERT INTO e JSON '{\"k\": 9, \"a\": 50, \"b\": \"x\"}' DEFAULT UNSET", "v", 2),
    ("UPDATE e SET v = 3 WHERE THAT", "v", 3),
    ("UPDATE e SET l = [1] + l, l = l + [2] WHERE THAT", "l", [1, 1, 2]),
    ("UPDATE e SET l[1] = 7 WHERE THAT", "l", [1, 7, 2]),
    ("UPDATE e SET l = l - [7] WHERE THAT", "l", [1, 2]),
    ("DELETE l[0] FROM e WHERE THAT", "l", [2]),
    ("UPDATE e SET st += {'q', 'r'} WHERE THAT", "st", {"q", "r"}),
    ("UPDATE e SET st -= {'q'} WHERE k = 9 AND a = 50 AND b IN ('x')", "st", {"r"}),
    ("UPDATE e SET m = m + {'u': 1, 'w': 2} WHERE THAT", "m", {"u": 1, "w": 2}),
    ("UPDATE e SET m['u'] = 5, m = m - {'w'} WHERE THAT", "m", {"u": 5}),
    ("DELETE m['u'] FROM e WHERE THAT", "m", None),
    ("UPDATE e SET p.x = 1 WHERE THAT", "p", (1, None)),
    ("UPDATE e SET p = {x: 2, y: 3} WHERE THAT", "p", (2, 3)),
    ("UPDATE e SET j = '{}', j['a']['b'] = '1' WHERE k = 9 AND a = 50 AND b = 'y'", "v", 3),
    ("UPDATE e SET j['a']['b'] = '1' WHERE THAT", "j", '{"a":{"b":1}}'),
    ("UPDATE e USING TTL 1000 SET f = 1.0 WHERE THAT", "f", 1.0),
    ("UPDATE e USING TIMESTAMP 5 SET v = 99 WHERE THAT", "v", 3),
    ("UPDATE e SET s = 'all' WHERE k = 9", "s", "all"),
    ("UPDATE e SET v = 4 WHERE THAT IF v = 3 AND l CONTAINS 2", "v", 4),
    ("UPDATE e SET v = 5 WHERE THAT IF v > 4", "v", 4),
    ("UPDATE e SET v = 5 WHERE THAT IF EXISTS", "v", 5),
    ("UPDATE e SET v = 6 WHERE THAT IF v IN (1, 5) AND m['u'] = null AND p.x = 2", "v", 6),
    ("INSERT INTO e (k, a, b, v) VALUES (9, 50, 'x', 7) IF NOT EXISTS", "v", 6),
    ("DELETE v FROM e WHERE THAT IF v = 6", "v", None),
    ("BEGIN BATCH UPDATE e SET v = 8 WHERE THAT; DELETE FROM e WHERE k = 9 AND a > 60; APPLY BATCH", "v", 8),
    ("BEGIN UNLOGGED BATCH USING TIMESTAMP 7 UPDATE e SET v = 9 WHERE THAT APPLY BATCH;",
     "v", 8),
    ("DELETE FROM e USING TIMESTAMP 5 WHERE k = 9 AND a = 50", "v", 8),
]  # fmt: skip


def check_changes_one_after_the_other(session: Session) -> None:
    for short, column, expected in CHANGES:
        text = short.replace("THAT", THAT)
        if text.startswith("UPDATE e SET j = "):
            with pytest.raises(InvalidRequest):
                session.execute(text)
            continue
        session.execute(text)
        found = session.execute(f"SELECT {column} FROM e WHERE {THAT}").one()[0]
        if found is not None and isinstance(expected, (dict, set)):
            found = type(expected)(found)
        assert found == expected, text
    session.execute(f"DELETE FROM e WHERE {THAT}")
    assert rows(session, "SELECT a FROM e WHERE k = 9") == [None], "the static row is left"
    session.execute("DELETE FROM e WHERE k IN (9)")
    assert rows(session, "SELECT a FROM e WHERE k = 9") == []


WRONG: list[tuple[str, type[Exception], str]] = [
    ("SELECT * FROM e WHERE v = 1", InvalidRequest, "ALLOW FILTERING"),
    ("SELECT * FROM e WHERE k > 1", InvalidRequest, "ALLOW FILTERING"),
    ("SELECT * FROM e WHERE k = 'x'", InvalidRequest, "int"),
    ("SELECT * FROM e WHERE k = null", InvalidRequest, "null"),
    ("SELECT nothing FROM e", InvalidRequest, "Undefined column name nothing"),
    ("SELECT * FROM e WHERE nothing = 1", InvalidRequest, "Undefined column name nothing"),
    ("SELECT toDat(at) FROM e", InvalidRequest, "did you mean todate"),
    ("SELECT * FROM e ORDER BY a", InvalidRequest, "partition key"),
    ("SELECT * FROM e WHERE k = 1 ORDER BY a ASC, b ASC", InvalidRequest, "order of the table"),
    ("SELECT * FROM e LIMIT 0", InvalidRequest, "strictly positive"),
    ("SELECT DISTINCT a FROM e", InvalidRequest, "partition key columns and/or static"),
    ("SELECT k, max(v) FROM e GROUP BY v", InvalidRequest, "Group by"),
    ("SELECT writetime(k) FROM e", InvalidRequest, "PRIMARY KEY"),
    ("SELECT avg(b) FROM e", InvalidRequest, "numbers"),
    ("SELECT v / 0 FROM e WHERE k = 1", FunctionFailure, "by zero"),
    ("SELECT * FROM e WHERE b LIKE 'x%'", InvalidRequest, "index"),
    ("SELECT * FROM e JOIN one", SyntaxException, "no joins"),
    ("SELECT * FROM e WHERE k = 1 OR k = 2", SyntaxException, "no OR"),
    ("SELECT * FORM e", SyntaxException, "did you mean FROM"),
    ("SELECT * FROM e; SELECT * FROM e", SyntaxException, "one statement"),
    ("INSERT INTO e (k, a) VALUES (1, 1)", InvalidRequest, "missing: b"),
    ("INSERT INTO e (k, a, b) VALUES (1, 1)", InvalidRequest, "3 columns and 2 values"),
    ("INSERT INTO e (k, a, b) VALUES (1, null, 'x')", InvalidRequest, "Invalid null value"),
    ("INSERT INTO e (k, a, b, v) VALUES (1, 1, 'x', 1) USING TTL -1", InvalidRequest, "TTL"),
    ("INSERT INTO e (k, a, b, v) VALUES (1, 1, 'it's', 1)", SyntaxException, "written twice"),
    ("INSERT INTO e JSON '{\"k\": 1, \"a\": 1, \"b\": \"x\", \"w\": 1}'",
     InvalidRequest, "unrecognized column: w"),
    ("INSERT INTO one (k, v) VALUES (1, 1) IF NOT EXISTS USING TIMESTAMP 1", InvalidRequest, "timestamp"),
    ("UPDATE e SET v = 1 WHERE k = 1", InvalidRequest, "a, b"),
    ("UPDATE e SET v = 1", SyntaxException, "WHERE"),
    ("UPDATE e SET k = 2 WHERE FIRST", InvalidRequest, "PRIMARY KEY"),
    ("UPDATE e SET v = v + 1 WHERE FIRST", InvalidRequest, "collections"),
    ("UPDATE e SET l[77] = 1 WHERE FIRST", InvalidRequest, "List index 77 out of bound"),
    ("UPDATE one SET v = 1 WHERE k IN (1, 2) IF v = 1", InvalidRequest, "IN on the partition key"),
    ("UPDATE n SET c = 5 WHERE k = 1", InvalidRequest, "incremented/decremented"),
    ("UPDATE n SET c = c + 1 WHERE k = 1 IF EXISTS", InvalidRequest, "Conditional updates"),
    ("INSERT INTO n (k, c) VALUES (1, 1)", InvalidRequest, "counter tables"),
    ("DELETE FROM e", SyntaxException, "TRUNCATE"),
    ("DELETE FROM e WHERE v = 1", InvalidRequest, "partition key parts"),
    ("DELETE k FROM e WHERE FIRST", InvalidRequest, "PRIMARY KEY"),
    ("BEGIN BATCH SELECT * FROM e APPLY BATCH", SyntaxException, "INSERT, UPDATE, DELETE"),
    ("BEGIN BATCH UPDATE n SET c = c + 1 WHERE k = 1 APPLY BATCH", InvalidRequest, "COUNTER"),
    ("CREATE KEYSPACE w", SyntaxException, "WITH"),
    ("CREATE KEYSPACE w WITH replication = {'class': 'Nothing'}", ConfigurationException, "Nothing"),
    ("CREATE KEYSPACE w WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 1}",
     ConfigurationException, "there are dc1"),
    ("CREATE TABLE w (k int)", InvalidRequest, "primary key"),
    ("CREATE TABLE w (k int, PRIMARY KEY (c))", InvalidRequest, "Unknown column"),
    ("CREATE TABLE w (k list<int> PRIMARY KEY)", InvalidRequest, "frozen"),
    ("CREATE TABLE w (k int PRIMARY KEY, v list<list<int>>)", InvalidRequest, "frozen"),
    ("CREATE TABLE w (k int PRIMARY KEY, v string)", InvalidRequest, "did you mean text"),
    ("CREATE TABLE w (k int PRIMARY KEY, v int, c counter)", InvalidRequest, "two tables"),
    ("CREATE TABLE w (k int PRIMARY KEY, s int STATIC)", InvalidRequest, "clustering"),
    ("CREATE TABLE one (k int PRIMARY KEY)", AlreadyExists, "already exists"),
    ("CREATE TYPE point (x int)", InvalidRequest, "already exists"),
    ("CREATE INDEX ON e (nothing)", InvalidRequest, "Undefined column name nothing"),
    ("ALTER TABLE e ADD v int", InvalidRequest, "already"),
    ("ALTER TABLE e DROP k", InvalidRequest, "PRIMARY KEY"),
    ("ALTER TABLE e ALTER v TYPE text", InvalidRequest, "cannot be changed"),
    ("ALTER TABLE nothing ADD v int", InvalidRequest, "exist"),
    ("ALTER TYPE point ADD x int", InvalidRequest, "x"),
    ("DROP TYPE point", InvalidRequest, "used by table e"),
    ("DROP TABLE nothing", InvalidRequest, "doesn't exist"),
    ("DROP INDEX nothing", InvalidRequest, "doesn't exist"),
    ("TRUNCATE nothing", InvalidRequest, "unconfigured table"),
    ("USE nothing", InvalidRequest, "does not exist"),
    ("CREATE MATERIALIZED VIEW w AS SELECT * FROM e", InvalidRequest, "disabled"),
    ("CREATE FUNCTION w (i int) RETURNS int", InvalidRequest, "disabled"),
    ("DROP KEYSPACE system", Unauthorized, "system"),
    ("", SyntaxException, "expected a statement"),
    ("FROBNICATE", SyntaxException, "expected a statement"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "said"), WRONG)
def check_what_is_refused(session: Session, text: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(REFUSED, match=said) as raised:
        session.execute(text.replace("FIRST", FIRST))
    assert isinstance(raised.value, kind)


MADE = """
CREATE KEYSPACE OTHER WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1};
CREATE KEYSPACE IF NOT EXISTS OTHER
    WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1};
ALTER KEYSPACE OTHER WITH durable_writes = false;
CREATE TYPE OTHER.t (a int);
CREATE TYPE IF NOT EXISTS OTHER.t (a int);
ALTER TYPE OTHER.t ADD b text;
ALTER TYPE OTHER.t RENAME b TO c AND a TO d;
CREATE TABLE OTHER.w (k int, c int, v int, PRIMARY KEY (k, c))
    WITH compaction = {'class': 'LeveledCompactionStrategy'} AND compression = {'class': 'LZ4Compressor'}
    AND comment = 'c';
CREATE TABLE IF NOT EXISTS OTHER.w (k int PRIMARY KEY);
INSERT INTO OTHER.w (k, c, v) VALUES (1, 1, 1);
ALTER TABLE OTHER.w RENAME c TO cc;
ALTER TABLE OTHER.w ADD (x int, y frozen<t>);
ALTER TABLE OTHER.w ADD IF NOT EXISTS x int;
ALTER TABLE OTHER.w DROP (x, v);
ALTER TABLE OTHER.w DROP IF EXISTS x;
ALTER TABLE OTHER.w WITH default_time_to_live = 10 AND gc_grace_seconds = 20;
CREATE INDEX IF NOT EXISTS i ON OTHER.w (y);
CREATE INDEX IF NOT EXISTS i ON OTHER.w (y)
"""
DROPPED = """
TRUNCATE TABLE OTHER.w;
DROP INDEX OTHER.i;
DROP INDEX IF EXISTS OTHER.i;
DROP TABLE OTHER.w;
DROP TABLE IF EXISTS OTHER.w;
DROP TYPE OTHER.t;
DROP TYPE IF EXISTS OTHER.t;
DROP KEYSPACE OTHER;
DROP KEYSPACE IF EXISTS OTHER
"""


def check_statements_about_the_schema(session: Session) -> None:
    other = f"{KEYSPACE}_other"
    for text in MADE.replace("OTHER", other).split(";"):
        session.execute(text)
    assert rows(session, f"SELECT * FROM {other}.w") == [(1, 1, None)]
    for text in DROPPED.replace("OTHER", other).split(";"):
        session.execute(text)
    assert other not in session.cluster.metadata.keyspaces
