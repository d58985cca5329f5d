"""One document against one query: does it match, and what is its score?

This is what a query means, in plain Python. The naive twin answers by it alone; the real segments find
candidates by tantivy and have them scored here, so both give the same score for the same statistics.

A query is compiled to nested functions once, and each takes a `Held` document, which analyzes a field when it
is first asked about. A score of None is no match.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from index.analysis.analyzers import Analyzer
from index.analysis.distance import within
from index.analysis.tokens import by_position
from index.encoding import encoded, escaped, unescaped
from index.fields import WHOLE_CHARS_MAX, Fields, fields_of, strings_of_all, texts_of_all, whole_of
from index.function_scores import function_score
from index.globs import fits, parts_of
from index.mapping import Rules
from index.nested import objects_at
from index.query import (
    ALL,
    DATE,
    EXACT,
    NUMBER,
    TEXT,
    WHOLE,
    All,
    Bool,
    Boost,
    Boosting,
    Constant,
    DisMax,
    Exists,
    FunctionScore,
    Fuzzy,
    Ids,
    InFields,
    Nested,
    Nothing,
    Phrase,
    Prefix,
    Query,
    Range,
    Regexp,
    Statistics,
    Term,
    Terms,
    Wildcard,
)
from index.regexes import term_test
from index.scoring import average_length, bm25, term_idf
from index.showing import filtered
from index.slop import phrase_frequency

POSITION_GAP: Final = 16
"""Positions between the last term of one value of a field and the first of the next."""


class TextField:
    """The TEXT of one field: positions of each term, ascending, and how many terms there are in all."""

    __slots__ = ("length", "positions")

    def __init__(self) -> None:
        self.positions: dict[str, list[int]] = {}
        self.length = 0


def text_field(texts: Sequence[str], analyzer: Analyzer) -> TextField:
    """Analyze the values of a field, one after the other."""
    field = TextField()
    first = 0
    for text in texts:
        terms = analyzer.flat(text)
        last = first - 1
        if terms is None:
            for token in sorted(analyzer.tokens(text), key=by_position):
                at = first + token.position
                field.positions.setdefault(token.term, []).append(at)
                field.length += 1
                last = max(last, at)
        else:
            for at, term in enumerate(terms, first):
                field.positions.setdefault(term, []).append(at)
            field.length += len(terms)
            last = first + len(terms) - 1
        if last >= first:
            first = last + 1 + POSITION_GAP
    return field


def _one_after_the_other(terms: Sequence[str]) -> TextField:
    field = TextField()
    for at, term in enumerate(terms):
        field.positions.setdefault(term, []).append(at)
    field.length = len(terms)
    return field


def terms_of_text(text: str, analyzer: Analyzer) -> list[str]:
    """The terms of one value."""
    terms = analyzer.flat(text)
    return [token.term for token in analyzer.tokens(text)] if terms is None else terms


def terms_of_texts(texts: Sequence[str], analyzer: Analyzer) -> list[str]:
    """The terms of some values, one after the other."""
    if analyzer.keeps_digits:  # words end where lines do: one call for all of ASCII
        flat = analyzer.flat("\n".join([text for text in texts if text.isascii()]))
        assert flat is not None, "ASCII is flat"
        return flat + [term for text in texts if not text.isascii() for term in terms_of_text(text, analyzer)]
    return [term for text in texts for term in terms_of_text(text, analyzer)]


class Held:
    """A document as an index holds it. What is asked of it is worked out when it is asked."""

    __slots__ = ("_fields", "_lists", "_of_all", "_rules", "_short", "_terms", "_texts", "key", "source")

    def __init__(self, key: bytes, source: Any, rules: Rules) -> None:
        self.key = key
        self.source = source
        self._rules = rules
        self._fields: Fields | None = None
        self._lists: dict[str, list[str]] = {}
        self._of_all: tuple[list[str], list[str]] | None = None
        self._short: str | None = None
        self._texts: dict[str, TextField | None] = {}
        self._terms: dict[tuple[str, str], frozenset[str]] = {}

    @property
    def fields(self) -> Fields:
        """All its fields."""
        if self._fields is None:
            self._fields = fields_of(self.source, self._rules)
        return self._fields

    def frequency(self, name: str, term: str) -> tuple[int, int]:
        """How often a term occurs in the TEXT of a field, and how many terms there are; of a field that lacks
        it perhaps (0, 0).

        Most documents that are judged are asked nothing else, so this works out no positions.
        """
        terms = self._lists.get(name)
        if terms is None:
            if name == WHOLE and not self._may_have_whole(term):
                return 0, 0
            terms = self._list(name)
        return terms.count(term), len(terms)

    def length(self, name: str) -> int:
        """How many terms there are in the TEXT of a field."""
        terms = self._lists.get(name)
        return len(self._list(name) if terms is None else terms)

    def _list(self, name: str) -> list[str]:
        """All terms of a field."""
        if name == WHOLE:
            terms = [whole for whole in map(whole_of, self._texts_of_all()[0]) if whole]
        elif name == ALL and self._rules.says_nothing:
            analyzer = self._rules.default_analyzer
            strings, numbers = self._texts_of_all()
            terms = terms_of_texts(strings, analyzer)
            for number in numbers:
                terms += terms_of_text(number, analyzer)
        else:
            analyzer = self._rules.field(name).analyzer
            terms = [term for text in self._strings(name) for term in terms_of_text(text, analyzer)]
        self._lists[name] = terms
        return terms

    def _may_have_whole(self, term: str) -> bool:
        """Whether a value may be this as a whole: asked of every document that is judged, and hardly ever so.
        Letters may change with their case; those of ASCII do so one by one.
        """
        short = self._short
        if short is None:
            texts = self._texts_of_all()[0]
            short = self._short = "\n".join([text for text in texts if len(text) <= WHOLE_CHARS_MAX]).lower()
        return not short.isascii() or term.partition(" ")[0] in short

    def _texts_of_all(self) -> tuple[list[str], list[str]]:
        """The strings of all fields, and the numbers, as ALL and WHOLE have them (WHOLE without numbers)."""
        found = self._of_all
        if found is None:
            if self._rules.says_nothing:
                found = strings_of_all(self.source)
            else:  # no numbers: WHOLE has none, and ALL goes another way
                found = [text for values in self.fields.values() for text in values.text], []
            self._of_all = found
        return found

    def _strings(self, name: str) -> Iterable[str]:
        """The values of a field's TEXT."""
        source = self.source
        if name == ALL:
            return texts_of_all(self.fields)
        if self._fields is None and isinstance(source, dict) and "." not in name and "" not in source:
            value = source.get(name)  # no other place in the document has this path
            if isinstance(value, str) and TEXT in self._rules.field(name).views:
                return (value,)
        values = self.fields.get(name)
        return () if values is None else values.text

    def text(self, name: str) -> TextField | None:
        """The TEXT of a field; None if it has none."""
        if name in self._texts:
            return self._texts[name]
        field: TextField | None
        if name == WHOLE:
            field = _one_after_the_other(self._list(WHOLE))
        else:
            texts = list(self._strings(name))
            field = text_field(texts, self._rules.field(name).analyzer) if texts else None
        self._texts[name] = found = field if field is not None and field.length else None
        return found

    def terms(self, name: str, view: str) -> frozenset[str]:
        """The terms of a field in a view: analyzed, or as encoded values."""
        if view == TEXT:
            field = self.text(name)
            return frozenset() if field is None else frozenset(field.positions)
        found = self._terms.get((name, view))
        if found is None:
            values = self.fields.get(name)
            known = [] if values is None else [encoded(view, value) for value in values.of(view)]
            found = self._terms[name, view] = frozenset(term for term in known if term is not None)
        return found

    def exists(self, path: str) -> bool:
        """Whether anything stands at this path or below it."""
        below = path + "."
        return any(name == path or name.startswith(below) for name in self.fields)

    def within(self, pattern: str) -> Held:
        """The fields whose paths fit a pattern, as if there were no others."""
        return Held(self.key, filtered(self.source, ((pattern,), ())), self._rules)

    def nested(self, path: str) -> list[Held]:
        """Each object at this path as if it were the only one of the document."""
        return [Held(self.key, source, self._rules) for source in objects_at(self.source, path)]


