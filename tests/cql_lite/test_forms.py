"""Statement forms of CQL 3.4.7 and 5.0 with what they give, as users of Cassandra know it."""

from __future__ import annotations

from typing import Any

import pytest

from core.consistency import Level
from cql_lite import wire
from tests.cql_lite.whole import Cql, cluster_of, settle

TABLES = """
CREATE TYPE u (a int, b text);
CREATE TABLE m (k int PRIMARY KEY, m map<text, int>, s set<text>, l list<int>, x u, f frozen<map<text, int>>);
CREATE TABLE r (k int, c int, v int, s int static, st set<int>, PRIMARY KEY (k, c));
CREATE TABLE t (k int PRIMARY KEY, v int) WITH default_time_to_live = 500
"""


@pytest.fixture(scope="module")
def cql() -> Cql:
    client = Cql(cluster_of(1))
    client.run("USE ks")
    for text in TABLES.split(";"):
        client.run(text)
        settle(client.cluster)
    for c in range(5):
        client.run("INSERT INTO r (k, c, v, st) VALUES (1, ?, ?, {1})", c, 10 + c)
    return client


def values(cql: Cql, text: str, *bound: Any) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in cql.run(text, *bound)]


# --- writetime and ttl


def test_write_times_of_collections_are_lists(cql: Cql) -> None:
    cql.run(
        "UPDATE m USING TIMESTAMP 5000 AND TTL 1000 SET m = {'a': 1, 'c': 3}, s = {'x'}, l = [7] WHERE k = 1"
    )
    cql.run("UPDATE m USING TIMESTAMP 6000 SET m['b'] = 2, x.b = 'y', f = {'q': 1} WHERE k = 1")
    asked = {
        "writetime(m)": (5000, 6000, 5000),
        "maxwritetime(m)": 6000,
        "max_writetime(m)": 6000,
        "minwritetime(m)": 5000,
        "writetime(s)": (5000,),
        "writetime(l)": (5000,),
        "writetime(l[0])": 5000,
        "writetime(m['b'])": 6000,
        "writetime(m['zz'])": None,
        "writetime(s['x'])": 5000,
        "writetime(m['a'..'b'])": (5000, 6000),
        "writetime(m['b'..])": (6000, 5000),
        "maxwritetime(m[..'a'])": 5000,
        "writetime(x.b)": 6000,
        "writetime(x.a)": None,
        "writetime(f)": 6000,
        "writetime(f['q'])": 6000,
        "writetime(f['z'])": None,
        "ttl(m['b'])": None,
        "ttl(m['a'])": 1000,
    }
    (row,) = cql.run(f"SELECT {', '.join(asked)} FROM m WHERE k = 1")
    assert row == asked
    assert values(cql, "SELECT writetime(m), ttl(s), maxwritetime(l) FROM m WHERE k = 2") == []
    cql.run("INSERT INTO m (k) VALUES (2)")
    assert values(cql, "SELECT writetime(m), ttl(s), maxwritetime(l), writetime(x) FROM m WHERE k = 2") == [
        (None, None, None, None)
    ]


def test_a_list_of_times_to_live_has_empty_values(cql: Cql) -> None:
    """Drivers read them as None."""
    cql.run("UPDATE m USING TIMESTAMP 5000 AND TTL 1000 SET m = {'a': 1, 'c': 3} WHERE k = 3")
    cql.run("UPDATE m USING TIMESTAMP 6000 SET m['b'] = 2, x.b = 'y' WHERE k = 3")
    response = cql.good(wire.Query("SELECT ttl(m), writetime(x) FROM m WHERE k = 3", cql.parameters()))
    assert isinstance(response, wire.Rows)
    ttl, times = response.rows[0]
    null, left = bytes(4), b"\0\0\0\4\0\0\3\xe8"
    assert ttl == b"\0\0\0\3" + left + null + left
    assert times == b"\0\0\0\2" + null + b"\0\0\0\x08" + (6000).to_bytes(8, "big")


