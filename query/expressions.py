"""Expressions of aggregations: `{"$multiply": ["$price", {"$subtract": [1, "$discount"]}]}` as a function.

A text that begins with $ is a path into the document (`$$ROOT` is all of it), an object with one operator
is a computation, any other object or array holds expressions; `$literal` takes its argument as it is.
Numbers are exact: whole numbers stay whole, fractions are decimal, and only results beyond 1,000 digits,
quotients and roots are rounded (these to 34 digits). Arithmetic on null or nothing is null; on a text it is
refused, as is a division by 0: the request ends, and says which expression met what.

Dates are texts as of ISO 8601, and their parts are read as they are written, whatever their time zone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from query.document_values import MISSING, Path, Value, lookup, parse_path
from query.expression_calendar import moment_text
from query.expression_functions import FUNCTIONS as PLAIN, VARIADIC as PLAIN_VARIADIC, truthy
from query.expression_library import (
    FUNCTIONS as LIBRARY,
    NAMED as LIBRARY_NAMED,
    VARIADIC as LIBRARY_VARIADIC,
)
from query.expression_loops import LOOPS, Cell, Work, bound, chosen, mapped, reduced, weighed
from query.expression_moments import FUNCTIONS as MOMENTS, VARIADIC as MOMENTS_VARIADIC
from query.expression_more import FUNCTIONS as MORE, NAMED as MORE_NAMED, VARIADIC as MORE_VARIADIC
from query.expression_zones import DATED, NAMED as ZONED
from query.numbers import NotComputableError
from query.refusals import RefusedError, member

FUNCTIONS: Final = PLAIN | LIBRARY | MORE | MOMENTS
VARIADIC: Final = PLAIN_VARIADIC | LIBRARY_VARIADIC | MORE_VARIADIC | MOMENTS_VARIADIC
NAMED: Final = LIBRARY_NAMED | MORE_NAMED | ZONED

Expression = Callable[[Value], Value]
"""The value for a document; MISSING if there is none. Raises RefusedError for what cannot be computed."""

NODES_MAX: Final = 1_000
DEPTH_MAX: Final = 50


class Parser:
    """Turns JSON into expressions, and counts what a pipeline has of them in all."""

    def __init__(self, now_us: int = 0) -> None:
        """`now_us` is what `$$NOW` means; 0: there is none."""
        self.now_us = now_us
        self._nodes = 0
        self._variables: dict[str, Cell] = {}
        self._loops = 0
        self._work = Work()

    def expression(self, value: Value, where: str, depth: int = 0) -> Expression:
        """The expression that a value is; raises RefusedError."""
        if depth:
            return self._expression(value, where, depth)
        loops, work = self._loops, self._work
        found = self._expression(value, where, depth)
        if self._loops == loops:
            return found

        def evaluate(document: Value) -> Value:
            work.begin()
            return found(document)

        return evaluate

    def _expression(self, value: Value, where: str, depth: int) -> Expression:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise RefusedError(where, f"a pipeline has expressions of at most {NODES_MAX} parts")
        if depth > DEPTH_MAX:
            raise RefusedError(where, f"an expression has at most {DEPTH_MAX} levels")
        if isinstance(value, str) and value.startswith("$"):
            return self._path(value, where)
        if isinstance(value, list):
            items = [
                self.expression(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value)
            ]
            return lambda document: [_null(item(document)) for item in items]
        if isinstance(value, dict):
            names = [key for key in value if key.startswith("$")]
            if not names:
                return self._object(value, where, depth)
            if len(value) > 1:
                raise RefusedError(where, f"an expression has one operator; here are {', '.join(value)[:80]}")
            return self._operator(names[0], value[names[0]], member(where, names[0]), depth)
        return lambda document: value  # noqa: ARG005

    def _object(self, value: dict[str, Value], where: str, depth: int) -> Expression:
        members = [(key, self.expression(item, member(where, key), depth + 1)) for key, item in value.items()]

        def build(document: Value) -> Value:
            found = {}
            for key, item in members:
                result = item(document)
                if result is not MISSING:
                    found[key] = result
            return found

        return build

    def _operator(self, name: str, argument: Value, where: str, depth: int) -> Expression:
        if name == "$literal":
            return lambda document: argument  # noqa: ARG005
        if name == "$cond":
            return self._cond(argument, where, depth)
        if name == "$switch":
            return self._switch(argument, where, depth)
        if name in NAMED or (name in DATED and isinstance(argument, dict) and "date" in argument):
            return self._named(name, argument, where, depth)
        if name in LOOPS:
            return self._loop(name, argument, where, depth)
        arguments = argument if isinstance(argument, list) else [argument]
        parts = [self.expression(item, f"{where}[{at}]", depth + 1) for at, item in enumerate(arguments)]
        if name == "$ifNull":
            return _if_null(parts, where)
        if name in {"$and", "$or"}:
            if name == "$and":
                return lambda document: all(truthy(part(document)) for part in parts)
            return lambda document: any(truthy(part(document)) for part in parts)
        if name in VARIADIC:
            return self._variadic(name, parts, isinstance(argument, list), where)
        known = FUNCTIONS.get(name)
        if known is None:
            why = _WHY_NOT.get(name) or f"there is no such operator; there are {', '.join(_NAMES)}"
            raise RefusedError(where, f"{name[:60]} is not supported: {why}")
        least, most, function = known
        if not least <= len(parts) <= most:
            count = str(least) if least == most else f"{least} to {most}"
            raise RefusedError(where, f"{name} takes {count} arguments; found {len(parts)}")
        return self._applied(function, parts, where)

    def _variadic(self, name: str, parts: list[Expression], listed: bool, where: str) -> Expression:
        function = VARIADIC[name]
        work = self._work if self._variables else None

        def apply(document: Value) -> Value:
            values = [part(document) for part in parts]
            if work is not None:
                work.weigh(tuple(values), where)
            if len(values) == 1 and isinstance(values[0], list) and (not listed or name in _OF_ONE_ARRAY):
                values = values[0]  # {"$sum": "$scores"}: of the elements of one array
            return _computed(function, (values,), where)

        return apply

    def _named(self, name: str, argument: Value, where: str, depth: int) -> Expression:
        """An operator whose arguments have names; `$trim` takes its input alone, too, `$getField` a name."""
        needed, others, function = NAMED[name] if name in NAMED else DATED[name]
        known = (*needed, *others)
        if needed and not (isinstance(argument, dict) and needed[0] in argument):
            if name == "$getField":
                argument = {"field": argument, "input": "$$ROOT"}
            elif len(needed) == 1:
                argument = {needed[0]: argument}
        if not isinstance(argument, dict) or not set(needed) <= argument.keys() <= set(known):
            raise RefusedError(where, f"{name} takes an object with {', '.join(known)}")
        parts = [
            self.expression(argument[key], member(where, key), depth + 1) if key in argument else _nothing
            for key in known
        ]
        return self._applied(function, parts, where)

    def _applied(self, function: Callable[..., Value], parts: list[Expression], where: str) -> Expression:
        if not self._variables:
            return lambda document: _computed(function, tuple(part(document) for part in parts), where)
        work = self._work

        def apply(document: Value) -> Value:
            values = tuple(part(document) for part in parts)
            work.weigh(values, where)
            return _computed(function, values, where)

        return apply

    def _path(self, text: str, where: str) -> Expression:
        """A path, or a variable; within a loop what it looks through is counted."""
        name, _, rest = text[2:].partition(".") if text.startswith("$$") else ("", "", text[1:])
        if name in self._variables:
            path = field_path(rest, where) if rest else ()
            return self._variables[name].at(path, self._work, where)
        if name == "NOW" and self.now_us and not rest:
            now = moment_text(self.now_us)
            return lambda document: now  # noqa: ARG005
        found = _path(text, where)
        path = field_path(rest, where) if rest else ()
        if not self._variables or len(path) < 2:
            return found
        return weighed(lambda document: document, path, self._work, where)

    def _loop(self, name: str, argument: Value, where: str, depth: int) -> Expression:
        """An expression that binds variables for what stands within it."""
        self._loops += 1
        needed, others = _LOOP_MEMBERS[name]
        if not isinstance(argument, dict) or not set(needed) <= argument.keys() <= {*needed, *others}:
            raise RefusedError(where, f"{name} takes an object with {', '.join((*needed, *others))}")

        def part(key: str) -> Expression:
            if key not in argument:
                return _nothing
            return self.expression(argument[key], member(where, key), depth + 1)

        if name == "$let":
            named = argument["vars"]
            if not isinstance(named, dict):
                raise RefusedError(where, "vars is an object of names and expressions")
            values = {
                key: self.expression(each, f"{where}.vars.{key}", depth + 1) for key, each in named.items()
            }
            cells = {_variable(key, where): Cell() for key in values}
            inside = self._inside(cells, lambda: part("in"))
            return bound([(cells[key], values[key]) for key in values], inside)
        source = part("input")
        if name == "$reduce":
            initial, value, this = part("initialValue"), Cell(), Cell()
            inside = self._inside({"value": value, "this": this}, lambda: part("in"))
            return reduced(source, initial, (value, this), inside, (self._work, where))
        cell = Cell()
        scope = {_variable(argument.get("as", "this"), where): cell}
        if name == "$map":
            return mapped(source, cell, self._inside(scope, lambda: part("in")), (self._work, where))
        limit = part("limit")
        return chosen(source, cell, self._inside(scope, lambda: part("cond")), limit, (self._work, where))

    def _inside(self, cells: dict[str, Cell], parse: Callable[[], Expression]) -> Expression:
        """What is parsed where these variables are bound."""
        outer, self._variables = self._variables, {**self._variables, **cells}
        try:
            return parse()
        finally:
            self._variables = outer

    def _cond(self, argument: Value, where: str, depth: int) -> Expression:
        if isinstance(argument, dict) and argument.keys() == {"if", "then", "else"}:
            argument = [argument["if"], argument["then"], argument["else"]]
        if not isinstance(argument, list) or len(argument) != 3:
            raise RefusedError(where, '$cond takes [if, then, else], or {"if", "then", "else"}')
        test, then, other = (
            self.expression(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(argument)
        )
        return lambda document: then(document) if truthy(test(document)) else other(document)

    def _switch(self, argument: Value, where: str, depth: int) -> Expression:
        if not isinstance(argument, dict) or not isinstance(argument.get("branches"), list):
            raise RefusedError(where, '$switch takes {"branches": [{"case", "then"}], "default"}')
        branches = []
        for index, branch in enumerate(argument["branches"]):
            here = f"{where}.branches[{index}]"
            if not isinstance(branch, dict) or branch.keys() != {"case", "then"}:
                raise RefusedError(here, 'a branch is {"case": ..., "then": ...}')
            case = self.expression(branch["case"], f"{here}.case", depth + 1)
            branches.append((case, self.expression(branch["then"], f"{here}.then", depth + 1)))
        if not branches:
            raise RefusedError(where, "$switch has at least one branch")
        default = None
        if "default" in argument:
            default = self.expression(argument["default"], f"{where}.default", depth + 1)

        def choose(document: Value) -> Value:
            for case, then in branches:
                if truthy(case(document)):
                    return then(document)
            if default is None:
                raise RefusedError(where, "no branch fits, and there is no default")
            return default(document)

        return choose


_WHY_NOT: Final = {
    "$function": "nothing in a pipeline is executed",
    "$rand": "an answer does not depend on chance: a pipeline has $sample",
    "$toObjectId": "ids are texts",
    "$bsonSize": "documents are texts: see $strLenBytes",
    "$meta": "search by keyword is another request: /v1/search",
}

_LOOP_MEMBERS: Final = {
    "$let": (("vars", "in"), ()),
    "$map": (("input", "in"), ("as",)),
    "$filter": (("input", "cond"), ("as", "limit")),
    "$reduce": (("input", "initialValue", "in"), ()),
}


def _variable(name: Value, where: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RefusedError(where, "a variable's name is letters, digits and _, a small letter first")
    return name


_NAME: Final = re.compile(r"[a-z\u0080-\U0010ffff][A-Za-z0-9_\u0080-\U0010ffff]{0,99}")
_OF_ONE_ARRAY: Final = ("$sum", "$avg", "$min", "$max", "$stdDevPop", "$stdDevSamp")


def _nothing(_: Value) -> Value:
    return MISSING


_NAMES: Final = (
    "$cond",
    "$ifNull",
    "$switch",
    "$literal",
    "$and",
    "$or",
    *VARIADIC,
    *FUNCTIONS,
    *NAMED,
    *LOOPS,
)


def field_path(text: str, where: str) -> Path:
    """The path that `$a.b` names; raises RefusedError."""
    path = parse_path(text.removeprefix("$"))
    if isinstance(path, str):
        raise RefusedError(where, path)
    return path


def _path(text: str, where: str) -> Expression:
    if text.startswith("$$"):
        name, _, rest = text[2:].partition(".")
        if name == "REMOVE" and not rest:
            return lambda document: MISSING  # noqa: ARG005
        if name not in {"ROOT", "CURRENT"}:
            raise RefusedError(
                where, f"there is no variable $${name[:60]} here; there are ROOT, CURRENT, NOW and REMOVE"
            )
        if not rest:
            return lambda document: document
        text = rest
    path = field_path(text, where)
    if len(path) == 1:
        key = path[0]
        return lambda document: document.get(key, MISSING) if isinstance(document, dict) else MISSING
    return lambda document: lookup(document, path)


def _if_null(parts: list[Expression], where: str) -> Expression:
    if len(parts) < 2:
        raise RefusedError(where, "$ifNull takes an expression and what stands for null")

    def first(document: Value) -> Value:
        for part in parts[:-1]:
            value = part(document)
            if value is not None and value is not MISSING:
                return value
        return parts[-1](document)

    return first


def _computed(function: Callable[..., Value], values: tuple[Any, ...], where: str) -> Value:
    try:
        return function(*values)
    except NotComputableError as error:
        raise RefusedError(where, str(error)) from None


def _null(value: Value) -> Value:
    return None if value is MISSING else value
