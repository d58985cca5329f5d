"""Files of records, read as a stream: NDJSON and CSV, gzipped or not, in constant memory.

Every record knows the byte offset (after decompression) and the line where it begins, so that a load can go
on where an earlier one stopped. A line that is no record is a `Reject` with a reason, never an end of the
stream.

- NDJSON: a record's value is its line, byte for byte; its key is the text or whole number of one member.
- CSV: the first line names the columns; a record's value is a JSON object with all values as text, because
  only its author knows whether 007 is a number.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, cast

from cli.output import Failure
from core.limits import KEY_BYTES_MAX, MIB, VALUE_BYTES_MAX

LINE_BYTES_MAX: Final = VALUE_BYTES_MAX + MIB
"""A longer line is rejected without being held in memory."""

KINDS: Final = {".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "ndjson", ".csv": "csv", ".tsv": "tsv"}
REJECTED_TEXT_CHARS_MAX: Final = 4_000
DIGITS_MAX: Final = 4_000


@dataclass(frozen=True, slots=True)
class Record:
    """One record: where it begins, its key, and the JSON that is stored."""

    offset: int
    line: int
    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Reject:
    """What is no record, and why."""

    offset: int
    line: int
    reason: str
    text: str


def kind_of(path: Path, asked: str | None = None) -> str:
    """ndjson, csv or tsv, by the file's name unless it was said."""
    if asked is not None:
        if asked not in KINDS.values():
            raise Failure(f"--format is ndjson, csv or tsv, not {asked}", code="bad_option")
        return asked
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    kind = KINDS.get(suffixes[-1].lower()) if suffixes else None
    if kind is None:
        raise Failure(
            f"{path}: its name does not say what it holds",
            hint="--format ndjson, csv or tsv",
            code="bad_format",
        )
    return kind


class Source:
    """The lines of a file, with the offset and number of the next one."""

    def __init__(self, path: Path) -> None:
        """Opens the file; `Failure` where it cannot be."""
        self.path = path
        try:
            self._raw: IO[bytes] = path.open("rb")
            self.size = path.stat().st_size
            magic = self._raw.read(2)
            self._raw.seek(0)
        except OSError as error:
            raise Failure(f"{path}: {error.strerror or error}", code="bad_file") from None
        packed = magic == b"\x1f\x8b"
        self._file: IO[bytes] = cast(IO[bytes], gzip.GzipFile(fileobj=self._raw)) if packed else self._raw
        self.offset = 0
        self.line = 1

    def __enter__(self) -> Source:
        """The source itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        """Close the file."""
        self._file.close()
        self._raw.close()

    @property
    def bytes_read(self) -> int:
        """Bytes of the file itself (compressed, if it is) that were read, for a progress bar."""
        return self._raw.tell()

    def skip_to(self, offset: int, line: int) -> None:
        """Go on at an offset at or after the present one, where a record begins."""
        if self._file is self._raw:
            self._raw.seek(offset)
        else:
            left = offset - self.offset
            while left and (chunk := self._read(min(left, MIB))):
                left -= len(chunk)
        self.offset, self.line = offset, line

    def next_line(self) -> bytes:
        """The next line with its end, b"" at the end; one beyond the limit comes without its end."""
        data = self._read(LINE_BYTES_MAX, line=True)
        self.offset += len(data)
        if len(data) == LINE_BYTES_MAX and not data.endswith(b"\n"):
            while (rest := self._read(MIB, line=True)) and not rest.endswith(b"\n"):
                self.offset += len(rest)
            self.offset += len(rest)
        self.line += 1 if data else 0
        return data

    def _read(self, count: int, *, line: bool = False) -> bytes:
        try:
            return self._file.readline(count) if line else self._file.read(count)
        except (OSError, EOFError, zlib.error) as error:
            raise Failure(f"{self.path}: damaged near line {self.line}: {error}", code="bad_file") from None


def read_records(source: Source, kind: str, key: str, offset: int, line: int) -> Iterator[Record | Reject]:
    """The records from `offset` (0: from the start) on, whose key is the field `key`."""
    if kind == "ndjson":
        source.skip_to(offset, line)
        yield from _ndjson(source, key)
    else:
        yield from _csv(source, key, "\t" if kind == "tsv" else ",", (offset, line))


def _ndjson(source: Source, key: str) -> Iterator[Record | Reject]:
    while True:
        offset, line = source.offset, source.line
        data = source.next_line()
        if not data:
            return
        value = data.strip(b" \t\r\n")
        if offset == 0:
            value = value.removeprefix(b"\xef\xbb\xbf")
        if value:
            yield _checked(offset, line, value, key)


def _checked(offset: int, line: int, value: bytes, key: str) -> Record | Reject:
    def reject(reason: str) -> Reject:
        return Reject(offset, line, reason, value[:REJECTED_TEXT_CHARS_MAX].decode(errors="replace"))

    if len(value) > VALUE_BYTES_MAX:
        return reject(f"longer than {VALUE_BYTES_MAX} bytes")
    try:
        record = json.loads(value.decode(), parse_constant=_no_constant, parse_int=whole)
    except (ValueError, RecursionError) as error:
        return reject(f"not JSON: {error}")
    if not isinstance(record, dict):
        return reject("not a JSON object" + (" but an array: one a line" if isinstance(record, list) else ""))
    found, reason = key_text(record.get(key), key)
    return Record(offset, line, found, value) if not reason else reject(reason)


def whole(text: str) -> int | str:
    """A number; one that Python would not make of so many digits is only looked at, and sent as it stands."""
    return int(text) if len(text) <= DIGITS_MAX else text


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def key_text(value: Any, field: str) -> tuple[str, str]:
    """The key that a member's value makes, and why it makes none."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        why = "missing" if value is None else "no text or whole number"
        return "", f"the field {field} is {why}"
    text = str(value)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "", f"the field {field} holds half of a surrogate pair"
    if not 1 <= size <= KEY_BYTES_MAX:
        return "", f"the field {field} has {size} bytes; a key has 1 to {KEY_BYTES_MAX}"
    return text, ""


