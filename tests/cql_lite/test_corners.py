"""Corners of CQL in which users of Cassandra know what happens: each was once another thing here."""

from __future__ import annotations

import struct
from decimal import Decimal
from typing import Any

import pytest

from cql_lite import planner_conditions, wire
from cql_lite.types import DATE, TIMESTAMP
from tests.cql_lite.whole import Cql, Error, cluster_of, rows, settle


@pytest.fixture(scope="module")
def cql() -> Cql:
    client = Cql(cluster_of())
    client.run("USE ks")
    for text in (
        "CREATE TYPE place (zip int, street text)",
        "CREATE TYPE pause (length duration)",
        "CREATE TABLE counted (k int, c int, s counter static, v counter, PRIMARY KEY (k, c))",
        "CREATE TABLE plain (k int PRIMARY KEY, v int)",
        "CREATE TABLE t (k int PRIMARY KEY, v int, w text, u place, m map<text, int>, l list<int>)",
        "ALTER TABLE t ADD (st set<text>, tp tuple<int, text>)",
        "CREATE TABLE grouped (a int, b int, c int, d int, v int, PRIMARY KEY ((a, b), c, d))",
        "CREATE TABLE hosts (k inet PRIMARY KEY)",
        "CREATE TABLE numbers (k int PRIMARY KEY, t tinyint, i int, f float)",
        "CREATE TABLE times (k int PRIMARY KEY, ts timestamp, d date)",
        "CREATE TABLE some (k int, c int, v int, w int, l list<int>, PRIMARY KEY (k, c))",
        "CREATE TABLE points (k int PRIMARY KEY, at vector<float, 2>)",
    ):
        client.run(text)
        settle(client.cluster)
    for key in ((1, 1, 1, 1), (1, 1, 1, 2), (1, 1, 2, 1), (2, 1, 1, 1)):
        client.run("INSERT INTO grouped (a, b, c, d, v) VALUES (?, ?, ?, ?, ?)", *key, 10 * key[2] + key[3])
    return client


def values(cql: Cql, text: str, *bound: Any) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in cql.run(text, *bound)]


def applied(cql: Cql, text: str, *bound: Any) -> bool:
    (row,) = cql.run(text, *bound)
    return bool(row["[applied]"])


# --- counters


def test_batches_of_counters_may_delete(cql: Cql) -> None:
    cql.run(
        "BEGIN COUNTER BATCH UPDATE counted SET v = v + 5 WHERE k = 1 AND c = 1; "
        "UPDATE counted SET v = v + 1 WHERE k = 1 AND c = 2; APPLY BATCH"
    )
    cql.run(
        "BEGIN COUNTER BATCH DELETE v FROM counted WHERE k = 1 AND c = 1; "
        "UPDATE counted SET v = v + 7 WHERE k = 2 AND c = 1; APPLY BATCH"
    )
    assert values(cql, "SELECT k, c, v FROM counted WHERE k IN (1, 2)") == [(1, 2, 1), (2, 1, 7)]
    cql.run(
        "BEGIN UNLOGGED BATCH DELETE FROM counted WHERE k = 1; DELETE FROM counted WHERE k = 2; APPLY BATCH"
    )
    assert values(cql, "SELECT k, c, v FROM counted WHERE k IN (1, 2)") == []


