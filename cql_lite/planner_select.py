"""SELECT, planned: compiled once, executed with bound values any number of times.

    source (planner_source) -> filter -> distinct -> groups -> limits -> page        (query/operators.py)

The commonest statement, one row by its whole key, goes past all of it: one request, one projection.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import UnsetType

from core import limits
from core.requests import ReadRequest
from core.schema import CLUSTERING, PARTITION, STATIC
from cql_lite import ast, planner_floor, planner_paging
from cql_lite.errors import InvalidRequestError
from cql_lite.planner_expressions import Expressions, column_value
from cql_lite.planner_filters import compile_filters, filters_rows, why_filtering
from cql_lite.planner_find import FindPlan, check_like, from_find, index_for, restriction, target_of
from cql_lite.planner_functions import Compiled
from cql_lite.planner_match import from_match, match_of
from cql_lite.planner_near import Near
from cql_lite.planner_paging import PagingState
from cql_lite.planner_results import Execution, Options, ResultColumn, RowsResult, in_bounds, unless_failed
from cql_lite.planner_rows import Layout, Record
from cql_lite.planner_source import Consumer, Position, Reading, from_partitions, from_ring
from cql_lite.planner_tables import ColumnView, TableView, composite
from cql_lite.planner_terms import Context, Markers, MarkerSpec, Term, compile_term
from cql_lite.planner_where import Where, chooses_partitions, column_of, compile_where, names_of_one_value
from cql_lite.types import INT, TEXT, ResolveUdt, json_name
from query.operators import (
    Distinct,
    Filtered,
    Grouped,
    Limited,
    Nearest,
    PerPartition,
    Rows,
    Sink,
    Sorted,
)

SORTED_ROWS_MAX: Final = 10_000
"""Rows of several partitions that are put in order in memory."""
TOMBSTONES_WARN: Final = 1_000
PAGE_BYTES_MAX: Final = 4 * limits.MIB
"""A page ends when its rows take so many bytes."""
RESULT_BYTES_MAX: Final = 16 * limits.MIB
"""What a client may ask for in one piece."""

Virtual = Callable[[], Sequence[dict[str, "bytes | None"]]]
"""The rows of a table that is computed: wire values by column."""


class Selected(msgspec.Struct, frozen=True):
    """One projection."""

    name: str
    value: Compiled


class SelectPlan:
    """A SELECT that is ready to be executed."""

    is_read: Final = True

    def __init__(
        self, statement: ast.Select, view: TableView, resolve_udt: ResolveUdt, virtual: Virtual | None = None
    ) -> None:
        """Compile.

        Raises InvalidRequestError. With `virtual` the rows are computed and anything may filter.
        """
        self.view = view
        self.fingerprint = b""
        self._statement = statement
        self._virtual = virtual
        self._markers = Markers(len(statement.markers), view.keyspace, view.name)
        self._layout = Layout(view)
        self._expressions = Expressions(self._markers, resolve_udt, self._layout)
        scope = self._expressions.scope
        self._selected = self._compile_selectors()
        self._selected_columns = self._layout.columns()
        if virtual is None:
            self._where = compile_where(view, statement.where, scope, filtering=statement.allow_filtering)
        else:
            self._where = Where(view, [], [], [], [], [], scope)
            self._where.others = list(statement.where)
        self._match, self._where.others = match_of(view, statement, self._where, scope)
        self._check_filtering()
        self._find, filtered = self._compile_find(self._where.others)
        self.goes_by_key = self._find is None and self._match is None
        self._filters = compile_filters(filtered, self._layout, scope, self._expressions)
        self._is_filtered = bool(filtered)
        self._limit = self._count_term(statement.limit, "[limit]")
        self._per_partition = self._count_term(statement.per_partition_limit, "[per_partition_limit]")
        self._group = self._compile_group_by()
        self._near: Near | None = None
        self._reverse, self._sort = self._compile_order()
        self._check_distinct()
        kind = "SELECT DISTINCT" if statement.distinct else "aggregate"
        if statement.per_partition_limit and (statement.distinct or self._folds_all):
            raise InvalidRequestError(f"PER PARTITION LIMIT is not allowed with {kind} queries")
        self.markers: tuple[MarkerSpec, ...] = self._markers.specs()
        self.key_markers = key_markers(view, statement.where)
        self.columns = self._result_columns()
        self._wants_static = self._layout.needs_static or (view.has_static and not self._where.restricts_rows)
        self._project = self._projection()
        self._is_point = self._where.names_partitions and self._where.names_rows and self._is_plain()

    @property
    def _folds_all(self) -> bool:
        return bool(self._expressions.aggregates) and self._group is None

    # --- what cql_lite/quick.py makes a shorter way of

    @property
    def is_point(self) -> bool:
        """Whether it reads one row by its whole key, and does nothing else."""
        return self._is_point and self._virtual is None

    @property
    def relations(self) -> Sequence[ast.Relation]:
        """What the statement restricts."""
        return self._statement.where

    @property
    def layout(self) -> Layout:
        """Which slot of a record holds what."""
        return self._layout

    @property
    def project(self) -> Callable[[Record, Context], list[bytes | None]]:
        """The result's row of a record."""
        return self._project

    # --- compiling

    def _compile_selectors(self) -> tuple[Selected, ...]:
        statement, view = self._statement, self.view
        if not statement.selectors:
            return tuple(Selected(column.name, column_value(self._layout, column)) for column in view.columns)
        found = []
        for selector in statement.selectors:
            value = self._expressions.compile(selector.expression)
            found.append(Selected(selector.alias or _name_of(selector), value))
        return tuple(found)

    def _result_columns(self) -> tuple[ResultColumn, ...]:
        view = self.view
        if self._statement.json:
            return (ResultColumn(view.keyspace, view.name, "[json]", TEXT),)
        return tuple(ResultColumn(view.keyspace, view.name, s.name, s.value.type) for s in self._selected)

    def _count_term(self, expression: ast.Expression | None, name: str) -> Term | None:
        return None if expression is None else compile_term(expression, INT, name, self._expressions.scope)

    def _check_filtering(self) -> None:
        """What an index serves needs no ALLOW FILTERING."""
        if self._virtual is not None:
            return
        for relation in self._where.others:
            check_like(self.view, relation)
        if self._statement.allow_filtering:
            return
        for relation in self._where.others:
            found = target_of(self.view, relation)
            if found is None or index_for(self.view, *found) is None:
                raise InvalidRequestError(why_filtering(self._where, relation))

    def _compile_find(self, others: list[ast.Relation]) -> tuple[FindPlan | None, list[ast.Relation]]:
        """The read by predicate that serves this, and the relations that are left to filter.

        Rows of named partitions are read with them, unless an index serves a relation.
        """
        statement, where = self._statement, self._where
        found = [target_of(self.view, relation) for relation in others]
        is_indexed = any(one is not None and index_for(self.view, *one) is not None for one in found)
        if self._match is not None:
            return None, others
        if self._virtual is not None or (where.names_partitions and (statement.order_by or not is_indexed)):
            return None, others
        if not others and not self._expressions.aggregates:
            return None, others
        scope = self._expressions.scope
        made = [(relation, restriction(self.view, relation, scope)) for relation in others]
        by_partition = statement.group_by or statement.per_partition_limit or statement.distinct
        in_order = bool(by_partition or where.names_partitions or where.tokens)
        checks = [one for _, one in made if one is not None]
        plan = FindPlan(self.view, where, checks, in_order=in_order)
        return plan, [relation for relation, one in made if one is None]

    def _check_distinct(self) -> None:
        if not self._statement.distinct:
            return
        columns = self._selected_columns
        if not self._statement.selectors or any(c.kind not in (PARTITION, STATIC) for c in columns):
            other = next((c.name for c in columns if c.kind not in (PARTITION, STATIC)), "*")
            raise InvalidRequestError(
                "SELECT DISTINCT queries must only request partition key columns and/or static columns "
                f"(not {other})"
            )
        missing = [column.name for column in self.view.partition if column not in columns]
        if missing:
            raise InvalidRequestError(
                "SELECT DISTINCT queries must request all the partition key columns (missing "
                f"{', '.join(missing)})"
            )
        if self._where.restricts_rows or (self._virtual is None and filters_rows(self._where)):
            raise InvalidRequestError(
                "SELECT DISTINCT with WHERE clause only supports restriction by partition key and/or "
                "static columns."
            )

    def _compile_group_by(self) -> Callable[[Record, Context], Any] | None:
        keys = (*self.view.partition, *self.view.clustering)
        fixed = names_of_one_value(self._where)
        position, slots = 0, []
        floored: Compiled | None = None
        for expression in self._statement.group_by:
            if floored is not None:
                raise InvalidRequestError(
                    "Functions are only supported on the last element of the GROUP BY clause"
                )
            if isinstance(expression, ast.FunctionCall) and expression.name == planner_floor.NAME:
                floored = self._expressions.compile(expression)
                expression = expression.arguments[0]
            if not isinstance(expression, ast.ColumnRef):
                raise InvalidRequestError(
                    "Group by is currently only supported on the columns of the PRIMARY KEY, got an "
                    "expression: of functions there is floor(column, duration)"
                )
            column = column_of(self.view, expression.name)
            if not column.is_key:
                raise InvalidRequestError(
                    "Group by is currently only supported on the columns of the PRIMARY KEY, got "
                    f"{column.name}"
                )
            if self._statement.distinct and column.kind != PARTITION:
                raise InvalidRequestError(
                    "Grouping on clustering columns is not allowed for SELECT DISTINCT queries"
                )
            while position < len(keys) and keys[position] != column and keys[position].name in fixed:
                position += 1
            if position == len(keys) or keys[position] != column:
                raise InvalidRequestError(
                    "Group by currently only support groups of columns following their declared order in the "
                    "PRIMARY KEY"
                )
            if floored is None:
                slots.append(self._layout.slot(column))
            position += 1
        if not slots and floored is None:
            return None
        if position < len(self.view.partition):
            raise InvalidRequestError("Group by is not supported on only a part of the partition key")
        if floored is None:
            return lambda record, _: [record[slot] for slot in slots]
        begin = floored.evaluate
        return lambda record, context: [*(record[slot] for slot in slots), begin(record, context)]

    def _compile_order(self) -> tuple[bool, Callable[[Record, Record], int] | None]:
        orderings = self._statement.order_by
        if not orderings:
            return False, None
        if orderings[0].near is not None:
            if self._expressions.aggregates:
                raise InvalidRequestError("ANN queries take no aggregates")
            self._near = Near(self._statement, self._layout, self._expressions.scope)
            return False, None
        if not chooses_partitions(self._where):
            raise InvalidRequestError(
                "ORDER BY is only supported when the partition key is restricted by an EQ or an IN."
            )
        fixed = names_of_one_value(self._where)
        expected = list(self.view.clustering)
        directions: list[bool] = []
        columns: list[tuple[ColumnView, bool]] = []
        for ordering in orderings:
            if ordering.near is not None:
                raise InvalidRequestError("ANN ordering does not support any other ordering beside it")
            column = column_of(self.view, ordering.column)
            if column.kind != CLUSTERING:
                raise InvalidRequestError(
                    "Order by is currently only supported on the clustered columns of the PRIMARY KEY, got "
                    f"{column.name}"
                )
            while expected and expected[0] != column and expected[0].name in fixed:
                expected.pop(0)
            if not expected or expected.pop(0) != column:
                raise InvalidRequestError(
                    "Order by currently only supports the ordering of columns following their declared order "
                    "in the PRIMARY KEY"
                )
            directions.append(ordering.descending != column.descending)
            columns.append((column, ordering.descending))
        if any(directions) and not all(directions):
            raise InvalidRequestError(
                "Unsupported order by relation: it is the order of the table, or all of it reversed"
            )
        several = self._virtual is not None or any(choice.is_in for choice in self._where.partition)
        return directions[0], self._comparison(columns) if several else None

    def _comparison(self, columns: list[tuple[ColumnView, bool]]) -> Callable[[Record, Record], int]:
        keys = [(self._layout.slot(column), column.type, descending) for column, descending in columns]

        def compare(a: Record, b: Record) -> int:
            for slot, of, descending in keys:
                left, right = a[slot], b[slot]
                if left is None or right is None:
                    order = (left is not None) - (right is not None)
                else:
                    order = of.compare(left, right)
                if order:
                    return -order if descending else order
            return 0

        return compare

    def _is_plain(self) -> bool:
        statement = self._statement
        return not (
            self._is_filtered
            or not self.goes_by_key
            or self._expressions.aggregates
            or statement.group_by
            or statement.distinct
            or statement.order_by
            or statement.limit is not None
            or statement.per_partition_limit is not None
            or self._layout.needs_static
            or any(choice.is_in for choice in (*self._where.partition, *self._where.choices))
        )

    # --- projecting

    def _projection(self) -> Callable[[Record, Context], list[bytes | None]]:
        values = [selected.value.evaluate for selected in self._selected]
        if self._statement.json:
            names = [json_name(selected.name) for selected in self._selected]
            types = [selected.value.type for selected in self._selected]

            def as_json(record: Record, context: Context) -> list[bytes | None]:
                members = []
                for name, of, value in zip(names, types, values, strict=True):
                    data = value(record, context)
                    members.append(f"{name}: {'null' if data is None else of.to_json(data)}")
                return [f"{{{', '.join(members)}}}".encode()]

            return as_json
        return lambda record, context: [value(record, context) for value in values]

    # --- executing

    def execute(self, context: Context, options: Options) -> Execution:
        """The requests of one execution, and its rows."""
        if self._is_point and options.paging_state is None:
            return self._point(context, options)
        return self._any(context, options)

    def _point(self, context: Context, options: Options) -> Execution:
        (partition,) = self._where.partitions(context)
        (interval,) = self._where.intervals(context)
        request = ReadRequest(self.view.id, partition, interval.first, b"", True, options.level)
        (told,) = yield (request,)
        answer: Any = unless_failed(told)
        consumed: list[Record] = []
        if answer.rows:
            consumer = Consumer(self._layout, lambda _, record: _kept(consumed, record), False)
            consumer.begin(partition, None, answer.now_us)
            consumer.row(interval.first, answer.rows[0].row, answer.now_us)
        return RowsResult(self.columns, in_bounds(self._project(record, context) for record in consumed))

    def _any(self, context: Context, options: Options) -> Execution:
        run = _Run(self, context, options)
        if self._virtual is not None:
            run.push_all(self._virtual())
        elif self._match is not None:
            if not self._match.is_empty(context):
                request = self._match.request(context, options.level)
                after = b"" if run.found_after is None else run.found_after[1]
                yield from from_match(request, run.consumer, run.rows_wanted, after)
        elif self._find is not None:
            requests = self._find.requests(context, options.level, self._wants_static)
            yield from from_find(requests, run.consumer, run.rows_wanted, run.found_after)
        elif self._where.names_partitions:
            yield from from_partitions(
                self._where.partitions(context),
                self._where.intervals(context),
                run.reading(),
                run.consumer,
                run.after,
            )
        else:
            tokens = self._where.token_range(context)
            distinct = self._statement.distinct and not self._is_filtered
            yield from from_ring(tokens, run.reading(), run.consumer, run.after, distinct)
        return run.result()


