"""Update operators: `{"$set": {"a.b": 1}, "$inc": {"n": 2}}`, in the words of MongoDB.

Paths are keys separated by dots, `\\.` is a dot within a key (query/document_values.py). Within an array a
key of digits is a position, and `$[]`, `$[name]` and `$` stand for elements (documents/positional.py). No
path of an update may be above another, so the order of operators is nothing.

`$set`, `$unset` and `$currentDate` do not depend on the document unless a key of digits might be a position:
they are written as pieces and merge with what others write. All others, and whatever stands beside them, take
the conditional path. Both ways make the same of a document: a `$set` below something that is no object makes
objects there. An operator that depends on a value and finds one that it cannot work on is a conflict.

On a document that is not there an update begins with nothing, and makes one if it sets anything.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable
from copy import deepcopy
from decimal import Decimal
from functools import partial
from itertools import pairwise
from typing import Any, Final

import msgspec

from core import limits
from core.json_values import EXACT, Value, depth_of, exact, is_number, number_of, type_name
from documents.arrays import ARRAY_OPERATORS, Act
from documents.cells import Path, Piece, set_pieces
from documents.edits import Edit, Edited, EditError, parsed
from documents.places import Place, is_plain
from documents.positional import NOWHERE, Positions, is_mark
from query.document_values import MISSING, order_key, parse_path, path_text


class Step(msgspec.Struct, frozen=True):
    """One operator at one path: what it does at the place, given whether the document is new."""

    operator: str
    path: Path
    act: Callable[[Place, bool], None]
    piece: tuple[Value] | None = None
    """What the path holds afterwards whatever it held, if it holds that (MISSING: nothing)."""
    other: Path | None = None
    """A second path: where `$rename` leads."""


ID_STAYS: Final = "the id of a document is its key, and stays: PUT it under another, and delete this one"

Compile = Callable[[Path, Value, str, int], Step]


def update(text: bytes, now_us: int, bytes_max: int = limits.DOCUMENT_BYTES_MAX) -> Edit:
    """An update; `now_us` is what `$currentDate` writes. Raises EditError, also from its `apply`."""
    return update_of(parsed(text, bytes_max), now_us, len(text))


def update_of(operators: Value, now_us: int, size: int = 0, positions: Positions = NOWHERE) -> Edit:
    """The update that a JSON value is; raises EditError, also from its `apply`."""
    steps = _steps(operators, now_us)
    _check_apart([(step.path, step.other) for step in steps])
    positions.check([step.path for step in steps])
    marked = any(is_mark(key) for step in steps for key in step.path)

    def apply(document: Value) -> Edited:
        is_new = document is MISSING
        holder: dict[str, Value] = {} if is_new else {"": document}
        touched: list[Path] = []
        for step, path in _expanded(document) if marked else ((step, step.path) for step in steps):
            try:
                step.act(Place(holder, step, touched).at(path), is_new)
            except decimal.DecimalException:
                detail = f"the result has more than {limits.NUMBER_TEXT_DIGITS_MAX} digits"
                raise EditError(
                    "patch_conflict", f"{step.operator} {path_text(step.path)}: {detail}"
                ) from None
        return Edited(holder.get("", MISSING), touched)

    def _expanded(document: Value) -> list[tuple[Step, Path]]:
        found = [(step, path) for step in steps for path in positions.expand(document, step.path)]
        _check_apart([(path, step.other) for step, path in found])
        return found

    pieces: tuple[Piece, ...] | None = None
    if all(step.piece is not None and is_plain(step.path) for step in steps):
        pieces = tuple(set_pieces((step.path, step.piece[0]) for step in steps if step.piece is not None))
    return Edit(apply, pieces, size)


def _steps(operators: Value, now_us: int) -> list[Step]:
    if type(operators) is not dict or not operators:
        raise EditError("bad_patch", 'an update is an object of operators, like {"$set": {"a.b": 1}}')
    steps: list[Step] = []
    for name, arguments in operators.items():
        compile_one = _OPERATORS.get(name)
        if compile_one is None:
            known = ", ".join(_OPERATORS)
            raise EditError("bad_patch", f"there is no operator {name[:60]!r}; there are: {known}")
        if type(arguments) is not dict:
            raise EditError("bad_patch", f"{name} takes an object of paths")
        if len(steps) + len(arguments) > limits.DOCUMENT_OPERATIONS_MAX:
            raise EditError("bad_patch", f"an update has at most {limits.DOCUMENT_OPERATIONS_MAX} paths")
        steps += [compile_one(path_of(text, name), item, name, now_us) for text, item in arguments.items()]
    return steps


def path_of(text: str, where: str) -> Path:
    """The path of an operator; raises EditError."""
    path = parse_path(text)
    if isinstance(path, str):
        raise EditError("bad_patch", f"{where}: {path}")
    if path[0] == "_id":
        raise EditError("bad_patch", f"{where} {text[:60]}: {ID_STAYS}")
    for at, key in enumerate(path):
        if not key.startswith("$") or (at and where != "$rename" and is_mark(key)):
            continue
        detail = "a key cannot begin with $ here"
        if key[1:2] in ("", "["):
            detail = "elements are $, $[] and $[name], below an array"
            detail += ", and nothing is renamed into one or out of one" if where == "$rename" else ""
        raise EditError("bad_patch", f"{where} {text[:60]}: {detail}")
    return path


def _check_apart(places: list[tuple[Path, Path | None]]) -> None:
    paths = sorted([path for path, _ in places] + [other for _, other in places if other is not None])
    for above, below in pairwise(paths):
        if below[: len(above)] == above:
            detail = f"{path_text(above)[:60]} and {path_text(below)[:60]} are at or above one another"
            raise EditError("bad_patch", f"an update cannot have both paths: {detail}")


# --- operators that do not depend on the document


def _set(path: Path, value: Value, operator: str, _: int) -> Step:
    if len(path) + depth_of(value) > limits.DOCUMENT_DEPTH_MAX:
        limit = limits.DOCUMENT_DEPTH_MAX
        raise EditError("too_deep", f"{operator}: nested more than {limit} levels deep")
    return Step(operator, path, lambda place, _: place.put(deepcopy(value)), (value,))


def _unset(path: Path, _: Value, operator: str, __: int) -> Step:
    return Step(operator, path, lambda place, _: place.remove(), (MISSING,))


def _current_date(path: Path, value: Value, operator: str, now_us: int) -> Step:
    kind = value.get("$type") if type(value) is dict and len(value) == 1 else value
    if kind is True or kind == "date":
        return _set(path, iso_time(now_us), operator, now_us)
    if kind == "timestamp":
        return _set(path, now_us // 1000, operator, now_us)
    detail = 'takes true, {"$type": "date"} or {"$type": "timestamp"}'
    raise EditError("bad_patch", f"{operator} {detail}")


def iso_time(now_us: int) -> str:
    """A time (microseconds since 1970) as text of RFC 3339, in UTC, to the millisecond."""
    days, rest_us = divmod(now_us, 86_400_000_000)
    year, month, day = _civil(days)
    seconds, below_us = divmod(rest_us, 1_000_000)
    minutes, second = divmod(seconds, 60)
    return (
        f"{year:04d}-{month:02d}-{day:02d}T{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}"
        f".{below_us // 1000:03d}Z"
    )


def _civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of a number of days since 1970, in the Gregorian calendar.

    Years begin in March here, so that the leap day is their last.
    """
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    return year_of_era + era * 400 + (month <= 2), month, day


