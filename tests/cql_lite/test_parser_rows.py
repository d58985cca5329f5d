"""What statements about rows parse to: one line per form."""

from __future__ import annotations

from typing import Any

import pytest

from cql_lite import ast
from cql_lite.ast import (
    Arithmetic,
    Assignment,
    Cast,
    ColumnRef,
    ColumnTuple,
    Condition,
    ElementAccess,
    Field,
    FieldAccess,
    FunctionCall,
    InList,
    Key,
    ListLiteral,
    Literal,
    MapLiteral,
    Marker,
    Name,
    Negation,
    Ordering,
    QualifiedName,
    Relation,
    Select,
    Selector,
    SetLiteral,
    SliceAccess,
    Star,
    Target,
    TokenOf,
    TupleLiteral,
    Type,
    TypeHint,
    UdtLiteral,
    Using,
)
from cql_lite.parser import parse

T = QualifiedName("", "t")
A, B, C = ColumnRef("a"), ColumnRef("b"), ColumnRef("c")


def whole(text: str | int) -> Literal:
    return Literal(ast.INTEGER, str(text))


def text(value: str) -> Literal:
    return Literal(ast.STRING, value)


ONE, TWO, THREE = whole(1), whole(2), whole(3)
NULL = Literal(ast.NULL, "null")


def select(cql: str) -> Select:
    found = parse(cql)
    assert isinstance(found, Select)
    return found


# --- literals

LITERALS: list[tuple[str, ast.Expression]] = [
    ("1", ONE),
    ("-170141183460469231731687303715884105728", whole("-170141183460469231731687303715884105728")),
    ("007", whole("007")),
    ("1.50", Literal(ast.FLOAT, "1.50")),
    ("1.", Literal(ast.FLOAT, "1.")),
    ("-1E-7", Literal(ast.FLOAT, "-1E-7")),
    ("nan", Literal(ast.FLOAT, "NaN")),
    ("-NaN", Literal(ast.FLOAT, "NaN")),
    ("INFINITY", Literal(ast.FLOAT, "Infinity")),
    ("-Infinity", Literal(ast.FLOAT, "-Infinity")),
    ("'it''s'", text("it's")),
    ("''", text("")),
    ("'-- no /* comment'", text("-- no /* comment")),
    ("$$it's $1$$", text("it's $1")),
    ("TRUE", Literal(ast.BOOLEAN, "true")),
    ("False", Literal(ast.BOOLEAN, "false")),
    ("Null", NULL),
    ("0xCAfe", Literal(ast.BLOB, "0xCAfe")),
    ("0x", Literal(ast.BLOB, "0x")),
    (
        "6ab09bec-e68e-48d9-a5f8-97e6fb4c9b47",
        Literal(ast.UUID, "6ab09bec-e68e-48d9-a5f8-97e6fb4c9b47"),
    ),
    (
        "12345678-e68e-48d9-a5f8-97e6fb4c9b47",
        Literal(ast.UUID, "12345678-e68e-48d9-a5f8-97e6fb4c9b47"),
    ),
    ("1y2mo3w4d5h6m7s8ms9us10ns", Literal(ast.DURATION, "1y2mo3w4d5h6m7s8ms9us10ns")),
    ("-1H30M", Literal(ast.DURATION, "-1H30M")),
    ("5µs", Literal(ast.DURATION, "5µs")),
    ("P1Y2M3DT4H5M6S", Literal(ast.DURATION, "P1Y2M3DT4H5M6S")),
    ("-PT5M", Literal(ast.DURATION, "-PT5M")),
    ("P3W", Literal(ast.DURATION, "P3W")),
    ("P0001-02-03T04:05:06", Literal(ast.DURATION, "P0001-02-03T04:05:06")),
    ("[1, 2]", ListLiteral((ONE, TWO))),
    ("[]", ListLiteral(())),
    ("{1, 2}", SetLiteral((ONE, TWO))),
    ("{1}", SetLiteral((ONE,))),
    ("{}", SetLiteral(())),
    ("{'k': 1, 'l': null}", MapLiteral(((text("k"), ONE), (text("l"), NULL)))),
    ("{1: {2: [3]}}", MapLiteral(((ONE, MapLiteral(((TWO, ListLiteral((THREE,))),))),))),
    ('{street: 1, "Zip": 2}', UdtLiteral(((Name("street"), ONE), (Name("Zip"), TWO)))),
    ("{values: 1}", UdtLiteral(((Name("values"), ONE),))),
    ("(1, 'a')", TupleLiteral((ONE, text("a")))),
    ("(1)", TupleLiteral((ONE,))),
    ("?", Marker(0)),
    (":Name", Marker(0, "name")),
    (':"Name"', Marker(0, "Name")),
    ("(int) 1", TypeHint(Type("int"), ONE)),
    ("(int) -1", TypeHint(Type("int"), whole(-1))),
    ("(map<int,text>) {1: 'a'}", TypeHint(Type("map<int, text>"), MapLiteral(((ONE, text("a")),)))),
    ("(address) {street: 1}", TypeHint(Type("address"), UdtLiteral(((Name("street"), ONE),)))),
    ("(text) ?", TypeHint(Type("text"), Marker(0))),
    ("now()", FunctionCall("now", ())),
    ("toTimestamp(now())", FunctionCall("totimestamp", (FunctionCall("now", ()),))),
    ('ks."F"(1, ?)', FunctionCall("F", (ONE, Marker(0)), "ks")),
    ("token(1)", FunctionCall("token", (ONE,))),
    ("CAST(1 AS text)", Cast(ONE, Type("text"))),
    ("1 + 2 * 3", Arithmetic("+", ONE, Arithmetic("*", TWO, THREE))),
    ("1 - 2 - 3", Arithmetic("-", Arithmetic("-", ONE, TWO), THREE)),
    ("(1 + 2) % 3 / 1", Arithmetic("/", Arithmetic("%", Arithmetic("+", ONE, TWO), THREE), ONE)),
    ("1 - -2", Arithmetic("-", ONE, whole(-2))),
    ("1 -2", Arithmetic("-", ONE, TWO)),
    ("-now()", Negation(FunctionCall("now", ()))),
]


