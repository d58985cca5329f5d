"""What is refused, by which error of the protocol, and in the words of Cassandra, which tools look for."""

from __future__ import annotations

import pytest

from cql_lite import wire
from tests.cql_lite.whole import Cql, cluster_of, settle

ONES = "1" * 5_000
TABLES = """
CREATE TYPE addr (street text, zip int);
CREATE TABLE a (k int, c int, d int, v int, t text, PRIMARY KEY (k, c, d));
CREATE TABLE sv (k int, c int, s int static, v int, PRIMARY KEY (k, c));
CREATE TABLE b (k int PRIMARY KEY, v int, l list<int>, st set<text>, m map<text, int>, fl frozen<list<int>>,
  tp tuple<int, text>, x addr, fx frozen<addr>, ve vector<float, 3>, w duration, u timeuuid, bl blob,
  dt date);
CREATE TABLE ct (k int PRIMARY KEY, n counter, n2 counter);
CREATE TABLE tx (k text PRIMARY KEY);
CREATE INDEX b_v_idx ON b (v)
"""


@pytest.fixture(scope="module")
def cql() -> Cql:
    client = Cql(cluster_of(1))
    client.run("USE ks")
    for text in TABLES.split(";"):
        client.run(text)
        settle(client.cluster)
    client.run("INSERT INTO b (k, v, l) VALUES (1, 1, [1, 2])")
    return client


