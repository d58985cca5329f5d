"""Literals with parts as selectors: lists, sets, maps, tuples and user values of columns."""

from __future__ import annotations

from typing import Any

import pytest

from core.consistency import Level
from cql_lite import wire
from tests.cql_lite.whole import Cql, cluster_of, settle

TABLES = """
CREATE TYPE u (a int, b text);
CREATE TABLE t (k int, c int, v int, w bigint, name text, x float, y float, s set<int>, PRIMARY KEY (k, c))
"""


@pytest.fixture(scope="module")
def cql() -> Cql:
    client = Cql(cluster_of(1))
    client.run("USE ks")
    for text in TABLES.split(";"):
        client.run(text)
        settle(client.cluster)
    client.run("INSERT INTO t (k, c, v, w, name, x, y, s) VALUES (1, 2, 9, 7, 'n', 1.5, 2, {4})")
    client.run("INSERT INTO t (k, c) VALUES (2, 2)")
    return client


@pytest.mark.parametrize(
    ("selected", "expected", "of_nulls"),
    [
        ("[k, v, 3]", (1, 9, 3), None),
        ("[v, k, c + 1]", (9, 1, 3), None),
        ("{v, k, c, k}", (1, 2, 9), (2,)),
        ("{'b': k, 'a': v}", (("a", 9), ("b", 1)), None),
        ("{name: v}", (("n", 9),), ()),
        ("{k: name}", ((1, "n"),), None),
        ("(k, name, 0.5)", (1, "n", 0.5), (2, None, 0.5)),
        ("(u) {b: name, a: k}", (1, "n"), (2, None)),
        ("(u) {a: v}", (9, None), (None, None)),
        ("(list<int>) [k, 5]", (1, 5), (2, 5)),
        ("(set<int>) {5, k}", (1, 5), (2, 5)),
        ("(map<text, int>) {'a': v}", (("a", 9),), None),
        ("(tuple<int, text>) (k, name)", (1, "n"), (2, None)),
        ("[[k], [c, v]]", ((1,), (2, 9)), None),
        ("[s, {1, 2}]", ((4,), (1, 2)), None),
        ("[count(*), max(w)]", (2, 7), None),
        ("(k)", 1, 2),
        ("[1, 2]", (1, 2), (1, 2)),
        ("(list<int>) []", (), ()),
        ("collection_max((list<int>) [k, c])", 2, 2),
        ("similarity_dot_product((vector<float, 2>) [x, y], [1, 1])", 2.25, None),
    ],
)
def test_what_is_put_together(cql: Cql, selected: str, expected: Any, of_nulls: Any) -> None:
    (row,) = cql.run(f"SELECT {selected} FROM t" + (" WHERE k = 1" if "count" not in selected else ""))
    assert list(row.values()) == [expected]
    if of_nulls is not None:
        (row,) = cql.run(f"SELECT {selected} FROM t WHERE k = 2")
        assert list(row.values()) == [of_nulls]


@pytest.mark.parametrize(
    ("selected", "raw"),
    [
        ("[k, v]", "00000002 00000004 00000002 00000000"),
        ("{1: v}", "00000001 00000004 00000001 00000000"),
        ("[v, k]", "00000002 00000000 00000004 00000002"),
        ("{v, 3}", "00000001 00000004 00000003"),
    ],
)
def test_a_null_is_an_empty_element_on_the_wire_and_sets_have_none(cql: Cql, selected: str, raw: str) -> None:
    answer = cql.send(wire.Query(f"SELECT {selected} FROM ks.t WHERE k = 2", wire.Parameters(Level.QUORUM)))
    assert isinstance(answer, wire.Rows)
    ((value,),) = answer.rows
    assert value == bytes.fromhex(raw)


def test_a_marker_has_the_type_of_what_is_beside_it(cql: Cql) -> None:
    (row,) = cql.run("SELECT [k, ?] AS both FROM t WHERE k = 1", 8)
    assert row == {"both": (1, 8)}


@pytest.mark.parametrize(
    ("selected", "said"),
    [
        ("[k, name]", "name is of type text, where int is expected"),
        ("[k, w]", "w is of type bigint, where int is expected"),
        ("[]", "is not known"),
        ("[?]", "is not known"),
        ("(u) {nope: k}", "nope"),
        ("(tuple<int>) (k, c)", "too many elements"),
        ("[nope]", "nope"),
        ("(vector<float, 2>) [x]", "2"),
    ],
)
def test_what_cannot_be_put_together(cql: Cql, selected: str, said: str) -> None:
    error = cql.error(f"SELECT {selected} FROM t")
    assert isinstance(error, wire.Invalid)
    assert said in error.message
