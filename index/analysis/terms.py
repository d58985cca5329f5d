"""What is done to tokens after words were found: stop words and synonyms.

A stop word leaves a hole in the positions, so phrases keep their distances.

Synonyms are brought to one form, in indexing and in searching alike: of a rule `a, b c, d` the first is the
form, of `a, b => c, d e` each on the right side is one. A form is one term, whatever it was made of, so the
words of a form that is several terms are brought to it, too. A search asks for the forms alone, as
alternatives; an index keeps what was written at its position, too (but for the left side of `=>`), so
prefixes and patterns of it still match. So the statistics of synonyms are those of one term, and several
words may be a synonym of one. Words that several rules name have the forms of all. Where several words fit at
one place the longest win. Changed rules need the index to be built anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from index.analysis.tokens import Token

SYNONYMS_MAX = 10_000
STOP_WORDS_MAX = 10_000


class Rule(msgspec.Struct, frozen=True):
    """What becomes of these terms, one after the other."""

    words: tuple[str, ...]
    forms: tuple[str, ...]
    stays: bool
    """Whether an index keeps what was written, too."""


class Synonyms(msgspec.Struct, frozen=True):
    """Rules by their first term."""

    rules: dict[str, tuple[Rule, ...]]


def compile_synonyms(lines: Sequence[str], analyze: Callable[[str], list[Token]]) -> Synonyms:
    """Rules from their text, their words analyzed as the index's are; raises ValueError for what is none."""
    forms: dict[tuple[str, ...], dict[str, None]] = {}
    staying: dict[tuple[str, ...], None] = {}
    for line in lines:
        left, arrow, right = line.partition("=>")
        members = [_words(part, analyze) for part in left.split(",")]
        wanted = [_words(part, analyze) for part in right.split(",")] if arrow else members[:1]
        if not all(members) or not all(wanted) or (not arrow and len(members) < 2):
            raise ValueError(f"not a rule of synonyms: {line!r}; write `a, b, c` or `a, b => c`")
        for words in members:
            forms.setdefault(words, {}).update({" ".join(form): None for form in wanted})
        for words in wanted if arrow else members:
            forms.setdefault(words, {})
            staying[words] = None
        for words in wanted:
            forms[words][" ".join(words)] = None
    rules: dict[str, list[Rule]] = {}
    for words, some in forms.items():
        if tuple(some) != words:  # what is its own form stays as it is
            rules.setdefault(words[0], []).append(Rule(words, tuple(some), words in staying))
    return Synonyms({first: tuple(sorted(some, key=_longest)) for first, some in rules.items()})


def _longest(rule: Rule) -> tuple[int, tuple[str, ...]]:
    return (-len(rule.words), rule.words)


def _words(text: str, analyze: Callable[[str], list[Token]]) -> tuple[str, ...]:
    return tuple(token.term for token in analyze(text))


def with_synonyms(tokens: list[Token], synonyms: Synonyms, *, query: bool) -> list[Token]:
    """Tokens with each synonym in its form."""
    found: list[Token] = []
    at = 0
    while at < len(tokens):
        rule = _fitting(tokens, at, synonyms)
        if rule is None:
            found.append(tokens[at])
            at += 1
            continue
        part = tokens[at : at + len(rule.words)]
        start, end, position = part[0].start, part[-1].end, part[0].position
        found += [Token(form, start, end, position) for form in rule.forms]
        if rule.stays and not query:
            found += [token for token in part if token.term not in rule.forms]
        at += len(rule.words)
    return found


def _fitting(tokens: list[Token], at: int, synonyms: Synonyms) -> Rule | None:
    for rule in synonyms.rules.get(tokens[at].term, ()):
        if tuple(token.term for token in tokens[at : at + len(rule.words)]) == rule.words:
            return rule
    return None