class _Run:
    """One execution: the chain of operators, and what its page remembers."""

    def __init__(self, plan: SelectPlan, context: Context, options: Options) -> None:
        self._plan = plan
        self._context = context
        self._options = options
        statement = plan._statement
        is_sorted = plan._sort is not None or plan._near is not None
        pages = options.page_rows > 0 and not plan._folds_all and not is_sorted and plan._virtual is None
        self._page_rows = options.page_rows if pages else 0
        self._fingerprint = _fingerprint(plan, context)
        state = None
        if options.paging_state is not None:
            state = planner_paging.decode(options.paging_state, self._fingerprint, plan.view)
        self.after = None if state is None else Position(state.partition, state.suffix)
        self.found_after = None if state is None else (state.request, state.cursor)
        limit = _count(plan._limit, context, "LIMIT")
        bytes_max = PAGE_BYTES_MAX if pages else RESULT_BYTES_MAX
        self._rows = Rows(self._page_rows or None, bytes_max, record_bytes)
        sink: Sink = self._rows
        self._limited: Limited | None = None
        if limit is not None:
            self._limited = Limited(limit if state is None else state.left, sink)
            sink = self._limited
        sink = self._sorted = Sorted(plan._sort, SORTED_ROWS_MAX, sink) if plan._sort is not None else sink
        if plan._near is not None:
            sink = Nearest(plan._near.score(context), plan._near.check(limit), sink)
        self._per_partition: PerPartition | None = None
        most = _count(plan._per_partition, context, "PER PARTITION LIMIT")
        if most is not None:
            last, taken = (None, 0) if state is None else (state.partition, state.taken)
            self._per_partition = PerPartition(most, sink, last, taken)
            sink = self._per_partition
        self._grouped: Grouped | None = None
        if plan._expressions.aggregates or plan._group is not None:
            self._grouped = self._groups(sink)
            sink = self._grouped
        if statement.distinct:
            sink = Distinct(sink, None if state is None else state.partition)
        predicate = plan._filters(context)
        self._sink: Sink = sink if predicate is None else Filtered(predicate, sink)
        alone = plan.view.has_static and not plan._where.restricts_rows and plan._find is None
        self.consumer = Consumer(plan._layout, self._sink.push, alone)

    def _groups(self, sink: Sink) -> Grouped:
        plan, context = self._plan, self._context
        folded = plan._expressions.aggregates

        def emit(first: Record, results: list[Any]) -> Record:
            record = first.copy()
            for one, result in zip(folded, results, strict=True):
                record[one.slot] = result
            return record

        empty: Record = [None] * plan._layout.size
        group = plan._group
        key = None if group is None else lambda record: group(record, context)
        return Grouped(key, lambda: [one.make(context) for one in folded], emit, sink, empty)

    def rows_wanted(self) -> int:
        """How many rows are of use, as far as is known."""
        wanted = limits.LIST_KEYS_MAX
        if self._grouped is None and not self._plan._is_filtered and self._plan._near is None:
            if self._page_rows:
                wanted = self._page_rows - len(self._rows.rows)
            if self._limited is not None and self._per_partition is None:
                wanted = min(wanted, self._limited.left)
        return max(wanted, 0)

    def reading(self) -> Reading:
        """How the source reads."""
        plan, wanted = self._plan, self.rows_wanted()
        return Reading(plan.view.id, self._options.level, plan._wants_static, plan._reverse, wanted)

    def push_all(self, rows: Sequence[dict[str, bytes | None]]) -> None:
        """Rows that were computed."""
        layout, view = self._plan._layout, self._plan.view
        slots = [(layout.slot(column), column.name) for column in view.columns]
        for row in rows:
            record: Record = [None] * layout.size
            for slot, name in slots:
                record[slot] = row.get(name)
            if not self._sink.push(composite([row.get(key.name) or b"" for key in view.partition]), record):
                break

    def result(self) -> RowsResult:
        """The page: projected rows, and where the next one begins."""
        rows, state = self._rows.rows, None
        is_full = self._page_rows and (self._rows.is_large or len(rows) >= self._page_rows)
        if is_full and not self.consumer.wants_more and (self._limited is None or self._limited.left > 0):
            state = self._state()
            if self._grouped is not None:
                self._grouped.abandon()
        self._sink.end()
        if self._rows.is_large and not self._page_rows:
            raise InvalidRequestError(
                f"the result takes more than {RESULT_BYTES_MAX // limits.MIB} MiB: ask for it in pages"
            )
        if isinstance(self._sorted, Sorted) and self._sorted.overflowed:
            raise InvalidRequestError(
                f"over {SORTED_ROWS_MAX} rows of several partitions are to be put in order: ask for fewer "
                "partitions at once, or add a PER PARTITION LIMIT"
            )
        self._warn(len(rows))
        project, context = self._plan._project, self._context
        return RowsResult(self._plan.columns, in_bounds(project(record, context) for record in rows), state)

    def _warn(self, rows: int) -> None:
        """What Cassandra warns of, at its default thresholds."""
        plan, where = self._plan, self._plan._where
        if self._grouped is not None and plan._virtual is None:
            if not where.names_partitions:
                self._options.warn("Aggregation query used without partition key")
            elif any(choice.is_in for choice in where.partition):
                self._options.warn("Aggregation query used on multiple partition keys (IN restriction)")
        if self.consumer.dead > TOMBSTONES_WARN:
            table = f"{plan.view.keyspace}.{plan.view.name}"
            self._options.warn(
                f"Read {rows} live rows and {self.consumer.dead} tombstone rows of {table} "
                f"(more than {TOMBSTONES_WARN}): rows that were deleted or have expired still cost reading"
            )

    def _state(self) -> bytes:
        consumer, is_grouped = self.consumer, self._grouped is not None
        at = consumer.before if is_grouped else consumer.at
        mark = consumer.mark_before if is_grouped else consumer.mark_at
        assert at is not None, "a full page has consumed rows"
        left = -1 if self._limited is None else self._limited.left
        counted = self._per_partition
        taken = counted.taken if counted is not None and counted.last == at.partition else 0
        place = (0, b"") if mark is None else (mark.request, mark.cursor())
        state = PagingState(self._fingerprint, at.partition, at.suffix, left, taken, *place)
        return planner_paging.encode(state)