def test_null_as_ttl_is_none_at_all_and_unset_the_tables(cql: Cql) -> None:
    cql.run("INSERT INTO t (k, v) VALUES (1, 1) USING TTL ?", None)
    cql.run("INSERT INTO t (k, v) VALUES (2, 1) USING TTL ?", wire.UNSET)
    assert values(cql, "SELECT ttl(v) FROM t WHERE k = 1") == [(None,)]
    assert values(cql, "SELECT ttl(v) FROM t WHERE k = 2") == [(500,)]


def test_timestamp_zero_is_the_oldest_that_is_not_negative(cql: Cql) -> None:
    cql.run("INSERT INTO t (k, v) VALUES (3, 1) USING TIMESTAMP 0")
    cql.run("BEGIN BATCH USING TIMESTAMP 0 INSERT INTO t (k, v) VALUES (4, 1) APPLY BATCH")
    cql.run("UPDATE t USING TIMESTAMP 1 SET v = 2 WHERE k IN (3, 4)")
    assert values(cql, "SELECT v FROM t WHERE k IN (3, 4)") == [(2,), (2,)]
    cql.run("UPDATE t USING TIMESTAMP 0 SET v = 3 WHERE k = 3")
    assert values(cql, "SELECT v FROM t WHERE k = 3") == [(2,)]


# --- WHERE


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("k = 1 AND c BETWEEN 1 AND 3", [1, 2, 3]),
        ("k = 1 AND c BETWEEN 3 AND 1", []),
        ("k = 1 AND (c) BETWEEN (2) AND (3)", [2, 3]),
        ("token(k) BETWEEN token(1) AND token(1) AND c < 2 ALLOW FILTERING", [0, 1]),
        ("v BETWEEN 11 AND 12 ALLOW FILTERING", [1, 2]),
        ("k = 1 AND c NOT IN (1, 2) ALLOW FILTERING", [0, 3, 4]),
        ("v NOT IN (10, 14) ALLOW FILTERING", [1, 2, 3]),
        ("k = 1 AND st NOT CONTAINS 1 ALLOW FILTERING", []),
        ("k = 1 AND st NOT CONTAINS 2 AND c = 4 ALLOW FILTERING", [4]),
    ],
)
def test_between_and_not(cql: Cql, where: str, expected: list[int]) -> None:
    assert [row["c"] for row in cql.run(f"SELECT c FROM r WHERE {where}")] == expected


def test_the_bounds_of_between_are_bound(cql: Cql) -> None:
    assert values(cql, "SELECT c FROM r WHERE k = 1 AND c BETWEEN ? AND ?", 1, 2) == [(1,), (2,)]


# --- conditions


def test_a_conditional_batch_shows_the_key_and_what_was_compared(cql: Cql) -> None:
    text = (
        "BEGIN BATCH UPDATE r SET v = 0 WHERE k = 1 AND c = 3 IF v = 1; "
        "UPDATE r SET v = 0 WHERE k = 1 AND c = 2 IF v = 1; "
        "UPDATE r SET st = {} WHERE k = 1 AND c = 3 IF v = 13; APPLY BATCH"
    )
    assert cql.run(text) == [
        {"[applied]": False, "k": 1, "c": 2, "v": 12},
        {"[applied]": False, "k": 1, "c": 3, "v": 13},
    ], "each row once, in their order"


def test_what_is_compared_comes_regular_columns_first(cql: Cql) -> None:
    (row,) = cql.run("UPDATE r SET v = 1 WHERE k = 1 AND c = 0 IF s = 4 AND v = 1")
    assert list(row) == ["[applied]", "v", "s"]