# --- operators that do


def _set_on_insert(path: Path, value: Value, operator: str, now_us: int) -> Step:
    checked = _set(path, value, operator, now_us)

    def act(place: Place, is_new: bool) -> None:
        if is_new:
            checked.act(place, is_new)

    return Step(operator, path, act)


def _arithmetic(
    compute: Callable[[Decimal, Decimal], Decimal],
    of_integers: Callable[[int, int], int],
    path: Path,
    value: Value,
    operator: str,
) -> Step:
    if not is_number(value):
        raise EditError("bad_patch", f"{operator} {path_text(path)[:60]}: takes a number")

    def act(place: Place, _: bool) -> None:
        found = place.found()
        if found is MISSING:
            found = 0
        if not is_number(found):
            raise place.conflict(f"the value there is of type {type_name(found)}, not a number")
        if type(found) is int and type(value) is int:
            result: Value = of_integers(found, value)
            if result.bit_length() > 3 * limits.NUMBER_TEXT_DIGITS_MAX:
                raise place.conflict(f"the result has more than {limits.NUMBER_TEXT_DIGITS_MAX} digits")
        else:
            result = number_of(compute(exact(found), exact(value)))
        place.put(result)

    return Step(operator, path, act)


def _inc(path: Path, value: Value, operator: str, _: int) -> Step:
    return _arithmetic(EXACT.add, int.__add__, path, value, operator)