def record_bytes(record: Record) -> int:
    """About what a record takes in an answer."""
    return sum(len(value) for value in record if isinstance(value, bytes))


def _kept(records: list[Record], record: Record) -> bool:
    records.append(record)
    return True


def _fingerprint(plan: SelectPlan, context: Context) -> bytes:
    """Tells the query: the table as it is now, its statement, and the bound values."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(plan.fingerprint)
    for value in context.values:
        digest.update(b"-" if value is None or isinstance(value, UnsetType) else b"+%d:" % len(value) + value)
    return digest.digest()


def _count(term: Term | None, context: Context, what: str) -> int | None:
    if term is None:
        return None
    value = term(context)
    if isinstance(value, UnsetType):
        return None
    if value is None:
        raise InvalidRequestError(f"Invalid null value of {what.lower()}: it takes a number above 0")
    count = int(INT.decode(value))
    if count <= 0:
        raise InvalidRequestError(f"{what} must be strictly positive, not {count}")
    return count


def key_markers(view: TableView, relations: Sequence[ast.Relation]) -> tuple[int, ...]:
    """The indexes of the markers that are the partition key, for drivers that route by token; or none."""
    found: dict[str, int] = {}
    for relation in relations:
        if (
            isinstance(relation.left, ast.Target)
            and relation.operator == ast.EQ
            and isinstance(relation.right, ast.Marker)
        ):
            found[relation.left.column] = relation.right.index
    names = [column.name for column in view.partition]
    return tuple(found[name] for name in names) if all(name in found for name in names) else ()


def _name_of(selector: ast.Selector) -> str:
    expression = selector.expression
    if isinstance(expression, ast.ColumnRef):
        return expression.name
    if (
        isinstance(expression, ast.FunctionCall)
        and expression.name == "count"
        and isinstance(expression.arguments[0], (ast.Star, ast.Literal))
    ):
        return "count"
    return selector.text
