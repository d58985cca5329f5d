"""Positions in updates: `$[]`, `$[name]` with array filters, and `$`, within a path.

    {"$set": {"grades.$[].seen": true}}                      every element
    {"$inc": {"grades.$[low].score": 5}}                     those that the array filter `low` describes:
        "array_filters": [{"low.score": {"$lt": 60}}]        the name, and below it as in any filter
    {"$set": {"grades.$.mark": "B"}}                         the first that the filter of `_update` found

Which elements are meant is found out in the document that an update begins with, before anything of it is
done, so the order of operators is nothing here either. An array is a value: what changes an element reads the
array, changes it and writes it as a whole, on the conditional path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from core import limits
from core.json_values import Value, type_name
from documents.cells import Path
from documents.edits import EditError
from query.document_filter import (
    CLAUSES_TIMES_VALUES_MAX,
    STEPS_TIMES_BYTES_MAX,
    And,
    ElemMatch,
    Expr,
    Filter,
    Not,
    Or,
    cost_of,
    parse_filter,
)
from query.document_match import predicate
from query.document_values import MISSING, path_text, position_of
from query.refusals import Refusal

Test = Callable[[Value], bool]
EVERY: Final = "$[]"
FIRST: Final = "$"
_NAMED: Final = re.compile(r"\$\[([a-z][A-Za-z0-9_]*)\]", re.ASCII)
FILTERS_MAX: Final = 100


def name_of(key: str) -> str | None:
    """The array filter that a key names, if it names one."""
    found = _NAMED.fullmatch(key)
    return found[1] if found else None


def is_mark(key: str) -> bool:
    """Whether a key of a path stands for elements that are found in the document."""
    return key in (EVERY, FIRST) or name_of(key) is not None


class ArrayFilter(msgspec.Struct, frozen=True):
    """Which elements a name means; `clauses` is what looking at one costs."""

    test: Test
    clauses: int


class Positions(msgspec.Struct, frozen=True):
    """What marks mean besides `$[]`: array filters by name, and the filter that found the document."""

    filters: dict[str, ArrayFilter] = {}
    condition: Filter | None = None

    def check(self, paths: list[Path]) -> None:
        """Raises EditError if a mark of these paths means nothing, or an array filter is not used."""
        used: dict[str, None] = {}
        for path in paths:
            for at, key in enumerate(path):
                name = name_of(key)
                if name is not None:
                    used[name] = None
                    if name not in self.filters:
                        detail = f'there is no array filter {name!r}: say "array_filters" beside the update'
                        raise EditError("bad_patch", f"{path_text(path)[:60]}: {detail}")
                elif key == FIRST:
                    self._check_first(path, at)
        for name in self.filters:
            if name not in used:
                detail = f"the array filter {name!r} is not used: no path of the update has $[{name}]"
                raise EditError("bad_patch", detail)

    def _check_first(self, path: Path, at: int) -> None:
        where = path_text(path)[:60]
        if self.condition is None:
            detail = "$ is the element that the filter of _update found: name one by its number, or $[]"
            raise EditError("bad_patch", f"{where}: {detail}")
        if FIRST in path[at + 1 :]:
            raise EditError("bad_patch", f"{where}: $ stands once in a path; use $[] or $[name]")
        if not any(is_mark(key) for key in path[:at]) and not _tests(self.condition, path[:at]):
            detail = f"$ needs a condition on {path_text(path[:at])[:60]} in the filter"
            raise EditError("bad_patch", f"{where}: {detail}")

    def expand(self, document: Value, path: Path) -> list[Path]:
        """The paths without marks that a path means in a document; raises EditError."""
        return list(self._expanded(document, path, (), _Work(path)))

    def _expanded(self, here: Value, path: Path, before: Path, work: _Work) -> Iterator[Path]:
        for at, key in enumerate(path):
            above = before + path[:at]
            if is_mark(key):
                if type(here) is not list:
                    what = "there is nothing" if here is MISSING else f"it is of type {type_name(here)}"
                    where = path_text(above)[:60] or "the document"
                    raise EditError("patch_conflict", f"{where} is to be an array for {key}: {what}")
                for position in self._meant(here, key, above, work):
                    yield from self._expanded(here[position], path[at + 1 :], (*above, str(position)), work)
                return
            here = _below(here, key)
        yield before + path

    def _meant(self, array: list[Value], key: str, above: Path, work: _Work) -> list[int]:
        if key == EVERY:
            work.spend(len(array))
            return list(range(len(array)))
        name = name_of(key)
        if name is not None:
            one = self.filters[name]
            work.spend(len(array) * one.clauses)
            return [at for at, item in enumerate(array) if one.test(item)]
        assert self.condition is not None, "it was checked"
        work.spend(len(array) * cost_of(self.condition).clauses)
        tests = _tests(self.condition, above)
        every = (at for at, item in enumerate(array) if all(test(item) for test in tests))
        some = (at for test in tests for at, item in enumerate(array) if test(item))
        first = next(every, None) if tests else None
        if first is None:
            first = next(some, None)
        if first is None:
            raise EditError("patch_conflict", f"no element of {path_text(above)[:60]} meets the filter for $")
        return [first]


class _Work:
    """What finding the elements of one path may cost, as a filter on a document."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left = CLAUSES_TIMES_VALUES_MAX

    def spend(self, work: int) -> None:
        self._left -= work
        if self._left < 0:
            detail = "its arrays are too long for this many conditions on their elements"
            raise EditError("patch_conflict", f"{path_text(self._path)[:60]}: {detail}")


