"""The query string: `title:space -horror "exact phrase"~2 year:[1990 TO 2000] fuzzy~1 pre* (a OR b)^2`.

    query    := either { [OR] either }          side by side means the default operator
    either   := clause { AND clause }           AND binds tighter than OR
    clause   := [ + | - | ! | NOT ] primary [ ^boost ]
    primary  := [field:] ( "phrase"[~slop] | word[~fuzzy] | pre* | w?ld
                           | /regular expression/ | [a TO b] | {a TO b} | >=a | ( query ) )

`_exists_:f` and `f:*` ask for any value, `*:*` for everything. A field with blanks in its name is quoted. A
backslash takes the next character as it is.

Two modes. *Strict* reports the first error with its position. *Lenient*, for a search box, never fails: what
cannot be understood is skipped or taken for text, and told in `problems`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeGuard

import msgspec

from index.bounds import CLAUSES_MAX, DEPTH_MAX, TEXT_CHARS_MAX, QueryError, RefusedError, is_boost
from index.fields import WHOLE_WORDS_MAX
from index.query import (
    ALL,
    All,
    AnyOf,
    AtLeast,
    Bool,
    Boost,
    Called,
    Compare,
    Exists,
    InFields,
    Match,
    MatchPhrase,
    Nothing,
    Pattern,
    Query,
)
from index.regexes import term_regex

MUST, NOT, SHOULD = "+", "-", ""
_SPACE: Final = " \t\r\n\u3000"
_STOPS: Final = _SPACE + '()[]{}"^~:'
_SUFFIX = re.compile(r"([~^])(\d{1,6}(?:\.\d{0,6})?|\.\d{1,6})?", re.ASCII)
_COMPARISON = re.compile(r"[<>]=?")
_BOUND = re.compile(r'"((?:[^"\\]|\\.)*)"|((?:[^\s"\]}\\]|\\.)+)', re.DOTALL)
_REGEX = re.compile(r"/((?:[^/\\]|\\.)*)/", re.DOTALL)
SLOP_MAX: Final = 1_000


class Problem(msgspec.Struct, frozen=True):
    """Something that was not understood, from this character on."""

    detail: str
    position: int


class Parsed(msgspec.Struct, frozen=True):
    """A query, and what a lenient parser made do with."""

    query: Query
    problems: tuple[Problem, ...] = ()


class Options(msgspec.Struct, frozen=True):
    """How to read a query string. `fields` (with boosts) are searched where none is named."""

    fields: tuple[tuple[str, float], ...] = ((ALL, 1.0),)
    operator: str = "or"
    lenient: bool = False
    analyzer: str = ""
    phrase_slop: int = 0
    fuzziness: str = "AUTO"
    prefix_length: int = 0
    minimum: str = ""
    zone: str = ""
    kind: str = "best_fields"
    tie_breaker: float = -1.0
    leading_wildcard: bool = True
    transpositions: bool = True
    flags: tuple[str, ...] = ("ALL",)


def parse_query_string(text: str, options: Options) -> Parsed | QueryError:
    """The query that this text means. A QueryError only if not `options.lenient`."""
    try:
        return _Parser(text, options).parse()
    except RefusedError as refused:
        assert not options.lenient, "a lenient parser never fails"
        return refused.error


_Item = tuple[str, Query]
"""How a clause occurs, and what it is."""


class _Parser:
    def __init__(self, text: str, options: Options) -> None:
        self._options = options
        self._problems: list[Problem] = []
        self._at = 0
        self._depth = 0
        self._clauses = 0
        self._fields = options.fields
        self._text = text
        if len(text) > TEXT_CHARS_MAX:
            self._wrong(f"a query string has at most {TEXT_CHARS_MAX} characters", TEXT_CHARS_MAX)
            self._text = text[:TEXT_CHARS_MAX]

    def parse(self) -> Parsed:
        """All of the text."""
        items: list[_Item] = []
        while True:
            items += self._query()
            if self._at >= len(self._text):
                break
            self._wrong(f"`{self._text[self._at]}` has no beginning: escape it by a backslash", self._at)
            self._at += 1
        query = _joined(items)
        if self._options.minimum and isinstance(query, Bool) and query.should:
            counted = AtLeast(query.should, self._options.minimum)
            query = Bool((*query.must, counted), (), query.must_not)
        return Parsed(query, tuple(self._problems))

    def _wrong(self, detail: str, position: int) -> None:
        """A strict parser ends here, a lenient one notes it."""
        if not self._options.lenient:
            raise RefusedError(detail, "", position)
        if len(self._problems) < 10:
            self._problems.append(Problem(detail, position))

    # --- the text

    def _skip(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in _SPACE:
            self._at += 1

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _word_is(self, *words: str) -> str:
        """Which of these operators stands here as a word of its own, taken; "" if none."""
        for word in words:
            end = self._at + len(word)
            if self._text.startswith(word, self._at):
                if not word.isalpha() or end >= len(self._text) or self._text[end] in _SPACE + "()":
                    self._at = end
                    return word
        return ""

    # --- structure

    def _query(self) -> list[_Item]:
        """Clauses up to a closing bracket or the end."""
        is_and = self._options.operator == "and"
        groups: list[list[_Item]] = []
        joins, begun_at = False, self._at
        while True:
            self._skip()
            before = self._at
            operator = self._word_is("AND", "&&", "OR", "||")
            if operator:
                if not groups or joins:
                    self._wrong(f"{operator} has nothing before it", before)
                    continue
                joins, is_and, begun_at = True, operator in ("AND", "&&"), before
                continue
            if self._at >= len(self._text) or self._peek() in ")]}":
                break
            item = self._clause()
            if item is None:
                continue
            if is_and and groups:
                groups[-1].append(item)
            else:
                groups.append([item])
            joins, is_and = False, self._options.operator == "and"
        if joins:
            self._wrong("nothing follows AND or OR", begun_at)
        return [group[0] if len(group) == 1 else (SHOULD, _conjoined(group)) for group in groups]

    def _clause(self) -> _Item | None:
        """One clause; None if nothing came of it."""
        occurs, begun_at = SHOULD, self._at
        while True:
            if self._word_is("NOT"):
                occurs = NOT
            elif self._peek() in ("+", "-", "!") and self._text[self._at + 1 : self._at + 2].strip(_SPACE):
                occurs = MUST if self._peek() == "+" else NOT
                self._at += 1
            elif self._peek() and self._peek() in "+-!":
                self._wrong(f"`{self._peek()}` stands alone: it belongs right before a word", self._at)
                self._at += 1
            else:
                break
            self._skip()
        if self._at >= len(self._text) or self._peek() in ")]}":
            if self._at > begun_at:
                self._wrong("nothing follows the operator", begun_at)
            return None
        query = self._primary()
        if query is None:
            return None
        self._clauses += 1
        if self._clauses > CLAUSES_MAX // 2:
            self._wrong(f"a query string has at most {CLAUSES_MAX // 2} clauses", self._at)
            self._at = len(self._text)
            return None
        return occurs, query

    def _primary(self) -> Query | None:
        here = self._peek()
        if here == "(":
            return self._group()
        if here == '"':
            return self._phrase()
        if here in "[{":
            return self._range()
        if here in "<>":
            return self._comparison()
        if here == "/":
            return self._regex()
        if here in "^~:":
            self._wrong(f"`{here}` has nothing before it: escape it by a backslash", self._at)
            self._at += 1
            return None
        return self._word()

    def _group(self) -> Query | None:
        begun_at = self._at
        self._at += 1
        if self._depth >= DEPTH_MAX:
            self._wrong(f"brackets are nested more than {DEPTH_MAX} deep", begun_at)
            return None
        self._depth += 1
        items = self._query()
        self._depth -= 1
        if self._peek() == ")":
            self._at += 1
        elif self._at >= len(self._text):
            self._wrong("the bracket that opens here is not closed", begun_at)
        if not items:
            self._wrong("the brackets hold nothing", begun_at)
            return None
        return self._boosted(_joined(items))

    def _boosted(self, query: Query) -> Query:
        """With the `^boost` that follows, if one does."""
        suffix = self._suffix("^")
        return query if suffix is None or suffix == 1 else Boost(query, suffix)

    def _suffix(self, sign: str) -> float | None:
        """The number after this sign, -1 for the sign alone, None if the sign is not here."""
        match = _SUFFIX.match(self._text, self._at)
        if match is None or match[1] != sign:
            return None
        at, self._at = self._at, match.end()
        if match[2] is None:
            if sign == "^":
                self._wrong("a number follows ^", at)
                return 1.0
            return -1.0
        value = float(match[2])
        if sign == "^" and not is_boost(value):
            self._wrong("a boost is 0 to 1,000,000", at)
            return 1.0
        return value

    # --- leaves

    def _phrase(self) -> Query | None:
        begun_at = self._at
        self._at += 1
        text = self._quoted(begun_at)
        if text and self._peek() == ":":  # a field with blanks in its name
            self._at += 1
            return self._of_field(text, begun_at)
        slop = self._suffix("~")
        moves = self._options.phrase_slop if slop is None or slop < 0 else int(min(slop, SLOP_MAX))

        def one(field: str) -> Query:
            return MatchPhrase(field, text, moves, analyzer=self._options.analyzer)

        return self._boosted(self._leaf(one, lambda: self._any_of(text, "phrase", slop=moves)))

    def _regex(self) -> Query | None:
        """An expression between slashes; a slash within it has a backslash before it."""
        begun_at = self._at
        match = _REGEX.match(self._text, begun_at)
        if match is None:
            self._wrong("the expression that opens here is not closed: escape / by a backslash", begun_at)
            return self._word()
        self._at = match.end()
        try:
            expression = term_regex(match[1].replace("\\/", "/"), ignore_case=True)
        except RefusedError as refused:
            self._wrong(refused.error.detail, begun_at + 1 + max(0, refused.error.position))
            return None
        return self._boosted(self._leaf(lambda field: Pattern(field, "regexp", expression)))

    def _quoted(self, begun_at: int) -> str:
        """Up to the closing quote, escapes resolved."""
        found: list[str] = []
        while self._at < len(self._text):
            here = self._text[self._at]
            self._at += 1
            if here == '"':
                return "".join(found)
            if here == "\\" and self._at < len(self._text):
                here = self._text[self._at]
                self._at += 1
            found.append(here)
        self._wrong("the quote that opens here is not closed", begun_at)
        return "".join(found)

    def _range(self) -> Query | None:
        begun_at = self._at
        include_low = self._text[self._at] == "["
        self._at += 1
        low = self._bound()
        self._skip()
        has_to = bool(self._word_is("TO"))
        high = self._bound() if has_to else None
        self._skip()
        if not has_to or low is None or high is None or self._peek() not in ("]", "}"):
            self._wrong("a range is [low TO high], * for no bound, { } to leave a bound out", begun_at)
            closing = [at for at in (self._text.find(c, begun_at) for c in "]}") if at >= 0]
            self._at = min(closing) + 1 if closing else len(self._text)
            return None
        include_high = self._peek() == "]"
        self._at += 1
        bounds = (None if low == "*" else low, None if high == "*" else high)
        zone = self._options.zone

        def one(field: str) -> Query:
            return Compare(field, *bounds, include_low, include_high, zone)

        return self._boosted(self._leaf(one))

    def _bound(self) -> str | None:
        self._skip()
        match = _BOUND.match(self._text, self._at)
        if match is None or match[0] == "TO":
            return None
        self._at = match.end()
        return re.sub(r"\\(.)", r"\1", match[1] if match[1] is not None else match[2], flags=re.DOTALL)

    def _comparison(self) -> Query | None:
        begun_at = self._at
        match = _COMPARISON.match(self._text, self._at)
        assert match is not None, "a comparison begins with < or >"
        self._at = match.end()
        value = self._quoted(self._take()) if self._peek() == '"' else self._term()[0]
        if not value:
            self._wrong(f"a value follows {match[0]}", begun_at)
            return None
        include = match[0].endswith("=")
        low, high = (value, None) if match[0][0] == ">" else (None, value)
        return self._boosted(
            self._leaf(lambda field: Compare(field, low, high, include, include, self._options.zone))
        )

    def _take(self) -> int:
        self._at += 1
        return self._at - 1

    def _term(self) -> tuple[str, str, bool]:
        """A word: as text, as a pattern with its escapes, and whether it has wildcards."""
        text: list[str] = []
        raw: list[str] = []
        is_pattern = False
        while self._at < len(self._text) and self._text[self._at] not in _STOPS:
            here = self._text[self._at]
            self._at += 1
            if here == "\\":
                if self._at < len(self._text):
                    text.append(self._text[self._at])
                    raw.append("\\" + self._text[self._at])
                    self._at += 1
                continue
            is_pattern |= here in "*?"
            text.append(here)
            raw.append("\\" + here if here == "\\" else here)
        return "".join(text), "".join(raw), is_pattern

    def _word(self) -> Query | None:
        begun_at = self._at
        text, raw, is_pattern = self._term()
        if not text:
            if self._at == begun_at:
                self._at += 1
            self._wrong("a word is missing here", begun_at)
            return None
        if self._peek() == ":":
            self._at += 1
            return self._of_field(text, begun_at)
        fuzzy = self._suffix("~")
        if fuzzy is not None:
            query = self._fuzzy(text, fuzzy, begun_at)
        elif text == "*" and is_pattern:
            query = self._leaf(lambda field: All() if field == ALL else Exists(field), All)
        elif is_pattern:
            query = self._pattern(text, raw, begun_at)
        else:
            query = self._leaf(
                lambda field: Match(field, text, self._options.operator, analyzer=self._options.analyzer),
                lambda: self._any_of(text, self._options.kind),
            )
        return self._boosted(query)

    def _pattern(self, text: str, raw: str, at: int) -> Query:
        if raw[0] in "*?" and not self._options.leading_wildcard:
            self._wrong("a word does not begin with * or ? here (allow_leading_wildcard)", at)
        if raw.endswith("*") and not re.search(r"(?<!\\)[*?]", raw[:-1]):
            return self._leaf(lambda field: Pattern(field, "prefix", text[:-1], ignore_case=True))
        return self._leaf(lambda field: Pattern(field, "wildcard", raw, ignore_case=True))

    def _fuzzy(self, text: str, distance: float, at: int) -> Query:
        options = self._options
        if distance >= 0 and distance not in (0, 1, 2):
            self._wrong("a fuzzy word is at a distance of 0, 1 or 2", at)
            distance = min(2, int(distance))
        shown = options.fuzziness if distance < 0 else str(int(distance))
        return self._leaf(
            lambda field: Pattern(
                field, "fuzzy", text, shown, options.prefix_length, options.transpositions, ignore_case=True
            )
        )

    def _of_field(self, name: str, begun_at: int) -> Query | None:
        """What follows `name:`."""
        if name == "_exists_":
            field = self._term()[0]
            if field:
                return self._boosted(Exists(field))
            self._wrong("a field follows _exists_:", begun_at)
            return None
        if self._at >= len(self._text) or self._peek() in _SPACE + ")]}":
            self._wrong(f"a value follows {name}:", begun_at)
            return self._leaf(lambda field: Match(field, name))
        if name == "*" and self._peek() == "*":
            self._at += 1
            return self._boosted(All())
        if self._depth >= DEPTH_MAX:
            self._wrong(f"fields and brackets are nested more than {DEPTH_MAX} deep", begun_at)
            return None
        outer, self._fields = self._fields, ((name, 1.0),)
        self._depth += 1
        query = self._primary()
        self._depth -= 1
        self._fields = outer
        return query

    def _leaf(self, one: Callable[[str], Query], many: Callable[[], Query] | None = None) -> Query:
        """For the fields that count here: `one` of each, or `many` for all of them together."""
        fields = self._fields
        if len(fields) == 1 and "*" not in fields[0][0]:
            name, boost = fields[0]
            return one(name) if boost == 1 else Boost(one(name), boost)
        if many is not None:
            return many()
        each = ((one(n) if "*" not in n else _in_fields(n, one(ALL)), b) for n, b in fields)
        queries = tuple(query if b == 1 else Boost(query, b) for query, b in each)
        return queries[0] if len(queries) == 1 else Bool(should=queries, minimum=1)

    def _any_of(self, text: str, kind: str, slop: int = 0) -> Query:
        options = self._options
        return AnyOf(
            self._fields,
            text,
            kind,
            options.operator,
            slop=slop,
            tie_breaker=options.tie_breaker,
            analyzer=options.analyzer,
        )


def _in_fields(pattern: str, query: Query) -> Query:
    return InFields(pattern, query) if pattern.strip("*") else query


def _conjoined(group: list[_Item]) -> Query:
    must = tuple(query for occurs, query in group if occurs != NOT)
    return Bool(must=must, must_not=tuple(query for occurs, query in group if occurs == NOT))


def _is_plain(query: Query) -> TypeGuard[Match]:
    """Whether this is a word to be found anywhere."""
    return isinstance(query, Match) and query.field == ALL


def _joined(items: list[_Item]) -> Query:
    """Clauses side by side. Without any clause nothing is asked, so nothing is found."""
    if not items:
        return Nothing()
    if len(items) == 1 and items[0][0] != NOT:
        return items[0][1]
    must = tuple(query for occurs, query in items if occurs == MUST)
    should = tuple(query for occurs, query in items if occurs == SHOULD)
    words = [query.text for occurs, query in items if occurs != NOT and _is_plain(query)]
    if 1 < len(words) <= WHOLE_WORDS_MAX and not any(
        occurs != NOT and not _is_plain(q) for occurs, q in items
    ):
        should += (Called(" ".join(words)),)
    must_not = tuple(query for occurs, query in items if occurs == NOT)
    return Bool(must, should, must_not, minimum=1 if should and not must else 0)