@pytest.mark.parametrize(("cql", "expected"), LITERALS, ids=[cql for cql, _ in LITERALS])
def test_values(cql: str, expected: ast.Expression) -> None:
    assert select(f"SELECT a FROM t WHERE a = {cql}").where == (Relation(Target("a"), "=", expected),)
    inserted = parse(f"insert into t (a) values ({cql})")
    assert isinstance(inserted, ast.Insert)
    assert inserted.values == (expected,)


def test_operands_are_kept_only_without_parentheses() -> None:
    assert select("SELECT (a), (a + b) * c, ((a)) - 1 FROM t").selectors == (
        Selector(TupleLiteral((A,)), text="(a)"),
        Selector(Arithmetic("*", Arithmetic("+", A, B), C), text="(a + b) * c"),
        Selector(Arithmetic("-", A, ONE), text="a - 1"),
    )


# --- projections

SELECTORS: list[tuple[str, Selector]] = [
    ("a", Selector(A, text="a")),
    ('"A b"', Selector(ColumnRef("A b"), text="A b")),
    ("a AS b", Selector(A, "b", "a")),
    ('a AS "B"', Selector(A, "B", "a")),
    ("count(*)", Selector(FunctionCall("count", (Star(),)), text="count")),
    ("COUNT(1) AS n", Selector(FunctionCall("count", (ONE,)), "n", "count")),
    ("count(a)", Selector(FunctionCall("count", (A,)), text="system.count(a)")),
    ("max(a)", Selector(FunctionCall("max", (A,)), text="system.max(a)")),
    ("writetime(a)", Selector(FunctionCall("writetime", (A,)), text="writetime(a)")),
    ("TTL(a['k'])", Selector(FunctionCall("ttl", (ElementAccess(A, text("k")),)), text="ttl(a['k'])")),
    ("token(a, b)", Selector(FunctionCall("token", (A, B)), text="system.token(a, b)")),
    ("cast(a AS double)", Selector(Cast(A, Type("double")), text="cast(a as double)")),
    ("a.b.c", Selector(FieldAccess(FieldAccess(A, "b"), "c"), text="a.b.c")),
    ("a['k']", Selector(ElementAccess(A, text("k")), text="a['k']")),
    ("a[1..2]", Selector(SliceAccess(A, ONE, TWO), text="a[1..2]")),
    ("a[..2]", Selector(SliceAccess(A, None, TWO), text="a[..2]")),
    ("a[1..]", Selector(SliceAccess(A, ONE, None), text="a[1..]")),
    ("a[?]", Selector(ElementAccess(A, Marker(0)), text="a[?]")),
    ("a['x']['y']", Selector(ElementAccess(ElementAccess(A, text("x")), text("y")), text="a['x']['y']")),
    ("a + 1", Selector(Arithmetic("+", A, ONE), text="a + 1")),
    ("-a", Selector(Negation(A), text="-a")),
    ("a - 1", Selector(Arithmetic("-", A, ONE), text="a - 1")),
    ("(int) 1", Selector(TypeHint(Type("int"), ONE), text="(int)1")),
    ("(a, b)", Selector(TupleLiteral((A, B)), text="(a, b)")),
    ("[a, 1]", Selector(ListLiteral((A, ONE)), text="[a, 1]")),
    (
        "f(a, g(b))",
        Selector(FunctionCall("f", (A, FunctionCall("g", (B,)))), text="system.f(a, system.g(b))"),
    ),
    ("json", Selector(ColumnRef("json"), text="json")),
    ("distinct", Selector(ColumnRef("distinct"), text="distinct")),
    ("ttl", Selector(ColumnRef("ttl"), text="ttl")),
    ("key", Selector(ColumnRef("key"), text="key")),
    ("count", Selector(ColumnRef("count"), text="count")),
]


