"""COPY of files that others write: their booleans, dates and numbers, several at once, a part of the ring."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from cli.shell import copy_to as exporting
from cli.shell.copy_from import files_of
from cli.shell.copy_styles import Styles
from cli.shell.copying import CopyPlan, parse_copy
from cli.shell.errors import UsageError
from cli.shell.schema import Column, Table
from core.errors import RequestError
from cql_lite import types
from tests.cli.shell import test_copy_resume as resuming
from tests.cli.shell.stub_server import serving
from tests.cql_lite import values

TABLE = Table("ks", "t", (Column("k", "int", "partition_key", 0), Column("v", "text")))
GERMAN = Styles("ja", "nein", "%d.%m.%Y %H:%M:%S.%f", ",", ".")
ZONED = Styles(datetime="%Y-%m-%dT%H:%M:%S.%f%z")
STYLED = ["boolean", "timestamp", "int", "bigint", "varint", "decimal", "float", "double", "tinyint"]


def plan_of(text: str) -> CopyPlan:
    return CopyPlan(parse_copy(text), TABLE, TABLE.columns)


@pytest.mark.parametrize(
    ("of", "cql", "styled"),
    [
        ("boolean", "true", "ja"),
        ("boolean", "false", "nein"),
        ("timestamp", "2024-02-29 01:02:03.456+0000", "29.02.2024 01:02:03.456000"),
        ("timestamp", "1960-01-01 00:00:00.001+0000", "01.01.1960 00:00:00.001000"),
        ("int", "-1234567", "-1.234.567"),
        ("int", "123", "123"),
        ("varint", "123456789012345678901", "123.456.789.012.345.678.901"),
        ("decimal", "1234.50", "1.234,50"),
        ("decimal", "1E-30", "1E-30"),
        ("double", "-0.5", "-0,5"),
        ("double", "1.5e+300", "1,5e+300"),
        ("double", "NaN", "NaN"),
        ("float", "Infinity", "Infinity"),
        ("text", "1.5", "1.5"),
        ("list<double>", "[1.5, 2.5]", "[1.5, 2.5]"),
    ],
)
def test_values_as_others_write_them(of: str, cql: str, styled: str) -> None:
    of_type = types.parse_type(of)
    data = Styles().reader(of_type)(cql)
    assert GERMAN.writer(of_type)(data) == styled
    assert GERMAN.reader(of_type)(styled) == data
    assert Styles().writer(of_type)(data) == cql


@given(st.data())
def test_every_value_comes_back_in_a_style(data: st.DataObject) -> None:
    of = data.draw(st.sampled_from(STYLED).map(types.parse_type) | values.nested())
    value = data.draw(values.wire_values(of))
    for styles in (GERMAN, Styles(thousands="'"), Styles(decimal="\\", thousands=" ")):
        plain = Styles().reader(of)(Styles().writer(of)(value))
        found = styles.reader(of)(styles.writer(of)(value))
        assert Styles().writer(of)(found) == Styles().writer(of)(plain)


@pytest.mark.parametrize(
    ("of", "text", "said"),
    [
        ("boolean", "true", "expected ja or nein, but found 'true'"),
        ("timestamp", "2024-02-29", "is not written as %d.%m.%Y"),
        ("timestamp", "30.02.2024 00:00:00.0", "is not written as"),
        ("timestamp", "20240229", "is not written as"),
        ("double", "1,5,5", "double"),
        ("int", "1,5", "int"),
    ],
)
def test_what_is_not_written_so_is_a_reject(of: str, text: str, said: str) -> None:
    with pytest.raises((ValueError, RequestError), match=said):
        GERMAN.reader(types.parse_type(of))(text)


def test_zones_points_and_years_that_the_calendar_lacks() -> None:
    at = ZONED.reader(types.TIMESTAMP)
    assert at("2024-01-01T01:00:00.0+0100") == at("2024-01-01T00:00:00.0+0000")
    with pytest.raises(ValueError, match="decimals come after ,"):
        Styles(decimal=",").reader(types.DOUBLE)("1.5")
    for ms in (2**63 - 1, -(2**63), -50_000_000_000_000):  # the last is in the year 385
        far = types.TIMESTAMP.encode(ms)
        assert GERMAN.writer(types.TIMESTAMP)(far) == Styles().writer(types.TIMESTAMP)(far)
        assert GERMAN.reader(types.TIMESTAMP)(Styles().writer(types.TIMESTAMP)(far)) == far


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("BOOLSTYLE = 'yes'", "two words"),
        ("BOOLSTYLE = 'yes,YES'", "two words"),
        ("DECIMALSEP = '::'", "one character"),
        ("THOUSANDSSEP = '-'", "one character that is no part of a number"),
        ("THOUSANDSSEP = '.'", "group its digits, too"),
        ("FORMAT = ndjson AND BOOLSTYLE = 'y,n'", "BOOLSTYLE is for csv"),
        ("BEGINTOKEN = x", "whole number of 64 bits"),
        ("ENDTOKEN = 9223372036854775808", "whole number of 64 bits"),
        ("BEGINTOKEN = 5 AND ENDTOKEN = -5", "no token is between"),
        ("BEGINTOKEN = 9223372036854775807", "no token is between"),
        ("ENDTOKEN = -9223372036854775808", "no token is between"),
        ("ENCODING = 'latin-1'", "files are UTF-8"),
        ("MAXOUTPUTSIZE = 100", "no option MAXOUTPUTSIZE"),
    ],
)
def test_options_that_cannot_be(options: str, said: str) -> None:
    with pytest.raises(UsageError) as told:
        parse_copy(f"COPY t TO 'x' WITH {options}")
    assert said in told.value.text


def test_options_of_a_style() -> None:
    found = parse_copy(
        "COPY t FROM 'x' WITH BOOLSTYLE = 'ja, nein' AND DATETIMEFORMAT = '%d.%m.%Y %H:%M:%S.%f' "
        "AND DECIMALSEP = ',' AND THOUSANDSSEP = '.' AND ENCODING = 'utf8';"
    )
    assert found.options.styles == GERMAN
    assert parse_copy("COPY t FROM 'x'").options.styles == Styles()


@pytest.mark.parametrize(
    ("begin", "end"), [(0, 2**63 - 1), (-(2**63), 5), (-5, 5), (-(2**63), 2**63 - 1), (7, 8)]
)
def test_a_part_of_the_ring_begins_behind_its_first_token(begin: int, end: int) -> None:
    found = exporting.queries_of(plan_of(f"COPY t TO 'x' WITH BEGINTOKEN = {begin} AND ENDTOKEN = '{end}'"))
    ends = [[int.from_bytes(value, "big", signed=True) for value in bounds] for _, bounds in found]
    assert (ends[0][0], ends[-1][1]) == (begin, end)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(ends))
    assert all(first < last for first, last in ends)
    assert [">=" in text for text, _ in found] == [first == -(2**63) for first, _ in ends]


def test_files_by_patterns_and_commas(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.ndjson", "x,y.csv"):
        (tmp_path / name).write_text("")

    def files(text: str, options: str = "") -> list[str]:
        found = files_of(plan_of(f"COPY t FROM '{text.replace('@', str(tmp_path))}'{options}"))
        return [Path(file).name for file in found]

    assert files("@/a.csv") == ["a.csv"]
    assert files("@/x,y.csv") == ["x,y.csv"], "a file of this name comes before what it could mean"
    assert files("@/?.csv") == ["a.csv", "b.csv"]
    assert files("@/b.csv, @/a.csv") == ["b.csv", "a.csv"]
    assert files("@/b.csv,@/none.csv") == ["none.csv"], "what is missing is told by name"
    for text, options, said in (
        ("@/a.csv,@/c.ndjson", "", "several formats"),
        ("@/?.csv", " WITH ERRFILE = 'e'", "ERRFILE is one file"),
    ):
        with pytest.raises(UsageError, match=said):
            files(text, options)


async def test_several_files_are_copied_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        lines = [f"{number * 10 + row},x\n" for row in range(10)]
        (tmp_path / f"{number}.csv").write_text("".join(lines) + ("wrong,x\n" if number == 1 else ""))
    table = resuming.Table()
    async with serving(table.stub):
        shell = resuming.shell_on(table.stub, monkeypatch)
        assert not await shell.run(f"COPY shop.t FROM '{tmp_path}/*.csv'"), "one line is rejected"
        assert resuming.keys(table.written) == list(range(30)), "and what comes behind it is copied"
        assert (tmp_path / "1.csv.rejects").exists()
        table.written.clear()
        assert await shell.run(f"COPY shop.t FROM '{tmp_path}/[02].csv' WITH MAXROWS = 13")
        assert resuming.keys(table.written) == [*range(10), 20, 21, 22]
        assert not await shell.run(f"COPY shop.t FROM '{tmp_path}/none*.csv'")
        assert "No such file" in capsys.readouterr().err
        shell.client.close()
    counted = resuming.Table()
    async with serving(counted.stub):
        shell = resuming.shell_on(counted.stub, monkeypatch, resuming.COUNTED)
        assert not await shell.run(f"COPY shop.t FROM '{tmp_path}/[02].csv'")
        assert "one file at a time" in capsys.readouterr().err
        assert not counted.written
        shell.client.close()
