"""The masking functions of CQL 5."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.cql_lite.whole import Cql, cluster_of, settle

COLUMNS = {
    "t": "text", "a": "ascii", "i": "int", "d": "decimal", "b": "boolean", "bl": "blob", "da": "date",
    "ti": "time", "ts": "timestamp", "du": "duration", "ip": "inet", "u": "uuid", "tu": "timeuuid",
    "l": "list<int>", "m": "map<text, int>", "p": "tuple<int, text>", "v": "vector<float, 2>", "x": "place",
    "j": "json",
}  # fmt: skip


@pytest.fixture(scope="module")
def cql() -> Cql:
    client = Cql(cluster_of(1))
    client.run("USE ks")
    client.run("CREATE TYPE place (street text, n int)")
    settle(client.cluster)
    columns = ", ".join(f"{name} {of}" for name, of in COLUMNS.items())
    client.run(f"CREATE TABLE f (k int PRIMARY KEY, {columns})")
    settle(client.cluster)
    client.run("INSERT INTO f (k, t, i, l) VALUES (1, 'Alice', 7, [1])")
    client.run("INSERT INTO f (k) VALUES (2)")
    return client


def value(cql: Cql, expression: str, *bound: Any, k: int = 1) -> Any:
    (row,) = cql.run(f"SELECT {expression} AS x FROM f WHERE k = {k}", *bound)
    return row["x"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("mask_inner(t, 1, 2)", "A**ce"),
        ("mask_inner(t, 1, null)", "A****"),
        ("mask_inner(t, null, 2)", "***ce"),
        ("mask_inner(t, 2, 1, '#')", "Al##e"),
        ("mask_inner(t, 4, 4)", "Alice"),
        ("mask_inner(t, 9, 0)", "Alice"),
        ("mask_outer(t, 1, 2)", "*li**"),
        ("mask_outer(t, 1, null)", "*lice"),
        ("mask_outer(t, null, 2)", "Ali**"),
        ("mask_outer(t, 2, 1, '#')", "##ic#"),
        ("mask_outer(t, 4, 4)", "*****"),
        ("mask_null(t)", None),
        ("mask_replace(i, 0)", 0),
        ("mask_replace(t, null)", None),
        ("mask_hash(t)", hashlib.sha256(b"Alice").digest()),
        ("mask_hash(t, 'SHA-512')", hashlib.sha512(b"Alice").digest()),
        ("mask_hash(t, 'MD5')", hashlib.md5(b"Alice", usedforsecurity=False).digest()),
    ],
)
def test_what_is_shown(cql: Cql, expression: str, expected: Any) -> None:
    assert value(cql, expression) == expected


def test_every_type_has_a_default_to_show(cql: Cql) -> None:
    shown = {name: value(cql, f"mask_default({name})") for name in COLUMNS}
    assert (shown["t"], shown["a"], shown["i"], shown["d"], shown["b"]) == ("****", "****", 0, 0, False)
    assert (shown["l"], shown["m"], shown["p"], shown["x"]) == ((), (), (0, "****"), ("****", 0))
    assert (shown["u"], shown["ip"], shown["v"]) == (bytes(16), bytes(4), (0.0, 0.0))
    assert shown["j"] == '"****"'
    assert shown["tu"][6] >> 4 == 1, "a time uuid"
    assert all(shown[name] is not None for name in shown)


def test_what_is_null_stays_null_where_something_of_it_would_show(cql: Cql) -> None:
    for expression in ("mask_inner(t, 1, 1)", "mask_outer(t, 1, 1)", "mask_hash(t)"):
        assert value(cql, expression, k=2) is None
    assert value(cql, "mask_default(t)", k=2) == "****"


def test_arguments_may_be_bound(cql: Cql) -> None:
    assert value(cql, "mask_inner(t, ?, ?, ?)", 1, 1, "+") == "A+++e"
    assert value(cql, "mask_replace(l, ?)", (5,)) == (5,)
    prepared = cql.run("SELECT mask_hash(t, ?) AS x FROM f WHERE k = 1", "SHA-1")
    assert len(prepared[0]["x"]) == 20


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("mask_inner(i, 1, 1)", "takes a text, not a int"),
        ("mask_inner(t, 1)", "3 to 4 required but 2 provided"),
        ("mask_inner(t, 1, 1, 'ab')", "should be single-character, but 'ab' has 2 characters"),
        ("mask_inner(t, i, t)", "takes a int there"),
        ("mask_replace(i, t)", "use CAST"),
        ("mask_hash(t, 'nope')", "Hash algorithm not found: nope"),
        ("mask_hash(t, 'shake_128')", "Hash algorithm not found"),
        ("mask_null()", "1 required but 0 provided"),
        ("mask_iner(t, 1, 1)", "did you mean mask_inner()?"),
    ],
)
def test_what_cannot_be_masked(cql: Cql, expression: str, said: str) -> None:
    assert said in cql.error(f"SELECT {expression} FROM f WHERE k = 1").message
