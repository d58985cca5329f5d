"""What each stage of an aggregation is: from its JSON to what runs it (query/pipeline_stages.py)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, Final

import msgspec

from core.json_values import is_number
from query.accumulators import ACCUMULATORS, Make, Memory
from query.accumulators_chosen import CHOSEN
from query.document_filter import Filter, cost_of, parse_filter, whole
from query.document_match import predicate
from query.document_projection import ID, check_apart, flat, parse_projection, projector
from query.document_sort import Sort, SortKey, parse_sort
from query.document_values import MISSING, Path, Value, order_key, parse_path, rank
from query.expressions import Expression, Parser, field_path
from query.pipeline_stages import (
    Below,
    Bucketed,
    Filtered,
    Grouped,
    Limited,
    Mapped,
    Ordered,
    Sampled,
    Sink,
    Unwound,
    assigned,
)
from query.refusals import Refusal, RefusedError, member, shown

SAMPLE_MAX: Final = 10_000
COUNT_MAX: Final = 10**12
BOUNDARIES_MAX: Final = 1_000

Divided = Callable[[Memory, Below, int | None, Sink | None], Any]
"""Makes the stage at a peer (no sink: it only has a state) or where the states come together."""


class Stage(msgspec.Struct, frozen=True):
    """One stage. One that `streams` sees one document at a time; one that `divides` can be done in parts."""

    sink: Callable[[Memory, Below, Sink], Sink]
    streams: bool = False
    divided: Divided | None = None
    limit: int | None = None
    skip: int | None = None
    filter: Filter | None = None

    @property
    def divides(self) -> bool:
        """Whether peers can do their share of it."""
        return self.divided is not None

    def part(self, memory: Memory, below: Below, top: int | None) -> Any:
        """A peer's share."""
        assert self.divided is not None
        return self.divided(memory, below, top, None)

    def whole(self, memory: Memory, below: Below, top: int | None, sink: Sink) -> Any:
        """What takes the shares."""
        assert self.divided is not None
        return self.divided(memory, below, top, sink)


def _or_refused(found: Any) -> Any:
    if isinstance(found, Refusal):
        raise RefusedError(found.where, found.reason)
    return found


# --- one document at a time


def _match(parser: Parser, argument: Value, where: str) -> list[Stage]:
    condition: Filter = _or_refused(parse_filter(argument, where, expressions=True, now_us=parser.now_us))
    holds, cost = predicate(condition), cost_of(condition)
    spent = cost.clauses + 100 * cost.steps

    def sink(memory: Memory, below: Below, then: Sink) -> Sink:
        del below
        return Filtered(holds, spent, memory, then)

    return [Stage(sink, True, filter=condition)]


def _mapped(change: Callable[[Value], Value], where: str) -> list[Stage]:
    return [Stage(lambda memory, below, sink: Mapped(change, where, memory, sink), True)]  # noqa: ARG005


def _project(parser: Parser, argument: Value, where: str) -> list[Stage]:
    if not isinstance(argument, dict) or not argument:
        raise RefusedError(where, '$project takes an object as {"title": 1, "total": {"$add": ["$a", "$b"]}}')
    paths_of = dict(flat(argument, "", where))
    plain = {key: item for key, item in paths_of.items() if isinstance(item, bool) or is_number(item)}
    computed = _fields(parser, {k: v for k, v in paths_of.items() if k not in plain}, where)
    if computed and any(key != ID and not item for key, item in plain.items()):
        raise RefusedError(where, "what is computed stands beside 1s, not beside 0s")
    parsed = _or_refused(parse_projection(plain, where))
    check_apart([*parsed.paths, *(path for path, _ in computed)], where)
    inclusive = parsed.inclusive or bool(computed)
    paths = parsed.paths if not inclusive or not parsed.with_id else (*parsed.paths, (ID,))
    if not inclusive and not parsed.with_id:
        paths = (*paths, (ID,))
    keep = projector(msgspec.structs.replace(parsed, inclusive=inclusive, paths=paths))

    def change(document: Value) -> Value:
        return _with(keep(document), document, computed)

    return _mapped(change, where)


