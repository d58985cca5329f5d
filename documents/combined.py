"""Indexes on several paths have an entry for each combination of what stands there: how many that would be.

A few arrays of a hundred elements make millions: a few kilobytes that took all memory of every replica.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

from core import limits
from core.json_values import Value, parse
from core.schema import Index
from query.document_filter import And, Compare, Exists
from query.document_match import predicate
from query.document_values import order_key


class Combined(NamedTuple):
    """An index on several paths, and for which documents it is."""

    name: str
    paths: tuple[tuple[str, ...], ...]
    conditions: tuple[tuple[tuple[str, ...], str, str], ...]
    """(path, operator or exists, value)."""


def combined_of(indexes: Sequence[Index]) -> tuple[Combined, ...]:
    """Those of a table; what unique ones hold is bounded more narrowly."""
    return tuple(
        Combined(
            index.name,
            tuple(target.path for target in index.targets),
            tuple((target.path, how, what) for target, how, what in index.condition),
        )
        for index in indexes
        if len(index.targets) > 1 and not index.unique
    )


def problem_of(combined: Sequence[Combined], document: Value) -> str | None:
    """Why a document has too many entries, or None."""
    for index in combined:
        most = math.prod(max(1, sum(1 for _ in _values(document, path))) for path in index.paths)
        if most <= limits.INDEX_TERMS_MAX or not _is_of(index, document):
            continue
        count = math.prod(max(1, len(set(map(_told, _values(document, path))))) for path in index.paths)
        if count > limits.INDEX_TERMS_MAX:
            return (
                f"the index {index.name} would have {count} entries for it, and {limits.INDEX_TERMS_MAX} are "
                "the limit: arrays on several of its paths make the product of their lengths"
            )
    return None


def _is_of(index: Combined, document: Value) -> bool:
    """Whether a partial index is for this document."""
    tests = [
        Exists(path) if how == "exists" else Compare(path, how, parse(what.encode()))
        for path, how, what in index.conditions
    ]
    return predicate(And(tuple(tests)))(document)


def _told(value: Value) -> Hashable:
    """The same of values that have one entry: of objects and arrays it says no more (index/entries)."""
    return type(value) if isinstance(value, dict | list) else order_key(value)


def _values(value: Value, path: Sequence[str]) -> Iterator[Value]:
    """What stands at a path, through arrays."""
    if not path:
        if isinstance(value, list):
            yield from value
        else:
            yield value
    elif isinstance(value, dict):
        if path[0] in value:
            yield from _values(value[path[0]], path[1:])
    elif isinstance(value, list):
        if path[0].isdecimal() and int(path[0]) < len(value):
            yield from _values(value[int(path[0])], path[1:])
        for item in value:
            if isinstance(item, dict):
                yield from _values(item, path)