def _csv(source: Source, key: str, delimiter: str, begin: tuple[int, int]) -> Iterator[Record | Reject]:
    """A record may span lines, so csv.reader is fed line by line and the source knows how far it got."""
    csv.field_size_limit(VALUE_BYTES_MAX)
    reader = csv.reader(_text_lines(source), delimiter=delimiter, strict=True)
    try:
        columns = next(reader, [])
    except csv.Error as error:
        raise Failure(f"{source.path}: the first line is not CSV: {error}", code="bad_header") from None
    if key not in columns:
        other = next((mark for mark in ";|\t" if len(columns) == 1 and mark in columns[0]), "")
        hint = f"it is separated by {other!r}, but should be by commas (tsv: by tabs)" if other else ""
        raise Failure(
            f"{source.path}: no column is named {key}; there are {', '.join(columns) or 'none'}",
            hint=hint or "say which column is the key: --key COLUMN",
            code="no_key_column",
        )
    twice = next((name for at, name in enumerate(columns) if name in columns[:at]), None)
    if twice is not None:
        raise Failure(f"{source.path}: two columns are named {twice}", hint="rename one", code="bad_header")
    if begin[0]:
        source.skip_to(*begin)
    while True:
        offset, line = source.offset, source.line
        try:
            values = next(reader, None)
        except csv.Error as error:
            yield Reject(offset, line, f"not CSV: {error}", "")
            reader = csv.reader(_text_lines(source), delimiter=delimiter, strict=True)
            continue
        if values is None:
            return
        if values:
            yield _csv_record(offset, line, (columns, values), key)


def _csv_record(offset: int, line: int, row: tuple[list[str], list[str]], key: str) -> Record | Reject:
    columns, values = row
    text = ",".join(values)[:REJECTED_TEXT_CHARS_MAX]
    if len(columns) != len(values):
        return Reject(offset, line, f"{len(values)} values for {len(columns)} columns", _printable(text))
    record = dict(zip(columns, values, strict=True))
    try:
        data = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return Reject(offset, line, "not UTF-8", _printable(text))
    found, reason = key_text(record[key], key)
    return Record(offset, line, found, data) if not reason else Reject(offset, line, reason, text)


def _printable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _text_lines(source: Source) -> Iterator[str]:
    first = source.offset == 0
    while data := source.next_line():
        yield data.decode("utf-8-sig" if first else "utf-8", errors="surrogateescape")
        first = False


def reject_line(reject: Reject) -> bytes:
    """A reject as a line of the rejects file."""
    line = {"line": reject.line, "reason": reject.reason, "text": reject.text}
    return json.dumps(line, ensure_ascii=False).encode(errors="replace") + b"\n"


def fingerprint(path: Path) -> str:
    """What tells this file from another of the same name: its size, and a hash over its ends."""
    import hashlib

    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(MIB))
        file.seek(max(0, size - MIB), io.SEEK_SET)
        digest.update(file.read(MIB))
    return digest.hexdigest()
