"""Rows of all types go out and come back: as JSON, by their parts, by functions, and are what they were.

`TRIPS_SEED=n TRIPS_ROWS=m` draws others, and more.
"""

from __future__ import annotations

import os
import re
from random import Random
from typing import Any

import pytest

from cql_lite import wire
from cql_lite.types import ListType, MapType, SetType, Type
from tests.cql_lite.hostile import COLUMNS, SCHEMA
from tests.cql_lite.hostile_values import sample
from tests.cql_lite.whole import Cql, cluster_of, settle

SEED = os.environ.get("TRIPS_SEED", "1")
ROWS = int(os.environ.get("TRIPS_ROWS", "20"))
NAMES = ("k", "c", "d", *COLUMNS)


@pytest.fixture(scope="module")
def cql() -> Cql:
    client = Cql(cluster_of(1))
    copy = SCHEMA[2].replace("TABLE wide", "TABLE copy")
    for text in ("USE ks", *SCHEMA[:3], copy):
        client.run(text)
        settle(client.cluster)
    return client


def finite(random: Random, of: Type) -> bytes:
    """Bytes of a value without NaN, infinities and documents that are null: as JSON these are all null."""
    while True:
        data = sample(random, of)
        if not {"nan", "inf", "-inf", "null"} & set(re.findall(r"-?[a-z]+", repr(of.decode(data)))):
            return data


class Row:
    """A row of the wide table, written by markers; what is in it as bytes."""

    def __init__(self, cql: Cql, number: int) -> None:
        self.cql = cql
        self.random = Random(f"{SEED}:{number}")
        names = ", ".join(NAMES)
        prepared = cql.good(
            wire.Prepare(f"INSERT INTO wide ({names}) VALUES ({', '.join('?' * len(NAMES))})")
        )
        assert isinstance(prepared, wire.Prepared)
        self.types: dict[str, Type] = {c.name: c.type for c in prepared.variables.columns}
        values: list[wire.BoundValue] = [number.to_bytes(4, "big"), b"x", bytes(4)]
        values += [
            finite(self.random, self.types[name]) if self.random.random() < 0.8 else None for name in COLUMNS
        ]
        cql.good(wire.Execute(prepared.id, cql.parameters(values), prepared.result.id))
        self.where = f"WHERE k = {number}"

    def shown(self, name: str, data: bytes | None) -> str:
        """A value, 1 and 1.0 and true apart."""
        return repr(None if data is None else self.types[name].decode(data))

    def read(self, table: str, selectors: str) -> list[bytes | None]:
        """The values of a row."""
        response = self.cql.good(
            wire.Query(f"SELECT {selectors} FROM {table} {self.where}", self.cql.parameters())
        )
        assert isinstance(response, wire.Rows)
        (row,) = response.rows
        return list(row)


def test_json_brings_back_what_json_gave(cql: Cql) -> None:
    for number in range(ROWS):
        row = Row(cql, number)
        names = ", ".join(NAMES)
        ((text,),) = (found.values() for found in cql.run(f"SELECT JSON {names} FROM wide {row.where}"))
        cql.run(f"INSERT INTO copy JSON ? {row.random.choice(('', 'DEFAULT NULL', 'DEFAULT UNSET'))}", text)
        found, wanted = row.read("copy", names), row.read("wide", names)
        for name, one, other in zip(NAMES, found, wanted, strict=True):
            assert row.shown(name, one) == row.shown(name, other), (
                number,
                name,
                row.types[name].cql,
                other,
                one,
                text,
            )


def test_a_column_is_what_its_json_says(cql: Cql) -> None:
    for number in range(ROWS):
        row = Row(cql, number)
        texts = row.read("wide", ", ".join(f"to_json({name})" for name in COLUMNS))
        for name, text in zip(COLUMNS, texts, strict=True):
            assert text is not None
            cql.run(f"UPDATE copy SET {name} = from_json(?) {row.where} AND c = 'x' AND d = 0", text.decode())
        names = ", ".join(COLUMNS)
        copied = row.cql.run(f"SELECT * FROM copy {row.where}")
        if copied:
            for name, one, other in zip(
                COLUMNS, row.read("copy", names), row.read("wide", names), strict=True
            ):
                assert row.shown(name, one) == row.shown(name, other), (number, name)


def parts(of: Type, value: bytes | None) -> Any:
    return () if value is None else of.decode(value)


def test_parts_of_collections_are_those_of_the_whole(cql: Cql) -> None:
    for number in range(ROWS):
        row = Row(cql, number)
        for name in COLUMNS:
            of = row.types[name]
            if not isinstance(of, ListType | SetType | MapType):
                continue
            (data,) = row.read("wide", name)
            whole = parts(of, data)
            key_type = of.keys if isinstance(of, MapType) else of.element
            keys = [key for key, _ in whole] if isinstance(of, MapType) else list(whole)
            (count,) = row.read("wide", f"collection_count({name})")
            assert count == (None if data is None else len(whole).to_bytes(4, "big")), (number, name)
            if isinstance(of, ListType):
                for at in range(len(whole) + 2):
                    (element,) = cql.run(f"SELECT {name}[?] FROM wide {row.where}", at)
                    assert [*element.values()] == [whole[at] if at < len(whole) else None], (number, name, at)
                continue
            options = [*keys, key_type.decode(sample(row.random, key_type))]
            first, last = row.random.choice(options), row.random.choice(options)
            (element,) = cql.run(f"SELECT {name}[?] FROM wide {row.where}", first)
            there = dict(whole).get(first) if isinstance(of, MapType) else first if first in keys else None
            assert [*element.values()] == [there], (number, name, first, whole)
            low, high = (key_type.key(key_type.encode(one)) for one in (first, last))
            within = [item for key, item in zip(keys, whole, strict=True)
                      if low <= key_type.key(key_type.encode(key)) <= high]  # fmt: skip
            (found,) = cql.run(f"SELECT {name}[?..?] FROM wide {row.where}", first, last)
            assert [*found.values()] == [tuple(within) or None], (number, name, first, last, whole)
