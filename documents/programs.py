"""Programs over documents: what a peer does with the documents it holds, and the part it sends of that.

    find        those that meet a filter, in an order: the first `limit` after a place
    count       how many do
    distinct    the values that a path has in them
    aggregate   the stages of a pipeline that can be done in parts (query/pipeline.py)

A program travels as bytes and is checked again where it is run. A part says whether its maker wants no more
documents, and of a find whether it is `cut`: then nothing is known beyond its last document. Parts of the
same documents, however divided, fold to the same (documents/finding.py).

The document's id is its member `_id` to filters, orders and pipelines, whatever member of that name it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from core import errors, limits
from core.json_values import JsonError, Value, parse, render
from core.row import Row
from core.schema import Keyspace, Table
from documents.collections import Collection, collection_of
from documents.positional import found_in
from documents.values import cells_of, id_of, tag_of, text_of
from query.document_filter import Filter, cost_of, parse_filter
from query.document_match import predicate
from query.document_projection import ID, Project, Projection, parse_projection, projector
from query.document_sort import Sort, parse_sort, place, sort_values
from query.document_values import MISSING, NUMBER, TEXT, Path, leaves, order_key, parse_path, rank
from query.numbers import NotComputableError
from query.pipeline import Part as PipelinePart, Pipeline, parse_pipeline
from query.refusals import Refusal, RefusedError

FIND, COUNT, DISTINCT, AGGREGATE = "find", "count", "distinct", "aggregate"

PART_BYTES_MAX: Final = 4 * limits.MIB
"""Of the documents in one part."""
DISTINCT_MAX: Final = 10_000
DISTINCT_BYTES_MAX: Final = 4 * limits.MIB


class Program(msgspec.Struct, frozen=True, array_like=True):
    """What to do; JSON in `filter`, `sort`, `projection`, `stages` and `after` (the values sorted by).

    `until` and `until_key` are a place beyond which nothing is wanted, as `after` and `after_key` are one
    before which nothing is. `ordered`: documents come in the order of their keys, and no other is asked
    for. `by_index`: of each range those with a number or a text come in the order of what is sorted by first.
    `now_us` is what `$$NOW` means to all peers.
    """

    kind: str
    filter: bytes = b"{}"
    sort: bytes = b"[]"
    projection: bytes = b""
    limit: int = 0
    after: bytes = b"[]"
    after_key: bytes = b""
    until: bytes = b"[]"
    until_key: bytes = b""
    ordered: bool = False
    path: str = ""
    stages: bytes = b"[]"
    by_index: bool = False
    now_us: int = 0


class FoundDocument(msgspec.Struct, frozen=True, array_like=True):
    """One document of a find: its key in the store, what it is sorted by (JSON), tag and (projected) text."""

    key: bytes
    values: bytes
    tag: str
    text: bytes


class Part(msgspec.Struct, frozen=True, array_like=True):
    """What one piece of work gave. `refused` is (where, why) if it cannot be done.

    `body` is JSON: a count, values, a pipeline's state.
    """

    documents: tuple[FoundDocument, ...] = ()
    body: bytes = b""
    cut: bool = False
    full: bool = False
    refused: tuple[str, str] | None = None


_encoder = msgspec.msgpack.Encoder()
_program = msgspec.msgpack.Decoder(Program)
_part = msgspec.msgpack.Decoder(Part)


def encode_program(program: Program) -> bytes:
    """As it travels."""
    return _encoder.encode(program)


def decode_part(data: bytes) -> Part:
    """A part from its bytes."""
    return _part.decode(data)


class Runner(Protocol):
    """A program at work. `range_over` says, after a row, that nothing more of its range is wanted."""

    range_over: bool

    def take(self, key: bytes, row: Row, now_us: int) -> bool:
        """Look at a row; False if no more are wanted."""

    def part(self) -> bytes:
        """What came of it."""


Below = Callable[[int], int]


def start_program(data: bytes, table: Table, keyspace: Keyspace, below: Below) -> Runner | str:
    """A program ready to run over rows of a table, or why it cannot be."""
    collection = collection_of(table, keyspace)
    if collection is None:
        return f"{table.keyspace}.{table.name} is no collection of documents"
    try:
        program = _program.decode(data)
        return _Contained(_started(program, collection, below))
    except (msgspec.DecodeError, JsonError) as error:
        return f"this program is not understood: {error}"
    except _NotUnderstoodError as error:
        return str(error)
    except UNFORESEEN as error:
        return errors.unforeseen(error)


UNFORESEEN: Final = (*errors.UNFORESEEN, NotComputableError, JsonError)
"""What computing may end with where nobody thought of these numbers and texts."""


class _Contained:
    """A program that computes for a stranger on strangers' data: what it fails at ends the request, and not
    the peer, which would take the next one with it that is asked instead.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._failure = b""

    @property
    def range_over(self) -> bool:
        return self._runner.range_over

    @range_over.setter
    def range_over(self, over: bool) -> None:
        self._runner.range_over = over

    def take(self, key: bytes, row: Row, now_us: int) -> bool:
        """Look at a row; False if that cannot be done."""
        try:
            return self._runner.take(key, row, now_us)
        except UNFORESEEN as error:
            self._failure = _failed(error, key)
            return False

    def part(self) -> bytes:
        """What came of it, or why nothing did."""
        try:
            return self._failure or self._runner.part()
        except UNFORESEEN as error:
            return _failed(error, b"")


