"""What Tab offers: by the words before the cursor, the schema, and the table named before or after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.shell.completion import complete
from cli.shell.highlight import spans
from cli.shell.schema import Schema, assembled

SCHEMA: Schema = assembled(
    [("shop",), ("system",)],
    [("shop", "users"), ("shop", "Carts"), ("shop", "orders"), ("shop", "events"), ("system", "local")],
    [
        ("shop", "users", "id", "int", "partition_key", 0),
        ("shop", "users", "name", "text", "regular", -1),
        ("shop", "users", "born", "date", "regular", -1),
        ("shop", "orders", "order_id", "int", "partition_key", 0),
        ("shop", "events", "day", "int", "partition_key", 0),
        ("shop", "events", "at", "int", "clustering", 0),
        ("shop", "events", "v", "vector<float, 3>", "regular", -1),
        ("shop", "events", "what", "text", "regular", -1),
        ("system", "local", "key", "text", "partition_key", 0),
    ],
    [("shop", "addr", ("street",), ("text",))],
)


def texts(before: str, after: str = "", keyspace: str = "shop") -> list[str]:
    return [candidate.text for candidate in complete(before, after, SCHEMA, keyspace)]


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("sel", ["select"]),
        ("SEL", ["SELECT"]),
        ("select 1; ins", ["insert into"]),
        ("con", ["consistency"]),
        ("CONSISTENCY LOCAL_", ["LOCAL_ONE", "LOCAL_QUORUM", "LOCAL_SERIAL"]),
        ("tracing o", ["on", "off"]),
        ("USE sh", ["shop"]),
        ("SELECT * FROM us", ["users"]),
        ("SELECT * FROM shop.o", ["orders"]),
        ("SELECT * FROM system.", ["local"]),
        ("DROP TABLE IF EXISTS or", ["orders"]),
        ("INSERT INTO users (na", ["name"]),
        ("SELECT * FROM users WHERE bo", ["born"]),
        ("UPDATE users SET na", ["name"]),
        ("SELECT * FROM users ORD", ["ORDER"]),
        ("CREATE TABLE t (id in", ["inet", "int"]),
        ("CREATE TABLE t (id int, where ad", ["addr"]),
        ("CREATE TABLE t (m map<tex", ["text"]),
        ("ALTER TABLE users ADD x bool", ["boolean"]),
        ("ALTER TABLE users DROP na", ["name"]),
        ("DESCRIBE TABLE or", ["orders"]),
        ("desc key", ["keyspaces", "keyspace"]),
        ("SHOW ho", ["host"]),
        ("COPY us", ["users"]),
        ("COPY users TO 'x' WITH HEA", ["HEADER"]),
        ("HELP sel", ["select"]),
        ("SELECT * FROM users WHERE name = 'se", []),
        ("CREATE KEYSPACE k WITH replication = {'class': 'si", ["SimpleStrategy"]),
    ],
)
def test_what_may_come_next(before: str, expected: list[str]) -> None:
    assert texts(before) == expected


def test_names_that_need_quotes_have_them() -> None:
    assert texts('SELECT * FROM "C') == ['"Carts"']
    assert '"Carts"' in texts("SELECT * FROM c")


def test_columns_are_those_of_the_table_behind_the_cursor() -> None:
    assert texts("SELECT na", " FROM users") == ["name"]
    assert texts("SELECT ord", " FROM shop.orders", keyspace="")[0] == "order_id"
    assert texts("SELECT ", " FROM users")[:3] == ["id", "born", "name"]


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("SELECT * FROM events WHERE day = 1 ORDER BY ", ["at", "v"]),
        ("SELECT * FROM events WHERE ", ["day", "at", "v", "what"]),
        ("INSERT INTO events (day, \"at\", ", ["v", "what"]),
        ("UPDATE events SET ", ["v", "what"]),
        ("UPDATE events SET what = 'x' WHERE ", ["day", "at", "v", "what"]),
        ("ALTER TABLE events DROP ", ["v", "what"]),
    ],
)
def test_columns_are_those_that_can_stand_there(before: str, expected: list[str]) -> None:
    found = complete(before, "", SCHEMA, "shop")
    assert [candidate.text for candidate in found if candidate.kind == "column"] == expected


def test_a_completion_replaces_what_was_typed() -> None:
    found = complete("SELECT * FROM shop.us", "", SCHEMA, "")
    assert [(candidate.text, candidate.back, candidate.kind) for candidate in found] == [
        ("users", 2, "table")
    ]


def test_files_after_a_quote(tmp_path: Path) -> None:
    (tmp_path / "schema.cql").touch()
    (tmp_path / "scripts").mkdir()
    for before in (f"SOURCE '{tmp_path}/s", f"COPY users FROM '{tmp_path}/s"):
        assert texts(before) == ["schema.cql", "scripts/"]


def test_no_text_breaks_completion() -> None:
    for text in (
        "'",
        '"',
        "/*",
        "$$",
        ";;",
        "\\",
        "SELECT * FROM nowhere.",
        "강",
        "BEGIN BATCH INSERT INTO ",
    ):
        complete(text, text, SCHEMA, "nowhere")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'a' FROM t -- b",
        "CONSISTENCY ONE; SELECT count(*) FROM t",
        "'open",
        "/* open\nx",
        '강 " x',
        "",
    ],
)
def test_colours_leave_the_text_as_it_is(text: str) -> None:
    assert "".join(piece for _, piece in spans(text)) == text


def test_colours_of_a_statement() -> None:
    found = {piece: style for style, piece in spans("TRACING ON; SELECT count(a) FROM t WHERE b = 'x' -- y")}
    assert found["TRACING"] == "cql.command"
    assert found["SELECT"] == found["FROM"] == "cql.keyword"
    assert (found["count"], found["'x'"], found["-- y"]) == ("cql.call", "cql.string", "cql.comment")
    assert found["a"] == found["t"] == ""


@pytest.mark.parametrize("name", ["~nobody-of-that-name/", "a\0b/", f"{'x' * 5_000}/"])
def test_a_name_that_no_file_can_have_has_no_completion(name: str) -> None:
    assert texts(f"SOURCE '{name}") == []
