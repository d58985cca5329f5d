"""INSERT, UPDATE and DELETE, planned: compiled once, then each execution drafts what it does to which
partitions.

Drafting is pure and asks nothing of the cluster, but for assignments that depend on what is there (an index
of a list, taking values out of a list): these read the row first. That is no transaction: who needs one
says IF.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from core import limits
from core.mutation import DELETE, INSERT, UPDATE
from core.requests import ReadRequest, Request, RowsRead, WriteRequest
from core.row import Row
from core.schema import STATIC
from cql_lite import ast
from cql_lite.errors import InvalidRequestError
from cql_lite.planner_cells import (
    Assign,
    Draft,
    Place as CellPlace,
    compile_assignment,
    compile_deletion,
    marker,
    put_value,
    set_column,
)  # fmt: skip
from cql_lite.planner_conditions import (
    PRESENT,
    Conditions,
    Draft as DraftConditional,
    Known,
    Place,
    Step,
    execute_conditional,
)  # fmt: skip
from cql_lite.planner_expressions import Expressions
from cql_lite.planner_results import Asked, Execution, Options, VoidResult, unless_failed
from cql_lite.planner_select import key_markers
from cql_lite.planner_tables import ColumnView, TableView
from cql_lite.planner_terms import Context, Markers, MarkerSpec, Scope, Term, compile_term
from cql_lite.planner_where import (
    PLACES_MAX,
    WHOLE,
    Interval,
    Where,
    column_of,
    compile_where,
    key_refused,
    missing_of_partition,
    places_refused,
)
from cql_lite.types import BIGINT, INT, TEXT, InvalidValueError, ResolveUdt, name_in_json
from lsm.keys import STATIC_SUFFIX

ONLY_STATIC: Final = (
    "Invalid restrictions on clustering columns since the {} statement modifies only static columns"
)
ZERO_TIMESTAMP_US: Final = -1
"""What TIMESTAMP 0 is kept as: in requests 0 says that the coordinator is to give the timestamp."""
OPERATIONS: Final = {ast.Insert: INSERT, ast.InsertJson: INSERT, ast.Update: UPDATE, ast.Delete: DELETE}

Before = dict[tuple[bytes, bytes], tuple["Row | None", int]]
"""Rows as they were read: by partition and suffix, with the `now` of the read."""


class Targets(msgspec.Struct, frozen=True):
    """What one execution is about: partitions, and slices of each."""

    partitions: list[bytes]
    intervals: list[Interval]


class Values(Protocol):
    """Gives an INSERT's values by column, for one execution."""

    def __call__(self, context: Context) -> list[tuple[ColumnView, bytes | UnsetType | None]]:
        """Columns with what is to be written there."""