def test_a_static_condition_shows_the_static_value_of_a_row_that_is_not_there(cql: Cql) -> None:
    cql.run("INSERT INTO r (k, s) VALUES (5, 50)")
    found = cql.run("UPDATE r SET v = 1 WHERE k = 5 AND c = 9 IF s = 4 AND v = 1")
    assert found == [{"[applied]": False, "v": None, "s": 50}]


def test_a_collection_without_elements_is_an_empty_one(cql: Cql) -> None:
    def applied(condition: str, *bound: Any) -> Any:
        return cql.run(f"UPDATE m SET f = {{'z': 1}} WHERE k = 50 IF {condition}", *bound)[0]["[applied]"]

    for condition in ("l = []", "l = null", "l != [1]", "l < [1]", "l >= []", "l IN ([1], [])", "m = {}"):
        assert applied(condition), condition
    assert applied("l = ?", ())
    for condition in ("l != []", "l > []", "l != null", "l IN ([1])", "f = null"):
        assert not applied(condition), condition
    cql.run("DELETE FROM m WHERE k = 50")
    assert not applied("f = {}"), "a frozen one has a value or none"


def test_ranges_and_partitions_are_deleted_under_a_condition(cql: Cql) -> None:
    for c in range(4):
        cql.run("INSERT INTO r (k, c, v) VALUES (7, ?, 1)", c)
    done = [{"[applied]": True}]
    change = "UPDATE r SET v = 2, s = 1 WHERE k = 7 AND c = 0 IF v = 1"
    assert cql.run(f"BEGIN BATCH DELETE FROM r WHERE k = 7 AND c > 1; {change}; APPLY BATCH") == done
    assert values(cql, "SELECT c, v FROM r WHERE k = 7") == [(0, 2), (1, 1)]
    assert cql.run("DELETE FROM r WHERE k = 7 IF s = 2") == [{"[applied]": False, "s": 1}]
    assert cql.run("DELETE FROM r WHERE k = 7 IF s = 1") == done
    assert values(cql, "SELECT c, v FROM r WHERE k = 7") == []