NEW_ROW = "BEGIN BATCH INSERT INTO t (k) VALUES (1) IF NOT EXISTS;"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("BEGIN BATCH DELETE FROM counted WHERE k = 1; APPLY BATCH", "a counter statement in a logged batch"),
        ("BEGIN UNLOGGED BATCH DELETE FROM counted WHERE k = 1; DELETE FROM plain WHERE k = 1; APPLY BATCH",
         "Counter and non-counter mutations cannot exist in the same batch"),
        ("CREATE INDEX ON points (at) USING 'sai' WITH OPTIONS = {'similarity_function': 'nope'}",
         "Similarity function nope was not recognized for column at"),
        ("BEGIN COUNTER BATCH USING TIMESTAMP 5 DELETE FROM counted WHERE k = 1; APPLY BATCH",
         "Cannot provide custom timestamp for counter BATCH"),
        ("DELETE v FROM counted WHERE k = 1 AND c = 1 IF EXISTS",
         "Conditional updates are not supported on counter tables"),
        ("UPDATE counted SET s = s + 1 WHERE k = 1 AND c = 1", "modifies only static columns"),
        ("UPDATE t SET u.zip = 1, u.zip = 2 WHERE k = 1", "Multiple incompatible setting of column u"),
        ("SELECT k FROM t WHERE k = 1 AND m[null] = 1 ALLOW FILTERING", "null"),
        ("SELECT max(v) FROM grouped WHERE c > 0 GROUP BY a, b, d ALLOW FILTERING", "declared order"),
        ("SELECT v FROM grouped WHERE (c, d) = (1, 2)", "ALLOW FILTERING"),
        ("SELECT v FROM grouped WHERE (c, d) = (1, null) ALLOW FILTERING", "null"),
        ("CREATE TABLE x (k frozen<list<duration>> PRIMARY KEY)",
         "duration type is not supported for PRIMARY KEY column 'k'"),
        ("CREATE TABLE x (k int, c frozen<map<int, pause>>, PRIMARY KEY (k, c))",
         "duration type is not supported for PRIMARY KEY column 'c'"),
        (f"{NEW_ROW} UPDATE t SET v = 2 WHERE k = 1 IF EXISTS; APPLY BATCH",
         "Cannot mix IF EXISTS and IF NOT EXISTS conditions for the same row"),
        (f"{NEW_ROW} UPDATE t SET v = 2 WHERE k = 1 IF v = 1; APPLY BATCH",
         "Cannot mix IF conditions and IF NOT EXISTS for the same row"),
    ],
)  # fmt: skip
def test_what_is_refused(cql: Cql, text: str, says: str) -> None:
    error = cql.error(text)
    assert isinstance(error, wire.Invalid), error
    assert says in error.message


def test_a_counter_of_the_partition_beside_one_of_a_row(cql: Cql) -> None:
    cql.run("UPDATE counted SET s = s + 1 WHERE k = 9")
    cql.run("UPDATE counted SET s = s + 1, v = v + 1 WHERE k = 9 AND c = 1")
    assert values(cql, "SELECT s, v FROM counted WHERE k = 9") == [(2, 1)]


# --- conditions


def in_list(*items: int | None, null: bytes = b"\xff\xff\xff\xff") -> bytes:
    """A bound list of ints with nulls: some drivers send these as elements of no bytes."""
    parts = [null if item is None else struct.pack(">ii", 4, item) for item in items]
    return struct.pack(">i", len(items)) + b"".join(parts)


@pytest.mark.parametrize("null", [b"\xff\xff\xff\xff", b"\0\0\0\0"])
def test_null_in_a_bound_list_of_a_condition_is_null(cql: Cql, null: bytes) -> None:
    cql.run("INSERT INTO t (k, v) VALUES (20, 5)")
    cql.run("DELETE FROM t WHERE k = 21")
    for key, items, expected in ((20, (5, None), True), (20, (6, None), False), (21, (6, None), True)):
        prepared = cql.good(wire.Prepare(f"UPDATE t SET v = 5 WHERE k = {key} IF v IN ?"))
        assert isinstance(prepared, wire.Prepared)
        bound = cql.parameters([in_list(*items, null=null)])
        (row,) = rows(cql.good(wire.Execute(prepared.id, bound, prepared.result.id)))
        assert row["[applied]"] is expected


def test_an_empty_text_in_a_bound_list_is_no_null(cql: Cql) -> None:
    cql.run("INSERT INTO t (k, w) VALUES (22, '')")
    assert applied(cql, "UPDATE t SET v = 1 WHERE k = 22 IF w IN ?", [""])
    assert not applied(cql, "UPDATE t SET v = 1 WHERE k = 22 IF m IN ?", [])


