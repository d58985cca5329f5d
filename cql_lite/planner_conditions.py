"""IF: conditional modifications, alone or several in a batch over one partition, as one ConditionalRequest.

The rows that conditions look at and that are written are read with the promise; `decide` evaluates the
conditions and drafts the write. It may be called several times, with other rows each time, so all that it
is given besides (bound values, the time, random bytes) is fixed before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec
from msgspec import UnsetType

from core.requests import ConditionalRequest, Invalid, Judged, PartRead, ReadRow, RowsRead, WriteRequest
from core.row import EMPTY_ROW, Row
from core.schema import STATIC
from cql_lite import ast
from cql_lite.errors import InvalidRequestError
from cql_lite.planner_expressions import Expressions
from cql_lite.planner_filters import parts_of
from cql_lite.planner_functions import Compiled
from cql_lite.planner_results import Execution, Options, ResultColumn, RowsResult, unless_failed
from cql_lite.planner_rows import Layout, Record
from cql_lite.planner_tables import ColumnView, TableView
from cql_lite.planner_terms import Bound, Context, Scope, Term, compile_term
from cql_lite.planner_where import called, column_of
from cql_lite.types import (
    BOOLEAN,
    INT,
    JSON,
    Collection,
    InvalidValueError,
    ListType,
    MapType,
    Type,
    UserType,
    has_durations,
)
from lsm.keys import STATIC_SUFFIX, split_row_key
from query.comparisons import HOLDS

APPLIED: Final = "[applied]"
PRESENT, ABSENT, COMPARED = "IF EXISTS", "IF NOT EXISTS", "IF"

Judge = Callable[[Record, Context], bool]


class Conditions:
    """The IF of one statement, compiled."""

    def __init__(
        self, statement: ast.Modification, view: TableView, scope: Scope, expressions: Expressions
    ) -> None:
        self.layout = Layout(view)
        self.kind = COMPARED
        self.judges: list[Judge] = []
        self.columns: tuple[ColumnView, ...] = view.columns
        if isinstance(statement, (ast.Insert, ast.InsertJson)):
            self.kind = ABSENT
        elif statement.if_exists:
            self.kind = PRESENT
        else:
            named = [column_of(view, condition.target.column) for condition in statement.conditions]
            self.columns = tuple(dict.fromkeys(sorted(named, key=lambda column: column.kind == STATIC)))
            for column in named:
                if column.is_key:
                    raise InvalidRequestError(f"PRIMARY KEY column '{column.name}' cannot have IF conditions")
            outer, expressions.layout = expressions.layout, self.layout
            try:
                self.judges = [_judge(condition, scope, expressions) for condition in statement.conditions]
            finally:
                expressions.layout = outer
        self.slots = [(column, self.layout.slot(column)) for column in view.columns]

    @property
    def any_static(self) -> bool:
        """Whether something that is compared belongs to the partition."""
        return self.kind == COMPARED and any(column.kind == STATIC for column in self.columns)

    @property
    def only_static(self) -> bool:
        """Whether all that is compared belongs to the partition."""
        return self.kind == COMPARED and all(column.kind == STATIC for column in self.columns)


def _judge(condition: ast.Condition, scope: Scope, expressions: Expressions) -> Judge:
    node: ast.Expression = ast.ColumnRef(condition.target.column, condition.target.at)
    for step in condition.target.path:
        if isinstance(step, ast.Key):
            node = ast.ElementAccess(node, step.term, step.at)
        else:
            node = ast.FieldAccess(node, step.name, step.at)
    _check_steps(condition.target, expressions)
    subject = _checked(condition.target, expressions.compile(node), expressions)
    name, operator = called(condition.target), condition.operator
    if operator == ast.IN:
        return _within(subject, condition.value, name, scope)
    if isinstance(condition.value, ast.InList):
        raise InvalidRequestError(f"IF {name} {operator} takes one value, not a list of them")
    if operator in (ast.CONTAINS, ast.CONTAINS_KEY):
        return _containing(subject, operator, condition.value, name, scope)
    if operator not in HOLDS:
        raise InvalidRequestError(
            f"IF compares by =, !=, <, <=, >, >=, IN, CONTAINS and CONTAINS KEY, not {operator}"
        )
    if operator not in (ast.EQ, ast.NE) and (subject.type == JSON or has_durations(subject.type)):
        kind = "documents" if subject.type == JSON else "durations"
        raise InvalidRequestError(
            f"Slice conditions are not supported on {kind}: without an order {name} takes =, != and IN only"
        )
    term = compile_term(condition.value, subject.type, name, scope)
    compare, holds, none = subject.type.compare, HOLDS[operator], _none_of(subject.type)

    def judge(record: Record, context: Context) -> bool:
        left, right = subject.evaluate(record, context), _given(term(context), name)
        if left is None and right is not None:
            left = none
        if left is None or right is None:
            if right is None and operator not in (ast.EQ, ast.NE):
                raise InvalidRequestError(f'Invalid comparison with null for operator "{operator}" of {name}')
            return (left is right) == (operator == ast.EQ) if operator in (ast.EQ, ast.NE) else False
        return holds(compare(left, right))

    return judge


def _check_steps(target: ast.Target, expressions: Expressions) -> None:
    """Refuse a step that the column's type does not have, in the words of conditions."""
    of = column_of(expressions.view(), target.column).type
    for step in target.path[:1]:
        if isinstance(step, ast.Field):
            if not isinstance(of, UserType):
                raise InvalidRequestError(
                    f"Cannot specify a column and field for non-UDT column {target.column}"
                )
            if step.name not in of.names:
                raise InvalidRequestError(f"Unknown field {step.name} for column {target.column}")
        elif not isinstance(of, Collection) and of != JSON:
            raise InvalidRequestError(
                f"Invalid element access syntax for non-collection column {target.column}"
            )


