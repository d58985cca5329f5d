"""COPY: its grammar and options, CSV as text, and rows of files with what is no row."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from cli.records import Reject, Source
from cli.shell import copy_rows, csv_text
from cli.shell.copy_from import insert_of
from cli.shell.copy_rows import Field, Row, csv_rows, ndjson_rows
from cli.shell.copy_to import RANGES, queries_of
from cli.shell.copy_values import from_json, from_text, json_of, text_of
from cli.shell.copying import CopyOptions, CopyPlan, options_of, parse_copy
from cli.shell.csv_text import Dialect
from cli.shell.errors import UsageError
from cli.shell.parquet import arrow_type, as_python, from_arrow, to_arrow
from cli.shell.schema import Column, Table
from cql_lite import types, wire
from tests.cql_lite import values

# --- the statement


def test_the_whole_of_a_copy() -> None:
    found = parse_copy(
        "COPY ks.\"T\" (a, \"B\") FROM 'it''s.tsv.gz' "
        "WITH HEADER = true AND null='-' AND MAXROWS = -1 AND ttl = 5;"
    )
    assert (found.keyspace, found.table, found.columns) == ("ks", "T", ("a", "B"))
    assert (found.direction, found.file, found.is_pipe) == ("FROM", "it's.tsv.gz", False)
    options = found.options
    assert (options.format, options.header, options.ttl_s, options.rows_max) == ("csv", True, 5, -1)
    assert options.dialect == Dialect("\t", '"', '"', "-")


@pytest.mark.parametrize(
    ("text", "file", "kind"),
    [
        ("copy t to stdout", "STDOUT", "csv"),
        ("COPY t FROM STDIN WITH FORMAT = ndjson", "STDIN", "ndjson"),
        ("COPY t TO 'a.parquet'", "a.parquet", "parquet"),
        ("COPY t TO 'a.jsonl.gz'", "a.jsonl.gz", "ndjson"),
        ("COPY t TO 'a'", "a", "csv"),
    ],
)
def test_pipes_and_formats(text: str, file: str, kind: str) -> None:
    found = parse_copy(text)
    assert (found.file, found.options.format) == (file, kind)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("COPY", "expected a table"),
        ("COPY t", "FROM or TO"),
        ("COPY t (a FROM 'x'", "end with )"),
        ("COPY t FROM x", "file name in quotes, or STDIN"),
        ("COPY t TO STDIN", "STDOUT"),
        ("COPY t TO 'x' HEADER = true", "expected WITH"),
        ("COPY t TO 'x' WITH HEADER true", "expected ="),
        ("COPY t TO 'x' WITH HEADER =", "value of HEADER is missing"),
        ("COPY t TO 'x' WITH HEADER = yes", "TRUE or FALSE"),
        ("COPY t TO 'x' WITH DELIMITER = 'ab'", "one character"),
        ("COPY t TO 'x' WITH PAGESIZE = 0", "whole number from 1"),
        ("COPY t TO 'x' WITH FORMAT = xml", "no format xml"),
        ("COPY t TO 'x' WITH HEADR = true", "no option HEADR"),
    ],
)
def test_what_is_no_copy_is_told_so(text: str, said: str) -> None:
    with pytest.raises(UsageError) as told:
        parse_copy(text)
    assert said in told.value.text


def test_options_of_cqlsh_that_are_spelt_otherwise_are_named() -> None:
    with pytest.raises(UsageError) as told:
        options_of({"MAXPARSEERRORS": "4"}, "x.csv")
    assert told.value.hint == "did you mean MAXERRORS?"
    assert options_of({"NUMPROCESSES": "4", "CHUNKSIZE": "50"}, "x.csv") == CopyOptions("csv")
    with pytest.raises(UsageError) as told:
        options_of({"HEADERS": "true"}, "x.csv")
    assert told.value.hint == "did you mean HEADER?"


# --- CSV

FIELDS = st.lists(
    st.one_of(st.none(), st.text(st.sampled_from("ab,;\"'\\\n\r\t 강-"), max_size=6)), min_size=1, max_size=5
)


@given(
    FIELDS,
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(['"', "'"]),
    st.sampled_from(["same", "\\"]),
    st.sampled_from(["", "-", "NULL"]),
)
def test_csv_comes_back_as_it_was(
    fields: list[str | None], delimiter: str, quote: str, escape: str, null: str
) -> None:
    dialect = Dialect(delimiter, quote, quote if escape == "same" else escape, null)
    line = csv_text.line(fields, dialect)
    assert csv_text.fields(line, dialect) == fields
    # A record that spans lines is not taken for whole before its end.
    for at, char in enumerate(line):
        if char == "\n":
            assert csv_text.fields(line[:at], dialect) is None


def test_csv_of_other_programs() -> None:
    cqlsh = Dialect(escape="\\")
    assert csv_text.fields(r'1,"a \"b\" \\",,x', cqlsh) == ["1", 'a "b" \\', None, "x"]
    assert csv_text.fields('a"b,c', Dialect()) == ['a"b', "c"]
    with pytest.raises(csv_text.CsvError):
        csv_text.fields('"a"b,c', Dialect())


def same(of: types.Type, found: bytes | None, expected: bytes) -> bool:
    """Equal, but for which of the many NaNs it is."""
    return found == expected or (found is not None and of.to_literal(found) == of.to_literal(expected))


@given(st.data())
def test_every_value_comes_back_from_csv_and_json(data: st.DataObject) -> None:
    of = data.draw(values.nested())
    value = data.draw(values.wire_values(of))
    fields = csv_text.fields(csv_text.line([text_of(of, value)], Dialect()), Dialect())
    assert fields is not None and fields[0] is not None
    assert same(of, from_text(of, fields[0]), value)
    text = json_of(of, value)
    if "null" not in text:  # which NaN and infinity are within collections, and nothing of a tuple
        assert same(of, from_json(of, text.encode()), value)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "-0.0", "1e+300"])
def test_doubles_that_json_does_not_know_come_back_all_the_same(text: str) -> None:
    data = from_text(types.DOUBLE, text)
    assert from_json(types.DOUBLE, json_of(types.DOUBLE, data).encode()) == data


def test_a_tuple_may_be_a_key_of_a_map() -> None:
    of = types.parse_type("map<frozen<tuple<text>>, text>")
    assert of.to_literal(from_text(of, "{(null): '', ('a'): 'b'}")) == "{(null): '', ('a'): 'b'}"


@given(st.data())
def test_every_value_comes_back_from_parquet(data: st.DataObject) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    of = data.draw(values.nested())
    value = data.draw(values.wire_values(of))
    column = pa.array([to_arrow(of, value), None], arrow_type(of, pa))
    found = [None if one is None else from_arrow(of, one) for one in as_python(column, of, pa)]
    assert found[0] is not None and same(of, found[0], value) and found[1] is None


# --- rows of files

PLACES = [Field("id", types.INT), Field("name", types.TEXT)]


def rows_of(path: Path, text: str, options: CopyOptions, kind: str = "csv") -> list[Row | Reject]:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with Source(path) as source:
        return list((csv_rows if kind == "csv" else ndjson_rows)(source, PLACES, options))


def test_rows_and_rejects_of_csv(tmp_path: Path) -> None:
    text = 'name,more,id\n"강\n강",x,1\n,,2\ny,y,z\na,b\n\n\udcff,x,5\n"open,x,6\n'
    options = CopyOptions(header=True)
    found = rows_of(tmp_path / "x.csv", text, options)
    good = [row.values for row in found if isinstance(row, Row)]
    assert good == [[b"\0\0\0\1", "강\n강".encode()], [b"\0\0\0\2", None]]
    wrong = [(row.line, row.reason) for row in found if isinstance(row, Reject)]
    assert [line for line, _ in wrong] == [5, 6, 8, 9]
    for reason, said in zip(
        (why for _, why in wrong),
        ("id: Unable to make int from 'z'", "2 fields for 3", "UTF-8", "never closed"),
        strict=True,
    ):
        assert said in reason
    # Any row's offset is a place to go on from.
    with Source(tmp_path / "x.csv") as source:
        again = list(csv_rows(source, PLACES, options, (found[2].offset, found[2].line)))
    assert again == found[2:]


def test_a_quote_that_is_never_closed_is_looked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    fields = csv_text.fields

    def looking(text: str, of: Dialect) -> list[str | None] | None:
        looked.append(len(text))
        return fields(text, of)

    monkeypatch.setattr(csv_text, "fields", looking)
    monkeypatch.setattr(copy_rows, "LINE_BYTES_MAX", 5_000)
    text = 'id,name\n1,"open\n' + "2,x\n" * 2_000
    found = rows_of(tmp_path / "x.csv", text, CopyOptions(header=True))
    assert isinstance(found[0], Reject) and "longer than 5000 bytes" in found[0].reason
    assert sum(looked) < 2 * len(text)
    assert all(isinstance(row, Row) for row in found[1:])


def test_rows_and_rejects_of_ndjson(tmp_path: Path) -> None:
    text = (
        '{"id": 1, "name": "x"}\n\n{"id": 2}\n{"id": 3, "name": null}\n[]\n{"id": "x"}\n{"id": 4, "nme": 1}\n'
    )
    found = rows_of(tmp_path / "x.ndjson", text, CopyOptions(), "ndjson")
    assert [row.values[1] for row in found if isinstance(row, Row)] == [b"x", wire.UNSET, None]
    assert [row.line for row in found if isinstance(row, Reject)] == [5, 6, 7]
    assert "no column nme" in str(found[-1])


def test_a_header_that_lacks_a_column_says_which(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no column name"):
        rows_of(tmp_path / "x.csv", "id,nam\n1,x\n", CopyOptions(header=True))


# --- the statements

TABLE = Table(
    "ks",
    "T",
    (Column("a", "int", "partition_key", 0), Column("b", "int", "partition_key", 1), Column("N", "counter")),
)


def test_counters_are_added_to_and_others_inserted() -> None:
    plan = CopyPlan(parse_copy("COPY t FROM 'x' WITH TTL = 9"), TABLE, TABLE.columns)
    fields = [Field("a", types.INT), Field("N", types.COUNTER), Field("b", types.INT)]
    text, order = insert_of(plan, fields)
    assert text == 'UPDATE ks."T" USING TTL 9 SET "N" = "N" + ? WHERE a = ? AND b = ?'
    assert order == [1, 0, 2]
    text, order = insert_of(plan, [fields[0], fields[2]])
    assert (text, order) == ('INSERT INTO ks."T" (a, b) VALUES (?, ?) USING TTL 9', [0, 1])


def test_the_slices_of_the_ring_cover_each_token_once() -> None:
    found = queries_of(CopyPlan(parse_copy("COPY t TO 'x'"), TABLE, TABLE.columns))
    ends = [[int.from_bytes(value, "big", signed=True) for value in values] for _, values in found]
    assert len(found) == RANGES
    assert "token(a, b) >= ?" in found[0][0] and all("token(a, b) > ?" in text for text, _ in found[1:])
    assert ends[0][0] == -(2**63) and ends[-1][1] == 2**63 - 1
    assert all(before[1] == after[0] for before, after in itertools.pairwise(ends))
