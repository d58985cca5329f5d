"""Objects within documents, looked at one by one: what nested queries and aggregations are about.

An index knows a document's fields, not which values stand in one object. So what a nested query may find is
found by its fields, and then each object at its path is judged as if it were the only one there.
"""

from __future__ import annotations

from typing import Any, Final

from index.query import All, Bool, Boost, Boosting, Constant, DisMax, FunctionScore, Query

OBJECTS_MAX: Final = 10_000
"""Objects of one document that are looked at."""


def objects_at(source: Any, path: str) -> list[Any]:
    """The document once for each object at the path, with this object alone; in their order."""
    found: list[Any] = []
    _collect(source, path, found)
    return [_wrapped(path, each) for each in found]


def _collect(value: Any, rest: str, found: list[Any]) -> None:
    if isinstance(value, list):
        for each in value:
            _collect(each, rest, found)
    elif isinstance(value, dict) and len(found) < OBJECTS_MAX:
        if not rest:
            found.append(value)
            return
        for key, member in value.items():
            if rest == key:
                _collect(member, "", found)
            elif rest.startswith(key + "."):
                _collect(member, rest[len(key) + 1 :], found)


def _wrapped(path: str, value: Any) -> Any:
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def without_exclusions(query: Query) -> Query:
    """What also finds a document of which one object is excluded and another is not."""
    if isinstance(query, Bool):
        must, should, filters = (
            tuple(map(without_exclusions, part)) for part in (query.must, query.should, query.filter)
        )
        return Bool(must, should, (), filters, query.minimum) if must or should or filters else All()
    if isinstance(query, DisMax):
        return DisMax(tuple(map(without_exclusions, query.queries)), query.tie_breaker)
    if isinstance(query, Boosting):
        return without_exclusions(query.positive)
    if isinstance(query, Constant):
        return Constant(without_exclusions(query.query), query.score)
    if isinstance(query, FunctionScore):
        return without_exclusions(query.query)
    if isinstance(query, Boost):
        return Boost(without_exclusions(query.query), query.factor)
    return query
