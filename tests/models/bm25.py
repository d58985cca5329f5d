"""A search engine in a page of plain Python: what queries find in a list of documents, and their BM25 scores.

It knows nothing of the project's indexes: words are runs of ASCII letters, lower-cased; there are no
segments, no ranges, no analyzers. Each query is a function from a document to its score, or None where it
does not match, and says itself in Elasticsearch's words, so that the same query can be asked of both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

Document = dict[str, Any]
Score = Callable[[Document], "float | None"]


@lru_cache(100_000)
def words(text: str) -> list[str]:
    return re.findall("[a-z]+", text.lower())


class Asked(NamedTuple):
    """A query both ways."""

    json: dict[str, Any]
    score: Score


class Oracle:
    """All documents, by id."""

    def __init__(self, documents: dict[str, Document]) -> None:
        self.documents = documents
        self._averages: dict[str, float] = {}

    def find(self, asked: Asked) -> dict[str, float]:
        """The score of each document that matches."""
        scores = {name: asked.score(document) for name, document in self.documents.items()}
        return {name: score for name, score in scores.items() if score is not None}

    # --- weights

    def _idf(self, field: str, word: str) -> float:
        total = len(self.documents)
        having = sum(word in words(d.get(field, "")) for d in self.documents.values())
        return math.log(1 + (total - having + 0.5) / (having + 0.5))

    def _average(self, field: str) -> float:
        if field not in self._averages:
            lengths = [len(words(d[field])) for d in self.documents.values() if words(d.get(field, ""))]
            self._averages[field] = max(1.0, sum(lengths) / len(lengths)) if lengths else 1.0
        return self._averages[field]

    def _bm25(self, field: str, weight: float, frequency: int, document: Document) -> float:
        length = len(words(document[field]))
        return weight * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * length / self._average(field)))

    # --- queries

    def word(self, field: str, word: str) -> Asked:
        idf = self._idf(field, word)

        def score(document: Document) -> float | None:
            frequency = words(document.get(field, "")).count(word)
            return self._bm25(field, idf, frequency, document) if frequency else None

        return Asked({"match": {field: word}}, score)

    def match(self, field: str, text: list[str], operator: str) -> Asked:
        terms = [self.word(field, word) for word in text]
        found = self.boolean(must=terms) if operator == "and" else self.boolean(should=terms)
        return Asked({"match": {field: {"query": " ".join(text), "operator": operator}}}, found.score)

    def phrase(self, field: str, text: list[str]) -> Asked:
        idf = sum(self._idf(field, word) for word in text)

        def score(document: Document) -> float | None:
            held = words(document.get(field, ""))
            frequency = sum(held[i : i + len(text)] == text for i in range(len(held)))
            return self._bm25(field, idf, frequency, document) if frequency else None

        return Asked({"match_phrase": {field: " ".join(text)}}, score)

    def prefix(self, field: str, prefix: str) -> Asked:
        def score(document: Document) -> float | None:
            return 1.0 if any(word.startswith(prefix) for word in words(document.get(field, ""))) else None

        return Asked({"prefix": {field: prefix}}, score)

    def between(self, field: str, low: int, high: int) -> Asked:
        def score(document: Document) -> float | None:
            value = document.get(field)
            return 1.0 if value is not None and low <= value < high else None

        return Asked({"range": {field: {"gte": low, "lt": high}}}, score)

    def exists(self, field: str) -> Asked:
        return Asked({"exists": {"field": field}}, lambda document: 1.0 if field in document else None)

    def boolean(
        self,
        must: Sequence[Asked] = (),
        should: Sequence[Asked] = (),
        must_not: Sequence[Asked] = (),
        filters: Sequence[Asked] = (),
    ) -> Asked:
        body = {"must": must, "should": should, "must_not": must_not, "filter": filters}

        def score(document: Document) -> float | None:
            needed = [each.score(document) for each in must]
            wanted = [found for each in should if (found := each.score(document)) is not None]
            allowed = all(each.score(document) is not None for each in filters)
            excluded = any(each.score(document) is not None for each in must_not)
            if (
                excluded
                or not allowed
                or None in needed
                or (should and not must and not filters and not wanted)
            ):
                return None
            return sum(found for found in needed if found is not None) + sum(wanted)

        return Asked(
            {"bool": {name: [each.json for each in part] for name, part in body.items() if part}}, score
        )

    def dis_max(self, queries: list[Asked], tie_breaker: float) -> Asked:
        def score(document: Document) -> float | None:
            found = sorted(s for each in queries if (s := each.score(document)) is not None)
            return found[-1] + tie_breaker * sum(found[:-1]) if found else None

        body = {"queries": [each.json for each in queries], "tie_breaker": tie_breaker}
        return Asked({"dis_max": body}, score)