def _with(base: Value, document: Value, fields: list[tuple[Path, Expression]]) -> Value:
    for path, expression in fields:
        value = expression(document)
        if value is not MISSING or len(path) > 1 or (isinstance(base, dict) and path[0] in base):
            base = assigned(base, path, value)
    return base


def _fields(parser: Parser, argument: Value, where: str) -> list[tuple[Path, Expression]]:
    if not isinstance(argument, dict):
        raise RefusedError(
            where, f'an object as {{"total": {{"$sum": "$items"}}}} belongs here; found {shown(argument)}'
        )
    found = []
    for key, item in argument.items():
        here = member(where, key)
        path = parse_path(key)
        if isinstance(path, str):
            raise RefusedError(here, path)
        if key.startswith("$"):
            raise RefusedError(here, "a member's name does not begin with $")
        found.append((path, parser.expression(item, here)))
    check_apart([path for path, _ in found], where)
    return found


def _add_fields(parser: Parser, argument: Value, where: str) -> list[Stage]:
    fields = _fields(parser, argument, where)
    return _mapped(lambda document: _with(document, document, fields), where)


def _unset(parser: Parser, argument: Value, where: str) -> list[Stage]:
    del parser
    names = argument if isinstance(argument, list) else [argument]
    if not names or not all(isinstance(name, str) for name in names):
        raise RefusedError(where, f"$unset takes a path or an array of paths; found {shown(argument)}")
    paths = tuple(field_path(name, where) for name in names)
    drop = projector(_or_refused(parse_projection({name: 0 for name in names if name != ID}, where)))
    without_id = (ID,) in paths

    def change(document: Value) -> Value:
        document = drop(document)
        return assigned(document, (ID,), MISSING) if without_id else document

    return _mapped(change, where)


def _replace_root(parser: Parser, argument: Value, where: str) -> list[Stage]:
    if not isinstance(argument, dict) or argument.keys() != {"newRoot"}:
        raise RefusedError(where, '$replaceRoot takes {"newRoot": ...}')
    return _replace_with(parser, argument["newRoot"], member(where, "newRoot"))


def _replace_with(parser: Parser, argument: Value, where: str) -> list[Stage]:
    expression = parser.expression(argument, where)

    def change(document: Value) -> Value:
        root = expression(document)
        if not isinstance(root, dict):
            raise RefusedError(where, "the new root is no object for a document: $match those that have one")
        return root

    return _mapped(change, where)


def _unwind(parser: Parser, argument: Value, where: str) -> list[Stage]:
    del parser
    wanted = argument if isinstance(argument, dict) else {"path": argument}
    known = {"path", "includeArrayIndex", "preserveNullAndEmptyArrays"}
    path, position = wanted.get("path"), wanted.get("includeArrayIndex")
    keep_empty = wanted.get("preserveNullAndEmptyArrays", False)
    if not isinstance(path, str) or not path.startswith("$") or not isinstance(keep_empty, bool):
        raise RefusedError(where, '$unwind takes "$path", or {"path": "$path", "includeArrayIndex", ...}')
    if unknown := [key for key in wanted if key not in known]:
        raise RefusedError(where, f"$unwind does not know {unknown[0][:60]!r}")
    if position is not None and (not isinstance(position, str) or position.startswith("$")):
        raise RefusedError(where, "includeArrayIndex is the name of a member")
    at, index = field_path(path, where), field_path(position, where) if position else ()
    return [Stage(lambda memory, below, sink: Unwound(at, index, keep_empty, memory, sink), True)]  # noqa: ARG005


# --- counting


def _number(argument: Value, least: int, where: str) -> int:
    number = whole(argument)
    if number is None or not least <= number <= COUNT_MAX:
        raise RefusedError(where, f"a whole number from {least} belongs here; found {shown(argument)}")
    return number


def _limit(parser: Parser, argument: Value, where: str) -> list[Stage]:
    del parser
    count = _number(argument, 1, where)
    return [Stage(lambda memory, below, sink: Limited(0, count, sink), limit=count)]  # noqa: ARG005


