"""BM25 (Robertson and Zaragoza 2009), by the statistics of the whole cluster.

A term that occurs f times in a field of l terms scores

    idf * f * (k1 + 1) / (f + k1 * (1 - b + b * l / average))       idf = ln(1 + (N - n + 0.5) / (n + 0.5))

with N documents, n of them with the term, and the average over documents that have the field. A phrase scores
so with its own frequency and the sum of its terms' idf. (Elasticsearch multiplies by k1 + 1, too.)
"""

from __future__ import annotations

from math import log

from index.query import K1, B, FieldLength, Statistics, TermKey


def idf(documents: int, frequency: int) -> float:
    """The weight of a term that so many of all documents have."""
    return log(1 + (max(documents, frequency) - frequency + 0.5) / (frequency + 0.5))


def term_idf(statistics: Statistics, field: str, term: str) -> float:
    """The weight of a term by these statistics."""
    return idf(statistics.documents, statistics.frequencies.get(TermKey(field, term), 0))


def average_length(statistics: Statistics, field: str) -> float:
    """The average length of a field, at least 1."""
    length = statistics.lengths.get(field, FieldLength(0, 0))
    return max(1.0, length.terms / length.documents) if length.documents else 1.0


def bm25(weight: float, frequency: float, length: int, average: float) -> float:
    """The score of what occurs so often in a field of this length."""
    return weight * frequency * (K1 + 1) / (frequency + K1 * (1 - B + B * length / average))
