"""Filters on documents: from JSON, in the words of MongoDB's query language, to a tree of frozen structs.

    {"year": {"$gte": 1990, "$lt": 2000}, "genres": "drama", "$or": [{"a.b": null}, {"a": {"$exists":
    false}}]}

A condition on a path holds if *one* of the values that it leads to meets it, an array being itself and each
of its elements; so two conditions on one path may be met by two elements, and `$elemMatch` asks that one
meets all. `$ne`, `$nin` and `$not` are the negations of the whole. Values compare within their type only:
`{"$gt": 5}` is never true of a text. `null` is equal to null and to what is missing. How values compare and
where paths lead: query/document_values.py.

`$expr` is an expression of aggregations (query/expressions.py) over the whole document, taken where a
request asks about documents, and not in what is judged later: indexes, `$pull`, array filters. What is taken
is bounded, and everything else refused with the place where it stands. Nothing in a filter is ever executed:
`$where` and `$function` are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from query.document_values import Path, Value, parse_path
from query.expressions import Expression, Parser
from query.numbers import whole as whole
from query.refusals import Refusal, RefusedError, member, refusable, shown
from query.regex import STEPS_TIMES_BYTES_MAX as STEPS_TIMES_BYTES_MAX, compiled

CLAUSES_MAX: Final = 1_000
DEPTH_MAX: Final = 50
LISTED_MAX: Final = 10_000
"""Values in all `$in`, `$nin` and `$all` of a filter."""
PATTERNS_MAX: Final = 100
STEPS_MAX: Final = 20_000
"""Of all patterns of a filter: compiling takes about 2 us for each."""
CLAUSES_TIMES_VALUES_MAX: Final = 4_000_000
"""What judging one document may cost (about 50 ns each)."""


class Compare(msgspec.Struct, frozen=True, tag=True):
    """`$eq $gt $gte $lt $lte` (as =, >, >=, <, <=) with a value."""

    path: Path
    operator: str
    value: Value


class In(msgspec.Struct, frozen=True, tag=True):
    """`$in`: equal to one of these."""

    path: Path
    values: tuple[Value, ...]


class Exists(msgspec.Struct, frozen=True, tag=True):
    """`$exists`: whether the path leads to anything."""

    path: Path


class TypeIs(msgspec.Struct, frozen=True, tag=True):
    """`$type`: one of these names of TYPES."""

    path: Path
    types: tuple[str, ...]


class Matches(msgspec.Struct, frozen=True, tag=True):
    """`$regex` with `$options`: a text that holds a match. `steps` is what it costs (query/regex.py)."""

    path: Path
    pattern: str
    options: str
    steps: int


class Size(msgspec.Struct, frozen=True, tag=True):
    """`$size`: an array of so many elements."""

    path: Path
    size: int


class Mod(msgspec.Struct, frozen=True, tag=True):
    """`$mod`: a number whose whole part divided by `divisor` leaves `remainder`, with the sign of the
    number.
    """

    path: Path
    divisor: int
    remainder: int


class Bits(msgspec.Struct, frozen=True, tag=True):
    """`$bitsAllSet` and its like: of a whole number, all (or one, not `every`) of a mask's bits are 1 (or 0,
    not `ones`); a negative number is in two's complement.
    """

    path: Path
    mask: int
    every: bool
    ones: bool


class ElemMatch(msgspec.Struct, frozen=True, tag=True):
    """`$elemMatch`: an array of which one element meets the filter.

    The paths of the filter begin at the element; with `is_value` they are empty: the element itself is meant.
    """

    path: Path
    filter: Filter
    is_value: bool


class Expr(msgspec.Struct, frozen=True, tag=True):
    """`$expr`: an expression that is true of the document; may raise RefusedError where it is judged."""

    value: Value
    expression: Expression


class And(msgspec.Struct, frozen=True, tag=True):
    """All hold; true if there are none."""

    filters: tuple[Filter, ...]


class Or(msgspec.Struct, frozen=True, tag=True):
    """One holds; false if there are none."""

    filters: tuple[Filter, ...]


class Not(msgspec.Struct, frozen=True, tag=True):
    """It does not hold."""

    filter: Filter


Filter = Compare | In | Exists | TypeIs | Matches | Size | Mod | Bits | ElemMatch | Expr | And | Or | Not

ALL: Final = And(())
"""The filter that every document meets."""

COMPARISONS: Final = {"$eq": "=", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}

TYPES: Final = {
    "null": "null", "bool": "bool", "string": "string", "object": "object", "array": "array",
    "number": "number", "int": "int", "decimal": "decimal",
    "boolean": "bool", "integer": "int", "long": "int", "double": "decimal",
    "1": "decimal", "2": "string", "3": "object", "4": "array", "8": "bool", "10": "null", "16": "int",
    "18": "int", "19": "decimal",
}  # fmt: skip
"""Names and numbers of types in `$type`; `int` is a number written without fraction or exponent, else
decimal.
"""

CODE: Final = ("$where", "$function", "$accumulator")
EXPRESSION_CLAUSES: Final = 20
"""What judging an expression is counted as; what it may do itself is bounded in query/expressions.py."""
EXTENDED: Final = (
    "$date", "$oid", "$numberInt", "$numberLong", "$numberDouble", "$numberDecimal", "$binary", "$uuid",
    "$timestamp", "$regularExpression", "$undefined", "$minKey", "$maxKey",
)  # fmt: skip
"""What MongoDB's extended JSON writes values as."""

