"""What a document holds in a unique index: the values that no other document may hold.

They are the terms of the index (index/entries.py), as of a clock, with three differences. Null and what is
missing are no values, as in SQL: any number of documents may be without one; of an index on several paths
that goes for each of them. All directions are ascending, since only equality counts. And an object has no
term that tells it from another, so a document with an object at such a path is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import islice, product
from typing import Final

import msgspec

from core.row import Row
from core.schema import Index, Table
from index.entries import ColumnType, Compiled, RowView, Term, compiled
from index.entries_json import NOTHING, NULL, OBJECT, holds
from lsm.keys import ROW_SUFFIX

_NO_VALUES = (NULL, NOTHING, OBJECT)


COMBINED_MAX: Final = 10_000
"""Values that are made of one document: arrays on several paths make the product of their lengths."""


class NoValueError(Exception):
    """A document holds something at a path of this unique index that cannot be compared."""

    def __init__(self, index: str) -> None:
        super().__init__(index)
        self.index = index


class TooManyValuesError(Exception):
    """A document holds more than COMBINED_MAX values of one unique index: so many."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count


class UniqueIndex(msgspec.Struct, frozen=True):
    """A unique index of one version of a table, ready to give values; `reservations` is its table's id."""

    id: int
    name: str
    reservations: int
    compiled: Compiled

    def values(self, partition: bytes, row: Row, now_us: int, *, strict: bool = False) -> list[Term]:
        """What the row of this partition key holds at `now_us`, each once, in ascending order.

        A `strict` one raises NoValueError for what cannot be compared, TooManyValuesError for what are too
        many; else that is passed over, which a document can hold only if no index was there when it came.
        """
        view = RowView(partition, ROW_SUFFIX, row.cells, now_us)
        if not view.is_there:
            return []
        if not all(holds(of(view), how, what) for of, how, what in self.compiled.conditions):
            return []
        each: list[list[Term]] = []
        for part in self.compiled.parts:
            terms = part(view)
            if strict and OBJECT in terms:
                raise NoValueError(self.name)
            each.append([term for term in terms if term not in _NO_VALUES])
        count = math.prod(map(len, each))
        if strict and count > COMBINED_MAX:
            raise TooManyValuesError(count)
        # No term is the beginning of another, so what they make together can be taken apart again.
        return sorted(dict.fromkeys(b"".join(values) for values in islice(product(*each), COMBINED_MAX)))


def unique_indexes(table: Table, types: Mapping[str, ColumnType]) -> tuple[UniqueIndex, ...]:
    """The unique indexes of a table; one that is not understood is an AssertionError: it cannot be kept."""
    found = []
    for index in table.indexes:
        if index.unique:
            ready = compiled(table, _ascending(index), types)
            assert ready is not None, f"{index.name} is made by a later version: this peer cannot keep it"
            found.append(UniqueIndex(index.id, index.name, index.reservations, ready))
    return tuple(found)


def _ascending(index: Index) -> Index:
    targets = tuple(msgspec.structs.replace(target, descending=False) for target in index.targets)
    return msgspec.structs.replace(index, targets=targets)