class ModifyPlan:
    """A modification that is ready to be executed."""

    is_read: Final = False

    def __init__(
        self,
        statement: ast.Modification,
        view: TableView,
        resolve_udt: ResolveUdt,
        markers: Markers | None = None,
    ) -> None:
        """Compile; raises InvalidRequestError. Within a batch `markers` are the batch's."""
        if view.is_counter and statement.using.timestamp is not None:
            raise InvalidRequestError("Cannot provide custom timestamp for counter updates")
        if view.is_counter and not isinstance(statement, ast.Delete):
            raise InvalidRequestError(
                "INSERT statements are not allowed on counter tables, use UPDATE instead: SET c = c + 1 "
                f"makes rows of {view.keyspace}.{view.name}"
            )
        if view.is_counter and is_conditional(statement):
            raise InvalidRequestError("Conditional updates are not supported on counter tables")
        self.view = view
        self.statement = statement
        self._markers = markers or Markers(len(statement.markers), view.keyspace, view.name)
        self.expressions = Expressions(self._markers, resolve_udt)
        self.scope: Scope = self.expressions.scope
        self._timestamp = self._using(statement.using.timestamp, "[timestamp]")
        self._ttl = self._using(statement.using.ttl, "[ttl]")
        self.operation = OPERATIONS[type(statement)]
        self.assigns: list[Assign] = []
        self.where: Where | None = None
        self.key_markers: tuple[int, ...] = ()
        self._compile()
        self.conditions: Conditions | None = None
        if is_conditional(statement):
            self.conditions = Conditions(statement, view, self.scope, self.expressions)
            self._check_conditional()
        self.markers: tuple[MarkerSpec, ...] = () if markers is not None else self._markers.specs()
        self.reads_first = any(assign.reads for assign in self.assigns)

    # --- compiling

    def _using(self, expression: ast.Expression | None, name: str) -> Term | None:
        if expression is None:
            return None
        return compile_term(expression, BIGINT if name == "[timestamp]" else INT, name, self.scope)

    def _compile(self) -> None:
        statement = self.statement
        if isinstance(statement, ast.Insert):
            self._compile_insert(statement)
        elif isinstance(statement, ast.InsertJson):
            self._json = compile_term(statement.json, TEXT, "[json]", self.scope)
        elif isinstance(statement, ast.Update):
            self._compile_update(statement)
        else:
            self._compile_delete(statement)

    def _compile_insert(self, statement: ast.Insert) -> None:
        if len(statement.columns) != len(statement.values):
            raise InvalidRequestError(
                f"Unmatched column names/values: there are {len(statement.columns)} columns and "
                f"{len(statement.values)} values"
            )
        terms: dict[str, Term] = {}
        indexes: dict[str, int] = {}
        for name, value in zip(statement.columns, statement.values, strict=True):
            column = column_of(self.view, name.text)
            if column.name in terms:
                raise InvalidRequestError(f"The column names contains duplicates: {column.name}")
            terms[column.name] = compile_term(value, column.type, column.name, self.scope)
            if isinstance(value, ast.Marker):
                indexes[column.name] = value.index
            if not column.is_key:
                self.assigns.append(set_column(column, terms[column.name]))
        self._key_terms = [(column, terms.get(column.name)) for column in self.view.partition]
        self._row_terms = [(column, terms.get(column.name)) for column in self.view.clustering]
        self._check_insert_key()
        keys = [indexes.get(column.name) for column in self.view.partition]
        self.key_markers = tuple(k for k in keys if k is not None) if None not in keys else ()

    def _check_insert_key(self) -> None:
        missing = [column.name for column, term in self._key_terms if term is None]
        rows_missing = [column.name for column, term in self._row_terms if term is None]
        only_static = bool(self.assigns) and all(a.column.kind == STATIC for a in self.assigns)
        if missing:
            raise InvalidRequestError(f"Some partition key parts are missing: {', '.join(missing)}")
        if rows_missing and not (only_static and len(rows_missing) == len(self._row_terms)):
            raise InvalidRequestError(f"Some clustering keys are missing: {', '.join(rows_missing)}")
        self._static_only = bool(rows_missing)

    def _compile_update(self, statement: ast.Update) -> None:
        for assignment in statement.assignments:
            column = column_of(self.view, assignment.target.column)
            self.assigns.append(compile_assignment(column, assignment, self.scope))
        _check_once(statement.assignments)
        self._compile_where(statement.where)
        assert self.where is not None
        only_static = all(assign.column.kind == STATIC for assign in self.assigns)
        if only_static and not self.where.restricts_rows:
            return
        if self.where.cuts:
            raise InvalidRequestError(
                "Slice restrictions are not supported on the clustering columns in UPDATE statements"
            )
        if only_static and self.view.clustering:
            raise InvalidRequestError(ONLY_STATIC.format("UPDATE"))
        if not self.where.names_rows:
            raise InvalidRequestError(f"Some clustering keys are missing: {self._unrestricted()}")

    def _compile_delete(self, statement: ast.Delete) -> None:
        for target in statement.targets:
            column = column_of(self.view, target.column)
            self.assigns.append(compile_deletion(column, target, self.scope))
        self._compile_where(statement.where)
        assert self.where is not None
        regular = [assign.column.name for assign in self.assigns if assign.column.kind != STATIC]
        if regular and not self.where.names_rows:
            raise InvalidRequestError(
                "Range deletions are not supported for specific columns: deleting "
                f"{regular[0]} needs the whole primary key, so restrict {self._unrestricted()}"
            )
        if self.assigns and not regular and self.where.restricts_rows:
            raise InvalidRequestError(ONLY_STATIC.format("DELETE"))

    def _unrestricted(self) -> str:
        assert self.where is not None
        count = sum(len(choice.columns) for choice in self.where.choices)
        return ", ".join(column.name for column in self.view.clustering[count:]) or "it"

    def _compile_where(self, relations: Sequence[ast.Relation]) -> None:
        where = self.where = compile_where(self.view, relations, self.scope)
        if where.tokens:
            raise InvalidRequestError(
                f"The token function cannot be used in WHERE clauses for {self._word} statements"
            )
        if not where.names_partitions:
            missing = ", ".join(missing_of_partition(where))
            raise InvalidRequestError(f"Some partition key parts are missing: {missing}")
        if where.others:
            raise InvalidRequestError(self._not_here(where.others[0]))
        self.key_markers = key_markers(self.view, relations)

    def _not_here(self, relation: ast.Relation) -> str:
        """Why a relation stands in no WHERE of a modification."""
        left = relation.left
        name = left.column if isinstance(left, ast.Target) else left.columns[0].text
        advice = "name rows by their primary key, from its front; what else must hold stands behind IF"
        if not column_of(self.view, name).is_key:
            return f"Non PRIMARY KEY columns found in where clause: {name}; {advice}"
        assert self.where is not None
        if isinstance(left, ast.Target) and left.path:
            return f"A part of the PRIMARY KEY column {name} cannot be restricted: {advice}"
        if relation.operator not in (ast.EQ, ast.IN, ast.LT, ast.LE, ast.GT, ast.GE):
            return f'Unsupported "{relation.operator}" relation on the PRIMARY KEY column {name}: {advice}'
        if isinstance(self.statement, ast.Update):
            return f"Some clustering keys are missing: {self._unrestricted()}"
        count = sum(len(choice.columns) for choice in self.where.choices)
        before = self.view.clustering[count].name
        if self.where.cuts:
            return (
                f'Clustering column "{name}" cannot be restricted (preceding column "{before}" is restricted '
                f"by a non-EQ relation): {advice}"
            )
        return (
            f'PRIMARY KEY column "{name}" cannot be restricted as preceding column "{before}" is not '
            f"restricted: {advice}"
        )

    @property
    def _word(self) -> str:
        return type(self.statement).__name__.upper()

    def _check_conditional(self) -> None:
        where = self.where
        assert self.conditions is not None
        if where is None:
            return
        if any(choice.is_in for choice in where.partition):
            raise InvalidRequestError(
                f"IN on the partition key is not supported with conditional {self._conditional_word}"
            )
        if any(choice.is_in for choice in where.choices):
            raise InvalidRequestError(
                f"IN on the clustering key columns is not supported with conditional {self._conditional_word}"
            )
        if self.view.clustering and not where.names_rows and not self._is_static(self.conditions):
            raise InvalidRequestError(
                f"{self._word} statements must restrict all PRIMARY KEY columns with equality relations in "
                f"order to use IF condition on non static columns: restrict {self._unrestricted()}"
            )

    @property
    def _conditional_word(self) -> str:
        return "deletions" if isinstance(self.statement, ast.Delete) else "updates"

    def _is_static(self, conditions: Conditions) -> bool:
        """Whether only static columns are compared and written."""
        if isinstance(self.statement, ast.Delete) and not self.assigns:
            return conditions.only_static
        written = bool(self.assigns) and all(a.column.kind == STATIC for a in self.assigns)
        return written and (conditions.only_static or conditions.kind == PRESENT)

    # --- executing

    @property
    def is_conditional(self) -> bool:
        """Whether there is an IF."""
        return self.conditions is not None

    def places(self, context: Context) -> list[Place]:
        """The rows that conditions and assignments are about."""
        targets = self.targets(context)
        if any(not interval.point for interval in targets.intervals):
            return [Place(partition, STATIC_SUFFIX) for partition in targets.partitions]
        found = [Place(p, interval.first) for p in targets.partitions for interval in targets.intervals]
        return found or [Place(partition, STATIC_SUFFIX) for partition in targets.partitions]

    @property
    def has_timestamp(self) -> bool:
        """Whether it has a USING TIMESTAMP of its own."""
        return self._timestamp is not None

    def check_timestamp(self) -> None:
        """Refuse USING TIMESTAMP beside conditions."""
        if self._timestamp is not None:
            raise InvalidRequestError(
                "Cannot provide custom timestamp for conditional updates: the decision gives it"
            )

    def timestamp_us(self, context: Context, options: Options) -> int:
        """The client's timestamp; 0 lets the coordinator stamp."""
        if self._timestamp is None:
            return options.timestamp_us or 0
        value = self._timestamp(context)
        if isinstance(value, UnsetType):
            return options.timestamp_us or 0
        if value is None:
            raise InvalidRequestError("Invalid null value of timestamp: give microseconds")
        return int(BIGINT.decode(value)) or ZERO_TIMESTAMP_US

    def ttl_s(self, context: Context) -> int:
        """The time to live; 0 is for ever."""
        value = UNSET if self._ttl is None else self._ttl(context)
        if isinstance(value, UnsetType):
            return self.view.default_ttl_s
        ttl_s = 0 if value is None else int(INT.decode(value))
        if ttl_s < 0:
            raise InvalidRequestError(f"A TTL must be greater or equal to 0, but was {ttl_s}")
        if ttl_s > limits.TTL_S_MAX:
            raise InvalidRequestError(f"ttl is too large. requested ({ttl_s}) maximum ({limits.TTL_S_MAX})")
        return ttl_s

    def targets(self, context: Context) -> Targets:
        """The partitions and slices that this execution is about."""
        where = self.where
        if where is None:
            return self._inserted(context)[0]
        partitions = where.partitions(context)
        if not self.view.clustering or where.restricts_rows:
            only_static = bool(self.assigns) and all(a.column.kind == STATIC for a in self.assigns)
            intervals = [] if only_static else where.intervals(context)
            if len(partitions) * len(intervals) > PLACES_MAX:
                raise InvalidRequestError(places_refused(len(partitions), len(intervals)))
            return Targets(partitions, intervals)
        return Targets(partitions, [] if self.assigns else [WHOLE])

    def _inserted(self, context: Context) -> tuple[Targets, list[tuple[ColumnView, Any]]]:
        if isinstance(self.statement, ast.InsertJson):
            return self._inserted_json(context)
        keys = [_key_value(term, column, context) for column, term in self._key_terms]
        partition = self._partition(keys)
        if self._static_only:
            return Targets([partition], []), []
        rows = [_key_value(term, column, context) for column, term in self._row_terms]
        suffix = self.view.prefix(rows)
        return Targets([partition], [Interval(suffix, b"", point=True)]), []

    def _partition(self, values: list[bytes]) -> bytes:
        partition = self.view.partition_key(values)
        if not 0 < len(partition) <= limits.KEY_BYTES_MAX:
            raise InvalidRequestError(key_refused(len(partition)))
        return partition

    def _inserted_json(self, context: Context) -> tuple[Targets, list[tuple[ColumnView, Any]]]:
        values = self._json_values(context)
        keys = [_json_key(values, column) for column in self.view.partition]
        rows = [_json_key(values, column) for column in self.view.clustering]
        targets = Targets([self._partition(keys)], [Interval(self.view.prefix(rows), b"", point=True)])
        assert isinstance(self.statement, ast.InsertJson)
        unset = self.statement.default_unset
        others = [
            (column, values.get(column.name))
            for column in self.view.columns
            if not column.is_key and (column.name in values or not unset)
        ]
        return targets, others

    def _json_values(self, context: Context) -> dict[str, bytes | None]:
        text = self._json(context)
        if text is None or isinstance(text, UnsetType):
            raise InvalidRequestError("Got null for INSERT JSON values: give a JSON object")
        try:
            members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidRequestError(f"Could not decode JSON string as a map: {error}") from None
        values: dict[str, bytes | None] = {}
        for name, value in members.items():
            column = self.view.by_name.get(name_in_json(name))
            if column is None:
                raise InvalidRequestError(f"JSON values map contains unrecognized column: {name}")
            try:
                values[column.name] = column.type.from_json(bytes(value))
            except InvalidValueError as error:
                raise InvalidRequestError(f"Error decoding JSON value for {column.name}: {error}") from None
        return values

    def draft(self, drafts: Drafts, context: Context, options: Options, before: Before) -> None:
        """Add what this execution does to the drafts of its partitions.

        The keys are the first that it asks the context for, so `places` of an equal context are the same.
        """
        if isinstance(self.statement, ast.InsertJson):
            targets, values = self._inserted_json(context)
            assigns = [set_column(column, _given(value)) for column, value in values]
        else:
            targets, assigns = self.targets(context), self.assigns
        ttl_s, timestamp_us = self.ttl_s(context), self.timestamp_us(context, options)
        for partition in targets.partitions:
            draft = drafts.of(self.view.id, partition, timestamp_us)
            draft.takes(self.operation)
            if isinstance(self.statement, ast.Delete) and not assigns:
                self._delete(draft, targets.intervals)
            else:
                self._assign(draft, targets.intervals, assigns, (ttl_s, context, before))

    def _delete(self, draft: Draft, intervals: list[Interval]) -> None:
        for interval in intervals:
            if interval.point:
                draft.row(interval.first).deleted = True
            elif interval == WHOLE:
                draft.partition_delete = True
            else:
                draft.ranges[interval.first, interval.end] = None

    def _assign(
        self, draft: Draft, intervals: list[Interval], assigns: list[Assign], how: tuple[int, Context, Before]
    ) -> None:
        ttl_s, context, before = how
        static = [assign for assign in assigns if assign.column.kind == STATIC]
        regular = [assign for assign in assigns if assign.column.kind != STATIC]
        groups = [(STATIC_SUFFIX, static)] if static else []
        is_insert = self.operation == INSERT
        if regular or is_insert:
            groups += [(interval.first, regular) for interval in intervals]
        for suffix, some in groups:
            row = draft.row(suffix)
            if is_insert and suffix != STATIC_SUFFIX:
                row.put(marker(ttl_s))
            known, now_us = before.get((draft.partition, suffix), (None, 0))
            place = CellPlace(row, ttl_s, known, now_us, self.conditions is not None)
            for assign in some:
                assign.apply(place, context)

    def rows_to_read(self, context: Context) -> list[tuple[bytes, bytes]]:
        """Partition and suffix of each row that has to be read first."""
        if not self.reads_first:
            return []
        targets = self.targets(context)
        found = []
        for partition in targets.partitions:
            if any(a.reads and a.column.kind == STATIC for a in self.assigns):
                found.append((partition, STATIC_SUFFIX))
            if any(a.reads and a.column.kind != STATIC for a in self.assigns):
                found += [(partition, interval.first) for interval in targets.intervals]
        return found

    def execute(self, context: Context, options: Options) -> Execution:
        """The requests of one execution."""
        if self.conditions is not None:
            yield from ()
            steps = [Step(self, context)]
            return (
                yield from execute_conditional(
                    steps, draft_conditional([self], options), options, is_batch=False
                )
            )
        drafts = Drafts()
        before = yield from read_rows(self, context, options)
        self.draft(drafts, context, options, before)
        yield from write_all(drafts, options, "SIMPLE")
        return VoidResult()


