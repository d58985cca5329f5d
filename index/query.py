"""The query tree: what a search asks of an index, in words that peers send each other.

There are two stages in one family of frozen structs. A door (index/query_string.py, index/query_dsl.py)
builds *asked* nodes, which hold text as the user wrote it (`Match`, `MatchPhrase`, `Compare`, `Equals`,
`MoreLike`). The coordinator rewrites those (index/rewriting.py) with the mapping and its analyzers, so what
goes to peers is *planned*: `Planned` nodes only, in terms exactly as they stand in the index. No peer
analyzes anything, so all peers mean the same by one query.

A field is named by its path in the document, keys joined by dots, and by the **view** of it that is meant,
because one value is indexed in several ways: a string as analyzed TEXT and as one EXACT keyword, and as a
DATE if it is one; numbers and booleans as themselves. `ALL` is the text of all fields together.

A search of all text (`ALL`) also asks whether a value is just what was asked for, word by word (`WHOLE`): so
the city that is called Seoul comes before the places in the time zone Asia/Seoul. That is a field like any
other, with an idf and a length of its own, and its score is added: a match in both weighs more, none is
needed.

Scores. A TEXT `Term` scores BM25 (k1 1.2, b 0.75; Robertson and Zaragoza 2009, with Lucene's idf
ln(1 + (N - n + 0.5) / (n + 0.5))), a `Phrase` BM25 with the sum of its terms' idf and its own frequency; N, n
and average lengths are those of the whole cluster and come with the query (`Statistics`). All other leaves
(other views, `Terms`, `Prefix`, `Wildcard`, `Regexp`, `Fuzzy`, `Range`, `Exists`, `Ids`, `All`) score 1 where
they match. `Bool` adds up what matches in `must` and `should`; `filter` and `must_not` score nothing. `Boost`
multiplies. `DisMax` takes the best plus `tie_breaker` times each other one. `Boosting` multiplies by `factor`
where `negative` matches too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

TEXT: Final = "text"
EXACT: Final = "exact"
NUMBER: Final = "number"
DATE: Final = "date"
BOOLEAN: Final = "boolean"
"""How a value is indexed. Term values: text and exact str, number int or float, date int (microseconds since
1970 UTC), boolean bool.
"""

ALL: Final = "_all"
"""The field that holds the text of all fields (and of no view but TEXT)."""

WHOLE: Final = "_whole"
"""The field that holds short values of all fields, each as one term: for what is named just as was asked."""

K1: Final = 1.2
B: Final = 0.75

Value = bool | int | float | str
"""A value as it stands in an index."""


# --- planned: what peers execute


class All(msgspec.Struct, frozen=True, tag="all"):
    """Every document."""


class Nothing(msgspec.Struct, frozen=True, tag="none"):
    """No document."""


class Term(msgspec.Struct, frozen=True, tag="term"):
    """Documents with this term in this view of the field."""

    field: str
    view: str
    value: Value


class Terms(msgspec.Struct, frozen=True, tag="terms"):
    """Documents with any of these terms."""

    field: str
    view: str
    values: tuple[Value, ...]


class Phrase(msgspec.Struct, frozen=True, tag="phrase"):
    """Documents with these TEXT terms at these relative positions (the first is at 0, gaps allowed, several
    terms at one position are alternatives).

    `slop` is how many moves of terms, in sum, may make it fit. With `prefix` the terms at the last position
    are prefixes of terms.
    """

    field: str
    terms: tuple[tuple[int, str], ...]
    slop: int = 0
    prefix: bool = False


class Prefix(msgspec.Struct, frozen=True, tag="prefix"):
    """Documents with a term that begins so (TEXT or EXACT)."""

    field: str
    view: str
    prefix: str


class Wildcard(msgspec.Struct, frozen=True, tag="wildcard"):
    """Documents with a term of this pattern (TEXT or EXACT).

    `*` is any characters, `?` one, a backslash takes the next character as it is.
    """

    field: str
    view: str
    pattern: str


class Regexp(msgspec.Struct, frozen=True, tag="regexp"):
    """Documents with a term of this expression (TEXT or EXACT; index/regexes.py)."""

    field: str
    view: str
    expression: str


class Fuzzy(msgspec.Struct, frozen=True, tag="fuzzy"):
    """Documents with a term within this distance (0 to 2; Damerau-Levenshtein: a transposition counts 1, if
    `transpositions`); the first `prefix_length` characters are equal.
    """

    field: str
    view: str
    term: str
    distance: int
    prefix_length: int = 0
    transpositions: bool = True


class Range(msgspec.Struct, frozen=True, tag="range"):
    """Documents with a value between (EXACT, NUMBER, DATE); None is no bound."""

    field: str
    view: str
    low: Value | None = None
    high: Value | None = None
    include_low: bool = True
    include_high: bool = True


class Exists(msgspec.Struct, frozen=True, tag="exists"):
    """Documents with any value of any view at this path or below it."""

    field: str


class Ids(msgspec.Struct, frozen=True, tag="ids"):
    """The documents of these rows (keys as in lsm/keys.py)."""

    keys: tuple[bytes, ...]


class Bool(msgspec.Struct, frozen=True, tag="bool"):
    """Documents that match all of `must` and `filter`, none of `must_not`, and of `should` at least
    `minimum`.

    With nothing in `must`, `filter` and `should` it matches all that `must_not` does not exclude.
    """

    must: tuple[Query, ...] = ()
    should: tuple[Query, ...] = ()
    must_not: tuple[Query, ...] = ()
    filter: tuple[Query, ...] = ()
    minimum: int = 0


class DisMax(msgspec.Struct, frozen=True, tag="dis_max"):
    """Documents that match any; the best score counts, the others by `tie_breaker` (0 to 1)."""

    queries: tuple[Query, ...]
    tie_breaker: float = 0.0


class Boosting(msgspec.Struct, frozen=True, tag="boosting"):
    """Documents that match `positive`, scored lower (times `factor`, 0 to 1) if they match `negative`."""

    positive: Query
    negative: Query
    factor: float


class Constant(msgspec.Struct, frozen=True, tag="constant"):
    """Documents that match, each with this score."""

    query: Query
    score: float = 1.0


class ScoreFunction(msgspec.Struct, frozen=True):
    """One function of a FunctionScore, for the documents that match `filter` (None: all), times `weight`.

    `kind` is `weight`, `field` (the least value of a field, times `factor`, as `shape` says: log1p, ...),
    `random` (of the row's key and `seed`), or `decay`: by the distance of a value from `origin` beyond
    `offset` (`shape` gauss, exp, linear: `decay` at `scale`); `mode` chooses among several values. Dates are
    microseconds.
    """

    kind: str
    filter: Query | None = None
    weight: float = 1.0
    field: str = ""
    view: str = "number"
    shape: str = ""
    factor: float = 1.0
    missing: float | None = None
    seed: int | None = None
    origin: float | str = 0.0
    scale: float = 1.0
    offset: float = 0.0
    decay: float = 0.5
    mode: str = "min"


class FunctionScore(msgspec.Struct, frozen=True, tag="function_score"):
    """What matches the query with a score that functions change, combined by `score_mode` to at most
    `boost_max` and with the query's own by `boost_mode`; what then scores below `least` does not match.
    """

    query: Query
    functions: tuple[ScoreFunction, ...] = ()
    score_mode: str = "multiply"
    boost_mode: str = "multiply"
    boost_max: float = 3.4028235e38
    least: float | None = None


class Nested(msgspec.Struct, frozen=True, tag="nested"):
    """Documents of which one object at this path matches by itself. `mode` says which score of those that do
    counts: avg, max, min, sum, or none (0).
    """

    path: str
    query: Query
    mode: str = "avg"


class InFields(msgspec.Struct, frozen=True, tag="in_fields"):
    """Documents that match a query of the text of all fields (`ALL`) by those fields alone whose paths fit a
    pattern with `*`.
    """

    pattern: str
    query: Query


class Boost(msgspec.Struct, frozen=True, tag="boost"):
    """The same documents, the score multiplied (`factor` >= 0)."""

    query: Query
    factor: float


# --- asked: what users write, before the mapping and its analyzers have been at it


class Match(msgspec.Struct, frozen=True, tag="match"):
    """Text to be analyzed as the field's text is: documents with its terms.

    `minimum` as in Elasticsearch's minimum_should_match ("" : by `operator`, all of them or any). `fuzziness`
    is "", "AUTO", "AUTO:3,6", "0", "1" or "2". With `prefix` the last term is a prefix (bool_prefix). Text
    without any term matches nothing, with `zero_terms` all everything.
    """

    field: str
    text: str
    operator: str = "or"
    minimum: str = ""
    fuzziness: str = ""
    prefix_length: int = 0
    analyzer: str = ""
    prefix: bool = False
    transpositions: bool = True
    zero_terms: str = "none"


class MatchPhrase(msgspec.Struct, frozen=True, tag="match_phrase"):
    """Text to be analyzed: documents with its terms in this order."""

    field: str
    text: str
    slop: int = 0
    prefix: bool = False
    analyzer: str = ""
    zero_terms: str = "none"


class Equals(msgspec.Struct, frozen=True, tag="equals"):
    """A value that is not analyzed: documents that have any of them, in the view that it fits."""

    field: str
    values: tuple[Value, ...]


class Compare(msgspec.Struct, frozen=True, tag="compare"):
    """A range of what the user wrote: numbers, dates (with date mathematics) or text, by what the bounds are.

    `zone` is the time zone of dates that name none (+09:00, Asia/Seoul), `format` how dates are written
    (index/date_formats.py; with one, only dates are meant).
    """

    field: str
    low: Value | None = None
    high: Value | None = None
    include_low: bool = True
    include_high: bool = True
    zone: str = ""
    format: str = ""


class Pattern(msgspec.Struct, frozen=True, tag="pattern"):
    """A `kind` prefix, wildcard or fuzzy of what the user wrote, or regexp (of terms: index/regexes.py), in
    the views that the field has.

    `analyzed`: of a text field, by terms that went through its filters (lower case).
    """

    field: str
    kind: str
    text: str
    distance: str = ""
    prefix_length: int = 0
    transpositions: bool = True
    ignore_case: bool = False


class AnyOf(msgspec.Struct, frozen=True, tag="any_of"):
    """One text in several fields (with their boosts). `kind` is best_fields, most_fields, cross_fields,
    phrase, phrase_prefix or bool_prefix; field names may hold `*`.
    """

    fields: tuple[tuple[str, float], ...]
    text: str
    kind: str = "best_fields"
    operator: str = "or"
    minimum: str = ""
    fuzziness: str = ""
    prefix_length: int = 0
    slop: int = 0
    tie_breaker: float = -1.0
    analyzer: str = ""
    transpositions: bool = True
    zero_terms: str = "none"


class DocumentIds(msgspec.Struct, frozen=True, tag="document_ids"):
    """Documents by their ids as users write them."""

    ids: tuple[str, ...]


class AtLeast(msgspec.Struct, frozen=True, tag="at_least"):
    """Of these, as many as `minimum` (Elasticsearch's minimum_should_match) says; each adds to the score."""

    queries: tuple[Query, ...]
    minimum: str


class MoreLike(msgspec.Struct, frozen=True, tag="more_like"):
    """Documents with the words that distinguish these texts and documents (their ids) from others: not those
    of `stop_words`, nor those of the texts `unlike`. A greatest of 0 is none.
    """

    fields: tuple[str, ...]
    texts: tuple[str, ...]
    ids: tuple[str, ...]
    terms_max: int = 25
    term_freq_min: int = 2
    doc_freq_min: int = 5
    word_chars_min: int = 0
    minimum: str = "30%"
    include: bool = False
    doc_freq_max: int = 0
    word_chars_max: int = 0
    stop_words: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()


class Called(msgspec.Struct, frozen=True, tag="called"):
    """Documents of which a value is just this text, word by word (WHOLE)."""

    text: str


Planned = (
    All
    | Nothing
    | Term
    | Terms
    | Phrase
    | Prefix
    | Wildcard
    | Regexp
    | Fuzzy
    | Range
    | Exists
    | Ids
    | Bool
    | DisMax
    | Boosting
    | Constant
    | FunctionScore
    | Boost
    | Nested
    | InFields
)
"""What peers send each other. The queries inside are typed as `Query`, but are planned ones, too."""

Asked = Match | MatchPhrase | Equals | Compare | Pattern | AnyOf | DocumentIds | AtLeast | MoreLike | Called

Query = Planned | Asked


# --- what goes with a query


class TermKey(msgspec.Struct, frozen=True, array_like=True):
    """A TEXT term of a field: what statistics are kept of."""

    field: str
    term: str


class FieldLength(msgspec.Struct, frozen=True, array_like=True):
    """Of one field: documents that have TEXT there, and their terms in sum."""

    documents: int
    terms: int


class Statistics(msgspec.Struct, frozen=True):
    """What weighs terms. Of a peer for some ranges, or summed up over the cluster by `add_statistics`.

    `documents` is how many there are; `frequencies` in how many of them each term asked about is (absent: in
    none); `lengths` of each field asked about.
    """

    documents: int = 0
    frequencies: dict[TermKey, int] = {}
    lengths: dict[str, FieldLength] = {}


class SortKey(msgspec.Struct, frozen=True, array_like=True):
    """Order by a field's least value (greatest, if descending), or by `_score`; documents without one come
    last unless `missing_first`.

    `view` EXACT, NUMBER, DATE or BOOLEAN; "" is any of them: booleans, then numbers, then dates, then text.
    `mode` takes of several values another one (min, max) or what they come to (sum, avg, median), `missing`
    stands for none.
    """

    field: str
    view: str = ""
    descending: bool = False
    missing_first: bool = False
    mode: str = ""
    missing: Value | None = None


ID: Final = "_id"
"""Named as a field it is the id of a document."""

SCORE: Final = "_score"

SortValue = bool | int | float | str | None


class Hit(msgspec.Struct, frozen=True, array_like=True):
    """A document that was found: the key of its row, its score, the values it is sorted by (one per
    SortKey).
    """

    key: bytes
    score: float
    sort: tuple[SortValue, ...] = ()


LAST_KEY: Final = b"\xff"
"""After all keys."""


class After(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ended: only documents after these sort values and this key count as hits.

    Segments are given a key of their own table, or LAST_KEY.
    """

    sort: tuple[SortValue, ...]
    key: bytes


TokenRanges = tuple[tuple[int, int], ...]
"""First and last token, both included, ascending and disjoint: documents outside do not count."""


def add_statistics(parts: list[Statistics]) -> Statistics:
    """The sum over disjoint ranges."""
    frequencies: dict[TermKey, int] = {}
    lengths: dict[str, FieldLength] = {}
    for part in parts:
        for key, count in part.frequencies.items():
            frequencies[key] = frequencies.get(key, 0) + count
        for name, length in part.lengths.items():
            old = lengths.get(name, FieldLength(0, 0))
            lengths[name] = FieldLength(old.documents + length.documents, old.terms + length.terms)
    return Statistics(sum(part.documents for part in parts), frequencies, lengths)


def children(query: Query) -> tuple[Query, ...]:
    """The queries directly inside this one."""
    if isinstance(query, Term):  # most are
        return ()
    if isinstance(query, Bool):
        return query.must + query.should + query.must_not + query.filter
    if isinstance(query, DisMax | AtLeast):
        return query.queries
    if isinstance(query, Boosting):
        return (query.positive, query.negative)
    if isinstance(query, FunctionScore):
        return (query.query, *(each.filter for each in query.functions if each.filter is not None))
    if isinstance(query, Constant | Boost | Nested | InFields):
        return (query.query,)
    return ()


def walk(query: Query) -> Iterator[Query]:
    """This query and all inside, from the left, without recursion."""
    stack = [query]
    while stack:
        each = stack.pop()
        yield each
        stack.extend(reversed(children(each)))


def terms_of(query: Query) -> tuple[TermKey, ...]:
    """The TEXT terms that a planned query scores by, each once, in order: what statistics are needed of."""
    found: dict[TermKey, None] = {}
    for each in walk(query):
        if isinstance(each, Term) and each.view == TEXT:
            found[TermKey(each.field, str(each.value))] = None
        elif isinstance(each, Phrase):
            for _, term in each.terms:
                found[TermKey(each.field, term)] = None
    return tuple(found)