# --- the schema


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("CREATE TABLE x (k int PRIMARY KEY) WITH bloom_filter_fp_chance = 1.5",
         wire.ConfigError, "bloom_filter"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH compaction = {'class': 'Nope'}", wire.ConfigError,
         "Unable to find compaction strategy class 'Nope'"),
        (("CREATE TABLE x (k int PRIMARY KEY) WITH compaction = {'class': 'LeveledCompactionStrategy', "
         "'min_threshold': 40}"), wire.ConfigError, "max_threshold must be greater than or equal to"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH compression = {'class': 'Nope'}", wire.ConfigError,
         "Could not create Compression for type Nope"),
        (("CREATE TABLE x (k int PRIMARY KEY) WITH compression = {'class': 'LZ4Compressor', "
         "'chunk_length_in_kb': 3}"), wire.ConfigError, "must be a power of 2"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH compression = {'enabled': false, 'class': 'Nope'}",
         wire.ConfigError, "no other options"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH caching = {'row': 'ALL'}", wire.ConfigError,
         "Invalid caching sub-options [row]"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH caching = {'keys': 'SOME'}", wire.ConfigError,
         "only 'ALL' and 'NONE' are allowed"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH speculative_retry = '101p'", wire.ConfigError,
         "Specified Speculative Retry Policy [101p] is not supported"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH speculative_retry = 'soon'", wire.ConfigError,
         "Specified Speculative Retry Policy [soon] is not supported"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH read_repair = 'maybe'", wire.ConfigError,
         "Invalid value 'maybe' for option 'read_repair'"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH min_index_interval = 0", wire.ConfigError,
         "must be greater than or equal to 1 (got 0)"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH max_index_interval = 5", wire.ConfigError,
         "max_index_interval must be greater than or equal to min_index_interval (128) (got 5)"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH cdc = 'maybe'", wire.SyntaxFault, "Invalid boolean value"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH comment = 'a' AND comment = 'b'", wire.SyntaxFault,
         "Multiple definition for property 'comment'"),
        ("CREATE TABLE x (k int, c int, PRIMARY KEY (k, c)) WITH CLUSTERING ORDER BY (c ASC, c DESC)",
         wire.Invalid, "Duplicate column 'c' in CLUSTERING ORDER BY clause"),
        ("CREATE TABLE x (k int PRIMARY KEY, n counter) WITH default_time_to_live = 5", wire.Invalid,
         "Cannot set default_time_to_live on a table with counters"),
        ("CREATE TYPE x (n counter)", wire.Invalid, "A user type cannot contain counters"),
        ("CREATE KEYSPACE \"a-b\" WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
         wire.Invalid, "Keyspace name must not be empty"),
        ("CREATE TABLE \"a b\" (k int PRIMARY KEY)", wire.Invalid, "Table name must not be empty"),
        ("SELECT blobAsInt(k) FROM t",
         wire.Invalid, "cannot be passed as argument 0 of function system.blobasint"),
        ("SELECT textAsBlob(k) FROM t", wire.Invalid, "cannot be passed as argument 0"),
        ("UPDATE m SET x.a = 1 WHERE k = 1 IF m[null] = 1",
         wire.Invalid, "Invalid null value for map element"),
        ("UPDATE m SET x.a = 1 WHERE k = 1 IF l[-1] = 1", wire.Invalid, "Invalid negative list index -1"),
        ("UPDATE m SET x.a = 1 WHERE k = 1 IF x.nope = 1", wire.Invalid, "Unknown field nope for column x"),
        ("BEGIN BATCH INSERT INTO t (k) VALUES (1) IF NOT EXISTS INSERT INTO t (k) VALUES (2) APPLY BATCH",
         wire.Invalid, "Batch with conditions cannot span multiple partitions"),
        ("BEGIN BATCH INSERT INTO t (k) VALUES (1) IF NOT EXISTS INSERT INTO m (k) VALUES (1) APPLY BATCH",
         wire.Invalid, "Batch with conditions cannot span multiple tables"),
    ],
)  # fmt: skip
def test_what_else_is_refused(cql: Cql, text: str, kind: type[wire.Error], said: str) -> None:
    error = cql.error(text)
    assert isinstance(error, kind), error
    assert said in error.message


@pytest.mark.parametrize(
    "options",
    [
        "speculative_retry = '99.0PERCENTILE'",
        "speculative_retry = 'MIN(99p, 50ms)' AND additional_write_policy = 'NEVER'",
        "compression = {} AND caching = {'keys': 'NONE', 'rows_per_partition': '120'}",
        (
            "compression = {'sstable_compression': 'org.apache.cassandra.io.compress.SnappyCompressor', "
            "'chunk_length_kb': 64}"
        ),
        "compression = {'enabled': 'false'} AND read_repair = 'none' AND min_index_interval = 64",
        "compaction = {'class': 'SizeTieredCompactionStrategy', 'min_threshold': 6, 'bucket_low': 0.5}",
    ],
)
def test_options_that_mean_nothing_here_are_taken(cql: Cql, options: str) -> None:
    cql.run(f"CREATE TABLE kept (k int PRIMARY KEY) WITH {options}")
    [described, *_] = cql.run("DESCRIBE TABLE kept")
    cql.run("DROP TABLE kept")
    cql.run(described["create_statement"])
    cql.run("DROP TABLE kept")


def test_a_hint_for_another_s_cache_is_taken(cql: Cql) -> None:
    assert len(cql.run("SELECT c FROM r WHERE k = 1 BYPASS CACHE")) == 5
    assert len(cql.run("SELECT c FROM r WHERE v > 10 ALLOW FILTERING BYPASS CACHE")) == 4
    error = cql.error("INSERT INTO m (k) VALUES (1) USING TIMEOUT 5s")
    assert "driver" in error.message


