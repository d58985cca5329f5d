"""More like this: which words of some texts tell them from the rest, and the query for those.

A word's weight is how often it stands in the texts times its idf over the cluster (tf-idf; Salton and Buckley
1988), so statistics are needed between the two steps:

    found = candidates(query, rules, documents)      # words of the texts, counted
    planned = chosen(query, found, statistics, keys) # the best of them, as a query
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from index.fields import fields_of, texts_of_all
from index.mapping import Rules
from index.minimum import needed
from index.query import ALL, TEXT, Bool, Ids, MoreLike, Nothing, Planned, Statistics, Term, TermKey
from index.scoring import idf

CANDIDATES_MAX: Final = 2_000
"""Words that are weighed, the most frequent first."""


def candidates(query: MoreLike, rules: Rules, documents: Sequence[Any]) -> dict[TermKey, int]:
    """How often each word stands in the texts and documents (JSON values) of `query`."""
    counts: Counter[TermKey] = Counter()
    for field in query.fields:
        rule = rules.field(field)
        if TEXT not in rule.views:
            continue
        texts = list(query.texts)
        for document in documents:
            held = fields_of(document, rules)
            if field == ALL:
                texts += texts_of_all(held)
            elif field in held:
                texts += held[field].text
        without = {
            token.term: None
            for text in (*query.unlike, *query.stop_words)
            for token in rule.search_analyzer.query_tokens(text)
        }
        for text in texts:
            for token in rule.search_analyzer.query_tokens(text):
                if token.term not in without:
                    counts[TermKey(field, token.term)] += 1
    enough = [
        (-count, key.field, key.term)
        for key, count in counts.items()
        if count >= query.term_freq_min
        and query.word_chars_min <= len(key.term) <= (query.word_chars_max or len(key.term))
    ]
    return {TermKey(field, term): -count for count, field, term in sorted(enough)[:CANDIDATES_MAX]}


def chosen(
    query: MoreLike, found: Mapping[TermKey, int], statistics: Statistics, liked: Sequence[bytes]
) -> Planned:
    """The query for the words of most weight; `liked` are the rows that were given as examples."""
    weights = []
    for key, count in found.items():
        frequency = statistics.frequencies.get(key, 0)
        if query.doc_freq_min <= frequency <= (query.doc_freq_max or frequency):
            weights.append((-count * idf(statistics.documents, frequency), key.field, key.term))
    terms = [Term(field, TEXT, term) for _, field, term in sorted(weights)[: query.terms_max]]
    if not terms:
        return Nothing()
    without = (Ids(tuple(sorted(liked))),) if liked and not query.include else ()
    minimum = min(len(terms), max(1, needed(query.minimum, len(terms))))
    return Bool(should=tuple(terms), must_not=without, minimum=minimum)
