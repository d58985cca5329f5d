"""Rows as tables, expanded, CSV, JSON and NDJSON; errors with their caret."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from cli.shell.errors import closest, missing_name, pointed, refused, spot_of
from cli.shell.formatting import writer_for
from cli.shell.schema import assembled, names_like
from cli.shell.tables import width
from core.consistency import Level
from cql_lite import types, wire

COLUMNS = (("id", "int"), ("name", "text"), ("tags", "set<text>"))
ROWS: list[tuple[Any, ...]] = [(1, "강강술래", ("a", "b")), (22, None, None), (3, "two\nlines\x1b[31m", ())]


def specs(columns: Sequence[tuple[str, str]] = COLUMNS) -> list[wire.ColumnSpec]:
    return [wire.ColumnSpec("ks", "t", name, types.parse_type(of)) for name, of in columns]


def wired(columns: Sequence[wire.ColumnSpec], rows: Sequence[Sequence[Any]]) -> list[list[bytes | None]]:
    return [
        [
            None if value is None else column.type.encode(value)
            for column, value in zip(columns, row, strict=True)
        ]
        for row in rows
    ]


def written(name: str, pages: Sequence[Sequence[Sequence[Any]]], **options: Any) -> str:
    columns = specs()
    lines: list[str] = []
    writer = writer_for(name, columns, lines.append, **options)
    for page in pages:
        writer.page(wired(columns, page))
    writer.end()
    return "\n".join(lines)


def test_a_table_is_aligned_by_what_characters_take_on_a_terminal() -> None:
    text = written("table", [ROWS])
    assert text.split("\n") == [
        " id | name               | tags",
        "----+--------------------+------------",
        "  1 | 강강술래           | {'a', 'b'}",
        " 22 | null               | null",
        "  3 | two\\nlines\\x1b[31m | {}",
    ]
    lines = text.split("\n")
    assert len({width(line.rpartition("|")[0]) for line in lines if "|" in line}) == 1


def test_later_pages_keep_the_header_and_widen() -> None:
    text = written("table", [[ROWS[1]], [ROWS[0]]]).split("\n")
    assert text == [
        " id | name | tags",
        "----+------+------",
        " 22 | null | null",
        "  1 | 강강술래 | {'a', 'b'}",
    ]


def test_no_rows_still_show_the_columns() -> None:
    assert written("table", [[]]).split("\n") == [" id | name | tags", "----+------+------"]


def test_null_is_told_from_the_text_null_by_its_colour() -> None:
    columns = specs([("a", "text"), ("b", "text")])
    lines: list[str] = []
    writer_for("table", columns, lines.append, colour=True).page([[b"null", None]])
    assert lines[-1].count("\x1b[31m") == 1


def test_expanded_is_one_value_a_line() -> None:
    assert written("table", [ROWS[:1], ROWS[1:2]], expand="on").split("\n") == [
        "@ row 1", " id   | 1", " name | 강강술래", " tags | {'a', 'b'}",
        "@ row 2", " id   | 22", " name | null", " tags | null",
    ]  # fmt: skip


@pytest.mark.parametrize(("columns", "expanded"), [(20, True), (60, False), (0, False)])
def test_auto_expands_what_is_wider_than_the_terminal(columns: int, expanded: bool) -> None:
    assert ("@ row 1" in written("table", [ROWS[:1]], expand="auto", width=columns)) is expanded


def test_json_is_one_array_over_all_pages_and_ndjson_a_line_each() -> None:
    expected = [
        {"id": 1, "name": "강강술래", "tags": ["a", "b"]},
        {"id": 22, "name": None, "tags": None},
        {"id": 3, "name": "two\nlines\x1b[31m", "tags": []},
    ]
    assert json.loads(written("json", [ROWS[:1], ROWS[1:]])) == expected
    assert [json.loads(line) for line in written("ndjson", [ROWS]).split("\n")] == expected
    assert written("json", [[]]) == "[]"


def test_csv_tells_null_from_the_empty_text() -> None:
    columns = specs([("a", "text"), ("b", "text")])
    lines: list[str] = []
    writer_for("csv", columns, lines.append).page([[b"", None], [b'x,"y"', b"z"]])
    assert lines == ["a,b", '"",', '"x,""y""",z']