def test_an_id_of_a_table_is_no_option_to_keep(cql: Cql) -> None:
    cql.run(
        "CREATE TABLE ids (k int PRIMARY KEY) "
        "WITH id = 5a1c395e-b41f-11e5-9f22-ba0be0483c18 AND comment = 'c'"
    )
    (row,) = cql.run("DESCRIBE TABLE ids")
    assert "comment = 'c'" in row["create_statement"]
    assert cql.run("DROP TABLE IF EXISTS nowhere.x") == []


def test_numbers_and_times_as_text(cql: Cql) -> None:
    cql.run("CREATE TABLE n (k int PRIMARY KEY, d double, f float, t timestamp)")
    cql.run("INSERT INTO n (k, d, f, t) VALUES (1, 1e10, 0.1, '2011-02-03T04:05:00Z')")
    cql.run("INSERT INTO n (k, d, f, t) VALUES (2, 0.00001, NaN, -1)")
    asked = "SELECT cast(d AS text), cast(f AS text), cast(t AS text) FROM n WHERE k = "
    assert values(cql, asked + "1") == [("1.0E10", "0.1", "2011-02-03T04:05:00.000Z")]
    assert values(cql, asked + "2") == [("1.0E-5", "NaN", "1969-12-31T23:59:59.999Z")]
    assert values(cql, "SELECT JSON d, f FROM n WHERE k = 2") == [('{"d": 1.0E-5, "f": null}',)]


# --- vectors


@pytest.fixture(scope="module")
def vectors(cql: Cql) -> Cql:
    cql.run("CREATE TABLE ve (k int PRIMARY KEY, g int, v vector<float, 2>)")
    settle(cql.cluster)
    for k, x in enumerate(((1.0, 0.0), (0.0, 1.0), (3.0, 3.0), (0.0, 0.0), None, (0.9, 0.1))):
        cql.run("INSERT INTO ve (k, g, v) VALUES (?, ?, ?)", k, k % 2, x)
    return cql


def test_the_nearest_vectors_come_first(vectors: Cql) -> None:
    near = "SELECT k FROM ve ORDER BY v ANN OF {} LIMIT {}"
    assert values(vectors, near.format("[1, 0]", 2)) == [(0,), (5,)]
    assert values(vectors, near.format("?", "?"), (1.0, 1.0), 1) == [(2,)], "of the angles, without an index"
    assert values(vectors, near.format("[1, 0]", 10)) == [(0,), (5,), (2,), (1,)], "zeros have no direction"
    where = "SELECT k FROM ve WHERE g = 1 ORDER BY v ANN OF [1, 0] LIMIT 1 ALLOW FILTERING"
    assert values(vectors, where) == [(5,)]
    assert "not all zeros" in vectors.error(near.format("[0, 0]", 1)).message
    vectors.run("CREATE CUSTOM INDEX near ON ve (v) USING 'StorageAttachedIndex' "
                "WITH OPTIONS = {'similarity_function': 'EUCLIDEAN'}")  # fmt: skip
    settle(vectors.cluster)
    assert values(vectors, near.format("[1, 1]", 1)) == [(5,)], "of the distances"
    with pytest.raises(AssertionError, match="went well"):
        vectors.error("SELECT k FROM ve WHERE v = [1, 0]")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SELECT k FROM ve ORDER BY v ANN OF [1, 0]", "LIMIT was NO LIMIT"),
        ("SELECT k FROM ve ORDER BY v ANN OF [1, 0] LIMIT 1001", "LIMIT was 1001"),
        ("SELECT k FROM ve ORDER BY g ANN OF [1, 0] LIMIT 1", "only supported on float vector columns"),
        ("SELECT k FROM ve ORDER BY v ANN OF [1] LIMIT 1", "expected 2 elements, but given 1"),
        ("SELECT count(*) FROM ve ORDER BY v ANN OF [1, 0] LIMIT 1", "no aggregates"),
        ("SELECT k FROM ve ORDER BY v ANN OF [1, 0], k ASC LIMIT 1", "stands alone"),
    ],
)
def test_what_ann_of_needs(vectors: Cql, text: str, said: str) -> None:
    assert said in vectors.error(text).message