def test_a_list_of_a_condition_is_bound_and_its_unset_elements_are_left_out(cql: Cql) -> None:
    cql.run("INSERT INTO t (k, v) VALUES (23, 5)")
    assert applied(cql, "UPDATE t SET v = 5 WHERE k = 23 IF v IN (?, ?)", 5, wire.UNSET)
    assert not applied(cql, "UPDATE t SET v = 5 WHERE k = 23 IF v IN (?, ?)", wire.UNSET, wire.UNSET)
    for bound, says in ((None, "Invalid null list in IN condition"), (wire.UNSET, "Invalid 'unset' value")):
        with pytest.raises(Error, match=says):
            cql.run("UPDATE t SET v = 5 WHERE k = 23 IF v IN ?", bound)


def test_conditions_that_go_together_on_one_row(cql: Cql) -> None:
    cql.run("INSERT INTO t (k, v) VALUES (24, 5)")
    text = "UPDATE t SET v = 6 WHERE k = 24 IF EXISTS; UPDATE t SET w = 'x' WHERE k = 24 IF v = 5"
    assert applied(cql, f"BEGIN BATCH {text}; APPLY BATCH")
    assert values(cql, "SELECT v, w FROM t WHERE k = 24") == [(6, "x")]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("UPDATE t SET v = 1 WHERE k = 25 IF v = 1 / 0", wire.FunctionFailure),
        ("UPDATE t SET v = 1 / 0 WHERE k = 25 IF v = 5", wire.FunctionFailure),
        ("UPDATE t SET v = 1 WHERE k = 25 IF v = fromJson('\"x\"')", wire.FunctionFailure),
        ("UPDATE t SET v = 1 WHERE k = 25 IF v IN (5, 1 / 0)", wire.FunctionFailure),
        ("INSERT INTO t (k, v) VALUES (26, 1 / 0) IF NOT EXISTS", wire.FunctionFailure),
        ('INSERT INTO t JSON \'{"k": 26, "v": "x"}\' IF NOT EXISTS', wire.Invalid),
        ("UPDATE t SET v = blobAsInt(0x01) WHERE k = 25 IF v = 5", wire.Invalid),
        ("UPDATE t SET l[1 / 0] = 5 WHERE k = 25 IF v = 5", wire.FunctionFailure),
        ("BEGIN BATCH UPDATE t SET v = 1 / 0 WHERE k = 25 IF v = 5; APPLY BATCH", wire.FunctionFailure),
    ],
)
def test_what_fails_while_it_is_decided_is_the_statements_fault(
    cql: Cql, text: str, error: type[wire.Error]
) -> None:
    cql.run("INSERT INTO t (k, v) VALUES (25, 5)")
    assert isinstance(cql.error(text), error)
    assert values(cql, "SELECT k, v FROM t WHERE k IN (25, 26)") == [(25, 5)]


# --- reads


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("10 / i", wire.FunctionFailure),
        ("blobAsInt(0x01)", wire.Invalid),
        ("i + 2147483647 + 1", wire.Invalid),
        ("cast(0.0 / i as decimal)", wire.Invalid),
    ],
)
def test_what_fails_in_a_prepared_read_of_one_row(cql: Cql, expression: str, error: type[wire.Error]) -> None:
    cql.run("INSERT INTO numbers (k, i) VALUES (4, 0)")
    assert isinstance(cql.error(f"SELECT {expression} FROM numbers WHERE k = 4"), error)
    assert isinstance(cql.error(f"SELECT {expression} FROM numbers WHERE k = ?", 4), error)


def test_columns_with_one_value_may_be_left_out_of_groups(cql: Cql) -> None:
    text = "SELECT a, d, max(v) FROM grouped WHERE c = 1 GROUP BY a, b, d ALLOW FILTERING"
    assert sorted(values(cql, text)) == [(1, 1, 11), (1, 2, 12), (2, 1, 11)]
    assert sorted(values(cql, text.replace("c = 1", "(c) = (1)"))) == [(1, 1, 11), (1, 2, 12), (2, 1, 11)]
    text = "SELECT b, max(v) FROM grouped WHERE a = 1 GROUP BY b ALLOW FILTERING"
    assert values(cql, text) == [(1, 21)]
    text = "SELECT a, max(v) FROM grouped WHERE a = 1 AND b IN (1, 2) AND (c) = (1) GROUP BY b, d"
    assert values(cql, text) == [(1, 11), (1, 12)]