def _mul(path: Path, value: Value, operator: str, _: int) -> Step:
    return _arithmetic(EXACT.multiply, int.__mul__, path, value, operator)


_BITS: Final[dict[str, Callable[[int, int], int]]] = {
    "and": int.__and__,
    "or": int.__or__,
    "xor": int.__xor__,
}


def _bit(path: Path, value: Value, operator: str, _: int) -> Step:
    steps = value if type(value) is dict else {}
    if not steps or not all(name in _BITS and type(item) is int for name, item in steps.items()):
        detail = 'takes {"and": n}, {"or": n} or {"xor": n}, whole numbers'
        raise EditError("bad_patch", f"{operator} {path_text(path)[:60]}: {detail}")

    def act(place: Place, _: bool) -> None:
        found = place.found()
        if found is MISSING:
            found = 0
        if type(found) is not int:
            raise place.conflict(f"the value there is of type {type_name(found)}, not a whole number")
        for name, item in steps.items():
            found = _BITS[name](found, item)
        place.put(found)

    return Step(operator, path, act)


def _extreme(is_better: Callable[[Any, Any], bool], path: Path, value: Value, operator: str, _: int) -> Step:
    def act(place: Place, _: bool) -> None:
        found = place.found()
        if found is MISSING or is_better(order_key(value), order_key(found)):
            place.put(deepcopy(value))

    return Step(operator, path, act)


def _rename(path: Path, value: Value, operator: str, _: int) -> Step:
    if type(value) is not str:
        raise EditError("bad_patch", f"{operator} {path_text(path)[:60]}: takes the new path as text")
    target = path_of(value, operator)

    def act(place: Place, _: bool) -> None:
        if place.is_in_array() or place.at(target).is_in_array():
            raise place.conflict("nothing is renamed into an array or out of one")
        found = place.found()
        if found is not MISSING:
            place.remove()
            place.at(target).put(found)

    return Step(operator, path, act, other=target)


def _on_array(
    compile_act: Callable[[Path, Value, str], Act], path: Path, value: Value, operator: str, _: int
) -> Step:
    return Step(operator, path, compile_act(path, value, operator))


_OPERATORS: Final[dict[str, Compile]] = {
    "$set": _set,
    "$unset": _unset,
    "$currentDate": _current_date,
    "$setOnInsert": _set_on_insert,
    "$inc": _inc,
    "$mul": _mul,
    "$bit": _bit,
    "$min": partial(_extreme, lambda new, old: new < old),
    "$max": partial(_extreme, lambda new, old: new > old),
    "$rename": _rename,
    **{name: partial(_on_array, act) for name, act in ARRAY_OPERATORS.items()},
}
"""Every operator, with what makes a step of it."""