def _skip(parser: Parser, argument: Value, where: str) -> list[Stage]:
    del parser
    count = _number(argument, 0, where)
    return [Stage(lambda memory, below, sink: Limited(count, None, sink), skip=count)]  # noqa: ARG005


# --- all documents at once


def _sort(parser: Parser, argument: Value, where: str) -> list[Stage]:
    del parser
    order: Sort = _or_refused(parse_sort(argument, where))
    if not order:
        raise RefusedError(where, "$sort takes at least one path")
    return [_sorted(order)]


def _sorted(order: Sort) -> Stage:
    def divided(memory: Memory, below: Below, top: int | None, sink: Sink | None) -> Ordered:
        del below
        return Ordered(order, top, memory, sink)

    def alone(memory: Memory, below: Below, sink: Sink) -> Sink:
        del below
        return Ordered(order, None, memory, sink)

    return Stage(alone, divided=divided)


def _sample(parser: Parser, argument: Value, where: str) -> list[Stage]:
    del parser
    if not isinstance(argument, dict) or argument.keys() != {"size"}:
        raise RefusedError(where, '$sample takes {"size": n}')
    size = _number(argument["size"], 1, where)
    if size > SAMPLE_MAX:
        raise RefusedError(where, f"a sample has at most {SAMPLE_MAX} documents; found {size}")

    def divided(memory: Memory, below: Below, top: int | None, sink: Sink | None) -> Sampled:
        del top
        return Sampled(size, below, memory, sink)

    return [Stage(lambda memory, below, sink: Sampled(size, below, memory, sink), divided=divided)]


Fields = list[tuple[str, Make, Expression, str]]
Finish = Callable[[list[Value]], Iterable[Value]]


def _grouped(key: Expression, fields: Fields, finish: Finish = iter) -> Stage:
    def divided(memory: Memory, below: Below, top: int | None, sink: Sink | None) -> Grouped:
        del below, top
        return Grouped(key, fields, memory, finish, sink)

    return Stage(lambda memory, below, sink: divided(memory, below, None, sink), divided=divided)


def _accumulated(parser: Parser, argument: Value, where: str) -> Fields:
    found: Fields = []
    for name, item in argument.items():
        here = member(where, name)
        if not isinstance(item, dict) or len(item) != 1:
            raise RefusedError(
                here, f'an accumulator is an object as {{"$sum": "$price"}}; found {shown(item)}'
            )
        if "." in name or name.startswith("$"):
            raise RefusedError(here, "a member of a group has a name without dots and without $ before it")
        ((operator, operand),) = item.items()
        at = member(here, operator)
        configure = CHOSEN.get(operator)
        if configure is not None:
            found.append((name, *configure(parser, operator, operand, at), at))
            continue
        make = ACCUMULATORS.get(operator)
        if make is None:
            known = ", ".join((*ACCUMULATORS, *CHOSEN))
            raise RefusedError(here, f"there is no accumulator {operator[:60]}; there are {known}")
        if operator == "$count":
            if operand != {}:
                raise RefusedError(at, "$count takes {}")
            operand = 1
        found.append((name, make, parser.expression(operand, at), at))
    return found


def _group(parser: Parser, argument: Value, where: str) -> list[Stage]:
    if not isinstance(argument, dict) or ID not in argument:
        raise RefusedError(where, '$group takes {"_id": what to group by (null: all), "name": {"$sum": ...}}')
    key = parser.expression(argument[ID], member(where, ID))
    fields = {name: item for name, item in argument.items() if name != ID}
    return [_grouped(key, _accumulated(parser, fields, where))]


def _one(parser: Parser, where: str) -> Expression:
    return parser.expression(1, where)


def _count(parser: Parser, argument: Value, where: str) -> list[Stage]:
    if not isinstance(argument, str) or not argument or argument.startswith("$") or "." in argument:
        raise RefusedError(where, "$count takes the name of the member that holds the count")
    group = _grouped(
        parser.expression(None, where), [(argument, ACCUMULATORS["$sum"], _one(parser, where), where)]
    )
    return [group, *_mapped(lambda document: assigned(document, (ID,), MISSING), where)]