PATH_OPERATORS: Final = (
    *COMPARISONS, "$ne", "$in", "$nin", "$not", "$exists", "$type", "$regex", "$options", "$elemMatch",
    "$all", "$size", "$mod", "$bitsAllSet", "$bitsAllClear", "$bitsAnySet", "$bitsAnyClear",
)  # fmt: skip
TOP_OPERATORS: Final = ("$and", "$or", "$nor", "$comment")


def parse_filter(
    value: Value, where: str = "filter", expressions: bool = False, now_us: int = 0
) -> Filter | Refusal:
    """The filter that a JSON value is, or why it is none. `where` names it in refusals.

    `expressions`: `$expr` is taken, in which `$$NOW` is `now_us`; whoever judges documents takes a
    RefusedError then.
    """
    return refusable(lambda: _Parser(expressions, now_us).query(value, where, 0))


class Cost(msgspec.Struct, frozen=True):
    """What judging one document may take: each clause may look at each of its values, each step of a pattern
    at each byte of its texts.
    """

    clauses: int = 0
    steps: int = 0

    def problem(self, text: bytes) -> str | None:
        """Why a document of this JSON text is too much for the filter; None if it is not."""
        values = text.count(b",") + 1
        if values * self.clauses > CLAUSES_TIMES_VALUES_MAX:
            return f"{self.clauses} clauses are too many for a document of {values} values: use $in"
        if len(text) * self.steps > STEPS_TIMES_BYTES_MAX:
            return f"its patterns are too complex for a document of {len(text)} bytes: write simpler ones"
        return None


def cost_of(condition: Filter) -> Cost:
    """What a filter may cost."""
    if isinstance(condition, (And, Or)):
        costs = [cost_of(one) for one in condition.filters]
        never = int(isinstance(condition, Or) and not costs)  # to be judged, though there is nothing to ask
        return Cost(never + sum(cost.clauses for cost in costs), sum(cost.steps for cost in costs))
    if isinstance(condition, (Not, ElemMatch)):
        inner = cost_of(condition.filter)
        return Cost(inner.clauses + 1, inner.steps)
    if isinstance(condition, Expr):
        return Cost(EXPRESSION_CLAUSES)
    return Cost(1, condition.steps if isinstance(condition, Matches) else 0)


