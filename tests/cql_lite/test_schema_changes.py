"""The schema changes while statements are under way, between pages, and under what was written."""

from __future__ import annotations

import msgspec
import pytest

from core.requests import Answer
from cql_lite import wire
from tests.cql_lite.whole import SECOND, Cql, cluster_of, rows, settle


@pytest.fixture(scope="module")
def cql() -> Cql:
    client = Cql(cluster_of())
    client.run("USE ks")
    return client


@pytest.mark.parametrize(
    ("columns", "index"),
    [
        ("k frozen<pair> PRIMARY KEY", ""),
        ("k int, c frozen<map<int, frozen<pair>>>, PRIMARY KEY (k, c)", ""),
        ("k int PRIMARY KEY, s set<frozen<pair>>", ""),
        ("k int PRIMARY KEY, m map<frozen<tuple<int, frozen<pair>>>, int>", ""),
        ("k int PRIMARY KEY, f frozen<pair>", "f"),
        ("k int PRIMARY KEY, l list<frozen<pair>>", "l"),
        ("k int PRIMARY KEY, o frozen<outer>", "o"),
    ],
)
def test_a_type_of_which_keys_are_made_gets_no_more_fields(cql: Cql, columns: str, index: str) -> None:
    cql.run("CREATE TYPE pair (a int, b int)")
    cql.run("CREATE TYPE outer (p frozen<pair>)")
    cql.run(f"CREATE TABLE keyed ({columns})")
    if index:
        cql.run(f"CREATE INDEX ON keyed ({index})")
    error = cql.error("ALTER TYPE pair ADD c int")
    assert isinstance(error, wire.Invalid)
    assert "Cannot add new field to user type ks.pair as the type is being used in keys" in error.message
    cql.run("ALTER TYPE pair RENAME b TO d")
    cql.run("DROP TABLE keyed")
    cql.run("ALTER TYPE pair ADD c int")
    for name in ("outer", "pair"):
        cql.run(f"DROP TYPE {name}")


def test_a_type_of_values_gets_more_fields(cql: Cql) -> None:
    cql.run("CREATE TYPE pair (a int, b int)")
    cql.run("CREATE TABLE valued (k int PRIMARY KEY, f frozen<pair>, n pair, l list<frozen<pair>>, "
            "m map<int, frozen<pair>>, s frozen<set<frozen<pair>>>, t tuple<int, frozen<pair>>)")  # fmt: skip
    cql.run("INSERT INTO valued (k, f, n, l, m, s, t) VALUES (1, {a: 1, b: 2}, {a: 1}, [{a: 1}], "
            "{1: {a: 1}}, {{a: 1}}, (1, {b: 1}))")  # fmt: skip
    cql.run("ALTER TYPE pair ADD c int")
    (row,) = cql.run("SELECT * FROM valued")
    assert (row["f"], row["n"], row["l"]) == ((1, 2, None), (1, None, None), ((1, None, None),))
    assert row["t"] == (1, (None, 1, None))
    assert cql.run("SELECT k FROM valued WHERE f = {a: 1, b: 2} ALLOW FILTERING") == [{"k": 1}]
    cql.run("UPDATE valued SET n.c = 5, l = l + [{c: 1}], m[1] = {c: 2} WHERE k = 1 IF f = {a: 1, b: 2}")
    (row,) = cql.run("SELECT n, l, m FROM valued")
    assert (row["n"], row["l"]) == ((1, None, 5), ((1, None, None), (None, None, 1)))
    cql.run("DROP TABLE valued")
    cql.run("DROP TYPE pair")