@pytest.mark.parametrize(("cql", "expected"), SELECTORS, ids=[cql for cql, _ in SELECTORS])
def test_projections(cql: str, expected: Selector) -> None:
    assert select(f"SELECT {cql} FROM t").selectors == (expected,)
    assert select(f"SELECT z, {cql} FROM t").selectors[1] == expected


ONLY_A: dict[str, Any] = {"selectors": (Selector(A, text="a"),)}
THREE_ORDERED = (Ordering("a"), Ordering("b", descending=True), Ordering("c"))


@pytest.mark.parametrize(
    ("cql", "fields"),
    [
        ("SELECT * FROM t", {}),
        ('select * from "Ks".T;', {"table": QualifiedName("Ks", "t")}),
        ("SELECT DISTINCT a FROM t", {"distinct": True} | ONLY_A),
        ("SELECT JSON * FROM t", {"json": True}),
        ("SELECT JSON DISTINCT a FROM t", {"json": True, "distinct": True} | ONLY_A),
        ("SELECT * FROM t LIMIT 5", {"limit": whole(5)}),
        ("SELECT * FROM t LIMIT ?", {"limit": Marker(0), "markers": (Marker(0),)}),
        ("SELECT * FROM t PER PARTITION LIMIT 2 LIMIT 5", {"per_partition_limit": TWO, "limit": whole(5)}),
        ("SELECT * FROM t ALLOW FILTERING", {"allow_filtering": True}),
        ("SELECT * FROM t ORDER BY a, b DESC, c ASC", {"order_by": THREE_ORDERED}),
        ("SELECT * FROM t ORDER BY a ANN OF [1]", {"order_by": (Ordering("a", near=ListLiteral((ONE,))),)}),
        ("SELECT * FROM t GROUP BY a, f(b)", {"group_by": (A, FunctionCall("f", (B,)))}),
    ],
)
def test_select(cql: str, fields: dict[str, Any]) -> None:
    assert parse(cql) == Select(**({"table": T} | fields))


