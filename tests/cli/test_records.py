"""Records are read as they lie in the file, and from any of their offsets the rest reads the same."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from cli import records
from cli.output import Failure
from cli.records import Record, Reject, Source, read_records


def read(path: Path, kind: str, offset: int = 0, line: int = 1, key: str = "id") -> list[Record | Reject]:
    with Source(path) as source:
        return list(read_records(source, kind, key, offset, line))


def test_ndjson_values_are_the_lines_byte_for_byte(tmp_path: Path) -> None:
    file = tmp_path / "a.ndjson"
    file.write_bytes('\ufeff{"id":"a/b",  "n":1.50}\n\n{"id":7}\r\n{"id":"ㄱ"}'.encode())
    assert [(r.line, r.key, r.value) for r in read(file, "ndjson") if isinstance(r, Record)] == [
        (1, "a/b", b'{"id":"a/b",  "n":1.50}'),
        (3, "7", b'{"id":7}'),
        (4, "ㄱ", '{"id":"ㄱ"}'.encode()),
    ]


def test_a_number_of_more_digits_than_python_reads_is_sent_as_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "a.ndjson"
    line = b'{"id":"a","n":' + b"7" * 5_000 + b"}"
    file.write_bytes(line)
    assert [record.value for record in read(file, "ndjson") if isinstance(record, Record)] == [line]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"x":1}', "the field id is missing"),
        (b'{"id":null}', "the field id is missing"),
        (b'{"id":true}', "no text or whole number"),
        (b'{"id":1.5}', "no text or whole number"),
        (b'{"id":""}', "a key has 1 to"),
        (b'{"id":"\\ud800"}', "half of a surrogate pair"),
        (b"\xff\xfe", "not JSON"),
        ('{"id":1}'.encode("utf-16-be"), "not JSON"),
        (b'{"id":"a","x":NaN}', "NaN is no JSON"),
        (b'{"id":' + b"[" * 100_000, "not JSON"),
        (json.dumps({"id": "k" * 70_000}).encode(), "70000 bytes"),
    ],
)
def test_what_is_no_record_is_rejected_with_its_reason(tmp_path: Path, line: bytes, reason: str) -> None:
    file = tmp_path / "a.ndjson"
    file.write_bytes(b'{"id":"before"}\n' + line + b'\n{"id":"after"}\n')
    first, second, third = read(file, "ndjson")
    assert isinstance(first, Record) and isinstance(third, Record) and third.key == "after"
    assert isinstance(second, Reject)
    assert second.line == 2 and reason in second.reason
    assert json.loads(records.reject_line(second))["line"] == 2


def test_a_line_beyond_the_limit_is_skipped_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LINE_BYTES_MAX", 1000)
    monkeypatch.setattr(records, "VALUE_BYTES_MAX", 900)
    file = tmp_path / "a.ndjson"
    file.write_bytes(b'{"id":"' + b"x" * 3_000_000 + b'"}\n{"id":"after"}\n')
    first, second = read(file, "ndjson")
    assert isinstance(first, Reject) and "longer than" in first.reason
    assert isinstance(second, Record) and (second.key, second.line) == ("after", 2)


def test_csv_values_are_text_and_records_may_span_lines(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('id,zip,note\n1,007,"two\nlines, ""quoted"""\n2,8\n,9,x\n3,10,ok\n')
    first, short, keyless, last = read(file, "csv")
    assert isinstance(first, Record)
    assert json.loads(first.value) == {"id": "1", "zip": "007", "note": 'two\nlines, "quoted"'}
    assert isinstance(short, Reject) and short.reason == "2 values for 3 columns" and short.line == 4
    assert isinstance(keyless, Reject) and "1 to" in keyless.reason
    assert isinstance(last, Record) and (last.key, last.line) == ("3", 6)


def test_csv_that_is_not_utf8_is_rejected_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"id,name\n1,\xff\n2,b\n")
    bad, good = read(file, "csv")
    assert isinstance(bad, Reject) and bad.reason == "not UTF-8"
    assert isinstance(good, Record) and good.key == "2"


def test_a_csv_without_the_key_column_says_which_there_are(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("name,zip\na,1\n")
    with pytest.raises(Failure, match="no column is named id; there are name, zip"):
        read(file, "csv")


def test_a_damaged_gzip_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.ndjson.gz"
    file.write_bytes(gzip.compress(b'{"id":1}\n' * 10_000)[:-20])
    with pytest.raises(Failure, match=r"a\.ndjson\.gz: damaged near line"):
        read(file, "ndjson")


def test_the_kind_is_in_the_name() -> None:
    assert records.kind_of(Path("a.b.ndjson.gz")) == "ndjson"
    assert records.kind_of(Path("A.CSV")) == "csv"
    assert records.kind_of(Path("a.txt"), "tsv") == "tsv"
    with pytest.raises(Failure, match="does not say"):
        records.kind_of(Path("a.gz"))
    with pytest.raises(Failure, match="not xml"):
        records.kind_of(Path("a.csv"), "xml")


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@given(
    rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=12),
    packed=st.booleans(),
    kind=st.sampled_from(["ndjson", "csv"]),
    data=st.data(),
)
def test_reading_on_from_any_record_gives_the_rest(
    rows: list[tuple[str, str]], packed: bool, kind: str, data: st.DataObject
) -> None:
    if kind == "ndjson":
        content = "".join(json.dumps({"id": key, "v": value}) + "\n" for key, value in rows).encode()
    else:
        out = io.StringIO(newline="")
        csv.writer(out).writerows([("id", "v"), *rows])
        content = out.getvalue().encode()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a"
        file.write_bytes(gzip.compress(content) if packed else content)
        whole = read(file, kind)
        assert len(whole) == len(rows) or kind == "csv"  # an empty CSV row is a blank line
        if whole:
            index = data.draw(st.integers(0, len(whole) - 1))
            assert read(file, kind, whole[index].offset, whole[index].line) == whole[index:]
