"""Questions about many documents: what a client sends, what peers are asked for it, what becomes of their
answers.

    query = find_query(collection, body)            # or count_query, distinct_query, aggregate_query
    GatherRequest(..., fold=query.fold(), ...)      # core/gathering.py
    fold.result()

A page of a find is the first `limit` documents after a place, whatever peers hold them: each sends its own
first ones, and those that are first of all are kept. All that a cursor holds is that place, so any peer
goes on from it, and what is written meanwhile is seen where it lies after it. A cursor says of which
collection, filter and order it is, and is refused elsewhere.
"""

from __future__ import annotations

import base64
import binascii
from abc import ABC, abstractmethod
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final

import msgspec

from core import limits
from core.errors import unforeseen
from core.json_values import JsonError, Value, parse, render
from core.ports import PeerId
from core.requests import Invalid
from documents.collections import Collection
from documents.positional import found_in
from documents.programs import (
    AGGREGATE,
    COUNT,
    DISTINCT,
    FIND,
    UNFORESEEN,
    FoundDocument,
    Part,
    Program,
    Values,
    decode_part,
    encode_program,
)
from lsm.keys import split_row_key
from query.document_filter import Filter, parse_filter, whole
from query.document_projection import Projection, parse_projection
from query.document_sort import Sort, parse_sort, place
from query.document_values import parse_path
from query.pipeline import Pipeline, parse_pipeline
from query.refusals import Refusal, shown

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 10_000
SKIP_MAX: Final = 10_000
PAGE_BYTES_MAX: Final = 8 * limits.MIB
"""A page holds fewer documents than asked if they are large."""
CURSOR_CHARS_MAX: Final = 256 * limits.KIB
_SUM_BYTES: Final = 8


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ended: of which question (`what`), after which document, and what is still to be
    skipped.
    """

    table: int
    what: bytes
    values: bytes
    key: bytes
    skip: int = 0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Place)


def encode_place(where: Place) -> str:
    """The cursor."""
    data = _encoder.encode(where)
    return base64.urlsafe_b64encode(_sum(data) + data).decode().rstrip("=")


def decode_place(text: str) -> Place | None:
    """The place that a cursor names; None if it is damaged."""
    if len(text) > CURSOR_CHARS_MAX or not text.isascii():
        return None
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        if _sum(data[_SUM_BYTES:]) != data[:_SUM_BYTES]:
            return None
        return _decoder.decode(data[_SUM_BYTES:])
    except (binascii.Error, msgspec.DecodeError):
        return None


def _sum(data: bytes) -> bytes:
    return blake2b(data, digest_size=_SUM_BYTES).digest()


# --- find


class FindQuery(msgspec.Struct, frozen=True):
    """A page of documents: JSON texts as they travel, and what they were parsed to."""

    collection: Collection
    condition: Filter
    filter: bytes
    order: Sort
    sort: bytes
    shape: Projection | None
    projection: bytes
    limit: int
    skip: int
    after: Place | None
    now_us: int = 0

    @property
    def what(self) -> bytes:
        """What a cursor of this question is bound to."""
        return blake2b(_encoder.encode((self.filter, self.sort)), digest_size=_SUM_BYTES).digest()

    def fold(self, ordered: bool) -> FindFold:
        """`ordered`: peers give documents in the order of their keys, which is the order asked for."""
        return FindFold(self, ordered)


def find_query(collection: Collection, body: dict[str, Value], now_us: int = 0) -> FindQuery | Invalid:
    """The page that a body asks for: filter, sort, projection, limit, skip and cursor."""
    condition = parse_filter(body.get("filter", {}), expressions=True, now_us=now_us)
    if isinstance(condition, Refusal):
        return refused("bad_filter", condition)
    sort = body.get("sort") or []
    order = parse_sort(sort)
    if isinstance(order, Refusal):
        return refused("bad_sort", order)
    projection, shape = body.get("projection"), None
    if projection:
        parsed = parse_projection(projection, now_us=now_us)
        if isinstance(parsed, Refusal):
            return refused("bad_projection", parsed)
        if any(found_in(condition, path) is None for path in parsed.firsts):
            why = "$ needs a condition in the filter on the array before it"
            return refused("bad_projection", Refusal("projection", why))
        shape = parsed
    limit = _count(body, "limit", LIMIT_DEFAULT, 1, LIMIT_MAX)
    skip = _count(body, "skip", 0, 0, SKIP_MAX)
    for number in (limit, skip):
        if isinstance(number, Invalid):
            return number
    assert isinstance(limit, int) and isinstance(skip, int)
    query = FindQuery(
        collection,
        condition,
        render(body.get("filter", {})),
        order,
        render(sort),
        shape,
        render(projection) if projection else b"",
        limit,
        skip,
        None,
        now_us,
    )
    cursor = body.get("cursor")
    if cursor is None:
        return query
    where = decode_place(cursor) if isinstance(cursor, str) else None
    if where is None or not _fits(where, query):
        detail = f"this is no cursor of this filter and sort in {collection.name}: begin again without it"
        return Invalid("bad_cursor", detail)
    return msgspec.structs.replace(query, after=where, skip=where.skip)


def _fits(where: Place, query: FindQuery) -> bool:
    """Whether a place is one that a page of this question could end at: its sum is nobody's signature."""
    try:
        values = parse(where.values)
        table = split_row_key(where.key)[0]
    except (JsonError, ValueError):
        return False
    if not isinstance(values, list) or len(values) != len(query.order) or not 0 <= where.skip <= SKIP_MAX:
        return False
    return where.table == table == query.collection.table and where.what == query.what


