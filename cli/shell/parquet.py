"""COPY to and from Parquet, through pyarrow: an extra, imported only here.

Numbers, text, blobs, dates, times and collections become Arrow's own; what Arrow has no type for (uuid, inet,
decimal and varint of any size, duration, tuples and user-defined types, json) is text as CSV has it. From a
file of others a column may have any type whose values fit: numbers widen, timestamps come in any unit.
"""

from __future__ import annotations

import datetime
import importlib
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from cli.records import REJECTED_TEXT_CHARS_MAX, Reject
from cli.shell.copy_rows import Field, Row
from cli.shell.copy_values import from_text, text_of
from cli.shell.copying import CopyOptions
from cli.shell.errors import UsageError
from core.errors import RequestError
from cql_lite import types, wire

GROUP_ROWS: Final = 10_000
_EPOCH: Final = datetime.date(1970, 1, 1).toordinal()
_ZERO: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def arrow() -> Any:
    """pyarrow; raises UsageError where it is not installed."""
    try:
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    except ImportError:
        hint = "pip install 'sullae-server[parquet]'"
        raise UsageError("COPY: Parquet needs pyarrow, which is not installed", hint) from None


# --- to


def arrow_type(of: types.Type, pa: Any) -> Any:
    """The Arrow type that a column has."""
    if isinstance(of, types.Integer):
        return {1: pa.int8, 2: pa.int16, 4: pa.int32, 8: pa.int64}[of.width or 8]()
    if isinstance(of, types.Float):
        return pa.float32() if of.width == 4 else pa.float64()
    if isinstance(of, types.ListType | types.SetType | types.VectorType):
        return pa.list_(arrow_type(_inner(of.element), pa))
    if isinstance(of, types.MapType):
        return pa.map_(arrow_type(_inner(of.keys), pa), arrow_type(_inner(of.values), pa))
    plain: dict[types.Type, Any] = {
        types.BOOLEAN: pa.bool_(),
        types.BLOB: pa.binary(),
        types.DATE: pa.date32(),
        types.TIME: pa.time64("ns"),
        types.TIMESTAMP: pa.timestamp("ms", tz="UTC"),
    }
    return plain.get(of, pa.string())


_AS_IT_IS: Final = (
    types.Integer,
    types.Float,
    types.Boolean,
    types.Blob,
    types.Date,
    types.Time,
    types.Timestamp,
)


def to_arrow(of: types.Type, data: bytes | None) -> Any:
    """A value as Arrow's constructor takes it: numbers since the epoch for dates and times."""
    if data is None:
        return None
    if isinstance(of, _AS_IT_IS):
        return of.decode(data)
    if isinstance(of, types.ListType | types.SetType | types.VectorType):
        return [_to_inner(of.element, part) for part in of.unpack(data)]
    if isinstance(of, types.MapType):
        return [(_to_inner(of.keys, key), _to_inner(of.values, value)) for key, value in of.pairs(data)]
    return text_of(of, data)


def _inner(of: types.Type) -> types.Type:
    """Within collections times are text: Python's, which come out of there, have neither their precision nor
    their range.
    """
    return types.TEXT if isinstance(of, types.Date | types.Time | types.Timestamp) else of


def _to_inner(of: types.Type, data: bytes | None) -> Any:
    if data is not None and isinstance(of, types.Date | types.Time | types.Timestamp):
        return text_of(of, data)
    return to_arrow(of, data)


class ParquetSink:
    """Rows to a Parquet file, a group at a time."""

    can_resume = False

    def __init__(self, path: Path, fields: Sequence[Field]) -> None:
        self._pa = pa = arrow()
        self._fields = fields
        self._schema = pa.schema([(field.name, arrow_type(field.type, pa)) for field in fields])
        try:
            self._writer = pa.parquet.ParquetWriter(str(path), self._schema)
        except OSError as error:
            raise UsageError(f"COPY: {path}: {error}") from None
        self._held: list[Sequence[bytes | None]] = []

    def write(self, rows: Sequence[Sequence[bytes | None]]) -> None:
        """More rows."""
        self._held += rows
        if len(self._held) >= GROUP_ROWS:
            self.flush()

    def flush(self) -> int:
        """Write what is held as a group."""
        if self._held:
            columns = [
                self._pa.array(
                    [to_arrow(field.type, row[index]) for row in self._held], self._schema.field(index).type
                )
                for index, field in enumerate(self._fields)
            ]
            self._writer.write_table(self._pa.Table.from_arrays(columns, schema=self._schema))
            self._held = []
        return 0

    def close(self) -> None:
        """There are no more."""
        self.flush()
        self._writer.close()