def test_a_batch_of_several_partitions_has_a_size(cql: Cql) -> None:
    cql.run("CREATE TABLE large (k int PRIMARY KEY, t text)")
    settle(cql.cluster)
    insert = "INSERT INTO large (k, t) VALUES ({}, '{}'); "
    several = "".join(insert.format(k, "x" * 6000) for k in range(10))
    assert "Batch too large" in cql.error(f"BEGIN BATCH {several} APPLY BATCH").message
    one = "".join(insert.format(1, "x" * 60_000) for _ in range(2))
    assert cql.run(f"BEGIN BATCH {one} APPLY BATCH") == []


def test_system_tables_that_tools_look_into(cql: Cql) -> None:
    cql.run("CREATE INDEX IF NOT EXISTS r_v ON r (v)")
    settle(cql.cluster)
    found = cql.run("SELECT * FROM system.\"IndexInfo\" WHERE table_name = 'ks' AND index_name = 'r_v'")
    assert found == [{"table_name": "ks", "index_name": "r_v", "value": None}]
    for name in ("built_views", "available_ranges", "batches", "compaction_history", "paxos"):
        assert cql.run(f"SELECT * FROM system.{name}") == []


def test_system_keyspaces_are_told_as_cassandra_tells_them(cql: Cql) -> None:
    there = {row["keyspace_name"] for row in cql.run("SELECT keyspace_name FROM system_schema.keyspaces")}
    assert {"ks", "system", "system_schema", "system_auth", "system_traces"} <= there
    virtual = cql.run("SELECT keyspace_name FROM system_virtual_schema.keyspaces")
    assert [row["keyspace_name"] for row in virtual] == ["system_views", "system_virtual_schema"]
    local = "SELECT type FROM system_schema.columns WHERE keyspace_name = 'system' AND table_name = 'local'"
    assert {"type": "uuid"} in cql.run(local)
    with pytest.raises(AssertionError, match="went well"):
        cql.error("SELECT * FROM system_views.settings")


def test_many_small_rows_make_a_batch_that_is_warned_of(cql: Cql) -> None:
    cql.run("CREATE TABLE small (k int, c int, v int, PRIMARY KEY (k, c))")
    settle(cql.cluster)
    inserts = "".join(f"INSERT INTO small (k, c, v) VALUES ({k}, 1, 1) " for k in range(213))
    cql.run(f"BEGIN BATCH {inserts} APPLY BATCH")
    (warning,) = cql.warnings
    assert "exceeding specified threshold of 5KiB" in warning


@pytest.mark.parametrize(
    ("text", "level", "said"),
    [
        ("SELECT * FROM t WHERE k = 1", Level.ANY, "ANY ConsistencyLevel is only supported for writes"),
        ("SELECT * FROM t", Level.SERIAL, "may only be requested for one partition at a time"),
        (
            "INSERT INTO t (k) VALUES (1)",
            Level.SERIAL,
            "You must use conditional updates for serializable writes",
        ),
    ],
)
def test_levels_that_cannot_be_asked_for(cql: Cql, text: str, level: Level, said: str) -> None:
    error = cql.error(text, consistency=level)
    assert isinstance(error, wire.Invalid)
    assert said in error.message