def _count(body: dict[str, Value], name: str, default: int, least: int, most: int) -> int | Invalid:
    value = body.get(name)
    if value is None:
        return default
    number = whole(value)
    if number is None or not least <= number <= most:
        detail = f"{name} is a whole number from {least} to {most}; found {shown(value)}"
        return Invalid("bad_limit", detail + ("; go on by cursor" if name == "skip" else ""))
    return number


def refused(code: str, refusal: Refusal) -> Invalid:
    """A refusal of query/ as an answer."""
    return Invalid(code, refusal.text)


class _Fold(ABC):
    """What all folds do: parts are decoded, and the first refusal ends everything."""

    def __init__(self) -> None:
        self.refused: Invalid | None = None
        self.returned: dict[PeerId, int] = {}
        """How many documents each peer sent."""

    def absorb(self, server: PeerId, part: bytes) -> bool:
        """Take a part."""
        decoded = decode_part(part)
        self.returned[server] = self.returned.get(server, 0) + len(decoded.documents)
        if decoded.refused is not None:
            where, why = decoded.refused
            self.refused = self.refused or Invalid("bad_query", f"{where}: {why}")
            return False
        try:
            return self.take(decoded)
        except UNFORESEEN as error:
            self.refused = self.refused or Invalid("bad_query", unforeseen(error))
            return False

    @abstractmethod
    def take(self, part: Part) -> bool:
        """Fold it; False if its peer need not go on."""

    def done(self) -> bool:
        """Whether nothing more is wanted."""
        return self.refused is not None


class FindFold(_Fold):
    """The first documents of all peers' first ones."""

    def __init__(self, query: FindQuery, ordered: bool) -> None:
        super().__init__()
        self._query = query
        self._ordered = ordered and not query.order
        self.by_index = False
        """Whether documents come in the order of an index from now on."""
        self._keep = query.skip + query.limit + 1
        self._held: list[tuple[Any, FoundDocument]] = []
        self._frontier: Any = None

    def program(self, server: PeerId) -> bytes:
        """Up to what is known to be enough."""
        del server
        query, last = self._query, self._held[-1][1] if len(self._held) >= self._keep else None
        program = Program(FIND, query.filter, query.sort, query.projection, self._keep, ordered=self._ordered)
        program = msgspec.structs.replace(program, now_us=query.now_us)
        if query.after is not None:
            program = msgspec.structs.replace(program, after=query.after.values, after_key=query.after.key)
        if self.by_index:
            program = msgspec.structs.replace(program, by_index=True)
        if last is not None:
            program = msgspec.structs.replace(program, until=last.values, until_key=last.key)
        return encode_program(program)

    def take(self, part: Part) -> bool:
        """Merge; beyond the last document of a part that was cut nothing is known."""
        order = self._query.order
        held = {one.key: True for _, one in self._held}  # one with several values may come twice
        found = [(place(order, parse(one.values), one.key), one) for one in part.documents]
        if part.cut and found:
            self._limit_to(found[-1][0])
        self._held += [each for each in found if each[1].key not in held]
        self._held.sort(key=lambda held: held[0])
        size = 0
        for at, (_, one) in enumerate(self._held):
            size += len(one.text)
            if at and size > PAGE_BYTES_MAX:
                self._limit_to(self._held[at - 1][0])
                break
        del self._held[self._keep :]
        if self._frontier is not None:
            self._held = [held for held in self._held if not self._frontier < held[0]]
        return not part.full

    def _limit_to(self, where: Any) -> None:
        if self._frontier is None or where < self._frontier:
            self._frontier = where

    def is_full(self) -> bool:
        """Whether the page ends before what has nothing to be sorted by, in an order that descends."""
        end = self._held[self._keep - 1][0] if len(self._held) >= self._keep else self._frontier
        order = self._query.order
        return end is not None and bool(end[0] < place(order, [None] * len(order), b"")[0])

    def result(self) -> tuple[list[FoundDocument], str | None]:
        """The page, and the cursor to go on with if there may be more."""
        query = self._query
        documents = [one for _, one in self._held]
        page = documents[query.skip : query.skip + query.limit]
        end = query.skip + len(page)
        more = len(documents) > end or self._frontier is not None
        last = documents[end - 1] if page else documents[-1] if documents else None
        if not more or last is None:
            return page, None
        skip = max(0, query.skip - len(documents))
        return page, encode_place(Place(query.collection.table, query.what, last.values, last.key, skip))


