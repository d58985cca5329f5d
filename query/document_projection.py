"""Projections: which members of a document an answer holds.

    {"title": 1, "cast.name": 1}     only these            {"cast": 0}     all but these
    {"cast": {"$slice": 3}}          of an array so many; [skip, n] skips; -3 takes the last
    {"cast": {"$elemMatch": {...}}}  of an array the first element that meets a filter
    {"cast.$": 1}                    of an array the first element that meets the filter of the question
    {"total": {"$add": ["$a", "$b"]}, "who": "$name"}     what an expression gives (query/expressions.py)

`{"a": {"b": 1}}` is `{"a.b": 1}`. Paths lead into the objects of arrays. With 1s everything else is left out,
with 0s it is kept; both together are refused. A `$slice` alone keeps all else, as in MongoDB. The document's
id is not part of the document; it is the member `_id` of what a projection is asked about, and `"_id": 0` may
stand beside 1s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec

from core.json_values import is_number
from query.document_filter import ElemMatch, parse_filter, whole
from query.document_match import predicate
from query.document_values import MISSING, Path, Value, parse_path
from query.expressions import Expression, Parser
from query.pipeline_stages import assigned
from query.refusals import Refusal, RefusedError, member, refusable, shown

PATHS_MAX: Final = 1_000
ID: Final = "_id"

DEPTH_MAX: Final = 50

Project = Callable[[Value], Value]
Cut = Callable[[list[Value]], list[Value]]
"""What is left of an array; None: not even an empty one."""


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
    """The paths that are kept (`inclusive`) or left out, what is done to arrays, and what is computed. Of the
    arrays in `firsts` the element is shown that the question's filter found.
    """

    inclusive: bool
    paths: tuple[Path, ...]
    slices: tuple[Slice, ...] = ()
    elements: tuple[Element, ...] = ()
    with_id: bool = True
    computed: tuple[tuple[Path, Expression], ...] = ()
    firsts: tuple[Path, ...] = ()


def parse_projection(value: Value, where: str = "projection", now_us: int = 0) -> Projection | Refusal:
    """The projection that a JSON value is, or why it is none. `now_us` is what `$$NOW` means."""
    return refusable(lambda: _parse(value, where, Parser(now_us)))


def flat(value: dict[str, Value], before: str, where: str, depth: int = 0) -> Iterator[tuple[str, Value]]:
    """Paths and what is wanted of them; an object that is no operator stands for paths below."""
    if depth > DEPTH_MAX:
        raise RefusedError(where, f"a projection has at most {DEPTH_MAX} levels")
    for key, wanted in value.items():
        if isinstance(wanted, dict) and wanted and not any(name.startswith("$") for name in wanted):
            yield from flat(wanted, f"{before}{key}.", member(where, key), depth + 1)
        else:
            yield before + key, wanted


def _parse(value: Value, where: str, parser: Parser) -> Projection:
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
    computed: list[tuple[Path, Expression]] = []
    firsts: list[Path] = []
    with_id = True
    for key, wanted in flat(value, "", where):
        here = member(where, key)
        path = _path(key, here)
        if path[-1] == "$":
            path = path[:-1]
            if not isinstance(wanted, bool | int) or not wanted or firsts:
                raise RefusedError(here, "one path may end in $, and has a 1: the element that was found")
            firsts.append(path)
            kept.append(path)
        elif isinstance(wanted, dict) and wanted.keys() == {"$slice"}:
            slices.append(_slice(path, wanted["$slice"], here))
        elif isinstance(wanted, dict) and wanted.keys() == {"$elemMatch"}:
            elements.append(_element(path, wanted["$elemMatch"], here))
            kept.append(path)
        elif isinstance(wanted, dict | list | str):
            if isinstance(wanted, dict) and (not wanted or "$meta" in wanted):
                raise RefusedError(here, "a projection knows 1, 0, $slice, $elemMatch and expressions")
            computed.append((path, parser.expression(wanted, here)))
        elif not isinstance(wanted, bool) and not is_number(wanted):
            raise RefusedError(here, f"a path has 1 (keep) or 0 (leave out); found {shown(wanted)}")
        elif key == ID:
            with_id = bool(wanted)
        else:
            (kept if wanted else dropped).append(path)
    only_id = value.keys() == {ID} and with_id
    if (kept or computed) and dropped:
        raise RefusedError(
            where, "1s and 0s cannot stand together, but for _id: name what to keep, or what not"
        )
    inclusive = bool(kept) or bool(computed) or only_id
    check_apart([path for path, _ in computed] + kept, where)
    check_apart(kept + dropped if dropped else kept + [one.path for one in slices], where)
    if inclusive:
        kept += [one.path for one in slices]
    return Projection(
        inclusive,
        tuple(kept or dropped),
        tuple(slices),
        tuple(elements),
        with_id,
        tuple(computed),
        tuple(firsts),
    )


def _path(key: str, where: str) -> Path:
    path = parse_path(key)
    if isinstance(path, str):
        raise RefusedError(where, path)
    if "$" in path[:-1] or path == ("$",):
        raise RefusedError(where, "$ stands at the end of a path, after an array")
    return path


def check_apart(paths: list[Path], where: str) -> None:
    """Refuse paths that are there twice, or within one another."""
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


def projector(projection: Projection, found: Mapping[Path, Cut] | None = None) -> Project:
    """The projection as a function of a document; what it gives shares values with the document. `found` does
    what is done to the arrays in `firsts`. Raises RefusedError for what cannot be computed.
    """
    tree = _tree(projection.paths)
    steps: tuple[Slice | Element, ...] = (*projection.slices, *projection.elements)
    arrays = [_array_step(step) for step in steps]
    arrays += [(path, _of_arrays(cut)) for path, cut in (found or {}).items()]
    inclusive, computed = projection.inclusive, projection.computed

    def project(whole: Value) -> Value:
        document = whole
        for path, change in arrays:
            document = _changed(document, path, change)
        if not inclusive:
            return _without(document, tree) if tree else document
        document = _kept(document, tree)
        for path, expression in computed:
            value = expression(whole)
            if value is not MISSING:
                document = assigned(document, path, value)
        return document

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


def _array_step(step: Slice | Element) -> tuple[Path, Callable[[Value], Value]]:
    if isinstance(step, Slice):
        skip, count = step.skip, step.count

        def cut(items: list[Value]) -> list[Value]:
            first = max(0, len(items) + skip) if skip < 0 else skip
            return items[first : first + count]

        return step.path, _of_arrays(cut)
    meets = predicate(step.condition)

    def first_of(value: Value) -> Value:
        items = value if isinstance(value, list) else ()
        return next(([item] for item in items if meets([item])), MISSING)

    return step.path, first_of


def _of_arrays(cut: Cut) -> Callable[[Value], Value]:
    return lambda value: cut(value) if isinstance(value, list) else value


def _changed(value: Value, path: Path, change: Callable[[Value], Value]) -> Value:
    """A copy in which what the path leads to is changed, or left out."""
    if not path:
        return change(value)
    if isinstance(value, dict) and path[0] in value:
        found = _changed(value[path[0]], path[1:], change)
        if found is MISSING:
            return {key: item for key, item in value.items() if key != path[0]}
        return {**value, path[0]: found}
    if isinstance(value, list):
        return [_changed(item, path, change) for item in value]
    return value
