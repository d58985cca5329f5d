"""From what users ask to what peers execute: text is analyzed, values find the views that they fit.

    rewriter = Rewriter(fields, now_us=..., key_of=...)
    planned = rewriter.rewrite(asked)            # or a QueryError

A field that the mapping does not declare may hold anything, typed per value. So a value is searched in each
view that it fits, and the best of them scores: `year:1990` finds the number and the word. `name.keyword` is
the EXACT view of `name`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from msgspec.structs import replace

from index.bounds import CLAUSES_MAX, QueryError, RefusedError
from index.date_formats import date_format
from index.fields import DATE_US_MAX, INT_END, whole_of
from index.instants import resolve_date
from index.mapping import EXACT_CHARS_MAX
from index.minimum import needed
from index.query import (
    ALL,
    BOOLEAN,
    DATE,
    EXACT,
    ID,
    NUMBER,
    TEXT,
    WHOLE,
    All,
    AnyOf,
    AtLeast,
    Bool,
    Boost,
    Boosting,
    Called,
    Compare,
    Constant,
    DisMax,
    DocumentIds,
    Equals,
    Exists,
    FunctionScore,
    Fuzzy,
    Ids,
    InFields,
    Match,
    MatchPhrase,
    MoreLike,
    Nested,
    Nothing,
    Pattern,
    Phrase,
    Planned,
    Prefix,
    Query,
    Range,
    Regexp,
    ScoreFunction,
    SortKey,
    Term,
    Terms,
    Value,
    Wildcard,
    walk,
)
from index.regexes import wildcard_term_regex
from index.token_words import TokenLike, words_of
from query.zones import Zone, zone_of

KEYWORD: Final = ".keyword"
PLANNED_MAX: Final = 20_000
FUZZY_SHARE: Final = 0.3
"""A word that is only similar scores this where nothing more is known (index/similar.py), so that the word
itself comes first.
"""
_WILD: Final = "*?\\"
SIMILAR_CHARS_MAX: Final = 128
"""A longer word is like itself only: what is near it takes long to find."""


class Fields(Protocol):
    """What a rewriter needs of an index's mapping."""

    def query_tokens(self, field: str, text: str, analyzer: str) -> Sequence[TokenLike] | None:
        """What to search for of a text, by the field's search analyzer or the one named; None if there is no
        such analyzer.
        """

    def views(self, field: str) -> tuple[str, ...]:
        """The views that values of this field may have."""

    def boost(self, field: str) -> float:
        """What the mapping multiplies scores of matches in this field by."""

    def names(self, pattern: str) -> tuple[str, ...]:
        """Declared fields with text whose names fit a pattern with `*`."""


