"""Reads by predicate: relations as checks on terms, the index that drives, and the rows that come of it.

A relation that compares a column, an element of a map or the parts of a collection with known values becomes
a check (core/finding.py): spans of terms, which are the values' ordered forms. The replica that serves a
range makes it; nothing of the relation is left to do here. What cannot be said so (`!=`, values in frozen
collections, parts of user types) stays a filter over the rows that come.

Of several indexed relations the one that leads to the fewest rows drives (node/finds.py counts a few); among
equals one value before some, these before a range. The others are checks on the rows it leads to. A pattern
drives only alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import UnsetType

from core.consistency import Level
from core.finding import ANYWHERE, AT_END, OPEN, ROW_KEY, Check, Drive, FindRequest, Found, FoundRow, Span
from core.plain_text import plain
from core.requests import Answer
from core.schema import (
    ENTRIES_INDEX,
    FULL_INDEX,
    KEYS_INDEX,
    SIMPLE_INDEX,
    VALUES_INDEX,
    Index,
    IndexTarget,
)
from cql_lite import ast
from cql_lite.errors import InvalidRequestError
from cql_lite.planner_paging import none_of_ours
from cql_lite.planner_results import Asked, unless_failed
from cql_lite.planner_source import Consumer
from cql_lite.planner_tables import ColumnView, TableView
from cql_lite.planner_terms import Context, Scope, Term, compile_term
from cql_lite.planner_where import Where, called, column_of
from cql_lite.types import COUNTER, DURATION, JSON, Collection, ListType, MapType, SetType, Text, Type
from lsm.keys import STATIC_SUFFIX, TOKEN_MAX, TOKEN_MIN, escaped, split_row_key, successor

FIND_ROWS_MAX: Final = 500
"""Rows per request: what one answer may hold in memory."""

ONE, SOME, RANGE, PATTERN = range(4)
"""How narrow what a check looks for is."""

_RANGES: Final = (ast.LT, ast.LE, ast.GT, ast.GE)
_WIDTHS: Final = {
    ast.EQ: ONE,
    ast.CONTAINS: ONE,
    ast.CONTAINS_KEY: ONE,
    ast.IN: SOME,
    ast.LIKE: PATTERN,
    **dict.fromkeys(_RANGES, RANGE),
}

MakeCheck = Callable[[Context], Check]


class Restriction(NamedTuple):
    """A relation that can be made a check; an index serves it, if there is one: `by`."""

    make: MakeCheck
    by: Index | None
    width: int


# --- which relations


def target_of(view: TableView, relation: ast.Relation) -> tuple[ColumnView, str] | None:
    """The column and the part of it that a relation is about, if a check can say it."""
    left = relation.left
    if not isinstance(left, ast.Target) or relation.operator not in _WIDTHS:
        return None
    column = column_of(view, left.column)
    of = column.type
    if of in (DURATION, JSON, COUNTER):
        return None
    if left.path:
        is_entry = isinstance(of, MapType) and of.is_multicell and len(left.path) == 1
        fits = is_entry and isinstance(left.path[0], ast.Key) and relation.operator in (ast.EQ, *_RANGES)
        return (column, ENTRIES_INDEX) if fits else None
    if relation.operator in (ast.CONTAINS, ast.CONTAINS_KEY):
        if not isinstance(of, Collection) or not of.is_multicell:
            return None
        if relation.operator == ast.CONTAINS:
            return column, VALUES_INDEX
        return (column, KEYS_INDEX) if isinstance(of, MapType) else None
    if of.is_multicell:
        return None
    if relation.operator == ast.LIKE:
        return (column, SIMPLE_INDEX) if isinstance(of, Text) else None
    return column, SIMPLE_INDEX


def index_for(view: TableView, column: ColumnView, kind: str) -> Index | None:
    """The index that serves checks of this part of a column."""
    kinds = (SIMPLE_INDEX, FULL_INDEX) if kind == SIMPLE_INDEX else (kind,)
    for index in view.indexes:
        if not index.targets and index.column == column.name and index.kind in kinds:
            return index
    return None


def restriction(view: TableView, relation: ast.Relation, scope: Scope) -> Restriction | None:
    """The relation as a check; None if it has to be a filter. Raises InvalidRequestError."""
    found = target_of(view, relation)
    if found is None:
        return None
    column, kind = found
    index = index_for(view, column, kind)
    if index is None and _part_type(column.type, relation) == JSON:
        return None  # equal documents may have several texts, and so several terms
    target = IndexTarget(column.name, kind)
    if index is not None:
        target = msgspec.structs.replace(index.looks_at[0], kind=kind)
    spans = _Spans(column, target, relation)
    return Restriction(spans.compile(scope), index, _WIDTHS[relation.operator])


def check_like(view: TableView, relation: ast.Relation) -> None:
    """Refuse a LIKE that no index serves, as Cassandra does, filtering or not."""
    left = relation.left
    if relation.operator != ast.LIKE:
        return
    found = target_of(view, relation)
    if found is None or index_for(view, *found) is None:
        name = left.column if isinstance(left, ast.Target) else "a tuple"
        raise InvalidRequestError(
            f"LIKE restriction is only supported on properly indexed columns. {name} LIKE ... is not valid: "
            f"create an index on {name}, of type text or ascii"
        )


def like(pattern: bytes, target: IndexTarget) -> Callable[[bytes], bool]:
    """Whether a text matches a pattern: % at the beginning and at the end stands for any text."""
    if not pattern:
        raise InvalidRequestError(f"LIKE takes a pattern that is not empty for {target.column}")
    pattern = plain(pattern, target)
    at_start, at_end = pattern.startswith(b"%"), pattern.endswith(b"%") and len(pattern) > 1
    text = pattern[at_start : len(pattern) - at_end]

    def matches(value: bytes) -> bool:
        value = plain(value, target)
        if at_start:
            return text in value if at_end else value.endswith(text)
        return value.startswith(text) if at_end else value == text

    return matches


class _Spans:
    """Makes the check of one relation."""

    def __init__(self, column: ColumnView, target: IndexTarget, relation: ast.Relation) -> None:
        self._column = column
        self._relation = relation
        self._target = target
        self._of = _part_type(column.type, relation)
        self._marker = called(relation.left) if isinstance(relation.left, ast.Target) else column.name

    def compile(self, scope: Scope) -> MakeCheck:
        """Terms are compiled now, values looked at for each execution."""
        relation, name = self._relation, self._marker
        operator, right = relation.operator, relation.right
        if operator == ast.IN:
            return self._within(right, scope)
        if isinstance(right, ast.InList):
            raise InvalidRequestError(f"{operator} takes one value, not a list of them")
        if operator in (ast.CONTAINS, ast.CONTAINS_KEY):
            name = f"{'key' if operator == ast.CONTAINS_KEY else 'value'}({name})"
        prefix = self._entry_prefix(scope)
        term = compile_term(right, self._of, name, scope)
        if operator == ast.LIKE:
            return lambda context: self._like(present(term(context), name))

        def make(context: Context) -> Check:
            value, head = present(term(context), name), prefix(context)
            return Check(self._target, _spans_of(operator, head, self._key(value)))

        return make

    def _key(self, value: bytes) -> bytes:
        return self._of.key(plain(value, self._target))

    def _entry_prefix(self, scope: Scope) -> Callable[[Context], bytes]:
        left, of = self._relation.left, self._column.type
        assert isinstance(left, ast.Target)
        if not left.path:
            return lambda _: b""
        step = left.path[0]
        assert isinstance(step, ast.Key) and isinstance(of, MapType), left
        keys, name = of.keys, f"key({self._column.name})"
        term = compile_term(step.term, keys, name, scope)

        def prefix(context: Context) -> bytes:
            return keys.key(present(term(context), name))

        return prefix

    def _within(self, right: ast.Expression | ast.InList, scope: Scope) -> MakeCheck:
        name, of = self._marker, self._of
        if isinstance(right, ast.InList):
            terms = [compile_term(item, of, name, scope) for item in right.items]
            return lambda context: self._points([present(term(context), name) for term in terms])
        whole = ListType(element=of)
        term: Term = compile_term(right, whole, f"in({name})", scope)

        def make(context: Context) -> Check:
            return self._points(whole.unpack(present(term(context), name)))

        return make

    def _points(self, values: Sequence[bytes]) -> Check:
        found = sorted({self._key(value): True for value in values})
        return Check(self._target, tuple((key, b"") for key in found))

    def _like(self, pattern: bytes) -> Check:
        if not pattern:
            raise InvalidRequestError(f"LIKE takes a pattern that is not empty for {self._column.name}")
        pattern = plain(pattern, self._target)
        at_start, at_end = pattern.startswith(b"%"), pattern.endswith(b"%") and len(pattern) > 1
        text = escaped(pattern[at_start : len(pattern) - at_end])[:-2]
        if not text:
            return Check(self._target, ((b"", OPEN),))
        if at_start:
            return Check(self._target, ((b"", OPEN),), text, ANYWHERE if at_end else AT_END)
        if at_end:
            return Check(self._target, ((text, successor(text)),))
        return Check(self._target, ((escaped(pattern), b""),))


def _part_type(of: Type, relation: ast.Relation) -> Type:
    """The type of what stands on the right."""
    assert isinstance(relation.left, ast.Target)
    if isinstance(of, MapType) and (relation.left.path or relation.operator == ast.CONTAINS):
        return of.values
    if isinstance(of, MapType) and relation.operator == ast.CONTAINS_KEY:
        return of.keys
    if isinstance(of, (ListType, SetType)) and relation.operator == ast.CONTAINS:
        return of.element
    return of


def _spans_of(operator: str, head: bytes, key: bytes) -> tuple[Span, ...]:
    """The terms under `head` that stand so to the key."""
    term = head + key
    beyond = _after(head) if head else OPEN
    if operator == ast.LT:
        return ((head, term),)
    if operator == ast.LE:
        return ((head, _after(term)),)
    if operator == ast.GT:
        return ((_after(term), beyond),) if _after(term) != OPEN else ()
    if operator == ast.GE:
        return ((term, beyond),)
    return ((term, b""),)


def _after(term: bytes) -> bytes:
    try:
        return successor(term)
    except ValueError:
        return OPEN


def present(value: bytes | UnsetType | None, name: str) -> bytes:
    """What a column is compared with; null and unset are refused."""
    if isinstance(value, UnsetType):
        raise InvalidRequestError(f"Invalid unset value for column {name}")
    if value is None:
        raise InvalidRequestError(f"Unsupported null value for column {name}: no row compares with null")
    return value


# --- one SELECT


class FindPlan:
    """Which checks a SELECT makes, and by which index it is served."""

    def __init__(
        self, view: TableView, where: Where, restrictions: Sequence[Restriction], *, in_order: bool
    ) -> None:
        """`in_order`: rows come in the order of the table, which an index has for one value only.

        So it is where a partition or a range of tokens is named: clients go on after the last token they saw.
        """
        self._view = view
        self._where = where
        self._restrictions = restrictions
        served = [one for one in restrictions if one.by is not None and (one.width == ONE or not in_order)]
        served.sort(key=lambda one: one.width)
        self._drivers = [one for one in served if one.width < PATTERN] or served[:1]

    def requests(self, context: Context, level: Level, statics: bool) -> list[FindRequest]:
        """A request per partition that is named; else one for the ring, or a range of tokens of it."""
        where = self._where
        made = {number: one.make(context) for number, one in enumerate(self._restrictions)}
        checks = _narrowed(list(made.values()))
        drives: dict[int, Drive] = {}
        for one in self._drivers:
            mine = made[self._restrictions.index(one)]
            if one.by is not None:
                spans = next((each.spans for each in checks if each.target == mine.target), mine.spans)
                single = mine.target.kind == SIMPLE_INDEX and not mine.needle
                drives.setdefault(one.by.id, Drive(one.by.id, spans if single else mine.spans))
        if where.names_partitions and where.restricts_rows:
            spans = tuple((i.first, b"" if i.point else i.end) for i in where.intervals(context))
            checks.append(Check(IndexTarget("", ROW_KEY), spans))
        whole = (TOKEN_MIN, TOKEN_MAX)
        first, last = whole if where.names_partitions else where.token_range(context)
        partitions = where.partitions(context) if where.names_partitions else [b""]
        return [
            FindRequest(
                self._view.id,
                level,
                tuple(checks),
                next(iter(drives.values()), None),
                first_token=first,
                last_token=last,
                partition=partition,
                statics=statics,
                others=tuple(drives.values())[1:],
            )
            for partition in partitions
        ]


def _narrowed(checks: Sequence[Check]) -> list[Check]:
    """Checks of one value that must all hold as one check: what is in the spans of all of them."""
    found: list[Check] = []
    at: dict[IndexTarget, int] = {}
    for check in checks:
        before = at.get(check.target)
        if check.target.kind != SIMPLE_INDEX or check.needle:
            found.append(check)
        elif before is None:
            at[check.target] = len(found)
            found.append(check)
        else:
            found[before] = Check(check.target, intersection(found[before].spans, check.spans))
    return found


def intersection(left: Sequence[Span], right: Sequence[Span]) -> tuple[Span, ...]:
    """The spans of terms that are in a span of either side; both are ascending and disjoint."""
    both: list[Span] = []
    at = other_at = 0
    while at < len(left) and other_at < len(right):
        (first, end), (other_first, other_end) = left[at], right[other_at]
        if not end or not other_end:
            point, beside = (first, (other_first, other_end)) if not end else (other_first, (first, end))
            if _holds(beside, point):
                both.append((point, b""))
        else:
            start = max(first, other_first)
            stop = end if other_end == OPEN else other_end if end == OPEN else min(end, other_end)
            if start < stop or stop == OPEN:
                both.append((start, stop))
        if _ends_before((first, end), (other_first, other_end)):
            at += 1
        else:
            other_at += 1
    return tuple(both)


def _ends_before(one: Span, other: Span) -> bool:
    """Whether nothing behind `one`'s end is needed to know what `other` has in common with what is there."""
    if other[1] == OPEN or one[1] == OPEN:
        return one[1] != OPEN
    one_end, other_end = (span[1] or span[0] + b"\x00" for span in (one, other))
    return one_end <= other_end