class Counted(Held):
    """A document that is asked again and again, so that counting all of its terms once is worth it."""

    __slots__ = ("_counts",)

    def __init__(self, key: bytes, source: Any, rules: Rules) -> None:
        super().__init__(key, source, rules)
        self._counts: dict[str, tuple[Counter[str], int]] = {}

    def frequency(self, name: str, term: str) -> tuple[int, int]:
        """As Held has it."""
        known = self._counts.get(name)
        if known is None:
            terms = self._list(name)
            known = self._counts[name] = Counter(terms), len(terms)
            self._lists.pop(name, None)  # other threads may ask this, too
        counts, length = known
        return counts.get(term, 0), length

    def length(self, name: str) -> int:
        """As Held has it."""
        return self.frequency(name, "")[1]


Scorer = Callable[[Held], float | None]


def compile_query(query: Query, statistics: Statistics) -> Scorer:
    """The function that scores a document by a planned query."""
    return _COMPILERS[type(query)](query, statistics)


def _all(_query: All, _statistics: Statistics) -> Scorer:
    return lambda _held: 1.0


def _nothing(_query: Nothing, _statistics: Statistics) -> Scorer:
    return lambda _held: None


def _term(query: Term, statistics: Statistics) -> Scorer:
    if query.view != TEXT:
        return _any_term(query.field, query.view, [encoded(query.view, query.value)])
    name, term = query.field, str(query.value)
    weight, average = term_idf(statistics, name, term), average_length(statistics, name)

    def score(held: Held) -> float | None:
        frequency, length = held.frequency(name, term)
        return bm25(weight, frequency, length, average) if frequency else None

    return score