class Rewriter:
    """Rewrites the queries of one search."""

    def __init__(
        self,
        fields: Fields,
        *,
        now_us: int,
        key_of: Callable[[str], bytes | None],
        likes: Mapping[MoreLike, Planned] | None = None,
        similar: Mapping[Fuzzy, Planned] | None = None,
    ) -> None:
        """`key_of` gives the row key of a document's id; `likes` what MoreLike queries became
        (index/more_like.py), `similar` what similar words did (index/similar.py).
        """
        self._fields = fields
        self._now_us = now_us
        self._key_of = key_of
        self._likes = likes or {}
        self._similar = similar or {}
        self._left = PLANNED_MAX

    def begin(self) -> None:
        """What is planned from here on may come to PLANNED_MAX words again."""
        self._left = PLANNED_MAX

    def _spend(self, words: int) -> None:
        """Raises RefusedError before a text in many fields, again and again, takes minutes and gigabytes."""
        self._left -= words
        if self._left < 0:
            raise RefusedError(f"the query comes to more than {PLANNED_MAX} terms: search for less text")

    def rewrite(self, query: Query) -> Planned | QueryError:
        """The planned query, or why there is none."""
        self.begin()
        try:
            planned = self.planned(query)
            if sum(1 for _ in walk(planned)) > PLANNED_MAX:
                raise RefusedError(f"the query comes to more than {PLANNED_MAX} terms: search for less text")
        except RefusedError as refused:
            return refused.error
        return planned

    def planned(self, query: Query) -> Planned:
        """As rewrite; raises RefusedError."""
        if isinstance(query, Bool):
            must, should = self._all(query.must), self._all(query.should)
            must_not, filters = self._all(query.must_not), self._all(query.filter)
            return Bool(must, should, must_not, filters, query.minimum)
        if isinstance(query, AtLeast):
            queries = self._all(query.queries)
            return _at_least(queries, needed(query.minimum, len(queries)))
        if isinstance(query, DisMax):
            return DisMax(self._all(query.queries), query.tie_breaker)
        if isinstance(query, Boosting):
            return Boosting(self.planned(query.positive), self.planned(query.negative), query.factor)
        if isinstance(query, Constant):
            return Constant(self.planned(query.query), query.score)
        if isinstance(query, Boost):
            return Boost(self.planned(query.query), query.factor)
        if isinstance(query, FunctionScore):
            functions = tuple(self._function(each) for each in query.functions)
            return replace(query, query=self.planned(query.query), functions=functions)
        if isinstance(query, Nested):
            return Nested(query.path, self.planned(query.query), query.mode)
        if isinstance(query, InFields):
            return InFields(query.pattern, self.planned(query.query))
        if isinstance(query, Match):
            return self._weighed(query.field, self._named(self._match(query), query.field, query.text))
        if isinstance(query, MatchPhrase):
            return self._weighed(query.field, self._named(self._phrase(query), query.field, query.text))
        return self._leaf(query)

    def _function(self, one: ScoreFunction) -> ScoreFunction:
        """With its field's path, its origin as a number, and a seed."""
        path, _ = self.views(one.field) if one.field else ("", ())
        origin = one.origin
        if isinstance(origin, str):
            at = int(origin) * 1000 if origin.isdecimal() else resolve_date(origin, self._now_us)
            if at is None:
                raise RefusedError(f"a date belongs here, such as 2024-01-01 or now-7d: {origin[:40]!r}")
            origin = float(at)
        only = None if one.filter is None else self.planned(one.filter)
        seed = self._now_us if one.seed is None else one.seed
        return replace(one, filter=only, field=path, origin=origin, seed=seed)

    def _weighed(self, field: str, query: Planned) -> Planned:
        """With the boost that the mapping gives the field."""
        boost = self._fields.boost(field)
        return query if boost == 1 or query == Nothing() else Boost(query, boost)

    @staticmethod
    def _named(query: Planned, field: str, text: str) -> Planned:
        """In the text of all fields, what is called just so scores more."""
        whole = whole_of(text) if field == ALL and query != Nothing() else ""
        return Bool((query,), (Term(WHOLE, TEXT, whole),)) if whole else query

    def _all(self, queries: tuple[Query, ...]) -> tuple[Planned, ...]:
        return tuple(self.planned(query) for query in queries)

    def _leaf(self, query: Query) -> Planned:
        if isinstance(query, Equals):
            return self._equals(query)
        if isinstance(query, Compare):
            return self._compare(query)
        if isinstance(query, Pattern):
            return self._pattern(query)
        if isinstance(query, AnyOf):
            return self._any_of(query)
        if isinstance(query, DocumentIds):
            keys = [self._key_of(each) for each in query.ids]
            return Ids(tuple(sorted({key: None for key in keys if key is not None})))
        if isinstance(query, MoreLike):
            return self._likes.get(query, Nothing())
        if isinstance(query, Exists) and query.field == ID:
            return All()
        if isinstance(query, Exists):  # an object is there with whatever is below it
            return Exists(query.field.removesuffix(".*").removesuffix(KEYWORD))
        if isinstance(query, Called):
            whole = whole_of(query.text)
            return Term(WHOLE, TEXT, whole) if whole else Nothing()
        assert isinstance(
            query,
            All | Nothing | Term | Terms | Phrase | Prefix | Wildcard | Regexp | Fuzzy | Range | Ids,
        )
        return query

    # --- fields

    def views(self, field: str) -> tuple[str, tuple[str, ...]]:
        """The path in documents that a name means, and the views it may have."""
        if field == ALL:
            return field, (TEXT,)
        declared = self._fields.views(field)
        if field.endswith(KEYWORD):
            return field.removesuffix(KEYWORD), (EXACT,)
        return field, declared

    def sort_key(self, key: SortKey) -> SortKey:
        """With its view, where the name or the mapping says it."""
        path, views = self.views(key.field)
        ordered = tuple(view for view in views if view != TEXT)
        return replace(key, field=path, view=ordered[0] if len(ordered) == 1 else "")

    def tokens(self, field: str, text: str, analyzer: str) -> Sequence[TokenLike]:
        """What to search for of a text; raises RefusedError."""
        found = self._fields.query_tokens(field, text, analyzer)
        if found is None:
            raise RefusedError(f"there is no analyzer {analyzer[:40]!r}")
        if len(found) > CLAUSES_MAX * 4:
            raise RefusedError(f"the text has {len(found)} terms; {CLAUSES_MAX * 4} are the limit")
        return found

    # --- text

    def _match(self, query: Match) -> Planned:
        if query.field == ID:
            return self._leaf(DocumentIds((query.text,)))
        path, views = self.views(query.field)
        options = self._as_values(path, views, query.text)
        if EXACT in views and TEXT not in views:
            options.append(Term(path, EXACT, query.text))
        if TEXT in views:
            units = self._units(path, query)
            if units:
                dated = any(getattr(option, "view", "") == DATE for option in options)
                operator = "and" if dated else query.operator  # a date in a text is all of its numbers
                options.insert(0, _combined(units, operator, query.minimum))
        return _best(options) if options or query.zero_terms != "all" else All()

    def _units(self, path: str, query: Match) -> list[Planned]:
        """What each word of a text comes to."""
        groups = words_of(self.tokens(path, query.text, query.analyzer))
        if len(groups) > CLAUSES_MAX:
            raise RefusedError(f"the text has {len(groups)} words; {CLAUSES_MAX} are the limit")
        self._spend(len(groups))
        found = []
        for i, positions in enumerate(groups):
            is_last = i == len(groups) - 1
            if query.fuzziness and len(positions) > 1 and not (query.prefix and is_last):
                found.append(self._like_parts(path, positions, query))
                continue
            parts = [
                _best([self._word(path, token.term, query, is_last) for token in alternatives])
                for alternatives in positions
            ]
            found.append(parts[0] if len(parts) == 1 else Bool(must=tuple(parts)))
        return found

    def _like_parts(self, path: str, positions: list[list[TokenLike]], query: Match) -> Planned:
        """A word that is found by its parts, which are too short to be misspelt: these, or a whole word like
        it, as an index has those, too.
        """
        parts = tuple(_best([Term(path, TEXT, token.term) for token in some]) for some in positions)
        whole = query.text[positions[0][0].start : positions[-1][0].end].lower()
        return _best([Bool(must=parts), self._word(path, whole, query, is_last=False)])

    def _word(self, path: str, term: str, query: Match, is_last: bool) -> Planned:
        if query.prefix and is_last:
            return Prefix(path, TEXT, term)
        if not query.fuzziness:
            return Term(path, TEXT, term)
        distance = _distance(query.fuzziness, term)
        if not distance:
            return Term(path, TEXT, term)
        similar = Fuzzy(path, TEXT, term, distance, query.prefix_length, query.transpositions)
        if similar in self._similar:
            return self._similar[similar]
        return DisMax((Term(path, TEXT, term), Boost(similar, FUZZY_SHARE)))

    def _phrase(self, query: MatchPhrase) -> Planned:
        path, views = self.views(query.field)
        options = self._as_values(path, views, query.text)
        if TEXT not in views:
            if EXACT in views:
                exact = Prefix(path, EXACT, query.text) if query.prefix else Term(path, EXACT, query.text)
                options.append(exact)
            return _best(options)
        tokens = self.tokens(path, query.text, query.analyzer)
        if not tokens:
            return All() if query.zero_terms == "all" else Nothing()
        self._spend(1 + len(tokens) // 10)  # they cost less than words on their own
        first = min(token.position for token in tokens)
        terms = tuple(sorted({(token.position - first, token.term): None for token in tokens}))
        if terms[-1][0] > 0:
            return _best([Phrase(path, terms, query.slop, query.prefix), *options])
        if query.prefix:
            return _best([*(Prefix(path, TEXT, term) for _, term in terms), *options])
        return _best([*(Term(path, TEXT, term) for _, term in terms), *options])

    def _any_of(self, query: AnyOf) -> Planned:
        fields: dict[str, float] = {}
        patterns: list[tuple[str, float]] = []
        for pattern, boost in query.fields:
            names = self._fields.names(pattern) if "*" in pattern else (pattern,)
            if not names and pattern.strip("*"):  # declared nowhere: whichever fields documents have
                patterns.append((pattern, boost))
            for name in names if pattern.strip("*") else (names or (ALL,)):
                fields[name] = max(boost, fields.get(name, 0.0))
        if query.kind == "cross_fields":
            return self._cross(query, fields or {ALL: 1.0})
        queries = [(self._one_of(query, name), boost) for name, boost in fields.items()]
        queries += [
            (InFields(pattern, found), boost)
            for pattern, boost in patterns
            if (found := self._one_of(query, ALL)) != Nothing()
        ]
        options = [q if boost == 1 else Boost(q, boost) for q, boost in queries if q != Nothing()]
        if not options and query.zero_terms == "all":
            return All()
        if query.kind in ("most_fields", "bool_prefix"):
            return options[0] if len(options) == 1 else _at_least(tuple(options), 1)
        return _best(options, max(0.0, query.tie_breaker))

    def _one_of(self, query: AnyOf, field: str) -> Planned:
        if query.kind in ("phrase", "phrase_prefix"):
            is_prefix = query.kind == "phrase_prefix"
            return self.planned(MatchPhrase(field, query.text, query.slop, is_prefix, query.analyzer))
        return self.planned(
            Match(
                field,
                query.text,
                query.operator,
                query.minimum,
                query.fuzziness,
                query.prefix_length,
                query.analyzer,
                query.kind == "bool_prefix",
                query.transpositions,
            )
        )

    def _cross(self, query: AnyOf, fields: Mapping[str, float]) -> Planned:
        """Each word in any of the fields: words as the first field's analyzer has them."""
        first = next(iter(fields))
        units: list[Planned] = []
        for positions in words_of(self.tokens(self.views(first)[0], query.text, query.analyzer)):
            terms = dict.fromkeys(token.term for alternatives in positions for token in alternatives)
            options: list[Planned] = []
            self._spend(len(fields))
            for name, boost in fields.items():
                path = self.views(name)[0]
                each = [Term(path, TEXT, term) for term in terms]
                found: Planned = each[0] if len(each) == 1 else Bool(must=tuple(each))
                options.append(found if boost == 1 else Boost(found, boost))
            units.append(_best(options, max(0.0, query.tie_breaker)))
        return _combined(units, query.operator, query.minimum) if units else Nothing()

    # --- values

    def _as_values(self, path: str, views: Sequence[str], text: str) -> list[Planned]:
        """A text as the number, date or boolean that it may be."""
        found: list[Planned] = []
        number = as_number(text) if NUMBER in views else None
        if number is not None:
            found.append(Term(path, NUMBER, _sendable(number)))
        if DATE in views:
            low = resolve_date(text, self._now_us)
            high = resolve_date(text, self._now_us, up=True)
            if low is not None and high is not None:
                found.append(Term(path, DATE, low) if low == high else Range(path, DATE, low, high))
        if BOOLEAN in views and text in ("true", "false"):
            found.append(Term(path, BOOLEAN, text == "true"))
        return found

    def _equals(self, query: Equals) -> Planned:
        if query.field == ID:
            return self._leaf(DocumentIds(tuple(str(value) for value in query.values)))
        path, views = self.views(query.field)
        by_view: dict[str, list[Value]] = {}
        others: list[Planned] = []
        for value in query.values:
            if isinstance(value, str):
                others += self._as_values(path, views, value)
                for view in (EXACT, TEXT):
                    if view in views:
                        by_view.setdefault(view, []).append(value)
            elif isinstance(value, bool):
                by_view.setdefault(BOOLEAN if BOOLEAN in views else EXACT, []).append(
                    value if BOOLEAN in views else str(value).lower()
                )
            elif NUMBER in views:
                by_view.setdefault(NUMBER, []).append(_sendable(value))
            elif DATE in views and (at_us := _of_millis(value)) is not None:
                by_view.setdefault(DATE, []).append(at_us)
            else:
                by_view.setdefault(EXACT, []).append(str(value))
        several = len(query.values) > 1
        found: list[Planned] = [
            Terms(path, view, tuple(dict.fromkeys(values))) if several else Term(path, view, values[0])
            for view, values in by_view.items()
        ]
        return _best([*found, *others])

    def _compare(self, query: Compare) -> Planned:
        path, views = self.views(query.field)
        found: list[Planned] = []
        numbers = (_number_bound(query.low), _number_bound(query.high))
        dates = (
            self._date_bound(query.low, query, not query.include_low),
            self._date_bound(query.high, query, query.include_high),
        )
        if query.format:
            return Range(path, DATE, *dates, query.include_low, query.include_high)
        for view, (low, high) in ((NUMBER, numbers), (DATE, dates)):
            fits = (low is None) == (query.low is None) and (high is None) == (query.high is None)
            if view in views and fits:
                found.append(Range(path, view, low, high, query.include_low, query.include_high))
        if EXACT in views and not (found and (query.low, query.high) != (None, None)):
            first, last = (None if each is None else str(each) for each in (query.low, query.high))
            found.append(Range(path, EXACT, first, last, query.include_low, query.include_high))
        return _best(found)

    def instant(self, value: Value) -> int:
        """The date that a text means, or a number of milliseconds; raises RefusedError."""
        found = resolve_date(value, self._now_us) if isinstance(value, str) else _of_millis(value)
        if found is None:
            raise RefusedError(f"a date belongs here, such as 2024-01-01 or now-7d: {str(value)[:40]!r}")
        return found

    def _date_bound(self, value: Value | None, query: Compare, up: bool) -> int | None:
        zone = zone_of(query.zone)
        if zone is None:
            raise RefusedError(f"there is no time zone {query.zone[:60]!r}; there are +09:00 and Asia/Seoul")
        if query.format and value is not None:
            return self._formatted(str(value), query.format, zone, up)
        if isinstance(value, str):
            return resolve_date(value, self._now_us, zone=zone, up=up)
        return None if value is None else _of_millis(value)

    def _formatted(self, text: str, how: str, zone: Zone, up: bool) -> int:
        form = date_format(how)
        if isinstance(form, str):
            raise RefusedError(form)
        found = resolve_date(text, self._now_us, zone=zone, up=up, read=form.read)
        if found is None:
            raise RefusedError(f"{text[:60]!r} is no date of the format {how[:60]!r}")
        return found

    def _pattern(self, query: Pattern) -> Planned:
        path, views = self.views(query.field)
        found: list[Planned] = []
        for view in (TEXT, EXACT):
            if view not in views:
                continue
            if query.kind == "regexp":
                found.append(Regexp(path, view, query.text))
            elif query.ignore_case and view == EXACT and query.kind != "fuzzy":
                if sum(char not in "*\\" for char in query.text) <= EXACT_CHARS_MAX:  # else nothing fits
                    found.append(_of_any_case(path, query))
            else:
                text = query.text.lower() if query.ignore_case and view == TEXT else query.text
                found.append(self._of_kind(path, view, text, query))
        return _best(found)

    def _of_kind(self, path: str, view: str, text: str, query: Pattern) -> Planned:
        if query.kind == "prefix":
            return Prefix(path, view, text)
        if query.kind == "wildcard":
            return Wildcard(path, view, text)
        distance = _distance(query.distance, text)
        if not distance:
            return Term(path, view, text)
        found = Fuzzy(path, view, text, distance, query.prefix_length, query.transpositions)
        return self._similar.get(found, found)


def _of_any_case(path: str, query: Pattern) -> Planned:
    """A prefix or a wildcard pattern of keywords, whose case does not matter; raises RefusedError."""
    if query.text.lower() == query.text.upper():
        kind: Planned = Wildcard(path, EXACT, query.text)
        return Prefix(path, EXACT, query.text) if query.kind == "prefix" else kind
    pattern = query.text
    if query.kind == "prefix":
        pattern = "".join("\\" + char if char in _WILD else char for char in query.text) + "*"
    return Regexp(path, EXACT, wildcard_term_regex(pattern))


def as_number(text: str) -> int | float | None:
    """The number that a text is, None if it is none (or not finite)."""
    if len(text) > 40 or not text.isascii() or "_" in text or text != text.strip():
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _number_bound(value: Value | None) -> Value | None:
    number = as_number(value) if isinstance(value, str) else value
    return None if number is None or isinstance(number, bool) else _sendable(number)


def _sendable(number: float) -> Value:
    """A number as messages can hold it: beyond 64 bits as text (index/encoding.py)."""
    return str(number) if isinstance(number, int) and not -INT_END <= number < INT_END else number


def _of_millis(value: float) -> int | None:
    """The instant of Elasticsearch's milliseconds; None if there is none."""
    if isinstance(value, bool) or not math.isfinite(value) or abs(value) >= DATE_US_MAX / 1000:
        return None
    return int(value * 1000)


def _distance(fuzziness: str, term: str) -> int:
    if len(term) > SIMILAR_CHARS_MAX:
        return 0
    if fuzziness and not fuzziness.startswith("AUTO"):
        return int(fuzziness)
    low, high = (int(each) for each in (fuzziness[5:] or "3,6").split(","))
    return 0 if len(term) < low else 1 if len(term) < high else 2


def _best(options: Sequence[Planned], tie_breaker: float = 0.0) -> Planned:
    if not options:
        return Nothing()
    return options[0] if len(options) == 1 else DisMax(tuple(options), tie_breaker)


def _combined(units: Sequence[Planned], operator: str, minimum: str) -> Planned:
    if len(units) == 1:
        return units[0]
    if operator == "and":
        return Bool(must=tuple(units))
    return _at_least(tuple(units), max(1, needed(minimum, len(units))) if minimum else 1)


def _at_least(queries: tuple[Planned, ...], minimum: int) -> Planned:
    if minimum > len(queries):
        return Nothing()
    if not minimum:
        return Bool(should=queries, filter=(All(),))
    return Bool(should=queries, minimum=minimum)