class _Parser:
    """Counts what a filter has in all."""

    def __init__(self, expressions: bool, now_us: int) -> None:
        self._expressions = Parser(now_us) if expressions else None
        self._elements = 0
        self._clauses = 0
        self._listed = 0
        self._patterns = 0
        self._steps = 0

    # --- queries: {path: condition, "$and": [...]}

    def query(self, value: Value, where: str, depth: int) -> Filter:
        if not isinstance(value, dict):
            raise RefusedError(where, f"a filter is a JSON object; found {shown(value)}")
        if depth > DEPTH_MAX:
            raise RefusedError(where, f"a filter has at most {DEPTH_MAX} levels")
        found: list[Filter] = []
        if not value:
            self._count(1, where)
        for key, operand in value.items():
            here = member(where, key)
            if key.startswith("$"):
                found += self._logical(key, operand, here, depth)
            else:
                path = parse_path(key)
                if isinstance(path, str):
                    raise RefusedError(here, path)
                found += self._conditions(path, operand, here, depth)
        return _all(found)

    def _logical(self, name: str, operand: Value, where: str, depth: int) -> list[Filter]:
        if name == "$comment":
            return []
        if name == "$expr":
            return [self._expression(operand, where)]
        if name in CODE:
            raise RefusedError(where, f"{name} is not supported: nothing in a filter is executed")
        if name in PATH_OPERATORS:
            raise RefusedError(where, f'{name} stands under a path: {{"path": {{"{name}": ...}}}}')
        if name in {"$text", "$search"}:
            raise RefusedError(where, "search by keyword is another request: /v1/search")
        if name in _CANNOT:
            raise RefusedError(where, f"{name} is not supported: {_CANNOT[name]}")
        if name not in TOP_OPERATORS:
            raise RefusedError(where, _unknown(name, TOP_OPERATORS[:3]))
        if not isinstance(operand, list) or not operand:
            raise RefusedError(where, f"{name} takes an array of filters, at least one")
        filters = tuple(
            self.query(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(operand)
        )
        if name == "$and":
            return list(filters)
        return [Or(filters)] if name == "$or" else [Not(Or(filters))]

    def _expression(self, value: Value, where: str) -> Expr:
        if self._expressions is None or self._elements:
            raise RefusedError(where, "$expr is not supported here: it is asked of whole documents")
        self._count(EXPRESSION_CLAUSES, where)
        return Expr(value, self._expressions.expression(value, where))

    # --- conditions on a path

    def _conditions(self, path: Path, operand: Value, where: str, depth: int) -> list[Filter]:
        if depth > DEPTH_MAX:
            raise RefusedError(where, f"a filter has at most {DEPTH_MAX} levels")
        if not isinstance(operand, dict) or not any(key.startswith("$") for key in operand):
            self._count(1, where)
            return [Compare(path, "=", operand)]
        found: list[Filter] = []
        for name, argument in operand.items():
            here = member(where, name)
            if name in EXTENDED:
                raise RefusedError(here, _extended(name))
            if not name.startswith("$"):
                detail = f"the member {name[:60]!r} stands beside operators: compare with $eq for an object"
                raise RefusedError(here, detail)
            if name == "$options":
                if "$regex" not in operand:
                    raise RefusedError(here, "$options stands beside $regex")
                continue
            self._count(1, here)
            if name in _COMPARING and isinstance(argument, dict) and len(argument) == 1:
                first = next(iter(argument))
                if first in EXTENDED:
                    raise RefusedError(member(here, first), _extended(first))
            if name in COMPARISONS:
                found.append(Compare(path, COMPARISONS[name], argument))
            elif name == "$ne":
                found.append(Not(Compare(path, "=", argument)))
            elif name == "$regex":
                found.append(self._pattern(path, argument, operand.get("$options", ""), here))
            else:
                found.append(self._special(path, name, argument, (here, depth)))
        return found

    def _pattern(self, path: Path, pattern: Value, options: Value, where: str) -> Matches:
        self._patterns += 1
        if self._patterns > PATTERNS_MAX:
            raise RefusedError(where, f"a filter has at most {PATTERNS_MAX} patterns")
        found = _regex(path, pattern, options, where)
        self._steps += found.steps
        if self._steps > STEPS_MAX:
            raise RefusedError(where, f"the patterns of a filter have more than {STEPS_MAX} steps")
        return found

    def _pattern_in_list(self, path: Path, item: Value, where: str) -> Matches | None:
        """The pattern that an element of a list is, if it is one: other operators are none of a value."""
        if not isinstance(item, dict) or not any(key.startswith("$") for key in item):
            return None
        if "$regex" not in item or not item.keys() <= {"$regex", "$options"}:
            raise RefusedError(where, 'a list holds values and {"$regex": ...}, no other operators')
        return self._pattern(path, item["$regex"], item.get("$options", ""), where)

    def _among(self, path: Path, name: str, argument: Value, where: str) -> Filter:
        values: list[Value] = []
        patterns: list[Filter] = []
        for index, item in enumerate(self._list(name, argument, where)):
            pattern = self._pattern_in_list(path, item, f"{where}[{index}]")
            if pattern is None:
                values.append(item)
            else:
                patterns.append(pattern)
        if not patterns:
            return In(path, tuple(values))
        return Or((In(path, tuple(values)), *patterns) if values else tuple(patterns))

    def _special(self, path: Path, name: str, argument: Value, place: tuple[str, int]) -> Filter:
        where, depth = place
        if name in {"$in", "$nin"}:
            wanted = self._among(path, name, argument, where)
            return wanted if name == "$in" else Not(wanted)
        if name == "$not":
            return Not(self._negated(path, argument, where, depth))
        if name == "$all":
            return self._every(path, argument, where, depth)
        if name == "$elemMatch":
            return self._element(path, argument, where, depth)
        make = _SIMPLE.get(name)
        if make is not None:
            return make(path, argument, where)
        if name in CODE:
            raise RefusedError(where, f"{name} is not supported: nothing in a filter is executed")
        raise RefusedError(where, _unknown(name, PATH_OPERATORS))

    def _negated(self, path: Path, argument: Value, where: str, depth: int) -> Filter:
        if not isinstance(argument, dict) or not any(key.startswith("$") for key in argument):
            raise RefusedError(where, '$not takes operators, as {"$not": {"$gt": 5}}; for a value use $ne')
        return _all(self._conditions(path, argument, where, depth + 1))

    def _every(self, path: Path, argument: Value, where: str, depth: int) -> Filter:
        values = self._list("$all", argument, where)
        if not values:
            return Or(())
        found: list[Filter] = []
        for index, item in enumerate(values):
            if isinstance(item, dict) and "$elemMatch" in item:
                here = f"{where}[{index}]"
                if len(item) > 1:
                    raise RefusedError(here, "$elemMatch stands alone within $all")
                found.append(self._element(path, item["$elemMatch"], here, depth + 1))
            else:
                pattern = self._pattern_in_list(path, item, f"{where}[{index}]")
                found.append(pattern or Compare(path, "=", item))
        return _all(found)

    def _element(self, path: Path, argument: Value, where: str, depth: int) -> Filter:
        if not isinstance(argument, dict):
            raise RefusedError(where, f"$elemMatch takes a filter or operators; found {shown(argument)}")
        names = [key for key in argument if key.startswith("$") and key not in TOP_OPERATORS]
        if names and names[0] not in (*CODE, "$expr"):
            inner = self._conditions((), argument, where, depth + 1)
            return ElemMatch(path, _all(inner), is_value=True)
        self._elements += 1
        found = self.query(argument, where, depth + 1)
        self._elements -= 1
        return ElemMatch(path, found, is_value=False)

    # --- bounds

    def _list(self, name: str, argument: Value, where: str) -> tuple[Value, ...]:
        if not isinstance(argument, list):
            raise RefusedError(where, f"{name} takes an array of values; found {shown(argument)}")
        self._listed += len(argument)
        if self._listed > LISTED_MAX:
            raise RefusedError(where, f"a filter lists at most {LISTED_MAX} values")
        return tuple(argument)

    def _count(self, clauses: int, where: str) -> None:
        self._clauses += clauses
        if self._clauses > CLAUSES_MAX:
            raise RefusedError(where, f"a filter has at most {CLAUSES_MAX} clauses; use $in for many values")


def _all(filters: list[Filter]) -> Filter:
    return filters[0] if len(filters) == 1 else And(tuple(filters))


_COMPARING: Final = (*COMPARISONS, "$ne")


def _extended(name: str) -> str:
    return f"there is no {name} here: dates and ids are text, numbers are written as they are, of any size"


_CANNOT: Final = {
    "$jsonSchema": "ask with $type and $exists; a collection may have a schema in its settings",
    "$sampleRate": "an answer does not depend on chance: a pipeline has $sample",
    "$near": "there is no search by place",
}


def _unknown(name: str, known: tuple[str, ...]) -> str:
    return f"there is no operator {name[:60]}; there are {', '.join(known)}"


def _regex(path: Path, pattern: Value, options: Value, where: str) -> Matches:
    if not isinstance(pattern, str) or not isinstance(options, str):
        raise RefusedError(where, "$regex and $options are texts")
    program = compiled(pattern, options)
    if isinstance(program, str):
        raise RefusedError(where, program)
    return Matches(path, pattern, options, program.steps)


def _exists(path: Path, argument: Value, where: str) -> Filter:
    if not isinstance(argument, bool) and whole(argument) not in (0, 1):
        raise RefusedError(where, f"$exists takes true or false; found {shown(argument)}")
    return Exists(path) if argument else Not(Exists(path))


def _type(path: Path, argument: Value, where: str) -> Filter:
    names = argument if isinstance(argument, list) else [argument]
    found = []
    for name in names:
        known = TYPES.get(str(name)) if isinstance(name, (str, int)) and not isinstance(name, bool) else None
        if known is None:
            raise RefusedError(
                where, f"there is no type {shown(name)}; there are {', '.join(list(TYPES)[:12])}"
            )
        found.append(known)
    if not found:
        raise RefusedError(where, "$type takes at least one type")
    return TypeIs(path, tuple(found))


def _size(path: Path, argument: Value, where: str) -> Filter:
    size = whole(argument)
    if size is None or size < 0:
        raise RefusedError(where, f"$size takes a whole number, 0 or more; found {shown(argument)}")
    return Size(path, size)


def _mod(path: Path, argument: Value, where: str) -> Filter:
    pair = [whole(item) for item in argument] if isinstance(argument, list) else []
    if len(pair) != 2 or pair[0] is None or pair[1] is None:
        raise RefusedError(where, f"$mod takes [divisor, remainder], whole numbers; found {shown(argument)}")
    if pair[0] == 0:
        raise RefusedError(where, "$mod cannot divide by 0")
    return Mod(path, pair[0], pair[1])


def _bits(*, every: bool, ones: bool) -> Callable[[Path, Value, str], Filter]:
    def parse(path: Path, argument: Value, where: str) -> Filter:
        positions = [whole(item) for item in argument] if isinstance(argument, list) else None
        mask = whole(argument)
        if positions is not None:
            mask = None if any(at is None or not 0 <= at <= BIT_MAX for at in positions) else 0
            for at in positions if mask is not None else ():
                mask = (mask or 0) | 1 << (at or 0)
        if mask is None or not 0 <= mask < 1 << BIT_MAX + 1:
            detail = f"bits are a whole number from 0, or an array of positions from 0 to {BIT_MAX}"
            raise RefusedError(where, f"{detail}; found {shown(argument)}")
        return Bits(path, mask, every, ones)

    return parse


BIT_MAX: Final = 1_000

_SIMPLE: Final[dict[str, Callable[[Path, Value, str], Filter]]] = {
    "$exists": _exists,
    "$type": _type,
    "$size": _size,
    "$mod": _mod,
    "$bitsAllSet": _bits(every=True, ones=True),
    "$bitsAllClear": _bits(every=True, ones=False),
    "$bitsAnySet": _bits(every=False, ones=True),
    "$bitsAnyClear": _bits(every=False, ones=False),
}