def _failed(error: Exception, key: bytes) -> bytes:
    where = f" (document {id_of(key)[:60]!r})" if key else ""
    return _encoder.encode(Part(refused=("query", errors.unforeseen(error) + where)))


class _NotUnderstoodError(Exception):
    pass


def _good(parsed: Any) -> Any:
    if isinstance(parsed, Refusal | str):
        raise _NotUnderstoodError(parsed if isinstance(parsed, str) else parsed.text)
    return parsed


def _started(program: Program, collection: Collection, below: Below) -> Runner:
    if program.kind == AGGREGATE:
        pipeline: Pipeline = _good(parse_pipeline(parse(program.stages), now_us=program.now_us))
        return _Aggregating(_Look(collection, pipeline.filter, with_id=True), pipeline.part(below))
    wanted: Filter = _good(parse_filter(parse(program.filter), expressions=True, now_us=program.now_us))
    asking = (program.filter, program.sort, program.path.encode())
    with_id = any(b"_id" in text or b"$$" in text for text in asking)
    look = _Look(collection, wanted, with_id)
    if program.kind == FIND:
        projection = _good(_shape(program)) if program.projection else None
        project = None if projection is None else _projector(projection, wanted)
        return _Finding(look, program, _good(parse_sort(parse(program.sort))), project)
    if program.kind == COUNT:
        return _Counting(look)
    if program.kind == DISTINCT:
        return _Distinct(look, _good(parse_path(program.path)))
    raise _NotUnderstoodError(f"there is no program {program.kind[:40]!r}")


def _shape(program: Program) -> Projection | Refusal:
    return parse_projection(parse(program.projection), now_us=program.now_us)


def _projector(projection: Projection, wanted: Filter) -> Project:
    cuts = {path: found_in(wanted, path) for path in projection.firsts}
    return projector(projection, {path: cut for path, cut in cuts.items() if cut is not None})


class _Look:
    """Rows as documents that meet a filter."""

    def __init__(self, collection: Collection, wanted: Filter, with_id: bool) -> None:
        """`with_id`: something asks for the member `_id`."""
        self._collection = collection
        self._cost = cost_of(wanted)
        self._with_id = with_id
        self._meets = predicate(wanted)
        self.refused: tuple[str, str] | None = None
        self.tag = ""
        self.text = b""

    def at(self, key: bytes, row: Row, now_us: int, needs_value: bool = True) -> Value:
        """The document with its id as `_id`, if it meets the filter; else MISSING. Sets `text`."""
        cells = cells_of(self._collection, row)
        text = text_of(cells, now_us)
        if text is None:
            return MISSING
        self.text = text
        if not self._cost.clauses and not needs_value:
            return None
        problem = self._cost.problem(text)
        if problem is not None:
            self.refused = ("filter", f"{problem} ({id_of(key)[:60]})")
            return MISSING
        try:
            document = parse(text)
        except (JsonError, RecursionError) as error:  # it came through another door
            self.refused = ("document", f"{id_of(key)[:60]!r} cannot be read: {error}")
            return MISSING
        if self._with_id and isinstance(document, dict):
            document[ID] = id_of(key)
        try:
            return document if self._meets(document) else MISSING
        except RefusedError as error:
            self.refuse("filter", error, key)
            return MISSING

    def refuse(self, where: str, error: Exception, key: bytes) -> None:
        """What is asked cannot be computed of this document."""
        refusal = error.refusal if isinstance(error, RefusedError) else Refusal(where, str(error))
        self.refused = (refusal.where, f"{refusal.reason} (document {id_of(key)[:60]!r})")

    def tag_at(self, row: Row, now_us: int) -> str:
        """The document's entity tag."""
        cells = cells_of(self._collection, row)
        return tag_of(cells, max(cell.version for cell in cells), now_us)