def _checked(target: ast.Target, subject: Compiled, expressions: Expressions) -> Compiled:
    """The subject; a key that is null, or a negative index, is refused when it is met."""
    of = column_of(expressions.view(), target.column).type
    step = target.path[0] if target.path else None
    if not isinstance(step, ast.Key) or not isinstance(of, (ListType, MapType)):
        return subject
    is_list = isinstance(of, ListType)
    name = f"{'idx' if isinstance(of, ListType) else 'key'}({target.column})"
    key = expressions.key(step.term, INT if isinstance(of, ListType) else of.keys, name).evaluate

    def evaluate(record: Record, context: Context) -> bytes | None:
        at = key(record, context)
        if at is None:
            kind = "list" if is_list else "map"
            raise InvalidRequestError(f"Invalid null value for {kind} element access of {target.column}")
        if is_list and INT.decode(at) < 0:
            raise InvalidRequestError(f"Invalid negative list index {INT.decode(at)}")
        return subject.evaluate(record, context)

    return Compiled(subject.type, evaluate)


def _none_of(of: Type) -> bytes | None:
    """What a column of the type is where it has no cells: a collection that is not frozen is empty."""
    return of.pack([]) if isinstance(of, Collection) and of.is_multicell else None


def _within(subject: Compiled, right: ast.Expression | ast.InList, name: str, scope: Scope) -> Judge:
    of, none = subject.type, _none_of(subject.type)
    if isinstance(right, ast.InList):
        terms: list[Term] = [compile_term(item, of, name, scope) for item in right.items]

        def options(context: Context) -> list[bytes | None]:
            values = [term(context) for term in terms]
            return [value for value in values if not isinstance(value, UnsetType)]

    else:
        listed = _listed(right, ListType(element=of), name, scope)

        def options(context: Context) -> list[bytes | None]:
            return listed(context)

    def judge(record: Record, context: Context) -> bool:
        found = subject.evaluate(record, context)
        for option in options(context):
            left = none if found is None and option is not None else found
            if left is None or option is None:
                if left is option:
                    return True
            elif of.compare(left, option) == 0:
                return True
        return False

    return judge


def _listed(
    right: ast.Expression, whole: ListType, name: str, scope: Scope
) -> Callable[[Context], list[bytes | None]]:
    """The values of `IN ?`: other than a list that is kept, this one may hold nulls."""
    if not isinstance(right, ast.Marker):
        term = compile_term(right, whole, f"in({name})", scope)
        return lambda context: list(whole.unpack(_needed(term(context), name)))
    scope.markers.note(right, f"in({name})", whole)
    index, of = right.index, whole.element

    def options(context: Context) -> list[bytes | None]:
        value = _needed(context.values[index], name)
        try:
            return [None if each is None else of.check(each) for each in whole.parts(value)]
        except InvalidValueError as error:
            raise InvalidRequestError(f"Invalid value for bind marker {index}: {error}") from None

    return options


