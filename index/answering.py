"""From documents that matched to an answer: order, page, aggregations. Shared by both kinds of segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from index.asking import TEXTS_BYTES_MAX, Ask, Found, Refusal
from index.bounds import RefusedError
from index.computing import compute
from index.fields import plain
from index.judging import Held, Scorer, compile_query
from index.ordering import is_after, sort_values, sorted_hits
from index.query import BOOLEAN, EXACT, ID, NUMBER, Hit, Query, Statistics, Value
from lsm.keys import split_row_key


class Scorers:
    """The queries of one search, each compiled once."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        self._known: dict[Query, Scorer] = {}

    def of(self, query: Query) -> Scorer:
        """The function that scores by this query."""
        found = self._known.get(query)
        if found is None:
            found = self._known[query] = compile_query(query, self._statistics)
        return found


class Match:
    """A document that matched, with its score (index/computing.py, Matched)."""

    __slots__ = ("_scorers", "held", "score")

    def __init__(self, held: Held, score: float, scorers: Scorers) -> None:
        self.held = held
        self.score = score
        self._scorers = scorers

    @property
    def key(self) -> bytes:
        """The key of its row."""
        return self.held.key

    def values(self, field: str, view: str) -> Sequence[Value]:
        """Its values in a view of a field; of view "" as booleans, numbers, EXACT text; of `_id` its id."""
        if field == ID:
            return (split_row_key(self.held.key)[2].decode("utf-8", "replace"),)
        found = self.held.fields.get(field)
        if found is None:
            return ()
        if view:
            return [plain(value) for value in found.of(view)]
        return [plain(value) for each in (BOOLEAN, NUMBER, EXACT) for value in found.of(each)]

    def has(self, field: str) -> bool:
        """Whether it has any value at or below this path."""
        return self.held.exists(field)

    def matches(self, query: Query) -> bool:
        """Whether it matches a planned query."""
        return self._scorers.of(query)(self.held) is not None

    def nested(self, path: str) -> list[Match]:
        """Each object at this path, as if it were the only one of the document."""
        return [Match(held, self.score, self._scorers) for held in self.held.nested(path)]


def first_texts(texts: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The first of these documents that are not too large together."""
    found, size = {}, 0
    for key, text in texts.items():
        size += len(text)
        if size > TEXTS_BYTES_MAX:
            break
        found[key] = text
    return found


def hit_of(match: Match, ask: Ask) -> Hit:
    """A match as a hit, with what it is sorted by."""
    return Hit(match.key, match.score, sort_values(ask.sort, match.score, match.values))


def answer(ask: Ask, matches: Sequence[Match]) -> Found | Refusal:
    """The answer, given all matches."""
    hits: list[Hit] = []
    if ask.limit:
        hits = [hit_of(match, ask) for match in matches]
        if ask.after is not None:
            hits = [hit for hit in hits if is_after(hit, ask.after, ask.sort)]
        hits = sorted_hits(hits, ask.sort, ask.limit)
    try:
        partials = compute(ask.aggregations, matches) if ask.aggregations else {}
    except RefusedError as refused:
        return Refusal("too_many_buckets", refused.error.told())
    best = max((match.score for match in matches), default=0.0)
    return Found(len(matches), tuple(hits), partials, best)
