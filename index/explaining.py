"""Why a document has its score: the query as a tree, each part with what it adds, by the same functions that
score.
"""

from __future__ import annotations

from typing import Any

from index.judging import Held, compile_query
from index.query import (
    TEXT,
    All,
    Bool,
    Boost,
    Boosting,
    Constant,
    DisMax,
    FunctionScore,
    Phrase,
    Query,
    Statistics,
    Term,
    TermKey,
    children,
)
from index.scoring import average_length, term_idf


def explain(query: Query, statistics: Statistics, held: Held) -> dict[str, Any]:
    """A planned query's score for a document: value, description, and the same of its parts."""
    score = compile_query(query, statistics)(held)
    found: dict[str, Any] = {
        "value": score or 0.0,
        "matches": score is not None,
        "description": _said(query),
        "details": [explain(each, statistics, held) for each in _scored(query)],
    }
    if score is not None and isinstance(query, Term) and query.view == TEXT:
        found["details"] = _bm25(query, statistics, held)
    return found


def _scored(query: Query) -> tuple[Query, ...]:
    if isinstance(query, FunctionScore):
        return (query.query,)
    return () if isinstance(query, Constant) else children(query)


def _said(query: Query) -> str:
    if isinstance(query, Term):
        return f"{query.field}:{query.value} ({query.view})"
    if isinstance(query, Phrase):
        return f'{query.field}:"{" ".join(term for _, term in query.terms)}"~{query.slop}, BM25 of the phrase'
    if isinstance(query, Bool):
        return f"sum of what matches (at least {query.minimum} of the optional ones)"
    if isinstance(query, DisMax):
        return f"best of these, plus {query.tie_breaker:g} times the others"
    if isinstance(query, Boost):
        return f"multiplied by {query.factor:g}"
    if isinstance(query, Boosting):
        return f"the first, multiplied by {query.factor:g} if the second matches"
    if isinstance(query, All):
        return "every document scores 1"
    if isinstance(query, FunctionScore):
        return f"{len(query.functions)} functions ({query.score_mode}), then {query.boost_mode} with this"
    if isinstance(query, Constant):
        return f"constant {query.score:g} where {_said(query.query)} matches"
    return f"{type(query).__name__.lower()} on {getattr(query, 'field', 'documents')}: constant 1"


def _bm25(query: Term, statistics: Statistics, held: Held) -> list[dict[str, Any]]:
    """The factors of BM25 (index/scoring.py)."""
    term = str(query.value)
    text = held.text(query.field)
    assert text is not None, "it matched"
    frequency = len(text.positions[term])
    documents = statistics.frequencies.get(TermKey(query.field, term), 0)
    idf = term_idf(statistics, query.field, term)
    average = average_length(statistics, query.field)
    return [
        {"value": idf, "description": f"idf: {documents} of {statistics.documents} documents have the term"},
        {"value": frequency, "description": "how often it stands in the field"},
        {"value": text.length, "description": "terms in the field"},
        {"value": average, "description": "terms in such a field on average"},
    ]
