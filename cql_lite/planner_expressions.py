"""Expressions over rows: columns, elements, functions, arithmetic, aggregates; compiled to closures.

Each compiled expression is a function of a record (cql_lite/planner_rows.py) and a context. An aggregate
takes a slot at the end of the record, which query/operators.py fills when its group ends; so what is
selected around it (`count(*) + 1`) is an ordinary expression.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UnsetType

from cql_lite import ast, planner_composed, planner_floor, planner_masks
from cql_lite.errors import FunctionError, InvalidRequestError
from cql_lite.formatting import column_title
from cql_lite.lexer import meant
from cql_lite.planner_composed import natural_type
from cql_lite.planner_functions import FUNCTIONS, SIMILARITIES, Compiled, Evaluate, cast
from cql_lite.planner_lives import LIVES, life
from cql_lite.planner_numbers import (
    INTEGERS,
    NUMBERS,
    common,
    computed,
    converted,
    encoded,
    is_number,
    plus,
    quotient,
)
from cql_lite.planner_rows import Layout, Record
from cql_lite.planner_tables import ColumnView, TableView, composite
from cql_lite.planner_terms import (
    Context,
    Markers,
    MarkerSpec,
    Scope,
    Term,
    assignable,
    compile_term,
    literal_bytes,
)  # fmt: skip
from cql_lite.planner_times import is_time, shift
from cql_lite.types import (
    BIGINT,
    BLOB,
    COUNTER,
    DATE,
    DECIMAL,
    DOUBLE,
    DURATION,
    FLOAT,
    INT,
    JSON,
    SCALARS,
    TEXT,
    TIMESTAMP,
    TIMEUUID,
    Collection,
    InvalidTypeError,
    InvalidValueError,
    ListType,
    MapType,
    ResolveUdt,
    SetType,
    Type,
    UserType,
    VectorType,
    parse_type,
)  # fmt: skip
from query.aggregates import Count, Extreme, Sum
from query.operators import Aggregate
from ring.tokens import token_of

AGGREGATES: Final = ("count", "min", "max", "sum", "avg")

MakeAggregate = Callable[[Context], Aggregate]


class Folded(NamedTuple):
    """An aggregate of a statement: how to make one, and where its result goes."""

    make: MakeAggregate
    slot: int


class Expressions:
    """Compiles the expressions of one statement."""

    def __init__(self, markers: Markers, resolve_udt: ResolveUdt, layout: Layout | None = None) -> None:
        """Without a layout there are no columns: terms of a WHERE or of VALUES."""
        self.markers = markers
        self.layout = layout
        self._partition = () if layout is None else layout.view.partition
        self.aggregates: list[Folded] = []
        self._resolve_udt = resolve_udt
        self._within_aggregate = False
        self.scope = Scope(markers, self._term)
        self._composer = planner_composed.Composer(self.compile)

    # --- as terms

    def _term(self, expression: ast.Expression, of: Type | None, markers: Markers) -> tuple[Type, Term]:
        layout, self.layout = self.layout, None
        try:
            compiled = self.compile(expression, of)
        finally:
            self.layout = layout
        nothing: Record = []
        return compiled.type, lambda context: compiled.evaluate(nothing, context)

    # --- the table of forms

    def compile(self, expression: ast.Expression, expected: Type | None = None) -> Compiled:
        """The compiled expression; `expected` is the type of a marker or literal that says none itself."""
        if isinstance(expression, ast.ColumnRef):
            return self._column(expression)
        if isinstance(expression, ast.FunctionCall):
            return self._call(expression, expected)
        if isinstance(expression, ast.Cast):
            of = self.type_of(expression.type)
            return cast(self.compile(expression.term), of)
        if isinstance(expression, ast.TypeHint):
            of = self.type_of(expression.type)
            inner = self.compile(expression.term, of)
            if not assignable(inner.type, of):
                raise InvalidRequestError(
                    f"Cannot assign value {column_title(expression.term)} of type {inner.type} to type {of}: "
                    "use CAST"
                )
            return Compiled(of, inner.evaluate)
        if isinstance(expression, ast.ElementAccess):
            return self._element(expression)
        if isinstance(expression, ast.SliceAccess):
            return self._slice(expression)
        if isinstance(expression, ast.FieldAccess):
            return self._field(expression)
        if isinstance(expression, ast.Arithmetic):
            return self._arithmetic(expression, expected)
        if isinstance(expression, ast.Negation):
            return self._negation(expression, expected)
        if isinstance(expression, ast.TupleLiteral) and len(expression.items) == 1:
            return self.compile(expression.items[0], expected)
        if self.layout is not None and isinstance(expression, planner_composed.LITERALS):
            composed = self._composer.composed(expression, expected)
            if composed is not None:
                return composed
        return self._value(expression, expected)

    def type_of(self, node: ast.Type) -> Type:
        """The type that a text names."""
        try:
            return parse_type(node.text, self._resolve_udt)
        except InvalidTypeError as error:
            raise InvalidRequestError(f"{error} (line {node.at.line}, column {node.at.column})") from None

    def _value(self, expression: ast.Expression, expected: Type | None, name: str = "value") -> Compiled:
        if isinstance(expression, ast.Star):
            raise InvalidRequestError("* stands in count(*) only")
        of = expected or natural_type(expression)
        if of is None:
            raise InvalidRequestError(
                f"the type of the value at line {expression.at.line}, column {expression.at.column} is not "
                "known: write (type) before it"
            )
        if isinstance(expression, ast.Literal):
            value = literal_bytes(expression, of, "a constant")
            return Compiled(of, lambda _, __: value)
        term = compile_term(expression, of, name, self.scope)

        def evaluate(_: Record, context: Context) -> bytes | None:
            found = term(context)
            if isinstance(found, UnsetType):
                raise InvalidRequestError("a value inside an expression is unset: bind one or null")
            return found

        return Compiled(of, evaluate)

    # --- columns and their parts

    def view(self) -> TableView:
        """The table whose columns may be named here; raises InvalidRequestError if none may."""
        if self.layout is None:
            raise InvalidRequestError("columns cannot be named where a value is expected")
        return self.layout.view

    def _column(self, expression: ast.ColumnRef) -> Compiled:
        view = self.view()
        assert self.layout is not None
        column = view.by_name.get(expression.name)
        if column is None:
            raise InvalidRequestError(
                f"Undefined column name {expression.name} in table {view.keyspace}.{view.name}"
            )
        return column_value(self.layout, column)

    def _element(self, expression: ast.ElementAccess) -> Compiled:
        whole, title = self.compile(expression.of), column_title(expression.of)
        of = whole.type
        if isinstance(of, MapType):
            key = self.key(expression.key, of.keys, f"key({title})")
            return Compiled(of.values, _map_element(whole.evaluate, key.evaluate, of))
        if isinstance(of, SetType):
            key = self.key(expression.key, of.element, f"value({title})")
            return Compiled(of.element, _set_element(whole.evaluate, key.evaluate, of))
        if isinstance(of, (ListType, VectorType)):
            key = self.key(expression.key, INT, f"idx({title})")
            return Compiled(of.element, _indexed(whole.evaluate, key.evaluate, of))
        if of == JSON:
            key = self.compile(expression.key, TEXT)
            return Compiled(JSON, _member(whole.evaluate, key.evaluate))
        raise InvalidRequestError(f"Invalid element selection: {title} is of type {of} is not a collection")

    def key(self, expression: ast.Expression, of: Type, name: str) -> Compiled:
        """What stands in brackets after a column; `name` is what a marker there is called."""
        if isinstance(expression, ast.Marker):
            return self._value(expression, of, name)
        return self.compile(expression, of)

    def _slice(self, expression: ast.SliceAccess) -> Compiled:
        whole = self.compile(expression.of)
        of = whole.type
        if not isinstance(of, (MapType, SetType)):
            what = column_title(expression.of)
            raise InvalidRequestError(
                f"Slice selection is only allowed on sets and maps, but {what} is a {of}"
            )
        element = of.keys if isinstance(of, MapType) else of.element
        ends = [
            None if end is None else self.compile(end, element).evaluate
            for end in (expression.first, expression.last)
        ]
        step, key = of.per_element, element.key

        def evaluate(record: Record, context: Context) -> bytes | None:
            value = whole.evaluate(record, context)
            if value is None:
                return None
            first, last = (None if end is None else end(record, context) for end in ends)
            parts = of.unpack(value)
            kept: list[bytes] = []
            for index in range(0, len(parts), step):
                at = key(parts[index])
                if (first is None or key(first) <= at) and (last is None or at <= key(last)):
                    kept += parts[index : index + step]
            return of.pack(kept) if kept else None

        return Compiled(of, evaluate)

    def _field(self, expression: ast.FieldAccess) -> Compiled:
        whole = self.compile(expression.of)
        of = whole.type
        if not isinstance(of, UserType):
            what = column_title(expression.of)
            raise InvalidRequestError(f"Invalid field selection: {what} of type {of} is not a user type")
        if expression.field not in of.names:
            what = column_title(expression.of)
            raise InvalidRequestError(f"{what} of type {of.name} has no field {expression.field}")
        number = of.names.index(expression.field)

        def evaluate(record: Record, context: Context) -> bytes | None:
            value = whole.evaluate(record, context)
            return None if value is None else of.unpack(value)[number]

        return Compiled(of.types[number], evaluate)

    # --- numbers

    def _arithmetic(self, expression: ast.Arithmetic, expected: Type | None) -> Compiled:
        first: Compiled | None = None
        is_plain = isinstance(expression.left, (ast.Marker, ast.Literal))
        if is_plain and expected is not None and is_time(expected) and expression.operator in ("+", "-"):
            is_plain = False  # '2017-01-01' - 2d, where a point in time is expected
        if expression.operator in ("+", "-") and not is_plain:
            first = self.compile(expression.left, expected)
            if is_time(first.type):
                by = self.compile(expression.right, DURATION)
                return shift(first, by, -1 if expression.operator == "-" else 1)
        return _result(expression.operator, *self._operands(expression, expected, first))

    def _negation(self, expression: ast.Negation, expected: Type | None) -> Compiled:
        """Its type is that of what is negated: other than `0 - v`, which is an int where `v` is a tinyint."""
        zero = ast.Literal(ast.INTEGER, "0", expression.at)
        term = self.compile(expression.term, expected)
        if not is_number(term.type):
            return self._arithmetic(ast.Arithmetic("-", zero, expression.term, expression.at), expected)
        return _result("-", self.compile(zero, BIGINT if term.type == COUNTER else term.type), term)

    def _operands(
        self, expression: ast.Arithmetic, expected: Type | None, first: Compiled | None
    ) -> tuple[Compiled, Compiled]:
        """Both sides, of which the first may be compiled.

        A marker has the type of the other side; a constant has its own, as if it stood alone, where nothing
        is expected of the result.
        """
        sides = [expression.left, expression.right]
        known = [
            None if isinstance(side, (ast.Marker, ast.Literal)) else done or self.compile(side, expected)
            for side, done in zip(sides, (first, None), strict=True)
        ]
        hint = next((side.type for side in known if side is not None), expected)
        found = []
        for side, compiled in zip(sides, known, strict=True):
            if compiled is None:
                natural = natural_type(side)
                of = hint if natural is None else natural
                if natural is not None and is_number(natural) and expected is not None:
                    fits = natural in INTEGERS or expected in (FLOAT, DOUBLE, DECIMAL)
                    of = expected if fits and is_number(expected) else natural
                compiled = self.compile(side, of)
            if not is_number(compiled.type):
                between = " and ".join(column_title(side) for side in sides)
                raise InvalidRequestError(
                    f"the '{expression.operator}' operation is not supported between {between}: "
                    f"{column_title(side)} is no number but a {compiled.type}"
                )
            found.append(compiled)
        return found[0], found[1]

    # --- functions

    def _call(self, expression: ast.FunctionCall, expected: Type | None) -> Compiled:
        if expression.keyspace not in ("", "system"):
            raise InvalidRequestError(
                f"Unknown function '{expression.keyspace}.{expression.name}': there are no user-defined ones"
            )
        name = expression.name
        if name in AGGREGATES or name == "countrows":
            return self._aggregate(name, expression)
        if name in LIVES:
            if len(expression.arguments) != 1:
                raise InvalidRequestError(f"{name}() takes one column, or an element or a field of one")
            return life(name, expression.arguments[0], self)
        if name == "token":
            return self._token(expression)
        if name == planner_floor.NAME:
            return self._floor(expression.arguments)
        if name in ("fromjson", "from_json"):
            return self._from_json(expression, expected)
        if name in planner_masks.NAMES:
            return planner_masks.mask(name, expression.arguments, self.compile)
        builder = FUNCTIONS.get(name)
        if builder is None:
            known = (*FUNCTIONS, *AGGREGATES, *LIVES, *planner_masks.NAMES, "token")
            close = meant(name, map(str.upper, known))
            perhaps = f": did you mean {close.lower()}()?" if close else ""
            called = f"{name} called" if self.layout is None else f"'{name}'"
            raise InvalidRequestError(f"Unknown function {called}{perhaps}")
        if name in SIMILARITIES:
            return builder(name, self._alike(expression.arguments))
        hint = None if name in ("tojson", "to_json") else _argument_type(name)
        arguments = [self._argument(name, index, one, hint) for index, one in enumerate(expression.arguments)]
        return builder(name, arguments)

    def _argument(self, name: str, index: int, argument: ast.Expression, of: Type | None) -> Compiled:
        if isinstance(argument, ast.Marker):
            return self._value(argument, of, f"arg{index}(system.{name})")
        return self.compile(argument, of or _of_time_text(name, argument))

    def _floor(self, arguments: tuple[ast.Expression, ...]) -> Compiled:
        planner_floor.check_count(len(arguments))
        point = self.compile(arguments[0], TIMESTAMP if isinstance(arguments[0], ast.Marker) else None)
        types = (DURATION, planner_floor.start_type(point.type))
        others = [self.compile(each, of) for each, of in zip(arguments[1:], types, strict=False)]
        return planner_floor.floor([point, *others])

    def _alike(self, arguments: tuple[ast.Expression, ...]) -> list[Compiled]:
        """Arguments of one type, which at least one of them says by itself."""
        plain = (ast.Marker, ast.Literal, ast.ListLiteral)
        known = {index: self.compile(a) for index, a in enumerate(arguments) if not isinstance(a, plain)}
        hint = next((compiled.type for compiled in known.values()), None)
        return [known.get(index) or self.compile(a, hint) for index, a in enumerate(arguments)]

    def _token(self, expression: ast.FunctionCall) -> Compiled:
        arguments = expression.arguments
        wanted = [column.name for column in self._partition]
        names = [a.name if isinstance(a, ast.ColumnRef) else "" for a in arguments]
        if wanted and (len(names) != len(wanted) or (any(names) and names != wanted)):
            raise InvalidRequestError(
                "Invalid number of arguments or another order in call to function system.token: it takes the "
                f"whole partition key, token({', '.join(wanted)})"
            )
        types: list[Type | None] = [column.type for column in self._partition] or [None] * len(arguments)
        compiled = [
            self._argument("token", index, argument, of)
            for index, (argument, of) in enumerate(zip(arguments, types, strict=True))
        ]

        def evaluate(record: Record, context: Context) -> bytes | None:
            values = [one.evaluate(record, context) for one in compiled]
            present = [value for value in values if value is not None]
            if len(present) != len(values):
                return None
            key = composite(present) if len(present) > 1 else present[0]
            return BIGINT.encode(token_of(key))

        return Compiled(BIGINT, evaluate)

    def _from_json(self, expression: ast.FunctionCall, expected: Type | None) -> Compiled:
        if expected is None or len(expression.arguments) != 1:
            raise InvalidRequestError("fromJson() takes one text, where the type of its value is known")
        of = expected
        text = self._argument(expression.name, 0, expression.arguments[0], TEXT)

        def evaluate(record: Record, context: Context) -> bytes | None:
            value = text.evaluate(record, context)
            try:
                return None if value is None else of.from_json(value)
            except InvalidValueError as error:
                what = f"execution of 'system.{expression.name}[text]' failed: {error}"
                raise FunctionError(what, expression.name, ("text",)) from None

        return Compiled(of, evaluate)

    # --- aggregates

    def _aggregate(self, name: str, expression: ast.FunctionCall) -> Compiled:
        if self.layout is None:
            raise InvalidRequestError(
                f"Aggregate functions such as {name} are of many rows and stand in SELECT only"
            )
        if self._within_aggregate:
            raise InvalidRequestError(
                "aggregate functions cannot be used as arguments of aggregate functions"
            )
        arguments = expression.arguments
        if len(arguments) != 1:
            raise InvalidRequestError(
                f"Invalid number of arguments in call to function system.{name}: 1 required but "
                f"{len(arguments)} provided"
            )
        if name == "count" and isinstance(arguments[0], (ast.Star, ast.Literal)):
            return self._folded(BIGINT, lambda _: _Encoded(Count(), BIGINT))
        self._within_aggregate = True
        try:
            argument = self.compile(arguments[0])
        finally:
            self._within_aggregate = False
        return self._fold(name, argument)

    def _fold(self, name: str, argument: Compiled) -> Compiled:
        of, inner = argument.type, argument.evaluate
        if name == "count":
            return self._folded(
                BIGINT, lambda context: _Encoded(Count(lambda record: inner(record, context)), BIGINT)
            )
        if name in ("min", "max"):
            sign = 1 if name == "min" else -1
            return self._folded(
                of, lambda context: Extreme(lambda record: inner(record, context), of.compare, sign)
            )
        if not is_number(of):
            known = ", ".join(f"system.{name} : ({number}) -> {number}" for number in NUMBERS)
            raise InvalidRequestError(
                f"Invalid call to function {name}, none of its type signatures match (known type signatures: "
                f"{known}): it is of numbers, not of {of}"
            )
        result = BIGINT if of == COUNTER else of

        def number(context: Context) -> Callable[[Record], Any]:
            def value(record: Record) -> Any:
                found = inner(record, context)
                return None if found is None else of.decode(found)

            return value

        def total(total_: Any, _count: int) -> bytes:
            return encoded(converted(total_, result), result)

        def average(total_: Any, count: int) -> bytes:
            if not count:
                return encoded(converted(0, result), result)
            return encoded(quotient(converted(total_, result), converted(count, result), result), result)

        finish = total if name == "sum" else average
        return self._folded(result, lambda context: Sum(number(context), finish, plus(of)))

    def _folded(self, of: Type, make: MakeAggregate) -> Compiled:
        assert self.layout is not None
        slot = self.layout.extra()
        self.aggregates.append(Folded(make, slot))
        return Compiled(of, lambda record, _: record[slot])


class _Encoded:
    """An aggregate whose result is a number to encode."""

    def __init__(self, inner: Count, of: Type) -> None:
        self._inner = inner
        self._of = of

    def add(self, row: Record) -> None:
        self._inner.add(row)

    def result(self) -> bytes:
        return self._of.encode(self._inner.result())


def column_value(layout: Layout, column: ColumnView) -> Compiled:
    """A column's value."""
    slot = layout.slot(column)
    return Compiled(column.type, lambda record, _: record[slot])