def is_conditional(statement: ast.Modification) -> bool:
    """Whether the statement has an IF."""
    if isinstance(statement, (ast.Insert, ast.InsertJson)):
        return statement.if_not_exists
    return statement.if_exists or bool(statement.conditions)


class Drafts:
    """What statements do, by table, partition and timestamp, in the order in which they first do it."""

    def __init__(self) -> None:
        self._drafts: dict[tuple[int, bytes, int], Draft] = {}

    def of(self, table: int, partition: bytes, timestamp_us: int) -> Draft:
        """The draft of a partition."""
        key = (table, partition, timestamp_us)
        found = self._drafts.get(key)
        if found is None:
            found = self._drafts[key] = Draft(*key)
        return found

    def all(self) -> list[Draft]:
        """Those that do anything."""
        return [draft for draft in self._drafts.values() if not draft.is_empty]


def draft_conditional(plans: Sequence[ModifyPlan], options: Options) -> DraftConditional:
    """What statements do to the one partition that they decide about."""
    plain = Options(options.level, options.serial_level)

    def draft(known: Known, contexts: Callable[[int], Context]) -> WriteRequest | None:
        drafts, last = Drafts(), contexts(0)
        for index, plan in enumerate(plans):
            context = contexts(index)
            context.follow(last)
            last = context
            before: Before = {
                (place.partition, suffix): (known.row(suffix), known.now_us)
                for place in plan.places(contexts(index))
                for suffix in (place.suffix, STATIC_SUFFIX)
            }
            plan.draft(drafts, context, plain, before)
        found = drafts.all()
        return found[0].request(options.level) if found else None

    return draft


