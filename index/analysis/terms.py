"""What is done to tokens after words were found: stop words and synonyms.

A stop word leaves a hole in the positions, so phrases keep their distances.

Synonyms are brought to one form, in indexing and in searching alike: of a rule `a, b c, d` the first is the
form, of `a, b c => d` the right side. A search asks for the form alone; an index keeps what was written at
its position, too (but for the left side of `=>`), so prefixes and patterns of it still match. So the
statistics of synonyms are those of one term, and several words may be a synonym of one. Of several rules that
fit at one place the longest wins. Changed rules need the index to be built anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from index.analysis.tokens import Token

SYNONYMS_MAX = 10_000
STOP_WORDS_MAX = 10_000


class Synonyms(msgspec.Struct, frozen=True):
    """Rules by their first term: (all terms, the form, whether what was written stays)."""

    rules: dict[str, tuple[tuple[tuple[str, ...], str, bool], ...]]


def compile_synonyms(lines: Sequence[str], analyze: Callable[[str], list[Token]]) -> Synonyms:
    """Rules from their text, their words analyzed as the index's are; raises ValueError for what is none."""
    rules: dict[str, list[tuple[tuple[str, ...], str, bool]]] = {}
    for line in lines:
        left, arrow, right = line.partition("=>")
        members = [_words(part, analyze) for part in left.split(",")]
        form = " ".join(_words(right, analyze) if arrow else members[0])
        if not form or not all(members) or (not arrow and len(members) < 2):
            raise ValueError(f"not a rule of synonyms: {line!r}; write `a, b, c` or `a, b => c`")
        for words in members:
            if arrow or " ".join(words) != form:
                rules.setdefault(words[0], []).append((words, form, not arrow))
    return Synonyms({first: tuple(sorted(some, key=_longest)) for first, some in rules.items()})


def _longest(rule: tuple[tuple[str, ...], str, bool]) -> tuple[int, tuple[str, ...]]:
    return (-len(rule[0]), rule[0])


def _words(text: str, analyze: Callable[[str], list[Token]]) -> tuple[str, ...]:
    return tuple(token.term for token in analyze(text))


def with_synonyms(tokens: list[Token], synonyms: Synonyms, *, query: bool) -> list[Token]:
    """Tokens with each synonym in its form."""
    found: list[Token] = []
    at = 0
    while at < len(tokens):
        fitting = _fitting(tokens, at, synonyms)
        if fitting is None:
            found.append(tokens[at])
            at += 1
            continue
        words, form, stays = fitting
        part = tokens[at : at + len(words)]
        found.append(Token(form, part[0].start, part[-1].end, part[0].position))
        if stays and not query:
            found += part
        at += len(words)
    return found


def _fitting(tokens: list[Token], at: int, synonyms: Synonyms) -> tuple[tuple[str, ...], str, bool] | None:
    for rule in synonyms.rules.get(tokens[at].term, ()):
        words = rule[0]
        if tuple(token.term for token in tokens[at : at + len(words)]) == words:
            return rule
    return None