class _Finding:
    """Keeps the first documents of an order."""

    range_over = False

    def __init__(self, look: _Look, program: Program, sort: Sort, project: Project | None) -> None:
        self._look = look
        self._sort = sort
        self._limit = program.limit
        self._needs_value = bool(sort) or project is not None
        self._ordered = program.ordered and not sort
        self._by_index = program.by_index and bool(sort)
        self._keep_at = program.limit + (16 if self._by_index else program.limit + 100)
        self._project = project
        self._after = place(sort, parse(program.after), program.after_key) if program.after_key else None
        self._until = place(sort, parse(program.until), program.until_key) if program.until_key else None
        self._held: list[tuple[Any, bytes, list[Value], str, bytes]] = []
        self._bytes = 0
        self._cut = False
        self._full = False

    def take(self, key: bytes, row: Row, now_us: int) -> bool:
        """Hold the document if it may be among the first."""
        if self._until is not None and self._ordered and (key,) > self._until:
            self._full = True
            return False
        document = self._look.at(key, row, now_us, needs_value=self._needs_value)
        if document is MISSING:
            return self._look.refused is None
        values = sort_values(self._sort, document)
        here = place(self._sort, values, key)
        if self._by_index and self._until is not None and self._until[0] < here[0]:
            self.range_over = rank(values[0]) in (NUMBER, TEXT)  # others were looked at before
        if self._after is not None and not self._after < here:
            return True
        if self._until is not None and self._until < here:
            return True
        self._held.append((here, key, values, self._look.tag_at(row, now_us), self._look.text))
        self._bytes += len(self._look.text)
        if self._ordered and (len(self._held) >= self._limit or self._bytes >= PART_BYTES_MAX):
            self._cut = self._full = True
            return False
        if len(self._held) >= self._keep_at or self._bytes >= 2 * PART_BYTES_MAX:
            self._keep_first()
        return True

    def _keep_first(self) -> None:
        self._held.sort(key=lambda held: held[0])
        kept, size = 0, 0
        for _, _, _, _, text in self._held[: self._limit]:
            size += len(text)
            if kept and size > PART_BYTES_MAX:
                break
            kept += 1
        if kept < len(self._held):
            self._cut = True
            del self._held[kept:]
            self._until = self._held[-1][0]
        self._bytes = sum(len(text) for _, _, _, _, text in self._held)

    def part(self) -> bytes:
        """The first documents."""
        self._keep_first()
        found = []
        for _, key, values, tag, text in self._held:
            if self._project is not None:
                try:
                    text = _projected(self._project, text, id_of(key))
                except (RefusedError, JsonError) as error:
                    self._look.refuse("projection", error, key)
                    break
            found.append(FoundDocument(key, render(values), tag, text))
        return _encoder.encode(Part(tuple(found), b"", self._cut, self._full, self._look.refused))


def _projected(project: Callable[[Value], Value], text: bytes, document_id: str) -> bytes:
    document = parse(text)
    if not isinstance(document, dict):
        return text
    document.pop(ID, None)
    document[ID] = document_id
    kept = project(document)
    kept.pop(ID, None)
    return render(kept)


class _Counting:
    """Counts documents."""

    range_over = False

    def __init__(self, look: _Look) -> None:
        self._look = look
        self._count = 0

    def take(self, key: bytes, row: Row, now_us: int) -> bool:
        """Count one."""
        if self._look.at(key, row, now_us, needs_value=False) is not MISSING:
            self._count += 1
        return self._look.refused is None

    def part(self) -> bytes:
        """The count."""
        return _encoder.encode(Part(body=render(self._count), refused=self._look.refused))


class Values:
    """Different values, each once, in the order in which they came; bounded."""

    def __init__(self) -> None:
        self.values: dict[tuple[Any, ...], Value] = {}
        self.refused: tuple[str, str] | None = None
        self._bytes = 0

    def add(self, value: Value) -> bool:
        """Take one more; False if they are too many."""
        key = order_key(value)
        if key not in self.values:
            self._bytes += len(render(value))
            if len(self.values) >= DISTINCT_MAX or self._bytes > DISTINCT_BYTES_MAX:
                why = f"more than {DISTINCT_MAX} values, or {DISTINCT_BYTES_MAX} bytes of them: match less"
                self.refused = ("path", why)
                return False
            self.values[key] = value
        return True


class _Distinct:
    """Lists the values of a path; of an array its elements."""

    range_over = False

    def __init__(self, look: _Look, path: Path) -> None:
        self._look = look
        self._path = path
        self._values = Values()

    def take(self, key: bytes, row: Row, now_us: int) -> bool:
        """List those of one document."""
        document = self._look.at(key, row, now_us)
        if document is not MISSING:
            for leaf in leaves(document, self._path):
                for value in leaf if isinstance(leaf, list) else (leaf,):
                    if value is not MISSING and not self._values.add(value):
                        return False
        return self._look.refused is None

    def part(self) -> bytes:
        """The values."""
        refused = self._look.refused or self._values.refused
        return _encoder.encode(Part(body=render(list(self._values.values.values())), refused=refused))


class _Aggregating:
    """Pushes documents into a pipeline's part."""

    range_over = False

    def __init__(self, look: _Look, part: PipelinePart) -> None:
        self._look = look
        self._part = part
        self._full = False

    def take(self, key: bytes, row: Row, now_us: int) -> bool:
        """Push one document."""
        document = self._look.at(key, row, now_us)
        if document is MISSING:
            return self._look.refused is None
        self._full = not self._part.push(document)
        return not self._full

    def part(self) -> bytes:
        """The state."""
        state = self._part.state()
        if isinstance(state, Refusal):
            return _encoder.encode(Part(refused=(state.where, state.reason)))
        try:
            body = render(state)
        except JsonError as error:
            return _encoder.encode(Part(refused=("pipeline", str(error))))
        if len(body) > limits.FRAME_BYTES_MAX - limits.MIB:
            why = "what a peer has to send is too large: $project, $group or $limit earlier"
            return _encoder.encode(Part(refused=("pipeline", why)))
        return _encoder.encode(Part(body=body, full=self._full, refused=self._look.refused))