def test_bytes_that_are_no_value_are_shown_as_they_are() -> None:
    columns = specs([("a", "int"), ("b", "text")])
    for name, expected in (("table", "0x"), ("json", '"0x"')):
        lines: list[str] = []
        writer = writer_for(name, columns, lines.append)
        writer.page([[b"", b"\xff"]])
        writer.end()
        assert expected in lines[-1] and "0xff" in lines[-1]


# --- errors


@pytest.mark.parametrize(
    ("message", "statement", "expected"),
    [
        ("line 1, column 10: expected FROM", "SELECT * FORM t", (1, 10)),
        ("line 2:3 no viable alternative", "SELECT\n * form", (2, 4)),
        ("there is no table ks.usrs", "SELECT * FROM usrs", (1, 15)),
        ("unconfigured table usrs: table usrs does not exist in keyspace ks", "SELECT * FROM usrs", (1, 15)),
        ("Undefined column name nme in table ks.users", "SELECT a,\n nme FROM users", (2, 2)),
        ("table ks.users has no column nme", "SELECT a,\n nme FROM users", (2, 2)),
        ("there is no table ks.a", "SELECT a FROM a", None),
        ("whatever", "SELECT 1", None),
    ],
)
def test_where_an_error_points(message: str, statement: str, expected: tuple[int, int] | None) -> None:
    assert spot_of(message, statement) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("there is no table shop.usrs", "users"),
        ("table shop.users has no column nme", "name"),
        ("there is no keyspace shp", "shop"),
        ("unconfigured table usrs: table usrs does not exist in keyspace shop", "users"),
        ("Table 'shop.usrs' doesn't exist", "users"),
        ("Undefined column name nme in table shop.users", "name"),
        ("Keyspace 'shp' does not exist", "shop"),
        ("Unknown type bigit (line 1, column 42)", "bigint"),
        ("there is no type string (line 1, column 42)", "text"),
        ("there is no type bigit", "bigint"),
        ("there is no table shop.zzz", ""),
        ("whatever", ""),
    ],
)
def test_the_name_that_was_meant(message: str, expected: str) -> None:
    columns = [
        ("shop", "users", "id", "int", "partition_key", 0),
        ("shop", "users", "name", "text", "regular", -1),
    ]
    schema = assembled([("shop",)], [("shop", "users")], columns, [])
    missing = missing_name(message)
    found = (
        "" if missing is None else closest(missing[1].rpartition(".")[2], names_like(schema, "", *missing))
    )
    assert found == expected


def test_the_caret_stands_below_wide_characters_and_in_long_lines() -> None:
    spot = spot_of("line 1, column 13: x", "SELECT '강강' x")
    assert spot is not None
    line, caret = pointed("SELECT '강강' x", spot)
    assert width(line[: line.index("x")]) == caret.index("^")
    long = "SELECT " + "a, " * 100 + "oops"
    at = spot_of(f"line 1, column {long.index('oops') + 1}: x", long)
    assert at is not None
    line, caret = pointed(long, at)
    assert width(line) < 110 and line[caret.index("^") :].startswith("oops")


def test_an_error_is_told_with_its_kind_its_place_and_what_was_meant() -> None:
    lines = refused(wire.SyntaxFault(message="line 1, column 1: expected a statement"), "SELCT 1")
    assert lines == [
        "Syntax error: line 1, column 1: expected a statement", "  SELCT 1", "  ^", "  did you mean SELECT?",
    ]  # fmt: skip
    error = wire.Unavailable(message="Cannot achieve it", consistency=Level.QUORUM, required=2, alive=1)
    assert refused(error, "x") == ["Unavailable: Cannot achieve it [QUORUM: 2 required, 1 alive]"]