RELATIONS: list[tuple[str, Relation]] = [
    *[(f"a {op} 1", Relation(Target("a"), op, ONE)) for op in ("=", "!=", "<", "<=", ">", ">=")],
    ("a IN (1, 2)", Relation(Target("a"), "IN", InList((ONE, TWO)))),
    ("a IN ()", Relation(Target("a"), "IN", InList(()))),
    ("a IN ?", Relation(Target("a"), "IN", Marker(0))),
    ("a in (?, :b)", Relation(Target("a"), "IN", InList((Marker(0), Marker(1, "b"))))),
    ("a CONTAINS 1", Relation(Target("a"), "CONTAINS", ONE)),
    ("a CONTAINS KEY 1", Relation(Target("a"), "CONTAINS KEY", ONE)),
    ("a LIKE 'x%'", Relation(Target("a"), "LIKE", text("x%"))),
    ("a IS NOT NULL", Relation(Target("a"), "IS NOT NULL", NULL)),
    ("a['k'] = 1", Relation(Target("a", (Key(text("k")),)), "=", ONE)),
    ("a.b = 1", Relation(Target("a", (Field("b"),)), "=", ONE)),
    ("a['x']['y'] = 1", Relation(Target("a", (Key(text("x")), Key(text("y")))), "=", ONE)),
    ("(a, b) > (1, 2)", Relation(ColumnTuple((Name("a"), Name("b"))), ">", TupleLiteral((ONE, TWO)))),
    ("(a) = (1)", Relation(ColumnTuple((Name("a"),)), "=", TupleLiteral((ONE,)))),
    ("(a, b) >= ?", Relation(ColumnTuple((Name("a"), Name("b"))), ">=", Marker(0))),
    (
        "(a, b) IN ((1, 2), ?)",
        Relation(ColumnTuple((Name("a"), Name("b"))), "IN", InList((TupleLiteral((ONE, TWO)), Marker(0)))),
    ),
    ("(a, b) IN ?", Relation(ColumnTuple((Name("a"), Name("b"))), "IN", Marker(0))),
    ("token(a, b) <= 1", Relation(TokenOf((Name("a"), Name("b"))), "<=", ONE)),
    ("TOKEN(a) > token(1)", Relation(TokenOf((Name("a"),)), ">", FunctionCall("token", (ONE,)))),
    ("(a = 1)", Relation(Target("a"), "=", ONE)),
]


@pytest.mark.parametrize(("cql", "expected"), RELATIONS, ids=[cql for cql, _ in RELATIONS])
def test_relations(cql: str, expected: Relation) -> None:
    assert select(f"SELECT * FROM t WHERE {cql}").where == (expected,)
    assert select(f"SELECT * FROM t WHERE {cql} AND z = 1").where[0] == expected
    deleted = parse(f"DELETE FROM t WHERE {cql}")
    assert isinstance(deleted, ast.Delete)
    assert deleted.where == (expected,)


# --- INSERT

INSERTS: list[tuple[str, ast.Statement]] = [
    (
        "INSERT INTO t (a, b) VALUES (1, ?)",
        ast.Insert(T, (Name("a"), Name("b")), (ONE, Marker(0)), markers=(Marker(0),)),
    ),
    (
        "INSERT INTO ks.t (a) VALUES (1) IF NOT EXISTS USING TTL 2 AND TIMESTAMP :ts",
        ast.Insert(
            QualifiedName("ks", "t"),
            (Name("a"),),
            (ONE,),
            if_not_exists=True,
            using=Using(Marker(0, "ts"), TWO),
            markers=(Marker(0, "ts"),),
        ),
    ),
    (
        "INSERT INTO t (a) VALUES (1) USING TIMESTAMP -3",
        ast.Insert(T, (Name("a"),), (ONE,), using=Using(whole(-3))),
    ),
    ("INSERT INTO t JSON '{}'", ast.InsertJson(T, text("{}"))),
    ("INSERT INTO t JSON ? DEFAULT UNSET", ast.InsertJson(T, Marker(0), True, markers=(Marker(0),))),
    (
        "INSERT INTO t JSON :j DEFAULT NULL IF NOT EXISTS USING TTL 1",
        ast.InsertJson(T, Marker(0, "j"), False, True, Using(None, ONE), (Marker(0, "j"),)),
    ),
]


@pytest.mark.parametrize(("cql", "expected"), INSERTS, ids=[cql for cql, _ in INSERTS])
def test_insert(cql: str, expected: ast.Statement) -> None:
    assert parse(cql) == expected