# --- from


def from_arrow(of: types.Type, value: Any) -> bytes:
    """The wire value of a Python value that came from Arrow; raises RequestError, ValueError, TypeError."""
    convert = _FROM.get(type(of))
    if convert is not None and not isinstance(value, str):
        return of.encode(convert(value))
    if isinstance(of, types.ListType | types.SetType):
        return of.build([from_arrow(of.element, part) for part in value])
    if isinstance(of, types.VectorType):
        return of.pack([from_arrow(of.element, part) for part in value])
    if isinstance(of, types.MapType):
        pairs = value.items() if isinstance(value, dict) else value
        return of.build(
            [part for k, v in pairs for part in (from_arrow(of.keys, k), from_arrow(of.values, v))]
        )
    return from_text(of, value if isinstance(value, str) else str(value))


def _whole(value: Any) -> int:
    if isinstance(value, bool) or value != int(value):
        raise ValueError(f"{value} is no whole number")
    return int(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value} is neither true nor false")
    return value


def _days(value: Any) -> int:
    if isinstance(value, datetime.datetime):
        value = value.date()
    return value.toordinal() - _EPOCH if isinstance(value, datetime.date) else _whole(value)


def _nanoseconds(value: Any) -> int:
    if isinstance(value, datetime.time):
        seconds = (value.hour * 60 + value.minute) * 60 + value.second
        return (seconds * 1_000_000 + value.microsecond) * 1_000
    return _whole(value)


def _milliseconds(value: Any) -> int:
    if isinstance(value, datetime.datetime):
        at = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        return (at - _ZERO) // datetime.timedelta(milliseconds=1)
    if isinstance(value, datetime.date):
        return (value.toordinal() - _EPOCH) * 86_400_000
    return _whole(value)


_FROM: Final[dict[type, Callable[[Any], Any]]] = {
    types.Integer: _whole,
    types.Varint: _whole,
    types.Float: float,
    types.DecimalType: lambda value: value if isinstance(value, Decimal) else Decimal(repr(value)),
    types.Boolean: _boolean,
    types.Blob: bytes,
    types.Date: _days,
    types.Time: _nanoseconds,
    types.Timestamp: _milliseconds,
}


def parquet_rows(
    path: Path, fields: Sequence[Field], options: CopyOptions, begin: tuple[int, int] = (0, 1)
) -> Iterator[Row | Reject]:
    """The rows of a file; the offset of a row is its number."""
    pa = arrow()
    try:
        file = pa.parquet.ParquetFile(str(path))
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"COPY: {path}: {error}") from None
    names = file.schema_arrow.names
    missing = [field.name for field in fields if field.name not in names]
    if missing:
        raise UsageError(f"COPY: {path} has no column {missing[0]}; it has {', '.join(names)}")
    first = max(begin[0], options.skip_rows)
    number = 0
    for batch in file.iter_batches(columns=[field.name for field in fields]):
        if number + batch.num_rows > first:
            columns = [as_python(batch.column(field.name), field.type, pa) for field in fields]
            for index in range(max(0, first - number), batch.num_rows):
                yield _row(number + index, [column[index] for column in columns], fields)
        number += batch.num_rows


def as_python(column: Any, of: types.Type, pa: Any) -> list[Any]:
    """Values of a column; times as numbers, as Python's have no nanoseconds."""
    if pa.types.is_time(column.type) and isinstance(of, types.Time):
        column = column.cast(pa.time64("ns")).cast(pa.int64())
    elif pa.types.is_timestamp(column.type) and isinstance(of, types.Timestamp):
        column = column.cast(pa.timestamp("ms", tz=column.type.tz), safe=False).cast(pa.int64())
    elif pa.types.is_date32(column.type) and isinstance(of, types.Date):
        column = column.cast(pa.int32())
    found: list[Any] = column.to_pylist()
    return found


def _row(number: int, values: Sequence[Any], fields: Sequence[Field]) -> Row | Reject:
    wired: list[wire.BoundValue] = []
    for field, value in zip(fields, values, strict=True):
        try:
            wired.append(None if value is None else from_arrow(field.type, value))
        except (RequestError, ValueError, TypeError, OverflowError, ArithmeticError) as error:
            text = repr(list(values))[:REJECTED_TEXT_CHARS_MAX]
            return Reject(number, number + 1, f"{field.name}: {error}", text)
    return Row(number, number + 1, repr(list(values))[:REJECTED_TEXT_CHARS_MAX], wired)