# --- count, distinct, aggregate


class CountFold(_Fold):
    """Adds up."""

    def __init__(self, filter_text: bytes, now_us: int = 0) -> None:
        super().__init__()
        self._program = encode_program(Program(COUNT, filter_text, now_us=now_us))
        self.count = 0

    def program(self, server: PeerId) -> bytes:
        """Always the same."""
        del server
        return self._program

    def take(self, part: Part) -> bool:
        """Add."""
        self.count += parse(part.body)
        return True


class DistinctFold(_Fold):
    """Each value once."""

    def __init__(self, filter_text: bytes, path: str, now_us: int = 0) -> None:
        super().__init__()
        self._program = encode_program(Program(DISTINCT, filter_text, path=path, now_us=now_us))
        self._values = Values()

    def program(self, server: PeerId) -> bytes:
        """Always the same."""
        del server
        return self._program

    def take(self, part: Part) -> bool:
        """List what is new."""
        for value in parse(part.body):
            if not self._values.add(value):
                assert self._values.refused is not None
                self.refused = Invalid("bad_query", self._values.refused[1])
                return False
        return True

    def result(self) -> list[Value]:
        """The values in their order."""
        return [self._values.values[key] for key in sorted(self._values.values)]


class AggregateFold(_Fold):
    """A pipeline's end."""

    def __init__(
        self, pipeline: Pipeline, stages: bytes, below: Callable[[int], int], now_us: int = 0
    ) -> None:
        super().__init__()
        self._program = encode_program(Program(AGGREGATE, stages=stages, now_us=now_us))
        self._whole = pipeline.whole(below)

    def program(self, server: PeerId) -> bytes:
        """Always the same."""
        del server
        return self._program

    def take(self, part: Part) -> bool:
        """Merge a state."""
        self._whole.absorb(parse(part.body))
        return not part.full

    def done(self) -> bool:
        """Whether the pipeline wants no more, or cannot go on."""
        return super().done() or not self._whole.wants

    def result(self) -> list[Value] | Invalid:
        """The documents that come out."""
        found = self.refused or self._whole.results()
        return refused("bad_query", found) if isinstance(found, Refusal) else found


class FilterQuery(msgspec.Struct, frozen=True):
    """A count, or the values of a path."""

    condition: Filter
    filter: bytes
    path: str = ""


def filter_query(
    body: dict[str, Value], with_path: bool = False, now_us: int = 0
) -> FilterQuery | Invalid:
    """The filter, and for a distinct the path, of a body."""
    condition = parse_filter(body.get("filter", {}), expressions=True, now_us=now_us)
    if isinstance(condition, Refusal):
        return refused("bad_filter", condition)
    path = body.get("path", "")
    if with_path:
        problem = "distinct takes the path of the values" if not isinstance(path, str) else parse_path(path)
        if isinstance(problem, str):
            return Invalid("bad_query", f"path: {problem}")
    return FilterQuery(condition, render(body.get("filter", {})), path if with_path else "")


class AggregateQuery(msgspec.Struct, frozen=True):
    """A pipeline, with its JSON."""

    pipeline: Pipeline
    stages: bytes


def aggregate_query(body: dict[str, Value], now_us: int = 0) -> AggregateQuery | Invalid:
    """The pipeline of a body."""
    stages = body.get("pipeline")
    parsed = parse_pipeline(stages, now_us=now_us)
    if isinstance(parsed, Refusal):
        return refused("bad_pipeline", parsed)
    return AggregateQuery(parsed, render(stages))


def rendered(values: list[Value]) -> bytes | Invalid:
    """Values as JSON, or why they cannot be (a number of too many digits)."""
    try:
        return render(values)
    except JsonError as error:
        return Invalid("bad_query", str(error))