def _needed(value: Bound, name: str) -> bytes:
    found = _given(value, name)
    if found is None:
        raise InvalidRequestError(f"Invalid null list in IN condition of {name}: bind a list")
    return found


def _containing(subject: Compiled, operator: str, right: ast.Expression, name: str, scope: Scope) -> Judge:
    collection, wanted, first, step = parts_of(subject.type, operator, name)
    term = compile_term(right, wanted, f"{'key' if operator == ast.CONTAINS_KEY else 'value'}({name})", scope)

    def judge(record: Record, context: Context) -> bool:
        value, part = subject.evaluate(record, context), _given(term(context), name)
        if part is None:
            raise InvalidRequestError(f'Invalid comparison with null for operator "{operator}" of {name}')
        parts = [] if value is None else collection.unpack(value)[first::step]
        return any(wanted.compare(part, each) == 0 for each in parts)

    return judge


def _given(value: Bound, name: str) -> bytes | None:
    if isinstance(value, UnsetType):
        raise InvalidRequestError(f"Invalid 'unset' value in condition of {name}: bind one or null")
    return value


# --- executing


class Place(NamedTuple):
    """A row that a statement is about: `suffix` is that of the static row if it is about nothing else."""

    partition: bytes
    suffix: bytes


class Conditional(Protocol):
    """A modification with or without an IF."""

    @property
    def view(self) -> TableView:
        """Its table."""

    @property
    def conditions(self) -> Conditions | None:
        """Its IF."""

    def places(self, context: Context) -> list[Place]:
        """The rows that it is about."""

    def check_timestamp(self) -> None:
        """Refuse USING TIMESTAMP."""