def _result(operator: str, left: Compiled, right: Compiled) -> Compiled:
    """The result of two numbers."""
    of = common(left.type, right.type)

    def evaluate(record: Record, context: Context) -> bytes | None:
        a, b = left.evaluate(record, context), right.evaluate(record, context)
        if a is None or b is None:
            return None
        values = converted(left.type.decode(a), of), converted(right.type.decode(b), of)
        try:
            return encoded(computed(operator, *values, of), of)
        except ArithmeticError as error:
            what = f"the operation '{left.type} {operator} {right.type}' failed: {error}"
            raise FunctionError(what, operator, (left.type.cql, right.type.cql)) from None

    return Compiled(of, evaluate)


def _argument_type(name: str) -> Type | None:
    """What a marker or constant is, that stands as argument of this function."""
    lowered = name.replace("_", "")
    if lowered in ("mintimeuuid", "maxtimeuuid"):
        return TIMESTAMP
    if lowered in ("todate", "totimestamp", "tounixtimestamp", "dateof", "unixtimestampof"):
        return TIMEUUID if lowered in ("dateof", "unixtimestampof") else None
    if lowered.startswith("blobas"):
        return BLOB
    return SCALARS.get(lowered.removesuffix("asblob")) if lowered.endswith("asblob") else None


def _of_time_text(name: str, argument: ast.Expression) -> Type | None:
    """What `'2024-01-01'` is as an argument: toDate() is of timestamps, toTimestamp() of dates."""
    kind, lowered = argument.kind if isinstance(argument, ast.Literal) else "", name.replace("_", "")
    if kind == ast.UUID and lowered in ("todate", "totimestamp", "tounixtimestamp"):
        return TIMEUUID
    of = {"todate": TIMESTAMP, "totimestamp": DATE}.get(lowered)
    return of if kind in (ast.STRING, ast.INTEGER) else None


