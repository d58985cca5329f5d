"""Secondary indexes of a collection: from what a client says to what the schema keeps, and back.

    {"paths": {"year": 1, "cast.name": -1}, "filter": {"year": {"$gte": 1990}}}

An index is on one path or on several, each ascending or descending; where a path leads through an array it
has an entry for each element. With a filter it is partial: it has entries only for documents that meet it,
and serves only questions that ask for no others. A filter of an index holds conditions that nothing missing
meets ($exists, $eq, $gt, $gte, $lt, $lte of numbers and texts, booleans with $eq), since a document may
lose members when they expire, while nobody writes.

A `unique` index lets no two documents have one value (node/uniques.py); one with `expire_after_s` has
documents deleted that long after the earliest date at its path (node/expiring.py), and serves no questions.

Names of indexes are unique in a keyspace, and all collections share one: the schema's name of an index
begins with that of its collection.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from core import limits
from core.json_values import Value, is_number, parse, render
from core.metadata import CreateIndex, DropIndex
from core.requests import Invalid, MetadataRequest
from core.schema import DATE_INDEX, SIMPLE_INDEX, Index, IndexTarget, Table
from documents.collections import DOCUMENT_COLUMN, Collection
from query.document_filter import And, Compare, Exists, Filter, parse_filter
from query.document_sort import parse_sort
from query.document_values import Path, path_text
from query.refusals import Refusal

PATHS_MAX: Final = 16
CONDITIONS_MAX: Final = 16
_SEPARATOR: Final = "__"
_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{limits.NAME_CHARS_MAX - 1}}}")
_MEMBERS: Final = ("paths", "filter", "unique", "expire_after_s", "expireAfterSeconds")
EXPIRE_S_MAX: Final = 100 * 365 * 24 * 3600
_OPERATORS: Final = {"=": "$eq", ">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}


class IndexSpec(msgspec.Struct, frozen=True):
    """What an index is to be."""

    name: str
    targets: tuple[IndexTarget, ...]
    condition: tuple[tuple[IndexTarget, str, str], ...] = ()
    unique: bool = False
    expire_after_s: int = -1


def schema_name(collection: Collection, name: str) -> str:
    """What the schema calls an index of the collection."""
    return f"{collection.name}{_SEPARATOR}{name}"


def index_spec(name: str, body: Value) -> IndexSpec | Invalid:
    """The index that a body describes, or why it is none."""
    if _NAME.fullmatch(name) is None:
        rule = f"1 to {limits.NAME_CHARS_MAX} letters, digits, - or _, the first a letter or digit"
        return Invalid("bad_index", f"an index's name is {rule}; found {name[:60]!r}")
    if not isinstance(body, dict):
        return Invalid("bad_index", 'an index is {"paths": {"year": 1}}')
    for member in body:
        if member not in _MEMBERS:
            return Invalid("bad_index", f"an index has no {member[:60]!r}; there are {', '.join(_MEMBERS)}")
    sort = parse_sort(body.get("paths") or [], "paths")
    if isinstance(sort, Refusal):
        return Invalid("bad_index", sort.text)
    if not 1 <= len(sort) <= PATHS_MAX:
        return Invalid("bad_index", f"paths: an index is on 1 to {PATHS_MAX} paths")
    if any(key.path == ("_id",) for key in sort):
        return Invalid("bad_index", "paths: documents are found by their id without an index")
    if any("$**" in key.path for key in sort):
        return Invalid("bad_index", "paths: there are no indexes on all paths: name those that are asked for")
    condition = _condition(body.get("filter", {}))
    unique, expires = body.get("unique", False), body.get("expire_after_s", body.get("expireAfterSeconds"))
    if not isinstance(unique, bool):
        return Invalid("bad_index", "unique is true or false")
    problem = None if expires is None else _expiry_problem(expires, len(sort), unique)
    if isinstance(condition, Invalid):
        return condition
    if problem is not None:
        return problem
    kind = SIMPLE_INDEX if expires is None else DATE_INDEX
    targets = tuple(_target(key.path, key.descending and expires is None, kind) for key in sort)
    return IndexSpec(name, targets, condition, unique, -1 if expires is None else expires)


def _expiry_problem(expires: Value, paths: int, unique: bool) -> Invalid | None:
    if isinstance(expires, bool) or not isinstance(expires, int) or not 0 <= expires <= EXPIRE_S_MAX:
        return Invalid(
            "bad_index", f"expire_after_s is 0 to {EXPIRE_S_MAX} seconds after the date at the path"
        )
    if paths != 1 or unique:
        return Invalid("bad_index", "expire_after_s: such an index is on one path, and not unique")
    return None


def _target(path: Path, descending: bool = False, kind: str = SIMPLE_INDEX) -> IndexTarget:
    return IndexTarget(DOCUMENT_COLUMN, kind, path, descending)


def _condition(value: Value) -> tuple[tuple[IndexTarget, str, str], ...] | Invalid:
    parsed = parse_filter(value)
    if isinstance(parsed, Refusal):
        return Invalid("bad_index", parsed.text)
    found = []
    for one in _each(parsed):
        if isinstance(one, Exists):
            found.append((_target(one.path), "exists", ""))
        elif isinstance(one, Compare) and _can_be_condition(one):
            found.append((_target(one.path), one.operator, render(one.value).decode()))
        else:
            why = "an index's filter has $exists, $eq, $gt, $gte, $lt and $lte of plain values"
            return Invalid("bad_index", f"filter: {why}, which stand together")
    if len(found) > CONDITIONS_MAX:
        return Invalid("bad_index", f"filter: at most {CONDITIONS_MAX} conditions")
    return tuple(found)


def _can_be_condition(one: Compare) -> bool:
    if isinstance(one.value, bool):
        return one.operator == "="
    return isinstance(one.value, str) or is_number(one.value)


def _each(condition: Filter) -> list[Filter]:
    if isinstance(condition, And):
        return [each for one in condition.filters for each in _each(one)]
    return [condition]


def create_index(collection: Collection, spec: IndexSpec) -> MetadataRequest:
    """The schema change that makes the index."""
    name = schema_name(collection, spec.name)
    index = Index(
        0,
        name,
        DOCUMENT_COLUMN,
        targets=spec.targets,
        condition=spec.condition,
        unique=spec.unique,
        expire_after_s=spec.expire_after_s,
    )
    return MetadataRequest(CreateIndex(collection.keyspace, collection.name, index))


def drop_index(collection: Collection, name: str) -> MetadataRequest:
    """The schema change that removes the index."""
    return MetadataRequest(DropIndex(collection.keyspace, schema_name(collection, name), if_exists=True))


def is_so(index: Index, spec: IndexSpec) -> bool:
    """Whether an index is what `spec` says."""
    same = (index.targets, index.condition) == (spec.targets, spec.condition)
    return same and (index.unique, index.expire_after_s) == (spec.unique, spec.expire_after_s)


def indexes_of(collection: Collection, table: Table) -> dict[str, Index]:
    """The indexes on paths of documents, by the names that clients gave them."""
    prefix = schema_name(collection, "")
    return {
        index.name.removeprefix(prefix): index
        for index in table.indexes
        if index.targets and index.name.startswith(prefix)
    }


def described(name: str, index: Index) -> dict[str, Any]:
    """What an index is, as a client would say it."""
    found: dict[str, Any] = {
        "name": name,
        "paths": {path_text(one.path): -1 if one.descending else 1 for one in index.targets},
    }
    if index.condition:
        conditions: dict[str, dict[str, Any]] = {}
        for target, how, what in index.condition:
            operator, value = (
                ("$exists", True) if how == "exists" else (_OPERATORS[how], parse(what.encode()))
            )
            conditions.setdefault(path_text(target.path), {})[operator] = value
        found["filter"] = conditions
    if index.unique:
        found["unique"] = True
    if index.expire_after_s >= 0:
        found["expire_after_s"] = index.expire_after_s
    return found
