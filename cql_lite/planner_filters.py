"""Relations that no key serves, as predicates over records; the values are those of one execution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import UnsetType

from core.schema import SIMPLE_INDEX
from cql_lite import ast
from cql_lite.errors import InvalidRequestError
from cql_lite.planner_expressions import Expressions
from cql_lite.planner_find import index_for, like
from cql_lite.planner_functions import Compiled
from cql_lite.planner_rows import Layout, Record
from cql_lite.planner_terms import Bound, Context, Scope, Term, compile_term
from cql_lite.planner_where import column_of
from cql_lite.types import DURATION, JSON, Collection, ListType, MapType, SetType, Type
from query.comparisons import Predicate, compared, containing, every, within

MakePredicate = Callable[[Context], Predicate]


def compile_filters(
    relations: list[ast.Relation], layout: Layout, scope: Scope, expressions: Expressions
) -> Callable[[Context], Predicate | None]:
    """For each execution: whether a record satisfies all of these relations; None if there are none."""
    makers = [_filter(relation, layout, scope, expressions) for relation in relations]
    return lambda context: every([maker(context) for maker in makers])


def _filter(relation: ast.Relation, layout: Layout, scope: Scope, expressions: Expressions) -> MakePredicate:
    left = relation.left
    if not isinstance(left, ast.Target):
        raise InvalidRequestError(
            "a relation of several columns filters nothing: restrict the columns before them too, "
            "or one by one"
        )
    subject = _subject(left, layout, expressions)
    operator = relation.operator
    if operator == ast.LIKE:
        return _like(left, layout, subject, (relation.right, scope))
    if operator == ast.IS_NOT_NULL:
        raise InvalidRequestError("IS NOT NULL stands in materialized views only, which do not exist here")
    if operator in (ast.CONTAINS, ast.CONTAINS_KEY):
        return _containing(left, operator, subject, (relation.right, scope))
    name = left.column
    of = subject.type
    if of in (DURATION, JSON) and operator not in (ast.EQ, ast.NE, ast.IN):
        raise InvalidRequestError(f"values of type {of} have no order: {name} takes = and IN only")
    if operator == ast.IN:
        return _within(subject, relation.right, name, scope)
    if isinstance(relation.right, ast.InList):
        raise InvalidRequestError(f"{operator} takes one value, not a list of them")
    term = compile_term(relation.right, of, name, scope)
    if of.is_multicell and operator not in (ast.EQ, ast.NE):
        raise InvalidRequestError(f"{name} is a {of}: it takes =, CONTAINS and CONTAINS KEY, not {operator}")

    def make(context: Context) -> Predicate:
        right = _present(term(context), name)
        value = _getter(subject, context)
        return compared(value, operator, right, of.compare)

    return make


def _like(
    left: ast.Target, layout: Layout, subject: Compiled, right: tuple[ast.Expression | ast.InList, Scope]
) -> MakePredicate:
    """LIKE where the rows are read another way than by its index."""
    expression, scope = right
    assert not isinstance(expression, ast.InList), "the parser gives LIKE one value"
    index = index_for(layout.view, column_of(layout.view, left.column), SIMPLE_INDEX)
    fold = index is not None and index.looks_at[0].fold
    term = compile_term(expression, subject.type, left.column, scope)

    def make(context: Context) -> Predicate:
        matches = like(_present(term(context), left.column), left.column, fold)
        value = _getter(subject, context)

        def predicate(record: Record) -> bool:
            found = value(record)
            return found is not None and matches(found)

        return predicate

    return make


def _subject(left: ast.Target, layout: Layout, expressions: Expressions) -> Compiled:
    column_of(layout.view, left.column)
    node: ast.Expression = ast.ColumnRef(left.column, left.at)
    for step in left.path:
        if isinstance(step, ast.Key):
            node = ast.ElementAccess(node, step.term, step.at)
        else:
            node = ast.FieldAccess(node, step.name, step.at)
    return expressions.compile(node)


def _getter(subject: Compiled, context: Context) -> Callable[[Record], Any]:
    evaluate = subject.evaluate
    return lambda record: evaluate(record, context)


def _present(value: Bound, name: str) -> bytes | None:
    if isinstance(value, UnsetType):
        raise InvalidRequestError(f"the value for {name} is unset: bind one")
    return value


def _within(subject: Compiled, right: ast.Expression | ast.InList, name: str, scope: Scope) -> MakePredicate:
    of = subject.type
    if isinstance(right, ast.InList):
        terms = [compile_term(item, of, name, scope) for item in right.items]
        return lambda context: within(
            _getter(subject, context), [_present(term(context), name) for term in terms], of.compare
        )
    whole = ListType(element=of)
    term: Term = compile_term(right, whole, f"in({name})", scope)

    def make(context: Context) -> Predicate:
        value = _present(term(context), name)
        options = [] if value is None else whole.unpack(value)
        return within(_getter(subject, context), options, of.compare)

    return make


def _containing(
    left: ast.Target, operator: str, subject: Compiled, right: tuple[ast.Expression | ast.InList, Scope]
) -> MakePredicate:
    expression, scope = right
    if isinstance(expression, ast.InList):
        raise InvalidRequestError(f"{operator} takes one value, not a list of them")
    collection, wanted, first, step = parts_of(subject.type, operator, left.column)
    name = ("key(" if operator == ast.CONTAINS_KEY else "value(") + left.column + ")"
    term = compile_term(expression, wanted, name, scope)

    def make(context: Context) -> Predicate:
        value = _getter(subject, context)

        def parts(record: Record) -> list[bytes]:
            data = value(record)
            return [] if data is None else collection.unpack(data)[first::step]

        return containing(parts, _present(term(context), name), wanted.compare)

    return make


def parts_of(of: Type, operator: str, name: str) -> tuple[Collection, Type, int, int]:
    """For CONTAINS [KEY]: the collection, the parts' type, the first of them, the step to the next."""
    if not isinstance(of, Collection):
        raise InvalidRequestError(f"{operator} is for collections; {name} is a {of}")
    if isinstance(of, MapType):
        return (of, of.keys, 0, 2) if operator == ast.CONTAINS_KEY else (of, of.values, 1, 2)
    if operator == ast.CONTAINS_KEY:
        raise InvalidRequestError(f"CONTAINS KEY is for maps; {name} is a {of}")
    assert isinstance(of, (ListType, SetType))
    return of, of.element, 0, 1