def _any_term(name: str, view: str, terms: Sequence[str | None]) -> Scorer:
    wanted = frozenset(term for term in terms if term is not None)
    return lambda held: None if wanted.isdisjoint(held.terms(name, view)) else 1.0


def _terms(query: Terms, _statistics: Statistics) -> Scorer:
    if query.view == TEXT:
        return _any_term(query.field, TEXT, [str(value) for value in query.values])
    return _any_term(query.field, query.view, [encoded(query.view, value) for value in query.values])


def _phrase(query: Phrase, statistics: Statistics) -> Scorer:
    name = query.field
    weight = sum(term_idf(statistics, name, term) for _, term in query.terms)
    average = average_length(statistics, name)

    def score(held: Held) -> float | None:
        field = held.text(name)
        if field is None:
            return None
        frequency = phrase_frequency(query, field.positions)
        return bm25(weight, frequency, field.length, average) if frequency else None

    return score


def _matching(name: str, view: str, test: Callable[[str], Any]) -> Scorer:
    return lambda held: 1.0 if any(test(term) for term in held.terms(name, view)) else None


def _prefix(query: Prefix, _statistics: Statistics) -> Scorer:
    prefix = query.prefix if query.view == TEXT else encoded(EXACT, query.prefix) or ""
    return _matching(query.field, query.view, lambda term: term.startswith(prefix))


def _wildcard(query: Wildcard, _statistics: Statistics) -> Scorer:
    parts = parts_of(query.pattern)
    if query.view == TEXT:
        return _matching(query.field, query.view, lambda term: fits(parts, term))
    return _matching(query.field, query.view, lambda term: fits(parts, unescaped(term)))


def _regexp(query: Regexp, _statistics: Statistics) -> Scorer:
    test = term_test(query.expression)
    if query.view == TEXT:
        return _matching(query.field, query.view, lambda term: test(escaped(term)))
    return _matching(query.field, query.view, test)


def _fuzzy(query: Fuzzy, _statistics: Statistics) -> Scorer:
    wanted = query.term if query.view == TEXT else encoded(EXACT, query.term) or ""
    head = wanted[: query.prefix_length]
    known: dict[str, bool] = {}  # the same words come in document after document

    def test(term: str) -> bool:
        found = known.get(term)
        if found is None:
            found = term.startswith(head) and within(wanted, term, query.distance, query.transpositions)
            known[term] = found
        return found

    return _matching(query.field, query.view, test)


