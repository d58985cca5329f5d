"""What statements about the schema and about roles parse to, and that printing them is the way back."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from core.schema import (
    CLUSTERING,
    NETWORK_TOPOLOGY,
    PARTITION,
    REGULAR,
    STATIC,
    Column,
    Index,
    Keyspace,
    Replication,
    Table,
    TableOptions,
    TypeField,
    UserType,
)
from cql_lite import ast, describe
from cql_lite.ast import (
    ClusteringOrder,
    ColumnDefinition,
    IndexTarget,
    Name,
    Option,
    QualifiedName,
    Resource,
    RoleOptions,
    Type,
)
from cql_lite.formatting_schema import statement
from cql_lite.parser import parse

T = QualifiedName("", "t")
KT = QualifiedName("ks", "t")
INT = Type("int")
A_INT = ColumnDefinition("a", INT)
B_INT = ColumnDefinition("b", INT)
A, B, C = Name("a"), Name("b"), Name("c")
REPLICATION = Option("replication", (("class", "SimpleStrategy"), ("replication_factor", "3")))

SCHEMA: list[tuple[str, ast.Statement]] = [
    (
        "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
        ast.CreateKeyspace(Name("ks"), (REPLICATION,)),
    ),
    (
        (
            "create schema if not exists \"Ks\" with REPLICATION = {'class': 'SimpleStrategy', "
            "'replication_factor': '3'} AND durable_writes = FALSE;"
        ),
        ast.CreateKeyspace(Name("Ks"), (REPLICATION, Option("durable_writes", "false")), if_not_exists=True),
    ),
    (
        "ALTER KEYSPACE IF EXISTS ks WITH durable_writes = true",
        ast.AlterKeyspace(Name("ks"), (Option("durable_writes", "true"),), if_exists=True),
    ),
    ("DROP KEYSPACE ks", ast.DropKeyspace(Name("ks"))),
    ("DROP SCHEMA IF EXISTS ks", ast.DropKeyspace(Name("ks"), if_exists=True)),
    ("CREATE TABLE t (a int PRIMARY KEY)", ast.CreateTable(T, (A_INT,), (A,))),
    ("CREATE TABLE t (a int, PRIMARY KEY (a),)", ast.CreateTable(T, (A_INT,), (A,))),
    ("CREATE TABLE t (PRIMARY KEY ((a)), a int)", ast.CreateTable(T, (A_INT,), (A,))),
    (
        "CREATE COLUMNFAMILY IF NOT EXISTS ks.t (a int, b int, PRIMARY KEY (a, b))",
        ast.CreateTable(KT, (A_INT, B_INT), (A,), (B,), if_not_exists=True),
    ),
    (
        (
            "CREATE TABLE t (a int, b int, c text STATIC, d counter, PRIMARY KEY ((a, b), c, d)) WITH "
            "CLUSTERING ORDER BY (c DESC, d ASC) AND comment = 'it''s' AND default_time_to_live = 5 "
            "AND compaction = {'class': 'X', 'n': 4} AND speculative_retry = '99p' "
            "AND crc_check_chance = 0.01"
        ),
        ast.CreateTable(
            T,
            (
                A_INT,
                B_INT,
                ColumnDefinition("c", Type("text"), static=True),
                ColumnDefinition("d", Type("counter")),
            ),
            (A, B),
            (C, Name("d")),
            (ClusteringOrder("c", descending=True), ClusteringOrder("d")),
            (
                Option("comment", "it's"),
                Option("default_time_to_live", "5"),
                Option("compaction", (("class", "X"), ("n", "4"))),
                Option("speculative_retry", "99p"),
                Option("crc_check_chance", "0.01"),
            ),
        ),
    ),
    (
        "CREATE TABLE t (a int PRIMARY KEY) WITH COMPACT STORAGE AND caching = {}",
        ast.CreateTable(T, (A_INT,), (A,), options=(Option("caching", ()),), compact_storage=True),
    ),
    ("ALTER TABLE t ADD a int", ast.AddColumns(T, (A_INT,))),
    (
        "ALTER TABLE IF EXISTS t ADD IF NOT EXISTS (a int, b text static)",
        ast.AddColumns(T, (A_INT, ColumnDefinition("b", Type("text"), static=True)), True, True),
    ),
    ("ALTER TABLE t ADD a int, b int", ast.AddColumns(T, (A_INT, B_INT))),
    ("ALTER TABLE t DROP a", ast.DropColumns(T, (A,))),
    (
        "ALTER TABLE t DROP IF EXISTS (a, b) USING TIMESTAMP 7",
        ast.DropColumns(T, (A, B), if_column_exists=True, timestamp=ast.Literal(ast.INTEGER, "7")),
    ),
    ("ALTER TABLE t RENAME a TO b AND b TO c", ast.RenameColumns(T, ((A, B), (B, C)))),
    ("ALTER TABLE t RENAME IF EXISTS a TO b", ast.RenameColumns(T, ((A, B),), if_column_exists=True)),
    (
        "ALTER TABLE t WITH comment = '' AND gc_grace_seconds = 10",
        ast.AlterTable(T, (Option("comment", ""), Option("gc_grace_seconds", "10"))),
    ),
    ("DROP TABLE IF EXISTS ks.t", ast.DropTable(KT, if_exists=True)),
    ("TRUNCATE t", ast.Truncate(T)),
    ("TRUNCATE TABLE ks.t", ast.Truncate(KT)),
    (
        "CREATE TYPE IF NOT EXISTS ks.t (a int, b int)",
        ast.CreateType(KT, (A_INT, B_INT), if_not_exists=True),
    ),
    ("ALTER TYPE t ADD a int", ast.AddFields(T, (A_INT,))),
    ("ALTER TYPE IF EXISTS t ADD IF NOT EXISTS a int", ast.AddFields(T, (A_INT,), True, True)),
    ("ALTER TYPE t RENAME a TO b AND c TO a", ast.RenameFields(T, ((A, B), (C, A)))),
    ("DROP TYPE IF EXISTS ks.t", ast.DropType(KT, if_exists=True)),
    ("CREATE INDEX ON t (a)", ast.CreateIndex("", T, (IndexTarget("a"),))),
    ('CREATE INDEX "I" ON ks.t (keys(a))', ast.CreateIndex("I", KT, (IndexTarget("a", "keys"),))),
    (
        "CREATE CUSTOM INDEX IF NOT EXISTS i ON t (ENTRIES(a)) USING 'sai' WITH OPTIONS = {'x': 'y'}",
        ast.CreateIndex("i", T, (IndexTarget("a", "entries"),), "sai", (("x", "y"),), True, True),
    ),
    ("CREATE INDEX i ON t (values(a))", ast.CreateIndex("i", T, (IndexTarget("a", "values"),))),
    ("CREATE INDEX i ON t (full(a))", ast.CreateIndex("i", T, (IndexTarget("a", "full"),))),
    ("CREATE INDEX i ON t (values)", ast.CreateIndex("i", T, (IndexTarget("values"),))),
    ("DROP INDEX IF EXISTS ks.t", ast.DropIndex(KT, if_exists=True)),
    ('USE "Ks"', ast.Use(Name("Ks"))),
]


@pytest.mark.parametrize(("cql", "expected"), SCHEMA, ids=[cql[:60] for cql, _ in SCHEMA])
def test_schema_statements_parse_and_print(cql: str, expected: ast.Statement) -> None:
    assert parse(cql) == expected
    assert isinstance(expected, ast.SchemaStatement)
    assert parse(statement(expected)) == expected


TYPES = [
    ("int", "int"),
    ("TEXT", "text"),
    ("list<Int>", "list<int>"),
    ("frozen < map < text , frozen<set<uuid>> > >", "frozen<map<text, frozen<set<uuid>>>>"),
    ("tuple<int, text,list<int>>", "tuple<int, text, list<int>>"),
    ("vector<float, 3>", "vector<float, 3>"),
    ("vector<vector<float,2>,3>", "vector<vector<float, 2>, 3>"),
    ("address", "address"),
    ('frozen<Ks."Address">', 'frozen<ks."Address">'),
    ('"Ks"."A""b"', '"Ks"."A""b"'),
    ("json", "json"),
    ("'org.apache.X(y)'", "'org.apache.X(y)'"),
]


@pytest.mark.parametrize(("cql", "expected"), TYPES)
def test_types_become_normal_text(cql: str, expected: str) -> None:
    assert parse(f"ALTER TABLE t ADD a {cql}") == ast.AddColumns(T, (ColumnDefinition("a", Type(expected)),))


DESCRIBED: list[tuple[str, ast.Describe]] = [
    ("DESCRIBE CLUSTER", ast.Describe("cluster")),
    ("DESC KEYSPACES", ast.Describe("keyspaces")),
    ("DESCRIBE KEYSPACE", ast.Describe("keyspace")),
    ('DESCRIBE KEYSPACE "Ks"', ast.Describe("keyspace", QualifiedName("", "Ks"))),
    ("DESCRIBE ONLY KEYSPACE ks", ast.Describe("keyspace", QualifiedName("", "ks"), only=True)),
    ("DESCRIBE SCHEMA", ast.Describe("schema")),
    ("DESCRIBE FULL SCHEMA", ast.Describe("schema", full=True)),
    ("DESCRIBE TABLES", ast.Describe("tables")),
    ("DESCRIBE TABLE ks.t WITH INTERNALS", ast.Describe("table", KT, internals=True)),
    ("DESCRIBE TYPES", ast.Describe("types")),
    ("DESCRIBE TYPE t", ast.Describe("type", T)),
    ("DESCRIBE INDEX ks.t", ast.Describe("index", KT)),
    ("DESCRIBE FUNCTIONS", ast.Describe("functions")),
    ("DESCRIBE FUNCTION ks.t", ast.Describe("function", KT)),
    ("DESCRIBE AGGREGATES", ast.Describe("aggregates")),
    ("DESCRIBE AGGREGATE t", ast.Describe("aggregate", T)),
    ("DESCRIBE MATERIALIZED VIEW t", ast.Describe("materialized view", T)),
    ("DESCRIBE t", ast.Describe("any", T)),
    ("DESC ks.t", ast.Describe("any", KT)),
    ("DESC tables.t", ast.Describe("any", QualifiedName("tables", "t"))),
]


@pytest.mark.parametrize(("cql", "expected"), DESCRIBED)
def test_describe(cql: str, expected: ast.Describe) -> None:
    assert parse(cql) == expected


R, S = Name("r"), Name("s")
TABLE = Resource("table", KT)
ROLES: list[tuple[str, ast.Statement]] = [
    ("CREATE ROLE r", ast.CreateRole(R)),
    (
        (
            "CREATE ROLE IF NOT EXISTS 'R' WITH PASSWORD = 'p' AND LOGIN = true AND SUPERUSER = false "
            "AND OPTIONS = {'a': 'b'} AND ACCESS TO DATACENTERS {'x', 'y'}"
        ),
        ast.CreateRole(
            Name("R"), RoleOptions("p", False, True, False, (("a", "b"),), ("x", "y")), if_not_exists=True
        ),
    ),
    ("CREATE ROLE r WITH HASHED PASSWORD = 'h'", ast.CreateRole(R, RoleOptions("h", hashed=True))),
    ("CREATE ROLE r WITH ACCESS TO ALL DATACENTERS", ast.CreateRole(R, RoleOptions(datacenters=()))),
    ("CREATE USER r", ast.CreateRole(R, RoleOptions(login=True), user=True)),
    (
        "CREATE USER r WITH PASSWORD 'p' SUPERUSER",
        ast.CreateRole(R, RoleOptions("p", login=True, superuser=True), user=True),
    ),
    ("ALTER ROLE IF EXISTS r WITH LOGIN = false", ast.AlterRole(R, RoleOptions(login=False), True)),
    ("ALTER USER r NOSUPERUSER", ast.AlterRole(R, RoleOptions(superuser=False), user=True)),
    ("DROP ROLE IF EXISTS r", ast.DropRole(R, if_exists=True)),
    ("DROP USER r", ast.DropRole(R, user=True)),
    ("GRANT r TO s", ast.GrantRole(R, S)),
    ("REVOKE r FROM s", ast.RevokeRole(R, S)),
    ("GRANT ALL ON KEYSPACE ks TO r", ast.Grant((), Resource("keyspace", QualifiedName("", "ks")), R)),
    ("GRANT ALL PERMISSIONS ON ALL KEYSPACES TO r", ast.Grant((), Resource("all keyspaces"), R)),
    ("GRANT SELECT PERMISSION, MODIFY ON TABLE ks.t TO r", ast.Grant(("SELECT", "MODIFY"), TABLE, R)),
    ("GRANT ALTER ON ks.t TO r", ast.Grant(("ALTER",), TABLE, R)),
    (
        "GRANT SELECT ON ALL TABLES IN KEYSPACE ks TO r",
        ast.Grant(("SELECT",), Resource("all tables", QualifiedName("ks", "")), R),
    ),
    ("GRANT AUTHORIZE ON ALL ROLES TO r", ast.Grant(("AUTHORIZE",), Resource("all roles"), R)),
    ("REVOKE DROP ON ROLE s FROM r", ast.Revoke(("DROP",), Resource("role", QualifiedName("", "s")), R)),
    (
        "REVOKE EXECUTE ON FUNCTION ks.t(int, text) FROM r",
        ast.Revoke(("EXECUTE",), Resource("function", KT), R),
    ),
    (
        "GRANT EXECUTE ON ALL FUNCTIONS IN KEYSPACE ks TO r",
        ast.Grant(("EXECUTE",), Resource("all functions", QualifiedName("ks", "")), R),
    ),
    ("LIST ROLES", ast.ListRoles()),
    ("LIST ROLES OF r NORECURSIVE", ast.ListRoles(R, recursive=False)),
    ("LIST USERS", ast.ListRoles(users=True)),
    ("LIST ALL PERMISSIONS", ast.ListPermissions()),
    ("LIST SELECT ON ks.t OF r NORECURSIVE", ast.ListPermissions(("SELECT",), TABLE, R, recursive=False)),
]


@pytest.mark.parametrize(("cql", "expected"), ROLES)
def test_roles(cql: str, expected: ast.Statement) -> None:
    assert parse(cql) == expected


# --- from the schema and back


names = st.text(st.sampled_from("ab_9Z\" .'é"), min_size=1, max_size=6) | st.sampled_from(["table", "key"])
types = st.sampled_from(["int", "text", "frozen<list<int>>", "map<text, uuid>", 'frozen<"My Type">'])
texts = st.text(max_size=8)
maps = st.dictionaries(texts, texts, max_size=3).map(lambda found: tuple(found.items()))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    kinds = [PARTITION] * draw(st.integers(1, 2)) + [CLUSTERING] * draw(st.integers(0, 2))
    kinds += draw(st.lists(st.sampled_from([STATIC, REGULAR]), max_size=3))
    columns = tuple(
        Column(n, name, draw(types), kind, kind == CLUSTERING and draw(st.booleans()))
        for n, (name, kind) in enumerate(
            zip(draw(st.lists(names, min_size=7, max_size=7, unique=True)), kinds, strict=False)
        )
    )
    options = TableOptions(draw(st.integers(0, 9)), "keys", draw(texts), draw(st.integers(0, 9)), draw(maps))
    index = Index(1, draw(names), columns[-1].name, draw(st.sampled_from(["simple", "keys", "full"])))
    return Table(1, draw(names), draw(names), columns, options, 1, indexes=(index,))


@given(tables())
def test_what_describes_a_table_recreates_it(table: Table) -> None:
    created, indexed = describe.table_statements(table)
    parsed = parse(describe.text(created))
    assert parsed == created
    assert isinstance(parsed, ast.CreateTable)
    assert [(c.name, c.type.text, c.static) for c in parsed.columns] == [
        (c.name, c.type, c.kind == STATIC) for c in table.columns
    ]
    assert [o.descending for o in parsed.clustering_order] == [
        c.descending for c in table.columns if c.kind == CLUSTERING
    ]
    assert parse(describe.text(indexed)) == indexed


def test_a_keyspace_is_described_in_an_order_that_can_be_executed() -> None:
    made = (
        UserType("inner", (TypeField("a", "int"),), 1),
        UserType("Outer", (TypeField("b", "frozen<inner>"),), 1),
    )
    keyspace = Keyspace("ks", Replication(NETWORK_TOPOLOGY, (("dc1", 3),)), 1, True, made)
    column = Column(0, "k", "int", PARTITION)
    options = TableOptions(comment="of the house")
    own = Table(1, "ks", "t", (column,), options, 1, indexes=(Index(2, "i", "k", using="sai"),))
    other = Table(3, "kz", "u", (column,), TableOptions(), 1)
    assert [describe.text(node) for node in describe.keyspace_statements(keyspace, (other, own))] == [
        (
            "CREATE KEYSPACE ks WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': '3'} "
            "AND durable_writes = true;"
        ),
        "CREATE TYPE ks.inner (\n    a int\n);",
        'CREATE TYPE ks."Outer" (\n    b frozen<inner>\n);',
        (
            "CREATE TABLE ks.t (\n    k int PRIMARY KEY\n) WITH comment = 'of the house'\n"
            "    AND gc_grace_seconds = 864000;"
        ),
        "CREATE CUSTOM INDEX i ON ks.t (k) USING 'sai';",
    ]
