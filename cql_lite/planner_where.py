"""WHERE: which partitions, which slices of them, and what is left to filter.

A row's place in its partition is a byte string whose order is the order of rows (lsm/keys.py), so every
restriction of clustering columns is a list of byte intervals: `=` and `IN` make prefixes, a bound on the
next column cuts the interval under a prefix, and a bound on several columns at once is a union of such
cuts, one per column, whatever their directions are. What cannot be said so becomes a filter over records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Final, NamedTuple

import msgspec
from msgspec import UnsetType

from core import limits
from core.schema import CLUSTERING, PARTITION
from cql_lite import ast
from cql_lite.errors import InvalidRequestError
from cql_lite.planner_tables import ColumnView, TableView
from cql_lite.planner_terms import Bound, Context, Scope, Term, compile_term
from cql_lite.types import BIGINT, ListType, TupleType
from cql_lite.types_base import Type
from lsm.keys import ROW_SUFFIX, TOKEN_MAX, TOKEN_MIN, successor

PLACES_MAX: Final = 10_000
"""Partitions or slices that one statement may name."""

NEEDS_FILTERING: Final = (
    "Cannot execute this query as it might involve data filtering and thus may have unpredictable "
    "performance. If you want to execute this query despite the performance unpredictability, use ALLOW "
    "FILTERING"
)
LOWER, UPPER = (ast.GT, ast.GE), (ast.LT, ast.LE)


class Interval(NamedTuple):
    """Suffixes of row keys in [first, end); a point is `first` alone."""

    first: bytes
    end: bytes
    point: bool = False


WHOLE: Final = Interval(ROW_SUFFIX, successor(ROW_SUFFIX))

Tuples = Callable[[Context], list[tuple[bytes, ...]]]


class Choice(msgspec.Struct, frozen=True):
    """`=` or IN: the values that some columns, side by side in the key, may have."""

    columns: tuple[ColumnView, ...]
    values: Tuples
    is_in: bool


class Cut(msgspec.Struct, frozen=True):
    """A bound on one column or on several side by side."""

    columns: tuple[ColumnView, ...]
    operator: str
    values: Tuples


class TokenBound(msgspec.Struct, frozen=True):
    """token(key) against a number."""

    operator: str
    term: Term


class Where(msgspec.Struct):
    """The relations of a WHERE by what they restrict; `others` are left to filter."""

    view: TableView
    partition: list[Choice]
    choices: list[Choice]
    cuts: list[Cut]
    tokens: list[TokenBound]
    others: list[ast.Relation]
    scope: Scope

    @property
    def names_partitions(self) -> bool:
        """Whether every partition key column is given."""
        return len(self.partition) == len(self.view.partition)

    @property
    def names_rows(self) -> bool:
        """Whether every clustering column is given too."""
        return sum(len(choice.columns) for choice in self.choices) == len(self.view.clustering)

    @property
    def restricts_rows(self) -> bool:
        """Whether anything is said of clustering columns."""
        return bool(self.choices or self.cuts)

    # --- for one execution

    def partitions(self, context: Context) -> list[bytes]:
        """The partition keys, in the order of their values, each once."""
        columns = self.view.partition
        options = [
            [value for (value,) in choice.values(context)]
            for choice in sorted(self.partition, key=lambda choice: choice.columns[0].position)
        ]
        for column, values in zip(columns, options, strict=True):
            if len(values) > 1:
                values[:] = _ordered(values, column.type.key)
        count = 1
        for values in options:
            count *= len(values)
        if count > PLACES_MAX:
            raise InvalidRequestError(
                f"the statement names {count} partitions; at most {PLACES_MAX} can be: use several"
            )
        keys = [self.view.partition_key(values) for values in product(*options)]
        for key in keys:
            if not 0 < len(key) <= limits.KEY_BYTES_MAX:
                raise InvalidRequestError(key_refused(len(key)))
        return keys

    def intervals(self, context: Context) -> list[Interval]:
        """The slices of each partition, ascending and disjoint."""
        if self.names_rows and not self.choices:
            return [Interval(ROW_SUFFIX, b"", point=True)]
        prefixes = [ROW_SUFFIX]
        for choice in self.choices:
            values = choice.values(context)
            if len(values) * len(prefixes) > PLACES_MAX:
                raise InvalidRequestError(f"the statement names over {PLACES_MAX} rows: use several")
            keys = [_key(choice.columns, value) for value in values]
            prefixes = [prefix + key for prefix in prefixes for key in keys]
        prefixes = sorted(dict.fromkeys(prefixes))
        if self.names_rows:
            return [Interval(prefix, b"", point=True) for prefix in prefixes]
        slices = []
        bounds = [(cut, cut.values(context)[0]) for cut in self.cuts]
        for prefix in prefixes:
            found = [Interval(prefix, successor(prefix))]
            for cut, bound in bounds:
                found = _intersected(found, _cut(prefix, cut, bound))
            slices += found
        return slices

    def token_range(self, context: Context) -> tuple[int, int]:
        """The first and last token, both included; first > last if there are none.

        The least token, which no key has, is the end of the ring as an upper bound: so drivers write the
        range that goes on at the beginning of the ring, cut in two.
        """
        first, last = TOKEN_MIN, TOKEN_MAX
        for bound in self.tokens:
            value = required(bound.term(context), "token")
            token = BIGINT.decode(value)
            if bound.operator in (ast.EQ, ast.GE, ast.GT):
                first = max(first, token + (bound.operator == ast.GT))
            if bound.operator == ast.EQ or (bound.operator in UPPER and token != TOKEN_MIN):
                last = min(last, token - (bound.operator == ast.LT))
        return first, last


def places_refused(partitions: int, slices: int) -> str:
    """Why so many slices of so many partitions are too many for one statement."""
    many = f"{slices} rows or slices in each of {partitions} partitions"
    return f"the statement names {many}; at most {PLACES_MAX} can be: use several"


def key_refused(size: int) -> str:
    """Why a partition key of so many bytes is none."""
    if not size:
        return "Key may not be empty: a partition key has at least one byte"
    return f"Key length of {size} is longer than maximum of {limits.KEY_BYTES_MAX}"


def required(value: Bound, name: str) -> bytes:
    """A value that may be neither null nor unset."""
    if value is None:
        raise InvalidRequestError(f"Invalid null value in condition for column {name}")
    if isinstance(value, UnsetType):
        raise InvalidRequestError(f"Invalid unset value for column {name}")
    return value


def _ordered(values: list[bytes], key: Callable[[bytes], bytes]) -> list[bytes]:
    """By the order of the type; equal ones that are written in two ways, as 1.0 and 1.00, are two keys."""
    return sorted(dict.fromkeys(values), key=lambda value: (key(value), value))


def _key(columns: Sequence[ColumnView], values: Sequence[bytes]) -> bytes:
    parts = [
        column.type.to_key(value, column.descending) for column, value in zip(columns, values, strict=True)
    ]
    return b"".join(parts)


def _cut(prefix: bytes, cut: Cut, values: tuple[bytes, ...]) -> list[Interval]:
    """The intervals under a prefix in which rows stand so to the values, ascending."""
    found: list[Interval] = []
    is_lower = cut.operator in LOWER
    for index, (column, value) in enumerate(zip(cut.columns, values, strict=True)):
        key = prefix + column.type.to_key(value, column.descending)
        after = successor(key)
        if is_lower != column.descending:
            beyond = Interval(after, successor(prefix))
        else:
            beyond = Interval(prefix, key)
        found.append(beyond)
        if index == len(values) - 1 and cut.operator in (ast.GE, ast.LE):
            found.append(Interval(key, after))
        prefix = key
    return _joined(found)


def _joined(intervals: list[Interval]) -> list[Interval]:
    joined: list[Interval] = []
    for interval in sorted(intervals):
        if interval.first >= interval.end:
            continue
        if joined and joined[-1].end == interval.first:
            joined[-1] = Interval(joined[-1].first, interval.end)
        else:
            joined.append(interval)
    return joined


def _intersected(left: list[Interval], right: list[Interval]) -> list[Interval]:
    both = [
        Interval(max(a.first, b.first), min(a.end, b.end))
        for a in left
        for b in right
        if max(a.first, b.first) < min(a.end, b.end)
    ]
    return sorted(both)


# --- compiling


def compile_where(
    view: TableView, relations: Sequence[ast.Relation], scope: Scope, *, filtering: bool = False
) -> Where:
    """Sort relations by what they restrict. What the key cannot serve goes to `others`.

    `filtering`: ALLOW FILTERING is there, so that ranges of partition key columns may be among them.
    """
    where = Where(view, [], [], [], [], [], scope)
    rows: list[tuple[Choice | Cut, ast.Relation]] = []
    seen: dict[str, str] = {}
    for relation in relations:
        if isinstance(relation.left, ast.TokenOf):
            _check_token(view, relation)
            _check_bounds_of_token(view, seen, relation)
            term = compile_term(_no_list(relation), BIGINT, "partition key token", scope)
            where.tokens.append(TokenBound(relation.operator, term))
            continue
        columns = columns_of(view, relation.left)
        _check_twice(seen, columns, relation)
        if not _is_of_key(columns, relation):
            where.others.append(relation)
        elif columns[0].kind == PARTITION:
            if relation.operator not in (ast.EQ, ast.IN) or isinstance(relation.left, ast.ColumnTuple):
                if not filtering and not _is_indexed(view, columns[0]):
                    _only_filter(relation, columns[0])
                where.others.append(relation)
            else:
                where.partition.append(_choice(columns, relation, scope))
        elif relation.operator in (ast.EQ, ast.IN):
            rows.append((_choice(columns, relation, scope), relation))
        else:
            rows.append((Cut(columns, relation.operator, _tuples(columns, relation, scope)), relation))
    _place_rows(where, rows)
    if where.partition and not where.names_partitions:
        where.partition.clear()
        where.others += [relation for relation in relations if _is_of_partition(view, relation)]
    if where.tokens and where.names_partitions:
        names = ", ".join(column.name for column in view.partition)
        raise InvalidRequestError(
            f'Columns "{names}" cannot be restricted by both a normal relation and a token relation'
        )
    return where


def _is_of_partition(view: TableView, relation: ast.Relation) -> bool:
    """Whether it is `=` or IN of a partition key column."""
    if not isinstance(relation.left, ast.Target) or relation.left.path:
        return False
    return column_of(view, relation.left.column).kind == PARTITION and relation.operator in (ast.EQ, ast.IN)


def missing_of_partition(where: Where) -> list[str]:
    """The partition key columns of which neither `=` nor IN says anything."""
    view = where.view
    named = [
        relation.left.column
        for relation in where.others
        if isinstance(relation.left, ast.Target) and _is_of_partition(view, relation)
    ]
    return [column.name for column in view.partition if column.name not in named]


def called(target: ast.Target) -> str:
    """What a marker is called that is compared with this."""
    step = target.path[-1] if target.path else None
    if isinstance(step, ast.Field):
        return f"{target.column}.{step.name}"
    return target.column if step is None else f"value({target.column})"


def chooses_partitions(where: Where) -> bool:
    """Whether `=` and IN name partitions; of rows that are computed they are filters."""
    filtered = {
        relation.left.column
        for relation in where.others
        if isinstance(relation.left, ast.Target) and _is_of_partition(where.view, relation)
    }
    return where.names_partitions or {column.name for column in where.view.partition} == filtered


def names_of_one_value(where: Where) -> set[str]:
    """Key columns of which `=` leaves one value, whether the key serves that or a filter."""
    chosen = [choice for choice in (*where.partition, *where.choices) if not choice.is_in]
    found = {column.name for choice in chosen for column in choice.columns}
    for relation in where.others:
        left = relation.left
        is_whole = isinstance(left, ast.ColumnTuple) or (isinstance(left, ast.Target) and not left.path)
        if relation.operator == ast.EQ and is_whole:
            found.update(column.name for column in columns_of(where.view, left))
    return found


def columns_of(view: TableView, left: ast.Target | ast.ColumnTuple | ast.TokenOf) -> tuple[ColumnView, ...]:
    """The columns on the left of a relation."""
    if isinstance(left, ast.Target):
        return (column_of(view, left.column),)
    return tuple(column_of(view, name.text) for name in left.columns)


def column_of(view: TableView, name: str) -> ColumnView:
    """The column of that name; raises InvalidRequestError."""
    column = view.by_name.get(name)
    if column is None:
        raise InvalidRequestError(f"Undefined column name {name} in table {view.keyspace}.{view.name}")
    return column


def _is_of_key(columns: tuple[ColumnView, ...], relation: ast.Relation) -> bool:
    """Whether the order of keys may serve this relation."""
    kinds = {column.kind for column in columns}
    if isinstance(relation.left, ast.ColumnTuple):
        positions = [column.position for column in columns]
        if kinds != {CLUSTERING}:
            other = next(column.name for column in columns if column.kind != CLUSTERING)
            raise InvalidRequestError(
                "Multi-column relations can only be applied to clustering columns but was applied to: "
                f"{other}"
            )
        if positions != list(range(positions[0], positions[0] + len(positions))):
            names = ", ".join(column.name for column in columns)
            raise InvalidRequestError(
                "Clustering columns must appear in the PRIMARY KEY order in multi-column relations: "
                f"({names})"
            )
        return relation.operator in (ast.EQ, ast.IN, *LOWER, *UPPER)
    assert isinstance(relation.left, ast.Target)
    if relation.left.path or not columns[0].is_key:
        return False
    return relation.operator in (ast.EQ, ast.IN, *LOWER, *UPPER)


def _is_indexed(view: TableView, column: ColumnView) -> bool:
    """Whether an index serves ranges of a partition key column."""
    return any(index.column == column.name and not index.targets for index in view.indexes)


def _only_filter(relation: ast.Relation, column: ColumnView) -> None:
    if relation.operator in (*LOWER, *UPPER):
        raise InvalidRequestError(
            "Only EQ and IN relation are supported on the partition key (unless you use the token() function "
            f"or allow filtering), so not {column.name} {relation.operator}. {NEEDS_FILTERING}"
        )


def _check_token(view: TableView, relation: ast.Relation) -> None:
    assert isinstance(relation.left, ast.TokenOf)
    names = [name.text for name in relation.left.columns]
    if names != [column.name for column in view.partition]:
        wanted = ", ".join(column.name for column in view.partition)
        raise InvalidRequestError(
            "The token() function must be applied to all partition key components or none of them: "
            f"token({wanted})"
        )
    if relation.operator not in (ast.EQ, *LOWER, *UPPER):
        raise InvalidRequestError(f"token() takes =, <, <=, > and >=, not {relation.operator}")


def _check_bounds_of_token(view: TableView, seen: dict[str, str], relation: ast.Relation) -> None:
    sides = {ast.EQ: ("lower", "upper")} | dict.fromkeys(LOWER, ("lower",)) | dict.fromkeys(UPPER, ("upper",))
    for side in sides[relation.operator]:
        _check_bounds(", ".join(column.name for column in view.partition), seen.get("(token)", ""), side)
        seen["(token)"] = f"{seen.get('(token)', '')} {side}"


def _check_twice(seen: dict[str, str], columns: tuple[ColumnView, ...], relation: ast.Relation) -> None:
    """A column may have one `=` or IN, or one bound on each side."""
    if isinstance(relation.left, ast.Target) and (relation.left.path or not columns[0].is_key):
        return
    for column in columns:
        before = seen.get(column.name, "")
        side = "lower" if relation.operator in LOWER else "upper" if relation.operator in UPPER else "="
        if before and (side == "=" or "=" in before):
            word = "a IN" if relation.operator == ast.IN else "an Equal"
            raise InvalidRequestError(
                f"{column.name} cannot be restricted by more than one relation if it includes {word}"
            )
        _check_bounds(column.name, before, side)
        seen[column.name] = f"{before} {side}"


def _check_bounds(name: str, before: str, side: str) -> None:
    if side in before:
        end = "start" if side == "lower" else "end"
        raise InvalidRequestError(f"More than one restriction was found for the {end} bound on {name}")


def _place_rows(where: Where, rows: list[tuple[Choice | Cut, ast.Relation]]) -> None:
    """Those that follow each other from the first clustering column on are served by the key."""
    rows.sort(key=lambda item: (item[0].columns[0].position, isinstance(item[0], Cut)))
    position, is_open = 0, where.names_partitions
    for restriction, relation in rows:
        starts_here = restriction.columns[0].position == position
        if is_open and starts_here and isinstance(restriction, Choice) and not where.cuts:
            where.choices.append(restriction)
            position += len(restriction.columns)
        elif is_open and starts_here and isinstance(restriction, Cut):
            where.cuts.append(restriction)
        else:
            where.others.append(relation)


def _no_list(relation: ast.Relation) -> ast.Expression:
    if isinstance(relation.right, ast.InList):
        raise InvalidRequestError(f"{relation.operator} takes one value, not a list of them")
    return relation.right


def _choice(columns: tuple[ColumnView, ...], relation: ast.Relation, scope: Scope) -> Choice:
    return Choice(columns, _tuples(columns, relation, scope), relation.operator == ast.IN)


def _tuples(columns: tuple[ColumnView, ...], relation: ast.Relation, scope: Scope) -> Tuples:
    """The value or values on the right of a relation of these columns."""
    is_tuple = isinstance(relation.left, ast.ColumnTuple)
    if relation.operator != ast.IN:
        one = _one(columns, _no_list(relation), is_tuple, scope)
        return lambda context: [one(context)]
    if isinstance(relation.right, ast.InList):
        each = [_one(columns, item, is_tuple, scope) for item in relation.right.items]
        return lambda context: [value(context) for value in each]
    element: Type = TupleType(types=tuple(c.type for c in columns)) if is_tuple else columns[0].type
    of = ListType(element=element)
    name = ",".join(column.name for column in columns)
    term = compile_term(relation.right, of, f"in({name})", scope)

    def values(context: Context) -> list[tuple[bytes, ...]]:
        items = of.unpack(required(term(context), name))
        if not is_tuple:
            return [(item,) for item in items]
        return [_fields(element, item, columns) for item in items]

    return values


def _one(
    columns: tuple[ColumnView, ...], expression: ast.Expression, is_tuple: bool, scope: Scope
) -> Callable[[Context], tuple[bytes, ...]]:
    if not is_tuple:
        column = columns[0]
        term = compile_term(expression, column.type, column.name, scope)
        return lambda context: (required(term(context), column.name),)
    if isinstance(expression, ast.TupleLiteral):
        if len(expression.items) != len(columns):
            raise InvalidRequestError(
                f"Expected {len(columns)} elements in value tuple, but got {len(expression.items)}"
            )
        terms = [
            compile_term(item, column.type, column.name, scope)
            for item, column in zip(expression.items, columns, strict=True)
        ]
        names = [column.name for column in columns]
        return lambda context: tuple(
            required(term(context), name) for term, name in zip(terms, names, strict=True)
        )
    of = TupleType(types=tuple(column.type for column in columns))
    name = ",".join(column.name for column in columns)
    whole = compile_term(expression, of, f"({name})", scope)
    return lambda context: _fields(of, required(whole(context), name), columns)


def _fields(of: Type, value: bytes, columns: Sequence[ColumnView]) -> tuple[bytes, ...]:
    assert isinstance(of, TupleType)
    return tuple(
        required(field, column.name) for field, column in zip(of.unpack(value), columns, strict=True)
    )
