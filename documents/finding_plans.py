"""Which index serves a filter: the one whose terms narrow it most, or none.

An index may serve a filter if it has an entry for every document that meets it; what it leads to is judged by
the filter all the same. So only what a document *must* meet counts: the conditions that stand together at the
top. From an index's targets, in their order, values that have to be equal make a beginning that all its terms
share, and of the target after them a range narrows on. Two bounds of one path are not put together: an array
may meet them by two elements.

The order of terms is that of index/entries_json.py, which is given here as `term_of`, as these folders do not
know each other.

An index may also give the order that is asked for (`order_plan`): what is sorted by first is its first
target behind those that have to be equal, in the same direction. Documents with a number or a text there come
in that order, and looking ends when there are enough; the others, which lie elsewhere in the order of terms
(null, booleans, objects, arrays, nothing), are looked at before, all of them (`Plan.first`): few as a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from core.finding import OPEN, Drive, Span
from core.json_values import Value, exact, is_number, parse
from core.schema import SIMPLE_INDEX, Index, IndexTarget
from lsm.keys import successor
from query.document_filter import And, Compare, ElemMatch, Exists, Filter, In, Matches, Or
from query.document_sort import Sort, SortKey
from query.document_values import Path, equal
from query.regex import literal_beginning
from ring.tokens import token_of

TermOf = Callable[[Value], bytes]
"""The term of a value, numbers being int or Decimal."""

_PRESENT: Final = b"\x01"
"""Before each target's term, where there are several."""
_FLIP: Final = bytes(255 - byte for byte in range(256))
_MISSING: Final = b"\x00"
_TERMINATOR: Final = b"\x00\x00"
"""What terms of texts end with."""
_ORDERED: Final = (b"\x30", b"\x41")
_OTHERS: Final = ((b"\x10", b"\x30"), (b"\x50", b"\x61"))
_ORDERED_DOWN: Final = (b"\xbf", b"\xd0")
_OTHERS_DOWN: Final = ((b"\x9f", b"\xb0"), (b"\xd0", b"\xf0"))
"""Terms of numbers and texts, and of all else (index/entries_json.py), ascending and turned over."""
SPANS_MAX: Final = 1_000


class Plan(msgspec.Struct, frozen=True):
    """How documents are found: by an index (`drive`, its name, the paths it narrows by), or by looking at
    all.

    `exact`: one term, under which documents come in the order of their keys. `first` is what is looked at
    before, where `drive` gives the order that is asked for; where that index `lacks` documents, which come
    last, all are looked at if the page is not full by then. `bounded`: the filter itself has no index, so
    only so many documents may be looked at. `ids` are the only ones that can meet it, ascending by token.
    """

    drive: Drive | None = None
    index: str = ""
    paths: tuple[Path, ...] = ()
    exact: bool = False
    first: Drive | None = None
    lacks: bool = False
    bounded: bool = False
    ids: tuple[str, ...] | None = None


SCAN: Final = Plan()


class _Wanted(msgspec.Struct):
    """What a path must meet: values to be equal to (one of), or a bound, or texts with a beginning, or
    anything.
    """

    values: tuple[Value, ...] = ()
    bounds: tuple[tuple[str, Value], ...] = ()
    every: tuple[tuple[str, Value], ...] = ()
    beginning: str = ""
    exists: bool = False

    @property
    def is_there(self) -> bool:
        """Whether the path leads to something in every document that meets this."""
        return bool(self.values or self.bounds or self.beginning or self.exists)


def plan_of(condition: Filter, indexes: Iterable[Index], column: str, term_of: TermOf) -> Plan:
    """The best plan; among equals the index that was made first."""
    musts = list(_musts(condition))
    wanted = _by_path(musts)
    best, best_score = SCAN, (0, 0)
    for index in indexes:
        if not _may_serve(index, musts, column):
            continue
        found = _served(index, wanted, term_of)
        if found is not None and found[0] > best_score:
            best_score, best = found
    return best


def ids_of(condition: Filter) -> tuple[str, ...] | None:
    """The ids of which a document must have one to meet a filter, ascending by token; None if it does not say
    so, or more than IDS_MAX.
    """
    listed: tuple[Value, ...] | None = None
    for must in _musts(condition):
        if isinstance(must, Compare) and must.path == _ID and must.operator == "=":
            values: tuple[Value, ...] = (must.value,)
        elif isinstance(must, In) and must.path == _ID:
            values = must.values
        else:
            continue
        if listed is None or len(values) < len(listed):
            listed = values
    if listed is None or len(listed) > IDS_MAX:
        return None
    ids = dict.fromkeys(one for one in listed if isinstance(one, str) and one)
    return tuple(sorted(ids, key=token_of_id))


def token_of_id(document_id: str) -> int:
    """The token of a document's row."""
    return token_of(document_id.encode("utf-8", "surrogatepass"))


_ID: Final = ("_id",)
IDS_MAX: Final = 1_000


def _may_serve(index: Index, musts: list[Filter], column: str) -> bool:
    """Whether it is on plain paths of documents, and every document that meets the filter is in it."""
    if not index.targets or not _is_implied(index, musts):
        return False
    return all(
        target.column == column and target.path and not target.fold and target.kind == SIMPLE_INDEX
        for target in index.targets
    )


