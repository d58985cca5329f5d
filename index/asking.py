"""What a peer's index is asked, what it answers, and the port behind which it does so.

The coordinator of a search asks each peer that serves it twice: first for the weights of its terms
(`Segments.statistics`), which it sums up, then for hits and aggregations under the weights of the whole
cluster (`Segments.search`). Each time only documents whose token lies in the ranges asked of this peer count,
so no document counts twice however many replicas of it there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from core import limits
from index.aggregation import Aggregations, Partials
from index.query import After, Fuzzy, Hit, Planned, SortKey, Statistics, TermKey, TokenRanges

TEXTS_BYTES_MAX: Final = 256 * limits.KIB
"""What documents that come along with hits may take together, about; others are fetched."""


class Ask(msgspec.Struct, frozen=True):
    """A search as one index is asked it: the planned query, how to weigh, and what is wanted of the matches.

    Without `sort`, by score, best first; ties always break by key, ascending. At most `limit` hits (0: only
    counts and aggregations), and those only that come after `after`, which changes neither the total nor the
    aggregations. Scores need not be computed unless `scored`. With `texts`, documents come along.
    """

    query: Planned
    statistics: Statistics
    limit: int
    sort: tuple[SortKey, ...] = ()
    after: After | None = None
    aggregations: Aggregations = ()
    scored: bool = True
    texts: bool = False


class Found(msgspec.Struct, frozen=True):
    """What an index found: the exact number of matches, the first hits in order, mergeable aggregations; and
    the documents of hits, by key, if they were asked for, where they are at hand and not too large together.
    """

    total: int
    hits: tuple[Hit, ...]
    aggregations: Partials = {}
    score_max: float = 0.0
    texts: dict[bytes, bytes] = {}


class Refusal(msgspec.Struct, frozen=True):
    """The index cannot answer this as asked (a pattern that expands to too much, too many buckets): a user's
    error. `code` is a stable word.
    """

    code: str
    detail: str


class Segments(Protocol):
    """The inverted index of one table at one peer, for reading. Slow: called by jobs only.

    Raises StoreError (core/errors.py) for damaged files; whatever a user can cause is a Refusal.
    """

    def covers(self) -> int:
        """The offset of the local log up to which everything is visible to a search."""

    def statistics(self, terms: Sequence[TermKey], fields: Sequence[str], ranges: TokenRanges) -> Statistics:
        """The weights of terms, and the lengths of fields, among the documents in these ranges."""

    def search(self, ask: Ask, ranges: TokenRanges) -> Found | Refusal:
        """Hits and aggregations among the documents in these ranges."""

    def similar(self, query: Fuzzy) -> tuple[TermKey, ...]:
        """Terms within the distance, the nearest first, at most index.similar.TERMS_MAX: for scoring."""

    def expand(
        self, field: str, view: str, prefix: str, limit: int, ranges: TokenRanges
    ) -> tuple[tuple[str, int], ...]:
        """Terms of a field that begin so, with how many documents have them: the most frequent, then in
        order.

        For suggestions and completion; frequencies may count documents outside the ranges.
        """


# --- what travels between peers


class Weigh(msgspec.Struct, frozen=True, tag="weigh"):
    """Count these terms, and the lengths of these fields. Answered with Weighed."""

    terms: tuple[TermKey, ...]
    fields: tuple[str, ...]


class Alike(msgspec.Struct, frozen=True, tag="alike"):
    """Which terms are like these, and in how many documents? Answered with Weighed."""

    queries: tuple[Fuzzy, ...]


class Seek(msgspec.Struct, frozen=True, tag="seek"):
    """Search, if the index covers this offset of the log of the peer asked. Answered with Sought."""

    ask: Ask
    covers: int = 0


class SeekAlone(msgspec.Struct, frozen=True, tag="seek_alone"):
    """Weigh and seek in one, where one index holds all that is searched. Answered with SoughtAlone."""

    ask: Ask
    terms: tuple[TermKey, ...]
    fields: tuple[str, ...]


class Expand(msgspec.Struct, frozen=True, tag="expand"):
    """Terms that begin with each of these prefixes. Answered with Expanded."""

    field: str
    view: str
    prefixes: tuple[str, ...]
    limit: int


class Weighed(msgspec.Struct, frozen=True, tag="weighed"):
    """What was counted, by an index that covered this offset of its peer's log."""

    statistics: Statistics
    covers: int


class Sought(msgspec.Struct, frozen=True, tag="sought"):
    """What was found."""

    found: Found


class SoughtAlone(msgspec.Struct, frozen=True, tag="sought_alone"):
    """What was found, and by which weights."""

    found: Found
    statistics: Statistics


class Expanded(msgspec.Struct, frozen=True, tag="expanded"):
    """Per prefix the terms, with how many documents have them."""

    terms: tuple[tuple[tuple[str, int], ...], ...]


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """What an index cannot answer."""

    refusal: Refusal


BEHIND = "behind"
"""The code of a Refusal by an index that does not cover what it was asked to cover."""

Work = Weigh | Alike | Seek | SeekAlone | Expand
Result = Weighed | Sought | SoughtAlone | Expanded | Refused

_encoder = msgspec.msgpack.Encoder()
_work: msgspec.msgpack.Decoder[Work] = msgspec.msgpack.Decoder(Work)
_result: msgspec.msgpack.Decoder[Result] = msgspec.msgpack.Decoder(Result)


def encode(each: Work | Result) -> bytes:
    """Its bytes in a message."""
    return _encoder.encode(each)


def unsendable(query: Planned, aggregations: Aggregations, order: Any) -> str:
    """Why a question cannot be sent to peers, "" if it can: a number that no message holds would end the peer
    that sends it. `order`: by what, and after what.
    """
    try:
        _encoder.encode((query, aggregations, order))
    except (OverflowError, UnicodeEncodeError):
        return "a number or a text in this search is beyond what can be asked"
    return ""


def decode_work(data: bytes) -> Work:
    """What is to be done; raises msgspec.DecodeError."""
    return _work.decode(data)


def decode_result(data: bytes) -> Result:
    """What came of it; raises msgspec.DecodeError."""
    return _result.decode(data)


def perform(segments: Segments, work: Work, ranges: TokenRanges) -> Result:
    """Do it. Called by a job."""
    if isinstance(work, Weigh):
        return Weighed(segments.statistics(work.terms, work.fields, ranges), segments.covers())
    if isinstance(work, Alike):
        keys = dict.fromkeys(key for query in work.queries for key in segments.similar(query))
        return Weighed(segments.statistics(tuple(keys), (), ranges), segments.covers())
    if isinstance(work, Expand):
        return Expanded(
            tuple(
                segments.expand(work.field, work.view, prefix, work.limit, ranges) for prefix in work.prefixes
            )
        )
    if isinstance(work, SeekAlone):
        statistics = segments.statistics(work.terms, work.fields, ranges)
        alone = segments.search(msgspec.structs.replace(work.ask, statistics=statistics), ranges)
        return Refused(alone) if isinstance(alone, Refusal) else SoughtAlone(alone, statistics)
    if segments.covers() < work.covers:
        return Refused(Refusal(BEHIND, "the index was opened anew and has not caught up yet"))
    found = segments.search(work.ask, ranges)
    return Refused(found) if isinstance(found, Refusal) else Sought(found)