@pytest.mark.parametrize("name", ["cast", "elsewhere.cast"])
def test_a_type_that_only_the_statement_names_gets_more_fields(cql: Cql, name: str) -> None:
    cql.run(
        "CREATE KEYSPACE IF NOT EXISTS elsewhere WITH replication = "
        "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    cql.run(f"CREATE TYPE {name} (a int)")
    cql.run("CREATE TABLE IF NOT EXISTS plain (k int PRIMARY KEY)")
    cql.run("INSERT INTO plain (k) VALUES (1)")
    text = f"SELECT (frozen<{name}>) {{a: 1}} AS x FROM plain"
    assert cql.run(text) == [{"x": (1,)}]
    cql.run(f"ALTER TYPE {name} ADD b int")
    assert cql.run(text) == [{"x": (1, None)}]
    cql.run(f"DROP TYPE {name}")
    assert "nknown type" in cql.error(text).message


def test_pages_by_key_go_on_whatever_becomes_of_indexes_and_of_the_table(cql: Cql) -> None:
    cql.run("CREATE TABLE leafed (k int, c int, v int, PRIMARY KEY (k, c))")
    for c in range(6):
        cql.run("INSERT INTO leafed (k, c, v) VALUES (1, ?, ?)", c, c)

    def page(text: str, state: bytes | None) -> tuple[list[int], bytes | None]:
        found = cql.good(wire.Query(text, cql.parameters(page_size=2, paging_state=state)))
        assert isinstance(found, wire.Rows)
        return [row["c"] for row in rows(found)], found.paging_state

    for text in ("SELECT c FROM leafed", "SELECT c FROM leafed WHERE k IN (1, 2)"):
        read, state = page(text, None)
        cql.run("CREATE INDEX leaves ON leafed (v)")
        more, state = page(text, state)
        cql.run("DROP INDEX leaves")
        assert read + more + page(text, state)[0] == [0, 1, 2, 3, 4, 5]
    states = {
        text: page(text, None)[1] for text in ("SELECT c FROM leafed", "SELECT c FROM leafed WHERE k = 1")
    }
    cql.run("TRUNCATE leafed")
    for text, state in states.items():
        assert page(text, state) == ([], None)


def test_rows_are_told_with_the_columns_that_they_were_read_for(cql: Cql) -> None:
    cql.run("CREATE TABLE widening (k int PRIMARY KEY, v int)")
    cql.run("INSERT INTO widening (k, v) VALUES (1, 2)")
    text = "SELECT * FROM widening WHERE v = 2 ALLOW FILTERING"
    prepared = cql.good(wire.Prepare(text))
    assert isinstance(prepared, wire.Prepared)
    asking: list[wire.Request] = [
        wire.Query(text, cql.parameters()),
        cql.execute(prepared, []),
        wire.Execute(prepared.id, cql.parameters(), b"as it was once"),
    ]
    under_way = [cql.session.answer(request) for request in asking]
    answers: list[list[Answer]] = []
    for execution in under_way:
        (request,) = next(execution)
        cql._ask(request, lambda answer: answers.append([answer]))
    assert cql.cluster.run_until(lambda: len(answers) == 3, SECOND)
    cql.run("ALTER TABLE widening ADD between int")
    assert [len(row) for row in cql.run(text)] == [3], "the statement is planned anew"
    for execution, answer in zip(under_way, answers, strict=True):
        with pytest.raises(StopIteration) as ended:
            execution.send(answer)
        response = ended.value.value
        assert isinstance(response, wire.Rows)
        assert rows(response) == [{"k": 1, "v": 2}]


@pytest.mark.parametrize("where", ["WHERE k = ?", "WHERE k IN ?"])
def test_who_knows_other_columns_is_told_those_of_now(cql: Cql, where: str) -> None:
    table = f"shown{len(where)}"
    cql.run(f"CREATE TABLE {table} (k int PRIMARY KEY, z text)")
    settle(cql.cluster)
    cql.run(f"INSERT INTO {table} (k, z) VALUES (1, 'z')")
    prepared = cql.good(wire.Prepare(f"SELECT * FROM {table} {where}"))
    assert isinstance(prepared, wire.Prepared)
    value = b"\0\0\0\1" if "IN" not in where else b"\0\0\0\1\0\0\0\4\0\0\0\1"
    execute = wire.Execute(prepared.id, cql.parameters([value], skip_metadata=True))
    told = cql.good(execute)
    assert isinstance(told, wire.Rows) and told.skip_metadata
    cql.run(f"ALTER TABLE {table} ADD a int")
    settle(cql.cluster)
    for _ in range(2):
        told = cql.good(execute)
        assert isinstance(told, wire.Rows)
        assert [column.name for column in told.metadata.columns] == ["k", "a", "z"]
        assert not told.skip_metadata, "who speaks version 4 would read three values by two columns"
    newest = msgspec.structs.replace(execute, result_metadata_id=told.metadata.id)
    told = cql.good(newest)
    assert isinstance(told, wire.Rows) and told.skip_metadata and not told.metadata_changed
    told = cql.good(msgspec.structs.replace(execute, result_metadata_id=prepared.result.id))
    assert isinstance(told, wire.Rows) and told.metadata_changed
