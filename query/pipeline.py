"""Aggregation pipelines: `[{"$match": {...}}, {"$group": {"_id": "$genre", "n": {"$sum": 1}}}, {"$sort":
...}]`.

    parsed = parse_pipeline(stages)
    part = parsed.part(below)           at each peer, for the documents of its ranges
    part.push(document) ...             part.state() is JSON
    whole = parsed.whole(below)         where the request came in
    whole.absorb(state) ...             whole.results()

**Where it is done.** The stages up to the first one that has to see all documents are done where the
documents are. If that one is a `$group`, each peer sends groups in the making and they are merged; if it is
a `$sort` that a `$limit` follows, the first documents of each peer; of a `$sample` a sample. Only otherwise
do the documents themselves travel, as the stages so far have left them, so project early.

The document's id is its member `_id`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from query.accumulators import Memory
from query.document_filter import ALL, And, Filter
from query.document_values import Value
from query.expressions import Parser
from query.numbers import NotComputableError
from query.pipeline_facets import Facet, faceted
from query.pipeline_parts import STAGES, Stage
from query.pipeline_stages import Below, Limited, Results, Sink
from query.refusals import Refusal, RefusedError, member, refusable, shown

STAGES_MAX: Final = 50

_JOINS: Final = "only _aggregate reads other collections, and not within a $facet or another join"
_WRITES: Final = "a pipeline only reads: write what it gives with _bulk"
_CANNOT: Final = {
    "$lookup": _JOINS,
    "$graphLookup": "ask step by step, with $lookup",
    "$unionWith": _JOINS,
    "$merge": _WRITES,
    "$out": _WRITES,
    "$search": "search by keyword is another request: /v1/search",
    "$geoNear": "there is no search by place",
    "$setWindowFields": "there are no windows: $group what is asked for",
    "$redact": "use $match and $project",
    "$densify": "there are no gaps filled: $group by what there is",
    "$fill": "use $addFields with $ifNull",
    "$indexStats": "GET /v1/docs/COLLECTION/_indexes tells about indexes",
    "$collStats": "GET /v1/collections/COLLECTION tells about a collection",
}
FACETS_MAX: Final = 20
_FACET: Final = "$facet"


class Pipeline(msgspec.Struct, frozen=True):
    """`filter` is the `$match` it begins with, which an index may serve; `stages` are those after it."""

    filter: Filter
    stages: tuple[Stage, ...]

    def part(self, below: Below) -> Part:
        """What a peer does with its documents (those that meet `filter`)."""
        memory = Memory()
        first, end, _ = self.facet_part(memory, below)
        return Part(first, end, memory)

    def facet_part(self, memory: Memory, below: Below) -> Facet:
        """The same, of a facet."""
        streaming, head, top = self._split()
        sink = head.part(memory, below, top) if head is not None else None
        end: Any = sink or Results(memory, "pipeline")
        first: Sink = end if sink is not None or top is None else Limited(0, top, end)
        return Facet(_chain(streaming, first, memory, below), end)

    def whole(self, below: Below) -> Whole:
        """What is done with the states of all peers."""
        memory = Memory()
        memory.begin_whole()
        return Whole(*self.facet_whole(memory, below))

    def facet_alone(self, memory: Memory, below: Below) -> Facet:
        """What sees all documents of a facet in one place."""
        results = Results(memory, "pipeline")
        return Facet(_chain(self.stages, results, memory, below), results)

    def facet_whole(self, memory: Memory, below: Below) -> Facet:
        """What takes the states of a facet."""
        results = Results(memory, "pipeline")
        streaming, head, top = self._split()
        rest = self.stages[len(streaming) + (head is not None) :]
        tail = _chain(rest, results, memory, below)
        if head is None:
            return Facet(tail, results, None)
        merger = head.whole(memory, below, top, tail)
        return Facet(merger, results, merger.absorb)

    def _split(self) -> tuple[tuple[Stage, ...], Stage | None, int | None]:
        """The stages that see one document at a time; the one after, if it can be divided; and how many
        documents of its output, or of the stages', are wanted at most (None: all).
        """
        at = 0
        while at < len(self.stages) and self.stages[at].streams:
            at += 1
        divided = at < len(self.stages) and self.stages[at].divides
        head = self.stages[at] if divided else None
        return self.stages[:at], head, _wanted(self.stages[at + divided :])

    def run(self, documents: Sequence[Value], below: Below) -> list[Value] | Refusal:
        """All of it in one place, for documents that meet `filter`."""
        part = self.part(below)
        for document in documents:
            if not part.push(document):
                break
        whole = self.whole(below)
        state = part.state()
        if isinstance(state, Refusal):
            return state
        whole.absorb(state)
        return whole.results()


def _wanted(stages: Sequence[Stage]) -> int | None:
    """How many documents a sequence of $skip and $limit takes from what comes before it."""
    skipped, wanted = 0, None
    for stage in stages:
        if stage.limit is not None:
            most = skipped + stage.limit
            wanted = most if wanted is None else min(wanted, most)
        elif stage.skip is not None:
            skipped += stage.skip
        else:
            break
    return wanted


def _chain(stages: Sequence[Stage], last: Sink, memory: Memory, below: Below) -> Sink:
    sink = last
    for stage in reversed(stages):
        sink = stage.sink(memory, below, sink)
    return sink


class _Stateful(Protocol):
    def state(self) -> Value:
        """JSON."""


CANNOT: Final = (RefusedError, NotComputableError)
"""What stages raise: accumulators know no place."""


def refusal_of(error: RefusedError | NotComputableError) -> Refusal:
    """Why a pipeline cannot go on."""
    return error.refusal if isinstance(error, RefusedError) else Refusal("pipeline", str(error))


class Part:
    """One peer's share of a pipeline."""

    def __init__(self, first: Sink, last: _Stateful, memory: Memory) -> None:
        self._memory = memory
        self._first = first
        self._last = last
        self._refusal: Refusal | None = None

    def push(self, document: Value) -> bool:
        """Take a document; False if no more are wanted, or the pipeline cannot be done."""
        self._memory.begin_document()
        try:
            return self._first.push(document)
        except CANNOT as error:
            self._refusal = refusal_of(error)
            return False

    def state(self) -> Value | Refusal:
        """What is sent to whoever asked; JSON."""
        try:
            return self._refusal or self._last.state()
        except CANNOT as error:
            return refusal_of(error)


