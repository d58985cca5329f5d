"""UPDATE of counters: what is added, per partition and row, as CounterRequests (core/counter.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import UnsetType

from core.consistency import Level
from core.requests import BatchRequest, CounterRequest, Request, WriteRequest
from core.schema import STATIC
from cql_lite import ast
from cql_lite.errors import InvalidRequestError
from cql_lite.planner_expressions import Expressions
from cql_lite.planner_modify import ONLY_STATIC
from cql_lite.planner_results import Execution, Options, VoidResult, unless_failed
from cql_lite.planner_select import key_markers
from cql_lite.planner_tables import TableView
from cql_lite.planner_terms import Context, Markers, MarkerSpec, Term, compile_term
from cql_lite.planner_where import (
    PLACES_MAX,
    Where,
    column_of,
    compile_where,
    missing_of_partition,
    places_refused,
)
from cql_lite.types import BIGINT, COUNTER, ResolveUdt
from lsm.keys import STATIC_SUFFIX

WRITE_TYPE: Final = "COUNTER"

Deltas = dict[tuple[int, bytes], dict[bytes, dict[int, int]]]
"""What is added: by table and partition, then by row, then by column."""


class CounterPlan:
    """An UPDATE of counters that is ready to be executed."""

    is_read: Final = False
    is_conditional: Final = False

    def __init__(
        self, statement: ast.Update, view: TableView, udt: ResolveUdt, markers: Markers | None = None
    ) -> None:
        """Compile; raises InvalidRequestError. Within a batch `markers` are the batch's."""
        self.view = view
        noted = markers or Markers(len(statement.markers), view.keyspace, view.name)
        scope = Expressions(noted, udt).scope
        if statement.using.timestamp is not None:
            raise InvalidRequestError("Cannot provide custom timestamp for counter updates")
        if statement.using.ttl is not None:
            raise InvalidRequestError("Cannot provide custom TTL for counter updates")
        if statement.if_exists or statement.conditions:
            raise InvalidRequestError("Conditional updates are not supported on counter tables")
        self._added: list[tuple[int, bool, int, Term]] = []
        for assignment in statement.assignments:
            column = column_of(view, assignment.target.column)
            if column.type != COUNTER or assignment.operation not in (ast.ADD, ast.SUBTRACT):
                if column.is_key:
                    raise InvalidRequestError(f"PRIMARY KEY part {column.name} found in SET part")
                raise InvalidRequestError(
                    f"Cannot set the value of counter column {column.name} (counters can only be "
                    f"incremented/decremented, not set): SET {column.name} = {column.name} + 1"
                )
            sign = 1 if assignment.operation == ast.ADD else -1
            term = compile_term(assignment.value, BIGINT, column.name, scope)
            self._added.append((column.id, column.kind == STATIC, sign, term))
        self._where = compile_where(view, statement.where, scope)
        regular = any(not static for _, static, _, _ in self._added)
        where = self._where
        if not regular and where.restricts_rows:
            raise InvalidRequestError(ONLY_STATIC.format("UPDATE"))
        _check_rows(where, regular=regular)
        self.key_markers = key_markers(view, statement.where)
        self.markers: tuple[MarkerSpec, ...] = () if markers is not None else noted.specs()

    def add(self, deltas: Deltas, context: Context) -> None:
        """Add what this execution adds."""
        partitions, intervals = self._where.partitions(context), self._where.intervals(context)
        if len(partitions) * len(intervals) > PLACES_MAX:
            raise InvalidRequestError(places_refused(len(partitions), len(intervals)))
        for partition in partitions:
            rows = deltas.setdefault((self.view.id, partition), {})
            for column, static, sign, term in self._added:
                value = term(context)
                if isinstance(value, UnsetType):
                    continue
                if value is None:
                    raise InvalidRequestError("Invalid null value for counter increment")
                delta = sign * int(BIGINT.decode(value))
                for suffix in [STATIC_SUFFIX] if static else [interval.first for interval in intervals]:
                    cells = rows.setdefault(suffix, {})
                    cells[column] = cells.get(column, 0) + delta

    def execute(self, context: Context, options: Options) -> Execution:
        """The requests of one execution."""
        deltas: Deltas = {}
        self.add(deltas, context)
        requests: tuple[Request, ...] = tuple(counter_requests(deltas, options.level))
        for answer in (yield requests) if requests else ():
            unless_failed(answer, WRITE_TYPE)
        return VoidResult()


def _check_rows(where: Where, *, regular: bool) -> None:
    """Counters are updated by their whole primary key, with = or IN."""
    view = where.view
    if not where.names_partitions:
        unnamed = ", ".join(missing_of_partition(where))
        raise InvalidRequestError(f"Some partition key parts are missing: {unnamed}")
    if where.cuts:
        raise InvalidRequestError(
            "Slice restrictions are not supported on the clustering columns in UPDATE statements"
        )
    if where.others:
        left, operator = where.others[0].left, where.others[0].operator
        name = left.column if isinstance(left, ast.Target) else "(several)"
        if isinstance(left, ast.Target) and column_of(view, name).is_key:
            raise InvalidRequestError(f'Unsupported "{operator}" relation on the PRIMARY KEY column {name}')
        raise InvalidRequestError(f"Non PRIMARY KEY columns found in where clause: {name}")
    if regular and not where.names_rows:
        count = sum(len(choice.columns) for choice in where.choices)
        missing = [column.name for column in view.clustering[count:]]
        raise InvalidRequestError(f"Some clustering keys are missing: {', '.join(missing)}")


def counter_requests(deltas: Deltas, level: Level) -> list[CounterRequest]:
    """One request per partition."""
    return [
        CounterRequest(
            table, partition, tuple((suffix, tuple(cells.items())) for suffix, cells in rows.items()), level
        )
        for (table, partition), rows in deltas.items()
        if rows
    ]


def execute_counter_batch(
    steps: Sequence[tuple[CounterPlan, Context]], deletions: Sequence[WriteRequest], options: Options
) -> Execution:
    """The requests of a batch of counters; what it deletes is ready."""
    deltas: Deltas = {}
    for plan, context in steps:
        plan.add(deltas, context)
    requests: list[Request] = [*deletions]
    added = counter_requests(deltas, options.level)
    if added:
        requests.append(BatchRequest(tuple(added), options.level, logged=False))
    if requests:
        for answer in (yield tuple(requests)):
            unless_failed(answer, WRITE_TYPE)
    return VoidResult()