def _range(query: Range, _statistics: Statistics) -> Scorer:
    low = None if query.low is None else encoded(query.view, query.low)
    high = None if query.high is None else encoded(query.view, query.high)
    if (query.low is not None and low is None) or (query.high is not None and high is None):
        return lambda _held: None

    def inside(term: str) -> bool:
        if low is not None and (term < low or (term == low and not query.include_low)):
            return False
        return high is None or term < high or (term == high and query.include_high)

    assert query.view in (EXACT, NUMBER, DATE), query
    return _matching(query.field, query.view, inside)


def _exists(query: Exists, _statistics: Statistics) -> Scorer:
    return lambda held: 1.0 if held.exists(query.field) else None


def _ids(query: Ids, _statistics: Statistics) -> Scorer:
    wanted = frozenset(query.keys)
    return lambda held: 1.0 if held.key in wanted else None


def _bool(query: Bool, statistics: Statistics) -> Scorer:
    must = [compile_query(each, statistics) for each in query.must]
    filters = [compile_query(each, statistics) for each in query.filter]
    must_not = [compile_query(each, statistics) for each in query.must_not]
    should = [compile_query(each, statistics) for each in query.should]
    minimum = query.minimum

    def score(held: Held) -> float | None:
        total = 0.0
        for each in must:
            found = each(held)
            if found is None:
                return None
            total += found
        if any(each(held) is None for each in filters):
            return None
        if any(each(held) is not None for each in must_not):
            return None
        matched = 0
        for each in should:
            found = each(held)
            if found is not None:
                matched += 1
                total += found
        return total if matched >= minimum else None

    return score


def _dis_max(query: DisMax, statistics: Statistics) -> Scorer:
    inside = [compile_query(each, statistics) for each in query.queries]

    def score(held: Held) -> float | None:
        found = [value for value in (each(held) for each in inside) if value is not None]
        if not found:
            return None
        best = max(found)
        return best + query.tie_breaker * (sum(found) - best)

    return score


def _boosting(query: Boosting, statistics: Statistics) -> Scorer:
    positive = compile_query(query.positive, statistics)
    negative = compile_query(query.negative, statistics)

    def score(held: Held) -> float | None:
        found = positive(held)
        if found is None:
            return None
        return found if negative(held) is None else found * query.factor

    return score


def _constant(query: Constant, statistics: Statistics) -> Scorer:
    inside = compile_query(query.query, statistics)
    return lambda held: None if inside(held) is None else query.score


_MODES: Final[dict[str, Callable[[list[float]], float]]] = {
    "avg": lambda scores: sum(scores) / len(scores),
    "max": max,
    "min": min,
    "sum": sum,
    "none": lambda _scores: 0.0,
}


def _function_score(query: FunctionScore, statistics: Statistics) -> Scorer:
    return function_score(query, statistics, compile_query)


def _nested(query: Nested, statistics: Statistics) -> Scorer:
    inside, combined = compile_query(query.query, statistics), _MODES[query.mode]

    def score(held: Held) -> float | None:
        found = [value for value in map(inside, held.nested(query.path)) if value is not None]
        return combined(found) if found else None

    return score


def _in_fields(query: InFields, statistics: Statistics) -> Scorer:
    inside = compile_query(query.query, statistics)
    return lambda held: inside(held.within(query.pattern))


def _boost(query: Boost, statistics: Statistics) -> Scorer:
    inside = compile_query(query.query, statistics)

    def score(held: Held) -> float | None:
        found = inside(held)
        return None if found is None else found * query.factor

    return score


_COMPILERS: Final[dict[type, Callable[[Any, Statistics], Scorer]]] = {
    All: _all,
    Nothing: _nothing,
    Term: _term,
    Terms: _terms,
    Phrase: _phrase,
    Prefix: _prefix,
    Wildcard: _wildcard,
    Regexp: _regexp,
    Nested: _nested,
    InFields: _in_fields,
    Fuzzy: _fuzzy,
    Range: _range,
    Exists: _exists,
    Ids: _ids,
    Bool: _bool,
    DisMax: _dis_max,
    Boosting: _boosting,
    Constant: _constant,
    Boost: _boost,
    FunctionScore: _function_score,
}
