"""`suggest` in a search's body, in Elasticsearch's words: other spellings of words (`term`), and how a word
goes on (`completion`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from index.analysis.distance import within
from index.analysis.tokens import Token
from index.query import TEXT
from index.suggesting import CANDIDATES_MAX, DISTANCE_MAX, WORDS_MAX, Suggestion

Expand = Callable[[Suggestion, tuple[str, ...], int], Awaitable[Sequence[tuple[tuple[str, int], ...]]]]
"""Terms of its field that begin with these prefixes, with how many documents have them."""


class _Near(NamedTuple):
    distance: int
    documents: int
    term: str


async def suggested(asked: Suggestion, tokens: Sequence[Token], expand: Expand) -> list[dict[str, Any]]:
    """The entries of one suggestion; `tokens` are the words of its text."""
    text, size = asked.text, asked.size
    if asked.kind == "completion":
        prefix = text.lower() if asked.view == TEXT else text
        (found,) = await expand(asked, (prefix,), size)
        options = [{"text": term, "score": float(count)} for term, count in found]
        return [{"text": text, "offset": 0, "length": len(text), "options": options}]
    words = list(tokens)[:WORDS_MAX]
    known = await expand(asked, tuple(token.term[:1] for token in words), CANDIDATES_MAX)
    shown = []
    for token, terms in zip(words, known, strict=True):
        options = _options(asked, token.term, terms)
        length = token.end - token.start
        shown.append({"text": token.term, "offset": token.start, "length": length, "options": options})
    return shown


def _options(asked: Suggestion, word: str, terms: tuple[tuple[str, int], ...]) -> list[dict[str, Any]]:
    """Terms near a word, the nearest first; of a word that is there none, unless other modes are asked for.
    """
    own = dict(terms).get(word, 0)
    if own and asked.mode == "missing":
        return []
    near = [
        _Near(distance, count, term)
        for term, count in terms
        if term != word and len(term) >= asked.length and (asked.mode != "popular" or count > own)
        for distance in (_distance(word, term),)
        if 0 < distance <= asked.edits
    ]
    near.sort(key=lambda one: (-_score(word, one), -one.documents, one.term))
    first = near[: asked.size]
    return [{"text": one.term, "score": _score(word, one), "freq": one.documents} for one in first]


_FAR: Final = DISTANCE_MAX + 1


def _distance(word: str, term: str) -> int:
    return next((d for d in range(_FAR) if within(word, term, d, True)), _FAR)


def _score(word: str, one: _Near) -> float:
    return round(1 - one.distance / max(1, min(len(word), len(one.term))), 6)
