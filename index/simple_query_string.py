"""The simple query string, for a search box: `+` and, `|` or, `-` not, `"phrase"~2`, `pre*`, `fuzzy~1`, ( ).

It never fails: what cannot be an operator is text. `-` is an operator only right before a word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from index.bounds import CLAUSES_MAX, DEPTH_MAX, TEXT_CHARS_MAX
from index.query import AnyOf, Bool, Boost, Match, MatchPhrase, Nothing, Pattern, Query
from index.query_string import SLOP_MAX, Options

FLAGS: Final = (
    *("ALL", "NONE", "AND", "OR", "NOT", "PREFIX", "PHRASE", "PRECEDENCE", "ESCAPE", "WHITESPACE"),
    *("FUZZY", "NEAR", "SLOP"),
)
_SPACE = " \t\r\n\u3000"
_OF_FLAG = {"(": "PRECEDENCE", ")": "PRECEDENCE", "|": "OR", "+": "AND", '"': "PHRASE", "-": "NOT"}


def parse_simple(text: str, options: Options) -> Query:
    """The query that this text means; nothing but operators finds nothing."""
    return _Parser(text[:TEXT_CHARS_MAX], options).either(0) or Nothing()


class _Parser:
    def __init__(self, text: str, options: Options) -> None:
        self._text = text
        self._options = options
        self._at = 0
        self._clauses = 0
        self._flags = options.flags
        self._stops = "".join(sign for sign in '()|+"' if self._on(_OF_FLAG[sign]))
        if self._on("WHITESPACE"):
            self._stops += _SPACE

    def _on(self, flag: str) -> bool:
        """Whether an operator is one here."""
        return "ALL" in self._flags or flag in self._flags

    def _is(self, sign: str) -> bool:
        """Whether an operator stands here."""
        return self._on(_OF_FLAG[sign]) and self._text.startswith(sign, self._at)

    def either(self, depth: int) -> Query | None:
        """Clauses with what is between them, up to a closing bracket or the end."""
        groups: list[list[Query]] = []
        joined = ""
        while self._at < len(self._text):
            here = self._text[self._at]
            if here in _SPACE:
                self._at += 1
            elif here in "+|" and self._is(here):
                joined = here
                self._at += 1
            elif self._is(")"):
                self._at += 1
                if depth:
                    break
            else:
                query = self._clause(depth)
                if query is None:
                    continue
                operator = joined or ("+" if self._options.operator == "and" else "|")
                if operator == "+" and groups:
                    groups[-1].append(query)
                else:
                    groups.append([query])
                joined = ""
        queries = tuple(group[0] if len(group) == 1 else Bool(must=tuple(group)) for group in groups)
        if not queries:
            return None
        return queries[0] if len(queries) == 1 else Bool(should=queries, minimum=1)

    def _clause(self, depth: int) -> Query | None:
        is_not = False
        while self._is("-"):
            follows = self._text[self._at + 1 : self._at + 2]
            self._at += 1
            if not follows or follows in _SPACE:
                return None
            is_not = True
        query = self._primary(depth)
        if query is None or self._clauses >= CLAUSES_MAX // 4:
            return None
        self._clauses += 1
        return Bool(must_not=(query,)) if is_not else query

    def _primary(self, depth: int) -> Query | None:
        if self._is("("):
            self._at += 1
            return self.either(depth + 1) if depth < DEPTH_MAX else None
        if self._is('"'):
            end = self._text.find('"', self._at + 1)
            text = self._text[self._at + 1 : end if end >= 0 else len(self._text)]
            self._at = end + 1 if end >= 0 else len(self._text)
            slop = self._number() if self._on("NEAR") or self._on("SLOP") else 0
            moves = min(slop or 0, SLOP_MAX)
            return self._each(
                lambda field: MatchPhrase(field, text, moves, analyzer=self._options.analyzer),
                lambda: self._any_of(text, "phrase", moves),
            )
        return self._word()

    def _number(self) -> int | None:
        """The digits after a `~`, 0 for none, None if there is no `~`."""
        if not self._text.startswith("~", self._at):
            return None
        self._at += 1
        begun_at = self._at
        while self._at < len(self._text) and self._text[self._at] in "0123456789" and self._at < begun_at + 6:
            self._at += 1
        return int(self._text[begun_at : self._at] or "0")

    def _word(self) -> Query | None:
        found: list[str] = []
        escaped = False
        while self._at < len(self._text):
            here = self._text[self._at]
            if here in self._stops:
                break
            self._at += 1
            escaped = here == "\\" and self._at < len(self._text) and self._on("ESCAPE")
            if escaped:
                here = self._text[self._at]
                self._at += 1
            found.append(here)
        text = "".join(found)
        if not text:
            return None
        if text.endswith("*") and not escaped and len(text) > 1 and self._on("PREFIX"):
            return self._each(lambda field: Pattern(field, "prefix", text[:-1], ignore_case=True))
        word, tilde, digit = text.rpartition("~")
        if tilde and word and digit in ("", "0", "1", "2") and self._on("FUZZY"):
            distance, options = digit or "AUTO", self._options
            return self._each(
                lambda field: Pattern(
                    field, "fuzzy", word, distance, options.prefix_length, options.transpositions, True
                )
            )
        return self._each(
            lambda field: Match(field, text, analyzer=self._options.analyzer),
            lambda: self._any_of(text, "best_fields", 0),
        )

    def _each(self, one: Callable[[str], Query], many: Callable[[], Query] | None = None) -> Query:
        fields = self._options.fields
        if len(fields) > 1 and many is not None:
            return many()
        queries = tuple(one(n) if b == 1 else Boost(one(n), b) for n, b in fields)
        return queries[0] if len(queries) == 1 else Bool(should=queries, minimum=1)

    def _any_of(self, text: str, kind: str, slop: int) -> Query:
        return AnyOf(self._options.fields, text, kind, slop=slop, analyzer=self._options.analyzer)