# --- UPDATE

ASSIGNMENTS: list[tuple[str, Assignment]] = [
    ("a = 1", Assignment(Target("a"), ast.SET, ONE)),
    ("a = null", Assignment(Target("a"), ast.SET, NULL)),
    ("a = 1 + 2", Assignment(Target("a"), ast.SET, Arithmetic("+", ONE, TWO))),
    ("a = now()", Assignment(Target("a"), ast.SET, FunctionCall("now", ()))),
    ("a = a + 1", Assignment(Target("a"), ast.ADD, ONE)),
    ("a = a - 1", Assignment(Target("a"), ast.SUBTRACT, ONE)),
    ("a = a -1", Assignment(Target("a"), ast.SUBTRACT, ONE)),
    ("a = a + -1", Assignment(Target("a"), ast.ADD, whole(-1))),
    ("a += ?", Assignment(Target("a"), ast.ADD, Marker(0))),
    ("a -= {1}", Assignment(Target("a"), ast.SUBTRACT, SetLiteral((ONE,)))),
    ("a = a + {'k': 1}", Assignment(Target("a"), ast.ADD, MapLiteral(((text("k"), ONE),)))),
    ("a = [1] + a", Assignment(Target("a"), ast.PREPEND, ListLiteral((ONE,)))),
    ("a = ? + a", Assignment(Target("a"), ast.PREPEND, Marker(0))),
    ("a['k'] = 1", Assignment(Target("a", (Key(text("k")),)), ast.SET, ONE)),
    ("a[?] = ?", Assignment(Target("a", (Key(Marker(0)),)), ast.SET, Marker(1))),
    ("a.b = 1", Assignment(Target("a", (Field("b"),)), ast.SET, ONE)),
    ("a['x']['y']['z'] = 1", Assignment(Target("a", tuple(Key(text(k)) for k in "xyz")), ast.SET, ONE)),
]


@pytest.mark.parametrize(("cql", "expected"), ASSIGNMENTS, ids=[cql for cql, _ in ASSIGNMENTS])
def test_assignments(cql: str, expected: Assignment) -> None:
    found = parse(f"UPDATE t SET {cql} WHERE k = 1")
    assert isinstance(found, ast.Update)
    assert found.assignments == (expected,)
    found = parse(f"UPDATE t SET z = 1, {cql}, y = 1 WHERE k = 1")
    assert isinstance(found, ast.Update)
    assert found.assignments[1] == expected


CONDITIONS: list[tuple[str, Condition]] = [
    *[(f"a {op} 1", Condition(Target("a"), op, ONE)) for op in ("=", "!=", "<", "<=", ">", ">=")],
    ("a != null", Condition(Target("a"), "!=", NULL)),
    ("a IN (1, ?)", Condition(Target("a"), "IN", InList((ONE, Marker(0))))),
    ("a IN ?", Condition(Target("a"), "IN", Marker(0))),
    ("a['k'] = 1", Condition(Target("a", (Key(text("k")),)), "=", ONE)),
    ("a['k'] IN (1)", Condition(Target("a", (Key(text("k")),)), "IN", InList((ONE,)))),
    ("a.b >= 1", Condition(Target("a", (Field("b"),)), ">=", ONE)),
    ("a CONTAINS 1", Condition(Target("a"), "CONTAINS", ONE)),
    ("a CONTAINS KEY 1", Condition(Target("a"), "CONTAINS KEY", ONE)),
    ("exists = 1", Condition(Target("exists"), "=", ONE)),
]


@pytest.mark.parametrize(("cql", "expected"), CONDITIONS, ids=[cql for cql, _ in CONDITIONS])
def test_conditions(cql: str, expected: Condition) -> None:
    for statement in ("UPDATE t SET v = 1 WHERE k = 1 IF", "DELETE FROM t WHERE k = 1 IF"):
        found = parse(f"{statement} {cql}")
        assert isinstance(found, (ast.Update, ast.Delete))
        assert (found.if_exists, found.conditions) == (False, (expected,))
        found = parse(f"{statement} z = 1 AND {cql}")
        assert isinstance(found, (ast.Update, ast.Delete))
        assert found.conditions[1] == expected