def _sort_by_count(parser: Parser, argument: Value, where: str) -> list[Stage]:
    key = parser.expression(argument, where)
    group = _grouped(key, [("count", ACCUMULATORS["$sum"], _one(parser, where), where)])
    return [group, _sorted((SortKey(("count",), True), SortKey((ID,), False)))]


def _bucket(parser: Parser, argument: Value, where: str) -> list[Stage]:
    known = {"groupBy", "boundaries", "default", "output"}
    if not isinstance(argument, dict) or "groupBy" not in argument or not argument.keys() <= known:
        raise RefusedError(where, '$bucket takes {"groupBy", "boundaries", "default", "output"}')
    boundaries = argument.get("boundaries")
    if not isinstance(boundaries, list) or not 2 <= len(boundaries) <= BOUNDARIES_MAX:
        raise RefusedError(member(where, "boundaries"), f"2 to {BOUNDARIES_MAX} values in ascending order")
    keys = [order_key(value) for value in boundaries]
    if any(a >= b for a, b in pairwise(keys)) or len({rank(v) for v in boundaries}) > 1:
        raise RefusedError(member(where, "boundaries"), "values of one type in ascending order")
    value_of = parser.expression(argument["groupBy"], member(where, "groupBy"))
    has_default, default = "default" in argument, argument.get("default")
    output = argument.get("output", {"count": {"$sum": 1}})
    if not isinstance(output, dict):
        raise RefusedError(member(where, "output"), "accumulators as those of $group")
    if has_default and keys[0] <= order_key(default) < keys[-1]:
        raise RefusedError(member(where, "default"), "the default lies outside of all boundaries")

    def key(document: Value) -> Value:
        value = value_of(document)
        at = bisect_right(keys, order_key(value)) - 1
        if 0 <= at < len(keys) - 1:
            return boundaries[at]
        if not has_default:
            found = "nothing" if value is MISSING else shown(value)
            raise RefusedError(where, f"{found} lies in no bucket: give a default, or $match before")
        return default

    def ordered(groups: list[Value]) -> list[Value]:
        return sorted(groups, key=lambda group: order_key(group[ID]))

    return [_grouped(key, _accumulated(parser, output, member(where, "output")), ordered)]


def _bucket_auto(parser: Parser, argument: Value, where: str) -> list[Stage]:
    known = {"groupBy", "buckets", "output"}
    if not isinstance(argument, dict) or not {"groupBy", "buckets"} <= argument.keys() <= known:
        raise RefusedError(where, '$bucketAuto takes {"groupBy", "buckets", "output"}')
    count = _number(argument["buckets"], 1, member(where, "buckets"))
    key = parser.expression(argument["groupBy"], member(where, "groupBy"))
    output = argument.get("output", {"count": {"$sum": 1}})
    if not isinstance(output, dict):
        raise RefusedError(member(where, "output"), "accumulators as those of $group")
    fields = _accumulated(parser, output, member(where, "output"))

    def sink(memory: Memory, below: Below, then: Sink) -> Sink:
        del below
        return Bucketed(key, count, fields, memory, then)

    return [Stage(sink)]


Parse = Callable[[Parser, Value, str], list[Stage]]

STAGES: Final[dict[str, Parse]] = {
    "$match": _match,
    "$project": _project,
    "$addFields": _add_fields,
    "$set": _add_fields,
    "$unset": _unset,
    "$replaceRoot": _replace_root,
    "$replaceWith": _replace_with,
    "$unwind": _unwind,
    "$group": _group,
    "$bucket": _bucket,
    "$bucketAuto": _bucket_auto,
    "$count": _count,
    "$sortByCount": _sort_by_count,
    "$sort": _sort,
    "$limit": _limit,
    "$skip": _skip,
    "$sample": _sample,
}
"""What each stage's JSON is made into."""
