"""Suggestions: what a misspelt word may have been meant to be, and how a word that was begun may go on."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from index.analysis.distance import within
from index.bounds import TEXT_CHARS_MAX, QueryError, RefusedError
from index.options import Body, check_field
from index.query import ALL, EXACT, TEXT
from index.rewriting import KEYWORD

CANDIDATES_MAX: Final = 5_000
WORDS_MAX: Final = 20
DISTANCE_MAX: Final = 2
SUGGESTIONS_MAX: Final = 20


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


class Suggestion(msgspec.Struct, frozen=True):
    """One of those in a search's body: `term` (other spellings of the words of a text) or `completion`.

    `mode` is as Elasticsearch's `suggest_mode`, `edits` how far a term may be from a word, `length` how long
    it is at least.
    """

    name: str
    kind: str
    field: str
    view: str
    text: str
    size: int
    mode: str = "missing"
    edits: int = DISTANCE_MAX
    length: int = 4


_OF_TERMS: Final = (
    *("sort", "prefix_length", "shard_size", "max_inspections", "min_doc_freq"),
    *("max_term_freq", "string_distance", "lowercase_terms", "analyzer"),
)


def read_suggestions(given: Any) -> tuple[Suggestion, ...]:
    """The member `suggest` of a body; raises RefusedError."""
    if given is None:
        return ()
    if not isinstance(given, dict) or len(given) > SUGGESTIONS_MAX:
        raise RefusedError(f"suggest is an object of at most {SUGGESTIONS_MAX} by name", "suggest")
    text = given.get("text")
    return tuple(_suggestion(name, each, text) for name, each in given.items() if name != "text")


def _suggestion(name: str, given: Any, text: Any) -> Suggestion:
    path = f"suggest.{name}"
    options = Body(given, path, 0)
    texts = (options.take("text"), options.take("prefix"), text)
    text = next((one for one in texts if one is not None), None)
    if "phrase" in options.object():
        raise RefusedError("phrase is not supported: term suggests per word", f"{path}.phrase")
    term, completion = options.take("term"), options.take("completion")
    options.leftover()
    if (term is None) == (completion is None):
        raise RefusedError("either term or completion is needed", path)
    if not isinstance(text, str) or not 0 < len(text) <= TEXT_CHARS_MAX:
        raise RefusedError(f"text (or prefix) has 1 to {TEXT_CHARS_MAX} characters", path)
    kind = "completion" if term is None else "term"
    inner = Body(completion if term is None else term, f"{path}.{kind}", 0)
    field = check_field(inner.need("field"), inner.path)
    found = Suggestion(
        name,
        kind,
        field.removesuffix(KEYWORD),
        EXACT if field.endswith(KEYWORD) else TEXT,
        text,
        inner.integer("size", 5, 1, 100),
    )
    if kind == "term":
        mode = inner.one_of("suggest_mode", ("missing", "popular", "always"), "missing")
        edits = inner.integer("max_edits", DISTANCE_MAX, 1, DISTANCE_MAX)
        length = inner.integer("min_word_length", 4, 1, 100)
        found = replace(found, mode=mode, edits=edits, length=length)
        inner.without_effect(*_OF_TERMS)
    else:
        inner.boolean("skip_duplicates", True)  # they are words: each is there once
    inner.leftover()
    return found


def spellings(word: str, known: tuple[tuple[str, int], ...], size: int) -> list[tuple[str, int]]:
    """Terms near a word: the nearest, then the most frequent. The word itself, if it is one, is first."""
    found = []
    for term, count in known:
        distance = next((d for d in range(DISTANCE_MAX + 1) if within(word, term, d, True)), None)
        if distance is not None:
            found.append((distance, -count, term))
    return [(term, -count) for _, count, term in sorted(found)[:size]]