def test_several_columns_are_filtered_by_equality(cql: Cql) -> None:
    assert values(cql, "SELECT a, v FROM grouped WHERE (c, d) = (1, 2) ALLOW FILTERING") == [(1, 12)]
    assert values(cql, "SELECT v FROM grouped WHERE (c, d) = (?, ?) ALLOW FILTERING", 2, 1) == [(21,)]
    text = "SELECT c FROM grouped WHERE a = 1 AND b = 1 AND (d) = (1) ALLOW FILTERING"
    assert values(cql, text) == [(1,), (2,)]


def test_a_null_key_of_a_map_is_refused_where_it_is_filtered(cql: Cql) -> None:
    cql.run("INSERT INTO t (k, m) VALUES (30, {'a': 1})")
    text = "SELECT k FROM t WHERE k = 30 AND m[?] = 1 ALLOW FILTERING"
    assert values(cql, text, "a") == [(30,)]
    assert "null" in cql.error(text, None).message


def test_tokens_restrict_system_tables(cql: Cql) -> None:
    everything = values(cql, "SELECT keyspace_name FROM system_schema.keyspaces")
    text = "SELECT keyspace_name FROM system_schema.keyspaces WHERE token(keyspace_name)"
    found = [values(cql, f"{text} {operator} token(?)", "ks") for operator in ("<", "=", ">")]
    assert found[1] == [("ks",)]
    assert sorted(found[0] + found[1] + found[2]) == sorted(everything)
    assert found[0] and found[2]


def test_system_tables_are_put_in_order(cql: Cql) -> None:
    text = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'ks' ORDER BY table_name"
    names = [name for (name,) in values(cql, text)]
    assert len(names) > 5
    assert names == sorted(names)
    assert [name for (name,) in values(cql, f"{text} DESC LIMIT 3")] == names[::-1][:3]
    text = "SELECT table_name FROM system_schema.tables WHERE keyspace_name IN ('system', 'ks') ORDER BY "
    assert [name for (name,) in values(cql, f"{text} table_name DESC")][-1] == "IndexInfo"
    where = "WHERE keyspace_name = 'ks' AND table_name = 'plain' ORDER BY column_name DESC"
    assert values(cql, f"SELECT column_name FROM system_schema.columns {where}") == [("v",), ("k",)]
    error = cql.error("SELECT * FROM system.peers_v2 ORDER BY peer_port")
    assert "restricted by an EQ or an IN" in error.message


def test_system_tables_have_partitions(cql: Cql) -> None:
    keyspaces = sorted({name for (name,) in values(cql, "SELECT keyspace_name FROM system_schema.tables")})
    assert len(keyspaces) > 2
    found = values(cql, "SELECT DISTINCT keyspace_name FROM system_schema.tables")
    assert sorted(name for (name,) in found) == keyspaces, "each once"
    text = "SELECT keyspace_name FROM system_schema.columns PER PARTITION LIMIT 2"
    assert sorted(name for (name,) in values(cql, text)) == sorted(keyspaces * 2)
    text = "SELECT keyspace_name, table_name FROM system_schema.columns GROUP BY keyspace_name, table_name "
    assert sorted(name for name, _ in values(cql, f"{text} PER PARTITION LIMIT 1")) == keyspaces
    assert len(values(cql, "SELECT DISTINCT keyspace_name FROM system_schema.tables LIMIT 2")) == 2


def test_a_column_that_a_filter_fixes_may_be_left_out_of_an_order(cql: Cql) -> None:
    text = "SELECT v FROM grouped WHERE a = 1 AND b = 1 AND c = 1 ORDER BY d DESC"
    assert values(cql, text) == [(12,), (11,)]
    assert values(cql, f"{text.replace('1 ORDER', '1 AND v > 0 ORDER')} ALLOW FILTERING") == [(12,), (11,)]