def read_rows(plan: ModifyPlan, context: Context, options: Options) -> Any:
    """A generator: read what assignments look at; returns rows by place."""
    before: Before = {}
    places = plan.rows_to_read(context)
    if places:
        requests: list[Request] = [
            ReadRequest(plan.view.id, partition, suffix, b"", True, options.level)
            for partition, suffix in places
        ]
        answers = yield tuple(requests)
        for place, answer in zip(places, answers, strict=True):
            found = unless_failed(answer)
            assert isinstance(found, RowsRead)
            before[place] = (found.rows[0].row if found.rows else None, found.now_us)
    return before


def write_all(drafts: Drafts, options: Options, write_type: str) -> Any:
    """A generator: write all drafts, side by side."""
    requests: Asked = tuple(draft.request(options.level) for draft in drafts.all())
    if requests:
        for answer in (yield requests):
            unless_failed(answer, write_type)


def _check_once(assignments: Sequence[ast.Assignment]) -> None:
    seen: dict[str, bool] = {}
    fields: set[tuple[str, str]] = set()
    for assignment in assignments:
        target = assignment.target
        is_whole = not target.path and assignment.operation == ast.SET
        field = [(target.column, step.name) for step in target.path[:1] if isinstance(step, ast.Field)]
        again = not fields.isdisjoint(field)
        fields.update(field)
        if again or (target.column in seen and (is_whole or seen[target.column])):
            raise InvalidRequestError(f"Multiple incompatible setting of column {target.column}")
        seen[target.column] = seen.get(target.column, False) or is_whole


def _key_value(term: Term | None, column: ColumnView, context: Context) -> bytes:
    assert term is not None, "checked when compiled"
    value = term(context)
    if value is None or isinstance(value, UnsetType):
        if value is None:
            raise InvalidRequestError(f"Invalid null value in condition for column {column.name}")
        raise InvalidRequestError(f"Invalid unset value for column {column.name}")
    return value


def _json_key(values: dict[str, bytes | None], column: ColumnView) -> bytes:
    value = values.get(column.name)
    if value is None:
        raise InvalidRequestError(
            f"Invalid null value in condition for column {column.name}: the JSON needs one"
        )
    return value


def _given(value: bytes | None) -> Term:
    return lambda _: value


__all__ = ["Drafts", "ModifyPlan", "Targets", "put_value", "read_rows", "write_all"]