def test_update_and_delete_as_a_whole() -> None:
    where = (Relation(Target("k"), "=", Marker(2)),)
    assert parse("UPDATE ks.t USING TIMESTAMP ? AND TTL 1 SET a = ? WHERE k = ? IF EXISTS") == ast.Update(
        QualifiedName("ks", "t"),
        (Assignment(Target("a"), ast.SET, Marker(1)),),
        where,
        if_exists=True,
        using=Using(Marker(0), ONE),
        markers=(Marker(0), Marker(1), Marker(2)),
    )
    targets = (
        Target("a"),
        Target("b", (Key(text("k")),)),
        Target("c", (Field("f"),)),
        Target("d", (Key(text("x")), Key(text("y")))),
    )
    assert parse(
        "DELETE a, b['k'], c.f, d['x']['y'] FROM t USING TIMESTAMP 1 WHERE k = 1 IF EXISTS"
    ) == ast.Delete(T, (Relation(Target("k"), "=", ONE),), targets, if_exists=True, using=Using(ONE))


# --- BATCH


def test_batch() -> None:
    found = parse(
        "BEGIN UNLOGGED BATCH USING TIMESTAMP ? "
        "INSERT INTO t (a) VALUES (:x); UPDATE t SET a = 1 WHERE k = ? IF EXISTS "
        "DELETE FROM t WHERE k = ?; APPLY BATCH;"
    )
    assert isinstance(found, ast.Batch)
    assert (found.kind, found.using) == (ast.UNLOGGED, Using(Marker(0)))
    assert [type(statement) for statement in found.statements] == [ast.Insert, ast.Update, ast.Delete]
    assert [statement.markers for statement in found.statements] == [
        (Marker(1, "x"),),
        (Marker(2),),
        (Marker(3),),
    ]
    assert found.markers == (Marker(0), Marker(1, "x"), Marker(2), Marker(3))


@pytest.mark.parametrize(
    ("cql", "kind"),
    [("BEGIN BATCH APPLY BATCH", ast.LOGGED), ("begin counter batch apply batch;", ast.COUNTER)],
)
def test_an_empty_batch(cql: str, kind: str) -> None:
    assert parse(cql) == ast.Batch(kind, ())


# --- words, positions


@pytest.mark.parametrize(
    "word",
    ["key", "values", "type", "ttl", "json", "exists", "timestamp", "list", "map", "user", "static", "text"]
    + ["contains", "group", "per", "partition", "default", "unset", "like", "count", "as", "int", "tables"]
    + ["counter", "uuid", "filtering", "role", "password", "writetime", "cast", "clustering", "vector"],
)
def test_unreserved_keywords_are_names(word: str) -> None:
    column = ColumnRef(word)
    found = select(f"SELECT {word}, a AS {word} FROM {word}.{word} WHERE {word} = 1 ORDER BY {word.upper()}")
    assert found.table == QualifiedName(word, word)
    assert found.selectors == (Selector(column, text=word), Selector(A, word, "a"))
    assert found.where == (Relation(Target(word), "=", ONE),)
    assert found.order_by == (Ordering(word),)
    parse(f"UPDATE {word} SET {word} = {word} + 1 WHERE {word} IN (1) IF {word} = 1")
    parse(f"CREATE TABLE {word} ({word} int PRIMARY KEY)")


def test_comments_and_layout_mean_nothing() -> None:
    plain = parse("SELECT a FROM t WHERE b = 'x'")
    assert plain == parse("select/**/a -- the key\n from // two\n t\twhere b\r\n='x' /* * / */;;")


def test_nodes_know_where_they_stand() -> None:
    found = select("SELECT a,\n  f(?)\nFROM t\nWHERE b = 'x\ny' AND c IN (1,\n 2)")
    places = [
        found.selectors[0].at,
        found.selectors[1].at,
        found.markers[0].at,
        found.table.at,
        found.where[1].at,
        found.where[1].right.at,
    ]
    assert [(at.line, at.column) for at in places] == [(1, 8), (2, 3), (2, 5), (3, 6), (5, 8), (5, 13)]