NOWHERE: Final = Positions()


def _below(here: Value, key: str) -> Value:
    if type(here) is dict:
        return here.get(key, MISSING)
    position = position_of(key)
    if type(here) is list and position is not None and position < len(here):
        return here[position]
    return MISSING


# --- array filters


def array_filters(value: Value) -> dict[str, ArrayFilter]:
    """Array filters by name: a list of filters, of which each begins its paths with one name."""
    if not isinstance(value, list) or len(value) > FILTERS_MAX:
        detail = f'array filters are a list of at most {FILTERS_MAX}, as [{{"low.score": {{"$lt": 60}}}}]'
        raise EditError("bad_patch", detail)
    found: dict[str, ArrayFilter] = {}
    for at, item in enumerate(value):
        where = f"array_filters[{at}]"
        parsed = parse_filter(item, where)
        if isinstance(parsed, Refusal):
            raise EditError("bad_patch", parsed.text)
        names = dict.fromkeys(path[0] for path in paths_of(parsed) if path)
        if len(names) != 1:
            raise EditError("bad_patch", f"{where}: all its paths begin with one name; found {list(names)}")
        name = next(iter(names))
        if name_of(f"$[{name}]") is None:
            detail = f"a name is letters, digits and _, a small letter first; found {name[:60]!r}"
            raise EditError("bad_patch", f"{where}: {detail}")
        if name in found:
            raise EditError("bad_patch", f"{where}: there is a filter {name!r} before: put both in one")
        found[name] = _on_element(parsed, name, where)
    return found


def _on_element(condition: Filter, name: str, where: str) -> ArrayFilter:
    holds, cost = predicate(condition), cost_of(condition)
    if cost.steps * limits.DOCUMENT_BYTES_MAX > STEPS_TIMES_BYTES_MAX:
        raise EditError("bad_patch", f"{where}: its patterns are too complex: write simpler ones")
    return ArrayFilter(lambda element: holds({name: element}), max(1, cost.clauses))


def paths_of(condition: Filter) -> Iterator[Path]:
    """The paths that a filter looks at, but for those within `$elemMatch`."""
    if isinstance(condition, (And, Or)):
        for one in condition.filters:
            yield from paths_of(one)
    elif isinstance(condition, Not):
        yield from paths_of(condition.filter)
    elif not isinstance(condition, Expr):
        yield condition.path


# --- the element that the filter found


def found_in(condition: Filter, array: Path) -> Callable[[list[Value]], list[Value]] | None:
    """What leaves of an array at a path the first element that a filter found; None if it asks nothing of
    the elements there.
    """
    tests = _tests(condition, array)
    if not tests:
        return None

    def cut(items: list[Value]) -> list[Value]:
        best = next(([item] for item in items if all(test(item) for test in tests)), None)
        return best or next(([item] for item in items if any(test(item) for test in tests)), [])

    return cut


def _tests(condition: Filter, array: Path) -> list[Test]:
    """What a filter asks of one element of the array at a path; negations say nothing of one."""
    if isinstance(condition, And):
        return [test for one in condition.filters for test in _tests(one, array)]
    if isinstance(condition, Or):
        some = [test for one in condition.filters for test in _tests(one, array)]
        return [lambda item: any(test(item) for test in some)] if some else []
    if isinstance(condition, (Not, Expr)) or condition.path[: len(array)] != array:
        return []
    rest = condition.path[len(array) :]
    if rest and position_of(rest[0]) is not None:
        return []
    below: Any = msgspec.structs.replace(condition, path=rest)
    holds = predicate(below)
    if isinstance(condition, ElemMatch) and not rest:
        return [lambda item: holds([item])]
    if rest:
        return [lambda item: isinstance(item, (dict, list)) and holds(item)]
    return [holds]