class Whole:
    """The end of a pipeline: takes the states of all parts, gives the documents."""

    def __init__(self, first: Sink, results: Results, absorb: Callable[[Value], bool] | None) -> None:
        self._first = first
        self._results = results
        self._absorb = absorb
        self._wanted = True
        self._refusal: Refusal | None = None

    @property
    def wants(self) -> bool:
        """Whether more parts can change the result."""
        return self._wanted and self._refusal is None

    def absorb(self, state: Value) -> None:
        """Take one part's state; parts are taken in an order that is always the same."""
        try:
            if self._absorb is not None:
                self._absorb(state)
                return
            for document in state:
                if not self._wanted:
                    return
                self._wanted = self._first.push(document)
        except CANNOT as error:
            self._refusal = self._refusal or refusal_of(error)

    def results(self) -> list[Value] | Refusal:
        """The documents that come out."""
        if self._refusal is None:
            try:
                self._first.end()
            except CANNOT as error:
                self._refusal = refusal_of(error)
        return self._refusal or self._results.documents


def parse_pipeline(
    value: Value, where: str = "pipeline", now_us: int = 0, first: int = 0
) -> Pipeline | Refusal:
    """The pipeline that a JSON value is, or why it is none. `now_us` is what `$$NOW` means (0: nothing),
    `first` the place of its first stage in what was given.
    """
    return refusable(lambda: _matching(_stages(value, where, now_us, first=first)))


def _stages(value: Value, where: str, now_us: int, facets: bool = True, *, first: int = 0) -> list[Stage]:
    if not isinstance(value, list):
        raise RefusedError(
            where, f'a pipeline is an array of stages as {{"$match": ...}}; found {shown(value)}'
        )
    if len(value) > STAGES_MAX:
        raise RefusedError(where, f"a pipeline has at most {STAGES_MAX} stages; this one has {len(value)}")
    parser = Parser(now_us)
    stages: list[Stage] = []
    for index, item in enumerate(value, first):
        here = f"{where}[{index}]"
        if not isinstance(item, dict) or len(item) != 1:
            raise RefusedError(
                here, f'a stage is an object with one member as {{"$limit": 10}}; found {shown(item)}'
            )
        ((name, argument),) = item.items()
        if name == _FACET and facets:
            stages.append(_facet(argument, member(here, name), now_us))
            continue
        make = STAGES.get(name)
        if make is None:
            why = f"is no stage; there are {', '.join(STAGES)}, {_FACET}"
            why = f"is not supported: {_CANNOT[name]}" if name in _CANNOT else why
            why = "cannot stand within a $facet" if name == _FACET else why
            raise RefusedError(here, f"{name[:60]} {why}")
        stages += make(parser, argument, member(here, name))
    return stages


def _facet(argument: Value, where: str, now_us: int) -> Stage:
    if not isinstance(argument, dict) or not 1 <= len(argument) <= FACETS_MAX:
        raise RefusedError(where, f"$facet takes an object of 1 to {FACETS_MAX} pipelines by name")
    pipelines: dict[str, Pipeline] = {}
    for name, value in argument.items():
        here = member(where, name)
        if not name or "." in name or name.startswith("$"):
            raise RefusedError(here, "a facet's name is not empty, has no dot and begins with no $")
        pipelines[name] = Pipeline(ALL, tuple(_stages(value, here, now_us, facets=False)))
    alone, divided = faceted(pipelines)
    return Stage(alone, divided=divided)


def _matching(stages: list[Stage]) -> Pipeline:
    filters = []
    while stages and stages[0].filter is not None:
        filters.append(stages.pop(0).filter)
    found: Filter = ALL
    if filters:
        found = filters[0] if len(filters) == 1 else And(tuple(filters))  # type: ignore[arg-type,assignment]
    return Pipeline(found, tuple(stages))
