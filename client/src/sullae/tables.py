"""Rows as tables of pandas, Arrow and polars, whichever of them is installed; none is needed otherwise."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sullae import json_values

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Row = Mapping[str, Any]


def to_pandas(rows: Sequence[Row]) -> pandas.DataFrame:
    """A DataFrame with a column per name in any row."""
    return _library("pandas").DataFrame.from_records(list(map(dict, rows)))


def to_arrow(rows: Sequence[Row]) -> pyarrow.Table:
    """An Arrow table with a column per name in any row.

    Numbers that Arrow's integers and floats do not hold become decimals; a column that mixes what no type of
    Arrow has becomes JSON text.
    """
    arrow = _library("pyarrow")
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    return arrow.table({name: _column(arrow, [row.get(name) for row in rows]) for name in names})


def _column(arrow: Any, values: list[Any]) -> Any:
    refusals = (arrow.ArrowException, OverflowError, TypeError, ValueError)
    with contextlib.suppress(*refusals):
        return arrow.array(values)
    if all(value is None or type(value) in (int, float, Decimal) for value in values):
        exact = [None if value is None else Decimal(str(value)) for value in values]
        try:
            return arrow.array(exact)
        except refusals:
            return arrow.array([None if value is None else str(value) for value in exact])
    return arrow.array([None if value is None else json_values.dumps(value).decode() for value in values])


def to_polars(rows: Sequence[Row]) -> polars.DataFrame:
    """A polars DataFrame with a column per name in any row; types are taken from all rows."""
    made: polars.DataFrame = _library("polars").DataFrame(list(map(dict, rows)), infer_schema_length=None)
    return made


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{name} is not installed: pip install {name}") from error