def test_an_address_of_version_4_within_version_6_is_one_of_version_4(cql: Cql) -> None:
    cql.run("INSERT INTO hosts (k) VALUES ('::ffff:1.2.3.4')")
    assert values(cql, "SELECT k FROM hosts WHERE k = '1.2.3.4'") == [(bytes([1, 2, 3, 4]),)]


# --- constants in arithmetic


@pytest.mark.parametrize(
    ("expression", "of", "value"),
    [
        ("t + 1", "int", 128),
        ("t * 300", "int", 38100),
        ("i + 99999999999", "bigint", 100000000006),
        ("i + 99999999999999999999", "varint", 100000000000000000006),
        ("i * 1.5", "double", 10.5),
        ("i + 0.12345678901234567890", "decimal", "7.12345678901234567890"),
        ("-t", "tinyint", -127),
        ("-t + 1", "int", -126),
        ("-(t + 1)", "int", -128),
        ("t - t", "tinyint", 0),
        ("(tinyint)1 - t", "tinyint", -126),
        ("i + ?", "int", None),
        ("sum(t + 1)", "int", 128),
    ],
)
def test_constants_have_types_of_their_own(cql: Cql, expression: str, of: str, value: Any) -> None:
    cql.run("INSERT INTO numbers (k, t, i) VALUES (1, 127, 7)")
    prepared = cql.good(wire.Prepare(f"SELECT {expression} FROM numbers WHERE k = 1"))
    assert isinstance(prepared, wire.Prepared)
    assert prepared.result.columns[0].type.cql == of
    bound = [None] * len(prepared.variables.columns)
    ((found,),) = (row.values() for row in rows(cql.good(cql.execute(prepared, bound))))
    assert found == (Decimal(value) if of == "decimal" else value)


@pytest.mark.parametrize(
    ("column", "expression", "value"),
    [("t", "100 + 27", 127), ("f", "1.5 + 1", 2.5), ("t", "-(100 + 27)", -127), ("t", "? + 1", 6)],
)
def test_constants_have_the_type_that_is_expected(cql: Cql, column: str, expression: str, value: Any) -> None:
    cql.run(f"INSERT INTO numbers (k, {column}) VALUES (2, {expression})", *[5] * expression.count("?"))
    assert values(cql, f"SELECT {column} FROM numbers WHERE k = 2") == [(value,)]
    assert "out of range" in cql.error("INSERT INTO numbers (k, t) VALUES (2, 100 + 28)").message


@pytest.mark.parametrize(
    ("column", "expression", "value"),
    [
        ("ts", "toTimestamp('2020-01-01')", 1577836800000),
        ("d", "toDate('2020-01-01 10:00Z')", 18262 + 2**31),
        ("d", "to_date(1577836800000)", 18262 + 2**31),
        ("d", "toDate(b5f58800-2c2d-11ea-8080-808080808080)", 18262 + 2**31),
    ],
)
def test_text_may_be_a_point_in_time(cql: Cql, column: str, expression: str, value: int) -> None:
    cql.run(f"INSERT INTO times (k, {column}) VALUES (1, {expression})")
    (row,) = cql.run(f"SELECT {column} AS a, {expression} AS b FROM times WHERE k = 1")
    kept, width = {"ts": (TIMESTAMP, 8), "d": (DATE, 4)}[column]
    assert [kept.encode(row[name]) for name in "ab"] == [value.to_bytes(width, "big")] * 2


