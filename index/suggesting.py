"""Suggestions: what a misspelt word may have been meant to be, and how a word that was begun may go on."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from index.analysis.distance import within
from index.bounds import TEXT_CHARS_MAX, QueryError, RefusedError
from index.options import Body, check_field
from index.query import ALL, EXACT, TEXT
from index.rewriting import KEYWORD

CANDIDATES_MAX: Final = 5_000
WORDS_MAX: Final = 20
DISTANCE_MAX: Final = 2


class SuggestBody(msgspec.Struct, frozen=True):
    """What is asked: other spellings of the words of `text`, or how `prefix` goes on."""

    field: str
    view: str
    text: str | None
    prefix: str | None
    size: int
    fresh: bool


def parse_suggest(body: Any) -> SuggestBody | QueryError:
    """A body, or what is wrong with it."""
    try:
        options = Body(body, "body", 0)
        field = check_field(options.take("field", ALL), "body.field")
        text, prefix = options.take("text"), options.take("prefix")
        if (text is None) == (prefix is None):
            raise RefusedError("either text (other spellings) or prefix (completion) is needed", "body")
        value = prefix if text is None else text
        if not isinstance(value, str) or not 0 < len(value) <= TEXT_CHARS_MAX:
            raise RefusedError(f"text and prefix have 1 to {TEXT_CHARS_MAX} characters", "body")
        found = SuggestBody(
            field.removesuffix(KEYWORD),
            EXACT if field.endswith(KEYWORD) else TEXT,
            text,
            prefix,
            options.integer("size", 5, 1, 100),
            options.boolean("refresh", False),
        )
        options.leftover()
    except RefusedError as refused:
        return refused.error
    return found


def spellings(word: str, known: tuple[tuple[str, int], ...], size: int) -> list[tuple[str, int]]:
    """Terms near a word: the nearest, then the most frequent. The word itself, if it is one, is first."""
    found = []
    for term, count in known:
        distance = next((d for d in range(DISTANCE_MAX + 1) if within(word, term, d, True)), None)
        if distance is not None:
            found.append((distance, -count, term))
    return [(term, -count) for _, count, term in sorted(found)[:size]]