# --- parts of values


def _map_element(whole: Evaluate, key: Evaluate, of: MapType) -> Evaluate:
    def evaluate(record: Record, context: Context) -> bytes | None:
        value, wanted = whole(record, context), key(record, context)
        if value is None or wanted is None:
            return None
        return next((item for k, item in of.pairs(value) if of.keys.compare(k, wanted) == 0), None)

    return evaluate


def _set_element(whole: Evaluate, key: Evaluate, of: SetType) -> Evaluate:
    def evaluate(record: Record, context: Context) -> bytes | None:
        value, wanted = whole(record, context), key(record, context)
        if value is None or wanted is None:
            return None
        return next((item for item in of.unpack(value) if of.element.compare(item, wanted) == 0), None)

    return evaluate


def _indexed(whole: Evaluate, key: Evaluate, of: Collection | VectorType) -> Evaluate:
    def evaluate(record: Record, context: Context) -> bytes | None:
        value, wanted = whole(record, context), key(record, context)
        if value is None or wanted is None:
            return None
        parts, index = of.unpack(value), INT.decode(wanted)
        return parts[index] if 0 <= index < len(parts) else None

    return evaluate


def _member(whole: Evaluate, key: Evaluate) -> Evaluate:
    """A member of a JSON object, or an element of an array by its number."""
    decode = msgspec.json.Decoder(dict[str, msgspec.Raw] | list[msgspec.Raw]).decode

    def evaluate(record: Record, context: Context) -> bytes | None:
        value, wanted = whole(record, context), key(record, context)
        if value is None or wanted is None or value.lstrip()[:1] not in (b"{", b"["):
            return None
        found, name = decode(value), wanted.decode()
        if isinstance(found, dict):
            item = found.get(name)
            return None if item is None else bytes(item)
        return next(map(bytes, found[int(name) :]), None) if name[:9].isdecimal() and not name[9:] else None

    return evaluate


__all__ = ["Expressions", "Folded", "MarkerSpec", "column_value"]