class FixedEntropy:
    """Random bytes that are the same each time a decision is made."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._count = 0

    def token_bytes(self, n: int) -> bytes:
        """n bytes."""
        self._count += 1
        return hashlib.blake2b(self._seed + self._count.to_bytes(8, "big"), digest_size=n).digest()


class Known(msgspec.Struct, frozen=True):
    """Rows as they were read, by suffix, and when."""

    rows: dict[bytes, Row]
    now_us: int

    def row(self, suffix: bytes) -> Row | None:
        """The row, None if it does not exist."""
        return self.rows.get(suffix)


Draft = Callable[[Known, Callable[[int], Context]], WriteRequest | None]


class Step(NamedTuple):
    """One statement with its values."""

    plan: Conditional
    context: Context


class _Aimed(NamedTuple):
    """One statement and the rows that it is about."""

    plan: Conditional
    places: list[Place]


def execute_conditional(
    steps: Sequence[Step], draft: Draft, options: Options, *, is_batch: bool
) -> Execution:
    """The request of one or several statements with conditions, and its [applied] result."""
    view = steps[0].plan.view
    seeds = [step.context.entropy.token_bytes(16) for step in steps]

    def contexts(index: int) -> Context:
        step = steps[index]
        return Context(step.context.values, step.context.now_us, FixedEntropy(seeds[index]))

    aimed = [_Aimed(step.plan, step.plan.places(contexts(index))) for index, step in enumerate(steps)]
    places = [place for one in aimed for place in one.places]
    partitions = list(dict.fromkeys(place.partition for place in places))
    if any(step.plan.view.id != view.id for step in steps):
        raise InvalidRequestError("Batch with conditions cannot span multiple tables")
    if len(partitions) != 1:
        raise InvalidRequestError("Batch with conditions cannot span multiple partitions")
    for step in steps:
        step.plan.check_timestamp()
    _check_mixed(aimed)
    suffixes = dict.fromkeys(place.suffix for place in places)
    if view.has_static:
        suffixes = {STATIC_SUFFIX: None, **suffixes}
    partition = partitions[0]

    def holds(known: Known) -> bool:
        return all(_holds(one, known, contexts(index)) for index, one in enumerate(aimed))

    refused: list[Exception] = []

    def decide(reads: tuple[RowsRead, ...]) -> WriteRequest | Invalid | None:
        known = _known(reads)
        try:
            return draft(known, contexts) if holds(known) else None
        except Exception as error:  # noqa: BLE001 (of the statement, not of the node that decides)
            refused.append(error)
            return Invalid("bad_condition", str(error))

    request = ConditionalRequest(
        view.id, partition, tuple(PartRead(suffix) for suffix in suffixes), decide, options.level,
        options.serial_level,
    )  # fmt: skip
    (answer,) = yield (request,)
    if refused and isinstance(answer, Invalid):
        raise refused[-1]  # with its own code: a function may have failed, or it is a bug, and told as such
    judged = unless_failed(answer, "CAS")
    assert isinstance(judged, Judged), judged
    applied = judged.applied or holds(_known(judged.reads))  # with nothing to write, holding is all
    return _applied(view) if applied else _refused(judged, aimed, view, is_batch)


def _check_mixed(steps: Sequence[_Aimed]) -> None:
    """Refuse a batch that says of one row that it is not there and something else: it would never apply."""
    kinds: dict[Place, set[str]] = {}
    for step in steps:
        conditions = step.plan.conditions
        if conditions is None:
            continue
        for place in step.places:
            about = place._replace(suffix=STATIC_SUFFIX) if conditions.only_static else place
            kinds.setdefault(about, set()).add(conditions.kind)
    for found in kinds.values():
        if ABSENT in found and len(found) > 1:
            both = "IF EXISTS and IF NOT EXISTS conditions", "IF conditions and IF NOT EXISTS"
            raise InvalidRequestError(f"Cannot mix {both[PRESENT not in found]} for the same row")


def _known(reads: tuple[RowsRead, ...]) -> Known:
    rows: dict[bytes, Row] = {}
    for read in reads:
        for item in read.rows:
            assert isinstance(item, ReadRow)
            rows[split_row_key(item.key)[3]] = item.row
    return Known(rows, reads[0].now_us if reads else 0)


def _holds(step: _Aimed, known: Known, context: Context) -> bool:
    conditions = step.plan.conditions
    if conditions is None:
        return True
    for place in step.places:
        exists = known.row(place.suffix) is not None
        if conditions.kind == ABSENT:
            if exists:
                return False
        elif conditions.kind == PRESENT:
            if not exists:
                return False
        else:
            record = _record(conditions, place, known)
            if not all(judge(record, context) for judge in conditions.judges):
                return False
    return True


def _record(conditions: Conditions, place: Place, known: Known) -> Record:
    template = conditions.layout.template(place.partition, known.row(STATIC_SUFFIX), known.now_us)
    if place.suffix == STATIC_SUFFIX:
        return template
    return conditions.layout.record(
        template, place.suffix, known.row(place.suffix) or EMPTY_ROW, known.now_us
    )


def _shown(steps: Sequence[_Aimed], view: TableView, is_batch: bool) -> tuple[ColumnView, ...]:
    """The columns of a refusal: what was compared, with the key in a batch; all, where that was existence."""
    conditions = [step.plan.conditions for step in steps if step.plan.conditions is not None]
    if any(one.kind != COMPARED for one in conditions):
        return view.columns
    compared = [column for one in conditions for column in one.columns]
    keys = (*view.partition, *view.clustering) if is_batch else ()
    return tuple(dict.fromkeys((*keys, *compared)))


def _applied(view: TableView) -> RowsResult:
    return RowsResult((_applied_column(view),), [[BOOLEAN.encode(True)]])


def _applied_column(view: TableView) -> ResultColumn:
    return ResultColumn(view.keyspace, view.name, APPLIED, BOOLEAN)


def _refused(judged: Judged, steps: Sequence[_Aimed], view: TableView, is_batch: bool) -> RowsResult:
    first = _applied_column(view)
    known, no = _known(judged.reads), BOOLEAN.encode(False)
    shown = _shown(steps, view, is_batch)
    found: dict[bytes, list[bytes | None]] = {}
    for step in steps:
        conditions = step.plan.conditions
        if conditions is None:
            continue
        slots = {column.name: slot for column, slot in conditions.slots}
        for place in step.places:
            if known.row(place.suffix) is None and not (conditions.any_static and known.row(STATIC_SUFFIX)):
                continue
            exists = known.row(place.suffix) is not None
            at = place if exists else Place(place.partition, STATIC_SUFFIX)
            record = _record(conditions, at, known)
            found[at.suffix] = [no, *(record[slots[column.name]] for column in shown)]
    if not found:
        return RowsResult((first,), [[no]])
    rows = [found[suffix] for suffix in sorted(found) if len(found) == 1 or suffix != STATIC_SUFFIX]
    columns = (first, *(ResultColumn(view.keyspace, view.name, c.name, c.type) for c in shown))
    return RowsResult(columns, rows)