def order_plan(
    condition: Filter,
    sort: Sort,
    indexes: Iterable[Index],
    column: str,
    term_of: TermOf,
    *,
    after: Value = None,
) -> Plan | None:
    """How documents come in this order, if an index that narrows them as well as any other gives it.

    `after` is what the last document of the page before was sorted by first; it need not be told.
    """
    indexes = list(indexes)
    musts = list(_musts(condition))
    wanted = _by_path(musts)
    usual = plan_of(condition, indexes, column, term_of)
    best: Plan | None = None
    for index in indexes:
        if not sort or not _may_serve(index, musts, column):
            continue
        found = _in_order(index, sort[0], wanted, term_of, after)
        if found is None or not set(usual.paths) <= set(found.paths):
            continue
        if best is None or len(found.paths) > len(best.paths):
            best = msgspec.structs.replace(found, bounded=usual.drive is None)
    return best


def _in_order(
    index: Index, key: SortKey, wanted: dict[Path, _Wanted], term_of: TermOf, after: Value
) -> Plan | None:
    mark = _PRESENT if len(index.targets) > 1 else b""
    head, paths, at = b"", [], 0
    while at < len(index.targets) and index.targets[at].path != key.path:
        target = index.targets[at]
        want = wanted.get(target.path)
        if want is None or len(want.values) != 1:
            return None
        head += mark + _term(term_of, want.values[0], target)
        paths.append(target.path)
        at += 1
    if at == len(index.targets) or index.targets[at].descending != key.descending:
        return None
    target, want = index.targets[at], wanted.get(key.path, _Wanted())
    lacks = not (paths or want.is_there)
    if want.values or (lacks and not key.descending):
        return None  # a few values are found sooner; and what lacks the path, and comes first, has no entry
    first, end = _ORDERED_DOWN if key.descending else _ORDERED
    for operator, value in want.every:
        if (operator in (">", ">=")) != key.descending:
            return None  # an array may lie before where this would begin
        end = min(end, successor(_term(term_of, value, target)))
    if _has_order(after):
        first = max(first, _term(term_of, after, target))
    base = head + mark
    others = [(base + one, base + other) for one, other in (_OTHERS_DOWN if key.descending else _OTHERS)]
    if mark:
        others.insert(0, (head + _MISSING, head + successor(_MISSING)))
    drive = Drive(index.id, ((base + first, base + max(first, end)),))
    narrows = () if lacks else (key.path,)
    return Plan(drive, index.name, (*paths, *narrows), first=Drive(index.id, tuple(others)), lacks=lacks)


def _musts(condition: Filter) -> Iterable[Filter]:
    if isinstance(condition, And):
        for one in condition.filters:
            yield from _musts(one)
    elif isinstance(condition, Or):
        yield _as_in(condition)
    else:
        yield condition


def _as_in(condition: Or) -> Filter:
    """Equalities of one path of which one holds are a list of values."""
    paths: dict[Path, bool] = {}
    values: list[Value] = []
    for one in condition.filters:
        if isinstance(one, Compare) and one.operator == "=":
            values.append(one.value)
        elif isinstance(one, In):
            values += one.values
        else:
            return condition
        paths[one.path] = True
    return In(next(iter(paths)), tuple(values)) if len(paths) == 1 else condition


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
            wanted.every = (*wanted.every, (one.operator, one.value))
        elif isinstance(one, Matches) and (beginning := literal_beginning(one.pattern, one.options)):
            wanted = found.setdefault(one.path, _Wanted())
            wanted.beginning = wanted.beginning or beginning
        elif isinstance(one, Exists):
            found.setdefault(one.path, _Wanted()).exists = True
        elif isinstance(one, ElemMatch) and one.is_value:
            bounds = [
                (inner.operator, inner.value)
                for inner in _musts(one.filter)
                if isinstance(inner, Compare) and inner.operator != "=" and _has_order(inner.value)
            ]
            if bounds and len({isinstance(value, str) for _, value in bounds}) == 1:
                wanted = found.setdefault(one.path, _Wanted())
                wanted.bounds = tuple(bounds)
                wanted.every = (*wanted.every, *bounds)
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
        span, goodness = _span(want, target, term_of)
        spans = [_with_head(head + mark, span) for head in heads]
        return (4 * len(paths) + goodness, -len(heads)), _plan(index, spans, [*paths, target.path], False)
    if not paths:
        return None
    whole = len(paths) == len(index.targets)
    spans = [(head, b"" if whole else successor(head)) for head in heads]
    is_exact = whole and len(heads) == 1
    return (4 * len(paths), -len(heads)), _plan(index, spans, paths, is_exact)


def _span(want: _Wanted, target: IndexTarget, term_of: TermOf) -> tuple[Span, int]:
    """The terms that may serve, and how much they narrow: a bound or a beginning more than being there."""
    if want.bounds:
        return _range(want.bounds, target, term_of), 3
    if not want.beginning:
        return (b"", OPEN), 1
    prefix = term_of(want.beginning)[: -len(_TERMINATOR)]
    if target.descending:
        prefix = prefix.translate(_FLIP)
    return (prefix, successor(prefix)), 3


def _with_head(head: bytes, span: Span) -> Span:
    if span[1] != OPEN:
        return head + span[0], head + span[1]
    return (head, successor(head)) if head else (b"\x00", OPEN)


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