# --- nulls in collections that a SELECT puts together


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("collection_max([v, w])", [5, 7]),
        ("collection_min([v, w])", [5, 7]),
        ("collection_sum([v, w])", [5, 7]),
        ("collection_avg([v, w])", [5, 7]),
        ("collection_count([v, w])", [2, 2]),
        ("collection_max(map_values({'a': v, 'b': w}))", [5, 7]),
        ("map_keys({'a': v, 'b': w})", [("a", "b"), ("a", "b")]),
        ("toJson(map_values({'a': v, 'b': w}))", ["[5, null]", "[null, 7]"]),
        ("cast([v, w] as text)", ["[5, null]", "[null, 7]"]),
        ("cast({'a': v, 'b': w} as text)", ["{'a': 5, 'b': null}", "{'a': null, 'b': 7}"]),
        ("collection_max(ttl(l))", [None, None]),
        ("collection_sum(ttl(l))", [0, None]),
        ("toJson(ttl(l))", ["[null, null]", "null"]),
    ],
)
def test_nulls_of_collections_are_passed_over(cql: Cql, expression: str, expected: list[Any]) -> None:
    cql.run("INSERT INTO some (k, c, v, l) VALUES (1, 1, 5, [1, 2])")
    cql.run("INSERT INTO some (k, c, w) VALUES (1, 2, 7)")
    assert values(cql, f"SELECT {expression} FROM some WHERE k = 1") == [(each,) for each in expected]


def test_null_in_a_list_is_an_empty_element_which_drivers_read(cql: Cql) -> None:
    cql.run("INSERT INTO some (k, c, v) VALUES (2, 1, 5)")
    found = cql.good(wire.Query("SELECT [v, w] FROM some WHERE k = 2", cql.parameters()))
    assert isinstance(found, wire.Rows)
    assert found.rows == [[struct.pack(">iiii", 2, 4, 5, 0)]]


def test_null_in_a_bound_collection_is_refused(cql: Cql) -> None:
    prepared = cql.good(wire.Prepare("INSERT INTO some (k, c, l) VALUES (1, 1, ?)"))
    assert isinstance(prepared, wire.Prepared)
    for null in (b"\0\0\0\0", b"\xff\xff\xff\xff"):
        bound = cql.parameters([in_list(1, None, null=null)])
        error = cql.send(wire.Execute(prepared.id, bound, prepared.result.id))
        assert isinstance(error, wire.Invalid)
        assert "null is not supported inside collections" in error.message


@pytest.mark.parametrize(
    ("expression", "expected"),
    [("(double)Infinity % 2.0", "NaN"), ("2.0 % (double)Infinity", "2.0"), ("(float)NaN % 2.0", "NaN")],
)
def test_remainders_of_what_has_no_bounds(cql: Cql, expression: str, expected: str) -> None:
    cql.run("INSERT INTO numbers (k) VALUES (3)")
    assert values(cql, f"SELECT cast({expression} as text) FROM numbers WHERE k = 3") == [(expected,)]


def test_parentheses_within_literals(cql: Cql) -> None:
    cql.run("INSERT INTO t (k, l, m, st) VALUES (40, [(1 + 1), (3)], {('a'): (2 * 2)}, {('x')})")
    assert values(cql, "SELECT l, m, st FROM t WHERE k = 40") == [((2, 3), (("a", 4),), ("x",))]
    assert applied(cql, "UPDATE t SET l = [(4 - 1), ((5))] WHERE k = 40 IF l = [(1 + 1), 3]")
    text = "UPDATE t SET u = {zip: (?)}, tp = ((7), 'x') WHERE k = 40 IF l IN ([(?), (5)])"
    assert applied(cql, text, 9, 3)
    assert values(cql, "SELECT l, u.zip, tp FROM t WHERE k = 40") == [((3, 5), 9, (7, "x"))]
    cql.run("INSERT INTO points (k, at) VALUES (1, [(1.5 + 1), (2)])")
    assert values(cql, "SELECT at FROM points WHERE k = 1") == [((2.5, 2.0),)]


@pytest.mark.parametrize(
    ("selected", "expected"),
    [
        ("[(1)]", (1,)),
        ("[(v + 1), (2)]", (6, 2)),
        ("{(v)}", (5,)),
        ("{(1): (v)}", ((1, 5),)),
        ("((1), 2)", (1, 2)),
        ("((v), (w))", (5, "x")),
        ("collection_max([(v), ((7))])", 7),
        ("(list<int>)[(v)]", (5,)),
    ],
)
def test_parentheses_within_what_a_select_puts_together(cql: Cql, selected: str, expected: Any) -> None:
    cql.run("INSERT INTO t (k, v, w) VALUES (42, 5, 'x')")
    assert values(cql, f"SELECT {selected} FROM t WHERE k = 42") == [(expected,)]


