"""Update operators on arrays: `$push`, `$addToSet`, `$pull`, `$pullAll`, `$pop`.

An array is a value, so each of these reads it, changes it and writes it as a whole, on the conditional path.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, Final

from core import limits
from core.json_values import Value, type_name
from documents.cells import Path
from documents.edits import EditError
from documents.places import Place
from query.document_filter import (
    CLAUSES_TIMES_VALUES_MAX,
    STEPS_TIMES_BYTES_MAX,
    cost_of,
    parse_filter,
    whole,
)
from query.document_match import predicate
from query.document_sort import KEYS_MAX
from query.document_values import MISSING, equal, lookup, order_key, parse_path, path_text
from query.refusals import Refusal

Act = Callable[[Place, bool], None]
_MODIFIERS = ("$each", "$position", "$slice", "$sort")


def _bad(operator: str, path: Path, why: str) -> EditError:
    return EditError("bad_patch", f"{operator} {path_text(path)[:60]}: {why}")


def _array_at(place: Place) -> list[Value] | None:
    """The array there, or None if there is nothing; a conflict if there is something else."""
    found = place.found()
    if found is MISSING:
        return None
    if type(found) is not list:
        raise place.conflict(f"the value there is of type {type_name(found)}, not an array")
    return found


def _each(path: Path, value: Value, operator: str, modifiers: tuple[str, ...]) -> tuple[list[Value], Value]:
    """The values to add, and the object of modifiers ({} if it was a plain value)."""
    if type(value) is not dict or not any(name.startswith("$") for name in value):
        return [value], {}
    for name in value:
        if name not in modifiers:
            raise _bad(operator, path, f"there is no {name[:40]!r}; there are: {', '.join(modifiers)}")
    if type(value.get("$each")) is not list:
        raise _bad(operator, path, "takes a value, or an object with an array under $each")
    return value["$each"], value


def _whole(path: Path, value: Value, what: str) -> int:
    number = whole(value)
    if number is None or abs(number) > 2**31:
        raise _bad("$push", path, f"{what} is a whole number")
    return number


def _push(path: Path, value: Value, operator: str) -> Act:
    added, modifiers = _each(path, value, operator, _MODIFIERS)
    position = _whole(path, modifiers["$position"], "$position") if "$position" in modifiers else None
    kept = _whole(path, modifiers["$slice"], "$slice") if "$slice" in modifiers else None
    order = _order(path, modifiers["$sort"]) if "$sort" in modifiers else []

    def act(place: Place, _: bool) -> None:
        array = _array_at(place) or []
        at = len(array) if position is None else position
        array[at:at] = deepcopy(added)
        for key, descending in order:
            array.sort(key=key, reverse=descending)
        if kept is not None:
            array = array[:kept] if kept >= 0 else array[kept:]
        place.put(array)

    return act


def _order(path: Path, value: Value) -> list[tuple[Callable[[Value], Any], bool]]:
    """What `$sort` sorts by, and whether it descends, the least important first: the elements themselves
    by 1 or -1, or by an object of paths within them.
    """
    orders: list[tuple[Callable[[Value], Any], bool]] = []
    items = list(value.items()) if type(value) is dict and value else [("", value)]
    if len(items) > KEYS_MAX:
        raise _bad("$push", path, f"$sort has at most {KEYS_MAX} paths")
    for text, direction in items:
        below = parse_path(text) if text else ()
        way = whole(direction)
        if isinstance(below, str) or way not in (1, -1):
            raise _bad("$push", path, '$sort is 1 or -1, or paths with these like {"score": -1}')
        orders.append((partial(_key_at, below), way == -1))
    return orders[::-1]


def _key_at(below: Path, item: Value) -> Any:
    return order_key(lookup(item, below))


def _add_to_set(path: Path, value: Value, operator: str) -> Act:
    added, _ = _each(path, value, operator, ("$each",))

    def act(place: Place, _: bool) -> None:
        array = _array_at(place)
        result = [] if array is None else array
        there = {order_key(item) for item in result}
        grew = array is None
        for item in added:
            key = order_key(item)
            if key not in there:
                there.add(key)
                result.append(deepcopy(item))
                grew = True
        if grew:
            place.put(result)

    return act


def _pull(path: Path, value: Value, operator: str) -> Act:
    is_unwanted, clauses = _condition(path, value, operator)
    return _without(is_unwanted, clauses)


def _pull_all(path: Path, value: Value, operator: str) -> Act:
    if type(value) is not list:
        raise _bad(operator, path, "takes an array of the values to remove")
    unwanted = {order_key(item) for item in value}
    return _without(lambda item: order_key(item) in unwanted)


def _without(is_unwanted: Callable[[Value], bool], clauses: int = 1) -> Act:
    def act(place: Place, _: bool) -> None:
        array = _array_at(place)
        if array is None:
            return
        if clauses > 1 and clauses * _values_in(array) > CLAUSES_TIMES_VALUES_MAX:
            raise place.conflict(f"{clauses} clauses are too many for so long an array: use $in")
        kept = [item for item in array if not is_unwanted(item)]
        if len(kept) < len(array):
            place.put(kept)

    return act


def _values_in(value: Value) -> int:
    children = value.values() if type(value) is dict else value if type(value) is list else ()
    return 1 + sum(map(_values_in, children))


def _condition(path: Path, value: Value, operator: str) -> tuple[Callable[[Value], bool], int]:
    """A value means itself, operators a condition on the element, any other object one on its members; and
    how many clauses that has.
    """
    if type(value) is not dict or not value:
        return lambda item: equal(item, value), 1
    on_element = any(name.startswith("$") for name in value)
    parsed = parse_filter({"e": {"$elemMatch": value}} if on_element else value, operator)
    if isinstance(parsed, Refusal):
        raise _bad(operator, path, parsed.text)
    cost = cost_of(parsed)
    if cost.steps * limits.DOCUMENT_BYTES_MAX > STEPS_TIMES_BYTES_MAX:
        raise _bad(operator, path, "its patterns are too complex: write simpler ones")
    holds = predicate(parsed)
    if on_element:
        return lambda item: holds({"e": [item]}), cost.clauses
    return lambda item: type(item) is dict and holds(item), cost.clauses


def _pop(path: Path, value: Value, operator: str) -> Act:
    way = whole(value)
    if way not in (1, -1):
        raise _bad(operator, path, "takes 1 (the last element) or -1 (the first)")

    def act(place: Place, _: bool) -> None:
        array = _array_at(place)
        if array:
            array.pop(-1 if way == 1 else 0)
            place.put(array)

    return act


ARRAY_OPERATORS: Final[dict[str, Callable[[Path, Value, str], Act]]] = {
    "$push": _push,
    "$addToSet": _add_to_set,
    "$pull": _pull,
    "$pullAll": _pull_all,
    "$pop": _pop,
}
"""The operators by name: each makes of a path and its argument what is done; raises EditError."""
