"""`$lookup` and `$unionWith`: pipelines that read other collections on their way.

    joined = parse_joined(stages)          # the stages before the first of them, and what comes after
    joined.first                           a pipeline as all others, for the peers (query/pipeline.py)
    for step in joined.steps:              where the request came in:
        asked = step.asks(documents)       what to ask of step.collection: a pipeline, as JSON
        documents = step.done(documents, found, below)

A `$lookup` by equality asks for the documents of the other collection that have one of the values that these
have: a few questions, however many documents there are, which an index on the other path (or its being the
`_id`) serves. So the values are bounded (VALUES_MAX), and so is what the documents hold together with what
was found for them (`Memory`). What stands after the first of these stages is done where the request came in.

Values meet as in filters: an array by its elements and as a whole, nothing as null. `let` is not taken: of
documents that belong together the values at two paths are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from core.json_values import JsonError, render
from query.accumulators import HELD_MAX, Memory
from query.document_match import predicate
from query.document_projection import ID
from query.document_values import MISSING, Path, Value, leaves, order_key
from query.expressions import field_path
from query.pipeline import CANNOT, STAGES_MAX, Pipeline, parse_pipeline, refusal_of
from query.pipeline_stages import Below, assigned
from query.refusals import Refusal, RefusedError, member, refusable, shown

LOOKUP: Final = "$lookup"
UNION: Final = "$unionWith"
VALUES_MAX: Final = 1_000
"""Values that are looked up in one question: as many ids as a plan names (documents/finding_plans.py)."""
QUESTIONS_MAX: Final = 10
DOCUMENTS_MAX: Final = 10_000
ASKED_BYTES_MAX: Final = 1024 * 1024
JOINS_MAX: Final = 10


class Step(msgspec.Struct, frozen=True):
    """One of the two stages, and the pipeline that follows it.

    `inner` are the stages of its own pipeline, which are asked along where they hold for all alike; `parsed`
    is what is done to the documents found for one.
    """

    collection: str
    where: str
    then: Pipeline
    inner: list[Value]
    parsed: Pipeline
    local: Path = ()
    foreign: str = ""
    foreign_path: Path = ()
    to: Path = ()

    @property
    def is_equality(self) -> bool:
        """Whether it looks up what has an equal value; else all take the same."""
        return bool(self.local)

    def asks(self, documents: Sequence[Value]) -> list[list[Value]] | Refusal:
        """The pipelines to be run there, whose results together are what is found."""
        return refusable(lambda: self._asks(documents))

    def _asks(self, documents: Sequence[Value]) -> list[list[Value]]:
        if not self.is_equality:
            return [self.inner]
        values: dict[Any, Value] = {}
        for document in documents:
            for value in _values(document, self.local):
                values.setdefault(order_key(value), value)
        listed = list(values.values())
        if len(listed) > (most := VALUES_MAX * QUESTIONS_MAX):
            raise RefusedError(self.where, f"more than {most} values are looked up: $match or $group before")
        return [self._asked(listed[at : at + VALUES_MAX]) for at in range(0, len(listed), VALUES_MAX)]

    def _asked(self, values: list[Value]) -> list[Value]:
        plain = [value for value in values if not _is_like_operator(value)]
        filters: list[Value] = [{self.foreign: {"$in": plain}}] if plain else []
        filters += [{self.foreign: {"$eq": value}} for value in values if _is_like_operator(value)]
        stages: list[Value] = [{"$match": filters[0] if len(filters) == 1 else {"$or": filters}}]
        try:
            size = len(render(stages))
        except JsonError as error:
            raise RefusedError(self.where, str(error)) from None
        if size > ASKED_BYTES_MAX:
            raise RefusedError(self.where, f"the values looked up have {size} bytes: $project shorter ones")
        return stages

    def done(self, documents: list[Value], found: list[Value], below: Below) -> list[Value] | Refusal:
        """What comes out after the stages that follow; `found` is what came of the question."""
        try:
            return self._done(documents, found, below)
        except CANNOT as error:
            return refusal_of(error)

    def _done(self, documents: list[Value], found: list[Value], below: Below) -> list[Value]:
        memory = Memory()
        for document in found:
            memory.hold(document, self.where)
        if not self.to:
            return _run(self.then, [*documents, *found], memory, below)
        if not self.is_equality:
            joined = [assigned(document, self.to, found) for document in documents]
            _hold(memory, len(found) * len(documents), self.where)
            return _run(self.then, joined, memory, below)
        if self.inner and len(documents) > DOCUMENTS_MAX:
            most = f"a pipeline is run on what is found for each of at most {DOCUMENTS_MAX} documents"
            raise RefusedError(self.where, f"{most}: $match or $limit before it, or put the stages after it")
        found = list({order_key(one.get(ID)): one for one in found}.values())  # several questions, one answer
        by_value: dict[Any, list[int]] = {}
        for at, document in enumerate(found):
            for key in dict.fromkeys(order_key(value) for value in _values(document, self.foreign_path)):
                by_value.setdefault(key, []).append(at)
        joined = []
        for document in documents:
            keys = dict.fromkeys(order_key(value) for value in _values(document, self.local))
            matching = sorted({at: True for key in keys for at in by_value.get(key, ())})
            here = [found[at] for at in matching]
            if self.inner:
                here = _run(self.parsed, here, memory, below)
            _hold(memory, len(here), self.where)
            joined.append(assigned(document, self.to, here))
        return _run(self.then, joined, memory, below)


class Joined(msgspec.Struct, frozen=True):
    """A pipeline with such stages: what the peers do first (with its JSON), and then step by step."""

    first: Pipeline
    stages: list[Value]
    steps: tuple[Step, ...]


def parse_joined(value: Value, where: str = "pipeline", now_us: int = 0) -> Joined | Refusal | None:
    """The pipeline that a JSON value is, or why it is none; None if it reads one collection only."""
    joins = (
        [at for at, item in enumerate(value) if isinstance(item, dict) and item.keys() & {LOOKUP, UNION}]
        if isinstance(value, list)
        else []
    )
    return refusable(lambda: _joined(value, joins, where, now_us)) if joins else None


def _joined(value: list[Value], joins: list[int], where: str, now_us: int) -> Joined:
    if len(value) > STAGES_MAX or len(joins) > JOINS_MAX:
        raise RefusedError(where, f"a pipeline has at most {STAGES_MAX} stages, {JOINS_MAX} of them joins")
    first = _pipeline(value[: joins[0]], where, now_us, 0)
    steps = []
    for at, end in zip(joins, [*joins[1:], len(value)], strict=True):
        here = f"{where}[{at}]"
        if len(value[at]) != 1:
            raise RefusedError(here, f"a stage is an object with one member; found {shown(value[at])}")
        ((name, argument),) = value[at].items()
        then = _pipeline(value[at + 1 : end], where, now_us, at + 1)
        read = _lookup if name == LOOKUP else _union
        steps.append(read(argument, member(here, name), then, now_us))
    return Joined(first, value[: joins[0]], tuple(steps))


def _pipeline(stages: list[Value], where: str, now_us: int, first: int) -> Pipeline:
    found = parse_pipeline(stages, where, now_us, first)
    if isinstance(found, Refusal):
        raise RefusedError(found.where, found.reason)
    return found


def _lookup(argument: Value, where: str, then: Pipeline, now_us: int) -> Step:
    known = {"from", "localField", "foreignField", "as", "pipeline"}
    takes = (
        f'{LOOKUP} takes {{"from", "localField", "foreignField", "as"}}, or "pipeline" beside or for fields'
    )
    if not isinstance(argument, dict):
        raise RefusedError(where, takes)
    if "let" in argument:
        raise RefusedError(where, "let is not supported: give localField and foreignField, and a pipeline")
    by_field = not argument.keys().isdisjoint(("localField", "foreignField"))
    names = ("from", "as", "localField", "foreignField") if by_field else ("from", "as")
    texts = [text for text in (argument.get(name) for name in names) if isinstance(text, str) and text]
    if not argument.keys() <= known or len(texts) < len(names) or not (by_field or "pipeline" in argument):
        raise RefusedError(where, takes)
    collection, to, *fields = texts
    inner = argument.get("pipeline", [])
    step = Step(collection, where, then, inner, _pipeline(inner, member(where, "pipeline"), now_us, 0))
    step = msgspec.structs.replace(step, to=field_path(to, member(where, "as")))
    if not by_field:
        return step
    if any(field.startswith("$") for field in fields):
        raise RefusedError(where, "localField and foreignField are paths without $")
    local, foreign = (field_path(field, where) for field in fields)
    return msgspec.structs.replace(step, local=local, foreign=fields[1], foreign_path=foreign)


def _union(argument: Value, where: str, then: Pipeline, now_us: int) -> Step:
    wanted = {"coll": argument} if isinstance(argument, str) else argument
    if not isinstance(wanted, dict) or not wanted.keys() <= {"coll", "pipeline"}:
        raise RefusedError(where, f'{UNION} takes a collection, or {{"coll", "pipeline"}}')
    collection, inner = wanted.get("coll"), wanted.get("pipeline", [])
    if not isinstance(collection, str) or not collection:
        raise RefusedError(where, "coll is the name of a collection")
    return Step(collection, where, then, inner, _pipeline(inner, member(where, "pipeline"), now_us, 0))


def _values(document: Value, path: Path) -> list[Value]:
    """What a document has there, as filters see it: an array, its elements, null for nothing."""
    found: list[Value] = []
    for value in leaves(document, path):
        found.append(None if value is MISSING else value)
        if isinstance(value, list):
            found += value
    return found


def _hold(memory: Memory, count: int, where: str) -> None:
    """So many documents are held once more, in arrays."""
    memory.hold([None] * min(count, HELD_MAX + 1), where)


def _is_like_operator(value: Value) -> bool:
    """Whether `$in` would not take it for a value."""
    return isinstance(value, dict) and any(key.startswith("$") for key in value)


def _run(pipeline: Pipeline, documents: list[Value], memory: Memory, below: Below) -> list[Value]:
    facet = pipeline.facet_alone(memory, below)
    meets = predicate(pipeline.filter)
    for document in documents:
        memory.begin_document()
        if meets(document) and not facet.first.push(document):
            break
    facet.first.end()
    found: list[Value] = facet.end.documents
    return found