REFUSED: dict[type[wire.Error], list[tuple[str, str]]] = {
    wire.Unauthorized: [("DROP KEYSPACE system", "system keyspace is not user-modifiable")],
    wire.AlreadyExists: [
        ("CREATE TABLE a (k int PRIMARY KEY)", "Table 'ks.a' already exists"),
        ("CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
         "Keyspace 'ks' already exists"),
    ],
    wire.FunctionFailure: [
        ("SELECT v / 0 FROM b", "the operation 'int / int' failed: / by zero"),
        ("INSERT INTO b (k, v) VALUES (1, fromJson('\"x\"'))", "Unable to make int from"),
    ],
    wire.SyntaxFault: [
        ("DELETE FROM a", "WHERE"),
        ("SELECT *, k FROM a", "FROM"),
        ("CREATE KEYSPACE x WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1} AND f=1",
         "Unknown property 'f'"),
        ("CREATE KEYSPACE x WITH replication = 'SimpleStrategy'", "Invalid value for option 'replication'"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH foo = 1", "Unknown property 'foo'"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH compaction = 'x'", "Invalid value for option 'compaction'"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH gc_grace_seconds = 'x'", "Invalid integer value x"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH min_index_interval = 'x'", "Invalid integer value x"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH crc_check_chance = 'x'", "Invalid double value x"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH cdc = 5", "Invalid boolean value 5"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH max_index_interval = 9999999999",
         "Invalid integer value 9999999999 for 'max_index_interval'"),
        (f"CREATE TABLE x (k int PRIMARY KEY) WITH min_index_interval = '{ONES}'",
         "Invalid integer value 1111"),
    ],
    wire.ConfigError: [
        ("CREATE KEYSPACE x WITH replication = {'class': 'Nope'}",
         "Unable to find replication strategy class"),
        ("CREATE KEYSPACE x WITH replication = {'class': 'SimpleStrategy'}", "requires a replication_factor"),
        ("CREATE KEYSPACE x WITH replication = {'replication_factor': 1}",
         "Missing replication strategy class"),
        ("CREATE KEYSPACE x WITH durable_writes = true", "Missing mandatory option 'replication'"),
        ("CREATE KEYSPACE x WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 'x'}",
         "Replication factor must be an integer"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH gc_grace_seconds = -1",
         "gc_grace_seconds must be greater than or equal to 0"),
        ("CREATE TABLE x (k int PRIMARY KEY) WITH default_time_to_live = 630720001",
         "default_time_to_live must be less than or equal to 630720000"),
        (f"CREATE TABLE x (k int PRIMARY KEY) WITH gc_grace_seconds = {ONES}",
         "gc_grace_seconds must be less than or equal to"),
        (f"CREATE TABLE x (k int PRIMARY KEY) WITH compression={{'class': '', 'chunk_length_kb':'{ONES}'}}",
         "for chunk_length_kb"),
        ("CREATE CUSTOM INDEX x ON b (bl) USING 'nope.Nope'", "Unable to find custom indexer class"),
    ],
    wire.Invalid: [
        # the schema
        ("USE nope", "Keyspace 'nope' does not exist"),
        ("DROP KEYSPACE nope", "Keyspace 'nope' doesn't exist"),
        ("CREATE TABLE nope.t (k int PRIMARY KEY)", "Keyspace 'nope' doesn't exist"),
        ("SELECT * FROM nope.t", "keyspace nope does not exist"),
        ("SELECT * FROM nope", "unconfigured table nope: table nope does not exist"),
        ("DROP TABLE nope", "Table 'ks.nope' doesn't exist"),
        ("ALTER TABLE nope ADD x int", "Table 'ks.nope' doesn't exist"),
        ("DROP TYPE nope", "Type 'ks.nope' doesn't exist"),
        ("DROP INDEX nope", "Index 'ks.nope' doesn't exist"),
        ("CREATE TABLE x (k int, v text)", "No PRIMARY KEY specifed for table 'x'"),
        ("CREATE TABLE x (k int PRIMARY KEY, PRIMARY KEY (k))", "Multiple PRIMARY KEY"),
        ("CREATE TABLE x (k int, PRIMARY KEY (k, c))", "Unknown column 'c' referenced in PRIMARY KEY"),
        ("CREATE TABLE x (k int, k text, PRIMARY KEY (k))", "Duplicate column 'k' declaration"),
        ("CREATE TABLE x (k int, PRIMARY KEY (k, k))", "Duplicate column 'k' in PRIMARY KEY"),
        ("CREATE TABLE x (k list<int> PRIMARY KEY)", "Invalid non-frozen collection type"),
        ("CREATE TABLE x (k addr PRIMARY KEY)", "Invalid non-frozen user-defined type"),
        ("CREATE TABLE x (k counter PRIMARY KEY)",
         "counter type is not supported for PRIMARY KEY column 'k'"),
        ("CREATE TABLE x (k int PRIMARY KEY, v int, n counter)",
         "Cannot mix counter and non counter columns"),
        ("CREATE TABLE x (k int PRIMARY KEY, l list<list<int>>)",
         "Non-frozen collections are not allowed inside collections"),
        ("CREATE TABLE x (k int PRIMARY KEY, l list<addr>)",
         "Non-frozen UDTs are not allowed inside collections"),
        ("CREATE TABLE x (k int PRIMARY KEY, m map<duration, int>)", "Durations are not allowed as map keys"),
        ("CREATE TABLE x (k int PRIMARY KEY, s int STATIC)", "Static columns are only useful"),
        ("CREATE TABLE x (k int, c int, d int, PRIMARY KEY (k, c, d)) WITH CLUSTERING ORDER BY (d ASC)",
         "Missing CLUSTERING ORDER for column c"),
        ("CREATE TABLE x (k int PRIMARY KEY, v text MASKED WITH DEFAULT)", "Cannot mask columns"),
        ("CREATE TABLE x LIKE a", "CREATE TABLE LIKE is not supported"),
        ("ALTER TABLE b ADD v int", "Column with name 'v' already exists"),
        ("ALTER TABLE b DROP nope", "Column nope was not found in table 'ks.b'"),
        ("ALTER TABLE b DROP k", "Cannot drop PRIMARY KEY column k"),
        ("ALTER TABLE b DROP v", "Cannot drop column v because it has dependent secondary indexes"),
        ("ALTER TABLE b RENAME v TO z", "Cannot rename non PRIMARY KEY column v"),
        ("ALTER TABLE b ALTER v TYPE text", "Altering column types is no longer supported"),
        ("ALTER TABLE b ADD n counter", "Cannot add a counter column"),
        ("CREATE TYPE addr (a int)", "A user type with name 'addr' already exists"),
        ("CREATE TYPE y (a int, a int)", "Duplicate field name"),
        ("ALTER TYPE addr ADD zip int", "a field with name zip already exists"),
        ("ALTER TYPE addr ALTER zip TYPE text", "Altering field types is no longer supported"),
        ("DROP TYPE addr", "Cannot drop user type 'ks.addr' as it is still used by"),
        ("CREATE INDEX b_v_idx ON b (x)", "Cannot create index on non-frozen UDT column x"),
        ("CREATE INDEX b_v_idx ON b (bl)", "Index 'b_v_idx' already exists"),
        ("CREATE INDEX y ON b (v)", "is a duplicate of existing index b_v_idx"),
        ("CREATE INDEX ON b (nope)", "Column 'nope' doesn't exist"),
        ("CREATE INDEX ON b (w)", "Secondary indexes are not supported on duration columns"),
        ("CREATE INDEX ON ct (n)", "Secondary indexes are not supported on counter tables"),
        ("CREATE CUSTOM INDEX y ON b (bl)", "CUSTOM index requires specifying the index class"),
        ("CREATE FUNCTION f (a int) CALLED ON NULL INPUT RETURNS int LANGUAGE java AS 'x'",
         "User-defined functions are disabled"),
        ("CREATE OR REPLACE AGGREGATE g (int) SFUNC f STYPE int", "aggregates are disabled"),
        ("CREATE MATERIALIZED VIEW y AS SELECT * FROM b", "Materialized views are disabled"),
        ("DROP FUNCTION f(int)", "Function 'ks.f' doesn't exist"),
        # values
        ("INSERT INTO b (k, v) VALUES (1, 'x')", 'Invalid STRING constant (x) for "v" of type int'),
        ("INSERT INTO b (k, v) VALUES (1, 0xff)", 'Invalid HEX constant (0xff) for "v" of type int'),
        ("INSERT INTO b (k, v) VALUES (1, 99999999999)", "Unable to make int from '99999999999'"),
        ("INSERT INTO b (k, v) VALUES (1, [1])", "Invalid list literal for v of type int"),
        ("INSERT INTO b (k, l) VALUES (1, ['a'])",
         "Invalid list literal for l: value 'a' is not of type int"),
        ("INSERT INTO b (k, l) VALUES (1, [null])", "null is not supported inside collections"),
        ("INSERT INTO b (k, tp) VALUES (1, (1, 'a', 2))", "Invalid tuple literal for tp: too many elements"),
        ("INSERT INTO b (k, tp) VALUES (1, ('a', 'a'))",
         "Invalid tuple literal for tp: component 0 is not of type int"),
        ("INSERT INTO b (k, x) VALUES (1, {zip: 'a'})",
         "Invalid user type literal for x: field zip is not of type int"),
        ("INSERT INTO b (k, x) VALUES (1, {nope: 1})", "Unknown field 'nope' in value of user defined type"),
        ("INSERT INTO b (k, ve) VALUES (1, [1, 2])", "expected 3 elements, but given 2"),
        ("INSERT INTO b (k, dt) VALUES (1, '2015-13-01')",
         "Unable to coerce '2015-13-01' to a formatted date (long)"),
        ("INSERT INTO b (k, w) VALUES (1, 1h2h)", "Invalid duration. The hours are set multiple times"),
        ("INSERT INTO b (k, u) VALUES (1, 99b7d0d0-eaa2-41de-a572-001b779c76e3)",
         "Invalid version for TimeUUID type"),
        ("INSERT INTO b (k, v) VALUES (1, now())", "Type error: cannot assign result of function system.now"),
        ("INSERT INTO b (k, v) VALUES (1, nofn())", "Unknown function nofn called"),
        ("INSERT INTO b (k, v) VALUES (1, blobAsInt(0x01))",
         "value 0x01 is not a valid binary representation"),
        ("INSERT INTO b JSON '{\"k\": 1, \"nope\": 1}'",
         "JSON values map contains unrecognized column: nope"),
        ("INSERT INTO b JSON '[1]'", "Could not decode JSON string as a map"),
        ("INSERT INTO b JSON '{\"k\": 1, \"v\": \"x\"}'", "Error decoding JSON value for v"),
        # writes
        ("INSERT INTO a (k, c) VALUES (1, 1)", "Some clustering keys are missing: d"),
        ("INSERT INTO a (c) VALUES (1)", "Some partition key parts are missing: k"),
        ("INSERT INTO a (k, c, d, nope) VALUES (1, 1, 1, 1)", "Undefined column name nope"),
        ("INSERT INTO a (k, c, d) VALUES (1, 1)", "Unmatched column names/values"),
        ("INSERT INTO a (k, c, d, d) VALUES (1, 1, 1, 1)", "The column names contains duplicates"),
        ("INSERT INTO a (k, c, d) VALUES (null, 1, 1)", "Invalid null value in condition for column k"),
        ("INSERT INTO tx (k) VALUES ('')", "Key may not be empty"),
        ("INSERT INTO b (k) VALUES (1) USING TTL -1", "A TTL must be greater or equal to 0, but was -1"),
        ("INSERT INTO b (k) VALUES (1) USING TTL 630720001",
         "ttl is too large. requested (630720001) maximum (630720000)"),
        ("INSERT INTO b (k) VALUES (1) IF NOT EXISTS USING TIMESTAMP 1",
         "Cannot provide custom timestamp for conditional updates"),
        ("UPDATE a SET v = 1 WHERE k = 1", "Some clustering keys are missing: c, d"),
        ("UPDATE a SET v = 1 WHERE k = 1 AND d = 1", "Some clustering keys are missing: c"),
        ("UPDATE a SET v = 1 WHERE c = 1 AND d = 1", "Some partition key parts are missing: k"),
        ("UPDATE a SET v = 1 WHERE k = 1 AND c = 1 AND d > 1", "Slice restrictions are not supported"),
        ("UPDATE b SET v = 1 WHERE k = 1 AND l = [1]", "Non PRIMARY KEY columns found in where clause: l"),
        ("UPDATE b SET v = 1 WHERE token(k) = 1", "The token function cannot be used in WHERE clauses"),
        ("UPDATE b SET v = 1 WHERE k > 1", "Only EQ and IN relation are supported on the partition key"),
        ("UPDATE b SET k = 1 WHERE k = 1", "PRIMARY KEY part k found in SET part"),
        ("UPDATE b SET v = 1, v = 2 WHERE k = 1", "Multiple incompatible setting of column v"),
        ("UPDATE b SET v = v + 1 WHERE k = 1", "Invalid operation (v = v + 1) for non counter column v"),
        ("UPDATE b SET l[5] = 1 WHERE k = 1", "List index 5 out of bound, list has size 2"),
        ("UPDATE b SET l[0] = 1 WHERE k = 77", "Attempted to set an element on a list which is null"),
        ("DELETE l[0] FROM b WHERE k = 77", "Attempted to delete an element from a list which is null"),
        ("UPDATE b SET m[null] = 1 WHERE k = 1", "Invalid null map key"),
        ("UPDATE b SET st['x'] = 1 WHERE k = 1", "Invalid operation (st['x'] = 1) for set column st"),
        ("UPDATE b SET fl[0] = 1 WHERE k = 1",
         "Invalid operation (fl[0] = 1) for frozen collection column fl"),
        ("UPDATE b SET fl = fl + [1] WHERE k = 1", "for frozen collection column fl"),
        ("UPDATE b SET v[0] = 1 WHERE k = 1", "Invalid operation (v[0] = 1) for non collection column v"),
        ("UPDATE b SET fx.zip = 1 WHERE k = 1", "Invalid operation (fx.zip = 1) for frozen UDT column fx"),
        ("UPDATE b SET x.nope = 1 WHERE k = 1", "UDT column x does not have a field named nope"),
        ("UPDATE sv SET s = 1 WHERE k = 1 AND c = 1",
         "Invalid restrictions on clustering columns since the UPDATE statement modifies only static"),
        ("DELETE v FROM a WHERE k = 1", "Range deletions are not supported for specific columns"),
        ("DELETE k FROM b WHERE k = 1", "Invalid identifier k for deletion"),
        ("DELETE v[0] FROM b WHERE k = 1", "Invalid deletion operation for non collection column v"),
        ("DELETE FROM a WHERE k = 1 AND d = 1",
         'PRIMARY KEY column "d" cannot be restricted as preceding column "c" is not restricted'),
        # conditions
        ("UPDATE b SET v = 1 WHERE k IN (1, 2) IF v = 1", "IN on the partition key is not supported with"),
        ("UPDATE sv SET v = 1 WHERE k = 1 AND c IN (1, 2) IF v = 1",
         "IN on the clustering key columns is not supported with conditional updates"),
        ("DELETE FROM sv WHERE k = 1 IF EXISTS",
         "DELETE statements must restrict all PRIMARY KEY columns with equality relations"),
        ("UPDATE b SET v = 1 WHERE k = 1 IF k = 1", "PRIMARY KEY column 'k' cannot have IF conditions"),
        ("UPDATE b SET v = 1 WHERE k = 1 IF v > null", 'Invalid comparison with null for operator ">"'),
        # counters and batches
        ("INSERT INTO ct (k, n) VALUES (1, 1)", "INSERT statements are not allowed on counter tables"),
        ("UPDATE ct SET n = 5 WHERE k = 1", "Cannot set the value of counter column n"),
        ("UPDATE ct USING TTL 5 SET n = n + 1 WHERE k = 1", "Cannot provide custom TTL for counter updates"),
        ("DELETE FROM ct USING TIMESTAMP 5 WHERE k = 1",
         "Cannot provide custom timestamp for counter updates"),
        ("UPDATE ct SET n = n + 1 WHERE k = 1 IF EXISTS", "Conditional updates are not supported on counter"),
        ("UPDATE ct SET n = n + null WHERE k = 1", "Invalid null value for counter increment"),
        ("BEGIN BATCH UPDATE ct SET n = n + 1 WHERE k = 1; APPLY BATCH",
         "Cannot include a counter statement in a logged batch"),
        ("BEGIN COUNTER BATCH INSERT INTO b (k) VALUES (1) APPLY BATCH",
         "Cannot include non-counter statement in a counter batch"),
        ("BEGIN UNLOGGED BATCH UPDATE ct SET n = n + 1 WHERE k = 1 INSERT INTO b (k) VALUES (1) APPLY BATCH",
         "Counter and non-counter mutations cannot exist in the same batch"),
        # reads
        ("SELECT nope FROM b", "Undefined column name nope in table ks.b"),
        ("SELECT * FROM b WHERE l CONTAINS 1",
         "Cannot execute this query as it might involve data filtering and thus may have unpredictable"),
        ("SELECT * FROM b WHERE k > 1", "use ALLOW FILTERING"),
        ("SELECT * FROM a WHERE k = 1 AND d = 1",
         'PRIMARY KEY column "d" cannot be restricted as preceding column "c" is not restricted'),
        ("SELECT * FROM a WHERE k = 1 AND c > 1 AND d = 1",
         'Clustering column "d" cannot be restricted (preceding column "c" is restricted by a non-EQ'),
        ("SELECT * FROM b WHERE k = 1 AND k = 2",
         "k cannot be restricted by more than one relation if it includes an Equal"),
        ("SELECT * FROM a WHERE k = 1 AND c > 1 AND c > 2",
         "More than one restriction was found for the start bound on c"),
        ("SELECT * FROM b WHERE token(k) < 1 AND token(k) <= 2",
         "More than one restriction was found for the end bound on k"),
        ("SELECT * FROM b WHERE k = 1 AND token(k) > 1", 'Columns "k" cannot be restricted by both a normal'),
        ("SELECT * FROM b WHERE k = null", "Invalid null value in condition for column k"),
        ("SELECT * FROM b WHERE bl = null ALLOW FILTERING", "Unsupported null value for column bl"),
        ("SELECT * FROM b WHERE l = [1] ALLOW FILTERING", "cannot be restricted by a '=' relation"),
        ("SELECT * FROM b WHERE x = {zip: 1} ALLOW FILTERING",
         "Non-frozen UDT column 'x' (addr) cannot be restricted by any relation"),
        ("SELECT * FROM b WHERE v CONTAINS 1 ALLOW FILTERING",
         "Cannot use CONTAINS on non-collection column v"),
        ("SELECT * FROM b WHERE l CONTAINS KEY 1 ALLOW FILTERING",
         "Cannot use CONTAINS KEY on non-map column l"),
        ("SELECT * FROM tx WHERE k LIKE 'a%'",
         "LIKE restriction is only supported on properly indexed columns"),
        ("SELECT * FROM a WHERE k = 1 AND (c, v) > (1, 1)",
         "Multi-column relations can only be applied to clustering columns but was applied to: v"),
        ("SELECT * FROM a ORDER BY c", "ORDER BY is only supported when the partition key is restricted"),
        ("SELECT * FROM a WHERE k = 1 ORDER BY v",
         "Order by is currently only supported on the clustered columns of the PRIMARY KEY, got v"),
        ("SELECT * FROM b LIMIT 0", "LIMIT must be strictly positive"),
        ("SELECT DISTINCT k FROM sv PER PARTITION LIMIT 1",
         "PER PARTITION LIMIT is not allowed with SELECT DISTINCT queries"),
        ("SELECT count(*) FROM sv PER PARTITION LIMIT 1",
         "PER PARTITION LIMIT is not allowed with aggregate queries"),
        ("SELECT DISTINCT k FROM sv WHERE v = 1 ALLOW FILTERING",
         "SELECT DISTINCT with WHERE clause only supports restriction by partition key"),
        ("SELECT * FROM a WHERE (c, d) > (1, 1) ALLOW FILTERING",
         "Multi-column slice restrictions cannot be used for filtering"),
        ("SELECT DISTINCT k, v FROM sv", "SELECT DISTINCT queries must only request partition key columns"),
        ("SELECT DISTINCT k FROM a GROUP BY k, c", "Grouping on clustering columns is not allowed"),
        ("SELECT k FROM a GROUP BY v",
         "Group by is currently only supported on the columns of the PRIMARY KEY"),
        ("SELECT sum(k) FROM tx", "Invalid call to function sum, none of its type signatures match"),
        ("SELECT count(max(v)) FROM b", "aggregate functions cannot be used as arguments"),
        ("SELECT nofn(v) FROM b", "Unknown function 'nofn'"),
        ("SELECT v.x FROM b", "Invalid field selection: v of type int is not a user type"),
        ("SELECT v[0] FROM b", "Invalid element selection: v is of type int is not a collection"),
        ("SELECT ttl(k) FROM b", "Cannot use selection function ttl on PRIMARY KEY part k"),
        ("SELECT cast(k as int) FROM tx", "text cannot be cast to int"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "text", "said"), [(kind, *pair) for kind, pairs in REFUSED.items() for pair in pairs]
)
def test_what_is_refused_and_how(cql: Cql, kind: type[wire.Error], text: str, said: str) -> None:
    error = cql.error(text)
    assert isinstance(error, kind), error
    assert said in error.message, error.message


def test_dropping_what_there_is_none_of_succeeds_with_if_exists(cql: Cql) -> None:
    for what in ("FUNCTION IF EXISTS f", "FUNCTION IF EXISTS f (int, frozen<list<text>>)",
                 "AGGREGATE IF EXISTS f", "MATERIALIZED VIEW IF EXISTS f",
                 "TRIGGER IF EXISTS f ON a", "TABLE IF EXISTS f"):  # fmt: skip
        assert cql.run(f"DROP {what}") == []
