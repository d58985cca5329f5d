"""Which index serves a filter: the one whose terms narrow it most, or none.

An index may serve a filter if it has an entry for every document that meets it; what it leads to is judged by
the filter all the same. So only what a document *must* meet counts: the conditions that stand together at the
top. From an index's targets, in their order, values that have to be equal make a beginning that all its terms
share, and of the target after them a range narrows on. Two bounds of one path are not put together: an array
may meet them by two elements.

The order of terms is that of index/entries_json.py, which is given here as `term_of`, as these folders do not
know each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from core.finding import Drive, Span
from core.json_values import Value, exact, is_number, parse
from core.schema import SIMPLE_INDEX, Index, IndexTarget
from lsm.keys import successor
from query.document_filter import And, Compare, ElemMatch, Exists, Filter, In
from query.document_values import Path, equal

TermOf = Callable[[Value], bytes]
"""The term of a value, numbers being int or Decimal."""

_PRESENT: Final = b"\x01"
"""Before each target's term, where there are several."""
_FLIP: Final = bytes(255 - byte for byte in range(256))
SPANS_MAX: Final = 1_000


class Plan(msgspec.Struct, frozen=True):
    """How documents are found: by an index (`drive`, its name, the paths it narrows by), or by looking at
    all.

    `exact`: one term, under which documents come in the order of their keys.
    """

    drive: Drive | None = None
    index: str = ""
    paths: tuple[Path, ...] = ()
    exact: bool = False


SCAN: Final = Plan()


class _Wanted(msgspec.Struct):
    """What a path must meet: values to be equal to (one of), or a bound."""

    values: tuple[Value, ...] = ()
    bounds: tuple[tuple[str, Value], ...] = ()


def plan_of(condition: Filter, indexes: Iterable[Index], column: str, term_of: TermOf) -> Plan:
    """The best plan; among equals the index that was made first."""
    musts = list(_musts(condition))
    wanted = _by_path(musts)
    best, best_score = SCAN, (0, 0)
    for index in indexes:
        if not index.targets or any(target.column != column or not target.path for target in index.targets):
            continue
        if any(target.fold or target.kind != SIMPLE_INDEX for target in index.targets) or not _is_implied(
            index, musts
        ):
            continue
        found = _served(index, wanted, term_of)
        if found is not None and found[0] > best_score:
            best_score, best = found
    return best


def _musts(condition: Filter) -> Iterable[Filter]:
    if isinstance(condition, And):
        for one in condition.filters:
            yield from _musts(one)
    else:
        yield condition


def _by_path(musts: list[Filter]) -> dict[Path, _Wanted]:
    found: dict[Path, _Wanted] = {}
    for one in musts:
        if isinstance(one, Compare) and one.operator == "=" and _has_term(one.value):
            wanted = found.setdefault(one.path, _Wanted())
            if not wanted.values:
                wanted.values = (one.value,)
        elif isinstance(one, In) and one.values and all(map(_has_term, one.values)):
            wanted = found.setdefault(one.path, _Wanted())
            if not wanted.values or len(one.values) < len(wanted.values):
                wanted.values = one.values
        elif isinstance(one, Compare) and one.operator != "=" and _has_order(one.value):
            wanted = found.setdefault(one.path, _Wanted())
            wanted.bounds = wanted.bounds or ((one.operator, one.value),)
        elif isinstance(one, ElemMatch) and one.is_value:
            bounds = [
                (inner.operator, inner.value)
                for inner in _musts(one.filter)
                if isinstance(inner, Compare) and inner.operator != "=" and _has_order(inner.value)
            ]
            if bounds and len({isinstance(value, str) for _, value in bounds}) == 1:
                found.setdefault(one.path, _Wanted()).bounds = tuple(bounds)
    return found


def _has_term(value: Value) -> bool:
    """Whether a document that holds this value has a term for it; null is met by what has none."""
    return isinstance(value, (bool, str)) or is_number(value)


def _has_order(value: Value) -> bool:
    return isinstance(value, str) or is_number(value)


def _plain(value: Value) -> Value:
    return exact(value) if isinstance(value, float) else value


def _is_implied(index: Index, musts: list[Filter]) -> bool:
    """Whether every document that meets the filter is in a partial index."""
    return all(any(_implies(one, condition) for one in musts) for condition in index.condition)


def _implies(one: Filter, condition: tuple[IndexTarget, str, str]) -> bool:
    target, how, what = condition
    if isinstance(one, Exists):
        return how == "exists" and one.path == target.path
    if not isinstance(one, Compare) or one.path != target.path:
        return False
    if how == "exists":
        return _has_term(one.value)
    return one.operator == how and equal(one.value, parse(what.encode()))


def _served(
    index: Index, wanted: dict[Path, _Wanted], term_of: TermOf
) -> tuple[tuple[int, int], Plan] | None:
    """What an index can do for the filter, with how good that is."""
    several = len(index.targets) > 1
    heads: list[bytes] = [b""]
    paths: list[Path] = []
    for target in index.targets:
        want = wanted.get(target.path)
        if want is None:
            break
        mark = _PRESENT if several else b""
        if want.values:
            if len(heads) * len(want.values) > SPANS_MAX:
                break
            terms = [_term(term_of, value, target) for value in want.values]
            heads = [head + mark + term for head in heads for term in dict.fromkeys(terms)]
            paths.append(target.path)
            continue
        span = _range(want.bounds, target, term_of)
        spans = [(head + mark + span[0], head + mark + span[1]) for head in heads]
        return (2 * len(paths) + 1, -len(heads)), _plan(index, spans, [*paths, target.path], exact=False)
    if not paths:
        return None
    whole = len(paths) == len(index.targets)
    spans = [(head, b"" if whole else successor(head)) for head in heads]
    is_exact = whole and len(heads) == 1
    return (2 * len(paths), -len(heads)), _plan(index, spans, paths, is_exact)


def _plan(index: Index, spans: list[Span], paths: list[Path], exact: bool) -> Plan:
    ordered = tuple(sorted(dict.fromkeys(spans)))
    return Plan(Drive(index.id, ordered), index.name, tuple(paths), exact)


def _term(term_of: TermOf, value: Value, target: IndexTarget) -> bytes:
    term = term_of(_plain(value))
    return term.translate(_FLIP) if target.descending else term


def _range(bounds: tuple[tuple[str, Any], ...], target: IndexTarget, term_of: TermOf) -> Span:
    """All terms of the type between the bounds, which are taken in: the filter judges.

    No term is the beginning of another, so a term's successor as a prefix ends what it begins.
    """
    tag = term_of(_plain(bounds[0][1]))[:1]
    lowest = highest = tag
    for operator, value in bounds:
        term = term_of(_plain(value))
        if operator in (">", ">="):
            lowest = max(lowest, term)
        else:
            highest = term if highest == tag else min(highest, term)
    if target.descending:
        return highest.translate(_FLIP), successor(lowest.translate(_FLIP))
    return lowest, successor(highest)
