"""Orders of documents: `{"year": -1, "title": 1}` as what two documents are compared by.

A document stands where the values of its paths stand (query/document_values.py: `sort_value`), and
documents that are equal in all of them stand by their place in the store, so that every order is total and
a page can go on exactly where the last one ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from query.document_filter import whole
from query.document_values import Descending, Path, Value, parse_path, sort_key, sort_value
from query.refusals import Refusal, RefusedError, member, refusable, shown

KEYS_MAX: Final = 32


class SortKey(msgspec.Struct, frozen=True):
    """A path, and which way."""

    path: Path
    descending: bool


Sort = tuple[SortKey, ...]


def parse_sort(value: Value, where: str = "sort") -> Sort | Refusal:
    """The order that a JSON value is: an object, or an array of objects or texts (`"-year"` descends)."""
    return refusable(lambda: _parse(value, where))


def _parse(value: Value, where: str) -> Sort:
    pairs: list[tuple[str, Value]] = []
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            pairs += item.items()
        elif isinstance(item, str):
            pairs.append((item.removeprefix("-"), -1 if item.startswith("-") else 1))
        else:
            raise RefusedError(
                where, f'a sort is an object as {{"year": -1, "title": 1}}; found {shown(item)}'
            )
    if len(pairs) > KEYS_MAX:
        raise RefusedError(where, f"a sort has at most {KEYS_MAX} paths")
    keys = []
    for text, direction in pairs:
        path = parse_path(text)
        if isinstance(path, str):
            raise RefusedError(member(where, text), path)
        if whole(direction) not in (1, -1):
            raise RefusedError(member(where, text), f"1 ascends and -1 descends; found {shown(direction)}")
        keys.append(SortKey(path, whole(direction) == -1))
    if len({key.path for key in keys}) < len(keys):
        raise RefusedError(where, "a path is there twice")
    return tuple(keys)


def sort_values(sort: Sort, document: Value) -> list[Value]:
    """The values that a document is sorted by, one per key; they are JSON and travel in cursors."""
    return [sort_value(document, key.path, key.descending) for key in sort]


def place(sort: Sort, values: Sequence[Value], key: bytes) -> tuple[Any, ...]:
    """What two documents are compared by: the order of their values, then that of their keys in the store."""
    ordered = [
        Descending(sort_key(value)) if one.descending else sort_key(value)
        for one, value in zip(sort, values, strict=True)
    ]
    return (*ordered, key)