def _holds(span: Span, term: bytes) -> bool:
    first, end = span
    return first == term if not end else first <= term and (term < end or end == OPEN)


class Mark(NamedTuple):
    """A row of an answer: where a page may end."""

    found: Found
    row: FoundRow
    request: int

    def cursor(self) -> bytes:
        """Where to go on after it."""
        return self.found.cursor_after(self.row)


def from_find(
    requests: Sequence[FindRequest],
    consumer: Consumer,
    rows_wanted: Callable[[], int],
    after: tuple[int, bytes] | None,
) -> Generator[Asked, list[Answer], None]:
    """The rows of these requests, in their order; `after` is (number of the request, cursor)."""
    start, cursor = (0, b"") if after is None else after
    if after is not None and start >= len(requests):
        raise none_of_ours()
    for number in range(start, len(requests)):
        while True:
            wanted = max(1, min(rows_wanted(), FIND_ROWS_MAX))
            request = requests[number]
            asked = msgspec.structs.replace(request, cursor=cursor, rows_max=wanted)
            (told,) = yield (asked,)
            found = unless_failed(told)
            assert isinstance(found, Found), found
            _consume(found, number, consumer)
            if not consumer.wants_more:
                return
            if not found.more:
                break
            cursor = found.cursor
        cursor = b""
    consumer.end()


def _consume(found: Found, number: int, consumer: Consumer) -> None:
    statics = dict(found.statics)
    for item in found.rows:
        if not consumer.wants_more:
            return
        _, _, partition, suffix = split_row_key(item.key)
        consumer.mark = Mark(found, item, number)
        if suffix == STATIC_SUFFIX:
            consumer.begin(partition, item.row, found.now_us)
            consumer.static_alone()
            continue
        if not consumer.is_in(partition):
            static = statics.get(item.key[: -len(suffix)] + STATIC_SUFFIX)
            consumer.begin(partition, static, found.now_us)
        consumer.row(suffix, item.row, found.now_us)
