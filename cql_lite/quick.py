"""The two commonest statements without an execution of their own: one row inserted, one row read by its
whole key, with a bind marker for every value.

They are one request to the cluster, so they need no generator that is driven, no drafts and no intervals, and
a peer spends a third less on them. Whatever is out of the ordinary (a value that is no value, a null in the
key, names, paging, another clock) makes `request` give None, and the general way has the word: it does the
same, or says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from core.cell import VALUE
from core.consistency import Level
from core.errors import RequestError
from core.limits import KEY_BYTES_MAX
from core.mutation import INSERT
from core.requests import Answer, ReadRequest, RowsRead, RowWrite, Write, WriteRequest
from core.schema import STATIC
from cql_lite import ast, wire
from cql_lite.outcomes import error_of_failure, error_of_request
from cql_lite.planner_cells import marker
from cql_lite.planner_modify import ModifyPlan
from cql_lite.planner_results import FailedError, Failure, in_bounds
from cql_lite.planner_select import SelectPlan
from cql_lite.planner_tables import ColumnView, TableView
from cql_lite.planner_terms import Context
from cql_lite.types import InvalidValueError
from lsm.keys import ROW_SUFFIX

VOID: Final = wire.Void()
SIMPLE: Final = "SIMPLE"

Checked = tuple[int, Callable[[bytes], bytes]]
"""The index of a marker, and who checks the value there."""


class _Key:
    """The primary key of a row, each part of it a bind marker."""

    __slots__ = ("_clustering", "_partition", "_view")

    def __init__(self, view: TableView, indexes: dict[str, int]) -> None:
        self._view = view
        self._partition = [_checked(column, indexes) for column in view.partition]
        self._clustering = [_checked(column, indexes) for column in view.clustering]

    def of(self, values: Sequence[wire.BoundValue]) -> tuple[bytes, bytes] | None:
        """Partition key and suffix; None if a value cannot be part of a key. Raises InvalidValueError."""
        parts: list[bytes] = []
        for index, check in self._partition:
            value = values[index]
            if type(value) is not bytes:
                return None
            parts.append(check(value))
        partition = self._view.partition_key(parts)
        if not 0 < len(partition) <= KEY_BYTES_MAX:
            return None
        if not self._clustering:
            return partition, ROW_SUFFIX
        parts = []
        for index, check in self._clustering:
            value = values[index]
            if type(value) is not bytes:
                return None
            parts.append(check(value))
        return partition, self._view.prefix(parts)


def _checked(column: ColumnView, indexes: dict[str, int]) -> Checked:
    return indexes[column.name], column.type.check


class QuickInsert:
    """INSERT INTO table (all of the key, columns) VALUES (?, ?, ...)."""

    is_write: Final = True

    def __init__(self, view: TableView, indexes: dict[str, int], columns: Sequence[ColumnView]) -> None:
        """`columns` are those beside the key, in the order of the statement."""
        self._table = view.id
        self._key = _Key(view, indexes)
        self._count = len(indexes)
        self._ttl_s = view.default_ttl_s
        self._marker = marker(self._ttl_s)
        self._columns = [(column.id, *_checked(column, indexes)) for column in columns]

    def request(self, parameters: wire.Parameters) -> WriteRequest | None:
        """What it asks of the cluster; None if the general way is to say."""
        values = parameters.values
        if len(values) != self._count:
            return None
        writes = [self._marker]
        try:
            key = self._key.of(values)
            if key is None:
                return None
            for column, index, check in self._columns:
                value = values[index]
                if type(value) is bytes:
                    writes.append(Write(column, (), VALUE, check(value), self._ttl_s))
                elif value is None:
                    writes.append(Write(column, (), VALUE, None))
        except InvalidValueError:
            return None
        row = RowWrite(key[1], tuple(writes))
        timestamp_us = parameters.timestamp_us or 0
        return WriteRequest(self._table, key[0], (row,), parameters.consistency, INSERT, 0, timestamp_us)

    def response(self, level: Level, answer: Answer) -> wire.Response:
        """What the client is told."""
        if isinstance(answer, Failure):
            return error_of_failure(FailedError(answer, SIMPLE), level)
        return VOID


class QuickSelect:
    """SELECT ... WHERE the whole key is given by markers."""

    is_write: Final = False

    def __init__(self, plan: SelectPlan, indexes: dict[str, int]) -> None:
        self._table = plan.view.id
        self._key = _Key(plan.view, indexes)
        self._count = len(indexes)
        self._layout, self._project = plan.layout, plan.project

    def request(self, parameters: wire.Parameters) -> ReadRequest | None:
        """What it asks of the cluster; None if the general way is to say."""
        values = parameters.values
        if len(values) != self._count or parameters.paging_state is not None:
            return None
        try:
            key = self._key.of(values)
        except InvalidValueError:
            return None
        if key is None:
            return None
        return ReadRequest(self._table, key[0], key[1], b"", True, parameters.consistency)

    def response(
        self, request: ReadRequest, answer: Answer, context: Context, metadata: wire.Metadata, *, skip: bool
    ) -> wire.Response:
        """The row, if it is there."""
        if not isinstance(answer, RowsRead):
            assert isinstance(answer, Failure), answer
            return error_of_failure(FailedError(answer), request.level)
        rows: list[list[bytes | None]] = []
        if answer.rows:
            layout, now_us = self._layout, answer.now_us
            template = layout.template(request.partition, None, now_us)
            record = layout.record(template, request.first, answer.rows[0].row, now_us)
            try:
                rows = in_bounds([self._project(record, context)])
            except RequestError as error:
                return error_of_request(error)
        return wire.Rows(metadata, rows, None, skip, False)


Quick = QuickInsert | QuickSelect


def quick_of(plan: object) -> Quick | None:
    """The quick way of a plan, if it has one."""
    if isinstance(plan, ModifyPlan):
        return _quick_insert(plan)
    return _quick_select(plan) if isinstance(plan, SelectPlan) else None


def _quick_insert(plan: ModifyPlan) -> QuickInsert | None:
    statement, view = plan.statement, plan.view
    if not isinstance(statement, ast.Insert) or plan.is_conditional or plan.reads_first:
        return None
    if statement.using != ast.NOTHING:
        return None
    columns = [view.by_name[name.text] for name in statement.columns]
    indexes: dict[str, int] = {}
    for column, value in zip(columns, statement.values, strict=True):
        if not isinstance(value, ast.Marker) or column.kind == STATIC or column.type.is_multicell:
            return None
        indexes[column.name] = value.index
    if any(column.name not in indexes for column in (*view.partition, *view.clustering)):
        return None
    if len(set(indexes.values())) != len(plan.markers) or len(indexes) != len(plan.markers):
        return None
    return QuickInsert(view, indexes, [column for column in columns if not column.is_key])


def _quick_select(plan: SelectPlan) -> QuickSelect | None:
    if not plan.is_point or plan.view.has_dropped:
        return None
    indexes: dict[str, int] = {}
    for relation in plan.relations:
        left, right = relation.left, relation.right
        if not isinstance(left, ast.Target) or left.path or relation.operator != ast.EQ:
            return None
        if not isinstance(right, ast.Marker) or left.column in indexes:
            return None
        indexes[left.column] = right.index
    names = [column.name for column in (*plan.view.partition, *plan.view.clustering)]
    if sorted(names) != sorted(indexes) or len(plan.markers) != len(indexes):
        return None
    return QuickSelect(plan, indexes)
