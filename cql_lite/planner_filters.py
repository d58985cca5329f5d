"""Relations that no key serves, as predicates over records; the values are those of one execution."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final

from core.plain_text import plain
from core.schema import CLUSTERING, PARTITION, SIMPLE_INDEX, STATIC, IndexTarget
from cql_lite import ast
from cql_lite.errors import InvalidRequestError
from cql_lite.planner_expressions import Expressions
from cql_lite.planner_find import index_for, like, present
from cql_lite.planner_functions import Compiled
from cql_lite.planner_rows import Layout, Record
from cql_lite.planner_terms import Context, Scope, Term, compile_term
from cql_lite.planner_where import NEEDS_FILTERING, Where, called, column_of
from cql_lite.types import DURATION, JSON, Collection, ListType, MapType, SetType, Text, Type
from query.comparisons import Compare, Predicate, compared, containing, every, within

MakePredicate = Callable[[Context], Predicate]
Likeness = Callable[[bytes], Hashable]


def compile_filters(
    relations: list[ast.Relation], layout: Layout, scope: Scope, expressions: Expressions
) -> Callable[[Context], Predicate | None]:
    """For each execution: whether a record satisfies all of these relations; None if there are none."""
    makers = [
        _with_key(each, layout, scope, _filter(each, layout, scope, expressions))
        for relation in relations
        for each in _apart(relation)
    ]
    return lambda context: every([maker(context) for maker in makers])


def why_filtering(where: Where, relation: ast.Relation) -> str:
    """Why a relation that neither key nor index serves needs ALLOW FILTERING, or is nothing at all."""
    left, operator = relation.left, relation.operator
    if not isinstance(left, ast.Target):
        return NEEDS_FILTERING
    column = column_of(where.view, left.column)
    if operator in (ast.CONTAINS, ast.CONTAINS_KEY):
        parts_of(column.type, operator, column.name)
    if operator in _NEGATED:
        return NEEDS_FILTERING
    if operator == ast.IS_NOT_NULL:
        return f"Unsupported restriction: {column.name} IS NOT NULL stands in materialized views only"
    if operator == ast.NE:
        return (
            f'Unsupported "!=" relation: {column.name} != ... is for ALLOW FILTERING only. {NEEDS_FILTERING}'
        )
    if column.kind == CLUSTERING:
        given = {each.name for choice in where.choices for each in choice.columns}
        cut = {each.name for cut in where.cuts for each in cut.columns}
        for before in where.view.clustering[: column.position]:
            if before.name in cut:
                return (
                    f'Clustering column "{column.name}" cannot be restricted (preceding column '
                    f'"{before.name}" is restricted by a non-EQ relation). {NEEDS_FILTERING}'
                )
            if before.name not in given and not _restricts(where, before.name):
                return (
                    f'PRIMARY KEY column "{column.name}" cannot be restricted as preceding column '
                    f'"{before.name}" is not restricted. {NEEDS_FILTERING}'
                )
    return (
        f"{NEEDS_FILTERING} (or restrict the primary key from its front, or create an index that serves "
        f"{column.name})"
    )


def filters_rows(where: Where) -> bool:
    """Whether anything that is filtered belongs to a row, not to its partition."""
    return any(
        not isinstance(r.left, ast.Target)
        or column_of(where.view, r.left.column).kind not in (PARTITION, STATIC)
        for r in where.others
    )


def _restricts(where: Where, name: str) -> bool:
    return any(isinstance(r.left, ast.Target) and r.left.column == name for r in where.others)


def _apart(relation: ast.Relation) -> list[ast.Relation]:
    """`(a, b) = (1, 2)` as one relation for each column; what else there is as it is."""
    left, right = relation.left, relation.right
    if relation.operator != ast.EQ or not isinstance(left, ast.ColumnTuple):
        return [relation]
    if not isinstance(right, ast.TupleLiteral) or len(right.items) != len(left.columns):
        return [relation]
    return [
        ast.Relation(ast.Target(name.text, (), left.at), ast.EQ, item, relation.at)
        for name, item in zip(left.columns, right.items, strict=True)
    ]


def _with_key(relation: ast.Relation, layout: Layout, scope: Scope, make: MakePredicate) -> MakePredicate:
    """A key of a map, in brackets after its column, must be one."""
    left = relation.left
    step = left.path[0] if isinstance(left, ast.Target) and left.path else None
    if not isinstance(left, ast.Target) or not isinstance(step, ast.Key):
        return make
    of, name = column_of(layout.view, left.column).type, f"key({left.column})"
    if not isinstance(of, MapType):
        return make
    key = compile_term(step.term, of.keys, name, scope)

    def checked(context: Context) -> Predicate:
        present(key(context), name)
        return make(context)

    return checked


def _of_token(
    left: ast.TokenOf, relation: ast.Relation, scope: Scope, expressions: Expressions
) -> MakePredicate:
    """token(...) of rows that are computed, in which no order of tokens leads to any."""
    columns = tuple(ast.ColumnRef(name.text, left.at) for name in left.columns)
    subject = expressions.compile(ast.FunctionCall("token", columns, at=left.at))
    if isinstance(relation.right, ast.InList):
        raise InvalidRequestError(f"{relation.operator} takes one value, not a list of them")
    term = compile_term(relation.right, subject.type, "partition key token", scope)
    return lambda context: compared(
        _getter(subject, context), relation.operator, present(term(context), "token"), subject.type.compare
    )


def _filter(relation: ast.Relation, layout: Layout, scope: Scope, expressions: Expressions) -> MakePredicate:
    left = relation.left
    if isinstance(left, ast.TokenOf):
        return _of_token(left, relation, scope, expressions)
    if not isinstance(left, ast.Target):
        raise InvalidRequestError(
            "Multi-column slice restrictions cannot be used for filtering: restrict the columns before "
            "these, too, or each by itself"
        )
    subject = _subject(left, layout, expressions)
    operator = relation.operator
    if operator == ast.LIKE:
        return _like(left, layout, subject, (relation.right, scope))
    if operator == ast.IS_NOT_NULL:
        raise InvalidRequestError(
            f"Unsupported restriction: {left.column} IS NOT NULL stands in materialized views only"
        )
    if operator in (ast.CONTAINS, ast.CONTAINS_KEY):
        return _containing(left, operator, subject, (relation.right, scope))
    if operator in _NEGATED:
        return _negated(left, subject, relation, scope)
    name = left.column
    of = subject.type
    if of.is_multicell:
        raise InvalidRequestError(
            f"Collection column '{name}' ({of}) cannot be restricted by a '{operator}' relation: use CONTAINS"
            if isinstance(of, Collection)
            else f"Non-frozen UDT column '{name}' ({of}) cannot be restricted by any relation"
        )
    if of in (DURATION, JSON) and operator not in (ast.EQ, ast.NE, ast.IN):
        raise InvalidRequestError(
            f"Slice restrictions are not supported on {of} columns: values have no order, so {name} takes = "
            "and IN only"
        )
    if operator == ast.IN:
        return _within(subject, relation.right, called(left), scope, _likeness_as_indexed(left, layout, of))
    if isinstance(relation.right, ast.InList):
        raise InvalidRequestError(f"{operator} takes one value, not a list of them")
    term = compile_term(relation.right, of, called(left), scope)
    compare = of.compare if operator == ast.NE else _as_indexed(left, layout, of)

    def make(context: Context) -> Predicate:
        right = present(term(context), name)
        value = _getter(subject, context)
        return compared(value, operator, right, compare)

    return make


def _as_indexed(left: ast.Target, layout: Layout, of: Type) -> Compare:
    """How values compare: an index of text may not tell capitals from small letters."""
    target = _text_as_indexed(left, layout, of)
    return of.compare if target is None else lambda a, b: of.compare(plain(a, target), plain(b, target))


def _likeness_as_indexed(left: ast.Target, layout: Layout, of: Type) -> Likeness:
    """What is the same of values that compare as equal."""
    target = _text_as_indexed(left, layout, of)
    return of.likeness if target is None else lambda value: of.likeness(plain(value, target))


def _text_as_indexed(left: ast.Target, layout: Layout, of: Type) -> IndexTarget | None:
    """How the index of this text, if it is one and has one, changes it."""
    index = None if left.path else index_for(layout.view, column_of(layout.view, left.column), SIMPLE_INDEX)
    return None if index is None or not isinstance(of, Text) else index.looks_at[0]


_NEGATED: Final = {
    ast.NOT_IN: ast.IN, ast.NOT_CONTAINS: ast.CONTAINS, ast.NOT_CONTAINS_KEY: ast.CONTAINS_KEY
}  # fmt: skip


def _negated(left: ast.Target, subject: Compiled, relation: ast.Relation, scope: Scope) -> MakePredicate:
    """NOT IN, NOT CONTAINS [KEY]: of rows that have a value there at all."""
    operator = _NEGATED[relation.operator]
    if operator == ast.IN:
        makes = _within(subject, relation.right, called(left), scope, subject.type.likeness)
    else:
        makes = _containing(left, operator, subject, (relation.right, scope))

    def make(context: Context) -> Predicate:
        holds, value = makes(context), _getter(subject, context)
        return lambda record: value(record) is not None and not holds(record)

    return make


def _like(
    left: ast.Target, layout: Layout, subject: Compiled, right: tuple[ast.Expression | ast.InList, Scope]
) -> MakePredicate:
    """LIKE where the rows are read another way than by its index."""
    expression, scope = right
    assert not isinstance(expression, ast.InList), "the parser gives LIKE one value"
    index = index_for(layout.view, column_of(layout.view, left.column), SIMPLE_INDEX)
    target = IndexTarget(left.column) if index is None else index.looks_at[0]
    term = compile_term(expression, subject.type, left.column, scope)

    def make(context: Context) -> Predicate:
        matches = like(present(term(context), left.column), target)
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


def _within(
    subject: Compiled, right: ast.Expression | ast.InList, name: str, scope: Scope, likeness: Likeness
) -> MakePredicate:
    of = subject.type
    if isinstance(right, ast.InList):
        terms = [compile_term(item, of, name, scope) for item in right.items]
        return lambda context: within(
            _getter(subject, context), [present(term(context), name) for term in terms], likeness
        )
    whole = ListType(element=of)
    term: Term = compile_term(right, whole, f"in({name})", scope)

    def make(context: Context) -> Predicate:
        options = whole.unpack(present(term(context), name))
        return within(_getter(subject, context), options, likeness)

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

        return containing(parts, present(term(context), name), wanted.compare)

    return make


def parts_of(of: Type, operator: str, name: str) -> tuple[Collection, Type, int, int]:
    """For CONTAINS [KEY]: the collection, the parts' type, the first of them, the step to the next."""
    if not isinstance(of, Collection):
        raise InvalidRequestError(f"Cannot use {operator} on non-collection column {name} of type {of}")
    if isinstance(of, MapType):
        return (of, of.keys, 0, 2) if operator == ast.CONTAINS_KEY else (of, of.values, 1, 2)
    if operator == ast.CONTAINS_KEY:
        raise InvalidRequestError(f"Cannot use CONTAINS KEY on non-map column {name} of type {of}")
    assert isinstance(of, (ListType, SetType))
    return of, of.element, 0, 1