def test_a_bug_within_a_condition_is_not_the_nodes(cql: Cql, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> bool:
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(planner_conditions, "_holds", bug)
    with pytest.raises(ZeroDivisionError, match="a bug of ours"):
        cql.run("UPDATE t SET v = 1 WHERE k = 41 IF v = 1")
    monkeypatch.undo()
    assert not applied(cql, "UPDATE t SET v = 1 WHERE k = 41 IF v = 1"), "the peers go on"


# --- what markers are called


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("UPDATE t SET l = [?, ?], m = {?: ?}, st = {?}, u = {zip: ?}, tp = (?, ?) WHERE k = ?",
         "value(l) value(l) key(m) value(m) value(st) u.zip tp[0] tp[1] k"),
        ("UPDATE t SET u.zip = ?, l[?] = ?, m[?] = ? WHERE k = ?",
         "u.zip idx(l) value(l) key(m) value(m) k"),
        ("DELETE l[?], m[?], st[?] FROM t WHERE k = ?", "idx(l) key(m) value(st) k"),
        ("UPDATE t SET v = ? WHERE k = ? IF m[?] = ? AND l[?] IN ? AND u.zip = ? AND l = ?",
         "v k key(m) value(m) idx(l) in(value(l)) u.zip l"),
        ("SELECT m[?], st[?] FROM t WHERE k = ? AND m[?] = ? ALLOW FILTERING",
         "key(m) value(st) k key(m) value(m)"),
        ("SELECT m[?] FROM t WHERE m[?] = ? ALLOW FILTERING", "key(m) key(m) value(m)"),
        ("SELECT k FROM t WHERE token(k) > token(?)", "arg0(system.token)"),
        ("INSERT INTO t (k, v) VALUES (?, fromJson(?))", "k arg0(system.fromjson)"),
        ("SELECT blobAsInt(?) FROM t", "arg0(system.blobasint)"),
    ],
)  # fmt: skip
def test_names_of_markers(cql: Cql, text: str, names: str) -> None:
    prepared = cql.good(wire.Prepare(text))
    assert isinstance(prepared, wire.Prepared)
    assert [column.name for column in prepared.variables.columns] == names.split(" ")


def test_more_markers_than_values_can_be_bound(cql: Cql) -> None:
    places = ", ".join("?" * 2**16)
    error = cql.send(wire.Prepare(f"SELECT k FROM plain WHERE k IN ({places})"))
    assert isinstance(error, wire.Invalid), error
    assert "Too many markers(?). 65536 markers exceed the allowed maximum of 65535" in error.message


# --- what is shown of tables


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("99PERCENTILE", "99p"),
        ("99.90p", "99.9p"),
        ("50.0MS", "50ms"),
        ("always", "ALWAYS"),
        ("none", "NEVER"),
        ("min(99p, 50ms)", "MIN(99p,50ms)"),
    ],
)
def test_options_are_shown_as_cassandra_writes_them(cql: Cql, given: str, shown: str) -> None:
    cql.run(
        f"ALTER TABLE plain WITH speculative_retry = '{given}' AND additional_write_policy = '{given}' "
        "AND read_repair = 'none' AND compression = {'class': 'ZstdCompressor', 'compression_level': 3} "
        "AND compaction = {'class': 'org.apache.cassandra.db.compaction.LeveledCompactionStrategy'}"
    )
    settle(cql.cluster)
    (row,) = cql.run("SELECT * FROM system_schema.tables WHERE keyspace_name = 'ks' AND table_name = 'plain'")
    assert (row["speculative_retry"], row["additional_write_policy"]) == (shown, shown)
    assert row["read_repair"] == "NONE"
    compression = dict(row["compression"])
    assert compression["class"] == "org.apache.cassandra.io.compress.ZstdCompressor"
    compaction = dict(row["compaction"])
    assert compaction["class"] == "org.apache.cassandra.db.compaction.LeveledCompactionStrategy"
