"""Projections: which members of a document an answer holds.

    {"title": 1, "cast.name": 1}     only these            {"cast": 0}     all but these
    {"cast": {"$slice": 3}}          of an array so many; [skip, n] skips; -3 takes the last
    {"cast": {"$elemMatch": {...}}}  of an array the first element that meets a filter

Paths lead into the objects of arrays. With 1s everything else is left out, with 0s it is kept; both together
are refused. A `$slice` alone keeps all else, as in MongoDB. The document's id is not part of the document; it
is the member `_id` of what a projection is asked about, and `"_id": 0` may stand beside 1s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from core.json_values import is_number
from query.document_filter import ElemMatch, parse_filter, whole
from query.document_match import predicate
from query.document_values import Path, Value, parse_path
from query.refusals import Refusal, RefusedError, member, refusable, shown

PATHS_MAX: Final = 1_000
ID: Final = "_id"

Project = Callable[[Value], Value]


class Slice(msgspec.Struct, frozen=True):
    """`$slice`: `count` elements after `skip`; a negative skip counts from the end."""

    path: Path
    skip: int
    count: int


class Element(msgspec.Struct, frozen=True):
    """`$elemMatch`: the first element that meets the condition, in an array of one."""

    path: Path
    condition: ElemMatch


class Projection(msgspec.Struct, frozen=True):
    """The paths that are kept (`inclusive`) or left out, and what is done to arrays."""

    inclusive: bool
    paths: tuple[Path, ...]
    slices: tuple[Slice, ...] = ()
    elements: tuple[Element, ...] = ()
    with_id: bool = True


def parse_projection(value: Value, where: str = "projection") -> Projection | Refusal:
    """The projection that a JSON value is, or why it is none."""
    return refusable(lambda: _parse(value, where))


def _parse(value: Value, where: str) -> Projection:
    if isinstance(value, list):
        value = {str(item): 1 for item in value} if all(isinstance(item, str) for item in value) else None
    if not isinstance(value, dict):
        raise RefusedError(where, 'a projection is an object as {"title": 1}, or an array of paths')
    if len(value) > PATHS_MAX:
        raise RefusedError(where, f"a projection has at most {PATHS_MAX} paths")
    kept: list[Path] = []
    dropped: list[Path] = []
    slices: list[Slice] = []
    elements: list[Element] = []
    with_id = True
    for key, wanted in value.items():
        here = member(where, key)
        path = parse_path(key)
        if isinstance(path, str):
            raise RefusedError(here, path)
        if "$" in path:
            raise RefusedError(
                here, "there is no positional $ here: $elemMatch shows the element that matches"
            )
        if isinstance(wanted, dict):
            if "$slice" in wanted and len(wanted) == 1:
                slices.append(_slice(path, wanted["$slice"], here))
            elif "$elemMatch" in wanted and len(wanted) == 1:
                elements.append(_element(path, wanted["$elemMatch"], here))
                kept.append(path)
            else:
                raise RefusedError(here, "a projection knows 1, 0, $slice and $elemMatch")
        elif not isinstance(wanted, bool) and not is_number(wanted):
            raise RefusedError(here, f"a path has 1 (keep) or 0 (leave out); found {shown(wanted)}")
        elif key == ID:
            with_id = bool(wanted)
        else:
            (kept if wanted else dropped).append(path)
    only_id = value.keys() == {ID} and with_id
    if kept and dropped:
        raise RefusedError(
            where, "1s and 0s cannot stand together, but for _id: name what to keep, or what not"
        )
    inclusive = bool(kept) or only_id
    _check_apart(kept + dropped if dropped else kept + [one.path for one in slices], where)
    if inclusive:
        kept += [one.path for one in slices]
    return Projection(inclusive, tuple(kept or dropped), tuple(slices), tuple(elements), with_id)


def _check_apart(paths: list[Path], where: str) -> None:
    known = dict.fromkeys(paths)
    if len(known) < len(paths):
        raise RefusedError(where, "a path is there twice")
    for path in paths:
        for length in range(1, len(path)):
            if path[:length] in known:
                shorter, longer = ".".join(path[:length]), ".".join(path)
                raise RefusedError(where, f"{longer[:60]} lies within {shorter[:60]}: name one of them")


def _slice(path: Path, argument: Value, where: str) -> Slice:
    numbers = argument if isinstance(argument, list) else [argument]
    found = [whole(item) for item in numbers]
    if len(found) == 1 and found[0] is not None:
        count = found[0]
        return Slice(path, min(count, 0), abs(count))
    if len(found) == 2 and found[0] is not None and found[1] is not None and found[1] > 0:
        return Slice(path, found[0], found[1])
    raise RefusedError(where, f"$slice takes n, or [skip, n] with n above 0; found {shown(argument)}")


def _element(path: Path, argument: Value, where: str) -> Element:
    parsed = parse_filter({"element": {"$elemMatch": argument}}, where)
    if isinstance(parsed, Refusal):
        raise RefusedError(where, parsed.reason)
    assert isinstance(parsed, ElemMatch), parsed
    return Element(path, msgspec.structs.replace(parsed, path=()))


# --- doing it

_Tree = dict[str, "_Tree | None"]


def projector(projection: Projection) -> Project:
    """The projection as a function of a document; what it gives shares values with the document."""
    tree = _tree(projection.paths)
    steps: tuple[Slice | Element, ...] = (*projection.slices, *projection.elements)
    arrays = [_array_step(step) for step in steps]
    inclusive = projection.inclusive

    def project(document: Value) -> Value:
        for path, change in arrays:
            document = _changed(document, path, change)
        if inclusive:
            return _kept(document, tree)
        return _without(document, tree) if tree else document

    return project


def _tree(paths: tuple[Path, ...]) -> _Tree:
    root: _Tree = {}
    for path in paths:
        here = root
        for key in path[:-1]:
            below = here.setdefault(key, {})
            assert below is not None, "paths are apart"
            here = below
        here[path[-1]] = None
    return root


def _kept(value: Value, tree: _Tree) -> Value:
    if isinstance(value, dict):
        found = {}
        for key, item in value.items():
            if key in tree:
                below = tree[key]
                if below is None:
                    found[key] = item
                elif isinstance(item, (dict, list)):
                    found[key] = _kept(item, below)
        return found
    if isinstance(value, list):
        return [_kept(item, tree) for item in value if isinstance(item, (dict, list))]
    return value


def _without(value: Value, tree: _Tree) -> Value:
    if isinstance(value, dict):
        found = {}
        for key, item in value.items():
            if key not in tree:
                found[key] = item
            elif (below := tree[key]) is not None:
                found[key] = _without(item, below)
        return found
    if isinstance(value, list):
        return [_without(item, tree) for item in value]
    return value


def _array_step(step: Slice | Element) -> tuple[Path, Callable[[list[Value]], list[Value]]]:
    if isinstance(step, Slice):
        skip, count = step.skip, step.count

        def cut(items: list[Value]) -> list[Value]:
            first = max(0, len(items) + skip) if skip < 0 else skip
            return items[first : first + count]

        return step.path, cut
    meets = predicate(step.condition)
    return step.path, lambda items: next(([item] for item in items if meets([item])), [])


def _changed(value: Value, path: Path, change: Callable[[list[Value]], list[Value]]) -> Value:
    """A copy in which the arrays that the path leads to are changed."""
    if not path:
        return change(value) if isinstance(value, list) else value
    if isinstance(value, dict) and path[0] in value:
        return {**value, path[0]: _changed(value[path[0]], path[1:], change)}
    if isinstance(value, list):
        return [_changed(item, path, change) for item in value]
    return value