# --- points in time


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("floor(t, 1h)", "2024-05-17T13:00:00.000Z"),
        ("floor(t, 7m)", "2024-05-17T13:41:00.000Z"),
        ("floor(t, 2d)", "2024-05-17T00:00:00.000Z"),
        ("floor(t, 1mo)", "2024-05-01T00:00:00.000Z"),
        ("floor(t, 1y)", "2024-01-01T00:00:00.000Z"),
        ("floor(t, 1mo, '2024-01-31 12:00:00Z')", "2024-04-30T12:00:00.000Z"),
        ("floor(t, 1h, '2024-05-17 00:30:00Z')", "2024-05-17T13:30:00.000Z"),
        ("floor(d, 1w)", "2024-05-16"),
        ("floor(d, 3mo)", "2024-04-01"),
        ("floor(o, 1h)", "13:00:00.000000000"),
        ("floor(o, 90m)", "13:30:00.000000000"),
    ],
)
def test_points_in_time_are_rounded_down(cql: Cql, call: str, expected: str) -> None:
    cql.run("CREATE TABLE IF NOT EXISTS fl (k int, t timestamp, d date, o time, v int, PRIMARY KEY (k, t))")
    settle(cql.cluster)
    cql.run(
        "INSERT INTO fl (k, t, d, o, v) VALUES (1, '2024-05-17 13:45:10.5Z', '2024-05-17', '13:45:10.5', 1)"
    )
    assert values(cql, f"SELECT cast({call} AS text) FROM fl WHERE k = 1") == [(expected,)]


def test_rows_are_grouped_by_the_hour(cql: Cql) -> None:
    cql.run("CREATE TABLE hours (k int, t timestamp, v int, PRIMARY KEY (k, t))")
    settle(cql.cluster)
    for minute in range(0, 300, 20):
        time = f"2024-05-17 {10 + minute // 60}:{minute % 60:02d}:00Z"
        cql.run(f"INSERT INTO hours (k, t, v) VALUES (1, '{time}', {minute})")
    text = "SELECT floor(t, 2h), max(v) FROM hours WHERE k = 1 GROUP BY k, floor(t, 2h)"
    assert [row["system.max(v)"] for row in cql.run(text)] == [100, 220, 280]
    assert [[row["system.max(v)"] for row in page] for page in cql.pages(text, 1)] == [[100], [220], [280]]
    assert "last element" in cql.error("SELECT k FROM hours GROUP BY k, floor(t, 1h), t").message
    assert "Negative durations" in cql.error("SELECT floor(t, -1h) FROM hours").message


def test_a_text_is_a_point_in_time_where_one_is_expected(cql: Cql) -> None:
    cql.run("CREATE TABLE days (k int PRIMARY KEY, t 'org.apache.cassandra.db.marshal.TimestampType')")
    settle(cql.cluster)
    cql.run("INSERT INTO days (k, t) VALUES (1, '2024-05-17' - 2d)")
    assert values(cql, "SELECT k FROM days WHERE t = '2024-05-15' ALLOW FILTERING") == [(1,)]
    assert values(cql, "SELECT k FROM days WHERE t > '2024-05-15' - 1d ALLOW FILTERING") == [(1,)]
    (column,) = cql.run("SELECT type FROM system_schema.columns WHERE keyspace_name = 'ks' "
                        "AND table_name = 'days' AND column_name = 't'")  # fmt: skip
    assert column == {"type": "timestamp"}


def test_a_number_of_no_bytes_is_null(cql: Cql) -> None:
    cql.run("INSERT INTO t (k, v) VALUES (70, blobAsInt(0x))")
    assert values(cql, "SELECT v FROM t WHERE k = 70") == [(None,)]
    prepared = cql.good(wire.Prepare("INSERT INTO t (k, v) VALUES (?, ?)"))
    assert isinstance(prepared, wire.Prepared)
    cql.run("INSERT INTO t (k, v) VALUES (71, 5)")
    cql.good(wire.Execute(prepared.id, cql.parameters([b"\0\0\0\x47", b""]), prepared.result.id))
    assert values(cql, "SELECT v FROM t WHERE k = 71") == [(None,)]
    error = cql.send(wire.Execute(prepared.id, cql.parameters([b"", b""]), prepared.result.id))
    assert isinstance(error, wire.Invalid) and "null" in error.message
