"""Judging rows that an index led to, or a scan came by: do all checks hold, and is this the row's turn?

An entry may speak of a value that is no longer there (expired, covered by a tombstone that was not swept) and
a long value's entry only of its beginning. So every check, that of the index included, is made on the row
itself, as of the reader's clock.

A row with several terms in the spans (a list of values read by range) would be found several times: it is
taken at the least of them only, which is the same wherever a read goes on. An entry whose term the row does
not have any more does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from core.finding import ANYWHERE, OPEN, Check, Span
from core.row import Row, exists
from core.schema import STATIC, Table
from index.entries import ColumnType, Compiled, RowView, Term, TermsOf, terms_of
from lsm.keys import STATIC_SUFFIX, TERM_BYTES_MAX, split_row_key

_TERMINATOR_BYTES = 2


class _Check(msgspec.Struct):
    terms: TermsOf
    check: Check
    is_static: bool


class Judge:
    """The checks of one read, ready to be made on rows of one version of a table."""

    def __init__(self, table: Table, types: Mapping[str, ColumnType], checks: Sequence[Check]) -> None:
        """Raises ValueError for a target that is not understood."""
        self._checks: list[_Check] = []
        for check in checks:
            terms = terms_of(table, check.target, types)
            if terms is None:
                raise ValueError(f"{check.target.kind} of {check.target.column} cannot be checked here")
            column = table.column(check.target.column)
            is_static = column is not None and column.kind == STATIC
            self._checks.append(_Check(terms, check, is_static))
        self.wants_static = any(check.is_static for check in self._checks)

    def accepts(self, key: bytes, row: Row, static: Row, now_us: int) -> bool:
        """Whether the row is there at `now_us` and all checks hold."""
        if not exists(row, now_us):
            return False
        _, _, partition, suffix = split_row_key(key)
        view = RowView(partition, suffix, row.cells, now_us)
        beside = RowView(partition, STATIC_SUFFIX, static.cells, now_us)
        return all(_passes(one, beside if one.is_static else view) for one in self._checks)


def _passes(one: _Check, view: RowView) -> bool:
    check = one.check
    for term in one.terms(view):
        if _within(term, check.spans) and (not check.needle or _holds(term, check)):
            return True
    return False


def _within(term: Term, spans: Sequence[Span]) -> bool:
    return any(
        first <= term and (term < end or end == OPEN) if end else first == term for first, end in spans
    )


def _holds(term: Term, check: Check) -> bool:
    text = term[:-_TERMINATOR_BYTES]
    return check.needle in text if check.where == ANYWHERE else text.endswith(check.needle)


def is_its_turn(index: Compiled, spans: Sequence[Span], key: bytes, row: Row, term: Term) -> bool:
    """Whether the row has this term, and no lesser one in the spans.

    `row` is the one that the entry is of: the static row, if the index is on a static column.
    """
    _, _, partition, suffix = split_row_key(key)
    terms = index.stored(RowView(partition, suffix, row.cells))
    return term == min((each for each in terms if _entry_within(each, spans)), default=None)


def _entry_within(term: Term, spans: Sequence[Span]) -> bool:
    """As a scan of entries finds it: long terms are cut."""
    cut = TERM_BYTES_MAX
    for first, end in spans:
        if not end:
            if term == first[:cut]:
                return True
        elif first[:cut] <= term and (end == OPEN or term < end or (len(end) > cut and term <= end[:cut])):
            return True
    return False
